//! What policies with passwords have in common: unknown users, and checks that were not carried out.

use std::net::IpAddr;
use std::sync::Arc;

use ring::hmac;
use zeroize::Zeroizing;

use super::hashing::{HashingError, HashingPool};
use super::password_hash::PasswordHash;
use super::steady_choice::steady_choice;
use super::{Answer, Identity, Refusal, Rule};
use crate::reason_code::ReasonCode;

/// What an identity keeps of the user that let it in.
pub(super) struct Proof {
    pub(super) of: ProofOf,
    pub(super) name: Box<str>,
    pub(super) hash: Arc<PasswordHash>,
}

/// Which policy has let a user in: another one of the same chain does not judge it, even if it knows the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProofOf {
    PasswordFile,
    DynamicSecurity,
}

impl Proof {
    /// The proof that this policy gave an identity.
    pub(super) fn given(identity: &Identity, of: ProofOf) -> Option<&Proof> {
        identity.grant::<Proof>().filter(|proof| proof.of == of)
    }
}

/// Chooses the user with whose hash the Password of an unknown User Name is compared. Unknown names are spread over
/// all users, so they cost what known names cost, even if the hashes are of several kinds: of a file with 1 000 cheap
/// hashes and 10 dear ones, 1 of 101 unknown names is dear, as 1 of 101 known ones is. So the cost of a name says nothing
/// about whether it is known. The choice is the same each time, also after a user was added below the others (but for the
/// share of names that the new user is the model of), so asking again reveals nothing.
pub(super) struct Decoys(hmac::Key);

impl Decoys {
    /// The hash of the first user of a file makes the key, so that a peer cannot foresee the choice, and the choice
    /// survives edits of the others.
    pub(super) fn new(first: Option<&PasswordHash>) -> Decoys {
        let key = Zeroizing::new(first.map(PasswordHash::encoded).unwrap_or_default());
        Decoys(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()))
    }

    /// An index below `count`; `None` without any.
    pub(super) fn choose(&self, name: &str, count: usize) -> Option<usize> {
        let tag = hmac::sign(&self.0, name.as_bytes());
        let number = tag.as_ref().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        steady_choice(number, count)
    }
}

/// Checks a Password on the pool, which remembers who was let in.
pub(super) async fn check(
    pool: HashingPool,
    from: Option<IpAddr>,
    name: Arc<str>,
    check: impl FnOnce(&str) -> Answer + Send + 'static,
) -> Answer {
    let asked = name.clone();
    let is_let_in = |answer: &Answer| Some(matches!(answer, Answer::Accept { .. }));
    let checked = pool.submit_check(from, &name, move || check(&asked), is_let_in);
    checked.await.unwrap_or_else(|error| Answer::Refuse(unchecked(error)))
}

/// The answer to a CONNECT whose Password was not checked.
fn unchecked(error: HashingError) -> Refusal {
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
