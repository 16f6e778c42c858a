//! Many different filters: what SUBSCRIBE and UNSUBSCRIBE cost, pipelined.

use std::io;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, PATIENCE, Seen};
use super::idle::rest;
use super::{Load, Mark, Outcome, us_each};
use crate::codec::{self, Packet};
use crate::metric::Metric;
use crate::scenario::{Overrides, Scenario};
use crate::target::Target;

/// Requests that a connection has under way at once.
const WINDOW: u32 = 100;

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubscribeSpec {
    filters: u32,
    connections: u32,
    patience: Duration,
}

const SUBSCRIBE: SubscribeSpec =
    SubscribeSpec { filters: 100_000, connections: 10, patience: PATIENCE };

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let subscribe = Scenario::new("subscribe", SUBSCRIBE);
    vec![subscribe.at_most(Metric::BrokerUsPerSubscribe, 0.5).by_default()]
}

impl Load for SubscribeSpec {
    fn about(&self) -> String {
        format!(
            "{} different filters over {} connections ({MIX}), one in each packet, {WINDOW} \
             packets under way on each connection; then UNSUBSCRIBE of all",
            self.filters, self.connections
        )
    }

    fn change(&mut self, overrides: &Overrides) {
        self.filters = overrides.count.unwrap_or(self.filters).max(1);
        self.connections = overrides.clients.unwrap_or(self.connections).max(1);
    }

    fn run(&self, target: &Target) -> io::Result<Outcome> {
        run(target, self)
    }
}

/// Subscribes all, unsubscribes all, each with its own measurement.
///
/// # Errors
///
/// When the broker cannot be reached or measured, closes a connection, refuses a filter, or stops
/// answering.
fn run(target: &Target, spec: &SubscribeSpec) -> io::Result<Outcome> {
    let mut crowd = Crowd::new(target)?;
    let shares = Shares { filters: spec.filters, connections: spec.connections };
    for index in 0..spec.connections as usize {
        crowd.open(index, &format!("subscribe-{index}"))?;
    }
    let begin = Mark::take(target)?;
    request(&mut crowd, shares, Verb::Subscribe, spec.patience, |_| ())?;
    let seconds = begin.at.elapsed().as_secs_f64();
    let (subscribed, memory) = (rest(target)?, target.memory()?);
    request(&mut crowd, shares, Verb::Unsubscribe, spec.patience, |_| ())?;
    let unsubscribed = rest(target)?;
    let left = crowd.leave(spec.patience)?;

    let mut outcome = Outcome { connections: spec.connections.into(), ..Outcome::default() };
    if left > 0 {
        outcome.notes.push(format!("the broker left {left} connections open after DISCONNECT"));
    }
    outcome.set_memory(memory);
    outcome.set(Metric::SubscribesPerSec, Some(f64::from(spec.filters) / seconds));
    let each = |after: &Mark, before: &Mark| {
        after.broker_ns_since(before).and_then(|ns| us_each(ns, spec.filters.into()))
    };
    outcome.set(Metric::BrokerUsPerSubscribe, each(&subscribed, &begin));
    outcome.set(Metric::BrokerUsPerUnsubscribe, each(&unsubscribed, &subscribed));
    Ok(outcome)
}

/// How the filters are divided: each connection has the next few thousand, as a client that wants
/// all of some sites would.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    pub(super) filters: u32,
    pub(super) connections: u32,
}

impl Shares {
    /// The first filter of a connection; for one past the last, the number of filters.
    pub(super) fn first(self, connection: usize) -> u32 {
        let at = u64::from(self.filters) * connection as u64 / u64::from(self.connections.max(1));
        u32::try_from(at).unwrap_or(self.filters)
    }
}

/// What is asked for each filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Subscribe,
    Unsubscribe,
}

