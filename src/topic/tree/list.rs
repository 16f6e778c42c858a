//! Values by key in one slice: a plain list while it is short, with an index when it is long, so that
//! the cost of finding and removing does not depend on its length.

use std::borrow::Borrow;
use std::hash::Hash;

use ahash::RandomState;
use hashbrown::HashTable;

/// From this length on there is an index ...
const INDEX_FROM: usize = 32;
/// ... until it has shrunk below this one.
const INDEX_UNTIL: usize = 16;

/// Values by key, in no particular order. Every call takes the same hash keys.
pub(super) struct List<K, T> {
    items: Vec<(K, T)>,
    /// Places in `items`, by key.
    index: Option<Box<HashTable<usize>>>,
}

impl<K: Hash + Eq, T> List<K, T> {
    pub(super) fn new() -> List<K, T> {
        List { items: Vec::new(), index: None }
    }

    pub(super) fn items(&self) -> &[(K, T)] {
        &self.items
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds the value, or replaces the value of this key and returns the old value.
    pub(super) fn insert(&mut self, key: K, value: T, keys: &RandomState) -> Option<T> {
        match self.position(&key, keys) {
            Some(at) => Some(std::mem::replace(&mut self.items[at].1, value)),
            None => {
                self.push(key, value, keys);
                None
            }
        }
    }

    pub(super) fn remove<Q>(&mut self, key: &Q, keys: &RandomState) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let at = self.position(key, keys)?;
        if self.items.len() <= INDEX_UNTIL {
            self.index = None;
        }
        let last = self.items.len() - 1;
        if let Some(index) = &mut self.index {
            if let Ok(entry) = index.find_entry(keys.hash_one(key), |&place| place == at) {
                entry.remove();
            }
            let moved = keys.hash_one(&self.items[last].0);
            if let Some(place) = index.find_mut(moved, |&place| place == last) {
                *place = at;
            }
        }
        let (_, removed) = self.items.swap_remove(at);
        if self.items.len() < self.items.capacity() / 4 {
            self.items.shrink_to(self.items.len() * 2);
            if let Some(index) = &mut self.index {
                index.shrink_to(self.items.len() * 2, |&at| keys.hash_one(&self.items[at].0));
            }
        }
        Some(removed)
    }

    fn position<Q>(&self, key: &Q, keys: &RandomState) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match &self.index {
            None => self.items.iter().position(|(other, _)| other.borrow() == key),
            Some(index) => {
                index.find(keys.hash_one(key), |&at| self.items[at].0.borrow() == key).copied()
            }
        }
    }

    /// Adds a value whose key is known to be absent.
    fn push(&mut self, key: K, value: T, keys: &RandomState) {
        if self.items.len() == self.items.capacity() && self.items.len() < 4 {
            self.items.reserve_exact(self.items.len().max(1)); // not 4 at once
        }
        self.items.push((key, value));
        let hash = |&at: &usize| keys.hash_one(&self.items[at].0);
        let len = self.items.len();
        match &mut self.index {
            Some(index) => {
                index.insert_unique(hash(&(len - 1)), len - 1, hash);
            }
            None if len >= INDEX_FROM => {
                let mut index = HashTable::with_capacity(len);
                for at in 0..len {
                    index.insert_unique(hash(&at), at, hash);
                }
                self.index = Some(Box::new(index));
            }
            None => {}
        }
    }
}
