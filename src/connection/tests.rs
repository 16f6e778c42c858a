//! Every state, every packet, every version.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::packet::testing::{
    ALL, OLD, V3_1, V3_1_1, V5, Written, binary, packet, property, section, string, whole,
};

mod exchange;

const CLEAN: u8 = 2;
const AT: Timestamp = Timestamp(1_000_000);

/// What a CONNECT says.
struct Ask {
    version: ProtocolVersion,
    flags: u8,
    keep_alive: u16,
    client_id: &'static str,
    properties: Vec<Vec<u8>>,
}

impl Ask {
    fn new(version: ProtocolVersion) -> Ask {
        Ask { version, flags: CLEAN, keep_alive: 60, client_id: "c", properties: Vec::new() }
    }

    fn bytes(&self) -> Vec<u8> {
        let (name, level) = match self.version {
            ProtocolVersion::V3_1 => ("MQIsdp", 3),
            ProtocolVersion::V3_1_1 => ("MQTT", 4),
            ProtocolVersion::V5 => ("MQTT", 5),
        };
        let mut parts =
            vec![string(name), vec![level, self.flags], self.keep_alive.to_be_bytes().to_vec()];
        if self.version == V5 {
            parts.push(section(&self.properties));
        }
        parts.push(string(self.client_id));
        packet(0x10, &parts)
    }
}

fn new(limits: Limits) -> Connection {
    Connection::new(Arc::new(limits))
}

/// What a packet leads to, in a few words, and what was written at once.
fn handle(connection: &mut Connection, bytes: &[u8]) -> (Result<String, Fault>, Vec<u8>) {
    let (header, body) = whole(bytes).unwrap();
    let mut out = Vec::new();
    let action = connection.handle(header, body, &mut out);
    (action.map(|action| word(&action)), out)
}

fn word(action: &Action<'_>) -> String {
    match action {
        Action::None => "none".into(),
        Action::Open(connect) => format!("open {:?}", connect.client_id),
        Action::Publish(publish, topic) => {
            format!("publish {:?} {}", publish.packet_id.map(PacketId::get), topic.as_str())
        }
        Action::Acknowledged(kind, ack) => format!("{kind:?} {}", ack.packet_id.get()),
        Action::Release(id) => format!("release {}", id.get()),
        Action::Subscribe(subscribe) => format!("subscribe {}", subscribe.packet_id.get()),
        Action::Unsubscribe(packet) => format!("unsubscribe {}", packet.packet_id.get()),
        Action::Authenticate { again, data } => format!("auth {again} {}", data.len()),
        Action::Leave { reason, session_expiry_secs } => {
            format!("leave {reason:?} {session_expiry_secs:?}")
        }
    }
}

fn open(ask: &Ask, limits: Limits) -> Connection {
    let mut connection = new(limits);
    let (action, out) = handle(&mut connection, &ask.bytes());
    assert!(action.unwrap().starts_with("open"));
    assert!(out.is_empty() && !connection.is_connected());
    connection
}

fn plain() -> Accepted<'static> {
    Accepted { session_present: false, assigned_client_id: None, session_expiry_secs: None }
}

fn connected_with(ask: &Ask, limits: Limits) -> Connection {
    let mut connection = open(ask, limits);
    connection.accept(&plain(), &mut Vec::new());
    assert!(connection.is_connected());
    connection
}

fn connected(version: ProtocolVersion) -> Connection {
    connected_with(&Ask::new(version), Limits::default())
}

fn refused(connection: &mut Connection, fault: Fault) -> Vec<u8> {
    let mut out = Vec::new();
    connection.refuse(fault, &mut out);
    out
}

/// A CONNACK or DISCONNECT of MQTT 5: kind, Reason Code, Reason String.
fn last_words(bytes: &[u8]) -> (u8, u8, Option<String>) {
    let mut written = Written::parse(bytes);
    if written.header == 0x20 {
        assert_eq!(written.byte(), 0, "no Session Present with an error (MQTT-3.2.2-6)");
    }
    let reason = written.byte();
    let properties = if written.is_empty() { Vec::new() } else { written.properties() };
    let text = properties.into_iter().find(|(id, _)| *id == 0x1F);
    (written.header >> 4, reason, text.map(|(_, text)| String::from_utf8(text).unwrap()))
}

