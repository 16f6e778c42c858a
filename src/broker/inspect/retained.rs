//! Retained messages: searching and removing them.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::pages::{Page, PageRequest, Turns};
use crate::broker::Broker;
use crate::engine::inspect::RetainedWalk;
use crate::engine::send_context::Kept;
use crate::message::Message;
use crate::topic::TopicFilter;

/// Which retained messages [`Broker::find_retained`] returns.
///
/// ```
/// use hrotti::{RetainedQuery, TopicFilter};
///
/// let query = RetainedQuery::new(TopicFilter::new("hall/#")?);
/// assert_eq!(query.page.limit(), 50);
/// # Ok::<(), hrotti::TopicError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetainedQuery {
    /// Those whose Topic Names it matches. `#` and `+` at its beginning match none that begins with `$` (MQTT-4.7.2-1).
    /// `$share/NAME/` has no meaning here.
    pub filter: TopicFilter,
    /// Only those with a Topic Name after this one, in the order of their bytes: the first page after the last Topic Name
    /// of the page before misses none that was there all the time, and has none twice.
    pub after: Option<String>,
    /// The page.
    pub page: PageRequest,
}

impl RetainedQuery {
    /// All that this filter matches, on the first page.
    #[must_use]
    pub fn new(filter: TopicFilter) -> RetainedQuery {
        RetainedQuery { filter, after: None, page: PageRequest::default() }
    }
}

/// A retained message. `Display` writes one line, with the Topic Name escaped and without the payload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RetainedInfo {
    /// The message as it was published; it shares its payload with the broker.
    pub message: Message,
    /// When it was published, by the clock on the wall at this moment.
    pub published_at: SystemTime,
    /// What is left of its Message Expiry Interval in seconds, rounded up; `None` if it never expires.
    pub expires_in_secs: Option<u32>,
}

impl fmt::Display for RetainedInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, bytes) = (self.message.topic(), self.message.payload().len());
        write!(f, "{topic:?}: {bytes} bytes at QoS {}", self.message.qos() as u8)
    }
}

impl Broker {
    /// Searches the retained messages, in the order of the bytes of their Topic Names. The time is in proportion to those
    /// that match and the places where the search looks for them; they are locked for a fraction of a millisecond at a time,
    /// and the call yields after each millisecond of work.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, Message, RetainedQuery, TopicFilter};
    ///
    /// # block_on(async {
    /// let broker = Broker::new(100);
    /// for topic in ["hall/lamp", "hall/door", "$internal/state"] {
    ///     broker.publish(Message::new(topic, "on")?.with_retain(true)).await?;
    /// }
    /// let page = broker.find_retained(&RetainedQuery::new(TopicFilter::new("#")?)).await;
    /// assert_eq!((page.count, page.items[0].message.topic()), (2, "hall/door"));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    /// The call changes nothing; its future may be dropped.
    pub async fn find_retained(&self, query: &RetainedQuery) -> Page<RetainedInfo> {
        let (engine, mut turns) = (self.engine(), Turns::begin());
        let (now, wall) = (engine.now(), engine.host.wall());
        let page = query.page;
        let (skipped, end) = (page.skipped(), page.end());
        let mut walk =
            RetainedWalk::new(query.filter.clone(), query.after.as_deref().map(Box::from));
        let (mut found, mut count) = (Vec::new(), 0_usize);
        let mut visit = |Kept { message, since }: &Kept| {
            if (skipped..end).contains(&count) {
                found.push((message.clone(), *since));
            }
            count += 1;
        };
        while !walk.advance(engine, now, &mut turns.budget, &mut visit) {
            turns.pause().await;
        }
        let items = found.into_iter().map(|(message, since)| {
            let age = Duration::from_millis(now.millis_since(since));
            RetainedInfo {
                expires_in_secs: message.expiry_left_secs(now),
                published_at: wall.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH),
                message,
            }
        });
        page.of(items.collect(), count)
    }

    /// Removes the retained messages that a Topic Filter matches, and returns how many. `#` and `+` at its beginning match
    /// no Topic Name that begins with `$`: those are removed by a filter that begins with `$`. Nothing is published; a
    /// message that is retained while the call runs may stay. They are locked for a fraction of a millisecond at a time,
    /// and the call yields after each millisecond of work.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, Message, TopicFilter};
    ///
    /// # block_on(async {
    /// let broker = Broker::new(100);
    /// for topic in ["hall/lamp", "hall/door", "garden/door"] {
    ///     broker.publish(Message::new(topic, "on")?.with_retain(true)).await?;
    /// }
    /// assert_eq!(broker.clear_retained(&TopicFilter::new("hall/#")?).await, 2);
    /// assert_eq!(broker.counters().retained_messages, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// A broker that [hands its state over](crate::HandOver) removes no more.
    ///
    /// # Cancel safety
    /// Dropping the future keeps the messages that were not removed yet.
    pub async fn clear_retained(&self, filter: &TopicFilter) -> usize {
        let (engine, mut turns) = (self.engine(), Turns::begin());
        let mut walk = RetainedWalk::new(filter.clone(), None);
        let mut cleared = 0;
        loop {
            let at_work = engine.standstill.begin_work();
            if engine.standstill.is_still() {
                return cleared;
            }
            let (removed, done) = walk.remove_some(engine, engine.now(), &mut turns.budget);
            cleared += removed;
            if done {
                return cleared;
            }
            drop(at_work);
            turns.pause().await;
        }
    }
}
