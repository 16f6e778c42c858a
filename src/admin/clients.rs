//! The Clients: their Sessions, subscriptions and queues.

use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::desk::Desk;
use super::input;
use super::message;
use super::pages::{listed, request};
use super::route::Asked;
use super::status;
use crate::broker::{
    QueuedMessage, SessionInfo, SessionOrder, SessionQuery, SubscriptionInfo, SubscriptionQuery,
};
use crate::calendar;
use crate::packet::ReasonCode;
use crate::topic::TopicName;

/// The orders of a list, the default first.
pub(super) const ORDERS: &[&str] = &["clientId", "waiting", "dropped", "delivered"];

pub(super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let mut query = SessionQuery::default();
    query.search = asked.query.text("search").map(str::to_owned);
    query.connected = asked.query.flag("connected");
    query.slow = asked.query.flag("slow");
    query.order = match asked.query.text("sort") {
        Some("waiting") => SessionOrder::Waiting,
        Some("dropped") => SessionOrder::Dropped,
        Some("delivered") => SessionOrder::Delivered,
        _ => SessionOrder::ClientId,
    };
    query.page = request(asked.page())?;
    let page = asked.desk.broker.find_sessions(&query).await;
    Ok(listed(&page, |info| shown(info, &Value::Null)))
}

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn one(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.segment(0);
    let detail = asked.desk.broker.session(id).ok_or_else(|| nobody(id))?;
    let rates = asked.desk.looks.rates(&detail.info, asked.desk.broker.engine().now());
    Ok(Answer::json(&shown(&detail.info, &rates)))
}

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn disconnect(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.segment(0);
    let connected = asked.desk.broker.disconnect(id, ReasonCode::ADMINISTRATIVE_ACTION);
    if connected { Ok(Answer::nothing(204)) } else { Err(not_connected(&asked.desk, id)) }
}

fn not_connected(desk: &Desk, id: &str) -> Problem {
    match desk.broker.session(id) {
        Some(_) => Problem::not_found(format!(
            "the Client {id:?} is not connected; its Session waits for it"
        )),
        None => nobody(id),
    }
}

fn nobody(id: &str) -> Problem {
    Problem::not_found(format!("there is no Session of {id:?}; see /api/v1/clients"))
}

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn subscriptions(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.segment(0);
    let page = asked.desk.broker.session_subscriptions(id, request(asked.page())?);
    Ok(listed(&page.ok_or_else(|| nobody(id))?, subscription))
}

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn queue(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.segment(0);
    let page = asked.desk.broker.session_queue(id, request(asked.page())?);
    Ok(listed(&page.ok_or_else(|| nobody(id))?, queued))
}

/// The subscriptions of all Clients.
pub(super) async fn all_subscriptions(asked: Asked) -> Result<Answer, Problem> {
    let mut query = SubscriptionQuery::default();
    query.below = asked.query.text("filter").map(|filter| filter.trim_end_matches("/#").to_owned());
    if let Some(topic) = asked.query.text("topic") {
        let topic = TopicName::new(topic).map_err(|error| {
            Problem::bad_request(format!(
                "topic is {topic:?}, which is no Topic Name: {error}; write one without wildcards"
            ))
        })?;
        query.topic = Some(topic);
    }
    query.page = request(asked.page())?;
    let page = asked.desk.broker.find_subscriptions(&query).await;
    Ok(listed(&page, |info| {
        let mut shown = subscription(info);
        shown["clientId"] = info.client_id.as_str().into();
        shown
    }))
}

/// The ten Clients that fall behind most.
pub(super) async fn slowest(desk: &Desk) -> Value {
    let Ok(page) = request(input::Page { page: 1, limit: 10 }) else { return Value::Null };
    let query = SessionQuery { order: SessionOrder::Waiting, page, ..SessionQuery::default() };
    let page = desk.broker.find_sessions(&query).await;
    let behind = page.items.iter().filter(|info| info.waiting > 0 || info.slow);
    behind.map(|info| shown(info, &Value::Null)).collect()
}

fn shown(info: &SessionInfo, rates: &Value) -> Value {
    let time = |at: Option<std::time::SystemTime>| at.map(calendar::write);
    json!({
        "clientId": info.client_id,
        "userName": info.user_name,
        "connected": info.connected,
        "inProcess": info.in_process,
        "address": info.address.map(|address| address.to_string()),
        "listener": info.listener,
        "version": info.version.map(|version| version.to_string()),
        "connectedAt": time(info.connected_at),
        "disconnectedAt": time(info.disconnected_at),
        "lastDisconnect": info.last_disconnect.as_ref().map(ToString::to_string),
        "cleanStart": info.clean_start,
        "keepAliveSecs": info.keep_alive_secs,
        "expirySecs": info.expiry_secs,
        "subscriptions": info.subscriptions,
        "waiting": info.waiting,
        "waitingBytes": info.waiting_bytes,
        "depth": info.depth,
        "inflight": info.inflight,
        "receiving": info.receiving,
        "slow": info.slow,
        "secsUntilLoss": info.secs_until_loss,
        "publishesReceived": info.publishes_received,
        "rates": rates,
        "ledger": status::ledger(&info.ledger),
    })
}

fn subscription(info: &SubscriptionInfo) -> Value {
    let options = &info.options;
    json!({
        "filter": info.filter.filter_str(),
        "share": info.filter.share_name(),
        "qos": options.qos as u8,
        "noLocal": options.no_local,
        "retainAsPublished": options.retain_as_published,
        "retainHandling": options.retain_handling as u8,
        "subscriptionId": info.subscription_id,
    })
}

fn queued(queued: &QueuedMessage) -> Value {
    let message = queued.message.as_ref();
    json!({
        "topic": message.map(crate::message::Message::topic),
        "qos": queued.qos as u8,
        "retain": queued.retain,
        "payloadBytes": message.map(|message| message.payload().len()),
        "payload": message.map(shown_payload),
        "state": if queued.waiting { "waiting" } else { "inflight" },
        "packetId": queued.packet_id,
        "expiresInSecs": queued.expires_in_secs,
    })
}

fn shown_payload(message: &crate::message::Message) -> Value {
    message::shown(message, message::LISTED_BYTES_MAX)["payload"].take()
}
