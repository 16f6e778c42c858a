//! The Application Message: Topic Name, payload, QoS, RETAIN and properties, shared by all Sessions that hold it.
//!
//! A message owns one buffer, made once, in the form that goes onto the wire. A PUBLISH to a subscriber is
//! a short head made for that subscriber and these bytes, so that nothing is encoded twice.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::packet::properties::{self, Property};
use crate::packet::{PublishProperties, QoS};
use crate::time::Timestamp;
use crate::topic::{TopicError, TopicName};

/// The longest string or binary value that the standard can carry (section 1.5.4), in bytes.
const FIELD_BYTES_MAX: usize = 65_535;

/// An Application Message. Cloning is cheap: clones share the payload.
///
/// ```
/// use hrotti::{Message, QoS};
///
/// let message = Message::new("kitchen/temperature", "21.5")?.with_qos(QoS::AtLeastOnce);
/// assert_eq!(message.topic(), "kitchen/temperature");
/// assert_eq!(message.payload(), b"21.5");
/// # Ok::<(), hrotti::TopicError>(())
/// ```
///
/// Properties travel to MQTT 5 Clients, in the publisher's order; 3.1 and 3.1.1 cannot carry them.
///
/// ```
/// use hrotti::Message;
///
/// let request = Message::new("lamp/get", "")?
///     .with_response_topic("answers/7")?
///     .with_correlation_data(&[7])?
///     .with_user_property("from", "hall")?
///     .with_expiry_secs(30);
/// assert_eq!(request.response_topic(), Some("answers/7"));
/// assert_eq!(request.user_properties().collect::<Vec<_>>(), [("from", "hall")]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Message(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    buffer: Buffer,
    topic: Span,
    /// Encoded MQTT 5 properties that travel unaltered to every subscriber.
    properties: Span,
    payload: Span,
    qos: QoS,
    retain: bool,
    expiry_secs: Option<u32>,
    expires_at: Timestamp,
    subscription_ids: Option<Arc<[u32]>>,
}

/// Topic Name and payload of so many bytes together, without properties, stand in the message itself. With
/// this number a message takes 192 bytes of a usual allocator: for 64 bytes of payload that is less than two
/// allocations are, and quicker by a third.
const SHORT_BYTES: usize = 103;

/// The bytes of a message.
#[derive(Clone)]
enum Buffer {
    Short([u8; SHORT_BYTES]),
    Long(Bytes),
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Buffer::Short(bytes) => bytes,
            Buffer::Long(bytes) => bytes,
        }
    }
}

/// A part of the buffer. A packet is at most 268 435 460 bytes long, so 32 bits are enough.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn new(start: usize, len: usize) -> Span {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { start: narrow(start), len: narrow(len) }
    }

    fn of(self, buffer: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buffer.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// Why a property cannot be added to a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PropertyError {
    /// The value is longer than the 65 535 bytes that a field can hold (section 1.5.4).
    TooLong,
    /// The string holds the null character U+0000 (MQTT-1.5.4-2).
    ContainsNul,
    /// The Response Topic is no Topic Name (MQTT-3.3.2-14).
    ResponseTopic,
}

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PropertyError::TooLong => "the value is longer than 65535 bytes (section 1.5.4)",
            PropertyError::ContainsNul => {
                "the value holds the null character U+0000 (MQTT-1.5.4-2)"
            }
            PropertyError::ResponseTopic => "the Response Topic is no Topic Name (MQTT-3.3.2-14)",
        })
    }
}

impl std::error::Error for PropertyError {}

impl Message {
    /// Makes a message of QoS 0, not retained, without properties.
    ///
    /// A packet can carry a payload of 268 435 455 bytes less the Topic Name. A larger payload can be routed to
    /// in-process clients, but not to a Network Connection.
    ///
    /// # Errors
    /// [`TopicError`] if `topic` is no Topic Name (section 4.7).
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Result<Message, TopicError> {
        let topic = TopicName::new(topic)?;
        let payload = payload.as_ref();
        Ok(Message::short(topic.as_str(), payload)
            .unwrap_or_else(|| Message::assemble(topic.as_str(), |_| {}, payload)))
    }

