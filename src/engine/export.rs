//! Writes the state of a broker that stands still, a turn's worth at a time.

use std::sync::Arc;
use std::time::SystemTime;

use ahash::RandomState;
use futures_io::AsyncWrite;
use futures_lite::{AsyncWriteExt, future};
use hashbrown::HashMap;

use super::session_cell::SessionCell;
use super::session_end::taken_over;
use super::state::Engine;
use crate::budget::Budget;
use crate::session::handed::SessionHead;
use crate::snapshot::write::Encoder;
use crate::snapshot::{Clocks, SessionRecord, StateError, StateSummary};
use crate::subscription::ShareGroup;
use crate::topic::TopicFilter;

/// Bytes that are written at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Retained messages that are read under one lock.
const RETAINED_AT_ONCE: usize = 256;

/// The steps that one record costs beside its bytes.
const RECORD_STEPS: usize = 4;

impl Engine {
    /// The clocks of this moment.
    pub(super) fn clocks(&self) -> Clocks {
        let wall = self.host.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clocks { now: self.now(), wall: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX - 1) }
    }

    /// Writes all Sessions of Clients on the network, their messages and the retained messages.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) async fn export(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<StateSummary, StateError> {
        let encoder = Encoder::new(self.clocks(), &self.hasher);
        let mut export = Export { engine: self, writer, encoder, budget: Budget::of_a_turn() };
        export.retained().await?;
        let cells = export.sessions().await?;
        export.backlogs(&cells).await?;
        let summary = export.encoder.end();
        export.flush().await?;
        export.writer.flush().await?;
        Ok(summary)
    }

    /// Ends all Sessions of Clients on the network, because another broker has them: no Will is published, and their
    /// messages count as handed over.
    pub(crate) async fn hand_over_sessions(self: &Arc<Self>) {
        let mut budget = Budget::of_a_turn();
        for cell in self.registry.snapshot() {
            if cell.is_in_process() {
                continue;
            }
            let subscriptions = self.hand_over_session(&cell);
            budget.spend(RECORD_STEPS * (1 + subscriptions));
            if budget.is_spent() {
                future::yield_now().await;
                budget = Budget::of_a_turn();
            }
        }
    }

    /// Returns the number of its subscriptions.
    fn hand_over_session(self: &Arc<Self>, cell: &Arc<SessionCell>) -> usize {
        let mut state = cell.lock_between_writes();
        if state.session.has_ended() {
            return 0;
        }
        let torn = state.is_amid_packet();
        state.session.hand_over();
        self.end_watch(cell, &mut state);
        self.inherit_books(state.session.ledger());
        cell.set_ended();
        cell.set_connected(&state, false);
        state.leave_all(cell.key);
        if let Some(link) = state.link.take() {
            link.mailbox.order(taken_over(torn));
        }
        let subscriptions = state.session.take_subscriptions();
        drop(state);
        let count = subscriptions.len();
        self.leave_tree(cell, subscriptions);
        self.registry.remove(cell);
        count
    }
}

/// The state as far as it is written.
struct Export<'a, W> {
    engine: &'a Engine,
    writer: &'a mut W,
    encoder: Encoder,
    budget: Budget,
}

/// The shared subscriptions of the Sessions, by address.
type Shares = HashMap<usize, (TopicFilter, Arc<ShareGroup>), RandomState>;

impl<W: AsyncWrite + Unpin> Export<'_, W> {
    async fn retained(&mut self) -> Result<(), StateError> {
        let now = self.engine.now();
        let mut after = None;
        loop {
            let (some, last) = self.engine.retained_after(after.as_deref(), RETAINED_AT_ONCE, now);
            if last.is_none() {
                return Ok(());
            }
            after = last;
            for message in some {
                self.encoder.retained(&message);
                self.record_done().await?;
            }
        }
    }

    /// Writes the Sessions and their shared subscriptions. Returns the Sessions in their order.
    async fn sessions(&mut self) -> Result<Vec<Arc<SessionCell>>, StateError> {
        let mut written = Vec::new();
        let mut shares: Shares = HashMap::with_hasher(self.engine.hasher.clone());
        for cell in self.engine.registry.snapshot() {
            let head = {
                let state = cell.lock();
                if cell.is_in_process() || state.session.has_ended() {
                    continue;
                }
                state.session.export_head()
            };
            let record = SessionRecord { head, held_by: cell.held() };
            self.session(&record, &mut shares).await?;
            written.push(cell);
        }
        for (filter, identity) in shares.values() {
            self.encoder.shared(filter, identity);
            self.record_done().await?;
        }
        Ok(written)
    }

    async fn session(
        &mut self,
        record: &SessionRecord,
        shares: &mut Shares,
    ) -> Result<(), StateError> {
        self.encoder.session(record);
        let SessionHead { subscriptions, replays, .. } = &record.head;
        for (filter, subscription) in subscriptions {
            self.encoder.subscription(filter, subscription);
            if filter.is_shared()
                && let Some(group) = self.engine.group_of(filter)
            {
                let identity = group.identity.clone();
                let address = Arc::as_ptr(&identity).addr();
                shares.entry(address).or_insert_with(|| (filter.clone(), identity));
            }
            self.record_done().await?;
        }
        for (filter, after) in replays {
            self.encoder.replay(filter, after.as_deref());
            self.record_done().await?;
        }
        self.record_done().await
    }

    async fn backlogs(&mut self, cells: &[Arc<SessionCell>]) -> Result<(), StateError> {
        for (number, cell) in (0..).zip(cells) {
            let backlog = cell.lock().session.export_backlog();
            if backlog.is_empty() {
                continue;
            }
            self.encoder.backlog(number, &backlog);
            for (serial, delivery) in &backlog.inflight.sent {
                self.encoder.inflight(*serial, delivery.as_ref());
                self.record_done().await?;
            }
            for delivery in &backlog.queue {
                self.encoder.queued(delivery);
                self.record_done().await?;
            }
            self.record_done().await?;
        }
        Ok(())
    }

    /// Between two records: writes what has gathered, and yields when the turn is over.
    async fn record_done(&mut self) -> Result<(), StateError> {
        self.budget.spend(RECORD_STEPS);
        if self.encoder.bytes().len() >= CHUNK_BYTES {
            self.flush().await?;
        }
        if self.budget.is_spent() {
            future::yield_now().await;
            self.budget = Budget::of_a_turn();
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StateError> {
        self.budget.spend_bytes(self.encoder.bytes().len());
        self.writer.write_all(self.encoder.bytes()).await?;
        self.encoder.clear();
        Ok(())
    }
}
