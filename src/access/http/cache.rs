//! Answers that were received, for a while. Pure; the time comes in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an answer counts for beside its question, if its owner has to make room.
const ANSWER_WEIGHT: usize = 64;

/// Answers by question. Each has an owner. At the bounds, the oldest answer of the owner with the most goes, so that nobody
/// displaces the answers of others by asking much.
#[derive(Debug)]
pub(super) struct Cache {
    answers: HashMap<Arc<[u8]>, Kept>,
    /// The questions in the order in which their answers end.
    ends: BTreeMap<(Instant, u64), Arc<[u8]>>,
    owners: HashMap<Arc<str>, Owner>,
    /// The last of them has the most; of several such, the one with the oldest answer.
    by_weight: BTreeMap<Weight, Arc<str>>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
    number: u64,
}

type Weight = (usize, Reverse<u64>);

#[derive(Debug)]
struct Kept {
    yes: bool,
    until: Instant,
    refresh_at: Instant,
    number: u64,
    owner: Arc<str>,
}

#[derive(Debug, Default)]
struct Owner {
    weight: usize,
    /// The questions, from the oldest answer.
    answers: BTreeMap<u64, Arc<[u8]>>,
}

impl Owner {
    fn place(&self) -> Option<Weight> {
        let (number, _) = self.answers.first_key_value()?;
        Some((self.weight, Reverse(*number)))
    }
}

/// An answer, and how long it is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Good {
    pub(super) yes: bool,
    pub(super) since: Instant,
    pub(super) lasting: Duration,
}

/// An answer that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Yes {
        /// It ends soon and should be asked for again.
        is_due: bool,
    },
    No,
}

impl Cache {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Cache {
        Cache {
            answers: HashMap::new(),
            ends: BTreeMap::new(),
            owners: HashMap::new(),
            by_weight: BTreeMap::new(),
            bytes: 0,
            entries_max,
            bytes_max,
            number: 0,
        }
    }

    /// The answer, if there is one that is still good.
    pub(super) fn get(&self, question: &[u8], now: Instant) -> Option<Known> {
        let kept = self.answers.get(question).filter(|kept| now < kept.until)?;
        Some(match kept.yes {
            true => Known::Yes { is_due: kept.refresh_at <= now },
            false => Known::No,
        })
    }

    /// Keeps an answer. `owner` is always the same for a question. An answer is due to be asked for again in the last
    /// quarter of its time.
    pub(super) fn put(&mut self, owner: &str, question: &[u8], good: Good) {
        self.remove(question);
        if question.len() > self.bytes_max || self.entries_max == 0 {
            return;
        }
        let Good { yes, since, lasting } = good;
        let (question, owner): (Arc<[u8]>, Arc<str>) = (question.into(), owner.into());
        self.number += 1;
        let number = self.number;
        let (until, refresh_at) = (since + lasting, since + lasting / 4 * 3);
        self.bytes += question.len();
        self.ends.insert((until, number), question.clone());
        self.change(&owner, |of_owner| {
            of_owner.weight += question.len() + ANSWER_WEIGHT;
            of_owner.answers.insert(number, question.clone());
        });
        self.answers.insert(question, Kept { yes, until, refresh_at, number, owner });
        self.shrink(since);
    }

    /// Puts off the time from which an answer should be asked for again.
    pub(super) fn refresh_later(&mut self, question: &[u8], at: Instant) {
        if let Some(kept) = self.answers.get_mut(question) {
            kept.refresh_at = at;
        }
    }

