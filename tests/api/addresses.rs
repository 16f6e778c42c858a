//! Listeners whose host is more than one address, and hosts that are written in several ways.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};

use hrotti::{Broker, ListenerConfig, ListenerError};

use crate::peer::{DEADLINE, Peer, in_time};

fn listen(broker: &Broker, name: &str, url: &str) -> String {
    in_time(broker.add_listener(name, ListenerConfig::new(url).unwrap())).expect(url)
}

/// The port of an endpoint `tcp://ADDRESS:PORT` or `ws://ADDRESS:PORT/PATH`.
fn port(endpoint: &str) -> u16 {
    let address = endpoint.split('/').nth(2).unwrap();
    address.parse::<SocketAddr>().unwrap().port()
}

/// Addresses of loopback, one for each family that this machine has.
fn loopback(port: u16) -> Vec<SocketAddr> {
    let both = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()];
    let here = |address: &SocketAddr| TcpListener::bind((address.ip(), 0)).is_ok();
    let here: Vec<_> = both.into_iter().filter(here).collect();
    assert!(!here.is_empty());
    here
}

fn serves(address: SocketAddr) {
    let mut peer = Peer::connect(&address.to_string(), &format!("at {}", address.ip()));
    peer.ping();
}

#[test]
fn no_host_and_a_star_are_every_interface_of_both_families() {
    for url in ["tcp://:0", "tcp://*:0", "mqtt://:0", "mqtt://*:0"] {
        let broker = Broker::new(100);
        let endpoint = listen(&broker, "every", url);
        assert_eq!(broker.listeners()[0].endpoint, endpoint);
        for address in loopback(port(&endpoint)) {
            serves(address);
        }
        // Its own endpoint is one that a Client can use.
        serves(endpoint.trim_start_matches("tcp://").parse().unwrap());
    }
}

#[test]
fn every_interface_is_one_listener_and_frees_both_families() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "every", "tcp://*:0");
    let mut peers: Vec<Peer> = loopback(port(&endpoint))
        .into_iter()
        .map(|address| Peer::connect(&address.to_string(), &address.ip().to_string()))
        .collect();
    assert_eq!(broker.listeners()[0].connections, peers.len());
    in_time(broker.stop_listener("every")).unwrap();
    for peer in &mut peers {
        peer.expect_closed();
    }
    let again = format!("tcp://*:{}", port(&endpoint));
    assert_eq!(listen(&broker, "again", &again), endpoint);
}

#[test]
fn a_name_is_every_address_that_it_has() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "name", "tcp://localhost:0");
    let found = ("localhost", port(&endpoint)).to_socket_addrs().unwrap();
    for address in found.filter(|address| loopback(0).iter().any(|a| a.ip() == address.ip())) {
        serves(address);
    }
}

/// The link-local addresses of this machine with their interfaces.
#[cfg(target_os = "linux")]
fn link_local() -> Vec<(Ipv6Addr, String)> {
    let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let of_line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let address = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
        Some((address, (*fields.get(5)?).to_owned()))
    };
    let all = text.lines().filter_map(of_line);
    all.filter(|(address, _)| address.is_unicast_link_local()).collect()
}

/// mosquitto's issue 2696.
#[test]
#[cfg(target_os = "linux")]
fn a_link_local_address_is_bound_at_its_interface() {
    for (address, interface) in link_local() {
        for url in [
            format!("tcp://[{address}%25{interface}]:0"),
            format!("tcp://[{address}%{interface}]:0"),
        ] {
            let broker = Broker::new(100);
            let endpoint = listen(&broker, "link", &url);
            let at = endpoint.trim_start_matches("tcp://").parse::<SocketAddr>().unwrap();
            assert!(at.ip() == address && endpoint.contains('%'), "{endpoint}");
            serves(at);
        }
    }
}

#[test]
fn mqtt_is_another_name_of_tcp() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "mqtt", "mqtt://127.0.0.1:0");
    assert!(endpoint.starts_with("tcp://127.0.0.1:"), "{endpoint}");
    Peer::connect(&endpoint, "a").ping();
}

#[test]
fn a_websocket_listener_may_be_on_every_interface() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "ws", "ws://*:0/mqtt");
    assert!(endpoint.ends_with("/mqtt"), "{endpoint}");
    for address in loopback(port(&endpoint)) {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        peer.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101", "{address}");
    }
}

#[test]
fn the_families_share_a_port() {
    if loopback(0).len() < 2 {
        return; // this machine has one family alone
    }
    let broker = Broker::new(100);
    let four = listen(&broker, "four", "tcp://0.0.0.0:0");
    let six = listen(&broker, "six", &format!("tcp://[::]:{}", port(&four)));
    assert_eq!(port(&four), port(&six));
    let [ipv4, ipv6] = loopback(port(&four)).try_into().unwrap();
    let connections = || -> Vec<_> { broker.listeners().iter().map(|l| l.connections).collect() };
    let mut first = Peer::connect(&ipv4.to_string(), "4");
    assert_eq!(connections(), [1, 0]);
    let mut second = Peer::connect(&ipv6.to_string(), "6");
    assert_eq!(connections(), [1, 1]);
    first.ping();
    second.ping();
}

#[test]
fn an_address_in_use_leaves_none_of_the_others_bound() {
    let broker = Broker::new(100);
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let config = ListenerConfig::new(&format!("tcp://*:{port}")).unwrap();
    match in_time(broker.add_listener("every", config)) {
        Err(ListenerError::Bind { url, source }) => {
            assert_eq!(url, format!("tcp://*:{port}"));
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
            assert!(source.to_string().contains(&format!("0.0.0.0:{port}")), "{source}");
        }
        other => panic!("{other:?}"),
    }
    for address in loopback(port).iter().filter(|address| address.is_ipv6()) {
        assert!(TcpListener::bind(address).is_ok(), "{address} is free");
    }
}
