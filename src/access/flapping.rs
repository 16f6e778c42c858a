//! Flapping: a Client that connects and disconnects again and again is banned for a while.
//!
//! The Client Identifier alone is no key: a stranger who takes it over again and again would have its owner banned. So the
//! disconnects of each user, or of each address, are counted by themselves, and the ban is one of that user or address
//! with that Client Identifier.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ahash::RandomState;
use hashbrown::HashMap;
use log::debug;

use super::{
    Answer, Authenticating, Ban, BanTarget, Bans, Credentials, Decision, Policy, Present, Request,
};
use crate::network::Network;
use crate::sync::lock;

mod connects;

use connects::Connects;

/// The most Clients whose disconnects are counted.
const CLIENTS_MAX: usize = 65_536;

/// A longer Client Identifier or user name is not counted, so that the memory is bounded.
const NAME_BYTES_MAX: usize = 256;

/// The least time between two searches for Clients that have calmed down.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A [`Policy`] that counts the disconnects of each Client, and adds a ban of it to [`Bans`] at the limit. It lets nobody
/// in and decides nothing else, so it stands in a [`Chain`](super::Chain) with other policies.
///
/// A Client is a Client Identifier of one user, or, without a user name, from one address (of IPv6, from one network of 64
/// bits). The ban is one of both together ([`BanTarget::ClientOfUser`], [`BanTarget::ClientAt`]), so nobody can have
/// another banned by the use of its Client Identifier. Anonymous Clients without an address are not counted.
///
/// Disconnects are those of Clients that were let in, however their connections ended: by DISCONNECT, an error, or a
/// takeover from the same address with the same User Name. Another takeover does not count: it is the deed of another.
/// A window begins with the first disconnect and ends after its time. The disconnects of 65 536 Clients with a Client
/// Identifier and a user name of up to 256 bytes are counted at the same time; others are not. If [`Bans`] is full, the
/// ban is left out.
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
    connects: Connects,
}

struct Seen {
    clients: HashMap<BanTarget, Window, RandomState>,
    swept_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Window {
    since: Instant,
    disconnects: u32,
}

impl Flapping {
    /// Bans a Client for `ban` when it was disconnected so often within `window`. 0 disconnects are 1.
    #[must_use]
    pub fn new(bans: Arc<Bans>, disconnects: u32, window: Duration, ban: Duration) -> Flapping {
        let clients = HashMap::with_hasher(RandomState::new());
        let seen = Mutex::new(Seen { clients, swept_at: None });
        let disconnects = disconnects.max(1);
        Flapping { bans, disconnects, window, ban, seen, connects: Connects::default() }
    }

    /// Counts a disconnect. Returns whether it is one too many.
    fn count(&self, client: &BanTarget, now: Instant) -> bool {
        let is_over = |window: &Window| now.saturating_duration_since(window.since) >= self.window;
        let mut seen = lock(&self.seen);
        let Seen { clients, swept_at } = &mut *seen;
        if let Some(window) = clients.get_mut(client) {
            if is_over(window) {
                *window = Window { since: now, disconnects: 0 };
            }
            window.disconnects += 1;
            let flaps = window.disconnects >= self.disconnects;
            if flaps {
                clients.remove(client);
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
            clients.insert(client.clone(), Window { since: now, disconnects: 1 });
        }
        self.disconnects <= 1
    }
}

/// What is banned if the Client flaps.
fn target(client: &Present<'_>) -> Option<BanTarget> {
    let client_id = client.client_id;
    if client_id.len() > NAME_BYTES_MAX {
        return None;
    }
    let client_id = client_id.to_owned();
    match client.identity.user_name() {
        Some(user) if user.len() > NAME_BYTES_MAX => None,
        Some(user) => Some(BanTarget::ClientOfUser { client_id, user: user.to_owned() }),
        None => {
            let address = client.peer?.address()?.ip().to_canonical();
            let bits = match address {
                IpAddr::V4(_) => 32,
                IpAddr::V6(_) => 64,
            };
            Some(BanTarget::ClientAt { client_id, network: Network::new(address, bits) })
        }
    }
}

impl Policy for Flapping {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        self.connects.note(&shown);
        Box::pin(std::future::ready(Answer::NoAnswer))
    }

