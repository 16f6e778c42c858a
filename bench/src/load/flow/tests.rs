//! The loop against a relay in this process, which does wrong what a test asks for.

mod relay;

use std::net::TcpListener;
use std::thread;

use self::relay::{Fault, Relay, over_websocket};
use super::*;
use crate::load::rehearsal::secured;
use crate::scenario;
use crate::tls::tests::server;

/// Three of each for a tenth of a second.
const SHORT: FlowSpec = FlowSpec {
    clients: 3,
    pace: Pace::Window(4),
    warmup: Duration::ZERO,
    measure: Duration::from_millis(100),
    ..PAIRS
};

fn run_with(fault: Fault, spec: &FlowSpec) -> Outcome {
    run(&Relay::start(fault).target, spec).unwrap()
}

/// Nothing lost, duplicated, reordered, given up or noted.
fn assert_clean(outcome: &Outcome, copies: u64, what: &str) {
    assert!(outcome.sent > 3, "{what}: {outcome:?}");
    assert_eq!(outcome.delivered, outcome.sent * copies, "{what}");
    let wrong = outcome.lost + outcome.duplicated + outcome.reordered + outcome.stalled;
    assert_eq!((wrong, &outcome.notes), (0, &vec![]), "{what}: {outcome:?}");
}

#[test]
fn every_shape_is_delivered_whole() {
    let shapes = [(Shape::Pairs, 1), (Shape::FanOut, 3), (Shape::FanIn, 1), (Shape::Mesh, 4)];
    for (shape, copies) in shapes {
        for pace in [Pace::Window(1), Pace::Window(16), Pace::Rate(2000.0)] {
            let outcome = run_with(Fault::None, &FlowSpec { shape, pace, ..SHORT });
            assert_clean(&outcome, copies, &format!("{shape:?} {pace:?}"));
            let is_open_loop = matches!(pace, Pace::Rate(_));
            for metric in [
                Metric::LatencyP50Us,
                Metric::LatencyP90Us,
                Metric::LatencyP99Us,
                Metric::LatencyP999Us,
                Metric::LatencyMaxUs,
                Metric::SendDelayP99Us,
            ] {
                assert_eq!(outcome.values.contains_key(&metric), is_open_loop, "{metric:?}");
            }
        }
    }
}

#[test]
fn every_qos_and_version_is_acknowledged_to_the_end() {
    for (qos, version) in
        [0, 1, 2].into_iter().flat_map(|qos| [(qos, Version::V311), (qos, Version::V5)])
    {
        for (shape, copies) in [(Shape::Pairs, 1), (Shape::Mesh, 4)] {
            let what = format!("QoS {qos} {version:?} {shape:?}");
            let relay = Relay::start(Fault::None);
            let spec = FlowSpec { shape, qos, version, pace: Pace::Window(16), ..SHORT };
            let outcome = run(&relay.target, &spec).unwrap();
            assert_clean(&outcome, copies, &what);
            let seen = relay.finish();
            let count = |kind: u8| seen.get(&kind).copied().unwrap_or(0);
            assert_eq!(count(3), outcome.sent, "{what}");
            let (puback, pubrec, pubrel) = match qos {
                0 => (0, 0, 0),
                1 => (outcome.delivered, 0, 0),
                _ => (0, outcome.delivered, outcome.sent),
            };
            assert_eq!((count(4), count(5), count(6)), (puback, pubrec, pubrel), "{what}");
            assert_eq!(count(7), pubrec, "{what}: PUBCOMP");
        }
    }
}

#[test]
fn a_loss_is_seen_and_the_window_goes_on() {
    for qos in 0..3 {
        let outcome = run_with(Fault::Drop(5), &FlowSpec { qos, ..SHORT });
        assert_eq!((outcome.lost, outcome.stalled), (3, 0), "QoS {qos}: {outcome:?}");
        assert_eq!(outcome.delivered + 3, outcome.sent);
    }
}

#[test]
fn a_loss_in_a_mesh_is_seen_by_all_who_would_hear() {
    let outcome = run_with(Fault::Drop(7), &FlowSpec { shape: Shape::Mesh, ..SHORT });
    assert_eq!((outcome.lost, outcome.stalled), (12, 0), "{outcome:?}");
    assert_eq!(outcome.delivered + 12, outcome.sent * 4);
}

#[test]
fn what_comes_twice_is_seen() {
    for qos in 0..3 {
        let outcome = run_with(Fault::Repeat(5), &FlowSpec { qos, ..SHORT });
        assert_eq!((outcome.duplicated, outcome.lost), (3, 0), "QoS {qos}: {outcome:?}");
        assert_eq!(outcome.delivered, outcome.sent);
    }
}

