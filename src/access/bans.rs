//! Bans: Client Identifiers, users and networks that may not connect, with a reason and an end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use ahash::RandomState;
use hashbrown::HashMap;

use super::{
    Answer, Authenticating, Credentials, Decision, Policy, Present, Refusal, Request, Rule,
    Validity,
};
use crate::network::Network;
use crate::reason_code::ReasonCode;
use crate::sync::{read, write};
use crate::transport::{PeerIdentity, PeerInfo};

mod file;
mod guard;
#[cfg(test)]
mod tests;

/// What a [`Ban`] is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BanTarget {
    /// A Client Identifier.
    Client(String),
    /// A user name: that of CONNECT, that of a certificate, or that of the identity that another policy gives.
    User(String),
    /// A network address, or all addresses of a network.
    Address(Network),
    /// A Client Identifier, if this user uses it.
    ClientOfUser {
        /// The Client Identifier.
        client_id: String,
        /// The user name, as for [`BanTarget::User`].
        user: String,
    },
    /// A Client Identifier, if it is used from this network.
    ClientAt {
        /// The Client Identifier.
        client_id: String,
        /// The network.
        network: Network,
    },
}

/// A ban: what it is about, who made it, why, and when it holds.
///
/// ```
/// use std::time::Duration;
///
/// use hrotti::access::{Ban, BanTarget};
///
/// let ban = Ban::new(BanTarget::Address("192.0.2.0/24".parse()?))
///     .with_by("ann")
///     .with_reason("scans for topics")
///     .lasting(Duration::from_secs(3_600));
/// assert!(ban.until.is_some());
/// # Ok::<(), hrotti::NetworkError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ban {
    /// What it is about.
    pub target: BanTarget,
    /// Who made it. Default: empty.
    pub by: String,
    /// Why. It is logged, and not sent to the Client. Default: empty.
    pub reason: String,
    /// When it begins. Default: now.
    pub from: SystemTime,
    /// When it ends; `None`, the default, is never.
    pub until: Option<SystemTime>,
}

impl Ban {
    /// A ban from now on, without an end.
    #[must_use]
    pub fn new(target: BanTarget) -> Ban {
        let (by, reason) = (String::new(), String::new());
        Ban { target, by, reason, from: SystemTime::now(), until: None }
    }

    /// Says who makes it.
    #[must_use]
    pub fn with_by(mut self, by: &str) -> Ban {
        self.by = by.to_owned();
        self
    }

    /// Says why.
    #[must_use]
    pub fn with_reason(mut self, reason: &str) -> Ban {
        self.reason = reason.to_owned();
        self
    }

    /// Ends it so long after its beginning. A time that the clock cannot show is no end.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Ban {
        self.until = self.from.checked_add(duration);
        self
    }

    fn holds(&self, now: SystemTime) -> bool {
        self.from <= now && !self.has_ended(now)
    }

    fn has_ended(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// `client "c1", by ann: reason`, escaped, on one line.
impl fmt::Display for Ban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            BanTarget::Client(id) => write!(f, "client {id:?}")?,
            BanTarget::User(name) => write!(f, "user {name:?}")?,
            BanTarget::Address(network) => write!(f, "address {network}")?,
            BanTarget::ClientOfUser { client_id, user } => {
                write!(f, "client {client_id:?} of user {user:?}")?;
            }
            BanTarget::ClientAt { client_id, network } => {
                write!(f, "client {client_id:?} at address {network}")?;
            }
        }
        if !self.by.is_empty() {
            write!(f, ", by {}", self.by.escape_debug())?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason.escape_debug())?;
        }
        Ok(())
    }
}

/// The bans of a broker: a [`Policy`] that refuses who is banned with 0x8A (3.x: return code 5), and knows nothing of
/// others. It stands before the policies that let Clients in: [`Bans::guard`] puts it there.
///
/// Bans are changed while the broker runs. A ban meets the next CONNECT; call
/// [`Broker::policy_changed`](crate::Broker::policy_changed) after [`Bans::add`] to close the connections of those who
/// are banned, too. A ban that has ended is removed.
///
/// ```
/// use std::sync::Arc;
///
/// use hrotti::Broker;
/// use hrotti::access::{Ban, BanTarget, Bans, Chain, Policy};
///
/// let bans = Arc::new(Bans::new(1_000));
/// let others: Arc<dyn Policy> = Arc::new(Chain::new(Vec::new()));
/// let broker = Broker::builder().policy(bans.guard(others)).build();
///
/// bans.add(Ban::new(BanTarget::Client("c1".to_owned())).with_by("ann"))?;
/// broker.policy_changed();
/// assert_eq!(bans.list().len(), 1);
/// assert!(bans.remove(&BanTarget::Client("c1".to_owned())).is_some());
/// # Ok::<(), hrotti::access::BansFull>(())
/// ```
pub struct Bans {
    /// As many are kept.
    max: usize,
    source: Arc<str>,
    kept: RwLock<Kept>,
}

