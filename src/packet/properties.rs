//! MQTT 5 properties (section 2.2.2): the one table of which property may stand in which packet,
//! the once-only rule, and the property section of an Application Message as it is forwarded.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::decode::reader::Reader;
use super::varint::variable_byte_integer;
use crate::error::Fault;

/// The identifiers of table 2-4 that a Client may send.
pub(in crate::packet) mod id {
    pub(in crate::packet) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub(in crate::packet) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub(in crate::packet) const CONTENT_TYPE: u8 = 0x03;
    pub(in crate::packet) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in crate::packet) const CORRELATION_DATA: u8 = 0x09;
    pub(in crate::packet) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(in crate::packet) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub(in crate::packet) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub(in crate::packet) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(in crate::packet) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(in crate::packet) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(in crate::packet) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(in crate::packet) const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub(in crate::packet) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(in crate::packet) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(in crate::packet) const SERVER_REFERENCE: u8 = 0x1C;
    pub(in crate::packet) const REASON_STRING: u8 = 0x1F;
    pub(in crate::packet) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(in crate::packet) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(in crate::packet) const TOPIC_ALIAS: u8 = 0x23;
    pub(in crate::packet) const MAXIMUM_QOS: u8 = 0x24;
    pub(in crate::packet) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(in crate::packet) const USER_PROPERTY: u8 = 0x26;
    pub(in crate::packet) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(in crate::packet) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub(in crate::packet) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub(in crate::packet) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// A place of properties in a Client's packets; each is one bit, so that a set of places is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(in crate::packet) enum Place {
    Connect = 1 << 0,
    Will = 1 << 1,
    Publish = 1 << 2,
    PubAck = 1 << 3,
    PubRec = 1 << 4,
    PubRel = 1 << 5,
    PubComp = 1 << 6,
    Subscribe = 1 << 7,
    Unsubscribe = 1 << 8,
    Disconnect = 1 << 9,
    Auth = 1 << 10,
}

/// The encoding of a property's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A byte that is 0 or 1: so is every property of one byte.
    Flag,
    TwoBytes,
    FourBytes,
    VariableByteInteger,
    Text,
    Binary,
    Pair,
}

/// Table 2-4 of the standard: the encoding of a property, and the set of [`Place`]s where a Client may
/// send it. `None` for an identifier that the standard does not define.
const fn rule(id: u8) -> Option<(Kind, u16)> {
    const CONNECT: u16 = Place::Connect as u16;
    const WILL: u16 = Place::Will as u16;
    const PUBLISH: u16 = Place::Publish as u16;
    const ACKS: u16 =
        Place::PubAck as u16 | Place::PubRec as u16 | Place::PubRel as u16 | Place::PubComp as u16;
    const SUBSCRIBE: u16 = Place::Subscribe as u16;
    const DISCONNECT: u16 = Place::Disconnect as u16;
    const AUTH: u16 = Place::Auth as u16;
    const EVERYWHERE: u16 =
        CONNECT | WILL | PUBLISH | ACKS | SUBSCRIBE | Place::Unsubscribe as u16 | DISCONNECT | AUTH;
    /// Only in packets that a Server sends.
    const NOWHERE: u16 = 0;
    Some(match id {
        id::PAYLOAD_FORMAT_INDICATOR => (Kind::Flag, PUBLISH | WILL),
        id::MESSAGE_EXPIRY_INTERVAL => (Kind::FourBytes, PUBLISH | WILL),
        id::CONTENT_TYPE => (Kind::Text, PUBLISH | WILL),
        id::RESPONSE_TOPIC => (Kind::Text, PUBLISH | WILL),
        id::CORRELATION_DATA => (Kind::Binary, PUBLISH | WILL),
        // Valid in a PUBLISH, but not from a Client: `message_properties` refuses it there.
        id::SUBSCRIPTION_IDENTIFIER => (Kind::VariableByteInteger, PUBLISH | SUBSCRIBE),
        id::SESSION_EXPIRY_INTERVAL => (Kind::FourBytes, CONNECT | DISCONNECT),
        id::ASSIGNED_CLIENT_IDENTIFIER => (Kind::Text, NOWHERE),
        id::SERVER_KEEP_ALIVE => (Kind::TwoBytes, NOWHERE),
        id::AUTHENTICATION_METHOD => (Kind::Text, CONNECT | AUTH),
        id::AUTHENTICATION_DATA => (Kind::Binary, CONNECT | AUTH),
        id::REQUEST_PROBLEM_INFORMATION => (Kind::Flag, CONNECT),
        id::WILL_DELAY_INTERVAL => (Kind::FourBytes, WILL),
        id::REQUEST_RESPONSE_INFORMATION => (Kind::Flag, CONNECT),
        id::RESPONSE_INFORMATION => (Kind::Text, NOWHERE),
        id::SERVER_REFERENCE => (Kind::Text, NOWHERE),
        id::REASON_STRING => (Kind::Text, ACKS | DISCONNECT | AUTH),
        id::RECEIVE_MAXIMUM => (Kind::TwoBytes, CONNECT),
        id::TOPIC_ALIAS_MAXIMUM => (Kind::TwoBytes, CONNECT),
        id::TOPIC_ALIAS => (Kind::TwoBytes, PUBLISH),
        id::MAXIMUM_QOS => (Kind::Flag, NOWHERE),
        id::RETAIN_AVAILABLE => (Kind::Flag, NOWHERE),
        id::USER_PROPERTY => (Kind::Pair, EVERYWHERE),
        id::MAXIMUM_PACKET_SIZE => (Kind::FourBytes, CONNECT),
        id::WILDCARD_SUBSCRIPTION_AVAILABLE => (Kind::Flag, NOWHERE),
        id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => (Kind::Flag, NOWHERE),
        id::SHARED_SUBSCRIPTION_AVAILABLE => (Kind::Flag, NOWHERE),
        _ => return None,
    })
}

