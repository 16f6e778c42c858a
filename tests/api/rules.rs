//! The rules of a listener, as its peers meet them, over TCP and over WebSocket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use hrotti::access::{
    Answer, Authenticating, Ban, BanTarget, Bans, Chain, Credentials, Decision, Flapping, Identity,
    Policy, Refusal, Request, Rule,
};
use hrotti::{Broker, FilterReason, Limits, ListenerConfig, ListenerRules, Message};
use hrotti::{Network, ProtocolVersion, QoS};

use crate::peer::{DEADLINE, Peer, block_on, in_time};
use crate::raw::{Connect, packet, publish, publish_with, subscribe, text, until};

/// A listener with rules, at a free port of loopback.
fn listen(broker: &Broker, name: &str, change: impl FnOnce(&mut ListenerRules)) -> String {
    listen_at(broker, name, "tcp://127.0.0.1:0", change)
}

fn listen_at(
    broker: &Broker,
    name: &str,
    url: &str,
    change: impl FnOnce(&mut ListenerRules),
) -> String {
    let mut rules = ListenerRules::default();
    change(&mut rules);
    let config = ListenerConfig::new(url).unwrap().with_rules(rules);
    block_on(broker.add_listener(name, config)).unwrap()
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A WebSocket after its upgrade, or the first line of the response that refuses it.
fn upgrade(endpoint: &str, headers: &str) -> Result<TcpStream, String> {
    let address = endpoint.trim_start_matches("ws://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n{headers}\r\n"
    );
    // A peer that is not let in may be gone already.
    let _ = stream.write_all(request.as_bytes());
    let mut response = Vec::new();
    let mut byte = [0];
    while !response.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return Err(String::new());
        }
        response.push(byte[0]);
    }
    let line = String::from_utf8(response).unwrap().lines().next().unwrap().to_owned();
    if line.contains(" 101 ") { Ok(stream) } else { Err(line) }
}

/// Sends packets in one frame, with the key 0, and returns the payload of the next frame of the server.
fn exchange(stream: &mut TcpStream, packets: &[u8]) -> Vec<u8> {
    assert!(packets.len() < 126);
    let mut frame = vec![0x82, 0x80 | packets.len() as u8, 0, 0, 0, 0];
    frame.extend(packets);
    stream.write_all(&frame).unwrap();
    frame_of(stream)
}

fn frame_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert!(head[0] == 0x82 && head[1] < 126, "{head:x?}");
    let mut payload = vec![0; head[1].into()];
    stream.read_exact(&mut payload).unwrap();
    payload
}

// ---- Networks --------------------------------------------------------------------------------------

#[test]
fn peers_of_other_networks_are_closed_before_their_first_byte() {
    let broker = Broker::new(100);
    let allowed = listen(&broker, "allowed", |rules| {
        rules.networks_allowed = Some(networks(&["127.0.0.0/8"]));
    });
    let other = listen(&broker, "other", |rules| {
        rules.networks_allowed = Some(networks(&["10.0.0.0/8"]));
    });
    let denied = listen(&broker, "denied", |rules| {
        rules.networks_allowed = Some(networks(&["127.0.0.0/8"]));
        rules.networks_denied = networks(&["127.0.0.1"]);
    });
    let nobody = listen(&broker, "nobody", |rules| rules.networks_allowed = Some(Vec::new()));
    let ws = listen_at(&broker, "ws", "ws://127.0.0.1:0", |rules| {
        rules.networks_denied = networks(&["127.0.0.0/8"]);
    });
    Peer::connect(&allowed, "a").ping();
    for endpoint in [&other, &denied, &nobody] {
        Peer::dial(endpoint).expect_closed();
    }
    assert_eq!(upgrade(&ws, "").unwrap_err(), "");
    assert_eq!(broker.counters().networks_refused, 4);
}

// ---- CONNECT ---------------------------------------------------------------------------------------

