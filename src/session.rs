//! Session State (section 4.1), which outlives the Network Connection, and the output for the present Network
//! Connection.
//!
//! Pure: callers offer messages, take batches to write, and pass acknowledgements and the time in. Every message that
//! is offered gets exactly one [`Outcome`], counted in the books of the Session.

use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;

use crate::ledger::{DropReason, FilterReason, Ledger, Outcome};
use crate::limits::Limits;
use crate::message::Message;
use crate::packet::encode::{self, AckKind};
use crate::packet::{PacketId, PacketType, ProtocolVersion, QoS, ReasonCode};
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

mod attached;
pub(crate) mod handed;
pub(crate) mod inflight;
pub(crate) mod listing;
pub(crate) mod outgoing;
pub(crate) mod queue;
pub(crate) mod replay;
pub(crate) mod standing;
pub(crate) mod will;

pub(crate) use attached::Terms;
use attached::{Attached, append_payload, fits, has_room, publish_head};
use inflight::{Acknowledged, Inflight, Received, Resend};
use outgoing::Outgoing;
use queue::{Delivery, Queue, Refused};
use replay::{Replay, Replays, SendContext};
use will::{Will, WillState};

/// The result of offering a message.
#[derive(Debug)]
#[must_use]
pub(crate) enum Offered {
    /// The message waits. `pressed`: half of the depth waits, and a flush would help; the publisher should flush
    /// before it continues.
    Waiting { pressed: bool },
    /// The queue is full: the caller may make room once and offer it again, or give it up.
    Full(Refused),
    /// The message has its outcome.
    Ended(Outcome),
    /// The Session has ended, and its books with it: the caller counts.
    Gone,
}

/// The remains of a Network Connection.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Unsent bytes. After [`Session::detach`] the caller may still send them; after [`Session::attach`] it may not,
    /// because their messages are sent again.
    pub(crate) unsent: Outgoing,
    /// The Will, if it is to be published now.
    pub(crate) will: Option<Message>,
    /// The Session ended with the Network Connection.
    pub(crate) ended: bool,
}

/// How a Network Connection ended, for the Will and the Session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// DISCONNECT with 0x00, or any DISCONNECT in 3.x: no Will.
    Normal,
    /// Any other end.
    Lost,
}

/// The subscriptions of one Session.
pub(crate) type Subscriptions = HashMap<TopicFilter, Subscription, RandomState>;

/// Session State.
#[derive(Debug)]
pub(crate) struct Session {
    client_id: Arc<str>,
    subscriptions: Subscriptions,
    /// Bytes of their Topic Filters.
    subscription_bytes: usize,
    queue: Queue,
    inflight: Inflight,
    received: Received,
    replays: Replays,
    will: WillState,
    attached: Option<Attached>,
    /// Counts Network Connections: actions of an earlier one have no effect.
    epoch: u64,
    ended: bool,
    expiry_secs: u32,
    /// When a Session without a Network Connection ends.
    ends_at: Timestamp,
    books: Ledger,
}

impl Session {
    pub(crate) fn new(client_id: Arc<str>, hasher: RandomState, limits: &Limits) -> Session {
        Session {
            client_id,
            subscriptions: HashMap::with_hasher(hasher),
            subscription_bytes: 0,
            queue: Queue::new(limits.max_queue_depth, limits.queue_bytes_max),
            inflight: Inflight::default(),
            received: Received::default(),
            replays: Replays::default(),
            will: WillState::None,
            attached: None,
            epoch: 0,
            ended: false,
            expiry_secs: 0,
            ends_at: Timestamp::NEVER,
            books: Ledger::default(),
        }
    }

    // ---- The Network Connection comes and goes ---------------------------------------------------

