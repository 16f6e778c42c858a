//! A Session and its Client, step by step, with a network that fails: what each may know of the other is
//! checked after every step.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;

use super::new_session;
use crate::ledger::{DropReason, Outcome};
use crate::packet::encode::AckKind;
use crate::packet::{PacketId, ProtocolVersion, QoS, ReasonCode};
use crate::session::inflight::Acknowledged;
use crate::session::outgoing::Outgoing;
use crate::session::testing::{Nothing, PUBLISH, PUBREL, Packet, flatten, message, packets};
use crate::session::{Delivery, Departure, Offered, Session, Terms};
use crate::subscription::ShareGroup;
use crate::time::Timestamp;

/// Messages with such numbers the Client refuses.
const REFUSED: u32 = 13;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Offer {
        qos: QoS,
        size: usize,
        expiry_secs: Option<u32>,
        shared: bool,
    },
    /// Somebody begins to write, and the transport takes so many bytes.
    Begin(usize),
    /// That writer comes back to the Session.
    Finish,
    /// The Client sends the acknowledgement that is due.
    Ack,
    /// The Client sends its last acknowledgement once more.
    AckAgain,
    /// The Client acknowledges whatever it likes.
    Invent(u8, u16, bool),
    Lose,
    Leave,
    /// A Network Connection resumes the Session, perhaps while there is another.
    Attach {
        quota: u16,
        maximum_packet_size: Option<u32>,
        aliases: u16,
    },
    Wait(u64),
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let qos = prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)];
    let size = prop_oneof![9 => 8usize..60, 1 => Just(5_000)];
    let expiry = prop_oneof![5 => Just(None), 1 => (0u32..4).prop_map(Some)];
    let part = prop_oneof![2 => 0usize..80, 2 => Just(usize::MAX)];
    let maximum = prop_oneof![3 => Just(None), 1 => (40u32..90).prop_map(Some)];
    prop_oneof![
        8 => (qos, size, expiry, any::<bool>()).prop_map(|(qos, size, expiry_secs, shared)| {
            Op::Offer { qos, size, expiry_secs, shared }
        }),
        8 => part.prop_map(Op::Begin),
        8 => Just(Op::Finish),
        8 => Just(Op::Ack),
        1 => Just(Op::AckAgain),
        1 => Just(Op::Lose),
        1 => Just(Op::Leave),
        2 => (1u16..6, maximum, 0u16..3).prop_map(|(quota, maximum_packet_size, aliases)| {
            Op::Attach { quota, maximum_packet_size, aliases }
        }),
        1 => (0u64..2_000).prop_map(Op::Wait),
    ]
}

/// As [`op`], from a Client that acknowledges what it was never sent.
pub(super) fn hostile_op() -> impl Strategy<Value = Op> {
    let invent = (0u8..3, 1u16..20, any::<bool>());
    prop_oneof![
        3 => op(),
        1 => invent.prop_map(|(kind, id, error)| Op::Invent(kind, id, error)),
    ]
}

/// One Network Connection, seen from outside.
#[derive(Debug)]
struct Connection {
    epoch: u64,
    terms: Terms,
    /// Everything that was encoded for it, and how much of that the transport took.
    stream: Vec<u8>,
    taken: usize,
    /// Bytes of protocol packets that came in while a batch was being written.
    later: usize,
    /// The packets in the stream, with their ends.
    packets: VecDeque<(usize, usize, Packet)>,
    /// Of those, how many the Client has read, and how many the Session knows to be taken.
    read: usize,
    reported: usize,
    aliases: HashMap<u16, String>,
    /// PUBLISH of QoS 1 and 2 that use up the send quota.
    open: BTreeSet<u16>,
    acks: VecDeque<(AckKind, u16, ReasonCode)>,
    last_ack: Option<(AckKind, u16, ReasonCode)>,
}

/// A batch that is being written.
#[derive(Debug)]
struct Held {
    epoch: u64,
    out: Outgoing,
    written: usize,
}

#[derive(Debug)]
pub(super) struct Sim {
    pub(super) session: Session,
    version: ProtocolVersion,
    depth: usize,
    honest: bool,
    now: Timestamp,
    group: Arc<ShareGroup>,
    connection: Option<Connection>,
    held: Option<Held>,
    protocol: Vec<u8>,
    next: u32,
    /// What was accepted, by number.
    accepted: BTreeMap<u32, (QoS, bool)>,
    offered: u64,
    delivered: u64,
    /// Numbers of which a transport took a byte on an earlier Network Connection.
    begun: BTreeSet<u32>,
    /// Which message an identifier stands for, until the Session says that it is over.
    identifiers: BTreeMap<u16, u32>,
    /// The Client's own Session State: QoS 2 received and not released.
    received: BTreeSet<u16>,
    got: BTreeMap<u32, QoS>,
    newest_plain: u32,
    newest_assured: u32,
}

