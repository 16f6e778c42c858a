//! Tables of raw bytes: what each packet decodes to, or by which statement it is refused.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::packet::PacketId;
use crate::packet::testing::Expect::{Fine, Malformed, Protocol, Refused};
use crate::packet::testing::{
    ALL, OASIS, OLD, Row, V3_1, V3_1_1, V5, any_message_properties, any_text, any_topic,
    any_version, binary, check_rows, decode_to_the_end, packet, property, section, string, whole,
};

#[test]
fn publish_rows() {
    check_rows(PUBLISH_ROWS);
}

/// Section 3.3.
const PUBLISH_ROWS: &[Row] = &[
    ("", "QoS 0", OLD, b"\x30\x04\0\x01ap", Fine),
    ("", "QoS 0, no payload", OLD, b"\x30\x03\0\x01a", Fine),
    ("", "QoS 0, no payload", &[V5], b"\x30\x04\0\x01a\0", Fine),
    ("", "QoS 1, DUP, RETAIN", OLD, b"\x3B\x05\0\x01a\xFF\xFF", Fine),
    ("", "QoS 2, DUP, RETAIN", &[V5], b"\x3D\x06\0\x01a\xFF\xFF\0", Fine),
    ("", "payload is no text", &[V5], b"\x30\x06\0\x01a\0\xFF\0", Fine),
    ("", "MQTT-1.5.4-3: U+FEFF at the start", OLD, b"\x30\x06\0\x04\xEF\xBB\xBFa", Fine),
    ("", "MQTT-3.1.1 alone forbids it", &[V3_1], b"\x38\x03\0\x01a", Fine),
    ("", "pitfall 7: who may is judged elsewhere", OLD, b"\x30\x06\0\x04$SYS", Fine),
    ("", "pitfall 7: it is a Topic Name", OLD, b"\x30\x08\0\x06$share", Fine),
    ("MQTT-3.3.1-2", "DUP at QoS 0", &[V3_1_1], b"\x38\x03\0\x01a", Malformed),
    ("MQTT-3.3.1-2", "DUP at QoS 0", &[V5], b"\x39\x04\0\x01a\0", Malformed),
    ("MQTT-3.3.1-4", "QoS 3", ALL, b"\x36\x06\0\x01a\0\x01\0", Malformed),
    ("section 4.13.1", "no Topic Name (MQTT-3.3.2-1)", ALL, b"\x30\0", Malformed),
    ("section 4.13.1", "half a length", ALL, b"\x30\x01\0", Malformed),
    ("section 4.13.1", "Topic Name beyond the packet", ALL, b"\x30\x03\0\x02a", Malformed),
    ("section 4.13.1", "the longest beyond", ALL, b"\x30\x03\xFF\xFFa", Malformed),
    ("section 4.13.1", "no Packet Identifier", ALL, b"\x32\x03\0\x01a", Malformed),
    ("section 4.13.1", "half a Packet Identifier", ALL, b"\x32\x04\0\x01a\x01", Malformed),
    ("section 4.13.1", "MQTT-2.2.2-1: no Property Length", &[V5], b"\x30\x03\0\x01a", Malformed),
    ("MQTT-2.2.1-3", "Packet Identifier 0, QoS 1", ALL, b"\x32\x06\0\x01a\0\0\0", Malformed),
    ("MQTT-2.2.1-3", "Packet Identifier 0, QoS 2", ALL, b"\x34\x06\0\x01a\0\0\0", Malformed),
    ("MQTT-1.5.4-1", "a lone continuation byte", ALL, b"\x30\x04\0\x01\x80\0", Malformed),
    ("MQTT-1.5.4-1", "a surrogate", ALL, b"\x30\x06\0\x03\xED\xA0\x80\0", Malformed),
    ("MQTT-1.5.4-1", "an overlong U+0000", ALL, b"\x30\x05\0\x02\xC0\x80\0", Malformed),
    ("MQTT-1.5.4-1", "beyond U+10FFFF", ALL, b"\x30\x07\0\x04\xF4\x90\x80\x80\0", Malformed),
    ("MQTT-1.5.4-2", "U+0000", ALL, b"\x30\x06\0\x03a\0b\0", Malformed),
    ("MQTT-1.5.4-2", "U+0000 and a wildcard", ALL, b"\x30\x06\0\x03+\0b\0", Malformed),
    ("MQTT-3.3.2-2", "#", ALL, b"\x30\x04\0\x01#\0", Protocol),
    ("MQTT-3.3.2-2", "+ in a level", ALL, b"\x30\x06\0\x03a+b\0", Protocol),
    ("MQTT-4.7.3-1", "empty Topic Name", OLD, b"\x30\x03\0\0p", Malformed),
    ("section 3.3.2.1", "neither name nor alias", &[V5], b"\x30\x03\0\0\0", Protocol),
    ("", "alias alone", &[V5], b"\x30\x06\0\0\x03\x23\0\x01", Fine),
    ("MQTT-3.3.2-8", "alias 0", &[V5], b"\x30\x07\0\x01a\x03\x23\0\0", Refused(0x94)),
    ("MQTT-3.3.2-8", "alias 0, no name", &[V5], b"\x30\x06\0\0\x03\x23\0\0", Refused(0x94)),
    ("MQTT-3.3.4-6", "Subscription Identifier", &[V5], b"\x30\x06\0\x01a\x02\x0B\x01", Protocol),
    ("section 2.2.2:", "alias twice", &[V5], b"\x30\x0A\0\x01a\x06\x23\0\x01\x23\0\x01", Protocol),
];