/// The source that rules name, unless the bans come from a file.
const SOURCE: &str = "bans";

/// Why a ban was not added: as many are kept as may be ([`Limits::bans_max`](crate::Limits::bans_max)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BansFull {
    max: usize,
}

impl fmt::Display for BansFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bans_max: {} bans are kept already; remove some, or ban a whole network",
            self.max
        )
    }
}

impl std::error::Error for BansFull {}

/// Bans by what they are about, with the rules that name them.
struct Kept {
    clients: HashMap<String, Entry, RandomState>,
    users: HashMap<String, Entry, RandomState>,
    networks: HashMap<Network, Entry, RandomState>,
    /// Bans of a Client Identifier with a user or a network, by Client Identifier.
    pairs: HashMap<String, Vec<Entry>, RandomState>,
    pairs_len: usize,
    /// How many networks there are of each family and number of first bits, so that an address is looked up once for
    /// each and not compared with every network.
    widths: BTreeMap<(bool, u8), usize>,
}

#[derive(Clone)]
struct Entry {
    ban: Ban,
    rule: Rule,
    /// Nobody has ordered it. It gives way to a ban that somebody orders.
    automatic: bool,
}

impl Default for Kept {
    fn default() -> Kept {
        let state = RandomState::new();
        Kept {
            clients: HashMap::with_hasher(state.clone()),
            users: HashMap::with_hasher(state.clone()),
            networks: HashMap::with_hasher(state.clone()),
            pairs: HashMap::with_hasher(state),
            pairs_len: 0,
            widths: BTreeMap::new(),
        }
    }
}

impl Kept {
    fn len(&self) -> usize {
        self.clients.len() + self.users.len() + self.networks.len() + self.pairs_len
    }

    fn get(&self, target: &BanTarget) -> Option<&Entry> {
        match target {
            BanTarget::Client(id) => self.clients.get(id),
            BanTarget::User(name) => self.users.get(name),
            BanTarget::Address(network) => self.networks.get(network),
            BanTarget::ClientOfUser { client_id, .. } | BanTarget::ClientAt { client_id, .. } => {
                self.pairs.get(client_id)?.iter().find(|entry| entry.ban.target == *target)
            }
        }
    }

    fn has(&self, target: &BanTarget) -> bool {
        self.get(target).is_some()
    }

    fn put(&mut self, entry: Entry) -> Option<Ban> {
        let before = match entry.ban.target.clone() {
            BanTarget::Client(id) => self.clients.insert(id, entry),
            BanTarget::User(name) => self.users.insert(name, entry),
            BanTarget::Address(network) => {
                let before = self.networks.insert(network, entry);
                if before.is_none() {
                    *self.widths.entry(width(network)).or_default() += 1;
                }
                before
            }
            BanTarget::ClientOfUser { client_id, .. } | BanTarget::ClientAt { client_id, .. } => {
                let of_client = self.pairs.entry(client_id).or_default();
                match of_client.iter_mut().find(|other| other.ban.target == entry.ban.target) {
                    Some(other) => Some(std::mem::replace(other, entry)),
                    None => {
                        of_client.push(entry);
                        self.pairs_len += 1;
                        None
                    }
                }
            }
        };
        before.map(|entry| entry.ban)
    }

    fn take(&mut self, target: &BanTarget) -> Option<Ban> {
        let taken = match target {
            BanTarget::Client(id) => self.clients.remove(id),
            BanTarget::User(name) => self.users.remove(name),
            BanTarget::Address(network) => {
                let taken = self.networks.remove(network);
                if taken.is_some() {
                    self.forget_width(*network);
                }
                taken
            }
            BanTarget::ClientOfUser { client_id, .. } | BanTarget::ClientAt { client_id, .. } => {
                self.take_pair(client_id, target)
            }
        };
        taken.map(|entry| entry.ban)
    }

