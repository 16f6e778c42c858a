//! SUBSCRIBE and UNSUBSCRIBE, in as many turns as their Topic Filters take: first every filter is checked, then
//! each is carried out, as a sequence of packets with one filter each (MQTT-3.8.4-5).

use std::num::NonZeroU32;
use std::sync::Arc;

use super::session_cell::SessionCell;
use super::share::Member;
use super::state::Engine;
use crate::budget::Budget;
use crate::counters::count_one;
use crate::error::Fault;
use crate::packet::decode::{SubscribeEntries, UnsubscribeEntries};
use crate::packet::{
    PacketId, ProtocolVersion, ReasonCode, RetainHandling, Subscribe, SubscriptionOptions,
    Unsubscribe,
};
use crate::session::replay::Replay;
use crate::subscription::{Subscription, Wanted};
use crate::topic::{TopicError, TopicFilter, check_filter};

/// The steps that one Topic Filter costs beside its bytes.
const FILTER_STEPS: usize = 12;

/// How much dearer a byte of a Topic Filter is than one that is merely copied: it is hashed level by level.
const BYTES_WEIGHT: usize = 8;

/// A SUBSCRIBE on its way. It holds places in the packet and not the packet, which the caller has.
#[derive(Debug)]
pub(crate) struct Subscribing {
    pub(crate) packet_id: PacketId,
    id: Option<NonZeroU32>,
    version: ProtocolVersion,
    /// A bridge gets no message back that it published, and RETAIN as it was published.
    bridge: bool,
    progress: Progress,
    pub(crate) reasons: Vec<ReasonCode>,
    /// What is to be replayed after SUBACK, the last filter first once that is sent.
    replays: Vec<Replay>,
    /// SUBACK is on its way.
    pub(crate) acknowledged: bool,
}

/// An UNSUBSCRIBE on its way.
#[derive(Debug)]
pub(crate) struct Unsubscribing {
    pub(crate) packet_id: PacketId,
    progress: Progress,
    pub(crate) reasons: Vec<ReasonCode>,
}

/// How far the Topic Filters of a packet are checked and carried out.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// Bytes that are not checked yet.
    unchecked: usize,
    filters: usize,
    /// Bytes that are not carried out yet.
    undone: usize,
}

impl Progress {
    fn new(bytes: usize) -> Progress {
        Progress { unchecked: bytes, filters: 0, undone: bytes }
    }

    /// Counts a filter that is checked.
    fn check(&mut self, engine: &Engine, left: usize, budget: &mut Budget) -> Result<(), Fault> {
        budget.spend(1);
        budget.spend_bytes(self.unchecked - left);
        self.unchecked = left;
        self.filters += 1;
        if self.filters > engine.limits.packet_filters_max {
            count_one(&engine.counts.packet_filters_refused);
            let detail = "packet_filters_max: too many Topic Filters in one packet";
            return Err(Fault::Refused(ReasonCode::QUOTA_EXCEEDED, detail));
        }
        Ok(())
    }

    /// Counts a filter that is carried out.
    fn carry_out(&mut self, left: usize, budget: &mut Budget) {
        budget.spend(FILTER_STEPS);
        budget.spend_bytes((self.undone - left) * BYTES_WEIGHT);
        self.undone = left;
    }
}

impl Subscribing {
    pub(crate) fn new(subscribe: &Subscribe<'_>, version: ProtocolVersion, bridge: bool) -> Self {
        Subscribing {
            packet_id: subscribe.packet_id,
            id: subscribe.subscription_id,
            version,
            bridge,
            progress: Progress::new(subscribe.filters.bytes_left()),
            reasons: Vec::new(),
            replays: Vec::new(),
            acknowledged: false,
        }
    }

    /// Goes on with the packet whose body is `body`. Whether it is carried out.
    ///
    /// # Errors
    /// A filter that is no Topic Filter, No Local on a shared subscription, or too many filters: the
    /// connection is to be closed, and nothing of the packet was carried out.
    pub(crate) fn advance(
        &mut self,
        engine: &Engine,
        cell: &Arc<SessionCell>,
        body: &[u8],
        budget: &mut Budget,
    ) -> Result<bool, Fault> {
        if self.progress.unchecked > 0 && !self.check(engine, body, budget)? {
            return Ok(false);
        }
        let mut entries = SubscribeEntries::in_last(self.progress.undone, body, self.version);
        while let Some(entry) = entries.next() {
            if budget.is_spent() {
                return Ok(false);
            }
            let (text, options) = entry?;
            self.progress.carry_out(entries.bytes_left(), budget);
            let Ok(filter) = TopicFilter::new(text) else {
                self.reasons.push(ReasonCode::TOPIC_FILTER_INVALID);
                continue;
            };
            let options = if self.bridge { options.of_bridge(filter.is_shared()) } else { options };
            let subscription = Subscription { options, id: self.id };
            let (reason, replay) = engine.subscribe(cell, filter, subscription);
            self.reasons.push(reason);
            self.replays.extend(replay);
        }
        Ok(true)
    }

