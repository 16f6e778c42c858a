//! The subscription tree against a list.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::input::Input;
use super::topics::matches;
use crate::topic::TopicFilter;
use crate::topic::tree::{Match, Search, Tree};

/// What the tree holds: value by filter and subscriber.
type Model = BTreeMap<(String, u64), u32>;
/// What each group of members is known by.
type Groups = BTreeMap<String, u32>;
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

/// Stands for the members of a shared subscription.
const SHARED: u64 = u64::MAX;

/// A search is taken up again at most so often: each time it does something.
const TURNS_MAX: usize = 10_000;

pub(super) fn tree(data: &[u8]) {
    let mut input = Input::new(data);
    let mut tree: AnyTree = Tree::new(u64::from(input.byte()));
    let mut model = Model::new();
    let mut groups = Groups::new();
    let mut value = 0;
    while !input.is_empty() {
        let choice = input.below(8);
        if choice < 2 {
            let name = any_name(&mut input);
            let steps = input.below(40);
            check_search(&tree, &model, &groups, &name, steps);
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
        let first = model.range((filter.as_str().to_owned(), 0)..).next();
        let members = first.is_some_and(|((text, _), _)| text == filter.as_str());
        let group = tree.group(&filter);
        assert_eq!(group.is_some(), filter.is_shared() && members);
        if let Some(group) = group {
            let known = groups.entry(filter.as_str().to_owned()).or_insert(value);
            assert!(group.get() == 0 || group.get() == *known, "it lives while it has members");
            group.set(*known);
        } else {
            groups.remove(filter.as_str());
        }
    }
    groups.clear();
    for (text, subscriber) in model.into_keys() {
        let filter = TopicFilter::new(&text).expect("it was one before");
        assert!(tree.remove(&filter, subscriber).is_some());
        assert!(tree.remove(&filter, subscriber).is_none());
    }
    assert_eq!(tree.len(), 0);
    check_search(&tree, &Model::new(), &groups, "a/b", 1);
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
fn check_search(tree: &AnyTree, model: &Model, groups: &Groups, name: &str, steps: usize) {
    let mut found = Vec::new();
    let mut search = Search::new();
    let mut done = false;
    for _ in 0..TURNS_MAX {
        let mut left = steps + 1;
        done = tree.search(name, &mut search, &mut left, &mut |one| match one {
            Match::Subscription { subscriber, value } => found.push((subscriber, *value)),
            Match::Shared { group, .. } => found.push((SHARED, group.get())),
        });
        if done {
            break;
        }
    }
    assert!(done, "the search of {name:?} never ends");
    found.sort_unstable();
    assert_eq!(found, naive(model, groups, name), "{name:?}");
}

fn naive(model: &Model, groups: &Groups, name: &str) -> Vec<(u64, u32)> {
    let unshared = model.iter().filter(|((text, _), _)| !text.starts_with("$share/"));
    let unshared = unshared.filter(|((text, _), _)| matches(text, name));
    let mut found: Vec<_> =
        unshared.map(|((_, subscriber), value)| (*subscriber, *value)).collect();
    for (text, known) in groups {
        let parts = text.strip_prefix("$share/").and_then(|shared| shared.split_once('/'));
        if parts.is_some_and(|(_, filter)| matches(filter, name)) {
            found.push((SHARED, *known));
        }
    }
    found.sort_unstable();
    found
}