/// Asks for all filters, each connection (tokens 0, 1, ...) for its share, and waits for all
/// answers; tells `progress` how many have come.
///
/// # Errors
///
/// When the broker closes a connection, refuses a filter, or does not answer for `patience`.
pub(super) fn request(
    crowd: &mut Crowd,
    shares: Shares,
    verb: Verb,
    patience: Duration,
    mut progress: impl FnMut(u32),
) -> io::Result<()> {
    let connections = shares.connections as usize;
    // The next filter to ask for, and the next to be answered, of each connection.
    let mut asked: Vec<u32> = (0..connections).map(|index| shares.first(index)).collect();
    let mut answered = asked.clone();
    let mut deadline = Instant::now() + patience;
    let (mut done, mut batch) = (0, Vec::new());
    while done < shares.filters {
        for index in 0..connections {
            let end = shares.first(index + 1).min(answered[index] + WINDOW);
            while asked[index] < end {
                let (id, filter) = (packet_id(asked[index]), filter(asked[index]));
                batch.extend(match verb {
                    Verb::Subscribe => codec::subscribe(id, &filter, 0),
                    Verb::Unsubscribe => codec::unsubscribe(id, &filter),
                });
                asked[index] += 1;
            }
            if !batch.is_empty() {
                crowd.send(index, &batch);
                batch.clear();
            }
        }
        let before = done;
        let mut failure = None;
        crowd.turn(deadline, |token, seen| {
            let Some(next) = answered.get_mut(token) else { return };
            let right = match (verb, &seen) {
                (Verb::Subscribe, Seen::Packet(Packet::SubAck(id, 0))) => *id == packet_id(*next),
                // UNSUBACK; its Packet Identifier is the broker's conformance, not its cost.
                (Verb::Unsubscribe, Seen::Packet(Packet::Other(11))) => true,
                _ => false,
            };
            if right {
                (*next, done) = (*next + 1, done + 1);
            } else {
                failure.get_or_insert_with(|| format!("{verb:?} {next}: {seen:?}"));
            }
        })?;
        if let Some(failure) = failure {
            return Err(io::Error::other(failure));
        }
        if done > before {
            deadline = Instant::now() + patience;
            progress(done);
        } else if Instant::now() >= deadline {
            return Err(io::Error::other(format!("{verb:?}: no answer after {done}")));
        }
    }
    Ok(())
}

/// Any but 0.
pub(super) fn packet_id(index: u32) -> u16 {
    u16::try_from(index % 65_535 + 1).unwrap_or(1)
}

/// The mix of [`filter`] in words.
pub(super) const MIX: &str = "of 100, 80 without a wildcard, 10 with `+`, 10 with `#`";

/// Of a hundred filters of a site: eighty devices' states, ten alarms anywhere at the site, and
/// all logs of ten devices.
pub(super) fn filter(index: u32) -> String {
    let (site, one) = (index / 100, index % 100);
    match one {
        0..80 => format!("site/{site:05}/device/{one:02}/state"),
        80..90 => format!("site/{site:05}/+/{one:02}/alarm"),
        _ => format!("site/{site:05}/device/{one:02}/log/#"),
    }
}

/// Appends a topic that matches the filter of the same index and no other.
pub(super) fn put_topic(out: &mut String, index: u32) {
    use std::fmt::Write as _;
    let (site, one) = (index / 100, index % 100);
    let end = match one {
        0..80 => "state",
        80..90 => "alarm",
        _ => "log/7",
    };
    // Writing to a String cannot fail.
    let _ = write!(out, "site/{site:05}/device/{one:02}/{end}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rehearsal::{Faults, fits, measured, rehearse};

    const FEW: SubscribeSpec =
        SubscribeSpec { filters: 700, connections: 3, patience: Duration::from_secs(5) };

    #[test]
    fn each_topic_matches_its_filter_only() {
        let filters: Vec<_> = (0..300).map(filter).collect();
        for index in 0..300 {
            let mut topic = String::new();
            put_topic(&mut topic, index);
            let fitting: Vec<_> =
                (0..300).filter(|&other| fits(&filters[other as usize], &topic)).collect();
            assert_eq!(fitting, [index], "{topic}");
        }
    }

    #[test]
    fn shares_cover_all_filters_once() {
        let shares = Shares { filters: 10, connections: 3 };
        assert_eq!([0, 1, 2, 3].map(|at| shares.first(at)), [0, 3, 6, 10]);
    }

    #[test]
    fn all_are_subscribed_and_unsubscribed() {
        for target in [crate::null::in_process(), measured(rehearse(Faults::default()))] {
            let outcome = run(&target, &FEW).unwrap();
            assert_eq!((outcome.connections, outcome.notes.len()), (3, 0));
            assert!(outcome.values[&Metric::SubscribesPerSec] > 0.0);
            assert!(outcome.values.contains_key(&Metric::BrokerUsPerSubscribe));
            assert!(outcome.values.contains_key(&Metric::BrokerUsPerUnsubscribe));
        }
    }

    #[test]
    fn a_refusal_and_silence_are_errors() {
        let faults = Faults { refuse_subscribe: true, ..Faults::default() };
        let error = run(&rehearse(faults), &FEW).unwrap_err().to_string();
        assert!(error.contains("SubAck(") && error.contains("128"), "{error}");
        let faults = Faults { deaf_to_subscribe: true, ..Faults::default() };
        let spec = SubscribeSpec { patience: Duration::from_millis(50), ..FEW };
        let error = run(&rehearse(faults), &spec).unwrap_err().to_string();
        assert_eq!(error, "Subscribe: no answer after 0");
    }
}