    fn change(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Owner)) {
        let owner = self.owners.entry(name.clone()).or_default();
        if let Some(place) = owner.place() {
            self.by_weight.remove(&place);
        }
        change(owner);
        match owner.place() {
            Some(place) => {
                self.by_weight.insert(place, name.clone());
            }
            None => {
                self.owners.remove(name);
            }
        }
    }

    fn remove(&mut self, question: &[u8]) {
        let Some((question, kept)) = self.answers.remove_entry(question) else { return };
        self.bytes -= question.len();
        self.ends.remove(&(kept.until, kept.number));
        self.change(&kept.owner, |owner| {
            owner.weight -= question.len() + ANSWER_WEIGHT;
            owner.answers.remove(&kept.number);
        });
    }

    /// Forgets answers that are over, and beyond the bounds those that are not.
    fn shrink(&mut self, now: Instant) {
        while let Some((_, question)) = self.ends.first_key_value().filter(|(end, _)| end.0 <= now)
        {
            let question = question.clone();
            self.remove(&question);
        }
        while self.answers.len() > self.entries_max || self.bytes > self.bytes_max {
            let most = self.by_weight.last_key_value().and_then(|(_, name)| self.owners.get(name));
            let oldest = most.and_then(|owner| owner.answers.first_key_value());
            let Some(question) = oldest.map(|(_, question)| question.clone()) else { return };
            self.remove(&question);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YES: Option<Known> = Some(Known::Yes { is_due: false });

    fn good(yes: bool, since: Instant, secs: u64) -> Good {
        Good { yes, since, lasting: Duration::from_secs(secs) }
    }

    #[test]
    fn an_answer_is_good_until_its_time_and_due_in_the_last_quarter() {
        let now = Instant::now();
        let at = |secs| now + Duration::from_secs(secs);
        let mut cache = Cache::new(10, 1_000);
        cache.put("ann", b"yes", good(true, now, 300));
        cache.put("ann", b"no", good(false, now, 300));
        assert_eq!((cache.get(b"yes", now), cache.get(b"no", now)), (YES, Some(Known::No)));
        assert_eq!((cache.get(b"other", now), cache.get(b"yes", at(300))), (None, None));
        let due = Some(Known::Yes { is_due: true });
        assert_eq!((cache.get(b"yes", at(224)), cache.get(b"yes", at(225))), (YES, due));
        assert_eq!(cache.get(b"no", at(299)), Some(Known::No));
        cache.refresh_later(b"yes", at(240));
        assert_eq!((cache.get(b"yes", at(239)), cache.get(b"yes", at(240))), (YES, due));
        assert_eq!(cache.get(b"yes", at(300)), None, "no longer than before");
        cache.put("ann", b"yes", good(false, now, 300));
        assert_eq!(cache.get(b"yes", now), Some(Known::No));
    }

    #[test]
    fn a_question_that_is_longer_than_all_may_be_is_not_kept_pitfall_15() {
        let now = Instant::now();
        let mut cache = Cache::new(10, 4);
        cache.put("ann", b"longer", good(true, now, 1));
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn an_owner_who_asks_much_displaces_its_own_answers_alone() {
        let now = Instant::now();
        let mut cache = Cache::new(100, 1_000_000);
        for topic in 0..20_u8 {
            cache.put("ann", &[0, topic], good(true, now, 300));
        }
        for topic in 0..10_000_u16 {
            cache.put("mallory", &[&[1], &topic.to_be_bytes()[..]].concat(), good(false, now, 300));
        }
        assert_eq!(cache.len(), 100);
        assert!((0..20).all(|topic| cache.get(&[0, topic], now) == YES));
        let newest = [&[1], &9_999_u16.to_be_bytes()[..]].concat();
        assert_eq!(cache.get(&newest, now), Some(Known::No));
    }

    /// Answers in the order in which they were given: owner, question, yes, end.
    type List = Vec<(u8, Vec<u8>, bool, Instant)>;

    /// Who has the most; of several such, whose oldest answer is the oldest.
    fn heaviest(list: &List) -> Option<u8> {
        let weight = |owner: u8| {
            let own = list.iter().filter(|(of, ..)| *of == owner);
            own.map(|(_, question, ..)| question.len() + ANSWER_WEIGHT).sum::<usize>()
        };
        let most = list.iter().map(|(owner, ..)| weight(*owner)).max()?;
        list.iter().map(|(owner, ..)| *owner).find(|owner| weight(*owner) == most)
    }

    proptest! {
        #[test]
        fn the_cache_agrees_with_a_list_that_is_searched(
            entries_max in 0_usize..6, bytes_max in 0_usize..30,
            puts in prop::collection::vec((0_u8..8, any::<bool>(), 0_u64..9, 0_u64..3), 0..80)
        ) {
            let mut now = Instant::now();
            let mut cache = Cache::new(entries_max, bytes_max);
            let mut list = List::new();
            for (name, yes, keep, step) in puts {
                now += Duration::from_secs(step);
                let (owner, question) = (name % 3, vec![name; usize::from(name) + 1]);
                cache.put(&owner.to_string(), &question, good(yes, now, keep));
                list.retain(|(_, other, ..)| *other != question);
                if question.len() <= bytes_max && entries_max > 0 {
                    list.push((owner, question, yes, now + Duration::from_secs(keep)));
                    list.retain(|(.., until)| now < *until);
                }
                let bytes = |list: &List| list.iter().map(|(_, question, ..)| question.len()).sum::<usize>();
                while list.len() > entries_max || bytes(&list) > bytes_max {
                    let most = heaviest(&list).expect("there is an answer");
                    let oldest = list.iter().position(|(owner, ..)| *owner == most);
                    list.remove(oldest.expect("it has an answer"));
                }
                let known = (0..8_u8).map(|name| vec![name; usize::from(name) + 1]);
                for question in known {
                    let found = cache.get(&question, now).map(|known| known != Known::No);
                    let expected = list.iter().find(|(_, other, _, until)| *other == question && now < *until);
                    prop_assert_eq!(found, expected.map(|(_, _, yes, _)| *yes));
                }
                prop_assert!(cache.len() <= entries_max && cache.bytes <= bytes_max);
                let owned: usize = cache.owners.values().map(|owner| owner.answers.len()).sum();
                prop_assert!(owned == cache.len() && cache.ends.len() == cache.len());
                prop_assert!(cache.by_weight.len() == cache.owners.len());
            }
        }
    }
}