    fn take_pair(&mut self, client_id: &str, target: &BanTarget) -> Option<Entry> {
        let of_client = self.pairs.get_mut(client_id)?;
        let at = of_client.iter().position(|entry| entry.ban.target == *target)?;
        let taken = of_client.swap_remove(at);
        if of_client.is_empty() {
            self.pairs.remove(client_id);
        }
        self.pairs_len -= 1;
        Some(taken)
    }

    /// The ban that nobody has ordered and that ends first.
    fn first_automatic(&self) -> Option<BanTarget> {
        let automatic = self.entries().filter(|entry| entry.automatic);
        // A ban without an end comes last.
        let first = automatic.min_by_key(|entry| (entry.ban.until.is_none(), entry.ban.until))?;
        Some(first.ban.target.clone())
    }

    fn forget_width(&mut self, network: Network) {
        let width = width(network);
        if let Some(count) = self.widths.get_mut(&width) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.widths.remove(&width);
            }
        }
    }

    fn remove_ended(&mut self, now: SystemTime) {
        self.clients.retain(|_, entry| !entry.ban.has_ended(now));
        self.users.retain(|_, entry| !entry.ban.has_ended(now));
        let ended: Vec<Network> = self
            .networks
            .iter()
            .filter(|(_, entry)| entry.ban.has_ended(now))
            .map(|(network, _)| *network)
            .collect();
        for network in ended {
            self.networks.remove(&network);
            self.forget_width(network);
        }
        self.pairs.retain(|_, of_client| {
            of_client.retain(|entry| !entry.ban.has_ended(now));
            !of_client.is_empty()
        });
        self.pairs_len = self.pairs.values().map(Vec::len).sum();
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let pairs = self.pairs.values().flatten();
        self.clients.values().chain(self.users.values()).chain(self.networks.values()).chain(pairs)
    }

    /// A ban that holds for a peer.
    fn find(&self, sought: &Sought<'_>, now: SystemTime) -> Option<&Entry> {
        let client = sought.client_id.and_then(|id| self.clients.get(id));
        let users = sought.users.iter().flatten().filter_map(|name| self.users.get(*name));
        let address =
            sought.peer.and_then(PeerInfo::address).map(|address| address.ip().to_canonical());
        let networks = address.into_iter().flat_map(|address| {
            let widths = self.widths.keys().filter(move |(v4, _)| *v4 == address.is_ipv4());
            widths.filter_map(move |(_, bits)| self.networks.get(&Network::new(address, *bits)))
        });
        let pairs = sought.client_id.and_then(|id| self.pairs.get(id)).into_iter().flatten();
        let pairs = pairs.filter(|entry| match &entry.ban.target {
            BanTarget::ClientOfUser { user, .. } => sought.users.contains(&Some(user)),
            BanTarget::ClientAt { network, .. } => {
                address.is_some_and(|address| network.contains(address))
            }
            _ => false,
        });
        let mut all = client.into_iter().chain(users).chain(networks).chain(pairs);
        all.find(|entry| entry.ban.holds(now))
    }
}

fn width(network: Network) -> (bool, u8) {
    (network.address().is_ipv4(), network.bits())
}

/// What is known of a peer.
#[derive(Default)]
struct Sought<'a> {
    client_id: Option<&'a str>,
    users: [Option<&'a str>; 2],
    peer: Option<&'a PeerInfo>,
}

impl Bans {
    /// No bans, and room for so many: pass [`Limits::bans_max`](crate::Limits::bans_max).
    #[must_use]
    pub fn new(max: usize) -> Bans {
        Bans { max, source: SOURCE.into(), kept: RwLock::default() }
    }

    /// Adds a ban, and returns the one about the same that it replaces. If the bans are full, it takes the place of a ban
    /// that [`Flapping`](super::Flapping) has made, that which ends first.
    ///
    /// # Errors
    /// So many bans are kept that have not ended and that nobody but an operator makes.
    pub fn add(&self, ban: Ban) -> Result<Option<Ban>, BansFull> {
        self.add_at(ban, SystemTime::now())
    }

    fn add_at(&self, ban: Ban, now: SystemTime) -> Result<Option<Ban>, BansFull> {
        self.put(ban, false, now)
    }

    /// Adds a ban that nobody has ordered, if there is room. An ordered one about the same stays.
    pub(super) fn add_automatic(&self, ban: Ban) -> Result<Option<Ban>, BansFull> {
        self.put(ban, true, SystemTime::now())
    }

