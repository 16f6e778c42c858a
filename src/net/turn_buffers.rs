//! Buffers that a worker thread lends to the Network Connection that has its turn, so that idle ones own none.

use std::cell::Cell;

use crate::engine::batch::Batch;
use crate::session::outgoing::Outgoing;

/// The most bytes that one read takes from a connection with large packets. Connections with small packets are read
/// in smaller portions, so that other tasks wait less for their turns; memory that is never touched costs nothing.
const READ_BYTES: usize = 256 * 1024;

/// The buffers of one turn.
pub(super) struct TurnBuffers {
    pub(super) read: Vec<u8>,
    pub(super) out: Outgoing,
    pub(super) batch: Batch,
}

thread_local! {
    static LENT: Cell<Option<Box<TurnBuffers>>> = const { Cell::new(None) };
}

impl TurnBuffers {
    /// The buffers of this thread, or new ones if those are lent.
    pub(super) fn borrow() -> Box<TurnBuffers> {
        LENT.take().unwrap_or_else(|| {
            Box::new(TurnBuffers {
                read: vec![0; READ_BYTES],
                out: Outgoing::default(),
                batch: Batch::default(),
            })
        })
    }

    pub(super) fn give_back(self: Box<TurnBuffers>) {
        LENT.set(Some(self));
    }
}
