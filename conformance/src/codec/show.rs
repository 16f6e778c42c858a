//! Packets as failures and reports show them: in the words of the standard.

use std::fmt;

use super::decode::Reader;
use super::{Packet, Property, Value, Version, decode};

/// So many codes of SUBACK and UNSUBACK are shown.
const CODES: usize = 12;

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let props = match self {
            Packet::Publish(message) => return fmt::Debug::fmt(message, f),
            Packet::Pingresp => return f.write_str("PINGRESP"),
            Packet::Connack { session_present, code, props } => {
                write!(f, "CONNACK {code:#04x}, Session Present {}", u8::from(*session_present))?;
                props
            }
            Packet::Ack { kind, id, code, props } => {
                write!(f, "{} id {id}, {code:#04x}", format!("{kind:?}").to_uppercase())?;
                props
            }
            Packet::Suback { id, codes, props } => {
                write!(f, "SUBACK id {id}, {}", some(codes))?;
                props
            }
            Packet::Unsuback { id, codes, props } => {
                write!(f, "UNSUBACK id {id}{}{}", comma(codes), some(codes))?;
                props
            }
            Packet::Disconnect { code, props } => {
                write!(f, "DISCONNECT {code:#04x}")?;
                props
            }
            Packet::Auth { code, props } => {
                write!(f, "AUTH {code:#04x}")?;
                props
            }
        };
        listed(f, props)
    }
}

/// The properties behind what a packet says else.
pub(super) fn listed(f: &mut fmt::Formatter<'_>, props: &[Property]) -> fmt::Result {
    props.iter().try_for_each(|p| write!(f, ", {p}"))
}

fn comma(codes: &[u8]) -> &'static str {
    if codes.is_empty() { "" } else { ", " }
}

fn some(codes: &[u8]) -> String {
    let shown: Vec<String> = codes.iter().take(CODES).map(|code| format!("{code:#04x}")).collect();
    let more =
        if codes.len() > CODES { format!(" … {} codes", codes.len()) } else { String::new() };
    shown.join(" ") + &more
}

/// Codes of which one is wanted.
#[must_use]
pub fn one_of(codes: &[u8]) -> String {
    let codes: Vec<String> = codes.iter().map(|code| format!("{code:#04x}")).collect();
    codes.join(" or ")
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", name(self.0))?;
        match &self.1 {
            Value::Byte(n) => write!(f, "{n}"),
            Value::Two(n) => write!(f, "{n}"),
            Value::Four(n) | Value::Var(n) => write!(f, "{n}"),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Binary(bytes) => write!(f, "[{}]", super::hex(bytes)),
            Value::Pair(name, value) => write!(f, "{name:?} = {value:?}"),
        }
    }
}

fn name(id: u8) -> &'static str {
    match id {
        0x01 => "Payload Format Indicator",
        0x02 => "Message Expiry Interval",
        0x03 => "Content Type",
        0x08 => "Response Topic",
        0x09 => "Correlation Data",
        0x0B => "Subscription Identifier",
        0x11 => "Session Expiry Interval",
        0x12 => "Assigned Client Identifier",
        0x13 => "Server Keep Alive",
        0x15 => "Authentication Method",
        0x16 => "Authentication Data",
        0x17 => "Request Problem Information",
        0x18 => "Will Delay Interval",
        0x19 => "Request Response Information",
        0x1A => "Response Information",
        0x1C => "Server Reference",
        0x1F => "Reason String",
        0x21 => "Receive Maximum",
        0x22 => "Topic Alias Maximum",
        0x23 => "Topic Alias",
        0x24 => "Maximum QoS",
        0x25 => "Retain Available",
        0x26 => "User Property",
        0x27 => "Maximum Packet Size",
        0x28 => "Wildcard Subscription Available",
        0x29 => "Subscription Identifiers Available",
        0x2A => "Shared Subscription Available",
        _ => "unknown property",
    }
}

/// What a client sends, as far as it is one whole and sound packet; else how many bytes it is.
#[must_use]
pub fn sent(bytes: &[u8], version: Version) -> String {
    let whole = whole(bytes).and_then(|(first, body)| match first {
        0x10 => connect(body),
        0x82 => request("SUBSCRIBE", body, version, true),
        0xA2 => request("UNSUBSCRIBE", body, version, false),
        0xC0 if body.is_empty() => Some("PINGREQ".into()),
        0xE0 if version < Version::V5 && body.is_empty() => Some("DISCONNECT".into()),
        _ => match first >> 4 {
            3..=7 | 14 | 15 => {
                decode(bytes, version).ok().flatten().map(|(packet, _)| packet.to_string())
            }
            _ => None,
        },
    });
    whole.unwrap_or_else(|| match bytes.len() {
        1 => "1 byte".into(),
        n => format!("{n} bytes"),
    })
}

