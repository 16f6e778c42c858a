//! After a reload a server is as one that was started with the new configuration.

use std::io::{Read, Write};
use std::net::TcpStream;

use hrotti::access::{Action, Identity, Request, Rule};
use proptest::prelude::*;

use crate::house::{House, directory, write};
use crate::peer::{DEADLINE, in_time};

/// A configuration and its files.
#[derive(Debug, Clone)]
struct Drawn {
    text: String,
    acl: &'static str,
}

fn rules() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        Just(String::new()),
        (0..=2_u8).prop_map(|qos| format!(r#", "qosMax": {qos}"#)),
        any::<bool>().prop_map(|on| format!(r#", "anonymous": {on}"#)),
        Just(r#", "versions": ["3.1.1", "3.1"]"#.to_owned()),
        Just(r#", "networksDenied": ["127.0.0.1"]"#.to_owned()),
        Just(r#", "mountPoint": "site""#.to_owned()),
        (1..3_u8).prop_map(|max| format!(r#", "connectionsMax": {max}"#)),
    ];
    one.boxed()
}

fn url() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        3 => Just("tcp://127.0.0.1:0"),
        1 => Just("ws://127.0.0.1:0/mqtt"),
        1 => Just("ws://127.0.0.1:0/other"),
        1 => Just("tcp://localhost:0"),
    ]
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let listener = (proptest::sample::select(vec!["a", "b", "c"]), url(), rules());
    let listeners = proptest::collection::vec(listener, 1..4);
    let limits = (1..9_u16, 1..9_u16, any::<bool>(), 200..400_u32);
    let access = proptest::sample::select(vec![
        "",
        r#", "access": {"anonymous": true}"#,
        r#", "access": {"anonymous": false}"#,
        r#", "access": {"anonymous": true, "aclFile": "acl"}"#,
        r#", "access": {"aclFile": "acl", "bansFile": "bans"}"#,
    ]);
    let acl =
        proptest::sample::select(vec!["topic readwrite #\n", "topic read a\n", "topic write b\n"]);
    (listeners, limits, access, acl).prop_map(|(listeners, limits, access, acl)| {
        let mut seen: Vec<String> = Vec::new();
        let mut named = Vec::new();
        for (name, url, rules) in listeners {
            if !seen.contains(&name.to_owned()) {
                seen.push(name.to_owned());
                named.push(format!(r#""{name}": {{"url": "{url}"{rules}}}"#));
            }
        }
        let (inflight, alias, keep_alive, bytes) = limits;
        let keep_alive = if keep_alive { 60 } else { 90 };
        let text = format!(
            r#""listeners": {{{}}}, "limits": {{"receiveMaximum": {inflight}, "topicAliasMaximum": {alias},
                "tcpKeepAliveSecs": {keep_alive}, "packetBytesMax": {bytes}}}{access}"#,
            named.join(", ")
        );
        Drawn { text, acl }
    })
}

/// What the broker answers to these bytes, until it closes or falls silent.
fn answer(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // A peer that was closed already may not be written to any more.
    if stream.write_all(bytes).is_err() {
        return Vec::new();
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// CONNECT of 5.0 and of 3.1.1, with and without a user name; SUBSCRIBE; and a request for a WebSocket.
const PROBES: &[&[u8]] = &[
    b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01p\x82\x07\x00\x01\x00\x00\x01a\x02",
    b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01p\x82\x06\x00\x01\x00\x01b\x02",
    b"\x10\x10\x00\x04MQTT\x04\x82\x00\x00\x00\x01p\x00\x01u",
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
];

/// Everything that can be seen of a server, in an order that does not depend on its past.
fn observed(house: &House) -> Vec<String> {
    let server = &house.server;
    let mut seen =
        vec![format!("{:?}", server.config()), format!("{:?}", server.broker().limits())];
    let directory = house.directory.display().to_string();
    seen.push(server.loaded().to_string().replace(&directory, ""));
    let without_port = |endpoint: &String| {
        let (before, after) = endpoint.rsplit_once(':').unwrap();
        let path = after.find('/').map(|at| &after[at..]).unwrap_or_default();
        format!("{before}{path}")
    };
    for listener in server.listeners() {
        let endpoints: Vec<String> = listener.endpoints.iter().map(without_port).collect();
        seen.push(format!("{} {} {} {endpoints:?}", listener.name, listener.url, listener.running));
        for probe in PROBES {
            let answer = answer(&house.address(&listener.name), probe);
            seen.push(format!("{}: {}", listener.name, answer.escape_ascii()));
        }
    }
    if let Some(policy) = server.loaded().access().policy() {
        let identity = Identity::new(Rule::named("a test"));
        for (action, topic) in
            [(Action::Publish, "a"), (Action::Publish, "b"), (Action::Receive, "a")]
        {
            let request = Request { identity: &identity, client_id: "c", action, topic };
            seen.push(format!("{action:?} {topic}: {:?}", policy.authorize(&request).is_allowed()));
        }
    }
    seen
}

fn house(drawn: &Drawn) -> House {
    let directory = directory();
    write(&directory, "acl", drawn.acl);
    write(&directory, "bans", r#"{"bans": [{"client": "banned"}]}"#);
    House::start_in(directory, &drawn.text)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reload_ends_where_a_fresh_start_begins(old in drawn(), between in drawn(), new in drawn()) {
        let fresh = house(&new);
        let reloaded = house(&old);
        for next in [&between, &new] {
            reloaded.write("acl", next.acl);
            reloaded.reload(&next.text).unwrap();
        }
        prop_assert_eq!(observed(&reloaded), observed(&fresh));
        prop_assert_eq!(reloaded.plan(&new.text), [""; 0]);
        in_time(reloaded.server.stop());
        in_time(fresh.server.stop());
    }
}
