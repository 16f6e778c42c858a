//! One Session incarnation and its lock: it never moves, whether its Client is connected or away.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use ahash::RandomState;
use hashbrown::HashMap;

use super::access::{AccessControl, Asker, Denied, Permit, Subject, TakenOver};
use super::holder::{Holder, Succession, succession};
use super::origin::Origin;
use super::share::Group;
use super::timers::Mailbox;
use super::watch::{Mark, Watch};
use crate::access::{Action, Preparing};
use crate::events::DisconnectCause;
use crate::ledger::DropReason;
use crate::session::Session;
use crate::snapshot::HeldBy;
use crate::sync::lock;
use crate::transport::TryWrite;

/// The way to a Session's connected Client.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) mailbox: Arc<Mailbox>,
    /// Writes to the stream from any task; `None` for an in-process client.
    pub(crate) inline: Option<Arc<dyn TryWrite>>,
}

/// What the lock of a [`SessionCell`] guards.
pub(crate) struct CellState {
    pub(crate) session: Session,
    pub(crate) link: Option<Link>,
    /// Who the Client is for the access rules, also while it is away. `None` without a policy.
    pub(crate) subject: Option<Box<Subject>>,
    /// `None` of a client in process.
    origin: Option<Origin>,
    /// What is watched of the queue; most have nothing to watch.
    watch: Option<Box<Watch>>,
    /// The last publisher's batch that touched this Session.
    pub(crate) touched: u64,
    /// The tick in which the wheel looks at this Session next.
    pub(crate) next_look: u64,
    /// The shared subscriptions that this Session is a member of; most have none.
    shares: Option<Box<Shares>>,
}

/// Shared subscriptions by address.
type Shares = HashMap<usize, Arc<Group<SessionCell>>, RandomState>;

/// The client of a Session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A Client on the network.
    Network,
    /// The program that runs the broker, which may do everything.
    Host,
    /// A client in process that acts as an identity of the access rules.
    Guest,
}

/// A Session with its lock.
pub(crate) struct SessionCell {
    /// Identifies this incarnation, in the subscription tree and elsewhere.
    pub(crate) key: u64,
    pub(crate) client_id: Arc<str>,
    pub(crate) owner: Owner,
    /// The messages that may wait, which the Session keeps whatever the present limit is.
    pub(crate) depth: usize,
    /// A hint for shared subscriptions; the state under the lock is authoritative.
    connected: AtomicBool,
    /// The access rules would not let the Client in again: no message of a shared subscription goes to it.
    barred: AtomicBool,
    /// Whose the Session is. The last of all locks.
    holder: Mutex<Option<Box<Holder>>>,
    /// The Session has ended: its subscriptions are void, though some may still be in the tree.
    ended: AtomicBool,
    /// Messages that its Client has published.
    published: AtomicU64,
    /// Held while a subscription changes, which is in the tree and in the Session: both have to see the
    /// changes in one order. Before the tree in the order of locks.
    subscribing: Mutex<()>,
    state: Mutex<CellState>,
}

impl SessionCell {
    pub(crate) fn new(key: u64, session: Session, owner: Owner) -> SessionCell {
        SessionCell {
            key,
            client_id: session.client_id().clone(),
            owner,
            depth: session.filling().depth,
            connected: AtomicBool::new(false),
            barred: AtomicBool::new(false),
            holder: Mutex::new(None),
            ended: AtomicBool::new(false),
            published: AtomicU64::new(0),
            subscribing: Mutex::new(()),
            state: Mutex::new(CellState {
                session,
                link: None,
                subject: None,
                origin: None,
                watch: None,
                touched: 0,
                next_look: u64::MAX,
                shares: None,
            }),
        }
    }

    /// Whether the Session belongs to an in-process client.
    pub(crate) fn is_in_process(&self) -> bool {
        self.owner != Owner::Network
    }

