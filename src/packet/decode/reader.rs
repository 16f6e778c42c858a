//! A reader over received bytes that cannot panic, allocate or read past the end.

use crate::error::Fault;
use crate::packet::PacketId;

const TOO_SHORT: Fault =
    Fault::Malformed("section 4.13.1: a field runs past the end of the packet");
const TRAILING: Fault = Fault::Malformed("section 4.13.1: bytes follow the last field");
const ILL_FORMED: Fault = Fault::Malformed("MQTT-1.5.4-1: a string is not well-formed UTF-8");
const NULL_CHARACTER: Fault = Fault::Malformed("MQTT-1.5.4-2: a string contains U+0000");
const INTEGER_TOO_LONG: Fault =
    Fault::Malformed("section 1.5.5: a Variable Byte Integer is longer than 4 bytes");
const INTEGER_NOT_MINIMAL: Fault =
    Fault::Malformed("MQTT-1.5.5-1: a Variable Byte Integer is longer than it need be");
const ZERO_PACKET_ID: Fault = Fault::Malformed("MQTT-2.2.1-3: the Packet Identifier is 0");

/// What is left of a packet, or of a section of one.
#[derive(Debug, Clone, Copy)]
pub(in crate::packet) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(in crate::packet) fn new(rest: &'a [u8]) -> Reader<'a> {
        Reader { rest }
    }

    pub(in crate::packet) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(in crate::packet) fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// That nothing is left: no packet may carry bytes behind its last field.
    pub(in crate::packet) fn finish(self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(TRAILING) }
    }

    pub(in crate::packet) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(in crate::packet) fn byte(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(in crate::packet) fn two_bytes(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    pub(in crate::packet) fn four_bytes(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    /// Section 1.5.5; 0 to 268 435 455.
    pub(in crate::packet) fn variable_byte_integer(&mut self) -> Result<u32, Fault> {
        match variable_byte_integer(self.rest)? {
            Some((value, size)) => {
                self.take(size)?;
                Ok(value)
            }
            None => Err(TOO_SHORT),
        }
    }

    /// Binary Data (section 1.5.6).
    pub(in crate::packet) fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.two_bytes()?;
        self.take(usize::from(length))
    }

    /// A UTF-8 Encoded String (section 1.5.4; in 3.1.1 MQTT-1.5.3-1, -2). U+FEFF is kept
    /// (MQTT-1.5.4-3).
    pub(in crate::packet) fn string(&mut self) -> Result<&'a str, Fault> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| ILL_FORMED)?;
        if any_byte(bytes, |byte| byte == 0) {
            return Err(NULL_CHARACTER);
        }
        Ok(text)
    }

    /// A string that may serve as a Topic Name, except that it may be empty: what an empty one
    /// means depends on the field. `wildcard` is the fault that a wildcard character is.
    pub(in crate::packet) fn topic_name(&mut self, wildcard: Fault) -> Result<&'a str, Fault> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| ILL_FORMED)?;
        if any_byte(bytes, |byte| (byte == 0) | (byte == b'+') | (byte == b'#')) {
            return Err(if bytes.contains(&0) { NULL_CHARACTER } else { wildcard });
        }
        Ok(text)
    }

    /// A Packet Identifier, which is never 0 (MQTT-2.2.1-3; in 3.1.1 MQTT-2.3.1-1).
    pub(in crate::packet) fn packet_id(&mut self) -> Result<PacketId, Fault> {
        PacketId::new(self.two_bytes()?).ok_or(ZERO_PACKET_ID)
    }
}

/// Whether any byte is one of those. Nearly every text is one or two pieces long: a piece of fixed size, and
/// a fold without an early end, is what the compiler turns into vector code. The last piece overlaps the one
/// before it, so that nothing is left to be looked at byte by byte.
#[inline]
fn any_byte(bytes: &[u8], wanted: impl Fn(u8) -> bool + Copy) -> bool {
    const PIECE: usize = 16;
    let any = |piece: &[u8]| piece.iter().fold(false, |found, byte| found | wanted(*byte));
    let Some(last) = bytes.last_chunk::<PIECE>() else { return any(bytes) };
    let (pieces, _) = bytes.as_chunks::<PIECE>();
    pieces.iter().fold(any(last), |found, piece| found | any(piece))
}

/// The Variable Byte Integer at the start of `bytes` and its size; `None` while its end is not
/// there.
///
/// This is the only decoder of that type. A value in more bytes than it needs is refused in every
/// version: MQTT-1.5.5-1 says so for 5.0, and table 2.4 of 3.1.1 (as that of 3.1) gives each number
/// of bytes a range that begins where the one before ends.
#[inline]
pub(in crate::packet) fn variable_byte_integer(
    bytes: &[u8],
) -> Result<Option<(u32, usize)>, Fault> {
    // Nearly every length and identifier is below 128.
    if let Some(&byte) = bytes.first()
        && byte < 0x80
    {
        return Ok(Some((u32::from(byte), 1)));
    }
    let mut value = 0_u32;
    for (index, shift) in [0_u32, 7, 14, 21].into_iter().enumerate() {
        let Some(&byte) = bytes.get(index) else { return Ok(None) };
        value |= u32::from(byte & 0x7F).wrapping_shl(shift);
        if byte < 0x80 {
            let minimal = byte != 0 || index == 0;
            return if minimal {
                Ok(Some((value, index.saturating_add(1))))
            } else {
                Err(INTEGER_NOT_MINIMAL)
            };
        }
    }
    Err(INTEGER_TOO_LONG)
}
