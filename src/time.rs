//! Time in the pure rooms: a number that the shell passes in.

use std::time::Duration;

/// Milliseconds since the broker was created. Only the shell makes one from a clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timestamp(pub(crate) u64);

impl Timestamp {
    /// Later than every other.
    pub(crate) const NEVER: Timestamp = Timestamp(u64::MAX);

    /// This moment plus `duration`, at most [`Timestamp::NEVER`].
    pub(crate) fn plus(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(millis))
    }

    /// As [`Timestamp::plus`], in seconds.
    pub(crate) fn plus_secs(self, secs: u32) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::from(secs) * 1_000))
    }

    /// Milliseconds from `earlier` until this moment, 0 if it is not later.
    pub(crate) fn millis_since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
