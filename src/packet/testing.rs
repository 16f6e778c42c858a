//! For tests: a writer of Client packets and a reader of Server packets,
//! made from the standard and not from the code under test. Slow, plain, and free to panic.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::decode::{ConnectError, decode, decode_connect};
use super::frame::{Frame, next_frame};
use super::{FromClient, ProtocolVersion};
use crate::error::Fault;

pub(crate) const V3_1: ProtocolVersion = ProtocolVersion::V3_1;
pub(crate) const V3_1_1: ProtocolVersion = ProtocolVersion::V3_1_1;
pub(crate) const V5: ProtocolVersion = ProtocolVersion::V5;
/// All versions.
pub(crate) const ALL: &[ProtocolVersion] = &[V3_1, V3_1_1, V5];
/// The versions without properties.
pub(crate) const OLD: &[ProtocolVersion] = &[V3_1, V3_1_1];
/// The versions of OASIS.
pub(crate) const OASIS: &[ProtocolVersion] = &[V3_1_1, V5];

/// What a row of a table of raw bytes expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Fine,
    Malformed,
    Protocol,
    Refused(u8),
}

/// Statement id or section (the beginning of the fault's text), what is sent, in which versions,
/// the bytes of the whole packet, and what comes of it.
pub(crate) type Row =
    (&'static str, &'static str, &'static [ProtocolVersion], &'static [u8], Expect);

/// Sends each row in each of its versions through frame and decode.
pub(crate) fn check_rows(rows: &[Row]) {
    for &(id, what, versions, bytes, expect) in rows {
        for &version in versions {
            let result = receive(version, bytes);
            let seen = result.as_ref().map_or_else(|fault| expectation(*fault), |()| Expect::Fine);
            assert_eq!(seen, expect, "{id}, {what}, in {version}: {result:?}");
            if let Err(fault) = result {
                assert!(fault.detail().starts_with(id), "{id}, {what}, in {version}: {fault}");
            }
        }
    }
}

pub(crate) fn expectation(fault: Fault) -> Expect {
    match fault {
        Fault::Malformed(_) => Expect::Malformed,
        Fault::Protocol(_) => Expect::Protocol,
        Fault::Refused(reason, _) => Expect::Refused(reason.value()),
        Fault::Server(..) => panic!("a decoder blames the Server: {fault}"),
    }
}

/// As [`decode`], with the entries of a SUBSCRIBE or UNSUBSCRIBE read, too.
pub(crate) fn decode_to_the_end(
    version: ProtocolVersion,
    header: u8,
    body: &[u8],
) -> Result<FromClient<'_>, Fault> {
    let packet = decode(version, header, body)?;
    match &packet {
        FromClient::Subscribe(found) => {
            { found.filters }.try_for_each(|entry| entry.map(|_| ()))?;
        }
        FromClient::Unsubscribe(found) => {
            { found.filters }.try_for_each(|entry| entry.map(|_| ()))?;
        }
        _ => {}
    }
    Ok(packet)
}

/// One whole packet; a CONNECT goes to `decode_connect` and must be of this version.
pub(crate) fn receive(version: ProtocolVersion, bytes: &[u8]) -> Result<(), Fault> {
    let (header, body) = whole(bytes)?;
    if header >> 4 != 1 {
        return decode_to_the_end(version, header, body).map(|_| ());
    }
    match decode_connect(header, body) {
        Ok(connect) => {
            assert_eq!(connect.version, version);
            Ok(())
        }
        Err(ConnectError::Bad { fault, .. }) => Err(fault),
        Err(ConnectError::UnsupportedLevel(level)) => panic!("unsupported level {level}"),
    }
}

/// The one packet that `bytes` are.
pub(crate) fn whole(bytes: &[u8]) -> Result<(u8, &[u8]), Fault> {
    match next_frame(bytes, u32::MAX)? {
        Frame::Whole { header, body, taken } => {
            assert_eq!(taken, bytes.len(), "the row is one packet");
            Ok((header, body))
        }
        partial @ Frame::Partial { .. } => {
            panic!("{bytes:02X?} is not a whole packet: {partial:?}")
        }
    }
}

/// Section 1.5.5, as the standard's pseudo-code has it.
pub(crate) fn integer(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let digit = u8::try_from(value % 128).unwrap();
        value /= 128;
        bytes.push(if value > 0 { digit + 128 } else { digit });
        if value == 0 {
            return bytes;
        }
    }
}

