//! A bounded pool of threads for work that is too slow for the threads that serve connections: the hashing of
//! passwords.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use ahash::RandomState;

use self::fair_queue::{FairQueue, Offered, Path, Ticket};
use self::standing::{Asker, Standings};
use super::kept_memory;
use crate::counters::count_one;
use crate::limits::Limits;
use crate::runtime;
use crate::sync::lock;

/// How long a thread without a job keeps the memory of its last one.
const MEMORY_KEPT: Duration = Duration::from_secs(5);

mod fair_queue;
mod networks;
mod standing;
#[cfg(test)]
mod tests;

/// A bounded pool of threads for slow checks, such as those of passwords. A clone is the same pool, so that several
/// policies share its threads and its bounds.
///
/// Threads start with the first jobs and end with the last clone. Jobs wait in one queue for each address and are
/// taken in turn: an address that sends many wrong passwords waits for its own, and other addresses do not. Turns are
/// taken between wide networks first, then between the networks in each (of IPv4: 16 bits, 24 bits, the address; of IPv6:
/// 32, 48 and 64 bits), so many addresses of one network have no more turns than one.
///
/// Checks of passwords know the user name, and the pool remembers how they ended. Of 7 turns, 4 are for users who were
/// let in from the same address (of IPv6: the same 48 bits), 2 for others, and 1 for users with a wrong password from that
/// address within a minute, and, if the address has sent 8 wrong passwords, for users who were never let in from it. A
/// class without jobs gives its turns to the others. The memory is bounded, and holds keyed hashes alone.
///
/// ```
/// use hrotti::access::{HashingError, HashingPool};
///
/// let pool = HashingPool::new(1, 256);
/// let sum = futures_lite::future::block_on(pool.submit(None, || 1 + 1));
/// assert_eq!(sum, Ok(2));
/// assert_eq!(pool.counters().done, 1);
/// ```
#[derive(Clone)]
pub struct HashingPool(Arc<Handle>);

/// Ends the pool with its last clone; the threads hold `Shared` alone.
struct Handle(Arc<Shared>);

struct Shared {
    threads_max: usize,
    memory_kept: Duration,
    state: Mutex<State>,
    /// A job waits, or the pool has ended.
    changed: Condvar,
    /// Apart from `state`, because jobs hold it. It is locked while `state` is, never the other way round.
    standings: Arc<Mutex<Standings>>,
    /// Makes places in the queue of addresses and names.
    places: RandomState,
    done: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

struct State {
    queue: FairQueue<u64, Waiting>,
    threads: usize,
    idle: usize,
    ended: bool,
}

struct Waiting {
    job: Box<dyn Job>,
    class: Class,
}

/// How often a job is served.
#[derive(Clone, Copy)]
enum Class {
    Fixed(usize),
    /// As this asker has earned it by the time when it is served.
    Of(Asker),
}

impl Class {
    fn now(self, standings: &Mutex<Standings>, now: Instant) -> usize {
        match self {
            Class::Fixed(class) => class,
            Class::Of(asker) => lock(standings).class(asker, now),
        }
    }
}

/// Why a job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashingError {
    /// As many jobs wait as may, and the address has its share of them.
    Busy,
    /// The job panicked, the pool has ended, or no thread could be started.
    Failed,
}

impl fmt::Display for HashingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HashingError::Busy => "too many checks wait",
            HashingError::Failed => "the check could not be finished",
        })
    }
}

impl std::error::Error for HashingError {}

/// What a [`HashingPool`] holds now, and its jobs since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HashingCounters {
    /// Threads.
    pub threads: usize,
    /// Jobs that wait.
    pub waiting: usize,
    /// Jobs that came to a result.
    pub done: u64,
    /// Jobs that were refused because too many waited.
    pub refused: u64,
    /// Jobs that panicked, or that no thread could take.
    pub failed: u64,
}

impl HashingPool {
    /// A pool of at most `threads` threads (from 1 to 64), in which at most `waiting` jobs wait (from 1 to 1 000 000).
    /// Numbers outside are moved into the range.
    ///
    /// The threads bound the memory: a check of mosquitto's Argon2id hashes takes 46 MiB, up to 256 MiB if a hash asks
    /// for more. A thread keeps 64 MiB of it at most for its next check, wiped, and gives it back when it has had no job
    /// for 5 seconds.
    #[must_use]
    pub fn new(threads: usize, waiting: usize) -> HashingPool {
        HashingPool::keeping_memory(threads, waiting, MEMORY_KEPT)
    }

