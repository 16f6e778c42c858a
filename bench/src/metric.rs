//! What a run may measure, each with the name and the digits that reports show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One kind of figure. Reports show them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Metric {
    MessagesPerSec,
    BrokerUsPerMessage,
    ToolUsPerMessage,
    LatencyP50Us,
    LatencyP90Us,
    LatencyP99Us,
    LatencyP999Us,
    LatencyMaxUs,
    /// How late the tool itself sent: at the 99th percentile, within the latency above.
    SendDelayP99Us,
    BytesPerConnection,
    BrokerUsPerConnect,
    ConnectsPerSec,
    /// Of connecting, subscribing, one message and leaving:
    BrokerUsPerCycle,
    CyclesPerSec,
    BrokerUsPerSubscribe,
    BrokerUsPerUnsubscribe,
    SubscribesPerSec,
    BytesPerSubscription,
    /// A delivered message while there are only few filters,
    FewFiltersUsPerMessage,
    /// and what it costs more among all of them.
    MatchUs,
    BytesPerRetained,
    BrokerUsPerRetained,
    BrokerUsPerReplayed,
    /// A delivered message of one busy pair that is alone with the broker,
    AloneUsPerMessage,
    /// and how many times that it costs beside others.
    BesideAlone,
    /// A delivered message at a broker without access control,
    OpenUsPerMessage,
    /// and how many times that it costs with it.
    GuardedOpen,
    /// The broker's memory at the end of the measured time, in MiB: resident,
    RssMib,
    /// resident with shared pages divided among their users,
    PssMib,
    /// resident and nobody else's.
    PrivateMib,
}

/// What a run measured.
pub(crate) type Values = BTreeMap<Metric, f64>;

/// How a [`Metric`] is shown.
struct Shown {
    name: &'static str,
    digits: usize,
    /// Two brokers are set against each other in it.
    compared: bool,
}

impl Metric {
    fn shown(self) -> Shown {
        let (name, digits, compared) = match self {
            Self::MessagesPerSec => ("messages/s", 0, true),
            Self::BrokerUsPerMessage => ("CPU µs/message", 3, true),
            Self::ToolUsPerMessage => ("tool µs/message", 3, false),
            Self::LatencyP50Us => ("p50 µs", 1, true),
            Self::LatencyP90Us => ("p90 µs", 1, true),
            Self::LatencyP99Us => ("p99 µs", 1, true),
            Self::LatencyP999Us => ("p99.9 µs", 1, true),
            Self::LatencyMaxUs => ("max µs", 1, true),
            Self::SendDelayP99Us => ("tool late p99 µs", 1, false),
            Self::BytesPerConnection => ("B/connection", 0, true),
            Self::BrokerUsPerConnect => ("CPU µs/connect", 1, true),
            Self::ConnectsPerSec => ("connects/s", 0, true),
            Self::BrokerUsPerCycle => ("CPU µs/cycle", 1, true),
            Self::CyclesPerSec => ("cycles/s", 0, true),
            Self::BrokerUsPerSubscribe => ("CPU µs/subscribe", 2, true),
            Self::BrokerUsPerUnsubscribe => ("CPU µs/unsubscribe", 2, true),
            Self::SubscribesPerSec => ("subscribes/s", 0, true),
            Self::BytesPerSubscription => ("B/subscription", 0, true),
            Self::FewFiltersUsPerMessage => ("CPU µs/message, few filters", 3, false),
            Self::MatchUs => ("match µs", 3, true),
            Self::BytesPerRetained => ("B/retained", 0, true),
            Self::BrokerUsPerRetained => ("CPU µs/retained", 2, true),
            Self::BrokerUsPerReplayed => ("CPU µs/replayed", 3, true),
            Self::AloneUsPerMessage => ("CPU µs/message alone", 3, false),
            Self::BesideAlone => ("beside/alone", 3, false),
            Self::OpenUsPerMessage => ("CPU µs/message without", 3, false),
            Self::GuardedOpen => ("with/without", 3, false),
            Self::RssMib => ("RSS MiB", 2, false),
            Self::PssMib => ("PSS MiB", 2, false),
            Self::PrivateMib => ("private MiB", 2, false),
        };
        Shown { name, digits, compared }
    }

    /// With the unit.
    pub(crate) fn name(self) -> &'static str {
        self.shown().name
    }

    /// Digits after the point.
    pub(crate) fn digits(self) -> usize {
        self.shown().digits
    }

    /// Whether two brokers are set against each other in it.
    pub(crate) fn is_compared(self) -> bool {
        self.shown().compared
    }

    /// Whether it is the broker's CPU for a unit of work, and two brokers are set against each other in it.
    pub(crate) fn is_cpu(self) -> bool {
        self.is_compared() && self.name().starts_with("CPU ")
    }

    /// Whether the larger figure is the better one: it counts what is done in a second.
    pub(crate) fn more_is_better(self) -> bool {
        self.name().ends_with("/s")
    }
}
