//! The loop that sends and receives, on one thread.

use std::io::{self, ErrorKind};
use std::mem;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::inbox::{Inbox, Recorder};
use super::outbox::Outbox;
use super::plan::{Listener, Plan};
use super::{FlowSpec, Latency, Pace, as_ns};
use crate::access;
use crate::codec::{Template, User};
use crate::link::{Dial, Link, ReadBuffer};
use crate::load::Outcome;
use crate::metric::Metric;
use crate::poll::{Poll, Ready};
use crate::sequence::Tally;
use crate::target::Target;

/// When nothing has come from the broker for this long, what is outstanding is given up.
const STALL_NS: u64 = 2_000_000_000;
/// The same for one publisher while others go on: a broker on a busy machine may serve it late.
const STALL_OF_ONE_NS: u64 = 10_000_000_000;
/// How often stalls are looked for.
const CHECK_NS: u64 = 250_000_000;
/// Whatever the broker does, a run ends this long after its last message was sent.
const DRAIN_NS: u64 = 60_000_000_000;
/// Packets are written in batches of at most about this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// A subscriber that had stopped has all it will get when nothing has come for this long.
const LATE_QUIET_NS: u64 = 500_000_000;

#[derive(Debug)]
struct Publisher {
    link: Link,
    outbox: Outbox,
    /// Who hears it: subscribers and their streams of it.
    heard_by: Vec<(usize, usize)>,
    /// What all of its subscribers have, or have lost.
    accounted: u64,
    progressed_ns: u64,
}

#[derive(Debug)]
struct Subscriber {
    link: Link,
    inbox: Inbox,
}

/// See the module.
pub(super) struct Flow {
    spec: FlowSpec,
    poll: Poll,
    clock: Instant,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Subscribers that read nothing until all is over; nobody waits for them.
    stopped: Vec<Subscriber>,
    buffer: ReadBuffer,
    batch: Vec<u8>,
    answers: Vec<u8>,
    latency: Histogram<u64>,
    send_delay: Histogram<u64>,
    producing: bool,
    pub(super) recording: bool,
    /// Messages of the open loop so far, and when the first was due.
    scheduled: u64,
    schedule_begin: Option<u64>,
    next_check: u64,
    armed: u64,
    pub(super) delivered: u64,
    given_up: u64,
    /// When something last came from the broker.
    heard_ns: u64,
    /// Acknowledgements that are missing are not waited for any more.
    acknowledgements_given_up: bool,
}

impl Flow {
    pub(super) fn open(target: &Target, spec: FlowSpec) -> io::Result<Self> {
        let many = usize::try_from(spec.clients.max(1)).map_err(io::Error::other)?;
        let plan = Plan::new(spec.shape, many);
        let topics = plan.publishers.first().map_or(1, Vec::len);
        let (poll, first_subscriber) = (Poll::new()?, plan.publishers.len());
        let mut subscribers = Vec::new();
        for (index, listener) in plan.subscribers.iter().enumerate() {
            let subscriber = subscribe(target, &spec, index, listener, topics)?;
            poll.add(&subscriber.link, first_subscriber + index)?;
            subscribers.push(subscriber);
        }
        let mut stopped = Vec::new();
        for (index, listener) in plan.subscribers.iter().take(spec.stopped as usize).enumerate() {
            let index = subscribers.len() + index;
            stopped.push(subscribe(target, &spec, index, listener, topics)?);
        }
        let mut publishers = Vec::new();
        for (index, topics) in plan.publishers.iter().enumerate() {
            let publisher = publish(target, &spec, index, topics, &plan.subscribers)?;
            poll.add(&publisher.link, index)?;
            publishers.push(publisher);
        }
        Ok(Self {
            spec,
            poll,
            clock: Instant::now(),
            publishers,
            subscribers,
            stopped,
            buffer: ReadBuffer::new(),
            batch: Vec::new(),
            answers: Vec::new(),
            latency: histogram()?,
            send_delay: histogram()?,
            producing: true,
            recording: false,
            scheduled: 0,
            schedule_begin: None,
            next_check: 0,
            armed: 0,
            delivered: 0,
            given_up: 0,
            heard_ns: 0,
            acknowledgements_given_up: false,
        })
    }

    pub(super) fn now(&self) -> u64 {
        as_ns(self.clock.elapsed())
    }