pub(crate) fn binary(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend(bytes);
    out
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

/// A property section of whole properties.
pub(crate) fn section(properties: &[Vec<u8>]) -> Vec<u8> {
    let bytes = properties.concat();
    [integer(u32::try_from(bytes.len()).unwrap()), bytes].concat()
}

pub(crate) fn packet(header: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    [vec![header], integer(u32::try_from(body.len()).unwrap()), body].concat()
}

/// A property as a test thinks of it: its identifier and the bytes of its value.
pub(crate) fn property(id: u8, value: &[u8]) -> Vec<u8> {
    [vec![id], value.to_vec()].concat()
}

/// Reads what a Server wrote, and panics where that is no packet.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) header: u8,
    pub(crate) body: Vec<u8>,
    at: usize,
}

impl Written {
    /// `bytes` hold this one packet and nothing more.
    pub(crate) fn parse(bytes: &[u8]) -> Written {
        let mut written = Written { header: bytes[0], body: bytes[1..].to_vec(), at: 0 };
        let length = written.integer() as usize;
        written.body = written.body.split_off(written.at);
        written.at = 0;
        assert_eq!(length, written.body.len(), "Remaining Length of {bytes:02X?}");
        written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.body.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let bytes = self.body[self.at..self.at + count].to_vec();
        self.at += count;
        bytes
    }

    pub(crate) fn rest(&mut self) -> Vec<u8> {
        self.bytes(self.body.len() - self.at)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub(crate) fn two_bytes(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    pub(crate) fn integer(&mut self) -> u32 {
        let (mut value, mut multiplier) = (0, 1);
        loop {
            let byte = self.byte();
            value += u32::from(byte & 127) * multiplier;
            if byte < 128 {
                assert_eq!(integer(value).len(), multiplier.ilog2() as usize / 7 + 1, "minimal");
                return value;
            }
            multiplier *= 128;
        }
    }

    pub(crate) fn string(&mut self) -> String {
        let length = self.two_bytes();
        String::from_utf8(self.bytes(usize::from(length))).unwrap()
    }

    /// The property section: identifier and value bytes (without the length of a single string).
    pub(crate) fn properties(&mut self) -> Vec<(u8, Vec<u8>)> {
        let length = self.integer() as usize;
        let end = self.at + length;
        let mut found = Vec::new();
        while self.at < end {
            let id = self.byte();
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => self.bytes(1),
                0x13 | 0x21..=0x23 => self.bytes(2),
                0x02 | 0x11 | 0x18 | 0x27 => self.bytes(4),
                0x0B => self.integer().to_be_bytes().to_vec(),
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => {
                    let length = self.two_bytes();
                    self.bytes(usize::from(length))
                }
                0x26 => [string(&self.string()), string(&self.string())].concat(),
                other => panic!("no property 0x{other:02X}"),
            };
            found.push((id, value));
        }
        assert_eq!(self.at, end, "Property Length");
        found
    }
}

pub(crate) fn any_version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(V3_1), Just(V3_1_1), Just(V5)]
}

/// Text without U+0000, of every length of UTF-8 sequence.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    "[a-z/\u{1}\u{7F}é€\u{FEFF}𝄞]{0,12}"
}

/// A Topic Name, `$` and empty levels included.
pub(crate) fn any_topic() -> impl Strategy<Value = String> {
    "[a-z$/ é€𝄞]{1,40}"
}

/// A property that is forwarded, once-only ones no more than once, with others of a PUBLISH between
/// them.
pub(crate) fn any_message_properties() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let once = (
        proptest::option::of(0_u8..2),
        proptest::option::of(any_text()),
        proptest::option::of(any_topic()),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        proptest::option::of(any::<u32>()),
    );
    let users = proptest::collection::vec((any_text(), any_text()), 0..4);
    (once, users)
        .prop_map(|((format, content, response, data, expiry), users)| {
            let mut properties = Vec::new();
            properties.extend(format.map(|value| property(0x01, &[value])));
            properties.extend(content.map(|text| property(0x03, &string(&text))));
            properties.extend(response.map(|topic| property(0x08, &string(&topic))));
            properties.extend(data.map(|data| property(0x09, &binary(&data))));
            properties.extend(expiry.map(|secs| property(0x02, &secs.to_be_bytes())));
            for (name, value) in users {
                properties.push(property(0x26, &[string(&name), string(&value)].concat()));
            }
            properties
        })
        .prop_shuffle()
}
