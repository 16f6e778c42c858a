//! The state that all Network Connections of one broker share, and its locks.
//!
//! Lock order: the `subscribing` lock of a Session, registry shard, subscription tree, Session, then one of
//! shared subscription, retained messages, wheel, books, reaper, the holder of a Session. The tree and the registry are released before a
//! Session is locked; never two Sessions at once; no lock is held across an await or a system call.

use std::collections::hash_map;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use ahash::RandomState;

use super::access::AccessControl;
use super::announce::Announcer;
use super::registry::Registry;
use super::send_context::Sending;
use super::session_cell::{CellState, SessionCell};
use super::share::Group;
use super::standstill::Standstill;
use super::timers::{Due, TICK_MILLIS, Wheel, tick_of};
use crate::budget::Budget;
use crate::counters::{Counters, Counts, count_one};
use crate::host::Host;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::message::Message;
use crate::retained::Retained;
use crate::session::Subscriptions;
use crate::subscription::Subscription;
use crate::sync::{lock, read, write};
use crate::time::Timestamp;
use crate::topic::TopicFilter;
use crate::topic::tree::Tree;

/// How often the books are read anew because a Session ended meanwhile.
const LEDGER_READS_MAX: usize = 8;

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

/// One broker.
pub(crate) struct Engine {
    pub(crate) limits: Arc<Limits>,
    pub(crate) host: Host,
    pub(crate) access: AccessControl,
    pub(crate) announcer: Announcer,
    pub(crate) hasher: RandomState,
    pub(crate) registry: Registry,
    pub(crate) tree: RwLock<Tree<Subscriber, Arc<Group<SessionCell>>>>,
    /// Counts changes of the tree and of the access rules, each of which makes remembered routes void.
    pub(crate) generation: AtomicU64,
    /// Bytes of all Topic Filters in the tree.
    subscription_bytes: AtomicUsize,
    retained: Mutex<Retained<Message>>,
    /// The tick in which the wheel looks at the retained messages next.
    retained_look: AtomicU64,
    pub(crate) wheel: Wheel<SessionCell>,
    pub(crate) counts: Arc<Counts>,
    /// The books of ended Sessions, and of messages that belong to no Session.
    books: Mutex<Ledger>,
    /// Counts what was added to the books of Sessions that ended.
    sessions_ended: AtomicU64,
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
}

impl Engine {
    pub(crate) fn new(limits: Limits, host: Host, access: AccessControl) -> Engine {
        // Randomly seeded, so that Clients cannot choose keys that collide.
        let hasher = match host.seed() {
            None => RandomState::new(),
            Some(seed) => RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0),
        };
        let seed = hasher.hash_one(0u8);
        Engine {
            host,
            counts: access.counts.clone(),
            access,
            announcer: Announcer::new(),
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
            books: Mutex::new(Ledger::default()),
            sessions_ended: AtomicU64::new(0),
            batches: AtomicU64::new(1),
            assigned: AtomicU64::new(0),
            assigned_keys: hash_map::RandomState::new(),
            reaper: Mutex::default(),
            stopping: AtomicBool::new(false),
            standstill: Standstill::default(),
            limits: Arc::new(limits),
            hasher,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.host.now()
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
        let (retained, access) = (&self.retained, &self.access);
        Sending { retained, access, asker: cell.asker(), budget }
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
            retained
                .set(message.topic(), message.clone(), message.size_bytes(), expires_at)
                .is_err()
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
        let some = retained.after(after).take(count).map(|(_, message)| message);
        let some: Vec<Message> = some.cloned().collect();
        let last = some.last().map(|message| message.topic().into());
        let of_clients = |message: &Message| {
            !message.is_expired(now) && !message.topic_bytes().starts_with(b"$SYS/")
        };
        (some.into_iter().filter(of_clients).collect(), last)
    }

    pub(crate) fn nothing_is_retained(&self) -> bool {
        lock(&self.retained).len() == 0
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
            let expired: Vec<Message> =
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
        let mut tree = write(&self.tree);
        let subscriber = Subscriber { cell: cell.clone(), subscription };
        let new = tree.insert(filter, cell.key, subscriber).is_none();
        if new {
            let all = self.subscription_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
            let limits = &self.limits;
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
        if at == Timestamp::NEVER {
            return;
        }
        let tick = tick_of(at, now);
        if tick < state.next_look {
            state.next_look = tick;
            self.wheel.schedule(tick, Due::Session(Arc::downgrade(cell)));
        }
    }

    // ---- Books -----------------------------------------------------------------------------------

    /// Adds the counts of a batch that belong to no Session.
    pub(crate) fn count(&self, tally: &mut Ledger) {
        if tally.offered > 0 {
            *lock(&self.books) += std::mem::take(tally);
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

    fn read_ledger(&self) -> Ledger {
        let mut sum = *lock(&self.books);
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
        Counters {
            sessions: self.registry.len(),
            subscriptions: read(&self.tree).len(),
            retained_messages,
            retained_bytes,
            ..self.counts.read()
        }
    }

    /// Adds the books of an ended Session. Called with its lock held, so that its messages are counted in exactly one
    /// place at any moment.
    pub(crate) fn inherit_books(&self, ledger: Ledger) {
        *lock(&self.books) += ledger;
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
