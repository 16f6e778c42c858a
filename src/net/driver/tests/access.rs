//! Who may connect, again and until when, and what a Client hears of a denial, packet by packet.

use std::future::{pending, ready};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::*;
use crate::access::{Action, DeniedPublish, Exchange, Identity, Rule, Secret};
use crate::ledger::FilterReason;
use crate::packet::testing::{Written, binary, packet, property, section, string};
use crate::reason_code::ReasonCode;

const METHOD: &str = "PLAY";

/// CONNECT of MQTT 5 without Keep Alive, with Clean Start, and with these properties.
pub(super) fn connect_with(client_id: &str, properties: &[Vec<u8>], user: Option<&str>) -> Vec<u8> {
    let flags = 0b10 | if user.is_some() { 0x80 } else { 0 };
    let mut parts = vec![string("MQTT"), vec![5, flags, 0, 0], section(properties)];
    parts.push(string(client_id));
    parts.extend(user.map(string));
    packet(0x10, &parts)
}

pub(super) fn connect_by_method(client_id: &str, data: &[u8]) -> Vec<u8> {
    connect_with(client_id, &method(data), None)
}

fn method(data: &[u8]) -> Vec<Vec<u8>> {
    vec![property(0x15, &string(METHOD)), property(0x16, &binary(data))]
}

pub(super) fn auth(reason: u8, data: &[u8]) -> Vec<u8> {
    packet(0xF0, &[vec![reason], section(&method(data))])
}

/// CONNECT of MQTT 3.1.1.
pub(super) fn old(client_id: &str) -> Vec<u8> {
    packet(0x10, &[string("MQTT"), vec![4, 2, 0, 0], string(client_id)])
}

/// The one packet that was got: first byte, Reason Code, Authentication Data.
fn read_answer(bytes: &[u8]) -> (u8, u8, Option<Vec<u8>>) {
    let mut written = Written::parse(bytes);
    if written.header == 0x20 {
        written.byte();
    }
    let reason = if written.is_empty() { 0 } else { written.byte() };
    let properties = if written.is_empty() { Vec::new() } else { written.properties() };
    let data = properties.iter().find(|(id, _)| *id == 0x16);
    if data.is_some() {
        assert!(properties.contains(&(0x15, METHOD.into())), "MQTT-4.12.0-5");
    }
    (written.header, reason, data.map(|(_, data)| data.clone()))
}

pub(super) fn bench_of(policy: Arc<Rig>) -> Bench {
    Bench::new(Limits::default(), AccessControl::with(policy))
}

/// Asks again and again until the Client sends `stop`, and then lets it in as that.
struct Counting(u8);

impl Exchange for Counting {
    fn proceed(self: Box<Self>, data: Secret) -> Authenticating {
        let Counting(number) = *self;
        Box::pin(ready(match data.bytes() {
            b"panic" => panic!("a fault of the policy"),
            b"no" => Answer::Refuse(Refusal::bad_credentials(RULE)),
            b"unknown" => Answer::NoAnswer,
            b"stop" => Answer::Accept { identity: identity("stop"), data: b"bye".to_vec() },
            _ => more(number + 1),
        }))
    }
}

fn more(number: u8) -> Answer {
    Answer::Continue { data: vec![number], next: Box::new(Counting(number)) }
}

/// A Client with the method goes step by step, others are let in by their user names.
pub(super) fn step_by_step() -> Bench {
    bench_of(Rig::answering(|shown| match shown.authentication_method {
        Some(_) if shown.authentication_data.equals(b"other") => Answer::NoAnswer,
        Some(_) => more(0),
        None => Answer::accept(Identity::new(RULE)),
    }))
}

#[test]
fn an_authentication_is_as_many_steps_as_the_policy_asks_for_mqtt_4_12_0_2() {
    let bench = step_by_step();
    let mut served = bench.dial(4096);
    let answer = served.exchange(&connect_by_method("a", b"first"));
    assert_eq!(read_answer(&answer), (0xF0, 0x18, Some(vec![0])));
    for number in 1..4 {
        let answer = served.exchange(&auth(0x18, b"go on"));
        assert_eq!(read_answer(&answer), (0xF0, 0x18, Some(vec![number])));
    }
    assert_eq!(bench.engine.counters().sessions, 0, "no Session before it is over");
    let answer = served.exchange(&auth(0x18, b"stop"));
    assert_eq!(read_answer(&answer), (0x20, 0, Some(b"bye".to_vec())));
    assert_eq!(served.exchange(&PINGREQ), PINGRESP);
    assert_eq!(bench.engine.counters().unauthenticated_bytes, 0);
}