    /// The message of a PUBLISH packet or a Will, with its one copy. `frozen` is the packet where it
    /// was read into a buffer of its own: that is shared instead of copied.
    pub(crate) fn from_packet(
        topic: &str,
        properties: &PublishProperties<'_>,
        payload: &[u8],
        frozen: Option<&Bytes>,
    ) -> Message {
        let plain = properties.forwarded_len() == 0;
        let mut message = frozen
            .filter(|_| plain)
            .and_then(|frame| Message::share(topic, payload, frame))
            .or_else(|| plain.then(|| Message::short(topic, payload))?)
            .unwrap_or_else(|| {
                Message::assemble(topic, |out| properties.forward_into(out), payload)
            });
        if let Some(secs) = properties.expiry_secs() {
            message.edit().expiry_secs = Some(secs);
        }
        message
    }

    /// Points into `frame` where all that is needed stands there.
    fn share(topic: &str, payload: &[u8], frame: &Bytes) -> Option<Message> {
        Some(Message::from_inner(
            Buffer::Long(frame.clone()),
            span_within(frame, topic.as_bytes())?,
            Span::new(0, 0),
            span_within(frame, payload)?,
        ))
    }

    /// A message without properties that is short enough. It is filled where it stays: to move what was just
    /// written in other pieces would wait for each of them.
    fn short(topic: &str, payload: &[u8]) -> Option<Message> {
        if topic.len() + payload.len() > SHORT_BYTES {
            return None;
        }
        let mut message = Message::from_inner(
            Buffer::Short([0; SHORT_BYTES]),
            Span::new(0, topic.len()),
            Span::new(0, 0),
            Span::new(topic.len(), payload.len()),
        );
        let Buffer::Short(bytes) = &mut Arc::get_mut(&mut message.0)?.buffer else { return None };
        let (name, rest) = bytes.split_at_mut_checked(topic.len())?;
        name.copy_from_slice(topic.as_bytes());
        rest.get_mut(..payload.len())?.copy_from_slice(payload);
        Some(message)
    }

    /// A message as it was in another broker, with the moment of its expiry and encoded properties that
    /// [`properties::is_forwarded_alone`] accepts.
    ///
    /// # Errors
    /// [`TopicError`] if `topic` is no Topic Name.
    pub(crate) fn restored(
        topic: &str,
        encoded: &[u8],
        payload: &[u8],
        expiry: Option<(u32, Timestamp)>,
    ) -> Result<Message, TopicError> {
        TopicName::new(topic)?;
        let short = if encoded.is_empty() { Message::short(topic, payload) } else { None };
        let mut message = short.unwrap_or_else(|| {
            Message::assemble(topic, |out| out.extend_from_slice(encoded), payload)
        });
        if let Some((secs, at)) = expiry {
            let inner = message.edit();
            (inner.expiry_secs, inner.expires_at) = (Some(secs), at);
        }
        Ok(message)
    }

