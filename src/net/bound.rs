//! Binds the transport that the URL of a [`ListenerConfig`] names.

use std::io;

use crate::limits::Limits;
use crate::listener_config::ListenerConfig;
use crate::transport::tcp::TcpTransport;
use crate::transport::ws::WsTransport;
use crate::transport::{Incoming, Transport};

/// The bound transport of a [`ListenerConfig`], as [`ListenerConfig::bind`] returns it. It accepts peers once
/// [`Broker::add_transport`](crate::Broker::add_transport) has it.
#[derive(Debug)]
pub struct BoundListener(Kind);

#[derive(Debug)]
enum Kind {
    /// `tcp://`
    Tcp(TcpTransport),
    /// `ws://`
    Ws(WsTransport),
}

impl ListenerConfig {
    /// Binds the address without accepting peers, so that a program can bind several listeners before any of them
    /// accepts. `limits` has the TCP keep-alive settings; see [`TcpTransport::with_limits`].
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
    /// As [`TcpTransport::bind`]; [`io::ErrorKind::InvalidInput`] if [`ListenerConfig::validate`] refuses the
    /// configuration.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing bound.
    pub async fn bind(&self, limits: &Limits) -> io::Result<BoundListener> {
        self.validate().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        if self.is_tls() || self.is_unix() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let (host, port) = (self.host(), self.port());
        Ok(BoundListener(if self.is_websocket() {
            let (path, origins) = (Some(self.path()), self.origins.clone());
            Kind::Ws(WsTransport::bind(host, port, path, origins).await?.with_limits(limits))
        } else {
            Kind::Tcp(TcpTransport::bind(host, port).await?.with_limits(limits))
        }))
    }
}

impl Transport for BoundListener {
    async fn accept(&mut self) -> io::Result<Incoming> {
        match &mut self.0 {
            Kind::Tcp(transport) => transport.accept().await,
            Kind::Ws(transport) => transport.accept().await,
        }
    }

    fn local_endpoint(&self) -> String {
        match &self.0 {
            Kind::Tcp(transport) => transport.local_endpoint(),
            Kind::Ws(transport) => transport.local_endpoint(),
        }
    }

    fn local_endpoints(&self) -> Vec<String> {
        match &self.0 {
            Kind::Tcp(transport) => transport.local_endpoints(),
            Kind::Ws(transport) => transport.local_endpoints(),
        }
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
            matches!(tcp, BoundListener(Kind::Tcp(_)))
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
}
