//! One key.

use zeroize::Zeroizing;

/// One key. Its kind decides which algorithms it verifies.
pub(super) enum Key {
    Secret(Zeroizing<Box<[u8]>>),
    Rsa { n: Box<[u8]>, e: Box<[u8]> },
    P256([u8; 65]),
    P384([u8; 97]),
    Ed25519([u8; 32]),
}

impl Key {
    /// An RSA key of 2 048 to 8 192 bits; others are refused by the verification too.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Key> {
        let (n, e) = (without_zeros(modulus), without_zeros(exponent));
        let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
        let fits = (2_048..=8_192).contains(&bits) && (1..=4).contains(&e.len()) && e != [1];
        fits.then(|| Key::Rsa { n: n.into(), e: e.into() })
    }

    pub(super) fn p256(point: &[u8]) -> Option<Key> {
        let point: [u8; 65] = point.try_into().ok()?;
        (point[0] == 4).then_some(Key::P256(point))
    }

    pub(super) fn p384(point: &[u8]) -> Option<Key> {
        let point: [u8; 97] = point.try_into().ok()?;
        (point[0] == 4).then_some(Key::P384(point))
    }

    pub(super) fn ed25519(point: &[u8]) -> Option<Key> {
        point.try_into().ok().map(Key::Ed25519)
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