    /// Attaches a Network Connection. Returns its epoch, and the remains of the previous Network Connection.
    pub(crate) fn attach(
        &mut self,
        terms: Terms,
        expiry_secs: u32,
        will: Option<Will>,
    ) -> (u64, Left) {
        let mut left = Left::default();
        self.discard_writes(&mut left, true);
        self.will.arm(will);
        self.expiry_secs = expiry_secs;
        self.ends_at = Timestamp::NEVER;
        self.epoch += 1;
        self.attached = Some(Attached {
            terms,
            mount: None,
            aliases: Vec::new(),
            tail: None,
            writing: None,
            blocked: false,
            broken: false,
        });
        (self.epoch, left)
    }

    /// Takes a prefix off the Topic Names of messages for the present Network Connection. Messages without the prefix are
    /// not for it.
    pub(crate) fn mount(&mut self, prefix: &Arc<str>) {
        if let Some(attached) = &mut self.attached {
            attached.mount = Some(prefix.clone());
        }
    }

    /// Detaches the Network Connection of this epoch. `None` if the Session was taken over before.
    pub(crate) fn detach(
        &mut self,
        epoch: u64,
        departure: Departure,
        now: Timestamp,
    ) -> Option<Left> {
        if self.epoch != epoch || self.attached.is_none() {
            return None;
        }
        let ended = self.expiry_secs == 0;
        if departure == Departure::Normal {
            self.will.discard();
        }
        let mut left =
            Left { will: self.will.connection_lost(now, ended), ended, ..Left::default() };
        self.discard_writes(&mut left, false);
        let plain = self.queue.drain_plain();
        self.books.end_many(Outcome::Dropped(DropReason::Away), plain);
        self.ends_at = match self.expiry_secs {
            u32::MAX => Timestamp::NEVER,
            secs => now.plus_secs(secs),
        };
        Some(left)
    }

    /// Handles messages that were encoded and not accepted by the transport: QoS 0 is dropped, the rest is sent again.
    /// `discarded`: the unsent bytes will not be sent.
    fn discard_writes(&mut self, left: &mut Left, discarded: bool) {
        let plain = self.unsent_plain() as u64;
        let Some(attached) = self.attached.take() else { return };
        self.books.end_many(Outcome::Dropped(DropReason::Away), plain);
        // It is not known whether a batch that is being written will arrive.
        self.inflight.restart(attached.writing.is_none() && (discarded || attached.tail.is_none()));
        left.unsent = attached.tail.map_or_else(Outgoing::default, |tail| *tail);
    }

    /// Whether DISCONNECT may set this Session Expiry Interval: one of 0 in CONNECT cannot be changed
    /// (section 3.14.2.2.2).
    pub(crate) fn set_expiry_secs(&mut self, secs: u32) -> bool {
        let allowed = secs == 0 || self.expiry_secs != 0;
        if allowed {
            self.expiry_secs = secs;
        }
        allowed
    }

    /// Ends the Session: all messages that it holds get outcomes. Returns the Will if it is still to be published, and
    /// the messages of shared subscriptions that can go to other members (MQTT-4.8.2-5: without those of QoS 2 of
    /// which the Client may have received a byte).
    pub(crate) fn end(&mut self) -> (Option<Message>, Vec<Delivery>) {
        self.discard_writes(&mut Left::default(), true);
        self.ended = true;
        let mut handed_on = Vec::new();
        let sent = self.inflight.drain().map(|(begun, delivery)| {
            let repeatable = delivery.filter(|d| !begun || d.qos == QoS::AtLeastOnce);
            repeatable.filter(|delivery| delivery.shared.is_some())
        });
        let waiting =
            self.queue.drain().map(|delivery| Some(delivery).filter(|d| d.shared.is_some()));
        for shared in sent.chain(waiting) {
            match shared {
                Some(delivery) => {
                    self.books.withdraw();
                    handed_on.push(delivery);
                }
                None => self.books.end(Outcome::Dropped(DropReason::SessionEnded)),
            }
        }
        self.replays = Replays::default();
        self.received = Received::default();
        (self.will.session_ended(), handed_on)
    }

    /// The next deadline: the end of the Will Delay, the end of the Session, or the expiry of a waiting message.
    pub(crate) fn next_deadline(&self) -> Timestamp {
        let ends = if self.is_attached() || self.ended { Timestamp::NEVER } else { self.ends_at };
        ends.min(self.will.due()).min(self.queue.next_expiry())
    }

