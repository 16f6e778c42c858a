//! Sections 1.5 and 4.7.3: strings, and how long and short topics may be.

use crate::codec::{ALL, Kind, Publish, Subscribe, Version, packet, prop, text, unsubscribe};
use crate::failure::{Step, expect, expect_eq};
use crate::target::Server;

/// What no string may hold: a stray byte, a surrogate, an overlong form, a code point beyond the last.
const ILL_FORMED: [&[u8]; 4] = [b"a\xFF", b"\xED\xA0\x80", b"\xC0\xAF", b"\xF4\x90\x80\x80"];

fn ends(server: &Server, version: Version, bytes: &[u8], codes: &[u8]) -> Step {
    let mut client = server.client(version, "a").connect()?;
    client.send(bytes)?;
    client.expect_fault(codes)
}

pub(crate) fn byte_order_mark_is_kept(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        // At the very beginning, which the case's prefix would not let it have, and further on.
        let marked = format!("\u{feff}x/{}/\u{feff}t", server.prefix());
        let plain = marked.replace('\u{feff}', "");
        sub.subscribe_everywhere(&[&marked], 1)?;
        for (id, topic) in [(1, &plain), (2, &marked)] {
            publisher.send(&Publish::new(topic, "x").qos(1).id(id).encode(version))?;
            publisher.expect_ack(Kind::Puback, id)?;
        }
        sub.expect_publish("\u{feff}x/\u{feff}t", "x")?;
        sub.expect_quiet()?;
    }
    if server.spoken([Version::V5]).is_empty() {
        return Ok(());
    }
    let mut sub = server.v5("s").connect()?;
    sub.subscribe("t", 1)?;
    let mut publisher = server.v5("p").connect()?;
    publisher.publish(Publish::new("t", "x").qos(1).prop(prop::user("\u{feff}", "\u{feff}v")))?;
    let pair = vec![("\u{feff}", "\u{feff}v")];
    expect_eq("User Properties", &sub.expect_publish("t", "x")?.user(), &pair)
}

pub(crate) fn empty_topic_name_is_a_fault(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for qos in 0..=2 {
            let bytes = Publish::new("", "x").qos(qos).id(1).encode(version);
            ends(server, version, &bytes, &[0x81, 0x82, 0x90])?;
        }
    }
    Ok(())
}

pub(crate) fn the_longest_topic_arrives(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        let topic = "x".repeat(65_535 - server.prefix().len() - 1);
        sub.subscribe(&topic, 1)?;
        publisher.publish(Publish::new(&topic, "x").qos(1))?;
        expect(sub.message()?.topic == topic, "a Topic Name of 65 535 bytes", "another")?;
        sub.unsubscribe(&topic)?;
    }
    Ok(())
}

fn subscribe_to(version: Version, filter: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(if version == Version::V5 { vec![0] } else { vec![] });
    body.extend(text(filter));
    body.push(0);
    packet(0x82, &body)
}

fn unsubscribe_from(version: Version, filter: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(if version == Version::V5 { vec![0] } else { vec![] });
    body.extend(text(filter));
    packet(0xA2, &body)
}

pub(crate) fn subscribed_filter_must_be_utf_8(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for filter in ILL_FORMED {
            ends(server, version, &subscribe_to(version, filter), &[0x81, 0x82, 0x8F])?;
        }
    }
    Ok(())
}

pub(crate) fn unsubscribed_filter_must_be_utf_8(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for filter in ILL_FORMED {
            ends(server, version, &unsubscribe_from(version, filter), &[0x81, 0x82, 0x8F])?;
        }
    }
    Ok(())
}

pub(crate) fn filter_must_not_have_nul(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for bytes in [subscribe_to(version, b"a\0b"), unsubscribe_from(version, b"a\0b")] {
            ends(server, version, &bytes, &[0x81, 0x82, 0x8F])?;
        }
    }
    Ok(())
}

/// A PUBLISH whose only property holds these bytes where its strings are.
fn publish_with(property: &[u8]) -> Vec<u8> {
    let mut body = text("t");
    body.push(u8::try_from(property.len()).unwrap_or(u8::MAX));
    body.extend(property);
    packet(0x30, &body)
}

fn string_property_must_be_utf_8(server: &Server, id: u8) -> Step {
    for bad in ILL_FORMED.into_iter().chain([b"a\0b".as_slice()]) {
        let mut property = vec![id];
        property.extend(text(bad));
        ends(server, Version::V5, &publish_with(&property), &[0x81, 0x82, 0x90])?;
    }
    Ok(())
}

pub(crate) fn response_topic_must_be_utf_8(server: &Server) -> Step {
    string_property_must_be_utf_8(server, 0x08)
}

pub(crate) fn content_type_must_be_utf_8(server: &Server) -> Step {
    string_property_must_be_utf_8(server, 0x03)
}

pub(crate) fn pair_must_be_utf_8(server: &Server) -> Step {
    for bad in ILL_FORMED.into_iter().chain([b"a\0b".as_slice()]) {
        for (name, value) in [(bad, b"v".as_slice()), (b"n".as_slice(), bad)] {
            let mut property = vec![0x26];
            property.extend(text(name));
            property.extend(text(value));
            ends(server, Version::V5, &publish_with(&property), &[0x81, 0x82])?;
        }
    }
    Ok(())
}

/// A length that reaches beyond the packet: the string is not there.
pub(crate) fn string_cut_short_is_a_fault(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let publish = Publish::new("topic", "").encode(version);
        let subscribe = Subscribe::to("first", 0).and("second", 0).encode(version, 1);
        let unsubscribe = unsubscribe(version, 1, &["first", "second"]);
        for (whole, cut) in [(publish, 2), (subscribe, 2), (unsubscribe, 1)] {
            let spoiled = packet(whole[0], &whole[2..whole.len() - cut]);
            ends(server, version, &spoiled, &[0x81, 0x82])?;
        }
    }
    Ok(())
}
