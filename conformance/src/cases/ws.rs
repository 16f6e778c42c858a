//! Section 6: MQTT in WebSocket frames. Where the server is reached otherwise and runs in this process, it gets a
//! listener for them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use url::Url;

use crate::codec::{ALL, Kind, Packet, Publish, Version, decode};
use crate::failure::{Failure, Step, expect, skip};
use crate::target::Server;
use crate::wire::{DEADLINE, Wire, WsWire};

/// Does this with a server that is reached over WebSockets, and with its URL.
fn over_ws(server: &Server, then: impl FnOnce(&Server, &Url) -> Step) -> Step {
    if let Some(url) = server.ws_url() {
        return then(server, url);
    }
    let house = server.house().map_err(|_| skip("needs a WebSocket"))?;
    let beside = server.by(&house.listen("ws beside", "ws://127.0.0.1:0")?);
    match beside.ws_url() {
        Some(url) => then(&beside, url),
        None => Err(Failure::new("an endpoint of ws", "another")),
    }
}

fn dial(url: &Url, offered: &'static str) -> Step<WsWire> {
    WsWire::offering(url, offered)
        .map_err(|e| Failure::new("an upgrade to the subprotocol mqtt", e.to_string()))
}

fn unless_timed_out(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut => format!("nothing within {DEADLINE:?}"),
        _ => error.to_string(),
    }
}

/// Reads until the end of the stream; packets before it are returned.
fn until_the_end(wire: &mut WsWire) -> Step<Vec<Packet>> {
    let (mut bytes, mut seen) = (Vec::new(), Vec::new());
    loop {
        let came = wire
            .receive(DEADLINE)
            .map_err(|e| Failure::new("the end of the stream", unless_timed_out(&e)))?;
        if came.is_empty() {
            return Ok(seen);
        }
        bytes.extend(came);
        while let Some((packet, n)) =
            decode(&bytes, Version::V5).map_err(|e| Failure::new("a packet", e))?
        {
            seen.push(packet);
            bytes.drain(..n);
        }
    }
}

pub(crate) fn text_frames_end_the_connection(server: &Server) -> Step {
    over_ws(server, |server, url| {
        // A CONNECT that would be accepted in a binary frame: all of it is UTF-8.
        let connect = server.helper(Version::V5, "a").bytes();
        let as_text = String::from_utf8_lossy(&connect).into_owned();
        let mut wire = dial(url, "mqtt")?;
        wire.send_text(&as_text).map_err(|e| Failure::new("a frame is taken", e.to_string()))?;
        let seen = until_the_end(&mut wire)?;
        let accepted = seen.iter().any(|p| matches!(p, Packet::Connack { code: 0, .. }));
        expect(!accepted, "no CONNACK", &seen)?;

        let mut wire = dial(url, "mqtt")?;
        wire.send(&connect).map_err(|e| Failure::new("a frame is taken", e.to_string()))?;
        wire.send_text("\u{c0}").map_err(|e| Failure::new("a frame is taken", e.to_string()))?;
        until_the_end(&mut wire).map(drop)
    })
}

pub(crate) fn the_subprotocol_is_mqtt(server: &Server) -> Step {
    // The wire refuses another answer than `mqtt`.
    over_ws(server, |_, url| {
        for offered in ["mqtt", "chat, mqtt"] {
            dial(url, offered)?;
        }
        Ok(())
    })
}

/// RFC 9110, section 5.3: lines of one name are one list. Proxies add a `Connection` of their own.
pub(crate) fn header_lists_may_be_split(server: &Server) -> Step {
    over_ws(server, |_, url| {
        for (connection, offered) in [
            ("Connection: Upgrade", "Sec-WebSocket-Protocol: mqtt"),
            ("Connection: keep-alive\r\nConnection: Upgrade", "Sec-WebSocket-Protocol: mqtt"),
            ("Connection: Upgrade", "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqtt"),
        ] {
            let answer = upgrade(url, &format!("{connection}\r\n{offered}"));
            let answer = answer.map_err(|e| Failure::new("an answer", unless_timed_out(&e)))?;
            let chosen =
                answer.to_ascii_lowercase().contains("\r\nsec-websocket-protocol: mqtt\r\n");
            let upgraded = answer.starts_with("HTTP/1.1 101 ") && chosen;
            expect(upgraded, "101 and the subprotocol mqtt", (connection, offered, answer))?;
        }
        Ok(())
    })
}

/// The head of the answer to a request with these lines.
fn upgrade(url: &Url, lines: &str) -> io::Result<String> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
    let mut socket = TcpStream::connect((host, port.unwrap_or(80)))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n\r\n",
        url.path()
    );
    socket.write_all(request.as_bytes())?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte)? > 0 {
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Half a packet, a packet and a half, an empty frame: all that a stream allows.
pub(crate) fn packets_are_not_aligned_with_frames(server: &Server) -> Step {
    over_ws(server, |server, _| {
        server.spoken(ALL).into_iter().try_for_each(|v| unaligned(server, v))
    })
}

fn unaligned(server: &Server, version: Version) -> Step {
    let dialling = server.client(version, "a");
    let mut client = dialling.open()?;
    let mut bytes = dialling.bytes();
    let topic = client.full("t");
    for id in 1..=2 {
        bytes.extend(Publish::new(&topic, "x").qos(1).id(id).encode(version));
    }
    let third = bytes.len() / 3;
    for part in [&bytes[..third], &[], &bytes[third..2 * third], &bytes[2 * third..]] {
        client.send(part)?;
    }
    client.expect_connack(&[0])?;
    for id in 1..=2 {
        client.expect_ack(Kind::Puback, id)?;
    }
    client.ping()
}
