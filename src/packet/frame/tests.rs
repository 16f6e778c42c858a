//! Cutting packets out of bytes, whole or in pieces, well-formed or not.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::packet::encode;
use crate::packet::testing::{Expect, expectation, integer, packet};

/// Pitfall 2, MQTT-1.5.5-1: every value up to three bytes, and the borders and a sieve of four.
#[test]
fn every_variable_byte_integer_is_read_as_it_was_written() {
    let four = (0x20_0000..0x20_0400).chain(268_435_000..=268_435_455);
    let sieve = (0x20_0000..268_435_455).step_by(65_521);
    let mut out = Vec::new();
    for value in (0..0x20_0000).chain(four).chain(sieve) {
        out.clear();
        encode::variable_byte_integer(&mut out, value);
        assert_eq!(variable_byte_integer(&out), Ok(Some((value, out.len()))));
        let expected = match value {
            0..=127 => 1,
            128..=16_383 => 2,
            16_384..=2_097_151 => 3,
            _ => 4,
        };
        assert_eq!(out.len(), expected, "{value}");
        if value % 251 == 0 {
            assert_eq!(out, integer(value));
        }
    }
}

#[test]
fn a_value_that_no_variable_byte_integer_can_say_is_written_as_the_largest() {
    let mut out = Vec::new();
    encode::variable_byte_integer(&mut out, u32::MAX);
    assert_eq!(out, [0xFF, 0xFF, 0xFF, 0x7F]);
}

/// Pitfall 2: all sequences of one and two bytes, and all of five over the digits where something
/// changes.
#[test]
fn every_sequence_is_an_integer_or_a_fault_by_its_own_bytes() {
    let check = |bytes: &[u8]| {
        let end = bytes.iter().take(4).position(|byte| *byte < 0x80);
        let expected = match end {
            None if bytes.len() >= 4 => Err(Expect::Malformed),
            None => Ok(None),
            Some(end) if end > 0 && bytes[end] == 0 => Err(Expect::Malformed),
            Some(end) => {
                let digits = bytes[..=end].iter().rev();
                let value = digits.fold(0, |value, byte| value * 128 + u32::from(byte & 0x7F));
                Ok(Some((value, end + 1)))
            }
        };
        assert_eq!(variable_byte_integer(bytes).map_err(expectation), expected, "{bytes:02X?}");
    };
    check(&[]);
    for first in 0..=255 {
        check(&[first]);
        for second in 0..=255 {
            check(&[first, second]);
        }
    }
    let digits = [0x00, 0x01, 0x7F, 0x80, 0x81, 0xFF];
    for number in 0..digits.len().pow(5) {
        let sequence = [0, 1, 2, 3, 4].map(|place| digits[number / 6_usize.pow(place) % 6]);
        for length in 3..=5 {
            check(&sequence[..length]);
        }
    }
}

/// MQTT-1.5.5-1 and section 2.1.4: at the first byte too many, whatever follows.
#[test]
fn a_remaining_length_is_refused_as_soon_as_it_is_wrong() {
    for bytes in [&b"\x30\x80\x00"[..], b"\x30\x80\x80\x00", b"\x30\xFF\xFF\xFF\x80"] {
        let result = next_frame(bytes, u32::MAX);
        assert_eq!(result.map_err(expectation), Err(Expect::Malformed), "{bytes:02X?}");
    }
    assert_eq!(next_frame(b"\x30\xFF\xFF\xFF", u32::MAX), Ok(Frame::Partial { total: None }));
}

/// Pitfall 3 (wrong direction) and MQTT-2.1.3-1 (3.1.1: MQTT-2.2.2-1, -2): all 256 first bytes,
/// alone.
#[test]
fn a_first_byte_that_no_version_allows_is_refused_before_anything_follows() {
    for header in 0..=255 {
        let flags = header & 0x0F;
        let expected = match header >> 4 {
            0 => Err(Expect::Malformed),
            2 | 9 | 11 | 13 => Err(Expect::Protocol),
            3 if matches!(flags, 6 | 7 | 14 | 15) => Err(Expect::Malformed),
            3 => Ok(()),
            6 | 8 | 10 if matches!(flags, 2 | 3 | 10 | 11) => Ok(()),
            1 | 4 | 5 | 7 | 12 | 14 => Ok(()), // 3.1 does not use them
            15 if flags == 0 => Ok(()),
            _ => Err(Expect::Malformed),
        };
        let partial = expected.map(|()| Frame::Partial { total: None });
        assert_eq!(next_frame(&[header], 10).map_err(expectation), partial, "0x{header:02X}");
        let body = expected.map(|()| Frame::Whole { header, body: &[], taken: 2 });
        assert_eq!(next_frame(&[header, 0], 10).map_err(expectation), body, "0x{header:02X}");
    }
}

