//! Bytes on their way out of one Network Connection, with the places where messages end.

use std::io::IoSlice;

use bytes::Bytes;

/// A batch of packets: small ones stand in one buffer, large payloads are shared and stand between.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// Payloads, each with the place in `bytes` before which it is sent.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
    /// Where messages that count as waiting end.
    marks: Vec<Mark>,
}

/// The end of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    end: usize,
    assured: bool,
}

/// How many messages a batch holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// QoS 0.
    pub(crate) plain: usize,
    /// QoS 1 and 2, sent for the first time.
    pub(crate) assured: usize,
}

impl Count {
    pub(crate) fn total(self) -> usize {
        self.plain + self.assured
    }
}

/// Slices handed to one write at the most; the operating system takes up to 1 024.
const SLICES_MAX: usize = 64;

impl Outgoing {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    /// The part of [`Outgoing::len`] that was copied.
    pub(crate) fn copied_len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where packets are appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends a PUBLISH packet whose head stands in the buffer with a payload that is not copied.
    pub(crate) fn share(&mut self, payload: Bytes) {
        self.shared_bytes += payload.len();
        self.shared.push((self.bytes.len(), payload));
    }

    /// Whether as many payloads are shared as one write can take.
    pub(crate) fn is_full_of_shares(&self) -> bool {
        self.shared.len() >= SLICES_MAX / 2
    }

    /// Here a message ends that counts as waiting until it is written.
    pub(crate) fn mark(&mut self, assured: bool) {
        let end = self.len();
        self.marks.push(Mark { end, assured });
    }

    /// The messages whose end is still to be written.
    pub(crate) fn count(&self) -> Count {
        let assured = self.marks.iter().filter(|mark| mark.assured).count();
        Count { plain: self.marks.len() - assured, assured }
    }

    /// Calls `write` with all bytes in order, up to what one write can take.
    pub(crate) fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        if self.shared.is_empty() {
            return write(&[IoSlice::new(&self.bytes)]);
        }
        let mut slices = Vec::with_capacity((self.shared.len() * 2 + 1).min(SLICES_MAX));
        let mut from = 0;
        for (at, payload) in &self.shared {
            if slices.len() + 2 > SLICES_MAX {
                return write(&slices);
            }
            if *at > from {
                slices.push(IoSlice::new(self.bytes.get(from..*at).unwrap_or_default()));
            }
            slices.push(IoSlice::new(payload));
            from = *at;
        }
        if from < self.bytes.len() && slices.len() < SLICES_MAX {
            slices.push(IoSlice::new(self.bytes.get(from..).unwrap_or_default()));
        }
        write(&slices)
    }

    /// Removes the first `written` bytes and says which messages were completed by them.
    pub(crate) fn advance(&mut self, written: usize) -> Count {
        if written >= self.len() {
            let count = self.count();
            self.clear();
            return count;
        }
        let done = self.marks.iter().take_while(|mark| mark.end <= written).count();
        let assured = self.marks.iter().take(done).filter(|mark| mark.assured).count();
        self.marks.drain(..done);
        for mark in &mut self.marks {
            mark.end -= written;
        }
        self.cut(written);
        Count { plain: done - assured, assured }
    }

    /// Removes bytes from the front, across both kinds.
    fn cut(&mut self, mut bytes: usize) {
        let mut cut_from_buffer = 0;
        let mut cut_shares = 0;
        for (at, payload) in &mut self.shared {
            let before = (*at - cut_from_buffer).min(bytes);
            cut_from_buffer += before;
            bytes -= before;
            if bytes == 0 {
                break;
            }
            let part = payload.len().min(bytes);
            let _ = payload.split_to(part);
            self.shared_bytes -= part;
            bytes -= part;
            if !payload.is_empty() {
                break;
            }
            cut_shares += 1;
        }
        cut_from_buffer += bytes.min(self.bytes.len() - cut_from_buffer);
        self.shared.drain(..cut_shares);
        for (at, _) in &mut self.shared {
            *at -= cut_from_buffer;
        }
        self.bytes.drain(..cut_from_buffer);
    }

    /// Appends all of `later`, which is left empty.
    pub(crate) fn append(&mut self, later: &mut Outgoing) {
        let (bytes, len) = (self.bytes.len(), self.len());
        self.bytes.append(&mut later.bytes);
        self.shared.extend(later.shared.drain(..).map(|(at, payload)| (at + bytes, payload)));
        self.shared_bytes += std::mem::take(&mut later.shared_bytes);
        let marks = later.marks.drain(..);
        self.marks.extend(marks.map(|mark| Mark { end: mark.end + len, ..mark }));
    }

    /// Empties it and keeps its memory, within reason.
    pub(crate) fn clear(&mut self) {
        const KEPT: usize = 256 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.shared.clear();
        self.shared_bytes = 0;
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Its own bytes, the shared ones behind them if there are any, and whether it is of QoS 1 or 2.
    type Part = (Vec<u8>, Option<Vec<u8>>, bool);

    fn flatten(outgoing: &Outgoing) -> Vec<u8> {
        outgoing.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect())
    }

    fn build(parts: &[Part]) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for (head, payload, assured) in parts {
            outgoing.buffer().extend_from_slice(head);
            if let Some(payload) = payload {
                outgoing.share(Bytes::from(payload.clone()));
            }
            outgoing.mark(*assured);
        }
        outgoing
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 1..9);
        proptest::collection::vec((bytes(), proptest::option::of(bytes()), any::<bool>()), 1..14)
    }

    proptest! {
        #[test]
        fn written_in_pieces_every_byte_and_every_message_leaves_once(parts in parts(), steps in proptest::collection::vec(1usize..12, 1..200)) {
            let mut outgoing = build(&parts);
            let whole = flatten(&outgoing);
            prop_assert_eq!(whole.len(), outgoing.len());
            let (mut written, mut counted) = (0, 0);
            for step in steps {
                let step = step.min(outgoing.len());
                let next = flatten(&outgoing);
                prop_assert_eq!(&next[..], &whole[written..]);
                written += step;
                counted += outgoing.advance(step).total();
                prop_assert_eq!(counted + outgoing.count().total(), parts.len());
                prop_assert_eq!(whole.len() - written, outgoing.len());
            }
            counted += outgoing.advance(outgoing.len()).total();
            prop_assert_eq!(counted, parts.len());
            prop_assert!(outgoing.is_empty());
        }

        #[test]
        fn what_is_appended_follows(first in parts(), second in parts(), cut in 0usize..40) {
            let (mut outgoing, mut later) = (build(&first), build(&second));
            let mut expected = flatten(&outgoing);
            expected.extend(flatten(&later));
            let done = outgoing.advance(cut.min(outgoing.len()));
            outgoing.append(&mut later);
            prop_assert!(later.is_empty());
            let whole = flatten(&outgoing);
            prop_assert_eq!(&whole[..], &expected[expected.len() - whole.len()..]);
            prop_assert_eq!(done.total() + outgoing.count().total(), first.len() + second.len());
        }
    }
}
