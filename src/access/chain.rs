//! Several policies as one.

use std::fmt;
use std::sync::Arc;

use super::{
    Answer, Authenticating, Credentials, Decision, Policy, Preparing, Present, Request, Validity,
};

/// Asks policies in order: the first that answers decides, and no answer is a no. Authentication and authorization
/// are asked independently, so one policy may let Clients in and another say what they may do.
///
/// An enhanced authentication stays with the policy that began it. A Client stays connected when the rules change if no
/// policy of the chain would refuse it and one of them vouches for it, as [`Validity::and`] says.
///
/// ```
/// use std::sync::Arc;
///
/// use hrotti::access::{Action, Chain, Identity, Policy, Request, Rule};
///
/// let nobody = Chain::new(Vec::new());
/// let identity = Identity::new(Rule::named("a test"));
/// let request = Request { identity: &identity, client_id: "c", action: Action::Publish, topic: "t" };
/// assert!(!nobody.authorize(&request).is_allowed());
/// ```
#[derive(Clone)]
pub struct Chain(Arc<[Arc<dyn Policy>]>);

impl Chain {
    /// A chain of policies, the first to be asked first.
    #[must_use]
    pub fn new(policies: Vec<Arc<dyn Policy>>) -> Chain {
        Chain(policies.into())
    }
}

impl Policy for Chain {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        Box::pin(async move {
            for policy in &*self.0 {
                match policy.clone().authenticate(shown.clone()).await {
                    Answer::NoAnswer => {}
                    answer => return answer,
                }
            }
            Answer::NoAnswer
        })
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let mut decisions = self.0.iter().map(|policy| policy.authorize(request));
        decisions.find(|decision| *decision != Decision::NoAnswer).unwrap_or(Decision::NoAnswer)
    }

    /// Of the first policy that has something to fetch, if no policy before it decides.
    fn prepare(&self, request: &Request<'_>) -> Option<Preparing> {
        for (place, policy) in self.0.iter().enumerate() {
            if let Some(preparing) = policy.prepare(request) {
                return Some(preparing);
            }
            let is_last = place + 1 == self.0.len();
            if is_last || policy.authorize(request) != Decision::NoAnswer {
                return None;
            }
        }
        None
    }

    fn validity(&self, client: &Present<'_>) -> Validity {
        let all = self.0.iter().map(|policy| policy.validity(client));
        all.fold(Validity::Foreign, Validity::and)
    }

    fn disconnected(&self, client: &Present<'_>) {
        for policy in &*self.0 {
            policy.disconnected(client);
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("policies", &self.0.len()).finish()
    }
}
