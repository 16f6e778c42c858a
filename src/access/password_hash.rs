//! The three hashes of passwords that mosquitto's files hold.

use std::fmt;
use std::io;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::digest;
use ring::pbkdf2;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, Zeroizing};

use super::kept_memory;

#[cfg(test)]
mod tests;

/// mosquitto pads base64 in two of its hashes and not in the third.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const UNPADDED: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false),
);

/// Some ten seconds of one processor.
const ITERATIONS_MAX: u32 = 10_000_000;
/// 256 MiB.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Memory that a thread of the hashing pool keeps for its next hash: 64 MiB, which is enough for mosquitto's hashes.
const KEPT_BLOCKS_MAX: usize = 64 * 1024;
const PASSES_MAX: u32 = 1_000;
/// Memory times passes, in KiB: some four seconds of one processor.
const MEMORY_PASSES_MAX: u64 = 4 * 1024 * 1024;
const LANES_MAX: u32 = 16;
/// Bytes of a salt, and of an Argon2 tag.
const BYTES_MAX: usize = 1024;
const SHA512_BYTES: usize = 64;
/// The only length that mosquitto 2.0 and 2.1 both read.
const SALT_BYTES: usize = 12;
/// RFC 9106, section 4.
const ARGON2_SALT_BYTES: usize = 16;
const ARGON2_TAG_BYTES: usize = 32;

/// How a password is hashed, and at what cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashMethod {
    /// `$6$`: SHA-512 of password and salt, once. It is here for old files: a guess costs next to nothing.
    Sha512,
    /// `$7$`: PBKDF2 with HMAC-SHA-512. mosquitto reads it since 2.0.
    Pbkdf2 {
        /// Iterations, 1 to 10 000 000.
        iterations: u32,
    },
    /// `$argon2id$`: Argon2id, version 1.3 (RFC 9106). mosquitto reads it since 2.1.
    Argon2id {
        /// Memory in KiB, 8 for each lane to 262 144 (256 MiB).
        memory_kib: u32,
        /// Passes over the memory, 1 to 1000; memory times passes is at most 4 GiB.
        passes: u32,
        /// Lanes, 1 to 16. They are computed one after the other.
        lanes: u32,
    },
}

impl HashMethod {
    /// Argon2id at the cost that mosquitto 2.1 chooses: 46 MiB, one pass.
    pub const ARGON2ID: HashMethod =
        HashMethod::Argon2id { memory_kib: 47_104, passes: 1, lanes: 1 };

    /// Moves every number into its range.
    fn in_range(self) -> HashMethod {
        match self {
            HashMethod::Sha512 => self,
            HashMethod::Pbkdf2 { iterations } => {
                HashMethod::Pbkdf2 { iterations: iterations.clamp(1, ITERATIONS_MAX) }
            }
            HashMethod::Argon2id { memory_kib, passes, lanes } => {
                let lanes = lanes.clamp(1, LANES_MAX);
                let memory_kib = memory_kib.clamp(8 * lanes, MEMORY_KIB_MAX);
                let passes_max = MEMORY_PASSES_MAX / u64::from(memory_kib);
                let passes_max = u32::try_from(passes_max).unwrap_or(PASSES_MAX).min(PASSES_MAX);
                HashMethod::Argon2id { memory_kib, passes: passes.clamp(1, passes_max), lanes }
            }
        }
    }
}

impl Default for HashMethod {
    /// PBKDF2 with 210 000 iterations: mosquitto 2.0 and 2.1 read it, and a guess costs a tenth of a second.
    fn default() -> HashMethod {
        HashMethod::Pbkdf2 { iterations: 210_000 }
    }
}

/// The salted hash of a password, in mosquitto's formats. `Debug` shows the method alone.
///
/// ```
/// use hrotti::access::{HashMethod, PasswordHash};
///
/// let hash = PasswordHash::new(b"open sesame", HashMethod::Pbkdf2 { iterations: 1000 })?;
/// let text = hash.encoded(); // $7$1000$…
/// assert!(PasswordHash::parse(&text)?.verify(b"open sesame"));
/// assert!(!PasswordHash::parse(&text)?.verify(b"open"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    method: HashMethod,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

