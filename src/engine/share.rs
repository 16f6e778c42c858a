//! Shared subscriptions (section 4.8.2): their members, and the order in which members are tried.
//!
//! The members that are connected stand first, so that finding the next one costs the same with ten thousand
//! members as with two.

use std::fmt;
use std::sync::{Arc, Mutex};

use ahash::RandomState;
use hashbrown::HashMap;

use crate::subscription::{ShareGroup, Wanted};
use crate::sync::lock;

/// One member. `C` is a Session with its lock.
pub(crate) struct Member<C> {
    pub(crate) cell: Arc<C>,
    pub(crate) wanted: Wanted,
}

impl<C> Clone for Member<C> {
    fn clone(&self) -> Member<C> {
        Member { cell: self.cell.clone(), wanted: self.wanted.clone() }
    }
}

/// A shared subscription.
pub(crate) struct Group<C> {
    /// The identity by which a message refers to this shared subscription.
    pub(crate) identity: Arc<ShareGroup>,
    members: Mutex<Members<C>>,
}

struct Members<C> {
    /// Members whose Clients are connected come first.
    list: Vec<(u64, Member<C>)>,
    connected: usize,
    /// By the key of the member's Session.
    places: HashMap<u64, usize, RandomState>,
    /// Where the next pick begins.
    turn: usize,
}

impl<C> Default for Group<C> {
    fn default() -> Group<C> {
        let places = HashMap::with_hasher(RandomState::new());
        let members = Members { list: Vec::new(), connected: 0, places, turn: 0 };
        Group { identity: Arc::default(), members: Mutex::new(members) }
    }
}

/// One pick: the members in the order in which they are to be tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick {
    first: usize,
}

impl<C> Group<C> {
    /// Adds a member, or replaces its options.
    pub(crate) fn add(&self, key: u64, member: Member<C>, connected: bool) {
        let mut members = lock(&self.members);
        if let Some(&place) = members.places.get(&key) {
            members.list[place].1 = member;
        } else {
            let place = members.list.len();
            members.list.push((key, member));
            members.places.insert(key, place);
        }
        members.set_connected(key, connected);
    }

    pub(crate) fn remove(&self, key: u64) {
        let mut members = lock(&self.members);
        members.set_connected(key, false);
        let Some(place) = members.places.remove(&key) else { return };
        members.list.swap_remove(place);
        members.note_place(place);
    }

    /// Notes that the Client of a member connected or disconnected.
    pub(crate) fn set_connected(&self, key: u64, connected: bool) {
        lock(&self.members).set_connected(key, connected);
    }

    /// The next pick, which stays the next.
    pub(crate) fn peek(&self) -> Pick {
        Pick { first: lock(&self.members).turn }
    }

    /// Begins a pick one place after the last one, so that messages go to the members in turn.
    pub(crate) fn pick(&self) -> Pick {
        let mut members = lock(&self.members);
        members.turn = members.turn.wrapping_add(1);
        Pick { first: members.turn.wrapping_sub(1) }
    }

    /// The member to try after `tried` members were tried, and whether it is connected: first all that are, then the
    /// others, in turn.
    pub(crate) fn member(&self, pick: Pick, tried: usize) -> Option<(Member<C>, bool)> {
        let members = lock(&self.members);
        let (connected, all) = (members.connected, members.list.len());
        let place = match tried.checked_sub(connected) {
            None => pick.first.wrapping_add(tried) % connected,
            Some(others) if tried < all => {
                let away = all - connected;
                connected + pick.first.wrapping_add(others) % away
            }
            Some(_) => return None,
        };
        members.list.get(place).map(|(_, member)| (member.clone(), tried < connected))
    }
}

impl<C> Members<C> {
    fn set_connected(&mut self, key: u64, connected: bool) {
        let Some(&place) = self.places.get(&key) else { return };
        let before = place < self.connected;
        if before == connected {
            return;
        }
        // The border between both parts moves by one, past this member.
        let border = if connected { self.connected } else { self.connected - 1 };
        self.list.swap(place, border);
        self.connected = if connected { border + 1 } else { border };
        self.note_place(place);
        self.note_place(border);
    }

    fn note_place(&mut self, place: usize) {
        if let Some((key, _)) = self.list.get(place) {
            self.places.insert(*key, place);
        }
    }
}

impl<C> fmt::Debug for Group<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{QoS, SubscriptionOptions};
    use crate::subscription::Subscription;

    fn member(name: u64) -> Member<u64> {
        let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
        let wanted = Wanted::merge(&[Subscription { options, id: None }]).unwrap();
        Member { cell: Arc::new(name), wanted }
    }

    fn group(connected: &[u64], away: &[u64]) -> Group<u64> {
        let group = Group::default();
        for &key in away.iter().chain(connected) {
            group.add(key, member(key), connected.contains(&key));
        }
        group
    }

    /// The members that one pick tries, in order.
    fn tried(group: &Group<u64>) -> Vec<u64> {
        let pick = group.pick();
        all_tried(group, pick)
            .into_iter()
            .filter(|(_, connected)| *connected)
            .map(|(key, _)| key)
            .collect()
    }

    fn all_tried(group: &Group<u64>, pick: Pick) -> Vec<(u64, bool)> {
        let member = |tried| group.member(pick, tried);
        (0..).map_while(member).map(|(member, connected)| (*member.cell, connected)).collect()
    }

    #[test]
    fn picks_go_round_and_try_every_connected_member_once() {
        let group = group(&[1, 2, 3], &[8, 9]);
        let firsts: Vec<u64> = (0..6)
            .map(|_| {
                let mut all = tried(&group);
                let first = all[0];
                all.sort_unstable();
                assert_eq!(all, [1, 2, 3]);
                first
            })
            .collect();
        assert_eq!(firsts[..3], firsts[3..]);
        let mut round = firsts[..3].to_vec();
        round.sort_unstable();
        assert_eq!(round, [1, 2, 3]);
    }

    #[test]
    fn members_that_are_away_have_their_turn_behind_those_that_are_connected() {
        let group = group(&[1], &[2, 3]);
        let firsts = |group: &Group<u64>, at: usize| -> Vec<u64> {
            (0..4).map(|_| all_tried(group, group.pick())[at].0).collect()
        };
        assert_eq!(firsts(&group, 0), [1; 4]);
        assert!([2, 3].iter().all(|away| firsts(&group, 1).contains(away)));
        group.set_connected(1, false);
        assert!(tried(&group).is_empty());
        assert!([1, 2, 3].iter().all(|away| firsts(&group, 0).contains(away)));
        group.set_connected(2, true);
        assert_eq!(tried(&group), [2]);
        let mut all = all_tried(&group, group.pick());
        all.sort_unstable();
        assert_eq!(all, [(1, false), (2, true), (3, false)], "each once");
    }

    #[test]
    fn members_come_and_go() {
        let group = group(&[1, 2], &[3]);
        group.remove(1);
        group.remove(7);
        assert_eq!(tried(&group), [2]);
        group.add(3, member(3), true);
        assert_eq!(tried(&group).len(), 2);
        group.remove(2);
        group.remove(3);
        assert!(all_tried(&group, group.pick()).is_empty());
    }
}
