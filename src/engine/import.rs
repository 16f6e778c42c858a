//! Reads the state that another broker has written, a turn's worth at a time.

use std::sync::Arc;

use futures_io::AsyncRead;
use futures_lite::{AsyncReadExt, future};

use super::access::Subject;
use super::holder::Holder;
use super::registry::Claim;
use super::session_cell::{Owner, SessionCell};
use super::share::Member;
use super::state::Engine;
use crate::access::{Identity, Rule};
use crate::budget::Budget;
use crate::limits::Limits;
use crate::snapshot::read::{Decoder, Item, head};
use crate::snapshot::{
    HEAD_BYTES, HeldByUser, PREFIX_BYTES, SessionRecord, StateError, StateSummary, Tag,
};
use crate::subscription::{Subscription, Wanted};
use crate::topic::TopicFilter;

/// A record is read in pieces of this size, so that no announced length makes a large allocation.
const PIECE_BYTES: usize = 64 * 1024;

/// The steps that one record costs beside its bytes.
const RECORD_STEPS: usize = 4;

/// The steps that a subscription costs beside the bytes of its Topic Filter.
const SUBSCRIPTION_STEPS: usize = 12;

/// Vouches for a Client that is away until the access rules are asked.
const LET_IN_BEFORE: Rule = Rule::named("the process before this one has let the Client in");

/// A state as far as it was read.
struct Import<'a> {
    engine: &'a Arc<Engine>,
    decoder: Decoder,
    cells: Vec<Arc<SessionCell>>,
    /// As many Sessions as the other broker had.
    limits: Limits,
    budget: Budget,
}

impl Engine {
    /// Takes the Sessions and the retained messages of a state.
    ///
    /// # Errors
    /// [`StateError`]; what was read before stays.
    pub(crate) async fn import(
        self: &Arc<Self>,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> Result<StateSummary, StateError> {
        let mut prefix = [0; PREFIX_BYTES];
        reader.read_exact(&mut prefix).await?;
        let limits = Limits { sessions_max: usize::MAX, ..(*self.limits()).clone() };
        let mut import = Import {
            engine: self,
            decoder: Decoder::new(&prefix, self.clocks())?,
            cells: Vec::new(),
            limits,
            budget: Budget::of_a_turn(),
        };
        let mut body = Vec::new();
        loop {
            let tag = import.read_record(reader, &mut body).await?;
            for item in import.decoder.record(tag, &body)?.into_iter().flatten() {
                if let Item::End(summary) = item {
                    return Ok(summary);
                }
                import.take(item).await?;
            }
            import.record_done(body.len()).await;
        }
    }
}

impl Import<'_> {
    async fn read_record(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        body: &mut Vec<u8>,
    ) -> Result<Tag, StateError> {
        let mut first = [0; HEAD_BYTES];
        reader.read_exact(&mut first).await?;
        let (tag, len) = head(&first).map_err(|what| self.decoder.malformed(what))?;
        body.clear();
        body.shrink_to(PIECE_BYTES);
        let mut left = len;
        while left > 0 {
            let piece = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let start = body.len();
            body.resize(start + piece, 0);
            reader.read_exact(body.get_mut(start..).unwrap_or_default()).await?;
            left -= piece as u64;
        }
        Ok(tag)
    }

    /// Between two records: yields when the turn is over.
    async fn record_done(&mut self, bytes: usize) {
        self.budget.spend(RECORD_STEPS);
        self.budget.spend_bytes(bytes);
        if self.budget.is_spent() {
            future::yield_now().await;
            self.budget = Budget::of_a_turn();
        }
    }

    async fn take(&mut self, item: Item) -> Result<(), StateError> {
        match item {
            Item::Retained(message) => {
                let now = self.engine.now();
                if !message.is_expired(now) {
                    self.engine.retain(&message, now);
                }
            }
            Item::Session(record) => {
                let cell = self.session(*record).await?;
                self.cells.push(cell);
            }
            Item::Shared(filter) => {
                if let Some(group) = self.engine.group_of(&filter) {
                    self.decoder.identify(group.identity.clone());
                }
            }
            Item::Backlog(session, backlog) => {
                if let Some(cell) = self.cells.get(session) {
                    let mut state = cell.lock();
                    state.session.import_backlog(*backlog);
                    self.engine.watch_expiry(cell, &mut state, self.engine.now());
                }
            }
            Item::End(_) => {}
        }
        Ok(())
    }

    async fn session(&mut self, record: SessionRecord) -> Result<Arc<SessionCell>, StateError> {
        let engine = self.engine;
        let SessionRecord { head, held_by } = record;
        let identity = match &held_by.user {
            HeldByUser::Unchecked => None,
            HeldByUser::Anonymous => Some(Identity::new(LET_IN_BEFORE)),
            HeldByUser::Named(name) => Some(Identity::new(LET_IN_BEFORE).with_user_name(name)),
        };
        let id = &*head.client_id;
        let exists = || StateError::SessionExists(id.to_owned());
        if engine.registry.has(id) {
            return Err(exists());
        }
        let holder = Holder::imported(held_by);
        let claim =
            engine.registry.claim(id, false, Owner::Network, holder.as_deref(), &self.limits);
        let Claim::New { cell, .. } = claim else { return Err(exists()) };
        let subscriptions = head.subscriptions.clone();
        {
            let mut state = cell.lock();
            state.session.import_head(head);
            let rules = engine.access.rules();
            state.subject = identity.map(|who| Subject::new(who).admitted_by(rules.number));
            if rules.policy.is_some() {
                engine.recheck(&cell, &state);
            }
            engine.watch_expiry(&cell, &mut state, engine.now());
        }
        for (filter, subscription) in &subscriptions {
            self.subscribe(&cell, filter, *subscription);
            self.budget.spend(SUBSCRIPTION_STEPS);
            self.record_done(filter.as_str().len()).await;
        }
        Ok(cell)
    }

    fn subscribe(&self, cell: &Arc<SessionCell>, filter: &TopicFilter, subscription: Subscription) {
        let group = self.engine.import_to_tree(cell, filter, subscription);
        if let (Some(group), Some(wanted)) = (group, Wanted::merge(&[subscription])) {
            group.add(cell.key, Member { cell: cell.clone(), wanted }, false);
            cell.lock().join(group);
        }
    }
}
