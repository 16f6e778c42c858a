//! The pause of an accept loop while its broker hands its state over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use atomic_waker::AtomicWaker;

/// Keeps the accept loop from accepting.
#[derive(Default)]
pub(super) struct Pause {
    set: AtomicBool,
    /// The accept loop.
    waker: AtomicWaker,
}

impl Pause {
    pub(super) fn set(&self, set: bool) {
        self.set.store(set, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    pub(super) async fn until(&self, set: bool) {
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.is_set() == set { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
