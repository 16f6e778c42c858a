//! Access: who may connect, and what a connected Client may publish, subscribe to and receive.
//!
//! A broker has one [`Policy`]. It *authenticates* each CONNECT, which may take time, and *authorizes* each action
//! of the identity that came out of it, which must not. Both name the [`Rule`] that decided. Several policies
//! become one by a [`Chain`]: the first that answers decides, and no answer is a no.
//!
//! A Session belongs to the user name of its [`Identity`]. A CONNECT of another user with the same Client Identifier is
//! refused with 0x85 (3.x: return code 2), with and without Clean Start, and so is one of an anonymous Client. The Session
//! and its connection are not affected. A Session from before the access rules belongs to nobody, and the first user whom
//! they let in may resume it; that of an anonymous Client is ended for a user, and not resumed. So is that of a user
//! whom the rules would not let in any more, so that removing a user frees its Client Identifiers. A Session of another
//! [mount point](crate::ListenerRules::mount_point) is refused in the same way.
//!
//! ```
//! use std::sync::Arc;
//!
//! use hrotti::access::{
//!     Action, Answer, Authenticating, Credentials, Decision, Identity, Policy, Refusal, Request, Rule,
//! };
//!
//! /// Lets in `ann` with her password, and gives everybody the topics below the own user name.
//! struct OwnTopics;
//!
//! impl Policy for OwnTopics {
//!     fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
//!         Box::pin(async move {
//!             let known = shown.user_name.as_deref() == Some("ann");
//!             match shown.password {
//!                 Some(password) if known & password.equals(b"secret") => {
//!                     Answer::accept(Identity::new(Rule::named("the user list")).with_user_name("ann"))
//!                 }
//!                 _ => Answer::Refuse(Refusal::bad_credentials(Rule::named("the user list"))),
//!             }
//!         })
//!     }
//!
//!     fn authorize(&self, request: &Request<'_>) -> Decision {
//!         let user = request.identity.user_name().unwrap_or_default();
//!         let own = request.topic.strip_prefix(user).is_some_and(|rest| rest.starts_with('/'));
//!         let rule = Rule::named("everybody's own topics");
//!         if own { Decision::Allow(rule) } else { Decision::Deny(rule) }
//!     }
//! }
//!
//! let ann = Identity::new(Rule::named("a test")).with_user_name("ann");
//! let request =
//!     Request { identity: &ann, client_id: "c1", action: Action::Publish, topic: "ann/lamp" };
//! assert!(OwnTopics.authorize(&request).is_allowed());
//! ```

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use crate::packet::ProtocolVersion;
use crate::reason_code::ReasonCode;
use crate::transport::PeerInfo;

mod acl_file;
mod bans;
mod chain;
mod config;
#[cfg(feature = "access-files")]
mod dynamic_security;
mod file_error;
mod files;
mod flapping;
mod hashing;
#[cfg(feature = "http-access")]
mod http;
#[cfg(feature = "jwt")]
mod jwt;
mod kept_memory;
mod load;
#[cfg(feature = "access-files")]
mod password_check;
#[cfg(feature = "access-files")]
mod password_file;
#[cfg(feature = "access-files")]
mod password_hash;
mod rule;
#[cfg(feature = "scram")]
mod scram;
mod secret;
mod secret_file;
#[cfg(any(feature = "access-files", feature = "scram"))]
mod steady_choice;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(any(feature = "jwt", feature = "http-access"))]
mod topic_lists;

pub use acl_file::{AclFile, Coverage};
pub use bans::{Ban, BanTarget, Bans, BansFull};
pub use chain::Chain;
pub(crate) use config::shown_url;
pub use config::{AccessConfig, DeniedPublish, FlappingConfig, HttpConfig, JwtConfig};
#[cfg(feature = "access-files")]
pub use dynamic_security::DynamicSecurity;
pub use file_error::{FileError, FileErrors};
pub use files::{AllowAll, Anonymous};
pub use flapping::Flapping;
pub use hashing::{Hashing, HashingCounters, HashingError, HashingPool};
#[cfg(feature = "http-access")]
pub use http::{HttpAnswers, HttpCounters, HttpForm, HttpPolicy, HttpSettings};
#[cfg(feature = "jwt")]
pub use jwt::{JwtAlgorithm, JwtKeys, JwtPolicy, JwtSettings};
pub(crate) use load::FileMark;
pub use load::{AccessPart, ListenerAccess, LoadedAccess};
#[cfg(feature = "access-files")]
pub use password_file::PasswordFile;
#[cfg(feature = "access-files")]
pub use password_hash::{HashError, HashMethod, PasswordHash};
pub use rule::Rule;
#[cfg(feature = "scram")]
pub use scram::{ScramError, ScramMechanism, ScramPolicy, ScramUsers};
pub use secret::Secret;
pub use secret_file::{AccessFile, FileContent};

