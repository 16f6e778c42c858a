//! Packets that a client sends, well formed unless a case asks otherwise.

use super::{Property, Value, Version};

/// A whole packet: first byte, Remaining Length, body.
#[must_use]
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend(varint(u32::try_from(body.len()).unwrap_or(u32::MAX)));
    out.extend_from_slice(body);
    out
}

/// A Variable Byte Integer.
#[must_use]
pub fn varint(mut n: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (n % 128).to_le_bytes()[0];
        n /= 128;
        out.push(if n > 0 { low | 0x80 } else { low });
        if n == 0 {
            return out;
        }
    }
}

/// A length and the bytes: a UTF-8 Encoded String or Binary Data.
#[must_use]
pub fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn property(out: &mut Vec<u8>, Property(id, value): &Property) {
    out.push(*id);
    match value {
        Value::Byte(n) => out.push(*n),
        Value::Two(n) => out.extend(n.to_be_bytes()),
        Value::Four(n) => out.extend(n.to_be_bytes()),
        Value::Var(n) => out.extend(varint(*n)),
        Value::Text(t) => out.extend(text(t)),
        Value::Binary(b) => out.extend(text(b)),
        Value::Pair(name, value) => {
            out.extend(text(name));
            out.extend(text(value));
        }
    }
}

fn properties(out: &mut Vec<u8>, version: Version, props: &[Property]) {
    if version < Version::V5 {
        return;
    }
    let mut body = Vec::new();
    for p in props {
        property(&mut body, p);
    }
    out.extend(varint(u32::try_from(body.len()).unwrap_or(u32::MAX)));
    out.extend(body);
}

/// A Will Message.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub props: Vec<Property>,
}

impl Will {
    /// QoS 0, not retained.
    #[must_use]
    pub fn new(topic: &str, payload: &str) -> Will {
        Will {
            topic: topic.into(),
            payload: payload.into(),
            qos: 0,
            retain: false,
            props: Vec::new(),
        }
    }

    /// Sets the Will QoS.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Will {
        self.qos = qos;
        self
    }

    /// Sets Will Retain.
    #[must_use]
    pub fn retain(mut self) -> Will {
        self.retain = true;
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn prop(mut self, p: Property) -> Will {
        self.props.push(p);
        self
    }
}

/// The parts of a CONNECT packet.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub will: Option<Will>,
    pub user: Option<String>,
    pub password: Option<Vec<u8>>,
    pub props: Vec<Property>,
}

impl Connect {
    /// Clean, without keep alive, Will, credentials.
    #[must_use]
    pub fn new(version: Version, client_id: &str) -> Connect {
        Connect {
            version,
            client_id: client_id.into(),
            clean: true,
            keep_alive: 0,
            will: None,
            user: None,
            password: None,
            props: Vec::new(),
        }
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.password.is_some()) << 6 | u8::from(self.user.is_some()) << 7;
        let name = if self.version == Version::V31 { "MQIsdp" } else { "MQTT" };
        let mut body = text(name);
        body.extend([self.version as u8, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        properties(&mut body, self.version, &self.props);
        body.extend(text(&self.client_id));
        if let Some(will) = &self.will {
            properties(&mut body, self.version, &will.props);
            body.extend(text(&will.topic));
            body.extend(text(&will.payload));
        }
        if let Some(user) = &self.user {
            body.extend(text(user));
        }
        if let Some(password) = &self.password {
            body.extend(text(password));
        }
        packet(0x10, &body)
    }
}

/// The parts of a PUBLISH packet.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// 0: the client picks the next free one
    pub id: u16,
    pub props: Vec<Property>,
}

impl Publish {
    /// QoS 0, not retained.
    #[must_use]
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Publish {
        Publish {
            topic: topic.into(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            retain: false,
            dup: false,
            id: 0,
            props: Vec::new(),
        }
    }

    /// Sets the QoS.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Publish {
        self.qos = qos;
        self
    }

    /// Sets RETAIN.
    #[must_use]
    pub fn retain(mut self) -> Publish {
        self.retain = true;
        self
    }

    /// Sets DUP.
    #[must_use]
    pub fn dup(mut self) -> Publish {
        self.dup = true;
        self
    }

    /// Sets the Packet Identifier.
    #[must_use]
    pub fn id(mut self, id: u16) -> Publish {
        self.id = id;
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn prop(mut self, p: Property) -> Publish {
        self.props.push(p);
        self
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = text(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        properties(&mut body, version, &self.props);
        body.extend(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

/// The parts of a SUBSCRIBE packet: filters with their option bytes, and properties.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Subscribe {
    pub filters: Vec<(String, u8)>,
    pub props: Vec<Property>,
}

impl Subscribe {
    /// One filter at this QoS.
    #[must_use]
    pub fn to(filter: &str, qos: u8) -> Subscribe {
        Subscribe::default().and(filter, qos)
    }

    /// One more filter.
    #[must_use]
    pub fn and(mut self, filter: &str, options: u8) -> Subscribe {
        self.filters.push((filter.into(), options));
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn prop(mut self, p: Property) -> Subscribe {
        self.props.push(p);
        self
    }

    fn option(mut self, bits: u8) -> Subscribe {
        if let Some(last) = self.filters.last_mut() {
            last.1 |= bits;
        }
        self
    }

    /// No Local for the last filter.
    #[must_use]
    pub fn no_local(self) -> Subscribe {
        self.option(0x04)
    }

    /// Retain As Published for the last filter.
    #[must_use]
    pub fn retain_as_published(self) -> Subscribe {
        self.option(0x08)
    }

    /// Retain Handling for the last filter.
    #[must_use]
    pub fn retain_handling(self, n: u8) -> Subscribe {
        self.option(n << 4)
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self, version: Version, id: u16) -> Vec<u8> {
        let mut body = id.to_be_bytes().to_vec();
        properties(&mut body, version, &self.props);
        for (filter, options) in &self.filters {
            body.extend(text(filter));
            body.push(*options);
        }
        packet(0x82, &body)
    }
}

/// An UNSUBSCRIBE packet.
#[must_use]
pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    properties(&mut body, version, &[]);
    for filter in filters {
        body.extend(text(filter));
    }
    packet(0xA2, &body)
}

/// A PUBREL packet.
#[must_use]
pub fn pubrel(id: u16) -> Vec<u8> {
    packet(0x62, &id.to_be_bytes())
}
