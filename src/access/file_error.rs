//! The errors of a file with access rules, one line each.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

/// As many errors of a file are kept; further ones are counted.
const ERRORS_MAX: usize = 100;

/// One error of a file: its place, the problem, and the remedy. `Display` writes `source:line: problem` as one
/// line, with control characters escaped.
///
/// ```
/// use hrotti::access::FileError;
///
/// let error = FileError::new("acl", 3, "unknown keyword \"topics\"; did you mean \"topic\"?");
/// assert_eq!(error.to_string(), "acl:3: unknown keyword \"topics\"; did you mean \"topic\"?");
/// assert_eq!(FileError::new("acl", 0, "it is empty").to_string(), "acl: it is empty");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileError {
    /// The name of the file, or of another source.
    pub source: Arc<str>,
    /// The line, counted from 1; 0 if the error concerns the whole file.
    pub line: u32,
    /// The problem with the line, and the remedy. It holds no secret.
    pub problem: String,
}

impl FileError {
    /// An error at this line of this source.
    #[must_use]
    pub fn new(source: impl Into<Arc<str>>, line: u32, problem: impl Into<String>) -> FileError {
        FileError { source: source.into(), line, problem: problem.into() }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_line(f, &self.source)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        write_line(f, &self.problem)
    }
}

/// Names come from file systems and texts from files: neither may break the line of an error.
fn write_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for letter in text.chars() {
        if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') {
            write!(f, "{}", letter.escape_default())?;
        } else {
            f.write_char(letter)?;
        }
    }
    Ok(())
}

impl std::error::Error for FileError {}

/// The errors of a file, at least one, in the order of the lines. The first 100 are kept, and further ones are
/// counted. `Display` writes one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileErrors {
    errors: Vec<FileError>,
    left_out: usize,
}

impl FileErrors {
    /// One error.
    #[must_use]
    pub fn one(error: FileError) -> FileErrors {
        FileErrors { errors: vec![error], left_out: 0 }
    }

    /// The errors, in the order of the lines.
    pub fn iter(&self) -> impl Iterator<Item = &FileError> {
        self.errors.iter()
    }
}

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        if let (Some(error), 1..) = (self.errors.first(), self.left_out) {
            let whole = FileError::new(error.source.clone(), 0, "");
            write!(f, "\n{whole}{} further errors", self.left_out)?;
        }
        Ok(())
    }
}

impl std::error::Error for FileErrors {}

/// Collects the errors of a file while it is parsed.
#[derive(Debug)]
#[allow(dead_code, reason = "each parser is behind a feature")]
pub(crate) struct Problems {
    source: Arc<str>,
    errors: Vec<FileError>,
    left_out: usize,
}

#[allow(dead_code, reason = "each parser is behind a feature")]
impl Problems {
    pub(crate) fn new(source: &str) -> Problems {
        Problems { source: source.into(), errors: Vec::new(), left_out: 0 }
    }

    /// The source, to share it.
    pub(crate) fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Adds an error; line 0 is the whole file.
    pub(crate) fn add(&mut self, line: u32, problem: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(FileError::new(self.source.clone(), line, problem));
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The errors that were kept, in the order in which they were added.
    pub(crate) fn into_errors(self) -> Vec<FileError> {
        self.errors
    }

    /// What was parsed, if there was no error.
    pub(crate) fn or<T>(mut self, parsed: T) -> Result<T, FileErrors> {
        if self.errors.is_empty() {
            return Ok(parsed);
        }
        self.errors.sort_by_key(|error| error.line);
        Err(FileErrors { errors: self.errors, left_out: self.left_out })
    }
}

/// The word that `written` was probably meant to be: it differs by case, or by one letter that is added, missing,
/// other, or changed places with its neighbour.
#[allow(dead_code, reason = "each parser is behind a feature")]
pub(crate) fn nearest<'a>(written: &str, words: &[&'a str]) -> Option<&'a str> {
    let lower: Vec<char> = written.chars().take(100).flat_map(char::to_lowercase).collect();
    let same = words.iter().find(|word| word.chars().eq(lower.iter().copied()));
    same.or_else(|| words.iter().find(|word| is_near(&lower, word))).copied()
}

fn is_near(written: &[char], word: &str) -> bool {
    let word: Vec<char> = word.chars().collect();
    let start = written.iter().zip(&word).take_while(|(one, two)| one == two).count();
    let (one, two) = (&written[start..], &word[start..]);
    let end = one.iter().rev().zip(two.iter().rev()).take_while(|(one, two)| one == two).count();
    match (&one[..one.len() - end], &two[..two.len() - end]) {
        ([], [_]) | ([_], []) => true,
        // Short words have too many neighbours.
        ([_], [_]) => word.len() > 2,
        ([a, b], [c, d]) => (a, b) == (d, c),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_are_listed_in_the_order_of_the_lines() {
        let mut problems = Problems::new("acl");
        problems.add(7, "it is wrong");
        problems.add(2, "it is wrong, too");
        let errors = problems.or(()).unwrap_err();
        assert_eq!(errors.to_string(), "acl:2: it is wrong, too\nacl:7: it is wrong");
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 7]);
        assert_eq!(Problems::new("acl").or(1), Ok(1));
    }

    #[test]
    fn a_million_errors_are_counted_and_a_hundred_kept() {
        let mut problems = Problems::new("acl");
        for line in 1..=1_000_000 {
            problems.add(line, "it is wrong");
        }
        let text = problems.or(()).unwrap_err().to_string();
        assert_eq!(text.lines().count(), 101);
        assert!(text.ends_with("\nacl: 999900 further errors"), "{text}");
    }

    /// Pitfall 18.
    #[test]
    fn neither_a_source_nor_a_text_breaks_the_line_pitfall_18() {
        let error = FileError::new("a\nb", 1, "c\r\u{1b}\u{2028}d é");
        assert_eq!(error.to_string(), "a\\nb:1: c\\r\\u{1b}\\u{2028}d é");
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let words = ["topic", "user", "pattern", "read", "readwrite"];
        for (written, meant) in [
            ("TOPIC", Some("topic")),
            ("topics", Some("topic")),
            ("topc", Some("topic")),
            ("tpoic", Some("topic")),
            ("Users", Some("user")),
            ("pattorn", Some("pattern")),
            ("read", Some("read")),
            ("readwrit", Some("readwrite")),
            ("", None),
            ("subject", None),
            ("rwad write", None),
        ] {
            assert_eq!(nearest(written, &words), meant, "{written}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), &words), None);
    }
}
