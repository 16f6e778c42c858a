//! Statements of the standards that no case of the conformance suite is about.

use hrotti::{Message, QoS};

use crate::peer::{Peer, in_time};
use crate::raw::{Connect, limited, packet, subscribe, text, until};

#[test]
fn unsubscribe_completes_what_was_begun_mqtt_3_10_4_3_and_takes_many_filters_mqtt_3_10_4_6() {
    let (broker, endpoint) = limited(hrotti::Limits::default());
    let publisher = broker.client("pub").unwrap();
    for version in [4, 5] {
        let mut peer = Connect::new(version, "a").accepted(&endpoint);
        for filter in ["t", "u"] {
            peer.send(&subscribe(version, filter, 2));
            peer.packet();
        }
        let message = Message::new("t", "x").unwrap().with_qos(QoS::ExactlyOnce);
        in_time(publisher.publish(message)).unwrap();
        assert_eq!(peer.packet()[5..7], [0, 1]);
        let mut gone = vec![0, 7];
        gone.extend(if version == 5 { &[0][..] } else { &[] });
        ["t", "unknown", "u"].iter().for_each(|filter| gone.extend(text(filter)));
        peer.send(&packet(0xA2, &gone));
        let unsuback = peer.packet();
        assert_eq!((unsuback[0], &unsuback[2..4]), (0xB0, &[0, 7][..]));
        if version == 5 {
            assert_eq!(unsuback[5..], [0, 0x11, 0], "a code for each, in their order");
        }
        peer.send(&[0x50, 2, 0, 1]);
        assert_eq!(peer.packet(), [0x62, 2, 0, 1], "PUBREL");
        peer.send(&[0x70, 2, 0, 1]);
        peer.ping();
        assert_eq!(broker.counters().subscriptions, 0);
    }
    until("both are delivered", || broker.ledger().delivered == 2);
}

/// U+FEFF is a character like others, at the front too (1.5.3-3 in 3.1.1).
#[test]
fn a_byte_order_mark_is_not_stripped_mqtt_1_5_4_3() {
    let (broker, endpoint) = limited(hrotti::Limits::default());
    let mut marked = Peer::connect(&endpoint, "\u{FEFF}a");
    let mut plain = Peer::connect(&endpoint, "a");
    assert_eq!(broker.counters().sessions, 2);
    marked.subscribe("\u{FEFF}t", 0);
    plain.publish("t", "plain", 0, 0);
    plain.publish("\u{FEFF}t", "x", 0, 0);
    assert_eq!(marked.packet(), b"\x30\x07\x00\x04\xEF\xBB\xBFtx");
}

/// A Client's DISCONNECT with an error closes as any (MQTT-4.13.2-1), and no second CONNACK or DISCONNECT
/// comes behind the first (MQTT-3.2.0-2, MQTT-3.14.4-2).
#[test]
fn the_last_packet_is_the_last_mqtt_3_14_4_2() {
    let (_broker, endpoint) = limited(hrotti::Limits::default());
    let mut peer = Connect::new(5, "a").accepted(&endpoint);
    peer.send(&[0xE0, 1, 0x80]);
    peer.expect_silent_close();
    let mut peer = Connect::new(5, "a").accepted(&endpoint);
    let again = Connect::new(5, "a").bytes();
    peer.send(&[&again[..], &again, &[0xC0, 0, 0xF0, 0]].concat());
    let last = peer.until_closed();
    assert_eq!((last[0], last[2], last.len()), (0xE0, 0x82, 2 + usize::from(last[1])));
}

/// A DISCONNECT that is a Protocol Error is no normal one: its Will is published (MQTT-3.1.2-8).
#[test]
fn a_disconnect_that_is_a_fault_discards_no_will_mqtt_3_1_2_8() {
    let (_broker, endpoint) = limited(hrotti::Limits::default());
    let mut watcher = Connect::new(4, "w").accepted(&endpoint);
    watcher.send(&subscribe(4, "w", 0));
    watcher.packet();
    let mut peer = Connect::new(5, "a").will_delayed("w", "gone", 0).accepted(&endpoint);
    // A Session Expiry Interval, where CONNECT had none.
    peer.send(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9]);
    assert_eq!(watcher.packet(), b"\x30\x07\x00\x01wgone");
    assert_eq!(peer.until_closed()[2], 0x82);
}
