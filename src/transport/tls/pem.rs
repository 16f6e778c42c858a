//! PEM text to certificates, keys and revocation lists, with remedies for what people bring instead.

use rustls::pki_types::pem::{Error, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// The first line of a key that is encrypted.
const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
/// A header of keys that old versions of OpenSSL have encrypted.
const ENCRYPTED_BEFORE: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// The certificates of a file, in their order; at least one.
///
/// # Errors
/// The problem and its remedy.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let sections = sections(text, "x509")?;
    let found: Vec<_> = sections
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der.to_vec()))
        .collect();
    if found.is_empty() {
        return Err("there is no certificate in it; a certificate begins with the line \
                    -----BEGIN CERTIFICATE-----"
            .to_owned());
    }
    Ok(found)
}

/// The one private key of a file.
///
/// # Errors
/// The problem and its remedy. No byte of the text is in it.
pub(super) fn private_key(text: &[u8], source: &str) -> Result<PrivateKeyDer<'static>, String> {
    let holds = |what: &[u8]| text.windows(what.len()).any(|window| window == what);
    if holds(ENCRYPTED) || holds(ENCRYPTED_BEFORE) {
        return Err(format!(
            "the private key is encrypted, and nobody is asked for its passphrase; decrypt it: openssl pkey -in \
             {source} -out decrypted.key"
        ));
    }
    let is_key = |kind: SectionKind| {
        matches!(
            kind,
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
        )
    };
    let keys: Vec<_> =
        sections(text, "pkey")?.into_iter().filter(|(kind, _)| is_key(*kind)).collect();
    match keys.as_slice() {
        [] => Err("there is no private key in it; a key begins with the line -----BEGIN PRIVATE KEY-----, \
                   -----BEGIN RSA PRIVATE KEY----- or -----BEGIN EC PRIVATE KEY-----"
            .to_owned()),
        [(kind, der)] => PrivateKeyDer::from_pem(*kind, der.to_vec())
            .ok_or_else(|| "the private key cannot be read".to_owned()),
        more => Err(format!("there are {} private keys in it; leave one", more.len())),
    }
}

/// The revocation lists of a file; at least one.
///
/// # Errors
/// The problem and its remedy.
pub(super) fn revocation_lists(
    text: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let found: Vec<_> = sections(text, "crl")?
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Crl)
        .map(|(_, der)| CertificateRevocationListDer::from(der.to_vec()))
        .collect();
    if found.is_empty() {
        return Err("there is no revocation list in it; a list begins with the line -----BEGIN X509 CRL-----"
            .to_owned());
    }
    Ok(found)
}

type Section = (SectionKind, Zeroizing<Vec<u8>>);

/// The sections of a text whose kind is known. `command` is the part of openssl that converts such a file.
fn sections(text: &[u8], command: &str) -> Result<Vec<Section>, String> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    if text.starts_with(&[0x30]) && text.get(1).is_some_and(|byte| *byte >= 0x80) {
        return Err(format!(
            "it is DER, not PEM; convert it: openssl {command} -inform der -in FILE -out FILE.pem"
        ));
    }
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        // The text of the error may repeat the line.
        let (kind, der) = section.map_err(|error| match error {
            Error::MissingSectionEnd { .. } => "a section has no -----END line; it may be cut off",
            Error::IllegalSectionStart { .. } => "a -----BEGIN line is damaged",
            Error::Base64Decode(_) => "a section is not base64; it may be damaged",
            _ => "it is not PEM",
        })?;
        found.push((kind, Zeroizing::new(der)));
    }
    Ok(found)
}
