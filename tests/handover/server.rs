//! What else a server has goes over, too: the admin listener, sockets that a reload has changed, and those of systemd.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::{Client, subscribe};
use crate::process::{PATIENCE, Place, Program};

const TCP: &str = r#""tcp": { "url": "tcp://127.0.0.1:0" }"#;

/// The body of an answer of the admin listener.
fn ask(admin: &Path, route: &str) -> String {
    let mut stream = UnixStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {route} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

#[test]
fn the_admin_listener_is_at_its_address_after_each_hand_over() {
    let place = Place::new("admin");
    let admin = place.0.join("admin.sock");
    let more = format!(r#", "admin": {{ "url": "unix://{}" }}"#, admin.display());
    let config = place.configure_with(TCP, "", &more);
    let mut program = Program::start(&config);
    let address = program.address("tcp");
    program.line("admin: ");
    let mut client = Client::new(address, false, "subscriber");
    client.send(&subscribe("a/#", 1));
    assert_eq!(client.packet(PATIENCE).unwrap().0, 0x90);
    client.hang_up();
    for _ in 0..3 {
        // An event stream that is open must not hold the old process.
        let mut stream = UnixStream::connect(&admin).unwrap();
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut next = Program::start(&config);
        assert_eq!(next.address("tcp"), address);
        assert!(next.line("admin: ").contains("admin.sock"));
        let old = std::mem::replace(&mut program, next);
        let (code, err) = old.end();
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let status = ask(&admin, "/api/v1/status");
        assert!(status.contains(r#""sessions":1"#), "the Session is here: {status}");
        assert!(ask(&admin, "/metrics").contains("hrotti_messages_handed_over_total 0\n"));
    }
}

#[test]
fn an_admin_listener_that_cannot_be_bound_does_not_end_what_has_taken_over() {
    let place = Place::new("no-admin");
    let mut program = Program::start(&place.configure(TCP, ""));
    let address = program.address("tcp");
    let more = format!(r#", "admin": {{ "url": "unix://{}" }}"#, place.0.join("no/such").display());
    let mut next = Program::start(&place.configure_with(TCP, "", &more));
    assert_eq!(next.address("tcp"), address);
    next.says("no admin listener runs");
    assert_eq!(program.end().0, Some(0));
    assert!(Client::new(address, false, "x").wire().1);
    assert!(next.is_running());
}

/// A reload exchanges the transports of listeners, and binds Unix sockets under another name first.
#[test]
fn sockets_go_over_that_a_reload_has_changed() {
    let place = Place::new("reloaded");
    let unix = place.0.join("mqtt.sock");
    let listeners = |mode: &str, origin: &str| {
        format!(
            r#"{TCP}, "unix": {{ "url": "unix://{}", "mode": "{mode}" }},
            "ws": {{ "url": "ws://127.0.0.1:0/mqtt", "origins": ["https://{origin}"] }}"#,
            unix.display()
        )
    };
    let mut program = Program::start(&place.configure(&listeners("600", "a.example"), ""));
    let tcp = program.address("tcp");
    program.says("listening: unix ");
    let ws = program.address("ws");
    for (mode, origin) in [("660", "b.example"), ("600", "c.example")] {
        let config = place.configure(&listeners(mode, origin), "");
        program.reload();
        let mut next = Program::start(&config);
        assert_eq!(next.address("tcp"), tcp);
        assert!(next.line("listening: unix ").ends_with("/mqtt.sock"));
        assert_eq!(next.address("ws"), ws);
        let old = std::mem::replace(&mut program, next);
        let (code, err) = old.end();
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(UnixStream::connect(&unix).is_ok(), "its file is still there, and it listens");
    }
}

/// The lines that a process has sent to systemd until `last` is among them.
fn told(systemd: &UnixDatagram, last: &str) -> Vec<String> {
    let (mut lines, until) = (Vec::<String>::new(), Instant::now() + PATIENCE);
    while !lines.iter().any(|line| line == last) {
        assert!(Instant::now() < until, "{lines:?}");
        let mut bytes = [0; 4096];
        let Ok(len) = systemd.recv(&mut bytes) else { continue };
        let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

#[test]
fn systemd_is_told_the_main_process_and_readiness_once_the_state_is_taken() {
    let place = Place::new("systemd");
    let systemd = UnixDatagram::bind(place.0.join("notify")).unwrap();
    systemd.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let config = place.configure(TCP, "");
    let start = || Program::start_with(&config, &[("NOTIFY_SOCKET", place.0.join("notify"))]);
    let mut first = start();
    first.address("tcp");
    let lines = told(&systemd, "READY=1");
    assert!(!lines.iter().any(|line| line.starts_with("MAINPID=")), "{lines:?}");
    let mut second = start();
    second.address("tcp");
    let main = format!("MAINPID={}", second.id());
    let lines = told(&systemd, "READY=1");
    assert!(lines.contains(&main), "{lines:?}");
    assert_eq!(first.end().0, Some(0));
}