#[test]
fn an_authentication_ends_by_the_reason_of_its_end_mqtt_4_12_0_4() {
    for (packet, reason) in [
        (auth(0x18, b"no"), 0x86),
        (auth(0x18, b"unknown"), 0x87),
        (auth(0x18, b"panic"), 0x88),
        (auth(0x19, b""), 0x82),
        (PINGREQ.to_vec(), 0x82),
        (publish(b"x"), 0x82),
    ] {
        let bench = step_by_step();
        let mut served = bench.dial(4096);
        served.exchange(&connect_by_method("a", b""));
        let (header, code, _) = read_answer(&served.exchange(&packet));
        assert_eq!((header, code), (0x20, reason), "{packet:02X?}");
        assert_eq!(bench.engine.counters().sessions, 0);
    }
    let bench = step_by_step();
    let mut served = bench.dial(4096);
    served.exchange(&connect_by_method("a", b""));
    assert!(served.exchange(b"\xE0\x00").is_empty(), "DISCONNECT");
    assert!(served.turn(), "the connection is over");
}

#[test]
fn a_method_that_no_policy_has_is_refused_by_0x8c_mqtt_4_12_0_1() {
    let bench = step_by_step();
    let answer = bench.dial(4096).exchange(&connect_by_method("a", b"other"));
    assert_eq!(read_answer(&answer).1, 0x8C);
    assert_eq!(bench.engine.counters().connects_not_authorized, 1);
    let answer = default_bench().dial(4096).exchange(&connect_by_method("a", b""));
    assert_eq!(read_answer(&answer).1, 0x8C, "without a policy");
}

#[test]
fn an_authentication_without_end_has_an_end_pitfall_15() {
    let bench = step_by_step();
    let mut served = bench.dial(4096);
    served.exchange(&connect_by_method("a", b""));
    let mut last = Vec::new();
    for _ in 0..16 {
        last = served.exchange(&auth(0x18, b"go on"));
    }
    assert_eq!(read_answer(&last).1, 0x87);
    assert_eq!(bench.engine.counters().authentication_steps_exceeded, 1);
}

#[test]
fn the_whole_exchange_has_one_deadline_pitfall_20() {
    let bench = step_by_step();
    let mut served = bench.dial(4096);
    served.exchange(&connect_by_method("a", b""));
    bench.pass(6);
    served.exchange(&auth(0x18, b"go on"));
    bench.pass(5);
    served.turn();
    let answer = served.got();
    assert_eq!((answer[0], answer[3]), (0x20, 0x88));
    assert_eq!(bench.engine.counters().connects_undecided, 1);
}

#[test]
fn a_policy_that_panics_refuses_by_0x88_and_ends_one_connection_pitfall_10() {
    for when in ["at once", "polled", "dropped"] {
        struct Bomb(bool);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(!self.0, "dropped");
            }
        }
        let authenticate = move |shown: Credentials| -> Authenticating {
            assert!(&*shown.client_id != "a" || when != "at once", "at once");
            let bad = &*shown.client_id == "a";
            let bomb = Bomb(bad && when == "dropped");
            Box::pin(async move {
                let _bomb = bomb;
                assert!(!bad || when != "polled", "polled");
                if bad {
                    pending::<()>().await;
                }
                Answer::accept(Identity::new(RULE))
            })
        };
        let bench =
            bench_of(Arc::new(Rig { authenticate: Box::new(authenticate), ..Rig::default() }));
        let mut served = bench.dial(4096);
        served.send(&connect("a"));
        served.turn();
        bench.pass(11);
        served.turn();
        let answer = served.got();
        assert_eq!((answer[0], answer[3]), (0x20, 0x88), "{when}");
        bench.connect("b");
    }
}

