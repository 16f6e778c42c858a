//! What policies with passwords have in common: unknown users, and checks that were not carried out.

use std::sync::Arc;

use ring::{digest, hmac};

use super::hashing::HashingError;
use super::password_hash::PasswordHash;
use super::{Refusal, Rule};
use crate::reason_code::ReasonCode;

/// What an identity keeps of the user that let it in.
pub(super) struct Proof {
    pub(super) name: Box<str>,
    pub(super) hash: Arc<PasswordHash>,
}

/// Chooses the user with whose hash the Password of an unknown User Name is compared. Unknown names are spread over
/// all users, so they cost what known names cost, even if the hashes are of several kinds. The choice is the same each
/// time, so asking again reveals nothing.
pub(super) struct Decoys(hmac::Key);

impl Decoys {
    /// The text holds hashes, so a peer cannot foresee the choice.
    pub(super) fn new(text: &str) -> Decoys {
        let key = digest::digest(&digest::SHA512, text.as_bytes());
        Decoys(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// An index below `count`; `None` without any.
    pub(super) fn choose(&self, name: &str, count: usize) -> Option<usize> {
        let tag = hmac::sign(&self.0, name.as_bytes());
        let number = tag.as_ref().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        usize::try_from(number.checked_rem(count)?).ok()
    }
}

/// The answer to a CONNECT whose Password was not checked.
pub(super) fn unchecked(error: HashingError) -> Refusal {
    match error {
        HashingError::Busy => {
            Refusal::new(ReasonCode::SERVER_BUSY, Rule::named("limits.hashesWaitingMax"))
        }
        HashingError::Failed => Refusal::new(
            ReasonCode::SERVER_UNAVAILABLE,
            Rule::named("the check of the Password failed"),
        ),
    }
}
