//! MQTT by raw bytes, for peers that do what no client would.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use hrotti::{Broker, Limits};

use crate::peer::{DEADLINE, Peer, block_on, listen};

/// A broker with these limits, and where it listens.
pub(crate) fn limited(limits: Limits) -> (Broker, String) {
    let broker = Broker::builder().limits(limits).build();
    let endpoint = listen(&broker, "l");
    (broker, endpoint)
}

/// The Remaining Length as a Variable Byte Integer.
pub(crate) fn varint(mut len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (len % 128) as u8;
        len /= 128;
        bytes.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            return bytes;
        }
    }
}

/// A packet of whatever body.
pub(crate) fn packet(header: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![header];
    packet.extend(varint(body.len()));
    packet.extend(body);
    packet
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.bytes());
    bytes
}

/// CONNECT as a test wants it.
#[derive(Clone)]
pub(crate) struct Connect<'a> {
    pub(crate) version: u8,
    pub(crate) id: &'a str,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    /// Of MQTT 5, encoded.
    pub(crate) props: Vec<u8>,
    /// Topic Name and payload, at QoS 0.
    pub(crate) will: Option<(&'a str, &'a str)>,
    /// Will Delay Interval in seconds, of MQTT 5.
    pub(crate) will_delay: u8,
}

impl<'a> Connect<'a> {
    pub(crate) fn new(version: u8, id: &'a str) -> Connect<'a> {
        let props = Vec::new();
        Connect { version, id, clean: true, keep_alive: 0, props, will: None, will_delay: 0 }
    }

    /// Clean Start 0 and a Session that outlives the connection.
    pub(crate) fn persistent(mut self) -> Connect<'a> {
        self.clean = false;
        if self.version == 5 {
            self.props.extend([0x11, 0xFF, 0xFF, 0xFF, 0xFF]);
        }
        self
    }

    pub(crate) fn props(mut self, props: &[u8]) -> Connect<'a> {
        self.props.extend(props);
        self
    }

    pub(crate) fn will_delayed(
        mut self,
        topic: &'a str,
        payload: &'a str,
        secs: u8,
    ) -> Connect<'a> {
        self.will = Some((topic, payload));
        self.will_delay = secs;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut body = text(if self.version == 3 { "MQIsdp" } else { "MQTT" });
        body.push(self.version);
        body.push(u8::from(self.clean) << 1 | u8::from(self.will.is_some()) << 2);
        body.extend(self.keep_alive.to_be_bytes());
        if self.version == 5 {
            body.extend(varint(self.props.len()));
            body.extend(&self.props);
        }
        body.extend(text(self.id));
        if let Some((topic, payload)) = self.will {
            if self.version == 5 {
                body.extend([5, 0x18, 0, 0, 0, self.will_delay]);
            }
            body.extend(text(topic));
            body.extend(text(payload));
        }
        packet(0x10, &body)
    }

    /// Sends it and returns the peer with its CONNACK.
    pub(crate) fn send(&self, endpoint: &str) -> (Peer, Vec<u8>) {
        let mut peer = Peer::dial(endpoint);
        peer.send(&self.bytes());
        let connack = peer.packet();
        assert_eq!(connack[0], 0x20, "CONNACK");
        (peer, connack)
    }

    /// As [`Connect::send`], and it is accepted.
    pub(crate) fn accepted(&self, endpoint: &str) -> Peer {
        let (peer, connack) = self.send(endpoint);
        assert_eq!(connack[3], 0, "accepted: {connack:x?}");
        peer
    }
}

/// SUBSCRIBE with Packet Identifier 1.
pub(crate) fn subscribe(version: u8, filter: &str, options: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == 5 {
        body.push(0);
    }
    body.extend(text(filter));
    body.push(options);
    packet(0x82, &body)
}

/// PUBLISH; `id` counts from QoS 1 on.
pub(crate) fn publish(version: u8, topic: &str, payload: &[u8], qos: u8, id: u16) -> Vec<u8> {
    publish_with(version, topic, payload, qos, id, &[])
}

/// As [`publish`], with properties.
pub(crate) fn publish_with(
    version: u8,
    topic: &str,
    payload: &[u8],
    qos: u8,
    id: u16,
    props: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    if version == 5 {
        body.extend(varint(props.len()));
        body.extend(props);
    }
    body.extend(payload);
    packet(0x30 | qos << 1, &body)
}

impl Peer {
    /// What comes until the server closes.
    pub(crate) fn until_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return rest,
                Ok(read) => rest.extend(&buffer[..read]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return rest,
                Err(e) => panic!("the server closes: {e}"),
            }
        }
    }

    /// DISCONNECT of MQTT 5 with this code is the last that comes.
    pub(crate) fn expect_disconnect(&mut self, reason: u8) {
        let last = self.until_closed();
        assert!(last.len() >= 3 && last[0] == 0xE0, "DISCONNECT: {last:x?}");
        assert_eq!(last[2], reason, "{last:x?}");
    }

    /// The server closes without a word.
    pub(crate) fn expect_silent_close(&mut self) {
        let rest = self.until_closed();
        assert!(rest.is_empty(), "{rest:x?}");
    }

    /// Whether the server has closed, as far as can be seen within `wait`.
    pub(crate) fn is_closed_within(&mut self, wait: Duration) -> bool {
        self.0.set_read_timeout(Some(wait)).unwrap();
        let read = self.0.read(&mut [0; 64]);
        self.0.set_read_timeout(Some(DEADLINE)).unwrap();
        match read {
            Ok(read) => read == 0,
            Err(e) => e.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// As [`Peer::ping`], with whatever comes before the answer.
    pub(crate) fn ping_through(&mut self) {
        self.send(&[0xC0, 0]);
        while self.packet() != [0xD0, 0] {}
    }

    /// Ends without DISCONNECT.
    pub(crate) fn vanish(self) {
        drop(self);
    }
}

/// Waits until `done`, for as long as a test may last.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let late = std::time::Instant::now() + DEADLINE;
    while !done() {
        assert!(std::time::Instant::now() < late, "not in time: {what}");
        block_on(async { async_io::Timer::after(Duration::from_millis(1)).await });
    }
}
