//! The connections of an admin listener: accepts them, reads requests within their limits, and has them answered.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_lock::{Semaphore, SemaphoreGuardArc};
use futures_lite::future;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming as Received;
use hyper::header::{self, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use log::{debug, warn};

use super::answer::{Answer, AnswerBody, Problem};
use super::desk::Desk;
use super::guard::Refused;
use super::history::LOOK;
use super::input::Query;
use super::route::{Asked, Route};
use super::table::ROUTES;
use super::wire::{HouseTimer, Io};
use crate::counters::count_one;
use crate::runtime;
use crate::transport::{Incoming, Transport};

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// The pause after the transport could not accept.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long an answer that is under way may take when the listener stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// Accepts peers until the listener stops.
pub(super) async fn accept<T: Transport>(desk: Arc<Desk>, mut transport: T) {
    let places = Arc::new(Semaphore::new(desk.limits().admin_connections_max));
    loop {
        let next = async { Some(transport.accept().await) };
        let stopped = async {
            while desk.stopped.recv().await.is_ok() {}
            None
        };
        match future::or(stopped, next).await {
            None => return,
            Some(Ok(incoming)) => match places.try_acquire_arc() {
                Some(place) => desk.spawn(connection(desk.clone(), incoming, place)),
                None => {
                    count_one(&desk.counts().admin_connections_refused);
                    debug!("admin: {} is closed: limits.adminConnectionsMax", incoming.peer);
                }
            },
            Some(Err(error)) => {
                warn!("admin: a peer cannot be accepted: {error}");
                if !desk.pause(BACK_OFF).await {
                    return;
                }
            }
        }
        future::yield_now().await;
    }
}

/// Looks at the broker for the history until the listener stops.
pub(super) async fn watch(desk: Arc<Desk>) {
    for number in 0.. {
        desk.history.look(&desk.broker, number);
        if !desk.pause(LOOK).await {
            return;
        }
    }
}

async fn connection(desk: Arc<Desk>, incoming: Incoming, place: SemaphoreGuardArc) {
    let timeout = desk.limits().admin_timeout;
    let peer = incoming.peer;
    let stream = match runtime::timeout(timeout, incoming.handshake).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return debug!("admin: {peer}: {error}"),
        None => return count_one(&desk.counts().admin_requests_timed_out),
    };
    let service = service_fn(|request| answer(desk.clone(), request));
    let serving = http1::Builder::new()
        .timer(HouseTimer)
        .header_read_timeout(timeout)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(Io::new(stream, timeout), service);
    let mut serving = pin!(serving);
    let stopped = async {
        while desk.stopped.recv().await.is_ok() {}
        None
    };
    let mut served = future::or(async { Some(serving.as_mut().await) }, stopped).await;
    if served.is_none() {
        serving.as_mut().graceful_shutdown();
        served = runtime::timeout(GOODBYE, serving.as_mut()).await;
    }
    if let Some(Err(error)) = served {
        if error.is_parse_too_large() {
            count_one(&desk.counts().admin_requests_too_large);
        } else if error.is_timeout() || is_stalled(&error) {
            count_one(&desk.counts().admin_requests_timed_out);
        }
        debug!("admin: {peer}: {error}");
    }
    drop(place);
}