    /// The client, for a question about access.
    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker { client_id: &self.client_id, trusted: self.owner == Owner::Host }
    }

    /// Whether the client of this Network Connection may publish to a Topic Name. Does not lock the Session without a
    /// policy.
    pub(crate) fn may_publish(
        &self,
        access: &AccessControl,
        epoch: u64,
        topic: &str,
    ) -> Result<Permit, Denied> {
        let asker = self.asker();
        if !access.is_in_force() || asker.trusted {
            return access.publish(asker, &mut None, topic);
        }
        let mut state = self.lock();
        if !state.is_held_by(epoch) {
            return Err(Denied::TakenOver);
        }
        access.publish(asker, &mut state.subject, topic)
    }

    /// Has the policy get ready for a question about the client of this Network Connection. `None`: it can be asked.
    pub(crate) fn prepare(
        &self,
        access: &AccessControl,
        epoch: u64,
        action: Action,
        topic: &str,
    ) -> Option<Preparing> {
        let asker = self.asker();
        if !access.is_in_force() || asker.trusted {
            return None;
        }
        let state = self.lock();
        state
            .is_held_by(epoch)
            .then(|| access.prepare(asker, state.subject.as_deref(), action, topic))?
    }

    /// Whether the client of this Network Connection may subscribe or unsubscribe, without the ShareName of a shared
    /// subscription.
    pub(crate) fn may(
        &self,
        access: &AccessControl,
        epoch: u64,
        action: Action,
        filter: &str,
    ) -> Result<bool, TakenOver> {
        let asker = self.asker();
        if !access.is_in_force() || asker.trusted {
            return Ok(true);
        }
        let mut state = self.lock();
        if !state.is_held_by(epoch) {
            return Err(TakenOver);
        }
        Ok(access.allows(asker, &mut state.subject, action, filter.as_bytes()))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, CellState> {
        #[cfg(test)]
        testing::LOCKED.with_borrow_mut(|locked| locked.push(self.key));
        lock(&self.state)
    }

    /// Locks at a moment when no task is writing to the stream: a task that takes the Network Connection or
    /// the Session away has to know which packet was the last. A writer never waits for its peer, so this is a
    /// matter of one system call, or of the time that its thread is kept from the processor.
    pub(crate) fn lock_between_writes(&self) -> MutexGuard<'_, CellState> {
        loop {
            let state = self.lock();
            if !state.session.is_being_written() {
                return state;
            }
            drop(state);
            std::thread::yield_now();
        }
    }

    /// Keeps publishers from writing before the owner's last packet.
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

    /// Notes that the Client connected or disconnected, here and in the shared subscriptions of the Session.
    pub(crate) fn set_connected(&self, state: &CellState, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
        for group in state.shares.iter().flat_map(|shares| shares.values()) {
            group.set_connected(self.key, connected);
        }
    }

    /// The same, of a Client.
    pub(crate) fn held_by(mut self, holder: Option<&Holder>) -> SessionCell {
        self.holder = Mutex::new(holder.cloned().map(Box::new));
        self
    }

    pub(crate) fn set_holder(&self, holder: Option<&Holder>) {
        *lock(&self.holder) = holder.cloned().map(Box::new);
    }

    /// Whose the Session is, as a state holds it.
    pub(crate) fn held(&self) -> HeldBy {
        lock(&self.holder).as_deref().into()
    }

    /// What a CONNECT of this Client gets.
    pub(crate) fn succession(&self, new: Option<&Holder>) -> Succession {
        succession(lock(&self.holder).as_deref(), new, self.is_barred())
    }

    pub(crate) fn is_barred(&self) -> bool {
        self.barred.load(Ordering::Relaxed)
    }

    /// Notes whether the access rules would let the Client in. Called with the lock held.
    pub(crate) fn set_barred(&self, barred: bool) {
        self.barred.store(barred, Ordering::Relaxed);
    }

    /// Counts messages that the Client has published. Called once for a batch.
    pub(crate) fn count_published(&self, messages: u64) {
        self.published.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl CellState {
    /// Whether the Session still belongs to this Network Connection.
    pub(crate) fn is_held_by(&self, epoch: u64) -> bool {
        self.session.epoch() == epoch && self.session.is_attached()
    }

    /// The present Network Connection of the Session, or the last one; `None` of a client in process.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Notes that a Network Connection has the Session now.
    pub(crate) fn arrive(&mut self, origin: Origin) {
        self.origin = Some(origin.after(self.origin.take()));
    }

    /// Notes why the present Network Connection leaves the Session.
    pub(crate) fn depart(&mut self, cause: DisconnectCause, wall: SystemTime) {
        if let Some(origin) = &mut self.origin {
            origin.leave(cause, wall);
        }
    }

    /// The mark of a queue that is long.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.watch.as_ref()?.mark
    }

    pub(super) fn set_mark(&mut self, mark: Mark) {
        self.watch.get_or_insert_default().mark = Some(mark);
    }

    pub(super) fn end_mark(&mut self) -> Option<Mark> {
        let mark = self.watch.as_mut()?.mark.take();
        self.watch.take_if(|watch| watch.is_idle());
        mark
    }

    /// Tells the drops that are not told yet, by reason.
    pub(super) fn note_drops(&mut self, tell: impl FnMut(DropReason, u64)) {
        let books = self.session.books();
        if self.watch.is_some() || books.dropped_total() > 0 {
            books.tell_drops(&mut self.watch.get_or_insert_default().told, tell);
        }
    }

    /// Notes that the Session is a member of `group`.
    pub(crate) fn join(&mut self, group: Arc<Group<SessionCell>>) {
        let shares =
            self.shares.get_or_insert_with(|| Box::new(HashMap::with_hasher(RandomState::new())));
        shares.insert(address(&group), group);
    }

    /// Notes that the Session is no longer a member of `group`.
    pub(crate) fn leave(&mut self, group: &Arc<Group<SessionCell>>) {
        if let Some(shares) = &mut self.shares {
            shares.remove(&address(group));
        }
        self.shares.take_if(|shares| shares.is_empty());
    }

    /// Removes the Session from all shared subscriptions.
    pub(crate) fn leave_all(&mut self, key: u64) {
        for (_, group) in self.shares.take().into_iter().flat_map(|shares| *shares) {
            group.remove(key);
        }
    }

    /// Whether the peer may have received only part of a packet. Known only
    /// [between writes](SessionCell::lock_between_writes).
    pub(crate) fn is_amid_packet(&self) -> bool {
        self.session.tail_bytes() > 0
    }

    /// Wakes the owner's task.
    pub(crate) fn wake(&self) {
        if let Some(link) = &self.link {
            link.mailbox.wake();
        }
    }
}

fn address(group: &Arc<Group<SessionCell>>) -> usize {
    Arc::as_ptr(group).addr()
}

impl fmt::Debug for SessionCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCell")
            .field("key", &self.key)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// For tests that count how often Sessions are locked.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::RefCell;

    thread_local! {
        /// The keys of the Sessions that this thread has locked, in order.
        pub(crate) static LOCKED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
}
