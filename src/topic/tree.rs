//! The subscription tree: which subscriptions a Topic Name matches.
//!
//! One node per level of the filters, in an arena; all edges of the whole tree are in one hash
//! table, keyed by parent and text. A match goes down level by level with the set of nodes reached
//! so far, so it neither recurses nor looks at a level twice: its cost is bounded by the nodes it
//! reaches, whatever else the tree holds. Texts are hashed with a key of the tree's own, so that
//! no client can choose filters that collide.
//!
//! `#` has no node: what subscribes to `a/#` is kept at the node of `a`, apart from what subscribes
//! to `a`.
//!
//! What a subscription costs, for a value of 16 bytes: a node of 80 bytes and an edge of 9 bytes at
//! a load between 7/16 and 7/8, so 90 to 101 bytes for a filter like `a/b/c123456` whose upper
//! levels it has in common with others. Levels up to 22 bytes are kept inside the node. A filter
//! that ends in `#` costs 48 bytes more. Measured with a million such filters, resident: see the
//! test of the sizes.

use ahash::RandomState;
use hashbrown::HashTable;

use self::list::List;
use super::{TopicFilter, is_reserved, split_levels};

mod list;
#[cfg(test)]
mod tests;

const ROOT: u32 = 0;
/// No node has this id: a node takes 80 bytes, so so many do not fit into any memory.
const NONE: u32 = u32::MAX;
/// Above so many nodes, a tree that has become empty gives its memory back.
const KEEP_NODES: usize = 1_024;

/// Subscriptions by Topic Filter. `V` is what a subscription carries, `G` what a shared group has
/// of its own (made by `Default` with its first member, gone with its last).
pub(crate) struct Tree<V, G> {
    nodes: Vec<Node<V, G>>,
    /// Nodes that are not in use.
    free: Vec<u32>,
    edges: HashTable<Edge>,
    keys: RandomState,
    /// Keeps the mixing of parent and text as unknown to clients as the hash of the text.
    mix: u64,
    len: usize,
}

/// What [`Tree::for_each_match`] finds.
pub(crate) enum Match<'a, V, G> {
    /// A subscription that is not shared. A subscriber comes once per matching filter.
    Subscription { subscriber: u64, value: &'a V },
    /// A shared subscription, with all its members in no particular order; never empty.
    Shared { group: &'a G, members: &'a [(u64, V)] },
}

/// The hash is kept so that growing does not visit the nodes, and a search only the right one.
struct Edge {
    hash: u32,
    node: u32,
}

struct Node<V, G> {
    text: Level,
    subscribers: Subscribers<V>,
    rare: Option<Box<Rare<V, G>>>,
    parent: u32,
    /// How many edges lead down from here, `+` not counted.
    children: u32,
    /// The child for `+`, or [`NONE`].
    plus: u32,
}

/// What most nodes do not have.
struct Rare<V, G> {
    /// Of `#` below this node.
    multi: Subscribers<V>,
    shared: Option<Box<Shared<V, G>>>,
}

struct Shared<V, G> {
    here: List<Box<str>, Group<V, G>>,
    multi: List<Box<str>, Group<V, G>>,
}

struct Group<V, G> {
    state: G,
    members: List<u64, V>,
}

/// Most filters have one subscriber.
enum Subscribers<V> {
    None,
    One(u64, V),
    Many(Box<List<u64, V>>),
}

/// The text of one level. Short ones need no allocation of their own.
enum Level {
    Short { len: u8, bytes: [u8; Level::SHORT] },
    Long(Box<[u8]>),
}

impl Level {
    const SHORT: usize = 22;

    fn new(text: &[u8]) -> Level {
        let mut bytes = [0; Level::SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(text);
                Level::Short { len, bytes }
            }
            _ => Level::Long(Box::from(text)),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Level::Short { len, bytes } => &bytes[..usize::from(*len)],
            Level::Long(bytes) => bytes,
        }
    }
}

impl<V> Subscribers<V> {
    fn insert(&mut self, subscriber: u64, value: V, keys: &RandomState) -> Option<V> {
        match self {
            Subscribers::None => {
                *self = Subscribers::One(subscriber, value);
                None
            }
            Subscribers::One(only, old) if *only == subscriber => {
                Some(std::mem::replace(old, value))
            }
            Subscribers::One(..) => {
                let mut list = Box::new(List::new());
                if let Subscribers::One(first, its) = std::mem::replace(self, Subscribers::None) {
                    list.insert(first, its, keys);
                }
                list.insert(subscriber, value, keys);
                *self = Subscribers::Many(list);
                None
            }
            Subscribers::Many(list) => list.insert(subscriber, value, keys),
        }
    }

