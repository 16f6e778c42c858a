//! Results as bar charts: a panel for each scenario, a bar for each broker.
//!
//! Every panel has its own linear scale that begins at zero: a bar of a tenth of the length is a
//! tenth of the cost. Across panels only the figures can be compared, and they stand beside the bars.

mod svg;

use std::path::Path;
use std::{fs, io};

use self::svg::Svg;
use crate::broker::Kind;
use crate::compare::{BrokerInfo, Comparison, ScenarioResult};
use crate::metric::Metric;
use crate::report::{readme, short};

/// One file.
struct Chart {
    file: &'static str,
    title: &'static str,
    about: &'static str,
    shows: Shows,
}

/// What a chart has panels for.
enum Shows {
    /// What the README shows as a table.
    Highlights,
    /// Every such figure of every scenario.
    Those(fn(Metric) -> bool),
}

const CHARTS: [Chart; 5] = [
    Chart {
        file: "speed.svg",
        title: "What a message and a connection cost the broker",
        about: "CPU is user and system time of all its threads, memory is resident",
        shows: Shows::Highlights,
    },
    Chart {
        file: "cpu-per-message.svg",
        title: "CPU per delivered message",
        about: "µs of user and system time of the broker, all threads",
        shows: Shows::Those(|metric| metric == Metric::BrokerUsPerMessage),
    },
    Chart {
        file: "cpu-per-operation.svg",
        title: "CPU per operation",
        about: "µs of user and system time of the broker, all threads",
        shows: Shows::Those(|metric| {
            let name = metric.name();
            metric != Metric::BrokerUsPerMessage
                && (name.starts_with("CPU µs/") || name.starts_with("match"))
        }),
    },
    Chart {
        file: "latency.svg",
        title: "Latency",
        about: "µs from the time a message was due until it came; half (p50) and 99 of 100 (p99) came sooner",
        shows: Shows::Those(|metric| {
            [Metric::LatencyP50Us, Metric::LatencyP99Us].contains(&metric)
        }),
    },
    Chart {
        file: "memory.svg",
        title: "Memory",
        about: "growth of the broker's resident memory for each, in bytes",
        shows: Shows::Those(|metric| metric.name().starts_with("B/")),
    },
];

const WIDTH: f64 = 840.0;
const MARGIN: f64 = 20.0;
const GAP: f64 = 32.0;
const COLUMNS: usize = 2;
const PANEL: f64 = (WIDTH - 2.0 * MARGIN - GAP) / 2.0;
/// The names of the brokers, and the figures behind the bars.
const LABEL: f64 = 74.0;
const FIGURE: f64 = 104.0;
/// From one line to the next.
const BAR_LINE: f64 = 18.0;
const TEXT_LINE: f64 = 15.0;
/// As many letters as surely fit, at the size of small text.
const PANEL_LETTERS: usize = 66;
const PAGE_LETTERS: usize = 130;

/// Writes every chart for which something was measured.
///
/// # Errors
///
/// When a file cannot be written.
pub(crate) fn write(directory: &Path, comparison: &Comparison) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for chart in &CHARTS {
        if let Some(text) = drawn(chart, comparison) {
            fs::write(directory.join(chart.file), text)?;
        }
    }
    Ok(())
}

/// `None` if there is nothing to show.
fn drawn(chart: &Chart, comparison: &Comparison) -> Option<String> {
    let panels = panels(chart, comparison);
    if panels.is_empty() {
        return None;
    }
    let mut svg = Svg::new(WIDTH);
    let mut y = MARGIN + 16.0;
    svg.text("title", (MARGIN, y), chart.title);
    let about = format!("{}. Shorter is better; each panel has its own scale.", chart.about);
    y = lines(&mut svg, (MARGIN, y + 6.0), &about, PAGE_LETTERS) + 14.0;
    for row in panels.chunks(COLUMNS) {
        let tops = row.iter().map(|panel| panel.about.len()).max().unwrap_or(0) as f64 * TEXT_LINE;
        let mut height: f64 = 0.0;
        for (at, panel) in row.iter().enumerate() {
            let x = MARGIN + at as f64 * (PANEL + GAP);
            height = height.max(panel.draw(&mut svg, (x, y), tops));
        }
        y += height + 20.0;
    }
    let mut names: Vec<_> = comparison.brokers.iter().map(named).collect();
    names.dedup();
    let (rounds, machine) = (comparison.rounds_in_words(), &comparison.machine);
    let foot = format!("Medians of {rounds} on {machine}. {}.", names.join(", "));
    y = lines(&mut svg, (MARGIN, y - 8.0), &foot, PAGE_LETTERS);
    Some(svg.finish(y + MARGIN, chart.title, &format!("{about} {foot}")))
}

/// Small text over as many lines as it needs; the place of the last.
fn lines(svg: &mut Svg, (x, mut y): (f64, f64), text: &str, letters: usize) -> f64 {
    for line in wrapped(text, letters) {
        y += TEXT_LINE;
        svg.text("small", (x, y), &line);
    }
    y
}

