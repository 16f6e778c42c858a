//! Busy pairs while others subscribe and unsubscribe all the time, so that what a broker
//! remembers of its routes is outdated again and again.

use std::io;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, PATIENCE, Seen};
use super::subscribe::packet_id;
use super::volley::{Plan, STALL, Volley};
use super::{Load, Mark, Outcome, us_each};
use crate::codec::{self, Packet};
use crate::metric::Metric;
use crate::scenario::{Overrides, Scenario};
use crate::target::Target;

/// Filters that each restless client has in turn.
const FILTERS: u32 = 1000;
/// Delivered messages for each SUBSCRIBE or UNSUBSCRIBE, so that the mix is the same for a slow
/// broker and a fast one.
const MESSAGES_PER_REQUEST: u64 = 100;
/// Requests that a restless client has under way.
const REQUESTS: u32 = 32;

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResubscribeSpec {
    pairs: usize,
    /// Clients that do nothing but subscribe and unsubscribe.
    restless: usize,
    payload: usize,
    window: u32,
    warmup: Duration,
    measure: Duration,
    patience: Duration,
    stall: Duration,
}

const RESUBSCRIBE: ResubscribeSpec = ResubscribeSpec {
    pairs: 10,
    restless: 4,
    payload: 64,
    window: 256,
    warmup: Duration::from_millis(500),
    measure: Duration::from_secs(3),
    patience: PATIENCE,
    stall: STALL,
};

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("subscribe-while-publishing", RESUBSCRIBE)]
}

impl Load for ResubscribeSpec {
    fn about(&self) -> String {
        format!(
            "{} pairs, QoS 0, {} B, closed loop, window {} per publisher, while {} clients \
             subscribe and unsubscribe one filter after the other, a request for every \
             {MESSAGES_PER_REQUEST} messages delivered; CPU of both per delivered message",
            self.pairs, self.payload, self.window, self.restless
        )
    }

    fn change(&mut self, overrides: &Overrides) {
        if let Some(seconds) = overrides.seconds {
            self.measure = Duration::from_secs_f64(seconds.clamp(0.01, 86_400.0));
        }
        if let Some(clients) = overrides.clients {
            self.pairs = usize::try_from(clients).unwrap_or(usize::MAX).max(1);
        }
        self.payload = overrides.payload.unwrap_or(self.payload);
        self.window = overrides.window.unwrap_or(self.window).max(1);
    }

    fn run(&self, target: &Target) -> io::Result<Outcome> {
        run(target, self)
    }
}

/// # Errors
///
/// When the broker cannot be reached or measured, closes a connection, refuses a filter or stops
/// answering.
fn run(target: &Target, spec: &ResubscribeSpec) -> io::Result<Outcome> {
    let mut crowd = Crowd::new(target)?;
    let mut volley = open_pairs(&mut crowd, 0, spec.pairs, spec.payload, spec.window, spec.stall)?;
    let mut restless = Restless::open(&mut crowd, 2 * spec.pairs, spec)?;
    let mut drive = |until: Instant, restless: &mut Restless, crowd: &mut Crowd| {
        while Instant::now() < until {
            restless.ask(crowd, volley.delivered())?;
            let wake = volley.fire(crowd, &|pair, _, out| put_topic(pair, out))?.min(until);
            crowd.turn(wake, |token, seen| {
                if !volley.take(token, &seen) {
                    restless.take(token, &seen);
                }
            })?;
        }
        io::Result::Ok(volley.delivered())
    };
    let begin = drive(Instant::now() + spec.warmup, &mut restless, &mut crowd)?;
    let (before, subscribes) = (Mark::take(target)?, restless.subscribed);
    let end = drive(Instant::now() + spec.measure, &mut restless, &mut crowd)?;
    let (after, subscribes) = (Mark::take(target)?, restless.subscribed - subscribes);
    let (measured, memory) = (end - begin, target.memory()?);
    volley.drain(&mut crowd)?;
    let left = crowd.leave(spec.patience)?;

    let mut outcome = Outcome { measured, ..Outcome::default() };
    outcome.connections = (2 * spec.pairs + spec.restless) as u64;
    volley.report(&mut outcome);
    if left > 0 {
        outcome.notes.push(format!("the broker left {left} connections open after DISCONNECT"));
    }
    outcome.set_memory(memory);
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    outcome.set(Metric::MessagesPerSec, Some(measured as f64 / seconds));
    outcome.set(Metric::SubscribesPerSec, Some(subscribes as f64 / seconds));
    let broker_ns = after.broker_ns_since(&before);
    outcome.set(Metric::BrokerUsPerMessage, broker_ns.and_then(|ns| us_each(ns, measured)));
    let tool_ns = after.tool.ns_since(&before.tool);
    outcome.set(Metric::ToolUsPerMessage, us_each(tool_ns, measured));
    Ok(outcome)
}

/// Connects pairs, from this token on: first the subscribers, then their publishers.
pub(super) fn open_pairs(
    crowd: &mut Crowd,
    first: usize,
    pairs: usize,
    payload: usize,
    window: u32,
    stall: Duration,
) -> io::Result<Volley> {
    for pair in 0..pairs {
        let mut topic = String::new();
        put_topic(pair, &mut topic);
        crowd.open_subscribed(first + pair, &format!("pair-sub-{pair}"), &topic)?;
        crowd.open(first + pairs + pair, &format!("pair-pub-{pair}"))?;
    }
    let (publishers, subscribers) = (first + pairs..first + 2 * pairs, first..first + pairs);
    Ok(Volley::new(Plan { publishers, subscribers, payload, window, stall }))
}

