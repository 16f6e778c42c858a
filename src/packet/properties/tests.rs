//! Every property in every packet: allowed once, twice, or not at all.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::packet::testing::{
    Expect, V5, any_message_properties, binary, expectation, integer, packet, property, receive,
    section, string,
};

const PLACES: [Place; 11] = [
    Place::Connect,
    Place::Will,
    Place::Publish,
    Place::PubAck,
    Place::PubRec,
    Place::PubRel,
    Place::PubComp,
    Place::Subscribe,
    Place::Unsubscribe,
    Place::Disconnect,
    Place::Auth,
];

/// Table 2-4 read off the standard a second time, a column per place in the order of [`PLACES`]:
/// CONNECT, Will, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT,
/// AUTH. With it a value. `x` may stand there, `s` only where a Server sends it, `.` nowhere.
const TABLE: [(u8, &str, &[u8]); 27] = [
    (0x01, ".xx........", b"\x01"),
    (0x02, ".xx........", b"\0\0\0\x09"),
    (0x03, ".xx........", b"\0\x02ct"),
    (0x08, ".xx........", b"\0\x03r/t"),
    (0x09, ".xx........", b"\0\x02\0\xFF"),
    (0x0B, "..s....x...", b"\xFF\xFF\xFF\x7F"),
    (0x11, "x........x.", b"\0\0\0\0"),
    (0x12, "...........", b"\0\x02id"),
    (0x13, "...........", b"\0\x05"),
    (0x15, "x.........x", b"\0\x01m"),
    (0x16, "x.........x", b"\0\x01\0"),
    (0x17, "x..........", b"\x00"),
    (0x18, ".x.........", b"\xFF\xFF\xFF\xFF"),
    (0x19, "x..........", b"\x01"),
    (0x1A, "...........", b"\0\x01r"),
    (0x1C, "...........", b"\0\x01s"),
    (0x1F, "...xxxx..xx", b"\0\x02no"),
    (0x21, "x..........", b"\0\x01"),
    (0x22, "x..........", b"\0\0"),
    (0x23, "..x........", b"\0\x01"),
    (0x24, "...........", b"\x01"),
    (0x25, "...........", b"\x01"),
    (0x26, "xxxxxxxxxxx", b"\0\x01k\0\x01v"),
    (0x27, "x..........", b"\0\0\0\x01"),
    (0x28, "...........", b"\x01"),
    (0x29, "...........", b"\x01"),
    (0x2A, "...........", b"\x01"),
];

/// A whole packet of MQTT 5 with `properties` in this place, right in all the rest.
fn packet_with(place: Place, properties: &[Vec<u8>]) -> Vec<u8> {
    let connect = |flags: u8| [string("MQTT"), vec![5, flags, 0, 60]].concat();
    let section = section(properties);
    let client_id = string("c");
    match place {
        Place::Connect => packet(0x10, &[connect(2), section, client_id]),
        Place::Will => {
            packet(0x10, &[connect(6), vec![0], client_id, section, string("w"), binary(b"p")])
        }
        Place::Publish => packet(0x30, &[string("t"), section]),
        Place::PubAck => packet(0x40, &[vec![0, 1, 0], section]),
        Place::PubRec => packet(0x50, &[vec![0, 1, 0], section]),
        Place::PubRel => packet(0x62, &[vec![0, 1, 0], section]),
        Place::PubComp => packet(0x70, &[vec![0, 1, 0], section]),
        Place::Subscribe => packet(0x82, &[vec![0, 1], section, string("f"), vec![0]]),
        Place::Unsubscribe => packet(0xA2, &[vec![0, 1], section, string("f")]),
        Place::Disconnect => packet(0xE0, &[vec![0], section]),
        Place::Auth => packet(0xF0, &[vec![0x18], section]),
    }
}

/// An Authentication Method is needed by every AUTH, and by Authentication Data in a CONNECT.
fn what_else_is_needed(place: Place, id: u8) -> Option<Vec<u8>> {
    let needed = matches!((place, id), (Place::Auth, _) | (Place::Connect, 0x16)) && id != 0x15;
    needed.then(|| property(0x15, b"\0\x01m"))
}

fn outcome(place: Place, id: u8, value: &[u8], times: usize) -> Expect {
    let mut properties = Vec::from_iter(what_else_is_needed(place, id));
    properties.extend(std::iter::repeat_n(property(id, value), times));
    receive(V5, &packet_with(place, &properties)).map_or_else(expectation, |()| Expect::Fine)
}

