//! Connections that do nothing: what each holds resident in the broker.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::flow::over;
use super::{Load, Mark, Outcome, us_each};
use crate::link::Link;
use crate::metric::Metric;
use crate::process::{Memory, raise_descriptor_limit};
use crate::scenario::{Overrides, Scenario};
use crate::target::{Target, Transport};
use crate::tls;

/// Descriptors that the tool and a broker need for themselves.
const SPARE_DESCRIPTORS: u64 = 100;

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdleSpec {
    /// Connections, each with one subscription.
    pub(crate) connections: u64,
    /// What they connect over.
    pub(crate) transport: Transport,
    /// Where the transport has TLS.
    pub(crate) tls: tls::Version,
}

/// A broker that has not taken all by then gets no more.
const OPENING_MAX: Duration = Duration::from_secs(60);

const IDLE: IdleSpec =
    IdleSpec { connections: 5000, transport: Transport::Tcp, tls: tls::Version::V13 };

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let over_ws = IdleSpec { transport: Transport::Ws, ..IDLE };
    let over_tls = IdleSpec { transport: Transport::Tls, ..IDLE };
    let idle = |name, spec, bytes| {
        Scenario::new(name, spec).on_a_fresh_broker().bound(Metric::BytesPerConnection, bytes)
    };
    let tls = Scenario::new("tls-idle", over_tls).on_a_fresh_broker();
    vec![
        idle("idle", IDLE, 2500.0).by_default(),
        idle("idle-ws", over_ws, 8000.0).by_default(),
        tls.at_most(Metric::BytesPerConnection, 1.0),
    ]
}

impl IdleSpec {
    /// How many connect at once. Over tcp nobody waits, so that one after the other is fast enough,
    /// and what the broker does for each is not mixed. Some brokers serve WebSocket by the tick.
    fn at_once(&self) -> u64 {
        match self.transport {
            Transport::Tcp | Transport::Tls => 1,
            Transport::Ws | Transport::Wss => 64,
        }
    }
}

impl Load for IdleSpec {
    fn about(&self) -> String {
        let over = over(self.transport, self.tls);
        format!("{} idle connections{over} with one subscription each", self.connections)
    }

    fn transport(&self) -> Transport {
        self.transport
    }