    /// Removes expired messages from the queue (MQTT-3.3.2-5).
    pub(crate) fn expire_messages(&mut self, now: Timestamp) {
        let expired = self.queue.expire(now);
        self.books.end_many(Outcome::Expired, expired);
    }

    /// The Will whose delay is over.
    pub(crate) fn take_due_will(&mut self, now: Timestamp) -> Option<Message> {
        self.will.take_due(now)
    }

    /// Settles the Will before another Network Connection gets the Session. Returns it if it is to be published; a
    /// Will with a delay is discarded (MQTT-3.1.3-9).
    pub(crate) fn take_will_for_resumption(&mut self) -> Option<Message> {
        self.will.resumed()
    }

    /// Takes the Will to publish it, because the broker stops and its Sessions end.
    pub(crate) fn take_will(&mut self) -> Option<Message> {
        self.will.session_ended()
    }

    /// Whether the Session Expiry Interval has passed (MQTT-4.1.0-2).
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        !self.ended && self.attached.is_none() && self.ends_at <= now
    }

    // ---- Messages come in ------------------------------------------------------------------------

    /// Offers a message, which is queued and never written here. Expired messages make room for it.
    pub(crate) fn offer(&mut self, delivery: Delivery, now: Timestamp) -> Offered {
        if self.ended {
            return Offered::Gone;
        }
        if self.attached.is_none() && delivery.qos == QoS::AtMostOnce {
            return Offered::Ended(self.drop_because(DropReason::Away));
        }
        let unsent = self.unsent();
        let mut pushed = self.queue.push(delivery, unsent);
        if pushed.is_err() && self.queue.next_expiry() <= now {
            self.expire_messages(now);
            pushed = pushed.or_else(|refused| self.queue.push(refused.delivery, unsent));
        }
        if pushed.is_err() && self.only_waits_for_quota() {
            pushed = pushed.or_else(|refused| self.queue.push_passing(refused));
        }
        match pushed {
            Ok(()) => {
                self.books.offer();
                Offered::Waiting { pressed: self.is_half_full(unsent) }
            }
            // Not in the books yet: the Session may end before the caller offers it again.
            Err(refused) => Offered::Full(refused),
        }
    }

    /// Whether a message of QoS 0 could be written at once, because the queue is full only of messages of QoS 1 and 2
    /// that wait for the send quota: one message at a time passes a full queue.
    fn only_waits_for_quota(&self) -> bool {
        let Some(attached) = &self.attached else { return false };
        let written = attached.tail.is_none() && attached.writing.unwrap_or_default() == 0;
        written && !attached.blocked && !self.inflight.has_quota(attached.terms.quota)
    }

    /// Offers a message again that found the queue full.
    pub(crate) fn offer_again(&mut self, refused: Refused, now: Timestamp) -> Offered {
        self.offer(refused.delivery, now)
    }

    /// Throws the message away that found the queue full: exactly the newest one.
    pub(crate) fn give_up(&mut self, refused: Refused) -> Outcome {
        let Refused { delivery: _thrown_away, reason } = refused;
        self.drop_because(reason)
    }

    /// Counts a message that never gets into the queue.
    fn drop_because(&mut self, reason: DropReason) -> Outcome {
        let outcome = Outcome::Dropped(reason);
        self.books.offer();
        self.books.end(outcome);
        outcome
    }

    /// Whether this member of a shared subscription can take the message at once: it is connected, has room, and the
    /// message is not too large for its Client (MQTT-3.1.2-24).
    pub(crate) fn takes_now(&self, delivery: &Delivery, now: Timestamp) -> bool {
        let Some(attached) = &self.attached else { return false };
        let Some(head) = attached.head(delivery, now, None, false) else { return false };
        let passes = self.queue.lets_pass(delivery.qos) && self.only_waits_for_quota();
        let has_room = self.queue.has_room(self.unsent()) || passes;
        !self.ended && has_room && fits(&attached.terms, &head)
    }

    // ---- Messages go out -------------------------------------------------------------------------

    /// Begins a batch for the Network Connection: first the bytes that the transport did not take before, then
    /// `protocol` packets, then messages as the send quota and the batch allow. `None` while another task writes or no
    /// Network Connection is attached; then `protocol` waits for the next batch.
    ///
    /// The caller writes the batch with no lock held, and then calls [`Session::end_batch`].
    pub(crate) fn begin_batch(
        &mut self,
        now: Timestamp,
        out: &mut Outgoing,
        protocol: &mut Vec<u8>,
        context: &mut impl SendContext,
    ) -> Option<u64> {
        let attached = self.attached.as_mut()?;
        if attached.writing.is_some() {
            self.append_protocol(self.epoch, protocol);
            return None;
        }
        out.clear();
        if let Some(mut tail) = attached.tail.take() {
            out.append(&mut tail);
        }
        out.append_packets(protocol);
        self.fill(now, out, context);
        if let Some(attached) = &mut self.attached {
            attached.writing = Some(out.plain());
        }
        Some(self.epoch)
    }

    /// Ends a batch of which the transport took `written` bytes. The rest is kept, ahead of everything else.
    /// Returns whether there is more to write; a batch of an earlier epoch has no effect.
    pub(crate) fn end_batch(&mut self, epoch: u64, out: &mut Outgoing, written: usize) -> bool {
        if epoch != self.epoch {
            return false;
        }
        let Some(attached) = &mut self.attached else { return false };
        let taken = out.advance(written);
        attached.writing = None;
        self.books.end_many(Outcome::Delivered, taken.plain as u64);
        self.inflight.taken(taken);
        if !out.is_empty() {
            if let Some(mut later) = attached.tail.take() {
                out.append(&mut later);
            }
            attached.tail = Some(Box::new(std::mem::take(out)));
        }
        self.has_more()
    }

    /// Appends packets that are not messages to the next batch. They are never dropped.
    pub(crate) fn append_protocol(&mut self, epoch: u64, protocol: &mut Vec<u8>) {
        let Some(attached) = self.attached.as_mut().filter(|_| epoch == self.epoch) else { return };
        if !protocol.is_empty() {
            attached.tail.get_or_insert_default().append_packets(protocol);
        }
    }

    /// Appends the rest of a packet that was counted before.
    pub(crate) fn append_rest(&mut self, epoch: u64, rest: &mut Vec<u8>) {
        let Some(attached) = self.attached.as_mut().filter(|_| epoch == self.epoch) else { return };
        if !rest.is_empty() {
            attached.tail.get_or_insert_default().buffer().append(rest);
        }
    }

    /// Whether there is anything that could be written now.
    pub(crate) fn has_more(&self) -> bool {
        let Some(attached) = &self.attached else { return false };
        let quota_left = self.inflight.has_quota(attached.terms.quota);
        attached.tail.is_some()
            || (quota_left && self.inflight.needs_resend())
            || (self.queue.is_ready(quota_left && !self.inflight.needs_resend()))
            || (self.queue.is_empty() && quota_left && !self.replays.is_empty())
    }

    fn fill(&mut self, now: Timestamp, out: &mut Outgoing, context: &mut impl SendContext) {
        let Some(mut attached) = self.attached.take() else { return };
        self.fill_resends(now, out, &mut attached, context);
        while has_room(out) {
            let quota_left = self.quota_left(&attached);
            let Some(delivery) = self.queue.pop(quota_left) else { break };
            match outcome_before_sending(&delivery, now, Some(&attached), context) {
                Some(outcome) => {
                    self.books.end(outcome);
                    if context.is_over() {
                        break;
                    }
                }
                None => self.send(delivery, now, out, &mut attached),
            }
        }
        // What is encoded waits as well: never more than the depth, whatever is retained.
        while has_room(out)
            && self.queue.is_empty()
            && self.queue.has_room(out.plain() + self.inflight.waiting_len())
            && self.quota_left(&attached)
        {
            let Some(delivery) = self.replays.next(now, context) else { break };
            self.books.offer();
            match outcome_before_sending(&delivery, now, Some(&attached), context) {
                Some(outcome) => self.books.end(outcome),
                None => self.send(delivery, now, out, &mut attached),
            }
        }
        self.attached = Some(attached);
    }

    /// New messages wait until all of an earlier Network Connection was sent again.
    fn quota_left(&self, attached: &Attached) -> bool {
        self.inflight.has_quota(attached.terms.quota) && !self.inflight.needs_resend()
    }

    fn fill_resends(
        &mut self,
        now: Timestamp,
        out: &mut Outgoing,
        attached: &mut Attached,
        context: &mut impl SendContext,
    ) {
        // Messages that cannot be sent again, each with its outcome; and those that the Client may hold as of QoS 2.
        let (mut given_up, mut released) = (Vec::new(), Vec::new());
        while has_room(out) && (given_up.is_empty() || !context.is_over()) {
            match self.inflight.next_resend(attached.terms.quota) {
                None => break,
                Some(Resend::PubRel(id)) => {
                    let version = attached.terms.version;
                    resend_pubrel(out, version, id);
                }
                Some(Resend::Publish { id, dup, waiting, delivery }) => {
                    let topic = delivery.message.topic_bytes();
                    let reason = if context.may_receive(topic) {
                        FilterReason::Unmounted
                    } else {
                        FilterReason::NotAuthorized
                    };
                    let head = attached.head(delivery, now, Some(id), dup);
                    let head = head.filter(|_| reason != FilterReason::NotAuthorized);
                    let Some(head) = head else {
                        if delivery.qos == QoS::ExactlyOnce && waiting.is_none() {
                            resend_pubrel(out, attached.terms.version, id);
                            released.push(id);
                        } else {
                            given_up.push((id, Outcome::Filtered(reason)));
                        }
                        continue;
                    };
                    if fits(&attached.terms, &head) {
                        let start = out.len();
                        encode::publish_head(out.buffer(), &head);
                        append_payload(out, &delivery.message);
                        match waiting {
                            Some(_) => out.mark(start, waiting, head.payload_len),
                            None => out.note(PUBLISH, head.payload_len),
                        }
                    } else {
                        // The new Network Connection takes smaller packets than the old one
                        // (MQTT-3.1.2-25).
                        given_up.push((id, Outcome::Dropped(DropReason::TooLarge)));
                    }
                }
            }
        }
        released.into_iter().for_each(|id| self.inflight.release(id));
        for (id, outcome) in given_up {
            if self.inflight.abandon(id) {
                self.books.end(outcome);
            }
        }
    }

    /// Encodes a message that is sent for the first time, or drops it because it is too large for the
    /// Client, which counts as completed (MQTT-3.1.2-25).
    fn send(
        &mut self,
        delivery: Delivery,
        now: Timestamp,
        out: &mut Outgoing,
        attached: &mut Attached,
    ) {
        let Some(topic) = attached.name_for_client(delivery.message.topic_bytes()) else {
            return self.books.end(Outcome::Filtered(FilterReason::Unmounted));
        };
        // Made in place: a head in an `Option` would be moved once more for each message.
        let mut head = publish_head(&attached.terms, &delivery, topic, now, None, false);
        if !attached.make_fit(&mut head) {
            return self.books.end(Outcome::Dropped(DropReason::TooLarge));
        }
        head.packet_id = (delivery.qos != QoS::AtMostOnce).then(|| self.inflight.next_id());
        let (start, payload) = (out.len(), head.payload_len);
        encode::publish_head(out.buffer(), &head);
        append_payload(out, &delivery.message);
        let serial = head.packet_id.map(|id| self.inflight.begin(id, delivery));
        out.mark(start, serial, payload);
    }

    /// The next message for an in-process client, which counts as delivered when it is taken.
    pub(crate) fn take_message(
        &mut self,
        now: Timestamp,
        context: &mut impl SendContext,
    ) -> Option<Message> {
        loop {
            let delivery = match self.queue.pop(true) {
                Some(delivery) => delivery,
                None => {
                    let delivery = self.replays.next(now, context)?;
                    self.books.offer();
                    delivery
                }
            };
            if let Some(outcome) = outcome_before_sending(&delivery, now, None, context) {
                self.books.end(outcome);
                if context.is_over() {
                    return None;
                }
                continue;
            }
            self.books.end(Outcome::Delivered);
            let Delivery { message, qos, retain, ids, .. } = delivery;
            return Some(message.as_delivered(qos, retain, ids, now));
        }
    }

    // ---- Acknowledgements ------------------------------------------------------------------------

    /// PUBACK from the Client.
    pub(crate) fn puback(&mut self, id: PacketId, reason: ReasonCode) -> Acknowledged {
        let done = self.inflight.puback(id, reason);
        self.count_acknowledged(done)
    }

    /// PUBREC from the Client.
    pub(crate) fn pubrec(&mut self, id: PacketId, reason: ReasonCode) -> Acknowledged {
        let done = self.inflight.pubrec(id, reason);
        self.count_acknowledged(done)
    }

    /// PUBCOMP from the Client.
    pub(crate) fn pubcomp(&mut self, id: PacketId) -> Acknowledged {
        let done = self.inflight.pubcomp(id);
        self.count_acknowledged(done)
    }

    fn count_acknowledged(&mut self, done: Acknowledged) -> Acknowledged {
        match done {
            Acknowledged::Completed { refused: true } => {
                self.books.end(Outcome::Dropped(DropReason::RefusedByClient));
            }
            Acknowledged::Completed { refused: false } => self.books.end(Outcome::Delivered),
            _ => {}
        }
        done
    }

    /// The QoS 2 messages that the Client has begun to send.
    pub(crate) fn received(&mut self) -> &mut Received {
        &mut self.received
    }

    // ---- Subscriptions ---------------------------------------------------------------------------

    /// Whether one more Topic Filter is within the bounds; an existing one is replaced (MQTT-3.8.4-3).
    pub(crate) fn admits_subscription(&self, filter: &TopicFilter, limits: &Limits) -> bool {
        let bytes = self.subscription_bytes + filter.as_str().len();
        let one_more = self.subscriptions.len() < limits.session_subscriptions_max
            && bytes <= limits.session_subscription_bytes_max;
        one_more || self.subscriptions.contains_key(filter)
    }

    /// Records a subscription. Returns whether it is new.
    pub(crate) fn subscribe(&mut self, filter: TopicFilter, subscription: Subscription) -> bool {
        let bytes = filter.as_str().len();
        let new = self.subscriptions.insert(filter, subscription).is_none();
        self.subscription_bytes += if new { bytes } else { 0 };
        new
    }

    /// Removes a subscription and its replay of retained messages.
    pub(crate) fn unsubscribe(&mut self, filter: &TopicFilter) -> bool {
        self.replays.cancel(filter);
        let removed = self.subscriptions.remove(filter).is_some();
        self.subscription_bytes -= if removed { filter.as_str().len() } else { 0 };
        removed
    }

    /// Begins a replay: matching retained messages are sent when there is room (MQTT-3.3.1-9).
    pub(crate) fn replay(&mut self, replay: Replay) {
        // It may have been unsubscribed in between.
        if self.subscriptions.contains_key(replay.filter()) {
            self.replays.add(replay, self.subscriptions.hasher());
        }
    }

    /// Takes all subscriptions out when the Session ends.
    pub(crate) fn take_subscriptions(&mut self) -> Subscriptions {
        let empty = HashMap::with_hasher(self.subscriptions.hasher().clone());
        std::mem::replace(&mut self.subscriptions, empty)
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// Bytes of the Topic Filters.
    pub(crate) fn subscription_bytes(&self) -> usize {
        self.subscription_bytes
    }

    // ---- Questions -------------------------------------------------------------------------------

    pub(crate) fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    /// The version of the present Network Connection.
    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.attached.as_ref().map(|attached| attached.terms.version)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn expiry_secs(&self) -> u32 {
        self.expiry_secs
    }

    /// Whether a task is writing a batch now.
    pub(crate) fn is_being_written(&self) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.writing.is_some())
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.blocked)
    }

    /// Notes that the transport takes no bytes now, or that it is to be tried again.
    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        if let Some(attached) = &mut self.attached {
            attached.blocked = blocked;
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.broken)
    }

    /// The stream of the present Network Connection cannot be written any more.
    pub(crate) fn set_broken(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.broken = true;
        }
    }

    /// Bytes that the transport did not take yet.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.tail().map_or(0, Outgoing::len)
    }

    /// The part of [`Session::tail_bytes`] that belongs to answers to the Client.
    pub(crate) fn tail_answer_bytes(&self) -> usize {
        self.tail().map_or(0, Outgoing::answer_bytes)
    }

    fn tail(&self) -> Option<&Outgoing> {
        self.attached.as_ref().and_then(|attached| attached.tail.as_deref())
    }

    /// Whether a publisher should yield once for this Session: half of the depth waits, although its Client is not
    /// slow.
    pub(crate) fn is_pressed(&self) -> bool {
        self.is_half_full(self.unsent()) && self.has_more()
    }

    /// Whether half of the depth waits, although a Client is attached and is not slow.
    fn is_half_full(&self, unsent: usize) -> bool {
        let takes = self.attached.as_ref().is_some_and(|attached| !attached.blocked);
        takes && self.queue.is_half_full(unsent)
    }

    /// Of QoS 0, what is encoded and not accepted by the transport.
    fn unsent_plain(&self) -> usize {
        let Some(attached) = &self.attached else { return 0 };
        let tail = attached.tail.as_ref().map_or(0, |tail| tail.plain());
        tail + attached.writing.unwrap_or_default()
    }

    /// Messages that are encoded and not accepted by a transport: they still wait.
    fn unsent(&self) -> usize {
        self.unsent_plain() + self.inflight.waiting_len()
    }

    /// QoS 1 and 2 messages accepted by a transport and not completely acknowledged.
    pub(crate) fn inflight_len(&self) -> usize {
        self.inflight.len() - self.inflight.waiting_len()
    }

    /// Messages offered and not accepted by a transport.
    pub(crate) fn waiting_len(&self) -> usize {
        self.queue.len() + self.unsent()
    }

    /// QoS 2 messages of the Client that are not released yet.
    pub(crate) fn received_len(&self) -> usize {
        self.received.len()
    }

    /// The books without the numbers of messages that wait or are in flight now.
    pub(crate) fn books(&self) -> &Ledger {
        &self.books
    }

    /// The books, with the numbers of messages that wait or are in flight now.
    pub(crate) fn ledger(&self) -> Ledger {
        let mut ledger = self.books;
        ledger.waiting = self.waiting_len() as u64;
        ledger.inflight = self.inflight_len() as u64;
        ledger
    }
}

/// The first byte of PUBLISH, its flags apart.
const PUBLISH: u8 = (PacketType::Publish as u8) << 4;

fn resend_pubrel(out: &mut Outgoing, version: ProtocolVersion, id: PacketId) {
    encode::ack(out.buffer(), version, AckKind::PubRel, id, ReasonCode::SUCCESS);
    out.note((PacketType::PubRel as u8) << 4, 0);
}

/// The outcome of a message that must not be sent, found when it would leave the Session; `None` if it is to be sent.
fn outcome_before_sending(
    delivery: &Delivery,
    now: Timestamp,
    attached: Option<&Attached>,
    context: &mut impl SendContext,
) -> Option<Outcome> {
    if delivery.message.is_expired(now) {
        return Some(Outcome::Expired); // MQTT-3.3.2-5
    }
    let topic = delivery.message.topic_bytes();
    if attached.is_some_and(|attached| attached.name_for_client(topic).is_none()) {
        return Some(Outcome::Filtered(FilterReason::Unmounted));
    }
    let denied = !context.may_receive(topic);
    denied.then_some(Outcome::Filtered(FilterReason::NotAuthorized))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
