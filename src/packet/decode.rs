//! Reads the packets of a Client out of the read buffer, without copies, allocations or panics. A
//! decoded packet is valid in every field that can be judged without knowing the Session.
//!
//! Faults are distinguished as in section 1.2 of MQTT 5: a packet is malformed if it cannot be parsed,
//! and a protocol error if it can be parsed but is not allowed. Statement ids are those of MQTT 5; if
//! 3.1.1 has the rule under another id, that id stands beside it.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::num::{NonZeroU16, NonZeroU32};

use super::frame::{RESERVED_FLAGS, flags_are_allowed};
use super::properties::{Place, Section, Value, id, message_properties};
use super::{
    Ack, Auth, Disconnect, FromClient, PacketId, ProtocolVersion, Publish, PublishProperties, QoS,
    ReasonCode, RetainHandling, Subscribe, SubscriptionOptions, Unsubscribe,
};
use crate::error::Fault;
use reader::Reader;

mod connect;
pub(in crate::packet) mod reader;

pub(crate) use connect::{BRIDGE_BIT, ConnectError, decode_connect};

/// Reads a packet that is not the first one: `header` and `body` are those of a whole frame.
///
/// # Errors
/// Malformed or Protocol, by what is wrong; Refused with 0x94 for Topic Alias 0. A CONNECT is a
/// protocol error here (MQTT-3.1.0-2).
#[inline]
pub(crate) fn decode<'a>(
    version: ProtocolVersion,
    header: u8,
    body: &'a [u8],
) -> Result<FromClient<'a>, Fault> {
    if header >> 4 == 3 {
        return publish(version, header, body).map(FromClient::Publish);
    }
    if let Some(packet) = short_ack(header, body) {
        return Ok(packet);
    }
    decode_other(version, header, body)
}

/// An acknowledgement as nearly all are: a Packet Identifier and nothing more, which means Success in every
/// version. Known to the caller's compiler, so that it need not be moved about as one of the larger packets.
#[inline]
fn short_ack(header: u8, body: &[u8]) -> Option<FromClient<'static>> {
    let &[high, low] = body else { return None };
    let packet_id = PacketId::new(u16::from_be_bytes([high, low]))?;
    let ack = Ack { packet_id, reason: ReasonCode::SUCCESS };
    Some(match header {
        0x40 => FromClient::PubAck(ack),
        0x50 => FromClient::PubRec(ack),
        0x62 => FromClient::PubRel(ack),
        0x70 => FromClient::PubComp(ack),
        _ => return None,
    })
}

fn decode_other<'a>(
    version: ProtocolVersion,
    header: u8,
    body: &'a [u8],
) -> Result<FromClient<'a>, Fault> {
    let packet_type = header >> 4;
    if !flags_are_allowed(version, header) {
        return Err(RESERVED_FLAGS);
    }
    match packet_type {
        1 => Err(Fault::Protocol("MQTT-3.1.0-2: a second CONNECT")),
        4 => ack(version, body, &PUBACK).map(FromClient::PubAck),
        5 => ack(version, body, &PUBREC).map(FromClient::PubRec),
        6 => ack(version, body, &PUBREL).map(FromClient::PubRel),
        7 => ack(version, body, &PUBCOMP).map(FromClient::PubComp),
        8 => subscribe(version, body).map(FromClient::Subscribe),
        10 => unsubscribe(version, body).map(FromClient::Unsubscribe),
        12 => Reader::new(body).finish().map(|()| FromClient::PingReq),
        14 => disconnect(version, body).map(FromClient::Disconnect),
        15 if version.is_v5() => auth(body).map(FromClient::Auth),
        0 | 15 => Err(Fault::Malformed("section 2.1.2: a reserved Packet Type")),
        _ => Err(Fault::Protocol("section 2.1.2: a packet that only a Server sends")),
    }
}

/// Section 3.3. The hot path.
fn publish<'a>(version: ProtocolVersion, header: u8, body: &'a [u8]) -> Result<Publish<'a>, Fault> {
    let qos = QoS::from_bits((header >> 1) & 0b11)
        .ok_or(Fault::Malformed("MQTT-3.3.1-4: both QoS bits of a PUBLISH are 1"))?;
    let dup = header & 0b1000 != 0 && qos != QoS::AtMostOnce;
    // 3.1 says what DUP means at QoS 0 (nothing) and does not forbid it.
    if header & 0b1110 == 0b1000 && version != ProtocolVersion::V3_1 {
        return Err(Fault::Malformed("MQTT-3.3.1-2: DUP in a PUBLISH of QoS 0"));
    }
    let mut reader = Reader::new(body);
    let topic = reader.topic_name(Fault::Protocol("MQTT-3.3.2-2: a wildcard in the Topic Name"))?;
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
    let mut properties = PublishProperties::default();
    let mut topic_alias = None;
    if version.is_v5() {
        let found = message_properties(&mut reader, Place::Publish)?;
        properties = found.properties;
        if let Some(alias) = found.topic_alias {
            topic_alias = Some(NonZeroU16::new(alias).ok_or(Fault::Refused(
                ReasonCode::TOPIC_ALIAS_INVALID,
                "MQTT-3.3.2-8: Topic Alias 0",
            ))?);
        }
        if topic.is_empty() && topic_alias.is_none() {
            return Err(Fault::Protocol("section 3.3.2.1: neither Topic Name nor Topic Alias"));
        }
    } else if topic.is_empty() {
        return Err(Fault::Malformed("MQTT-4.7.3-1: an empty Topic Name"));
    }
    let retain = header & 0b0001 != 0;
    let payload = reader.remaining();
    Ok(Publish { dup, qos, retain, topic, packet_id, topic_alias, properties, payload })
}

