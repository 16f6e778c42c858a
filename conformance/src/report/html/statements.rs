//! Every statement that the run's cases name, in our own words, with the cases that show it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::sections::{section, section_name, title};
use super::{End, Grouped, Report, STANDARDS, Totals, anchor, ends, escape, filter};
use crate::manifest;

/// What the manifest says of a statement: its words, and why no case tests it.
type Words = BTreeMap<&'static str, (&'static str, Option<&'static str>)>;

pub(super) fn every_statement(out: &mut String, report: &Report, cases: &[Grouped<'_>]) {
    let _ = writeln!(out, "<h2 id=\"statements\">Every statement, and the cases that show it</h2>");
    for (standard, spec) in STANDARDS.into_iter().zip(manifest::STANDARDS) {
        // The words are an extra: a test of the manifest holds that it can be read.
        let listed = spec.statements().unwrap_or_default();
        let words: Words = listed.iter().map(|s| (s.id, (s.words, s.declined))).collect();
        let ends = ends(&report.cases, standard);
        let mut totals = Totals::default();
        ends.values().for_each(|&end| totals.count(end));
        let _ = writeln!(out, "<h3>MQTT {standard}</h3>");
        filter(out, &format!("statements-{standard}"), totals);
        let _ = writeln!(
            out,
            "<table class=\"list\"><tr class=\"head\"><th>statement</th><th>outcome</th><th>cases</th></tr>"
        );
        let mut ids: Vec<(&str, End)> = ends.into_iter().collect();
        ids.sort_by_key(|(id, _)| order(id));
        let mut last = None;
        for (id, end) in ids {
            let place = section(id);
            if last != Some(place) {
                last = Some(place);
                head(out, standard, place);
            }
            row(out, standard, id, end, &words, cases);
        }
        let _ = writeln!(out, "</table>");
        declined(out, standard, &words);
    }
}

/// All of its numbers: `MQTT-3.1.2-9` comes before `MQTT-3.1.2-10`.
fn order(id: &str) -> Vec<u32> {
    id.split(['.', '-']).filter_map(|n| n.parse().ok()).collect()
}

fn head(out: &mut String, standard: &str, place: (u32, u32)) {
    let name = section_name(place);
    let _ = writeln!(
        out,
        "<tr class=\"section\" id=\"section-{}-{}\"><th colspan=\"3\">{} {}</th></tr>",
        anchor(standard),
        anchor(&name),
        escape(&name),
        escape(title(standard, place.0, place.1)),
    );
}

fn row(out: &mut String, standard: &str, id: &str, end: End, words: &Words, cases: &[Grouped<'_>]) {
    let names = |case: &&Grouped<'_>| {
        case.first().statements.get(standard).is_some_and(|ids| ids.iter().any(|known| known == id))
    };
    let links: Vec<String> = cases.iter().filter(names).map(Grouped::link).collect();
    let _ = writeln!(
        out,
        "<tr class=\"{word}\" id=\"statement-{}-{}\"><td>{}<br><span class=\"dim\">{}</span></td>\
         <td class=\"outcome {word}\">{word}</td><td>{}</td></tr>",
        anchor(standard),
        anchor(id),
        escape(id),
        escape(words.get(id).map_or("", |(words, _)| words)),
        links.join(", "),
        word = end.word(),
    );
}

fn declined(out: &mut String, standard: &str, words: &Words) {
    let declined: Vec<_> =
        words.iter().filter_map(|(id, (words, why))| why.map(|why| (id, words, why))).collect();
    let _ = writeln!(
        out,
        "<details><summary>{} statements of MQTT {standard} that no case tests, and why</summary><dl>",
        declined.len()
    );
    for (id, words, why) in declined {
        let _ = writeln!(
            out,
            "<dt>{}</dt><dd>{} <span class=\"dim\">{}</span></dd>",
            escape(id),
            escape(words),
            escape(why)
        );
    }
    let _ = writeln!(out, "</dl></details>");
}
