//! MQTT over TLS 1.2 and 1.3.

mod options;

pub use options::{CertificateName, ClientCertificate, TlsVersion};
