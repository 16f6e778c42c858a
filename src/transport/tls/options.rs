//! What a TLS listener demands of its Clients, without any of the bytes that it needs for it.

/// Whether Clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// None is asked for.
    None,
    /// One is asked for. A Client without a certificate is let in; one with a bad certificate is refused.
    Optional,
    /// One is asked for, and a Client without a good certificate is refused.
    Required,
}

impl ClientCertificate {
    /// All of them, in the order of their strictness.
    pub const ALL: [ClientCertificate; 3] =
        [ClientCertificate::None, ClientCertificate::Optional, ClientCertificate::Required];

    /// Its name in the configuration.
    ///
    /// ```
    /// use hrotti::transport::tls::ClientCertificate;
    ///
    /// assert_eq!(ClientCertificate::ALL.map(ClientCertificate::name), ["none", "optional", "required"]);
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            ClientCertificate::None => "none",
            ClientCertificate::Optional => "optional",
            ClientCertificate::Required => "required",
        }
    }
}

/// The name in a Client's certificate that is its user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateName {
    /// The Common Name of the subject.
    CommonName,
    /// The whole subject, as RFC 4514 writes it.
    Subject,
    /// The first DNS name among the Subject Alternative Names.
    Dns,
    /// The first URI among the Subject Alternative Names.
    Uri,
    /// The first e-mail address among the Subject Alternative Names.
    Email,
}

impl CertificateName {
    /// All of them.
    pub const ALL: [CertificateName; 5] = [
        CertificateName::CommonName,
        CertificateName::Subject,
        CertificateName::Dns,
        CertificateName::Uri,
        CertificateName::Email,
    ];

    /// Its name in the configuration.
    ///
    /// ```
    /// use hrotti::transport::tls::CertificateName;
    ///
    /// let names = CertificateName::ALL.map(CertificateName::name);
    /// assert_eq!(names, ["commonName", "subject", "dns", "uri", "email"]);
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            CertificateName::CommonName => "commonName",
            CertificateName::Subject => "subject",
            CertificateName::Dns => "dns",
            CertificateName::Uri => "uri",
            CertificateName::Email => "email",
        }
    }
}

/// A version of TLS. Older ones are not served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), with forward secrecy and authenticated encryption only.
    #[default]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl TlsVersion {
    /// All of them, the oldest first.
    pub const ALL: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

    /// Its name in the configuration.
    ///
    /// ```
    /// use hrotti::transport::tls::TlsVersion;
    ///
    /// assert_eq!(TlsVersion::ALL.map(TlsVersion::name), ["1.2", "1.3"]);
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        }
    }
}