impl Sim {
    pub(super) fn new(version: ProtocolVersion, depth: usize, honest: bool) -> Sim {
        Sim {
            session: new_session(depth),
            version,
            depth,
            honest,
            now: Timestamp(0),
            group: Arc::default(),
            connection: None,
            held: None,
            protocol: Vec::new(),
            next: 1,
            accepted: BTreeMap::new(),
            offered: 0,
            delivered: 0,
            begun: BTreeSet::new(),
            identifiers: BTreeMap::new(),
            received: BTreeSet::new(),
            got: BTreeMap::new(),
            newest_plain: 0,
            newest_assured: 0,
        }
    }

    pub(super) fn step(&mut self, op: &Op) {
        match *op {
            Op::Offer { qos, size, expiry_secs, shared } => {
                self.offer(qos, size, expiry_secs, shared);
            }
            Op::Begin(bytes) => self.begin(bytes),
            Op::Finish => self.finish(),
            Op::Ack => self.ack(),
            Op::AckAgain => self.ack_again(),
            Op::Invent(kind, id, error) => {
                let kind = [AckKind::PubAck, AckKind::PubRec, AckKind::PubComp][usize::from(kind)];
                let reason = if error { ReasonCode::QUOTA_EXCEEDED } else { ReasonCode::SUCCESS };
                let _any = self.acknowledge(kind, id, reason);
            }
            Op::Lose => self.detach(Departure::Lost),
            Op::Leave => self.detach(Departure::Normal),
            Op::Attach { quota, maximum_packet_size, aliases } => {
                let v5 = self.version.is_v5();
                self.attach(Terms {
                    version: self.version,
                    quota,
                    maximum_packet_size: maximum_packet_size.filter(|_| v5),
                    topic_alias_maximum: if v5 { aliases } else { 0 },
                });
            }
            Op::Wait(millis) => {
                self.now = Timestamp(self.now.0 + millis);
                self.session.expire_messages(self.now);
                assert!(self.session.next_deadline() > self.now);
            }
        }
        self.check();
    }

    fn check(&self) {
        let ledger = self.session.ledger();
        assert!(ledger.balances(), "{ledger}");
        assert!(ledger.waiting <= self.depth as u64 + 1, "one of QoS 0 may pass: {ledger}");
        assert_eq!(ledger.offered, self.offered);
        assert_eq!(ledger.delivered, self.delivered, "QoS 0 wholly written, or acknowledged");
    }

    fn offer(&mut self, qos: QoS, size: usize, expiry_secs: Option<u32>, shared: bool) {
        let number = self.next;
        self.next += 1;
        let mut message = message(["a", "topic/b", "c"][number as usize % 3], number, size);
        if let Some(secs) = expiry_secs {
            message = message.with_expiry_secs(secs).accepted_at(self.now);
        }
        let shared_group = shared.then(|| self.group.clone());
        let delivery = Delivery { message, qos, retain: false, ids: None, shared: shared_group };
        self.offered += 1;
        match self.session.offer(delivery, self.now) {
            Offered::Waiting { .. } => {
                let passes = qos == QoS::AtMostOnce;
                assert!(self.session.waiting_len() <= self.depth + usize::from(passes));
                self.accepted.insert(number, (qos, shared));
            }
            Offered::Full(refused) => {
                assert!(self.session.waiting_len() >= self.depth, "never too early");
                let busy = self.held.is_some() || self.session.has_more();
                let passes = qos == QoS::AtMostOnce && self.is_exhausted() && !busy;
                assert!(!passes, "it could be sent at once");
                assert!(self.session.ledger().balances(), "not counted while it is undecided");
                let again = self.session.offer_again(refused, self.now);
                let Offered::Full(refused) = again else { panic!("{again:?}") };
                let outcome = self.session.give_up(refused);
                assert_eq!(outcome, Outcome::Dropped(DropReason::QueueFull));
            }
            Offered::Ended(outcome) => {
                assert_eq!(outcome, Outcome::Dropped(DropReason::Away));
                assert!(qos == QoS::AtMostOnce && self.connection.is_none());
            }
            Offered::Gone => panic!("the Session has not ended"),
        }
    }