    fn remove(&mut self, subscriber: u64, keys: &RandomState) -> Option<V> {
        match self {
            Subscribers::One(only, _) if *only == subscriber => {
                match std::mem::replace(self, Subscribers::None) {
                    Subscribers::One(_, value) => Some(value),
                    _ => None,
                }
            }
            Subscribers::Many(list) => {
                let removed = list.remove(&subscriber, keys);
                if list.items().len() == 1
                    && let Some((last, value)) = list.pop()
                {
                    *self = Subscribers::One(last, value);
                }
                removed
            }
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Subscribers::None)
    }

    fn visit<G>(&self, visit: &mut impl FnMut(Match<'_, V, G>)) {
        match self {
            Subscribers::None => {}
            Subscribers::One(subscriber, value) => {
                visit(Match::Subscription { subscriber: *subscriber, value });
            }
            Subscribers::Many(list) => {
                for (subscriber, value) in list.items() {
                    visit(Match::Subscription { subscriber: *subscriber, value });
                }
            }
        }
    }
}

impl<V, G> Shared<V, G> {
    fn groups(&mut self, multi: bool) -> &mut List<Box<str>, Group<V, G>> {
        if multi { &mut self.multi } else { &mut self.here }
    }

    fn is_empty(&self) -> bool {
        self.here.items().is_empty() && self.multi.items().is_empty()
    }

    fn visit(groups: &List<Box<str>, Group<V, G>>, visit: &mut impl FnMut(Match<'_, V, G>)) {
        for (_, group) in groups.items() {
            visit(Match::Shared { group: &group.state, members: group.members.items() });
        }
    }
}

impl<V, G> Rare<V, G> {
    fn new() -> Box<Rare<V, G>> {
        Box::new(Rare { multi: Subscribers::None, shared: None })
    }
}

impl<V, G> Node<V, G> {
    fn new(text: &[u8], parent: u32) -> Node<V, G> {
        Node {
            text: Level::new(text),
            subscribers: Subscribers::None,
            rare: None,
            parent,
            children: 0,
            plus: NONE,
        }
    }

    /// Whether it is there for nothing.
    fn is_bare(&self) -> bool {
        self.children == 0
            && self.plus == NONE
            && self.subscribers.is_empty()
            && self.rare.is_none()
    }

    /// The unshared subscriptions of this node's filter, or of that with `/#` behind it.
    fn unshared(&mut self, multi: bool) -> &mut Subscribers<V> {
        if multi {
            &mut self.rare.get_or_insert_with(Rare::new).multi
        } else {
            &mut self.subscribers
        }
    }

    /// As [`Node::unshared`], the shared ones.
    fn shared(&mut self, multi: bool) -> &mut List<Box<str>, Group<V, G>> {
        let rare = self.rare.get_or_insert_with(Rare::new);
        rare.shared
            .get_or_insert_with(|| Box::new(Shared { here: List::new(), multi: List::new() }))
            .groups(multi)
    }

    /// Gives back what a removal has left empty.
    fn tidy(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        if rare.shared.as_ref().is_some_and(|shared| shared.is_empty()) {
            rare.shared = None;
        }
        if rare.shared.is_none() && rare.multi.is_empty() {
            self.rare = None;
        }
    }

