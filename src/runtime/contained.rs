//! Contains panics: a panic ends the task that panicked, not the thread that ran it, nor other tasks of that thread.

use std::any::Any;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use log::error;
use pin_project_lite::pin_project;

pin_project! {
    /// A future that ends when it panics. A panic of its destructor is caught as well, which executors do not:
    /// async-task aborts the process.
    pub(super) struct Contained<F> {
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Contained<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut future = this.project().future;
            contain("a task's destructor", || future.set(None));
        }
    }
}

impl<F> Contained<F> {
    pub(super) fn new(future: F) -> Contained<F> {
        Contained { future: Some(future) }
    }
}

impl<F: Future<Output = ()>> Future for Contained<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut future = self.project().future;
        if let Some(running) = future.as_mut().as_pin_mut()
            && contain("a task", || running.poll(cx)) == Some(Poll::Pending)
        {
            return Poll::Pending;
        }
        contain("a task's destructor", || future.set(None));
        Poll::Ready(())
    }
}

/// What `work` returns; `None`, with one line in the log, if it panics. `what` names it there.
///
/// The state that `work` leaves behind is the caller's care: either it is dropped, or it is valid between any
/// two statements.
pub(crate) fn contain<R>(what: &str, work: impl FnOnce() -> R) -> Option<R> {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // An embedder's logger and a payload's destructor may panic in turn.
            let reported = panic::catch_unwind(AssertUnwindSafe(|| report(what, payload)));
            if let Err(payload) = reported {
                std::mem::forget(payload);
            }
            None
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the payload is dropped where a panic is caught")]
fn report(what: &str, payload: Box<dyn Any + Send>) {
    error!(target: "hrotti", "{}", line(what, &*payload));
}

fn line(what: &str, payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text");
    format!("{what} panicked and was ended: {}", message.escape_debug())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::task::Waker;

    use super::*;

    /// Panics when it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    fn poll_once(future: impl Future<Output = ()>) -> Poll<()> {
        let mut contained = Box::pin(Contained::new(future));
        contained.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_panic_is_the_end_of_the_future_that_panics() {
        assert_eq!(poll_once(ready(())), Poll::Ready(()));
        assert_eq!(poll_once(pending()), Poll::Pending);
        assert_eq!(poll_once(poll_fn(|_| panic!("polled"))), Poll::Ready(()));
    }

    #[test]
    fn a_panic_of_the_destructor_is_caught_in_every_state_of_the_future() {
        drop(Contained::new(Bomb)); // never polled
        let holds = |bomb: Bomb| async move {
            let _bomb = bomb;
            pending::<()>().await;
        };
        assert_eq!(poll_once(holds(Bomb)), Poll::Pending);
        let mut bomb = Some(Bomb);
        let panics_twice = poll_fn(move |_| {
            assert!(bomb.is_none(), "polled");
            bomb.take();
            Poll::Ready(())
        });
        assert_eq!(poll_once(panics_twice), Poll::Ready(()));
    }

    #[test]
    fn a_payload_that_panics_in_turn_is_caught() {
        assert_eq!(contain("a test", || panic::panic_any(Bomb)), None::<()>);
        assert_eq!(contain("a test", || 7), Some(7));
    }

    #[test]
    fn the_line_in_the_log_has_the_message_escaped() {
        let text = panic::catch_unwind(|| panic!("a\n{}", 1)).unwrap_err();
        assert_eq!(line("a task", &*text), "a task panicked and was ended: a\\n1");
        assert_eq!(line("a task", &"b"), "a task panicked and was ended: b");
        assert_eq!(line("a task", &7), "a task panicked and was ended: a value that is no text");
    }
}
