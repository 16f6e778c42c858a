//! What failed and what was skipped: each case once, whatever the number of URLs.

use std::collections::BTreeMap;

use super::{End, Grouped, Record, Report, anchor, escape, statement_links};
use std::fmt::Write as _;

/// What is seen of a failure before it is unfolded, at most.
const LINE: usize = 240;

pub(super) fn failures(out: &mut String, report: &Report, cases: &[Grouped<'_>]) {
    let failed: Vec<_> = cases.iter().filter(|case| case.outcome() == End::Failed).collect();
    let _ = writeln!(out, "<h2 id=\"failures\">Failures</h2>");
    if failed.is_empty() {
        let _ = writeln!(out, "<p>None.</p>");
        return;
    }
    let _ = writeln!(
        out,
        "<p class=\"dim\">{}. Unfold one for what was sent and received, and how to run it alone.</p>",
        match failed.len() {
            1 => "One case".into(),
            n => format!("{n} cases"),
        }
    );
    for case in failed {
        failure(out, report, case);
    }
}

fn failure(out: &mut String, report: &Report, case: &Grouped<'_>) {
    let Some((first, detail)) =
        case.ended(End::Failed).find_map(|r| r.failure.as_ref().map(|detail| (r, detail)))
    else {
        return;
    };
    let over: Vec<&str> = case.ended(End::Failed).map(|r| report.label(&r.url)).collect();
    let _ = writeln!(
        out,
        "<details id=\"failure-{}\"><summary><span class=\"failed\">{}</span> \
         <span class=\"dim\">over {} · MQTT {}</span><dl>\
         <dt>expected</dt><dd>{}</dd><dt>came</dt><dd>{}</dd><dt>statements</dt><dd>{}</dd></dl></summary>",
        anchor(&case.name()),
        escape(&case.name()),
        escape(&over.join(", ")),
        escape(&versions(case)),
        escape(&line(&detail.expected)),
        escape(&line(&detail.came)),
        statement_links(first),
    );
    for record in case.ended(End::Failed) {
        let _ = writeln!(
            out,
            "<div class=\"dim\">{}</div><pre>{}</pre>",
            escape(&record.url),
            escape(&record.explanation().join("\n")),
        );
    }
    let _ = writeln!(out, "</details>");
}

/// The versions that failed over any URL.
fn versions(case: &Grouped<'_>) -> String {
    let mut all: Vec<&str> =
        case.ended(End::Failed).flat_map(|r| &r.failed_with).map(String::as_str).collect();
    all.sort_unstable();
    all.dedup();
    all.join(", ")
}

/// The first line, and not too much of it.
fn line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let mut shown: String = first.chars().take(LINE).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

pub(super) fn skips(out: &mut String, report: &Report, cases: &[Grouped<'_>]) {
    let _ = writeln!(out, "<h2 id=\"skips\">Skips, and why</h2>");
    let mut reasons: BTreeMap<&str, Vec<(&Record, Vec<&str>)>> = BTreeMap::new();
    for record in cases.iter().flat_map(|case| case.ended(End::Skipped)) {
        let Some(reason) = &record.reason else { continue };
        let skipped = reasons.entry(reason).or_default();
        match skipped.iter_mut().find(|(first, _)| first.full_name() == record.full_name()) {
            Some((_, over)) => over.push(report.label(&record.url)),
            None => skipped.push((record, vec![report.label(&record.url)])),
        }
    }
    if reasons.is_empty() {
        let _ = writeln!(out, "<p>None.</p>");
    }
    for (reason, skipped) in reasons {
        let name = |(record, over): &(&Record, Vec<&str>)| {
            let name = record.full_name();
            let (link, name) = (anchor(&name), escape(&name));
            format!("<a href=\"#case-{link}\">{name}</a> ({})", escape(&over.join(", ")))
        };
        let names: Vec<String> = skipped.iter().map(name).collect();
        let _ = writeln!(
            out,
            "<details><summary><span class=\"skipped\">{}</span> <span class=\"dim\">{}</span></summary>\
             <p>{}</p></details>",
            escape(reason),
            names.len(),
            names.join(", "),
        );
    }
}
