//! SUBSCRIBE and UNSUBSCRIBE, in as many turns as their Topic Filters take: first every filter is checked, then
//! each is carried out, as a sequence of packets with one filter each (MQTT-3.8.4-5).

use std::num::NonZeroU32;
use std::sync::Arc;

use super::access::TakenOver;
use super::session_cell::SessionCell;
use super::share::Member;
use super::state::Engine;
use crate::access::{Action, Preparing};
use crate::budget::Budget;
use crate::counters::count_one;
use crate::error::Fault;
use crate::listener_rules::{ListenerRules, MountPoint};
use crate::packet::decode::{SubscribeEntries, UnsubscribeEntries};
use crate::packet::{
    PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionOptions,
    Unsubscribe,
};
use crate::session::replay::Replay;
use crate::subscription::{Subscription, Wanted};
use crate::topic::{TopicError, TopicFilter, check_filter};

/// The steps that one Topic Filter costs beside its bytes.
const FILTER_STEPS: usize = 12;

/// The cost of a byte of a Topic Filter, which is hashed level by level, as a multiple of a byte that is copied.
const BYTES_WEIGHT: usize = 8;

/// A SUBSCRIBE that is being carried out. It holds positions in the packet; the caller has the packet.
pub(crate) struct Subscribing {
    pub(crate) packet_id: PacketId,
    id: Option<NonZeroU32>,
    version: ProtocolVersion,
    /// The Client is a bridge: its subscriptions get No Local and Retain As Published.
    bridge: bool,
    /// The highest QoS of the listener, and the prefix that it puts before each Topic Filter.
    qos_max: QoS,
    mount: Option<MountPoint>,
    progress: Progress,
    /// Answers that the access policy fetches for the filters.
    waits: Vec<Preparing>,
    pub(crate) reasons: Vec<ReasonCode>,
    /// The replays that begin after SUBACK, in reverse order once SUBACK is queued.
    replays: Vec<Replay>,
    /// SUBACK is queued.
    pub(crate) acknowledged: bool,
}

/// Why a packet is not carried out any further.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Halt {
    Fault(Fault),
    TakenOver,
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Halt {
        Halt::Fault(fault)
    }
}

impl From<TakenOver> for Halt {
    fn from(_: TakenOver) -> Halt {
        Halt::TakenOver
    }
}