#[test]
fn each_version_hears_why_it_is_refused() {
    for (reason, code) in [
        (ReasonCode::BAD_USER_NAME_OR_PASSWORD, 4),
        (ReasonCode::NOT_AUTHORIZED, 5),
        (ReasonCode::BANNED, 5),
        (ReasonCode::SERVER_BUSY, 3),
        (ReasonCode::CONNECTION_RATE_EXCEEDED, 3),
        (ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, 2),
        (ReasonCode::UNSPECIFIED_ERROR, 5),
    ] {
        let refuse = move |_| Answer::Refuse(Refusal::new(reason, RULE));
        let bench = bench_of(Rig::answering(refuse));
        assert_eq!(read_answer(&bench.dial(4096).exchange(&connect("a"))).1, reason.value());
        assert_eq!(bench.dial(4096).exchange(&old("a")), [0x20, 2, 0, code], "{reason}");
        let counters = bench.engine.counters();
        let counted = [
            counters.connects_bad_credentials,
            counters.connects_not_authorized,
            counters.connects_banned,
            counters.connects_rate_exceeded,
            counters.connects_refused,
        ];
        assert_eq!(counted.iter().sum::<u64>(), 2, "{reason}");
    }
    let bench = bench_of(Rig::answering(|_| Answer::NoAnswer));
    assert_eq!(read_answer(&bench.dial(4096).exchange(&connect("a"))).1, 0x87);
    assert_eq!(bench.dial(4096).exchange(&old("a")), [0x20, 2, 0, 5]);
}

#[test]
fn the_policy_sees_the_client_identifier_that_the_server_assigns_mqtt_3_2_2_16() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shown_ids = seen.clone();
    let bench = bench_of(Rig::answering(move |shown: Credentials| {
        lock(&shown_ids).push(shown.client_id.to_string());
        Answer::accept(Identity::new(RULE))
    }));
    for round in 0..2 {
        let connack = bench.dial(4096).exchange(&connect(""));
        let mut written = Written::parse(&connack);
        assert_eq!((written.byte(), written.byte()), (0, 0));
        let properties = written.properties();
        let (_, id) = properties.iter().find(|(id, _)| *id == 0x12).unwrap();
        assert_eq!(lock(&seen)[round].as_bytes(), id);
    }
    let seen = lock(&seen);
    assert!(seen[0].starts_with("auto-") && seen[0] != seen[1]);
}

// ---- Re-authentication ---------------------------------------------------------------------------

/// Accepts any first step as the user `first`; a later one as its data says, when the test lets it be decided.
fn again_bench() -> (Bench, Arc<AtomicUsize>) {
    let (asked, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = open.clone();
    let authenticate = move |shown: Credentials| -> Authenticating {
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            return Box::pin(ready(Answer::accept(identity("first"))));
        }
        assert_eq!(shown.authentication_method.as_deref(), Some(METHOD));
        let gate = gate.clone();
        Box::pin(poll_fn(move |_| match gate.load(Ordering::Relaxed) {
            0 => Poll::Pending,
            _ if shown.authentication_data.equals(b"no") => {
                Poll::Ready(Answer::Refuse(Refusal::bad_credentials(RULE)))
            }
            _ => Poll::Ready(Answer::Accept { identity: identity("second"), data: b"ok".into() }),
        }))
    };
    let policy = Rig {
        authenticate: Box::new(authenticate),
        authorize: Box::new(|request| {
            request.topic != "t"
                || request.action != Action::Publish
                || request.identity.user_name() == Some("second")
        }),
        ..Rig::default()
    };
    (bench_of(Arc::new(policy)), open)
}

/// PUBLISH to `t` of QoS 1.
fn publish_qos_1() -> Vec<u8> {
    packet(0x32, &[string("t"), vec![0, 7, 0], b"x".to_vec()])
}

#[test]
fn a_client_that_authenticates_again_is_served_meanwhile_and_gets_its_new_rights() {
    let (bench, open) = again_bench();
    let mut served = bench.dial(4096);
    assert_eq!(read_answer(&served.exchange(&connect_by_method("a", b""))).1, 0);
    assert_eq!(served.exchange(&publish_qos_1())[4], 0x87);
    assert!(served.exchange(&auth(0x19, b"yes")).is_empty());
    assert_eq!(served.exchange(&PINGREQ), PINGRESP);
    assert_eq!(served.exchange(&publish_qos_1())[4], 0x87, "the identity is the old one");
    open.store(1, Ordering::Relaxed);
    served.turn();
    served.turn();
    assert_eq!(read_answer(&served.got()), (0xF0, 0x00, Some(b"ok".to_vec())));
    assert_eq!(served.exchange(&publish_qos_1())[4], 0x10, "allowed, no subscription");
}

