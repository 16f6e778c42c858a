//! Packets out of a read buffer, and into a batch.

use std::hint::black_box;

use super::Operation;
use super::packets::{TOPIC, ack, connect, packet, publish, string, subscribe};
use crate::packet::decode::{decode, decode_connect};
use crate::packet::encode::{self, AckKind, ConnAck, PublishHead};
use crate::packet::frame::{Frame, next_frame};
use crate::packet::{FromClient, PacketId, ProtocolVersion, QoS, ReasonCode};

use ProtocolVersion::{V3_1_1, V5};

const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const PAYLOADS: [usize; 3] = [16, 64, 16 * 1024];
const BATCH: usize = 256;

pub(super) fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for (version, name) in [(V3_1_1, "3.1.1"), (V5, "5")] {
        for qos in ALL_QOS {
            for payload in PAYLOADS {
                let name = format!("publish-qos{}/{name}/{payload}", qos as u8);
                all.push(decode_publish(&name, version, qos, payload));
                all.push(encode_publish(&name, version, qos, payload));
            }
        }
        all.push(decode_batch(&format!("publish-batch-of-{BATCH}/{name}/64"), version));
    }
    all.extend(decode_others());
    all.extend(encode_others());
    all
}

fn empty_section(version: ProtocolVersion) -> &'static [u8] {
    if version == V5 { &[0] } else { &[] }
}

