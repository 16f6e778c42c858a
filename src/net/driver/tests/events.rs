//! What is told of Clients that come, go or are refused, and of Sessions that are slow or lose messages.

use std::collections::BTreeMap;

use super::access::{bench_of, connect_with, old};
use super::*;
use crate::access::{DeniedPublish, Rule};
use crate::events::{ClientOrigin, Event, Events, Happening};
use crate::ledger::DropReason;
use crate::packet::ProtocolVersion;
use crate::packet::testing::{packet, property, section, string};

impl Bench {
    /// The events that a receiver holds.
    fn told(events: &mut Events) -> Vec<Happening> {
        let mut next = || block_on(poll_once(events.next()))??.ok();
        std::iter::from_fn(|| next().map(|event: Arc<Event>| event.what.clone())).collect()
    }

    /// Seconds pass, with a tick each.
    fn tick(&self, secs: u64) {
        for _ in 0..secs {
            self.pass(1);
            (0..5).for_each(|_| block_on(self.engine.tick()));
        }
    }
}

/// The one cause of which a receiver hears.
fn cause(events: &mut Events) -> DisconnectCause {
    let causes: Vec<_> = Bench::told(events)
        .into_iter()
        .filter_map(|what| match what {
            Happening::Disconnected { client, cause } if &*client.client_id == "lamp" => {
                Some(cause)
            }
            _ => None,
        })
        .collect();
    assert_eq!(causes.len(), 1, "{causes:?}");
    causes[0]
}

type Ends = fn(&Bench, &mut Served);

/// Ways in which a Network Connection ends, and what is told of each.
const ENDS: &[(&str, Ends)] = &[
    ("DISCONNECT by the Client (0x00 Success)", |_, lamp| drop(lamp.exchange(&[0xE0, 0]))),
    ("DISCONNECT by the Client (0x04 Disconnect with Will Message)", |_, lamp| {
        lamp.exchange(&[0xE0, 1, 4]);
    }),
    ("connection lost: the peer ended the stream", |bench, lamp| {
        lamp.client = bench.dial(16).client;
        lamp.turn();
    }),
    (
        "keep alive: MQTT-3.1.2-22: no packet within one and a half times the Keep Alive (0x8D",
        |bench, lamp| {
            bench.pass(2);
            lamp.turn();
        },
    ),
    ("packet_timeout: the rest of a packet did not arrive in time (0x80", |bench, lamp| {
        lamp.exchange(&[0x30]);
        bench.pass(61);
        lamp.turn();
    }),
    ("(0x81 Malformed Packet)", |_, lamp| drop(lamp.exchange(&[0x82, 2, 0, 0]))),
    ("(0x82 Protocol Error)", |_, lamp| drop(lamp.exchange(&connect("lamp")))),
    (
        "MQTT-3.3.2-9: the Topic Alias exceeds Topic Alias Maximum (0x94 Topic Alias invalid)",
        |_, lamp| {
            lamp.exchange(&packet(0x30, &[string("t"), section(&[property(0x23, &[255, 255])])]));
        },
    ),
    (
        "MQTT-3.1.4-3: another Network Connection uses this Client Identifier (0x8E",
        |bench, lamp| {
            let taker = bench.connect("lamp");
            lamp.turn();
            *lamp = taker;
        },
    ),
    ("the listener is stopped (0x98 Administrative action)", |_, lamp| {
        order(lamp, Order::ListenerStopped);
    }),
    ("the access rules have changed and do not let this Client in (0x98", |_, lamp| {
        order(lamp, Order::NotCurrent);
    }),
    ("the server shuts down (0x8B", |_, lamp| order(lamp, Order::ShuttingDown)),
    ("the server shuts down (0x8B", |_, lamp| order(lamp, Order::Abort)),
    ("another Network Connection uses this Client Identifier (0x8E", |_, lamp| {
        order(lamp, Order::TakenOverMidPacket);
    }),
    ("write_stall_timeout: the peer does not read (0x80", |bench, lamp| {
        *lamp = bench.dial(256);
        lamp.exchange(&patient("lamp"));
        lamp.exchange(&subscribe());
        let mut publisher = bench.dial(4096);
        publisher.exchange(&patient("publisher"));
        (0..5).for_each(|_| drop(publisher.exchange(&publish(&[b'x'; 100]))));
        lamp.turn();
        bench.pass(3_600);
        lamp.turn();
    }),
    ("the task of the connection ended (0x80", |bench, lamp| {
        let Served { client, driver } = std::mem::replace(lamp, bench.dial(16));
        drop((driver, client));
    }),
];

