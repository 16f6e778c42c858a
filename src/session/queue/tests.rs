//! The queue against a plain `Vec`.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::session::testing::{message, number};

const SIZE_MAX: usize = 40;

#[derive(Debug, Clone)]
enum Op {
    Push { qos: QoS, size: usize, expiry_secs: Option<u32>, unsent: usize },
    Pop { quota_left: bool },
    Expire,
    Wait(u64),
    DrainPlain,
}

fn op() -> impl Strategy<Value = Op> {
    let qos = prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)];
    let expiry = prop_oneof![3 => Just(None), 1 => (0u32..4).prop_map(Some)];
    prop_oneof![
        8 => (qos, 8..SIZE_MAX, expiry, 0usize..3).prop_map(|(qos, size, expiry_secs, unsent)| {
            Op::Push { qos, size, expiry_secs, unsent }
        }),
        4 => any::<bool>().prop_map(|quota_left| Op::Pop { quota_left }),
        1 => Just(Op::Expire),
        1 => (0u64..3_000).prop_map(Op::Wait),
        1 => Just(Op::DrainPlain),
    ]
}

/// One message of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Waiting {
    number: u32,
    plain: bool,
    bytes: usize,
    expires_at: Timestamp,
}

#[derive(Debug, Default)]
struct Model {
    waiting: Vec<Waiting>,
    now: Timestamp,
    offered: u32,
    taken: u64,
    refused: u64,
    expired: u64,
}

impl Model {
    fn bytes(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.bytes).sum()
    }

    fn push(&mut self, queue: &mut Queue, op: &Op) {
        let Op::Push { qos, size, expiry_secs, unsent } = *op else { return };
        self.offered += 1;
        let mut message = message("t", self.offered, size);
        if let Some(secs) = expiry_secs {
            message = message.with_expiry_secs(secs).accepted_at(self.now);
        }
        let waiting = Waiting {
            number: self.offered,
            plain: qos == QoS::AtMostOnce,
            bytes: message.size_bytes(),
            expires_at: message.expires_at(),
        };
        let bytes = self.bytes() + waiting.bytes;
        let expected = if self.waiting.len() + unsent >= queue.depth {
            Some(DropReason::QueueFull)
        } else if !self.waiting.is_empty() && bytes > queue.bytes_max {
            Some(DropReason::QueueBytes)
        } else {
            None
        };
        let delivery = Delivery { message, qos, retain: false, ids: None, shared: None };
        match queue.push(delivery, unsent) {
            Ok(()) => {
                assert_eq!(expected, None);
                self.waiting.push(waiting);
            }
            Err(refused) => {
                assert_eq!(Some(refused.reason), expected);
                assert_eq!(number(refused.delivery.message.payload()), self.offered, "the newest");
                self.refused += 1;
            }
        }
        let too_many = queue.len() + unsent > queue.depth && expected.is_none();
        assert!(!too_many, "more than the depth wait");
    }

    fn pop(&mut self, queue: &mut Queue, quota_left: bool) {
        // The oldest; without quota the oldest of QoS 0.
        let index = self.waiting.iter().position(|waiting| quota_left || waiting.plain);
        assert_eq!(queue.is_ready(quota_left), index.is_some());
        let expected = index.map(|index| self.waiting.remove(index).number);
        let popped = queue.pop(quota_left);
        assert_eq!(popped.map(|delivery| number(delivery.message.payload())), expected);
        self.taken += u64::from(expected.is_some());
    }

    fn expire(&mut self, queue: &mut Queue) {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.expires_at > self.now);
        let gone = (before - self.waiting.len()) as u64;
        assert_eq!(queue.expire(self.now), gone, "exactly the expired");
        assert!(queue.next_expiry() > self.now);
        self.expired += gone;
    }

    fn check(&self, queue: &Queue) {
        assert_eq!(queue.len(), self.waiting.len());
        assert_eq!(queue.is_empty(), self.waiting.is_empty());
        assert_eq!(queue.bytes, self.bytes());
        let earliest = self.waiting.iter().map(|waiting| waiting.expires_at).min();
        assert!(queue.next_expiry() <= earliest.unwrap_or(Timestamp::NEVER), "never too late");
        let waiting = self.waiting.len() as u64;
        assert_eq!(u64::from(self.offered), self.taken + waiting + self.refused + self.expired);
    }
}

proptest! {
    #[test]
    fn the_queue_is_a_list_that_refuses_the_newest(
        depth in 1usize..9,
        bytes_max in 1usize..200,
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut queue = Queue::new(depth, bytes_max);
        let mut model = Model::default();
        for op in &ops {
            match *op {
                Op::Push { .. } => model.push(&mut queue, op),
                Op::Pop { quota_left } => model.pop(&mut queue, quota_left),
                Op::Expire => model.expire(&mut queue),
                Op::Wait(millis) => model.now = Timestamp(model.now.0 + millis),
                Op::DrainPlain => {
                    let before = model.waiting.len();
                    model.waiting.retain(|waiting| !waiting.plain);
                    let gone = (before - model.waiting.len()) as u64;
                    prop_assert_eq!(queue.drain_plain(), gone);
                    model.taken += gone;
                }
            }
            model.check(&queue);
        }
        let rest: Vec<_> = queue.drain().map(|delivery| number(delivery.message.payload())).collect();
        let expected: Vec<_> = model.waiting.iter().map(|waiting| waiting.number).collect();
        prop_assert_eq!(rest, expected, "survivors keep their order");
        prop_assert!(queue.is_empty() && queue.bytes == 0);
    }
}

#[test]
fn one_message_is_admitted_whatever_its_size() {
    let mut queue = Queue::new(10, 1);
    let delivery = |number| Delivery {
        message: message("t", number, 5_000),
        qos: QoS::AtLeastOnce,
        retain: false,
        ids: None,
        shared: None,
    };
    assert!(queue.push(delivery(1), 0).is_ok());
    let refused = queue.push(delivery(2), 0).unwrap_err();
    assert_eq!(refused.reason, DropReason::QueueBytes);
    assert!(queue.pop(true).is_some());
    assert!(queue.push(refused.delivery, 0).is_ok());
}

#[test]
fn half_of_the_depth_counts_what_is_unsent() {
    let mut queue = Queue::new(4, usize::MAX);
    assert!(!queue.is_half_full(1));
    assert!(queue.is_half_full(2));
    let delivery = crate::session::testing::delivery(QoS::AtMostOnce, 1);
    assert!(queue.push(delivery, 0).is_ok());
    assert!(!queue.is_half_full(0) && queue.is_half_full(1));
    assert!(queue.has_room(2) && !queue.has_room(3));
}
