//! Public keys out of PEM: just the four encodings that verify tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::Key;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;

// Object identifiers, encoded.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Whether a file is meant to be PEM.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(BEGIN.len()).any(|window| window == BEGIN.as_bytes())
}

/// The public key of a PEM file with exactly one.
pub(super) fn key_of_pem(text: &str) -> Result<Key, String> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with(BEGIN));
    let first = lines.next().unwrap_or_default();
    let label = first.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(DASHES));
    let label = label.ok_or("the line -----BEGIN …----- is incomplete")?;
    let mut body = String::new();
    loop {
        let line = lines.next().ok_or("the line -----END …----- is missing")?;
        if let Some(rest) = line.strip_prefix(END) {
            if rest.strip_suffix(DASHES) != Some(label) {
                return Err("the lines -----BEGIN …----- and -----END …----- differ".to_owned());
            }
            break;
        }
        body.push_str(line);
    }
    if lines.any(|line| line.starts_with(BEGIN)) {
        return Err("it holds more than one key; put several keys into a JWKS file".to_owned());
    }
    let der =
        STANDARD.decode(body).map_err(|_| "what stands between BEGIN and END is no base64")?;
    let key = match label {
        "PUBLIC KEY" => subject_public_key(&der),
        "RSA PUBLIC KEY" => rsa_key(&der),
        "CERTIFICATE" => {
            let remedy = "write its key with: openssl x509 -pubkey -noout -in FILE";
            return Err(format!("it holds a certificate; {remedy}"));
        }
        label if label.ends_with("PRIVATE KEY") => {
            let remedy = "write its public key with: openssl pkey -pubout -in FILE";
            return Err(format!("it holds a private key, which does not belong here; {remedy}"));
        }
        _ => {
            return Err(
                "it holds no public key; the first line is -----BEGIN PUBLIC KEY-----".to_owned()
            );
        }
    };
    key.ok_or_else(|| {
        "no public key of RSA, P-256, P-384 or Ed25519 can be read from it".to_owned()
    })
}

/// SubjectPublicKeyInfo (RFC 5280 section 4.1, RFC 3279, RFC 5480, RFC 8410).
fn subject_public_key(der: &[u8]) -> Option<Key> {
    let mut info = Der(whole(der, SEQUENCE)?);
    let mut algorithm = Der(info.take(SEQUENCE)?);
    let bits = info.take(BIT_STRING)?;
    let (unused, bits) = bits.split_first()?;
    if *unused != 0 || !info.0.is_empty() {
        return None;
    }
    match algorithm.take(OBJECT)? {
        RSA => rsa_key(bits),
        EC => match algorithm.take(OBJECT)? {
            P256 => Key::p256(bits),
            P384 => Key::p384(bits),
            _ => None,
        },
        ED25519 => Key::ed25519(bits),
        _ => None,
    }
}

/// RSAPublicKey (RFC 8017 appendix A.1.1).
fn rsa_key(der: &[u8]) -> Option<Key> {
    let mut key = Der(whole(der, SEQUENCE)?);
    let (modulus, exponent) = (key.take(INTEGER)?, key.take(INTEGER)?);
    if !key.0.is_empty() {
        return None;
    }
    Key::rsa(modulus, exponent)
}

/// The contents of the one value that is there.
fn whole(der: &[u8], tag: u8) -> Option<&[u8]> {
    let mut der = Der(der);
    let contents = der.take(tag)?;
    der.0.is_empty().then_some(contents)
}

/// What is left of a list of values with definite lengths below 64 KiB.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The contents of the next value, which has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (length, rest) = match *self.0 {
            [found, length @ 0..=0x7f, ref rest @ ..] if found == tag => {
                (usize::from(length), rest)
            }
            [found, 0x81, length, ref rest @ ..] if found == tag => (usize::from(length), rest),
            [found, 0x82, high, low, ref rest @ ..] if found == tag => {
                (usize::from(u16::from_be_bytes([high, low])), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(contents)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reading_der_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = subject_public_key(&bytes);
            let _ = rsa_key(&bytes);
        }

        #[test]
        fn reading_pem_is_total(text in "(-----(BEGIN|END) (PUBLIC KEY|X)-----|[A-Za-z0-9+/=]{0,8}|\n){0,12}") {
            let _ = key_of_pem(&text);
        }
    }

    /// A length that is not covered by bytes, at each place of a key.
    #[test]
    fn a_key_that_ends_early_is_no_key_pitfall_1() {
        let pem = include_str!("tests/es256.pub.pem");
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).expect("base64");
        assert!(subject_public_key(&der).is_some());
        for end in 0..der.len() {
            assert!(subject_public_key(&der[..end]).is_none(), "{end}");
        }
        let longer = [&der[..], &[0]].concat();
        assert!(subject_public_key(&longer).is_none());
    }
}
