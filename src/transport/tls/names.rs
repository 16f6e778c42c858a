//! The names in a Client's certificate.

use std::fmt::Write as _;

use x509_cert::Certificate;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};

use super::CertificateName;
use crate::transport::CertificateNames;

/// Reads the names, and chooses the one that is the user name. Total: the bytes come from the peer, although an
/// authority has signed them.
///
/// # Errors
/// The certificate cannot be read, a name holds a control character, or the name that is the user name is missing or
/// not the only one of its kind.
pub(super) fn read(
    der: &[u8],
    user_name: Option<CertificateName>,
) -> Result<CertificateNames, String> {
    let unreadable = |_| "the Client's certificate cannot be read".to_owned();
    let certificate = Certificate::from_der(der).map_err(unreadable)?;
    let tbs = certificate.tbs_certificate();
    let mut names = CertificateNames::default();
    write!(names.subject, "{}", tbs.subject())
        .map_err(|_| "the subject of the Client's certificate cannot be read".to_owned())?;
    let mut common_names = Vec::new();
    for attribute in tbs.subject().iter().filter(|attribute| attribute.oid == COMMON_NAME) {
        let value = DirectoryString::try_from(&attribute.value).map_err(unreadable)?;
        common_names.push(value.value().into_owned());
    }
    let alternatives = tbs.get_extension::<SubjectAltName>().map_err(unreadable)?;
    for name in alternatives.map(|(_, names)| names.0).unwrap_or_default() {
        match name {
            GeneralName::DnsName(name) => names.dns.push(name.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(name) => {
                names.uris.push(name.as_str().to_owned());
            }
            GeneralName::Rfc822Name(name) => names.emails.push(name.as_str().to_owned()),
            _ => {}
        }
    }
    let all = names.dns.iter().chain(&names.uris).chain(&names.emails).chain(&common_names);
    if all.chain([&names.subject]).any(|name| name.contains(char::is_control)) {
        return Err("a name in the Client's certificate holds a control character".to_owned());
    }
    let chosen = match user_name {
        None => None,
        Some(CertificateName::CommonName) => Some(the_only(&common_names, "Common Name")?),
        Some(CertificateName::Subject) => {
            let subject = Some(names.subject.clone()).filter(|subject| !subject.is_empty());
            Some(the_only(subject.as_slice(), "subject")?)
        }
        Some(CertificateName::Dns) => Some(the_first(&names.dns, "DNS name")?),
        Some(CertificateName::Uri) => Some(the_first(&names.uris, "URI")?),
        Some(CertificateName::Email) => Some(the_first(&names.emails, "e-mail address")?),
    };
    names.common_name = common_names.into_iter().next();
    names.user_name = chosen;
    Ok(names)
}

fn the_first(names: &[String], kind: &str) -> Result<String, String> {
    match names.first() {
        Some(name) if !name.is_empty() => Ok(name.clone()),
        _ => Err(format!(
            "the Client's certificate has no {kind}, which is the user name on this listener"
        )),
    }
}

fn the_only(names: &[String], kind: &str) -> Result<String, String> {
    match names {
        [_, _, ..] => Err(format!(
            "the Client's certificate has more than one {kind}, which is the user name on this listener"
        )),
        names => the_first(names, kind),
    }
}

/// The time from which and until which a certificate is valid, in seconds since 1970; `None` if it cannot be read.
pub(super) fn validity(der: &[u8]) -> Option<(u64, u64)> {
    let certificate = Certificate::from_der(der).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let seconds = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
    Some((seconds(&validity.not_before), seconds(&validity.not_after)))
}

/// The public key of a certificate, as DER; `None` if it cannot be read.
pub(super) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(der).ok()?;
    certificate.tbs_certificate().subject_public_key_info().to_der().ok()
}

/// The time at which a revocation list expires; `None` if it cannot be read or names no time.
pub(super) fn next_update(der: &[u8]) -> Option<u64> {
    let list: x509_cert::crl::CertificateList = Decode::from_der(der).ok()?;
    let next = list.tbs_cert_list.next_update?;
    Some(next.to_unix_duration().as_secs())
}
