//! The loads: each runs once against one broker and says what it saw.

pub(crate) mod flow;
pub(crate) mod idle;

use std::time::Instant;
use std::{io, process};

use serde::Serialize;

use crate::process::{CpuSample, Memory};
use crate::sequence::Tally;
use crate::target::Target;

/// What one run of one load saw.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Outcome {
    /// PUBLISH packets sent, over the whole run: warm-up, measured time and the end.
    pub(crate) sent: u64,
    /// Different messages that came, summed over all subscribers.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    /// Of the lost, those given up after two seconds without progress.
    pub(crate) stalled: u64,
    /// Delivered within the measured time; what the rates below are made of.
    pub(crate) measured: u64,
    pub(crate) messages_per_sec: Option<f64>,
    pub(crate) broker_us_per_message: Option<f64>,
    pub(crate) tool_us_per_message: Option<f64>,
    pub(crate) latency_p50_us: Option<f64>,
    pub(crate) latency_p99_us: Option<f64>,
    /// How late the tool itself sent: at the 99th percentile, within the latency above.
    pub(crate) send_delay_p99_us: Option<f64>,
    /// The broker's memory at the end of the measured time.
    pub(crate) memory: Option<Memory>,
    pub(crate) connections: u64,
    pub(crate) bytes_per_connection: Option<f64>,
    pub(crate) broker_us_per_connect: Option<f64>,
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    fn add(&mut self, tally: Tally) {
        self.delivered += tally.delivered;
        self.lost += tally.lost;
        self.duplicated += tally.duplicated;
        self.reordered += tally.reordered;
    }
}

/// Clock and CPU at one moment.
#[derive(Debug)]
struct Mark {
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
