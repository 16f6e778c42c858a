//! A connection storm: clients that connect as fast as the broker takes them, and leave.

use std::io;
use std::time::Duration;

use super::crowd::{AT_ONCE, Crowd, Newcomers, PATIENCE, gather};
use super::idle::rest;
use super::{Load, Mark, Outcome, us_each};
use crate::metric::Metric;
use crate::process::raise_descriptor_limit;
use crate::scenario::{Overrides, Scenario};
use crate::target::Target;

/// Descriptors that the tool and a broker need for themselves.
const SPARE_DESCRIPTORS: u64 = 100;

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectSpec {
    connections: u64,
    at_once: usize,
    patience: Duration,
}

const CONNECT: ConnectSpec =
    ConnectSpec { connections: 5000, at_once: AT_ONCE, patience: PATIENCE };

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let connect = Scenario::new("connect", CONNECT);
    vec![connect.at_most(Metric::BrokerUsPerConnect, 1.3).by_default()]
}

impl Load for ConnectSpec {
    fn about(&self) -> String {
        format!(
            "{} clients connect, {} handshakes under way at once, and all leave with DISCONNECT; \
             CPU from the first SYN until the last connection is closed",
            self.connections, self.at_once
        )
    }

    fn change(&mut self, overrides: &Overrides) {
        self.connections = overrides.connections.unwrap_or(self.connections).max(1);
        if let Some(clients) = overrides.clients {
            self.at_once = usize::try_from(clients).unwrap_or(usize::MAX).max(1);
        }
    }

    /// Raises this process's descriptor limit, and that of the brokers it will start.
    fn prepare(&self) {
        raise_descriptor_limit(self.connections + SPARE_DESCRIPTORS);
    }

    fn run(&self, target: &Target) -> io::Result<Outcome> {
        run(target, self)
    }
}

/// Connects all, then closes all, and waits until the broker has nothing left to do.
///
/// # Errors
///
/// When not one connection could be made, or the broker cannot be measured.
fn run(target: &Target, spec: &ConnectSpec) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut crowd = Crowd::new(target)?;
    let who = Newcomers {
        first: 0,
        count: usize::try_from(spec.connections).map_err(io::Error::other)?,
        client_id: &|index| format!("connect-{index:06}"),
        filter: None,
        at_once: spec.at_once,
        patience: spec.patience,
    };
    let before = Mark::take(target)?;
    let gathered = gather(&mut crowd, &who)?;
    let seconds = before.at.elapsed().as_secs_f64();
    let memory = target.memory()?;
    let left = crowd.leave(spec.patience)?;
    let after = rest(target)?;
    outcome.notes.extend(gathered.note());
    if left > 0 {
        outcome.notes.push(format!("the broker left {left} connections open after DISCONNECT"));
    }
    outcome.connections = gathered.there as u64;
    outcome.set_memory(memory);
    outcome.set(Metric::ConnectsPerSec, Some(gathered.there as f64 / seconds));
    let each = after.broker_ns_since(&before).and_then(|ns| us_each(ns, outcome.connections));
    outcome.set(Metric::BrokerUsPerConnect, each);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rehearsal::{Faults, rehearse};

    const FEW: ConnectSpec =
        ConnectSpec { connections: 150, at_once: 8, patience: Duration::from_secs(5) };

    #[test]
    fn all_connect_and_are_closed_again() {
        let outcome = run(&crate::null::in_process(), &FEW).unwrap();
        assert_eq!((outcome.connections, outcome.sent), (150, 0));
        assert_eq!(outcome.notes, Vec::<String>::new());
        assert!(outcome.values[&Metric::ConnectsPerSec] > 0.0);
        assert!(outcome.values.contains_key(&Metric::BrokerUsPerConnect));
    }

    #[test]
    fn refused_connections_are_noted() {
        let server = rehearse(Faults { refuse_connect_every: 10, ..Faults::default() });
        let outcome = run(&server, &FEW).unwrap();
        assert_eq!(outcome.connections, 135);
        let note = "15 connections failed, the first: got ConnAck(5)";
        assert_eq!(outcome.notes, [note]);
    }

    #[test]
    fn who_is_sent_away_again_is_not_connected() {
        let server = rehearse(Faults { hang_up_every: 10, ..Faults::default() });
        let spec = ConnectSpec { at_once: 1, ..FEW };
        let outcome = run(&server, &spec).unwrap();
        // Some may be seen to be closed only after all were there.
        assert!((135..150).contains(&outcome.connections), "{}", outcome.connections);
        assert!(outcome.notes[0].contains("the broker closed a connection"), "{:?}", outcome.notes);
    }

    #[test]
    fn a_broker_that_never_answers_is_an_error_and_no_hang() {
        let server = rehearse(Faults { silent: true, ..Faults::default() });
        let patience = Duration::from_millis(50);
        let spec = ConnectSpec { connections: 3, patience, ..FEW };
        let error = run(&server, &spec).unwrap_err().to_string();
        assert_eq!(error, "no connection: no answer");
    }

    #[test]
    fn connections_that_stay_open_after_disconnect_are_noted() {
        let server = rehearse(Faults { keep_open: true, ..Faults::default() });
        let patience = Duration::from_secs(1);
        let spec = ConnectSpec { connections: 3, patience, ..FEW };
        let outcome = run(&server, &spec).unwrap();
        assert_eq!(outcome.connections, 3);
        assert_eq!(outcome.notes, ["the broker left 3 connections open after DISCONNECT"]);
    }
}
