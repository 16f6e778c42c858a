//! A Client of TLS, by futures-rustls.

use std::io;
use std::sync::Arc;

use futures_lite::future::block_on;
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::authority::{Authority, Issued};
use crate::transport::memory::{MemoryConnector, MemoryStream, MemoryTransport};
use crate::transport::tls::{TlsMaterial, TlsTransport};
use crate::transport::{ByteStream, Incoming, Transport};
use crate::{Limits, transport};

pub(super) const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(super) const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What a Client of this authority's servers does.
pub(super) fn config(
    authority: &Authority,
    certificate: Option<&Issued>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    match certificate {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes());
            let chain = chain.collect::<Result<_, _>>().expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM");
            let key = ring::default_provider().key_provider.load_private_key(key).expect("a key");
            // Unlike `with_client_auth_cert`, this shows whatever it is given.
            let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
            builder.with_client_cert_resolver(Arc::new(shown))
        }
    }
}

/// A listener in memory, and how it is dialled.
pub(super) struct Listener {
    pub(super) transport: TlsTransport<MemoryTransport>,
    pub(super) connector: MemoryConnector,
}

/// Both ends of a connection, or the error of each.
pub(super) struct Shaken {
    pub(super) client: io::Result<TlsStream<MemoryStream>>,
    pub(super) server: io::Result<ByteStream>,
}

impl Listener {
    pub(super) fn new(material: &TlsMaterial) -> Listener {
        Listener::with_limits(material, &Limits::default())
    }

    pub(super) fn with_limits(material: &TlsMaterial, limits: &Limits) -> Listener {
        let capacity = MemoryTransport::DEFAULT_CAPACITY;
        let (memory, connector) = MemoryTransport::new("tls", capacity);
        let transport = TlsTransport::new(memory, material, limits).expect("good material");
        Listener { transport, connector }
    }

    /// A peer that was accepted.
    pub(super) fn accept(&mut self) -> (MemoryStream, Incoming) {
        let peer = self.connector.connect().expect("a listener");
        (peer, block_on(self.transport.accept()).expect("a peer"))
    }

    /// Dials with TLS as `server.test`.
    pub(super) fn dial(&mut self, config: &Arc<ClientConfig>) -> Shaken {
        let (peer, incoming) = self.accept();
        let name = ServerName::try_from("server.test").expect("a name");
        let connect = TlsConnector::from(config.clone()).connect(name, peer);
        let (client, server) = block_on(futures_lite::future::zip(
            async {
                let mut client = connect.await?;
                // With TLS 1.3 a Client learns of a refusal only by reading.
                if client.get_ref().1.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
                    futures_lite::AsyncWriteExt::flush(&mut client).await?;
                }
                Ok(client)
            },
            incoming.handshake,
        ));
        Shaken { client, server }
    }
}

impl Shaken {
    /// Both streams.
    pub(super) fn expect(self) -> (TlsStream<MemoryStream>, ByteStream) {
        (self.client.expect("the server is trusted"), self.server.expect("the Client is let in"))
    }

    /// The error that the server logs.
    pub(super) fn refusal(self) -> String {
        self.server.expect_err("the Client is refused").to_string()
    }

    /// The names of the Client.
    pub(super) fn names(self) -> Option<transport::CertificateNames> {
        let (_client, server) = self.expect();
        match server.peer?.identity()? {
            transport::PeerIdentity::Certificate(names) => Some(names.clone()),
            other => unreachable!("{other:?}"),
        }
    }
}
