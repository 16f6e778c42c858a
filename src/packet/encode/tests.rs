//! What the Server writes, byte by byte, and read back by an independent reader.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::packet::decode::decode;
use crate::packet::testing::{
    ALL, OLD, V3_1, V3_1_1, V5, Written, any_message_properties, any_text, any_topic, any_version,
    string, whole,
};
use crate::packet::{Ack, FromClient, Publish};

const KINDS: [(AckKind, u8); 4] = [
    (AckKind::PubAck, 0x40),
    (AckKind::PubRec, 0x50),
    (AckKind::PubRel, 0x62),
    (AckKind::PubComp, 0x70),
];

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    // Whatever is in the buffer already stays.
    let mut out = vec![0xEE];
    write(&mut out);
    assert_eq!(out.remove(0), 0xEE);
    out
}

/// Each packet as bytes, by version: what 3.1 and 3.1.1 cannot carry is not there.
#[test]
fn rows_of_raw_bytes() {
    let success = ConnAck::default();
    let present = ConnAck { session_present: true, ..success };
    let refused = ConnAck { session_present: true, reason: ReasonCode::NOT_AUTHORIZED, ..success };
    let connack = |version, ack: ConnAck<'_>| {
        written(|out| assert!(super::connack(out, version, &ack, None)))
    };
    assert_eq!(connack(V3_1, success), b"\x20\x02\0\0");
    assert_eq!(connack(V3_1, present), b"\x20\x02\0\0");
    assert_eq!(connack(V3_1_1, present), b"\x20\x02\x01\0");
    assert_eq!(connack(V3_1_1, refused), b"\x20\x02\0\x05");
    assert_eq!(connack(V5, success), b"\x20\x03\0\0\0");
    assert_eq!(connack(V5, present), b"\x20\x03\x01\0\0");
    assert_eq!(connack(V5, refused), b"\x20\x03\0\x87\0");

    let reasons = [ReasonCode(0), ReasonCode(1), ReasonCode(2), ReasonCode::QUOTA_EXCEEDED];
    let suback = |version| written(|out| super::suback(out, version, id(0x0102), &reasons));
    assert_eq!(suback(V3_1_1), b"\x90\x06\x01\x02\0\x01\x02\x80");
    assert_eq!(suback(V5), b"\x90\x07\x01\x02\0\0\x01\x02\x97");
    let granted = written(|out| super::suback(out, V3_1, id(1), &reasons[..3]));
    assert_eq!(granted, b"\x90\x05\0\x01\0\x01\x02");

    let reasons = [ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED];
    for version in OLD {
        let bytes = written(|out| unsuback(out, *version, id(7), &reasons));
        assert_eq!(bytes, b"\xB0\x02\0\x07");
    }
    let bytes = written(|out| unsuback(out, V5, id(7), &reasons));
    assert_eq!(bytes, b"\xB0\x05\0\x07\0\0\x11");

    assert_eq!(written(pingresp), b"\xD0\0");
    let code = ReasonCode::SESSION_TAKEN_OVER;
    assert_eq!(written(|out| disconnect(out, code, None, None)), b"\xE0\x01\x8E");
    let bytes = written(|out| disconnect(out, code, Some("why"), None));
    assert_eq!(bytes, b"\xE0\x08\x8E\x06\x1F\0\x03why");
}

/// MQTT-3.2.2-6 of 3.1.1 and table 3.1 there, over all 256 Reason Codes.
#[test]
fn a_reason_code_without_a_return_code_writes_nothing_in_3_x() {
    for reason in (0..=255).map(ReasonCode) {
        let code = connack_return_code(reason);
        assert!(code.is_none_or(|code| code <= 5));
        assert_eq!(code == Some(0), reason == ReasonCode::SUCCESS);
        for version in OLD {
            let ack = ConnAck { reason, ..ConnAck::default() };
            let mut out = Vec::new();
            assert_eq!(connack(&mut out, *version, &ack, None), code.is_some());
            assert_eq!(out, code.map_or(vec![], |code| vec![0x20, 2, 0, code]), "{reason}");
        }
    }
    assert_eq!(connack_return_code(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION), Some(1));
    assert_eq!(connack_return_code(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID), Some(2));
    assert_eq!(connack_return_code(ReasonCode::QUOTA_EXCEEDED), Some(3));
    assert_eq!(connack_return_code(ReasonCode::BAD_USER_NAME_OR_PASSWORD), Some(4));
    assert_eq!(connack_return_code(ReasonCode::NOT_AUTHORIZED), Some(5));
    assert_eq!(connack_return_code(ReasonCode::MALFORMED_PACKET), None);
}

