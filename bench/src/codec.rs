//! The few packets of MQTT 3.1.1 and 5 that the load needs, made and read by hand.
//!
//! Nothing here knows sockets. Reading borrows from the caller's buffer, so that a message costs
//! the tool a few nanoseconds and the broker stays the thing that is measured.

use std::io;

/// Bytes at the start of every payload: publisher (4), sequence number (4), time in ns (8).
pub(crate) const STAMP_LEN: usize = 16;

/// The largest Remaining Length that four bytes can say.
const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// The version of MQTT that a client speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Version {
    #[default]
    V311,
    V5,
}

/// What a packet from the broker said, as far as the load cares.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// CONNACK with its return code.
    ConnAck(u8),
    /// SUBACK with its Packet Identifier and the return code of the first filter.
    SubAck(u16, u8),
    /// PUBLISH; only what was asked for at QoS 0 has no Packet Identifier.
    Publish {
        qos: u8,
        packet_id: Option<u16>,
        payload: &'a [u8],
    },
    /// PUBACK with its Reason Code; 3.1.1 has none but success.
    PubAck(u16, u8),
    /// PUBREC with its Reason Code.
    PubRec(u16, u8),
    PubRel(u16),
    PubComp(u16),
    /// DISCONNECT with its Reason Code; only a broker that speaks MQTT 5 says it.
    Disconnect(u8),
    /// Any other packet, by its type (11 is UNSUBACK, 13 is PINGRESP, ...).
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

/// The keep alive of the loads: so long that none ever has to send PINGREQ, and not 0 (off), which
/// some brokers refuse.
pub(crate) const KEEP_ALIVE_SECS: u16 = u16::MAX;

/// CONNECT for 3.1.1: Clean Session, no Will, no credentials, keep alive in seconds (0 is off).
pub(crate) fn connect(client_id: &str, keep_alive: u16) -> Vec<u8> {
    connect_as(Version::V311, client_id, keep_alive)
}

/// The same for either version; for MQTT 5 without properties.
pub(crate) fn connect_as(version: Version, client_id: &str, keep_alive: u16) -> Vec<u8> {
    connect_by(version, client_id, keep_alive, None)
}

/// What a client calls itself to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// The same with credentials, if there are any.
pub(crate) fn connect_by(
    version: Version,
    client_id: &str,
    keep_alive: u16,
    user: Option<&User>,
) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, "MQTT");
    let flags = if user.is_some() { 0b1100_0010 } else { 0b10 };
    body.extend([if version == Version::V5 { 5 } else { 4 }, flags]);
    body.extend(keep_alive.to_be_bytes());
    put_no_properties(&mut body, version);
    put_string(&mut body, client_id);
    if let Some(User { name, password }) = user {
        put_string(&mut body, name);
        put_string(&mut body, password);
    }
    packet(0x10, &body)
}

/// SUBSCRIBE for 3.1.1 with one Topic Filter.
pub(crate) fn subscribe(packet_id: u16, filter: &str, qos: u8) -> Vec<u8> {
    subscribe_as(Version::V311, packet_id, filter, qos)
}

