//! The last hour in steps of ten seconds, and the rates of the last ten seconds: looks at what the broker counts anyway.
//! Nobody looks where there is no admin listener.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::broker::Broker;
use crate::calendar;
use crate::packet::PacketType;
use crate::sync::lock;
use crate::time::Timestamp;
use crate::traffic::Traffic;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// Looks that are kept: the rates are those of so many seconds.
const LOOKS: usize = 10;
/// Looks from one sample to the next.
const LOOKS_OF_SAMPLE: u64 = 10;
const STEP_SECS: u64 = LOOK.as_secs() * LOOKS_OF_SAMPLE;
/// Samples of an hour.
const SAMPLES: usize = 360;

/// Counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    at: Timestamp,
    publishes: (u64, u64),
    bytes: (u64, u64),
    connects: u64,
    dropped: u64,
}

/// What a second of the time between two looks brought, on average.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Rates {
    publishes: (f64, f64),
    bytes: (f64, f64),
    connects: f64,
    dropped: f64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: SystemTime,
    rates: Rates,
    connections: usize,
    waiting: u64,
}

/// Looks and samples, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    looks: VecDeque<Look>,
    /// The look of the last sample.
    sampled: Option<Look>,
    samples: VecDeque<Sample>,
}

impl Look {
    fn at(broker: &Broker) -> Look {
        Look::of(&broker.traffic(), broker.engine().now())
    }

    fn of(traffic: &Traffic, at: Timestamp) -> Look {
        let publish = PacketType::Publish;
        Look {
            at,
            publishes: (traffic.packets_received(publish), traffic.packets_sent(publish)),
            bytes: (traffic.bytes_received, traffic.bytes_sent),
            connects: traffic.connects_accepted,
            dropped: 0,
        }
    }

    /// From an earlier look to this one.
    #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    fn since(&self, earlier: &Look) -> Rates {
        let millis = self.at.0.saturating_sub(earlier.at.0);
        if millis == 0 {
            return Rates::default();
        }
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 * 1_000.0 / millis as f64;
        let both = |now: (u64, u64), then: (u64, u64)| (rate(now.0, then.0), rate(now.1, then.1));
        Rates {
            publishes: both(self.publishes, earlier.publishes),
            bytes: both(self.bytes, earlier.bytes),
            connects: rate(self.connects, earlier.connects),
            dropped: rate(self.dropped, earlier.dropped),
        }
    }
}

impl History {
    /// Looks at the broker. `number` counts the calls, which come once in [`LOOK`].
    pub(super) fn look(&self, broker: &Broker, number: u64) {
        let look = Look::at(broker);
        self.keep(look);
        if number.is_multiple_of(LOOKS_OF_SAMPLE) {
            let (ledger, connections) = (broker.ledger(), broker.counters().connections);
            let look = Look { dropped: ledger.dropped_total(), ..look };
            self.sample(look, broker.engine().host.wall(), connections, ledger.waiting);
        }
    }

    fn keep(&self, look: Look) {
        let looks = &mut lock(&self.kept).looks;
        if looks.len() > LOOKS {
            looks.pop_front();
        }
        looks.push_back(look);
    }

    fn sample(&self, look: Look, at: SystemTime, connections: usize, waiting: u64) {
        let mut kept = lock(&self.kept);
        // The first look has nothing before it.
        if let Some(earlier) = kept.sampled.replace(look) {
            if kept.samples.len() >= SAMPLES {
                kept.samples.pop_front();
            }
            let rates = look.since(&earlier);
            kept.samples.push_back(Sample { at, rates, connections, waiting });
        }
    }

    /// What the seconds until now brought, up to ten of them.
    pub(super) fn rates(&self, broker: &Broker) -> Value {
        let (now, looks) = (Look::at(broker), &lock(&self.kept).looks);
        let rates = looks.front().map_or_else(Rates::default, |first| now.since(first));
        json!({
            "publishesReceived": rates.publishes.0,
            "publishesSent": rates.publishes.1,
            "bytesReceived": rates.bytes.0,
            "bytesSent": rates.bytes.1,
            "connects": rates.connects,
        })
    }

    /// The samples, the oldest first.
    pub(super) fn shown(&self) -> Value {
        let samples = lock(&self.kept).samples.clone();
        let samples = samples.iter().map(|Sample { at, rates, connections, waiting }| {
            json!({
                "at": calendar::write(*at),
                "publishesReceived": rates.publishes.0,
                "publishesSent": rates.publishes.1,
                "bytesReceived": rates.bytes.0,
                "bytesSent": rates.bytes.1,
                "dropped": rates.dropped,
                "connections": connections,
                "waiting": waiting,
            })
        });
        json!({ "stepSecs": STEP_SECS, "samples": samples.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(secs: u64, count: u64) -> Look {
        Look {
            at: Timestamp(secs * 1_000),
            publishes: (count, 2 * count),
            bytes: (3 * count, 4 * count),
            connects: count / 10,
            dropped: count / 100,
        }
    }

    #[test]
    fn rates_are_those_of_a_second() {
        let rates = look(12, 5_000).since(&look(2, 1_000));
        let expected = Rates {
            publishes: (400.0, 800.0),
            bytes: (1_200.0, 1_600.0),
            connects: 40.0,
            dropped: 4.0,
        };
        assert_eq!(rates, expected);
        assert_eq!(
            look(2, 7).since(&look(2, 1)),
            Rates::default(),
            "no time has passed: pitfall 12"
        );
        assert_eq!(look(3, 1).since(&look(2, 7)), Rates::default(), "nothing counts down");
    }

    #[test]
    fn an_hour_is_kept_and_no_more_pitfall_15() {
        let history = History::default();
        for step in 0..1_000 {
            history.keep(look(step, step));
            history.sample(look(step * STEP_SECS, step), SystemTime::UNIX_EPOCH, 1, step);
        }
        let kept = lock(&history.kept);
        assert_eq!((kept.samples.len(), kept.looks.len()), (SAMPLES, LOOKS + 1));
        assert_eq!(kept.samples.back().map(|sample| sample.waiting), Some(999));
        assert_eq!(kept.looks.front().map(|look| look.at), Some(Timestamp(989_000)));
    }
}