impl PasswordHash {
    /// Hashes a password with a new random salt. Numbers outside the range of the method are moved into it. It blocks
    /// the thread: the default method for a tenth of a second.
    ///
    /// # Errors
    /// The operating system gives no random bytes, or no memory for Argon2.
    pub fn new(password: &[u8], method: HashMethod) -> io::Result<PasswordHash> {
        let method = method.in_range();
        let (salt_bytes, hash_bytes) = match method {
            HashMethod::Argon2id { .. } => (ARGON2_SALT_BYTES, ARGON2_TAG_BYTES),
            _ => (SALT_BYTES, SHA512_BYTES),
        };
        let mut salt = vec![0; salt_bytes].into_boxed_slice();
        getrandom::fill(&mut salt).map_err(io::Error::from)?;
        let mut hash = vec![0; hash_bytes].into_boxed_slice();
        if !compute(method, &salt, password, &mut hash) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(PasswordHash { method, salt, hash })
    }

    /// Reads `$6$SALT$HASH`, `$7$ITERATIONS$SALT$HASH` or `$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH`; salts and
    /// hashes are base64.
    ///
    /// # Errors
    /// [`HashError`] if the text has another form, or asks for more than the bounds of [`HashMethod`].
    pub fn parse(text: &str) -> Result<PasswordHash, HashError> {
        let (method, rest) = if let Some(rest) = text.strip_prefix("$6$") {
            (HashMethod::Sha512, rest)
        } else if let Some(rest) = text.strip_prefix("$7$") {
            pbkdf2_method(rest)?
        } else if let Some(rest) = text.strip_prefix("$argon2id$") {
            argon2_method(rest)?
        } else {
            return Err(HashError { problem: "it is no hash".into(), plain: true });
        };
        let two = rest.split_once('$').filter(|(_, hash)| !hash.contains('$'));
        let (salt, hash) = two.ok_or_else(|| error("it does not end with $SALT$HASH"))?;
        let (salt, hash) = (decode(salt, "salt")?, decode(hash, "hash")?);
        if matches!(method, HashMethod::Argon2id { .. }) {
            if salt.len() < argon2::MIN_SALT_LEN {
                return Err(error("its salt is shorter than the 8 bytes that Argon2 needs"));
            }
            if hash.len() < Params::MIN_OUTPUT_LEN {
                return Err(error("its hash is shorter than the 4 bytes that Argon2 gives"));
            }
        } else if hash.len() != SHA512_BYTES {
            return Err(error(&format!("its hash has {} bytes instead of 64", hash.len())));
        }
        Ok(PasswordHash { method, salt, hash })
    }

    /// The text that [`PasswordHash::parse`] reads. It lets its reader guess passwords, so it belongs in no log.
    #[must_use]
    pub fn encoded(&self) -> String {
        let (salt, hash) = (BASE64.encode(&self.salt), BASE64.encode(&self.hash));
        match self.method {
            HashMethod::Sha512 => format!("$6${salt}${hash}"),
            HashMethod::Pbkdf2 { iterations } => format!("$7${iterations}${salt}${hash}"),
            HashMethod::Argon2id { memory_kib, passes, lanes } => {
                let (salt, hash) = (UNPADDED.encode(&self.salt), UNPADDED.encode(&self.hash));
                format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
            }
        }
    }

