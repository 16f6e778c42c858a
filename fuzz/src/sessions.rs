//! A whole `Connection` and `Session`: a Client that sends anything, a broker that does what a broker may do at any
//! moment, and a network that takes as much as it likes. After every step the books balance and the bounds hold.

use std::num::NonZeroU32;
use std::sync::Arc;

use ahash::RandomState;

use self::client::any_packet;
use self::net::{Net, flatten};
use super::input::Input;
use crate::connection::{Accepted, Action, Connection, Topic};
use crate::error::Fault;
use crate::ledger::{DropReason, Outcome};
use crate::limits::Limits;
use crate::message::Message;
use crate::packet::decode::{SubscribeEntries, UnsubscribeEntries};
use crate::packet::encode::AckKind;
use crate::packet::frame::Frame;
use crate::packet::{
    Ack, Connect, PacketId, Publish, QoS, ReasonCode, RetainHandling, Subscribe, Unsubscribe,
};
use crate::retained::{Retained, Step};
use crate::session::inflight::{Acknowledged, Arrival};
use crate::session::outgoing::Outgoing;
use crate::session::queue::Delivery;
use crate::session::replay::{Found, Replay, SendContext};
use crate::session::will::Will;
use crate::session::{Departure, Offered, Session};
use crate::subscription::{ShareGroup, Subscription};
use crate::time::Timestamp;
use crate::topic::{TopicFilter, name_matches};

#[path = "client.rs"]
mod client;
#[path = "net.rs"]
mod net;

/// What no Client may receive.
const DENIED: &str = "deny";

/// Retained messages, of which a few are looked at before a search pauses.
struct Store(Retained<Message>);

impl SendContext for Store {
    fn next_retained(&mut self, filter: &str, after: Option<&str>, now: Timestamp) -> Found {
        match self.0.next_match(filter, after, now, &mut 3) {
            Step::Found(_, message) => Found::Message(message.clone()),
            Step::Paused(after) => Found::Paused(after.into()),
            Step::End => Found::End,
        }
    }

    fn may_receive(&mut self, topic: &[u8]) -> bool {
        topic != DENIED.as_bytes()
    }
}

/// A batch that somebody is writing.
struct Held {
    epoch: u64,
    out: Outgoing,
    written: usize,
}

/// Why a Network Connection ends.
#[derive(Clone, Copy)]
enum End {
    Fault(Fault),
    Left(Departure),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> End {
        End::Fault(fault)
    }
}

struct World {
    limits: Arc<Limits>,
    session: Session,
    /// What the Session has subscribed to.
    filters: Vec<(TopicFilter, Subscription)>,
    /// The Network Connection that packets come from.
    net: Net,
    /// One that another Client has left open and does not speak on.
    old: Option<Net>,
    held: Vec<Held>,
    store: Store,
    group: Arc<ShareGroup>,
    now: Timestamp,
    messages: u32,
}

pub(super) fn session(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    while !input.is_empty() {
        world.step(&mut input);
        world.check();
    }
    world.end();
}

fn any_limits(input: &mut Input<'_>) -> Limits {
    Limits {
        max_queue_depth: 1 + input.below(8),
        queue_bytes_max: input.choose(&[1 << 20, 64, 8_000]),
        packet_bytes_max: input.choose(&[8_192, 268_435_460, 128]),
        packet_filters_max: 4,
        session_subscriptions_max: 5,
        max_inflight: 1 + u16::from(input.byte() % 4),
        receive_maximum: 1 + u16::from(input.byte() % 4),
        topic_alias_maximum: u16::from(input.byte() % 3),
        outgoing_topic_alias_maximum: u16::from(input.byte() % 3),
        session_expiry_secs_max: input.choose(&[u32::MAX, 4]),
        keep_alive_secs_max: input.choose(&[0, 30]),
        ..Limits::default()
    }
    .in_range()
}

