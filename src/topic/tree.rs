//! The subscription tree: finds the subscriptions that match a Topic Name.
//!
//! Nodes are in an arena. A node stands for one level of the filters, or for several where no
//! filter ends and none branches off: such a chain costs its text, and no node for each level. It is
//! split when a filter branches off inside, and joined again when a removal leaves it unbranched;
//! so each node but the root has a subscription or two children. All edges of the whole tree are in
//! one hash table, keyed by parent and the text of the first level below it. Texts are hashed with a
//! key of the tree's own, so that no client can choose filters that collide.
//!
//! A match ([`search`]) goes down with a stack of nodes that are still to be reached, so it does not
//! recurse: its cost is bounded by the nodes it reaches, whatever else the tree holds.
//!
//! `#` has no node: subscriptions to `a/#` are kept at the node of `a`, separate from subscriptions to
//! `a`.
//!
//! What a subscription costs, for a value of 16 bytes: a node of 80 bytes and an edge of 9 bytes at
//! a load between 7/16 and 7/8, so 90 to 101 bytes for a filter like `a/b/c123456` whose upper
//! levels it has in common with others. Texts up to 22 bytes are kept inside the node, longer ones
//! apart. A filter that branches off inside a chain costs a second node. A filter that ends in `#`
//! costs 48 bytes more. Measured with a million such filters, resident: see the test of the sizes.

use ahash::RandomState;
use hashbrown::HashTable;

use self::list::List;
use self::node::{Group, NONE, Node, Text};
pub(crate) use self::search::Search;
use super::TopicFilter;

mod list;
mod node;
mod search;
mod sorted;
#[cfg(test)]
mod tests;

const ROOT: u32 = 0;
/// Above so many nodes, a tree that has become empty gives its memory back.
const KEEP_NODES: usize = 1_024;

/// Subscriptions by Topic Filter. `V` is the value of a subscription, `G` the state of a shared
/// subscription (made by `Default` with its first member, dropped with its last).
pub(crate) struct Tree<V, G> {
    nodes: Vec<Node<V, G>>,
    /// Nodes that are not in use.
    free: Vec<u32>,
    edges: HashTable<Edge>,
    keys: RandomState,
    /// Keeps the mixing of parent and text as unknown to clients as the hash of the text.
    mix: u64,
    len: usize,
    /// How many of them are shared.
    shared: usize,
}

/// A match of [`Tree::search`].
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
            shared: 0,
        }
    }

    /// How many subscriptions there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many shared subscriptions there are, each member one.
    pub(crate) fn shared_len(&self) -> usize {
        self.shared
    }

    /// Adds the subscription, or replaces the value of the one that `subscriber` has with this
    /// very filter, and returns the old value then. Takes two new nodes at most; linear in the
    /// length of the filter and of the chain that it splits.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, subscriber: u64, value: V) -> Option<V> {
        let (path, multi) = split_multi(filter.filter_str());
        let at = self.find_or_add_node(path);
        let node = &mut self.nodes[at as usize];
        let old = match filter.share_name() {
            None => node.unshared_or_new(multi).insert(subscriber, value),
            Some(share) => {
                let new = || Group { state: G::default(), members: List::new() };
                let group = node.shared_or_new(multi).get_or_insert_with(share, new);
                group.members.insert(subscriber, value, &self.keys)
            }
        };
        if old.is_none() {
            self.len += 1;
            self.shared += usize::from(filter.is_shared());
        }
        old
    }

    /// Removes the subscription and returns its value; `None`, without a change, if it does not exist.
    /// Groups and nodes that become empty are removed, too.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, subscriber: u64) -> Option<V> {
        let (path, multi) = split_multi(filter.filter_str());
        let at = self.find_node(path)?;
        let node = &mut self.nodes[at as usize];
        let removed = match filter.share_name() {
            None => node.unshared_mut(multi)?.remove(subscriber)?,
            Some(share) => {
                let groups = node.shared_mut(multi)?;
                let group = groups.get_mut(share)?;
                let removed = group.members.remove(&subscriber, &self.keys)?;
                if group.members.is_empty() {
                    groups.remove(share);
                }
                removed
            }
        };
        node.tidy();
        self.len -= 1;
        self.shared -= usize::from(filter.is_shared());
        self.prune(at);
        Some(removed)
    }

    /// What the shared group of a shared subscription's filter has of its own, while it has members.
    pub(crate) fn group(&mut self, filter: &TopicFilter) -> Option<&G> {
        let (path, multi) = split_multi(filter.filter_str());
        let at = self.find_node(path)?;
        let groups = self.nodes[at as usize].shared_mut(multi)?;
        groups.get_mut(filter.share_name()?).map(|group| &group.state)
    }

    /// The node at which the filter ends whose levels above `#` are these.
    fn find_node(&self, path: Option<&[u8]>) -> Option<u32> {
        let (mut at, mut rest) = (ROOT, path);
        while let Some(text) = rest {
            at = self.find_child(at, first_level(text));
            let node = self.nodes.get(at as usize)?;
            rest = match text.strip_prefix(node.text.as_bytes())? {
                [] => None,
                [b'/', below @ ..] => Some(below),
                _ => return None,
            };
        }
        Some(at)
    }

    /// As [`Tree::find_node`], and makes it if there is none.
    fn find_or_add_node(&mut self, path: Option<&[u8]>) -> u32 {
        let (mut at, mut rest) = (ROOT, path);
        while let Some(text) = rest {
            let child = self.find_child(at, first_level(text));
            if child == NONE {
                return self.add_child(at, text);
            }
            let own = self.nodes[child as usize].text.as_bytes();
            let common = common_levels(own, text);
            at = if common < own.len() { self.split(child, common) } else { child };
            rest = text.get(common + 1..);
        }
        at
    }

    /// The child whose first level is this one of a filter, or [`NONE`].
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
}

