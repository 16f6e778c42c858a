//! Incoming bytes: the unfinished rest of a read, and the buffer for the next one.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::peer_stream::PeerStream;
use crate::time::Timestamp;

/// A packet larger than this is read into a buffer of its own, which the message then shares.
const OWN_BUFFER_BYTES: usize = 4 * 1024;

/// The most bytes that one read of small packets takes.
const READ_BYTES: usize = 64 * 1024;

/// The least and the most bytes by which a buffer grows before they have arrived.
const GROWTH_BYTES: usize = 64 * 1024;
const GROWTH_BYTES_MAX: usize = 256 * 1024;

/// As [`GROWTH_BYTES`], for a peer without an accepted CONNECT.
const GROWTH_BYTES_UNAUTHENTICATED: usize = 4 * 1024;

/// The most bytes that are kept of a peer whose CONNECT is being decided.
const READ_AHEAD_BYTES: usize = 4 * 1024;

/// After so many more bytes of an unfinished packet its deadline begins anew.
const PROGRESS_BYTES: usize = 64 * 1024;

/// The outcome of a read.
pub(super) enum Read {
    /// The number of bytes in the worker's buffer, including the unfinished beginning from before.
    Bytes(usize),
    /// One whole packet that had its own buffer.
    Packet(Bytes),
    /// The peer sends nothing more.
    End,
}

/// The unfinished end of what was read.
#[derive(Default)]
pub(super) struct ReadBuffer {
    partial: Vec<u8>,
    /// The size of the packet that `partial` begins, if it is known.
    total: Option<usize>,
    /// The last packet that a read cut was a large one: the next read may take more than [`READ_BYTES`].
    large: bool,
    /// `partial` holds whole packets, left because the turn ended first.
    whole: bool,
    /// Set while a packet is unfinished.
    deadline: Option<Timestamp>,
    /// The size of `partial` when the deadline was set.
    progress: usize,
    /// Bytes that the last read took from the stream.
    arrived: usize,
    /// Bytes counted as held for a peer without CONNECT.
    accounted: usize,
}