/// The topic of a pair.
pub(super) fn put_topic(pair: usize, out: &mut String) {
    use std::fmt::Write as _;
    // Writing to a String cannot fail.
    let _ = write!(out, "pair/{pair:04}");
}

/// The clients that subscribe and unsubscribe.
struct Restless {
    first: usize,
    clients: Vec<Client>,
    asked: u64,
    subscribed: u64,
    failure: Option<String>,
    patience: Duration,
}

/// Its requests have numbers: the even ones subscribe, the odd ones unsubscribe the same again.
#[derive(Debug, Clone, Copy)]
struct Client {
    asked: u32,
    answered: u32,
    /// When it last had an answer, or nothing to wait for.
    since: Instant,
}

impl Restless {
    fn open(crowd: &mut Crowd, first: usize, spec: &ResubscribeSpec) -> io::Result<Self> {
        for index in 0..spec.restless {
            crowd.open(first + index, &format!("restless-{index}"))?;
        }
        let client = Client { asked: 0, answered: 0, since: Instant::now() };
        Ok(Self {
            first,
            clients: vec![client; spec.restless],
            asked: 0,
            subscribed: 0,
            failure: None,
            patience: spec.patience,
        })
    }

    /// Sends the requests that are due after so many messages.
    fn ask(&mut self, crowd: &mut Crowd, delivered: u64) -> io::Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(io::Error::other(failure));
        }
        let (now, mut batch) = (Instant::now(), Vec::new());
        for (index, client) in self.clients.iter_mut().enumerate() {
            if client.asked == client.answered {
                client.since = now;
            } else if now.saturating_duration_since(client.since) > self.patience {
                return Err(io::Error::other("no answer to SUBSCRIBE or UNSUBSCRIBE"));
            }
            while client.asked - client.answered < REQUESTS
                && self.asked < delivered / MESSAGES_PER_REQUEST
            {
                let filter = format!("restless/{index}/{:04}", client.asked / 2 % FILTERS);
                let id = packet_id(client.asked);
                let subscribe = client.asked.is_multiple_of(2);
                batch.extend(if subscribe {
                    codec::subscribe(id, &filter, 0)
                } else {
                    codec::unsubscribe(id, &filter)
                });
                client.asked += 1;
                self.asked += 1;
            }
            if !batch.is_empty() {
                crowd.send(self.first + index, &batch);
                batch.clear();
            }
        }
        Ok(())
    }

    fn take(&mut self, token: usize, seen: &Seen<'_>) {
        let client = token.checked_sub(self.first).and_then(|at| self.clients.get_mut(at));
        let Some(client) = client else { return };
        let expected = client.answered < client.asked;
        let subscribed = client.answered.is_multiple_of(2);
        match seen {
            Seen::Packet(Packet::SubAck(id, 0))
                if expected && subscribed && *id == packet_id(client.answered) =>
            {
                self.subscribed += 1;
            }
            // UNSUBACK
            Seen::Packet(Packet::Other(11)) if expected && !subscribed => {}
            seen => {
                self.failure = Some(format!("a subscribing client got {seen:?}"));
                return;
            }
        }
        (client.answered, client.since) = (client.answered + 1, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rehearsal::{Faults, rehearse};

    const FEW: ResubscribeSpec = ResubscribeSpec {
        pairs: 2,
        restless: 2,
        window: 8,
        warmup: Duration::ZERO,
        measure: Duration::from_millis(200),
        ..RESUBSCRIBE
    };

    #[test]
    fn messages_flow_and_filters_come_and_go() {
        for target in [crate::null::in_process(), rehearse(Faults::default())] {
            let outcome = run(&target, &FEW).unwrap();
            assert!(outcome.measured > 0);
            assert_eq!((outcome.delivered, outcome.lost), (outcome.sent, 0));
            assert_eq!((outcome.duplicated, outcome.reordered), (0, 0));
            assert!(outcome.values[&Metric::SubscribesPerSec] > 0.0);
            assert_eq!(outcome.notes, Vec::<String>::new());
        }
    }

    #[test]
    fn losses_do_not_hold_the_run() {
        let lossy = Faults { lose_every: 40, ..Faults::default() };
        let stall = Duration::from_millis(30);
        let outcome = run(&rehearse(lossy), &ResubscribeSpec { stall, ..FEW }).unwrap();
        assert!(outcome.lost > 0);
        assert_eq!(outcome.sent, outcome.delivered + outcome.lost);
    }

    #[test]
    fn refused_filters_are_an_error() {
        let mut crowd =
            Crowd::new(&rehearse(Faults { refuse_subscribe: true, ..Faults::default() })).unwrap();
        let mut restless = Restless::open(&mut crowd, 0, &FEW).unwrap();
        let error = loop {
            if let Err(error) = restless.ask(&mut crowd, MESSAGES_PER_REQUEST) {
                break error.to_string();
            }
            let until = Instant::now() + FEW.patience;
            crowd.turn(until, |token, seen| restless.take(token, &seen)).unwrap();
        };
        assert!(error.contains("SubAck(1, 128)"), "{error}");
    }
}
