//! The types of the protocol: versions, QoS, Packet Identifiers, Reason Codes, and the packets that a
//! Client may send, borrowed from the read buffer.
//!
//! Packets are typed by direction: [`FromClient`] cannot hold a CONNACK, so [`decode`] refuses a packet that is
//! sent in the wrong direction, and no other module sees it. [`encode`] writes the packets of the Server.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod frame;
pub(crate) mod kind;
pub(crate) mod properties;
#[cfg(test)]
pub(crate) mod testing;
mod varint;

pub(crate) use properties::PublishProperties;

pub use crate::reason_code::ReasonCode;
pub use kind::PacketType;

/// The protocol version a Client chose in its CONNECT packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProtocolVersion {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V3_1,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V3_1_1,
    /// MQTT 5.0: protocol name `MQTT`, level 5.
    V5,
}

impl ProtocolVersion {
    /// Whether packets of this version carry properties and reason codes.
    pub(crate) fn is_v5(self) -> bool {
        self == ProtocolVersion::V5
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProtocolVersion::V3_1 => "3.1",
            ProtocolVersion::V3_1_1 => "3.1.1",
            ProtocolVersion::V5 => "5.0",
        })
    }
}

/// The delivery protocol of an Application Message (section 4.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// QoS 0: sent once, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: acknowledged by PUBACK, may arrive more than once.
    AtLeastOnce = 1,
    /// QoS 2: arrives exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS of two bits on the wire; `None` for the reserved value 3 (MQTT-3.3.1-4).
    ///
    /// ```
    /// use hrotti::QoS;
    /// assert_eq!(QoS::from_bits(1), Some(QoS::AtLeastOnce));
    /// assert_eq!(QoS::from_bits(3), None);
    /// ```
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// A Packet Identifier: 1 to 65 535 (MQTT-2.2.1-3, in 3.1.1 MQTT-2.3.1-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PacketId(pub(crate) NonZeroU16);

impl PacketId {
    pub(crate) fn new(value: u16) -> Option<PacketId> {
        NonZeroU16::new(value).map(PacketId)
    }

    pub(crate) fn get(self) -> u16 {
        self.0.get()
    }
}

/// A packet that a Client may send after CONNECT, borrowed from the read buffer and valid in every field that
/// can be judged without knowing the Session. CONNECT comes first and once, from its own
/// [`decode_connect`](decode::decode_connect).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromClient<'a> {
    Publish(Publish<'a>),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    PingReq,
    Disconnect(Disconnect),
    Auth(Auth<'a>),
}

/// CONNECT (section 3.1). Fields that 3.1 and 3.1.1 lack have the value with the same meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connect<'a> {
    pub(crate) version: ProtocolVersion,
    /// Whether a bridge of 3.1 or 3.1.1 sent it.
    pub(crate) bridge: bool,
    /// Clean Start; in 3.1 and 3.1.1 the Clean Session flag.
    pub(crate) clean_start: bool,
    /// Seconds; 0 turns it off.
    pub(crate) keep_alive: u16,
    pub(crate) client_id: &'a str,
    pub(crate) will: Option<ConnectWill<'a>>,
    pub(crate) user_name: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    /// Session Expiry Interval in seconds, `u32::MAX` never expires. In 3.1 and 3.1.1: 0 with Clean
    /// Session 1, `u32::MAX` with Clean Session 0.
    pub(crate) session_expiry_secs: u32,
    /// 65 535 where absent.
    pub(crate) receive_maximum: NonZeroU16,
    pub(crate) maximum_packet_size: Option<NonZeroU32>,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) request_response_information: bool,
    /// `true` where absent.
    pub(crate) request_problem_information: bool,
    pub(crate) authentication_method: Option<&'a str>,
    /// Only with a method.
    pub(crate) authentication_data: Option<&'a [u8]>,
}