#[test]
fn versions_that_are_not_served_get_0x84_and_return_code_1() {
    let broker = Broker::new(100);
    let served = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];
    let modern = listen(&broker, "modern", |rules| rules.versions = served.into_iter().collect());
    let old = listen(&broker, "old", |rules| {
        rules.versions = [ProtocolVersion::V3_1].into_iter().collect();
    });
    for (endpoint, version, code) in [
        (&modern, 3, 1),
        (&modern, 4, 0),
        (&modern, 5, 0),
        (&old, 3, 0),
        (&old, 4, 1),
        (&old, 5, 0x84),
    ] {
        let (mut peer, connack) = Connect::new(version, "a").send(endpoint);
        assert_eq!(connack[3], code, "{version}: {connack:x?}");
        if code != 0 {
            peer.expect_closed();
        }
    }
    assert_eq!(broker.counters().listener_rules_refused, 3);
}

#[test]
fn a_full_listener_refuses_with_0x97_and_lets_a_client_take_its_own_session_over() {
    let broker = Broker::new(100);
    let small = listen(&broker, "small", |rules| rules.connections_max = Some(1));
    let other = listen(&broker, "other", |_| {});
    let mut first = Connect::new(5, "a").accepted(&small);
    let mut elsewhere = Connect::new(5, "b").accepted(&other);
    assert_eq!(Connect::new(5, "c").send(&small).1[3], 0x97);
    assert_eq!(Connect::new(4, "c").send(&small).1[3], 3);
    // A takeover from another listener would be one connection more here.
    assert_eq!(Connect::new(5, "b").send(&small).1[3], 0x97);
    elsewhere.ping();
    let mut again = Connect::new(5, "a").accepted(&small);
    first.expect_disconnect(0x8E);
    again.ping();
    assert_eq!(broker.counters().listener_connections_refused, 3);
    again.vanish();
    until("the place is free again", || broker.counters().connections == 1);
    Connect::new(5, "c").accepted(&small).ping();
    let none = listen(&broker, "none", |rules| rules.connections_max = Some(0));
    assert_eq!(Connect::new(5, "d").send(&none).1[3], 0x97);
}

/// CONNECT of 3.1.1 with a User Name.
pub(crate) fn with_user(id: &str, user: &str) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([4, 0x82, 0, 0]);
    body.extend(text(id));
    body.extend(text(user));
    packet(0x10, &body)
}

/// Accepts Clients without a User Name where the listener says so, and all others.
struct AsTheListenerSays;

impl Policy for AsTheListenerSays {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let rule = Rule::named("a test");
        let allowed = shown.peer.listener_allows_anonymous() == Some(true);
        Box::pin(async move {
            if shown.user_name.is_some() || allowed {
                Answer::accept(Identity::new(rule))
            } else {
                Answer::Refuse(Refusal::not_authorized(rule))
            }
        })
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::Allow(Rule::named("a test"))
    }
}

#[test]
fn clients_without_a_user_name_are_refused_where_the_listener_says_so() {
    let policy = Arc::new(AsTheListenerSays);
    for broker in [Broker::new(100), Broker::builder().policy(policy).build()] {
        let closed = listen(&broker, "closed", |rules| rules.anonymous = Some(false));
        let open = listen(&broker, "open", |rules| rules.anonymous = Some(true));
        assert_eq!(Connect::new(5, "a").send(&closed).1[3], 0x87);
        assert_eq!(Connect::new(4, "a").send(&closed).1[3], 5);
        let mut unnamed = Peer::dial(&closed);
        unnamed.send(&with_user("a", ""));
        assert_eq!(unnamed.packet(), [0x20, 2, 0, 5], "an empty User Name is none");
        Connect::new(4, "a").accepted(&open).ping();
        let mut named = Peer::dial(&closed);
        named.send(&with_user("b", "ann"));
        assert_eq!(named.packet(), [0x20, 2, 0, 0]);
        assert_eq!(broker.counters().listener_rules_refused, 3);
    }
}

// ---- QoS -------------------------------------------------------------------------------------------

