//! One publisher's batch: consecutive messages with the same route are pushed together, and every Session that they
//! reached is written to or woken once. Each loop pauses when the budget of the turn is spent, and continues in the
//! next turn.

use std::fmt;
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::access::{Denied, Permit};
use super::outbox::{flush_or_wake, make_room};
use super::route::{Route, RouteCache, RouteSearch, Target, delivery};
use super::session_cell::{CellState, SessionCell};
use super::share::Group;
use super::state::Engine;
use crate::access::{Action, Preparing};
use crate::budget::Budget;
use crate::ledger::{DropReason, FilterReason, Ledger, Outcome};
use crate::message::Message;
use crate::packet::{PublishProperties, QoS};
use crate::session::Offered;
use crate::session::outgoing::Outgoing;
use crate::session::queue::Delivery;
use crate::time::Timestamp;

/// Subscribers that a publisher's task writes to directly after one batch. The tasks of further subscribers are
/// woken, so that a fan-out to thousands does not hold the publisher's worker.
const INLINE_FLUSHES_MAX: usize = 64;

/// Members of a shared subscription that have no room and are passed over before the message goes to the member whose
/// turn it is.
const SHARE_TRIES_MAX: usize = 32;

/// Members of a shared subscription that are asked for whether they may receive the message.
const SHARE_ASKED_MAX: usize = 256;

/// The steps that storing or clearing a retained message costs.
const STORE_STEPS: usize = 16;

/// The steps that making room in a full queue costs: it may write to a transport.
const ROOM_STEPS: usize = 32;

/// An incoming message, borrowed from its packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arriving<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: PublishProperties<'a>,
    /// The packet, if it has its own buffer.
    pub(crate) frozen: Option<&'a Bytes>,
}

impl Arriving<'_> {
    fn to_message(self, now: Timestamp) -> Message {
        Message::from_packet(self.topic, &self.properties, self.payload, self.frozen)
            .with_qos(self.qos)
            .with_retain(self.retain)
            .accepted_at(now)
    }
}

/// How many subscribers matched a message, for the answer to its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The number of Sessions and shared subscriptions that matched, at least one.
    By(u64),
    /// No subscription matched.
    Unmatched,
    Denied(Denied),
}

/// The wait for the policy's answer.
pub(crate) struct Unasked(pub(crate) Preparing);

impl fmt::Debug for Unasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unasked")
    }
}

/// The progress of a message after one turn.
#[derive(Debug)]
pub(crate) enum Routed {
    Heard(Heard),
    /// The turn was over before the message was routed: [`Publishing::advance`] continues.
    Later(Publishing),
    /// The policy fetches the answer whether the message may be published: then [`Publishing::ask`] continues.
    Unasked(Publishing, Unasked),
}

/// A message that is not routed yet.
#[derive(Debug)]
pub(crate) struct Publishing {
    message: Message,
    stage: Stage,
    /// The generation of the routes when it was asked whether the message may be published: a route of a later one
    /// is not remembered, because a remembered route means that the publisher may.
    asked: u64,
}

/// Before the first generation of routes: the publisher is asked for again with its next message.
const ASKED_NEVER: u64 = 0;

#[derive(Debug)]
enum Stage {
    /// The policy has to be asked whether the message may be published.
    Ask,
    /// A retained message is stored only after the messages before it were pushed, so that a Session whose replay of
    /// retained messages comes in between never gets an older message after a newer one.
    Store,
    Search(Box<RouteSearch>),
    Append(Arc<Route>),
}

/// Consecutive messages with the same route, which are not pushed yet.
#[derive(Debug, Default)]
struct Pending {
    route: Option<Arc<Route>>,
    messages: Vec<Message>,
    /// The number of offers to shared subscriptions that were made: all messages to the first, then to the second.
    shares_done: usize,
    targets_done: usize,
}

impl Pending {
    /// Whether some targets already have the messages: no further message may be added.
    fn is_begun(&self) -> bool {
        self.shares_done + self.targets_done > 0
    }
}

/// Whether a flush was finished in this turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// `waits`: the queue of a subscriber that is not slow is still half full; the publisher yields once before it
    /// continues.
    Done {
        waits: bool,
    },
    Unfinished,
}