#[test]
fn acknowledgement_rows() {
    check_rows(ACK_ROWS);
    // What holds for PUBACK without a Reason Code of its own holds for the other three.
    for (id, what, versions, bytes, expect) in ACK_ROWS {
        if bytes[0] == 0x40 && bytes.get(4).is_none_or(|reason| *reason == 0) {
            for header in [0x50, 0x62, 0x70] {
                let bytes = [&[header], &bytes[1..]].concat().leak();
                check_rows(&[(id, what, versions, bytes, *expect)]);
            }
        }
    }
}

/// Sections 3.4 to 3.7.
const ACK_ROWS: &[Row] = &[
    ("", "shortest", ALL, b"\x40\x02\0\x01", Fine),
    ("", "shortest", ALL, b"\x62\x02\0\x01", Fine),
    ("", "Reason Code", &[V5], b"\x40\x03\0\x01\0", Fine),
    ("", "Reason Code, no properties", &[V5], b"\x40\x04\0\x01\0\0", Fine),
    ("", "refused", &[V5], b"\x40\x03\0\x01\x80", Fine),
    ("", "Reason String", &[V5], b"\x40\x08\0\x01\x97\x04\x1F\0\x01x", Fine),
    ("", "Packet Identifier not found", &[V5], b"\x62\x03\0\x01\x92", Fine),
    ("", "Packet Identifier not found", &[V5], b"\x70\x03\0\x01\x92", Fine),
    ("", "DUP in 3.1", &[V3_1], b"\x6A\x02\0\x01", Fine),
    ("MQTT-2.1.3-1", "MQTT-3.6.1-1: DUP", OASIS, b"\x6A\x02\0\x01", Malformed),
    ("MQTT-2.1.3-1", "MQTT-3.6.1-1: no flag", ALL, b"\x60\x02\0\x01", Malformed),
    ("MQTT-2.1.3-1", "RETAIN", OASIS, b"\x41\x02\0\x01", Malformed),
    ("section 4.13.1", "pitfall 3: empty", ALL, b"\x40\0", Malformed),
    ("section 4.13.1", "half a Packet Identifier", ALL, b"\x40\x01\x01", Malformed),
    ("MQTT-2.2.1-3", "Packet Identifier 0", ALL, b"\x40\x02\0\0", Malformed),
    ("section 4.13.1", "a third byte", OLD, b"\x40\x03\0\x01\0", Malformed),
    ("section 4.13.1", "bytes after it all", &[V5], b"\x40\x05\0\x01\0\0\0", Malformed),
    ("section 4.13.1", "properties cut off", &[V5], b"\x40\x05\0\x01\0\x02\x1F", Malformed),
    ("", "No matching subscribers", &[V5], b"\x40\x03\0\x01\x10", Fine),
    ("", "No matching subscribers", &[V5], b"\x50\x03\0\x01\x10", Fine),
    ("MQTT-3.6.2-1", "of another packet", &[V5], b"\x62\x03\0\x01\x10", Protocol),
    ("MQTT-3.4.2-1", "no code", &[V5], b"\x40\x03\0\x01\x01", Protocol),
    ("MQTT-3.4.2-1", "of another packet", &[V5], b"\x40\x03\0\x01\x92", Protocol),
    ("MQTT-3.5.2-1", "of another packet", &[V5], b"\x50\x03\0\x01\x92", Protocol),
    ("MQTT-3.6.2-1", "of another packet", &[V5], b"\x62\x03\0\x01\x80", Protocol),
    ("MQTT-3.7.2-1", "of another packet", &[V5], b"\x70\x03\0\x01\x91", Protocol),
];

