//! What an operator asks of a running broker and does to it: each call works for a bounded time, and none holds a lock
//! for longer than a fraction of a turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::send_context::Kept;
use super::session_cell::SessionCell;
use super::state::{Engine, Subscriber};
use super::timers::Order;
use crate::budget::Budget;
use crate::packet::ReasonCode;
use crate::retained::Step;
use crate::sync::{lock, read};
use crate::time::Timestamp;
use crate::topic::TopicFilter;
use crate::topic::tree::{Match, Search};

/// Steps of a search in the retained messages under one lock: a tenth of a turn.
const RETAINED_STEPS: usize = 1_200;

/// Steps of a search in the subscription tree under one lock.
const TREE_STEPS: usize = 1_200;

/// Retained messages that are removed under one lock.
const REMOVED_AT_ONCE: usize = 64;

/// The steps that reading a shard of the registry costs for each Session.
const CELL_STEPS: usize = 1;

/// All Sessions, shard by shard: one that is there from the beginning to the end is found exactly once.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    shard: usize,
}

impl Cells {
    /// The Sessions of the next shard; `None` behind the last.
    pub(crate) fn next(
        &mut self,
        engine: &Engine,
        budget: &mut Budget,
    ) -> Option<Vec<Arc<SessionCell>>> {
        let cells = engine.registry.in_shard(self.shard)?;
        self.shard += 1;
        budget.spend(cells.len() * CELL_STEPS);
        Some(cells)
    }
}

/// A search for the Sessions that have a subscription which matches a Topic Name.
#[derive(Debug, Default)]
pub(crate) struct Matching {
    search: Search,
    found: Vec<Arc<SessionCell>>,
}

impl Matching {
    /// Continues within the budget. Returns whether all are found.
    pub(crate) fn advance(&mut self, engine: &Engine, topic: &str, budget: &mut Budget) -> bool {
        let Matching { search, found } = self;
        let mut steps = TREE_STEPS;
        let mut add = |member: &Subscriber| {
            if !member.cell.has_ended() {
                found.push(member.cell.clone());
            }
        };
        let done =
            read(&engine.tree).search(topic, search, &mut steps, &mut |matching| match matching {
                Match::Subscription { value, .. } => add(value),
                Match::Shared { members, .. } => {
                    members.iter().for_each(|(_, member)| add(member));
                }
            });
        budget.spend(TREE_STEPS - steps + 1);
        done
    }

    /// The Sessions that were found, each once.
    pub(crate) fn finish(self) -> Vec<Arc<SessionCell>> {
        let mut found = self.found;
        found.sort_unstable_by_key(|cell| cell.key);
        found.dedup_by_key(|cell| cell.key);
        found
    }
}

/// A walk over the retained messages that a Topic Filter matches, in the order of their Topic Names.
#[derive(Debug)]
pub(crate) struct RetainedWalk {
    filter: TopicFilter,
    after: Option<Box<str>>,
}

impl RetainedWalk {
    /// A walk that begins behind the Topic Name `after`.
    pub(crate) fn new(filter: TopicFilter, after: Option<Box<str>>) -> RetainedWalk {
        RetainedWalk { filter, after }
    }

    /// Visits some messages under one lock. Returns whether all were visited.
    pub(crate) fn advance(
        &mut self,
        engine: &Engine,
        now: Timestamp,
        budget: &mut Budget,
        visit: &mut impl FnMut(&Kept),
    ) -> bool {
        let filter = self.filter.filter_str();
        let mut steps = RETAINED_STEPS;
        let retained = lock(&engine.retained);
        let mut last = self.after.as_deref();
        let done = loop {
            match retained.next_match(filter, last, now, &mut steps) {
                Step::Found(topic, kept) => {
                    visit(kept);
                    last = Some(topic);
                }
                Step::Paused(topic) => {
                    last = Some(topic).filter(|topic| !topic.is_empty());
                    break false;
                }
                Step::End => break true,
            }
        };
        let last = last.map(Box::from);
        drop(retained);
        self.after = last;
        budget.spend(RETAINED_STEPS - steps + 1);
        done
    }

    /// Removes some messages under one lock. Returns how many, and whether all were removed.
    pub(crate) fn remove_some(
        &mut self,
        engine: &Engine,
        now: Timestamp,
        budget: &mut Budget,
    ) -> (usize, bool) {
        let filter = self.filter.filter_str();
        let mut steps = RETAINED_STEPS;
        let mut removed = Vec::new();
        let mut retained = lock(&engine.retained);
        let done = loop {
            if removed.len() >= REMOVED_AT_ONCE {
                break false;
            }
            match retained.next_match(filter, self.after.as_deref(), now, &mut steps) {
                Step::Found(topic, _) => {
                    let topic = Box::<str>::from(topic);
                    removed.extend(retained.clear(&topic));
                    self.after = Some(topic);
                }
                Step::Paused(topic) => {
                    let topic = Some(topic).filter(|topic| !topic.is_empty());
                    let topic = topic.map(Box::<str>::from);
                    self.after = topic;
                    break false;
                }
                Step::End => break true,
            }
        };
        drop(retained);
        budget.spend(RETAINED_STEPS - steps + 1 + removed.len() * 4);
        // Freed without the lock.
        (removed.len(), done)
    }
}

impl Engine {
    /// Bytes of all Topic Filters in the subscription tree.
    pub(crate) fn subscription_bytes(&self) -> usize {
        self.subscription_bytes.load(Ordering::Relaxed)
    }

    /// Disconnects the Client of a Session. Returns whether it was connected.
    pub(crate) fn disconnect(&self, client_id: &str, code: ReasonCode) -> bool {
        let Some(cell) = self.registry.find(client_id) else { return false };
        let state = cell.lock();
        let Some(link) = state.link.as_ref() else { return false };
        link.mailbox.disconnect(code);
        true
    }

    /// Ends a Session, and disconnects its Client with 0x98 if it is connected. Returns whether there was one.
    pub(crate) fn end_session_of(self: &Arc<Self>, client_id: &str) -> bool {
        let Some(cell) = self.registry.find(client_id) else { return false };
        self.end_session_by(
            &cell,
            |_| true,
            |mailbox, torn| {
                // Behind half a packet, a DISCONNECT would be read as the rest of it.
                match torn {
                    true => mailbox.order(Order::TakenOverMidPacket),
                    false => mailbox.disconnect(ReasonCode::ADMINISTRATIVE_ACTION),
                }
            },
        )
    }
}
