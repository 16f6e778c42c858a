//! The end of a Network Connection for its Session, and the end of a Session.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::errand::{Errand, JudgedWill};
use super::session_cell::{CellState, SessionCell};
use super::state::{Ended, Engine};
use super::timers::{Mailbox, Order};
use crate::budget::Budget;
use crate::events::DisconnectCause;
use crate::message::Message;
use crate::session::outgoing::Outgoing;
use crate::session::queue::Delivery;
use crate::session::{Session, Subscriptions};
use crate::sync::lock;
use crate::time::Timestamp;

/// The steps that removing a subscription costs beside its bytes.
const REMOVAL_STEPS: usize = 10;

/// The cost of a byte of a Topic Filter, which is hashed level by level, as a multiple of a byte that is copied.
const BYTES_WEIGHT: usize = 8;

impl Engine {
    /// Detaches the Network Connection of `epoch`. Returns the bytes that are still to be sent; `None` if the Session
    /// was taken over before.
    pub(crate) fn leave_session(
        self: &Arc<Self>,
        cell: &Arc<SessionCell>,
        epoch: u64,
        cause: DisconnectCause,
        now: Timestamp,
    ) -> Option<Outgoing> {
        let _at_work = self.standstill.begin_work();
        let (left, will) = {
            cell.keep_others_from_writing(epoch);
            let mut state = cell.lock_between_writes();
            let mut left = state.session.detach(epoch, cause.departure(), now)?;
            state.link = None;
            state.depart(cause, self.host.wall());
            cell.set_connected(&state, false);
            self.watch_expiry(cell, &mut state, now);
            let will = self.judge_will(cell, &mut state, left.will.take());
            (left, will)
        };
        self.publish_leftovers(cell, will, Vec::new());
        if left.ended {
            self.end_session(cell, |session| session.epoch() == epoch && !session.is_attached());
        }
        Some(left.unsent)
    }

    /// Ends a Session, if `condition` still holds under its lock: its messages get outcomes, it is removed from the
    /// registry, its Will is published, its shared messages go to other members, and its subscriptions are removed
    /// from the tree in this turn and later ones.
    pub(crate) fn end_session(
        self: &Arc<Self>,
        cell: &Arc<SessionCell>,
        condition: impl FnOnce(&Session) -> bool,
    ) {
        self.end_session_by(cell, condition, |mailbox, torn| mailbox.order(taken_over(torn)));
    }

    /// As [`Engine::end_session`], with the order for its Network Connection, which is told whether part of a packet was
    /// sent. Returns whether the Session has ended by this call.
    pub(crate) fn end_session_by(
        self: &Arc<Self>,
        cell: &Arc<SessionCell>,
        condition: impl FnOnce(&Session) -> bool,
        order: impl FnOnce(&Mailbox, bool),
    ) -> bool {
        let (will, handed_on, subscriptions) = {
            let mut state = cell.lock_between_writes();
            if state.session.has_ended() || !condition(&state.session) {
                return false;
            }
            let torn = state.is_amid_packet();
            let (will, handed_on) = state.session.end();
            self.end_watch(cell, &mut state);
            self.inherit_books(state.session.ledger());
            cell.set_ended();
            cell.set_connected(&state, false);
            state.leave_all(cell.key);
            if let Some(link) = state.link.take() {
                order(&link.mailbox, torn);
            }
            let will = self.judge_will(cell, &mut state, will);
            (will, handed_on, state.session.take_subscriptions())
        };
        self.leave_tree(cell, subscriptions);
        self.registry.remove(cell);
        self.publish_leftovers(cell, will, handed_on);
        true
    }

