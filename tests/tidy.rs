//! Holds the source tree to the rules of the house: which room may know what, how large things may be, and
//! what may not be left behind. Each finding names file, line and rule.

use std::fmt;
use std::fs;
use std::path::Path;

#[path = "tidy/directions.rs"]
mod directions;

/// Rooms that hold the protocol and nothing of the machine: these files, and what is in a directory of the
/// same name.
const PURE_ROOMS: &[&str] = &[
    "src/budget",
    "src/config",
    "src/connection",
    "src/error",
    "src/ledger",
    "src/limits",
    "src/message",
    "src/packet",
    "src/reason_code",
    "src/retained",
    "src/session",
    "src/snapshot",
    "src/spelling",
    "src/subscription",
    "src/sys_topics",
    "src/time",
    "src/topic",
];

/// What a pure room may not name: each is looked for as whole words.
const MACHINE_WORDS: &[&str] = &[
    "async",
    "await",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::os",
    "File",
    "Mutex",
    "RwLock",
    "Condvar",
    "thread_local",
    "Instant",
    "SystemTime",
    "RandomState::new",
    "rand",
    "fastrand",
    "getrandom",
];

/// The only rooms that name the runtime, and what its names are.
const RUNTIME_ROOMS: &[&str] = &[
    "src/main",
    "src/program",
    "src/runtime",
    "src/transport/socket",
    "src/transport/tcp",
    "src/transport/unix",
    "src/transport/ws",
];
const RUNTIME_WORDS: &[&str] = &["async_std", "async_io", "async_global_executor"];

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 800;

/// Where code lives, and where sizes count.
const CODE: &[&str] = &["src", "conformance", "bench", "benches", "fuzz", "tests", "examples"];
/// Where beside the code no path of one machine may stand.
const TEXT: &[&str] =
    &[".ci", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.toml", "deny.toml"];

/// A rule that a place need not keep, and why: file, what the finding is about, rule, reason.
const EXCEPTIONS: &[Exception] = &[];
type Exception = (&'static str, &'static str, Rule, &'static str);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    Pure,
    Runtime,
    FunctionSize,
    FileSize,
    Leftover,
    MachinePath,
    Docs,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq)]
struct Finding {
    file: String,
    line: usize,
    rule: Rule,
    /// The word, function or file that breaks it.
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { file, line, rule, what } = self;
        let text = match rule {
            Rule::Pure => "is not for a pure room",
            Rule::Runtime => "is named in the runtime's rooms only",
            Rule::FunctionSize => "has more than 70 lines",
            Rule::FileSize => "has more than 800 lines",
            Rule::Leftover => "may not be left behind",
            Rule::MachinePath => "is a path of one machine",
            Rule::Docs => "does not begin with //! docs",
        };
        write!(f, "{file}:{line}: `{what}` {text} ({rule:?})")
    }
}

#[test]
fn the_tree_is_tidy() {
    let mut findings = Vec::new();
    let mut files = 0;
    for (file, text) in tree() {
        files += 1;
        findings.extend(check(&file, &text));
    }
    assert!(files > 20, "only {files} files were found");
    let (findings, unneeded) = excuse(findings, EXCEPTIONS);
    let findings: Vec<_> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
    assert!(unneeded.is_empty(), "exceptions that nothing needs: {unneeded:?}");
}

#[test]
fn no_arrow_points_up_and_no_circle_is_there() {
    let library = tree().into_iter().filter(|(file, _)| {
        file.starts_with("src/") && !file.ends_with("/tests.rs") && !file.contains("/tests/")
    });
    let code: Vec<_> = library.map(|(file, text)| (file, without_tests(&code_of(&text)))).collect();
    assert!(code.len() > 20, "only {} files were found", code.len());
    let found = directions::check(&code);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Every file that a rule is about, with its path from the root of the repository.
fn tree() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut open: Vec<String> = CODE.iter().chain(TEXT).map(ToString::to_string).collect();
    while let Some(path) = open.pop() {
        let full = root.join(&path);
        if full.is_dir() {
            let entries = fs::read_dir(&full).expect("a directory of the repository");
            for entry in entries {
                let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
                if name != "target" && !name.starts_with('.') {
                    open.push(format!("{path}/{name}"));
                }
            }
        } else if let Ok(text) = fs::read_to_string(&full) {
            files.push((path, text));
        }
    }
    files.sort();
    files
}

