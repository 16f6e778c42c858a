//! Every case: a row, with a column for each URL.

use std::fmt::Write as _;

use super::{Grouped, Record, Report, Totals, anchor, escape, filter, statement_links};

pub(super) fn every_case(out: &mut String, report: &Report, cases: &[Grouped<'_>]) {
    let _ = writeln!(out, "<h2 id=\"cases\">Every case, and the statements that it shows</h2>");
    let mut totals = Totals::default();
    cases.iter().for_each(|case| totals.count(case.outcome()));
    filter(out, "cases-shown", totals);
    let _ = write!(out, "<table class=\"list\"><tr class=\"head\"><th>case</th>");
    for url in &report.urls {
        let _ = write!(out, "<th>{}</th>", escape(report.label(url)));
    }
    let _ = writeln!(out, "<th>statements</th></tr>");
    for case in cases {
        row(out, report, case);
    }
    let _ = writeln!(out, "</table>");
}

fn row(out: &mut String, report: &Report, case: &Grouped<'_>) {
    let word = case.outcome().word();
    let name = match word {
        "failed" => case.link(),
        _ => escape(&case.name()),
    };
    let _ =
        write!(out, "<tr class=\"{word}\" id=\"case-{}\"><td>{name}</td>", anchor(&case.name()));
    for url in &report.urls {
        let record = case.records.iter().find(|record| record.url == *url);
        let label = escape(report.label(url));
        let _ = match record {
            None => write!(out, "<td class=\"outcome dim\" title=\"{label}\">not run</td>"),
            Some(record) => write!(
                out,
                "<td class=\"outcome {}\" title=\"{label}\">{}</td>",
                record.outcome.word(),
                said(record)
            ),
        };
    }
    let _ = writeln!(out, "<td>{}</td></tr>", statement_links(case.first()));
}

fn said(record: &Record) -> String {
    let mut out = record.outcome.word().to_owned();
    if let Some(reason) = &record.reason {
        let _ = write!(out, ": {}", escape(reason));
        return out;
    }
    if !record.left_out.is_empty() {
        let _ = write!(out, ", without MQTT {}", escape(&record.left_out.join(", ")));
    }
    let _ = write!(out, " <span class=\"dim\">{:.2} s</span>", record.seconds);
    out
}