    /// Sends and receives until the tool's clock shows `until`.
    pub(super) fn drive(&mut self, until: u64) -> io::Result<()> {
        let mut ready = Vec::new();
        for index in 0..self.publishers.len() {
            self.refill(index)?;
        }
        loop {
            let mut now = self.now();
            if ready.iter().any(|event: &Ready| event.readable) {
                self.heard_ns = now;
            }
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
    pub(super) fn drain(&mut self) -> io::Result<()> {
        self.producing = false;
        // What has been quiet so far may have had nothing to say.
        self.heard_ns = self.now();
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
        if let Some(index) = event.token.checked_sub(self.publishers.len()) {
            if event.writable {
                self.subscribers[index].link.flush()?;
            }
            return if event.readable { self.receive(index) } else { Ok(()) };
        }
        let publisher = &mut self.publishers[event.token];
        let was_flushed = publisher.link.is_flushed();
        if event.writable {
            publisher.link.flush()?;
        }
        let before = publisher.outbox.unfinished();
        if event.readable {
            let outbox = &mut publisher.outbox;
            let take = |packet: crate::codec::Packet<'_>, answers: &mut Vec<u8>| {
                outbox.take(&packet, answers);
            };
            publisher.link.converse(&mut self.buffer, &mut self.answers, take)?;
        }
        if !was_flushed || publisher.outbox.unfinished() < before {
            self.refill(event.token)?;
        }
        Ok(())
    }

    /// Takes what has come for one subscriber and lets its publishers go on.
    fn receive(&mut self, index: usize) -> io::Result<()> {
        let Subscriber { link, inbox } = &mut self.subscribers[index];
        let before = inbox.delivered;
        let is_open_loop = matches!(self.spec.pace, Pace::Rate(_));
        let mut record: Recorder<'_> =
            (self.recording && is_open_loop).then_some((&mut self.latency, &self.clock));
        link.converse(&mut self.buffer, &mut self.answers, |packet, answers| {
            inbox.take(&packet, answers, &mut record);
        })?;
        self.delivered += inbox.delivered - before;
        for at in 0..self.subscribers[index].inbox.streams.len() {
            let stream = &mut self.subscribers[index].inbox.streams[at];
            let publisher = stream.publisher;
            // Only the slowest stream of a publisher holds it.
            if stream.take_progress().is_some_and(|old| old <= self.publishers[publisher].accounted)
            {
                self.account(publisher)?;
            }
        }
        Ok(())
    }

    /// Looks how far the slowest subscriber of this publisher is.
    fn account(&mut self, index: usize) -> io::Result<()> {
        let publisher = &mut self.publishers[index];
        let streams = publisher.heard_by.iter();
        let accounted =
            streams.map(|&(who, at)| self.subscribers[who].inbox.streams[at].accounted()).min();
        if let Some(accounted) = accounted
            && accounted > publisher.accounted
        {
            publisher.accounted = accounted;
            publisher.progressed_ns = as_ns(self.clock.elapsed());
            self.refill(index)?;
        }
        Ok(())
    }

    /// Closed loop: sends until the window is full, the broker must acknowledge first, or the
    /// kernel takes no more.
    fn refill(&mut self, index: usize) -> io::Result<()> {
        let (Pace::Window(window), true) = (self.spec.pace, self.producing) else {
            return Ok(());
        };
        let Publisher { link, outbox, accounted, progressed_ns, .. } = &mut self.publishers[index];
        let batch_max = (BATCH_BYTES / outbox.packet_len()).max(1) as u64;
        while link.is_flushed() {
            let outstanding = outbox.sent().saturating_sub(*accounted);
            let room = u64::from(window.max(1)).saturating_sub(outstanding);
            let room = room.min(outbox.quota()).min(batch_max);
            if room == 0 {
                break;
            }
            let now = as_ns(self.clock.elapsed());
            if outstanding == 0 {
                *progressed_ns = now;
            }
            if room == 1 {
                link.send(outbox.single(now)?)?;
                continue;
            }
            self.batch.clear();
            for _ in 0..room {
                outbox.append(now, &mut self.batch)?;
            }
            link.send(&self.batch)?;
        }
        Ok(())
    }

    /// Open loop: sends all that is due; returns when the next will be. Where the broker must
    /// acknowledge first, that is unknown: its acknowledgement wakes the loop.
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
            if publisher.outbox.quota() == 0 {
                return Ok(u64::MAX);
            }
            if publisher.outbox.sent() == publisher.accounted {
                publisher.progressed_ns = now;
            }
            publisher.link.send(publisher.outbox.single(due)?)?;
            self.scheduled += 1;
            if self.recording {
                self.send_delay.saturating_record(now - due);
            }
        }
    }

    fn nothing_outstanding(&self) -> bool {
        self.publishers.iter().all(|one| one.accounted >= one.outbox.sent())
            && (self.acknowledgements_given_up || self.unacknowledged() == 0)
    }

    /// Acknowledgements that are missing, in both directions.
    fn unacknowledged(&self) -> usize {
        let published = self.publishers.iter().map(|one| one.outbox.unfinished());
        let received = self.subscribers.iter().map(|one| one.inbox.unreleased());
        published.chain(received).sum()
    }

    /// Gives up what is outstanding where nothing has moved for long, so that a loss at the end
    /// of a window cannot hold the window for ever.
    fn give_up_stalled(&mut self, now: u64) -> io::Result<()> {
        let all_quiet = now.saturating_sub(self.heard_ns) >= STALL_NS;
        let stall = if all_quiet { STALL_NS } else { STALL_OF_ONE_NS };
        for index in 0..self.publishers.len() {
            let publisher = &self.publishers[index];
            let quiet = now.saturating_sub(publisher.progressed_ns);
            let sent = publisher.outbox.sent();
            if publisher.accounted >= sent || quiet < stall {
                continue;
            }
            for &(who, at) in &publisher.heard_by {
                self.given_up += self.subscribers[who].inbox.streams[at].give_up(sent);
            }
            self.account(index)?;
        }
        self.acknowledgements_given_up |= !self.producing && all_quiet;
        Ok(())
    }

    /// Lets the subscribers that had stopped read what they still get.
    pub(super) fn read_the_stopped(&mut self) -> io::Result<Vec<String>> {
        let mut notes = Vec::new();
        for mut subscriber in mem::take(&mut self.stopped) {
            let ended = self.read_late(&mut subscriber)?;
            let mut tally = Tally::default();
            subscriber.inbox.tallies().for_each(|stream| tally.add(stream));
            let sent = subscriber.inbox.streams.iter().map(|stream| {
                stream.numbers_below(self.publishers[stream.publisher].outbox.sent())
            });
            let sent: u64 = sent.sum();
            notes.push(format!(
                "the stopped subscriber got {} of {sent} messages ({} missing, {} duplicated, {} \
                 reordered){}",
                tally.delivered,
                sent.saturating_sub(tally.delivered),
                tally.duplicated,
                tally.reordered,
                if ended { "; then the broker closed it" } else { "" },
            ));
            subscriber.link.close();
        }
        Ok(notes)
    }

    /// Whether the broker closed the connection.
    fn read_late(&mut self, subscriber: &mut Subscriber) -> io::Result<bool> {
        let mut poll = Poll::new()?;
        poll.add(&subscriber.link, 0)?;
        let (mut ready, mut heard_ns) = (Vec::new(), self.now());
        let deadline = heard_ns + DRAIN_NS;
        loop {
            let now = self.now();
            if now >= (heard_ns + LATE_QUIET_NS).min(deadline) {
                return Ok(false);
            }
            poll.wake_after(Duration::from_nanos(LATE_QUIET_NS))?;
            poll.wait(&mut ready)?;
            if ready.is_empty() {
                continue;
            }
            heard_ns = self.now();
            let Subscriber { link, inbox } = subscriber;
            let read = link.flush().and_then(|()| {
                link.converse(&mut self.buffer, &mut self.answers, |packet, answers| {
                    inbox.take(&packet, answers, &mut None);
                })
            });
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::InvalidData => return Err(error),
                Err(_) => return Ok(true),
            }
        }
    }

    /// What was recorded since the last time.
    pub(super) fn take_latency(&mut self) -> Latency {
        let us = |ns: u64| ns as f64 / 1000.0;
        let seen = Latency {
            messages: self.latency.len(),
            p50_us: us(self.latency.value_at_quantile(0.5)),
            p99_us: us(self.latency.value_at_quantile(0.99)),
            max_us: us(self.latency.max()),
            late_p99_us: us(self.send_delay.value_at_quantile(0.99)),
        };
        self.latency.reset();
        self.send_delay.reset();
        seen
    }

    pub(super) fn into_outcome(self) -> Outcome {
        let mut outcome = Outcome { stalled: self.given_up, ..Outcome::default() };
        outcome.connections = (self.publishers.len() + self.subscribers.len()) as u64;
        outcome.notes = self.notes();
        let first = self.publishers.first();
        outcome.notes.extend(first.and_then(|one| Some(one.link.tls()?.agreed())));
        if !self.latency.is_empty() {
            let us = |ns: u64| Some(ns as f64 / 1000.0);
            for (metric, quantile) in [
                (Metric::LatencyP50Us, 0.5),
                (Metric::LatencyP90Us, 0.9),
                (Metric::LatencyP99Us, 0.99),
                (Metric::LatencyP999Us, 0.999),
            ] {
                outcome.set(metric, us(self.latency.value_at_quantile(quantile)));
            }
            outcome.set(Metric::LatencyMaxUs, us(self.latency.max()));
            outcome.set(Metric::SendDelayP99Us, us(self.send_delay.value_at_quantile(0.99)));
        }
        for subscriber in self.subscribers {
            subscriber.inbox.tallies().for_each(|tally| outcome.add(tally));
            subscriber.link.close();
        }
        for publisher in self.publishers {
            outcome.sent += publisher.outbox.sent();
            publisher.link.close();
        }
        outcome
    }

    /// What should not have happened, as far as it did.
    fn notes(&self) -> Vec<String> {
        let published = |get: fn(&Outbox) -> u64| -> u64 {
            self.publishers.iter().map(|one| get(&one.outbox)).sum()
        };
        let received = |get: fn(&Inbox) -> u64| -> u64 {
            self.subscribers.iter().map(|one| get(&one.inbox)).sum()
        };
        let last = if self.spec.qos == 2 { "PUBCOMP" } else { "PUBACK" };
        let counts = [
            (self.given_up, "messages given up after a stall".to_owned()),
            (
                published(|outbox| outbox.unfinished() as u64),
                format!("PUBLISH packets without {last} at the end"),
            ),
            (
                received(|inbox| inbox.unreleased() as u64),
                "messages at QoS 2 without PUBREL at the end".to_owned(),
            ),
            (
                published(|outbox| outbox.oddities.refused),
                "PUBLISH packets that the broker refused".to_owned(),
            ),
            (
                published(|outbox| outbox.oddities.unasked)
                    + received(|inbox| inbox.oddities.foreign),
                "packets that nobody here sent or asked for".to_owned(),
            ),
            (
                received(|inbox| inbox.oddities.redelivered),
                "messages at QoS 2 again before their PUBREL".to_owned(),
            ),
        ];
        let happened = counts.into_iter().filter(|(count, _)| *count > 0);
        happened.map(|(count, what)| format!("{count} {what}")).collect()
    }
}

