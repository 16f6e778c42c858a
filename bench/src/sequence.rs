//! Whether what one publisher sent to one subscriber came once, whole and in order.

use std::collections::BTreeMap;

/// Gaps that are remembered; beyond that the oldest are lost for good, and what still comes of
/// them counts as duplicated.
const GAPS_MAX: usize = 4096;

/// Follows the sequence numbers of one publisher at one subscriber.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// All below this have come or are missing.
    next: u64,
    /// Missing ranges: start to end, end not included.
    missing: BTreeMap<u64, u64>,
    tally: Tally,
}

/// What a [`Checker`] has seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Different messages that came.
    pub(crate) delivered: u64,
    /// Messages that were overtaken and never came.
    pub(crate) lost: u64,
    /// Messages that came again.
    pub(crate) duplicated: u64,
    /// Messages that came after a later one; they count as delivered too.
    pub(crate) reordered: u64,
}

impl Tally {
    /// Adds another.
    pub(crate) fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }
}

impl Checker {
    /// Takes the number of the message that came.
    #[inline]
    pub(crate) fn observe(&mut self, sequence: u32) {
        let sequence = u64::from(sequence);
        if sequence == self.next {
            self.next += 1;
            self.tally.delivered += 1;
        } else {
            self.observe_out_of_order(sequence);
        }
    }

    #[cold]
    fn observe_out_of_order(&mut self, sequence: u64) {
        if sequence > self.next {
            self.give_up_before(sequence);
            self.next = sequence + 1;
            self.tally.delivered += 1;
        } else if self.fill(sequence) {
            self.tally.lost -= 1;
            self.tally.delivered += 1;
            self.tally.reordered += 1;
        } else {
            self.tally.duplicated += 1;
        }
    }

    /// Counts all that has not come of the messages below `end` as lost.
    pub(crate) fn give_up_before(&mut self, end: u64) {
        if end <= self.next {
            return;
        }
        self.tally.lost += end - self.next;
        self.missing.insert(self.next, end);
        self.next = end;
        if self.missing.len() > GAPS_MAX {
            self.missing.pop_first();
        }
    }

    /// Takes `sequence` out of the missing ranges, if it is in one.
    fn fill(&mut self, sequence: u64) -> bool {
        let Some((&start, &end)) = self.missing.range(..=sequence).next_back() else {
            return false;
        };
        if sequence >= end {
            return false;
        }
        self.missing.remove(&start);
        if start < sequence {
            self.missing.insert(start, sequence);
        }
        if sequence + 1 < end {
            self.missing.insert(sequence + 1, end);
        }
        true
    }

    /// Messages that have come or are known to be missing: the window has room for them again.
    #[inline]
    pub(crate) fn accounted(&self) -> u64 {
        self.next
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally_of(sequence: &[u32]) -> (Tally, u64) {
        let mut checker = Checker::default();
        for &number in sequence {
            checker.observe(number);
        }
        (checker.tally(), checker.accounted())
    }

    #[test]
    fn in_order_is_delivered() {
        let tally = Tally { delivered: 3, ..Tally::default() };
        assert_eq!(tally_of(&[0, 1, 2]), (tally, 3));
    }

    #[test]
    fn a_gap_is_lost_and_frees_the_window() {
        let tally = Tally { delivered: 2, lost: 4, ..Tally::default() };
        assert_eq!(tally_of(&[0, 5]), (tally, 6));
    }

    #[test]
    fn the_same_again_is_duplicated() {
        let tally = Tally { delivered: 2, duplicated: 2, ..Tally::default() };
        assert_eq!(tally_of(&[0, 1, 1, 0]), (tally, 2));
    }

    #[test]
    fn late_is_reordered_and_not_lost() {
        let tally = Tally { delivered: 5, reordered: 3, ..Tally::default() };
        assert_eq!(tally_of(&[0, 4, 2, 1, 3]), (tally, 5));
    }

    #[test]
    fn late_twice_is_reordered_once_and_duplicated_once() {
        let tally = Tally { delivered: 2, lost: 1, duplicated: 1, reordered: 1 };
        assert_eq!(tally_of(&[2, 1, 1]), (tally, 3));
    }

    #[test]
    fn what_was_given_up_may_still_come() {
        let mut checker = Checker::default();
        checker.give_up_before(3);
        assert_eq!(checker.tally().lost, 3);
        checker.observe(1);
        let tally = Tally { delivered: 1, lost: 2, reordered: 1, duplicated: 0 };
        assert_eq!((checker.tally(), checker.accounted()), (tally, 3));
    }

    #[test]
    fn memory_for_gaps_is_bounded() {
        let mut checker = Checker::default();
        for number in 0..20_000 {
            checker.observe(number * 2 + 1);
        }
        assert_eq!(checker.missing.len(), GAPS_MAX);
        assert_eq!(checker.tally().lost, 20_000);
    }
}
