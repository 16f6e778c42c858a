//! Clients that come for one message: connect, subscribe, receive, disconnect, over and over.

use std::io;
use std::time::{Duration, Instant};

use super::crowd::{AT_ONCE, Crowd, PATIENCE, Seen};
use super::{Load, Mark, Outcome, us_each};
use crate::codec::{self, Packet, Stamp};
use crate::metric::Metric;
use crate::scenario::{Overrides, Scenario};
use crate::target::Target;

/// How often cycles that do not go on are looked for.
const CHECK: Duration = Duration::from_millis(250);

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChurnSpec {
    at_once: usize,
    payload: usize,
    warmup: Duration,
    measure: Duration,
    patience: Duration,
}

const CHURN: ChurnSpec = ChurnSpec {
    at_once: AT_ONCE,
    payload: 64,
    warmup: Duration::from_millis(500),
    measure: Duration::from_secs(3),
    patience: PATIENCE,
};

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let churn = Scenario::new("churn", CHURN);
    vec![churn.at_most(Metric::BrokerUsPerCycle, 1.0).by_default()]
}

impl Load for ChurnSpec {
    fn about(&self) -> String {
        format!(
            "{} clients at once, each connects, subscribes to a topic of its own, receives one \
             message of {} B from one steady publisher, says DISCONNECT, and a new one follows \
             when the broker has closed the connection",
            self.at_once, self.payload
        )
    }

    fn change(&mut self, overrides: &Overrides) {
        if let Some(seconds) = overrides.seconds {
            self.measure = Duration::from_secs_f64(seconds.clamp(0.01, 86_400.0));
        }
        if let Some(clients) = overrides.clients {
            self.at_once = usize::try_from(clients).unwrap_or(usize::MAX).max(1);
        }
        self.payload = overrides.payload.unwrap_or(self.payload).max(codec::STAMP_LEN);
    }

    fn run(&self, target: &Target) -> io::Result<Outcome> {
        run(target, *self)
    }
}

/// Warms up, measures, and lets the cycles that are under way finish.
///
/// # Errors
///
/// When the broker cannot be reached or measured, or no cycle was whole.
fn run(target: &Target, spec: ChurnSpec) -> io::Result<Outcome> {
    let mut churn = Churn::new(target, spec)?;
    churn.drive(Instant::now() + spec.warmup)?;
    let (before, whole_before) = (Mark::take(target)?, churn.whole);
    churn.drive(Instant::now() + spec.measure)?;
    let (after, measured) = (Mark::take(target)?, churn.whole - whole_before);
    let memory = target.memory()?;
    churn.producing = false;
    // Each cycle has its own deadline, so this ends earlier.
    churn.drive(Instant::now() + spec.patience * 8)?;
    churn.crowd.leave(spec.patience)?;

    let mut outcome = churn.into_outcome()?;
    outcome.measured = measured;
    outcome.set_memory(memory);
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    outcome.set(Metric::CyclesPerSec, Some(measured as f64 / seconds));
    let each = after.broker_ns_since(&before).and_then(|ns| us_each(ns, measured));
    outcome.set(Metric::BrokerUsPerCycle, each);
    Ok(outcome)
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nothing,
    ConnAck,
    SubAck,
    Message,
    Close,
}

/// A place that one client after the other takes.
#[derive(Debug, Clone, Copy)]
struct Place {
    stage: Stage,
    /// The number of its client.
    client: u32,
    since: Instant,
}

struct Churn {
    spec: ChurnSpec,
    crowd: Crowd,
    /// By token; the publisher's comes after them.
    places: Vec<Place>,
    producing: bool,
    clients: u32,
    /// Cycles that went through all stages.
    whole: u64,
    sent: u64,
    delivered: u64,
    duplicated: u64,
    foreign: u64,
    failed: u64,
    first_failure: Option<String>,
}

