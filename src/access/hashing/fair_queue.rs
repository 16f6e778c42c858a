//! A bounded queue that serves its sources in turn.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Items in one queue for each source. Sources are served in turn, the items of each in order.
pub(super) struct FairQueue<S, T> {
    queues: HashMap<S, VecDeque<(u64, T)>>,
    /// Each source with an item, once; the first is served next.
    turns: VecDeque<S>,
    len: usize,
    len_max: usize,
    next_number: u64,
}

/// The place of an item.
pub(super) struct Ticket<S> {
    source: S,
    number: u64,
}

/// What became of an item.
pub(super) enum Offered<S, T> {
    Queued(Ticket<S>),
    /// The queue was full: the last item of the source with the most items made room.
    Displaced(Ticket<S>, T),
    /// The queue is full, and no source has two items more than this one.
    Refused(T),
}

impl<S: Hash + Eq + Clone, T> FairQueue<S, T> {
    pub(super) fn new(len_max: usize) -> FairQueue<S, T> {
        FairQueue {
            queues: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
            len_max,
            next_number: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, source: S, item: T) -> Offered<S, T> {
        let mut displaced = None;
        if self.len >= self.len_max {
            let own = self.queues.get(&source).map_or(0, VecDeque::len);
            displaced = self.displace(own + 2);
            if displaced.is_none() {
                return Offered::Refused(item);
            }
        }
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        self.len += 1;
        match self.queues.entry(source.clone()) {
            Entry::Occupied(mut queue) => queue.get_mut().push_back((number, item)),
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([(number, item)]));
                self.turns.push_back(source.clone());
            }
        }
        let ticket = Ticket { source, number };
        match displaced {
            Some(last) => Offered::Displaced(ticket, last),
            None => Offered::Queued(ticket),
        }
    }

    /// Takes the last item of the source with the most items, if these are `least` or more (at least 2).
    fn displace(&mut self, least: usize) -> Option<T> {
        let longest = self.queues.values_mut().max_by_key(|queue| queue.len())?;
        if longest.len() < least {
            return None;
        }
        let (_, item) = longest.pop_back()?;
        self.len -= 1;
        Some(item)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let source = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&source)?;
        let (_, item) = queue.pop_front()?;
        self.len -= 1;
        if queue.is_empty() {
            self.queues.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        Some(item)
    }

    /// Takes an item out, if it still waits.
    pub(super) fn remove(&mut self, ticket: &Ticket<S>) -> Option<T> {
        let queue = self.queues.get_mut(&ticket.source)?;
        let at = queue.iter().position(|(number, _)| *number == ticket.number)?;
        let (_, item) = queue.remove(at)?;
        self.len -= 1;
        if queue.is_empty() {
            self.queues.remove(&ticket.source);
            self.turns.retain(|source| *source != ticket.source);
        }
        Some(item)
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.turns.clear();
        self.len = 0;
        self.queues.drain().flat_map(|(_, queue)| queue).map(|(_, item)| item).collect()
    }
}
