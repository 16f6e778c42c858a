//! The keys that verify tokens.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{digest, hmac, signature};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::algorithm::{JwtAlgorithm, Verifier};
use super::der;
use super::key::Key;
use crate::access::{FileError, FileErrors};

/// As many keys of a JWKS file are kept.
const KEYS_MAX: usize = 1_000;

/// The keys that verify tokens: one of a key file, or those of a JWKS file. `Debug` shows their number.
///
/// ```
/// use hrotti::access::JwtKeys;
///
/// assert!(JwtKeys::from_key_file(&[7; 32], "secret.key").is_ok());
/// let error = JwtKeys::from_key_file(b"short", "secret.key").unwrap_err();
/// assert!(error.to_string().starts_with("secret.key: the secret has 5 bytes"));
/// ```
pub struct JwtKeys {
    pub(super) source: String,
    entries: Vec<Entry>,
}

pub(super) struct Entry {
    id: Option<String>,
    algorithm: Option<JwtAlgorithm>,
    key: Key,
    /// Which key it is, to find out whether it still counts when the keys have changed.
    pub(super) print: Fingerprint,
}

pub(super) type Fingerprint = [u8; 32];

impl JwtKeys {
    /// Reads a key file: one public key in PEM (`BEGIN PUBLIC KEY` or `BEGIN RSA PUBLIC KEY`; RSA with 2 048 to 8 192
    /// bits, P-256, P-384, Ed25519), or else the bytes of a secret for HS256, HS384 and HS512, at least 32. Of a
    /// secret that is printable ASCII, a line break at its end is left out.
    ///
    /// # Errors
    /// The problem and its remedy; `source` is the name of the file.
    pub fn from_key_file(bytes: &[u8], source: &str) -> Result<JwtKeys, FileErrors> {
        let key = if der::is_pem(bytes) {
            let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned());
            text.and_then(der::key_of_pem)
        } else {
            secret(bytes)
        };
        let key = key.map_err(|problem| fault(source, problem))?;
        Ok(JwtKeys { source: source.to_owned(), entries: vec![Entry::new(None, None, key)] })
    }

    /// Reads a JWK Set (RFC 7517). Keys of other types or curves, and keys whose `use` is not `sig`, are left out.
    ///
    /// # Errors
    /// Every key that is wrong, or that none is left; `source` is the name of the file.
    pub fn from_jwks_file(text: &str, source: &str) -> Result<JwtKeys, FileErrors> {
        let set: Value = serde_json::from_str(text).map_err(|error| {
            let problem = format!("it is no JSON at column {}", error.column());
            let line = u32::try_from(error.line()).unwrap_or(u32::MAX);
            FileErrors::one(FileError::new(source, line, problem))
        })?;
        let Some(keys) = set.get("keys").and_then(Value::as_array) else {
            return Err(fault(source, "the list \"keys\" of a JWK Set is missing"));
        };
        if keys.len() > KEYS_MAX {
            return Err(fault(source, format!("it holds more than {KEYS_MAX} keys")));
        }
        let mut entries = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let entry = entry_of_jwk(key)
                .map_err(|problem| fault(source, format!("key {}: {problem}", index + 1)))?;
            entries.extend(entry);
        }
        if entries.is_empty() {
            let problem = "it holds no key of RSA, P-256, P-384, Ed25519 or oct that signs";
            return Err(fault(source, problem));
        }
        Ok(JwtKeys { source: source.to_owned(), entries })
    }

    /// The key for a token with this `alg` and `kid`. Without a `kid` there must be one key that fits.
    pub(super) fn find(&self, algorithm: JwtAlgorithm, id: Option<&str>) -> Option<&Entry> {
        // The one key of a key file has no id, and serves every token that it verifies.
        let named = |entry: &&Entry| match (&entry.id, id) {
            (Some(own), Some(id)) => own == id,
            (Some(_), None) => true,
            (None, id) => id.is_none() || self.entries.len() == 1,
        };
        let mut fitting = self.entries.iter().filter(|entry| entry.fits(algorithm)).filter(named);
        let found = fitting.next()?;
        fitting.next().is_none().then_some(found)
    }

    /// Whether a key verifies this algorithm.
    pub(super) fn any_fits(&self, algorithm: JwtAlgorithm) -> bool {
        self.entries.iter().any(|entry| entry.fits(algorithm))
    }

    /// Whether the key of this fingerprint is among them.
    pub(super) fn holds(&self, print: &Fingerprint) -> bool {
        self.entries.iter().any(|entry| entry.print == *print)
    }
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKeys")
            .field("source", &self.source)
            .field("keys", &self.entries.len())
            .finish()
    }
}