impl Churn {
    fn new(target: &Target, spec: ChurnSpec) -> io::Result<Self> {
        let mut crowd = Crowd::new(target)?;
        crowd.open(spec.at_once, "churn-publisher")?;
        let nobody = Place { stage: Stage::Nothing, client: 0, since: Instant::now() };
        Ok(Self {
            spec,
            crowd,
            places: vec![nobody; spec.at_once],
            producing: true,
            clients: 0,
            whole: 0,
            sent: 0,
            delivered: 0,
            duplicated: 0,
            foreign: 0,
            failed: 0,
            first_failure: None,
        })
    }

    /// Keeps all places busy until `until`, or until all are free when nothing new begins.
    fn drive(&mut self, until: Instant) -> io::Result<()> {
        let mut check = Instant::now() + CHECK;
        let (mut changed, mut batch) = (Vec::new(), Vec::new());
        loop {
            let now = Instant::now();
            let idle = self.places.iter().all(|place| place.stage == Stage::Nothing);
            if now >= until || (!self.producing && idle) {
                return Ok(());
            }
            if now >= check {
                self.give_up(now);
                check = now + CHECK;
            }
            self.begin()?;
            self.turn(until.min(check), &mut changed)?;
            for token in changed.drain(..) {
                self.answer(token, &mut batch);
            }
            if !batch.is_empty() {
                self.crowd.send(self.spec.at_once, &batch);
                batch.clear();
            }
        }
    }

    /// Sends a new client to each free place.
    fn begin(&mut self) -> io::Result<()> {
        if !self.producing {
            return Ok(());
        }
        for (token, place) in self.places.iter_mut().enumerate() {
            if place.stage == Stage::Nothing {
                let client = self.clients;
                self.clients += 1;
                *place = Place { stage: Stage::ConnAck, client, since: Instant::now() };
                let hello = codec::connect(&format!("churn-{client:08}"), codec::KEEP_ALIVE_SECS);
                self.crowd.dial(token, &hello)?;
            }
        }
        Ok(())
    }

    /// Takes what comes; notes which places have something to say next.
    fn turn(&mut self, until: Instant, changed: &mut Vec<usize>) -> io::Result<()> {
        let (places, first_failure) = (&mut self.places, &mut self.first_failure);
        let (mut publisher_closed, mut failed) = (None, 0);
        let publisher = self.spec.at_once;
        self.crowd.turn(until, |token, seen| {
            let Some(place) = places.get_mut(token) else {
                if let (Seen::Closed(error), true) = (&seen, token == publisher) {
                    publisher_closed = Some(io::Error::new(error.kind(), error.to_string()));
                }
                return;
            };
            let next = match (place.stage, &seen) {
                (Stage::ConnAck, Seen::Packet(Packet::ConnAck(0))) => Stage::SubAck,
                (Stage::SubAck, Seen::Packet(Packet::SubAck(1, 0))) => Stage::Message,
                (Stage::Message, Seen::Packet(Packet::Publish { payload, .. }))
                    if is_for(payload, place.client) =>
                {
                    self.delivered += 1;
                    Stage::Close
                }
                (Stage::Close, Seen::Packet(Packet::Publish { payload, .. })) => {
                    let again = is_for(payload, place.client);
                    self.duplicated += u64::from(again);
                    self.foreign += u64::from(!again);
                    return;
                }
                (Stage::Close, Seen::Closed(_)) => {
                    self.whole += 1;
                    Stage::Nothing
                }
                (stage, seen) => {
                    failed += 1;
                    first_failure.get_or_insert_with(|| format!("{seen:?} instead of {stage:?}"));
                    Stage::Nothing
                }
            };
            *place = Place { stage: next, since: Instant::now(), ..*place };
            changed.push(token);
        })?;
        self.failed += failed;
        publisher_closed.map_or(Ok(()), Err)
    }

    /// What a client does after it got what it waited for.
    fn answer(&mut self, token: usize, batch: &mut Vec<u8>) {
        let Place { stage, client, .. } = self.places[token];
        match stage {
            Stage::SubAck => self.crowd.send(token, &codec::subscribe(1, &topic(client), 0)),
            Stage::Message => {
                let stamp = Stamp { publisher: 0, sequence: client, time_ns: 0 };
                codec::put_publish(batch, false, &topic(client), self.spec.payload, stamp);
                self.sent += 1;
            }
            Stage::Close => self.crowd.send(token, &codec::DISCONNECT),
            // After a failure the connection may still be there.
            Stage::Nothing => self.crowd.drop_link(token),
            Stage::ConnAck => {}
        }
    }

