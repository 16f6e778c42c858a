//! Session State as a value, which another broker takes over.
//!
//! A Session is exported while no Network Connection is attached: what a Network Connection left unsent is in the
//! messages in flight by then, and messages of QoS 0 have had their outcome.

use std::sync::Arc;

use super::inflight::InflightState;
use super::queue::Delivery;
use super::replay::Replay;
use super::will::WillState;
use super::{Replays, Session};
use crate::ledger::Outcome;
use crate::message::Message;
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

/// A Session without its messages.
#[derive(Debug, Clone)]
pub(crate) struct SessionHead {
    pub(crate) client_id: Arc<str>,
    pub(crate) expiry_secs: u32,
    pub(crate) ends_at: Timestamp,
    /// A Will whose delay runs, and its end.
    pub(crate) will: Option<(Message, Timestamp)>,
    /// The Packet Identifiers of QoS 2 messages from the Client that are not released, in ascending order.
    pub(crate) received: Vec<u16>,
    /// Ordered by the texts of the Topic Filters.
    pub(crate) subscriptions: Vec<(TopicFilter, Subscription)>,
    /// Unfinished replays of retained messages, oldest first, each with the Topic Name after which it goes on.
    pub(crate) replays: Vec<(TopicFilter, Option<Box<str>>)>,
}

/// The messages of a Session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog {
    pub(crate) inflight: InflightState,
    /// Waiting messages, oldest first.
    pub(crate) queue: Vec<Delivery>,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.inflight.is_unused()
    }
}

impl Session {
    pub(crate) fn export_head(&self) -> SessionHead {
        let mut subscriptions: Vec<_> = self
            .subscriptions
            .iter()
            .map(|(filter, subscription)| (filter.clone(), *subscription))
            .collect();
        subscriptions.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let will = match &self.will {
            WillState::Delayed { message, due } => Some((message.clone(), *due)),
            WillState::None | WillState::Armed(_) => None,
        };
        SessionHead {
            client_id: self.client_id.clone(),
            expiry_secs: self.expiry_secs,
            ends_at: self.ends_at,
            will,
            received: self.received.export(),
            subscriptions,
            replays: self.replays.export(),
        }
    }

    pub(crate) fn export_backlog(&self) -> Backlog {
        let queue = self.queue.list(0).cloned().collect();
        Backlog { inflight: self.inflight.export(), queue }
    }

    /// Gives a new Session the state of an exported one with the same Client Identifier. The bounds on subscriptions are
    /// not asked: the Server granted them before.
    pub(crate) fn import_head(&mut self, head: SessionHead) {
        self.expiry_secs = head.expiry_secs;
        self.ends_at = head.ends_at;
        if let Some((message, due)) = head.will {
            self.will = WillState::Delayed { message, due };
        }
        self.received.import(&head.received);
        for (filter, subscription) in head.subscriptions {
            self.subscribe(filter, subscription);
        }
        for (filter, after) in head.replays {
            if let Some(subscription) = self.subscriptions.get(&filter) {
                let replay = Replay::new(filter, *subscription).after(after);
                self.replay(replay);
            }
        }
    }

    /// Gives the Session the messages of an exported one, as offered now. The bounds of the queue are not asked: a
    /// lowered bound refuses new messages until there is room again.
    pub(crate) fn import_backlog(&mut self, backlog: Backlog) {
        let messages = backlog.queue.len() + backlog.inflight.sent.len();
        (0..messages).for_each(|_| self.books.offer());
        self.inflight.import(backlog.inflight);
        self.queue.import(backlog.queue);
    }

    /// Takes the Will of a Network Connection that the Server is about to close, if it is to be published then. A Will
    /// with a delay waits: the Client may be back before it is due.
    pub(crate) fn take_will_before_close(&mut self, now: Timestamp) -> Option<Message> {
        self.will.connection_lost(now, self.expiry_secs == 0)
    }

    /// Ends the Session here, because another broker has its state: its messages count as handed over.
    pub(crate) fn hand_over(&mut self) {
        let messages = self.inflight.drain().count() + self.queue.drain().count();
        self.books.end_many(Outcome::HandedOver, messages as u64);
        self.replays = Replays::default();
        self.received = super::Received::default();
        self.will = WillState::None;
        self.ended = true;
    }
}
