//! Malformed Packets and Protocol Errors by raw bytes: section 4.13, and the bug classes of other brokers.

use crate::codec::{
    ALL, Kind, Packet, Publish, Subscribe, Version, packet, prop, text, unsubscribe,
};
use crate::failure::{Failure, Step, expect};
use crate::target::Server;

const MALFORMED: &[u8] = &[0x81, 0x82];

/// Sends bytes on a fresh connection of this version and expects its end.
fn ends(server: &Server, version: Version, bytes: &[u8], codes: &[u8]) -> Step {
    let mut client = server.client(version, "a").connect()?;
    client.send(bytes)?;
    client.expect_fault(codes)
}

/// An empty property list where the version has one.
fn props(version: Version) -> Vec<u8> {
    if version == Version::V5 { vec![0] } else { Vec::new() }
}

fn subscribe_body(version: Version, filter: &[u8], options: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(props(version));
    body.extend(text(filter));
    body.push(options);
    body
}

fn publish_body(version: Version, topic: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(props(version));
    body.push(b'x');
    body
}

// 3.1 leaves these bits and the empty lists below to the reader.
const STRICT: [Version; 2] = [Version::V311, Version::V5];

pub(crate) fn reserved_flags(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        let subscribe = subscribe_body(version, b"t", 0);
        let unsubscribe = &unsubscribe(version, 1, &["t"])[2..];
        for bytes in [
            packet(0x80, &subscribe),
            packet(0x83, &subscribe),
            packet(0xA0, unsubscribe),
            packet(0x60, &[0, 1]),
            packet(0x41, &[0, 1]),
            packet(0xC1, &[]),
            packet(0xF1, &[]),
        ] {
            ends(server, version, &bytes, MALFORMED)?;
        }
        ends(server, version, &packet(0xE1, &[]), &[0x81])?; // MQTT-3.14.1-1 names the code
    }
    Ok(())
}

pub(crate) fn qos_3(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publish = text("t");
        publish.extend([0, 1]);
        publish.extend(props(version));
        ends(server, version, &packet(0x36, &publish), MALFORMED)?;
        let mut client = server.client(version, "a").connect()?;
        client.send(&packet(0x82, &subscribe_body(version, b"t", 3)))?;
        client.expect_fault(MALFORMED)?;
    }
    Ok(())
}

pub(crate) fn packet_id_zero(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        ends(server, version, &Publish::new("t", "x").qos(1).encode(version), MALFORMED)?;
        ends(server, version, &Subscribe::to("t", 0).encode(version, 0), MALFORMED)?;
        ends(server, version, &unsubscribe(version, 0, &["t"]), MALFORMED)?;
    }
    Ok(())
}

pub(crate) fn topic_with_wildcard(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for topic in ["a/+", "a/#", "#", "+"] {
            let bytes = packet(0x30, &publish_body(version, topic.as_bytes()));
            ends(server, version, &bytes, &[0x81, 0x82, 0x90])?;
        }
    }
    Ok(())
}

pub(crate) fn topic_with_bad_utf_8(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for topic in [b"a\xff".as_slice(), b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"] {
            let bytes = packet(0x30, &publish_body(version, topic));
            ends(server, version, &bytes, &[0x81, 0x82, 0x90])?;
            let mut client = server.client(version, "a").connect()?;
            client.send(&packet(0x82, &subscribe_body(version, topic, 0)))?;
            client.expect_filter_refused()?;
        }
    }
    Ok(())
}

pub(crate) fn topic_with_nul(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let bytes = packet(0x30, &publish_body(version, b"a\0b"));
        ends(server, version, &bytes, &[0x81, 0x82, 0x90])?;
    }
    Ok(())
}

pub(crate) fn remaining_length_of_five_bytes(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        ends(server, version, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], MALFORMED)?;
    }
    Ok(())
}

/// The standard binds who encodes a length, and does not say what becomes of one in more bytes than it needs:
/// it may be read, or refused. But it may not be misread, nor waited for.
pub(crate) fn length_not_minimal_is_read_or_refused(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut client = server.client(version, "a").connect()?;
        let mut publish = Publish::new(&client.full("t"), "x").qos(1).id(7).encode(version);
        publish[1] |= 0x80;
        publish.insert(2, 0);
        client.send(&publish)?;
        match client.answers()?.first() {
            None | Some(Packet::Ack { kind: Kind::Puback, id: 7, .. }) => {}
            Some(Packet::Disconnect { code: 0x81 | 0x82, .. }) => {}
            Some(other) => expect(false, "PUBACK, DISCONNECT or the end", other)?,
        }
    }
    Ok(())
}

pub(crate) fn subscribe_without_filter(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        let mut body = vec![0, 1];
        body.extend(props(version));
        ends(server, version, &packet(0x82, &body), MALFORMED)?;
    }
    Ok(())
}

