//! The state that all Network Connections of one broker share, and its locks.
//!
//! Lock order: the `subscribing` lock of a Session, registry shard, subscription tree, Session, then one of
//! shared subscription, retained messages, wheel, books, reaper, `$SYS` topics, the holder of a Session; the channel of events
//! last. The tree and the registry are released before a Session is locked; never two Sessions at once; no lock is held
//! across an await or a system call.

use std::collections::hash_map;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use ahash::RandomState;

use super::access::AccessControl;
use super::announce::Announcer;
use super::comings::Comings;
use super::registry::Registry;
use super::send_context::{Kept, Sending};
use super::session_cell::{CellState, SessionCell};
use super::share::Group;
use super::standstill::Standstill;
use super::timers::{Due, TICK_MILLIS, Wheel, tick_of};
use super::watch::QueueAlarm;
use crate::budget::Budget;
use crate::counters::{Counters, Counts, count_one};
use crate::host::Host;
use crate::ledger::{DropReason, Drops, Ledger};
use crate::limits::Limits;
use crate::message::Message;
use crate::retained::Retained;
use crate::session::Subscriptions;
use crate::subscription::Subscription;
use crate::sync::{lock, read, write};
use crate::sys_topics::SysTopics;
use crate::time::Timestamp;
use crate::topic::TopicFilter;
use crate::topic::tree::Tree;
use crate::traffic::{Traffic, TrafficCounts};

/// How often the books are read anew because a Session ended meanwhile.
pub(crate) const LEDGER_READS_MAX: usize = 8;

/// Retained messages that expire under one lock.
const EXPIRED_AT_ONCE: usize = 256;

/// A subscription in the tree.
#[derive(Debug, Clone)]
pub(crate) struct Subscriber {
    pub(crate) cell: Arc<SessionCell>,
    pub(crate) subscription: Subscription,
}

/// The subscriptions of a Session that has ended and are still in the tree.
pub(crate) struct Ended {
    pub(crate) key: u64,
    pub(crate) subscriptions: <Subscriptions as IntoIterator>::IntoIter,
}

/// The books of ended Sessions, and of messages that belong to no Session.
#[derive(Default)]
pub(super) struct Books {
    pub(super) all: Ledger,
    /// The drops among them that were told while their Session lasted, or since.
    told: Drops,
}

/// One broker.
pub(crate) struct Engine {
    limits: RwLock<Arc<Limits>>,
    pub(crate) host: Host,
    pub(crate) access: AccessControl,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) comings: Comings,
    pub(super) queue_alarm: QueueAlarm,
    pub(crate) hasher: RandomState,
    pub(crate) registry: Registry,
    pub(crate) tree: RwLock<Tree<Subscriber, Arc<Group<SessionCell>>>>,
    /// Counts changes of the tree and of the access rules, each of which makes remembered routes void.
    pub(crate) generation: AtomicU64,
    /// Bytes of all Topic Filters in the tree.
    pub(super) subscription_bytes: AtomicUsize,
    pub(super) retained: Mutex<Retained<Kept>>,
    /// The tick in which the wheel looks at the retained messages next.
    retained_look: AtomicU64,
    pub(crate) wheel: Wheel<SessionCell>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) traffic: TrafficCounts,
    /// The books of ended Sessions, and of messages that belong to no Session.
    pub(super) books: Mutex<Books>,
    /// Held while a receiver of events is made.
    pub(super) listening: Mutex<()>,
    /// The shard of the registry whose Sessions are asked next for what they dropped.
    pub(super) drops_shard: AtomicUsize,
    /// Counts what was added to the books of Sessions that ended.
    pub(super) sessions_ended: AtomicU64,
    /// Numbers publishers' batches.
    batches: AtomicU64,
    /// Numbers assigned Client Identifiers.
    assigned: AtomicU64,
    /// The key that hashes these numbers to Client Identifiers, so that none can be guessed from another.
    assigned_keys: hash_map::RandomState,
    /// The subscriptions that are to be removed from the tree in later turns, and whether the reaper task runs.
    pub(crate) reaper: Mutex<(Vec<Ended>, bool)>,
    pub(crate) stopping: AtomicBool,
    pub(crate) standstill: Standstill,
    /// When the broker was made.
    pub(super) began: Timestamp,
    pub(super) sys: Mutex<SysTopics>,
    /// The tick in which the wheel looks whether to publish them next.
    pub(super) sys_look: AtomicU64,
}

