//! The state of the broker: whether it lives and is ready, and its figures as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answer::{Answer, Problem};
use super::desk::Desk;
use super::route::Asked;
use crate::broker::SessionQuery;
use crate::calendar;
use crate::ledger::{DropReason, FilterReason, Ledger};
use crate::runtime;

const PLAIN: &str = "text/plain; charset=utf-8";

/// An event loop that has not run a task for so long is stuck.
const LOOP_PATIENCE: Duration = Duration::from_secs(5);

/// Whether the event loops run: each is given a task.
pub(super) async fn live(asked: Asked) -> Result<Answer, Problem> {
    let (begun, ran) = async_channel::bounded::<()>(1);
    asked.desk.broker.engine().host.spawn_on_each(|| {
        let begun = begun.clone();
        async move { drop(begun) }
    });
    drop(begun);
    let all = async { while ran.recv().await.is_ok() {} };
    let patience = LOOP_PATIENCE.min(asked.desk.limits().admin_timeout / 2);
    match runtime::timeout(patience, all).await {
        Some(()) => Ok(Answer::text(PLAIN, "ok\n")),
        None => Ok(Answer::text(PLAIN, "not live: an event loop runs no tasks\n").with_status(503)),
    }
}

/// Whether the broker accepts Clients.
#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn ready(asked: Asked) -> Result<Answer, Problem> {
    Ok(match not_ready(&asked.desk) {
        None => Answer::text(PLAIN, "ready\n"),
        Some(reason) => Answer::text(PLAIN, format!("{reason}\n")).with_status(503),
    })
}

/// Why the broker accepts no Clients, or not all.
fn not_ready(desk: &Desk) -> Option<String> {
    if desk.broker.engine().is_stopping() {
        return Some("not ready: the broker is stopping, or has stopped".to_owned());
    }
    let listeners = desk.broker.listeners();
    if listeners.is_empty() {
        return Some("not ready: the broker has no listener".to_owned());
    }
    let configured =
        desk.operator.as_ref().map(|operator| operator.listeners()).unwrap_or_default();
    let missing = configured.iter().find(|one| !listeners.iter().any(|l| l.name == one.name))?;
    Some(format!("not ready: the listener {:?} is stopped", missing.name))
}

pub(super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    Ok(Answer::json(&figures(&asked.desk).await))
}

/// The figures of the broker.
pub(super) async fn figures(desk: &Desk) -> Value {
    let broker = &desk.broker;
    let counters = broker.counters();
    let stopping = broker.engine().is_stopping();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "startedAt": calendar::write(desk.started_at),
        "uptimeSecs": broker.engine().now().0 / 1_000,
        "state": if stopping { "stopping" } else { "running" },
        "connections": counters.connections,
        "sessions": counters.sessions,
        "subscriptions": counters.subscriptions,
        "retained": { "messages": counters.retained_messages, "bytes": counters.retained_bytes },
        "memoryBytes": broker.engine().host.resident_memory().map(|(now, _)| now),
        "ledger": ledger(&broker.ledger()),
        "rates": desk.history.rates(&desk.broker),
        "slow": slow(desk).await,
        "listeners": broker.listeners().len(),
    })
}

/// The last hour.
#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn history(asked: Asked) -> Result<Answer, Problem> {
    Ok(Answer::json(&asked.desk.history.shown()))
}

/// The number of slow Clients.
async fn slow(desk: &Desk) -> usize {
    let query = SessionQuery { slow: Some(true), ..SessionQuery::default() };
    desk.broker.find_sessions(&query).await.count
}

/// How far each limit is used.
pub(super) async fn limits(asked: Asked) -> Result<Answer, Problem> {
    let all = asked.desk.broker.limits_in_use().await;
    let shown = all.iter().map(|limit| {
        json!({
            "name": limit.name,
            "value": limit.value,
            "unit": limit.unit,
            "meaning": limit.meaning,
            "used": limit.used,
            "share": limit.share(),
            "refused": limit.refused,
        })
    });
    Ok(Answer::json(&shown.collect::<Vec<_>>().into()))
}

/// The books with all their places.
pub(super) fn ledger(books: &Ledger) -> Value {
    let dropped = DropReason::ALL.iter().map(|&reason| (reason.to_string(), books.dropped(reason)));
    let filtered =
        FilterReason::ALL.iter().map(|&reason| (reason.to_string(), books.filtered(reason)));
    json!({
        "offered": books.offered,
        "delivered": books.delivered,
        "waiting": books.waiting,
        "inflight": books.inflight,
        "expired": books.expired,
        "handedOver": books.handed_over,
        "dropped": { "total": books.dropped_total(), "byReason": counts(dropped) },
        "filtered": { "total": books.filtered_total(), "byReason": counts(filtered) },
    })
}

fn counts(of: impl Iterator<Item = (String, u64)>) -> Map<String, Value> {
    of.map(|(name, count)| (name, count.into())).collect()
}