    fn authorize(&self, _request: &Request<'_>) -> Decision {
        Decision::NoAnswer
    }

    fn disconnected(&self, client: &Present<'_>) {
        let by_another =
            client.peer.is_some_and(|peer| self.connects.taken_over(client.client_id, peer));
        let Some(target) = target(client).filter(|_| !by_another) else { return };
        if !self.count(&target, Instant::now()) {
            return;
        }
        let (disconnects, secs) = (self.disconnects, self.window.as_secs());
        let ban = Ban::new(target)
            .with_by("flapping detection")
            .with_reason(&format!("{disconnects} disconnects within {secs} seconds"))
            .lasting(self.ban);
        if let Err(full) = self.bans.add_automatic(ban) {
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
    use crate::transport::PeerInfo;

    fn flapping(disconnects: u32) -> Flapping {
        let (window, ban) = (Duration::from_secs(60), Duration::from_secs(300));
        Flapping::new(Arc::new(Bans::new(10)), disconnects, window, ban)
    }

    fn client(id: &str) -> BanTarget {
        BanTarget::ClientOfUser { client_id: id.to_owned(), user: "ann".to_owned() }
    }

    fn peer(address: &str) -> PeerInfo {
        PeerInfo::from(address.parse::<std::net::SocketAddr>().expect("an address"))
    }

    fn identity(user: Option<&str>) -> Identity {
        let identity = Identity::new(Rule::named("a test"));
        match user {
            Some(user) => identity.with_user_name(user),
            None => identity,
        }
    }

    /// A CONNECT, with the Client Identifier `c`.
    fn connect(flapping: &Arc<Flapping>, user: Option<&str>, peer: &PeerInfo) {
        let mut shown = Credentials::new("c", peer.clone());
        shown.user_name = user.map(Into::into);
        let answer = futures_lite::future::block_on(flapping.clone().authenticate(shown));
        assert!(matches!(answer, Answer::NoAnswer));
    }

    fn leave(flapping: &Flapping, user: Option<&str>, peer: &PeerInfo) {
        let identity = identity(user);
        let peer = Some(peer);
        flapping.disconnected(&Present { identity: &identity, client_id: "c", peer });
    }

    fn banned(flapping: &Flapping) -> Vec<String> {
        flapping.bans.list().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_client_identifier_that_others_use_is_not_banned_for_its_owner() {
        let flapping = Arc::new(flapping(2));
        for (user, address) in [(Some("mallory"), "192.0.2.1:9"), (None, "[2001:db8::1]:9")] {
            for _ in 0..2 {
                leave(&flapping, user, &peer(address));
            }
        }
        leave(&flapping, Some("ann"), &peer("192.0.2.2:9"));
        let said = "by flapping detection: 2 disconnects within 60 seconds";
        let bans = [
            format!("client \"c\" of user \"mallory\", {said}"),
            format!("client \"c\" at address 2001:db8::/64, {said}"),
        ];
        assert_eq!(banned(&flapping), bans);
        let guard = flapping.bans.guard(flapping.clone());
        for (user, address, refused) in [
            (Some("ann"), "192.0.2.1:1", false),
            (Some("mallory"), "192.0.2.3:1", true),
            (None, "192.0.2.1:1", false),
            (None, "[2001:db8::2]:1", true),
            (None, "[2001:db8:0:1::]:1", false),
        ] {
            let mut shown = Credentials::new("c", peer(address));
            shown.user_name = user.map(Into::into);
            let answer = futures_lite::future::block_on(guard.clone().authenticate(shown));
            assert_eq!(matches!(answer, Answer::Refuse(_)), refused, "{user:?} {address}");
        }
    }

    #[test]
    fn a_takeover_by_another_is_no_disconnect_of_its_victim() {
        let flapping = Arc::new(flapping(2));
        let victim = Some("ann");
        for port in 1..20 {
            let own = peer(&format!("192.0.2.1:{port}"));
            connect(&flapping, victim, &own);
            let (other, user) = match port % 3 {
                0 => (peer(&format!("192.0.2.9:{port}")), Some("mallory")),
                1 => (peer(&format!("192.0.2.9:{port}")), victim),
                _ => (peer(&format!("192.0.2.1:{}", port + 1_000)), None),
            };
            connect(&flapping, user, &other);
            leave(&flapping, victim, &own);
        }
        assert!(banned(&flapping).is_empty(), "{:?}", banned(&flapping));
        for port in 100..102 {
            connect(&flapping, victim, &peer(&format!("192.0.2.1:{port}")));
            leave(&flapping, victim, &peer(&format!("192.0.2.1:{}", port - 1)));
        }
        assert_eq!(banned(&flapping).len(), 0, "the first of them was taken over by another");
        connect(&flapping, victim, &peer("192.0.2.1:102"));
        leave(&flapping, victim, &peer("192.0.2.1:101"));
        assert_eq!(banned(&flapping).len(), 1, "takeovers of its own count");
    }

    #[test]
    fn anonymous_clients_without_an_address_are_not_counted() {
        let flapping = flapping(1);
        leave(&flapping, None, &PeerInfo::from("inside#1"));
        assert!(banned(&flapping).is_empty());
        leave(&flapping, Some("ann"), &PeerInfo::from("inside#1"));
        assert_eq!(banned(&flapping).len(), 1);
    }

    #[test]
    fn so_many_disconnects_in_one_window_are_too_many() {
        let flapping = flapping(3);
        let start = Instant::now();
        let counted: Vec<bool> = [0, 1, 2, 3, 63, 64, 65, 200]
            .map(|secs| flapping.count(&client("c"), start + Duration::from_secs(secs)))
            .into();
        assert_eq!(counted, [false, false, true, false, false, false, true, false]);
    }

    #[test]
    fn clients_are_counted_by_themselves() {
        let (flapping, now) = (flapping(2), Instant::now());
        let (a, b) = (client("a"), client("b"));
        assert!(!flapping.count(&a, now) && !flapping.count(&b, now));
        assert!(flapping.count(&a, now) && flapping.count(&b, now));
        assert!(self::flapping(1).count(&a, now));
    }

    #[test]
    fn what_is_counted_is_bounded_pitfall_15() {
        let (flapping, start) = (flapping(2), Instant::now());
        for number in 0..CLIENTS_MAX + 100 {
            assert!(!flapping.count(&client(&number.to_string()), start));
        }
        assert_eq!(lock(&flapping.seen).clients.len(), CLIENTS_MAX);
        let (known, long) = (identity(Some("ann")), "x".repeat(NAME_BYTES_MAX + 1));
        let too_long = identity(Some(&long));
        for (identity, client_id) in [(&known, long.as_str()), (&too_long, "c")] {
            assert_eq!(target(&Present { identity, client_id, peer: None }), None);
        }
        assert!(!flapping.count(&client("late"), start + Duration::from_secs(61)));
        assert_eq!(lock(&flapping.seen).clients.len(), 1, "those who calmed down are forgotten");
    }

    #[test]
    fn a_client_that_flaps_is_banned_with_a_reason_and_an_end() {
        let flapping = flapping(2);
        let identity = identity(Some("ann"));
        for _ in 0..2 {
            flapping.disconnected(&Present { identity: &identity, client_id: "c", peer: None });
        }
        let bans = flapping.bans.list();
        assert_eq!(bans.len(), 1);
        let shown =
            "client \"c\" of user \"ann\", by flapping detection: 2 disconnects within 60 seconds";
        assert_eq!(bans[0].to_string(), shown);
        assert_eq!(bans[0].until, Some(bans[0].from + Duration::from_secs(300)));
    }
}
