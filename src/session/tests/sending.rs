//! What stands in the batches.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::testing::{PUBLISH, PUBREL, flatten, ids, packets};
use super::*;
use crate::session::attached::{BATCH_BYTES, SHARED_PAYLOAD_BYTES};

const V3: ProtocolVersion = ProtocolVersion::V3_1_1;

fn numbers(packets: &[Packet]) -> Vec<u32> {
    packets.iter().map(Packet::number).collect()
}

fn batch(session: &mut Session) -> Vec<Packet> {
    written(session, NOW, &mut Nothing)
}

fn on(topic: &str, number: u32, size: usize) -> Delivery {
    delivery_of(message(topic, number, size), QoS::AtMostOnce)
}

#[test]
fn order_is_kept_and_only_an_exhausted_quota_lets_qos_0_pass_mqtt_4_9_0_2() {
    let mut session = connected(Terms { quota: 2, ..terms(V5) });
    for (value, qos) in [
        (1, QoS::AtMostOnce),
        (2, QoS::AtLeastOnce),
        (3, QoS::AtMostOnce),
        (4, QoS::ExactlyOnce),
        (5, QoS::AtLeastOnce),
        (6, QoS::AtMostOnce),
        (7, QoS::ExactlyOnce),
    ] {
        offer(&mut session, delivery(qos, value));
    }
    assert_eq!(numbers(&batch(&mut session)), [1, 2, 3, 4, 6]);
    assert!(!session.has_more());
    let _done = session.puback(PacketId::new(1).unwrap(), ReasonCode::SUCCESS);
    assert!(session.has_more());
    assert_eq!(numbers(&batch(&mut session)), [5]);
    let _released = session.pubrec(PacketId::new(2).unwrap(), ReasonCode::SUCCESS);
    assert!(batch(&mut session).is_empty(), "PUBREC frees nothing");
    let _done = session.pubcomp(PacketId::new(2).unwrap());
    assert_eq!(numbers(&batch(&mut session)), [7]);
}

/// The queue is full of what waits for acknowledgements: QoS 0 needs none, and the transport is free.
#[test]
fn qos_0_passes_a_full_queue_while_the_quota_is_exhausted_mqtt_4_9_0_2() {
    let mut session = new_session(3);
    let _first = session.attach(Terms { quota: 2, ..terms(V3) }, 60, None);
    for value in 1..=2 {
        offer(&mut session, delivery(QoS::AtLeastOnce, value));
    }
    assert_eq!(numbers(&batch(&mut session)), [1, 2]);
    for value in 3..=5 {
        offer(&mut session, delivery(QoS::AtLeastOnce, value));
    }
    let refused = |session: &mut Session, delivery| match session.offer(delivery, NOW) {
        Offered::Full(refused) => drop(session.give_up(refused)),
        other => panic!("{other:?}"),
    };
    refused(&mut session, delivery(QoS::AtLeastOnce, 6));
    for value in 7..=9 {
        assert!(session.takes_now(&delivery(QoS::AtMostOnce, value), NOW));
        offer(&mut session, delivery(QoS::AtMostOnce, value));
        assert_eq!(session.waiting_len(), 4);
        // One at a time, and others wait as before.
        refused(&mut session, delivery(QoS::AtMostOnce, 60));
        refused(&mut session, delivery(QoS::AtLeastOnce, 61));
        assert_eq!(numbers(&batch(&mut session)), [value]);
    }
    session.set_blocked(true);
    refused(&mut session, delivery(QoS::AtMostOnce, 62));
    session.set_blocked(false);
    let _done = session.puback(PacketId::new(1).unwrap(), ReasonCode::SUCCESS);
    refused(&mut session, delivery(QoS::AtMostOnce, 63));
    assert_eq!(numbers(&batch(&mut session)), [3], "in order again");
    assert!(session.ledger().balances());
}