/// An UNSUBSCRIBE that is being carried out.
#[derive(Debug)]
pub(crate) struct Unsubscribing {
    pub(crate) packet_id: PacketId,
    mount: Option<MountPoint>,
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
        if self.filters > engine.limits().packet_filters_max {
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
            qos_max: QoS::ExactlyOnce,
            mount: None,
            progress: Progress::new(subscribe.filters.bytes_left()),
            waits: Vec::new(),
            reasons: Vec::new(),
            replays: Vec::new(),
            acknowledged: false,
        }
    }

    /// Applies the rules of the listener.
    pub(crate) fn under(mut self, rules: Option<&ListenerRules>) -> Subscribing {
        if let Some(rules) = rules {
            self.qos_max = rules.qos_max;
            self.mount.clone_from(&rules.mount_point);
        }
        self
    }

    /// Continues the packet with this body. Returns whether it is carried out.
    ///
    /// # Errors
    /// A text that is no Topic Filter, No Local on a shared subscription, or too many filters: the connection has to
    /// be closed, and no filter of the packet was carried out. Another Network Connection has the Session.
    pub(crate) fn advance(
        &mut self,
        engine: &Engine,
        cell: &Arc<SessionCell>,
        epoch: u64,
        body: &[u8],
        budget: &mut Budget,
    ) -> Result<bool, Halt> {
        if self.progress.unchecked > 0 && !self.check(engine, (cell, epoch), body, budget)? {
            return Ok(false);
        }
        if !self.waits.is_empty() {
            return Ok(false); // until the caller has taken them and waited
        }
        let mut entries = SubscribeEntries::in_last(self.progress.undone, body, self.version);
        while let Some(entry) = entries.next() {
            if budget.is_spent() {
                return Ok(false);
            }
            let (text, options) = entry?;
            self.progress.carry_out(entries.bytes_left(), budget);
            let Ok(filter) = mounted(text, self.mount.as_ref(), budget) else {
                self.reasons.push(ReasonCode::TOPIC_FILTER_INVALID);
                continue;
            };
            let options = if self.bridge { options.of_bridge(filter.is_shared()) } else { options };
            let options = SubscriptionOptions { qos: options.qos.min(self.qos_max), ..options };
            let subscription = Subscription { options, id: self.id };
            let (reason, replay) = engine.subscribe(cell, epoch, filter, subscription)?;
            self.reasons.push(reason);
            self.replays.extend(replay);
        }
        Ok(true)
    }

    /// What the packet has to wait for now that all its filters are checked: answers that the access policy fetches.
    pub(crate) fn take_waits(&mut self) -> Vec<Preparing> {
        match self.progress.unchecked {
            0 => std::mem::take(&mut self.waits),
            _ => Vec::new(),
        }
    }

    /// Notes that SUBACK is queued: the replays may begin, in the order of their filters.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledged = true;
        self.replays.reverse();
    }

    /// Begins the replays of retained messages. Returns whether all have begun.
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

    fn check(
        &mut self,
        engine: &Engine,
        (cell, epoch): (&SessionCell, u64),
        body: &[u8],
        budget: &mut Budget,
    ) -> Result<bool, Fault> {
        let mut entries = SubscribeEntries::in_last(self.progress.unchecked, body, self.version);
        while let Some(entry) = entries.next() {
            let (text, options) = entry?;
            match check_filter(text) {
                Ok(()) if options.no_local && text.starts_with("$share/") => {
                    return Err(Fault::Protocol("MQTT-3.8.3-4: No Local on a Shared Subscription"));
                }
                Ok(()) if engine.access.is_in_force() => {
                    let filter = mounted(text, self.mount.as_ref(), budget).ok();
                    self.waits.extend(filter.and_then(|filter| {
                        let filter = filter.filter_str();
                        cell.prepare(&engine.access, epoch, Action::Subscribe, filter)
                    }));
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
            mount: None,
            progress: Progress::new(unsubscribe.filters.bytes_left()),
            reasons: Vec::new(),
        }
    }

    /// Applies the rules of the listener.
    pub(crate) fn under(mut self, rules: Option<&ListenerRules>) -> Unsubscribing {
        self.mount = rules.and_then(|rules| rules.mount_point.clone());
        self
    }

    /// Continues the packet with this body (MQTT-3.10.4-1). Returns whether it is carried out.
    ///
    /// # Errors
    /// A text that is no Topic Filter, or too many filters: the connection has to be closed, and no filter of the
    /// packet was carried out. Another Network Connection has the Session.
    pub(crate) fn advance(
        &mut self,
        engine: &Engine,
        cell: &Arc<SessionCell>,
        epoch: u64,
        body: &[u8],
        budget: &mut Budget,
    ) -> Result<bool, Halt> {
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
            let filter = mounted(text?, self.mount.as_ref(), budget);
            self.reasons.push(match filter {
                Ok(filter) => engine.unsubscribe(cell, epoch, &filter)?,
                Err(_) => ReasonCode::NO_SUBSCRIPTION_EXISTED,
            });
        }
        Ok(true)
    }
}

/// The whole Topic Filter of a text.
fn mounted(
    text: &str,
    mount: Option<&MountPoint>,
    budget: &mut Budget,
) -> Result<TopicFilter, TopicError> {
    let filter = TopicFilter::new(text)?;
    let Some(mount) = mount else { return Ok(filter) };
    budget.spend_bytes(mount.as_str().len() * BYTES_WEIGHT);
    mount.filter(&filter)
}