    fn visit_multi(&self, visit: &mut impl FnMut(Match<'_, V, G>)) {
        let Some(rare) = &self.rare else { return };
        rare.multi.visit(visit);
        if let Some(shared) = &rare.shared {
            Shared::visit(&shared.multi, visit);
        }
    }

    fn visit_here(&self, visit: &mut impl FnMut(Match<'_, V, G>)) {
        self.subscribers.visit(visit);
        if let Some(shared) = self.rare.as_ref().and_then(|rare| rare.shared.as_ref()) {
            Shared::visit(&shared.here, visit);
        }
    }
}

impl<V, G: Default> Tree<V, G> {
    /// An empty tree. `seed` has to be unknown to clients.
    pub(crate) fn new(seed: u64) -> Tree<V, G> {
        let mut state = seed;
        let mut next = || split_mix(&mut state);
        let keys = RandomState::with_seeds(next(), next(), next(), next());
        Tree {
            nodes: vec![Node::new(b"", NONE)],
            free: Vec::new(),
            edges: HashTable::new(),
            keys,
            mix: next() | 1,
            len: 0,
        }
    }

    /// How many subscriptions there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds the subscription, or replaces the value of the one that `subscriber` has with this
    /// very filter, and returns the old value then. Takes a node for each new level: callers
    /// bound the levels of a filter and the number of subscriptions.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, subscriber: u64, value: V) -> Option<V> {
        let (path, multi) = split_multi(filter.filter_str());
        let mut at = ROOT;
        for level in path.into_iter().flat_map(split_levels) {
            at = match self.find_child(at, level) {
                NONE => self.add_child(at, level),
                child => child,
            };
        }
        let node = &mut self.nodes[at as usize];
        let old = match filter.share_name() {
            None => node.unshared(multi).insert(subscriber, value, &self.keys),
            Some(share) => node
                .shared(multi)
                .get_or_insert_with(share, &self.keys, || Group {
                    state: G::default(),
                    members: List::new(),
                })
                .members
                .insert(subscriber, value, &self.keys),
        };
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes the subscription and returns its value, or `None` if there is none such. Groups
    /// and nodes that nothing needs any more go with it.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, subscriber: u64) -> Option<V> {
        let (path, multi) = split_multi(filter.filter_str());
        let mut at = ROOT;
        for level in path.into_iter().flat_map(split_levels) {
            at = self.find_child(at, level);
            if at == NONE {
                return None;
            }
        }
        let node = &mut self.nodes[at as usize];
        let removed = match filter.share_name() {
            None => node.unshared(multi).remove(subscriber, &self.keys),
            Some(share) => {
                let groups = node.shared(multi);
                let group = groups.get_mut(share, &self.keys);
                let removed = group.and_then(|group| group.members.remove(&subscriber, &self.keys));
                if groups.get_mut(share, &self.keys).is_some_and(|group| group.members.is_empty()) {
                    groups.remove(share, &self.keys);
                }
                removed
            }
        };
        node.tidy();
        if removed.is_some() {
            self.len -= 1;
            self.prune(at);
        }
        removed
    }

    /// Calls `visit` for each subscription and each shared group that matches `name`, in no
    /// particular order.
    pub(crate) fn for_each_match(&self, name: &str, visit: &mut impl FnMut(Match<'_, V, G>)) {
        let (mut first, mut second) = (Reached::new(), Reached::new());
        let (mut here, mut below) = (&mut first, &mut second);
        here.push(ROOT);
        let mut wildcards = !is_reserved(name); // MQTT-4.7.2-1
        for level in split_levels(name) {
            let hash = self.hash_level(level);
            for &id in here.ids() {
                let node = &self.nodes[id as usize];
                if wildcards {
                    node.visit_multi(visit);
                    if node.plus != NONE {
                        below.push(node.plus);
                    }
                }
                if node.children > 0 {
                    let child = self.find_edge(id, level, hash);
                    if child != NONE {
                        below.push(child);
                    }
                }
            }
            wildcards = true;
            here.clear();
            std::mem::swap(&mut here, &mut below);
            if here.ids().is_empty() {
                return;
            }
        }
        for &id in here.ids() {
            let node = &self.nodes[id as usize];
            node.visit_multi(visit); // `a/#` includes `a`
            node.visit_here(visit);
        }
    }

    /// Goes on with a search. `false` when the steps are used up before all matches were visited.
    pub(crate) fn search(
        &self,
        name: &str,
        _search: &mut Search,
        steps: &mut usize,
        visit: &mut impl FnMut(Match<'_, V, G>),
    ) -> bool {
        *steps = steps.saturating_sub(1);
        self.for_each_match(name, visit);
        true
    }

    /// What the members of a shared subscription have in common, if it has members.
    pub(crate) fn group(&mut self, filter: &TopicFilter) -> Option<&G> {
        let (path, multi) = split_multi(filter.filter_str());
        let mut at = ROOT;
        for level in path.into_iter().flat_map(split_levels) {
            at = self.find_child(at, level);
            if at == NONE {
                return None;
            }
        }
        let rare = self.nodes[at as usize].rare.as_mut()?;
        let group =
            rare.shared.as_mut()?.groups(multi).get_mut(filter.share_name()?, &self.keys)?;
        Some(&group.state)
    }

    /// The child for a level of a filter, or [`NONE`].
    fn find_child(&self, parent: u32, level: &[u8]) -> u32 {
        let node = &self.nodes[parent as usize];
        if level == b"+" {
            return node.plus;
        }
        if node.children == 0 {
            NONE
        } else {
            self.find_edge(parent, level, self.hash_level(level))
        }
    }

    fn find_edge(&self, parent: u32, level: &[u8], hash: u64) -> u32 {
        let hash = self.hash_edge(parent, hash);
        let found = self.edges.find(spread(hash), |edge| {
            edge.hash == hash && {
                let node = &self.nodes[edge.node as usize];
                node.parent == parent && node.text.as_bytes() == level
            }
        });
        found.map_or(NONE, |edge| edge.node)
    }

    fn add_child(&mut self, parent: u32, level: &[u8]) -> u32 {
        let node = Node::new(level, parent);
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
            }
        };
        if level == b"+" {
            self.nodes[parent as usize].plus = id;
        } else {
            let hash = self.hash_edge(parent, self.hash_level(level));
            let edge = Edge { hash, node: id };
            self.edges.insert_unique(spread(hash), edge, |edge| spread(edge.hash));
            self.nodes[parent as usize].children += 1;
        }
        id
    }

    /// Removes the node if it is there for nothing, and then its parent likewise.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT && self.nodes[at as usize].is_bare() {
            let node = std::mem::replace(&mut self.nodes[at as usize], Node::new(b"", NONE));
            self.free.push(at);
            if self.nodes[node.parent as usize].plus == at {
                self.nodes[node.parent as usize].plus = NONE;
            } else {
                let hash = self.hash_edge(node.parent, self.hash_level(node.text.as_bytes()));
                if let Ok(edge) = self.edges.find_entry(spread(hash), |edge| edge.node == at) {
                    edge.remove();
                }
                self.nodes[node.parent as usize].children -= 1;
            }
            at = node.parent;
        }
        if self.len == 0 && self.nodes.len() > KEEP_NODES {
            self.nodes.truncate(1);
            self.nodes.shrink_to_fit();
            self.free = Vec::new();
            self.edges = HashTable::new();
        }
    }

