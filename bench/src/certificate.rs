//! The certificate that brokers show: made anew by each run of this program, the same for all of
//! them.

use std::io;
use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// PEM; the key is one of ECDSA P-256.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// For 127.0.0.1 and `localhost`, signed by an authority that is forgotten.
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// This process's.
///
/// # Errors
///
/// When the machine has no random numbers.
pub(crate) fn certificate() -> io::Result<&'static Certificate> {
    static CERTIFICATE: LazyLock<Result<Certificate, rcgen::Error>> = LazyLock::new(make);
    CERTIFICATE.as_ref().map_err(io::Error::other)
}

fn make() -> Result<Certificate, rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "hrotti-bench authority");
    let issuer = Issuer::new(authority, KeyPair::generate()?);

    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // ECDSA P-256 is what it generates.
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Certificate { certificate, key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_brokers_show_the_same_certificate() {
        let (first, second) = (certificate().unwrap(), certificate().unwrap());
        assert!(std::ptr::eq(first, second));
        assert!(first.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(first.key.starts_with("-----BEGIN PRIVATE KEY-----"));
    }
}