/// The value of a property, as it stands in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::packet) enum Value<'a> {
    Flag(bool),
    TwoBytes(u16),
    FourBytes(u32),
    VariableByteInteger(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair(&'a str, &'a str),
}

/// Walks a property section; each property is checked against [`rule`] and may stand there once,
/// User Property as often as it likes.
#[derive(Debug, Clone)]
pub(in crate::packet) struct Section<'a> {
    reader: Reader<'a>,
    place: Place,
    /// One bit per identifier; all known ones are below 64.
    seen: u64,
}

impl<'a> Section<'a> {
    /// Takes the Property Length and as many bytes out of `packet`.
    pub(in crate::packet) fn open(
        packet: &mut Reader<'a>,
        place: Place,
    ) -> Result<Section<'a>, Fault> {
        let length = packet.variable_byte_integer()?;
        let bytes = packet.take(length as usize)?;
        Ok(Section { reader: Reader::new(bytes), place, seen: 0 })
    }

    /// The next property, or `None` at the end of the section.
    pub(in crate::packet) fn next(&mut self) -> Result<Option<(u8, Value<'a>)>, Fault> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let identifier = self.reader.variable_byte_integer()?;
        let Some((id, (kind, places))) =
            u8::try_from(identifier).ok().and_then(|id| Some((id, rule(id)?)))
        else {
            return Err(Fault::Malformed("section 2.2.2.2: an unknown property"));
        };
        if places & self.place as u16 == 0 {
            return Err(Fault::Malformed(
                "section 2.2.2.2: a property that this packet must not contain",
            ));
        }
        let bit = 1_u64.wrapping_shl(u32::from(id));
        if self.seen & bit != 0 && id != id::USER_PROPERTY {
            return Err(Fault::Protocol("section 2.2.2: a property stands in the packet twice"));
        }
        self.seen |= bit;
        Ok(Some((id, read_value(&mut self.reader, kind)?)))
    }

    /// Checks the whole section where nothing in it matters to a Server.
    pub(in crate::packet) fn check(mut self) -> Result<(), Fault> {
        while self.next()?.is_some() {}
        Ok(())
    }
}

fn read_value<'a>(reader: &mut Reader<'a>, kind: Kind) -> Result<Value<'a>, Fault> {
    Ok(match kind {
        Kind::Flag => Value::Flag(match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(Fault::Protocol("section 2.2.2: a property is neither 0 nor 1")),
        }),
        Kind::TwoBytes => Value::TwoBytes(reader.two_bytes()?),
        Kind::FourBytes => Value::FourBytes(reader.four_bytes()?),
        Kind::VariableByteInteger => Value::VariableByteInteger(reader.variable_byte_integer()?),
        Kind::Text => Value::Text(reader.string()?),
        Kind::Binary => Value::Binary(reader.binary()?),
        // Both strings obey the rules of strings (MQTT-1.5.7-1).
        Kind::Pair => Value::Pair(reader.string()?, reader.string()?),
    })
}

