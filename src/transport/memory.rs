//! MQTT inside one process, without a socket: for tests and for programs that embed the broker.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};

use super::{ByteStream, Incoming, Transport, TryWrite};

/// How many connections may wait to be accepted.
const BACKLOG: usize = 4_096;

/// A drained buffer larger than this is given back.
const KEPT_CAPACITY: usize = 4_096;

/// The accepting end. Dropping it refuses further connections and ends those that were not accepted yet; accepted
/// connections stay open.
///
/// ```
/// use futures_lite::{AsyncReadExt, AsyncWriteExt};
/// use hrotti::transport::{Transport, memory::MemoryTransport};
/// # futures_lite::future::block_on(async {
/// let (mut transport, connector) =
///     MemoryTransport::new("inside", MemoryTransport::DEFAULT_CAPACITY);
/// assert_eq!(transport.local_endpoint(), "memory://inside");
///
/// let mut client = connector.connect()?;
/// client.write_all(b"hello").await?;
/// let incoming = transport.accept().await?;
/// assert_eq!(incoming.peer.to_string(), "inside#1");
/// drop(incoming); // the Server turns the peer away
/// assert_eq!(client.read(&mut [0; 8]).await?, 0);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct MemoryTransport {
    door: Arc<Door>,
}

/// The dialling end. Clones dial the same transport.
#[derive(Debug, Clone)]
pub struct MemoryConnector {
    door: Arc<Door>,
}

/// Where connectors and transport meet.
#[derive(Debug)]
struct Door {
    name: String,
    capacity: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    streams: VecDeque<(u64, MemoryStream)>,
    acceptor: Option<Waker>,
    dialled: u64,
    closed: bool,
}

impl MemoryTransport {
    /// A buffer size for each direction of a connection that fits most uses: 64 KiB.
    pub const DEFAULT_CAPACITY: usize = 64 * 1024;

    /// Makes a transport and its connector.
    ///
    /// `name` appears in [`local_endpoint`](Transport::local_endpoint) and in logs. `capacity` is the number of
    /// bytes that each direction of a connection holds, 1 to any number (0 is raised to 1): at the limit a
    /// write waits for the reader. Memory grows with the bytes that are held.
    pub fn new(name: impl Into<String>, capacity: usize) -> (MemoryTransport, MemoryConnector) {
        let door = Arc::new(Door {
            name: name.into(),
            capacity: capacity.max(1),
            waiting: Mutex::default(),
        });
        (MemoryTransport { door: door.clone() }, MemoryConnector { door })
    }
}

impl MemoryConnector {
    /// Opens a connection. It can be written at once; the other end reads the bytes once it is accepted.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionRefused`] if the transport was dropped, or 4 096 connections wait to be
    /// accepted.
    pub fn connect(&self) -> io::Result<MemoryStream> {
        let mut waiting = lock(&self.door.waiting);
        if waiting.closed || waiting.streams.len() >= BACKLOG {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let (client, server) = MemoryStream::pair(self.door.capacity);
        waiting.dialled += 1;
        let number = waiting.dialled;
        waiting.streams.push_back((number, server));
        let acceptor = waiting.acceptor.take();
        drop(waiting);
        wake(acceptor);
        Ok(client)
    }
}

impl Transport for MemoryTransport {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let (number, stream) = std::future::poll_fn(|cx| {
            let mut waiting = lock(&self.door.waiting);
            match waiting.streams.pop_front() {
                Some(next) => Poll::Ready(next),
                None => {
                    waiting.acceptor = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        let inline: Arc<dyn TryWrite> = stream.outward.clone();
        let peer = format!("{}#{number}", self.door.name);
        Ok(Incoming::ready(peer, ByteStream::new(stream).with_try_write(inline)))
    }

    fn local_endpoint(&self) -> String {
        format!("memory://{}", self.door.name)
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        let mut waiting = lock(&self.door.waiting);
        waiting.closed = true;
        let turned_away = std::mem::take(&mut waiting.streams);
        drop(waiting); // dropping a stream wakes its peer, which may dial again
        drop(turned_away);
    }
}

/// One end of a connection: what [`MemoryConnector::connect`] returns.
///
/// After `poll_close` the peer reads the written bytes and then the end of the stream, while this end can still
/// read. Dropping it does the same, and makes the peer's writes fail with [`ErrorKind::BrokenPipe`].
#[derive(Debug)]
pub struct MemoryStream {
    inward: Arc<Pipe>,
    outward: Arc<Pipe>,
}

impl MemoryStream {
    /// The two ends of a new connection, with `capacity` bytes (at least 1) for each direction.
    fn pair(capacity: usize) -> (MemoryStream, MemoryStream) {
        let one = Arc::new(Pipe::new(capacity));
        let other = Arc::new(Pipe::new(capacity));
        let client = MemoryStream { inward: one.clone(), outward: other.clone() };
        (client, MemoryStream { inward: other, outward: one })
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.inward.poll_read(cx, buf)
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.outward.poll_write(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // what was written can be read already
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outward.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.outward.end();
        self.inward.abandon();
    }
}

/// One direction of a connection.
struct Pipe {
    capacity: usize,
    state: Mutex<Flow>,
}

#[derive(Default)]
struct Flow {
    bytes: VecDeque<u8>,
    /// The writer is done: the reader finds the end once it has read the rest.
    ended: bool,
    /// The reader is gone.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(capacity: usize) -> Pipe {
        Pipe { capacity, state: Mutex::default() }
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut flow = lock(&self.state);
        if flow.bytes.is_empty() && !flow.ended && !buf.is_empty() {
            flow.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = flow.bytes.read(buf)?;
        if flow.bytes.is_empty() && flow.bytes.capacity() > KEPT_CAPACITY {
            flow.bytes = VecDeque::new();
        }
        let writer = if n > 0 { flow.writer.take() } else { None };
        drop(flow);
        wake(writer);
        Poll::Ready(Ok(n))
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut flow = lock(&self.state);
        match flow.take_in(bufs, self.capacity) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                flow.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            done => Poll::Ready(Self::written(flow, done)),
        }
    }

    /// Wakes the reader after a write.
    fn written(mut flow: MutexGuard<'_, Flow>, done: io::Result<usize>) -> io::Result<usize> {
        let reader = flow.reader.take();
        drop(flow);
        wake(reader);
        done
    }

    fn end(&self) {
        let mut flow = lock(&self.state);
        flow.ended = true;
        let reader = flow.reader.take();
        drop(flow);
        wake(reader);
    }

    fn abandon(&self) {
        let mut flow = lock(&self.state);
        flow.abandoned = true;
        flow.bytes = VecDeque::new();
        let writer = flow.writer.take();
        drop(flow);
        wake(writer);
    }
}

impl TryWrite for Pipe {
    fn try_write(&self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let mut flow = lock(&self.state);
        let done = flow.take_in(bufs, self.capacity);
        Self::written(flow, done)
    }
}

impl Flow {
    /// Takes what there is room for; [`ErrorKind::WouldBlock`] where that is nothing.
    fn take_in(&mut self, bufs: &[io::IoSlice<'_>], capacity: usize) -> io::Result<usize> {
        if self.ended || self.abandoned {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut room = capacity.saturating_sub(self.bytes.len());
        if room == 0 && bufs.iter().any(|buf| !buf.is_empty()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for buf in bufs {
            let n = buf.len().min(room);
            self.bytes.write_all(&buf[..n])?;
            room -= n;
            taken += n;
        }
        Ok(taken)
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// Nothing under these locks can panic between two writes that belong together, so a poisoned one is
/// as good as new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes, outside the lock: a waker may run the woken task on the spot.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
