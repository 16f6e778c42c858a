//! The transports that a URL can name, bound.

use std::io;

use super::tcp::TcpTransport;
use super::ws::WsTransport;
use super::{Incoming, Transport};
use crate::ListenerConfig;

/// A transport that [`bind`] made.
#[derive(Debug)]
pub(crate) enum Bound {
    /// `tcp://`
    Tcp(TcpTransport),
    /// `ws://`
    Ws(WsTransport),
}

/// Binds what `config` names: `tcp` (port 1883 unless given) or `ws` (port 80, path `/`).
///
/// # Errors
/// As [`TcpTransport::bind`]; any other scheme, or no host, is [`io::ErrorKind::InvalidInput`].
pub(crate) async fn bind(config: &ListenerConfig) -> io::Result<Bound> {
    let url = &config.url;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("no host"))?;
    match url.scheme() {
        "tcp" => {
            let port = url.port().unwrap_or(1883);
            Ok(Bound::Tcp(TcpTransport::bind(host, port).await?))
        }
        "ws" => {
            let port = url.port().unwrap_or(80); // a `Url` leaves out the scheme's own
            let path = Some(url.path()).filter(|path| !path.is_empty());
            Ok(Bound::Ws(WsTransport::bind(host, port, path, config.origins.clone()).await?))
        }
        _ => Err(invalid("the scheme is neither tcp nor ws")),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl Transport for Bound {
    async fn accept(&mut self) -> io::Result<Incoming> {
        match self {
            Bound::Tcp(transport) => transport.accept().await,
            Bound::Ws(transport) => transport.accept().await,
        }
    }

    fn local_endpoint(&self) -> String {
        match self {
            Bound::Tcp(transport) => transport.local_endpoint(),
            Bound::Ws(transport) => transport.local_endpoint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    fn config(url: &str) -> ListenerConfig {
        ListenerConfig { url: url.parse().expect("a URL"), origins: Vec::new() }
    }

    #[test]
    fn the_scheme_chooses_the_transport() {
        let tcp = block_on(bind(&config("tcp://127.0.0.1:0"))).expect("a free port");
        assert!(
            matches!(tcp, Bound::Tcp(_)) && tcp.local_endpoint().starts_with("tcp://127.0.0.1:")
        );
        let ws = block_on(bind(&config("ws://127.0.0.1:0/mqtt"))).expect("a free port");
        assert!(ws.local_endpoint().starts_with("ws://127.0.0.1:"));
        assert!(ws.local_endpoint().ends_with("/mqtt"));
    }

    #[test]
    fn other_schemes_are_refused() {
        let error = block_on(bind(&config("http://127.0.0.1:0"))).expect_err("not a transport");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_address_in_use_is_an_error() {
        let first = block_on(bind(&config("tcp://127.0.0.1:0"))).expect("a free port");
        let again = block_on(bind(&config(&first.local_endpoint()))).expect_err("in use");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }
}