/// Packets of a Client that are right after CONNECT, and what they lead to.
fn rows(version: ProtocolVersion) -> Vec<(Vec<u8>, &'static str)> {
    let none: Vec<u8> = if version == V5 { vec![0] } else { Vec::new() };
    let publish = |header, id: &[u8]| {
        packet(header, &[string("t"), id.to_vec(), none.clone(), b"payload".to_vec()])
    };
    vec![
        (publish(0x30, &[]), "publish None t"),
        (publish(0x32, &[0, 9]), "publish Some(9) t"),
        (publish(0x3C, &[0, 9]), "publish Some(9) t"),
        (vec![0x40, 2, 0, 9], "PubAck 9"),
        (vec![0x50, 2, 0, 9], "PubRec 9"),
        (vec![0x62, 2, 0, 9], "release 9"),
        (vec![0x70, 2, 0, 9], "PubComp 9"),
        (packet(0x82, &[vec![0, 9], none.clone(), string("f"), vec![1]]), "subscribe 9"),
        (packet(0xA2, &[vec![0, 9], none, string("f")]), "unsubscribe 9"),
        (vec![0xC0, 0], "none"),
        (vec![0xE0, 0], "leave 0x00 Success None"),
    ]
}

#[test]
fn the_first_packet_is_connect_mqtt_3_1_0_1() {
    for version in ALL {
        for (bytes, _) in rows(*version).into_iter().chain([(vec![0xF0, 0], "")]) {
            let mut connection = new(Limits::default());
            let (result, out) = handle(&mut connection, &bytes);
            let fault = result.unwrap_err();
            assert!(matches!(fault, Fault::Protocol(text) if text.starts_with("MQTT-3.1.0-1")));
            assert!(out.is_empty());
            assert!(refused(&mut connection, fault).is_empty(), "to whom nobody can speak");
            assert!(!connection.is_connected());
        }
    }
}

#[test]
fn a_second_connect_closes_mqtt_3_1_0_2() {
    for version in ALL {
        let mut connection = connected(*version);
        let (result, _) = handle(&mut connection, &Ask::new(*version).bytes());
        let fault = result.unwrap_err();
        assert!(matches!(fault, Fault::Protocol(text) if text.starts_with("MQTT-3.1.0-2")));
        let out = refused(&mut connection, fault);
        if *version == V5 {
            assert_eq!(last_words(&out), (14, 0x82, Some(fault.detail().to_owned())));
        } else {
            assert!(out.is_empty(), "3.x knows no DISCONNECT by the Server");
        }
    }
}

#[test]
fn what_each_packet_leads_to() {
    for version in ALL {
        for (bytes, expected) in rows(*version) {
            let mut connection = connected(*version);
            let (result, out) = handle(&mut connection, &bytes);
            assert_eq!(result.unwrap(), expected, "{version}");
            let pong: &[u8] = if bytes[0] == 0xC0 { &[0xD0, 0] } else { &[] };
            assert_eq!(out, pong, "MQTT-3.12.4-1");
        }
    }
}

#[test]
fn nothing_is_heard_while_connect_is_decided_or_after_the_end() {
    for version in ALL {
        for (bytes, _) in rows(*version) {
            let mut deciding = open(&Ask::new(*version), Limits::default());
            assert_eq!(handle(&mut deciding, &bytes), (Ok("none".into()), Vec::new()));
            let mut closed = connected(*version);
            let _last = refused(&mut closed, Fault::Protocol("x"));
            assert_eq!(handle(&mut closed, &bytes), (Ok("none".into()), Vec::new()));
            assert!(!closed.is_connected());
        }
    }
}

#[test]
fn server_packets_and_reserved_ones_are_faults() {
    for version in ALL {
        for header in [0x20_u8, 0x90, 0xB0, 0xD0, 0x00] {
            let mut connection = connected(*version);
            assert!(connection.handle(header, &[0, 1, 0], &mut Vec::new()).is_err());
        }
    }
}

fn connack(limits: Limits, ask: &Ask, accepted: &Accepted<'_>) -> Vec<u8> {
    let mut connection = open(ask, limits);
    let mut out = Vec::new();
    connection.accept(accepted, &mut out);
    out
}

