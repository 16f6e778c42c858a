//! Whole Sessions: their books under any interleaving, and one by one what begins and ends them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use ahash::RandomState;
use proptest::prelude::*;

use super::testing::{
    Kept, Nothing, Packet, delivery, delivery_of, message, number, terms, written,
};
use super::*;
use crate::packet::SubscriptionOptions;
use crate::subscription::ShareGroup;

mod sending;
mod sim;

use sim::{Sim, hostile_op, op};

const V5: ProtocolVersion = ProtocolVersion::V5;
const NOW: Timestamp = Timestamp(1_000);

fn new_session(depth: usize) -> Session {
    let limits = Limits { max_queue_depth: depth, ..Limits::default() };
    Session::new("client".into(), RandomState::with_seeds(1, 2, 3, 4), &limits)
}

/// A Session with a Network Connection that may be written to.
fn connected(terms: Terms) -> Session {
    let mut session = new_session(100);
    let _first = session.attach(terms, 60, None);
    session.set_blocked(false);
    session
}

fn offer(session: &mut Session, delivery: Delivery) {
    assert!(matches!(session.offer(delivery, NOW), Offered::Waiting { .. }));
}

/// SUBSCRIBE, with what is retained to follow.
fn subscribe(session: &mut Session, filter: &TopicFilter, subscription: Subscription) {
    let _new = session.subscribe(filter.clone(), subscription);
    session.replay(Replay::new(filter.clone(), subscription));
}

fn any_qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

proptest! {
    /// Order, identifiers, quota, DUP, QoS 2 once and the books, whatever the network does.
    #[test]
    fn a_session_survives_its_network(
        v5 in any::<bool>(),
        depth in 1usize..12,
        ops in proptest::collection::vec(op(), 1..150),
        ends in any::<bool>(),
    ) {
        let version = if v5 { V5 } else { ProtocolVersion::V3_1_1 };
        let mut sim = Sim::new(version, depth, true);
        for op in &ops {
            sim.step(op);
        }
        if !ends {
            sim.settle();
        }
        sim.end();
    }

    /// A Client that acknowledges what it was not sent gets its way, and breaks nothing (pitfalls 5, 13).
    #[test]
    fn a_session_survives_its_client(
        depth in 1usize..12,
        ops in proptest::collection::vec(hostile_op(), 1..150),
    ) {
        let mut sim = Sim::new(V5, depth, false);
        for op in &ops {
            sim.step(op);
        }
        sim.end();
    }

    /// No older retained value after a newer one, nothing lost for depth, RETAIN set.
    #[test]
    fn a_replay_is_a_cursor(
        steps in proptest::collection::vec((0u8..6, 0usize..4, 0usize..80), 1..80),
    ) {
        replay_steps(&steps);
    }

    /// In process: taken is delivered.
    #[test]
    fn what_is_taken_in_process_is_delivered(
        steps in proptest::collection::vec((any::<bool>(), any_qos(), 0u32..3), 1..60),
    ) {
        let mut session = new_session(5);
        let _attached = session.attach(terms(V5), 0, None);
        let (mut expected, mut now) = (std::collections::VecDeque::new(), NOW);
        for ((offers, qos, secs), value) in steps.into_iter().zip(0..) {
            if offers {
                let message = message("t", value, 8).with_expiry_secs(secs).accepted_at(now);
                match session.offer(delivery_of(message.clone(), qos), now) {
                    Offered::Waiting { .. } => expected.push_back((value, message.expires_at())),
                    Offered::Full(refused) => drop(session.give_up(refused)),
                    other => panic!("{other:?}"),
                }
            } else {
                now = Timestamp(now.0 + 500);
                let taken = session.take_message(now, &mut Nothing);
                expected.retain(|(_, at)| *at > now);
                let next = expected.pop_front().map(|(value, _)| value);
                prop_assert_eq!(taken.map(|message| number(message.payload())), next);
            }
            prop_assert!(session.ledger().balances());
            prop_assert!(session.waiting_len() <= 5);
        }
    }
}