fn order(served: &mut Served, order: Order) {
    served.driver.dispatch.link.mailbox.order(order);
    served.turn();
}

#[test]
fn every_end_of_a_network_connection_has_its_cause() {
    for (text, ends) in ENDS {
        let bench = default_bench();
        let mut lamp = bench.connect("lamp");
        let mut events = bench.engine.receive_events();
        if text.starts_with("write_stall") {
            lamp.exchange(&[0xE0, 0]);
            Bench::told(&mut events);
        }
        ends(&bench, &mut lamp);
        let cause = cause(&mut events).to_string();
        assert!(cause.contains(text.trim_start_matches("keep alive: ")), "{cause} for {text}");
    }
}

#[test]
fn the_end_of_an_identity_and_a_denied_publish_are_causes_too() {
    let end = std::time::SystemTime::UNIX_EPOCH
        + crate::host::WALL_START
        + std::time::Duration::from_secs(10);
    let until = Rig::answering(move |_| Answer::accept(identity("ann").with_end(end)));
    let bench = bench_of(until);
    let mut events = bench.engine.receive_events();
    let mut lamp = bench.dial(4096);
    lamp.exchange(&patient("lamp"));
    bench.pass(11);
    lamp.turn();
    assert_eq!(cause(&mut events).code(), Some(ReasonCode::MAXIMUM_CONNECT_TIME));

    let access = AccessControl::new(Some(Rig::allowing(|_| false)), DeniedPublish::Disconnect);
    let bench = Bench::new(Limits::default(), access);
    let mut events = bench.engine.receive_events();
    let mut lamp = bench.dial(4096);
    lamp.exchange(&old("lamp"));
    lamp.exchange(&packet(0x30, &[string("t")]));
    let told = Bench::told(&mut events);
    let denied = Happening::Denied {
        client_id: "lamp".into(),
        action: "publish",
        topic: "t".to_owned(),
        rule: RULE,
    };
    assert!(told.contains(&denied), "{told:?}");
    let closed =
        DisconnectCause::ByServer(ReasonCode::NOT_AUTHORIZED, "the access rules deny a PUBLISH");
    assert!(
        told.iter()
            .any(|what| matches!(what, Happening::Disconnected { cause, .. } if *cause == closed))
    );
}

#[test]
fn a_client_is_told_of_with_its_origin_and_its_subscriptions() {
    let bench = bench_of(Arc::new(Rig::default()));
    let mut events = bench.engine.receive_events();
    let mut lamp = bench.dial(4096);
    lamp.exchange(&connect_with("lamp", &[], Some("ann")));
    lamp.exchange(&subscribe());
    lamp.exchange(b"\xA2\x06\x00\x02\x00\x00\x01t");
    lamp.exchange(b"\xA2\x06\x00\x03\x00\x00\x01t");
    lamp.exchange(&[0xE0, 0]);
    let client = ClientOrigin {
        client_id: "lamp".into(),
        user_name: Some("ann".into()),
        address: None,
        listener: "".into(),
        version: Some(ProtocolVersion::V5),
    };
    let client_id: Arc<str> = "lamp".into();
    let expected = [
        Happening::Connected {
            client: client.clone(),
            clean_start: true,
            session_present: false,
            keep_alive_secs: 0,
        },
        Happening::Subscribed {
            client_id: client_id.clone(),
            filter: "t".to_owned(),
            qos: crate::packet::QoS::AtMostOnce,
        },
        Happening::Unsubscribed { client_id, filter: "t".to_owned() },
        Happening::Disconnected { client, cause: DisconnectCause::ByClient(ReasonCode::SUCCESS) },
    ];
    assert_eq!(Bench::told(&mut events), expected);
}