#[test]
fn subscribe_and_unsubscribe_rows() {
    check_rows(SUBSCRIBE_ROWS);
}

/// Sections 3.8 and 3.10.
const SUBSCRIBE_ROWS: &[Row] = &[
    ("", "one", OLD, b"\x82\x06\0\x01\0\x01a\x02", Fine),
    ("", "one", &[V5], b"\x82\x07\0\x01\0\0\x01a\x2E", Fine),
    ("", "two", OLD, b"\x82\x0A\0\x01\0\x01a\x02\0\x01#\0", Fine),
    ("", "invalid as a filter, valid as a string", OLD, b"\x82\x08\0\x01\0\x03a#b\0", Fine),
    ("", "pitfall 7: no share name", OLD, b"\x82\x0D\0\x01\0\x08$share//\0", Fine),
    ("", "pitfall 7: nothing behind it", OLD, b"\x82\x0B\0\x01\0\x06$share\0", Fine),
    ("", "empty: refused as a Topic Filter", OLD, b"\x82\x05\0\x01\0\0\0", Fine),
    ("", "DUP in 3.1", &[V3_1], b"\x8A\x06\0\x01\0\x01a\x02", Fine),
    ("MQTT-2.1.3-1", "MQTT-3.8.1-1: DUP", &[V3_1_1], b"\x8A\x06\0\x01\0\x01a\x02", Malformed),
    ("MQTT-2.1.3-1", "MQTT-3.8.1-1: DUP", &[V5], b"\x8A\x07\0\x01\0\0\x01a\x02", Malformed),
    ("MQTT-2.1.3-1", "MQTT-3.8.1-1: QoS 0", ALL, b"\x80\x06\0\x01\0\x01a\x02", Malformed),
    ("MQTT-2.2.1-3", "Packet Identifier 0", ALL, b"\x82\x06\0\0\0\x01a\x02", Malformed),
    ("section 4.13.1", "pitfall 3: empty", ALL, b"\x82\0", Malformed),
    ("MQTT-3.8.3-2", "3.1.1: MQTT-3.8.3-3", OLD, b"\x82\x02\0\x01", Protocol),
    ("MQTT-3.8.3-2", "no filter", &[V5], b"\x82\x03\0\x01\0", Protocol),
    ("section 4.13.1", "no Property Length", &[V5], b"\x82\x02\0\x01", Malformed),
    ("section 4.13.1", "no options", OLD, b"\x82\x05\0\x01\0\x01a", Malformed),
    ("section 4.13.1", "second without options", OLD, b"\x82\x09\0\x01\0\x01a\0\0\x01b", Malformed),
    ("section 4.13.1", "a byte too many", OLD, b"\x82\x07\0\x01\0\x01a\0\0", Malformed),
    ("MQTT-1.5.4-1", "MQTT-3.8.3-1", OLD, b"\x82\x06\0\x01\0\x01\xFF\0", Malformed),
    ("MQTT-1.5.4-2", "MQTT-4.7.3-2, second", OLD, b"\x82\x0A\0\x01\0\x01a\0\0\x01\0\0", Malformed),
    ("MQTT-3.8.3-4", "QoS 3", OLD, b"\x82\x06\0\x01\0\x01a\x03", Malformed),
    ("section 3.8.3.1", "QoS 3", &[V5], b"\x82\x07\0\x01\0\0\x01a\x03", Protocol),
    ("MQTT-3.8.3-5", "3.1.1: MQTT-3.8.3-4", OLD, b"\x82\x06\0\x01\0\x01a\x04", Malformed),
    ("MQTT-3.8.3-5", "3.1.1: MQTT-3.8.3-4", OLD, b"\x82\x06\0\x01\0\x01a\x80", Malformed),
    ("MQTT-3.8.3-5", "bit 6", &[V5], b"\x82\x07\0\x01\0\0\x01a\x40", Malformed),
    ("MQTT-3.8.3-5", "bit 7", &[V5], b"\x82\x07\0\x01\0\0\x01a\x80", Malformed),
    ("section 3.8.3.1", "Retain Handling 3", &[V5], b"\x82\x07\0\x01\0\0\x01a\x30", Protocol),
    ("section 3.8.2.1.2", "identifier 0", &[V5], b"\x82\x09\0\x01\x02\x0B\0\0\x01a\0", Protocol),
    ("", "one", OLD, b"\xA2\x05\0\x01\0\x01a", Fine),
    ("", "two", &[V5], b"\xA2\x09\0\x01\0\0\x01a\0\x01b", Fine),
    ("", "DUP in 3.1", &[V3_1], b"\xAA\x05\0\x01\0\x01a", Fine),
    ("MQTT-2.1.3-1", "MQTT-3.10.1-1: DUP", OASIS, b"\xAA\x06\0\x01\0\0\x01a", Malformed),
    ("MQTT-2.1.3-1", "MQTT-3.10.1-1: QoS 0", ALL, b"\xA0\x05\0\x01\0\x01a", Malformed),
    ("MQTT-2.2.1-3", "Packet Identifier 0", ALL, b"\xA2\x05\0\0\0\x01a", Malformed),
    ("section 4.13.1", "pitfall 3: empty", ALL, b"\xA2\0", Malformed),
    ("MQTT-3.10.3-2", "no filter", OLD, b"\xA2\x02\0\x01", Protocol),
    ("MQTT-3.10.3-2", "no filter", &[V5], b"\xA2\x03\0\x01\0", Protocol),
    ("section 4.13.1", "a byte too many", OLD, b"\xA2\x06\0\x01\0\x01a\0", Malformed),
    ("MQTT-1.5.4-1", "MQTT-3.10.3-1", OLD, b"\xA2\x05\0\x01\0\x01\xFE", Malformed),
    ("MQTT-1.5.4-2", "U+0000", OLD, b"\xA2\x05\0\x01\0\x01\0", Malformed),
];