    /// What is the same for all clones and for no other message that exists at the same time.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn assemble(topic: &str, properties: impl FnOnce(&mut Vec<u8>), payload: &[u8]) -> Message {
        let mut buffer = Vec::with_capacity(topic.len() + payload.len());
        buffer.extend_from_slice(topic.as_bytes());
        properties(&mut buffer);
        let payload_start = buffer.len();
        buffer.extend_from_slice(payload);
        Message::from_inner(
            Buffer::Long(Bytes::from(buffer)),
            Span::new(0, topic.len()),
            Span::new(topic.len(), payload_start - topic.len()),
            Span::new(payload_start, payload.len()),
        )
    }

    fn from_inner(buffer: Buffer, topic: Span, properties: Span, payload: Span) -> Message {
        Message(Arc::new(Inner {
            buffer,
            topic,
            properties,
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            expiry_secs: None,
            expires_at: Timestamp::NEVER,
            subscription_ids: None,
        }))
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Sets the QoS. Default: QoS 0.
    #[must_use]
    pub fn with_qos(mut self, qos: QoS) -> Message {
        if self.0.qos != qos {
            self.edit().qos = qos;
        }
        self
    }

    /// Sets RETAIN: the broker keeps the message for later subscribers; an empty payload removes the retained
    /// message of the Topic Name (MQTT-3.3.1-5, -6). Default: `false`.
    #[must_use]
    pub fn with_retain(mut self, retain: bool) -> Message {
        if self.0.retain != retain {
            self.edit().retain = retain;
        }
        self
    }

    /// Sets the Message Expiry Interval in seconds, any number, counted from the publishing. Default: the message
    /// never expires. A copy that still waits when the interval has passed is discarded and counted as expired
    /// (MQTT-3.3.2-5).
    #[must_use]
    pub fn with_expiry_secs(mut self, secs: u32) -> Message {
        self.edit().expiry_secs = Some(secs);
        self
    }

    /// Sets the Payload Format Indicator: whether the payload is UTF-8 text. Default: none.
    #[must_use]
    pub fn with_payload_is_utf8(self, is_utf8: bool) -> Message {
        self.with_property(Property::PayloadFormatIndicator(u8::from(is_utf8)))
    }

    /// Adds a Content Type.
    ///
    /// # Errors
    /// [`PropertyError`] if it is no string of the standard.
    pub fn with_content_type(self, content_type: &str) -> Result<Message, PropertyError> {
        check_string(content_type)?;
        Ok(self.with_property(Property::ContentType(content_type)))
    }

    /// Adds a Response Topic, which makes the message a request (section 4.10).
    ///
    /// # Errors
    /// [`PropertyError::ResponseTopic`] if it is no Topic Name.
    pub fn with_response_topic(self, topic: &str) -> Result<Message, PropertyError> {
        TopicName::new(topic).map_err(|_| PropertyError::ResponseTopic)?;
        Ok(self.with_property(Property::ResponseTopic(topic)))
    }

    /// Adds Correlation Data, which a response carries back (section 4.10).
    ///
    /// # Errors
    /// [`PropertyError::TooLong`] if it is longer than 65 535 bytes.
    pub fn with_correlation_data(self, data: &[u8]) -> Result<Message, PropertyError> {
        if data.len() > FIELD_BYTES_MAX {
            return Err(PropertyError::TooLong);
        }
        Ok(self.with_property(Property::CorrelationData(data)))
    }

    /// Adds a User Property. Order is kept, and a name may come more than once (MQTT-3.3.2-18).
    ///
    /// # Errors
    /// [`PropertyError`] if name or value is no string of the standard.
    pub fn with_user_property(self, name: &str, value: &str) -> Result<Message, PropertyError> {
        check_string(name)?;
        check_string(value)?;
        Ok(self.with_property(Property::UserProperty(name, value)))
    }

    /// Rebuilds the buffer with one more property. A property that may stand only once replaces an earlier value.
    fn with_property(self, property: Property<'_>) -> Message {
        let kind = std::mem::discriminant(&property);
        let repeats = matches!(property, Property::UserProperty(..));
        let old = &self.0;
        let fill = |out: &mut Vec<u8>| {
            for kept in properties::forwarded(old.properties.of(&old.buffer)) {
                if repeats || std::mem::discriminant(&kept) != kind {
                    properties::append(out, kept);
                }
            }
            properties::append(out, property);
        };
        let built = Message::assemble(self.topic(), fill, self.payload());
        Message(Arc::new(Inner {
            buffer: built.0.buffer.clone(),
            topic: built.0.topic,
            properties: built.0.properties,
            payload: built.0.payload,
            ..(*self.0).clone()
        }))
    }

    /// The Topic Name.
    #[must_use]
    pub fn topic(&self) -> &str {
        // The span was cut at the borders of a `&str`, so this never falls back.
        std::str::from_utf8(self.topic_bytes()).unwrap_or_default()
    }

    /// The bytes of [`Message::topic`], for callers that only copy or compare them: checking for UTF-8 takes as long
    /// as everything else in sending a small message.
    pub(crate) fn topic_bytes(&self) -> &[u8] {
        self.0.topic.of(&self.0.buffer)
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.0.payload.of(&self.0.buffer)
    }

    /// The payload as [`Bytes`], which share the buffer of a long message and are a copy for a short one.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        match &self.0.buffer {
            Buffer::Short(_) => Bytes::copy_from_slice(self.payload()),
            Buffer::Long(bytes) => {
                let start = self.0.payload.start as usize;
                bytes.slice(start..start + self.0.payload.len as usize)
            }
        }
    }

    /// The QoS: as published, or on a received message as delivered (MQTT-3.8.4-8).
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.0.qos
    }

    /// RETAIN: as published, or on a received message as delivered (MQTT-3.3.1-8, -9 in 3.1.1).
    #[must_use]
    pub fn retain(&self) -> bool {
        self.0.retain
    }

    /// The Message Expiry Interval in seconds; on a received message its remainder (MQTT-3.3.2-6).
    #[must_use]
    pub fn expiry_secs(&self) -> Option<u32> {
        self.0.expiry_secs
    }

    /// The Payload Format Indicator: whether the payload is UTF-8 text; `None` if the publisher did not set it.
    #[must_use]
    pub fn payload_is_utf8(&self) -> Option<bool> {
        self.properties().find_map(|property| match property {
            Property::PayloadFormatIndicator(value) => Some(value == 1),
            _ => None,
        })
    }

    /// The Content Type.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.properties().find_map(|property| match property {
            Property::ContentType(text) => Some(text),
            _ => None,
        })
    }

    /// The Response Topic.
    #[must_use]
    pub fn response_topic(&self) -> Option<&str> {
        self.properties().find_map(|property| match property {
            Property::ResponseTopic(topic) => Some(topic),
            _ => None,
        })
    }

    /// The Correlation Data.
    #[must_use]
    pub fn correlation_data(&self) -> Option<&[u8]> {
        self.properties().find_map(|property| match property {
            Property::CorrelationData(data) => Some(data),
            _ => None,
        })
    }

    /// The User Properties, in the order of the publisher.
    pub fn user_properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// On a received message: the identifiers of the subscriptions that it matched (MQTT-3.3.4-4).
    #[must_use]
    pub fn subscription_ids(&self) -> &[u32] {
        self.0.subscription_ids.as_deref().unwrap_or_default()
    }

    fn properties(&self) -> impl Iterator<Item = Property<'_>> {
        properties::forwarded(self.property_bytes())
    }

    /// The encoded properties that every subscriber gets.
    pub(crate) fn property_bytes(&self) -> &[u8] {
        self.0.properties.of(&self.0.buffer)
    }

    /// What it takes in a queue or a store, in bytes: its buffer.
    pub(crate) fn size_bytes(&self) -> usize {
        let inner = &self.0;
        inner.topic.len as usize + inner.properties.len as usize + inner.payload.len as usize
    }

    /// Fixes the moment of expiry when the broker takes the message over.
    pub(crate) fn accepted_at(mut self, now: Timestamp) -> Message {
        if let Some(secs) = self.0.expiry_secs {
            self.edit().expires_at = now.plus_secs(secs);
        }
        self
    }

    /// When it expires; [`Timestamp::NEVER`] without a Message Expiry Interval.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// Whether its Message Expiry Interval has passed (MQTT-3.3.2-5).
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.0.expires_at <= now
    }

    /// What is left of the Message Expiry Interval, in seconds, never more than was received
    /// (MQTT-3.3.2-6). Rounded up, so that a message that has not expired is never sent with 0.
    pub(crate) fn expiry_left_secs(&self, now: Timestamp) -> Option<u32> {
        let received = self.0.expiry_secs?;
        let left = self.0.expires_at.millis_since(now).div_ceil(1_000);
        Some(u32::try_from(left).map_or(received, |left| left.min(received)))
    }

    /// The message as one subscriber receives it in process.
    pub(crate) fn as_delivered(
        &self,
        qos: QoS,
        retain: bool,
        subscription_ids: Option<Arc<[u32]>>,
        now: Timestamp,
    ) -> Message {
        let mut message = self.clone();
        let left = self.expiry_left_secs(now);
        let inner = message.edit();
        inner.qos = qos;
        inner.retain = retain;
        inner.subscription_ids = subscription_ids;
        inner.expiry_secs = left;
        message
    }
}