/// One publisher's batch: pending messages, the Sessions to flush, and counts that belong to no Session.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    id: u64,
    pending: Pending,
    touched: Vec<Arc<SessionCell>>,
    /// How many of `touched` were flushed.
    flushed: usize,
    pressed: bool,
    waits: bool,
    /// Offers that a Session accepted.
    accepted: u64,
    /// The books of offers that belong to no Session.
    tally: Ledger,
}

impl Batch {
    /// Gives the batch a number, by which a Session knows that this batch has touched it.
    pub(crate) fn begin(&mut self, engine: &Engine) {
        self.id = engine.next_batch();
    }

    /// Whether the turn ended while the pending messages were being pushed: none may be added before that is done.
    pub(crate) fn is_begun(&self) -> bool {
        self.pending.is_begun()
    }

    /// Whether a touched queue is half full. The batch is then flushed, so that a full queue means that a Client is
    /// slow, never that the publisher batches.
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Offers of this batch that a Session accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Publishes a message that came over the network. It is pushed together with other messages that have its route,
    /// at the latest by [`Batch::flush`].
    pub(crate) fn publish(
        &mut self,
        engine: &Engine,
        (publisher, epoch): (&SessionCell, u64),
        cache: &mut RouteCache,
        arriving: Arriving<'_>,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Routed {
        let mut permit = Permit::UntilTheRulesChange;
        // A route that is remembered was allowed, by rules that are still in force.
        match cache.get(engine, arriving.topic) {
            Some(route) if !arriving.retain => {
                // The one copy of the message is made only if a subscription matches.
                return match route.is_empty() {
                    true => Routed::Heard(self.count_unmatched()),
                    false => {
                        self.append(engine, &route.clone(), arriving.to_message(now), now, budget)
                    }
                };
            }
            Some(_) => {}
            None => {
                let topic = arriving.topic;
                let preparing = publisher.prepare(&engine.access, epoch, Action::Publish, topic);
                if let Some(preparing) = preparing {
                    let message = arriving.to_message(now);
                    let unasked = Publishing { message, stage: Stage::Ask, asked: ASKED_NEVER };
                    return Routed::Unasked(unasked, Unasked(preparing));
                }
                match publisher.may_publish(&engine.access, epoch, arriving.topic) {
                    Ok(given) => permit = given,
                    Err(denied) => return Routed::Heard(self.count_denied(denied)),
                }
            }
        }
        let asked = if permit == Permit::Once { ASKED_NEVER } else { cache.generation() };
        let publisher = &*publisher.client_id;
        if arriving.retain {
            let publishing = Publishing::new(engine, arriving.to_message(now), asked);
            return publishing.advance(self, engine, publisher, cache, now, budget);
        }
        let mut search = RouteSearch::new(engine);
        if !search.advance(engine, arriving.topic, budget) {
            let stage = Stage::Search(Box::new(search));
            return Routed::Later(Publishing { message: arriving.to_message(now), stage, asked });
        }
        let route = search.remember(engine, publisher, arriving.topic, asked, cache, budget);
        match route.is_empty() {
            true => Routed::Heard(self.count_unmatched()),
            false => self.append(engine, &route, arriving.to_message(now), now, budget),
        }
    }

