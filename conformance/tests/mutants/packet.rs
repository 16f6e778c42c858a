//! A packet as bytes, with handles for tampering.

use hrotti_conformance::codec::{
    Packet, Property, Publish, Value, Version, decode, packet, text, varint,
};

/// First byte and body of a packet; or bytes that are none, which are passed on as they are.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
    verbatim: bool,
}

/// The 16 bits at `at`; 0 where there are none.
fn two(bytes: &[u8], at: usize) -> usize {
    let half = |i: usize| usize::from(bytes.get(i).copied().unwrap_or(0));
    half(at) << 8 | half(at + 1)
}

/// A Variable Byte Integer and its length: `None` where it does not end.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

impl Raw {
    pub(crate) fn new(first: u8, body: Vec<u8>) -> Raw {
        Raw { first, body, verbatim: false }
    }

    /// What stands for the end of a stream.
    pub(crate) fn end() -> Raw {
        Raw { first: 0, body: Vec::new(), verbatim: true }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.verbatim && self.body.is_empty()
    }

    /// Takes the first whole packet out of `bytes`.
    pub(crate) fn cut(bytes: &mut Vec<u8>) -> Option<Raw> {
        let (&first, rest) = bytes.split_first()?;
        let Some((len, width)) = length(rest) else {
            let nonsense = rest.len() >= 4;
            return nonsense.then(|| Raw { first: 0, body: std::mem::take(bytes), verbatim: true });
        };
        let start = 1 + width;
        let body = bytes.get(start..start + len)?.to_vec();
        bytes.drain(..start + len);
        Some(Raw { first, body, verbatim: false })
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        if self.verbatim { self.body.clone() } else { packet(self.first, &self.body) }
    }

    /// The packet type: section 2.1.2.
    pub(crate) fn kind(&self) -> u8 {
        if self.verbatim { 0 } else { self.first >> 4 }
    }

    pub(crate) fn qos(&self) -> u8 {
        self.first >> 1 & 3
    }

    /// The Packet Identifier of a packet that begins with it.
    pub(crate) fn id(&self) -> usize {
        two(&self.body, 0)
    }

    pub(crate) fn set_id(&mut self, id: usize) {
        if let (Some(head), Ok(id)) = (self.body.get_mut(..2), u16::try_from(id)) {
            head.copy_from_slice(&id.to_be_bytes());
        }
    }

    /// The last byte: the last Reason Code of SUBACK and UNSUBACK, the options of the last filter.
    pub(crate) fn last(&mut self) -> Option<&mut u8> {
        self.body.last_mut()
    }

    /// A PUBLISH in its parts.
    pub(crate) fn publish(&self, v5: bool) -> Option<Publish> {
        let version = if v5 { Version::V5 } else { Version::V311 };
        match decode(&self.bytes(), version) {
            Ok(Some((Packet::Publish(p), _))) => Some(Publish {
                topic: p.topic,
                payload: p.payload,
                qos: p.qos,
                retain: p.retain,
                dup: p.dup,
                id: p.id,
                props: p.props,
            }),
            _ => None,
        }
    }

    /// The packet again, from its parts.
    pub(crate) fn from_publish(publish: &Publish, v5: bool) -> Raw {
        let version = if v5 { Version::V5 } else { Version::V311 };
        Raw::cut(&mut publish.encode(version)).unwrap_or_else(Raw::end)
    }

    fn level_at(&self) -> usize {
        2 + two(&self.body, 0)
    }

    /// The protocol level of a CONNECT.
    pub(crate) fn level(&self) -> u8 {
        self.body.get(self.level_at()).copied().unwrap_or(0)
    }

    /// The Connect Flags.
    pub(crate) fn flags(&mut self) -> Option<&mut u8> {
        let at = self.level_at() + 1;
        self.body.get_mut(at)
    }

    pub(crate) fn no_keep_alive(&mut self) {
        let at = self.level_at() + 2;
        if let Some(seconds) = self.body.get_mut(at..at + 2) {
            seconds.fill(0);
        }
    }

    /// Changes the properties of a CONNECT of 5.0.
    pub(crate) fn connect_props(&mut self, edit: impl FnOnce(&mut Vec<Property>)) {
        if self.level() == 5 {
            self.props_at(self.level_at() + 4, edit);
        }
    }

    /// Changes the properties of the Will in a CONNECT of 5.0.
    pub(crate) fn will_props(&mut self, edit: impl FnOnce(&mut Vec<Property>)) {
        if self.level() != 5 || self.flags().is_none_or(|flags| *flags & 4 == 0) {
            return;
        }
        let props = self.level_at() + 4;
        let Some((len, width)) = length(&self.body[props..]) else { return };
        let id = props + width + len;
        self.props_at(id + 2 + two(&self.body, id), edit);
    }

    /// Changes the properties of a CONNACK of 5.0.
    pub(crate) fn connack_props(&mut self, edit: impl FnOnce(&mut Vec<Property>)) {
        self.props_at(2, edit);
    }

    fn props_at(&mut self, at: usize, edit: impl FnOnce(&mut Vec<Property>)) {
        let Some((len, width)) = self.body.get(at..).and_then(length) else { return };
        let Some(old) = self.body.get(at..at + width + len) else { return };
        // An empty topic and these properties are a PUBLISH.
        let mut as_publish = vec![0, 0];
        as_publish.extend_from_slice(old);
        let Some(mut publish) = Raw::new(0x30, as_publish).publish(true) else { return };
        edit(&mut publish.props);
        let new = Raw::from_publish(&publish, true).body;
        self.body.splice(at..at + width + len, new[2..].iter().copied());
    }

    /// The filters of a SUBSCRIBE with their options.
    pub(crate) fn edit_filters(&mut self, v5: bool, mut edit: impl FnMut(&mut String, &mut u8)) {
        let mut at = 2;
        if v5 && let Some((len, width)) = self.body.get(2..).and_then(length) {
            at += width + len;
        }
        let mut body = self.body[..at].to_vec();
        let mut rest = &self.body[at..];
        while rest.len() > 2 {
            let end = 2 + two(rest, 0);
            let Some(filter) = rest.get(2..end).and_then(|f| std::str::from_utf8(f).ok()) else {
                return;
            };
            let Some(mut options) = rest.get(end).copied() else { return };
            let mut filter = filter.to_owned();
            edit(&mut filter, &mut options);
            body.extend(text(&filter));
            body.push(options);
            rest = &rest[end + 1..];
        }
        self.body = body;
    }

    /// The filters of an UNSUBSCRIBE, each replaced by one that nobody has.
    pub(crate) fn spoil_filters(&mut self, v5: bool) {
        let mut body = self.body[..2].to_vec();
        if v5 {
            body.extend(varint(0));
        }
        body.extend(text("nobody/has/this"));
        self.body = body;
    }
}

/// The number in the first property with this identifier.
pub(crate) fn number(props: &mut [Property], id: u8) -> Option<&mut Value> {
    props.iter_mut().find(|p| p.0 == id).map(|p| &mut p.1)
}
