//! Packet Identifiers, the send quota and the stages of QoS 1 and 2.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::session::testing::{delivery, number};

const OK: ReasonCode = ReasonCode::SUCCESS;
const NO: ReasonCode = ReasonCode::QUOTA_EXCEEDED;

fn send(inflight: &mut Inflight, qos: QoS, number: u32) -> PacketId {
    let id = inflight.next_id();
    inflight.begin(id, delivery(qos, number));
    id
}

fn send_one(inflight: &mut Inflight) -> PacketId {
    send(inflight, QoS::AtLeastOnce, 0)
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// What the next connection would be sent: identifier, DUP, number (`None`: PUBREL).
fn resent(inflight: &mut Inflight, quota: u16) -> Vec<(u16, bool, Option<u32>)> {
    let mut all = Vec::new();
    while let Some(resend) = inflight.next_resend(quota) {
        all.push(match resend {
            Resend::Publish { id, dup, delivery, .. } => {
                (id.get(), dup, Some(number(delivery.message.payload())))
            }
            Resend::PubRel(id) => (id.get(), false, None),
        });
    }
    all
}

fn take_all(inflight: &mut Inflight) {
    let last = Some(inflight.issued);
    inflight.taken(Taken { plain: 0, accepted: last, begun: last });
}

#[test]
fn identifiers_are_not_zero_and_not_in_use_around_the_end_mqtt_2_2_1_3_and_4() {
    let mut inflight = Inflight::default();
    let stuck: HashSet<_> = [1, 2, 3, 5].into_iter().collect();
    for _ in 0..5 {
        send_one(&mut inflight);
    }
    assert!(matches!(inflight.puback(id(4), OK), Acknowledged::Completed { .. }));
    for round in 0..3 {
        for expected in 1..=u16::MAX {
            if stuck.contains(&expected) || (round == 0 && expected == 4) {
                continue;
            }
            let next = send_one(&mut inflight);
            assert_eq!(next.get(), expected, "round {round}");
            assert!(matches!(inflight.puback(next, OK), Acknowledged::Completed { .. }));
        }
    }
}

#[test]
fn what_outlives_the_oldest_is_not_taken_for_free_after_the_end_mqtt_2_2_1_4() {
    let mut inflight = Inflight::default();
    let stuck: Vec<_> = (0..4).map(|_| send_one(&mut inflight)).collect();
    let survivor = send_one(&mut inflight);
    // All identifiers once, so that the stuck ones are stepped over.
    for _ in 0..65_531 {
        let next = send_one(&mut inflight);
        assert!(matches!(inflight.puback(next, OK), Acknowledged::Completed { .. }));
    }
    for old in stuck {
        assert!(matches!(inflight.puback(old, OK), Acknowledged::Completed { .. }));
    }
    for _ in 0..65_540 {
        let next = send_one(&mut inflight);
        assert_ne!(next, survivor);
        assert!(matches!(inflight.puback(next, OK), Acknowledged::Completed { .. }));
    }
}

#[test]
fn every_identifier_can_be_in_use() {
    let mut inflight = Inflight::default();
    let mut seen = HashSet::new();
    while inflight.has_quota(u16::MAX) {
        assert!(seen.insert(send_one(&mut inflight)));
    }
    assert_eq!(seen.len(), 65_535);
    assert!(matches!(inflight.puback(id(40_000), OK), Acknowledged::Completed { .. }));
    assert_eq!(send_one(&mut inflight), id(40_000), "the one that is free");
}

#[test]
fn quota_comes_back_by_completion_alone_mqtt_4_9_0_2() {
    let mut inflight = Inflight::default();
    let one = send(&mut inflight, QoS::AtLeastOnce, 1);
    let two = send(&mut inflight, QoS::ExactlyOnce, 2);
    let three = send(&mut inflight, QoS::ExactlyOnce, 3);
    assert!(!inflight.has_quota(3) && inflight.has_quota(4));
    assert!(matches!(inflight.pubrec(two, OK), Acknowledged::Received));
    assert!(!inflight.has_quota(3), "PUBREC does not free it");
    assert!(matches!(inflight.pubcomp(two), Acknowledged::Completed { refused: false }));
    assert!(inflight.has_quota(3) && !inflight.has_quota(2));
    assert!(matches!(inflight.pubrec(three, NO), Acknowledged::Completed { refused: true }));
    assert!(inflight.has_quota(2) && !inflight.has_quota(1));
    assert!(matches!(inflight.puback(one, NO), Acknowledged::Completed { refused: true }));
    assert!(inflight.has_quota(1) && inflight.len() == 0);
}

#[test]
fn each_stage_takes_its_own_acknowledgement() {
    let mut inflight = Inflight::default();
    assert!(matches!(inflight.puback(id(1), OK), Acknowledged::Unknown));
    assert!(matches!(inflight.pubrec(id(1), OK), Acknowledged::Unknown));
    assert!(matches!(inflight.pubcomp(id(1)), Acknowledged::Unknown));

    let one = send(&mut inflight, QoS::AtLeastOnce, 1);
    assert!(matches!(inflight.pubrec(one, OK), Acknowledged::Unexpected));
    assert!(matches!(inflight.pubcomp(one), Acknowledged::Unexpected));
    assert!(matches!(inflight.puback(one, OK), Acknowledged::Completed { refused: false }));
    assert!(matches!(inflight.puback(one, OK), Acknowledged::Unknown), "a duplicate");

    let two = send(&mut inflight, QoS::ExactlyOnce, 2);
    assert!(matches!(inflight.puback(two, OK), Acknowledged::Unexpected));
    assert!(matches!(inflight.pubcomp(two), Acknowledged::Unexpected));
    assert!(matches!(inflight.pubrec(two, OK), Acknowledged::Received));
    assert!(matches!(inflight.pubrec(two, OK), Acknowledged::Received), "a duplicate");
    assert!(matches!(inflight.puback(two, OK), Acknowledged::Unexpected));
    assert!(matches!(inflight.pubcomp(two), Acknowledged::Completed { refused: false }));
    assert!(matches!(inflight.pubcomp(two), Acknowledged::Unknown), "a duplicate");
}

#[test]
fn all_is_sent_again_in_order_mqtt_4_4_0_1_and_4_6_0_1() {
    let mut inflight = Inflight::default();
    for number in 1..=4 {
        send(&mut inflight, QoS::ExactlyOnce, number);
    }
    take_all(&mut inflight);
    assert!(matches!(inflight.pubrec(id(2), OK), Acknowledged::Received));
    assert!(matches!(inflight.pubrec(id(4), NO), Acknowledged::Completed { .. }));
    assert!(!inflight.needs_resend());
    inflight.restart(true);
    assert!(inflight.needs_resend());
    // MQTT-4.3.3-6: after PUBREC only PUBREL. MQTT-4.4.0-2: nothing after a PUBREC with an error.
    let expected = [(1, true, Some(1)), (2, false, None)];
    assert_eq!(resent(&mut inflight, 2), expected, "as the new quota allows");
    assert!(inflight.needs_resend());
    assert_eq!(resent(&mut inflight, 9), [(3, true, Some(3))]);
    assert!(!inflight.needs_resend());
}

#[test]
fn dup_says_that_bytes_of_it_were_taken_mqtt_3_3_1_1() {
    let mut inflight = Inflight::default();
    for number in 1..=4 {
        send(&mut inflight, QoS::AtLeastOnce, number);
    }
    assert_eq!(inflight.waiting_len(), 4);
    inflight.taken(Taken { plain: 0, accepted: Some(1), begun: Some(2) });
    assert_eq!(inflight.waiting_len(), 3);
    inflight.restart(true);
    let first_taken = [(1, true, Some(1)), (2, true, Some(2)), (3, false, Some(3))];
    assert_eq!(resent(&mut inflight, 3), first_taken);
    // Nothing of it was taken: on the third connection 3 is as new as on the second.
    inflight.restart(true);
    let all = resent(&mut inflight, 9);
    assert_eq!(all[..3], first_taken);
    assert_eq!(all[3], (4, false, Some(4)));
    // Nobody knows what was taken.
    inflight.restart(false);
    assert!(resent(&mut inflight, 9).iter().all(|(_, dup, _)| *dup));
    assert_eq!(inflight.waiting_len(), 3);
}

#[test]
fn an_acknowledgement_shows_that_it_was_taken() {
    let mut inflight = Inflight::default();
    for number in 1..=3 {
        send(&mut inflight, QoS::AtLeastOnce, number);
    }
    assert!(matches!(inflight.puback(id(2), OK), Acknowledged::Completed { .. }));
    assert_eq!((inflight.len(), inflight.waiting_len()), (2, 1));
    inflight.restart(true);
    assert_eq!(resent(&mut inflight, 9), [(1, true, Some(1)), (3, false, Some(3))]);
}

#[test]
fn acknowledgements_of_what_is_not_sent_again_yet_do_not_touch_the_quota() {
    let mut inflight = Inflight::default();
    for number in 1..=3 {
        send(&mut inflight, QoS::AtLeastOnce, number);
    }
    inflight.restart(false);
    assert_eq!(resent(&mut inflight, 1).len(), 1);
    assert!(matches!(inflight.puback(id(3), OK), Acknowledged::Completed { .. }));
    assert!(!inflight.has_quota(1), "1 is open");
    assert!(matches!(inflight.puback(id(1), OK), Acknowledged::Completed { .. }));
    assert_eq!(resent(&mut inflight, 1), [(2, true, Some(2))]);
}

#[test]
fn what_is_abandoned_frees_its_quota_and_its_identifier() {
    let mut inflight = Inflight::default();
    let one = send_one(&mut inflight);
    inflight.restart(true);
    assert_eq!(resent(&mut inflight, 1).len(), 1);
    assert!(inflight.abandon(one));
    assert!(!inflight.abandon(one));
    assert!(inflight.has_quota(1) && inflight.len() == 0);
}

#[test]
fn what_is_drained_is_a_message_until_it_was_released() {
    let mut inflight = Inflight::default();
    for number in 1..=3 {
        send(&mut inflight, QoS::ExactlyOnce, number);
    }
    assert!(matches!(inflight.pubrec(id(2), OK), Acknowledged::Received));
    let numbers: Vec<_> =
        inflight.drain().map(|(_, held)| held.map(|d| number(d.message.payload()))).collect();
    assert_eq!(numbers, [Some(1), None, Some(3)]);
    assert!(inflight.len() == 0 && !inflight.needs_resend() && inflight.has_quota(1));
}

proptest! {
    /// Acknowledgements in any order: identifiers stay unique however far the oldest is.
    #[test]
    fn identifiers_are_unique_while_inflight(
        steps in proptest::collection::vec(
            (any::<prop::sample::Index>(), 1u16..6, 1usize..6, any::<prop::sample::Index>()),
            1..40,
        ),
    ) {
        let mut inflight = Inflight::default();
        let mut open = vec![send_one(&mut inflight)];
        for (toward, short_of, sends, done) in steps {
            // All identifiers up to shortly before one that is in use come and go.
            let target = open[toward.index(open.len())].get().saturating_sub(short_of).max(1);
            let between = open.iter().map(|id| id.get().wrapping_sub(inflight.last_id));
            let jump = target.wrapping_sub(inflight.last_id);
            if between.filter(|distance| *distance > 0).all(|distance| distance > jump) {
                let over_zero = u64::from(target < inflight.last_id);
                inflight.issued += u64::from(jump) - over_zero;
                inflight.last_id = target;
            }
            for _ in 0..sends {
                let next = send_one(&mut inflight);
                prop_assert!(!open.contains(&next), "{next:?} is in use");
                open.push(next);
            }
            for _ in 1..sends.max(open.len().saturating_sub(6)) {
                let done = open.remove(done.index(open.len()));
                let completed = matches!(inflight.puback(done, OK), Acknowledged::Completed { .. });
                prop_assert!(completed);
            }
            prop_assert_eq!(inflight.len(), open.len());
        }
    }

    #[test]
    fn received_identifiers_are_a_bounded_set(
        maximum in 1u16..6,
        steps in proptest::collection::vec((any::<bool>(), 1u16..9), 1..80),
    ) {
        let mut received = Received::default();
        let mut model = HashSet::new();
        for (arrives, value) in steps {
            if arrives {
                let expected = if model.contains(&value) {
                    Arrival::Duplicate // MQTT-4.3.3-10
                } else if model.len() == usize::from(maximum) {
                    Arrival::Exceeded // MQTT-3.3.4-7
                } else {
                    model.insert(value);
                    Arrival::New
                };
                prop_assert_eq!(received.arrive(id(value), maximum), expected);
            } else {
                prop_assert_eq!(received.release(id(value)), model.remove(&value));
            }
            prop_assert_eq!(received.len(), model.len());
        }
    }
}