fn named(broker: &BrokerInfo) -> String {
    match broker.kind {
        Kind::Null => "null: the cheapest relay there can be".to_owned(),
        _ if broker.version.starts_with(broker.kind.name()) => broker.version.clone(),
        _ => format!("{} {}", broker.name, broker.version),
    }
}

struct Panel {
    name: String,
    /// In lines.
    about: Vec<String>,
    bars: Vec<Bar>,
}

struct Bar {
    broker: String,
    class: &'static str,
    /// `None` where there is nothing to show, which `note` explains.
    value: Option<f64>,
    note: &'static str,
}

fn panels(chart: &Chart, comparison: &Comparison) -> Vec<Panel> {
    let shown: Vec<(&ScenarioResult, Metric)> = match chart.shows {
        Shows::Highlights => readme::highlights(comparison).collect(),
        Shows::Those(shows) => {
            let figures = comparison.scenarios.iter().flat_map(|scenario| {
                scenario.metrics().into_iter().map(move |metric| (scenario, metric))
            });
            figures.filter(|(_, metric)| metric.is_compared() && shows(*metric)).collect()
        }
    };
    // Where all panels show the same, the title of the chart says what.
    let same = shown.iter().all(|(_, metric)| *metric == shown[0].1);
    let mut panels: Vec<Panel> =
        shown.into_iter().map(|(seen, metric)| panel(comparison, seen, metric, !same)).collect();
    if matches!(chart.shows, Shows::Highlights) {
        let defaults: Vec<_> = comparison.brokers.iter().filter(|one| one.is_default()).collect();
        for panel in &mut panels {
            panel.bars.retain(|bar| defaults.iter().any(|broker| broker.name == bar.broker));
        }
    }
    panels
}

fn panel(comparison: &Comparison, scenario: &ScenarioResult, metric: Metric, named: bool) -> Panel {
    let bars = comparison.brokers.iter().zip(&scenario.cells).map(|(broker, cell)| {
        let value = cell.spread(metric).map(|spread| spread.median);
        Bar {
            broker: broker.name.clone(),
            class: match broker.kind {
                Kind::Hrotti => "ours",
                Kind::Null => "floor",
                _ => "peer",
            },
            value,
            note: match value {
                Some(_) if scenario.lossless && !cell.is_whole() => "not whole",
                Some(_) => "",
                None if cell.not_applicable.is_some() => "not applicable",
                None if !cell.failures.is_empty() => "failed",
                None => "not measured",
            },
        }
    });
    let mut bars: Vec<Bar> = bars.collect();
    let of_others = bars.iter().filter(|bar| bar.class != "floor").filter_map(|bar| bar.value);
    let longest = of_others.fold(0.0, f64::max);
    // What is above all others is no floor, and would only make their bars short.
    bars.retain(|bar| bar.class != "floor" || bar.value.is_none_or(|value| value <= longest));
    let name = match named {
        true => format!("{}, {}", scenario.name, metric.name()),
        false => scenario.name.clone(),
    };
    Panel { name, about: wrapped(&scenario.about.replace('`', ""), PANEL_LETTERS), bars }
}

impl Panel {
    /// Returns how high it is. The bars begin `tops` below the name, beside those of the neighbour.
    fn draw(&self, svg: &mut Svg, (x, mut y): (f64, f64), tops: f64) -> f64 {
        let top = y;
        y += 12.0;
        svg.text("name", (x, y), &self.name);
        for (at, line) in self.about.iter().enumerate() {
            svg.text("small", (x, y + (at + 1) as f64 * TEXT_LINE), line);
        }
        y += tops + 8.0;
        let longest = self.bars.iter().filter_map(|bar| bar.value).fold(0.0, f64::max);
        let begin = x + LABEL;
        svg.axis((begin, y), self.bars.len() as f64 * BAR_LINE);
        for bar in &self.bars {
            let ours = if bar.class == "ours" { "strong" } else { "" };
            svg.text(ours, (x, y + 13.0), &bar.broker);
            let mut end = begin;
            if let Some(value) = bar.value {
                let share = if longest > 0.0 { (value / longest).clamp(0.0, 1.0) } else { 0.0 };
                // Even the least is seen.
                let length = ((PANEL - LABEL - FIGURE) * share).max(1.0);
                svg.bar(bar.class, (begin, y + 3.0), (length, BAR_LINE - 6.0));
                end += length;
                let figure = short(value);
                svg.text(ours, (end + 6.0, y + 13.0), &figure);
                end += 6.0 + figure.chars().count() as f64 * 7.5;
            }
            if !bar.note.is_empty() {
                let class = if bar.value.is_some() { "small warn" } else { "small" };
                svg.text(class, (end + 6.0, y + 13.0), bar.note);
            }
            y += BAR_LINE;
        }
        y - top
    }
}

/// In lines of at most so many letters, as far as the words allow.
fn wrapped(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests;