/// How large what was decoded is: a number that shows that it was read.
fn measure(version: ProtocolVersion, bytes: &[u8]) -> usize {
    let mut rest = black_box(bytes);
    let mut sum = 0;
    while let Ok(Frame::Whole { header, body, taken }) = next_frame(rest, u32::MAX) {
        sum += match decode(version, header, body) {
            Ok(FromClient::Publish(publish)) => publish.payload.len(),
            Ok(FromClient::Subscribe(subscribe)) => subscribe.filters.count(),
            Ok(FromClient::PubAck(ack) | FromClient::PubRel(ack)) => ack.packet_id.get().into(),
            _ => 0,
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    sum
}

fn decoding(name: &str, version: ProtocolVersion, bytes: Vec<u8>, sum: usize) -> Operation {
    Operation::new("decode", name, 1, sum, move || {
        let bytes = bytes.clone();
        move || measure(version, &bytes)
    })
}

fn decode_publish(name: &str, version: ProtocolVersion, qos: QoS, payload: usize) -> Operation {
    let bytes = publish(qos, TOPIC, 7, empty_section(version), payload);
    decoding(name, version, bytes, payload)
}

fn decode_batch(name: &str, version: ProtocolVersion) -> Operation {
    let bytes = publish(QoS::AtMostOnce, TOPIC, 0, empty_section(version), 64).repeat(BATCH);
    Operation::new("decode", name, BATCH as u64, BATCH * 64, move || {
        let bytes = bytes.clone();
        move || measure(version, &bytes)
    })
}

fn decode_others() -> Vec<Operation> {
    // Topic Alias 3; and all that is forwarded beside an expiry and an alias.
    let alias = publish(QoS::AtMostOnce, "", 0, &[3, 0x23, 0, 3], 64);
    let properties = [
        vec![1, 1, 2, 0, 0, 0, 60, 3],
        string("text/plain"),
        vec![8],
        string("answers/7"),
        vec![9],
        string("correlation"),
        vec![0x26],
        string("from"),
        string("hall"),
        vec![0x23, 0, 3],
    ]
    .concat();
    let length = u8::try_from(properties.len()).unwrap_or_default();
    let section = [vec![length], properties].concat();
    let rich = publish(QoS::AtLeastOnce, TOPIC, 7, &section, 64);
    let filters: Vec<String> = (0..8).map(|number| format!("plant/line-{number}/+/#")).collect();
    vec![
        decoding("publish-alias/5/64", V5, alias, 64),
        decoding("publish-properties/5/64", V5, rich, 64),
        decoding("subscribe-1/3.1.1", V3_1_1, subscribe(&filters[..1], QoS::AtLeastOnce), 1),
        decoding("subscribe-8/3.1.1", V3_1_1, subscribe(&filters, QoS::AtLeastOnce), 8),
        decoding("puback/3.1.1", V3_1_1, ack(0x40, 7).to_vec(), 7),
        decoding("puback/5", V5, ack(0x40, 7).to_vec(), 7),
        decoding("puback-reason/5", V5, vec![0x40, 3, 0, 7, 0x80], 7),
        decoding("pubrel/3.1.1", V3_1_1, ack(0x62, 7).to_vec(), 7),
        decode_connect_of("connect/3.1.1", connect("client-0000001")),
        decode_connect_of("connect-will-and-properties/5", connect_with_everything()),
    ]
}

/// CONNECT of MQTT 5 with properties, Will, user name and password.
fn connect_with_everything() -> Vec<u8> {
    packet(
        0x10,
        &[
            &string("MQTT"),
            &[5, 0b1100_0110, 0, 60],
            &[13, 0x11, 0, 0, 1, 0, 0x21, 0, 100, 0x22, 0, 10, 0x17, 0],
            &string("client-0000001"),
            &[5, 0x18, 0, 0, 0, 30],
            &string(TOPIC),
            &string("gone"),
            &string("user"),
            &string("password"),
        ],
    )
}

fn decode_connect_of(name: &str, bytes: Vec<u8>) -> Operation {
    Operation::new("decode", name, 1, "client-0000001".len(), move || {
        let bytes = bytes.clone();
        move || {
            let Ok(Frame::Whole { header, body, .. }) = next_frame(black_box(&bytes), u32::MAX)
            else {
                return 0;
            };
            decode_connect(header, body).map_or(0, |connect| black_box(connect).client_id.len())
        }
    })
}

fn encode_publish(name: &str, version: ProtocolVersion, qos: QoS, payload: usize) -> Operation {
    let size = publish(qos, TOPIC, 7, empty_section(version), payload).len();
    Operation::new("encode", name, 1, size, move || {
        let head = PublishHead {
            version,
            dup: false,
            qos,
            retain: false,
            topic: TOPIC.as_bytes(),
            packet_id: PacketId::new(7).filter(|_| qos != QoS::AtMostOnce),
            topic_alias: None,
            expiry_secs: None,
            subscription_ids: &[],
            forwarded: &[],
            payload_len: payload,
        };
        let content = vec![b'x'; payload];
        encoding(move |out| {
            encode::publish_head(out, black_box(&head));
            out.extend_from_slice(black_box(&content));
        })
    })
}

fn encode_others() -> Vec<Operation> {
    let ack = |name: &str, version, kind| {
        Operation::new("encode", name, 1, 4, move || {
            encoding(move |out| {
                if let Some(id) = PacketId::new(black_box(7)) {
                    encode::ack(out, version, kind, id, ReasonCode::SUCCESS);
                }
            })
        })
    };
    let suback = Operation::new("encode", "suback-8/5", 1, 13, || {
        encoding(|out| {
            if let Some(id) = PacketId::new(black_box(7)) {
                encode::suback(out, V5, id, &[ReasonCode::SUCCESS; 8]);
            }
        })
    });
    let connack = |name: &str, version, size| {
        Operation::new("encode", name, 1, size, move || {
            encoding(move |out| {
                let ack = ConnAck { topic_alias_maximum: 10, ..ConnAck::default() };
                encode::connack(out, version, black_box(&ack), None);
            })
        })
    };
    vec![
        ack("puback/3.1.1", V3_1_1, AckKind::PubAck),
        ack("puback/5", V5, AckKind::PubAck),
        ack("pubrec/3.1.1", V3_1_1, AckKind::PubRec),
        ack("pubrel/3.1.1", V3_1_1, AckKind::PubRel),
        ack("pubcomp/3.1.1", V3_1_1, AckKind::PubComp),
        suback,
        connack("connack/3.1.1", V3_1_1, 4),
        connack("connack/5", V5, 8),
    ]
}

/// Appends to a buffer that is kept, and says how much that was.
fn encoding(append: impl Fn(&mut Vec<u8>)) -> impl FnMut() -> usize {
    let mut out = Vec::new();
    move || {
        out.clear();
        append(&mut out);
        black_box(&out).len()
    }
}
