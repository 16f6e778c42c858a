//! The statements of a run, by standard and section.

use std::collections::BTreeMap;

use super::{End, Record, Totals};

/// The two standards whose statements have numbers.
pub const STANDARDS: [&str; 2] = ["3.1.1", "5.0"];

/// One section of a standard: how many of its statements held, did not, or were not tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `3.1.1` or `5.0`
    pub standard: &'static str,
    /// The section's number: `3.1`, or `6` outside of chapters 3 and 4.
    pub section: String,
    /// What it is about.
    pub title: &'static str,
    /// Its statements that cases name: one has failed when any case that names it has, on any URL and with a
    /// version of the standard; it is skipped when none of them tested that standard.
    pub statements: Totals,
}

/// Statements by section, in the order of the standard: 3.1.1 first.
#[must_use]
pub fn sections(cases: &[Record]) -> Vec<Row> {
    STANDARDS.iter().flat_map(|standard| of_standard(cases, standard)).collect()
}

/// How each statement of a standard that cases name ended.
pub(super) fn ends<'a>(cases: &'a [Record], standard: &str) -> BTreeMap<&'a str, End> {
    let mut ends: BTreeMap<&str, End> = BTreeMap::new();
    for record in cases {
        for id in record.statements.get(standard).into_iter().flatten() {
            let end = ends.entry(id).or_insert(record.shows(standard));
            *end = worse(*end, record.shows(standard));
        }
    }
    ends
}

fn of_standard(cases: &[Record], standard: &'static str) -> Vec<Row> {
    let ends = ends(cases, standard);
    let mut rows: BTreeMap<(u32, u32), Totals> = BTreeMap::new();
    for (id, end) in ends {
        rows.entry(section(id)).or_default().count(end);
    }
    let row = |(place, statements): ((u32, u32), _)| Row {
        standard,
        section: section_name(place),
        title: title(standard, place.0, place.1),
        statements,
    };
    rows.into_iter().map(row).collect()
}

/// A failure outweighs all, and something tested outweighs something skipped.
pub(super) fn worse(a: End, b: End) -> End {
    match (a, b) {
        (End::Failed, _) | (_, End::Failed) => End::Failed,
        (End::Passed, _) | (_, End::Passed) => End::Passed,
        (End::Skipped, End::Skipped) => End::Skipped,
    }
}

/// `MQTT-3.1.2-24` is in 3.1; outside of chapters 3 and 4 a whole chapter is one section.
pub(super) fn section(id: &str) -> (u32, u32) {
    let mut numbers = id.trim_start_matches("MQTT-").split(['.', '-']).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    let (chapter, part) = (next(), next());
    (chapter, if matches!(chapter, 3 | 4) { part } else { 0 })
}

/// `3.1`, or `6` for a whole chapter.
pub(super) fn section_name((chapter, part): (u32, u32)) -> String {
    if part == 0 { format!("{chapter}") } else { format!("{chapter}.{part}") }
}

/// What a section is about.
pub(super) fn title(standard: &str, chapter: u32, part: u32) -> &'static str {
    match (chapter, part) {
        (1, _) => "Data representation",
        (2, _) => "Packet format",
        (3, 1) => "CONNECT",
        (3, 2) => "CONNACK",
        (3, 3) => "PUBLISH",
        (3, 4) => "PUBACK",
        (3, 5) => "PUBREC",
        (3, 6) => "PUBREL",
        (3, 7) => "PUBCOMP",
        (3, 8) => "SUBSCRIBE",
        (3, 9) => "SUBACK",
        (3, 10) => "UNSUBSCRIBE",
        (3, 11) => "UNSUBACK",
        (3, 12) => "PINGREQ",
        (3, 13) => "PINGRESP",
        (3, 14) => "DISCONNECT",
        (3, 15) => "AUTH",
        (4, 1) => "Session State",
        (4, 2) => "Network Connections",
        (4, 3) => "Quality of Service",
        (4, 4) => "Delivery retry",
        (4, 5) => "Message receipt",
        (4, 6) => "Message ordering",
        (4, 7) => "Topic Names and Topic Filters",
        (4, 8) if standard == "3.1.1" => "Errors",
        (4, 8) => "Subscriptions",
        (4, 9) => "Flow control",
        (4, 10) => "Request and response",
        (4, 11) => "Server redirection",
        (4, 12) => "Enhanced authentication",
        (4, 13) => "Errors",
        (5, _) => "Security",
        (6, _) => "WebSockets",
        (7, _) => "Conformance",
        _ => "Other",
    }
}
