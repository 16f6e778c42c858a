//! Brokers side by side in one run: round by round, scenario by scenario, each in turn.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::broker::{Broker, Choice, Kind, Running};
use crate::goal::{self, Goal};
use crate::load::{Outcome, Setting};
use crate::metric::Metric;
use crate::process::machine;
use crate::progress::Progress;
use crate::scenario::Scenario;

/// All that a run of `compare` found, as it goes into the JSON file. No path of the machine is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) tool: String,
    /// What was called.
    pub(crate) command: String,
    pub(crate) machine: String,
    pub(crate) rounds: usize,
    pub(crate) brokers: Vec<BrokerInfo>,
    /// Peers that were not there, and how one gets them.
    pub(crate) left_out: Vec<String>,
    pub(crate) scenarios: Vec<ScenarioResult>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BrokerInfo {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) configuration: String,
    /// Its metrics are scraped during the runs.
    #[serde(default)]
    pub(crate) observed: bool,
}

/// One scenario over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScenarioResult {
    pub(crate) name: String,
    pub(crate) about: String,
    /// Every message must come, once and in order.
    pub(crate) lossless: bool,
    /// What hrotti means to reach.
    pub(crate) goals: Vec<Goal>,
    /// In the order of [`Comparison::brokers`].
    pub(crate) cells: Vec<Cell>,
}

/// One scenario with one broker: one entry a round, so that rounds can be paired.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// `None` where the run failed.
    pub(crate) rounds: Vec<Option<Outcome>>,
    pub(crate) failures: Vec<String>,
    /// Why this broker cannot take part, if it cannot: that is no failure.
    pub(crate) not_applicable: Option<String>,
}

/// Runs everything; says on stderr how far it is. A failed run is noted and does not stop the rest.
/// After each round `so_far` gets what there is, so that a long run which is broken off leaves it.
///
/// # Errors
///
/// When a broker cannot be started at all, or `so_far` fails.
pub(crate) fn compare(
    choice: &Choice,
    scenarios: &[Scenario],
    rounds: usize,
    command: &str,
    so_far: impl Fn(&Comparison) -> io::Result<()>,
) -> io::Result<Comparison> {
    for scenario in scenarios {
        scenario.prepare();
    }
    for line in &choice.left_out {
        eprintln!("left out: {line}");
    }
    let brokers = &choice.brokers;
    // Those that are set up otherwise are started for each run.
    let is_open = |scenario: &Scenario| scenario.needs().setting == Setting::Open;
    let mut running: Vec<Option<Running>> = Vec::new();
    for broker in brokers {
        let is_needed = scenarios.iter().any(is_open);
        running.push(is_needed.then(|| broker.start(Setting::Open)).transpose()?);
    }
    let mut settings: BTreeSet<_> =
        scenarios.iter().map(|scenario| scenario.needs().setting).collect();
    if scenarios.iter().any(Scenario::wants_both) {
        settings.insert(Setting::Open);
    }
    let mut comparison = Comparison {
        tool: concat!("hrotti-bench ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: command.to_owned(),
        machine: machine(),
        rounds,
        brokers: brokers.iter().map(|broker| info(broker, &settings)).collect(),
        left_out: choice.left_out.clone(),
        scenarios: scenarios.iter().map(|scenario| empty(scenario, brokers)).collect(),
    };
    let turns = turns(&comparison);
    let mut progress = Progress::new(&turns);
    let mut round = 0;
    for turn in &turns {
        if turn.round > round {
            so_far(&comparison)?;
            round = turn.round;
        }
        if comparison.scenarios[turn.scenario].cells[turn.broker].not_applicable.is_some() {
            progress.took(*turn, Duration::ZERO);
            continue;
        }
        let (scenario, broker) = (&scenarios[turn.scenario], &brokers[turn.broker]);
        let place = format!("round {}/{rounds}  {progress}", turn.round + 1);
        eprint!("{place}  {:<26} {:<15} ", scenario.name, broker.name);
        let begin = Instant::now();
        let outcome = run_once(scenario, broker, &mut running[turn.broker]);
        progress.took(*turn, begin.elapsed());
        eprintln!("{}", in_one_line(&outcome));
        comparison.scenarios[turn.scenario].cells[turn.broker].take(turn.round, outcome);
    }
    so_far(&comparison)?;
    Ok(comparison)
}

fn info(broker: &Broker, settings: &BTreeSet<Setting>) -> BrokerInfo {
    BrokerInfo {
        kind: broker.kind,
        name: broker.name.clone(),
        version: broker.version(),
        configuration: broker.configuration(settings),
        observed: broker.is_observed(),
    }
}

/// One run: which round, scenario and broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) round: usize,
    pub(crate) scenario: usize,
    pub(crate) broker: usize,
}

/// All runs in their order.
fn turns(comparison: &Comparison) -> Vec<Turn> {
    let mut turns = Vec::new();
    for round in 0..comparison.rounds {
        for (scenario, result) in comparison.scenarios.iter().enumerate() {
            let brokers = order(round, result.cells.len()).into_iter();
            let brokers = brokers.filter(|&at| result.cells[at].not_applicable.is_none());
            turns.extend(brokers.map(|broker| Turn { round, scenario, broker }));
        }
    }
    turns
}