impl Engine {
    /// Adds or replaces one subscription: the tree first, so that no message is missed between it and the
    /// retained ones. Returns the Reason Code, and the replay of retained messages that is to be begun.
    ///
    /// # Errors
    /// The access rules would have to be asked, and the Session no longer belongs to this Network Connection.
    pub(crate) fn subscribe(
        &self,
        cell: &Arc<SessionCell>,
        epoch: u64,
        filter: TopicFilter,
        subscription: Subscription,
    ) -> Result<(ReasonCode, Option<Replay>), TakenOver> {
        let limits = self.limits();
        if !self.topic_is_within_limits(filter.filter_str(), &limits) {
            return Ok((ReasonCode::TOPIC_FILTER_INVALID, None));
        }
        if !cell.may(&self.access, epoch, Action::Subscribe, filter.filter_str())? {
            return Ok((ReasonCode::NOT_AUTHORIZED, None));
        }
        let _one_at_a_time = cell.subscribing();
        let admitted = cell.lock().session.admits_subscription(&filter, &limits);
        let added = if admitted { self.add_to_tree(cell, &filter, subscription) } else { None };
        let Some(group) = added else {
            count_one(&self.counts.subscriptions_refused);
            return Ok((ReasonCode::QUOTA_EXCEEDED, None));
        };
        let mut state = cell.lock();
        if state.session.has_ended() {
            drop(state);
            self.remove_from_tree(cell.key, &filter);
            return Ok((ReasonCode::UNSPECIFIED_ERROR, None));
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
        // A message that is retained from now on finds the subscription in the tree.
        let replayed =
            replays_retained(&filter, subscription.options, new) && !self.nothing_is_retained();
        let replay = replayed.then(|| Replay::new(filter, subscription));
        Ok((ReasonCode(subscription.options.qos as u8), replay))
    }

    /// Removes one subscription, if the client may. Returns the Reason Code.
    ///
    /// # Errors
    /// As [`Engine::subscribe`].
    pub(crate) fn unsubscribe(
        &self,
        cell: &Arc<SessionCell>,
        epoch: u64,
        filter: &TopicFilter,
    ) -> Result<ReasonCode, TakenOver> {
        if !cell.may(&self.access, epoch, Action::Unsubscribe, filter.filter_str())? {
            return Ok(ReasonCode::NOT_AUTHORIZED);
        }
        let _one_at_a_time = cell.subscribing();
        let group = self.remove_from_tree(cell.key, filter);
        let mut state = cell.lock();
        if let Some(group) = group {
            group.remove(cell.key);
            state.leave(&group);
        }
        Ok(match state.session.unsubscribe(filter) {
            true => ReasonCode::SUCCESS,
            false => ReasonCode::NO_SUBSCRIPTION_EXISTED,
        })
    }
}

/// Whether a SUBSCRIBE begins a replay of retained messages (MQTT-3.3.1-9 to -11). That of a shared subscription never
/// does (section 4.8.2).
fn replays_retained(filter: &TopicFilter, options: SubscriptionOptions, new: bool) -> bool {
    !filter.is_shared()
        && match options.retain_handling {
            RetainHandling::SendAlways => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::DoNotSend => false,
        }
}

/// The one table of the effects of a text that is no Topic Filter.
///
/// | text | 3.1 | 3.1.1 | 5.0 |
/// |---|---|---|---|
/// | misplaced wildcard, empty (MQTT-4.7.1-1, -2, 4.7.3-1) | close | close | close, 0x81 |
/// | `$share` without a name or a filter (MQTT-4.8.2-1, -2) | close | 0x80 in SUBACK | close, 0x81 |
///
/// 3.1.1 has no shared subscriptions: there such a text is a filter that this server does not grant. SUBACK of 3.1
/// cannot report that, and [`Connection::subscribed`](crate::connection::Connection::subscribed) closes.
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
