//! For tests: a host whose time stands still unless it is set, and whose tasks run only when they are asked to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use super::{CustomHost, Task};
use crate::sync::lock;
use crate::time::Timestamp;

#[derive(Default)]
pub(crate) struct ByHand {
    now: AtomicU64,
    tasks: Mutex<Vec<Task>>,
}

impl CustomHost for ByHand {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn spawn(&self, task: Task) {
        lock(&self.tasks).push(task);
    }

    fn sleep(&self, _: Duration) -> Task {
        Box::pin(std::future::pending())
    }

    fn seed(&self) -> u64 {
        1
    }
}

impl ByHand {
    /// Lets time pass, in seconds.
    pub(crate) fn pass(&self, secs: u64) {
        self.now.fetch_add(secs * 1_000, Ordering::Relaxed);
    }

    /// Runs every task to its end, and says how many turns that took.
    pub(crate) fn run(&self) -> usize {
        let mut turns = 0;
        loop {
            let Some(mut task) = lock(&self.tasks).pop() else { return turns };
            let mut cx = Context::from_waker(Waker::noop());
            turns += 1;
            while task.as_mut().poll(&mut cx).is_pending() {
                turns += 1;
            }
        }
    }
}
