//! Transports: a [`Transport`] accepts peers, and each peer becomes a [`ByteStream`] that carries MQTT.
//!
//! A transport knows nothing of packets, Sessions or the broker. [`tcp`], [`tls`], [`ws`], `unix` and [`memory`] are
//! included; `examples/custom_transport.rs` implements a simple one. Pass your own to
//! [`Broker::add_transport`](crate::Broker::add_transport).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::listener_rules::{ListenerRules, MountPoint};
use crate::packet::ProtocolVersion;
pub use listening::{ListeningSocket, ListeningSockets};

pub(crate) mod listening;
pub mod memory;
pub mod proxy_protocol;
mod socket;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod tls;
#[cfg(unix)]
pub mod unix;
pub mod ws;

/// Accepts peers on one address.
///
/// The constructor of an implementing type binds the address, so a value is always listening; dropping it frees the
/// address.
///
/// A transport may be built on another:
///
/// ```
/// use std::io;
///
/// use futures_lite::AsyncReadExt;
/// use hrotti::transport::memory::MemoryTransport;
/// use hrotti::transport::{Incoming, Transport};
///
/// /// Accepts peers that send the magic byte first.
/// struct Guarded<T>(T);
///
/// impl<T: Transport> Transport for Guarded<T> {
///     async fn accept(&mut self) -> io::Result<Incoming> {
///         let incoming = self.0.accept().await?;
///         // Waiting for the peer belongs in the handshake, not in `accept`.
///         Ok(Incoming::with_handshake(incoming.peer, async move {
///             let mut stream = incoming.handshake.await?;
///             let mut byte = [0];
///             stream.read_exact(&mut byte).await?;
///             if byte == *b"!" { Ok(stream) } else { Err(io::ErrorKind::PermissionDenied.into()) }
///         }))
///     }
///
///     fn local_endpoint(&self) -> String {
///         self.0.local_endpoint()
///     }
/// }
///
/// # futures_lite::future::block_on(async {
/// use futures_lite::AsyncWriteExt;
///
/// let (transport, connector) = MemoryTransport::new("guarded", 1024);
/// let mut transport = Guarded(transport);
/// for (sent, admitted) in [(b"!", true), (b"?", false)] {
///     let mut client = connector.connect()?;
///     client.write_all(sent).await?;
///     let incoming = transport.accept().await?;
///     assert_eq!(incoming.handshake.await.is_ok(), admitted);
/// }
/// # io::Result::Ok(()) }).unwrap();
/// ```
pub trait Transport: Send + 'static {
    /// Waits for the next peer.
    ///
    /// Steps that a peer can delay (a WebSocket upgrade, a TLS handshake) belong in the future inside
    /// [`Incoming`], which runs in a task of its own under a deadline, so that a slow peer never delays
    /// the next one. A panic counts as an error.
    ///
    /// # Cancel safety
    /// The returned future may be dropped at any await point without losing a peer.
    ///
    /// # Errors
    /// The listener cannot accept at this moment. The broker waits 50 ms, longer if the error repeats, and calls
    /// again. Errors of one peer belong in its handshake.
    fn accept(&mut self) -> impl Future<Output = io::Result<Incoming>> + Send;

    /// The bound address in a form that a Client can use, such as `tcp://127.0.0.1:1883`, for logs and
    /// [`Broker::listeners`](crate::Broker::listeners).
    fn local_endpoint(&self) -> String;

    /// All bound addresses, that of [`local_endpoint`](Transport::local_endpoint) first. The default implementation
    /// returns only that one.
    fn local_endpoints(&self) -> Vec<String> {
        vec![self.local_endpoint()]
    }

    /// The URL that it was configured by, such as `tcp://localhost`, for [`ListenerInfo::url`](crate::ListenerInfo). The
    /// default implementation has none; that of a [`ListenerConfig`](crate::ListenerConfig) is its URL.
    fn url(&self) -> Option<String> {
        None
    }

    /// The handle of its TLS material, by which
    /// [`Broker::replace_tls`](crate::Broker::replace_tls) replaces the material. The default implementation has none.
    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<tls::TlsHandle> {
        None
    }

    /// The listening sockets, for [`Broker::listening_sockets`](crate::Broker::listening_sockets). The default
    /// implementation has none: then the listener is not handed over.
    fn sockets(&self) -> ListeningSockets {
        ListeningSockets::default()
    }
}

