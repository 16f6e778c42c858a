use std::net::TcpListener;

use super::*;
use crate::null;

/// The attack with this name, cut down.
fn small(name: &str) -> Attack {
    let mut attack = kinds::all().into_iter().find(|attack| attack.name == name).unwrap();
    attack.at_once = attack.at_once.min(20);
    attack
}

/// The same on a null broker of this process, which lets everybody in.
fn attacked(name: &str) -> Round {
    let target = null::in_process();
    watch(&target, &target, &small(name), 500.0, Duration::from_millis(300)).unwrap()
}

#[test]
fn healthy_clients_are_measured_before_and_during() {
    let seen = attacked("none");
    for phase in [&seen.before, &seen.during] {
        assert!(phase.latency.messages > 0 && phase.latency.p99_us >= phase.latency.p50_us);
        assert!(phase.arrivals.median_ms.is_some() && phase.arrivals.failed == 0, "{phase:?}");
        assert!(phase.memory.is_some() && phase.cpu_percent.is_some());
    }
    assert_eq!((seen.attacker, seen.lost), (Counts::default(), 0));
}

#[test]
fn connections_that_are_answered_leave_and_others_come() {
    let seen = attacked("strangers").attacker;
    assert!(seen.begun > 20 && seen.most <= 20, "{seen:?}");
    assert_eq!(seen.answers.keys().collect::<Vec<_>>(), ["CONNACK 0"]);
    assert_eq!(seen.closed + seen.failed, 0, "{seen:?}");
}

#[test]
fn silent_connections_stay_where_the_broker_lets_them() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let victim = Target::at(Transport::Tls, listener.local_addr().unwrap());
    // The backlog has room for them.
    let time = Duration::from_millis(100);
    let seen = watch(&null::in_process(), &victim, &small("half-open"), 500.0, time).unwrap();
    let seen = seen.attacker;
    assert_eq!((seen.begun, seen.most, seen.left, seen.closed), (20, 20, 20, 0), "{seen:?}");
    drop(listener);
}

#[test]
fn connections_that_the_broker_closes_are_counted_and_replaced() {
    let seen = attacked("garbage").attacker;
    assert!(seen.closed > 20 && seen.begun > seen.closed, "{seen:?}");
}

fn siege(rounds: &[Round]) -> Siege {
    let cell = Cell { rounds: rounds.to_vec(), failures: vec!["round 3: gone".to_owned()] };
    let name = "hrotti".to_owned();
    let (version, configuration) = ("hrotti 9".to_owned(), "{}\n".to_owned());
    Siege {
        tool: "tool 1".to_owned(),
        command: "hrotti-bench attack".to_owned(),
        machine: "machine".to_owned(),
        healthy: "10 healthy pairs".to_owned(),
        brokers: vec![Besieged { kind: Kind::Hrotti, name, version, configuration }],
        attacks: vec![Row { name: "strangers", about: "about".to_owned(), cells: vec![cell] }],
    }
}

#[test]
fn the_report_has_a_verdict_and_what_the_attacker_saw() {
    let mut round = attacked("strangers");
    round.before.latency.p99_us = 100.0;
    round.during.latency.p99_us = 149.0;
    round.attacker.answers = [("CONNACK 5".to_owned(), 3)].into();
    round.logged = 4;
    let has = |text: &str, part: &str| {
        let text = text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    };
    let mut other = round.clone();
    other.during.latency.p99_us = 141.0;
    let text = report::document(&siege(&[round.clone(), other]));
    for part in [
        "Each attack begins at most so many connections a second as its section says.",
        "| 1.45 (1.41..1.49) | met |",
        "6 answered CONNACK 5",
        "8 lines logged by the broker",
        "- hrotti: failed in round 3: gone\n",
        "hrotti: hrotti 9\n",
    ] {
        has(&text, part);
    }
    round.during.latency.p99_us = 151.0;
    has(&report::document(&siege(&[round])), "| 1.51 | **MISSED** |");
    has(&report::document(&siege(&[])), "| not measured |");
}

#[test]
fn only_failures_of_hrotti_make_a_siege_bad() {
    let mut seen = siege(&[]);
    assert!(seen.is_bad());
    seen.brokers[0].kind = Kind::Mosquitto;
    assert!(!seen.is_bad());
    seen.brokers[0].kind = Kind::Hrotti;
    seen.attacks[0].cells[0].failures.clear();
    assert!(!seen.is_bad());
}

#[test]
fn an_attack_that_does_not_exist_is_an_error_that_names_the_others() {
    use structopt::StructOpt as _;
    let plan = |words: &[&str]| {
        let words = [&["x", "attack"], words].concat();
        let args::Args::Attack(args) = args::Args::from_iter_safe(words).unwrap() else {
            unreachable!("not attack");
        };
        Plan::new(&args)
    };
    let error = plan(&["--attack", "bribery"]).unwrap_err().to_string();
    assert!(error.contains("half-open") && error.contains("bribery"), "{error}");
    let one = plan(&["--attack", "garbage", "--connections", "7"]).unwrap();
    assert_eq!((one.attacks.len(), one.attacks[0].at_once), (1, 7));
    assert_eq!(plan(&["--connections", "1"]).unwrap().attacks.len(), kinds::all().len());
}
