//! Several brokers, their end, and what may be done after it.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use futures_lite::future;
use hrotti::transport::Incoming;
use hrotti::{Broker, ClientError, Limits, ListenerConfig, ListenerError, Message, Transport};

use crate::peer::{ANY, Peer, block_on, in_time, listen};
use crate::raw::{Connect, subscribe, until};

fn is_send<T: Send + Sync + Clone + 'static>(_: &T) {}

#[test]
fn brokers_share_nothing() {
    let (one, other) = (Broker::new(100), Broker::new(100));
    is_send(&one);
    let mut here = Peer::connect(&listen(&one, "same"), "id");
    let mut there = Peer::connect(&listen(&other, "same"), "id");
    there.subscribe("#", 0);
    here.subscribe("#", 0);
    let client = one.client("host").unwrap();
    other.client("host").unwrap();
    block_on(client.publish(Message::new("t", "x").unwrap())).unwrap();
    assert_eq!(here.packet(), b"\x30\x04\x00\x01tx");
    there.ping();
    assert_eq!(other.ledger().offered, 0);
    in_time(one.stop());
    here.expect_closed();
    there.ping();
}

#[test]
fn retained_messages_stay_with_their_broker() {
    let (one, other) = (Broker::new(100), Broker::new(100));
    let client = one.client("host").unwrap();
    block_on(client.publish(Message::new("t", "x").unwrap().with_retain(true))).unwrap();
    let mut there = Peer::connect(&listen(&other, "l"), "a");
    there.subscribe("#", 0);
    there.ping();
    let mut here = Peer::connect(&listen(&one, "l"), "a");
    here.subscribe("#", 0);
    assert_eq!(here.packet(), b"\x31\x04\x00\x01tx");
}

#[test]
fn dropping_the_last_handle_stops_the_broker() {
    let broker = Broker::new(100);
    let clone = broker.clone();
    let endpoint = listen(&broker, "l");
    let mut peer = Peer::connect(&endpoint, "a");
    drop(broker);
    peer.ping();
    drop(clone);
    peer.expect_closed();
}

#[test]
fn stop_ends_everything_once_and_for_all() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l");
    let mut peer = Peer::connect(&endpoint, "a");
    let mut client = broker.client("host").unwrap();
    in_time(broker.stop());
    peer.expect_closed();
    assert!(in_time(client.recv()).is_none());
    let late = in_time(client.publish(Message::new("t", "x").unwrap()));
    assert!(matches!(late, Err(ClientError::Stopped)));
    assert!(matches!(broker.client("other"), Err(ClientError::Stopped)));
    let late = in_time(broker.add_listener("m", ListenerConfig::new(ANY).unwrap()));
    assert!(matches!(late, Err(ListenerError::Stopped)));
    assert!(broker.listeners().is_empty());
    in_time(broker.stop());
}

#[test]
fn stop_within_nothing_still_stops() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l");
    let mut peer = Peer::connect(&endpoint, "a");
    in_time(broker.stop_within(Duration::ZERO));
    peer.expect_closed();
    // The address is free: another broker takes it.
    let next = Broker::new(100);
    let config = ListenerConfig::new(&endpoint).unwrap();
    assert_eq!(in_time(next.add_listener("l", config)).unwrap(), endpoint);
}

#[test]
fn stop_delivers_what_waits() {
    let broker = Broker::new(100);
    let mut peer = Peer::connect(&listen(&broker, "l"), "a");
    peer.subscribe("t", 0);
    let client = broker.client("host").unwrap();
    for _ in 0..50 {
        block_on(client.publish(Message::new("t", "x").unwrap())).unwrap();
    }
    in_time(broker.stop());
    for _ in 0..50 {
        assert_eq!(peer.packet(), b"\x30\x04\x00\x01tx");
    }
    peer.expect_closed();
}

/// One stop, however many ask for it: each waits for its end, and none cuts another short.
#[test]
fn stops_at_the_same_moment_are_one_stop() {
    for event_loops in [0, 1] {
        let broker = Broker::builder().max_queue_depth(1_000).event_loops(event_loops).build();
        let mut peer = Connect::new(5, "slow").accepted(&listen(&broker, "l"));
        peer.send(&subscribe(5, "t", 0));
        peer.packet();
        let client = broker.client("host").unwrap();
        let message = Message::new("t", vec![b'x'; 100_000]).unwrap();
        for _ in 0..200 {
            block_on(client.publish(message.clone())).unwrap();
        }
        let stops: Vec<_> = (0..3)
            .map(|_| {
                let broker = broker.clone();
                std::thread::spawn(move || in_time(broker.stop()))
            })
            .collect();
        let got = peer.until_closed();
        stops.into_iter().for_each(|stop| stop.join().unwrap());
        let (messages, last) = got.split_at(200 * (1 + 3 + 4 + 100_000));
        assert!(messages.chunks(100_008).all(|message| message[0] == 0x30));
        assert_eq!((last[0], last[2]), (0xE0, 0x8B), "DISCONNECT: {last:x?}");
        assert!(broker.sessions().iter().all(|session| session.in_process));
    }
}

