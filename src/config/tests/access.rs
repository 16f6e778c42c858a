//! The keys under `access`.

use std::path::Path;

use super::*;
use crate::access::{AccessConfig, DeniedPublish};

fn access(text: &str) -> AccessConfig {
    read(&with(&format!(r#""access": {text}"#))).access
}

/// One error with these parts.
fn wrong(text: &str, parts: &[&str]) {
    assert_one(&with(&format!(r#""access": {text}"#)), parts);
}

#[test]
fn every_access_key_is_read() {
    let access = access(
        r#"{
        "anonymous": true, "passwordFile": "p", "aclFile": "dir/acl", "dynamicSecurityFile": "d.json",
        "scramFile": "s", "bansFile": "b.json", "deniedPublish": "disconnect",
        "jwt": {"jwksFile": "k.json", "algorithms": ["RS256", "EdDSA"], "issuer": "i", "audience": "a",
                "userNameClaim": "name", "aclClaim": "acl"},
        "http": {"userUrl": "http://h/u", "aclUrl": "http://h/a", "superuserUrl": "http://h:7/s", "cacheSecs": 9,
                 "timeoutSecs": 7},
        "flapping": {"disconnects": 3, "windowSecs": 4, "banSecs": 5}
    }"#,
    );
    let expected = [Some("p"), Some("dir/acl"), Some("d.json"), Some("s"), Some("b.json")]
        .map(|p| p.map(Path::new));
    let files = [
        &access.password_file,
        &access.acl_file,
        &access.dynamic_security_file,
        &access.scram_file,
        &access.bans_file,
    ];
    assert_eq!(files.map(|file| file.as_deref()), expected);
    assert_eq!(
        (access.anonymous, access.denied_publish),
        (Some(true), Some(DeniedPublish::Disconnect))
    );
    let jwt = access.jwt.expect("it was given");
    assert_eq!((jwt.key_file, jwt.jwks_file), (None, Some("k.json".into())));
    assert_eq!(jwt.algorithms, ["RS256", "EdDSA"]);
    let claims = [&jwt.issuer, &jwt.audience, &jwt.user_name_claim, &jwt.acl_claim];
    assert_eq!(claims.map(Option::as_deref), [Some("i"), Some("a"), Some("name"), Some("acl")]);
    let http = access.http.expect("it was given");
    assert_eq!(http.user_url, "http://h/u");
    assert_eq!(
        [http.acl_url.as_deref(), http.superuser_url.as_deref()],
        [Some("http://h/a"), Some("http://h:7/s")]
    );
    assert_eq!((http.cache.as_secs(), http.timeout.as_secs()), (9, 7));
    let flapping = access.flapping.expect("it was given");
    let windows = (flapping.disconnects, flapping.window.as_secs(), flapping.ban.as_secs());
    assert_eq!(windows, (3, 4, 5));
}

/// It would leave the broker open although it was meant to close it.
#[test]
fn an_empty_section_is_an_error_pitfall_10() {
    wrong("{}", &["access: is empty ({})", "add one of anonymous, passwordFile", "remove the key"]);
    wrong(r#"{"jwt": {}}"#, &["access.jwt: is empty ({})", "add one of keyFile"]);
    wrong(r#"{"http": {}}"#, &["access.http: is empty ({})"]);
    wrong(
        r#"{"flapping": {}}"#,
        &["access.flapping: is empty ({})", "disconnects, windowSecs, banSecs"],
    );
}

#[test]
fn every_wrong_access_setting_has_its_answer() {
    let path = "is empty (\"\"); write a value, for example \"passwords\"";
    for (text, parts) in [
        ("true", &["access: must be an object, not a truth value (true)"][..]),
        (r#"{"anonymus": true}"#, &["access.anonymus: ", "did you mean \"anonymous\"?"]),
        (r#"{"anonymous": "true"}"#, &["access.anonymous: ", "(\"true\")", "remove the quotes"]),
        (r#"{"anonymous": 1}"#, &["access.anonymous: ", "not a number (1)", "write true or false"]),
        (r#"{"anonymous": null}"#, &["access.anonymous: ", "not null"]),
        (r#"{"passwordFile": ""}"#, &["access.passwordFile: ", path, "remove the key"]),
        (
            r#"{"passwordFile": "a\u0000b"}"#,
            &["access.passwordFile: ", "\"a\\0b\"", "control character"],
        ),
        (
            r#"{"aclFile": ["acl"]}"#,
            &["access.aclFile: ", "not an array", "write for example \"acl\""],
        ),
        (
            r#"{"acl_file": "acl"}"#,
            &["access.acl_file: ", "(its value is \"acl\")", "did you mean \"aclFile\"?"],
        ),
        (
            r#"{"deniedPublish": "close"}"#,
            &["access.deniedPublish: ", "\"close\"", "write \"drop\" or \"disconnect\""],
        ),
        (
            r#"{"deniedPublish": false}"#,
            &["access.deniedPublish: ", "(false)", "\"drop\" or \"disconnect\""],
        ),
        (r#"{"aclFile": "a", "aclFile": "b"}"#, &["access.aclFile: is given twice"]),
    ] {
        wrong(text, parts);
    }
}

#[test]
fn every_wrong_setting_of_tokens_and_hooks_has_its_answer() {
    for (text, parts) in [
        (r#"{"jwt": {"algorithms": ["RS256"]}}"#, &["access.jwt: has no key", "add keyFile"][..]),
        (
            r#"{"jwt": {"keyFile": "k", "jwksFile": "j.json", "algorithms": ["RS256"]}}"#,
            &["access.jwt.jwksFile: ", "\"j.json\"", "remove one of the two"],
        ),
        (r#"{"jwt": {"keyFile": "k"}}"#, &["access.jwt.algorithms: is missing", "[\"RS256\"]"]),
        (
            r#"{"jwt": {"keyFile": "k", "algorithms": []}}"#,
            &["access.jwt.algorithms: is empty ([])", "[\"RS256\"]"],
        ),
        (
            r#"{"jwt": {"keyFile": "k", "algorithms": "RS256"}}"#,
            &["access.jwt.algorithms: ", "must be an array", "in brackets"],
        ),
        (
            r#"{"jwt": {"keyFile": "k", "algorithms": ["none"]}}"#,
            &["access.jwt.algorithms: ", "\"none\", which lets everybody in"],
        ),
        (
            r#"{"jwt": {"keyFile": "k", "algorithms": ["RS1"]}}"#,
            &["access.jwt.algorithms: ", "the unknown algorithm \"RS1\"", "HS256, HS384"],
        ),
        (
            r#"{"jwt": {"keyFile": "k", "algorithms": ["RS256", "RS256"]}}"#,
            &["access.jwt.algorithms: ", "\"RS256\" twice"],
        ),
        (
            r#"{"http": {"aclUrl": "http://127.0.0.1/acl"}}"#,
            &["access.http.userUrl: is missing", "http://127.0.0.1:8080/user"],
        ),
        (
            r#"{"http": {"userUrl": "https://h/user"}}"#,
            &["access.http.userUrl: ", "\"https://h/user\"", "over TLS", "write http://"],
        ),
        (r#"{"http": {"userUrl": "h/user"}}"#, &["access.http.userUrl: ", "\"h/user\" is no URL"]),
        (
            r#"{"http": {"userUrl": "http://h/u", "cacheSecs": 86401}}"#,
            &["access.http.cacheSecs: ", "86401 is out of range", "from 1 to 86400"],
        ),
        (
            r#"{"http": {"userUrl": "http://h/u", "timeoutSecs": 0}}"#,
            &["access.http.timeoutSecs: ", "0 is out of range", "from 1 to 60"],
        ),
        (
            r#"{"flapping": {"disconnects": 1}}"#,
            &["access.flapping.disconnects: ", "1 is out of range", "from 2 to 1000000"],
        ),
        (
            r#"{"flapping": {"banSecs": 1.5}}"#,
            &["access.flapping.banSecs: ", "1.5 is no whole number", "from 1 to 2592000"],
        ),
    ] {
        wrong(text, parts);
    }
}

#[test]
fn a_password_inside_a_url_is_not_shown_pitfall_19() {
    wrong(
        r#"{"http": {"userUrl": "http://ann:hunter2@h/user"}}"#,
        &["access.http.userUrl: has user information", "remove it"],
    );
    let text = with(r#""access": {"http": {"userUrl": "http://ann:hunter2@h/user"}}"#);
    assert!(!errors(&text)[0].contains("hunter2"));
}

#[test]
fn check_shows_the_access_settings_that_hold() {
    let shown = |text: &str| read(&with(&format!(r#""access": {text}"#))).to_string();
    let text = shown(
        r#"{"passwordFile": "p\u202e", "flapping": {"banSecs": 9}, "deniedPublish": "drop"}"#,
    );
    for line in [
        "access.anonymous = false (default)",
        "access.passwordFile = p\\u{202e}",
        "access.deniedPublish = drop",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    assert!(!text.contains("access.aclFile"), "{text}");
    let text = shown(r#"{"anonymous": true, "http": {"userUrl": "http://h/u"}}"#);
    for line in [
        "access.anonymous = true",
        "access.http.userUrl = http://h/u",
        "access.http.timeoutSecs = 5 seconds",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
}

/// Whatever else is there, a listener never lets in anonymous Clients by omission.
#[test]
fn any_access_key_closes_the_broker_to_anonymous_clients_pitfall_10() {
    for text in [
        r#"{"passwordFile": "p"}"#,
        r#"{"aclFile": "a"}"#,
        r#"{"deniedPublish": "drop"}"#,
        r#"{"bansFile": "b"}"#,
        r#"{"flapping": {"banSecs": 7}}"#,
    ] {
        assert!(!access(text).lets_in_anonymous(None), "{text}");
    }
}
