//! What one Client asks, legal or hostile, is not felt by another: beside each of these packets a bystander's
//! PINGREQ is answered in time, with default limits and one event loop.
//!
//! A case that is too slow is tried again: only what is slow each time fails, not what another program did to the
//! machine meanwhile. Optimised, a bystander waits for [`BOUND`] at the most:
//! `cargo test --release --test bystander -- --nocapture` shows each case with what it took, and with `HROTTI_CASE`
//! set to a part of its name one case alone.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests fail by panicking

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hrotti::{Broker, Message};

// The helpers serve the other tests of the API, too.
#[allow(dead_code)]
#[path = "api/peer.rs"]
mod peer;
#[allow(dead_code)]
#[path = "api/raw.rs"]
mod raw;

use peer::{Peer, block_on, listen};
use raw::{Connect, packet, publish, text};

/// What a bystander waits for a PINGRESP at the most. Without optimisation everything takes some ten times as long.
const BOUND: Duration = Duration::from_millis(if cfg!(debug_assertions) { 300 } else { 20 });

/// How often a case is tried.
const TRIES: usize = 4;

/// How long a bystander continues after the last byte of a case: some work is done later.
const AFTERMATH: Duration = Duration::from_millis(100);

/// Work that is large enough to show, and in a build without optimisation takes no minutes.
const fn many(count: usize) -> usize {
    if cfg!(debug_assertions) { count / 10 } else { count }
}

struct Stage {
    broker: Broker,
    endpoint: String,
}

impl Stage {
    fn new() -> Stage {
        let broker = Broker::builder().event_loops(1).build();
        let endpoint = listen(&broker, "l");
        Stage { broker, endpoint }
    }

    fn connect(&self, id: &str) -> Peer {
        Connect::new(4, id).accepted(&self.endpoint)
    }

    /// Sends `bytes` from a Client that takes every answer, and disconnects. The server may close before.
    fn send(&self, id: &str, bytes: &[u8]) {
        self.send_from(self.connect(id), bytes);
    }

    fn send_from(&self, mut peer: Peer, bytes: &[u8]) {
        let mut answers = peer.0.try_clone().unwrap();
        answers.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while answers.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        let _closed_meanwhile = peer.0.write_all(bytes).and_then(|()| peer.0.write_all(&[0xE0, 0]));
        reader.join().unwrap();
    }

    fn retain(&self, topics: impl Iterator<Item = String>) {
        let host = self.broker.client("host").unwrap();
        for topic in topics {
            let message = Message::new(&topic, "kept").unwrap().with_retain(true);
            block_on(host.publish(message)).unwrap();
        }
    }

    /// Connected Clients that subscribe to `filter` and take what comes.
    fn readers(&self, count: usize, filter: &str) {
        for number in 0..count {
            let mut peer = self.connect(&format!("reader-{number}"));
            peer.send(&subscribe(std::iter::once(filter.to_owned())));
            let mut suback = [0; 5];
            peer.0.read_exact(&mut suback).unwrap();
            peer.0.set_read_timeout(None).unwrap();
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while peer.0.read(&mut buffer).is_ok_and(|read| read > 0) {}
            });
        }
    }
}

fn subscribe(filters: impl Iterator<Item = String>) -> Vec<u8> {
    let mut body = vec![0, 1];
    for filter in filters {
        body.extend(text(&filter));
        body.push(0);
    }
    packet(0x82, &body)
}

fn unsubscribe(filters: impl Iterator<Item = String>) -> Vec<u8> {
    let mut body = vec![0, 1];
    filters.for_each(|filter| body.extend(text(&filter)));
    packet(0xA2, &body)
}

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("filter/{number}"))
}

/// Every filter of `levels` levels of which each is `a` or `+`: all match one Topic Name.
fn overlapping(levels: u32) -> impl Iterator<Item = String> {
    (0..1_u32 << levels).map(move |choice| {
        let level = |level| if choice >> level & 1 == 1 { "+" } else { "a" };
        (0..levels).map(level).collect::<Vec<_>>().join("/")
    })
}

