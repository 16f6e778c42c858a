//! The way of a PUBLISH from one publisher to everybody who wants it: match, push, wake once per batch.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use ahash::RandomState;
use bytes::Bytes;
use hashbrown::HashMap;

use super::authorize::{Access, Decision, authorize};
use super::shared::{Entry, Shared};
use super::slot::{Slot, SlotState};
use super::{lock, read};
use crate::ledger::{DropReason, FilterReason, Ledger, Outcome};
use crate::message::Message;
use crate::packet::{PublishProperties, QoS};
use crate::session::Offered;
use crate::session::outgoing::Outgoing;
use crate::session::queue::Delivery;
use crate::subscription::{ShareGroup, Subscription, Wanted};
use crate::time::Timestamp;
use crate::topic::tree::Match;

/// Topic Names whose routes a publisher remembers at the most.
const ROUTES_MAX: usize = 64;

/// Targets of a route that is remembered beside the last one at the most: a publisher's memory is bounded
/// by this and [`ROUTES_MAX`].
const ROUTE_TARGETS_MAX: usize = 1_024;

/// Subscribers written to straight from a publisher's task after one batch; the others are woken, so that a
/// fan-out to thousands does not hold the publisher's worker.
const INLINE_FLUSHES_MAX: usize = 64;

/// One Session that a message goes to.
#[derive(Debug)]
struct Target {
    slot: Arc<Slot>,
    wanted: Wanted,
}

/// A shared subscription: the message goes to one of its members.
#[derive(Debug)]
struct Share {
    group: Arc<ShareGroup>,
    members: Vec<Target>,
}

/// Where the messages of one publisher with one Topic Name go, while subscriptions stay as they are.
#[derive(Debug, Default)]
struct Route {
    targets: Vec<Target>,
    shares: Vec<Share>,
    /// Sessions that matched and asked for No Local.
    no_local: u64,
}

impl Route {
    fn targets_len(&self) -> usize {
        self.targets.len() + self.shares.iter().map(|share| share.members.len()).sum::<usize>()
    }

    /// Sessions and shared subscriptions that get a message.
    fn matched(&self) -> u64 {
        (self.targets.len() + self.shares.len()) as u64
    }

    fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.shares.is_empty() && self.no_local == 0
    }
}

type Routes = HashMap<Box<str>, Arc<Route>, RandomState>;

/// The routes that one publisher used last, valid for one generation of the subscription tree.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    generation: u64,
    routes: Option<Box<Routes>>,
    last: Option<(Box<str>, Arc<Route>)>,
}

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

/// Messages that go the same way wait for one another up to this number, and are pushed together: each lock
/// is taken once for all of them, which matters where two workers publish to one Session.
const RUN_MAX: usize = 256;

/// Messages that came one behind the other and go the same way.
#[derive(Debug, Default)]
struct Run {
    route: Option<Arc<Route>>,
    messages: Vec<Message>,
}

/// Who hears a message that came over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    BySomebody,
    ByNobody,
    /// A Client may not publish there.
    Reserved,
}

/// What routing a message came to, for its publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Routed {
    /// Sessions and shared subscriptions that matched.
    pub(crate) matched: u64,
    /// Of these, where the message waits now.
    pub(crate) accepted: u64,
    /// A Client may not publish there.
    pub(crate) reserved: bool,
}

/// One publisher's batch: what it touched and has to flush, and what it counted by itself.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    id: u64,
    run: Run,
    touched: Vec<Arc<Slot>>,
    pressed: bool,
    /// Offers that no Session has in its books.
    tally: Ledger,
}

impl Batch {
    /// Routes one message: the retained one first (so that no new subscription misses it), then everybody
    /// who matches. It is pushed with others of its [`Run`], at the latest by [`Batch::flush`].
    pub(crate) fn route(
        &mut self,
        shared: &Shared,
        publisher: &str,
        cache: &mut RouteCache,
        arriving: Arriving<'_>,
        now: Timestamp,
    ) -> Heard {
        if authorize(Access::Publish(arriving.topic), false) == Decision::Reserved {
            self.count(Outcome::Filtered(FilterReason::ReservedTopic));
            return Heard::Reserved;
        }
        let retained = arriving.retain.then(|| arriving.to_message(now));
        if let Some(message) = &retained {
            shared.retain(message, now);
        }
        let route = cache.route(shared, publisher, arriving.topic);
        if route.is_empty() {
            self.count(Outcome::Filtered(FilterReason::NoSubscription));
            return Heard::ByNobody;
        }
        let message = retained.unwrap_or_else(|| arriving.to_message(now));
        let heard = if route.matched() > 0 { Heard::BySomebody } else { Heard::ByNobody };
        self.append(shared, route, message, now);
        heard
    }

