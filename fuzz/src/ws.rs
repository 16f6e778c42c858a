//! WebSockets: frames against a plain reader of RFC 6455, and the upgrade over a stream in memory.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use futures_io::{AsyncRead, AsyncWrite};

use super::frame::{Decoder, Ending, Header, push_close, push_pong};
use super::stream::WsStream;
use super::upgrade::{Rules, upgrade as serve};
use crate::targets::input::{Input, pieces};

/// What is said in a Close frame, or why nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed(Option<u16>),
    Violation(u16),
}

/// What a Client's bytes say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    payload: Vec<u8>,
    /// Of the newest Ping.
    ping: Option<Vec<u8>>,
    end: Option<End>,
}

pub(crate) fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let sizes = input.take(4);
    let bytes = input.rest();
    let expected = said(bytes);
    assert_eq!(decoded([bytes].into_iter()), expected);
    assert_eq!(decoded(pieces(bytes, sizes)), expected, "cut at {sizes:?}");
    answers(&expected);
}

fn decoded<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Said {
    let mut decoder = Decoder::new();
    let mut said = Said::default();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let before = decoder.ending();
        let kept = decoder.decode(&mut piece);
        assert!(kept <= piece.len() && (before.is_none() || kept == 0));
        said.payload.extend_from_slice(&piece[..kept]);
    }
    said.ping = decoder.take_ping();
    said.end = decoder.ending().map(|ending| match ending {
        Ending::Closed(code) => End::Closed(code),
        Ending::Violation(code, _) => End::Violation(code.into()),
    });
    said
}

/// The Server's own frames: not masked, of the shortest length.
fn answers(said: &Said) {
    let ping = said.ping.as_deref().unwrap_or_default();
    let mut pong = Vec::new();
    push_pong(&mut pong, ping);
    assert_eq!((pong[0], usize::from(pong[1]), &pong[2..]), (0x8A, ping.len(), ping));
    let mut close = Vec::new();
    push_close(&mut close, Some(1000));
    assert_eq!(close, b"\x88\x02\x03\xE8");
    let header = Header::binary(said.payload.len());
    let header = header.as_slice();
    let (size, rest) = (header[1], &header[2..]);
    let length = rest.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (length, size_expected) = match size {
        126 => (length, 126),
        size => (usize::from(size), said.payload.len()),
    };
    assert_eq!((header[0], length), (0x82, said.payload.len()));
    assert!(size_expected == usize::from(size) && (size < 126) == rest.is_empty());
}

/// RFC 6455, section 5, one frame after the other, and MQTT-6.0.0-1.
fn said(bytes: &[u8]) -> Said {
    let mut said = Said::default();
    let mut open = false;
    let mut rest = bytes;
    while said.end.is_none() {
        let Some((Head { first, length, mask }, after)) = header(rest) else { return said };
        rest = after;
        let (last, opcode) = (first & 0x80 != 0, first & 0x0F);
        let wrong = match opcode {
            0x3..=0x7 | 0xB..=0xF => true,
            _ if first & 0x70 != 0 || mask.is_none() => true,
            0x8..=0xA => !last || length > 125,
            0x1 => false,
            _ => length >= 1 << 63 || open != (opcode == 0),
        };
        if wrong || opcode == 1 {
            said.end = Some(End::Violation(if wrong { 1002 } else { 1003 }));
            return said;
        }
        let there = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        let whole = there as u64 == length;
        let (payload, after) = rest.split_at(there);
        rest = after;
        let mask = mask.unwrap_or_default();
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        match opcode {
            0 | 2 => {
                said.payload.extend(payload);
                open = !last;
            }
            _ if !whole => {}
            8 => said.end = Some(close(&payload.collect::<Vec<_>>())),
            9 => said.ping = Some(payload.collect()),
            _ => {}
        }
        if !whole {
            return said;
        }
    }
    said
}

/// The header of a frame.
struct Head {
    first: u8,
    length: u64,
    mask: Option<[u8; 4]>,
}