#[test]
fn a_re_authentication_that_fails_ends_the_connection_mqtt_4_12_1_2() {
    let (bench, open) = again_bench();
    let mut served = bench.dial(4096);
    served.exchange(&connect_by_method("a", b""));
    open.store(1, Ordering::Relaxed);
    let answer = served.exchange(&auth(0x19, b"no"));
    assert_eq!((answer[0], answer[2]), (0xE0, 0x87));
    assert_eq!(bench.engine.counters().connects_bad_credentials, 1);
    // One that is never decided.
    let (bench, _never) = again_bench();
    let mut served = bench.dial(4096);
    served.exchange(&connect_by_method("a", b""));
    served.exchange(&auth(0x19, b"yes"));
    bench.pass(11);
    served.turn();
    let answer = served.got();
    assert_eq!((answer[0], answer[2]), (0xE0, 0x87));
}

#[test]
fn an_auth_that_nothing_has_asked_for_is_a_protocol_error() {
    for twice in [false, true] {
        let (bench, _) = again_bench();
        let mut served = bench.dial(4096);
        served.exchange(&connect_by_method("a", b""));
        let answer = match twice {
            false => served.exchange(&auth(0x18, b"")),
            true => served.exchange(&[auth(0x19, b""), auth(0x19, b"")].concat()),
        };
        assert_eq!((answer[0], answer[2]), (0xE0, 0x82));
    }
}

// ---- Ends ----------------------------------------------------------------------------------------

/// Lets in everybody until a time.
fn until(end: SystemTime) -> Arc<Rig> {
    Rig::answering(move |_| Answer::accept(identity("ann").with_end(end)))
}

#[test]
fn an_identity_that_ends_ends_its_connection_by_0xa0() {
    let bench = default_bench();
    let end = bench.engine.host.wall() + Duration::from_secs(100);
    bench.engine.set_policy(Some(until(end)));
    let (mut served, mut busy) = (bench.dial(4096), bench.dial(4096));
    served.exchange(&patient("a"));
    busy.exchange(&patient("b"));
    for _ in 0..9 {
        bench.pass(11);
        assert!(served.exchange(&PINGREQ) == PINGRESP && busy.exchange(&PINGREQ) == PINGRESP);
    }
    bench.pass(1);
    served.turn();
    let answer = served.got();
    assert_eq!((answer[0], answer[2]), (0xE0, 0xA0));
    let answer = busy.exchange(&PINGREQ.repeat(10));
    assert_eq!((answer[0], answer[2]), (0xE0, 0xA0), "also of a Client that never pauses");
    assert_eq!(bench.engine.counters().identities_expired, 2);
    let mut late = bench.dial(4096);
    assert_eq!(read_answer(&late.exchange(&connect("c"))).1, 0x87);
    assert_eq!(bench.engine.counters().connects_not_authorized, 1);
}

#[test]
fn clients_whom_new_rules_would_not_let_in_are_closed_by_0x98() {
    let bench = default_bench();
    let mut before = bench.connect("before");
    bench.engine.set_policy(Some(Arc::new(Rig::default())));
    bench.hand.run();
    let answer = before.exchange(&[]);
    assert_eq!((answer[0], answer[2]), (0xE0, 0x98), "it connected without rules");
    let mut served: Vec<Served> = ["ann", "bob"]
        .iter()
        .map(|name| {
            let mut served = bench.dial(4096);
            served.exchange(&connect_with(name, &[], Some(name)));
            served
        })
        .collect();
    bench.engine.policy_changed();
    bench.hand.run();
    assert!(served.iter_mut().all(|it| it.exchange(&PINGREQ) == PINGRESP));
    let no_bob = Rig {
        is_current: Box::new(|identity| identity.user_name() != Some("bob")),
        ..Rig::default()
    };
    bench.engine.set_policy(Some(Arc::new(no_bob)));
    bench.hand.run();
    assert_eq!(served[0].exchange(&PINGREQ), PINGRESP);
    let answer = served[1].exchange(&[]);
    assert_eq!((answer[0], answer[2]), (0xE0, 0x98));
    assert_eq!(bench.engine.counters().policy_disconnects, 2);
}

