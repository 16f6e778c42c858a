//! Metrics in the text formats of OpenMetrics and Prometheus. A scrape reads the books of the broker; nothing is counted
//! here. No label has values that a Client chooses.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::answer::{Answer, Problem};
use super::desk::Desk;
use super::process::{self, Process};
use super::route::Asked;
use crate::counters::Counters;
use crate::ledger::{DropReason, FilterReason, Ledger};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is read when a scrape asks.
#[derive(Debug)]
struct Figures {
    ledger: Ledger,
    counters: Counters,
    listeners: Vec<(String, u64)>,
    process: Option<Process>,
}

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let figures = Figures::read(&asked.desk);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(figures));
    let mut written = String::new();
    let open = asked.accept.contains("application/openmetrics-text");
    let done = match open {
        true => text::encode(&mut written, &registry),
        false => prometheus_text::encode(&mut written, &registry),
    };
    done.map_err(|error| Problem::new(500, format!("the metrics cannot be written: {error}")))?;
    Ok(Answer::text(if open { OPEN_METRICS } else { PROMETHEUS }, written))
}

impl Figures {
    fn read(desk: &Desk) -> Figures {
        let broker = &desk.broker;
        let listeners = broker.listeners().into_iter();
        Figures {
            ledger: broker.ledger(),
            counters: broker.counters(),
            listeners: listeners.map(|l| (l.name, l.connections as u64)).collect(),
            process: process::read(),
        }
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let descriptor =
            families.0.encode_descriptor("hrotti_build", "The version.", None, MetricType::Info)?;
        build.encode(descriptor)?;
        self.books(&mut families)?;
        self.held(&mut families)?;
        self.process.as_ref().map_or(Ok(()), |process| of_process(&mut families, process))
    }
}

impl Figures {
    fn books(&self, families: &mut Families<'_>) -> fmt::Result {
        let ledger = &self.ledger;
        let identity = "offered = delivered + waiting + inflight + expired + dropped + filtered";
        families.counter(
            "hrotti_messages_offered",
            &format!("Messages offered to Sessions; each has exactly one place: {identity}."),
            ledger.offered,
        )?;
        families.counter(
            "hrotti_messages_delivered",
            "Messages delivered: taken by the transport at QoS 0, acknowledged at QoS 1 and 2.",
            ledger.delivered,
        )?;
        families.gauge(
            "hrotti_messages_waiting",
            "Messages that wait in the queues of Sessions.",
            ledger.waiting,
        )?;
        families.gauge(
            "hrotti_messages_inflight",
            "Messages that were sent and are not acknowledged.",
            ledger.inflight,
        )?;
        families.counter(
            "hrotti_messages_expired",
            "Messages whose Message Expiry Interval passed before delivery.",
            ledger.expired,
        )?;
        families.counters(
            "hrotti_messages_dropped",
            "Messages that a subscription matched and that were thrown away.",
            "reason",
            DropReason::ALL.iter().map(|&reason| (reason.to_string(), ledger.dropped(reason))),
        )?;
        families.counters(
            "hrotti_messages_filtered",
            "Messages that were not to be delivered: no subscription matched, or a rule excludes the subscriber.",
            "reason",
            FilterReason::ALL.iter().map(|&reason| (reason.to_string(), ledger.filtered(reason))),
        )
    }

    fn held(&self, families: &mut Families<'_>) -> fmt::Result {
        let counters = &self.counters;
        let gauges = [
            (
                "hrotti_sessions",
                "Sessions, whether their Clients are connected or not.",
                counters.sessions,
            ),
            ("hrotti_subscriptions", "Subscriptions.", counters.subscriptions),
            ("hrotti_retained_messages", "Retained messages.", counters.retained_messages),
            (
                "hrotti_retained_bytes",
                "Bytes of retained messages, Topic Names included.",
                counters.retained_bytes,
            ),
            (
                "hrotti_unauthenticated_bytes",
                "Bytes held for peers whose CONNECT was not accepted yet.",
                counters.unauthenticated_bytes,
            ),
        ];
        for (name, help, value) in gauges {
            families.gauge(name, help, value as u64)?;
        }
        families.gauges(
            "hrotti_connections",
            "Network Connections, with those before CONNECT.",
            "listener",
            self.listeners.iter().map(|(name, count)| (name.clone(), *count)),
        )?;
        families.counters(
            "hrotti_limit_reached",
            "How often a limit, a rule or a check refused something, by the name of the counter.",
            "limit",
            counters.counted().map(|(name, count)| (name.to_owned(), count)),
        )
    }
}

fn of_process(families: &mut Families<'_>, process: &Process) -> fmt::Result {
    families.counter("process_cpu_seconds", "CPU time of user and system.", process.cpu_secs)?;
    families.gauge("process_resident_memory_bytes", "Resident memory.", process.resident_bytes)?;
    families.gauge("process_virtual_memory_bytes", "Virtual memory.", process.virtual_bytes)?;
    families.gauge("process_open_fds", "Open file descriptors.", process.open_fds)?;
    if let Some(max) = process.max_fds {
        families.gauge("process_max_fds", "The most file descriptors that may be open.", max)?;
    }
    families.gauge("process_threads", "Threads.", process.threads)?;
    families.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since 1970.",
        process.started,
    )
}

/// Writes families of metrics one after the other. The encoder appends `_total` to counters.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, value: impl Number) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        value.as_counter(&mut metric)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl Iterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            let labels = [(label, of)];
            value.as_counter(&mut metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl Iterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (of, value) in values {
            let labels = [(label, of)];
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

/// A number that a counter may have.
trait Number {
    fn as_counter(
        &self,
        metric: &mut prometheus_client::encoding::MetricEncoder<'_>,
    ) -> fmt::Result;
}

impl Number for u64 {
    fn as_counter(
        &self,
        metric: &mut prometheus_client::encoding::MetricEncoder<'_>,
    ) -> fmt::Result {
        metric.encode_counter::<NoLabelSet, _, u64>(self, None)
    }
}

impl Number for f64 {
    fn as_counter(
        &self,
        metric: &mut prometheus_client::encoding::MetricEncoder<'_>,
    ) -> fmt::Result {
        metric.encode_counter::<NoLabelSet, _, u64>(self, None)
    }
}
