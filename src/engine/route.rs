//! Routes: the Sessions that get a publisher's messages with one Topic Name, the search for them, and each
//! publisher's cache of routes, which is valid until a subscription changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ahash::RandomState;
use hashbrown::HashMap;

use super::session_cell::SessionCell;
use super::share::Group;
use super::state::{Engine, Subscriber};
use crate::budget::Budget;
use crate::message::Message;
use crate::session::queue::Delivery;
use crate::subscription::{ShareGroup, Subscription, Wanted};
use crate::sync::read;
use crate::topic::tree::{Match, Search};

/// The most Topic Names in a publisher's cache.
const ROUTES_MAX: usize = 64;

/// The most targets of all cached routes together, the last route apart: with [`ROUTES_MAX`] the bound of a
/// publisher's cache.
const ROUTE_TARGETS_MAX: usize = 4_096;

/// The most messages with the same route that are pushed together. Each lock is taken once for all of them, which
/// matters when two workers publish to one Session.
const PENDING_MAX: usize = 256;

/// One Session that a message goes to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) cell: Arc<SessionCell>,
    pub(crate) wanted: Wanted,
}

/// The receivers of one publisher's messages with one Topic Name, until a subscription changes.
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// In the order of their keys.
    pub(crate) targets: Vec<Target>,
    /// Shared subscriptions: the message goes to one member of each.
    pub(crate) shares: Vec<Arc<Group<SessionCell>>>,
    /// Sessions that matched and asked for No Local.
    pub(crate) no_local: u64,
    /// Messages that are pushed together.
    pub(crate) pending_max: usize,
}

impl Route {
    /// Has at most a quarter of a queue of this depth pushed together: then a Session that takes no message is noticed
    /// before its queue is full.
    pub(crate) fn push_by(&mut self, depth: usize) {
        self.pending_max = self.pending_max.min(depth / 4);
    }

    /// Sessions and shared subscriptions that get a message.
    pub(crate) fn matched(&self) -> u64 {
        (self.targets.len() + self.shares.len()) as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.shares.is_empty() && self.no_local == 0
    }

    fn len(&self) -> usize {
        self.targets.len() + self.shares.len()
    }
}

/// A message in the form in which a subscriber gets it.
pub(crate) fn delivery(
    wanted: &Wanted,
    message: Message,
    shared: Option<Arc<ShareGroup>>,
) -> Delivery {
    Delivery {
        qos: wanted.delivery_qos(message.qos()),
        retain: wanted.delivery_retain(message.retain()),
        ids: wanted.ids.clone(),
        message,
        shared,
    }
}

/// A subscription that matches.
type Found = (u64, Arc<SessionCell>, Subscription);

/// A search in the subscription tree, in as many turns as it takes.
#[derive(Debug)]
pub(crate) struct RouteSearch {
    search: Search,
    found: Vec<Found>,
    shares: Vec<Arc<Group<SessionCell>>>,
    /// Of the tree when the search began.
    generation: u64,
}

impl RouteSearch {
    pub(crate) fn new(engine: &Engine) -> RouteSearch {
        RouteSearch {
            search: Search::new(),
            found: Vec::new(),
            shares: Vec::new(),
            generation: engine.generation.load(Ordering::Acquire),
        }
    }

    /// Continues as far as the budget allows. Returns whether the search is finished.
    pub(crate) fn advance(&mut self, engine: &Engine, topic: &str, budget: &mut Budget) -> bool {
        let RouteSearch { search, found, shares, .. } = self;
        let tree = read(&engine.tree);
        tree.search(topic, search, budget.left(), &mut |matching| match matching {
            Match::Subscription { subscriber, value: Subscriber { cell, subscription } } => {
                if !cell.has_ended() {
                    found.push((subscriber, cell.clone(), *subscription));
                }
            }
            Match::Shared { group, members } => {
                if members.iter().any(|(_, member)| !member.cell.has_ended()) {
                    shares.push(group.clone());
                }
            }
        })
    }

    /// Merges the matching subscriptions of each Session (MQTT-3.3.4-2, -4).
    pub(crate) fn finish(self, publisher: &str, budget: &mut Budget) -> Route {
        let RouteSearch { mut found, shares, .. } = self;
        budget.spend(found.len());
        let mut route = Route { shares, pending_max: PENDING_MAX, ..Route::default() };
        found.sort_unstable_by_key(|(subscriber, ..)| *subscriber);
        for matching in found.chunk_by(|(a, ..), (b, ..)| a == b) {
            let Some((_, cell, _)) = matching.first() else { continue };
            match merge(matching, *cell.client_id == *publisher) {
                Some(wanted) => {
                    route.push_by(cell.depth);
                    route.targets.push(Target { cell: cell.clone(), wanted });
                }
                None => route.no_local += 1,
            }
        }
        route
    }
}

/// Merges the matching subscriptions of one Session. `own`: it is the publisher's Session, whose subscriptions with No
/// Local do not count (MQTT-3.8.3-3).
fn merge(matching: &[Found], own: bool) -> Option<Wanted> {
    let counts = |subscription: &Subscription| !(own && subscription.options.no_local);
    match matching {
        [(.., only)] if counts(only) => Wanted::merge(std::slice::from_ref(only)),
        _ => {
            let all = matching.iter().map(|(.., subscription)| *subscription);
            Wanted::merge(&all.filter(counts).collect::<Vec<_>>())
        }
    }
}

/// Routes by Topic Name.
#[derive(Debug)]
struct Routes {
    map: HashMap<Box<str>, Arc<Route>, RandomState>,
    /// Targets of all of them.
    targets: usize,
}

/// The routes that one publisher used last and may publish to, valid for one generation of the subscription tree and of
/// the access rules.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    generation: u64,
    routes: Option<Box<Routes>>,
    last: Option<(Box<str>, Arc<Route>)>,
}

impl RouteCache {
    /// The route of a Topic Name, if it is known and still valid.
    pub(crate) fn get(&mut self, engine: &Engine, topic: &str) -> Option<&Arc<Route>> {
        let generation = engine.generation.load(Ordering::Acquire);
        if generation != self.generation {
            *self = RouteCache { generation, ..RouteCache::default() };
            return None;
        }
        if self.last.as_ref().is_none_or(|(last, _)| **last != *topic) {
            let route = self.routes.as_ref()?.map.get(topic)?.clone();
            self.last = Some((topic.into(), route));
        }
        self.last.as_ref().map(|(_, route)| route)
    }

    /// Remembers what a search has found. The route is valid for the generation in which the search began.
    pub(crate) fn insert(
        &mut self,
        engine: &Engine,
        topic: &str,
        generation: u64,
        route: Route,
    ) -> Arc<Route> {
        let route = Arc::new(route);
        if generation != self.generation {
            return route;
        }
        let targets = route.len();
        if targets <= ROUTE_TARGETS_MAX {
            let routes = self.routes.get_or_insert_with(|| {
                let map = HashMap::with_hasher(engine.hasher.clone());
                Box::new(Routes { map, targets: 0 })
            });
            if routes.map.len() >= ROUTES_MAX || routes.targets + targets > ROUTE_TARGETS_MAX {
                routes.map.clear();
                routes.targets = 0;
            }
            routes.targets += targets;
            routes.map.insert(topic.into(), route.clone());
        }
        self.last = Some((topic.into(), route.clone()));
        route
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_none() && self.routes.is_none()
    }

    /// The generation in which the cache was asked last.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

impl RouteSearch {
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}
