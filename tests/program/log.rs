//! A log without a reader: traffic continues, signals end the program, and lost lines are reported.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use super::{Running, connect, file};

/// Each is worth a line at the level trace; together they are more than queue and pipes hold.
const PINGS: usize = 40_000;

fn ping(endpoint: &str) {
    let mut client = connect(endpoint);
    let mut answers = [0; 2_000];
    for _ in 0..PINGS * 2 / answers.len() {
        client.write_all(&b"\xC0\x00".repeat(answers.len() / 2)).expect("PINGREQ");
        client.read_exact(&mut answers).expect("PINGRESP");
        assert!(answers.chunks(2).all(|answer| answer == b"\xD0\x00"));
    }
}

/// As text and as JSON (in release builds by femme), and to both streams.
fn each_logger(mut test: impl FnMut(Running, String)) {
    let configuration = |name: &str, logging: &str| {
        let listeners = r#"{"tcp": {"url": "tcp://127.0.0.1:0"}}"#;
        file(name, format!(r#"{{"listeners": {listeners}, "logging": {logging}}}"#))
    };
    let json = configuration("log-json.json", r#"{"format": "json"}"#);
    let both = configuration("log-out.json", r#"{"protocol": "stdout", "error": "stderr"}"#);
    let url = Some("tcp://127.0.0.1:0");
    let json = ["-vv", "-conf", &json];
    let both = ["-vv", "-conf", &both];
    for (args, url) in [(&["-vv"][..], url), (&json, None), (&both, None)] {
        let mut program = Running::start(args, url);
        let (_, endpoint) = program.listening();
        test(program, endpoint);
    }
}

#[test]
fn a_log_that_nobody_reads_stops_neither_traffic_nor_the_end() {
    each_logger(|program, endpoint| {
        ping(&endpoint);
        program.signal("TERM");
        let Running { out, end, leash: _leash, .. } = program;
        assert_eq!(end.join().expect("the program's end"), Some(0));
        drop(out); // open until now, and not read
    });
}

/// The lines of the log about clients, each without what stands before the text.
fn lines_about<'a>(out: &'a str, what: &str) -> Vec<&'a str> {
    let lines = out.lines().filter(|line| line.contains(what));
    lines.map(|line| line.split_once("client ").map_or(line, |(_, text)| text)).collect()
}

#[test]
fn each_client_that_comes_and_goes_is_a_line_and_a_flood_of_them_is_a_number() {
    let mut program = Running::start(&[], Some("tcp://127.0.0.1:0"));
    let (_, endpoint) = program.listening();
    let mut one = connect(&endpoint);
    one.write_all(b"\xE0\x00").expect("DISCONNECT");
    assert_eq!(one.read(&mut [0; 9]).expect("the end"), 0);
    let address = endpoint.trim_start_matches("tcp://");
    let mut flood: Vec<_> =
        (0..200).map(|_| TcpStream::connect(address).expect("a listener")).collect();
    for (number, client) in flood.iter_mut().enumerate() {
        let id = format!("{number:04}");
        client
            .write_all(
                &[&b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04"[..], id.as_bytes()].concat(),
            )
            .expect("CONNECT");
    }
    // The number comes with a tick after the second is over.
    let mut out = String::new();
    while !out.contains(" more clients connected or disconnected in the last second") {
        assert_ne!(program.out.read_line(&mut out).expect("UTF-8"), 0, "the log ended: {out}");
    }
    program.signal("TERM");
    out.push_str(&program.end().out);
    let came = lines_about(&out, " connected from ");
    let went = lines_about(&out, " disconnected: ");
    assert!(came[0].contains("from 127.0.0.1:") && came[0].contains("(MQTT 3.1.1, "), "{out}");
    assert!(went[0].ends_with("disconnected: DISCONNECT by the Client (0x00 Success)"), "{out}");
    assert!(came.len() < 201, "{out}");
}

#[test]
fn what_was_lost_is_told_when_the_log_is_read_again() {
    each_logger(|mut program, endpoint| {
        ping(&endpoint);
        let mut line = String::new();
        while !line.contains(" lines were lost") {
            line.clear();
            assert_ne!(program.out.read_line(&mut line).expect("UTF-8"), 0, "the log ended");
        }
        drop(connect(&endpoint));
        program.signal("TERM");
        let ended = program.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out.contains("stopping"), "{ended:?}");
    });
}
