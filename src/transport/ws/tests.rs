//! The WebSocket transport against tungstenite's client, and against hand-made bytes where that one
//! would not say what is to be said.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error, Message, WebSocket, client};
use futures_lite::future::{block_on, poll_once};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::WsTransport;
use super::frame::masked;
use super::stream::{FRAME_MAX, WsStream};
use crate::limits::Limits;
use crate::runtime;
use crate::transport::memory::MemoryTransport;
use crate::transport::tests::{Fixture, Peer, checks, pattern, read_exactly};
use crate::transport::{ByteStream, Transport};

/// tungstenite's client, which has received a part of a message.
struct Dialled {
    socket: WebSocket<TcpStream>,
    received: Vec<u8>,
}

impl Dialled {
    /// The payload of the next binary message; `None` is the end.
    fn message(&mut self) -> Option<Vec<u8>> {
        loop {
            let message = match self.socket.read() {
                // Closed, or dropped without a Close frame.
                Err(
                    Error::ConnectionClosed
                    | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                ) => return None,
                read => read.expect("frames"),
            };
            if !message.is_close() {
                assert!(message.is_binary(), "MQTT-6.0.0-1: {message:?}");
                return Some(message.into_data().to_vec());
            }
            // The next read drives the answer out.
        }
    }
}

impl Peer for Dialled {
    fn send(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.socket.send(Message::binary(bytes.to_vec())).expect("the server reads");
        }
    }

    fn receive(&mut self, buf: &mut [u8]) {
        while self.received.len() < buf.len() {
            let message = self.message().expect("the server writes");
            self.received.extend_from_slice(&message);
        }
        let rest = self.received.split_off(buf.len());
        buf.copy_from_slice(&self.received);
        self.received = rest;
    }

    fn receive_all(&mut self) -> Vec<u8> {
        while let Some(message) = self.message() {
            self.received.extend_from_slice(&message);
        }
        std::mem::take(&mut self.received)
    }

    fn end(&mut self) {
        // Where the server was first, there is nothing left to say.
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
        let _ = self.socket.get_ref().shutdown(Shutdown::Write);
    }
}

fn dial(address: SocketAddr, path: &str) -> io::Result<Dialled> {
    let stream = TcpStream::connect(address)?;
    let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    let (socket, _) = client(request, stream).map_err(io::Error::other)?;
    Ok(Dialled { socket, received: Vec::new() })
}

#[derive(Clone)]
struct Ws(SocketAddr);

impl Fixture for Ws {
    type Transport = WsTransport;
    const INLINE: bool = false;
    const HALF_CLOSE: bool = false; // nothing follows a Close frame

    fn bind() -> (WsTransport, Ws) {
        let transport = bind(Some("/mqtt"), &[]);
        let address = transport.local_addr();
        (transport, Ws(address))
    }

    fn dial(&self) -> io::Result<Box<dyn Peer>> {
        Ok(Box::new(dial(self.0, "/mqtt?token=secret")?))
    }

    fn knock(&self) -> Box<dyn Send> {
        Box::new(TcpStream::connect(self.0).expect("the listener is there"))
    }
}

checks!(Ws);

fn bind(path: Option<&str>, origins: &[&str]) -> WsTransport {
    let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    block_on(WsTransport::bind("127.0.0.1", 0, path, origins)).expect("a free port")
}

