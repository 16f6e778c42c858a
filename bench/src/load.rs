//! The loads: each runs once against one broker and says what it saw.

pub(crate) mod beside;
pub(crate) mod churn;
pub(crate) mod connect;
pub(crate) mod crowd;
pub(crate) mod filters;
pub(crate) mod flow;
pub(crate) mod idle;
#[cfg(test)]
mod rehearsal;
pub(crate) mod resubscribe;
pub(crate) mod retained;
pub(crate) mod rules;
pub(crate) mod subscribe;
mod volley;

use std::time::Instant;
use std::{io, process};

use serde::{Deserialize, Serialize};

use crate::codec::Version;
use crate::metric::{Metric, Values};
use crate::process::{CpuSample, Memory};
use crate::scenario::Overrides;
use crate::sequence::Tally;
use crate::target::{Target, Transport};

/// A load: what a scenario does to a broker.
pub(crate) trait Load {
    /// What it does, in one line for the reports.
    fn about(&self) -> String;

    /// Over what its clients connect.
    fn transport(&self) -> Transport {
        Transport::Tcp
    }

    /// What a broker must be able to do for it. Who sets brokers side by side leaves out those that
    /// cannot, as "not applicable" (see `Running::target`); a run that finds it out by itself, because
    /// the broker announces or grants less, fails with [`io::ErrorKind::Unsupported`] and means
    /// the same.
    fn needs(&self) -> Needs {
        Needs::over(self.transport())
    }

    /// Takes what the command line wants different, as far as it means something here.
    fn change(&mut self, overrides: &Overrides);

    /// What must be done before the brokers start, such as raising limits that they inherit.
    fn prepare(&self) {}

    /// Runs it once against one broker.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or measured, or breaks off.
    fn run(&self, target: &Target) -> io::Result<Outcome>;

    /// Whether it is run against two at once, see [`Load::run_both`].
    fn wants_both(&self) -> bool {
        false
    }

    /// Runs it once against a broker and against the same one as it comes ([`Setting::Open`]), in
    /// turn, to set the two against each other.
    ///
    /// # Errors
    ///
    /// As [`Load::run`].
    fn run_both(&self, target: &Target, _open: &Target) -> io::Result<Outcome> {
        self.run(target)
    }
}

/// What a load asks of a broker beyond QoS 0 over tcp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) transport: Transport,
    pub(crate) version: Version,
    pub(crate) qos: u8,
    /// That it keeps retained messages.
    pub(crate) retained: bool,
    pub(crate) setting: Setting,
}

impl Needs {
    /// MQTT 3.1.1 at QoS 0 over this transport, and nothing else.
    pub(crate) fn over(transport: Transport) -> Self {
        let setting = if transport.is_tls() { Setting::Tls } else { Setting::Open };
        Self { transport, version: Version::V311, qos: 0, retained: false, setting }
    }
}

/// How a broker is configured: what it listens to, and whom it lets in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    /// Everybody, over tcp and WebSocket.
    #[default]
    Open,
    /// Everybody, over TLS, alone and below WebSocket.
    Tls,
    /// Users of a file, over tcp.
    Passwords,
    /// Users of a file, over tcp, who may do what another file says.
    Rules,
    /// Users of a file, over tcp and over TLS: what an attacker finds.
    Guarded,
}

impl Setting {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] =
        [Self::Open, Self::Tls, Self::Passwords, Self::Rules, Self::Guarded];

    /// Whether users are asked for their names.
    pub(crate) fn has_users(self) -> bool {
        matches!(self, Self::Passwords | Self::Rules | Self::Guarded)
    }

    /// What stands above its configuration in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Tls => "with TLS",
            Self::Passwords => "with passwords",
            Self::Rules => "with passwords and access rules",
            Self::Guarded => "as it is attacked",
        }
    }
}

/// What one run of one load saw.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    /// PUBLISH packets sent, over the whole run: warm-up, measured time and the end.
    pub(crate) sent: u64,
    /// Different messages that came, summed over all subscribers.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    /// Given up as lost: nothing came from the broker for two seconds, or of a publisher for ten.
    /// What comes later all the same counts as reordered.
    pub(crate) stalled: u64,
    /// Delivered within the measured time; what the rates are made of.
    pub(crate) measured: u64,
    pub(crate) connections: u64,
    pub(crate) values: Values,
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    fn add(&mut self, tally: Tally) {
        self.delivered += tally.delivered;
        self.lost += tally.lost;
        self.duplicated += tally.duplicated;
        self.reordered += tally.reordered;
    }

    /// Adds what another run saw of messages; its figures are left to the caller.
    fn absorb(&mut self, other: Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.stalled += other.stalled;
        self.measured += other.measured;
        self.connections = self.connections.max(other.connections);
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Notes a figure, if there is one.
    fn set(&mut self, metric: Metric, value: Option<f64>) {
        if let Some(value) = value {
            self.values.insert(metric, value);
        }
    }

    /// Notes the broker's memory.
    fn set_memory(&mut self, memory: Option<Memory>) {
        const MIB: f64 = 1_048_576.0;
        let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / MIB);
        self.set(Metric::RssMib, mib(memory.map(|memory| memory.rss)));
        self.set(Metric::PssMib, mib(memory.and_then(|memory| memory.pss)));
        self.set(Metric::PrivateMib, mib(memory.and_then(|memory| memory.private)));
    }
}

/// Clock and CPU at one moment.
#[derive(Debug)]
pub(crate) struct Mark {
    at: Instant,
    broker: Option<CpuSample>,
    tool: CpuSample,
}

impl Mark {
    fn take(target: &Target) -> io::Result<Self> {
        let (broker, tool) = (target.cpu()?, CpuSample::take(process::id())?);
        Ok(Self { at: Instant::now(), broker, tool })
    }

    /// The broker's CPU from `before` to now, in ns.
    fn broker_ns_since(&self, before: &Self) -> Option<u64> {
        Some(self.broker.as_ref()?.ns_since(before.broker.as_ref()?))
    }
}

/// Microseconds of each of `count`, if there were any.
fn us_each(ns: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| ns as f64 / 1000.0 / count as f64)
}
