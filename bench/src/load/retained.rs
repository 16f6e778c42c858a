//! Very many retained messages: what each holds resident, what it costs to store one, and what
//! to replay one to a new subscriber.

use std::io;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, PATIENCE, Seen};
use super::idle::rest;
use super::{Load, Mark, Needs, Outcome, us_each};
use crate::codec::{self, Packet, STAMP_LEN, Stamp};
use crate::metric::Metric;
use crate::scenario::{Overrides, Scenario};
use crate::sequence::Tally;
use crate::target::Target;

/// Connections that publish, each its share.
const PUBLISHERS: u32 = 10;
/// So many PUBLISH follow each other before the broker is asked whether it has them.
const BATCH: u32 = 500;
/// What one replay has to give; beside the topics of other loads.
const FILTER: &str = "retained/#";

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetainedSpec {
    messages: u32,
    payload: usize,
    /// Subscribers, one after the other, that get all of them.
    replays: u32,
    patience: Duration,
}

const RETAINED: RetainedSpec =
    RetainedSpec { messages: 100_000, payload: 64, replays: 3, patience: PATIENCE };

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let retained = Scenario::new("retained-100k", RETAINED).on_a_fresh_broker();
    vec![retained.bound(Metric::BytesPerRetained, 450.0)]
}

impl Load for RetainedSpec {
    fn about(&self) -> String {
        format!(
            "{} retained messages of {} B on as many topics from {PUBLISHERS} publishers, QoS 0; \
             then {} subscribers to {FILTER}, one after the other, get them all",
            self.messages, self.payload, self.replays
        )
    }

    fn needs(&self) -> Needs {
        Needs { retained: true, ..Needs::over(self.transport()) }
    }

    fn change(&mut self, overrides: &Overrides) {
        self.messages = overrides.count.unwrap_or(self.messages).max(1);
        self.replays = overrides.clients.unwrap_or(self.replays).max(1);
        self.payload = overrides.payload.unwrap_or(self.payload).max(STAMP_LEN);
    }

    fn run(&self, target: &Target) -> io::Result<Outcome> {
        run(target, self)
    }
}

/// Stores, replays, and deletes again what it stored.
///
/// # Errors
///
/// When the broker cannot be reached or measured, closes a connection or stops answering. That
/// messages do not come is no error but counted.
fn run(target: &Target, spec: &RetainedSpec) -> io::Result<Outcome> {
    let mut crowd = Crowd::new(target)?;
    for index in 0..PUBLISHERS as usize {
        crowd.open(index, &format!("retained-{index}"))?;
    }
    let (begin, empty) = (rest(target)?, target.memory()?);
    store(&mut crowd, spec, spec.payload)?;
    let (stored, full) = (rest(target)?, target.memory()?);
    let mut outcome = Outcome { sent: spec.messages.into(), ..Outcome::default() };
    let mut replays = Vec::new();
    for index in 0..spec.replays as usize {
        replays.push(replay(&mut crowd, PUBLISHERS as usize + index, spec, &mut outcome)?);
    }
    let replayed = rest(target)?;
    store(&mut crowd, spec, 0)?;
    outcome.connections = u64::from(PUBLISHERS + spec.replays);
    let left = crowd.leave(spec.patience)?;
    if left > 0 {
        outcome.notes.push(format!("the broker left {left} connections open after DISCONNECT"));
    }

    outcome.measured = outcome.delivered;
    outcome.set_memory(full);
    let grown = empty.zip(full).map(|(empty, full)| full.rss.saturating_sub(empty.rss));
    let each = grown.map(|bytes| bytes as f64 / f64::from(spec.messages));
    outcome.set(Metric::BytesPerRetained, each);
    let us = |after: &Mark, before: &Mark, count| {
        after.broker_ns_since(before).and_then(|ns| us_each(ns, count))
    };
    outcome.set(Metric::BrokerUsPerRetained, us(&stored, &begin, spec.messages.into()));
    outcome.set(Metric::BrokerUsPerReplayed, us(&replayed, &stored, outcome.delivered));
    let seconds: f64 = replays.iter().map(Duration::as_secs_f64).sum();
    outcome.set(Metric::MessagesPerSec, Some(outcome.delivered as f64 / seconds));
    Ok(outcome)
}

