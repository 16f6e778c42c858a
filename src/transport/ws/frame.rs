//! Frames (RFC 6455, section 5): the payload out of a Client's, and the Server's own. No I/O.

use std::io::Cursor;

use async_tungstenite::tungstenite::protocol::frame::FrameHeader;
use async_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The longest header: two bytes, a length of eight, a mask of four.
const HEADER_MAX: usize = 14;

/// The longest payload of a control frame.
const CONTROL_MAX: u64 = 125;

/// Why nothing more comes from the Client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It sent a Close frame, with this status code.
    Closed(Option<u16>),
    /// It broke a rule, and is told by this status code.
    Violation(CloseCode, &'static str),
}

/// Takes the payload of binary messages out of a Client's bytes. Borders of frames and messages leave no
/// trace (MQTT-6.0.0-2).
#[derive(Debug)]
pub(super) struct Decoder {
    /// The header being read.
    header: [u8; HEADER_MAX],
    header_len: usize,
    part: Part,
    /// The mask, turned so that its first byte is for the next byte of payload.
    mask: [u8; 4],
    /// Bytes of payload still to come in this frame.
    left: u64,
    /// A message has begun whose last frame is still to come.
    fragmented: bool,
    /// What came of a control frame's payload; at most [`CONTROL_MAX`] bytes.
    control: Vec<u8>,
    /// The payload of the newest Ping that was not answered: older ones need no answer.
    ping: Option<Vec<u8>>,
    ending: Option<Ending>,
}

/// The part of a frame that the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum Part {
    Header,
    Data,
    Control(Control),
}

impl Decoder {
    pub(super) fn new() -> Decoder {
        Decoder {
            header: [0; HEADER_MAX],
            header_len: 0,
            part: Part::Header,
            mask: [0; 4],
            left: 0,
            fragmented: false,
            control: Vec::new(),
            ping: None,
            ending: None,
        }
    }

    /// Consumes `bytes` and leaves the MQTT bytes among them at their front; returns how many. What
    /// follows an [`Ending`] is not looked at.
    pub(super) fn decode(&mut self, bytes: &mut [u8]) -> usize {
        let mut from = 0;
        let mut kept = 0;
        while from < bytes.len() && self.ending.is_none() {
            let n = self.left_of(bytes.len() - from);
            match self.part {
                Part::Header => from += self.take_header(&bytes[from..]),
                Part::Data => {
                    unmask(&mut self.mask, &mut bytes[from..from + n]);
                    bytes.copy_within(from..from + n, kept);
                    from += n;
                    kept += n;
                    self.took(n);
                }
                Part::Control(_) => {
                    let before = self.control.len();
                    self.control.extend_from_slice(&bytes[from..from + n]);
                    unmask(&mut self.mask, &mut self.control[before..]);
                    from += n;
                    self.took(n);
                }
            }
        }
        kept
    }

    /// The payload of a Ping that is to be answered.
    pub(super) fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// How many of `there` bytes belong to this frame's payload.
    fn left_of(&self, there: usize) -> usize {
        usize::try_from(self.left).map_or(there, |left| left.min(there))
    }

    /// Takes from `bytes` what the header still lacks, and begins the frame once it is whole.
    fn take_header(&mut self, bytes: &[u8]) -> usize {
        let n = (self.header_size() - self.header_len).min(bytes.len());
        self.header[self.header_len..self.header_len + n].copy_from_slice(&bytes[..n]);
        self.header_len += n;
        if self.header_len < self.header_size() {
            return n;
        }
        let header = FrameHeader::parse(&mut Cursor::new(&self.header[..self.header_len]));
        self.header_len = 0;
        match header {
            Ok(Some((header, length))) => {
                if let Err((code, what)) = self.begin(&header, length) {
                    self.ending = Some(Ending::Violation(code, what));
                }
            }
            Ok(None) | Err(_) => self.violation("a reserved opcode"),
        }
        n
    }

