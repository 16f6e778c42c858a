//! SCRAM as enhanced authentication (MQTT 5 section 4.12; RFC 5802, RFC 7677).
//!
//! The server's side is written here, over `ring`. `rsasl` has one, but tells unknown users from known ones (a salt
//! that changes, another error), compares keys in variable time, leaves user names encoded and draws its own nonces,
//! so that no vector of the standards can be played to it. Its client is the other side in the tests.

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{hmac, pbkdf2};
use subtle::ConstantTimeEq as _;

use super::{
    Answer, Authenticating, Credentials, Decision, Exchange, Identity, Policy, Present, Refusal,
    Request, Rule, Secret, Validity,
};
use crate::reason_code::ReasonCode;

mod messages;
#[cfg(test)]
mod tests;
mod users;

pub use users::ScramUsers;

use messages::{Challenge, Why};
use users::Credential;

/// A mechanism of SCRAM, which is an Authentication Method of MQTT 5 by the same name.
///
/// ```
/// use hrotti::access::ScramMechanism;
///
/// assert_eq!(ScramMechanism::Sha512.to_string(), "SCRAM-SHA-512");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScramMechanism {
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl ScramMechanism {
    const ALL: [ScramMechanism; 2] = [ScramMechanism::Sha256, ScramMechanism::Sha512];

    fn name(self) -> &'static str {
        match self {
            ScramMechanism::Sha256 => "SCRAM-SHA-256",
            ScramMechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn named(name: &str) -> Option<ScramMechanism> {
        ScramMechanism::ALL.into_iter().find(|one| one.name() == name)
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            ScramMechanism::Sha256 => hmac::HMAC_SHA256,
            ScramMechanism::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            ScramMechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            ScramMechanism::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn key_len(self) -> usize {
        self.hmac().digest_algorithm().output_len()
    }
}

impl fmt::Display for ScramMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why [`ScramUsers::line`] makes no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScramError {
    /// The user name is empty, has a colon or a control character, begins with `#`, or has characters that SASLprep
    /// forbids.
    UserName,
    /// The password is empty, is not UTF-8, or has characters that SASLprep forbids.
    Password,
    /// The number of iterations is not 4 096 to 100 000 000.
    Iterations,
    /// The operating system gives no random numbers.
    NoRandomness,
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScramError::UserName => {
                "the user name is empty, holds a colon or a control character, begins with #, or holds characters \
                 that SASLprep forbids; choose another"
            }
            ScramError::Password => {
                "the password is empty, no UTF-8, or holds characters that SASLprep forbids; choose another"
            }
            ScramError::Iterations => "the number of iterations is not 4096 to 100000000",
            ScramError::NoRandomness => "the operating system gives no random numbers; try again",
        })
    }
}

impl std::error::Error for ScramError {}

/// Lets in Clients that prove by SCRAM-SHA-256 or SCRAM-SHA-512 to know a password, without sending it (MQTT 5
/// section 4.12).
///
/// The Authentication Method of CONNECT names the mechanism, and its Authentication Data is the client-first-message.
/// AUTH carries the server-first-message and the client-final-message, CONNACK the server-final-message, by which the
/// Client knows that the server knows it. The identity's user name is that of the exchange; the User Name of CONNECT
/// is not read. Of a CONNECT with another method, or with none, the next policy of a [`Chain`](super::Chain) decides.
///
/// - A wrong proof and an unknown user are refused with 0x86, in the same way and after the same work: an unknown user
///   has a salt too, always the same as long as the file has the same first user.
/// - A mechanism for which the file has no user is refused with 0x8C.
/// - There is no channel binding: a client that demands it is refused.
/// - The server computes three hashes for an exchange, so it takes place on the thread that serves the connection. The
///   iterations are the Client's work.
///
/// ```
/// # use futures_lite::future::block_on;
/// use std::sync::Arc;
///
/// use hrotti::access::{
///     Answer, Credentials, Policy, ScramMechanism, ScramPolicy, ScramUsers, Secret,
/// };
///
/// let file = ScramUsers::line("ann", b"secret", ScramMechanism::Sha256, 4_096)?;
/// let policy = Arc::new(ScramPolicy::new(ScramUsers::parse(&file, "scram")?));
///
/// let mut shown = Credentials::new("c1", hrotti::transport::PeerInfo::from("a test"));
/// shown.authentication_method = Some("SCRAM-SHA-256".into());
/// shown.authentication_data = Secret::new(b"n,,n=ann,r=fyko+d2lbbFgONRv9qkxdawL");
/// let Answer::Continue { data, .. } = block_on(policy.authenticate(shown)) else { unreachable!() };
/// assert!(data.starts_with(b"r=fyko+d2lbbFgONRv9qkxdawL"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ScramPolicy {
    users: ScramUsers,
}

