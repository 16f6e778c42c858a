//! Configurations good and bad. Each error has source, key, value and remedy, and none hides another.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod access;
mod listeners;

const ORIGINAL: &str = include_str!("../../examples/config.json");

fn read(text: &str) -> Config {
    Config::from_json(text, "config.json").expect("a good configuration")
}

/// The lines of the errors.
fn errors(text: &str) -> Vec<String> {
    let errors = Config::from_json(text, "config.json").expect_err(text);
    errors.to_string().lines().map(str::to_owned).collect()
}

/// A good listener and `more` keys beside it.
fn with(more: &str) -> String {
    format!(r#"{{"listeners": {{"tcp": {{"url": "tcp://0.0.0.0:1883"}}}}, {more}}}"#)
}

fn assert_one(text: &str, parts: &[&str]) {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{text}: {errors:#?}");
    assert!(errors[0].starts_with("config.json: "), "{errors:?}");
    for part in parts {
        assert!(errors[0].contains(part), "{text}: {part:?} is not in {:?}", errors[0]);
    }
}

#[test]
fn the_original_configuration_is_read_as_printed() {
    let config = read(ORIGINAL);
    assert_eq!(config.limits, Limits::default());
    let listeners: Vec<_> = config
        .listeners
        .iter()
        .map(|(name, listener)| (name.as_str(), listener.url.as_str()))
        .collect();
    let expected = [("tcp", "tcp://0.0.0.0:1883"), ("websockets", "ws://0.0.0.0:2000/mqtt")];
    assert_eq!(listeners, expected);
}

#[test]
fn the_defaults_are_the_originals() {
    let config = Config::default();
    assert_eq!(config.listeners[0].0, "envconfig");
    assert_eq!(config.listeners[0].1.url.as_str(), "tcp://0.0.0.0:1883");
    assert_eq!(config.limits.max_queue_depth, 100);
    assert_eq!(config.workers.get(), 1);
    assert_eq!(read(&with(r#""limits": {}, "logging": {}"#)).limits, Limits::default());
}

#[test]
fn a_url_makes_one_listener() {
    let config = Config::from_url("ws://127.0.0.1:0/mqtt", "HROTTI_URL").expect("a good URL");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].0, "envconfig");
    assert_eq!(config.listeners[0].1.path(), "/mqtt");
    for url in ["tcp:", "0.0.0.0:1883", "mqtts://h", ""] {
        let error = Config::from_url(url, "HROTTI_URL").expect_err(url).to_string();
        assert!(error.starts_with("HROTTI_URL: "), "{error}");
        assert!(error.contains(&format!("{url:?}")), "{error}");
    }
}

#[test]
fn every_limit_is_read_and_held_in_its_range() {
    for key in crate::limits::LIMITS {
        let text = |value: &str| match key.path.strip_prefix("limits.") {
            Some(name) => with(&format!(r#""limits": {{"{name}": {value}}}"#)),
            None => with(&format!(r#""{}": {value}"#, key.path)),
        };
        for good in [key.minimum, key.maximum] {
            assert_eq!((key.get)(&read(&text(&good.to_string())).limits), good, "{}", key.path);
        }
        let range = format!("from {} to {}", key.minimum, key.maximum);
        for bad in ["-1", "-1.0", "1e300", &(key.maximum + 1).to_string()] {
            assert_one(&text(bad), &[key.path, "out of range", &range, key.unit]);
        }
        assert_one(&text("1.5"), &[key.path, "1.5 is no whole number", &range, key.unit]);
        if let Some(low) = key.minimum.checked_sub(1) {
            assert_one(&text(&low.to_string()), &[key.path, "out of range", &range]);
        }
        assert_one(
            &text("true"),
            &[key.path, "must be a number, not a truth value (true)", &range],
        );
        assert_one(&text("\"7\""), &[key.path, "\"7\"", "remove the quotes"]);
        assert_one(&text("null"), &[key.path, "not null"]);
    }
}

/// JSON has one kind of number, and what writes it may add a point.
#[test]
fn a_number_that_is_whole_may_have_a_point_or_an_exponent() {
    for (text, expected) in [("100.0", 100), ("1e3", 1_000), ("2.5e1", 25), ("1E9", 1_000_000_000)]
    {
        let config = read(&with(&format!(r#""maxQueueDepth": {text}"#)));
        assert_eq!(config.limits.max_queue_depth, expected, "{text}");
    }
    assert_one(&with(r#""maxQueueDepth": 0.0"#), &["0.0 is out of range"]);
    assert_one(&with(r#""workers": 1.25"#), &["1.25 is no whole number", "from 1 to 256"]);
}

#[test]
fn durations_are_whole_seconds() {
    let config = read(&with(r#""limits": {"connectTimeoutSecs": 7}"#));
    assert_eq!(config.limits.connect_timeout, Duration::from_secs(7));
}

#[test]
fn the_interval_of_the_sys_topics_is_read() {
    assert_eq!(Config::default().sys_interval, Duration::from_secs(10));
    assert_eq!(read(&with(r#""sysIntervalSecs": 0"#)).sys_interval, Duration::ZERO);
    assert_eq!(
        read(&with(r#""sysIntervalSecs": 86400"#)).sys_interval,
        Duration::from_secs(86_400)
    );
    let remedy = ["sysIntervalSecs: ", "86401 is out of range", "seconds from 0 to 86400"];
    assert_one(&with(r#""sysIntervalSecs": 86401"#), &remedy);
}

#[test]
fn workers_and_logging_are_read() {
    let config = read(&with(
        r#""workers": 4, "logging": {"format": "json", "info": "stderr", "protocol": "stdout",
        "error": "stderr", "debug": "discard"}"#,
    ));
    assert_eq!(config.workers.get(), 4);
    let expected = Logging {
        format: LogFormat::Json,
        info: Stream::Stderr,
        protocol: Stream::Stdout,
        error: Stream::Stderr,
        debug: Stream::Discard,
    };
    assert_eq!(config.logging, expected);
    assert_one(&with(r#""workers": 0"#), &["workers", "0 is out of range", "from 1 to 256"]);
    assert_one(
        &with(r#""logging": {"info": "file"}"#),
        &["logging.info: ", "\"file\"", "\"stdout\", \"stderr\" or \"discard\""],
    );
    assert_one(
        &with(r#""logging": {"error": 1}"#),
        &["logging.error: ", "must be a string", "(1)"],
    );
    assert_one(&with(r#""logging": "stdout""#), &["logging: ", "must be an object", "\"stdout\""]);
}

#[test]
fn listeners_keep_their_order() {
    let config = read(
        r#"{"listeners": {"z": {"url": "tcp://h:1"}, "a": {"url": "tcp://h:2"}, "m": {"url": "tcp://h:3"}}}"#,
    );
    let names: Vec<_> = config.listeners.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
}

#[test]
fn text_that_is_not_json_has_line_column_and_remedy() {
    assert_one("", &["is empty", "begin with"]);
    assert_one(" \n", &["is empty"]);
    assert_one(
        "{\n  \"listeners\": {},\n}",
        &["line 3, column 1", "trailing comma", "remove the comma"],
    );
    assert_one("{\"listeners\": {", &["line 1, column 15", "ends too early"]);
    assert_one("{} {}", &["line 1, column 4", "trailing characters", "remove what follows"]);
    assert_one("hello", &["line 1", "not JSON"]);
    assert_one(&"[".repeat(100_000), &["recursion limit", "no key"]);
}

/// Wherever a comment stands, it is named as the cause.
#[test]
fn comments_are_named_as_the_cause() {
    for mark in ["// why\n", "/* why */", "# why\n"] {
        for (before, after) in [
            ("", "{}"),
            ("{}", ""),
            ("{ ", "}"),
            ("{\"a\" ", ": 1}"),
            ("{\"a\": ", "1}"),
            ("{\"a\": 1 ", "}"),
            ("{\"a\": 1, ", "\"b\": 2}"),
            ("{\"ä\": 1,\n  ", "}"),
            ("{\"a\": [", "]}"),
            ("{\"a\": [1 ", "]}"),
            ("{\"a\": [1, ", "2]}"),
            ("{\"a\": true", "}"),
            ("{\"a\": 12", "}"),
            ("{\"a\": {} ", ", \"b\": 1}"),
        ] {
            let text = format!("{before}{mark}{after}");
            assert_one(&text, &["not JSON", "remove the comment; JSON has none"]);
        }
    }
    for text in ["{\"a\": /1}", "{/}", "{\"a\": \"//\" 1}", "{a: 1} // why", "{\"a\": \"#\",}"] {
        assert!(!errors(text)[0].contains("comment"), "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(read(&format!("\u{feff}{ORIGINAL}")), read(ORIGINAL));
}

#[test]
fn the_whole_must_be_an_object() {
    for (text, kind) in
        [("[]", "an array"), ("null", "null"), ("1", "a number"), ("\"a\"", "a string")]
    {
        assert_one(text, &["must be an object", kind]);
    }
}

#[test]
fn listeners_must_be_there() {
    assert_one("{}", &["listeners: is missing", "tcp://0.0.0.0:1883"]);
    assert_one(r#"{"listeners": {}}"#, &["listeners: is empty", "add a listener"]);
    assert_one(r#"{"listeners": []}"#, &["listeners: must be an object", "[]"]);
    assert_one(r#"{"listeners": {"a": {}}}"#, &["listeners.a.url: is missing"]);
    assert_one(
        r#"{"listeners": {"a": "tcp://h"}}"#,
        &["listeners.a: must be an object", "tcp://h"],
    );
    assert_one(
        r#"{"listeners": {"a": {"url": 1883}}}"#,
        &["listeners.a.url: must be a string", "(1883)"],
    );
    assert_one(r#"{"listeners": {"": {"url": "tcp://h"}}}"#, &["listeners.\"\": is no name"]);
}

#[test]
fn urls_and_origins_are_checked() {
    assert_one(
        r#"{"listeners": {"websockets": {"url": "wss://h/mqtt"}}}"#,
        &["listeners.websockets.url: ", "\"wss://h/mqtt\"", "needs a certificate"],
    );
    assert_one(
        r#"{"listeners": {"a": {"url": "nonsense"}}}"#,
        &["listeners.a.url: ", "\"nonsense\""],
    );
    let origins = |url: &str, origins: &str| {
        format!(r#"{{"listeners": {{"a": {{"origins": {origins}, "url": "{url}"}}}}}}"#)
    };
    let config = read(&origins("ws://h", r#"["https://example.org"]"#));
    assert_eq!(config.listeners[0].1.origins, ["https://example.org"]);
    let at = "listeners.a.origins: ";
    assert_one(&origins("ws://h", "[]"), &[at, "is empty", "remove the key"]);
    assert_one(&origins("ws://h", "\"*\""), &[at, "must be an array"]);
    assert_one(&origins("ws://h", "[1]"), &[at, "must hold strings", "(1)"]);
    assert_one(
        &origins("ws://h", r#"["https://h/"]"#),
        &[at, "\"https://h/\"", "write \"https://h\""],
    );
    assert_one(&origins("tcp://h", r#"["https://h"]"#), &[at, "only browsers send"]);
}

#[test]
fn unknown_keys_are_errors_with_the_nearest_known() {
    assert_one(
        &with(r#""maxQueDepth": 7"#),
        &["maxQueDepth: ", "is 7", "did you mean \"maxQueueDepth\"?"],
    );
    assert_one(
        &with(r#""maxInflight": 7"#),
        &["did you mean limits.maxInflight, which stands elsewhere?"],
    );
    assert_one(
        &with(r#""limits": {"maxQueueDepth": 7}"#),
        &["limits.maxQueueDepth: ", "did you mean maxQueueDepth, which stands elsewhere?"],
    );
    assert_one(
        &with(r#""nonsense": {"key": "x"}"#),
        &[
            "nonsense: ",
            "{...}",
            "keys here are maxQueueDepth, listeners, access, admin, limits, workers, sysIntervalSecs, handOver, logging",
        ],
    );
    assert_one(
        r#"{"listeners": {"a": {"url": "tcp://h", "uri": ""}}}"#,
        &["listeners.a.uri: ", "\"url\"?"],
    );
    assert_one(&with(r#""logging.info": "stdout""#), &["\"logging.info\": is no key"]);
    assert_one(&with(r#""listeners.NAME.url": "stdout""#), &["is no key"]);
}

#[test]
fn a_key_given_twice_is_an_error() {
    assert_one(
        &with(r#""maxQueueDepth": 1, "maxQueueDepth": 2"#),
        &["maxQueueDepth: is given twice"],
    );
    assert_one(&with(r#""listeners": {}"#), &["listeners: is given twice"]);
    assert_one(
        r#"{"listeners": {"a": {"url": "tcp://h:1"}, "a": {"url": "tcp://h:2"}}}"#,
        &["listeners.a: is given twice", "remove one"],
    );
}

#[test]
fn an_address_given_twice_is_an_error() {
    assert_one(
        r#"{"listeners": {"a": {"url": "tcp://h:1883"}, "b": {"url": "ws://h:1883/mqtt"}}}"#,
        &["listeners.b.url: ", "ws://h:1883/mqtt", "listener \"a\"", "port of its own"],
    );
    assert_one(
        r#"{"listeners": {"a": {"url": "tcp://:1883"}, "b": {"url": "ws://[::1]:1883/mqtt"}}}"#,
        &["listeners.b.url: ", "ws://[::1]:1883/mqtt", "listener \"a\" (\"tcp://*:1883\")"],
    );
    let families = r#"{"listeners": {"a": {"url": "tcp://0.0.0.0"}, "b": {"url": "tcp://[::]"}}}"#;
    assert_eq!(read(families).listeners.len(), 2);
    let ports = r#"{"listeners": {"a": {"url": "tcp://h:0"}, "b": {"url": "tcp://h:0"}}}"#;
    assert_eq!(read(ports).listeners.len(), 2);
}

/// By documentation addresses (RFC 5737), which no machine has.
#[test]
fn hosts_that_this_machine_does_not_have_are_found_by_asking_it() {
    let config = read(
        r#"{"listeners": {"a": {"url": "tcp://127.0.0.1:0"}, "b c": {"url": "ws://203.0.113.1:0"},
            "d": {"url": "mqtt://198.51.100.1:0"}}}"#,
    );
    let errors = config.check_hosts("config.json").expect_err("not of this machine").to_string();
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), 2, "{errors}");
    assert!(lines[0].starts_with("config.json: listeners.\"b c\".url: \"ws://203.0.113.1:0/\""));
    assert!(lines[1].starts_with("config.json: listeners.d.url: \"mqtt://198.51.100.1:0\""));
    let config = Config::from_url("tcp://203.0.113.1:0", "HROTTI_URL").expect("a good URL");
    let error = config.check_hosts("HROTTI_URL").expect_err("not of this machine").to_string();
    assert!(error.starts_with("HROTTI_URL: \"tcp://203.0.113.1:0\" cannot be bound: "), "{error}");
    assert_eq!(read(ORIGINAL).check_hosts("config.json"), Ok(()));
}

#[test]
fn all_errors_are_reported_in_one_go() {
    let text = r#"{
        "maxQueueDepth": 0,
        "listeners": {"a": {"url": "udp://h"}, "b": {"url": "tcp://h:1"}, "c": {"url": "tcp://h:1"}},
        "limits": {"maxInflight": 65536, "nonsense": 1},
        "workers": "2",
        "logging": {"debug": "nowhere"}
    }"#;
    let errors = errors(text);
    let keys: Vec<_> =
        errors.iter().map(|line| line.split(": ").nth(1).unwrap_or_default()).collect();
    let expected = [
        "maxQueueDepth",
        "listeners.a.url",
        "limits.maxInflight",
        "limits.nonsense",
        "workers",
        "logging.debug",
        "listeners.c.url",
    ];
    assert_eq!(keys, expected);
    assert!(
        errors[0].contains("0 is out of range; write a whole number of messages from 1"),
        "{}",
        errors[0]
    );
}

#[test]
fn what_the_file_holds_cannot_break_the_lines_of_the_errors() {
    let errors = errors("{\"a\\nb\\u001b[31m\": \"c\\nd\", \"listeners\": {\"x\\ny\": {}}}");
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains(r#""a\nb\u{1b}[31m""#), "{}", errors[0]);
}

#[test]
fn check_shows_every_setting() {
    let config = read(&with(r#""maxQueueDepth": 7, "logging": {"info": "stderr"}"#));
    let shown = config.to_string();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], "listener tcp: tcp://0.0.0.0:1883");
    assert_eq!(lines[1], "maxQueueDepth = 7 messages");
    assert!(lines.contains(&"limits.maxInflight = 1024 messages (default)"), "{shown}");
    assert!(lines.contains(&"workers = 1 threads (default)"), "{shown}");
    assert!(lines.contains(&"sysIntervalSecs = 10 seconds (default)"), "{shown}");
    assert!(lines.contains(&"logging.format = text (default)"), "{shown}");
    assert!(lines.contains(&"logging.info = stderr"), "{shown}");
    assert!(lines.contains(&"access.anonymous = true (default)"), "{shown}");
    assert_eq!(lines.len(), 1 + 1 + crate::limits::LIMITS.len() + 3 + 4);
}

#[test]
fn the_table_has_every_key() {
    let table = table();
    let access = access_keys::ACCESS_KEYS.len() + listener_keys::LISTENER_KEYS.len();
    let access = access + admin_keys::ADMIN_KEYS.len();
    assert_eq!(table.lines().count(), 2 + crate::limits::LIMITS.len() + 2 + access + 3 + 5);
    for line in table.lines() {
        assert_eq!(line.matches('|').count(), 8, "{line}");
    }
}

/// Values that fit here or there.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-1_i32..3).prop_map(|value| value.to_string()),
        "(tcp|ws|wss)://[a-z0-9.]{0,4}(:[0-9]{0,6})?(/[a-z?#]{0,3})?"
            .prop_map(|url| format!("{url:?}")),
        "(stdout|stderr|discard|file)".prop_map(|stream| format!("{stream:?}")),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let key = "(maxQueueDepth|listeners|limits|maxInflight|workers|logging|info|url|origins|access|anonymous|passwordFile|jwt|\
                   keyFile|algorithms|http|userUrl|a|[a-z.]{0,3})";
        let pair = (key, inner.clone()).prop_map(|(key, value)| format!("{key:?}: {value}"));
        prop_oneof![
            proptest::collection::vec(pair, 0..6).prop_map(|pairs| format!("{{{}}}", pairs.join(", "))),
            proptest::collection::vec(inner, 0..3).prop_map(|values| format!("[{}]", values.join(", "))),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_a_good_configuration_or_has_errors_of_one_line_each(
        text in prop_oneof![any::<String>(), any_value()],
    ) {
        match Config::from_json(&text, "config.json") {
            Ok(config) => {
                prop_assert!(!config.listeners.is_empty());
                prop_assert_eq!(config.limits.clone().in_range(), config.limits);
                for (_, listener) in &config.listeners {
                    prop_assert_eq!(listener.validate(), Ok(()));
                }
            }
            Err(errors) => {
                prop_assert!(errors.iter().count() > 0);
                for error in errors.iter().map(ToString::to_string) {
                    prop_assert!(error.starts_with("config.json: "), "{}", error);
                    prop_assert!(!error.contains(char::is_control), "{:?}", error);
                }
            }
        }
    }

    #[test]
    fn any_url_is_good_or_has_an_error_of_one_line(
        url in prop_oneof![any::<String>(), "(tcp|ws|mqtt):/{0,3}\\PC{0,12}(:[0-9]{0,6})?\\PC{0,6}"],
    ) {
        match ListenerConfig::new(&url) {
            Ok(listener) => {
                prop_assert!(!listener.host().is_empty());
                prop_assert!(listener.path().starts_with('/'));
                let again = ListenerConfig::new(&listener.to_string());
                prop_assert_eq!(again, Ok(listener));
            }
            Err(error) => {
                prop_assert!(!error.to_string().contains(char::is_control), "{:?}", error);
            }
        }
    }
}

#[path = "tests/admin.rs"]
mod admin;

#[test]
fn the_socket_of_the_hand_over_is_an_absolute_path() {
    assert_eq!(read(&with(r#""workers": 1"#)).hand_over, None);
    let config = read(&with(r#""handOver": "/run/hrotti/handover.sock""#));
    assert_eq!(config.hand_over, Some("/run/hrotti/handover.sock".into()));
    assert!(config.to_string().contains("handOver = /run/hrotti/handover.sock\n"), "{config}");
    for bad in [r#""handover.sock""#, r#""/""#, r#""""#, "true"] {
        assert_one(&with(&format!(r#""handOver": {bad}"#)), &["handOver: ", "/run/hrotti/"]);
    }
}
