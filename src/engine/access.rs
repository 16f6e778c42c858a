//! The one place where access is decided: for PUBLISH, Will, SUBSCRIBE and UNSUBSCRIBE, and for every delivery, whether
//! its message is live, queued, retained, shared or resumed. Who may connect is decided in
//! [`authentication`](super::authentication).
//!
//! Without a policy, everything that the protocol allows is allowed, and credentials are not read. The Topic Names
//! that are reserved for the Server are checked here with or without a policy.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use ahash::RandomState;
use hashbrown::HashMap;
use log::{Level, log, log_enabled, warn};

use crate::access::{
    Action, Decision, DeniedPublish, Identity, Policy, Preparing, Present, Refusal, Request, Rule,
    Validity,
};
use crate::counters::{Counts, count_one};
use crate::reason_code::ReasonCode;
use crate::runtime::contain;
use crate::sync::{read, write};
use crate::time::Timestamp;
use crate::transport::PeerInfo;

/// The target of the log lines about what was denied.
pub(crate) const ACCESS_LOG: &str = "hrotti::access";

/// Topic Names whose decisions one Session remembers, beside the last.
const REMEMBERED_MAX: usize = 64;

/// A longer Topic Name is not remembered, so that no Client makes its Session's memory grow by long names.
const REMEMBERED_BYTES_MAX: usize = 1_024;

/// Lines about denials in one second.
const LOG_LINES_MAX: u32 = 10;

/// The bytes of a Client Identifier, a user name or a Topic Name that a log line shows.
const SHOWN_BYTES_MAX: usize = 200;

/// Why a message may not be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The Topic Name belongs to the Server: `$SYS` and everything below, and what would look like a
    /// shared subscription.
    Reserved,
    /// The policy does not allow it.
    ByPolicy,
    /// Another Network Connection has the Session, and with it another identity: nothing is decided.
    TakenOver,
}

/// Another Network Connection has the Session: its Client's identity says nothing about what this one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TakenOver;

/// How long it is known that a client may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// For this message.
    Once,
    UntilTheRulesChange,
}

/// The client that asks for something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) client_id: &'a str,
    /// It is the program that runs the broker, which may do everything.
    pub(crate) trusted: bool,
}

/// A remembered decision.
#[derive(Debug, Clone)]
enum Verdict {
    Allowed,
    Denied(Option<Rule>),
}

/// The identity of a Session's Client, and what was decided for it. It exists only with a policy.
#[derive(Debug)]
pub(crate) struct Subject {
    identity: Identity,
    /// The origin of the Client; `None` of a client in process.
    peer: Option<PeerInfo>,
    /// The Client connected while the broker had no policy.
    unchecked: bool,
    /// The number of the policy that let the Client in; `None` if the program that runs the broker vouches for it.
    admitted_by: Option<u64>,
    /// Of the rules that made the decisions below.
    generation: u64,
    /// The last Topic Name of a message that was to be received.
    last: Option<(Box<[u8]>, Verdict)>,
    /// Other Topic Names: whether the Client may receive them, and whether it may publish to them.
    others: HashMap<Box<[u8]>, Verdicts, RandomState>,
}

#[derive(Debug, Default)]
struct Verdicts {
    receive: Option<Verdict>,
    publish: Option<Verdict>,
}

impl Subject {
    pub(crate) fn new(identity: Identity) -> Box<Subject> {
        let others = HashMap::with_hasher(RandomState::new());
        let peer = None;
        Box::new(Subject {
            identity,
            peer,
            unchecked: false,
            admitted_by: None,
            generation: 0,
            last: None,
            others,
        })
    }

    /// The policy with this number has let the Client in.
    pub(crate) fn admitted_by(mut self: Box<Subject>, policy: u64) -> Box<Subject> {
        self.admitted_by = Some(policy);
        self
    }

    /// The Client has this origin.
    pub(crate) fn with_peer(mut self: Box<Subject>, peer: &PeerInfo) -> Box<Subject> {
        self.peer = Some(peer.clone());
        self
    }

