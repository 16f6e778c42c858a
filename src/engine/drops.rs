//! Events about dropped messages, summed by Session and reason. They are read off the books of the Sessions while
//! somebody listens, so that a drop costs nothing more than its entry in the books: each tick reads a part of the
//! Sessions, each Session once a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::session_cell::{CellState, SessionCell};
use super::state::Engine;
use crate::budget::Budget;
use crate::events::{Events, Happening};
use crate::ledger::DropReason;
use crate::sync::lock;

/// The shards of the registry that are read in one tick: all of them in a second.
const SHARDS_A_TICK: usize = 4;

/// The steps that reading the books of one Session costs.
const READ_STEPS: usize = 2;

impl Engine {
    /// A new receiver of events. What was dropped before is not told.
    pub(crate) fn receive_events(&self) -> Events {
        let _one_at_a_time = lock(&self.listening);
        if !self.announcer.is_heard() {
            self.each_session(|_, state| state.note_drops(|_, _| {}));
            self.note_drops_of_none(|_, _| {});
        }
        self.announcer.receive()
    }

    /// Tells what was dropped in a part of the Sessions since they were read last. Called with every tick.
    pub(super) async fn tell_some_drops(&self) {
        if !self.announcer.is_heard() {
            return;
        }
        let mut budget = Budget::of_a_turn();
        for _ in 0..SHARDS_A_TICK {
            for cell in self.next_shard() {
                self.tell_drops(&cell, &mut cell.lock());
                budget.spend(READ_STEPS);
                if budget.is_spent() {
                    futures_lite::future::yield_now().await;
                    budget = Budget::of_a_turn();
                }
            }
        }
    }

    /// The Sessions of the shard that is read next. A round of the shards ends with the messages of no Session.
    fn next_shard(&self) -> Vec<Arc<SessionCell>> {
        let shard = self.drops_shard.fetch_add(1, Ordering::Relaxed);
        self.registry.in_shard(shard).unwrap_or_else(|| {
            self.tell_drops_of_none();
            self.drops_shard.store(1, Ordering::Relaxed);
            self.registry.in_shard(0).unwrap_or_default()
        })
    }

    /// Tells all that was dropped and is not told yet, and ends the stream of events.
    pub(crate) fn end_events(&self) {
        if self.announcer.is_heard() {
            self.each_session(|cell, state| self.tell_drops(cell, state));
            self.tell_drops_of_none();
        }
        self.announcer.close();
    }

    /// Tells what was dropped in a Session that ends, and ends its alarm. Called with the lock held, when all its
    /// messages have outcomes.
    pub(super) fn end_watch(&self, cell: &SessionCell, state: &mut CellState) {
        if self.announcer.is_heard() {
            self.tell_drops(cell, state);
        }
        if state.end_mark().is_some_and(|mark| mark.slow) {
            self.queue_alarm.clear(&cell.client_id);
        }
    }

    fn tell_drops(&self, cell: &SessionCell, state: &mut CellState) {
        state.note_drops(|reason, messages| self.tell(&cell.client_id, reason, messages));
    }

    /// The same, of messages for Sessions that had ended before.
    fn tell_drops_of_none(&self) {
        let nobody = "".into();
        self.note_drops_of_none(|reason, messages| self.tell(&nobody, reason, messages));
    }

    fn tell(&self, client_id: &Arc<str>, reason: DropReason, messages: u64) {
        let client_id = client_id.clone();
        self.announcer.announce(|| Happening::Dropped { client_id, reason, messages });
    }

    fn each_session(&self, mut look: impl FnMut(&SessionCell, &mut CellState)) {
        for cell in self.registry.snapshot() {
            look(&cell, &mut cell.lock());
        }
    }
}