/// The contents of the property section of a PUBLISH or a Will.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::packet) struct MessageProperties<'a> {
    pub(in crate::packet) properties: PublishProperties<'a>,
    /// PUBLISH alone.
    pub(in crate::packet) topic_alias: Option<u16>,
    /// Will alone, in seconds.
    pub(in crate::packet) delay_secs: u32,
}

/// Reads the property section of a PUBLISH or a Will; `packet` stands at the Property Length.
#[inline]
pub(in crate::packet) fn message_properties<'a>(
    packet: &mut Reader<'a>,
    place: Place,
) -> Result<MessageProperties<'a>, Fault> {
    let section = Section::open(packet, place)?;
    if section.reader.is_empty() {
        return Ok(MessageProperties::default());
    }
    walk_message_properties(section)
}

fn walk_message_properties(mut section: Section<'_>) -> Result<MessageProperties<'_>, Fault> {
    let mut found = MessageProperties::default();
    // The smallest stretch that holds all that is forwarded, as what remains at its start and at
    // its end.
    let mut stretch: Option<(&[u8], usize)> = None;
    let mut forwarded_len = 0_usize;
    loop {
        let at = section.reader.remaining();
        let Some((id, value)) = section.next()? else { break };
        match (id, value) {
            (id::MESSAGE_EXPIRY_INTERVAL, Value::FourBytes(secs)) => {
                found.properties.expiry_secs = Some(secs);
                continue;
            }
            (id::TOPIC_ALIAS, Value::TwoBytes(alias)) => {
                found.topic_alias = Some(alias);
                continue;
            }
            (id::WILL_DELAY_INTERVAL, Value::FourBytes(secs)) => {
                found.delay_secs = secs;
                continue;
            }
            (id::SUBSCRIPTION_IDENTIFIER, _) => {
                return Err(Fault::Protocol(
                    "MQTT-3.3.4-6: a Subscription Identifier from a Client",
                ));
            }
            (id::RESPONSE_TOPIC, Value::Text(topic)) => check_response_topic(topic)?,
            _ => {}
        }
        let rest = section.reader.remaining().len();
        forwarded_len = forwarded_len.saturating_add(at.len().saturating_sub(rest));
        stretch = Some((stretch.map_or(at, |(start, _)| start), rest));
    }
    if let Some((start, rest)) = stretch {
        found.properties.bytes = start.get(..start.len().saturating_sub(rest)).unwrap_or_default();
        found.properties.forwarded_len = forwarded_len;
    }
    Ok(found)
}

/// It is a Topic Name, so it has a character (MQTT-4.7.3-1) and no wildcard.
fn check_response_topic(topic: &str) -> Result<(), Fault> {
    if topic.is_empty() {
        return Err(Fault::Protocol("MQTT-4.7.3-1: the Response Topic is empty"));
    }
    if topic.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
        return Err(Fault::Protocol("MQTT-3.3.2-14: a wildcard in the Response Topic"));
    }
    Ok(())
}

/// Property section of a PUBLISH or a Will, already validated; what is forwarded to subscribers can
/// be copied out of it.
///
/// Forwarded are Payload Format Indicator, Content Type, Response Topic, Correlation Data and User
/// Properties, unaltered and in their order (MQTT-3.3.2-4, -15, -16, -17, -18, -20; for a Will
/// MQTT-3.1.3-10).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PublishProperties<'a> {
    /// Begins and ends with a forwarded property, or is empty; others may stand between.
    bytes: &'a [u8],
    /// Equal to the length of `bytes` where nothing stands between.
    forwarded_len: usize,
    expiry_secs: Option<u32>,
}

impl PublishProperties<'_> {
    /// Message Expiry Interval in seconds, where there is one.
    pub(crate) fn expiry_secs(&self) -> Option<u32> {
        self.expiry_secs
    }

    /// How many bytes [`forward_into`](Self::forward_into) appends.
    pub(crate) fn forwarded_len(&self) -> usize {
        self.forwarded_len
    }

    /// Appends the properties that are forwarded, without a Property Length.
    pub(crate) fn forward_into(&self, out: &mut Vec<u8>) {
        if self.forwarded_len == self.bytes.len() {
            out.extend_from_slice(self.bytes);
        } else {
            self.forward_piecewise(out);
        }
    }

    /// For a sender that wrote Message Expiry Interval or Topic Alias between two that are
    /// forwarded.
    #[cold]
    fn forward_piecewise(&self, out: &mut Vec<u8>) {
        let mut reader = Reader::new(self.bytes);
        loop {
            let at = reader.remaining();
            let Some((id, _)) = next_validated(&mut reader) else { return };
            let size = at.len().saturating_sub(reader.remaining().len());
            if is_forwarded(id) {
                out.extend_from_slice(at.get(..size).unwrap_or_default());
            }
        }
    }
}

