//! The PROXY protocol, versions 1 and 2: a proxy in front of a listener says the address of the peer in a header
//! before the peer's first byte.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;

use futures_io::AsyncRead;

use super::{ByteStream, CertificateNames, Incoming, ListeningSockets, PeerInfo, Transport};
use crate::limits::Limits;
use crate::network::Network;

mod header;
#[cfg(test)]
mod tests;

pub(crate) use header::{Header, Parsed, Source, parse};

/// A transport whose peers are proxies that speak the PROXY protocol.
///
/// The handshake reads the header, exactly, and the peer's address becomes the one in the header. A connection from
/// outside of the trusted networks is closed before its first byte is read, and a connection that does not begin with a
/// header is closed, too: otherwise any Client could claim any address. The time for the header is
/// [`Limits::handshake_timeout`], its size is bounded by [`Limits::proxy_header_bytes_max`].
///
/// The proxy's own connections (`LOCAL`), and those whose origin it does not know (`UNKNOWN`), keep the address of the
/// proxy. Datagrams are refused. Of the TLVs the Common Name of a certificate is kept that the proxy has verified:
/// [`CertificateNames::common_name`]. Others are ignored.
///
/// ```
/// use std::io::Write;
///
/// use hrotti::transport::proxy_protocol::ProxyProtocol;
/// use hrotti::transport::tcp::TcpTransport;
/// use hrotti::transport::Transport;
/// # futures_lite::future::block_on(async {
/// let tcp = TcpTransport::bind("127.0.0.1", 0).await?;
/// let address = tcp.local_addr();
/// let mut transport = ProxyProtocol::new(tcp, vec!["127.0.0.0/8".parse()?]);
///
/// let mut proxy = std::net::TcpStream::connect(address)?;
/// proxy.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\n")?;
/// let stream = transport.accept().await?.handshake.await?;
/// assert_eq!(stream.peer().map(|peer| peer.to_string()).as_deref(), Some("192.0.2.7:50000"));
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct ProxyProtocol<T> {
    inner: T,
    trusted: Arc<[Network]>,
    header_bytes_max: usize,
}

impl<T: Transport> ProxyProtocol<T> {
    /// Expects a header on each connection from one of these networks, and refuses all others. The empty list refuses
    /// all.
    #[must_use]
    pub fn new(inner: T, trusted: Vec<Network>) -> ProxyProtocol<T> {
        let header_bytes_max = Limits::default().proxy_header_bytes_max;
        ProxyProtocol { inner, trusted: trusted.into(), header_bytes_max }
    }

    /// Bounds the header by [`Limits::proxy_header_bytes_max`]. Without this call its default applies.
    #[must_use]
    pub fn with_limits(mut self, limits: &Limits) -> ProxyProtocol<T> {
        self.header_bytes_max = limits.proxy_header_bytes_max;
        self
    }
}

impl<T: Transport> Transport for ProxyProtocol<T> {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let Incoming { peer, handshake } = self.inner.accept().await?;
        if !is_trusted(&peer, &self.trusted) {
            let error = io::Error::new(
                ErrorKind::PermissionDenied,
                "the peer is in none of the networks of the proxies",
            );
            return Ok(Incoming::with_handshake(peer, async { Err(error) }));
        }
        let (proxy, trusted) = (peer.clone(), self.trusted.clone());
        let bytes_max = self.header_bytes_max;
        Ok(Incoming::with_handshake(peer, async move {
            let mut stream = handshake.await?;
            if stream.peer().is_some_and(|learned| !is_trusted(learned, &trusted)) {
                return Err(ErrorKind::PermissionDenied.into());
            }
            let header = read_header(&mut stream, bytes_max).await?;
            Ok(with_origin(stream, proxy, header))
        }))
    }

    fn local_endpoint(&self) -> String {
        self.inner.local_endpoint()
    }

    fn local_endpoints(&self) -> Vec<String> {
        self.inner.local_endpoints()
    }

    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<super::tls::TlsHandle> {
        self.inner.tls()
    }

    fn sockets(&self) -> ListeningSockets {
        self.inner.sockets()
    }
}

impl<T> fmt::Debug for ProxyProtocol<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyProtocol").field("trusted", &self.trusted).finish_non_exhaustive()
    }
}

fn is_trusted(peer: &PeerInfo, trusted: &[Network]) -> bool {
    peer.address().is_some_and(|address| Network::any_contains(trusted, address.ip()))
}

/// Reads a header and no byte more, so that the stream needs no buffer before it.
async fn read_header(stream: &mut ByteStream, bytes_max: usize) -> io::Result<Header> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes, bytes_max) {
            Parsed::Whole(header) => return Ok(header),
            Parsed::Invalid(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            Parsed::Partial(missing) => {
                let mut chunk = [0; 256];
                let chunk = &mut chunk[..missing.min(256)];
                match poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, chunk)).await? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    read => bytes.extend_from_slice(&chunk[..read]),
                }
            }
        }
    }
}

/// The stream with what the header says of the peer.
fn with_origin(stream: ByteStream, proxy: PeerInfo, header: Header) -> ByteStream {
    let peer = match header.source {
        Source::Connection if header.common_name.is_none() => return stream,
        Source::Connection => proxy,
        Source::Address(address) => address.into(),
        Source::Unix(path) => PeerInfo::from(format!("unix:{}", path.escape_debug())),
    };
    stream.with_peer(match header.common_name {
        None => peer,
        Some(name) => {
            peer.with_identity(CertificateNames { common_name: Some(name), ..Default::default() })
        }
    })
}
