//! Writes the packets of a Server. Everything appends to a buffer that its owner reuses; nothing
//! else is allocated but for the properties of a CONNACK.
//!
//! Fields that a version cannot carry are left out here: properties and Reason Codes in 3.1 and 3.1.1,
//! Session Present in 3.1.

use super::properties::{
    append_binary, append_four_bytes, append_length_prefixed, append_two_bytes,
    append_variable_byte_integer, id,
};
pub(crate) use super::varint::variable_byte_integer;
use super::varint::variable_byte_integer_size;
use super::{PacketId, ProtocolVersion, QoS, ReasonCode};

/// The contents of a CONNACK (section 3.2). A property at its default is left out, because the
/// standard gives an absent property this meaning. There are no fields for QoS 2, retained messages,
/// wildcards, Subscription Identifiers and Shared Subscriptions: absent means available.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ConnAck<'a> {
    /// Written as 0 with any Reason Code but Success (MQTT-3.2.2-6).
    pub(crate) session_present: bool,
    pub(crate) reason: ReasonCode,
    /// In seconds, if it is not what the Client asked for.
    pub(crate) session_expiry_secs: Option<u32>,
    /// If it is not 65 535. Not 0.
    pub(crate) receive_maximum: Option<u16>,
    /// If it is not QoS 2.
    pub(crate) maximum_qos: Option<QoS>,
    /// In bytes, if the Server has a limit. Not 0.
    pub(crate) maximum_packet_size: Option<u32>,
    pub(crate) assigned_client_id: Option<&'a str>,
    /// 0: the Server takes no Topic Alias.
    pub(crate) topic_alias_maximum: u16,
    /// In seconds, if it is not what the Client asked for.
    pub(crate) server_keep_alive: Option<u16>,
    /// Authentication Method and Authentication Data, if CONNECT had a method (MQTT-4.12.0-5, -6). Empty data is left out.
    pub(crate) authentication: Option<(&'a str, &'a [u8])>,
    /// Left out where it would exceed the Client's Maximum Packet Size (MQTT-3.2.2-19).
    pub(crate) reason_string: Option<&'a str>,
}

/// CONNACK. In 3.1 and 3.1.1 with the return code of [`connack_return_code`]; where there is none,
/// nothing is written. Nor is it where the packet would exceed `maximum_packet_size`, the Client's
/// own, even without its Reason String (MQTT-3.1.2-24). Returns whether the packet was written.
pub(crate) fn connack(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    ack: &ConnAck<'_>,
    maximum_packet_size: Option<u32>,
) -> bool {
    // MQTT-3.2.2-6; in 3.1.1 MQTT-3.2.2-4.
    let session_present = ack.session_present && ack.reason == ReasonCode::SUCCESS;
    if !version.is_v5() {
        let Some(code) = connack_return_code(ack.reason) else { return false };
        // The byte of Session Present is reserved in 3.1.
        let flags = session_present && version == ProtocolVersion::V3_1_1;
        out.extend_from_slice(&[0x20, 2, u8::from(flags), code]);
        return true;
    }
    let fixed = [u8::from(session_present), ack.reason.value()];
    let mut properties = Vec::new();
    connack_properties(&mut properties, ack);
    with_reason_string(out, 0x20, &fixed, &properties, ack.reason_string, maximum_packet_size)
}

/// All but the Reason String.
fn connack_properties(out: &mut Vec<u8>, ack: &ConnAck<'_>) {
    if let Some(secs) = ack.session_expiry_secs {
        append_four_bytes(out, id::SESSION_EXPIRY_INTERVAL, secs);
    }
    if let Some(maximum) = ack.receive_maximum {
        append_two_bytes(out, id::RECEIVE_MAXIMUM, maximum);
    }
    if let Some(qos) = ack.maximum_qos {
        out.extend_from_slice(&[id::MAXIMUM_QOS, qos as u8]);
    }
    if let Some(size) = ack.maximum_packet_size {
        append_four_bytes(out, id::MAXIMUM_PACKET_SIZE, size);
    }
    if let Some(client_id) = ack.assigned_client_id {
        append_binary(out, id::ASSIGNED_CLIENT_IDENTIFIER, client_id.as_bytes());
    }
    if ack.topic_alias_maximum != 0 {
        append_two_bytes(out, id::TOPIC_ALIAS_MAXIMUM, ack.topic_alias_maximum);
    }
    if let Some(secs) = ack.server_keep_alive {
        append_two_bytes(out, id::SERVER_KEEP_ALIVE, secs);
    }
    if let Some((method, data)) = ack.authentication {
        authentication_properties(out, method, data);
    }
}

