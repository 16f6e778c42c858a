//! The process is stopped for longer than every deadline of its Clients (SIGSTOP, a suspended machine, a frozen
//! container): what they sent meanwhile is read before a deadline strikes.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{CONNACK, CONNECT, HANGS, Running, connect, file};

/// Longer than the deadlines of [`stopped_for_longer_than_every_deadline`].
const STOPPED: Duration = Duration::from_secs(4);

/// CONNECT with Keep Alive 2 and an empty Client Identifier, and the first byte of what accepts it.
const CONNECT_311: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x02\x00\x00";
const CONNECT_5: &[u8] = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x02\x00\x00\x00";

/// PUBLISH of QoS 1 as 3.1.1 has it, and PUBACK.
const PUBLISH: &[u8] = b"\x32\x06\x00\x01t\x00\x01x";
const PUBACK: &[u8] = b"\x40\x02\x00\x01";

const PINGREQ: &[u8] = b"\xc0\x00";
const PINGRESP: &[u8] = b"\xd0\x00";

fn dial(endpoint: &str) -> TcpStream {
    let address = endpoint.strip_prefix("tcp://").expect(endpoint);
    let client = TcpStream::connect(address).expect("a listener");
    client.set_read_timeout(Some(HANGS)).expect("a deadline");
    client
}

/// A Client of that CONNECT that was accepted.
fn accepted(endpoint: &str, connect: &[u8]) -> TcpStream {
    let mut client = dial(endpoint);
    client.write_all(connect).expect("CONNECT");
    let mut head = [0; 2];
    client.read_exact(&mut head).expect("CONNACK");
    assert_eq!(head[0], CONNACK[0]);
    let mut rest = vec![0; head[1].into()];
    client.read_exact(&mut rest).expect("the rest of CONNACK");
    assert_eq!(rest[1], 0, "accepted");
    client
}

fn expect(client: &mut TcpStream, answer: &[u8], what: &str) {
    let mut got = vec![0; answer.len()];
    client.read_exact(&mut got).expect(what);
    assert_eq!(got, answer, "{what}");
}

/// Waits until no thread of the process runs: a signal is on its way for a moment.
fn until_stopped(pid: u32) {
    let late = Instant::now() + HANGS;
    let stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = || fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    while !tasks().all(stopped) {
        assert!(Instant::now() < late, "it does not stop");
        std::thread::yield_now();
    }
}

/// MQTT-3.1.2-22, `limits.packetTimeoutSecs` and `limits.connectTimeoutSecs`.
fn stopped_for_longer_than_every_deadline(workers: usize) {
    let path = file(
        &format!("stopped-{workers}.json"),
        format!(
            r#"{{"listeners": {{"tcp": {{"url": "tcp://127.0.0.1:0"}}}}, "workers": {workers},
                "limits": {{"packetTimeoutSecs": 2, "connectTimeoutSecs": 2}}}}"#
        ),
    );
    let mut program = Running::start(&["-conf", &path], None);
    let (_, endpoint) = program.listening();
    // Its Keep Alive is 60 s, and half of a packet is there: the time for the packet runs.
    let mut halfway = connect(&endpoint);
    let mut silent = dial(&endpoint);
    let mut asking = dial(&endpoint);
    let mut pinging: Vec<_> = [CONNECT_311, CONNECT_5, CONNECT_311, CONNECT_5]
        .map(|connect| accepted(&endpoint, connect))
        .into();
    halfway.write_all(&PUBLISH[..4]).expect("half of PUBLISH");
    asking.write_all(CONNECT).expect("CONNECT just before the stop");
    program.signal("STOP");
    until_stopped(program.pid);

    for client in &mut pinging {
        client.write_all(PINGREQ).expect("PINGREQ");
    }
    halfway.write_all(&PUBLISH[4..]).expect("the rest of PUBLISH");
    silent.write_all(CONNECT).expect("CONNECT while it is stopped");
    // Nothing can come from a process that is stopped: this waits.
    pinging[0].set_read_timeout(Some(STOPPED)).expect("a deadline");
    let nothing = pinging[0].read(&mut [0]).expect_err("stopped before PINGREQ was sent");
    assert!(matches!(nothing.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    pinging[0].set_read_timeout(Some(HANGS)).expect("a deadline");
    program.signal("CONT");

    for (index, client) in pinging.iter_mut().enumerate() {
        expect(client, PINGRESP, &format!("PINGRESP {index}, {workers} workers"));
    }
    expect(&mut halfway, PUBACK, "PUBACK");
    expect(&mut silent, CONNACK, "CONNACK of the CONNECT sent while it was stopped");
    expect(&mut asking, CONNACK, "CONNACK of the CONNECT sent before");
    for client in pinging.iter_mut().chain([&mut halfway, &mut silent, &mut asking]) {
        client.write_all(PINGREQ).expect("PINGREQ");
        expect(client, PINGRESP, "PINGRESP afterwards");
    }
    program.signal("TERM");
    let ended = program.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
}

#[test]
fn the_time_of_a_stopped_process_is_not_the_clients() {
    stopped_for_longer_than_every_deadline(1);
}

#[test]
fn the_time_of_a_stopped_process_is_not_the_clients_with_two_workers() {
    stopped_for_longer_than_every_deadline(2);
}