    fn put(&self, ban: Ban, automatic: bool, now: SystemTime) -> Result<Option<Ban>, BansFull> {
        let rule = Rule::line(self.source.clone(), 0, &ban.to_string());
        let mut kept = write(&self.kept);
        let before = kept.get(&ban.target);
        if automatic && before.is_some_and(|one| !one.automatic && !one.ban.has_ended(now)) {
            return Ok(None);
        }
        if kept.len() >= self.max && before.is_none() {
            kept.remove_ended(now);
            if kept.len() >= self.max {
                let gives_way = kept.first_automatic().filter(|_| !automatic);
                let gives_way = gives_way.ok_or(BansFull { max: self.max })?;
                kept.take(&gives_way);
            }
        }
        Ok(kept.put(Entry { ban, rule, automatic }))
    }

    /// Takes a ban away, and returns it.
    pub fn remove(&self, target: &BanTarget) -> Option<Ban> {
        write(&self.kept).take(target)
    }

    /// All bans that have not ended, ordered by what they are about.
    #[must_use]
    pub fn list(&self) -> Vec<Ban> {
        self.list_at(SystemTime::now())
    }

    fn list_at(&self, now: SystemTime) -> Vec<Ban> {
        let mut kept = write(&self.kept);
        kept.remove_ended(now);
        let mut bans: Vec<Ban> = kept.entries().map(|entry| entry.ban.clone()).collect();
        bans.sort_by(|one, other| one.target.cmp(&other.target));
        bans
    }

    /// Replaces all bans by those of a file that was read again.
    pub fn replace(&self, by: Bans) {
        let other = by.kept.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        *write(&self.kept) = other;
    }

    /// Takes over the bans that were added while the broker ran: those of `before` that are not among `from_file`, which
    /// its file had, as far as there is room.
    pub(crate) fn take_over(&self, before: &Bans, from_file: &[Ban]) {
        let now = SystemTime::now();
        let added: Vec<Entry> = read(&before.kept)
            .entries()
            .filter(|entry| !from_file.contains(&entry.ban) && !entry.ban.has_ended(now))
            .cloned()
            .collect();
        for Entry { ban, automatic, .. } in added {
            if let Err(full) = self.put(ban, automatic, now) {
                log::warn!(target: "hrotti::access", "a ban is lost: {full}");
            }
        }
    }

    /// Puts the bans before a policy, in every way: before it is asked whether a Client may connect, and behind its
    /// answer, which may give the Client another user name.
    #[must_use]
    pub fn guard(self: &Arc<Self>, policy: Arc<dyn Policy>) -> Arc<dyn Policy> {
        Arc::new(guard::Guard { bans: self.clone(), policy })
    }

    /// The refusal of a peer that is banned.
    fn refusal(&self, sought: &Sought<'_>, now: SystemTime) -> Option<Refusal> {
        let kept = read(&self.kept);
        let rule = kept.find(sought, now)?.rule.clone();
        Some(Refusal::new(ReasonCode::BANNED, rule))
    }

    fn refusal_of(&self, shown: &Credentials, now: SystemTime) -> Option<Refusal> {
        let certified = match shown.peer.identity() {
            Some(PeerIdentity::Certificate(names)) => names.user_name.as_deref(),
            Some(PeerIdentity::Name(name)) => Some(name.as_str()),
            _ => None,
        };
        let users = [shown.user_name.as_deref(), certified];
        let client_id = Some(&*shown.client_id);
        self.refusal(&Sought { client_id, users, peer: Some(&shown.peer) }, now)
    }

    fn admits(&self, client: &Present<'_>, now: SystemTime) -> bool {
        let (client_id, users) = (Some(client.client_id), [client.identity.user_name(), None]);
        self.refusal(&Sought { client_id, users, peer: client.peer }, now).is_none()
    }
}

impl Policy for Bans {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let answer = match self.refusal_of(&shown, SystemTime::now()) {
            Some(refusal) => Answer::Refuse(refusal),
            None => Answer::NoAnswer,
        };
        Box::pin(std::future::ready(answer))
    }

    fn authorize(&self, _request: &Request<'_>) -> Decision {
        Decision::NoAnswer
    }

    fn validity(&self, client: &Present<'_>) -> Validity {
        match self.admits(client, SystemTime::now()) {
            true => Validity::Foreign,
            false => Validity::Gone,
        }
    }
}

impl fmt::Debug for Bans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bans").field("kept", &read(&self.kept).len()).finish_non_exhaustive()
    }
}
