//! For tests: messages that are numbered, and a reader of what a Session writes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use super::outgoing::Outgoing;
use super::queue::Delivery;
use super::replay::{Found, SendContext};
use super::{Session, Terms};
use crate::message::Message;
use crate::packet::testing::Written;
use crate::packet::{ProtocolVersion, QoS};
use crate::time::Timestamp;
use crate::topic::name_matches;

/// Message `number`, its payload `size` bytes long (at least 8).
pub(crate) fn message(topic: &str, number: u32, size: usize) -> Message {
    Message::new(topic, format!("{number:08}{:.>1$}", "", size.saturating_sub(8))).unwrap()
}

pub(crate) fn delivery_of(message: Message, qos: QoS) -> Delivery {
    Delivery { message, qos, retain: false, ids: None, shared: None }
}

pub(crate) fn delivery(qos: QoS, number: u32) -> Delivery {
    delivery_of(message("t", number, 8), qos)
}

/// The number of a payload.
pub(crate) fn number(payload: &[u8]) -> u32 {
    std::str::from_utf8(&payload[..8]).unwrap().parse().unwrap()
}

pub(crate) fn terms(version: ProtocolVersion) -> Terms {
    Terms { version, quota: 20, maximum_packet_size: None, topic_alias_maximum: 0 }
}

/// Nothing is retained.
pub(crate) struct Nothing;

impl SendContext for Nothing {
    fn next_retained(&mut self, _: &str, _: Option<&str>, _: Timestamp) -> Found {
        Found::End
    }

    fn may_receive(&mut self, _: &[u8]) -> bool {
        true
    }
}

/// Retained messages that [`Kept`] looks at before it pauses.
const LOOKS: usize = 4_096;

/// Retained messages in the order of their Topic Names, looked at one by one; a search pauses after
/// [`LOOKS`] of them. What the Client may not receive is in the second set.
#[derive(Debug, Default)]
pub(crate) struct Kept(
    pub(crate) std::collections::BTreeMap<String, Message>,
    pub(crate) std::collections::BTreeSet<String>,
);

impl SendContext for Kept {
    fn may_receive(&mut self, topic: &[u8]) -> bool {
        !self.1.iter().any(|denied| denied.as_bytes() == topic)
    }

    fn next_retained(&mut self, filter: &str, after: Option<&str>, _: Timestamp) -> Found {
        let mut looks = LOOKS;
        let mut last = after.unwrap_or_default();
        for (topic, message) in &self.0 {
            if after.is_some_and(|after| topic.as_str() <= after) {
                continue;
            }
            if looks == 0 {
                return Found::Paused(last.into());
            }
            looks -= 1;
            if name_matches(filter, topic) {
                return Found::Message(message.clone());
            }
            last = topic;
        }
        Found::End
    }
}

/// A packet that a Server sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) kind: u8,
    pub(crate) size: usize,
    /// PUBLISH and acknowledgements.
    pub(crate) id: Option<u16>,
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    pub(crate) alias: Option<u16>,
    pub(crate) expiry: Option<u32>,
    pub(crate) ids: Vec<u32>,
    pub(crate) payload: Vec<u8>,
    /// Reason Code of an acknowledgement.
    pub(crate) reason: u8,
}

impl Packet {
    pub(crate) fn number(&self) -> u32 {
        number(&self.payload)
    }
}

pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBREL: u8 = 6;

/// Everything in `bytes`, which are whole packets.
pub(crate) fn packets(version: ProtocolVersion, mut bytes: &[u8]) -> Vec<Packet> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let digits = bytes[1..].iter().take_while(|byte| **byte >= 128).count() + 1;
        let length = bytes[1..=digits]
            .iter()
            .rev()
            .fold(0, |length, byte| length * 128 + usize::from(byte & 127));
        let (packet, rest) = bytes.split_at(1 + digits + length);
        found.push(read(version, packet));
        bytes = rest;
    }
    found
}

fn read(version: ProtocolVersion, bytes: &[u8]) -> Packet {
    let mut written = Written::parse(bytes);
    let header = written.header;
    let mut packet = Packet { kind: header >> 4, size: bytes.len(), ..Packet::default() };
    match packet.kind {
        PUBLISH => read_publish(version, &mut packet, &mut written),
        4..=7 => {
            assert_eq!(header & 15, if packet.kind == PUBREL { 2 } else { 0 });
            packet.id = Some(written.two_bytes());
            packet.reason = if written.is_empty() { 0 } else { written.byte() };
        }
        _ => packet.payload = written.rest(),
    }
    packet
}

fn read_publish(version: ProtocolVersion, packet: &mut Packet, written: &mut Written) {
    let header = written.header;
    packet.dup = header & 8 != 0;
    packet.qos = header >> 1 & 3;
    packet.retain = header & 1 != 0;
    packet.topic = written.string();
    packet.id = (packet.qos > 0).then(|| written.two_bytes());
    assert_ne!(packet.id, Some(0), "MQTT-2.2.1-3");
    if version.is_v5() {
        for (id, value) in written.properties() {
            let number = value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
            match id {
                0x02 => packet.expiry = Some(number),
                0x0B => packet.ids.push(number),
                0x23 => packet.alias = Some(u16::try_from(number).unwrap()),
                _ => {}
            }
        }
    }
    packet.payload = written.rest();
}

/// All bytes of a batch.
pub(crate) fn flatten(out: &Outgoing) -> Vec<u8> {
    let bytes: Vec<u8> =
        out.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect());
    assert_eq!(bytes.len(), out.len());
    bytes
}

/// One batch, wholly taken.
pub(crate) fn written(
    session: &mut Session,
    now: Timestamp,
    retained: &mut impl SendContext,
) -> Vec<Packet> {
    let version = session.version().unwrap();
    let mut out = Outgoing::default();
    let epoch = session.begin_batch(now, &mut out, &mut Vec::new(), retained).unwrap();
    let bytes = flatten(&out);
    let _more = session.end_batch(epoch, &mut out, bytes.len());
    packets(version, &bytes)
}

/// Arcs of identifiers are what a delivery holds.
pub(crate) fn ids(ids: &[u32]) -> Option<Arc<[u32]>> {
    Some(ids.into())
}
