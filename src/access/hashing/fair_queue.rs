//! A bounded queue that serves classes, networks and sources in turn.
//!
//! A place in it has a class and a path: a wide network, a narrow network in it, and a source in that. Taking turns at each
//! level means that a peer with many addresses of one network gets the turns of one network.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash};

/// The number of classes; 0 is served most often.
pub(super) const CLASSES: usize = 3;

/// The classes in the order in which they are served: 4, 2 and 1 of 7 turns. A class without items gives its turn to the
/// first that has some, so none starves another and none waits for nothing.
pub(super) const TURNS: [usize; 7] = [0, 1, 0, 2, 0, 1, 0];

/// What an item of each class counts for, if one has to make room: the classes may fill 4, 2 and 1 of 7 parts.
const COSTS: [usize; CLASSES] = [1, 2, 4];

/// A wide network, a narrow one, and a source.
pub(super) type Path<K> = [K; 3];

/// Items by class and path.
pub(super) struct FairQueue<K, T> {
    classes: [Node<K, T>; CLASSES],
    served: usize,
    len_max: usize,
    next_number: u64,
    random: RandomState,
}

/// The place of an item. It may have sunk into a class of a higher number.
pub(super) struct Ticket<K> {
    class: usize,
    path: Path<K>,
    number: u64,
}

/// What became of an item.
pub(super) enum Offered<K, T> {
    Queued(Ticket<K>),
    /// The queue was full: the last item of the most crowded source made room.
    Displaced(Ticket<K>, T),
    /// The queue is full, and the most crowded source is that of this item.
    Refused(T),
}

struct Item<K, T> {
    path: Path<K>,
    number: u64,
    value: T,
}

/// All items, or those below the beginning of a path.
struct Node<K, T> {
    children: HashMap<K, Node<K, T>>,
    /// Each child, once; the first is served next.
    turns: VecDeque<K>,
    /// Those of a source, in order. Other nodes have children.
    items: VecDeque<Item<K, T>>,
    len: usize,
}

impl<K, T> Default for Node<K, T> {
    fn default() -> Node<K, T> {
        Node { children: HashMap::new(), turns: VecDeque::new(), items: VecDeque::new(), len: 0 }
    }
}

/// Each of these goes down the three levels of a path.
impl<K: Hash + Eq + Clone, T> Node<K, T> {
    fn push(&mut self, below: &[K], item: Item<K, T>) {
        self.len += 1;
        let Some((first, below)) = below.split_first() else {
            self.items.push_back(item);
            return;
        };
        let child = match self.children.entry(first.clone()) {
            Entry::Occupied(child) => child.into_mut(),
            Entry::Vacant(place) => {
                self.turns.push_back(first.clone());
                place.insert(Node::default())
            }
        };
        child.push(below, item);
    }

    fn pop(&mut self) -> Option<Item<K, T>> {
        let item = match self.turns.pop_front() {
            None => self.items.pop_front()?,
            Some(key) => {
                let child = self.children.get_mut(&key)?;
                let item = child.pop()?;
                if child.len == 0 {
                    self.children.remove(&key);
                } else {
                    self.turns.push_back(key);
                }
                item
            }
        };
        self.len -= 1;
        Some(item)
    }

    /// Takes an item out of the child `key`, which goes if it was the last.
    fn take<R>(&mut self, key: &K, take: impl FnOnce(&mut Node<K, T>) -> Option<R>) -> Option<R> {
        let child = self.children.get_mut(key)?;
        let taken = take(child)?;
        if child.len == 0 {
            self.children.remove(key);
            self.turns.retain(|turn| turn != key);
        }
        self.len -= 1;
        Some(taken)
    }

    fn remove(&mut self, below: &[K], number: u64) -> Option<T> {
        if let Some((first, below)) = below.split_first() {
            return self.take(first, |child| child.remove(below, number));
        }
        let at = self.items.iter().position(|item| item.number == number)?;
        self.len -= 1;
        self.items.remove(at).map(|item| item.value)
    }

