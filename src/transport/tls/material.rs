//! Certificates, keys and revocation lists in memory, checked together.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ServerConfig, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{CertificateError, InconsistentKeys, RootCertStore, SupportedProtocolVersion};
use zeroize::Zeroizing;

use super::errors::is_version_1;
use super::{CertificateName, ClientCertificate, TlsVersion, names, pem};

/// Everything that a TLS listener needs, as PEM text in memory: the certificate chain, its private key, the authorities
/// of Clients, and revocation lists. It is checked as a whole when it is used.
///
/// ```
/// use hrotti::transport::tls::TlsMaterial;
///
/// let material = TlsMaterial::new("no certificate", "no key");
/// let errors = material.check().unwrap_err().to_string();
/// assert!(errors.starts_with("certificate: there is no certificate in it; "));
/// assert!(!format!("{material:?}").contains("no key"));
/// ```
#[derive(Clone)]
pub struct TlsMaterial {
    certificate: Pem,
    key: Pem,
    client_ca: Option<Pem>,
    crls: Vec<Pem>,
    client_certificate: Option<ClientCertificate>,
    user_name: Option<CertificateName>,
    minimum_version: TlsVersion,
}

/// A text and where it comes from.
#[derive(Clone)]
struct Pem {
    source: String,
    text: Zeroizing<Vec<u8>>,
}

impl Pem {
    fn new(source: &str, text: impl Into<Vec<u8>>) -> Pem {
        Pem { source: source.to_owned(), text: Zeroizing::new(text.into()) }
    }

    fn error(&self, problem: impl fmt::Display) -> TlsError {
        TlsError { source: self.source.clone(), problem: problem.to_string() }
    }
}

