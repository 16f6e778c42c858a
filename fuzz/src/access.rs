//! Files with access rules, by the public library.

use std::sync::Arc;

use hrotti::access::{AclFile, Action, Coverage, FileErrors, Identity, Policy, Request, Rule};

use super::topics::matches;
use crate::topic::{check_filter, check_name};

const FILE: &str = "the file";

/// Each error names the file and is one line.
fn check_errors(errors: &FileErrors) {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert!(!lines.is_empty());
    for line in &lines {
        assert!(line.starts_with(FILE), "which file? {line}");
        assert!(!line.contains(char::is_control), "more than one line: {line:?}");
    }
    assert!(errors.to_string().starts_with(&lines.join("\n")));
}

/// Client Identifier, user name and topic in the first line, and the file.
pub(super) fn acl_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (question, text) = text.split_once('\n').unwrap_or(("", text));
    let file = match AclFile::parse(text, FILE) {
        Ok(file) => file,
        Err(errors) => return check_errors(&errors),
    };
    let written = file.to_string();
    let again = AclFile::parse(&written, FILE).expect("it reads back");
    assert_eq!(again.to_string(), written);

    let mut parts = question.split('\t');
    let client_id = parts.next().unwrap_or_default();
    let user_name = parts.next().filter(|name| !name.is_empty());
    let topic = parts.next().unwrap_or("a");
    let asked = Asked { file: &file, rules: naive_rules(&written), client_id, user_name };
    if check_name(topic).is_ok() {
        asked.check_name(topic);
    }
    if check_filter(topic).is_ok() && !topic.starts_with("$share/") {
        asked.check_filter(topic);
    }
}

/// A rule as it was written: its section, whether it is a pattern, access and filter.
type NaiveRule<'a> = (Option<&'a str>, bool, &'a str, &'a str);

fn naive_rules(written: &str) -> Vec<NaiveRule<'_>> {
    let (mut section, mut rules) = (None, Vec::new());
    for line in written.lines() {
        let (keyword, rest) = line.split_once(' ').expect("two words");
        match (keyword, rest.split_once(' ')) {
            ("user", _) => section = Some(rest),
            ("topic", Some((access, filter))) => rules.push((section, false, access, filter)),
            ("pattern", Some((access, filter))) => rules.push((section, true, access, filter)),
            other => panic!("{other:?}"),
        }
    }
    rules
}

struct Asked<'a> {
    file: &'a AclFile,
    rules: Vec<NaiveRule<'a>>,
    client_id: &'a str,
    user_name: Option<&'a str>,
}

impl Asked<'_> {
    fn decides(&self, action: Action, topic: &str) -> bool {
        let identity = Identity::new(Rule::named("a Client"));
        let identity = match self.user_name {
            Some(name) => identity.with_user_name(name),
            None => identity,
        };
        let request = Request { identity: &identity, client_id: self.client_id, action, topic };
        self.file.authorize(&request).is_allowed()
    }

    /// The filter with the names in it; `None` if it holds for no topic.
    fn put_in(&self, filter: &str) -> Option<String> {
        let mut levels = Vec::new();
        for level in filter.split('/') {
            levels.push(match level {
                "%c" => self.client_id,
                "%u" => self.user_name?,
                level => level,
            });
        }
        let names = levels.join("/");
        (!(filter.starts_with('%') && names.starts_with('$'))).then_some(names)
    }

    fn allows(&self, access: &str, topic: &str) -> bool {
        let wild = |name: &str| name.contains(['+', '#']);
        let wild = wild(self.client_id) || self.user_name.is_some_and(wild);
        for patterns in [false, true] {
            for deny in [true, false] {
                let found = self.rules.iter().any(|(section, pattern, word, filter)| {
                    let holds = match pattern {
                        true => patterns && !wild,
                        false => !patterns && *section == self.user_name,
                    };
                    let fits = match deny {
                        true => *word == "deny",
                        false => *word == access || *word == "readwrite",
                    };
                    let filter = match pattern {
                        true => self.put_in(filter),
                        false => Some((*filter).to_owned()),
                    };
                    holds && fits && filter.is_some_and(|filter| matches(&filter, topic))
                });
                if found {
                    return !deny;
                }
            }
        }
        false
    }

    fn check_name(&self, topic: &str) {
        assert_eq!(self.decides(Action::Publish, topic), self.allows("write", topic), "{topic:?}");
        assert_eq!(self.decides(Action::Receive, topic), self.allows("read", topic), "{topic:?}");
        assert!(self.decides(Action::Unsubscribe, topic));
    }

    fn check_filter(&self, filter: &str) {
        let (coverage, _) = self.file.coverage(self.user_name, self.client_id, filter);
        assert_eq!(self.decides(Action::Subscribe, filter), coverage != Coverage::None);
        for topic in topics(filter).chain(self.rules.iter().flat_map(|rule| topics(rule.3))) {
            if check_name(&topic).is_ok() && matches(filter, &topic) {
                match coverage {
                    Coverage::Whole => assert!(self.allows("read", &topic), "{filter:?} {topic:?}"),
                    Coverage::Part => {}
                    Coverage::None => assert!(!self.allows("read", &topic), "{filter:?} {topic:?}"),
                }
            }
        }
    }
}

/// Some topics that a filter matches.
fn topics(filter: &str) -> impl Iterator<Item = String> {
    [("a", ""), ("", "/b"), ("$a", "/a/$b")].into_iter().map(move |(one, rest)| {
        let text = if filter == "#" { "+/#" } else { filter };
        let (above, rest) = text.strip_suffix("/#").map_or((text, ""), |above| (above, rest));
        let levels: Vec<&str> =
            above.split('/').map(|level| if level == "+" { one } else { level }).collect();
        levels.join("/") + rest
    })
}
