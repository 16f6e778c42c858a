//! Whether a broker stands still, because its state is handed over, and what still goes on in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Held by whatever changes Sessions or retained messages outside of a Network Connection's turns.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<AtomicUsize>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whoever begins work counts first and looks then; whoever stops the broker sets the flag first and looks at the count
/// then. So one of them sees the other.
#[derive(Debug, Default)]
pub(crate) struct Standstill {
    /// Clients are disconnected, and no listener and no client in process comes in.
    closing: AtomicBool,
    /// Nothing changes any more.
    still: AtomicBool,
    at_work: Arc<AtomicUsize>,
}

impl Standstill {
    pub(crate) fn begin_work(&self) -> AtWork {
        self.at_work.fetch_add(1, Ordering::SeqCst);
        AtWork(self.at_work.clone())
    }

    /// Begins to close. `false` if that is under way.
    pub(crate) fn begin(&self) -> bool {
        !self.closing.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Lets nothing more begin.
    pub(crate) fn stand_still(&self) {
        self.still.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_still(&self) -> bool {
        self.still.load(Ordering::SeqCst)
    }

    /// Whether all that had begun is done.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.at_work.load(Ordering::SeqCst) == 0
    }

    /// Everything goes on.
    pub(crate) fn go_on(&self) {
        self.still.store(false, Ordering::SeqCst);
        self.closing.store(false, Ordering::SeqCst);
    }
}
