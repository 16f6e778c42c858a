//! Messages from publishers to subscribers, in a closed loop with a window or in an open loop at
//! a rate, on one thread.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Load, Mark, Outcome, us_each};
use crate::codec::{Packet, Stamp, Template};
use crate::link::{Link, ReadBuffer};
use crate::metric::Metric;
use crate::poll::{Poll, Ready};
use crate::scenario::{Overrides, Scenario};
use crate::sequence::Checker;
use crate::target::Target;

/// Without progress for this long, what is outstanding is given up.
const STALL_NS: u64 = 2_000_000_000;
/// How often stalls are looked for.
const CHECK_NS: u64 = 250_000_000;
/// Whatever the broker does, a run ends this long after its last message was sent.
const DRAIN_NS: u64 = 60_000_000_000;
/// Packets are written in batches of at most about this many bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// Who publishes to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Each publisher has its own topic and subscriber.
    Pairs,
    /// One publisher, all others subscribe.
    FanOut,
    /// One subscriber with a wildcard, all others publish.
    FanIn,
}

/// When the next message may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// While fewer than this many of a publisher's messages are outstanding.
    Window(u32),
    /// At this many messages a second over all publishers, whatever comes back; latency counts
    /// from the scheduled time.
    Rate(f64),
}

/// One such load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlowSpec {
    pub(crate) shape: Shape,
    /// Pairs, or the clients on the side that has many.
    pub(crate) clients: u32,
    /// Bytes; at least the stamp.
    pub(crate) payload: usize,
    pub(crate) pace: Pace,
    pub(crate) warmup: Duration,
    pub(crate) measure: Duration,
}

const PAIRS: FlowSpec = FlowSpec {
    shape: Shape::Pairs,
    clients: 50,
    payload: 64,
    pace: Pace::Window(256),
    warmup: Duration::from_millis(500),
    measure: Duration::from_secs(3),
};

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let low_load = FlowSpec { clients: 10, pace: Pace::Rate(1000.0), ..PAIRS };
    vec![
        Scenario::new("pairs", PAIRS).by_default(),
        Scenario::new("pairs-w4", FlowSpec { pace: Pace::Window(4), ..PAIRS }).by_default(),
        Scenario::new("pairs-16k", FlowSpec { payload: 16_384, ..PAIRS }),
        Scenario::new("fan-out", FlowSpec { shape: Shape::FanOut, ..PAIRS }),
        Scenario::new("fan-in", FlowSpec { shape: Shape::FanIn, ..PAIRS }),
        Scenario::new("low-load", low_load).by_default(),
    ]
}

impl Load for FlowSpec {
    fn about(&self) -> String {
        let shape = match self.shape {
            Shape::Pairs => format!("{} pairs", self.clients),
            Shape::FanOut => format!("1 publisher to {} subscribers", self.clients),
            Shape::FanIn => format!("{} publishers to 1 wildcard", self.clients),
        };
        let pace = match self.pace {
            Pace::Window(window) => format!("closed loop, window {window} per publisher"),
            Pace::Rate(rate) => format!("open loop, {rate} messages/s in all"),
        };
        format!("{shape}, QoS 0, {} B, {pace}", self.payload)
    }

    fn change(&mut self, overrides: &Overrides) {
        if let Some(seconds) = overrides.seconds {
            self.measure = Duration::from_secs_f64(seconds.clamp(0.01, 86_400.0));
        }
        self.clients = overrides.clients.unwrap_or(self.clients).max(1);
        self.payload = overrides.payload.unwrap_or(self.payload);
        self.pace = match (overrides.window, overrides.rate) {
            (_, Some(rate)) => Pace::Rate(rate),
            (Some(window), None) => Pace::Window(window),
            (None, None) => self.pace,
        };
    }

    fn run(&self, target: &Target) -> io::Result<Outcome> {
        run(target, self)
    }
}

