//! WebSocket as a client sees it: the upgrade, and frames made and taken apart by hand.
//!
//! Nothing here knows sockets. A broker may skip the unmasking of a key that is zero, so the key
//! is a real one; that it is always the same costs a broker nothing more or less.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// The example of RFC 6455, section 1.3. The answer to a fixed key is fixed as well, so it is
/// checked without SHA-1.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The masking key of every frame.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The same, sixteen bytes at a time.
const MASK_WIDE: u128 = u128::from_ne_bytes([
    MASK[0], MASK[1], MASK[2], MASK[3], MASK[0], MASK[1], MASK[2], MASK[3], MASK[0], MASK[1],
    MASK[2], MASK[3], MASK[0], MASK[1], MASK[2], MASK[3],
]);

/// No answer to an upgrade is longer.
pub(crate) const RESPONSE_MAX: usize = 16 * 1024;
/// What a control frame may carry.
const CONTROL_MAX: u64 = 125;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The HTTP request that asks for MQTT over WebSocket, at the path `/`.
pub(crate) fn request(host: SocketAddr) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
}

/// How long the head of the HTTP response is, once it is all there.
pub(crate) fn response_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Whether this head of an HTTP response grants the upgrade.
///
/// # Errors
///
/// When it does not; the message has the status line.
pub(crate) fn check_response(head: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let refused = |why: &str| Err(io::Error::other(format!("no WebSocket: {why} ({status})")));
    if status.split(' ').nth(1) != Some("101") {
        return refused("the upgrade was refused");
    }
    let value_of = |wanted: &str| {
        lines.clone().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    if value_of("Sec-WebSocket-Accept").as_deref() != Some(ACCEPT) {
        return refused("Sec-WebSocket-Accept is wrong");
    }
    if value_of("Sec-WebSocket-Protocol").as_deref() != Some("mqtt") {
        return refused("the subprotocol is not mqtt");
    }
    Ok(())
}

/// Appends one binary frame with this payload.
pub(crate) fn put_binary(out: &mut Vec<u8>, payload: &[u8]) {
    put_frame(out, BINARY, payload);
}

/// Appends a close frame that says that all is well.
pub(crate) fn put_close(out: &mut Vec<u8>) {
    put_frame(out, CLOSE, &1000_u16.to_be_bytes());
}

fn put_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..=125), _) => out.push(0x80 | len),
        (_, Ok(len)) => {
            out.push(0x80 | 126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..]);
}

fn mask(bytes: &mut [u8]) {
    let (wide, rest) = bytes.as_chunks_mut::<16>();
    for chunk in wide {
        *chunk = (u128::from_ne_bytes(*chunk) ^ MASK_WIDE).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(MASK.iter().cycle()) {
        *byte ^= key;
    }
}

/// Takes a broker's frames apart, wherever the reads cut them.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    header: [u8; 10],
    /// Bytes of the header so far.
    have: usize,
    /// Bytes of the payload that have not come.
    left: u64,
    /// The payload is a ping's, a pong's or a close's.
    control: bool,
    control_payload: Vec<u8>,
    /// A message has begun and its last fragment has not.
    in_message: bool,
    /// Pongs, framed, for the caller to send and clear.
    pub(crate) pongs: Vec<u8>,
}

impl Decoder {
    /// Moves the payload of the binary frames in `bytes` to its start, and returns how long it is.
    ///
    /// # Errors
    ///
    /// When the broker closes, or these are no frames that a broker may send.
    pub(crate) fn unframe(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut plain) = (0, 0);
        while at < bytes.len() {
            if self.left == 0 {
                self.header[self.have] = bytes[at];
                self.have += 1;
                at += 1;
                if self.have == header_len(&self.header[..self.have]) {
                    self.begin_payload()?;
                }
                continue;
            }
            let here = bytes.len() - at;
            let take = usize::try_from(self.left).map_or(here, |left| left.min(here));
            if self.control {
                self.control_payload.extend_from_slice(&bytes[at..at + take]);
            } else {
                bytes.copy_within(at..at + take, plain);
                plain += take;
            }
            at += take;
            self.left -= take as u64;
            if self.left == 0 {
                self.end_payload()?;
            }
        }
        Ok(plain)
    }

    fn begin_payload(&mut self) -> io::Result<()> {
        let (is_last, opcode) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0f);
        let length = payload_len(&self.header);
        self.control = opcode & 0x08 != 0;
        if self.header[0] & 0x70 != 0 {
            return Err(malformed("reserved bits are set"));
        }
        if self.header[1] & 0x80 != 0 {
            return Err(malformed("a broker does not mask"));
        }
        match (opcode, self.in_message) {
            (BINARY, false) | (CONTINUATION, true) => self.in_message = !is_last,
            (CLOSE | PING | PONG, _) if is_last && length <= CONTROL_MAX => {}
            _ => return Err(malformed("this frame may not come here")),
        }
        self.left = length;
        if length == 0 { self.end_payload() } else { Ok(()) }
    }

    fn end_payload(&mut self) -> io::Result<()> {
        let opcode = self.header[0] & 0x0f;
        self.have = 0;
        if !self.control {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.control_payload);
        match opcode {
            PING => put_frame(&mut self.pongs, PONG, &payload),
            CLOSE => {
                let code = payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
                let text = format!("the broker closed the WebSocket, code {code:?}");
                return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
            }
            _ => {}
        }
        Ok(())
    }
}

/// How long the header is, as far as these bytes of it tell.
fn header_len(header: &[u8]) -> usize {
    match header.get(1).map(|byte| byte & 0x7f) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    }
}

fn payload_len(header: &[u8; 10]) -> u64 {
    let [_, short, rest @ ..] = *header;
    match short & 0x7f {
        126 => u64::from(u16::from_be_bytes([rest[0], rest[1]])),
        127 => u64::from_be_bytes(rest),
        len => u64::from(len),
    }
}

/// The length of the frame that begins with these bytes; `Err` says how many bytes it takes to
/// know.
pub(crate) fn frame_len(start: &[u8]) -> Result<u64, usize> {
    let need = header_len(start);
    let Some(given) = start.get(..need) else { return Err(need) };
    let mut header = [0; 10];
    header[..need].copy_from_slice(given);
    Ok(need as u64 + payload_len(&header))
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("WebSocket: {why}"))
}

#[cfg(test)]
mod tests;
