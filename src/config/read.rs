//! From JSON text to a [`Config`]: walks the tree of the text beside the list of keys, and continues after each
//! error to report all of them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::error::Category;

use super::access_keys::incomplete;
use super::admin_keys::AdminDraft;
use super::errors::{escaped, nearest};
use super::json::Json;
use super::keys::{Key, Kind, SYS_INTERVAL_SECS_MAX, WORKERS_MAX, keys, stream_names};
use super::listener_keys::ListenerDraft;
use super::setting::ANY_NAME;
use super::values::{absolute_path, whole_number};
use super::{Config, ConfigError, ConfigErrors, DEFAULT_SYS_INTERVAL, LogFormat, Logging, Stream};
use crate::access::AccessConfig;
use crate::admin_config::AdminConfig;
use crate::limits::Limits;
use crate::listener_config::ListenerConfig;
use crate::listener_config::same_address;

/// Reads the whole text, or says everything that is wrong with it.
pub(super) fn config(text: &str, source: &str) -> Result<Config, ConfigErrors> {
    // Editors on Windows put a byte order mark in front of UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        let problem = "the text is empty; begin with {\"listeners\": {\"tcp\": {\"url\": \"tcp://0.0.0.0:1883\"}}}";
        return Err(ConfigErrors::one(source, "", problem.to_owned()));
    }
    let root: Json = serde_json::from_str(text).map_err(|error| syntax(source, text, &error))?;
    let mut reader = Reader::new(source);
    reader.object("", "", &root);
    reader.finish(&root)
}

fn syntax(source: &str, text: &str, error: &serde_json::Error) -> ConfigErrors {
    let (line, column) = (error.line(), error.column());
    let whole = error.to_string();
    let what = whole.split(" at line ").next().unwrap_or_default();
    let remedy = match (error.classify(), what) {
        _ if is_comment(text, line, column) => "remove the comment; JSON has none",
        (Category::Eof, _) => "the text ends too early: close what is open",
        (_, "trailing comma") => "remove the comma before the closing bracket",
        (_, "trailing characters") => "remove what follows the end of the object",
        (_, "key must be a string") => "put keys in double quotes",
        (_, "recursion limit exceeded") => {
            "remove the nested objects; no key of a configuration is so deep"
        }
        _ => "correct the text at this place, or just before",
    };
    ConfigErrors::one(
        source,
        &format!("line {line}, column {column}"),
        format!("not JSON: {what}; {remedy}"),
    )
}

/// Whether what the parser met at this place, counted in bytes from 1, begins a comment of other languages.
fn is_comment(text: &str, line: usize, column: usize) -> bool {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let rest = line.as_bytes().get(column.saturating_sub(1)..).unwrap_or_default();
    ["//", "/*", "#"].iter().any(|mark| rest.starts_with(mark.as_bytes()))
}

/// A listener as far as it was read.
#[derive(Default)]
struct Draft {
    name: String,
    url: Option<ListenerConfig>,
    /// Whether there is a `url`, good or not.
    has_url: bool,
    origins: Vec<String>,
    settings: ListenerDraft,
}

impl Draft {
    /// Puts the settings into the listener, and names the keys that are wrong together. `value` is the listener's
    /// object; `faulty` if there are errors of it already.
    fn complete(&mut self, value: &Json, faulty: bool) -> Vec<(&'static str, String)> {
        let Some(mut listener) = self.url.clone() else { return Vec::new() };
        let origins = std::mem::take(&mut self.origins);
        match listener.clone().with_origins(origins) {
            Ok(with_origins) => listener = with_origins,
            Err(error) => return vec![("origins", error.to_string())],
        }
        let has_tls =
            matches!(value, Json::Object(pairs) if pairs.iter().any(|(name, _)| name == "tls"));
        match self.settings.tls(has_tls) {
            // What is missing may be what is wrong.
            Err(_) if faulty => return Vec::new(),
            Err(missing) => {
                let add = |(key, example)| {
                    (
                        key,
                        format!("is missing; add the path of a PEM file, for example {example:?}"),
                    )
                };
                return missing.into_iter().map(add).collect();
            }
            Ok(None) => {}
            Ok(Some(tls)) => match listener.clone().with_tls(tls) {
                Ok(with_tls) => listener = with_tls,
                Err(error) => return vec![("tls", error.to_string())],
            },
        }
        let forwarded = &self.settings.rules.forwarded_for;
        if !forwarded.is_empty() && !listener.is_websocket() {
            let problem = format!(
                "\"{listener}\" has no HTTP headers; only ws:// and wss:// have; remove the key"
            );
            return vec![("forwardedFor", problem)];
        }
        listener.rules = self.settings.rules.clone();
        listener.socket = self.settings.socket.clone();
        if faulty {
            return Vec::new();
        }
        let valid = listener.validate();
        self.url = Some(listener);
        match valid {
            Ok(()) => Vec::new(),
            Err(error) => vec![("url", error.to_string())],
        }
    }
}

