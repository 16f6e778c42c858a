//! What holds beside mosquitto's files, or in place of one that is not configured.

use std::sync::Arc;

use super::{
    Answer, Authenticating, Credentials, Decision, Identity, Policy, Present, Request, Rule,
    Validity,
};

const ANONYMOUS: Rule = Rule::named("anonymous Clients are allowed by access.anonymous");
const UNCHECKED: Rule =
    Rule::named("any user name is allowed by access.anonymous, and none is checked");
const NO_LIST: Rule = Rule::named("no access control list is configured, so everything is allowed");

/// Lets in Clients without a User Name; an empty one is none. About other Clients it has no answer, nor about those of a
/// listener whose [`ListenerRules::anonymous`](crate::ListenerRules::anonymous) is `Some(false)`. It decides no action.
///
/// In a [`Chain`](super::Chain) it stands behind the policies that check passwords.
///
/// ```
/// use std::sync::Arc;
///
/// use futures_lite::future::block_on;
/// use hrotti::access::{Anonymous, Answer, Credentials, Policy};
///
/// let policy = Arc::new(Anonymous::new());
/// let shown = Credentials::new("c1", "inside#1".into());
/// let named = shown.clone().with_password("ann", b"secret");
/// assert!(matches!(block_on(policy.clone().authenticate(shown)), Answer::Accept { .. }));
/// assert!(matches!(block_on(policy.authenticate(named)), Answer::NoAnswer));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Anonymous {
    any_name: bool,
}

impl Anonymous {
    /// Lets in Clients without a User Name.
    #[must_use]
    pub fn new() -> Anonymous {
        Anonymous::default()
    }

    /// Lets in every Client, and believes its User Name. So mosquitto does where anonymous Clients are allowed and
    /// nothing is configured that could check a password. Rules by user name then protect nothing from Clients that
    /// choose the name.
    #[must_use]
    pub fn with_any_name() -> Anonymous {
        Anonymous { any_name: true }
    }
}

impl Policy for Anonymous {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let name = shown.user_name.as_deref().filter(|name| !name.is_empty());
        let is_closed = shown.peer.listener_allows_anonymous() == Some(false);
        // An Authentication Method is another policy's (section 4.12).
        let answer = match name {
            _ if is_closed || shown.authentication_method.is_some() => Answer::NoAnswer,
            None => Answer::accept(Identity::new(ANONYMOUS)),
            Some(name) if self.any_name => {
                Answer::accept(Identity::new(UNCHECKED).with_user_name(name))
            }
            Some(_) => Answer::NoAnswer,
        };
        Box::pin(std::future::ready(answer))
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::NoAnswer
    }

    fn validity(&self, client: &Present<'_>) -> Validity {
        let rule = client.identity.rule();
        match *rule == ANONYMOUS || (self.any_name && *rule == UNCHECKED) {
            true => Validity::Current,
            false => Validity::Foreign,
        }
    }
}

/// Allows every action of every Client that was let in. It lets nobody in. For a broker without an access control
/// list.
///
/// ```
/// use hrotti::access::{Action, AllowAll, Identity, Policy, Request, Rule};
///
/// let identity = Identity::new(Rule::named("a test"));
/// let request = Request { identity: &identity, client_id: "c", action: Action::Publish, topic: "t" };
/// assert!(AllowAll.authorize(&request).is_allowed());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
        Box::pin(std::future::ready(Answer::NoAnswer))
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::Allow(NO_LIST)
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::access::testing::validity;

    fn shown(user_name: Option<&str>) -> Credentials {
        let shown = Credentials::new("c", "a test".into());
        match user_name {
            Some(name) => shown.with_password(name, b"secret"),
            None => shown,
        }
    }

    fn answer(policy: Anonymous, shown: Credentials) -> Option<(Option<String>, Rule)> {
        match block_on(Arc::new(policy).authenticate(shown)) {
            Answer::Accept { identity, .. } => {
                Some((identity.user_name().map(str::to_owned), identity.rule().clone()))
            }
            Answer::NoAnswer => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_client_without_a_user_name_is_anonymous() {
        for nobody in [None, Some("")] {
            assert_eq!(answer(Anonymous::new(), shown(nobody)), Some((None, ANONYMOUS)));
            assert_eq!(answer(Anonymous::with_any_name(), shown(nobody)), Some((None, ANONYMOUS)));
        }
        assert_eq!(answer(Anonymous::new(), shown(Some("ann"))), None);
        let believed = answer(Anonymous::with_any_name(), shown(Some("ann")));
        assert_eq!(believed, Some((Some("ann".to_owned()), UNCHECKED)));
    }

    /// An empty User Name is none, also where the listener has looked only whether there is one.
    #[test]
    fn nobody_is_anonymous_at_a_listener_that_lets_in_no_anonymous_clients() {
        for (allowed, name, lets_in) in [
            (Some(false), None, false),
            (Some(false), Some(""), false),
            (Some(true), Some(""), true),
            (None, Some(""), true),
        ] {
            let rules =
                crate::listener_rules::ListenerRules { anonymous: allowed, ..Default::default() };
            for policy in [Anonymous::new(), Anonymous::with_any_name()] {
                let mut shown = shown(name);
                shown.peer = shown.peer.at_listener("inside", rules.clone());
                assert_eq!(answer(policy, shown).is_some(), lets_in, "{allowed:?} {name:?}");
            }
        }
    }

    #[test]
    fn anonymous_clients_stay_as_long_as_they_are_allowed() {
        let identity = |rule| Identity::new(rule);
        let (some, any) = (Anonymous::new(), Anonymous::with_any_name());
        assert_eq!(validity(&some, &identity(ANONYMOUS)), Validity::Current);
        assert_eq!(validity(&any, &identity(UNCHECKED)), Validity::Current);
        assert_eq!(validity(&some, &identity(UNCHECKED)), Validity::Foreign);
        assert_eq!(validity(&any, &identity(NO_LIST)), Validity::Foreign);
    }

    #[test]
    fn an_enhanced_authentication_is_never_anonymous() {
        let mut shown = shown(None);
        shown.authentication_method = Some("SCRAM-SHA-256".into());
        assert_eq!(answer(Anonymous::new(), shown.clone()), None);
        assert_eq!(answer(Anonymous::with_any_name(), shown), None);
    }

    #[test]
    fn without_a_list_everything_is_allowed_and_nobody_let_in() {
        let answer = block_on(Arc::new(AllowAll).authenticate(shown(None)));
        assert!(matches!(answer, Answer::NoAnswer));
        let identity = Identity::new(Rule::named("a test"));
        let request = Request {
            identity: &identity,
            client_id: "c",
            action: super::super::Action::Receive,
            topic: "t",
        };
        assert_eq!(AllowAll.authorize(&request), Decision::Allow(NO_LIST));
    }
}