/// The findings without those that an exception allows, and the exceptions that allowed none.
fn excuse(findings: Vec<Finding>, exceptions: &[Exception]) -> (Vec<Finding>, Vec<&Exception>) {
    let covers = |exception: &Exception, finding: &Finding| {
        exception.0 == finding.file && exception.1 == finding.what && exception.2 == finding.rule
    };
    let unneeded = exceptions
        .iter()
        .filter(|exception| !findings.iter().any(|finding| covers(exception, finding)))
        .collect();
    let rest = findings
        .into_iter()
        .filter(|finding| !exceptions.iter().any(|exception| covers(exception, finding)))
        .collect();
    (rest, unneeded)
}

/// Everything that is wrong with one file.
fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, rule: Rule, what: &str| {
        findings.push(Finding { file: file.to_owned(), line, rule, what: what.to_owned() });
    };
    let path_starts = [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("../sha", "red"),
    ];
    for (number, line) in lines(text) {
        for start in path_starts.iter().filter(|start| line.contains(*start)) {
            find(number, Rule::MachinePath, start);
        }
    }
    if !file.ends_with(".rs") {
        return findings;
    }
    let code = code_of(text);
    let product = without_tests(&code);
    let in_src = file.starts_with("src/");
    if in_src && !text.starts_with("//!") {
        find(1, Rule::Docs, file);
    }
    if is_in(file, PURE_ROOMS) && !file.ends_with("/tests.rs") {
        words(&product, MACHINE_WORDS, |line, word| find(line, Rule::Pure, word));
    }
    if in_src && !is_in(file, RUNTIME_ROOMS) {
        words(&product, RUNTIME_WORDS, |line, word| find(line, Rule::Runtime, word));
    }
    if in_src || file.starts_with("tests/") {
        let left = ["todo!", "unimplemented!", "thread::sleep", "ignore"];
        words(&code, &left, |line, word| find(line, Rule::Leftover, word));
        let note = concat!("FIX", "ME");
        for (number, _) in lines(text).filter(|(_, line)| line.contains(note)) {
            find(number, Rule::Leftover, note);
        }
    }
    if text.lines().count() > FILE_LINES {
        find(FILE_LINES + 1, Rule::FileSize, file);
    }
    for (name, first, size) in functions(&code) {
        if size > FUNCTION_LINES {
            find(first, Rule::FunctionSize, &name);
        }
    }
    findings
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether `file` is one of `rooms`, or in one.
fn is_in(file: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| {
        let rest = file.strip_prefix(room);
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

/// Calls `found` with the line of each place where one of `wanted` stands as whole words.
fn words<'a>(code: &str, wanted: &[&'a str], mut found: impl FnMut(usize, &'a str)) {
    for (number, line) in lines(code) {
        for &word in wanted {
            let hit = line.match_indices(word).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + word.len()..].chars().next();
                !before.is_some_and(is_word) && (word.ends_with('!') || !after.is_some_and(is_word))
            });
            // `ignore` is a word of many libraries; only the attribute is meant.
            if hit && (word != "ignore" || line.contains("#[ignore")) {
                found(number, word);
            }
        }
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The text with comments, strings and characters blanked, line by line as it was.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block(&chars, at),
            '"' => end_of_string(&chars, at),
            '\'' => end_of_char(&chars, at),
            'r' | 'b' if at == 0 || !is_word(chars[at - 1]) => end_of_prefixed(&chars, at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
}

