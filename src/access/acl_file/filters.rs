//! Sets of Topic Filters that find those which match, cover or overlap what is asked for, in steps that depend on
//! its levels and on the filters near it, not on all filters.

use std::collections::BTreeMap;

use crate::topic;

/// A Topic Name or Topic Filter by levels, without `#` at the end.
#[derive(Debug, Clone)]
pub(super) struct Levels<'a> {
    levels: Vec<&'a [u8]>,
    /// Whether it goes on with any number of levels, also none.
    open: bool,
}

/// A level of what is asked for.
enum Level<'a> {
    Text(&'a [u8]),
    /// `+`
    One,
    /// `#`
    Rest,
    End,
}

impl<'a> Levels<'a> {
    pub(super) fn new(text: &'a str) -> Levels<'a> {
        // The first level of a Topic Name is always there, so `#` and `+/#` are the same.
        let text = if text == "#" { "+/#" } else { text };
        match text.strip_suffix("/#") {
            Some(above) => Levels { levels: topic::split_levels(above).collect(), open: true },
            None => Levels { levels: topic::split_levels(text).collect(), open: false },
        }
    }

    fn get(&self, at: usize) -> Level<'a> {
        match self.levels.get(at).copied() {
            Some(b"+") => Level::One,
            Some(text) => Level::Text(text),
            None if self.open => Level::Rest,
            None => Level::End,
        }
    }

    /// Whether wildcards in the first level are of no use (MQTT-4.7.2-1).
    fn is_reserved(&self) -> bool {
        self.levels.first().is_some_and(|level| level.starts_with(b"$"))
    }

    /// What both this filter and a rule's filter match. They overlap.
    pub(super) fn meet(&self, rule: &'a str, client: &Client<'a>) -> Levels<'a> {
        let given = Levels::new(rule);
        let mut levels = Vec::with_capacity(given.levels.len().max(self.levels.len()));
        for level in given.levels {
            match level {
                b"%c" if client.of_pattern => levels.extend_from_slice(&client.id),
                b"%u" if client.of_pattern => {
                    levels.extend_from_slice(client.user.as_deref().unwrap_or(&[]));
                }
                level => levels.push(level),
            }
        }
        for (at, level) in self.levels.iter().enumerate() {
            match levels.get_mut(at) {
                Some(of_rule) if *of_rule == b"+" => *of_rule = level,
                Some(_) => {}
                None => levels.push(level),
            }
        }
        Levels { levels, open: self.open && given.open }
    }
}

/// What `%c` and `%u` stand for.
#[derive(Debug)]
pub(super) struct Client<'a> {
    id: Vec<&'a [u8]>,
    user: Option<Vec<&'a [u8]>>,
    /// Whether the rules are patterns; elsewhere `%c` and `%u` stand for themselves.
    of_pattern: bool,
}

impl<'a> Client<'a> {
    /// A Client for whose own rules nothing is put in.
    pub(super) const fn plain() -> Client<'a> {
        Client { id: Vec::new(), user: None, of_pattern: false }
    }

    /// A Client that is put into patterns. Its names become literal levels, as many as they have (pitfall 8).
    pub(super) fn of_pattern(id: &'a str, user: Option<&'a str>) -> Client<'a> {
        let levels = |text| topic::split_levels(text).collect();
        Client { id: levels(id), user: user.map(levels), of_pattern: true }
    }
}

/// Which use of a topic a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

/// The numbers of the first rules for each use.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    read: Option<u32>,
    write: Option<u32>,
}

impl Rules {
    fn get(self, wanted: Use) -> Option<u32> {
        match wanted {
            Use::Read => self.read,
            Use::Write => self.write,
        }
    }

    fn add(&mut self, rule: u32, uses: &[Use]) {
        for wanted in uses {
            let place = match wanted {
                Use::Read => &mut self.read,
                Use::Write => &mut self.write,
            };
            *place = first(*place, Some(rule));
        }
    }
}

fn first(one: Option<u32>, two: Option<u32>) -> Option<u32> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    }
}

/// The filters of rules as a tree of levels.
#[derive(Debug, Default)]
pub(super) struct FilterSet {
    /// The first is the root, if there is any filter.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    texts: BTreeMap<Box<[u8]>, usize>,
    /// Behind `+`.
    one: Option<usize>,
    /// Behind `%c` in a pattern.
    client: Option<usize>,
    /// Behind `%u` in a pattern.
    user: Option<usize>,
    /// Filters that end here.
    end: Rules,
    /// Filters that go on with `#`.
    rest: Rules,
}