/// Publishes all with so many bytes of payload; nothing at all deletes them. A PINGREQ behind each
/// batch tells when the broker has it: it answers in order.
fn store(crowd: &mut Crowd, spec: &RetainedSpec, payload: usize) -> io::Result<()> {
    let publishers = PUBLISHERS as usize;
    let mut next: Vec<u32> = (0..PUBLISHERS).collect();
    let mut waiting = vec![false; publishers];
    let mut batch = Vec::new();
    let mut deadline = Instant::now() + spec.patience;
    loop {
        for (index, next) in next.iter_mut().enumerate() {
            if waiting[index] || *next >= spec.messages {
                continue;
            }
            for _ in 0..BATCH {
                if *next < spec.messages {
                    let stamp = Stamp { publisher: 0, sequence: *next, time_ns: 0 };
                    codec::put_publish(&mut batch, true, &topic(*next), payload, stamp);
                    *next += PUBLISHERS;
                }
            }
            batch.extend(codec::PINGREQ);
            crowd.send(index, &batch);
            batch.clear();
            waiting[index] = true;
        }
        if !waiting.contains(&true) {
            return Ok(());
        }
        let (mut progress, mut failure) = (false, None);
        crowd.turn(deadline, |token, seen| match (waiting.get_mut(token), seen) {
            // PINGRESP
            (Some(waiting), Seen::Packet(Packet::Other(13))) => {
                (*waiting, progress) = (false, true);
            }
            (Some(_), seen) => failure = Some(format!("instead of PINGRESP: {seen:?}")),
            // A subscriber of before, which is told of deletions or closed.
            (None, _) => {}
        })?;
        if let Some(failure) = failure {
            return Err(io::Error::other(failure));
        }
        if progress {
            deadline = Instant::now() + spec.patience;
        } else if Instant::now() >= deadline {
            return Err(io::Error::other("no PINGRESP to what was to be retained"));
        }
    }
}

/// Subscribes and takes all, or what comes; returns how long that took.
fn replay(
    crowd: &mut Crowd,
    token: usize,
    spec: &RetainedSpec,
    outcome: &mut Outcome,
) -> io::Result<Duration> {
    crowd.open(token, &format!("retained-sub-{token}"))?;
    let begin = Instant::now();
    crowd.send(token, &codec::subscribe(1, FILTER, 0));
    let mut came = vec![false; spec.messages as usize];
    let (mut tally, mut foreign) = (Tally::default(), 0_u64);
    let mut deadline = begin + spec.patience;
    let (mut last, mut closed) = (begin, None);
    while tally.delivered < spec.messages.into() && closed.is_none() {
        let before = tally.delivered;
        crowd.turn(deadline, |from, seen| match seen {
            // The subscriber before, which is closed.
            _ if from != token => {}
            Seen::Packet(Packet::Publish { payload, .. }) => {
                let stamp = Stamp::read(payload);
                match stamp.and_then(|stamp| came.get_mut(stamp.sequence as usize)) {
                    Some(true) => tally.duplicated += 1,
                    Some(came) => {
                        (*came, tally.delivered) = (true, tally.delivered + 1);
                    }
                    None => foreign += 1,
                }
            }
            Seen::Packet(Packet::SubAck(1, 0)) => {}
            seen => closed = Some(format!("while messages were replayed: {seen:?}")),
        })?;
        last = Instant::now();
        if tally.delivered > before {
            deadline = last + spec.patience;
        } else if last >= deadline {
            break;
        }
    }
    if let Some(closed) = closed {
        return Err(io::Error::other(closed));
    }
    tally.lost = u64::from(spec.messages) - tally.delivered;
    outcome.add(tally);
    if foreign > 0 {
        outcome.notes.push(format!("{foreign} packets that nobody here sent"));
    }
    // It has seen enough: what follows shall not be sent to it.
    crowd.send(token, &codec::unsubscribe(2, FILTER));
    crowd.send(token, &codec::DISCONNECT);
    Ok(last.duration_since(begin))
}

/// A tree as devices make it.
fn topic(index: u32) -> String {
    format!("retained/{:05}/device/{:02}/state", index / 100, index % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rehearsal::{Faults, measured, rehearse};

    const FEW: RetainedSpec = RetainedSpec { messages: 1200, replays: 2, ..RETAINED };

    #[test]
    fn all_come_at_every_replay_and_are_deleted() {
        let target = rehearse(Faults::default());
        for target in [target, measured(target)] {
            let outcome = run(&target, &FEW).unwrap();
            assert_eq!((outcome.sent, outcome.delivered, outcome.lost), (1200, 2400, 0));
            assert_eq!((outcome.duplicated, outcome.notes.len()), (0, 0));
            let has = outcome.values.contains_key(&Metric::BrokerUsPerReplayed);
            assert_eq!(has, target.pid.is_some());
        }
        // Nothing is left that a new subscriber would get.
        let patience = Duration::from_millis(50);
        let mut crowd = Crowd::new(&target).unwrap();
        let (spec, mut outcome) = (RetainedSpec { patience, ..FEW }, Outcome::default());
        replay(&mut crowd, 0, &spec, &mut outcome).unwrap();
        assert_eq!((outcome.delivered, outcome.lost), (0, 1200));
    }

    #[test]
    fn a_broker_that_retains_nothing_loses_all() {
        let spec = RetainedSpec { patience: Duration::from_secs(1), ..FEW };
        let outcome = run(&crate::null::in_process(), &spec).unwrap();
        assert_eq!((outcome.delivered, outcome.lost), (0, 2400));
    }

    #[test]
    fn a_broker_that_stops_answering_is_an_error_and_no_hang() {
        let spec = RetainedSpec { patience: Duration::from_millis(50), ..FEW };
        let deaf = rehearse(Faults { deaf_to_ping: true, ..Faults::default() });
        let error = run(&deaf, &spec).unwrap_err().to_string();
        assert!(error.contains("no PINGRESP"), "{error}");
    }
}
