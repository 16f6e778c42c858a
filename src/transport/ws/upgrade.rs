//! From an HTTP request to a WebSocket (RFC 6455, section 4), or to a response with the reason of the refusal.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use async_tungstenite::tungstenite::Error;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::handshake::machine::TryParse;
use async_tungstenite::tungstenite::handshake::server::{
    ErrorResponse, Request, create_response, write_response,
};
use async_tungstenite::tungstenite::http::header::{
    ALLOW, AsHeaderName, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, HeaderName, ORIGIN,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use async_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use futures_io::{AsyncRead, AsyncWrite};
use url::Url;

use super::forwarded;
use super::stream::WsStream;
use crate::limits::Limits;
use crate::network::Network;
use crate::runtime;

/// After a refusal, how much more of the peer's bytes is read: closing a socket with unread bytes resets it,
/// and the peer might lose the response.
const DISCARD_MAX: usize = 64 * 1024;

/// How long a refused peer may take for the response and for its end of the stream. Much less than any
/// handshake timeout, so that the peer is counted as refused, not as one that took too long.
const FAREWELL_TIME: Duration = Duration::from_millis(250);

/// The header in which most proxies name the Client.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The path that is served, the origins that may connect, and the proxies that may name a Client's address.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    path: String,
    /// In the form of [`canonical`]; empty admits all.
    origins: Vec<String>,
    /// The longest request, from its first byte to the empty line.
    request_bytes_max: usize,
    request_headers_max: usize,
    /// The networks of the proxies whose headers name the Client's address.
    proxies: Vec<Network>,
}

impl Rules {
    pub(super) fn new(path: Option<&str>, origins: &[String]) -> io::Result<Rules> {
        let path = path.unwrap_or("/");
        if !path.starts_with('/') || path.contains(['?', '#']) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no path that can be asked for"));
        }
        let origins = origins.iter().map(|origin| canonical(origin)).collect();
        let (request_bytes_max, request_headers_max) = (0, 0);
        let (path, proxies) = (path.to_owned(), Vec::new());
        let mut rules = Rules { path, origins, request_bytes_max, request_headers_max, proxies };
        rules.set_limits(&Limits::default());
        Ok(rules)
    }

    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.request_bytes_max = limits.ws_request_bytes_max;
        self.request_headers_max = limits.ws_request_headers_max.into();
    }

    pub(super) fn set_proxies(&mut self, proxies: Vec<Network>) {
        self.proxies = proxies;
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The address of the Client, if the request comes from a proxy.
    ///
    /// # Errors
    /// The proxy does not name it clearly.
    fn origin_of(
        &self,
        request: &Request,
        from: Option<IpAddr>,
    ) -> Result<Option<SocketAddr>, Refusal> {
        let proxied = from.is_some_and(|address| Network::any_contains(&self.proxies, address));
        if !proxied {
            return Ok(None);
        }
        let (standard, usual) = (lines(request, FORWARDED), lines(request, X_FORWARDED_FOR));
        let origin = forwarded::origin(standard, usual, &self.proxies);
        origin.map(Some).map_err(|unclear| refusal(StatusCode::BAD_REQUEST, unclear))
    }

    /// Whether the page that the request comes from may connect. No `Origin`: not a browser.
    fn admits(&self, request: &Request) -> bool {
        self.origins.is_empty()
            || request.headers().get_all(ORIGIN).iter().all(|origin| {
                origin.to_str().is_ok_and(|origin| self.origins.contains(&canonical(origin)))
            })
    }
}

/// An origin such that equal ones are equal as text.
fn canonical(origin: &str) -> String {
    match Url::parse(origin).map(|url| url.origin()) {
        Ok(origin) if origin.is_tuple() => origin.ascii_serialization(),
        _ => origin.to_ascii_lowercase(), // `null`, or an application's own scheme
    }
}

/// A response that refuses.
type Refusal = Box<ErrorResponse>;