fn authentication_properties(out: &mut Vec<u8>, method: &str, data: &[u8]) {
    append_binary(out, id::AUTHENTICATION_METHOD, method.as_bytes());
    if !data.is_empty() {
        append_binary(out, id::AUTHENTICATION_DATA, data);
    }
}

/// AUTH (section 3.15), with an Authentication Method of the length of a string and data of at most 65 535 bytes.
pub(crate) fn auth(out: &mut Vec<u8>, reason: ReasonCode, method: &str, data: &[u8]) {
    let mut properties = Vec::with_capacity(6 + method.len() + data.len());
    authentication_properties(&mut properties, method, data);
    with_reason_string(out, 0xF0, &[reason.value()], &properties, None, None);
}

/// The one map from a Reason Code to a CONNACK return code of 3.1 and 3.1.1 (there table 3.1).
/// `None`: none fits, and the Network Connection is closed without a CONNACK (there MQTT-3.2.2-6).
pub(crate) fn connack_return_code(reason: ReasonCode) -> Option<u8> {
    match reason {
        ReasonCode::SUCCESS => Some(0x00),
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => Some(0x01),
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => Some(0x02),
        ReasonCode::SERVER_UNAVAILABLE
        | ReasonCode::SERVER_BUSY
        | ReasonCode::SERVER_SHUTTING_DOWN
        | ReasonCode::QUOTA_EXCEEDED
        | ReasonCode::USE_ANOTHER_SERVER
        | ReasonCode::SERVER_MOVED
        | ReasonCode::CONNECTION_RATE_EXCEEDED => Some(0x03),
        ReasonCode::BAD_USER_NAME_OR_PASSWORD => Some(0x04),
        ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED => Some(0x05),
        _ => None,
    }
}

/// An acknowledgement of a PUBLISH, or of one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the names of the standard")]
pub(crate) enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

impl AckKind {
    /// First byte of the fixed header. PUBREL has a flag set (MQTT-3.6.1-1).
    const fn header(self) -> u8 {
        match self {
            AckKind::PubAck => 0x40,
            AckKind::PubRec => 0x50,
            AckKind::PubRel => 0x62,
            AckKind::PubComp => 0x70,
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form; 3.1 and 3.1.1 have no Reason Code.
#[inline]
pub(crate) fn ack(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    kind: AckKind,
    packet_id: PacketId,
    reason: ReasonCode,
) {
    let [high, low] = packet_id.get().to_be_bytes();
    if reason == ReasonCode::SUCCESS || !version.is_v5() {
        out.extend_from_slice(&[kind.header(), 2, high, low]);
    } else {
        out.extend_from_slice(&[kind.header(), 3, high, low, reason.value()]);
    }
}

/// As [`ack`] in MQTT 5, with a Reason String unless that would exceed the Client's Maximum Packet
/// Size (MQTT-3.4.2-2, -3.5.2-2, -3.6.2-2, -3.7.2-2). Whether the Client wants one at all
/// (MQTT-3.1.2-29) is for the caller to know.
pub(crate) fn ack_with_text(
    out: &mut Vec<u8>,
    kind: AckKind,
    packet_id: PacketId,
    reason: ReasonCode,
    reason_string: &str,
    maximum_packet_size: Option<u32>,
) {
    let [high, low] = packet_id.get().to_be_bytes();
    let fixed = [high, low, reason.value()];
    if text_size(&fixed, 0, reason_string, maximum_packet_size).is_some() {
        let text = Some(reason_string);
        with_reason_string(out, kind.header(), &fixed, &[], text, maximum_packet_size);
    } else {
        ack(out, ProtocolVersion::V5, kind, packet_id, reason);
    }
}

/// SUBACK with a Reason Code for each Topic Filter, in their order (MQTT-3.9.3-1). In 3.1.1 every
/// failure is 0x80 (there MQTT-3.9.3-2). 3.1 cannot report one: the caller closes the Network
/// Connection instead.
pub(crate) fn suback(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet_id: PacketId,
    reasons: &[ReasonCode],
) {
    let v5 = version.is_v5();
    payload_of_reasons(out, 0x90, v5, packet_id, reasons.len());
    out.extend(reasons.iter().map(|reason| match reason {
        reason if reason.is_error() && !v5 => ReasonCode::UNSPECIFIED_ERROR.value(),
        reason => reason.value(),
    }));
}

/// UNSUBACK; in MQTT 5 with a Reason Code for each Topic Filter, in their order (MQTT-3.11.3-1).
pub(crate) fn unsuback(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    packet_id: PacketId,
    reasons: &[ReasonCode],
) {
    let reasons = if version.is_v5() { reasons } else { &[] };
    payload_of_reasons(out, 0xB0, version.is_v5(), packet_id, reasons.len());
    out.extend(reasons.iter().map(|reason| reason.value()));
}

/// Everything of a SUBACK or UNSUBACK before `count` Reason Codes.
fn payload_of_reasons(out: &mut Vec<u8>, header: u8, v5: bool, packet_id: PacketId, count: usize) {
    let remaining = 2 + usize::from(v5) + count;
    out.reserve(5 + remaining);
    out.push(header);
    variable_byte_integer(out, to_u32(remaining));
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    if v5 {
        out.push(0);
    }
}

/// PINGRESP.
pub(crate) fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xD0, 0]);
}