    /// Adds a message to the pending ones; if they have another route, pushes them first.
    fn append(
        &mut self,
        engine: &Engine,
        route: &Arc<Route>,
        message: Message,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Routed {
        let same = self.pending.route.as_ref().is_some_and(|present| Arc::ptr_eq(present, route));
        if !same || self.pending.is_begun() {
            if !self.push_pending(engine, now, budget) {
                let stage = Stage::Append(route.clone());
                return Routed::Later(Publishing { message, stage, asked: ASKED_NEVER });
            }
            self.pending.route = Some(route.clone());
        }
        self.pending.messages.push(message);
        if self.pending.messages.len() >= route.pending_max {
            self.push_pending(engine, now, budget);
        }
        Routed::Heard(match route.matched() {
            0 => Heard::Unmatched,
            matched => Heard::By(matched),
        })
    }

    /// Pushes the pending messages. Packets of the same batch that could change their receivers, such as SUBSCRIBE,
    /// call this first. `false`: the turn was over before all were pushed.
    pub(crate) fn push_pending(
        &mut self,
        engine: &Engine,
        now: Timestamp,
        budget: &mut Budget,
    ) -> bool {
        let Some(route) = self.pending.route.take() else { return true };
        let done = self.push_to_shares(engine, &route, now, budget)
            && self.push_to_targets(engine, &route, now, budget);
        if done {
            self.pending.messages.clear();
            (self.pending.shares_done, self.pending.targets_done) = (0, 0);
        } else {
            self.pending.route = Some(route);
        }
        done
    }

    fn push_to_shares(
        &mut self,
        engine: &Engine,
        route: &Route,
        now: Timestamp,
        budget: &mut Budget,
    ) -> bool {
        let count = self.pending.messages.len();
        while let Some(share) = route.shares.get(self.pending.shares_done / count.max(1)) {
            if budget.is_spent() {
                return false;
            }
            let message = self.pending.messages[self.pending.shares_done % count].clone();
            self.offer_share(engine, share, &message, now, budget);
            self.pending.shares_done += 1;
        }
        true
    }

    fn push_to_targets(
        &mut self,
        engine: &Engine,
        route: &Route,
        now: Timestamp,
        budget: &mut Budget,
    ) -> bool {
        let count = self.pending.messages.len();
        while let Some(target) = route.targets.get(self.pending.targets_done) {
            if budget.is_spent() {
                return false;
            }
            budget.spend(1 + count);
            let mut messages = std::mem::take(&mut self.pending.messages);
            if self.pending.targets_done + 1 == route.targets.len() {
                self.push(engine, target, messages.drain(..), now, budget);
            } else {
                self.push(engine, target, messages.iter().cloned(), now, budget);
            }
            self.pending.messages = messages;
            self.pending.targets_done += 1;
        }
        for _ in 0..route.no_local * count as u64 {
            self.count(Outcome::Filtered(FilterReason::NoLocal));
        }
        true
    }

    /// Offers messages to one Session under one lock.
    fn push(
        &mut self,
        engine: &Engine,
        target: &Target,
        messages: impl Iterator<Item = Message>,
        now: Timestamp,
        budget: &mut Budget,
    ) {
        let mut state = target.cell.lock();
        for message in messages {
            let delivery = delivery(&target.wanted, message, None);
            let accepted;
            (state, accepted) =
                self.offer_locked(engine, &target.cell, state, delivery, now, budget);
            if accepted.is_none() {
                self.count(Outcome::Dropped(DropReason::SessionEnded));
            }
        }
        engine.watch_queue(&target.cell, &mut state, now);
    }

    /// Offers a message to one Session, under a lock that the caller holds and gets back. A full queue is flushed
    /// once before the newest message is thrown away. Returns whether the message waits in the Session; `None`, with
    /// nothing counted, if the Session has ended.
    fn offer_locked<'a>(
        &mut self,
        engine: &Engine,
        cell: &'a Arc<SessionCell>,
        mut state: MutexGuard<'a, CellState>,
        delivery: Delivery,
        now: Timestamp,
        budget: &mut Budget,
    ) -> (MutexGuard<'a, CellState>, Option<bool>) {
        let mut offered = state.session.offer(delivery, now);
        if let Offered::Full(refused) = offered {
            drop(state);
            budget.spend(ROOM_STEPS);
            make_room(cell, now, &mut Outgoing::default(), &mut engine.sending(cell, budget));
            state = cell.lock();
            offered = state.session.offer_again(refused, now);
        }
        if state.touched != self.id {
            state.touched = self.id;
            self.touched.push(cell.clone());
        }
        let accepted = match offered {
            Offered::Waiting { pressed } => {
                self.pressed |= pressed;
                self.accepted += 1;
                engine.watch_expiry(cell, &mut state, now);
                Some(true)
            }
            Offered::Full(refused) => {
                let _counted = state.session.give_up(refused);
                Some(false)
            }
            Offered::Ended(_counted) => Some(false),
            Offered::Gone => None,
        };
        (state, accepted)
    }

