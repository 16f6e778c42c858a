//! What hrotti means to reach in a scenario, and whether it did.

use serde::{Deserialize, Serialize};

use crate::broker::Kind;
use crate::compare::{BrokerInfo, Cell, Comparison, ScenarioResult};
use crate::load::Outcome;
use crate::metric::Metric;
use crate::scenario::Scenario;
use crate::stats::Spread;

/// Another number of workers may cost this much of the CPU that the default costs, and no more.
const WORKERS_AT_MOST: f64 = 1.10;
/// With metrics scraped every second and `$SYS` every ten, no row may cost more CPU than this share of
/// what it costs without.
const OBSERVED_AT_MOST: f64 = 1.02;
/// What a scrape may cost the broker, in ms of one core,
pub(crate) const SCRAPE_MS_AT_MOST: f64 = 20.0;
/// while it has so many Sessions.
pub(crate) const SCRAPE_SESSIONS: u64 = 10_000;

/// One figure and its upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Goal {
    pub(crate) metric: Metric,
    pub(crate) at_most: f64,
    pub(crate) of: Of,
}

/// What the bound bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Of {
    /// hrotti's figure divided by mosquitto's.
    Ratio,
    /// hrotti's figure itself.
    Figure,
}

impl Goal {
    pub(crate) fn ratio(metric: Metric, at_most: f64) -> Self {
        Self { metric, at_most, of: Of::Ratio }
    }

    pub(crate) fn figure(metric: Metric, at_most: f64) -> Self {
        Self { metric, at_most, of: Of::Figure }
    }
}

/// The goals of a scenario.
pub(crate) fn of(scenario: &Scenario) -> Vec<Goal> {
    let ratios = scenario.at_most.iter().map(|&(metric, at_most)| Goal::ratio(metric, at_most));
    let figures = scenario.bounds.iter().map(|&(metric, at_most)| Goal::figure(metric, at_most));
    ratios.chain(figures).collect()
}

/// A goal and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict<'a> {
    pub(crate) scenario: &'a ScenarioResult,
    pub(crate) goal: Goal,
    /// Whose figure, or whose ratio.
    pub(crate) what: String,
    /// `None` if it was not measured in this run.
    pub(crate) seen: Option<Spread>,
}

impl Verdict<'_> {
    /// The median counts.
    pub(crate) fn is_met(&self) -> Option<bool> {
        self.seen.map(|spread| spread.median <= self.goal.at_most)
    }
}

/// Every goal of every scenario; then, that neither more workers nor observation cost more.
pub(crate) fn verdicts(comparison: &Comparison) -> Vec<Verdict<'_>> {
    let at = |kind| comparison.brokers.iter().position(|broker| broker.kind == kind);
    let (ours, theirs) = (at(Kind::Hrotti), at(Kind::Mosquitto));
    let (mut verdicts, mut of_workers, mut observed) = (Vec::new(), Vec::new(), Vec::new());
    for scenario in &comparison.scenarios {
        let cell = |at: Option<usize>| at.and_then(|at| scenario.cells.get(at));
        for &goal in &scenario.goals {
            let metric = goal.metric;
            let (what, seen) = match goal.of {
                Of::Figure => ("hrotti", cell(ours).and_then(|cell| cell.spread(metric))),
                Of::Ratio => {
                    let both = cell(ours).zip(cell(theirs));
                    ("hrotti / mosquitto", both.and_then(|(a, b)| a.ratio_to(b, metric)))
                }
            };
            verdicts.push(Verdict { scenario, goal, what: what.to_owned(), seen });
        }
        of_workers.extend(ours.into_iter().flat_map(|ours| workers(comparison, scenario, ours)));
        observed.extend(ours.into_iter().flat_map(|ours| observation(comparison, scenario, ours)));
    }
    verdicts.extend(of_workers);
    verdicts.extend(observed);
    verdicts
}

/// Each other number of workers beside the first hrotti.
fn workers<'a>(
    comparison: &'a Comparison,
    scenario: &'a ScenarioResult,
    ours: usize,
) -> Vec<Verdict<'a>> {
    let goal = Goal::ratio(Metric::BrokerUsPerMessage, WORKERS_AT_MOST);
    let name = &comparison.brokers[ours].name;
    let cells = comparison.brokers.iter().zip(&scenario.cells).skip(ours + 1);
    cells
        .filter(|(broker, _)| broker.kind == Kind::Hrotti && !broker.observed)
        .filter_map(|(broker, cell)| {
            let seen = cell.ratio_to(&scenario.cells[ours], goal.metric)?;
            let what = format!("{} / {name}", broker.name);
            Some(Verdict { scenario, goal, what, seen: Some(seen) })
        })
        .collect()
}

/// An observed hrotti beside the first, in every figure of CPU.
fn observation<'a>(
    comparison: &'a Comparison,
    scenario: &'a ScenarioResult,
    ours: usize,
) -> Vec<Verdict<'a>> {
    let name = &comparison.brokers[ours].name;
    let cells = comparison.brokers.iter().zip(&scenario.cells);
    let observed = cells.filter(|(broker, _)| broker.observed);
    let of_one = |(broker, cell): (&BrokerInfo, &Cell)| {
        let cpu = scenario.metrics().into_iter().filter(|metric| metric.is_cpu());
        let what = format!("{} / {name}", broker.name);
        let verdicts = cpu.filter_map(|metric| {
            let seen = cell.ratio_to(&scenario.cells[ours], metric)?;
            let goal = Goal::ratio(metric, OBSERVED_AT_MOST);
            Some(Verdict { scenario, goal, what: what.clone(), seen: Some(seen) })
        });
        verdicts.collect::<Vec<_>>()
    };
    observed.flat_map(of_one).collect()
}

