//! Event loops: threads of a broker's own, each with its own poller and its own tasks.
//!
//! The stock executor puts every readiness through one reactor, for which its workers contend. Here
//! a socket is registered once, edge-triggered, with the loop that also runs its task: a message costs one
//! wait, one read and one write, and a wake-up within a loop costs no system call. The same holds for sockets
//! that listen. Everything that is not a TCP socket (custom transports, timers) works here as on any executor,
//! woken from elsewhere.
//!
//! A loop is fair: between two looks at its sockets it runs a bounded number of tasks for a bounded time, and
//! those that a socket woke alternate with those that have just begun or that tasks woke, themselves among them. So a
//! peer whose packet arrives waits for a bounded number of tasks, however many are ready and however many peers
//! connect. A panic ends the task that panics.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_task::Runnable;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::computing::Computers;
use super::contained::{Contained, contain};

/// Stands for the loop's own wake-up among the tokens of sockets.
const WAKE: u64 = u64::MAX;

/// Readiness events taken at once.
const EVENTS_MAX: usize = 256;

/// Tasks that run between two looks at the sockets.
const TASKS_PER_TURN: usize = 64;

/// Tasks of one queue that run before it is the other queue's turn, and between two looks at the clock.
const PORTION: usize = 4;

/// After so long no further portion begins before the next look at the sockets, which takes less than a hundredth of it.
const TURN_TIME: Duration = Duration::from_micros(100);

/// A set of loops. Tasks are dealt out in turn. Dropping it ends the threads when they have nothing to do.
pub(crate) struct EventLoops {
    loops: Vec<Loop>,
    next: AtomicUsize,
}

/// One loop, from outside.
struct Loop {
    handle: Arc<Handle>,
    thread: JoinHandle<()>,
}

impl Loop {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let handle = self.handle.clone();
        let (runnable, task) = async_task::spawn(Contained::new(future), move |runnable| {
            handle.push(runnable);
        });
        task.detach();
        self.handle.push(runnable);
    }
}

/// How a loop is reached from other threads.
struct Handle {
    injected: Mutex<Injected>,
    /// An eventfd.
    alarm: OwnedFd,
    /// The loop waits, or is about to.
    asleep: AtomicBool,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Injected {
    tasks: Vec<Runnable>,
    /// Sockets that were dropped on other threads.
    dropped: Vec<u64>,
}

thread_local! {
    /// The loop that this thread is.
    static HERE: RefCell<Option<Rc<Here>>> = const { RefCell::new(None) };
}

/// A loop as its own thread has it.
struct Here {
    handle: Arc<Handle>,
    epoll: OwnedFd,
    computers: Computers,
    /// Tasks that a socket of this loop woke.
    by_sockets: RefCell<VecDeque<Runnable>>,
    /// Tasks that have just begun, and those that a task woke, itself or another, or another thread.
    by_tasks: RefCell<VecDeque<Runnable>>,
    /// Which of the two the next portion comes from: 0 or 1.
    next: Cell<usize>,
    /// Wakers are called because sockets are ready.
    dispatching: Cell<bool>,
    sources: RefCell<Sources>,
}

/// The sockets of a loop. A token is an index and how often it was used before.
#[derive(Default)]
struct Sources {
    slots: Vec<(u32, Option<Arc<Source>>)>,
    free: Vec<u32>,
}

/// What is known of a socket's readiness.
#[derive(Default)]
struct Source(Mutex<Readiness>);

#[derive(Default)]
struct Readiness {
    /// An edge that no task has used yet.
    readable: bool,
    writable: bool,
    /// The peer has ended its side, or the socket is broken: no further edge will come.
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A socket whose readiness a loop watches.
pub(crate) struct Registered<S> {
    socket: S,
    source: Arc<Source>,
    token: u64,
    handle: Arc<Handle>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventLoops {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The operating system gives no thread or no descriptor. The threads that were started have ended then,
    /// and their descriptors are closed.
    pub(crate) fn start(count: usize) -> io::Result<EventLoops> {
        let computers = Computers::of_this_machine();
        EventLoops::start_with(count, |number| start_one(number, &computers))
    }

    fn start_with(
        count: usize,
        mut start_one: impl FnMut(usize) -> io::Result<Loop>,
    ) -> io::Result<EventLoops> {
        let mut started = EventLoops { loops: Vec::new(), next: AtomicUsize::new(0) };
        for number in 0..count {
            match start_one(number) {
                Ok(one) => started.loops.push(one),
                Err(error) => {
                    started.stop();
                    for one in started.loops.drain(..) {
                        let _ = one.thread.join();
                    }
                    return Err(error);
                }
            }
        }
        Ok(started)
    }

    /// Runs a future on one of the loops, to its end. A panic of the future, or of its destructor, ends it and
    /// is logged.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(one) = self.loops.get(turn % self.loops.len().max(1)) {
            one.spawn(future);
        }
    }

