//! That charts are well-formed and say what was measured.

use super::*;
use crate::compare::Cell;
use crate::compare::tests::comparison;

/// The chart of CPU per message.
fn cpu(comparison: &Comparison) -> String {
    drawn(chart("cpu-per-message.svg"), comparison).unwrap()
}

fn chart(file: &str) -> &'static Chart {
    CHARTS.iter().find(|chart| chart.file == file).unwrap()
}

/// Walks through the elements; panics at the first that is not well-formed. Returns the texts.
fn texts_of(xml: &str) -> Vec<String> {
    let (mut open, mut texts, mut rest) = (Vec::new(), Vec::new(), xml);
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        assert!(!text.contains('>'), "{text}");
        for entity in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
            assert!(known.iter().any(|known| entity.starts_with(known)), "{entity}");
        }
        texts.push(text.trim().to_owned());
        let end = at + rest[at..].find('>').expect("an end of the tag");
        let tag = &rest[at + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert!(!tag.contains('<') && !tag.contains("NaN") && !tag.contains("inf"), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().expect("a name"));
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?} not closed");
    assert_eq!(rest.trim(), "");
    texts.retain(|text| !text.is_empty());
    texts
}

fn widths_of(svg: &str, class: &str) -> Vec<f64> {
    let begin = format!("<rect class=\"{class}\" ");
    let bars = svg.lines().filter(|line| line.starts_with(&begin));
    let width = |line: &str| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok();
    bars.filter_map(width).collect()
}

#[test]
fn a_chart_is_well_formed_and_has_every_broker() {
    let texts = texts_of(&cpu(&comparison()));
    for text in [
        "CPU per delivered message",
        "pairs",
        "2 pairs &amp; more",
        "hrotti",
        "1.50",
        "10.0",
        "not whole",
        "not applicable",
    ] {
        assert!(texts.iter().any(|seen| seen == text), "{text} is not in {texts:?}");
    }
    assert!(texts.iter().any(|seen| seen.contains("Medians of 3 rounds on machine")));
}

#[test]
fn hostile_texts_stay_texts() {
    let mut seen = comparison();
    seen.scenarios[0].name = "</svg><script>\"'".to_owned();
    seen.scenarios[0].about = "a & b < c".to_owned();
    seen.machine = "]]>\u{1}".to_owned();
    let texts = texts_of(&cpu(&seen));
    assert!(texts.contains(&"&lt;/svg&gt;&lt;script&gt;&quot;&#39;".to_owned()));
}

#[test]
fn lengths_are_in_proportion() {
    let svg = cpu(&comparison());
    let (ours, theirs) = (widths_of(&svg, "ours"), widths_of(&svg, "peer"));
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    assert!((theirs[0] / ours[0] - 10.0 / 1.5).abs() < 0.01, "{ours:?} {theirs:?}");
}

#[test]
fn a_long_description_is_wrapped_and_bars_stay_on_the_page() {
    let mut seen = comparison();
    seen.scenarios[0].about = "many words ".repeat(30);
    let svg = cpu(&seen);
    texts_of(&svg);
    assert!(wrapped(&seen.scenarios[0].about, 20).iter().all(|line| line.len() <= 20));
    let longest = widths_of(&svg, "peer").into_iter().fold(0.0, f64::max);
    assert!(longest + LABEL + FIGURE <= PANEL + 0.1, "{longest}");
}

#[test]
fn a_floor_above_all_others_is_none() {
    let mut seen = comparison();
    let with_floor = |seen: &mut Comparison, us| {
        let rounds = vec![crate::compare::tests::outcome(us)];
        seen.scenarios[0].cells[2] = Cell { rounds, ..Cell::default() };
        widths_of(&cpu(seen), "floor").len()
    };
    assert_eq!(with_floor(&mut seen, 0.5), 1);
    assert_eq!(with_floor(&mut seen, 50.0), 0);
}

#[test]
fn a_figure_that_nobody_measured_has_no_chart() {
    assert!(drawn(chart("memory.svg"), &comparison()).is_none());
}

#[test]
fn every_compared_cost_has_its_chart() {
    for (metric, file) in [
        (Metric::BrokerUsPerMessage, "cpu-per-message.svg"),
        (Metric::BrokerUsPerConnect, "cpu-per-operation.svg"),
        (Metric::LatencyP50Us, "latency.svg"),
        (Metric::LatencyP99Us, "latency.svg"),
        (Metric::BytesPerConnection, "memory.svg"),
    ] {
        let shows = |chart: &&Chart| match chart.shows {
            Shows::Those(shows) => shows(metric),
            Shows::Highlights => false,
        };
        let files: Vec<_> = CHARTS.iter().filter(shows).map(|chart| chart.file).collect();
        assert_eq!(files, [file]);
    }
}

#[test]
fn the_readme_s_chart_has_what_its_table_has() {
    let texts = texts_of(&drawn(chart("speed.svg"), &comparison()).unwrap());
    assert!(texts.iter().any(|text| text == "pairs"), "{texts:?}");
    let mut without = comparison();
    without.scenarios[0].name = "other".to_owned();
    assert!(drawn(chart("speed.svg"), &without).is_none());
}

#[test]
fn a_chart_made_again_is_the_same() {
    let json = serde_json::to_string(&comparison()).unwrap();
    assert_eq!(cpu(&serde_json::from_str(&json).unwrap()), cpu(&comparison()));
}