/// Retains, subscribes and writes in some order, with a small quota and a Client that acknowledges now and
/// then. As the broker does it: retained first, then offered.
fn replay_steps(steps: &[(u8, usize, usize)]) {
    let subscription = Subscription {
        options: SubscriptionOptions::with_qos(QoS::AtLeastOnce),
        id: std::num::NonZeroU32::new(9),
    };
    let filter = TopicFilter::new("+").unwrap();
    let mut session = new_session(1_000);
    let _attached = session.attach(Terms { quota: 3, ..terms(V5) }, 60, None);
    let mut kept = Kept::default();
    let mut newest = [0; 4];
    let mut open = Vec::new();
    let mut got = |packets: Vec<Packet>, open: &mut Vec<u16>| {
        for packet in packets {
            let index: usize = packet.topic.parse().unwrap();
            assert!(packet.number() >= newest[index], "older after newer: {packet:?}");
            newest[index] = packet.number();
            // Live messages here come without it, so that the two can be told apart.
            assert_eq!(packet.retain, packet.ids == [9], "MQTT-3.3.1-8: {packet:?}");
            open.push(packet.id.unwrap());
        }
    };
    for (&(what, topic, count), value) in steps.iter().zip(1..) {
        match what {
            0 | 1 => {
                let message = message(&topic.to_string(), value, 8).with_qos(QoS::AtLeastOnce);
                kept.0.insert(topic.to_string(), message.clone());
                if what == 1 {
                    offer(&mut session, delivery_of(message, QoS::AtLeastOnce));
                }
            }
            2 => subscribe(&mut session, &filter, subscription),
            3 => {
                let waits = session.waiting_len();
                subscribe(&mut session, &filter, subscription);
                assert_eq!(session.waiting_len(), waits, "it does not occupy the queue");
            }
            4 => got(written(&mut session, NOW, &mut kept), &mut open),
            _ => {
                for id in open.drain(..count.min(open.len())) {
                    let _done = session.puback(PacketId::new(id).unwrap(), ReasonCode::SUCCESS);
                }
            }
        }
        assert!(session.ledger().balances());
    }
    // All of it comes: the newest value of every topic, if anybody subscribed after it.
    subscribe(&mut session, &filter, subscription);
    while session.has_more() || !open.is_empty() {
        got(written(&mut session, NOW, &mut kept), &mut open);
        for id in open.drain(..) {
            let _done = session.puback(PacketId::new(id).unwrap(), ReasonCode::SUCCESS);
        }
    }
    for (topic, message) in &kept.0 {
        assert_eq!(newest[topic.parse::<usize>().unwrap()], number(message.payload()));
    }
    assert_eq!(session.ledger().dropped_total(), 0);
}

#[test]
fn an_acknowledgement_before_its_writer_came_back_balances() {
    let mut session = connected(terms(V5));
    offer(&mut session, delivery(QoS::AtLeastOnce, 1));
    offer(&mut session, delivery(QoS::AtLeastOnce, 2));
    let mut out = Outgoing::default();
    let epoch = session.begin_batch(NOW, &mut out, &mut Vec::new(), &mut Nothing).unwrap();
    let done = session.puback(PacketId::new(1).unwrap(), ReasonCode::SUCCESS);
    assert!(matches!(done, Acknowledged::Completed { refused: false }));
    let ledger = session.ledger();
    assert!(ledger.balances());
    assert_eq!((ledger.delivered, ledger.waiting, ledger.inflight), (1, 1, 0));
    let all = out.len();
    assert!(!session.end_batch(epoch, &mut out, all));
    let ledger = session.ledger();
    assert_eq!((ledger.delivered, ledger.waiting, ledger.inflight), (1, 0, 1));
}

