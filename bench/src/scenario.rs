//! The table of scenarios. A new one is a line in its load, or a new load in `load/`.

use std::fmt;
use std::io;

use crate::codec::Version;
use crate::load::{self, Load, Needs, Outcome};
use crate::metric::Metric;
use crate::target::{Target, Transport};
use crate::tls;

/// A load with a name.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Needs a broker that has done nothing yet.
    pub(crate) fresh_broker: bool,
    /// Part of `compare` when no scenario is named.
    pub(crate) by_default: bool,
    /// The ratios to mosquitto that hrotti means not to exceed, and in what.
    pub(crate) at_most: Vec<(Metric, f64)>,
    /// Every message must come, once and in order; otherwise a loss is a result like any other.
    pub(crate) lossless: bool,
    /// The values that hrotti means not to exceed, whatever others have.
    pub(crate) bounds: Vec<(Metric, f64)>,
    load: Box<dyn Load>,
}

/// What the command line may change in a scenario.
#[derive(Debug, Default, Clone)]
pub(crate) struct Overrides {
    pub(crate) seconds: Option<f64>,
    pub(crate) clients: Option<u32>,
    pub(crate) payload: Option<usize>,
    pub(crate) window: Option<u32>,
    pub(crate) rate: Option<f64>,
    pub(crate) connections: Option<u64>,
    pub(crate) qos: Option<u8>,
    pub(crate) version: Option<Version>,
    pub(crate) transport: Option<Transport>,
    /// The version of TLS that clients offer.
    pub(crate) tls: Option<tls::Version>,
    /// Filters or retained messages, where a scenario loads many.
    pub(crate) count: Option<u32>,
}

/// All scenarios, in the order in which they run.
pub(crate) fn all() -> Vec<Scenario> {
    let mut scenarios = load::flow::scenarios();
    scenarios.extend(load::rules::scenarios());
    scenarios.extend(load::idle::scenarios());
    scenarios.extend(load::connect::scenarios());
    scenarios.extend(load::churn::scenarios());
    scenarios.extend(load::subscribe::scenarios());
    scenarios.extend(load::resubscribe::scenarios());
    scenarios.extend(load::beside::scenarios());
    scenarios.extend(load::filters::scenarios());
    scenarios.extend(load::retained::scenarios());
    scenarios
}

/// The scenario with this name.
///
/// # Errors
///
/// When there is none; the message lists those that exist.
pub(crate) fn named(name: &str) -> io::Result<Scenario> {
    let mut scenarios = all();
    if let Some(at) = scenarios.iter().position(|scenario| scenario.name == name) {
        return Ok(scenarios.swap_remove(at));
    }
    let names: Vec<_> = scenarios.iter().map(|scenario| scenario.name).collect();
    Err(io::Error::other(format!("no scenario {name:?}; there are: {}", names.join(", "))))
}

impl Scenario {
    pub(crate) fn new(name: &'static str, load: impl Load + 'static) -> Self {
        Self {
            name,
            fresh_broker: false,
            by_default: false,
            at_most: Vec::new(),
            lossless: true,
            bounds: Vec::new(),
            load: Box::new(load),
        }
    }

    pub(crate) fn on_a_fresh_broker(mut self) -> Self {
        self.fresh_broker = true;
        self
    }

    pub(crate) fn by_default(mut self) -> Self {
        self.by_default = true;
        self
    }

    /// Sets a ratio to mosquitto that hrotti means not to exceed; one for each metric.
    pub(crate) fn at_most(mut self, metric: Metric, ratio: f64) -> Self {
        self.at_most.push((metric, ratio));
        self
    }

    /// Sets a value that hrotti means not to exceed; may be set for several metrics.
    pub(crate) fn bound(mut self, metric: Metric, max: f64) -> Self {
        self.bounds.push((metric, max));
        self
    }

    /// What a broker must be able to do for it, see [`Load::needs`].
    pub(crate) fn needs(&self) -> Needs {
        self.load.needs()
    }

    /// What it does, in one line.
    pub(crate) fn about(&self) -> String {
        self.load.about()
    }

    /// The same scenario with what the command line wants different.
    pub(crate) fn with(mut self, overrides: &Overrides) -> Self {
        self.load.change(overrides);
        self
    }

    /// What must be done before the broker starts.
    pub(crate) fn prepare(&self) {
        self.load.prepare();
    }

    /// Runs it once.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or measured, or breaks off.
    pub(crate) fn run(&self, target: &Target) -> io::Result<Outcome> {
        self.load.run(target)
    }

    /// Whether it is run against two at once, see [`Load::run_both`].
    pub(crate) fn wants_both(&self) -> bool {
        self.load.wants_both()
    }

    /// Runs it once, see [`Load::run_both`].
    ///
    /// # Errors
    ///
    /// As [`Scenario::run`].
    pub(crate) fn run_both(&self, target: &Target, open: &Target) -> io::Result<Outcome> {
        self.load.run_both(target, open)
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name, self.about())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for scenario in all() {
            assert_eq!(named(scenario.name).unwrap().about(), scenario.about());
            assert_eq!(all().iter().filter(|other| other.name == scenario.name).count(), 1);
        }
        assert!(named("none").unwrap_err().to_string().contains("pairs-w4"));
    }

    #[test]
    fn the_command_line_changes_what_it_names() {
        let overrides = Overrides { clients: Some(3), rate: Some(10.0), ..Overrides::default() };
        let about = named("pairs").unwrap().with(&overrides).about();
        assert_eq!(about, "3 pairs, QoS 0, 64 B, open loop, 10 messages/s in all");
        let overrides = Overrides { connections: Some(7), ..Overrides::default() };
        let about = named("idle").unwrap().with(&overrides).about();
        assert_eq!(about, "7 idle connections with one subscription each");
    }
}
