//! Several reports beside each other, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{End, Record, Report, STANDARDS, Totals, sections};

/// What is seen of a failure in one line, at most.
const LINE: usize = 220;

/// The table that compares these runs: totals, statements by section, cases by chapter, then each run's
/// failures and skips. A number like `12/1/3` is passed/failed/skipped.
#[must_use]
pub fn matrix(reports: &[Report]) -> String {
    // Writing to a String cannot fail: that is why the results below are dropped.
    let mut out = String::new();
    runs(&mut out, reports);
    for standard in STANDARDS {
        by_section(&mut out, reports, standard);
    }
    by_chapter(&mut out, reports);
    for report in reports {
        failed(&mut out, report);
        skipped(&mut out, report);
    }
    out
}

fn runs(out: &mut String, reports: &[Report]) {
    let _ = writeln!(out, "## Runs\n");
    let _ = writeln!(out, "| broker | over | versions | date | took | passed | failed | skipped |");
    let _ = writeln!(out, "|---|---|---|---|--:|--:|--:|--:|");
    for report in reports {
        let Totals { passed, failed, skipped } = report.totals;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {:.0} s | {passed} | {failed} | {skipped} |",
            cell(&report.broker),
            schemes(report).join(", "),
            report.versions.join(", "),
            report.started.split('T').next().unwrap_or_default(),
            report.seconds,
        );
    }
}

/// The URLs without what changes from run to run.
fn schemes(report: &Report) -> Vec<&str> {
    report.urls.iter().map(|url| scheme(url)).collect()
}

fn scheme(url: &str) -> &str {
    url.split(':').next().unwrap_or(url)
}

/// The head of a table with a column for each run.
fn head(out: &mut String, title: &str, first: &str, reports: &[Report]) {
    let _ = writeln!(out, "\n## {title}\n");
    let names: Vec<String> = reports.iter().map(|report| cell(&report.broker)).collect();
    let _ = writeln!(out, "| {first} | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|{}", "--:|".repeat(reports.len()));
}

fn row(out: &mut String, name: &str, found: &[Option<Totals>]) {
    let cells: Vec<String> = found.iter().map(|totals| totals.map_or("–".into(), short)).collect();
    let _ = writeln!(out, "| {} | {} |", cell(name), cells.join(" | "));
}

fn short(Totals { passed, failed, skipped }: Totals) -> String {
    if failed > 0 {
        format!("{passed}/**{failed}**/{skipped}")
    } else {
        format!("{passed}/0/{skipped}")
    }
}

fn by_section(out: &mut String, reports: &[Report], standard: &str) {
    head(out, &format!("Statements of MQTT {standard}, by section"), "section", reports);
    let mut names: Vec<String> = Vec::new();
    let mut found: BTreeMap<String, Vec<Option<Totals>>> = BTreeMap::new();
    for (i, report) in reports.iter().enumerate() {
        for row in sections(&report.cases).iter().filter(|row| row.standard == standard) {
            let name = format!("{} {}", row.section, row.title);
            let columns = found.entry(name.clone()).or_insert_with(|| {
                names.push(name);
                vec![None; reports.len()]
            });
            columns[i] = Some(row.statements);
        }
    }
    for name in &names {
        row(out, name, &found[name]);
    }
    row(out, "all", &total(&found, reports.len()));
}

fn by_chapter(out: &mut String, reports: &[Report]) {
    head(out, "Cases, by chapter of the suite", "chapter", reports);
    let mut names: Vec<String> = Vec::new();
    let mut found: BTreeMap<String, Vec<Option<Totals>>> = BTreeMap::new();
    for (i, report) in reports.iter().enumerate() {
        for (name, totals) in report.chapters() {
            let columns = found.entry(name.clone()).or_insert_with(|| {
                names.push(name);
                vec![None; reports.len()]
            });
            columns[i] = Some(totals);
        }
    }
    for name in &names {
        row(out, name, &found[name]);
    }
    row(out, "all", &total(&found, reports.len()));
}

fn total(found: &BTreeMap<String, Vec<Option<Totals>>>, columns: usize) -> Vec<Option<Totals>> {
    let sum = |i: usize| {
        found.values().filter_map(|row| row[i]).reduce(|a, b| Totals {
            passed: a.passed + b.passed,
            failed: a.failed + b.failed,
            skipped: a.skipped + b.skipped,
        })
    };
    (0..columns).map(sum).collect()
}

/// The cases that ended like this, each once, with the schemes over which it did.
fn ended(report: &Report, end: End) -> Vec<(&Record, Vec<&str>)> {
    let mut cases: Vec<(&Record, Vec<&str>)> = Vec::new();
    for record in report.cases.iter().filter(|record| record.outcome == end) {
        match cases.iter_mut().find(|(first, _)| first.full_name() == record.full_name()) {
            Some((_, over)) => over.push(scheme(&record.url)),
            None => cases.push((record, vec![scheme(&record.url)])),
        }
    }
    cases
}

fn failed(out: &mut String, report: &Report) {
    let _ = writeln!(out, "\n## What fails: {}\n", line(&report.broker));
    let cases = ended(report, End::Failed);
    if cases.is_empty() {
        let _ = writeln!(out, "Nothing.");
    }
    for (record, over) in cases {
        let Some(detail) = &record.failure else { continue };
        let bound = record.statements.values().any(|ids| !ids.is_empty());
        let _ = writeln!(
            out,
            "- `{}` ({}; {}{}): expected {}; came {}",
            record.full_name(),
            over.join(", "),
            record.failed_with.join(", "),
            if bound { "" } else { "; no statement" },
            line(&detail.expected),
            line(&detail.came),
        );
    }
}

fn skipped(out: &mut String, report: &Report) {
    let _ = writeln!(out, "\n## What is skipped: {}\n", line(&report.broker));
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (record, over) in ended(report, End::Skipped) {
        let reason = record.reason.clone().unwrap_or_default();
        let name = format!("`{}` ({})", record.full_name(), over.join(", "));
        reasons.entry(reason).or_default().push(name);
    }
    if reasons.is_empty() {
        let _ = writeln!(out, "Nothing.");
    }
    for (reason, cases) in reasons {
        let _ = writeln!(out, "- {}: {}", line(&reason), cases.join(", "));
    }
}

/// Text for a table's cell.
fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

/// Text on one line, with nothing that Markdown would take for its own.
fn line(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if matches!(c, '*' | '_' | '`' | '<' | '>' | '[' | ']' | '\\' | '#') {
            out.push('\\');
        }
        out.push(c);
        if out.chars().count() >= LINE {
            out.push('…');
            break;
        }
    }
    out
}
