//! A broker in a world of its own: a clock that a test turns, an executor whose order of tasks a seed chooses, and
//! connections that delay, split, stall, break and panic as a test orders or as the seed draws. (Feature `testing`.)
//!
//! A [`World`] runs everything in the calling thread: brokers, clients, and whatever else is spawned on it. No
//! thread, no socket, no wall clock and no other chance than the seed's has a part in it, so that a run with the
//! same seed is the same run, byte by byte, and an hour of Keep Alive takes no time.
//!
//! Your client runs against it if it speaks over [`futures_io`] streams and takes its time from
//! [`WorldHandle::sleep`]. Here is one that should come back when its connection breaks
//! (`examples/reconnect.rs` is a whole one):
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
//! // The first connection breaks in the middle of CONNECT, later ones do not.
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
//! The clock stands still while any task is ready. [`World::run_until_idle`] runs them and turns nothing;
//! [`World::advance`] and [`World::block_on`] turn the clock from timer to timer; [`World::jump`] turns it past
//! timers at once, as a suspended machine sees it. A broker looks at its deadlines every 250 ms.
//!
//! # Chance
//!
//! What is drawn from the seed: which of the ready tasks runs next, how bytes are split and delayed where
//! [`Faults`] allow it, the hash keys of the broker and the Client Identifiers that it assigns. A test that keeps to
//! [`Dice`] for its own choices can be replayed by its seed; [`World::fingerprint`] tells two runs apart, and
//! [`World::trace`] shows every byte.

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
use std::time::Duration;

use crate::broker::{Broker, ListenerError};
use crate::engine::access::AccessControl;
use crate::host::Host;
use crate::limits::Limits;
use crate::sync::lock;

pub use dice::Dice;
pub use executor::Sleep;
pub use faults::{Direction, Fault, Faults, Operation};
pub use link::Link;
pub use network::{ClientStream, Connector};
pub use trace::{Action, Event};

use executor::{Executor, Turn};

/// The longest that [`World::block_on`] turns the clock.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// A clock, an executor and the connections on it. It runs when one of its methods says so, in the calling thread.
///
/// Dropping it drops all its tasks; brokers of it can still be asked, and do nothing any more.
pub struct World {
    seed: u64,
    executor: Arc<Executor>,
}

/// What tasks of a [`World`] need of it: the time, a pause, further tasks. Clones are of the same world.
#[derive(Debug, Clone)]
pub struct WorldHandle {
    executor: Arc<Executor>,
}

impl World {
    /// A world of this seed, whose clock stands at 0.
    #[must_use]
    pub fn new(seed: u64) -> World {
        World { seed, executor: Executor::new(seed) }
    }

    /// The seed that it was made of.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A handle for tasks.
    #[must_use]
    pub fn handle(&self) -> WorldHandle {
        WorldHandle { executor: self.executor.clone() }
    }

    /// A broker whose tasks run here and whose time is this world's, with `limits` moved into their ranges. Its
    /// methods may be called at any time; their futures want [`World::block_on`] or a task.
    ///
    /// A listener that [`Broker::add_listener`] binds works by real sockets and real time and does not belong here.
    #[must_use]
    pub fn broker(&self, limits: Limits) -> Broker {
        let host = Host::Custom(Arc::new(self.executor.clone()));
        Broker::on(host, limits, AccessControl::default())
    }

    /// Adds a listener to a broker, and returns what dials it.
    ///
    /// # Errors
    /// [`ListenerError::NameInUse`], or [`ListenerError::Stopped`].
    pub fn listen(&self, broker: &Broker, name: &str) -> Result<Connector, ListenerError> {
        let (connector, transport) = Connector::new(&self.executor, name);
        // It waits for nothing.
        futures_lite::future::block_on(broker.add_transport(name, transport))?;
        Ok(connector)
    }

    /// How far the clock was turned.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.executor.elapsed()
    }

    /// Adds a task. It runs when the world runs. A panic in it goes on out of the method that runs the world.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Spawned<T> {
        self.handle().spawn(task)
    }

    /// Runs tasks until none is ready, and turns no clock.
    ///
    /// # Panics
    /// As [`World::advance`].
    pub fn run_until_idle(&self) {
        let _running = self.executor.enter();
        self.run_ready();
    }

    /// Lets so much time pass: runs tasks until none is ready, turns the clock to the next timer, and so on.
    ///
    /// # Panics
    /// If a task that was spawned here panics, if tasks keep each other busy while time stands still (2 000 000 turns),
    /// or if a task of this world calls it.
    pub fn advance(&self, duration: Duration) {
        let _running = self.executor.enter();
        let until = self.executor.elapsed().saturating_add(duration);
        self.run_ready();
        while self.executor.advance(until) {
            self.run_ready();
        }
    }

    /// Turns the clock at once, past timers, and runs nothing: what was due meanwhile is late. So it looks to a
    /// process that was stopped, or on a machine that was suspended.
    pub fn jump(&self, duration: Duration) {
        self.executor.jump(duration);
    }

    /// Runs a future and all tasks until the future is finished, turning the clock as far as needed.
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

    /// As [`World::block_on`], but gives up, and drops the future, when `limit` has passed.
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

    /// Tasks that have not ended, those of brokers included: one of a running broker, one of each listener and of each
    /// connection.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.executor.tasks()
    }

    /// What tasks of brokers panicked with: each ended one task. An ordered panic of a transport that the broker
    /// contains is not among them; that of a drop is.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        self.executor.panics()
    }

    /// Whether events are kept for [`World::trace`]. At first they are not.
    pub fn record(&self, on: bool) {
        self.executor.lock().trace.record(on);
    }

    /// Takes the events that were recorded since the last call.
    #[must_use]
    pub fn trace(&self) -> Vec<Event> {
        self.executor.lock().trace.take()
    }

    /// A number that everything has changed that happened so far: every byte, its time, and the order of tasks. Equal
    /// in two runs that were equal.
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

/// A task of a [`World`]: a future of its output, never finished if the world is dropped first. Dropping it lets the
/// task go on.
pub struct Spawned<T> {
    shared: Arc<Mutex<Outcome<T>>>,
}

struct Outcome<T> {
    output: Option<T>,
    waker: Option<Waker>,
}

impl<T> Spawned<T> {
    /// The output, if the task has ended and nobody has taken it yet.
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