impl TlsMaterial {
    /// The certificate of the server, followed by those of intermediate authorities, and its private key: PKCS#8,
    /// PKCS#1 or SEC1, not encrypted. Clients show no certificate.
    pub fn new(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> TlsMaterial {
        TlsMaterial {
            certificate: Pem::new("certificate", certificate),
            key: Pem::new("key", key),
            client_ca: None,
            crls: Vec::new(),
            client_certificate: None,
            user_name: None,
            minimum_version: TlsVersion::default(),
        }
    }

    /// Names the files that certificate and key come from, for errors.
    #[must_use]
    pub fn with_sources(mut self, certificate: &str, key: &str) -> TlsMaterial {
        certificate.clone_into(&mut self.certificate.source);
        key.clone_into(&mut self.key.source);
        self
    }

    /// The authorities that issue the certificates of Clients, which are required from now on, unless
    /// [`TlsMaterial::with_client_certificate`] says otherwise. `source` names the text, for errors.
    #[must_use]
    pub fn with_client_ca(mut self, source: &str, authorities: impl Into<Vec<u8>>) -> TlsMaterial {
        self.client_ca = Some(Pem::new(source, authorities));
        self
    }

    /// Adds revocation lists. If there is any, each certificate of a Client's chain needs a list of its issuer that has
    /// not expired. `source` names the text, for errors.
    #[must_use]
    pub fn with_crl(mut self, source: &str, lists: impl Into<Vec<u8>>) -> TlsMaterial {
        self.crls.push(Pem::new(source, lists));
        self
    }

    /// Whether Clients show a certificate. Default: required if there are authorities, else none.
    #[must_use]
    pub fn with_client_certificate(mut self, demand: ClientCertificate) -> TlsMaterial {
        self.client_certificate = Some(demand);
        self
    }

    /// The name in a Client's certificate that is its user name. A certificate without it is refused. Default: none.
    #[must_use]
    pub fn with_user_name(mut self, name: CertificateName) -> TlsMaterial {
        self.user_name = Some(name);
        self
    }

    /// The oldest version that is served. Default 1.2.
    #[must_use]
    pub fn with_minimum_version(mut self, version: TlsVersion) -> TlsMaterial {
        self.minimum_version = version;
        self
    }

    /// The texts that are not the same in another material: the key of the configuration that names them, and their
    /// source.
    pub(crate) fn changed_texts(&self, other: &TlsMaterial) -> Vec<(&'static str, String)> {
        let texts = |material: &TlsMaterial| {
            let TlsMaterial { certificate, key, client_ca, crls, .. } = material;
            let mut texts = vec![("certificate", certificate.clone()), ("key", key.clone())];
            texts.extend(client_ca.clone().map(|ca| ("clientCa", ca)));
            texts.extend(crls.iter().map(|list| ("crl", list.clone())));
            texts
        };
        let before = texts(self);
        let is_there = |(key, new): &(&'static str, Pem)| {
            before.iter().any(|(known, old)| known == key && old.text == new.text)
        };
        let changed = texts(other).into_iter().filter(|text| !is_there(text));
        changed.map(|(key, text)| (key, text.source)).collect()
    }

    /// Whether handshakes with another material have the same outcomes.
    pub(crate) fn is_same(&self, other: &TlsMaterial) -> bool {
        let options = |of: &TlsMaterial| {
            (of.client_certificate, of.user_name, of.minimum_version, of.client_ca.is_some())
        };
        options(self) == options(other)
            && self.crls.len() == other.crls.len()
            && self.changed_texts(other).is_empty()
    }

    /// Checks everything together: all texts can be read, the key belongs to the certificate, and nothing that is
    /// demanded is missing. Returns warnings: what is valid no longer, or not yet.
    ///
    /// # Errors
    /// Everything that keeps the material from being used, each with its source and a remedy. No byte of the key is in
    /// them.
    pub fn check(&self) -> Result<Vec<String>, TlsErrors> {
        self.compile(&[], 0).map(|server| server.warnings)
    }

    /// What handshakes use. `protocols` are those of ALPN; `sessions_max` bounds the Sessions of TLS that are kept for
    /// resumption.
    pub(super) fn compile(
        &self,
        protocols: &[&[u8]],
        sessions_max: usize,
    ) -> Result<Server, TlsErrors> {
        let provider = Arc::new(ring::default_provider());
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let certified = self.certified(&provider, &mut warnings, &mut errors);
        let expires_at = certified.as_ref().and_then(|certified| first_end(&certified.cert));
        let verifier = self.verifier(&provider, &mut warnings, &mut errors);
        let (Some(certified), true) = (certified, errors.is_empty()) else {
            return Err(TlsErrors(errors));
        };
        let versions: &[&SupportedProtocolVersion] = match self.minimum_version {
            TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| TlsErrors(vec![self.certificate.error(error)]))?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.max_early_data_size = 0;
        config.send_tls13_tickets = usize::from(sessions_max > 0);
        config.session_storage = if sessions_max > 0 {
            ServerSessionMemoryCache::new(sessions_max)
        } else {
            Arc::new(NoServerSessionStorage {})
        };
        let config = Arc::new(config);
        Ok(Server { config, verifier, user_name: self.user_name, expires_at, warnings })
    }

    /// The certificate with its key.
    fn certified(
        &self,
        provider: &CryptoProvider,
        warnings: &mut Vec<String>,
        errors: &mut Vec<TlsError>,
    ) -> Option<CertifiedKey> {
        let chain = pem::certificates(&self.certificate.text);
        let key = pem::private_key(&self.key.text, &self.key.source);
        let chain = chain.map_err(|problem| errors.push(self.certificate.error(problem))).ok();
        let key = key.map_err(|problem| errors.push(self.key.error(problem))).ok();
        let (chain, key) = (chain?, key?);
        for (index, certificate) in chain.iter().enumerate() {
            match names::validity(certificate) {
                Some(validity) => warn_of_time(&self.certificate.source, validity, warnings),
                None => {
                    let problem = format!("certificate {} in it cannot be read", index + 1);
                    errors.push(self.certificate.error(problem));
                    return None;
                }
            }
        }
        let fault = match CertifiedKey::from_der(chain.clone(), key.clone_key(), provider) {
            Ok(certified) => return Some(certified),
            Err(rustls::Error::InvalidCertificate(error)) if is_version_1(&error) => {
                // Clients decide what they think of it; only the match is left to be checked.
                match provider.key_provider.load_private_key(key) {
                    Ok(key) if belongs(&*key, &chain) => {
                        return Some(CertifiedKey::new(chain, key));
                    }
                    Ok(_) => Fault::Mismatch,
                    Err(_) => Fault::Key,
                }
            }
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Fault::Mismatch,
            Err(rustls::Error::InvalidCertificate(error)) => Fault::Certificate(error),
            // The text of such an error comes from the reader of the key.
            Err(_) => Fault::Key,
        };
        errors.push(match fault {
            Fault::Mismatch => self.key.error(format_args!(
                "the key does not belong to the first certificate in {}; put the server's own certificate first, and \
                 give the key that it was made with",
                self.certificate.source
            )),
            Fault::Certificate(error) => {
                self.certificate.error(format_args!("cannot be used: {error}"))
            }
            Fault::Key => self.key.error(
                "the key cannot be used; RSA (2048 bits or more), ECDSA (P-256, P-384) and Ed25519 keys are",
            ),
        });
        None
    }

    /// What checks the certificates of Clients; `None` if none is asked for.
    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
        warnings: &mut Vec<String>,
        errors: &mut Vec<TlsError>,
    ) -> Option<Arc<dyn ClientCertVerifier>> {
        let demand = self.client_certificate.unwrap_or(match self.client_ca {
            Some(_) => ClientCertificate::Required,
            None => ClientCertificate::None,
        });
        let ca = match (&self.client_ca, demand) {
            (Some(ca), ClientCertificate::Optional | ClientCertificate::Required) => ca,
            (None, ClientCertificate::None) if self.user_name.is_none() && self.crls.is_empty() => {
                return None;
            }
            (None, _) => {
                let client_ca = Pem::new("clientCa", "");
                errors.push(client_ca.error(
                    "is missing; add the authorities of the Clients, or remove clientCertificate, userName and crl",
                ));
                return None;
            }
            (Some(ca), ClientCertificate::None) => {
                errors.push(
                    ca.error(
                        "has no effect with clientCertificate \"none\"; remove one of the two",
                    ),
                );
                return None;
            }
        };
        let roots = self.roots(ca, warnings, errors)?;
        let lists = self.lists(warnings, errors)?;
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        if !lists.is_empty() {
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        if demand == ClientCertificate::Optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map_err(|error| errors.push(ca.error(error))).ok()
    }

    fn roots(
        &self,
        ca: &Pem,
        warnings: &mut Vec<String>,
        errors: &mut Vec<TlsError>,
    ) -> Option<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let found: Vec<CertificateDer<'static>> = match pem::certificates(&ca.text) {
            Ok(found) => found,
            Err(problem) => {
                errors.push(ca.error(problem));
                return None;
            }
        };
        for (index, certificate) in found.into_iter().enumerate() {
            match names::validity(&certificate) {
                Some(validity) => warn_of_time(&ca.source, validity, warnings),
                None => {
                    errors.push(
                        ca.error(format_args!("certificate {} in it cannot be read", index + 1)),
                    );
                    return None;
                }
            }
            if let Err(error) = roots.add(certificate) {
                errors.push(ca.error(format_args!("certificate {} in it: {error}", index + 1)));
                return None;
            }
        }
        Some(roots)
    }

    fn lists(
        &self,
        warnings: &mut Vec<String>,
        errors: &mut Vec<TlsError>,
    ) -> Option<Vec<CertificateRevocationListDer<'static>>> {
        let mut all = Vec::new();
        for crl in &self.crls {
            match pem::revocation_lists(&crl.text) {
                Ok(lists) => all.extend(lists.into_iter().map(|list| (crl, list))),
                Err(problem) => errors.push(crl.error(problem)),
            }
        }
        for (crl, list) in &all {
            if let Err(error) = webpki::BorrowedCertRevocationList::from_der(list) {
                errors.push(crl.error(format_args!("a revocation list in it: {error}")));
            }
            if names::next_update(list).is_some_and(|next| next < now()) {
                warnings.push(format!(
                    "{}: a revocation list in it has expired: Clients of its issuer are refused until it is renewed",
                    crl.source
                ));
            }
        }
        errors.is_empty().then(|| all.into_iter().map(|(_, list)| list).collect())
    }
}