    /// SUBACK is on its way: the replays may begin, in the order of their filters.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledged = true;
        self.replays.reverse();
    }

    /// Begins the replays of retained messages. Whether all have begun.
    pub(crate) fn begin_replays(&mut self, cell: &SessionCell, budget: &mut Budget) -> bool {
        while let Some(replay) = self.replays.pop() {
            budget.spend(FILTER_STEPS);
            budget.spend_bytes(replay.filter().as_str().len() * BYTES_WEIGHT);
            cell.lock().session.replay(replay);
            if budget.is_spent() {
                return self.replays.is_empty();
            }
        }
        true
    }

    fn check(&mut self, engine: &Engine, body: &[u8], budget: &mut Budget) -> Result<bool, Fault> {
        let mut entries = SubscribeEntries::in_last(self.progress.unchecked, body, self.version);
        while let Some(entry) = entries.next() {
            let (text, options) = entry?;
            match check_filter(text) {
                Ok(()) if options.no_local && text.starts_with("$share/") => {
                    return Err(Fault::Protocol("MQTT-3.8.3-4: No Local on a Shared Subscription"));
                }
                Ok(()) => {}
                Err(error) => refuse_filter(&error, self.version)?,
            }
            self.progress.check(engine, entries.bytes_left(), budget)?;
            if budget.is_spent() {
                return Ok(self.progress.unchecked == 0);
            }
        }
        Ok(true)
    }
}

impl Unsubscribing {
    pub(crate) fn new(unsubscribe: &Unsubscribe<'_>) -> Unsubscribing {
        Unsubscribing {
            packet_id: unsubscribe.packet_id,
            progress: Progress::new(unsubscribe.filters.bytes_left()),
            reasons: Vec::new(),
        }
    }

    /// Goes on with the packet whose body is `body` (MQTT-3.10.4-1). Whether it is carried out.
    ///
    /// # Errors
    /// A filter that is no Topic Filter, or too many filters: the connection is to be closed, and nothing of
    /// the packet was carried out.
    pub(crate) fn advance(
        &mut self,
        engine: &Engine,
        cell: &Arc<SessionCell>,
        body: &[u8],
        budget: &mut Budget,
    ) -> Result<bool, Fault> {
        let mut entries = UnsubscribeEntries::in_last(self.progress.unchecked, body);
        while let Some(text) = entries.next() {
            check_filter(text?).map_err(|_| {
                Fault::Malformed(
                    "MQTT-4.7.1-1, -2, 4.8.2-1, -2: UNSUBSCRIBE with a text that is no Topic Filter",
                )
            })?;
            self.progress.check(engine, entries.bytes_left(), budget)?;
            if budget.is_spent() && self.progress.unchecked > 0 {
                return Ok(false);
            }
        }
        let mut entries = UnsubscribeEntries::in_last(self.progress.undone, body);
        while let Some(text) = entries.next() {
            if budget.is_spent() {
                return Ok(false);
            }
            self.progress.carry_out(entries.bytes_left(), budget);
            let found =
                TopicFilter::new(text?).is_ok_and(|filter| engine.unsubscribe(cell, &filter));
            self.reasons.push(match found {
                true => ReasonCode::SUCCESS,
                false => ReasonCode::NO_SUBSCRIPTION_EXISTED,
            });
        }
        Ok(true)
    }
}