/// Pitfall 4, section 2.2.2.2: the whole matrix of property and packet, once and twice.
#[test]
fn each_property_stands_only_where_the_table_has_it_and_as_often() {
    for (id, columns, value) in TABLE {
        assert_eq!(columns.len(), PLACES.len());
        for (place, column) in PLACES.into_iter().zip(columns.chars()) {
            let (once, twice) = match column {
                'x' if id == 0x26 => (Expect::Fine, Expect::Fine),
                'x' => (Expect::Fine, Expect::Protocol),
                // MQTT-3.3.4-6
                's' => (Expect::Protocol, Expect::Protocol),
                _ => (Expect::Malformed, Expect::Malformed),
            };
            assert_eq!(outcome(place, id, value, 1), once, "0x{id:02X} in {place:?}");
            assert_eq!(outcome(place, id, value, 2), twice, "0x{id:02X} twice in {place:?}");
        }
    }
}

/// Pitfall 4: every identifier that the standard does not know, in one byte and in two.
#[test]
fn an_unknown_property_is_malformed_everywhere() {
    let known: Vec<u8> = TABLE.iter().map(|(id, ..)| *id).collect();
    for place in PLACES {
        for id in (0..=0x7F).filter(|id| !known.contains(id)) {
            assert_eq!(outcome(place, id, b"\0\0\0\0", 1), Expect::Malformed, "{id} in {place:?}");
        }
        for id in [128, 0x80 + 0x26, 256 + 0x26, 268_435_455] {
            let properties = [integer(id), b"\0\x01k\0\x01v".to_vec()].concat();
            let result = receive(V5, &packet_with(place, &[properties]));
            assert_eq!(result.map_err(expectation), Err(Expect::Malformed), "{id} in {place:?}");
        }
        // MQTT-1.5.5-1: User Property, but in two bytes.
        let properties = b"\xA6\0\0\x01k\0\x01v".to_vec();
        let result = receive(V5, &packet_with(place, &[properties]));
        assert_eq!(result.map_err(expectation), Err(Expect::Malformed), "{place:?}");
    }
}

/// Pitfalls 1 and 3: a value that runs past the section, though there are bytes behind it.
#[test]
fn a_value_cut_off_by_the_property_length_is_malformed() {
    for (id, columns, value) in TABLE {
        for (place, column) in PLACES.into_iter().zip(columns.chars()) {
            for cut in 0..value.len() {
                if column == 'x' {
                    let seen = outcome(place, id, &value[..cut], 1);
                    assert_eq!(seen, Expect::Malformed, "0x{id:02X} in {place:?}, {cut} bytes");
                }
            }
        }
    }
}

/// Pitfall 1: MQTT-2.2.2-1 wants a Property Length; it must not reach past the packet.
#[test]
fn a_property_length_beyond_the_packet_is_malformed() {
    for place in [Place::Publish, Place::Unsubscribe, Place::Disconnect, Place::PubAck] {
        for length in [vec![0x7F], vec![0xFF, 0xFF, 0xFF, 0x7F], vec![0x80], vec![0x80, 0x00]] {
            let head = match place {
                Place::Publish => packet(0x30, &[string("t"), length]),
                Place::Unsubscribe => packet(0xA2, &[vec![0, 1], length]),
                Place::Disconnect => packet(0xE0, &[vec![0], length]),
                _ => packet(0x40, &[vec![0, 1, 0], length]),
            };
            let result = receive(V5, &head).map_err(expectation);
            assert_eq!(result, Err(Expect::Malformed), "{head:02X?}");
        }
    }
}

/// Section 2.2.2 and the sections of each property: values out of range.
#[test]
fn a_value_that_the_standard_forbids_is_refused() {
    use Expect::{Malformed, Protocol, Refused};
    for (place, id, value, expected) in [
        (Place::Publish, 0x01, &b"\x02"[..], Protocol),
        (Place::Will, 0x01, b"\xFF", Protocol),
        (Place::Connect, 0x17, b"\x02", Protocol),
        (Place::Connect, 0x19, b"\x02", Protocol),
        (Place::Connect, 0x21, b"\0\0", Protocol),
        (Place::Connect, 0x27, b"\0\0\0\0", Protocol),
        (Place::Subscribe, 0x0B, b"\0", Protocol),
        (Place::Subscribe, 0x0B, b"\x80\0", Malformed),
        (Place::Subscribe, 0x0B, b"\xFF\xFF\xFF\xFF\x7F", Malformed),
        (Place::Publish, 0x23, b"\0\0", Refused(0x94)),
        (Place::Publish, 0x08, b"\0\x03a/+", Protocol),
        (Place::Will, 0x08, b"\0\x01#", Protocol),
        (Place::Publish, 0x08, b"\0\0", Protocol),
        (Place::Publish, 0x03, b"\0\x02\xC3\x28", Malformed),
        (Place::Publish, 0x03, b"\0\x02a\0", Malformed),
        (Place::PubAck, 0x1F, b"\0\x01\xFF", Malformed),
        (Place::Auth, 0x15, b"\0\x01\0", Malformed),
        // MQTT-1.5.7-1: the name, and the value.
        (Place::Unsubscribe, 0x26, b"\0\x01\xFF\0\x01v", Malformed),
        (Place::Unsubscribe, 0x26, b"\0\x01k\0\x01\xFF", Malformed),
        (Place::Publish, 0x26, b"\0\x01\0\0\x01v", Malformed),
    ] {
        assert_eq!(outcome(place, id, value, 1), expected, "0x{id:02X} {value:02X?} in {place:?}");
    }
}