    fn change(&mut self, overrides: &Overrides) {
        self.connections = overrides.connections.unwrap_or(self.connections).max(1);
        self.transport = overrides.transport.unwrap_or(self.transport);
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

/// Connects and subscribes, then lets the broker rest and looks at it.
///
/// The broker should be fresh: memory that an earlier load left to its allocator would be used
/// again and not be seen.
///
/// # Errors
///
/// When not one connection could be made, or the broker's memory cannot be read.
fn run(target: &Target, spec: &IdleSpec) -> io::Result<Outcome> {
    target.check(spec.transport)?;
    let target = &Target { tls: spec.tls, ..*target };
    let mut outcome = Outcome::default();
    let limit = raise_descriptor_limit(spec.connections + SPARE_DESCRIPTORS);
    let wanted = spec.connections.min(limit.saturating_sub(SPARE_DESCRIPTORS));
    if wanted < spec.connections {
        let short = format!(
            "{wanted} instead of {} connections: {limit} descriptors allowed",
            spec.connections
        );
        outcome.notes.push(short);
    }
    let (before, memory_before) = (Mark::take(target)?, target.memory()?);
    let (links, failure) = open_all(target, wanted, spec.at_once());
    match failure {
        Some(error) if links.is_empty() => return Err(error),
        Some(error) => {
            outcome.notes.push(format!("stopped at {} connections: {error}", links.len()));
        }
        None => {}
    }
    let after = rest(target)?;
    let memory = target.memory()?;
    outcome.connections = links.len() as u64;
    outcome.notes.extend(links.first().and_then(|link| Some(link.tls()?.agreed())));
    let closed = links.iter().filter(|link| !link.is_open()).count();
    if closed > 0 {
        outcome.notes.push(format!("the broker closed {closed} connections"));
    }
    outcome.set_memory(memory);
    let grown = |before: Memory, now: Memory| now.rss.saturating_sub(before.rss);
    let each = memory_before
        .zip(memory)
        .map(|(before, now)| grown(before, now) as f64 / links.len().max(1) as f64);
    outcome.set(Metric::BytesPerConnection, each);
    let connect = after.broker_ns_since(&before).and_then(|ns| us_each(ns, outcome.connections));
    outcome.set(Metric::BrokerUsPerConnect, connect);
    links.into_iter().for_each(Link::close);
    Ok(outcome)
}

/// Connects and subscribes `count` clients; with an error if it had to stop before.
///
/// At setup time only, and where a client would mostly wait, each of those that connect at once has
/// a thread: a link connects blocking.
pub(crate) fn open_all(
    target: &Target,
    count: u64,
    at_once: u64,
) -> (Vec<Link>, Option<io::Error>) {
    let deadline = Instant::now() + OPENING_MAX;
    let (next, done) = (AtomicU64::new(0), Mutex::new((Vec::new(), None)));
    let locked = || done.lock().unwrap_or_else(PoisonError::into_inner);
    let open_some = || {
        while locked().1.is_none() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let filter = format!("idle/{index:06}");
            let link = if Instant::now() < deadline {
                Link::open(target, &format!("idle-{index:06}"), Some(&filter))
            } else {
                Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"))
            };
            match link {
                Ok(link) => locked().0.push(link),
                Err(error) => locked().1 = Some(error),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(open_some);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the broker has used no CPU worth the name for a tenth of a second, at most two.
pub(crate) fn rest(target: &Target) -> io::Result<Mark> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut last = Mark::take(target)?;
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = Mark::take(target)?;
        let busy = now.broker_ns_since(&last).is_some_and(|ns| ns > 1_000_000);
        if !busy || Instant::now() > deadline {
            return Ok(now);
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rehearsal::{Faults, rehearse, secured};
    use crate::tls::tests::server;

    #[test]
    fn idle_connections_are_made_and_measured() {
        let outcome =
            run(&crate::null::in_process(), &IdleSpec { connections: 40, ..IDLE }).unwrap();
        assert_eq!((outcome.connections, outcome.sent), (40, 0));
        assert!(outcome.values.contains_key(&Metric::BytesPerConnection));
        // Zero is possible: threads of other tests end meanwhile, then only clock ticks count.
        assert!(outcome.values.contains_key(&Metric::BrokerUsPerConnect));
        assert_eq!(outcome.notes, Vec::<String>::new());
    }

    #[test]
    fn idle_connections_over_tls_say_what_was_agreed_on() {
        let target = secured(rehearse(Faults::default()), &server());
        let spec = IdleSpec { connections: 5, transport: Transport::Tls, ..IDLE };
        let outcome = run(&target, &spec).unwrap();
        assert_eq!(outcome.connections, 5);
        assert!(outcome.notes[0].starts_with("TLSv1_3, "), "{:?}", outcome.notes);
        assert_eq!(outcome.notes.len(), 1, "{:?}", outcome.notes);
    }

    #[test]
    fn it_stops_where_the_broker_takes_no_more() {
        let faults = Faults { refuse_connect_every: 10, ..Faults::default() };
        let outcome = run(&rehearse(faults), &IdleSpec { connections: 40, ..IDLE }).unwrap();
        assert_eq!(outcome.connections, 9);
        assert!(outcome.notes[0].starts_with("stopped at 9 connections: "), "{:?}", outcome.notes);
    }

    #[test]
    fn the_wrong_transport_is_not_measured_by_mistake() {
        let spec = IdleSpec { connections: 1, transport: Transport::Ws, ..IDLE };
        let error = run(&crate::null::in_process(), &spec).unwrap_err().to_string();
        assert_eq!(error, "this load needs a ws:// URL of the broker");
    }
}
