//! Subscriptions of all Sessions.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::pages::{Page, PageRequest, Sorted, Turns};
use super::ranked::Ranked;
use crate::broker::Broker;
use crate::engine::inspect::{Cells, Matching};
use crate::engine::session_cell::SessionCell;
use crate::packet::SubscriptionOptions;
use crate::subscription::Subscription;
use crate::topic::{TopicFilter, TopicName, name_matches};

/// The steps that a look at a Session costs beside its subscriptions.
const LOOK_STEPS: usize = 6;

/// Which subscriptions [`Broker::find_subscriptions`] returns: those to which everything applies that is set. The default
/// is all, on the first page.
///
/// ```
/// use hrotti::{SubscriptionQuery, TopicName};
///
/// let mut query = SubscriptionQuery::default();
/// query.topic = Some(TopicName::new("hall/lamp")?);
/// # Ok::<(), hrotti::TopicError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionQuery {
    /// Those of this Client Identifier.
    pub client_id: Option<String>,
    /// Those with this Topic Filter. One without `$share/NAME/` stands for shared subscriptions to it, too.
    pub filter: Option<String>,
    /// Those whose Topic Filters begin with these levels: `hall` stands for `hall`, `hall/lamp` and `hall/#`, but not
    /// for `hallway`. The levels are compared as text; `$share/NAME/` may be part of them or left out.
    pub below: Option<String>,
    /// Those that match this Topic Name.
    pub topic: Option<TopicName>,
    /// Only those after this one, in their order: by Client Identifier, and for one Client by Topic Filter. See
    /// [`SessionQuery::after`](crate::SessionQuery::after).
    pub after: Option<(String, String)>,
    /// The page.
    pub page: PageRequest,
}

/// A subscription of a Session. The Client Identifier and the Topic Filter are as the Client sent them; `Display` writes
/// one line and escapes them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionInfo {
    /// The Client Identifier.
    pub client_id: String,
    /// The whole Topic Filter; [`TopicFilter::share_name`] is the name of a shared subscription.
    pub filter: TopicFilter,
    /// The options; the QoS is the one that was granted.
    pub options: SubscriptionOptions,
    /// The Subscription Identifier, if the Client has given one.
    pub subscription_id: Option<u32>,
}

impl SubscriptionInfo {
    pub(super) fn of(
        cell: &SessionCell,
        (filter, subscription): (TopicFilter, Subscription),
    ) -> SubscriptionInfo {
        SubscriptionInfo {
            client_id: cell.client_id.to_string(),
            filter,
            options: subscription.options,
            subscription_id: subscription.id.map(NonZeroU32::get),
        }
    }
}

impl fmt::Display for SubscriptionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (filter, qos) = (self.filter.as_str(), self.options.qos as u8);
        write!(f, "{:?}: {filter:?} at QoS {qos}", self.client_id)
    }
}

impl SubscriptionQuery {
    /// Whether a Topic Filter is one of those that are asked for.
    fn is_about(&self, filter: &TopicFilter) -> bool {
        let (whole, matched) = (filter.as_str(), filter.filter_str());
        let is = |wanted: &str| whole == wanted || matched == wanted;
        let begins = |wanted: &str| begins_with(whole, wanted) || begins_with(matched, wanted);
        let matches = |topic: &TopicName| name_matches(matched, topic.as_str());
        self.filter.as_deref().is_none_or(is)
            && self.below.as_deref().is_none_or(begins)
            && self.topic.as_ref().is_none_or(matches)
    }

    /// The subscriptions of a Session that are asked for, in order, under the Session's lock as long as it takes to look
    /// at each once; and the number of those that were looked at.
    fn of_session(&self, cell: &SessionCell) -> (Vec<(TopicFilter, Subscription)>, usize) {
        let after = match &self.after {
            Some((client_id, filter)) if *client_id == *cell.client_id => Some(filter.as_str()),
            _ => None,
        };
        let wanted = |filter: &TopicFilter| {
            after.is_none_or(|after| filter.as_str() > after) && self.is_about(filter)
        };
        let state = cell.lock();
        if state.session.has_ended() {
            return (Vec::new(), 0);
        }
        let all = state.session.subscriptions().filter(|(filter, _)| wanted(filter));
        let mut found: Vec<_> = all.map(|(filter, one)| (filter.clone(), *one)).collect();
        let looked_at = state.session.subscription_count();
        drop(state);
        found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        (found, looked_at)
    }

