//! The pool with jobs that the tests hold and release, and its queue against a model.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use futures_lite::future::{block_on, poll_once};
use proptest::prelude::*;

use super::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn address(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

/// Keeps a thread of the pool busy until the sender is dropped.
fn occupy(pool: &HashingPool) -> (Sender<()>, Hashing<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let job = pool.submit(None, move || {
        let _ = begun.send(());
        let _ = released.recv();
    });
    has_begun.recv_timeout(LONG).expect("the job begins");
    (release, job)
}

/// A job that says its name when it runs.
fn named(
    pool: &HashingPool,
    from: Option<IpAddr>,
    said: &Sender<&'static str>,
    name: &'static str,
) -> Hashing<()> {
    let said = said.clone();
    pool.submit(from, move || {
        let _ = said.send(name);
    })
}

fn all(said: &Receiver<&'static str>) -> Vec<&'static str> {
    said.iter().collect()
}

#[test]
fn a_pool_without_jobs_has_no_threads_and_one_with_many_no_more_than_it_may() {
    let pool = HashingPool::new(2, 10);
    assert_eq!(pool.counters(), HashingCounters::default());
    let (first, second) = (occupy(&pool), occupy(&pool));
    let (said, hear) = mpsc::channel();
    let third = named(&pool, None, &said, "third");
    let counters = pool.counters();
    assert_eq!((counters.threads, counters.waiting, counters.done), (2, 1, 0));
    drop((first.0, second.0));
    for job in [first.1, second.1, third] {
        assert_eq!(block_on(job), Ok(()));
    }
    drop(said);
    assert_eq!(all(&hear), ["third"]);
    let counters = pool.counters();
    assert_eq!((counters.threads, counters.waiting), (2, 0));
}

#[test]
fn one_address_that_floods_the_pool_waits_for_itself_alone() {
    let pool = HashingPool::new(1, 10);
    let (release, busy) = occupy(&pool);
    let (said, hear) = mpsc::channel();
    let mut jobs: Vec<_> =
        ["a1", "a2", "a3", "a4"].map(|name| named(&pool, address(1), &said, name)).into();
    jobs.push(named(&pool, address(2), &said, "b1"));
    jobs.push(named(&pool, address(3), &said, "c1"));
    drop((said, release));
    assert_eq!(all(&hear), ["a1", "b1", "c1", "a2", "a3", "a4"]);
    drop((jobs, busy));
}

#[test]
fn a_full_pool_refuses_the_address_that_filled_it_and_counts() {
    let pool = HashingPool::new(1, 3);
    let (release, busy) = occupy(&pool);
    let (said, hear) = mpsc::channel();
    let a: Vec<_> = ["a1", "a2", "a3"].map(|name| named(&pool, address(1), &said, name)).into();
    let refused = named(&pool, address(1), &said, "a4");
    assert_eq!(block_on(refused), Err(HashingError::Busy));
    let b = named(&pool, address(2), &said, "b1");
    let counters = pool.counters();
    assert_eq!((counters.waiting, counters.refused), (3, 2), "b1 took the place of a3");
    drop((said, release));
    assert_eq!(all(&hear), ["a1", "b1", "a2"]);
    let results: Vec<_> = a.into_iter().map(block_on).collect();
    assert_eq!(results, [Ok(()), Ok(()), Err(HashingError::Busy)]);
    assert_eq!(block_on(b), Ok(()));
    drop(busy);
}

#[test]
fn addresses_of_one_ipv6_network_are_one() {
    let parse = |text: &str| network(Some(text.parse().expect("an address")));
    assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:ffff:ffff:ffff"));
    assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
    assert_eq!(parse("::ffff:192.0.2.1"), address(1));
    assert_ne!(address(1), address(2));
}

/// Pitfall 13.
#[test]
fn a_panic_ends_its_job_and_no_thread_pitfall_13() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("in the destructor"));
        }
    }
    let pool = HashingPool::new(1, 3);
    let panicking = pool.submit(None, || std::panic::resume_unwind(Box::new("for a test")));
    assert_eq!(block_on::<Result<(), _>>(panicking), Err(HashingError::Failed));
    let twice = pool.submit(None, || std::panic::resume_unwind(Box::new(Bomb)));
    assert_eq!(block_on::<Result<(), _>>(twice), Err(HashingError::Failed));
    assert_eq!(block_on(pool.submit(None, || 7)), Ok(7));
    let counters = pool.counters();
    assert_eq!((counters.threads, counters.failed, counters.done), (1, 2, 1));
}