fn new_session(limits: &Limits) -> Session {
    Session::new("client".into(), RandomState::with_seeds(1, 2, 3, 4), limits)
}

impl World {
    fn new(input: &mut Input<'_>) -> World {
        let limits = Arc::new(any_limits(input));
        World {
            session: new_session(&limits),
            filters: Vec::new(),
            net: Net::new(Connection::new(limits.clone())),
            old: None,
            held: Vec::new(),
            store: Store(Retained::new(6, 4_000)),
            group: Arc::default(),
            now: Timestamp(0),
            messages: 0,
            limits,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0 => {
                let count = usize::from(input.byte());
                self.receive(input.take(count));
            }
            1..=6 => {
                let packet = any_packet(input, &self.net);
                self.receive(&packet);
            }
            7 | 8 => {
                let message = self.any_message(input);
                let qos = input.choose(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
                let shared = (input.byte() > 200).then(|| self.group.clone());
                let ids = input.flag().then(|| Arc::from([7, 200]));
                self.offer(Delivery { message, qos, retain: false, ids, shared });
            }
            9 | 10 => {
                let (some, owner) = (input.byte(), input.flag());
                self.begin(if some > 100 { usize::MAX } else { usize::from(some) }, owner);
            }
            11 => {
                let index = input.below(self.held.len().max(1));
                self.finish(index);
            }
            12 => self.close(End::Left(Departure::Lost)),
            13 => self.open(),
            14 => {
                let millis = input.choose(&[1, 250, 1_000, 5_000]);
                self.wait(millis);
            }
            _ => {
                let message = self.any_message(input);
                self.route(&message.with_retain(true).with_qos(QoS::AtLeastOnce), false);
            }
        }
    }

    fn any_message(&mut self, input: &mut Input<'_>) -> Message {
        self.messages += 1;
        let topic = input.choose(&["a", "b", "a/b", DENIED, "$x/y", "c/d/e"]);
        let size = input.choose(&[0, 1, 20, 60, 130, 5_000]);
        let message = Message::new(topic, vec![b'.'; size]).expect("a Topic Name");
        match input.byte() {
            byte @ 0..8 => message.with_expiry_secs(u32::from(byte)).accepted_at(self.now),
            8..16 => message.with_user_property("name", "value").expect("a short property"),
            _ => message,
        }
    }

    fn check(&self) {
        let (session, limits) = (&self.session, &self.limits);
        let ledger = session.ledger();
        assert!(ledger.balances(), "{ledger}");
        // One QoS 0 message passes a full queue that waits for acknowledgements alone.
        assert!(ledger.waiting <= limits.max_queue_depth as u64 + 1, "{ledger}");
        assert!(session.inflight_len() <= usize::from(limits.max_inflight), "{ledger}");
        assert!(session.subscription_count() <= limits.session_subscriptions_max);
        assert_eq!(session.subscription_count(), self.filters.len());
        assert!(self.store.0.len() <= 6 && self.store.0.bytes() <= 4_000);
        assert!(session.tail_answer_bytes() <= session.tail_bytes());
    }

    // ---- The Client ------------------------------------------------------------------------------

    /// Takes every packet that is all there.
    fn receive(&mut self, bytes: &[u8]) {
        self.net.received.extend_from_slice(bytes);
        while !self.net.closed {
            let frame = self.net.connection.next_frame(&self.net.received);
            let done = match frame {
                Ok(Frame::Partial { total }) => {
                    let max = self.net.connection.packet_bytes_max() as usize;
                    return assert!(total.is_none_or(|total| total <= max));
                }
                Ok(Frame::Whole { header, body, taken }) => {
                    let body = body.to_vec();
                    self.net.received.drain(..taken);
                    self.packet(header, &body)
                }
                Err(fault) => Err(fault.into()),
            };
            if let Err(end) = done {
                self.close(end);
            }
        }
    }

    fn packet(&mut self, header: u8, body: &[u8]) -> Result<(), End> {
        let net = &mut self.net;
        let connected = net.connection.is_connected();
        let action = net.connection.handle(header, body, &mut net.answers)?;
        assert!(connected || matches!(action, Action::Open(_) | Action::None), "{action:?}");
        // Another Network Connection may have the Session now, or it has ended.
        if connected && !net.is_attached(&self.session) {
            return Ok(());
        }
        match action {
            Action::None | Action::Authenticate { .. } => Ok(()),
            Action::Open(connect) => self.connect(&connect),
            Action::Publish(publish, topic) => self.publish(&publish, &topic),
            Action::Acknowledged(kind, ack) => self.acknowledged(kind, ack),
            Action::Release(id) => {
                let known = self.session.received().release(id);
                self.net.connection.complete(id, known, &mut self.net.answers);
                Ok(())
            }
            Action::Subscribe(subscribe) => self.subscribe(&subscribe),
            Action::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            Action::Leave { reason, session_expiry_secs } => {
                let secs = session_expiry_secs.map(|s| s.min(self.limits.session_expiry_secs_max));
                if secs.is_some_and(|secs| !self.session.set_expiry_secs(secs)) {
                    return Err(Fault::Protocol("section 3.14.2.2.2: an expiry of 0").into());
                }
                // MQTT-3.14.4-3.
                let is_normal = reason == ReasonCode::SUCCESS;
                Err(End::Left(if is_normal { Departure::Normal } else { Departure::Lost }))
            }
        }
    }

    fn connect(&mut self, connect: &Connect<'_>) -> Result<(), End> {
        self.net.connection.grant(connect, Vec::new())?;
        let expiry_secs = connect.session_expiry_secs.min(self.limits.session_expiry_secs_max);
        let over = self.session.expiry_secs() == 0 || self.session.has_ended();
        let present = !over && !connect.clean_start;
        if present {
            if let Some(will) = self.session.take_will_for_resumption() {
                self.route(&will, true);
            }
        } else {
            self.end_session();
        }
        let will = connect.will.as_ref().map(|will| {
            let message = Message::from_packet(will.topic, &will.properties, will.payload, None);
            let message = message.with_qos(will.qos).with_retain(will.retain);
            Will { message, delay_secs: will.delay_secs }
        });
        let terms = Connection::terms(connect, &self.limits);
        let (epoch, left) = self.session.attach(terms, expiry_secs, will);
        assert!(left.will.is_none() && !left.ended);
        self.old = None;
        self.net.attach(epoch, terms);
        let accepted = Accepted {
            session_present: present,
            assigned_client_id: connect.client_id.is_empty().then_some("auto-0123456789abcdef"),
            session_expiry_secs: (expiry_secs != connect.session_expiry_secs)
                .then_some(expiry_secs),
        };
        let mut connack = Vec::new();
        self.net.connection.accept(&accepted, &mut connack);
        assert!(self.net.connection.is_connected(), "a CONNACK that fits was admitted alone");
        self.session.append_protocol(epoch, &mut connack);
        Ok(())
    }

    fn publish(&mut self, publish: &Publish<'_>, topic: &Topic<'_>) -> Result<(), End> {
        let (qos, id) = (publish.qos, publish.packet_id);
        let max = self.net.connection.receive_maximum();
        let arrival = match id.filter(|_| qos == QoS::ExactlyOnce) {
            Some(id) => {
                let arrival = self.session.received().arrive(id, max);
                // A Client of 3.1.1 may have left more than one of 5.0 may have.
                let open = self.session.received_len();
                assert!(arrival != Arrival::New || open <= usize::from(max), "MQTT-3.3.4-7");
                arrival
            }
            None => Arrival::New,
        };
        let mut reason = ReasonCode::SUCCESS;
        match arrival {
            Arrival::Exceeded => {
                let text = "MQTT-3.3.4-7: more than Receive Maximum messages are open";
                return Err(Fault::Refused(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, text).into());
            }
            Arrival::Duplicate => {}
            Arrival::New => {
                let message = Message::from_packet(
                    topic.as_str(),
                    &publish.properties,
                    publish.payload,
                    None,
                );
                let message = message.with_qos(qos).with_retain(publish.retain);
                if topic.as_str().starts_with("$SYS") {
                    reason = ReasonCode::NOT_AUTHORIZED;
                } else if !self.route(&message.accepted_at(self.now), true) {
                    reason = ReasonCode::NO_MATCHING_SUBSCRIBERS;
                }
            }
        }
        let text = "this Topic Name is reserved for the Server";
        self.net.connection.acknowledge(qos, id, reason, text, &mut self.net.answers);
        if let Some(id) = id.filter(|_| reason.is_error() && qos == QoS::ExactlyOnce) {
            self.session.received().release(id);
        }
        Ok(())
    }

    fn acknowledged(&mut self, kind: AckKind, ack: Ack) -> Result<(), End> {
        let (id, reason) = (ack.packet_id, ack.reason);
        let done = match kind {
            AckKind::PubAck => self.session.puback(id, reason),
            AckKind::PubRec => self.session.pubrec(id, reason),
            AckKind::PubComp | AckKind::PubRel => self.session.pubcomp(id),
        };
        match done {
            Acknowledged::Completed { .. } => self.net.completed(id),
            Acknowledged::Unexpected => {
                return Err(Fault::Protocol("section 4.3: another QoS or stage").into());
            }
            _ if kind != AckKind::PubRec => {}
            Acknowledged::Received => {
                self.net.connection.release(id, true, &mut self.net.answers);
            }
            Acknowledged::Unknown if !reason.is_error() => {
                self.net.connection.release(id, false, &mut self.net.answers);
            }
            Acknowledged::Unknown => {}
        }
        Ok(())
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>) -> Result<(), End> {
        let mut reasons = Vec::new();
        let mut replays = Vec::new();
        let entries: SubscribeEntries<'_> = subscribe.filters;
        for entry in entries {
            let (text, options) = entry?;
            let Ok(filter) = TopicFilter::new(text) else {
                reasons.push(ReasonCode::TOPIC_FILTER_INVALID);
                continue;
            };
            if !self.session.admits_subscription(&filter, &self.limits) {
                reasons.push(ReasonCode::QUOTA_EXCEEDED);
                continue;
            }
            let subscription = Subscription { options, id: subscribe.subscription_id };
            let new = self.session.subscribe(filter.clone(), subscription);
            assert_eq!(new, !self.filters.iter().any(|(known, _)| *known == filter));
            self.filters.retain(|(known, _)| *known != filter);
            self.filters.push((filter.clone(), subscription));
            let replayed = match options.retain_handling {
                RetainHandling::SendAlways => true,
                RetainHandling::SendIfNew => new,
                RetainHandling::DoNotSend => false,
            };
            if replayed && !filter.is_shared() {
                replays.push(Replay::new(filter, subscription));
            }
            reasons.push(ReasonCode(options.qos as u8));
        }
        self.net.connection.subscribed(subscribe.packet_id, &reasons, &mut self.net.answers)?;
        let epoch = self.session.epoch();
        self.session.append_protocol(epoch, &mut self.net.answers);
        replays.into_iter().for_each(|replay| self.session.replay(replay));
        Ok(())
    }

    fn unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>) -> Result<(), End> {
        let mut reasons = Vec::new();
        let entries: UnsubscribeEntries<'_> = unsubscribe.filters;
        for entry in entries {
            let text = entry?;
            let known = self.filters.len();
            self.filters.retain(|(filter, _)| filter.as_str() != text);
            let Ok(filter) = TopicFilter::new(text) else {
                reasons.push(ReasonCode::TOPIC_FILTER_INVALID);
                continue;
            };
            let removed = self.session.unsubscribe(&filter);
            assert_eq!(removed, self.filters.len() < known);
            let reason = ReasonCode::NO_SUBSCRIPTION_EXISTED;
            reasons.push(if removed { ReasonCode::SUCCESS } else { reason });
        }
        let id = unsubscribe.packet_id;
        Ok(self.net.connection.unsubscribed(id, &reasons, &mut self.net.answers)?)
    }

