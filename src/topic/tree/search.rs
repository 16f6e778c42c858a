//! The search for the subscriptions that match a Topic Name, which may pause at any step and resume later.
//!
//! The filters that match a name differ in whether they have the name's own text or `+` for a level,
//! and in where they end. The search visits them in the order of these choices: what ends at a node
//! comes before what is below it, the own text before `+`; at a node `#` before the node's own
//! filter, unshared before shared subscriptions, and these in the order of their keys. So the filter
//! and the key that were reached tell where a paused search stands. They say nothing of nodes, which
//! may be split, joined, freed and used again before it resumes.

use std::ops::ControlFlow;

use super::node::{NONE, Node, Subscribers};
use super::{Match, ROOT, Tree};
use crate::topic::is_reserved;

#[cfg(test)]
mod tests;

/// So many bytes are compared, hashed or copied in one step.
const STEP_BYTES: usize = 32;

/// Where a search stands: at the beginning, or where it paused. A value of its own, which stays
/// meaningful when the tree changes. Allocates nothing unless it pauses.
#[derive(Debug, Default)]
pub(crate) struct Search {
    paused: Option<Box<Paused>>,
}

#[derive(Debug)]
struct Paused {
    path: Path,
    spot: Spot<Box<str>>,
}

/// A filter's choices: for each level whether it has `+`. From the last level to the first, so that
/// it can be told from the node upwards.
#[derive(Debug, Default)]
struct Path {
    bits: Vec<u64>,
    len: usize,
}

/// What was visited of the subscriptions kept at a node.
#[derive(Debug, Clone, Copy)]
enum Spot<S> {
    Nothing,
    /// All up to this subscriber.
    Subscriber(List, u64),
    /// All up to this Share Name.
    Group(List, S),
}

/// The lists of a node, in the order in which they are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    Multi,
    MultiShared,
    Here,
    HereShared,
}

/// A node that matches the levels of the name before `at`, `depth` in number. The name is at its end
/// if `at` is past its last byte.
#[derive(Clone, Copy)]
struct Way {
    node: u32,
    depth: u32,
    at: usize,
}

/// A level of the name.
#[derive(Clone, Copy)]
struct Level {
    /// Where the next level begins: past the separator. Nothing is known yet if it is 0.
    next: usize,
    hash: u64,
}

/// What one call works with.
struct Walk<'a, V, G> {
    tree: &'a Tree<V, G>,
    name: &'a [u8],
    reserved: bool,
    /// The first levels, so that each is hashed once however many nodes it is compared with.
    levels: [Level; FEW],
    /// Nodes for `+` that are still to be reached, as if their first level were all they have.
    pending: Stack,
}

/// Nodes still to be reached, the next one last. Few, as a rule: then there is no allocation.
struct Stack {
    few: [Way; FEW],
    len: usize,
    many: Vec<Way>,
}

const FEW: usize = 16;

impl Search {
    /// A search that has not begun.
    pub(crate) fn new() -> Search {
        Search::default()
    }
}

