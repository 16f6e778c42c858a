//! The smallest relay there can be, in this process: it speaks both versions and all QoS, hands
//! on every PUBLISH to all subscribers whose filter fits, and does wrong what a test asks for.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::codec::{self, Stamp, put_ack, put_packet};
use crate::target::{Target, Transport};

/// What the relay does with the message that has this number; all others it hands on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    None,
    Drop(u32),
    /// Delivers it twice, as two messages.
    Repeat(u32),
    /// Delivers it twice, the second time with DUP and the same Packet Identifier.
    Redeliver(u32),
    /// Holds it back until the next one of its publisher has gone.
    Delay(u32),
    /// This one and all later ones vanish.
    DropFrom(u32),
    /// The publisher gets no PUBACK or PUBREC for it.
    NoFirstAck(u32),
    /// The publisher gets no PUBCOMP for it.
    NoPubComp(u32),
    /// The publisher is told that it was refused; it is handed on all the same.
    Refuse(u32),
    /// The publisher gets its PUBACK or PUBREC twice.
    AckTwice(u32),
    /// The subscribers never get the PUBREL of the first message.
    NoPubRel,
    /// PUBACK comes for this many messages together, the last first; more may not be on the way.
    InGroupsOf(u16),
}

#[derive(Default)]
struct Hub {
    subscribers: Vec<Subscriber>,
    held: Option<(String, Vec<u8>)>,
    /// Packets that clients sent, by type.
    seen: HashMap<u8, u64>,
    broken: Vec<String>,
}

struct Subscriber {
    filter: String,
    stream: TcpStream,
    qos: u8,
    is_modern: bool,
    last_id: u16,
}

/// A relay that listens.
pub(super) struct Relay {
    pub(super) target: Target,
    fault: Fault,
    hub: Arc<Mutex<Hub>>,
    clients: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Relay {
    pub(super) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target::at(Transport::Tcp, address);
        let (hub, clients) = <(Arc<Mutex<Hub>>, Arc<Mutex<Vec<JoinHandle<()>>>>)>::default();
        let relay = Self { target, fault, hub: hub.clone(), clients: clients.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, hub) = (stream.unwrap(), hub.clone());
                stream.set_nodelay(true).unwrap();
                let client = thread::spawn(move || Client::new(stream, hub, fault).serve());
                clients.lock().unwrap().push(client);
            }
        });
        relay
    }

    /// Waits until all clients have gone; how many packets of which type they sent.
    pub(super) fn finish(self) -> HashMap<u8, u64> {
        for client in std::mem::take(&mut *self.clients.lock().unwrap()) {
            client.join().unwrap();
        }
        let hub = self.hub.lock().unwrap();
        assert_eq!(hub.broken, Vec::<String>::new(), "{:?}", self.fault);
        hub.seen.clone()
    }
}

struct Client {
    stream: TcpStream,
    hub: Arc<Mutex<Hub>>,
    fault: Fault,
    is_modern: bool,
    /// Acknowledgements that wait for their group, and the one that gets no PUBCOMP.
    group: Vec<u16>,
    uncompleted: Option<u16>,
    pubrel_withheld: bool,
}

impl Client {
    fn new(stream: TcpStream, hub: Arc<Mutex<Hub>>, fault: Fault) -> Self {
        let (group, is_modern) = (Vec::new(), false);
        Self { stream, hub, fault, is_modern, group, uncompleted: None, pubrel_withheld: false }
    }

    fn serve(&mut self) {
        while let Some((head, body)) = self.next_packet() {
            *self.hub.lock().unwrap().seen.entry(head >> 4).or_default() += 1;
            let mut answer = Vec::new();
            match head >> 4 {
                1 => answer = self.connack(&body),
                8 => answer = self.subscribe(&body),
                3 => self.publish(head >> 1 & 3, &body, &mut answer),
                5 if self.fault == Fault::NoPubRel && !self.pubrel_withheld => {
                    self.pubrel_withheld = true;
                }
                5 => put_ack(&mut answer, codec::PUBREL, id(&body)),
                6 if self.uncompleted == Some(id(&body)) => {}
                6 => put_ack(&mut answer, codec::PUBCOMP, id(&body)),
                4 | 7 => {}
                _ => return,
            }
            // Others write to this stream too, under the same lock. A client that has gone wants
            // no answer.
            let _hub = self.hub.lock().unwrap();
            let _ = self.stream.write_all(&answer);
        }
    }

