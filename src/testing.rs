//! A broker in a simulated world: a clock that a test advances, an executor whose order of tasks a seed determines,
//! and connections that delay, split, stall, break and panic on order or by the seed. (Feature `testing`.)
//!
//! A [`World`] runs brokers, clients and other tasks in the calling thread. It uses no other thread, no socket and no
//! wall clock, and the seed is its only source of randomness. So two runs with the same seed are equal byte by byte,
//! and an hour of Keep Alive takes no time.
//!
//! A client can run in it if it uses [`futures_io`] streams and takes its time from [`WorldHandle::sleep`]. This one
//! should reconnect when its connection breaks (`examples/reconnect.rs` tests a complete client):
//!
//! ```
//! use std::time::Duration;
//! use futures_lite::{AsyncReadExt, AsyncWriteExt};
//! use hrotti::testing::World;
//! use hrotti::Limits;
//!
//! const CONNECT: &[u8] = b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03dev";
//!
//! let world = World::new(1);
//! let broker = world.broker(Limits::default());
//! let connector = world.listen(&broker, "tests").unwrap();
//!
//! let (dialling, handle) = (connector.clone(), world.handle());
//! let client = world.spawn(async move {
//!     for attempt in 1.. {
//!         let mut stream = dialling.connect().unwrap();
//!         stream.write_all(CONNECT).await.unwrap();
//!         if stream.read_exact(&mut [0; 4]).await.is_ok() {
//!             return (attempt, handle.now());
//!         }
//!         handle.sleep(Duration::from_secs(5)).await;
//!     }
//!     unreachable!()
//! });
//! # use hrotti::testing::{Direction, Fault, Faults};
//! // The first connection breaks in the middle of CONNECT, the second does not.
//! let cut = Fault::CutBehind { direction: Direction::ToBroker, bytes: 7 };
//! connector.set_faults(Faults { once: vec![cut], ..Faults::default() });
//! world.run_until_idle();
//! connector.set_faults(Faults::default());
//!
//! let (attempts, at) = world.block_on(client);
//! assert_eq!((attempts, at), (2, Duration::from_secs(5)));
//! ```
//!
//! # Time
//!
//! The clock stands still while any task is ready. [`World::run_until_idle`] runs the ready tasks and leaves the clock;
//! [`World::advance`] and [`World::block_on`] move the clock from timer to timer; [`World::jump`] moves it past
//! timers at once, as after a suspension of the machine. A broker looks at its deadlines every 250 ms.
//!
//! # Randomness
//!
//! The seed determines which of the ready tasks runs next, how bytes are split and delayed if [`Faults`] allow it, the
//! hash keys of the broker, and the Client Identifiers that it assigns. A test that uses [`Dice`] for its own choices
//! can be replayed by its seed; [`World::fingerprint`] distinguishes two runs, and [`World::trace`] shows every byte.

mod dice;
mod executor;
mod faults;
mod link;
mod network;
mod trace;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use crate::broker::{Broker, BrokerBuilder, ListenerError};
use crate::host::{Host, WALL_START};
use crate::limits::Limits;
use crate::sync::lock;

pub use dice::Dice;
pub use executor::Sleep;
pub use faults::{Direction, Fault, Faults, Operation};
pub use link::Link;
pub use network::{ClientStream, Connector};
pub use trace::{Action, Event};

use executor::{Executor, Turn};

/// The longest time that [`World::block_on`] advances the clock.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// A clock, an executor and simulated connections. Tasks run only inside its methods, in the calling thread.
///
/// Dropping it drops all its tasks. Its brokers can still be read, for example their ledgers, but do nothing more.
pub struct World {
    seed: u64,
    executor: Arc<Executor>,
}

/// A handle for tasks of a [`World`]: the time, timers, and further tasks. Clones refer to the same world.
#[derive(Debug, Clone)]
pub struct WorldHandle {
    executor: Arc<Executor>,
}

impl World {
    /// Makes a world with this seed, whose clock stands at 0.
    #[must_use]
    pub fn new(seed: u64) -> World {
        World { seed, executor: Executor::new(seed) }
    }

    /// The seed of this world.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A handle for tasks.
    #[must_use]
    pub fn handle(&self) -> WorldHandle {
        WorldHandle { executor: self.executor.clone() }
    }

    /// Makes a broker whose tasks run in this world and use its clock, with `limits` moved into their ranges. Its
    /// methods may be called at any time; run their futures by [`World::block_on`] or in a task.
    ///
    /// Do not use [`Broker::add_listener`] on it: such a listener uses real sockets and real time.
    #[must_use]
    pub fn broker(&self, limits: Limits) -> Broker {
        self.build(Broker::builder().limits(limits))
    }

    /// As [`World::broker`], with everything that a builder sets except its event loops.
    #[must_use]
    pub fn build(&self, builder: BrokerBuilder) -> Broker {
        builder.build_in(Host::Custom(Arc::new(self.executor.clone())))
    }