#[test]
fn connack_says_what_differs_from_the_standard_mqtt_3_1_4_5() {
    let say = |limits: Limits, accepted: &Accepted<'_>| {
        let bytes = connack(limits, &Ask::new(V5), accepted);
        let mut written = Written::parse(&bytes);
        assert_eq!(written.header, 0x20);
        let fixed = (written.byte(), written.byte());
        let properties = written.properties();
        assert!(written.is_empty());
        (fixed, properties)
    };
    let (fixed, properties) = say(Limits::default(), &plain());
    assert_eq!(fixed, (0, 0));
    assert_eq!(properties, [(0x21, vec![4, 0]), (0x22, vec![0, 10])]);
    let unlimited =
        Limits { receive_maximum: u16::MAX, topic_alias_maximum: 0, ..Limits::default() };
    assert_eq!(say(unlimited.clone(), &plain()).1, []);
    let limits = Limits { packet_bytes_max: 1_000, keep_alive_secs_max: 30, ..unlimited };
    let accepted = Accepted {
        session_present: true,
        assigned_client_id: Some("auto"),
        session_expiry_secs: Some(7),
    };
    let (fixed, mut properties) = say(limits, &accepted);
    properties.sort();
    assert_eq!(fixed, (1, 0), "MQTT-3.2.2-3");
    let expected = [
        (0x11, vec![0, 0, 0, 7]),
        (0x12, b"auto".to_vec()), // MQTT-3.2.2-16
        (0x13, vec![0, 30]),      // MQTT-3.2.2-21
        (0x27, vec![0, 0, 3, 0xE8]),
    ];
    assert_eq!(properties, expected);
}

/// paho-mqtt refuses a CONNACK whose Maximum Packet Size exceeds the largest Remaining Length.
#[test]
fn connack_announces_no_more_than_the_largest_remaining_length() {
    let announced = |packet_bytes_max| {
        let limits = Limits { packet_bytes_max, ..Limits::default() };
        let connack = connack(limits, &Ask::new(V5), &plain());
        let at = connack.iter().position(|&byte| byte == 0x27)?;
        connack[at + 1..at + 5].try_into().ok().map(u32::from_be_bytes)
    };
    assert_eq!(announced(268_435_460), None, "no limit: what the standard can say");
    for above in [268_435_459, 268_435_456, 268_435_455] {
        assert_eq!(announced(above), Some(268_435_455));
    }
    assert_eq!(announced(268_435_454), Some(268_435_454));
}

#[test]
fn connack_of_3_1_and_3_1_1_says_session_present_or_nothing() {
    let present = Accepted { session_present: true, session_expiry_secs: Some(9), ..plain() };
    let limits = Limits { keep_alive_secs_max: 5, ..Limits::default() };
    for (version, accepted, expected) in [
        (V3_1, plain(), [0x20, 2, 0, 0]),
        (V3_1, present, [0x20, 2, 0, 0]),
        (V3_1_1, plain(), [0x20, 2, 0, 0]),
    ] {
        assert_eq!(connack(limits.clone(), &Ask::new(version), &accepted), expected);
    }
    let present = Accepted { session_present: true, ..plain() };
    assert_eq!(connack(limits, &Ask::new(V3_1_1), &present), [0x20, 2, 1, 0]);
}

#[test]
fn silence_ends_it_after_one_and_a_half_times_the_keep_alive_mqtt_3_1_2_22() {
    // What was asked, the limit, and the seconds that count in MQTT 5; 3.x is never overridden.
    for (asked, max, counts) in [
        (60, 0, 60),
        (0, 0, 0),
        (60, 60, 60),
        (61, 60, 60),
        (0, 60, 60),
        (1, 60, 1),
        (65_535, 0, 65_535),
    ] {
        for version in ALL {
            let limits = Limits { keep_alive_secs_max: max, ..Limits::default() };
            let ask = Ask { keep_alive: asked, ..Ask::new(*version) };
            let connection = connected_with(&ask, limits.clone());
            let secs = if *version == V5 { counts } else { asked };
            let expected = match secs {
                0 => Timestamp::NEVER,
                secs => Timestamp(AT.0 + u64::from(secs) * 1_500),
            };
            assert_eq!(connection.keep_alive_deadline(AT), expected, "{version} {asked} {max}");
            if *version == V5 {
                let bytes = connack(limits, &ask, &plain());
                let mut written = Written::parse(&bytes);
                let _fixed = written.two_bytes();
                let said = written.properties().into_iter().find(|(id, _)| *id == 0x13);
                let overridden = (asked != counts).then(|| counts.to_be_bytes().to_vec());
                assert_eq!(said.map(|(_, value)| value), overridden, "MQTT-3.2.2-21");
            }
        }
    }
    assert_eq!(new(Limits::default()).keep_alive_deadline(AT), Timestamp::NEVER);
}