/// Where `part` stands inside `frame`, if it is a part of it.
fn span_within(frame: &Bytes, part: &[u8]) -> Option<Span> {
    let start = (part.as_ptr() as usize).checked_sub(frame.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= frame.len()).then(|| Span::new(start, part.len()))
}

fn check_string(text: &str) -> Result<(), PropertyError> {
    if text.len() > FIELD_BYTES_MAX {
        return Err(PropertyError::TooLong);
    }
    if text.contains('\0') {
        return Err(PropertyError::ContainsNul);
    }
    Ok(())
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("payload_bytes", &self.payload().len())
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .finish_non_exhaustive()
    }
}

/// Messages are equal when a subscriber could not tell them apart.
impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        self.topic() == other.topic()
            && self.payload() == other.payload()
            && self.qos() == other.qos()
            && self.retain() == other.retain()
            && self.expiry_secs() == other.expiry_secs()
            && self.property_bytes() == other.property_bytes()
            && self.subscription_ids() == other.subscription_ids()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_keep_their_order_and_single_ones_are_replaced() {
        let message = Message::new("a", "x")
            .unwrap()
            .with_user_property("k", "1")
            .unwrap()
            .with_content_type("text/plain")
            .unwrap()
            .with_user_property("k", "2")
            .unwrap()
            .with_content_type("application/json")
            .unwrap();
        assert_eq!(message.user_properties().collect::<Vec<_>>(), [("k", "1"), ("k", "2")]);
        assert_eq!(message.content_type(), Some("application/json"));
        assert_eq!(message.payload(), b"x");
    }

    #[test]
    fn a_frozen_packet_is_shared_and_not_copied() {
        let frame = Bytes::from_static(b"\x00\x03a/bpayload");
        let topic = std::str::from_utf8(&frame[2..5]).unwrap();
        let message =
            Message::from_packet(topic, &PublishProperties::default(), &frame[5..], Some(&frame));
        assert_eq!(message.topic(), "a/b");
        assert_eq!(message.payload().as_ptr(), frame[5..].as_ptr());
    }

    #[test]
    fn short_and_long_messages_are_the_same_to_whoever_reads_them() {
        for topic in ["t", "plant/line-07/press/temperature"] {
            for size in (0..200).chain([70_000]) {
                let payload = vec![b'x'; size];
                let message = Message::new(topic, &payload).unwrap();
                let short = matches!(message.0.buffer, Buffer::Short(_));
                assert_eq!(short, topic.len() + size <= SHORT_BYTES, "{topic} {size}");
                assert_eq!((message.topic(), message.payload()), (topic, &*payload));
                assert_eq!(message.payload_bytes(), payload);
                assert_eq!(message.size_bytes(), topic.len() + size);
                let none = PublishProperties::default();
                assert_eq!(Message::from_packet(topic, &none, &payload, None), message);
                let richer = message.with_user_property("k", "v").unwrap();
                assert_eq!((richer.topic(), richer.payload()), (topic, &*payload));
            }
        }
    }

    #[test]
    fn what_a_message_takes_of_an_allocator() {
        // With the two counters of an `Arc`, and the word before each allocation: 192.
        assert_eq!(size_of::<Inner>() + 16 + 8, 192);
    }

    #[test]
    fn an_alias_stands_outside_of_the_frozen_packet_and_is_copied() {
        let frame = Bytes::from_static(b"\x00\x00payload");
        let message = Message::from_packet(
            "far/away",
            &PublishProperties::default(),
            &frame[2..],
            Some(&frame),
        );
        assert_eq!(message.topic(), "far/away");
        assert_eq!(message.payload(), b"payload");
    }

    #[test]
    fn what_is_left_of_the_expiry_is_rounded_up_mqtt_3_3_2_6() {
        let message =
            Message::new("a", "x").unwrap().with_expiry_secs(10).accepted_at(Timestamp(1_000));
        assert_eq!(message.expiry_left_secs(Timestamp(1_001)), Some(10));
        assert_eq!(message.expiry_left_secs(Timestamp(2_000)), Some(9));
        // A subscriber's task may look at an older clock than the publisher's: never more than received.
        assert_eq!(message.expiry_left_secs(Timestamp(999)), Some(10));
        assert!(!message.is_expired(Timestamp(10_999)));
        assert!(message.is_expired(Timestamp(11_000)));
    }

    #[test]
    fn a_bad_property_is_refused() {
        let long = "x".repeat(65_536);
        let message = || Message::new("a", "x").unwrap();
        assert_eq!(message().with_content_type(&long), Err(PropertyError::TooLong));
        assert_eq!(message().with_user_property("a\0", "b"), Err(PropertyError::ContainsNul));
        assert_eq!(message().with_response_topic("a/#"), Err(PropertyError::ResponseTopic));
    }
}
