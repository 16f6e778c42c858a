//! Threads for computations that are too long for an event loop, such as those of a TLS handshake.
//!
//! They belong to the event loops of one broker. There are fewer of them than processors, so that computations leave
//! the loops a processor, however many peers ask for them. Computations wait in one queue; one whose result nobody
//! awaits any more is not carried out.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use async_task::Runnable;

/// The most threads, on any machine.
const THREADS_MAX: usize = 8;

thread_local! {
    /// A future that was polled on this thread waits for a computation.
    static AWAITED: Cell<bool> = const { Cell::new(false) };
}

/// The threads. They start with the first computations and end with the last value of this type. A clone is the same
/// threads.
#[derive(Clone)]
pub(super) struct Computers(Arc<Ending>);

struct Ending(Arc<Shared>);

struct Shared {
    threads_max: usize,
    state: Mutex<State>,
    /// A computation waits, or no more will come.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Runnable>,
    threads: usize,
    idle: usize,
    ended: bool,
}

/// What `poll` returns, and whether it found a computation that has not ended.
pub(crate) fn noting_computations<R>(poll: impl FnOnce() -> R) -> (R, bool) {
    let before = AWAITED.replace(false);
    let polled = poll();
    (polled, AWAITED.replace(before))
}

impl Computers {
    /// Half of the processors, at least one and at most eight threads.
    pub(super) fn of_this_machine() -> Computers {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Computers::new((processors / 2).clamp(1, THREADS_MAX))
    }

    fn new(threads_max: usize) -> Computers {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Computers(Arc::new(Ending(Arc::new(Shared { threads_max, state, changed }))))
    }

    /// Carries out `work` on one of the threads. Dropping the future takes it out of the queue.
    ///
    /// # Panics
    /// If `work` does.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let shared = self.0.0.clone();
        let (runnable, mut task) = async_task::Builder::new()
            .propagate_panic(true)
            .spawn(|()| async { work() }, move |runnable| shared.push(runnable));
        runnable.schedule();
        poll_fn(|cx| {
            let polled = Pin::new(&mut task).poll(cx);
            if polled.is_pending() {
                AWAITED.set(true);
            }
            polled
        })
        .await
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(self: &Arc<Self>, runnable: Runnable) {
        let mut state = self.lock();
        state.waiting.push_back(runnable);
        let starts = state.waiting.len() > state.idle && state.threads < self.threads_max;
        state.threads += usize::from(starts);
        drop(state);
        if !starts {
            return self.changed.notify_one();
        }
        let shared = self.clone();
        let name = "hrotti-compute".to_owned();
        if thread::Builder::new().name(name).spawn(move || shared.work()).is_err() {
            self.without_another_thread();
        }
    }

    /// The operating system gives no further thread: others carry the computations out, or this one does.
    fn without_another_thread(&self) {
        let mut state = self.lock();
        state.threads -= 1;
        let left =
            if state.threads == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        for runnable in left {
            runnable.run();
        }
    }

    /// What one thread does.
    fn work(&self) {
        super::give_way();
        let mut state = self.lock();
        loop {
            if let Some(runnable) = state.waiting.pop_front() {
                drop(state);
                runnable.run();
                // Where processors are short, an event loop goes before the next computation.
                thread::yield_now();
                state = self.lock();
            } else if state.ended {
                state.threads -= 1;
                return;
            } else {
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use futures_lite::future::block_on;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_computation_runs_on_a_thread_of_its_own_and_threads_are_bounded() {
        let computers = Computers::new(2);
        let here = thread::current().id();
        let names = (0..50).map(|_| {
            let (computers, (sent, received)) = (computers.clone(), mpsc::channel());
            thread::spawn(move || {
                let id = block_on(computers.run(|| thread::current().id()));
                sent.send(id).unwrap();
            });
            received
        });
        let ids: Vec<_> = names.map(|received| received.recv_timeout(LONG).unwrap()).collect();
        assert!(ids.iter().all(|id| *id != here));
        let distinct: std::collections::HashSet<_> = ids.into_iter().collect();
        assert!(distinct.len() <= 2, "{distinct:?}");
        assert!(computers.0.0.lock().threads <= 2);
    }

    #[test]
    fn a_panic_comes_to_the_task_that_awaits_and_the_thread_goes_on() {
        let computers = Computers::new(1);
        let panics = || block_on(computers.run(|| -> u8 { panic!("computed") }));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(block_on(computers.run(|| 7)), 7);
    }

    #[test]
    fn what_nobody_awaits_is_not_carried_out_and_waiting_is_noticed() {
        let computers = Computers::new(1);
        let (release, blocked) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        let mut first = Box::pin(computers.run(move || blocked.recv_timeout(LONG).is_ok()));
        let cx = &mut Context::from_waker(Waker::noop());
        let (polled, computes) = noting_computations(|| first.as_mut().poll(cx));
        assert!(polled.is_pending() && computes);
        assert_eq!(noting_computations(|| ()), ((), false));
        let dropped = done.clone();
        let mut second = Box::pin(computers.run(move || dropped.send("dropped").unwrap()));
        assert!(second.as_mut().poll(cx).is_pending());
        drop(second);
        let mut third = Box::pin(computers.run(move || done.send("awaited").unwrap()));
        assert!(third.as_mut().poll(cx).is_pending());
        release.send(()).unwrap();
        assert!(block_on(first));
        assert_eq!(finished.recv_timeout(LONG), Ok("awaited"));
        block_on(third);
        let (polled, computes) = noting_computations(|| Poll::Ready(7));
        assert!(polled == Poll::Ready(7) && !computes);
    }

    #[test]
    fn the_threads_end_with_the_last_handle() {
        let computers = Computers::new(1);
        assert_eq!(block_on(computers.clone().run(|| 7)), 7);
        let shared = computers.0.0.clone();
        assert_eq!(shared.lock().threads, 1);
        drop(computers);
        while shared.lock().threads > 0 {
            thread::yield_now();
        }
    }
}
