//! Metrics in the text formats of OpenMetrics and Prometheus. A scrape reads the books of the broker; nothing is counted
//! here. No label has values that a Client chooses.

use std::fmt;
use std::time::UNIX_EPOCH;

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
use crate::net::listener::ListenerInfo;
use crate::packet::PacketType;
use crate::traffic::Traffic;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is read when a scrape asks.
#[derive(Debug)]
struct Figures {
    ledger: Ledger,
    counters: Counters,
    traffic: Traffic,
    listeners: Vec<ListenerInfo>,
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
        Figures {
            ledger: broker.ledger(),
            counters: broker.counters(),
            traffic: broker.traffic(),
            listeners: broker.listeners(),
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
        self.moved(&mut families)?;
        self.connections(&mut families)?;
        self.process.as_ref().map_or(Ok(()), |process| of_process(&mut families, process))
    }
}

impl Figures {
    fn books(&self, families: &mut Families<'_>) -> fmt::Result {
        let ledger = &self.ledger;
        let identity =
            "offered = delivered + waiting + inflight + expired + dropped + filtered + handed_over";
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
        families.counter(
            "hrotti_messages_handed_over",
            "Messages that another broker has, because their Sessions were handed over.",
            ledger.handed_over,
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
            (
                "hrotti_slow_sessions",
                "Sessions whose queue is long, by limits.slowConsumerPercent and limits.slowConsumerSecs.",
                counters.slow_sessions,
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
        families.counters(
            "hrotti_limit_reached",
            "How often a limit, a rule or a check refused something, by the name of the counter.",
            "limit",
            counters.counted().map(|(name, count)| (name.to_owned(), count)),
        )
    }
}

impl Figures {
    fn moved(&self, families: &mut Families<'_>) -> fmt::Result {
        let traffic = &self.traffic;
        families.counter(
            "hrotti_bytes_received",
            "Bytes of MQTT that Clients have sent, inside of TLS and WebSocket.",
            traffic.bytes_received,
        )?;
        families.counter(
            "hrotti_bytes_sent",
            "Bytes of MQTT that transports have taken, inside of TLS and WebSocket.",
            traffic.bytes_sent,
        )?;
        let named = |of: fn(&Traffic, PacketType) -> u64| {
            PacketType::ALL.iter().map(move |&packet| (packet.to_string(), of(traffic, packet)))
        };
        families.counters(
            "hrotti_packets_received",
            "Packets that Clients have sent.",
            "type",
            named(Traffic::packets_received),
        )?;
        families.counters(
            "hrotti_packets_sent",
            "Packets that were sent to Clients.",
            "type",
            named(Traffic::packets_sent),
        )
    }

    fn connections(&self, families: &mut Families<'_>) -> fmt::Result {
        let traffic = &self.traffic;
        let mut metric = families.0.encode_descriptor(
            "hrotti_connections",
            "Network Connections with an accepted CONNECT.",
            None,
            MetricType::Gauge,
        )?;
        for listener in &self.listeners {
            for (version, count) in listener.versions {
                let labels =
                    [("listener", listener.name.clone()), ("version", version.to_string())];
                metric.encode_family(&labels)?.encode_gauge(&(count as u64))?;
            }
        }
        let mut metric = families.0.encode_descriptor(
            "hrotti_tls_certificate_expiry_timestamp_seconds",
            "When the first certificate of the chain that a listener shows to Clients expires, in seconds since 1970.",
            None,
            MetricType::Gauge,
        )?;
        for listener in &self.listeners {
            let Some(end) = listener.certificate_expires_at else { continue };
            let secs = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            metric.encode_family(&[("listener", listener.name.clone())])?.encode_gauge(&secs)?;
        }
        families.counter(
            "hrotti_sockets_accepted",
            "Peers that listeners have accepted, whether a CONNECT followed or not.",
            traffic.sockets_accepted,
        )?;
        families.counter(
            "hrotti_connects",
            "CONNECTs that were accepted.",
            traffic.connects_accepted,
        )?;
        let ends = [
            ("client", traffic.disconnects_by_client),
            ("lost", traffic.disconnects_lost),
            ("server", traffic.disconnects_by_server),
            ("taken over", traffic.disconnects_taken_over),
        ];
        families.counters(
            "hrotti_disconnects",
            "Ends of Network Connections with an accepted CONNECT.",
            "reason",
            ends.map(|(reason, count)| (reason.to_owned(), count)).into_iter(),
        )?;
        families.counter(
            "hrotti_sessions_expired",
            "Sessions that ended because their Session Expiry Interval had passed.",
            traffic.sessions_expired,
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
    let started = "When the process began, in seconds since 1970.";
    process.started.map_or(Ok(()), |at| families.gauge("process_start_time_seconds", started, at))
}

/// Writes families of metrics one after the other. The encoder appends `_total` to counters.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, value: impl Number + Copy) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        value.as_counter(&mut metric)
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
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