#[test]
fn a_connack_carries_every_property_it_is_given() {
    let ack = ConnAck {
        session_present: false,
        reason: ReasonCode::SUCCESS,
        session_expiry_secs: Some(3_600),
        receive_maximum: Some(1_024),
        maximum_qos: Some(QoS::AtLeastOnce),
        maximum_packet_size: Some(65_536),
        assigned_client_id: Some("auto-1"),
        topic_alias_maximum: 16,
        server_keep_alive: Some(30),
        authentication: Some(("SCRAM-SHA-256", b"v=1")),
        reason_string: Some("fine"),
    };
    let mut read = Written::parse(&written(|out| assert!(connack(out, V5, &ack, None))));
    assert_eq!((read.header, read.byte(), read.byte()), (0x20, 0, 0));
    let mut properties = read.properties();
    assert!(read.is_empty());
    properties.sort();
    let expected: [(u8, &[u8]); 10] = [
        (0x11, &[0, 0, 0x0E, 0x10]),
        (0x12, b"auto-1"),
        (0x13, &[0, 30]),
        (0x15, b"SCRAM-SHA-256"),
        (0x16, b"v=1"),
        (0x1F, b"fine"),
        (0x21, &[4, 0]),
        (0x22, &[0, 16]),
        (0x24, &[1]),
        (0x27, &[0, 1, 0, 0]),
    ];
    assert_eq!(properties, expected.map(|(id, value)| (id, value.to_vec())));
}

#[test]
fn an_auth_has_its_method_always_and_its_data_if_there_is_any_mqtt_4_12_0_5() {
    for (reason, data) in
        [(ReasonCode::CONTINUE_AUTHENTICATION, &b"r=1"[..]), (ReasonCode::SUCCESS, &b""[..])]
    {
        let mut read = Written::parse(&written(|out| auth(out, reason, "SCRAM-SHA-256", data)));
        assert_eq!((read.header, read.byte()), (0xF0, reason.value()));
        let method = (0x15, b"SCRAM-SHA-256".to_vec());
        let data = (!data.is_empty()).then(|| (0x16, data.to_vec()));
        assert_eq!(read.properties(), [method].into_iter().chain(data).collect::<Vec<_>>());
        assert!(read.is_empty());
    }
}

/// MQTT-3.1.2-24, -3.2.2-19: the text goes first, then the packet.
#[test]
fn a_connack_stays_within_the_maximum_packet_size() {
    let text = "x".repeat(200);
    let ack = ConnAck {
        reason: ReasonCode::NOT_AUTHORIZED,
        reason_string: Some(&text),
        ..ConnAck::default()
    };
    let (whole, bare) = (2 + 1 + 2 + 2 + 3 + 200, 5);
    for (limit, expected) in [
        (None, whole),
        (Some(whole), whole),
        (Some(whole - 1), bare),
        (Some(bare), bare),
        (Some(4), 0),
    ] {
        let mut out = Vec::new();
        let sent = connack(&mut out, V5, &ack, limit);
        assert_eq!((sent, out.len()), (expected > 0, expected as usize), "{limit:?}");
    }
}

/// MQTT-3.4.2-2, -3.5.2-2, -3.6.2-2, -3.7.2-2, -3.14.2-3, and a text that no string can hold.
#[test]
fn a_reason_string_that_does_not_fit_is_left_out() {
    let reason = ReasonCode::QUOTA_EXCEEDED;
    for length in [0, 1, 120, 121, 122, 123, 65_535, 65_536] {
        let text = "x".repeat(length);
        for (kind, header) in KINDS {
            let ack = |limit| written(|out| ack_with_text(out, kind, id(5), reason, &text, limit));
            let bytes = ack(None);
            let mut read = Written::parse(&bytes);
            assert_eq!((read.header, read.two_bytes(), read.byte()), (header, 5, 0x97));
            if length == 65_536 {
                assert!(read.is_empty());
                continue;
            }
            assert_eq!(read.properties(), [(0x1F, text.clone().into_bytes())]);
            let size = u32::try_from(bytes.len()).unwrap();
            assert_eq!(ack(Some(size)), bytes);
            assert_eq!(ack(Some(size - 1)), [header, 3, 0, 5, 0x97]);
        }
        let last = |limit| written(|out| disconnect(out, reason, Some(&text), limit));
        let bytes = last(None);
        let size = u32::try_from(bytes.len()).unwrap();
        assert_eq!(last(Some(size)), bytes);
        let fallback: &[u8] = if size > 3 { b"\xE0\x01\x97" } else { b"" };
        assert_eq!(last(Some(size - 1)), fallback);
        assert_eq!(last(Some(2)), b"");
    }
}