    /// Runs a future on each of the loops.
    pub(crate) fn spawn_on_each<F: Future<Output = ()> + Send + 'static>(
        &self,
        mut future: impl FnMut() -> F,
    ) {
        for one in &self.loops {
            one.spawn(future());
        }
    }

    fn stop(&self) {
        for one in &self.loops {
            one.handle.stopped.store(true, Ordering::Release);
            one.handle.sound_alarm();
        }
    }
}

impl Drop for EventLoops {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start_one(number: usize, computers: &Computers) -> io::Result<Loop> {
    let (handle, epoll) = open()?;
    let (theirs, computers) = (handle.clone(), computers.clone());
    let thread = thread::Builder::new().name(format!("hrotti-loop-{number}")).spawn(move || {
        let here = Here::enter(theirs, epoll, computers);
        here.run();
        HERE.set(None);
    })?;
    Ok(Loop { handle, thread })
}

/// The descriptors of a loop.
fn open() -> io::Result<(Arc<Handle>, OwnedFd)> {
    let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &alarm, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?;
    let handle = Arc::new(Handle {
        injected: Mutex::default(),
        alarm,
        asleep: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
    });
    Ok((handle, epoll))
}

impl Handle {
    /// Has the loop run a task: at the end of a queue, or from another thread.
    fn push(self: &Arc<Self>, runnable: Runnable) {
        match here(self) {
            Some(here) => here.push(runnable),
            None => {
                lock(&self.injected).tasks.push(runnable);
                if self.asleep.swap(false, Ordering::SeqCst) {
                    self.sound_alarm();
                }
            }
        }
    }

    fn sound_alarm(&self) {
        // The counter cannot be full: the loop takes it down to 0 by each edge.
        let _ = rustix::io::write(&self.alarm, &1u64.to_ne_bytes());
    }
}

/// Whether this thread is an event loop.
pub(crate) fn is_event_loop() -> bool {
    HERE.try_with(|here| here.borrow().is_some()).unwrap_or(false)
}

/// The threads for computations of the loop that this thread is.
pub(super) fn computers() -> Option<Computers> {
    HERE.try_with(|here| here.borrow().as_ref().map(|here| here.computers.clone())).ok().flatten()
}

/// The loop of this thread, if `handle` belongs to it.
fn here(handle: &Arc<Handle>) -> Option<Rc<Here>> {
    let this = HERE.try_with(|here| here.borrow().clone()).ok().flatten()?;
    Arc::ptr_eq(&this.handle, handle).then_some(this)
}

impl Here {
    /// Makes this thread the loop.
    fn enter(handle: Arc<Handle>, epoll: OwnedFd, computers: Computers) -> Rc<Here> {
        let here = Rc::new(Here {
            handle,
            epoll,
            computers,
            by_sockets: RefCell::default(),
            by_tasks: RefCell::default(),
            next: Cell::new(0),
            dispatching: Cell::new(false),
            sources: RefCell::default(),
        });
        HERE.set(Some(here.clone()));
        here
    }

    fn run(&self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            self.take_injected();
            self.turn();
            if self.handle.stopped.load(Ordering::Acquire) && self.has_nothing_to_do() {
                return;
            }
            self.wait(&mut events);
        }
    }

    /// Runs tasks that are ready, until all of them had their turn or the sockets are due again. What becomes
    /// ready meanwhile comes after the next look at the sockets.
    fn turn(&self) {
        let queues = [&self.by_sockets, &self.by_tasks];
        let mut ready = queues.map(|queue| queue.borrow().len());
        let mut left = ready[0].saturating_add(ready[1]).min(TASKS_PER_TURN);
        // A few tasks cost no look at the clock.
        let end = (left > PORTION).then(|| Instant::now() + TURN_TIME);
        while left > 0 {
            let from = self.next.replace(1 - self.next.get());
            let portion = ready[from].min(PORTION).min(left);
            for _ in 0..portion {
                let next = queues[from].borrow_mut().pop_front();
                if let Some(runnable) = next {
                    runnable.run();
                }
            }
            ready[from] -= portion;
            left -= portion;
            if portion > 0 && end.is_some_and(|end| Instant::now() >= end) {
                return;
            }
        }
    }

    fn push(&self, runnable: Runnable) {
        if self.dispatching.get() {
            self.by_sockets.borrow_mut().push_back(runnable);
        } else {
            self.by_tasks.borrow_mut().push_back(runnable);
        }
    }

    fn nothing_is_ready(&self) -> bool {
        self.by_sockets.borrow().is_empty() && self.by_tasks.borrow().is_empty()
    }

    fn has_nothing_to_do(&self) -> bool {
        self.nothing_is_ready() && lock(&self.handle.injected).tasks.is_empty()
    }

    fn take_injected(&self) {
        let Injected { tasks, dropped } = std::mem::take(&mut *lock(&self.handle.injected));
        self.by_tasks.borrow_mut().extend(tasks);
        for token in dropped {
            let source = self.sources.borrow_mut().remove(token);
            contain("the destructor of a waker", || drop(source));
        }
    }

