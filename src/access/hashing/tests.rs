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
fn addresses_of_one_network_share_its_part_of_the_path() {
    let path = |text: &str| networks::path(text.parse().expect("an address"));
    let site = |text: &str| networks::site(text.parse().expect("an address"));
    for (one, other, common) in [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", 3),
        ("2001:db8::1", "2001:db8:0:1::1", 2),
        ("2001:db8::1", "2001:db8:1::1", 1),
        ("2001:db8::1", "2001:db9::1", 0),
        ("::ffff:192.0.2.1", "192.0.2.1", 3),
        ("192.0.2.1", "192.0.2.2", 2),
        ("192.0.2.1", "192.0.3.1", 1),
        ("192.0.2.1", "192.1.2.1", 0),
    ] {
        let same = path(one).iter().zip(path(other)).filter(|(one, other)| **one == *other).count();
        assert_eq!(same, common, "{one} {other}");
    }
    assert_eq!(site("2001:db8:0:1::1"), site("2001:db8:0:2::1"));
    assert_ne!(site("192.0.2.1"), site("192.0.2.2"));
}

/// Whoever has one IPv6 address has as many networks of 64 bits as the queue has places.
#[test]
fn many_networks_of_one_owner_lock_nobody_out_pitfall_20() {
    let pool = HashingPool::new(1, 256);
    let (release, busy) = occupy(&pool);
    let (said, hear) = mpsc::channel();
    let flood = |low: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, low, 0, 0, 0, 1]));
    let jobs: Vec<_> = (0..300).map(|low| named(&pool, flood(low), &said, "flood")).collect();
    let healthy = named(&pool, address(1), &said, "healthy");
    let neighbour =
        named(&pool, Some(IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, 1])), &said, "neighbour");
    assert_eq!((pool.counters().waiting, pool.counters().refused), (256, 46));
    drop((said, release));
    let all = all(&hear);
    assert!(all[..3].contains(&"healthy") && all[..4].contains(&"neighbour"), "{:?}", &all[..6]);
    assert_eq!((block_on(healthy), block_on(neighbour)), (Ok(()), Ok(())));
    drop((jobs, busy));
}

/// A flood without anything in common cannot be told from others, so chance decides.
#[test]
fn a_queue_full_of_strangers_lets_a_newcomer_in_by_chance() {
    let mut queue = FairQueue::new(64);
    let number = |path: u32| [path, 0, 0];
    for stranger in 0..64 {
        assert!(matches!(queue.push(1, number(stranger), stranger), Offered::Queued(_)));
    }
    let newcomers = (64..164).filter(|newcomer| {
        let offered = queue.push(1, number(*newcomer), *newcomer);
        assert_eq!(queue.len(), 64);
        matches!(offered, Offered::Displaced(..))
    });
    assert!(newcomers.count() >= 90, "each of 65 goes with the same chance");
}

