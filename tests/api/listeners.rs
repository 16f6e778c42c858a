//! `add_listener`, `add_transport`, `stop_listener`, `listeners`.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::transport::memory::MemoryTransport;
use hrotti::{Broker, ListenerConfig, ListenerError};

use crate::peer::{ANY, Peer, block_on, connect_packet, in_time, listen};

/// The original's sample program: a broker, a listener, clients, the listener stopped.
#[test]
fn sample_program() {
    let broker = Broker::new(100);
    let config = ListenerConfig::new(ANY).unwrap();
    let endpoint = block_on(broker.add_listener("test", config)).unwrap();
    let mut sub = Peer::connect(&endpoint, "sub");
    sub.subscribe("a/b", 0);
    let mut publisher = Peer::connect(&endpoint, "pub");
    publisher.publish("a/b", "hello", 0, 0);
    assert_eq!(sub.packet(), b"\x30\x0A\x00\x03a/bhello");
    in_time(broker.stop_listener("test")).unwrap();
    sub.expect_closed();
    publisher.expect_closed();
}

#[test]
fn port_0_is_really_bound() {
    let broker = Broker::new(100);
    let one = listen(&broker, "one");
    let two = listen(&broker, "two");
    assert_ne!(one, two);
    assert!(!one.ends_with(":0"));
    Peer::connect(&one, "a").ping();
    Peer::connect(&two, "b").ping();
}

#[test]
fn listeners_are_listed() {
    let broker = Broker::new(100);
    assert!(broker.listeners().is_empty());
    let one = listen(&broker, "one");
    let two = listen(&broker, "two");
    let mut peer = Peer::connect(&two, "a");
    peer.ping();
    let mut found: Vec<_> =
        broker.listeners().into_iter().map(|l| (l.name, l.endpoint, l.connections)).collect();
    found.sort();
    assert_eq!(found, [("one".into(), one, 0), ("two".into(), two, 1)]);
}

#[test]
fn an_unknown_name_is_an_error() {
    let broker = Broker::new(100);
    listen(&broker, "known");
    match in_time(broker.stop_listener("unknown")) {
        Err(ListenerError::Unknown(name)) => assert_eq!(name, "unknown"),
        other => panic!("{other:?}"),
    }
    in_time(broker.stop_listener("known")).unwrap();
    assert!(matches!(in_time(broker.stop_listener("known")), Err(ListenerError::Unknown(_))));
}

#[test]
fn a_name_is_used_once() {
    let broker = Broker::new(100);
    let first = listen(&broker, "same");
    let again = in_time(broker.add_listener("same", ListenerConfig::new(ANY).unwrap()));
    assert!(matches!(again, Err(ListenerError::NameInUse(name)) if name == "same"));
    let (transport, _connector) = MemoryTransport::new("m", MemoryTransport::DEFAULT_CAPACITY);
    let again = in_time(broker.add_transport("same", transport));
    assert!(matches!(again, Err(ListenerError::NameInUse(name)) if name == "same"));
    Peer::connect(&first, "a").ping();
    assert_eq!(broker.listeners().len(), 1);
}

#[test]
fn an_address_in_use_is_an_error_and_changes_nothing() {
    let broker = Broker::new(100);
    let first = listen(&broker, "one");
    let config = ListenerConfig::new(&first).unwrap();
    match in_time(broker.add_listener("two", config)) {
        Err(ListenerError::Bind { url, .. }) => {
            assert!(first.starts_with(url.trim_end_matches('/')));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(broker.listeners().len(), 1);
    // The name was not taken either.
    listen(&broker, "two");
    Peer::connect(&first, "a").ping();
}

#[test]
fn the_address_is_free_again() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "one");
    let mut peer = Peer::connect(&endpoint, "a");
    in_time(broker.stop_listener("one")).unwrap();
    peer.expect_closed();
    let config = ListenerConfig::new(&endpoint).unwrap();
    assert_eq!(in_time(broker.add_listener("one", config)).unwrap(), endpoint);
    Peer::connect(&endpoint, "a").ping();
}

#[test]
fn only_that_listeners_clients_are_disconnected() {
    let broker = Broker::new(100);
    let one = listen(&broker, "one");
    let two = listen(&broker, "two");
    let mut gone: Vec<Peer> = (0..5).map(|i| Peer::connect(&one, &format!("a{i}"))).collect();
    let mut kept: Vec<Peer> = (0..5).map(|i| Peer::connect(&two, &format!("b{i}"))).collect();
    in_time(broker.stop_listener("one")).unwrap();
    for peer in &mut gone {
        peer.expect_closed();
    }
    for peer in &mut kept {
        peer.ping();
    }
    Peer::connect(&two, "c").ping();
}

#[test]
fn all_listeners_share_one_topic_tree() {
    let broker = Broker::new(100);
    let one = listen(&broker, "one");
    let two = listen(&broker, "two");
    let mut sub = Peer::connect(&one, "sub");
    sub.subscribe("t", 0);
    Peer::connect(&two, "pub").publish("t", "x", 0, 0);
    assert_eq!(sub.packet(), b"\x30\x04\x00\x01tx");
}

#[test]
fn a_peer_that_says_nothing_holds_up_nobody() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "one");
    let silent: Vec<Peer> = (0..20).map(|_| Peer::dial(&endpoint)).collect();
    Peer::connect(&endpoint, "a").ping();
    in_time(broker.stop_listener("one")).unwrap();
    for mut peer in silent {
        peer.expect_closed();
    }
}

#[test]
fn a_memory_transport_is_a_listener_like_others() {
    let broker = Broker::new(100);
    let (transport, connector) = MemoryTransport::new("inside", MemoryTransport::DEFAULT_CAPACITY);
    assert_eq!(block_on(broker.add_transport("m", transport)).unwrap(), "memory://inside");
    in_time(async {
        let mut stream = connector.connect().unwrap();
        stream.write_all(&connect_packet("a")).await.unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await.unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        broker.stop_listener("m").await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    });
    assert!(connector.connect().is_err());
}