/// The access rules of a broker.
///
/// The methods are called on the threads that serve connections, so they must not block. Work that takes more than
/// some microseconds (hashing, files, requests to other servers) belongs on a thread of the policy's own, behind the
/// future that [`Policy::authenticate`] returns. [`Policy::authorize`], [`Policy::prepare`] and [`Policy::validity`] are
/// called while a Session is locked: they must not call the broker.
///
/// A policy that stands before another one passes every call on, also those of the methods that have a default.
pub trait Policy: Send + Sync + 'static {
    /// Decides about a CONNECT. The connection waits for the future, at most for
    /// [`Limits::connect_decision_timeout`](crate::Limits::connect_decision_timeout); other connections do not.
    /// A panic refuses the CONNECT with 0x88.
    ///
    /// A Client of MQTT 5 with an Authentication Method may authenticate again while it is connected (section 4.12.1).
    /// Then the same method is called, without User Name and Password. The Client is served meanwhile. On success its
    /// identity is replaced, and a refusal closes the connection with its Reason Code, or with 0x87 if DISCONNECT cannot
    /// say it.
    ///
    /// A policy that does not know the Authentication Method of a Client answers [`Answer::NoAnswer`].
    /// # Cancel safety
    /// The future is dropped when the time is over or the peer has gone.
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating;

    /// Decides about an action of a Client that was let in. Answers about [`Action::Publish`] and [`Action::Receive`]
    /// are remembered for the Session and the topic until the policy is replaced or
    /// [reported as changed](crate::Broker::policy_changed), unless the rule that decided holds
    /// [for one question](Rule::for_one_question). A panic is a no.
    fn authorize(&self, request: &Request<'_>) -> Decision;

    /// Gets ready for a question that [`Policy::authorize`] could not answer now, because the answer has to be fetched.
    /// `None`, the default: it can be answered.
    ///
    /// Called before [`Action::Publish`] is asked about a PUBLISH or, at CONNECT, about a Will, and before
    /// [`Action::Subscribe`]. The packet waits for the future, and with it the later packets of the same Network Connection, at most for [`Limits::connect_decision_timeout`](crate::Limits::connect_decision_timeout). Then
    /// `authorize` decides, with what it knows. A delivery cannot wait: [`Action::Receive`] is never
    /// prepared, so a policy fetches those answers with that about SUBSCRIBE, as far as it can. A message about which it
    /// knows nothing is not delivered. Messages of [clients in process](crate::Broker::client_as), and Wills when they are
    /// published, do not wait either. A panic means that nothing has to be fetched.
    /// # Cancel safety
    /// The future is dropped when the time is over or the peer has gone.
    fn prepare(&self, request: &Request<'_>) -> Option<Preparing> {
        let _ = request;
        None
    }

    /// Whether a Client that was let in would be let in now. Asked when the policy was replaced or reported as changed,
    /// for each Session, and before a Will is published.
    ///
    /// The connection of a Client is closed with 0x98 if the answer is [`Validity::Gone`]. If it is
    /// [`Validity::Foreign`], the default, the Client stays as long as the same policy is in force that let it in, so
    /// a policy without this method keeps its Clients at [`Broker::policy_changed`](crate::Broker::policy_changed) and
    /// loses them at [`Broker::set_policy`](crate::Broker::set_policy) with another policy. [`Validity::Current`]
    /// keeps the Client in any case. A panic is `Gone`.
    ///
    /// A Session without a connection whose Client would not be let in stays until it expires, and gets nothing: see
    /// [`Broker::set_policy`](crate::Broker::set_policy).
    fn validity(&self, client: &Present<'_>) -> Validity {
        let _ = client;
        Validity::Foreign
    }

    /// Told when the Network Connection of a Client that was let in has ended, for whatever reason. The default does
    /// nothing.
    fn disconnected(&self, client: &Present<'_>) {
        let _ = client;
    }
}