#[test]
fn a_connect_that_old_rules_decide_is_asked_for_again_under_new_ones_pitfall_10() {
    let (bench, decided) = slow_bench();
    let mut served = bench.dial(4096);
    served.exchange(&connect("a"));
    let nobody = Rig { is_current: Box::new(|_| false), ..Rig::default() };
    bench.engine.set_policy(Some(Arc::new(nobody)));
    bench.hand.run();
    *lock(&decided) = Some(Ok(()));
    let answer = served.exchange(&[]);
    let connack = usize::from(answer[1]) + 2;
    assert_eq!((answer[0], answer[connack], answer[connack + 2]), (0x20, 0xE0, 0x98));
}

#[test]
fn a_session_that_is_resumed_has_the_identity_of_its_last_connect() {
    const BEFORE: Rule = Rule::named("one of two rules");
    let connects = AtomicUsize::new(0);
    let policy = Rig {
        authenticate: Box::new(move |_| {
            let second = connects.fetch_add(1, Ordering::Relaxed) == 1;
            let rule = if second { RULE } else { BEFORE };
            Box::pin(ready(Answer::accept(Identity::new(rule).with_user_name("ann"))))
        }),
        authorize: Box::new(|request| {
            request.action != Action::Publish || *request.identity.rule() == RULE
        }),
        ..Rig::default()
    };
    let bench = bench_of(Arc::new(policy));
    for (user, reason) in [("ann", 0x87), ("ann", 0x10), ("ann", 0x87)] {
        let expiry = property(0x11, &60_u32.to_be_bytes());
        let mut connect = connect_with("c", &[expiry], Some(user));
        connect[9] &= !0b10; // without Clean Start
        let mut served = bench.dial(4096);
        served.exchange(&connect);
        assert_eq!(served.exchange(&publish_qos_1())[4], reason, "{user}");
    }
    assert_eq!(bench.engine.counters().sessions, 1);
}

// ---- Denials -------------------------------------------------------------------------------------

fn only_free() -> Arc<Rig> {
    Rig::allowing(|request| request.topic.starts_with("free"))
}

#[test]
fn a_denied_publish_is_answered_by_version_and_setting() {
    let bench = bench_of(only_free());
    let mut served = bench.connect("a");
    assert_eq!(served.exchange(&publish_qos_1())[..5], [0x40, served_len(0x87), 0, 7, 0x87]);
    assert!(served.exchange(&publish(b"qos 0")).is_empty());
    let mut old_one = bench.dial(4096);
    old_one.exchange(&old("b"));
    let qos_1 = packet(0x32, &[string("t"), vec![0, 7], b"x".to_vec()]);
    assert_eq!(old_one.exchange(&qos_1), [0x40, 2, 0, 7], "acknowledged and dropped");
    assert_eq!(bench.engine.counters().publishes_denied, 3);
    let strict = AccessControl::new(Some(only_free()), DeniedPublish::Disconnect);
    let bench = Bench::new(Limits::default(), strict);
    let mut strict_one = bench.dial(4096);
    strict_one.exchange(&old("b"));
    assert!(strict_one.exchange(&qos_1).is_empty());
    assert!(strict_one.turn() || bench.engine.counters().connections == 0, "closed");
    assert_eq!(bench.connect("c").exchange(&publish_qos_1())[4], 0x87, "MQTT 5 has a Reason Code");
}

/// The Remaining Length of a PUBACK with the text that goes with this denial.
fn served_len(_reason: u8) -> u8 {
    let text = "publishing to this Topic Name is not allowed".len();
    u8::try_from(2 + 1 + 1 + 3 + text).unwrap()
}

#[test]
fn a_denied_subscribe_and_unsubscribe_are_answered_filter_by_filter() {
    let bench = bench_of(only_free());
    let mut served = bench.connect("a");
    let filters =
        [string("free/#"), vec![0], string("t"), vec![1], string("$share/g/free"), vec![0]];
    let subscribe = packet(0x82, &[vec![0, 1, 0], filters.concat()]);
    assert_eq!(served.exchange(&subscribe), [0x90, 6, 0, 1, 0, 0, 0x87, 0]);
    let unsubscribe = packet(0xA2, &[vec![0, 2, 0], string("t"), string("free/#")]);
    assert_eq!(served.exchange(&unsubscribe), [0xB0, 5, 0, 2, 0, 0x87, 0]);
    let mut old_one = bench.dial(4096);
    old_one.exchange(&old("b"));
    let subscribe = packet(0x82, &[vec![0, 1], string("t"), vec![1]]);
    assert_eq!(old_one.exchange(&subscribe), [0x90, 3, 0, 1, 0x80]);
    assert_eq!(bench.engine.counters().subscribes_denied, 3);
}

