//! One publisher's batch: messages that go the same way wait for one another, are pushed together, and every
//! Session that they reached is written to or woken once. Each loop pauses when the budget of the turn is
//! spent, and goes on in the next turn.

use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::access::Denied;
use super::outbox::{flush_or_wake, make_room};
use super::route::{Route, RouteCache, RouteSearch, Target, delivery};
use super::session_cell::{CellState, SessionCell};
use super::share::{Group, Member};
use super::state::Engine;
use crate::budget::Budget;
use crate::counters::count_one;
use crate::ledger::{DropReason, FilterReason, Ledger, Outcome};
use crate::message::Message;
use crate::packet::{PublishProperties, QoS};
use crate::session::Offered;
use crate::session::outgoing::Outgoing;
use crate::session::queue::Delivery;
use crate::time::Timestamp;

/// Subscribers written to straight from a publisher's task after one batch; the others are woken, so that a
/// fan-out to thousands does not hold the publisher's worker.
const INLINE_FLUSHES_MAX: usize = 64;

/// Messages that go the same way wait for one another up to this number, and are pushed together: each lock
/// is taken once for all of them, which matters where two workers publish to one Session.
const PENDING_MAX: usize = 256;

/// Members of a shared subscription that are asked for room before the one whose turn it is gets the message.
const SHARE_TRIES_MAX: usize = 32;

/// The steps that storing or clearing a retained message costs.
const STORE_STEPS: usize = 16;

/// The steps that making room in a full queue costs: it may write to a transport.
const ROOM_STEPS: usize = 32;

/// A message as it comes in, before anything was copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arriving<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: PublishProperties<'a>,
    /// The packet, where it has a buffer of its own.
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

/// How many hear a message, for its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// So many Sessions and shared subscriptions matched, one at least.
    By(u64),
    ByNobody,
    Denied(Denied),
}

/// What publishing a message came to in this turn.
#[derive(Debug)]
pub(crate) enum Published {
    Heard(Heard),
    /// The turn is over before the message has found its way: [`Publishing::advance`] goes on.
    Later(Publishing),
}

/// A message that has not found its way yet.
#[derive(Debug)]
pub(crate) struct Publishing {
    message: Message,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// A retained message is stored only when the messages before it were pushed: a Session whose replay of
    /// retained messages comes in between never sees an older one after a newer one.
    Store,
    Search(Box<RouteSearch>),
    Append(Arc<Route>),
}

/// Messages that came one behind the other and go the same way.
#[derive(Debug, Default)]
struct Pending {
    route: Option<Arc<Route>>,
    messages: Vec<Message>,
    /// How many of the messages, for one share after the other, were offered.
    shares_done: usize,
    targets_done: usize,
}

impl Pending {
    /// Whether some targets have got the messages: no further message may join them.
    fn is_begun(&self) -> bool {
        self.shares_done + self.targets_done > 0
    }
}

/// Whether a flush came to its end in this turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// `waits`: the queue of a subscriber that is not slow is half full all the same; the publisher yields once
    /// before it goes on.
    Done {
        waits: bool,
    },
    Unfinished,
}

/// One publisher's batch: what it touched and has to flush, and what it counted by itself.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    id: u64,
    pending: Pending,
    touched: Vec<Arc<SessionCell>>,
    /// How many of `touched` were flushed.
    flushed: usize,
    pressed: bool,
    waits: bool,
    /// Of the messages pushed, how often one waits in a Session now.
    accepted: u64,
    /// Offers that no Session has in its books.
    tally: Ledger,
}

impl Batch {
    /// Gives the batch an identity, by which a Session knows that it has touched it.
    pub(crate) fn begin(&mut self, engine: &Engine) {
        self.id = engine.next_batch();
    }

    /// Whether the turn ended amid the messages of this batch: nothing may be added before they are pushed.
    pub(crate) fn is_begun(&self) -> bool {
        self.pending.is_begun()
    }

    /// Whether a queue is half full that was touched: the batch is to be ended, so that `max_queue_depth`
    /// means that a Client is slow and never that we batch.
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// How often a message of this batch found a place in a Session.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Publishes a message that came over the network. It is pushed with others that go the same way, at the
    /// latest by [`Batch::flush`].
    pub(crate) fn publish(
        &mut self,
        engine: &Engine,
        publisher: &str,
        cache: &mut RouteCache,
        arriving: Arriving<'_>,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Published {
        if let Err(denied) = engine.access.publish(publisher, false, arriving.topic) {
            return Published::Heard(self.count_denied(engine, denied));
        }
        if !arriving.retain
            && let Some(route) = cache.get(engine, arriving.topic)
        {
            // Only if a subscription matches is the one copy of the message made.
            return match route.is_empty() {
                true => Published::Heard(self.count_unheard()),
                false => self.append(engine, &route.clone(), arriving.to_message(now), now, budget),
            };
        }
        if arriving.retain {
            let publishing = Publishing::new(engine, arriving.to_message(now));
            return publishing.advance(self, engine, publisher, cache, now, budget);
        }
        let mut search = RouteSearch::new(engine);
        if !search.advance(engine, arriving.topic, budget) {
            let stage = Stage::Search(Box::new(search));
            return Published::Later(Publishing { message: arriving.to_message(now), stage });
        }
        let route = search.remember(engine, publisher, arriving.topic, cache, budget);
        match route.is_empty() {
            true => Published::Heard(self.count_unheard()),
            false => self.append(engine, &route, arriving.to_message(now), now, budget),
        }
    }

