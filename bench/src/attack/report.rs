//! An attack as a table.

use std::fmt::Write as _;

use super::{Cell, Phase, Round, Row, Siege};
use crate::process::Memory;
use crate::report::{show, table};
use crate::stats::Spread;

/// What the healthy clients' p99 may become.
const AT_MOST: f64 = 1.5;

/// The whole document.
pub(crate) fn document(siege: &Siege) -> String {
    let mut out = format!(
        "# An attacker's hour\n\n`{}`\n\n{} on {}.\n\n{}.\n\nMedians of the rounds, with the lowest and \
         the highest in brackets. A ratio is that of `during` to `before` within a round. `connect` is \
         a healthy client that comes anew, from its SYN to CONNACK. CPU is the broker's, of one \
         core. Each attack begins at most so many connections a second as its section says.\n\n",
        siege.command, siege.tool, siege.machine, siege.healthy
    );
    let head = [
        "attack",
        "broker",
        "p50 µs before",
        "during",
        "p99 µs before",
        "during",
        "p99 ratio",
        "at most 1.5",
    ];
    out.push_str(&table(&head, &rows(siege, latency)));
    let head = [
        "attack",
        "broker",
        "connect ms before",
        "during",
        "longest",
        "failed",
        "CPU % before",
        "during",
        "RSS MiB before",
        "during",
        "after",
    ];
    let _ = write!(out, "\n{}", table(&head, &rows(siege, costs)));
    for row in &siege.attacks {
        let _ = write!(out, "\n## {}\n\n{}.\n\n{}", row.name, row.about, remarks(siege, row));
    }
    out.push_str("\n## Brokers\n");
    for broker in &siege.brokers {
        let (name, version) = (&broker.name, &broker.version);
        let text = broker.configuration.trim_end();
        let _ = write!(out, "\n{name}: {version}\n\n```text\n{text}\n```\n");
    }
    out
}

fn rows(siege: &Siege, figures: fn(&Cell) -> Vec<String>) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for row in &siege.attacks {
        for (broker, cell) in siege.brokers.iter().zip(&row.cells) {
            let names = vec![row.name.to_owned(), broker.name.clone()];
            rows.push([names, figures(cell)].concat());
        }
    }
    rows
}

impl Cell {
    fn shown(&self, digits: usize, get: impl Fn(&Round) -> Option<f64>) -> String {
        let spread = Spread::of(self.rounds.iter().filter_map(get));
        spread.map_or_else(String::new, |spread| show(spread, digits))
    }

    fn ratio(&self) -> Option<Spread> {
        let pair = |round: &Round| (round.during.latency.p99_us, round.before.latency.p99_us);
        Spread::of_ratios(self.rounds.iter().map(pair))
    }
}

fn latency(cell: &Cell) -> Vec<String> {
    let ratio = cell.ratio();
    let verdict = ratio
        .map_or("not measured", |ratio| if ratio.median <= AT_MOST { "met" } else { "**MISSED**" });
    vec![
        cell.shown(1, |round| Some(round.before.latency.p50_us)),
        cell.shown(1, |round| Some(round.during.latency.p50_us)),
        cell.shown(1, |round| Some(round.before.latency.p99_us)),
        cell.shown(1, |round| Some(round.during.latency.p99_us)),
        ratio.map_or_else(String::new, |ratio| show(ratio, 2)),
        verdict.to_owned(),
    ]
}

fn costs(cell: &Cell) -> Vec<String> {
    let rss = |memory: Option<Memory>| memory.map(|memory| memory.rss as f64 / 1_048_576.0);
    let phases = |get: fn(&Phase) -> Option<f64>, digits| {
        [
            cell.shown(digits, |round| get(&round.before)),
            cell.shown(digits, |round| get(&round.during)),
        ]
    };
    let failed: usize = cell.rounds.iter().map(|round| round.during.arrivals.failed).sum();
    let mut out = Vec::from(phases(|phase| phase.arrivals.median_ms, 1));
    out.push(cell.shown(1, |round| round.during.arrivals.max_ms));
    out.push(failed.to_string());
    out.extend(phases(|phase| phase.cpu_percent, 1));
    out.push(cell.shown(1, |round| rss(round.before.memory)));
    out.push(cell.shown(1, |round| rss(round.during.memory)));
    out.push(cell.shown(1, |round| rss(round.after)));
    out
}

/// What the attacker saw of each broker, over all rounds, and what went wrong.
fn remarks(siege: &Siege, row: &Row) -> String {
    let mut out = String::new();
    for (broker, cell) in siege.brokers.iter().zip(&row.cells) {
        let sum = |get: fn(&Round) -> u64| cell.rounds.iter().map(get).sum::<u64>();
        let mut parts = vec![format!("{} connections begun", sum(|seen| seen.attacker.begun))];
        let mut answers = std::collections::BTreeMap::<&str, u64>::new();
        for (answer, count) in cell.rounds.iter().flat_map(|round| &round.attacker.answers) {
            *answers.entry(answer).or_default() += count;
        }
        parts.extend(answers.iter().map(|(answer, count)| format!("{count} answered {answer}")));
        parts.push(format!("{} closed by the broker", sum(|seen| seen.attacker.closed)));
        let most = cell.rounds.iter().map(|round| round.attacker.most).max().unwrap_or(0);
        parts.push(format!("{most} at once"));
        for (count, what) in [
            (sum(|seen| seen.attacker.left as u64), "open at the end"),
            (sum(|seen| seen.attacker.failed), "not begun for want of descriptors or ports"),
            (sum(|seen| seen.lost), "messages of healthy clients lost"),
            (sum(|seen| seen.logged), "lines logged by the broker"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        let late = cell.rounds.iter().map(|round| round.during.latency.late_p99_us);
        if let Some(late) = Spread::of(late) {
            parts.push(format!("tool late p99 {:.1} µs", late.median));
        }
        let _ = writeln!(out, "- {}: {}", broker.name, parts.join(", "));
        let failures = cell.rounds.iter().filter_map(|round| {
            let why = round.during.arrivals.first_failure.as_ref()?;
            Some(format!("a healthy client was not let in: {why}"))
        });
        let notes = cell.rounds.iter().flat_map(|round| round.notes.clone());
        let mut lines: Vec<String> = failures.chain(notes).collect();
        lines.extend(cell.failures.iter().map(|failure| format!("failed in {failure}")));
        lines.sort();
        lines.dedup();
        for line in lines {
            let _ = writeln!(out, "- {}: {line}", broker.name);
        }
    }
    out
}
