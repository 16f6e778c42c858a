//! A question for tests of policies.

use super::{Identity, Policy, Present, Validity};

/// What a policy knows of an identity of which nothing else is known.
pub(crate) fn validity(policy: &dyn Policy, identity: &Identity) -> Validity {
    policy.validity(&Present { identity, client_id: "c", peer: None })
}
