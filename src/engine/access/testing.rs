//! A policy for tests, made of functions.

use std::future::ready;
use std::sync::Arc;

use crate::access::{
    Answer, Authenticating, Credentials, Decision, Identity, Policy, Preparing, Present, Request,
    Rule, Validity,
};

type Authenticate = dyn Fn(Credentials) -> Authenticating + Send + Sync;
type Authorize = dyn Fn(&Request<'_>) -> bool + Send + Sync;
type Prepare = dyn Fn(&Request<'_>) -> Option<Preparing> + Send + Sync;
type IsCurrent = dyn Fn(&Identity) -> bool + Send + Sync;

/// Lets in everybody, by the user name that CONNECT has, and allows everything, unless a test says otherwise.
pub(crate) struct Rig {
    pub(crate) authenticate: Box<Authenticate>,
    pub(crate) authorize: Box<Authorize>,
    pub(crate) is_current: Box<IsCurrent>,
    pub(crate) prepare: Box<Prepare>,
    /// The rule of every decision.
    pub(crate) rule: Rule,
}

pub(crate) const RULE: Rule = Rule::named("the test's rule");

pub(crate) fn identity(user: &str) -> Identity {
    Identity::new(RULE).with_user_name(user)
}

impl Default for Rig {
    fn default() -> Rig {
        Rig {
            authenticate: Box::new(|shown| {
                let identity = Identity::new(RULE);
                Box::pin(ready(Answer::accept(match &shown.user_name {
                    Some(name) => identity.with_user_name(name),
                    None => identity,
                })))
            }),
            authorize: Box::new(|_| true),
            is_current: Box::new(|_| true),
            prepare: Box::new(|_| None),
            rule: RULE,
        }
    }
}

impl Rig {
    /// Allows what `authorize` allows.
    pub(crate) fn allowing(
        authorize: impl Fn(&Request<'_>) -> bool + Send + Sync + 'static,
    ) -> Arc<Rig> {
        Arc::new(Rig { authorize: Box::new(authorize), ..Rig::default() })
    }

    /// Answers a CONNECT by what `authenticate` returns.
    pub(crate) fn answering(
        authenticate: impl Fn(Credentials) -> Answer + Send + Sync + 'static,
    ) -> Arc<Rig> {
        let authenticate = move |shown| -> Authenticating { Box::pin(ready(authenticate(shown))) };
        Arc::new(Rig { authenticate: Box::new(authenticate), ..Rig::default() })
    }
}

impl Policy for Rig {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        (self.authenticate)(shown)
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let rule = self.rule.clone();
        if (self.authorize)(request) { Decision::Allow(rule) } else { Decision::Deny(rule) }
    }

    fn prepare(&self, request: &Request<'_>) -> Option<Preparing> {
        (self.prepare)(request)
    }

    fn validity(&self, client: &Present<'_>) -> Validity {
        Validity::current_if((self.is_current)(client.identity))
    }
}