    /// Adds a message to those that wait, or pushes them and begins anew with it.
    fn append(
        &mut self,
        engine: &Engine,
        route: &Arc<Route>,
        message: Message,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Published {
        let same = self.pending.route.as_ref().is_some_and(|present| Arc::ptr_eq(present, route));
        if !same || self.pending.is_begun() {
            if !self.push_pending(engine, now, budget) {
                let stage = Stage::Append(route.clone());
                return Published::Later(Publishing { message, stage });
            }
            self.pending.route = Some(route.clone());
        }
        self.pending.messages.push(message);
        if self.pending.messages.len() >= PENDING_MAX.min(engine.limits.max_queue_depth / 4) {
            self.push_pending(engine, now, budget);
        }
        Published::Heard(match route.matched() {
            0 => Heard::ByNobody,
            matched => Heard::By(matched),
        })
    }

    /// Pushes the messages that wait. What follows in the same batch and could change who gets them, or what
    /// they meet, comes after this. `false`: the turn was over before that was done.
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
    }

    /// Offers a message to one Session, under a lock that the caller has and gets back; a full queue is flushed
    /// once before the newest is thrown away. Returns whether the message waits there; `None`, with nothing
    /// counted, if the Session has ended.
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

    /// Offers a message to the members of a shared subscription in turn: first to those that are connected,
    /// may receive it, have room and can take it. If there is none such, the member whose turn it is gives the
    /// message its outcome; one that is away is picked only if none is connected.
    pub(crate) fn offer_share(
        &mut self,
        engine: &Engine,
        group: &Arc<Group<SessionCell>>,
        message: &Message,
        now: Timestamp,
        budget: &mut Budget,
    ) {
        let pick = group.pick();
        let may = |member: &Member<SessionCell>| {
            engine.access.may_receive(&member.cell.client_id, message.topic_bytes())
        };
        let mut turn = None;
        for tried in 0..SHARE_TRIES_MAX {
            budget.spend(2);
            let Some(member) = group.connected(pick, tried) else { break };
            if !may(&member) {
                continue;
            }
            let delivery = delivery(&member.wanted, message.clone(), Some(group.identity.clone()));
            let mut state = member.cell.lock();
            if state.session.takes_now(&delivery, now) {
                let (state, accepted) =
                    self.offer_locked(engine, &member.cell, state, delivery, now, budget);
                drop(state);
                if accepted.is_some() {
                    return;
                }
                continue;
            }
            state.session.expire_messages(now);
            drop(state);
            turn.get_or_insert(member);
        }
        let Some(member) = turn.or_else(|| group.any(pick)) else {
            return self.count(Outcome::Filtered(FilterReason::NoSubscription));
        };
        if !may(&member) {
            return self.count(Outcome::Filtered(FilterReason::NotAuthorized));
        }
        let delivery = delivery(&member.wanted, message.clone(), Some(group.identity.clone()));
        let state = member.cell.lock();
        let (state, accepted) =
            self.offer_locked(engine, &member.cell, state, delivery, now, budget);
        drop(state);
        if accepted.is_none() {
            self.count(Outcome::Dropped(DropReason::SessionEnded));
        }
    }

    /// Pushes what waits, and writes to or wakes every Session once that was touched, but for the publisher's
    /// own: its task writes next, and answers before messages.
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

    /// Whether nothing is left to be pushed, flushed or counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.route.is_none() && self.touched.is_empty() && self.tally.offered == 0
    }

    pub(crate) fn count(&mut self, outcome: Outcome) {
        self.tally.offer();
        self.tally.end(outcome);
    }

    pub(crate) fn count_denied(&mut self, engine: &Engine, denied: Denied) -> Heard {
        self.count(Outcome::Filtered(match denied {
            Denied::Reserved => FilterReason::ReservedTopic,
            Denied::ByPolicy => {
                count_one(&engine.counts.accesses_denied);
                FilterReason::NotAuthorized
            }
        }));
        Heard::Denied(denied)
    }

    fn count_unheard(&mut self) -> Heard {
        self.count(Outcome::Filtered(FilterReason::NoSubscription));
        Heard::ByNobody
    }
}

impl RouteSearch {
    /// The finished search as a route, which the publisher remembers.
    fn remember(
        self,
        engine: &Engine,
        publisher: &str,
        topic: &str,
        cache: &mut RouteCache,
        budget: &mut Budget,
    ) -> Arc<Route> {
        let generation = self.generation();
        let route = self.finish(publisher, budget);
        cache.insert(engine, topic, generation, route)
    }
}

impl Publishing {
    /// A message whose way is not known yet.
    pub(crate) fn new(engine: &Engine, message: Message) -> Publishing {
        let stage = match message.retain() {
            true => Stage::Store,
            false => Stage::Search(Box::new(RouteSearch::new(engine))),
        };
        Publishing { message, stage }
    }

    /// Goes on, as far as the budget allows.
    pub(crate) fn advance(
        mut self,
        batch: &mut Batch,
        engine: &Engine,
        publisher: &str,
        cache: &mut RouteCache,
        now: Timestamp,
        budget: &mut Budget,
    ) -> Published {
        loop {
            self.stage = match self.stage {
                Stage::Store => {
                    if !batch.push_pending(engine, now, budget) {
                        return Published::Later(self);
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
                        return Published::Later(self);
                    }
                    Stage::Append(search.remember(engine, publisher, topic, cache, budget))
                }
                Stage::Append(route) if route.is_empty() => {
                    return Published::Heard(batch.count_unheard());
                }
                Stage::Append(route) => {
                    return batch.append(engine, &route, self.message, now, budget);
                }
            };
        }
    }
}
