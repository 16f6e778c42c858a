//! What all Network Connections of one broker share: the locks and what they guard.
//!
//! Lock order: a slot's `subscribing`, registry shard, subscription tree, slot, then one of retained,
//! wheel, books, listeners. The tree and the registry are released before a slot is locked; never two
//! slots at once; no lock is held across an await or a system call.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use ahash::RandomState;

use super::fanout::{self, Batch};
use super::listener::Listeners;
use super::registry::Registry;
use super::retained_lock::RetainedLock;
use super::slot::{Slot, SlotState};
use super::wheel::{Due, TICK_MILLIS, Wheel, tick_of};
use super::{lock, write};
use crate::ledger::{Counters, Ledger};
use crate::limits::Limits;
use crate::message::Message;
use crate::retained::Retained;
use crate::runtime::{self, Clock, EventLoops};
use crate::session::outgoing::Outgoing;
use crate::subscription::{ShareGroup, Subscription};
use crate::time::Timestamp;
use crate::topic::TopicFilter;
use crate::topic::tree::Tree;

/// How often the books are read anew because a Session ended meanwhile.
const LEDGER_READS_MAX: usize = 8;

/// A subscription in the tree.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) slot: Arc<Slot>,
    pub(crate) subscription: Subscription,
}

/// Times that a limit refused something, and what is there now; see [`Counters`].
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicUsize,
    pub(crate) unauthenticated_bytes: AtomicUsize,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) sessions_refused: AtomicU64,
    pub(crate) subscriptions_refused: AtomicU64,
    pub(crate) retained_refused: AtomicU64,
    pub(crate) topics_refused: AtomicU64,
    pub(crate) packets_too_large: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) handshakes_timed_out: AtomicU64,
    pub(crate) connects_timed_out: AtomicU64,
    pub(crate) packets_timed_out: AtomicU64,
    pub(crate) writes_stalled: AtomicU64,
    pub(crate) keep_alives_timed_out: AtomicU64,
    pub(crate) unauthenticated_bytes_refused: AtomicU64,
    pub(crate) receive_maximum_exceeded: AtomicU64,
    pub(crate) malformed_packets: AtomicU64,
    pub(crate) protocol_errors: AtomicU64,
    pub(crate) handshakes_waited: AtomicU64,
}

/// Counts one.
pub(crate) fn count_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One broker.
pub(crate) struct Shared {
    pub(crate) limits: Arc<Limits>,
    pub(crate) clock: Clock,
    pub(crate) hasher: RandomState,
    pub(crate) registry: Registry,
    pub(crate) tree: RwLock<Tree<Entry, Arc<ShareGroup>>>,
    /// Counts changes of the tree.
    pub(crate) generation: AtomicU64,
    retained: Mutex<Retained<Message>>,
    /// The tick in which the wheel looks at them next.
    retained_look: AtomicU64,
    pub(crate) wheel: Wheel,
    pub(crate) counts: Counts,
    /// What no living Session has in its own books.
    books: Mutex<Ledger>,
    /// Counts what was added to the books of Sessions that ended.
    sessions_ended: AtomicU64,
    /// Numbers publishers' batches.
    pub(crate) batches: AtomicU64,
    /// Numbers assigned Client Identifiers.
    pub(crate) assigned: AtomicU64,
    pub(crate) listeners: Listeners,
    pub(crate) stopping: AtomicBool,
    /// Where the tasks of listeners and Network Connections run, if not on the global executor.
    event_loops: Option<EventLoops>,
}

impl Shared {
    pub(crate) fn new(limits: Limits, event_loops: Option<EventLoops>) -> Shared {
        // Randomly seeded, so that Clients cannot choose keys that collide.
        let hasher = RandomState::new();
        let seed = hasher.hash_one(0u8);
        Shared {
            clock: Clock::new(),
            registry: Registry::new(&hasher),
            tree: RwLock::new(Tree::new(seed)),
            generation: AtomicU64::new(1),
            retained: Mutex::new(Retained::new(
                limits.retained_messages_max,
                limits.retained_bytes_max,
            )),
            retained_look: AtomicU64::new(u64::MAX),
            wheel: Wheel::default(),
            counts: Counts::default(),
            books: Mutex::new(Ledger::default()),
            sessions_ended: AtomicU64::new(0),
            batches: AtomicU64::new(1),
            assigned: AtomicU64::new(hasher.hash_one(1u8)),
            listeners: Listeners::default(),
            stopping: AtomicBool::new(false),
            event_loops,
            limits: Arc::new(limits),
            hasher,
        }
    }

