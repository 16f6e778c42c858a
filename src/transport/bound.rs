//! The transports that a URL can name, bound.

use std::io;

use super::tcp::TcpTransport;
use super::ws::WsTransport;
use super::{Incoming, Transport};
use crate::{Limits, ListenerConfig};

/// A transport that [`bind`] made.
#[derive(Debug)]
pub(crate) enum Bound {
    /// `tcp://`
    Tcp(TcpTransport),
    /// `ws://`
    Ws(WsTransport),
}

/// Binds what `config` names: `tcp` or `mqtt` (port 1883 unless given), or `ws` (port 80, path `/`). `limits`
/// say when the system closes a connection whose peer has vanished.
///
/// # Errors
/// As [`TcpTransport::bind`]; what [`ListenerConfig::validate`] refuses is [`io::ErrorKind::InvalidInput`].
pub(crate) async fn bind(config: &ListenerConfig, limits: &Limits) -> io::Result<Bound> {
    config.validate().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let (host, port) = (config.host(), config.port());
    if config.is_websocket() {
        let (path, origins) = (Some(config.path()), config.origins.clone());
        Ok(Bound::Ws(WsTransport::bind(host, port, path, origins).await?.with_limits(limits)))
    } else {
        Ok(Bound::Tcp(TcpTransport::bind(host, port).await?.with_limits(limits)))
    }
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

    fn local_endpoints(&self) -> Vec<String> {
        match self {
            Bound::Tcp(transport) => transport.local_endpoints(),
            Bound::Ws(transport) => transport.local_endpoints(),
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
        let tcp =
            block_on(bind(&config("tcp://127.0.0.1:0"), &Limits::default())).expect("a free port");
        assert!(
            matches!(tcp, Bound::Tcp(_)) && tcp.local_endpoint().starts_with("tcp://127.0.0.1:")
        );
        let ws = block_on(bind(&config("ws://127.0.0.1:0/mqtt"), &Limits::default()))
            .expect("a free port");
        assert!(ws.local_endpoint().starts_with("ws://127.0.0.1:"));
        assert!(ws.local_endpoint().ends_with("/mqtt"));
    }

    #[test]
    fn mqtt_is_another_name_of_tcp() {
        let bound = block_on(bind(&config("mqtt://127.0.0.1:0"), &Limits::default()));
        assert!(bound.expect("a free port").local_endpoint().starts_with("tcp://127.0.0.1:"));
    }

    #[test]
    fn other_schemes_are_refused() {
        let error = block_on(bind(&config("http://127.0.0.1:0"), &Limits::default()))
            .expect_err("not a transport");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_address_in_use_is_an_error() {
        let first =
            block_on(bind(&config("tcp://127.0.0.1:0"), &Limits::default())).expect("a free port");
        let again = block_on(bind(&config(&first.local_endpoint()), &Limits::default()))
            .expect_err("in use");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }
}
