//! The table of scenarios. A new one is a line here, or a new load in `load/`.

use std::io;
use std::time::Duration;

use crate::load::Outcome;
use crate::load::flow::{self, FlowSpec, Pace, Shape};
use crate::load::idle::{self, IdleSpec};
use crate::target::Target;

/// A load with a name.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: String,
    /// Needs a broker that has done nothing yet.
    pub(crate) fresh_broker: bool,
    /// Part of `compare` when no scenario is named.
    pub(crate) by_default: bool,
    load: Load,
}

#[derive(Debug, Clone)]
enum Load {
    Flow(FlowSpec),
    Idle(IdleSpec),
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
}

const PAIRS: FlowSpec = FlowSpec {
    shape: Shape::Pairs,
    clients: 50,
    payload: 64,
    pace: Pace::Window(256),
    warmup: Duration::from_millis(500),
    measure: Duration::from_secs(3),
};

/// All scenarios, in the order in which they run.
pub(crate) fn all() -> Vec<Scenario> {
    let flow = |name, by_default, spec| Scenario {
        name,
        about: String::new(),
        fresh_broker: false,
        by_default,
        load: Load::Flow(spec),
    };
    let low_load = FlowSpec { clients: 10, pace: Pace::Rate(1000.0), ..PAIRS };
    let mut scenarios = vec![
        flow("pairs", true, PAIRS),
        flow("pairs-w4", true, FlowSpec { pace: Pace::Window(4), ..PAIRS }),
        flow("pairs-16k", false, FlowSpec { payload: 16_384, ..PAIRS }),
        flow("fan-out", false, FlowSpec { shape: Shape::FanOut, ..PAIRS }),
        flow("fan-in", false, FlowSpec { shape: Shape::FanIn, ..PAIRS }),
        flow("low-load", true, low_load),
        Scenario {
            name: "idle",
            about: String::new(),
            fresh_broker: true,
            by_default: true,
            load: Load::Idle(IdleSpec { connections: 5000 }),
        },
    ];
    for scenario in &mut scenarios {
        scenario.about = scenario.load.about();
    }
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
    /// The same scenario with what the command line wants different.
    pub(crate) fn with(mut self, overrides: &Overrides) -> Self {
        match &mut self.load {
            Load::Flow(spec) => {
                if let Some(seconds) = overrides.seconds {
                    let seconds = seconds.clamp(0.01, 86_400.0);
                    spec.measure = Duration::from_secs_f64(seconds);
                }
                spec.clients = overrides.clients.unwrap_or(spec.clients).max(1);
                spec.payload = overrides.payload.unwrap_or(spec.payload);
                spec.pace = match (overrides.window, overrides.rate) {
                    (_, Some(rate)) => Pace::Rate(rate),
                    (Some(window), None) => Pace::Window(window),
                    (None, None) => spec.pace,
                };
            }
            Load::Idle(spec) => {
                spec.connections = overrides.connections.unwrap_or(spec.connections).max(1);
            }
        }
        self.about = self.load.about();
        self
    }

    /// What must be done before the broker starts.
    pub(crate) fn prepare(&self) {
        if let Load::Idle(spec) = &self.load {
            spec.prepare();
        }
    }

    /// Runs it once.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or measured, or breaks off.
    pub(crate) fn run(&self, target: &Target) -> io::Result<Outcome> {
        match &self.load {
            Load::Flow(spec) => flow::run(target, spec),
            Load::Idle(spec) => idle::run(target, spec),
        }
    }
}

impl Load {
    fn about(&self) -> String {
        match self {
            Self::Flow(spec) => {
                let shape = match spec.shape {
                    Shape::Pairs => format!("{} pairs", spec.clients),
                    Shape::FanOut => format!("1 publisher to {} subscribers", spec.clients),
                    Shape::FanIn => format!("{} publishers to 1 wildcard", spec.clients),
                };
                let pace = match spec.pace {
                    Pace::Window(window) => format!("closed loop, window {window} per publisher"),
                    Pace::Rate(rate) => format!("open loop, {rate} messages/s in all"),
                };
                format!("{shape}, QoS 0, {} B, {pace}", spec.payload)
            }
            Self::Idle(spec) => {
                format!("{} idle connections with one subscription each", spec.connections)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for scenario in all() {
            assert_eq!(named(scenario.name).unwrap().about, scenario.about);
            assert_eq!(all().iter().filter(|other| other.name == scenario.name).count(), 1);
        }
        assert!(named("none").unwrap_err().to_string().contains("pairs-w4"));
    }

    #[test]
    fn the_command_line_changes_what_it_names() {
        let overrides = Overrides { clients: Some(3), rate: Some(10.0), ..Overrides::default() };
        let about = named("pairs").unwrap().with(&overrides).about;
        assert_eq!(about, "3 pairs, QoS 0, 64 B, open loop, 10 messages/s in all");
        let overrides = Overrides { connections: Some(7), ..Overrides::default() };
        let about = named("idle").unwrap().with(&overrides).about;
        assert_eq!(about, "7 idle connections with one subscription each");
    }
}
