//! Everything that happens by itself at some time, in one place with one coarse tick: no packet and no
//! Network Connection has a timer of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use super::lock;
use super::mailbox::Mailbox;
use super::slot::Slot;
use crate::time::Timestamp;

/// Milliseconds between two looks at the wheel. Nothing happens earlier than it is due, and at most this
/// much later.
pub(crate) const TICK_MILLIS: u64 = 250;

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

impl Wheel {
    /// Looks at `due` in the first tick that is not before `at`.
    pub(crate) fn schedule(&self, at: Timestamp, due: Due) {
        if at != Timestamp::NEVER {
            lock(&self.ticks).entry(at.0.div_ceil(TICK_MILLIS)).or_default().push(due);
        }
    }

    /// Looks at the time of a connection.
    pub(crate) fn schedule_connection(&self, at: Timestamp, mailbox: &Arc<Mailbox>) {
        if mailbox.set_deadline(at) {
            self.schedule(at, Due::Connection(Arc::downgrade(mailbox)));
        }
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
    use super::*;

    #[test]
    fn nothing_is_early_and_nothing_more_than_a_tick_late() {
        let wheel = Wheel::default();
        for at in [0, 1, 249, 250, 251, 10_000] {
            wheel.schedule(Timestamp(at), Due::Retained);
        }
        wheel.schedule(Timestamp::NEVER, Due::Retained);
        assert_eq!(wheel.take_due(Timestamp(0)).len(), 1);
        assert_eq!(wheel.take_due(Timestamp(249)).len(), 0);
        assert_eq!(wheel.take_due(Timestamp(250)).len(), 3);
        assert_eq!(wheel.take_due(Timestamp(500)).len(), 1);
        assert_eq!(wheel.take_due(Timestamp(9_999)).len(), 0);
        assert_eq!(wheel.take_due(Timestamp(10_000)).len(), 1);
        assert_eq!(wheel.take_due(Timestamp(u64::MAX - 1)).len(), 0);
    }
}
