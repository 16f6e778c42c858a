//! A node of the subscription tree: one or several levels, and the subscriptions of the filter that
//! ends there.

use super::list::List;
use super::sorted::Sorted;

/// No node has this id: a node takes 80 bytes, so so many do not fit into any memory.
pub(super) const NONE: u32 = u32::MAX;

pub(super) struct Node<V, G> {
    pub(super) text: Text,
    pub(super) subscribers: Subscribers<V>,
    pub(super) rare: Option<Box<Rare<V, G>>>,
    pub(super) parent: u32,
    /// How many edges lead down from here, `+` not counted.
    pub(super) children: u32,
    /// Their ids, all combined by exclusive or: the id of the child when only one is left.
    pub(super) children_xor: u32,
    /// The child whose first level is `+`, or [`NONE`].
    pub(super) plus: u32,
}

/// The fields that most nodes do not have.
pub(super) struct Rare<V, G> {
    /// Of `#` below this node.
    pub(super) multi: Subscribers<V>,
    pub(super) shared: Option<Box<Shared<V, G>>>,
}

pub(super) struct Shared<V, G> {
    here: Groups<V, G>,
    multi: Groups<V, G>,
}

/// Shared subscriptions of one filter, by Share Name.
pub(super) type Groups<V, G> = Sorted<Box<str>, Group<V, G>>;

pub(super) struct Group<V, G> {
    pub(super) state: G,
    pub(super) members: List<u64, V>,
}

/// Most filters have one subscriber.
pub(super) enum Subscribers<V> {
    None,
    One(u64, V),
    Many(Box<Sorted<u64, V>>),
}

/// One level, or several with `/` between them. Short texts need no allocation of their own.
pub(super) enum Text {
    Short { len: u8, bytes: [u8; Text::SHORT] },
    Long(Box<[u8]>),
}

impl Text {
    const SHORT: usize = 22;

    pub(super) fn new(text: &[u8]) -> Text {
        let mut bytes = [0; Text::SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(text);
                Text::Short { len, bytes }
            }
            _ => Text::Long(Box::from(text)),
        }
    }

    /// The levels of both.
    pub(super) fn joined(above: &Text, below: &Text) -> Text {
        let (above, below) = (above.as_bytes(), below.as_bytes());
        let len = above.len() + 1 + below.len();
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(above);
        bytes.push(b'/');
        bytes.extend_from_slice(below);
        if len <= Text::SHORT { Text::new(&bytes) } else { Text::Long(bytes.into_boxed_slice()) }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Short { len, bytes } => &bytes[..usize::from(*len)],
            Text::Long(bytes) => bytes,
        }
    }
}

impl<V> Subscribers<V> {
    pub(super) fn insert(&mut self, subscriber: u64, value: V) -> Option<V> {
        match self {
            Subscribers::None => {
                *self = Subscribers::One(subscriber, value);
                None
            }
            Subscribers::One(only, old) if *only == subscriber => {
                Some(std::mem::replace(old, value))
            }
            Subscribers::One(..) => {
                let mut list = Box::new(Sorted::new());
                if let Subscribers::One(first, its) = std::mem::replace(self, Subscribers::None) {
                    list.insert(first, its);
                }
                list.insert(subscriber, value);
                *self = Subscribers::Many(list);
                None
            }
            Subscribers::Many(list) => list.insert(subscriber, value),
        }
    }

    pub(super) fn remove(&mut self, subscriber: u64) -> Option<V> {
        match self {
            Subscribers::One(only, _) if *only == subscriber => {
                match std::mem::replace(self, Subscribers::None) {
                    Subscribers::One(_, value) => Some(value),
                    _ => None,
                }
            }
            Subscribers::Many(list) => {
                let removed = list.remove(&subscriber);
                if let Some((last, value)) = list.take_only() {
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
}

impl<V, G> Rare<V, G> {
    fn new() -> Box<Rare<V, G>> {
        Box::new(Rare { multi: Subscribers::None, shared: None })
    }
}

impl<V, G> Node<V, G> {
    pub(super) fn new(text: &[u8], parent: u32) -> Node<V, G> {
        Node {
            text: Text::new(text),
            subscribers: Subscribers::None,
            rare: None,
            parent,
            children: 0,
            children_xor: 0,
            plus: NONE,
        }
    }

    /// Whether no subscription is kept at this node. Its children may have some.
    pub(super) fn is_vacant(&self) -> bool {
        self.subscribers.is_empty() && self.rare.is_none()
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.children == 0 && self.plus == NONE
    }

    /// The only child, if there is exactly one.
    pub(super) fn only_child(&self) -> Option<u32> {
        match (self.children, self.plus) {
            (1, NONE) => Some(self.children_xor),
            (0, plus) if plus != NONE => Some(plus),
            _ => None,
        }
    }

    /// The unshared subscriptions of this node's filter, or of that with `/#` behind it.
    pub(super) fn unshared(&self, multi: bool) -> Option<&Subscribers<V>> {
        if multi { self.rare.as_ref().map(|rare| &rare.multi) } else { Some(&self.subscribers) }
    }

    /// As [`Node::unshared`], the shared ones.
    pub(super) fn shared(&self, multi: bool) -> Option<&Groups<V, G>> {
        let shared = self.rare.as_ref()?.shared.as_ref()?;
        Some(if multi { &shared.multi } else { &shared.here })
    }

    pub(super) fn unshared_mut(&mut self, multi: bool) -> Option<&mut Subscribers<V>> {
        if multi {
            self.rare.as_mut().map(|rare| &mut rare.multi)
        } else {
            Some(&mut self.subscribers)
        }
    }

    pub(super) fn shared_mut(&mut self, multi: bool) -> Option<&mut Groups<V, G>> {
        let shared = self.rare.as_mut()?.shared.as_mut()?;
        Some(if multi { &mut shared.multi } else { &mut shared.here })
    }

    /// As [`Node::unshared_mut`], making room for a first one.
    pub(super) fn unshared_or_new(&mut self, multi: bool) -> &mut Subscribers<V> {
        if multi {
            &mut self.rare.get_or_insert_with(Rare::new).multi
        } else {
            &mut self.subscribers
        }
    }

    /// As [`Node::shared_mut`], making room for a first one.
    pub(super) fn shared_or_new(&mut self, multi: bool) -> &mut Groups<V, G> {
        let rare = self.rare.get_or_insert_with(Rare::new);
        let shared = rare
            .shared
            .get_or_insert_with(|| Box::new(Shared { here: Sorted::new(), multi: Sorted::new() }));
        if multi { &mut shared.multi } else { &mut shared.here }
    }

    /// Frees the lists that a removal has left empty.
    pub(super) fn tidy(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        let is_empty = |shared: &Shared<V, G>| shared.here.is_empty() && shared.multi.is_empty();
        if rare.shared.as_ref().is_some_and(|shared| is_empty(shared)) {
            rare.shared = None;
        }
        if rare.shared.is_none() && rare.multi.is_empty() {
            self.rare = None;
        }
    }
}