impl ReadBuffer {
    /// Reads the bytes that have arrived, `room` at most, which is not 0.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut PeerStream,
        buffer: &mut [u8],
        unauthenticated: bool,
        room: usize,
    ) -> Poll<io::Result<Read>> {
        let kept = self.partial.len();
        self.arrived = 0;
        if self.whole {
            self.whole = false;
            return Poll::Ready(Ok(Read::Bytes(self.unload(buffer))));
        }
        match self.total {
            Some(total) if total > OWN_BUFFER_BYTES => {
                self.read_own(cx, stream, total, unauthenticated, room)
            }
            _ => {
                let end = if self.large { buffer.len() } else { READ_BYTES.min(buffer.len()) };
                let end = end.min(kept.saturating_add(room));
                let space = buffer.get_mut(kept..end).unwrap_or_default();
                let read = ready!(stream.with(|io| io.poll_read(cx, space)))?;
                if read == 0 {
                    return Poll::Ready(Ok(Read::End));
                }
                self.unload(buffer);
                self.arrived = read;
                Poll::Ready(Ok(Read::Bytes(kept + read)))
            }
        }
    }

    /// Reads on behind what is kept, so that the end of the stream is noticed while no packet is taken. `None`: as many
    /// bytes are kept as may be.
    pub(super) fn read_ahead(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut PeerStream,
        buffer: &mut [u8],
    ) -> Option<Poll<io::Result<usize>>> {
        let room = READ_AHEAD_BYTES.checked_sub(self.partial.len()).filter(|room| *room > 0)?;
        let space = buffer.get_mut(..room)?;
        let read = stream.with(|io| io.poll_read(cx, space));
        if let Poll::Ready(Ok(read @ 1..)) = read {
            self.partial.extend_from_slice(buffer.get(..read).unwrap_or_default());
            (self.whole, self.total) = (true, None);
        }
        Some(read)
    }

    /// Whether no byte is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }

    /// Bytes that the last read took from the stream.
    pub(super) fn arrived(&self) -> usize {
        self.arrived
    }

    /// Copies the kept bytes to the front of the worker's buffer. They always fit: a larger packet has its own
    /// buffer.
    fn unload(&mut self, buffer: &mut [u8]) -> usize {
        let kept = std::mem::take(&mut self.partial);
        if let Some(front) = buffer.get_mut(..kept.len()) {
            front.copy_from_slice(&kept);
        }
        self.total = None;
        kept.len()
    }

    /// Reads the rest of a large packet into its own buffer, which grows with the bytes that have arrived, never to a
    /// length that was merely announced.
    fn read_own(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut PeerStream,
        total: usize,
        unauthenticated: bool,
        room: usize,
    ) -> Poll<io::Result<Read>> {
        let kept = self.partial.len();
        // Of a large packet from an accepted peer three times what has arrived is added, so that little
        // is moved; the system gives no memory to what is not touched.
        let (growth, ahead) = if unauthenticated {
            (GROWTH_BYTES_UNAUTHENTICATED, kept)
        } else {
            (kept.clamp(GROWTH_BYTES, GROWTH_BYTES_MAX), kept.saturating_mul(3))
        };
        if self.partial.capacity() == kept {
            let target = total.min(kept + growth.max(ahead));
            self.partial.reserve_exact(target - kept);
        }
        // Each read clears only what it may fill: clearing all that is reserved for every small piece
        // would cost the square of the size.
        let target = self.partial.capacity().min(total).min(kept + growth.min(room));
        self.partial.resize(target, 0);
        let space = self.partial.get_mut(kept..).unwrap_or_default();
        let read = stream.with(|io| io.poll_read(cx, space));
        let got = match &read {
            Poll::Ready(Ok(read)) => *read,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        self.partial.truncate(kept + got);
        self.arrived = got;
        if ready!(read)? == 0 {
            return Poll::Ready(Ok(Read::End));
        }
        if self.partial.len() < total {
            return Poll::Ready(Ok(Read::Bytes(0)));
        }
        self.total = None;
        Poll::Ready(Ok(Read::Packet(Bytes::from(std::mem::take(&mut self.partial)))))
    }

    /// A packet is whole: the next one has all its time.
    pub(super) fn finished(&mut self) {
        self.deadline = None;
        self.progress = 0;
    }

    /// Keeps the unfinished beginning of a packet. Its time begins with its first byte, and anew with
    /// enough progress, never with a trickle of bytes (pitfall 20).
    pub(super) fn keep(
        &mut self,
        rest: &[u8],
        total: Option<usize>,
        now: Timestamp,
        timeout: Duration,
    ) {
        if !rest.is_empty() {
            self.partial = rest.to_vec();
            self.total = total;
            self.large = total.is_some_and(|total| total > OWN_BUFFER_BYTES);
        }
        if self.partial.is_empty() {
            return;
        }
        if self.deadline.is_none() || self.partial.len() >= self.progress + PROGRESS_BYTES {
            self.deadline = Some(now.plus(timeout));
            self.progress = self.partial.len();
        }
    }

    /// An unfinished packet has all its time from `now` on: nothing was read meanwhile.
    pub(super) fn restart_deadline(&mut self, now: Timestamp, timeout: Duration) {
        if self.deadline.is_some() {
            self.deadline = Some(now.plus(timeout));
        }
    }

    /// Keeps whole packets that are to be taken without reading first.
    pub(super) fn keep_whole(&mut self, rest: &[u8]) {
        self.whole = !rest.is_empty();
        self.partial = rest.to_vec();
        self.total = None;
    }

    /// When the unfinished packet is to be finished.
    pub(super) fn deadline(&self) -> Timestamp {
        self.deadline.unwrap_or(Timestamp::NEVER)
    }

    /// Counts the held bytes in the sum of all peers without CONNECT. Returns whether the sum is within `max`.
    pub(super) fn account(&mut self, sum: &AtomicUsize, max: usize) -> bool {
        let held = self.partial.capacity();
        let before = std::mem::replace(&mut self.accounted, held);
        if held >= before {
            sum.fetch_add(held - before, Ordering::AcqRel) + (held - before) <= max
        } else {
            sum.fetch_sub(before - held, Ordering::AcqRel);
            true
        }
    }

    /// Subtracts what [`ReadBuffer::account`] counted.
    pub(super) fn release(&mut self, sum: &AtomicUsize) {
        sum.fetch_sub(std::mem::take(&mut self.accounted), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// What a read of `more` bytes does to an unfinished packet.
    fn trickle(incoming: &mut ReadBuffer, more: usize, at: u64) {
        let mut buffer = vec![0; 128 * 1024];
        let kept = incoming.unload(&mut buffer);
        incoming.keep(&buffer[..kept + more], None, Timestamp(at), TIMEOUT);
    }

    #[test]
    fn a_trickle_of_bytes_does_not_prolong_a_packet_pitfall_20() {
        let mut incoming = ReadBuffer::default();
        assert_eq!(incoming.deadline(), Timestamp::NEVER);
        trickle(&mut incoming, 1, 1_000);
        for second in 2..60 {
            trickle(&mut incoming, 1, second * 1_000);
            assert_eq!(incoming.deadline(), Timestamp(61_000));
        }
    }

    #[test]
    fn enough_progress_prolongs_it() {
        let mut incoming = ReadBuffer::default();
        trickle(&mut incoming, 1, 1_000);
        trickle(&mut incoming, PROGRESS_BYTES, 2_000);
        assert_eq!(incoming.deadline(), Timestamp(62_000));
    }

    #[test]
    fn the_next_packet_has_all_its_time() {
        let mut incoming = ReadBuffer::default();
        trickle(&mut incoming, 1, 1_000);
        incoming.finished();
        incoming.unload(&mut [0; 8]);
        assert_eq!(incoming.deadline(), Timestamp::NEVER);
        trickle(&mut incoming, 1, 5_000);
        assert_eq!(incoming.deadline(), Timestamp(65_000));
    }

    #[test]
    fn what_peers_without_connect_hold_is_bounded_together_pitfall_1() {
        let sum = AtomicUsize::new(0);
        let (mut one, mut two) = (ReadBuffer::default(), ReadBuffer::default());
        one.keep(&[0; 600], None, Timestamp(0), TIMEOUT);
        two.keep(&[0; 600], None, Timestamp(0), TIMEOUT);
        assert!(one.account(&sum, 1_000));
        assert!(!two.account(&sum, 1_000));
        one.release(&sum);
        two.release(&sum);
        assert_eq!(sum.load(Ordering::Acquire), 0);
    }
}
