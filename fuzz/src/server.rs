//! Reads what a Server wrote, from the standard and not from the code under test, and panics where that is no
//! packet of its version.

use std::collections::BTreeSet;

use crate::packet::ProtocolVersion;

/// A packet that a Server sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) kind: u8,
    /// In bytes, fixed header included.
    pub(crate) size: usize,
    pub(crate) id: Option<u16>,
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    pub(crate) alias: Option<u16>,
    pub(crate) subscription_ids: Vec<u32>,
    /// Of a PUBLISH the payload, of a SUBACK or UNSUBACK the Reason Codes.
    pub(crate) payload: Vec<u8>,
    /// Reason Code, or return code of a CONNACK.
    pub(crate) reason: u8,
    pub(crate) session_present: bool,
}

/// A Packet Type.
pub(crate) const CONNACK: u8 = 2;
/// A Packet Type.
pub(crate) const PUBLISH: u8 = 3;
/// A Packet Type.
pub(crate) const DISCONNECT: u8 = 14;

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        assert!(count <= self.rest.len(), "a field runs past the end: {:02X?}", self.rest);
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn two_bytes(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    fn four_bytes(&mut self) -> u32 {
        u32::from(self.two_bytes()) << 16 | u32::from(self.two_bytes())
    }

    fn integer(&mut self) -> u32 {
        let (mut value, mut size) = (0, 0);
        loop {
            let byte = self.byte();
            value |= u32::from(byte & 127) << (7 * size);
            size += 1;
            if byte < 128 {
                assert!(size == 1 || byte != 0, "MQTT-1.5.5-1: {value}");
                return value;
            }
            assert!(size < 4, "section 1.5.5");
        }
    }

    fn binary(&mut self) -> &'a [u8] {
        let length = self.two_bytes();
        self.take(usize::from(length))
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8(self.binary().to_vec()).expect("MQTT-1.5.4-1");
        assert!(!text.contains('\0'), "MQTT-1.5.4-2");
        text
    }
}

/// Everything in `bytes`, which are whole packets.
pub(crate) fn packets(version: ProtocolVersion, bytes: &[u8]) -> Vec<Packet> {
    let mut found = Vec::new();
    let mut reader = Reader { rest: bytes };
    while !reader.rest.is_empty() {
        let before = reader.rest.len();
        let header = reader.byte();
        let length = reader.integer() as usize;
        let mut body = Reader { rest: reader.take(length) };
        let mut packet = Packet { kind: header >> 4, ..Packet::default() };
        read(version, header, &mut body, &mut packet);
        assert!(body.rest.is_empty(), "bytes behind the last field: {packet:?}");
        packet.size = before - reader.rest.len();
        found.push(packet);
    }
    found
}

fn read(version: ProtocolVersion, header: u8, body: &mut Reader<'_>, packet: &mut Packet) {
    let v5 = version.is_v5();
    let flags = match packet.kind {
        PUBLISH => header & 15,
        6 => 2,
        _ => 0,
    };
    assert_eq!(header & 15, flags, "MQTT-2.1.3-1: {header:02X}");
    match packet.kind {
        CONNACK => connack(version, body, packet),
        PUBLISH => publish(version, header, body, packet),
        4..=7 => {
            packet.id = Some(body.two_bytes());
            if !body.rest.is_empty() {
                assert!(v5, "a Reason Code in {version}");
                packet.reason = body.byte();
            }
            if !body.rest.is_empty() {
                properties(body, &[0x1F, 0x26], packet);
            }
        }
        9 | 11 => {
            packet.id = Some(body.two_bytes());
            if v5 {
                properties(body, &[0x1F, 0x26], packet);
            }
            packet.payload = body.take(body.rest.len()).to_vec();
            let reasons: &[u8] = match (packet.kind, version) {
                (9, ProtocolVersion::V5) => {
                    &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]
                }
                (9, ProtocolVersion::V3_1_1) => &[0, 1, 2, 0x80],
                (9, _) => &[0, 1, 2],
                (_, ProtocolVersion::V5) => &[0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
                _ => &[],
            };
            let known = packet.payload.iter().all(|reason| reasons.contains(reason));
            assert!(known, "MQTT-3.9.3-2, -3.11.3-2: {packet:?}");
        }
        13 => {}
        DISCONNECT => {
            assert!(v5, "MQTT-3.14.0-1: a Server of {version} sends none");
            packet.reason = body.byte();
            if !body.rest.is_empty() {
                properties(body, &[0x1F, 0x26, 0x1C], packet);
            }
        }
        other => assert_eq!(other, 13, "no packet of a Server"),
    }
    assert_ne!(packet.id, Some(0), "MQTT-2.2.1-3");
}

