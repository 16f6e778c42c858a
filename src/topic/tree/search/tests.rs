//! Searches that pause while the tree changes, against naive matching.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::topic::name_matches;
use crate::topic::tests::{any_filter, any_name, filter};
use crate::topic::tree::tests::{any_chain, any_chain_name};

type TestTree = Tree<u32, ()>;

/// What was found, told by the values of subscriptions; of a group that of the first member.
fn slice(tree: &TestTree, name: &str, search: &mut Search, steps: usize) -> (Vec<u32>, bool) {
    let (mut found, mut left) = (Vec::new(), steps);
    let is_done = tree.search(name, search, &mut left, &mut |one| match one {
        Match::Subscription { value, .. } => found.push(*value),
        Match::Shared { members, .. } => found.push(members[0].1),
    });
    assert!(found.len() <= steps, "{} visited in {steps} steps", found.len());
    assert!(is_done || left == 0);
    (found, is_done)
}

/// What is found with so many steps at a time, and in how many calls.
fn found(tree: &TestTree, name: &str, steps: usize) -> (Vec<u32>, usize) {
    let (mut search, mut all, mut calls) = (Search::new(), Vec::new(), 0);
    loop {
        let (found, is_done) = slice(tree, name, &mut search, steps);
        all.extend(found);
        calls += 1;
        assert!(calls < 1_000_000, "it does not come to an end");
        if is_done {
            all.sort_unstable();
            return (all, calls);
        }
    }
}

/// What tells a subscription, or a group: its members are one match.
type Key = (String, Option<u64>);

fn key(text: &str, subscriber: u64) -> Key {
    (text.to_owned(), (!filter(text).is_shared()).then_some(subscriber))
}

/// The tree with how it came to be.
struct Witness {
    tree: TestTree,
    /// Who subscribes now.
    members: BTreeMap<Key, Vec<u64>>,
    /// By value, what was inserted with it.
    inserted: Vec<Key>,
    /// How often each began to be since the search began, and which has ceased to be.
    begun: BTreeMap<Key, usize>,
    ended: Vec<Key>,
}

impl Witness {
    fn change(&mut self, insert: bool, text: &str, subscriber: u64) {
        let key = key(text, subscriber);
        let members = self.members.entry(key.clone()).or_default();
        let at = members.iter().position(|member| *member == subscriber);
        if insert {
            let value = u32::try_from(self.inserted.len()).unwrap();
            self.inserted.push(key.clone());
            let old = self.tree.insert(&filter(text), subscriber, value);
            assert_eq!(old.is_some(), at.is_some());
            if members.is_empty() {
                *self.begun.entry(key).or_default() += 1;
            }
            if at.is_none() {
                members.push(subscriber);
            }
        } else {
            assert_eq!(self.tree.remove(&filter(text), subscriber).is_some(), at.is_some());
            if let Some(at) = at {
                members.remove(at);
                if members.is_empty() {
                    self.members.remove(&key);
                    self.ended.push(key);
                }
            } else if members.is_empty() {
                self.members.remove(&key);
            }
        }
    }
}

/// A call's steps, and the changes after it: whether to insert, which filter, and the subscriber.
type Slice = (usize, Vec<(bool, usize, u64)>);

/// Fills a tree, and searches it while it changes. Asserts that what stays is visited once.
fn search_while_it_changes(
    filters: &[String],
    before: &[(usize, u64)],
    slices: &[Slice],
    name: &str,
) {
    let mut witness = Witness {
        tree: TestTree::new(1),
        members: BTreeMap::new(),
        inserted: Vec::new(),
        begun: BTreeMap::new(),
        ended: Vec::new(),
    };
    let text = |at: usize| &filters[at % filters.len()];
    for (at, subscriber) in before {
        witness.change(true, text(*at), *subscriber);
    }
    witness.begun.clear();
    let at_first: Vec<Key> = witness.members.keys().cloned().collect();
    let (mut search, mut visits) = (Search::new(), BTreeMap::<Key, usize>::new());
    let mut slices = slices.iter();
    loop {
        let next = slices.next();
        let steps = next.map_or(3, |(steps, _)| *steps);
        let (found, is_done) = slice(&witness.tree, name, &mut search, steps);
        for value in found {
            *visits.entry(witness.inserted[value as usize].clone()).or_default() += 1;
        }
        if is_done {
            break;
        }
        for (insert, at, subscriber) in next.map_or(&[][..], |(_, changes)| changes) {
            witness.change(*insert, text(*at), *subscriber);
        }
    }
    for key in at_first.iter().filter(|key| !witness.ended.contains(key)) {
        let expected = usize::from(name_matches(filter(&key.0).filter_str(), name));
        assert_eq!(visits.get(key).copied().unwrap_or(0), expected, "{key:?} stayed");
    }
    for (key, visits) in visits {
        assert!(name_matches(filter(&key.0).filter_str(), name), "{key:?} does not match {name}");
        let begun = witness.begun.get(&key).copied().unwrap_or(0);
        let most = begun + usize::from(at_first.contains(&key));
        assert!(visits <= most, "{key:?} was visited {visits} times");
    }
}

