//! CONNECT (section 3.1), in the three versions.

use std::num::{NonZeroU16, NonZeroU32};

use super::reader::Reader;
use crate::error::Fault;
use crate::packet::frame::{RESERVED_FLAGS, flags_are_allowed};
use crate::packet::properties::{Place, Section, Value, id, message_properties};
use crate::packet::{Connect, ConnectWill, ProtocolVersion, QoS};

/// Why the first packet is not a CONNECT that can be answered with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// The protocol name is right but the level is one this Server does not speak: the level as
    /// sent.
    UnsupportedLevel(u8),
    /// The CONNECT is bad; `version` is known once name and level were read, so that a peer of MQTT
    /// 5 can be told by CONNACK.
    Bad { version: Option<ProtocolVersion>, fault: Fault },
}

/// Set in the protocol level by a bridge, as mosquitto does in 3.1 and 3.1.1. The standards do not know it; MQTT
/// 5 has Subscription Options for the same.
pub(crate) const BRIDGE_BIT: u8 = 0b1000_0000;

const WILL_FLAG: u8 = 0b0000_0100;
const WILL_QOS_AND_RETAIN: u8 = 0b0011_1000;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD_FLAG: u8 = 0b0100_0000;
const USER_NAME_FLAG: u8 = 0b1000_0000;

/// Reads the first packet of a Network Connection: `header` and `body` are those of a whole frame.
///
/// # Errors
/// [`ConnectError`]; anything but a CONNECT is bad, without a version (MQTT-3.1.0-1).
pub(crate) fn decode_connect(header: u8, body: &[u8]) -> Result<Connect<'_>, ConnectError> {
    let unknown = |fault| ConnectError::Bad { version: None, fault };
    if header >> 4 != 1 {
        return Err(unknown(Fault::Protocol("MQTT-3.1.0-1: the first packet is not a CONNECT")));
    }
    let mut reader = Reader::new(body);
    let name = reader.binary().map_err(unknown)?;
    let level = reader.byte().map_err(unknown)?;
    const BRIDGE_V3_1: u8 = BRIDGE_BIT | 3;
    const BRIDGE_V3_1_1: u8 = BRIDGE_BIT | 4;
    let version = match (name, level) {
        (b"MQTT", 5) => ProtocolVersion::V5,
        (b"MQTT", 4 | BRIDGE_V3_1_1) => ProtocolVersion::V3_1_1,
        (b"MQIsdp", 3 | BRIDGE_V3_1) => ProtocolVersion::V3_1,
        // MQTT-3.1.2-2.
        (b"MQTT" | b"MQIsdp", level) => return Err(ConnectError::UnsupportedLevel(level)),
        _ => return Err(unknown(Fault::Protocol("MQTT-3.1.2-1: an unknown protocol name"))),
    };
    let flags = if flags_are_allowed(version, header) { Ok(()) } else { Err(RESERVED_FLAGS) };
    flags
        .and_then(|()| after_level(version, reader))
        .map(|connect| Connect { bridge: level & BRIDGE_BIT != 0, ..connect })
        .map_err(|fault| ConnectError::Bad { version: Some(version), fault })
}

