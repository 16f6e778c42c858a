//! What others tell a Network Connection's task: wake up, close, look at the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Wake, Waker};

use atomic_waker::AtomicWaker;

use super::wheel::first_look;
use crate::error::Fault;
use crate::packet::ReasonCode;
use crate::time::Timestamp;

/// Why a Network Connection is told to close; a later one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// Its listener is stopped.
    ListenerStopped = 1,
    /// The broker stops: what can be sent is sent first.
    ShuttingDown = 2,
    /// Another Network Connection has its Session.
    TakenOver = 3,
    /// As [`Order::TakenOver`], with half a packet on the way: nothing can be said any more.
    TakenOverMidPacket = 4,
    /// The deadline has passed.
    Abort = 5,
}

impl Order {
    const ALL: [Order; 5] = [
        Order::ListenerStopped,
        Order::ShuttingDown,
        Order::TakenOver,
        Order::TakenOverMidPacket,
        Order::Abort,
    ];

    /// What the Client is told.
    pub(crate) fn fault(self) -> Fault {
        match self {
            Order::ListenerStopped => {
                Fault::Server(ReasonCode::ADMINISTRATIVE_ACTION, "the listener is stopped")
            }
            Order::ShuttingDown | Order::Abort => {
                Fault::Server(ReasonCode::SERVER_SHUTTING_DOWN, "the server shuts down")
            }
            Order::TakenOver | Order::TakenOverMidPacket => Fault::Server(
                ReasonCode::SESSION_TAKEN_OVER,
                "MQTT-3.1.4-3: another Network Connection uses this Client Identifier",
            ),
        }
    }
}

/// Shared by a Network Connection's task and those who have to reach it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    waker: AtomicWaker,
    order: AtomicU8,
    /// When the task wants to look at the time, in milliseconds.
    deadline: AtomicU64,
    /// The earliest moment at which the wheel will look.
    scheduled: AtomicU64,
}

impl Mailbox {
    pub(crate) fn new() -> Mailbox {
        Mailbox {
            waker: AtomicWaker::new(),
            order: AtomicU8::new(0),
            deadline: AtomicU64::new(u64::MAX),
            scheduled: AtomicU64::new(u64::MAX),
        }
    }

    /// The task sleeps until this wakes it.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Tells the task to close.
    pub(crate) fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.wake();
    }

    pub(crate) fn ordered(&self) -> Option<Order> {
        let value = self.order.load(Ordering::Acquire);
        Order::ALL.into_iter().find(|&order| order as u8 == value)
    }

    /// Sets when the task is to be woken. Returns when the wheel has to look, if it would look too late.
    pub(crate) fn set_deadline(&self, now: Timestamp, at: Timestamp) -> Option<Timestamp> {
        self.deadline.store(at.0, Ordering::Release);
        self.schedule(now, at)
    }

    fn schedule(&self, now: Timestamp, at: Timestamp) -> Option<Timestamp> {
        let look = first_look(now, at);
        let sooner = self.scheduled.fetch_min(look.0, Ordering::AcqRel) > look.0;
        (at != Timestamp::NEVER && sooner).then_some(look)
    }

    /// The wheel has come to `now`, where it was to look at this one. Wakes the task if its deadline has
    /// passed; otherwise returns when to look again.
    pub(crate) fn look(&self, now: Timestamp) -> Option<Timestamp> {
        if self.scheduled.load(Ordering::Acquire) > now.0 {
            return None; // an earlier plan: another look is to come
        }
        self.scheduled.store(u64::MAX, Ordering::Release);
        let deadline = Timestamp(self.deadline.load(Ordering::Acquire));
        if deadline <= now {
            self.wake();
            return None;
        }
        // The task may be setting a new one at this moment: that one is not overwritten.
        self.schedule(now, deadline)
    }
}

impl Wake for Mailbox {
    fn wake(self: Arc<Self>) {
        self.waker.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_is_told_only_of_what_it_would_miss() {
        let mailbox = Mailbox::new();
        let now = Timestamp(0);
        let set = |now, at| mailbox.set_deadline(Timestamp(now), Timestamp(at)).map(|look| look.0);
        assert_eq!(mailbox.set_deadline(now, Timestamp::NEVER), None);
        assert_eq!(set(0, 1_000), Some(1_000));
        assert_eq!(set(0, 4_000), None, "it looks at 1 000 anyway");
        assert_eq!(set(0, 500), Some(500));
        set(0, 4_500);
        assert_eq!(mailbox.look(Timestamp(500)), Some(Timestamp(4_500)));
        assert_eq!(mailbox.look(Timestamp(1_000)), None, "an earlier plan");
        assert_eq!(mailbox.look(Timestamp(4_500)), None);
        assert_eq!(set(4_500, 8_500), Some(8_500), "after a wake-up it starts anew");
    }

    #[test]
    fn a_later_order_wins_and_none_is_taken_back() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.ordered(), None);
        mailbox.order(Order::ShuttingDown);
        mailbox.order(Order::ListenerStopped);
        assert_eq!(mailbox.ordered(), Some(Order::ShuttingDown));
        mailbox.order(Order::Abort);
        assert_eq!(mailbox.ordered(), Some(Order::Abort));
    }
}
