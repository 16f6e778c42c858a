//! mosquitto's dynamic security as a policy, from its JSON file, which is only read.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use self::pattern::Pattern;
use super::password_check::{self, Decoys, Proof, ProofOf};
use super::password_hash::PasswordHash;
use super::{
    Action, Answer, Authenticating, Credentials, Decision, FileErrors, HashingPool, Identity,
    Policy, Present, Refusal, Request, Rule, Secret, Validity,
};

mod json;
mod pattern;
mod read;
#[cfg(test)]
mod tests;

/// The clients, groups and roles of mosquitto's dynamic security plugin, as a policy. The file is read; nothing changes
/// it.
///
/// It lets in a client of the file by User Name and Password, unless it is disabled or its `clientid` is another Client
/// Identifier. Unknown User Names and wrong Passwords are refused with 0x86 (3.x: 4). A CONNECT without a User Name
/// (an empty one is none), or with an Authentication Method, gets no answer.
///
/// Topics are decided for the clients of the file and, by `anonymousGroup`, for Clients without a User Name; other
/// identities get no answer. The roles of a client are asked first, then those of its groups, by descending priority
/// and then by name; in a role the entry with the highest priority that matches decides, of those for subscriptions the
/// literal ones first. If none matches, `defaultACLAccess` decides, which is a no unless it is written, and always a
/// no for topics that begin with `$CONTROL`.
///
/// `%c` and `%u` as whole levels stand for the Client Identifier and the User Name. A `/` in them begins a further
/// level. A Client Identifier or User Name with `+` or `#` is refused if the file has such patterns (0x85, 3.x: 2,
/// and 0x86).
///
/// ```
/// use hrotti::access::{Action, DynamicSecurity, Identity, Policy, Request, Rule};
///
/// let text = r#"{
///     "clients": [{"username": "ann", "roles": [{"rolename": "reader"}]}],
///     "roles": [{"rolename": "reader", "acls": [
///         {"acltype": "subscribePattern", "topic": "home/#", "allow": true}
///     ]}]
/// }"#;
/// let policy = DynamicSecurity::parse(text, "dynamic.json")?;
/// let ann = Identity::new(Rule::named("a test")).with_user_name("ann");
/// let decide = |topic| {
///     policy.authorize(&Request { identity: &ann, client_id: "c", action: Action::Subscribe, topic })
/// };
/// assert!(decide("home/+/lamp").is_allowed());
/// let rule = decide("home/#").rule().map(Rule::to_string);
/// assert_eq!(
///     rule.as_deref(),
///     Some("dynamic.json: role reader: subscribePattern home/# (priority 0): allow"),
/// );
/// assert!(!decide("#").is_allowed());
/// # Ok::<(), hrotti::access::FileErrors>(())
/// ```
pub struct DynamicSecurity {
    source: Arc<str>,
    clients: Vec<Client>,
    /// User name → index in `clients`.
    index: HashMap<Box<str>, usize>,
    /// The indices in `clients` of those with a password.
    with_password: Vec<usize>,
    groups: Vec<Group>,
    anonymous_group: Option<usize>,
    roles: Vec<Role>,
    defaults: Defaults,
    /// Whether entries hold `%c` or `%u`.
    has_patterns: [bool; 2],
    decoys: Decoys,
    pool: HashingPool,
}

struct Client {
    rule: Rule,
    hash: Option<Arc<PasswordHash>>,
    client_id: Option<Box<str>>,
    disabled: bool,
    /// Indices of roles, in the order in which they are asked.
    roles: Vec<usize>,
    /// Indices of groups, likewise.
    groups: Vec<usize>,
}

struct Group {
    roles: Vec<usize>,
}

struct Role {
    /// The rule that denies subscriptions with wildcards.
    no_wildcards: Option<Rule>,
    /// One list for each [`AclType`], the highest priority first.
    acls: [Vec<Acl>; AclType::ALL.len()],
}

