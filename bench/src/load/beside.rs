//! One busy pair, alone and beside very many idle subscribers, in turn.

use std::io;
use std::time::{Duration, Instant};

use super::crowd::{AT_ONCE, Crowd, Newcomers, PATIENCE, Seen, gather};
use super::idle::rest;
use super::resubscribe::{open_pairs, put_topic};
use super::volley::{STALL, Volley};
use super::{Load, Mark, Outcome, us_each};
use crate::metric::Metric;
use crate::process::raise_descriptor_limit;
use crate::scenario::{Overrides, Scenario};
use crate::stats::Spread;
use crate::target::Target;

/// Descriptors that the tool and a broker need for themselves.
const SPARE_DESCRIPTORS: u64 = 100;

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BesideSpec {
    idle: u64,
    rounds: u32,
    payload: usize,
    window: u32,
    warmup: Duration,
    measure: Duration,
    patience: Duration,
    stall: Duration,
}

const BESIDE: BesideSpec = BesideSpec {
    idle: 10_000,
    rounds: 5,
    payload: 64,
    window: 256,
    warmup: Duration::from_millis(200),
    measure: Duration::from_secs(1),
    patience: PATIENCE,
    stall: STALL,
};

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("idle-10k-beside-pair", BESIDE).bound(Metric::BesideAlone, 1.1)]
}

impl Load for BesideSpec {
    fn about(&self) -> String {
        format!(
            "one pair, QoS 0, {} B, closed loop, window {}, {} times in turn alone and beside {} \
             idle connections with one subscription each; `beside/alone` of the medians",
            self.payload, self.window, self.rounds, self.idle
        )
    }

    fn change(&mut self, overrides: &Overrides) {
        if let Some(seconds) = overrides.seconds {
            self.measure = Duration::from_secs_f64(seconds.clamp(0.01, 86_400.0));
        }
        self.idle = overrides.connections.unwrap_or(self.idle).max(1);
        self.payload = overrides.payload.unwrap_or(self.payload);
        self.window = overrides.window.unwrap_or(self.window).max(1);
    }

    /// Raises this process's descriptor limit, and that of the brokers it will start.
    fn prepare(&self) {
        raise_descriptor_limit(self.idle + SPARE_DESCRIPTORS);
    }

    fn run(&self, target: &Target) -> io::Result<Outcome> {
        run(target, self)
    }
}

/// # Errors
///
/// When the broker cannot be reached or measured, or closes a connection of the pair.
fn run(target: &Target, spec: &BesideSpec) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut crowd = Crowd::new(target)?;
    let mut volley = open_pairs(&mut crowd, 0, 1, spec.payload, spec.window, spec.stall)?;
    let who = Newcomers {
        first: 0,
        count: usize::try_from(spec.idle).map_err(io::Error::other)?,
        client_id: &|index| format!("beside-{index:06}"),
        user: None,
        filter: Some(&|index| format!("beside/{index:06}")),
        at_once: AT_ONCE,
        patience: spec.patience,
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=spec.rounds {
        alone.push(phase(target, spec, &mut crowd, &mut volley)?);
        // A crowd of their own: nobody looks at it while the pair is measured.
        let mut idle = Crowd::new(target)?;
        let gathered = gather(&mut idle, &who)?;
        rest(target)?;
        beside.push(phase(target, spec, &mut crowd, &mut volley)?);
        let mut closed = 0;
        idle.turn(Instant::now(), |_, seen| closed += u32::from(matches!(seen, Seen::Closed(_))))?;
        if closed > 0 {
            outcome.notes.push("the broker closed idle connections".to_owned());
        }
        outcome.connections = gathered.there as u64;
        outcome.notes.extend(gathered.note());
        if round == spec.rounds {
            outcome.set_memory(target.memory()?);
        }
        let left = idle.leave(spec.patience)?;
        if left > 0 {
            outcome.notes.push(format!("the broker left {left} connections open"));
        }
        rest(target)?;
    }
    crowd.leave(spec.patience)?;
    volley.report(&mut outcome);
    outcome.notes.dedup();
    outcome.measured = beside.iter().map(|phase| phase.measured).sum();
    let median = |phases: &[Phase]| {
        let costs = phases.iter().filter_map(|phase| phase.broker_us);
        Spread::of(costs).map(|spread| spread.median)
    };
    let (alone, beside) = (median(&alone), median(&beside));
    outcome.set(Metric::AloneUsPerMessage, alone);
    outcome.set(Metric::BrokerUsPerMessage, beside);
    let ratio = alone.zip(beside).filter(|&(alone, _)| alone > 0.0);
    outcome.set(Metric::BesideAlone, ratio.map(|(alone, beside)| beside / alone));
    Ok(outcome)
}

/// The pair between one warm-up and the end.
struct Phase {
    measured: u64,
    broker_us: Option<f64>,
}

fn phase(
    target: &Target,
    spec: &BesideSpec,
    crowd: &mut Crowd,
    volley: &mut Volley,
) -> io::Result<Phase> {
    let topics = |pair, _, out: &mut String| put_topic(pair, out);
    volley.drive(crowd, Instant::now() + spec.warmup, &topics)?;
    let (before, delivered) = (Mark::take(target)?, volley.delivered());
    volley.drive(crowd, Instant::now() + spec.measure, &topics)?;
    let (after, measured) = (Mark::take(target)?, volley.delivered() - delivered);
    volley.drain(crowd)?;
    let broker_us = after.broker_ns_since(&before).and_then(|ns| us_each(ns, measured));
    Ok(Phase { measured, broker_us })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rehearsal::{Faults, measured, rehearse};

    const FEW: BesideSpec = BesideSpec {
        idle: 30,
        rounds: 1,
        window: 8,
        warmup: Duration::ZERO,
        measure: Duration::from_millis(100),
        ..BESIDE
    };

    #[test]
    fn the_pair_is_measured_alone_and_beside() {
        let outcome = run(&measured(rehearse(Faults::default())), &FEW).unwrap();
        assert_eq!((outcome.connections, outcome.lost), (30, 0));
        assert_eq!(outcome.delivered, outcome.sent);
        assert!(outcome.measured > 0);
        assert!(outcome.values.contains_key(&Metric::BesideAlone));
        assert_eq!(outcome.notes, Vec::<String>::new());
    }

    #[test]
    fn who_could_not_connect_is_noted() {
        let faults = Faults { refuse_connect_every: 10, ..Faults::default() };
        let outcome = run(&rehearse(faults), &FEW).unwrap();
        assert!(outcome.connections < 30);
        assert!(outcome.notes[0].contains("got ConnAck(5)"), "{:?}", outcome.notes);
    }
}
