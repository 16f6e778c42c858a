//! How Sessions begin, change hands and end, and what they subscribe to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::authorize::{Access, Decision, authorize};
use super::mailbox::Order;
use super::registry::Claim;
use super::shared::{Shared, count_one};
use super::slot::{Link, Slot};
use crate::connection::{Accepted, Connection};
use crate::error::Fault;
use crate::message::Message;
use crate::packet::{
    Connect, ConnectWill, ProtocolVersion, ReasonCode, RetainHandling, Subscribe,
    SubscriptionOptions, Unsubscribe,
};
use crate::session::replay::Replay;
use crate::session::will::Will;
use crate::session::{Departure, Session};
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::topic::{self, TopicError, TopicFilter};

/// A Session that a CONNECT got.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) slot: Arc<Slot>,
    pub(crate) epoch: u64,
    pub(crate) session_present: bool,
}

/// A Session that a CONNECT asked for, and whether it was there before.
struct Claimed {
    slot: Arc<Slot>,
    present: bool,
}

impl Shared {
    /// Decides a CONNECT: the Session is claimed, whoever had it is told to go, the old Will is settled
    /// (MQTT-3.1.4-2, -3), and `connack` is the first packet for the new Network Connection, whoever
    /// writes to it (MQTT-3.2.0-1).
    pub(crate) fn open(
        &self,
        connect: &Connect<'_>,
        link: &Link,
        now: Timestamp,
        mut connack: impl FnMut(&Accepted<'_>, &mut Vec<u8>),
    ) -> Result<Opened, Fault> {
        if authorize(Access::Connect, false) != Decision::Allow {
            return Err(Fault::Refused(ReasonCode::NOT_AUTHORIZED, "MQTT-3.1.4-2: not authorized"));
        }
        let will = connect.will.as_ref().map(|will| self.take_will(will)).transpose()?;
        let expiry_secs = connect.session_expiry_secs.min(self.limits.session_expiry_secs_max);
        let terms = Connection::terms(connect, &self.limits);
        loop {
            let assigned_id = connect.client_id.is_empty().then(|| self.assign_client_id());
            let client_id = assigned_id.as_deref().unwrap_or(connect.client_id);
            let fresh = connect.clean_start && assigned_id.is_none();
            let Claimed { slot, present } = self.claim(client_id, fresh, now)?;
            if present && assigned_id.is_some() {
                continue; // in use (MQTT-3.2.2-16)
            }
            // What somebody else has settled after that is not what is taken over: claim again.
            let settled = if present { self.settle_before(&slot, now) } else { Some(0) };
            let mut state = slot.lock_between_writes();
            let unchanged = settled == Some(state.session.epoch());
            let over = present && state.session.expiry_secs() == 0;
            if state.session.has_ended() || !unchanged || over {
                continue;
            }
            let torn = state.is_amid_packet();
            let (epoch, _unsent) = state.session.attach(terms, expiry_secs, will.clone());
            let mut first = Vec::new();
            let accepted = Accepted {
                session_present: present,
                assigned_client_id: assigned_id.as_deref(),
                session_expiry_secs: (expiry_secs != connect.session_expiry_secs)
                    .then_some(expiry_secs),
            };
            connack(&accepted, &mut first);
            state.session.append_protocol(epoch, &mut first);
            let before = state.link.replace(link.clone());
            slot.set_connected(true);
            drop(state);
            if let Some(before) = before {
                before.mailbox.order(taken_over(torn));
            }
            return Ok(Opened { slot, epoch, session_present: present });
        }
    }

    /// Settles what a Session that is there owes before a new Network Connection gets it: the old Will
    /// is published or silenced. Returns the epoch for which that was done; `None` if the Session ends,
    /// because it was to last no longer than the Network Connection that is replaced (MQTT-3.1.2-6 in
    /// 3.1.1, section 3.1.2.11.2).
    fn settle_before(&self, slot: &Arc<Slot>, now: Timestamp) -> Option<u64> {
        let (will, epoch) = {
            let mut state = slot.lock();
            if state.session.has_ended() {
                return None;
            }
            if state.session.expiry_secs() == 0 {
                drop(state);
                self.end_session(slot, now, |session| session.expiry_secs() == 0);
                return None;
            }
            (state.session.take_will_for_resumption(), state.session.epoch())
        };
        self.publish_leftovers(&slot.client_id, will, Vec::new(), now);
        Some(epoch)
    }

    /// Finds or makes the Session of a Client Identifier. One that it replaces is ended here.
    fn claim(&self, client_id: &str, fresh: bool, now: Timestamp) -> Result<Claimed, Fault> {
        match self.registry.claim(client_id, fresh, false, &self.limits) {
            Claim::New { slot, replaced } => {
                if let Some(old) = replaced {
                    self.end_session(&old, now, |_| true);
                }
                Ok(Claimed { slot, present: false })
            }
            Claim::Existing(slot) if slot.lock().session.has_ended() => {
                // It is about to be removed; whoever is first removes it.
                self.registry.remove(&slot);
                self.claim(client_id, fresh, now)
            }
            Claim::Existing(slot) => Ok(Claimed { slot, present: true }),
            Claim::InProcess => {
                let detail = "the Client Identifier is in use inside the server's process";
                Err(Fault::Refused(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, detail))
            }
            Claim::Full => {
                count_one(&self.counts.sessions_refused);
                Err(Fault::Refused(ReasonCode::QUOTA_EXCEEDED, "sessions_max is reached"))
            }
        }
    }

    fn take_will(&self, will: &ConnectWill<'_>) -> Result<Will, Fault> {
        self.check_topic_name(will.topic)?;
        let message = Message::from_packet(will.topic, &will.properties, will.payload, None)
            .with_qos(will.qos)
            .with_retain(will.retain);
        Ok(Will { message, delay_secs: will.delay_secs })
    }

    /// The limits on Topic Names.
    pub(crate) fn check_topic_name(&self, name: &str) -> Result<(), Fault> {
        if self.topic_is_within_limits(name) {
            return Ok(());
        }
        Err(Fault::Refused(
            ReasonCode::TOPIC_NAME_INVALID,
            "topic_levels_max or topic_bytes_max is exceeded",
        ))
    }

    fn topic_is_within_limits(&self, text: &str) -> bool {
        let limits = &self.limits;
        // A text of so many bytes cannot have more levels.
        let few_levels =
            text.len() < limits.topic_levels_max || topic::levels(text) <= limits.topic_levels_max;
        let within = few_levels && text.len() <= limits.topic_bytes_max;
        if !within {
            count_one(&self.counts.topics_refused);
        }
        within
    }

    /// An identifier that no Session has (MQTT-3.2.2-16): random at the start of the broker, then counted
    /// on, so that it does not come again soon after a restart.
    fn assign_client_id(&self) -> String {
        let number = self.assigned.fetch_add(1, Ordering::Relaxed);
        format!("auto-{number:016x}")
    }

    /// The Network Connection of `epoch` is gone. Returns bytes that should still go out, if it was not
    /// taken over before.
    pub(crate) fn close(
        &self,
        slot: &Arc<Slot>,
        epoch: u64,
        departure: Departure,
        now: Timestamp,
    ) -> Option<crate::session::outgoing::Outgoing> {
        let left = {
            slot.keep_others_from_writing(epoch);
            let mut state = slot.lock_between_writes();
            let left = state.session.detach(epoch, departure, now)?;
            state.link = None;
            slot.set_connected(false);
            self.watch_expiry(slot, &mut state, now);
            left
        };
        self.publish_leftovers(&slot.client_id, left.will, Vec::new(), now);
        if left.ended {
            self.end_session(slot, now, |session| {
                session.epoch() == epoch && !session.is_attached()
            });
        }
        Some(left.unsent)
    }

    /// Ends a Session, if `condition` still holds under its lock: everything it held gets an outcome, it
    /// is forgotten, its Will is published, its shared messages go to others.
    pub(crate) fn end_session(
        &self,
        slot: &Arc<Slot>,
        now: Timestamp,
        condition: impl FnOnce(&Session) -> bool,
    ) {
        let (will, handed_on, filters, link, torn) = {
            let mut state = slot.lock_between_writes();
            if state.session.has_ended() || !condition(&state.session) {
                return;
            }
            let torn = state.is_amid_packet();
            let (will, handed_on) = state.session.end();
            self.inherit_books(state.session.ledger());
            slot.set_connected(false);
            (will, handed_on, state.session.drain_subscriptions(), state.link.take(), torn)
        };
        self.remove_from_tree(slot, &filters);
        self.registry.remove(slot);
        if let Some(link) = link {
            link.mailbox.order(taken_over(torn));
        }
        self.publish_leftovers(&slot.client_id, will, handed_on, now);
    }

    /// Publishes every Will, running delays included: the broker stops, and Sessions with it.
    pub(crate) fn publish_all_wills(&self) {
        let now = self.clock.now();
        for slot in self.registry.snapshot() {
            let will = slot.lock().session.take_will();
            self.publish_leftovers(&slot.client_id, will, Vec::new(), now);
        }
    }

    /// Nobody is connected any more: ends all Sessions, and with them the streams of in-process clients.
    pub(crate) fn finish_stop(&self) {
        let now = self.clock.now();
        for slot in self.registry.snapshot() {
            if slot.in_process {
                // What waits there can still be taken; its client ends it.
                slot.lock().wake();
            } else {
                self.end_session(&slot, now, |_| true);
            }
        }
    }

    /// Carries out a SUBSCRIBE as a sequence of single ones (MQTT-3.8.4-5). Returns a Reason Code for each
    /// Topic Filter.
    ///
    /// # Errors
    /// A filter that is no Topic Filter, or No Local on a shared subscription: the connection is to be
    /// closed, and nothing of the packet was carried out.
    pub(crate) fn subscribe(
        &self,
        slot: &Arc<Slot>,
        version: ProtocolVersion,
        subscribe: &Subscribe<'_>,
    ) -> Result<(Vec<ReasonCode>, Vec<Replay>), Fault> {
        let mut wanted = Vec::new();
        for (text, options) in subscribe.filters.clone() {
            wanted.push(match TopicFilter::new(text) {
                Ok(filter) if filter.is_shared() && options.no_local => {
                    return Err(Fault::Protocol("MQTT-3.8.3-4: No Local on a Shared Subscription"));
                }
                Ok(filter) => Some((filter, options)),
                Err(error) => refuse_filter(&error, version)?,
            });
        }
        let id = subscribe.subscription_id;
        let mut replays = Vec::new();
        let outcome = wanted.into_iter().map(|wanted| match wanted {
            Some((filter, options)) => {
                let (reason, replay) =
                    self.subscribe_one(slot, filter, Subscription { options, id });
                replays.extend(replay);
                reason
            }
            None => ReasonCode::TOPIC_FILTER_INVALID,
        });
        Ok((outcome.collect(), replays))
    }

    /// Adds or replaces one subscription: the tree first, so that no message is missed between it and the
    /// retained ones. Returns the Reason Code, and the replay of retained messages that is to be begun.
    pub(crate) fn subscribe_one(
        &self,
        slot: &Arc<Slot>,
        filter: TopicFilter,
        subscription: Subscription,
    ) -> (ReasonCode, Option<Replay>) {
        if !self.topic_is_within_limits(filter.filter_str()) {
            return (ReasonCode::TOPIC_FILTER_INVALID, None);
        }
        if authorize(Access::Subscribe(filter.filter_str()), slot.in_process) != Decision::Allow {
            return (ReasonCode::NOT_AUTHORIZED, None);
        }
        let max = self.limits.session_subscriptions_max;
        let _one_at_a_time = slot.subscribing();
        let admitted = slot.lock().session.admits_subscription(&filter, max);
        if !admitted || !self.add_to_tree(slot, &filter, subscription) {
            count_one(&self.counts.subscriptions_refused);
            return (ReasonCode::QUOTA_EXCEEDED, None);
        }
        let mut state = slot.lock();
        if state.session.has_ended() {
            drop(state);
            self.remove_from_tree(slot, std::slice::from_ref(&filter));
            return (ReasonCode::UNSPECIFIED_ERROR, None);
        }
        let new = state.session.subscribe(filter.clone(), subscription);
        // What is retained from now on finds the subscription in the tree.
        let replayed = replays_retained(&filter, subscription.options, new)
            && !self.retained_lock().is_empty();
        let replay = replayed.then(|| Replay::new(filter, subscription));
        (ReasonCode(subscription.options.qos as u8), replay)
    }

    /// Carries out an UNSUBSCRIBE (MQTT-3.10.4-1). Returns a Reason Code for each Topic Filter.
    ///
    /// # Errors
    /// A filter that is no Topic Filter: the connection is to be closed.
    pub(crate) fn unsubscribe(
        &self,
        slot: &Arc<Slot>,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Result<Vec<ReasonCode>, Fault> {
        let parsed: Result<Vec<_>, _> = unsubscribe.filters.clone().map(TopicFilter::new).collect();
        let detail =
            "MQTT-4.7.1-1, -2, 4.8.2-1, -2: UNSUBSCRIBE with a text that is no Topic Filter";
        let filters = parsed.map_err(|_| Fault::Malformed(detail))?;
        let reasons = filters.iter().map(|filter| {
            if self.unsubscribe_one(slot, filter) {
                ReasonCode::SUCCESS
            } else {
                ReasonCode::NO_SUBSCRIPTION_EXISTED
            }
        });
        Ok(reasons.collect())
    }

    /// Removes one subscription. Whether there was one.
    pub(crate) fn unsubscribe_one(&self, slot: &Arc<Slot>, filter: &TopicFilter) -> bool {
        let _one_at_a_time = slot.subscribing();
        self.remove_from_tree(slot, std::slice::from_ref(filter));
        slot.lock().session.unsubscribe(filter)
    }
}

/// What the one is told who had the Session. Behind half a packet, a DISCONNECT would be read as the rest
/// of it.
fn taken_over(torn: bool) -> Order {
    if torn { Order::TakenOverMidPacket } else { Order::TakenOver }
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
/// cannot say so in SUBACK, and [`Connection::subscribed`] closes.
fn refuse_filter<T>(error: &TopicError, version: ProtocolVersion) -> Result<Option<T>, Fault> {
    if error.is_share_error() && !version.is_v5() {
        return Ok(None);
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
                let refused = refuse_filter::<()>(&error, version);
                assert!(matches!(refused, Err(Fault::Malformed(_))), "{version} {text:?}");
            }
            for text in ["$share/g", "$share//a", "$share/+/a", "$share/a#/b"] {
                let error = TopicFilter::new(text).unwrap_err();
                let refused = refuse_filter::<()>(&error, version);
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