fn any_slices() -> impl Strategy<Value = Vec<Slice>> {
    let change = (any::<bool>(), 0..24_usize, 0..4_u64);
    prop::collection::vec((1..5_usize, prop::collection::vec(change, 0..8)), 0..24)
}

fn any_subscriptions() -> impl Strategy<Value = Vec<(usize, u64)>> {
    prop::collection::vec((0..24_usize, 0..4_u64), 1..60)
}

proptest! {
    #[test]
    fn what_stays_in_a_tree_of_chains_is_visited_once(
        filters in prop::collection::vec(any_chain(), 1..24),
        before in any_subscriptions(),
        slices in any_slices(),
        name in any_chain_name(),
    ) {
        search_while_it_changes(&filters, &before, &slices, &name);
    }

    #[test]
    fn what_stays_in_any_tree_is_visited_once(
        filters in prop::collection::vec(any_filter(), 1..24),
        before in any_subscriptions(),
        slices in any_slices(),
        name in any_name(),
    ) {
        search_while_it_changes(&filters, &before, &slices, &name);
    }

    /// Each level is `a` or `+`, so that all match and lie close together.
    #[test]
    fn what_stays_of_overlapping_filters_is_visited_once(
        ways in prop::collection::vec((1..64_u32, 1..7_usize, any::<bool>()), 1..24),
        before in any_subscriptions(),
        slices in any_slices(),
        levels in 1..7_usize,
    ) {
        let filters: Vec<String> = ways
            .into_iter()
            .map(|(bits, len, multi)| {
                let level = |at| if bits >> at & 1 == 0 { "a" } else { "+" };
                let text = (0..len).map(level).collect::<Vec<_>>().join("/");
                if multi { format!("{text}/#") } else { text }
            })
            .collect();
        search_while_it_changes(&filters, &before, &slices, &vec!["a"; levels].join("/"));
    }

    /// One node's lists, long enough to change their form.
    #[test]
    fn what_stays_at_one_node_is_visited_once(
        before in prop::collection::vec((0..8_usize, 0..60_u64), 1..200),
        slices in prop::collection::vec(
            (1..12_usize, prop::collection::vec((any::<bool>(), 0..8_usize, 0..60_u64), 0..30)),
            0..30,
        ),
    ) {
        let filters = ["a/a", "a/a", "a/a", "a/a/#", "a/a/#", "$share/1/a/a", "$share/2/a/a/#", "a"];
        let filters = filters.map(str::to_owned);
        search_while_it_changes(&filters, &before, &slices, "a/a");
    }

    #[test]
    fn any_number_of_steps_finds_the_same(
        filters in prop::collection::vec(prop_oneof![any_chain(), any_filter()], 1..40),
        name in prop_oneof![any_chain_name(), any_name()],
        steps in 1..9_usize,
    ) {
        let mut tree = TestTree::new(1);
        for (text, value) in filters.iter().zip(0..) {
            tree.insert(&filter(text), u64::from(value), value);
        }
        let (all, calls) = found(&tree, &name, usize::MAX);
        prop_assert_eq!(calls, 1);
        prop_assert_eq!(found(&tree, &name, steps).0, all);
    }
}

#[test]
fn without_steps_nothing_is_visited_and_the_search_stays_where_it_is() {
    let mut tree = TestTree::new(1);
    for (text, value) in ["#", "a", "a/#", "+"].into_iter().zip(0..) {
        tree.insert(&filter(text), 1, value);
    }
    let mut search = Search::new();
    assert_eq!(slice(&tree, "a", &mut search, 0), (vec![], false));
    assert_eq!(slice(&tree, "a", &mut search, 1), (vec![0], false));
    assert_eq!(slice(&tree, "a", &mut search, 0), (vec![], false));
    assert_eq!(slice(&tree, "a", &mut search, 9), (vec![2, 1, 3], true));
}

#[test]
fn a_hundred_thousand_subscribers_of_one_filter_are_visited_in_slices() {
    const MANY: u32 = 100_000;
    let mut tree = TestTree::new(1);
    for value in 0..MANY {
        tree.insert(&filter("a"), u64::from(value), value);
    }
    let (all, calls) = found(&tree, "a", 1_000);
    assert_eq!(all, (0..MANY).collect::<Vec<_>>());
    assert!((100..110).contains(&calls), "{calls}");
}

#[test]
fn as_many_shared_subscriptions_of_one_filter_are_visited_in_slices() {
    const MANY: u32 = 10_000;
    let mut tree = TestTree::new(1);
    for value in 0..MANY {
        tree.insert(&filter(&format!("$share/{value}/a/#")), 1, value);
    }
    let (all, calls) = found(&tree, "a/b", 100);
    assert_eq!(all, (0..MANY).collect::<Vec<_>>());
    assert!((100..110).contains(&calls), "{calls}");
}