/// CONNECT with a Will of this QoS.
fn with_will(version: u8, qos: u8) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([version, 0x06 | qos << 3, 0, 0]);
    body.extend((version == 5).then_some(0));
    body.extend(text("w"));
    body.extend((version == 5).then_some(0));
    body.extend(text("will"));
    body.extend(text("x"));
    packet(0x10, &body)
}

#[test]
fn a_listener_has_a_highest_qos_mqtt_3_2_2_11_and_12() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l", |rules| rules.qos_max = QoS::AtLeastOnce);
    let (mut five, connack) = Connect::new(5, "five").send(&endpoint);
    assert!(connack.windows(2).any(|property| property == [0x24, 1]), "{connack:x?}");
    five.send(&subscribe(5, "t", 2));
    assert_eq!(five.packet().last(), Some(&1), "granted at most");
    let mut four = Connect::new(4, "four").accepted(&endpoint);
    four.subscribe("t", 1);
    four.send(&subscribe(4, "u", 2));
    assert_eq!(four.packet().last(), Some(&1));
    five.send(&publish(5, "v", b"x", 1, 1));
    assert_eq!(five.packet()[0], 0x40);
    five.send(&publish(5, "v", b"x", 2, 2));
    five.expect_disconnect(0x9B);
    four.send(&publish(4, "v", b"x", 2, 2));
    four.expect_silent_close();
    for (version, qos, code) in [(5, 2, 0x9B), (4, 2, 3), (5, 1, 0), (4, 1, 0)] {
        let mut peer = Peer::dial(&endpoint);
        peer.send(&with_will(version, qos));
        assert_eq!(peer.packet()[3], code, "{version} {qos}");
    }
    let zero = listen(&broker, "zero", |rules| rules.qos_max = QoS::AtMostOnce);
    let (mut five, connack) = Connect::new(5, "zero").send(&zero);
    assert!(connack.windows(2).any(|property| property == [0x24, 0]), "{connack:x?}");
    five.send(&publish(5, "v", b"x", 1, 1));
    five.expect_disconnect(0x9B);
}

// ---- Mount point -----------------------------------------------------------------------------------

fn mount(rules: &mut ListenerRules, at: &str) {
    rules.mount_point = Some(at.parse().unwrap());
}

#[test]
fn clients_of_a_mounted_listener_see_their_subtree_as_the_whole() {
    let broker = Broker::new(100);
    let north = listen(&broker, "north", |rules| mount(rules, "sites/north"));
    let south = listen(&broker, "south", |rules| mount(rules, "sites/south"));
    let whole = listen(&broker, "whole", |_| {});
    let mut here = Peer::connect(&north, "here");
    let mut there = Peer::connect(&south, "there");
    let mut above = Peer::connect(&whole, "above");
    for peer in [&mut here, &mut there, &mut above] {
        peer.subscribe("#", 0);
    }
    let mut publisher = Peer::connect(&north, "publisher");
    publisher.publish("lamp", "on", 0, 0);
    assert_eq!(here.packet(), b"\x30\x08\x00\x04lampon");
    assert_eq!(above.packet(), b"\x30\x14\x00\x10sites/north/lampon");
    there.ping();
    // The parent of the subtree matches `sites/north/#` too, and has no name in it.
    let host = broker.client("host").unwrap();
    for topic in ["sites/north", "sites/north/", "sites/northern", "$SYS/uptime"] {
        in_time(host.publish(Message::new(topic, "x").unwrap())).unwrap();
    }
    here.ping();
    assert_eq!(broker.ledger().filtered(FilterReason::Unmounted), 2);
    here.send(b"\xA2\x05\x00\x07\x00\x01#");
    assert_eq!(here.packet(), [0xB0, 2, 0, 7]);
    publisher.publish("lamp", "off", 0, 0);
    publisher.ping();
    here.ping();
}

