//! Names, texts and averages from numbers that are known.

use std::collections::BTreeSet;

use super::*;

fn text_of(texts: &[(String, String)], name: &str) -> Option<String> {
    let topic = format!("{ROOT}{name}");
    texts.iter().find(|(other, _)| *other == topic).map(|(_, text)| text.clone())
}

/// As mosquitto 2.1 publishes them, `heap` included.
const MOSQUITTO: &str = "
    version uptime
    clients/total clients/maximum clients/disconnected clients/inactive clients/connected clients/active
    clients/expired
    messages/stored store/messages/count store/messages/bytes
    subscriptions/count shared_subscriptions/count retained_messages/count
    heap/current heap/maximum
    messages/received messages/sent bytes/received bytes/sent
    publish/bytes/received publish/bytes/sent
    publish/messages/received publish/messages/sent publish/messages/dropped
    packet/out/count packet/out/bytes connections/socket/count";

#[test]
fn the_names_are_those_of_mosquitto_and_some_of_its_own() {
    let mut wanted: BTreeSet<String> = MOSQUITTO
        .split_whitespace()
        .map(|name| format!("{ROOT}{}", name.replace("retained_messages", "retained messages")))
        .collect();
    for load in [
        "messages/received",
        "messages/sent",
        "publish/dropped",
        "publish/received",
        "publish/sent",
        "bytes/received",
        "bytes/sent",
        "sockets",
        "connections",
    ] {
        wanted.extend(["1min", "5min", "15min"].map(|span| format!("{ROOT}load/{load}/{span}")));
    }
    let own = format!("{ROOT}hrotti/");
    let (ours, shared): (BTreeSet<String>, BTreeSet<String>) =
        names().partition(|name| name.starts_with(&own));
    assert_eq!(shared, wanted);
    for name in [
        "version",
        "ledger/offered",
        "ledger/delivered",
        "ledger/waiting",
        "ledger/inflight",
        "ledger/expired",
        "ledger/dropped/queue-full",
        "ledger/filtered/no-subscription",
        "limits/connections_refused",
        "limits/policy_disconnects",
        "connections/socket/now",
    ] {
        assert!(ours.contains(&format!("{own}{name}")), "{name}");
    }
    assert_eq!(names().count(), ours.len() + shared.len(), "each once");
    for name in names() {
        assert!(crate::topic::TopicName::new(&name).is_ok(), "{name}");
    }
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot { uptime_secs: 61, ..Snapshot::default() };
    snapshot.survey.clients = 5;
    snapshot.survey.clients_connected = 3;
    snapshot.survey.queued = 4;
    snapshot.survey.queued_bytes = 40;
    snapshot.counters.retained_messages = 2;
    snapshot.counters.retained_bytes = 20;
    snapshot.counters.subscriptions = 9;
    snapshot.counters.shared_subscriptions = 4;
    snapshot.traffic.bytes_received = 1_000;
    snapshot
}

#[test]
fn texts_are_numbers_and_what_people_read() {
    let texts = texts(&snapshot(), &Loads::default());
    for (name, text) in [
        ("uptime", "61 seconds"),
        ("clients/total", "5"),
        ("clients/connected", "3"),
        ("clients/active", "3"),
        ("clients/disconnected", "2"),
        ("clients/inactive", "2"),
        ("messages/stored", "6"),
        ("store/messages/bytes", "60"),
        ("subscriptions/count", "5"),
        ("shared_subscriptions/count", "4"),
        ("retained messages/count", "2"),
        ("bytes/received", "1000"),
        ("load/bytes/received/1min", "0.00"),
    ] {
        assert_eq!(text_of(&texts, name).as_deref(), Some(text), "{name}");
    }
    assert!(text_of(&texts, "version").is_some_and(|text| text.starts_with("hrotti version ")));
    assert_eq!(text_of(&texts, "heap/current"), None, "the system does not tell");
}