    fn keeping_memory(threads: usize, waiting: usize, memory_kept: Duration) -> HashingPool {
        let state = State {
            queue: FairQueue::new(waiting.clamp(1, 1_000_000)),
            threads: 0,
            idle: 0,
            ended: false,
        };
        HashingPool(Arc::new(Handle(Arc::new(Shared {
            threads_max: threads.clamp(1, 64),
            memory_kept,
            state: Mutex::new(state),
            changed: Condvar::new(),
            standings: Arc::new(Mutex::new(Standings::new())),
            places: RandomState::new(),
            done: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }))))
    }

    /// A pool with the bounds [`Limits::hashing_threads`] and [`Limits::hashes_waiting_max`].
    #[must_use]
    pub fn with_limits(limits: &Limits) -> HashingPool {
        HashingPool::new(limits.hashing_threads, limits.hashes_waiting_max)
    }

    /// Puts a job into the queue of this address. If the queues are full, the last job of the address with the most
    /// waiting jobs in the network with the most is refused, which may be this one; of several such, one by chance.
    ///
    /// # Cancel safety
    /// If the future is dropped before the job begins, the job is taken out; afterwards the result is dropped.
    pub fn submit<T: Send + 'static>(
        &self,
        from: Option<IpAddr>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Hashing<T> {
        self.enqueue(self.place_of(from), Class::Fixed(1), job)
    }

    /// Puts the check of a user's password into the queue of this address. `is_let_in` says how it ended, by which the
    /// next of this user and this address are served.
    #[allow(dead_code, reason = "not with all features")]
    pub(super) fn submit_check<T: Send + 'static>(
        &self,
        from: Option<IpAddr>,
        user: &str,
        job: impl FnOnce() -> T + Send + 'static,
        is_let_in: fn(&T) -> Option<bool>,
    ) -> Hashing<T> {
        let standings = self.0.0.standings.clone();
        let asker = lock(&standings).asker(from, user);
        // Noted by the job, because a peer that does not wait for its answer has failed, too.
        let noted = move || {
            let result = job();
            if let Some(is_let_in) = is_let_in(&result) {
                lock(&standings).note(asker, is_let_in, Instant::now());
            }
            result
        };
        self.enqueue(self.place_of(from), Class::Of(asker), noted)
    }

    /// Puts a job for a Client that was let in into the queue of its address, or, without one, of its user and Client
    /// Identifier. It is served as often as users who were let in.
    #[allow(dead_code, reason = "not with all features")]
    pub(super) fn submit_for_client<T: Send + 'static>(
        &self,
        from: Option<IpAddr>,
        user: &str,
        client_id: &str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Hashing<T> {
        let places = &self.0.0.places;
        let path = match from {
            Some(_) => self.place_of(from),
            None => [0, places.hash_one(user), places.hash_one((user, client_id))],
        };
        self.enqueue(path, Class::Fixed(0), job)
    }

    fn place_of(&self, from: Option<IpAddr>) -> Path<u64> {
        match from.map(networks::path) {
            Some(path) => path.map(|network| self.0.0.places.hash_one(network)),
            None => [0; 3],
        }
    }

    fn enqueue<T: Send + 'static>(
        &self,
        path: Path<u64>,
        class: Class,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Hashing<T> {
        let shared = &self.0.0;
        let promise = Promise(Arc::new(Mutex::new(Progress::Waits(None))));
        let result = promise.0.clone();
        let waiting = Waiting { job: Box::new(Work { job: Some(job), promise }), class };
        let class = class.now(&shared.standings, Instant::now());
        let (ticket, displaced, start) = {
            let mut state = lock(&shared.state);
            let (ticket, displaced) = match state.queue.push(class, path, waiting) {
                Offered::Queued(ticket) => (Some(ticket), None),
                Offered::Displaced(ticket, last) => (Some(ticket), Some(last)),
                Offered::Refused(waiting) => (None, Some(waiting)),
            };
            let start = state.queue.len() > state.idle && state.threads < shared.threads_max;
            state.threads += usize::from(start);
            (ticket, displaced, start)
        };
        if let Some(waiting) = displaced {
            count_one(&shared.refused);
            waiting.job.refuse(HashingError::Busy);
        }
        if start {
            shared.start_thread();
        } else {
            shared.changed.notify_one();
        }
        Hashing { result, place: ticket.map(|ticket| (shared.clone(), ticket)) }
    }

    /// What the pool holds now, and its jobs so far.
    #[must_use]
    pub fn counters(&self) -> HashingCounters {
        let shared = &self.0.0;
        let (threads, waiting) = {
            let state = lock(&shared.state);
            (state.threads, state.queue.len())
        };
        HashingCounters {
            threads,
            waiting,
            done: shared.done.load(Ordering::Relaxed),
            refused: shared.refused.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
        }
    }
}

impl Default for HashingPool {
    /// A pool with the bounds of [`Limits::default`]. It has no thread before its first job.
    fn default() -> HashingPool {
        HashingPool::with_limits(&Limits::default())
    }
}