/// What is encoded and not taken by the transport fills the one place, too.
#[test]
fn qos_0_that_passed_and_was_not_taken_still_waits() {
    let mut session = new_session(1);
    let _first = session.attach(Terms { quota: 1, ..terms(V3) }, 60, None);
    offer(&mut session, delivery(QoS::AtLeastOnce, 1));
    assert_eq!(numbers(&batch(&mut session)), [1]);
    offer(&mut session, delivery(QoS::AtLeastOnce, 2));
    offer(&mut session, delivery(QoS::AtMostOnce, 3));
    let mut out = Outgoing::default();
    let epoch = session.begin_batch(NOW, &mut out, &mut Vec::new(), &mut Nothing).unwrap();
    assert!(matches!(session.offer(delivery(QoS::AtMostOnce, 4), NOW), Offered::Full(_)));
    assert!(session.end_batch(epoch, &mut out, 1));
    assert!(matches!(session.offer(delivery(QoS::AtMostOnce, 5), NOW), Offered::Full(_)));
    assert_eq!(session.waiting_len(), 2);
    let left = session.detach(epoch, Departure::Lost, NOW).unwrap();
    assert!(!left.unsent.is_empty());
    assert_eq!(session.ledger().dropped(DropReason::Away), 1);
    assert!(session.ledger().balances());
}

#[test]
fn protocol_packets_precede_what_is_not_encoded_and_follow_what_is() {
    let mut session = connected(terms(V5));
    offer(&mut session, delivery(QoS::AtMostOnce, 1));
    let mut out = Outgoing::default();
    let mut protocol = vec![0xD0, 0];
    let epoch = session.begin_batch(NOW, &mut out, &mut protocol, &mut Nothing).unwrap();
    let first = flatten(&out);
    let kinds: Vec<_> = packets(V5, &first).iter().map(|packet| packet.kind).collect();
    assert_eq!(kinds, [13, PUBLISH]);

    // Somebody else has more, while the first one writes.
    offer(&mut session, delivery(QoS::AtMostOnce, 2));
    let mut later = vec![0x62, 2, 0, 7];
    let mut other = Outgoing::default();
    assert!(session.begin_batch(NOW, &mut other, &mut later, &mut Nothing).is_none());
    assert!(later.is_empty() && other.is_empty());
    assert!(session.end_batch(epoch, &mut out, 5), "the rest is kept");
    assert_eq!(session.tail_bytes(), first.len() - 5 + 4);

    let mut protocol = vec![0xD0, 0];
    let epoch = session.begin_batch(NOW, &mut out, &mut protocol, &mut Nothing).unwrap();
    let second = flatten(&out);
    assert_eq!(second[..first.len() - 5], first[5..], "what was begun is finished first");
    let kinds: Vec<_> =
        packets(V5, &second[first.len() - 5..]).iter().map(|packet| packet.kind).collect();
    assert_eq!(kinds, [PUBREL, 13, PUBLISH]);
    assert!(!session.end_batch(epoch, &mut out, second.len()));
    assert_eq!(session.ledger().delivered, 2);
}

#[test]
fn aliases_stand_for_their_topic_name_mqtt_3_1_2_26_and_27() {
    let mut session = connected(Terms { topic_alias_maximum: 2, ..terms(V5) });
    for (topic, value) in [("x/1", 1), ("x/2", 2), ("x/3", 3), ("x/1", 4), ("x/2", 5), ("x/3", 6)] {
        offer(&mut session, on(topic, value, 8));
    }
    let sent: Vec<_> =
        batch(&mut session).into_iter().map(|packet| (packet.topic, packet.alias)).collect();
    let named = |topic: &str, alias| (topic.to_owned(), alias);
    let full = [named("x/1", Some(1)), named("x/2", Some(2)), named("x/3", None)];
    let short = [named("", Some(1)), named("", Some(2)), named("x/3", None)];
    assert_eq!(sent[..3], full);
    assert_eq!(sent[3..], short);
    // A new Network Connection knows none (MQTT-3.3.2-7), and may allow none.
    let _taken_over = session.attach(terms(V5), 60, None);
    offer(&mut session, on("x/1", 7, 8));
    assert_eq!(batch(&mut session)[0].topic, "x/1");
}

