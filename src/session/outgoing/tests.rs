//! Batches that are written in pieces of any size.

use proptest::prelude::*;

use super::*;

/// Head, payload that is shared, and whether the message is of QoS 1 or 2; before it stand so many PINGRESP.
type Part = (Vec<u8>, Option<Vec<u8>>, bool, usize);

fn flatten(outgoing: &Outgoing) -> Vec<u8> {
    outgoing.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect())
}

/// The batch, its messages, and the ends of its PINGRESPs.
fn build(parts: &[Part], first_serial: u64) -> (Outgoing, Vec<Mark>, Vec<usize>) {
    let mut outgoing = Outgoing::default();
    let (mut marks, mut ends) = (Vec::new(), Vec::new());
    for ((head, payload, assured, before), serial) in parts.iter().zip(first_serial..) {
        ends.extend((1..=*before).map(|n| outgoing.len() + 2 * n));
        outgoing.append_packets(&mut [0xD0, 0].repeat(*before));
        let start = outgoing.len();
        outgoing.buffer().extend_from_slice(head);
        if let Some(payload) = payload {
            outgoing.share(Bytes::from(payload.clone()));
        }
        let serial = assured.then_some(serial);
        let payload = head.len();
        outgoing.mark(start, serial, payload);
        let payload = u32::try_from(payload).unwrap();
        marks.push(Mark { start, end: outgoing.len(), serial, payload });
    }
    (outgoing, marks, ends)
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

/// As [`expected`], of the packets.
fn expected_sent(marks: &[Mark], ends: &[usize], from: usize, to: usize) -> Sent {
    let within = |end: usize| end > from && end <= to;
    let messages: Vec<_> = marks.iter().filter(|mark| within(mark.end)).collect();
    let mut sent = Sent::default();
    sent.packets.add(0x30, messages.len() as u64);
    sent.packets.add(0xD0, ends.iter().filter(|end| within(**end)).count() as u64);
    sent.payload_bytes = messages.iter().map(|mark| u64::from(mark.payload)).sum();
    sent
}

/// Packets that stand together count when the last of them is written.
fn counted_late(sent: Sent, wanted: Sent) -> bool {
    let (sent, wanted) = (sent.packets, wanted.packets);
    sent.of(PacketType::Publish) == wanted.of(PacketType::Publish)
        && sent.of(PacketType::PingResp) <= wanted.of(PacketType::PingResp)
}

proptest! {
    #[test]
    fn written_in_pieces_every_byte_and_every_message_leaves_once(
        parts in parts(),
        steps in proptest::collection::vec(0usize..12, 1..200),
    ) {
        let (mut outgoing, marks, ends) = build(&parts, 7);
        let whole = flatten(&outgoing);
        prop_assert_eq!(whole.len(), outgoing.len());
        prop_assert_eq!(outgoing.packets(), marks.len() + ends.len());
        let all = expected_sent(&marks, &ends, 0, whole.len());
        prop_assert_eq!(outgoing.sent_by(whole.len()), all);
        let (mut written, mut counted) = (0, Sent::default());
        for step in steps.into_iter().chain([usize::MAX]) {
            let step = step.min(outgoing.len());
            prop_assert_eq!(&flatten(&outgoing)[..], &whole[written..]);
            let sent = outgoing.sent_by(step);
            let taken = outgoing.advance(step);
            prop_assert_eq!(taken, expected(&marks, written, written + step));
            written += step;
            sent.packets.present().for_each(|(packet, n)| counted.packets.add((packet as u8) << 4, n));
            counted.payload_bytes += sent.payload_bytes;
            prop_assert!(counted_late(counted, expected_sent(&marks, &ends, 0, written)));
            let waiting = marks.iter().filter(|mark| mark.serial.is_none() && mark.end > written);
            prop_assert_eq!(outgoing.plain(), waiting.count());
            prop_assert_eq!(whole.len() - written, outgoing.len());
        }
        prop_assert!(outgoing.is_empty());
        prop_assert_eq!(counted, all);
    }

    #[test]
    fn what_is_appended_follows(first in parts(), second in parts(), cut in 0usize..40, step in 1usize..60) {
        let (mut outgoing, mut marks, mut ends) = build(&first, 1);
        let (mut later, more, later_ends) = build(&second, 100);
        let mut whole = flatten(&outgoing);
        whole.extend(flatten(&later));
        let offset = outgoing.len();
        let shift = |mark: Mark| Mark { start: mark.start + offset, end: mark.end + offset, ..mark };
        marks.extend(more.into_iter().map(shift));
        ends.extend(later_ends.into_iter().map(|end| end + offset));

        let mut written = cut.min(outgoing.len());
        let mut counted = outgoing.sent_by(written).packets.total();
        let _before = outgoing.advance(written);
        outgoing.append(&mut later);
        prop_assert!(later.is_empty() && later.plain() == 0);
        prop_assert_eq!(&flatten(&outgoing)[..], &whole[written..]);
        while !outgoing.is_empty() {
            let step = step.min(outgoing.len());
            counted += outgoing.sent_by(step).packets.total();
            prop_assert_eq!(outgoing.advance(step), expected(&marks, written, written + step));
            written += step;
        }
        prop_assert_eq!(outgoing.plain(), 0);
        prop_assert_eq!(counted, (marks.len() + ends.len()) as u64);
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
