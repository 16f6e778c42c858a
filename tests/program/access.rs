//! Access rules and certificates as an operator meets them: what is refused at the start, with one line each, what is
//! warned of, and what is logged.

use std::io::{BufRead, Read, Write};
use std::path::PathBuf;

use super::explain::{ACL, PASSWORDS};
use super::{Running, connect, directory, private_file, run, write_file};

/// The files of a case: name, text and mode.
type Files<'a> = &'a [(&'a str, &'a str, u32)];

/// A configuration, the files beside it, and parts of the one line that answers it.
type Case<'a> = (&'a str, String, Files<'a>, &'a [&'a str]);

fn tcp(access: &str) -> String {
    format!(r#"{{"listeners": {{"a": {{"url": "tcp://127.0.0.1:0"}}}}, "access": {{{access}}}}}"#)
}

fn tls(more: &str) -> String {
    format!(
        r#"{{"listeners": {{"a": {{"url": "mqtts://127.0.0.1:0", "tls": {{"certificate": "c.pem", "key": "k.pem"{more}}}}}}}}}"#
    )
}

/// Each is refused by a check and by the start, in the same words: one line on the standard error with every part.
fn assert_refused(cases: &[Case<'_>]) {
    for (name, configuration, files, parts) in cases {
        let here = directory(&format!("wrong-{name}"));
        for (file, text, mode) in *files {
            write_file(&here.join(file), text, *mode);
        }
        let path = here.join("config.json");
        write_file(&path, configuration, 0o600);
        let path = path.to_str().expect("a path in UTF-8");
        for args in [&["-check", "-conf", path][..], &["-conf", path]] {
            let ended = run(args, None);
            assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{name}: {ended:?}");
            assert_eq!(ended.err.lines().count(), 1, "{name}: {ended:?}");
            for part in *parts {
                assert!(ended.err.contains(part), "{name}: {part:?} is not in {ended:?}");
            }
        }
    }
}

#[test]
fn every_wrong_password_file_is_refused_with_file_line_and_remedy_pitfall_10() {
    let passwords = || tcp(r#""passwordFile": "p""#);
    let cases: &[Case<'_>] = &[
        (
            "p-missing",
            passwords(),
            &[],
            &["access.passwordFile: ", "/p: it cannot be read", "check the path"],
        ),
        (
            "p-empty",
            passwords(),
            &[("p", "", 0o600)],
            &["access.passwordFile: ", "/p: it is empty", "fill it"],
        ),
        (
            "p-comment",
            passwords(),
            &[("p", "# nobody\n", 0o600)],
            &["/p: it has no user", "hrotti passwd"],
        ),
        (
            "p-writable",
            passwords(),
            &[("p", PASSWORDS, 0o602)],
            &["all users of this machine can write", "chmod o-w"],
        ),
        (
            "p-plain",
            passwords(),
            &[("p", "ann:secret\n", 0o600)],
            &["/p:1: ", "\"ann\" is in plain text", "hrotti passwd -U"],
        ),
        (
            "p-half",
            passwords(),
            &[("p", &format!("{PASSWORDS}bob\n"), 0o600)],
            &["/p:3: it is no NAME:HASH"],
        ),
        (
            "p-twice",
            passwords(),
            &[("p", &format!("{PASSWORDS}{PASSWORDS}"), 0o600)],
            &["/p:4: ", "\"ann\" is in line 2, too"],
        ),
        (
            "p-hash",
            passwords(),
            &[("p", "ann:$7$101$!!$!!\n", 0o600)],
            &["/p:1: the hash of \"ann\" cannot be read", "hrotti passwd"],
        ),
        (
            "p-none",
            passwords(),
            &[("p", "ann:\n", 0o600)],
            &["/p:1: \"ann\" has no password", "hrotti passwd"],
        ),
    ];
    assert_refused(cases);
}

#[test]
fn every_wrong_access_list_is_refused_with_file_line_and_remedy_pitfall_10() {
    let acl = || tcp(r#""aclFile": "acl""#);
    let long = "x".repeat(200);
    let cases: &[Case<'_>] = &[
        (
            "acl-missing",
            acl(),
            &[],
            &["access.aclFile: ", "/acl: it cannot be read", "check the path"],
        ),
        ("acl-empty", acl(), &[("acl", "", 0o600)], &["access.aclFile: ", "/acl: it is empty"]),
        (
            "acl-keyword",
            acl(),
            &[("acl", "user ann\ntopics a\n", 0o600)],
            &["/acl:2: ", "\"topics\" is unknown", "\"topic\"?"],
        ),
        ("acl-access", acl(), &[("acl", "topic reed a/b c\n", 0o600)], &["/acl:1: "]),
        ("acl-filter", acl(), &[("acl", "topic read a/#/b\n", 0o600)], &["/acl:1: ", "a/#/b"]),
        ("acl-rules", acl(), &[("acl", "# none\n", 0o600)], &["/acl: "]),
        (
            "acl-writable",
            acl(),
            &[("acl", ACL, 0o666)],
            &["all users of this machine can write", "chmod o-w"],
        ),
        (
            "path",
            tcp(&format!(r#""aclFile": "{long}""#)),
            &[],
            &["access.aclFile: ", &long, "check the path"],
        ),
    ];
    assert_refused(cases);
}

#[test]
fn every_wrong_file_of_roles_scram_and_bans_is_refused_pitfall_10() {
    let dynamic = || tcp(r#""dynamicSecurityFile": "d.json""#);
    let scram = || tcp(r#""scramFile": "s""#);
    let bans = || tcp(r#""bansFile": "b.json""#);
    let cases: &[Case<'_>] = &[
        (
            "d-missing",
            dynamic(),
            &[],
            &["access.dynamicSecurityFile: ", "/d.json: it cannot be read"],
        ),
        ("d-json", dynamic(), &[("d.json", "{", 0o600)], &["/d.json:"]),
        (
            "d-role",
            dynamic(),
            &[(
                "d.json",
                r#"{"clients": [{"username": "a", "roles": [{"rolename": "r"}]}]}"#,
                0o600,
            )],
            &["/d.json: clients[0].roles[0].rolename", "there is no role \"r\""],
        ),
        ("s-missing", scram(), &[], &["access.scramFile: ", "/s: it cannot be read"]),
        ("s-line", scram(), &[("s", "ann\n", 0o600)], &["/s:1: "]),
        ("b-missing", bans(), &[], &["access.bansFile: ", "/b.json: it cannot be read"]),
        ("b-json", bans(), &[("b.json", "[", 0o600)], &["/b.json:"]),
        ("b-empty", bans(), &[("b.json", "", 0o600)], &["/b.json: it is empty"]),
    ];
    assert_refused(cases);
}

#[test]
fn every_wrong_key_of_tokens_is_refused_with_the_remedy() {
    let jwt = |more: &str| tcp(&format!(r#""jwt": {{"keyFile": "k", {more}}}"#));
    assert_refused(&[
        (
            "jwt-missing",
            jwt(r#""algorithms": ["RS256"]"#),
            &[],
            &["access.jwt.keyFile: ", "/k: it cannot be read"],
        ),
        (
            "jwt-pem",
            jwt(r#""algorithms": ["RS256"]"#),
            &[("k", "-----BEGIN PUBLIC KEY-----\n", 0o600)],
            &["/k"],
        ),
        ("jwt-short", jwt(r#""algorithms": ["HS256"]"#), &[("k", "short", 0o600)], &["/k"]),
        (
            "jwt-none",
            jwt(r#""algorithms": ["none"]"#),
            &[("k", "x", 0o600)],
            &["access.jwt.algorithms: ", "lets everybody in"],
        ),
        (
            "jwt-key",
            tcp(r#""jwt": {"algorithms": ["RS256"]}"#),
            &[],
            &["access.jwt: has no key", "add keyFile"],
        ),
        (
            "http-tls",
            tcp(r#""http": {"userUrl": "https://h/u"}"#),
            &[],
            &["access.http.userUrl: ", "https://h/u"],
        ),
        ("access-empty", tcp(""), &[], &["access: is empty ({})", "remove the key"]),
    ]);
}

/// A certificate for `localhost` and its key, as PEM.
fn certificate() -> (String, String) {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn every_wrong_certificate_is_refused_with_listener_file_and_remedy() {
    let ((certificate, key), (_, other)) = (certificate(), certificate());
    let good: Files<'_> = &[("c.pem", &certificate, 0o644), ("k.pem", &key, 0o600)];
    let with = |file: &'static str, text: &'static str| [good[0], good[1], (file, text, 0o600)];
    let cases: &[Case<'_>] = &[
        (
            "tls-certificate",
            tls(""),
            &[good[1]],
            &["listeners.a.tls: ", "c.pem", "cannot be read", "check the path"],
        ),
        ("tls-key", tls(""), &[good[0]], &["listeners.a.tls: ", "k.pem", "cannot be read"]),
        (
            "tls-pem",
            tls(""),
            &[("c.pem", "no", 0o600), good[1]],
            &["c.pem: there is no certificate in it"],
        ),
        ("tls-no-key", tls(""), &[good[0], ("k.pem", "no", 0o600)], &["k.pem: "]),
        (
            "tls-other",
            tls(""),
            &[good[0], ("k.pem", &other, 0o600)],
            &["k.pem: the key does not belong"],
        ),
        (
            "tls-writable",
            tls(""),
            &[good[0], ("k.pem", &key, 0o606)],
            &["listeners.a.tls.key: ", "can write to the private key", "chmod 600"],
        ),
        (
            "tls-ca",
            tls(r#", "clientCa": "ca.pem""#),
            good,
            &["listeners.a.tls: ", "ca.pem", "cannot be read"],
        ),
        ("tls-ca-pem", tls(r#", "clientCa": "ca.pem""#), &with("ca.pem", "no"), &["ca.pem: "]),
        (
            "tls-no-ca",
            tls(r#", "clientCertificate": "required""#),
            good,
            &["listeners.a.tls: ", "needs clientCa"],
        ),
        (
            "tls-name",
            tls(r#", "userName": "commonName""#),
            good,
            &["listeners.a.tls: ", "add clientCa"],
        ),
        (
            "tls-version",
            tls(r#", "minimumVersion": "1.0""#),
            good,
            &["minimumVersion: ", "\"1.2\" or \"1.3\""],
        ),
    ];
    assert_refused(cases);
}

#[test]
fn all_errors_of_all_files_are_reported_at_once() {
    let here = directory("all-wrong");
    write_file(&here.join("acl"), "topics a\nuser\n", 0o600);
    let text = r#"{"listeners": {"a": {"url": "mqtts://127.0.0.1:0", "tls": {"certificate": "c", "key": "k"}}},
        "access": {"passwordFile": "p", "aclFile": "acl"}}"#;
    let path = here.join("config.json");
    write_file(&path, text, 0o600);
    let ended = run(&["-check", "-conf", path.to_str().expect("UTF-8")], None);
    assert_eq!(ended.err.lines().count(), 5, "{ended:?}");
}

#[test]
fn secrets_that_all_users_can_read_are_warned_of_pitfall_19() {
    let (certificate, key) = certificate();
    let here = directory("exposed");
    for (name, text) in [("p", PASSWORDS), ("acl", ACL), ("c.pem", &certificate), ("k.pem", &key)] {
        write_file(&here.join(name), text, 0o644);
    }
    let text = r#"{"listeners": {"a": {"url": "mqtts://127.0.0.1:0", "tls": {"certificate": "c.pem", "key": "k.pem"}}},
        "access": {"passwordFile": "p", "aclFile": "acl"}}"#;
    let path = here.join("config.json");
    write_file(&path, text, 0o600);
    let ended = run(&["-check", "-conf", path.to_str().expect("UTF-8")], None);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    let warnings: Vec<_> = ended.out.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(warnings.len(), 2, "{ended:?}");
    assert!(warnings[0].starts_with("warning: listeners.a.tls.key: "), "{warnings:?}");
    assert!(warnings[1].starts_with("warning: access.passwordFile: "), "{warnings:?}");
    assert!(warnings.iter().all(|line| line.contains("chmod 600")), "{warnings:?}");
    assert!(
        ended.out.contains("who may connect: access.passwordFile: ")
            && ended.out.contains(": 1 user\n")
    );
}

#[test]
fn a_listener_that_serves_everybody_is_warned_of() {
    let warning = |text: &str| {
        text.contains(
            "lets in every Client without a password; to close it set access.passwordFile",
        )
    };
    let ended = run(&["-check"], Some("tcp://0.0.0.0:1883"));
    assert!(warning(&ended.out), "{ended:?}");
    assert!(!warning(&run(&["-check"], Some("tcp://127.0.0.1:1883")).out));
    let mut program = Running::start(&[], Some("tcp://0.0.0.0:0"));
    let mut line = String::new();
    assert_ne!(program.out.read_line(&mut line).expect("UTF-8"), 0);
    assert!(warning(&line), "before it accepts: {line}");
    program.listening();
    program.signal("TERM");
    assert_eq!(program.end().code, Some(0));
}

/// PUBLISH of QoS 1 to the topic `secret` with an escape character in it.
fn publish(id: u8) -> Vec<u8> {
    let mut packet = b"\x32\x0f\x00\x0bsecret\x1b[31m\x00".to_vec();
    packet.push(id);
    packet
}

#[test]
fn a_denied_publish_is_logged_with_its_rule_and_a_flood_is_counted_pitfall_18() {
    private_file("denied-acl", "topic read news/#\ntopic deny secret/#\n");
    let text = r#"{"listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}},
        "access": {"anonymous": true, "aclFile": "denied-acl"}, "logging": {"error": "stdout", "info": "stderr"}}"#;
    let path = private_file("denied.json", text);
    let mut program = Running::start(&["-conf", &path], None);
    let (_, endpoint) = program.listening();
    let mut client = connect(&endpoint);
    for id in 1..=15 {
        client.write_all(&publish(id)).expect("the program reads");
        let mut answer = [0; 4];
        client.read_exact(&mut answer).expect("PUBACK, as mosquitto answers");
        assert_eq!(answer, [0x40, 2, 0, id]);
    }
    let (mut denials, mut line) = (0, String::new());
    while !line.contains("more denials") {
        line.clear();
        assert_ne!(program.out.read_line(&mut line).expect("UTF-8"), 0, "the log ended");
        if line.contains("may not publish") {
            denials += 1;
            for part in
                ["WARN  hrotti::access client \"auto-", "secret", "denied-acl: no line allows it"]
            {
                assert!(line.contains(part), "{part:?} is not in {line}");
            }
            assert!(!line.trim_end().contains(char::is_control), "{line:?}");
        }
    }
    assert!((1..15).contains(&denials), "{denials} lines for 15 denials");
    assert!(line.contains(&format!("{} more denials", 15 - denials)), "{line}");
    program.signal("TERM");
    assert_eq!(program.end().code, Some(0));
}

#[test]
fn deniedpublish_disconnect_closes_the_connection() {
    private_file("disconnect-acl", "topic read news/#\n");
    let text = r#"{"listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}},
        "access": {"anonymous": true, "aclFile": "disconnect-acl", "deniedPublish": "disconnect"}}"#;
    let path = private_file("disconnect.json", text);
    let mut program = Running::start(&["-conf", &path], None);
    let (_, endpoint) = program.listening();
    let mut client = connect(&endpoint);
    client.write_all(&publish(1)).expect("the program reads");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("closed, not reset");
    assert_eq!(rest, b"");
    program.signal("TERM");
    assert_eq!(program.end().code, Some(0));
}

#[test]
fn an_anonymous_client_is_refused_as_soon_as_there_is_a_password_file_pitfall_10() {
    private_file("closed-passwords", PASSWORDS);
    let text = r#"{"listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}}, "access": {"passwordFile": "closed-passwords"}}"#;
    let path = private_file("closed.json", text);
    let mut program = Running::start(&["-conf", &path], None);
    let (_, endpoint) = program.listening();
    let address = endpoint.strip_prefix("tcp://").expect("tcp");
    let mut client = std::net::TcpStream::connect(address).expect("a listener");
    client.write_all(super::CONNECT).expect("the program reads");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("closed");
    assert_eq!(answer, [0x20, 2, 0, 5], "not authorized");
    program.signal("TERM");
    assert_eq!(program.end().code, Some(0));
}

/// What a reader of the README copies is what `examples/config-secure.json` says.
#[test]
fn the_secure_configuration_in_the_readme_is_the_example() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let (_, rest) = readme.split_once("cat > config.json <<'END'\n").expect("the configuration");
    let (text, _) = rest.split_once("\nEND\n").expect("its end");
    let example =
        std::fs::read_to_string(root.join("examples/config-secure.json")).expect("the example");
    let read = |text: &str| hrotti::config::Config::from_json(text, "README.md").expect("valid");
    assert_eq!(read(text), read(&example));
}
