//! The subscription tree against a list.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::input::Input;
use super::topics::matches;
use crate::topic::TopicFilter;
use crate::topic::tree::{Match, Search, Tree};

/// What the tree holds: value by filter and subscriber.
type Model = BTreeMap<(String, u64), u32>;
/// A shared subscription is known by the value of its first member.
type AnyTree = Tree<u32, Cell<u32>>;

const LEVELS: [&str; 12] = [
    "a",
    "b",
    "+",
    "",
    "c",
    "$x",
    "ab",
    "é",
    "$share",
    "level-of-just-22-bytes",
    "a-level-of-more-than-22-bytes",
    "d",
];
const SHARES: [&str; 4] = ["", "", "g", "h"];

/// A search is taken up again at most so often: each time it does something.
const TURNS_MAX: usize = 10_000;

pub(super) fn tree(data: &[u8]) {
    let mut input = Input::new(data);
    let mut tree: AnyTree = Tree::new(u64::from(input.byte()));
    let mut model = Model::new();
    let mut value = 0;
    while !input.is_empty() {
        let choice = input.below(8);
        if choice < 2 {
            let name = any_name(&mut input);
            let steps = input.below(40);
            check_search(&tree, &model, &name, steps);
            continue;
        }
        let text = any_filter(&mut input);
        let Ok(filter) = TopicFilter::new(&text) else { continue };
        let subscriber = input.below(12) as u64;
        let key = (text, subscriber);
        if choice < 6 {
            value += 1;
            assert_eq!(tree.insert(&filter, subscriber, value), model.insert(key, value));
        } else {
            assert_eq!(tree.remove(&filter, subscriber), model.remove(&key));
        }
        assert_eq!(tree.len(), model.len());
        let members = model.keys().any(|(text, _)| text == filter.as_str());
        assert_eq!(tree.group(&filter).is_some(), filter.is_shared() && members);
    }
    for (text, subscriber) in model.into_keys() {
        let filter = TopicFilter::new(&text).expect("it was one before");
        assert!(tree.remove(&filter, subscriber).is_some());
        assert!(tree.remove(&filter, subscriber).is_none());
    }
    assert_eq!(tree.len(), 0);
    check_search(&tree, &Model::new(), "a/b", 1);
}

fn any_filter(input: &mut Input<'_>) -> String {
    let share = input.choose(&SHARES);
    let mut text = if share.is_empty() { String::new() } else { format!("$share/{share}/") };
    let shape = input.byte();
    let depth = usize::from(shape & 7);
    for level in 0..depth {
        text.push_str(if level > 0 { "/" } else { "" });
        text.push_str(input.choose(&LEVELS));
    }
    if shape & 8 != 0 {
        text.push_str(if depth > 0 { "/#" } else { "#" });
    }
    text
}

fn any_name(input: &mut Input<'_>) -> String {
    let depth = 1 + input.below(7);
    let levels: Vec<_> = (0..depth).map(|_| input.choose(&LEVELS).replace('+', "e")).collect();
    levels.join("/")
}

/// A search that pauses after so many steps finds what the list has.
fn check_search(tree: &AnyTree, model: &Model, name: &str, steps: usize) {
    let mut found = Vec::new();
    let mut search = Search::new();
    let mut done = false;
    for _ in 0..TURNS_MAX {
        let mut left = steps + 1;
        done = tree.search(name, &mut search, &mut left, &mut |one| match one {
            Match::Subscription { subscriber, value } => found.push(vec![(subscriber, *value)]),
            Match::Shared { members, .. } => {
                let mut members = members.to_vec();
                members.sort_unstable();
                found.push(members);
            }
        });
        if done {
            break;
        }
    }
    assert!(done, "the search of {name:?} never ends");
    found.sort_unstable();
    assert_eq!(found, naive(model, name), "{name:?}");
}

fn naive(model: &Model, name: &str) -> Vec<Vec<(u64, u32)>> {
    let mut found = Vec::new();
    let mut shared: BTreeMap<&str, Vec<(u64, u32)>> = BTreeMap::new();
    for ((text, subscriber), value) in model {
        let parts = text.strip_prefix("$share/").and_then(|shared| shared.split_once('/'));
        let filter = parts.map_or(text.as_str(), |(_, filter)| filter);
        if !matches(filter, name) {
            continue;
        }
        match parts {
            None => found.push(vec![(*subscriber, *value)]),
            Some(_) => shared.entry(text).or_default().push((*subscriber, *value)),
        }
    }
    found.extend(shared.into_values());
    found.sort_unstable();
    found
}
