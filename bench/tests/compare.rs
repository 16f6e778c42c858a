//! The program as a user calls it: a comparison, and a report made again from what it wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn bench(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hrotti-bench"));
    command.args(words).output().expect("the program runs")
}

/// A directory of its own for a test.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).expect("a directory");
    path
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

#[test]
fn a_report_repeats_what_the_comparison_said() {
    let directory = directory("report");
    let file = |name: &str| directory.join(name);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (json, first, second) = (file("run.json"), file("first"), file("second"));
    let markdown = |of: &Path| of.with_extension("md");
    let scenarios = ["--scenario", "pairs", "--scenario", "qos1", "--scenario", "low-load"];
    let short = ["--rounds", "2", "--seconds", "0.05", "--clients", "2"];
    let mut words = vec!["compare", "--only", "null"];
    words.extend(scenarios.iter().chain(&short));
    let outputs = [text(&json), text(&markdown(&first)), text(&first)];
    for (option, value) in ["--json", "--markdown", "--charts"].into_iter().zip(&outputs) {
        words.extend([option, value]);
    }
    let output = bench(&words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("round 2/2  run   3/4 "), "{errors}");

    let document = read(&markdown(&first));
    assert_eq!(document, String::from_utf8_lossy(&output.stdout));
    assert!(document.contains("Nothing was lost, duplicated or reordered"), "{document}");
    assert!(document.contains("- null: not applicable: it relays at QoS 0"), "{document}");
    for text in [&document, &read(&json)] {
        assert!(!text.contains(env!("CARGO_TARGET_TMPDIR")), "a path of the machine: {text}");
    }

    let readme = file("README.md");
    fs::write(&readme, "# x\n<!-- speed:begin -->\nold\n<!-- speed:end -->\n").expect("a file");
    let outputs = [text(&json), text(&markdown(&second)), text(&second), text(&readme)];
    let mut words = vec!["report"];
    for (option, value) in
        ["--json", "--markdown", "--charts", "--readme"].into_iter().zip(&outputs)
    {
        words.extend([option, value]);
    }
    let output = bench(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(read(&markdown(&second)), document);
    for chart in ["cpu-per-message.svg", "latency.svg", "speed.svg"] {
        let svg = read(&first.join(chart));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(read(&second.join(chart)), svg);
    }
    assert!(read(&readme).contains("Medians of 2 rounds on "), "{}", read(&readme));
}

#[test]
fn a_broker_that_was_named_must_be_there() {
    let words = ["compare", "--only", "rumqttd", "--rumqttd", "/nonexistent/rumqttd"];
    let output = bench(&words);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("there is no rumqttd at /nonexistent/rumqttd"), "{errors}");
}

#[test]
fn what_a_broker_is_not_set_up_for_is_not_applicable() {
    let rows = ["--scenario", "tls-pairs", "--scenario", "connect-password"];
    let mut words = vec!["compare", "--only", "null", "--rounds", "1"];
    words.extend(rows);
    let output = bench(&words);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reason = "- null: not applicable: it relays at QoS 0 over tcp and nothing else\n";
    assert_eq!(text.matches(reason).count(), 2, "{text}");
    assert!(text.contains("50 pairs over TLS, QoS 0, 64 B"), "{text}");
}

#[test]
fn a_broker_without_users_is_not_attacked() {
    let output = bench(&["attack", "--only", "null", "--rounds", "1", "--seconds", "0.1"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("none of these brokers is set up with users"), "{errors}");
}
