//! Retained messages on their way to new subscriptions: a cursor, not a copy.
//!
//! What matches is read when there is room for it, under the lock of the Session, so that a replay neither
//! fills the queue nor brings an older value after a newer one.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::queue::Delivery;
use crate::message::Message;
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

/// Retained messages looked at for one batch at the most.
const STEPS_PER_BATCH: usize = 4_096;

/// What a look at the retained messages found.
#[derive(Debug)]
pub(crate) enum Found {
    Message(Message),
    /// The steps were used up; to be gone on with after this Topic Name.
    Paused(Box<str>),
    End,
}

/// Where retained messages are looked up.
pub(crate) trait RetainedSource {
    /// The first that matches `filter` and comes after the Topic Name `after`. `steps` is how many may be
    /// looked at, and is counted down.
    fn next_match(
        &mut self,
        filter: &str,
        after: Option<&str>,
        now: Timestamp,
        steps: &mut usize,
    ) -> Found;
}

/// One subscription that is to be sent what is retained.
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

    pub(crate) fn filter(&self) -> &TopicFilter {
        &self.filter
    }
}

/// Replays that are not finished, oldest first. At most one for each subscription. Most Sessions have none
/// most of the time, and then no room for them either.
#[derive(Debug, Default)]
pub(crate) struct Replays(Option<Box<Open>>);

#[derive(Debug, Default)]
struct Open {
    replays: BTreeMap<u64, Replay>,
    /// The number of each in `replays`: there may be as many as subscriptions.
    numbers: BTreeMap<TopicFilter, u64>,
    begun: u64,
}

impl Replays {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Begins a replay, anew if one for this Topic Filter is under way.
    pub(crate) fn add(&mut self, replay: Replay) {
        let open = self.0.get_or_insert_default();
        open.remove(&replay.filter);
        open.numbers.insert(replay.filter.clone(), open.begun);
        open.replays.insert(open.begun, replay);
        open.begun += 1;
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

    /// The next retained message, as the subscription is to get it: RETAIN is set (MQTT-3.3.1-8 in
    /// 3.1.1), the QoS is the smaller of both.
    pub(crate) fn next(
        &mut self,
        now: Timestamp,
        retained: &mut impl RetainedSource,
    ) -> Option<Delivery> {
        let mut steps = STEPS_PER_BATCH;
        loop {
            let open = self.0.as_mut()?;
            let mut first = open.replays.first_entry()?;
            let replay = first.get_mut();
            let filter = replay.filter.as_str();
            match retained.next_match(filter, replay.after.as_deref(), now, &mut steps) {
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
                    steps = steps.saturating_sub(1);
                    if steps == 0 {
                        return None;
                    }
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