    /// Frees the places where nothing has happened for too long.
    fn give_up(&mut self, now: Instant) {
        for (token, place) in self.places.iter_mut().enumerate() {
            let waited = now.saturating_duration_since(place.since);
            if place.stage != Stage::Nothing && waited >= self.spec.patience {
                self.failed += 1;
                let stage = place.stage;
                self.first_failure.get_or_insert_with(|| format!("no {stage:?} in time"));
                place.stage = Stage::Nothing;
                self.crowd.drop_link(token);
            }
        }
    }

    fn into_outcome(self) -> io::Result<Outcome> {
        if self.whole == 0 {
            let why = self.first_failure.unwrap_or_else(|| "too little time".to_owned());
            return Err(io::Error::other(format!("no cycle was whole: {why}")));
        }
        let mut outcome = Outcome {
            sent: self.sent,
            delivered: self.delivered,
            lost: self.sent - self.delivered,
            duplicated: self.duplicated,
            connections: u64::from(self.clients),
            ..Outcome::default()
        };
        if let Some(why) = self.first_failure {
            let count = self.failed;
            outcome.notes.push(format!("{count} cycles failed, the first: {why}"));
        }
        if self.foreign > 0 {
            outcome.notes.push(format!("{} packets that nobody here sent", self.foreign));
        }
        Ok(outcome)
    }
}

fn is_for(payload: &[u8], client: u32) -> bool {
    Stamp::read(payload).is_some_and(|stamp| stamp.sequence == client)
}

/// All topics have the same length, so that all cycles cost the same.
fn topic(client: u32) -> String {
    format!("churn/{client:08}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rehearsal::{Faults, rehearse};

    const SHORT: ChurnSpec = ChurnSpec {
        at_once: 4,
        warmup: Duration::ZERO,
        measure: Duration::from_millis(300),
        patience: Duration::from_secs(5),
        ..CHURN
    };

    #[test]
    fn every_cycle_gets_its_message() {
        let outcome = run(&crate::null::in_process(), SHORT).unwrap();
        assert!(outcome.measured > 0);
        assert_eq!((outcome.delivered, outcome.lost), (outcome.sent, 0));
        assert_eq!((outcome.duplicated, outcome.notes.len()), (0, 0));
        assert!(outcome.values.contains_key(&Metric::BrokerUsPerCycle));
    }

    #[test]
    fn a_lost_message_is_counted_and_the_place_taken_again() {
        let server = rehearse(Faults { lose_every: 3, ..Faults::default() });
        let patience = Duration::from_millis(500);
        let outcome = run(&server, ChurnSpec { patience, ..SHORT }).unwrap();
        assert!(outcome.lost > 0);
        assert_eq!(outcome.sent, outcome.delivered + outcome.lost);
        assert!(outcome.notes[0].ends_with("no Message in time"), "{:?}", outcome.notes);
    }

    #[test]
    fn a_message_that_comes_twice_is_counted() {
        let server = rehearse(Faults { twice: true, ..Faults::default() });
        let outcome = run(&server, SHORT).unwrap();
        assert!(outcome.duplicated > 0);
        assert_eq!(outcome.lost, 0);
    }

    #[test]
    fn a_broker_that_refuses_is_an_error_and_no_hang() {
        for faults in [
            Faults { refuse_connect_every: 2, refuse_subscribe: true, ..Faults::default() },
            Faults { deaf_to_subscribe: true, ..Faults::default() },
        ] {
            let patience = Duration::from_millis(50);
            let error = run(&rehearse(faults), ChurnSpec { patience, ..SHORT }).unwrap_err();
            assert!(error.to_string().starts_with("no cycle was whole"), "{error}");
        }
    }
}