#[test]
fn a_session_behind_another_mount_point_is_neither_resumed_nor_ended() {
    let keeping = |version, clean| Connect { clean, ..Connect::new(version, "a") };
    let broker = Broker::new(100);
    let north = listen(&broker, "north", |rules| mount(rules, "sites/north"));
    let south = listen(&broker, "south", |rules| mount(rules, "sites/south"));
    let whole = listen(&broker, "whole", |_| {});
    let mut here = keeping(4, false).accepted(&north);
    for endpoint in [&south, &whole] {
        for clean in [false, true] {
            assert_eq!(keeping(4, clean).send(endpoint).1[3], 2);
            assert_eq!(keeping(5, clean).send(endpoint).1[3], 0x85);
        }
    }
    here.ping();
    assert_eq!(broker.counters().sessions, 1);
    assert_eq!(keeping(4, false).send(&north).1[2], 1, "Session Present");
}

#[test]
fn rules_hold_over_websocket() {
    let broker = Broker::new(100);
    let endpoint = listen_at(&broker, "ws", "ws://127.0.0.1:0", |rules| {
        mount(rules, "n");
        rules.qos_max = QoS::AtMostOnce;
        rules.versions = [ProtocolVersion::V5].into_iter().collect();
    });
    let mut old = upgrade(&endpoint, "").unwrap();
    assert_eq!(exchange(&mut old, &Connect::new(4, "old").bytes()), [0x20, 2, 0, 1]);
    let mut peer = upgrade(&endpoint, "").unwrap();
    let connack = exchange(&mut peer, &Connect::new(5, "a").bytes());
    assert!(connack.windows(2).any(|property| property == [0x24, 0]), "{connack:x?}");
    assert_eq!(exchange(&mut peer, &subscribe(5, "t", 2)), [0x90, 4, 0, 1, 0, 0]);
    let host = broker.client("host").unwrap();
    in_time(host.publish(Message::new("n/t", "x").unwrap())).unwrap();
    assert_eq!(frame_of(&mut peer), b"\x30\x05\x00\x01t\x00x");
    let disconnect = exchange(&mut peer, &publish(5, "t", b"x", 1, 1));
    assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x9B));
}

#[test]
fn a_topic_that_begins_with_a_dollar_is_mounted_as_well() {
    let broker = Broker::new(100);
    let north = listen(&broker, "north", |rules| mount(rules, "n"));
    let mut peer = Peer::connect(&north, "a");
    peer.subscribe("$SYS/#", 0);
    let host = broker.client("host").unwrap();
    in_time(host.publish(Message::new("$SYS/uptime", "x").unwrap())).unwrap();
    in_time(host.publish(Message::new("n/$SYS/own", "y").unwrap())).unwrap();
    assert_eq!(peer.packet(), b"\x30\x0B\x00\x08$SYS/owny");
}

#[test]
fn a_will_retained_messages_and_shared_subscriptions_are_mounted() {
    let broker = Broker::new(100);
    let north = listen(&broker, "north", |rules| mount(rules, "n"));
    let whole = listen(&broker, "whole", |_| {});
    let mut watcher = Peer::connect(&whole, "watcher");
    watcher.subscribe("n/+", 0);
    let mut dying = Peer::dial(&north);
    dying.send(&with_will(4, 0));
    assert_eq!(dying.packet(), [0x20, 2, 0, 0]);
    dying.vanish();
    assert_eq!(watcher.packet(), b"\x30\x09\x00\x06n/willx");
    let host = broker.client("host").unwrap();
    let kept = |topic: &str| Message::new(topic, "k").unwrap().with_retain(true);
    in_time(host.publish(kept("n/kept"))).unwrap();
    in_time(host.publish(kept("kept"))).unwrap();
    let mut peer = Peer::connect(&north, "a");
    peer.subscribe("kept", 0);
    assert_eq!(peer.packet(), b"\x31\x07\x00\x04keptk");
    peer.subscribe("$share/g/jobs/+", 0);
    in_time(host.publish(Message::new("n/jobs/1", "j").unwrap())).unwrap();
    assert_eq!(peer.packet(), b"\x30\x09\x00\x06jobs/1j");
    // The members of one group are those with the same whole Topic Filter.
    let mut second = Peer::connect(&whole, "b");
    second.subscribe("$share/g/n/jobs/+", 0);
    peer.vanish();
    until("it is gone", || broker.counters().connections == 2);
    in_time(host.publish(Message::new("n/jobs/2", "j").unwrap())).unwrap();
    assert_eq!(second.packet(), b"\x30\x0B\x00\x08n/jobs/2j");
}