struct Reader<'a> {
    source: &'a str,
    keys: Vec<Key>,
    errors: Vec<ConfigError>,
    drafts: Vec<Draft>,
    access: AccessConfig,
    admin: AdminDraft,
    limits: Limits,
    workers: NonZeroUsize,
    sys_interval: Duration,
    hand_over: Option<PathBuf>,
    logging: Logging,
}

impl<'a> Reader<'a> {
    fn new(source: &'a str) -> Reader<'a> {
        Reader {
            source,
            keys: keys().collect(),
            errors: Vec::new(),
            drafts: Vec::new(),
            access: AccessConfig::default(),
            admin: AdminDraft::default(),
            limits: Limits::default(),
            workers: NonZeroUsize::MIN,
            sys_interval: DEFAULT_SYS_INTERVAL,
            hand_over: None,
            logging: Logging::default(),
        }
    }

    fn error(&mut self, at: &str, problem: String) {
        self.errors.extend(ConfigErrors::one(self.source, at, problem).0);
    }

    /// Reads the object at `path`; `pattern` is the same path with [`ANY_NAME`] for a listener's name.
    /// Recursion is bounded by the depth of the list of keys.
    fn object(&mut self, path: &str, pattern: &str, value: &Json) {
        let Json::Object(pairs) = value else {
            let problem = format!("must be an object, not {} ({value})", value.kind());
            return self.error(path, problem);
        };
        // Empty, these would leave the broker open although a setting was meant to close it.
        let guards = pattern.starts_with("access") || pattern.ends_with(".tls");
        if guards && pairs.is_empty() {
            let known = children(&self.keys, pattern).join(", ");
            return self
                .error(path, format!("is empty ({{}}); add one of {known}, or remove the key"));
        }
        for (index, (name, value)) in pairs.iter().enumerate() {
            let path = join(path, &escaped(name));
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                self.error(&path, "is given twice; remove one of the two".to_owned());
                continue;
            }
            if pattern == "listeners" {
                self.listener(name, &path, value);
            } else {
                self.entry(&path, pattern, name, value);
            }
        }
    }

    fn entry(&mut self, path: &str, pattern: &str, name: &str, value: &Json) {
        // Paths are joined by dots, so a name that holds one is never a key.
        let own = if name.contains('.') { String::from(".") } else { join(pattern, name) };
        if let Some(index) = self.keys.iter().position(|key| key.path == own) {
            return self.leaf(index, path, value);
        }
        let inner = format!("{own}.");
        if self.keys.iter().any(|key| key.path.starts_with(&inner)) {
            return self.object(path, &own, value);
        }
        let problem = format!("is no key of a configuration (its value is {value}); {}", {
            let known = children(&self.keys, pattern);
            suggestion(&self.keys, &known, name)
        });
        self.error(path, problem);
    }

    fn listener(&mut self, name: &str, path: &str, value: &Json) {
        if name.is_empty() || name.chars().any(char::is_control) {
            let problem = "is no name for a listener; write one or more visible letters";
            return self.error(path, problem.to_owned());
        }
        let draft = Draft { name: name.to_owned(), ..Draft::default() };
        self.drafts.push(draft);
        self.object(path, &join("listeners", ANY_NAME), value);
        let Some(draft) = self.drafts.last_mut() else { return };
        if let Json::Object(_) = value
            && !draft.has_url
        {
            let problem = "is missing; add it, for example \"url\": \"tcp://0.0.0.0:1883\"";
            return self.error(&join(path, "url"), problem.to_owned());
        }
        let errors =
            draft.complete(value, self.errors.iter().any(|error| error.at.starts_with(path)));
        for (name, problem) in errors {
            self.error(&join(path, name), problem);
        }
    }

