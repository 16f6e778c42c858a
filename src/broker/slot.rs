//! One Session incarnation and its lock: it never moves, whether its Client is connected or away.

use std::fmt;
use std::io;
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
    state: Mutex<SlotState>,
}

impl Slot {
    pub(crate) fn new(key: u64, session: Session, in_process: bool) -> Slot {
        Slot {
            key,
            client_id: session.client_id().clone(),
            in_process,
            connected: AtomicBool::new(false),
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
                    state.wake();
                }
                return;
            }
            drop(state);
            let written = out.with_slices(|slices| inline.try_write(slices));
            let mut state = self.lock();
            if !state.end_inline(epoch, out, written) {
                return;
            }
        }
        self.lock().wake();
    }
}

impl Slot {
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
