//! Binds the transport that the URL of a [`ListenerConfig`] names.

use std::io;

use crate::limits::Limits;
use crate::listener_config::ListenerConfig;
use crate::network::Network;
#[cfg(unix)]
use crate::transport::listening::unfit;
use crate::transport::proxy_protocol::ProxyProtocol;
use crate::transport::tcp::{TcpTransport, look_up};
#[cfg(feature = "tls")]
use crate::transport::tls::{TlsHandle, TlsMaterial, TlsTransport};
#[cfg(unix)]
use crate::transport::unix::{UnixTransport, listens_at};
use crate::transport::ws::{WsOver, WsTransport};
use crate::transport::{Incoming, ListeningSocket, ListeningSockets, Transport};

/// The bound transport of a [`ListenerConfig`], as [`ListenerConfig::bind`] returns it. It accepts peers once
/// [`Broker::add_transport`](crate::Broker::add_transport) has it.
#[derive(Debug)]
pub struct BoundListener(Kind, Box<str>);

#[derive(Debug)]
enum Kind {
    /// `tcp://`
    Tcp(TcpTransport),
    /// `ws://`
    Ws(WsTransport),
    /// `tcp://` behind proxies
    Proxied(ProxyProtocol<TcpTransport>),
    /// `ws://` behind proxies
    ProxiedWs(WsOver<ProxyProtocol<TcpTransport>>),
    /// `mqtts://`
    #[cfg(feature = "tls")]
    Tls(TlsTransport<Base>),
    /// `wss://`
    #[cfg(feature = "tls")]
    Wss(WsOver<TlsTransport<Base>>),
    /// `unix://`
    #[cfg(unix)]
    Unix(UnixTransport),
}

/// What a TLS listener shows and demands.
#[cfg(feature = "tls")]
pub(crate) type Material = TlsMaterial;
/// There is none in this build.
#[cfg(not(feature = "tls"))]
#[derive(Debug, Clone)]
pub(crate) enum Material {}

/// Where a listener is bound.
#[derive(Debug)]
pub(crate) enum Place {
    New,
    /// These sockets listen already.
    Sockets(Vec<ListeningSocket>),
    /// Beside the Unix socket that listens there, whose place is taken later.
    Beside,
}

impl BoundListener {
    /// Puts a Unix socket that was bound beside another one in its place.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn take_place(&mut self, config: &ListenerConfig) -> io::Result<()> {
        match (&mut self.0, config.socket_path()) {
            #[cfg(unix)]
            (Kind::Unix(socket), Some(path)) => socket.take_place(&path),
            _ => Ok(()),
        }
    }
}

