//! Access control lists in mosquitto's format.
//!
//! # The file
//!
//! ```text
//! # A comment begins in the first column.
//! topic read news/#
//!
//! user ann
//! topic readwrite home/ann/#
//! topic deny home/ann/secret
//! topic write a topic with spaces
//!
//! pattern readwrite clients/%c/#
//! ```
//!
//! A line is `user NAME`, or `topic` or `pattern` with an access (`read`, `write`, `readwrite`, `deny`) and a Topic
//! Filter. The access may be left out where the filter has no space; it is then `readwrite`. Blanks at the end
//! are cut. Names and filters may hold spaces. `read` is about receiving and subscribing, `write` about publishing,
//! `deny` about both.
//!
//! - `topic` lines before the first `user` line hold for Clients without a user name, and for no others. Behind a
//!   `user` line they hold for that user. A user may have several sections.
//! - `pattern` lines hold for all Clients, wherever they stand. In them, a level `%c` is the Client Identifier, and a
//!   level `%u` the user name; patterns with `%u` hold for no Client without one. A name with `/` becomes several
//!   levels, and never a wildcard (CVE-2017-7650).
//! - The order in the file does not matter. The Client's own lines are asked before the patterns, and in both the
//!   denials before the rest. What no line allows is denied. So a user's own line beats `pattern deny`.
//! - A filter must begin with `$` as it is written to match a topic that begins with `$`.
//!
//! # SUBSCRIBE
//!
//! A subscription is allowed if a message could be received through it: if a `read` line covers its Topic Filter or
//! matches some topics of it. What is not allowed is left out at each delivery, so a `read` of `home/+` lets
//! a Client subscribe to `home/#`, and it receives the topics of `home/+` only. A subscription through which nothing
//! could ever be received is denied. [`AclFile::coverage`] tells the cases apart.
//!
//! # Differences to mosquitto
//!
//! The same files lead to the same answers as in mosquitto 2.0, with these exceptions; a test compares both.
//!
//! | | mosquitto 2.0 | here |
//! |---|---|---|
//! | SUBSCRIBE to what can never be received | granted, nothing is delivered | refused with 0x87 (0x80 in 3.1.1) |
//! | `+` or `#` in the Client Identifier or user name, where a pattern has `%c` or `%u` | the patterns do not hold | refused at CONNECT with 0x85 or 0x86 |
//! | `pattern read %c/#` and the Client Identifier `$SYS` | matches `$SYS/#` | does not match topics that begin with `$` |
//! | `%c` or `%u` beside other text in a level | put in, or literal text, by version | an error |
//! | `topic deny` without a filter | allows the topic `deny` | an error |
//! | filters that begin with `$share/` | never match | an error |
//! | tabs and other control characters inside a line | part of the name or filter | an error |
//! | a file without a rule | denies everything | an error |

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::file_error::{FileError, FileErrors};
use super::{
    Action, Answer, Authenticating, Credentials, Decision, Policy, Refusal, Request, Rule,
};
use crate::reason_code::ReasonCode;
use filters::{Client, FilterSet, Levels, Use};
use parse::Access;

mod filters;
mod parse;
#[cfg(test)]
mod tests;

/// As many rules may be in a file.
const LINES_MAX: usize = 1_000_000;

const UNSUBSCRIBE: Rule = Rule::named("to unsubscribe is always allowed");

/// What users may do, by a file in mosquitto's format. A policy for authorization; it lets nobody in.
///
/// A decision takes time by the levels of the topic and the rules near it, not by the number of users and
/// rules. As a part of a [`Chain`](super::Chain) it must stand before the policies that authenticate: it refuses
/// Clients whose names hold wildcards where patterns put the names in.
///
/// ```
/// use hrotti::access::{AclFile, Action, Identity, Policy, Request, Rule};
///
/// let acl = AclFile::parse("user ann\ntopic read home/+\npattern write from/%u/#\n", "acl")?;
/// let ann = Identity::new(Rule::named("a test")).with_user_name("ann");
/// let may = |action, topic| {
///     acl.authorize(&Request { identity: &ann, client_id: "c1", action, topic })
/// };
/// assert!(may(Action::Receive, "home/lamp").is_allowed());
/// assert!(may(Action::Publish, "from/ann/lamp").is_allowed());
/// let denied = may(Action::Publish, "home/lamp");
/// assert_eq!(denied.rule().unwrap().to_string(), "acl: no line allows it");
///
/// let errors = AclFile::parse("topics a\ntopic a/#/b", "acl").unwrap_err();
/// assert_eq!(errors.iter().count(), 2);
/// assert!(errors.to_string().starts_with("acl:1: the keyword \"topics\" is unknown; did you mean \"topic\"?"));
/// # Ok::<(), hrotti::access::FileErrors>(())
/// ```
pub struct AclFile {
    lines: Vec<Line>,
    anonymous: List,
    users: BTreeMap<Box<str>, List>,
    patterns: List,
    /// Whether a pattern has `%c`, and one `%u`.
    puts_in: (bool, bool),
    remarks: Vec<FileError>,
    nothing_allows: Rule,
    wildcard_in_name: Rule,
}