/// The differences between the four acknowledgements of a PUBLISH.
struct AckRules {
    place: Place,
    /// The Reason Codes that a Client may send, besides Success.
    reasons: &'static [u8],
    fault: Fault,
}

/// Tables 3-4 and 3-5. 0x10 is meant for a Server (section 3.4.2.1), but no statement forbids it to a Client, and
/// it means success: a Client that passes on what another Server told it sends it.
const PUBLISH_REASONS: &[u8] = &[0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBACK: AckRules = AckRules {
    place: Place::PubAck,
    reasons: PUBLISH_REASONS,
    fault: Fault::Protocol("MQTT-3.4.2-1: not a Reason Code of PUBACK"),
};
const PUBREC: AckRules = AckRules {
    place: Place::PubRec,
    reasons: PUBLISH_REASONS,
    fault: Fault::Protocol("MQTT-3.5.2-1: not a Reason Code of PUBREC"),
};
const PUBREL: AckRules = AckRules {
    place: Place::PubRel,
    reasons: &[0x92],
    fault: Fault::Protocol("MQTT-3.6.2-1: not a Reason Code of PUBREL"),
};
const PUBCOMP: AckRules = AckRules {
    place: Place::PubComp,
    reasons: &[0x92],
    fault: Fault::Protocol("MQTT-3.7.2-1: not a Reason Code of PUBCOMP"),
};

/// Sections 3.4 to 3.7.
fn ack(version: ProtocolVersion, body: &[u8], rules: &AckRules) -> Result<Ack, Fault> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    if reader.is_empty() {
        return Ok(Ack { packet_id, reason: ReasonCode::SUCCESS });
    }
    if !version.is_v5() {
        reader.finish()?;
    }
    let reason = reader.byte()?;
    if reason != 0 && !rules.reasons.contains(&reason) {
        return Err(rules.fault);
    }
    if !reader.is_empty() {
        Section::open(&mut reader, rules.place)?.check()?;
        reader.finish()?;
    }
    Ok(Ack { packet_id, reason: ReasonCode(reason) })
}

/// Section 3.8.
fn subscribe(version: ProtocolVersion, body: &[u8]) -> Result<Subscribe<'_>, Fault> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let mut subscription_id = None;
    if version.is_v5() {
        let mut section = Section::open(&mut reader, Place::Subscribe)?;
        while let Some(property) = section.next()? {
            if let (id::SUBSCRIPTION_IDENTIFIER, Value::VariableByteInteger(value)) = property {
                subscription_id = Some(
                    NonZeroU32::new(value)
                        .ok_or(Fault::Protocol("section 3.8.2.1.2: Subscription Identifier 0"))?,
                );
            }
        }
    }
    if reader.is_empty() {
        return Err(Fault::Protocol("MQTT-3.8.3-2: a SUBSCRIBE without Topic Filter"));
    }
    let filters = SubscribeEntries { version, reader };
    Ok(Subscribe { packet_id, subscription_id, filters })
}

/// Section 3.8.3.1.
fn subscription_options(version: ProtocolVersion, byte: u8) -> Result<SubscriptionOptions, Fault> {
    let v5 = version.is_v5();
    // In 3.1.1 all but the QoS is reserved, and a wrong QoS is malformed too (there MQTT-3.8.3-4).
    if byte & if v5 { 0b1100_0000 } else { 0b1111_1100 } != 0 {
        return Err(Fault::Malformed("MQTT-3.8.3-5: reserved bits in the Subscription Options"));
    }
    let qos = match QoS::from_bits(byte & 0b11) {
        Some(qos) => qos,
        None if v5 => return Err(Fault::Protocol("section 3.8.3.1: Maximum QoS 3")),
        None => return Err(Fault::Malformed("MQTT-3.8.3-4: Requested QoS 3")),
    };
    let retain_handling = match (byte >> 4) & 0b11 {
        0 => RetainHandling::SendAlways,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(Fault::Protocol("section 3.8.3.1: Retain Handling 3")),
    };
    Ok(SubscriptionOptions {
        qos,
        no_local: byte & 0b0100 != 0,
        retain_as_published: byte & 0b1000 != 0,
        retain_handling,
    })
}

/// The Topic Filters of a SUBSCRIBE with their options, at least one. They are read lazily, so that a packet with very
/// many need not be read in one turn. The texts are not checked here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubscribeEntries<'a> {
    version: ProtocolVersion,
    reader: Reader<'a>,
}