    // ---- The broker ------------------------------------------------------------------------------

    /// Keeps it if it is retained, and offers it where it is subscribed to. Whether it is.
    fn route(&mut self, message: &Message, as_published: bool) -> bool {
        if message.retain() {
            if message.payload().is_empty() {
                self.store.0.clear(message.topic());
            } else {
                let expires_at = Some(message.expires_at()).filter(|at| *at != Timestamp::NEVER);
                let bytes = message.size_bytes();
                // What does not fit is not kept.
                let _ = self.store.0.set(message.topic(), message.clone(), bytes, expires_at);
            }
        }
        let found = self
            .filters
            .iter()
            .filter(|(filter, _)| name_matches(filter.filter_str(), message.topic()));
        let found: Vec<_> = found.cloned().collect();
        for (filter, Subscription { options, id }) in &found {
            self.offer(Delivery {
                message: message.clone(),
                qos: options.qos.min(message.qos()),
                retain: as_published && options.retain_as_published && message.retain(),
                ids: id.map(|id: NonZeroU32| Arc::from([id.get()])),
                shared: filter.is_shared().then(|| self.group.clone()),
            });
        }
        !found.is_empty()
    }

    fn offer(&mut self, delivery: Delivery) {
        let qos = delivery.qos;
        let attached = self.session.is_attached();
        let takes = self.session.takes_now(&delivery, self.now);
        let full = match self.session.offer(delivery, self.now) {
            Offered::Waiting { .. } => return,
            Offered::Full(refused) => refused,
            Offered::Ended(outcome) => {
                assert_eq!(outcome, Outcome::Dropped(DropReason::Away));
                return assert!(qos == QoS::AtMostOnce && !attached);
            }
            Offered::Gone => return assert!(self.session.has_ended()),
        };
        assert!(!takes || self.limits.queue_bytes_max < 1 << 20, "it said that it takes it");
        assert!(self.session.ledger().balances(), "not counted while it is undecided");
        let again = self.session.offer_again(full, self.now);
        let Offered::Full(refused) = again else {
            return assert!(matches!(again, Offered::Full(_)), "{again:?}");
        };
        let outcome = self.session.give_up(refused);
        assert!(matches!(
            outcome,
            Outcome::Dropped(DropReason::QueueFull | DropReason::QueueBytes)
        ));
    }

