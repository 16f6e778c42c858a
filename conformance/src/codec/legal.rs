//! What a server may say in each packet: Reason Codes (section 2.4 and the tables of each packet) and
//! properties (section 2.2.2.2). Looked at for every packet that comes, whatever the case is about.

use super::{Kind, Packet, Property, Version};

const CONNACK: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
    0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];
const RECEIVED: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const RELEASED: &[u8] = &[0x00, 0x92];
const SUBACK: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
const UNSUBACK: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
/// Without 0x04, which is a client's alone.
const DISCONNECT: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];
/// Without 0x19, which is a client's alone.
const AUTH: &[u8] = &[0x00, 0x18];

const IN_CONNACK: &[u8] = &[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
    0x2A,
];
const IN_PUBLISH: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26];
const IN_ANSWERS: &[u8] = &[0x1F, 0x26];
/// Without Session Expiry Interval (MQTT-3.14.2-2).
const IN_DISCONNECT: &[u8] = &[0x1C, 0x1F, 0x26];
const IN_AUTH: &[u8] = &[0x15, 0x16, 0x1F, 0x26];

/// Holds a packet that a server sent against the tables.
///
/// # Errors
/// A text that says which code or property has no place in it.
pub fn check(packet: &Packet, version: Version) -> Result<(), String> {
    let v5 = version == Version::V5;
    match packet {
        Packet::Connack { code, props, .. } => {
            // To a client whose version it does not know a server may answer as 3.1.1 does.
            let old = *code <= 5 && props.is_empty();
            one_of("CONNACK", *code, if v5 && !old { CONNACK } else { &[0, 1, 2, 3, 4, 5] })?;
            none_but("CONNACK", props, IN_CONNACK)
        }
        Packet::Publish(message) => none_but("PUBLISH", &message.props, IN_PUBLISH),
        Packet::Ack { kind, id, code, props } => {
            let known = match kind {
                Kind::Puback | Kind::Pubrec => RECEIVED,
                Kind::Pubrel | Kind::Pubcomp => RELEASED,
            };
            id_is_set(*id)?;
            one_of(&format!("{kind:?}"), *code, known)?;
            none_but(&format!("{kind:?}"), props, IN_ANSWERS)
        }
        Packet::Suback { id, codes, props } => {
            id_is_set(*id)?;
            let known = if v5 { SUBACK } else { &[0x00, 0x01, 0x02, 0x80] };
            codes.iter().try_for_each(|code| one_of("SUBACK", *code, known))?;
            none_but("SUBACK", props, IN_ANSWERS)
        }
        Packet::Unsuback { id, codes, props } => {
            id_is_set(*id)?;
            codes.iter().try_for_each(|code| one_of("UNSUBACK", *code, UNSUBACK))?;
            none_but("UNSUBACK", props, IN_ANSWERS)
        }
        Packet::Pingresp => Ok(()),
        Packet::Disconnect { code, props } => {
            one_of("DISCONNECT", *code, DISCONNECT)?;
            none_but("DISCONNECT", props, IN_DISCONNECT)
        }
        Packet::Auth { code, props } => {
            one_of("AUTH", *code, AUTH)?;
            none_but("AUTH", props, IN_AUTH)
        }
    }
}

fn id_is_set(id: u16) -> Result<(), String> {
    if id == 0 { Err("Packet Identifier 0".into()) } else { Ok(()) }
}

fn one_of(packet: &str, code: u8, known: &[u8]) -> Result<(), String> {
    if known.contains(&code) {
        return Ok(());
    }
    Err(format!("{code:#04x} is no code that a server may send in {packet}"))
}

fn none_but(packet: &str, props: &[Property], known: &[u8]) -> Result<(), String> {
    match props.iter().find(|p| !known.contains(&p.0)) {
        None => Ok(()),
        Some(p) => Err(format!("property {:#04x} in a server's {packet}", p.0)),
    }
}
