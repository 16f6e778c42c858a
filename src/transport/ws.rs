//! MQTT over WebSocket (RFC 6455; section 6 of both standards).
//!
//! tungstenite reads the request of the upgrade and the frame headers. The payload is not gathered into
//! messages, as that would take memory by the length that a header claims, before the bytes are there:
//! it is unmasked in the reader's own buffer as it comes, so that a connection holds no read buffer and
//! a frame may be of any size.

mod forwarded;
mod frame;
mod stream;
#[cfg(test)]
mod tests;
mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::tcp::TcpTransport;
use super::{ByteStream, Incoming, Transport};
use crate::limits::Limits;
use crate::network::Network;
use upgrade::{Rules, upgrade};

/// Listening TCP sockets whose peers upgrade to WebSocket.
///
/// A Client must request the served path and offer the subprotocol `mqtt` or `mqttv3.1`, or no subprotocol.
/// Otherwise it gets an HTTP response with the reason (404, 403, 400, 405, 426; 431 if the request is longer than
/// [`Limits`] allow). A query behind the path is ignored.
///
/// ```
/// use std::io::{Read, Write};
/// use hrotti::transport::{Transport, ws::WsTransport};
/// # futures_lite::future::block_on(async {
/// let mut transport = WsTransport::bind("127.0.0.1", 0, Some("/mqtt"), Vec::new()).await?;
/// let endpoint = transport.local_endpoint();
/// let address = endpoint.strip_prefix("ws://").and_then(|e| e.strip_suffix("/mqtt")).unwrap();
///
/// let mut client = std::net::TcpStream::connect(address)?;
/// client.write_all(b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
///     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")?;
/// client.shutdown(std::net::Shutdown::Write)?;
/// let incoming = transport.accept().await?;
/// assert!(incoming.handshake.await.is_err());
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct WsTransport {
    tcp: TcpTransport,
    rules: Arc<Rules>,
}

impl WsTransport {
    /// Listens on `host` and `port`, as [`TcpTransport::bind`] does, and serves `path`: `/` unless
    /// given, compared byte by byte with the path of the request.
    ///
    /// `origins` are the origins of pages that may connect, such as `https://example.com:8443`, in upper or lower
    /// case, with or without the scheme's default port. An empty list, the default of the configuration, allows pages
    /// of any origin. Requests without `Origin` do not come from a page in a browser and are accepted.
    ///
    /// # Errors
    /// As [`TcpTransport::bind`]; [`io::ErrorKind::InvalidInput`] if the path does not begin with `/`, or holds `?` or
    /// `#`, which no request's path can hold.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing bound.
    pub async fn bind(
        host: &str,
        port: u16,
        path: Option<&str>,
        origins: Vec<String>,
    ) -> io::Result<WsTransport> {
        let rules = Arc::new(Rules::new(path, &origins)?);
        Ok(WsTransport { tcp: TcpTransport::bind(host, port).await?, rules })
    }

    /// As [`WsTransport::bind`], over sockets that are bound.
    ///
    /// # Errors
    /// As [`WsTransport::bind`], for the path.
    pub(crate) fn over(
        tcp: TcpTransport,
        path: &str,
        origins: &[String],
    ) -> io::Result<WsTransport> {
        Ok(WsTransport { tcp, rules: Arc::new(Rules::new(Some(path), origins)?) })
    }

    /// As [`TcpTransport::with_limits`], and bounds the request of the upgrade by
    /// [`Limits::ws_request_bytes_max`] and [`Limits::ws_request_headers_max`].
    #[must_use]
    pub fn with_limits(mut self, limits: &Limits) -> WsTransport {
        Arc::make_mut(&mut self.rules).set_limits(limits);
        self.tcp = self.tcp.with_limits(limits);
        self
    }

    /// Trusts the proxies in these networks: the address of their Clients is the one that `Forwarded` (RFC 7239) or
    /// `X-Forwarded-For` names, which becomes [`Incoming::peer`]. Of a list it is the right-most address outside of the
    /// trusted networks. A proxy that names no address, or different ones in the two headers, is refused with 400.
    /// The headers of other peers are ignored. Without this call no proxy is trusted.
    #[must_use]
    pub fn with_forwarded_for(mut self, proxies: Vec<Network>) -> WsTransport {
        Arc::make_mut(&mut self.rules).set_proxies(proxies);
        self
    }

