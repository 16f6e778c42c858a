//! The watch over the queue of a Session: for how long it has been long, and which of its drops were told. And the alarm
//! that is raised before a queue loses messages.
//!
//! A queue that reaches the share of the depth gets a [`Mark`]. The wheel looks at marked Sessions once a second. The
//! alarm is raised if the queue was at or above the share at every look for the time of the rule. It is cleared by the
//! first look that finds less than half of the share, so that a queue that swings around the share raises one alarm.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use log::{Level, log_enabled, warn};

use super::announce::Announcer;
use super::log_lines::{LineLimit, Shown};
use crate::counters::{Counts, count_one};
use crate::events::Happening;
use crate::ledger::Drops;
use crate::limits::Limits;
use crate::session::standing::Filling;
use crate::time::Timestamp;

/// The target of the log lines about slow Sessions.
const SLOW_LOG: &str = "hrotti::slow";

/// Lines about slow Sessions in one second.
const LINES_MAX: u32 = 10;

/// The time between two looks at a marked Session.
const LOOK_MILLIS: u64 = 1_000;

/// What is watched of one Session. Most have nothing to watch.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The drops that were told.
    pub(super) told: Drops,
    pub(super) mark: Option<Mark>,
}

/// A queue that is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) since: Timestamp,
    /// Messages that waited then.
    waiting: usize,
    /// When the wheel looks next.
    pub(super) look_at: Timestamp,
    /// The alarm is raised.
    pub(crate) slow: bool,
}

impl Watch {
    pub(super) fn is_idle(&self) -> bool {
        self.mark.is_none() && self.told == Drops::default()
    }
}

impl Mark {
    /// Seconds until the queue is full if it goes on growing as it has on average since the mark; `None` if it has not
    /// grown. Bytes are not considered.
    pub(crate) fn secs_until_loss(
        &self,
        waiting: usize,
        depth: usize,
        now: Timestamp,
    ) -> Option<u64> {
        let left = depth.saturating_sub(waiting) as u64;
        if left == 0 {
            return Some(0);
        }
        let grown = waiting.saturating_sub(self.waiting) as u64;
        let millis = now.millis_since(self.since);
        left.saturating_mul(millis).checked_div(grown).map(|millis| millis / 1_000)
    }
}

/// What a look at a marked queue has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The queue is short again, and no alarm was raised.
    Short,
    /// The alarm has to be raised.
    Slow,
    /// The alarm is over.
    NoLongerSlow,
    Nothing,
}

/// The rule by which a queue is slow, and the alarm.
#[derive(Debug)]
pub(crate) struct QueueAlarm {
    /// The share of the depth in percent; the largest number if there is no alarm.
    percent: AtomicUsize,
    after_millis: AtomicU64,
    announcer: Arc<Announcer>,
    counts: Arc<Counts>,
    lines: LineLimit<LINES_MAX>,
}

impl QueueAlarm {
    pub(super) fn new(
        limits: &Limits,
        announcer: &Arc<Announcer>,
        counts: &Arc<Counts>,
    ) -> QueueAlarm {
        let alarm = QueueAlarm {
            percent: AtomicUsize::default(),
            after_millis: AtomicU64::default(),
            announcer: announcer.clone(),
            counts: counts.clone(),
            lines: LineLimit::default(),
        };
        alarm.set_limits(limits);
        alarm
    }

    /// Puts another rule in force.
    pub(super) fn set_limits(&self, limits: &Limits) {
        let percent = usize::from(limits.slow_consumer_percent);
        let percent = if limits.slow_consumer_secs == 0 { usize::MAX } else { percent };
        self.percent.store(percent, Ordering::Relaxed);
        let after_millis = u64::from(limits.slow_consumer_secs) * 1_000;
        self.after_millis.store(after_millis, Ordering::Relaxed);
    }

    /// The number of messages from which on a queue of this depth is long. A Session keeps its depth when the limit
    /// changes.
    #[inline]
    fn share(&self, depth: usize) -> usize {
        let percent = self.percent.load(Ordering::Relaxed);
        depth.saturating_mul(percent).div_ceil(100).max(1)
    }

    fn after_millis(&self) -> u64 {
        self.after_millis.load(Ordering::Relaxed)
    }

    /// Whether a queue is long enough to be marked.
    #[inline]
    pub(super) fn is_long(&self, Filling { waiting, depth }: Filling) -> bool {
        waiting >= self.share(depth)
    }

    pub(super) fn mark(&self, waiting: usize, now: Timestamp) -> Mark {
        let look_at = Timestamp(now.0 + LOOK_MILLIS.min(self.after_millis()));
        Mark { since: now, waiting, look_at, slow: false }
    }

    /// Looks at a marked queue, and raises or clears the alarm. Returns the mark that stays.
    pub(super) fn look(
        &self,
        client_id: &Arc<str>,
        mark: Mark,
        filling: Filling,
        now: Timestamp,
    ) -> Option<Mark> {
        if now < mark.look_at {
            return Some(mark);
        }
        let found = self.found(&mark, filling, now);
        match found {
            Found::Short => return None,
            Found::NoLongerSlow => {
                self.clear(client_id);
                return None;
            }
            Found::Slow => self.raise(client_id, &mark, filling, now),
            Found::Nothing => {}
        }
        let slow = mark.slow || found == Found::Slow;
        let due = Timestamp(mark.since.0 + self.after_millis());
        let next = Timestamp(now.0 + LOOK_MILLIS);
        Some(Mark { look_at: if slow { next } else { next.min(due) }, slow, ..mark })
    }

