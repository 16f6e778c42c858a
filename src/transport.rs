//! The seam for everything that can carry MQTT: a [`Transport`] accepts peers, each of which becomes a
//! [`ByteStream`].
//!
//! A transport knows nothing of packets, Sessions or the broker. [`tcp`], [`ws`] and [`memory`] ship;
//! `examples/custom_transport.rs` is a fourth.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures_io::{AsyncRead, AsyncWrite};

pub mod memory;
pub mod tcp;
pub mod ws;

/// Accepts peers on one address.
///
/// Binding is the constructor's business, so a value of an implementing type is always listening, and
/// dropping it gives its address back.
pub trait Transport: Send + 'static {
    /// Waits for the next peer.
    ///
    /// Whatever a peer can delay (a WebSocket upgrade, a TLS handshake) belongs into the future inside
    /// [`Incoming`], which runs on a task of its own under a deadline, so that a slow peer never holds
    /// up the next.
    ///
    /// # Cancel safety
    /// The returned future may be dropped at any await point without losing a peer.
    ///
    /// # Errors
    /// An error is about the listener, not about one peer: the broker waits a moment and calls again.
    fn accept(&mut self) -> impl Future<Output = io::Result<Incoming>> + Send;

    /// Where Clients reach this transport, for logs and [`Broker::listeners`](crate::Broker::listeners):
    /// the address really bound, as `tcp://127.0.0.1:1883`.
    fn local_endpoint(&self) -> String;
}

/// The rest of a peer's set-up.
pub type Handshake = Pin<Box<dyn Future<Output = io::Result<ByteStream>> + Send>>;

/// A peer that was accepted and has not finished its set-up.
pub struct Incoming {
    /// Who it is, for logs: an address, or whatever tells peers of this transport apart.
    pub peer: String,
    /// Ends in the byte stream. The broker gives it a deadline and bounds how many run at once.
    pub handshake: Handshake,
}

impl Incoming {
    /// A peer whose stream is ready.
    pub fn ready(peer: impl Into<String>, stream: ByteStream) -> Incoming {
        Incoming::with_handshake(peer, async move { Ok(stream) })
    }

    /// A peer with more to do before its first byte of MQTT.
    pub fn with_handshake(
        peer: impl Into<String>,
        handshake: impl Future<Output = io::Result<ByteStream>> + Send + 'static,
    ) -> Incoming {
        Incoming { peer: peer.into(), handshake: Box::pin(handshake) }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Writes without waiting, from any thread: what lets a publisher's task hand bytes to a subscriber's
/// socket without waking the subscriber's task.
pub trait TryWrite: Send + Sync {
    /// Writes as much of `bufs` as the transport takes now.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where nothing can be taken; no waker is registered. Any other error
    /// means that the stream is broken; the owner will meet the same error when it writes.
    fn try_write(&self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize>;
}

/// An ordered, lossless stream of bytes in both directions (MQTT-4.2-1).
pub struct ByteStream {
    pub(crate) io: Pin<Box<dyn Duplex>>,
    pub(crate) inline: Option<Arc<dyn TryWrite>>,
}

impl ByteStream {
    /// Any stream that reads and writes.
    ///
    /// `poll_close` must send what was written before it and then signal the end of the stream to the
    /// peer, while reading stays possible (a half-close).
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> ByteStream {
        ByteStream { io: Box::pin(io), inline: None }
    }

    /// Adds the optional ability to be written from another task.
    #[must_use]
    pub fn with_try_write(mut self, inline: Arc<dyn TryWrite>) -> ByteStream {
        self.inline = Some(inline);
        self
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").field("inline", &self.inline.is_some()).finish_non_exhaustive()
    }
}

/// A stream that reads and writes, as one object.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}
