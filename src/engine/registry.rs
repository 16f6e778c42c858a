//! The Sessions by Client Identifier, one for each (MQTT-3.1.3-2).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ahash::RandomState;
use hashbrown::HashMap;

use super::holder::{Holder, Succession};
use super::session_cell::{Owner, SessionCell};
use crate::limits::Limits;
use crate::session::Session;
use crate::sync::lock;

/// More shards than a machine is likely to have workers, so that CONNECTs seldom contend.
const SHARDS: usize = 16;

type Shard = HashMap<Arc<str>, Arc<SessionCell>, RandomState>;

/// Sessions by Client Identifier.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    sessions: AtomicUsize,
    /// The most Sessions at a time.
    most: AtomicUsize,
    keys: AtomicU64,
}

/// The outcome of claiming a Client Identifier.
#[derive(Debug)]
pub(crate) enum Claim {
    /// A new Session, and the Session that it replaces, which the caller has to end.
    New { cell: Arc<SessionCell>, replaced: Option<Arc<SessionCell>> },
    /// The existing Session. It may end before the caller has its lock; then the caller claims again.
    Existing(Arc<SessionCell>),
    /// An in-process client has the Client Identifier.
    InProcess,
    /// The Session is another user's.
    OfAnother,
    /// `sessions_max` is reached.
    Full,
}

impl Registry {
    pub(crate) fn new(hasher: &RandomState) -> Registry {
        let shard = || Mutex::new(HashMap::with_hasher(hasher.clone()));
        Registry {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: hasher.clone(),
            sessions: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            keys: AtomicU64::new(1),
        }
    }

    fn shard(&self, client_id: &str) -> &Mutex<Shard> {
        // The low bits choose the bucket inside a shard, the high ones the shard.
        let index = (self.hasher.hash_one(client_id) >> 56) as usize % SHARDS;
        &self.shards[index]
    }

    /// Claims the Client Identifier of a CONNECT of `holder`. `fresh`: Clean Start, so that an existing Session is
    /// replaced.
    pub(crate) fn claim(
        &self,
        client_id: &str,
        fresh: bool,
        owner: Owner,
        holder: Option<&Holder>,
        limits: &Limits,
    ) -> Claim {
        let mut shard = lock(self.shard(client_id));
        let present = shard.get(client_id);
        match present {
            Some(cell) if cell.is_in_process() => return Claim::InProcess,
            Some(cell) if owner != Owner::Network && cell.is_connected() => {
                return Claim::InProcess;
            }
            Some(_) if owner != Owner::Network => {}
            Some(cell) => match cell.succession(holder) {
                Succession::Refuse => return Claim::OfAnother,
                Succession::Resume if !fresh => return Claim::Existing(cell.clone()),
                Succession::Resume | Succession::Replace => {}
            },
            None if self.sessions.fetch_add(1, Ordering::AcqRel) >= limits.sessions_max => {
                self.sessions.fetch_sub(1, Ordering::AcqRel);
                return Claim::Full;
            }
            None => {}
        }
        self.most.fetch_max(self.len(), Ordering::Relaxed);
        let client_id: Arc<str> = client_id.into();
        let session = Session::new(client_id.clone(), self.hasher.clone(), limits);
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let cell = Arc::new(SessionCell::new(key, session, owner).held_by(holder));
        let replaced = shard.insert(client_id, cell.clone());
        Claim::New { cell, replaced }
    }

    /// The Session of a Client Identifier.
    pub(crate) fn find(&self, client_id: &str) -> Option<Arc<SessionCell>> {
        lock(self.shard(client_id)).get(client_id).cloned()
    }

    /// Whether a Session has this Client Identifier.
    pub(crate) fn has(&self, client_id: &str) -> bool {
        lock(self.shard(client_id)).contains_key(client_id)
    }

    /// Whether a Client with this Client Identifier is connected, so that a CONNECT would take over its Session.
    pub(crate) fn is_connected(&self, client_id: &str) -> bool {
        lock(self.shard(client_id)).get(client_id).is_some_and(|cell| cell.is_connected())
    }

    /// Whether a Client with this Client Identifier is connected through a listener.
    pub(crate) fn is_connected_through(&self, client_id: &str, listener: u32) -> bool {
        let cell = lock(self.shard(client_id)).get(client_id).cloned();
        cell.is_some_and(|cell| {
            let state = cell.lock();
            state.link.as_ref().is_some_and(|link| link.mailbox.listener == listener)
        })
    }

    /// Whether no Client is connected through a listener.
    pub(crate) fn is_all_away(&self) -> bool {
        let connected = |cell: &Arc<SessionCell>| !cell.is_in_process() && cell.is_connected();
        self.shards.iter().all(|shard| !lock(shard).values().any(connected))
    }

    /// Removes an ended Session, unless another Session has its Client Identifier.
    pub(crate) fn remove(&self, cell: &Arc<SessionCell>) {
        let mut shard = lock(self.shard(&cell.client_id));
        if shard.get(&cell.client_id).is_some_and(|present| Arc::ptr_eq(present, cell)) {
            shard.remove(&cell.client_id);
            self.sessions.fetch_sub(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// The most Sessions that there were at a time.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// All Sessions, read shard by shard: approximately those of this moment.
    pub(crate) fn snapshot(&self) -> Vec<Arc<SessionCell>> {
        (0..SHARDS).flat_map(|shard| self.in_shard(shard).unwrap_or_default()).collect()
    }

    /// The Sessions in one of the shards, which are numbered from 0; `None` behind the last.
    pub(crate) fn in_shard(&self, number: usize) -> Option<Vec<Arc<SessionCell>>> {
        Some(lock(self.shards.get(number)?).values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(registry: &Registry, id: &str, fresh: bool, sessions_max: usize) -> Claim {
        registry.claim(
            id,
            fresh,
            Owner::Network,
            None,
            &Limits { sessions_max, ..Limits::default() },
        )
    }

    #[test]
    fn one_session_for_each_client_identifier_mqtt_3_1_3_2() {
        let registry = Registry::new(&RandomState::with_seed(1));
        let Claim::New { cell, replaced: None } = claim(&registry, "a", false, 9) else { panic!() };
        let Claim::Existing(same) = claim(&registry, "a", false, 9) else { panic!() };
        assert!(Arc::ptr_eq(&cell, &same));
        let Claim::New { cell: fresh, replaced: Some(old) } = claim(&registry, "a", true, 9) else {
            panic!()
        };
        assert!(Arc::ptr_eq(&cell, &old));
        assert_eq!((registry.len(), registry.most()), (1, 1));
        registry.remove(&old);
        assert_eq!(registry.len(), 1, "a replaced Session does not take its successor with it");
        registry.remove(&fresh);
        assert_eq!((registry.len(), registry.most()), (0, 1));
    }

    #[test]
    fn sessions_are_bounded_pitfall_15() {
        let registry = Registry::new(&RandomState::with_seed(1));
        assert!(matches!(claim(&registry, "a", false, 1), Claim::New { .. }));
        assert!(matches!(claim(&registry, "b", false, 1), Claim::Full));
        assert!(
            matches!(claim(&registry, "a", true, 1), Claim::New { .. }),
            "a replacement is no new one"
        );
        assert_eq!(registry.len(), 1);
    }
}
