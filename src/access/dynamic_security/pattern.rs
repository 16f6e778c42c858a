//! The topics of role entries: Topic Filters in which `%c` and `%u` stand for the client.

use crate::topic::{self, TopicError};

/// A valid Topic Filter. `%c` and `%u` are replaced when it is compared, level by level: what a client calls itself is
/// never read as a wildcard.
#[derive(Debug)]
pub(super) struct Pattern(Box<str>);

/// A level of a pattern for one client.
#[derive(Clone, Copy)]
enum Level<'a> {
    Text(&'a str),
    Plus,
    Hash,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Pattern, TopicError> {
        topic::check_filter(text).map(|()| Pattern(text.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a level is `%c`, or `%u`.
    pub(super) fn holds(&self, placeholder: &str) -> bool {
        self.0.split('/').any(|level| level == placeholder)
    }

    /// Whether it matches a Topic Name.
    pub(super) fn matches(&self, name: &str, client_id: &str, user: Option<&str>) -> bool {
        self.covers(name, client_id, user)
    }

    /// Whether it matches all Topic Names that a Topic Filter matches. A Topic Name is a filter without wildcards.
    pub(super) fn covers(&self, filter: &str, client_id: &str, user: Option<&str>) -> bool {
        // A name that begins with `$` is matched by patterns that do, too, whatever stands for `%c` (MQTT-4.7.2-1).
        if filter.starts_with('$') != self.0.starts_with('$') {
            return false;
        }
        let Some(levels) = self.levels(client_id, user) else { return false };
        let (mut wide, mut narrow) = (levels.into_iter(), filter.split('/'));
        loop {
            match (wide.next(), narrow.next()) {
                // `#` includes the level above it, so there may be nothing left to stand for.
                (Some(Level::Hash), _) | (None, None) => return true,
                (Some(Level::Plus), Some(level)) if level != "#" => {}
                (Some(Level::Text(text)), Some(level)) if text == level && !is_wild(level) => {}
                _ => return false,
            }
        }
    }

    /// The levels for a client; `None` if it has nothing to put in.
    fn levels<'a>(&'a self, client_id: &'a str, user: Option<&'a str>) -> Option<Vec<Level<'a>>> {
        let mut levels = Vec::new();
        for level in self.0.split('/') {
            let inserted = match level {
                "+" => {
                    levels.push(Level::Plus);
                    continue;
                }
                "#" => {
                    levels.push(Level::Hash);
                    continue;
                }
                "%c" => client_id,
                "%u" => user.unwrap_or_default(),
                text => {
                    levels.push(Level::Text(text));
                    continue;
                }
            };
            if inserted.is_empty() {
                return None;
            }
            levels.extend(inserted.split('/').map(Level::Text));
        }
        Some(levels)
    }
}

fn is_wild(level: &str) -> bool {
    level == "+" || level == "#"
}