impl<V, G> Tree<V, G> {
    fn find_edge(&self, parent: u32, level: &[u8], hash: u64) -> u32 {
        let hash = self.hash_edge(parent, hash);
        let found = self.edges.find(spread(hash), |edge| {
            edge.hash == hash && {
                let node = &self.nodes[edge.node as usize];
                node.parent == parent && begins_with(node.text.as_bytes(), level)
            }
        });
        found.map_or(NONE, |edge| edge.node)
    }

    fn add_child(&mut self, parent: u32, text: &[u8]) -> u32 {
        let node = Node::new(text, parent);
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
        self.attach(parent, id);
        id
    }

    /// Takes the node out of the arena. It has no parent and no children any more.
    fn free(&mut self, id: u32) -> Node<V, G> {
        self.free.push(id);
        std::mem::replace(&mut self.nodes[id as usize], Node::new(b"", NONE))
    }

    /// Makes an edge, or the one for `+`, from `parent` to `child`.
    fn attach(&mut self, parent: u32, child: u32) {
        self.nodes[child as usize].parent = parent;
        let level = first_level(self.nodes[child as usize].text.as_bytes());
        if level == b"+" {
            self.nodes[parent as usize].plus = child;
            return;
        }
        let hash = self.hash_edge(parent, self.hash_level(level));
        let edge = Edge { hash, node: child };
        self.edges.insert_unique(spread(hash), edge, |edge| spread(edge.hash));
        let parent = &mut self.nodes[parent as usize];
        parent.children += 1;
        parent.children_xor ^= child;
    }

    /// Removes the edge that leads to `child` and returns its parent.
    fn detach(&mut self, child: u32) -> u32 {
        let id = self.nodes[child as usize].parent;
        if self.nodes[id as usize].plus == child {
            self.nodes[id as usize].plus = NONE;
            return id;
        }
        let level = first_level(self.nodes[child as usize].text.as_bytes());
        let hash = self.hash_edge(id, self.hash_level(level));
        if let Ok(edge) = self.edges.find_entry(spread(hash), |edge| edge.node == child) {
            edge.remove();
        }
        let parent = &mut self.nodes[id as usize];
        parent.children -= 1;
        parent.children_xor ^= child;
        id
    }

    /// Makes two nodes of the chain `lower`: a new one with what comes before the separator `at`,
    /// which is returned, and below it the old one with the rest and all it has.
    fn split(&mut self, lower: u32, at: usize) -> u32 {
        let parent = self.detach(lower);
        let text = std::mem::replace(&mut self.nodes[lower as usize].text, Text::new(b""));
        let (above, below) = text.as_bytes().split_at(at);
        let upper = self.add_child(parent, above);
        self.nodes[lower as usize].text = Text::new(below.get(1..).unwrap_or_default());
        self.attach(upper, lower);
        upper
    }

    /// Undoes a split if no filter ends and none branches off where the two parts meet.
    fn join(&mut self, upper: u32) {
        let node = &self.nodes[upper as usize];
        if upper == ROOT || !node.is_vacant() {
            return;
        }
        let Some(lower) = node.only_child() else { return };
        self.detach(lower);
        let parent = self.detach(upper);
        let upper = self.free(upper);
        let lower_node = &mut self.nodes[lower as usize];
        lower_node.text = Text::joined(&upper.text, &lower_node.text);
        self.attach(parent, lower);
    }

    /// After a removal: frees the node if it has neither subscriptions nor children, or joins the
    /// chain that is left.
    fn prune(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        if at != ROOT && node.is_vacant() && node.is_leaf() {
            let parent = self.detach(at);
            self.free(at);
            self.join(parent);
        } else {
            self.join(at);
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

/// The levels above a final `#` (none for `#` itself), and whether there is one.
fn split_multi(filter: &str) -> (Option<&[u8]>, bool) {
    match filter.strip_suffix('#') {
        Some(above) => (above.strip_suffix('/').map(str::as_bytes), true),
        None => (Some(filter.as_bytes()), false),
    }
}

fn first_level(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Whether the first level of `text` is `level`.
fn begins_with(text: &[u8], level: &[u8]) -> bool {
    text.strip_prefix(level).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// How long the levels are that two texts begin with in common. The first levels are the same.
fn common_levels(one: &[u8], other: &[u8]) -> usize {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let ends = |text: &[u8]| matches!(text.get(same), None | Some(b'/'));
    if ends(one) && ends(other) {
        return same;
    }
    one[..same].iter().rposition(|&byte| byte == b'/').unwrap_or(same)
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