/// Neither the key nor any other text.
impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("certificate", &self.certificate.source)
            .field("client_ca", &self.client_ca.as_ref().map(|pem| &pem.source))
            .field("client_certificate", &self.client_certificate)
            .field("user_name", &self.user_name)
            .field("minimum_version", &self.minimum_version)
            .finish_non_exhaustive()
    }
}

/// Why a certificate and a key cannot be used together.
enum Fault {
    Mismatch,
    Certificate(CertificateError),
    Key,
}

/// Whether a key is that of the first certificate.
fn belongs(key: &dyn SigningKey, chain: &[CertificateDer<'_>]) -> bool {
    let shown = chain.first().and_then(|certificate| names::public_key(certificate));
    let own = key.public_key();
    matches!((own, shown), (Some(own), Some(shown)) if *own == *shown)
}

/// What handshakes use.
pub(super) struct Server {
    pub(super) config: Arc<ServerConfig>,
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) user_name: Option<CertificateName>,
    /// When the first certificate of the Server's chain expires.
    pub(super) expires_at: Option<SystemTime>,
    pub(super) warnings: Vec<String>,
}

/// When the first certificate of a chain expires.
fn first_end(chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    let ends = chain.iter().filter_map(|certificate| names::validity(certificate));
    let first = ends.map(|(_, until)| until).min()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(first))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn warn_of_time(source: &str, (from, until): (u64, u64), warnings: &mut Vec<String>) {
    let days = |seconds: u64| seconds / 86_400;
    let now = now();
    if until < now {
        let days = days(now - until);
        warnings
            .push(format!("{source}: a certificate in it has expired, {days} days ago: renew it"));
    } else if now < from {
        warnings.push(format!(
            "{source}: a certificate in it is not valid yet: compare the clock of this machine"
        ));
    }
}

/// A problem of [`TlsMaterial`] that keeps it from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    source: String,
    problem: String,
}

impl TlsError {
    /// A problem of `source`, a file or a part of the material.
    pub(crate) fn new(source: impl Into<String>, problem: impl Into<String>) -> TlsError {
        TlsError { source: source.into(), problem: problem.into() }
    }
}

/// One line: the source, the problem and its remedy.
impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TlsError { source, problem } = self;
        write!(f, "{source}: {problem}")
    }
}

impl std::error::Error for TlsError {}

/// All problems of a [`TlsMaterial`], at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsErrors(pub(crate) Vec<TlsError>);

impl TlsErrors {
    /// The problems.
    pub fn iter(&self) -> impl Iterator<Item = &TlsError> {
        self.0.iter()
    }
}

/// One line for each problem.
impl fmt::Display for TlsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(TlsError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for TlsErrors {}
