//! Why a message would or would not reach a Session, from the present state. Nothing is recorded for it beforehand.

use std::sync::Arc;

use super::access::{Asker, is_reserved_for};
use super::route::delivery;
use super::session_cell::SessionCell;
use super::state::Engine;
use crate::access::{Action, Decision, Identity, Rule};
use crate::explanation::{Cause, Explanation, Finding, KeepsAway};
use crate::message::Message;
use crate::packet::QoS;
use crate::session::standing::Standing;
use crate::spelling::distance;
use crate::subscription::{Subscription, Wanted};
use crate::sync::write;
use crate::topic::near::nearest;
use crate::topic::{TopicFilter, check_name, name_matches};

/// Client Identifiers that are compared to find one that was meant.
const COMPARED_MAX: usize = 100_000;

/// Members of a shared subscription that are asked for whether they would take the next message.
const MEMBERS_MAX: usize = 1_024;

/// What was read of a Session under its lock.
struct View {
    cell: Arc<SessionCell>,
    matching: Vec<(TopicFilter, Subscription)>,
    /// All Topic Filters, if none matches.
    others: Vec<TopicFilter>,
    standing: Standing,
    lets_plain_pass: bool,
    identity: Option<Identity>,
}

impl Engine {
    /// Why a message with this Topic Name would reach the Session, or not; `message` if it is known.
    pub(crate) fn explain(
        &self,
        client_id: &str,
        topic: &str,
        message: Option<&Message>,
    ) -> Explanation {
        let (client_id, topic) = (client_id.to_owned(), topic.to_owned());
        let mut explanation = Explanation { client_id, topic, findings: Vec::new(), past: None };
        let Some(cell) = self.registry.find(&explanation.client_id) else {
            let nearest = self.nearest_client(&explanation.client_id);
            explanation.add(Cause::NoSession { nearest }, KeepsAway::All);
            return explanation;
        };
        let view = View::of(&cell, &explanation.topic);
        explanation.past = Some(cell.lock().session.ledger());
        if let Err(error) = check_name(&explanation.topic) {
            explanation.add(Cause::NoTopicName(error), KeepsAway::All);
            return explanation;
        }
        self.look_at_message(&view, message, &mut explanation);
        explanation
    }

    fn look_at_message(
        &self,
        view: &View,
        message: Option<&Message>,
        explanation: &mut Explanation,
    ) {
        let topic = explanation.topic.clone();
        let Some(wanted) = Wanted::merge(&view.subscriptions()) else {
            let filters = view.others.iter().map(TopicFilter::filter_str);
            let near = nearest(filters, &topic).and_then(|(text, difference)| {
                let filter = view.others.iter().find(|filter| filter.filter_str() == text)?;
                Some((filter.clone(), difference))
            });
            return explanation.add(Cause::NoSubscription { nearest: near }, KeepsAway::All);
        };
        for (filter, subscription) in &view.matching {
            let (filter, qos) = (filter.clone(), subscription.options.qos);
            explanation.add(Cause::Subscription { filter, qos }, KeepsAway::None);
        }
        self.look_at_access(view, &topic, explanation);
        if view.cell.lock().session.is_unmounted(&topic) {
            explanation.add(Cause::Unmounted, KeepsAway::All);
        }
        let plain = || view.matching.iter().filter(|(filter, _)| !filter.is_shared());
        if plain().count() > 0 && view.matching.iter().all(|(_, one)| one.options.no_local) {
            explanation.add(Cause::NoLocal, KeepsAway::Some);
        }
        // An empty message is the smallest with this Topic Name.
        let empty = || Message::new(&topic, "").map(|message| message.with_qos(wanted.qos));
        let Some(sample) = message.cloned().or_else(|| empty().ok()) else { return };
        if plain().count() == 0 {
            for (filter, _) in &view.matching {
                self.look_at_share(view, filter, &sample, explanation);
            }
        }
        view.look_at_queue(&wanted, &sample, message.is_some(), self, explanation);
    }

    fn look_at_access(&self, view: &View, topic: &str, explanation: &mut Explanation) {
        if !self.access.is_in_force() {
            return;
        }
        match self.decision(&view.cell, view.identity.as_ref(), Action::Receive, topic) {
            Decision::Allow(rule) => explanation.add(Cause::Authorized { rule }, KeepsAway::None),
            Decision::Deny(rule) => {
                explanation.add(Cause::NotAuthorized { rule: Some(rule) }, KeepsAway::All);
            }
            Decision::NoAnswer => {
                explanation.add(Cause::NotAuthorized { rule: None }, KeepsAway::All);
            }
        }
    }

    /// Whether another member of a shared subscription would get the next message.
    fn look_at_share(
        &self,
        view: &View,
        filter: &TopicFilter,
        sample: &Message,
        explanation: &mut Explanation,
    ) {
        let Some(group) = write(&self.tree).group(filter).cloned() else { return };
        let pick = group.peek();
        let now = self.now();
        let mut next = None;
        for tried in 0..MEMBERS_MAX {
            let Some((member, connected)) = group.member(pick, tried) else { break };
            let identity =
                member.cell.lock().subject.as_ref().map(|subject| subject.identity().clone());
            let decision =
                self.decision(&member.cell, identity.as_ref(), Action::Receive, sample.topic());
            let delivery = delivery(&member.wanted, sample.clone(), Some(group.identity.clone()));
            let takes = member.cell.lock().session.takes_now(&delivery, now);
            if decision.is_allowed() && (takes || !connected) {
                next = Some(member.cell);
                break;
            }
        }
        if next.as_ref().is_some_and(|next| Arc::ptr_eq(next, &view.cell)) {
            return;
        }
        let next = next.map(|cell| cell.client_id.to_string());
        explanation.add(Cause::AnotherMember { filter: filter.clone(), next }, KeepsAway::Some);
    }