    /// Offers a message to the members of a shared subscription in turn: first to members that are connected, may
    /// receive it, have room and can take its size. If there is none, the member whose turn it is among those that may
    /// receive it gives the message its outcome. A member that is not connected is picked only if no member is that may
    /// receive it.
    pub(crate) fn offer_share(
        &mut self,
        engine: &Engine,
        group: &Arc<Group<SessionCell>>,
        message: &Message,
        now: Timestamp,
        budget: &mut Budget,
    ) {
        let pick = group.pick();
        let (mut turn, mut passed, mut denied, mut ended) = (None, 0, 0, 0);
        for tried in 0..SHARE_ASKED_MAX {
            let Some((member, connected)) = group.member(pick, tried) else { break };
            if passed >= SHARE_TRIES_MAX || (!connected && turn.is_some()) {
                break;
            }
            budget.spend(2);
            let mut state = member.cell.lock();
            let (asker, topic) = (member.cell.asker(), message.topic_bytes());
            if member.cell.is_barred()
                || !engine.access.allows(asker, &mut state.subject, Action::Receive, topic)
            {
                denied += 1;
                continue;
            }
            let delivery = delivery(&member.wanted, message.clone(), Some(group.identity.clone()));
            if connected && !state.session.takes_now(&delivery, now) {
                state.session.expire_messages(now);
                drop(state);
                passed += 1;
                turn.get_or_insert(member);
                continue;
            }
            let (mut state, accepted) =
                self.offer_locked(engine, &member.cell, state, delivery, now, budget);
            engine.watch_queue(&member.cell, &mut state, now);
            drop(state);
            if accepted.is_some() {
                return;
            }
            ended += 1;
        }
        let Some(member) = turn else {
            return self.count(match (denied, ended) {
                (0, 0) => Outcome::Filtered(FilterReason::NoSubscription),
                (0, _) => Outcome::Dropped(DropReason::SessionEnded),
                (_, _) => Outcome::Filtered(FilterReason::NotAuthorized),
            });
        };
        let delivery = delivery(&member.wanted, message.clone(), Some(group.identity.clone()));
        let state = member.cell.lock();
        let (state, accepted) =
            self.offer_locked(engine, &member.cell, state, delivery, now, budget);
        drop(state);
        if accepted.is_none() {
            self.count(Outcome::Dropped(DropReason::SessionEnded));
        }
    }

    /// Pushes the pending messages, and writes to or wakes every touched Session once, except the publisher's own: its
    /// task writes next, answers before messages.
    pub(crate) fn flush(
        &mut self,
        engine: &Engine,
        own: Option<&Arc<SessionCell>>,
        out: &mut Outgoing,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Flush {
        if !self.push_pending(engine, now, budget) {
            return Flush::Unfinished;
        }
        while let Some(cell) = self.touched.get(self.flushed) {
            if budget.is_spent() {
                return Flush::Unfinished;
            }
            budget.spend(2);
            if own.is_some_and(|own| Arc::ptr_eq(own, cell)) {
                // Nothing to do here.
            } else if self.flushed < INLINE_FLUSHES_MAX {
                flush_or_wake(cell, now, out, &mut engine.sending(cell, budget));
            } else {
                cell.lock().wake();
            }
            if self.pressed {
                self.waits |= cell.lock().session.is_pressed();
            }
            self.flushed += 1;
        }
        self.touched.clear();
        self.flushed = 0;
        self.pressed = false;
        self.begin(engine);
        engine.count(&mut self.tally);
        Flush::Done { waits: std::mem::take(&mut self.waits) }
    }

    /// Whether no message is left to be pushed, no Session to be flushed, and nothing to be counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.route.is_none() && self.touched.is_empty() && self.tally.offered == 0
    }

    pub(crate) fn count(&mut self, outcome: Outcome) {
        self.tally.offer();
        self.tally.end(outcome);
    }

    pub(crate) fn count_denied(&mut self, denied: Denied) -> Heard {
        match denied {
            Denied::Reserved => self.count(Outcome::Filtered(FilterReason::ReservedTopic)),
            Denied::ByPolicy => self.count(Outcome::Filtered(FilterReason::NotAuthorized)),
            Denied::TakenOver => {} // as if it had not been read
        }
        Heard::Denied(denied)
    }

