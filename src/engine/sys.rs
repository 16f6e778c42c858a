//! Publishes the topics below `$SYS/broker/`: when the wheel says so, what has changed, as retained messages of the
//! Server. They are offered like any message and are in the books; they count for no limit on retained messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_lite::future::yield_now;

use super::batch::{Batch, Flush, Publishing, Routed};
use super::route::RouteCache;
use super::session_cell::SessionCell;
use super::state::Engine;
use super::timers::{Due, TICK_MILLIS, tick_of};
use crate::budget::Budget;
use crate::message::Message;
use crate::packet::QoS;
use crate::session::outgoing::Outgoing;
use crate::sync::lock;
use crate::sys_topics::{Snapshot, Survey, names};
use crate::time::Timestamp;

/// The Client Identifier of the publisher, for No Local; no Client has it.
const PUBLISHER: &str = "";

/// The steps that a look at one Session costs.
const LOOK_STEPS: usize = 8;

/// How often the Sessions are looked at anew because one ended meanwhile.
const SURVEYS_MAX: usize = 4;

impl Engine {
    /// Publishes the topics every `interval` from now on; 0 removes them.
    pub(crate) fn set_sys_interval(self: &Arc<Self>, interval: Duration) {
        let now = self.now();
        let (new, off) = {
            let mut sys = lock(&self.sys);
            (sys.set_interval(interval, now), sys.is_off())
        };
        match (new, off) {
            (false, _) => {}
            (true, true) => self.remove_sys_topics(),
            (true, false) => self.watch_sys(now, now),
        }
    }

    /// Has the wheel look when it is time to publish.
    fn watch_sys(&self, at: Timestamp, now: Timestamp) {
        let tick = tick_of(at, now);
        if self.sys_look.fetch_min(tick, Ordering::AcqRel) > tick {
            self.wheel.schedule(tick, Due::Sys);
        }
    }

    /// Publishes if it is time to, and plans the next look.
    pub(crate) fn look_at_sys(self: &Arc<Self>, now: Timestamp) {
        if self.sys_look.load(Ordering::Acquire) > now.0 / TICK_MILLIS {
            return; // planned before a sooner look was: one that counts is to come
        }
        self.sys_look.store(u64::MAX, Ordering::Release);
        let wall = self.host.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (begins, next) = {
            let mut sys = lock(&self.sys);
            if sys.is_off() || self.is_stopping() {
                return;
            }
            let (due, next) = sys.look(wall, now);
            let begins = due && !sys.publishing;
            sys.publishing |= begins;
            (begins, next)
        };
        if begins {
            let publishing = UnderWay(self.clone());
            self.host.spawn_aside(async move { publishing.0.publish_sys_topics().await });
        }
        self.watch_sys(next, now);
    }

    async fn publish_sys_topics(&self) {
        let survey = self.survey().await;
        let now = self.now();
        let snapshot = Snapshot {
            uptime_secs: now.millis_since(self.began) / 1_000,
            survey,
            traffic: self.traffic(),
            counters: self.counters(),
            memory: self.host.resident_memory(),
        };
        let changes = {
            let mut sys = lock(&self.sys);
            if sys.is_off() {
                return;
            }
            sys.changes(&snapshot, now)
        };
        let message = |(topic, text): (String, String)| Message::new(&topic, text).ok();
        let messages = changes.into_iter().filter_map(message);
        self.publish_as_server(messages.map(|it| it.with_qos(QoS::ExactlyOnce).with_retain(true)))
            .await;
    }

    /// Publishes retained messages of the Server, as one publisher's batches, in as many turns as it takes.
    async fn publish_as_server(&self, messages: impl Iterator<Item = Message>) {
        let (mut batch, mut routes) = (Batch::default(), RouteCache::default());
        batch.begin(self);
        let mut budget = Budget::of_a_turn();
        for message in messages {
            let accepted_at = self.now();
            let message = message.accepted_at(accepted_at);
            self.keep(&message, accepted_at);
            let mut publishing = Publishing::kept(self, message);
            loop {
                let now = self.now();
                match publishing.advance(&mut batch, self, PUBLISHER, &mut routes, now, &mut budget)
                {
                    Routed::Heard(_) => break,
                    Routed::Later(rest) | Routed::Unasked(rest, _) => publishing = rest,
                }
                rest(&mut budget).await;
            }
            if batch.is_pressed() || budget.is_spent() {
                self.flush_as_server(&mut batch, &mut budget).await;
            }
        }
        self.flush_as_server(&mut batch, &mut budget).await;
    }

    async fn flush_as_server(&self, batch: &mut Batch, budget: &mut Budget) {
        let mut out = Outgoing::default();
        loop {
            match batch.flush(self, None, &mut out, self.now(), budget) {
                Flush::Done { waits: false } if !budget.is_spent() => return,
                Flush::Done { .. } => return rest(budget).await,
                Flush::Unfinished => rest(budget).await,
            }
        }
    }

    fn remove_sys_topics(&self) {
        names().for_each(|topic| self.forget(&topic));
    }

    /// Looks at every Session, in as many turns as it takes.
    async fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        for _ in 0..SURVEYS_MAX {
            // A Session that ends meanwhile would be counted twice or not at all.
            let ended = self.sessions_ended.load(Ordering::Acquire);
            survey = self.survey_once().await;
            if self.sessions_ended.load(Ordering::Acquire) == ended {
                break;
            }
        }
        survey
    }

    async fn survey_once(&self) -> Survey {
        let (mut survey, mut budget) = (Survey::default(), Budget::of_a_turn());
        let shards = (0..).map_while(|shard| self.registry.in_shard(shard));
        for cells in shards {
            for cell in &cells {
                add(&mut survey, cell);
                budget.spend(LOOK_STEPS);
                if budget.is_spent() {
                    rest(&mut budget).await;
                }
            }
        }
        survey.ledger += *lock(&self.books);
        survey
    }
}

/// Lets other tasks have their turns.
async fn rest(budget: &mut Budget) {
    yield_now().await;
    *budget = Budget::of_a_turn();
}

fn add(survey: &mut Survey, cell: &SessionCell) {
    let state = cell.lock();
    let session = &state.session;
    if session.has_ended() {
        return;
    }
    survey.ledger += session.ledger();
    survey.clients += 1;
    survey.clients_connected += u64::from(session.is_attached());
    let (queued, bytes) = session.queued();
    survey.queued += queued as u64;
    survey.queued_bytes += bytes as u64;
    survey.packets_out += session.tail_packets() as u64;
    survey.packets_out_bytes += session.tail_bytes() as u64;
}

/// A publication that is under way; its drop ends it, also by a panic.
struct UnderWay(Arc<Engine>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let off = {
            let mut sys = lock(&self.0.sys);
            sys.publishing = false;
            sys.is_off()
        };
        if off {
            self.0.remove_sys_topics(); // switched off in the middle
        }
    }
}
