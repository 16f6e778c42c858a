//! A transport that hands every packet of another one to a tamperer, in both directions.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::io::Cursor;
use hrotti::transport::{ByteStream, Incoming, Transport};

use super::packet::Raw;

/// Above so many bytes that the peer does not take, no more are taken from the broker.
const HELD_MAX: usize = 64 * 1024;

/// Where a packet is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToBroker,
    ToClient,
}

/// What a tamperer may remember and do: one of these for each connection.
pub(crate) struct Link {
    /// From CONNECT; 0 before.
    pub(crate) level: u8,
    /// The last CONNACK said Session Present.
    pub(crate) resumed: bool,
    /// What this connection remembers.
    pub(crate) held: Option<Raw>,
    pub(crate) count: usize,
    /// What the whole listener remembers.
    shared: Arc<Mutex<Vec<Raw>>>,
    to_broker: VecDeque<u8>,
    to_client: VecDeque<u8>,
}

impl Link {
    /// Sends a packet on, in its direction or against it.
    pub(crate) fn send(&mut self, way: Way, packet: &Raw) {
        let bytes = packet.bytes();
        match way {
            Way::ToBroker => self.to_broker.extend(bytes),
            Way::ToClient => self.to_client.extend(bytes),
        }
    }

    pub(crate) fn v5(&self) -> bool {
        self.level == 5
    }

    /// What all connections of the listener remember together.
    pub(crate) fn shared(&self) -> MutexGuard<'_, Vec<Raw>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does something wrong to a packet: what it does not send is lost.
pub(crate) type Tamper = fn(&mut Link, Way, Raw);

/// How a transport itself is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is not.
    None,
    /// The end of the stream takes what was not flushed with it.
    CloseDropsUnsent,
    /// The peer never learns of the end.
    CloseIsNotTold,
    /// The peer's end is not seen.
    EndIsNotSeen,
    /// A read of some length loses its end.
    ReadsOneByteLess,
    /// A large write loses its end.
    LargeWriteLosesBytes,
    /// The next peer is accepted after this one has said something.
    AcceptWaitsForThePeer,
    /// What comes in one write is handed on once, the rest of it lost.
    OnePacketForEachRead,
}

/// The transport `T`, with everything that passes tampered with.
pub(crate) struct Tampering<T> {
    inner: T,
    tamper: Tamper,
    flaw: Flaw,
    shared: Arc<Mutex<Vec<Raw>>>,
}

impl<T> Tampering<T> {
    pub(crate) fn new(inner: T, tamper: Tamper, flaw: Flaw) -> Tampering<T> {
        Tampering { inner, tamper, flaw, shared: Arc::default() }
    }
}

impl<T: Transport> Transport for Tampering<T> {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let incoming = self.inner.accept().await?;
        let link = Link {
            level: 0,
            resumed: false,
            held: None,
            count: 0,
            shared: self.shared.clone(),
            to_broker: VecDeque::new(),
            to_client: VecDeque::new(),
        };
        let (tamper, flaw) = (self.tamper, self.flaw);
        let wrap = move |stream| {
            let (up, down) = (Vec::new(), Vec::new());
            Tampered { stream, link, tamper, flaw, up, down, ended: false }
        };
        if flaw == Flaw::AcceptWaitsForThePeer {
            let mut stream = wrap(incoming.handshake.await?);
            std::future::poll_fn(|cx| stream.poll_fill(cx)).await?;
            return Ok(Incoming::ready(incoming.peer, ByteStream::new(stream)));
        }
        let handshake: Pin<Box<dyn Future<Output = io::Result<ByteStream>> + Send>> =
            Box::pin(async move { Ok(ByteStream::new(wrap(incoming.handshake.await?))) });
        Ok(Incoming::with_handshake(incoming.peer, handshake))
    }

    fn local_endpoint(&self) -> String {
        self.inner.local_endpoint()
    }
}

struct Tampered {
    stream: ByteStream,
    link: Link,
    tamper: Tamper,
    flaw: Flaw,
    up: Vec<u8>,
    down: Vec<u8>,
    ended: bool,
}

impl Tampered {
    /// Cuts whole packets out of what has come, and lets them be tampered with.
    fn pass(&mut self, way: Way) {
        loop {
            let bytes = if way == Way::ToBroker { &mut self.up } else { &mut self.down };
            let Some(packet) = Raw::cut(bytes) else { return };
            match packet.kind() {
                1 if way == Way::ToBroker => self.link.level = packet.level(),
                2 => self.link.resumed = packet.body.first() == Some(&1),
                _ => {}
            }
            (self.tamper)(&mut self.link, way, packet);
        }
    }

    /// Brings something for the broker to read, or the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.link.to_broker.is_empty() && !self.ended {
            let mut buffer = [0; 16 * 1024];
            let n = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if n == 0 {
                if self.flaw == Flaw::EndIsNotSeen {
                    return Poll::Pending; // for ever
                }
                self.ended = true;
                (self.tamper)(&mut self.link, Way::ToBroker, Raw::end());
                let rest = std::mem::take(&mut self.up);
                self.link.to_broker.extend(rest);
            }
            let kept = if self.flaw == Flaw::ReadsOneByteLess && n > 200 { n - 1 } else { n };
            self.up.extend_from_slice(&buffer[..kept]);
            if self.flaw == Flaw::OnePacketForEachRead
                && let Some(packet) = Raw::cut(&mut self.up)
            {
                self.up = packet.bytes();
            }
            self.pass(Way::ToBroker);
            // A tamperer may have answered in the broker's place.
            let _later_if_pending = self.poll_drain(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is held for the client.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.link.to_client.is_empty() {
            let (first, _) = self.link.to_client.as_slices();
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, first))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.link.to_client.drain(..n);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Tampered {
    fn drop(&mut self) {
        if self.flaw == Flaw::CloseIsNotTold {
            let nothing = ByteStream::new(Cursor::new(Vec::new()));
            std::mem::forget(std::mem::replace(&mut self.stream, nothing));
        }
    }
}

impl AsyncRead for Tampered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_fill(cx))?;
        Poll::Ready(io::Read::read(&mut self.link.to_broker, buf))
    }
}

impl AsyncWrite for Tampered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.link.to_client.len() > HELD_MAX {
            ready!(self.poll_drain(cx))?;
        }
        let mut taken = 0;
        for buf in bufs {
            self.down.extend_from_slice(buf);
            taken += buf.len();
        }
        if self.flaw == Flaw::LargeWriteLosesBytes && taken > 8192 {
            let end = self.down.len() - 1;
            self.down.truncate(end);
        }
        self.pass(Way::ToClient);
        if self.flaw != Flaw::CloseDropsUnsent {
            let _later_if_pending = self.poll_drain(cx)?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.flaw {
            Flaw::CloseDropsUnsent => self.link.to_client.clear(),
            Flaw::CloseIsNotTold => return self.poll_flush(cx),
            _ => ready!(self.poll_drain(cx))?,
        }
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