    /// Adds a message to the run, or ends the run and begins one with it.
    fn append(&mut self, shared: &Shared, route: &Arc<Route>, message: Message, now: Timestamp) {
        let same = self.run.route.as_ref().is_some_and(|present| Arc::ptr_eq(present, route));
        if !same {
            self.settle(shared, now);
            self.run.route = Some(route.clone());
        }
        self.run.messages.push(message);
        if self.run.messages.len() >= RUN_MAX.min(shared.limits.max_queue_depth / 4) {
            self.settle(shared, now);
        }
    }

    /// Pushes the messages of the run. What follows in the same batch and could change who gets them, or
    /// what they meet, comes after this.
    pub(crate) fn settle(&mut self, shared: &Shared, now: Timestamp) {
        let Some(route) = self.run.route.take() else { return };
        let mut messages = std::mem::take(&mut self.run.messages);
        self.count_no_local(&route, messages.len());
        for share in &route.shares {
            for message in &messages {
                self.offer_share(shared, &share.group, &share.members, message, now);
            }
        }
        if let Some((last, others)) = route.targets.split_last() {
            for target in others {
                self.push(shared, target, messages.iter().cloned(), now);
            }
            self.push(shared, last, messages.drain(..), now);
        }
        messages.clear();
        self.run.messages = messages;
    }

    /// Offers messages to one Session under one lock.
    fn push(
        &mut self,
        shared: &Shared,
        target: &Target,
        messages: impl Iterator<Item = Message>,
        now: Timestamp,
    ) {
        let mut state = target.slot.lock();
        for message in messages {
            let delivery = target.delivery(message, None);
            let accepted;
            (state, accepted) = self.offer_locked(shared, &target.slot, state, delivery, now);
            if accepted.is_none() {
                self.count(Outcome::Dropped(DropReason::SessionEnded));
            }
        }
    }

    /// Routes a message that is one already: a Will, or one from inside the process.
    pub(crate) fn route_message(
        &mut self,
        shared: &Shared,
        publisher: &str,
        in_process: bool,
        message: Message,
        now: Timestamp,
    ) -> Routed {
        if authorize(Access::Publish(message.topic()), in_process) == Decision::Reserved {
            self.count(Outcome::Filtered(FilterReason::ReservedTopic));
            return Routed { reserved: true, ..Routed::default() };
        }
        let message = message.accepted_at(now);
        if message.retain() {
            shared.retain(&message, now);
        }
        let route = resolve(shared, publisher, message.topic());
        if route.is_empty() {
            self.count(Outcome::Filtered(FilterReason::NoSubscription));
            return Routed::default();
        }
        self.send(shared, &route, &message, now)
    }

    fn send(
        &mut self,
        shared: &Shared,
        route: &Route,
        message: &Message,
        now: Timestamp,
    ) -> Routed {
        self.count_no_local(route, 1);
        let mut routed = Routed { matched: route.matched(), ..Routed::default() };
        for target in &route.targets {
            let accepted =
                self.offer(shared, &target.slot, target.delivery(message.clone(), None), now);
            routed.accepted += u64::from(accepted);
        }
        for share in &route.shares {
            let accepted = self.offer_share(shared, &share.group, &share.members, message, now);
            routed.accepted += u64::from(accepted);
        }
        routed
    }

    /// Offers a message to one Session. Returns whether the message waits there.
    fn offer(
        &mut self,
        shared: &Shared,
        slot: &Arc<Slot>,
        delivery: Delivery,
        now: Timestamp,
    ) -> bool {
        self.offer_unless_ended(shared, slot, delivery, now).unwrap_or_else(|| {
            self.count(Outcome::Dropped(DropReason::SessionEnded));
            false
        })
    }