/// The header at the start of these bytes and what follows it, if it is all there.
fn header(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match second & 0x7F {
        126 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*length), rest)
        }
        short => (u64::from(short), rest),
    };
    if second & 0x80 == 0 {
        return Some((Head { first, length, mask: None }, rest));
    }
    let (mask, rest) = rest.split_first_chunk::<4>()?;
    Some((Head { first, length, mask: Some(*mask) }, rest))
}

fn close(payload: &[u8]) -> End {
    match payload {
        [] => End::Closed(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let allowed = matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999);
            if allowed && std::str::from_utf8(reason).is_ok() {
                End::Closed(Some(code))
            } else {
                End::Violation(CloseCode::Protocol.into())
            }
        }
        [_] => End::Violation(1002),
    }
}

/// Whether a WebSocket listener with these can be made.
pub(crate) fn can_serve(path: &str, origins: &[String]) -> bool {
    Rules::new(Some(path), origins).is_ok()
}

/// A peer that has sent all that it will send, and takes everything.
#[derive(Debug, Default)]
struct Peer {
    sends: Vec<u8>,
    sent: usize,
    sizes: Vec<u8>,
    reads: usize,
    received: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Socket(Rc<RefCell<Peer>>);

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let peer = &mut *self.0.borrow_mut();
        let size = peer.sizes.get(peer.reads % peer.sizes.len().max(1)).copied().unwrap_or(255);
        peer.reads += 1;
        let left = &peer.sends[peer.sent..];
        let n = usize::from(size).max(1).min(left.len()).min(buf.len());
        buf[..n].copy_from_slice(&left[..n]);
        peer.sent += n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().received.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).collect();
        self.poll_write(cx, &all)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const PATHS: [&str; 3] = ["/", "/mqtt", "/a/b"];
const ORIGIN: &str = "https://example.org";

pub(crate) fn upgrade(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let path = PATHS[usize::from(choice & 3) % PATHS.len()];
    let origins = if choice & 4 == 0 { Vec::new() } else { vec![ORIGIN.to_owned()] };
    let rules = Rules::new(Some(path), &origins).expect("rules");
    let sizes = input.take(4).to_vec();
    let valid = (choice & 8 != 0).then(|| request(&mut input, path));
    // Longer than any request may be.
    let long = if choice & 48 == 48 { vec![b'G'; 20 * 1024] } else { Vec::new() };
    let sends = [valid.clone().unwrap_or_default(), long, input.rest().to_vec()].concat();
    let end = sends.windows(4).position(|window| window == b"\r\n\r\n");
    let behind = end.map(|at| sends[at + 4..].to_vec()).unwrap_or_default();
    let socket = Socket(Rc::new(RefCell::new(Peer { sends, sizes, ..Peer::default() })));
    let mut cx = Context::from_waker(Waker::noop());
    let served = pin!(serve(socket.clone(), &rules, None)).poll(&mut cx);
    let Poll::Ready(served) = served else {
        return assert!(served.is_ready(), "nobody has to be waited for");
    };
    let received = std::mem::take(&mut socket.0.borrow_mut().received);
    assert!(socket.0.borrow().sent <= (16 + 1 + 64) * 1024, "what is read of a request");
    match served {
        Ok((stream, _)) => {
            check_accepted(&received, valid.as_deref());
            check_stream(stream, &said(&behind), &mut cx);
        }
        Err(error) => {
            assert_eq!(valid, None, "a valid request: {error}");
            check_refused(&received);
        }
    }
}

fn head_of(response: &[u8]) -> (&str, &[u8]) {
    let at = response.windows(4).position(|window| window == b"\r\n\r\n").expect("a response");
    (std::str::from_utf8(&response[..at]).expect("text"), &response[at + 4..])
}

