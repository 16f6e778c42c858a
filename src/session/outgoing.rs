//! The outgoing bytes of one Network Connection, with the places where messages end.

use std::io::IoSlice;

use bytes::Bytes;

use crate::packet::kind::{PacketCounts, PacketType, packets_in};

/// A batch of packets. Small packets are in one buffer; large payloads are shared and inserted between them.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// Payloads, each with the place in `bytes` before which it is sent.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
    /// The messages that count as waiting until they are written.
    marks: Vec<Mark>,
    /// All other packets.
    runs: Vec<Run>,
    /// How many of the marks are of QoS 0.
    plain: usize,
    /// The bytes between the marks' starts and ends.
    message_bytes: usize,
}

/// The place of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    start: usize,
    end: usize,
    /// For QoS 1 and 2 the number of the message in [`Inflight`](super::inflight::Inflight).
    serial: Option<u64>,
    /// Bytes of the payload.
    payload: u32,
}

/// Packets of one type that stand together, and are no waiting messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    end: usize,
    /// The first byte of their fixed header.
    header: u8,
    packets: u32,
    /// Bytes of the payload of a PUBLISH.
    payload: u32,
}

/// The packets whose last byte a transport took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) packets: PacketCounts,
    /// Bytes of the payloads of PUBLISH packets.
    pub(crate) payload_bytes: u64,
}

/// The messages of a batch that the transport took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Messages of QoS 0, wholly.
    pub(crate) plain: usize,
    /// The last message of QoS 1 or 2 that was wholly taken.
    pub(crate) accepted: Option<u64>,
    /// The last message of QoS 1 or 2 of which a byte was taken.
    pub(crate) begun: Option<u64>,
}

/// The most bytes in one write, so that a large message does not keep the thread in one system call.
const WRITE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The most slices in one write; the operating system takes up to 1 024.
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

    /// The buffer to append a packet to, which [`Outgoing::mark`] or [`Outgoing::note`] ends, or the rest of one that
    /// was counted before.
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

    /// What was appended from `start` on is a message that counts as waiting until it is written.
    /// `serial` is `None` for QoS 0.
    pub(crate) fn mark(&mut self, start: usize, serial: Option<u64>, payload: usize) {
        self.plain += usize::from(serial.is_none());
        self.message_bytes += self.len() - start;
        let payload = u32::try_from(payload).unwrap_or(u32::MAX);
        self.marks.push(Mark { start, end: self.len(), serial, payload });
    }

    /// One packet that is no waiting message ends here: its first byte, and the bytes of its payload.
    pub(crate) fn note(&mut self, header: u8, payload: usize) {
        let payload = u32::try_from(payload).unwrap_or(u32::MAX);
        self.runs.push(Run { end: self.len(), header, packets: 1, payload });
    }

    /// Appends whole packets that are no messages, and empties `packets`.
    pub(crate) fn append_packets(&mut self, packets: &mut Vec<u8>) {
        let mut end = self.len();
        for (header, len) in packets_in(packets) {
            let adjacent =
                self.runs.last_mut().filter(|run| run.end == end && run.header == header);
            end += len;
            match adjacent {
                Some(run) => (run.end, run.packets) = (end, run.packets + 1),
                None => self.runs.push(Run { end, header, packets: 1, payload: 0 }),
            }
        }
        self.bytes.append(packets);
    }

    /// The packets whose last byte is among the first `written` bytes.
    pub(crate) fn sent_by(&self, written: usize) -> Sent {
        let mut sent = Sent::default();
        let marks = self.marks.iter().take_while(|mark| mark.end <= written);
        let (messages, bytes) =
            marks.fold((0, 0), |(n, bytes), mark| (n + 1, bytes + u64::from(mark.payload)));
        sent.packets.add((PacketType::Publish as u8) << 4, messages);
        sent.payload_bytes = bytes;
        for run in self.runs.iter().take_while(|run| run.end <= written) {
            sent.packets.add(run.header, u64::from(run.packets));
            sent.payload_bytes += u64::from(run.payload);
        }
        sent
    }

    /// The packets that are not written yet.
    pub(crate) fn packets(&self) -> usize {
        self.marks.len() + self.runs.iter().map(|run| run.packets as usize).sum::<usize>()
    }

    /// The bytes that belong to no waiting message: answers to the Client, and messages that are sent again.
    pub(crate) fn answer_bytes(&self) -> usize {
        self.len() - self.message_bytes
    }

    /// The messages of QoS 0 whose end is still to be written.
    pub(crate) fn plain(&self) -> usize {
        self.plain
    }

    /// Calls `write` with the first bytes in order, up to what one write takes.
    pub(crate) fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        if self.shared.is_empty() {
            return write(&[IoSlice::new(first(&self.bytes, WRITE_BYTES_MAX))]);
        }
        let mut slices = Vec::with_capacity((self.shared.len() * 2 + 1).min(SLICES_MAX));
        let (mut from, mut room) = (0, WRITE_BYTES_MAX);
        let mut push = |slices: &mut Vec<_>, bytes| {
            let bytes = first(bytes, room);
            room -= bytes.len();
            if !bytes.is_empty() {
                slices.push(IoSlice::new(bytes));
            }
        };
        for (at, payload) in &self.shared {
            if slices.len() + 2 > SLICES_MAX {
                return write(&slices);
            }
            push(&mut slices, self.bytes.get(from..*at).unwrap_or_default());
            push(&mut slices, payload);
            from = *at;
        }
        if slices.len() < SLICES_MAX {
            push(&mut slices, self.bytes.get(from..).unwrap_or_default());
        }
        write(&slices)
    }

    /// Removes the first `written` bytes and says which messages were in them.
    pub(crate) fn advance(&mut self, written: usize) -> Taken {
        let mut taken = Taken::default();
        let mut done = 0;
        let mut message_bytes = 0;
        for mark in self.marks.iter().take_while(|mark| mark.start < written) {
            message_bytes += mark.end.min(written) - mark.start;
            taken.begun = mark.serial.or(taken.begun);
            if mark.end > written {
                break;
            }
            taken.accepted = mark.serial.or(taken.accepted);
            taken.plain += usize::from(mark.serial.is_none());
            done += 1;
        }
        if written >= self.len() {
            self.clear();
            return taken;
        }
        self.plain -= taken.plain;
        self.message_bytes -= message_bytes;
        self.marks.drain(..done);
        for mark in &mut self.marks {
            mark.start = mark.start.saturating_sub(written);
            mark.end -= written;
        }
        self.runs.retain_mut(|run| {
            let left = run.end.checked_sub(written).filter(|left| *left > 0);
            run.end = left.unwrap_or_default();
            left.is_some()
        });
        self.cut(written);
        taken
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
        self.plain += std::mem::take(&mut later.plain);
        self.message_bytes += std::mem::take(&mut later.message_bytes);
        self.marks.extend(later.marks.drain(..).map(|mark| Mark {
            start: mark.start + len,
            end: mark.end + len,
            ..mark
        }));
        self.runs.extend(later.runs.drain(..).map(|run| Run { end: run.end + len, ..run }));
    }

    /// Empties it and keeps its memory, within reason.
    pub(crate) fn clear(&mut self) {
        const KEPT: usize = 256 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.shared.clear();
        self.shared_bytes = 0;
        self.marks.clear();
        self.runs.clear();
        self.plain = 0;
        self.message_bytes = 0;
    }
}

/// The first `max` bytes, or all.
fn first(bytes: &[u8], max: usize) -> &[u8] {
    bytes.get(..max).unwrap_or(bytes)
}

#[cfg(test)]
mod tests;