fn end_of_block(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != '"' {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

/// A character, or `at` for a lifetime.
fn end_of_char(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let rest = chars.get(at + 3..).unwrap_or_default();
        return rest.iter().position(|c| *c == '\'').map_or(chars.len(), |length| at + 4 + length);
    }
    if chars.get(at + 2) == Some(&'\'') { at + 3 } else { at }
}

/// A raw string, or `at`. Other prefixed literals are found at their quote.
fn end_of_prefixed(chars: &[char], at: usize) -> usize {
    let start = if chars[at] == 'b' && chars.get(at + 1) == Some(&'r') { at + 2 } else { at + 1 };
    if chars[start - 1] != 'r' {
        return at;
    }
    let hashes = chars[start..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + hashes) != Some(&'"') {
        return at;
    }
    let mut end = start + hashes + 1;
    while end < chars.len() {
        let closing = chars[end + 1..].iter().take(hashes);
        if chars[end] == '"' && closing.filter(|c| **c == '#').count() == hashes {
            return end + 1 + hashes;
        }
        end += 1;
    }
    chars.len()
}

/// The code with what is compiled for tests alone blanked.
fn without_tests(code: &str) -> String {
    let mut product = code.to_owned();
    let mut from = 0;
    while let Some(found) = product[from..].find("#[cfg(test)]") {
        let start = from + found;
        let end = item_end(&product, start + "#[cfg(test)]".len());
        let blank: String =
            product[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        let length = blank.len();
        product.replace_range(start..end, &blank);
        from = start + length;
    }
    product
}

/// Where the item that begins at `from` ends: behind its body, or behind its semicolon.
fn item_end(code: &str, from: usize) -> usize {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, letter) in code[from..].char_indices() {
        match letter {
            '{' => braces += 1,
            '}' if braces <= 1 => return from + at + 1,
            '}' => braces -= 1,
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            ';' if braces == 0 && others == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Name, first line and number of lines of every function.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name: String = code[at + 3..].chars().take_while(|c| is_word(*c)).collect();
        if name.is_empty() || code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let end = item_end(code, at);
        let first = code[..at].matches('\n').count() + 1;
        found.push((name, first, code[at..end].matches('\n').count() + 1));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(file: &str, text: &str) -> Vec<(usize, Rule)> {
        check(file, text).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn a_pure_room_knows_nothing_of_the_machine() {
        for line in [
            "async fn f() {}",
            "let x = y.await;",
            "use std::fs;",
            "use std::net::TcpStream;",
            "std::thread::spawn(f);",
            "use std::sync::Mutex;",
            "let l: RwLock<u8> = x;",
            "let now = Instant::now();",
            "use std::time::SystemTime;",
            "let n = rand::random();",
        ] {
            let text = format!("//! Docs.\n{line}\n");
            for file in ["src/session.rs", "src/session/queue.rs", "src/packet/decode.rs"] {
                assert_eq!(rules(file, &text), [(2, Rule::Pure)], "{file}: {line}");
            }
            assert_eq!(rules("src/net/driver.rs", &text), [], "{line}");
            assert_eq!(rules("src/sessions.rs", &text), [], "{line}");
        }
    }

    #[test]
    fn comments_strings_tests_and_longer_words_are_no_code() {
        for line in [
            "// async",
            "/* async\n /* await */ Mutex */",
            "let s = \"async \\\" await\";",
            "let s = r#\"async \" await\"#;",
            "let s = br\"async\";",
            "let s = b\"async\";",
            "let c = ('\"', '\\'', '\"'); let s = \"async\";",
            "struct MutexLike; let asynchronous = brand;",
            "#[cfg(test)]\nmod tests {\n async fn f() { if x {} }\n}",
            "#[cfg(test)]\nuse std::sync::Mutex;",
        ] {
            assert_eq!(rules("src/topic.rs", &format!("//! Docs.\n{line}\n")), [], "{line}");
        }
        let text =
            "//! Docs.\nfn f<'a>(x: &'a str) {}\n#[cfg(test)]\nmod tests;\nasync fn g() {}\n";
        assert_eq!(rules("src/topic.rs", text), [(5, Rule::Pure)]);
        assert_eq!(rules("src/topic/tests.rs", "//! Docs.\nuse std::sync::Mutex;\n"), []);
    }

    #[test]
    fn the_runtime_is_named_in_its_rooms_only() {
        let text = "//! Docs.\nuse async_std::task;\nuse async_io::Async;\n";
        assert_eq!(rules("src/broker.rs", text), [(2, Rule::Runtime), (3, Rule::Runtime)]);
        for file in
            ["src/runtime.rs", "src/transport/tcp.rs", "src/transport/ws/frame.rs", "src/main.rs"]
        {
            assert_eq!(rules(file, text), [], "{file}");
        }
    }

    #[test]
    fn sizes_are_counted() {
        let function =
            |lines: usize| format!("//! Docs.\n\nfn long() {{\n{}}}\n", "x();\n".repeat(lines));
        assert_eq!(rules("src/broker.rs", &function(68)), []);
        assert_eq!(rules("src/broker.rs", &function(69)), [(3, Rule::FunctionSize)]);
        assert_eq!(rules("bench/src/main.rs", &function(69)), [(3, Rule::FunctionSize)]);
        assert_eq!(rules("tests/a.rs", &"\n".repeat(800)), []);
        assert_eq!(rules("tests/a.rs", &"\n".repeat(801)), [(801, Rule::FileSize)]);
        let text =
            "//! Docs.\ntrait T {\n fn f(x: [u8; 3]);\n fn g() {\n {}\n }\n}\ntype F = fn (u8);\n";
        assert_eq!(functions(&code_of(text)), [("f".to_owned(), 3, 1), ("g".to_owned(), 4, 3)]);
    }

    #[test]
    fn nothing_is_left_behind() {
        for line in [
            concat!("to", "do!()"),
            concat!("unimple", "mented!(\"x\")"),
            concat!("#[ig", "nore]"),
            concat!("#[ig", "nore = \"slow\"]"),
            concat!("std::thread::sl", "eep(d);"),
            concat!("// FIX", "ME: later"),
        ] {
            let text = format!("//! Docs.\n{line}\n");
            assert_eq!(rules("src/broker.rs", &text), [(2, Rule::Leftover)], "{line}");
            assert_eq!(rules("tests/a.rs", &text), [(2, Rule::Leftover)], "{line}");
        }
        assert_eq!(rules("src/broker.rs", "//! Docs.\nlet ignore = 1;\n"), []);
    }

    #[test]
    fn no_path_of_one_machine() {
        for path in ["ro", "wo"].into_iter().zip(["ot/x", "rk/x"]).map(|(a, b)| format!("/{a}{b}"))
        {
            assert_eq!(rules("README.md", &format!("\nsee {path}\n")), [(2, Rule::MachinePath)]);
            let text = format!("//! See {path}\n");
            assert_eq!(rules("src/broker.rs", &text), [(1, Rule::MachinePath)]);
        }
    }

    #[test]
    fn every_file_begins_with_what_it_is() {
        assert_eq!(rules("src/broker.rs", "use x;\n"), [(1, Rule::Docs)]);
        assert_eq!(rules("tests/a.rs", "use x;\n"), []);
    }

    #[test]
    fn an_exception_covers_one_thing_and_must_be_needed() {
        let finding = |what: &str| Finding {
            file: "src/a.rs".to_owned(),
            line: 1,
            rule: Rule::FunctionSize,
            what: what.to_owned(),
        };
        let exceptions = [
            ("src/a.rs", "big", Rule::FunctionSize, "a table"),
            ("src/a.rs", "gone", Rule::FunctionSize, "a table"),
        ];
        let (rest, unneeded) = excuse(vec![finding("big"), finding("other")], &exceptions);
        assert_eq!(rest, [finding("other")]);
        assert_eq!(unneeded, [&exceptions[1]]);
        assert_eq!(
            finding("big").to_string(),
            "src/a.rs:1: `big` has more than 70 lines (FunctionSize)"
        );
    }
}