fn subscribe(
    target: &Target,
    spec: &FlowSpec,
    index: usize,
    listener: &Listener,
    topics: usize,
) -> io::Result<Subscriber> {
    let id = format!("bench-sub-{index}");
    let user = user(spec, index);
    let dial = Dial::new(target, &id).version(spec.version).user(user.as_ref());
    let link = dial.subscribe(&listener.filter, spec.qos).open()?;
    Ok(Subscriber { link, inbox: Inbox::new(listener.hears.clone(), topics) })
}

fn publish(
    target: &Target,
    spec: &FlowSpec,
    index: usize,
    topics: &[String],
    listeners: &[Listener],
) -> io::Result<Publisher> {
    let (id, user) = (format!("bench-pub-{index}"), user(spec, index));
    let link = Dial::new(target, &id).version(spec.version).user(user.as_ref()).open()?;
    let announced = link.announced();
    let template = |topic: &String| Template::new(spec.version, spec.qos, topic, spec.payload);
    let receive_maximum = announced.receive_maximum;
    let outbox =
        Outbox::new(index, topics.iter().map(template).collect(), spec.qos, receive_maximum)?;
    if spec.qos > announced.maximum_qos || outbox.packet_len() > announced.maximum_packet_size {
        let text = format!("the broker takes less than this load sends: {announced:?}");
        return Err(io::Error::new(ErrorKind::Unsupported, text));
    }
    let heard = |(who, listener): (usize, &Listener)| {
        let at = move |topic| listener.hears.stream(index, topic);
        (0..topics.len()).filter_map(at).map(|at| (who, at)).collect::<Vec<_>>()
    };
    let heard_by = listeners.iter().enumerate().flat_map(heard).collect();
    Ok(Publisher { link, outbox, heard_by, accounted: 0, progressed_ns: 0 })
}

fn user(spec: &FlowSpec, index: usize) -> Option<User> {
    spec.setting.has_users().then(|| access::user(index))
}

/// From 1 ns to a minute, three digits.
fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)
}
