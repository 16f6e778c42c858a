//! What a run showed, for machines and for people: JSON, JUnit XML, an HTML page, and the table that compares
//! several runs.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::register::Case;
use crate::runner::{Outcome, Verdict};

mod html;
mod junit;
mod matrix;
mod sections;
#[cfg(test)]
mod tests;

pub use html::html;
pub use junit::junit;
pub use matrix::matrix;
pub use sections::{Row, STANDARDS, sections};

/// A whole run. Its JSON form is this structure with names in camelCase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Name and version of the suite.
    pub suite: String,
    /// What the broker is called.
    pub broker: String,
    /// When the run began, in UTC (RFC 3339, to the second).
    pub started: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Where the broker was reached.
    pub urls: Vec<String>,
    /// The versions that it was tested with.
    pub versions: Vec<String>,
    /// What it was said to be able to do, by the keys of a capability file.
    pub capabilities: Map<String, Value>,
    /// How many cases ended how.
    pub totals: Totals,
    /// Every case that was run, in the order of the register, URL after URL.
    pub cases: Vec<Record>,
}

/// How many cases ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// They held.
    pub passed: usize,
    /// They did not.
    pub failed: usize,
    /// They had nothing to test.
    pub skipped: usize,
}

impl Totals {
    /// Counts one more.
    pub fn count(&mut self, end: End) {
        match end {
            End::Passed => self.passed += 1,
            End::Failed => self.failed += 1,
            End::Skipped => self.skipped += 1,
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(self) -> usize {
        self.passed + self.failed + self.skipped
    }
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It held.
    Passed,
    /// It did not hold.
    Failed,
    /// It had nothing to test.
    Skipped,
}

impl End {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            End::Passed => "passed",
            End::Failed => "failed",
            End::Skipped => "skipped",
        }
    }
}

/// One case over one URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The chapter of the suite.
    pub chapter: String,
    /// The case.
    pub name: String,
    /// Where the broker was reached.
    pub url: String,
    /// How it ended.
    pub outcome: End,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What it shows: the statements of each standard (`3.1.1`, `5.0`), as `MQTT-3.1.2-1`.
    pub statements: BTreeMap<String, Vec<String>>,
    /// The versions that it used.
    pub versions: Vec<String>,
    /// The versions that it has parts for, and that were left out.
    pub left_out: Vec<String>,
    /// The versions with which it failed, each tried alone; all that it used, where none fails alone.
    pub failed_with: Vec<String>,
    /// The versions with which it held, each tried alone if it failed.
    pub passed_with: Vec<String>,
    /// Why it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What did not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Detail>,
}

/// What did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// What was expected.
    pub expected: String,
    /// What came instead.
    pub came: String,
    /// The line of the case.
    pub at: String,
    /// What was sent (→) and received (←) before, decoded and as bytes.
    pub transcript: Vec<String>,
    /// How to run the case alone.
    pub alone: String,
}

impl Record {
    /// The record of one verdict; `alone` is how to run the case alone.
    #[must_use]
    pub fn new(case: &Case, url: &str, verdict: &Verdict, alone: &str) -> Record {
        let (outcome, reason, failure) = match &verdict.outcome {
            Outcome::Passed => (End::Passed, None, None),
            Outcome::Skipped(reason) => (End::Skipped, Some(reason.clone()), None),
            Outcome::Failed(failure) => {
                let detail = Detail {
                    expected: failure.expected().into(),
                    came: failure.came().into(),
                    at: failure.at(),
                    transcript: failure.transcript().to_vec(),
                    alone: alone.into(),
                };
                (End::Failed, None, Some(detail))
            }
        };
        let ids = |ids: &str| ids.split_whitespace().map(|id| format!("MQTT-{id}")).collect();
        let statements = [("3.1.1", case.v311), ("5.0", case.v5)];
        Record {
            chapter: case.chapter.into(),
            name: case.name.into(),
            url: url.into(),
            outcome,
            seconds: rounded(verdict.took),
            statements: statements.map(|(standard, list)| (standard.into(), ids(list))).into(),
            versions: verdict.used.names(),
            left_out: verdict.left_out.names(),
            failed_with: verdict.failed_with.names(),
            passed_with: verdict.passed_with.names(),
            reason,
            failure,
        }
    }

