//! A broker hands its state over to another one in the same process.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use hrotti::access::{
    Answer, Authenticating, Credentials, Decision, Identity, Policy, Request, Rule,
};
use hrotti::{
    Broker, ClientError, DisconnectCause, Events, HandOverError, Happening, ListenerConfig,
    ListenerError, Message, QoS, ReasonCode, StateError, SubscriptionOptions, TopicFilter,
};

use crate::peer::{ANY, DEADLINE, Peer, block_on, connect_packet, in_time, listen};

/// CONNECT of 3.1.1 with Clean Session 0, and the rest of the packet.
fn resuming(id: &str) -> Vec<u8> {
    let mut packet = connect_packet(id);
    packet[9] = 0;
    packet
}

/// A connected Client with a Session that outlives its Network Connection.
fn resume(endpoint: &str, id: &str, present: bool) -> Peer {
    let mut peer = Peer::dial(endpoint);
    peer.send(&resuming(id));
    assert_eq!(peer.packet(), [0x20, 2, u8::from(present), 0], "CONNACK for {id}");
    peer
}

/// CONNECT of MQTT 5 with a Session of an hour, and a Will `gone` to `will` with a delay in seconds.
fn with_will(id: &str, delay: u8) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05\x04\x00\x00\x05\x11\x00\x00\x0E\x10".to_vec();
    body.extend([0, id.len() as u8]);
    body.extend(id.bytes());
    body.extend([5, 0x18, 0, 0, 0, delay]);
    body.extend(b"\x00\x04will\x00\x04gone");
    [vec![0x10, body.len() as u8], body].concat()
}

fn message(topic: &str, payload: &str) -> Message {
    Message::new(topic, payload).unwrap().with_qos(QoS::AtLeastOnce)
}

/// Hands everything over.
fn hand_over(old: &Broker, new: &Broker) {
    let hand_over = in_time(old.begin_hand_over(DEADLINE)).unwrap();
    let mut state = Vec::new();
    let written = in_time(hand_over.export_state(&mut state)).unwrap();
    assert_eq!(in_time(new.import_state(state.as_slice())).unwrap(), written);
    in_time(hand_over.finish());
    for broker in [old, new] {
        assert!(broker.ledger().balances(), "{:?}", broker.ledger());
    }
}

#[test]
fn a_session_goes_on_in_another_broker_with_its_messages_in_order() {
    let (old, new) = (Broker::new(100), Broker::new(100));
    let endpoint = listen(&old, "l");
    let publisher = old.client("publisher").unwrap();
    let mut peer = resume(&endpoint, "c", false);
    peer.subscribe("t/#", 2);
    for number in 0..3 {
        in_time(publisher.publish(message("t/a", &format!("inflight {number}")))).unwrap();
        peer.packet();
    }
    drop(peer);
    while old.sessions().iter().any(|session| session.connected && session.client_id == "c") {
        std::thread::yield_now();
    }
    in_time(publisher.publish(message("t/b", "waiting").with_retain(true))).unwrap();
    in_time(publisher.publish(message("$SYS/broker/uptime", "long").with_retain(true))).unwrap();
    hand_over(&old, &new);
    assert_eq!(old.ledger().handed_over, 4);
    assert_eq!(new.ledger().offered, 4);
    assert_eq!((new.ledger().waiting, new.ledger().inflight), (1, 3));
    assert_eq!(new.counters().retained_messages, 1, "what tells of the old broker stays with it");

    let endpoint = listen(&new, "l");
    let mut peer = resume(&endpoint, "c", true);
    for number in 0..3 {
        let again = peer.packet();
        assert_eq!(again[0], 0x3A, "QoS 1 with DUP");
        assert!(again.ends_with(format!("inflight {number}").as_bytes()), "{again:?}");
    }
    let waiting = peer.packet();
    assert!(waiting[0] == 0x32 && waiting.ends_with(b"waiting"), "{waiting:?}");
    // The subscription is in the tree of the new broker.
    let publisher = new.client("publisher").unwrap();
    in_time(publisher.publish(message("t/c", "live"))).unwrap();
    assert!(peer.packet().ends_with(b"live"));
}