    /// Whether the Client surely has to acknowledge something before it gets more of QoS 1 and 2.
    fn is_exhausted(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.open.len() >= usize::from(connection.terms.quota))
    }

    fn begin(&mut self, bytes: usize) {
        let mut out = Outgoing::default();
        let before = self.protocol.len();
        let began = self.session.begin_batch(self.now, &mut out, &mut self.protocol, &mut Nothing);
        let Some(epoch) = began else {
            let writing = self.held.as_ref().map(|held| held.epoch);
            let current = self.connection.as_ref().map(|connection| connection.epoch);
            assert!(current.is_none() || current == writing, "nobody is writing");
            if let Some(connection) = &mut self.connection {
                assert!(self.protocol.is_empty(), "the one who writes has it now");
                connection.later += before;
            }
            return;
        };
        assert!(self.protocol.is_empty() && out.len() >= before);
        let flat = flatten(&out);
        let Some(connection) = &mut self.connection else { panic!("no Network Connection") };
        assert_eq!(epoch, connection.epoch);
        connection.later = 0;
        let rest = connection.stream.split_off(connection.taken);
        assert!(flat.starts_with(&rest), "what was not taken goes first, unaltered");
        connection.stream.extend_from_slice(&flat);
        let from = connection.stream.len() - flat.len() + rest.len();
        let mut at = from;
        for packet in packets(self.version, &flat[rest.len()..]) {
            self.encoded(&packet);
            let Some(connection) = &mut self.connection else { return };
            connection.packets.push_back((at, at + packet.size, packet.clone()));
            at += packet.size;
        }
        let written = bytes.min(flat.len());
        if let Some(connection) = &mut self.connection {
            connection.taken += written;
        }
        self.held = Some(Held { epoch, out, written });
        self.read();
    }

    /// What the Server may send at this moment.
    fn encoded(&mut self, packet: &Packet) {
        let Some(connection) = &mut self.connection else { return };
        let max = connection.terms.maximum_packet_size.unwrap_or(u32::MAX) as usize;
        assert!(packet.size <= max.max(4), "MQTT-3.1.2-24");
        let Some(id) = packet.id.filter(|_| packet.kind == PUBLISH) else { return };
        let known = self.identifiers.insert(id, packet.number());
        if self.honest {
            assert!(known.is_none_or(|known| known == packet.number()), "MQTT-2.2.1-4: {id}");
            let again = self.begun.contains(&packet.number());
            assert_eq!(packet.dup, again, "MQTT-3.3.1-1: {packet:?}");
        }
        connection.open.insert(id);
        assert!(connection.open.len() <= usize::from(connection.terms.quota), "MQTT-4.9.0-2");
    }

    fn finish(&mut self) {
        let Some(Held { epoch, mut out, written }) = self.held.take() else { return };
        let before = self.session.ledger();
        let more = self.session.end_batch(epoch, &mut out, written);
        let Some(connection) = self.connection.as_mut().filter(|current| current.epoch == epoch)
        else {
            assert!(!more, "a stale epoch has no effect");
            assert_eq!(self.session.ledger(), before);
            return;
        };
        let taken = connection.taken;
        let fresh = connection.packets.iter().skip(connection.reported);
        let fresh: Vec<_> = fresh.take_while(|(_, end, _)| *end <= taken).collect();
        let plain = fresh.iter().filter(|(.., packet)| packet.kind == PUBLISH && packet.qos == 0);
        self.delivered += plain.count() as u64;
        connection.reported += fresh.len();
        let left = connection.stream.len() - taken + connection.later;
        assert_eq!(self.session.tail_bytes(), left);
        assert!(more || left == 0);
        if !more {
            self.nothing_to_write();
        }
    }

    /// The Session said that there is no more to write.
    fn nothing_to_write(&mut self) {
        let mut out = Outgoing::default();
        let waits = self.session.waiting_len();
        let began = self.session.begin_batch(self.now, &mut out, &mut Vec::new(), &mut Nothing);
        assert!(out.is_empty() && waits == self.session.waiting_len());
        let _more = self.session.end_batch(began.unwrap(), &mut out, 0);
    }

    /// The Client reads what has arrived wholly.
    fn read(&mut self) {
        while let Some(connection) = &mut self.connection {
            let Some((_, end, packet)) = connection.packets.get(connection.read).cloned() else {
                return;
            };
            if end > connection.taken {
                return;
            }
            connection.read += 1;
            match packet.kind {
                PUBLISH => self.got_publish(&packet),
                PUBREL => {
                    let id = packet.id.unwrap();
                    self.received.remove(&id);
                    let ack = (AckKind::PubComp, id, ReasonCode::SUCCESS);
                    connection.acks.push_back(ack);
                }
                other => panic!("packet type {other}"),
            }
        }
    }

    fn got_publish(&mut self, packet: &Packet) {
        let number = packet.number();
        let Some(connection) = &mut self.connection else { return };
        let mut topic = packet.topic.clone();
        if let Some(alias) = packet.alias {
            let range = 1..=connection.terms.topic_alias_maximum;
            assert!(range.contains(&alias), "MQTT-3.1.2-26, -27: {alias}");
            if topic.is_empty() {
                topic.clone_from(&connection.aliases[&alias]);
            }
            connection.aliases.insert(alias, topic.clone());
        }
        assert_eq!(topic, ["a", "topic/b", "c"][number as usize % 3]);
        let (qos, _) = self.accepted[&number];
        assert_eq!(packet.qos, qos as u8);
        let reason = if number.is_multiple_of(REFUSED) {
            ReasonCode::QUOTA_EXCEEDED
        } else {
            ReasonCode::SUCCESS
        };
        let kind = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(AckKind::PubAck),
            QoS::ExactlyOnce => Some(AckKind::PubRec),
        };
        connection.acks.extend(kind.map(|kind| (kind, packet.id.unwrap(), reason)));
        let new_to_client = match packet.id.filter(|_| qos == QoS::ExactlyOnce) {
            Some(_) if reason.is_error() => false,
            Some(id) => self.received.insert(id),
            None => true,
        };
        if new_to_client {
            self.deliver(number, qos);
        }
    }

    /// The Client's application gets a message.
    fn deliver(&mut self, number: u32, qos: QoS) {
        let before = self.got.insert(number, qos);
        if !self.honest {
            return;
        }
        assert!(before.is_none() || qos == QoS::AtLeastOnce, "{number} at {qos:?}, a second time");
        let newest =
            if qos == QoS::AtMostOnce { &mut self.newest_plain } else { &mut self.newest_assured };
        assert!(before.is_some() || number > *newest, "MQTT-4.6.0-6: {number} after {newest}");
        *newest = number.max(*newest);
    }

    fn ack(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let Some((kind, id, reason)) = connection.acks.pop_front() else { return };
        connection.last_ack = Some((kind, id, reason));
        let known = self.identifiers.contains_key(&id);
        let done = self.acknowledge(kind, id, reason);
        if self.honest && known {
            assert!(!matches!(done, Acknowledged::Unexpected | Acknowledged::Unknown), "{done:?}");
        }
    }

    fn ack_again(&mut self) {
        let last = self.connection.as_ref().and_then(|connection| connection.last_ack);
        let Some((kind, id, reason)) = last else { return };
        let again = self.acknowledge(kind, id, reason);
        if self.honest {
            let right = match kind {
                AckKind::PubRec if !reason.is_error() => {
                    matches!(again, Acknowledged::Received | Acknowledged::Unknown)
                }
                _ => matches!(again, Acknowledged::Unknown),
            };
            assert!(right, "{kind:?} again: {again:?}");
        }
    }

    fn acknowledge(&mut self, kind: AckKind, id: u16, reason: ReasonCode) -> Acknowledged {
        let packet_id = PacketId::new(id).unwrap();
        let done = match kind {
            AckKind::PubAck => self.session.puback(packet_id, reason),
            AckKind::PubRec => self.session.pubrec(packet_id, reason),
            AckKind::PubComp | AckKind::PubRel => self.session.pubcomp(packet_id),
        };
        match done {
            Acknowledged::Completed { refused } => {
                self.identifiers.remove(&id);
                if let Some(connection) = &mut self.connection {
                    connection.open.remove(&id);
                }
                self.delivered += u64::from(!refused);
            }
            Acknowledged::Received => {
                self.protocol.extend_from_slice(&[
                    0x62,
                    2,
                    id.to_be_bytes()[0],
                    id.to_be_bytes()[1],
                ]);
            }
            Acknowledged::Unknown | Acknowledged::Unexpected => {}
        }
        done
    }

    /// Nobody speaks to this Network Connection any more. `sent`: what is left may still be sent.
    fn forget(&mut self, sent: bool) {
        self.protocol.clear();
        let Some(connection) = self.connection.take() else { return };
        let writing = self.held.as_ref().is_some_and(|held| held.epoch == connection.epoch);
        let all = writing || sent;
        for (start, _, packet) in connection.packets {
            if packet.kind == PUBLISH && (all || start < connection.taken) {
                self.begun.insert(packet.number());
            }
        }
    }

    fn detach(&mut self, departure: Departure) {
        let epoch = self.session.epoch();
        assert!(self.session.detach(epoch + 1, departure, self.now).is_none());
        let left = self.session.detach(epoch, departure, self.now);
        assert_eq!(left.is_some(), self.connection.is_some());
        let Some(left) = left else { return };
        assert!(!left.ended && !self.session.has_more());
        self.forget(!left.unsent.is_empty());
        assert!(self.session.detach(epoch, departure, self.now).is_none(), "once");
    }

    fn attach(&mut self, terms: Terms) {
        let before = self.session.epoch();
        let (epoch, left) = self.session.attach(terms, 1_000_000, None);
        assert!(epoch > before && !self.session.is_blocked());
        let torn =
            self.connection.as_ref().map_or(0, |old| old.stream.len() - old.taken + old.later);
        let writing = self.held.as_ref().is_some_and(|held| held.epoch == before);
        assert!(writing || left.unsent.len() == torn);
        self.forget(false);
        assert!(self.session.detach(before, Departure::Lost, self.now).is_none(), "taken over");
        self.connection = Some(Connection {
            epoch,
            terms,
            stream: Vec::new(),
            taken: 0,
            later: 0,
            packets: VecDeque::new(),
            read: 0,
            reported: 0,
            aliases: HashMap::new(),
            open: BTreeSet::new(),
            acks: VecDeque::new(),
            last_ack: None,
        });
    }

    /// A Network Connection that works, until nothing is left to do; then everything that was accepted
    /// has its outcome.
    pub(super) fn settle(&mut self) {
        self.finish();
        let quota = 3;
        self.attach(Terms {
            version: self.version,
            quota,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
        });
        for round in 0.. {
            assert!(round < 5_000, "it never ends: {}", self.session.ledger());
            self.begin(usize::MAX);
            self.finish();
            while self.connection.as_ref().is_some_and(|current| !current.acks.is_empty()) {
                self.ack();
                self.check();
            }
            let ledger = self.session.ledger();
            if ledger.waiting + ledger.inflight == 0 && self.protocol.is_empty() {
                break;
            }
        }
        let ledger = self.session.ledger();
        let missing = self.accepted.iter().filter(|(number, (qos, _))| {
            *qos != QoS::AtMostOnce
                && !number.is_multiple_of(REFUSED)
                && !self.got.contains_key(number)
        });
        let excused = ledger.expired + ledger.dropped(DropReason::TooLarge);
        assert!(missing.count() as u64 <= excused, "lost without a word: {ledger}");
    }

    /// The Session ends in the middle of it.
    pub(super) fn end(&mut self) {
        let held = self.session.ledger();
        self.forget(false);
        let (_, handed_on) = self.session.end();
        let ledger = self.session.ledger();
        assert!(ledger.balances() && ledger.waiting + ledger.inflight == 0, "{ledger}");
        assert_eq!(ledger.offered + handed_on.len() as u64, held.offered);
        assert_eq!(ledger.delivered, held.delivered);
        for delivery in handed_on {
            let number = crate::session::testing::number(delivery.message.payload());
            let (qos, shared) = self.accepted[&number];
            assert!(shared, "{number} belongs to this Session alone");
            let begun = self.begun.contains(&number);
            assert!(qos != QoS::ExactlyOnce || !begun, "MQTT-4.8.2-5: {number}");
        }
        let late = crate::session::testing::delivery(QoS::AtLeastOnce, 1);
        assert!(matches!(self.session.offer(late, self.now), Offered::Gone));
        self.finish_stale();
        assert_eq!(self.session.ledger(), ledger);
        assert_eq!(self.session.next_deadline(), Timestamp::NEVER);
    }

    fn finish_stale(&mut self) {
        if let Some(Held { epoch, mut out, written }) = self.held.take() {
            assert!(!self.session.end_batch(epoch, &mut out, written));
        }
    }
}