    /// Waits until a socket is ready or another thread signals the eventfd; does not wait while tasks are ready.
    fn wait(&self, events: &mut Vec<Event>) {
        events.clear();
        let idle = self.nothing_is_ready() && self.fall_asleep();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let waited = epoll::wait(&self.epoll, spare_capacity(events), (!idle).then_some(&now));
        self.handle.asleep.store(false, Ordering::SeqCst);
        if let Err(error) = waited
            && error != Errno::INTR
        {
            log::error!("an event loop cannot wait: {error}");
            thread::yield_now();
        }
        self.dispatching.set(true);
        for event in events.drain(..) {
            match event.data.u64() {
                WAKE => {}
                token => {
                    let source = self.sources.borrow().get(token);
                    if let Some(source) = source {
                        source.ready(event.flags);
                    }
                }
            }
        }
        self.dispatching.set(false);
    }

    /// `false` if something came in the moment before.
    fn fall_asleep(&self) -> bool {
        self.handle.asleep.store(true, Ordering::SeqCst);
        let injected = lock(&self.handle.injected);
        injected.tasks.is_empty() && !self.handle.stopped.load(Ordering::Acquire)
    }
}

impl Sources {
    fn insert(&mut self, source: Arc<Source>) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            // A process has fewer descriptors than 32 bits can count.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(source);
        u64::from(slot.0) << 32 | u64::from(index)
    }

    fn get(&self, token: u64) -> Option<Arc<Source>> {
        let (uses, source) = self.slots.get((token & 0xFFFF_FFFF) as usize)?;
        source.clone().filter(|_| u64::from(*uses) == token >> 32)
    }

    /// Takes a source out. The caller drops it with nothing borrowed: a waker's destructor may come back.
    fn remove(&mut self, token: u64) -> Option<Arc<Source>> {
        let index = token & 0xFFFF_FFFF;
        let (uses, place) = self.slots.get_mut(index as usize)?;
        if u64::from(*uses) != token >> 32 {
            return None;
        }
        let source = place.take()?;
        *uses = uses.wrapping_add(1);
        self.free.extend(u32::try_from(index));
        Some(source)
    }
}

impl Source {
    fn ready(&self, flags: EventFlags) {
        let (reader, writer) = {
            let mut state = lock(&self.0);
            let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            state.ended |= ended;
            let readable = ended || flags.contains(EventFlags::IN);
            state.readable |= readable;
            let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            let writable = broken || flags.contains(EventFlags::OUT);
            state.writable |= writable;
            (
                if readable { state.reader.take() } else { None },
                if writable { state.writer.take() } else { None },
            )
        };
        for waker in reader.into_iter().chain(writer) {
            contain("a waker", || waker.wake());
        }
    }
}

impl<S: AsFd> Registered<S> {
    /// Registers a socket with the loop that this thread is. Gives it back on any other thread.
    pub(crate) fn new(socket: S) -> Result<io::Result<Registered<S>>, S> {
        let Some(here) = HERE.try_with(|here| here.borrow().clone()).ok().flatten() else {
            return Err(socket);
        };
        Ok(Registered::with(&here, socket))
    }

    fn with(here: &Here, socket: S) -> io::Result<Registered<S>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let source = Arc::new(Source::default());
        let token = here.sources.borrow_mut().insert(source.clone());
        let registered = Registered { socket, source, token, handle: here.handle.clone() };
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&here.epoll, &registered.socket, EventData::new_u64(token), interest)?;
        Ok(registered)
    }
}

impl<S> Registered<S> {
    pub(crate) fn get_ref(&self) -> &S {
        &self.socket
    }

    /// Ends the watch before the socket is closed: one that has further handles would stay watched.
    pub(crate) fn unwatch(&self)
    where
        S: AsFd,
    {
        if let Some(here) = here(&self.handle) {
            let _ = epoll::delete(&here.epoll, &self.socket);
        }
    }

    /// Ready once for each edge, and always after the end. Only after a read that found no more.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.source.0);
        if std::mem::take(&mut state.readable) || state.ended {
            return Poll::Ready(());
        }
        keep_waker(&mut state.reader, cx);
        Poll::Pending
    }

    /// Ready once for each edge. Only after a write that would have blocked.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.source.0);
        if std::mem::take(&mut state.writable) {
            return Poll::Ready(());
        }
        keep_waker(&mut state.writer, cx);
        Poll::Pending
    }
}

fn keep_waker(slot: &mut Option<Waker>, cx: &mut Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

impl<S> Drop for Registered<S> {
    fn drop(&mut self) {
        match here(&self.handle) {
            Some(here) => {
                let source = here.sources.borrow_mut().remove(self.token);
                drop(source);
            }
            None => lock(&self.handle.injected).dropped.push(self.token),
        }
    }
}

#[cfg(test)]
mod tests;