#[test]
fn a_packet_is_never_larger_than_the_client_takes_mqtt_3_1_2_24_and_25() {
    // 2 + 2 + 6 + 1 + payload
    for (version, fits) in [(V5, 11), (V3, 10)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let id = if qos == QoS::AtMostOnce { 0 } else { 2 };
            let max = fits + id + 20;
            let mut session = connected(Terms { maximum_packet_size: Some(max), ..terms(version) });
            offer(&mut session, delivery_of(message("a/b/c/", 1, 20), qos));
            offer(&mut session, delivery_of(message("a/b/c/", 2, 21), qos));
            offer(&mut session, delivery_of(message("a/b/c/", 3, 8), qos));
            let sent = batch(&mut session);
            assert_eq!(numbers(&sent), [1, 3], "{version} {qos:?}");
            assert_eq!(sent[0].size, max as usize);
            let ledger = session.ledger();
            assert_eq!(ledger.dropped(DropReason::TooLarge), 1);
            assert!(ledger.balances() && ledger.waiting == 0);
        }
    }
}

#[test]
fn an_alias_is_used_where_it_helps_and_left_out_where_it_does_not_fit() {
    let max = |size| Terms { maximum_packet_size: Some(size), topic_alias_maximum: 9, ..terms(V5) };
    // In full without an alias: 2 + 2 + 6 + 1 + 8 = 19; with a new one 3 more.
    let mut session = connected(max(19));
    offer(&mut session, on("a/b/c/", 1, 8));
    let sent = batch(&mut session);
    assert_eq!((sent[0].topic.as_str(), sent[0].alias), ("a/b/c/", None));
    // Known, it makes room: 2 + 2 + 0 + 4 + payload.
    let mut session = connected(max(22));
    for (value, size) in [(1, 8), (2, 14), (3, 15)] {
        offer(&mut session, on("a/b/c/", value, size));
    }
    let sent = batch(&mut session);
    assert_eq!(numbers(&sent), [1, 2]);
    assert_eq!((sent[1].topic.as_str(), sent[1].alias, sent[1].size), ("", Some(1), 22));
    assert_eq!(session.ledger().dropped(DropReason::TooLarge), 1);
}

#[test]
fn what_the_new_connection_cannot_take_is_dropped_mqtt_3_1_2_25() {
    let mut session = connected(terms(V5));
    for (value, size) in [(1, 8), (2, 500), (3, 8)] {
        offer(&mut session, delivery_of(message("t", value, size), QoS::AtLeastOnce));
    }
    assert_eq!(batch(&mut session).len(), 3);
    let small = Terms { maximum_packet_size: Some(100), quota: 1, ..terms(V5) };
    let _taken_over = session.attach(small, 60, None);
    offer(&mut session, delivery(QoS::AtLeastOnce, 4));
    let mut sent = Vec::new();
    while session.has_more() {
        for packet in batch(&mut session) {
            let _done =
                session.puback(PacketId::new(packet.id.unwrap()).unwrap(), ReasonCode::SUCCESS);
            sent.push((packet.number(), packet.dup));
        }
    }
    assert_eq!(sent, [(1, true), (3, true), (4, false)]);
    let ledger = session.ledger();
    assert_eq!((ledger.dropped(DropReason::TooLarge), ledger.delivered), (1, 3));
    assert!(ledger.balances() && ledger.inflight == 0);
}

#[test]
fn the_message_expiry_interval_is_counted_down_mqtt_3_3_2_6() {
    let mut session = connected(terms(V5));
    let message = message("t", 1, 8).with_expiry_secs(10).accepted_at(NOW);
    offer(&mut session, delivery_of(message, QoS::AtLeastOnce));
    let later = Timestamp(NOW.0 + 3_200);
    let sent = written(&mut session, later, &mut Nothing);
    assert_eq!(sent[0].expiry, Some(7), "rounded up");
    let _taken_over = session.attach(terms(V5), 60, None);
    let sent = written(&mut session, Timestamp(NOW.0 + 5_000), &mut Nothing);
    assert_eq!(sent[0].expiry, Some(5), "of what is sent again, too");
}

