//! Bans before another policy, and behind its answers.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Bans, Sought};
use crate::access::{
    Answer, Authenticating, Credentials, Decision, Exchange, Policy, Preparing, Present, Request,
    Secret, Validity,
};

/// See [`Bans::guard`].
pub(super) struct Guard {
    pub(super) bans: Arc<Bans>,
    pub(super) policy: Arc<dyn Policy>,
}

/// An exchange of the policy behind the bans.
struct Guarded {
    bans: Arc<Bans>,
    client_id: Arc<str>,
    exchange: Box<dyn Exchange>,
}

/// The answer of the policy, unless it lets in a user who is banned.
fn checked(bans: &Arc<Bans>, client_id: Arc<str>, answer: Answer) -> Answer {
    match answer {
        Answer::Accept { identity, data } => {
            let users = [identity.user_name(), None];
            let sought = Sought { client_id: Some(&client_id), users, peer: None };
            match bans.refusal(&sought, SystemTime::now()) {
                Some(refusal) => Answer::Refuse(refusal),
                None => Answer::Accept { identity, data },
            }
        }
        Answer::Continue { data, next } => Answer::Continue {
            data,
            next: Box::new(Guarded { bans: bans.clone(), client_id, exchange: next }),
        },
        answer => answer,
    }
}

impl Exchange for Guarded {
    fn proceed(self: Box<Self>, data: Secret) -> Authenticating {
        let Guarded { bans, client_id, exchange } = *self;
        Box::pin(async move { checked(&bans, client_id, exchange.proceed(data).await) })
    }
}

impl Policy for Guard {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        if let Some(refusal) = self.bans.refusal_of(&shown, SystemTime::now()) {
            return Box::pin(std::future::ready(Answer::Refuse(refusal)));
        }
        let client_id = shown.client_id.clone();
        let asked = self.policy.clone().authenticate(shown);
        Box::pin(async move { checked(&self.bans, client_id, asked.await) })
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        self.policy.authorize(request)
    }

    fn prepare(&self, request: &Request<'_>) -> Option<Preparing> {
        self.policy.prepare(request)
    }

    fn validity(&self, client: &Present<'_>) -> Validity {
        self.bans.validity(client).and(self.policy.validity(client))
    }

    fn disconnected(&self, client: &Present<'_>) {
        self.policy.disconnected(client);
    }
}