fn lines(request: &Request, name: impl AsHeaderName) -> impl Iterator<Item = &[u8]> {
    request.headers().get_all(name).into_iter().map(HeaderValue::as_bytes)
}

/// The elements of a header that is a list. Lines of one name are one list (RFC 9110, section 5.3), which is
/// how proxies send `Connection`.
fn elements<'a>(request: &'a Request, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    lines(request, name)
        .flat_map(|line| line.split(|byte| matches!(byte, b',' | b' ' | b'\t')))
        .filter(|element| !element.is_empty())
}

/// Gives the headers that an upgrade needs the one form in which tungstenite finds them.
fn normalize(request: &mut Request) {
    for (name, needed) in
        [(CONNECTION, "Upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_VERSION, "13")]
    {
        let found = |element: &[u8]| element.eq_ignore_ascii_case(needed.as_bytes());
        if elements(request, &name).any(found) {
            request.headers_mut().insert(name, HeaderValue::from_static(needed));
        }
    }
}

/// The subprotocol to agree on: one that the Client offers, `mqtt` if it can be chosen. MQTT-6.0.0-3 binds the
/// Client, and many offer none: they are served, and get none in the response.
///
/// # Errors
/// Other subprotocols alone are offered.
fn subprotocol(request: &Request) -> Result<Option<&'static str>, Refusal> {
    let offers = || elements(request, &SEC_WEBSOCKET_PROTOCOL);
    let chosen = ["mqtt", "mqttv3.1"]
        .into_iter()
        .find(|name| offers().any(|offer| offer == name.as_bytes()));
    if chosen.is_none() && offers().next().is_some() {
        let text = "Offer the subprotocol mqtt or mqttv3.1, or none.\n";
        return Err(refusal(StatusCode::BAD_REQUEST, text));
    }
    Ok(chosen)
}

/// The response to a whole request that comes from this address, and the Client's address if a proxy names it.
///
/// # Errors
/// The response that refuses.
fn respond(
    request: &[u8],
    rules: &Rules,
    from: Option<IpAddr>,
) -> Result<(Vec<u8>, Option<SocketAddr>), Refusal> {
    // The first line and the empty one are no headers.
    let lines = request.iter().filter(|byte| **byte == b'\n').count();
    if lines.saturating_sub(2) > rules.request_headers_max {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(refusal(status, "The request has too many headers.\n"));
    }
    let parsed = Request::try_parse(request).map_err(|error| fault(&error))?;
    let Some((_, mut request)) = parsed else {
        return Err(refusal(StatusCode::BAD_REQUEST, "This is no WebSocket upgrade.\n"));
    };
    normalize(&mut request);
    let mut response = create_response(&request).map_err(|error| fault(&error))?;
    if request.headers().get_all(SEC_WEBSOCKET_KEY).iter().nth(1).is_some() {
        return Err(refusal(StatusCode::BAD_REQUEST, "There are two keys.\n"));
    }
    if request.uri().path() != rules.path {
        return Err(refusal(StatusCode::NOT_FOUND, "Nothing is served on this path.\n"));
    }
    if !rules.admits(&request) {
        return Err(refusal(StatusCode::FORBIDDEN, "Pages of this origin may not connect.\n"));
    }
    let origin = rules.origin_of(&request, from)?;
    if let Some(chosen) = subprotocol(&request)? {
        // MQTT-6.0.0-4
        let value = HeaderValue::from_static(chosen);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(|error| fault(&error))?;
    Ok((bytes, origin))
}

/// Carries out the upgrade on `io`. Bytes that the peer sent behind its request, without waiting for the
/// response, are kept for the stream.
///
/// Also returns the Client's address, if `from`, the address that the request comes from, is that of a proxy.
///
/// # Errors
/// The peer has disconnected, or was refused by a response.
pub(super) async fn upgrade<S>(
    mut io: S,
    rules: &Rules,
    from: Option<IpAddr>,
) -> io::Result<(WsStream<S>, Option<SocketAddr>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = match read_request(&mut io, rules.request_bytes_max).await {
        Ok((request, early)) => respond(&request, rules, from).map(|response| (response, early)),
        Err(Unread::Io(error)) => return Err(error),
        Err(Unread::Refused(status, text)) => Err(refusal(status, text)),
    };
    match answer {
        Ok(((response, origin), early)) => {
            write(&mut io, &response).await?;
            Ok((WsStream::new(io, early), origin))
        }
        Err(response) => refuse(&mut io, response).await,
    }
}

/// Why no request was read.
enum Unread {
    Io(io::Error),
    Refused(StatusCode, &'static str),
}

/// Reads up to the empty line that ends a request; what was read beyond it is returned apart.
async fn read_request<S: AsyncRead + Unpin>(
    io: &mut S,
    bytes_max: usize,
) -> Result<(Vec<u8>, Vec<u8>), Unread> {
    const END: &[u8] = b"\r\n\r\n";
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let n = read(io, &mut chunk).await.map_err(Unread::Io)?;
        if n == 0 {
            return Err(Unread::Io(ErrorKind::UnexpectedEof.into()));
        }
        let looked_at = request.len().saturating_sub(END.len() - 1);
        request.extend_from_slice(&chunk[..n]);
        let found = request[looked_at..].windows(END.len()).position(|window| window == END);
        let end = found.map(|at| looked_at + at + END.len());
        if let Some(end) = end.filter(|end| *end <= bytes_max) {
            let rest = request.split_off(end);
            return Ok((request, rest));
        }
        if !request[0].is_ascii_uppercase() {
            // Most likely MQTT without a WebSocket: refused now, not at the timeout.
            return Err(Unread::Refused(
                StatusCode::BAD_REQUEST,
                "This is not HTTP: the listener speaks MQTT over WebSocket.\n",
            ));
        }
        if end.is_some() || request.len() >= bytes_max {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(Unread::Refused(status, "The request is too long.\n"));
        }
    }
}

/// A response that refuses, in full: the peer need not wait for the end of the connection.
fn refusal(status: StatusCode, text: &str) -> Refusal {
    let mut response = Box::new(ErrorResponse::new(Some(text.to_owned())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    response
}

/// The response to a request that is no upgrade.
fn fault(error: &Error) -> Refusal {
    use ProtocolError as P;
    match error {
        Error::Protocol(P::WrongHttpMethod) => {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Only GET is served.\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            response
        }
        Error::Protocol(
            P::MissingConnectionUpgradeHeader
            | P::MissingUpgradeWebSocketHeader
            | P::MissingSecWebSocketVersionHeader,
        ) => {
            let text = "MQTT over WebSocket, version 13, is served here.\n";
            let mut response = refusal(StatusCode::UPGRADE_REQUIRED, text);
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            response
        }
        _ => refusal(StatusCode::BAD_REQUEST, "This is no WebSocket upgrade.\n"),
    }
}

/// Sends a refusal and ends the connection. What the peer still sends is read for a while.
async fn refuse<S, T>(io: &mut S, response: Refusal) -> io::Result<T>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let text = response.body().as_deref().unwrap_or_default();
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(io::Error::other)?;
    bytes.extend_from_slice(text.as_bytes());
    runtime::timeout(FAREWELL_TIME, async {
        write(io, &bytes).await?;
        poll_fn(|cx| Pin::new(&mut *io).poll_close(cx)).await?;
        let mut scrap = [0; 1024];
        for _ in 0..DISCARD_MAX / scrap.len() {
            if read(io, &mut scrap).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    })
    .await;
    let what =
        format!("the WebSocket upgrade was refused: {}: {}", response.status(), text.trim_end());
    Err(io::Error::new(ErrorKind::InvalidData, what))
}

async fn read<S: AsyncRead + Unpin>(io: &mut S, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buf)).await
}

async fn write<S: AsyncWrite + Unpin>(io: &mut S, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, bytes)).await? {
            0 => return Err(ErrorKind::WriteZero.into()),
            n => bytes = &bytes[n..],
        }
    }
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await
}
