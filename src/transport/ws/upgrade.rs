//! From an HTTP request to a WebSocket (RFC 6455, section 4), or to a response that says why not.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_tungstenite::accept_hdr_async_with_config;
use async_tungstenite::tungstenite::Error;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::handshake::server::{
    Callback, ErrorResponse, Request, Response, write_response,
};
use async_tungstenite::tungstenite::http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use async_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_io::{AsyncRead, AsyncWrite};
use url::Url;

use super::stream::WsStream;
use crate::runtime;

/// The longest request, from its first byte to the empty line.
const REQUEST_MAX: usize = 16 * 1024;

/// After a refusal, how much more of the peer's bytes is read, and for how long: closing a socket with
/// unread bytes resets it, and the peer might lose the response.
const DISCARD_MAX: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// What is served, and to whom.
#[derive(Debug)]
pub(super) struct Rules {
    path: String,
    /// In the form of [`canonical`]; empty admits all.
    origins: Vec<String>,
}

impl Rules {
    pub(super) fn new(path: Option<&str>, origins: &[String]) -> io::Result<Rules> {
        let path = path.unwrap_or("/");
        if !path.starts_with('/') || path.contains(['?', '#']) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no path that can be asked for"));
        }
        let origins = origins.iter().map(|origin| canonical(origin)).collect();
        Ok(Rules { path: path.to_owned(), origins })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
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

/// The subprotocol to agree on: one that the Client offers (MQTT-6.0.0-3), `mqtt` if it can be chosen.
fn subprotocol(request: &Request) -> Option<&'static str> {
    let offered = |name: &str| {
        request
            .headers()
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|offer| offer.trim() == name)
    };
    ["mqtt", "mqttv3.1"].into_iter().find(|name| offered(name))
}

impl Callback for &Rules {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        if request.uri().path() != self.path {
            return Err(refusal(StatusCode::NOT_FOUND, "Nothing is served on this path.\n"));
        }
        if !self.admits(request) {
            return Err(refusal(StatusCode::FORBIDDEN, "Pages of this origin may not connect.\n"));
        }
        let Some(chosen) = subprotocol(request) else {
            let text = "Offer the subprotocol mqtt or mqttv3.1.\n";
            return Err(refusal(StatusCode::BAD_REQUEST, text));
        };
        // MQTT-6.0.0-4
        let value = HeaderValue::from_static(chosen);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
        Ok(response)
    }
}

/// Does the upgrade on `io`. Bytes that the peer sent behind its request, without waiting for the
/// response, are kept for the stream.
///
/// # Errors
/// The peer is gone, or was refused, which it has been told.
pub(super) async fn upgrade<S>(mut io: S, rules: &Rules) -> io::Result<WsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (request, early) = match read_request(&mut io).await {
        Ok(read) => read,
        Err(Unread::Io(error)) => return Err(error),
        Err(Unread::Refused(status, text)) => return refuse(&mut io, refusal(status, text)).await,
    };
    let config = WebSocketConfig::default().read_buffer_size(0).write_buffer_size(0);
    let mut replay = Replay { request: &request, io: &mut io };
    match accept_hdr_async_with_config(&mut replay, rules, Some(config)).await {
        Ok(_) => Ok(WsStream::new(io, early)),
        Err(Error::Http(answered)) => end(&mut io, answered.status()).await,
        Err(Error::Io(error)) => Err(error),
        Err(error) => refuse(&mut io, fault(&error)).await,
    }
}

/// Why there is no request to look at.
enum Unread {
    Io(io::Error),
    Refused(StatusCode, &'static str),
}

/// Reads up to the empty line that ends a request; what was read beyond it is returned apart.
async fn read_request<S: AsyncRead + Unpin>(io: &mut S) -> Result<(Vec<u8>, Vec<u8>), Unread> {
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
        if let Some(at) = found {
            let rest = request.split_off(looked_at + at + END.len());
            return Ok((request, rest));
        }
        if !request[0].is_ascii_uppercase() {
            // Most likely MQTT without a WebSocket: said now, not when the time is up.
            return Err(Unread::Refused(StatusCode::BAD_REQUEST, "This is not HTTP.\n"));
        }
        if request.len() > REQUEST_MAX {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(Unread::Refused(status, "The request is too long.\n"));
        }
    }
}

/// A response that refuses, in full: the peer need not wait for the end of the connection.
fn refusal(status: StatusCode, text: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    response
}

/// The response to a request that is no upgrade.
fn fault(error: &Error) -> ErrorResponse {
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

/// Sends a refusal and ends the connection.
async fn refuse<S, T>(io: &mut S, response: ErrorResponse) -> io::Result<T>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(io::Error::other)?;
    bytes.extend_from_slice(response.body().as_deref().unwrap_or_default().as_bytes());
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, rest)).await? {
            0 => return Err(ErrorKind::WriteZero.into()),
            n => rest = &rest[n..],
        }
    }
    end(io, response.status()).await
}

/// Ends the connection of a peer that was refused with `status`.
async fn end<S, T>(io: &mut S, status: StatusCode) -> io::Result<T>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| Pin::new(&mut *io).poll_close(cx)).await?;
    runtime::timeout(DISCARD_TIME, async {
        let mut scrap = [0; 1024];
        for _ in 0..DISCARD_MAX / scrap.len() {
            if !matches!(read(io, &mut scrap).await, Ok(1..)) {
                return;
            }
        }
    })
    .await;
    let what = format!("the WebSocket upgrade was refused: {status}");
    Err(io::Error::new(ErrorKind::InvalidData, what))
}

async fn read<S: AsyncRead + Unpin>(io: &mut S, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buf)).await
}

/// Reads a request that was read already, and writes to where it came from. tungstenite refuses a peer
/// that sends more than the request before it has the response, so it sees no more than that.
struct Replay<'a, S> {
    request: &'a [u8],
    io: &'a mut S,
}

impl<S: Unpin> AsyncRead for Replay<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(io::Read::read(&mut self.request, buf))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_close(cx)
    }
}