    fn found(&self, mark: &Mark, filling: Filling, now: Timestamp) -> Found {
        let Filling { waiting, depth } = filling;
        match mark.slow {
            true if waiting * 2 < self.share(depth) => Found::NoLongerSlow,
            true => Found::Nothing,
            false if !self.is_long(filling) => Found::Short,
            false if now.millis_since(mark.since) >= self.after_millis() => Found::Slow,
            false => Found::Nothing,
        }
    }

    fn raise(&self, client_id: &Arc<str>, mark: &Mark, filling: Filling, now: Timestamp) {
        let Filling { waiting, depth } = filling;
        count_one(&self.counts.slow_alarms);
        self.counts.slow_sessions.fetch_add(1, Ordering::Relaxed);
        let client = || client_id.clone();
        self.announcer.announce(|| Happening::Slow { client_id: client(), waiting, depth });
        if log_enabled!(target: SLOW_LOG, Level::Warn) && self.lines.admits() {
            let client = Shown(client_id);
            let when = match mark.secs_until_loss(waiting, depth, now) {
                None => "and their number does not grow".to_owned(),
                Some(0) => "and newer ones are dropped".to_owned(),
                Some(secs) => format!("and newer ones will be dropped in about {secs} s"),
            };
            warn!(
                target: SLOW_LOG,
                "client {client} is slow: {waiting} messages of at most {depth} wait for it, {when}"
            );
        }
    }

    /// The alarm of a Session is over: its queue is short, or it has ended.
    pub(super) fn clear(&self, client_id: &Arc<str>) {
        self.counts.slow_sessions.fetch_sub(1, Ordering::Relaxed);
        self.announcer.announce(|| Happening::NoLongerSlow { client_id: client_id.clone() });
    }

    /// Writes how many lines were held back, once a second. Called with every tick.
    pub(super) fn tick(&self, now: Timestamp) {
        if let Some(lines) = self.lines.tick(now) {
            warn!(target: SLOW_LOG, "{lines} more clients became slow in the last second");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::WallClock;

    fn alarm(percent: u16, secs: u32) -> QueueAlarm {
        let limits = Limits {
            slow_consumer_percent: percent,
            slow_consumer_secs: secs,
            ..Limits::default()
        };
        let announcer = Arc::new(Announcer::new(WallClock::System));
        QueueAlarm::new(&limits.in_range(), &announcer, &Arc::default())
    }

    #[test]
    fn the_share_is_rounded_up_and_zero_seconds_are_off() {
        for (depth, percent, secs, share) in
            [(100, 50, 10, 50), (3, 50, 10, 2), (1, 1, 10, 1), (100, 100, 1, 100)]
        {
            assert_eq!(alarm(percent, secs).share(depth), share);
        }
        let full = Filling { waiting: 1_000_000_000, depth: 1_000_000_000 };
        assert!(!alarm(50, 0).is_long(full) && alarm(50, 1).is_long(full));
    }

    /// The lengths that the looks find second by second, and the second in which the alarm is raised and cleared.
    #[test]
    fn a_queue_is_slow_when_it_stays_long_and_until_it_is_half_as_long() {
        let alarm = alarm(50, 3);
        let filling = |waiting| Filling { waiting, depth: 100 };
        for (lengths, slow) in [
            ([60, 60, 60, 60, 60, 60], [false, false, true, true, true, true]),
            ([60, 60, 49, 60, 60, 60], [false; 6]),
            ([60, 60, 60, 49, 25, 24], [false, false, true, true, true, false]),
            ([60, 60, 60, 24, 60, 60], [false, false, true, false, false, false]),
        ] {
            let client = "c".into();
            let mut mark = Some(alarm.mark(60, Timestamp(0)));
            let mut seen = [false; 6];
            for (second, waiting) in lengths.into_iter().enumerate() {
                let now = Timestamp((second as u64 + 1) * 1_000);
                let early = Timestamp(now.0 - 1);
                mark = mark.and_then(|mark| alarm.look(&client, mark, filling(0), early));
                mark = mark.and_then(|mark| alarm.look(&client, mark, filling(waiting), now));
                seen[second] = mark.is_some_and(|mark| mark.slow);
            }
            assert_eq!(seen, slow, "{lengths:?}");
        }
        let counts = &alarm.counts;
        assert_eq!(counts.slow_alarms.load(Ordering::Relaxed), 3);
        assert_eq!(counts.slow_sessions.load(Ordering::Relaxed), 1, "the first is slow still");
    }

    #[test]
    fn the_time_until_loss_follows_the_growth_since_the_mark() {
        let mark = alarm(50, 10).mark(50, Timestamp(1_000));
        let after = |secs: u64, waiting| {
            mark.secs_until_loss(waiting, 100, Timestamp(1_000 + secs * 1_000))
        };
        assert_eq!(after(10, 60), Some(40), "one message a second, forty are left");
        assert_eq!(after(10, 75), Some(10));
        assert_eq!((after(10, 50), after(10, 40)), (None, None), "it does not grow");
        assert_eq!((after(10, 100), after(0, 100)), (Some(0), Some(0)), "it is full");
    }
}
