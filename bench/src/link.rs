//! One connection to the broker under test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::codec::{self, Packet};
use crate::target::Target;

/// How long the broker may take for CONNACK or SUBACK.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// So long that no load ever has to send PINGREQ, and not 0 (none), which some brokers refuse.
const KEEP_ALIVE_SECS: u16 = u16::MAX;
/// One read takes up to this many bytes.
const READ_BYTES: usize = 256 * 1024;
/// More than this unsent is no load but a leak.
const UNSENT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The read buffer that all links share; each keeps only its unfinished tail.
#[derive(Debug)]
pub(crate) struct ReadBuffer(Vec<u8>);

impl ReadBuffer {
    pub(crate) fn new() -> Self {
        Self(vec![0; READ_BYTES])
    }
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    unsent: Vec<u8>,
    tail: Vec<u8>,
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Link {
    /// Connects, blocking, and waits for CONNACK; with a filter also for SUBACK. Afterwards the
    /// link does not block.
    ///
    /// # Errors
    ///
    /// When the broker refuses, does not answer within ten seconds, or answers something else.
    pub(crate) fn open(target: &Target, client_id: &str, filter: Option<&str>) -> io::Result<Self> {
        let mut stream = TcpStream::connect(target.address).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot connect to {}: {error}", target.address))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        stream.write_all(&codec::connect(client_id, KEEP_ALIVE_SECS))?;
        expect(&mut stream, 4, |packet| matches!(packet, Packet::ConnAck(0)), "CONNECT")?;
        if let Some(filter) = filter {
            stream.write_all(&codec::subscribe(1, filter, 0))?;
            expect(&mut stream, 5, |packet| matches!(packet, Packet::SubAck(1, 0)), "SUBSCRIBE")?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream, unsent: Vec::new(), tail: Vec::new() })
    }

    /// A link from the broker's side.
    pub(crate) fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, unsent: Vec::new(), tail: Vec::new() })
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
        self.unsent.is_empty()
    }

    /// Writes what the kernel takes and keeps the rest for [`Link::flush`].
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        if self.unsent.is_empty() {
            written = write_some(&self.stream, bytes)?;
        }
        if self.unsent.len() + bytes.len() - written > UNSENT_BYTES_MAX {
            return Err(io::Error::other("the broker does not take what it is sent"));
        }
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Writes what is left, as far as the kernel takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let written = write_some(&self.stream, &self.unsent)?;
            self.unsent.drain(..written);
        }
        Ok(())
    }

    /// Reads all that is there and hands out the whole packets.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut ReadBuffer,
        mut each: impl FnMut(Packet<'_>),
    ) -> io::Result<()> {
        self.receive_bytes(buffer, |bytes| Ok(codec::each_packet(bytes, &mut each)?))
    }

    /// Reads all that is there; `take` says how much of it was whole packets.
    ///
    /// A read that leaves room in the buffer has emptied the socket: the edge-triggered poll will
    /// report what comes later, so there is no second read for EAGAIN.
    #[inline]
    pub(crate) fn receive_bytes(
        &mut self,
        buffer: &mut ReadBuffer,
        mut take: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        loop {
            let kept = self.tail.len();
            if kept * 2 > buffer.0.len() {
                buffer.0.resize(buffer.0.len() * 2, 0);
            }
            buffer.0[..kept].copy_from_slice(&self.tail);
            let room = &mut buffer.0[kept..];
            let room_len = room.len();
            let read = match (&self.stream).read(room) {
                Ok(0) => return Err(closed()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let filled = &buffer.0[..kept + read];
            let used = take(filled)?;
            self.tail.clear();
            self.tail.extend_from_slice(&filled[used..]);
            if read < room_len {
                return Ok(());
            }
        }
    }

    /// Says DISCONNECT, if the kernel takes it at once, and closes.
    pub(crate) fn close(mut self) {
        if self.is_flushed() {
            // The run is over; a connection that is gone already needs no farewell.
            let _ = self.send(&codec::DISCONNECT);
        }
    }
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

/// Reads one packet of `len` bytes and checks it.
fn expect(
    stream: &mut TcpStream,
    len: usize,
    wanted: impl Fn(&Packet<'_>) -> bool,
    asked: &str,
) -> io::Result<()> {
    let mut answer = [0; 8];
    let answer = &mut answer[..len];
    stream.read_exact(answer).map_err(|error| {
        io::Error::new(error.kind(), format!("no whole answer to {asked}: {error}"))
    })?;
    let mut good = false;
    let used = codec::each_packet(answer, |packet| good = wanted(&packet));
    if good && used == Ok(len) {
        return Ok(());
    }
    Err(io::Error::other(format!("the broker answered {asked} with {answer:02x?}")))
}