impl fmt::Debug for HashingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HashingPool").field(&self.counters()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.ended = true;
        let waiting = state.queue.drain();
        drop(state);
        // Each job tells its future that it will not run.
        drop(waiting);
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// Starts a thread that is counted already.
    fn start_thread(self: &Arc<Self>) {
        let shared = self.clone();
        let builder = thread::Builder::new().name("hrotti-hashing".to_owned());
        if let Err(error) = builder.spawn(move || shared.serve()) {
            self.thread_missing(&error);
        }
    }

    /// Without any thread, no job that waits would ever run.
    fn thread_missing(&self, error: &io::Error) {
        log::warn!("a thread for hashing passwords cannot be started: {error}");
        let mut state = lock(&self.state);
        state.threads -= 1;
        let stranded = if state.threads == 0 { state.queue.drain() } else { Vec::new() };
        drop(state);
        for _ in &stranded {
            count_one(&self.failed);
        }
    }

    fn serve(&self) {
        runtime::give_way();
        kept_memory::begin();
        while let Some(job) = self.next() {
            job.run(self);
            // Where processors are short, the threads that serve connections go before the next job.
            thread::yield_now();
        }
    }

    /// Waits for a job; `None` at the end of the pool.
    fn next(&self) -> Option<Box<dyn Job>> {
        let mut state = lock(&self.state);
        loop {
            if state.ended {
                return None;
            }
            let now = Instant::now();
            let next = state.queue.pop(|waiting| waiting.class.now(&self.standings, now));
            if let Some(waiting) = next {
                return Some(waiting.job);
            }
            state.idle += 1;
            state = self.wait(state);
            state.idle -= 1;
        }
    }

    /// Waits for a change, and gives back what the last job has left if none comes for a while.
    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if !kept_memory::is_kept() {
            return self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let waited = self.changed.wait_timeout(state, self.memory_kept);
        let (state, time) = waited.unwrap_or_else(PoisonError::into_inner);
        if !time.timed_out() {
            return state;
        }
        // Without the lock: it takes long enough for others to notice.
        drop(state);
        kept_memory::give_back();
        lock(&self.state)
    }
}

trait Job: Send {
    /// Runs it, counts it, and hands over the result.
    fn run(self: Box<Self>, pool: &Shared);
    fn refuse(self: Box<Self>, error: HashingError);
}

struct Work<T, F> {
    job: Option<F>,
    promise: Promise<T>,
}

impl<T: Send, F: FnOnce() -> T + Send> Job for Work<T, F> {
    fn run(mut self: Box<Self>, pool: &Shared) {
        let Some(job) = self.job.take() else { return };
        let result = catch_unwind(AssertUnwindSafe(job)).map_err(contain);
        count_one(if result.is_ok() { &pool.done } else { &pool.failed });
        self.promise.settle(result);
    }

    fn refuse(self: Box<Self>, error: HashingError) {
        self.promise.settle(Err(error));
    }
}

/// Drops what a panic left behind, and survives a panic of its destructor.
fn contain(payload: Box<dyn Any + Send>) -> HashingError {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(std::mem::forget);
    HashingError::Failed
}

/// The place where a result is awaited.
enum Progress<T> {
    Waits(Option<Waker>),
    Ended(Result<T, HashingError>),
    Taken,
}

/// Settles a result; at the latest when it is dropped.
struct Promise<T>(Arc<Mutex<Progress<T>>>);

impl<T> Promise<T> {
    fn settle(&self, result: Result<T, HashingError>) {
        let mut progress = lock(&self.0);
        if let Progress::Waits(waker) = &mut *progress {
            let waker = waker.take();
            *progress = Progress::Ended(result);
            drop(progress);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.settle(Err(HashingError::Failed));
    }
}

/// The result of a job in a [`HashingPool`], as a future.
#[must_use = "a job whose future is dropped is taken out of the queue"]
pub struct Hashing<T> {
    result: Arc<Mutex<Progress<T>>>,
    /// The queue, and the place in it.
    place: Option<(Arc<Shared>, Ticket<u64>)>,
}

impl<T> Future for Hashing<T> {
    type Output = Result<T, HashingError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut progress = lock(&self.result);
        match std::mem::replace(&mut *progress, Progress::Taken) {
            Progress::Ended(result) => Poll::Ready(result),
            Progress::Taken => Poll::Ready(Err(HashingError::Failed)),
            Progress::Waits(_) => {
                *progress = Progress::Waits(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Hashing<T> {
    fn drop(&mut self) {
        if let Some((shared, ticket)) = self.place.take() {
            let job = lock(&shared.state).queue.remove(&ticket);
            drop(job); // with no lock held
        }
    }
}

impl<T> fmt::Debug for Hashing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing").finish_non_exhaustive()
    }
}