    fn hash_level(&self, level: &[u8]) -> u64 {
        self.keys.hash_one(level)
    }

    /// Mixes the parent into the hash of a text, which is made once for all parents.
    fn hash_edge(&self, parent: u32, level: u64) -> u32 {
        let parent = u64::from(parent).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (level ^ parent).wrapping_mul(self.mix);
        fold(mixed ^ mixed.rotate_right(29))
    }
}

/// Where a search stands.
#[derive(Debug, Default)]
pub(crate) struct Search;

impl Search {
    pub(crate) fn new() -> Search {
        Search
    }
}

/// The nodes that the levels seen so far lead to. Few, as a rule: then there is no allocation.
struct Reached {
    few: [u32; Reached::FEW],
    len: usize,
    many: Vec<u32>,
}

impl Reached {
    const FEW: usize = 16;

    fn new() -> Reached {
        Reached { few: [NONE; Reached::FEW], len: 0, many: Vec::new() }
    }

    fn push(&mut self, id: u32) {
        if let (true, Some(slot)) = (self.many.is_empty(), self.few.get_mut(self.len)) {
            *slot = id;
            self.len += 1;
            return;
        }
        if self.many.is_empty() {
            self.many.extend_from_slice(&self.few);
        }
        self.many.push(id);
    }

    fn ids(&self) -> &[u32] {
        if self.many.is_empty() { &self.few[..self.len] } else { &self.many }
    }

    fn clear(&mut self) {
        self.len = 0;
        self.many.clear();
    }
}

/// The levels above a final `#` (none for `#` itself), and whether there is one.
fn split_multi(filter: &str) -> (Option<&str>, bool) {
    match filter.strip_suffix('#') {
        Some(above) => (above.strip_suffix('/'), true),
        None => (Some(filter), false),
    }
}

/// The table takes a slot by the low bits and a tag from the high ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Both halves in one.
fn fold(hash: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h])
}

/// Numbers without a pattern from a counter (`SplitMix64`).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
