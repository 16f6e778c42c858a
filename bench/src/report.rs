//! Results as tables: Markdown, with the columns aligned, so that a terminal shows them well too.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::compare::{Cell, Comparison, ScenarioResult};
use crate::load::Outcome;
use crate::metric::Metric;
use crate::stats::Spread;

/// The whole document.
pub(crate) fn document(comparison: &Comparison, command: &str) -> String {
    let mut out = String::from("# Results\n\n");
    let _ = write!(
        out,
        "`{command}`\n\n{} on {}. {} rounds, the brokers in turn within each.\n\
         Medians, with the lowest and the highest round in brackets. CPU is user and system time of \
         all threads of the broker per delivered message; `tool` is the load tool's own.\n\
         Messages are counted over all rounds, from the first to the last.\n\n",
        comparison.tool, comparison.machine, comparison.rounds
    );
    let ratios = ratio_table(comparison);
    if !ratios.is_empty() {
        out.push_str("## Ratios\n\nOf each round, then their median.\n\n");
        out.push_str(&ratios);
        out.push('\n');
    }
    for scenario in &comparison.scenarios {
        let _ = write!(out, "## {}\n\n{}.\n\n", scenario.name, scenario.about);
        out.push_str(&scenario_table(comparison, scenario));
        out.push_str(&remarks(comparison, scenario));
        out.push('\n');
    }
    out.push_str("## Brokers\n");
    for broker in &comparison.brokers {
        let (version, text) = (&broker.version, broker.configuration.trim_end());
        let _ = write!(out, "\n{}: {version}\n", broker.name);
        if !text.is_empty() {
            let _ = write!(out, "\n```text\n{text}\n```\n");
        }
    }
    out
}

