//! One connection to the broker under test.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::codec::{self, Announced, Frame, Malformed, Packet, User, Version};
use crate::target::Target;
use crate::tls::{Client, Tls};
use crate::ws;

/// How long the broker may take for CONNACK or SUBACK.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// One read takes up to this many bytes.
const READ_BYTES: usize = 256 * 1024;
/// An unfinished packet longer than this keeps the buffer that it is in instead of being copied.
const COPIED_TAIL_MAX: usize = 16 * 1024;
/// More than this unsent is no load but a leak.
const UNSENT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One read while a link connects over TLS takes up to this many bytes.
const ANSWER_BYTES: usize = 16 * 1024;
/// What sessions of TLS are kept by where none are kept.
const NAME: &str = "broker.invalid";

/// The read buffer that all links share; each keeps only its unfinished tail.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    plain: Vec<u8>,
    /// For records of TLS; empty until the first is read.
    records: Vec<u8>,
}

impl ReadBuffer {
    pub(crate) fn new() -> Self {
        Self { plain: vec![0; READ_BYTES], records: Vec::new() }
    }
}

/// How a client connects: more than [`Link::open`] says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dial<'a> {
    target: &'a Target,
    client_id: &'a str,
    version: Version,
    user: Option<&'a User>,
    subscription: Option<(&'a str, u8)>,
}

impl<'a> Dial<'a> {
    /// With MQTT 3.1.1 and without a subscription, over the target's transport.
    pub(crate) fn new(target: &'a Target, client_id: &'a str) -> Self {
        Self { target, client_id, version: Version::V311, user: None, subscription: None }
    }

    /// Names itself.
    pub(crate) fn user(mut self, user: Option<&'a User>) -> Self {
        self.user = user;
        self
    }

    pub(crate) fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Subscribes as soon as it is connected.
    pub(crate) fn subscribe(mut self, filter: &'a str, qos: u8) -> Self {
        self.subscription = Some((filter, qos));
        self
    }

    /// Connects, blocking, and waits for CONNACK; with a filter also for SUBACK. Afterwards the
    /// link does not block.
    ///
    /// Over tcp nothing is read beyond the answers. Over WebSocket or TLS they may share a frame or
    /// a record with what comes next; the next [`Link::receive`] hands that out.
    ///
    /// # Errors
    ///
    /// When the broker refuses, does not answer within ten seconds, or answers something else.
    /// [`ErrorKind::Unsupported`] says that it works but does not grant the QoS.
    pub(crate) fn open(self) -> io::Result<Link> {
        let address = self.target.address;
        let stream = TcpStream::connect(address).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        let mut link = Link::new(stream, self.version);
        if self.target.transport.is_tls() {
            link.tls = Some(Box::new(Tls::new(&Client::forgetful(self.target.tls)?, NAME)?));
        }
        if self.target.transport.is_ws() {
            link.upgrade(self.target)?;
        }
        let keep_alive = codec::KEEP_ALIVE_SECS;
        link.send(&codec::connect_by(self.version, self.client_id, keep_alive, self.user))?;
        let connack = link.answer(2, "CONNECT")?;
        if self.version == Version::V5 {
            link.announced = Announced::read(&connack)?;
        }
        if let Some((filter, qos)) = self.subscription {
            link.send(&codec::subscribe_as(self.version, 1, filter, qos))?;
            let suback = link.answer(9, "SUBSCRIBE")?;
            let granted = suback.last().copied().unwrap_or(0);
            if granted != qos {
                let text = format!("the broker grants QoS {granted} instead of {qos}");
                return Err(io::Error::new(ErrorKind::Unsupported, text));
            }
        }
        link.stream.set_nonblocking(true)?;
        Ok(link)
    }
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    version: Version,
    announced: Announced,
    /// As they go to the kernel, from `unsent_from` on.
    unsent: Vec<u8>,
    unsent_from: usize,
    /// MQTT that came and is no whole packet yet.
    tail: Vec<u8>,
    /// The same where it is long: the first `large_len` bytes of a buffer of its own.
    large: Vec<u8>,
    large_len: usize,
    /// The tail holds whole packets that nobody has seen.
    unseen: bool,
    ws: Option<Box<Ws>>,
    tls: Option<Box<Tls>>,
}

