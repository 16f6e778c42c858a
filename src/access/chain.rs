//! Several policies as one.

use std::fmt;
use std::sync::Arc;

use super::{Answer, Authenticating, Credentials, Decision, Identity, Policy, Present, Request};

/// Asks policies in order: the first that answers decides, and no answer is a no. Authentication and authorization
/// are asked independently, so one policy may let Clients in and another say what they may do.
///
/// An enhanced authentication stays with the policy that began it.
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

    fn is_remembered(&self) -> bool {
        self.0.iter().all(|policy| policy.is_remembered())
    }

    fn is_current(&self, identity: &Identity) -> bool {
        self.0.iter().all(|policy| policy.is_current(identity))
    }

    fn still_admits(&self, client: &Present<'_>) -> bool {
        self.0.iter().all(|policy| policy.still_admits(client))
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
