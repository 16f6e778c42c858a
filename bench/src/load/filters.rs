//! Very many filters: what each holds resident, and what a message costs among them.

use std::io;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, PATIENCE};
use super::idle::rest;
use super::subscribe::{MIX, Shares, Verb, put_topic, request};
use super::volley::{Plan, STALL, Topics, Volley};
use super::{Load, Mark, Outcome, us_each};
use crate::metric::Metric;
use crate::scenario::{Overrides, Scenario};
use crate::target::Target;

const PUBLISHERS: u32 = 10;

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FiltersSpec {
    filters: u32,
    connections: u32,
    payload: usize,
    window: u32,
    warmup: Duration,
    measure: Duration,
    patience: Duration,
    stall: Duration,
}

const FILTERS: FiltersSpec = FiltersSpec {
    filters: 100_000,
    connections: 100,
    payload: 64,
    window: 256,
    warmup: Duration::from_millis(500),
    measure: Duration::from_secs(3),
    patience: PATIENCE,
    stall: STALL,
};

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let million = FiltersSpec { filters: 1_000_000, ..FILTERS };
    let scenario = |name, spec| {
        Scenario::new(name, spec)
            .on_a_fresh_broker()
            .bound(Metric::BytesPerSubscription, 300.0)
            .bound(Metric::MatchUs, 2.0)
    };
    vec![scenario("filters-100k", FILTERS), scenario("filters-1m", million)]
}

impl Load for FiltersSpec {
    fn about(&self) -> String {
        format!(
            "{} different filters over {} connections ({MIX}), then {PUBLISHERS} publishers, QoS \
             0, {} B, closed loop, window {}, to as many topics that match one filter each; \
             `match` is what a message costs more than with one filter for each connection",
            self.filters, self.connections, self.payload, self.window
        )
    }

    fn change(&mut self, overrides: &Overrides) {
        if let Some(seconds) = overrides.seconds {
            self.measure = Duration::from_secs_f64(seconds.clamp(0.01, 86_400.0));
        }
        self.filters = overrides.count.unwrap_or(self.filters).max(1);
        self.connections = overrides.clients.unwrap_or(self.connections).max(1);
        // Each connection has a filter from the start.
        self.filters = self.filters.max(self.connections);
        self.payload = overrides.payload.unwrap_or(self.payload);
        self.window = overrides.window.unwrap_or(self.window).max(1);
    }

    fn run(&self, target: &Target) -> io::Result<Outcome> {
        run(target, self)
    }
}

/// Loads all filters, measures messages among them, and again among few of them. In this order,
/// since memory shows only in a fresh broker.
///
/// # Errors
///
/// When the broker cannot be reached or measured, refuses a filter, closes a connection or stops
/// answering.
fn run(target: &Target, spec: &FiltersSpec) -> io::Result<Outcome> {
    let (few, all) = (spec.connections, spec.filters);
    let mut crowd = Crowd::new(target)?;
    let subscribers = few as usize;
    for index in 0..subscribers + PUBLISHERS as usize {
        crowd.open(index, &format!("filters-{index}"))?;
    }
    let plan = Plan {
        publishers: subscribers..subscribers + PUBLISHERS as usize,
        subscribers: 0..subscribers,
        payload: spec.payload,
        window: spec.window,
        stall: spec.stall,
    };
    let mut volley = Volley::new(plan);
    rest(target)?;
    let empty = target.memory()?;
    let shares = Shares { filters: all, connections: few };
    ask(&mut crowd, shares, Verb::Subscribe, spec.patience)?;
    rest(target)?;
    let loaded = target.memory()?;
    let among = phase(target, spec, &mut crowd, &mut volley, &topics(all))?;

    let alone = few_phase(target, spec, &mut crowd, &mut volley);
    let mut outcome = Outcome { measured: among.measured, ..Outcome::default() };
    outcome.connections = u64::from(few + PUBLISHERS);
    volley.report(&mut outcome);
    outcome.set_memory(loaded);
    let grown = empty.zip(loaded).map(|(empty, loaded)| loaded.rss.saturating_sub(empty.rss));
    outcome.set(Metric::BytesPerSubscription, grown.map(|bytes| bytes as f64 / f64::from(all)));
    outcome.set(Metric::MessagesPerSec, Some(among.measured as f64 / among.seconds));
    outcome.set(Metric::BrokerUsPerMessage, among.broker_us);
    outcome.set(Metric::ToolUsPerMessage, among.tool_us);
    let alone_us = match alone {
        Ok(phase) => phase.broker_us,
        Err(error) => {
            outcome.notes.push(format!("nothing measured among few filters: {error}"));
            None
        }
    };
    outcome.set(Metric::FewFiltersUsPerMessage, alone_us);
    let more = alone_us.zip(among.broker_us).map(|(alone, among)| among - alone);
    outcome.set(Metric::MatchUs, more);
    let left = crowd.leave(spec.patience)?;
    if left > 0 {
        outcome.notes.push(format!("the broker left {left} connections open after DISCONNECT"));
    }
    Ok(outcome)
}