fn invalid(error: Box<dyn std::error::Error + Send + Sync>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// What TLS is built on.
#[cfg(feature = "tls")]
#[derive(Debug)]
enum Base {
    Tcp(TcpTransport),
    Proxied(ProxyProtocol<TcpTransport>),
}

#[cfg(feature = "tls")]
impl Transport for Base {
    async fn accept(&mut self) -> io::Result<Incoming> {
        match self {
            Base::Tcp(transport) => transport.accept().await,
            Base::Proxied(transport) => transport.accept().await,
        }
    }

    fn local_endpoint(&self) -> String {
        match self {
            Base::Tcp(transport) => transport.local_endpoint(),
            Base::Proxied(transport) => transport.local_endpoint(),
        }
    }

    fn local_endpoints(&self) -> Vec<String> {
        match self {
            Base::Tcp(transport) => transport.local_endpoints(),
            Base::Proxied(transport) => transport.local_endpoints(),
        }
    }

    fn sockets(&self) -> ListeningSockets {
        match self {
            Base::Tcp(transport) => transport.sockets(),
            Base::Proxied(transport) => transport.sockets(),
        }
    }
}

impl ListenerConfig {
    /// Binds the address without accepting peers, so that a program can bind several listeners before any of them
    /// accepts. `limits` has the TCP keep-alive settings; see [`TcpTransport::with_limits`]. A TLS listener reads its
    /// files, which blocks.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, Limits, ListenerConfig, Transport};
    ///
    /// let config = ListenerConfig::new("tcp://127.0.0.1:0")?;
    /// let bound = block_on(config.bind(&Limits::default()))?;
    /// let endpoint = bound.local_endpoint();
    /// assert_eq!(block_on(Broker::new(100).add_transport("bound", bound))?, endpoint);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`TcpTransport::bind`] and, for a Unix socket, `UnixTransport::bind`; [`io::ErrorKind::InvalidInput`] if
    /// [`ListenerConfig::validate`] refuses the configuration, or if a certificate, a key or the like cannot be read
    /// or used: then the inner error is a `TlsErrors`. [`io::ErrorKind::Unsupported`] for TLS without the feature
    /// `tls`, and for Unix sockets on other systems.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing bound.
    pub async fn bind(&self, limits: &Limits) -> io::Result<BoundListener> {
        self.listen(Place::New, limits).await
    }

    /// As [`ListenerConfig::bind`], with sockets that listen already: those of a process that hands its listeners over,
    /// or of a service manager. Whether they listen where this configuration says is for
    /// [`ListenerConfig::fits`] to tell; it is not checked here. The permissions and the owner of a Unix socket's file
    /// stay.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Limits, ListenerConfig, ListeningSocket, Transport};
    ///
    /// let config = ListenerConfig::new("ws://127.0.0.1:0/mqtt")?;
    /// let socket = ListeningSocket::Tcp(std::net::TcpListener::bind("127.0.0.1:0")?);
    /// assert!(config.fits(&socket));
    /// let adopted = block_on(config.adopt(vec![socket], &Limits::default()))?;
    /// assert!(adopted.local_endpoint().ends_with("/mqtt"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`ListenerConfig::bind`], without those of binding; [`io::ErrorKind::InvalidInput`] if there is no socket, or
    /// one of another kind.
    ///
    /// # Cancel safety
    /// A dropped call drops the sockets.
    pub async fn adopt(
        &self,
        sockets: Vec<ListeningSocket>,
        limits: &Limits,
    ) -> io::Result<BoundListener> {
        self.listen(Place::Sockets(sockets), limits).await
    }

    /// Whether a socket listens where [`ListenerConfig::bind`] would. A host name is looked up, which blocks; port 0
    /// fits every port.
    #[must_use]
    pub fn fits(&self, socket: &ListeningSocket) -> bool {
        match socket.address() {
            None => self.fits_file(socket),
            Some(address) => {
                let places = look_up(self.host(), self.port()).unwrap_or_default();
                !self.is_unix()
                    && places.iter().any(|place| {
                        place.ip() == address.ip() && [0, address.port()].contains(&place.port())
                    })
            }
        }
    }

    #[cfg(unix)]
    fn fits_file(&self, socket: &ListeningSocket) -> bool {
        self.socket_path().is_some_and(|path| listens_at(socket, &path))
    }

    #[cfg(not(unix))]
    fn fits_file(&self, _: &ListeningSocket) -> bool {
        false
    }

    /// Listens with the files that the configuration names.
    async fn listen(&self, place: Place, limits: &Limits) -> io::Result<BoundListener> {
        self.validate().map_err(|error| invalid(error.into()))?;
        if self.is_tls() {
            return self.listen_with_files(place, limits).await;
        }
        self.bind_at(place, limits, None).await
    }

    /// Binds a listener whose configuration is valid.
    pub(crate) async fn bind_at(
        &self,
        place: Place,
        limits: &Limits,
        material: Option<&Material>,
    ) -> io::Result<BoundListener> {
        if self.is_unix() {
            return self.bind_file(place);
        }
        let tcp = match place {
            Place::Sockets(sockets) => TcpTransport::adopt(sockets)?,
            Place::New | Place::Beside => TcpTransport::bind(self.host(), self.port()).await?,
        };
        let tcp = tcp.with_limits(limits);
        let kind = match (material, self.is_tls()) {
            (Some(material), true) => self.with_tls_over(tcp, limits, material)?,
            (None, false) => self.over(tcp, limits)?,
            (None, true) => return Err(invalid("a TLS listener needs a certificate".into())),
            (Some(_), false) => {
                return Err(invalid("a listener without TLS has no certificate".into()));
            }
        };
        Ok(BoundListener(kind, self.to_string().into()))
    }

    fn over(&self, tcp: TcpTransport, limits: &Limits) -> io::Result<Kind> {
        let (path, origins) = (self.path(), &self.origins);
        let forwarded_for = self.rules.forwarded_for.clone();
        let proxied = |proxies: &[Network], tcp| {
            ProxyProtocol::new(tcp, proxies.to_vec()).with_limits(limits)
        };
        Ok(match (&self.rules.proxy_protocol, self.is_websocket()) {
            (None, false) => Kind::Tcp(tcp),
            (None, true) => {
                let ws = WsTransport::over(tcp, Some(path), origins)?.with_limits(limits);
                Kind::Ws(ws.with_forwarded_for(forwarded_for))
            }
            (Some(proxies), false) => Kind::Proxied(proxied(proxies, tcp)),
            (Some(proxies), true) => {
                let ws = WsOver::new(proxied(proxies, tcp), Some(path), origins, limits)?;
                Kind::ProxiedWs(ws.with_forwarded_for(forwarded_for))
            }
        })
    }

    #[cfg(feature = "tls")]
    async fn listen_with_files(&self, place: Place, limits: &Limits) -> io::Result<BoundListener> {
        let missing = || io::Error::from(io::ErrorKind::InvalidInput);
        let material = self.tls.as_ref().ok_or_else(missing)?.load();
        let material = material.map_err(|error| invalid(error.into()))?;
        self.listen_with_tls(place, limits, &material).await
    }

    #[cfg(not(feature = "tls"))]
    async fn listen_with_files(
        &self,
        _place: Place,
        _limits: &Limits,
    ) -> io::Result<BoundListener> {
        let text = "this program was built without TLS (the feature `tls`)";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }

    /// As [`ListenerConfig::bind`], for a TLS listener whose certificate is in memory: [`ListenerConfig::tls`] is not
    /// used.
    ///
    /// # Errors
    /// As [`ListenerConfig::bind`]; [`io::ErrorKind::InvalidInput`] if it is not a TLS listener.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing bound.
    #[cfg(feature = "tls")]
    pub async fn bind_with_tls(
        &self,
        limits: &Limits,
        material: &TlsMaterial,
    ) -> io::Result<BoundListener> {
        self.listen_with_tls(Place::New, limits, material).await
    }

    /// As [`ListenerConfig::adopt`] and [`ListenerConfig::bind_with_tls`].
    ///
    /// # Errors
    /// As both.
    ///
    /// # Cancel safety
    /// A dropped call drops the sockets.
    #[cfg(feature = "tls")]
    pub async fn adopt_with_tls(
        &self,
        sockets: Vec<ListeningSocket>,
        limits: &Limits,
        material: &TlsMaterial,
    ) -> io::Result<BoundListener> {
        self.listen_with_tls(Place::Sockets(sockets), limits, material).await
    }

    #[cfg(feature = "tls")]
    async fn listen_with_tls(
        &self,
        place: Place,
        limits: &Limits,
        material: &TlsMaterial,
    ) -> io::Result<BoundListener> {
        self.validate_without_tls().map_err(|error| invalid(error.into()))?;
        self.bind_at(place, limits, Some(material)).await
    }

    #[cfg(feature = "tls")]
    fn with_tls_over(
        &self,
        tcp: TcpTransport,
        limits: &Limits,
        material: &Material,
    ) -> io::Result<Kind> {
        let base = match &self.rules.proxy_protocol {
            Some(proxies) => {
                Base::Proxied(ProxyProtocol::new(tcp, proxies.clone()).with_limits(limits))
            }
            None => Base::Tcp(tcp),
        };
        Ok(if self.is_websocket() {
            let tls = TlsTransport::for_websocket(base, material, limits);
            let tls = tls.map_err(|errors| invalid(errors.into()))?;
            let ws = WsOver::new(tls, Some(self.path()), &self.origins, limits)?;
            Kind::Wss(ws.with_forwarded_for(self.rules.forwarded_for.clone()))
        } else {
            let tls = TlsTransport::new(base, material, limits);
            Kind::Tls(tls.map_err(|errors| invalid(errors.into()))?)
        })
    }

    #[cfg(not(feature = "tls"))]
    fn with_tls_over(&self, _: TcpTransport, _: &Limits, no: &Material) -> io::Result<Kind> {
        match *no {}
    }

    #[cfg(unix)]
    fn bind_file(&self, place: Place) -> io::Result<BoundListener> {
        let path = self.socket_path().ok_or(io::ErrorKind::InvalidInput)?;
        let socket = &self.socket;
        let owner = (socket.owner.as_deref(), socket.group.as_deref());
        let bound = match place {
            Place::New => UnixTransport::bind_as(&path, socket.mode, owner)?,
            Place::Beside => UnixTransport::bind_beside(&path, socket.mode, owner)?,
            Place::Sockets(mut sockets) => {
                let socket = sockets.pop().filter(|_| sockets.is_empty());
                let socket = socket.ok_or_else(|| unfit("a Unix listener needs one socket"))?;
                UnixTransport::adopt_for(socket, path)?
            }
        };
        Ok(BoundListener(Kind::Unix(bound), self.to_string().into()))
    }

    #[cfg(not(unix))]
    fn bind_file(&self, _place: Place) -> io::Result<BoundListener> {
        let text = "there are no Unix sockets on this system";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }
}

/// Calls a method of the transport, whichever it is.
macro_rules! each {
    ($kind:expr, $transport:ident => $call:expr) => {
        match $kind {
            Kind::Tcp($transport) => $call,
            Kind::Ws($transport) => $call,
            Kind::Proxied($transport) => $call,
            Kind::ProxiedWs($transport) => $call,
            #[cfg(feature = "tls")]
            Kind::Tls($transport) => $call,
            #[cfg(feature = "tls")]
            Kind::Wss($transport) => $call,
            #[cfg(unix)]
            Kind::Unix($transport) => $call,
        }
    };
}

impl Transport for BoundListener {
    async fn accept(&mut self) -> io::Result<Incoming> {
        each!(&mut self.0, transport => transport.accept().await)
    }

    fn local_endpoint(&self) -> String {
        each!(&self.0, transport => transport.local_endpoint())
    }

    fn local_endpoints(&self) -> Vec<String> {
        each!(&self.0, transport => transport.local_endpoints())
    }

    fn url(&self) -> Option<String> {
        Some(self.1.to_string())
    }

    fn sockets(&self) -> ListeningSockets {
        each!(&self.0, transport => transport.sockets())
    }

    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<TlsHandle> {
        each!(&self.0, transport => transport.tls())
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    fn config(url: &str) -> ListenerConfig {
        let mut config = ListenerConfig::new("tcp://*").expect("a URL");
        config.url = url.parse().expect("a URL");
        config
    }

    #[test]
    fn the_scheme_chooses_the_transport() {
        let tcp =
            block_on(config("tcp://127.0.0.1:0").bind(&Limits::default())).expect("a free port");
        assert!(
            matches!(tcp, BoundListener(Kind::Tcp(_), _))
                && tcp.local_endpoint().starts_with("tcp://127.0.0.1:")
        );
        let ws = block_on(config("ws://127.0.0.1:0/mqtt").bind(&Limits::default()))
            .expect("a free port");
        assert!(ws.local_endpoint().starts_with("ws://127.0.0.1:"));
        assert!(ws.local_endpoint().ends_with("/mqtt"));
    }

    #[test]
    fn mqtt_is_another_name_of_tcp() {
        let bound = block_on(config("mqtt://127.0.0.1:0").bind(&Limits::default()));
        assert!(bound.expect("a free port").local_endpoint().starts_with("tcp://127.0.0.1:"));
    }

    #[test]
    fn other_schemes_are_refused() {
        let error = block_on(config("http://127.0.0.1:0").bind(&Limits::default()))
            .expect_err("not a transport");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_address_in_use_is_an_error() {
        let first =
            block_on(config("tcp://127.0.0.1:0").bind(&Limits::default())).expect("a free port");
        let again =
            block_on(config(&first.local_endpoint()).bind(&Limits::default())).expect_err("in use");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_tls_listener_without_its_files_is_not_bound_pitfall_10() {
        let bind = |config: &ListenerConfig| block_on(config.bind(&Limits::default()));
        for url in ["mqtts://127.0.0.1:0", "tls://127.0.0.1:0", "wss://127.0.0.1:0"] {
            let error = bind(&config(url)).expect_err("no certificate");
            assert!(error.to_string().contains("needs a certificate"), "{error}");
            let mut config = config(url);
            config.tls = Some(crate::TlsConfig::new("no-such.pem", "no-such.key"));
            let error = bind(&config).expect_err("no such files");
            if cfg!(feature = "tls") {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
                assert_eq!(lines.len(), 2, "{lines:?}");
                assert!(lines[1].starts_with("no-such.key: cannot be read: "), "{lines:?}");
            } else {
                assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            }
        }
    }

    /// The socket of `url`, bound and given up by one transport and taken by another one.
    fn handed(url: &str) -> (ListenerConfig, BoundListener, String) {
        let config = config(url);
        let bound = block_on(config.bind(&Limits::default())).expect("a free place");
        let (sockets, endpoint) = (bound.sockets(), bound.local_endpoint());
        let handed = sockets.duplicate().expect("a descriptor is left");
        assert!(handed.iter().all(|socket| config.fits(socket)), "{url}");
        sockets.keep_files(true);
        drop(bound);
        let adopted = block_on(config.adopt(handed, &Limits::default())).expect(url);
        assert!(sockets.duplicate().expect("nothing to do").is_empty(), "none is held open");
        (config, adopted, endpoint)
    }

    #[test]
    fn sockets_change_hands_with_the_peers_that_wait_in_them() {
        for url in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/mqtt", "tcp://*:0"] {
            let (config, mut adopted, endpoint) = handed(url);
            assert_eq!(adopted.local_endpoint(), endpoint);
            let sockets = adopted.sockets().duplicate().expect("a descriptor is left");
            let port = sockets[0].address().expect("TCP").port();
            assert!(config.fits(&sockets[0]) && adopted.local_endpoints().len() == sockets.len());
            drop(sockets);
            let peer = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            let incoming = block_on(adopted.accept()).expect("a peer waits");
            assert_eq!(incoming.peer.address(), peer.local_addr().ok());
        }
    }

    #[test]
    #[cfg(unix)]
    fn the_file_of_a_unix_socket_goes_with_the_last_that_has_it() {
        let name = format!("hrotti-handed-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let (config, mut adopted, endpoint) = handed(&format!("unix://{}", path.display()));
        assert_eq!(adopted.local_endpoint(), endpoint);
        let _peer =
            std::os::unix::net::UnixStream::connect(&path).expect("the file is still there");
        assert!(block_on(adopted.accept()).is_ok());
        let tcp = ListeningSocket::Tcp(std::net::TcpListener::bind("127.0.0.1:0").expect("free"));
        assert!(!config.fits(&tcp));
        assert!(block_on(config.adopt(vec![tcp], &Limits::default())).is_err());
        assert!(block_on(config.adopt(Vec::new(), &Limits::default())).is_err());
        drop(adopted);
        assert!(!path.exists());
    }

    #[test]
    #[cfg(unix)]
    fn only_a_socket_that_listens_is_taken() {
        use std::os::fd::OwnedFd;

        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let peer = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
        let socket = ListeningSocket::try_from(OwnedFd::from(listener)).expect("it listens");
        assert!(!config("tcp://127.0.0.2:0").fits(&socket));
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let file = std::fs::File::open("/dev/null").expect("a file");
        let others = [OwnedFd::from(peer.expect("listening")), one.into(), file.into()];
        for other in others {
            let error = ListeningSocket::try_from(other).expect_err("it does not listen");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_path_is_bound_as_a_unix_socket() {
        let name = format!("hrotti-bound-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let url = format!("unix://{}", path.display());
        let bound = block_on(config(&url).bind(&Limits::default())).expect("a free path");
        assert_eq!((bound.local_endpoint(), bound.local_endpoints().len()), (url, 1));
        drop(bound);
        assert!(!path.exists());
    }
}
