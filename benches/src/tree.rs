//! The subscription tree: filling, matching and changing it, at sizes that do not fit into a cache.

use std::any::Any;
use std::hint::black_box;

use super::{Operation, Scale};
use crate::packet::SubscriptionOptions;
use crate::subscription::{ShareGroup, Subscription};
use crate::topic::TopicFilter;
use crate::topic::tree::{Match, Search, Tree};

/// As large as what the broker keeps: a pointer and a subscription.
type Value = (u64, Subscription);
type Subscriptions = Tree<Value, ShareGroup>;

/// Topics matched, or filters changed, in one run.
const BATCH: usize = 256;
/// Topics that are matched by turns, so that not the same few nodes are looked at again and again.
const TOPICS: usize = 65_536;
/// Members of a shared subscription.
const MEMBERS: u64 = 4;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Exact,
    /// As exact, with the upper levels in common with others.
    Last,
    Plus,
    Multi,
    Shared,
    /// As many levels as the default limit allows, of which none branches but the first.
    Deep,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Exact => "exact",
            Kind::Last => "last",
            Kind::Plus => "plus",
            Kind::Multi => "multi",
            Kind::Shared => "shared",
            Kind::Deep => "deep",
        }
    }

    /// The filter that matches topic `number` and no other one.
    fn filter(self, number: usize) -> TopicFilter {
        let site = number / 1_000;
        let text = match self {
            Kind::Exact => topic(number),
            Kind::Last => format!("site/{site}/{number}"),
            Kind::Plus => format!("site/{site}/+/{number}/temperature"),
            Kind::Multi => format!("site/{site}/device/{number}/#"),
            Kind::Shared => format!("$share/workers/{}", topic(number)),
            Kind::Deep => deep(number),
        };
        TopicFilter::new(&text).expect("a Topic Filter")
    }
}

fn topic(number: usize) -> String {
    format!("site/{}/device/{number}/temperature", number / 1_000)
}

fn deep(number: usize) -> String {
    format!("{number}{}", "/a".repeat(199))
}

pub(super) fn operations(scale: Scale) -> Vec<Operation> {
    let mut all = Vec::new();
    for size in scale.sizes(&[1_000, 100_000, 1_000_000]) {
        all.push(fill(size));
        for kind in [Kind::Exact, Kind::Plus, Kind::Multi] {
            all.push(match_one(kind, size));
            all.push(change(kind, size));
        }
        all.push(match_none(size));
    }
    for size in scale.sizes(&[1_000, 100_000]) {
        all.push(match_one(Kind::Shared, size));
        all.push(change(Kind::Shared, size));
    }
    for size in scale.sizes(&[10_000]) {
        all.push(match_deep(size));
        all.push(change(Kind::Deep, size));
    }
    for steps in [usize::MAX, 1_000] {
        all.push(match_overlapping(steps));
    }
    all
}

/// A tree to be weighed, without what it was filled from.
pub(super) fn weigh(kind: &str, size: usize) -> Box<dyn Any> {
    let kinds = [Kind::Exact, Kind::Last, Kind::Plus, Kind::Multi, Kind::Deep];
    let kind = kinds.into_iter().find(|one| one.name() == kind).expect("a kind");
    let tree = tree(kind, size);
    assert_eq!(tree.len(), size);
    Box::new(tree)
}

fn value() -> Value {
    (0, Subscription { options: SubscriptionOptions::default(), id: None })
}

fn tree(kind: Kind, size: usize) -> Subscriptions {
    let mut tree = Tree::new(42);
    let members = if matches!(kind, Kind::Shared) { MEMBERS } else { 1 };
    for number in 0..size {
        for member in 0..members {
            tree.insert(&kind.filter(number), number as u64 + member, value());
        }
    }
    tree
}

/// Topics of the tree in an order without a pattern.
fn topics(size: usize) -> Vec<String> {
    let mut state = 1_usize;
    (0..TOPICS)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            topic((state >> 33) % size)
        })
        .collect()
}

fn matches(tree: &Subscriptions, topic: &str) -> usize {
    matches_in_slices(tree, topic, usize::MAX)
}

