//! Memory that a worker thread lends to whichever Network Connection has its turn: an idle one owns none.

use std::cell::Cell;

use crate::engine::batch::Batch;
use crate::session::outgoing::Outgoing;

/// What one read can take from a connection with large packets, in bytes. Others are read in smaller
/// portions, so that nobody waits long for their turn; memory that is never touched costs nothing.
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
    /// The thread's own, or a new one if that is lent already.
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