/// The rest of a peer's set-up, which ends in its byte stream. An error or a panic ends this peer only and is
/// counted. The broker drops the future at [`Limits::handshake_timeout`](crate::Limits::handshake_timeout).
pub type Handshake = Pin<Box<dyn Future<Output = io::Result<ByteStream>> + Send>>;

/// A peer that was accepted and has not finished its set-up.
pub struct Incoming {
    /// The peer's address, or another name that distinguishes the peers of this transport.
    pub peer: PeerInfo,
    /// The rest of the set-up. The broker bounds its duration by [`Limits::handshake_timeout`](crate::Limits) and the
    /// number of handshakes that run at once by [`Limits::handshakes_max`](crate::Limits).
    pub handshake: Handshake,
}

impl Incoming {
    /// Makes a peer whose stream is ready.
    pub fn ready(peer: impl Into<PeerInfo>, stream: ByteStream) -> Incoming {
        Incoming::with_handshake(peer, async move { Ok(stream) })
    }

    /// Makes a peer whose set-up continues before its first byte of MQTT.
    pub fn with_handshake(
        peer: impl Into<PeerInfo>,
        handshake: impl Future<Output = io::Result<ByteStream>> + Send + 'static,
    ) -> Incoming {
        Incoming { peer: peer.into(), handshake: Box::pin(handshake) }
    }
}

/// The origin of a peer: its address or name, its listener, and the identity that the transport established.
/// `Display` writes the address or name, for logs.
///
/// ```
/// use hrotti::transport::PeerInfo;
///
/// let peer = PeerInfo::from("127.0.0.1:50000".parse::<std::net::SocketAddr>()?);
/// assert_eq!(peer.address().map(|address| address.port()), Some(50_000));
/// assert_eq!((peer.to_string().as_str(), peer.listener()), ("127.0.0.1:50000", ""));
/// assert_eq!(PeerInfo::from("inside#1").address(), None);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    origin: Origin,
    listener: Option<Arc<AcceptedBy>>,
    identity: Option<Box<PeerIdentity>>,
}

/// What a transport knows of a peer's identity before its CONNECT.
///
/// ```
/// use hrotti::transport::{PeerIdentity, PeerInfo};
///
/// let peer = PeerInfo::from("inside#1").with_identity("the scheduler");
/// assert_eq!(peer.identity(), Some(&PeerIdentity::Name("the scheduler".to_owned())));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerIdentity {
    /// A name that the transport trusts.
    Name(String),
    /// The names in a certificate that was verified.
    Certificate(CertificateNames),
    /// The process at the other end of a Unix socket, when it connected.
    UnixProcess {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// The process, if the system tells.
        pid: Option<i32>,
    },
}

/// The names in a certificate that was verified. Each list is in the order of the certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateNames {
    /// The Common Name of the subject.
    pub common_name: Option<String>,
    /// The subject as RFC 4514 writes it.
    pub subject: String,
    /// The DNS names among the Subject Alternative Names.
    pub dns: Vec<String>,
    /// The URIs among the Subject Alternative Names.
    pub uris: Vec<String>,
    /// The e-mail addresses among the Subject Alternative Names.
    pub emails: Vec<String>,
    /// The name that is the Client's user name, if the listener's configuration chooses one.
    pub user_name: Option<String>,
}

impl From<&str> for PeerIdentity {
    fn from(name: &str) -> PeerIdentity {
        PeerIdentity::Name(name.to_owned())
    }
}

impl From<CertificateNames> for PeerIdentity {
    fn from(names: CertificateNames) -> PeerIdentity {
        PeerIdentity::Certificate(names)
    }
}

/// The counts of one listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounts {
    /// Its Network Connections with an accepted CONNECT.
    pub(crate) connections: AtomicUsize,
    /// The same by version, the oldest first.
    by_version: [AtomicUsize; 3],
    /// Peers that its rules did not let in, and CONNECTs that they refused.
    pub(crate) refused: AtomicU64,
}

/// The listener that accepted a peer, shared by all its peers.
#[derive(Debug)]
pub(crate) struct AcceptedBy {
    pub(crate) name: Arc<str>,
    pub(crate) rules: ListenerRules,
    /// Tells the listeners of one broker apart; not 0.
    pub(crate) number: u32,
    /// What is counted of it, whatever the rules are.
    pub(crate) counts: Arc<ListenerCounts>,
    /// The same listener with the rules that have replaced these.
    successor: OnceLock<Arc<AcceptedBy>>,
}

