//! What the program tells systemd, or whatever has set NOTIFY_SOCKET.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Instant;

use super::{CONNACK, CONNECT, HANGS, Running, directory, file};

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

/// Runs the program as a socket unit does, with sockets of these names.
fn activated(sockets: &[&str], names: &str, conf: &str) -> Option<Command> {
    let mut command = Command::new("systemd-socket-activate");
    if command.arg("--version").output().is_err() {
        eprintln!("NOT RUN: systemd-socket-activate is not installed");
        return None;
    }
    let mut command = Command::new("systemd-socket-activate");
    command.args(sockets.iter().flat_map(|socket| ["-l", *socket]));
    command.args(["--fdname", names, env!("CARGO_BIN_EXE_hrotti"), "-conf", conf]);
    command.env_remove("NOTIFY_SOCKET");
    Some(command)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its address").port()
}

#[test]
fn sockets_of_systemd_become_the_listeners_of_their_names() {
    let path = directory("activation").join("unix.sock");
    let unix = path.display();
    let listeners = format!(
        r#"{{"listeners": {{"tcp": {{"url": "tcp://127.0.0.1:0"}}, "ws": {{"url": "ws://127.0.0.1:0/mqtt"}},
            "unix": {{"url": "unix://{unix}"}}}}}}"#
    );
    let conf = file("activation.json", listeners);
    let [tcp, ws] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let sockets = [ws.as_str(), &tcp, &unix.to_string()];
    let Some(command) = activated(&sockets, "ws:tcp:unix", &conf) else { return };
    let mut running = Running::launch(command);
    // The program starts with the first peer, who waits for it.
    let mut client = until_connected(&tcp);
    client.write_all(CONNECT).expect("CONNECT");
    let endpoints: Vec<_> = (0..3).map(|_| running.listening()).collect();
    let expected = [
        ("tcp".to_owned(), format!("tcp://{tcp}")),
        ("ws".to_owned(), format!("ws://{ws}/mqtt")),
        ("unix".to_owned(), format!("unix://{unix}")),
    ];
    assert_eq!(endpoints, expected);
    let mut answer = [0; 4];
    client.read_exact(&mut answer).expect("CONNACK");
    assert_eq!(answer, CONNACK);
    running.signal("TERM");
    assert_eq!(running.end().code, Some(0));
    assert!(path.exists(), "the file belongs to systemd");
}

#[test]
fn a_socket_of_no_listener_is_refused_with_the_remedy() {
    let listeners =
        r#"{"listeners": {"a": {"url": "tcp://127.0.0.1:0"}, "b": {"url": "tcp://127.0.0.1:0"}}}"#;
    let conf = file("activation-name.json", listeners);
    let address = format!("127.0.0.1:{}", free_port());
    let Some(command) = activated(&[&address], "c", &conf) else { return };
    let running = Running::launch(command);
    let peer = until_connected(&address);
    let ended = running.end();
    drop(peer);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in ["\"c\"", "FileDescriptorName=", "one of a, b"] {
        assert!(ended.err.contains(part), "{part}: {ended:?}");
    }
}

fn until_connected(address: &str) -> TcpStream {
    let late = Instant::now() + HANGS;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < late, "{address}: {error}"),
        }
        std::thread::yield_now();
    }
}
