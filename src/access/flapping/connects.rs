//! The last CONNECTs of Client Identifiers: who took a Session over.

use std::sync::Mutex;

use ahash::RandomState;

use crate::access::Credentials;
use crate::sync::lock;
use crate::transport::PeerInfo;

/// Client Identifiers whose CONNECTs are remembered. More of them forget each other, and then a takeover by another
/// counts as a disconnect.
const SLOTS: usize = 16_384;

/// The last two CONNECTs of each Client Identifier, whether they were accepted or not. All are kept as keyed hashes, so
/// the memory is bounded and nobody can aim at a place.
pub(super) struct Connects {
    state: RandomState,
    slots: Mutex<Box<[Slot]>>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    client: u64,
    last: Attempt,
    before: Attempt,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Attempt {
    /// The peer with its port.
    peer: u64,
    /// The User Name and the address.
    who: u64,
}

impl Default for Connects {
    fn default() -> Connects {
        let slots = vec![Slot::default(); SLOTS].into_boxed_slice();
        Connects { state: RandomState::new(), slots: Mutex::new(slots) }
    }
}

impl Connects {
    fn place(client: u64) -> usize {
        usize::try_from(client).unwrap_or_default() % SLOTS
    }

    pub(super) fn note(&self, shown: &Credentials) {
        let client = self.state.hash_one(&*shown.client_id);
        let address = shown.peer.address().map(|address| address.ip().to_canonical());
        let attempt = Attempt {
            peer: self.state.hash_one(shown.peer.to_string()),
            who: self.state.hash_one((shown.user_name.as_deref().unwrap_or_default(), address)),
        };
        if let Some(slot) = lock(&self.slots).get_mut(Connects::place(client)) {
            let before = if slot.client == client { slot.last } else { attempt };
            *slot = Slot { client, last: attempt, before };
        }
    }

    /// Whether another has sent CONNECT with the Client Identifier since this peer did.
    pub(super) fn taken_over(&self, client_id: &str, peer: &PeerInfo) -> bool {
        let client = self.state.hash_one(client_id);
        let peer = self.state.hash_one(peer.to_string());
        let slot = lock(&self.slots).get(Connects::place(client)).copied();
        let Some(slot) = slot.filter(|slot| slot.client == client && slot.last.peer != peer) else {
            return false;
        };
        slot.before.peer != peer || slot.before.who != slot.last.who
    }
}