#[test]
fn a_session_that_ends_before_the_second_offer_has_nothing_in_its_books() {
    let mut session = new_session(1);
    let _attached = session.attach(terms(V5), 60, None);
    offer(&mut session, delivery(QoS::AtLeastOnce, 1));
    let Offered::Full(refused) = session.offer(delivery(QoS::AtLeastOnce, 2), NOW) else {
        panic!("there was room");
    };
    let _nothing = session.end();
    let books = session.ledger();
    assert!(books.balances() && books.offered == 1);
    assert!(matches!(session.offer_again(refused, NOW), Offered::Gone));
    assert_eq!(session.ledger(), books);
}

#[test]
fn what_expired_makes_room_for_the_newest_mqtt_3_3_2_5() {
    let mut session = new_session(2);
    let _attached = session.attach(terms(V5), 60, None);
    let short = message("t", 1, 8).with_expiry_secs(1).accepted_at(NOW);
    offer(&mut session, delivery_of(short, QoS::AtLeastOnce));
    offer(&mut session, delivery(QoS::AtLeastOnce, 2));
    let third = delivery(QoS::AtLeastOnce, 3);
    let Offered::Full(refused) = session.offer(third, Timestamp(NOW.0 + 999)) else {
        panic!("nothing has expired yet");
    };
    let late = Timestamp(NOW.0 + 1_000);
    assert!(matches!(session.offer_again(refused, late), Offered::Waiting { pressed: true }));
    assert_eq!(session.ledger().expired, 1);
    let numbers: Vec<_> =
        written(&mut session, late, &mut Nothing).iter().map(Packet::number).collect();
    assert_eq!(numbers, [2, 3]);
}

#[test]
fn a_message_that_expired_is_not_sent_but_what_was_sent_is_completed_mqtt_3_3_2_5() {
    let mut session = connected(terms(V5));
    let short = |number| message("t", number, 8).with_expiry_secs(1).accepted_at(NOW);
    offer(&mut session, delivery_of(short(1), QoS::AtLeastOnce));
    assert_eq!(written(&mut session, NOW, &mut Nothing).len(), 1);
    offer(&mut session, delivery_of(short(2), QoS::AtLeastOnce));
    let late = Timestamp(NOW.0 + 5_000);
    assert!(written(&mut session, late, &mut Nothing).is_empty());
    let _lost = session.detach(session.epoch(), Departure::Lost, late).unwrap();
    let _again = session.attach(terms(V5), 60, None);
    let again = written(&mut session, late, &mut Nothing);
    assert_eq!(again.len(), 1);
    assert!(again[0].dup && again[0].number() == 1);
}

#[test]
fn away_is_for_qos_1_and_2_alone() {
    let mut session = connected(terms(V5));
    offer(&mut session, delivery(QoS::AtMostOnce, 1));
    offer(&mut session, delivery(QoS::AtLeastOnce, 2));
    let left = session.detach(1, Departure::Lost, NOW).unwrap();
    assert!(!left.ended && left.unsent.is_empty());
    assert_eq!(session.ledger().dropped(DropReason::Away), 1);
    let ended = session.offer(delivery(QoS::AtMostOnce, 3), NOW);
    assert!(matches!(ended, Offered::Ended(Outcome::Dropped(DropReason::Away))));
    offer(&mut session, delivery(QoS::ExactlyOnce, 4));
    let ledger = session.ledger();
    assert_eq!((ledger.offered, ledger.waiting), (4, 2));
    assert!(ledger.balances() && session.version().is_none());
    let mut protocol = vec![1];
    let nobody = session.begin_batch(NOW, &mut Outgoing::default(), &mut protocol, &mut Nothing);
    assert!(nobody.is_none() && protocol == [1]);
}