    /// What the case shows of the statements of one standard: it has failed only if it did with a version of
    /// that standard, and shows nothing of it where it used none.
    #[must_use]
    pub fn shows(&self, standard: &str) -> End {
        let of = |versions: &[String]| versions.iter().any(|v| (v == "5") == (standard == "5.0"));
        match (of(&self.failed_with), of(&self.passed_with)) {
            (true, _) => End::Failed,
            (false, true) => End::Passed,
            (false, false) => End::Skipped,
        }
    }

    /// `chapter::name`
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.chapter, self.name)
    }

    /// The statements, each with its standard: `3.1.1 MQTT-3.1.2-1`.
    #[must_use]
    pub fn all_statements(&self) -> Vec<String> {
        let both = self.statements.iter();
        both.flat_map(|(standard, ids)| ids.iter().map(move |id| format!("{standard} {id}")))
            .collect()
    }

    /// The failure as the program prints it, line by line; empty without one.
    #[must_use]
    pub fn explanation(&self) -> Vec<String> {
        let Some(detail) = &self.failure else { return Vec::new() };
        let bound = self.all_statements().join(", ");
        let mut lines = vec![
            format!(
                "statements: {}",
                if bound.is_empty() { "beyond the numbered ones" } else { &bound }
            ),
            format!("versions:   {}", self.failed_with.join(", ")),
            format!("expected:   {}", detail.expected),
            format!("came:       {}", detail.came),
            format!("at:         {}", detail.at),
        ];
        lines.extend(detail.transcript.iter().map(|line| format!("  {line}")));
        lines.push(format!("alone:      {}", detail.alone));
        lines
    }
}

impl Report {
    /// The report as indented JSON.
    ///
    /// # Errors
    /// Numbers that JSON does not have.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// Reads what [`Report::to_json`] wrote.
    ///
    /// # Errors
    /// Any other text.
    pub fn from_json(text: &str) -> serde_json::Result<Report> {
        serde_json::from_str(text)
    }

    /// A URL in short: its scheme, if no other URL has that.
    #[must_use]
    pub fn label<'a>(&self, url: &'a str) -> &'a str {
        let scheme = |url: &'a str| url.split(':').next().unwrap_or(url);
        let same = self.urls.iter().filter(|other| other.split(':').next() == Some(scheme(url)));
        if same.count() > 1 { url } else { scheme(url) }
    }

    /// Counts the cases.
    #[must_use]
    pub fn count(cases: &[Record]) -> Totals {
        let mut totals = Totals::default();
        cases.iter().for_each(|record| totals.count(record.outcome));
        totals
    }

    /// The cases of each chapter, in the order of the register.
    #[must_use]
    pub fn chapters(&self) -> Vec<(String, Totals)> {
        let mut chapters: Vec<(String, Totals)> = Vec::new();
        for record in &self.cases {
            let place = chapters.iter().position(|(name, _)| *name == record.chapter);
            let place = place.unwrap_or_else(|| {
                chapters.push((record.chapter.clone(), Totals::default()));
                chapters.len() - 1
            });
            chapters[place].1.count(record.outcome);
        }
        chapters
    }
}

/// Seconds, to the millisecond.
#[must_use]
pub fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// A moment in UTC as `2026-01-31T23:59:59Z`; before 1970 it is 1970.
#[must_use]
pub fn utc(moment: SystemTime) -> String {
    let secs = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, secs) = (secs / 86_400, secs % 86_400);
    // Days are counted from 1 March of year 0, so that the leap day ends a year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Text for XML and HTML, in content and in attributes. What XML 1.0 cannot hold becomes U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Escaped, because a parser turns them into spaces in attributes, or drops them.
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            '\u{0}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            other => out.push(other),
        }
    }
    out
}
