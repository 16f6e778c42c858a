//! The few MQTT 3.1.1 packets that the load needs, made and read by hand.
//!
//! Nothing here knows sockets. Reading borrows from the caller's buffer, so that a message costs
//! the tool a few nanoseconds and the broker stays the thing that is measured.

use std::io;

/// Bytes at the start of every payload: publisher (4), sequence number (4), time in ns (8).
pub(crate) const STAMP_LEN: usize = 16;

/// The largest Remaining Length that four bytes can say.
const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// What a packet from the broker said, as far as the load cares.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// CONNACK with its return code.
    ConnAck(u8),
    /// SUBACK with its Packet Identifier and the return code of the first filter.
    SubAck(u16, u8),
    /// PUBLISH; only what was asked for at QoS 0 has no Packet Identifier.
    Publish { packet_id: Option<u16>, payload: &'a [u8] },
    /// Any other packet, by its type (4 is PUBACK, 13 is PINGRESP, ...).
    Other(u8),
}

/// Bytes that are no MQTT.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed.0)
    }
}

/// Which publisher sent a message, its place in that publisher's sequence, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) publisher: u32,
    pub(crate) sequence: u32,
    /// Nanoseconds since the tool's own epoch. In an open loop: when it was *due*.
    pub(crate) time_ns: u64,
}

impl Stamp {
    fn to_bytes(self) -> [u8; STAMP_LEN] {
        let mut bytes = [0; STAMP_LEN];
        bytes[..4].copy_from_slice(&self.publisher.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..].copy_from_slice(&self.time_ns.to_be_bytes());
        bytes
    }

    /// Reads the stamp at the start of `payload`; `None` if it is too short.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (head, _) = payload.split_first_chunk::<STAMP_LEN>()?;
        let (publisher, rest) = head.split_first_chunk::<4>()?;
        let (sequence, time) = rest.split_first_chunk::<4>()?;
        let (time, _) = time.split_first_chunk::<8>()?;
        Some(Self {
            publisher: u32::from_be_bytes(*publisher),
            sequence: u32::from_be_bytes(*sequence),
            time_ns: u64::from_be_bytes(*time),
        })
    }
}

/// CONNECT for 3.1.1: Clean Session, no Will, no credentials, keep alive in seconds (0 is off).
pub(crate) fn connect(client_id: &str, keep_alive: u16) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, "MQTT");
    body.extend([4, 0b10]);
    body.extend(keep_alive.to_be_bytes());
    put_string(&mut body, client_id);
    packet(0x10, &body)
}

/// SUBSCRIBE with one Topic Filter.
pub(crate) fn subscribe(packet_id: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    put_string(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

/// DISCONNECT.
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A PUBLISH at QoS 0 that is encoded once and stamped anew for each message.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    stamp_at: usize,
}

impl Template {
    /// A payload shorter than the stamp is made as long as the stamp.
    pub(crate) fn new(topic: &str, payload_len: usize) -> Self {
        let payload_len = payload_len.clamp(STAMP_LEN, REMAINING_LENGTH_MAX - topic.len() - 2);
        let mut body = Vec::with_capacity(2 + topic.len() + payload_len);
        put_string(&mut body, topic);
        body.resize(body.len() + payload_len, b'.');
        let bytes = packet(0x30, &body);
        let stamp_at = bytes.len() - payload_len;
        Self { bytes, stamp_at }
    }

    /// Bytes of one packet.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the packet with this stamp.
    #[inline]
    pub(crate) fn append(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let at = out.len() + self.stamp_at;
        out.extend_from_slice(&self.bytes);
        if let Some(place) = out.get_mut(at..at + STAMP_LEN) {
            place.copy_from_slice(&stamp.to_bytes());
        }
    }
}

/// Hands every whole packet in `bytes` to `each`; returns how many bytes those were.
///
/// # Errors
///
/// When the bytes cannot be MQTT from a broker.
#[inline]
pub(crate) fn each_packet<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(Packet<'a>),
) -> Result<usize, Malformed> {
    let mut used = 0;
    while let Some(Frame { head, body, len }) = frame(&bytes[used..])? {
        each(decode(head, body)?);
        used += len;
    }
    Ok(used)
}

/// One packet as it came.
pub(crate) struct Frame<'a> {
    /// Packet type and flags.
    pub(crate) head: u8,
    /// What Remaining Length counts.
    pub(crate) body: &'a [u8],
    /// Bytes with the fixed header.
    pub(crate) len: usize,
}

/// The packet at the start, once it is all there.
#[inline]
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let Some((&head, rest)) = bytes.split_first() else { return Ok(None) };
    let mut remaining = 0;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let body = rest.get(index + 1..index + 1 + remaining);
            return Ok(body.map(|body| Frame { head, body, len: index + 2 + remaining }));
        }
    }
    if rest.len() < 4 { Ok(None) } else { Err(Malformed("Remaining Length is too long")) }
}

#[inline]
fn decode(head: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    match (head >> 4, body) {
        (3, _) => publish(head, body),
        (2, &[_, code]) => Ok(Packet::ConnAck(code)),
        (9, &[high, low, code, ..]) => Ok(Packet::SubAck(u16::from_be_bytes([high, low]), code)),
        (2 | 9, _) => Err(Malformed("CONNACK or SUBACK has the wrong length")),
        (0 | 1 | 8 | 10 | 12 | 14 | 15, _) => Err(Malformed("a broker does not send this packet")),
        (other, _) => Ok(Packet::Other(other)),
    }
}