#[test]
fn rows_of_all_other_packets() {
    check_rows(OTHER_ROWS);
}

/// Sections 3.12, 3.14 and 3.15, and the packets that are none of a Client's.
const OTHER_ROWS: &[Row] = &[
    ("", "PINGREQ", ALL, b"\xC0\0", Fine),
    ("section 4.13.1", "PINGREQ with a body", ALL, b"\xC0\x01\0", Malformed),
    ("MQTT-2.1.3-1", "PINGREQ with a flag", OASIS, b"\xC1\0", Malformed),
    ("", "DISCONNECT", ALL, b"\xE0\0", Fine),
    ("section 4.13.1", "DISCONNECT with a body", OLD, b"\xE0\x01\0", Malformed),
    ("MQTT-2.1.3-1", "MQTT-3.14.1-1", OASIS, b"\xE1\0", Malformed),
    ("", "with Will", &[V5], b"\xE0\x01\x04", Fine),
    ("", "no properties", &[V5], b"\xE0\x02\0\0", Fine),
    ("", "new Session Expiry", &[V5], b"\xE0\x07\0\x05\x11\0\0\0\x01", Fine),
    ("section 4.13.1", "after it all", &[V5], b"\xE0\x03\0\0\0", Malformed),
    ("MQTT-3.14.2-1", "a Server's code", &[V5], b"\xE0\x01\x8E", Protocol),
    ("MQTT-3.14.2-1", "no code", &[V5], b"\xE0\x01\x01", Protocol),
    ("MQTT-3.14.2-1", "of another packet", &[V5], b"\xE0\x01\x91", Protocol),
    ("", "AUTH", &[V5], b"\xF0\x06\x18\x04\x15\0\x01m", Fine),
    ("", "re-authenticate", &[V5], b"\xF0\x0A\x19\x08\x15\0\x01m\x16\0\x01d", Fine),
    ("section 2.1.2", "AUTH", OLD, b"\xF0\x06\x18\x04\x15\0\x01m", Malformed),
    ("MQTT-2.1.3-1", "MQTT-3.15.1-1", ALL, b"\xF1\x06\x18\x04\x15\0\x01m", Malformed),
    ("MQTT-3.15.2-1", "a Server's code", &[V5], b"\xF0\0", Protocol),
    ("MQTT-3.15.2-1", "a Server's code", &[V5], b"\xF0\x06\0\x04\x15\0\x01m", Protocol),
    ("section 4.13.1", "no Property Length", &[V5], b"\xF0\x01\x18", Malformed),
    ("section 3.15.2.2.2", "no method", &[V5], b"\xF0\x02\x18\0", Protocol),
    ("section 4.13.1", "after it all", &[V5], b"\xF0\x07\x18\x04\x15\0\x01m\0", Malformed),
    ("section 2.1.2", "type 0", ALL, b"\0\0", Malformed),
    ("section 2.1.2", "CONNACK", ALL, b"\x20\x02\0\0", Protocol),
    ("section 2.1.2", "SUBACK", ALL, b"\x90\x03\0\x01\0", Protocol),
    ("section 2.1.2", "UNSUBACK", ALL, b"\xB0\x02\0\x01", Protocol),
    ("section 2.1.2", "PINGRESP", ALL, b"\xD0\0", Protocol),
];

