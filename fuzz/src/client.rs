//! Packets that a Client may well send: arbitrary bytes alone would seldom get far.

use super::net::Net;
use crate::packet::ProtocolVersion;
use crate::targets::input::Input;

const TOPICS: [&str; 8] = ["a", "b", "a/b", "deny", "$x/y", "c/d/e", "", "$SYS/x"];
const FILTERS: [&str; 12] =
    ["a", "#", "+", "a/#", "+/b", "b", "$share/g/a", "$share/h/#", "deny", "c/+/e", "a+", "$x/#"];

/// A packet of the version that is spoken; a CONNECT where none was accepted.
pub(super) fn any_packet(input: &mut Input<'_>, net: &Net) -> Vec<u8> {
    let version = net.connection.version();
    let v5 = version.is_v5();
    let kind = input.below(16);
    if !net.connection.is_connected() && kind < 14 {
        return connect(input);
    }
    let mut body = Vec::new();
    let header = match kind {
        0..4 => return publish(input, v5),
        4 | 5 => return subscribe(input, v5),
        6 => {
            identifier(&mut body, input);
            body.extend(if v5 { &[0][..] } else { &[] });
            string(&mut body, input.choose(&FILTERS));
            0xA2
        }
        7..12 => {
            let open = net.open.iter().nth(input.below(4)).copied();
            match open.filter(|_| input.byte() > 20) {
                Some(id) => body.extend(id.to_be_bytes()),
                None => identifier(&mut body, input),
            }
            let header = [0x40, 0x50, 0x70, 0x62, 0x40][kind - 7];
            if v5 && input.byte() > 220 {
                body.push(if header == 0x62 || header == 0x70 { 0x92 } else { 0x97 });
            }
            header
        }
        12 => 0xC0,
        13 => {
            if v5 && input.flag() {
                body.extend([input.choose(&[0, 4]), 5, 0x11, 0, 0, 0, input.byte() % 4]);
            }
            0xE0
        }
        _ => input.byte(),
    };
    if kind >= 14 {
        let count = input.below(32);
        body.extend_from_slice(input.take(count));
    }
    packet(header, &body)
}

fn packet(header: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![header];
    let mut length = body.len();
    while length > 127 {
        packet.push(u8::try_from(length % 128).unwrap_or_default() | 128);
        length /= 128;
    }
    packet.push(u8::try_from(length).unwrap_or_default());
    packet.extend_from_slice(body);
    packet
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).unwrap_or_default().to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A small Packet Identifier, so that some are used twice.
fn identifier(out: &mut Vec<u8>, input: &mut Input<'_>) {
    out.extend([0, 1 + input.byte() % 8]);
}

fn connect(input: &mut Input<'_>) -> Vec<u8> {
    let version =
        input.choose(&[ProtocolVersion::V5, ProtocolVersion::V3_1_1, ProtocolVersion::V3_1]);
    let (name, level) = match version {
        ProtocolVersion::V3_1 => ("MQIsdp", 3),
        ProtocolVersion::V3_1_1 => ("MQTT", 4),
        ProtocolVersion::V5 => ("MQTT", 5),
    };
    let choice = input.byte();
    let will = choice & 4 != 0;
    let bridge = if choice & 0xF0 == 0xF0 { 0x80 } else { 0 };
    let mut body = Vec::new();
    string(&mut body, name);
    let flags = choice & 2 | if will { 4 | choice & 0x28 } else { 0 };
    body.extend([level | bridge, flags, 0, input.byte()]);
    if version.is_v5() {
        let mut properties = Vec::new();
        properties.extend([0x11, 0, 0, 0, input.choose(&[0, 3, 200])]);
        properties.extend([0x21, 0, 1 + input.byte() % 5]);
        properties.extend([0x22, 0, input.byte() % 4]);
        properties.extend([0x17, input.byte() & 1]);
        let size = input.choose(&[0, 30, 60, 200, 12]);
        properties.extend(if size > 0 { vec![0x27, 0, 0, 0, size] } else { Vec::new() });
        body.push(u8::try_from(properties.len()).unwrap_or_default());
        body.extend(properties);
    }
    string(&mut body, input.choose(&["client", "c", ""]));
    if will {
        if version.is_v5() {
            body.extend([5, 0x18, 0, 0, 0, input.byte() % 4]);
        }
        string(&mut body, input.choose(&TOPICS[..6]));
        string(&mut body, "gone");
    }
    packet(0x10, &body)
}

fn publish(input: &mut Input<'_>, v5: bool) -> Vec<u8> {
    let choice = input.byte();
    let qos = choice % 3;
    let header = 0x30 | qos << 1 | (choice >> 6 & 1) | if qos > 0 { choice >> 4 & 8 } else { 0 };
    let mut body = Vec::new();
    string(&mut body, input.choose(&TOPICS));
    if qos > 0 {
        identifier(&mut body, input);
    }
    if v5 {
        let properties: [&[u8]; 6] = [
            &[],
            &[0x23, 0, 1],
            &[0x02, 0, 0, 0, 2],
            &[0x26, 0, 1, b'n', 0, 1, b'v'],
            &[0x01, 1, 0x08, 0, 1, b'r', 0x23, 0, 2, 0x09, 0, 0],
            &[0x02, 0, 0, 0, 0],
        ];
        let properties = input.choose(&properties);
        body.push(u8::try_from(properties.len()).unwrap_or_default());
        body.extend_from_slice(properties);
    }
    body.resize(body.len() + input.choose(&[0, 1, 30, 90, 4_200]), b'.');
    packet(header, &body)
}

fn subscribe(input: &mut Input<'_>, v5: bool) -> Vec<u8> {
    let mut body = Vec::new();
    identifier(&mut body, input);
    if v5 {
        let properties: [&[u8]; 3] = [&[0], &[2, 0x0B, 5], &[3, 0x0B, 0xC8, 1]];
        body.extend_from_slice(input.choose(&properties));
    }
    for _ in 0..1 + input.below(3) {
        string(&mut body, input.choose(&FILTERS));
        let options = input.byte() % 3;
        let v5_alone = [0, 4, 8, 0x10, 0x20, 0x18];
        body.push(if v5 { options | input.choose(&v5_alone) } else { options });
    }
    packet(0x82, &body)
}