    /// The Network Connection to which the Session writes.
    fn writes_to(&mut self) -> Option<&mut Net> {
        let session = &self.session;
        std::iter::once(&mut self.net).chain(&mut self.old).find(|net| net.is_attached(session))
    }

    /// Somebody begins to write, and the transport takes so many bytes.
    fn begin(&mut self, bytes: usize, owner: bool) {
        let Some(net) = self.writes_to() else { return self.begin_nothing() };
        let mut protocol = if owner { std::mem::take(&mut net.answers) } else { Vec::new() };
        let had_more = self.session.has_more() || !protocol.is_empty();
        let mut out = Outgoing::default();
        let began = self.session.begin_batch(self.now, &mut out, &mut protocol, &mut self.store);
        assert!(protocol.is_empty(), "whoever writes has it now");
        let Some(epoch) = began else {
            let epoch = self.session.epoch();
            return assert!(self.held.iter().any(|held| held.epoch == epoch), "nobody writes");
        };
        assert!(had_more || out.is_empty(), "it said that there is nothing to write");
        let flat = flatten(&out);
        let written = bytes.min(flat.len());
        if let Some(net) = self.writes_to() {
            net.wrote(&flat);
            net.taken += written;
        }
        self.held.push(Held { epoch, out, written });
    }

    fn begin_nothing(&mut self) {
        let mut out = Outgoing::default();
        let began = self.session.begin_batch(self.now, &mut out, &mut Vec::new(), &mut self.store);
        assert!(began.is_none() && out.is_empty() && !self.session.has_more());
    }

