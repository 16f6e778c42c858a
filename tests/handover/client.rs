//! A client of MQTT 5 with a Session that survives its Network Connection, over TCP or WebSocket, blocking.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::process::PATIENCE;

/// A packet: the first byte, and what follows the Remaining Length.
pub(crate) type Packet = (u8, Vec<u8>);

/// A Network Connection.
pub(crate) struct Wire {
    stream: TcpStream,
    is_ws: bool,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) fn open(address: SocketAddr, is_ws: bool) -> io::Result<Wire> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut wire = Wire { stream, is_ws, read: Vec::new() };
        if is_ws {
            wire.upgrade()?;
        }
        Ok(wire)
    }

    fn upgrade(&mut self) -> io::Result<()> {
        self.stream.write_all(
            b"GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
              Sec-WebSocket-Protocol: mqtt\r\n\r\n",
        )?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        if answer.starts_with(b"HTTP/1.1 101") {
            Ok(())
        } else {
            Err(ErrorKind::InvalidData.into())
        }
    }

    /// Polls for at most this long in [`Wire::packet`].
    pub(crate) fn patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    pub(crate) fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        if !self.is_ws {
            return self.stream.write_all(packet);
        }
        let mut frame = vec![0x82];
        match u16::try_from(packet.len()) {
            Ok(len) if len < 126 => frame.push(0x80 | u8::try_from(len).unwrap()),
            Ok(len) => {
                frame.push(0x80 | 126);
                frame.extend(len.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend((packet.len() as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]); // a mask that changes nothing
        frame.extend(packet);
        self.stream.write_all(&frame)
    }

    /// More bytes of MQTT.
    fn fill(&mut self) -> io::Result<()> {
        if self.is_ws {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head)?;
            let len = match head[1] & 127 {
                126 => {
                    let mut len = [0; 2];
                    self.stream.read_exact(&mut len)?;
                    usize::from(u16::from_be_bytes(len))
                }
                127 => {
                    let mut len = [0; 8];
                    self.stream.read_exact(&mut len)?;
                    usize::try_from(u64::from_be_bytes(len)).unwrap()
                }
                len => usize::from(len),
            };
            let mut payload = vec![0; len];
            self.stream.read_exact(&mut payload)?;
            if head[0] & 15 == 8 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.read.extend(payload);
            return Ok(());
        }
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                self.read.extend(&bytes[..read]);
                Ok(())
            }
        }
    }

    /// The next packet.
    pub(crate) fn packet(&mut self) -> io::Result<Packet> {
        loop {
            if let Some((head, len)) = whole(&self.read) {
                let body = self.read[head..head + len].to_vec();
                let first = self.read[0];
                self.read.drain(..head + len);
                return Ok((first, body));
            }
            self.fill()?;
        }
    }
}

