//! Messages from publishers to subscribers, in a closed loop with a window or in an open loop at
//! a rate.

mod engine;
mod ids;
mod inbox;
mod outbox;
mod plan;

use std::io;
use std::time::Duration;

use serde::Serialize;

use self::engine::Flow;
use self::plan::MESH_COPIES;
pub(crate) use self::plan::Shape;
use super::{Load, Mark, Needs, Outcome, Setting, us_each};
use crate::codec::Version;
use crate::metric::Metric;
use crate::scenario::{Overrides, Scenario};
use crate::target::{Target, Transport};
use crate::tls;

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
    /// Pairs, the clients on the side that has many, or the publishers of a mesh.
    pub(crate) clients: u32,
    /// Further subscribers that read nothing while messages flow.
    pub(crate) stopped: u32,
    pub(crate) qos: u8,
    pub(crate) version: Version,
    pub(crate) transport: Transport,
    /// Where the transport has TLS.
    pub(crate) tls: tls::Version,
    /// Whether clients have to say who they are.
    pub(crate) setting: Setting,
    /// Bytes; at least the stamp.
    pub(crate) payload: usize,
    pub(crate) pace: Pace,
    pub(crate) warmup: Duration,
    pub(crate) measure: Duration,
}

pub(super) const PAIRS: FlowSpec = FlowSpec {
    shape: Shape::Pairs,
    clients: 50,
    stopped: 0,
    qos: 0,
    version: Version::V311,
    transport: Transport::Tcp,
    tls: tls::Version::V13,
    setting: Setting::Open,
    payload: 64,
    pace: Pace::Window(256),
    warmup: Duration::from_millis(500),
    measure: Duration::from_secs(3),
};

/// The scenarios that are such loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let cost = |name, spec: FlowSpec, ratio| {
        let scenario = Scenario::new(name, spec).by_default();
        scenario.at_most(Metric::BrokerUsPerMessage, ratio)
    };
    let at_rate = |rate| FlowSpec { clients: 10, pace: Pace::Rate(rate), ..PAIRS };
    let latency = |name, rate| {
        let scenario = Scenario::new(name, at_rate(rate)).by_default();
        scenario.at_most(Metric::LatencyP50Us, 1.1).at_most(Metric::LatencyP99Us, 1.1)
    };
    let few = FlowSpec { clients: 10, payload: 1_048_576, pace: Pace::Window(4), ..PAIRS };
    let fan_out = FlowSpec { shape: Shape::FanOut, ..PAIRS };
    let modern = FlowSpec { version: Version::V5, ..PAIRS };
    let secure = |name, transport| {
        let scenario = Scenario::new(name, FlowSpec { transport, ..PAIRS });
        scenario.at_most(Metric::BrokerUsPerMessage, 0.35)
    };
    vec![
        cost("pairs", PAIRS, 0.10),
        cost("pairs-w4", FlowSpec { pace: Pace::Window(4), ..PAIRS }, 0.25),
        Scenario::new("pairs-16b", FlowSpec { payload: 16, ..PAIRS }),
        cost("pairs-16k", FlowSpec { payload: 16_384, ..PAIRS }, 0.60),
        Scenario::new("pairs-1m", few),
        Scenario::new("pairs-v5", modern),
        cost("fan-out", fan_out, 0.10),
        cost("fan-in", FlowSpec { shape: Shape::FanIn, ..PAIRS }, 0.10),
        cost("mesh", FlowSpec { shape: Shape::Mesh, clients: 10, ..PAIRS }, 0.12),
        cost("qos1", FlowSpec { qos: 1, ..PAIRS }, 0.07),
        cost("qos2", FlowSpec { qos: 2, ..PAIRS }, 0.05),
        Scenario::new("qos1-v5", FlowSpec { qos: 1, ..modern }),
        cost("ws-pairs", FlowSpec { transport: Transport::Ws, ..PAIRS }, 0.25),
        secure("tls-pairs", Transport::Tls),
        secure("wss-pairs", Transport::Wss),
        cost("low-load", at_rate(1000.0), 0.9),
        latency("latency-5k", 5000.0),
        latency("latency-20k", 20_000.0),
        // What the kernel's buffers hold for the stopped one is soon over at this size.
        Scenario::new("slow-reader", FlowSpec { stopped: 1, payload: 4096, ..fan_out })
            .on_a_fresh_broker(),
    ]
}