#[test]
fn what_is_redelivered_counts_as_its_qos_says() {
    for (qos, duplicated) in [(1, 3), (2, 0)] {
        let outcome = run_with(Fault::Redeliver(5), &FlowSpec { qos, ..SHORT });
        assert_eq!(outcome.duplicated, duplicated, "QoS {qos}: {outcome:?}");
        assert_eq!((outcome.delivered, outcome.lost), (outcome.sent, 0));
        let noted = outcome.notes.iter().any(|note| note.starts_with("3 messages at QoS 2 again"));
        assert_eq!(noted, qos == 2, "{outcome:?}");
    }
}

#[test]
fn what_is_overtaken_is_seen() {
    for qos in 0..3 {
        let spec = FlowSpec { shape: Shape::FanOut, qos, ..SHORT };
        let outcome = run_with(Fault::Delay(5), &spec);
        assert_eq!((outcome.reordered, outcome.lost), (3, 0), "QoS {qos}: {outcome:?}");
        assert_eq!(outcome.delivered, outcome.sent * 3);
    }
}

#[test]
fn an_acknowledgement_that_does_not_come_is_noted_and_loses_nothing() {
    for (fault, qos, note) in [
        (Fault::NoFirstAck(5), 1, "3 PUBLISH packets without PUBACK at the end"),
        (Fault::NoFirstAck(5), 2, "3 PUBLISH packets without PUBCOMP at the end"),
        (Fault::NoPubComp(5), 2, "3 PUBLISH packets without PUBCOMP at the end"),
        (Fault::NoPubRel, 2, "3 messages at QoS 2 without PUBREL at the end"),
        (Fault::AckTwice(5), 1, "3 packets that nobody here sent or asked for"),
        (Fault::AckTwice(5), 2, "3 packets that nobody here sent or asked for"),
    ] {
        let outcome = run_with(fault, &FlowSpec { qos, ..SHORT });
        assert_eq!(outcome.notes, [note], "{fault:?} QoS {qos}: {outcome:?}");
        assert_eq!((outcome.delivered, outcome.lost), (outcome.sent, 0), "{fault:?} QoS {qos}");
        assert_eq!((outcome.duplicated, outcome.stalled), (0, 0), "{fault:?} QoS {qos}");
    }
}

#[test]
fn what_the_broker_refuses_is_noted() {
    for qos in [1, 2] {
        let outcome = run_with(Fault::Refuse(5), &FlowSpec { qos, version: Version::V5, ..SHORT });
        assert_eq!(outcome.notes, ["3 PUBLISH packets that the broker refused"], "QoS {qos}");
    }
}

#[test]
fn the_receive_maximum_is_kept_whatever_the_window() {
    for pace in [Pace::Window(64), Pace::Rate(50_000.0)] {
        let relay = Relay::start(Fault::InGroupsOf(4));
        let spec = FlowSpec { qos: 1, version: Version::V5, pace, ..SHORT };
        let outcome = run(&relay.target, &spec).unwrap();
        assert_eq!((outcome.delivered, outcome.lost), (outcome.sent, 0), "{outcome:?}");
        assert!(outcome.sent > 12, "{pace:?}: {outcome:?}");
        relay.finish();
    }
}

#[test]
fn a_broker_that_stops_delivering_does_not_hold_the_run() {
    let outcome = run_with(Fault::DropFrom(8), &SHORT);
    assert_eq!(outcome.delivered, 24, "{outcome:?}");
    assert_eq!(outcome.lost, outcome.sent - 24);
    assert_eq!(outcome.stalled, outcome.lost, "{outcome:?}");
    assert!(outcome.notes.iter().any(|note| note.contains("stall")), "{outcome:?}");
}

#[test]
fn a_mesh_that_stops_counts_what_each_would_have_heard() {
    let outcome = run_with(Fault::DropFrom(8), &FlowSpec { shape: Shape::Mesh, ..SHORT });
    assert_eq!(outcome.delivered, 3 * 8 * 4, "{outcome:?}");
    assert_eq!(outcome.delivered + outcome.lost, outcome.sent * 4, "{outcome:?}");
    assert_eq!(outcome.stalled, outcome.lost);
}

#[test]
fn over_websocket_all_is_the_same() {
    for (qos, copies, shape) in [(0, 1, Shape::Pairs), (2, 1, Shape::Pairs), (1, 3, Shape::FanOut)]
    {
        let relay = Relay::start(Fault::None);
        let target = over_websocket(relay.target);
        let spec = FlowSpec { transport: Transport::Ws, shape, qos, ..SHORT };
        let outcome = run(&target, &spec).unwrap();
        assert_clean(&outcome, copies, &format!("QoS {qos} {shape:?}"));
        assert!(run(&relay.target, &spec).is_err(), "tcp is not what was asked for");
    }
}

