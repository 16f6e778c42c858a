//! The grammar of the file, line by line.

use super::{Kind, LINES_MAX, Line};
use crate::access::Rule;
use crate::access::file_error::{FileErrors, Problems, nearest};
use crate::topic;

/// As mosquitto has it; no Topic Name of a Client has more levels unless the limit is raised.
const LEVELS_MAX: usize = 200;

const KEYWORDS: &[&str] = &["user", "topic", "pattern"];
const ACCESSES: &[&str] = &["read", "write", "readwrite", "deny"];

/// What the lines allow or deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    ReadWrite,
    Deny,
}

impl Access {
    pub(super) fn word(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "readwrite",
            Access::Deny => "deny",
        }
    }

    fn of(word: &str) -> Option<Access> {
        [Access::Read, Access::Write, Access::ReadWrite, Access::Deny]
            .into_iter()
            .find(|access| access.word() == word)
    }
}

/// The rules of a file, and remarks on those that say something else than was probably meant.
pub(super) fn parse(text: &str, source: &str) -> Result<(Vec<Line>, Problems), FileErrors> {
    let mut problems = Problems::new(source);
    let mut remarks = Problems::new(source);
    let mut parser = Parser { section: None, lines: Vec::new() };
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => {
            problems.add(1, "a byte order mark stands before the first line; save the file as UTF-8 without one");
            rest
        }
        None => text,
    };
    let mut number = 0_u32;
    for line in text.split('\n') {
        number = number.saturating_add(1);
        match parser.line(line, number, &mut remarks) {
            Ok(()) => {}
            Err(problem) => problems.add(number, problem),
        }
        if parser.lines.len() > LINES_MAX {
            problems
                .add(number, format!("more than {LINES_MAX} rules; use patterns with %c and %u"));
            break;
        }
    }
    if parser.lines.is_empty() && problems.is_empty() {
        problems.add(
            0,
            "it has no rule, so everything is denied; write \"topic deny #\" if that is meant",
        );
    }
    problems.or((parser.lines, remarks))
}

struct Parser {
    /// The user name of the present section; anonymous Clients before the first.
    section: Option<Box<str>>,
    lines: Vec<Line>,
}

impl Parser {
    fn line(&mut self, line: &str, number: u32, remarks: &mut Problems) -> Result<(), String> {
        if line.starts_with('#') {
            return Ok(());
        }
        let line = line.trim_end_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
        let line = line.trim_start_matches(' ');
        if line.is_empty() {
            return Ok(());
        }
        if let Some(control) = line.chars().find(|letter| letter.is_control()) {
            return Err(match control {
                '\t' => "a tab separates nothing here; write a space".to_owned(),
                other => format!("it holds the control character {other:?}; remove it"),
            });
        }
        let (keyword, rest) = cut(line);
        match keyword {
            "user" if rest.is_empty() => {
                Err("the user name is missing; write \"user NAME\"".to_owned())
            }
            "user" => {
                self.section = Some(rest.into());
                Ok(())
            }
            "topic" | "pattern" => self.rule(keyword, rest, line, number, remarks),
            other if other.starts_with('#') => {
                Err("a comment begins in the first column; remove the spaces before it".to_owned())
            }
            other => Err(unknown("keyword", other, KEYWORDS)),
        }
    }

    fn rule(
        &mut self,
        keyword: &str,
        rest: &str,
        line: &str,
        number: u32,
        remarks: &mut Problems,
    ) -> Result<(), String> {
        let (access, filter) = access_and_filter(keyword, rest)?;
        check_filter(filter)?;
        let kind = if keyword == "pattern" {
            check_placeholders(filter)?;
            if !topic::split_levels(filter).any(|level| matches!(level, b"%c" | b"%u")) {
                let remark = "a pattern without %c and %u holds for all Clients";
                remarks.add(number, remark);
            }
            Kind::Pattern
        } else {
            if topic::split_levels(filter).any(|level| matches!(level, b"%c" | b"%u")) {
                let remark = "%c and %u stand for themselves in a \"topic\" line; \
                              write \"pattern\" to put in the Client Identifier and the user name";
                remarks.add(number, remark);
            }
            match &self.section {
                None => Kind::Anonymous,
                Some(user) => Kind::User(user.clone()),
            }
        };
        let rule = Rule::line(remarks.source().clone(), number, line);
        self.lines.push(Line { kind, access, filter: filter.into(), rule });
        Ok(())
    }
}

/// The first word, and what follows behind spaces.
fn cut(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

fn access_and_filter<'a>(keyword: &str, rest: &'a str) -> Result<(Access, &'a str), String> {
    let (word, filter) = cut(rest);
    match (Access::of(word), filter) {
        (None, "") if word.is_empty() => {
            Err(format!("the Topic Filter is missing; write \"{keyword} read FILTER\""))
        }
        (None, "") => Ok((Access::ReadWrite, word)),
        (Some(access), "") => {
            let access = access.word();
            Err(format!(
                "the Topic Filter is missing behind {access:?}; for the topic of that name write \
                 \"{keyword} readwrite {access}\""
            ))
        }
        (Some(access), filter) => Ok((access, filter)),
        (None, _) if nearest(word, ACCESSES).is_some() => Err(unknown("access", word, ACCESSES)),
        (None, _) => Err(format!(
            "a Topic Filter with a space needs its access before it; write \"{keyword} readwrite {rest}\""
        )),
    }
}

fn check_filter(filter: &str) -> Result<(), String> {
    let shared = filter.strip_prefix("$share/");
    if let Some((_, behind)) = shared.map(|rest| rest.split_once('/').unwrap_or((rest, "FILTER"))) {
        return Err(format!(
            "a rule is about the Topic Filter behind the ShareName; write {behind:?} for {filter:?}"
        ));
    }
    if topic::levels(filter) > LEVELS_MAX {
        return Err(format!(
            "the Topic Filter has more than {LEVELS_MAX} levels; shorten it with '#'"
        ));
    }
    topic::check_filter(filter).map_err(|error| match error {
        topic::TopicError::TooLong => {
            format!("the Topic Filter cannot be used: {error}; shorten it")
        }
        error => format!("the Topic Filter {filter:?} cannot be used: {error}"),
    })
}

/// Versions of mosquitto disagree about `%c` beside other text, and `deny` must not depend on that.
fn check_placeholders(filter: &str) -> Result<(), String> {
    let mut levels = filter.split('/');
    let beside = levels.find(|level| {
        (level.contains("%c") || level.contains("%u")) && !matches!(*level, "%c" | "%u")
    });
    match beside {
        None => Ok(()),
        Some(level) => Err(format!(
            "%c and %u stand only for a whole level; give each a level of its own in {level:?}"
        )),
    }
}

fn unknown(what: &str, written: &str, words: &[&str]) -> String {
    let shown: String = written.chars().take(40).collect();
    match nearest(written, words) {
        Some(word) => format!("the {what} {shown:?} is unknown; did you mean {word:?}?"),
        None => format!("the {what} {shown:?} is unknown; write one of {}", words.join(", ")),
    }
}