impl FilterSet {
    /// Adds the filter of a rule. In patterns `%c` and `%u` are levels of their own kind.
    pub(super) fn insert(&mut self, filter: &str, pattern: bool, rule: u32, uses: &[Use]) {
        let mut at = 0;
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        for level in topic::split_levels(filter) {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            let child = match level {
                b"#" => return node.rest.add(rule, uses),
                b"+" => *node.one.get_or_insert(next),
                b"%c" if pattern => *node.client.get_or_insert(next),
                b"%u" if pattern => *node.user.get_or_insert(next),
                text => match node.texts.get(text) {
                    Some(child) => *child,
                    None => *node.texts.entry(text.into()).or_insert(next),
                },
            };
            if child == next {
                self.nodes.push(Node::default());
            }
            at = child;
        }
        self.nodes[at].end.add(rule, uses);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The first rule whose filter matches everything that `asked` matches: for a Topic Name, that matches it.
    /// Each node is visited at most once.
    pub(super) fn covering(
        &self,
        asked: &Levels<'_>,
        client: &Client<'_>,
        wanted: Use,
    ) -> Option<u32> {
        let mut found = None;
        let mut open = vec![(0, 0)];
        while let Some((node, at)) = open.pop() {
            let Some(node) = self.nodes.get(node) else { continue };
            let reserved = at == 0 && asked.is_reserved();
            if !reserved {
                found = first(found, node.rest.get(wanted));
                open.extend(node.one.filter(|_| asked.has(at)).map(|one| (one, at + 1)));
            }
            match asked.get(at) {
                Level::Text(text) => {
                    open.extend(node.texts.get(text).map(|child| (*child, at + 1)));
                }
                Level::End => found = first(found, node.end.get(wanted)),
                Level::One | Level::Rest => {}
            }
            for (child, levels) in node.names(at, client) {
                let literal = asked.levels.get(at..at + levels.len());
                open.extend(
                    literal.filter(|given| *given == levels).map(|_| (child, at + levels.len())),
                );
            }
        }
        found
    }

    /// Calls `found` with each rule whose filter matches something that `asked` matches, until it returns true, which
    /// is then the answer. Each node is visited at most once.
    pub(super) fn any_overlapping(
        &self,
        asked: &Levels<'_>,
        client: &Client<'_>,
        wanted: Use,
        mut found: impl FnMut(u32) -> bool,
    ) -> bool {
        // Beyond its levels an open filter matches everything.
        let beyond = asked.levels.len();
        let mut open = vec![(0, 0)];
        while let Some((node, at)) = open.pop() {
            let Some(node) = self.nodes.get(node) else { continue };
            let reserved = at == 0 && asked.is_reserved();
            if !reserved && node.rest.get(wanted).is_some_and(&mut found) {
                return true;
            }
            let next = if at < beyond { at + 1 } else { at };
            match asked.get(at) {
                Level::End => {
                    if node.end.get(wanted).is_some_and(&mut found) {
                        return true;
                    }
                    continue;
                }
                Level::Rest => {
                    if node.end.get(wanted).is_some_and(&mut found) {
                        return true;
                    }
                    open.extend(node.texts.values().map(|child| (*child, next)));
                }
                Level::One => {
                    // A wildcard in the first level passes `$` by.
                    let seen =
                        node.texts.iter().filter(|(text, _)| at > 0 || !text.starts_with(b"$"));
                    open.extend(seen.map(|(_, child)| (*child, next)));
                }
                Level::Text(text) => {
                    open.extend(node.texts.get(text).map(|child| (*child, next)));
                }
            }
            open.extend(node.one.filter(|_| !reserved).map(|one| (one, next)));
            for (child, levels) in node.names(at, client) {
                if !reserved && asked.overlap(at, levels) {
                    open.push((child, (at + levels.len()).min(beyond)));
                }
            }
        }
        false
    }
}

impl Node {
    /// The nodes behind the names of the Client, and the levels that these are. A name does not become the first
    /// level with `$`: the filter as it is written does not begin with it.
    fn names<'a>(
        &self,
        at: usize,
        client: &'a Client<'_>,
    ) -> impl Iterator<Item = (usize, &'a [&'a [u8]])> {
        let user = client.user.as_deref().unwrap_or(&[]);
        [(self.client, client.id.as_slice()), (self.user, user)]
            .into_iter()
            .filter_map(|(child, levels)| Some((child?, levels)))
            .filter(move |(_, levels)| match levels.first() {
                None => false,
                Some(level) => at > 0 || !level.starts_with(b"$"),
            })
    }
}

impl Levels<'_> {
    fn has(&self, at: usize) -> bool {
        at < self.levels.len()
    }

    /// Whether these literal levels, from this place on, are matched.
    fn overlap(&self, at: usize, levels: &[&[u8]]) -> bool {
        levels.iter().enumerate().all(|(more, level)| match self.get(at + more) {
            Level::Text(text) => text == *level,
            Level::One | Level::Rest => true,
            Level::End => false,
        })
    }
}
