//! The effects of time: expiry, delayed Wills, ends of Sessions, deadlines of connections.

use std::sync::Arc;

use super::session_cell::SessionCell;
use super::state::Engine;
use super::timers::{Due, TICK_MILLIS};
use crate::budget::Budget;
use crate::runtime::contain;
use crate::time::Timestamp;

/// The steps that a look at one due item costs.
const LOOK_STEPS: usize = 8;

impl Engine {
    /// Handles all due items of the wheel, each contained, so that a panic in one does not affect the next. Yields
    /// after each turn's worth of work.
    pub(crate) async fn tick(self: &Arc<Self>) {
        let _at_work = self.standstill.begin_work();
        if self.standstill.is_still() {
            return; // the state must not change while it is handed over
        }
        let mut budget = Budget::of_a_turn();
        let now = self.now();
        self.access.tick(now);
        self.comings.tick(now);
        self.queue_alarm.tick(now);
        for due in self.wheel.take_due(now) {
            // A panic keeps no other item from its turn (pitfall 16).
            let _done = contain("an item of the timer wheel", || self.look(due, now, &mut budget));
            if budget.is_spent() {
                futures_lite::future::yield_now().await;
                budget = Budget::of_a_turn();
            }
        }
        self.tell_some_drops().await;
    }

    fn look(self: &Arc<Self>, due: Due<SessionCell>, now: Timestamp, budget: &mut Budget) {
        budget.spend(LOOK_STEPS);
        match due {
            Due::Connection(mailbox) => {
                if let Some(mailbox) = mailbox.upgrade() {
                    self.wheel.look_at_connection(&mailbox, now);
                }
            }
            Due::Session(cell) => {
                if let Some(cell) = cell.upgrade() {
                    self.look_at_session(&cell, now);
                    budget.spend(LOOK_STEPS);
                }
            }
            Due::Retained => self.expire_retained(now, budget),
            Due::Sys => self.look_at_sys(now),
        }
    }

    fn look_at_session(self: &Arc<Self>, cell: &Arc<SessionCell>, now: Timestamp) {
        let (will, over) = {
            let mut state = cell.lock();
            if state.next_look > now.0 / TICK_MILLIS {
                return; // planned before a sooner look was: one that counts is to come
            }
            state.next_look = u64::MAX;
            state.session.expire_messages(now);
            let over = state.session.is_over(now);
            // The end of the Session publishes the Will by itself.
            let will = if over { None } else { state.session.take_due_will(now) };
            let will = self.judge_will(cell, &mut state, will);
            if !over {
                self.look_at_queue(cell, &mut state, now);
                self.watch_expiry(cell, &mut state, now);
            }
            (will, over)
        };
        self.publish_leftovers(cell, will, Vec::new());
        if over {
            self.end_session(cell, |session| {
                let over = session.is_over(now);
                if over {
                    self.traffic.session_expired();
                }
                over
            });
        }
    }
}