#[test]
fn identifiers_flags_and_qos_go_with_it_mqtt_3_3_4_3_and_3_3_1_13() {
    let mut session = connected(terms(V5));
    let first = Delivery { retain: true, ids: ids(&[7, 300_000]), ..delivery(QoS::ExactlyOnce, 1) };
    offer(&mut session, first.clone());
    offer(&mut session, Delivery { retain: false, ..delivery(QoS::AtMostOnce, 2) });
    let sent = batch(&mut session);
    let (one, two) = (&sent[0], &sent[1]);
    assert_eq!((one.qos, one.retain, one.dup, one.id), (2, true, false, Some(1)));
    assert_eq!(one.ids, [7, 300_000]);
    assert_eq!((two.qos, two.retain, two.dup, two.id), (0, false, false, None));
    assert!(two.ids.is_empty() && two.expiry.is_none());
    // What 3.1.1 cannot carry is left out.
    let mut session = connected(terms(V3));
    offer(&mut session, first);
    assert_eq!(batch(&mut session)[0].ids, [0; 0]);
}

#[test]
fn a_large_payload_is_shared_and_arrives_as_it_was() {
    let mut session = connected(terms(V5));
    for (value, size) in [(1, SHARED_PAYLOAD_BYTES - 1), (2, SHARED_PAYLOAD_BYTES), (3, 20_000)] {
        offer(&mut session, on("t", value, size));
    }
    let sent = batch(&mut session);
    assert_eq!(numbers(&sent), [1, 2, 3]);
    for (packet, size) in sent.iter().zip([4_095, 4_096, 20_000]) {
        assert_eq!(packet.payload, message("t", packet.number(), size).payload());
    }
}

#[test]
fn a_batch_is_bounded_and_the_next_one_goes_on() {
    let mut session = connected(terms(V5));
    for value in 1..=90 {
        offer(&mut session, on("t", value, 4_000));
    }
    let (mut batches, mut sent) = (0, Vec::new());
    while session.has_more() {
        let packets = batch(&mut session);
        let size: usize = packets.iter().map(|packet| packet.size).sum();
        assert!(size <= BATCH_BYTES + 4_010, "{size}");
        batches += 1;
        sent.extend(numbers(&packets));
    }
    assert_eq!(sent, (1..=90).collect::<Vec<_>>());
    assert_eq!(batches, 6);
}

#[test]
fn replays_come_with_retain_after_the_queue_and_within_the_quota_mqtt_3_3_1_8() {
    let mut kept = Kept::default();
    for (topic, value) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        kept.0.insert(topic.into(), message(topic, value, 8).with_qos(QoS::ExactlyOnce));
    }
    let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    let subscription = Subscription { options, id: std::num::NonZeroU32::new(5) };
    let mut session = connected(Terms { quota: 2, ..terms(V5) });
    let filter = TopicFilter::new("+").unwrap();
    subscribe(&mut session, &filter, subscription);
    offer(&mut session, delivery(QoS::AtLeastOnce, 9));
    assert_eq!(session.ledger().offered, 1);
    let sent = written(&mut session, NOW, &mut kept);
    assert_eq!(numbers(&sent), [9, 1]);
    assert!(!sent[0].retain && sent[1].retain);
    assert_eq!((sent[1].qos, &sent[1].ids[..]), (1, &[5][..]));
    assert!(!session.has_more(), "the quota is used up");
    let _done = session.puback(PacketId::new(1).unwrap(), ReasonCode::SUCCESS);
    assert!(session.has_more());
    // What is read is what is there now.
    kept.0.insert("b".into(), message("b", 22, 8));
    let sent = written(&mut session, NOW, &mut kept);
    assert_eq!((numbers(&sent), sent[0].qos), (vec![22, 3], 0));
    assert_eq!(session.ledger().offered, 4);
    assert!(session.unsubscribe(&filter));
    let _done = session.puback(PacketId::new(2).unwrap(), ReasonCode::SUCCESS);
    assert!(!session.has_more() && written(&mut session, NOW, &mut kept).is_empty());
}

