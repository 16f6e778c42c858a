//! Healthy clients that come while others are there: how long it takes until they are let in.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::access;
use crate::link::{Dial, Link};
use crate::stats::Spread;
use crate::target::Target;

/// One comes this long after the last was let in.
const EVERY: Duration = Duration::from_millis(200);

/// One that came.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) begin: Instant,
    /// `Err` says why it was not let in.
    took: Result<Duration, String>,
}

/// Some that came.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Arrivals {
    /// Milliseconds from the SYN to CONNACK.
    pub(super) median_ms: Option<f64>,
    pub(super) max_ms: Option<f64>,
    pub(super) failed: usize,
    pub(super) first_failure: Option<String>,
}

/// Connects, leaves, waits, and so on until `is_over`.
pub(super) fn knock(target: &Target, is_over: &AtomicBool) -> io::Result<Vec<Arrival>> {
    let (mut arrivals, user) = (Vec::new(), access::user(0));
    while !is_over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let link = Dial::new(target, "bench-arrival").user(Some(&user)).open();
        let took = link.map(Link::close).map(|()| begin.elapsed());
        arrivals.push(Arrival { begin, took: took.map_err(|error| error.to_string()) });
        thread::sleep(EVERY);
    }
    Ok(arrivals)
}

impl Arrivals {
    pub(super) fn of(arrivals: &[Arrival]) -> Self {
        let ms = |took: &Duration| took.as_secs_f64() * 1000.0;
        let took = arrivals.iter().filter_map(|one| one.took.as_ref().ok().map(ms));
        let spread = Spread::of(took);
        let mut failures = arrivals.iter().filter_map(|one| one.took.as_ref().err());
        let first_failure = failures.next().cloned();
        Self {
            median_ms: spread.map(|spread| spread.median),
            max_ms: spread.map(|spread| spread.max),
            failed: usize::from(first_failure.is_some()) + failures.count(),
            first_failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_and_the_first_is_named() {
        let arrival = |took| Arrival { begin: Instant::now(), took };
        let ms = Duration::from_millis;
        let no = |why: &str| Err(why.to_owned());
        let arrivals = [Ok(ms(2)), no("late"), Ok(ms(4)), no("gone"), Ok(ms(90))].map(arrival);
        let seen = Arrivals::of(&arrivals);
        assert_eq!((seen.median_ms, seen.max_ms, seen.failed), (Some(4.0), Some(90.0), 2));
        assert_eq!(seen.first_failure.as_deref(), Some("late"));
        assert_eq!(Arrivals::of(&[]).median_ms, None);
    }
}
