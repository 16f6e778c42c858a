//! Packet Identifiers.

/// A set of them: a bit each, and no memory until the first is put in.
#[derive(Debug, Default)]
pub(super) struct IdSet {
    words: Vec<u64>,
    len: usize,
}

impl IdSet {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts `id` in; false if it was in already.
    #[inline]
    pub(super) fn insert(&mut self, id: u16) -> bool {
        if self.words.is_empty() {
            self.words.resize((usize::from(u16::MAX) + 1) / 64, 0);
        }
        let (word, bit) = (&mut self.words[usize::from(id >> 6)], 1 << (id & 63));
        let is_new = *word & bit == 0;
        *word |= bit;
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes `id` out; false if it was not in.
    #[inline]
    pub(super) fn remove(&mut self, id: u16) -> bool {
        let Some(word) = self.words.get_mut(usize::from(id >> 6)) else { return false };
        let bit = 1 << (id & 63);
        let was_in = *word & bit != 0;
        *word &= !bit;
        self.len -= usize::from(was_in);
        was_in
    }

    #[inline]
    pub(super) fn contains(&self, id: u16) -> bool {
        self.words.get(usize::from(id >> 6)).is_some_and(|word| word & 1 << (id & 63) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_in_once() {
        let mut ids = IdSet::default();
        assert!(!ids.contains(1) && !ids.remove(1));
        for id in [1, 63, 64, u16::MAX] {
            assert!(ids.insert(id) && !ids.insert(id), "{id}");
            assert!(ids.contains(id), "{id}");
        }
        assert_eq!(ids.len(), 4);
        assert!(!ids.contains(65) && !ids.contains(0));
        assert!(ids.remove(64) && !ids.remove(64));
        assert_eq!(ids.len(), 3);
    }
}