#[test]
fn a_replay_that_the_transport_does_not_take_waits_within_the_depth() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut kept = Kept::default();
        for value in 0..10 {
            let topic = value.to_string();
            kept.0.insert(topic.clone(), message(&topic, value, 8).with_qos(qos));
        }
        let mut session = new_session(3);
        let _attached = session.attach(terms(V5), 60, None);
        let subscription = Subscription { options: SubscriptionOptions::with_qos(qos), id: None };
        subscribe(&mut session, &TopicFilter::new("#").unwrap(), subscription);
        for _ in 0..3 {
            let mut out = Outgoing::default();
            let began = session.begin_batch(NOW, &mut out, &mut Vec::new(), &mut kept);
            assert!(session.waiting_len() <= 3, "{qos:?}: {}", session.ledger());
            assert!(session.end_batch(began.unwrap(), &mut out, 1), "there is more");
            assert!(session.waiting_len() <= 3, "{qos:?}: {}", session.ledger());
        }
        let mut sent = 0;
        while session.has_more() {
            let mut out = Outgoing::default();
            let epoch = session.begin_batch(NOW, &mut out, &mut Vec::new(), &mut kept).unwrap();
            let all = out.len();
            let _more = session.end_batch(epoch, &mut out, all);
            sent += 1;
            assert!(sent < 20, "it never ends");
        }
        let ledger = session.ledger();
        assert_eq!((ledger.offered, ledger.waiting, ledger.dropped_total()), (10, 0, 0));
        assert_eq!(ledger.delivered, if qos == QoS::AtMostOnce { 10 } else { 0 });
    }
}

#[test]
fn a_search_in_what_is_retained_pauses_and_goes_on() {
    let mut kept = Kept::default();
    for value in 0..10_000 {
        kept.0.insert(format!("{value:05}/other"), message("x", 0, 8));
    }
    kept.0.insert("99999/wanted".into(), message("99999/wanted", 1, 8));
    let options = SubscriptionOptions::default();
    let mut session = connected(terms(V5));
    let filter = TopicFilter::new("+/wanted").unwrap();
    subscribe(&mut session, &filter, Subscription { options, id: None });
    let (mut batches, mut sent) = (0, Vec::new());
    while session.has_more() {
        batches += 1;
        sent.extend(numbers(&written(&mut session, NOW, &mut kept)));
    }
    assert_eq!((batches, sent), (3, vec![1]));
}

#[test]
fn subscribing_again_begins_the_replay_anew_and_ends_of_sessions_forget_it() {
    let mut kept = Kept::default();
    for topic in ["a", "b"] {
        kept.0.insert(topic.into(), message(topic, 1, 8).with_qos(QoS::AtLeastOnce));
    }
    let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    let mut session = connected(Terms { quota: 1, ..terms(V5) });
    let filter = TopicFilter::new("#").unwrap();
    let subscription = Subscription { options, id: None };
    subscribe(&mut session, &filter, subscription);
    let mut topics = Vec::new();
    for _ in 0..3 {
        for packet in written(&mut session, NOW, &mut kept) {
            let _done =
                session.puback(PacketId::new(packet.id.unwrap()).unwrap(), ReasonCode::SUCCESS);
            topics.push(packet.topic);
        }
        if topics.len() == 1 {
            subscribe(&mut session, &filter, subscription);
        }
    }
    assert_eq!(topics, ["a", "a", "b"]);
    subscribe(&mut session, &filter, subscription);
    let _ended = session.end();
    let _attached = session.attach(terms(V5), 0, None);
    assert!(!session.has_more());
}

#[test]
fn what_comes_too_late_has_no_effect() {
    let mut kept = Kept::default();
    kept.0.insert("a".into(), message("a", 1, 8));
    let subscription = Subscription { options: SubscriptionOptions::default(), id: None };
    let filter = TopicFilter::new("a").unwrap();
    let mut session = connected(terms(V5));
    // UNSUBSCRIBE was faster than the replay.
    session.replay(Replay::new(filter.clone(), subscription));
    assert!(!session.has_more());
    // A Network Connection that was taken over has nothing to say any more.
    let old = session.epoch();
    let (new, _) = session.attach(terms(V5), 60, None);
    session.append_protocol(old, &mut vec![0xD0, 0]);
    assert!(!session.has_more() && session.tail_bytes() == 0);
    session.append_protocol(new, &mut vec![0xD0, 0]);
    subscribe(&mut session, &filter, subscription);
    let kinds: Vec<_> =
        written(&mut session, NOW, &mut kept).iter().map(|packet| packet.kind).collect();
    assert_eq!(kinds, [13, PUBLISH]);
}
