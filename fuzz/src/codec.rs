//! Packets after CONNECT, in each version.

use bytes::Bytes;

use super::server;
use crate::error::Fault;
use crate::message::Message;
use crate::packet::decode::{SubscribeEntries, UnsubscribeEntries, decode};
use crate::packet::encode::{self, AckKind, PublishHead};
use crate::packet::frame::{Frame, next_frame};
use crate::packet::{
    Ack, FromClient, PacketId, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode,
};
use crate::topic;

pub(super) fn decode_as(version: ProtocolVersion, data: &[u8]) {
    let Some((&header, body)) = data.split_first() else { return };
    let packet = packet_of(header, body);
    let framed = next_frame(&packet, u32::MAX);
    if let Ok(Frame::Whole { header: seen, body: cut, taken }) = framed {
        assert_eq!((seen, cut, taken), (header, body, packet.len()));
    } else {
        assert!(framed.is_err(), "{framed:?}");
    }
    match decode(version, header, body) {
        Ok(found) => {
            assert!(framed.is_ok(), "{framed:?}, but {found:?}");
            check(version, header, body, &found);
        }
        Err(fault) => check_fault(fault),
    }
}

/// A packet of any body.
pub(crate) fn packet_of(header: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![header];
    encode::variable_byte_integer(&mut packet, u32::try_from(body.len()).unwrap_or(u32::MAX));
    packet.extend_from_slice(body);
    packet
}

/// What is said of bytes that are no packet: by whom it was broken, and which rule.
pub(crate) fn check_fault(fault: Fault) {
    assert!(!matches!(fault, Fault::Server(..)), "{fault}");
    assert!(fault.reason().is_error(), "{fault}");
    let named = fault.detail().starts_with("MQTT-") || fault.detail().starts_with("section ");
    assert!(named, "{fault}");
}

fn check(version: ProtocolVersion, header: u8, body: &[u8], found: &FromClient<'_>) {
    match found {
        FromClient::Publish(publish) => check_publish(version, publish, body),
        FromClient::PubAck(ack) => check_ack(version, AckKind::PubAck, *ack),
        FromClient::PubRec(ack) => check_ack(version, AckKind::PubRec, *ack),
        FromClient::PubRel(ack) => check_ack(version, AckKind::PubRel, *ack),
        FromClient::PubComp(ack) => check_ack(version, AckKind::PubComp, *ack),
        FromClient::Subscribe(subscribe) => {
            assert!(subscribe.subscription_id.is_none_or(|id| id.get() <= 268_435_455));
            check_subscribe(version, subscribe.packet_id, subscribe.filters, body);
        }
        FromClient::Unsubscribe(unsubscribe) => {
            check_unsubscribe(version, unsubscribe.packet_id, unsubscribe.filters, body);
        }
        FromClient::PingReq => assert!(body.is_empty()),
        FromClient::Disconnect(disconnect) => {
            assert!(version.is_v5() || body.is_empty());
            let normal = matches!(disconnect.reason.value(), 0 | 4);
            assert!(normal || disconnect.reason.is_error(), "{disconnect:?}");
        }
        FromClient::Auth(auth) => {
            assert!(version.is_v5() && auth.authentication_method.is_some(), "{auth:?}");
        }
    }
    if version != ProtocolVersion::V3_1 && header >> 4 != 3 {
        let wanted = if matches!(header >> 4, 6 | 8 | 10) { 2 } else { 0 };
        assert_eq!(header & 15, wanted, "MQTT-2.1.3-1");
    }
}

/// What the Server writes of it reads back, and so does the message that is made of it.
fn check_publish(version: ProtocolVersion, publish: &Publish<'_>, body: &[u8]) {
    assert_eq!(publish.packet_id.is_some(), publish.qos != QoS::AtMostOnce);
    assert!(!publish.dup || publish.qos != QoS::AtMostOnce);
    assert!(version.is_v5() || publish.topic_alias.is_none());
    if publish.topic.is_empty() {
        assert!(publish.topic_alias.is_some());
    } else {
        assert_eq!(topic::check_name(publish.topic), Ok(()));
    }
    assert!(body.ends_with(publish.payload));
    let forwarded = forwarded(&publish.properties);
    let ids = [1, 127, 128, 268_435_455];
    let mut head = PublishHead {
        version,
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic.as_bytes(),
        packet_id: publish.packet_id,
        topic_alias: publish.topic_alias.map(std::num::NonZeroU16::get),
        expiry_secs: publish.properties.expiry_secs(),
        subscription_ids: &[],
        forwarded: &forwarded,
        payload_len: publish.payload.len(),
    };
    let written = write(&head, publish.payload);
    let Ok(Frame::Whole { header, body, .. }) = next_frame(&written, u32::MAX) else {
        return assert!(written.is_empty(), "no frame: {written:02X?}");
    };
    let again = decode(version, header, body);
    let Ok(FromClient::Publish(again)) = again else {
        return assert_eq!(again.err(), None, "it does not read back");
    };
    let parts = |publish: &Publish<'_>| (publish.properties.expiry_secs(), publish.topic_alias);
    assert_eq!(parts(&again), parts(publish));
    assert_eq!(self::forwarded(&again.properties), forwarded, "MQTT-3.3.2-17, -18");
    let plain = |publish: &Publish<'_>| Publish {
        properties: PublishProperties::default(),
        payload: &[],
        topic: "",
        ..publish.clone()
    };
    assert_eq!(plain(&again), plain(publish));
    assert_eq!((again.topic, again.payload), (publish.topic, publish.payload));
    head.subscription_ids = &ids;
    let seen = server::packets(version, &write(&head, publish.payload));
    assert_eq!((seen.len(), seen[0].topic.as_str()), (1, publish.topic));
    assert_eq!(seen[0].payload, publish.payload);
    assert_eq!(seen[0].subscription_ids.len(), if version.is_v5() { ids.len() } else { 0 });
    check_message(publish, &forwarded);
}

