//! Cuts packets out of the read buffer: fixed header, Remaining Length, the largest size allowed.
//!
//! A wrong first byte is refused before the rest of the packet has arrived. Flags that only some
//! versions allow pass here and are judged by [`decode`](super::decode), which knows the version: 3.1
//! uses only the flags of PUBLISH and the QoS of three other packets.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::decode::reader::variable_byte_integer;
use crate::error::Fault;
use crate::packet::{ProtocolVersion, ReasonCode};

mod first;

pub(crate) use first::judge_first_bytes;

/// The size of the largest packet that the standard can say, in bytes: fixed header of 5, and a
/// Remaining Length of 268 435 455 (section 2.1.4).
pub(crate) const PACKET_BYTES_MAX: usize = 268_435_460;

/// The largest Remaining Length (section 2.1.4). Clients take no larger Maximum Packet Size from a Server, although
/// a packet may have five bytes more.
pub(crate) const REMAINING_LENGTH_MAX: u32 = 268_435_455;

/// The beginning of the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A whole packet: first byte of the fixed header, what follows the Remaining Length, and how
    /// many bytes of the buffer it took in all.
    Whole { header: u8, body: &'a [u8], taken: usize },
    /// Not all there; `total` bytes are needed for the whole packet if the Remaining Length is
    /// known.
    Partial { total: Option<usize> },
}

/// The next packet of `buffer`. `packet_bytes_max` counts the whole packet, fixed header included.
///
/// No byte is asked for, and nothing should be allocated for one, until the claimed size has been
/// compared with `packet_bytes_max`.
///
/// # Errors
/// Malformed: Packet Type 0, flags that no version allows, a Remaining Length of more than 4 bytes
/// or of more than it needs (see [`variable_byte_integer`]). Protocol: a packet that only a Server
/// sends. Refused: 0x95, the packet is larger than `packet_bytes_max`.
#[inline]
pub(crate) fn next_frame(buffer: &[u8], packet_bytes_max: u32) -> Result<Frame<'_>, Fault> {
    let Some((&header, after_header)) = buffer.split_first() else {
        return Ok(Frame::Partial { total: None });
    };
    judge_header(header)?;
    let Some((remaining_length, length_size)) = variable_byte_integer(after_header)? else {
        return Ok(Frame::Partial { total: None });
    };
    let header_size = length_size.saturating_add(1);
    let total = header_size.saturating_add(remaining_length as usize);
    if total > packet_bytes_max as usize {
        return Err(Fault::Refused(
            ReasonCode::PACKET_TOO_LARGE,
            "MQTT-3.2.2-15: the packet exceeds the Maximum Packet Size",
        ));
    }
    match buffer.get(header_size..total) {
        Some(body) => Ok(Frame::Whole { header, body, taken: total }),
        None => Ok(Frame::Partial { total: Some(total) }),
    }
}

/// Checks the Packet Type and the flags.
#[inline]
fn judge_header(header: u8) -> Result<(), Fault> {
    let flags = header & 0x0F;
    let allowed = match header >> 4 {
        0 => return Err(Fault::Malformed("section 2.1.2: Packet Type 0 is reserved")),
        2 | 9 | 11 | 13 => {
            return Err(Fault::Protocol("section 2.1.2: a packet that only a Server sends"));
        }
        // PUBLISH: DUP, QoS, RETAIN.
        3 => {
            if flags & 0b0110 == 0b0110 {
                return Err(Fault::Malformed("MQTT-3.3.1-4: both QoS bits of a PUBLISH are 1"));
            }
            true
        }
        // PUBREL, SUBSCRIBE, UNSUBSCRIBE: QoS 1 in every version.
        6 | 8 | 10 => flags & 0b0110 == 0b0010,
        // AUTH, which 3.1 has not.
        15 => flags == 0,
        _ => true,
    };
    if allowed { Ok(()) } else { Err(RESERVED_FLAGS) }
}

/// Whether the flags of a packet other than PUBLISH are those that `version` wants. In 3.1 DUP is of no use to
/// a Server, and what is "not used" there may have any value.
pub(in crate::packet) fn flags_are_allowed(version: ProtocolVersion, header: u8) -> bool {
    let used = match (version, header >> 4) {
        (ProtocolVersion::V3_1, 6 | 8 | 10) => 0b0110,
        (ProtocolVersion::V3_1, 1..=14) => 0b0000,
        _ => 0b1111,
    };
    // MQTT-2.1.3-1, -3.6.1-1, -3.8.1-1, -3.10.1-1, -3.14.1-1, -3.15.1-1; in 3.1.1 MQTT-2.2.2-1, -2.
    let wanted = if matches!(header >> 4, 6 | 8 | 10) { 0b0010 } else { 0b0000 };
    header & used == wanted
}

/// Also what [`decode`](super::decode) says of flags that only another version allows.
pub(in crate::packet) const RESERVED_FLAGS: Fault =
    Fault::Malformed("MQTT-2.1.3-1: reserved flags of the fixed header have a wrong value");

#[cfg(test)]
mod tests;
