//! Reads the imports of the library: the rooms have an order, no arrow points up in it, and no two files need each
//! other. A room is a file with what is in the directory of the same name; the parts of a room may use the file that
//! they are parts of, and it them.

use std::collections::{BTreeMap, BTreeSet};

/// The rooms, from those that know nothing of others to those that know all.
const ROOMS: &[&str] = &[
    "time",
    "calendar",
    "budget",
    "sync",
    "reason_code",
    "error",
    "spelling",
    "topic",
    "packet",
    "limits",
    "ledger",
    "counters",
    "traffic",
    "sys_topics",
    "message",
    "subscription",
    "retained",
    "session",
    "snapshot",
    "connection",
    "runtime",
    "host",
    "network",
    "listener_rules",
    "transport",
    "access",
    "explanation",
    "events",
    "listener_config",
    "admin_config",
    "config",
    "engine",
    "net",
    "broker",
    "admin",
    "server",
    "testing",
    "lib",
];

/// The parts of those rooms that are too large to be one thought, in the same order.
const PARTS: &[(&str, &[&str])] = &[
    (
        "engine",
        &[
            "log_lines",
            "announce",
            "comings",
            "watch",
            "access",
            "authentication",
            "fetching",
            "holder",
            "timers",
            "share",
            "standstill",
            "origin",
            "session_cell",
            "send_context",
            "outbox",
            "registry",
            "state",
            "drops",
            "route",
            "batch",
            "errand",
            "sys",
            "policy_change",
            "session_end",
            "connect",
            "subscribe",
            "due",
            "export",
            "import",
            "dispatch",
            "explain",
            "inspect",
        ],
    ),
    (
        "net",
        &[
            "rates",
            "pause",
            "peer_stream",
            "read_buffer",
            "turn_buffers",
            "closing",
            "driver",
            "newcomers",
            "tls_files",
            "bound",
            "listener",
        ],
    ),
    (
        "broker",
        &["errors", "session_info", "lifecycle", "client", "explain", "inspect", "hand_over"],
    ),
    ("server", &["loaded", "binding", "plan", "reload", "operator"]),
];

/// Arrows that may be there all the same: from, to, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// An import: from a file, at a line, of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) from: String,
    pub(crate) line: usize,
    pub(crate) to: String,
}

/// What is wrong with the directions of these files: path and code without comments, strings and tests.
pub(crate) fn check(files: &[(String, String)]) -> Vec<String> {
    let modules: BTreeMap<Vec<String>, String> =
        files.iter().filter_map(|(file, _)| Some((module(file)?, file.clone()))).collect();
    let arrows: BTreeSet<Arrow> =
        files.iter().flat_map(|(file, code)| arrows(file, code, &modules)).collect();
    let mut found = Vec::new();
    for file in modules.values() {
        if let Err(what) = place(file) {
            found.push(format!("{file}: {what}"));
        }
    }
    for arrow in &arrows {
        let excused = EXCEPTIONS.iter().any(|(from, to, _)| arrow.from == *from && arrow.to == *to);
        if !excused && points_up(arrow) {
            let Arrow { from, line, to } = arrow;
            found.push(format!("{from}:{line}: `{to}` is above it in the order of the rooms"));
        }
    }
    found.extend(circles(&arrows));
    found
}

/// `src/a/b.rs` is the module `a::b`.
fn module(file: &str) -> Option<Vec<String>> {
    let path = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    let apart = ["fuzz", "main", "pure"].contains(&path) || path.starts_with("program/");
    (!apart).then(|| path.split('/').map(str::to_owned).collect())
}

/// Where a file stands in the order.
fn place(file: &str) -> Result<(usize, usize), String> {
    let path = module(file).unwrap_or_default();
    let Some(room) = path.first() else { return Err("is no module".to_owned()) };
    let Some(at) = ROOMS.iter().position(|known| known == room) else {
        return Err(format!(
            "the room `{room}` has no place in the order of tests/tidy/directions.rs"
        ));
    };
    let Some((_, parts)) = PARTS.iter().find(|(with_parts, _)| with_parts == room) else {
        return Ok((at, 0));
    };
    match path.get(1) {
        None => Ok((at, parts.len())),
        Some(part) => match parts.iter().position(|known| known == part) {
            Some(part) => Ok((at, part)),
            None => Err(format!("the part `{part}` of `{room}` has no place in the order")),
        },
    }
}

/// Whether one is part of the other.
fn is_part(one: &str, other: &str) -> bool {
    let inside = |part: &str, whole: &str| {
        whole.strip_suffix(".rs").is_some_and(|whole| part.starts_with(&format!("{whole}/")))
    };
    inside(one, other) || inside(other, one)
}

fn points_up(arrow: &Arrow) -> bool {
    match (place(&arrow.from), place(&arrow.to)) {
        (Ok(from), Ok(to)) => to > from && !is_part(&arrow.from, &arrow.to),
        _ => false,
    }
}

