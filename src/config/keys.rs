//! The one list of the keys of a configuration. It feeds the parser, the table in the README and the output of
//! `-check`.

use std::fmt::Write as _;
use std::time::Duration;

use super::access_keys::{ACCESS_KEYS, AccessKey};
use super::admin_keys::{ADMIN_KEYS, AdminKey};
use super::listener_keys::{LISTENER_KEYS, ListenerKey};
use super::setting::{ANY_NAME, Setting, listener_key};
use super::{Config, DEFAULT_SYS_INTERVAL, Logging, Stream};
use crate::access::shown_url;
use crate::limits::{Holds, LIMITS, LimitKey, Limits};

/// More threads than any machine needs for connections.
pub(super) const WORKERS_MAX: u64 = 256;
/// A day.
pub(super) const SYS_INTERVAL_SECS_MAX: u64 = 86_400;

/// One key of the file.
pub(super) struct Key {
    /// Where it stands: names, joined by dots.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Limit(&'static LimitKey),
    Workers,
    SysInterval,
    HandOver,
    Access(&'static AccessKey),
    Admin(&'static AdminKey),
    Listener(&'static ListenerKey),
    Url,
    Origins,
    LogFormat,
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
        .chain(ADMIN_KEYS.iter().map(|key| Key { path: key.path, kind: Kind::Admin(key) }))
        .chain(limits.iter().map(limit))
        .chain([
            Key { path: "workers", kind: Kind::Workers },
            Key { path: "sysIntervalSecs", kind: Kind::SysInterval },
            Key { path: "handOver", kind: Kind::HandOver },
            Key { path: "logging.format", kind: Kind::LogFormat },
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

/// From when a new value of a key holds. A key that is added has to say so here.
fn holds(key: &Key) -> Holds {
    match &key.kind {
        Kind::Limit(limit) => limit.holds,
        Kind::Listener(key) => key.holds,
        Kind::Origins => Holds::NewConnections,
        Kind::Url => Holds::NewListener,
        Kind::Access(_) | Kind::SysInterval => Holds::AtOnce,
        Kind::Workers | Kind::HandOver | Kind::LogFormat | Kind::Stream { .. } | Kind::Admin(_) => {
            Holds::NextStart
        }
    }
}

/// As [`holds`], for a key as a setting has it, with the name of a listener. An unknown key holds from the next start.
pub(super) fn holds_of(key: &str) -> Holds {
    let is_it = |path: &str| match path.split_once(ANY_NAME) {
        Some((before, behind)) => key.starts_with(before) && key.ends_with(behind),
        None => path == key,
    };
    // The longest: `tls.key` and another key of that end.
    let found = keys().filter(|known| is_it(known.path)).max_by_key(|known| known.path.len());
    found.map_or(Holds::NextStart, |known| holds(&known))
}

/// Every setting of `config` as text: those of the listeners that are not the default, then all that are a single value.
pub(super) fn shown(config: &Config) -> Vec<Setting> {
    let mut all = Vec::new();
    for (name, listener) in &config.listeners {
        let mut add = |pattern: &str, value: String| {
            all.push(Setting::new(listener_key(pattern, name), value, false));
        };
        add("listeners.NAME.url", listener.to_string());
        if !listener.origins.is_empty() {
            add("listeners.NAME.origins", listener.origins.join(", "));
        }
        for key in LISTENER_KEYS {
            if let Some(value) = (key.show)(listener) {
                add(key.path, value);
            }
        }
    }
    let values = keys().filter_map(|key| {
        let (value, default) = match &key.kind {
            // It has a line of its own in the output of `-check`.
            Kind::Admin(_) if key.path == "admin.url" => {
                (config.admin.as_ref()?.to_string(), String::new())
            }
            _ => value(&key, config)?,
        };
        let is_default = value == default;
        // The query of such a URL may be secret, and the settings are logged and served.
        let is_url = key.path.starts_with("access.http.") && key.path.ends_with("Url");
        let value = if is_url { shown_url(&value) } else { value };
        Some(Setting::new(key.path, value, is_default))
    });
    all.extend(values);
    all
}

/// Each setting of `config` that is a single value, as `path = value unit`, with a word where it is the
/// default.
pub(super) fn settings(config: &Config) -> impl Iterator<Item = String> + '_ {
    keys().filter_map(|key| {
        let (value, default) = value(&key, config)?;
        let unit = match &key.kind {
            Kind::Limit(limit) => format!(" {}", limit.unit),
            Kind::Workers => " threads".to_owned(),
            Kind::SysInterval => " seconds".to_owned(),
            _ => String::new(),
        };
        let note = if value == default { " (default)" } else { "" };
        Some(format!("{} = {value}{unit}{note}", key.path))
    })
}

/// The value of a setting, and its default; `None` if it is not set, or belongs to a listener.
fn value(key: &Key, config: &Config) -> Option<(String, String)> {
    Some(match &key.kind {
        Kind::Limit(limit) => (number(limit, &config.limits), number(limit, &Limits::default())),
        Kind::Workers => (config.workers.to_string(), "1".to_owned()),
        Kind::HandOver => (config.hand_over.as_ref()?.display().to_string(), String::new()),
        Kind::SysInterval => (secs(config.sys_interval), secs(DEFAULT_SYS_INTERVAL)),
        Kind::LogFormat => {
            (config.logging.format.name().to_owned(), Logging::default().format.name().to_owned())
        }
        Kind::Stream { get, .. } => {
            (get(&config.logging).name().to_owned(), get(&Logging::default()).name().to_owned())
        }
        // Whether anonymous Clients are let in is shown whether it was set or follows from the rest.
        Kind::Access(key) if key.path == "access.anonymous" => {
            let anonymous = config.access.lets_in_anonymous(None).to_string();
            let default = match config.access.anonymous {
                None => anonymous.clone(),
                Some(_) => String::new(),
            };
            (anonymous, default)
        }
        Kind::Access(key) => ((key.show)(&config.access)?, String::new()),
        Kind::Admin(key) => ((key.show)(config.admin.as_ref()?)?, String::new()),
        Kind::Url | Kind::Origins | Kind::Listener(_) => return None,
    })
}

/// Each setting of a listener that is not the default, as `path = value`; the URL, its origins and the demands of TLS
/// stand on the listener's own line.
pub(super) fn listener_settings(config: &Config) -> impl Iterator<Item = String> + '_ {
    let keys = || LISTENER_KEYS.iter().filter(|key| !key.path.ends_with("minimumVersion"));
    config.listeners.iter().flat_map(move |(name, listener)| {
        keys().filter_map(move |key| {
            Some(format!("{} = {}", listener_key(key.path, name), (key.show)(listener)?))
        })
    })
}

fn secs(duration: Duration) -> String {
    duration.as_secs().to_string()
}

fn number(limit: &LimitKey, limits: &Limits) -> String {
    (limit.get)(limits).to_string()
}

/// Every key with unit, range, default, and what happens at the limit, as a table in Markdown.
pub fn table() -> String {
    let mut table = String::from(
        "| key | what it is | unit | range | default | at the limit | a change holds |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for key in keys() {
        let [meaning, unit, range, default, at_limit] = columns(&key);
        let (path, holds) = (key.path, holds(&key));
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{path}` | {meaning} | {unit} | {range} | {default} | {at_limit} | {holds} |"
        );
    }
    table
}

fn columns(key: &Key) -> [String; 5] {
    match &key.kind {
        Kind::Access(key) => key.columns.map(str::to_owned),
        Kind::Admin(key) => key.columns.map(str::to_owned),
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
        Kind::SysInterval => [
            "time between two publications of the topics below `$SYS/broker/`; 0 publishes nothing there".to_owned(),
            "seconds".to_owned(),
            format!("0 to {SYS_INTERVAL_SECS_MAX}"),
            secs(DEFAULT_SYS_INTERVAL),
            "what has changed is published".to_owned(),
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
        Kind::LogFormat => [
            "how log records are written, each as one line".to_owned(),
            "format".to_owned(),
            "`text` (time, level, target, message) or `json` (`level`, `time` in milliseconds, `msg`)"
                .to_owned(),
            "`text`".to_owned(),
            String::new(),
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
