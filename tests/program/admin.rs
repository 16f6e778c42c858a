//! The admin listener of the program.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use super::{Running, file, run};

/// Reads the standard output up to the line of the admin listener.
pub(super) fn endpoint(program: &mut Running) -> String {
    loop {
        let mut line = String::new();
        let read = program.out.read_line(&mut line).expect("UTF-8");
        assert!(read > 0, "the standard output ended");
        if let Some(url) = line.trim_end().strip_prefix("admin: ") {
            return url.to_owned();
        }
    }
}

fn get(url: &str, path: &str) -> String {
    let authority = url.strip_prefix("http://").expect("HTTP");
    let mut stream = TcpStream::connect(authority).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the program reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("UTF-8");
    answer
}

#[test]
fn a_flag_serves_it_and_the_program_ends_in_good_order_with_it() {
    let mut program = Running::start(&["--admin", "http://127.0.0.1:0"], Some("tcp://127.0.0.1:0"));
    let url = endpoint(&mut program);
    for path in ["/livez", "/readyz", "/api/v1/status", "/metrics", "/"] {
        let answer = get(&url, path);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    program.signal("TERM");
    let ended = program.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
}

/// Pitfall 21.
#[test]
fn what_others_could_reach_without_a_token_does_not_start_pitfall_21() {
    let ended = run(&["--admin", "http://0.0.0.0:0"], Some("tcp://127.0.0.1:0"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.err.contains("--admin: \"http://0.0.0.0:0\"") && ended.err.contains("tokenFile"),
        "{ended:?}"
    );
    let text = r#"{"listeners": {"a": {"url": "tcp://127.0.0.1:0"}}, "admin": {"url": "http://*:0", "tokenFile": "none"}}"#;
    let path = file("admin-token", text);
    let ended = run(&["-check", "-conf", &path], None);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("admin: ") && ended.err.contains("it cannot be read"), "{ended:?}");
}
