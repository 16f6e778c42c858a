//! What the program tells systemd, or whatever has set NOTIFY_SOCKET.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use super::{HANGS, Running, directory};

fn told(socket: &UnixDatagram) -> String {
    let mut buf = [0; 1024];
    let read = socket.recv(&mut buf).expect("a message in time");
    String::from_utf8(buf[..read].to_vec()).expect("UTF-8")
}

/// The next message with such a line; others may come before it.
fn until(socket: &UnixDatagram, line: &str) -> String {
    loop {
        let text = told(socket);
        if text.lines().any(|found| found == line) {
            return text;
        }
    }
}

#[test]
fn readiness_the_watchdog_and_the_stop_are_told() {
    let path = directory("systemd").join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(HANGS)).expect("a deadline");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hrotti"));
    command.env("HROTTI_URL", "tcp://127.0.0.1:0").env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    let mut running = Running::launch(command);
    running.listening();
    let ready = until(&socket, "READY=1");
    assert!(ready.contains("STATUS=serving 0 connections on 1 listeners; 0 Sessions"), "{ready:?}");
    for _ in 0..3 {
        until(&socket, "WATCHDOG=1");
    }
    running.signal("TERM");
    until(&socket, "STOPPING=1");
    assert_eq!(running.end().code, Some(0));
}
