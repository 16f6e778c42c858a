//! Packets that a server sends, read strictly.

use super::{Kind, Packet, Property, Received, Value, Version};

/// Cuts the first packet off `bytes`: `None` while it is incomplete, else the packet and its length.
///
/// # Errors
/// A text that says what is malformed.
pub fn decode(bytes: &[u8], version: Version) -> Result<Option<(Packet, usize)>, String> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let mut head = Reader(&bytes[1..]);
    let Some(remaining) = head.varint_or_more()? else { return Ok(None) };
    let start = bytes.len() - head.0.len();
    let end = start + remaining as usize;
    if bytes.len() < end {
        return Ok(None);
    }
    let packet = body(first, Reader(&bytes[start..end]), version)?;
    Ok(Some((packet, end)))
}

fn body(first: u8, mut r: Reader<'_>, version: Version) -> Result<Packet, String> {
    let v5 = version == Version::V5;
    let flags = first & 0x0F;
    let kind = first >> 4;
    if kind != 3 && flags != if kind == 6 { 2 } else { 0 } {
        return Err(format!("flags {flags:#x} in a packet of type {kind}"));
    }
    let packet = match kind {
        2 => connack(&mut r, v5)?,
        3 => Packet::Publish(publish(flags, &mut r, v5)?),
        4 => ack(Kind::Puback, &mut r, v5)?,
        5 => ack(Kind::Pubrec, &mut r, v5)?,
        6 => ack(Kind::Pubrel, &mut r, v5)?,
        7 => ack(Kind::Pubcomp, &mut r, v5)?,
        9 => {
            let (id, props) = (r.two()?, r.props(v5)?);
            Packet::Suback { id, codes: r.rest(), props }
        }
        11 => {
            let (id, props) = (r.two()?, r.props(v5)?);
            Packet::Unsuback { id, codes: if v5 { r.rest() } else { Vec::new() }, props }
        }
        13 => Packet::Pingresp,
        14 | 15 if v5 => {
            let code = if r.0.is_empty() { 0 } else { r.byte()? };
            let props = r.props(!r.0.is_empty())?;
            if kind == 14 {
                Packet::Disconnect { code, props }
            } else {
                Packet::Auth { code, props }
            }
        }
        _ => return Err(format!("a server does not send type {kind} in this version")),
    };
    if r.0.is_empty() { Ok(packet) } else { Err(format!("{} bytes too many", r.0.len())) }
}

fn connack(r: &mut Reader<'_>, v5: bool) -> Result<Packet, String> {
    let flags = r.byte()?;
    if flags > 1 {
        return Err(format!("CONNACK flags {flags:#x}"));
    }
    let code = r.byte()?;
    // To a client whose version is unknown a server may answer in the form of 3.1.1.
    let props = r.props(v5 && !r.0.is_empty())?;
    Ok(Packet::Connack { session_present: flags == 1, code, props })
}

fn publish(flags: u8, r: &mut Reader<'_>, v5: bool) -> Result<Received, String> {
    let qos = flags >> 1 & 3;
    if qos == 3 || (qos == 0 && flags & 8 != 0) {
        return Err(format!("PUBLISH flags {flags:#x}"));
    }
    let topic = r.text()?;
    let id = if qos > 0 { r.two()? } else { 0 };
    if qos > 0 && id == 0 {
        return Err("Packet Identifier 0".into());
    }
    let props = r.props(v5)?;
    let payload = r.rest();
    Ok(Received { topic, payload, qos, dup: flags & 8 != 0, retain: flags & 1 != 0, id, props })
}

fn ack(kind: Kind, r: &mut Reader<'_>, v5: bool) -> Result<Packet, String> {
    let id = r.two()?;
    let code = if v5 && !r.0.is_empty() { r.byte()? } else { 0 };
    let props = r.props(v5 && !r.0.is_empty())?;
    Ok(Packet::Ack { kind, id, code, props })
}

/// Reads fields off the front of bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> Result<Vec<u8>, String> {
        if self.0.len() < n {
            return Err(format!("{n} bytes wanted, {} left", self.0.len()));
        }
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head.to_vec())
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn two(&mut self) -> Result<u16, String> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    fn four(&mut self) -> Result<u32, String> {
        let b = self.take(4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub(super) fn text(&mut self) -> Result<String, String> {
        let n = self.two()?.into();
        String::from_utf8(self.take(n)?).map_err(|e| e.to_string())
    }

    fn varint_or_more(&mut self) -> Result<Option<u32>, String> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let Some((&b, rest)) = self.0.split_first() else { return Ok(None) };
            self.0 = rest;
            value |= u32::from(b & 0x7F) << shift;
            if b & 0x80 == 0 {
                return if b == 0 && shift > 0 {
                    Err("a Variable Byte Integer that is not minimal".into())
                } else {
                    Ok(Some(value))
                };
            }
        }
        Err("a Variable Byte Integer of more than four bytes".into())
    }

    pub(super) fn varint(&mut self) -> Result<u32, String> {
        self.varint_or_more()?.ok_or_else(|| "a Variable Byte Integer that ends early".into())
    }

    pub(super) fn props(&mut self, present: bool) -> Result<Vec<Property>, String> {
        if !present {
            return Ok(Vec::new());
        }
        let n = self.varint()? as usize;
        let bytes = self.take(n)?;
        let mut r = Reader(&bytes);
        let mut props: Vec<Property> = Vec::new();
        while !r.0.is_empty() {
            let id = r.byte()?;
            let value = r.value(id)?;
            let repeatable = matches!(id, 0x0B | 0x26);
            if !repeatable && props.iter().any(|p| p.0 == id) {
                return Err(format!("property {id:#04x} twice"));
            }
            props.push(Property(id, value));
        }
        Ok(props)
    }

    fn value(&mut self, id: u8) -> Result<Value, String> {
        Ok(match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Value::Byte(self.byte()?),
            0x02 | 0x11 | 0x18 | 0x27 => Value::Four(self.four()?),
            0x13 | 0x21 | 0x22 | 0x23 => Value::Two(self.two()?),
            0x0B => Value::Var(self.varint()?),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Value::Text(self.text()?),
            0x09 | 0x16 => {
                let n = self.two()?.into();
                Value::Binary(self.take(n)?)
            }
            0x26 => Value::Pair(self.text()?, self.text()?),
            _ => return Err(format!("unknown property {id:#04x}")),
        })
    }
}