#[test]
fn a_job_whose_future_is_dropped_never_begins() {
    let pool = HashingPool::new(1, 3);
    let (release, busy) = occupy(&pool);
    let (said, hear) = mpsc::channel();
    let (one, two) = (named(&pool, None, &said, "one"), named(&pool, None, &said, "two"));
    let mut one = Box::pin(one);
    assert_eq!(block_on(poll_once(&mut one)), None);
    drop(one);
    assert_eq!(pool.counters().waiting, 1);
    drop((said, release));
    assert_eq!(all(&hear), ["two"]);
    assert_eq!(block_on(two), Ok(()));
    drop(busy);
}

#[test]
fn the_end_of_the_pool_ends_its_threads_and_its_jobs() {
    thread_local! {
        static ALIVE: std::cell::RefCell<Option<Sender<()>>> = const { std::cell::RefCell::new(None) };
    }
    let pool = HashingPool::new(1, 3);
    let (alive, dead) = mpsc::channel();
    let marked = pool.submit(None, move || ALIVE.set(Some(alive)));
    assert_eq!(block_on(marked), Ok(()));
    let (release, busy) = occupy(&pool);
    let waiting = pool.submit(None, || ());
    drop(pool.clone());
    assert_eq!(pool.counters().waiting, 1, "a clone does not end it");
    drop(pool);
    assert_eq!(block_on(waiting), Err(HashingError::Failed));
    drop(release);
    assert_eq!(block_on(busy), Ok(()), "a job that runs is finished");
    assert_eq!(dead.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
}

proptest! {
    /// Against a list that is searched from the beginning.
    #[test]
    fn the_queue_is_bounded_and_fair(
        len_max in 1..8_usize,
        // Push from a source, pop (4), or take out a push of before (5 and above).
        steps in prop::collection::vec((0..8_u8, any::<prop::sample::Index>()), 0..200),
    ) {
        let mut queue = FairQueue::new(len_max);
        let mut tickets = Vec::new();
        let mut model: Vec<(u8, usize)> = Vec::new();
        let mut turns: Vec<u8> = Vec::new();
        for (number, (step, index)) in steps.into_iter().enumerate() {
            let count = |model: &[(u8, usize)], source| model.iter().filter(|(of, _)| *of == source).count();
            match step {
                0..=3 => match queue.push(step, number) {
                    Offered::Queued(ticket) => {
                        prop_assert!(model.len() < len_max);
                        model.push((step, number));
                        tickets.push((ticket, number));
                    }
                    Offered::Displaced(ticket, last) => {
                        prop_assert_eq!(model.len(), len_max);
                        let at = model.iter().position(|(_, item)| *item == last).expect("it waited");
                        let from = model[at].0;
                        prop_assert!((0..4).all(|source| count(&model, source) <= count(&model, from)));
                        prop_assert!(count(&model, from) >= count(&model, step) + 2);
                        prop_assert!(model[at + 1..].iter().all(|(source, _)| *source != from));
                        model.remove(at);
                        model.push((step, number));
                        tickets.push((ticket, number));
                    }
                    Offered::Refused(item) => {
                        prop_assert_eq!((item, model.len()), (number, len_max));
                        prop_assert!((0..4).all(|source| count(&model, source) < count(&model, step) + 2));
                    }
                },
                4 => {
                    turns.retain(|source| count(&model, *source) > 0);
                    let next = turns.first().map(|source| {
                        model.iter().position(|(of, _)| of == source).expect("it waits")
                    });
                    let expected = next.map(|at| model.remove(at));
                    prop_assert_eq!(queue.pop(), expected.map(|(_, item)| item));
                    if let Some((source, _)) = expected {
                        turns.remove(0);
                        turns.push(source);
                    }
                }
                _ if tickets.is_empty() => {}
                _ => {
                    let (ticket, item) = &tickets[index.index(tickets.len())];
                    let at = model.iter().position(|(_, waiting)| waiting == item);
                    prop_assert_eq!(queue.remove(ticket), at.map(|at| model.remove(at).1));
                }
            }
            turns.retain(|source| count(&model, *source) > 0);
            let missing = model.iter().map(|(source, _)| *source).find(|source| !turns.contains(source));
            turns.extend(missing);
            prop_assert_eq!(queue.len(), model.len());
        }
        let mut left: HashMap<usize, u8> = model.iter().map(|(source, item)| (*item, *source)).collect();
        for item in queue.drain() {
            prop_assert!(left.remove(&item).is_some());
        }
        prop_assert!(left.is_empty() && queue.pop().is_none());
    }
}
