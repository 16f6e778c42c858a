//! The signature algorithms of JSON Web Tokens.

use std::fmt;
use std::str::FromStr;

use ring::{hmac, signature};

/// A signature algorithm of JSON Web Tokens (RFC 7518 section 3.1, RFC 8037 section 3.1). There is none for unsigned
/// tokens.
///
/// ```
/// use hrotti::access::JwtAlgorithm;
///
/// assert_eq!("RS256".parse(), Ok(JwtAlgorithm::Rs256));
/// assert!("none".parse::<JwtAlgorithm>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// EdDSA over Curve25519.
    EdDsa,
}

use JwtAlgorithm::{
    EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512,
};

const NAMES: &[(&str, JwtAlgorithm)] = &[
    ("HS256", Hs256),
    ("HS384", Hs384),
    ("HS512", Hs512),
    ("RS256", Rs256),
    ("RS384", Rs384),
    ("RS512", Rs512),
    ("PS256", Ps256),
    ("PS384", Ps384),
    ("PS512", Ps512),
    ("ES256", Es256),
    ("ES384", Es384),
    ("EdDSA", EdDsa),
];

/// How an algorithm verifies: each kind of key has its own variant, so a key is never used with an algorithm of
/// another kind.
pub(super) enum Verifier {
    Hmac(hmac::Algorithm),
    Rsa(&'static signature::RsaParameters),
    P256,
    P384,
    Ed25519,
}

impl JwtAlgorithm {
    pub(super) fn verifier(self) -> Verifier {
        match self {
            Hs256 => Verifier::Hmac(hmac::HMAC_SHA256),
            Hs384 => Verifier::Hmac(hmac::HMAC_SHA384),
            Hs512 => Verifier::Hmac(hmac::HMAC_SHA512),
            Rs256 => Verifier::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Rs384 => Verifier::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Rs512 => Verifier::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Ps256 => Verifier::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Ps384 => Verifier::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Ps512 => Verifier::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Es256 => Verifier::P256,
            Es384 => Verifier::P384,
            EdDsa => Verifier::Ed25519,
        }
    }

    /// The shortest secret in bytes: that of the hash (RFC 7518 section 3.2).
    pub(super) fn secret_bytes_min(self) -> Option<usize> {
        match self.verifier() {
            Verifier::Hmac(algorithm) => Some(algorithm.digest_algorithm().output_len()),
            _ => None,
        }
    }

    /// The name in RFC 7518.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, algorithm)| *algorithm == self).map_or("", |(name, _)| name)
    }

    /// The algorithm of this name, exactly as it is written.
    pub(super) fn named(name: &str) -> Option<JwtAlgorithm> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }
}

impl FromStr for JwtAlgorithm {
    type Err = String;

    /// Reads the name that RFC 7518 gives it.
    ///
    /// # Errors
    /// A line that names the text and the algorithms that there are.
    fn from_str(name: &str) -> Result<JwtAlgorithm, String> {
        JwtAlgorithm::named(name).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            match name {
                "none" => format!("tokens without a signature are never accepted; use {names}"),
                _ => format!("unknown algorithm {name:?}; use {names}"),
            }
        })
    }
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
