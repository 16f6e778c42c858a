//! MQTT over TLS 1.2 and 1.3, over any transport.
//!
//! rustls carries out the protocol, ring the cryptography. No certificate is looked up anywhere: a listener trusts the
//! authorities that it is given, for Clients, and nothing else. There are no pre-shared keys.

#[cfg(feature = "tls")]
mod errors;
#[cfg(feature = "tls")]
mod layer;
#[cfg(feature = "tls")]
mod material;
#[cfg(feature = "tls")]
mod names;
mod options;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "tls")]
mod stream;
#[cfg(all(test, feature = "tls"))]
mod tests;

#[cfg(feature = "tls")]
pub use layer::{TlsHandle, TlsTransport};
#[cfg(feature = "tls")]
pub use material::{TlsError, TlsErrors, TlsMaterial};
pub use options::{CertificateName, ClientCertificate, TlsVersion};
