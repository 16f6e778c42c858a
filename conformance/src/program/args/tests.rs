use hrotti_conformance::cases;

use super::*;

fn read(line: &str) -> Result<Args, Usage> {
    let words = line.split_whitespace().map(OsString::from);
    Args::read(std::iter::once(OsString::from("hrotti-conformance")).chain(words))
}

fn wrong(line: &str) -> String {
    match read(line) {
        Err(Usage::Wrong(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn reads_everything() {
    let args = read(
        "--url tcp://a:1 --url tcp://b --ws-url ws://c/mqtt --filter x --filter y --versions 3.1,5 \
         --report a.json --report b.html --report c.xml --jobs 3 --timeout 20 --name it",
    )
    .unwrap();
    assert_eq!(args.urls(), ["tcp://a:1", "tcp://b", "ws://c/mqtt"]);
    assert_eq!((args.filter.len(), args.report.len(), args.jobs), (2, 3, 3));
    assert_eq!(args.timeout(), Duration::from_secs(20));
    assert_eq!(args.versions.unwrap().to_string(), "3.1,5");
}

#[test]
fn says_what_is_wrong() {
    assert!(wrong("").contains("--url"));
    assert!(wrong("--url http://a").contains("the scheme is http"));
    assert!(wrong("--url localhost:1883").contains("scheme"));
    assert!(wrong("--ws-url tcp://a").contains("ws://"));
    assert!(wrong("--url tcp://a --jobs 0").contains("1 to 255"));
    assert!(wrong("--url tcp://a --versions 4").contains("3.1, 3.1.1 and 5"));
    assert!(wrong("--url tcp://a --report a.txt").contains(".json, .xml or .html"));
    assert!(wrong("--url tcp://a --capability b").contains("--capabilities"));
    assert!(wrong("--url tcp://a --url tcp://b --v5-url tcp://c").contains("exactly one"));
}

#[test]
fn help_and_version_are_no_errors() {
    for (line, part) in [("--help", "--capabilities <FILE>"), ("--version", "")] {
        match read(line) {
            Err(Usage::Asked(text)) => assert!(text.contains(part), "{text}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn filters_choose_by_name_or_by_statement() {
    let count = |line: &str| {
        let args = read(&format!("--list {line}")).unwrap();
        cases().iter().filter(|case| args.chooses(case)).count()
    };
    assert_eq!(count(""), cases().len());
    let retained = cases().iter().filter(|case| case.chapter == "retained").count();
    assert_eq!(count("--filter retained::"), retained);
    let ws = cases().iter().filter(|case| case.chapter == "ws").count();
    assert_eq!(count("--filter ws::"), ws, "flows are no part of it");
    assert_eq!(count("--filter no::such --filter retained::"), retained);
    let named = cases()
        .into_iter()
        .filter(|c| c.v311.split(' ').chain(c.v5.split(' ')).any(|id| id == "3.1.2-2"));
    assert_eq!(count("--filter MQTT-3.1.2-2"), named.count());
    assert_eq!(count("--filter MQTT-9.9.9-9"), 0);
}
