//! Packets out of a stream.

use std::ops::Range;

use super::input::{Input, pieces};
use crate::error::Fault;
use crate::packet::frame::{Frame, PACKET_BYTES_MAX, next_frame};

const MAXIMA: [u32; 4] = [128, 2, 65_536, 268_435_460];

/// What came of a stream: each packet with its header and the place of its body, and what ended it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cut {
    packets: Vec<(u8, Range<usize>)>,
    /// Where the packet begins that is not cut out.
    at: usize,
    fault: Option<Fault>,
    /// The size of the packet that is not all there.
    wanted: Option<usize>,
}

pub(super) fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let max = input.choose(&MAXIMA);
    let sizes = input.take(4);
    let stream = input.rest();
    let mut whole = Cut::default();
    cut(stream, max, &mut whole);
    let mut split = Cut::default();
    let mut there = 0;
    for piece in pieces(stream, sizes) {
        there += piece.len();
        cut(&stream[..there], max, &mut split);
        if split.fault.is_some() {
            break;
        }
    }
    assert_eq!(split, whole, "cut at {sizes:?}");
}

/// Takes what is there, from where the last call ended.
fn cut(buffer: &[u8], max: u32, cut: &mut Cut) {
    loop {
        cut.wanted = None;
        match next_frame(&buffer[cut.at..], max) {
            Ok(Frame::Whole { header, body, taken }) => {
                let end = cut.at + taken;
                assert!(taken <= max as usize && end <= buffer.len());
                assert_eq!(&buffer[end - body.len()..end], body);
                assert!(taken - body.len() <= 5 && taken > body.len(), "a fixed header");
                cut.packets.push((header, end - body.len()..end));
                cut.at = end;
            }
            Ok(Frame::Partial { total }) => {
                let there = buffer.len() - cut.at;
                assert!(total.is_some() || there < 5, "a Remaining Length has at most 4 bytes");
                let range = there + 1..=PACKET_BYTES_MAX.min(max as usize);
                assert!(total.is_none_or(|total| range.contains(&total)), "{total:?}");
                cut.wanted = total;
                return;
            }
            Err(fault) => {
                assert!(!matches!(fault, Fault::Server(..)), "{fault}");
                cut.fault = Some(fault);
                return;
            }
        }
    }
}