#[test]
fn topic_aliases_stand_for_the_names_that_the_client_knows() {
    let broker = Broker::new(100);
    let north = listen(&broker, "north", |rules| mount(rules, "n"));
    // Topic Alias Maximum 5.
    let mut peer = Connect::new(5, "a").props(&[0x22, 0, 5]).accepted(&north);
    peer.send(&subscribe(5, "t", 0));
    peer.packet();
    for (sent, got) in [("t", &b"\x00\x01t"[..]), ("", &b"\x00\x00"[..])] {
        peer.send(&publish_with(5, sent, b"x", 0, 0, &[0x23, 0, 1]));
        let mut expected = got.to_vec();
        expected.extend(b"\x03\x23\x00\x01x");
        assert_eq!(peer.packet()[2..], expected);
    }
}

#[test]
fn the_whole_topic_counts_towards_its_limit() {
    let limits = Limits { topic_levels_max: 3, ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let north = listen(&broker, "north", |rules| mount(rules, "a/b"));
    let mut peer = Peer::connect(&north, "a");
    peer.subscribe("c", 0);
    peer.send(&subscribe(4, "c/d", 0));
    assert_eq!(peer.packet().last(), Some(&0x80));
    peer.publish("c/d", "x", 0, 0);
    peer.expect_silent_close();
}

/// Denies all but what it is asked for.
struct Only(&'static str);

impl Policy for Only {
    fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
        Box::pin(async { Answer::accept(Identity::new(Rule::named("a test"))) })
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let rule = Rule::named("a test");
        if request.topic == self.0 { Decision::Allow(rule) } else { Decision::Deny(rule) }
    }
}

#[test]
fn access_rules_are_asked_for_the_whole_topic() {
    let broker = Broker::builder().policy(Arc::new(Only("n/t"))).build();
    let north = listen(&broker, "north", |rules| mount(rules, "n"));
    let mut peer = Peer::connect(&north, "a");
    peer.subscribe("t", 0);
    peer.send(&subscribe(4, "n/t", 0));
    assert_eq!(peer.packet().last(), Some(&0x80));
    peer.publish("t", "x", 0, 0);
    assert_eq!(peer.packet(), b"\x30\x04\x00\x01tx");
}

// ---- Proxies ---------------------------------------------------------------------------------------

/// Refuses peers of another address than this.
struct At(&'static str);

impl Policy for At {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        Box::pin(async move {
            let rule = Rule::named("a test");
            if shown.peer.to_string() == self.0 && !shown.peer.listener().is_empty() {
                Answer::accept(Identity::new(rule))
            } else {
                Answer::Refuse(Refusal::not_authorized(rule))
            }
        })
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::Allow(Rule::named("a test"))
    }
}

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\n";

#[test]
fn the_address_in_a_proxys_header_is_the_peers() {
    let broker = Broker::builder().policy(Arc::new(At("192.0.2.7:50000"))).build();
    let proxied = |rules: &mut ListenerRules| {
        rules.proxy_protocol = Some(networks(&["127.0.0.0/8"]));
        rules.networks_allowed = Some(networks(&["192.0.2.0/24"]));
    };
    let endpoint = listen(&broker, "tcp", proxied);
    let mut peer = Peer::dial(&endpoint);
    peer.send(&[LINE, &Connect::new(4, "a").bytes()].concat());
    assert_eq!(peer.packet(), [0x20, 2, 0, 0]);
    peer.ping();
    // The address in the header is not let in, or there is none.
    let mut other = Peer::dial(&endpoint);
    other.send(b"PROXY TCP4 198.51.100.7 192.0.2.1 50000 1883\r\n");
    other.expect_closed();
    let mut health = Peer::dial(&endpoint);
    health.send(b"PROXY UNKNOWN\r\n");
    health.expect_closed();
    assert_eq!(broker.counters().networks_refused, 2);
    let mut bare = Peer::dial(&endpoint);
    bare.send(&Connect::new(4, "a").bytes());
    bare.expect_closed();
    until("it is counted", || broker.counters().handshakes_failed == 1);
}

#[test]
fn the_proxy_protocol_is_below_websocket() {
    let broker = Broker::builder().policy(Arc::new(At("192.0.2.7:50000"))).build();
    let endpoint = listen_at(&broker, "ws", "ws://127.0.0.1:0", |rules| {
        rules.proxy_protocol = Some(networks(&["127.0.0.1"]));
    });
    let address = endpoint.trim_start_matches("ws://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(LINE).unwrap();
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut byte = [0];
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        response.push(byte[0]);
    }
    assert!(response.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(exchange(&mut stream, &Connect::new(4, "a").bytes()), [0x20, 2, 0, 0]);
}

#[test]
fn a_peer_that_is_no_proxy_is_refused_where_a_header_is_expected() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "tcp", |rules| {
        rules.proxy_protocol = Some(networks(&["10.0.0.0/8"]));
    });
    Peer::dial(&endpoint).expect_closed();
    until("it is counted", || broker.counters().handshakes_failed == 1);
}