/// A request as a browser sends it, with lines added.
fn request(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

const OFFER: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

/// Sends `bytes` to `transport`; the peer, and what came of the handshake.
fn shake(transport: &mut WsTransport, bytes: &[u8]) -> (TcpStream, io::Result<ByteStream>) {
    let mut peer = TcpStream::connect(transport.local_addr()).expect("the listener is there");
    peer.write_all(bytes).expect("the server reads");
    let incoming = block_on(transport.accept()).expect("dialled");
    assert_eq!(incoming.peer.address(), Some(peer.local_addr().expect("connected")));
    let handshake = thread::spawn(move || block_on(incoming.handshake));
    let mut first = [0; 12];
    peer.peek(&mut first).expect("a response");
    if !first.starts_with(b"HTTP/1.1 101") {
        peer.end(); // the server waits a while for what else a refused peer sends
    }
    (peer, handshake.join().expect("no panic"))
}

/// The response head up to the empty line.
fn response(peer: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        peer.read_exact(&mut byte).expect("a response");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// Checks that `bytes` are refused with a status, by a whole response, and that the error says so and `why`;
/// returns the head of the response.
fn refused(transport: &mut WsTransport, bytes: &[u8], why: &str) -> String {
    let (mut peer, done) = shake(transport, bytes);
    let head = response(&mut peer);
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", &why[..3])), "{head}");
    let error = done.expect_err("refused");
    assert!(error.to_string().contains(why), "{error}");
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = Vec::new();
    peer.read_to_end(&mut body).expect("an end, not a reset");
    assert_eq!(length, Some(body.len()), "{head}");
    head
}

fn accepted(transport: &mut WsTransport, bytes: &[u8]) -> (TcpStream, ByteStream, String) {
    let (mut peer, done) = shake(transport, bytes);
    let head = response(&mut peer);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (peer, done.expect("accepted"), head.to_ascii_lowercase())
}

#[test]
fn only_the_configured_path_is_served() {
    let mut transport = bind(Some("/mqtt"), &[]);
    assert_eq!(
        transport.local_endpoint(),
        format!("ws://127.0.0.1:{}/mqtt", transport.local_addr().port())
    );
    for path in ["/mqtt", "/mqtt?a=/b&c", "/mqtt?"] {
        accepted(&mut transport, request(path, OFFER).as_bytes());
    }
    for path in ["/", "/mqtt/", "/MQTT", "/mqtt2", "/other?/mqtt", "//mqtt"] {
        refused(&mut transport, request(path, OFFER).as_bytes(), "404");
    }
    let mut transport = bind(None, &[]);
    accepted(&mut transport, request("/", OFFER).as_bytes());
    accepted(&mut transport, request("/?x", OFFER).as_bytes());
    refused(&mut transport, request("/mqtt", OFFER).as_bytes(), "404");
}

#[test]
fn a_path_that_cannot_be_asked_for_is_an_error() {
    for path in ["", "mqtt", "/a?b", "/a#b"] {
        let error = block_on(WsTransport::bind("127.0.0.1", 0, Some(path), Vec::new()))
            .expect_err("no path");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

/// MQTT-6.0.0-3, MQTT-6.0.0-4
#[test]
fn a_subprotocol_is_chosen_from_the_offer() {
    let mut transport = bind(None, &[]);
    for (offer, chosen) in [
        ("mqtt", "mqtt"),
        ("mqttv3.1", "mqttv3.1"),
        ("mqttv3.1, mqtt", "mqtt"),
        ("chat,mqtt ,other", "mqtt"),
        ("chat\r\nSec-WebSocket-Protocol: mqtt", "mqtt"),
        ("\r\nSec-WebSocket-Protocol: mqttv3.1,\r\nSec-WebSocket-Protocol: chat", "mqttv3.1"),
    ] {
        let lines = format!("Sec-WebSocket-Protocol: {offer}\r\n");
        let (_, _, head) = accepted(&mut transport, request("/", &lines).as_bytes());
        assert!(head.contains(&format!("\r\nsec-websocket-protocol: {chosen}\r\n")), "{head}");
    }
    for offer in ["chat", "mqtt5", "MQTT", "\u{e9}", "chat\r\nSec-WebSocket-Protocol: mqttv5"] {
        let lines = format!("Sec-WebSocket-Protocol: {offer}\r\n");
        refused(&mut transport, request("/", &lines).as_bytes(), "400");
    }
    for lines in ["", "Sec-WebSocket-Protocol: \r\n"] {
        let (_, _, head) = accepted(&mut transport, request("/", lines).as_bytes());
        assert!(!head.contains("sec-websocket-protocol"), "MQTT-6.0.0-3 binds the Client: {head}");
    }
}

/// RFC 9110, section 5.3: proxies add lines of their own.
#[test]
fn a_list_over_several_lines_is_one_list() {
    let mut transport = bind(None, &[]);
    for (line, lines) in [
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        ("Connection: keep-alive, Upgrade", "Connection: upgrade\r\nConnection: close"),
        ("Connection: keep-alive, Upgrade", "Connection: ,,\r\nConnection:\tx ,\tUPGRADE ,y"),
        ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: WebSocket"),
        ("Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Version: 13"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13, 8"),
    ] {
        let request = request("/", OFFER);
        assert!(request.contains(line));
        accepted(&mut transport, request.replace(line, lines).as_bytes());
        let without = request.replace(line, "X: x");
        refused(&mut transport, without.as_bytes(), "426");
    }
    // RFC 6455, section 11.3.1: the key is no list.
    let keys = request("/", "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n");
    refused(&mut transport, keys.as_bytes(), "400");
}

#[test]
fn a_refused_peer_that_stays_is_not_waited_for() {
    let mut transport = bind(None, &[]);
    let mut peer = TcpStream::connect(transport.local_addr()).expect("the listener is there");
    peer.write_all(request("/other", OFFER).as_bytes()).expect("the server reads");
    let incoming = block_on(transport.accept()).expect("dialled");
    let handshake = runtime::timeout(Duration::from_secs(1), incoming.handshake);
    let done = block_on(handshake).expect("within the least handshake timeout of a configuration");
    assert!(done.expect_err("refused").to_string().contains("404"));
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("an end, not a reset");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn pages_of_listed_origins_may_connect() {
    let with = |origin: &str| request("/", &format!("{OFFER}Origin: {origin}\r\n"));
    let mut open = bind(None, &[]);
    accepted(&mut open, with("https://any.where").as_bytes());
    let mut listed = bind(None, &["https://Example.com:443", "http://localhost:8080", "app://own"]);
    accepted(&mut listed, request("/", OFFER).as_bytes()); // not a browser
    for origin in
        ["https://example.com", "HTTPS://EXAMPLE.COM", "http://localhost:8080", "app://Own"]
    {
        accepted(&mut listed, with(origin).as_bytes());
    }
    for origin in [
        "http://example.com",
        "https://example.com.evil.org",
        "https://evil-example.com",
        "https://example.com:444",
        "http://localhost",
        "null",
        "",
        "\u{e9}",
        "https://example.com\r\nOrigin: https://evil.org",
    ] {
        refused(&mut listed, with(origin).as_bytes(), "403");
    }
}

#[test]
fn what_is_no_upgrade_is_told_so() {
    let mut transport = bind(None, &[]);
    let plain = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = refused(&mut transport, plain, "426").to_ascii_lowercase();
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    let old = request("/", OFFER).replace("Version: 13", "Version: 8");
    let head = refused(&mut transport, old.as_bytes(), "426").to_ascii_lowercase();
    assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
    let post = request("/", OFFER).replace("GET", "POST");
    refused(&mut transport, post.as_bytes(), "405");
    let keyless = request("/", OFFER).replace("Sec-WebSocket-Key", "X-Key");
    refused(&mut transport, keyless.as_bytes(), "400");
    refused(&mut transport, b"GET\r\n\r\n", "400");
    // A CONNECT without a WebSocket, and TLS: seen at the first byte, and told in the log.
    for bytes in [&b"\x10\x0c\x00\x04MQTT"[..], b"\x16\x03\x01"] {
        refused(&mut transport, bytes, "400 Bad Request: This is not HTTP");
    }
}

#[test]
fn a_long_request_is_refused() {
    let mut transport = bind(None, &[]);
    let cookie = |len| format!("{OFFER}Cookie: {}\r\n", "c".repeat(len));
    accepted(&mut transport, request("/", &cookie(15_000)).as_bytes());
    refused(&mut transport, request("/", &cookie(20_000)).as_bytes(), "431");
    let bare = request("/", &cookie(0)).len();
    for max in [512, 2_048, 16 * 1024] {
        let limits = Limits { ws_request_bytes_max: max, ..Limits::default() };
        let mut transport = bind(None, &[]).with_limits(&limits);
        accepted(&mut transport, request("/", &cookie(max - bare)).as_bytes());
        refused(&mut transport, request("/", &cookie(max - bare + 1)).as_bytes(), "431");
    }
}

#[test]
fn a_request_with_many_headers_is_refused() {
    let lines = |count| format!("{OFFER}{}", "X: y\r\n".repeat(count - 6));
    assert_eq!(Limits::default().ws_request_headers_max, 124, "what tungstenite reads");
    for max in [16, 64, 124] {
        let limits = Limits { ws_request_headers_max: max, ..Limits::default() };
        let mut transport = bind(None, &[]).with_limits(&limits);
        accepted(&mut transport, request("/", &lines(usize::from(max))).as_bytes());
        let more = request("/", &lines(usize::from(max) + 1));
        refused(&mut transport, more.as_bytes(), "431");
    }
}

#[test]
fn a_peer_that_leaves_amid_the_upgrade_is_an_error() {
    let mut transport = bind(None, &[]);
    let peer = TcpStream::connect(transport.local_addr()).expect("the listener is there");
    (&peer).write_all(b"GET / HT").expect("the server reads");
    drop(peer);
    let incoming = block_on(transport.accept()).expect("dialled");
    let error = block_on(incoming.handshake).expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn bytes_behind_the_request_are_kept() {
    let mut transport = bind(None, &[]);
    let mut bytes = request("/", OFFER).into_bytes();
    bytes.extend(masked(0x82, &pattern(5_000)));
    bytes.extend(masked(0x82, b"and more")[..9].iter()); // a part of a frame
    let (mut peer, mut stream, _) = accepted(&mut transport, &bytes);
    assert_eq!(read_exactly(&mut stream, 5_000), pattern(5_000));
    peer.write_all(&masked(0x82, b"and more")[9..]).expect("the server reads");
    assert_eq!(read_exactly(&mut stream, 8), b"and more");
}

/// MQTT-6.0.0-2: several packets in a frame, a packet over several frames and fragments.
#[test]
fn frame_borders_mean_nothing() {
    let mut transport = bind(None, &[]);
    let (mut peer, mut stream, _) = accepted(&mut transport, request("/", OFFER).as_bytes());
    let mut bytes = masked(0x82, b"\xc0\x00\xc0\x00");
    bytes.extend(masked(0x82, b"\xc0"));
    bytes.extend(masked(0x82, b""));
    bytes.extend(masked(0x82, b"\x00"));
    bytes.extend(masked(0x02, b"\x30\x05"));
    bytes.extend(masked(0x89, b"are you there"));
    bytes.extend(masked(0x00, b"\x00\x01"));
    bytes.extend(masked(0x8A, b"unasked"));
    bytes.extend(masked(0x80, b"thi"));
    let expected = b"\xc0\x00\xc0\x00\xc0\x00\x30\x05\x00\x01thi";
    for chunk in bytes.chunks(3) {
        peer.write_all(chunk).expect("the server reads");
    }
    assert_eq!(read_exactly(&mut stream, expected.len()), expected);
    // The Ping is answered by whoever polls next.
    block_on(stream.flush()).expect("the peer is there");
    let mut pong = [0; 15];
    peer.read_exact(&mut pong).expect("a Pong");
    assert_eq!(&pong, b"\x8a\x0dare you there");
}

/// MQTT-6.0.0-1
#[test]
fn a_text_frame_closes_the_connection() {
    let mut transport = bind(None, &[]);
    let (mut peer, mut stream, _) = accepted(&mut transport, request("/", OFFER).as_bytes());
    let mut bytes = masked(0x82, b"good");
    bytes.extend(masked(0x81, b"bad"));
    bytes.extend(masked(0x82, &pattern(10_000)));
    peer.write_all(&bytes).expect("the server reads");
    let mut received = Vec::new();
    let error = block_on(stream.read_to_end(&mut received)).expect_err("a text frame");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().starts_with("MQTT-6.0.0-1"), "{error}");
    assert_eq!(received, b"good");
    assert_eq!(block_on(stream.write(b"x")).expect_err("closed").kind(), ErrorKind::BrokenPipe);
    assert_eq!(peer.receive_all(), b"\x88\x02\x03\xeb"); // 1003, and the end
}

#[test]
fn a_broken_frame_closes_the_connection() {
    let mut transport = bind(None, &[]);
    let (mut peer, mut stream, _) = accepted(&mut transport, request("/", OFFER).as_bytes());
    peer.write_all(b"\x82\x01x").expect("the server reads"); // not masked
    let error = block_on(stream.read(&mut [0; 8])).expect_err("not masked");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(peer.receive_all(), b"\x88\x02\x03\xea"); // 1002, and the end
}

#[test]
fn a_close_frame_is_answered() {
    let mut transport = bind(None, &[]);
    let (mut peer, mut stream, _) = accepted(&mut transport, request("/", OFFER).as_bytes());
    peer.write_all(&masked(0x88, b"\x03\xe9bye")).expect("the server reads");
    assert_eq!(block_on(stream.read(&mut [0; 8])).expect("an end"), 0);
    block_on(stream.close()).expect("the peer reads");
    assert_eq!(peer.receive_all(), b"\x88\x02\x03\xe9"); // the same code, once
}

/// A claimed length takes no memory and holds back no byte.
#[test]
fn a_frame_is_passed_on_as_it_comes() {
    let mut transport = bind(None, &[]);
    let (mut peer, mut stream, _) = accepted(&mut transport, request("/", OFFER).as_bytes());
    peer.write_all(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0now").expect("read");
    assert_eq!(read_exactly(&mut stream, 3), b"now");
}

/// One write is one frame, whatever it is made of, and one frame is bounded.
#[test]
fn a_write_becomes_one_binary_frame() {
    let mut transport = bind(None, &[]);
    let (mut peer, mut stream, _) = accepted(&mut transport, request("/", OFFER).as_bytes());
    let slices = [io::IoSlice::new(b"ab"), io::IoSlice::new(b"cde")];
    assert_eq!(block_on(stream.write_vectored(&slices)).expect("room"), 5);
    let large = pattern(FRAME_MAX + 1);
    let reading = thread::spawn(move || {
        let mut frames = vec![0; 7 + 10 + FRAME_MAX + 3];
        peer.read_exact(&mut frames).expect("three frames");
        frames
    });
    block_on(stream.write_all(&large)).expect("the peer reads");
    block_on(stream.flush()).expect("the peer reads");
    let frames = reading.join().expect("read");
    assert_eq!(frames[..7], *b"\x82\x05abcde");
    assert_eq!(frames[7..17], *b"\x82\x7f\0\0\0\0\0\x02\0\0");
    assert!(frames[17..].starts_with(&large[..FRAME_MAX]));
    assert_eq!(frames[frames.len() - 3..frames.len() - 1], *b"\x82\x01");
}

#[test]
fn tungstenite_sees_a_normal_end() {
    let (mut transport, Ws(address)) = Ws::bind();
    let dialling = thread::spawn(move || dial(address, "/mqtt").expect("accepted"));
    let incoming = block_on(transport.accept()).expect("dialled");
    let mut stream = block_on(incoming.handshake).expect("accepted");
    let mut peer = dialling.join().expect("accepted");
    block_on(stream.close()).expect("the peer is there");
    let message = peer.socket.read().expect("a frame");
    let code = if let Message::Close(Some(close)) = message { Some(close.code) } else { None };
    assert_eq!(code, Some(CloseCode::Normal));
}

/// Five bytes fit on their way to the peer: every frame is sent in parts.
#[test]
fn what_a_slow_peer_leaves_is_sent_later() {
    let (mut transport, connector) = MemoryTransport::new("narrow", 5);
    let mut peer = connector.connect().expect("room");
    let io = block_on(block_on(transport.accept()).expect("dialled").handshake).expect("ready");
    let early = [masked(0x89, b"ping"), masked(0x82, b"data")].concat();
    let mut stream = WsStream::new(io, early);
    let bytes = pattern(300);
    assert_eq!(block_on(stream.write(&bytes)).expect("one frame is accepted"), 300);
    assert!(block_on(poll_once(stream.flush())).is_none(), "the peer has not read");
    let mut received = vec![0; 5];
    peer.receive(&mut received);
    assert!(block_on(poll_once(stream.write(b"x"))).is_none(), "no frame amid another");
    let mut data = [0; 4];
    block_on(stream.read_exact(&mut data)).expect("reading goes on");
    assert_eq!(&data, b"data");
    let reading = thread::spawn(move || peer.receive_all());
    block_on(stream.flush()).expect("the peer reads");
    block_on(stream.write_all(b"more")).expect("the peer reads");
    block_on(stream.close()).expect("the peer reads");
    let mut expected = b"\x82\x7e\x01\x2c".to_vec();
    expected.extend(bytes);
    expected.extend(b"\x8a\x04ping\x82\x04more\x88\x02\x03\xe8");
    received.extend(reading.join().expect("no panic"));
    assert_eq!(received, expected);
}

/// As those of TCP.
#[test]
#[cfg(target_os = "linux")]
fn accepted_sockets_ask_whether_their_peer_is_still_there() {
    let limits =
        crate::limits::Limits { tcp_keep_alive_secs: 9, ..crate::limits::Limits::default() };
    let mut transport = bind(None, &[]).with_limits(&limits);
    let peer = TcpStream::connect(transport.local_addr()).expect("the listener is there");
    let (accepted, _) = block_on(transport.tcp.accept_stream()).expect("dialled");
    assert_eq!(accepted.keep_alive().expect("its options"), Some((9, 15, 4, 180)));
    drop(peer);
}