proptest! {
    /// Encode and decode are inverse where both sides may send the packet.
    #[test]
    fn an_acknowledgement_is_shortest_and_reads_back(
        version in any_version(),
        kind in 0..4_usize,
        packet_id in 1..=u16::MAX,
        error in any::<bool>(),
    ) {
        let (kind, header) = KINDS[kind];
        let refusal = if header < 0x60 { 0x87 } else { 0x92 };
        let reason = ReasonCode(if error { refusal } else { 0 });
        let bytes = written(|out| ack(out, version, kind, id(packet_id), reason));
        let reason = if version.is_v5() { reason } else { ReasonCode::SUCCESS };
        prop_assert_eq!(bytes.len(), if reason.is_error() { 5 } else { 4 });
        let ack = Ack { packet_id: id(packet_id), reason };
        let expected = match kind {
            AckKind::PubAck => FromClient::PubAck(ack),
            AckKind::PubRec => FromClient::PubRec(ack),
            AckKind::PubRel => FromClient::PubRel(ack),
            AckKind::PubComp => FromClient::PubComp(ack),
        };
        let (header, body) = whole(&bytes).unwrap();
        prop_assert_eq!(decode(version, header, body), Ok(expected));
    }

    /// MQTT-3.9.3-1, -3.11.3-1; in 3.1.1 MQTT-3.9.3-1, -2.
    #[test]
    fn reason_codes_stay_in_their_order(
        reasons in proptest::collection::vec(prop_oneof![0..3_u8, Just(0x80), Just(0x9E)], 1..400),
        packet_id in 1..=u16::MAX,
    ) {
        let codes: Vec<ReasonCode> = reasons.iter().copied().map(ReasonCode).collect();
        for version in ALL {
            let mut read = Written::parse(&written(|out| suback(out, *version, id(packet_id), &codes)));
            prop_assert_eq!((read.header, read.two_bytes()), (0x90, packet_id));
            if *version == V5 {
                prop_assert!(read.properties().is_empty());
                prop_assert_eq!(read.rest(), reasons.clone());
            } else {
                let old: Vec<u8> = reasons.iter().map(|code| (*code).min(0x80)).collect();
                prop_assert_eq!(read.rest(), old);
            }
        }
        let mut read = Written::parse(&written(|out| unsuback(out, V5, id(packet_id), &codes)));
        prop_assert_eq!((read.header, read.two_bytes()), (0xB0, packet_id));
        prop_assert!(read.properties().is_empty());
        prop_assert_eq!(read.rest(), reasons);
    }

    #[test]
    fn a_publish_reads_back_as_it_was_meant(
        version in any_version(),
        (qos, dup, retain) in (0..3_u8, any::<bool>(), any::<bool>()),
        topic in any_topic(),
        packet_id in 1..=u16::MAX,
        alias in proptest::option::of((1..=u16::MAX, any::<bool>())),
        expiry_secs in proptest::option::of(any::<u32>()),
        subscription_ids in proptest::collection::vec(1..=268_435_455_u32, 0..4),
        properties in any_message_properties(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let v5 = version.is_v5();
        let qos = QoS::from_bits(qos).unwrap();
        let forwarded: Vec<Vec<u8>> = properties.into_iter().filter(|property| property[0] != 2).collect();
        let topic = match alias { Some((_, true)) if v5 => String::new(), _ => topic };
        let head = PublishHead {
            version,
            dup: dup && qos != QoS::AtMostOnce,
            qos,
            retain,
            topic: topic.as_bytes(),
            packet_id: (qos != QoS::AtMostOnce).then(|| id(packet_id)),
            topic_alias: alias.map(|(alias, _)| alias),
            expiry_secs,
            subscription_ids: &subscription_ids,
            forwarded: &forwarded.concat(),
            payload_len: payload.len(),
        };
        let mut bytes = written(|out| publish_head(out, &head));
        bytes.extend(&payload);
        prop_assert_eq!(bytes.len(), head.packet_len());

        let mut read = Written::parse(&bytes);
        let flags = u8::from(head.dup) << 3 | (qos as u8) << 1 | u8::from(retain);
        prop_assert_eq!(read.header, 0x30 | flags);
        prop_assert_eq!(read.string(), topic.clone());
        if qos != QoS::AtMostOnce {
            prop_assert_eq!(read.two_bytes(), packet_id);
        }
        if v5 {
            let found = read.properties();
            let of = |id: u8| found.iter().filter(move |(found, _)| *found == id).map(|(_, value)| value.clone());
            prop_assert_eq!(of(0x23).next(), alias.map(|(alias, _)| alias.to_be_bytes().to_vec()));
            prop_assert_eq!(of(0x02).next(), expiry_secs.map(|secs| secs.to_be_bytes().to_vec()));
            let ids: Vec<Vec<u8>> = subscription_ids.iter().map(|id| id.to_be_bytes().to_vec()).collect();
            prop_assert_eq!(of(0x0B).collect::<Vec<_>>(), ids);
        }
        prop_assert_eq!(read.rest(), payload.clone());

        // What this Server writes without Subscription Identifiers, a Client may send to it.
        let head = PublishHead { subscription_ids: &[], ..head };
        let bytes = written(|out| publish_head(out, &head));
        let (header, body) = whole_with_payload(&bytes, &payload);
        let Ok(FromClient::Publish(found)) = decode(version, header, &body) else {
            panic!("{:?}", decode(version, header, &body));
        };
        let alias = alias.filter(|_| v5).map(|(alias, _)| alias);
        prop_assert_eq!(found.topic_alias.map(std::num::NonZeroU16::get), alias);
        prop_assert_eq!(found.properties.expiry_secs(), expiry_secs.filter(|_| v5));
        let mut kept = Vec::new();
        found.properties.forward_into(&mut kept);
        prop_assert_eq!(kept, if v5 { forwarded.concat() } else { vec![] });
        let Publish { dup, qos, retain, topic, packet_id, .. } = found;
        prop_assert_eq!(
            (dup, qos, retain, topic.as_bytes(), packet_id),
            (head.dup, head.qos, head.retain, head.topic, head.packet_id)
        );
    }

    /// MQTT-3.14.2-1, MQTT-3.4.2-2: any text comes through as it is.
    #[test]
    fn a_reason_string_reads_back(text in any_text(), reason in 0x80..=0xA2_u8) {
        let bytes = written(|out| disconnect(out, ReasonCode(reason), Some(&text), None));
        let mut read = Written::parse(&bytes);
        prop_assert_eq!((read.header, read.byte()), (0xE0, reason));
        prop_assert_eq!(read.properties(), [(0x1F, text.clone().into_bytes())]);
        prop_assert!(bytes.ends_with(&string(&text)));
    }
}

fn whole_with_payload(head: &[u8], payload: &[u8]) -> (u8, Vec<u8>) {
    let bytes = [head, payload].concat();
    let (header, body) = whole(&bytes).unwrap();
    (header, body.to_vec())
}

/// The borders where the Remaining Length and the Property Length grow by a byte.
#[test]
fn lengths_at_their_borders() {
    for version in ALL {
        for size in (0..300).chain(16_200..16_500).chain([2_097_000, 2_097_151, 2_097_160]) {
            let topic = "t".repeat(size.min(20));
            let forwarded = string(&"v".repeat(size.min(16_500)));
            let head = PublishHead {
                version: *version,
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: topic.as_bytes(),
                packet_id: None,
                topic_alias: None,
                expiry_secs: None,
                subscription_ids: &[],
                forwarded: &forwarded,
                payload_len: size,
            };
            let mut bytes = written(|out| publish_head(out, &head));
            bytes.resize(bytes.len() + size, b'p');
            assert_eq!(bytes.len(), head.packet_len());
            // Panics where a length is wrong or not minimal.
            let mut read = Written::parse(&bytes);
            read.string();
            if version.is_v5() {
                assert_eq!(read.integer() as usize, forwarded.len());
                read.bytes(forwarded.len());
            }
            assert_eq!(read.rest().len(), size);
        }
    }
}
