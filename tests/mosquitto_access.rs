//! The same files, the same answers: each row is a file, a Client and an action, decided by mosquitto, by the
//! policies alone, and by a broker that has them. What differs on purpose stands in `DIFFERENCES`.
//!
//! It needs Debian's package `mosquitto`, and says loudly if it is not installed.
#![cfg(feature = "access-files")]

use std::env;

#[path = "mosquitto_access/client.rs"]
mod client;
#[path = "mosquitto_access/generated.rs"]
mod generated;
#[path = "mosquitto_access/rows.rs"]
mod rows;
#[path = "mosquitto_access/servers.rs"]
mod servers;

use rows::{Action, Answer, Case, Row};
use servers::{Hrotti, Mosquitto, Policies, Server};

/// As many rows are compared at least.
const ROWS_MIN: usize = 150;

/// A difference on purpose.
struct Difference {
    name: &'static str,
    place: Place,
}

/// Where a difference is expected.
enum Place {
    /// A line of the access control list that mosquitto accepts.
    Line(fn(&str) -> bool),
    /// A row, by mosquitto's answer and hrotti's.
    Row(fn(&Case, &Row, &Answer, &Answer) -> bool),
}

/// The documentation of `AclFile` has the same table.
const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "SUBSCRIBE to what can never be received is refused, not granted without effect",
        place: Place::Row(|_, _, theirs, ours| {
            let nothing = |granted| Answer::Subscribed { granted, received: Vec::new() };
            *theirs == nothing(true) && *ours == nothing(false)
        }),
    },
    Difference {
        name: "'+' or '#' in a name that patterns put in is refused at CONNECT; in mosquitto no pattern holds",
        place: Place::Row(|case, row, theirs, ours| {
            let wild = |name: &str| name.contains(['+', '#']);
            let user = row.user_name.as_deref().unwrap_or("");
            *ours == Answer::Refused
                && *theirs != Answer::Refused
                && (wild(&row.client_id) && case.puts_in("%c") || wild(user) && case.puts_in("%u"))
        }),
    },
    Difference {
        name: "a name with '$' in front of a pattern opens no topic with '$'",
        place: Place::Row(|case, row, theirs, ours| {
            let user = row.user_name.as_deref().unwrap_or("");
            let put_in = row.client_id.starts_with('$') && case.puts_in("%c")
                || user.starts_with('$') && case.puts_in("%u");
            put_in && row.action.topic().starts_with('$') && theirs.is_yes() && !ours.is_yes()
        }),
    },
    Difference {
        name: "%c or %u beside other text in a level of a pattern is an error",
        place: Place::Line(|line| {
            let beside =
                |level: &str| level.len() > 2 && (level.contains("%c") || level.contains("%u"));
            line.starts_with("pattern ") && line.split(['/', ' ']).any(beside)
        }),
    },
    Difference {
        name: "an access without a Topic Filter is an error, not a topic of that name",
        place: Place::Line(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            matches!(words[..], [_, "read" | "write" | "readwrite" | "deny"])
        }),
    },
    Difference {
        name: "a filter that begins with $share/ is an error, not a rule without effect",
        place: Place::Line(|line| line.contains(" $share/")),
    },
    Difference {
        name: "a control character inside a line is an error, not a part of the name",
        place: Place::Line(|line| line.trim_end().contains(char::is_control)),
    },
    Difference {
        name: "a file without a rule is an error; in mosquitto it denies everything",
        place: Place::Row(|case, row, theirs, ours| {
            let is_rule = |line: &str| line.starts_with("topic ") || line.starts_with("pattern ");
            row.action == Action::Load
                && theirs.is_yes()
                && !ours.is_yes()
                && !case.acl().lines().any(is_rule)
        }),
    },
];

impl Difference {
    fn covers(&self, case: &Case, row: &Row, theirs: &Answer, ours: &Answer) -> bool {
        match self.place {
            Place::Row(covers) => covers(case, row, theirs, ours),
            Place::Line(wrong) => {
                let load = row.action == Action::Load && theirs.is_yes() && !ours.is_yes();
                load && case.acl().lines().any(wrong)
            }
        }
    }
}

/// What was compared, and how it went.
struct Comparison {
    rows: usize,
    same: usize,
    /// For each difference, the rows that it covers.
    covered: Vec<usize>,
    unexpected: Vec<String>,
}

impl Comparison {
    fn new() -> Comparison {
        let covered = vec![0; DIFFERENCES.len()];
        Comparison { rows: 0, same: 0, covered, unexpected: Vec::new() }
    }

    fn compare(&mut self, case: &Case, row: &Row, theirs: &Answer, ours: &Answer, by: &str) {
        self.rows += 1;
        if theirs == ours {
            self.same += 1;
            return;
        }
        match DIFFERENCES.iter().position(|known| known.covers(case, row, theirs, ours)) {
            Some(known) => self.covered[known] += 1,
            None => self.unexpected.push(format!(
                "{}: {row:?}\n    mosquitto: {theirs:?}\n    {by}: {ours:?}\n    file:\n{}",
                case.name,
                case.acl(),
            )),
        }
    }

    fn report(&self, title: &str) {
        println!("{title}: {} rows, {} the same", self.rows, self.same);
        for (difference, rows) in DIFFERENCES.iter().zip(&self.covered) {
            println!("  {rows:4} rows differ on purpose: {}", difference.name);
        }
        assert!(
            self.unexpected.is_empty(),
            "{title}: {} rows differ:\n{}",
            self.unexpected.len(),
            self.unexpected.join("\n")
        );
        assert!(self.rows >= ROWS_MIN, "only {} rows", self.rows);
        for (difference, rows) in DIFFERENCES.iter().zip(&self.covered) {
            assert!(*rows > 0, "{title}: no row shows that {}", difference.name);
        }
    }
}

#[test]
fn the_same_files_lead_to_the_same_answers_as_in_mosquitto() {
    let Some(version) = servers::mosquitto_version() else {
        let text = "NOT RUN: mosquitto is not installed, so hrotti's answers were not compared with its answers; \
                    on Debian: apt-get install mosquitto";
        assert!(env::var_os("HROTTI_NEEDS_MOSQUITTO").is_none(), "{text}");
        eprintln!("\n{text}\n");
        return;
    };
    let mut policies = Comparison::new();
    let mut brokers = Comparison::new();
    let cases = rows::by_hand().into_iter().chain(generated::cases(generated::SEED));
    for case in cases {
        let mut theirs = Mosquitto::start(&case);
        let mut decided = Policies::start(&case);
        let mut served = Hrotti::start(&case);
        for row in &case.rows {
            let expected = theirs.answer(row);
            policies.compare(&case, row, &expected, &decided.answer(row), "the policies");
            brokers.compare(&case, row, &expected, &served.answer(row), "a broker");
        }
    }
    println!("compared with {version}");
    policies.report("the policies alone");
    brokers.report("a broker with them");
}
