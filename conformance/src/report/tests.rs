use super::*;

const NASTY: &str = "a<b> & \"c\" 'd' ]]> \u{0}\u{1b}[31m\n\tü </script> \u{FFFE}";

fn record(chapter: &str, name: &str, url: &str, outcome: End) -> Record {
    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<String>>();
    Record {
        chapter: chapter.into(),
        name: name.into(),
        url: url.into(),
        outcome,
        seconds: 0.25,
        statements: [
            ("3.1.1".to_owned(), ids(&["MQTT-3.1.2-1", "MQTT-1.5.3-1"])),
            ("5.0".to_owned(), ids(&["MQTT-3.10.4-1"])),
        ]
        .into(),
        versions: ids(&["3.1.1", "5"]),
        left_out: vec![],
        failed_with: if outcome == End::Failed { ids(&["3.1.1", "5"]) } else { vec![] },
        passed_with: if outcome == End::Passed { ids(&["3.1.1", "5"]) } else { vec![] },
        reason: (outcome == End::Skipped).then(|| NASTY.into()),
        failure: (outcome == End::Failed).then(|| Detail {
            expected: NASTY.into(),
            came: "PUBLISH | nothing".into(),
            at: "cases/x.rs:1".into(),
            transcript: vec!["→ 10".into(), NASTY.into()],
            alone: "hrotti-conformance --url tcp://a".into(),
        }),
    }
}

fn report() -> Report {
    let cases = vec![
        record("connect", "one", "tcp://a:1", End::Passed),
        record("connect", "two", "tcp://a:1", End::Failed),
        record("will", "three", "tcp://a:1", End::Skipped),
        record("connect", "one", "ws://a:2/<&>", End::Passed),
        record("connect", "two", "ws://a:2/<&>", End::Failed),
        record("will", "three", "ws://a:2/<&>", End::Skipped),
    ];
    Report {
        suite: "suite 1".into(),
        broker: NASTY.into(),
        started: "2026-01-02T03:04:05Z".into(),
        seconds: 1.5,
        urls: vec!["tcp://a:1".into(), "ws://a:2/<&>".into()],
        versions: vec!["3.1.1".into(), "5".into()],
        capabilities: crate::Capabilities::all().to_json(),
        totals: Report::count(&cases),
        cases,
    }
}

/// A reader of XML that is just strict enough: elements balance, attributes are quoted, and no character
/// stands where XML 1.0 forbids it. Returns each element's name with its attributes.
fn elements(xml: &str) -> Vec<String> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    assert!(xml.chars().all(allowed), "a character that XML does not have");
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    for piece in xml.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("an end of the tag");
        assert!(!text.contains('>') && !tag.contains('<'), "unescaped: {piece}");
        for entity in piece.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;", "#39;", "#10;", "#13;", "#9;"];
            assert!(known.iter().any(|k| entity.starts_with(k)), "&{entity}");
        }
        assert!(tag.matches('"').count() % 2 == 0, "quotes in {tag}");
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        found.push(tag.to_owned());
        let void = ["meta", "br", "!DOCTYPE", "?xml"].contains(&name);
        if !tag.ends_with('/') && !void {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    found
}

#[test]
fn json_is_read_back() {
    let report = report();
    let text = report.to_json().unwrap();
    assert_eq!(Report::from_json(&text).unwrap(), report);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["totals"]["failed"], 2);
    assert_eq!(value["cases"][2]["outcome"], "skipped");
    assert_eq!(value["cases"][0]["statements"]["5.0"][0], "MQTT-3.10.4-1");
    assert_eq!(value["cases"][0]["leftOut"], Value::Array(vec![]));
    assert!(value["cases"][0].get("failure").is_none());
    assert_eq!(value["cases"][1]["failure"]["expected"], NASTY);
}

#[test]
fn junit_is_well_formed_and_counts() {
    let xml = junit(&report());
    let elements = elements(&xml);
    let count = |start: &str| elements.iter().filter(|e| e.starts_with(start)).count();
    assert_eq!((count("testsuites "), count("testsuite "), count("testcase ")), (1, 2, 6));
    assert_eq!((count("failure "), count("skipped ")), (2, 2));
    assert!(xml.contains("classname=\"ws.connect\" name=\"two\""));
    assert!(elements[1].contains("tests=\"6\" failures=\"2\" errors=\"0\" skipped=\"2\""));
    assert!(elements[2].contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\""));
    assert!(xml.contains("timestamp=\"2026-01-02T03:04:05\""));
    assert!(xml.contains(
        "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39; ]]&gt; \u{FFFD}\u{FFFD}[31m&#10;&#9;ü"
    ));
}