    /// The size of the header, as far as the bytes that are there tell.
    fn header_size(&self) -> usize {
        if self.header_len < 2 {
            return 2;
        }
        let length = match self.header[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn begin(
        &mut self,
        header: &FrameHeader,
        length: u64,
    ) -> Result<(), (CloseCode, &'static str)> {
        let wrong = |what| Err((CloseCode::Protocol, what));
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return wrong("a reserved bit is set, and no extension was agreed on");
        }
        let Some(mask) = header.mask else {
            return wrong("a frame without a mask");
        };
        match header.opcode {
            OpCode::Control(_) if !header.is_final => return wrong("a control frame in fragments"),
            OpCode::Control(_) if length > CONTROL_MAX => return wrong("a long control frame"),
            OpCode::Control(control) => self.part = Part::Control(control),
            OpCode::Data(Data::Binary | Data::Continue) if length >= 1 << 63 => {
                return wrong("a length beyond 63 bits");
            }
            OpCode::Data(Data::Binary) if self.fragmented => {
                return wrong("a new message inside a fragmented one");
            }
            OpCode::Data(Data::Continue) if !self.fragmented => {
                return wrong("a continuation of nothing");
            }
            OpCode::Data(Data::Binary | Data::Continue) => {
                self.fragmented = !header.is_final;
                self.part = Part::Data;
            }
            // MQTT-6.0.0-1
            OpCode::Data(_) => return Err((CloseCode::Unsupported, "MQTT-6.0.0-1: a text frame")),
        }
        self.mask = mask;
        self.left = length;
        self.control.clear();
        self.took(0); // an empty frame is complete already
        Ok(())
    }

    /// Counts payload as taken, and ends the frame with its last byte.
    fn took(&mut self, n: usize) {
        self.left = self.left.saturating_sub(n as u64);
        if self.left > 0 {
            return;
        }
        match std::mem::replace(&mut self.part, Part::Header) {
            Part::Control(Control::Ping) => self.ping = Some(std::mem::take(&mut self.control)),
            Part::Control(Control::Close) => self.close(),
            _ => {}
        }
    }

    /// The payload of a Close frame is whole.
    fn close(&mut self) {
        match self.control.as_slice() {
            [] => self.ending = Some(Ending::Closed(None)),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !CloseCode::from(code).is_allowed() {
                    self.violation("a status code that is not for the wire");
                } else if std::str::from_utf8(reason).is_err() {
                    self.violation("a reason for closing that is not UTF-8");
                } else {
                    self.ending = Some(Ending::Closed(Some(code)));
                }
            }
            [_] => self.violation("half a status code"),
        }
    }

    fn violation(&mut self, what: &'static str) {
        self.ending = Some(Ending::Violation(CloseCode::Protocol, what));
    }
}

/// Takes the mask off the next bytes of a payload, and turns it for those after them.
fn unmask(mask: &mut [u8; 4], bytes: &mut [u8]) {
    let mut chunks = bytes.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for (byte, mask) in chunk.iter_mut().zip(*mask) {
            *byte ^= mask;
        }
    }
    let rest = chunks.into_remainder();
    for (byte, mask) in rest.iter_mut().zip(*mask) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len());
}

/// The header of one of the Server's frames: whole messages, not masked.
#[derive(Debug)]
pub(super) struct Header {
    bytes: [u8; HEADER_MAX],
    len: usize,
}

impl Header {
    pub(super) fn binary(payload: usize) -> Header {
        Header::new(OpCode::Data(Data::Binary), payload)
    }