/// Connects, warms up, measures, waits for what is outstanding.
///
/// # Errors
///
/// When the broker cannot be reached, closes a connection, or sends what is no MQTT.
fn run(target: &Target, spec: &FlowSpec) -> io::Result<Outcome> {
    let mut flow = Flow::open(target, *spec)?;
    let begin = flow.now();
    let warm = begin + as_ns(spec.warmup);
    flow.drive(warm)?;
    let (before, delivered_before) = (Mark::take(target)?, flow.delivered);
    flow.recording = true;
    flow.drive(warm + as_ns(spec.measure))?;
    flow.recording = false;
    let (after, measured) = (Mark::take(target)?, flow.delivered - delivered_before);
    let memory = target.memory()?;
    flow.drain()?;

    let mut outcome = flow.into_outcome();
    outcome.set_memory(memory);
    outcome.measured = measured;
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    outcome.set(Metric::MessagesPerSec, Some(measured as f64 / seconds));
    let broker_ns = after.broker_ns_since(&before);
    outcome.set(Metric::BrokerUsPerMessage, broker_ns.and_then(|ns| us_each(ns, measured)));
    let tool_ns = after.tool.ns_since(&before.tool);
    outcome.set(Metric::ToolUsPerMessage, us_each(tool_ns, measured));
    Ok(outcome)
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Publisher {
    link: Link,
    template: Template,
    subscribers: Range<usize>,
    sent: u64,
    /// What all of its subscribers have, or have lost.
    accounted: u64,
    progressed_ns: u64,
}

#[derive(Debug)]
struct Subscriber {
    link: Link,
    /// The publishers it hears, with a checker for each.
    publishers: Range<usize>,
    checkers: Vec<Checker>,
}

struct Flow {
    spec: FlowSpec,
    poll: Poll,
    clock: Instant,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    buffer: ReadBuffer,
    batch: Vec<u8>,
    latency: Histogram<u64>,
    send_delay: Histogram<u64>,
    producing: bool,
    recording: bool,
    /// Messages of the open loop so far, and when the first was due.
    scheduled: u64,
    schedule_begin: Option<u64>,
    next_check: u64,
    armed: u64,
    delivered: u64,
    stalled: u64,
    foreign: u64,
}

impl Flow {
    fn open(target: &Target, spec: FlowSpec) -> io::Result<Self> {
        let many = usize::try_from(spec.clients.max(1)).map_err(io::Error::other)?;
        let (publisher_count, subscriber_count) = match spec.shape {
            Shape::Pairs => (many, many),
            Shape::FanOut => (1, many),
            Shape::FanIn => (many, 1),
        };
        let own_or_all = |index: usize, others: usize| match spec.shape {
            Shape::Pairs => index..index + 1,
            Shape::FanOut | Shape::FanIn => 0..others,
        };
        let poll = Poll::new()?;
        let mut subscribers = Vec::new();
        for index in 0..subscriber_count {
            let filter = match spec.shape {
                Shape::Pairs => topic(index),
                Shape::FanOut => topic(0),
                Shape::FanIn => "bench/+".to_owned(),
            };
            let link = Link::open(target, &format!("bench-sub-{index}"), Some(&filter))?;
            poll.add(&link, publisher_count + index)?;
            let publishers = own_or_all(index, publisher_count);
            let checkers = publishers.clone().map(|_| Checker::default()).collect();
            subscribers.push(Subscriber { link, publishers, checkers });
        }
        let mut publishers = Vec::new();
        for index in 0..publisher_count {
            let link = Link::open(target, &format!("bench-pub-{index}"), None)?;
            poll.add(&link, index)?;
            publishers.push(Publisher {
                link,
                template: Template::new(&topic(index), spec.payload),
                subscribers: own_or_all(index, subscriber_count),
                sent: 0,
                accounted: 0,
                progressed_ns: 0,
            });
        }
        Ok(Self {
            spec,
            poll,
            clock: Instant::now(),
            publishers,
            subscribers,
            buffer: ReadBuffer::new(),
            batch: Vec::new(),
            latency: histogram()?,
            send_delay: histogram()?,
            producing: true,
            recording: false,
            scheduled: 0,
            schedule_begin: None,
            next_check: 0,
            armed: 0,
            delivered: 0,
            stalled: 0,
            foreign: 0,
        })
    }

    fn now(&self) -> u64 {
        as_ns(self.clock.elapsed())
    }

    /// Sends and receives until the tool's clock shows `until`.
    fn drive(&mut self, until: u64) -> io::Result<()> {
        let mut ready = Vec::new();
        for index in 0..self.publishers.len() {
            self.refill(index)?;
        }
        loop {
            let mut now = self.now();
            if now >= until || (!self.producing && self.nothing_outstanding()) {
                return Ok(());
            }
            if now >= self.next_check {
                self.give_up_stalled(now)?;
                self.next_check = now + CHECK_NS;
            }
            let mut wake = until.min(self.next_check);
            if let (Pace::Rate(rate), true) = (self.spec.pace, self.producing) {
                wake = wake.min(self.send_due(rate)?);
                now = self.now();
            }
            self.arm(now, wake)?;
            self.poll.wait(&mut ready)?;
            for &event in &ready {
                self.handle(event)?;
            }
        }
    }

    /// Stops sending and takes what is still under way.
    fn drain(&mut self) -> io::Result<()> {
        self.producing = false;
        self.drive(self.now() + DRAIN_NS)?;
        // Only what moved to the very end and never finished is left here.
        self.give_up_stalled(u64::MAX)
    }

    /// Sets the timer, unless it will ring early enough anyway.
    fn arm(&mut self, now: u64, wake: u64) -> io::Result<()> {
        if self.armed <= now || wake < self.armed {
            self.poll.wake_after(Duration::from_nanos(wake.saturating_sub(now)))?;
            self.armed = wake;
        }
        Ok(())
    }

    fn handle(&mut self, event: Ready) -> io::Result<()> {
        let publisher_count = self.publishers.len();
        if event.token >= publisher_count {
            if event.readable {
                self.receive(event.token - publisher_count)?;
            }
            return Ok(());
        }
        let publisher = &mut self.publishers[event.token];
        if event.readable {
            publisher.link.receive(&mut self.buffer, |_| ())?;
        }
        if event.writable && !publisher.link.is_flushed() {
            publisher.link.flush()?;
            self.refill(event.token)?;
        }
        Ok(())
    }

    /// Takes what has come for one subscriber and lets its publishers go on.
    fn receive(&mut self, index: usize) -> io::Result<()> {
        let subscriber = &mut self.subscribers[index];
        let (first, checkers) = (subscriber.publishers.start, &mut subscriber.checkers);
        let record_latency = self.recording && matches!(self.spec.pace, Pace::Rate(_));
        let (latency, clock) = (&mut self.latency, &self.clock);
        let (mut fresh, mut foreign) = (0, 0);
        subscriber.link.receive(&mut self.buffer, |packet| {
            let stamp = match packet {
                Packet::Publish { payload, .. } => Stamp::read(payload),
                _ => None,
            };
            let checker = stamp.and_then(|stamp| {
                let at = usize::try_from(stamp.publisher).ok()?.checked_sub(first)?;
                Some((stamp, checkers.get_mut(at)?))
            });
            let Some((stamp, checker)) = checker else {
                foreign += 1;
                return;
            };
            let before = checker.tally().delivered;
            checker.observe(stamp.sequence);
            fresh += checker.tally().delivered - before;
            if record_latency {
                latency.saturating_record(as_ns(clock.elapsed()).saturating_sub(stamp.time_ns));
            }
        })?;
        self.foreign += foreign;
        self.delivered += fresh;
        for publisher in subscriber.publishers.clone() {
            self.account(publisher)?;
        }
        Ok(())
    }

    /// Looks how far the slowest subscriber of this publisher is.
    fn account(&mut self, index: usize) -> io::Result<()> {
        let publisher = &mut self.publishers[index];
        let accounted = self.subscribers[publisher.subscribers.clone()]
            .iter()
            .filter_map(|subscriber| {
                Some(subscriber.checkers.get(index - subscriber.publishers.start)?.accounted())
            })
            .min();
        if let Some(accounted) = accounted
            && accounted > publisher.accounted
        {
            publisher.accounted = accounted;
            publisher.progressed_ns = as_ns(self.clock.elapsed());
            self.refill(index)?;
        }
        Ok(())
    }

    /// Closed loop: sends until the window is full or the kernel takes no more.
    fn refill(&mut self, index: usize) -> io::Result<()> {
        let (Pace::Window(window), true) = (self.spec.pace, self.producing) else {
            return Ok(());
        };
        let publisher = &mut self.publishers[index];
        let batch_max = (BATCH_BYTES / publisher.template.len()).max(1) as u64;
        while publisher.link.is_flushed() {
            let outstanding = publisher.sent.saturating_sub(publisher.accounted);
            let room = u64::from(window.max(1)).saturating_sub(outstanding).min(batch_max);
            if room == 0 {
                break;
            }
            let now = as_ns(self.clock.elapsed());
            self.batch.clear();
            for _ in 0..room {
                publisher.append(index, now, &mut self.batch)?;
            }
            if outstanding == 0 {
                publisher.progressed_ns = now;
            }
            publisher.link.send(&self.batch)?;
        }
        Ok(())
    }

    /// Open loop: sends all that is due; returns when the next will be.
    fn send_due(&mut self, rate: f64) -> io::Result<u64> {
        let begin = *self.schedule_begin.get_or_insert(as_ns(self.clock.elapsed()));
        loop {
            let offset = Duration::try_from_secs_f64(self.scheduled as f64 / rate.max(0.001));
            let due = begin + as_ns(offset.map_err(io::Error::other)?);
            let now = as_ns(self.clock.elapsed());
            if due > now {
                return Ok(due);
            }
            let count = self.publishers.len() as u64;
            let index = usize::try_from(self.scheduled % count).map_err(io::Error::other)?;
            let publisher = &mut self.publishers[index];
            if publisher.sent == publisher.accounted {
                publisher.progressed_ns = now;
            }
            self.batch.clear();
            publisher.append(index, due, &mut self.batch)?;
            publisher.link.send(&self.batch)?;
            self.scheduled += 1;
            if self.recording {
                self.send_delay.saturating_record(now - due);
            }
        }
    }

    fn nothing_outstanding(&self) -> bool {
        self.publishers.iter().all(|publisher| publisher.accounted >= publisher.sent)
    }

    /// Gives up what is outstanding where nothing has moved for long, so that a loss at the end
    /// of a window cannot hold the window for ever.
    fn give_up_stalled(&mut self, now: u64) -> io::Result<()> {
        for index in 0..self.publishers.len() {
            let publisher = &mut self.publishers[index];
            let quiet = now.saturating_sub(publisher.progressed_ns);
            if publisher.accounted >= publisher.sent || quiet < STALL_NS {
                continue;
            }
            let sent = publisher.sent;
            for subscriber in &mut self.subscribers[publisher.subscribers.clone()] {
                let at = index - subscriber.publishers.start;
                if let Some(checker) = subscriber.checkers.get_mut(at) {
                    self.stalled += sent - checker.accounted().min(sent);
                    checker.give_up_before(sent);
                }
            }
            self.account(index)?;
        }
        Ok(())
    }

    fn into_outcome(self) -> Outcome {
        let mut outcome = Outcome { stalled: self.stalled, ..Outcome::default() };
        outcome.connections = (self.publishers.len() + self.subscribers.len()) as u64;
        for subscriber in self.subscribers {
            for checker in &subscriber.checkers {
                outcome.add(checker.tally());
            }
            subscriber.link.close();
        }
        for publisher in self.publishers {
            outcome.sent += publisher.sent;
            publisher.link.close();
        }
        if !self.latency.is_empty() {
            let us = |histogram: &Histogram<u64>, quantile| {
                Some(histogram.value_at_quantile(quantile) as f64 / 1000.0)
            };
            outcome.set(Metric::LatencyP50Us, us(&self.latency, 0.5));
            outcome.set(Metric::LatencyP99Us, us(&self.latency, 0.99));
            outcome.set(Metric::SendDelayP99Us, us(&self.send_delay, 0.99));
        }
        if self.stalled > 0 {
            outcome.notes.push(format!("{} messages given up after a stall of 2 s", self.stalled));
        }
        if self.foreign > 0 {
            outcome.notes.push(format!("{} packets that nobody here sent", self.foreign));
        }
        outcome
    }
}

impl Publisher {
    /// Adds the next message to a batch.
    #[inline]
    fn append(&mut self, index: usize, time_ns: u64, batch: &mut Vec<u8>) -> io::Result<()> {
        let stamp = Stamp {
            publisher: u32::try_from(index).map_err(io::Error::other)?,
            sequence: u32::try_from(self.sent).map_err(io::Error::other)?,
            time_ns,
        };
        self.template.append(batch, stamp);
        self.sent += 1;
        Ok(())
    }
}

/// All topics have the same length, so that all messages cost the same.
fn topic(index: usize) -> String {
    format!("bench/{index:04}")
}

/// From 1 ns to a minute, three digits.
fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
