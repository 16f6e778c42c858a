//! The first bytes of a Network Connection: what they are where they cannot begin a CONNECT.

use super::variable_byte_integer;
use crate::error::Fault;

/// How other protocols begin, and what is said of them.
const OTHER_PROTOCOLS: &[(&[u8], &str)] = &[
    (b"\x16\x03", TLS),
    (b"PROXY ", PROXY),
    (b"\r\n\r\n\0\r\nQUIT\n", PROXY),
    (b"GET ", HTTP),
    (b"POST ", HTTP),
    (b"PUT ", HTTP),
    (b"HEAD ", HTTP),
    (b"DELETE ", HTTP),
    (b"OPTIONS ", HTTP),
    (b"CONNECT ", HTTP),
    (b"TRACE ", HTTP),
    (b"PATCH ", HTTP),
    (b"PRI * HTTP/2", HTTP),
];
const TLS: &str = "MQTT-3.1.0-1: a TLS ClientHello: the listener speaks plain MQTT";
const HTTP: &str = "MQTT-3.1.0-1: an HTTP request on an MQTT listener";
const PROXY: &str = "MQTT-3.1.0-1: a PROXY protocol header: the listener speaks plain MQTT";

/// By Packet Type. A CONNECT has no such text.
const PACKETS: [&str; 16] = [
    "MQTT-3.1.0-1: no MQTT: Packet Type 0 before CONNECT",
    "",
    "MQTT-3.1.0-1: CONNACK before CONNECT",
    "MQTT-3.1.0-1: PUBLISH before CONNECT",
    "MQTT-3.1.0-1: PUBACK before CONNECT",
    "MQTT-3.1.0-1: PUBREC before CONNECT",
    "MQTT-3.1.0-1: PUBREL before CONNECT",
    "MQTT-3.1.0-1: PUBCOMP before CONNECT",
    "MQTT-3.1.0-1: SUBSCRIBE before CONNECT",
    "MQTT-3.1.0-1: SUBACK before CONNECT",
    "MQTT-3.1.0-1: UNSUBSCRIBE before CONNECT",
    "MQTT-3.1.0-1: UNSUBACK before CONNECT",
    "MQTT-3.1.0-1: PINGREQ before CONNECT",
    "MQTT-3.1.0-1: PINGRESP before CONNECT",
    "MQTT-3.1.0-1: DISCONNECT before CONNECT",
    "MQTT-3.1.0-1: AUTH before CONNECT",
];

/// The protocol names of all versions, as they stand behind the Remaining Length (MQTT-3.1.2-1).
const NAMES: [&[u8]; 2] = [b"\0\x04MQTT", b"\0\x06MQIsdp"];

/// Whether `bytes`, all that a peer has sent so far, may begin a CONNECT. What cannot is told at the first byte
/// that shows it, and not when the time for CONNECT is over.
///
/// # Errors
/// Protocol, saying what the bytes look like; Malformed for a Remaining Length that is none.
pub(crate) fn judge_first_bytes(bytes: &[u8]) -> Result<(), Fault> {
    let Some((&header, after_header)) = bytes.split_first() else { return Ok(()) };
    // A byte alone that may begin a packet as well: PUBREC, and a CONNECT of 3.1.
    let is_ambiguous = matches!(bytes, b"P" | b"\x16");
    let other = OTHER_PROTOCOLS.iter().find(|(start, _)| !is_ambiguous && agree(bytes, start));
    if let Some((_, text)) = other {
        return Err(Fault::Protocol(text));
    }
    match PACKETS.get(usize::from(header >> 4)) {
        Some(&text) if !text.is_empty() => Err(Fault::Protocol(text)),
        _ => judge_name(after_header),
    }
}

/// The protocol name of a CONNECT, as far as it is there.
fn judge_name(after_header: &[u8]) -> Result<(), Fault> {
    let Some((length, size)) = variable_byte_integer(after_header)? else { return Ok(()) };
    let body = after_header.get(size..).unwrap_or_default();
    let body = body.get(..length as usize).unwrap_or(body);
    if NAMES.iter().any(|name| agree(body, name)) {
        return Ok(());
    }
    Err(Fault::Protocol("MQTT-3.1.2-1: an unknown protocol name"))
}

