//! One Session incarnation and its lock: it never moves, whether its Client is connected or away.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::mailbox::Mailbox;
use super::retained_lock::RetainedLock;
use super::{SessionInfo, lock};
use crate::session::Session;
use crate::session::outgoing::Outgoing;
use crate::time::Timestamp;
use crate::transport::TryWrite;

/// Batches that one inline flush writes before the owner has to go on.
const INLINE_BATCHES_MAX: usize = 4;

/// Where a Session's Client is reached.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) mailbox: Arc<Mailbox>,
    /// Writes to the stream from any task; none for a client in this process.
    pub(crate) inline: Option<Arc<dyn TryWrite>>,
}

/// What the lock of a [`Slot`] guards.
pub(crate) struct SlotState {
    pub(crate) session: Session,
    pub(crate) link: Option<Link>,
    /// The last publisher's batch that touched this Session.
    pub(crate) touched: u64,
    /// The tick in which the wheel looks at this Session next.
    pub(crate) next_look: u64,
}

/// A Session with its lock.
pub(crate) struct Slot {
    /// Tells incarnations apart, in the subscription tree and elsewhere.
    pub(crate) key: u64,
    pub(crate) client_id: Arc<str>,
    /// The Session belongs to a client inside this process.
    pub(crate) in_process: bool,
    /// A hint for shared subscriptions; the truth is under the lock.
    connected: AtomicBool,
    /// Held while a subscription changes, which is in the tree and in the Session: both have to see the
    /// changes in one order. Before the tree in the order of locks.
    subscribing: Mutex<()>,
    state: Mutex<SlotState>,
}

impl Slot {
    pub(crate) fn new(key: u64, session: Session, in_process: bool) -> Slot {
        Slot {
            key,
            client_id: session.client_id().clone(),
            in_process,
            connected: AtomicBool::new(false),
            subscribing: Mutex::new(()),
            state: Mutex::new(SlotState { session, link: None, touched: 0, next_look: u64::MAX }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SlotState> {
        lock(&self.state)
    }

    /// Locks at a moment when nobody is writing to the stream: whoever takes the Network Connection or the
    /// Session away has to know which packet was the last. A writer never waits for its peer, so this is a
    /// matter of one system call, or of the time that its thread is kept from the processor.
    pub(crate) fn lock_between_writes(&self) -> MutexGuard<'_, SlotState> {
        loop {
            let state = self.lock();
            if !state.session.is_being_written() {
                return state;
            }
            drop(state);
            std::thread::yield_now();
        }
    }

    /// The owner is about to write its last packet: no publisher begins to write before it.
    pub(crate) fn keep_others_from_writing(&self, epoch: u64) {
        let mut state = self.lock();
        if state.session.epoch() == epoch {
            state.session.set_blocked(true);
        }
    }

    pub(crate) fn subscribing(&self) -> MutexGuard<'_, ()> {
        lock(&self.subscribing)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// As [`Slot::flush_or_wake`], but after whoever is writing now: the queue is full, and that has to
    /// mean that the peer is slow.
    pub(crate) fn make_room(
        &self,
        now: Timestamp,
        out: &mut Outgoing,
        retained: &mut RetainedLock<'_>,
    ) {
        drop(self.lock_between_writes());
        self.flush_or_wake(now, out, retained);
    }

    /// Writes what waits straight from the caller's task, or wakes a client in this process. Never waits
    /// for a peer. Where somebody else is writing, that one goes on with what is left.
    pub(crate) fn flush_or_wake(
        &self,
        now: Timestamp,
        out: &mut Outgoing,
        retained: &mut RetainedLock<'_>,
    ) {
        for _ in 0..INLINE_BATCHES_MAX {
            let mut state = self.lock();
            let Some(inline) = state.link.as_ref().and_then(|link| link.inline.clone()) else {
                return state.wake();
            };
            // Blocked: the owner waits for the transport and goes on by itself.
            if state.session.is_blocked() {
                return;
            }
            let Some(epoch) = state.session.begin_batch(now, out, &mut Vec::new(), retained) else {
                return;
            };
            if out.is_empty() {
                if state.session.end_batch(epoch, out, 0) {
                    state.wake(); // a search in the retained messages that paused
                }
                return;
            }
            drop(state);
            // A transport that panics is broken, as its owner will find; whoever publishes is not.
            let write = AssertUnwindSafe(|| out.with_slices(|slices| inline.try_write(slices)));
            let written = catch_unwind(write)
                .unwrap_or_else(|_| Err(io::Error::other("the transport panicked")));
            let mut state = self.lock();
            if !state.end_inline(epoch, out, written) {
                return;
            }
        }
        self.lock().wake();
    }

    /// What [`Broker::sessions`](crate::Broker::sessions) tells; `None` of a Session that has ended.
    pub(crate) fn info(&self) -> Option<SessionInfo> {
        let state = self.lock();
        let session = &state.session;
        (!session.has_ended()).then(|| SessionInfo {
            client_id: self.client_id.to_string(),
            connected: session.is_attached(),
            in_process: self.in_process,
            version: session.version(),
            expiry_secs: session.expiry_secs(),
            subscriptions: session.subscription_count(),
            waiting: session.waiting_len(),
            inflight: session.inflight_len(),
            receiving: session.received_len(),
            ledger: session.ledger(),
        })
    }
}

impl SlotState {
    /// Ends a batch that was written inline. Returns whether there is more that can be written so.
    fn end_inline(&mut self, epoch: u64, out: &mut Outgoing, written: io::Result<usize>) -> bool {
        // An error is the owner's business: it meets the same one when it writes.
        let written = written.unwrap_or(0);
        let short = written < out.len();
        let more = self.session.end_batch(epoch, out, written);
        if short && self.session.epoch() == epoch {
            self.session.set_blocked(true);
            self.wake();
            return false;
        }
        more
    }

    /// Whether the peer may have got part of a packet and not the rest. Known only
    /// [between writes](Slot::lock_between_writes).
    pub(crate) fn is_amid_packet(&self) -> bool {
        self.session.tail_bytes() > 0
    }

    /// Gives the owner a turn.
    pub(crate) fn wake(&self) {
        if let Some(link) = &self.link {
            link.mailbox.wake();
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("key", &self.key)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}