    /// Takes the last item of the most crowded source, that of the most crowded network first; of several, one by chance.
    /// An item that would come to `below` is counted. `None`: it is the one that has to go.
    fn displace(&mut self, below: Option<&[K]>, chance: u64) -> Option<T> {
        let own = below.and_then(<[K]>::split_first);
        if self.children.is_empty() {
            let last = if below.is_some() { None } else { self.items.pop_back() }?;
            self.len -= 1;
            return Some(last.value);
        }
        let crowd = |key: &K, len: usize| len + usize::from(own.is_some_and(|own| own.0 == key));
        let newcomer = own.filter(|own| !self.children.contains_key(own.0)).map(|own| (own.0, 1));
        let all = self.children.iter().map(|(key, child)| (key, crowd(key, child.len)));
        let all: Vec<(&K, usize)> = all.chain(newcomer).collect();
        let most = all.iter().map(|(_, crowd)| *crowd).max()?;
        let crowded: Vec<&K> =
            all.iter().filter(|(_, crowd)| *crowd == most).map(|(key, _)| *key).collect();
        let chosen = chance.checked_rem(u64::try_from(crowded.len()).ok()?)?;
        let key = (*crowded.get(usize::try_from(chosen).ok()?)?).clone();
        let below = own.filter(|own| *own.0 == key).map(|own| own.1);
        self.take(&key, |child| child.displace(below, chance.rotate_left(21)))
    }

    fn drain(&mut self, into: &mut Vec<T>) {
        self.len = 0;
        self.turns.clear();
        into.extend(self.items.drain(..).map(|item| item.value));
        self.children.drain().for_each(|(_, mut child)| child.drain(into));
    }
}

impl<K: Hash + Eq + Clone, T> FairQueue<K, T> {
    pub(super) fn new(len_max: usize) -> FairQueue<K, T> {
        let (classes, random) = (Default::default(), RandomState::new());
        FairQueue { classes, served: 0, len_max, next_number: 0, random }
    }

    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.len).sum()
    }

    /// Puts an item into a class; a number that is too high is the last.
    pub(super) fn push(&mut self, class: usize, path: Path<K>, value: T) -> Offered<K, T> {
        let class = class.min(CLASSES - 1);
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let mut displaced = None;
        if self.len() >= self.len_max {
            displaced = self.displace(class, &path, number);
            if displaced.is_none() {
                return Offered::Refused(value);
            }
        }
        self.put(class, Item { path: path.clone(), number, value });
        let ticket = Ticket { class, path, number };
        match displaced {
            Some(last) => Offered::Displaced(ticket, last),
            None => Offered::Queued(ticket),
        }
    }

    fn put(&mut self, class: usize, item: Item<K, T>) {
        if let Some(node) = self.classes.get_mut(class) {
            node.push(&item.path.clone(), item);
        }
    }

    /// Makes room for an item of this class, in the class that has the most of its part.
    fn displace(&mut self, class: usize, path: &Path<K>, number: u64) -> Option<T> {
        let costs = self.classes.iter().zip(COSTS).enumerate();
        let costs = costs.map(|(index, (node, cost))| {
            (node.len.saturating_add(usize::from(index == class)).saturating_mul(cost), index)
        });
        let (_, fullest) = costs.max()?;
        let below = (fullest == class).then_some(&path[..]);
        let chance = self.random.hash_one(number);
        self.classes.get_mut(fullest)?.displace(below, chance)
    }

    /// Takes the next item. One whose class has a higher number by now waits there instead.
    pub(super) fn pop(&mut self, class_now: impl Fn(&T) -> usize) -> Option<T> {
        loop {
            let due = TURNS.get(self.served % TURNS.len()).copied().unwrap_or_default();
            let has_items =
                |class: &usize| self.classes.get(*class).is_some_and(|node| node.len > 0);
            let class = Some(due).filter(has_items).or_else(|| (0..CLASSES).find(has_items))?;
            let item = self.classes.get_mut(class)?.pop()?;
            let now = class_now(&item.value).min(CLASSES - 1);
            if now <= class {
                self.served = self.served.wrapping_add(1);
                return Some(item.value);
            }
            self.put(now, item);
        }
    }

    /// Takes an item out, if it still waits.
    pub(super) fn remove(&mut self, ticket: &Ticket<K>) -> Option<T> {
        let classes = self.classes.iter_mut().skip(ticket.class);
        classes.flat_map(|node| node.remove(&ticket.path, ticket.number)).next()
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let mut all = Vec::new();
        self.classes.iter_mut().for_each(|node| node.drain(&mut all));
        all
    }
}
