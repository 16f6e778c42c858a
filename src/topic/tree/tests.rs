//! The subscription tree against naive matching.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use proptest::prelude::*;

use super::node::Rare;
use super::sorted::Sorted;
use super::*;
use crate::topic::name_matches;
use crate::topic::tests::{any_filter, any_name, filter};

/// What the tree holds, as a list: value by filter and subscriber.
type Model = BTreeMap<(String, u64), u32>;
type TestTree = Tree<u32, Cell<u32>>;

/// Each match: Share Name unknown to the tree's caller, so shared ones come as sorted members.
fn matches(tree: &TestTree, name: &str) -> Vec<Vec<(u64, u32)>> {
    let mut found = Vec::new();
    let mut steps = usize::MAX;
    let is_done = tree.search(name, &mut Search::new(), &mut steps, &mut |one| match one {
        Match::Subscription { subscriber, value } => found.push(vec![(subscriber, *value)]),
        Match::Shared { members, .. } => {
            let mut members = members.to_vec();
            members.sort_unstable();
            found.push(members);
        }
    });
    assert!(is_done);
    found.sort_unstable();
    found
}

fn naive_matches(model: &Model, name: &str) -> Vec<Vec<(u64, u32)>> {
    let mut found = Vec::new();
    let mut shared: BTreeMap<&str, Vec<(u64, u32)>> = BTreeMap::new();
    for ((text, subscriber), value) in model {
        let filter = filter(text);
        if name_matches(filter.filter_str(), name) {
            match filter.share_name() {
                None => found.push(vec![(*subscriber, *value)]),
                Some(_) => shared.entry(text).or_default().push((*subscriber, *value)),
            }
        }
    }
    found.extend(shared.into_values());
    found.sort_unstable();
    found
}

/// Each node is reached from its parent, and is needed: it has a subscription or two children.
fn assert_is_sound(tree: &TestTree) {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let ids = (0..).zip(&tree.nodes).filter(|(id, _)| !tree.free.contains(id));
    for (id, node) in ids.clone().filter(|(id, _)| *id != ROOT) {
        let level = first_level(node.text.as_bytes());
        assert_eq!(tree.find_child(node.parent, level), id);
        if level != b"+" {
            children.entry(node.parent).or_default().push(id);
        }
    }
    for (id, node) in ids {
        let below = children.remove(&id).unwrap_or_default();
        assert_eq!(node.children as usize, below.len());
        assert_eq!(node.children_xor, below.iter().fold(0, |all, child| all ^ child));
        let branches = below.len() + usize::from(node.plus != NONE);
        assert!(id == ROOT || !node.is_vacant() || branches > 1, "{id}: {branches} branches");
    }
    assert!(children.is_empty(), "children of nodes that are not in use");
}

fn assert_nothing_is_left(tree: &TestTree) {
    assert_eq!(tree.len(), 0);
    assert_eq!(tree.edges.len(), 0);
    assert_eq!(tree.nodes.len() - tree.free.len(), 1, "only the root");
    assert!(tree.nodes[ROOT as usize].is_vacant() && tree.nodes[ROOT as usize].is_leaf());
}

fn any_subscription_filter() -> impl Strategy<Value = String> {
    (prop_oneof![3 => Just(""), 1 => Just("$share/g/"), 1 => Just("$share/é h/")], any_filter())
        .prop_map(|(share, filter)| format!("{share}{filter}"))
}

/// Filters of many levels and few texts, which have long parts in common.
pub(super) fn any_chain() -> impl Strategy<Value = String> {
    let level = prop_oneof![6 => Just("a"), 2 => Just("+"), 1 => Just("b"), 1 => Just("a level")];
    let end = prop_oneof![3 => Just(""), 1 => Just("/#")];
    let share = prop_oneof![4 => Just(""), 1 => Just("$share/g/"), 1 => Just("$share/h/")];
    (share, prop::collection::vec(level, 1..14), end)
        .prop_map(|(share, levels, end)| format!("{share}{}{end}", levels.join("/")))
}

/// Names that many of [`any_chain`] match.
pub(super) fn any_chain_name() -> impl Strategy<Value = String> {
    let level = prop_oneof![8 => Just("a"), 1 => Just("b"), 1 => Just("a level")];
    prop::collection::vec(level, 1..14).prop_map(|levels| levels.join("/"))
}

