//! Every bound of `Limits` reached: what the peer sees by its version, and which counter says so.
//! `max_queue_depth` is in `books.rs`.

use std::io::{Read, Write};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::transport::memory::MemoryTransport;
use hrotti::{Broker, DropReason, Limits, ListenerConfig, Message, QoS, SubscriptionOptions};
use hrotti::{Counters, TopicFilter};

use crate::peer::{DEADLINE, Peer, block_on, connect_packet, in_time, subscribe_packet};
use crate::raw::{Connect, limited, packet, publish, publish_with, subscribe, text, until};

const SOON: Duration = Duration::from_millis(100);

/// What the counters say now, but for what is held.
fn refused(broker: &Broker) -> Counters {
    let mut counters = broker.counters();
    counters.connections = 0;
    counters.sessions = 0;
    counters.subscriptions = 0;
    counters.retained_messages = 0;
    counters.retained_bytes = 0;
    counters.unauthenticated_bytes = 0;
    counters
}

/// Exactly these limits were reached.
#[track_caller]
fn counted(broker: &Broker, set: impl Fn(&mut Counters)) {
    let mut expected = Counters::default();
    set(&mut expected);
    until("the counters say it", || refused(broker) == expected);
}

fn contains(packet: &[u8], bytes: &[u8]) -> bool {
    packet.windows(bytes.len()).any(|window| window == bytes)
}

#[test]
fn connect_packet_bytes_max_closes_before_the_bytes_are_there_pitfall_1() {
    let limits = Limits { connect_packet_bytes_max: 200, ..Limits::default() };
    let (broker, endpoint) = limited(limits);
    let mut other = Peer::connect(&endpoint, "other");
    for announced in [&b"\x10\xC6\x01"[..], b"\x10\xFF\xFF\xFF\x7F", b"\x1F\xC6\x01"] {
        let mut peer = Peer::dial(&endpoint);
        peer.send(announced);
        peer.expect_silent_close();
    }
    counted(&broker, |counters| counters.packets_too_large = 3);
    // One byte less is no reason; after CONNECT the bound is another.
    other.send(&publish(4, "t", &[0; 1_000], 0, 0));
    other.ping();
}

#[test]
fn packet_bytes_max_is_told_by_0x95() {
    let limits = Limits { packet_bytes_max: 128, ..Limits::default() };
    let (broker, endpoint) = limited(limits);
    let (mut five, connack) = Connect::new(5, "five").send(&endpoint);
    assert!(contains(&connack, &[0x27, 0, 0, 0, 128]), "MQTT-3.2.2-15: {connack:x?}");
    let mut four = Connect::new(4, "four").accepted(&endpoint);
    // 128 bytes pass.
    four.send(&publish(4, "t", &[0; 123], 0, 0));
    four.ping();
    five.send(&[0x30, 127 + 1, 1]);
    five.expect_disconnect(0x95);
    four.send(&[0x30, 127 + 1, 1]);
    four.expect_silent_close();
    counted(&broker, |counters| counters.packets_too_large = 2);
}

#[test]
fn unauthenticated_bytes_max_closes_the_one_too_many() {
    let limits = Limits { unauthenticated_bytes_max: 1_000, ..Limits::default() };
    let (broker, endpoint) = limited(limits);
    let mut half = b"\x10\xE8\x07\x00\x04MQTT\x04\x02\x00\x00".to_vec();
    half.resize(600, b'a');
    let mut one = Peer::dial(&endpoint);
    one.send(&half);
    until("it is held", || broker.counters().unauthenticated_bytes >= 600);
    let mut two = Peer::dial(&endpoint);
    two.send(&half);
    two.expect_silent_close();
    counted(&broker, |counters| counters.unauthenticated_bytes_refused = 1);
    assert!(!one.is_closed_within(Duration::from_millis(1)));
    one.vanish();
    until("it is given back", || broker.counters().unauthenticated_bytes == 0);
}

