//! What others tell a Network Connection's task: wake up, close, look at the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Wake, Waker};

use atomic_waker::AtomicWaker;

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

    /// Sets when the task is to be woken. Returns whether the wheel has to be told, because it would look
    /// too late.
    pub(crate) fn set_deadline(&self, at: Timestamp) -> bool {
        self.deadline.store(at.0, Ordering::Release);
        at != Timestamp::NEVER && self.scheduled.fetch_min(at.0, Ordering::AcqRel) > at.0
    }

    /// The wheel has come to `now`, where it was to look at this one. Wakes the task if its deadline has
    /// passed; otherwise returns when to look again.
    pub(crate) fn look(&self, now: Timestamp) -> Option<Timestamp> {
        self.scheduled.store(u64::MAX, Ordering::Release);
        let deadline = Timestamp(self.deadline.load(Ordering::Acquire));
        if deadline <= now {
            self.wake();
            return None;
        }
        self.set_deadline(deadline).then_some(deadline)
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
        assert!(!mailbox.set_deadline(Timestamp::NEVER));
        assert!(mailbox.set_deadline(Timestamp(1_000)));
        assert!(!mailbox.set_deadline(Timestamp(5_000)), "it looks at 1 000 anyway");
        assert!(mailbox.set_deadline(Timestamp(500)));
        mailbox.set_deadline(Timestamp(5_000));
        assert_eq!(mailbox.look(Timestamp(500)), Some(Timestamp(5_000)));
        assert_eq!(mailbox.look(Timestamp(5_000)), None);
        assert!(mailbox.set_deadline(Timestamp(9_000)), "after a wake-up it starts anew");
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
