//! Events to those that asked for them. Without a receiver an event is not even made, and asking whether there is one
//! is one relaxed load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_broadcast::{InactiveReceiver, Sender};

use crate::events::{Event, Events, Happening, Hearing};
use crate::host::WallClock;

/// Events that a receiver may be behind before it loses the oldest.
const EVENTS_HELD: usize = 1_024;

/// Gives events to their receivers. Announcing takes the lock of the channel, which is the last of all locks.
#[derive(Debug)]
pub(crate) struct Announcer {
    sender: Sender<Arc<Event>>,
    /// Keeps the channel open while nobody receives.
    channel: InactiveReceiver<Arc<Event>>,
    receivers: Arc<AtomicUsize>,
    wall: WallClock,
}

impl Announcer {
    pub(crate) fn new(wall: WallClock) -> Announcer {
        let (mut sender, receiver) = async_broadcast::broadcast(EVENTS_HELD);
        sender.set_overflow(true);
        Announcer { sender, channel: receiver.deactivate(), receivers: Arc::default(), wall }
    }

    /// Whether an event has a receiver.
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        self.receivers.load(Ordering::Relaxed) > 0
    }

    /// Makes an event if it has a receiver.
    #[inline]
    pub(crate) fn announce(&self, what: impl FnOnce() -> Happening) {
        if self.is_heard() {
            self.send(what());
        }
    }

    fn send(&self, what: Happening) {
        // It fails only after the close.
        let _ = self.sender.try_broadcast(Arc::new(Event { at: self.wall.read(), what }));
    }

    /// A new receiver, from now on.
    pub(crate) fn receive(&self) -> Events {
        Events::of(self.channel.activate_cloned(), Hearing::new(&self.receivers))
    }

    /// Ends all receivers after the events that they still hold.
    pub(crate) fn close(&self) {
        self.sender.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use futures_lite::future::block_on;

    use super::*;
    use crate::events::Lagged;

    fn stopped(name: u64) -> Happening {
        Happening::ListenerStopped { name: name.to_string() }
    }

    #[test]
    fn without_a_receiver_no_event_is_made() {
        let announcer = Announcer::new(WallClock::System);
        let made = AtomicU64::new(0);
        let announce = || announcer.announce(|| stopped(made.fetch_add(1, Ordering::Relaxed)));
        announce();
        let (one, other) = (announcer.receive(), announcer.receive());
        announce();
        drop(one);
        announce();
        drop(other);
        announce();
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_receiver_that_lags_loses_the_oldest_and_is_told_how_many() {
        let announcer = Announcer::new(WallClock::System);
        let (mut lags, mut late) = (announcer.receive(), announcer.receive());
        let sent = EVENTS_HELD as u64 + 10;
        (0..sent).for_each(|number| announcer.announce(|| stopped(number)));
        assert_eq!(block_on(lags.next()), Some(Err(Lagged(10))));
        let next = block_on(lags.next()).unwrap().unwrap();
        assert_eq!(next.what, stopped(10), "the oldest that is held");
        announcer.close();
        let held: Vec<_> = std::iter::from_fn(|| block_on(late.next())).collect();
        assert_eq!((held.len(), &held[0]), (1 + EVENTS_HELD, &Err(Lagged(10))));
    }
}