fn long_topic(number: usize) -> String {
    format!("{number}/{}", "x".repeat(65_000))
}

type Case = (&'static str, fn(&Stage), fn(&Stage));

const NOTHING: fn(&Stage) = |_| {};

const CASES: &[Case] = &[
    ("SUBSCRIBE of more filters than a packet may have", NOTHING, |stage| {
        let count = many(6_000_000);
        stage.send("hostile", &subscribe((0..count).map(|_| "a".to_owned())));
    }),
    ("UNSUBSCRIBE of more filters than a packet may have", NOTHING, |stage| {
        let count = many(6_000_000);
        stage.send("hostile", &unsubscribe((0..count).map(|_| "a".to_owned())));
    }),
    ("SUBSCRIBE of as many filters as a Session may have, and their end", NOTHING, |stage| {
        stage.send("hostile", &subscribe(numbered(many(100_000))));
    }),
    ("UNSUBSCRIBE of filters that nobody has", NOTHING, |stage| {
        stage.send("hostile", &unsubscribe(numbered(many(100_000))));
    }),
    ("SUBSCRIBE and UNSUBSCRIBE of the same filters", NOTHING, |stage| {
        let count = many(100_000);
        let bytes = [subscribe(numbered(count)), unsubscribe(numbered(count))].concat();
        stage.send("hostile", &bytes);
    }),
    ("a Clean Start over a Session with very many subscriptions", NOTHING, |stage| {
        let owner = Connect::new(4, "owner").persistent().accepted(&stage.endpoint);
        stage.send_from(owner, &subscribe(numbered(many(100_000))));
        stage.send("owner", &[]);
    }),
    ("filters of 200 levels", NOTHING, |stage| {
        let deep = |number| format!("{number}/{}", vec!["x"; 199].join("/"));
        stage.send("hostile", &subscribe((0..many(10_000)).map(deep)));
    }),
    (
        "long filters over long retained topics",
        |stage| stage.retain((0..500).map(long_topic)),
        |stage| {
            let filter = |number| format!("+/{}{number}", "x".repeat(64_990));
            stage.send("hostile", &subscribe((0..many(100)).map(filter)));
        },
    ),
    (
        "a replay of very many retained messages",
        |stage| stage.retain(numbered(many(50_000))),
        |stage| {
            stage.send("hostile", &subscribe(["#".to_owned(), "+/+".to_owned()].into_iter()));
        },
    ),
    (
        "a search among very many retained messages that finds none",
        |stage| {
            stage.retain(numbered(many(50_000)));
        },
        |stage| {
            let filters = (0..1_000).map(|number| format!("+/+/{number}"));
            stage.send("hostile", &subscribe(filters));
        },
    ),
    ("PUBLISH to overlapping filters", NOTHING, |stage| {
        let mut bytes = subscribe(overlapping(13));
        for number in 0..500 {
            let topic = ["a"; 13].join("/");
            // Another topic each time: no route is remembered.
            let topic = format!("{}{number}", topic.trim_end_matches('a'));
            bytes.extend(publish(4, &topic, b"x", 0, 0));
        }
        stage.send("hostile", &bytes);
    }),
    (
        "PUBLISH to many Sessions",
        |stage| stage.readers(many(400), "wide"),
        |stage| {
            let bytes: Vec<u8> = (0..1_000).flat_map(|_| publish(4, "wide", b"x", 0, 0)).collect();
            stage.send("hostile", &bytes);
        },
    ),
    (
        "a Will to many Sessions",
        |stage| stage.readers(many(400), "will"),
        |stage| {
            for number in 0..20 {
                let id = format!("hostile-{number}");
                let mut connect = Connect::new(4, &id);
                connect.will = Some(("will", "gone"));
                drop(connect.accepted(&stage.endpoint));
            }
        },
    ),
    (
        "PUBLISH to a shared subscription of many members",
        |stage| {
            stage.readers(many(400), "$share/group/shared");
        },
        |stage| {
            let bytes: Vec<u8> =
                (0..50_000).flat_map(|_| publish(4, "shared", b"x", 0, 0)).collect();
            stage.send("hostile", &bytes);
        },
    ),
    ("very many PINGREQs at once", NOTHING, |stage| {
        stage.send("hostile", &[0xC0, 0].repeat(many(2_000_000)));
    }),
    ("acknowledgements of nothing", NOTHING, |stage| {
        let bytes: Vec<u8> = (1..=u16::MAX)
            .cycle()
            .take(many(1_000_000))
            .flat_map(|id| packet(0x40, &id.to_be_bytes()))
            .collect();
        stage.send("hostile", &bytes);
    }),
    ("retained messages set and cleared", NOTHING, |stage| {
        let mut bytes = Vec::new();
        for payload in [b"x".as_slice(), b"", b"y", b""] {
            for topic in numbered(many(20_000)) {
                let mut publish = publish(4, &topic, payload, 0, 0);
                publish[0] |= 1;
                bytes.extend(publish);
            }
        }
        stage.send("hostile", &bytes);
    }),
    ("PUBLISH with the longest topics of 200 levels", NOTHING, |stage| {
        let topic = vec!["x".repeat(320); 200].join("/");
        let bytes = publish(4, &topic, b"x", 0, 0).repeat(200);
        let mut all = subscribe(std::iter::once("#".to_owned()));
        all.extend(bytes);
        stage.send("hostile", &all);
    }),
    (
        "a PUBLISH of 64 MB to several Sessions",
        |stage| stage.readers(4, "large"),
        |stage| {
            stage.send("hostile", &publish(4, "large", &vec![b'x'; many(64 << 20)], 0, 0));
        },
    ),
    ("resending all that was not acknowledged", NOTHING, |stage| {
        let mut owner = Connect::new(4, "owner").persistent().accepted(&stage.endpoint);
        let mut bytes = vec![0, 1];
        bytes.extend(text("again"));
        bytes.push(1);
        owner.send(&packet(0x82, &bytes));
        let messages: Vec<u8> =
            (1..=1_100_u16).flat_map(|id| publish(4, "again", &[b'x'; 1_000], 1, id)).collect();
        stage.send_from(owner, &messages);
        for _ in 0..10 {
            stage.send_from(Connect::new(4, "owner").persistent().accepted(&stage.endpoint), &[]);
        }
    }),
];

/// The longest that a bystander waited for a PINGRESP while `work` went on.
fn longest_wait(stage: &Stage, work: impl FnOnce()) -> Duration {
    let mut bystander = stage.connect("bystander");
    bystander.0.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    bystander.0.set_nodelay(true).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            let mut until = None;
            while until.is_none_or(|until| Instant::now() < until) {
                let asked = Instant::now();
                bystander.ping();
                longest = longest.max(asked.elapsed());
                if until.is_none() && done.load(Ordering::Acquire) {
                    until = Some(Instant::now() + AFTERMATH);
                }
            }
            longest
        });
        work();
        done.store(true, Ordering::Release);
        pings.join().unwrap()
    })
}

#[test]
fn a_bystander_is_answered_in_time_whatever_others_ask() {
    assert!(CASES.len() >= 15);
    let mut slow = Vec::new();
    let wanted = std::env::var("HROTTI_CASE").unwrap_or_default();
    for (name, prepare, hostile) in CASES.iter().filter(|(name, ..)| name.contains(&wanted)) {
        let mut waits = Vec::new();
        for _ in 0..TRIES {
            let stage = Stage::new();
            prepare(&stage);
            waits.push(longest_wait(&stage, || hostile(&stage)));
            block_on(stage.broker.stop_within(Duration::ZERO));
            if waits.last().is_some_and(|wait| *wait <= BOUND) {
                break;
            }
        }
        println!("{name}: {waits:?}");
        if waits.iter().all(|wait| *wait > BOUND) {
            slow.push(format!("{name}: {waits:?}"));
        }
    }
    assert!(slow.is_empty(), "a bystander waited for more than {BOUND:?}:\n{}", slow.join("\n"));
}