#[test]
fn the_address_that_a_reverse_proxy_forwards_is_the_peers() {
    let broker = Broker::builder().policy(Arc::new(At("192.0.2.7:0"))).build();
    let trusting = listen_at(&broker, "trusting", "ws://127.0.0.1:0", |rules| {
        rules.forwarded_for = networks(&["127.0.0.1", "10.0.0.0/8"]);
        rules.networks_denied = networks(&["198.51.100.0/24", "127.0.0.0/8"]);
    });
    let connect = Connect::new(4, "a").bytes();
    let listed = "X-Forwarded-For: 203.0.113.1, 192.0.2.7, 10.1.1.1\r\n";
    for header in [listed, "Forwarded: for=192.0.2.7;proto=https\r\n"] {
        let mut stream = upgrade(&trusting, header).unwrap();
        assert_eq!(exchange(&mut stream, &connect), [0x20, 2, 0, 0]);
    }
    for header in ["", "X-Forwarded-For: unknown\r\n", "Forwarded: for=\"\r\n"] {
        let refused = upgrade(&trusting, header).unwrap_err();
        assert!(refused.contains(" 400 "), "{header}: {refused}");
    }
    // The upgrade succeeds, and the network is not let in.
    let mut denied = upgrade(&trusting, "X-Forwarded-For: 198.51.100.7\r\n").unwrap();
    assert!(!matches!(denied.read(&mut [0; 64]), Ok(1..)));
    assert_eq!(broker.counters().networks_refused, 1);
}

#[test]
fn the_headers_of_a_peer_that_is_no_proxy_are_ignored() {
    let broker = Broker::builder().policy(Arc::new(At("192.0.2.7:0"))).build();
    let endpoint = listen_at(&broker, "ws", "ws://127.0.0.1:0", |rules| {
        rules.forwarded_for = networks(&["10.0.0.0/8"]);
    });
    for header in ["", "X-Forwarded-For: 192.0.2.7\r\n", "Forwarded: for=\"\r\n"] {
        let mut stream = upgrade(&endpoint, header).unwrap();
        let connack = exchange(&mut stream, &Connect::new(4, "a").bytes());
        assert_eq!(connack, [0x20, 2, 0, 5], "{header}");
    }
}

// ---- Rates -----------------------------------------------------------------------------------------

#[test]
fn a_client_that_sends_too_much_is_slowed_and_loses_nothing() {
    for (limits, wanted) in [
        (Limits { client_messages_per_sec_max: 100, ..Limits::default() }, 150),
        (Limits { client_bytes_per_sec_max: 2_000, ..Limits::default() }, 300),
    ] {
        let broker = Broker::builder().limits(limits).max_queue_depth(1_000).build();
        let endpoint = listen(&broker, "l", |_| {});
        let mut fast = Peer::connect(&endpoint, "fast");
        let packets: Vec<u8> = (0..wanted).flat_map(|_| publish(4, "t", b"12345", 0, 0)).collect();
        fast.send(&packets);
        // What it sent before is carried out, in its order, before the PINGREQ is.
        fast.ping();
        assert_eq!(broker.ledger().offered, wanted);
        assert!(broker.counters().readers_slowed > 0);
    }
}