    /// Offers a message to one Session; a full queue is flushed once before the newest is thrown away.
    /// Returns whether the message waits there; `None`, with nothing counted, if the Session has ended.
    fn offer_unless_ended(
        &mut self,
        shared: &Shared,
        slot: &Arc<Slot>,
        delivery: Delivery,
        now: Timestamp,
    ) -> Option<bool> {
        self.offer_locked(shared, slot, slot.lock(), delivery, now).1
    }

    /// As [`Batch::offer_unless_ended`], under a lock that the caller has and gets back.
    fn offer_locked<'a>(
        &mut self,
        shared: &Shared,
        slot: &'a Arc<Slot>,
        mut state: MutexGuard<'a, SlotState>,
        delivery: Delivery,
        now: Timestamp,
    ) -> (MutexGuard<'a, SlotState>, Option<bool>) {
        let access = Access::Receive(delivery.message.topic_bytes());
        if authorize(access, slot.in_process) != Decision::Allow {
            state.session.count_filtered(Outcome::Filtered(FilterReason::NotAuthorized));
            return (state, Some(false));
        }
        let mut offered = state.session.offer(delivery, now);
        if let Offered::Full(refused) = offered {
            drop(state);
            slot.make_room(now, &mut Outgoing::default(), &mut shared.retained_lock());
            state = slot.lock();
            offered = state.session.offer_again(refused, now);
        }
        if state.touched != self.id {
            state.touched = self.id;
            self.touched.push(slot.clone());
        }
        let accepted = match offered {
            Offered::Waiting { pressed } => {
                self.pressed |= pressed;
                shared.watch_expiry(slot, &mut state, now);
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

    /// Offers a message to the members of a shared subscription in turn: those who are connected first,
    /// and who have room and can take it; then those who are away.
    fn offer_share(
        &mut self,
        shared: &Shared,
        group: &Arc<ShareGroup>,
        members: &[Target],
        message: &Message,
        now: Timestamp,
    ) -> bool {
        let order: Vec<usize> = group.pick(members.len()).collect();
        let connected = order.iter().filter(|&&index| members[index].slot.is_connected());
        for &index in connected.clone() {
            let target = &members[index];
            let delivery = target.delivery(message.clone(), Some(group.clone()));
            let mut state = target.slot.lock();
            if state.session.takes_now(&delivery, now) {
                drop(state);
                match self.offer_unless_ended(shared, &target.slot, delivery, now) {
                    Some(accepted) => return accepted,
                    None => continue,
                }
            }
            state.session.expire_messages(now);
        }
        // Nobody has room: the one whose turn it is gives the message its outcome.
        let turn = connected.chain(&order).next();
        let Some(target) = turn.map(|&index| &members[index]) else { return false };
        self.offer(shared, &target.slot, target.delivery(message.clone(), Some(group.clone())), now)
    }

    /// Gives what an ended member of a shared subscription held to another one.
    pub(crate) fn hand_on(&mut self, shared: &Shared, deliveries: Vec<Delivery>, now: Timestamp) {
        for delivery in deliveries {
            let route = resolve(shared, "", delivery.message.topic());
            let share = route.shares.iter().find(|share| {
                delivery.shared.as_ref().is_some_and(|group| Arc::ptr_eq(group, &share.group))
            });
            match share {
                Some(Share { group, members }) => {
                    self.offer_share(shared, group, members, &delivery.message, now);
                }
                None => self.count(Outcome::Dropped(DropReason::SessionEnded)),
            }
        }
    }

    /// Whether a queue is half full that was touched: the batch is to be ended, so that `max_queue_depth`
    /// means that a Client is slow and never that we batch.
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Writes or wakes everybody once who was touched. Returns whether somebody who is not slow is half
    /// full all the same: then the publisher should yield once before it goes on.
    pub(crate) fn flush(&mut self, shared: &Shared, out: &mut Outgoing, now: Timestamp) -> bool {
        self.settle(shared, now);
        let pressed = std::mem::take(&mut self.pressed);
        let mut waits = false;
        for (index, slot) in self.touched.iter().enumerate() {
            if index < INLINE_FLUSHES_MAX {
                slot.flush_or_wake(now, out, &mut shared.retained_lock());
            } else {
                slot.lock().wake();
            }
            if pressed {
                waits |= slot.lock().session.is_pressed();
            }
        }
        self.touched.clear();
        self.begin(shared);
        shared.count(&mut self.tally);
        waits
    }

    /// Gives the batch an identity, by which a Session knows that it has touched it.
    pub(crate) fn begin(&mut self, shared: &Shared) {
        self.id = shared.batches.fetch_add(1, Ordering::Relaxed);
    }

    fn count_no_local(&mut self, route: &Route, messages: usize) {
        for _ in 0..route.no_local * messages as u64 {
            self.count(Outcome::Filtered(FilterReason::NoLocal));
        }
    }

    fn count(&mut self, outcome: Outcome) {
        self.tally.offer();
        self.tally.end(outcome);
    }
}

impl Target {
    fn delivery(&self, message: Message, shared: Option<Arc<ShareGroup>>) -> Delivery {
        Delivery {
            qos: self.wanted.delivery_qos(message.qos()),
            retain: self.wanted.delivery_retain(message.retain()),
            ids: self.wanted.ids.clone(),
            message,
            shared,
        }
    }
}

impl RouteCache {
    fn route(&mut self, shared: &Shared, publisher: &str, topic: &str) -> &Arc<Route> {
        let generation = shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.routes = None;
            self.last = None;
        }
        let last = self.last.take().filter(|(last, _)| **last == *topic);
        let last = last.unwrap_or_else(|| (topic.into(), self.other(shared, publisher, topic)));
        &self.last.insert(last).1
    }

    /// The route of a Topic Name that is not the last one.
    fn other(&mut self, shared: &Shared, publisher: &str, topic: &str) -> Arc<Route> {
        let routes = self
            .routes
            .get_or_insert_with(|| Box::new(HashMap::with_hasher(shared.hasher.clone())));
        if let Some(route) = routes.get(topic) {
            return route.clone();
        }
        let route = Arc::new(resolve(shared, publisher, topic));
        if routes.len() >= ROUTES_MAX {
            routes.clear();
        }
        if route.targets_len() <= ROUTE_TARGETS_MAX {
            routes.insert(topic.into(), route.clone());
        }
        route
    }
}

/// Asks the tree, and merges what belongs to one Session (MQTT-3.3.4-2, -4).
fn resolve(shared: &Shared, publisher: &str, topic: &str) -> Route {
    let mut route = Route::default();
    let mut found: Vec<(u64, Arc<Slot>, Subscription)> = Vec::new();
    {
        let tree = read(&shared.tree);
        tree.for_each_match(topic, &mut |matching| match matching {
            Match::Subscription { subscriber, value: Entry { slot, subscription } } => {
                found.push((subscriber, slot.clone(), *subscription));
            }
            Match::Shared { group, members } => {
                let target = |(_, entry): &(u64, Entry)| entry.as_target();
                let members = members.iter().filter_map(target).collect();
                route.shares.push(Share { group: group.clone(), members });
            }
        });
    }
    found.sort_by_key(|(subscriber, ..)| *subscriber);
    for matching in found.chunk_by(|(a, ..), (b, ..)| a == b) {
        let Some((_, slot, _)) = matching.first() else { continue };
        // MQTT-3.8.3-3: not to a connection with the Client Identifier of the publisher.
        let own = *slot.client_id == *publisher;
        let counts = |subscription: &Subscription| !(own && subscription.options.no_local);
        let wanted = match matching {
            [(.., only)] if counts(only) => Wanted::merge(std::slice::from_ref(only)),
            _ => {
                let all = matching.iter().map(|(.., subscription)| *subscription);
                Wanted::merge(&all.filter(counts).collect::<Vec<_>>())
            }
        };
        match wanted {
            Some(wanted) => route.targets.push(Target { slot: slot.clone(), wanted }),
            None => route.no_local += 1,
        }
    }
    route
}

impl Entry {
    fn as_target(&self) -> Option<Target> {
        let wanted = Wanted::merge(&[self.subscription])?;
        Some(Target { slot: self.slot.clone(), wanted })
    }
}

/// Counts what a batch had to count by itself.
pub(crate) fn settle(books: &std::sync::Mutex<Ledger>, tally: &mut Ledger) {
    if tally.offered > 0 {
        *lock(books) += std::mem::take(tally);
    }
}
