//! `hrotti explain`: what a Client may do by a configuration, and which rule decides. Nothing is bound and no broker runs.
//!
//! Exit codes: 0 is yes, 1 is no, 2 is no answer.

use std::io::{self, BufRead as _};
use std::net::SocketAddr;

use async_std::task::block_on;
use hrotti::access::{
    AccessPart, Action, Answer as Said, Coverage, Credentials, Decision, Identity, Request, Rule,
    Secret,
};
use hrotti::config::Config;
use hrotti::transport::PeerInfo;
use hrotti::transport::tls::ClientCertificate;
use hrotti::{ListenerConfig, ProtocolVersion, TopicFilter, TopicName};
use serde_json::{Value, json};

use super::args::Question;
use hrotti::server::Loaded;

/// The exit code if there is no answer.
pub(crate) const NO_ANSWER: u8 = 2;

/// The answer to a question.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) code: u8,
}

/// How an answer was found.
#[derive(Debug, Default)]
struct Trace {
    /// What was asked and did not decide, in order.
    considered: Vec<String>,
    /// What else an operator should know.
    notes: Vec<String>,
    /// How much of a subscription is covered.
    coverage: Option<Coverage>,
}

/// Yes or no, and the rule.
#[derive(Debug)]
struct Verdict {
    allowed: bool,
    rule: Rule,
}

impl Verdict {
    fn yes(rule: Rule) -> Verdict {
        Verdict { allowed: true, rule }
    }

    fn no(rule: Rule) -> Verdict {
        Verdict { allowed: false, rule }
    }
}

/// The Client of a question at its listener.
struct Client<'a> {
    loaded: &'a Loaded,
    question: &'a Question,
    name: &'a str,
    listener: &'a ListenerConfig,
    version: ProtocolVersion,
    password: Option<Secret>,
}

/// Answers a question.
///
/// # Errors
/// The question cannot be answered: the listener is not named, or a text is no topic. One line with the remedy.
pub(crate) fn answer(
    config: &Config,
    loaded: &Loaded,
    question: &Question,
) -> Result<Answer, String> {
    let password = match question.password_stdin {
        true => Some(read_password()?),
        false => None,
    };
    let (name, listener) = listener(config, question)?;
    let version = match question.version.as_str() {
        "3.1" => ProtocolVersion::V3_1,
        "3.1.1" => ProtocolVersion::V3_1_1,
        _ => ProtocolVersion::V5,
    };
    let client = Client { loaded, question, name, listener, version, password };
    let mut trace = Trace::default();
    let (verdict, identity) = client.connect(&mut trace)?;
    if question.action == "connect" || !verdict.allowed {
        if question.action != "connect" {
            trace.notes.push("it may not connect, so it may do nothing else".to_owned());
        }
        return Ok(client.report(&verdict, &trace));
    }
    trace.considered.clear();
    let verdict = client.act(&identity, &mut trace)?;
    Ok(client.report(&verdict, &trace))
}

/// The first line of the standard input.
fn read_password() -> Result<Secret, String> {
    let mut line = Vec::new();
    let read = io::stdin().lock().read_until(b'\n', &mut line);
    read.map_err(|error| {
        format!(
            "--password-stdin: the standard input cannot be read: {error}; write the password to it"
        )
    })?;
    let end = line.len() - usize::from(line.ends_with(b"\n"));
    let end = end - usize::from(line[..end].ends_with(b"\r"));
    let secret = Secret::new(&line[..end]);
    line.fill(0);
    Ok(secret)
}

fn listener<'a>(
    config: &'a Config,
    question: &Question,
) -> Result<(&'a str, &'a ListenerConfig), String> {
    let names = || {
        config.listeners.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ")
    };
    let found = match (&question.listener, config.listeners.as_slice()) {
        (Some(name), all) => all.iter().find(|(known, _)| known == name),
        (None, [only]) => Some(only),
        (None, _) => {
            return Err(format!(
                "there are several listeners; add --listener with one of {}",
                names()
            ));
        }
    };
    let found = found.ok_or_else(|| {
        let name = question.listener.as_deref().unwrap_or_default();
        format!("--listener {name:?}: there is no such listener; write one of {}", names())
    })?;
    Ok((&found.0, &found.1))
}

