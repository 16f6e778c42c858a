use super::*;

const README: &str = include_str!("../../README.md");

#[test]
fn every_key_is_in_the_readme_and_no_other() {
    let rows: Vec<&str> = README
        .lines()
        .skip_while(|line| !line.contains("| key |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let wanted: Vec<String> = Capabilities::table()
        .iter()
        .map(|key| {
            let default = if key.default == u32::MAX || key.default == u16::MAX {
                "no limit".into()
            } else {
                key.default.to_string()
            };
            format!("| `{}` | {} | {default} | {} |", key.name, key.kind, key.text)
        })
        .collect();
    assert_eq!(rows, wanted, "\nthe table should be\n{}", wanted.join("\n"));
}

#[test]
fn every_field_is_asked_for_by_the_suite() {
    let code = [
        include_str!("../client.rs"),
        include_str!("../client/limits.rs"),
        include_str!("../rumqtt.rs"),
        include_str!("../target.rs"),
        include_str!("../cases/alias.rs"),
        include_str!("../cases/connect.rs"),
        include_str!("../cases/session.rs"),
        include_str!("../cases/shared.rs"),
        include_str!("../cases/subscribe.rs"),
    ]
    .concat();
    for key in Capabilities::table() {
        let mut field = String::from(".");
        for c in key.name.chars() {
            if c.is_uppercase() {
                field.push('_');
            }
            field.push(c.to_ascii_lowercase());
        }
        assert!(code.contains(&field), "nothing asks for {}", key.name);
    }
}

#[test]
fn what_is_written_is_read() {
    for can in [Capabilities::all(), Capabilities::least()] {
        let text = Value::Object(can.to_json()).to_string();
        assert_eq!(Capabilities::from_json(&text), Ok(can));
    }
    assert_eq!(Capabilities::from_json("{}"), Ok(Capabilities::least()));
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (wrong, nearest) in [
        ("sharedSubscription", "sharedSubscriptions"),
        ("shared_subscriptions", "sharedSubscriptions"),
        ("MAXIMUMQOS", "maximumQos"),
        ("retained", "retainedMessages"),
        ("inflight", "maximumInflight"),
    ] {
        let error = Capabilities::from_json(&format!("{{\"{wrong}\": 1}}")).unwrap_err();
        assert!(error.to_string().contains(&format!("nearest is {nearest:?}")), "{error}");
    }
}

#[test]
fn values_of_another_kind_are_errors() {
    for text in [
        r#"{"serverDisconnect": 1}"#,
        r#"{"maximumQos": 3}"#,
        r#"{"maximumQos": -1}"#,
        r#"{"maximumInflight": 0}"#,
        r#"{"maximumInflight": 65536}"#,
        r#"{"maximumPacketSize": 1}"#,
        r#"{"versions": ["4"]}"#,
        r#"{"versions": []}"#,
        r#"{"versions": "5"}"#,
        "[]",
        "",
    ] {
        assert!(Capabilities::from_json(text).is_err(), "{text}");
    }
}

#[test]
fn distances() {
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(distance("Same", "sAME"), 0);
}
