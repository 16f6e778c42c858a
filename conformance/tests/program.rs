//! The program against running brokers: exit codes, reports, skips and progress.
#![allow(clippy::unwrap_used)] // a test fails by panicking, in its helpers as well

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use futures_lite::future::block_on;
use hrotti::{Broker, Limits, ListenerConfig};
use hrotti_conformance::report::{End, Record, Report};

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hrotti-conformance")).args(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn broker(schemes: &[&str]) -> (Broker, Vec<String>) {
    let broker = Broker::new(100);
    let listen = |scheme: &&str| {
        let config = ListenerConfig::new(&format!("{scheme}://127.0.0.1:0")).unwrap();
        block_on(broker.add_listener(scheme, config)).unwrap()
    };
    let urls = schemes.iter().map(listen).collect();
    (broker, urls)
}

/// A server that closes every connection at once.
fn closing() -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("tcp://{}", listener.local_addr()?);
    thread::spawn(move || listener.incoming().flatten().for_each(drop));
    Ok(url)
}

/// A file of this test's own, with this text, if any.
fn file(name: &str, text: Option<&str>) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if let Some(text) = text {
        std::fs::write(&path, text).unwrap();
    }
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_good_broker_over_two_urls() {
    let (_broker, urls) = broker(&["tcp", "ws"]);
    let reports = ["good.json", "good.xml", "good.html"].map(|name| file(name, None));
    let [json, xml, html] = &reports;
    let args = ["--url", &urls[0], "--ws-url", &urls[1], "--filter", "subscribe::", "--name", "it"];
    let reports = ["--report", json, "--report", xml, "--report", html];
    let output = program(&[&args[..], &reports[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    let report = Report::from_json(&std::fs::read_to_string(json).unwrap()).unwrap();
    let cases = hrotti_conformance::cases().iter().filter(|c| c.chapter == "subscribe").count();
    assert_eq!((report.totals.passed, report.cases.len()), (2 * cases, 2 * cases));
    assert!(report.cases.iter().all(|r| r.outcome == End::Passed && r.left_out.is_empty()));
    assert_eq!((report.urls, report.broker.as_str()), (urls, "it"));
    assert!(out(&output).contains("3.10 UNSUBSCRIBE"));
    // No terminal here: a line for each case.
    assert_eq!(err(&output).lines().filter(|line| line.contains("ok")).count(), 2 * cases);
    assert!(std::fs::read_to_string(xml).unwrap().contains("<testsuites"));
    assert!(std::fs::read_to_string(html).unwrap().contains("subscribe::wildcards_match"));
    let table = program(&["--matrix", json, json]);
    assert_eq!(table.status.code(), Some(0));
    assert!(out(&table).contains("| broker | over |"));
}

#[test]
fn a_broken_server_fails_with_all_that_is_known() {
    let url = closing().unwrap();
    let args = ["--url", &url, "--filter", "ping_is_answered", "--quiet"];
    let output = program(&args);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "");
    for part in [
        "FAILED flow::ping_is_answered",
        "3.1.1 MQTT-3.12.4-1",
        "expected:   CONNACK",
        "came:       ",
        "→ CONNECT level ",
        "conformance/src/cases/flow.rs:",
        "alone:      hrotti-conformance --url tcp://",
        "--filter flow::ping_is_answered",
        "0 passed, 1 failed, 0 skipped",
    ] {
        assert!(out(&output).contains(part), "{part}\n{}", out(&output));
    }
}

#[test]
fn versions_and_capabilities_leave_out_by_name() {
    let (_broker, urls) = broker(&["tcp"]);
    let json = file("left-out.json", None);
    let can = file("can.json", Some(r#"{"versions": ["3.1.1", "5"], "maximumQos": 1}"#));
    let args = ["--url", &urls[0], "--versions", "3.1,3.1.1", "--capabilities", &can];
    let filters = ["--filter", "publish::qos_", "--filter", "empty_client_id", "--report", &json];
    let output = program(&[&args[..], &filters[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    let report = Report::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(report.versions, ["3.1.1"]);
    let find = |name: &str| report.cases.iter().find(|r| r.name == name).unwrap();
    let passed = find("qos_1_delivery");
    assert_eq!((passed.outcome, &passed.versions[..]), (End::Passed, &["3.1.1".to_owned()][..]));
    assert_eq!(passed.left_out, ["3.1", "5"]);
    let reason = |name: &str| find(name).reason.clone().unwrap_or_default();
    assert_eq!(reason("qos_2_delivery"), "needs QoS 2");
    assert!(reason("empty_client_id_in_31_is_refused").starts_with("needs MQTT 3.1,"));
    assert!(reason("empty_client_id_in_5_is_assigned").starts_with("needs MQTT 5,"));
    assert_eq!(find("empty_client_id_in_311_needs_clean").outcome, End::Passed);
    assert!(out(&output).contains("skipped (needs QoS 2):\n  publish::qos_2_"));
}

#[test]
fn what_cannot_be_run_ends_with_2() {
    let nobody = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        format!("tcp://{}", listener.local_addr().unwrap())
    };
    let (_broker, urls) = broker(&["tcp"]);
    let unknown = file("unknown.json", Some(r#"{"sharedSubscription": true}"#));
    let old = file("old.json", Some(r#"{"versions": ["3.1"]}"#));
    for (args, part) in [
        (&[][..], "--url"),
        (&["--url", "http://a"], "http"),
        (&["--url", &nobody], "tcp://127"),
        (&["--url", &urls[0], "--filter", "no such case"], "no such case"),
        (&["--url", &urls[0], "--capabilities", "no/such/file"], "no/such/file"),
        (&["--url", &urls[0], "--capabilities", &unknown], "sharedSubscriptions"),
        (&["--url", &urls[0], "--capabilities", &old, "--versions", "5"], "no version is left"),
        (&["--matrix", &unknown], "no report"),
    ] {
        let output = program(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", out(&output));
        assert!(err(&output).contains(part), "{args:?}: {}", err(&output));
    }
}

#[test]
fn the_list_names_every_case_with_its_statements() {
    let output = program(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    let cases = hrotti_conformance::cases();
    assert_eq!(out(&output).lines().count(), cases.len());
    assert!(
        out(&output).contains("flow::ping_is_answered [3.1.1 MQTT-3.12.4-1] [5.0 MQTT-3.12.4-1]")
    );
}

#[test]
fn a_version_alone_tests_every_case_with_a_statement_of_its_standard() {
    let (_broker, urls) = broker(&["ws"]);
    let can = concat!(env!("CARGO_MANIFEST_DIR"), "/capabilities/hrotti.json");
    for (version, standard) in [("3.1.1", "3.1.1"), ("5", "5.0")] {
        let json = file(&format!("only-{version}.json"), None);
        let args = ["--url", &urls[0], "--capabilities", can, "--versions", version];
        let output = program(&[&args[..], &["--report", &json, "--quiet"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", out(&output));
        let report = Report::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
        let left_out = report.cases.iter().filter(|r| {
            r.reason.as_deref().is_some_and(|reason| reason.contains("left out"))
                && !r.statements[standard].is_empty()
        });
        let names: Vec<String> = left_out.map(Record::full_name).collect();
        assert_eq!(names, ["connect::takeover_across_versions"], "with {version}");
    }
}

#[test]
fn hrotti_skips_nothing_but_what_needs_a_broker_in_this_process() {
    let limits = Limits { packet_bytes_max: 16 << 20, ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let config = ListenerConfig::new("tcp://127.0.0.1:0").unwrap();
    let url = block_on(broker.add_listener("tcp", config)).unwrap();
    let json = file("all.json", None);
    let can = concat!(env!("CARGO_MANIFEST_DIR"), "/capabilities/hrotti.json");
    let output = program(&["--url", &url, "--capabilities", can, "--report", &json, "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    let report = Report::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let skipped: Vec<_> = report.cases.iter().filter(|r| r.outcome == End::Skipped).collect();
    let inside = |reason: &Option<String>| {
        matches!(reason.as_deref(), Some("needs a broker in this process" | "needs a WebSocket"))
    };
    assert!(skipped.iter().all(|r| inside(&r.reason)), "{skipped:#?}");
    assert!(report.cases.iter().all(|r| r.left_out.is_empty()));
}