    /// The identity of a Client that connected while the broker had no policy.
    fn unchecked() -> Box<Subject> {
        let rule = Rule::named("no access rules were in force when the Client connected");
        Box::new(Subject { unchecked: true, ..*Subject::new(Identity::new(rule)) })
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The origin of the Client; `None` of a client in process.
    pub(crate) fn peer(&self) -> Option<&PeerInfo> {
        self.peer.as_ref()
    }

    /// Whether the last message had this Topic Name and may be received, by rules that are still in force.
    #[inline]
    fn receives_as_before(&self, generation: u64, topic: &[u8]) -> bool {
        self.generation == generation
            && matches!(&self.last, Some((last, Verdict::Allowed)) if **last == *topic)
    }

    fn recall(&self, generation: u64, action: Action, topic: &[u8]) -> Option<Verdict> {
        if self.generation != generation {
            return None;
        }
        let known = self.others.get(topic);
        match action {
            Action::Receive => match &self.last {
                Some((last, verdict)) if **last == *topic => Some(verdict.clone()),
                _ => known?.receive.clone(),
            },
            Action::Publish => known?.publish.clone(),
            Action::Subscribe | Action::Unsubscribe => None,
        }
    }

    fn remember(&mut self, generation: u64, action: Action, topic: &[u8], verdict: &Verdict) {
        if self.generation != generation {
            self.generation = generation;
            self.last = None;
            self.others.clear();
        }
        if topic.len() > REMEMBERED_BYTES_MAX {
            return;
        }
        match action {
            Action::Receive => {
                let last = self.last.replace((topic.into(), verdict.clone()));
                if let Some((topic, verdict)) = last {
                    self.entry(topic).receive = Some(verdict);
                }
            }
            Action::Publish => self.entry(topic.into()).publish = Some(verdict.clone()),
            Action::Subscribe | Action::Unsubscribe => {}
        }
    }

    fn entry(&mut self, topic: Box<[u8]>) -> &mut Verdicts {
        if self.others.len() >= REMEMBERED_MAX && !self.others.contains_key(&topic) {
            self.others.clear();
        }
        self.others.entry(topic).or_default()
    }
}

/// The policy, and how often it was replaced or reported as changed.
#[derive(Clone, Default)]
pub(crate) struct Rules {
    pub(crate) policy: Option<Arc<dyn Policy>>,
    pub(crate) generation: u64,
    /// The generation in which the policy replaced another one.
    pub(crate) number: u64,
}

/// Answers the questions about access, by the policy if there is one.
#[derive(Default)]
pub(crate) struct AccessControl {
    rules: RwLock<Rules>,
    /// The generation of the rules; 0 without a policy.
    in_force: AtomicU64,
    /// The generation of the rules, with a policy or without.
    generation: AtomicU64,
    /// Whether a denied PUBLISH of MQTT 3.x closes its Network Connection.
    denied_publish_closes: AtomicBool,
    pub(crate) counts: Arc<Counts>,
    log: DenialLog,
    /// A task asks for each identity whether it is still current.
    pub(crate) rechecking: AtomicBool,
}

impl AccessControl {
    /// Rules for a broker.
    pub(crate) fn new(
        policy: Option<Arc<dyn Policy>>,
        denied_publish: DeniedPublish,
    ) -> AccessControl {
        let access = AccessControl::default();
        access.set_denied_publish(denied_publish);
        access.replace(|_| policy);
        access
    }

    pub(crate) fn set_denied_publish(&self, effect: DeniedPublish) {
        let closes = effect == DeniedPublish::Disconnect;
        self.denied_publish_closes.store(closes, Ordering::Relaxed);
    }

    pub(crate) fn denied_publish_closes(&self) -> bool {
        self.denied_publish_closes.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn with(policy: Arc<dyn Policy>) -> AccessControl {
        AccessControl::new(Some(policy), DeniedPublish::default())
    }

    /// Puts a policy in the place of the present one, or the same again: every remembered decision is void.
    pub(crate) fn replace(
        &self,
        policy: impl FnOnce(Option<Arc<dyn Policy>>) -> Option<Arc<dyn Policy>>,
    ) {
        let mut rules = write(&self.rules);
        let before = rules.policy.take();
        rules.policy = policy(before.clone());
        rules.generation += 1;
        let same = match (&before, &rules.policy) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            _ => false,
        };
        if !same {
            rules.number = rules.generation;
        }
        let in_force = if rules.policy.is_some() { rules.generation } else { 0 };
        self.generation.store(rules.generation, Ordering::Release);
        self.in_force.store(in_force, Ordering::Release);
    }