/// Each node is a step, so the steps bound what a client can order by filters that overlap.
#[test]
fn overlapping_filters_are_visited_in_slices() {
    const LEVELS: usize = 13;
    let mut tree = TestTree::new(1);
    for ways in 0..1 << LEVELS {
        let level = |at: usize| if ways >> at & 1 == 0 { "a" } else { "+" };
        let levels: Vec<&str> = (0..LEVELS).map(level).collect();
        tree.insert(&filter(&levels.join("/")), 1, ways);
    }
    let (all, calls) = found(&tree, &["a"; LEVELS].join("/"), 100);
    assert_eq!(all, (0..1 << LEVELS).collect::<Vec<_>>());
    assert!(calls > 3 * (1 << LEVELS) / 100, "{calls}");
    let (none, calls) =
        found(&tree, &[&["a"; LEVELS - 1][..], &["b", "c"]].concat().join("/"), 100);
    assert!(none.is_empty() && calls > (1 << (LEVELS - 1)) / 100, "{calls}");
}

/// Where texts are long, they are what takes time.
#[test]
fn long_texts_take_more_steps() {
    let level = "x".repeat(6_400);
    let mut tree = TestTree::new(1);
    tree.insert(&filter(&level), 1, 1);
    tree.insert(&filter(&format!("{level}/{level}")), 1, 2);
    tree.insert(&filter("+/+/+"), 1, 3);
    let spent = |name: &str| {
        let mut steps = usize::MAX;
        assert!(tree.search(name, &mut Search::new(), &mut steps, &mut |_| {}));
        usize::MAX - steps
    };
    assert!((200..220).contains(&spent(&level)), "{}", spent(&level));
    let (name, matching) = (format!("{level}/{level}"), format!("{level}/{level}/{level}"));
    assert!((400..820).contains(&spent(&name)), "{}", spent(&name));
    assert!((600..1_020).contains(&spent(&matching)), "{}", spent(&matching));
    assert!(spent("y") < 10);
}

/// Pitfall 6: many levels cost neither stack nor, with a pause at each, more than a walk for each.
#[test]
fn the_deepest_names_are_searched_in_slices() {
    let deepest = "/".repeat(65_535);
    let mut tree = TestTree::new(1);
    let texts =
        [deepest.clone(), format!("{}+", "+/".repeat(32_767)), format!("{deepest:.65533}/#")];
    for (text, value) in texts.iter().zip(0..) {
        tree.insert(&filter(text), 1, value);
    }
    for (levels, value) in (1..400).zip(10..) {
        tree.insert(&filter(&format!("{}#", "/".repeat(levels))), 1, value);
        tree.insert(&filter(&format!("{}+/#", "/".repeat(levels))), 2, value);
    }
    let (all, _) = found(&tree, &deepest, usize::MAX);
    assert_eq!(all.len(), 800);
    for steps in [7, 100, 5_000] {
        assert_eq!(found(&tree, &deepest, steps).0, all);
    }
}

/// What is left of a branch becomes a chain, and a search that paused in the other branch must not
/// take it for one that is still to be visited.
#[test]
fn a_chain_that_was_visited_as_a_branch_is_not_visited_again() {
    for steps in 1..9 {
        let mut tree = TestTree::new(1);
        for (text, value) in ["a/b", "a/+", "a/+/#"].into_iter().zip(0..) {
            tree.insert(&filter(text), 1, value);
        }
        let mut search = Search::new();
        let (mut all, mut is_done) = slice(&tree, "a/b", &mut search, steps);
        tree.remove(&filter("a/+"), 1);
        tree.remove(&filter("a/+/#"), 1);
        for _ in 0..99 {
            if !is_done {
                let (found, done) = slice(&tree, "a/b", &mut search, 1);
                all.extend(found);
                is_done = done;
            }
        }
        assert!(is_done);
        assert_eq!(all.iter().filter(|value| **value == 0).count(), 1, "{steps} steps: {all:?}");
    }
}

/// A search pauses inside of a chain's subscriptions, and the chain becomes another one.
#[test]
fn a_search_goes_on_although_its_node_is_gone() {
    let texts = ["a/#", "a/b/#", "a/b/c/#", "a/b/+/#", "a/+/c/d", "+/b/c/d"];
    for steps in 1..20 {
        for changed in texts {
            let mut tree = TestTree::new(1);
            for (text, value) in texts.into_iter().zip(0..) {
                tree.insert(&filter(text), 1, value);
            }
            let mut search = Search::new();
            let (mut all, mut is_done) = slice(&tree, "a/b/c/d", &mut search, steps);
            tree.remove(&filter(changed), 1);
            tree.insert(&filter("a/b/c/d/e"), 2, 100);
            tree.insert(&filter("a/+"), 2, 100);
            while !is_done {
                let (found, done) = slice(&tree, "a/b/c/d", &mut search, 1);
                all.extend(found);
                is_done = done;
            }
            all.sort_unstable();
            let stayed = |value: &u32| texts[*value as usize] != changed;
            all.retain(stayed);
            assert_eq!(all, (0..6).filter(stayed).collect::<Vec<_>>(), "{changed}, {steps} steps");
        }
    }
}
