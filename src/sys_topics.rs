//! The Topic Names below `$SYS/broker/`, and their texts from the numbers of one moment.
//!
//! Names and formats are mosquitto's, so that what reads its topics reads these. What mosquitto does not have is below
//! `$SYS/broker/hrotti/`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::counters::Counters;
use crate::ledger::{DropReason, FilterReason, Ledger};
use crate::packet::PacketType;
use crate::time::Timestamp;
use crate::traffic::Traffic;

#[cfg(test)]
mod tests;

/// What every Topic Name here begins with.
const ROOT: &str = "$SYS/broker/";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The shortest and the longest time between two publications.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// What is found by a look at every Session.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Survey {
    pub(crate) ledger: Ledger,
    pub(crate) clients: u64,
    pub(crate) clients_connected: u64,
    /// Messages in the queues of Sessions, and their bytes.
    pub(crate) queued: u64,
    pub(crate) queued_bytes: u64,
    /// Packets that transports have not taken, and their bytes.
    pub(crate) packets_out: u64,
    pub(crate) packets_out_bytes: u64,
}

/// The numbers of one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshot {
    pub(crate) uptime_secs: u64,
    pub(crate) survey: Survey,
    pub(crate) traffic: Traffic,
    pub(crate) counters: Counters,
    /// The resident memory of the process in bytes, and the most that it was; `None` where the system does not tell.
    pub(crate) memory: Option<(u64, u64)>,
}

/// A name below [`ROOT`], and its number.
type Number = (&'static str, fn(&Snapshot) -> u64);

#[rustfmt::skip] // one topic is one line
const NUMBERS: &[Number] = &[
    ("clients/total", |s| s.survey.clients),
    ("clients/maximum", |s| s.traffic.sessions_most as u64),
    ("clients/disconnected", disconnected),
    ("clients/inactive", disconnected),
    ("clients/connected", |s| s.survey.clients_connected),
    ("clients/active", |s| s.survey.clients_connected),
    ("clients/expired", |s| s.traffic.sessions_expired),
    ("messages/stored", stored),
    ("store/messages/count", stored),
    ("store/messages/bytes", |s| s.survey.queued_bytes + s.counters.retained_bytes as u64),
    ("subscriptions/count", |s| s.counters.subscriptions.saturating_sub(s.counters.shared_subscriptions) as u64),
    ("shared_subscriptions/count", |s| s.counters.shared_subscriptions as u64),
    ("retained messages/count", |s| s.counters.retained_messages as u64),
    ("messages/received", |s| s.traffic.packets_received_total()),
    ("messages/sent", |s| s.traffic.packets_sent_total()),
    ("bytes/received", |s| s.traffic.bytes_received),
    ("bytes/sent", |s| s.traffic.bytes_sent),
    ("publish/bytes/received", |s| s.traffic.payload_bytes_received),
    ("publish/bytes/sent", |s| s.traffic.payload_bytes_sent),
    ("publish/messages/received", |s| s.traffic.packets_received(PacketType::Publish)),
    ("publish/messages/sent", |s| s.traffic.packets_sent(PacketType::Publish)),
    ("publish/messages/dropped", |s| s.survey.ledger.dropped_total()),
    ("packet/out/count", |s| s.survey.packets_out),
    ("packet/out/bytes", |s| s.survey.packets_out_bytes),
    ("connections/socket/count", |s| s.traffic.sockets_accepted),
    ("hrotti/connections/socket/now", |s| s.traffic.sockets),
    ("hrotti/ledger/offered", |s| s.survey.ledger.offered),
    ("hrotti/ledger/delivered", |s| s.survey.ledger.delivered),
    ("hrotti/ledger/waiting", |s| s.survey.ledger.waiting),
    ("hrotti/ledger/inflight", |s| s.survey.ledger.inflight),
    ("hrotti/ledger/expired", |s| s.survey.ledger.expired),
    ("hrotti/ledger/handed-over", |s| s.survey.ledger.handed_over),
    ("hrotti/slow", |s| s.counters.slow_sessions as u64),
];

/// Names below `load/`, and the counts whose rate each is.
#[rustfmt::skip] // one topic is one line
const LOADS: [Number; 9] = [
    ("messages/received", |s| s.traffic.packets_received_total()),
    ("messages/sent", |s| s.traffic.packets_sent_total()),
    ("publish/dropped", |s| s.survey.ledger.dropped_total()),
    ("publish/received", |s| s.traffic.packets_received(PacketType::Publish)),
    ("publish/sent", |s| s.traffic.packets_sent(PacketType::Publish)),
    ("bytes/received", |s| s.traffic.bytes_received),
    ("bytes/sent", |s| s.traffic.bytes_sent),
    ("sockets", |s| s.traffic.sockets_accepted),
    ("connections", |s| s.traffic.packets_received(PacketType::Connect)),
];

/// The last level of a load, and the seconds over which it is an average.
const SPANS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

fn disconnected(s: &Snapshot) -> u64 {
    s.survey.clients.saturating_sub(s.survey.clients_connected)
}

fn stored(s: &Snapshot) -> u64 {
    s.survey.queued + s.counters.retained_messages as u64
}

/// Averages of events in a minute, with weights that fall off exponentially.
#[derive(Debug, Default)]
struct Loads {
    /// The counts of the moment before.
    before: Option<(Timestamp, [u64; LOADS.len()])>,
    averages: [[f64; SPANS.len()]; LOADS.len()],
}

impl Loads {
    fn advance(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let counts = LOADS.map(|(_, count)| count(snapshot));
        if let Some((then, before)) = self.before {
            let millis = now.millis_since(then);
            if millis == 0 {
                return;
            }
            let secs = Duration::from_millis(millis).as_secs_f64();
            for (index, averages) in self.averages.iter_mut().enumerate() {
                let rate = as_f64(counts[index].saturating_sub(before[index])) * 60.0 / secs;
                for (average, (_, span)) in averages.iter_mut().zip(SPANS) {
                    *average = rate + (-secs / span).exp() * (*average - rate);
                }
            }
        }
        self.before = Some((now, counts));
    }
}

#[allow(clippy::cast_precision_loss, reason = "an average shows two decimals")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// What is published, and when.
#[derive(Debug, Default)]
pub(crate) struct SysTopics {
    /// The time between two publications; 0 is off.
    interval: Duration,
    next_at: Timestamp,
    /// A task is publishing.
    pub(crate) publishing: bool,
    loads: Loads,
    /// The last texts by Topic Name.
    texts: BTreeMap<String, String>,
}

impl SysTopics {
    /// Publishes every `interval` from now on; 0 is never. Returns whether that is new.
    pub(crate) fn set_interval(&mut self, interval: Duration, now: Timestamp) -> bool {
        let interval = match interval.is_zero() {
            true => interval,
            false => interval.clamp(INTERVAL_MIN, INTERVAL_MAX),
        };
        if interval == self.interval {
            return false;
        }
        if interval.is_zero() {
            *self = SysTopics { publishing: self.publishing, ..SysTopics::default() };
        }
        (self.interval, self.next_at) = (interval, now);
        true
    }

    pub(crate) fn is_off(&self) -> bool {
        self.interval.is_zero()
    }

    /// Whether it is time to publish, and when to ask again. Publications are at multiples of the interval of the clock
    /// on the wall, which shows `wall` since 1970.
    pub(crate) fn look(&mut self, wall: Duration, now: Timestamp) -> (bool, Timestamp) {
        let interval = self.interval.as_millis().max(1);
        let mut left = interval - wall.as_millis() % interval;
        let due = self.next_at <= now;
        if due && left < interval / 2 && self.texts_are_out() {
            left += interval; // the two clocks are a little apart
        }
        self.next_at = now.plus(Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX)));
        (due, self.next_at)
    }

    /// Whether anything was published since it was switched on.
    fn texts_are_out(&self) -> bool {
        !self.texts.is_empty()
    }

    /// The Topic Names whose texts are others than before, with their texts.
    pub(crate) fn changes(&mut self, snapshot: &Snapshot, now: Timestamp) -> Vec<(String, String)> {
        self.loads.advance(snapshot, now);
        let mut texts = texts(snapshot, &self.loads);
        texts.retain(|(topic, text)| self.texts.get(topic) != Some(text));
        self.texts.extend(texts.iter().cloned());
        texts
    }
}

