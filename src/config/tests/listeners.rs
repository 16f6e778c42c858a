//! The keys of a listener.

use std::path::{Path, PathBuf};

use super::*;
use crate::packet::{ProtocolVersion, QoS};
use crate::transport::tls::{CertificateName, ClientCertificate, TlsVersion};

fn text(url: &str, more: &str) -> String {
    format!(r#"{{"listeners": {{"a": {{"url": "{url}", {more}}}}}}}"#)
}

fn listener(url: &str, more: &str) -> ListenerConfig {
    read(&text(url, more)).listeners.remove(0).1
}

#[test]
fn every_key_of_tls_is_read() {
    let listener = listener(
        "mqtts://h",
        r#""tls": {"certificate": "c.pem", "key": "k.pem", "clientCa": "ca.pem", "clientCertificate": "optional",
                   "userName": "dns", "crl": ["one.crl", "two.crl"], "minimumVersion": "1.3"}"#,
    );
    let tls = listener.tls.expect("it was given");
    assert_eq!(
        (tls.certificate.as_path(), tls.key.as_path()),
        (Path::new("c.pem"), Path::new("k.pem"))
    );
    assert_eq!(tls.client_ca, Some(PathBuf::from("ca.pem")));
    assert_eq!(tls.client_certificate, Some(ClientCertificate::Optional));
    assert_eq!(tls.user_name, Some(CertificateName::Dns));
    assert_eq!(tls.crl, [PathBuf::from("one.crl"), PathBuf::from("two.crl")]);
    assert_eq!(tls.minimum_version, TlsVersion::V1_3);
    let one = self::listener(
        "wss://h",
        r#""tls": {"certificate": "c", "key": "k", "clientCa": "ca", "crl": "l"}"#,
    );
    assert_eq!(one.tls.expect("it was given").crl, [PathBuf::from("l")]);
}