    fn new(opcode: OpCode, payload: usize) -> Header {
        let mut bytes = [0; HEADER_MAX];
        let mut cursor = Cursor::new(&mut bytes[..]);
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let written = header.format(payload as u64, &mut cursor);
        debug_assert!(written.is_ok(), "the longest header fits");
        let len = header.len(payload as u64);
        Header { bytes, len }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Appends a Pong frame.
pub(super) fn push_pong(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(Header::new(OpCode::Control(Control::Pong), payload.len()).as_slice());
    out.extend_from_slice(payload);
}

/// Appends a Close frame, with a status code or without.
pub(super) fn push_close(out: &mut Vec<u8>, code: Option<u16>) {
    let payload = code.map(u16::to_be_bytes);
    let payload = payload.as_ref().map_or(&[][..], |bytes| &bytes[..]);
    out.extend_from_slice(Header::new(OpCode::Control(Control::Close), payload.len()).as_slice());
    out.extend_from_slice(payload);
}

/// A Client's frame: its first byte, and the payload under a mask.
#[cfg(test)]
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Header::new(OpCode::from(first & 0xF), payload.len()).as_slice().to_vec();
    frame[0] = first;
    frame[1] |= 0x80;
    let mask = [0xA1, 0x00, 0x5C, 0xFF];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Decodes what comes in pieces of `sizes`, repeated.
    fn decode(decoder: &mut Decoder, bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut rest = bytes;
        for size in sizes.iter().cycle() {
            let (piece, later) = rest.split_at(rest.len().min(*size));
            let mut piece = piece.to_vec();
            let n = decoder.decode(&mut piece);
            payload.extend_from_slice(&piece[..n]);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        payload
    }

    fn ending_of(frame: &[u8]) -> Option<Ending> {
        let mut decoder = Decoder::new();
        decode(&mut decoder, frame, &[usize::MAX]);
        decoder.ending()
    }

    #[test]
    fn what_breaks_a_rule_is_told_by_its_code() {
        let unmasked = b"\x82\x01x".to_vec();
        let nested = [masked(0x02, b"a"), masked(0x82, b"b")].concat();
        let long_ping = masked(0x89, &[0; 126]);
        let endless = b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        for (frame, code) in [
            (masked(0x81, b"text"), CloseCode::Unsupported), // MQTT-6.0.0-1
            (masked(0x01, b"text"), CloseCode::Unsupported),
            (masked(0x80, b"x"), CloseCode::Protocol), // continues nothing
            (masked(0xC2, b"x"), CloseCode::Protocol), // reserved bits
            (masked(0xA2, b"x"), CloseCode::Protocol),
            (masked(0x92, b"x"), CloseCode::Protocol),
            (masked(0x83, b"x"), CloseCode::Protocol), // reserved opcodes
            (masked(0x8B, b"x"), CloseCode::Protocol),
            (masked(0x09, b"x"), CloseCode::Protocol), // a Ping in fragments
            (masked(0x88, b"\x03"), CloseCode::Protocol), // half a code
            (masked(0x88, b"\x03\xed"), CloseCode::Protocol), // 1005 is not for the wire
            (masked(0x88, b"\x03\xe8\xff"), CloseCode::Protocol), // not UTF-8
            (unmasked, CloseCode::Protocol),
            (nested, CloseCode::Protocol),
            (long_ping, CloseCode::Protocol),
            (endless, CloseCode::Protocol),
        ] {
            let ending = ending_of(&frame);
            assert!(matches!(ending, Some(Ending::Violation(c, _)) if c == code), "{frame:x?}");
        }
        assert_eq!(ending_of(&masked(0x88, b"")), Some(Ending::Closed(None)));
        assert_eq!(ending_of(&masked(0x88, b"\x03\xe8ok")), Some(Ending::Closed(Some(1000))));
        assert_eq!(ending_of(&masked(0x89, &[0; 125])), None);
    }

    #[test]
    fn the_newest_ping_is_answered() {
        let mut decoder = Decoder::new();
        let bytes = [masked(0x89, b"one"), masked(0x89, b"two"), masked(0x8A, b"no")].concat();
        decode(&mut decoder, &bytes, &[1]);
        assert_eq!(decoder.take_ping().as_deref(), Some(&b"two"[..]));
        assert_eq!(decoder.take_ping(), None);
    }

    #[test]
    fn headers_grow_with_the_payload() {
        for (payload, header) in [
            (0, &b"\x82\x00"[..]),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (65_535, b"\x82\x7e\xff\xff"),
            (65_536, b"\x82\x7f\0\0\0\0\0\x01\0\0"),
        ] {
            assert_eq!(Header::binary(payload).as_slice(), header);
        }
    }

    proptest! {
        /// MQTT-6.0.0-2: the payload comes through whole, however it is cut into messages, fragments,
        /// frames among control frames, and reads.
        #[test]
        fn the_payload_comes_through(
            fragments in vec((vec(any::<u8>(), 0..300), any::<bool>(), any::<bool>()), 0..20),
            sizes in vec(1_usize..40, 1..6),
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            let mut open = false;
            for (payload, last, ping) in fragments {
                let opcode = if open { 0x00 } else { 0x02 };
                bytes.extend(masked(opcode | if last { 0x80 } else { 0 }, &payload));
                open = !last;
                expected.extend(payload);
                if ping {
                    bytes.extend(masked(0x89, b"ping"));
                }
            }
            let mut decoder = Decoder::new();
            prop_assert_eq!(decode(&mut decoder, &bytes, &sizes), expected);
            prop_assert_eq!(decoder.ending(), None);
        }

        #[test]
        fn no_bytes_can_upset_it(bytes in vec(any::<u8>(), 0..400), size in 1_usize..64) {
            let mut decoder = Decoder::new();
            prop_assert!(decode(&mut decoder, &bytes, &[size]).len() <= bytes.len());
            prop_assert!(decoder.control.capacity() <= 256);
        }
    }
}
