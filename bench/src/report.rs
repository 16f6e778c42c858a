//! Results as tables: Markdown, with the columns aligned, so that a terminal shows them well too.

pub(crate) mod readme;
mod table;

use std::fmt::Write as _;

pub(crate) use self::table::{short, show, table};
use crate::broker::Kind;
use crate::compare::{Cell, Comparison, ScenarioResult};
use crate::goal::{Of, Verdict, verdicts};
use crate::load::Outcome;

/// The whole document.
pub(crate) fn document(comparison: &Comparison) -> String {
    let mut out = String::from("# Results\n\n");
    let _ = write!(
        out,
        "`{}`\n\n{} on {}. {}, the brokers in turn within each.\n\
         Medians, with the lowest and the highest round in brackets. CPU is user and system time of \
         all threads of the broker per delivered message; `tool` is the load tool's own.\n\
         Messages are counted over all rounds, from the first to the last.\n\n",
        comparison.command,
        comparison.tool,
        comparison.machine,
        comparison.rounds_in_words()
    );
    for line in &comparison.left_out {
        let _ = write!(out, "Not measured: {line}.\n\n");
    }
    out.push_str(&wrong(comparison));
    out.push_str(&targets(comparison));
    out.push_str(&ratios(comparison));
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

/// What must be known before any figure is read: messages that were not whole, runs that failed.
fn wrong(comparison: &Comparison) -> String {
    let mut out = String::from("## Not whole\n\n");
    let mut rows = Vec::new();
    for (scenario, broker, cell) in comparison.not_whole() {
        let mut row = vec![scenario.name.clone(), broker.name.clone()];
        row.extend(COUNTS.map(|(_, get)| cell.sum(get).to_string()));
        rows.push(row);
    }
    if rows.is_empty() {
        out.push_str("Nothing was lost, duplicated or reordered where it must not be.\n\n");
    } else {
        let head: Vec<_> = ["scenario", "broker"].into_iter().chain(COUNTS.map(|c| c.0)).collect();
        let _ = write!(
            out,
            "Messages that had to arrive, once and in order, and did not. A figure of such a run \
             says what the work cost that was done, not what was asked for.\n\n{}\n",
            table(&head, &rows)
        );
    }
    let failed: Vec<_> = comparison
        .cells()
        .filter(|(_, _, cell)| !cell.failures.is_empty())
        .map(|(scenario, broker, cell)| {
            let count = cell.failures.len();
            let of = comparison.rounds;
            format!("- {} with {}: {count} of {of} runs\n", scenario.name, broker.name)
        })
        .collect();
    if !failed.is_empty() {
        let _ = write!(out, "Failed, see there:\n\n{}\n", failed.concat());
    }
    out
}

/// What hrotti means to reach.
fn targets(comparison: &Comparison) -> String {
    let row = |verdict: &Verdict| {
        let Verdict { scenario, goal, what, seen } = verdict;
        let (seen_digits, digits) = match goal.of {
            Of::Ratio => (3, 2),
            Of::Figure => (goal.metric.digits(), goal.metric.digits()),
        };
        vec![
            scenario.name.clone(),
            goal.metric.name().to_owned(),
            what.clone(),
            seen.map_or_else(String::new, |spread| show(spread, seen_digits)),
            format!("{:.digits$}", goal.at_most),
            match verdict.is_met() {
                Some(true) => "met".to_owned(),
                Some(false) => "**MISSED**".to_owned(),
                None => "not measured".to_owned(),
            },
        ]
    };
    let rows: Vec<_> = verdicts(comparison).iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = ["scenario", "metric", "of", "median (spread)", "at most", ""];
    format!(
        "## Targets\n\nThe median of the rounds counts. A ratio is that of the two brokers within \
         each round.\n\n{}\n",
        table(&head, &rows)
    )
}

/// The first broker against each other one, in every figure that both have.
fn ratios(comparison: &Comparison) -> String {
    let Some((ours, others)) = comparison.brokers.split_first() else { return String::new() };
    let mut rows = Vec::new();
    for scenario in &comparison.scenarios {
        for metric in scenario.metrics().into_iter().filter(|metric| metric.is_compared()) {
            let mut row = vec![scenario.name.clone(), metric.name().to_owned()];
            for (other, cell) in others.iter().zip(scenario.cells.iter().skip(1)) {
                let ours = &scenario.cells[0];
                let is_variant = other.kind == Kind::Hrotti;
                let (of, to) = if is_variant { (cell, ours) } else { (ours, cell) };
                row.push(of.ratio_to(to, metric).map_or_else(String::new, |ratio| {
                    let worse = (ratio.median > 1.0) != metric.more_is_better();
                    let clearly = (ratio.median - 1.0).abs() > 0.01;
                    let loses = worse && clearly && other.kind != Kind::Null;
                    let median = format!("{:.3}", ratio.median);
                    let text = show(ratio, 3);
                    if loses { text.replacen(&median, &format!("**{median}**"), 1) } else { text }
                }));
            }
            if row[2..].iter().any(|cell| !cell.is_empty()) {
                rows.push(row);
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let heads: Vec<String> = others
        .iter()
        .map(|other| match other.kind {
            Kind::Hrotti => format!("{} / {}", other.name, ours.name),
            _ => format!("{} / {}", ours.name, other.name),
        })
        .collect();
    let head: Vec<&str> =
        ["scenario", "metric"].into_iter().chain(heads.iter().map(String::as_str)).collect();
    format!(
        "## Ratios\n\nOf each round, then their median. Bold: the broker named first is worse, \
         by more than a hundredth.\n\n{}\n",
        table(&head, &rows)
    )
}

type Count = (&'static str, fn(&Outcome) -> u64);

/// What must be zero.
const COUNTS: [Count; 3] = [
    ("lost", |seen| seen.lost),
    ("duplicated", |seen| seen.duplicated),
    ("reordered", |seen| seen.reordered),
];

fn scenario_table(comparison: &Comparison, scenario: &ScenarioResult) -> String {
    let metrics = scenario.metrics();
    let has_messages = scenario.cells.iter().flat_map(Cell::outcomes).any(|seen| seen.sent > 0);
    let mut head = vec!["broker"];
    if has_messages {
        head.extend(["sent", "delivered"]);
        head.extend(COUNTS.map(|(name, _)| name));
    } else {
        head.push("connections");
    }
    head.extend(metrics.iter().map(|metric| metric.name()));
    let mut rows = Vec::new();
    for (broker, cell) in comparison.brokers.iter().zip(&scenario.cells) {
        let mut row = vec![broker.name.clone()];
        if cell.not_applicable.is_some() {
            row.resize(head.len(), "n/a".to_owned());
            rows.push(row);
            continue;
        }
        if has_messages {
            row.extend(
                [cell.sum(|seen| seen.sent), cell.sum(|seen| seen.delivered)]
                    .map(|n| n.to_string()),
            );
            row.extend(COUNTS.map(|(_, get)| match cell.sum(get) {
                wrong if wrong > 0 && scenario.lossless => format!("**{wrong}**"),
                count => count.to_string(),
            }));
        } else {
            let least = cell.outcomes().map(|seen| seen.connections).min();
            row.push(least.unwrap_or(0).to_string());
        }
        row.extend(metrics.iter().map(|&metric| {
            cell.spread(metric).map_or_else(String::new, |spread| show(spread, metric.digits()))
        }));
        rows.push(row);
    }
    table(&head, &rows)
}

/// Who does not take part, notes and failures, each once.
fn remarks(comparison: &Comparison, scenario: &ScenarioResult) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (broker, cell) in comparison.brokers.iter().zip(&scenario.cells) {
        let absent = cell.not_applicable.iter().map(|why| format!("not applicable: {why}"));
        let notes = cell.outcomes().flat_map(|outcome| &outcome.notes);
        let failures = cell.failures.iter().map(|failure| format!("failed in {failure}"));
        for text in absent.chain(notes.cloned()).chain(failures) {
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
        let first: [Count; 2] = [("sent", |seen| seen.sent), ("delivered", |seen| seen.delivered)];
        for (name, get) in first.into_iter().chain(COUNTS) {
            rows.push(vec![name.to_owned(), get(outcome).to_string()]);
        }
    }
    rows.push(vec!["connections".to_owned(), outcome.connections.to_string()]);
    for (metric, value) in &outcome.values {
        rows.push(vec![metric.name().to_owned(), format!("{value:.*}", metric.digits())]);
    }
    let notes: String = outcome.notes.iter().map(|note| format!("- {note}\n")).collect();
    table(&["", "value"], &rows) + &notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::{comparison, outcome};

    fn assert_has(text: &str, parts: &[&str]) {
        let narrow = text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(narrow.contains(part), "{part}\nis not in\n{text}");
        }
    }

    #[test]
    fn the_document_has_everything() {
        let text = document(&comparison());
        assert_has(
            &text,
            &[
                "`hrotti-bench compare`\n\ntool 1 on machine. 3 rounds",
                "Not measured: aedes is not installed: get it.\n",
                "| pairs | mosquitto | 1 | 0 | 0 |\n",
                "Failed, see there:\n\n- pairs with hrotti: 1 of 3 runs\n",
                "| pairs | CPU µs/message | hrotti / mosquitto | 0.150 (0.100..0.200) | 0.10 | **MISSED** |",
                "| pairs | CPU µs/message | 0.150 (0.100..0.200) | |\n",
                "| hrotti | 20 | 20 | 0 | 0 | 0 |",
                "| mosquitto | 30 | 29 | **1** | 0 | 0 |",
                "| null | n/a | n/a | n/a | n/a | n/a | n/a | n/a |",
                "- hrotti: failed in round 3: gone\n- mosquitto: short\n- null: not applicable: it has no ws",
                "mosquitto: mosquitto 9\n\n```text\nquick <true>\n```\n",
            ],
        );
    }

    #[test]
    fn what_is_wrong_stands_before_any_figure() {
        let text = document(&comparison());
        let at = |part: &str| text.find(part).unwrap();
        assert!(at("## Not whole") < at("## Targets"));
        assert!(at("## Targets") < at("## Ratios"));
        assert!(at("## Ratios") < at("## pairs"));
    }

    #[test]
    fn a_whole_run_says_so() {
        let mut seen = comparison();
        seen.scenarios[0].lossless = false;
        seen.scenarios[0].cells[0].failures.clear();
        let text = document(&seen);
        assert_has(&text, &["Nothing was lost, duplicated or reordered where it must not be.\n"]);
        assert!(!text.contains("Failed, see there"), "{text}");
        assert!(!text.contains("**1**"), "a loss that is part of the scenario is no flag: {text}");
    }

    #[test]
    fn a_row_that_we_lose_is_bold() {
        let mut seen = comparison();
        seen.scenarios[0].cells[0].rounds = vec![outcome(20.0), outcome(30.0)];
        let text = document(&seen);
        assert_has(&text, &["| messages/s | **0.417** (", "| CPU µs/message | **2.500** ("]);
    }

    #[test]
    fn a_target_that_nobody_measured_is_not_met() {
        let mut seen = comparison();
        seen.brokers[1].kind = Kind::Rumqttd;
        assert_has(&document(&seen), &["| hrotti / mosquitto | | 0.10 | not measured |"]);
    }

    #[test]
    fn a_report_is_what_the_run_printed() {
        let seen = comparison();
        let json = serde_json::to_string_pretty(&seen).unwrap();
        let again: Comparison = serde_json::from_str(&json).unwrap();
        assert_eq!(document(&again), document(&seen));
    }

    #[test]
    fn a_single_run_shows_what_it_has() {
        let text = single(&outcome(1.25).unwrap());
        assert!(text.contains("| CPU µs/message | 1.250 |"), "{text}");
        assert!(!text.contains("p99"), "{text}");
    }
}