/// The Will in a CONNECT packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectWill<'a> {
    /// A valid Topic Name: no wildcard, at least one character, no U+0000.
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Will Delay Interval in seconds.
    pub(crate) delay_secs: u32,
    pub(crate) properties: PublishProperties<'a>,
}

/// PUBLISH (section 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// A valid Topic Name, or empty where a Topic Alias stands for it (MQTT 5).
    pub(crate) topic: &'a str,
    /// `Some` exactly when QoS > 0.
    pub(crate) packet_id: Option<PacketId>,
    pub(crate) topic_alias: Option<NonZeroU16>,
    pub(crate) properties: PublishProperties<'a>,
    pub(crate) payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) packet_id: PacketId,
    /// Success in 3.1 and 3.1.1, and where MQTT 5 leaves it out.
    pub(crate) reason: ReasonCode,
}

/// SUBSCRIBE (section 3.8). The entries of `filters` are checked when they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscribe<'a> {
    pub(crate) packet_id: PacketId,
    /// 1 to 268 435 455.
    pub(crate) subscription_id: Option<NonZeroU32>,
    pub(crate) filters: decode::SubscribeEntries<'a>,
}

/// UNSUBSCRIBE (section 3.10). The entries of `filters` are checked when they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsubscribe<'a> {
    pub(crate) packet_id: PacketId,
    pub(crate) filters: decode::UnsubscribeEntries<'a>,
}

/// When a new subscription is sent the retained messages (section 3.8.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RetainHandling {
    /// 0: at every SUBSCRIBE.
    #[default]
    SendAlways = 0,
    /// 1: only if the subscription did not exist before.
    SendIfNew = 1,
    /// 2: never.
    DoNotSend = 2,
}

/// The Subscription Options of one Topic Filter (section 3.8.3.1).
///
/// ```
/// use hrotti::{QoS, RetainHandling, SubscriptionOptions};
///
/// let mut options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
/// options.no_local = true;
/// assert_eq!(options.retain_handling, RetainHandling::SendAlways);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SubscriptionOptions {
    /// Maximum QoS at which messages are sent. Default 0.
    pub qos: QoS,
    /// Messages that the subscriber published itself are not sent to it (MQTT-3.8.3-3). Default `false`.
    pub no_local: bool,
    /// RETAIN is forwarded as it was published (MQTT-3.3.1-13). Default `false`.
    pub retain_as_published: bool,
    /// When retained messages are sent. Default: at every SUBSCRIBE.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// Options with this maximum QoS and defaults for the rest.
    #[must_use]
    pub fn with_qos(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions { qos, ..SubscriptionOptions::default() }
    }

    /// The options of a bridge of 3.1 or 3.1.1, which has no way to send them in its version: No Local, and Retain
    /// As Published. A shared subscription cannot have No Local (MQTT-3.8.3-4).
    pub(crate) fn of_bridge(self, shared: bool) -> SubscriptionOptions {
        SubscriptionOptions { no_local: !shared, retain_as_published: true, ..self }
    }
}

/// DISCONNECT (section 3.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disconnect {
    pub(crate) reason: ReasonCode,
    /// A new Session Expiry Interval in seconds, where the Client sent one.
    pub(crate) session_expiry_secs: Option<u32>,
}

/// AUTH (section 3.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Auth<'a> {
    /// 0x18 or 0x19.
    pub(crate) reason: ReasonCode,
    /// Always `Some`: an AUTH without one is refused.
    pub(crate) authentication_method: Option<&'a str>,
    pub(crate) authentication_data: Option<&'a [u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_has_no_local_and_retain_as_published() {
        for qos in [QoS::AtMostOnce, QoS::ExactlyOnce] {
            let options = SubscriptionOptions::with_qos(qos);
            let expected = SubscriptionOptions { retain_as_published: true, ..options };
            assert_eq!(options.of_bridge(true), expected, "MQTT-3.8.3-4");
            let expected = SubscriptionOptions { no_local: true, ..expected };
            assert_eq!(options.of_bridge(false), expected);
        }
    }
}