/// DISCONNECT, which only a Server of MQTT 5 sends. The Reason String is left out where it would
/// exceed `maximum_packet_size`, the Client's own (MQTT-3.14.2-3); where even the 3 bytes without
/// it would, nothing is written (MQTT-3.1.2-24).
pub(crate) fn disconnect(
    out: &mut Vec<u8>,
    reason: ReasonCode,
    reason_string: Option<&str>,
    maximum_packet_size: Option<u32>,
) {
    let fixed = [reason.value()];
    let text =
        reason_string.filter(|text| text_size(&fixed, 0, text, maximum_packet_size).is_some());
    if text.is_some() {
        with_reason_string(out, 0xE0, &fixed, &[], text, maximum_packet_size);
    } else if fits(3, maximum_packet_size) {
        out.extend_from_slice(&[0xE0, 1, reason.value()]);
    }
}

/// Appends a packet of `fixed`, a Property Length, `properties` and, where it fits, a Reason
/// String. Returns whether the packet fits at all; if not, nothing is appended.
fn with_reason_string(
    out: &mut Vec<u8>,
    header: u8,
    fixed: &[u8],
    properties: &[u8],
    reason_string: Option<&str>,
    maximum_packet_size: Option<u32>,
) -> bool {
    let text = reason_string.and_then(|text| {
        Some((text, text_size(fixed, properties.len(), text, maximum_packet_size)?))
    });
    let property_length = properties.len() + text.map_or(0, |(_, size)| size);
    let remaining = remaining_length(fixed, property_length);
    if !fits(packet_size(remaining), maximum_packet_size) {
        return false;
    }
    out.push(header);
    variable_byte_integer(out, to_u32(remaining));
    out.extend_from_slice(fixed);
    variable_byte_integer(out, to_u32(property_length));
    out.extend_from_slice(properties);
    if let Some((text, _)) = text {
        append_binary(out, id::REASON_STRING, text.as_bytes());
    }
    true
}

/// The size of `text` as a Reason String, if it can be said and the packet stays within the limit.
fn text_size(
    fixed: &[u8],
    other_properties: usize,
    text: &str,
    maximum_packet_size: Option<u32>,
) -> Option<usize> {
    let size = 3 + text.len();
    let total = packet_size(remaining_length(fixed, other_properties + size));
    (text.len() <= usize::from(u16::MAX) && fits(total, maximum_packet_size)).then_some(size)
}

fn remaining_length(fixed: &[u8], property_length: usize) -> usize {
    fixed.len() + variable_byte_integer_size(property_length) + property_length
}

