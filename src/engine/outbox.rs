//! The one protocol by which bytes leave a Session: begin a batch under the lock, write it with no lock held,
//! and end it under the lock. The owner of the Network Connection and publishers use it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use super::send_context::Sending;
use super::session_cell::{CellState, SessionCell};
use crate::session::outgoing::{Outgoing, Sent};
use crate::time::Timestamp;
use crate::traffic::Moved;

/// Batches that one inline flush writes before it leaves the rest to the owner.
const INLINE_BATCHES_MAX: usize = 4;

/// The steps that a write costs beside its bytes.
const WRITE_STEPS: usize = 16;

/// The task that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The task of the Network Connection with this epoch.
    Owner(u64),
    /// Any other task.
    Publisher,
}

/// The outcome of writing one batch.
#[derive(Debug)]
pub(crate) enum Written {
    /// There was nothing to write, or another task is writing and will write the rest.
    Nothing,
    /// A search in the retained messages paused: there is more to do in a later turn.
    Paused,
    /// The transport took bytes. `more`: there is more to write at once.
    Some {
        more: bool,
    },
    /// The transport takes no more; the owner continues when it does.
    Blocked,
    Broken(io::Error),
}

/// Writes one batch: the bytes that the transport did not take before, then `protocol`, then messages.
pub(crate) fn write_batch(
    cell: &SessionCell,
    writer: Writer,
    now: Timestamp,
    out: &mut Outgoing,
    protocol: &mut Vec<u8>,
    sending: &mut Sending<'_>,
    write: impl FnOnce(&Outgoing) -> Poll<io::Result<usize>>,
) -> Written {
    let began = {
        let mut state = cell.lock();
        match writer {
            // Taken over: the order to close has been sent to this task.
            Writer::Owner(epoch) if state.session.epoch() != epoch => return Written::Nothing,
            Writer::Owner(_) if state.session.is_broken() => {
                return Written::Broken(io::Error::other("a publisher could not write the stream"));
            }
            Writer::Owner(_) => state.session.set_blocked(false),
            // The owner waits for the transport and will write.
            Writer::Publisher if state.session.is_blocked() => return Written::Nothing,
            Writer::Publisher => {}
        }
        let (session, mut asking) = state.sending(sending);
        session.begin_batch(now, out, protocol, &mut asking)
    };
    let Some(epoch) = began else { return Written::Nothing };
    if out.is_empty() {
        let more = cell.lock().session.end_batch(epoch, out, 0);
        return if more { Written::Paused } else { Written::Nothing };
    }
    sending.budget.spend(WRITE_STEPS);
    // A transport that panics is broken; the batch is ended in any case, because other tasks wait for its end.
    let written = catch_unwind(AssertUnwindSafe(|| write(out)));
    let written = written.unwrap_or_else(|_| Poll::Ready(Err(transport_panicked())));
    if let Poll::Ready(Ok(bytes @ 1..)) = written {
        let Sent { packets, payload_bytes } = out.sent_by(bytes);
        sending.traffic.sent(&Moved { packets, payload_bytes, bytes: bytes as u64 });
    }
    let mut state = cell.lock();
    let len = out.len();
    match written {
        Poll::Ready(Ok(bytes)) if bytes > 0 => {
            sending.budget.spend_bytes(bytes);
            let more = state.session.end_batch(epoch, out, bytes);
            if bytes < len && writer == Writer::Publisher {
                state.leave_to_owner(epoch);
                return Written::Blocked;
            }
            Written::Some { more }
        }
        Poll::Ready(result) => {
            state.session.end_batch(epoch, out, 0);
            // It is not known how many bytes left before a panic: no byte may follow them.
            if state.session.epoch() == epoch {
                state.session.set_broken();
            }
            state.leave_to_owner(epoch);
            Written::Broken(result.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()))
        }
        Poll::Pending => {
            state.session.end_batch(epoch, out, 0);
            match writer {
                Writer::Owner(_) => state.session.set_blocked(true),
                Writer::Publisher => state.leave_to_owner(epoch),
            }
            Written::Blocked
        }
    }
}

/// The I/O error of a transport that panicked.
pub(crate) fn transport_panicked() -> io::Error {
    io::Error::other("the transport panicked")
}

impl CellState {
    /// Leaves the rest of a batch to the owner and wakes it.
    fn leave_to_owner(&mut self, epoch: u64) {
        if self.session.epoch() == epoch {
            self.session.set_blocked(true);
            self.wake();
        }
    }
}

/// Writes waiting bytes from the caller's task, or wakes the owner. Never waits for a peer.
pub(crate) fn flush_or_wake(
    cell: &SessionCell,
    now: Timestamp,
    out: &mut Outgoing,
    sending: &mut Sending<'_>,
) {
    let inline = {
        let state = cell.lock();
        let inline = state.link.as_ref().and_then(|link| link.inline.clone());
        match inline {
            Some(inline) => inline,
            None => return state.wake(),
        }
    };
    for _ in 0..INLINE_BATCHES_MAX {
        let write = |out: &Outgoing| match out.with_slices(|slices| inline.try_write(slices)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            written => Poll::Ready(written),
        };
        let mut none = Vec::new();
        match write_batch(cell, Writer::Publisher, now, out, &mut none, sending, write) {
            Written::Some { more: true } if !sending.budget.is_spent() => {}
            Written::Some { more: true } | Written::Paused => break,
            Written::Nothing
            | Written::Some { more: false }
            | Written::Blocked
            | Written::Broken(_) => return,
        }
    }
    cell.lock().wake();
}

/// As [`flush_or_wake`], but waits for the present writer first, because a full queue has to mean that the peer is
/// slow.
pub(crate) fn make_room(
    cell: &SessionCell,
    now: Timestamp,
    out: &mut Outgoing,
    sending: &mut Sending<'_>,
) {
    drop(cell.lock_between_writes());
    flush_or_wake(cell, now, out, sending);
}