#[test]
fn the_session_expiry_interval_begins_when_the_connection_ends_mqtt_4_1_0_2() {
    let mut session = new_session(1);
    let (epoch, _) = session.attach(terms(V5), 10, None);
    assert_eq!(session.next_deadline(), Timestamp::NEVER);
    assert!(!session.is_over(Timestamp(u64::MAX - 1)));
    assert!(!session.detach(epoch, Departure::Normal, NOW).unwrap().ended);
    assert_eq!(session.next_deadline(), Timestamp(NOW.0 + 10_000));
    assert!(!session.is_over(Timestamp(NOW.0 + 9_999)));
    assert!(session.is_over(Timestamp(NOW.0 + 10_000)));
    let (epoch, _) = session.attach(terms(V5), u32::MAX, None);
    assert!(!session.is_over(Timestamp(NOW.0 + 10_000)));
    assert!(!session.detach(epoch, Departure::Lost, NOW).unwrap().ended);
    assert_eq!(session.next_deadline(), Timestamp::NEVER);
    let (epoch, _) = session.attach(terms(V5), 0, None);
    assert!(session.detach(epoch, Departure::Lost, NOW).unwrap().ended);
}

#[test]
fn disconnect_may_lower_the_expiry_but_not_raise_it_from_zero() {
    let mut session = new_session(1);
    let _attached = session.attach(terms(V5), 10, None);
    assert!(session.set_expiry_secs(20) && session.expiry_secs() == 20);
    assert!(session.set_expiry_secs(0) && session.expiry_secs() == 0);
    assert!(session.set_expiry_secs(0));
    assert!(!session.set_expiry_secs(1) && session.expiry_secs() == 0);
}

fn will(delay_secs: u32) -> Option<Will> {
    Some(Will { message: message("will", 7, 8), delay_secs })
}

#[test]
fn a_will_is_published_as_the_connection_ended_mqtt_3_1_2_8() {
    let mut session = new_session(1);
    let (epoch, left) = session.attach(terms(V5), 10, will(0));
    assert!(left.will.is_none());
    let mut left = session.detach(epoch, Departure::Lost, NOW).unwrap();
    assert!(left.will.take().is_some());
    let (epoch, _) = session.attach(terms(V5), 10, will(0));
    let left = session.detach(epoch, Departure::Normal, NOW).unwrap();
    assert!(left.will.is_none(), "MQTT-3.14.4-3");
    assert!(session.take_will().is_none(), "MQTT-3.1.2-10");
    // A takeover is the end of a connection, too.
    let _again = session.attach(terms(V5), 10, will(0));
    assert!(session.take_will_for_resumption().is_some());
    let _again = session.attach(terms(V5), 10, will(5));
    assert!(session.take_will_for_resumption().is_none(), "MQTT-3.1.3-9");
    let (epoch, left) = session.attach(terms(V5), 10, will(5));
    assert!(left.will.is_none());
    assert!(session.detach(epoch, Departure::Lost, NOW).unwrap().will.is_none());
    assert_eq!(session.next_deadline(), Timestamp(NOW.0 + 5_000));
    assert!(session.take_due_will(Timestamp(NOW.0 + 4_999)).is_none());
    assert!(session.take_due_will(Timestamp(NOW.0 + 5_000)).is_some());
    assert_eq!(session.next_deadline(), Timestamp(NOW.0 + 10_000));
    let _armed = session.attach(terms(V5), 10, will(5));
    assert!(session.end().0.is_some());
}

#[test]
fn what_a_shared_subscription_may_hand_on_mqtt_4_8_2_4_to_6() {
    let group = Arc::new(ShareGroup);
    let mut session = connected(Terms { quota: 4, ..terms(V5) });
    for (value, qos) in
        [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce), (3, QoS::AtLeastOnce), (4, QoS::ExactlyOnce)]
    {
        let shared = Some(group.clone()).filter(|_| value != 3);
        offer(&mut session, Delivery { shared, ..delivery(qos, value) });
    }
    assert_eq!(written(&mut session, NOW, &mut Nothing).len(), 4);
    let _released = session.pubrec(PacketId::new(4).unwrap(), ReasonCode::SUCCESS);
    for value in [5, 6, 7] {
        let shared = Some(group.clone()).filter(|_| value != 6);
        offer(&mut session, Delivery { shared, ..delivery(QoS::ExactlyOnce, value) });
    }
    let (_, handed_on) = session.end();
    let numbers: Vec<_> = handed_on.iter().map(|d| number(d.message.payload())).collect();
    assert_eq!(numbers, [1, 5, 7]);
    let ledger = session.ledger();
    assert_eq!((ledger.offered, ledger.dropped(DropReason::SessionEnded)), (4, 4));
    assert!(ledger.balances() && session.has_ended() && !session.is_attached());
}

