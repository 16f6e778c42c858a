//! The first packet of a Network Connection.

use super::codec::{check_fault, forwarded, packet_of};
use crate::error::Fault;
use crate::packet::decode::{BRIDGE_BIT, ConnectError, decode_connect};
use crate::packet::encode::variable_byte_integer;
use crate::packet::frame::{Frame, judge_first_bytes, next_frame};
use crate::packet::{Connect, ConnectWill, ProtocolVersion, PublishProperties};
use crate::topic;

/// So many bytes are judged one by one: behind the protocol name nothing is looked at.
const PREFIXES: usize = 24;

pub(super) fn connect(data: &[u8]) {
    let Some((&header, body)) = data.split_first() else { return };
    let packet = packet_of(header, body);
    match decode_connect(header, body) {
        Ok(connect) => check_connect(header, &connect),
        Err(ConnectError::UnsupportedLevel(level)) => {
            let version = body.get(..7) == Some(b"\0\x04MQTT\x04");
            assert!(!version, "MQTT-3.1.2-2: level {level}");
        }
        Err(ConnectError::Bad { fault, .. }) => return check_fault(fault),
    }
    for length in 0..=packet.len().min(PREFIXES) {
        assert_eq!(judge_first_bytes(&packet[..length]), Ok(()), "{length} bytes");
    }
}

fn check_connect(header: u8, connect: &Connect<'_>) {
    let v5 = connect.version.is_v5();
    assert!(connect.version == ProtocolVersion::V3_1 || header == 0x10, "MQTT-2.1.3-1");
    assert!(!connect.bridge || !v5);
    assert!(v5 || connect.password.is_none() || connect.user_name.is_some(), "MQTT-3.1.2-22");
    let texts = [connect.client_id, connect.user_name.unwrap_or_default()];
    assert!(texts.iter().all(|text| !text.contains('\0')), "MQTT-1.5.4-2");
    if let Some(will) = &connect.will {
        assert_eq!(topic::check_name(will.topic), Ok(()));
        assert!(v5 || will.delay_secs == 0);
    }
    if !v5 {
        let expiry = if connect.clean_start { 0 } else { u32::MAX };
        assert_eq!(connect.session_expiry_secs, expiry);
    }
    let again = body_of(connect);
    let again = decode_connect(0x10, &again).expect("what was read can be written and read");
    let plain = |connect: &Connect<'_>| format!("{:?}", Connect { will: None, ..connect.clone() });
    assert_eq!(plain(&again), plain(connect));
    assert_eq!(again.will.as_ref().map(parts), connect.will.as_ref().map(parts));
}

/// A Will without its properties, and those as they are forwarded.
fn parts<'a>(will: &ConnectWill<'a>) -> (ConnectWill<'a>, Vec<u8>, Option<u32>) {
    let properties = PublishProperties::default();
    let expiry = will.properties.expiry_secs();
    (ConnectWill { properties, ..will.clone() }, forwarded(&will.properties), expiry)
}

/// A CONNECT that says the same.
fn body_of(connect: &Connect<'_>) -> Vec<u8> {
    let (name, level) = match connect.version {
        ProtocolVersion::V3_1 => ("MQIsdp", 3),
        ProtocolVersion::V3_1_1 => ("MQTT", 4),
        ProtocolVersion::V5 => ("MQTT", 5),
    };
    let mut flags = u8::from(connect.clean_start) << 1;
    flags |= u8::from(connect.user_name.is_some()) << 7 | u8::from(connect.password.is_some()) << 6;
    if let Some(will) = &connect.will {
        flags |= 4 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    let mut body = Vec::new();
    binary(&mut body, name.as_bytes());
    body.extend([level | if connect.bridge { BRIDGE_BIT } else { 0 }, flags]);
    body.extend(connect.keep_alive.to_be_bytes());
    if connect.version.is_v5() {
        section(&mut body, &connect_properties(connect));
    }
    binary(&mut body, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        if connect.version.is_v5() {
            let mut properties = vec![0x18];
            properties.extend(will.delay_secs.to_be_bytes());
            if let Some(secs) = will.properties.expiry_secs() {
                properties.push(2);
                properties.extend(secs.to_be_bytes());
            }
            properties.extend(forwarded(&will.properties));
            section(&mut body, &properties);
        }
        binary(&mut body, will.topic.as_bytes());
        binary(&mut body, will.payload);
    }
    connect.user_name.iter().for_each(|name| binary(&mut body, name.as_bytes()));
    connect.password.iter().for_each(|password| binary(&mut body, password));
    body
}

fn connect_properties(connect: &Connect<'_>) -> Vec<u8> {
    let mut out = vec![0x11];
    out.extend(connect.session_expiry_secs.to_be_bytes());
    out.push(0x21);
    out.extend(connect.receive_maximum.get().to_be_bytes());
    if let Some(size) = connect.maximum_packet_size {
        out.push(0x27);
        out.extend(size.get().to_be_bytes());
    }
    out.push(0x22);
    out.extend(connect.topic_alias_maximum.to_be_bytes());
    out.extend([0x19, u8::from(connect.request_response_information)]);
    out.extend([0x17, u8::from(connect.request_problem_information)]);
    if let Some(method) = connect.authentication_method {
        out.push(0x15);
        binary(&mut out, method.as_bytes());
    }
    if let Some(data) = connect.authentication_data {
        out.push(0x16);
        binary(&mut out, data);
    }
    out
}

fn section(out: &mut Vec<u8>, properties: &[u8]) {
    variable_byte_integer(out, u32::try_from(properties.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(properties);
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn first_bytes(data: &[u8]) {
    let mut refused = false;
    for length in 0..=data.len().min(PREFIXES) {
        let judged = judge_first_bytes(&data[..length]);
        assert!(!refused || judged.is_err(), "{length} bytes take the refusal back");
        refused = judged.is_err();
        if let Err(fault) = judged {
            check_fault(fault);
        }
    }
    assert!(judge_first_bytes(data).is_err() == refused, "what follows is not looked at");
    if refused {
        return;
    }
    if let Ok(Frame::Whole { header, body, .. }) = next_frame(data, u32::MAX)
        && let Err(ConnectError::Bad { fault, version }) = decode_connect(header, body)
    {
        let unlike_connect = version.is_none() && matches!(fault, Fault::Protocol(_));
        assert!(!unlike_connect, "it was admitted, and then: {fault}");
    }
}
