//! Sections 3.1.2 to 3.1.4: what makes a server refuse CONNECT, and how it does.

use super::not_welcome;
use crate::codec::Version::{V5, V31, V311};
use crate::codec::{ALL, Publish, Version, Will, packet, prop};
use crate::failure::Step;
use crate::target::Server;

// 3.1 does not say what a server does with connect flags that it leaves unused, or with strings that are
// none, and the Remaining Length outweighs what the flags announce.
const STRICT: [Version; 2] = [V311, V5];

/// Where the connect flags stand in a CONNECT of 3.1.1 or 5.0 with less than 128 bytes.
const FLAGS: usize = 9;

/// Sends a CONNECT that breaks the format: closed without CONNACK in 3.1.1 (MQTT-3.1.4-1), closed with or
/// without one in 5.0.
fn breaks_the_format(server: &Server, version: Version, bytes: &[u8]) -> Step {
    let mut client = server.client(version, "a").open()?;
    client.send(bytes)?;
    if version < V5 { client.expect_end() } else { client.expect_refusal(&[0x81, 0x82]) }
}

pub(crate) fn will_bits_without_will_flag(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        for bits in [0x08, 0x10, 0x20] {
            let mut bytes = server.client(version, "a").bytes();
            bytes[FLAGS] |= bits;
            breaks_the_format(server, version, &bytes)?;
        }
    }
    Ok(())
}

pub(crate) fn will_qos_3(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        let mut bytes = server.client(version, "a").will(Will::new("w", "x")).bytes();
        bytes[FLAGS] |= 0x18;
        breaks_the_format(server, version, &bytes)?;
    }
    Ok(())
}

pub(crate) fn fields_missing_that_flags_announce(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        let plain = server.client(version, "a");
        let named = plain.clone().credentials(Some("u"), None);
        for (whole, flag) in [(&plain, 0x04), (&plain, 0x80), (&named, 0x40)] {
            let mut bytes = whole.bytes();
            bytes[FLAGS] |= flag;
            breaks_the_format(server, version, &bytes)?;
        }
        // No payload at all: not even a Client Identifier.
        let head = if version == V5 { 13 } else { 12 };
        breaks_the_format(server, version, &packet(0x10, &plain.bytes()[2..head]))?;
    }
    Ok(())
}

pub(crate) fn fields_present_that_flags_deny(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        let plain = server.client(version, "a");
        let full = plain.clone().credentials(Some("u"), Some("p"));
        let dying = plain.will(Will::new("w", "x"));
        for (whole, flags) in [(&full, 0x40), (&full, 0xC0), (&dying, 0x04)] {
            let mut bytes = whole.bytes();
            bytes[FLAGS] &= !flags;
            breaks_the_format(server, version, &bytes)?;
        }
    }
    Ok(())
}

pub(crate) fn password_without_user_name(server: &Server) -> Step {
    // 5.0 allows it: connect::credentials_are_read_past.
    let bytes = server.v311("a").credentials(None, Some("p")).bytes();
    breaks_the_format(server, V311, &bytes)
}

/// CONNECTs with `with` in Client Identifier, Will Topic and user name, one at a time.
fn spoiled(server: &Server, version: Version, with: [u8; 3]) -> Vec<Vec<u8>> {
    let plain = server.client(version, "a");
    [
        server.client(version, "~~~").bytes(),
        plain.clone().will(Will::new("~~~", "x")).bytes(),
        plain.credentials(Some("~~~"), None).bytes(),
    ]
    .into_iter()
    .map(|mut bytes| {
        if let Some(at) = bytes.windows(3).position(|w| w == b"~~~") {
            bytes[at..at + 3].copy_from_slice(&with);
        }
        bytes
    })
    .collect()
}

/// The end, or a refusal that blames the field: 0x85 is for Client Identifiers, 0x90 for topics, 0x86 for
/// user names; 3.1.1 has 0x02 and 0x04.
fn string_is_refused(server: &Server, version: Version, bytes: &[u8]) -> Step {
    let mut client = server.client(version, "a").open()?;
    client.send(bytes)?;
    let codes: &[u8] = if version == V5 { &[0x81, 0x82, 0x85, 0x86, 0x90] } else { &[0x02, 0x04] };
    client.expect_refusal(codes)
}

pub(crate) fn strings_must_be_utf_8(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        // A stray byte, a surrogate, an overlong form, a code point beyond the last.
        for with in [[b'a', 0xFF, b'a'], [0xED, 0xA0, 0x80], [b'a', 0xC0, 0xAF], [0xF5, b'a', b'a']]
        {
            for bytes in spoiled(server, version, with) {
                string_is_refused(server, version, &bytes)?;
            }
        }
    }
    Ok(())
}

pub(crate) fn strings_must_not_have_nul(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        for bytes in spoiled(server, version, [b'a', 0, b'a']) {
            string_is_refused(server, version, &bytes)?;
        }
    }
    Ok(())
}

pub(crate) fn session_present_is_0(server: &Server) -> Step {
    if !server.spoken([V5]).is_empty() {
        let known = server.v5("a").persistent();
        known.connect()?.disconnect()?;
        known.clone().prop(prop::auth_method("X-NO-SUCH-METHOD")).expect_refused(&[0x8C, 0x87])?;
        server.v5("a").connect()?.disconnect()?;
    }
    if server.spoken([V311]).is_empty() {
        return Ok(());
    }
    let known = server.v311("b").persistent();
    known.connect()?.disconnect()?;
    let mut bytes = known.bytes();
    bytes[FLAGS - 1] = 2; // the level
    let mut client = known.open()?;
    client.send(&bytes)?;
    client.expect_connack(&[0x01, 0x84])?; // refuses Session Present 1
    client.expect_closed()?;
    server.v311("b").connect()?.disconnect()
}

pub(crate) fn nothing_behind_it_is_processed(server: &Server) -> Step {
    let mut sub = server.helper(V5, "s").connect()?;
    sub.subscribe("t", 1)?;
    for version in server.spoken(ALL) {
        let (dialling, codes) = not_welcome(server, version)?;
        let mut client = dialling.open()?;
        let mut bytes = dialling.bytes();
        let topic = client.full("t");
        bytes.extend(Publish::new(&topic, "x").qos(1).id(1).encode(client.version()));
        bytes.extend(packet(0xC0, &[]));
        client.send(&bytes)?;
        client.expect_connack(codes)?;
        client.expect_end()?;
    }
    let mut publisher = server.helper(V5, "p").connect()?;
    sub.expect_nothing_before(&mut publisher, "t", 1)
}

pub(crate) fn no_disconnect_before_connack(server: &Server) -> Step {
    for first in [packet(0xC0, &[]), packet(0xF6, &[]), Publish::new("t", "x").encode(V5)] {
        let mut client = server.v5("a").open()?;
        client.send(&first)?;
        client.expect_end()?;
    }
    let mut bytes = server.v5("a").bytes();
    bytes[FLAGS] |= 1;
    breaks_the_format(server, V5, &bytes)?;
    server.helper(V31, "a").connect()?.disconnect()
}

/// The Will Topic is a Topic Name like others.
pub(crate) fn will_topic_must_be_a_topic_name(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        for topic in ["a/#", "+/a", ""] {
            let dialling = server.client(version, "a").will_unprefixed(Will::new(topic, "x"));
            string_is_refused(server, version, &dialling.bytes())?;
        }
    }
    Ok(())
}