/// Every Topic Name that is ever published.
pub(crate) fn names() -> impl Iterator<Item = String> {
    let all = Snapshot { memory: Some((0, 0)), ..Snapshot::default() };
    texts(&all, &Loads::default()).into_iter().map(|(topic, _)| topic)
}

/// Every Topic Name with its text.
fn texts(snapshot: &Snapshot, loads: &Loads) -> Vec<(String, String)> {
    let mut texts = vec![
        (format!("{ROOT}version"), format!("hrotti version {VERSION}")),
        (format!("{ROOT}hrotti/version"), VERSION.to_owned()),
        (format!("{ROOT}uptime"), format!("{} seconds", snapshot.uptime_secs)),
    ];
    let mut add =
        |name: &str, number: u64| texts.push((format!("{ROOT}{name}"), number.to_string()));
    for (name, number) in NUMBERS {
        add(name, number(snapshot));
    }
    if let Some((resident, most)) = snapshot.memory {
        add("heap/current", resident);
        add("heap/maximum", most);
    }
    let ledger = &snapshot.survey.ledger;
    for &reason in DropReason::ALL {
        add(&format!("hrotti/ledger/dropped/{}", level(&reason)), ledger.dropped(reason));
    }
    for &reason in FilterReason::ALL {
        add(&format!("hrotti/ledger/filtered/{}", level(&reason)), ledger.filtered(reason));
    }
    for (name, count) in snapshot.counters.counted() {
        add(&format!("hrotti/limits/{name}"), count);
    }
    for ((name, _), averages) in LOADS.iter().zip(&loads.averages) {
        for ((span, _), average) in SPANS.iter().zip(averages) {
            texts.push((format!("{ROOT}load/{name}/{span}"), format!("{average:.2}")));
        }
    }
    texts
}

/// A reason as a level of a Topic Name.
fn level(reason: &impl ToString) -> String {
    reason.to_string().replace(' ', "-")
}
