//! The replay of retained messages to new subscriptions: a cursor, not a copy.
//!
//! A matching message is read when there is room for it, under the lock of the Session, so that a replay neither
//! fills the queue nor delivers an older value after a newer one.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;

use super::queue::Delivery;
use crate::message::Message;
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

/// The result of a search in the retained messages.
#[derive(Debug)]
pub(crate) enum Found {
    Message(Message),
    /// The turn is over; the search continues after this Topic Name (empty: from the beginning).
    Paused(Box<str>),
    End,
}

/// The broker's answers to a Session that sends: retained messages, and whether its Client may receive a message now.
pub(crate) trait SendContext {
    /// The first retained message that matches `filter` and comes after the Topic Name `after`, or
    /// [`Found::Paused`] when the turn of the caller is over.
    fn next_retained(&mut self, filter: &str, after: Option<&str>, now: Timestamp) -> Found;

    /// Whether the Client may receive a message with this Topic Name. Asked for each message that leaves the
    /// Session: live, queued, retained or sent again.
    fn may_receive(&mut self, topic: &[u8]) -> bool;

    /// Whether the turn of the caller is over: then no further message is thrown away in it. The default is no.
    fn is_over(&self) -> bool {
        false
    }
}

/// The replay to one subscription.
#[derive(Debug)]
pub(crate) struct Replay {
    filter: TopicFilter,
    subscription: Subscription,
    after: Option<Box<str>>,
}

impl Replay {
    pub(crate) fn new(filter: TopicFilter, subscription: Subscription) -> Replay {
        Replay { filter, subscription, after: None }
    }

    /// The same, from a place in the middle on.
    pub(crate) fn after(mut self, topic: Option<Box<str>>) -> Replay {
        self.after = topic;
        self
    }

    pub(crate) fn filter(&self) -> &TopicFilter {
        &self.filter
    }
}

/// Unfinished replays, oldest first, at most one for each subscription. Most Sessions have none most of the time, so
/// they are in a box.
#[derive(Debug, Default)]
pub(crate) struct Replays(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    replays: BTreeMap<u64, Replay>,
    /// The number of each in `replays`: there may be as many as subscriptions, and long filters that differ
    /// in their last byte.
    numbers: HashMap<TopicFilter, u64, RandomState>,
    begun: u64,
}

impl Replays {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Begins a replay, anew if one for this Topic Filter is under way. `hasher` is the Session's.
    pub(crate) fn add(&mut self, replay: Replay, hasher: &RandomState) {
        let open = self.0.get_or_insert_with(|| {
            let numbers = HashMap::with_hasher(hasher.clone());
            Box::new(Open { replays: BTreeMap::new(), numbers, begun: 0 })
        });
        open.remove(&replay.filter);
        open.numbers.insert(replay.filter.clone(), open.begun);
        open.replays.insert(open.begun, replay);
        open.begun += 1;
    }

    /// The filters and the places where they go on, oldest first.
    pub(crate) fn export(&self) -> Vec<(TopicFilter, Option<Box<str>>)> {
        let open = self.0.iter().flat_map(|open| open.replays.values());
        open.map(|replay| (replay.filter.clone(), replay.after.clone())).collect()
    }

    /// The subscription is gone.
    pub(crate) fn cancel(&mut self, filter: &TopicFilter) {
        if let Some(open) = &mut self.0 {
            open.remove(filter);
            self.release_memory();
        }
    }

    fn release_memory(&mut self) {
        self.0.take_if(|open| open.replays.is_empty());
    }

    /// The next retained message, in the form in which the subscription gets it: with RETAIN (MQTT-3.3.1-8 in
    /// 3.1.1), at the lower QoS of message and subscription.
    pub(crate) fn next(
        &mut self,
        now: Timestamp,
        context: &mut impl SendContext,
    ) -> Option<Delivery> {
        loop {
            let open = self.0.as_mut()?;
            let mut first = open.replays.first_entry()?;
            let replay = first.get_mut();
            let filter = replay.filter.as_str();
            match context.next_retained(filter, replay.after.as_deref(), now) {
                Found::Message(message) => {
                    replay.after = Some(message.topic().into());
                    return Some(replay.subscription.replayed(message));
                }
                Found::Paused(after) => {
                    replay.after = Some(after);
                    return None;
                }
                Found::End => {
                    open.numbers.remove(&first.remove().filter);
                    self.release_memory();
                }
            }
        }
    }
}

impl Open {
    fn remove(&mut self, filter: &TopicFilter) {
        if let Some(number) = self.numbers.remove(filter) {
            self.replays.remove(&number);
        }
    }
}

impl Subscription {
    fn replayed(&self, message: Message) -> Delivery {
        Delivery {
            qos: self.options.qos.min(message.qos()),
            message,
            retain: true,
            ids: self.id.map(|id: NonZeroU32| Arc::from([id.get()])),
            shared: None,
        }
    }
}