impl ScramPolicy {
    /// A policy with these users.
    #[must_use]
    pub fn new(users: ScramUsers) -> ScramPolicy {
        ScramPolicy { users }
    }

    fn begin(&self, mechanism: ScramMechanism, message: &[u8], server_nonce: &str) -> Answer {
        let rule = |why: Why| Rule::line(self.users.source.clone(), 0, why);
        if !self.users.has(mechanism) {
            let rule = rule("it has no user for this mechanism");
            return Answer::Refuse(Refusal::new(ReasonCode::BAD_AUTHENTICATION_METHOD, rule));
        }
        let first = match messages::client_first(message) {
            Ok(first) => first,
            Err(why) => return Answer::Refuse(Refusal::bad_credentials(rule(why))),
        };
        let credential = self.users.find(mechanism, &first.user);
        let challenge = Challenge::new(&first, &credential, server_nonce);
        let data = challenge.server_first().as_bytes().to_vec();
        let source = self.users.source.clone();
        Answer::Continue { data, next: Box::new(Begun { source, credential, challenge }) }
    }
}

/// A nonce of 24 printable letters.
fn nonce() -> Option<String> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(STANDARD.encode(bytes))
}

impl Policy for ScramPolicy {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let mechanism = shown.authentication_method.as_deref().and_then(ScramMechanism::named);
        let answer = match (mechanism, nonce()) {
            (None, _) => Answer::NoAnswer,
            (Some(mechanism), Some(nonce)) => {
                self.begin(mechanism, shown.authentication_data.bytes(), &nonce)
            }
            (Some(_), None) => {
                let rule = Rule::named("the operating system gives no random numbers");
                Answer::Refuse(Refusal::new(ReasonCode::SERVER_UNAVAILABLE, rule))
            }
        };
        Box::pin(ready(answer))
    }

    /// There are no rules in a SCRAM file.
    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::NoAnswer
    }

    /// A user is current as long as the file has the user with the same password.
    fn validity(&self, client: &Present<'_>) -> Validity {
        let Some(one) = client.identity.grant::<Credential>() else { return Validity::Foreign };
        let known = self.users.known(one.mechanism, &one.name);
        Validity::current_if(
            known.is_some_and(|known| bool::from(known.stored_key.ct_eq(&one.stored_key))),
        )
    }
}

/// An exchange whose server-first-message was sent.
struct Begun {
    source: Arc<str>,
    credential: Arc<Credential>,
    challenge: Challenge,
}

impl Exchange for Begun {
    fn proceed(self: Box<Self>, data: Secret) -> Authenticating {
        let Begun { source, credential, challenge } = *self;
        let answer = match challenge.finish(data.bytes(), &credential) {
            Ok(verifier) => {
                let rule = Rule::line(source, credential.line, credential.mechanism.name());
                let identity = Identity::new(rule).with_user_name(&credential.name);
                let identity = identity.with_grant(credential);
                Answer::Accept { identity, data: verifier.into_bytes() }
            }
            Err(why) => Answer::Refuse(Refusal::bad_credentials(Rule::line(source, 0, why))),
        };
        Box::pin(ready(answer))
    }
}
