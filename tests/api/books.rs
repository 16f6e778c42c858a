//! The ledger after real traffic, and the depth of the queue.

use futures_lite::{AsyncReadExt, AsyncWriteExt, StreamExt};
use hrotti::transport::memory::{MemoryStream, MemoryTransport};
use hrotti::{
    Broker, DropReason, FilterReason, Ledger, Message, QoS, SubscriptionOptions, TopicFilter,
};

use crate::peer::{Peer, block_on, connect_packet, in_time, listen, subscribe_packet};

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn books_balance(ledger: &Ledger) {
    assert!(ledger.balances(), "offered = delivered + waiting + … : {ledger:?}");
}

fn message(topic: &str, payload: &str, qos: QoS) -> Message {
    Message::new(topic, payload).unwrap().with_qos(qos)
}

#[test]
fn balance_after_mixed_traffic() {
    let broker = Broker::new(20);
    let endpoint = listen(&broker, "l");
    let publisher = broker.client("pub").unwrap();
    let mut reads = broker.client("reads").unwrap();
    let stopped = broker.client("stopped").unwrap();
    for client in [&reads, &stopped] {
        let filter = TopicFilter::new("t/#").unwrap();
        in_time(client.subscribe(&filter, SubscriptionOptions::with_qos(QoS::ExactlyOnce)))
            .unwrap();
    }
    // One Session is away, with Clean Session 0; one peer receives and never acknowledges.
    let mut away = Peer::dial(&endpoint);
    let mut connect = connect_packet("away");
    connect[9] = 0;
    away.send(&connect);
    away.packet();
    away.subscribe("t/#", 1);
    away.send(&[0xE0, 0]);
    away.expect_closed();
    let mut silent = Peer::connect(&endpoint, "silent");
    silent.subscribe("t/#", 1);
    for i in 0..30 {
        for qos in LEVELS {
            in_time(publisher.publish(message("t/x", &format!("{i}"), qos))).unwrap();
            in_time(reads.next()).unwrap();
            silent.packet();
        }
        in_time(publisher.publish(message("nobody", "x", QoS::AtMostOnce))).unwrap();
    }
    let ledger = broker.ledger();
    books_balance(&ledger);
    assert_eq!(ledger.offered, 4 * 90 + 30);
    assert_eq!(ledger.filtered(FilterReason::NoSubscription), 30);
    // `away` keeps 20 of 60, and its QoS 0 is dropped; `stopped` keeps 20 of 90; `silent` loses nothing.
    assert_eq!(ledger.dropped(DropReason::Away), 30);
    assert_eq!(ledger.dropped(DropReason::QueueFull), 40 + 70);
    assert_eq!((ledger.waiting, ledger.inflight), (20 + 20, 60));
    for info in broker.sessions() {
        books_balance(&info.ledger);
    }
    drop(stopped);
    drop(reads);
    silent.send(&[0xE0, 0]);
    silent.expect_closed();
    books_balance(&broker.ledger());
    in_time(broker.stop());
    let end = broker.ledger();
    books_balance(&end);
    assert_eq!((end.waiting, end.inflight), (0, 0), "every message has an outcome: {end:?}");
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        futures_lite::future::yield_now().await;
    }
}

async fn subscriber(stream: &mut MemoryStream, qos: u8) {
    stream.write_all(&connect_packet("slow")).await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    stream.write_all(&subscribe_packet("t", qos)).await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
}

/// With the reader stopped, exactly `depth` messages wait, beside what the transport took.
#[test]
fn exactly_depth_wait_for_a_reader_that_stopped() {
    const PACKET: usize = 2 + 3 + 64;
    for (depth, capacity) in [(100, 10 * PACKET), (1, 1), (7, PACKET + 3), (100, 64 * 1024)] {
        let broker = Broker::new(depth);
        let (transport, connector) = MemoryTransport::new("m", capacity);
        block_on(broker.add_transport("m", transport)).unwrap();
        let mut stream = connector.connect().unwrap();
        in_time(subscriber(&mut stream, 0));
        let publisher = broker.client("pub").unwrap();
        let publish = |i: usize| {
            in_time(publisher.publish(message("t", &format!("{i:064}"), QoS::AtMostOnce))).unwrap();
        };
        let taken = capacity / PACKET; // whole packets that the transport accepts
        for i in 0..taken {
            publish(i);
            in_time(until(|| broker.ledger().delivered == i as u64 + 1));
        }
        let sent = taken + 2000;
        (taken..sent).for_each(publish);
        let ledger = broker.ledger();
        books_balance(&ledger);
        assert_eq!(ledger.delivered, taken as u64, "depth {depth}, capacity {capacity}");
        assert_eq!(ledger.waiting, depth as u64);
        assert_eq!(ledger.dropped(DropReason::QueueFull), (sent - taken - depth) as u64);
        // The oldest arrive, in order, once the reader goes on; then a newer one does.
        let mut packet = [0; PACKET];
        for i in 0..taken + depth {
            in_time(stream.read_exact(&mut packet)).unwrap();
            assert_eq!(packet[5..], *format!("{i:064}").as_bytes());
        }
        in_time(until(|| broker.ledger().waiting == 0));
        in_time(publisher.publish(message("t", &"z".repeat(64), QoS::AtMostOnce))).unwrap();
        in_time(stream.read_exact(&mut packet)).unwrap();
        assert_eq!(packet[5..], [b'z'; 64]);
    }
}

/// A Client that acknowledges nothing still gets what needs no acknowledgement, one beyond the depth at a time.
#[test]
fn qos_0_is_delivered_while_the_queue_is_full_of_what_waits_for_acknowledgements() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l");
    let publisher = broker.client("pub").unwrap();
    let mut silent = Peer::connect(&endpoint, "silent");
    silent.subscribe("t", 1);
    let inflight = u64::from(broker.limits().max_inflight);
    for number in 0..inflight + 100 {
        let message = message("t", &number.to_string(), QoS::AtLeastOnce);
        in_time(publisher.publish(message)).unwrap();
        if number < inflight {
            silent.packet();
        }
    }
    let one_more = message("t", "one more", QoS::AtLeastOnce);
    in_time(publisher.publish(one_more)).unwrap();
    for number in 0..300 {
        let payload = format!("plain {number}");
        in_time(publisher.publish(message("t", &payload, QoS::AtMostOnce))).unwrap();
        assert!(broker.ledger().waiting <= 101);
        let packet = silent.packet();
        assert!(packet.ends_with(payload.as_bytes()), "{packet:?}");
    }
    // All at once, in one write of another Client.
    let mut other = Peer::connect(&endpoint, "other");
    let plain: Vec<u8> = (0..=255).flat_map(|number| [0x30, 4, 0, 1, b't', number]).collect();
    other.send(&plain);
    for number in 0..=255 {
        assert_eq!(silent.packet().last(), Some(&number));
    }
    // A message is counted soon after the transport has taken it.
    in_time(until(|| broker.ledger().waiting == 100));
    let ledger = broker.ledger();
    books_balance(&ledger);
    assert_eq!((ledger.inflight, ledger.waiting), (inflight, 100));
    assert_eq!(ledger.dropped(DropReason::QueueFull), 1);
}