#[test]
fn html_is_well_formed_and_fetches_nothing() {
    let page = html(&report());
    let style = page.find("<style>").unwrap()..page.find("</style>").unwrap();
    let mut bare = page.clone();
    bare.replace_range(style.start + "<style>".len()..style.end, "");
    let elements = elements(&bare);
    assert!(!elements.iter().any(|e| e.contains("src=")));
    let inside = |mark: &str| -> Vec<&str> {
        let found = elements.iter().filter_map(|e| e.split_once(mark));
        found.filter_map(|(_, rest)| rest.split('"').next()).collect()
    };
    let (links, mut places) = (inside("href=\""), inside("id=\""));
    assert!(links.len() > 20 && links.iter().all(|link| link.starts_with('#')), "{links:?}");
    for link in links {
        assert!(places.contains(&&link[1..]), "{link} leads nowhere");
    }
    let all = places.len();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), all, "two places with one name");
    assert!(!page.contains("url(") && !page.contains("@import") && !page.contains("<script"));
    for part in [
        "2 passed",
        "2 failed",
        "2 skipped",
        "connect::two",
        "MQTT-3.10.4-1",
        "3.10 UNSUBSCRIBE",
        "over tcp, ws · MQTT 3.1.1, 5",
        "an equal one is deleted",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn the_matrix_names_each_failure_and_skip_once() {
    let text = matrix(&[report(), report()]);
    let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("- `connect::two` (tcp, ws; 3.1.1, 5): expected "), 2);
    assert_eq!(lines("`will::three` (tcp, ws)"), 2);
    assert_eq!(lines("| 3.10 UNSUBSCRIBE | 0/**1**/0 | 0/**1**/0 |"), 1);
    assert_eq!(lines("| connect | 2/**2**/0 | 2/**2**/0 |"), 1);
    assert_eq!(lines("| will | 0/0/2 | 0/0/2 |"), 1);
    assert!(!text.contains('\u{1b}') && !text.contains("<b>"), "control characters and markup");
    let columns: Vec<usize> = text
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.replace("\\|", "").matches('|').count())
        .collect();
    assert!(columns.iter().all(|&n| n == 4 || n == 9), "{columns:?}");
}

#[test]
fn a_statement_fails_with_any_case_and_is_skipped_with_all() {
    use End::{Failed, Passed, Skipped};
    for (ends, wanted) in [
        ([Passed, Passed], Totals { passed: 1, ..Totals::default() }),
        ([Passed, Failed], Totals { failed: 1, ..Totals::default() }),
        ([Skipped, Failed], Totals { failed: 1, ..Totals::default() }),
        ([Skipped, Passed], Totals { passed: 1, ..Totals::default() }),
        ([Skipped, Skipped], Totals { skipped: 1, ..Totals::default() }),
    ] {
        let cases = ends.map(|end| record("c", "n", "tcp://a", end));
        let rows = sections(&cases);
        let names: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {} {}", row.standard, row.section, row.title))
            .collect();
        assert_eq!(
            names,
            ["3.1.1 1 Data representation", "3.1.1 3.1 CONNECT", "5.0 3.10 UNSUBSCRIBE"]
        );
        assert!(rows.iter().all(|row| row.statements == wanted), "{rows:?}");
    }
}

#[test]
fn a_case_shows_nothing_of_a_standard_that_it_did_not_use() {
    let mut passed = record("c", "n", "tcp://a", End::Passed);
    passed.passed_with = vec!["3.1".into(), "3.1.1".into()];
    assert_eq!((passed.shows("3.1.1"), passed.shows("5.0")), (End::Passed, End::Skipped));
    let mut failed = record("c", "n", "tcp://a", End::Failed);
    failed.failed_with = vec!["5".into()];
    assert_eq!((failed.shows("3.1.1"), failed.shows("5.0")), (End::Skipped, End::Failed));
    failed.passed_with = vec!["3.1.1".into()];
    assert_eq!((failed.shows("3.1.1"), failed.shows("5.0")), (End::Passed, End::Failed));
    let rows = sections(&[passed, failed]);
    let counts: Vec<Totals> = rows.iter().map(|row| row.statements).collect();
    let (held, broken) =
        (Totals { passed: 1, ..Totals::default() }, Totals { failed: 1, ..Totals::default() });
    assert_eq!(counts, [held, held, broken]);
}

#[test]
fn every_section_that_a_case_names_has_a_title() {
    let verdict = || Verdict {
        outcome: Outcome::Passed,
        took: Duration::ZERO,
        used: crate::Versions::ALL,
        left_out: crate::Versions::NONE,
        failed_with: crate::Versions::NONE,
        passed_with: crate::Versions::ALL,
    };
    let cases: Vec<Record> =
        crate::cases().iter().map(|case| Record::new(case, "tcp://a", &verdict(), "")).collect();
    for row in sections(&cases) {
        assert_ne!(row.title, "Other", "{row:?}");
    }
}

#[test]
fn dates() {
    let at = |secs| utc(UNIX_EPOCH + Duration::from_secs(secs));
    assert_eq!(at(0), "1970-01-01T00:00:00Z");
    assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
    assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(at(951_868_800), "2000-03-01T00:00:00Z");
    assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59Z");
    assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
}
