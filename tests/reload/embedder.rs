//! A server whose broker has listeners that the program adds and stops itself, and sockets of others.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

use hrotti::server::{Adopted, Loaded, Server};
use hrotti::{ListenerConfig, ListeningSocket};

use crate::house::{House, config, directory, free_port};
use crate::peer::{DEADLINE, Peer, connect_packet, in_time};

const ONE: &str = r#""listeners": {"a": {"url": "tcp://127.0.0.1:0"}}"#;
const TWO: &str =
    r#""listeners": {"a": {"url": "tcp://127.0.0.1:0"}, "b": {"url": "tcp://127.0.0.1:0"}}"#;

/// Adds a listener as a program does, and returns its endpoint.
fn add(house: &House, name: &str) -> String {
    let config = ListenerConfig::new("tcp://127.0.0.1:0").unwrap();
    in_time(house.server.broker().add_listener(name, config)).unwrap()
}

#[test]
fn a_name_that_the_program_uses_itself_refuses_the_reload_before_any_effect() {
    let house = House::start(ONE);
    let own = add(&house, "b");
    let more = format!("{TWO}, \"maxQueueDepth\": 7");
    let refused = house.reload(&more).unwrap_err().to_string();
    assert!(refused.starts_with("listener b: the program has added a listener"), "{refused}");
    assert_ne!(house.server.broker().limits().max_queue_depth, 7);
    assert_eq!(house.server.listeners().len(), 1);
    Peer::connect(&own, "c").ping();
    in_time(house.server.broker().stop_listener("b")).unwrap();
    house.reload(&more).unwrap();
    house.connect("b", "d").ping();
}

#[test]
fn a_listener_that_the_program_stops_frees_its_address_and_can_be_started() {
    let port = free_port();
    let text = format!(r#""listeners": {{"a": {{"url": "tcp://127.0.0.1:{port}"}}}}"#);
    let house = House::start(&text);
    in_time(house.server.broker().stop_listener("a")).unwrap();
    drop(TcpListener::bind(("127.0.0.1", port)).expect("its address is free"));
    assert!(!house.server.listeners()[0].running);
    house.reload(&format!("{text}, \"maxQueueDepth\": 7")).unwrap();
    assert!(!house.server.listeners()[0].running, "a reload starts no listener that was stopped");
    in_time(house.server.start_listener("a")).unwrap();
    house.connect("a", "c").ping();
}

#[test]
fn a_listener_of_the_program_in_the_place_of_a_stopped_one_is_left_alone() {
    let house = House::start(TWO);
    in_time(house.server.stop_listener("b")).unwrap();
    let own = add(&house, "b");
    assert!(!house.server.listeners()[1].running, "it is not the server's");
    assert!(in_time(house.server.stop_listener("b")).is_err());
    house.reload(ONE).unwrap();
    Peer::connect(&own, "c").ping();
}

#[test]
fn the_sockets_of_a_transport_that_was_exchanged_are_handed_over() {
    let text = |origin: &str| {
        format!(
            r#""listeners": {{"w": {{"url": "ws://127.0.0.1:0/", "origins": ["http://{origin}"]}}}}"#
        )
    };
    let house = House::start(&text("x"));
    let address = house.address("w");
    house.reload(&text("y")).unwrap();
    let sockets = house.server.broker().listening_sockets().unwrap();
    let addresses: Vec<_> = sockets[0].1.iter().filter_map(ListeningSocket::address).collect();
    assert_eq!(addresses, [address.parse().unwrap()]);
}

/// Its port is the system's choice: bound anew, it would be another one.
#[test]
fn a_listener_gives_nothing_up_for_a_unix_socket_that_is_in_use() {
    let house = House::start(ONE);
    let old = house.endpoint("a");
    let path = house.directory.join("taken");
    let _taken = UnixListener::bind(&path).unwrap();
    let text = format!(r#""listeners": {{"u": {{"url": "unix://{}"}}}}"#, path.display());
    let refused = house.reload(&text).unwrap_err().to_string();
    assert!(refused.contains("cannot be bound"), "{refused}");
    Peer::connect(&old, "c").ping();
}

#[test]
fn the_socket_file_of_a_service_manager_outlives_reloads() {
    let directory = directory();
    let path = directory.join("s");
    let manager = UnixListener::bind(&path).unwrap();
    let inode = || std::fs::metadata(&path).map(|file| file.ino());
    let (before, mode) = (inode().unwrap(), std::fs::metadata(&path).unwrap().permissions().mode());
    let text = |more: &str| {
        config(&format!(r#""listeners": {{"u": {{"url": "unix://{}"{more}"#, path.display()))
    };
    let mut adopted = Adopted::keeping_files();
    adopted.add("u", ListeningSocket::Unix(manager.try_clone().unwrap()));
    let old = text("}}");
    let loaded = Loaded::read(&old, &directory).unwrap();
    let server = in_time(Server::start_with(old, loaded, &directory, adopted)).unwrap();
    for new in [r#"}}, "limits": {"tcpKeepAliveSecs": 77}"#, r#", "mode": "600"}}"#] {
        in_time(server.reload(text(new))).unwrap();
        assert_eq!(inode().unwrap(), before, "{new}");
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(&connect_packet("c")).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode(), mode);
    in_time(server.stop());
    assert_eq!(inode().unwrap(), before, "the file is the manager's");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_server_whose_broker_has_stopped_holds_no_address() {
    let port = free_port();
    let text = format!(r#""listeners": {{"a": {{"url": "tcp://127.0.0.1:{port}"}}}}"#);
    let house = House::start(&text);
    in_time(house.server.broker().stop());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    drop(TcpListener::bind(("127.0.0.1", port)).expect("its address is free"));
}