#[test]
fn a_refused_connect_is_told_as_its_version_allows_mqtt_3_1_4_1_and_3_2_2_6() {
    let refusals = [
        (ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, Some(1)),
        (ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, Some(2)),
        (ReasonCode::SERVER_SHUTTING_DOWN, Some(3)),
        (ReasonCode::QUOTA_EXCEEDED, Some(3)),
        (ReasonCode::BAD_USER_NAME_OR_PASSWORD, Some(4)),
        (ReasonCode::NOT_AUTHORIZED, Some(5)),
        (ReasonCode::TOPIC_NAME_INVALID, None),
    ];
    for version in ALL {
        for (reason, code) in refusals {
            for fault in [Fault::Refused(reason, "why"), Fault::Server(reason, "why")] {
                let mut connection = open(&Ask::new(*version), Limits::default());
                let out = refused(&mut connection, fault);
                if *version == V5 {
                    assert_eq!(last_words(&out), (2, reason.value(), Some("why".into())));
                } else {
                    let expected = code.map_or(Vec::new(), |code| vec![0x20, 2, 0, code]);
                    assert_eq!(out, expected, "{version} {reason}");
                }
                assert!(refused(&mut connection, fault).is_empty(), "once");
            }
        }
        for fault in [Fault::Malformed("why"), Fault::Protocol("why")] {
            let mut connection = open(&Ask::new(*version), Limits::default());
            let out = refused(&mut connection, fault);
            if *version == V5 {
                assert_eq!(last_words(&out), (2, fault.reason().value(), Some("why".into())));
            } else {
                assert!(out.is_empty(), "no CONNACK for what is no CONNECT");
            }
        }
    }
}

#[test]
fn a_bad_connect_is_told_where_its_version_is_known() {
    for version in ALL {
        let mut connection = new(Limits::default());
        let ask = Ask { flags: CLEAN | 0b0001_1100, ..Ask::new(*version) };
        let (result, out) = handle(&mut connection, &ask.bytes());
        let fault = result.unwrap_err();
        assert!(out.is_empty() && fault.detail().starts_with("MQTT-3.1.2-12"));
        let out = refused(&mut connection, fault);
        if *version == V5 {
            assert_eq!(last_words(&out).1, 0x81);
        } else {
            assert!(out.is_empty());
        }
    }
}

#[test]
fn a_connection_is_ended_as_its_version_allows_mqtt_3_14_0_1() {
    for version in ALL {
        let mut connection = connected(*version);
        let fault = Fault::Server(ReasonCode::KEEP_ALIVE_TIMEOUT, "why");
        let out = refused(&mut connection, fault);
        if *version == V5 {
            assert_eq!(last_words(&out), (14, 0x8D, Some("why".into())));
        } else {
            assert!(out.is_empty());
        }
        assert!(refused(&mut connection, fault).is_empty(), "once");
    }
}

#[test]
fn a_reason_string_yields_to_maximum_packet_size_mqtt_3_2_2_19_and_3_14_2_3() {
    let maximum = |size: u32| property(0x27, &size.to_be_bytes());
    let fault = Fault::Refused(ReasonCode::QUOTA_EXCEEDED, "a long explanation");
    for (size, text) in [(100, true), (20, false)] {
        let ask = Ask { properties: vec![maximum(size)], ..Ask::new(V5) };
        let mut deciding = open(&ask, Limits::default());
        let out = refused(&mut deciding, fault);
        let (kind, reason, said) = last_words(&out);
        assert_eq!((kind, reason, said.is_some()), (2, 0x97, text));
        let mut connected = connected_with(&ask, Limits::default());
        let (kind, reason, said) = last_words(&refused(&mut connected, fault));
        assert_eq!((kind, reason, said.is_some()), (14, 0x97, text));
    }
}

