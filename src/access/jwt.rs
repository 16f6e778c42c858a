//! JSON Web Tokens as Passwords.
//!
//! The signatures are verified by `ring`, and header and claims are read here. `jsonwebtoken` is not used: its
//! cryptography is one for the whole process, so a library that installs one takes the choice from the program that
//! embeds it, and its own two providers are a second implementation of what `ring` does for TLS already.

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::topic_lists::{Names, TopicLists};
use super::{
    Answer, Authenticating, Credentials, Decision, FileError, FileErrors, HashingPool, Identity,
    Policy, Present, Refusal, Request, Rule, Secret, Validity,
};
use crate::reason_code::ReasonCode;

mod algorithm;
mod der;
mod key;
mod keys;
#[cfg(test)]
mod tests;
mod token;

pub use algorithm::JwtAlgorithm;
pub use keys::JwtKeys;

use keys::Fingerprint;
use token::{Shape, Why};

/// Which tokens a [`JwtPolicy`] accepts, and how it reads them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JwtSettings {
    /// The algorithms that tokens may use; at least one. A token's own word for its algorithm only chooses among them.
    pub algorithms: Vec<JwtAlgorithm>,
    /// The claim `iss` that tokens must have. Default: any or none.
    pub issuer: Option<String>,
    /// What the claim `aud` must be or hold. Default: anything.
    pub audience: Option<String>,
    /// The claim with the user name, a text that is not empty. Default `sub`. A token without it is refused. The User
    /// Name of CONNECT is not read.
    pub user_name_claim: String,
    /// The claim with the access list. Default: none, so that tokens carry no rules.
    pub acl_claim: Option<String>,
    /// Whether a token must have the claim `exp`. Default: yes.
    pub end_required: bool,
    /// How far the clocks of the tokens' maker and of this machine may differ. Default 30 s. It is added to `exp` and
    /// taken from `nbf`.
    pub leeway: Duration,
    /// The longest token in bytes. Default 16 384 (16 KiB). A longer one is refused.
    pub token_bytes_max: usize,
}

impl JwtSettings {
    /// The defaults, with these algorithms.
    #[must_use]
    pub fn new(algorithms: Vec<JwtAlgorithm>) -> JwtSettings {
        JwtSettings {
            algorithms,
            issuer: None,
            audience: None,
            user_name_claim: "sub".to_owned(),
            acl_claim: None,
            end_required: true,
            leeway: Duration::from_secs(30),
            token_bytes_max: 16 * 1024,
        }
    }
}

/// Lets in Clients whose Password is a JSON Web Token (RFC 7519) that a known key has signed.
///
/// - *The Client* sends the token as the Password, and any User Name: MQTT 3.1.1 demands one with a Password, it
///   may be empty, and it is not read. That is the form of EMQX, HiveMQ and of Google's IoT Core. mosquitto-go-auth
///   takes the token as the User Name instead; that form is not supported, because User Names are written to logs.
/// - *Other Passwords*: a Password that is not three parts of base64url, the first of them a JSON object, is no
///   token, and the next policy of a [`Chain`](super::Chain) is asked. A token that is not valid is refused with
///   0x86.
/// - *Algorithms* are those of the settings. A key verifies only algorithms of its own kind, so a public key is never
///   taken for a secret. Tokens without a signature, and keys that a token brings along, are never accepted.
/// - *The end*: when `exp` and the leeway have passed, the connection is closed.
/// - *The access list*: if the settings name a claim for it, the claim has the form that EMQX has given it,
///   `{"pub": [...], "sub": [...], "all": [...]}`, each a list of Topic Filters: to publish, to subscribe and
///   receive, and all of it. `${clientid}` and `${username}` (that of the token) stand for the Client's own. What the
///   lists do not allow is denied. A token with such a claim in another form, with more than 1 000 filters or 64 KiB of
///   them, is refused; of a token without the claim, the next policy of a chain decides.
///
/// Most signatures are verified on the thread that serves the connection, in less time than a TLS handshake takes there:
/// HS256 3 µs, RS256 and PS256 some 20 (2 048 bits; with 4 096 four times as much), EdDSA 45, ES256 50. ES384 takes 2 ms,
/// so it has a [`HashingPool`]: another one for each policy, unless [`JwtPolicy::with_pool`] names one.
///
/// ```
/// # use futures_lite::future::block_on;
/// use std::sync::Arc;
///
/// use hrotti::access::{Answer, Credentials, JwtAlgorithm, JwtKeys, JwtPolicy, JwtSettings, Policy};
///
/// let keys = JwtKeys::from_key_file(b"a secret of thirty-two bytes ...", "secret.key")?;
/// let mut settings = JwtSettings::new(vec![JwtAlgorithm::Hs256]);
/// settings.issuer = Some("https://id.example".to_owned());
/// let policy = Arc::new(JwtPolicy::new(keys, settings)?);
///
/// let peer = hrotti::transport::PeerInfo::from("a test");
/// let shown = Credentials::new("c1", peer).with_password("", b"eyJhbGciOiJub25lIn0.e30.");
/// assert!(matches!(block_on(policy.clone().authenticate(shown.clone())), Answer::Refuse(_)));
/// // No token: the next policy of a chain is asked.
/// let shown = shown.with_password("ann", b"secret");
/// assert!(matches!(block_on(policy.authenticate(shown)), Answer::NoAnswer));
/// # Ok::<(), hrotti::access::FileErrors>(())
/// ```
pub struct JwtPolicy {
    keys: JwtKeys,
    settings: JwtSettings,
    source: Arc<str>,
    pool: HashingPool,
}