/// MQTT-2.1.3-1 (3.1.1: MQTT-2.2.2-1, -2) for all flags of all packets but PUBLISH. 3.1 says "not used" of all
/// but the QoS of PUBREL, SUBSCRIBE and UNSUBSCRIBE.
#[test]
fn flags_that_a_version_does_not_use_may_have_any_value() {
    for version in ALL {
        for header in 0x40..=0xEF_u8 {
            let (kind, flags) = (header >> 4, header & 0x0F);
            let v5: &[u8] = if *version == V5 { b"\0" } else { b"" };
            let body: &[&[u8]] = match kind {
                4..=7 => &[b"\0\x01"],
                8 => &[b"\0\x01", v5, b"\0\x01a\x01"],
                10 => &[b"\0\x01", v5, b"\0\x01a"],
                12 | 14 => &[],
                _ => continue,
            };
            let wanted = match (*version, kind) {
                (V3_1, 6 | 8 | 10) => flags & 0b0110 == 0b0010,
                (V3_1, _) => true,
                (_, 6 | 8 | 10) => flags == 0b0010,
                _ => flags == 0,
            };
            let bytes = packet(header, &[body.concat()]);
            let found = whole(&bytes).and_then(|(header, body)| decode(*version, header, body));
            let found = found.map(|_| ()).map_err(Fault::detail);
            let expected = if wanted { Ok(()) } else { Err(RESERVED_FLAGS.detail()) };
            assert_eq!(found, expected, "0x{header:02X} in {version}");
        }
    }
}

/// MQTT-3.1.0-2, whether or not the second one is right.
#[test]
fn a_second_connect_is_a_protocol_error() {
    for version in ALL {
        for body in [&b""[..], b"\0\x04MQTT\x05\x02\0\0\0\0\x01c"] {
            let fault = decode(*version, 0x10, body).unwrap_err();
            assert!(matches!(fault, Fault::Protocol(text) if text.starts_with("MQTT-3.1.0-2")));
        }
    }
}