impl<V, G> Tree<V, G> {
    /// Goes on with a search for what matches `name`, which is the same in every call. Returns
    /// whether all was visited; else `steps` are used up, and the next call resumes.
    ///
    /// A step is spent for each node reached, each match visited and each 32 bytes compared. What
    /// one node takes is spent at once, so the last one may cost more than was left. To go on is
    /// linear in the length of the name and spends steps, too, but half of those given at most.
    ///
    /// A subscription that stays in the tree from the first call to the last is visited exactly
    /// once, one that was added or removed meanwhile at most once for each time that it was added.
    pub(crate) fn search(
        &self,
        name: &str,
        search: &mut Search,
        steps: &mut usize,
        visit: &mut impl FnMut(Match<'_, V, G>),
    ) -> bool {
        if *steps == 0 {
            return false;
        }
        let mut walk = Walk::new(self, name);
        let paused = search.paused.take();
        let (mut way, mut spot) = match &paused {
            None => (Some(Way { node: ROOT, depth: 0, at: 0 }), Spot::Nothing),
            Some(paused) => walk.take_up(paused, steps),
        };
        loop {
            let Some(here) = way else {
                let Some(plus) = walk.pending.pop() else { return true };
                if *steps == 0 {
                    search.pause(self.path_of(plus.node), Spot::Nothing);
                    return false;
                }
                way = walk.enter(plus, 1, steps);
                continue;
            };
            let node = walk.node(here);
            let is_at_end = walk.is_at_end(here);
            if *steps == 0 {
                search.pause(self.path_of(here.node), spot);
                return false;
            }
            if node.rare.is_some() || is_at_end {
                let mut visitor = Visitor { node, spot, steps: &mut *steps, visit };
                let multi = walk.admits_wildcards(here);
                if visitor.all(multi, is_at_end).is_break() {
                    search.pause(self.path_of(here.node), visitor.spot);
                    return false;
                }
            }
            spot = Spot::Nothing;
            way = if is_at_end { None } else { walk.descend(here, steps) };
        }
    }

    fn path_of(&self, node: u32) -> Path {
        let (mut path, mut at) = (Path::default(), node);
        while at != ROOT {
            let node = &self.nodes[at as usize];
            for level in node.text.as_bytes().rsplit(|&byte| byte == b'/') {
                path.push(level == b"+");
            }
            at = node.parent;
        }
        path
    }
}

impl Search {
    fn pause(&mut self, path: Path, spot: Spot<&str>) {
        let spot = match spot {
            Spot::Nothing => Spot::Nothing,
            Spot::Subscriber(list, last) => Spot::Subscriber(list, last),
            Spot::Group(list, last) => Spot::Group(list, last.into()),
        };
        self.paused = Some(Box::new(Paused { path, spot }));
    }
}

impl<'a, V, G> Walk<'a, V, G> {
    fn new(tree: &'a Tree<V, G>, name: &'a str) -> Walk<'a, V, G> {
        Walk {
            tree,
            name: name.as_bytes(),
            reserved: is_reserved(name),
            levels: [Level { next: 0, hash: 0 }; FEW],
            pending: Stack {
                few: [Way { node: ROOT, depth: 0, at: 0 }; FEW],
                len: 0,
                many: Vec::new(),
            },
        }
    }

