//! `hrotti -check --against`: what a configuration would change. Nothing runs, and nothing is asked.

use std::path::Path;

use hrotti::config::{Config, Setting, difference};
use serde_json::Value;

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

/// As [`lines`], for a file.
pub(crate) fn lines_of_file(path: &Path, new: &Config) -> Result<String, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("{name}: cannot be read: {error}; check the path that follows --against")
    })?;
    lines(&text, &name, new)
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
