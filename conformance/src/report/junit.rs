//! JUnit XML, as CI systems read it.

use std::fmt::Write as _;

use super::{Record, Report, escape};

/// The report as JUnit XML: a test suite for each URL, a test case for each case.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<testsuites name=\"{}\" {} time=\"{}\">",
        escape(&format!("{} against {}", report.suite, report.broker)),
        counts(&report.cases),
        report.seconds
    );
    for url in &report.urls {
        let cases: Vec<Record> = report.cases.iter().filter(|r| r.url == *url).cloned().collect();
        let time: f64 = cases.iter().map(|r| r.seconds).sum();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" {} timestamp=\"{}\" time=\"{time:.3}\">",
            escape(url),
            counts(&cases),
            // The schema has no time zone here.
            escape(report.started.trim_end_matches('Z')),
        );
        for record in &cases {
            case(&mut out, record, report.label(url));
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn counts(cases: &[Record]) -> String {
    let totals = Report::count(cases);
    let (all, failed, skipped) = (totals.all(), totals.failed, totals.skipped);
    format!("tests=\"{all}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\"")
}

/// CI systems tell cases apart by these two names alone, so the first says over which URL it was.
fn case(out: &mut String, record: &Record, over: &str) {
    let head = format!(
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{}\"",
        escape(&format!("{over}.{}", record.chapter)),
        escape(&record.name),
        record.seconds
    );
    let _ = match (&record.failure, &record.reason) {
        (Some(detail), _) => writeln!(
            out,
            "{head}>\n      <failure type=\"conformance\" message=\"{}\">{}</failure>\n    </testcase>",
            escape(&format!("expected {}, came {}", detail.expected, detail.came)),
            escape(&record.explanation().join("\n")),
        ),
        (None, Some(reason)) => {
            writeln!(
                out,
                "{head}>\n      <skipped message=\"{}\"/>\n    </testcase>",
                escape(reason)
            )
        }
        (None, None) => writeln!(out, "{head}/>"),
    };
}
