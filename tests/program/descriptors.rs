//! Few file descriptors: the program says what is missing, or serves as many connections as there is room for.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use super::{CONNACK, CONNECT, HANGS, Running, connect, file};

/// The program under a limit of descriptors, soft and hard.
fn limited(limit: usize, args: &str, url: &str) -> Running {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_hrotti");
    command.args(["-c", &format!("ulimit -n {limit} && exec \"{program}\" {args}")]);
    command.env("HROTTI_URL", url);
    Running::launch(command)
}

#[test]
fn every_small_limit_ends_in_service_or_in_an_error_that_names_descriptors() {
    let mut served = 0;
    for limit in 3..=64 {
        let mut program = limited(limit, "", "tcp://127.0.0.1:0");
        let first = program.out.fill_buf().expect("the standard output").is_empty();
        if first {
            let ended = program.end();
            if limit == 3 && ended.err.contains("shared object") {
                continue; // not even the system's loader can open a file
            }
            assert_eq!((ended.code, served), (Some(1), 0), "{limit}: {ended:?}");
            assert!(ended.err.contains("file descriptors"), "{limit}: {ended:?}");
            assert_eq!(ended.err.lines().count(), 1, "{limit}: {ended:?}");
            continue;
        }
        let (_, endpoint) = program.listening();
        drop(connect(&endpoint));
        program.signal("TERM");
        let ended = program.end();
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{limit}: {ended:?}");
        served += 1;
    }
    assert!(served > 30, "{served}");
}

#[test]
fn workers_that_cannot_be_had_are_refused_before_anything_listens() {
    let path = file(
        "workers-200.json",
        r#"{"workers": 200, "listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}}}"#,
    );
    let ended = limited(256, &format!("-conf \"{path}\""), "").end();
    super::assert_refused(&ended, &["workers", "200", "file descriptors", "ulimit -n", "lower"]);
}

/// Whether the peer is accepted; else it was closed.
fn dial(endpoint: &str) -> Option<TcpStream> {
    let address = endpoint.strip_prefix("tcp://").expect(endpoint);
    let mut client = TcpStream::connect(address).expect("a listener");
    client.set_read_timeout(Some(HANGS)).expect("a deadline");
    // A peer that was closed already may not be written to any more.
    let _ = client.write_all(CONNECT);
    let mut answer = [0; 4];
    match client.read_exact(&mut answer) {
        Ok(()) => {
            assert_eq!(answer, CONNACK);
            Some(client)
        }
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "nobody told the peer");
            None
        }
    }
}

#[test]
fn a_peer_for_whom_no_descriptor_is_left_is_closed_at_once() {
    for ws in [false, true] {
        let other = if ws { r#", "ws": {"url": "ws://127.0.0.1:0"}"# } else { "" };
        let path = file(
            &format!("few-{ws}.json"),
            format!(r#"{{"listeners": {{"tcp": {{"url": "tcp://127.0.0.1:0"}}{other}}}}}"#),
        );
        let mut program = limited(40, &format!("-conf \"{path}\""), "");
        let (_, endpoint) = program.listening();
        let mut clients = Vec::new();
        while let Some(client) = dial(&endpoint) {
            clients.push(client);
        }
        assert!((5..40).contains(&clients.len()), "{}", clients.len());
        for _ in 0..20 {
            assert!(dial(&endpoint).is_none());
        }
        if ws {
            let (_, endpoint) = program.listening();
            let address = endpoint.strip_prefix("ws://").expect("a URL").trim_end_matches('/');
            let mut peer = TcpStream::connect(address).expect("a listener");
            peer.set_read_timeout(Some(HANGS)).expect("a deadline");
            assert_eq!(peer.read(&mut [0]).expect("the end"), 0);
        }
        let mut client = clients.pop().expect("one of them");
        client.write_all(b"\xC0\x00").expect("PINGREQ");
        let mut answer = [0; 2];
        client.read_exact(&mut answer).expect("PINGRESP");
        drop(clients);
        // Until the server has met the end of one of them.
        let again = (0..10_000).find_map(|_| dial(&endpoint));
        assert!(again.is_some());
        program.signal("TERM");
        let ended = program.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out.contains("no file descriptor is left"), "{ended:?}");
    }
}