    /// Reads the value of the key at `index` of the list.
    fn leaf(&mut self, index: usize, path: &str, value: &Json) {
        let result = match self.keys[index].kind {
            Kind::Limit(limit) => whole_number(value, limit.unit, limit.minimum, limit.maximum)
                .map(|number| (limit.set)(&mut self.limits, number)),
            Kind::Workers => whole_number(value, "threads", 1, WORKERS_MAX).map(|number| {
                let workers = usize::try_from(number).ok().and_then(NonZeroUsize::new);
                self.workers = workers.unwrap_or(NonZeroUsize::MIN);
            }),
            Kind::SysInterval => whole_number(value, "seconds", 0, SYS_INTERVAL_SECS_MAX)
                .map(|secs| self.sys_interval = Duration::from_secs(secs)),
            Kind::HandOver => absolute_path(value, "\"/run/hrotti/handover.sock\"")
                .map(|path| self.hand_over = Some(path)),
            Kind::Stream { set, .. } => stream(value).map(|stream| set(&mut self.logging, stream)),
            Kind::LogFormat => log_format(value).map(|format| self.logging.format = format),
            Kind::Access(key) => (key.read)(&mut self.access, value),
            Kind::Admin(key) => (key.read)(&mut self.admin, value),
            Kind::Listener(key) => match self.drafts.last_mut() {
                Some(draft) => (key.read)(&mut draft.settings, value),
                None => Ok(()),
            },
            Kind::Url => self.url(value),
            Kind::Origins => origins(value).map(|origins| {
                if let Some(draft) = self.drafts.last_mut() {
                    draft.origins = origins;
                }
            }),
        };
        if let Err(problem) = result {
            self.error(path, problem);
        }
    }

