//! A connection storm: clients that connect as fast as the broker takes them, and leave.

use std::io;
use std::time::Duration;

use super::crowd::{AT_ONCE, Crowd, Newcomers, PATIENCE, gather};
use super::flow::over;
use super::idle::rest;
use super::{Load, Mark, Needs, Outcome, Setting, us_each};
use crate::access;
use crate::metric::Metric;
use crate::process::raise_descriptor_limit;
use crate::scenario::{Overrides, Scenario};
use crate::target::{Target, Transport};
use crate::tls::{self, Client};

/// Descriptors that the tool and a broker need for themselves.
const SPARE_DESCRIPTORS: u64 = 100;

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectSpec {
    connections: u64,
    at_once: usize,
    patience: Duration,
    transport: Transport,
    /// Where the transport has TLS.
    tls: tls::Version,
    /// All have been there before, and what is measured is that they come again.
    again: bool,
    /// Each names a user and shows its password.
    users: bool,
}

const CONNECT: ConnectSpec = ConnectSpec {
    connections: 5000,
    at_once: AT_ONCE,
    patience: PATIENCE,
    transport: Transport::Tcp,
    tls: tls::Version::V13,
    again: false,
    users: false,
};

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let connect = |name, spec| Scenario::new(name, spec);
    let at_most = |scenario: Scenario, ratio| scenario.at_most(Metric::BrokerUsPerConnect, ratio);
    let tls = ConnectSpec { connections: 2000, transport: Transport::Tls, ..CONNECT };
    vec![
        at_most(connect("connect", CONNECT), 1.3).by_default(),
        at_most(connect("tls-connect", tls), 1.0),
        at_most(connect("tls-resume", ConnectSpec { again: true, ..tls }), 1.0),
        connect("connect-password", ConnectSpec { connections: 2000, users: true, ..CONNECT }),
    ]
}

impl Load for ConnectSpec {
    fn about(&self) -> String {
        let over = over(self.transport, self.tls);
        let again = if self.again { " again and resume their sessions of TLS" } else { "" };
        let users = match self.users {
            true => format!(" with a user name and a password ({})", access::HASHED),
            false => String::new(),
        };
        format!(
            "{} clients connect{over}{users}{again}, {} handshakes under way at once, and all leave \
             with DISCONNECT; CPU from the first SYN until the last connection is closed",
            self.connections, self.at_once
        )
    }

    fn transport(&self) -> Transport {
        self.transport
    }

    fn needs(&self) -> Needs {
        let needs = Needs::over(self.transport);
        if self.users { Needs { setting: Setting::Passwords, ..needs } } else { needs }
    }

    fn change(&mut self, overrides: &Overrides) {
        self.connections = overrides.connections.unwrap_or(self.connections).max(1);
        if let Some(clients) = overrides.clients {
            self.at_once = usize::try_from(clients).unwrap_or(usize::MAX).max(1);
        }
        self.tls = overrides.tls.unwrap_or(self.tls);
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
/// When not one connection could be made, or the broker cannot be measured. When sessions of TLS
/// should be resumed and it resumes none, [`io::ErrorKind::Unsupported`].
fn run(target: &Target, spec: &ConnectSpec) -> io::Result<Outcome> {
    target.check(spec.transport)?;
    let target = &Target { tls: spec.tls, ..*target };
    let mut outcome = Outcome::default();
    let mut crowd = Crowd::new(target)?;
    let count = usize::try_from(spec.connections).map_err(io::Error::other)?;
    let who = Newcomers {
        first: 0,
        count,
        client_id: &|index| format!("connect-{index:06}"),
        user: if spec.users { Some(&access::user) } else { None },
        filter: None,
        at_once: spec.at_once,
        patience: spec.patience,
    };
    if spec.again {
        crowd = crowd.with_client(Client::remembering(spec.tls, count)?);
        // The tickets come before CONNACK.
        gather(&mut crowd, &who)?;
        crowd.leave(spec.patience)?;
        rest(target)?;
    }
    let before = Mark::take(target)?;
    let gathered = gather(&mut crowd, &who)?;
    let seconds = before.at.elapsed().as_secs_f64();
    outcome.notes.extend(crowd.agreed());
    if spec.again {
        let resumed = crowd.resumed();
        if resumed == 0 {
            let text = "it resumes no session of TLS";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if resumed < gathered.there {
            let full = gathered.there - resumed;
            outcome.notes.push(format!("{full} handshakes were full, not resumed"));
        }
    }
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
    use crate::load::rehearsal::{Faults, rehearse, secured};
    use crate::tls::tests::{forgetful_server, server};

    const FEW: ConnectSpec =
        ConnectSpec { connections: 150, at_once: 8, patience: Duration::from_secs(5), ..CONNECT };

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
    fn handshakes_of_tls_are_full_or_resumed() {
        let target = secured(rehearse(Faults::default()), &server());
        let full = ConnectSpec { connections: 20, transport: Transport::Tls, ..FEW };
        let resumed = ConnectSpec { again: true, ..full };
        for (spec, tls) in [full, resumed]
            .into_iter()
            .flat_map(|spec| [(spec, tls::Version::V12), (spec, tls::Version::V13)])
        {
            let outcome = run(&target, &ConnectSpec { tls, ..spec }).unwrap();
            assert_eq!(outcome.connections, 20, "{outcome:?}");
            let [note] = &outcome.notes[..] else {
                unreachable!("what was agreed on, and nothing else: {outcome:?}");
            };
            assert!(note.starts_with("TLSv1_"), "{note}");
        }
    }

    #[test]
    fn where_no_session_is_resumed_nothing_is_measured() {
        let target = secured(rehearse(Faults::default()), &forgetful_server());
        let (transport, again) = (Transport::Tls, true);
        let spec = ConnectSpec { connections: 3, transport, again, ..FEW };
        let error = run(&target, &spec).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
        let error = run(&rehearse(Faults::default()), &spec).unwrap_err().to_string();
        assert_eq!(error, "this load needs a mqtts:// URL of the broker");
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
