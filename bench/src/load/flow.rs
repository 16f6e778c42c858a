//! Messages from publishers to subscribers, in a closed loop with a window or in an open loop at
//! a rate.

mod engine;
mod ids;
mod inbox;
mod outbox;
mod plan;

use std::io;
use std::time::Duration;

use self::engine::Flow;
use self::plan::MESH_COPIES;
pub(crate) use self::plan::Shape;
use super::{Load, Mark, Needs, Outcome, us_each};
use crate::codec::Version;
use crate::metric::Metric;
use crate::scenario::{Overrides, Scenario};
use crate::target::{Target, Transport};

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
    /// Bytes; at least the stamp.
    pub(crate) payload: usize,
    pub(crate) pace: Pace,
    pub(crate) warmup: Duration,
    pub(crate) measure: Duration,
}

const PAIRS: FlowSpec = FlowSpec {
    shape: Shape::Pairs,
    clients: 50,
    stopped: 0,
    qos: 0,
    version: Version::V311,
    transport: Transport::Tcp,
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
        let transport = if self.transport == Transport::Ws { " over WebSocket" } else { "" };
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
        Needs { transport: self.transport, version: self.version, qos: self.qos, retained: false }
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

/// Connects, warms up, measures, waits for what is outstanding. What it all goes over is the
/// target's to say.
///
/// # Errors
///
/// When the broker cannot be reached, closes a connection, or sends what is no MQTT; when it
/// cannot do what the load needs, [`io::ErrorKind::Unsupported`].
fn run(target: &Target, spec: &FlowSpec) -> io::Result<Outcome> {
    if spec.transport == Transport::Ws && target.transport != Transport::Ws {
        return Err(io::Error::other("this load goes over WebSocket: it needs a ws:// URL"));
    }
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

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