pub(crate) fn unsubscribe_without_filter(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        let mut body = vec![0, 1];
        body.extend(props(version));
        ends(server, version, &packet(0xA2, &body), MALFORMED)?;
    }
    Ok(())
}

pub(crate) fn subscription_options_reserved(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        // Retain Handling 3 and the two reserved bits in 5.0; all but QoS in 3.1.1. 3.1 says nothing.
        let options: &[u8] = match version {
            Version::V31 => &[],
            Version::V311 => &[0x04, 0x10, 0x80],
            Version::V5 => &[0x30, 0x40, 0x80],
        };
        for &option in options {
            let bytes = packet(0x82, &subscribe_body(version, b"t", option));
            ends(server, version, &bytes, MALFORMED)?;
        }
    }
    Ok(())
}

pub(crate) fn property_twice(server: &Server) -> Step {
    let publish = Publish::new("t", "x")
        .prop(prop::content_type("a"))
        .prop(prop::content_type("a"))
        .encode(Version::V5);
    ends(server, Version::V5, &publish, &[0x82])?;
    let dialling = server.v5("b").prop(prop::session_expiry(1)).prop(prop::session_expiry(1));
    dialling.send()?.expect_refusal(&[0x81, 0x82])
}

pub(crate) fn property_not_allowed(server: &Server) -> Step {
    // Receive Maximum has no place in PUBLISH, nor has Content Type in SUBSCRIBE; 0x7F is none at all.
    let publish = Publish::new("t", "x").prop(prop::receive_maximum(1)).encode(Version::V5);
    ends(server, Version::V5, &publish, MALFORMED)?;
    let subscribe = Subscribe::to("t", 0).prop(prop::content_type("a")).encode(Version::V5, 1);
    ends(server, Version::V5, &subscribe, MALFORMED)?;
    let mut unknown = text("t");
    unknown.extend([2, 0x7F, 0]);
    ends(server, Version::V5, &packet(0x30, &unknown), MALFORMED)
}

pub(crate) fn subscription_identifier_from_a_client(server: &Server) -> Step {
    let publish = Publish::new("t", "x").prop(prop::subscription_id(1)).encode(Version::V5);
    ends(server, Version::V5, &publish, MALFORMED)
}

pub(crate) fn subscription_identifier_zero(server: &Server) -> Step {
    let subscribe = Subscribe::to("t", 0).prop(prop::subscription_id(0)).encode(Version::V5, 1);
    ends(server, Version::V5, &subscribe, MALFORMED)
}

pub(crate) fn response_topic_with_wildcard(server: &Server) -> Step {
    let publish = Publish::new("t", "x").prop(prop::response_topic("a/#")).encode(Version::V5);
    ends(server, Version::V5, &publish, &[0x81, 0x82, 0x90])
}

pub(crate) fn server_packets_from_a_client(server: &Server) -> Step {
    for version in server.spoken(STRICT) {
        for bytes in [
            packet(0x20, &[0, 0]),
            packet(0x90, &[0, 1, 0]),
            packet(0xB0, &[0, 1]),
            packet(0xD0, &[]),
            packet(0x00, &[]),
        ] {
            ends(server, version, &bytes, MALFORMED)?;
        }
        if version < Version::V5 {
            ends(server, version, &packet(0xF0, &[]), MALFORMED)?;
        }
    }
    Ok(())
}

/// Every proper prefix of CONNECT with a Remaining Length to match.
pub(crate) fn truncated_connects(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut dialling = server.client(version, "a");
        if version > Version::V31 {
            // In 3.1 the Remaining Length outweighs the flags: names that they announce may be missing.
            dialling = dialling.credentials(Some("u"), Some("p"));
        }
        let whole = dialling.bytes();
        for end in 2..whole.len() {
            let mut client = server.client(version, "a").open()?;
            client.send(&packet(0x10, &whole[2..end]))?;
            client.expect_refusal(&[0x01, 0x81, 0x82, 0x84, 0x85])?;
        }
    }
    Ok(())
}

pub(crate) fn others_are_undisturbed(server: &Server) -> Step {
    let mut sub = server.helper(Version::V5, "s").connect()?;
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    sub.subscribe("t", 2)?;
    // A fixed sequence of nonsense, different on every connection.
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..40 {
        let mut bytes = Vec::new();
        for _ in 0..200 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.push(state.to_le_bytes()[3]);
        }
        let mut wire =
            server.dial().map_err(|e| Failure::new("the server still accepts", e.to_string()))?;
        let mut hello = Vec::new();
        if round % 2 == 0 {
            hello = server.helper(Version::V5, "n").bytes();
        }
        hello.extend(bytes);
        // The server may close while the nonsense is under way.
        let _ = wire.send(&hello);
        publisher.publish(Publish::new("t", round.to_string()).qos(2))?;
        let came = sub.message()?;
        expect(came.text() == round.to_string(), "the message of this round", &came)?;
    }
    Ok(())
}
