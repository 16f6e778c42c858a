//! What is shown while the cases run: one line that changes on a terminal, a line for each case elsewhere.

use std::io::{self, IsTerminal as _, Write as _};

use hrotti_conformance::Case;
use hrotti_conformance::runner::{Outcome, Verdict};

#[derive(Debug)]
enum Style {
    Quiet,
    OneLine,
    Lines,
}

/// Counts the cases and shows them on the standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    style: Style,
    all: usize,
    done: usize,
    failed: usize,
    skipped: usize,
    running: Vec<String>,
}

impl Progress {
    pub(crate) fn new(all: usize, quiet: bool) -> Progress {
        let style = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Style::Quiet,
            (false, true) => Style::OneLine,
            (false, false) => Style::Lines,
        };
        Progress { style, all, done: 0, failed: 0, skipped: 0, running: Vec::new() }
    }

    pub(crate) fn began(&mut self, case: &Case, url: &str) {
        self.running.push(name(case, url));
        self.show();
    }

    pub(crate) fn ended(&mut self, case: &Case, url: &str, verdict: &Verdict) {
        let name = name(case, url);
        if let Some(place) = self.running.iter().position(|running| *running == name) {
            self.running.remove(place);
        }
        self.done += 1;
        let word = match &verdict.outcome {
            Outcome::Passed => "ok      ".into(),
            Outcome::Failed(_) => {
                self.failed += 1;
                "FAILED  ".into()
            }
            Outcome::Skipped(reason) => {
                self.skipped += 1;
                format!("skipped ({reason}) ")
            }
        };
        if matches!(self.style, Style::Lines) {
            let secs = verdict.took.as_secs_f64();
            let _ = writeln!(io::stderr(), "{}/{} {word}{name} {secs:.2} s", self.done, self.all);
        }
        self.show();
    }

    /// The line of a terminal, kept short enough for most; that it cannot be shown is no error.
    fn show(&self) {
        if matches!(self.style, Style::OneLine) {
            let Progress { done, all, failed, skipped, .. } = self;
            let oldest = self.running.first().map_or("", String::as_str);
            let oldest: String = oldest.chars().take(48).collect();
            let _ = write!(
                io::stderr(),
                "\r\x1b[K{done}/{all}, {failed} failed, {skipped} skipped  {oldest}"
            );
        }
    }

    /// Takes the line of a terminal away.
    pub(crate) fn close(&self) {
        if matches!(self.style, Style::OneLine) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn name(case: &Case, url: &str) -> String {
    format!("{}::{} over {url}", case.chapter, case.name)
}