/// Whether one begins as the other does, as far as both go.
fn agree(one: &[u8], other: &[u8]) -> bool {
    one.iter().zip(other).all(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    fn text(bytes: &[u8]) -> Option<&'static str> {
        judge_first_bytes(bytes).err().map(Fault::detail)
    }

    #[test]
    fn another_protocol_is_named_at_the_first_byte_that_shows_it() {
        for (bytes, shown_at, what) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], 1, HTTP),
            (b"HEAD / HTTP/1.1\r\n", 1, HTTP),
            (b"OPTIONS * HTTP/1.1\r\n", 1, HTTP),
            (b"DELETE /x HTTP/1.0\r\n", 1, HTTP),
            (b"TRACE / HTTP/1.1\r\n", 1, HTTP),
            (b"CONNECT example.org:443 HTTP/1.1\r\n", 1, HTTP),
            (b"POST /api HTTP/1.1\r\n", 2, HTTP),
            (b"PUT /api HTTP/1.1\r\n", 2, HTTP),
            (b"PATCH /api HTTP/1.1\r\n", 2, HTTP),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 5 1883\r\n", 3, PROXY),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 3, HTTP),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C", 1, PROXY),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03", 2, TLS),
        ] {
            for length in shown_at..=bytes.len() {
                assert_eq!(text(&bytes[..length]), Some(what), "{length} bytes of {bytes:02X?}");
            }
        }
        assert_eq!(text(b"\x16"), None, "may be a CONNECT of 3.1");
    }

    #[test]
    fn every_other_packet_is_named_at_its_first_byte_mqtt_3_1_0_1() {
        for header in 0..=255_u8 {
            let found = text(&[header]);
            assert_eq!(found.is_none(), header >> 4 == 1, "0x{header:02X}");
        }
        for (bytes, name) in [
            (&b"\x50"[..], "PUBREC"),
            (b"\x50\x02\0\x01", "PUBREC"),
            (b"\x20\x02\0\0", "CONNACK"),
            (b"\x30\x05\0\x01txy", "PUBLISH"),
            (b"\x82", "SUBSCRIBE"),
            (b"\xC0\0", "PINGREQ"),
            (b"\xE0\0", "DISCONNECT"),
            (b"\xF0\0", "AUTH"),
            (b"\0", "Packet Type 0"),
        ] {
            let found = text(bytes).unwrap_or_default();
            assert!(found.ends_with(&format!("{name} before CONNECT")), "{bytes:02X?}: {found}");
        }
    }

    /// MQTT-3.1.2-1
    #[test]
    fn a_connect_is_judged_by_its_protocol_name_as_far_as_that_is_there() {
        for bytes in [
            &b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0"[..],
            b"\x10\x8C\x02\0\x04MQTT\x05\x02\0\0\0",
            b"\x1F\x0F\0\x06MQIsdp\x03\x03\0\0\0\x01c",
            b"\x10\x03\0\x04M\xC0\0", // too short a packet is judged when it is whole
            b"\x10\0\xC0\0",
        ] {
            for length in 0..=bytes.len() {
                assert_eq!(text(&bytes[..length]), None, "{length} bytes of {bytes:02X?}");
            }
        }
        for (bytes, shown_at) in [
            (&b"\x10\x7F\x01"[..], 3),
            (b"\x10\x7F\0\x05", 4),
            (b"\x10\x7F\0\x04HTTP", 5),
            (b"\x10\x7F\0\x04MQIsdp", 7),
            (b"\x10\x7F\0\x06MQTT\x04\x02", 7),
        ] {
            for length in 0..=bytes.len() {
                let expected = (length >= shown_at).then_some("MQTT-3.1.2-1");
                let found = text(&bytes[..length]).and_then(|text| text.split(':').next());
                assert_eq!(found, expected, "{length} bytes of {bytes:02X?}");
            }
        }
        assert!(
            text(b"\x10\xFF\xFF\xFF\xFF").is_some_and(|text| text.starts_with("section 1.5.5"))
        );
    }
}