/// What the identity of a token keeps.
struct JwtGrant {
    algorithm: JwtAlgorithm,
    key: Fingerprint,
    /// Issuer and audience, to check them again when the settings have changed.
    sender: serde_json::Map<String, serde_json::Value>,
    lists: Option<TopicLists>,
}

impl JwtPolicy {
    /// A policy with these keys.
    ///
    /// # Errors
    /// No algorithm is named, or no key verifies one that is named.
    pub fn new(keys: JwtKeys, settings: JwtSettings) -> Result<JwtPolicy, FileErrors> {
        let fault =
            |problem: String| Err(FileErrors::one(FileError::new(&*keys.source, 0, problem)));
        if settings.algorithms.is_empty() {
            return fault(
                "no algorithm is named for its keys; name those that tokens may use".to_owned(),
            );
        }
        if let Some(unfit) = settings.algorithms.iter().find(|one| !keys.any_fits(**one)) {
            let remedy = match unfit.secret_bytes_min() {
                Some(bytes) => {
                    format!("it takes a secret of at least {bytes} bytes, and never a public key")
                }
                None => "remove the algorithm, or add the public key".to_owned(),
            };
            return fault(format!("none of its keys verifies {unfit}: {remedy}"));
        }
        let source = format!("token verified by {}", keys.source).into();
        Ok(JwtPolicy { keys, settings, source, pool: HashingPool::default() })
    }

    /// The same policy, which verifies slow signatures in this pool.
    #[must_use]
    pub fn with_pool(mut self, pool: HashingPool) -> JwtPolicy {
        self.pool = pool;
        self
    }

    /// Whether a signature takes longer than a turn of a connection may.
    fn is_slow(&self, shown: &Credentials) -> bool {
        let password = shown.password.as_ref().map(Secret::bytes).unwrap_or_default();
        let slow = JwtAlgorithm::Es384;
        self.settings.algorithms.contains(&slow)
            && token::algorithm_of(password, self.settings.token_bytes_max) == Some(slow)
    }

    fn answer(&self, shown: &Credentials, now: SystemTime) -> Answer {
        let Some(password) = shown.password.as_ref() else { return Answer::NoAnswer };
        if shown.authentication_method.is_some() {
            return Answer::NoAnswer;
        }
        let bytes = password.bytes();
        match token::shape(bytes, self.settings.token_bytes_max) {
            Shape::Other => Answer::NoAnswer,
            Shape::TooLong => self.refuse("it is too long"),
            Shape::Token(parts, header) => {
                let verified = token::verify(&parts, &header, &self.keys, &self.settings);
                match verified.and_then(|verified| self.identity(verified, &shown.client_id, now)) {
                    Ok(identity) => Answer::accept(identity),
                    Err(why) => self.refuse(why),
                }
            }
        }
    }

    fn refuse(&self, why: Why) -> Answer {
        Answer::Refuse(Refusal::bad_credentials(Rule::line(self.source.clone(), 0, why)))
    }

    fn identity(
        &self,
        verified: token::Verified,
        client_id: &str,
        now: SystemTime,
    ) -> Result<Identity, Why> {
        let token::Verified { algorithm, key, claims } = verified;
        let end = token::check_claims(&claims, &self.settings, now)?;
        let name = token::user_name(&claims, &self.settings.user_name_claim)?;
        let list = self.settings.acl_claim.as_ref().and_then(|claim| claims.get(claim));
        let names = Names { user_name: Some(name), client_id };
        let lists = list.map(|list| TopicLists::read(list, &self.source, names)).transpose()?;
        let sender = ["iss", "aud"]
            .into_iter()
            .filter_map(|claim| Some((claim.to_owned(), claims.get(claim)?.clone())))
            .collect();
        let grant = JwtGrant { algorithm, key, sender, lists };
        let identity = Identity::new(Rule::line(self.source.clone(), 0, algorithm.name()))
            .with_user_name(name)
            .with_grant(Arc::new(grant));
        Ok(match end {
            Some(end) => identity.with_end(end),
            None => identity,
        })
    }
}

impl Policy for JwtPolicy {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        if !self.is_slow(&shown) {
            return Box::pin(ready(self.answer(&shown, SystemTime::now())));
        }
        Box::pin(async move {
            let from = shown.peer.address().map(|address| address.ip());
            let policy = self.clone();
            let answer = self.pool.submit(from, move || policy.answer(&shown, SystemTime::now()));
            answer.await.unwrap_or_else(|_| {
                let rule = Rule::named("too many signatures wait to be verified");
                Answer::Refuse(Refusal::new(ReasonCode::SERVER_BUSY, rule))
            })
        })
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let lists = request.identity.grant::<JwtGrant>().and_then(|grant| grant.lists.as_ref());
        lists.map_or(Decision::NoAnswer, |lists| lists.authorize(request))
    }

    /// A token's identity is current as long as its key, its algorithm, its issuer and its audience would be accepted.
    fn validity(&self, client: &Present<'_>) -> Validity {
        let Some(grant) = client.identity.grant::<JwtGrant>() else { return Validity::Foreign };
        Validity::current_if(
            self.keys.holds(&grant.key)
                && self.settings.algorithms.contains(&grant.algorithm)
                && token::check_sender(&grant.sender, &self.settings).is_ok(),
        )
    }
}

impl fmt::Debug for JwtPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtPolicy")
            .field("keys", &self.keys)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
