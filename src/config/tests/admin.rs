//! The admin listener of a configuration.

use super::*;

fn with_admin(admin: &str) -> String {
    format!(r#"{{"listeners": {{"tcp": {{"url": "tcp://0.0.0.0:1883"}}}}, "admin": {admin}}}"#)
}

#[test]
fn the_keys_are_read_and_shown() {
    let text = with_admin(r#"{"url": "http://127.0.0.1", "tokenFile": "admin.token"}"#);
    let config = Config::from_json(&text, "c.json").expect("a good configuration");
    let admin = config.admin.as_ref().expect("an admin listener");
    assert_eq!(admin.token_file(), Some(std::path::Path::new("admin.token")));
    let shown = config.to_string();
    for line in [
        "admin: http://127.0.0.1:9884 (requests need the token)",
        "admin.tokenFile = admin.token",
        "limits.adminConnectionsMax = 64 connections (default)",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let open = Config::from_json(&with_admin(r#"{"url": "http://[::1]:1"}"#), "c.json");
    let shown = open.expect("a good configuration").to_string();
    assert!(
        shown.contains("admin: http://[::1]:1 (open to every user of this machine)"),
        "{shown}"
    );
    assert_eq!(Config::default().admin, None);
}

/// Pitfalls 10 and 21.
#[test]
fn settings_that_would_leave_it_open_or_dead_are_errors_pitfall_21() {
    for (admin, parts) in [
        (
            r#"{"url": "http://0.0.0.0:9884"}"#,
            &["admin.tokenFile: ", "http://0.0.0.0:9884", "openssl rand"][..],
        ),
        (r#"{"tokenFile": "t"}"#, &["admin.url: is missing", "http://127.0.0.1:9884"]),
        ("{}", &["admin.url: is missing"]),
        (r#"{"url": "tcp://127.0.0.1:1"}"#, &["admin.url: ", "write http://"]),
        (r#"{"url": "https://127.0.0.1"}"#, &["admin.tls: ", "certificate"]),
        (
            r#"{"url": "https://127.0.0.1", "tls": {"key": "k"}}"#,
            &["admin.tls.certificate: is missing"],
        ),
        (
            r#"{"url": "http://127.0.0.1", "tls": {"key": "k", "certificate": "c"}}"#,
            &["admin.tls: ", "https://"],
        ),
        (r#"{"url": "http://127.0.0.1", "token": "secret"}"#, &["admin.token: ", "tokenFile"]),
        (r#"{"url": "http://127.0.0.1:1883"}"#, &["admin.url: ", "listener \"tcp\""]),
        (r#""http://127.0.0.1""#, &["admin: must be an object"]),
    ] {
        assert_one(&with_admin(admin), parts);
    }
}
