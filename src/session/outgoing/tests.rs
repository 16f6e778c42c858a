//! Batches that are written in pieces of any size.

use proptest::prelude::*;

use super::*;

/// Head, payload that is shared, and whether the message is of QoS 1 or 2; before it stand so many bytes
/// that are no message.
type Part = (Vec<u8>, Option<Vec<u8>>, bool, usize);

fn flatten(outgoing: &Outgoing) -> Vec<u8> {
    outgoing.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect())
}

/// The batch, and start, end and serial of every message in it.
fn build(parts: &[Part], first_serial: u64) -> (Outgoing, Vec<Mark>) {
    let mut outgoing = Outgoing::default();
    let mut marks = Vec::new();
    for ((head, payload, assured, before), serial) in parts.iter().zip(first_serial..) {
        outgoing.buffer().extend(std::iter::repeat_n(0xAC, *before));
        let start = outgoing.len();
        outgoing.buffer().extend_from_slice(head);
        if let Some(payload) = payload {
            outgoing.share(Bytes::from(payload.clone()));
        }
        let serial = assured.then_some(serial);
        outgoing.mark(start, serial);
        marks.push(Mark { start, end: outgoing.len(), serial });
    }
    (outgoing, marks)
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..9);
    let part = (bytes(), proptest::option::of(bytes()), any::<bool>(), 0usize..4);
    proptest::collection::vec(part, 1..14)
}

/// What a transport that took the bytes `from..to` took of the messages.
fn expected(marks: &[Mark], from: usize, to: usize) -> Taken {
    let plain = |mark: &&Mark| mark.serial.is_none() && mark.end > from && mark.end <= to;
    let accepted = |mark: &&Mark| mark.end > from && mark.end <= to;
    let begun = |mark: &&Mark| mark.end > from && mark.start < to && to > from;
    let last = |marks: Vec<&Mark>| marks.iter().filter_map(|mark| mark.serial).next_back();
    Taken {
        plain: marks.iter().filter(plain).count(),
        accepted: last(marks.iter().filter(accepted).collect()),
        begun: last(marks.iter().filter(begun).collect()),
    }
}

proptest! {
    #[test]
    fn written_in_pieces_every_byte_and_every_message_leaves_once(
        parts in parts(),
        steps in proptest::collection::vec(0usize..12, 1..200),
    ) {
        let (mut outgoing, marks) = build(&parts, 7);
        let whole = flatten(&outgoing);
        prop_assert_eq!(whole.len(), outgoing.len());
        let mut written = 0;
        for step in steps.into_iter().chain([usize::MAX]) {
            let step = step.min(outgoing.len());
            prop_assert_eq!(&flatten(&outgoing)[..], &whole[written..]);
            let taken = outgoing.advance(step);
            prop_assert_eq!(taken, expected(&marks, written, written + step));
            written += step;
            let waiting = marks.iter().filter(|mark| mark.serial.is_none() && mark.end > written);
            prop_assert_eq!(outgoing.plain(), waiting.count());
            prop_assert_eq!(whole.len() - written, outgoing.len());
        }
        prop_assert!(outgoing.is_empty());
    }

    #[test]
    fn what_is_appended_follows(first in parts(), second in parts(), cut in 0usize..40, step in 1usize..60) {
        let (mut outgoing, mut marks) = build(&first, 1);
        let (mut later, more) = build(&second, 100);
        let mut whole = flatten(&outgoing);
        whole.extend(flatten(&later));
        let offset = outgoing.len();
        let shift = |mark: Mark| Mark { start: mark.start + offset, end: mark.end + offset, ..mark };
        marks.extend(more.into_iter().map(shift));

        let mut written = cut.min(outgoing.len());
        let _before = outgoing.advance(written);
        outgoing.append(&mut later);
        prop_assert!(later.is_empty() && later.plain() == 0);
        prop_assert_eq!(&flatten(&outgoing)[..], &whole[written..]);
        while !outgoing.is_empty() {
            let step = step.min(outgoing.len());
            prop_assert_eq!(outgoing.advance(step), expected(&marks, written, written + step));
            written += step;
        }
        prop_assert_eq!(outgoing.plain(), 0);
    }
}

#[test]
fn one_write_gets_no_more_slices_than_the_system_takes() {
    let mut outgoing = Outgoing::default();
    while !outgoing.is_full_of_shares() {
        outgoing.buffer().push(1);
        outgoing.share(Bytes::from_static(b"payload"));
    }
    for _ in 0..SLICES_MAX {
        outgoing.buffer().push(1);
        outgoing.share(Bytes::from_static(b"more"));
    }
    assert!(outgoing.with_slices(|slices| slices.len()) <= SLICES_MAX);
}
