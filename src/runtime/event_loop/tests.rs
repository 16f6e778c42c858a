//! Event loops against real sockets, and single turns of a loop that the test drives itself.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
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
        let known = (here.sources.borrow().get(old).is_some(), here.sources.borrow().slots.len());
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

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// Wakes itself `times` times before it ends, or for ever, and counts its polls.
async fn busy(times: usize, polls: Arc<AtomicUsize>) {
    let mut left = times;
    poll_fn(|cx| {
        polls.fetch_add(1, Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(());
        }
        left = left.saturating_sub(1);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn a_task_that_panics_ends_alone() {
    let loops = EventLoops::start(1).unwrap();
    let (mut near, far) = pair();
    let healthy = run(&loops, async move { read_to_end(&register(far)).await });
    near.write_all(b"before").unwrap();
    loops.spawn(async { panic!("polled") });
    let panics_late = run::<()>(&loops, async {
        busy(3, Arc::default()).await;
        panic!("polled late");
    });
    assert!(panics_late.recv_timeout(SOON).is_err(), "it sends nothing");
    let bomb = run(&loops, async { drop(Bomb) });
    assert!(bomb.recv_timeout(SOON).is_err());
    near.write_all(b" and after").unwrap();
    drop(near);
    assert_eq!(healthy.recv_timeout(SOON).unwrap(), b"before and after");
}

#[test]
fn a_task_whose_destructor_panics_ends_alone() {
    let loops = EventLoops::start(1).unwrap();
    let (polled, waker) = mpsc::channel();
    let (dropped, seen) = mpsc::channel::<()>();
    loops.spawn(async move {
        let _dropped = dropped;
        let _bomb = Bomb;
        poll_fn(|cx| {
            polled.send(cx.waker().clone()).unwrap();
            Poll::<()>::Pending
        })
        .await;
    });
    let waker = waker.recv_timeout(SOON).unwrap();
    // The poll has ended when the next task runs. With the last of its wakers a task is dropped, by its loop.
    assert_eq!(run(&loops, async { 7 }).recv_timeout(SOON), Ok(7));
    drop(waker);
    assert_eq!(seen.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
    let healthy = run(&loops, async { 7 });
    assert_eq!(healthy.recv_timeout(SOON), Ok(7));
}

#[test]
fn a_waker_that_panics_ends_nothing() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("woken");
        }
    }
    let loops = EventLoops::start(1).unwrap();
    let ((mut near, far), (mut other, others)) = (pair(), pair());
    let (registered, ready) = mpsc::channel();
    loops.spawn(async move {
        let socket = register(far);
        poll_fn(|own| {
            // An embedder's stream may hand its own waker to the socket below it.
            let waker = Waker::from(Arc::new(Panics));
            let mut cx = Context::from_waker(&waker);
            while socket.poll_readable(&mut cx).is_ready() {}
            registered.send(own.waker().clone()).unwrap();
            Poll::<()>::Pending
        })
        .await;
    });
    let _keeps_the_task = ready.recv_timeout(SOON).unwrap();
    let all = run(&loops, async move { read_to_end(&register(others)).await });
    near.write_all(b"panics").unwrap();
    other.write_all(b"is served").unwrap();
    drop(other);
    assert_eq!(all.recv_timeout(SOON).unwrap(), b"is served");
}

#[test]
fn loops_that_were_started_end_when_a_later_one_cannot_be() {
    let mut started = Vec::new();
    let computers = Computers::of_this_machine();
    let refused = EventLoops::start_with(5, |number| {
        if number == 3 {
            return Err(Errno::MFILE.into());
        }
        let one = start_one(number, &computers)?;
        started.push(Arc::downgrade(&one.handle));
        Ok(one)
    });
    let Err(error) = refused else { panic!("the fourth is refused") };
    assert_eq!(error.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
    assert_eq!(started.len(), 3);
    // Only a thread that has ended has let go of its handle, and of its poller with it.
    assert!(started.iter().all(|handle| handle.upgrade().is_none()));
}

/// A loop that this thread is, for tests that count turns. Its tasks go to the loop directly.
struct Driven {
    here: Rc<Here>,
    loops: EventLoops,
}

impl Driven {
    fn new() -> Driven {
        let (handle, epoll) = open().unwrap();
        let one = Loop { handle: handle.clone(), thread: thread::spawn(|| {}) };
        let loops = EventLoops { loops: vec![one], next: AtomicUsize::new(0) };
        Driven { here: Here::enter(handle, epoll, Computers::of_this_machine()), loops }
    }

    /// What [`Here::run`] repeats.
    fn turn(&self) {
        self.here.take_injected();
        self.here.turn();
        self.here.wait(&mut Vec::with_capacity(EVENTS_MAX));
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// With few ready tasks a loop looks at its sockets as often as if it ran all of them in each turn.
#[test]
fn a_few_ready_tasks_all_run_in_one_turn() {
    let driven = Driven::new();
    let polls = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 * PORTION {
        driven.loops.spawn(busy(usize::MAX, polls.clone()));
    }
    for turn in 1..=3 {
        driven.here.turn();
        assert!(polls.load(Ordering::Relaxed) <= turn * 2 * PORTION);
    }
    // Where the machine takes the thread's processor away, a turn may end early.
    assert!(polls.load(Ordering::Relaxed) >= 3 * PORTION);
}

#[test]
fn a_turn_is_bounded_and_nobody_starves_however_many_tasks_are_ready() {
    const TASKS: usize = 4_000;
    let driven = Driven::new();
    let each: Vec<_> = (0..TASKS).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    for polls in &each {
        driven.loops.spawn(busy(usize::MAX, polls.clone()));
    }
    let polls = || each.iter().map(|polls| polls.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let bounded_turn = || {
        let before: usize = polls().iter().sum();
        driven.turn();
        let polled = polls().iter().sum::<usize>() - before;
        assert!((1..=TASKS_PER_TURN).contains(&polled), "{polled}");
    };
    // Those that begin and those that wake themselves have their turns in one order.
    while polls().iter().any(|&polls| polls < 3) {
        bounded_turn();
        let polls = polls();
        let (least, most) = (polls.iter().min(), polls.iter().max());
        assert!(least.zip(most).is_some_and(|(l, m)| m - l <= 1), "{least:?} {most:?}");
    }
}

/// The packet arrives during the poll of one of 10 000 tasks that wake themselves, before 500 that have just begun.
#[test]
fn a_socket_that_becomes_readable_waits_for_a_bounded_number_of_tasks() {
    const TASKS: usize = 10_000;
    let driven = Driven::new();
    let polls = Arc::new(AtomicUsize::new(0));
    for _ in 0..TASKS {
        driven.loops.spawn(busy(usize::MAX, polls.clone()));
    }
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let (polled, counted) = (polls.clone(), answered.clone());
    driven.loops.spawn(async move {
        let Ok(socket) = Registered::new(far) else { panic!("on a loop") };
        let (socket, mut buf) = (socket.unwrap(), [0; 8]);
        loop {
            match socket.get_ref().read(&mut buf) {
                Ok(read) if read > 0 => {
                    counted.store(polled.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                _ => poll_fn(|cx| socket.poll_readable(cx)).await,
            }
        }
    });
    while polls.load(Ordering::Relaxed) < 2 * TASKS {
        driven.turn();
    }
    for _ in 0..20 {
        let asked = Arc::new(AtomicUsize::new(0));
        let (mut peer, polled, noted) = (near.try_clone().unwrap(), polls.clone(), asked.clone());
        driven.loops.spawn(async move {
            noted.store(polled.load(Ordering::Relaxed), Ordering::Relaxed);
            peer.write_all(b"ping").unwrap();
        });
        for _ in 0..500 {
            driven.loops.spawn(busy(1, polls.clone()));
        }
        answered.store(0, Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) == 0 {
            driven.turn();
        }
        let waited = answered.load(Ordering::Relaxed) - asked.load(Ordering::Relaxed);
        // The rest of the turn in which it arrives, and the portions before it in the next.
        assert!(waited <= TASKS_PER_TURN + 2 * PORTION, "{waited} tasks were polled before it");
    }
}

#[test]
fn each_loop_runs_its_own_and_a_stuck_one_does_not() {
    let loops = EventLoops::start(3).unwrap();
    let (ran, seen) = mpsc::channel();
    let name = || thread::current().name().map(str::to_owned);
    let on_each = |loops: &EventLoops| {
        let ran = ran.clone();
        loops.spawn_on_each(move || {
            let ran = ran.clone();
            async move { ran.send(name()).unwrap() }
        });
    };
    on_each(&loops);
    let mut names: Vec<_> =
        (0..3).map(|_| seen.recv_timeout(SOON).unwrap().expect("a name")).collect();
    names.sort();
    assert_eq!(names, ["hrotti-loop-0", "hrotti-loop-1", "hrotti-loop-2"]);

    let (release, held) = mpsc::channel::<()>();
    let (began, has_begun) = mpsc::channel();
    loops.spawn(async move {
        began.send(()).unwrap();
        let _ = held.recv();
    });
    has_begun.recv_timeout(SOON).unwrap();
    on_each(&loops);
    let others: Vec<_> = (0..2).map(|_| seen.recv_timeout(SOON).unwrap()).collect();
    assert!(!others.contains(&Some("hrotti-loop-0".to_owned())), "{others:?}");
    assert!(seen.try_recv().is_err());
    drop(release);
    assert_eq!(seen.recv_timeout(SOON).unwrap().as_deref(), Some("hrotti-loop-0"));
}

/// The loop goes on with other tasks while one of its tasks awaits a computation.
#[test]
fn a_computation_runs_beside_the_loop_that_asks_for_it() {
    let loops = EventLoops::start(1).unwrap();
    let (release, blocked) = mpsc::channel::<()>();
    let computed = run(&loops, async move {
        let here = thread::current().id();
        let work = move || (blocked.recv_timeout(SOON).is_ok(), thread::current().id());
        let (released, there) = crate::runtime::compute(work).await;
        assert_eq!(here, thread::current().id(), "the result comes to the loop");
        released && there != here
    });
    let other = run(&loops, async move { release.send(()) });
    assert!(other.recv_timeout(SOON).unwrap().is_ok());
    assert!(computed.recv_timeout(SOON).unwrap());
}

#[test]
fn a_thread_that_is_no_loop_computes_by_itself() {
    let here = thread::current().id();
    let work = || thread::current().id();
    assert_eq!(futures_lite::future::block_on(crate::runtime::compute(work)), here);
}