/// What a link over WebSocket has in addition.
#[derive(Debug, Default)]
struct Ws {
    decoder: ws::Decoder,
    framed: Vec<u8>,
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Link {
    /// Connects with MQTT 3.1.1 and subscribes at QoS 0, see [`Dial::open`].
    ///
    /// # Errors
    ///
    /// When the broker refuses, does not answer within ten seconds, or answers something else.
    pub(crate) fn open(target: &Target, client_id: &str, filter: Option<&str>) -> io::Result<Self> {
        let dial = Dial::new(target, client_id);
        filter.map_or(dial, |filter| dial.subscribe(filter, 0)).open()
    }

    /// A link from the broker's side.
    pub(crate) fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self::new(stream, Version::V311))
    }

    /// A client over TLS on a socket that may still be connecting; its first [`Link::send`] begins
    /// the handshake.
    pub(crate) fn over_tls(stream: TcpStream, client: &Client, name: &str) -> io::Result<Self> {
        let mut link = Self::accepted(stream)?;
        link.tls = Some(Box::new(Tls::new(client, name)?));
        Ok(link)
    }

    fn new(stream: TcpStream, version: Version) -> Self {
        Self {
            stream,
            version,
            announced: Announced::default(),
            unsent: Vec::new(),
            unsent_from: 0,
            tail: Vec::new(),
            large: Vec::new(),
            large_len: 0,
            unseen: false,
            ws: None,
            tls: None,
        }
    }

    /// Its TLS, if it has any.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }

    /// What the broker said of itself.
    pub(crate) fn announced(&self) -> Announced {
        self.announced
    }

    /// Whether the broker has not closed the connection.
    pub(crate) fn is_open(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(read) => read > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Whether all that was sent is with the kernel.
    #[inline]
    pub(crate) fn is_flushed(&self) -> bool {
        self.unsent.is_empty() && self.tls.as_ref().is_none_or(|tls| tls.is_flushed())
    }

    /// Writes what the kernel takes and keeps the rest for [`Link::flush`]. Over WebSocket these
    /// bytes become one frame.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(ws) = &mut self.ws else { return self.send_plain(bytes) };
        let mut framed = mem::take(&mut ws.framed);
        framed.clear();
        ws::put_binary(&mut framed, bytes);
        let sent = self.send_plain(&framed);
        if let Some(ws) = &mut self.ws {
            ws.framed = framed;
        }
        sent
    }

    /// Frames, or what needs none: encrypted, if there is TLS.
    fn send_plain(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.tls.is_none() {
            return self.send_raw(bytes);
        }
        let waits = !self.unsent.is_empty();
        self.make_room(bytes.len())?;
        if let Some(tls) = &mut self.tls {
            tls.send(bytes, &mut self.unsent)?;
        }
        if waits { Ok(()) } else { self.flush() }
    }

    fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        if self.unsent.is_empty() {
            written = write_some(&self.stream, bytes)?;
        }
        self.make_room(bytes.len() - written)?;
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Forgets what the kernel has, before `more` bytes join what it has not.
    fn make_room(&mut self, more: usize) -> io::Result<()> {
        if self.unsent_from > self.unsent.len() / 2 {
            self.unsent.drain(..mem::take(&mut self.unsent_from));
        }
        if self.unsent.len() + more > UNSENT_BYTES_MAX {
            return Err(io::Error::other("the broker does not take what it is sent"));
        }
        Ok(())
    }

    /// Writes what is left, as far as the kernel takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent_from += write_some(&self.stream, &self.unsent[self.unsent_from..])?;
            if self.unsent_from == self.unsent.len() {
                self.unsent.clear();
                self.unsent_from = 0;
            }
        }
        Ok(())
    }

    /// Reads all that is there and hands out the whole packets.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut ReadBuffer,
        mut each: impl FnMut(Packet<'_>),
    ) -> io::Result<()> {
        let version = self.version;
        self.receive_bytes(buffer, |bytes| each_packet(version, bytes, &mut each))
    }

    /// Reads all that is there, hands out the whole packets, and sends what `each` puts into
    /// `answers`, one write for each read.
    pub(crate) fn converse(
        &mut self,
        buffer: &mut ReadBuffer,
        answers: &mut Vec<u8>,
        mut each: impl FnMut(Packet<'_>, &mut Vec<u8>),
    ) -> io::Result<()> {
        let version = self.version;
        loop {
            let more = self.receive_once(buffer, |bytes| {
                each_packet(version, bytes, |packet| each(packet, answers))
            })?;
            if !answers.is_empty() {
                let sent = self.send(answers);
                answers.clear();
                sent?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Reads all that is there; `take` says how much of it was whole packets.
    #[inline]
    pub(crate) fn receive_bytes(
        &mut self,
        buffer: &mut ReadBuffer,
        mut take: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while self.receive_once(buffer, &mut take)? {}
        Ok(())
    }

    /// Reads once and says whether there may be more.
    ///
    /// A read that leaves room in the buffer has emptied the socket: the edge-triggered poll will
    /// report what comes later, so there is no second read for EAGAIN.
    #[inline]
    fn receive_once(
        &mut self,
        buffer: &mut ReadBuffer,
        mut take: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        let kept = self.put_back(buffer);
        if mem::take(&mut self.unseen) {
            let used = take(&buffer.plain[..kept])?;
            self.keep(buffer, used, kept);
            return Ok(true);
        }
        let came = match self.tls {
            Some(_) => self.read_records(buffer, kept),
            None => self.read_bytes(buffer, kept),
        };
        let (mut plain, is_full) = match came {
            Ok(came) => came,
            Err(error) => {
                self.keep(buffer, 0, kept);
                return match error.kind() {
                    ErrorKind::WouldBlock => Ok(false),
                    ErrorKind::Interrupted => Ok(true),
                    _ => Err(error),
                };
            }
        };
        if let Some(ws) = &mut self.ws {
            plain = ws.decoder.unframe(&mut buffer.plain[kept..kept + plain])?;
            let pongs = mem::take(&mut ws.decoder.pongs);
            if !pongs.is_empty() {
                self.send_plain(&pongs)?;
            }
        }
        let used = take(&buffer.plain[..kept + plain])?;
        self.keep(buffer, used, kept + plain);
        Ok(is_full)
    }

    /// Reads once behind the first `kept` bytes: how much came, and whether it filled the buffer.
    #[inline]
    fn read_bytes(&self, buffer: &mut ReadBuffer, kept: usize) -> io::Result<(usize, bool)> {
        let room = &mut buffer.plain[kept..];
        match (&self.stream).read(room)? {
            0 => Err(closed()),
            read => Ok((read, read == room.len())),
        }
    }

    /// The same with records, decrypted; what they have to be answered is sent.
    fn read_records(&mut self, buffer: &mut ReadBuffer, kept: usize) -> io::Result<(usize, bool)> {
        let Some(tls) = &mut self.tls else { return Ok((0, false)) };
        buffer.records.resize(READ_BYTES, 0);
        let room = &mut buffer.plain[kept..];
        // Decrypted it is shorter.
        let most = room.len().min(READ_BYTES);
        let have = tls.put_back(&mut buffer.records);
        let read = (&self.stream).read(&mut buffer.records[have..most])?;
        if read == 0 {
            return Err(closed());
        }
        let waits = !self.unsent.is_empty();
        let plain = tls.receive(&mut buffer.records[..have + read], room, &mut self.unsent)?;
        if !waits {
            self.flush()?;
        }
        Ok((plain, have + read == most))
    }

    /// Puts the tail to the start of the buffer, and says how long it is.
    #[inline]
    fn put_back(&mut self, buffer: &mut ReadBuffer) -> usize {
        let kept = if self.large_len > 0 {
            mem::swap(&mut self.large, &mut buffer.plain);
            mem::take(&mut self.large_len)
        } else {
            let len = self.tail.len();
            if len > buffer.plain.len() {
                buffer.plain.resize(len, 0);
            }
            buffer.plain[..len].copy_from_slice(&self.tail);
            len
        };
        if kept * 2 > buffer.plain.len() {
            buffer.plain.resize(buffer.plain.len() * 2, 0);
        }
        kept
    }

    /// Keeps what is between `used` and `filled` as the tail. A long one stays where it is, and
    /// the others get this link's buffer: copied with every read, a packet of many reads would
    /// cost its length many times.
    #[inline]
    fn keep(&mut self, buffer: &mut ReadBuffer, used: usize, filled: usize) {
        self.tail.clear();
        if filled - used <= COPIED_TAIL_MAX {
            self.tail.extend_from_slice(&buffer.plain[used..filled]);
            return;
        }
        if used > 0 {
            buffer.plain.copy_within(used..filled, 0);
        }
        mem::swap(&mut self.large, &mut buffer.plain);
        self.large_len = filled - used;
        if buffer.plain.len() < READ_BYTES {
            buffer.plain.resize(READ_BYTES, 0);
        }
    }

    /// Says DISCONNECT, if the kernel takes it at once, and closes.
    pub(crate) fn close(mut self) {
        if self.is_flushed() {
            // The run is over; a connection that is gone already needs no farewell.
            let _ = self.send(&codec::DISCONNECT);
            if self.ws.is_some() {
                let mut goodbye = Vec::new();
                ws::put_close(&mut goodbye);
                let _ = self.send_plain(&goodbye);
            }
        }
    }

    /// Blocking: asks for WebSocket and waits until it is granted.
    fn upgrade(&mut self, target: &Target) -> io::Result<()> {
        self.send_plain(ws::request(target.address).as_bytes())?;
        if self.tls.is_some() {
            return self.upgrade_over_tls();
        }
        let mut head = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            // Looks first, so that nothing behind the head is taken with it.
            let seen =
                self.stream.peek(&mut chunk).map_err(|error| no_answer("upgrade", &error))?;
            let before = head.len();
            head.extend_from_slice(&chunk[..seen]);
            let whole = ws::response_len(&head);
            let take = whole.map_or(seen, |len| len - before);
            self.stream.read_exact(&mut chunk[..take])?;
            if let Some(len) = whole {
                ws::check_response(&head[..len])?;
                self.ws = Some(Box::default());
                return Ok(());
            }
            if seen == 0 || head.len() > ws::RESPONSE_MAX {
                return Err(io::Error::other("the broker does not answer HTTP with HTTP"));
            }
        }
    }

    /// The same over TLS: what follows the head in its record is kept.
    fn upgrade_over_tls(&mut self) -> io::Result<()> {
        let mut head = Vec::new();
        loop {
            head.append(&mut self.read_some().map_err(|error| no_answer("upgrade", &error))?);
            if let Some(len) = ws::response_len(&head) {
                ws::check_response(&head[..len])?;
                let (mut ws, mut rest) = (Box::<Ws>::default(), head.split_off(len));
                let plain = ws.decoder.unframe(&mut rest)?;
                self.tail.extend_from_slice(&rest[..plain]);
                self.ws = Some(ws);
                return Ok(());
            }
            if head.len() > ws::RESPONSE_MAX {
                return Err(io::Error::other("the broker does not answer HTTP with HTTP"));
            }
        }
    }

    /// Blocking, over TLS: reads once, and decrypts what is whole; that may be nothing.
    fn read_some(&mut self) -> io::Result<Vec<u8>> {
        let Some(tls) = &mut self.tls else { return Ok(Vec::new()) };
        let mut records = vec![0; tls.unfinished() + ANSWER_BYTES];
        let have = tls.put_back(&mut records);
        let read = self.stream.read(&mut records[have..])?;
        if read == 0 {
            return Err(closed());
        }
        let mut plain = vec![0; have + read];
        let len = tls.receive(&mut records[..have + read], &mut plain, &mut self.unsent)?;
        plain.truncate(len);
        self.flush()?;
        Ok(plain)
    }

    /// Blocking: the body of the answer of type `wanted`, if it says yes. Messages that come
    /// before it are kept.
    fn answer(&mut self, wanted: u8, asked: &str) -> io::Result<Vec<u8>> {
        loop {
            let mut packets = mem::take(&mut self.tail);
            let mut at = 0;
            while let Some(Frame { head, body, len }) = codec::frame(&packets[at..])? {
                if head >> 4 == 3 {
                    at += len;
                    continue;
                }
                let is_yes = match codec::decode(self.version, head, body)? {
                    Packet::ConnAck(code) => code == 0,
                    Packet::SubAck(_, code) => code < 0x80,
                    _ => false,
                };
                if !is_yes || head >> 4 != wanted {
                    let answer = &packets[at..at + len.min(32)];
                    let text = format!("the broker answered {asked} with {answer:02x?}");
                    return Err(io::Error::other(text));
                }
                let body = body.to_vec();
                packets.drain(at..at + len);
                self.unseen = !packets.is_empty();
                self.tail = packets;
                return Ok(body);
            }
            self.read_packets(&mut packets).map_err(|error| no_answer(asked, &error))?;
            self.tail = packets;
        }
    }

    /// Blocking: appends one packet, or what the next frame carries over WebSocket, or what the next
    /// read brings over TLS.
    fn read_packets(&mut self, packets: &mut Vec<u8>) -> io::Result<()> {
        let mut bytes = self.read_some()?;
        if self.tls.is_some() {
            return self.unframe_into(bytes, packets);
        }
        let whole = |bytes: &[u8], is_ws: bool| match is_ws {
            true => ws::frame_len(bytes),
            false => packet_len(bytes),
        };
        loop {
            let need = match whole(&bytes, self.ws.is_some()) {
                Ok(len) => usize::try_from(len).map_err(io::Error::other)?,
                Err(need) => need,
            };
            if need > READ_BYTES {
                return Err(Malformed("this is no answer").into());
            }
            let have = bytes.len();
            if need == have {
                break;
            }
            bytes.resize(need, 0);
            self.stream.read_exact(&mut bytes[have..])?;
        }
        self.unframe_into(bytes, packets)
    }

    fn unframe_into(&mut self, mut bytes: Vec<u8>, packets: &mut Vec<u8>) -> io::Result<()> {
        if let Some(ws) = &mut self.ws {
            let plain = ws.decoder.unframe(&mut bytes)?;
            bytes.truncate(plain);
            let pongs = mem::take(&mut ws.decoder.pongs);
            if !pongs.is_empty() {
                self.send_plain(&pongs)?;
            }
        }
        packets.append(&mut bytes);
        Ok(())
    }
}

/// The length of the packet that begins with these bytes; `Err` says how many bytes it takes to
/// know more.
fn packet_len(start: &[u8]) -> Result<u64, usize> {
    let mut remaining = 0;
    for (index, &byte) in start.iter().skip(1).take(4).enumerate() {
        remaining |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(2 + index as u64 + remaining);
        }
    }
    // After four bytes of length it is as long as it is; what it is not will be found then.
    if start.len() < 5 { Err((start.len() + 1).max(2)) } else { Ok(start.len() as u64) }
}

fn each_packet(
    version: Version,
    bytes: &[u8],
    mut each: impl FnMut(Packet<'_>),
) -> io::Result<usize> {
    let mut reason = None;
    let used = codec::each_packet(version, bytes, |packet| match packet {
        Packet::Disconnect(code) => reason = Some(code),
        packet => each(packet),
    })?;
    match reason {
        Some(code) => Err(io::Error::other(format!("the broker said DISCONNECT, reason {code}"))),
        None => Ok(used),
    }
}

fn no_answer(asked: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("no whole answer to {asked}: {error}"))
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the broker closed a connection")
}

fn write_some(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests;
