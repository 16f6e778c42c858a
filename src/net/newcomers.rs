//! The peers of one listener that have not sent CONNECT: how many there may be, and which of them leaves when there is
//! no place for another one.
//!
//! A peer either waits for the broker (a computation of its handshake, the decision on its CONNECT) or the broker
//! waits for it. Only the second kind can be displaced, the peer that has let the broker wait longest first. So a
//! flood of peers that say nothing makes room for others, and a storm of honest peers waits for its turn. Bytes that
//! end no step of a handshake do not count as an answer: a peer cannot keep its place by single bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_channel::{Receiver, Sender};

use crate::engine::timers::{Mailbox, Order};
use crate::sync::lock;
use crate::time::Timestamp;

/// How long a peer may let the broker wait in any case, in milliseconds: more than most peers need for an answer.
pub(super) const PATIENCE_MILLIS: u64 = 500;

/// Of so many places one more is cleared at a time, so that a flood does not wait for each single one.
const PLACES_PER_CLEARED: usize = 256;

/// The places of a listener.
pub(super) struct Newcomers {
    places: Mutex<Places>,
    /// Has an item when a place has become free.
    freed: (Sender<()>, Receiver<()>),
}

struct Places {
    max: usize,
    taken: usize,
    /// Peers for which the broker waits, by the time since when, and by their number.
    awaited: BTreeMap<(Timestamp, u64), Arc<Mailbox>>,
    next_number: u64,
}

/// The place of one peer. Its drop gives it to another one.
pub(super) struct Place {
    newcomers: Arc<Newcomers>,
    number: u64,
    /// Since when the broker waits for the peer.
    awaited_since: Option<Timestamp>,
}

/// What came of an attempt to make room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cleared {
    /// So many peers were told to leave.
    Some(usize),
    /// None has let the broker wait for long enough. The first one may have at this time.
    NotBefore(Timestamp),
}

impl Newcomers {
    pub(super) fn new(max: usize) -> Arc<Newcomers> {
        let places = Places { max: max.max(1), taken: 0, awaited: BTreeMap::new(), next_number: 0 };
        Arc::new(Newcomers { places: Mutex::new(places), freed: async_channel::bounded(1) })
    }

    /// Changes how many places there are. Peers that have one keep it, also if there are more of them.
    pub(super) fn set_max(&self, max: usize) {
        lock(&self.places).max = max.max(1);
        self.tell_of_room();
    }

    /// A place, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut places = lock(&self.places);
        if !places.has_room() {
            return None;
        }
        places.taken += 1;
        places.next_number += 1;
        let number = places.next_number;
        Some(Place { newcomers: self.clone(), number, awaited_since: None })
    }

    /// Waits for a place.
    pub(super) async fn wait(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.take() {
                // Another one may wait, too: of places that become free at the same time, one was told.
                self.tell_of_room();
                return place;
            }
            // Both ends of the channel are in `self`, so it cannot fail.
            let _ = self.freed.1.recv().await;
        }
    }

    fn tell_of_room(&self) {
        if lock(&self.places).has_room() {
            let _ = self.freed.0.try_send(());
        }
    }

    /// Tells the peers to leave that have let the broker wait longest: one or a few, and those beyond the present
    /// number of places. Their places become free when their tasks have ended.
    pub(super) fn clear(&self, now: Timestamp) -> Cleared {
        let mut places = lock(&self.places);
        let most = 1 + places.max / PLACES_PER_CLEARED + places.taken.saturating_sub(places.max);
        let mut leaving = Vec::new();
        while leaving.len() < most
            && let Some(first) = places.awaited.first_entry()
        {
            let due = Timestamp(first.key().0.0 + PATIENCE_MILLIS);
            if now < due {
                if leaving.is_empty() {
                    return Cleared::NotBefore(due);
                }
                break;
            }
            leaving.push(first.remove());
        }
        drop(places);
        if leaving.is_empty() {
            return Cleared::NotBefore(Timestamp(now.0 + PATIENCE_MILLIS));
        }
        leaving.iter().for_each(|mailbox| mailbox.order(Order::Displaced));
        Cleared::Some(leaving.len())
    }
}

impl Places {
    fn has_room(&self) -> bool {
        self.taken < self.max
    }
}

impl Place {
    /// The broker waits for the peer, from now on or since it began to.
    pub(super) fn peers_turn(&mut self, now: Timestamp, mailbox: &Arc<Mailbox>) {
        if self.awaited_since.is_none() {
            self.awaited_since = Some(now);
            lock(&self.newcomers.places).awaited.insert((now, self.number), mailbox.clone());
        }
    }