#[test]
fn an_address_that_connects_too_often_is_closed() {
    let limits = Limits { address_connects_per_sec_max: 3, ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let endpoint = listen(&broker, "l", |_| {});
    let mut peers: Vec<Peer> = (0..20).map(|_| Peer::dial(&endpoint)).collect();
    until("some are refused", || broker.counters().address_connects_refused > 0);
    let wait = Duration::from_millis(20);
    let closed = peers.iter_mut().map(|peer| peer.is_closed_within(wait));
    assert!((1..=17).contains(&closed.filter(|closed| *closed).count()));
}

// ---- Bans ------------------------------------------------------------------------------------------

/// Lets in everybody.
pub(crate) struct Everybody;

impl Policy for Everybody {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let identity = Identity::new(Rule::named("everybody"));
        let identity = match &shown.user_name {
            Some(name) => identity.with_user_name(name),
            None => identity,
        };
        Box::pin(async { Answer::accept(identity) })
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::Allow(Rule::named("everybody"))
    }
}

#[test]
fn a_ban_refuses_with_0x8a_and_disconnects_who_is_connected() {
    let bans = Arc::new(Bans::new(10));
    let broker = Broker::builder().policy(bans.guard(Arc::new(Everybody))).build();
    let endpoint = listen(&broker, "l", |_| {});
    let mut named = Peer::dial(&endpoint);
    named.send(&with_user("named", "ann"));
    assert_eq!(named.packet(), [0x20, 2, 0, 0]);
    let mut five = Connect::new(5, "five").accepted(&endpoint);
    let mut other = Connect::new(5, "other").accepted(&endpoint);
    bans.add(Ban::new(BanTarget::Client("five".to_owned()))).unwrap();
    bans.add(Ban::new(BanTarget::User("ann".to_owned()))).unwrap();
    broker.policy_changed();
    five.expect_disconnect(0x98);
    named.expect_silent_close();
    other.ping();
    assert_eq!(Connect::new(5, "five").send(&endpoint).1[3], 0x8A);
    assert_eq!(Connect::new(4, "five").send(&endpoint).1[3], 5);
    bans.add(Ban::new(BanTarget::Address("127.0.0.0/8".parse().unwrap()))).unwrap();
    broker.policy_changed();
    other.expect_disconnect(0x98);
    assert_eq!(broker.counters().connects_banned, 2);
    for ban in bans.list() {
        bans.remove(&ban.target);
    }
    Connect::new(5, "five").accepted(&endpoint).ping();
}

#[test]
fn a_client_that_connects_and_disconnects_again_and_again_is_banned() {
    let bans = Arc::new(Bans::new(10));
    let minute = Duration::from_secs(60);
    let flapping = Arc::new(Flapping::new(bans.clone(), 3, minute, minute));
    let chain = Chain::new(vec![flapping, Arc::new(Everybody)]);
    let broker = Broker::builder().policy(bans.guard(Arc::new(chain))).build();
    let endpoint = listen(&broker, "l", |_| {});
    let steady = Connect::new(5, "steady").accepted(&endpoint);
    for _ in 0..2 {
        Connect::new(5, "a").accepted(&endpoint).vanish();
        until("it has left", || broker.counters().connections == 1);
    }
    // The third is a takeover.
    let mut first = Connect::new(5, "a").accepted(&endpoint);
    let second = Connect::new(5, "a").accepted(&endpoint);
    first.expect_disconnect(0x8E);
    until("it is banned", || bans.list().len() == 1);
    second.vanish();
    assert_eq!(Connect::new(5, "a").send(&endpoint).1[3], 0x8A);
    drop(steady);
}