impl Engine {
    pub(crate) fn new(limits: Limits, host: Host, access: AccessControl) -> Engine {
        // Randomly seeded, so that Clients cannot choose keys that collide.
        let hasher = match host.seed() {
            None => RandomState::new(),
            Some(seed) => RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0),
        };
        let seed = hasher.hash_one(0u8);
        let announcer = Arc::new(Announcer::new(host.wall_clock()));
        Engine {
            began: host.now(),
            host,
            counts: access.counts.clone(),
            traffic: TrafficCounts::default(),
            queue_alarm: QueueAlarm::new(&limits, &announcer, &access.counts),
            access: access.announcing(&announcer),
            comings: Comings::new(&announcer),
            announcer,
            registry: Registry::new(&hasher),
            tree: RwLock::new(Tree::new(seed)),
            generation: AtomicU64::new(1),
            subscription_bytes: AtomicUsize::new(0),
            retained: Mutex::new(Retained::new(
                limits.retained_messages_max,
                limits.retained_bytes_max,
            )),
            retained_look: AtomicU64::new(u64::MAX),
            wheel: Wheel::default(),
            books: Mutex::default(),
            listening: Mutex::default(),
            drops_shard: AtomicUsize::new(0),
            sessions_ended: AtomicU64::new(0),
            batches: AtomicU64::new(1),
            assigned: AtomicU64::new(0),
            assigned_keys: hash_map::RandomState::new(),
            reaper: Mutex::default(),
            stopping: AtomicBool::new(false),
            standstill: Standstill::default(),
            sys: Mutex::default(),
            sys_look: AtomicU64::new(u64::MAX),
            limits: RwLock::new(Arc::new(limits)),
            hasher,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.host.now()
    }