#[test]
fn one_that_stopped_is_told_of_and_not_counted() {
    // The window of the healthy does not know it; the rate keeps it within what sockets hold.
    let pace = Pace::Rate(2000.0);
    let spec = FlowSpec { shape: Shape::FanOut, stopped: 1, pace, ..SHORT };
    let outcome = run_with(Fault::None, &spec);
    let all = outcome.sent;
    assert_eq!((outcome.delivered, outcome.lost), (all * 3, 0), "{outcome:?}");
    let got = format!("the stopped subscriber got {all} of {all} messages (0 missing");
    assert!(outcome.notes[0].starts_with(&got), "{outcome:?}");
}

#[test]
fn a_broker_that_hangs_up_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hang_up = thread::spawn(move || drop(listener.accept().unwrap()));
    assert!(run(&Target::at(Transport::Tcp, address), &SHORT).is_err());
    hang_up.join().unwrap();
}

#[test]
fn the_null_broker_relays_large_and_small_whole() {
    let (v3, v5) = (Version::V311, Version::V5);
    for (shape, payload, version, copies) in [
        (Shape::Pairs, 16, v3, 1),
        (Shape::FanOut, 1_000_000, v3, 4),
        (Shape::FanIn, 300, v5, 1),
        (Shape::Mesh, 64, v5, 4),
    ] {
        let (clients, pace) = (4, Pace::Window(8));
        let spec = FlowSpec { shape, clients, payload, version, pace, ..SHORT };
        let outcome = run(&crate::null::in_process(), &spec).unwrap();
        assert!(outcome.sent > 0, "{shape:?} {outcome:?}");
        assert_eq!(outcome.delivered, outcome.sent * copies, "{shape:?}");
        assert_eq!(outcome.lost + outcome.duplicated + outcome.reordered, 0, "{shape:?}");
        assert!(
            outcome.values.contains_key(&Metric::BrokerUsPerMessage)
                && outcome.values.contains_key(&Metric::RssMib)
        );
    }
}

#[test]
fn what_the_null_broker_cannot_is_known_before_and_found_out() {
    let null = crate::null::in_process();
    for (name, can) in [("mesh", true), ("pairs-v5", true), ("qos1", false), ("ws-pairs", false)] {
        assert_eq!(crate::null::can(scenario::named(name).unwrap().needs()), can, "{name}");
    }
    let error = run(&null, &FlowSpec { qos: 1, ..SHORT }).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
}

#[test]
fn scenarios_say_what_they_do_and_what_is_wanted() {
    let about = |name| scenario::named(name).unwrap().about();
    for (name, wanted) in [
        ("mesh", "10 publishers over 10 topics each to 40 wildcards, each message to 4, QoS 0, "),
        ("qos2", "50 pairs, QoS 2, 64 B, closed loop, window 256 per publisher"),
        ("ws-pairs", "50 pairs over WebSocket, QoS 0"),
        ("qos1-v5", "50 pairs, MQTT 5, QoS 1"),
        ("slow-reader", "1 publisher to 50 subscribers and 1 that stopped reading, QoS 0"),
        ("latency-5k", "10 pairs, QoS 0, 64 B, open loop, 5000 messages/s in all"),
    ] {
        assert!(about(name).starts_with(wanted), "{}", about(name));
    }
    for (name, metric, ratio) in [
        ("pairs", Metric::BrokerUsPerMessage, 0.10),
        ("mesh", Metric::BrokerUsPerMessage, 0.12),
        ("qos2", Metric::BrokerUsPerMessage, 0.05),
        ("latency-20k", Metric::LatencyP99Us, 1.1),
    ] {
        let scenario = scenario::named(name).unwrap();
        assert!(scenario.by_default && scenario.at_most.contains(&(metric, ratio)), "{name}");
    }
}

#[test]
fn pairs_over_tls_are_delivered_whole_and_say_what_was_agreed_on() {
    let target = secured(crate::null::in_process(), &server());
    for (tls, version) in [(tls::Version::V12, "TLSv1_2"), (tls::Version::V13, "TLSv1_3")] {
        let spec = FlowSpec { transport: Transport::Tls, tls, pace: Pace::Window(16), ..SHORT };
        let mut outcome = run(&target, &spec).unwrap();
        let note = outcome.notes.remove(0);
        assert!(note.starts_with(version), "{note}");
        assert_clean(&outcome, 1, version);
    }
}

#[test]
fn about_says_what_it_goes_over() {
    let about = |name| scenario::named(name).unwrap().about();
    assert!(about("tls-pairs").starts_with("50 pairs over TLS, QoS 0"), "{}", about("tls-pairs"));
    let wss = scenario::named("wss-pairs").unwrap();
    let older = crate::scenario::Overrides { tls: Some(tls::Version::V12), ..Default::default() };
    let about = wss.with(&older).about();
    assert!(about.starts_with("50 pairs over WebSocket and TLS 1.2, QoS 0"), "{about}");
}
