//! Event loops: threads of a broker's own, each with its own poller and its own tasks.
//!
//! The stock executor puts every readiness through one reactor that its workers share and fight over. Here
//! a socket is registered once, edge-triggered, with the loop that also runs its task: a message costs one
//! wait, one read and one write, and a wake-up within a loop costs no system call. The same holds for sockets
//! that listen. Everything that is not a TCP socket (custom transports, timers) works here as on any executor,
//! woken from elsewhere.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use async_task::Runnable;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// Stands for the loop's own wake-up among the tokens of sockets.
const WAKE: u64 = u64::MAX;

/// Readiness events taken at once.
const EVENTS_MAX: usize = 256;

/// A set of loops. Tasks are dealt out in turn. Dropping it ends the threads when they have nothing to do.
pub(crate) struct EventLoops {
    handles: Vec<Arc<Handle>>,
    next: AtomicUsize,
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
    ready: RefCell<VecDeque<Runnable>>,
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
    /// An edge that nobody has made use of yet.
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
    /// The operating system gives no thread or no descriptor.
    pub(crate) fn start(count: usize) -> io::Result<EventLoops> {
        let handles = (0..count).map(start_one).collect::<io::Result<_>>()?;
        Ok(EventLoops { handles, next: AtomicUsize::new(0) })
    }

    /// Runs a future on one of the loops, to its end.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(handle) = self.handles.get(turn % self.handles.len().max(1)).cloned() else {
            return;
        };
        let (runnable, task) = async_task::spawn(future, move |runnable| handle.push(runnable));
        task.detach();
        runnable.schedule();
    }
}

impl Drop for EventLoops {
    fn drop(&mut self) {
        for handle in &self.handles {
            handle.stopped.store(true, Ordering::Release);
            handle.sound_alarm();
        }
    }
}

fn start_one(number: usize) -> io::Result<Arc<Handle>> {
    let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &alarm, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?;
    let handle = Arc::new(Handle {
        injected: Mutex::default(),
        alarm,
        asleep: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
    });
    let theirs = handle.clone();
    thread::Builder::new().name(format!("hrotti-loop-{number}")).spawn(move || {
        let here = Rc::new(Here {
            handle: theirs,
            epoll,
            ready: RefCell::default(),
            sources: RefCell::default(),
        });
        HERE.set(Some(here.clone()));
        here.run();
        HERE.set(None);
    })?;
    Ok(handle)
}

