//! The state of the broker: whether it lives and is ready, and its figures as JSON.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Problem};
use super::desk::Desk;
use super::process;
use super::route::Asked;
use crate::broker::SessionQuery;
use crate::calendar;
use crate::ledger::{DropReason, FilterReason, Ledger};

const PLAIN: &str = "text/plain; charset=utf-8";

/// Whether the loops run: a request gets here only if the loop of the listener runs, and the clock of the broker is read.
#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn live(_: Asked) -> Result<Answer, Problem> {
    Ok(Answer::text(PLAIN, "ok\n"))
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
    let wall = broker.engine().host.wall();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "startedAt": calendar::write(desk.started_at),
        "uptimeSecs": wall.duration_since(desk.started_at).map_or(0, |since| since.as_secs()),
        "state": if stopping { "stopping" } else { "running" },
        "connections": counters.connections,
        "sessions": counters.sessions,
        "subscriptions": counters.subscriptions,
        "retained": { "messages": counters.retained_messages, "bytes": counters.retained_bytes },
        "memoryBytes": process::resident_bytes(),
        "ledger": ledger(&broker.ledger()),
        "rates": desk.history.rates(desk),
        "slow": slow(desk).await,
        "listeners": broker.listeners().len(),
    })
}

/// The number of slow Clients.
async fn slow(desk: &Desk) -> usize {
    let mut query = SessionQuery::default();
    query.slow = Some(true);
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
        "dropped": { "total": books.dropped_total(), "byReason": counts(dropped) },
        "filtered": { "total": books.filtered_total(), "byReason": counts(filtered) },
    })
}

fn counts(of: impl Iterator<Item = (String, u64)>) -> Map<String, Value> {
    of.map(|(name, count)| (name, count.into())).collect()
}