#[test]
fn a_will_without_delay_is_published_before_and_one_with_delay_waits_in_the_new_broker() {
    let (old, new) = (Broker::new(100), Broker::new(100));
    let endpoint = listen(&old, "l");
    let mut reads = old.client("reads").unwrap();
    let filter = TopicFilter::new("will").unwrap();
    in_time(reads.subscribe(&filter, SubscriptionOptions::default())).unwrap();
    let mut stays = resume(&endpoint, "stays", false);
    stays.subscribe("will", 1);
    let mut peers = Vec::new();
    for (id, delay) in [("prompt", 0), ("patient", 9)] {
        let mut peer = Peer::dial(&endpoint);
        peer.send(&with_will(id, delay));
        assert_eq!(peer.packet()[2..4], [0, 0], "CONNACK");
        peers.push(peer);
    }
    hand_over(&old, &new);
    assert!(stays.packet().ends_with(b"gone"), "sent to a Client that is still connected");
    assert_eq!(in_time(reads.recv()).unwrap().payload(), b"gone");
    assert!(in_time(reads.recv()).is_none(), "the other one is not published by the old broker");

    let mut reads = new.client("reads").unwrap();
    in_time(reads.subscribe(&filter, SubscriptionOptions::default())).unwrap();
    assert_eq!(new.sessions().iter().filter(|session| !session.in_process).count(), 3);
    drop(new);
    assert_eq!(in_time(reads.recv()).unwrap().payload(), b"gone", "published at its stop");
    assert!(in_time(reads.recv()).is_none(), "one was left");
    drop(peers);
}

#[test]
fn members_of_a_shared_subscription_stay_members() {
    let (old, new) = (Broker::new(100), Broker::new(100));
    let endpoint = listen(&old, "l");
    for id in ["one", "two"] {
        resume(&endpoint, id, false).subscribe("$share/g/s", 1);
    }
    while old.sessions().iter().any(|session| session.connected) {
        std::thread::yield_now();
    }
    let publisher = old.client("publisher").unwrap();
    for number in 0..4 {
        in_time(publisher.publish(message("s", &format!("{number}")))).unwrap();
    }
    hand_over(&old, &new);
    let endpoint = listen(&new, "l");
    // One member ends its Session: its messages go to the other one.
    let mut one = Peer::connect(&endpoint, "one");
    one.ping();
    let mut two = resume(&endpoint, "two", true);
    let mut got: Vec<u8> = (0..4).map(|_| *two.packet().last().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, *b"0123");
    let publisher = new.client("publisher").unwrap();
    in_time(publisher.publish(message("s", "4"))).unwrap();
    assert!(two.packet().ends_with(b"4"));
    assert!(new.ledger().balances());
}

/// Lets in everybody by name.
struct ByName;

impl Policy for ByName {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let identity = Identity::new(Rule::named("by name"));
        let name = shown.user_name.as_deref().unwrap_or_default();
        let answer = Answer::accept(identity.with_user_name(name));
        Box::pin(async move { answer })
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::Allow(Rule::named("all"))
    }
}

#[test]
fn a_session_stays_its_users_pitfall_10() {
    let broker = || Broker::builder().policy(Arc::new(ByName)).build();
    let (old, new) = (broker(), broker());
    let connect = |user: &str| {
        let mut body = b"\x00\x04MQTT\x04\x80\x00\x00\x00\x01c\x00".to_vec();
        body.push(user.len() as u8);
        body.extend(user.bytes());
        [vec![0x10, body.len() as u8], body].concat()
    };
    let endpoint = listen(&old, "l");
    let mut peer = Peer::dial(&endpoint);
    peer.send(&connect("ann"));
    assert_eq!(peer.packet(), [0x20, 2, 0, 0]);
    hand_over(&old, &new);
    let endpoint = listen(&new, "l");
    let mut other = Peer::dial(&endpoint);
    other.send(&connect("bob"));
    assert_eq!(other.packet(), [0x20, 2, 0, 2], "it is another user's");
    let mut ann = Peer::dial(&endpoint);
    ann.send(&connect("ann"));
    assert_eq!(ann.packet(), [0x20, 2, 1, 0]);
}