struct Acl {
    pattern: Pattern,
    priority: i32,
    allow: bool,
    rule: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AclType {
    PublishClientSend,
    PublishClientReceive,
    SubscribeLiteral,
    SubscribePattern,
    UnsubscribeLiteral,
    UnsubscribePattern,
}

impl AclType {
    const ALL: [(&'static str, AclType); 6] = [
        ("publishClientSend", AclType::PublishClientSend),
        ("publishClientReceive", AclType::PublishClientReceive),
        ("subscribeLiteral", AclType::SubscribeLiteral),
        ("subscribePattern", AclType::SubscribePattern),
        ("unsubscribeLiteral", AclType::UnsubscribeLiteral),
        ("unsubscribePattern", AclType::UnsubscribePattern),
    ];
}

/// What holds where no role decides.
struct Defaults {
    send: (bool, Rule),
    receive: (bool, Rule),
    subscribe: (bool, Rule),
    unsubscribe: (bool, Rule),
}

impl DynamicSecurity {
    /// Reads the text of a file; `source` is its name in errors and rules. Passwords will be checked on a pool of its
    /// own with the default bounds.
    ///
    /// Keys may be written in any case. Unknown keys are left out, unless they are nearly known ones.
    ///
    /// # Errors
    /// The text is no JSON, or parts of it are missing, twice there, not of the right type, or name a role, group or
    /// client that is not in the file: all of them, each with its path in the file.
    pub fn parse(text: &str, source: &str) -> Result<DynamicSecurity, FileErrors> {
        read::read(text, source)
    }

    /// Checks passwords on this pool.
    #[must_use]
    pub fn with_hashing(mut self, pool: HashingPool) -> DynamicSecurity {
        self.pool = pool;
        self
    }

    fn client(&self, name: &str) -> Option<&Client> {
        self.index.get(name).and_then(|&index| self.clients.get(index))
    }

    fn rule(&self, text: &str) -> Rule {
        Rule::line(self.source.clone(), 0, text)
    }

    /// Decides on a thread of the pool.
    fn check(&self, name: &str, password: &Secret, client_id: &str) -> Answer {
        // Both are looked up for every name, and one hash is computed.
        let decoy = self.decoys.choose(name, self.with_password.len());
        let decoy = decoy.and_then(|at| self.clients.get(*self.with_password.get(at)?));
        let client = self.client(name);
        let own = client.and_then(|client| client.hash.as_ref());
        let hash = own.or_else(|| decoy.and_then(|client| client.hash.as_ref()));
        let right = hash.is_some_and(|hash| hash.verify(password.bytes()));
        let Some(client) = client else {
            let rule = self.rule("no client of this user name");
            return Answer::Refuse(Refusal::bad_credentials(rule));
        };
        let (true, Some(hash)) = (right, own) else {
            return Answer::Refuse(Refusal::bad_credentials(client.rule.clone()));
        };
        if client.disabled || client.client_id.as_deref().is_some_and(|own| own != client_id) {
            return Answer::Refuse(Refusal::not_authorized(client.rule.clone()));
        }
        let proof = Proof { of: ProofOf::DynamicSecurity, name: name.into(), hash: hash.clone() };
        let identity = Identity::new(client.rule.clone()).with_user_name(name);
        Answer::accept(identity.with_grant(Arc::new(proof)))
    }

    /// The roles, in the order in which they are asked.
    fn roles<'a>(
        &'a self,
        own: &'a [usize],
        groups: &'a [usize],
    ) -> impl Iterator<Item = &'a Role> {
        let groups = groups.iter().filter_map(|&group| self.groups.get(group));
        let roles = own.iter().chain(groups.flat_map(|group| &group.roles));
        roles.filter_map(|&role| self.roles.get(role))
    }
}