#[test]
fn topic_levels_max_and_topic_bytes_max_by_version_pitfall_6() {
    for limits in [
        Limits { topic_levels_max: 3, ..Limits::default() },
        Limits { topic_bytes_max: 6, ..Limits::default() },
    ] {
        let (broker, endpoint) = limited(limits);
        for version in [3, 4, 5] {
            let mut peer = Connect::new(version, "fits").accepted(&endpoint);
            peer.send(&subscribe(version, "a/b/cd", 0));
            assert_eq!(peer.packet().last(), Some(&0));
            peer.send(&subscribe(version, "$share/share-name/a/b/cd", 0));
            assert_eq!(peer.packet().last(), Some(&0), "the Share Name is no level");
            peer.send(&publish(version, "no/b/c", b"", 0, 0));
            peer.ping();
            peer.send(&publish(version, "a/b/c/d", b"", 0, 0));
            if version == 5 {
                peer.expect_disconnect(0x90);
            } else {
                peer.expect_silent_close();
            }
            let mut peer = Connect::new(version, "sub").accepted(&endpoint);
            peer.send(&subscribe(version, "a/b/c/d", 0));
            match version {
                3 => peer.expect_silent_close(),
                4 => assert_eq!(peer.packet().last(), Some(&0x80)),
                _ => assert_eq!(peer.packet().last(), Some(&0x8F)),
            }
            let mut will = Connect::new(version, "will");
            will.will = Some(("a/b/c/d", "x"));
            let mut peer = Peer::dial(&endpoint);
            peer.send(&will.bytes());
            match version {
                5 => assert_eq!(peer.packet()[3], 0x90),
                _ => peer.expect_silent_close(),
            }
        }
        counted(&broker, |counters| counters.topics_refused = 9);
    }
}

#[test]
fn session_subscriptions_max_and_subscriptions_max_are_told_by_0x97() {
    for limits in [
        Limits { session_subscriptions_max: 2, ..Limits::default() },
        Limits { subscriptions_max: 2, ..Limits::default() },
    ] {
        let (broker, endpoint) = limited(limits);
        for (version, code) in [(4, 0x80), (5, 0x97)] {
            let mut peer = Connect::new(version, "a").accepted(&endpoint);
            for (filter, expected) in [("a", 0), ("b", 0), ("c", code), ("b", 0), ("c", code)] {
                peer.send(&subscribe(version, filter, 0));
                assert_eq!(peer.packet().last(), Some(&expected), "{filter}");
            }
            assert_eq!(broker.counters().subscriptions, 2);
            let mut gone = vec![0, 2];
            gone.extend(if version == 5 { &[0][..] } else { &[] });
            gone.extend(text("a"));
            peer.send(&packet(0xA2, &gone));
            peer.packet();
            peer.send(&subscribe(version, "c", 0));
            assert_eq!(peer.packet().last(), Some(&0), "there is room again");
            peer.send(&[0xE0, 0]);
            peer.until_closed();
            until("they go with their Session", || broker.counters().subscriptions == 0);
        }
        counted(&broker, |counters| counters.subscriptions_refused = 4);
    }
}

#[test]
fn sessions_max_counts_those_that_are_away() {
    let (broker, endpoint) = limited(Limits { sessions_max: 1, ..Limits::default() });
    let mut away = Connect::new(4, "away").persistent().accepted(&endpoint);
    away.send(&[0xE0, 0]);
    away.until_closed();
    for (version, code) in [(3, 3), (4, 3), (5, 0x97)] {
        let (mut peer, connack) = Connect::new(version, "more").send(&endpoint);
        assert_eq!(connack[3], code);
        peer.expect_silent_close();
    }
    assert!(broker.client("inside").is_err());
    counted(&broker, |counters| counters.sessions_refused = 3);
    assert_eq!(Connect::new(4, "away").persistent().send(&endpoint).1[2..], [1, 0], "it resumes");
    let mut clean = Connect::new(4, "away").accepted(&endpoint);
    clean.ping(); // replaced: no Session more
    assert_eq!(broker.counters().sessions, 1);
}

