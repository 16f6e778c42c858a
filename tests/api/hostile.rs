//! What hostile peers try, by the number of its class of bugs in other brokers.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::transport::memory::MemoryTransport;
use hrotti::{Broker, Limits, Message, QoS, SubscriptionOptions, TopicFilter};
use std::time::Duration;

use crate::peer::{Peer, block_on, connect_packet, in_time, listen};
use crate::raw::{Connect, limited, packet, publish, subscribe, text};

/// The work for a large packet is proportional to its size, however small the pieces are in which it
/// comes.
#[test]
fn pitfall_1_a_large_packet_in_tiny_pieces_costs_what_its_bytes_cost() {
    let broker = Broker::new(100);
    let (transport, connector) = MemoryTransport::new("m", 1024);
    block_on(broker.add_transport("m", transport)).unwrap();
    let mut sub = broker.client("sub").unwrap();
    let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
    in_time(sub.subscribe(&TopicFilter::new("t").unwrap(), options)).unwrap();
    let payload = vec![7; 40 * 1024 * 1024];
    in_time(async {
        let mut stream = connector.connect().unwrap();
        stream.write_all(&connect_packet("a")).await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(&publish(4, "t", &payload, 0, 0)).await.unwrap();
        assert_eq!(sub.recv().await.unwrap().payload().len(), payload.len());
    });
}

#[test]
fn pitfall_20_a_packet_in_drops_has_one_deadline() {
    let limits = Limits { packet_timeout: Duration::from_millis(400), ..Limits::default() };
    let (broker, endpoint) = limited(limits);
    let mut other = Peer::connect(&endpoint, "other");
    let mut peer = Connect::new(4, "slow").accepted(&endpoint);
    let bytes = publish(4, "t", &[b'x'; 100], 0, 0);
    // A drop every 50 ms: each comes long before the deadline, the packet does not.
    let closed = bytes.iter().take(80).any(|byte| {
        let _ = std::io::Write::write_all(&mut peer.0, &[*byte]);
        peer.is_closed_within(Duration::from_millis(50))
    });
    assert!(closed, "a drop at a time kept the packet open");
    assert_eq!(broker.counters().packets_timed_out, 1);
    other.ping();
}

/// A search that looks at many retained messages pauses, and goes on although nothing else happens.
#[test]
fn pitfall_6_a_long_search_in_retained_messages_goes_on_by_itself() {
    let broker = Broker::new(100);
    let client = broker.client("host").unwrap();
    for i in 0..10_000 {
        let message = Message::new(&format!("t/{i}/x"), "x").unwrap().with_retain(true);
        block_on(client.publish(message)).unwrap();
    }
    let last = Message::new("u/1/y", "found").unwrap().with_retain(true);
    block_on(client.publish(last)).unwrap();
    let mut peer = Peer::connect(&listen(&broker, "l"), "a");
    peer.subscribe("+/+/y", 0);
    assert_eq!(peer.packet(), b"\x31\x0C\x00\x05u/1/yfound");
}

/// One SUBSCRIBE with very many filters, all with retained messages to be looked for.
#[test]
fn pitfall_6_very_many_filters_in_one_packet() {
    let (broker, endpoint) = limited(Limits::default());
    let mut body = vec![0, 1];
    let count = 60_000;
    for i in 0..count {
        body.extend(text(&format!("{i:05}")));
        body.push(0);
    }
    let mut peer = Connect::new(4, "a").accepted(&endpoint);
    peer.send(&packet(0x82, &body));
    let mut suback = vec![0; 4 + 2 + count];
    std::io::Read::read_exact(&mut peer.0, &mut suback).unwrap();
    assert!(suback[6..].iter().all(|&code| code == 0));
    peer.ping();
    assert_eq!(broker.counters().subscriptions, count);
}

/// MQTT-3.2.2-16: nobody can wait for others at the identifier that they will be given.
#[test]
fn pitfall_11_an_assigned_client_identifier_is_nobody_elses() {
    let (_broker, endpoint) = limited(Limits::default());
    let assigned = || {
        let (peer, connack) = Connect::new(5, "").send(&endpoint);
        let at = connack.windows(5).position(|bytes| bytes == b"auto-").unwrap();
        (peer, String::from_utf8(connack[at..at + 21].to_vec()).unwrap())
    };
    let (_peer, id) = assigned();
    let number = u64::from_str_radix(&id[5..], 16).unwrap();
    let mut waiting: Vec<Peer> = (1..=3)
        .map(|next| {
            let id = format!("auto-{:016x}", number.wrapping_add(next));
            Connect::new(5, &id).accepted(&endpoint)
        })
        .collect();
    let (_victim, id) = assigned();
    let got = u64::from_str_radix(&id[5..], 16).unwrap();
    assert!(got.wrapping_sub(number) > 3, "an identifier that is in use was assigned");
    waiting.iter_mut().for_each(Peer::ping);
}

#[test]
fn pitfall_7_shared_names_by_version() {
    let (_broker, endpoint) = limited(Limits::default());
    let mut peer = Connect::new(4, "a").accepted(&endpoint);
    peer.send(&subscribe(4, "$share/g", 0));
    assert_eq!(peer.packet(), [0x90, 3, 0, 1, 0x80]);
}