    /// What the policy says about an action of a Session's client, and the rule. `None` without such a Session.
    pub(crate) fn explain_access(
        &self,
        client_id: &str,
        action: Action,
        topic: &str,
    ) -> Option<Decision> {
        let cell = self.registry.find(client_id)?;
        let identity = cell.lock().subject.as_ref().map(|subject| subject.identity().clone());
        Some(self.decision(&cell, identity.as_ref(), action, topic))
    }

    fn decision(
        &self,
        cell: &SessionCell,
        identity: Option<&Identity>,
        action: Action,
        topic: &str,
    ) -> Decision {
        let asker: Asker<'_> = cell.asker();
        if action == Action::Publish && is_reserved_for(asker, topic) {
            return Decision::Deny(RESERVED);
        }
        let unchecked;
        let identity = match identity {
            Some(identity) => identity,
            None => {
                unchecked = Identity::new(UNCHECKED);
                &unchecked
            }
        };
        self.access.decision(asker, identity, action, topic)
    }

    /// A Client Identifier that differs from this one by little.
    fn nearest_client(&self, client_id: &str) -> Option<String> {
        let lower = client_id.to_lowercase();
        let allowed = (client_id.chars().count() / 4).max(1);
        let cells = self.registry.snapshot();
        let near = cells.iter().take(COMPARED_MAX).filter_map(|cell| {
            let letters = distance(&lower, &cell.client_id.to_lowercase());
            (letters <= allowed).then_some((letters, &cell.client_id))
        });
        near.min().map(|(_, client_id)| client_id.to_string())
    }
}

/// What no policy can allow.
const RESERVED: Rule = Rule::named("only the server publishes to $SYS and $share");

/// A Client that connected while there was no policy.
const UNCHECKED: Rule = Rule::named("no access rules were in force when the Client connected");

impl View {
    fn of(cell: &Arc<SessionCell>, topic: &str) -> View {
        let state = cell.lock();
        let session = &state.session;
        let matches = |filter: &TopicFilter| name_matches(filter.filter_str(), topic);
        let all = || session.subscriptions();
        let mut matching: Vec<_> =
            all().filter(|(filter, _)| matches(filter)).map(|(f, s)| (f.clone(), *s)).collect();
        matching.sort_by(|a, b| a.0.cmp(&b.0));
        let others = match matching.is_empty() {
            true => all().map(|(filter, _)| filter.clone()).collect(),
            false => Vec::new(),
        };
        View {
            cell: cell.clone(),
            matching,
            others,
            standing: session.standing(),
            lets_plain_pass: session.lets_plain_pass(),
            identity: state.subject.as_ref().map(|subject| subject.identity().clone()),
        }
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        self.matching.iter().map(|(_, subscription)| *subscription).collect()
    }

    /// What a message meets when it is offered, and when it would be sent. `known`: the sample is the message.
    fn look_at_queue(
        &self,
        wanted: &Wanted,
        sample: &Message,
        known: bool,
        engine: &Engine,
        explanation: &mut Explanation,
    ) {
        let standing = &self.standing;
        let (qos, now) = (wanted.delivery_qos(sample.qos()), engine.now());
        let plain = qos == QoS::AtMostOnce;
        let some = if known { KeepsAway::None } else { KeepsAway::Some };
        if sample.expiry_secs() == Some(0) {
            explanation.add(Cause::Expired, KeepsAway::All);
        }
        if !standing.attached {
            explanation.add(Cause::Away { qos }, if plain { KeepsAway::All } else { some });
        }
        if standing.waiting >= standing.depth && !(self.lets_plain_pass && plain) {
            let (waiting, depth) = (standing.waiting, standing.depth);
            // Of QoS 0, one message at a time passes a queue that only waits for acknowledgements.
            let keeps =
                if self.lets_plain_pass && !known { KeepsAway::Some } else { KeepsAway::All };
            explanation.add(Cause::QueueFull { waiting, depth }, keeps);
        } else if standing.waiting > 0 && standing.bytes + sample.size_bytes() > standing.bytes_max
        {
            let (waiting, bytes_max) = (standing.bytes, standing.bytes_max);
            explanation.add(Cause::QueueBytes { waiting, bytes_max }, KeepsAway::All);
        }
        let sent = delivery(wanted, sample.clone(), None);
        let too_large = self.cell.lock().session.too_large(&sent, now);
        if let (Some(packet_bytes), Some(maximum_packet_size)) =
            (too_large, standing.maximum_packet_size)
        {
            explanation.add(Cause::TooLarge { packet_bytes, maximum_packet_size }, KeepsAway::All);
        }
        if standing.blocked {
            explanation.add(Cause::NotReading, KeepsAway::None);
        }
        if standing.quota_used {
            explanation.add(Cause::QuotaUsed { inflight: standing.inflight }, KeepsAway::None);
        }
    }
}

impl Explanation {
    fn add(&mut self, cause: Cause, keeps_away: KeepsAway) {
        self.findings.push(Finding { cause, keeps_away });
    }
}