/// All levels under both names. Bit 7 says "bridge" in 3.1 and 3.1.1, as mosquitto sends it.
#[test]
fn unknown_levels_are_told_in_the_form_that_the_client_reads_mqtt_3_1_2_2() {
    let all = (0..=255_u8).flat_map(|level| [("MQTT", level), ("MQIsdp", level)]);
    for (name, level) in all {
        let mut connection = new(Limits::default());
        let bytes = packet(0x10, &[string(name), vec![level, 2, 0, 60], string("c")]);
        let (result, out) = handle(&mut connection, &bytes);
        if matches!((name, level), ("MQTT", 4 | 0x84) | ("MQIsdp", 3 | 0x83)) {
            assert_eq!(result.unwrap(), "open \"c\"");
            assert_eq!(connection.version(), if name == "MQTT" { V3_1_1 } else { V3_1 });
            assert_eq!(connection.is_bridge(), level >= 0x80);
            continue;
        }
        let fault = result.unwrap_err();
        assert!(!connection.is_bridge());
        if (name, level) == ("MQTT", 5) {
            assert_eq!(fault.reason(), ReasonCode::MALFORMED_PACKET, "it lacks its properties");
            continue;
        }
        assert_eq!(fault.reason(), ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
        if level & 0x7F >= 5 && level != 5 {
            assert_eq!(last_words(&out).1, 0x84, "{name} {level}");
        } else {
            assert_eq!(out, [0x20, 2, 0, 1], "{name} {level}");
        }
        assert!(refused(&mut connection, fault).is_empty(), "told already");
    }
}

#[test]
fn an_empty_client_identifier_by_version_mqtt_3_1_3_6_to_8() {
    for (version, flags, accepted) in [
        (V3_1, CLEAN, false),
        (V3_1, 0, false),
        (V3_1_1, CLEAN, true),
        (V3_1_1, 0, false),
        (V5, CLEAN, true),
        (V5, 0, true),
    ] {
        let mut connection = new(Limits::default());
        let ask = Ask { flags, client_id: "", ..Ask::new(version) };
        let (result, _) = handle(&mut connection, &ask.bytes());
        match result {
            Ok(action) => assert!(accepted && action == "open \"\"", "{version} {flags}"),
            Err(fault) => {
                assert!(!accepted, "{version} {flags}");
                assert_eq!(fault.reason(), ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
                assert_eq!(refused(&mut connection, fault), [0x20, 2, 0, 2]);
            }
        }
    }
}

#[test]
fn auth_after_connect_is_a_protocol_error_mqtt_4_12_0_7() {
    let method = section(&[property(0x15, &string("SCRAM-SHA-1"))]);
    for reason in [0x18, 0x19] {
        let bytes = packet(0xF0, &[vec![reason], method.clone()]);
        let mut connection = connected(V5);
        let fault = handle(&mut connection, &bytes).0.unwrap_err();
        assert!(matches!(fault, Fault::Protocol(text) if text.starts_with("MQTT-4.12.0-7")));
        assert_eq!(last_words(&refused(&mut connection, fault)).1, 0x82);
        for version in OLD {
            let fault = handle(&mut connected(*version), &bytes).0.unwrap_err();
            assert!(matches!(fault, Fault::Malformed(_)), "a reserved type in 3.x");
        }
    }
}

/// A PUBLISH of QoS 0 with a Topic Alias.
fn aliased(topic: &str, alias: u16) -> Vec<u8> {
    packet(0x30, &[string(topic), section(&[property(0x23, &alias.to_be_bytes())])])
}

#[test]
fn topic_aliases_are_learnt_and_learnt_anew_mqtt_3_3_2_12() {
    let limits = Limits { topic_alias_maximum: 3, ..Limits::default() };
    let mut connection = connected_with(&Ask::new(V5), limits.clone());
    for (topic, alias, resolved) in [
        ("a", 3, "a"),
        ("", 3, "a"),
        ("b", 1, "b"),
        ("", 1, "b"),
        ("", 3, "a"),
        ("c", 3, "c"),
        ("", 3, "c"),
        ("a", 1, "a"),
        ("", 1, "a"),
    ] {
        let (action, _) = handle(&mut connection, &aliased(topic, alias));
        assert_eq!(action.unwrap(), format!("publish None {resolved}"));
    }
    // MQTT-3.3.2-7: another Network Connection knows nothing of it.
    let fault = handle(&mut connected_with(&Ask::new(V5), limits), &aliased("", 3)).0;
    assert!(matches!(fault, Err(Fault::Protocol(_))));
}

#[test]
fn topic_aliases_out_of_range_mqtt_3_3_2_8_and_9() {
    for (maximum, topic, alias, expected) in [
        (10, "a", 0, ReasonCode::TOPIC_ALIAS_INVALID),
        (10, "a", 11, ReasonCode::TOPIC_ALIAS_INVALID),
        (10, "", 11, ReasonCode::TOPIC_ALIAS_INVALID),
        (10, "a", 65_535, ReasonCode::TOPIC_ALIAS_INVALID),
        (0, "a", 1, ReasonCode::TOPIC_ALIAS_INVALID),
        (10, "", 10, ReasonCode::PROTOCOL_ERROR),
    ] {
        let limits = Limits { topic_alias_maximum: maximum, ..Limits::default() };
        let mut connection = connected_with(&Ask::new(V5), limits);
        let fault = handle(&mut connection, &aliased(topic, alias)).0.unwrap_err();
        assert_eq!(fault.reason(), expected, "{maximum} {topic:?} {alias}");
    }
}

/// Answers a PUBLISH of this QoS.
fn answered(connection: &Connection, qos: u8, reason: ReasonCode) -> Vec<u8> {
    let mut body = string("t");
    if qos > 0 {
        body.extend([1, 2]);
    }
    if connection.is_v5() {
        body.push(0);
    }
    let header = 0x30 | qos << 1;
    let FromClient::Publish(publish) = decode::decode(connection.version(), header, &body).unwrap()
    else {
        panic!("no PUBLISH");
    };
    let mut out = Vec::new();
    let text = "this Topic Name is reserved for the Server";
    connection.acknowledge(publish.qos, publish.packet_id, reason, text, &mut out);
    out
}

#[test]
fn publish_is_answered_by_its_qos_mqtt_3_3_4_1() {
    let (ok, nobody) = (ReasonCode::SUCCESS, ReasonCode::NO_MATCHING_SUBSCRIBERS);
    for version in ALL {
        let connection = connected(*version);
        assert!(answered(&connection, 0, ReasonCode::NOT_AUTHORIZED).is_empty());
        assert_eq!(answered(&connection, 1, ok), [0x40, 2, 1, 2]);
        assert_eq!(answered(&connection, 2, ok), [0x50, 2, 1, 2]);
        let (one, two) = (answered(&connection, 1, nobody), answered(&connection, 2, nobody));
        if *version == V5 {
            assert_eq!(one, [0x40, 3, 1, 2, 0x10]);
            assert_eq!(two, [0x50, 3, 1, 2, 0x10]);
        } else {
            assert_eq!(one, [0x40, 2, 1, 2]);
            assert_eq!(two, [0x50, 2, 1, 2]);
        }
    }
}

#[test]
fn an_answer_has_a_reason_string_only_for_who_wants_it_mqtt_3_1_2_29() {
    let denied = ReasonCode::NOT_AUTHORIZED;
    for (properties, text) in [
        (vec![], true),
        (vec![property(0x17, &[1])], true),
        (vec![property(0x17, &[0])], false),
        (vec![property(0x27, &[0, 0, 0, 12])], false), // MQTT-3.4.2-2
    ] {
        let connection = connected_with(&Ask { properties, ..Ask::new(V5) }, Limits::default());
        for (qos, header) in [(1, 0x40), (2, 0x50)] {
            let bytes = answered(&connection, qos, denied);
            let mut written = Written::parse(&bytes);
            assert_eq!((written.header, written.two_bytes()), (header, 0x0102));
            assert_eq!(written.byte(), denied.value());
            let said = !written.is_empty() && written.properties().iter().any(|p| p.0 == 0x1F);
            assert_eq!(said, text);
        }
    }
    assert_eq!(answered(&connected(V3_1_1), 1, denied), [0x40, 2, 1, 2]);
}

#[test]
fn what_is_known_and_what_is_not_mqtt_4_3_3_4_and_11() {
    let id = PacketId::new(0x0102).unwrap();
    for version in ALL {
        let connection = connected(*version);
        for known in [true, false] {
            let (mut release, mut complete) = (Vec::new(), Vec::new());
            connection.release(id, known, &mut release);
            connection.complete(id, known, &mut complete);
            if *version == V5 && !known {
                assert_eq!(release, [0x62, 3, 1, 2, 0x92]);
                assert_eq!(complete, [0x70, 3, 1, 2, 0x92]);
            } else {
                assert_eq!(release, [0x62, 2, 1, 2]);
                assert_eq!(complete, [0x70, 2, 1, 2]);
            }
        }
    }
}

#[test]
fn suback_has_a_code_for_each_filter_and_3_1_none_for_a_failure_mqtt_3_9_3_1() {
    let id = PacketId::new(7).unwrap();
    let reasons = [ReasonCode(2), ReasonCode::QUOTA_EXCEEDED, ReasonCode(0)];
    let mut out = Vec::new();
    assert!(connected(V5).subscribed(id, &reasons, &mut out).is_ok());
    assert_eq!(out, [0x90, 6, 0, 7, 0, 2, 0x97, 0]);
    out.clear();
    assert!(connected(V3_1_1).subscribed(id, &reasons, &mut out).is_ok());
    assert_eq!(out, [0x90, 5, 0, 7, 2, 0x80, 0]);
    out.clear();
    let fault = connected(V3_1).subscribed(id, &reasons, &mut out).unwrap_err();
    assert!(out.is_empty() && fault.reason() == ReasonCode::QUOTA_EXCEEDED);
    assert!(connected(V3_1).subscribed(id, &reasons[..1], &mut out).is_ok());
    assert_eq!(out, [0x90, 3, 0, 7, 2]);
    out.clear();
    let gone = [ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED];
    assert!(connected(V5).unsubscribed(id, &gone, &mut out).is_ok());
    assert_eq!(out, [0xB0, 5, 0, 7, 0, 0, 0x11]);
    out.clear();
    assert!(connected(V3_1).unsubscribed(id, &gone, &mut out).is_ok());
    assert_eq!(out, [0xB0, 2, 0, 7]);
}

#[test]
fn an_answer_that_the_client_cannot_take_ends_it_mqtt_3_1_2_24() {
    let id = PacketId::new(7).unwrap();
    let maximum = |size: u32| {
        let properties = vec![property(0x27, &size.to_be_bytes())];
        Ask { properties, ..Ask::new(V5) }
    };
    let connection = connected_with(&maximum(15), Limits::default());
    let mut out = vec![0xD0, 0];
    let ten = [ReasonCode::SUCCESS; 10];
    assert!(connection.subscribed(id, &ten, &mut out).is_ok());
    assert!(connection.unsubscribed(id, &ten, &mut out).is_ok());
    assert_eq!(out.len(), 2 + 15 + 15);
    let too_many = [ReasonCode::SUCCESS; 11];
    for answer in [
        connection.subscribed(id, &too_many, &mut out),
        connection.unsubscribed(id, &too_many, &mut out),
    ] {
        assert_eq!(answer.unwrap_err().reason(), ReasonCode::PACKET_TOO_LARGE);
    }
    assert_eq!(out.len(), 2 + 15 + 15, "what was there stays, and nothing more");
}

#[test]
fn disconnect_discards_the_will_or_not_mqtt_3_14_4_3() {
    let expiry = section(&[property(0x11, &[0, 0, 0, 5])]);
    for (bytes, expected) in [
        (vec![0xE0, 0], "leave 0x00 Success None"),
        (vec![0xE0, 1, 0], "leave 0x00 Success None"),
        (vec![0xE0, 1, 4], "leave 0x04 Disconnect with Will Message None"),
        (vec![0xE0, 1, 0x80], "leave 0x80 Unspecified error None"),
        (packet(0xE0, &[vec![0], expiry.clone()]), "leave 0x00 Success Some(5)"),
        (packet(0xE0, &[vec![4], expiry]), "leave 0x04 Disconnect with Will Message Some(5)"),
    ] {
        assert_eq!(handle(&mut connected(V5), &bytes).0.unwrap(), expected);
    }
}

#[test]
fn packets_may_be_larger_once_connect_was_accepted_pitfall_1() {
    let limits =
        Limits { connect_packet_bytes_max: 200, packet_bytes_max: 9_000, ..Limits::default() };
    assert_eq!(new(limits.clone()).packet_bytes_max(), 200);
    assert_eq!(open(&Ask::new(V5), limits.clone()).packet_bytes_max(), 200);
    assert_eq!(connected_with(&Ask::new(V5), limits).packet_bytes_max(), 9_000);
}

#[test]
fn what_cannot_be_a_connect_is_told_by_its_first_bytes_mqtt_3_1_0_1() {
    let (fresh, connected) = (new(Limits::default()), connected(V5));
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x50", b"\x50\x02\0\x01", b"\x16\x03\x01\x02\0"] {
        let fault = fresh.next_frame(bytes).unwrap_err();
        assert!(fault.detail().starts_with("MQTT-3.1.0-1: "), "{fault}");
        assert!(refused(&mut new(Limits::default()), fault).is_empty(), "nothing is answered");
    }
    assert_eq!(fresh.next_frame(b"\x10\x0C\0\x04"), Ok(Frame::Partial { total: Some(14) }));
    assert_eq!(connected.next_frame(b"\x50"), Ok(Frame::Partial { total: None }));
}

/// MQTT-3.3.4-7; 3.1 and 3.1.1 have no Receive Maximum, and 65 535 Packet Identifiers.
#[test]
fn packet_identifiers_bound_what_3_x_leaves_open() {
    for (version, expected) in [(V3_1, 65_535), (V3_1_1, 65_535), (V5, 7)] {
        let limits = Limits { receive_maximum: 7, ..Limits::default() };
        assert_eq!(connected_with(&Ask::new(version), limits).receive_maximum(), expected);
    }
}

#[test]
fn a_client_that_cannot_take_its_connack_is_refused_before_it_gets_a_session_mqtt_3_1_2_24() {
    let limits = |packet_bytes_max, keep_alive_secs_max| Limits {
        packet_bytes_max,
        keep_alive_secs_max,
        session_expiry_secs_max: 1_000,
        ..Limits::default()
    };
    let expiry = |secs: u32| property(0x11, &secs.to_be_bytes());
    // The sizes of CONNACK: at the least 11 with Receive Maximum and Topic Alias Maximum.
    for (client_id, expiry, limits, size) in [
        ("c", expiry(7), limits(268_435_460, 0), 11),
        ("c", expiry(1_001), limits(268_435_460, 0), 16),
        ("c", expiry(7), limits(1_000, 30), 19),
        ("", expiry(7), limits(268_435_460, 0), 35),
        ("", expiry(1_001), limits(1_000, 30), 48),
    ] {
        for maximum in [1, 4, 5, size - 1, size, size + 1] {
            let properties = vec![property(0x27, &u32::to_be_bytes(maximum)), expiry.clone()];
            let ask = Ask { client_id, properties, ..Ask::new(V5) };
            let mut connection = new(limits.clone());
            let (result, out) = handle(&mut connection, &ask.bytes());
            assert!(out.is_empty());
            let Err(fault) = result else {
                assert!(maximum >= size, "{maximum} of {size}");
                let accepted = Accepted {
                    session_present: false,
                    assigned_client_id: client_id.is_empty().then_some("auto-0123456789abcdef"),
                    session_expiry_secs: (expiry[3] == 3).then_some(1_000),
                };
                let mut out = Vec::new();
                connection.accept(&accepted, &mut out);
                assert!(connection.is_connected());
                assert_eq!(out.len(), size as usize);
                continue;
            };
            assert!(maximum < size, "{maximum} of {size}: {fault}");
            let last = refused(&mut connection, fault);
            let told: &[u8] = if maximum < 5 { &[] } else { &[0x20, 3, 0, 0x83, 0] };
            assert_eq!(last, told, "nothing that is too large for it");
        }
    }
}

#[test]
fn terms_are_the_smaller_of_what_both_allow_mqtt_3_3_4_9() {
    let limits = Limits { max_inflight: 50, outgoing_topic_alias_maximum: 5, ..Limits::default() };
    for (version, properties, quota, size, aliases) in [
        (V3_1_1, vec![], 50, None, 0),
        (V5, vec![], 50, None, 0),
        (V5, vec![property(0x21, &[0, 10]), property(0x22, &[0, 3])], 10, None, 3),
        (V5, vec![property(0x21, &[9, 0]), property(0x22, &[9, 0])], 50, None, 5),
        (V5, vec![property(0x27, &[0, 0, 1, 0])], 50, Some(256), 0),
    ] {
        let bytes = Ask { properties, ..Ask::new(version) }.bytes();
        let (header, body) = whole(&bytes).unwrap();
        let connect = decode::decode_connect(header, body).unwrap();
        let terms = Connection::terms(&connect, &limits);
        assert_eq!(terms.version, version);
        assert_eq!((terms.quota, terms.topic_alias_maximum), (quota, aliases));
        assert_eq!(terms.maximum_packet_size, size);
    }
}

proptest! {
    /// Whatever comes in whatever state: no panic, one fault at the most, and then silence (pitfall 13).
    #[test]
    fn no_packet_breaks_it(
        state in 0u8..4,
        version in 0usize..3,
        header in any::<u8>(),
        body in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let ask = Ask::new(ALL[version]);
        let mut connection = match state {
            0 => new(Limits::default()),
            1 => open(&ask, Limits::default()),
            _ => connected(ALL[version]),
        };
        let mut out = Vec::new();
        let result = connection.handle(header, &body, &mut out).map(|action| word(&action));
        if let Err(fault) = result {
            connection.refuse(fault, &mut out);
            out.clear();
            prop_assert_eq!(word(&connection.handle(header, &body, &mut out).unwrap()), "none");
            connection.refuse(fault, &mut out);
            prop_assert!(out.is_empty());
        }
    }
}