/// The same messages with one filter for each connection instead of all.
fn few_phase(
    target: &Target,
    spec: &FiltersSpec,
    crowd: &mut Crowd,
    volley: &mut Volley,
) -> io::Result<Phase> {
    let connections = spec.connections;
    let all = Shares { filters: spec.filters, connections };
    ask(crowd, all, Verb::Unsubscribe, spec.patience)?;
    ask(crowd, Shares { filters: connections, connections }, Verb::Subscribe, spec.patience)?;
    rest(target)?;
    phase(target, spec, crowd, volley, &topics(connections))
}

/// As [`request`]; says on stderr how far it is, if it takes long.
fn ask(crowd: &mut Crowd, shares: Shares, verb: Verb, patience: Duration) -> io::Result<()> {
    let mut told = Instant::now();
    request(crowd, shares, verb, patience, |done| {
        if told.elapsed() >= Duration::from_secs(2) {
            told = Instant::now();
            eprintln!("\n  {verb:?}: {done} of {}", shares.filters);
        }
    })
}

/// What was seen between warm-up and end.
struct Phase {
    measured: u64,
    seconds: f64,
    broker_us: Option<f64>,
    tool_us: Option<f64>,
}

fn phase(
    target: &Target,
    spec: &FiltersSpec,
    crowd: &mut Crowd,
    volley: &mut Volley,
    topics: Topics<'_>,
) -> io::Result<Phase> {
    volley.drive(crowd, Instant::now() + spec.warmup, topics)?;
    let (begin, delivered) = (Mark::take(target)?, volley.delivered());
    volley.drive(crowd, Instant::now() + spec.measure, topics)?;
    let (end, measured) = (Mark::take(target)?, volley.delivered() - delivered);
    volley.drain(crowd)?;
    Ok(Phase {
        measured,
        seconds: end.at.duration_since(begin.at).as_secs_f64(),
        broker_us: end.broker_ns_since(&begin).and_then(|ns| us_each(ns, measured)),
        tool_us: us_each(end.tool.ns_since(&begin.tool), measured),
    })
}

/// The topics of `count` filters, each publisher from a place of its own and far from one to the
/// next, so that neither a cache nor the memory's order helps.
fn topics(count: u32) -> impl Fn(usize, u32, &mut String) {
    // A prime that divides no count in use; it need not: then fewer topics have their turn.
    const STEP: u64 = 7_368_787;
    move |publisher, sequence, out| {
        let start = publisher as u64 * u64::from(count) / u64::from(PUBLISHERS);
        let at = (start + u64::from(sequence) * STEP) % u64::from(count);
        put_topic(out, u32::try_from(at).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rehearsal::{Faults, measured, rehearse};

    const FEW: FiltersSpec = FiltersSpec {
        filters: 400,
        connections: 4,
        window: 8,
        warmup: Duration::ZERO,
        measure: Duration::from_millis(200),
        ..FILTERS
    };

    #[test]
    fn every_topic_has_its_turn() {
        let topics = topics(1000);
        let mut seen: Vec<String> = Vec::new();
        for sequence in 0..1000 {
            let mut topic = String::new();
            topics(3, sequence, &mut topic);
            seen.push(topic);
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn every_message_finds_its_filter() {
        let outcome = run(&measured(rehearse(Faults::default())), &FEW).unwrap();
        assert!(outcome.measured > 0);
        assert_eq!((outcome.delivered, outcome.lost), (outcome.sent, 0));
        assert_eq!((outcome.duplicated, outcome.reordered), (0, 0));
        assert_eq!(outcome.notes, Vec::<String>::new());
        assert!(outcome.values.contains_key(&Metric::BytesPerSubscription));
        assert!(outcome.values.contains_key(&Metric::MatchUs));
    }

    #[test]
    fn what_was_found_before_a_failure_is_kept() {
        let deaf = Faults { deaf_to_unsubscribe: true, ..Faults::default() };
        let spec = FiltersSpec { patience: Duration::from_secs(1), ..FEW };
        let outcome = run(&measured(rehearse(deaf)), &spec).unwrap();
        assert!(outcome.measured > 0 && outcome.values.contains_key(&Metric::BytesPerSubscription));
        assert!(!outcome.values.contains_key(&Metric::MatchUs));
        let note = "nothing measured among few filters: Unsubscribe: no answer after 0";
        assert_eq!(outcome.notes, [note]);
    }

    #[test]
    fn losses_and_repeats_are_counted_and_do_not_hold_the_run() {
        let stall = Duration::from_millis(50);
        let lossy = Faults { lose_every: 50, ..Faults::default() };
        let outcome = run(&rehearse(lossy), &FiltersSpec { stall, ..FEW }).unwrap();
        assert!(outcome.lost > 0 && outcome.stalled == outcome.lost);
        assert_eq!(outcome.sent, outcome.delivered + outcome.lost);
        let twice = Faults { twice: true, ..Faults::default() };
        let outcome = run(&rehearse(twice), &FEW).unwrap();
        assert!(outcome.duplicated > 0);
        assert_eq!(outcome.lost, 0);
    }
}