impl Cell {
    /// The figure over all rounds.
    pub(crate) fn spread(&self, metric: Metric) -> Option<Spread> {
        Spread::of(self.outcomes().filter_map(|seen| seen.values.get(&metric).copied()))
    }

    /// The ratio to another broker in each round that both finished.
    pub(crate) fn ratio_to(&self, other: &Self, metric: Metric) -> Option<Spread> {
        let value = |outcome: &Option<Outcome>| outcome.as_ref()?.values.get(&metric).copied();
        let rounds = self.rounds.iter().zip(&other.rounds);
        Spread::of_ratios(rounds.filter_map(|(ours, theirs)| value(ours).zip(value(theirs))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::{broker, comparison, outcome};
    use crate::load::Load;
    use crate::scenario::Overrides;
    use crate::target::Target;

    struct Nothing;
    impl Load for Nothing {
        fn about(&self) -> String {
            String::new()
        }
        fn change(&mut self, _: &Overrides) {}
        fn run(&self, _: &Target) -> std::io::Result<Outcome> {
            Ok(Outcome::default())
        }
    }

    #[test]
    fn a_scenario_s_bound_is_a_goal() {
        let scenario = Scenario::new("x", Nothing)
            .at_most(Metric::BrokerUsPerMessage, 0.5)
            .bound(Metric::BytesPerConnection, 2500.0);
        let ratio = Goal::ratio(Metric::BrokerUsPerMessage, 0.5);
        assert_eq!(of(&scenario), [ratio, Goal::figure(Metric::BytesPerConnection, 2500.0)]);
        assert_eq!(of(&Scenario::new("x", Nothing)), []);
    }

    #[test]
    fn the_median_of_the_ratios_decides() {
        let mut seen = comparison();
        let verdict = &verdicts(&seen)[0];
        let middle = f64::midpoint(0.1, 0.2);
        assert_eq!(verdict.seen, Some(Spread { median: middle, min: 0.1, max: 0.2 }));
        assert_eq!((verdict.what.as_str(), verdict.is_met()), ("hrotti / mosquitto", Some(false)));
        seen.scenarios[0].goals[0].at_most = middle;
        assert_eq!(verdicts(&seen)[0].is_met(), Some(true));
    }

    #[test]
    fn a_figure_is_bound_by_itself() {
        let mut seen = comparison();
        let goal = Goal::figure(Metric::BrokerUsPerMessage, 1.5);
        seen.scenarios[0].goals = vec![goal];
        let verdict = &verdicts(&seen)[0];
        assert_eq!((verdict.what.as_str(), verdict.is_met()), ("hrotti", Some(true)));
    }

    #[test]
    fn without_the_peer_nothing_is_decided() {
        let mut seen = comparison();
        seen.brokers[1].kind = Kind::Aedes;
        assert_eq!(verdicts(&seen)[0].is_met(), None);
        seen.brokers[0].kind = Kind::Null;
        assert_eq!(verdicts(&seen)[0].is_met(), None);
    }

    #[test]
    fn more_workers_are_held_against_the_default() {
        let mut seen = comparison();
        let mut two = broker(Kind::Hrotti);
        two.name = "hrotti-w2".to_owned();
        seen.brokers.insert(1, two);
        let rounds = vec![outcome(1.0), outcome(3.0), None];
        seen.scenarios[0].cells.insert(1, Cell { rounds, ..Cell::default() });
        let verdicts = verdicts(&seen);
        assert_eq!(verdicts.len(), 2);
        assert_eq!(verdicts[0].what, "hrotti / mosquitto");
        assert_eq!(verdicts[1].what, "hrotti-w2 / hrotti");
        assert_eq!(verdicts[1].seen.unwrap().median, 1.25);
        assert_eq!(verdicts[1].is_met(), Some(false));
    }

    #[test]
    fn observation_is_held_against_the_same_without() {
        let mut seen = comparison();
        let mut observed = broker(Kind::Hrotti);
        (observed.name, observed.observed) = ("hrotti-observed".to_owned(), true);
        seen.brokers.insert(1, observed);
        let rounds = vec![outcome(1.01), outcome(2.1), outcome(9.0)];
        seen.scenarios[0].cells.insert(1, Cell { rounds, ..Cell::default() });
        let of_cpu = |seen: &Comparison| {
            let verdicts = verdicts(seen);
            assert_eq!(verdicts.len(), 2, "the peer, and CPU alone: {verdicts:?}");
            assert_eq!(verdicts[1].what, "hrotti-observed / hrotti");
            assert_eq!(verdicts[1].goal, Goal::ratio(Metric::BrokerUsPerMessage, 1.02));
            (verdicts[1].seen.unwrap().max, verdicts[1].is_met())
        };
        assert_eq!(of_cpu(&seen), (1.05, Some(false)));
        seen.scenarios[0].cells[1].rounds[1] = outcome(2.0);
        assert_eq!(of_cpu(&seen), (1.01, Some(true)));
    }
}
