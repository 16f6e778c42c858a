//! Back pressure against the right party: what waits for a Client never keeps the server from hearing it, and no
//! clock of the Client's runs while the server does not read.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use hrotti::{Broker, Limits, Message};

use crate::peer::{Peer, block_on};
use crate::raw::{Connect, limited, packet, publish, subscribe, until};

/// A Client with a subscription to `t`, and so many messages of `size` bytes that wait for it.
fn with_waiting(
    broker: &Broker,
    connect: &Connect<'_>,
    endpoint: &str,
    size: usize,
    count: usize,
) -> Peer {
    let mut peer = connect.accepted(endpoint);
    peer.send(&subscribe(4, "t", 0));
    assert_eq!(peer.packet(), [0x90, 3, 0, 1, 0]);
    let host = broker.client("host").unwrap();
    for _ in 0..count {
        let message = Message::new("t", vec![b'x'; size]).unwrap();
        assert_eq!(block_on(host.publish(message)).unwrap().accepted, 1);
    }
    peer
}

/// Waits as a person with a watch would: protocol time has to pass.
fn let_pass(time: Duration) {
    block_on(async { async_io::Timer::after(time).await });
}

/// MQTT-3.1.2-22: its PINGREQs are there, whether it reads or not.
#[test]
fn a_client_that_pings_and_does_not_read_keeps_its_connection() {
    let (broker, endpoint) = limited(Limits::default());
    let connect = Connect { keep_alive: 1, ..Connect::new(4, "slow") };
    let mut peer = with_waiting(&broker, &connect, &endpoint, 1 << 20, 12);
    for _ in 0..6 {
        let_pass(Duration::from_millis(500));
        peer.send(&[0xC0, 0]);
    }
    let size = 1 + 3 + 3 + (1 << 20);
    let mut rest = vec![0; 12 * size + 6 * 2];
    peer.0.read_exact(&mut rest).unwrap();
    let (mut messages, mut answers, mut at) = (0, 0, 0);
    while at < rest.len() {
        let message = rest[at] == 0x30;
        assert!(message || rest[at..at + 2] == [0xD0, 0]);
        messages += usize::from(message);
        answers += usize::from(!message);
        at += if message { size } else { 2 };
    }
    assert_eq!((messages, answers), (12, 6));
    peer.ping();
    assert_eq!(broker.counters().keep_alives_timed_out, 0);
}

/// Such a Client reads nothing before its packet is out.
#[test]
fn a_client_that_only_writes_while_messages_wait_for_it_is_heard() {
    let stall = Duration::from_millis(500);
    let (broker, endpoint) =
        limited(Limits { write_stall_timeout: stall, packet_timeout: stall, ..Limits::default() });
    let mut watcher = Connect::new(4, "watcher").accepted(&endpoint);
    watcher.send(&subscribe(4, "large", 0));
    watcher.packet();
    let mut peer = with_waiting(&broker, &Connect::new(4, "busy"), &endpoint, 500_000, 40);
    let bytes = publish(4, "large", &vec![b'y'; 30 << 20], 0, 0);
    peer.0.set_write_timeout(Some(Duration::from_secs(8))).unwrap();
    let reader = thread::spawn(move || {
        let mut got = vec![0; 30 << 20];
        watcher.0.read_exact(&mut got).unwrap();
    });
    peer.0.write_all(&bytes).unwrap();
    reader.join().unwrap();
    let mut rest = vec![0; 40 * (500_000 + 7)];
    peer.0.read_exact(&mut rest).unwrap();
    peer.ping();
}

/// Bytes that arrive are a sign of life.
#[test]
fn a_packet_may_take_longer_than_the_keep_alive() {
    let (broker, endpoint) = limited(Limits::default());
    let mut peer = Connect { keep_alive: 1, ..Connect::new(4, "slow") }.accepted(&endpoint);
    let bytes = publish(4, "t", &[b'x'; 40], 0, 0);
    let begun = Instant::now();
    for byte in bytes.chunks(2) {
        peer.send(byte);
        let_pass(Duration::from_millis(110));
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "longer than one and a half Keep Alives");
    peer.ping();
    assert_eq!(broker.counters().keep_alives_timed_out, 0);
}

/// Only what the server owes as answers keeps it from reading, and meanwhile the Client's clocks stand still.
#[test]
fn answers_that_are_not_taken_pause_reading_and_every_clock() {
    let short = Duration::from_millis(1_200);
    let (broker, endpoint) =
        limited(Limits { answer_bytes_max: 1_000, packet_timeout: short, ..Limits::default() });
    let mut peer = Connect { keep_alive: 1, ..Connect::new(4, "flood") }.accepted(&endpoint);
    let mut writer = peer.0.try_clone().unwrap();
    writer.set_write_timeout(Some(Duration::from_secs(8))).unwrap();
    let pings = 4_000_000;
    let half = publish(4, "t", &[b'x'; 40], 0, 0);
    let flood = thread::spawn(move || {
        writer.write_all(&[0xC0, 0].repeat(pings)).unwrap();
        writer.write_all(&half[..20]).unwrap();
        half[20..].to_vec()
    });
    until("reading pauses", || broker.counters().reads_paused > 0);
    let_pass(Duration::from_millis(1_800));
    let mut answers = vec![0; 2 * pings];
    peer.0.read_exact(&mut answers).unwrap();
    assert!(answers.chunks_exact(2).all(|pair| pair == [0xD0, 0]));
    let rest = flood.join().unwrap();
    peer.send(&rest);
    peer.ping();
    let counters = broker.counters();
    assert_eq!((counters.packets_timed_out, counters.keep_alives_timed_out), (0, 0));
}

/// A Client that publishes to its own subscription is acknowledged first.
#[test]
fn an_acknowledgement_comes_before_the_clients_own_message() {
    let (_broker, endpoint) = limited(Limits::default());
    let mut peer = Connect::new(4, "own").accepted(&endpoint);
    peer.send(&subscribe(4, "t", 0));
    peer.packet();
    for (qos, kind) in [(1, 0x40), (2, 0x50)] {
        peer.send(&publish(4, "t", b"x", qos, 7));
        assert_eq!(peer.packet()[0], kind, "PUBACK, PUBREC");
        assert_eq!(peer.packet()[0], 0x30, "PUBLISH");
    }
    peer.send(&packet(0x62, &[0, 7]));
    assert_eq!(peer.packet()[0], 0x70, "PUBCOMP");
}
