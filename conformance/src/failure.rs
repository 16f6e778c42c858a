//! Why a case did not hold, or had nothing to test.

use std::fmt;
use std::panic::Location;

/// What every step of a case returns.
pub type Step<T = ()> = Result<T, Failure>;

/// What was expected, what came, and what had passed on the connection before.
#[derive(Debug)]
pub struct Failure {
    expected: String,
    came: String,
    transcript: Vec<String>,
    at: &'static Location<'static>,
    skipped: bool,
}

/// Ends a case that has nothing to test on this target; a word or two say why, or what it needs.
///
/// ```
/// let skipped = hrotti_conformance::skip("needs topic aliases");
/// assert_eq!(skipped.skipped(), Some("needs topic aliases"));
/// ```
#[track_caller]
pub fn skip(reason: impl Into<String>) -> Failure {
    Failure { skipped: true, ..Failure::new("", reason) }
}

impl Failure {
    /// Why the case was skipped; `None` for a failure.
    #[must_use]
    pub fn skipped(&self) -> Option<&str> {
        self.skipped.then_some(self.came.as_str())
    }

    /// What was expected.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What came instead.
    #[must_use]
    pub fn came(&self) -> &str {
        &self.came
    }

    /// What was sent and received on the connection, oldest first.
    #[must_use]
    pub fn transcript(&self) -> &[String] {
        &self.transcript
    }

    /// The line of the case that did not hold.
    #[must_use]
    pub fn at(&self) -> String {
        format!("{}:{}", self.at.file(), self.at.line())
    }

    /// A failure at the caller's line.
    #[track_caller]
    pub fn new(expected: impl Into<String>, came: impl Into<String>) -> Failure {
        Failure {
            expected: expected.into(),
            came: came.into(),
            transcript: Vec::new(),
            at: Location::caller(),
            skipped: false,
        }
    }

    /// Says in which part of the case it was.
    #[must_use]
    pub fn within(mut self, part: impl fmt::Display) -> Failure {
        self.expected = format!("{} ({part})", self.expected);
        self
    }

    /// Adds what was sent and received on the connection.
    #[must_use]
    pub fn with_transcript(mut self, lines: Vec<String>) -> Failure {
        self.transcript = lines;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = self.skipped() {
            return writeln!(f, "  skipped:  {reason}");
        }
        writeln!(f, "  expected: {}", self.expected)?;
        writeln!(f, "  came:     {}", self.came)?;
        writeln!(f, "  at:       {}", self.at())?;
        for line in &self.transcript {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Holds when the two are equal.
///
/// # Errors
/// A [`Failure`] that names `what` and shows both.
#[track_caller]
pub fn expect_eq<A: fmt::Debug + PartialEq<B>, B: fmt::Debug>(
    what: &str,
    came: &A,
    expected: &B,
) -> Step {
    if came == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{what} = {expected:?}"), format!("{what} = {came:?}")))
}

/// Holds when `truth` does.
///
/// # Errors
/// A [`Failure`] with the two texts.
#[track_caller]
pub fn expect(truth: bool, expected: &str, came: impl fmt::Debug) -> Step {
    if truth { Ok(()) } else { Err(Failure::new(expected, format!("{came:?}"))) }
}
