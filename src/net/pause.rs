//! A pause of the accept loops of a listener, while the broker hands its state over.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use crate::sync::lock;

/// Keeps the accept loops of a listener from accepting. There are two of them for a moment, while transports are exchanged.
#[derive(Default)]
pub(super) struct Pause {
    set: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Pause {
    pub(super) fn set(&self, set: bool) {
        self.set.store(set, Ordering::SeqCst);
        std::mem::take(&mut *lock(&self.waiting)).into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Waits until it is set, or not.
    pub(super) async fn until(&self, set: bool) {
        std::future::poll_fn(|cx| {
            let mut waiting = lock(&self.waiting);
            // Under the lock, so that a change comes before the look or finds the waker.
            if self.is_set() == set {
                return Poll::Ready(());
            }
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_change_wakes_every_loop_that_waits_and_each_once() {
        let (pause, loops) = (Pause::default(), [0; 2].map(|_| Arc::new(Woken::default())));
        let mut waits: Vec<_> = loops.iter().map(|_| Box::pin(pause.until(true))).collect();
        for (wait, woken) in waits.iter_mut().zip(&loops) {
            let waker = Waker::from(woken.clone());
            for _ in 0..3 {
                assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        pause.set(true);
        for (wait, woken) in waits.iter_mut().zip(&loops) {
            assert_eq!(woken.0.load(Ordering::SeqCst), 1);
            let waker = Waker::from(woken.clone());
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        }
    }
}