    fn node(&self, way: Way) -> &'a Node<V, G> {
        &self.tree.nodes[way.node as usize]
    }

    /// Whether a wildcard may stand for the next level.
    fn admits_wildcards(&self, way: Way) -> bool {
        way.node != ROOT || !self.reserved // MQTT-4.7.2-1
    }

    /// Whether the name has no further level.
    fn is_at_end(&self, way: Way) -> bool {
        way.at > self.name.len()
    }

    /// The level of the name that comes next. There is one.
    #[inline(always)]
    fn level(&mut self, way: Way, steps: &mut usize) -> Level {
        let level = match self.levels.get(way.depth as usize) {
            Some(level) if level.next != 0 => *level,
            _ => self.find_level(way),
        };
        spend(steps, (level.next - way.at) / STEP_BYTES);
        level
    }

    #[cold]
    fn find_level(&mut self, way: Way) -> Level {
        let rest = &self.name[way.at..];
        let len = level_len(rest);
        let level = Level { next: way.at + len + 1, hash: self.tree.hash_level(&rest[..len]) };
        if let Some(known) = self.levels.get_mut(way.depth as usize) {
            *known = level;
        }
        level
    }

    /// Goes down by the name's own text, and keeps the way by `+` for later. The name has a further
    /// level.
    #[inline(always)]
    fn descend(&mut self, here: Way, steps: &mut usize) -> Option<Way> {
        let node = self.node(here);
        if node.is_leaf() {
            return None;
        }
        let level = self.level(here, steps);
        let below = Way { node: node.plus, depth: here.depth + 1, at: level.next };
        if node.plus != NONE && self.admits_wildcards(here) {
            self.pending.push(below);
        }
        let (child, len) = self.find_literal(here, level)?;
        self.enter(Way { node: child, ..below }, len, steps)
    }

    /// The child for the name's own text, and the length of that text.
    fn find_literal(&self, here: Way, level: Level) -> Option<(u32, usize)> {
        if self.node(here).children == 0 {
            return None;
        }
        let text = &self.name[here.at..level.next - 1];
        let child = self.tree.find_edge(here.node, text, level.hash);
        (child != NONE).then_some((child, text.len()))
    }

    /// Reaches a node whose first level, `first` bytes long, was found to match: compares the
    /// further ones.
    #[inline(always)]
    fn enter(&self, way: Way, first: usize, steps: &mut usize) -> Option<Way> {
        let text = self.node(way).text.as_bytes();
        spend(steps, 1);
        if text.len() == first {
            Some(way)
        } else {
            self.enter_chain(way, &text[first + 1..], steps)
        }
    }

    fn enter_chain(&self, way: Way, further: &[u8], steps: &mut usize) -> Option<Way> {
        let rest = self.name.get(way.at..)?;
        if let Some(after) = rest.strip_prefix(further)
            && matches!(after.first(), None | Some(b'/'))
        {
            spend(steps, further.len() / STEP_BYTES);
            let levels = 1 + further.iter().map(|&byte| u32::from(byte == b'/')).sum::<u32>();
            let at = way.at + further.len() + 1;
            return Some(Way { at, depth: way.depth + levels, ..way });
        }
        let compared = Compared::new(further, rest);
        spend(steps, compared.len / STEP_BYTES);
        let deeper =
            Way { at: way.at + compared.len + 1, depth: way.depth + compared.levels, ..way };
        compared.matches.then_some(deeper)
    }

    /// Finds the place again where a search paused, or the next one after it: the node, what was
    /// visited there, and the ways by `+` that are still to be gone.
    fn take_up<'p>(
        &mut self,
        paused: &'p Paused,
        steps: &mut usize,
    ) -> (Option<Way>, Spot<&'p str>) {
        let mut left = usize::MAX;
        let found = self.retrace(&paused.path, &mut left);
        spend(steps, (usize::MAX - left).min(*steps / 2));
        let way = match found {
            Ok(way) => way,
            Err(way) => return (way, Spot::Nothing),
        };
        let spot = match &paused.spot {
            Spot::Nothing => Spot::Nothing,
            Spot::Subscriber(list, last) => Spot::Subscriber(*list, *last),
            Spot::Group(list, last) => Spot::Group(*list, &**last),
        };
        (Some(way), spot)
    }

    /// The node at which the path ends, or if there is none such any more, the node that comes
    /// next; that is none if the next one is among those pending.
    fn retrace(&mut self, path: &Path, steps: &mut usize) -> Result<Way, Option<Way>> {
        let mut here = Way { node: ROOT, depth: 0, at: 0 };
        loop {
            let Some(has_plus) = path.get(here.depth) else { return Ok(here) };
            if self.is_at_end(here) {
                return Err(None);
            }
            let (level, plus) = (self.level(here, steps), self.node(here).plus);
            let below = Way { node: plus, depth: here.depth + 1, at: level.next };
            let plus = (plus != NONE && self.admits_wildcards(here)).then_some(below);
            let (child, first) = if has_plus {
                (plus.ok_or(None)?, 1)
            } else {
                if let Some(plus) = plus {
                    self.pending.push(plus);
                }
                let (child, len) = self.find_literal(here, level).ok_or(None)?;
                (Way { node: child, ..below }, len)
            };
            let entered = self.enter(child, first, steps).ok_or(None)?;
            let text = self.node(child).text.as_bytes();
            let mut depth = child.depth;
            if let Some(further) = text.get(first + 1..) {
                for level in further.split(|&byte| byte == b'/') {
                    match (path.get(depth), level == b"+") {
                        (Some(path_has), chain_has) if path_has == chain_has => depth += 1,
                        (Some(true), _) => return Err(None), // the chain came before
                        _ => return Err(Some(entered)),
                    }
                }
            }
            here = Way { depth, ..entered };
        }
    }
}

/// How far the levels of a name match those of a chain.
struct Compared {
    matches: bool,
    /// Bytes of the name.
    len: usize,
    levels: u32,
}

impl Compared {
    fn new(chain: &[u8], name: &[u8]) -> Compared {
        let mut compared = Compared { matches: false, len: 0, levels: 1 };
        for &byte in chain {
            if byte == b'+' {
                compared.len += level_len(&name[compared.len..]);
            } else if name.get(compared.len) == Some(&byte) {
                compared.len += 1;
                compared.levels += u32::from(byte == b'/');
            } else {
                return compared;
            }
        }
        compared.matches = matches!(name.get(compared.len), None | Some(b'/'));
        compared
    }
}

fn level_len(text: &[u8]) -> usize {
    text.iter().position(|&byte| byte == b'/').unwrap_or(text.len())
}