#[test]
fn a_broker_that_stands_still_changes_nothing_and_goes_on_when_the_hand_over_is_dropped() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l");
    let publisher = broker.client("publisher").unwrap();
    let mut peer = resume(&endpoint, "c", false);
    peer.subscribe("t", 1);
    in_time(broker.publish(message("kept", "1").with_retain(true))).unwrap();
    let standing = in_time(broker.begin_hand_over(DEADLINE)).unwrap();
    peer.expect_closed();
    let error = in_time(broker.begin_hand_over(DEADLINE)).unwrap_err();
    assert_eq!(error, HandOverError::UnderWay);
    let published = in_time(publisher.publish(message("t", "lost?")));
    assert_eq!(published.unwrap_err(), ClientError::HandingOver);
    assert_eq!(broker.client("other").unwrap_err(), ClientError::HandingOver);
    let published = in_time(broker.publish(message("t", "lost?").with_retain(true)));
    assert_eq!(published.unwrap_err(), ClientError::HandingOver);
    assert!(!broker.end_session("c"), "it is being handed over");
    assert_eq!(in_time(broker.clear_retained(&TopicFilter::new("#").unwrap())), 0);
    let added = block_on(broker.add_listener("m", ListenerConfig::new(ANY).unwrap()));
    assert!(matches!(added, Err(ListenerError::HandingOver)), "{added:?}");

    // A peer connects, and waits in the operating system.
    let mut early = Peer::dial(&endpoint);
    early.send(&resuming("c"));
    early.0.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(early.0.read(&mut [0]).is_err(), "nobody answers yet");
    early.0.set_read_timeout(Some(DEADLINE)).unwrap();
    drop(standing);
    assert_eq!(early.packet(), [0x20, 2, 1, 0], "its Session is still there");
    in_time(publisher.publish(message("t", "live"))).unwrap();
    assert!(early.packet().ends_with(b"live"));
    assert!(broker.ledger().balances());
    assert_eq!(in_time(broker.clear_retained(&TopicFilter::new("#").unwrap())), 1);
    in_time(broker.stop());
    assert_eq!(in_time(broker.begin_hand_over(DEADLINE)).unwrap_err(), HandOverError::Stopped);
}

/// What each Client of a broker was told, by the events that a receiver holds once the broker has ended.
fn causes(events: &mut Events) -> Vec<(String, DisconnectCause)> {
    let mut causes = Vec::new();
    while let Some(event) = in_time(events.next()) {
        if let Happening::Disconnected { client, cause } = &event.unwrap().what {
            causes.push((client.client_id.to_string(), *cause));
        }
    }
    causes.sort_by(|(one, _), (other, _)| one.cmp(other));
    causes
}

#[test]
fn the_counters_of_both_brokers_are_exact_and_clients_are_told_of() {
    let (old, new) = (Broker::new(100), Broker::new(100));
    let endpoint = listen(&old, "l");
    let mut peers = ["a", "b"].map(|id| resume(&endpoint, id, false));
    peers[0].subscribe("t/#", 1);
    peers[1].subscribe("$share/s/t/a", 1);
    let mut brief = Peer::connect(&endpoint, "brief");
    brief.subscribe("t/a", 1);
    assert_eq!((old.counters().connections, old.counters().sessions), (3, 3));
    let mut events = old.events();
    hand_over(&old, &new);
    for (broker, left) in [(&old, 0), (&new, 2)] {
        let counters = broker.counters();
        assert_eq!((counters.connections, counters.slow_sessions), (0, 0));
        assert_eq!((counters.sessions, counters.subscriptions), (left, left));
        assert_eq!(broker.sessions().len(), left);
    }
    let causes = causes(&mut events);
    assert_eq!(causes.len(), 3, "{causes:?}");
    for ((id, cause), expected) in causes.iter().zip(["a", "b", "brief"]) {
        let code = ReasonCode::SERVER_SHUTTING_DOWN;
        assert_eq!((id.as_str(), cause.code()), (expected, Some(code)), "{cause}");
    }
    let mut again = resume(&listen(&new, "l"), "a", true);
    assert_eq!((new.counters().connections, new.counters().sessions), (1, 2));
    again.send(&[0xE0, 0]);
    again.expect_closed();
}

#[test]
fn an_existing_session_is_not_replaced_and_bytes_that_are_no_state_are_named() {
    let (old, new) = (Broker::new(100), Broker::new(100));
    drop(resume(&listen(&old, "l"), "c", false));
    let hand_over = in_time(old.begin_hand_over(DEADLINE)).unwrap();
    let mut state = Vec::new();
    in_time(hand_over.export_state(&mut state)).unwrap();
    drop(hand_over);
    in_time(new.import_state(state.as_slice())).unwrap();
    let again = in_time(new.import_state(state.as_slice())).unwrap_err();
    assert!(matches!(&again, StateError::SessionExists(id) if id == "c"), "{again}");
    let error = in_time(new.import_state(&b"no state at all"[..])).unwrap_err();
    assert!(matches!(error, StateError::NotAState), "{error}");
    // It announces more than there is: nothing is allocated for it (pitfall 1).
    let mut huge = state[..10].to_vec();
    huge.extend([1, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3]);
    let error = in_time(new.import_state(huge.as_slice())).unwrap_err();
    assert_eq!(error.to_string(), "the bytes end before the state does");
    assert_eq!(new.sessions().len(), 1);
}
