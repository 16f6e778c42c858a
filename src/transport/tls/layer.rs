//! TLS over any transport, and the material that it can be given while it runs.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_io::{AsyncRead, AsyncWrite};
use rustls::HandshakeKind;
use rustls::pki_types::UnixTime;
use rustls::server::UnbufferedServerConnection;

use super::material::{Server, TlsErrors, TlsMaterial};
use super::stream::TlsStream;
use super::{errors, names};
use crate::limits::Limits;
use crate::runtime;
use crate::sync::lock;
use crate::transport::{
    ByteStream, CertificateNames, Incoming, ListeningSockets, PeerInfo, Transport,
};

/// The protocols that Clients may offer by ALPN; the second is that of AWS IoT's clients.
const MQTT: &[&[u8]] = &[b"mqtt", b"x-amzn-mqtt-ca"];
const WEBSOCKET: &[&[u8]] = &[b"http/1.1"];

/// After a refusal, how much more of the peer's bytes is read, and for how long: closing a socket with unread bytes
/// resets it, and the peer might lose the alert.
const DISCARD_MAX: usize = 64 * 1024;
const FAREWELL_TIME: Duration = Duration::from_millis(250);

/// TLS over another transport. The handshake is part of [`Incoming::handshake`].
///
/// TLS 1.2 and 1.3 with forward secrecy and authenticated encryption; no early data and no renegotiation. Clients
/// offer `mqtt` by ALPN, or nothing. A Client whose certificate was verified has
/// [`PeerIdentity::Certificate`](crate::transport::PeerIdentity::Certificate).
///
/// ```no_run
/// use hrotti::transport::tcp::TcpTransport;
/// use hrotti::transport::tls::{TlsMaterial, TlsTransport};
/// use hrotti::{Broker, Limits};
/// # async fn serve(broker: Broker) -> Result<(), Box<dyn std::error::Error>> {
/// let material = TlsMaterial::new(std::fs::read("server.pem")?, std::fs::read("server.key")?);
/// let tcp = TcpTransport::bind("*", 8883).await?;
/// let transport = TlsTransport::new(tcp, &material, &Limits::default())?;
/// broker.add_transport("secure", transport).await?;
/// # Ok(()) }
/// ```
pub struct TlsTransport<T> {
    inner: T,
    handle: TlsHandle,
}

impl<T: Transport> TlsTransport<T> {
    /// Checks the material and puts TLS over `inner`. Warnings, such as an expired certificate, are logged.
    /// [`Limits::tls_sessions_max`] bounds the Sessions of TLS that are kept for resumption.
    ///
    /// # Errors
    /// As [`TlsMaterial::check`].
    pub fn new(
        inner: T,
        material: &TlsMaterial,
        limits: &Limits,
    ) -> Result<TlsTransport<T>, TlsErrors> {
        TlsTransport::with_protocols(inner, material, limits, MQTT)
    }

    /// As [`TlsTransport::new`], for a WebSocket above it: Clients offer `http/1.1` by ALPN, or nothing.
    ///
    /// # Errors
    /// As [`TlsMaterial::check`].
    pub fn for_websocket(
        inner: T,
        material: &TlsMaterial,
        limits: &Limits,
    ) -> Result<TlsTransport<T>, TlsErrors> {
        TlsTransport::with_protocols(inner, material, limits, WEBSOCKET)
    }

    fn with_protocols(
        inner: T,
        material: &TlsMaterial,
        limits: &Limits,
        protocols: &'static [&'static [u8]],
    ) -> Result<TlsTransport<T>, TlsErrors> {
        let sessions_max = limits.tls_sessions_max;
        let server = material.compile(protocols, sessions_max)?;
        server.warn();
        let shared = Shared { current: Mutex::new(Arc::new(server)), protocols, sessions_max };
        Ok(TlsTransport { inner, handle: TlsHandle(Arc::new(shared)) })
    }

    /// A handle to replace the material while the transport is in use.
    pub fn handle(&self) -> TlsHandle {
        self.handle.clone()
    }

    /// The transport below.
    pub fn inner(&self) -> &T {
        &self.inner
    }
}

impl<T: Transport> Transport for TlsTransport<T> {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let Incoming { peer, handshake } = self.inner.accept().await?;
        let server = self.handle.current();
        Ok(Incoming::with_handshake(peer.clone(), async move {
            let mut stream = handshake.await?;
            let peer = stream.peer.take().map_or(peer, |learned| *learned);
            shake_hands(stream, peer, server).await
        }))
    }

    fn local_endpoint(&self) -> String {
        endpoint(&self.inner.local_endpoint())
    }

    fn local_endpoints(&self) -> Vec<String> {
        self.inner.local_endpoints().iter().map(|inner| endpoint(inner)).collect()
    }

    fn tls(&self) -> Option<TlsHandle> {
        Some(self.handle())
    }

    fn sockets(&self) -> ListeningSockets {
        self.inner.sockets()
    }
}