impl Load for FlowSpec {
    fn about(&self) -> String {
        let many = self.clients;
        let shape = match self.shape {
            Shape::Pairs => format!("{many} pairs"),
            Shape::FanOut => format!("1 publisher to {many} subscribers"),
            Shape::FanIn => format!("{many} publishers to 1 wildcard"),
            Shape::Mesh => format!(
                "{many} publishers over {many} topics each to {} wildcards, each message to \
                 {MESH_COPIES}",
                many * MESH_COPIES
            ),
        };
        let stopped = match self.stopped {
            0 => String::new(),
            stopped => format!(" and {stopped} that stopped reading"),
        };
        let version = if self.version == Version::V5 { ", MQTT 5" } else { "" };
        let transport = over(self.transport, self.tls);
        let pace = match self.pace {
            Pace::Window(window) => format!("closed loop, window {window} per publisher"),
            Pace::Rate(rate) => format!("open loop, {rate} messages/s in all"),
        };
        let (qos, payload) = (self.qos, self.payload);
        format!("{shape}{stopped}{transport}{version}, QoS {qos}, {payload} B, {pace}")
    }

    fn transport(&self) -> Transport {
        self.transport
    }

    fn needs(&self) -> Needs {
        let needs = Needs::over(self.transport);
        let setting = if self.setting == Setting::Open { needs.setting } else { self.setting };
        Needs { version: self.version, qos: self.qos, setting, ..needs }
    }

    fn change(&mut self, overrides: &Overrides) {
        if let Some(seconds) = overrides.seconds {
            self.measure = Duration::from_secs_f64(seconds.clamp(0.01, 86_400.0));
        }
        self.clients = overrides.clients.unwrap_or(self.clients).max(1);
        self.payload = overrides.payload.unwrap_or(self.payload);
        self.qos = overrides.qos.unwrap_or(self.qos).min(2);
        self.version = overrides.version.unwrap_or(self.version);
        self.transport = overrides.transport.unwrap_or(self.transport);
        self.tls = overrides.tls.unwrap_or(self.tls);
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

/// What reports say behind a load.
pub(super) fn over(transport: Transport, tls: tls::Version) -> String {
    let version = if transport.is_tls() { tls.in_words() } else { "" };
    transport.over().to_owned() + version
}

/// Connects, warms up, measures, waits for what is outstanding. What it all goes over is the
/// target's to say.
///
/// # Errors
///
/// When the broker cannot be reached, closes a connection, or sends what is no MQTT; when it
/// cannot do what the load needs, [`io::ErrorKind::Unsupported`].
pub(super) fn run(target: &Target, spec: &FlowSpec) -> io::Result<Outcome> {
    target.check(spec.transport)?;
    let target = &Target { tls: spec.tls, ..*target };
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
    let late = flow.read_the_stopped()?;

    let mut outcome = flow.into_outcome();
    outcome.notes.extend(late);
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

/// A load in an open loop that goes on while something else happens.
pub(crate) struct Steady(Flow);

/// What the messages of a [`Steady`] load took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) messages: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// How late the tool itself sent, within the latency above.
    pub(crate) late_p99_us: f64,
}

impl Steady {
    /// So many pairs at so many messages a second in all, each pair with a user of its own; connects
    /// and warms up.
    ///
    /// # Errors
    ///
    /// As any other load.
    pub(crate) fn open(target: &Target, clients: u32, rate: f64) -> io::Result<Self> {
        let (pace, setting) = (Pace::Rate(rate), Setting::Guarded);
        let spec = FlowSpec { clients, pace, setting, transport: target.transport, ..PAIRS };
        let mut flow = Flow::open(target, spec)?;
        flow.drive(flow.now() + as_ns(spec.warmup))?;
        Ok(Self(flow))
    }

    /// Goes on for so long.
    ///
    /// # Errors
    ///
    /// When the broker breaks off.
    pub(crate) fn measure(&mut self, time: Duration) -> io::Result<Latency> {
        self.0.recording = true;
        let driven = self.0.drive(self.0.now() + as_ns(time));
        self.0.recording = false;
        driven.map(|()| self.0.take_latency())
    }

    /// Waits for what is outstanding, and leaves.
    ///
    /// # Errors
    ///
    /// When the broker breaks off.
    pub(crate) fn finish(mut self) -> io::Result<Outcome> {
        self.0.drain()?;
        Ok(self.0.into_outcome())
    }
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