#[test]
fn connections_max_counts_accepted_connects() {
    let (broker, endpoint) = limited(Limits { connections_max: 1, ..Limits::default() });
    let _silent = Peer::dial(&endpoint);
    let mut one = Connect::new(5, "one").accepted(&endpoint);
    for (version, code) in [(3, 3), (4, 3), (5, 0x97)] {
        let (mut peer, connack) = Connect::new(version, "more").send(&endpoint);
        assert_eq!(connack[3], code);
        peer.expect_silent_close();
    }
    counted(&broker, |counters| counters.connections_refused = 3);
    one.ping();
    // MQTT-3.1.4-3: whoever takes its own place over needs no second one.
    let mut again = Connect::new(5, "one").accepted(&endpoint);
    let farewell = one.packet();
    assert_eq!((farewell[0], farewell[2]), (0xe0, 0x8e), "{farewell:02x?}");
    until("the old one is gone", || broker.counters().connections == 1);
    again.ping();
    again.vanish();
    until("it is gone", || broker.counters().connections == 0);
    Connect::new(4, "two").accepted(&endpoint).ping();
}

#[test]
fn handshakes_max_drops_the_peer_that_has_been_silent_longest() {
    let (broker, endpoint) = limited(Limits { handshakes_max: 4, ..Limits::default() });
    let mut silent: Vec<_> = (0..4)
        .map(|index| {
            let peer = Peer::dial(&endpoint);
            until("it has its place", || broker.listeners()[0].connections == index + 1);
            peer
        })
        .collect();
    // It is let in long before `connect_timeout`.
    Connect::new(4, "healthy").accepted(&endpoint).ping();
    let counters = broker.counters();
    assert_eq!((counters.handshakes_displaced, counters.connects_timed_out), (1, 0));
    assert!(silent[0].is_closed_within(DEADLINE), "the first was silent longest");
    // The others go on.
    for (number, peer) in silent[1..].iter_mut().enumerate() {
        peer.send(&connect_packet(&format!("late-{number}")));
        assert_eq!(peer.packet(), [0x20, 2, 0, 0]);
    }
}

