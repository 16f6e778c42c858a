//! Brokers side by side in one run: round by round, scenario by scenario, each in turn.

use std::io;

use serde::Serialize;

use crate::broker::{Broker, Running};
use crate::load::Outcome;
use crate::process::machine;
use crate::scenario::Scenario;

/// All that a run of `compare` found, as it goes into the JSON file.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) tool: &'static str,
    pub(crate) machine: String,
    pub(crate) rounds: usize,
    pub(crate) brokers: Vec<BrokerInfo>,
    pub(crate) scenarios: Vec<ScenarioResult>,
}

#[derive(Debug, Serialize)]
pub(crate) struct BrokerInfo {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) configuration: String,
}

/// One scenario over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct ScenarioResult {
    pub(crate) name: &'static str,
    pub(crate) about: String,
    /// In the order of [`Comparison::brokers`].
    pub(crate) cells: Vec<Cell>,
}

/// One scenario with one broker: one entry a round, so that rounds can be paired.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Cell {
    /// `None` where the run failed.
    pub(crate) rounds: Vec<Option<Outcome>>,
    pub(crate) failures: Vec<String>,
}

/// Runs everything; says on stderr how far it is. A failed run is noted and does not stop the rest.
///
/// # Errors
///
/// When a broker cannot be started at all.
pub(crate) fn compare(
    brokers: &[Broker],
    scenarios: &[Scenario],
    rounds: usize,
) -> io::Result<Comparison> {
    for scenario in scenarios {
        scenario.prepare();
    }
    let info = |broker: &Broker| BrokerInfo {
        name: broker.kind.name(),
        version: broker.version(),
        configuration: broker.kind.configuration("PORT"),
    };
    let mut comparison = Comparison {
        tool: concat!("hrotti-bench ", env!("CARGO_PKG_VERSION")),
        machine: machine(),
        rounds,
        brokers: brokers.iter().map(info).collect(),
        scenarios: scenarios.iter().map(|scenario| empty(scenario, brokers.len())).collect(),
    };
    let mut running: Vec<Running> = Vec::new();
    for broker in brokers {
        running.push(broker.start()?);
    }
    for round in 0..rounds {
        for (scenario, result) in scenarios.iter().zip(&mut comparison.scenarios) {
            for at in order(round, brokers.len()) {
                let name = brokers[at].kind.name();
                eprint!("round {}/{rounds}  {:<10} {name:<10} ", round + 1, scenario.name);
                let outcome = run_once(scenario, &brokers[at], &mut running[at]);
                eprintln!("{}", progress(&outcome));
                result.cells[at].take(round, outcome);
            }
        }
    }
    Ok(comparison)
}

/// Who goes first changes from round to round.
fn order(round: usize, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn empty(scenario: &Scenario, brokers: usize) -> ScenarioResult {
    let cells = (0..brokers).map(|_| Cell::default()).collect();
    ScenarioResult { name: scenario.name, about: scenario.about(), cells }
}

fn run_once(scenario: &Scenario, broker: &Broker, running: &mut Running) -> io::Result<Outcome> {
    if scenario.fresh_broker {
        let fresh = broker.start()?;
        return scenario.run(fresh.target());
    }
    let outcome = scenario.run(running.target());
    if outcome.is_err() && running.has_ended() {
        // The next scenario shall not suffer from this one.
        *running = broker.start()?;
    }
    outcome
}

fn progress(outcome: &io::Result<Outcome>) -> String {
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
}

impl Comparison {
    /// Whether some run failed.
    pub(crate) fn has_failures(&self) -> bool {
        let mut cells = self.scenarios.iter().flat_map(|scenario| &scenario.cells);
        cells.any(|cell| !cell.failures.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_alternates() {
        assert_eq!(order(0, 2), [0, 1]);
        assert_eq!(order(1, 2), [1, 0]);
        assert_eq!(order(2, 2), [0, 1]);
    }

    #[test]
    fn a_failed_round_keeps_its_place() {
        let mut cell = Cell::default();
        cell.take(0, Err(io::Error::other("gone")));
        cell.take(1, Ok(Outcome { sent: 3, ..Outcome::default() }));
        assert!(cell.rounds[0].is_none());
        assert_eq!(cell.outcomes().map(|outcome| outcome.sent).sum::<u64>(), 3);
        assert_eq!(cell.failures, ["round 1: gone"]);
    }
}