fn after_level(version: ProtocolVersion, mut reader: Reader<'_>) -> Result<Connect<'_>, Fault> {
    let flags = reader.byte()?;
    check_flags(version, flags)?;
    let keep_alive = reader.two_bytes()?;
    let mut connect = Connect {
        version,
        bridge: false,
        clean_start: flags & 0b0000_0010 != 0,
        keep_alive,
        client_id: "",
        will: None,
        user_name: None,
        password: None,
        session_expiry_secs: 0,
        receive_maximum: NonZeroU16::MAX,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_response_information: false,
        request_problem_information: true,
        authentication_method: None,
        authentication_data: None,
    };
    if version.is_v5() {
        read_properties(&mut reader, &mut connect)?;
    } else if !connect.clean_start {
        connect.session_expiry_secs = u32::MAX;
    }
    // The order of the payload is MQTT-3.1.3-1, its presence MQTT-3.1.2-9, -16 to -19,
    // MQTT-3.1.3-3.
    connect.client_id = reader.string()?;
    if flags & WILL_FLAG != 0 {
        connect.will = Some(read_will(&mut reader, version, flags)?);
    }
    // In 3.1 the Remaining Length takes precedence over the two flags: a CONNECT that ends here is
    // valid.
    let may_be_missing = version == ProtocolVersion::V3_1;
    if flags & USER_NAME_FLAG != 0 && !(may_be_missing && reader.is_empty()) {
        connect.user_name = Some(reader.string()?);
    }
    if flags & PASSWORD_FLAG != 0 && !(may_be_missing && reader.is_empty()) {
        connect.password = Some(reader.binary()?);
    }
    reader.finish()?;
    Ok(connect)
}

fn check_flags(version: ProtocolVersion, flags: u8) -> Result<(), Fault> {
    // In 3.1 the bit is not used.
    if flags & 0b0000_0001 != 0 && version != ProtocolVersion::V3_1 {
        return Err(Fault::Malformed("MQTT-3.1.2-3: the reserved flag of a CONNECT is set"));
    }
    if flags & WILL_FLAG == 0 {
        // 3.1 disregards them; in 3.1.1 MQTT-3.1.2-11, -13, -15.
        if flags & WILL_QOS_AND_RETAIN != 0 && version != ProtocolVersion::V3_1 {
            return Err(if flags & WILL_RETAIN == 0 {
                Fault::Malformed("MQTT-3.1.2-11: Will QoS without a Will")
            } else {
                Fault::Malformed("MQTT-3.1.2-13: Will Retain without a Will")
            });
        }
    } else if will_qos(flags).is_none() {
        // In 3.1.1 MQTT-3.1.2-14.
        return Err(Fault::Malformed("MQTT-3.1.2-12: Will QoS 3"));
    }
    // MQTT 5 took this rule back.
    if !version.is_v5() && flags & (USER_NAME_FLAG | PASSWORD_FLAG) == PASSWORD_FLAG {
        return Err(Fault::Malformed("MQTT-3.1.2-22: a password without a user name"));
    }
    Ok(())
}

fn will_qos(flags: u8) -> Option<QoS> {
    QoS::from_bits((flags >> 3) & 0b11)
}

/// Section 3.1.2.11. What may stand there and how often is checked by [`Section`].
fn read_properties<'a>(reader: &mut Reader<'a>, connect: &mut Connect<'a>) -> Result<(), Fault> {
    let mut section = Section::open(reader, Place::Connect)?;
    while let Some(property) = section.next()? {
        match property {
            (id::SESSION_EXPIRY_INTERVAL, Value::FourBytes(secs)) => {
                connect.session_expiry_secs = secs;
            }
            (id::RECEIVE_MAXIMUM, Value::TwoBytes(value)) => {
                connect.receive_maximum = NonZeroU16::new(value)
                    .ok_or(Fault::Protocol("section 3.1.2.11.3: Receive Maximum 0"))?;
            }
            (id::MAXIMUM_PACKET_SIZE, Value::FourBytes(value)) => {
                connect.maximum_packet_size = Some(
                    NonZeroU32::new(value)
                        .ok_or(Fault::Protocol("section 3.1.2.11.4: Maximum Packet Size 0"))?,
                );
            }
            (id::TOPIC_ALIAS_MAXIMUM, Value::TwoBytes(value)) => {
                connect.topic_alias_maximum = value;
            }
            (id::REQUEST_RESPONSE_INFORMATION, Value::Flag(value)) => {
                connect.request_response_information = value;
            }
            (id::REQUEST_PROBLEM_INFORMATION, Value::Flag(value)) => {
                connect.request_problem_information = value;
            }
            (id::AUTHENTICATION_METHOD, Value::Text(method)) => {
                connect.authentication_method = Some(method);
            }
            (id::AUTHENTICATION_DATA, Value::Binary(data)) => {
                connect.authentication_data = Some(data);
            }
            _ => {}
        }
    }
    if connect.authentication_data.is_some() && connect.authentication_method.is_none() {
        return Err(Fault::Protocol(
            "section 3.1.2.11.10: Authentication Data without Authentication Method",
        ));
    }
    Ok(())
}

/// Will Properties, Will Topic and Will Payload (sections 3.1.3.2 to 3.1.3.4).
fn read_will<'a>(
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
    flags: u8,
) -> Result<ConnectWill<'a>, Fault> {
    let found =
        if version.is_v5() { message_properties(reader, Place::Will)? } else { Default::default() };
    // MQTT-3.1.3-11; in 3.1.1 MQTT-3.1.3-10.
    let topic = reader.topic_name(Fault::Protocol("MQTT-4.7.0-1: a wildcard in the Will Topic"))?;
    if topic.is_empty() {
        return Err(Fault::Malformed("MQTT-4.7.3-1: an empty Will Topic"));
    }
    Ok(ConnectWill {
        topic,
        payload: reader.binary()?,
        qos: will_qos(flags).unwrap_or_default(),
        retain: flags & WILL_RETAIN != 0,
        delay_secs: found.delay_secs,
        properties: found.properties,
    })
}

#[cfg(test)]
mod tests;