#[test]
fn every_rule_of_a_listener_is_read() {
    let rules = listener(
        "ws://h",
        r#""anonymous": false, "versions": ["3.1.1", "5.0"], "connectionsMax": 7, "qosMax": 1,
           "networksAllowed": ["10.0.0.0/8", "::1"], "networksDenied": ["10.1.0.0/16"], "mountPoint": "sites/north",
           "proxyProtocol": ["127.0.0.1"], "forwardedFor": ["127.0.0.2"]"#,
    )
    .rules;
    assert_eq!(
        (rules.anonymous, rules.connections_max, rules.qos_max),
        (Some(false), Some(7), QoS::AtLeastOnce)
    );
    let versions: Vec<_> = rules.versions.iter().collect();
    assert_eq!(versions, [ProtocolVersion::V3_1_1, ProtocolVersion::V5]);
    let networks =
        |all: &[crate::network::Network]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(networks(&rules.networks_allowed.expect("given")), ["10.0.0.0/8", "::1"]);
    assert_eq!(networks(&rules.networks_denied), ["10.1.0.0/16"]);
    assert_eq!(networks(&rules.proxy_protocol.expect("given")), ["127.0.0.1"]);
    assert_eq!(networks(&rules.forwarded_for), ["127.0.0.2"]);
    assert_eq!(rules.mount_point.expect("given").as_str(), "sites/north/");
    let socket =
        listener("unix:///run/h.sock", r#""mode": "600", "owner": "mqtt", "group": "0""#).socket;
    assert_eq!(
        (socket.mode, socket.owner.as_deref(), socket.group.as_deref()),
        (Some(0o600), Some("mqtt"), Some("0"))
    );
}

#[test]
fn every_wrong_setting_of_tls_has_its_answer() {
    let pair = r#""certificate": "c", "key": "k""#;
    for (url, more, parts) in [
        (
            "mqtts://h",
            r#""qosMax": 1"#.to_owned(),
            &["listeners.a.url: ", "needs a certificate", "\"tls\": {"][..],
        ),
        (
            "wss://h",
            r#""tls": true"#.to_owned(),
            &["listeners.a.tls: must be an object, not a truth value"],
        ),
        (
            "wss://h",
            r#""tls": {}"#.to_owned(),
            &["listeners.a.tls: is empty ({})", "certificate, key"],
        ),
        (
            "wss://h",
            r#""tls": {"key": "k"}"#.to_owned(),
            &["listeners.a.tls.certificate: is missing", "server.pem"],
        ),
        (
            "wss://h",
            r#""tls": {"certificate": "c"}"#.to_owned(),
            &["listeners.a.tls.key: is missing", "server.key"],
        ),
        (
            "wss://h",
            r#""tls": {"certificate": "", "key": "k"}"#.to_owned(),
            &["listeners.a.tls.certificate: is empty"],
        ),
        (
            "tcp://h",
            format!(r#""tls": {{{pair}}}"#),
            &["listeners.a.tls: ", "\"tcp://h\"", "write mqtts://"],
        ),
        (
            "wss://h",
            format!(r#""tls": {{{pair}, "clientCertificate": "required"}}"#),
            &["listeners.a.tls: ", "needs clientCa"],
        ),
        (
            "wss://h",
            format!(r#""tls": {{{pair}, "clientCertificate": "yes", "clientCa": "x"}}"#),
            &[
                "listeners.a.tls.clientCertificate: ",
                "\"yes\"",
                "\"none\", \"optional\" or \"required\"",
            ],
        ),
    ] {
        assert_one(&text(url, &more), parts);
    }
}

#[test]
fn every_wrong_choice_of_tls_has_its_answer() {
    let pair = r#""certificate": "c", "key": "k""#;
    for (url, more, parts) in [
        (
            "wss://h",
            format!(r#""tls": {{{pair}, "userName": "commonName"}}"#),
            &["listeners.a.tls: ", "add clientCa"][..],
        ),
        (
            "wss://h",
            format!(r#""tls": {{{pair}, "crl": "x"}}"#),
            &["listeners.a.tls: ", "add clientCa"],
        ),
        (
            "wss://h",
            format!(r#""tls": {{{pair}, "userName": "cn", "clientCa": "x"}}"#),
            &["tls.userName: ", "\"commonName\""],
        ),
        (
            "wss://h",
            format!(r#""tls": {{{pair}, "minimumVersion": 1.2}}"#),
            &["tls.minimumVersion: ", "(1.2)", "in quotes"],
        ),
        (
            "wss://h",
            format!(r#""tls": {{{pair}, "minimumVersion": "1.1"}}"#),
            &["\"1.1\"", "\"1.2\" or \"1.3\""],
        ),
        (
            "wss://h",
            format!(r#""tls": {{{pair}, "certfile": "c"}}"#),
            &["listeners.a.tls.certfile: ", "is no key"],
        ),
    ] {
        assert_one(&text(url, &more), parts);
    }
}

#[test]
fn every_wrong_rule_of_a_listener_has_its_answer() {
    for (url, more, parts) in [
        (
            "tcp://h",
            r#""anonymous": "no""#,
            &["listeners.a.anonymous: ", "(\"no\")", "write true or false"][..],
        ),
        ("tcp://h", r#""versions": ["4"]"#, &["listeners.a.versions: ", "\"4\"", "\"3.1.1\""]),
        ("tcp://h", r#""versions": []"#, &["listeners.a.versions: is empty ([])"]),
        (
            "tcp://h",
            r#""versions": [5]"#,
            &["listeners.a.versions: must hold strings, not a number (5)"],
        ),
        (
            "tcp://h",
            r#""connectionsMax": 0"#,
            &["listeners.a.connectionsMax: ", "0 is out of range", "from 1 to"],
        ),
        (
            "tcp://h",
            r#""qosMax": 3"#,
            &["listeners.a.qosMax: ", "3 is out of range", "from 0 to 2"],
        ),
        (
            "tcp://h",
            r#""networksAllowed": "10.0.0.0/8""#,
            &["networksAllowed: ", "must be an array", "in brackets"],
        ),
        (
            "tcp://h",
            r#""networksAllowed": ["10.0.0.1/8"]"#,
            &["networksAllowed: ", "write \"10.0.0.0/8\""],
        ),
        (
            "tcp://h",
            r#""networksAllowed": []"#,
            &["listeners.a.networksAllowed: is empty ([])", "remove the key"],
        ),
        (
            "tcp://h",
            r#""networksDenied": ["home"]"#,
            &["networksDenied: ", "\"home\" is no network"],
        ),
    ] {
        assert_one(&text(url, more), parts);
    }
}

#[test]
fn every_wrong_mount_point_proxy_and_socket_has_its_answer() {
    for (url, more, parts) in [
        (
            "tcp://h",
            r#""mountPoint": "a/#""#,
            &["listeners.a.mountPoint: ", "\"a/#\" is no mount point"][..],
        ),
        (
            "tcp://h",
            r#""mountPoint": "$SYS""#,
            &["listeners.a.mountPoint: ", "\"$SYS\" is no mount point"],
        ),
        (
            "tcp://h",
            r#""proxyProtocol": true"#,
            &["listeners.a.proxyProtocol: ", "must be an array"],
        ),
        (
            "tcp://h",
            r#""forwardedFor": ["::1"]"#,
            &["listeners.a.forwardedFor: ", "tcp://h", "remove the key"],
        ),
        (
            "tcp://h",
            r#""mode": "600""#,
            &["listeners.a.url: ", "\"tcp://h\"", "only the file of a unix:// listener"],
        ),
        (
            "unix:///s",
            r#""mode": 600"#,
            &["listeners.a.mode: ", "(600)", "no octal numbers", "\"660\""],
        ),
        ("unix:///s", r#""mode": "888""#, &["listeners.a.mode: ", "\"888\" is no mode", "\"777\""]),
        ("unix:///s", r#""mode": "1777""#, &["listeners.a.mode: ", "\"1777\" is no mode"]),
        ("unix:///s", r#""owner": """#, &["listeners.a.owner: is empty"]),
        ("tcp://h", r#""qosMx": 1"#, &["listeners.a.qosMx: ", "did you mean \"qosMax\"?"]),
    ] {
        assert_one(&text(url, more), parts);
    }
}

#[test]
fn check_shows_the_settings_of_listeners_that_hold() {
    let shown = read(&text(
        "ws://h",
        r#""qosMax": 0, "mountPoint": "m", "versions": ["5.0"], "networksAllowed": ["::1"]"#,
    ))
    .to_string();
    for line in [
        "listeners.a.qosMax = 0",
        "listeners.a.mountPoint = m/",
        "listeners.a.versions = 5.0",
        "listeners.a.networksAllowed = ::1",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(!shown.contains("listeners.a.anonymous"), "{shown}");
    let tls = r#""tls": {"certificate": "c", "key": "k", "clientCa": "ca"}"#;
    let shown = read(&text("mqtts://h", tls)).to_string();
    let first = shown.lines().next().expect("a line");
    assert!(
        first.starts_with("listener a: mqtts://h (TLS 1.2 or newer, client certificate required"),
        "{shown}"
    );
    assert!(shown.contains("\nlisteners.a.tls.clientCa = ca\n"), "{shown}");
}

/// Without users, names that Clients say are nobody's.
#[test]
fn a_listener_that_is_closed_to_anonymous_clients_has_a_policy_pitfall_10() {
    let config = read(&text("tcp://h", r#""anonymous": false"#));
    assert!(config.access.is_set() && config.access.lets_in_anonymous(None));
    assert!(!config.access.lets_in_anonymous(config.listeners[0].1.rules.anonymous));
    assert!(!read(&text("tcp://h", r#""anonymous": true"#)).access.is_set());
}
