//! The rule that made a decision, so that each yes and no can name it.

use std::fmt;
use std::sync::Arc;

/// A rule of a policy: its file, line and text, or a name. A clone is cheap and allocates nothing.
///
/// ```
/// use hrotti::access::Rule;
///
/// let rule = Rule::line("acl", 3, "topic read home/#");
/// assert_eq!(rule.to_string(), "acl:3: topic read home/#");
/// assert_eq!(Rule::named("anonymous Clients").to_string(), "anonymous Clients");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Rule {
    said: Text,
    for_one_question: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum Text {
    Static(&'static str),
    Line(Arc<Line>),
}

#[derive(PartialEq, Eq)]
struct Line {
    source: Arc<str>,
    line: u32,
    text: Box<str>,
}

impl Rule {
    /// A rule that stands in no file. The name says what it does, and holds no secret.
    #[must_use]
    pub const fn named(name: &'static str) -> Rule {
        Rule { said: Text::Static(name), for_one_question: false }
    }

    /// A line of a file, counted from 1; 0 for a source without lines. The text holds no secret.
    #[must_use]
    pub fn line(source: impl Into<Arc<str>>, line: u32, text: &str) -> Rule {
        let line = Line { source: source.into(), line, text: text.into() };
        Rule { said: Text::Line(Arc::new(line)), for_one_question: false }
    }

    /// The same rule, whose decisions end by themselves: none is remembered, and the policy is asked again for the next
    /// message. It has to answer from memory.
    #[must_use]
    pub fn for_one_question(self) -> Rule {
        Rule { for_one_question: true, ..self }
    }

    /// Whether a decision by this rule may be remembered until the rules change.
    #[must_use]
    pub fn is_remembered(&self) -> bool {
        !self.for_one_question
    }

    /// The file, or another source.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        match &self.said {
            Text::Static(_) => None,
            Text::Line(line) => Some(&line.source),
        }
    }

    /// The line in the source, if it has lines.
    #[must_use]
    pub fn line_number(&self) -> Option<u32> {
        match &self.said {
            Text::Line(line) if line.line > 0 => Some(line.line),
            _ => None,
        }
    }

    /// The text of the line, or the name.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.said {
            Text::Static(name) => name,
            Text::Line(line) => &line.text,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text().escape_debug();
        match (self.source(), self.line_number()) {
            (Some(source), Some(line)) => write!(f, "{source}:{line}: {text}"),
            (Some(source), None) => write!(f, "{source}: {text}"),
            (None, _) => write!(f, "{text}"),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({self})")
    }
}