    /// What the clock on the wall shows in this world, by which identities end: 2030-01-01T00:00:00Z at its beginning.
    #[must_use]
    pub fn wall_clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + WALL_START + self.now()
    }

    /// Adds a listener to a broker, and returns the connector that dials it.
    ///
    /// # Errors
    /// [`ListenerError::NameInUse`], or [`ListenerError::Stopped`].
    pub fn listen(&self, broker: &Broker, name: &str) -> Result<Connector, ListenerError> {
        let (connector, transport) = Connector::new(&self.executor, name);
        // The future is ready at its first poll.
        futures_lite::future::block_on(broker.add_transport(name, transport))?;
        Ok(connector)
    }

    /// How far the clock was turned.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.executor.elapsed()
    }

    /// Adds a task, which runs when the world runs. A panic of the task propagates out of the method that runs the
    /// world.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Spawned<T> {
        self.handle().spawn(task)
    }

    /// Runs tasks until none is ready, and leaves the clock as it is.
    ///
    /// # Panics
    /// As [`World::advance`].
    pub fn run_until_idle(&self) {
        let _running = self.executor.enter();
        self.run_ready();
    }

    /// Advances the clock by `duration`: runs tasks until none is ready, moves the clock to the next timer, and repeats.
    ///
    /// # Panics
    /// If a task of [`World::spawn`] panics, if tasks stay ready for 2 000 000 turns while time stands still, or if a
    /// task of this world calls it.
    pub fn advance(&self, duration: Duration) {
        let _running = self.executor.enter();
        let until = self.executor.elapsed().saturating_add(duration);
        self.run_ready();
        while self.executor.advance(until) {
            self.run_ready();
        }
    }

    /// Moves the clock past timers at once and runs no task, so that timers in between fire late, as in a process that
    /// was stopped or on a machine that was suspended.
    pub fn jump(&self, duration: Duration) {
        self.executor.jump(duration);
    }

    /// Runs a future and all tasks until the future is finished, and advances the clock as far as needed.
    ///
    /// # Panics
    /// If 24 hours of the world's time do not finish it, and as [`World::advance`].
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let until = self.now().saturating_add(PATIENCE);
        let done = self.run_within(until, future);
        assert!(done.is_some(), "the future is not finished in 24 hours of the world's time");
        match done {
            Some(output) => output,
            None => unreachable!("asserted"),
        }
    }

    /// As [`World::block_on`], but drops the future and returns `None` when `limit` has passed on the world's clock.
    ///
    /// # Panics
    /// As [`World::advance`].
    pub fn timeout<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        self.run_within(self.now().saturating_add(limit), future)
    }

    fn run_within<T>(&self, until: Duration, future: impl Future<Output = T>) -> Option<T> {
        let running = self.executor.enter();
        let mut future = pin!(future);
        let mut cx = Context::from_waker(&running.waker);
        running.waker.wake_by_ref();
        loop {
            match self.executor.turn() {
                Turn::Ran => {}
                Turn::Main => {
                    if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                        return Some(output);
                    }
                }
                Turn::Idle => {
                    if !self.executor.advance(until) {
                        return None;
                    }
                }
            }
        }
    }

    fn run_ready(&self) {
        while !matches!(self.executor.turn(), Turn::Idle) {}
    }

    /// Ends when the clock has been turned so far.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.handle().sleep(duration)
    }

    /// The number of tasks that have not ended, including those of brokers: one for each running broker, each listener
    /// and each connection.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.executor.tasks()
    }

    /// The messages of panics that ended a broker's task. A panic of a transport that was ordered by a [`Fault`] is not
    /// among them, because the broker contains it, except a panic of the transport's drop.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        self.executor.panics()
    }

    /// Turns the recording of events for [`World::trace`] on or off. It is off at first.
    pub fn record(&self, on: bool) {
        self.executor.lock().trace.record(on);
    }

    /// Takes the events that were recorded since the last call.
    #[must_use]
    pub fn trace(&self) -> Vec<Event> {
        self.executor.lock().trace.take()
    }

    /// A hash of everything that has happened so far: every byte, its time, and the order of tasks. Two equal runs have
    /// the same fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.executor.lock().trace.fingerprint()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.executor.close();
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).field("now", &self.now()).finish()
    }
}

impl WorldHandle {
    /// How far the clock was turned.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.executor.elapsed()
    }

    /// Ends when the clock has been turned so far.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(&self.executor, duration)
    }

    /// Adds a task, as [`World::spawn`].
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Spawned<T> {
        let shared = Arc::new(Mutex::new(Outcome { output: None, waker: None }));
        let outcome = shared.clone();
        let task = async move {
            let output = task.await;
            let mut outcome = lock(&outcome);
            outcome.output = Some(output);
            let waker = outcome.waker.take();
            drop(outcome);
            waker.into_iter().for_each(Waker::wake);
        };
        self.executor.add(Box::pin(task), false);
        Spawned { shared }
    }
}

/// A future of the output of a task of a [`World`]. It never finishes if the world is dropped first. Dropping it does
/// not end the task.
pub struct Spawned<T> {
    shared: Arc<Mutex<Outcome<T>>>,
}

struct Outcome<T> {
    output: Option<T>,
    waker: Option<Waker>,
}

impl<T> Spawned<T> {
    /// The output, if the task has ended and the output was not taken yet.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        lock(&self.shared).output.take()
    }
}

impl<T> Future for Spawned<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut outcome = lock(&self.shared);
        match outcome.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                outcome.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Spawned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned").finish_non_exhaustive()
    }
}