    /// Whether this is the password. It blocks the thread for as long as the method costs; how far the hashes are equal
    /// does not change the time. Without the memory that Argon2 needs it is not.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        let mut hash = Zeroizing::new(vec![0; self.hash.len()]);
        compute(self.method, &self.salt, password, &mut hash) && self.hash.ct_eq(&hash).into()
    }

    /// The method and its cost.
    #[must_use]
    pub fn method(&self) -> HashMethod {
        self.method
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Why a text is no [`PasswordHash`]. `Display` names the part and the bound, and no salt, hash or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashError {
    problem: Box<str>,
    plain: bool,
}

impl HashError {
    /// Whether the text does not even begin like a hash, as a password in plain text.
    #[must_use]
    pub fn is_plain_text(&self) -> bool {
        self.plain
    }
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for HashError {}

fn error(problem: &str) -> HashError {
    HashError { problem: problem.into(), plain: false }
}

/// Reads what stands behind `$7$`, up to the salt.
fn pbkdf2_method(text: &str) -> Result<(HashMethod, &str), HashError> {
    let (iterations, rest) = text.split_once('$').unwrap_or((text, ""));
    let iterations = number(iterations, "iterations", ITERATIONS_MAX)?;
    Ok((HashMethod::Pbkdf2 { iterations }, rest))
}

/// Reads what stands behind `$argon2id$`, up to the salt. The parser of the `argon2` crate refuses the 64 bytes of
/// salt that mosquitto writes.
fn argon2_method(text: &str) -> Result<(HashMethod, &str), HashError> {
    let form = || error("it does not begin with $argon2id$v=19$m=KIB,t=PASSES,p=LANES$");
    let rest = text.strip_prefix("v=19$m=").ok_or_else(form)?;
    let (cost, rest) = rest.split_once('$').ok_or_else(form)?;
    let (memory, cost) = cost.split_once(",t=").ok_or_else(form)?;
    let (passes, lanes) = cost.split_once(",p=").ok_or_else(form)?;
    let memory_kib = number(memory, "memory m", MEMORY_KIB_MAX)?;
    let passes = number(passes, "passes t", PASSES_MAX)?;
    let lanes = number(lanes, "lanes p", LANES_MAX)?;
    if memory_kib < 8 * lanes {
        return Err(error(&format!("its memory m={memory_kib} is less than 8 for each lane")));
    }
    if u64::from(memory_kib) * u64::from(passes) > MEMORY_PASSES_MAX {
        let both = format!("m={memory_kib},t={passes}");
        return Err(error(&format!("its cost {both} is more than 4 GiB in all passes")));
    }
    Ok((HashMethod::Argon2id { memory_kib, passes, lanes }, rest))
}

/// A number from 1 to `maximum`. Only digits are repeated in the error: all else might be part of a secret.
fn number(text: &str, name: &str, maximum: u32) -> Result<u32, HashError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = if digits { text.parse::<u32>().ok() } else { None };
    value.filter(|value| (1..=maximum).contains(value)).ok_or_else(|| {
        let shown = if digits && text.len() <= 20 { format!(" {text}") } else { String::new() };
        error(&format!("its number of {name}{shown} is not from 1 to {maximum}"))
    })
}

fn decode(text: &str, name: &str) -> Result<Box<[u8]>, HashError> {
    if text.is_empty() {
        return Err(error(&format!("its {name} is missing")));
    }
    if text.len() > BYTES_MAX.div_ceil(3) * 4 {
        return Err(error(&format!("its {name} is longer than {BYTES_MAX} bytes")));
    }
    match BASE64.decode(text) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(error(&format!("its {name} is no base64"))),
    }
}

/// Fills `hash`; `false` if that cannot be done.
fn compute(method: HashMethod, salt: &[u8], password: &[u8], hash: &mut [u8]) -> bool {
    match method {
        HashMethod::Sha512 => {
            let mut context = digest::Context::new(&digest::SHA512);
            context.update(password);
            context.update(salt);
            let digest = context.finish();
            let fits = digest.as_ref().len() == hash.len();
            if fits {
                hash.copy_from_slice(digest.as_ref());
            }
            fits
        }
        HashMethod::Pbkdf2 { iterations } => {
            let Some(iterations) = NonZeroU32::new(iterations) else { return false };
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, salt, password, hash);
            true
        }
        HashMethod::Argon2id { memory_kib, passes, lanes } => {
            let Ok(params) = Params::new(memory_kib, passes, lanes, Some(hash.len())) else {
                return false;
            };
            let count = params.block_count();
            let Some(mut blocks) = blocks(count) else { return false };
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let (used, _) = blocks.split_at_mut(count);
            let done =
                argon2.hash_password_into_with_memory(password, salt, &mut *hash, &mut *used);
            used.iter_mut().for_each(Zeroize::zeroize);
            if blocks.len() <= KEPT_BLOCKS_MAX {
                kept_memory::keep(blocks);
            }
            done.is_ok()
        }
    }
}

/// At least so many blocks, all zero: those of the thread's last hash if they are enough. `None` without memory.
fn blocks(count: usize) -> Option<Vec<argon2::Block>> {
    let kept = kept_memory::take::<Vec<argon2::Block>>();
    if let Some(blocks) = kept.filter(|blocks| blocks.len() >= count) {
        return Some(blocks);
    }
    // Reserved first: a vector that cannot be allocated would end the process.
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(count).ok()?;
    blocks.resize(count, argon2::Block::new());
    Some(blocks)
}
