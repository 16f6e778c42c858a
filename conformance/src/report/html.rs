//! One page for people, with nothing that must be fetched from elsewhere and no script: what is first needed
//! comes first, and every statement and case is a link away.

use std::fmt::Write as _;

use super::sections::{ends, worse};
use super::{End, Record, Report, STANDARDS, Totals, escape, sections};

mod cases;
mod failures;
mod statements;

const STYLE: &str = include_str!("html/style.css");

/// The report as one HTML page.
#[must_use]
pub fn html(report: &Report) -> String {
    let title = escape(&format!("MQTT conformance: {}", report.broker));
    let cases = grouped(report);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    head(&mut out, report, cases.len());
    failures::failures(&mut out, report, &cases);
    failures::skips(&mut out, report, &cases);
    by_section(&mut out, report);
    by_chapter(&mut out, report);
    statements::every_statement(&mut out, report, &cases);
    cases::every_case(&mut out, report, &cases);
    out.push_str("</body>\n</html>\n");
    out
}

// Writing to a String cannot fail: that is why the results below are dropped.

/// One case with its records, one for each URL.
struct Grouped<'a> {
    records: Vec<&'a Record>,
}

fn grouped(report: &Report) -> Vec<Grouped<'_>> {
    let mut cases: Vec<Grouped<'_>> = Vec::new();
    for record in &report.cases {
        match cases.iter_mut().find(|case| case.first().full_name() == record.full_name()) {
            Some(case) => case.records.push(record),
            None => cases.push(Grouped { records: vec![record] }),
        }
    }
    cases
}

impl<'a> Grouped<'a> {
    fn first(&self) -> &'a Record {
        self.records[0]
    }

    fn name(&self) -> String {
        self.first().full_name()
    }

    /// A failure over one URL outweighs all, and what held what was skipped: as for statements.
    fn outcome(&self) -> End {
        self.records.iter().map(|record| record.outcome).fold(End::Skipped, worse)
    }

    fn ended(&self, end: End) -> impl Iterator<Item = &'a Record> {
        self.records.iter().copied().filter(move |record| record.outcome == end)
    }

    /// Where the page says most of the case.
    fn link(&self) -> String {
        let part = if self.outcome() == End::Failed { "failure" } else { "case" };
        let name = escape(&self.name());
        let word = self.outcome().word();
        format!("<a class=\"{word}\" href=\"#{part}-{}\">{name}</a>", anchor(&self.name()))
    }
}

/// A name as a part of a link.
fn anchor(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .collect()
}

/// Links to a record's statements, standard by standard.
fn statement_links(record: &Record) -> String {
    let mut parts = Vec::new();
    for (standard, ids) in record.statements.iter().filter(|(_, ids)| !ids.is_empty()) {
        let link = |id: &String| {
            format!("<a href=\"#statement-{}-{}\">{}</a>", anchor(standard), anchor(id), escape(id))
        };
        let links: Vec<String> = ids.iter().map(link).collect();
        parts.push(format!("{}: {}", escape(standard), links.join(", ")));
    }
    if parts.is_empty() { "beyond the numbered statements".into() } else { parts.join("<br>") }
}

fn head(out: &mut String, report: &Report, cases: usize) {
    let Report { suite, started, seconds, .. } = report;
    let _ = writeln!(
        out,
        "<p class=\"dim\">{} · {} · {seconds:.1} s · {} · MQTT {}</p>",
        escape(suite),
        escape(started),
        escape(&report.urls.join(", ")),
        escape(&report.versions.join(", ")),
    );
    out.push_str("<div class=\"tiles\">\n");
    let (urls, plural) = (report.urls.len(), if report.urls.len() == 1 { "" } else { "s" });
    tile(out, &format!("{cases} cases over {urls} URL{plural}"), report.totals);
    for standard in STANDARDS {
        let mut totals = Totals::default();
        ends(&report.cases, standard).values().for_each(|&end| totals.count(end));
        if totals.all() > 0 {
            tile(out, &format!("statements of MQTT {standard}"), totals);
        }
    }
    out.push_str("</div>\n");
    out.push_str(
        "<nav><a href=\"#failures\">Failures</a> <a href=\"#skips\">Skips</a> \
         <a href=\"#sections\">Sections</a> <a href=\"#chapters\">Chapters</a> \
         <a href=\"#statements\">Every statement</a> <a href=\"#cases\">Every case</a></nav>\n",
    );
    let said: Vec<String> =
        report.capabilities.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let _ = writeln!(
        out,
        "<details><summary>What the broker was said to be able to do</summary><pre>{}</pre></details>",
        escape(&said.join("\n"))
    );
}