/// The files that one file names.
fn arrows(file: &str, code: &str, modules: &BTreeMap<Vec<String>, String>) -> Vec<Arrow> {
    let Some(here) = module(file) else { return Vec::new() };
    let mut found = Vec::new();
    for (start, base) in [("crate::", Vec::new()), ("super::", here[..here.len() - 1].to_vec())] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|letter| letter.is_alphanumeric() || "_:".contains(letter)) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            for path in paths(&code[at + start.len()..]) {
                let mut full = base.clone();
                for name in path {
                    match name.as_str() {
                        "super" => drop(full.pop()),
                        "self" => {}
                        _ => full.push(name),
                    }
                }
                if let Some(to) = longest(&full, modules)
                    && to != file
                {
                    found.push(Arrow { from: file.to_owned(), line, to });
                }
            }
        }
    }
    found
}

/// The file of the longest part of a path that is a module. What the root of the library re-exports is the root's.
fn longest(path: &[String], modules: &BTreeMap<Vec<String>, String>) -> Option<String> {
    let found = (1..=path.len()).rev().find_map(|len| modules.get(&path[..len]));
    let root = path.first().is_some_and(|name| name.starts_with(char::is_uppercase));
    found.cloned().or_else(|| root.then(|| "src/lib.rs".to_owned()))
}

/// All paths of a use tree that begins here, such as `a::{b, c::d}`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut prefixes, mut path) = (Vec::new(), vec![Vec::new()], Vec::<String>::new());
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if len > 0 {
            path.push(rest[..len].to_owned());
            rest = rest[len..].trim_start();
        }
        let depth = prefixes.len();
        if let Some(behind) = rest.strip_prefix("::") {
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('{').filter(|_| len == 0) {
            prefixes.push(path.clone());
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(',').filter(|_| depth > 1) {
            all.push(path);
            path = prefixes.last().cloned().unwrap_or_default();
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('}').filter(|_| depth > 1) {
            if len > 0 {
                all.push(path.clone());
            }
            path = prefixes.pop().unwrap_or_default();
            if prefixes.len() == 1 {
                return all;
            }
            // What follows belongs to the tree around this one.
            path.clone_from(prefixes.last().unwrap_or(&Vec::new()));
            rest = behind.trim_start().strip_prefix(',').unwrap_or(behind);
        } else {
            all.push(path);
            return all;
        }
    }
}

/// Files of which each needs the next and the last the first.
fn circles(arrows: &BTreeSet<Arrow>) -> Vec<String> {
    let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrow in arrows.iter().filter(|arrow| !is_part(&arrow.from, &arrow.to)) {
        needs.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    // Whatever needs nothing that is left, or is needed by nothing that is left, is in no circle.
    loop {
        let left: BTreeSet<&str> = needs.keys().copied().collect();
        let before = needs.values().map(BTreeSet::len).sum::<usize>();
        needs.values_mut().for_each(|files| files.retain(|file| left.contains(file)));
        needs.retain(|_, files| !files.is_empty());
        if needs.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let Some(first) = needs.keys().next().copied() else { return Vec::new() };
    let mut circle = vec![first];
    loop {
        let last = circle[circle.len() - 1];
        let Some(next) = needs.get(last).and_then(|files| files.first()).copied() else { break };
        if let Some(start) = circle.iter().position(|file| *file == next) {
            circle.push(next);
            return vec![format!("a circle: {}", circle[start..].join(" -> "))];
        }
        circle.push(next);
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> =
            files.iter().map(|(file, code)| ((*file).to_owned(), (*code).to_owned())).collect();
        check(&files)
    }

    #[test]
    fn use_trees_are_read_whole() {
        let read = |text: &str| -> Vec<String> {
            paths(text).into_iter().map(|path| path.join("::")).collect()
        };
        assert_eq!(read("a::b;"), ["a::b"]);
        assert_eq!(read("a::B::new(1)"), ["a::B::new"]);
        assert_eq!(read("a::{b, c::d, E};"), ["a::b", "a::c::d", "a::E"]);
        assert_eq!(read("{a::{b, c}, d};"), ["a::b", "a::c", "d"]);
    }

    #[test]
    fn an_arrow_down_is_allowed_and_one_up_is_found() {
        let down = [("src/session.rs", "use crate::message::Message;"), ("src/message.rs", "")];
        assert_eq!(found(&down), Vec::<String>::new());
        let up = [("src/message.rs", "\nuse crate::session::Session;"), ("src/session.rs", "")];
        assert_eq!(found(&up).len(), 1);
        assert!(found(&up)[0].starts_with("src/message.rs:2: `src/session.rs` is above"));
        let root = [("src/session.rs", "let x: crate::Broker;"), ("src/lib.rs", "")];
        assert_eq!(found(&root).len(), 1, "the root is above all");
    }

    #[test]
    fn parts_of_a_room_have_an_order_too() {
        let up = [("src/engine/state.rs", "use super::batch::Batch;"), ("src/engine/batch.rs", "")];
        assert_eq!(found(&up).len(), 1);
        let unknown = [("src/engine/other.rs", ""), ("src/unknown.rs", "")];
        assert_eq!(found(&unknown).len(), 2);
    }

    #[test]
    fn circles_are_found_where_the_order_allows_them() {
        let circle = [
            ("src/packet/encode.rs", "use super::decode::x;"),
            ("src/packet/decode.rs", "use crate::packet::properties::x;"),
            ("src/packet/properties.rs", "use super::{encode::y, PacketId};"),
            ("src/packet.rs", "use decode::x; let y = crate::packet::encode::y;"),
        ];
        let found = found(&circle);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("a circle: src/packet/decode.rs -> "), "{found:?}");
    }
}