/// Pitfall 3: what frame refuses by the first byte, decode would refuse too.
#[test]
fn decode_refuses_wrong_headers_by_itself() {
    for header in [0x00, 0x20, 0x36, 0x90, 0xB0, 0xD0] {
        assert!(decode(V5, header, b"\0\x01a\0\x01\0").is_err(), "0x{header:02X}");
    }
}

/// All 256 Reason Codes of each packet that has one, against the tables of the standard.
#[test]
fn a_client_may_send_exactly_the_reason_codes_of_the_tables() {
    let tables: [(u8, &[u8]); 6] = [
        (0x40, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        (0x50, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        (0x62, &[0x00, 0x92]),
        (0x70, &[0x00, 0x92]),
        (
            0xE0,
            &[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99],
        ),
        (0xF0, &[0x18, 0x19]),
    ];
    for (header, allowed) in tables {
        for reason in 0..=255 {
            let body = match header {
                0xE0 => vec![reason],
                0xF0 => vec![reason, 4, 0x15, 0, 1, b'm'],
                _ => vec![0, 1, reason],
            };
            let result = decode(V5, header, &body);
            let found = match &result {
                Ok(
                    FromClient::PubAck(ack)
                    | FromClient::PubRec(ack)
                    | FromClient::PubRel(ack)
                    | FromClient::PubComp(ack),
                ) => Some(ack.reason),
                Ok(FromClient::Disconnect(disconnect)) => Some(disconnect.reason),
                Ok(FromClient::Auth(auth)) => Some(auth.reason),
                _ => None,
            };
            let expected = allowed.contains(&reason).then_some(ReasonCode(reason));
            assert_eq!(found, expected, "0x{reason:02X} in 0x{header:02X}: {result:?}");
        }
    }
}

#[test]
fn disconnect_and_auth_carry_what_was_sent() {
    let (header, body) = whole(b"\xE0\x07\x04\x05\x11\xFF\xFF\xFF\xFE").unwrap();
    let disconnect = Disconnect {
        reason: ReasonCode::DISCONNECT_WITH_WILL,
        session_expiry_secs: Some(0xFFFF_FFFE),
    };
    assert_eq!(decode(V5, header, body), Ok(FromClient::Disconnect(disconnect)));
    let (header, body) = whole(b"\xF0\x0A\x19\x08\x15\0\x01m\x16\0\x01d").unwrap();
    let auth = Auth {
        reason: ReasonCode::REAUTHENTICATE,
        authentication_method: Some("m"),
        authentication_data: Some(b"d"),
    };
    assert_eq!(decode(V5, header, body), Ok(FromClient::Auth(auth)));
    assert_eq!(decode(V3_1_1, 0xC0, b""), Ok(FromClient::PingReq));
}

fn any_options() -> impl Strategy<Value = (u8, SubscriptionOptions)> {
    (0..3_u8, any::<bool>(), any::<bool>(), 0..3_u8).prop_map(
        |(qos, local, published, handling)| {
            let byte = qos | u8::from(local) << 2 | u8::from(published) << 3 | handling << 4;
            let retain_handling =
                [RetainHandling::SendAlways, RetainHandling::SendIfNew, RetainHandling::DoNotSend]
                    [usize::from(handling)];
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
            let options = SubscriptionOptions {
                qos,
                no_local: local,
                retain_as_published: published,
                retain_handling,
            };
            (byte, options)
        },
    )
}

/// The packet type does not change how these are read.
fn ack_of(kind: u8, ack: Ack) -> (u8, FromClient<'static>) {
    [
        (0x40, FromClient::PubAck(ack)),
        (0x50, FromClient::PubRec(ack)),
        (0x62, FromClient::PubRel(ack)),
        (0x70, FromClient::PubComp(ack)),
    ][usize::from(kind)]
    .clone()
}

proptest! {
    #[test]
    fn a_publish_is_read_as_it_was_written(
        version in any_version(),
        (qos, dup, retain) in (0..3_u8, any::<bool>(), any::<bool>()),
        topic in any_topic(),
        packet_id in 1..=u16::MAX,
        alias in proptest::option::of(1..=u16::MAX),
        mut properties in any_message_properties(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let v5 = version.is_v5();
        let dup = dup && qos > 0;
        let alias = alias.filter(|_| v5);
        properties.extend(alias.map(|alias| property(0x23, &alias.to_be_bytes())));
        let identifier = if qos > 0 { packet_id.to_be_bytes().to_vec() } else { vec![] };
        let section = if v5 { section(&properties) } else { vec![] };
        let header = 0x30 | u8::from(dup) << 3 | qos << 1 | u8::from(retain);
        let bytes = packet(header, &[string(&topic), identifier, section, payload.clone()]);
        let (header, body) = whole(&bytes).unwrap();
        let Ok(FromClient::Publish(found)) = decode(version, header, body) else {
            panic!("{:?}", decode(version, header, body));
        };
        prop_assert_eq!((found.dup, found.retain, found.qos as u8), (dup, retain, qos));
        prop_assert_eq!(found.topic, topic);
        prop_assert_eq!(found.packet_id.map(PacketId::get), (qos > 0).then_some(packet_id));
        prop_assert_eq!(found.topic_alias.map(NonZeroU16::get), alias);
        prop_assert_eq!(found.payload, &payload[..]);
        // Borrowed, not copied.
        prop_assert_eq!(found.payload.as_ptr_range().end, bytes.as_ptr_range().end);
        if !v5 {
            prop_assert_eq!(found.properties, PublishProperties::default());
        }
    }

    #[test]
    fn an_acknowledgement_is_read_as_it_was_written(
        version in any_version(),
        kind in 0..4_u8,
        packet_id in 1..=u16::MAX,
        form in 0..4,
        text in any_text(),
    ) {
        let reason = if kind < 2 { ReasonCode::QUOTA_EXCEEDED } else { ReasonCode(0x92) };
        let form = if version.is_v5() { form } else { 0 };
        let reason = if form == 0 { ReasonCode::SUCCESS } else { reason };
        let tail = match form {
            0 => vec![],
            1 => vec![reason.value()],
            2 => vec![reason.value(), 0],
            _ => [vec![reason.value()], section(&[property(0x1F, &string(&text))])].concat(),
        };
        let ack = Ack { packet_id: PacketId::new(packet_id).unwrap(), reason };
        let (header, expected) = ack_of(kind, ack);
        let bytes = packet(header, &[packet_id.to_be_bytes().to_vec(), tail]);
        let (header, body) = whole(&bytes).unwrap();
        prop_assert_eq!(decode(version, header, body), Ok(expected));
    }

    #[test]
    fn topic_filters_are_read_as_they_were_written(
        version in any_version(),
        packet_id in 1..=u16::MAX,
        entries in proptest::collection::vec((any_text(), any_options()), 1..8),
        subscription_id in proptest::option::of(1..=268_435_455_u32),
        user in any::<bool>(),
    ) {
        let v5 = version.is_v5();
        let mut properties = Vec::new();
        properties.extend(user.then(|| property(0x26, b"\0\x01k\0\0")));
        let unsubscribe_section = if v5 { section(&properties) } else { vec![] };
        let subscription_id = subscription_id.filter(|_| v5);
        let integer = crate::packet::testing::integer;
        properties.extend(subscription_id.map(|id| property(0x0B, &integer(id))));
        let subscribe_section = if v5 { section(&properties) } else { vec![] };

        let mask = if v5 { 0xFF } else { 0b11 };
        let with_options = entries.iter().map(|(filter, (byte, _))| {
            [string(filter), vec![byte & mask]].concat()
        }).collect::<Vec<_>>().concat();
        let id = packet_id.to_be_bytes().to_vec();
        let bytes = packet(0x82, &[id.clone(), subscribe_section, with_options]);
        let (header, body) = whole(&bytes).unwrap();
        let Ok(FromClient::Subscribe(found)) = decode(version, header, body) else {
            panic!("{:?}", decode(version, header, body));
        };
        prop_assert_eq!(found.packet_id.get(), packet_id);
        prop_assert_eq!(found.subscription_id.map(NonZeroU32::get), subscription_id);
        let expected: Vec<_> = entries.iter().map(|(filter, (_, options))| {
            let plain = SubscriptionOptions::with_qos(options.qos);
            (filter.as_str(), if v5 { *options } else { plain })
        }).collect();
        prop_assert_eq!(found.filters.collect::<Result<Vec<_>, _>>().unwrap(), expected);

        let filters = entries.iter().map(|(filter, _)| string(filter)).collect::<Vec<_>>();
        let bytes = packet(0xA2, &[id, unsubscribe_section, filters.concat()]);
        let (header, body) = whole(&bytes).unwrap();
        let Ok(FromClient::Unsubscribe(found)) = decode(version, header, body) else {
            panic!("{:?}", decode(version, header, body));
        };
        prop_assert_eq!(found.packet_id.get(), packet_id);
        let expected: Vec<_> = entries.iter().map(|(filter, _)| filter.as_str()).collect();
        prop_assert_eq!(found.filters.collect::<Result<Vec<_>, _>>().unwrap(), expected);
    }

    /// Pitfalls 1, 12 and 13: whatever comes, there is an answer, and no field is larger than the
    /// packet.
    #[test]
    fn arbitrary_bytes_never_panic(
        version in any_version(),
        header in any::<u8>(),
        body in proptest::collection::vec(prop_oneof![0_u8..0x30, any::<u8>()], 0..80),
    ) {
        match decode_to_the_end(version, header, &body) {
            Ok(FromClient::Publish(found)) => {
                let size = found.topic.len() + found.payload.len() + found.properties.forwarded_len();
                prop_assert!(size + 2 <= body.len());
            }
            Ok(FromClient::Subscribe(found)) => {
                let size: usize = found.filters.map(|entry| 3 + entry.unwrap().0.len()).sum();
                prop_assert!(found.filters.count() > 0 && size + 2 <= body.len());
            }
            Ok(FromClient::Unsubscribe(found)) => {
                let size: usize = found.filters.map(|filter| 2 + filter.unwrap().len()).sum();
                prop_assert!(found.filters.count() > 0 && size + 2 <= body.len());
            }
            _ => {}
        }
        let _ = decode_connect(header, &body);
        let _ = decode_connect(0x10, &body);
        let _ = decode_connect(0x10, &[b"\0\x04MQTT\x05", &body[..]].concat());
        let _ = decode_connect(0x10, &[b"\0\x06MQIsdp\x03", &body[..]].concat());
    }

    /// Pitfall 3: no packet that ends too early is taken for a whole one, and nothing may be added.
    #[test]
    fn a_packet_cut_short_or_made_longer_is_refused(filters in proptest::collection::vec(any_topic(), 1..4)) {
        let entries: Vec<Vec<u8>> =
            filters.iter().map(|filter| [string(filter), vec![1]].concat()).collect();
        let body = [vec![0, 9], section(&[property(0x26, &[string("k"), binary(b"v")].concat())]),
            entries.concat()].concat();
        prop_assert!(decode_to_the_end(V5, 0x82, &body).is_ok());
        // At these borders the packet has an entry less, and is whole again if one is left.
        let mut borders = vec![body.len() - entries.concat().len()];
        borders.extend(entries.iter().scan(borders[0], |at, entry| {
            *at += entry.len();
            Some(*at)
        }));
        for cut in 0..body.len() {
            let whole = borders[1..].contains(&cut);
            let decoded = decode_to_the_end(V5, 0x82, &body[..cut]);
            prop_assert_eq!(decoded.is_ok(), whole, "cut at {}", cut);
        }
        let longer = [&body[..], b"\0"].concat();
        prop_assert!(decode_to_the_end(V5, 0x82, &longer).is_err());
    }
}