    fn next_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        assert!(head[1] < 128, "every packet of these tests is short");
        let mut body = vec![0; usize::from(head[1])];
        self.stream.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }

    fn connack(&mut self, body: &[u8]) -> Vec<u8> {
        self.is_modern = body[6] == 5;
        match (self.is_modern, self.fault) {
            (true, Fault::InGroupsOf(size)) => {
                let [high, low] = size.to_be_bytes();
                vec![0x20, 6, 0, 0, 3, 0x21, high, low]
            }
            (true, _) => vec![0x20, 3, 0, 0, 0],
            (false, _) => vec![0x20, 2, 0, 0],
        }
    }

    fn subscribe(&mut self, body: &[u8]) -> Vec<u8> {
        let filter = text(&body[2 + usize::from(self.is_modern)..]);
        let (stream, is_modern) = (self.stream.try_clone().unwrap(), self.is_modern);
        let qos = *body.last().unwrap();
        let subscriber = Subscriber { filter, stream, qos, is_modern, last_id: 0 };
        self.hub.lock().unwrap().subscribers.push(subscriber);
        let mut answer = Vec::new();
        let properties: &[u8] = if is_modern { &[0] } else { &[] };
        put_packet(&mut answer, 0x90, &[&body[..2], properties, &[qos]].concat());
        answer
    }

    fn publish(&mut self, qos: u8, body: &[u8], answer: &mut Vec<u8>) {
        let topic = text(body);
        let id_at = 2 + topic.len();
        let skip = if qos > 0 { 2 } else { 0 } + usize::from(self.is_modern);
        let payload = body[id_at + skip..].to_vec();
        let number = Stamp::read(&payload).unwrap().sequence;
        if qos > 0 {
            self.acknowledge(qos, id(&body[id_at..]), number, answer);
        }
        self.hub.lock().unwrap().relay(self.fault, topic, number, payload);
    }

    fn acknowledge(&mut self, qos: u8, id: u16, number: u32, answer: &mut Vec<u8>) {
        let head = if qos == 1 { codec::PUBACK } else { codec::PUBREC };
        match self.fault {
            Fault::NoFirstAck(without) if without == number => {}
            Fault::Refuse(refused) if refused == number => {
                put_packet(answer, head, &[&id.to_be_bytes()[..], &[0x97]].concat());
            }
            Fault::AckTwice(twice) if twice == number => {
                put_ack(answer, head, id);
                put_ack(answer, head, id);
            }
            Fault::InGroupsOf(size) => {
                self.group.push(id);
                if self.group.len() == usize::from(size) {
                    self.expect_nothing_more();
                    self.group.drain(..).rev().for_each(|id| put_ack(answer, head, id));
                }
            }
            _ => put_ack(answer, head, id),
        }
        if self.fault == Fault::NoPubComp(number) {
            self.uncompleted = Some(id);
        }
    }

    fn expect_nothing_more(&self) {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]).map_err(|error| error.kind());
        self.stream.set_nonblocking(false).unwrap();
        if peeked != Err(ErrorKind::WouldBlock) && peeked != Ok(0) {
            let text = format!("more than the Receive Maximum: {peeked:?}");
            self.hub.lock().unwrap().broken.push(text);
        }
    }
}

impl Hub {
    fn relay(&mut self, fault: Fault, topic: String, number: u32, payload: Vec<u8>) {
        match fault {
            Fault::Drop(dropped) if dropped == number => {}
            Fault::DropFrom(first) if number >= first => {}
            Fault::Delay(late) if late == number => self.held = Some((topic, payload)),
            Fault::Repeat(twice) if twice == number => {
                self.deliver(&topic, &payload, false);
                self.deliver(&topic, &payload, false);
            }
            Fault::Redeliver(twice) if twice == number => self.deliver(&topic, &payload, true),
            _ => {
                self.deliver(&topic, &payload, false);
                if let Some((topic, payload)) = self.held.take() {
                    self.deliver(&topic, &payload, false);
                }
            }
        }
    }