#[test]
fn qos_2_of_which_no_byte_was_taken_is_handed_on_mqtt_4_8_2_5() {
    let group = Arc::new(ShareGroup);
    let mut session = connected(terms(V5));
    for value in [1, 2] {
        let delivery = delivery(QoS::ExactlyOnce, value);
        offer(&mut session, Delivery { shared: Some(group.clone()), ..delivery });
    }
    let mut out = Outgoing::default();
    let epoch = session.begin_batch(NOW, &mut out, &mut Vec::new(), &mut Nothing).unwrap();
    session.end_batch(epoch, &mut out, 1); // the first byte of the first message
    let (_, handed_on) = session.end();
    let numbers: Vec<_> = handed_on.iter().map(|d| number(d.message.payload())).collect();
    assert_eq!(numbers, [2]);
    assert!(session.ledger().balances());
}

#[test]
fn a_shared_message_goes_to_who_can_take_it_mqtt_3_1_2_24() {
    let small = Terms { maximum_packet_size: Some(15), ..terms(V5) };
    let mut session = new_session(1);
    let one = delivery(QoS::AtLeastOnce, 1); // 2 + 3 + 2 + 1 + 8
    assert!(!session.takes_now(&one, NOW), "away");
    let _attached = session.attach(small, 60, None);
    assert!(!session.takes_now(&one, NOW), "too large");
    let _attached = session.attach(Terms { maximum_packet_size: Some(16), ..small }, 60, None);
    assert!(session.takes_now(&one, NOW));
    offer(&mut session, one.clone());
    assert!(!session.takes_now(&one, NOW), "full");
}

#[test]
fn subscriptions_are_bounded_and_replaced_mqtt_3_8_4_3() {
    let mut session = new_session(1);
    let options = SubscriptionOptions::default();
    let (one, two) = (TopicFilter::new("a").unwrap(), TopicFilter::new("b").unwrap());
    let limits = Limits {
        session_subscriptions_max: 1,
        session_subscription_bytes_max: 1,
        ..Limits::default()
    };
    let two_by_number = Limits { session_subscriptions_max: 2, ..limits.clone() };
    let two_by_bytes = Limits { session_subscription_bytes_max: 2, ..limits.clone() };
    assert!(session.admits_subscription(&one, &limits));
    assert!(session.subscribe(one.clone(), Subscription { options, id: None }));
    assert!(!session.admits_subscription(&two, &limits));
    assert!(session.admits_subscription(&one, &limits), "it replaces the one there is");
    assert!(!session.admits_subscription(&two, &two_by_number), "too many bytes");
    assert!(!session.admits_subscription(&two, &two_by_bytes), "too many");
    assert!(!session.subscribe(one.clone(), Subscription { options, id: None }), "replaced");
    assert_eq!(session.subscription_count(), 1);
    assert!(session.unsubscribe(&one) && !session.unsubscribe(&one));
    let _new = session.subscribe(two.clone(), Subscription { options, id: None });
    assert!(session.admits_subscription(&two, &limits), "what is removed does not count");
    assert_eq!(session.take_subscriptions().into_keys().collect::<Vec<_>>(), [two]);
}

#[test]
fn pressed_is_who_is_not_slow_and_half_full() {
    let mut session = new_session(4);
    let _attached = session.attach(terms(V5), 60, None);
    offer(&mut session, delivery(QoS::AtMostOnce, 1));
    offer(&mut session, delivery(QoS::AtMostOnce, 2));
    assert!(session.is_pressed() && !session.is_blocked());
    session.set_blocked(true);
    assert!(session.is_blocked() && !session.is_pressed(), "its transport takes nothing");
    session.set_blocked(false);
    assert!(session.is_pressed());
    assert_eq!(written(&mut session, NOW, &mut Nothing).len(), 2);
    assert!(!session.is_pressed());
}

