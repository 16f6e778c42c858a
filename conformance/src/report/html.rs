//! One page for people, with nothing that must be fetched from elsewhere.

use std::fmt::Write as _;

use super::{End, Record, Report, STANDARDS, Totals, escape, sections};

const STYLE: &str = "
:root { color-scheme: light dark; --bad: #b3261e; --good: #1b6e3c; --dim: #767676; --line: #8885; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7ddc9a; --dim: #9a9a9a; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--line); border-radius: 4px; font-size: 13px; }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 600; } .skipped, .dim { color: var(--dim); }
.totals span { margin-right: 1.5rem; font-size: 1.4rem; }
details { border-bottom: 1px solid var(--line); padding: .4rem 0; } summary { cursor: pointer; }
small { overflow-wrap: anywhere; }
";

/// The report as one HTML page.
#[must_use]
pub fn html(report: &Report) -> String {
    let title = escape(&format!("MQTT conformance: {}", report.broker));
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    head(&mut out, report);
    failures(&mut out, report);
    by_section(&mut out, report);
    by_chapter(&mut out, report);
    every_case(&mut out, report);
    out.push_str("</body>\n</html>\n");
    out
}

// Writing to a String cannot fail: that is why the results below are dropped.

fn head(out: &mut String, report: &Report) {
    let Report { suite, started, seconds, .. } = report;
    let _ = writeln!(
        out,
        "<p class=\"dim\">{} · {} · {seconds} s · {} · MQTT {}</p>",
        escape(suite),
        escape(started),
        escape(&report.urls.join(", ")),
        escape(&report.versions.join(", ")),
    );
    let Totals { passed, failed, skipped } = report.totals;
    let _ = writeln!(
        out,
        "<p class=\"totals\"><span class=\"passed\">{passed} passed</span>\
         <span class=\"failed\">{failed} failed</span>\
         <span class=\"skipped\">{skipped} skipped</span></p>"
    );
    let said: Vec<String> =
        report.capabilities.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let _ = writeln!(
        out,
        "<details><summary>What the broker was said to be able to do</summary><pre>{}</pre></details>",
        escape(&said.join("\n"))
    );
}

fn failures(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<h2>Failures</h2>");
    if report.totals.failed == 0 {
        let _ = writeln!(out, "<p>None.</p>");
    }
    for record in report.cases.iter().filter(|r| r.outcome == End::Failed) {
        let came = record.failure.as_ref().map_or("", |detail| detail.came.as_str());
        let _ = writeln!(
            out,
            "<details><summary><span class=\"failed\">{}</span> <span class=\"dim\">{}</span><br>\
             <small>{}</small></summary><pre>{}</pre></details>",
            escape(&record.full_name()),
            escape(&record.url),
            escape(came),
            escape(&record.explanation().join("\n")),
        );
    }
}

fn counted(out: &mut String, name: &str, totals: Totals) {
    let Totals { passed, failed, skipped } = totals;
    let class = if failed > 0 { "failed" } else { "dim" };
    let _ = writeln!(
        out,
        "<tr><td>{}</td><td class=\"n passed\">{passed}</td><td class=\"n {class}\">{failed}</td>\
         <td class=\"n skipped\">{skipped}</td></tr>",
        escape(name)
    );
}

const COLUMNS: &str =
    "<th class=\"n\">passed</th><th class=\"n\">failed</th><th class=\"n\">skipped</th></tr>";

fn by_section(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<h2>Statements by section</h2>");
    let _ = writeln!(
        out,
        "<p class=\"dim\">A statement has failed when any case that names it has, with a version of \
         its standard; it is skipped when none of them tested that.</p>"
    );
    let rows = sections(&report.cases);
    for standard in STANDARDS {
        let _ = writeln!(out, "<table><tr><th>MQTT {standard}</th>{COLUMNS}");
        for row in rows.iter().filter(|row| row.standard == standard) {
            counted(out, &format!("{} {}", row.section, row.title), row.statements);
        }
        let _ = writeln!(out, "</table>");
    }
}

fn by_chapter(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<h2>Cases by chapter of the suite</h2>");
    let _ = writeln!(out, "<table><tr><th>chapter</th>{COLUMNS}");
    for (chapter, totals) in report.chapters() {
        counted(out, &chapter, totals);
    }
    let _ = writeln!(out, "</table>");
}

fn every_case(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<h2>Every case, and the statements that it shows</h2>");
    let _ = writeln!(
        out,
        "<table><tr><th>case</th><th>outcome</th><th class=\"n\">s</th><th>statements</th></tr>"
    );
    for record in &report.cases {
        case(out, record);
    }
    let _ = writeln!(out, "</table>");
}

fn case(out: &mut String, record: &Record) {
    let mut outcome = record.outcome.word().to_owned();
    if let Some(reason) = &record.reason {
        outcome = format!("{outcome}: {reason}");
    } else if !record.left_out.is_empty() {
        outcome = format!("{outcome}, without MQTT {}", record.left_out.join(", "));
    }
    let _ = writeln!(
        out,
        "<tr><td>{}<br><small class=\"dim\">{}</small></td><td class=\"{}\">{}</td>\
         <td class=\"n\">{:.2}</td><td><small>{}</small></td></tr>",
        escape(&record.full_name()),
        escape(&record.url),
        record.outcome.word(),
        escape(&outcome),
        record.seconds,
        escape(&record.all_statements().join(", ")),
    );
}
