//! The few figures that the project's README shows, between two markers.

use super::{short, table::table};
use crate::broker::Kind;
use crate::compare::{BrokerInfo, Comparison, ScenarioResult};
use crate::metric::Metric;

/// What stands before and after the table.
const MARKERS: (&str, &str) = ("<!-- speed:begin -->\n", "<!-- speed:end -->");

/// What is shown, as far as it was measured: the cost of a message at saturation and at low load,
/// and that of a connection which does nothing.
const HIGHLIGHTS: [(&str, Metric); 5] = [
    ("pairs", Metric::BrokerUsPerMessage),
    ("fan-out", Metric::BrokerUsPerMessage),
    ("qos1", Metric::BrokerUsPerMessage),
    ("low-load", Metric::BrokerUsPerMessage),
    ("idle", Metric::BytesPerConnection),
];

/// The scenarios and figures that stand for the whole.
pub(crate) fn highlights(
    comparison: &Comparison,
) -> impl Iterator<Item = (&ScenarioResult, Metric)> {
    HIGHLIGHTS.into_iter().filter_map(|(name, metric)| {
        let scenario = comparison.scenarios.iter().find(|seen| seen.name == name)?;
        let measured = scenario.cells.iter().any(|cell| cell.spread(metric).is_some());
        measured.then_some((scenario, metric))
    })
}

/// The text with a new table between its markers.
///
/// # Errors
///
/// When a marker is missing.
pub(crate) fn rewritten(text: &str, comparison: &Comparison) -> Result<String, String> {
    let (begin, end) = MARKERS;
    let missing = |marker: &str| format!("there is no line {}", marker.trim_end());
    let (before, rest) = text.split_once(begin).ok_or_else(|| missing(begin))?;
    let (_, after) = rest.split_once(end).ok_or_else(|| missing(end))?;
    Ok(format!("{before}{begin}{}{end}{after}", speed(comparison)))
}

fn speed(comparison: &Comparison) -> String {
    let shown: Vec<usize> = (0..comparison.brokers.len())
        .filter(|&at| {
            comparison.brokers[at].is_default() && comparison.brokers[at].kind != Kind::Null
        })
        .collect();
    let brokers: Vec<&BrokerInfo> = shown.iter().map(|&at| &comparison.brokers[at]).collect();
    let at = |kind| comparison.brokers.iter().position(|broker| broker.kind == kind);
    let ratio_of = at(Kind::Hrotti).zip(at(Kind::Mosquitto));
    let mut rows = Vec::new();
    for (scenario, metric) in highlights(comparison) {
        let label = format!("{}: {}", scenario.about, metric.name());
        let figures = shown.iter().map(|&at| {
            let cell = &scenario.cells[at];
            let figure =
                cell.spread(metric).map_or_else(|| "-".to_owned(), |seen| short(seen.median));
            if scenario.lossless && !cell.is_whole() { figure + " (not whole)" } else { figure }
        });
        let mut row: Vec<String> = [label].into_iter().chain(figures).collect();
        if let Some((ours, theirs)) = ratio_of {
            let ratio = scenario.cells[ours].ratio_to(&scenario.cells[theirs], metric);
            row.push(ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median)));
        }
        rows.push(row);
    }
    let mut head = vec![""];
    head.extend(brokers.iter().map(|broker| broker.name.as_str()));
    if ratio_of.is_some() {
        head.push("hrotti / mosquitto");
    }
    let versions: Vec<_> = brokers.iter().map(|broker| broker.version.as_str()).collect();
    format!(
        "{}\nMedians of {} on {}. {}.\n",
        table(&head, &rows),
        comparison.rounds_in_words(),
        comparison.machine,
        versions.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::comparison;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n<!-- speed:begin -->\nold\n<!-- speed:end -->\nb\n";
        let new = rewritten(text, &comparison()).unwrap();
        assert!(new.starts_with("a\n<!-- speed:begin -->\n| "), "{new}");
        assert!(new.ends_with("\n<!-- speed:end -->\nb\n"), "{new}");
        assert!(!new.contains("old"), "{new}");
        let row =
            "| 2 pairs & more: CPU µs/message |   1.50 | 10.0 (not whole) |               0.15 |\n";
        assert!(new.contains(row), "{row}\nis not in\n{new}");
        assert!(new.contains("Medians of 3 rounds on machine. hrotti 9, mosquitto 9.\n"), "{new}");
        assert_eq!(rewritten(&new, &comparison()).unwrap(), new);
    }

    #[test]
    fn the_project_s_readme_has_a_place_for_it() {
        let readme = include_str!("../../../README.md");
        assert!(rewritten(readme, &comparison()).is_ok());
    }

    #[test]
    fn a_text_without_markers_stays_as_it_is() {
        let missing = Err("there is no line <!-- speed:end -->".to_owned());
        assert_eq!(rewritten("<!-- speed:begin -->\n", &comparison()), missing);
        assert!(rewritten("", &comparison()).is_err());
    }
}
