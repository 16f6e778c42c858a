//! The access rules change while the broker runs: remembered decisions become void, and every Session is asked for again,
//! a turn's worth at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::session_cell::{CellState, SessionCell};
use super::state::Engine;
use super::timers::Order;
use crate::access::Policy;
use crate::budget::Budget;
use crate::counters::count_one;

/// The steps that asking for one identity costs: the policy looks it up.
const ASK_STEPS: usize = 16;

impl Engine {
    /// Replaces the policy.
    pub(crate) fn set_policy(self: &Arc<Self>, policy: Option<Arc<dyn Policy>>) {
        self.access.replace(|_| policy);
        self.rules_changed();
    }

    /// The policy decides otherwise than before.
    pub(crate) fn policy_changed(self: &Arc<Self>) {
        self.access.replace(|present| present);
        self.rules_changed();
    }

    fn rules_changed(self: &Arc<Self>) {
        // A remembered route was allowed by the rules before.
        self.generation.fetch_add(1, Ordering::AcqRel);
        if !self.access.rechecking.swap(true, Ordering::AcqRel) {
            let recheck =
                Recheck { engine: self.clone(), generation: 0, shard: 0, cells: Vec::new() };
            self.host.spawn_aside(recheck);
        }
    }

    /// Orders the Network Connection of a Session to close if the rules would not let its Client in. A Session without
    /// one stays, and with it its queue, because a mistake in the rules must not destroy it: it is passed over in
    /// shared subscriptions until its Client is let in again. The caller holds the lock.
    pub(crate) fn recheck(&self, cell: &SessionCell, state: &CellState) {
        let current = self.access.is_current(cell.asker(), state.subject.as_deref());
        cell.set_barred(!current);
        let Some(link) = state.link.as_ref().filter(|_| !current) else { return };
        count_one(&self.counts.policy_disconnects);
        link.mailbox.order(Order::NotCurrent);
    }
}

/// Asks for each Session, in the order of the registry's shards, and begins anew if the rules change meanwhile.
struct Recheck {
    engine: Arc<Engine>,
    /// Of the rules by which it asks.
    generation: u64,
    /// The shard that is read next.
    shard: usize,
    cells: Vec<Arc<SessionCell>>,
}

impl Recheck {
    /// Asks for some Clients. Returns whether it has asked for all.
    fn advance(&mut self, budget: &mut Budget) -> bool {
        let Recheck { engine, generation, shard, cells } = self;
        let present = engine.access.generation();
        if *generation != present {
            (*generation, *shard) = (present, 0);
            cells.clear();
        }
        while !budget.is_spent() {
            if let Some(cell) = cells.pop() {
                budget.spend(ASK_STEPS);
                engine.recheck(&cell, &cell.lock());
                continue;
            }
            match engine.registry.in_shard(*shard) {
                Some(more) => *cells = more,
                None => return true,
            }
            *shard += 1;
        }
        false
    }
}

impl Future for Recheck {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.advance(&mut Budget::of_a_turn()) {
            let access = &self.engine.access;
            // A change that finds `true` there has begun no other task, and is seen here.
            access.rechecking.swap(false, Ordering::AcqRel);
            let again = access.generation() != self.generation
                && !access.rechecking.swap(true, Ordering::AcqRel);
            if !again {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
