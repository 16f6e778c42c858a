//! The peers of one listener that have not sent CONNECT: how many there may be, and which of them leaves when there is
//! no place for another one.
//!
//! A peer either waits for the broker (a computation of its handshake, the decision on its CONNECT) or the broker
//! waits for it. Only the second kind can be displaced, the peer that has let the broker wait longest first. So a
//! flood of peers that say nothing makes room for others, and a storm of honest peers waits for its turn. Bytes that
//! end no step of a handshake do not count as an answer: a peer cannot keep its place by single bytes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_lock::{Semaphore, SemaphoreGuardArc};

use crate::engine::timers::{Mailbox, Order};
use crate::sync::lock;
use crate::time::Timestamp;

/// How long a peer may let the broker wait in any case, in milliseconds: more than most peers need for an answer.
pub(super) const PATIENCE_MILLIS: u64 = 500;

/// Of so many places one more is cleared at a time, so that a flood does not wait for each single one.
const PLACES_PER_CLEARED: usize = 256;

/// The places of a listener.
pub(super) struct Newcomers {
    places: Arc<Semaphore>,
    cleared_at_once: usize,
    /// Peers for which the broker waits, by the time since when, and by their number.
    awaited: Mutex<BTreeMap<(Timestamp, u64), Arc<Mailbox>>>,
    numbers: AtomicU64,
}

/// The place of one peer. Its drop gives it to another one.
pub(super) struct Place {
    newcomers: Arc<Newcomers>,
    number: u64,
    /// Since when the broker waits for the peer.
    awaited_since: Option<Timestamp>,
    _permit: SemaphoreGuardArc,
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
    pub(super) fn new(places: usize) -> Arc<Newcomers> {
        Arc::new(Newcomers {
            places: Arc::new(Semaphore::new(places.max(1))),
            cleared_at_once: 1 + places / PLACES_PER_CLEARED,
            awaited: Mutex::default(),
            numbers: AtomicU64::new(0),
        })
    }

    /// A place, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        Some(self.place(self.places.try_acquire_arc()?))
    }

    /// Waits for a place.
    pub(super) async fn wait(self: &Arc<Self>) -> Place {
        self.place(self.places.acquire_arc().await)
    }

    fn place(self: &Arc<Self>, permit: SemaphoreGuardArc) -> Place {
        Place {
            newcomers: self.clone(),
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            awaited_since: None,
            _permit: permit,
        }
    }

    /// Tells the peers to leave that have let the broker wait longest, one or a few. Their places become free when
    /// their tasks have ended.
    pub(super) fn clear(&self, now: Timestamp) -> Cleared {
        let mut awaited = lock(&self.awaited);
        let mut leaving = Vec::new();
        while leaving.len() < self.cleared_at_once
            && let Some(first) = awaited.first_entry()
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
        drop(awaited);
        if leaving.is_empty() {
            return Cleared::NotBefore(Timestamp(now.0 + PATIENCE_MILLIS));
        }
        leaving.iter().for_each(|mailbox| mailbox.order(Order::Displaced));
        Cleared::Some(leaving.len())
    }
}

impl Place {
    /// The broker waits for the peer, from now on or since it began to.
    pub(super) fn peers_turn(&mut self, now: Timestamp, mailbox: &Arc<Mailbox>) {
        if self.awaited_since.is_none() {
            self.awaited_since = Some(now);
            lock(&self.newcomers.awaited).insert((now, self.number), mailbox.clone());
        }
    }

    /// The peer has done its part.
    pub(super) fn brokers_turn(&mut self) {
        if let Some(since) = self.awaited_since.take() {
            lock(&self.newcomers.awaited).remove(&(since, self.number));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.brokers_turn();
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
}
