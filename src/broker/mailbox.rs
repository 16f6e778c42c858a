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
    /// The tick in which the wheel looks next.
    next_look: AtomicU64,
}

impl Mailbox {
    pub(crate) fn new() -> Mailbox {
        Mailbox {
            waker: AtomicWaker::new(),
            order: AtomicU8::new(0),
            deadline: AtomicU64::new(u64::MAX),
            next_look: AtomicU64::new(u64::MAX),
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

    /// Sets when the task is to be woken.
    pub(crate) fn set_deadline(&self, at: Timestamp) {
        self.deadline.store(at.0, Ordering::Release);
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        Timestamp(self.deadline.load(Ordering::Acquire))
    }

    /// Notes that the wheel looks in this tick. `false` if it looks in it or earlier already.
    pub(crate) fn note_look(&self, tick: u64) -> bool {
        self.next_look.fetch_min(tick, Ordering::AcqRel) > tick
    }

    pub(crate) fn next_look(&self) -> u64 {
        self.next_look.load(Ordering::Acquire)
    }

    /// The wheel looks now, and next when it is told again.
    pub(crate) fn clear_look(&self) {
        self.next_look.store(u64::MAX, Ordering::Release);
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