/// The same for either version; for MQTT 5 without properties and with the options all zero.
pub(crate) fn subscribe_as(version: Version, packet_id: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    put_no_properties(&mut body, version);
    put_string(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, whose first byte is `head`: in both versions four bytes.
#[inline]
pub(crate) fn put_ack(out: &mut Vec<u8>, head: u8, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend([head, 2, high, low]);
}

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;

/// DISCONNECT.
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A PUBLISH that is encoded once and stamped anew for each message.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the Packet Identifier is, if there is one.
    id_at: Option<usize>,
    stamp_at: usize,
}

impl Template {
    /// A payload shorter than the stamp is made as long as the stamp.
    pub(crate) fn new(version: Version, qos: u8, topic: &str, payload_len: usize) -> Self {
        // The topic's length, the Packet Identifier and no properties: at most five bytes.
        let payload_len = payload_len.clamp(STAMP_LEN, REMAINING_LENGTH_MAX - topic.len() - 5);
        let mut body = Vec::with_capacity(5 + topic.len() + payload_len);
        put_string(&mut body, topic);
        if qos > 0 {
            body.extend([0, 0]);
        }
        let id_from_end = 2 + usize::from(version == Version::V5) + payload_len;
        put_no_properties(&mut body, version);
        body.resize(body.len() + payload_len, b'.');
        let bytes = packet(0x30 | qos << 1, &body);
        let stamp_at = bytes.len() - payload_len;
        let id_at = (qos > 0).then(|| bytes.len() - id_from_end);
        Self { bytes, id_at, stamp_at }
    }

    /// Bytes of one packet.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the packet with this stamp. The Packet Identifier is left out at QoS 0.
    #[inline]
    pub(crate) fn append(&self, out: &mut Vec<u8>, stamp: Stamp, packet_id: u16) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        self.put(&mut out[start..], stamp, packet_id);
    }

    /// The packet with this stamp, made in place: saves a copy where it goes out alone.
    #[inline]
    pub(crate) fn stamped(&mut self, stamp: Stamp, packet_id: u16) -> &[u8] {
        let mut bytes = std::mem::take(&mut self.bytes);
        self.put(&mut bytes, stamp, packet_id);
        self.bytes = bytes;
        &self.bytes
    }

    #[inline]
    fn put(&self, packet: &mut [u8], stamp: Stamp, packet_id: u16) {
        if let Some(at) = self.id_at
            && let Some(place) = packet.get_mut(at..at + 2)
        {
            place.copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(place) = packet.get_mut(self.stamp_at..self.stamp_at + STAMP_LEN) {
            place.copy_from_slice(&stamp.to_bytes());
        }
    }
}

/// What a broker says of itself in a CONNACK of MQTT 5; to 3.1.1 it says nothing, and this is what
/// holds then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announced {
    /// PUBLISH packets at QoS 1 and 2 that may be without PUBACK or PUBCOMP.
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_qos: u8,
    /// Bytes; without a limit of the broker's own what Remaining Length can say.
    pub(crate) maximum_packet_size: usize,
}

impl Default for Announced {
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_qos: 2,
            maximum_packet_size: REMAINING_LENGTH_MAX + 5,
        }
    }
}

impl Announced {
    /// Reads the body of a CONNACK of MQTT 5.
    ///
    /// # Errors
    ///
    /// When its properties are cut short or unknown.
    pub(crate) fn read(connack: &[u8]) -> Result<Self, Malformed> {
        const WRONG: Malformed = Malformed("CONNACK has wrong properties");
        let mut announced = Self::default();
        let (mut rest, _) = properties(connack.get(2..).ok_or(WRONG)?)?;
        while let Some((&name, value)) = rest.split_first() {
            let string = |at: usize| {
                let len = value.get(at..at + 2).ok_or(WRONG)?;
                Ok(at + 2 + usize::from(u16::from_be_bytes([len[0], len[1]])))
            };
            let len = match name {
                0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
                0x13 | 0x21 | 0x22 => 2,
                0x11 | 0x27 => 4,
                0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => string(0)?,
                0x26 => string(string(0)?)?,
                _ => return Err(WRONG),
            };
            let (value, next) = value.split_at_checked(len).ok_or(WRONG)?;
            match (name, value) {
                (0x21, &[high, low]) => announced.receive_maximum = u16::from_be_bytes([high, low]),
                (0x24, &[qos]) => announced.maximum_qos = qos,
                (0x27, &[a, b, c, d]) => {
                    announced.maximum_packet_size =
                        usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| WRONG)?;
                }
                _ => {}
            }
            rest = next;
        }
        Ok(announced)
    }
}

