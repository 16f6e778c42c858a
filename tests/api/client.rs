//! The in-process client: publish and subscribe from the host program.

use futures_lite::StreamExt;
use hrotti::{Broker, ClientError, Message, QoS, SubscriptionOptions, TopicFilter};

use crate::peer::{Peer, block_on, connect_packet, in_time, listen};

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn message(topic: &str, payload: &str, qos: QoS) -> Message {
    Message::new(topic, payload).unwrap().with_qos(qos)
}

#[test]
fn every_qos_as_a_stream() {
    let broker = Broker::new(100);
    let mut sub = broker.client("sub").unwrap();
    let publisher = broker.client("pub").unwrap();
    for granted in LEVELS {
        let options = SubscriptionOptions::with_qos(granted);
        in_time(sub.subscribe(&filter("a/+"), options)).unwrap();
        for sent in LEVELS {
            let published = in_time(publisher.publish(message("a/b", "x", sent))).unwrap();
            assert_eq!((published.matched, published.accepted), (1, 1));
            let came = in_time(sub.next()).unwrap();
            assert_eq!((came.topic(), came.payload()), ("a/b", b"x".as_slice()));
            assert_eq!(came.qos(), granted.min(sent));
            assert!(!came.retain());
        }
    }
}

#[test]
fn to_and_from_the_network() {
    let broker = Broker::new(100);
    let mut peer = Peer::connect(&listen(&broker, "l"), "peer");
    let mut client = broker.client("host").unwrap();
    peer.subscribe("down", 1);
    let options = SubscriptionOptions::with_qos(QoS::ExactlyOnce);
    in_time(client.subscribe(&filter("up"), options)).unwrap();
    in_time(client.publish(message("down", "x", QoS::AtLeastOnce))).unwrap();
    let packet = peer.packet();
    assert_eq!(packet[..8], *b"\x32\x09\x00\x04down");
    peer.send(&[0x40, 2, packet[8], packet[9]]);
    peer.publish("up", "y", 1, 9);
    assert_eq!(peer.packet(), [0x40, 2, 0, 9]);
    let came = in_time(client.recv()).unwrap();
    assert_eq!(
        (came.topic(), came.payload(), came.qos()),
        ("up", b"y".as_slice(), QoS::AtLeastOnce)
    );
}

#[test]
fn order_is_kept() {
    let broker = Broker::new(1000);
    let mut sub = broker.client("sub").unwrap();
    let publisher = broker.client("pub").unwrap();
    in_time(sub.subscribe(&filter("t"), SubscriptionOptions::with_qos(QoS::AtLeastOnce))).unwrap();
    for i in 0..500 {
        in_time(publisher.publish(message("t", &i.to_string(), QoS::AtLeastOnce))).unwrap();
    }
    for i in 0..500 {
        assert_eq!(in_time(sub.next()).unwrap().payload(), i.to_string().as_bytes());
    }
}

#[test]
fn retained_messages_come_with_the_flag() {
    let broker = Broker::new(100);
    let publisher = broker.client("pub").unwrap();
    let kept = message("t", "x", QoS::AtMostOnce).with_retain(true);
    in_time(publisher.publish(kept)).unwrap();
    let mut sub = broker.client("sub").unwrap();
    in_time(sub.subscribe(&filter("#"), SubscriptionOptions::with_qos(QoS::AtMostOnce))).unwrap();
    let came = in_time(sub.next()).unwrap();
    assert_eq!((came.payload(), came.retain()), (b"x".as_slice(), true));
}

#[test]
fn unsubscribed_gets_nothing_more() {
    let broker = Broker::new(100);
    let mut client = broker.client("a").unwrap();
    let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
    in_time(client.subscribe(&filter("t"), options)).unwrap();
    in_time(client.subscribe(&filter("marker"), options)).unwrap();
    assert!(in_time(client.unsubscribe(&filter("t"))).unwrap());
    assert!(!in_time(client.unsubscribe(&filter("t"))).unwrap());
    let published = in_time(client.publish(message("t", "x", QoS::AtMostOnce))).unwrap();
    assert_eq!((published.matched, published.accepted), (0, 0));
    in_time(client.publish(message("marker", "m", QoS::AtMostOnce))).unwrap();
    assert_eq!(in_time(client.recv()).unwrap().topic(), "marker");
}

#[test]
fn an_id_in_use_is_an_error() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l");
    let client = broker.client("taken").unwrap();
    assert!(matches!(broker.client("taken"), Err(ClientError::InUse(_))));
    let _peer = Peer::connect(&endpoint, "network");
    assert!(matches!(broker.client("network"), Err(ClientError::InUse(_))));
    // From the network: Identifier Rejected, and the owner is not disturbed.
    let mut intruder = Peer::dial(&endpoint);
    intruder.send(&connect_packet("taken"));
    assert_eq!(intruder.packet(), [0x20, 2, 0, 2]);
    intruder.expect_closed();
    in_time(client.publish(message("t", "x", QoS::AtMostOnce))).unwrap();
    drop(client);
    Peer::connect(&endpoint, "taken").ping();
}

#[test]
fn an_empty_id_is_refused() {
    assert!(matches!(Broker::new(1).client(""), Err(ClientError::InvalidId(_))));
}

#[test]
fn dropping_a_client_ends_its_session() {
    let broker = Broker::new(100);
    let client = broker.client("a").unwrap();
    in_time(client.subscribe(&filter("t"), SubscriptionOptions::with_qos(QoS::AtLeastOnce)))
        .unwrap();
    drop(client);
    assert!(broker.sessions().is_empty());
    let other = broker.client("b").unwrap();
    let published = block_on(other.publish(message("t", "x", QoS::AtLeastOnce))).unwrap();
    assert_eq!((published.matched, published.accepted), (0, 0));
}

#[test]
fn a_reader_that_stops_gets_the_oldest() {
    let broker = Broker::new(10);
    let mut sub = broker.client("sub").unwrap();
    let publisher = broker.client("pub").unwrap();
    in_time(sub.subscribe(&filter("t"), SubscriptionOptions::with_qos(QoS::AtMostOnce))).unwrap();
    for i in 0..25 {
        let published =
            in_time(publisher.publish(message("t", &i.to_string(), QoS::AtMostOnce))).unwrap();
        assert_eq!((published.matched, published.accepted), (1, u64::from(i < 10)));
    }
    for i in 0..10 {
        assert_eq!(in_time(sub.recv()).unwrap().payload(), i.to_string().as_bytes());
    }
    in_time(publisher.publish(message("t", "after", QoS::AtMostOnce))).unwrap();
    assert_eq!(in_time(sub.recv()).unwrap().payload(), b"after");
}
