//! Variable Byte Integers (section 1.5.5) as they are written.

/// The largest Variable Byte Integer, and so the largest Remaining Length (section 1.5.5).
const VARIABLE_BYTE_INTEGER_MAX: u32 = 268_435_455;

/// Appends a Variable Byte Integer in as few bytes as it needs (MQTT-1.5.5-1). The caller has made
/// sure that it is at most 268 435 455; a larger one is written as that.
#[inline]
pub(crate) fn variable_byte_integer(out: &mut Vec<u8>, value: u32) {
    let value = value.min(VARIABLE_BYTE_INTEGER_MAX);
    let [d, c, b, a] =
        [value >> 21, value >> 14, value >> 7, value].map(|rest| (rest & 0x7F) as u8);
    match value {
        0..0x80 => out.push(a),
        0x80..0x4000 => out.extend_from_slice(&[a | 0x80, b]),
        0x4000..0x20_0000 => out.extend_from_slice(&[a | 0x80, b | 0x80, c]),
        _ => out.extend_from_slice(&[a | 0x80, b | 0x80, c | 0x80, d]),
    }
}

/// How many bytes [`variable_byte_integer`] appends.
#[inline]
pub(super) const fn variable_byte_integer_size(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
