//! What is remembered of those who ask: who was let in, who failed. All of it is bounded and kept as keyed hashes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ahash::RandomState;

use super::networks;

/// A user name of a site is put last for this time after a wrong password.
const FAILURE_KEPT: Duration = Duration::from_secs(60);

/// With so many failures within `FAILURE_KEPT`, the names of a site that were never let in are put last.
const FAILURES_OF_SITE_MAX: u32 = 8;

/// Users that are remembered of those who were let in: 8 bytes each.
const LET_IN: usize = 65_536;
/// Users, and sites, that are remembered of those who failed.
const FAILED: usize = 16_384;

/// A user name at a site: an IPv4 address, 48 bits of an IPv6 address, or no address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    user: u64,
    site: u64,
}

/// Places by hash: two that share one forget each other. Nobody can aim at a place, because the hashes have a key.
struct Table<V> {
    /// Empty until something is kept.
    places: Vec<Option<(u64, V)>>,
    size: usize,
}

impl<V: Copy> Table<V> {
    fn new(size: usize) -> Table<V> {
        Table { places: Vec::new(), size }
    }

    fn place(&self, key: u64) -> usize {
        usize::try_from(key).unwrap_or_default().checked_rem(self.size).unwrap_or_default()
    }

    fn get(&self, key: u64) -> Option<V> {
        let (known, value) = (*self.places.get(self.place(key))?)?;
        (known == key).then_some(value)
    }

    fn put(&mut self, key: u64, value: Option<V>) {
        if self.places.is_empty() && value.is_some() {
            self.places.resize(self.size, None);
        }
        let place = self.place(key);
        if let Some(place) = self.places.get_mut(place)
            && (value.is_some() || place.is_some_and(|(known, _)| known == key))
        {
            *place = value.map(|value| (key, value));
        }
    }
}

/// The memory of a pool.
pub(super) struct Standings {
    state: RandomState,
    let_in: Table<()>,
    failed: Table<Instant>,
    sites: Table<(u32, Instant)>,
}

impl Standings {
    pub(super) fn new() -> Standings {
        Standings {
            state: RandomState::new(),
            let_in: Table::new(LET_IN),
            failed: Table::new(FAILED),
            sites: Table::new(FAILED),
        }
    }

    pub(super) fn asker(&self, from: Option<IpAddr>, user: &str) -> Asker {
        let site = from.map(networks::site);
        Asker { user: self.state.hash_one((site, user)), site: self.state.hash_one(site) }
    }

    /// The class in which it waits: 0 if this user was let in from this site, 2 if it failed there within a minute, or if
    /// the site has failed often and this user was never let in there; 1 otherwise.
    pub(super) fn class(&self, asker: Asker, now: Instant) -> usize {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < FAILURE_KEPT;
        if self.failed.get(asker.user).is_some_and(is_recent) {
            return 2;
        }
        if self.let_in.get(asker.user).is_some() {
            return 0;
        }
        let site = self.sites.get(asker.site).filter(|(_, since)| is_recent(*since));
        match site {
            Some((failures, _)) if failures >= FAILURES_OF_SITE_MAX => 2,
            _ => 1,
        }
    }

    /// Remembers how a check ended.
    pub(super) fn note(&mut self, asker: Asker, is_let_in: bool, now: Instant) {
        if is_let_in {
            self.let_in.put(asker.user, Some(()));
            self.failed.put(asker.user, None);
            return;
        }
        self.failed.put(asker.user, Some(now));
        let before = self.sites.get(asker.site);
        let before = before.filter(|(_, at)| now.saturating_duration_since(*at) < FAILURE_KEPT);
        // A site that goes on failing is remembered from its last failure on.
        let failures = before.map_or(0, |(failures, _)| failures).saturating_add(1);
        self.sites.put(asker.site, Some((failures, now)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_memory_is_bounded_and_empty_until_it_is_needed_pitfall_15() {
        let (mut standings, now) = (Standings::new(), Instant::now());
        assert!(standings.let_in.places.is_empty() && standings.failed.places.is_empty());
        for number in 0..200_000_u32 {
            let asker = standings.asker(None, &number.to_string());
            standings.note(asker, number % 2 == 0, now);
        }
        assert_eq!(standings.let_in.places.len(), LET_IN);
        assert_eq!((standings.failed.places.len(), standings.sites.places.len()), (FAILED, FAILED));
    }

    /// No two of the askers of the test below forget each other.
    fn without_collisions() -> Standings {
        loop {
            let standings = Standings::new();
            let askers = (0..3_u8).flat_map(|site| (0..6_u8).map(move |user| (site, user)));
            let askers: Vec<Asker> = askers
                .map(|(site, user)| {
                    let address = IpAddr::from([192, 0, 2, site]);
                    standings.asker(Some(address), &user.to_string())
                })
                .collect();
            let users = askers.iter().flat_map(|asker| {
                [(0, standings.let_in.place(asker.user)), (1, standings.failed.place(asker.user))]
            });
            let sites = askers.iter().map(|asker| (2, standings.sites.place(asker.site)));
            if users.chain(sites).collect::<HashSet<_>>().len() == 18 + 18 + 3 {
                return standings;
            }
        }
    }

    proptest! {
        #[test]
        fn classes_agree_with_a_list_of_all_that_happened(
            steps in prop::collection::vec((0..3_u8, 0..6_u8, any::<bool>(), 0..40_u64), 1..80)
        ) {
            let mut standings = without_collisions();
            let mut list: Vec<(u8, u8, bool, Instant)> = Vec::new();
            let mut now = Instant::now();
            for (site, user, is_let_in, secs) in steps {
                now += Duration::from_secs(secs);
                let (address, name) = (IpAddr::from([192, 0, 2, site]), user.to_string());
                let asker = standings.asker(Some(address), &name);
                let own: Vec<_> = list.iter().filter(|(of, name, ..)| (*of, *name) == (site, user)).collect();
                let failing = own.last().is_some_and(|(_, _, let_in, at)| {
                    !let_in && now.saturating_duration_since(*at) < FAILURE_KEPT
                });
                let known = own.iter().any(|(_, _, let_in, _)| *let_in);
                // The failures since the last pause of a minute.
                let mut flood: u32 = 0;
                let mut later = now;
                for (_, _, _, at) in list.iter().rev().filter(|(of, _, let_in, _)| *of == site && !let_in) {
                    if later.saturating_duration_since(*at) >= FAILURE_KEPT {
                        break;
                    }
                    (flood, later) = (flood + 1, *at);
                }
                let expected = match (failing, known) {
                    (true, _) => 2,
                    (false, true) => 0,
                    (false, false) if flood >= FAILURES_OF_SITE_MAX => 2,
                    (false, false) => 1,
                };
                prop_assert_eq!(standings.class(asker, now), expected);
                standings.note(asker, is_let_in, now);
                list.push((site, user, is_let_in, now));
            }
        }

        #[test]
        fn a_table_never_invents_anything(puts in prop::collection::vec((0..40_u64, prop::option::of(0..9_u8)), 0..80)) {
            let mut table = Table::new(7);
            let mut last = HashMap::new();
            for (key, value) in puts {
                table.put(key, value);
                last.insert(key, value);
                prop_assert_eq!(table.get(key), value);
                let kept: HashSet<u64> = last.keys().copied().filter(|key| table.get(*key).is_some()).collect();
                prop_assert!(kept.len() <= 7 && kept.iter().all(|key| table.get(*key) == last[key]));
            }
        }
    }
}
