//! Answers that were received, for a while. Pure; the time comes in.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Answers by question. At its bounds it forgets the oldest.
#[derive(Debug)]
pub(super) struct Cache {
    answers: HashMap<Arc<[u8]>, Kept>,
    /// The questions in the order of their answers. One that was answered again is here more than once.
    order: VecDeque<(Arc<[u8]>, u64)>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
    number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    yes: bool,
    until: Instant,
    number: u64,
}

impl Cache {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Cache {
        Cache {
            answers: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            entries_max,
            bytes_max,
            number: 0,
        }
    }

    /// The answer, if there is one that is still good.
    pub(super) fn get(&self, question: &[u8], now: Instant) -> Option<bool> {
        self.answers.get(question).filter(|kept| now < kept.until).map(|kept| kept.yes)
    }

    /// Keeps an answer until a time.
    pub(super) fn put(&mut self, question: &[u8], yes: bool, until: Instant, now: Instant) {
        if question.len() > self.bytes_max || self.entries_max == 0 {
            return;
        }
        let question: Arc<[u8]> = question.into();
        self.number += 1;
        let kept = Kept { yes, until, number: self.number };
        if self.answers.insert(question.clone(), kept).is_none() {
            self.bytes += question.len();
        }
        self.order.push_back((question, self.number));
        self.shrink(now);
    }

    /// Forgets answers that are over, from the oldest, and beyond the bounds those that are not.
    fn shrink(&mut self, now: Instant) {
        while let Some((question, number)) = self.order.front() {
            let kept = self.answers.get(question).filter(|kept| kept.number == *number);
            let full = self.answers.len() > self.entries_max || self.bytes > self.bytes_max;
            match kept {
                None => {} // answered again since
                Some(kept) if full || kept.until <= now => {
                    self.bytes -= question.len();
                    self.answers.remove(question);
                }
                // What was answered again and again must not make the order longer than it need be.
                Some(_) if self.order.len() > self.answers.len().saturating_mul(2) + 16 => {
                    let front = self.order.pop_front();
                    self.order.extend(front);
                    continue;
                }
                Some(_) => return,
            }
            self.order.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_good_until_its_time() {
        let now = Instant::now();
        let until = now + Duration::from_secs(300);
        let mut cache = Cache::new(10, 1_000);
        cache.put(b"yes", true, until, now);
        cache.put(b"no", false, until, now);
        assert_eq!((cache.get(b"yes", now), cache.get(b"no", now)), (Some(true), Some(false)));
        assert_eq!((cache.get(b"other", now), cache.get(b"yes", until)), (None, None));
        cache.put(b"yes", false, until, now);
        assert_eq!(cache.get(b"yes", now), Some(false));
    }

    #[test]
    fn a_question_that_is_longer_than_all_may_be_is_not_kept_pitfall_15() {
        let now = Instant::now();
        let mut cache = Cache::new(10, 4);
        cache.put(b"longer", true, now + Duration::from_secs(1), now);
        assert_eq!(cache.len(), 0);
    }

    proptest! {
        /// Whatever is put in: the bounds hold, and an answer that is found is the last that was given.
        #[test]
        fn the_bounds_hold_and_no_answer_is_invented(
            entries_max in 0_usize..6, bytes_max in 0_usize..30,
            puts in prop::collection::vec((0_u8..8, any::<bool>(), 0_u64..9, 0_u64..3), 0..80)
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut cache = Cache::new(entries_max, bytes_max);
            let mut last = HashMap::new();
            for (name, yes, keep, step) in puts {
                now += Duration::from_secs(step);
                let question = vec![name; usize::from(name) + 1];
                let until = now + Duration::from_secs(keep);
                cache.put(&question, yes, until, now);
                last.insert(question, (yes, until));
                prop_assert!(cache.len() <= entries_max);
                let bytes: usize = cache.answers.keys().map(|key| key.len()).sum();
                prop_assert!(bytes == cache.bytes && bytes <= bytes_max);
                prop_assert!(cache.order.len() <= cache.answers.len() * 2 + 17);
                for (question, (yes, until)) in &last {
                    if let Some(found) = cache.get(question, now) {
                        prop_assert!(found == *yes && now < *until);
                    }
                }
            }
        }
    }
}
