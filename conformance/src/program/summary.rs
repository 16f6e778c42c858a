//! What is printed at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hrotti_conformance::report::{End, Report, STANDARDS, Totals, sections};

/// Failures with all that is known of them, skips by reason, and the counts.
pub(crate) fn text(report: &Report) -> String {
    // Writing to a String cannot fail: that is why the results below are dropped.
    let mut out = String::new();
    for record in report.cases.iter().filter(|record| record.outcome == End::Failed) {
        let _ = writeln!(out, "FAILED {} over {}", record.full_name(), record.url);
        for line in record.explanation() {
            let _ = writeln!(out, "  {line}");
        }
        out.push('\n');
    }
    skips(&mut out, report);
    let heads = ["passed", "failed", "skipped"];
    let columns = |out: &mut String, title: &str| {
        let _ = writeln!(out, "{title:<44}{:>8}{:>8}{:>8}", heads[0], heads[1], heads[2]);
    };
    let rows = sections(&report.cases);
    for standard in STANDARDS {
        columns(&mut out, &format!("statements of MQTT {standard}"));
        let mut sum = Totals::default();
        for row in rows.iter().filter(|row| row.standard == standard) {
            counted(&mut out, &format!("{:<5}{}", row.section, row.title), row.statements);
            sum.passed += row.statements.passed;
            sum.failed += row.statements.failed;
            sum.skipped += row.statements.skipped;
        }
        counted(&mut out, "all", sum);
        out.push('\n');
    }
    columns(&mut out, "cases by chapter");
    for (chapter, totals) in report.chapters() {
        counted(&mut out, &chapter, totals);
    }
    counted(&mut out, "all", report.totals);
    failed_again(&mut out, report);
    let Totals { passed, failed, skipped } = report.totals;
    let _ = write!(
        out,
        "\n{}: {passed} passed, {failed} failed, {skipped} skipped in {:.1} s (MQTT {})",
        report.broker,
        report.seconds,
        report.versions.join(", ")
    );
    out
}

/// The names alone, where a reader of a long log looks first.
fn failed_again(out: &mut String, report: &Report) {
    let mut failed: Vec<(String, Vec<&str>)> = Vec::new();
    for record in report.cases.iter().filter(|record| record.outcome == End::Failed) {
        let (name, over) = (record.full_name(), report.label(&record.url));
        match failed.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.push(over),
            None => failed.push((name, vec![over])),
        }
    }
    if !failed.is_empty() {
        out.push_str("\nfailed (the first lines say how):\n");
    }
    for (name, over) in failed {
        let _ = writeln!(out, "  {name} over {}", over.join(", "));
    }
}

fn counted(out: &mut String, name: &str, Totals { passed, failed, skipped }: Totals) {
    let _ = writeln!(out, "  {name:<42}{passed:>8}{failed:>8}{skipped:>8}");
}

fn skips(out: &mut String, report: &Report) {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for record in &report.cases {
        if let Some(reason) = &record.reason {
            let name = format!("{} over {}", record.full_name(), record.url);
            reasons.entry(reason).or_default().push(name);
        }
    }
    for (reason, cases) in reasons {
        let _ = writeln!(out, "skipped ({reason}):");
        for name in cases {
            let _ = writeln!(out, "  {name}");
        }
        out.push('\n');
    }
}
