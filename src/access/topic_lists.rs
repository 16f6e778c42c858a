//! Lists of Topic Filters that come with an identity: in a claim of a token, or in the answer of an HTTP server.
//!
//! The form is that of EMQX's claim: `{"pub": [...], "sub": [...], "all": [...]}`. Lists only allow, and what no
//! filter allows is denied. `sub` is both to subscribe and to receive.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Action, Decision, Request, Rule};
use crate::topic;

/// The keys of the lists, with what each allows.
const KEYS: &[(&str, bool, bool)] =
    &[("pub", true, false), ("sub", false, true), ("all", true, true)];

/// As many filters are kept for an identity.
const FILTERS_MAX: usize = 1_000;
/// As many bytes of text in them, so that long filters do not make them more.
const BYTES_MAX: usize = 64 * 1024;

/// What an identity may publish to, subscribe to and receive. The lists of one identity are small: they are
/// searched from the beginning.
pub(crate) struct TopicLists {
    filters: Vec<Listed>,
}

struct Listed {
    publish: bool,
    subscribe: bool,
    levels: Box<[Level]>,
    rule: Rule,
}

/// A level of a filter, after substitution: what a client chose is text, never a wildcard (pitfall 8).
#[derive(Debug, PartialEq, Eq)]
enum Level {
    /// `+`
    Any,
    /// `#`
    Rest,
    Text(Box<str>),
}

/// The values of `${username}` and `${clientid}`.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) user_name: Option<&'a str>,
    pub(crate) client_id: &'a str,
}

impl TopicLists {
    /// Reads the lists. `source` names their origin in rules.
    ///
    /// Filters with a name that the client does not have are left out, and so are those that begin with a name, if that
    /// begins with `$`. Anything else that is not understood is an
    /// error, because a list that is half understood may allow or deny what it should not.
    pub(crate) fn read(
        value: &Value,
        source: &Arc<str>,
        names: Names<'_>,
    ) -> Result<TopicLists, &'static str> {
        let Value::Object(lists) = value else { return Err("the access list is no JSON object") };
        if lists.keys().any(|key| KEYS.iter().all(|(known, ..)| known != key)) {
            return Err("the access list has a key other than pub, sub and all");
        }
        let mut filters = Vec::new();
        let mut bytes = 0_usize;
        for (key, publish, subscribe) in KEYS {
            for text in texts(lists, key)? {
                bytes = bytes.saturating_add(text.len());
                if filters.len() >= FILTERS_MAX || bytes > BYTES_MAX {
                    return Err("the access list has more than 1000 filters or 64 KiB");
                }
                let share = text.starts_with("$share/");
                if share || topic::check_filter(text).is_err() {
                    return Err("the access list has an invalid Topic Filter");
                }
                let Some(levels) = levels(text, names) else { continue };
                let rule = Rule::line(source.clone(), 0, &format!("{key} {text}"));
                let (publish, subscribe) = (*publish, *subscribe);
                filters.push(Listed { publish, subscribe, levels, rule });
            }
        }
        Ok(TopicLists { filters })
    }

    /// The decision by these lists alone.
    pub(crate) fn authorize(&self, request: &Request<'_>) -> Decision {
        let found = self.filters.iter().find(|listed| match request.action {
            Action::Publish => listed.publish && matches(&listed.levels, request.topic),
            Action::Receive => listed.subscribe && matches(&listed.levels, request.topic),
            // Something may be delivered through the filter; each delivery is asked about as `Receive`.
            Action::Subscribe => listed.subscribe && overlaps(&listed.levels, request.topic),
            Action::Unsubscribe => true,
        });
        match (found, request.action) {
            (Some(listed), Action::Publish | Action::Receive | Action::Subscribe) => {
                Decision::Allow(listed.rule.clone())
            }
            (_, Action::Unsubscribe) => Decision::Allow(Rule::named("everybody may unsubscribe")),
            (None, _) => Decision::Deny(Rule::named("no filter of the identity's access list")),
        }
    }
}

impl fmt::Debug for TopicLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicLists").field("filters", &self.filters.len()).finish()
    }
}

/// The texts of a list, which need not be there.
fn texts<'a>(lists: &'a Map<String, Value>, key: &str) -> Result<Vec<&'a str>, &'static str> {
    match lists.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(texts)) => {
            let texts: Option<Vec<&str>> = texts.iter().map(Value::as_str).collect();
            texts.ok_or("the access list has a filter that is no text")
        }
        Some(_) => Err("a value of the access list is no list"),
    }
}

/// Takes a filter apart, then substitutes names in its levels. `None`: the client lacks a name, or has one that would
/// make a filter for topics that begin with `$`.
fn levels(filter: &str, names: Names<'_>) -> Option<Box<[Level]>> {
    let mut levels = Vec::new();
    // Topics that begin with `$` are the broker's. A filter reaches them only if its author wrote the `$`, not by the
    // name that a client chose.
    let is_named = ["${username}", "${clientid}"].iter().any(|name| filter.starts_with(name));
    for level in filter.split('/') {
        match level {
            "+" => levels.push(Level::Any),
            "#" => levels.push(Level::Rest),
            text => {
                // A name may hold `/`, which makes levels of it, as in the Topic Names that it is to match.
                let text = substitute(text, names)?;
                levels.extend(text.split('/').map(|text| Level::Text(text.into())));
            }
        }
    }
    let is_reserved = |level: &Level| matches!(level, Level::Text(text) if text.starts_with('$'));
    if is_named && levels.first().is_some_and(is_reserved) {
        return None;
    }
    Some(levels.into())
}

/// Substitutes each name once: a name is never searched for names.
fn substitute(text: &str, names: Names<'_>) -> Option<String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("${username}") {
            result.push_str(names.user_name?);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${clientid}") {
            result.push_str(names.client_id);
            rest = after;
        } else {
            result.push_str("${");
            rest = &rest[2..];
        }
    }
    result.push_str(rest);
    Some(result)
}

/// Whether a wildcard in the first level would have to match a topic that begins with `$` (MQTT-4.7.2-1).
fn is_out_of_reach(levels: &[Level], topic: &str) -> bool {
    topic.starts_with('$') && !matches!(levels.first(), Some(Level::Text(_)))
}

fn matches(levels: &[Level], name: &str) -> bool {
    if is_out_of_reach(levels, name) {
        return false;
    }
    let (mut wanted, mut given) = (levels.iter(), name.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (Some(Level::Rest), _) | (None, None) => return true,
            (Some(Level::Any), Some(_)) => {}
            (Some(Level::Text(level)), Some(text)) if **level == *text => {}
            _ => return false,
        }
    }
}

/// Whether there is a Topic Name that both filters match.
fn overlaps(levels: &[Level], filter: &str) -> bool {
    let begins_with_dollar =
        matches!(levels.first(), Some(Level::Text(text)) if text.starts_with('$'));
    if is_out_of_reach(levels, filter) || (begins_with_dollar && filter.starts_with(['+', '#'])) {
        return false;
    }
    let (mut wanted, mut given) = (levels.iter(), filter.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (Some(Level::Rest), _) | (_, Some("#")) | (None, None) => return true,
            (Some(Level::Any), Some(_)) => {}
            // A literal `+` or `#`, from a client's name, is in no Topic Name.
            (Some(Level::Text(level)), Some(text))
                if (text == "+" || **level == *text) && !level.contains(['+', '#']) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
