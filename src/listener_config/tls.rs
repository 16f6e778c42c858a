//! The files and demands of a TLS listener.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::transport::tls::{CertificateName, ClientCertificate, TlsVersion};

/// The certificate files of a TLS listener, and what it demands of its Clients.
///
/// All files are PEM. The private key is PKCS#8, PKCS#1 or SEC1, not encrypted.
///
/// ```
/// use hrotti::{ListenerConfig, TlsConfig};
///
/// let tls = TlsConfig::new("server.pem", "server.key").relative_to("/etc/hrotti".as_ref());
/// assert_eq!(tls.key, std::path::Path::new("/etc/hrotti/server.key"));
/// let listener = ListenerConfig::new("mqtts://0.0.0.0")?.with_tls(tls)?;
/// assert_eq!(listener.port(), 8883);
/// # Ok::<(), hrotti::ListenerConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// The server's certificate, followed by those of intermediate authorities.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The authorities that issue Clients' certificates. Default: none, and no certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether Clients show a certificate. Default: required if there is a `client_ca`, else none.
    pub client_certificate: Option<ClientCertificate>,
    /// The name in a Client's certificate that is its user name, whatever CONNECT says. Default: none; the user name
    /// is that of CONNECT.
    pub user_name: Option<CertificateName>,
    /// Revocation lists, each file with one or more. If there is any, each certificate of a Client's chain needs a
    /// list of its issuer that has not expired; otherwise the Client is refused.
    pub crl: Vec<PathBuf>,
    /// The oldest version that is served. Default 1.2.
    pub minimum_version: TlsVersion,
}

impl TlsConfig {
    /// A certificate and its key; Clients show no certificate.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> TlsConfig {
        TlsConfig {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: None,
            client_certificate: None,
            user_name: None,
            crl: Vec::new(),
            minimum_version: TlsVersion::default(),
        }
    }

    /// The same with its relative paths under `base`, for example the directory of the configuration file.
    #[must_use]
    pub fn relative_to(mut self, base: &Path) -> TlsConfig {
        let paths = [&mut self.certificate, &mut self.key].into_iter();
        for path in paths.chain(&mut self.client_ca).chain(&mut self.crl) {
            *path = base.join(&path);
        }
        self
    }

    /// What is asked of Clients.
    #[must_use]
    pub fn client_certificate(&self) -> ClientCertificate {
        let default = match self.client_ca {
            Some(_) => ClientCertificate::Required,
            None => ClientCertificate::None,
        };
        self.client_certificate.unwrap_or(default)
    }

    /// What contradicts itself, with the remedy.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let asks = self.client_certificate() != ClientCertificate::None;
        let has_ca = self.client_ca.is_some();
        if asks && !has_ca {
            Some(
                "clientCertificate needs clientCa; add the file with the authorities of the Clients",
            )
        } else if has_ca && !asks {
            Some("clientCa has no effect with clientCertificate \"none\"; remove one of the two")
        } else if self.user_name.is_some() && !asks {
            Some("userName needs Clients' certificates; add clientCa, or remove userName")
        } else if !self.crl.is_empty() && !asks {
            Some("crl needs Clients' certificates; add clientCa, or remove crl")
        } else {
            None
        }
    }
}

/// What Clients have to show, for `-check`.
impl fmt::Display for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS {} or newer", self.minimum_version.name())?;
        write!(f, ", client certificate {}", self.client_certificate().name())?;
        match self.user_name {
            Some(name) => write!(f, ", user name {}", name.name()),
            None => Ok(()),
        }
    }
}
