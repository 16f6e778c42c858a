//! Events to those that asked for them. Without a receiver an event is not even made.

use std::sync::Arc;
use std::time::SystemTime;

use async_broadcast::{InactiveReceiver, Sender};

use crate::events::{Event, Events, Happening};

/// Events that a receiver may be behind before it loses the oldest.
const EVENTS_HELD: usize = 1_024;

/// Gives events to their receivers.
#[derive(Debug)]
pub(crate) struct Announcer {
    sender: Sender<Arc<Event>>,
    /// Keeps the channel open while nobody receives.
    channel: InactiveReceiver<Arc<Event>>,
}

impl Announcer {
    pub(crate) fn new() -> Announcer {
        let (mut sender, receiver) = async_broadcast::broadcast(EVENTS_HELD);
        sender.set_overflow(true);
        Announcer { sender, channel: receiver.deactivate() }
    }

    /// Whether an event has a receiver.
    pub(crate) fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Makes an event if it has a receiver.
    pub(crate) fn announce(&self, at: SystemTime, what: impl FnOnce() -> Happening) {
        if self.is_heard() {
            // It fails only after the close.
            let _ = self.sender.try_broadcast(Arc::new(Event { at, what: what() }));
        }
    }

    /// A new receiver, from now on.
    pub(crate) fn receive(&self) -> Events {
        Events::of(self.channel.activate_cloned())
    }

    /// Ends all receivers after the events that they still hold.
    pub(crate) fn close(&self) {
        self.sender.close();
    }
}