/// Goes on with the search as often as needed, with so many steps each time.
fn matches_in_slices(tree: &Subscriptions, topic: &str, steps: usize) -> usize {
    let (mut found, mut search) = (0, Search::new());
    let mut visit = |matching: Match<'_, Value, ShareGroup>| {
        found += match matching {
            Match::Subscription { subscriber, value } => {
                usize::from(black_box((subscriber, value)).1.1.id.is_none())
            }
            Match::Shared { members, .. } => black_box(members).len(),
        };
    };
    while !tree.search(black_box(topic), &mut search, &mut black_box(steps), &mut visit) {}
    found
}

fn match_one(kind: Kind, size: usize) -> Operation {
    let members = if matches!(kind, Kind::Shared) { 4 } else { 1 };
    let name = format!("match-{}/{size}", kind.name());
    Operation::new("tree", name, BATCH as u64, BATCH * members, move || {
        let (tree, topics) = (tree(kind, size), topics(size));
        let mut at = 0;
        move || {
            at = (at + BATCH) % TOPICS;
            topics.iter().skip(at).take(BATCH).map(|topic| matches(&tree, topic)).sum()
        }
    })
}

fn match_none(size: usize) -> Operation {
    Operation::new("tree", format!("match-none/{size}"), BATCH as u64, 0, move || {
        let tree = tree(Kind::Exact, size);
        let topics: Vec<String> =
            topics(size).into_iter().map(|topic| topic.replace("temp", "press")).collect();
        let mut at = 0;
        move || {
            at = (at + BATCH) % TOPICS;
            topics.iter().skip(at).take(BATCH).map(|topic| matches(&tree, topic)).sum()
        }
    })
}

fn match_deep(size: usize) -> Operation {
    Operation::new("tree", format!("match-deep/{size}"), BATCH as u64, BATCH, move || {
        let tree = tree(Kind::Deep, size);
        let topics: Vec<String> = (0..size).map(deep).collect();
        let mut at = 0;
        move || {
            at += 7_919;
            let topics = topics.iter().cycle().skip(at % size).take(BATCH);
            topics.map(|topic| matches(&tree, topic)).sum()
        }
    })
}

/// Every way to put `+` for levels of a topic: all match, and all share their nodes.
/// In one go, or with so many steps at a time.
fn match_overlapping(steps: usize) -> Operation {
    const LEVELS: usize = 13;
    const FILTERS: usize = 1 << LEVELS;
    let slices = if steps == usize::MAX { "" } else { "-in-slices" };
    let name = format!("match-overlapping{slices}/{FILTERS}");
    Operation::new("tree", name, FILTERS as u64, FILTERS, move || {
        let mut tree = Tree::new(42);
        for ways in 0..FILTERS {
            let level = |at: usize| if ways >> at & 1 == 0 { "level" } else { "+" };
            let levels: Vec<&str> = (0..LEVELS).map(level).collect();
            let filter = TopicFilter::new(&levels.join("/")).expect("a Topic Filter");
            tree.insert(&filter, 1, value());
        }
        let topic = ["level"; LEVELS].join("/");
        move || matches_in_slices(&tree, &topic, steps)
    })
}

/// Adds filters to a tree that has many and removes them again.
fn change(kind: Kind, size: usize) -> Operation {
    let name = format!("insert-and-remove-{}/{size}", kind.name());
    Operation::new("tree", name, BATCH as u64, size_with(kind, size), move || {
        let mut tree = tree(kind, size);
        let more: Vec<TopicFilter> = (size..size + BATCH).map(|n| kind.filter(n)).collect();
        move || {
            for filter in black_box(&more) {
                tree.insert(filter, 1, value());
            }
            for filter in black_box(&more) {
                tree.remove(filter, 1);
            }
            tree.len()
        }
    })
}

fn size_with(kind: Kind, size: usize) -> usize {
    if matches!(kind, Kind::Shared) { size * 4 } else { size }
}

/// Fills an empty tree, and drops it.
fn fill(size: usize) -> Operation {
    Operation::new("tree", format!("fill-exact/{size}"), size as u64, size, move || {
        let filters: Vec<TopicFilter> = (0..size).map(|n| Kind::Exact.filter(n)).collect();
        move || {
            let mut tree = Subscriptions::new(42);
            for filter in black_box(&filters) {
                tree.insert(filter, 1, value());
            }
            tree.len()
        }
    })
}
