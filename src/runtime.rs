//! The one place beside the transports and the program where async-std is named: tasks and time.
//!
//! Tasks run on async-std's global executor, which starts on first use; nothing here owns a runtime.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use crate::time::Timestamp;

#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "event loops alone have threads for computations")
)]
mod computing;
pub(crate) use computing::noting_computations;
mod contained;
pub(crate) mod memory;
pub(crate) use contained::contain;
#[cfg(target_os = "linux")]
mod event_loop;
#[cfg(not(target_os = "linux"))]
#[path = "runtime/no_event_loop.rs"]
mod event_loop;

use contained::Contained;
pub(crate) use event_loop::{EventLoops, Registered, is_event_loop};

/// Runs `future` to its end as a detached task on the global executor. A panic of the future, or of its destructor,
/// ends it and is logged.
///
/// The output is `()` so that the finished task needs no room for one. The future's own size is what a
/// task costs, plus about 150 bytes.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    drop(async_std::task::spawn(Contained::new(future))); // dropping the handle detaches the task
}

/// Carries out work that is too long for an event loop: on a thread for computations if this thread is an event loop,
/// otherwise here and at once. So a simulation has no further threads, and the global executor uses those that it has.
///
/// # Panics
/// If `work` does.
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "TLS alone computes"))]
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match event_loop::computers() {
        Some(computers) => computers.run(work).await,
        None => work(),
    }
}

/// Has this thread give way to the threads that serve connections where processors are short: its nice value becomes 10,
/// on Linux, where it is a thread's own. For threads that compute.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    // It fails if the whole process is nicer already.
    let _ = rustix::process::setpriority_process(None, 10);
}

/// Waits for `duration`. A duration beyond the range of the clock never ends.
///
/// Each call makes a timer, which wakes the reactor: not for use once per packet.
pub(crate) async fn sleep(duration: Duration) {
    async_std::task::sleep(duration).await;
}

/// What `future` returns, or `None`, with the future dropped, where that takes longer than `duration`.
/// The future is polled at least once. As with [`sleep`], not for use once per packet.
pub(crate) async fn timeout<T>(duration: Duration, future: impl Future<Output = T>) -> Option<T> {
    async_std::future::timeout(duration, future).await.ok()
}

/// Runs work that blocks on a thread of its own, and waits for it.
///
/// # Errors
/// The system gives no thread, or the work panicked.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = async_channel::bounded(1);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // It fails only if nobody waits any more.
        let _ = done.try_send(work());
    })?;
    result.recv().await.map_err(|_| io::Error::other("the work panicked"))
}

/// Where the pure rooms' [`Timestamp`]s come from: a monotonic clock that begins at 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Milliseconds since the clock began.
    pub(crate) fn now(self) -> Timestamp {
        Timestamp(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::mpsc;

    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn a_spawned_task_runs_without_its_handle() {
        let (sent, received) = mpsc::channel();
        spawn(async move {
            futures_lite::future::yield_now().await;
            sent.send(7).expect("the test waits");
        });
        assert_eq!(received.recv(), Ok(7));
    }

    /// Ends with a destructor that panics.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    /// More of them than the executor has threads, so that threads that died would show.
    #[test]
    fn a_task_that_panics_ends_alone_on_the_global_executor() {
        for _ in 0..8 {
            spawn(async { panic!("polled") });
            spawn(async {
                let _bomb = Bomb;
                futures_lite::future::yield_now().await;
            });
        }
        let (sent, received) = mpsc::channel();
        spawn(async move {
            for _ in 0..1_000 {
                futures_lite::future::yield_now().await;
            }
            sent.send(7).expect("the test waits");
        });
        assert_eq!(received.recv_timeout(Duration::from_secs(60)), Ok(7));
    }

    #[test]
    fn timeout_returns_the_output_or_gives_up() {
        assert_eq!(block_on(timeout(Duration::from_secs(3600), ready(1))), Some(1));
        assert_eq!(block_on(timeout(Duration::from_millis(1), pending::<()>())), None);
        assert_eq!(block_on(timeout(Duration::ZERO, ready(1))), Some(1));
        assert_eq!(block_on(timeout(Duration::MAX, ready(1))), Some(1));
    }

    #[test]
    fn the_clock_tells_the_time_since_it_began() {
        let Some(start) = Instant::now().checked_sub(Duration::from_millis(20)) else {
            return; // this machine has just started
        };
        let clock = Clock { start };
        let before = clock.now();
        assert!(before >= Timestamp(20));
        assert!(clock.now() >= before);
    }
}