    fn deliver(&mut self, topic: &str, payload: &[u8], again: bool) {
        for subscriber in &mut self.subscribers {
            if !fits(&subscriber.filter, topic) {
                continue;
            }
            let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
            body.extend(topic.as_bytes());
            if subscriber.qos > 0 {
                subscriber.last_id = subscriber.last_id.checked_add(1).unwrap_or(1);
                body.extend(subscriber.last_id.to_be_bytes());
            }
            if subscriber.is_modern {
                body.push(0);
            }
            body.extend(payload);
            let mut packets = Vec::new();
            put_packet(&mut packets, 0x30 | subscriber.qos << 1, &body);
            if again {
                put_packet(&mut packets, 0x38 | subscriber.qos << 1, &body);
            }
            // A subscriber that has gone wants nothing more.
            let _ = subscriber.stream.write_all(&packets);
        }
    }
}

fn id(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

fn text(bytes: &[u8]) -> String {
    let len = usize::from(id(bytes));
    String::from_utf8(bytes[2..2 + len].to_vec()).unwrap()
}

fn fits(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    let fit = filter.split('/').all(|wanted| match levels.next() {
        Some(level) => wanted == "+" || wanted == "#" || wanted == level,
        None => wanted == "#",
    });
    fit && (levels.next().is_none() || filter.ends_with('#'))
}

/// A front for `target` that speaks WebSocket: it cuts what the broker says into small fragments,
/// with pings between them.
pub(super) fn over_websocket(target: Target) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (front, back) = (stream.unwrap(), TcpStream::connect(target.address).unwrap());
            front.set_nodelay(true).unwrap();
            back.set_nodelay(true).unwrap();
            let (front_copy, back_copy) = (front.try_clone().unwrap(), back.try_clone().unwrap());
            thread::spawn(move || to_broker(front_copy, back_copy));
            thread::spawn(move || from_broker(back, front));
        }
    });
    Target { transport: Transport::Ws, address, ..target }
}

fn to_broker(mut front: TcpStream, mut back: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        front.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    front
        .write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
              Sec-WebSocket-Protocol: mqtt\r\n\r\n",
        )
        .unwrap();
    while let Some((opcode, payload)) = client_frame(&mut front) {
        if opcode == 8 || opcode == 2 && back.write_all(&payload).is_err() {
            break;
        }
    }
    let _ = back.shutdown(Shutdown::Both);
}

/// The next frame, unmasked.
fn client_frame(front: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    front.read_exact(&mut head).ok()?;
    assert_eq!((head[0] & 0xf0, head[1] & 0x80), (0x80, 0x80), "whole and masked");
    let mut long = [0; 8];
    let len = match head[1] & 0x7f {
        126 => {
            front.read_exact(&mut long[6..]).ok()?;
            u64::from_be_bytes(long)
        }
        127 => {
            front.read_exact(&mut long).ok()?;
            u64::from_be_bytes(long)
        }
        len => u64::from(len),
    };
    let mut key = [0; 4];
    front.read_exact(&mut key).ok()?;
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    front.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Some((head[0] & 0x0f, payload))
}

fn from_broker(mut back: TcpStream, mut front: TcpStream) {
    let mut buffer = [0; 100];
    while let Ok(read @ 1..) = back.read(&mut buffer) {
        let (one, two) = buffer[..read].split_at(read / 3);
        let mut frames = Vec::new();
        for (first, part) in [(0x02, one), (0x89, b"are you there"), (0x80, two)] {
            frames.extend([first, u8::try_from(part.len()).unwrap()]);
            frames.extend(part);
        }
        if front.write_all(&frames).is_err() {
            break;
        }
    }
    let _ = front.shutdown(Shutdown::Both);
}