impl Policy for DynamicSecurity {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        Box::pin(async move {
            let wild = |text: &str| text.contains(['+', '#']);
            if self.has_patterns[0] && wild(&shown.client_id) {
                let rule = self.rule("with %c, a Client Identifier must not hold + or #");
                let reason = crate::reason_code::ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
                return Answer::Refuse(Refusal::new(reason, rule));
            }
            // mosquitto takes an empty User Name for none.
            let name = shown.user_name.filter(|name| !name.is_empty());
            let Some(name) = name.filter(|_| shown.authentication_method.is_none()) else {
                return Answer::NoAnswer;
            };
            if self.has_patterns[1] && wild(&name) {
                let rule = self.rule("with %u, a User Name must not hold + or #");
                return Answer::Refuse(Refusal::bad_credentials(rule));
            }
            let Some(password) = shown.password else {
                let rule = self.rule("a User Name needs a Password");
                return Answer::Refuse(Refusal::bad_credentials(rule));
            };
            let from = shown.peer.address().map(|address| address.ip());
            let (pool, client_id) = (self.pool.clone(), shown.client_id);
            let check = move |name: &str| self.check(name, &password, &client_id);
            password_check::check(pool, from, name, check).await
        })
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let user = request.identity.user_name();
        let (own, groups): (&[usize], &[usize]) = match user {
            Some(name) => match self.client(name) {
                Some(client) if client.disabled => return Decision::Deny(client.rule.clone()),
                Some(client) => (&client.roles, &client.groups),
                None => return Decision::NoAnswer,
            },
            None => (&[], self.anonymous_group.as_slice()),
        };
        let question = Question { client_id: request.client_id, user, topic: request.topic };
        let decided =
            self.roles(own, groups).find_map(|role| role.decide(request.action, &question));
        decided.unwrap_or_else(|| self.defaults.decide(request.action, request.topic))
    }

    /// Whether the client is in this file, not disabled, with the password with which it was let in. Other policies'
    /// identities are left to them.
    fn validity(&self, client: &Present<'_>) -> Validity {
        let proof = Proof::given(client.identity, ProofOf::DynamicSecurity);
        let Some(proof) = proof else { return Validity::Foreign };
        let known = self.client(&proof.name);
        Validity::current_if(known.is_some_and(|known| {
            !known.disabled
                && known.hash.as_ref() == Some(&proof.hash)
                && known.client_id.as_deref().is_none_or(|own| own == client.client_id)
        }))
    }
}

/// What an entry of a role is asked.
struct Question<'a> {
    client_id: &'a str,
    user: Option<&'a str>,
    topic: &'a str,
}

impl Role {
    fn decide(&self, action: Action, question: &Question<'_>) -> Option<Decision> {
        let Question { client_id, user, topic } = *question;
        let matching = |kind: AclType| {
            self.acls[kind as usize].iter().find(|acl| match kind {
                AclType::PublishClientSend | AclType::PublishClientReceive => {
                    acl.pattern.matches(topic, client_id, user)
                }
                AclType::SubscribeLiteral | AclType::UnsubscribeLiteral => {
                    acl.pattern.as_str() == topic
                }
                AclType::SubscribePattern | AclType::UnsubscribePattern => {
                    acl.pattern.covers(topic, client_id, user)
                }
            })
        };
        let acl = match action {
            Action::Publish => matching(AclType::PublishClientSend),
            Action::Receive => matching(AclType::PublishClientReceive),
            Action::Subscribe => match &self.no_wildcards {
                Some(rule) if topic.contains(['+', '#']) => {
                    return Some(Decision::Deny(rule.clone()));
                }
                _ => matching(AclType::SubscribeLiteral)
                    .or_else(|| matching(AclType::SubscribePattern)),
            },
            Action::Unsubscribe => matching(AclType::UnsubscribeLiteral)
                .or_else(|| matching(AclType::UnsubscribePattern)),
        }?;
        Some(decision(acl.allow, &acl.rule))
    }
}

impl Defaults {
    fn decide(&self, action: Action, topic: &str) -> Decision {
        let (allow, rule) = match action {
            Action::Publish => &self.send,
            Action::Receive => &self.receive,
            Action::Subscribe => &self.subscribe,
            Action::Unsubscribe => &self.unsubscribe,
        };
        if *allow && topic.starts_with("$CONTROL") {
            return Decision::Deny(Rule::named("defaultACLAccess does not hold for $CONTROL"));
        }
        decision(*allow, rule)
    }
}

fn decision(allow: bool, rule: &Rule) -> Decision {
    let rule = rule.clone();
    if allow { Decision::Allow(rule) } else { Decision::Deny(rule) }
}

impl fmt::Debug for DynamicSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicSecurity")
            .field("source", &self.source)
            .field("clients", &self.clients.len())
            .field("groups", &self.groups.len())
            .field("roles", &self.roles.len())
            .finish_non_exhaustive()
    }
}