/// The length of the fixed header and of the rest, if all is there.
fn whole(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0_usize;
    for (index, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        len |= usize::from(byte & 127) << (7 * index);
        if byte & 128 == 0 {
            let head = index + 2;
            return (bytes.len() >= head + len).then_some((head, len));
        }
    }
    None
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut len = body.len();
    loop {
        let byte = u8::try_from(len & 127).unwrap();
        len >>= 7;
        packet.push(if len > 0 { byte | 128 } else { byte });
        if len == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// CONNECT with Clean Start 0 and a Session that lasts an hour.
pub(crate) fn connect(id: &str) -> Vec<u8> {
    let mut body = [text("MQTT"), vec![5, 0, 0, 0, 5, 0x11, 0, 0, 14, 16]].concat();
    body.extend(text(id));
    packet(0x10, &body)
}

pub(crate) fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    packet(0x82, &[vec![0, 1, 0], text(filter), vec![qos]].concat())
}

pub(crate) fn publish(topic: &str, payload: &[u8], qos: u8, id: u16, dup: bool) -> Vec<u8> {
    let mut body = text(topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.push(0);
    body.extend(payload);
    packet(0x30 | qos << 1 | u8::from(dup) << 3, &body)
}

pub(crate) fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

pub(crate) fn id_of(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// The topic, Packet Identifier and payload of a PUBLISH without long properties.
pub(crate) fn read_publish((first, body): &Packet) -> (String, u16, Vec<u8>) {
    let len = usize::from(id_of(body));
    let topic = String::from_utf8(body[2..2 + len].to_vec()).unwrap();
    let mut rest = &body[2 + len..];
    let mut id = 0;
    if first & 6 != 0 {
        id = id_of(rest);
        rest = &rest[2..];
    }
    let properties = usize::from(rest[0]);
    (topic, id, rest[1 + properties..].to_vec())
}

/// A client that connects again whenever it has to, with what the standard has it remember.
pub(crate) struct Client {
    address: SocketAddr,
    is_ws: bool,
    id: String,
    wire: Option<Wire>,
    /// Whether it has had a Session.
    known: bool,
    /// QoS 2 messages from the Server that are not released.
    unreleased: HashSet<u16>,
    /// How often the Server said that it shuts down.
    pub(crate) told_to_go: usize,
    /// Connects that the operating system refused.
    pub(crate) refused: usize,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, is_ws: bool, id: &str) -> Client {
        Client {
            address,
            is_ws,
            id: id.to_owned(),
            wire: None,
            known: false,
            unreleased: HashSet::new(),
            told_to_go: 0,
            refused: 0,
        }
    }

    /// The Network Connection, made if there is none; and whether it is new. A Session that was lost is a failure.
    pub(crate) fn wire(&mut self) -> (&mut Wire, bool) {
        let fresh = self.wire.is_none();
        let until = Instant::now() + PATIENCE;
        while self.wire.is_none() {
            let dialled = Wire::open(self.address, self.is_ws).and_then(|mut wire| {
                wire.send(&connect(&self.id))?;
                let connack = wire.packet()?;
                Ok((wire, connack))
            });
            match dialled {
                Ok((wire, (0x20, body))) if body[1] == 0 => {
                    let present = body[0] == 1;
                    assert!(present || !self.known, "{}: the Session is lost", self.id);
                    self.known = true;
                    self.wire = Some(wire);
                }
                other => {
                    let refused = |error: &io::Error| error.kind() == ErrorKind::ConnectionRefused;
                    self.refused += usize::from(other.as_ref().is_err_and(refused));
                    assert!(Instant::now() < until, "{} is not let in", self.id);
                    std::thread::park_timeout(Duration::from_millis(2));
                }
            }
        }
        (self.wire.as_mut().unwrap(), fresh)
    }

    pub(crate) fn send(&mut self, packet: &[u8]) {
        let (wire, _) = self.wire();
        if wire.send(packet).is_err() {
            self.wire = None;
        }
    }

    /// The next packet; `None` after the end of the Network Connection, or when nothing comes within the patience.
    pub(crate) fn packet(&mut self, patience: Duration) -> Option<Packet> {
        let (wire, _) = self.wire();
        let received = wire.patience(patience).and_then(|()| wire.packet());
        match received {
            Ok((0xE0, body)) => {
                self.told_to_go += usize::from(body.first() == Some(&0x8B));
                self.wire = None;
                None
            }
            Ok(packet) => Some(packet),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(_) => {
                self.wire = None;
                None
            }
        }
    }

    /// The next message that is new, acknowledged; `None` if something else came.
    pub(crate) fn message(&mut self, patience: Duration) -> Option<(String, Vec<u8>)> {
        let packet = self.packet(patience)?;
        match packet.0 >> 4 {
            3 => {
                let (topic, id, payload) = read_publish(&packet);
                match packet.0 >> 1 & 3 {
                    0 => {}
                    1 => self.send(&ack(0x40, id)),
                    _ => {
                        let new = self.unreleased.insert(id);
                        self.send(&ack(0x50, id));
                        if !new {
                            return None;
                        }
                    }
                }
                Some((topic, payload))
            }
            6 => {
                let id = id_of(&packet.1);
                self.unreleased.remove(&id);
                self.send(&ack(0x70, id));
                None
            }
            _ => None,
        }
    }

    /// Closes the Network Connection as if the network had failed.
    pub(crate) fn hang_up(&mut self) {
        self.wire = None;
    }
}