fn spend(steps: &mut usize, count: usize) {
    *steps = steps.saturating_sub(count);
}

/// Visits what is kept at a node, as far as the steps go.
struct Visitor<'s, V, G, F> {
    node: &'s Node<V, G>,
    spot: Spot<&'s str>,
    steps: &'s mut usize,
    visit: &'s mut F,
}

impl<V, G, F: FnMut(Match<'_, V, G>)> Visitor<'_, V, G, F> {
    /// Visits what matches: what ends in `#`, if a wildcard may stand for the next level, and what
    /// ends here, if the name does.
    #[inline(always)]
    fn all(&mut self, multi: bool, here: bool) -> ControlFlow<()> {
        if self.node.rare.is_none()
            && let (Subscribers::One(subscriber, value), Spot::Nothing) =
                (&self.node.subscribers, self.spot)
        {
            return self.subscriber(List::Here, *subscriber, value);
        }
        if multi {
            self.subscribers(List::Multi)?; // `a/#` includes `a`
            self.groups(List::MultiShared)?;
        }
        if here {
            self.subscribers(List::Here)?;
            self.groups(List::HereShared)?;
        }
        ControlFlow::Continue(())
    }

    fn subscribers(&mut self, list: List) -> ControlFlow<()> {
        let last = match self.spot {
            Spot::Subscriber(at, last) if at == list => Some(last),
            spot if spot.is_past(list) => return ControlFlow::Continue(()),
            _ => None,
        };
        match self.node.unshared(list == List::Multi) {
            Some(Subscribers::One(subscriber, value)) if last.is_none_or(|it| it < *subscriber) => {
                self.subscriber(list, *subscriber, value)?;
            }
            Some(Subscribers::Many(sorted)) => {
                for (subscriber, value) in sorted.after(last.as_ref()) {
                    self.subscriber(list, *subscriber, value)?;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    #[inline(always)]
    fn subscriber(&mut self, list: List, subscriber: u64, value: &V) -> ControlFlow<()> {
        self.step()?;
        (self.visit)(Match::Subscription { subscriber, value });
        self.spot = Spot::Subscriber(list, subscriber);
        ControlFlow::Continue(())
    }

    fn groups(&mut self, list: List) -> ControlFlow<()> {
        let last = match self.spot {
            Spot::Group(at, last) if at == list => Some(last),
            spot if spot.is_past(list) => return ControlFlow::Continue(()),
            _ => None,
        };
        let Some(groups) = self.node.shared(list == List::MultiShared) else {
            return ControlFlow::Continue(());
        };
        for (share, group) in groups.after(last) {
            self.step()?;
            (self.visit)(Match::Shared { group: &group.state, members: group.members.items() });
            self.spot = Spot::Group(list, share);
        }
        ControlFlow::Continue(())
    }

    fn step(&mut self) -> ControlFlow<()> {
        if *self.steps == 0 {
            return ControlFlow::Break(());
        }
        *self.steps -= 1;
        ControlFlow::Continue(())
    }
}

impl<S> Spot<S> {
    /// Whether all of the list was visited.
    fn is_past(&self, list: List) -> bool {
        match self {
            Spot::Nothing => false,
            Spot::Subscriber(at, _) | Spot::Group(at, _) => *at > list,
        }
    }
}

impl Path {
    fn push(&mut self, has_plus: bool) {
        let bit = self.len % 64;
        if bit == 0 {
            self.bits.push(0);
        }
        if let Some(last) = self.bits.last_mut() {
            *last |= u64::from(has_plus) << bit;
        }
        self.len += 1;
    }

    /// The choice at a level counted from the top, or `None` if the path ends above it.
    fn get(&self, level: u32) -> Option<bool> {
        let at = self.len.checked_sub(1 + level as usize)?;
        self.bits.get(at / 64).map(|bits| bits >> (at % 64) & 1 == 1)
    }
}

impl Stack {
    fn push(&mut self, way: Way) {
        match self.few.get_mut(self.len) {
            Some(slot) => {
                *slot = way;
                self.len += 1;
            }
            None => self.many.push(way),
        }
    }

    fn pop(&mut self) -> Option<Way> {
        if let Some(way) = self.many.pop() {
            return Some(way);
        }
        self.len = self.len.checked_sub(1)?;
        self.few.get(self.len).copied()
    }
}