/// A check of a password, which says its name when it runs.
fn check(
    pool: &HashingPool,
    user: &str,
    said: &Sender<&'static str>,
    (name, right): (&'static str, bool),
) -> Hashing<bool> {
    let said = said.clone();
    let job = move || {
        let _ = said.send(name);
        right
    };
    pool.submit_check(address(1), user, job, |right| Some(*right))
}

#[test]
fn a_healthy_client_passes_the_guesses_of_its_own_address() {
    let pool = HashingPool::new(1, 256);
    let (said, hear) = mpsc::channel();
    for user in ["u0", "u1", "u2", "u3"] {
        assert_eq!(block_on(check(&pool, user, &said, ("guess", false))), Ok(false));
    }
    let (release, busy) = occupy(&pool);
    let guesses: Vec<_> = (0..64)
        .map(|number| check(&pool, &format!("u{}", number % 4), &said, ("guess", false)))
        .collect();
    let healthy = check(&pool, "healthy", &said, ("healthy", true));
    drop((said, release));
    let all = all(&hear);
    assert!(all[4..6].contains(&"healthy"), "{:?}", &all[4..12]);
    assert_eq!(block_on(healthy), Ok(true));
    drop((guesses, busy));
}

#[test]
fn guesses_that_wait_sink_as_soon_as_one_of_them_fails() {
    let pool = HashingPool::new(1, 256);
    let (said, hear) = mpsc::channel();
    let (release, busy) = occupy(&pool);
    let guesses: Vec<_> = (0..64).map(|_| check(&pool, "u", &said, ("guess", false))).collect();
    let healthy = check(&pool, "healthy", &said, ("healthy", true));
    drop((said, release));
    let all = all(&hear);
    assert!(all[..3].contains(&"healthy"), "{:?}", &all[..8]);
    assert_eq!((all.len(), block_on(healthy)), (65, Ok(true)));
    drop((guesses, busy));
}

#[test]
fn a_user_who_was_let_in_passes_a_flood_of_names_from_its_own_address() {
    let pool = HashingPool::new(1, 64);
    let (said, hear) = mpsc::channel();
    assert_eq!(block_on(check(&pool, "healthy", &said, ("healthy", true))), Ok(true));
    let (release, busy) = occupy(&pool);
    let strangers: Vec<_> = (0..100)
        .map(|number| check(&pool, &format!("stranger {number}"), &said, ("stranger", false)))
        .collect();
    let healthy = check(&pool, "healthy", &said, ("healthy", true));
    drop((said, release));
    let all = all(&hear);
    assert!(all[1..3].contains(&"healthy"), "{:?}", &all[..8]);
    assert_eq!(block_on(healthy), Ok(true));
    drop((strangers, busy));
}

#[test]
fn a_client_without_an_address_waits_for_its_own_questions_alone() {
    let pool = HashingPool::new(1, 10);
    let (release, busy) = occupy(&pool);
    let (said, hear) = mpsc::channel();
    let ask = |user: &str, client_id: &str, name: &'static str| {
        let said = said.clone();
        pool.submit_for_client(None, user, client_id, move || {
            let _ = said.send(name);
        })
    };
    let mut jobs: Vec<_> = (0..20).map(|_| ask("mallory", "m", "flood")).collect();
    jobs.push(ask("mallory", "n", "other client"));
    jobs.push(ask("ann", "a", "other user"));
    drop((said, release));
    let all = all(&hear);
    assert_eq!(all.len(), 10);
    assert!(all[..2].contains(&"other user") && all[..3].contains(&"other client"), "{all:?}");
    drop((jobs, busy));
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

/// All items in one list, which is searched from the beginning.
#[derive(Default)]
struct Model {
    items: Vec<(usize, Path<u8>, usize)>,
    /// When a class and the beginning of a path was served last, or got its first item.
    stamps: HashMap<(usize, Vec<u8>), usize>,
    clock: usize,
    served: usize,
}

impl Model {
    fn below(&self, class: usize, prefix: &[u8]) -> usize {
        let is_below =
            |(of, path, _): &&(usize, Path<u8>, usize)| *of == class && path.starts_with(prefix);
        self.items.iter().filter(is_below).count()
    }

    fn prefixes(class: usize, path: &Path<u8>) -> impl Iterator<Item = (usize, Vec<u8>)> {
        (1..=3).map(move |length| (class, path[..length].to_vec()))
    }

    fn push(&mut self, class: usize, path: Path<u8>, item: usize) {
        self.clock += 1;
        for prefix in Model::prefixes(class, &path) {
            self.stamps.entry(prefix).or_insert(self.clock);
        }
        self.items.push((class, path, item));
    }

    fn remove(&mut self, item: usize) -> Option<(usize, Path<u8>)> {
        let at = self.items.iter().position(|(_, _, waiting)| *waiting == item)?;
        let (class, path, _) = self.items.remove(at);
        for prefix in Model::prefixes(class, &path) {
            if self.below(class, &prefix.1) == 0 {
                self.stamps.remove(&prefix);
            }
        }
        Some((class, path))
    }

    fn next_of(&mut self, class: usize) -> usize {
        let mut prefix = Vec::new();
        self.clock += 1;
        for _ in 0..3 {
            let children = self.stamps.iter().filter(|((of, path), _)| {
                *of == class && path.len() == prefix.len() + 1 && path.starts_with(&prefix)
            });
            let ((_, oldest), _) = children.min_by_key(|(_, stamp)| **stamp).expect("it has items");
            prefix = oldest.clone();
            self.stamps.insert((class, prefix.clone()), self.clock);
        }
        let of_source =
            |(of, path, _): &&(usize, Path<u8>, usize)| *of == class && path[..] == prefix[..];
        self.items.iter().find(of_source).expect("it has items").2
    }

    /// `class_now` says where an item belongs by now.
    fn pop(&mut self, class_now: impl Fn(usize) -> usize) -> Option<usize> {
        loop {
            let due = fair_queue::TURNS[self.served % 7];
            let class = [due, 0, 1, 2].into_iter().find(|class| self.below(*class, &[]) > 0)?;
            let item = self.next_of(class);
            let (_, path) = self.remove(item)?;
            if class_now(item) <= class {
                self.served += 1;
                return Some(item);
            }
            self.push(class_now(item), path, item);
        }
    }

    /// Whether an item of this class and path is among those that may have to go when another comes.
    fn is_most_crowded(&self, class: usize, path: &Path<u8>, new: (usize, &Path<u8>)) -> bool {
        let count = |class: usize, prefix: &[u8]| {
            self.below(class, prefix) + usize::from(class == new.0 && new.1.starts_with(prefix))
        };
        let part = |class: usize| count(class, &[]) * [1, 2, 4][class];
        let all = || self.items.iter().map(|(class, path, _)| (*class, path)).chain([new]);
        (0..3).all(|other| part(other) <= part(class))
            && (1..=3).all(|length| {
                let siblings = all().filter(|(of, other)| {
                    *of == class && other[..length - 1] == path[..length - 1]
                });
                let most = siblings.map(|(of, other)| count(of, &other[..length])).max();
                most == Some(count(class, &path[..length]))
            })
    }
}

proptest! {
    /// Against a list that is searched from the beginning.
    #[test]
    fn the_queue_is_bounded_and_fair(
        len_max in 1..12_usize,
        // Push with a class and a path, pop (3), or take out a push of before (4).
        steps in prop::collection::vec(
            (0..5_u8, [0..3_u8, 0..2_u8, 0..2_u8], any::<prop::sample::Index>()), 0..200
        ),
        sinks in prop::collection::vec(0..3_usize, 200),
    ) {
        let mut queue = FairQueue::new(len_max);
        let mut tickets = Vec::new();
        let mut model = Model::default();
        for (number, (step, path, index)) in steps.into_iter().enumerate() {
            let class = usize::from(step);
            match step {
                0..=2 => match queue.push(class, path, number) {
                    Offered::Queued(ticket) => {
                        prop_assert!(model.items.len() < len_max);
                        model.push(class, path, number);
                        tickets.push((ticket, number));
                    }
                    Offered::Displaced(ticket, last) => {
                        prop_assert_eq!(model.items.len(), len_max);
                        let whole = model.items.iter().find(|(_, _, item)| *item == last);
                        let (of, source, _) = *whole.expect("it waited");
                        prop_assert!(model.is_most_crowded(of, &source, (class, &path)));
                        let last_of_source = model.items.iter().rev().find(|(one, two, _)| (*one, *two) == (of, source));
                        prop_assert_eq!(last_of_source.map(|(_, _, item)| *item), Some(last));
                        model.remove(last);
                        model.push(class, path, number);
                        tickets.push((ticket, number));
                    }
                    Offered::Refused(item) => {
                        prop_assert_eq!((item, model.items.len()), (number, len_max));
                        prop_assert!(model.is_most_crowded(class, &path, (class, &path)));
                    }
                },
                3 => {
                    prop_assert_eq!(queue.pop(|item| sinks[*item]), model.pop(|item| sinks[item]));
                }
                _ if tickets.is_empty() => {}
                _ => {
                    let (ticket, item) = &tickets[index.index(tickets.len())];
                    let expected = model.remove(*item).map(|_| *item);
                    prop_assert_eq!(queue.remove(ticket), expected);
                }
            }
            prop_assert_eq!(queue.len(), model.items.len());
        }
        let mut left: Vec<usize> = queue.drain();
        left.sort_unstable();
        let mut expected: Vec<usize> = model.items.iter().map(|(_, _, item)| *item).collect();
        expected.sort_unstable();
        prop_assert_eq!(left, expected);
        prop_assert!(queue.pop(|_| 0).is_none() && queue.len() == 0);
    }
}

#[test]
fn what_a_job_keeps_is_for_the_next_one_and_is_given_back_when_none_comes() {
    struct Memory(Sender<()>);
    impl Drop for Memory {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (gives, given_back) = mpsc::channel();
    let memory = Memory(gives);
    let pool = HashingPool::keeping_memory(1, 9, Duration::from_secs(3_600));
    block_on(pool.submit(None, move || kept_memory::keep(memory))).unwrap();
    let kept = block_on(pool.submit(None, kept_memory::take::<Memory>)).unwrap().unwrap();
    assert!(given_back.try_recv().is_err());

    let pool = HashingPool::keeping_memory(1, 9, Duration::from_millis(1));
    block_on(pool.submit(None, move || kept_memory::keep(kept))).unwrap();
    given_back.recv_timeout(LONG).unwrap();
    assert_eq!(block_on(pool.submit(None, kept_memory::is_kept)), Ok(false));
    assert_eq!(pool.counters().threads, 1, "the thread stays");
}