proptest! {
    #[test]
    fn the_tree_agrees_with_the_model(
        subscriptions in prop::collection::vec((any_subscription_filter(), 0..4_u64), 1..40),
        names in prop::collection::vec(any_name(), 1..20),
        seed: u64,
    ) {
        let (mut tree, mut model) = (TestTree::new(seed), Model::new());
        for ((text, subscriber), value) in subscriptions.into_iter().zip(0..) {
            let old = model.insert((text.clone(), subscriber), value);
            prop_assert_eq!(tree.insert(&filter(&text), subscriber, value), old);
        }
        for name in names {
            prop_assert_eq!(matches(&tree, &name), naive_matches(&model, &name), "{}", name);
        }
        assert_is_sound(&tree);
    }

    #[test]
    fn chains_are_split_and_joined(
        filters in prop::collection::vec(any_chain(), 1..9),
        changes in prop::collection::vec((any::<bool>(), 0..9_usize, 0..3_u64), 0..60),
        names in prop::collection::vec(any_chain_name(), 1..6),
    ) {
        let (mut tree, mut model) = (TestTree::new(1), Model::new());
        for ((insert, at, subscriber), value) in changes.into_iter().zip(0..) {
            let text = &filters[at % filters.len()];
            let key = (text.clone(), subscriber);
            if insert {
                let old = model.insert(key, value);
                prop_assert_eq!(tree.insert(&filter(text), subscriber, value), old);
            } else {
                prop_assert_eq!(tree.remove(&filter(text), subscriber), model.remove(&key));
            }
            assert_is_sound(&tree);
            for name in &names {
                prop_assert_eq!(matches(&tree, name), naive_matches(&model, name), "{}", name);
            }
        }
        for (text, subscriber) in model.into_keys() {
            prop_assert!(tree.remove(&filter(&text), subscriber).is_some());
        }
        assert_nothing_is_left(&tree);
    }

    #[test]
    fn a_sorted_list_agrees_with_a_map(
        changes in prop::collection::vec((0..3_u8, 0..70_u64), 0..400),
        last in prop::option::of(0..70_u64),
    ) {
        let (mut sorted, mut model) = (Sorted::new(), BTreeMap::new());
        for ((what, key), value) in changes.into_iter().zip(0..) {
            match what {
                0 => prop_assert_eq!(sorted.remove(&key), model.remove(&key)),
                _ => prop_assert_eq!(sorted.insert(key, value), model.insert(key, value)),
            }
            prop_assert_eq!(sorted.get_mut(&key), model.get_mut(&key));
            prop_assert_eq!(sorted.is_empty(), model.is_empty());
        }
        let found: Vec<(u64, i32)> = sorted.after(last.as_ref()).map(|(k, v)| (*k, *v)).collect();
        model.retain(|key, _| last.is_none_or(|last| last < *key));
        prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn any_sequence_of_changes_agrees_with_the_model(
        filters in prop::collection::vec(any_subscription_filter(), 1..6),
        changes in prop::collection::vec((any::<bool>(), 0..6_usize, 0..50_u64), 0..300),
        name in any_name(),
    ) {
        let (mut tree, mut model) = (TestTree::new(1), Model::new());
        for ((insert, at, subscriber), value) in changes.into_iter().zip(0..) {
            let text = &filters[at % filters.len()];
            let key = (text.clone(), subscriber);
            if insert {
                let old = model.insert(key, value);
                prop_assert_eq!(tree.insert(&filter(text), subscriber, value), old);
            } else {
                prop_assert_eq!(tree.remove(&filter(text), subscriber), model.remove(&key));
            }
            prop_assert_eq!(tree.len(), model.len());
            prop_assert_eq!(matches(&tree, &name), naive_matches(&model, &name));
        }
        for (text, subscriber) in model.into_keys() {
            prop_assert!(tree.remove(&filter(&text), subscriber).is_some());
            prop_assert!(tree.remove(&filter(&text), subscriber).is_none());
        }
        assert_nothing_is_left(&tree);
    }

    #[test]
    fn insert_then_remove_restores_the_tree(
        kept in prop::collection::vec(any_subscription_filter(), 0..20),
        passing in any_subscription_filter(),
    ) {
        let mut tree = TestTree::new(1);
        for text in &kept {
            tree.insert(&filter(text), 1, 1);
        }
        let before = (tree.len(), tree.edges.len(), tree.nodes.len() - tree.free.len());
        tree.insert(&filter(&passing), 2, 2);
        prop_assert_eq!(tree.remove(&filter(&passing), 2), Some(2));
        let after = (tree.len(), tree.edges.len(), tree.nodes.len() - tree.free.len());
        prop_assert_eq!(before, after);
    }
}

#[test]
fn a_first_wildcard_matches_no_dollar_topic_mqtt_4_7_2_1() {
    let mut tree = TestTree::new(1);
    for text in ["#", "+", "+/#", "+/b", "$share/g/#", "$share/g/+/b"] {
        tree.insert(&filter(text), 1, 1);
    }
    assert!(matches(&tree, "$a/b").is_empty());
    assert!(matches(&tree, "$a").is_empty());
    tree.insert(&filter("$a/#"), 2, 2);
    assert_eq!(matches(&tree, "$a/b"), [[(2, 2)]]);
    assert_eq!(matches(&tree, "a/b").len(), 5);
}

#[test]
fn a_group_lives_from_its_first_member_to_its_last() {
    let mut tree = TestTree::new(1);
    let share = filter("$share/g/a");
    let picks = |tree: &TestTree| {
        let mut picks = Vec::new();
        tree.search("a", &mut Search::new(), &mut usize::MAX.clone(), &mut |found| {
            if let Match::Shared { group, members } = found {
                group.set(group.get() + 1);
                picks.push((group.get(), members.len()));
            }
        });
        picks
    };
    tree.insert(&share, 1, 1);
    assert_eq!(picks(&tree), [(1, 1)]);
    tree.insert(&share, 2, 2);
    assert_eq!(picks(&tree), [(2, 2)]);
    tree.remove(&share, 1);
    assert_eq!(picks(&tree), [(3, 1)]);
    tree.remove(&share, 2);
    assert!(picks(&tree).is_empty());
    tree.insert(&share, 1, 1);
    assert_eq!(picks(&tree), [(1, 1)], "it starts anew");
    tree.insert(&filter("$share/h/a"), 1, 1);
    assert_eq!(picks(&tree).len(), 2, "one for each Share Name");
}

/// Pitfall 6: a deep filter costs neither stack nor more than linear time.
#[test]
fn the_deepest_filter_is_inserted_matched_and_removed() {
    let deepest = "/".repeat(65_535);
    let texts =
        [deepest.clone(), format!("{}+", "+/".repeat(32_767)), format!("{deepest:.65533}/#")];
    let mut tree = TestTree::new(1);
    for (text, value) in texts.iter().zip(0..) {
        tree.insert(&filter(text), 1, value);
    }
    assert_eq!(matches(&tree, &deepest), [[(1, 0)], [(1, 2)]]);
    assert_eq!(matches(&tree, &deepest[..32_767]), [[(1, 1)]]);
    for (text, value) in texts.iter().zip(0..) {
        assert_eq!(tree.remove(&filter(text), 1), Some(value));
    }
    assert_nothing_is_left(&tree);
}

/// Pitfall 6 again: every way through `a` and `+` is taken once, and no more than there are.
#[test]
fn as_many_nodes_are_reached_at_once_as_there_are() {
    let mut tree = TestTree::new(1);
    for (bits, value) in (0..256_u32).zip(0..) {
        let levels: Vec<_> = (0..8).map(|at| if bits >> at & 1 == 0 { "a" } else { "+" }).collect();
        tree.insert(&filter(&levels.join("/")), 7, value);
    }
    let expected: Vec<_> = (0..256).map(|value| vec![(7, value)]).collect();
    assert_eq!(matches(&tree, "a/a/a/a/a/a/a/a"), expected);
    assert_eq!(matches(&tree, "a/a/a/a/a/a/a/b").len(), 128);
    assert_eq!(matches(&tree, "b/b/b/b/b/b/b/b").len(), 1);
}

/// Pitfall 15: what comes and goes leaves nothing behind.
#[test]
fn nodes_are_used_again_and_given_back() {
    let mut tree = TestTree::new(1);
    for round in 0..5_000 {
        let texts = [format!("a/{round}/+/c"), format!("$share/{round}/b/{round}/#")];
        for text in &texts {
            tree.insert(&filter(text), round, 1);
        }
        assert!(tree.nodes.len() <= 8, "{} nodes", tree.nodes.len());
        for text in &texts {
            tree.remove(&filter(text), round);
        }
    }
    assert_nothing_is_left(&tree);
    for at in 0..2_000 {
        tree.insert(&filter(&at.to_string()), at, 1);
    }
    for at in 0..2_000 {
        tree.remove(&filter(&at.to_string()), at);
    }
    assert_nothing_is_left(&tree);
    assert_eq!((tree.nodes.capacity(), tree.edges.capacity()), (1, 0));
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let mut tree = TestTree::new(1);
    tree.insert(&filter("a/b"), 1, 1);
    for text in ["a", "a/b/c", "a/+", "#", "a/b/#", "+", "$share/g/a/b", "b"] {
        assert_eq!(tree.remove(&filter(text), 1), None);
    }
    assert_eq!(tree.remove(&filter("a/b"), 2), None);
    assert_eq!(matches(&tree, "a/b"), [[(1, 1)]]);
    assert_eq!((tree.len(), tree.nodes.len(), tree.free.len()), (1, 2, 0));
}

/// A chain without branches is one node, so 10 000 filters of 200 levels cost their text and a node
/// each.
#[test]
fn levels_without_a_branch_take_no_nodes() {
    let mut tree = TestTree::new(1);
    let text = |at: u32| filter(&format!("{at}{}", "/a".repeat(199)));
    for at in 0..10_000 {
        tree.insert(&text(at), 1, at);
    }
    assert_eq!((tree.nodes.len(), tree.edges.len()), (10_001, 10_000));
    assert_eq!(matches(&tree, text(77).as_str()), [[(1, 77)]]);
    tree.insert(&filter("77/a/a"), 2, 0);
    assert_eq!(tree.nodes.len(), 10_002, "where a filter ends, the chain is two nodes");
    tree.insert(&filter("77/a/a/b"), 2, 1);
    assert_eq!(tree.nodes.len(), 10_003);
    assert_eq!(tree.remove(&filter("77/a/a"), 2), Some(0));
    assert_eq!(tree.remove(&filter("77/a/a/b"), 2), Some(1));
    assert_eq!(tree.nodes.len() - tree.free.len(), 10_001);
    assert_is_sound(&tree);
}

/// The figures in the comment at the top. Measured with them, in resident bytes for each of a
/// million filters: `site/N/N` 91, `site/N/device/N/temperature` 91, `site/N/+/N/temperature` 91,
/// `site/N/device/N/#` 139. Of 10 000 filters of 200 levels and 403 bytes: 523.
#[test]
fn a_node_is_small() {
    assert_eq!(std::mem::size_of::<Node<(u64, std::sync::Arc<u8>), u64>>(), 80);
    assert_eq!(std::mem::size_of::<Rare<(u64, std::sync::Arc<u8>), u64>>(), 40);
    assert_eq!(std::mem::size_of::<Edge>(), 8);
    assert_eq!(std::mem::size_of::<Text>(), 24);
}

#[test]
fn each_tree_hashes_with_keys_of_its_own() {
    let (one, other) = (TestTree::new(1), TestTree::new(2));
    assert_ne!(one.hash_level(b"a"), other.hash_level(b"a"));
    assert_ne!(one.mix, other.mix);
    assert_eq!(one.hash_level(b"a"), TestTree::new(1).hash_level(b"a"), "replayable");
    let hashes: std::collections::BTreeSet<u32> =
        (0..1_000).map(|parent| one.hash_edge(parent, one.hash_level(b"a"))).collect();
    assert!(hashes.len() > 990, "{} of 1000 differ", hashes.len());
}

thread_local! {
    static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// A key that counts how often it is compared.
#[derive(Debug)]
struct Counted(u64);

impl PartialEq for Counted {
    fn eq(&self, other: &Counted) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        self.0 == other.0
    }
}

impl Eq for Counted {}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A hundred thousand subscribers of one topic come, and leave in whatever order.
#[test]
fn the_cost_of_leaving_does_not_depend_on_how_many_stay() {
    const MANY: u64 = 100_000;
    let keys = RandomState::with_seeds(1, 2, 3, 4);
    for step in [1, MANY - 1, 7_919] {
        let mut list = List::new();
        COMPARED.set(0);
        for key in 0..MANY {
            assert_eq!(list.insert(Counted(key), key, &keys), None);
        }
        for at in 0..MANY {
            let key = at * step % MANY;
            assert_eq!(list.remove(&Counted(key), &keys), Some(key));
        }
        assert!(list.is_empty());
        assert!(COMPARED.get() < 10 * 100_000, "{} comparisons", COMPARED.get());
    }
}