/// Pitfall 9: asked at CONNECT, and again when it is published.
#[test]
fn a_will_is_asked_for_twice_pitfall_9() {
    let will = |topic: &str| {
        let parts = [
            string("MQTT"),
            vec![5, 0b110, 0, 0, 0],
            string("w"),
            vec![0],
            string(topic),
            binary(b"gone"),
        ];
        packet(0x10, &parts)
    };
    let bench = bench_of(only_free());
    assert_eq!(read_answer(&bench.dial(4096).exchange(&will("t"))).1, 0x87);
    let mut served = bench.dial(4096);
    assert_eq!(read_answer(&served.exchange(&will("free"))).1, 0);
    bench.engine.set_policy(Some(Rig::allowing(|_| false)));
    drop(served);
    assert_eq!(bench.engine.counters().publishes_denied, 2);
}

#[test]
fn a_route_is_not_remembered_for_a_publisher_that_may_publish_once_pitfall_10() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let rig = Rig {
        authorize: Box::new(move |request| {
            request.action != Action::Publish || count.fetch_add(1, Ordering::Relaxed) < 2
        }),
        rule: RULE.for_one_question(),
        ..Rig::default()
    };
    let bench = bench_of(Arc::new(rig));
    let mut reader = bench.connect("r");
    reader.exchange(&subscribe());
    let mut writer = bench.connect("w");
    for published in [true, true, false, false] {
        writer.exchange(&publish(b"x"));
        assert_eq!(reader.exchange(b"").is_empty(), !published);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

/// CONNECT of the user `user` with a Will to `t`.
fn with_will(client_id: &str, user: &str) -> Vec<u8> {
    let parts = [
        string("MQTT"),
        vec![5, 0b1000_0110, 0, 0, 0],
        string(client_id),
        vec![0],
        string("t"),
        binary(b"gone"),
        string(user),
    ];
    packet(0x10, &parts)
}

#[test]
fn the_will_of_a_user_who_would_not_be_let_in_any_more_is_not_published_pitfall_9() {
    let banned = Arc::new(AtomicUsize::new(0));
    let is_banned = banned.clone();
    let policy = Rig {
        is_current: Box::new(move |identity| {
            is_banned.load(Ordering::Relaxed) == 0 || identity.user_name() != Some("bob")
        }),
        ..Rig::default()
    };
    let bench = bench_of(Arc::new(policy));
    let mut reader = bench.connect_patiently("r");
    reader.exchange(&subscribe());
    let mut wills: Vec<_> = ["ann", "bob"].map(|user| (user, bench.dial(4096))).into();
    for (user, served) in &mut wills {
        assert_eq!(read_answer(&served.exchange(&with_will(user, user))).1, 0);
    }
    banned.store(1, Ordering::Relaxed);
    bench.engine.policy_changed();
    bench.hand.run();
    assert!(reader.exchange(b"").is_empty());
    let (_, bob) = wills.pop().unwrap();
    drop(bob);
    assert!(reader.exchange(b"").is_empty(), "the Will of bob");
    assert_eq!(bench.engine.ledger().filtered(FilterReason::NotAuthorized), 1);
    drop(wills);
    assert!(!reader.exchange(b"").is_empty(), "the Will of ann");
}

#[test]
fn the_will_of_an_identity_that_has_ended_is_not_published_pitfall_9() {
    let bench = default_bench();
    let end = bench.engine.host.wall() + Duration::from_secs(60);
    bench.engine.set_policy(Some(until(end)));
    let mut served = bench.dial(4096);
    assert_eq!(read_answer(&served.exchange(&with_will("w", "ann"))).1, 0);
    bench.pass(60);
    drop(served);
    assert_eq!(bench.engine.ledger().filtered(FilterReason::NotAuthorized), 1);
}

#[test]
fn a_re_authentication_that_old_rules_decide_is_asked_for_again_under_new_ones_pitfall_10() {
    let (bench, open) = again_bench();
    let mut served = bench.dial(4096);
    assert_eq!(read_answer(&served.exchange(&connect_by_method("a", b""))).1, 0);
    assert!(served.exchange(&auth(0x19, b"yes")).is_empty());
    let only_first = Rig {
        is_current: Box::new(|identity| identity.user_name() == Some("first")),
        ..Rig::default()
    };
    bench.engine.set_policy(Some(Arc::new(only_first)));
    bench.hand.run();
    assert_eq!(served.exchange(&PINGREQ), PINGRESP);
    open.store(1, Ordering::Relaxed);
    let answer = served.exchange(&[]);
    let last = &answer[usize::from(answer[1]) + 2..];
    assert_eq!((answer[0], last[0], last[2]), (0xF0, 0xE0, 0x98));
    assert_eq!(bench.engine.counters().policy_disconnects, 1);
}

/// CONNECT of a user, with a Session that lasts a minute.
fn lasting(user: Option<&str>, clean: bool) -> Vec<u8> {
    let mut bytes = connect_with("c", &[property(0x11, &60_u32.to_be_bytes())], user);
    if !clean {
        bytes[9] &= !0b10;
    }
    bytes
}

/// Whether Session Present, and the Reason Code.
fn connected(bench: &Bench, bytes: &[u8]) -> (u8, u8) {
    let mut served = bench.dial(4096);
    let connack = served.exchange(bytes);
    assert_eq!(connack[0], 0x20);
    (connack[2], connack[3])
}

#[test]
fn a_session_of_another_user_is_neither_resumed_nor_ended_pitfall_10() {
    for clean in [false, true] {
        let bench = bench_of(Arc::new(Rig::default()));
        let mut ann = bench.dial(4096);
        ann.exchange(&lasting(Some("ann"), true));
        for user in [Some("bob"), None] {
            assert_eq!(connected(&bench, &lasting(user, clean)), (0, 0x85));
        }
        assert_eq!(ann.exchange(&PINGREQ), PINGRESP, "she stays connected");
        let counters = bench.engine.counters();
        assert_eq!((counters.connects_refused, counters.sessions), (2, 1));
        drop(ann);
        assert_eq!(connected(&bench, &lasting(Some("bob"), clean)), (0, 0x85), "while she is away");
        assert_eq!(connected(&bench, &lasting(Some("ann"), false)), (1, 0));
    }
}

#[test]
fn a_session_from_before_the_rules_goes_to_the_user_whom_they_let_in() {
    let bench = default_bench();
    assert_eq!(connected(&bench, &lasting(None, true)), (0, 0));
    bench.engine.set_policy(Some(Arc::new(Rig::default())));
    bench.hand.run();
    assert_eq!(connected(&bench, &lasting(Some("ann"), false)), (1, 0));
    assert_eq!(connected(&bench, &lasting(Some("bob"), false)), (0, 0x85), "then it is hers");
}

#[test]
fn an_anonymous_clients_session_and_a_removed_users_are_replaced_and_not_resumed() {
    let bench = bench_of(Arc::new(Rig::default()));
    assert_eq!(connected(&bench, &lasting(None, true)), (0, 0));
    assert_eq!(connected(&bench, &lasting(Some("ann"), false)), (0, 0));
    assert_eq!(connected(&bench, &lasting(Some("ann"), false)), (1, 0));
    let no_ann = Rig {
        is_current: Box::new(|identity| identity.user_name() != Some("ann")),
        ..Rig::default()
    };
    bench.engine.set_policy(Some(Arc::new(no_ann)));
    bench.hand.run();
    assert_eq!(connected(&bench, &lasting(Some("bob"), false)), (0, 0));
    assert_eq!(bench.engine.counters().sessions, 1);
}

// ---- Answers that are fetched --------------------------------------------------------------------

/// A policy that knows nothing of a topic until a test says that the answer has been fetched, and then allows all but
/// what has `no` in its name.
#[derive(Clone, Default)]
struct Fetched {
    is_there: Arc<AtomicBool>,
    /// Questions that were prepared for: the topics.
    fetched: Arc<Mutex<Vec<String>>>,
}

impl Fetched {
    fn bench(&self) -> Bench {
        let (preparing, asked) = (self.clone(), self.clone());
        bench_of(Arc::new(Rig {
            prepare: Box::new(move |request| {
                if preparing.is_there.load(Ordering::Relaxed) {
                    return None;
                }
                lock(&preparing.fetched).push(request.topic.to_owned());
                let is_there = preparing.is_there.clone();
                Some(Box::pin(poll_fn(move |_| match is_there.load(Ordering::Relaxed) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                })))
            }),
            authorize: Box::new(move |request| {
                let known = asked.is_there.load(Ordering::Relaxed);
                request.action == Action::Receive || known && !request.topic.contains("no")
            }),
            rule: RULE.for_one_question(),
            ..Rig::default()
        }))
    }

    fn arrives(&self) {
        self.is_there.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_subscribe_waits_for_the_answers_and_nobody_else_does() {
    let fetched = Fetched::default();
    let bench = fetched.bench();
    let (mut served, mut other) = (bench.connect_patiently("a"), bench.connect_patiently("b"));
    let filters = [string("yes"), vec![0], string("$share/g/no"), vec![0]];
    let subscribe = packet(0x82, &[vec![0, 1, 0], filters.concat()]);
    assert!(served.exchange(&[&subscribe[..], &PINGREQ].concat()).is_empty());
    assert_eq!(*lock(&fetched.fetched), ["yes", "no"], "both at once");
    assert_eq!(other.exchange(&PINGREQ), PINGRESP);
    bench.pass(5);
    fetched.arrives();
    let answer = served.exchange(b"");
    assert_eq!(answer, [0x90, 5, 0, 1, 0, 0, 0x87, PINGRESP[0], PINGRESP[1]]);
}

#[test]
fn a_publish_waits_for_the_answer_and_the_messages_before_it_do_not() {
    let fetched = Fetched::default();
    fetched.arrives();
    let bench = fetched.bench();
    let (mut served, mut reader) = (bench.connect_patiently("a"), bench.connect_patiently("r"));
    reader.exchange(&subscribe());
    let to = |topic: &str| packet(0x32, &[string(topic), vec![0, 7, 0], b"x".to_vec()]);
    served.exchange(&publish(b"0"));
    assert!(!reader.exchange(b"").is_empty());
    fetched.is_there.store(false, Ordering::Relaxed);
    assert!(served.exchange(&[to("yes"), PINGREQ.to_vec()].concat()).is_empty());
    fetched.arrives();
    let answer = served.exchange(b"");
    assert_eq!((answer[0], answer[4]), (0x40, 0x10), "no subscriber, and no denial");
    assert_eq!(answer[answer.len() - 2..], PINGRESP);
    fetched.is_there.store(false, Ordering::Relaxed);
    assert!(served.exchange(&to("no")).is_empty());
    fetched.arrives();
    assert_eq!(served.exchange(b"")[4], 0x87);
    let ledger = bench.engine.ledger();
    assert_eq!((ledger.offered, ledger.filtered(FilterReason::NotAuthorized)), (3, 1), "{ledger}");
}

#[test]
fn an_answer_that_does_not_arrive_in_time_is_a_no_pitfall_20() {
    let fetched = Fetched::default();
    let bench = fetched.bench();
    let mut served = bench.connect_patiently("a");
    assert!(served.exchange(&publish_qos_1()).is_empty());
    bench.pass(11);
    assert_eq!(served.exchange(b"")[4], 0x87);
    assert!(served.exchange(&publish_qos_1()).is_empty());
    drop(served);
    assert!(bench.engine.ledger().balances());
    assert_eq!(bench.engine.counters().connections, 0);
}

#[test]
fn a_connect_waits_for_the_answer_about_its_will() {
    let fetched = Fetched::default();
    let bench = fetched.bench();
    let mut served = bench.dial(4096);
    assert!(served.exchange(&with_will("w", "ann")).is_empty());
    assert_eq!(bench.engine.counters().sessions, 0);
    fetched.arrives();
    assert_eq!(read_answer(&served.exchange(b"")).1, 0);
    fetched.is_there.store(false, Ordering::Relaxed);
    let mut late = bench.dial(4096);
    assert!(late.exchange(&with_will("v", "ann")).is_empty());
    bench.pass(11);
    assert_eq!(read_answer(&late.exchange(b"")).1, 0x87, "no answer is a no");
}