/// Hands every whole packet in `bytes` to `each`; returns how many bytes those were.
///
/// # Errors
///
/// When the bytes cannot be MQTT from a broker.
#[inline]
pub(crate) fn each_packet<'a>(
    version: Version,
    bytes: &'a [u8],
    mut each: impl FnMut(Packet<'a>),
) -> Result<usize, Malformed> {
    let mut used = 0;
    while let Some(Frame { head, body, len }) = frame(&bytes[used..])? {
        each(decode(version, head, body)?);
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
    let Some((remaining, after)) = variable_byte_integer(rest)? else { return Ok(None) };
    let header = bytes.len() - after.len();
    let body = after.get(..remaining);
    Ok(body.map(|body| Frame { head, body, len: header + remaining }))
}

#[inline]
pub(crate) fn decode(version: Version, head: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    match (head >> 4, body) {
        (3, _) => publish(version, head, body),
        (4, &[high, low, ref rest @ ..]) => {
            Ok(Packet::PubAck(u16::from_be_bytes([high, low]), reason(rest)))
        }
        (5, &[high, low, ref rest @ ..]) => {
            Ok(Packet::PubRec(u16::from_be_bytes([high, low]), reason(rest)))
        }
        (6, &[high, low, ..]) => Ok(Packet::PubRel(u16::from_be_bytes([high, low]))),
        (7, &[high, low, ..]) => Ok(Packet::PubComp(u16::from_be_bytes([high, low]))),
        (2, _) => connack(version, body),
        (9, _) => suback(version, body),
        (14, _) if version == Version::V5 => Ok(Packet::Disconnect(reason(body))),
        (4..8, _) => Err(Malformed("an acknowledgement has no Packet Identifier")),
        (0 | 1 | 8 | 10 | 12 | 14 | 15, _) => Err(Malformed("a broker does not send this packet")),
        (other, _) => Ok(Packet::Other(other)),
    }
}

/// A Reason Code that is left out means success.
fn reason(rest: &[u8]) -> u8 {
    rest.first().copied().unwrap_or(0)
}

fn connack(version: Version, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    match (version, body) {
        (Version::V311, &[_, code]) | (Version::V5, &[_, code, _, ..]) => Ok(Packet::ConnAck(code)),
        // Who does not know MQTT 5 refuses it in the words of 3.1.1.
        (Version::V5, &[_, code]) if code != 0 => Ok(Packet::ConnAck(code)),
        _ => Err(Malformed("CONNACK has the wrong length")),
    }
}

fn suback(version: Version, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    const SHORT: Malformed = Malformed("SUBACK is too short");
    let (packet_id, mut codes) = body.split_first_chunk::<2>().ok_or(SHORT)?;
    if version == Version::V5 {
        (_, codes) = properties(codes)?;
    }
    let code = codes.first().ok_or(SHORT)?;
    Ok(Packet::SubAck(u16::from_be_bytes(*packet_id), *code))
}

#[inline]
fn publish(version: Version, head: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    const SHORT: Malformed = Malformed("PUBLISH is too short");
    let (topic_len, rest) = body.split_first_chunk::<2>().ok_or(SHORT)?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..).ok_or(SHORT)?;
    let qos = head >> 1 & 0b11;
    let mut packet_id = None;
    if qos == 3 {
        return Err(Malformed("PUBLISH has QoS 3"));
    }
    if qos > 0 {
        let (id, after) = rest.split_first_chunk::<2>().ok_or(SHORT)?;
        (packet_id, rest) = (Some(u16::from_be_bytes(*id)), after);
    }
    if version == Version::V5 {
        (_, rest) = properties(rest)?;
    }
    Ok(Packet::Publish { qos, packet_id, payload: rest })
}

/// The properties at the start of `bytes`, and what follows them.
#[inline]
pub(crate) fn properties(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    const SHORT: Malformed = Malformed("properties are cut short");
    let (len, rest) = variable_byte_integer(bytes)?.ok_or(SHORT)?;
    rest.split_at_checked(len).ok_or(SHORT)
}

/// The number at the start of `bytes`, once it is all there, and what follows it.
#[inline]
fn variable_byte_integer(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, Malformed> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((number, &bytes[index + 1..])));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed("a length has more than four bytes")) }
}

fn put_no_properties(out: &mut Vec<u8>, version: Version) {
    if version == Version::V5 {
        out.push(0);
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(len.to_be_bytes());
    out.extend(&text.as_bytes()[..usize::from(len)]);
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    put_packet(&mut out, head, body);
    out
}

/// Appends a packet: its first byte, Remaining Length, and what that counts.
pub(crate) fn put_packet(out: &mut Vec<u8>, head: u8, body: &[u8]) {
    out.push(head);
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
mod tests;