/// How much of a subscription can be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Everything that its Topic Filter matches.
    Whole,
    /// A part; the rest is left out at delivery.
    Part,
    /// Nothing.
    None,
}

/// Whom a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Anonymous,
    User(Box<str>),
    Pattern,
}

/// A rule of the file.
#[derive(Debug)]
struct Line {
    kind: Kind,
    access: Access,
    filter: Box<str>,
    rule: Rule,
}

/// The rules of one kind.
#[derive(Debug, Default)]
struct List {
    denies: FilterSet,
    allows: FilterSet,
}

/// A list with what its placeholders stand for.
#[derive(Clone, Copy)]
struct Part<'a> {
    list: &'a List,
    client: &'a Client<'a>,
}

impl AclFile {
    /// Reads the text of a file. `source` is the file's name, for errors and rules.
    ///
    /// # Errors
    /// All lines that are wrong, each with its remedy; also a file without a rule, and one with more than 1 000 000
    /// rules.
    pub fn parse(text: &str, source: &str) -> Result<AclFile, FileErrors> {
        let (lines, remarks) = parse::parse(text, source)?;
        let nothing_allows = Rule::line(source, 0, "no line allows it");
        let wildcard_in_name = Rule::line(
            source,
            0,
            "no pattern holds for a Client Identifier or user name with '+' or '#'",
        );
        let mut file = AclFile {
            lines: Vec::new(),
            anonymous: List::default(),
            users: BTreeMap::new(),
            patterns: List::default(),
            puts_in: (false, false),
            remarks: remarks.into_errors(),
            nothing_allows,
            wildcard_in_name,
        };
        for (number, line) in (0..).zip(&lines) {
            file.add(number, line);
        }
        file.lines = lines;
        Ok(file)
    }

    fn add(&mut self, number: u32, line: &Line) {
        let pattern = line.kind == Kind::Pattern;
        if pattern {
            let has = |name| line.filter.split('/').any(|level| level == name);
            self.puts_in = (self.puts_in.0 || has("%c"), self.puts_in.1 || has("%u"));
        }
        let list = match &line.kind {
            Kind::Anonymous => &mut self.anonymous,
            Kind::User(name) => self.users.entry(name.clone()).or_default(),
            Kind::Pattern => &mut self.patterns,
        };
        let (set, uses): (_, &[Use]) = match line.access {
            Access::Read => (&mut list.allows, &[Use::Read]),
            Access::Write => (&mut list.allows, &[Use::Write]),
            Access::ReadWrite => (&mut list.allows, &[Use::Read, Use::Write]),
            Access::Deny => (&mut list.denies, &[Use::Read, Use::Write]),
        };
        set.insert(&line.filter, pattern, number, uses);
    }

    /// Lines that are valid and say something else than was probably meant. The first 100 are kept.
    #[must_use]
    pub fn remarks(&self) -> &[FileError] {
        &self.remarks
    }

    /// How much a Client could receive through a Topic Filter (without `$share/NAME/`), and the rule that decided. An
    /// empty user name is none.
    ///
    /// ```
    /// use hrotti::access::{AclFile, Coverage};
    ///
    /// let acl = AclFile::parse("topic read home/+\n", "acl")?;
    /// let coverage = |filter| acl.coverage(None, "c1", filter).0;
    /// assert_eq!(coverage("home/lamp"), Coverage::Whole);
    /// assert_eq!(coverage("home/#"), Coverage::Part);
    /// assert_eq!(coverage("garden/#"), Coverage::None);
    /// # Ok::<(), hrotti::access::FileErrors>(())
    /// ```
    #[must_use]
    pub fn coverage(
        &self,
        user_name: Option<&str>,
        client_id: &str,
        filter: &str,
    ) -> (Coverage, Rule) {
        let (coverage, number) = self.with_parts(user_name, client_id, |parts| {
            cover(parts, &Levels::new(filter), |rule| &self.lines[rule as usize].filter)
        });
        let rule = number.map_or_else(
            || self.no_rule(user_name, client_id),
            |number| self.lines[number as usize].rule.clone(),
        );
        (coverage, rule)
    }

