//! The one list of the keys of a configuration. It feeds the parser, the table in the README and the output of
//! `-check`.

use std::fmt::Write as _;

use super::access_keys::{ACCESS_KEYS, AccessKey};
use super::errors::escaped;
use super::listener_keys::{LISTENER_KEYS, ListenerKey};
use super::{Config, Logging, Stream};
use crate::limits::Limits;
use crate::limits::{LIMITS, LimitKey};

/// Stands for any listener's name in a path.
pub(super) const ANY_NAME: &str = "NAME";
/// More threads than any machine needs for connections.
pub(super) const WORKERS_MAX: u64 = 256;

/// One key of the file.
pub(super) struct Key {
    /// Where it stands: names, joined by dots.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Limit(&'static LimitKey),
    Workers,
    HandOver,
    Access(&'static AccessKey),
    Listener(&'static ListenerKey),
    Url,
    Origins,
    Stream { get: fn(&Logging) -> Stream, set: fn(&mut Logging, Stream), meaning: &'static str },
}

/// Every key, in the order of the table.
pub(super) fn keys() -> impl Iterator<Item = Key> {
    let (depth, limits) = LIMITS.split_at(1);
    let limit = |limit: &'static LimitKey| Key { path: limit.path, kind: Kind::Limit(limit) };
    depth
        .iter()
        .map(limit)
        .chain([
            Key { path: "listeners.NAME.url", kind: Kind::Url },
            Key { path: "listeners.NAME.origins", kind: Kind::Origins },
        ])
        .chain(LISTENER_KEYS.iter().map(|key| Key { path: key.path, kind: Kind::Listener(key) }))
        .chain(ACCESS_KEYS.iter().map(|key| Key { path: key.path, kind: Kind::Access(key) }))
        .chain(limits.iter().map(limit))
        .chain([
            Key { path: "workers", kind: Kind::Workers },
            Key { path: "handOver", kind: Kind::HandOver },
        ])
        .chain(streams())
}

fn streams() -> [Key; 4] {
    let key = |path, get, set, meaning| Key { path, kind: Kind::Stream { get, set, meaning } };
    [
        key("logging.info", |l| l.info, |l, s| l.info = s, "records at level info"),
        key(
            "logging.protocol",
            |l| l.protocol,
            |l, s| l.protocol = s,
            "the packets and ends of connections (target `hrotti::protocol`, levels debug and trace)",
        ),
        key(
            "logging.error",
            |l| l.error,
            |l, s| l.error = s,
            "records at the levels error and warn",
        ),
        key(
            "logging.debug",
            |l| l.debug,
            |l, s| l.debug = s,
            "other records at the levels debug and trace",
        ),
    ]
}

/// Each setting of `config` that is a single value, as `path = value unit`, with a word where it is the
/// default.
pub(super) fn settings(config: &Config) -> impl Iterator<Item = String> + '_ {
    keys().filter_map(|key| {
        let (value, default) = match &key.kind {
            Kind::Limit(limit) => {
                (number(limit, &config.limits), number(limit, &Limits::default()))
            }
            Kind::Workers => (config.workers.to_string(), "1".to_owned()),
            Kind::HandOver => (config.hand_over.as_ref()?.display().to_string(), String::new()),
            Kind::Stream { get, .. } => {
                (get(&config.logging).name().to_owned(), get(&Logging::default()).name().to_owned())
            }
            // Whether anonymous Clients are let in is shown whether it was set or follows from the rest.
            Kind::Access(key) if key.path == "access.anonymous" => {
                let anonymous = config.access.lets_in_anonymous(None).to_string();
                let default = if config.access.anonymous.is_none() {
                    anonymous.clone()
                } else {
                    String::new()
                };
                (anonymous, default)
            }
            Kind::Access(key) => ((key.show)(&config.access)?, String::new()),
            Kind::Url | Kind::Origins | Kind::Listener(_) => return None,
        };
        let unit = match &key.kind {
            Kind::Limit(limit) => format!(" {}", limit.unit),
            Kind::Workers => " threads".to_owned(),
            _ => String::new(),
        };
        let note = if value == default { " (default)" } else { "" };
        Some(format!("{} = {value}{unit}{note}", key.path))
    })
}

/// Each setting of a listener that is not the default, as `path = value`; the URL, its origins and the demands of TLS
/// stand on the listener's own line.
pub(super) fn listener_settings(config: &Config) -> impl Iterator<Item = String> + '_ {
    config.listeners.iter().flat_map(|(name, listener)| {
        LISTENER_KEYS.iter().filter_map(move |key| {
            let path = key.path.replacen(ANY_NAME, &escaped(name), 1);
            Some(format!("{path} = {}", (key.show)(listener)?))
        })
    })
}

fn number(limit: &LimitKey, limits: &Limits) -> String {
    (limit.get)(limits).to_string()
}

/// Every key with unit, range, default, and what happens at the limit, as a table in Markdown.
pub fn table() -> String {
    let mut table = String::from(
        "| key | what it is | unit | range | default | at the limit |\n\
         |---|---|---|---|---|---|\n",
    );
    for key in keys() {
        let [meaning, unit, range, default, at_limit] = columns(&key);
        let path = key.path;
        // Writing to a String cannot fail.
        let _ =
            writeln!(table, "| `{path}` | {meaning} | {unit} | {range} | {default} | {at_limit} |");
    }
    table
}

fn columns(key: &Key) -> [String; 5] {
    match &key.kind {
        Kind::Access(key) => key.columns.map(str::to_owned),
        Kind::Listener(key) => key.columns.map(str::to_owned),
        Kind::Limit(limit) => [
            limit.meaning.to_owned(),
            limit.unit.to_owned(),
            format!("{} to {}", limit.minimum, limit.maximum),
            number(limit, &Limits::default()),
            limit.at_limit.to_owned(),
        ],
        Kind::Workers => [
            "threads that run connections; 1 costs least at low load".to_owned(),
            "threads".to_owned(),
            format!("1 to {WORKERS_MAX}"),
            "1".to_owned(),
            "connections wait while their thread is busy; a connection stays on one thread".to_owned(),
        ],
        Kind::HandOver => [
            "the Unix socket where a process that is started with the same configuration takes the listeners, the \
             Sessions and the retained messages of the running one, which then ends"
                .to_owned(),
            "path".to_owned(),
            "an absolute path".to_owned(),
            "none: nothing is handed over".to_owned(),
            "if the new process fails, the running one goes on".to_owned(),
        ],
        Kind::Url => [
            "the address of the listener NAME; HOST `*` is every interface; the default port is 1883 for tcp, 8883 \
             for mqtts, 80 for ws and 443 for wss, port 0 lets the operating system choose"
                .to_owned(),
            "URL".to_owned(),
            "`tcp://HOST:PORT` (the same as `mqtt://`), `mqtts://HOST:PORT` (the same as `tls://`), \
             `ws://HOST:PORT/PATH`, `wss://HOST:PORT/PATH` or `unix:///PATH`"
                .to_owned(),
            "none: each listener needs a URL, and a configuration needs a listener".to_owned(),
            "a WebSocket listener answers 404 to requests for other paths".to_owned(),
        ],
        Kind::Origins => [
            "pages that may connect to a WebSocket listener".to_owned(),
            "origins".to_owned(),
            "one or more, such as `https://example.org`".to_owned(),
            "pages of any origin".to_owned(),
            "requests from pages of other origins are answered 403".to_owned(),
        ],
        Kind::Stream { get, meaning, .. } => [
            (*meaning).to_owned(),
            "stream".to_owned(),
            stream_names("`"),
            format!("`{}`", get(&Logging::default()).name()),
            String::new(),
        ],
    }
}

/// The names of the streams for people, each between two `quote`s.
pub(super) fn stream_names(quote: &str) -> String {
    let names = Stream::ALL.map(|stream| format!("{quote}{}{quote}", stream.name()));
    format!("{}, {} or {}", names[0], names[1], names[2])
}