/// First byte and body of bytes that are one packet, no more and no less.
fn whole(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let mut reader = Reader(rest);
    let n = reader.varint().ok()?;
    (reader.0.len() == n as usize).then_some((first, reader.0))
}

fn connect(body: &[u8]) -> Option<String> {
    let mut r = Reader(body);
    r.text().ok()?;
    let (level, flags, keep_alive) = (r.byte().ok()?, r.byte().ok()?, r.two().ok()?);
    let props = r.props(level == 5).ok()?;
    let id = r.text().ok()?;
    let mut out = format!(
        "CONNECT level {level} {id:?}, clean {}, Keep Alive {keep_alive}{}",
        flags >> 1 & 1,
        if flags & 4 == 0 { String::new() } else { format!(", Will at QoS {}", flags >> 3 & 3) }
    );
    props.iter().for_each(|p| out += &format!(", {p}"));
    Some(out)
}

fn request(name: &str, body: &[u8], version: Version, options: bool) -> Option<String> {
    let mut r = Reader(body);
    let mut out = format!("{name} id {}", r.two().ok()?);
    let props = r.props(version == Version::V5).ok()?;
    let (mut shown, mut all) = (0, 0);
    while !r.0.is_empty() {
        let filter = r.text().ok()?;
        let option = if options { format!(" {:#04x}", r.byte().ok()?) } else { String::new() };
        all += 1;
        if shown < CODES {
            shown += 1;
            out += &format!(", {filter:?}{option}");
        }
    }
    if all > shown {
        out += &format!(" … {all} filters");
    }
    props.iter().for_each(|p| out += &format!(", {p}"));
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Connect, Kind, Publish, Subscribe, Will, packet, prop, unsubscribe};

    #[test]
    fn numbers_are_decimal_and_codes_are_not() {
        let ack = Packet::Ack { kind: Kind::Pubrec, id: 21, code: 0x97, props: vec![] };
        assert_eq!(ack.to_string(), "PUBREC id 21, 0x97");
        let props = vec![prop::receive_maximum(20)];
        let connack = Packet::Connack { session_present: true, code: 0, props };
        assert_eq!(connack.to_string(), "CONNACK 0x00, Session Present 1, Receive Maximum 20");
        let many = Packet::Suback { id: 1, codes: vec![0; 60], props: vec![] };
        assert!(many.to_string().ends_with("0x00 … 60 codes"), "{many}");
        let none = Packet::Unsuback { id: 3, codes: vec![], props: vec![] };
        assert_eq!(none.to_string(), "UNSUBACK id 3");
        assert_eq!(one_of(&[0x81, 0x82]), "0x81 or 0x82");
    }

    #[test]
    fn whole_packets_are_named_and_pieces_are_not() {
        let mut connect = Connect::new(Version::V5, "me");
        connect.will = Some(Will::new("t", "x").qos(2));
        connect.props.push(prop::session_expiry(5));
        let connect = connect.encode();
        assert_eq!(
            sent(&connect, Version::V5),
            "CONNECT level 5 \"me\", clean 1, Keep Alive 0, Will at QoS 2, Session Expiry Interval 5"
        );
        let subscribe = Subscribe::to("a/#", 2).no_local().prop(prop::subscription_id(7));
        assert_eq!(
            sent(&subscribe.encode(Version::V5, 3), Version::V5),
            "SUBSCRIBE id 3, \"a/#\" 0x06, Subscription Identifier 7"
        );
        let publish = Publish::new("t", "x").qos(1).id(9).encode(Version::V311);
        assert!(sent(&publish, Version::V311).starts_with("PUBLISH \"t\" \"x\" qos 1"));
        let end = unsubscribe(Version::V31, 4, &["a", "b"]);
        assert_eq!(sent(&end, Version::V31), "UNSUBSCRIBE id 4, \"a\", \"b\"");
        for whole in [packet(0xC0, &[]), packet(0xE0, &[]), packet(0xE0, &[4])] {
            assert!(!sent(&whole, Version::V5).contains("byte"), "{whole:?}");
        }
        let both = [&connect[..], &publish[..]].concat();
        for piece in [&connect[1..], &connect[..connect.len() - 1], &both, &[0x10], &[0x83, 0]] {
            assert!(sent(piece, Version::V5).contains("byte"), "{piece:?}");
        }
    }
}
