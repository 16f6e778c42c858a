//! One row for each kind of change: its lines, and what a Client sees that is connected meanwhile.

use hrotti::Happening;

use crate::house::{House, config};
use crate::peer::in_time;

/// What a Client sees that is connected through the listener `tcp`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sees {
    Nothing,
    TheEnd,
}
use Sees::{Nothing, TheEnd};

/// The configurations before and after, behind the listener `tcp` at a port that the system chose; the lines; what the
/// Client sees.
type Row = (&'static str, &'static str, &'static [&'static str], Sees);

const TCP: &str = r#""tcp": {"url": "tcp://127.0.0.1:0"}"#;

/// What stands in `listeners` beside `tcp`, and behind it.
fn text(row: &str) -> String {
    match row.strip_prefix("tcp:") {
        Some(more) => {
            let (inside, behind) = more.split_once('|').unwrap_or((more, ""));
            format!(r#""listeners": {{"tcp": {{"url": "tcp://127.0.0.1:0"{inside}}}}}{behind}"#)
        }
        None => {
            let (beside, behind) = row.split_once('|').unwrap_or((row, ""));
            format!(r#""listeners": {{{TCP}{beside}}}{behind}"#)
        }
    }
}

const ROWS: &[Row] = &[
    ("", "", &[], Nothing),
    ("", "|, \"maxQueueDepth\": 7", &["~ maxQueueDepth 100 -> 7 (new Sessions)"], Nothing),
    (
        "|, \"limits\": {\"maxInflight\": 9}",
        "|, \"limits\": {\"sessionsMax\": 5}",
        &[
            "~ limits.sessionsMax 1000000 -> 5 (at once)",
            "~ limits.maxInflight 9 -> 1024 (new connections)",
        ],
        Nothing,
    ),
    ("", "|, \"workers\": 2", &["! workers 1 -> 2 (at the next start)"], Nothing),
    (
        "",
        "|, \"logging\": {\"debug\": \"stderr\"}",
        &["! logging.debug discard -> stderr (at the next start)"],
        Nothing,
    ),
    (
        "",
        ", \"ws\": {\"url\": \"ws://127.0.0.1:0/mqtt\"}",
        &["+ listener ws ws://127.0.0.1:0/mqtt"],
        Nothing,
    ),
    (
        ", \"ws\": {\"url\": \"ws://127.0.0.1:0/mqtt\"}",
        "",
        &["- listener ws ws://127.0.0.1:0/mqtt"],
        Nothing,
    ),
    (
        ", \"ws\": {\"url\": \"ws://127.0.0.1:0/mqtt\"}",
        ", \"ws\": {\"url\": \"ws://127.0.0.1:0/mqtt\", \"origins\": [\"https://example.org\"]}",
        &["~ listeners.ws.origins (none) -> https://example.org (new connections)"],
        Nothing,
    ),
    (
        ", \"a b\": {\"url\": \"tcp://127.0.0.1:0\"}",
        ", \"a b\": {\"url\": \"tcp://127.0.0.1:0\", \"qosMax\": 0}",
        &["~ listeners.\"a b\".qosMax (none) -> 0 (new connections)"],
        Nothing,
    ),
    (
        "tcp:",
        "tcp:, \"networksDenied\": [\"10.0.0.0/8\"]",
        &["~ listeners.tcp.networksDenied (none) -> 10.0.0.0/8 (at once)"],
        Nothing,
    ),
    (
        "tcp:",
        "tcp:, \"networksDenied\": [\"127.0.0.0/8\"]",
        &["~ listeners.tcp.networksDenied (none) -> 127.0.0.0/8 (at once)"],
        TheEnd,
    ),
    (
        "tcp:",
        "tcp:, \"networksAllowed\": [\"10.0.0.0/8\"]",
        &["~ listeners.tcp.networksAllowed (none) -> 10.0.0.0/8 (at once)"],
        TheEnd,
    ),
    (
        "tcp:",
        "tcp:, \"versions\": [\"3.1.1\"]",
        &["~ listeners.tcp.versions (none) -> 3.1.1 (at once)"],
        Nothing,
    ),
    (
        "tcp:",
        "tcp:, \"versions\": [\"5.0\"]",
        &["~ listeners.tcp.versions (none) -> 5.0 (at once)"],
        TheEnd,
    ),
    (
        "tcp:",
        "tcp:, \"mountPoint\": \"site\"",
        &["~ listeners.tcp.mountPoint (none) -> site/ (at once)"],
        TheEnd,
    ),
    (
        "tcp:",
        "tcp:, \"connectionsMax\": 1",
        &["~ listeners.tcp.connectionsMax (none) -> 1 connections (at once)"],
        Nothing,
    ),
    (
        "tcp:",
        "tcp:, \"proxyProtocol\": [\"10.0.0.0/8\"]",
        &["~ listeners.tcp.proxyProtocol (none) -> 10.0.0.0/8 (new connections)"],
        Nothing,
    ),
    (
        "tcp:",
        "tcp:|, \"access\": {\"anonymous\": true}",
        &["~ access.anonymous true (default) -> true (at once)"],
        TheEnd,
    ),
    (
        "tcp:",
        "tcp:|, \"access\": {\"anonymous\": false}",
        &["~ access.anonymous true -> false (at once)"],
        TheEnd,
    ),
    (
        "tcp:|, \"access\": {\"anonymous\": true}",
        "tcp:|, \"access\": {\"anonymous\": true, \"aclFile\": \"acl\"}",
        &["~ access.aclFile (none) -> acl (at once)"],
        Nothing,
    ),
    (
        "tcp:|, \"access\": {\"anonymous\": true}",
        "tcp:, \"anonymous\": false|, \"access\": {\"anonymous\": true}",
        &["~ listeners.tcp.anonymous (none) -> false (at once)"],
        TheEnd,
    ),
    (
        "tcp:|, \"access\": {\"anonymous\": true}",
        "tcp:|, \"access\": {\"anonymous\": true, \"deniedPublish\": \"disconnect\"}",
        &["~ access.deniedPublish (none) -> disconnect (at once)"],
        Nothing,
    ),
    (
        "tcp:|, \"access\": {\"anonymous\": true, \"http\": {\"userUrl\": \"http://127.0.0.1:9/u?k=one\"}}",
        "tcp:|, \"access\": {\"anonymous\": true, \"http\": {\"userUrl\": \"http://127.0.0.1:9/u?k=two\"}}",
        &["~ access.http a query -> another query (at once)"],
        Nothing,
    ),
    (
        "",
        "|, \"limits\": {\"tcpKeepAliveSecs\": 9, \"handshakesMax\": 1, \"addressConnectsPerSecMax\": 1000}",
        &[
            "~ limits.handshakesMax 4096 -> 1 (at once)",
            "~ limits.tcpKeepAliveSecs 120 -> 9 (new connections)",
            "~ limits.addressConnectsPerSecMax 0 -> 1000 (at once)",
        ],
        Nothing,
    ),
];

#[test]
fn every_kind_of_change_has_its_lines_and_its_effect() {
    assert!(ROWS.len() >= 20);
    for (old, new, lines, sees) in ROWS {
        let house = House::start(&text(old));
        house.write("acl", "topic readwrite #\n");
        let mut client = house.connect("tcp", "c");
        let endpoint = house.endpoint("tcp");
        let mut events = house.server.broker().events();
        let planned = house.plan(&text(new));
        assert_eq!(planned, *lines, "{old} to {new}");
        assert_eq!(*house.server.config(), config(&text(old)), "a plan does nothing: {new}");
        assert_eq!(house.reload(&text(new)).unwrap(), planned, "{old} to {new}");
        match sees {
            Nothing => client.ping(),
            TheEnd => client.expect_closed(),
        }
        assert_eq!(*house.server.config(), config(&text(new)), "{new}");
        assert_eq!(house.plan(&text(new)), [""; 0], "{new}");
        assert_eq!(house.endpoint("tcp"), endpoint, "{new}");
        let told = in_time(async {
            loop {
                let event = events.next().await.unwrap().unwrap();
                if let Happening::Reloaded { changes } = &event.what {
                    return changes.clone();
                }
            }
        });
        assert_eq!(told, planned, "{new}");
        drop(client); // a stop would wait for its end
        in_time(house.server.stop());
    }
}

#[test]
fn limits_hold_from_when_their_lines_say() {
    let listener = format!(r#""listeners": {{{TCP}}}"#);
    let house = House::start(&listener);
    let mut before = house.connect("tcp", "before");
    let limits =
        r#""limits": {"sessionsMax": 2, "topicBytesMax": 3, "sessionSubscriptionsMax": 1}"#;
    house.reload(&format!("{listener}, {limits}")).unwrap();
    // It keeps the limit on topics that it began with, and not that on subscriptions.
    before.publish("long/topic", "x", 1, 1);
    assert_eq!(before.packet(), [0x40, 2, 0, 1]);
    before.subscribe("a", 0);
    before.send(&crate::peer::subscribe_packet("b", 0));
    assert_eq!(before.packet(), [0x90, 3, 0, 1, 0x80]);
    let mut after = house.connect("tcp", "after");
    after.publish("long/topic", "x", 1, 1);
    after.expect_closed();
    let mut third = house.connect("tcp", "third");
    third.ping();
    let mut refused = crate::peer::Peer::dial(&house.endpoint("tcp"));
    refused.send(&crate::peer::connect_packet("fourth"));
    assert_eq!(refused.packet(), [0x20, 2, 0, 3]);
}

#[test]
fn access_rules_hold_at_once_for_a_client_that_is_connected() {
    let text =
        format!(r#""listeners": {{{TCP}}}, "access": {{"anonymous": true, "aclFile": "acl"}}"#);
    let directory = crate::house::directory();
    crate::house::write(&directory, "acl", "topic readwrite #\n");
    let house = House::start_in(directory, &text);
    let (mut subscriber, mut publisher) = (house.connect("tcp", "s"), house.connect("tcp", "p"));
    subscriber.subscribe("#", 0);
    publisher.publish("a", "1", 1, 1);
    assert_eq!(publisher.packet(), [0x40, 2, 0, 1]);
    assert_eq!(subscriber.packet(), b"\x30\x04\x00\x01a1");

    house.write("acl", "topic readwrite b\ntopic write a\n");
    let file = house.directory.join("acl").display().to_string();
    let expected = format!("~ access.aclFile {file}: contents changed (at once)");
    assert_eq!(house.plan(&text), [expected.as_str()]);
    assert_eq!(house.reload(&text).unwrap(), [expected]);
    publisher.publish("a", "2", 1, 2);
    assert_eq!(publisher.packet(), [0x40, 2, 0, 2]);
    publisher.publish("b", "3", 1, 3);
    assert_eq!(publisher.packet(), [0x40, 2, 0, 3]);
    assert_eq!(subscriber.packet(), b"\x30\x04\x00\x01b3", "it may not receive `a` any more");
}

#[test]
fn bans_that_were_added_while_it_ran_stay() {
    use hrotti::access::{Ban, BanTarget};

    let text = format!(
        r#""listeners": {{{TCP}}}, "access": {{"anonymous": true, "bansFile": "bans.json"}}"#
    );
    let directory = crate::house::directory();
    crate::house::write(&directory, "bans.json", r#"{"bans": [{"client": "by-file"}]}"#);
    let house = House::start_in(directory, &text);
    let client = |id: &str| BanTarget::Client(id.to_owned());
    let bans = house.server.loaded().access().bans().unwrap().clone();
    bans.add(Ban::new(client("added"))).unwrap();
    house.write("bans.json", r#"{"bans": [{"client": "by-the-new-file"}]}"#);
    assert_eq!(house.reload(&text).unwrap().len(), 1);
    let bans = house.server.loaded().access().bans().unwrap().list();
    let targets: Vec<BanTarget> = bans.into_iter().map(|ban| ban.target).collect();
    assert_eq!(targets, [client("added"), client("by-the-new-file")]);
}
