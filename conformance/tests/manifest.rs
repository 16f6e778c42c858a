//! Holds the manifest (`spec/`), the register of cases and `COVERAGE.md` against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hrotti_conformance::manifest::{STANDARDS, Standard, Statement, beyond};
use hrotti_conformance::{Case, cases};

fn statements(standard: Standard) -> Vec<Statement> {
    standard.statements().expect("a manifest in its form")
}

fn name(case: &Case) -> String {
    format!("{}::{}", case.chapter, case.name)
}

/// Statement, with `MQTT-`, to the cases that name it.
fn cited(standard: Standard) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in cases() {
        for id in standard.cited(&case) {
            found.entry(format!("MQTT-{id}")).or_default().push(name(&case));
        }
    }
    found
}

/// What is wrong between statements and the cases that name them.
fn disagreements(statements: &[Statement], cited: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let known: BTreeSet<&str> = statements.iter().map(|s| s.id).collect();
    for (id, cases) in cited {
        if !known.contains(id.as_str()) {
            wrong.push(format!("{id} of {cases:?} is no statement"));
        }
    }
    for statement in statements {
        match (cited.get(statement.id), statement.declined) {
            (None, None) => wrong.push(format!("{}: neither tested nor declined", statement.id)),
            (Some(cases), Some(why)) => {
                wrong.push(format!("{}: tested by {cases:?}, declined: {why}", statement.id));
            }
            _ => {}
        }
    }
    wrong
}

#[test]
fn every_statement_is_there_once() {
    for (standard, count) in [(Standard::V311, 141), (Standard::V5, 251)] {
        let statements = statements(standard);
        let ids: BTreeSet<&str> = statements.iter().map(|s| s.id).collect();
        assert_eq!((statements.len(), ids.len()), (count, count), "{}", standard.name());
        for statement in statements {
            let words = statement.words.split_whitespace().count();
            assert!((3..=14).contains(&words), "{}: {words} words", statement.id);
        }
    }
}

#[test]
fn every_statement_is_either_tested_or_declined() {
    for standard in STANDARDS {
        let wrong = disagreements(&statements(standard), &cited(standard));
        assert!(wrong.is_empty(), "{}\n{}\n", standard.name(), wrong.join("\n"));
    }
}

#[test]
fn a_disagreement_of_each_kind_is_found() {
    let statement = |id, declined| Statement {
        id,
        section: "1 One",
        level: "MUST",
        words: "one two three",
        declined,
    };
    let statements = [
        statement("MQTT-1-1", None),
        statement("MQTT-1-2", Some("why")),
        statement("MQTT-1-3", None),
    ];
    let cited = |ids: &[&str]| {
        ids.iter().map(|id| ((*id).to_owned(), vec!["a::case".to_owned()])).collect()
    };
    assert_eq!(disagreements(&statements, &cited(&["MQTT-1-1", "MQTT-1-3"])), Vec::<String>::new());
    for (ids, wrong) in [
        (["MQTT-1-1", "MQTT-1-1"].as_slice(), "MQTT-1-3: neither"),
        (&["MQTT-1-1", "MQTT-1-2", "MQTT-1-3"], "MQTT-1-2: tested by"),
        (&["MQTT-1-1", "MQTT-1-3", "MQTT-1-4"], "MQTT-1-4 of"),
    ] {
        let found = disagreements(&statements, &cited(ids));
        assert!(found.len() == 1 && found[0].starts_with(wrong), "{found:?}");
    }
}

#[test]
fn every_case_names_statements_or_why_not() {
    let beyond: BTreeSet<String> =
        beyond().expect("a list in its form").iter().map(|b| b.case.to_owned()).collect();
    let mut names = BTreeSet::new();
    let mut without = BTreeSet::new();
    for case in cases() {
        assert!(names.insert(name(&case)), "{} is registered twice", name(&case));
        let mut seen = BTreeSet::new();
        for standard in STANDARDS {
            for id in standard.cited(&case) {
                assert!(seen.insert((standard.name(), id)), "{} names {id} twice", name(&case));
            }
        }
        if seen.is_empty() {
            without.insert(name(&case));
        }
    }
    assert_eq!(without, beyond, "cases without a statement (left), spec/beyond.txt (right)");
}

/// The table of every statement, and in front of it the totals.
fn coverage() -> String {
    let cases = cases();
    let mut out = String::from(
        "# Coverage\n\nEvery normative statement of MQTT 3.1.1 and 5.0, and what tests it. Made from `spec/` \
         and `src/register.rs` by\n\n    UPDATE_COVERAGE=1 cargo test -p hrotti-conformance --test manifest\n\n\
         A statement is tested where a server's peer can observe it, also where it binds the client and the \
         server's answer\nto its breach is laid down; else it is declined, with the reason. The words are ours, \
         not the standard's.\n\n| standard | statements | tested | declined | cases |\n|---|---|---|---|---|\n",
    );
    for standard in STANDARDS {
        let statements = statements(standard);
        let declined = statements.iter().filter(|s| s.declined.is_some()).count();
        let about = cases.iter().filter(|case| standard.cited(case).next().is_some()).count();
        let all = statements.len();
        let tested = all - declined;
        writeln!(out, "| {} | {all} | {tested} | {declined} | {about} |", standard.name())
            .expect("a String");
    }
    let beyond = beyond().expect("a list in its form");
    let (all, apart) = (cases.len(), beyond.len());
    writeln!(
        out,
        "\n{all} cases in all, each over every transport; {apart} of them are beyond the statements."
    )
    .expect("a String");
    for standard in STANDARDS {
        writeln!(out, "\n# {}", standard.name()).expect("a String");
        table(&mut out, standard);
    }
    out.push_str("\n# Beyond the statements\n\n| case | why |\n|---|---|\n");
    for case in beyond {
        writeln!(out, "| `{}` | {} |", case.case, case.why).expect("a String");
    }
    out
}

fn table(out: &mut String, standard: Standard) {
    let cited = cited(standard);
    let mut section = "";
    for statement in statements(standard) {
        if statement.section != section {
            section = statement.section;
            let head = "| statement | level | asks | tested by |\n|---|---|---|---|";
            writeln!(out, "\n## {section}\n\n{head}").expect("a String");
        }
        let how = match (cited.get(statement.id), statement.declined) {
            (Some(cases), _) => {
                cases.iter().map(|case| format!("`{case}`")).collect::<Vec<_>>().join(" ")
            }
            (None, why) => format!("*declined:* {}", why.unwrap_or_default()),
        };
        let Statement { id, level, words, .. } = statement;
        writeln!(out, "| {id} | {level} | {words} | {how} |").expect("a String");
    }
}

#[test]
fn the_coverage_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/COVERAGE.md");
    let wanted = coverage();
    if std::env::var_os("UPDATE_COVERAGE").is_some() {
        std::fs::write(path, &wanted).expect("COVERAGE.md is writable");
    }
    let found = std::fs::read_to_string(path).expect("COVERAGE.md");
    assert!(
        found == wanted,
        "run: UPDATE_COVERAGE=1 cargo test -p hrotti-conformance --test manifest"
    );
}