/// A decision about a CONNECT, or about one step of an enhanced authentication, that may take time.
pub type Authenticating = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The wait for an answer that [`Policy::prepare`] fetches.
pub type Preparing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a policy knows of a Client that was let in.
///
/// ```
/// use hrotti::access::Validity::{Current, Foreign, Gone};
///
/// assert_eq!(Foreign.and(Current), Current, "one policy vouches for it");
/// assert_eq!(Current.and(Gone), Gone, "another would refuse it");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// This policy would let it in again.
    Current,
    /// This policy has not let it in, or keeps no account of it, and would not refuse it.
    Foreign,
    /// This policy would refuse it.
    Gone,
}

impl Validity {
    /// What two policies know together: each can refuse, and one has to vouch.
    #[must_use]
    pub fn and(self, other: Validity) -> Validity {
        match (self, other) {
            (Validity::Gone, _) | (_, Validity::Gone) => Validity::Gone,
            (Validity::Current, _) | (_, Validity::Current) => Validity::Current,
            (Validity::Foreign, Validity::Foreign) => Validity::Foreign,
        }
    }

    /// `Current` if it is so, else `Gone`.
    #[must_use]
    pub fn current_if(current: bool) -> Validity {
        if current { Validity::Current } else { Validity::Gone }
    }
}

/// What a peer shows in CONNECT and before it. `Debug` leaves the secrets out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// The Client Identifier; the one that the Server assigned, if the Client sent none.
    pub client_id: Arc<str>,
    /// The User Name.
    pub user_name: Option<Arc<str>>,
    /// The Password, which is any bytes (section 3.1.3.6).
    pub password: Option<Secret>,
    /// The version of MQTT.
    pub version: ProtocolVersion,
    /// The address, the listener, and what the transport knows of the peer's identity.
    pub peer: PeerInfo,
    /// The Authentication Method (section 3.1.2.11.9), in MQTT 5.
    pub authentication_method: Option<Arc<str>>,
    /// The Authentication Data (section 3.1.2.11.10).
    pub authentication_data: Secret,
}

impl Credentials {
    /// Credentials of MQTT 3.1.1 with nothing but these, for tests.
    #[must_use]
    pub fn new(client_id: &str, peer: PeerInfo) -> Credentials {
        Credentials {
            client_id: client_id.into(),
            user_name: None,
            password: None,
            version: ProtocolVersion::V3_1_1,
            peer,
            authentication_method: None,
            authentication_data: Secret::default(),
        }
    }

    /// Adds a User Name and a Password.
    #[must_use]
    pub fn with_password(mut self, user_name: &str, password: &[u8]) -> Credentials {
        self.user_name = Some(user_name.into());
        self.password = Some(Secret::new(password));
        self
    }
}

/// A policy's answer to a CONNECT, or to a step of an enhanced authentication.
#[non_exhaustive]
pub enum Answer {
    /// The policy knows nothing of this peer; in a [`Chain`] the next policy is asked. If there is none, the CONNECT
    /// is refused with 0x87.
    NoAnswer,
    /// The Client is let in.
    Accept {
        /// The identity of the Client as long as it is connected.
        identity: Identity,
        /// Authentication Data for CONNACK (section 3.2.2.3.18); empty without an Authentication Method.
        data: Vec<u8>,
    },
    /// The Client is not let in.
    Refuse(Refusal),
    /// AUTH with 0x18 and this data is sent (section 4.12), and the Client's AUTH goes to `next`.
    Continue {
        /// Authentication Data for the Client.
        data: Vec<u8>,
        /// The rest of the exchange.
        next: Box<dyn Exchange>,
    },
}

impl Answer {
    /// Lets the Client in.
    #[must_use]
    pub fn accept(identity: Identity) -> Answer {
        Answer::Accept { identity, data: Vec::new() }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::NoAnswer => f.write_str("NoAnswer"),
            Answer::Accept { identity, .. } => f.debug_tuple("Accept").field(identity).finish(),
            Answer::Refuse(refusal) => f.debug_tuple("Refuse").field(refusal).finish(),
            Answer::Continue { .. } => f.write_str("Continue"),
        }
    }
}

/// An enhanced authentication that has begun (section 4.12).
pub trait Exchange: Send {
    /// Takes the Authentication Data of the Client's AUTH.
    fn proceed(self: Box<Self>, data: Secret) -> Authenticating;
}

/// Why a CONNECT is refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    reason: ReasonCode,
    rule: Rule,
}

impl Refusal {
    /// A refusal with a Reason Code of CONNACK (section 3.2.2.2); a code below 0x80 becomes 0x80. 3.x Clients get
    /// the return code that is nearest.
    #[must_use]
    pub fn new(reason: ReasonCode, rule: Rule) -> Refusal {
        let reason = if reason.is_error() { reason } else { ReasonCode::UNSPECIFIED_ERROR };
        Refusal { reason, rule }
    }

