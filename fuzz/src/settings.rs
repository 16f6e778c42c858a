//! What the program is told: the configuration file, and URLs.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::ListenerConfig;
use crate::access::AccessConfig;
use crate::config::Config;
use crate::listener_config::ListenerConfigError;
use crate::transport::ws::target as ws;

const FILE: &str = "config.json";

pub(super) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::from_json(text, FILE) {
        Ok(config) => check_config(&config),
        Err(errors) => {
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert!(!lines.is_empty());
            for line in &lines {
                assert!(line.starts_with(FILE), "which file? {line}");
                assert!(!line.contains('\n'), "more than one line: {line}");
            }
            assert_eq!(errors.to_string(), lines.join("\n"));
        }
    }
}

fn check_config(config: &Config) {
    let names: BTreeSet<_> = config.listeners.iter().map(|(name, _)| name).collect();
    assert!(!names.is_empty() && names.len() == config.listeners.len(), "{names:?}");
    assert_eq!(config.limits.clone().in_range(), config.limits);
    for (_, listener) in &config.listeners {
        match is_plain(listener) {
            true => check_listener(listener),
            false => assert_eq!(listener.validate(), Ok(())),
        }
    }
    if !is_written_whole(config) {
        assert!(!config.to_string().is_empty());
        return;
    }
    let again = Config::from_json(&written(config), FILE).expect("it reads back");
    assert_eq!(&again, config);
    assert_eq!(again.to_string(), config.to_string());
}

/// Whether [`written`] writes all of it: access rules and the rules of listeners have forms of their own.
fn is_written_whole(config: &Config) -> bool {
    config.access == AccessConfig::default()
        && config.hand_over.is_none()
        && config.listeners.iter().all(|(_, listener)| is_plain(listener))
}

/// Whether a listener is its URL and its origins, and nothing else.
fn is_plain(listener: &ListenerConfig) -> bool {
    let mut bare = ListenerConfig::new(&listener.to_string()).expect("it reads back");
    bare.origins.clone_from(&listener.origins);
    bare == *listener
}

/// The file that says what `-check` shows, without what it shows as a default.
fn written(config: &Config) -> String {
    let mut listeners = Map::new();
    for (name, listener) in &config.listeners {
        let mut entry = json!({ "url": listener.to_string() });
        if !listener.origins.is_empty() {
            entry["origins"] = json!(listener.origins);
        }
        listeners.insert(name.clone(), entry);
    }
    let mut root = json!({ "listeners": Value::Object(Map::new()) });
    let shown = config.to_string();
    // A name may hold anything that is visible.
    let settings = shown.lines().filter(|line| !line.starts_with("listener "));
    for line in settings {
        if line.ends_with(" (default)") {
            continue;
        }
        let (path, value) = line.split_once(" = ").expect("path = value");
        let value = value.split(' ').next().unwrap_or_default();
        let value = match value {
            "true" | "false" => json!(value == "true"),
            value => value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number)),
        };
        match path.split_once('.') {
            Some((above, key)) => root[above][key] = value,
            None => root[path] = value,
        }
    }
    // serde_json would sort the names, and order counts.
    let listeners = config.listeners.iter().map(|(name, _)| {
        let entry = &listeners[name];
        format!("{}: {entry}", json!(name))
    });
    let listeners: Vec<_> = listeners.collect();
    root.to_string()
        .replace("\"listeners\":{}", &format!("\"listeners\":{{{}}}", listeners.join(",")))
}

pub(super) fn listener_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let url = lines.next().unwrap_or_default();
    let origins: Vec<String> = lines.map(ToOwned::to_owned).collect();
    let config = match ListenerConfig::new(url) {
        Ok(config) => config,
        Err(error) => return check_error(&error),
    };
    check_listener(&config);
    match config.clone().with_origins(origins.clone()) {
        Ok(config) => {
            assert_eq!(config.origins, origins);
            check_listener(&config);
        }
        Err(error) => check_error(&error),
    }
}

fn check_listener(config: &ListenerConfig) {
    if config.is_tls() {
        assert!(matches!(config.validate(), Err(ListenerConfigError::TlsMissing { .. })));
    } else {
        assert_eq!(config.validate(), Ok(()));
    }
    assert_eq!(config.is_unix(), config.socket_path().is_some(), "{config:?}");
    assert!(config.is_unix() || !config.host().is_empty(), "{config:?}");
    assert!(!config.host().contains(['[', ']', '/']), "{config:?}");
    assert!(config.path().starts_with('/'), "{config:?}");
    assert!(config.is_websocket() || config.path() == "/", "{config:?}");
    let again = ListenerConfig::new(&config.to_string());
    let again = again.and_then(|again| again.with_origins(config.origins.clone()));
    assert_eq!(again.as_ref(), Ok(config), "it reads back");
    assert!(config.clashes_with(config) || config.port() == 0 && !config.is_unix());
    assert!(!config.is_websocket() || ws::can_serve(config.path(), &config.origins), "{config:?}");
}

/// An error is one line, and what it says to write instead is accepted.
fn check_error(error: &ListenerConfigError) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
    let served = |url: &str| ListenerConfig::new(url);
    match error {
        ListenerConfigError::Part { remedy, .. } => {
            assert!(served(remedy).is_ok(), "{text}: {:?}", served(remedy));
        }
        ListenerConfigError::Origin { remedy: Some(remedy), .. } => {
            let config = served("ws://localhost").expect("a URL");
            let config = config.with_origins([remedy.clone()]);
            assert!(config.is_ok(), "{text}: {config:?}");
        }
        _ => {}
    }
}