impl Engine {
    /// Adds or replaces one subscription: the tree first, so that no message is missed between it and the
    /// retained ones. Returns the Reason Code, and the replay of retained messages that is to be begun.
    pub(crate) fn subscribe(
        &self,
        cell: &Arc<SessionCell>,
        filter: TopicFilter,
        subscription: Subscription,
    ) -> (ReasonCode, Option<Replay>) {
        if !self.topic_is_within_limits(filter.filter_str()) {
            return (ReasonCode::TOPIC_FILTER_INVALID, None);
        }
        if !self.access.may_subscribe(&cell.client_id, filter.as_str()) {
            count_one(&self.counts.accesses_denied);
            return (ReasonCode::NOT_AUTHORIZED, None);
        }
        let _one_at_a_time = cell.subscribing();
        let admitted = cell.lock().session.admits_subscription(&filter, &self.limits);
        let added = if admitted { self.add_to_tree(cell, &filter, subscription) } else { None };
        let Some(group) = added else {
            count_one(&self.counts.subscriptions_refused);
            return (ReasonCode::QUOTA_EXCEEDED, None);
        };
        let mut state = cell.lock();
        if state.session.has_ended() {
            drop(state);
            self.remove_from_tree(cell.key, &filter);
            return (ReasonCode::UNSPECIFIED_ERROR, None);
        }
        if let Some(group) = group {
            let wanted = Wanted::merge(&[subscription]);
            let member = wanted.map(|wanted| Member { cell: cell.clone(), wanted });
            member.into_iter().for_each(|member| {
                group.add(cell.key, member, state.session.is_attached());
            });
            state.join(group);
        }
        let new = state.session.subscribe(filter.clone(), subscription);
        // What is retained from now on finds the subscription in the tree.
        let replayed =
            replays_retained(&filter, subscription.options, new) && !self.nothing_is_retained();
        let replay = replayed.then(|| Replay::new(filter, subscription));
        (ReasonCode(subscription.options.qos as u8), replay)
    }

    /// Removes one subscription. Whether there was one.
    pub(crate) fn unsubscribe(&self, cell: &Arc<SessionCell>, filter: &TopicFilter) -> bool {
        let _one_at_a_time = cell.subscribing();
        let group = self.remove_from_tree(cell.key, filter);
        let mut state = cell.lock();
        if let Some(group) = group {
            group.remove(cell.key);
            state.leave(&group);
        }
        state.session.unsubscribe(filter)
    }
}

/// Whether a SUBSCRIBE has retained messages sent (MQTT-3.3.1-9 to -11). Shared subscriptions never have
/// (section 4.8.2).
fn replays_retained(filter: &TopicFilter, options: SubscriptionOptions, new: bool) -> bool {
    !filter.is_shared()
        && match options.retain_handling {
            RetainHandling::SendAlways => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::DoNotSend => false,
        }
}

/// The one table of what happens to a text that is no Topic Filter.
///
/// | text | 3.1 | 3.1.1 | 5.0 |
/// |---|---|---|---|
/// | misplaced wildcard, empty (MQTT-4.7.1-1, -2, 4.7.3-1) | close | close | close, 0x81 |
/// | `$share` without a name or a filter (MQTT-4.8.2-1, -2) | close | 0x80 in SUBACK | close, 0x81 |
///
/// 3.1.1 knows no shared subscriptions: there such a text is a filter that this server does not grant. 3.1
/// cannot say so in SUBACK, and [`Connection::subscribed`](crate::connection::Connection::subscribed) closes.
fn refuse_filter(error: &TopicError, version: ProtocolVersion) -> Result<(), Fault> {
    if error.is_share_error() && !version.is_v5() {
        return Ok(());
    }
    Err(Fault::Malformed(error.statement()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_topic_filter_is_refused_by_statement_and_version_pitfall_7() {
        use ProtocolVersion::{V3_1, V3_1_1, V5};
        for version in [V3_1, V3_1_1, V5] {
            for text in ["", "a#", "a/#/b", "+a", "$share/g/a#"] {
                let error = TopicFilter::new(text).unwrap_err();
                let refused = refuse_filter(&error, version);
                assert!(matches!(refused, Err(Fault::Malformed(_))), "{version} {text:?}");
            }
            for text in ["$share/g", "$share//a", "$share/+/a", "$share/a#/b"] {
                let error = TopicFilter::new(text).unwrap_err();
                let refused = refuse_filter(&error, version);
                assert_eq!(refused.is_ok(), version != V5, "{version} {text:?}");
            }
        }
    }

    #[test]
    fn retained_messages_follow_retain_handling_mqtt_3_3_1_9_to_11() {
        let options =
            |retain_handling| SubscriptionOptions { retain_handling, ..Default::default() };
        let plain = TopicFilter::new("a/+").unwrap();
        for (handling, new, replayed) in [
            (RetainHandling::SendAlways, true, true),
            (RetainHandling::SendAlways, false, true),
            (RetainHandling::SendIfNew, true, true),
            (RetainHandling::SendIfNew, false, false),
            (RetainHandling::DoNotSend, true, false),
            (RetainHandling::DoNotSend, false, false),
        ] {
            assert_eq!(replays_retained(&plain, options(handling), new), replayed);
        }
        let shared = TopicFilter::new("$share/g/a/+").unwrap();
        assert!(!replays_retained(&shared, options(RetainHandling::SendAlways), true));
    }
}
