//! Values in the order of their keys: a plain list while it is short, a map when it is long, so that
//! the cost of finding and removing hardly depends on its length.
//!
//! A search that pauses in the middle relies on the order: "all up to this key were visited" stays true
//! when values are added and removed meanwhile.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::slice;

/// So many are kept as a list ...
const LIST_MAX: usize = 32;
/// ... and a map that has shrunk to so many becomes one again.
const MAP_MIN: usize = 16;

pub(super) enum Sorted<K, T> {
    List(Vec<(K, T)>),
    Map(BTreeMap<K, T>),
}

impl<K: Ord, T> Sorted<K, T> {
    pub(super) fn new() -> Sorted<K, T> {
        Sorted::List(Vec::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Sorted::List(list) if list.is_empty())
    }

    /// Removes the last one that is left, if there is exactly one.
    pub(super) fn take_only(&mut self) -> Option<(K, T)> {
        match self {
            Sorted::List(list) if list.len() == 1 => list.pop(),
            _ => None,
        }
    }

    /// Adds the value, or replaces the value of this key and returns the old value.
    pub(super) fn insert(&mut self, key: K, value: T) -> Option<T> {
        match self.make_room(&key) {
            Sorted::Map(map) => map.insert(key, value),
            Sorted::List(list) => match find(list, &key) {
                Ok(at) => Some(std::mem::replace(&mut list[at].1, value)),
                Err(at) => {
                    list.insert(at, (key, value));
                    None
                }
            },
        }
    }

    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut T>
    where
        K: Borrow<Q>,
    {
        match self {
            Sorted::List(list) => find(list, key).ok().map(|at| &mut list[at].1),
            Sorted::Map(map) => map.get_mut(key),
        }
    }

    pub(super) fn get_or_insert_with<Q>(&mut self, key: &Q, make: impl FnOnce() -> T) -> &mut T
    where
        K: Borrow<Q> + for<'a> From<&'a Q>,
        Q: Ord + ?Sized,
    {
        match self.make_room(key) {
            Sorted::Map(map) => map.entry(K::from(key)).or_insert_with(make),
            Sorted::List(list) => {
                let at = find(list, key).unwrap_or_else(|at| {
                    list.insert(at, (K::from(key), make()));
                    at
                });
                &mut list[at].1
            }
        }
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
    {
        match self {
            Sorted::List(list) => {
                let (_, removed) = list.remove(find(list, key).ok()?);
                if list.len() < list.capacity() / 4 {
                    list.shrink_to(list.len() * 2);
                }
                Some(removed)
            }
            Sorted::Map(map) => {
                let removed = map.remove(key)?;
                if map.len() <= MAP_MIN {
                    *self = Sorted::List(std::mem::take(map).into_iter().collect());
                }
                Some(removed)
            }
        }
    }

    /// Those with a key above `last`, or all, in the order of the keys.
    pub(super) fn after<Q: Ord + ?Sized>(&self, last: Option<&Q>) -> After<'_, K, T>
    where
        K: Borrow<Q>,
    {
        match self {
            Sorted::List(list) => {
                let seen = |last| list.partition_point(|(key, _)| key.borrow() <= last);
                After::List(list[last.map_or(0, seen)..].iter())
            }
            Sorted::Map(map) => {
                let from = last.map_or(Bound::Unbounded, Bound::Excluded);
                After::Map(map.range((from, Bound::Unbounded)))
            }
        }
    }

    /// Makes room in a list that is full, if the key would be one more: at last it becomes a map.
    fn make_room<Q: Ord + ?Sized>(&mut self, key: &Q) -> &mut Sorted<K, T>
    where
        K: Borrow<Q>,
    {
        if let Sorted::List(list) = self
            && list.len() == list.capacity().min(LIST_MAX)
            && find(list, key).is_err()
        {
            if list.len() == LIST_MAX {
                *self = Sorted::Map(std::mem::take(list).into_iter().collect());
            } else if list.len() < 4 {
                list.reserve_exact(list.len().max(1)); // not 4 at once
            }
        }
        self
    }
}

fn find<K, T, Q>(list: &[(K, T)], key: &Q) -> Result<usize, usize>
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    list.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

/// See [`Sorted::after`].
pub(super) enum After<'a, K, T> {
    List(slice::Iter<'a, (K, T)>),
    Map(btree_map::Range<'a, K, T>),
}

impl<'a, K, T> Iterator for After<'a, K, T> {
    type Item = (&'a K, &'a T);

    fn next(&mut self) -> Option<(&'a K, &'a T)> {
        match self {
            After::List(items) => items.next().map(|(key, value)| (key, value)),
            After::Map(items) => items.next(),
        }
    }
}