/// 600 bytes in each of two intervals of 10 s are 3600 in a minute. With e^(-1/6) = 0.846482, e^(-1/30) = 0.967216 and
/// e^(-1/90) = 0.988950 the averages are 3600 times 1 - e^-x, and after the second interval 1 - e^-2x; in a third one of
/// 20 s without a byte they fall by e^-2x.
#[test]
fn loads_are_averages_whose_weights_fall_off() {
    let mut sys = SysTopics::default();
    let mut numbers = Snapshot::default();
    let mut advance = |bytes: u64, at: u64| {
        numbers.traffic.bytes_received += bytes;
        let changes = sys.changes(&numbers, Timestamp(at));
        ["1min", "5min", "15min"].map(|span| {
            let name = format!("load/bytes/received/{span}");
            text_of(&changes, &name).unwrap_or_default()
        })
    };
    assert_eq!(advance(123_456, 5_000), ["0.00", "0.00", "0.00"], "from here on");
    assert_eq!(advance(600, 15_000), ["552.67", "118.02", "39.78"]);
    assert_eq!(advance(600, 25_000), ["1020.49", "232.17", "79.12"]);
    assert_eq!(advance(0, 45_000), ["731.21", "217.20", "77.38"]);
    assert_eq!(advance(0, 45_000), ["", "", ""], "no time has passed");
}

#[test]
fn what_has_not_changed_is_not_published_again() {
    let mut sys = SysTopics::default();
    let first = sys.changes(&snapshot(), Timestamp(0));
    assert_eq!(first.len(), names().count() - 2, "all but the memory");
    assert_eq!(sys.changes(&snapshot(), Timestamp(10_000)), []);
    let mut later = snapshot();
    (later.uptime_secs, later.survey.clients_connected) = (71, 4);
    let changed = sys.changes(&later, Timestamp(20_000));
    assert_eq!(changed.len(), 5, "{changed:?}");
}

/// A second by second walk of both clocks.
fn published(sys: &mut SysTopics, wall_at_0: u64, until: u64) -> Vec<u64> {
    let mut next = Timestamp(0);
    let mut at = Vec::new();
    for now in (0..until).step_by(250).map(Timestamp) {
        if now >= next {
            let (due, look) = sys.look(Duration::from_millis(wall_at_0 + now.0), now);
            next = look;
            if due {
                sys.changes(&Snapshot::default(), now);
                at.push(now.0);
            }
        }
    }
    at
}

#[test]
fn publications_are_at_multiples_of_the_interval_of_the_wall_clock() {
    let mut sys = SysTopics::default();
    assert!(sys.set_interval(Duration::from_secs(10), Timestamp(0)));
    assert_eq!(published(&mut sys, 7_000, 40_000), [0, 3_000, 13_000, 23_000, 33_000]);
    // The clock on the wall is 2 ms behind where a publication is due: none is made twice.
    let (due, next) = sys.look(Duration::from_millis(49_998), Timestamp(43_000));
    assert_eq!((due, next), (true, Timestamp(53_002)));
    // It is set: the next one follows it.
    let (due, next) = sys.look(Duration::from_millis(12_000), Timestamp(44_000));
    assert_eq!((due, next), (false, Timestamp(52_000)));
}

#[test]
fn intervals_are_moved_into_their_range_and_0_forgets_what_was_published() {
    let mut sys = SysTopics::default();
    assert!(sys.is_off() && !sys.set_interval(Duration::ZERO, Timestamp(0)));
    assert!(sys.set_interval(Duration::from_millis(1), Timestamp(0)));
    assert!(!sys.set_interval(Duration::from_secs(1), Timestamp(0)), "the shortest");
    assert!(sys.set_interval(Duration::MAX, Timestamp(0)));
    assert!(!sys.set_interval(Duration::from_secs(86_400), Timestamp(0)), "the longest");
    sys.changes(&Snapshot::default(), Timestamp(0));
    assert!(sys.set_interval(Duration::ZERO, Timestamp(0)) && sys.is_off());
    assert!(sys.set_interval(Duration::from_secs(2), Timestamp(0)));
    assert_eq!(sys.changes(&Snapshot::default(), Timestamp(0)).len(), names().count() - 2);
}