fn endpoint(inner: &str) -> String {
    match inner.strip_prefix("tcp://") {
        Some(rest) => format!("mqtts://{rest}"),
        None => format!("tls+{inner}"),
    }
}

impl<T: fmt::Debug> fmt::Debug for TlsTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsTransport").field(&self.inner).finish()
    }
}

/// Replaces the material of a [`TlsTransport`] while it is in use. Clones refer to the same transport.
#[derive(Clone)]
pub struct TlsHandle(Arc<Shared>);

struct Shared {
    current: Mutex<Arc<Server>>,
    protocols: &'static [&'static [u8]],
    sessions_max: usize,
}

impl TlsHandle {
    /// Replaces certificate, key, authorities and revocation lists together. Handshakes that begin afterwards use
    /// them; connections stay. No Session of TLS from before is resumed. Warnings are logged and returned.
    ///
    /// # Errors
    /// As [`TlsMaterial::check`]; the old material stays in use.
    pub fn replace(&self, material: &TlsMaterial) -> Result<Vec<String>, TlsErrors> {
        let server = material.compile(self.0.protocols, self.0.sessions_max)?;
        server.warn();
        let warnings = server.warnings.clone();
        *lock(&self.0.current) = Arc::new(server);
        Ok(warnings)
    }

    /// When the first certificate of the chain that is shown to Clients expires.
    #[must_use]
    pub fn certificate_expires_at(&self) -> Option<SystemTime> {
        self.current().expires_at
    }

    fn current(&self) -> Arc<Server> {
        lock(&self.0.current).clone()
    }
}

impl fmt::Debug for TlsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsHandle").finish_non_exhaustive()
    }
}

impl Server {
    fn warn(&self) {
        for warning in &self.warnings {
            log::warn!("{warning}");
        }
    }

    /// The names in the certificate of a peer that has finished its handshake, if it has shown one.
    fn names(&self, tls: &UnbufferedServerConnection) -> io::Result<Option<CertificateNames>> {
        let chain = tls.peer_certificates().unwrap_or_default();
        let (Some(verifier), Some((leaf, intermediates))) = (&self.verifier, chain.split_first())
        else {
            return Ok(None);
        };
        // A resumed Session of TLS has not shown it again: it may have expired, or its revocation list may have.
        if tls.handshake_kind() == Some(HandshakeKind::Resumed) {
            let verified = verifier.verify_client_cert(leaf, intermediates, UnixTime::now());
            verified.map_err(|error| errors::of_handshake(&error))?;
        }
        let names = names::read(leaf, self.user_name);
        names.map(Some).map_err(|what| io::Error::new(ErrorKind::PermissionDenied, what))
    }
}

async fn shake_hands(
    stream: ByteStream,
    peer: PeerInfo,
    server: Arc<Server>,
) -> io::Result<ByteStream> {
    let stream = TlsStream::new(stream, server.config.clone())?;
    let (mut stream, shaken) = stream.shake_hands().await;
    let named = match shaken {
        Ok(()) if stream.tls().peer_certificates().is_none() => Ok(None),
        Ok(()) => {
            let names;
            (stream, names) = stream.compute(move |apart| server.names(apart.tls())).await;
            names
        }
        Err(error) => Err(error),
    };
    match named {
        Ok(None) => Ok(ByteStream::new(stream).with_peer(peer)),
        Ok(Some(names)) => {
            let peer = peer.with_identity(names);
            Ok(ByteStream::new(stream).with_peer(peer))
        }
        Err(error) => {
            say_farewell(stream).await;
            Err(error)
        }
    }
}

/// Ends the connection after the alert, and reads what the peer still sends for a while.
async fn say_farewell(mut stream: TlsStream<ByteStream>) {
    runtime::timeout(FAREWELL_TIME, async move {
        if poll_fn(|cx| Pin::new(&mut stream).poll_close(cx)).await.is_err() {
            return;
        }
        let mut scrap = [0; 1024];
        for _ in 0..DISCARD_MAX / scrap.len() {
            let io = stream.io_mut();
            match poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut scrap)).await {
                Ok(1..) => {}
                _ => break,
            }
        }
    })
    .await;
}
