//! `hrotti -check --against`: what a configuration would change in a file, or in a server that runs.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use hrotti::config::{Config, Setting, difference};
use serde_json::Value;
use url::Url;

/// The port of an admin listener whose URL has none.
const ADMIN_PORT: u16 = 9884;

/// How long a server may take for each step of its answer, and the most bytes of it.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The lines of the difference between what `text`, from `source`, holds and a configuration.
///
/// # Errors
/// The text is neither a configuration nor a list of settings.
pub(crate) fn lines(text: &str, source: &str, new: &Config) -> Result<String, String> {
    let before = settings(text, source)?;
    let changes = difference(&before, &new.settings());
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    Ok(if lines.is_empty() { "no change".to_owned() } else { lines.join("\n") })
}

/// As [`lines`], for a file, or for a server by the URL of its admin listener.
pub(crate) fn lines_of(path: &Path, new: &Config) -> Result<String, String> {
    let name = path.display().to_string();
    if let Some(url) = name.strip_prefix("http://").and(Url::parse(&name).ok()) {
        let answer = ask(&url).map_err(|error| {
            format!("{name}: the admin listener does not answer: {error}; check the URL that follows --against")
        })?;
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            return Err(format!("{name}: the answer is not that of an admin listener"));
        };
        let status = head.lines().next().unwrap_or_default();
        return match status.split(' ').nth(1) {
            Some("200") => lines(body, &name, new),
            Some("401") => Err(format!(
                "{name}: the admin listener wants its token; save its answer to /api/v1/config in a file, and give the file"
            )),
            _ => Err(format!("{name}: the admin listener answers {status:?}: {}", body.trim())),
        };
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("{name}: cannot be read: {error}; check the path that follows --against")
    })?;
    lines(&text, &name, new)
}

/// The answer of a server to the question for its settings, with its head.
fn ask(url: &Url) -> io::Result<String> {
    let host = url.host_str().ok_or(io::ErrorKind::InvalidInput)?;
    let port = url.port().unwrap_or(ADMIN_PORT);
    let mut stream = TcpStream::connect((host.trim_matches(['[', ']']), port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request =
        format!("GET /api/v1/config HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The settings in a text: a configuration, or the settings of a running server as its admin listener lists them.
fn settings(text: &str, source: &str) -> Result<Vec<Setting>, String> {
    let listed = serde_json::from_str::<Value>(text).ok();
    let listed = listed.as_ref().and_then(|value| value.get("settings")).and_then(Value::as_array);
    let Some(listed) = listed else {
        let config = Config::from_json(text, source).map_err(|errors| errors.to_string())?;
        return Ok(config.settings());
    };
    let setting = |value: &Value| {
        let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
        let default = value.get("default")?.as_bool()?;
        Some(Setting::new(text("key")?, text("value")?, default))
    };
    let read = listed.iter().map(setting).collect::<Option<Vec<_>>>();
    read.ok_or_else(|| {
        format!(
            "{source}: a setting lacks key, value or default; give the answer of /api/v1/config as it is, or a \
             configuration"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"listeners": {"a": {"url": "tcp://127.0.0.1"}}}"#;

    fn new() -> Config {
        let text =
            r#"{"listeners": {"a": {"url": "tcp://127.0.0.1", "qosMax": 1}}, "maxQueueDepth": 7}"#;
        Config::from_json(text, "new.json").expect("a good configuration")
    }

    #[test]
    fn a_configuration_and_the_settings_of_a_server_say_the_same() {
        let expected = "~ listeners.a.qosMax (none) -> 1 (new connections)\n\
                        ~ maxQueueDepth 100 -> 7 (new Sessions)";
        assert_eq!(lines(OLD, "old.json", &new()).as_deref(), Ok(expected));
        let old = Config::from_json(OLD, "old.json").expect("a good configuration");
        let shown = |one: &Setting| serde_json::json!({ "key": one.key, "value": one.value, "default": one.default });
        let listed: Vec<Value> = old.settings().iter().map(shown).collect();
        let text = serde_json::json!({ "settings": listed }).to_string();
        assert_eq!(lines(&text, "running.json", &new()).as_deref(), Ok(expected));
        assert_eq!(lines(&text, "running.json", &old).as_deref(), Ok("no change"));
    }

    #[test]
    fn what_is_neither_is_an_error_that_names_the_source() {
        for text in ["", "{}", r#"{"settings": [{"key": "a"}]}"#] {
            let error = lines(text, "old.json", &new()).expect_err("no configuration");
            assert!(error.starts_with("old.json: "), "{error}");
        }
    }
}