fn connack(version: ProtocolVersion, body: &mut Reader<'_>, packet: &mut Packet) {
    let flags = body.byte();
    assert!(flags <= 1, "MQTT-3.2.2-1");
    packet.session_present = flags == 1;
    packet.reason = body.byte();
    assert!(packet.reason == 0 || !packet.session_present, "MQTT-3.2.2-6");
    if version.is_v5() {
        let allowed = [
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27,
            0x28, 0x29, 0x2A,
        ];
        properties(body, &allowed, packet);
        assert!(packet.reason == 0 || packet.reason >= 0x80, "table 3-1");
    } else {
        assert!(packet.reason <= 5, "3.1.1, table 3.1");
        assert!(!packet.session_present || version == ProtocolVersion::V3_1_1);
    }
}

fn publish(version: ProtocolVersion, header: u8, body: &mut Reader<'_>, packet: &mut Packet) {
    packet.dup = header & 8 != 0;
    packet.qos = header >> 1 & 3;
    packet.retain = header & 1 != 0;
    assert!(packet.qos < 3, "MQTT-3.3.1-4");
    assert!(!packet.dup || packet.qos > 0, "MQTT-3.3.1-2");
    packet.topic = body.text();
    assert!(!packet.topic.contains(['+', '#']), "MQTT-3.3.2-2");
    packet.id = (packet.qos > 0).then(|| body.two_bytes());
    if version.is_v5() {
        properties(body, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26], packet);
    }
    assert!(!packet.topic.is_empty() || packet.alias.is_some(), "section 3.3.2.1");
    packet.payload = body.take(body.rest.len()).to_vec();
}

/// A property section of these alone, each but User Property and Subscription Identifier once.
fn properties(body: &mut Reader<'_>, allowed: &[u8], packet: &mut Packet) {
    let length = body.integer() as usize;
    let mut section = Reader { rest: body.take(length) };
    let mut seen = BTreeSet::new();
    while !section.rest.is_empty() {
        let id = section.byte();
        assert!(allowed.contains(&id), "section 2.2.2.2: property 0x{id:02X}");
        assert!(seen.insert(id) || matches!(id, 0x26 | 0x0B), "0x{id:02X} twice");
        match id {
            0x01 | 0x24 | 0x25 | 0x28..=0x2A => assert!(section.byte() <= 1, "section 2.2.2"),
            0x13 | 0x22 => {
                section.two_bytes();
            }
            0x21 => assert_ne!(section.two_bytes(), 0, "section 3.2.2.3.3"),
            0x23 => packet.alias = Some(section.two_bytes()),
            0x02 | 0x11 => {
                section.four_bytes();
            }
            0x27 => assert_ne!(section.four_bytes(), 0, "section 3.2.2.3.6"),
            0x0B => packet.subscription_ids.push(section.integer()),
            0x09 | 0x16 => {
                section.binary();
            }
            0x26 => drop((section.text(), section.text())),
            _ => drop(section.text()),
        }
    }
    assert_ne!(packet.alias, Some(0), "MQTT-3.3.2-8");
    assert!(!packet.subscription_ids.contains(&0), "MQTT-3.3.4-3");
}