    fn admits(&self, cell: &SessionCell) -> bool {
        let after = self.after.as_ref().is_none_or(|(client_id, _)| *cell.client_id >= **client_id);
        after && self.client_id.as_deref().is_none_or(|wanted| *cell.client_id == *wanted)
    }
}

/// Whether the first levels of a text are these.
fn begins_with(text: &str, levels: &str) -> bool {
    text.strip_prefix(levels).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Broker {
    /// Searches the subscriptions of all Sessions, in the order of Client Identifiers and, for each Client, of Topic
    /// Filters. With a Topic Name the subscription tree leads to the Sessions; otherwise all Sessions are looked at, one
    /// after the other. Neither the tree nor a Session is locked for long, and the call yields after each millisecond of
    /// work. A subscription that is there all the time is counted and listed once.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, SubscriptionOptions, SubscriptionQuery, TopicFilter, TopicName};
    ///
    /// # block_on(async {
    /// let broker = Broker::new(100);
    /// let client = broker.client("panel")?;
    /// for filter in ["hall/+", "hall/lamp", "garden/#"] {
    ///     client.subscribe(&TopicFilter::new(filter)?, SubscriptionOptions::default()).await?;
    /// }
    /// let mut query = SubscriptionQuery::default();
    /// query.topic = Some(TopicName::new("hall/lamp")?);
    /// assert_eq!(broker.find_subscriptions(&query).await.count, 2);
    ///
    /// let mut query = SubscriptionQuery::default();
    /// query.below = Some("garden".to_owned());
    /// let page = broker.find_subscriptions(&query).await;
    /// assert_eq!(page.items[0].to_string(), r#""panel": "garden/#" at QoS 0"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    /// The call changes nothing; its future may be dropped.
    pub async fn find_subscriptions(&self, query: &SubscriptionQuery) -> Page<SubscriptionInfo> {
        let mut turns = Turns::begin();
        let mut sorted = self.sessions_with(query, &mut turns).await;
        let (skipped, end) = (query.page.skipped(), query.page.end());
        let (mut items, mut count) = (Vec::new(), 0_usize);
        while let Some(Ranked { cell, .. }) = sorted.take_next() {
            let (found, looked_at) = query.of_session(&cell);
            for one in found {
                if (skipped..end).contains(&count) {
                    items.push(SubscriptionInfo::of(&cell, one));
                }
                count += 1;
            }
            turns.spend(LOOK_STEPS + looked_at).await;
        }
        query.page.of(items, count)
    }

    /// The Sessions that may have such subscriptions, by Client Identifier.
    async fn sessions_with(&self, query: &SubscriptionQuery, turns: &mut Turns) -> Sorted<Ranked> {
        let engine = self.engine();
        let mut sorted = Sorted::new();
        if let Some(client_id) = &query.client_id {
            let cell = engine.registry.find(client_id).filter(|cell| query.admits(cell));
            cell.into_iter().for_each(|cell| sorted.add(Ranked::by_client_id(cell)));
            return sorted;
        }
        let mut add = |cells: Vec<Arc<SessionCell>>| {
            let wanted = cells.into_iter().filter(|cell| query.admits(cell));
            wanted.for_each(|cell| sorted.add(Ranked::by_client_id(cell)));
        };
        if let Some(topic) = &query.topic {
            let mut matching = Matching::default();
            while !matching.advance(engine, topic.as_str(), &mut turns.budget) {
                turns.pause().await;
            }
            add(matching.finish());
        } else {
            let mut cells = Cells::default();
            while let Some(shard) = cells.next(engine, &mut turns.budget) {
                turns.spend(shard.len() * 4).await;
                add(shard);
            }
        }
        sorted
    }
}