/// Who goes first changes from round to round.
fn order(round: usize, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn empty(scenario: &Scenario, brokers: &[Broker]) -> ScenarioResult {
    let cell = |broker: &Broker| {
        let not_applicable = broker.can(scenario.needs()).err();
        Cell { not_applicable, ..Cell::default() }
    };
    ScenarioResult {
        name: scenario.name.to_owned(),
        about: scenario.about(),
        lossless: scenario.lossless,
        goals: goal::of(scenario),
        cells: brokers.iter().map(cell).collect(),
    }
}

fn run_once(
    scenario: &Scenario,
    broker: &Broker,
    running: &mut Option<Running>,
) -> io::Result<Outcome> {
    let needs = scenario.needs();
    if scenario.wants_both() {
        let (guarded, open) = (broker.start(needs.setting)?, broker.start(Setting::Open)?);
        let run = || scenario.run_both(guarded.target(needs)?, open.target(needs)?);
        return observing(&[&guarded, &open], run);
    }
    let shared = running.as_ref().filter(|_| needs.setting == Setting::Open);
    let Some(shared) = shared.filter(|_| !scenario.fresh_broker) else {
        let fresh = broker.start(needs.setting)?;
        return observing(&[&fresh], || scenario.run(fresh.target(needs)?));
    };
    let outcome = observing(&[shared], || scenario.run(shared.target(needs)?));
    if outcome.as_ref().map_or(true, |outcome| outcome.stalled > 0) {
        // Whatever state it is in, the next scenario shall not suffer from this one.
        *running = Some(broker.start(Setting::Open)?);
    }
    outcome
}

/// Runs it while the metrics of those brokers that are observed are scraped, and at no other time, so
/// that the brokers whose turn it is not are left alone. A scrape that fails fails the run.
fn observing(
    brokers: &[&Running],
    run: impl FnOnce() -> io::Result<Outcome>,
) -> io::Result<Outcome> {
    let scrapers: Vec<_> = brokers.iter().filter_map(|broker| broker.observe()).collect();
    let mut outcome = run()?;
    for scraper in scrapers {
        let scrapes = scraper.finish()?;
        outcome.notes.push(format!("metrics scraped once a second, in a run: {scrapes}"));
    }
    Ok(outcome)
}

fn in_one_line(outcome: &io::Result<Outcome>) -> String {
    match outcome {
        Ok(outcome) => {
            let mut text = String::new();
            for (metric, value) in &outcome.values {
                if metric.is_compared() {
                    text.push_str(&format!("{value:.0$} {1}  ", metric.digits(), metric.name()));
                }
            }
            let wrong = outcome.lost + outcome.duplicated + outcome.reordered;
            if wrong > 0 {
                text.push_str(&format!("{wrong} lost, duplicated or reordered"));
            }
            text
        }
        Err(error) => format!("failed: {error}"),
    }
}

impl Cell {
    fn take(&mut self, round: usize, outcome: io::Result<Outcome>) {
        match outcome {
            Ok(outcome) => self.rounds.push(Some(outcome)),
            // Found out by the run itself: the broker announces or grants less.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.not_applicable = Some(error.to_string());
                self.rounds.push(None);
            }
            Err(error) => {
                self.failures.push(format!("round {}: {error}", round + 1));
                self.rounds.push(None);
            }
        }
    }

    /// The outcomes of the rounds that did not fail.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.rounds.iter().flatten()
    }

    /// Over all rounds.
    pub(crate) fn sum(&self, get: fn(&Outcome) -> u64) -> u64 {
        self.outcomes().map(get).sum()
    }

    /// Whether every message came, once and in order.
    pub(crate) fn is_whole(&self) -> bool {
        self.sum(|seen| seen.lost + seen.duplicated + seen.reordered) == 0
    }
}

impl BrokerInfo {
    /// Whether it is its kind as it comes, and not a variant of it.
    pub(crate) fn is_default(&self) -> bool {
        self.name == self.kind.name()
    }
}

impl ScenarioResult {
    /// What any of the brokers was measured in.
    pub(crate) fn metrics(&self) -> BTreeSet<Metric> {
        let outcomes = self.cells.iter().flat_map(Cell::outcomes);
        outcomes.flat_map(|outcome| outcome.values.keys().copied()).collect()
    }
}

impl Comparison {
    /// Over how many rounds: "5 rounds".
    pub(crate) fn rounds_in_words(&self) -> String {
        if self.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", self.rounds) }
    }