    /// Runs the task of one listener or of one Network Connection.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.event_loops {
            Some(loops) => loops.spawn(task),
            None => runtime::spawn(task),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn retained_lock(&self) -> RetainedLock<'_> {
        RetainedLock(&self.retained)
    }

    // ---- Retained messages -----------------------------------------------------------------------

    /// Stores a message published with RETAIN, or with an empty payload removes what is there
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
                retained.expire(now).for_each(drop);
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

    fn expire_retained(&self, now: Timestamp) {
        if self.retained_look.load(Ordering::Acquire) > now.0 / TICK_MILLIS {
            return; // planned before a sooner look was: one that counts is to come
        }
        self.retained_look.store(u64::MAX, Ordering::Release);
        // Dropped after the lock is released: freeing many messages takes time.
        let expired: Vec<Message> = lock(&self.retained).expire(now).collect();
        drop(expired);
        self.watch_retained(now);
    }

    // ---- Subscriptions ---------------------------------------------------------------------------

    /// Adds a subscription to the tree. `false` if `subscriptions_max` are there.
    pub(crate) fn add_to_tree(
        &self,
        slot: &Arc<Slot>,
        filter: &TopicFilter,
        subscription: Subscription,
    ) -> bool {
        let mut tree = write(&self.tree);
        let entry = Entry { slot: slot.clone(), subscription };
        let replaced = tree.insert(filter, slot.key, entry).is_some();
        if !replaced && tree.len() > self.limits.subscriptions_max {
            tree.remove(filter, slot.key);
            return false;
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        true
    }

    pub(crate) fn remove_from_tree(&self, slot: &Slot, filters: &[TopicFilter]) {
        if filters.is_empty() {
            return;
        }
        let mut tree = write(&self.tree);
        for filter in filters {
            tree.remove(filter, slot.key);
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    // ---- Messages from the broker itself ---------------------------------------------------------

    /// Publishes a Will and hands on what an ended member of a shared subscription held.
    pub(crate) fn publish_leftovers(
        &self,
        client_id: &str,
        will: Option<Message>,
        handed_on: Vec<crate::session::queue::Delivery>,
        now: Timestamp,
    ) {
        if will.is_none() && handed_on.is_empty() {
            return;
        }
        let mut batch = Batch::default();
        batch.begin(self);
        if let Some(will) = will {
            batch.route_message(self, client_id, false, will, now);
        }
        batch.hand_on(self, handed_on, now);
        batch.flush(self, &mut Outgoing::default(), now);
    }

    // ---- Time ------------------------------------------------------------------------------------

    /// Has the wheel look at a Session when the next thing happens by itself there.
    pub(crate) fn watch_expiry(&self, slot: &Arc<Slot>, state: &mut SlotState, now: Timestamp) {
        let at = state.session.next_deadline();
        if at == Timestamp::NEVER {
            return;
        }
        let tick = tick_of(at, now);
        if tick < state.next_look {
            state.next_look = tick;
            self.wheel.schedule(tick, Due::Session(Arc::downgrade(slot)));
        }
    }

    /// Has the wheel look at the retained messages when the first of them expires.
    fn watch_retained(&self, now: Timestamp) {
        let Some(at) = lock(&self.retained).next_expiry() else { return };
        let tick = tick_of(at, now);
        if self.retained_look.fetch_min(tick, Ordering::AcqRel) > tick {
            self.wheel.schedule(tick, Due::Retained);
        }
    }

    /// One turn of the wheel. Each item is looked at by itself: none can keep another from its turn.
    pub(crate) fn tick(&self) {
        let now = self.clock.now();
        for due in self.wheel.take_due(now) {
            match due {
                Due::Connection(mailbox) => {
                    if let Some(mailbox) = mailbox.upgrade() {
                        self.wheel.look_at_connection(&mailbox, now);
                    }
                }
                Due::Session(slot) => {
                    if let Some(slot) = slot.upgrade() {
                        self.look_at_session(&slot, now);
                    }
                }
                Due::Retained => self.expire_retained(now),
            }
        }
    }

    fn look_at_session(&self, slot: &Arc<Slot>, now: Timestamp) {
        let (will, over) = {
            let mut state = slot.lock();
            if state.next_look > now.0 / TICK_MILLIS {
                return; // planned before a sooner look was: one that counts is to come
            }
            state.next_look = u64::MAX;
            state.session.expire_messages(now);
            let over = state.session.is_over(now);
            // The end of the Session publishes the Will by itself.
            let will = if over { None } else { state.session.take_due_will(now) };
            if !over {
                self.watch_expiry(slot, &mut state, now);
            }
            (will, over)
        };
        self.publish_leftovers(&slot.client_id, will, Vec::new(), now);
        if over {
            self.end_session(slot, now, |session| session.is_over(now));
        }
    }

    // ---- Books -----------------------------------------------------------------------------------

    /// Adds a publisher's own counts.
    pub(crate) fn count(&self, tally: &mut Ledger) {
        fanout::settle(&self.books, tally);
    }

    /// The books of the broker: of those who live, and of all that was before.
    pub(crate) fn ledger(&self) -> Ledger {
        // A Session that ends while they are read would be in both books or in none: read again then.
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
        for slot in self.registry.snapshot() {
            let state = slot.lock();
            if !state.session.has_ended() {
                sum += state.session.ledger();
            }
        }
        sum
    }

    /// What is there, and what limits have refused.
    pub(crate) fn counters(&self) -> Counters {
        let (retained_messages, retained_bytes) = {
            let retained = lock(&self.retained);
            (retained.len(), retained.bytes())
        };
        let subscriptions = super::read(&self.tree).len();
        let counts = &self.counts;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            connections: counts.connections.load(Ordering::Relaxed),
            sessions: self.registry.len(),
            subscriptions,
            retained_messages,
            retained_bytes,
            unauthenticated_bytes: counts.unauthenticated_bytes.load(Ordering::Relaxed),
            connections_refused: load(&counts.connections_refused),
            sessions_refused: load(&counts.sessions_refused),
            subscriptions_refused: load(&counts.subscriptions_refused),
            retained_refused: load(&counts.retained_refused),
            topics_refused: load(&counts.topics_refused),
            packets_too_large: load(&counts.packets_too_large),
            handshakes_failed: load(&counts.handshakes_failed),
            handshakes_timed_out: load(&counts.handshakes_timed_out),
            handshakes_waited: load(&counts.handshakes_waited),
            connects_timed_out: load(&counts.connects_timed_out),
            packets_timed_out: load(&counts.packets_timed_out),
            writes_stalled: load(&counts.writes_stalled),
            keep_alives_timed_out: load(&counts.keep_alives_timed_out),
            unauthenticated_bytes_refused: load(&counts.unauthenticated_bytes_refused),
            receive_maximum_exceeded: load(&counts.receive_maximum_exceeded),
            malformed_packets: load(&counts.malformed_packets),
            protocol_errors: load(&counts.protocol_errors),
        }
    }

    /// Adds the books of a Session that has ended. Called with its lock held, so that it is counted in
    /// one of both places at any moment.
    pub(crate) fn inherit_books(&self, ledger: Ledger) {
        *lock(&self.books) += ledger;
        self.sessions_ended.fetch_add(1, Ordering::Release);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that lives long, and many that live for a second: few looks are planned at any moment.
    #[test]
    fn what_expires_soon_again_and_again_leaves_few_looks_pitfall_15() {
        let shared = Shared::new(Limits::default(), None);
        let retain = |topic: &str, secs, now| {
            let message = Message::new(topic, "x").unwrap().with_expiry_secs(secs);
            shared.retain(&message.accepted_at(now), now);
        };
        retain("long", 86_400, Timestamp(0));
        for now in (0..3_600_000).step_by(1_000).map(Timestamp) {
            retain("short", 1, now);
            for due in shared.wheel.take_due(now) {
                assert!(matches!(due, Due::Retained));
                shared.expire_retained(now);
            }
        }
        assert!(shared.wheel.len() < 300, "{}", shared.wheel.len());
    }
}
