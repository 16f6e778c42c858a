//! SIGHUP: the configuration is read again while Clients are connected.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use super::{Running, connect, directory, run, write_file};

/// The next line of the log about a reload.
fn reloaded(program: &mut Running) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(program.out.read_line(&mut line).expect("UTF-8"), 0, "the program ended");
        if let Some(at) = line.find("reloaded: ").or_else(|| line.find("not reloaded, ")) {
            // The lines of the log may go on with a colour or a file.
            return line[at..].trim_end().to_owned();
        }
    }
}

fn ping(client: &mut TcpStream) {
    client.write_all(b"\xc0\x00").expect("PINGREQ");
    let mut answer = [0; 2];
    client.read_exact(&mut answer).expect("PINGRESP");
    assert_eq!(&answer, b"\xd0\x00");
}

#[test]
fn a_hang_up_puts_the_file_in_force_and_keeps_the_connections() {
    let directory = directory("reload");
    let conf = directory.join("config.json");
    let write = |more: &str| {
        let text = format!(
            r#"{{"listeners": {{"tcp": {{"url": "tcp://127.0.0.1:0"}}}},
                "access": {{"anonymous": true, "aclFile": "acl"}}{more}}}"#
        );
        fs::write(&conf, text).expect("a file for the test");
    };
    write_file(&directory.join("acl"), "topic readwrite #\n", 0o600);
    write("");
    let path = conf.display().to_string();
    let mut program = Running::start(&["-conf", &path], None);
    let (_, endpoint) = program.listening();
    let mut client = connect(&endpoint);

    write(r#", "limits": {"maxInflight": 64}, "workers": 2"#);
    program.signal("HUP");
    let line = reloaded(&mut program);
    let expected = "reloaded: ~ limits.maxInflight 1024 -> 64 (new connections); ! workers 1 -> 2 (at the next start)";
    assert!(line.starts_with(expected), "{line}");
    ping(&mut client);

    // The contents of a file.
    write_file(&directory.join("acl"), "topic read #\n", 0o600);
    program.signal("HUP");
    let line = reloaded(&mut program);
    assert!(line.contains("access.aclFile") && line.contains("contents changed"), "{line}");
    ping(&mut client);

    // What is wrong in the text, in a file, and without a file at all: nothing changes.
    for (text, part) in [
        (r#", "limits": {"maxInflight": 0}"#, "config.json: limits.maxInflight: 0 is out of range"),
        (r#", "nonsense": 1"#, "config.json: nonsense: is no key"),
    ] {
        write(text);
        program.signal("HUP");
        let line = reloaded(&mut program);
        assert!(line.starts_with("not reloaded, ") && line.contains(part), "{line}");
        ping(&mut client);
    }
    fs::remove_file(&conf).expect("it is there");
    program.signal("HUP");
    let line = reloaded(&mut program);
    assert!(line.starts_with("not reloaded, ") && line.contains("cannot be read"), "{line}");
    ping(&mut client);
    ping(&mut connect(&endpoint));
    program.signal("TERM");
    let ended = program.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
}

#[test]
fn a_check_against_a_file_prints_the_difference() {
    let directory = directory("against");
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).expect("a file for the test");
        path.display().to_string()
    };
    let old = file("old.json", r#"{"listeners": {"a": {"url": "tcp://127.0.0.1:0"}}}"#);
    let new = file(
        "new.json",
        r#"{"listeners": {"a": {"url": "tcp://127.0.0.1:0", "qosMax": 1}, "b": {"url": "tcp://127.0.0.1:19"}}}"#,
    );
    let ended = run(&["-check", "-conf", &new, "--against", &old], None);
    let expected =
        "+ listener b tcp://127.0.0.1:19\n~ listeners.a.qosMax (none) -> 1 (new connections)\n";
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), expected, ""));
    let ended = run(&["-check", "-conf", &new, "--against", &new], None);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "no change\n"));
    // A server that runs, by its admin listener.
    let mut program = Running::start(&["-conf", &old, "--admin", "http://127.0.0.1:0"], None);
    let mut line = String::new();
    while !line.starts_with("admin: ") {
        line.clear();
        assert_ne!(program.out.read_line(&mut line).expect("UTF-8"), 0, "the program ended");
    }
    let url = line.trim_end().trim_start_matches("admin: ");
    let ended = run(&["-check", "-conf", &new, "--against", url], None);
    let all = format!("{expected}! admin.url http://127.0.0.1:0 -> (none) (at the next start)\n");
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), all.as_str(), ""));
    program.signal("TERM");
    assert_eq!(program.end().code, Some(0));
    let ended = run(&["-check", "-conf", &new, "--against", url], None);
    assert!(ended.code == Some(1) && ended.err.contains("does not answer"), "{ended:?}");
    let ended = run(&["-check", "-conf", &new, "--against", "no/such/file"], None);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.starts_with("no/such/file: cannot be read: "), "{ended:?}");
}