impl Client<'_> {
    fn rule(&self, key: &str, text: &str) -> Rule {
        Rule::line(format!("listeners.{}.{key}", self.name), 0, text)
    }

    /// Whether the Client may connect, and its identity if it may.
    fn connect(&self, trace: &mut Trace) -> Result<(Verdict, Identity), String> {
        let nobody = || Identity::new(Rule::named("nobody"));
        if let Some(verdict) = self.at_the_listener(trace) {
            return Ok((verdict, nobody()));
        }
        if self.loaded.access().policy().is_none() {
            let rule =
                Rule::named("the configuration has no access settings, so every Client is let in");
            return Ok((Verdict::yes(rule.clone()), self.identity(rule)));
        }
        for part in self.loaded.authenticators() {
            match self.ask(part, trace) {
                Some((verdict, identity)) => {
                    return Ok((verdict, identity.unwrap_or_else(nobody)));
                }
                None => trace.considered.push(format!("{}: no answer", part.key)),
            }
        }
        if trace.notes.iter().any(|note| note.contains(NEEDS_PASSWORD)) {
            return Err(format!("{}; add --password-stdin", trace.notes.join("; ")));
        }
        let text = match &self.question.user {
            Some(_) => "no setting knows this user, and no answer is a no",
            None => "no setting lets in Clients without a user name",
        };
        Ok((Verdict::no(Rule::named(text)), nobody()))
    }

    /// What the listener says before anything else is asked.
    fn at_the_listener(&self, trace: &mut Trace) -> Option<Verdict> {
        let rules = &self.listener.rules;
        let restricted = rules.networks_allowed.is_some() || !rules.networks_denied.is_empty();
        match self.question.address {
            Some(address) if !rules.lets_in(Some(address)) => {
                let key = if rules.networks_denied.iter().any(|network| network.contains(address)) {
                    "networksDenied"
                } else {
                    "networksAllowed"
                };
                return Some(Verdict::no(self.rule(key, &format!("{address} is not let in"))));
            }
            None if restricted => {
                trace.notes.push(
                    "the networks of the listener were not checked; add --address".to_owned(),
                );
            }
            _ => {}
        }
        if let Some(tls) = &self.listener.tls
            && tls.client_certificate() == ClientCertificate::Required
        {
            trace
                .notes
                .push("the listener demands a certificate, which was not checked".to_owned());
        }
        if !rules.versions.contains(self.version) {
            let text = format!("MQTT {} is served, and not {}", rules.versions, self.version);
            return Some(Verdict::no(self.rule("versions", &text)));
        }
        if rules.anonymous == Some(false) && self.question.user.is_none() {
            return Some(Verdict::no(
                self.rule("anonymous", "false: Clients without a user name are not let in"),
            ));
        }
        None
    }

    fn identity(&self, rule: Rule) -> Identity {
        match &self.question.user {
            Some(user) => Identity::new(rule).with_user_name(user),
            None => Identity::new(rule),
        }
    }

    fn credentials(&self) -> Credentials {
        let peer = match self.question.address {
            Some(address) => PeerInfo::from(SocketAddr::new(address, 0)),
            None => PeerInfo::from("explain"),
        };
        let peer = peer.at_listener(self.name, self.listener.rules.clone());
        let mut shown = Credentials::new(&self.question.client, peer);
        shown.version = self.version;
        shown.user_name = self.question.user.as_deref().map(Into::into);
        shown.password.clone_from(&self.password);
        shown
    }

    /// What one policy says about CONNECT. `None`: it has no answer.
    fn ask(&self, part: &AccessPart, trace: &mut Trace) -> Option<(Verdict, Option<Identity>)> {
        let checks_password = PASSWORD_KEYS.iter().any(|key| part.key.starts_with(key));
        let mut shown = self.credentials();
        let unchecked = checks_password && self.password.is_none() && self.question.user.is_some();
        if unchecked {
            if !part.key.ends_with("File") || part.key.starts_with("access.jwt") {
                trace.notes.push(format!("{}: {NEEDS_PASSWORD}", part.key));
                return None;
            }
            // Its answer tells whether there is such a user, without anything being sent anywhere.
            shown.password = Some(Secret::new(b""));
        }
        match block_on(part.policy.clone().authenticate(shown)) {
            Said::Accept { identity, .. } => {
                Some((Verdict::yes(identity.rule().clone()), Some(identity)))
            }
            Said::Refuse(refusal) if unchecked && !refusal.rule().text().starts_with("no ") => {
                trace.notes.push("the password was not checked; add --password-stdin".to_owned());
                let rule = refusal.rule().clone();
                Some((Verdict::yes(rule.clone()), Some(self.identity(rule))))
            }
            Said::Refuse(refusal) => Some((Verdict::no(refusal.rule().clone()), None)),
            _ => None,
        }
    }

    /// Whether the Client may publish, subscribe or receive.
    fn act(&self, identity: &Identity, trace: &mut Trace) -> Result<Verdict, String> {
        let (action, topic) = self.topic(trace)?;
        let server = ["$SYS", "$share"];
        let reserved = |root: &&str| topic == **root || topic.starts_with(&format!("{root}/"));
        if action == Action::Publish && server.iter().any(reserved) {
            return Ok(Verdict::no(Rule::named("only the server publishes to $SYS and $share")));
        }
        if self.loaded.access().policy().is_none() {
            return Ok(Verdict::yes(Rule::named(
                "the configuration has no access settings, so everything is allowed",
            )));
        }
        let client_id = &self.question.client;
        let request = Request { identity, client_id, action, topic: &topic };
        for part in self.loaded.access().authorizers() {
            let decision = part.policy.authorize(&request);
            if let (Action::Subscribe, Some(acl)) = (action, self.loaded.access().acl())
                && part.key == "access.aclFile"
            {
                trace.coverage = Some(acl.coverage(identity.user_name(), client_id, &topic).0);
            }
            match decision {
                Decision::Allow(rule) => return Ok(Verdict::yes(rule)),
                Decision::Deny(rule) => return Ok(Verdict::no(rule)),
                _ => trace.considered.push(format!("{}: no answer", part.key)),
            }
        }
        Ok(Verdict::no(Rule::named("no setting allows it, and no answer is a no")))
    }

    /// The action, and the topic as the rules see it: behind the mount point, and without `$share/NAME/`.
    fn topic(&self, trace: &mut Trace) -> Result<(Action, String), String> {
        let written = self.question.topic.as_deref().unwrap_or_default();
        let problem =
            |error: &dyn std::fmt::Display| format!("{written:?} cannot be asked about: {error}");
        let (action, bare) = match self.question.action.as_str() {
            "subscribe" => {
                let filter = TopicFilter::new(written).map_err(|error| problem(&error))?;
                (Action::Subscribe, filter.filter_str().to_owned())
            }
            action => {
                let name = TopicName::new(written).map_err(|error| problem(&error))?;
                let action = if action == "publish" { Action::Publish } else { Action::Receive };
                (action, name.as_str().to_owned())
            }
        };
        let Some(mount_point) = &self.listener.rules.mount_point else { return Ok((action, bare)) };
        let whole = format!("{mount_point}{bare}");
        trace.notes.push(format!("with the mount point of the listener, it is {whole:?}"));
        Ok((action, whole))
    }

    fn report(&self, verdict: &Verdict, trace: &Trace) -> Answer {
        let code = u8::from(!verdict.allowed);
        let text = if self.question.json {
            self.as_json(verdict, trace)
        } else {
            self.as_text(verdict, trace)
        };
        Answer { text, code }
    }

    fn as_text(&self, verdict: &Verdict, trace: &Trace) -> String {
        let Question { action, topic, client, user, .. } = self.question;
        let word = if verdict.allowed { "yes" } else { "no" };
        let who = match user {
            Some(user) => format!("user {user:?}"),
            None => "no user name".to_owned(),
        };
        let what = match topic {
            Some(topic) if action == "publish" => format!(" to {topic:?}"),
            Some(topic) if action != "connect" => format!(" {topic:?}"),
            _ => String::new(),
        };
        let may = if verdict.allowed { "may" } else { "may not" };
        let mut lines = vec![
            format!(
                "{word}: client {client:?} with {who} {may} {action}{what} at listener {:?}",
                self.name
            ),
            format!("rule: {}", verdict.rule),
        ];
        lines.extend(trace.coverage.filter(|_| verdict.allowed).map(|coverage| {
            match coverage {
                Coverage::Whole => "coverage: all that the filter matches".to_owned(),
                _ => {
                    "coverage: a part of what the filter matches; the rest is left out at delivery"
                        .to_owned()
                }
            }
        }));
        lines.extend(trace.considered.iter().map(|asked| format!("asked before: {asked}")));
        lines.extend(trace.notes.iter().map(|note| format!("note: {note}")));
        lines.join("\n")
    }

    fn as_json(&self, verdict: &Verdict, trace: &Trace) -> String {
        let Question { action, topic, client, user, .. } = self.question;
        let rule = &verdict.rule;
        let coverage = trace.coverage.map(|coverage| match coverage {
            Coverage::Whole => "whole",
            Coverage::Part => "part",
            Coverage::None => "none",
        });
        let answer: Value = json!({
            "allowed": verdict.allowed,
            "action": action,
            "topic": topic,
            "client": client,
            "user": user,
            "listener": self.name,
            "rule": {"source": rule.source(), "line": rule.line_number(), "text": rule.text()},
            "coverage": coverage,
            "considered": trace.considered,
            "notes": trace.notes,
        });
        answer.to_string()
    }
}

/// The keys of the policies that read passwords.
const PASSWORD_KEYS: [&str; 5] = [
    "access.passwordFile",
    "access.dynamicSecurityFile",
    "access.jwt",
    "access.http",
    "access.scramFile",
];
const NEEDS_PASSWORD: &str = "decides by the password or token";