    pub(crate) fn rules(&self) -> Rules {
        read(&self.rules).clone()
    }

    fn policy(&self) -> Option<Arc<dyn Policy>> {
        read(&self.rules).policy.clone()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn is_in_force(&self) -> bool {
        self.in_force.load(Ordering::Acquire) != 0
    }

    // ---- Questions -------------------------------------------------------------------------------

    /// Whether a message may be published, and for how long that is known.
    pub(crate) fn publish(
        &self,
        asker: Asker<'_>,
        subject: &mut Option<Box<Subject>>,
        topic: &str,
    ) -> Result<Permit, Denied> {
        if is_reserved_for(asker, topic) {
            return Err(Denied::Reserved);
        }
        if !self.is_in_force() || asker.trusted {
            return Ok(Permit::UntilTheRulesChange);
        }
        self.ask(asker, subject, Action::Publish, topic.as_bytes()).ok_or(Denied::ByPolicy)
    }

    /// Whether a Will may be published now: its Client would still be let in, its identity has not ended, and it may
    /// publish.
    pub(crate) fn publish_will(
        &self,
        asker: Asker<'_>,
        subject: &mut Option<Box<Subject>>,
        topic: &str,
        wall: SystemTime,
    ) -> Result<(), Denied> {
        if self.is_in_force() && !asker.trusted {
            let ended = subject.as_ref().and_then(|subject| subject.identity.expires_at());
            let rule = match ended.is_some_and(|at| at <= wall) {
                true => Some(IDENTITY_ENDED),
                false if !self.is_current(asker, subject.as_deref()) => Some(NOT_CURRENT),
                false => None,
            };
            if let Some(rule) = &rule {
                let user = subject.as_ref().and_then(|subject| subject.identity.user_name());
                let (client_id, action) = (asker.client_id, Action::Publish);
                self.denied(&Denial { client_id, user, action, topic, rule: Some(rule) });
                return Err(Denied::ByPolicy);
            }
        }
        self.publish(asker, subject, topic).map(|_permit| ())
    }

    /// Has the policy get ready for a question. `None`: it can be asked.
    pub(crate) fn prepare(
        &self,
        asker: Asker<'_>,
        subject: Option<&Subject>,
        action: Action,
        topic: &str,
    ) -> Option<Preparing> {
        let Rules { policy, generation, .. } = self.rules();
        let policy = policy.filter(|_| !asker.trusted)?;
        let subject = subject.filter(|subject| !subject.unchecked)?;
        if subject.recall(generation, action, topic.as_bytes()).is_some() {
            return None;
        }
        let request =
            Request { identity: &subject.identity, client_id: asker.client_id, action, topic };
        contain("an access policy", || policy.prepare(&request)).flatten()
    }

    /// As [`AccessControl::prepare`], for the Will of a Client that has just been let in.
    pub(crate) fn prepare_will(
        &self,
        client_id: &str,
        identity: &Identity,
        topic: &str,
    ) -> Option<Preparing> {
        let asker = Asker { client_id, trusted: false };
        let subject = Subject::new(identity.clone());
        self.prepare(asker, Some(&subject), Action::Publish, topic)
    }

    /// Whether a client may receive a message because there is no policy, or because it received the last one with this
    /// Topic Name.
    #[inline]
    pub(crate) fn allows_as_before(
        &self,
        asker: Asker<'_>,
        subject: Option<&Subject>,
        topic: &[u8],
    ) -> bool {
        let in_force = self.in_force.load(Ordering::Acquire);
        in_force == 0
            || asker.trusted
            || subject.is_some_and(|subject| subject.receives_as_before(in_force, topic))
    }

    /// Whether a client may do something. The topic is UTF-8.
    pub(crate) fn allows(
        &self,
        asker: Asker<'_>,
        subject: &mut Option<Box<Subject>>,
        action: Action,
        topic: &[u8],
    ) -> bool {
        if action == Action::Receive && self.allows_as_before(asker, subject.as_deref(), topic) {
            return true;
        }
        !self.is_in_force() || asker.trusted || self.ask(asker, subject, action, topic).is_some()
    }

    /// Whether a client may do something, by what is remembered or by the policy.
    fn ask(
        &self,
        asker: Asker<'_>,
        subject: &mut Option<Box<Subject>>,
        action: Action,
        topic: &[u8],
    ) -> Option<Permit> {
        let subject = subject.get_or_insert_with(Subject::unchecked);
        let topic_text = std::str::from_utf8(topic).unwrap_or_default();
        let recalled = subject.recall(self.in_force.load(Ordering::Acquire), action, topic);
        let (verdict, permit) = match recalled {
            Some(verdict) => (verdict, Permit::UntilTheRulesChange),
            None => {
                let Rules { policy, generation, .. } = self.rules();
                let Some(policy) = policy else { return Some(Permit::UntilTheRulesChange) };
                let identity = &subject.identity;
                let request =
                    Request { identity, client_id: asker.client_id, action, topic: topic_text };
                let decision = decide(&*policy, &request);
                let permit = match decision.rule().is_none_or(Rule::is_remembered) {
                    true => Permit::UntilTheRulesChange,
                    false => Permit::Once,
                };
                let verdict = match decision {
                    Decision::Allow(_) => Verdict::Allowed,
                    Decision::Deny(rule) => Verdict::Denied(Some(rule)),
                    Decision::NoAnswer => Verdict::Denied(None),
                };
                if permit == Permit::UntilTheRulesChange {
                    subject.remember(generation, action, topic, &verdict);
                }
                (verdict, permit)
            }
        };
        match verdict {
            Verdict::Allowed => Some(permit),
            Verdict::Denied(rule) => {
                let (client_id, user) = (asker.client_id, subject.identity.user_name());
                let rule = rule.as_ref();
                self.denied(&Denial { client_id, user, action, topic: topic_text, rule });
                None
            }
        }
    }

    /// The decision about an action and its rule. It is neither remembered nor counted.
    pub(crate) fn decision(
        &self,
        asker: Asker<'_>,
        identity: &Identity,
        action: Action,
        topic: &str,
    ) -> Decision {
        let (Some(policy), false) = (self.policy(), asker.trusted) else {
            return Decision::Allow(Rule::named(if asker.trusted { HOST } else { NO_POLICY }));
        };
        decide(&*policy, &Request { identity, client_id: asker.client_id, action, topic })
    }

    /// Whether a Client that was let in would still be let in. `None`: it is no Client whom a policy lets in.
    pub(crate) fn is_current(&self, asker: Asker<'_>, subject: Option<&Subject>) -> bool {
        let Rules { policy, number, .. } = self.rules();
        let (Some(policy), false) = (policy, asker.trusted) else { return true };
        let Some(subject) = subject.filter(|subject| !subject.unchecked) else { return false };
        let present = Present {
            identity: &subject.identity,
            client_id: asker.client_id,
            peer: subject.peer.as_ref(),
        };
        match contain("an access policy", || policy.validity(&present)) {
            Some(Validity::Current) => true,
            Some(Validity::Foreign) => subject.admitted_by.is_none_or(|by| by == number),
            Some(Validity::Gone) | None => false,
        }
    }

    /// Tells the policy that the Network Connection of a Client that it let in has ended.
    pub(crate) fn disconnected(&self, client_id: &str, identity: &Identity, peer: &PeerInfo) {
        if let Some(policy) = self.policy() {
            let present = Present { identity, client_id, peer: Some(peer) };
            let _told = contain("an access policy", || policy.disconnected(&present));
        }
    }

    // ---- What was denied -------------------------------------------------------------------------

    /// Every denial of an action comes here: it is counted and logged.
    fn denied(&self, denial: &Denial<'_>) {
        let counts = &self.counts;
        let (count, level) = match denial.action {
            Action::Publish => (&counts.publishes_denied, Level::Warn),
            Action::Subscribe | Action::Unsubscribe => (&counts.subscribes_denied, Level::Warn),
            // One for each message.
            Action::Receive => (&counts.receives_denied, Level::Debug),
        };
        count_one(count);
        if log_enabled!(target: ACCESS_LOG, level) && (level != Level::Warn || self.log.admits()) {
            log!(target: ACCESS_LOG, level, "{denial}");
        }
    }

    /// Every CONNECT or authentication that the policy refuses comes here: it is counted and logged.
    pub(crate) fn refused(
        &self,
        client_id: &str,
        user: Option<&str>,
        peer: &dyn fmt::Display,
        refusal: &Refusal,
    ) {
        let counts = &self.counts;
        count_one(match refusal.reason() {
            ReasonCode::BAD_USER_NAME_OR_PASSWORD => &counts.connects_bad_credentials,
            ReasonCode::NOT_AUTHORIZED | ReasonCode::BAD_AUTHENTICATION_METHOD => {
                &counts.connects_not_authorized
            }
            ReasonCode::BANNED => &counts.connects_banned,
            ReasonCode::CONNECTION_RATE_EXCEEDED => &counts.connects_rate_exceeded,
            _ => &counts.connects_refused,
        });
        if log_enabled!(target: ACCESS_LOG, Level::Warn) && self.log.admits() {
            let (client, user) = (Shown(client_id), User(user));
            let (reason, rule) = (refusal.reason(), Because(Some(refusal.rule())));
            warn!(target: ACCESS_LOG, "client {client} {user} at {peer} may not connect, {reason}: {rule}");
        }
    }

    /// Writes how many lines were held back, once a second. Called with every tick.
    pub(crate) fn tick(&self, now: Timestamp) {
        self.log.tick(now);
    }
}

/// An action that was denied, as a line for the log.
#[derive(Debug)]
struct Denial<'a> {
    client_id: &'a str,
    user: Option<&'a str>,
    action: Action,
    topic: &'a str,
    rule: Option<&'a Rule>,
}

impl fmt::Display for Denial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, user, topic) = (Shown(self.client_id), User(self.user), Shown(self.topic));
        let (action, rule) = (self.action, Because(self.rule));
        write!(f, "client {client} {user} may not {action} {topic}: {rule}")
    }
}

