//! Everything that happens by itself at some time, in one place with one coarse tick: no packet and no
//! Network Connection has a timer of its own.
//!
//! What is due late is looked at every [`HORIZON_MILLIS`] all the same, and at most once in a tick. So what
//! one connection or Session can have in here is bounded, whatever deadlines it sets and takes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use super::lock;
use super::mailbox::Mailbox;
use super::slot::Slot;
use crate::time::Timestamp;

/// Milliseconds between two looks at the wheel. Nothing happens earlier than it is due, and at most this
/// much later.
pub(crate) const TICK_MILLIS: u64 = 250;

/// Nothing stays unlooked at for longer than this, in milliseconds.
const HORIZON_MILLIS: u64 = 60_000;

/// Who is to be looked at.
#[derive(Debug)]
pub(crate) enum Due {
    Connection(Weak<Mailbox>),
    Session(Weak<Slot>),
    Retained,
}

/// What is due, by tick.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    ticks: Mutex<BTreeMap<u64, Vec<Due>>>,
}

/// The tick in which something that is due `at` is looked at: the first that is not before it, or an
/// earlier one at the horizon.
pub(crate) fn tick_of(at: Timestamp, now: Timestamp) -> u64 {
    at.0.min(now.0.saturating_add(HORIZON_MILLIS)).div_ceil(TICK_MILLIS)
}

impl Wheel {
    /// Looks at `due` in a tick.
    pub(crate) fn schedule(&self, tick: u64, due: Due) {
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
            mailbox.wake();
        } else {
            // Not set again: the task may be setting another one at this moment.
            self.note_connection(deadline, now, mailbox);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.ticks).values().map(Vec::len).sum()
    }

    /// Takes out all that is due by now.
    pub(crate) fn take_due(&self, now: Timestamp) -> Vec<Due> {
        let mut ticks = lock(&self.ticks);
        let later = ticks.split_off(&(now.0 / TICK_MILLIS + 1));
        std::mem::replace(&mut *ticks, later).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn len(wheel: &Wheel) -> usize {
        wheel.len()
    }

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
        assert_eq!(len(&wheel), 0);
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
        assert!(len(&wheel) as u64 <= HORIZON_MILLIS / TICK_MILLIS + 1, "{}", len(&wheel));
    }

    #[test]
    fn deadlines_that_come_and_go_do_not_pile_up_pitfall_15() {
        let (wheel, mailbox) = (Wheel::default(), Arc::new(Mailbox::new()));
        for at in (1..1_000_000).rev() {
            wheel.schedule_connection(Timestamp(at), Timestamp(0), &mailbox);
        }
        assert!(len(&wheel) as u64 <= HORIZON_MILLIS / TICK_MILLIS + 1);
    }
}