    fn url(&mut self, value: &Json) -> Result<(), String> {
        let Some(draft) = self.drafts.last_mut() else { return Ok(()) };
        draft.has_url = true;
        let Json::String(url) = value else {
            let remedy = "write a URL, for example \"tcp://0.0.0.0:1883\"";
            return Err(format!("must be a string, not {} ({value}); {remedy}", value.kind()));
        };
        draft.url = Some(ListenerConfig::new(url).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// The checks that need the whole text.
    fn finish(mut self, root: &Json) -> Result<Config, ConfigErrors> {
        self.clashes();
        for (key, problem) in incomplete(&self.access) {
            // A key with an error of its own is not missing.
            if !self.errors.iter().any(|error| error.at.starts_with(key)) {
                self.error(key, problem);
            }
        }
        let admin = self.admin(root);
        let at_root = match root {
            Json::Object(pairs) => pairs.as_slice(),
            _ => &[],
        };
        let listeners = at_root.iter().find(|(name, _)| name == "listeners");
        let example = "{\"tcp\": {\"url\": \"tcp://0.0.0.0:1883\"}}";
        match (root, listeners) {
            (Json::Object(_), None) => {
                self.error("listeners", format!("is missing; add it, for example {example}"));
            }
            (_, Some((_, Json::Object(pairs)))) if pairs.is_empty() => {
                self.error(
                    "listeners",
                    format!("is empty ({{}}); add a listener, for example {example}"),
                );
            }
            _ => {}
        }
        if !self.errors.is_empty() {
            return Err(ConfigErrors(self.errors));
        }
        let listeners = self.drafts.into_iter().filter_map(|draft| Some((draft.name, draft.url?)));
        let listeners: Vec<(String, ListenerConfig)> = listeners.collect();
        // Closed to anonymous Clients, the listener must not let in Clients that only say a name.
        if !self.access.is_set() && listeners.iter().any(|(_, l)| l.rules.anonymous == Some(false))
        {
            self.access.anonymous = Some(true);
        }
        let Reader { access, limits, workers, sys_interval, hand_over, logging, .. } = self;
        Ok(Config { listeners, access, admin, limits, workers, sys_interval, hand_over, logging })
    }

    /// The admin listener, if the file has one.
    fn admin(&mut self, root: &Json) -> Option<AdminConfig> {
        let Json::Object(pairs) = root else { return None };
        let (_, value) = pairs.iter().find(|(name, _)| name == "admin")?;
        // What is missing may be what is wrong.
        let faulty = self.errors.iter().any(|error| error.at.split('.').next() == Some("admin"));
        let Json::Object(_) = value else { return None };
        match self.admin.complete() {
            _ if faulty => None,
            Ok(admin) => {
                if let Some(problem) = self.admin_clash(&admin) {
                    self.error("admin.url", problem);
                }
                Some(admin)
            }
            Err((key, problem)) => {
                self.error(key, problem);
                None
            }
        }
    }

    fn clashes(&mut self) {
        let mut found = Vec::new();
        let good: Vec<_> = self
            .drafts
            .iter()
            .filter_map(|draft| Some((&draft.name, draft.url.as_ref()?)))
            .collect();
        for (index, (name, listener)) in good.iter().enumerate() {
            let earlier = good[..index].iter().find(|(_, other)| listener.clashes_with(other));
            let Some((other, address)) = earlier else { continue };
            found.push((url_key(name), same_address(listener, other, address, None)));
        }
        for (path, problem) in found {
            self.error(&path, problem);
        }
    }

    /// The listener of MQTT whose address the admin listener claims.
    fn admin_clash(&self, admin: &AdminConfig) -> Option<String> {
        let good = self.drafts.iter().filter_map(|draft| Some((&draft.name, draft.url.as_ref()?)));
        let (name, theirs) =
            good.into_iter().find(|(_, listener)| admin.address().clashes_with(listener))?;
        Some(same_address(admin.address(), name, theirs, None))
    }
}

/// The key of a listener's URL.
pub(super) fn url_key(name: &str) -> String {
    join(&join("listeners", &escaped(name)), "url")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The names that an object at `pattern` may hold, in the order of the table.
fn children(keys: &[Key], pattern: &str) -> Vec<&'static str> {
    let prefix = join(pattern, "");
    let mut names = Vec::new();
    for key in keys {
        let name = key.path.strip_prefix(&prefix).and_then(|rest| rest.split('.').next());
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}

/// What to write instead of the unknown `name` where `known` may stand.
fn suggestion(keys: &[Key], known: &[&'static str], name: &str) -> String {
    if let Some(near) = nearest(name, known.iter().copied()) {
        return format!("did you mean {near:?}?");
    }
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    if let Some(near) = nearest(name, keys.iter().map(|key| last(key.path)))
        && let Some(key) = keys.iter().find(|key| last(key.path) == near)
    {
        return format!("did you mean {}, which stands elsewhere?", key.path);
    }
    format!("remove it; the keys here are {}", known.join(", "))
}

fn stream(value: &Json) -> Result<Stream, String> {
    let known = stream_names("\"");
    match value {
        Json::String(name) => {
            Stream::named(name).ok_or_else(|| format!("{value} is no stream; write {known}"))
        }
        _ => Err(format!("must be a string, not {} ({value}); write {known}", value.kind())),
    }
}

fn log_format(value: &Json) -> Result<LogFormat, String> {
    let remedy = "write \"text\" or \"json\"";
    match value {
        Json::String(name) => {
            LogFormat::named(name).ok_or_else(|| format!("{value} is no format of a log; {remedy}"))
        }
        _ => Err(format!("must be a string, not {} ({value}); {remedy}", value.kind())),
    }
}

fn origins(value: &Json) -> Result<Vec<String>, String> {
    let remedy = "write origins, for example [\"https://example.org\"], or remove the key to allow pages \
                  of any origin";
    let Json::Array(values) = value else {
        return Err(format!("must be an array, not {} ({value}); {remedy}", value.kind()));
    };
    if values.is_empty() {
        return Err(format!("is empty ([]); {remedy}"));
    }
    let text = |value: &Json| match value {
        Json::String(origin) => Ok(origin.clone()),
        _ => Err(format!("must hold strings, not {} ({value}); {remedy}", value.kind())),
    };
    values.iter().map(text).collect()
}