#[test]
fn a_stop_goes_on_when_its_future_is_dropped() {
    let broker = Broker::new(100);
    let mut peer = Peer::connect(&listen(&broker, "l"), "a");
    let mut client = broker.client("host").unwrap();
    let waiting = std::thread::spawn(move || in_time(client.recv()));
    {
        let stop = broker.stop();
        let mut stop = std::pin::pin!(stop);
        let _not_finished = block_on(futures_lite::future::poll_once(&mut stop));
    }
    assert!(waiting.join().unwrap().is_none(), "the stream of a client in process ends");
    peer.expect_closed();
}

/// The earliest deadline of all counts.
#[test]
fn a_second_stop_may_have_less_patience() {
    let limits = Limits { stop_timeout: Duration::from_secs(3_600), ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let mut peer = Peer::connect(&listen(&broker, "l"), "stopped-reading");
    peer.subscribe("t", 0);
    let client = broker.client("host").unwrap();
    for _ in 0..50 {
        block_on(client.publish(Message::new("t", vec![b'x'; 1 << 20]).unwrap())).unwrap();
    }
    let patient = {
        let broker = broker.clone();
        std::thread::spawn(move || in_time(broker.stop()))
    };
    until("the stop has begun", || broker.listeners().is_empty());
    in_time(broker.stop_within(Duration::from_millis(50)));
    patient.join().unwrap();
}

#[test]
fn depth_0_is_raised_to_1() {
    assert_eq!(Broker::new(0).limits().max_queue_depth, 1);
    assert_eq!(Broker::builder().max_queue_depth(7).build().limits().max_queue_depth, 7);
}

#[test]
fn limits_out_of_range_move_into_it() {
    let wrong = Limits {
        max_queue_depth: usize::MAX,
        receive_maximum: 0,
        topic_levels_max: 0,
        connect_timeout: Duration::ZERO,
        ..Limits::default()
    };
    let broker = Broker::builder().limits(wrong.clone()).build();
    assert_eq!(*broker.limits(), wrong.in_range());
    assert_eq!(broker.limits().receive_maximum, 1);
    assert_eq!(broker.limits().connect_timeout, Duration::from_secs(1));
}

#[test]
fn sessions_are_listed_with_what_they_hold() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l");
    let mut peer = Peer::dial(&endpoint);
    let mut connect = crate::peer::connect_packet("keeper");
    connect[9] = 0; // Clean Session 0
    peer.send(&connect);
    assert_eq!(peer.packet(), [0x20, 2, 0, 0]);
    peer.subscribe("t", 1);
    let find = || broker.sessions().into_iter().find(|s| s.client_id == "keeper").unwrap();
    let info = find();
    assert!(info.connected);
    assert_eq!((info.subscriptions, info.waiting, info.inflight), (1, 0, 0));
    peer.send(&[0xE0, 0]);
    peer.expect_closed();
    let client = broker.client("host").unwrap();
    let message = Message::new("t", "x").unwrap().with_qos(hrotti::QoS::AtLeastOnce);
    for _ in 0..3 {
        block_on(client.publish(message.clone())).unwrap();
    }
    let info = find();
    assert!(!info.connected);
    assert_eq!((info.subscriptions, info.waiting, info.inflight), (1, 3, 0));
}

/// A transport that holds the thread of its task until it is let go.
struct Stuck {
    has_begun: mpsc::Sender<()>,
    release: mpsc::Receiver<()>,
}

impl Transport for Stuck {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let _ = self.has_begun.send(());
        let _ = self.release.recv();
        std::future::pending().await
    }

    fn local_endpoint(&self) -> String {
        "stuck".to_owned()
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_heartbeat_waits_for_a_stuck_event_loop() {
    let broker = Broker::builder().event_loops(2).try_build().unwrap();
    in_time(broker.heartbeat());
    let ((has_begun, begun), (let_go, release)) = (mpsc::channel(), mpsc::channel());
    block_on(broker.add_transport("stuck", Stuck { has_begun, release })).unwrap();
    begun.recv().unwrap();
    let mut beat = Box::pin(broker.heartbeat());
    assert_eq!(block_on(future::poll_once(&mut beat)), None);
    // The other loop runs its task before that of a listener that is added later.
    let ((has_begun, begun), (_, release)) = (mpsc::channel(), mpsc::channel());
    block_on(broker.add_transport("beside", Stuck { has_begun, release })).unwrap();
    begun.recv().unwrap();
    assert_eq!(block_on(future::poll_once(&mut beat)), None);
    drop(let_go);
    in_time(beat);
}
