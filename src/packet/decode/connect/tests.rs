//! CONNECT in the three versions: every flag, every field, every way to get it wrong.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::packet::testing::Expect::{Fine, Malformed, Protocol};
use crate::packet::testing::{
    ALL, OLD, Row, V3_1, V3_1_1, V5, any_message_properties, any_text, any_topic, any_version,
    binary, check_rows, expectation, packet, property, section, string, whole,
};

#[test]
fn rows_of_all_versions() {
    check_rows(ROWS_V3_1);
    check_rows(ROWS_V3_1_1);
    check_rows(ROWS_V5);
}

/// Will, user name, password, and every way to get the flags wrong.
const ROWS_V3_1_1: &[Row] = &[
    ("", "least", &[V3_1_1], b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0", Fine),
    ("", "Client Identifier", &[V3_1_1], b"\x10\x0D\0\x04MQTT\x04\0\0\x3C\0\x01c", Fine),
    (
        "",
        "everything",
        &[V3_1_1],
        b"\x10\x19\0\x04MQTT\x04\xF6\xFF\xFF\0\x01c\0\x01w\0\x01p\0\x01u\0\x01\xFF",
        Fine,
    ),
    (
        "",
        "empty Will Message",
        &[V3_1_1],
        b"\x10\x12\0\x04MQTT\x04\x06\0\0\0\x01c\0\x01w\0\0",
        Fine,
    ),
    ("MQTT-3.1.2-3", "reserved", &[V3_1_1], b"\x10\x0D\0\x04MQTT\x04\x03\0\0\0\x01c", Malformed),
    (
        "MQTT-3.1.2-11",
        "-13: Will QoS",
        &[V3_1_1],
        b"\x10\x0D\0\x04MQTT\x04\x0A\0\0\0\x01c",
        Malformed,
    ),
    (
        "MQTT-3.1.2-13",
        "-15: Retain",
        &[V3_1_1],
        b"\x10\x0D\0\x04MQTT\x04\x22\0\0\0\x01c",
        Malformed,
    ),
    (
        "MQTT-3.1.2-12",
        "-14: Will QoS 3",
        &[V3_1_1],
        b"\x10\x12\0\x04MQTT\x04\x1E\0\0\0\x01c\0\x01w\0\0",
        Malformed,
    ),
    (
        "MQTT-3.1.2-22",
        "password alone",
        &[V3_1_1],
        b"\x10\x10\0\x04MQTT\x04\x42\0\0\0\x01c\0\x01p",
        Malformed,
    ),
    (
        "section 4.13.1",
        "-9: no Will",
        &[V3_1_1],
        b"\x10\x0D\0\x04MQTT\x04\x06\0\0\0\x01c",
        Malformed,
    ),
    (
        "section 4.13.1",
        "-9: no Will Message",
        &[V3_1_1],
        b"\x10\x10\0\x04MQTT\x04\x06\0\0\0\x01c\0\x01w",
        Malformed,
    ),
    (
        "section 4.13.1",
        "-19: no user",
        &[V3_1_1],
        b"\x10\x0D\0\x04MQTT\x04\x82\0\0\0\x01c",
        Malformed,
    ),
    (
        "section 4.13.1",
        "-21: no password",
        &[V3_1_1],
        b"\x10\x10\0\x04MQTT\x04\xC2\0\0\0\x01c\0\x01u",
        Malformed,
    ),
    (
        "section 4.13.1",
        "-18: a user name without the flag",
        &[V3_1_1],
        b"\x10\x10\0\x04MQTT\x04\x02\0\0\0\x01c\0\x01u",
        Malformed,
    ),
    ("section 4.13.1", "MQTT-3.1.3-3", &[V3_1_1], b"\x10\x0A\0\x04MQTT\x04\x02\0\0", Malformed),
    ("section 4.13.1", "no Keep Alive", &[V3_1_1], b"\x10\x09\0\x04MQTT\x04\x02\0", Malformed),
    ("section 4.13.1", "no flags", &[V3_1_1], b"\x10\x07\0\x04MQTT\x04", Malformed),
    ("section 4.13.1", "no level", &[V3_1_1], b"\x10\x06\0\x04MQTT", Malformed),
    ("section 4.13.1", "no name", ALL, b"\x10\0", Malformed),
    ("section 4.13.1", "name beyond the packet", ALL, b"\x10\x04\xFF\xFFMQ", Malformed),
    (
        "MQTT-1.5.4-1",
        "MQTT-3.1.3-4",
        &[V3_1_1],
        b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01\xFF",
        Malformed,
    ),
    (
        "MQTT-1.5.4-2",
        "MQTT-3.1.3-4",
        &[V3_1_1],
        b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01\0",
        Malformed,
    ),
    (
        "MQTT-1.5.4-1",
        "MQTT-3.1.3-11: user name",
        &[V3_1_1],
        b"\x10\x10\0\x04MQTT\x04\x82\0\0\0\x01c\0\x01\xFF",
        Malformed,
    ),
    (
        "MQTT-1.5.4-1",
        "MQTT-3.1.3-10: Will Topic",
        &[V3_1_1],
        b"\x10\x12\0\x04MQTT\x04\x06\0\0\0\x01c\0\x01\xFF\0\0",
        Malformed,
    ),
    (
        "MQTT-4.7.0-1",
        "MQTT-4.7.1-1: Will Topic",
        &[V3_1_1],
        b"\x10\x12\0\x04MQTT\x04\x06\0\0\0\x01c\0\x01#\0\0",
        Protocol,
    ),
    (
        "MQTT-4.7.3-1",
        "empty Will Topic",
        &[V3_1_1],
        b"\x10\x11\0\x04MQTT\x04\x06\0\0\0\x01c\0\0\0\0",
        Malformed,
    ),
    ("MQTT-2.1.3-1", "MQTT-2.2.2-1", ALL, b"\x11\x0D\0\x04MQTT\x04\x02\0\0\0\x01c", Malformed),
    ("MQTT-2.1.3-1", "", ALL, b"\x18\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01c", Malformed),
    ("", "not used in 3.1", &[V3_1], b"\x1F\x0F\0\x06MQIsdp\x03\x02\0\0\0\x01c", Fine),
    ("MQTT-3.1.2-1", "unknown name", ALL, b"\x10\x0D\0\x04mqtt\x04\x02\0\0\0\x01c", Protocol),
    ("MQTT-3.1.2-1", "empty name", ALL, b"\x10\x09\0\0\x04\x02\0\0\0\x01c", Protocol),
    ("MQTT-3.1.2-1", "longer name", ALL, b"\x10\x0E\0\x05MQTTX\x04\x02\0\0\0\x01c", Protocol),
];

/// What 3.1 says in other words.
const ROWS_V3_1: &[Row] = &[
    ("", "least", &[V3_1], b"\x10\x0F\0\x06MQIsdp\x03\x02\0\0\0\x01c", Fine),
    ("", "empty Client Identifier", &[V3_1], b"\x10\x0E\0\x06MQIsdp\x03\x02\0\0\0\0", Fine),
    (
        "",
        "Will QoS and Retain disregarded",
        &[V3_1],
        b"\x10\x0F\0\x06MQIsdp\x03\x3A\0\0\0\x01c",
        Fine,
    ),
    ("", "user name missing", &[V3_1], b"\x10\x0F\0\x06MQIsdp\x03\xC2\0\0\0\x01c", Fine),
    ("", "password missing", &[V3_1], b"\x10\x12\0\x06MQIsdp\x03\xC2\0\0\0\x01c\0\x01u", Fine),
    (
        "section 4.13.1",
        "half a user name",
        &[V3_1],
        b"\x10\x11\0\x06MQIsdp\x03\x82\0\0\0\x01c\0\x01",
        Malformed,
    ),
    (
        "MQTT-3.1.2-22",
        "password alone",
        &[V3_1],
        b"\x10\x12\0\x06MQIsdp\x03\x42\0\0\0\x01c\0\x01p",
        Malformed,
    ),
    ("", "not used", &[V3_1], b"\x10\x0F\0\x06MQIsdp\x03\x03\0\0\0\x01c", Fine),
    ("MQTT-3.1.2-12", "Will QoS 3", &[V3_1], b"\x10\x0F\0\x06MQIsdp\x03\x1E\0\0\0\x01c", Malformed),
];

const ROWS_V5: &[Row] = &[
    ("", "least", &[V5], b"\x10\x0D\0\x04MQTT\x05\x02\0\0\0\0\0", Fine),
    ("", "password alone", &[V5], b"\x10\x11\0\x04MQTT\x05\x42\0\0\0\0\x01c\0\x01p", Fine),
    ("", "Will", &[V5], b"\x10\x14\0\x04MQTT\x05\x06\0\0\0\0\x01c\0\0\x01w\0\0", Fine),
    (
        "section 3.1.2.11.10",
        "data without method",
        &[V5],
        b"\x10\x12\0\x04MQTT\x05\x02\0\0\x04\x16\0\x01d\0\x01c",
        Protocol,
    ),
    ("section 4.13.1", "MQTT-2.2.2-1", &[V5], b"\x10\x0A\0\x04MQTT\x05\x02\0\0", Malformed),
    (
        "section 4.13.1",
        "properties beyond",
        &[V5],
        b"\x10\x0D\0\x04MQTT\x05\x02\0\0\x05\0\0",
        Malformed,
    ),
    ("section 4.13.1", "trailing", &[V5], b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\0\0", Malformed),
    (
        "section 4.13.1",
        "Will without its properties",
        &[V5],
        b"\x10\x0E\0\x04MQTT\x05\x06\0\0\0\0\x01c",
        Malformed,
    ),
    (
        "MQTT-4.7.0-1",
        "Will Topic",
        &[V5],
        b"\x10\x14\0\x04MQTT\x05\x06\0\0\0\0\x01c\0\0\x01+\0\0",
        Protocol,
    ),
    ("MQTT-3.1.2-3", "reserved", &[V5], b"\x10\x0E\0\x04MQTT\x05\x03\0\0\0\0\x01c", Malformed),
    ("MQTT-3.1.2-11", "Will QoS", &[V5], b"\x10\x0E\0\x04MQTT\x05\x12\0\0\0\0\x01c", Malformed),
    ("MQTT-3.1.2-13", "Will Retain", &[V5], b"\x10\x0E\0\x04MQTT\x05\x22\0\0\0\0\x01c", Malformed),
    (
        "MQTT-3.1.2-12",
        "Will QoS 3",
        &[V5],
        b"\x10\x14\0\x04MQTT\x05\x1E\0\0\0\0\x01c\0\0\x01w\0\0",
        Malformed,
    ),
];

fn head(version: ProtocolVersion) -> Vec<u8> {
    match version {
        V3_1 => [string("MQIsdp"), vec![3]].concat(),
        V3_1_1 => [string("MQTT"), vec![4]].concat(),
        V5 => [string("MQTT"), vec![5]].concat(),
    }
}

/// MQTT-3.1.0-1, whatever is in it and whatever the type.
#[test]
fn the_first_packet_is_a_connect() {
    for header in (0..=255).filter(|header| header >> 4 != 1) {
        for body in [&b""[..], b"\0\x01a", b"\0\x04MQTT\x05\x02\0\0\0\0\x01c"] {
            let Err(ConnectError::Bad { version: None, fault }) = decode_connect(header, body)
            else {
                panic!("0x{header:02X} {body:02X?}");
            };
            assert!(matches!(fault, Fault::Protocol(text) if text.starts_with("MQTT-3.1.0-1")));
        }
    }
}

/// MQTT-3.1.2-2; the rest of the packet is of a version that nobody here knows and is not looked
/// at.
#[test]
fn every_other_level_is_told_as_it_was_sent() {
    for level in 0..=255 {
        for (name, known) in [("MQTT", &[4, 5, 0x84][..]), ("MQIsdp", &[3, 0x83])] {
            let body = [string(name), vec![level, 0xFF]].concat();
            let result = decode_connect(0x10, &body).unwrap_err();
            let unsupported = result == ConnectError::UnsupportedLevel(level);
            assert_eq!(unsupported, !known.contains(&level), "{name} {level}: {result:?}");
        }
    }
}

/// mosquitto's bridges of 3.1 and 3.1.1 set bit 7 of the level. Bridges of MQTT 5 do not.
#[test]
fn a_bridge_is_known_by_its_level() {
    for (name, level, version, bridge) in [
        ("MQIsdp", 0x03, V3_1, false),
        ("MQIsdp", 0x83, V3_1, true),
        ("MQTT", 0x04, V3_1_1, false),
        ("MQTT", 0x84, V3_1_1, true),
    ] {
        let body = [string(name), vec![level, 2, 0, 0], string("c")].concat();
        let connect = decode_connect(0x10, &body).unwrap();
        assert_eq!((connect.version, connect.bridge), (version, bridge));
    }
    let body = [string("MQTT"), vec![0x85, 2, 0, 0, 0], string("c")].concat();
    assert_eq!(decode_connect(0x10, &body), Err(ConnectError::UnsupportedLevel(0x85)));
}

/// MQTT-3.1.4-1: a peer of MQTT 5 can be told, for its version is known as soon as it was read.
#[test]
fn the_version_is_known_once_name_and_level_were_read() {
    for version in ALL {
        let head = head(*version);
        for cut in 0..=head.len() {
            let Err(ConnectError::Bad { version: told, fault }) =
                decode_connect(0x10, &head[..cut])
            else {
                panic!("{version} cut at {cut}");
            };
            assert_eq!(expectation(fault), Malformed);
            assert_eq!(told, (cut == head.len()).then_some(*version));
        }
    }
}

/// All 256 values of the Connect Flags in the three versions: MQTT-3.1.2-3, -11, -12, -13; in 3.1.1
/// MQTT-3.1.2-3, -11, -13, -14, -15, -22.
#[test]
fn every_combination_of_connect_flags() {
    for version in ALL {
        for flags in 0..=255_u8 {
            let bit = |number: u8| flags >> number & 1 == 1;
            let qos = flags >> 3 & 3;
            let will_ok = if bit(2) { qos < 3 } else { *version == V3_1 || (qos == 0 && !bit(5)) };
            let password_ok = bit(7) || !bit(6) || *version == V5;
            let mut parts = vec![head(*version), vec![flags, 0, 9]];
            let v5 = *version == V5;
            parts.extend(v5.then(|| vec![0]));
            parts.push(string("c"));
            if bit(2) {
                parts.extend(v5.then(|| vec![0]));
                parts.extend([string("w"), binary(b"p")]);
            }
            parts.extend(bit(7).then(|| string("u")));
            parts.extend(bit(6).then(|| binary(b"s")));
            let result = decode_connect(0x10, &parts.concat()).map(|connect| {
                let will = connect.will.map(|will| (will.qos as u8, will.retain));
                assert_eq!(will, bit(2).then_some((qos, bit(5))));
                assert_eq!(connect.user_name, bit(7).then_some("u"));
                assert_eq!(connect.password, bit(6).then_some(&b"s"[..]));
                assert_eq!(connect.clean_start, bit(1));
            });
            let reserved_ok = !bit(0) || *version == V3_1; // where it is not used
            let expected = reserved_ok && will_ok && password_ok;
            assert_eq!(result.is_ok(), expected, "{flags:08b} in {version}: {result:?}");
        }
    }
}

/// What is absent means what the standard says; Clean Session stands for the Session Expiry
/// Interval.
#[test]
fn absent_fields_have_the_defaults_of_the_standard() {
    for (version, clean, expiry) in
        [(V3_1, false, u32::MAX), (V3_1_1, false, u32::MAX), (V3_1_1, true, 0), (V5, false, 0)]
    {
        let properties = if version == V5 { vec![0] } else { vec![] };
        let body =
            [head(version), vec![u8::from(clean) << 1, 0, 0], properties, string("c")].concat();
        let connect = decode_connect(0x10, &body).unwrap();
        let expected = Connect {
            version,
            bridge: false,
            clean_start: clean,
            keep_alive: 0,
            client_id: "c",
            will: None,
            user_name: None,
            password: None,
            session_expiry_secs: expiry,
            receive_maximum: NonZeroU16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
        };
        assert_eq!(connect, expected);
    }
}

/// Longer than the 23 bytes that MQTT-3.1.3-5 is about, up to what a string can hold.
#[test]
fn a_client_identifier_may_be_as_long_as_a_string() {
    let client_id = "é".repeat(32_767);
    for version in OLD {
        let body = [head(*version), vec![2, 0, 0], string(&client_id)].concat();
        let bytes = packet(0x10, &[body]);
        let (header, body) = whole(&bytes).unwrap();
        assert_eq!(decode_connect(header, body).unwrap().client_id, client_id);
    }
}

#[derive(Debug, Clone)]
struct AnyWill {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    delay: Option<u32>,
    properties: Vec<Vec<u8>>,
}

fn any_will() -> impl Strategy<Value = AnyWill> {
    (
        any_topic(),
        proptest::collection::vec(any::<u8>(), 0..30),
        (0..3_u8, any::<bool>()),
        proptest::option::of(any::<u32>()),
        any_message_properties(),
    )
        .prop_map(|(topic, payload, (qos, retain), delay, properties)| AnyWill {
            topic,
            payload,
            qos,
            retain,
            delay,
            properties,
        })
}

proptest! {
    /// MQTT-3.1.3-1: all fields, in their order.
    #[test]
    fn a_connect_is_read_as_it_was_written(
        version in any_version(),
        (clean, keep_alive, client_id) in (any::<bool>(), any::<u16>(), any_text()),
        will in proptest::option::of(any_will()),
        user_name in proptest::option::of(any_text()),
        password in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        numbers in proptest::option::of((any::<u32>(), 1..=u16::MAX, 1..=u32::MAX, any::<u16>())),
        (response, problem) in (proptest::option::of(any::<bool>()), proptest::option::of(any::<bool>())),
        method in proptest::option::of(any_text()),
    ) {
        let v5 = version == V5;
        let password = password.filter(|_| v5 || user_name.is_some());
        let mut properties = Vec::new();
        if let Some((expiry, receive, size, alias)) = numbers {
            properties.push(property(0x11, &expiry.to_be_bytes()));
            properties.push(property(0x21, &receive.to_be_bytes()));
            properties.push(property(0x27, &size.to_be_bytes()));
            properties.push(property(0x22, &alias.to_be_bytes()));
        }
        properties.extend(response.map(|value| property(0x19, &[u8::from(value)])));
        properties.extend(problem.map(|value| property(0x17, &[u8::from(value)])));
        properties.extend(method.as_ref().map(|text| property(0x15, &string(text))));
        // Data of the method's own bytes.
        properties.extend(method.as_ref().map(|text| property(0x16, &string(text))));
        let mut flags = u8::from(clean) << 1
            | u8::from(user_name.is_some()) << 7
            | u8::from(password.is_some()) << 6;
        if let Some(will) = &will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        let mut parts = vec![head(version), vec![flags], keep_alive.to_be_bytes().to_vec()];
        parts.extend(v5.then(|| section(&properties)));
        parts.push(string(&client_id));
        if let Some(will) = &will {
            let mut properties = will.properties.clone();
            properties.extend(will.delay.map(|secs| property(0x18, &secs.to_be_bytes())));
            parts.extend(v5.then(|| section(&properties)));
            parts.extend([string(&will.topic), binary(&will.payload)]);
        }
        parts.extend(user_name.as_ref().map(|text| string(text)));
        parts.extend(password.as_ref().map(|bytes| binary(bytes)));
        let bytes = packet(0x10, &parts);
        let (header, body) = whole(&bytes).unwrap();

        let found = decode_connect(header, body).unwrap();
        prop_assert_eq!((found.version, found.clean_start), (version, clean));
        prop_assert_eq!((found.keep_alive, found.client_id), (keep_alive, client_id.as_str()));
        prop_assert_eq!(found.user_name, user_name.as_deref());
        prop_assert_eq!(found.password, password.as_deref());
        let numbers = numbers.filter(|_| v5);
        let old_expiry = if v5 || clean { 0 } else { u32::MAX };
        prop_assert_eq!(found.session_expiry_secs, numbers.map_or(old_expiry, |n| n.0));
        prop_assert_eq!(found.receive_maximum.get(), numbers.map_or(u16::MAX, |n| n.1));
        prop_assert_eq!(found.maximum_packet_size.map(NonZeroU32::get), numbers.map(|n| n.2));
        prop_assert_eq!(found.topic_alias_maximum, numbers.map_or(0, |n| n.3));
        prop_assert_eq!(found.request_response_information, v5 && response.unwrap_or(false));
        prop_assert_eq!(found.request_problem_information, !v5 || problem.unwrap_or(true));
        prop_assert_eq!(found.authentication_method, method.as_deref().filter(|_| v5));
        let data = method.as_deref().map(str::as_bytes).filter(|_| v5);
        prop_assert_eq!(found.authentication_data, data);
        prop_assert_eq!(found.will.is_some(), will.is_some());
        if let (Some(found), Some(will)) = (found.will, will) {
            check_will(v5, &found, &will);
        }
        // Pitfall 3: a byte less or more is another packet, unless 3.1 takes it for a missing field.
        prop_assert!(decode_connect(header, &[body, b"\0"].concat()).is_err());
        prop_assert!(version == V3_1 || decode_connect(header, &body[..body.len() - 1]).is_err());
    }
}

fn check_will(v5: bool, found: &ConnectWill<'_>, will: &AnyWill) {
    assert_eq!((found.topic, found.payload), (will.topic.as_str(), &will.payload[..]));
    assert_eq!((found.qos as u8, found.retain), (will.qos, will.retain));
    assert_eq!(found.delay_secs, will.delay.filter(|_| v5).unwrap_or(0));
    let mut kept = Vec::new();
    found.properties.forward_into(&mut kept);
    let expected: Vec<Vec<u8>> =
        will.properties.iter().filter(|property| v5 && property[0] != 0x02).cloned().collect();
    assert_eq!(kept, expected.concat());
}