/// Whether a write ended the connection because the peer took nothing.
fn is_stalled(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let error = source.and_then(|source| source.downcast_ref::<io::Error>());
    error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

async fn answer(
    desk: Arc<Desk>,
    request: Request<Received>,
) -> Result<Response<AnswerBody>, Infallible> {
    let answered = answered(&desk, request).await;
    let closing = matches!(&answered, Err(problem) if closes(problem.status));
    let mut response = answered.unwrap_or_else(Problem::into_answer).into_response();
    if closing {
        // What is left of the body is not read, and a peer without the token keeps no place.
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}

fn closes(status: u16) -> bool {
    matches!(status, 401 | 403 | 408 | 413)
}

async fn answered(desk: &Arc<Desk>, request: Request<Received>) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    let (route, segments) = match find(head.method.as_str(), head.uri.path()) {
        Ok(found) => found,
        Err(problem) => {
            // Nobody without the token learns which routes there are.
            admit(desk, &head.headers, false)?;
            return Err(problem);
        }
    };
    admit(desk, &head.headers, route.open)?;
    let query = Query::read(head.uri.query().unwrap_or_default(), route.parameters)?;
    let formats =
        (text_of(&head.headers, header::ACCEPT), text_of(&head.headers, header::IF_NONE_MATCH));
    let mut asked = Asked::new(desk, segments?, query, formats);
    if route.method == "POST" {
        asked.body = read_body(desk, route, &head.headers, body).await?;
    }
    let timeout = desk.limits().admin_timeout;
    runtime::timeout(timeout, (route.handler)(asked)).await.unwrap_or_else(|| {
        count_one(&desk.counts().admin_requests_timed_out);
        let text =
            "limits.adminTimeoutSecs: the answer takes longer; ask for less, or raise the limit";
        Err(Problem::new(503, text))
    })
}

type Found = (&'static Route, Result<Vec<String>, Problem>);

/// The route of a method and a path, and the segments of the path that are names.
fn find(method: &str, path: &str) -> Result<Found, Problem> {
    let wanted = if method == "HEAD" { "GET" } else { method };
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(segments) = route.segments(path) else { continue };
        if route.method == wanted {
            return Ok((route, segments));
        }
        allowed.push(route.method);
    }
    if allowed.is_empty() {
        let text = "there is nothing at this path; /api/v1/openapi.json describes what there is";
        return Err(Problem::not_found(text));
    }
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    let allowed = allowed.join(", ");
    let text = format!("{method} has no meaning here; use {allowed}");
    Err(Problem::new(405, text).with_header(header::ALLOW, &allowed))
}

fn admit(desk: &Desk, headers: &HeaderMap, open: bool) -> Result<(), Problem> {
    match desk.guard.admits(headers, open) {
        Ok(()) => Ok(()),
        Err(Refused::Unauthorized) => {
            count_one(&desk.counts().admin_requests_unauthorized);
            let text = "the token is missing or wrong; send the header Authorization: Bearer TOKEN, with the first line \
                        of admin.tokenFile";
            Err(Problem::new(401, text).with_header(header::WWW_AUTHENTICATE, "Bearer"))
        }
        Err(Refused::Foreign(text)) => {
            count_one(&desk.counts().admin_requests_foreign);
            Err(Problem::new(403, text))
        }
    }
}

/// The body of a POST. Pages of other origins can send any body, but not as JSON.
async fn read_body(
    desk: &Desk,
    route: &Route,
    headers: &HeaderMap,
    body: Received,
) -> Result<bytes::Bytes, Problem> {
    let media = text_of(headers, header::CONTENT_TYPE);
    let is_json =
        media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json");
    if !is_json && (route.body.is_some() || !media.is_empty()) {
        let text =
            format!("Content-Type is {media:?}; send the header Content-Type: application/json");
        return Err(Problem::new(415, text));
    }
    let (max, timeout) = (desk.limits().admin_request_bytes_max, desk.limits().admin_timeout);
    let collected = runtime::timeout(timeout, Limited::new(body, max).collect()).await;
    match collected {
        Some(Ok(collected)) => Ok(collected.to_bytes()),
        Some(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            count_one(&desk.counts().admin_requests_too_large);
            let text = format!(
                "limits.adminRequestBytesMax: the body is larger than {max} bytes; send less, or raise the limit"
            );
            Err(Problem::new(413, text))
        }
        Some(Err(error)) => {
            Err(Problem::bad_request(format!("the body cannot be read: {error}; send it again")))
        }
        None => {
            count_one(&desk.counts().admin_requests_timed_out);
            let text = "limits.adminTimeoutSecs: the body did not arrive in time; send it again";
            Err(Problem::new(408, text))
        }
    }
}

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