const HOST: &str = "the program that runs the broker";
const NO_POLICY: &str = "the broker has no access rules";
const IDENTITY_ENDED: Rule = Rule::named("the identity of the Client has ended");
const NOT_CURRENT: Rule = Rule::named("the access rules would not let the Client in any more");
const PANICKED: Rule = Rule::named("the policy panicked");

/// What the policy says; a panic is a no.
fn decide(policy: &dyn Policy, request: &Request<'_>) -> Decision {
    contain("an access policy", || policy.authorize(request)).unwrap_or(Decision::Deny(PANICKED))
}

/// Whether the Topic Name may be written by the Server and the program that runs it alone.
pub(crate) fn is_reserved_for(asker: Asker<'_>, topic: &str) -> bool {
    !asker.trusted
        && topic.starts_with('$')
        && ["$SYS", "$share"].iter().any(|root| {
            topic.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

impl fmt::Debug for AccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessControl").field("policy", &self.is_in_force()).finish()
    }
}

/// Keeps a flood of denials from becoming a flood of lines (pitfall 18).
#[derive(Debug, Default)]
struct DenialLog {
    lines: AtomicU32,
    held_back: AtomicU64,
    /// The beginning of the present second, in milliseconds.
    since: AtomicU64,
}

impl DenialLog {
    /// Whether one more line may be written in this second.
    fn admits(&self) -> bool {
        let admitted = self.lines.load(Ordering::Relaxed) < LOG_LINES_MAX
            && self.lines.fetch_add(1, Ordering::Relaxed) < LOG_LINES_MAX;
        if !admitted {
            self.held_back.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn tick(&self, now: Timestamp) {
        if now.millis_since(Timestamp(self.since.load(Ordering::Relaxed))) < 1_000 {
            return;
        }
        self.since.store(now.0, Ordering::Relaxed);
        if self.lines.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.lines.store(0, Ordering::Relaxed);
        let held_back = self.held_back.swap(0, Ordering::Relaxed);
        if held_back > 0 {
            warn!(target: ACCESS_LOG, "{held_back} more denials in the last second");
        }
    }
}

/// A text from a Client, escaped, and not at any length.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = prefix_end(self.0, SHOWN_BYTES_MAX);
        let shown = self.0.get(..end).unwrap_or_default();
        write!(f, "{shown:?}{}", if end < self.0.len() { "…" } else { "" })
    }
}

/// The end of the longest prefix of at most `max` bytes.
fn prefix_end(text: &str, max: usize) -> usize {
    (0..=max.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0)
}

struct User<'a>(Option<&'a str>);

impl fmt::Display for User<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "of user {}", Shown(name)),
            None => f.write_str("without a user name"),
        }
    }
}

struct Because<'a>(Option<&'a Rule>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rule) => rule.fmt(f),
            None => f.write_str("no rule allows it"),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
