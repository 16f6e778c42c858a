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

/// When to look first at what is due at `at`: after the largest power of two of ticks that is not too late.
///
/// What is due later is looked at again, a few times in all. In return, whatever somebody does to have its
/// deadline moved forward again and again, only a few entries for it are in the wheel at any moment.
pub(crate) fn first_look(now: Timestamp, at: Timestamp) -> Timestamp {
    if at == Timestamp::NEVER {
        return at;
    }
    let (present, due) = (now.0 / TICK_MILLIS, at.0.div_ceil(TICK_MILLIS));
    let tick = match due.saturating_sub(present) {
        0 => due,
        ahead => present + (1 << ahead.ilog2()),
    };
    Timestamp(tick.saturating_mul(TICK_MILLIS))
}

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
    pub(crate) fn schedule_connection(
        &self,
        now: Timestamp,
        at: Timestamp,
        mailbox: &Arc<Mailbox>,
    ) {
        if let Some(look) = mailbox.set_deadline(now, at) {
            self.schedule(look, Due::Connection(Arc::downgrade(mailbox)));
        }
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
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
    use super::*;

    #[test]
    fn looks_end_at_the_tick_that_is_due() {
        for at in [0, 1, 250, 251, 1_000, 999_999, u64::from(u32::MAX) * 1_000, u64::MAX / 2] {
            let (mut now, mut looks) = (Timestamp(7), 0);
            while now.0 < at {
                let look = first_look(now, Timestamp(at));
                assert!(look > now && look.0 < at.saturating_add(TICK_MILLIS));
                (now, looks) = (look, looks + 1);
            }
            assert!(looks <= 64);
        }
        assert_eq!(first_look(Timestamp(7), Timestamp::NEVER), Timestamp::NEVER);
    }

    #[test]
    fn a_deadline_that_moves_forward_again_and_again_leaves_few_entries_pitfall_15() {
        let wheel = Wheel::default();
        let mailbox = Arc::new(Mailbox::new());
        let later = 1_000_000_000;
        for now in 0..50_000 {
            // Each deadline is before the one that was set last.
            wheel.schedule_connection(Timestamp(now), Timestamp(later - now * 1_000), &mailbox);
            for due in wheel.take_due(Timestamp(now)) {
                let Due::Connection(mailbox) = due else { panic!() };
                let mailbox = mailbox.upgrade().unwrap();
                if let Some(look) = mailbox.look(Timestamp(now)) {
                    wheel.schedule(look, Due::Connection(Arc::downgrade(&mailbox)));
                }
            }
        }
        let entries = wheel.entries();
        assert!(entries < 100, "{entries} entries for one connection");
    }

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
