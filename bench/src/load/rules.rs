//! What access control costs a message: the same pairs at the same broker with rules and without,
//! in turn.

use std::io;
use std::time::Duration;

use super::flow::{self, FlowSpec, PAIRS};
use super::{Load, Needs, Outcome, Setting};
use crate::access;
use crate::metric::Metric;
use crate::scenario::{Overrides, Scenario};
use crate::stats::Spread;
use crate::target::{Target, Transport};

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RulesSpec {
    flow: FlowSpec,
    /// How often each of the two has its turn.
    turns: u32,
}

const PAIRS_ACL: RulesSpec = RulesSpec {
    flow: FlowSpec { setting: Setting::Rules, measure: Duration::from_secs(1), ..PAIRS },
    turns: 5,
};

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("pairs-acl", PAIRS_ACL).bound(Metric::GuardedOpen, 1.05)]
}

impl Load for RulesSpec {
    fn about(&self) -> String {
        format!(
            "{}; {} times in turn with {} access rules of {} users and without any; `with/without` \
             within each turn",
            self.flow.about(),
            self.turns,
            access::USERS * access::RULES_EACH,
            access::USERS
        )
    }

    fn transport(&self) -> Transport {
        self.flow.transport()
    }

    fn needs(&self) -> Needs {
        self.flow.needs()
    }

    fn change(&mut self, overrides: &Overrides) {
        // What asks for users serves tcp alone.
        let transport = None;
        self.flow.change(&Overrides { transport, ..overrides.clone() });
    }

    /// # Errors
    ///
    /// Always: one broker is not enough.
    fn run(&self, _: &Target) -> io::Result<Outcome> {
        Err(io::Error::other("this load sets two brokers against each other: use `compare`"))
    }

    fn wants_both(&self) -> bool {
        true
    }

    fn run_both(&self, target: &Target, open: &Target) -> io::Result<Outcome> {
        run(target, open, self)
    }
}

/// # Errors
///
/// When one of the two cannot be reached or measured, or breaks off.
fn run(target: &Target, open: &Target, spec: &RulesSpec) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for turn in 0..spec.turns {
        // Who goes first changes from turn to turn.
        for is_guarded in [turn % 2 == 0, turn % 2 == 1] {
            let seen = flow::run(if is_guarded { target } else { open }, &spec.flow)?;
            let cost = seen.values.get(&Metric::BrokerUsPerMessage).copied();
            let costs = if is_guarded { &mut with } else { &mut without };
            costs.push(cost.unwrap_or(f64::NAN));
            outcome.absorb(seen);
        }
    }
    let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|spread| spread.median);
    outcome.set(Metric::BrokerUsPerMessage, median(&with));
    outcome.set(Metric::OpenUsPerMessage, median(&without));
    let ratios = Spread::of_ratios(with.into_iter().zip(without));
    outcome.set(Metric::GuardedOpen, ratios.map(|spread| spread.median));
    outcome.set_memory(target.memory()?);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rehearsal::{Faults, measured, rehearse};

    const SHORT: RulesSpec = RulesSpec {
        flow: FlowSpec {
            clients: 3,
            warmup: Duration::ZERO,
            measure: Duration::from_millis(50),
            ..PAIRS_ACL.flow
        },
        turns: 2,
    };

    #[test]
    fn both_have_their_turns_and_all_messages_count() {
        let [with, without] = [(); 2].map(|()| measured(rehearse(Faults::default())));
        let outcome = run(&with, &without, &SHORT).unwrap();
        assert!(outcome.sent > 0 && outcome.delivered == outcome.sent, "{outcome:?}");
        assert_eq!(outcome.connections, 6);
        for metric in [Metric::OpenUsPerMessage, Metric::GuardedOpen] {
            assert!(outcome.values.contains_key(&metric), "{metric:?}");
        }
    }

    #[test]
    fn what_either_loses_is_lost() {
        let faults = Faults { lose_every: 7, ..Faults::default() };
        let flow = FlowSpec { pace: flow::Pace::Window(4), ..SHORT.flow };
        let spec = RulesSpec { flow, turns: 1 };
        let outcome = run(&rehearse(Faults::default()), &rehearse(faults), &spec).unwrap();
        assert!(outcome.lost > 0 && outcome.delivered + outcome.lost == outcome.sent);
    }

    #[test]
    fn one_broker_is_not_enough() {
        let error = SHORT.run(&rehearse(Faults::default())).unwrap_err().to_string();
        assert!(error.contains("compare"), "{error}");
    }
}