    /// One that writes comes back to the Session.
    fn finish(&mut self, index: usize) {
        if index >= self.held.len() {
            return;
        }
        let Held { epoch, mut out, written } = self.held.swap_remove(index);
        let before = self.session.ledger();
        let more = self.session.end_batch(epoch, &mut out, written);
        if epoch == self.session.epoch() && self.session.is_attached() {
            assert!(more || self.session.tail_bytes() == 0);
        } else {
            assert!(!more && self.session.ledger() == before, "a stale epoch has no effect");
        }
    }

    /// The Network Connection that packets come from ends.
    fn close(&mut self, end: End) {
        let net = &mut self.net;
        if std::mem::replace(&mut net.closed, true) {
            return;
        }
        let departure = match end {
            End::Left(departure) => departure,
            End::Fault(_) => Departure::Lost,
        };
        let mut last = Outgoing::default();
        if let Some(epoch) = net.epoch {
            while let Some(index) = self.held.iter().position(|held| held.epoch == epoch) {
                self.finish(index);
            }
            let left = self.session.detach(epoch, departure, self.now).unwrap_or_default();
            last = left.unsent;
            if let Some(will) = left.will {
                self.route(&will, true);
            }
            if left.ended {
                self.end_session();
            }
        }
        let net = &mut self.net;
        last.buffer().append(&mut net.answers);
        if let End::Fault(fault) = end {
            net.connection.refuse(fault, last.buffer());
        }
        net.wrote(&flatten(&last));
    }