    /// The first bound address: an IPv4 address if there is one.
    pub fn local_addr(&self) -> SocketAddr {
        self.tcp.local_addr()
    }

    /// All bound addresses, at least one.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.tcp.local_addrs()
    }

    fn endpoint(&self, local: SocketAddr) -> String {
        format!("ws://{local}{}", self.rules.path())
    }
}

/// WebSocket over another transport, such as TLS. Clients upgrade as with [`WsTransport`].
///
/// ```
/// use hrotti::Limits;
/// use hrotti::transport::{Transport, memory::MemoryTransport, ws::WsOver};
///
/// let (memory, _connector) = MemoryTransport::new("inside", 1024);
/// let transport = WsOver::new(memory, Some("/mqtt"), &[], &Limits::default())?;
/// assert_eq!(transport.local_endpoint(), "ws+memory://inside/mqtt");
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct WsOver<T> {
    inner: T,
    rules: Arc<Rules>,
}

impl<T: Transport> WsOver<T> {
    /// Serves `path` and `origins` as [`WsTransport::bind`] does, with the bounds of [`WsTransport::with_limits`].
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the path does not begin with `/`, or holds `?` or `#`.
    pub fn new(
        inner: T,
        path: Option<&str>,
        origins: &[String],
        limits: &Limits,
    ) -> io::Result<WsOver<T>> {
        let mut rules = Rules::new(path, origins)?;
        rules.set_limits(limits);
        Ok(WsOver { inner, rules: Arc::new(rules) })
    }

    /// As [`WsTransport::with_forwarded_for`].
    #[must_use]
    pub fn with_forwarded_for(mut self, proxies: Vec<Network>) -> WsOver<T> {
        Arc::make_mut(&mut self.rules).set_proxies(proxies);
        self
    }

    fn endpoint(&self, inner: &str) -> String {
        let path = self.rules.path();
        let (scheme, rest) = inner.split_once("://").unwrap_or(("", inner));
        match scheme {
            "tcp" => format!("ws://{rest}{path}"),
            "mqtts" => format!("wss://{rest}{path}"),
            _ => format!("ws+{inner}{path}"),
        }
    }
}

impl<T: Transport> Transport for WsOver<T> {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let Incoming { peer, handshake } = self.inner.accept().await?;
        let (rules, accepted_from) = (self.rules.clone(), peer.clone());
        Ok(Incoming::with_handshake(peer, async move {
            let mut stream = handshake.await?;
            let learned = stream.peer.take();
            let from = learned.as_deref().unwrap_or(&accepted_from).address();
            let (upgraded, origin) = upgrade(stream, &rules, from.map(|at| at.ip())).await?;
            let upgraded = ByteStream::new(upgraded);
            Ok(match (origin, learned) {
                // A certificate would be the proxy's own.
                (Some(address), _) => upgraded.with_peer(address.into()),
                (None, Some(peer)) => upgraded.with_peer(*peer),
                (None, None) => upgraded,
            })
        }))
    }

    fn local_endpoint(&self) -> String {
        self.endpoint(&self.inner.local_endpoint())
    }

    fn local_endpoints(&self) -> Vec<String> {
        self.inner.local_endpoints().iter().map(|inner| self.endpoint(inner)).collect()
    }

    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<super::tls::TlsHandle> {
        self.inner.tls()
    }
}

impl Transport for WsTransport {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let (accepted, peer) = self.tcp.accept_stream().await?;
        let rules = self.rules.clone();
        Ok(Incoming::with_handshake(peer, async move {
            let upgraded = upgrade(accepted.into_stream()?, &rules, Some(peer.ip())).await?;
            let (stream, origin) = upgraded;
            let stream = ByteStream::new(stream);
            Ok(match origin {
                Some(address) => stream.with_peer(address.into()),
                None => stream,
            })
        }))
    }

    fn local_endpoint(&self) -> String {
        self.endpoint(self.local_addr())
    }

    fn local_endpoints(&self) -> Vec<String> {
        self.local_addrs().into_iter().map(|local| self.endpoint(local)).collect()
    }
}
