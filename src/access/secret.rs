//! Bytes that no log, error or core dump of a finished use shows.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A password, a token or other secret bytes. `Debug` shows nothing of them, comparison takes the same time wherever
/// the first difference is, and the memory is overwritten when the value is dropped.
///
/// ```
/// use hrotti::access::Secret;
///
/// let secret = Secret::new(b"open sesame");
/// assert!(secret.equals(b"open sesame") && !secret.equals(b"open"));
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// ```
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Copies the bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(Zeroizing::new(bytes.into()))
    }

    /// The bytes, for hashing and parsing.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the bytes are these. Only the length can be learned from the time that it takes.
    #[must_use]
    pub fn equals(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