fn header_of<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn check_accepted(received: &[u8], valid: Option<&[u8]>) {
    let (head, body) = head_of(received);
    assert!(head.starts_with("HTTP/1.1 101 ") && body.is_empty(), "{head}");
    let accept = header_of(head, "sec-websocket-accept").expect("MQTT over WebSocket");
    let chosen = header_of(head, "sec-websocket-protocol");
    assert!(chosen.is_none_or(|chosen| matches!(chosen, "mqtt" | "mqttv3.1")), "MQTT-6.0.0-4");
    if let Some(valid) = valid {
        let (head, _) = head_of(valid);
        let key = header_of(head, "sec-websocket-key").unwrap_or_default();
        assert_eq!(accept, derive_accept_key(key.as_bytes()));
        let offered = header_of(head, "sec-websocket-protocol").is_some();
        assert_eq!(chosen.is_some(), offered, "{head}");
    }
}

/// Nothing where the peer left in the middle of its request; else a whole response.
fn check_refused(received: &[u8]) {
    if received.is_empty() {
        return;
    }
    let (head, body) = head_of(received);
    let status = head.split(' ').nth(1).unwrap_or_default();
    assert!(matches!(status, "400" | "403" | "404" | "405" | "426" | "431"), "{head}");
    assert_eq!(header_of(head, "content-length"), Some(body.len().to_string().as_str()), "{head}");
}

/// What follows the request comes out of the stream as MQTT bytes.
fn check_stream(mut stream: WsStream<Socket>, expected: &Said, cx: &mut Context<'_>) {
    let mut payload = Vec::new();
    let mut buf = [0; 700];
    let mut waits = 0;
    loop {
        match Pin::new(&mut stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(0)) => break,
            Poll::Ready(Ok(n)) => payload.extend_from_slice(&buf[..n]),
            Poll::Ready(Err(_)) => {
                assert!(matches!(expected.end, Some(End::Violation(_))), "{expected:?}");
                break;
            }
            // It gives others their turn.
            Poll::Pending => waits += 1,
        }
        assert!(waits < 100_000, "it never ends");
    }
    assert_eq!(payload, expected.payload, "MQTT-6.0.0-2");
}

/// A request that has all that an upgrade needs, in one of the many ways to write it.
fn request(input: &mut Input<'_>, path: &str) -> Vec<u8> {
    let query = if input.flag() { "?token=1" } else { "" };
    let mut lines = vec![
        "Host: example.org:1883".to_owned(),
        format!("{}: {}", case(input, "Upgrade"), case(input, "websocket")),
        format!(
            "{}: {}",
            case(input, "Sec-WebSocket-Version"),
            input.choose(&["13", " 13", "13 "])
        ),
        format!("{}: dGhlIHNhbXBsZSBub25jZQ==", case(input, "Sec-WebSocket-Key")),
        format!("{}: {ORIGIN}", case(input, "Origin")),
    ];
    let upgrade = case(input, "Upgrade");
    let connections: [&[&str]; 4] =
        [&["%"], &["keep-alive, %"], &["keep-alive", "%"], &["%", "close,x"]];
    for connection in input.choose(&connections) {
        lines.push(format!("Connection: {}", connection.replace('%', &upgrade)));
    }
    let offers: [&[&str]; 5] = [&[], &["mqtt"], &["mqttv3.1"], &["chat, mqtt"], &["chat", "mqtt"]];
    for offer in input.choose(&offers) {
        lines.push(format!("{}: {offer}", case(input, "Sec-WebSocket-Protocol")));
    }
    for _ in 0..input.below(8) {
        let count = input.below(64);
        let value = input.take(count).iter().map(|byte| char::from(byte % 94 + 33));
        lines.push(format!("X-Other: {}", value.collect::<String>()));
    }
    let first = input.below(lines.len());
    lines.rotate_left(first);
    format!("GET {path}{query} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

fn case(input: &mut Input<'_>, name: &str) -> String {
    match input.below(3) {
        0 => name.to_owned(),
        1 => name.to_ascii_lowercase(),
        _ => name.to_ascii_uppercase(),
    }
}