impl Entry {
    fn new(id: Option<String>, algorithm: Option<JwtAlgorithm>, key: Key) -> Entry {
        let mut context = digest::Context::new(&digest::SHA256);
        match &key {
            Key::Secret(bytes) => {
                context.update(b"oct");
                context.update(bytes);
            }
            Key::Rsa { n, e } => {
                context.update(b"RSA");
                context.update(&n.len().to_be_bytes());
                context.update(n);
                context.update(e);
            }
            Key::P256(point) => context.update(point),
            Key::P384(point) => context.update(point),
            Key::Ed25519(point) => context.update(point),
        }
        let mut print = [0; 32];
        print.copy_from_slice(context.finish().as_ref());
        Entry { id, algorithm, key, print }
    }

    /// Whether the key is of the kind that the algorithm needs: no token chooses how a key is used.
    fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        let kind = match (&self.key, algorithm.verifier()) {
            (Key::Secret(bytes), Verifier::Hmac(_)) => {
                algorithm.secret_bytes_min().is_some_and(|least| bytes.len() >= least)
            }
            (Key::Rsa { .. }, Verifier::Rsa(_))
            | (Key::P256(_), Verifier::P256)
            | (Key::P384(_), Verifier::P384)
            | (Key::Ed25519(_), Verifier::Ed25519) => true,
            _ => false,
        };
        kind && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether this is the signature of the message.
    pub(super) fn verifies(&self, algorithm: JwtAlgorithm, message: &[u8], sign: &[u8]) -> bool {
        let by = |algorithm: &'static dyn signature::VerificationAlgorithm, point: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, point).verify(message, sign).is_ok()
        };
        match (&self.key, algorithm.verifier()) {
            (Key::Secret(bytes), Verifier::Hmac(algorithm)) => {
                hmac::verify(&hmac::Key::new(algorithm, bytes), message, sign).is_ok()
            }
            (Key::Rsa { n, e }, Verifier::Rsa(parameters)) => {
                let key = signature::RsaPublicKeyComponents { n: &**n, e: &**e };
                key.verify(parameters, message, sign).is_ok()
            }
            (Key::P256(point), Verifier::P256) => by(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Key::P384(point), Verifier::P384) => by(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Key::Ed25519(point), Verifier::Ed25519) => by(&signature::ED25519, point),
            _ => false,
        }
    }
}

fn fault(source: &str, problem: impl Into<String>) -> FileErrors {
    FileErrors::one(FileError::new(source, 0, problem))
}

/// The shortest secret that an algorithm takes.
const SECRET_BYTES_MIN: usize = 32;

fn secret(bytes: &[u8]) -> Result<Key, String> {
    let line = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let printable = |line: &&[u8]| line.iter().all(|byte| (b' '..=b'~').contains(byte));
    let bytes = line.filter(printable).unwrap_or(bytes);
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "the secret has {} bytes, at least {SECRET_BYTES_MIN} are needed; make one with: openssl rand -hex 32",
            bytes.len(),
        ));
    }
    Ok(Key::Secret(Zeroizing::new(bytes.into())))
}

/// A key of a JWK Set; `None` if it is not understood, or not for signatures (RFC 7517 section 5).
fn entry_of_jwk(key: &Value) -> Result<Option<Entry>, String> {
    let Value::Object(key) = key else { return Err("it is no JSON object".to_owned()) };
    let algorithm = match text(key, "alg")? {
        None => None,
        Some(name) => match JwtAlgorithm::named(name) {
            None => return Ok(None),
            known => known,
        },
    };
    if text(key, "use")?.is_some_and(|use_| use_ != "sig") {
        return Ok(None);
    }
    let found = match (text(key, "kty")?.ok_or("\"kty\" is missing")?, text(key, "crv")?) {
        ("oct", _) => {
            let bytes = Zeroizing::new(bytes(key, "k")?);
            if bytes.len() < SECRET_BYTES_MIN {
                return Err(format!("\"k\" has fewer than {SECRET_BYTES_MIN} bytes"));
            }
            Some(Key::Secret(Zeroizing::new(bytes[..].into())))
        }
        ("RSA", _) => Key::rsa(&bytes(key, "n")?, &bytes(key, "e")?),
        ("EC", Some("P-256")) => Key::p256(&point(key)?),
        ("EC", Some("P-384")) => Key::p384(&point(key)?),
        ("OKP", Some("Ed25519")) => Key::ed25519(&bytes(key, "x")?),
        _ => return Ok(None),
    };
    let found = found.ok_or("its numbers have a size that is not supported")?;
    let id = text(key, "kid")?.map(str::to_owned);
    Ok(Some(Entry::new(id, algorithm, found)))
}

fn text<'a>(key: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match key.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name:?} is no text")),
    }
}

fn bytes(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = text(key, name)?.ok_or_else(|| format!("{name:?} is missing"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("{name:?} is no base64url"))
}

/// An uncompressed point of a curve (SEC 1 section 2.3.3).
fn point(key: &Map<String, Value>) -> Result<Vec<u8>, String> {
    let (x, y) = (bytes(key, "x")?, bytes(key, "y")?);
    if x.len() != y.len() {
        return Err("\"x\" and \"y\" differ in length".to_owned());
    }
    Ok([&[4], &x[..], &y].concat())
}