    /// Another Network Connection begins. One that has the Session stays open until it is taken over.
    fn open(&mut self) {
        let fresh = Net::new(Connection::new(self.limits.clone()));
        let net = std::mem::replace(&mut self.net, fresh);
        if net.is_attached(&self.session) {
            self.old = Some(net);
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now = Timestamp(self.now.0 + millis);
        self.session.expire_messages(self.now);
        self.store.0.expire(self.now).for_each(drop);
        if let Some(will) = self.session.take_due_will(self.now) {
            self.route(&will, true);
        }
        if self.session.is_over(self.now) {
            self.end_session();
        }
        assert!(self.session.next_deadline() > self.now, "what was due is done");
    }

    /// The Session ends, and another begins, which no Network Connection has.
    fn end_session(&mut self) {
        let before = self.session.ledger();
        let ended = self.session.has_ended();
        let (will, handed_on) = self.session.end();
        let ledger = self.session.ledger();
        assert!(ledger.balances() && ledger.waiting + ledger.inflight == 0, "{ledger}");
        assert_eq!(ledger.offered + handed_on.len() as u64, before.offered);
        assert_eq!(ledger.delivered, before.delivered);
        assert!(!ended || handed_on.is_empty());
        assert!(handed_on.iter().all(|delivery| delivery.shared.is_some()), "MQTT-4.8.2-5");
        assert_eq!(self.session.next_deadline(), Timestamp::NEVER);
        self.held.clear();
        self.old = None;
        self.session = new_session(&self.limits);
        self.filters.clear();
        if let Some(will) = will {
            self.route(&will, true);
        }
    }

    /// All that somebody writes is written, and the Session ends.
    fn end(mut self) {
        while !self.held.is_empty() {
            self.finish(0);
            self.check();
        }
        self.begin(usize::MAX, true);
        self.finish(0);
        self.check();
        self.end_session();
    }
}

/// A Packet Identifier as a number.
fn number(id: PacketId) -> u16 {
    id.get()
}