impl Handle {
    /// Has the loop run a task: at the end of its queue, or from another thread.
    fn push(self: &Arc<Self>, runnable: Runnable) {
        match here(self) {
            Some(here) => here.ready.borrow_mut().push_back(runnable),
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

/// The loop of this thread, if it is the one of `handle`.
fn here(handle: &Arc<Handle>) -> Option<Rc<Here>> {
    let this = HERE.try_with(|here| here.borrow().clone()).ok().flatten()?;
    Arc::ptr_eq(&this.handle, handle).then_some(this)
}

impl Here {
    fn run(&self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            self.take_injected();
            // What becomes ready meanwhile comes after the next look at the sockets.
            let turn = self.ready.borrow().len();
            for _ in 0..turn {
                let next = self.ready.borrow_mut().pop_front();
                if let Some(runnable) = next {
                    runnable.run();
                }
            }
            if self.handle.stopped.load(Ordering::Acquire) && self.has_nothing_to_do() {
                return;
            }
            self.wait(&mut events);
        }
    }

    fn has_nothing_to_do(&self) -> bool {
        self.ready.borrow().is_empty() && lock(&self.handle.injected).tasks.is_empty()
    }

    fn take_injected(&self) {
        let (mut tasks, dropped) = {
            let mut injected = lock(&self.handle.injected);
            (std::mem::take(&mut injected.tasks), std::mem::take(&mut injected.dropped))
        };
        self.ready.borrow_mut().extend(tasks.drain(..));
        for token in dropped {
            self.sources.borrow_mut().remove(token);
        }
    }

    /// Waits until a socket is ready or somebody sounds the alarm; not at all while tasks are ready.
    fn wait(&self, events: &mut Vec<Event>) {
        events.clear();
        let idle = self.ready.borrow().is_empty() && self.fall_asleep();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let waited = epoll::wait(&self.epoll, spare_capacity(events), (!idle).then_some(&now));
        self.handle.asleep.store(false, Ordering::SeqCst);
        if let Err(error) = waited
            && error != Errno::INTR
        {
            log::error!("an event loop cannot wait: {error}");
            thread::yield_now();
        }
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

    fn remove(&mut self, token: u64) {
        let index = token & 0xFFFF_FFFF;
        if let Some((uses, source)) = self.slots.get_mut(index as usize)
            && u64::from(*uses) == token >> 32
            && source.take().is_some()
        {
            *uses = uses.wrapping_add(1);
            self.free.extend(u32::try_from(index));
        }
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
        reader.into_iter().chain(writer).for_each(Waker::wake);
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

    pub(crate) fn get_ref(&self) -> &S {
        &self.socket
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
            Some(here) => here.sources.borrow_mut().remove(self.token),
            None => lock(&self.handle.injected).dropped.push(self.token),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// Runs a future on a loop and returns what it sends.
    fn run<T: Send + 'static>(
        loops: &EventLoops,
        future: impl Future<Output = T> + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (sent, received) = mpsc::channel();
        loops.spawn(async move {
            let _ = sent.send(future.await);
        });
        received
    }

    fn register(socket: TcpStream) -> Registered<TcpStream> {
        let Ok(registered) = Registered::new(socket) else { panic!("on a loop") };
        registered.unwrap()
    }

    /// Reads as a transport does: tries, and waits for an edge when there is no more.
    async fn read_to_end(socket: &Registered<TcpStream>) -> Vec<u8> {
        let (mut all, mut buf) = (Vec::new(), [0; 4]);
        loop {
            match socket.get_ref().read(&mut buf) {
                Ok(0) => return all,
                Ok(n) => {
                    all.extend_from_slice(&buf[..n]);
                    if n < buf.len() {
                        poll_fn(|cx| socket.poll_readable(cx)).await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| socket.poll_readable(cx)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn every_byte_and_the_end_are_seen() {
        let loops = EventLoops::start(2).unwrap();
        for pieces in [vec![0, 1, 2, 3, 4, 5], vec![4, 4, 1], vec![]] {
            let (mut near, far) = pair();
            let all = run(&loops, async move { read_to_end(&register(far)).await });
            let total: usize = pieces.iter().sum();
            for piece in pieces {
                near.write_all(&vec![7; piece]).unwrap();
            }
            drop(near);
            assert_eq!(all.recv_timeout(SOON).unwrap(), vec![7; total]);
        }
    }

    #[test]
    fn bytes_and_the_end_that_come_as_one_edge_are_both_seen() {
        let loops = EventLoops::start(1).unwrap();
        let (mut near, far) = pair();
        near.write_all(b"abc").unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        let all = run(&loops, async move { read_to_end(&register(far)).await });
        assert_eq!(all.recv_timeout(SOON).unwrap(), b"abc");
    }

    #[test]
    fn a_writer_goes_on_when_the_peer_has_read() {
        const BYTES: usize = 8 * 1024 * 1024;
        let loops = EventLoops::start(1).unwrap();
        let (mut near, far) = pair();
        let done = run(&loops, async move {
            let (socket, mut left) = (register(far), BYTES);
            let mut waits = 0;
            while left > 0 {
                match socket.get_ref().write(&[1; 65_536][..left.min(65_536)]) {
                    Ok(n) => left -= n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        waits += 1;
                        poll_fn(|cx| socket.poll_writable(cx)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            waits
        });
        let mut all = Vec::new();
        near.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), BYTES);
        assert!(done.recv_timeout(SOON).unwrap() > 0, "the test is to see it wait");
    }

    #[test]
    fn a_task_is_woken_from_another_thread_and_by_itself() {
        let loops = EventLoops::start(1).unwrap();
        let (hand, waker) = mpsc::channel::<Waker>();
        let mut polls = 0;
        let done = run(&loops, async move {
            poll_fn(move |cx| {
                polls += 1;
                match polls {
                    1 => hand.send(cx.waker().clone()).unwrap(),
                    2 => cx.waker().wake_by_ref(),
                    _ => return Poll::Ready(polls),
                }
                Poll::Pending
            })
            .await
        });
        waker.recv_timeout(SOON).unwrap().wake();
        assert_eq!(done.recv_timeout(SOON).unwrap(), 3);
    }

    #[test]
    fn a_socket_dropped_elsewhere_is_forgotten_and_its_token_not_mistaken() {
        let loops = EventLoops::start(1).unwrap();
        let (_near, far) = pair();
        let socket = run(&loops, async move { register(far) }).recv_timeout(SOON).unwrap();
        let old = socket.token;
        drop(socket);
        let (_near, far) = pair();
        let (new, (known, places)) = run(&loops, async move {
            // Forgotten at the latest when the loop looks at what was injected, as it did for this task.
            let socket = register(far);
            let here = here(&socket.handle).expect("on its loop");
            let known =
                (here.sources.borrow().get(old).is_some(), here.sources.borrow().slots.len());
            drop(here);
            (socket, known)
        })
        .recv_timeout(SOON)
        .unwrap();
        assert_ne!(new.token, old);
        assert!(!known);
        assert_eq!(places, 1, "the place is used again");
    }

    #[test]
    fn a_thread_that_is_no_loop_gets_its_socket_back() {
        assert!(Registered::new(pair().0).is_err());
    }
}