fn write(head: &PublishHead<'_>, payload: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    encode::publish_head(&mut written, head);
    written.extend_from_slice(payload);
    assert_eq!(written.len(), head.packet_len(), "MQTT-3.1.2-24");
    written
}

pub(crate) fn forwarded(properties: &PublishProperties<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    properties.forward_into(&mut bytes);
    assert_eq!(bytes.len(), properties.forwarded_len());
    bytes
}

fn check_message(publish: &Publish<'_>, forwarded: &[u8]) {
    if publish.topic.is_empty() {
        return;
    }
    let frame = Bytes::copy_from_slice(publish.payload);
    let copied = Message::from_packet(publish.topic, &publish.properties, publish.payload, None);
    let shared = Message::from_packet(publish.topic, &publish.properties, &frame, Some(&frame));
    for message in [copied, shared] {
        assert_eq!((message.topic(), message.payload()), (publish.topic, publish.payload));
        assert_eq!(message.property_bytes(), forwarded);
        assert_eq!(message.expiry_secs(), publish.properties.expiry_secs());
        let response = message.response_topic().map(ToOwned::to_owned);
        let valid = response.as_deref().is_none_or(|name| topic::check_name(name).is_ok());
        assert!(valid, "MQTT-3.3.2-14");
        let message = message.with_user_property("name", "value").expect("a short property");
        assert_eq!(message.user_properties().last(), Some(("name", "value")));
        assert_eq!(message.response_topic(), response.as_deref());
    }
}

fn check_ack(version: ProtocolVersion, kind: AckKind, ack: Ack) {
    let mut written = Vec::new();
    encode::ack(&mut written, version, kind, ack.packet_id, ack.reason);
    let seen = server::packets(version, &written);
    assert_eq!(seen[0].id, Some(ack.packet_id.get()));
    assert_eq!(seen[0].reason, ack.reason.value());
    let (header, body) = (written[0], &written[2..]);
    let again = decode(version, header, body);
    let (Ok(FromClient::PubAck(again))
    | Ok(FromClient::PubRec(again))
    | Ok(FromClient::PubRel(again))
    | Ok(FromClient::PubComp(again))) = again
    else {
        return assert_eq!(again.err(), None, "it does not read back");
    };
    assert_eq!(again, ack);
}

/// Read in one go, and read anew from each place where a turn may end, the entries are the same.
fn check_subscribe(
    version: ProtocolVersion,
    id: PacketId,
    entries: SubscribeEntries<'_>,
    body: &[u8],
) {
    let all: Vec<_> = { entries }.collect();
    assert!(!all.is_empty(), "MQTT-3.8.3-2");
    let faults = all.iter().filter(|entry| entry.is_err()).count();
    assert!(faults == 0 || faults == 1 && all.last().is_some_and(Result::is_err));
    let mut going = entries;
    for index in 0..all.len().min(8) {
        let left = going.bytes_left();
        let rest: Vec<_> = SubscribeEntries::in_last(left, body, version).collect();
        assert_eq!(rest, all[index..]);
        assert_eq!(going.next().as_ref(), all.get(index));
        assert!(going.bytes_left() < left);
    }
    let granted = |entry: &Result<(&str, crate::packet::SubscriptionOptions), Fault>| match entry {
        Ok((_, options)) => ReasonCode(options.qos as u8),
        Err(fault) => {
            check_fault(*fault);
            ReasonCode::UNSPECIFIED_ERROR
        }
    };
    let mut reasons: Vec<_> = all.iter().map(granted).collect();
    if version == ProtocolVersion::V3_1 {
        reasons.retain(|reason| !reason.is_error());
    }
    let mut written = Vec::new();
    encode::suback(&mut written, version, id, &reasons);
    let seen = server::packets(version, &written);
    assert_eq!((seen[0].id, seen[0].payload.len()), (Some(id.get()), reasons.len()));
}

fn check_unsubscribe(
    version: ProtocolVersion,
    id: PacketId,
    entries: UnsubscribeEntries<'_>,
    body: &[u8],
) {
    let all: Vec<_> = { entries }.collect();
    assert!(!all.is_empty(), "MQTT-3.10.3-2");
    all.iter().filter_map(|entry| entry.err()).for_each(check_fault);
    let mut going = entries;
    for index in 0..all.len().min(8) {
        let left = going.bytes_left();
        let rest: Vec<_> = UnsubscribeEntries::in_last(left, body).collect();
        assert_eq!(rest, all[index..]);
        assert_eq!(going.next().as_ref(), all.get(index));
        assert!(going.bytes_left() < left);
    }
    let mut written = Vec::new();
    let reasons = vec![ReasonCode::NO_SUBSCRIPTION_EXISTED; all.len()];
    encode::unsuback(&mut written, version, id, &reasons);
    let seen = server::packets(version, &written);
    let count = if version.is_v5() { all.len() } else { 0 };
    assert_eq!((seen[0].id, seen[0].payload.len()), (Some(id.get()), count));
}