impl AcceptedBy {
    pub(crate) fn new(name: &str, rules: ListenerRules, number: u32) -> AcceptedBy {
        let (counts, successor) = (Arc::default(), OnceLock::new());
        AcceptedBy { name: name.into(), rules, number, counts, successor }
    }

    /// Its Network Connections with an accepted CONNECT of this version.
    pub(crate) fn of_version(&self, version: ProtocolVersion) -> &AtomicUsize {
        let [oldest, middle, newest] = &self.counts.by_version;
        match version {
            ProtocolVersion::V3_1 => oldest,
            ProtocolVersion::V3_1_1 => middle,
            ProtocolVersion::V5 => newest,
        }
    }

    /// Replaces the rules: the peers find them as the [`AcceptedBy::latest`]. Called once for each value.
    pub(crate) fn replace(&self, rules: ListenerRules) -> Arc<AcceptedBy> {
        let counts = self.counts.clone();
        let next = AcceptedBy { counts, ..AcceptedBy::new(&self.name, rules, self.number) };
        self.successor.get_or_init(|| Arc::new(next)).clone()
    }

    /// The listener with its present rules, if they are not these.
    pub(crate) fn latest(&self) -> Option<&Arc<AcceptedBy>> {
        let mut latest = self.successor.get()?;
        while let Some(later) = latest.successor.get() {
            latest = later;
        }
        Some(latest)
    }
}

impl PartialEq for AcceptedBy {
    fn eq(&self, other: &AcceptedBy) -> bool {
        self.name == other.name && self.rules == other.rules
    }
}

impl Eq for AcceptedBy {}

/// Small, because every Network Connection has one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
    Name(Box<str>),
}

impl PeerInfo {
    fn new(origin: Origin) -> PeerInfo {
        PeerInfo { origin, listener: None, identity: None }
    }

    /// Adds the identity that the transport established: the names in a certificate, a user of the operating system,
    /// or the like.
    #[must_use]
    pub fn with_identity(mut self, identity: impl Into<PeerIdentity>) -> PeerInfo {
        self.identity = Some(Box::new(identity.into()));
        self
    }

    /// The network address, if the peer has one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.origin {
            Origin::V4(address) => Some((*address).into()),
            Origin::V6(address) => Some((**address).into()),
            Origin::Name(_) => None,
        }
    }

    /// The name of the listener that accepted the peer; empty before the broker has accepted it.
    #[must_use]
    pub fn listener(&self) -> &str {
        self.listener.as_deref().map_or("", |listener| &listener.name)
    }

    /// The rules of the listener when it accepted the peer; `None` before the broker has accepted it.
    #[must_use]
    pub fn listener_rules(&self) -> Option<&ListenerRules> {
        self.listener.as_deref().map(|listener| &listener.rules)
    }

    /// Whether the listener says, by its present rules, that Clients without a User Name may connect:
    /// [`ListenerRules::anonymous`].
    #[must_use]
    pub fn listener_allows_anonymous(&self) -> Option<bool> {
        let listener = self.listener.as_deref()?;
        listener.latest().map_or(listener, |latest| latest).rules.anonymous
    }

    /// The identity that the transport established, if any.
    #[must_use]
    pub fn identity(&self) -> Option<&PeerIdentity> {
        self.identity.as_deref()
    }

    /// The mount point of the listener that accepted the peer.
    #[inline]
    pub(crate) fn mount_point(&self) -> Option<&MountPoint> {
        self.listener.as_deref()?.rules.mount_point.as_ref()
    }

    pub(crate) fn accepted_by(&self) -> Option<&Arc<AcceptedBy>> {
        self.listener.as_ref()
    }

    /// Says which listener accepted the peer, for a test of a policy. The broker does so by itself.
    ///
    /// ```
    /// use hrotti::ListenerRules;
    /// use hrotti::transport::PeerInfo;
    ///
    /// let mut rules = ListenerRules::default();
    /// rules.anonymous = Some(true);
    /// let peer = PeerInfo::from("a test").at_listener("inside", rules);
    /// assert_eq!((peer.listener(), peer.listener_allows_anonymous()), ("inside", Some(true)));
    /// ```
    #[must_use]
    pub fn at_listener(mut self, name: &str, rules: ListenerRules) -> PeerInfo {
        self.set_listener(&Arc::new(AcceptedBy::new(name, rules, u32::MAX)));
        self
    }

    pub(crate) fn set_listener(&mut self, listener: &Arc<AcceptedBy>) {
        self.listener = Some(listener.clone());
    }
}

