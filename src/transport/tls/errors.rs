//! What is said of a TLS connection that fails.

use std::io::{self, ErrorKind};

use rustls::{AlertDescription, CertificateError, Error};

/// The first byte of every TLS connection: a record of type handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// # Errors
/// The peer speaks something else.
pub(super) fn judge_first_byte(byte: u8) -> io::Result<()> {
    let what = match byte {
        HANDSHAKE_RECORD => return Ok(()),
        0x10..=0x1F => "plain MQTT (a CONNECT without TLS): the listener speaks TLS",
        b'A'..=b'Z' => "plain text, most likely HTTP: the listener speaks TLS",
        0x80..=0xFF => "no TLS, or SSL 2: the listener speaks TLS 1.2 and newer",
        _ => "no TLS ClientHello: the listener speaks TLS",
    };
    Err(io::Error::new(ErrorKind::InvalidData, what))
}

/// The error of a handshake.
pub(super) fn of_handshake(error: &Error) -> io::Error {
    let what = match error {
        Error::NoCertificatesPresented => {
            "the Client shows no certificate, and clientCertificate is \"required\"".to_owned()
        }
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::NoApplicationProtocol => {
            "the Client offers no application protocol (ALPN) that is served here".to_owned()
        }
        Error::PeerIncompatible(what) => {
            format!("no version or cipher suite of TLS in common: {what:?}")
        }
        error => format!("TLS: {error}"),
    };
    io::Error::new(ErrorKind::InvalidData, what)
}

fn of_certificate(error: &CertificateError) -> String {
    use CertificateError as E;
    let what = match error {
        E::Revoked => "has been revoked",
        E::Expired | E::ExpiredContext { .. } => "has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "is not valid yet; compare the clocks",
        E::UnknownIssuer => "was issued by an authority that clientCa does not have",
        E::UnknownRevocationStatus => "was issued by an authority without a list in crl",
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
            "cannot be checked: the revocation list in crl has expired; renew it"
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "is not for Clients",
        E::BadSignature => "has a wrong signature",
        E::BadEncoding => "cannot be read",
        error if is_version_1(error) => {
            "is of X.509 version 1; issue it again as version 3: openssl x509 -req … -extfile FILE, with \
             basicConstraints=CA:FALSE in FILE"
        }
        error => return format!("the Client's certificate is not accepted: {error}"),
    };
    format!("the Client's certificate {what}")
}

/// Whether a certificate is refused because it is of X.509 version 1, as old versions of openssl issue it.
pub(super) fn is_version_1(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else { return false };
    let inner = other.0.downcast_ref::<webpki::Error>();
    matches!(inner, Some(webpki::Error::UnsupportedCertVersion))
}

fn of_alert(alert: AlertDescription) -> String {
    let what = match alert {
        AlertDescription::UnknownCA => "it does not have the authority of the server's certificate",
        AlertDescription::CertificateExpired => "the server's certificate has expired",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not accept the server's certificate"
        }
        AlertDescription::ProtocolVersion => "no version of TLS in common",
        alert => return format!("the Client ended the handshake: alert {alert:?}"),
    };
    format!("the Client ended the handshake: {what}")
}

/// The error of a record after the handshake.
pub(super) fn of_record(error: &Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("TLS: {error}"))
}
