//! `hrotti explain`: yes or no, the rule, and the exit code.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{Ended, private_file};

/// ann's password is `open sesame`.
pub(crate) const PASSWORDS: &str = "# users\nann:$7$101$VOKLKl0m4B4ch5OP$rAF18QVJQWMuAni/uXW06AGJV9AdlOd7XPC9cRmbWu6pTocFWk/ZroFcf00zxbutQcc8U68D9nIDZuqg6VYnGw==\n";
pub(crate) const ACL: &str =
    "topic read news/#\n\nuser ann\ntopic readwrite hall/+\npattern write from/%c/#\n";

fn configuration(name: &str, listeners: &str, access: &str) -> String {
    private_file(&format!("{name}-passwords"), PASSWORDS);
    private_file(&format!("{name}-acl"), ACL);
    let access = access.replace("NAME", name);
    let text = format!(r#"{{"listeners": {{{listeners}}}, "access": {{{access}}}}}"#);
    private_file(&format!("{name}.json"), &text)
}

const TCP: &str = r#""tcp": {"url": "tcp://127.0.0.1:0"}"#;
const BOTH: &str = r#""passwordFile": "NAME-passwords", "aclFile": "NAME-acl""#;

fn explain(path: &str, args: &[&str], password: Option<&str>) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hrotti"));
    command.args(["-conf", path, "explain"]).args(args).env_remove("HROTTI_URL");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("its standard input");
    // A program that does not read it has closed it.
    let _ = stdin.write_all(password.unwrap_or_default().as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[track_caller]
fn assert_answer(path: &str, args: &[&str], code: i32, parts: &[&str]) {
    let ended = explain(path, args, None);
    assert_eq!(ended.code, Some(code), "{args:?} {ended:?}");
    let text = if code == 2 { &ended.err } else { &ended.out };
    for part in parts {
        assert!(text.contains(part), "{args:?}: {part:?} is not in {ended:?}");
    }
}

#[test]
fn each_answer_names_file_line_and_rule() {
    let path = configuration("explain", TCP, BOTH);
    for (args, code, parts) in [
        (
            &["--user", "ann", "publish", "hall/lamp"][..],
            0,
            &[
                "yes: ",
                "user \"ann\"",
                "publish to \"hall/lamp\"",
                "explain-acl:4: topic readwrite hall/+",
            ][..],
        ),
        (
            &["--user", "ann", "publish", "garden/gate"],
            1,
            &["no: ", "explain-acl: no line allows it"],
        ),
        (&["--user", "ann", "receive", "hall/lamp"], 0, &["explain-acl:4: "]),
        (
            &["--user", "ann", "--client", "c7", "publish", "from/c7/x"],
            0,
            &["explain-acl:5: pattern write from/%c/#"],
        ),
        (
            &["--user", "ann", "subscribe", "hall/lamp"],
            0,
            &["explain-acl:4: ", "coverage: all that the filter"],
        ),
        (&["--user", "ann", "subscribe", "hall/#"], 0, &["explain-acl:4: ", "coverage: a part"]),
        (&["--user", "ann", "subscribe", "$share/g/hall/+"], 0, &["coverage: all"]),
        (&["--user", "ann", "subscribe", "garden/#"], 1, &["no: ", "explain-acl: "]),
        (&["--user", "ann", "publish", "$SYS/x"], 1, &["only the server publishes"]),
        (
            &["--user", "ann", "connect"],
            0,
            &["explain-passwords:2: user ann", "the password was not checked"],
        ),
        (&["--user", "bob", "connect"], 1, &["explain-passwords: no user of this name"]),
        (
            &["--user", "bob", "publish", "hall/lamp"],
            1,
            &["may not connect, so it may do nothing else"],
        ),
        (&["connect"], 1, &["no: ", "no setting lets in Clients without a user name"]),
    ] {
        assert_answer(&path, args, code, parts);
    }
}

#[test]
fn a_password_from_the_standard_input_is_checked_and_never_shown_pitfall_19() {
    let path = configuration("explain-password", TCP, BOTH);
    let args = ["--user", "ann", "--password-stdin", "connect"];
    for (password, code) in [("wrong horse\n", 1), ("", 1)] {
        let ended = explain(&path, &args, Some(password));
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(!ended.out.contains("horse") && !ended.err.contains("horse"), "{ended:?}");
    }
}

#[test]
fn the_rules_of_the_listener_are_asked_first() {
    let listeners = r#""in": {"url": "tcp://127.0.0.1:0", "networksAllowed": ["127.0.0.0/8"], "versions": ["5.0"],
        "mountPoint": "hall"}, "out": {"url": "tcp://127.0.0.1:0", "anonymous": true}"#;
    let path = configuration("explain-listener", listeners, BOTH);
    for (args, code, parts) in [
        (
            &["--user", "ann", "connect"][..],
            2,
            &["several listeners", "--listener with one of \"in\", \"out\""][..],
        ),
        (&["--listener", "inn", "connect"], 2, &["--listener \"inn\"", "\"in\", \"out\""]),
        (
            &["--listener", "in", "--user", "ann", "--address", "192.0.2.1", "connect"],
            1,
            &["listeners.in.networksAllowed: 192.0.2.1 is not let in"],
        ),
        (
            &["--listener", "in", "--user", "ann", "--version", "3.1.1", "connect"],
            1,
            &["listeners.in.versions: MQTT 5.0 is served, and not 3.1.1", "add --address"],
        ),
        (
            &["--listener", "in", "--user", "ann", "--address", "127.0.0.1", "publish", "lamp"],
            0,
            &["\"hall/lamp\"", "explain-listener-acl:4: "],
        ),
        (&["--listener", "out", "connect"], 0, &["yes: ", "no user name"]),
        (
            &["--listener", "out", "receive", "news/today"],
            0,
            &["explain-listener-acl:1: topic read news/#"],
        ),
        (&["--listener", "out", "publish", "news/today"], 1, &["no: "]),
    ] {
        assert_answer(&path, args, code, parts);
    }
}

#[test]
fn an_answer_in_json_can_be_read_by_programs() {
    let path = configuration("explain-json", TCP, BOTH);
    let ended = explain(&path, &["--json", "--user", "ann", "subscribe", "hall/#"], None);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let answer: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!(answer["allowed"], true);
    assert_eq!(answer["rule"]["line"], 4);
    assert_eq!(answer["rule"]["text"], "topic readwrite hall/+");
    assert_eq!(answer["coverage"], "part");
}

#[test]
fn without_access_settings_everything_is_allowed_and_it_says_why() {
    let path = private_file("explain-open.json", &format!(r#"{{"listeners": {{{TCP}}}}}"#));
    for args in [&["connect"][..], &["publish", "t"], &["subscribe", "#"]] {
        assert_answer(&path, args, 0, &["yes: ", "no access settings"]);
    }
}

#[test]
fn what_cannot_be_answered_has_an_exit_code_of_its_own() {
    let path = configuration("explain-usage", TCP, BOTH);
    for (args, parts) in [
        (&[][..], &["USAGE"][..]),
        (&["fly"], &["fly"]),
        (&["publish"], &["TOPIC"]),
        (&["--user", "ann", "publish", "a/#"], &["\"a/#\" cannot be asked about"]),
        (&["--version", "4", "connect"], &["4"]),
        (&["--address", "here", "connect"], &["--address", "invalid IP address"]),
    ] {
        assert_answer(&path, args, 2, parts);
    }
    let ended = explain("no/such.json", &["connect"], None);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