/// Pitfall 1: a claimed length is compared with the limit before a byte of it is there.
#[test]
fn a_packet_that_is_too_large_is_refused_by_its_length_alone() {
    let too_large = Err(Expect::Refused(0x95));
    for (limit, bytes, fits) in [
        (10, &b"\x10\x08"[..], true),
        (10, b"\x10\x09", false),
        (130, b"\x10\x7F", true),
        (130, b"\x10\x80\x01", false),
        (131, b"\x10\x80\x01", true),
        (268_435_459, b"\x30\xFF\xFF\xFF\x7F", false),
        (268_435_460, b"\x30\xFF\xFF\xFF\x7F", true),
        (1, b"\xC0\x00", false),
        (0, b"\xC0\x00", false),
    ] {
        let result = next_frame(bytes, limit).map_err(expectation);
        if fits {
            assert!(matches!(result, Ok(Frame::Partial { total: Some(_) })), "{bytes:02X?}");
        } else {
            assert_eq!(result, too_large, "{bytes:02X?} with {limit}");
        }
    }
    assert_eq!(PACKET_BYTES_MAX, 268_435_460);
}

#[test]
fn the_size_of_a_packet_is_told_once_its_length_is_there() {
    assert_eq!(next_frame(b"", 100), Ok(Frame::Partial { total: None }));
    assert_eq!(next_frame(b"\x30", 100), Ok(Frame::Partial { total: None }));
    assert_eq!(next_frame(b"\x30\x80", 500), Ok(Frame::Partial { total: None }));
    assert_eq!(next_frame(b"\x30\x80\x01", 500), Ok(Frame::Partial { total: Some(131) }));
    assert_eq!(next_frame(b"\x30\x05abcd", 500), Ok(Frame::Partial { total: Some(7) }));
    let whole = Frame::Whole { header: 0x30, body: b"abcde", taken: 7 };
    assert_eq!(next_frame(b"\x30\x05abcde\xC0", 500), Ok(whole));
}

/// All whole packets of `buffer`, and how many bytes are left.
fn frames(buffer: &[u8]) -> (Vec<(u8, Vec<u8>)>, usize) {
    let (mut found, mut rest) = (Vec::new(), buffer);
    while let Ok(Frame::Whole { header, body, taken }) = next_frame(rest, 1 << 20) {
        found.push((header, body.to_vec()));
        rest = &rest[taken..];
    }
    (found, rest.len())
}

proptest! {
    /// Pitfalls 12 and 13.
    #[test]
    fn arbitrary_bytes_never_claim_more_than_there_is(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        limit in any::<u32>(),
    ) {
        match next_frame(&bytes, limit) {
            Ok(Frame::Whole { header, body, taken }) => {
                prop_assert!(taken <= bytes.len() && taken <= limit as usize);
                prop_assert_eq!(header, bytes[0]);
                prop_assert!(bytes[..taken].ends_with(body));
                prop_assert!(body.len() + 2 <= taken);
            }
            Ok(Frame::Partial { total }) => {
                prop_assert!(total.is_none_or(|total| total > bytes.len() && total <= limit as usize));
            }
            Err(_) => {}
        }
    }

    /// MQTT-6.0.0-2: borders of reads have nothing to do with borders of packets.
    #[test]
    fn a_stream_cut_anywhere_gives_the_same_packets(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5),
    ) {
        let packets = bodies.iter().map(|body| packet(0x30, std::slice::from_ref(body)));
        let stream = packets.collect::<Vec<_>>().concat();
        let (all, left) = frames(&stream);
        prop_assert_eq!(all.len(), bodies.len());
        prop_assert_eq!(left, 0);
        for border in 0..=stream.len() {
            let (mut found, left) = frames(&stream[..border]);
            found.extend(frames(&stream[border - left..]).0);
            prop_assert_eq!(&found, &all, "cut at {}", border);
        }
    }
}