#[inline]
fn publish(head: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    const SHORT: Malformed = Malformed("PUBLISH is too short");
    let (topic_len, rest) = body.split_first_chunk::<2>().ok_or(SHORT)?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..).ok_or(SHORT)?;
    if head & 0b110 == 0 {
        return Ok(Packet::Publish { packet_id: None, payload: rest });
    }
    let (packet_id, payload) = rest.split_first_chunk::<2>().ok_or(SHORT)?;
    Ok(Packet::Publish { packet_id: Some(u16::from_be_bytes(*packet_id)), payload })
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(len.to_be_bytes());
    out.extend(&text.as_bytes()[..usize::from(len)]);
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![head];
    let mut rest = body.len();
    loop {
        let low = rest.to_le_bytes()[0] & 0x7f;
        rest >>= 7;
        out.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// UNSUBSCRIBE with one Topic Filter.
pub(crate) fn unsubscribe(packet_id: u16, filter: &str) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    put_string(&mut body, filter);
    packet(0xa2, &body)
}

/// PINGREQ.
pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];

/// Appends a PUBLISH at QoS 0 to any topic. A payload too short for the stamp has none.
pub(crate) fn put_publish(out: &mut Vec<u8>, retain: bool, topic: &str, len: usize, stamp: Stamp) {
    let mut body = Vec::with_capacity(2 + topic.len() + len);
    put_string(&mut body, topic);
    if len >= STAMP_LEN {
        body.extend(stamp.to_bytes());
    }
    body.resize(2 + topic.len() + len, b'.');
    out.extend(packet(0x30 | u8::from(retain), &body));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(bytes: &[u8]) -> (Vec<Packet<'_>>, usize) {
        let mut packets = Vec::new();
        let used = each_packet(bytes, |packet| packets.push(packet)).unwrap();
        (packets, used)
    }

    #[test]
    fn connect_and_subscribe_are_the_standard_s_bytes() {
        assert_eq!(connect("ab", 60), b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab");
        assert_eq!(subscribe(7, "a/+", 1), b"\x82\x08\x00\x07\x00\x03a/+\x01");
    }

    #[test]
    fn unsubscribe_and_a_retained_publish_are_the_standard_s_bytes() {
        assert_eq!(unsubscribe(7, "a/+"), b"\xa2\x07\x00\x07\x00\x03a/+");
        let stamp = Stamp { publisher: 1, sequence: 2, time_ns: 3 };
        let mut out = Vec::new();
        put_publish(&mut out, true, "t", 0, stamp);
        put_publish(&mut out, false, "t", 17, stamp);
        let (cleared, stamped) = out.split_at(5);
        assert_eq!(cleared, b"\x31\x03\x00\x01t");
        assert_eq!(stamped[0], 0x30);
        let (packets, used) = collect(stamped);
        assert_eq!(used, 22);
        let [Packet::Publish { payload, .. }] = packets[..] else { unreachable!("one PUBLISH") };
        assert_eq!((payload.len(), Stamp::read(payload)), (17, Some(stamp)));
    }

    #[test]
    fn a_stamped_publish_reads_back() {
        for payload_len in [0, 16, 64, 100, 16_384, 2_097_152] {
            let template = Template::new("bench/0001", payload_len);
            let stamp = Stamp { publisher: 3, sequence: 70_000, time_ns: u64::MAX - 1 };
            let mut out = Vec::new();
            template.append(&mut out, stamp);
            assert_eq!(out.len(), template.len());
            let (packets, used) = collect(&out);
            assert_eq!(used, out.len());
            let [Packet::Publish { packet_id: None, payload }] = packets[..] else {
                unreachable!("{payload_len} did not give one PUBLISH");
            };
            assert_eq!(payload.len(), payload_len.max(STAMP_LEN));
            assert_eq!(Stamp::read(payload), Some(stamp));
        }
    }

    #[test]
    fn every_cut_of_a_stream_waits_for_the_rest() {
        let mut bytes = b"\x20\x02\x00\x05\x90\x03\x00\x07\x80".to_vec();
        bytes.extend(b"\x32\x07\x00\x01t\x00\x09hi\xd0\x00");
        let whole = [
            Packet::ConnAck(5),
            Packet::SubAck(7, 0x80),
            Packet::Publish { packet_id: Some(9), payload: b"hi" },
            Packet::Other(13),
        ];
        for cut in 0..=bytes.len() {
            let (mut packets, used) = collect(&bytes[..cut]);
            assert!(used <= cut);
            let (rest, rest_used) = collect(&bytes[used..]);
            assert_eq!(used + rest_used, bytes.len());
            packets.extend(rest);
            assert_eq!(packets, whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_mqtt_is_refused() {
        for bytes in [
            &b"\x30\x80\x80\x80\x80\x01"[..],
            b"\x30\x01\x00",
            b"\x30\x02\x00\x05",
            b"\x32\x03\x00\x00\x01",
            b"\x20\x01\x00",
            b"\x90\x02\x00\x01",
            b"\x10\x00",
            b"\x00\x00",
        ] {
            assert!(each_packet(bytes, |_| ()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_payload_without_a_stamp_is_no_stamp() {
        assert_eq!(Stamp::read(&[0; STAMP_LEN - 1]), None);
    }
}