    /// Removes the subscriptions of an ended Session from the tree, in this turn and later ones.
    pub(super) fn leave_tree(self: &Arc<Self>, cell: &SessionCell, subscriptions: Subscriptions) {
        if !subscriptions.is_empty() {
            // Cached routes of publishers may lead to this Session.
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        self.reap(Ended { key: cell.key, subscriptions: subscriptions.into_iter() });
    }

    /// Whether a Will may be published that was taken from the Session: its Client would still be let in, and may
    /// publish it. Decided under the lock under which it was taken, so that no other identity has the Session yet.
    pub(crate) fn judge_will(
        &self,
        cell: &SessionCell,
        state: &mut CellState,
        will: Option<Message>,
    ) -> Option<JudgedWill> {
        let message = will?;
        let (asker, topic) = (cell.asker(), message.topic());
        let denied =
            self.access.publish_will(asker, &mut state.subject, topic, self.host.wall()).err();
        Some(JudgedWill { message, denied })
    }

    /// Publishes a Will, if it may be published, and gives the messages of an ended member of a shared subscription to
    /// other members.
    pub(crate) fn publish_leftovers(
        self: &Arc<Self>,
        cell: &SessionCell,
        will: Option<JudgedWill>,
        handed_on: Vec<Delivery>,
    ) {
        if will.is_none() && handed_on.is_empty() {
            return;
        }
        let mut errand = Errand::new(self, cell.client_id.clone()).hand_on(handed_on);
        if let Some(will) = will {
            errand = errand.publish_will(self, will, self.now());
        }
        errand.run(self);
    }

    /// Whether no Client is connected through a listener. The count is looked at first, because it is one number.
    pub(crate) fn nobody_is_connected(&self) -> bool {
        self.counts.connections.load(Ordering::Acquire) == 0 && self.registry.is_all_away()
    }

    /// Publishes the Wills of Clients that the Server is about to disconnect, so that those that are still connected
    /// receive them. A Will with a delay waits for its end, in this broker or in one that takes the Session over.
    pub(crate) fn publish_wills_before_close(self: &Arc<Self>) {
        for cell in self.registry.snapshot() {
            if cell.is_in_process() {
                continue;
            }
            let will = {
                let (mut state, now) = (cell.lock(), self.now());
                let will = state.session.take_will_before_close(now);
                self.judge_will(&cell, &mut state, will)
            };
            self.publish_leftovers(&cell, will, Vec::new());
        }
    }

    /// Publishes every Will, also those whose delay is running: the broker stops, and its Sessions end.
    pub(crate) fn publish_all_wills(self: &Arc<Self>) {
        for cell in self.registry.snapshot() {
            let will = {
                let mut state = cell.lock();
                let will = state.session.take_will();
                self.judge_will(&cell, &mut state, will)
            };
            self.publish_leftovers(&cell, will, Vec::new());
        }
    }

    /// Ends all Sessions, and with them the streams of in-process clients, when no Client is connected any more.
    pub(crate) fn end_all_sessions(self: &Arc<Self>) {
        for cell in self.registry.snapshot() {
            if cell.is_in_process() {
                // Its waiting messages can still be taken; the drop of the client ends it.
                cell.lock().wake();
            } else {
                self.end_session(&cell, |_| true);
            }
        }
    }

    /// Removes the subscriptions of an ended Session from the tree: in this turn as far as the budget allows, the rest
    /// by the [`Reaper`].
    fn reap(self: &Arc<Self>, mut ended: Ended) {
        if self.remove_some(&mut ended, &mut Budget::of_a_turn()) {
            return;
        }
        let mut reaper = lock(&self.reaper);
        let (waiting, runs) = &mut *reaper;
        waiting.push(ended);
        if !std::mem::replace(runs, true) {
            self.host.spawn(Reaper { engine: self.clone(), present: None });
        }
    }

    /// Removes as many subscriptions as the budget allows. Returns whether all are removed.
    fn remove_some(&self, ended: &mut Ended, budget: &mut Budget) -> bool {
        while !budget.is_spent() {
            let Some((filter, _)) = ended.subscriptions.next() else { return true };
            budget.spend(REMOVAL_STEPS);
            budget.spend_bytes(filter.as_str().len() * BYTES_WEIGHT);
            self.remove_from_tree(ended.key, &filter);
        }
        ended.subscriptions.len() == 0
    }
}

/// Removes the subscriptions of ended Sessions, a turn's worth at a time.
struct Reaper {
    engine: Arc<Engine>,
    present: Option<Ended>,
}

impl Future for Reaper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut budget = Budget::of_a_turn();
        let Reaper { engine, present } = &mut *self;
        while !budget.is_spent() {
            let mut ended = match present.take() {
                Some(ended) => ended,
                None => {
                    let mut reaper = lock(&engine.reaper);
                    match reaper.0.pop() {
                        Some(ended) => ended,
                        None => {
                            reaper.1 = false;
                            return Poll::Ready(());
                        }
                    }
                }
            };
            if !engine.remove_some(&mut ended, &mut budget) {
                *present = Some(ended);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The order to the previous Network Connection of a Session. Behind half a packet, a DISCONNECT would be read as
/// the rest of it.
pub(crate) fn taken_over(torn: bool) -> Order {
    if torn { Order::TakenOverMidPacket } else { Order::TakenOver }
}