    fn count_unmatched(&mut self) -> Heard {
        self.count(Outcome::Filtered(FilterReason::NoSubscription));
        Heard::Unmatched
    }
}

impl RouteSearch {
    /// The finished search as a route, which the publisher remembers if it was `asked` in this generation whether it
    /// may publish.
    fn remember(
        self,
        engine: &Engine,
        publisher: &str,
        topic: &str,
        asked: u64,
        cache: &mut RouteCache,
        budget: &mut Budget,
    ) -> Arc<Route> {
        let generation = self.generation();
        let mut route = self.finish(publisher, budget);
        if !route.shares.is_empty() {
            route.push_by(engine.limits().max_queue_depth);
        }
        if generation != asked {
            return Arc::new(route);
        }
        cache.insert(engine, topic, generation, route)
    }
}

impl Publishing {
    /// Begins with a message whose route is not known, and which may be published.
    pub(crate) fn new(engine: &Engine, message: Message, asked: u64) -> Publishing {
        let stage = match message.retain() {
            true => Stage::Store,
            false => Stage::Search(Box::new(RouteSearch::new(engine))),
        };
        Publishing { message, stage, asked }
    }

    /// Begins with a message that is retained already, and may be published.
    pub(crate) fn kept(engine: &Engine, message: Message) -> Publishing {
        let stage = Stage::Search(Box::new(RouteSearch::new(engine)));
        Publishing { message, stage, asked: ASKED_NEVER }
    }

    /// Asks whether the message may be published, if that was not asked yet. The error is the answer to a publisher that
    /// may not.
    pub(crate) fn ask(
        self,
        batch: &mut Batch,
        engine: &Engine,
        (publisher, epoch): (&SessionCell, u64),
        cache: &mut RouteCache,
    ) -> Result<Publishing, Heard> {
        if !matches!(self.stage, Stage::Ask) {
            return Ok(self);
        }
        let topic = self.message.topic();
        let _brings_the_cache_up_to_date = cache.get(engine, topic);
        let generation = cache.generation();
        match publisher.may_publish(&engine.access, epoch, topic) {
            Ok(Permit::Once) => Ok(Publishing::new(engine, self.message, ASKED_NEVER)),
            Ok(Permit::UntilTheRulesChange) => {
                Ok(Publishing::new(engine, self.message, generation))
            }
            Err(denied) => Err(batch.count_denied(denied)),
        }
    }

    /// The publisher has another identity: it is asked for again with its next message.
    pub(crate) fn forget_permit(&mut self) {
        self.asked = ASKED_NEVER;
    }

    /// Continues as far as the budget allows.
    pub(crate) fn advance(
        mut self,
        batch: &mut Batch,
        engine: &Engine,
        publisher: &str,
        cache: &mut RouteCache,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Routed {
        loop {
            self.stage = match self.stage {
                // Its publisher has gone before it could be asked for.
                Stage::Ask => return Routed::Heard(batch.count_denied(Denied::ByPolicy)),
                Stage::Store => {
                    if !batch.push_pending(engine, now, budget) {
                        return Routed::Later(self);
                    }
                    budget.spend(STORE_STEPS);
                    engine.retain(&self.message, now);
                    match cache.get(engine, self.message.topic()) {
                        Some(route) => Stage::Append(route.clone()),
                        None => Stage::Search(Box::new(RouteSearch::new(engine))),
                    }
                }
                Stage::Search(mut search) => {
                    let topic = self.message.topic();
                    if !search.advance(engine, topic, budget) {
                        self.stage = Stage::Search(search);
                        return Routed::Later(self);
                    }
                    let asked = self.asked;
                    Stage::Append(search.remember(engine, publisher, topic, asked, cache, budget))
                }
                Stage::Append(route) if route.is_empty() => {
                    return Routed::Heard(batch.count_unmatched());
                }
                Stage::Append(route) => {
                    return batch.append(engine, &route, self.message, now, budget);
                }
            };
        }
    }
}