impl From<SocketAddr> for PeerInfo {
    fn from(address: SocketAddr) -> PeerInfo {
        PeerInfo::new(match address {
            SocketAddr::V4(address) => Origin::V4(address),
            SocketAddr::V6(address) => Origin::V6(Box::new(address)),
        })
    }
}

/// A peer without a network address, with a name that distinguishes it.
impl From<&str> for PeerInfo {
    fn from(name: &str) -> PeerInfo {
        PeerInfo::new(Origin::Name(name.into()))
    }
}

/// As from `&str`.
impl From<String> for PeerInfo {
    fn from(name: String) -> PeerInfo {
        PeerInfo::new(Origin::Name(name.into()))
    }
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::V4(address) => address.fmt(f),
            Origin::V6(address) => address.fmt(f),
            Origin::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Writes to a stream from any thread without waiting, so that a publisher's task can write to a subscriber's
/// socket without waking the subscriber's task.
///
/// Optional: the broker puts a stream without `TryWrite` behind a lock and polls it with its owner's waker.
///
/// ```
/// use std::io::{self, IoSlice, Write};
/// use std::net::TcpStream;
///
/// use hrotti::transport::TryWrite;
///
/// /// A socket that was made non-blocking.
/// struct Socket(TcpStream);
///
/// impl TryWrite for Socket {
///     fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
///         (&self.0).write_vectored(bufs)
///     }
/// }
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let socket = TcpStream::connect(listener.local_addr()?)?;
/// # socket.set_nonblocking(true)?;
/// # assert_eq!(Socket(socket).try_write(&[IoSlice::new(b"bytes")])?, 5);
/// # io::Result::Ok(())
/// ```
pub trait TryWrite: Send + Sync {
    /// Writes as much of `bufs` as the transport takes now, and returns the number of bytes. It returns 0 only if
    /// `bufs` is empty.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the transport takes no byte; no waker is registered. Any other error
    /// means that the stream is broken, and its connection ends.
    fn try_write(&self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize>;
}

/// An ordered, lossless stream of bytes in both directions (MQTT-4.2-1).
///
/// It implements the `futures-io` traits, so that a transport can be built on the streams of another. One task at a
/// time polls it. Dropping it ends the connection. A panic of the stream counts as an I/O error.
///
/// ```
/// use futures_lite::{AsyncReadExt, AsyncWriteExt};
/// use hrotti::transport::ByteStream;
/// # futures_lite::future::block_on(async {
/// let mut stream = ByteStream::new(futures_lite::io::Cursor::new(b"in".to_vec()));
/// let mut read = [0; 2];
/// stream.read_exact(&mut read).await?;
/// stream.write_all(b"out").await?;
/// assert_eq!(&read, b"in");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct ByteStream {
    /// Before the stream, which has to shut the socket down if another one still refers to it when it is dropped.
    pub(crate) inline: Option<Arc<dyn TryWrite>>,
    pub(crate) io: Pin<Box<dyn Duplex>>,
    pub(crate) peer: Option<Box<PeerInfo>>,
}

impl ByteStream {
    /// Wraps any stream that reads and writes.
    ///
    /// `poll_close` must send all bytes that were written before it and then signal the end of the stream to the
    /// peer, while reading stays possible (a half-close). `poll_write_vectored` is called with many slices: a stream
    /// that takes only the first slice works, but slowly.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> ByteStream {
        ByteStream { io: Box::pin(io), inline: None, peer: None }
    }

    /// Says what the handshake has learned of the peer: its certificate, or its address behind a proxy. It replaces
    /// [`Incoming::peer`]; the name of the listener stays.
    #[must_use]
    pub fn with_peer(mut self, peer: PeerInfo) -> ByteStream {
        self.peer = Some(Box::new(peer));
        self
    }

    /// What the handshake has learned of the peer, for a transport that is built on this one; see
    /// [`ByteStream::with_peer`].
    #[must_use]
    pub fn peer(&self) -> Option<&PeerInfo> {
        self.peer.as_deref()
    }

    /// Adds an inline writer, by which other tasks write to the stream. Bytes must leave in the order of the calls,
    /// whether they come through the stream or through `inline`, so a stream that buffers bytes, because it encrypts
    /// or frames them, needs a lock around them. The broker never lets two writes overlap. It may hold `inline` for a
    /// moment longer than the stream.
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

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_read(cx, buf)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_read_vectored(cx, bufs)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_close(cx)
    }
}

/// A stream that reads and writes, as a trait object.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}