    /// The peer has done its part.
    pub(super) fn brokers_turn(&mut self) {
        if let Some(since) = self.awaited_since.take() {
            lock(&self.newcomers.places).awaited.remove(&(since, self.number));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.brokers_turn();
        lock(&self.newcomers.places).taken -= 1;
        self.newcomers.tell_of_room();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn enter(newcomers: &Arc<Newcomers>, at: u64) -> (Place, Arc<Mailbox>) {
        let (mut place, mailbox) = (newcomers.take().unwrap(), Arc::new(Mailbox::new()));
        place.peers_turn(Timestamp(at), &mailbox);
        (place, mailbox)
    }

    fn leaves(mailbox: &Mailbox) -> bool {
        mailbox.ordered() == Some(Order::Displaced)
    }

    #[test]
    fn the_peer_leaves_that_has_let_the_broker_wait_longest() {
        let newcomers = Newcomers::new(3);
        let (mut early, early_box) = enter(&newcomers, 0);
        let (middle, middle_box) = enter(&newcomers, 10);
        let (_late, late_box) = enter(&newcomers, 20);
        assert!(newcomers.take().is_none());
        assert_eq!(newcomers.clear(Timestamp(499)), Cleared::NotBefore(Timestamp(500)));
        // It has answered, and is awaited again.
        early.brokers_turn();
        early.peers_turn(Timestamp(30), &early_box);
        early.peers_turn(Timestamp(700), &early_box);
        assert_eq!(newcomers.clear(Timestamp(510)), Cleared::Some(1));
        assert_eq!(
            [&early_box, &middle_box, &late_box].map(|one| leaves(one)),
            [false, true, false]
        );
        let mut next = Box::pin(newcomers.wait());
        assert!(block_on(poll_once(&mut next)).is_none(), "it has not left yet");
        drop(middle);
        drop(block_on(next));
        assert_eq!(newcomers.clear(Timestamp(10_000)), Cleared::Some(1));
        assert!(leaves(&late_box) && !leaves(&early_box));
    }

    #[test]
    fn a_peer_that_waits_for_the_broker_stays() {
        let newcomers = Newcomers::new(1);
        let (mut place, mailbox) = enter(&newcomers, 0);
        place.brokers_turn();
        assert_eq!(newcomers.clear(Timestamp(9_000)), Cleared::NotBefore(Timestamp(9_500)));
        place.peers_turn(Timestamp(9_400), &mailbox);
        assert_eq!(newcomers.clear(Timestamp(9_500)), Cleared::NotBefore(Timestamp(9_900)));
        drop(place);
        assert_eq!(newcomers.clear(Timestamp(99_000)), Cleared::NotBefore(Timestamp(99_500)));
        assert!(!leaves(&mailbox) && newcomers.take().is_some());
    }

    #[test]
    fn of_many_places_several_become_free_at_a_time() {
        let newcomers = Newcomers::new(1_024);
        let all: Vec<_> = (0..1_024).map(|_| enter(&newcomers, 0)).collect();
        assert_eq!(newcomers.clear(Timestamp(500)), Cleared::Some(5));
        assert_eq!(all.iter().filter(|(_, mailbox)| leaves(mailbox)).count(), 5);
    }

    #[test]
    fn places_are_added_and_taken_away_while_peers_have_them() {
        let newcomers = Newcomers::new(1);
        let (_first, first_box) = enter(&newcomers, 0);
        let mut next = Box::pin(newcomers.wait());
        let mut after_next = Box::pin(newcomers.wait());
        assert!(block_on(poll_once(&mut next)).is_none());
        assert!(block_on(poll_once(&mut after_next)).is_none());
        newcomers.set_max(3);
        let others = (block_on(next), block_on(after_next));
        assert!(newcomers.take().is_none());

        newcomers.set_max(1);
        let mut last = Box::pin(newcomers.wait());
        drop(others.0);
        assert!(block_on(poll_once(&mut last)).is_none(), "two peers have the place of one");
        drop(others.1);
        assert!(block_on(poll_once(&mut last)).is_none(), "the place is taken");
        assert!(!leaves(&first_box));
    }

    #[test]
    fn peers_beyond_a_lowered_number_leave_with_the_next_one() {
        let newcomers = Newcomers::new(4);
        let all: Vec<_> = (0..4).map(|at| enter(&newcomers, at)).collect();
        newcomers.set_max(2);
        assert!(all.iter().all(|(_, mailbox)| !leaves(mailbox)), "while nobody needs a place");
        assert_eq!(newcomers.clear(Timestamp(600)), Cleared::Some(3));
        let left: Vec<_> = all.iter().map(|(_, mailbox)| leaves(mailbox)).collect();
        assert_eq!(left, [true, true, true, false]);
    }
}