    /// Asks the lists that hold for a Client, in their order.
    fn with_parts<T>(
        &self,
        user_name: Option<&str>,
        client_id: &str,
        ask: impl FnOnce(&[Part<'_>]) -> T,
    ) -> T {
        let user_name = user_name.filter(|name| !name.is_empty());
        let nothing = List::default();
        let own = match user_name {
            None => &self.anonymous,
            Some(name) => self.users.get(name).unwrap_or(&nothing),
        };
        let plain = Client::plain();
        let own = Part { list: own, client: &plain };
        if has_wildcard(client_id) || user_name.is_some_and(has_wildcard) {
            return ask(&[own]);
        }
        let client = Client::of_pattern(client_id, user_name);
        ask(&[own, Part { list: &self.patterns, client: &client }])
    }

    /// The rule of a decision that no line made.
    fn no_rule(&self, user_name: Option<&str>, client_id: &str) -> Rule {
        let named = has_wildcard(client_id) || user_name.is_some_and(has_wildcard);
        if named && !(self.patterns.allows.is_empty() && self.patterns.denies.is_empty()) {
            return self.wildcard_in_name.clone();
        }
        self.nothing_allows.clone()
    }

    fn decide(&self, request: &Request<'_>, wanted: Use) -> Decision {
        let asked = Levels::new(request.topic);
        let user_name = request.identity.user_name();
        let decided = self.with_parts(user_name, request.client_id, |parts| {
            parts.iter().find_map(|Part { list, client }| {
                let of = |set: &FilterSet| set.covering(&asked, client, wanted);
                of(&list.denies)
                    .map(|rule| (false, rule))
                    .or_else(|| of(&list.allows).map(|rule| (true, rule)))
            })
        });
        match decided {
            Some((true, number)) => Decision::Allow(self.lines[number as usize].rule.clone()),
            Some((false, number)) => Decision::Deny(self.lines[number as usize].rule.clone()),
            None => Decision::Deny(self.no_rule(user_name, request.client_id)),
        }
    }
}

/// How much of a Topic Filter can be received, and the number of the rule that decided.
fn cover<'a>(
    parts: &[Part<'a>],
    asked: &Levels<'a>,
    filter_of: impl Fn(u32) -> &'a str,
) -> (Coverage, Option<u32>) {
    // The denials that come before the allowing rules at hand.
    let mut denies: Vec<Part<'a>> = Vec::new();
    let denied = |denies: &[Part<'a>], asked: &Levels<'_>| {
        denies.iter().find_map(|part| part.list.denies.covering(asked, part.client, Use::Read))
    };
    let mut because = None;
    for part in parts {
        denies.push(*part);
        if let Some(rule) = denied(&denies, asked) {
            return (Coverage::None, Some(rule));
        }
        let Part { list, client } = part;
        if let Some(rule) = list.allows.covering(asked, client, Use::Read) {
            let partly = denies.iter().any(|part| {
                part.list.denies.any_overlapping(asked, part.client, Use::Read, |_| true)
            });
            return (if partly { Coverage::Part } else { Coverage::Whole }, Some(rule));
        }
        let mut decided = None;
        list.allows.any_overlapping(asked, client, Use::Read, |rule| {
            let both = asked.meet(filter_of(rule), client);
            match denied(&denies, &both) {
                None => decided = Some(rule),
                Some(denial) => because = because.or(Some(denial)),
            }
            decided.is_some()
        });
        if decided.is_some() {
            return (Coverage::Part, decided);
        }
    }
    (Coverage::None, because)
}

fn has_wildcard(name: &str) -> bool {
    name.contains(['+', '#'])
}

impl Policy for AclFile {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let (client_id, user_name) = self.puts_in;
        let refuse = |reason| Answer::Refuse(Refusal::new(reason, self.wildcard_in_name.clone()));
        let answer = if client_id && has_wildcard(&shown.client_id) {
            refuse(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID)
        } else if user_name && shown.user_name.as_deref().is_some_and(has_wildcard) {
            refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD)
        } else {
            Answer::NoAnswer
        };
        Box::pin(std::future::ready(answer))
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        match request.action {
            Action::Publish => self.decide(request, Use::Write),
            Action::Receive => self.decide(request, Use::Read),
            Action::Unsubscribe => Decision::Allow(UNSUBSCRIBE),
            Action::Subscribe => {
                let user_name = request.identity.user_name();
                match self.coverage(user_name, request.client_id, request.topic) {
                    (Coverage::Whole | Coverage::Part, rule) => Decision::Allow(rule),
                    (Coverage::None, rule) => Decision::Deny(rule),
                }
            }
        }
    }
}

/// The rules as a file in the same format, each with its access, without comments.
impl fmt::Display for AclFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = &Kind::Anonymous;
        for line in &self.lines {
            let keyword = match &line.kind {
                Kind::Pattern => "pattern",
                Kind::Anonymous => "topic",
                Kind::User(name) => {
                    if *section != line.kind {
                        writeln!(f, "user {name}")?;
                        section = &line.kind;
                    }
                    "topic"
                }
            };
            writeln!(f, "{keyword} {} {}", line.access.word(), line.filter)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AclFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AclFile")
            .field("rules", &self.lines.len())
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}