/// What a peer does, and what is told of its refusal: Client Identifier, version, Reason Code, and a part of the text.
type Refused = (Limits, Act, &'static str, Option<ProtocolVersion>, u8, &'static str);
type Act = fn(&Bench, &mut Served);

fn refused_peers() -> Vec<Refused> {
    let limits = Limits::default;
    let (v5, v3) = (Some(ProtocolVersion::V5), Some(ProtocolVersion::V3_1_1));
    let late: Act = |bench, peer| {
        bench.pass(11);
        peer.turn();
    };
    let http: Act = |_, peer| drop(peer.exchange(b"GET / HTTP/1.1\r\n"));
    let nameless: Act = |_, peer| drop(peer.exchange(b"\x10\x02\0\0"));
    let unknown: Act = |_, peer| drop(peer.exchange(b"\x10\x0c\0\x04MQTT\x09\x02\0\0\0\0"));
    let empty: Act = |_, peer| drop(peer.exchange(b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0"));
    let large: Act = |_, peer| drop(peer.exchange(&connect("lamp")[..9]));
    let stopped: Act = |_, peer| order(peer, Order::ListenerStopped);
    let few_bytes = Limits { unauthenticated_bytes_max: 1, ..limits() };
    vec![
        (limits(), late, "", None, 0x80, "connect_timeout"),
        (limits(), http, "", None, 0x82, "HTTP"),
        (limits(), nameless, "", None, 0x82, "unknown protocol name"),
        (limits(), unknown, "", v5, 0x84, "level"),
        (limits(), empty, "", v3, 0x85, "empty"),
        (few_bytes, large, "", None, 0x97, "unauthenticated_bytes_max"),
        (limits(), stopped, "", None, 0x98, "stopped"),
    ]
}

fn refused_clients() -> Vec<Refused> {
    let limits = Limits::default;
    let v5 = Some(ProtocolVersion::V5);
    let alone: Act = |_, peer| drop(peer.exchange(&connect("lamp")));
    let second: Act = |bench, peer| {
        let _first = bench.connect("first");
        peer.exchange(&connect("lamp"));
    };
    let with_will: Act = |_, peer| {
        let mut bytes = b"\x10\x16\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x04lamp".to_vec();
        bytes.extend(b"\x00\x00\x03a/b\x00\x01x");
        bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
        peer.exchange(&bytes);
    };
    let no_session = Limits { sessions_max: 0, ..limits() };
    let one_connection = Limits { connections_max: 1, ..limits() };
    let few_levels = Limits { topic_levels_max: 1, ..limits() };
    vec![
        (no_session, alone, "lamp", v5, 0x97, "sessions_max"),
        (one_connection, second, "lamp", v5, 0x97, "connections_max"),
        (few_levels, with_will, "lamp", v5, 0x90, "topic_levels_max"),
    ]
}

#[test]
fn every_refusal_is_told_with_its_reason() {
    let mut wrong = Vec::new();
    for (number, (limits, act, client_id, version, code, text)) in
        refused_peers().into_iter().chain(refused_clients()).enumerate()
    {
        let bench = Bench::new(limits, AccessControl::default());
        let mut events = bench.engine.receive_events();
        let mut peer = bench.dial(4096);
        act(&bench, &mut peer);
        let told: Vec<_> = Bench::told(&mut events)
            .into_iter()
            .filter_map(|what| match what {
                Happening::Refused { client, code, why } => Some((client, code.value(), why)),
                _ => None,
            })
            .collect();
        let right = match &told[..] {
            [(client, told_code, why)] => {
                (&*client.client_id, client.version, *told_code) == (client_id, version, code)
                    && why.contains(text)
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{number}: {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_refusal_by_the_policy_names_client_user_and_rule_and_comes_once() {
    let bench = bench_of(Rig::answering(|_| {
        Answer::Refuse(Refusal::bad_credentials(Rule::line("users", 3, "ann")))
    }));
    let mut events = bench.engine.receive_events();
    let mut peer = bench.dial(4096);
    peer.exchange(&connect_with("lamp", &[], Some("ann")));
    let told = Bench::told(&mut events);
    let [Happening::Refused { client, code, why }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&*client.client_id, client.user_name.as_deref()), ("lamp", Some("ann")));
    assert_eq!(*code, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    assert_eq!(why, "users:3: ann");
}

/// Load balancers look whether the port is open.
#[test]
fn a_peer_that_goes_before_its_connect_is_not_refused() {
    let bench = default_bench();
    let mut events = bench.engine.receive_events();
    let mut peer = bench.dial(4096);
    peer.client = bench.dial(16).client;
    peer.turn();
    assert_eq!(Bench::told(&mut events), []);
}

// ---- Drops -----------------------------------------------------------------------------------------

/// The sums of the events, by Session and reason.
fn dropped(told: Vec<Happening>) -> BTreeMap<(String, String), u64> {
    let mut sums = BTreeMap::new();
    for what in told {
        if let Happening::Dropped { client_id, reason, messages } = what {
            *sums.entry((client_id.to_string(), reason.to_string())).or_default() += messages;
        }
    }
    sums
}

fn totals(sums: &BTreeMap<(String, String), u64>) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for ((_, reason), messages) in sums {
        *totals.entry(reason.clone()).or_default() += messages;
    }
    totals
}

fn ledger(bench: &Bench) -> BTreeMap<String, u64> {
    let ledger = bench.engine.ledger();
    let dropped = |&reason: &DropReason| (reason.to_string(), ledger.dropped(reason));
    DropReason::ALL.iter().map(dropped).filter(|(_, messages)| *messages > 0).collect()
}

/// A Client with a Session that outlives its connection, which subscribes to `t` with QoS 1 and reads nothing.
fn sleeper(bench: &Bench, id: &str, expiry: u8) -> Served {
    let mut served = bench.dial(64);
    let properties = [property(0x11, &[0, 0, 0, expiry])];
    served.exchange(&connect_with(id, &properties, None));
    served.exchange(b"\x82\x07\x00\x01\x00\x00\x01t\x01");
    served
}

fn publish_qos_1(publisher: &mut Served, times: usize) {
    for _ in 0..times {
        publisher.exchange(&[0x32, 7, 0, 1, b't', 0, 1, 0, b'x']);
    }
}

#[test]
fn the_sum_of_the_events_is_what_the_books_say_also_when_a_session_ends() {
    let bench =
        Bench::new(Limits { max_queue_depth: 10, ..Limits::default() }, AccessControl::default());
    let mut before = sleeper(&bench, "before", 0);
    let mut publisher = bench.dial(64 * 1024);
    publisher.exchange(&patient("publisher"));
    publish_qos_1(&mut publisher, 30);
    let untold = ledger(&bench);
    assert!(untold["queue full"] > 0);

    let mut events = bench.engine.receive_events();
    let mut ends = sleeper(&bench, "ends", 0);
    let mut stays = sleeper(&bench, "stays", 60);
    publish_qos_1(&mut publisher, 40);
    bench.tick(1);
    let first = Bench::told(&mut events);
    let full = (first.iter()).filter(|what| matches!(what, Happening::Dropped { .. })).count();
    assert_eq!(full, 3, "one for each Session: {first:?}");
    publish_qos_1(&mut publisher, 5);
    // Both leave: the messages of one are dropped with its Session, the other's wait.
    drop((ends.exchange(&[0xE0, 0]), stays.exchange(&[0xE0, 0])));
    publisher.exchange(&publish(b"for nobody who is there"));
    bench.tick(2);
    let sums = dropped(first.into_iter().chain(Bench::told(&mut events)).collect());
    assert!(sums[&("ends".to_owned(), "session ended".to_owned())] > 0, "{sums:?}");
    let mut told = totals(&sums);
    *told.get_mut("queue full").unwrap() += untold["queue full"];
    assert_eq!(told, ledger(&bench));
    bench.tick(3);
    assert_eq!(dropped(Bench::told(&mut events)), BTreeMap::new(), "nothing is told twice");

    before.exchange(&[0xE0, 0]);
    bench.engine.end_all_sessions();
    bench.engine.end_events();
    let rest = dropped(Bench::told(&mut events));
    let mut told = totals(&sums);
    totals(&rest)
        .into_iter()
        .for_each(|(reason, messages)| *told.entry(reason).or_default() += messages);
    *told.get_mut("queue full").unwrap() += untold["queue full"];
    assert_eq!(told, ledger(&bench));
}

#[test]
fn without_a_receiver_nothing_is_kept_of_drops() {
    let bench =
        Bench::new(Limits { max_queue_depth: 2, ..Limits::default() }, AccessControl::default());
    let _sleeper = sleeper(&bench, "sleeper", 0);
    let mut publisher = bench.dial(64 * 1024);
    publisher.exchange(&patient("publisher"));
    publish_qos_1(&mut publisher, 30);
    bench.tick(2);
    let mut events = bench.engine.receive_events();
    bench.tick(2);
    assert_eq!(Bench::told(&mut events), [], "what was dropped before");
}

// ---- Slow Sessions -----------------------------------------------------------------------------------

/// A bench whose queues have ten places, and are long from five on for three seconds.
fn slow_consumers() -> Bench {
    let limits = Limits { max_queue_depth: 10, slow_consumer_secs: 3, ..Limits::default() };
    Bench::new(limits, AccessControl::default())
}

fn is_slow(what: &Happening) -> bool {
    matches!(what, Happening::Slow { .. })
}

/// Also while its Client is away.
#[test]
fn a_queue_that_grows_slowly_raises_its_alarm_before_the_first_loss() {
    let bench = slow_consumers();
    let mut events = bench.engine.receive_events();
    sleeper(&bench, "lamp", 200).exchange(&[0xE0, 0]);
    let mut publisher = bench.dial(64 * 1024);
    publisher.exchange(&patient("publisher"));
    let (mut alarm, mut loss) = (None, None);
    for second in 1..=15 {
        publish_qos_1(&mut publisher, 1);
        bench.tick(1);
        for what in Bench::told(&mut events) {
            match what {
                Happening::Slow { client_id, waiting, depth } => {
                    assert_eq!((&*client_id, waiting, depth), ("lamp", 7, 10));
                    assert_eq!(alarm.replace(second), None, "once");
                    let state = bench.engine.registry.find("lamp").unwrap();
                    let mark = state.lock().mark().unwrap();
                    let left = mark.secs_until_loss(waiting, depth, bench.engine.now());
                    assert_eq!((mark.slow, left), (true, Some(4)), "two in three seconds");
                }
                Happening::Dropped { .. } => loss = loss.or(Some(second)),
                _ => {}
            }
        }
    }
    assert_eq!((alarm, loss), (Some(7), Some(11)));
    let counters = bench.engine.counters();
    assert_eq!((counters.slow_sessions, counters.slow_alarms), (1, 1));
    assert_eq!(bench.engine.ledger().dropped(DropReason::QueueFull), 5);
}

#[test]
fn an_alarm_is_over_when_the_queue_is_short_or_the_session_has_ended() {
    let bench = slow_consumers();
    let mut events = bench.engine.receive_events();
    let mut lamp = sleeper(&bench, "lamp", 0);
    let mut publisher = bench.dial(64 * 1024);
    publisher.exchange(&patient("publisher"));
    for round in 1..=2 {
        publish_qos_1(&mut publisher, 16);
        bench.tick(2);
        assert!(!Bench::told(&mut events).iter().any(is_slow), "not long enough yet");
        bench.tick(2);
        assert!(Bench::told(&mut events).iter().any(is_slow));
        assert_eq!(bench.engine.counters().slow_sessions, 1);
        if round == 1 {
            // It reads, and is short at the next look.
            (0..40).for_each(|_| {
                lamp.turn();
                lamp.got();
            });
        } else {
            lamp.exchange(&[0xE0, 0]);
        }
        bench.tick(1);
        let over = Happening::NoLongerSlow { client_id: "lamp".into() };
        assert!(Bench::told(&mut events).contains(&over), "{round}");
        let counters = bench.engine.counters();
        assert_eq!((counters.slow_sessions, counters.slow_alarms), (0, round));
    }
}

/// A Session keeps its depth when the limit changes.
#[test]
fn a_queue_is_slow_by_the_depth_of_its_own_session() {
    for depth in [1, 1_000] {
        let bench = slow_consumers();
        let mut events = bench.engine.receive_events();
        sleeper(&bench, "lamp", 200).exchange(&[0xE0, 0]);
        let limits = Limits { max_queue_depth: depth, slow_consumer_secs: 3, ..Limits::default() };
        bench.engine.set_limits(limits);
        let mut publisher = bench.dial(64 * 1024);
        publisher.exchange(&patient("publisher"));
        publish_qos_1(&mut publisher, 4);
        bench.tick(5);
        assert!(!Bench::told(&mut events).iter().any(is_slow), "{depth}: four of ten");
        publish_qos_1(&mut publisher, 3);
        bench.tick(5);
        let slow = Happening::Slow { client_id: "lamp".into(), waiting: 7, depth: 10 };
        assert!(Bench::told(&mut events).contains(&slow), "{depth}");
    }
}

#[test]
fn the_alarm_of_a_session_that_is_handed_over_is_over() {
    let bench = slow_consumers();
    let mut events = bench.engine.receive_events();
    sleeper(&bench, "lamp", 200).exchange(&[0xE0, 0]);
    let mut publisher = bench.dial(64 * 1024);
    publisher.exchange(&patient("publisher"));
    publish_qos_1(&mut publisher, 8);
    bench.tick(4);
    assert!(Bench::told(&mut events).iter().any(is_slow));
    publisher.exchange(&[0xE0, 0]);
    assert_eq!(bench.engine.counters().slow_sessions, 1);
    block_on(bench.engine.hand_over_sessions());
    let over = Happening::NoLongerSlow { client_id: "lamp".into() };
    assert!(Bench::told(&mut events).contains(&over));
    let (counters, ledger) = (bench.engine.counters(), bench.engine.ledger());
    assert_eq!((counters.slow_sessions, counters.sessions, counters.subscriptions), (0, 0, 0));
    assert_eq!((ledger.handed_over, ledger.waiting), (8, 0));
    assert!(ledger.balances(), "{ledger:?}");
}

#[test]
fn a_burst_that_is_read_raises_no_alarm_and_leaves_nothing() {
    let bench = slow_consumers();
    let mut events = bench.engine.receive_events();
    let mut lamp = sleeper(&bench, "lamp", 0);
    let mut publisher = bench.dial(64 * 1024);
    publisher.exchange(&patient("publisher"));
    for _ in 0..20 {
        publish_qos_1(&mut publisher, 8);
        (0..20).for_each(|_| {
            lamp.turn();
            lamp.got();
        });
        bench.tick(1);
    }
    assert!(!Bench::told(&mut events).iter().any(is_slow));
    let cell = bench.engine.registry.find("lamp").unwrap();
    assert!(cell.lock().mark().is_none());
    assert_eq!(bench.engine.counters().slow_alarms, 0);
}