/// Whether bytes are encoded properties of a message, all of which subscribers get as they are.
pub(crate) fn is_forwarded_alone(bytes: &[u8]) -> bool {
    let section = Section { reader: Reader::new(bytes), place: Place::Publish, seen: 0 };
    let read = walk_message_properties(section);
    read.is_ok_and(|found| found.properties.forwarded_len == bytes.len())
}

/// Whether subscribers get this property of a PUBLISH or a Will as it was sent.
const fn is_forwarded(id: u8) -> bool {
    !matches!(
        id,
        id::MESSAGE_EXPIRY_INTERVAL
            | id::TOPIC_ALIAS
            | id::SUBSCRIPTION_IDENTIFIER
            | id::WILL_DELAY_INTERVAL
    )
}

/// The next property of bytes that were checked before or that this Server wrote; `None` at their
/// end.
fn next_validated<'a>(reader: &mut Reader<'a>) -> Option<(u8, Value<'a>)> {
    let id = reader.byte().ok()?;
    let (kind, _) = rule(id)?;
    Some((id, read_value(reader, kind).ok()?))
}

/// A property of an Application Message that goes from publisher to subscriber unaltered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the names of the standard")]
pub(crate) enum Property<'a> {
    /// 0: bytes; 1: UTF-8 text.
    PayloadFormatIndicator(u8),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    UserProperty(&'a str, &'a str),
}

/// The properties in bytes that [`PublishProperties::forward_into`] or [`append`] wrote, in their
/// order.
pub(crate) fn forwarded(bytes: &[u8]) -> impl Iterator<Item = Property<'_>> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        Some(match next_validated(&mut reader)? {
            (id::PAYLOAD_FORMAT_INDICATOR, Value::Flag(text)) => {
                Property::PayloadFormatIndicator(u8::from(text))
            }
            (id::CONTENT_TYPE, Value::Text(text)) => Property::ContentType(text),
            (id::RESPONSE_TOPIC, Value::Text(topic)) => Property::ResponseTopic(topic),
            (id::CORRELATION_DATA, Value::Binary(data)) => Property::CorrelationData(data),
            (id::USER_PROPERTY, Value::Pair(name, value)) => Property::UserProperty(name, value),
            _ => return None,
        })
    })
}

/// Appends `property` to those of a message made in this process. The caller has made sure that no
/// string and no data is longer than 65 535 bytes, and that all but User Property are appended
/// once.
pub(crate) fn append(out: &mut Vec<u8>, property: Property<'_>) {
    match property {
        Property::PayloadFormatIndicator(value) => {
            out.extend_from_slice(&[id::PAYLOAD_FORMAT_INDICATOR, value]);
        }
        Property::ContentType(text) => append_binary(out, id::CONTENT_TYPE, text.as_bytes()),
        Property::ResponseTopic(topic) => append_binary(out, id::RESPONSE_TOPIC, topic.as_bytes()),
        Property::CorrelationData(data) => append_binary(out, id::CORRELATION_DATA, data),
        Property::UserProperty(name, value) => {
            append_binary(out, id::USER_PROPERTY, name.as_bytes());
            append_length_prefixed(out, value.as_bytes());
        }
    }
}

pub(in crate::packet) fn append_binary(out: &mut Vec<u8>, id: u8, bytes: &[u8]) {
    out.push(id);
    append_length_prefixed(out, bytes);
}

/// A string or Binary Data. What is beyond 65 535 bytes cannot be said on the wire and is left out.
pub(in crate::packet) fn append_length_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or(bytes));
}

pub(in crate::packet) fn append_two_bytes(out: &mut Vec<u8>, id: u8, value: u16) {
    let [high, low] = value.to_be_bytes();
    out.extend_from_slice(&[id, high, low]);
}

pub(in crate::packet) fn append_four_bytes(out: &mut Vec<u8>, id: u8, value: u32) {
    let [a, b, c, d] = value.to_be_bytes();
    out.extend_from_slice(&[id, a, b, c, d]);
}

pub(in crate::packet) fn append_variable_byte_integer(out: &mut Vec<u8>, id: u8, value: u32) {
    out.push(id);
    variable_byte_integer(out, value);
}

#[cfg(test)]
mod tests;