impl<'a> SubscribeEntries<'a> {
    /// The entries that stand in the last `left` bytes of a packet's body.
    pub(crate) fn in_last(left: usize, body: &'a [u8], version: ProtocolVersion) -> Self {
        SubscribeEntries { version, reader: last(left, body) }
    }

    /// Bytes of the packet that were not read yet.
    pub(crate) fn bytes_left(&self) -> usize {
        self.reader.remaining().len()
    }

    fn read(&mut self) -> Result<(&'a str, SubscriptionOptions), Fault> {
        Ok((self.reader.string()?, subscription_options(self.version, self.reader.byte()?)?))
    }
}

impl<'a> Iterator for SubscribeEntries<'a> {
    /// A fault is the last item.
    type Item = Result<(&'a str, SubscriptionOptions), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        Some(self.read().inspect_err(|_| self.reader = Reader::new(&[])))
    }
}

fn last(left: usize, body: &[u8]) -> Reader<'_> {
    let start = body.len().saturating_sub(left);
    Reader::new(body.get(start..).unwrap_or_default())
}

impl PartialEq for SubscribeEntries<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.reader.remaining() == other.reader.remaining()
    }
}

impl Eq for SubscribeEntries<'_> {}

/// Section 3.10.
fn unsubscribe(version: ProtocolVersion, body: &[u8]) -> Result<Unsubscribe<'_>, Fault> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    if version.is_v5() {
        Section::open(&mut reader, Place::Unsubscribe)?.check()?;
    }
    if reader.is_empty() {
        return Err(Fault::Protocol("MQTT-3.10.3-2: an UNSUBSCRIBE without Topic Filter"));
    }
    Ok(Unsubscribe { packet_id, filters: UnsubscribeEntries { reader } })
}

/// The Topic Filters of an UNSUBSCRIBE, at least one, read as those of [`SubscribeEntries`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnsubscribeEntries<'a> {
    reader: Reader<'a>,
}

impl<'a> UnsubscribeEntries<'a> {
    /// The entries that stand in the last `left` bytes of a packet's body.
    pub(crate) fn in_last(left: usize, body: &'a [u8]) -> Self {
        UnsubscribeEntries { reader: last(left, body) }
    }

    /// Bytes of the packet that were not read yet.
    pub(crate) fn bytes_left(&self) -> usize {
        self.reader.remaining().len()
    }
}

impl<'a> Iterator for UnsubscribeEntries<'a> {
    /// A fault is the last item.
    type Item = Result<&'a str, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        Some(self.reader.string().inspect_err(|_| self.reader = Reader::new(&[])))
    }
}

impl PartialEq for UnsubscribeEntries<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.reader.remaining() == other.reader.remaining()
    }
}

impl Eq for UnsubscribeEntries<'_> {}

/// Section 3.14.
fn disconnect(version: ProtocolVersion, body: &[u8]) -> Result<Disconnect, Fault> {
    let mut found = Disconnect { reason: ReasonCode::SUCCESS, session_expiry_secs: None };
    let mut reader = Reader::new(body);
    if reader.is_empty() {
        return Ok(found);
    }
    if !version.is_v5() {
        reader.finish()?;
    }
    let reason = reader.byte()?;
    // The Reason Codes of table 3-10 that are not a Server's alone.
    if !matches!(reason, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99) {
        return Err(Fault::Protocol("MQTT-3.14.2-1: not a Reason Code of a Client's DISCONNECT"));
    }
    found.reason = ReasonCode(reason);
    if !reader.is_empty() {
        let mut section = Section::open(&mut reader, Place::Disconnect)?;
        while let Some(property) = section.next()? {
            if let (id::SESSION_EXPIRY_INTERVAL, Value::FourBytes(secs)) = property {
                found.session_expiry_secs = Some(secs);
            }
        }
        reader.finish()?;
    }
    Ok(found)
}

/// Section 3.15; MQTT 5 alone.
fn auth(body: &[u8]) -> Result<Auth<'_>, Fault> {
    let mut reader = Reader::new(body);
    // Without a body it is 0x00 (Success), which a Server alone sends.
    let reason = if reader.is_empty() { 0x00 } else { reader.byte()? };
    if !matches!(reason, 0x18 | 0x19) {
        return Err(Fault::Protocol("MQTT-3.15.2-1: not a Reason Code of a Client's AUTH"));
    }
    let (mut authentication_method, mut authentication_data) = (None, None);
    let mut section = Section::open(&mut reader, Place::Auth)?;
    while let Some(property) = section.next()? {
        match property {
            (id::AUTHENTICATION_METHOD, Value::Text(method)) => {
                authentication_method = Some(method);
            }
            (id::AUTHENTICATION_DATA, Value::Binary(data)) => authentication_data = Some(data),
            _ => {}
        }
    }
    reader.finish()?;
    if authentication_method.is_none() {
        return Err(Fault::Protocol("section 3.15.2.2.2: an AUTH without Authentication Method"));
    }
    Ok(Auth { reason: ReasonCode(reason), authentication_method, authentication_data })
}

#[cfg(test)]
mod tests;