#[test]
fn handshake_timeout_drops_a_slow_upgrade_pitfall_20() {
    let limits = Limits { handshake_timeout: SOON, ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let config = ListenerConfig::new("ws://127.0.0.1:0").unwrap();
    let endpoint = block_on(broker.add_listener("ws", config)).unwrap();
    let address = endpoint.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let mut slow = Peer::dial(&address);
    slow.send(b"GET / HTTP/1.1\r\nHost:");
    let closed = (0..80).any(|_| {
        let _ = slow.0.write_all(b"x");
        slow.is_closed_within(Duration::from_millis(50))
    });
    assert!(closed);
    counted(&broker, |counters| counters.handshakes_timed_out = 1);
}

#[test]
fn what_is_no_upgrade_is_counted_whether_or_not_the_peer_stays() {
    let limits = Limits { handshake_timeout: Duration::from_millis(700), ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let config = ListenerConfig::new("ws://127.0.0.1:0").unwrap();
    let endpoint = block_on(broker.add_listener("ws", config)).unwrap();
    let address = endpoint.trim_start_matches("ws://").trim_end_matches('/');
    let mut leaves = Peer::dial(address);
    leaves.send(b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\r\n\r\n");
    leaves.until_closed();
    leaves.vanish();
    let mut stays = Peer::dial(address);
    stays.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    stays.until_closed();
    counted(&broker, |counters| counters.handshakes_failed = 2);
}

#[test]
fn connect_timeout_closes_whoever_is_not_done_with_connect_pitfall_20() {
    let (broker, endpoint) = limited(Limits { connect_timeout: SOON, ..Limits::default() });
    let mut connected = Peer::connect(&endpoint, "connected");
    let mut silent = Peer::dial(&endpoint);
    let mut half = Peer::dial(&endpoint);
    half.send(b"\x10\x0C\x00\x04MQ");
    silent.expect_silent_close();
    half.expect_silent_close();
    counted(&broker, |counters| counters.connects_timed_out = 2);
    connected.ping();
}

#[test]
fn packet_timeout_closes_over_half_a_packet_pitfall_20() {
    let (broker, endpoint) = limited(Limits { packet_timeout: SOON, ..Limits::default() });
    let mut idle = Peer::connect(&endpoint, "idle");
    let mut five = Connect::new(5, "five").accepted(&endpoint);
    let mut four = Connect::new(4, "four").accepted(&endpoint);
    let mut large = Connect::new(4, "large").accepted(&endpoint);
    five.send(&[0x30]);
    four.send(&publish(4, "t", b"payload", 0, 0)[..9]);
    large.send(&publish(4, "t", &[0; 9_000], 0, 0)[..8_000]);
    five.expect_disconnect(0x80);
    four.expect_silent_close();
    large.expect_silent_close();
    counted(&broker, |counters| counters.packets_timed_out = 3);
    idle.ping();
}

/// A subscriber over a small pipe that never reads after SUBACK, with messages for it.
fn stalled(broker: &Broker) -> hrotti::transport::memory::MemoryStream {
    let (transport, connector) = MemoryTransport::new("small", 64);
    block_on(broker.add_transport("small", transport)).unwrap();
    let mut stream = connector.connect().unwrap();
    in_time(async {
        stream.write_all(&connect_packet("stalled")).await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(&subscribe_packet("t", 0)).await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
    });
    let publisher = broker.client("pub").unwrap();
    for _ in 0..20 {
        let message = Message::new("t", "a message of some length").unwrap();
        in_time(publisher.publish(message)).unwrap();
    }
    stream
}

#[test]
fn write_stall_timeout_closes_who_takes_nothing_pitfall_14() {
    let limits = Limits { write_stall_timeout: SOON, ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let _stream = stalled(&broker);
    counted(&broker, |counters| counters.writes_stalled = 1);
    until("it is closed", || broker.counters().connections == 0);
    assert!(broker.ledger().balances());
}

#[test]
fn stop_timeout_bounds_a_stop() {
    let limits = Limits { stop_timeout: SOON, ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let _stream = stalled(&broker);
    assert!(broker.ledger().waiting > 0);
    in_time(broker.stop());
    let ledger = broker.ledger();
    assert!(ledger.balances() && ledger.waiting == 0, "{ledger:?}");
    assert_eq!(broker.counters().sessions, 0);
}

#[test]
fn keep_alive_secs_max_overrides_and_closes_with_0x8d() {
    let (broker, endpoint) = limited(Limits { keep_alive_secs_max: 1, ..Limits::default() });
    let mut none = Peer::connect(&endpoint, "3.1.1 with none");
    let (mut five, connack) = Connect::new(5, "five").send(&endpoint);
    assert!(contains(&connack, &[0x13, 0, 1]), "Server Keep Alive: {connack:x?}");
    let mut four = Connect { keep_alive: 1, ..Connect::new(4, "four") }.accepted(&endpoint);
    five.expect_disconnect(0x8D);
    four.expect_silent_close();
    counted(&broker, |counters| counters.keep_alives_timed_out = 2);
    none.ping();
}

#[test]
fn max_inflight_holds_back_until_an_acknowledgement() {
    let (broker, endpoint) = limited(Limits { max_inflight: 2, ..Limits::default() });
    let publisher = broker.client("pub").unwrap();
    for (version, props) in [(4, &[][..]), (5, &[0x21, 0, 9][..])] {
        let mut peer = Connect::new(version, "sub").props(props).accepted(&endpoint);
        peer.send(&subscribe(version, "t", 1));
        peer.packet();
        for number in 0..4 {
            let message = Message::new("t", number.to_string()).unwrap();
            in_time(publisher.publish(message.with_qos(QoS::AtLeastOnce))).unwrap();
        }
        let first = peer.packet();
        assert_eq!(first.last(), Some(&b'0'));
        assert_eq!(peer.packet().last(), Some(&b'1'));
        peer.ping(); // nothing else came before
        peer.send(&[0x40, 2, first[5], first[6]]);
        assert_eq!(peer.packet().last(), Some(&b'2'));
        peer.ping();
    }
}

#[test]
fn receive_maximum_is_told_and_held_by_0x93_pitfall_5() {
    let (broker, endpoint) = limited(Limits { receive_maximum: 1, ..Limits::default() });
    let (mut five, connack) = Connect::new(5, "five").send(&endpoint);
    assert!(contains(&connack, &[0x21, 0, 1]), "{connack:x?}");
    let mut four = Connect::new(4, "four").accepted(&endpoint);
    for (version, peer) in [(5, &mut five), (4, &mut four)] {
        // The same one again is no second.
        peer.send(&publish(version, "t", b"", 2, 1));
        peer.packet();
        peer.send(&publish(version, "t", b"", 2, 1));
        peer.packet();
        peer.send(&publish(version, "t", b"", 2, 2));
    }
    five.expect_disconnect(0x93);
    four.packet();
    counted(&broker, |counters| counters.receive_maximum_exceeded = 1);
}

/// 3.1 and 3.1.1 have no Receive Maximum.
#[test]
fn packet_identifiers_bound_the_open_messages_of_3_x() {
    let (broker, endpoint) = limited(Limits::default());
    for version in [3, 4] {
        let mut peer = Connect::new(version, "a").accepted(&endpoint);
        for id in 1..=1_500_u16 {
            peer.send(&publish(version, "t", b"", 2, id));
            assert_eq!(peer.packet()[2..], id.to_be_bytes(), "PUBREC");
        }
        peer.ping();
    }
    counted(&broker, |_| {});
}

/// MQTT-3.1.2-24: nothing that it could be sent says that it is connected, so it is not.
#[test]
fn a_client_too_small_for_connack_takes_no_session() {
    let (broker, endpoint) = limited(Limits::default());
    let mut held = Connect::new(5, "a").persistent().accepted(&endpoint);
    held.send(&subscribe(5, "t", 1));
    held.packet();
    for (maximum, told) in [(1, false), (10, true)] {
        let mut small = Peer::dial(&endpoint);
        small.send(&Connect::new(5, "a").props(&[0x27, 0, 0, 0, maximum]).bytes());
        let expected: &[u8] = if told { &[0x20, 3, 0, 0x83, 0] } else { &[] };
        assert_eq!(small.until_closed(), expected);
    }
    assert_eq!((broker.counters().sessions, broker.counters().subscriptions), (1, 1));
    held.send(&publish(5, "t", b"x", 0, 0));
    assert_eq!(held.packet()[..1], [0x30], "its connection and subscription are as before");
    held.ping();
    let mut fits = Connect::new(5, "b").props(&[0x27, 0, 0, 0, 11]).accepted(&endpoint);
    fits.ping();
}

#[test]
fn topic_alias_maximum_is_told_and_held_by_0x94() {
    for (max, told) in [(1, true), (0, false)] {
        let (_broker, endpoint) = limited(Limits { topic_alias_maximum: max, ..Limits::default() });
        let (mut peer, connack) = Connect::new(5, "a").send(&endpoint);
        assert_eq!(contains(&connack, &[0x22, 0, 1]), told, "{connack:x?}");
        if told {
            peer.send(&publish_with(5, "t", b"", 0, 0, &[0x23, 0, 1]));
            peer.ping();
        }
        peer.send(&publish_with(5, "t", b"", 0, 0, &[0x23, 0, max as u8 + 1]));
        peer.expect_disconnect(0x94);
    }
}

#[test]
fn outgoing_topic_alias_maximum_sends_other_topics_in_full() {
    let limits = Limits { outgoing_topic_alias_maximum: 1, ..Limits::default() };
    let (broker, endpoint) = limited(limits);
    let publisher = broker.client("pub").unwrap();
    let mut peer = Connect::new(5, "sub").props(&[0x22, 0, 9]).accepted(&endpoint);
    peer.send(&subscribe(5, "#", 0));
    peer.packet();
    for topic in ["one", "two", "one", "two"] {
        in_time(publisher.publish(Message::new(topic, "x").unwrap())).unwrap();
    }
    assert_eq!(peer.packet()[2..], *b"\x00\x03one\x03\x23\x00\x01x");
    assert_eq!(peer.packet()[2..], *b"\x00\x03two\x00x");
    assert_eq!(peer.packet()[2..], *b"\x00\x00\x03\x23\x00\x01x");
    assert_eq!(peer.packet()[2..], *b"\x00\x03two\x00x");
}

#[test]
fn retained_messages_max_and_retained_bytes_max_route_and_do_not_store_pitfall_15() {
    for limits in [
        Limits { retained_messages_max: 1, ..Limits::default() },
        Limits { retained_bytes_max: 700, ..Limits::default() },
    ] {
        let (broker, endpoint) = limited(limits);
        let mut live = Peer::connect(&endpoint, "live");
        live.subscribe("#", 0);
        let publisher = broker.client("pub").unwrap();
        let retain = |topic: &str, len: usize| {
            let message = Message::new(topic, "x".repeat(len)).unwrap().with_retain(true);
            in_time(publisher.publish(message)).unwrap();
        };
        for (topic, len) in [("a", 100), ("b", 110), ("a", 101)] {
            retain(topic, len);
            assert_eq!(live.packet().len(), 2 + 3 + len, "everybody who is there gets it");
        }
        if broker.limits().retained_bytes_max == 700 {
            retain("c", 2_000);
            let mut long = vec![0; 3 + 3 + 2_000];
            live.0.read_exact(&mut long).unwrap();
        }
        let counters = broker.counters();
        assert!(counters.retained_refused >= 1, "{counters:?}");
        assert!(counters.retained_bytes <= 700 || counters.retained_messages == 1);
        let mut late = Peer::connect(&endpoint, "late");
        late.subscribe("a", 0);
        assert_eq!(late.packet().len(), 2 + 3 + 101, "what is there can be replaced");
        retain("a", 0);
        assert!(broker.counters().retained_messages < counters.retained_messages);
    }
}

#[test]
fn session_expiry_secs_max_lowers_and_tells() {
    let (broker, endpoint) = limited(Limits { session_expiry_secs_max: 1, ..Limits::default() });
    let (mut five, connack) = Connect::new(5, "five").persistent().send(&endpoint);
    assert!(contains(&connack, &[0x11, 0, 0, 0, 1]), "{connack:x?}");
    let mut four = Connect::new(4, "four").persistent().accepted(&endpoint);
    // DISCONNECT cannot raise it again.
    five.send(&[0xE0, 7, 0, 5, 0x11, 0xFF, 0xFF, 0xFF, 0xFF]);
    five.until_closed();
    four.send(&[0xE0, 0]);
    four.until_closed();
    assert_eq!(broker.counters().sessions, 2);
    until("both have ended", || broker.counters().sessions == 0);
}

#[test]
fn queue_bytes_max_throws_the_newest_away_pitfall_15() {
    let limits = Limits { queue_bytes_max: 1_000, ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let mut slow = broker.client("slow").unwrap();
    let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
    in_time(slow.subscribe(&TopicFilter::new("t").unwrap(), options)).unwrap();
    let publisher = broker.client("pub").unwrap();
    let publish = |len: usize| {
        let message = Message::new("t", "x".repeat(len)).unwrap();
        in_time(publisher.publish(message)).unwrap().accepted
    };
    assert_eq!(publish(5_000), 1, "one is always admitted");
    assert_eq!(publish(1), 0);
    assert_eq!(broker.ledger().dropped(DropReason::QueueBytes), 1);
    assert_eq!(in_time(slow.recv()).unwrap().payload().len(), 5_000);
    assert_eq!((publish(500), publish(700)), (1, 0));
    assert!(broker.ledger().balances());
}
