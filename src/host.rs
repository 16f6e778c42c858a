//! The host of a broker's tasks and its clock: async-std's executor, event loops, or a simulation that controls both.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_lite::future;

use crate::runtime::{self, Clock, EventLoops};
use crate::time::Timestamp;

#[cfg(test)]
pub(crate) mod by_hand;

/// A task that a host runs to its end.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the clock on the wall of a simulation shows at its beginning, after 1970: 2030-01-01T00:00:00Z.
pub(crate) const WALL_START: Duration = Duration::from_secs(1_893_456_000);

/// A host that replaces this crate's runtime.
pub(crate) trait CustomHost: Send + Sync {
    /// Milliseconds since some moment; never backwards.
    fn now(&self) -> Timestamp;
    /// The clock on the wall, for ends that others have set.
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + WALL_START + Duration::from_millis(self.now().0)
    }
    /// Runs a task to its end.
    fn spawn(&self, task: Task);
    /// Ends after `duration`.
    fn sleep(&self, duration: Duration) -> Task;
    /// The seed of the hash keys and of assigned Client Identifiers.
    fn seed(&self) -> u64;
}

/// The host of one broker's tasks.
pub(crate) enum Host {
    /// async-std's global executor, or event loops of the broker's own for listeners and connections.
    Stock { clock: Clock, event_loops: Option<EventLoops> },
    #[cfg_attr(
        not(any(test, feature = "testing")),
        allow(dead_code, reason = "simulations alone have one")
    )]
    Custom(Arc<dyn CustomHost>),
}

impl Host {
    pub(crate) fn stock(event_loops: Option<EventLoops>) -> Host {
        Host::Stock { clock: Clock::new(), event_loops }
    }

    pub(crate) fn now(&self) -> Timestamp {
        match self {
            Host::Stock { clock, .. } => clock.now(),
            Host::Custom(host) => host.now(),
        }
    }

    /// The clock on the wall.
    pub(crate) fn wall(&self) -> SystemTime {
        match self {
            Host::Stock { .. } => SystemTime::now(),
            Host::Custom(host) => host.wall(),
        }
    }

    /// Runs the task of a listener or of a Network Connection, on an event loop if the broker has event loops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Host::Stock { event_loops: Some(loops), .. } => loops.spawn(task),
            Host::Stock { event_loops: None, .. } => runtime::spawn(task),
            Host::Custom(host) => host.spawn(Box::pin(task)),
        }
    }

    /// So many tasks, spawned one after the other, reach every event loop.
    #[cfg_attr(not(feature = "admin"), allow(dead_code, reason = "the admin listener alone asks"))]
    pub(crate) fn event_loops(&self) -> usize {
        match self {
            Host::Stock { event_loops: Some(loops), .. } => loops.len(),
            Host::Stock { event_loops: None, .. } | Host::Custom(_) => 1,
        }
    }

    /// Runs a task that handles no packets.
    pub(crate) fn spawn_aside(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Host::Stock { .. } => runtime::spawn(task),
            Host::Custom(host) => host.spawn(Box::pin(task)),
        }
    }

    /// The seed of hash keys and assigned Client Identifiers; `None` draws them at random.
    pub(crate) fn seed(&self) -> Option<u64> {
        match self {
            Host::Stock { .. } => None,
            Host::Custom(host) => Some(host.seed()),
        }
    }

    /// Waits, without holding the host.
    pub(crate) fn tick(&self, duration: Duration) -> Task {
        match self {
            Host::Stock { .. } => Box::pin(runtime::sleep(duration)),
            Host::Custom(host) => host.sleep(duration),
        }
    }

    /// Waits. Each call makes a timer: not for use once per packet.
    pub(crate) async fn sleep(&self, duration: Duration) {
        match self {
            Host::Stock { .. } => runtime::sleep(duration).await,
            Host::Custom(host) => host.sleep(duration).await,
        }
    }

    /// What `work` returns, or `None`, with the future dropped, where that takes longer than `duration`.
    /// Work that is ready when the time is over counts as in time.
    pub(crate) async fn timeout<T>(
        &self,
        duration: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let late = async {
            self.sleep(duration).await;
            None
        };
        future::or(async { Some(work.await) }, late).await
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Poll;

    use futures_lite::future::{block_on, pending, poll_once};

    use super::*;

    /// Every sleep of it ends at once when it is told to.
    #[derive(Default)]
    struct Jumping {
        late: Arc<AtomicBool>,
    }

    impl CustomHost for Jumping {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn spawn(&self, _: Task) {}

        fn sleep(&self, _: Duration) -> Task {
            Box::pin(when(self.late.clone()))
        }

        fn seed(&self) -> u64 {
            0
        }
    }

    async fn when(flag: Arc<AtomicBool>) {
        let poll = |set| if set { Poll::Ready(()) } else { Poll::Pending };
        poll_fn(|_| poll(flag.load(Ordering::Relaxed))).await;
    }

    /// The process was stopped: its task has a turn when both are ready.
    #[test]
    fn work_that_is_ready_when_the_time_is_over_counts_as_in_time() {
        let late = Arc::new(AtomicBool::new(false));
        let host = Host::Custom(Arc::new(Jumping { late: late.clone() }));
        let second = Duration::from_secs(1);
        let mut ready = Box::pin(host.timeout(second, when(late.clone())));
        let mut never = Box::pin(host.timeout(second, pending::<()>()));
        assert_eq!(block_on(poll_once(&mut ready)), None);
        assert_eq!(block_on(poll_once(&mut never)), None);
        late.store(true, Ordering::Relaxed);
        assert_eq!(block_on(poll_once(&mut ready)), Some(Some(())));
        assert_eq!(block_on(poll_once(&mut never)), Some(None));
    }
}