fn read(place: Place, properties: &[Vec<u8>]) -> MessageProperties<'static> {
    let bytes: &'static [u8] = section(properties).leak();
    let mut reader = Reader::new(bytes);
    let found = message_properties(&mut reader, place).unwrap();
    assert!(reader.is_empty());
    found
}

fn is_kept(property: &[u8]) -> bool {
    !matches!(property[0], 0x02 | 0x0B | 0x18 | 0x23)
}

/// MQTT-3.3.2-17, -18 and, for a Will, MQTT-3.1.3-10.
#[test]
fn what_stands_between_forwarded_properties_is_left_out() {
    let user = |name: &str| property(0x26, &[string(name), string("v")].concat());
    let expiry = property(0x02, &7_u32.to_be_bytes());
    let alias = property(0x23, &[0, 9]);
    let delay = property(0x18, &3_u32.to_be_bytes());
    let content = property(0x03, &string("text"));
    let found = read(
        Place::Publish,
        &[alias.clone(), user("b"), expiry.clone(), user("a"), content.clone()],
    );
    assert_eq!((found.properties.expiry_secs(), found.topic_alias), (Some(7), Some(9)));
    let mut out = vec![0xAA];
    found.properties.forward_into(&mut out);
    assert_eq!(out[1..], [user("b"), user("a"), content.clone()].concat());
    assert_eq!(found.properties.forwarded_len(), out.len() - 1);

    let found = read(Place::Will, &[user("b"), delay, user("a"), expiry]);
    assert_eq!((found.delay_secs, found.properties.expiry_secs()), (3, Some(7)));
    out.clear();
    found.properties.forward_into(&mut out);
    assert_eq!(out, [user("b"), user("a")].concat());

    assert_eq!(PublishProperties::default().forwarded_len(), 0);
    assert_eq!(read(Place::Publish, &[alias]).properties, PublishProperties::default());
}

#[test]
fn what_was_appended_is_what_is_read() {
    let properties = [
        Property::PayloadFormatIndicator(1),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("a/b"),
        Property::CorrelationData(b"\0\xFF"),
        Property::UserProperty("k", "2"),
        Property::UserProperty("k", ""),
    ];
    let mut out = Vec::new();
    for property in properties {
        append(&mut out, property);
    }
    assert_eq!(forwarded(&out).collect::<Vec<_>>(), properties);
    assert_eq!(forwarded(&[]).count(), 0);
    // It is valid on the wire, too.
    let found = read(Place::Publish, &[out.clone()]);
    let mut again = Vec::new();
    found.properties.forward_into(&mut again);
    assert_eq!(again, out);
}

proptest! {
    /// MQTT-3.3.2-4, -15, -16, -17, -18, -20: unaltered and in order, whatever stands between.
    #[test]
    fn all_that_is_forwarded_comes_out_as_it_went_in(properties in any_message_properties()) {
        let found = read(Place::Publish, &properties);
        let kept: Vec<Vec<u8>> =
            properties.iter().filter(|property| is_kept(property)).cloned().collect();
        let mut out = Vec::new();
        found.properties.forward_into(&mut out);
        prop_assert_eq!(&out, &kept.concat());
        prop_assert_eq!(found.properties.forwarded_len(), out.len());
        let expiry = properties.iter().find(|property| property[0] == 0x02);
        prop_assert_eq!(found.properties.expiry_secs().is_some(), expiry.is_some());
        // Reading and appending one by one gives the same bytes.
        let mut again = Vec::new();
        for property in forwarded(&out) {
            append(&mut again, property);
        }
        prop_assert_eq!(again, out);
    }

    /// Pitfall 13: of bytes that nobody checked, too.
    #[test]
    fn arbitrary_bytes_are_walked_without_panic(
        bytes in proptest::collection::vec(prop_oneof![0_u8..0x2B, any::<u8>()], 0..40),
    ) {
        let length: usize = forwarded(&bytes).map(|property| {
            let mut out = Vec::new();
            append(&mut out, property);
            out.len()
        }).sum();
        prop_assert!(length <= bytes.len());
        for place in PLACES {
            let mut reader = Reader::new(&bytes);
            if let Ok(section) = Section::open(&mut reader, place) {
                let _ = section.check();
            }
        }
    }
}
