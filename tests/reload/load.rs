//! Reloads under load.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use crate::house::{House, directory, write};
use crate::peer::Peer;

const RELOADS: usize = 50;

/// Messages that are acknowledged between two reloads, at least.
const BETWEEN: u32 = 20;

/// The configurations that follow each other: each changes listeners, rules, limits and access.
fn text(round: usize) -> String {
    let more = [
        "",
        r#", "extra": {"url": "ws://127.0.0.1:0/mqtt"}"#,
        r#", "extra": {"url": "tcp://127.0.0.1:0", "versions": ["5.0"]}"#,
    ][round % 3];
    let rules = ["", r#", "networksDenied": ["10.0.0.0/8"]"#][round % 2];
    let inflight = 20 + round % 7;
    // Every other round a limit of the transport, so that the listener gets another one at its socket.
    let keep_alive = 60 + round % 2;
    format!(
        r#""maxQueueDepth": 100000, "listeners": {{"tcp": {{"url": "tcp://127.0.0.1:0"{rules}}}{more}}},
            "limits": {{"maxInflight": {inflight}, "tcpKeepAliveSecs": {keep_alive}}},
            "access": {{"anonymous": true, "aclFile": "acl"}}"#
    )
}

/// A publisher of QoS 1 with one message in flight; returns how many were acknowledged.
fn publish(mut peer: Peer, stop: &AtomicBool, acknowledged: &AtomicU32) {
    let mut number = 0_u32;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let id = (number % 100 + 1) as u8;
        peer.publish("t", &number.to_string(), 1, id);
        assert_eq!(peer.packet(), [0x40, 2, 0, id], "PUBACK of {number}");
        acknowledged.store(number, Ordering::Release);
    }
}

/// Takes messages in their order, until the one that says so. Returns the number of the last.
fn receive(mut peer: Peer) -> u32 {
    let mut next = 1;
    loop {
        let packet = peer.packet();
        assert_eq!(packet[0] & 0xF7, 0x32, "a PUBLISH of QoS 1 that is no duplicate");
        let payload = String::from_utf8(packet[7..].to_vec()).unwrap();
        peer.send(&[0x40, 2, packet[5], packet[6]]);
        if payload == "end" {
            peer.ping(); // its PUBACK is in the books
            return next - 1;
        }
        assert_eq!(payload, next.to_string(), "none is lost, none comes twice");
        next += 1;
    }
}

#[test]
fn no_acknowledged_message_is_lost_across_fifty_reloads() {
    let directory = directory();
    write(&directory, "acl", "topic readwrite #\n");
    let house = House::start_in(directory, &text(0));
    let mut subscriber = house.connect("tcp", "subscriber");
    subscriber.subscribe("t", 1);
    let publisher = house.connect("tcp", "publisher");
    for peer in [&subscriber, &publisher] {
        peer.0.set_nodelay(true).unwrap();
    }
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU32::new(0));
    let (stop, acknowledged) = (&stop, &acknowledged);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(publisher, stop, acknowledged));
        let receiving = scope.spawn(|| receive(subscriber));
        let mut progress = 0;
        for round in 1..=RELOADS {
            house.write("acl", &format!("# {round}\ntopic readwrite #\n"));
            assert!(!house.reload(&text(round)).unwrap().is_empty());
            house.connect("tcp", "passer-by").ping();
            // Traffic goes on between any two reloads.
            let enough = progress + BETWEEN;
            while acknowledged.load(Ordering::Acquire) < enough && !publishing.is_finished() {
                thread::yield_now();
            }
            progress = acknowledged.load(Ordering::Acquire);
        }
        stop.store(true, Ordering::Release);
        publishing.join().unwrap();
        let mut last = house.connect("tcp", "last");
        last.publish("t", "end", 1, 1);
        assert_eq!(last.packet(), [0x40, 2, 0, 1]);
        assert_eq!(receiving.join().unwrap(), acknowledged.load(Ordering::Acquire));
    });
    let ledger = house.server.broker().ledger();
    assert_eq!(ledger.dropped_total(), 0, "{ledger}");
}
