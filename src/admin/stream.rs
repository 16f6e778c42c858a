//! Streams of events: figures once a second, what happens, and messages as they pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_lock::SemaphoreGuardArc;
use bytes::Bytes;
use futures_lite::future::{self, poll_once};
use futures_lite::stream;
use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::clients;
use super::desk::Desk;
use super::happening;
use super::message;
use super::route::Asked;
use super::status;
use crate::broker::{Client, ClientError};
use crate::calendar;
use crate::events::{Event, Events, Lagged};
use crate::message::Message;
use crate::packet::{QoS, SubscriptionOptions};
use crate::topic::TopicFilter;

/// Figures are sent so often.
const PULSE: Duration = Duration::from_secs(1);
/// Figures that are younger serve the next listener, too.
const FRESH: Duration = Duration::from_millis(900);
/// A comment is sent after so long without an event, so that proxies keep the connection.
const SILENCE: Duration = Duration::from_secs(15);
/// Messages that are sent in one piece.
const MESSAGES_AT_ONCE: usize = 64;
/// No further message is added to a piece of so many bytes.
const BYTES_AT_ONCE: usize = 256 * 1024;
/// Names for clients that other clients may have taken are tried so often.
const NAMES_TRIED: usize = 16;

/// Numbers the clients behind streams of messages.
static TAILS: AtomicU64 = AtomicU64::new(1);

/// One event as it is sent.
fn event(name: &str, data: &Value) -> String {
    // JSON has no line breaks.
    format!("event: {name}\ndata: {data}\n\n")
}

/// What a stream holds as long as it is open.
struct Open {
    desk: Arc<Desk>,
    _place: SemaphoreGuardArc,
}

impl Open {
    fn new(asked: &Asked) -> Result<Open, Problem> {
        Ok(Open { desk: asked.desk.clone(), _place: asked.desk.stream()? })
    }

    /// What `next` yields; a comment if that takes long; `None` when the listener stops.
    async fn or_comment(&self, next: impl Future<Output = Option<String>>) -> Option<Bytes> {
        let quiet = async { self.desk.pause(SILENCE).await.then(|| ":\n\n".to_owned()) };
        future::or(next, quiet).await.map(Bytes::from)
    }
}

/// The figures once a second.
#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn live(asked: Asked) -> Result<Answer, Problem> {
    let open = Open::new(&asked)?;
    let chunks = stream::unfold((open, true), |(open, first)| async move {
        if !first && !open.desk.pause(PULSE).await {
            return None;
        }
        let pulse = pulse(&open.desk).await;
        let text = event("status", &pulse["status"]) + &event("slow", &pulse["slow"]);
        Some((text.into(), (open, false)))
    });
    Ok(Answer::events(Box::pin(chunks)))
}

/// The figures of this second, which all listeners share.
async fn pulse(desk: &Desk) -> Arc<Value> {
    let mut last = desk.pulse.lock().await;
    let now = desk.broker.engine().now();
    if let Some((at, pulse)) = &*last
        && Duration::from_millis(now.0.saturating_sub(at.0)) < FRESH
    {
        return pulse.clone();
    }
    let pulse =
        json!({ "status": status::figures(desk).await, "slow": clients::slowest(desk).await });
    let pulse = Arc::new(pulse);
    *last = Some((now, pulse.clone()));
    pulse
}

/// What happens.
#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn events(asked: Asked) -> Result<Answer, Problem> {
    let open = Open::new(&asked)?;
    let events = open.desk.broker.events();
    let chunks = stream::unfold((open, events), |(open, mut events)| async move {
        let text = open.or_comment(next_event(&mut events)).await?;
        Some((text, (open, events)))
    });
    // The head is sent with the first bytes.
    let hello = stream::once(Bytes::from_static(b":\n\n"));
    Ok(Answer::events(Box::pin(stream::StreamExt::chain(hello, chunks))))
}

async fn next_event(events: &mut Events) -> Option<String> {
    Some(told(events.next().await?))
}

fn told(next: Result<Arc<Event>, Lagged>) -> String {
    match next {
        Ok(happened) => {
            let told = happening::told(&happened);
            event(told["kind"].as_str().unwrap_or_default(), &told)
        }
        Err(Lagged(lost)) => event("lagged", &json!({ "lost": lost })),
    }
}

/// Messages as they pass: a client in process with this subscription. What it cannot send in time is dropped and told.
pub(super) async fn tail(asked: Asked) -> Result<Answer, Problem> {
    let text = asked.query.text("filter").unwrap_or_default();
    let filter = TopicFilter::new(text).map_err(|error| {
        Problem::bad_request(format!(
            "filter is {text:?}, which is no Topic Filter: {error}; write for example %23"
        ))
    })?;
    if filter.is_shared() {
        let own = filter.filter_str();
        return Err(Problem::bad_request(format!(
            "filter is {text:?}: a shared subscription would take messages from the Clients that share it; write {own:?}"
        )));
    }
    let open = Open::new(&asked)?;
    let client = open_client(&open.desk)?;
    let options = SubscriptionOptions::with_qos(QoS::ExactlyOnce);
    client.subscribe(&filter, options).await.map_err(|error| refused(&error))?;
    let state = Tail { open, client, lost: 0 };
    let chunks = stream::unfold(state, |mut tail| async move {
        let text = tail.next().await?;
        Some((text, tail))
    });
    let hello = stream::once(Bytes::from_static(b":\n\n"));
    Ok(Answer::events(Box::pin(stream::StreamExt::chain(hello, chunks))))
}

struct Tail {
    open: Open,
    client: Client,
    /// Messages whose loss was told.
    lost: u64,
}

impl Tail {
    async fn next(&mut self) -> Option<Bytes> {
        let Tail { open, client, lost } = self;
        let next = async {
            let first = client.recv().await?;
            let desk = &open.desk;
            let mut text = passing(desk, &first);
            for _ in 1..MESSAGES_AT_ONCE {
                if text.len() > BYTES_AT_ONCE {
                    break;
                }
                let Some(Some(message)) = poll_once(client.recv()).await else { break };
                text += &passing(desk, &message);
            }
            let dropped = client.ledger().dropped_total();
            if dropped > *lost {
                text += &event("lost", &json!({ "messages": dropped - *lost }));
                *lost = dropped;
            }
            Some(text)
        };
        open.or_comment(next).await
    }
}

fn passing(desk: &Desk, of: &Message) -> String {
    let mut shown = message::shown(of, message::PASSING_BYTES_MAX);
    shown["at"] = calendar::write(desk.broker.engine().host.wall()).into();
    shown["publisher"] = Value::Null;
    event("message", &shown)
}

fn open_client(desk: &Desk) -> Result<Client, Problem> {
    let mut last = ClientError::Stopped;
    for _ in 0..NAMES_TRIED {
        let number = TAILS.fetch_add(1, Ordering::Relaxed);
        match desk.broker.client(&format!("hrotti-tail-{number}")) {
            Ok(client) => return Ok(client),
            Err(error) => last = error,
        }
    }
    Err(refused(&last))
}

/// Why the broker does not do what it was asked for.
pub(super) fn refused(error: &ClientError) -> Problem {
    match error {
        ClientError::Stopped => Problem::new(503, "the broker is stopping; start it again"),
        error => Problem::new(409, format!("{error}; see /api/v1/limits")),
    }
}
