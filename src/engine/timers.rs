//! The mailbox, which wakes a Network Connection's task and carries orders to it, and the timer wheel, which holds all
//! deadlines of a broker and has one coarse tick. No packet and no Network Connection has its own timer.
//!
//! The wheel looks at an item with a late deadline every [`HORIZON_MILLIS`], and at most once in a tick. So the
//! entries of one connection or Session are bounded, however often it sets another deadline.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};

use atomic_waker::AtomicWaker;

use crate::error::Fault;
use crate::packet::ReasonCode;
use crate::sync::lock;
use crate::time::Timestamp;

/// The order to a Network Connection's task to close, or to look whether it has to. An order with a higher number
/// replaces a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// The rules of its listener have changed: it looks whether they let it stay.
    ListenerRules = 1,
    /// It leaves its place among the peers before CONNECT to another one. Once CONNECT is accepted, it stays; the order
    /// may have replaced [`Order::ListenerRules`].
    Displaced = 2,
    /// Its listener is stopped.
    ListenerStopped = 3,
    /// The broker stops: waiting bytes are sent first.
    ShuttingDown = 4,
    /// The access rules have changed and would not let the Client in.
    NotCurrent = 5,
    /// An operator disconnects the Client, by the Reason Code in the mailbox.
    Disconnected = 6,
    /// Another Network Connection has taken over the Session.
    TakenOver = 7,
    /// As [`Order::TakenOver`], after part of a packet was sent: no DISCONNECT can follow it.
    TakenOverMidPacket = 8,
    /// The deadline of the stop has passed.
    Abort = 9,
}

impl Order {
    const ALL: [Order; 9] = [
        Order::ListenerRules,
        Order::Displaced,
        Order::ListenerStopped,
        Order::ShuttingDown,
        Order::NotCurrent,
        Order::Disconnected,
        Order::TakenOver,
        Order::TakenOverMidPacket,
        Order::Abort,
    ];

