//! Listeners that are started, stopped, moved and bound anew.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use crate::house::{House, free_port};
use crate::peer::{DEADLINE, Peer, connect_packet, in_time};

fn one(url: &str) -> String {
    format!(r#""listeners": {{"a": {{"url": "{url}"}}}}"#)
}

/// The status line of the answer to a WebSocket handshake with this path.
fn upgrade(address: &str, path: &str, origin: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: {origin}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    String::from_utf8_lossy(&status).into_owned()
}

#[test]
fn another_scheme_or_path_at_the_same_address_takes_the_sockets_over() {
    let port = free_port();
    let house = House::start(&one(&format!("tcp://127.0.0.1:{port}")));
    let mut client = house.connect("a", "c");
    // Nobody is refused between the two: the socket never closes.
    let waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let lines = house.reload(&one(&format!("ws://127.0.0.1:{port}/mqtt"))).unwrap();
    let expected = format!(
        "~ listeners.a.url tcp://127.0.0.1:{port} -> ws://127.0.0.1:{port}/mqtt (the listener is bound anew)"
    );
    assert_eq!(lines, [expected]);
    client.expect_closed();
    drop(waiting);
    assert_eq!(house.endpoint("a"), format!("ws://127.0.0.1:{port}/mqtt"));
    let address = house.address("a");
    assert_eq!(upgrade(&address, "/mqtt", "http://x"), "HTTP/1.1 101");
    house.reload(&one(&format!("ws://127.0.0.1:{port}/other"))).unwrap();
    assert_eq!(upgrade(&address, "/mqtt", "http://x"), "HTTP/1.1 404");
    assert_eq!(upgrade(&address, "/other", "http://x"), "HTTP/1.1 101");
}

#[test]
fn other_origins_hold_for_new_handshakes_and_connections_stay() {
    let text = |more: &str| {
        format!(
            r#""listeners": {{"t": {{"url": "tcp://127.0.0.1:0"}}, "w": {{"url": "ws://127.0.0.1:0/"{more}}}}}"#
        )
    };
    let house = House::start(&text(""));
    let address = house.address("w");
    assert_eq!(upgrade(&address, "/", "http://x"), "HTTP/1.1 101");
    for _ in 0..3 {
        house.reload(&text(r#", "origins": ["http://y"]"#)).unwrap();
        assert_eq!(house.address("w"), address);
        assert_eq!(upgrade(&address, "/", "http://x"), "HTTP/1.1 403");
        assert_eq!(upgrade(&address, "/", "http://y"), "HTTP/1.1 101");
        house.reload(&text("")).unwrap();
        assert_eq!(upgrade(&address, "/", "http://x"), "HTTP/1.1 101");
    }
}

#[test]
fn listeners_exchange_their_addresses_and_their_names() {
    let (p, q) = (free_port(), free_port());
    let two = |a: u16, b: u16| {
        format!(
            r#""listeners": {{"a": {{"url": "tcp://127.0.0.1:{a}"}}, "b": {{"url": "tcp://127.0.0.1:{b}"}}}}"#
        )
    };
    let house = House::start(&two(p, q));
    let mut client = house.connect("a", "c");
    house.reload(&two(q, p)).unwrap();
    client.expect_closed();
    assert_eq!(house.endpoint("a"), format!("tcp://127.0.0.1:{q}"));
    house.connect("a", "c").ping();
    house.connect("b", "d").ping();
    // Another name for the same address.
    let renamed = format!(r#""listeners": {{"z": {{"url": "tcp://127.0.0.1:{p}"}}}}"#);
    let lines = house.reload(&renamed).unwrap();
    let expected = [
        format!("- listener a tcp://127.0.0.1:{q}"),
        format!("- listener b tcp://127.0.0.1:{p}"),
        format!("+ listener z tcp://127.0.0.1:{p}"),
    ];
    assert_eq!(lines, expected);
    house.connect("z", "e").ping();
    assert!(TcpStream::connect(("127.0.0.1", q)).is_err(), "its address is free");
}

#[test]
fn a_listener_moves_to_an_address_that_overlaps_with_its_own() {
    let port = free_port();
    let house = House::start(&one(&format!("tcp://127.0.0.1:{port}")));
    let mut client = house.connect("a", "c");
    house.reload(&one(&format!("tcp://0.0.0.0:{port}"))).unwrap();
    client.expect_closed();
    assert_eq!(house.endpoint("a"), format!("tcp://0.0.0.0:{port}"));
    house.connect("a", "d").ping();
    house.reload(&one(&format!("tcp://127.0.0.1:{port}"))).unwrap();
    house.connect("a", "e").ping();
}

#[test]
fn a_listener_is_stopped_and_started_and_stays_listed() {
    let port = free_port();
    let text = one(&format!("tcp://127.0.0.1:{port}"));
    let more = format!("{text}, \"maxQueueDepth\": 7");
    let house = House::start(&text);
    let mut client = house.connect("a", "c");
    in_time(house.server.stop_listener("a")).unwrap();
    client.expect_closed();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "its address is free");
    let listed = &house.server.listeners()[0];
    assert_eq!((listed.running, listed.endpoints.len(), listed.connections), (false, 0, 0));
    let again = in_time(house.server.stop_listener("a")).unwrap_err();
    assert!(again.to_string().contains("stopped already"), "{again}");
    house.reload(&more).unwrap();
    assert!(!house.server.listeners()[0].running, "a reload starts no listener that was stopped");
    in_time(house.server.start_listener("a")).unwrap();
    assert!(house.server.listeners()[0].running);
    house.connect("a", "c").ping();
    let again = in_time(house.server.start_listener("a")).unwrap_err();
    assert!(again.to_string().contains("runs already"), "{again}");
    for unknown in [
        in_time(house.server.start_listener("b")).unwrap_err(),
        in_time(house.server.stop_listener("b")).unwrap_err(),
    ] {
        assert!(unknown.to_string().contains("there is none of this name"), "{unknown}");
    }
    house.reload(&text).unwrap();
    house.connect("a", "d").ping();
}

#[test]
fn a_unix_socket_gets_other_permissions_and_keeps_its_connections() {
    let house = House::start(&one("tcp://127.0.0.1:0"));
    let path = house.directory.join("s");
    let text = |mode: &str| {
        format!(r#""listeners": {{"a": {{"url": "unix://{}", "mode": "{mode}"}}}}"#, path.display())
    };
    house.reload(&text("600")).unwrap();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let connect = |id: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(&connect_packet(id)).unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        stream
    };
    let mut client = connect("c");
    assert_eq!(mode(), 0o600);
    house.reload(&text("660")).unwrap();
    assert_eq!(mode(), 0o660);
    let mut answer = [0; 2];
    for mut stream in [connect("d"), client.try_clone().unwrap()] {
        stream.write_all(&[0xC0, 0]).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0xD0, 0]);
    }
    assert_eq!(
        std::fs::read_dir(&house.directory).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    // Nobody may be its owner: the old one stays.
    let nobody = text("600").replace("\"mode\"", "\"owner\": \"no-such-user\", \"mode\"");
    assert!(house.reload(&nobody).unwrap_err().to_string().contains("no-such-user"));
    assert_eq!(mode(), 0o660);
    assert_eq!(std::fs::read_dir(&house.directory).unwrap().count(), 1);
    client.write_all(&[0xC0, 0]).unwrap();
    client.read_exact(&mut answer).unwrap();
    house.reload(&one("tcp://127.0.0.1:0")).unwrap();
    assert!(!path.exists());
    Peer::connect(&format!("tcp://{}", house.address("a")), "e").ping();
}