/// One line per broker pair and compared metric that the scenario has.
fn ratio_table(comparison: &Comparison) -> String {
    let Some((ours, others)) = comparison.brokers.split_first() else { return String::new() };
    let mut rows = Vec::new();
    for scenario in &comparison.scenarios {
        for (at, other) in others.iter().enumerate() {
            for metric in metrics_of(scenario).into_iter().filter(|metric| metric.is_compared()) {
                let pairs = paired(&scenario.cells[0], &scenario.cells[at + 1], metric);
                let Some(spread) = Spread::of_ratios(pairs) else { continue };
                rows.push(vec![
                    scenario.name.to_owned(),
                    metric.name().to_owned(),
                    format!("{} / {}", ours.name, other.name),
                    show(spread, 3),
                ]);
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    table(&["scenario", "metric", "of", "ratio"], &rows)
}

/// The values of two brokers in the rounds that both finished.
fn paired(ours: &Cell, theirs: &Cell, metric: Metric) -> impl Iterator<Item = (f64, f64)> {
    let value = move |outcome: &Option<Outcome>| outcome.as_ref()?.values.get(&metric).copied();
    let rounds = ours.rounds.iter().zip(&theirs.rounds);
    rounds.filter_map(move |(ours, theirs)| value(ours).zip(value(theirs)))
}

/// What any of the brokers was measured in.
fn metrics_of(scenario: &ScenarioResult) -> BTreeSet<Metric> {
    let outcomes = scenario.cells.iter().flat_map(Cell::outcomes);
    outcomes.flat_map(|outcome| outcome.values.keys().copied()).collect()
}

fn scenario_table(comparison: &Comparison, scenario: &ScenarioResult) -> String {
    let metrics = metrics_of(scenario);
    let has_messages = scenario.cells.iter().flat_map(Cell::outcomes).any(|seen| seen.sent > 0);
    let mut head = vec!["broker"];
    if has_messages {
        head.extend(["sent", "delivered", "lost", "duplicated", "reordered"]);
    } else {
        head.push("connections");
    }
    head.extend(metrics.iter().map(|metric| metric.name()));
    let mut rows = Vec::new();
    for (broker, cell) in comparison.brokers.iter().zip(&scenario.cells) {
        let sum = |get: fn(&Outcome) -> u64| cell.outcomes().map(get).sum::<u64>().to_string();
        let mut row = vec![broker.name.to_owned()];
        if has_messages {
            row.extend([sum(|seen| seen.sent), sum(|seen| seen.delivered), sum(|seen| seen.lost)]);
            row.extend([sum(|seen| seen.duplicated), sum(|seen| seen.reordered)]);
        } else {
            let least = cell.outcomes().map(|seen| seen.connections).min();
            row.push(least.unwrap_or(0).to_string());
        }
        row.extend(metrics.iter().map(|metric| {
            let values = cell.outcomes().filter_map(|seen| seen.values.get(metric).copied());
            Spread::of(values).map_or_else(String::new, |spread| show(spread, metric.digits()))
        }));
        rows.push(row);
    }
    table(&head, &rows)
}

/// Notes and failures, each once.
fn remarks(comparison: &Comparison, scenario: &ScenarioResult) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (broker, cell) in comparison.brokers.iter().zip(&scenario.cells) {
        let notes = cell.outcomes().flat_map(|outcome| &outcome.notes);
        let failures = cell.failures.iter().map(|failure| format!("failed in {failure}"));
        for text in notes.cloned().chain(failures) {
            let line = format!("- {}: {text}\n", broker.name);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.concat()) }
}

/// One run of one scenario, a value a line.
pub(crate) fn single(outcome: &Outcome) -> String {
    let mut rows = Vec::new();
    if outcome.sent > 0 {
        for (name, count) in [
            ("sent", outcome.sent),
            ("delivered", outcome.delivered),
            ("lost", outcome.lost),
            ("duplicated", outcome.duplicated),
            ("reordered", outcome.reordered),
        ] {
            rows.push(vec![name.to_owned(), count.to_string()]);
        }
    }
    rows.push(vec!["connections".to_owned(), outcome.connections.to_string()]);
    for (metric, value) in &outcome.values {
        rows.push(vec![metric.name().to_owned(), format!("{value:.*}", metric.digits())]);
    }
    let notes: String = outcome.notes.iter().map(|note| format!("- {note}\n")).collect();
    table(&["", "value"], &rows) + &notes
}

fn show(spread: Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    if min == max {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({min:.digits$}..{max:.digits$})")
}

/// A Markdown table; the first column to the left, all others to the right.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width_of = |at: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([title.chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<_> = head.iter().enumerate().map(|(at, title)| width_of(at, title)).collect();
    let mut out = String::new();
    let mut line = |cells: &[&str]| {
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let _ = if at == 0 {
                write!(out, "| {cell:<width$} ")
            } else {
                write!(out, "| {cell:>width$} ")
            };
        }
        out.push_str("|\n");
    };
    line(head);
    let rules: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(at, width)| match at {
            0 => "-".repeat(*width),
            _ => format!("{}:", "-".repeat(width - 1)),
        })
        .collect();
    line(&rules.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::BrokerInfo;

    fn outcome(us: f64) -> Option<Outcome> {
        let notes = vec!["short".to_owned()];
        Some(Outcome {
            sent: 10,
            delivered: 9,
            lost: 1,
            values: [(Metric::BrokerUsPerMessage, us)].into(),
            notes,
            ..Outcome::default()
        })
    }

    fn comparison() -> Comparison {
        let broker = |name| BrokerInfo {
            name,
            version: format!("{name} 9"),
            configuration: "quick true\n".to_owned(),
        };
        let ours = vec![outcome(1.0), outcome(2.0), None];
        let theirs = vec![outcome(10.0), outcome(10.0), outcome(1.0)];
        let failures = vec!["round 3: gone".to_owned()];
        let cells =
            vec![Cell { rounds: ours, failures }, Cell { rounds: theirs, failures: vec![] }];
        Comparison {
            tool: "tool 1",
            machine: "machine".to_owned(),
            rounds: 3,
            brokers: vec![broker("hrotti"), broker("peer")],
            scenarios: vec![ScenarioResult { name: "pairs", about: "two".to_owned(), cells }],
        }
    }

    #[test]
    fn the_document_has_ratios_medians_counts_and_failures() {
        let text = document(&comparison(), "cmd");
        for part in [
            "| pairs    | CPU µs/message | hrotti / peer | 0.150 (0.100..0.200) |",
            "| hrotti |   20 |        18 |    2 |          0 |         0 |   1.500 (1.000..2.000) |",
            "| peer   |   30 |        27 |    3 |          0 |         0 | 10.000 (1.000..10.000) |",
            "- hrotti: short\n- hrotti: failed in round 3: gone\n- peer: short\n",
            "peer: peer 9\n\n```text\nquick true\n```\n",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(comparison().has_failures());
    }

    #[test]
    fn a_single_run_shows_what_it_has() {
        let text = single(&outcome(1.25).unwrap());
        assert!(text.contains("| CPU µs/message | 1.250 |"), "{text}");
        assert!(!text.contains("p99"), "{text}");
    }
}