/// Numbers beside each other, and a bar that shows their proportion.
fn tile(out: &mut String, title: &str, totals: Totals) {
    let parts = [
        (End::Passed, totals.passed),
        (End::Failed, totals.failed),
        (End::Skipped, totals.skipped),
    ];
    let _ = write!(out, "<div class=\"tile\"><div class=\"dim\">{}</div><div>", escape(title));
    for (end, n) in parts {
        // Nothing failed: no alarm.
        let class = if n == 0 { "dim" } else { end.word() };
        let _ = write!(out, "<span class=\"{class}\">{n} {}</span> ", end.word());
    }
    out.push_str("</div><div class=\"bar\">");
    for (end, n) in parts.into_iter().filter(|&(_, n)| n > 0) {
        let _ = write!(out, "<i class=\"{}\" style=\"flex-grow:{n}\"></i>", end.word());
    }
    out.push_str("</div></div>\n");
}

fn counted(out: &mut String, name: &str, totals: Totals) {
    let Totals { passed, failed, skipped } = totals;
    let class = |n: usize, word: &'static str| if n > 0 { word } else { "dim" };
    let _ = writeln!(
        out,
        "<tr><td>{name}</td><td class=\"n {}\">{passed}</td><td class=\"n {}\">{failed}</td>\
         <td class=\"n {}\">{skipped}</td></tr>",
        class(passed, "passed"),
        class(failed, "failed"),
        class(skipped, "skipped"),
    );
}

const COLUMNS: &str =
    "<th class=\"n\">passed</th><th class=\"n\">failed</th><th class=\"n\">skipped</th></tr>";

fn by_section(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<h2 id=\"sections\">Statements by section</h2>");
    let _ = writeln!(
        out,
        "<p class=\"dim\">A statement has failed when any case that names it has, with a version of \
         its standard; it is skipped when none of them tested that.</p>"
    );
    let rows = sections(&report.cases);
    for standard in STANDARDS {
        let _ = writeln!(out, "<table class=\"counts\"><tr><th>MQTT {standard}</th>{COLUMNS}");
        for row in rows.iter().filter(|row| row.standard == standard) {
            let name = format!(
                "<a href=\"#section-{}-{}\">{} {}</a>",
                anchor(standard),
                anchor(&row.section),
                escape(&row.section),
                escape(row.title)
            );
            counted(out, &name, row.statements);
        }
        let _ = writeln!(out, "</table>");
    }
}

fn by_chapter(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<h2 id=\"chapters\">Cases by chapter of the suite</h2>");
    let _ = writeln!(out, "<table class=\"counts\"><tr><th>chapter</th>{COLUMNS}");
    for (chapter, totals) in report.chapters() {
        counted(out, &escape(&chapter), totals);
    }
    let _ = writeln!(out, "</table>");
}

/// Buttons that leave rows of one outcome in the table below; the style alone does it.
fn filter(out: &mut String, table: &str, totals: Totals) {
    let _ = write!(out, "<p class=\"filter\">Show: ");
    let choices = [
        ("all", totals.all()),
        ("failed", totals.failed),
        ("skipped", totals.skipped),
        ("passed", totals.passed),
    ];
    for (word, n) in choices {
        let checked = if word == "all" { " checked=\"checked\"" } else { "" };
        let _ = write!(
            out,
            "<label><input type=\"radio\" name=\"{table}\" value=\"{word}\"{checked}/> {word} ({n})</label> "
        );
    }
    out.push_str("</p>\n");
}