/// In whatever way a message comes, the question is asked when it leaves: pitfall 9.
#[test]
fn what_a_client_may_not_receive_is_filtered_when_it_leaves_the_session() {
    let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    let filter = TopicFilter::new("#").unwrap();
    let mut session = new_session(10);
    let _attached = session.attach(terms(V5), 60, None);
    let _new = session.subscribe(filter.clone(), Subscription { options, id: None });
    let mut kept = Kept::default();
    let live = |session: &mut Session, topic: &str, number| {
        offer(session, delivery_of(message(topic, number, 8), QoS::AtLeastOnce));
    };
    // Live, queued before the rules changed, and retained.
    live(&mut session, "secret", 1);
    live(&mut session, "open", 2);
    kept.0.insert("secret".into(), message("secret", 3, 8));
    kept.0.insert("open".into(), message("open", 4, 8));
    kept.1.insert("secret".into());
    session.replay(Replay::new(filter, Subscription { options, id: None }));
    let numbers: Vec<u32> =
        written(&mut session, NOW, &mut kept).iter().map(Packet::number).collect();
    assert_eq!(numbers, [2, 4]);
    assert_eq!(session.ledger().filtered(FilterReason::NotAuthorized), 2);
    // Sent again on another Network Connection, after the rules changed.
    kept.1.insert("open".into());
    let _attached = session.attach(terms(V5), 60, None);
    assert!(written(&mut session, NOW, &mut kept).is_empty());
    assert_eq!(session.ledger().filtered(FilterReason::NotAuthorized), 3);
    assert_eq!(session.ledger().inflight, 0);
    // To a client in process.
    live(&mut session, "open", 5);
    live(&mut session, "free", 6);
    let taken = session.take_message(NOW, &mut kept).unwrap();
    assert_eq!(taken.topic(), "free");
    assert!(session.ledger().balances());
}

/// A message of QoS 2 that the transport took on the Network Connection before: the Client may have it and wait for
/// PUBREL. Nothing of it is sent again, and the exchange is completed.
#[test]
fn qos_2_that_is_denied_after_it_was_sent_is_completed_without_its_content_mqtt_4_3_3_10() {
    let mut kept = Kept::default();
    let mut session = connected(terms(V5));
    let _attached = session.attach(terms(V5), 60, None);
    let message = message("secret", 1, 8).with_qos(QoS::ExactlyOnce);
    let qos = QoS::ExactlyOnce;
    offer(&mut session, Delivery { message, qos, retain: false, ids: None, shared: None });
    let sent = written(&mut session, NOW, &mut kept);
    let id = sent[0].id;
    assert_eq!((sent[0].kind, sent.len()), (testing::PUBLISH, 1));
    kept.1.insert("secret".into());
    for _ in 0..2 {
        let _attached = session.attach(terms(V5), 60, None);
        let again = written(&mut session, NOW, &mut kept);
        assert_eq!((again[0].kind, again[0].id, again.len()), (testing::PUBREL, id, 1));
    }
    let id = PacketId::new(id.unwrap()).unwrap();
    assert!(matches!(session.pubrec(id, ReasonCode::SUCCESS), Acknowledged::Received));
    assert!(matches!(session.pubcomp(id), Acknowledged::Completed { .. }));
    assert_eq!(session.ledger().inflight, 0);
    assert!(session.ledger().balances());
}

