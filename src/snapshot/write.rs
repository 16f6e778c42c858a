//! Writes the records of a state into a buffer, which the caller empties between two of them.

use std::num::NonZeroU32;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;

use super::{Clocks, HeldByUser, MAGIC, SessionRecord, StateSummary, Tag, VERSION};
use crate::message::Message;
use crate::session::handed::Backlog;
use crate::session::queue::Delivery;
use crate::subscription::{ShareGroup, Subscription};
use crate::topic::TopicFilter;

/// The records of one state. Messages that were passed in must live until the end, because they are known by their
/// memory.
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    clocks: Clocks,
    messages: HashMap<usize, u32, RandomState>,
    shares: HashMap<usize, u32, RandomState>,
    summary: StateSummary,
}

impl Encoder {
    pub(crate) fn new(clocks: Clocks, hasher: &RandomState) -> Encoder {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        Encoder {
            bytes,
            clocks,
            messages: HashMap::with_hasher(hasher.clone()),
            shares: HashMap::with_hasher(hasher.clone()),
            summary: StateSummary::default(),
        }
    }

    /// What was written since [`Encoder::clear`].
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the bytes, which the caller has written, and keeps their memory within reason.
    pub(crate) fn clear(&mut self) {
        const KEPT: usize = 1024 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }

    pub(crate) fn retained(&mut self, message: &Message) {
        let number = self.number(message);
        self.record(Tag::Retained, |out| put_u32(out, number));
        self.summary.retained += 1;
    }

    /// A Session without subscriptions and replays, which follow.
    pub(crate) fn session(&mut self, record: &SessionRecord) {
        let will = record.head.will.as_ref();
        let will = will.map(|(message, due)| (self.number(message), self.clocks.wall_of(*due)));
        let ends_at = self.clocks.wall_of(record.head.ends_at);
        self.record(Tag::Session, |out| {
            put_text(out, &record.head.client_id);
            match &record.held_by.user {
                HeldByUser::Unchecked => out.push(0),
                HeldByUser::Anonymous => out.push(1),
                HeldByUser::Named(name) => {
                    out.push(2);
                    put_text(out, name);
                }
            }
            put_option(out, record.held_by.mount.as_deref(), put_text);
            put_u32(out, record.head.expiry_secs);
            put_u64(out, ends_at);
            put_option(out, will, |out, (number, due)| {
                put_u32(out, number);
                put_u64(out, due);
            });
            for id in &record.head.received {
                out.extend_from_slice(&id.to_be_bytes());
            }
        });
        self.summary.sessions += 1;
    }

    pub(crate) fn subscription(&mut self, filter: &TopicFilter, subscription: &Subscription) {
        self.record(Tag::Subscription, |out| {
            put_text(out, filter.as_str());
            let options = subscription.options;
            out.push(
                options.qos as u8
                    | u8::from(options.no_local) << 2
                    | u8::from(options.retain_as_published) << 3
                    | (options.retain_handling as u8) << 4,
            );
            put_u32(out, subscription.id.map_or(0, NonZeroU32::get));
        });
    }

    pub(crate) fn replay(&mut self, filter: &TopicFilter, after: Option<&str>) {
        self.record(Tag::Replay, |out| {
            put_text(out, filter.as_str());
            put_option(out, after, put_text);
        });
    }

    /// A shared subscription, before the first message that refers to it.
    pub(crate) fn shared(&mut self, filter: &TopicFilter, identity: &Arc<ShareGroup>) {
        let address = Arc::as_ptr(identity).addr();
        let number = u32::try_from(self.shares.len() + 1).unwrap_or(u32::MAX);
        if self.shares.contains_key(&address) {
            return;
        }
        self.shares.insert(address, number);
        self.record(Tag::Shared, |out| put_text(out, filter.as_str()));
    }

    /// The numbers of a Session's messages in flight; the messages follow.
    pub(crate) fn backlog(&mut self, session: u32, backlog: &Backlog) {
        let state = &backlog.inflight;
        self.record(Tag::Backlog, |out| {
            put_u32(out, session);
            put_u64(out, state.issued);
            put_u64(out, state.begun);
            put_u64(out, state.accepted);
        });
    }

    pub(crate) fn inflight(&mut self, serial: u64, delivery: Option<&Delivery>) {
        let number = delivery.map(|delivery| (self.number(&delivery.message), delivery));
        self.delivery(Tag::Inflight, Some(serial), number);
    }

    pub(crate) fn queued(&mut self, delivery: &Delivery) {
        let number = self.number(&delivery.message);
        self.delivery(Tag::Queued, None, Some((number, delivery)));
    }

    /// The last record. Returns what was written.
    pub(crate) fn end(&mut self) -> StateSummary {
        let summary = StateSummary { messages: self.messages.len() as u64, ..self.summary };
        self.record(Tag::End, |out| {
            put_u64(out, summary.sessions);
            put_u64(out, summary.messages);
            put_u64(out, summary.retained);
        });
        summary
    }

    fn delivery(&mut self, tag: Tag, serial: Option<u64>, delivery: Option<(u32, &Delivery)>) {
        let shared = delivery.and_then(|(_, delivery)| delivery.shared.as_ref());
        let shared = shared.and_then(|group| self.shares.get(&Arc::as_ptr(group).addr()));
        let shared = shared.copied().unwrap_or_default();
        self.record(tag, |out| {
            if let Some(serial) = serial {
                put_u64(out, serial);
            }
            let Some((number, delivery)) = delivery else { return };
            put_u32(out, number);
            out.push(delivery.qos as u8 | u8::from(delivery.retain) << 2);
            put_u32(out, shared);
            for id in delivery.ids.as_deref().unwrap_or_default() {
                put_u32(out, *id);
            }
        });
    }

    /// The number of a message, which is written before if it has none yet.
    fn number(&mut self, message: &Message) -> u32 {
        let next = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let number = *self.messages.entry(message.identity()).or_insert(next);
        if number == next {
            self.message(message);
        }
        number
    }

    fn message(&mut self, message: &Message) {
        let expiry = message.expiry_secs().map(|secs| (secs, message.expires_at()));
        let expiry = expiry.map(|(secs, at)| (secs, self.clocks.wall_of(at)));
        self.record(Tag::Message, |out| {
            out.push(message.qos() as u8 | u8::from(message.retain()) << 2);
            put_option(out, expiry, |out, (secs, at)| {
                put_u32(out, secs);
                put_u64(out, at);
            });
            put_text(out, message.topic());
            put_bytes(out, message.property_bytes());
            out.extend_from_slice(message.payload());
        });
    }

    fn record(&mut self, tag: Tag, body: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.push(tag as u8);
        let length = self.bytes.len();
        put_u64(&mut self.bytes, 0);
        let start = self.bytes.len();
        body(&mut self.bytes);
        let len = (self.bytes.len() - start) as u64;
        if let Some(place) = self.bytes.get_mut(length..start) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Texts and properties are parts of a packet, whose length 32 bits hold.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}