    /// Every scenario with every broker that takes part in it.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (&ScenarioResult, &BrokerInfo, &Cell)> {
        self.scenarios.iter().flat_map(|scenario| {
            let cells = self.brokers.iter().zip(&scenario.cells);
            cells.map(move |(broker, cell)| (scenario, broker, cell))
        })
    }

    /// Where messages were lost, duplicated or reordered that must not be.
    pub(crate) fn not_whole(&self) -> impl Iterator<Item = (&ScenarioResult, &BrokerInfo, &Cell)> {
        self.cells().filter(|(scenario, _, cell)| scenario.lossless && !cell.is_whole())
    }

    /// What speaks against hrotti itself: runs that failed, and messages that were not whole. Peers
    /// may do as they like; the tables say what they did.
    pub(crate) fn is_bad(&self) -> bool {
        let mut wrong = self.cells().filter(|cell| !cell.2.failures.is_empty());
        let ours = |cell: (&ScenarioResult, &BrokerInfo, &Cell)| cell.1.kind == Kind::Hrotti;
        wrong.any(ours) || self.not_whole().any(ours)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn outcome(us: f64) -> Option<Outcome> {
        let values = [(Metric::MessagesPerSec, 1000.0 / us), (Metric::BrokerUsPerMessage, us)];
        Some(Outcome { sent: 10, delivered: 10, values: values.into(), ..Outcome::default() })
    }

    pub(crate) fn broker(kind: Kind) -> BrokerInfo {
        let name = kind.name().to_owned();
        let version = format!("{name} 9");
        let configuration = "quick <true>\n".to_owned();
        BrokerInfo { kind, name, version, configuration, observed: false }
    }

    /// hrotti and two peers over three rounds: everything that reports have to show.
    pub(crate) fn comparison() -> Comparison {
        let ours = vec![outcome(1.0), outcome(2.0), None];
        let mut theirs = vec![outcome(10.0), outcome(10.0), outcome(1.0)];
        if let Some(Some(first)) = theirs.first_mut() {
            (first.delivered, first.lost) = (9, 1);
            first.notes.push("short".to_owned());
        }
        let failures = vec!["round 3: gone".to_owned()];
        let cells = vec![
            Cell { rounds: ours, failures, ..Cell::default() },
            Cell { rounds: theirs, ..Cell::default() },
            Cell { not_applicable: Some("it has no ws listener".to_owned()), ..Cell::default() },
        ];
        let scenario = ScenarioResult {
            name: "pairs".to_owned(),
            about: "2 pairs & more".to_owned(),
            lossless: true,
            goals: vec![Goal::ratio(Metric::BrokerUsPerMessage, 0.1)],
            cells,
        };
        Comparison {
            tool: "tool 1".to_owned(),
            command: "hrotti-bench compare".to_owned(),
            machine: "machine".to_owned(),
            rounds: 3,
            brokers: vec![broker(Kind::Hrotti), broker(Kind::Mosquitto), broker(Kind::Null)],
            left_out: vec!["aedes is not installed: get it".to_owned()],
            scenarios: vec![scenario],
        }
    }

    #[test]
    fn the_order_alternates() {
        assert_eq!(order(0, 2), [0, 1]);
        assert_eq!(order(1, 2), [1, 0]);
        assert_eq!(order(2, 2), [0, 1]);
    }

    #[test]
    fn who_cannot_take_part_has_no_turn() {
        let turns = turns(&comparison());
        let brokers: Vec<_> = turns.iter().map(|turn| (turn.round, turn.broker)).collect();
        assert_eq!(brokers, [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)]);
    }

    #[test]
    fn a_failed_round_keeps_its_place() {
        let mut cell = Cell::default();
        cell.take(0, Err(io::Error::other("gone")));
        cell.take(1, Ok(Outcome { sent: 3, ..Outcome::default() }));
        assert!(cell.rounds[0].is_none());
        assert_eq!(cell.sum(|outcome| outcome.sent), 3);
        assert_eq!(cell.failures, ["round 1: gone"]);
    }

    #[test]
    fn what_a_broker_does_not_offer_is_no_failure() {
        let mut cell = Cell::default();
        cell.take(0, Err(io::Error::new(io::ErrorKind::Unsupported, "grants QoS 0 alone")));
        assert_eq!(cell.not_applicable.as_deref(), Some("grants QoS 0 alone"));
        assert!(cell.failures.is_empty() && cell.rounds == [None]);
    }

    #[test]
    fn only_hrotti_can_make_a_comparison_bad() {
        let mut seen = comparison();
        assert!(seen.is_bad(), "a run of hrotti failed");
        seen.scenarios[0].cells[0].failures.clear();
        assert!(!seen.is_bad(), "only the peer lost something");
        assert_eq!(seen.not_whole().map(|cell| &cell.1.name).collect::<Vec<_>>(), ["mosquitto"]);
        seen.scenarios[0].cells[1].failures.push("round 1: gone".to_owned());
        assert!(!seen.is_bad());
        let ours = seen.scenarios[0].cells[0].rounds[0].as_mut().unwrap();
        ours.reordered = 1;
        assert!(seen.is_bad());
        seen.scenarios[0].lossless = false;
        assert!(!seen.is_bad(), "where losses are part of it they are no fault");
    }

    #[test]
    fn json_gives_it_back_whole() {
        let seen = comparison();
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), seen);
    }
}