    /// The User Name or the Password is wrong: 0x86, in 3.x return code 4.
    #[must_use]
    pub fn bad_credentials(rule: Rule) -> Refusal {
        Refusal::new(ReasonCode::BAD_USER_NAME_OR_PASSWORD, rule)
    }

    /// The Client is known and may not connect: 0x87, in 3.x return code 5.
    #[must_use]
    pub fn not_authorized(rule: Rule) -> Refusal {
        Refusal::new(ReasonCode::NOT_AUTHORIZED, rule)
    }

    /// The Reason Code.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        self.reason
    }

    /// The rule that decided, for logs. It is not sent to the Client.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }
}

/// The identity of a Client that was let in. A clone is the same identity.
#[derive(Clone)]
pub struct Identity(Arc<Facts>);

#[derive(Clone)]
struct Facts {
    user_name: Option<Arc<str>>,
    rule: Rule,
    expires_at: Option<SystemTime>,
    grant: Option<Arc<dyn Any + Send + Sync>>,
}

impl Identity {
    /// An anonymous identity, which `rule` let in.
    #[must_use]
    pub fn new(rule: Rule) -> Identity {
        Identity(Arc::new(Facts { user_name: None, rule, expires_at: None, grant: None }))
    }

    fn with(mut self, change: impl FnOnce(&mut Facts)) -> Identity {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Sets the user name by which rules know the Client. It need not be that of CONNECT: it may come from a
    /// certificate or a token.
    #[must_use]
    pub fn with_user_name(self, name: &str) -> Identity {
        self.with(|facts| facts.user_name = Some(name.into()))
    }

    /// Ends the connection at this time with 0xA0, or 0x87 if it has passed already. The clock is that of the wall,
    /// with a resolution of 250 ms.
    #[must_use]
    pub fn with_end(self, at: SystemTime) -> Identity {
        self.with(|facts| facts.expires_at = Some(at))
    }

    /// Keeps what the policy will need to authorize: the rules of a token, the roles of a user.
    #[must_use]
    pub fn with_grant(self, grant: Arc<dyn Any + Send + Sync>) -> Identity {
        self.with(|facts| facts.grant = Some(grant))
    }

    /// The user name by which rules know the Client; `None` for an anonymous Client.
    #[must_use]
    pub fn user_name(&self) -> Option<&str> {
        self.0.user_name.as_deref()
    }

    /// The rule that let the Client in.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.0.rule
    }

    /// When the identity ends.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at
    }

    /// What the policy kept, if it is of this type.
    #[must_use]
    pub fn grant<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.grant.as_deref()?.downcast_ref()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user_name", &self.user_name())
            .field("rule", self.rule())
            .finish_non_exhaustive()
    }
}

/// What a Client does with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Publish to a Topic Name, also by a Will, at CONNECT and when it is published.
    Publish,
    /// Subscribe with a Topic Filter; of a shared subscription, the filter behind the ShareName.
    Subscribe,
    /// Unsubscribe from a Topic Filter, written as for `Subscribe`.
    Unsubscribe,
    /// Receive a message with a Topic Name.
    Receive,
}

/// A Client that was let in.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// The identity that [`Policy::authenticate`] gave the Client.
    pub identity: &'a Identity,
    /// The Client Identifier.
    pub client_id: &'a str,
    /// The address and the listener; `None` for a client in process.
    pub peer: Option<&'a PeerInfo>,
}

/// One question to [`Policy::authorize`].
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The identity that [`Policy::authenticate`] gave the Client.
    pub identity: &'a Identity,
    /// The Client Identifier.
    pub client_id: &'a str,
    /// What the Client does.
    pub action: Action,
    /// The Topic Name; for `Subscribe` and `Unsubscribe` the Topic Filter.
    pub topic: &'a str,
}

/// The answer to a [`Request`], with the rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It may.
    Allow(Rule),
    /// It may not.
    Deny(Rule),
    /// The policy has no rule for it; in a [`Chain`] the next policy is asked. If there is none, it may not.
    NoAnswer,
}

impl Decision {
    /// Whether the Client may.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }

    /// The rule that decided, if one did.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            Decision::Allow(rule) | Decision::Deny(rule) => Some(rule),
            Decision::NoAnswer => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Action {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Action::Publish => "publish",
            Action::Subscribe => "subscribe",
            Action::Unsubscribe => "unsubscribe",
            Action::Receive => "receive",
        }
    }
}
