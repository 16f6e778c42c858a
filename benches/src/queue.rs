//! A Session: messages offered, encoded and acknowledged, a full queue, and QoS 2 from a Client.

use std::hint::black_box;
use std::sync::Arc;

use ahash::RandomState;

use super::Operation;
use super::packets::TOPIC;
use crate::limits::Limits;
use crate::message::Message;
use crate::packet::{PacketId, ProtocolVersion, QoS, ReasonCode};
use crate::session::inflight::{Acknowledged, Arrival, Received};
use crate::session::outgoing::Outgoing;
use crate::session::queue::{Delivery, Queue};
use crate::session::replay::{Found, SendContext};
use crate::session::{Offered, Session, Terms};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp(1);
/// Messages handled in one run, and not acknowledged at a time.
const WINDOW: usize = 256;
const DEPTH: usize = 100_000;

pub(super) fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for (version, name) in [(ProtocolVersion::V3_1_1, "3.1.1"), (ProtocolVersion::V5, "5")] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for payload in [64, 16 * 1024] {
                all.push(deliver(version, name, qos, payload));
            }
        }
    }
    all.extend([
        push_and_pop(QoS::AtMostOnce),
        push_and_pop(QoS::AtLeastOnce),
        refuse(),
        receive(),
        receive_out_of_order(),
        message(),
    ]);
    all
}

/// Nothing is retained.
struct Nothing;

impl SendContext for Nothing {
    fn next_retained(&mut self, _: &str, _: Option<&str>, _: Timestamp) -> Found {
        Found::End
    }

    fn may_receive(&mut self, _: &[u8]) -> bool {
        true
    }
}

fn delivery(qos: QoS, payload: usize) -> Delivery {
    let message = Message::new(TOPIC, vec![b'x'; payload]).expect("a Topic Name").with_qos(qos);
    Delivery { message, qos, retain: false, ids: None, shared: None }
}

fn session(version: ProtocolVersion, depth: usize) -> Session {
    let limits = Limits { max_queue_depth: depth, ..Limits::default() };
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let mut session = Session::new(Arc::from("client"), hasher, &limits);
    let terms = Terms { version, quota: 1_024, maximum_packet_size: None, topic_alias_maximum: 0 };
    session.attach(terms, 0, None);
    session
}

/// Packet Identifiers in the order in which a Session takes them.
struct Identifiers(u16);

impl Iterator for Identifiers {
    type Item = PacketId;

    fn next(&mut self) -> Option<PacketId> {
        self.0 = self.0.wrapping_add(1).max(1);
        PacketId::new(self.0)
    }
}

fn completed(done: &Acknowledged) -> usize {
    usize::from(matches!(done, Acknowledged::Completed { refused: false }))
}

/// The whole way of a message through a Session: offered, encoded, taken by a transport, and
/// acknowledged as its QoS asks.
fn deliver(version: ProtocolVersion, version_name: &str, qos: QoS, payload: usize) -> Operation {
    let name = format!("deliver-qos{}/{version_name}/{payload}", qos as u8);
    Operation::new("session", name, WINDOW as u64, WINDOW, move || {
        let delivery = delivery(qos, payload);
        let mut session = session(version, DEPTH);
        let mut out = Outgoing::default();
        let mut identifiers = Identifiers(0);
        move || {
            for _ in 0..WINDOW {
                if !matches!(session.offer(delivery.clone(), NOW), Offered::Waiting { .. }) {
                    return 0;
                }
            }
            let mut plain = 0;
            while let Some(epoch) =
                session.begin_batch(NOW, &mut out, &mut Vec::new(), &mut Nothing)
            {
                plain += out.plain();
                let written = black_box(&out).len();
                if !session.end_batch(epoch, &mut out, written) {
                    break;
                }
            }
            plain + acknowledge(&mut session, qos, &mut identifiers)
        }
    })
}

fn acknowledge(session: &mut Session, qos: QoS, identifiers: &mut Identifiers) -> usize {
    let mut window = [PacketId::new(1); WINDOW];
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => identifiers
            .take(WINDOW)
            .map(|id| completed(&session.puback(black_box(id), ReasonCode::SUCCESS)))
            .sum(),
        QoS::ExactlyOnce => {
            for slot in &mut window {
                *slot = identifiers.next();
            }
            for &id in window.iter().flatten() {
                if !matches!(session.pubrec(id, ReasonCode::SUCCESS), Acknowledged::Received) {
                    return 0;
                }
            }
            window.iter().flatten().map(|&id| completed(&session.pubcomp(black_box(id)))).sum()
        }
    }
}

fn push_and_pop(qos: QoS) -> Operation {
    let name = format!("queue-push-and-pop-qos{}", qos as u8);
    Operation::new("session", name, WINDOW as u64, WINDOW, move || {
        let delivery = delivery(qos, 64);
        let mut queue = Queue::new(DEPTH, usize::MAX);
        move || {
            for _ in 0..WINDOW {
                if queue.push(black_box(delivery.clone()), 0).is_err() {
                    return 0;
                }
            }
            std::iter::from_fn(|| queue.pop(true)).map(black_box).count()
        }
    })
}

/// A message for a Client that does not read: counted and thrown away.
fn refuse() -> Operation {
    Operation::new("session", "offer-to-a-full-queue", WINDOW as u64, WINDOW, || {
        let delivery = delivery(QoS::AtMostOnce, 64);
        let mut session = session(ProtocolVersion::V5, 100);
        while matches!(session.offer(delivery.clone(), NOW), Offered::Waiting { .. }) {}
        move || {
            let mut refused = 0;
            for _ in 0..WINDOW {
                if let Offered::Full(full) = session.offer(black_box(delivery.clone()), NOW) {
                    let _counted = black_box(session.give_up(full));
                    refused += 1;
                }
            }
            refused
        }
    })
}

/// QoS 2 from a Client that has always so many open: each run brings as many and releases the oldest.
fn receive() -> Operation {
    Operation::new("session", "receive-qos2-in-order", WINDOW as u64, WINDOW, || {
        let mut received = Received::default();
        let (mut arriving, mut released) = (Identifiers(0), Identifiers(0));
        for id in arriving.by_ref().take(WINDOW) {
            received.arrive(id, 1_024);
        }
        move || {
            let mut done = 0;
            for _ in 0..WINDOW {
                let (Some(new), Some(old)) = (arriving.next(), released.next()) else { break };
                let came = received.arrive(black_box(new), 1_024) == Arrival::New;
                done += usize::from(came && received.release(black_box(old)));
            }
            done
        }
    })
}

/// As [`receive`], in batches and released last first.
fn receive_out_of_order() -> Operation {
    Operation::new("session", "receive-qos2-backwards", WINDOW as u64, WINDOW, || {
        let mut received = Received::default();
        let ids: Vec<PacketId> = Identifiers(1_000).take(WINDOW).collect();
        move || {
            for &id in black_box(&ids) {
                if received.arrive(id, 1_024) != Arrival::New {
                    return 0;
                }
            }
            ids.iter().rev().filter(|&&id| received.release(black_box(id))).count()
        }
    })
}

/// The one copy that a routed message is.
fn message() -> Operation {
    Operation::new("session", "message-from-packet/64", 1, TOPIC.len() + 64, || {
        let payload = [b'x'; 64];
        move || {
            let none = crate::packet::PublishProperties::default();
            let message = Message::from_packet(black_box(TOPIC), &none, black_box(&payload), None)
                .with_qos(QoS::AtLeastOnce)
                .accepted_at(NOW);
            black_box(message).size_bytes()
        }
    })
}
