//! Flapping: a Client that connects and disconnects again and again is banned for a while.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ahash::RandomState;
use hashbrown::HashMap;
use log::debug;

use super::{
    Answer, Authenticating, Ban, BanTarget, Bans, Credentials, Decision, Policy, Present, Request,
};
use crate::sync::lock;

/// The most Client Identifiers whose disconnects are counted.
const CLIENTS_MAX: usize = 65_536;

/// A longer Client Identifier is not counted, so that the memory is bounded.
const CLIENT_ID_BYTES_MAX: usize = 256;

/// The least time between two searches for Client Identifiers that have calmed down.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A [`Policy`] that counts the disconnects of each Client Identifier, and adds a ban of it to [`Bans`] at the limit. It
/// lets nobody in and decides nothing else, so it stands in a [`Chain`](super::Chain) with other policies.
///
/// Disconnects are those of Clients that were let in, however their connections ended: by DISCONNECT, an error, or a
/// takeover. A window begins with the first of them and ends after its time. The disconnects of 65 536 Client
/// Identifiers of up to 256 bytes are counted at the same time; others are not.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use hrotti::access::{Bans, Flapping};
///
/// let bans = Arc::new(Bans::new(1_000));
/// // 15 disconnects in a minute: banned for five minutes.
/// let flapping =
///     Flapping::new(bans.clone(), 15, Duration::from_secs(60), Duration::from_secs(300));
/// # drop(flapping);
/// ```
pub struct Flapping {
    bans: Arc<Bans>,
    disconnects: u32,
    window: Duration,
    ban: Duration,
    seen: Mutex<Seen>,
}

struct Seen {
    clients: HashMap<Box<str>, Window, RandomState>,
    swept_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Window {
    since: Instant,
    disconnects: u32,
}

impl Flapping {
    /// Bans a Client Identifier for `ban` when it was disconnected so often within `window`. 0 disconnects are 1.
    #[must_use]
    pub fn new(bans: Arc<Bans>, disconnects: u32, window: Duration, ban: Duration) -> Flapping {
        let clients = HashMap::with_hasher(RandomState::new());
        let seen = Mutex::new(Seen { clients, swept_at: None });
        Flapping { bans, disconnects: disconnects.max(1), window, ban, seen }
    }

    /// Counts a disconnect. Returns whether it is one too many.
    fn count(&self, client_id: &str, now: Instant) -> bool {
        if client_id.len() > CLIENT_ID_BYTES_MAX {
            return false;
        }
        let is_over = |window: &Window| now.saturating_duration_since(window.since) >= self.window;
        let mut seen = lock(&self.seen);
        let Seen { clients, swept_at } = &mut *seen;
        if let Some(window) = clients.get_mut(client_id) {
            if is_over(window) {
                *window = Window { since: now, disconnects: 0 };
            }
            window.disconnects += 1;
            let flaps = window.disconnects >= self.disconnects;
            if flaps {
                clients.remove(client_id);
            }
            return flaps;
        }
        if clients.len() >= CLIENTS_MAX {
            let due = swept_at.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_EVERY);
            if due {
                *swept_at = Some(now);
                clients.retain(|_, window| !is_over(window));
            }
            if clients.len() >= CLIENTS_MAX {
                return false;
            }
        }
        if self.disconnects > 1 {
            clients.insert(client_id.into(), Window { since: now, disconnects: 1 });
        }
        self.disconnects <= 1
    }
}

impl Policy for Flapping {
    fn authenticate(self: Arc<Self>, _shown: Credentials) -> Authenticating {
        Box::pin(std::future::ready(Answer::NoAnswer))
    }

    fn authorize(&self, _request: &Request<'_>) -> Decision {
        Decision::NoAnswer
    }

    fn disconnected(&self, client: &Present<'_>) {
        if !self.count(client.client_id, Instant::now()) {
            return;
        }
        let (disconnects, secs) = (self.disconnects, self.window.as_secs());
        let ban = Ban::new(BanTarget::Client(client.client_id.to_owned()))
            .with_by("flapping detection")
            .with_reason(&format!("{disconnects} disconnects within {secs} seconds"))
            .lasting(self.ban);
        if let Err(full) = self.bans.add(ban) {
            debug!("a flapping client is not banned: {full}");
        }
    }
}

impl fmt::Debug for Flapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flapping")
            .field("disconnects", &self.disconnects)
            .field("window", &self.window)
            .field("ban", &self.ban)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Identity, Rule};

    fn flapping(disconnects: u32) -> Flapping {
        let (window, ban) = (Duration::from_secs(60), Duration::from_secs(300));
        Flapping::new(Arc::new(Bans::new(10)), disconnects, window, ban)
    }

    #[test]
    fn so_many_disconnects_in_one_window_are_too_many() {
        let flapping = flapping(3);
        let start = Instant::now();
        let counted: Vec<bool> = [0, 1, 2, 3, 63, 64, 65, 200]
            .map(|secs| flapping.count("c", start + Duration::from_secs(secs)))
            .into();
        assert_eq!(counted, [false, false, true, false, false, false, true, false]);
    }

    #[test]
    fn clients_are_counted_by_themselves() {
        let (flapping, now) = (flapping(2), Instant::now());
        assert!(!flapping.count("a", now) && !flapping.count("b", now));
        assert!(flapping.count("a", now) && flapping.count("b", now));
        assert!(self::flapping(1).count("a", now));
    }

    #[test]
    fn what_is_counted_is_bounded_pitfall_15() {
        let (flapping, start) = (flapping(2), Instant::now());
        for number in 0..CLIENTS_MAX + 100 {
            assert!(!flapping.count(&number.to_string(), start));
        }
        assert_eq!(lock(&flapping.seen).clients.len(), CLIENTS_MAX);
        assert!(!flapping.count(&"x".repeat(CLIENT_ID_BYTES_MAX + 1), start));
        assert!(!flapping.count("late", start + Duration::from_secs(61)));
        assert_eq!(lock(&flapping.seen).clients.len(), 1, "those who calmed down are forgotten");
    }

    #[test]
    fn a_client_that_flaps_is_banned_with_a_reason_and_an_end() {
        let flapping = flapping(2);
        let identity = Identity::new(Rule::named("a test"));
        for _ in 0..2 {
            flapping.disconnected(&Present { identity: &identity, client_id: "c", peer: None });
        }
        let bans = flapping.bans.list();
        assert_eq!(bans.len(), 1);
        let shown = "client \"c\", by flapping detection: 2 disconnects within 60 seconds";
        assert_eq!(bans[0].to_string(), shown);
        assert_eq!(bans[0].until, Some(bans[0].from + Duration::from_secs(300)));
    }
}
