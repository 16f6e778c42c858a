//! A certificate for 127.0.0.1, and listeners with it.

use std::io;
use std::sync::OnceLock;

use futures_lite::future::block_on;
use hrotti::transport::tls::TlsMaterial;
use hrotti::{Broker, Limits, ListenerConfig, Transport};
use hrotti_conformance::Endpoint;
use hrotti_conformance::tls::Trust;

/// The material of the listeners, and what clients trust. Made once in each test program.
fn made() -> &'static (TlsMaterial, Trust) {
    static MADE: OnceLock<(TlsMaterial, Trust)> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        let certificate = made.cert.pem();
        let trust = Trust::from_pem(certificate.as_bytes()).expect("a certificate");
        (TlsMaterial::new(certificate, made.signing_key.serialize_pem()), trust)
    })
}

/// Adds a listener, and a bridge to it.
pub(crate) fn bind(broker: &Broker, url: &str) -> io::Result<Endpoint> {
    let (material, trust) = made();
    let config = ListenerConfig::new(url).map_err(io::Error::other)?;
    let bound = block_on(config.bind_with_tls(&Limits::default(), material))?;
    let endpoint = bound.local_endpoint();
    block_on(broker.add_transport("case", bound)).map_err(io::Error::other)?;
    trust.endpoint(&endpoint)
}