fn packet_size(remaining_length: usize) -> usize {
    1 + variable_byte_integer_size(remaining_length) + remaining_length
}

fn fits(size: usize, maximum_packet_size: Option<u32>) -> bool {
    maximum_packet_size.is_none_or(|maximum| size <= maximum as usize)
}

/// A PUBLISH as one subscriber gets it, all but the payload (section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublishHead<'a> {
    pub(crate) version: ProtocolVersion,
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Valid UTF-8, which need not be proved again for each copy. Empty where a Topic Alias stands for
    /// it. At most 65 535 bytes.
    pub(crate) topic: &'a [u8],
    /// `Some` exactly when QoS > 0 (MQTT-2.2.1-2, -4).
    pub(crate) packet_id: Option<PacketId>,
    /// MQTT 5 alone, as everything below but the payload's length. Not 0 (MQTT-3.3.2-8).
    pub(crate) topic_alias: Option<u16>,
    /// Message Expiry Interval in seconds, what is left of it (MQTT-3.3.2-6).
    pub(crate) expiry_secs: Option<u32>,
    /// Each 1 to 268 435 455 (MQTT-3.3.4-3).
    pub(crate) subscription_ids: &'a [u32],
    /// Properties as [`PublishProperties::forward_into`](super::PublishProperties::forward_into)
    /// wrote them.
    pub(crate) forwarded: &'a [u8],
    pub(crate) payload_len: usize,
}

impl PublishHead<'_> {
    /// The size of the whole packet in bytes, payload included. Before [`publish_head`] it is to be
    /// compared with the Client's Maximum Packet Size (MQTT-3.1.2-24) and, where there is none,
    /// with [`PACKET_BYTES_MAX`](super::frame::PACKET_BYTES_MAX): a message that 3.1.1 could carry
    /// may with its properties be larger than the standard can say.
    pub(crate) fn packet_len(&self) -> usize {
        packet_size(self.remaining_length(self.property_length()))
    }

    /// Without the Property Length itself; 0 in 3.1 and 3.1.1.
    #[inline]
    fn property_length(&self) -> usize {
        if !self.version.is_v5() {
            return 0;
        }
        let mut length = self.forwarded.len();
        if self.topic_alias.is_some() {
            length += 3;
        }
        if self.expiry_secs.is_some() {
            length += 5;
        }
        for id in self.subscription_ids {
            length += 1 + variable_byte_integer_size(*id as usize);
        }
        length
    }

    #[inline]
    fn remaining_length(&self, property_length: usize) -> usize {
        let mut length = 2 + self.topic.len() + self.payload_len;
        if self.packet_id.is_some() {
            length += 2;
        }
        if self.version.is_v5() {
            length += variable_byte_integer_size(property_length) + property_length;
        }
        length
    }
}

/// Appends everything of a PUBLISH before its payload. [`PublishHead::packet_len`] has been found
/// to be small enough.
#[inline]
pub(crate) fn publish_head(out: &mut Vec<u8>, head: &PublishHead<'_>) {
    let property_length = head.property_length();
    let remaining = head.remaining_length(property_length);
    out.reserve(5 + remaining - head.payload_len);
    out.push(0x30 | u8::from(head.dup) << 3 | (head.qos as u8) << 1 | u8::from(head.retain));
    variable_byte_integer(out, to_u32(remaining));
    append_length_prefixed(out, head.topic);
    if let Some(packet_id) = head.packet_id {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
    }
    if !head.version.is_v5() {
        return;
    }
    variable_byte_integer(out, to_u32(property_length));
    if property_length == 0 {
        return;
    }
    if let Some(alias) = head.topic_alias {
        append_two_bytes(out, id::TOPIC_ALIAS, alias);
    }
    if let Some(secs) = head.expiry_secs {
        append_four_bytes(out, id::MESSAGE_EXPIRY_INTERVAL, secs);
    }
    for value in head.subscription_ids {
        append_variable_byte_integer(out, id::SUBSCRIPTION_IDENTIFIER, *value);
    }
    out.extend_from_slice(head.forwarded);
}

/// Lengths beyond 4 GiB are beyond what the standard can say, too.
#[inline]
fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
