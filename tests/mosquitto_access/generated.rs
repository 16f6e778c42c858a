//! Access control lists, Clients and actions from a seed.

use std::fmt::Write as _;

use crate::rows::{Action, Case, Row};

pub(crate) const SEED: u64 = 20;
const CASES: usize = 24;
const CLIENTS: usize = 5;

const LEVELS: &[&str] = &["a", "b", "", "c d", "$x", "é"];
const USERS: &[&str] = &["u", "v", "a b", "b/a", "$x"];
const IDS: &[&str] = &["a", "b", "a/b", "c d", "$x", "id"];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bound = u64::try_from(bound).expect("a small number");
        usize::try_from((mixed ^ mixed >> 31) % bound).expect("a small number")
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A filter; a topic if `wild` is empty.
    fn filter(&mut self, wild: &[&str]) -> String {
        let count = 1 + self.below(3);
        let mut levels: Vec<&str> = (0..count)
            .map(|_| {
                if !wild.is_empty() && self.below(3) == 0 {
                    self.one(wild)
                } else {
                    self.one(LEVELS)
                }
            })
            .collect();
        if !wild.is_empty() && self.below(4) == 0 {
            levels.push("#");
        }
        match levels.join("/") {
            empty if empty.is_empty() => "a".to_owned(),
            filter => filter,
        }
    }

    fn acl(&mut self) -> (String, Vec<String>) {
        let (mut text, mut filters) = (String::new(), Vec::new());
        for section in 0..1 + self.below(3) {
            if section > 0 {
                let _ = writeln!(text, "user {}", self.one(USERS));
            }
            for _ in 0..1 + self.below(4) {
                let (keyword, wild): (_, &[&str]) = match self.below(3) {
                    0 => ("pattern", &["+", "%c", "%u"]),
                    _ => ("topic", &["+"]),
                };
                let access = self.one(&["read", "write", "readwrite", "deny", "readwrite"]);
                let filter = self.filter(wild);
                let _ = writeln!(text, "{keyword} {access} {filter}");
                filters.push(filter);
            }
        }
        (text, filters)
    }

    /// A topic that a rule may be about.
    fn topic(&mut self, filters: &[String], row: &Row) -> String {
        if self.below(4) == 0 {
            return self.filter(&[]);
        }
        let filter = &filters[self.below(filters.len())];
        let mut levels = Vec::new();
        for level in filter.split('/') {
            match level {
                "+" => levels.push(self.one(LEVELS)),
                "#" => levels.extend((0..self.below(3)).map(|_| "a")),
                "%c" => levels.push(&row.client_id),
                "%u" => levels.push(row.user_name.as_deref().unwrap_or("%u")),
                level => levels.push(level),
            }
        }
        match levels.join("/") {
            empty if empty.is_empty() => "a".to_owned(),
            topic => topic,
        }
    }
}

pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut dice = Dice(seed);
    (0..CASES).map(|number| case(&mut dice, number)).collect()
}

fn case(dice: &mut Dice, number: usize) -> Case {
    let (acl, filters) = dice.acl();
    let mut case = Case::new(&format!("generated {number}"), &acl);
    for _ in 0..CLIENTS {
        let user_name = (dice.below(3) > 0).then(|| dice.one(USERS).to_owned());
        let client_id = dice.one(IDS).to_owned();
        let mut row = Row { client_id, user_name, password: None, action: Action::Connect };
        for _ in 0..4 {
            let topic = dice.topic(&filters, &row);
            row.action = match dice.below(2) {
                0 => Action::Publish(topic),
                _ => Action::Receive(topic),
            };
            case.rows.push(row.clone());
        }
        let topics = (0..6).map(|_| dice.topic(&filters, &row)).collect();
        row.action = Action::Subscribe(dice.filter(&["+"]), topics);
        case.rows.push(row);
    }
    case
}
