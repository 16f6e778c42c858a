//! Packets as a Client sends them.

use crate::packet::QoS;

/// A Topic Name of a length that is common: 31 bytes, four levels.
pub(super) const TOPIC: &str = "plant/line-07/press/temperature";

/// A packet of these parts.
pub(super) fn packet(header: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![header];
    let mut length = body.len();
    loop {
        let digit = u8::try_from(length % 128).unwrap_or_default();
        length /= 128;
        bytes.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A string with its length before it.
pub(super) fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or_default();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// PUBLISH. `properties` is the whole section with its length, empty in 3.1.1; `id` is left out at QoS 0.
pub(super) fn publish(
    qos: QoS,
    topic: &str,
    id: u16,
    properties: &[u8],
    payload: usize,
) -> Vec<u8> {
    let id = if qos == QoS::AtMostOnce { Vec::new() } else { id.to_be_bytes().to_vec() };
    let header = 0x30 | (qos as u8) << 1;
    packet(header, &[&string(topic), &id, properties, &vec![b'x'; payload]])
}

/// CONNECT of 3.1.1 without anything that can be left out.
pub(super) fn connect(client_id: &str) -> Vec<u8> {
    packet(0x10, &[&string("MQTT"), &[4, 2, 0, 60], &string(client_id)])
}

/// SUBSCRIBE of 3.1.1.
pub(super) fn subscribe(filters: &[String], qos: QoS) -> Vec<u8> {
    let entries: Vec<u8> =
        filters.iter().flat_map(|filter| [string(filter), vec![qos as u8]].concat()).collect();
    packet(0x82, &[&[0, 1], &entries])
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with Success.
pub(super) fn ack(header: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [header, 2, high, low]
}