/// A transport that takes one byte: what is encoded and not taken waits, and the queue depth is its bound.
#[test]
fn retained_messages_on_a_slow_transport_are_no_more_than_the_depth_at_once() {
    let subscription =
        Subscription { options: SubscriptionOptions::with_qos(QoS::ExactlyOnce), id: None };
    let mut kept = Kept::default();
    for (number, qos) in
        [QoS::AtMostOnce, QoS::AtLeastOnce].into_iter().cycle().take(20).enumerate()
    {
        let topic = format!("kept/{number:02}");
        let retained = message(&topic, u32::try_from(number).unwrap(), 8).with_qos(qos);
        kept.0.insert(topic, retained);
    }
    let mut session = new_session(3);
    let _attached = session.attach(terms(V5), 60, None);
    session.set_blocked(false);
    subscribe(&mut session, &TopicFilter::new("#").unwrap(), subscription);
    for round in 0.. {
        let (mut out, mut none) = (Outgoing::default(), Vec::new());
        let Some(epoch) = session.begin_batch(NOW, &mut out, &mut none, &mut kept) else { break };
        assert!(session.waiting_len() <= 3, "{round}: {}", session.waiting_len());
        let written = out.len().min(1);
        session.end_batch(epoch, &mut out, written);
        if written == 0 {
            break;
        }
    }
    assert_eq!(session.ledger().offered, 20);
    assert!(session.ledger().balances());
}

/// Live, retained, and sent again: what leaves has the name that the Client knows, and what has none there stays.
#[test]
fn a_prefix_is_taken_off_on_every_way_out_of_the_session() {
    let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    let filter = TopicFilter::new("#").unwrap();
    let mut session = new_session(10);
    let aliases = Terms { topic_alias_maximum: 2, ..terms(V5) };
    let _attached = session.attach(aliases, 60, None);
    session.mount(&"n/".into());
    let _new = session.subscribe(filter.clone(), Subscription { options, id: None });
    let live = |session: &mut Session, topic: &str, number| {
        offer(session, delivery_of(message(topic, number, 8), QoS::AtLeastOnce));
    };
    for (topic, number) in [("n/a", 1), ("n/a", 2), ("n/", 3), ("n", 4), ("m/a", 5), ("n/$b", 6)] {
        live(&mut session, topic, number);
    }
    let mut kept = Kept::default();
    kept.0.insert("n/kept".into(), message("n/kept", 7, 8));
    kept.0.insert("o/kept".into(), message("o/kept", 8, 8));
    session.replay(Replay::new(filter, Subscription { options, id: None }));
    let sent: Vec<_> = written(&mut session, NOW, &mut kept)
        .into_iter()
        .map(|packet| (packet.number(), packet.topic.clone(), packet.alias))
        .collect();
    let expected = [
        (1, "a".to_owned(), Some(1)),
        (2, String::new(), Some(1)),
        (6, "$b".to_owned(), Some(2)),
        (7, "kept".to_owned(), None),
    ];
    assert_eq!(sent, expected);
    assert_eq!(session.ledger().filtered(FilterReason::Unmounted), 4);
    // QoS 1 on another Network Connection: without a prefix whole, with another one not at all.
    let _attached = session.attach(terms(V5), 60, None);
    let topics = |packets: Vec<Packet>| -> Vec<String> {
        packets.into_iter().map(|packet| packet.topic).collect()
    };
    let again = topics(written(&mut session, NOW, &mut kept));
    assert_eq!(again, ["n/a", "n/a", "n/$b"]);
    let _attached = session.attach(terms(V5), 60, None);
    session.mount(&"m/".into());
    assert!(written(&mut session, NOW, &mut kept).is_empty());
    assert_eq!(session.ledger().filtered(FilterReason::Unmounted), 7);
    assert_eq!(session.ledger().inflight, 0);
    assert!(session.ledger().balances());
}

#[test]
fn a_member_that_is_mounted_elsewhere_takes_no_shared_message() {
    let mut session = new_session(10);
    let _attached = session.attach(terms(V5), 60, None);
    let shared = |topic: &str| delivery_of(message(topic, 1, 8), QoS::AtMostOnce);
    assert!(session.takes_now(&shared("m/a"), NOW));
    session.mount(&"n/".into());
    assert!(session.takes_now(&shared("n/a"), NOW) && !session.takes_now(&shared("m/a"), NOW));
}
