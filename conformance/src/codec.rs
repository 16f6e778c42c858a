//! The suite's own words of MQTT: it shares no code with the broker that it judges.

use std::fmt;

mod decode;
mod encode;
mod legal;
mod show;

pub use decode::decode;
pub use encode::{Connect, Publish, Subscribe, Will, packet, pubrel, text, unsubscribe, varint};
pub use legal::check;
pub use show::{one_of, sent};

/// A protocol version, by its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1
    V31 = 3,
    /// MQTT 3.1.1
    V311 = 4,
    /// MQTT 5.0
    V5 = 5,
}

impl Version {
    /// The protocol level in CONNECT.
    #[must_use]
    pub fn level(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V31 => "3.1",
            Version::V311 => "3.1.1",
            Version::V5 => "5",
        })
    }
}

/// Every version, for cases that hold in all.
pub const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A property's value, by its wire type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Byte
    Byte(u8),
    /// Two Byte Integer
    Two(u16),
    /// Four Byte Integer
    Four(u32),
    /// Variable Byte Integer
    Var(u32),
    /// UTF-8 Encoded String
    Text(String),
    /// Binary Data
    Binary(Vec<u8>),
    /// UTF-8 String Pair
    Pair(String, String),
}

/// One property: identifier and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property(pub u8, pub Value);

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) = $id:literal, $value:expr;)*) => {
        /// One constructor for each property of section 2.2.2.2.
        pub mod prop {
            #![allow(missing_docs)]
            use super::{Property, Value};
            $($(#[$doc])* pub fn $name($($arg: $kind),*) -> Property { Property($id, $value) })*
        }
    };
}

properties! {
    payload_format(n: u8) = 0x01, Value::Byte(n);
    message_expiry(secs: u32) = 0x02, Value::Four(secs);
    content_type(t: &str) = 0x03, Value::Text(t.into());
    response_topic(t: &str) = 0x08, Value::Text(t.into());
    correlation_data(b: &[u8]) = 0x09, Value::Binary(b.to_vec());
    subscription_id(n: u32) = 0x0B, Value::Var(n);
    session_expiry(secs: u32) = 0x11, Value::Four(secs);
    auth_method(t: &str) = 0x15, Value::Text(t.into());
    request_problem_info(n: u8) = 0x17, Value::Byte(n);
    request_response_info(n: u8) = 0x19, Value::Byte(n);
    will_delay(secs: u32) = 0x18, Value::Four(secs);
    receive_maximum(n: u16) = 0x21, Value::Two(n);
    topic_alias_maximum(n: u16) = 0x22, Value::Two(n);
    topic_alias(n: u16) = 0x23, Value::Two(n);
    user(name: &str, value: &str) = 0x26, Value::Pair(name.into(), value.into());
    maximum_packet_size(n: u32) = 0x27, Value::Four(n);
}

/// What a server may send.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Packet {
    Connack { session_present: bool, code: u8, props: Vec<Property> },
    Publish(Received),
    Ack { kind: Kind, id: u16, code: u8, props: Vec<Property> },
    Suback { id: u16, codes: Vec<u8>, props: Vec<Property> },
    Unsuback { id: u16, codes: Vec<u8>, props: Vec<Property> },
    Pingresp,
    Disconnect { code: u8, props: Vec<Property> },
    Auth { code: u8, props: Vec<Property> },
}

/// The four acknowledgements of PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
}

/// A PUBLISH that came from the server.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub dup: bool,
    pub retain: bool,
    /// 0 at QoS 0
    pub id: u16,
    pub props: Vec<Property>,
}

impl Received {
    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The value of the first property with this identifier.
    #[must_use]
    pub fn prop(&self, id: u8) -> Option<&Value> {
        find(&self.props, id)
    }

    /// All user properties, in order.
    #[must_use]
    pub fn user(&self) -> Vec<(&str, &str)> {
        self.props
            .iter()
            .filter_map(|p| match &p.1 {
                Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
                _ => None,
            })
            .collect()
    }

    /// All subscription identifiers, sorted.
    #[must_use]
    pub fn subscription_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .props
            .iter()
            .filter_map(|p| match p {
                Property(0x0B, Value::Var(n)) => Some(*n),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut payload = self.text();
        if payload.len() > 80 {
            payload = format!("{} bytes", self.payload.len());
        }
        write!(f, "PUBLISH {:?} {payload:?} qos {}", self.topic, self.qos)?;
        write!(f, " dup {} retain {} id {}", self.dup, self.retain, self.id)?;
        show::listed(f, &self.props)
    }
}

/// The value of the first property with this identifier.
#[must_use]
pub fn find(props: &[Property], id: u8) -> Option<&Value> {
    props.iter().find(|p| p.0 == id).map(|p| &p.1)
}

/// Bytes as a failure shows them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out: Vec<String> = bytes.iter().take(48).map(|b| format!("{b:02x}")).collect();
    if bytes.len() > 48 {
        out.push(format!("… {} bytes", bytes.len()));
    }
    out.join(" ")
}
