//! A small broker for the tests of the loads: all that they need, and faults on demand.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::codec::{Frame, frame};
use crate::target::{Target, Transport};

/// What it does wrong. Zero is never.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Faults {
    /// Answers nothing at all.
    pub(super) silent: bool,
    /// Answers every so many CONNECT with code 5.
    pub(super) refuse_connect_every: usize,
    /// Closes every so many connections as soon as it has answered CONNECT.
    pub(super) hang_up_every: usize,
    /// Does not answer SUBSCRIBE or UNSUBSCRIBE.
    pub(super) deaf_to_subscribe: bool,
    /// Does not answer PINGREQ.
    pub(super) deaf_to_ping: bool,
    /// Does not answer UNSUBSCRIBE.
    pub(super) deaf_to_unsubscribe: bool,
    /// Answers SUBSCRIBE with 0x80.
    pub(super) refuse_subscribe: bool,
    /// Does not deliver every so many messages.
    pub(super) lose_every: usize,
    /// Delivers everything twice.
    pub(super) twice: bool,
    /// Ignores DISCONNECT.
    pub(super) keep_open: bool,
}

#[derive(Default)]
struct State {
    faults: Faults,
    connects: usize,
    deliveries: usize,
    subscriptions: Vec<(String, usize)>,
    retained: BTreeMap<String, Vec<u8>>,
    streams: HashMap<usize, TcpStream>,
}

/// Starts one on a thread of this process. Its CPU is that of this process, which is seldom at
/// rest while tests run; so it is left unmeasured here, and [`measured`] is for tests of figures.
pub(super) fn rehearse(faults: Faults) -> Target {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::new(Mutex::new(State { faults, ..State::default() }));
    thread::spawn(move || {
        for (token, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let _ = attend(token, &stream, &state);
                let mut state = state.lock().unwrap();
                state.streams.remove(&token);
                state.subscriptions.retain(|&(_, subscriber)| subscriber != token);
            });
        }
    });
    Target::at(Transport::Tcp, address)
}

/// The same broker with the CPU and memory of this process.
pub(super) fn measured(target: Target) -> Target {
    Target { pid: Some(std::process::id()), ..target }
}

/// A front for `target` that speaks TLS, and the target that it is.
pub(super) fn secured(target: Target, config: &Arc<ServerConfig>) -> Target {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::clone(config);
    thread::spawn(move || {
        for front in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let back = TcpStream::connect(target.address).unwrap();
            // When one side goes, so does the other.
            thread::spawn(move || relay(StreamOwned::new(connection, front), &back));
        }
    });
    Target { transport: Transport::Tls, address, ..target }
}

/// Takes turns: what one has to say within a millisecond goes to the other.
fn relay(
    mut front: StreamOwned<ServerConnection, TcpStream>,
    mut back: &TcpStream,
) -> io::Result<()> {
    let turn = Some(Duration::from_millis(1));
    for stream in [&front.sock, back] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(turn)?;
    }
    let mut chunk = [0; 4096];
    loop {
        if let Some(read) = within_its_turn(front.read(&mut chunk))? {
            back.write_all(&chunk[..read])?;
        }
        if let Some(read) = within_its_turn(back.read(&mut chunk))? {
            front.write_all(&chunk[..read])?;
        }
    }
}

fn within_its_turn(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn attend(token: usize, mut stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    state.lock().unwrap().streams.insert(token, stream.try_clone()?);
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        bytes.extend(&chunk[..read]);
        let mut used = 0;
        while let Some(Frame { head, body, len }) = frame(&bytes[used..])? {
            state.lock().unwrap().take(token, head, body)?;
            used += len;
        }
        bytes.drain(..used);
    }
}

impl State {
    fn take(&mut self, from: usize, head: u8, body: &[u8]) -> io::Result<()> {
        let faults = self.faults;
        if faults.silent {
            return Ok(());
        }
        match head >> 4 {
            1 => {
                self.connects += 1;
                let refused = is_nth(self.connects, faults.refuse_connect_every);
                self.write(from, &[0x20, 2, 0, if refused { 5 } else { 0 }])?;
                if is_nth(self.connects, faults.hang_up_every) {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Ok(())
            }
            8 | 10 if faults.deaf_to_subscribe => Ok(()),
            10 if faults.deaf_to_unsubscribe => Ok(()),
            8 => {
                let filter = text(&body[2..]).to_owned();
                let code = if faults.refuse_subscribe { 0x80 } else { 0 };
                self.write(from, &[0x90, 3, body[0], body[1], code])?;
                for (topic, payload) in &self.retained {
                    if fits(&filter, topic) {
                        self.write(from, &publish(0x31, topic, payload))?;
                    }
                }
                self.subscriptions.push((filter, from));
                Ok(())
            }
            10 => {
                let filter = text(&body[2..]);
                self.subscriptions.retain(|(other, token)| other != filter || *token != from);
                self.write(from, &[0xb0, 2, body[0], body[1]])
            }
            3 => self.publish(head, body),
            12 if faults.deaf_to_ping => Ok(()),
            12 => self.write(from, &[0xd0, 0]),
            14 if !faults.keep_open => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, head: u8, body: &[u8]) -> io::Result<()> {
        let topic = text(body);
        let payload = &body[2 + topic.len()..];
        if head & 1 == 1 {
            self.retained.insert(topic.to_owned(), payload.to_vec());
            if payload.is_empty() {
                self.retained.remove(topic);
            }
        }
        let copies = if self.faults.twice { 2 } else { 1 };
        for (filter, token) in &self.subscriptions {
            if fits(filter, topic) {
                self.deliveries += 1;
                if !is_nth(self.deliveries, self.faults.lose_every) {
                    self.write(*token, &publish(0x30, topic, payload).repeat(copies))?;
                }
            }
        }
        Ok(())
    }

    fn write(&self, to: usize, bytes: &[u8]) -> io::Result<()> {
        // Who is gone hears nothing.
        self.streams.get(&to).map_or(Ok(()), |mut stream| stream.write_all(bytes))
    }
}

fn is_nth(count: usize, every: usize) -> bool {
    every > 0 && count.is_multiple_of(every)
}

fn text(bytes: &[u8]) -> &str {
    let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    std::str::from_utf8(&bytes[2..2 + len]).unwrap()
}

/// With less than 128 bytes in all.
fn publish(head: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(2 + topic.len() + payload.len()).unwrap();
    let mut out = vec![head, len, 0, u8::try_from(topic.len()).unwrap()];
    out.extend(topic.as_bytes());
    out.extend(payload);
    out
}

pub(super) fn fits(filter: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, other) if other == Some(level) => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}