    /// The limits in force. A Network Connection keeps those that it began with.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        read(&self.limits).clone()
    }

    /// Puts other limits in force.
    pub(crate) fn set_limits(&self, limits: Limits) {
        lock(&self.retained).set_bounds(limits.retained_messages_max, limits.retained_bytes_max);
        self.queue_alarm.set_limits(&limits);
        *write(&self.limits) = Arc::new(limits);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn next_batch(&self) -> u64 {
        self.batches.fetch_add(1, Ordering::Relaxed)
    }

    /// The context of a Session that sends.
    pub(crate) fn sending<'a>(
        &'a self,
        cell: &'a SessionCell,
        budget: &'a mut Budget,
    ) -> Sending<'a> {
        let (retained, access, traffic) = (&self.retained, &self.access, &self.traffic);
        Sending { retained, access, traffic, asker: cell.asker(), budget }
    }

    /// An identifier for a Client that brings none, which no Session has (MQTT-3.2.2-16). It cannot be guessed from
    /// other identifiers.
    pub(crate) fn assign_client_id(&self) -> String {
        loop {
            let number = self.assigned.fetch_add(1, Ordering::Relaxed);
            let name = match self.host.seed() {
                None => self.assigned_keys.hash_one(number),
                Some(_) => self.hasher.hash_one(number),
            };
            let id = format!("auto-{name:016x}");
            if !self.registry.has(&id) {
                return id;
            }
        }
    }

    // ---- Retained messages -----------------------------------------------------------------------

    /// Stores a message published with RETAIN; one with an empty payload removes the retained message
    /// (MQTT-3.3.1-5, -6, -7).
    pub(crate) fn retain(&self, message: &Message, now: Timestamp) {
        let expires_at = Some(message.expires_at()).filter(|&at| at != Timestamp::NEVER);
        let refused = {
            let mut retained = lock(&self.retained);
            if message.payload().is_empty() {
                retained.clear(message.topic());
                return;
            }
            if retained.next_expiry().is_some_and(|at| at <= now) {
                retained.expire(now).take(EXPIRED_AT_ONCE).for_each(drop);
            }
            let kept = Kept { message: message.clone(), since: now };
            retained.set(message.topic(), kept, message.size_bytes(), expires_at).is_err()
        };
        if refused {
            count_one(&self.counts.retained_refused);
        } else if expires_at.is_some() {
            self.watch_retained(now);
        }
    }

    /// Some retained messages after a Topic Name, in order, without those that have expired and those of the Server
    /// itself, below `$SYS`; and the Topic Name after which others may come.
    pub(crate) fn retained_after(
        &self,
        after: Option<&str>,
        count: usize,
        now: Timestamp,
    ) -> (Vec<Message>, Option<Box<str>>) {
        let retained = lock(&self.retained);
        let some = retained.after(after).take(count).map(|(_, kept)| kept.message.clone());
        let some: Vec<Message> = some.collect();
        let last = some.last().map(|message| message.topic().into());
        let of_clients = |message: &Message| {
            !message.is_expired(now) && !message.topic_bytes().starts_with(b"$SYS/")
        };
        (some.into_iter().filter(of_clients).collect(), last)
    }

    pub(crate) fn nothing_is_retained(&self) -> bool {
        lock(&self.retained).is_empty()
    }

    /// Stores a message of the Server itself, beyond the bounds and for nothing in them.
    pub(super) fn keep(&self, message: &Message, now: Timestamp) {
        let kept = Kept { message: message.clone(), since: now };
        lock(&self.retained).keep(message.topic(), kept);
    }

    /// Removes a message that [`Engine::keep`] stored.
    pub(super) fn forget(&self, topic: &str) {
        lock(&self.retained).clear(topic);
    }

    /// Removes retained messages that have expired, as far as the budget allows; the wheel looks again for the
    /// rest.
    pub(crate) fn expire_retained(&self, now: Timestamp, budget: &mut Budget) {
        if self.retained_look.load(Ordering::Acquire) > now.0 / TICK_MILLIS {
            return; // planned before a sooner look was: one that counts is to come
        }
        self.retained_look.store(u64::MAX, Ordering::Release);
        loop {
            // Dropped after the lock is released: freeing many messages takes time.
            let expired: Vec<Kept> =
                lock(&self.retained).expire(now).take(EXPIRED_AT_ONCE).collect();
            budget.spend(expired.len() * 2);
            if expired.len() < EXPIRED_AT_ONCE || budget.is_spent() {
                break;
            }
        }
        self.watch_retained(now);
    }

    /// Has the wheel look at the retained messages when the first of them expires.
    fn watch_retained(&self, now: Timestamp) {
        let Some(at) = lock(&self.retained).next_expiry() else { return };
        let tick = tick_of(at, now);
        if self.retained_look.fetch_min(tick, Ordering::AcqRel) > tick {
            self.wheel.schedule(tick, Due::Retained);
        }
    }

    // ---- Subscriptions ---------------------------------------------------------------------------

    /// Adds a subscription to the tree, and returns the shared subscription that it belongs to, if any.
    /// `None` if `subscriptions_max` or `subscription_bytes_max` is reached.
    pub(crate) fn add_to_tree(
        &self,
        cell: &Arc<SessionCell>,
        filter: &TopicFilter,
        subscription: Subscription,
    ) -> Option<Option<Arc<Group<SessionCell>>>> {
        let bytes = filter.as_str().len();
        let limits = self.limits();
        let mut tree = write(&self.tree);
        let subscriber = Subscriber { cell: cell.clone(), subscription };
        let new = tree.insert(filter, cell.key, subscriber).is_none();
        if new {
            let all = self.subscription_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if tree.len() > limits.subscriptions_max || all > limits.subscription_bytes_max {
                self.subscription_bytes.fetch_sub(bytes, Ordering::Relaxed);
                tree.remove(filter, cell.key);
                return None;
            }
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        Some(if filter.is_shared() { tree.group(filter).cloned() } else { None })
    }

    /// Adds a subscription that another broker has granted, beyond the bounds, and returns the shared subscription that
    /// it belongs to.
    pub(crate) fn import_to_tree(
        &self,
        cell: &Arc<SessionCell>,
        filter: &TopicFilter,
        subscription: Subscription,
    ) -> Option<Arc<Group<SessionCell>>> {
        let mut tree = write(&self.tree);
        let subscriber = Subscriber { cell: cell.clone(), subscription };
        if tree.insert(filter, cell.key, subscriber).is_none() {
            self.subscription_bytes.fetch_add(filter.as_str().len(), Ordering::Relaxed);
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        if filter.is_shared() { tree.group(filter).cloned() } else { None }
    }

    /// The shared subscription of a Topic Filter, if it has members.
    pub(crate) fn group_of(&self, filter: &TopicFilter) -> Option<Arc<Group<SessionCell>>> {
        write(&self.tree).group(filter).cloned()
    }

    /// Removes a subscription from the tree, and returns the shared subscription that it belongs to.
    pub(crate) fn remove_from_tree(
        &self,
        key: u64,
        filter: &TopicFilter,
    ) -> Option<Arc<Group<SessionCell>>> {
        let mut tree = write(&self.tree);
        let group = if filter.is_shared() { tree.group(filter).cloned() } else { None };
        // Cached routes stay valid if nothing changed: a Client cannot discard the caches of other publishers.
        if tree.remove(filter, key).is_some() {
            self.subscription_bytes.fetch_sub(filter.as_str().len(), Ordering::Relaxed);
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        group
    }

    // ---- Time ------------------------------------------------------------------------------------

    /// Has the wheel look at a Session when its next deadline is due.
    pub(crate) fn watch_expiry(
        &self,
        cell: &Arc<SessionCell>,
        state: &mut CellState,
        now: Timestamp,
    ) {
        let at = state.session.next_deadline();
        if at != Timestamp::NEVER {
            self.look_at(cell, state, at, now);
        }
    }

    fn look_at(
        &self,
        cell: &Arc<SessionCell>,
        state: &mut CellState,
        at: Timestamp,
        now: Timestamp,
    ) {
        let tick = tick_of(at, now);
        if tick < state.next_look {
            state.next_look = tick;
            self.wheel.schedule(tick, Due::Session(Arc::downgrade(cell)));
        }
    }

    /// Marks a queue that has become long, and has the wheel look at it.
    #[inline]
    pub(super) fn watch_queue(
        &self,
        cell: &Arc<SessionCell>,
        state: &mut CellState,
        now: Timestamp,
    ) {
        if self.queue_alarm.is_long(state.session.filling()) {
            self.mark_queue(cell, state, now);
        }
    }

    #[cold]
    fn mark_queue(&self, cell: &Arc<SessionCell>, state: &mut CellState, now: Timestamp) {
        if state.mark().is_none() {
            let mark = self.queue_alarm.mark(state.session.waiting_len(), now);
            state.set_mark(mark);
            self.look_at(cell, state, mark.look_at, now);
        }
    }

    /// Looks at a marked queue.
    pub(super) fn look_at_queue(
        &self,
        cell: &Arc<SessionCell>,
        state: &mut CellState,
        now: Timestamp,
    ) {
        let Some(mark) = state.mark() else { return };
        let filling = state.session.filling();
        match self.queue_alarm.look(&cell.client_id, mark, filling, now) {
            None => drop(state.end_mark()),
            Some(mark) => {
                state.set_mark(mark);
                self.look_at(cell, state, mark.look_at, now);
            }
        }
    }

    // ---- Books -----------------------------------------------------------------------------------

    /// Adds the counts of a batch that belong to no Session.
    pub(crate) fn count(&self, tally: &mut Ledger) {
        if tally.offered > 0 {
            lock(&self.books).all += std::mem::take(tally);
        }
    }

    /// The books of the broker: those of its Sessions, of ended Sessions, and of messages that belong to no Session.
    pub(crate) fn ledger(&self) -> Ledger {
        // A Session that ends while they are read would be counted twice or not at all; then they are read again.
        for _ in 0..LEDGER_READS_MAX {
            let ended = self.sessions_ended.load(Ordering::Acquire);
            let sum = self.read_ledger();
            if self.sessions_ended.load(Ordering::Acquire) == ended {
                return sum;
            }
        }
        self.read_ledger()
    }

    /// The books that belong to no living Session, and how many Sessions have given theirs to them.
    pub(crate) fn ended_books(&self) -> (Ledger, u64) {
        let ended = self.sessions_ended.load(Ordering::Acquire);
        (lock(&self.books).all, ended)
    }

    /// Tells the drops of messages that belong to no Session and are not told yet, by reason.
    pub(super) fn note_drops_of_none(&self, tell: impl FnMut(DropReason, u64)) {
        let mut books = lock(&self.books);
        let Books { all, told } = &mut *books;
        all.tell_drops(told, tell);
    }

    fn read_ledger(&self) -> Ledger {
        let mut sum = lock(&self.books).all;
        for cell in self.registry.snapshot() {
            let state = cell.lock();
            if !state.session.has_ended() {
                sum += state.session.ledger();
            }
        }
        sum
    }

    /// What the broker holds now, and how often each limit refused something.
    pub(crate) fn counters(&self) -> Counters {
        let (retained_messages, retained_bytes) = {
            let retained = lock(&self.retained);
            (retained.len(), retained.bytes())
        };
        let (subscriptions, shared_subscriptions) = {
            let tree = read(&self.tree);
            (tree.len(), tree.shared_len())
        };
        Counters {
            sessions: self.registry.len(),
            subscriptions,
            shared_subscriptions,
            retained_messages,
            retained_bytes,
            ..self.counts.read()
        }
    }

    /// What the broker has moved.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic.read(self.registry.most())
    }

    /// Adds the books of an ended Session. Called with its lock held, so that its messages are counted in exactly one
    /// place at any moment.
    pub(crate) fn inherit_books(&self, ledger: Ledger) {
        let mut books = lock(&self.books);
        books.all += ledger;
        ledger.tell_drops(&mut Drops::default(), |reason, messages| {
            books.told[reason as usize] += messages;
        });
        drop(books);
        self.sessions_ended.fetch_add(1, Ordering::Release);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that lives long, and many that live for a second: few looks are planned at any moment.
    #[test]
    fn what_expires_soon_again_and_again_leaves_few_looks_pitfall_15() {
        let engine = Engine::new(Limits::default(), Host::stock(None), AccessControl::default());
        let retain = |topic: &str, secs, now| {
            let message = Message::new(topic, "x").unwrap().with_expiry_secs(secs);
            engine.retain(&message.accepted_at(now), now);
        };
        retain("long", 86_400, Timestamp(0));
        for now in (0..3_600_000).step_by(1_000).map(Timestamp) {
            retain("short", 1, now);
            for due in engine.wheel.take_due(now) {
                assert!(matches!(due, Due::Retained));
                engine.expire_retained(now, &mut Budget::of_a_turn());
            }
        }
        assert!(engine.wheel.len() < 300, "{}", engine.wheel.len());
    }
}
