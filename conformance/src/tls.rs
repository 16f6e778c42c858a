//! Brokers behind TLS: a byte bridge on loopback speaks TLS to them, so that every client reaches them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use async_io::Async;
use futures_rustls::TlsConnector;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::pki_types::{CertificateDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

use crate::bridge::{self, Dial, Duplex};
use crate::target::Endpoint;

/// The authorities that a broker's certificate may come from.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    /// Reads PEM text with one or more certificates of authorities.
    ///
    /// # Errors
    /// There is none in it, or one cannot be used.
    pub fn from_pem(text: &[u8]) -> io::Result<Trust> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(text) {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        if roots.is_empty() {
            return Err(io::Error::other("there is no certificate in it"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust(TlsConnector::from(Arc::new(config))))
    }

    /// A broker at `mqtts://HOST:PORT`, `tls://HOST:PORT` or `wss://HOST:PORT/PATH`, seen through a bridge.
    ///
    /// # Errors
    /// Another scheme, a host that does not resolve, or no loopback port for the bridge.
    pub fn endpoint(&self, url: &str) -> io::Result<Endpoint> {
        let url = Url::parse(url).map_err(io::Error::other)?;
        let port = match url.scheme() {
            "mqtts" | "tls" => 8883,
            "wss" => 443,
            other => return Err(io::Error::other(format!("{other} is no scheme of TLS"))),
        };
        let found = url.socket_addrs(|| Some(port))?;
        let address = *found.first().ok_or_else(|| io::Error::other("no address"))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let near = bridge::open(self.dial(address, name))?;
        Ok(if url.scheme() == "wss" {
            let near = format!("ws://{near}{}", url.path());
            Endpoint::Ws(Url::parse(&near).map_err(io::Error::other)?)
        } else {
            Endpoint::Tcp(near)
        })
    }

    fn dial(&self, address: SocketAddr, name: ServerName<'static>) -> Dial {
        let connector = self.0.clone();
        Arc::new(move || {
            let (connector, name) = (connector.clone(), name.clone());
            Box::pin(async move {
                let socket = Async::<TcpStream>::connect(address).await?;
                socket.get_ref().set_nodelay(true)?;
                let stream = connector.connect(name, socket).await?;
                Ok(Box::new(stream) as Box<dyn Duplex>)
            })
        })
    }
}