    /// The fault that the Client is told.
    pub(crate) fn fault(self) -> Fault {
        match self {
            Order::ListenerRules => Fault::Server(
                ReasonCode::ADMINISTRATIVE_ACTION,
                "the rules of the listener have changed and do not let this Client stay",
            ),
            Order::Displaced => Fault::Server(
                ReasonCode::SERVER_BUSY,
                "handshakes_max: the place of this silent peer was given to another one",
            ),
            Order::ListenerStopped => {
                Fault::Server(ReasonCode::ADMINISTRATIVE_ACTION, "the listener is stopped")
            }
            Order::NotCurrent => Fault::Server(
                ReasonCode::ADMINISTRATIVE_ACTION,
                "the access rules have changed and do not let this Client in",
            ),
            Order::Disconnected => Fault::Server(
                ReasonCode::ADMINISTRATIVE_ACTION,
                "an operator has disconnected the Client",
            ),
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

/// The waker, orders and deadline of a Network Connection's task, shared with the tasks that reach it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    waker: AtomicWaker,
    order: AtomicU8,
    /// The Reason Code of [`Order::Disconnected`].
    code: AtomicU8,
    /// The number of the listener that accepted the peer; 0 of none.
    pub(crate) listener: u32,
    /// The time at which the task is to be woken, in milliseconds.
    deadline: AtomicU64,
    /// The tick in which the wheel looks next.
    next_look: AtomicU64,
}

impl Mailbox {
    pub(crate) fn new() -> Mailbox {
        Mailbox {
            waker: AtomicWaker::new(),
            order: AtomicU8::new(0),
            code: AtomicU8::new(ReasonCode::ADMINISTRATIVE_ACTION.value()),
            listener: 0,
            deadline: AtomicU64::new(u64::MAX),
            next_look: AtomicU64::new(u64::MAX),
        }
    }

    /// Of a peer that a listener accepted.
    pub(crate) fn of_listener(number: u32) -> Mailbox {
        Mailbox { listener: number, ..Mailbox::new() }
    }

    /// Registers the waker of the task.
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

    /// Tells the task to close with this Reason Code.
    pub(crate) fn disconnect(&self, code: ReasonCode) {
        self.code.store(code.value(), Ordering::Release);
        self.order(Order::Disconnected);
    }

    /// The fault that the Client is told for an order of this mailbox.
    pub(crate) fn fault(&self, order: Order) -> Fault {
        match order.fault() {
            Fault::Server(_, text) if order == Order::Disconnected => {
                Fault::Server(ReasonCode(self.code.load(Ordering::Acquire)), text)
            }
            fault => fault,
        }
    }

    pub(crate) fn ordered(&self) -> Option<Order> {
        let value = self.order.load(Ordering::Acquire);
        Order::ALL.into_iter().find(|&order| order as u8 == value)
    }

    /// Forgets an order that is carried out, unless a higher one has replaced it.
    pub(crate) fn carried_out(&self, order: Order) {
        let _ = self.order.compare_exchange(order as u8, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Sets when the task is to be woken.
    pub(crate) fn set_deadline(&self, at: Timestamp) {
        self.deadline.store(at.0, Ordering::Release);
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        Timestamp(self.deadline.load(Ordering::Acquire))
    }

    /// Notes that the wheel looks in this tick. `false` if it already looks in this tick or an earlier one.
    pub(crate) fn note_look(&self, tick: u64) -> bool {
        self.next_look.fetch_min(tick, Ordering::AcqRel) > tick
    }

    pub(crate) fn next_look(&self) -> u64 {
        self.next_look.load(Ordering::Acquire)
    }

    /// Notes that the wheel looks now; a next look has to be scheduled.
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

/// Milliseconds between two ticks. An item is handled when it is due or at most this much later, never earlier.
pub(crate) const TICK_MILLIS: u64 = 250;

/// The longest time between two looks at an item, in milliseconds.
const HORIZON_MILLIS: u64 = 60_000;

/// An item of the wheel. `S` is a Session with its lock.
#[derive(Debug)]
pub(crate) enum Due<S> {
    Connection(Weak<Mailbox>),
    Session(Weak<S>),
    Retained,
    /// The topics below `$SYS/broker/`.
    Sys,
}

/// Items by the tick in which they are due.
#[derive(Debug)]
pub(crate) struct Wheel<S> {
    ticks: Mutex<BTreeMap<u64, Vec<Due<S>>>>,
}

impl<S> Default for Wheel<S> {
    fn default() -> Wheel<S> {
        Wheel { ticks: Mutex::default() }
    }
}

/// The tick in which the wheel looks at an item that is due `at`: the first tick that is not before it, or the tick at
/// the horizon if that is earlier.
pub(crate) fn tick_of(at: Timestamp, now: Timestamp) -> u64 {
    at.0.min(now.0.saturating_add(HORIZON_MILLIS)).div_ceil(TICK_MILLIS)
}

impl<S> Wheel<S> {
    /// Looks at `due` in a tick.
    pub(crate) fn schedule(&self, tick: u64, due: Due<S>) {
        lock(&self.ticks).entry(tick).or_default().push(due);
    }

    /// Wakes a connection's task at `at`.
    pub(crate) fn schedule_connection(
        &self,
        at: Timestamp,
        now: Timestamp,
        mailbox: &Arc<Mailbox>,
    ) {
        mailbox.set_deadline(at);
        self.note_connection(at, now, mailbox);
    }

    fn note_connection(&self, at: Timestamp, now: Timestamp, mailbox: &Arc<Mailbox>) {
        let tick = tick_of(at, now);
        if at != Timestamp::NEVER && mailbox.note_look(tick) {
            self.schedule(tick, Due::Connection(Arc::downgrade(mailbox)));
        }
    }

    /// Wakes a connection's task if its deadline has passed; otherwise looks again.
    pub(crate) fn look_at_connection(&self, mailbox: &Arc<Mailbox>, now: Timestamp) {
        if mailbox.next_look() > now.0 / TICK_MILLIS {
            return; // planned before a sooner look was: one that counts is to come
        }
        mailbox.clear_look();
        let deadline = mailbox.deadline();
        if deadline <= now {
            Mailbox::wake(mailbox);
        } else {
            // Not set again: the task may be setting another one at this moment.
            self.note_connection(deadline, now, mailbox);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.ticks).values().map(Vec::len).sum()
    }

    /// Takes out all items that are due by now.
    pub(crate) fn take_due(&self, now: Timestamp) -> Vec<Due<S>> {
        let mut ticks = lock(&self.ticks);
        let later = ticks.split_off(&(now.0 / TICK_MILLIS + 1));
        std::mem::replace(&mut *ticks, later).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// No Session is in these wheels.
    type Wheel = super::Wheel<()>;

    #[test]
    fn nothing_is_early_and_nothing_more_than_a_tick_late() {
        let wheel = Wheel::default();
        for at in [0, 1, 249, 250, 251, 10_000] {
            wheel.schedule(tick_of(Timestamp(at), Timestamp(0)), Due::Retained);
        }
        assert_eq!(wheel.take_due(Timestamp(0)).len(), 1);
        assert_eq!(wheel.take_due(Timestamp(249)).len(), 0);
        assert_eq!(wheel.take_due(Timestamp(250)).len(), 3);
        assert_eq!(wheel.take_due(Timestamp(500)).len(), 1);
        assert_eq!(wheel.take_due(Timestamp(9_999)).len(), 0);
        assert_eq!(wheel.take_due(Timestamp(10_000)).len(), 1);
        assert_eq!(wheel.take_due(Timestamp(u64::MAX - 1)).len(), 0);
    }

    #[test]
    fn a_late_deadline_is_looked_at_until_it_has_come() {
        let (wheel, mailbox) = (Wheel::default(), Arc::new(Mailbox::new()));
        mailbox.register(Waker::noop());
        wheel.schedule_connection(Timestamp(100_000), Timestamp(0), &mailbox);
        let mut looks = 0;
        for now in (0..=100_000).step_by(250).map(Timestamp) {
            for _due in wheel.take_due(now) {
                looks += 1;
                wheel.look_at_connection(&mailbox, now);
            }
        }
        assert_eq!(looks, 2, "once at the horizon, once when it is due");
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn looks_that_were_planned_too_late_do_not_multiply_pitfall_15() {
        let (wheel, mailbox) = (Wheel::default(), Arc::new(Mailbox::new()));
        mailbox.register(Waker::noop());
        for now in (0..3_600_000).step_by(250).map(Timestamp) {
            // A packet of which half is there, and whole again: soon, late, soon, late.
            wheel.schedule_connection(Timestamp(now.0 + 500), now, &mailbox);
            wheel.schedule_connection(Timestamp(now.0 + 90_000), now, &mailbox);
            for _due in wheel.take_due(now) {
                wheel.look_at_connection(&mailbox, now);
            }
        }
        assert!(wheel.len() as u64 <= HORIZON_MILLIS / TICK_MILLIS + 1, "{}", wheel.len());
    }

    #[test]
    fn deadlines_that_come_and_go_do_not_pile_up_pitfall_15() {
        let (wheel, mailbox) = (Wheel::default(), Arc::new(Mailbox::new()));
        for at in (1..1_000_000).rev() {
            wheel.schedule_connection(Timestamp(at), Timestamp(0), &mailbox);
        }
        assert!(wheel.len() as u64 <= HORIZON_MILLIS / TICK_MILLIS + 1);
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
