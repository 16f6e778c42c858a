//! A process takes over from another one: under load, and when either ends in the middle.
#![cfg(all(target_os = "linux", feature = "program"))]
#![allow(clippy::unwrap_used, clippy::panic)] // tests fail by panicking

#[path = "handover/client.rs"]
mod client;
#[path = "handover/failures.rs"]
mod failures;
#[path = "handover/process.rs"]
mod process;
#[path = "handover/server.rs"]
mod server;

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::{Client, ack, id_of, publish, subscribe};
use process::{PATIENCE, Place, Program};

const HAND_OVERS: usize = 10;

/// The subscriber that is away at every hand-over.
const LAZY: usize = 3;

/// Messages of a publisher that are not acknowledged.
const WINDOW: usize = 8;

/// What the threads of the load share.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    /// One subscriber is to be away, and is.
    send_away: AtomicBool,
    is_away: AtomicBool,
    acknowledged: [AtomicU64; 4],
    storm: AtomicUsize,
    refused: AtomicUsize,
}

/// A message that is not acknowledged. `released`: PUBREC came.
struct Sent {
    id: u16,
    number: u64,
    released: bool,
}

/// Publishes numbers in turn until the load is over, and returns how many were acknowledged: all.
fn publisher(load: &Load, index: usize, mut client: Client) -> u64 {
    let (qos, topic) = (1 + u8::try_from(index % 2).unwrap(), format!("load/{index}"));
    let (mut sent, mut next) = (VecDeque::<Sent>::new(), 0_u64);
    loop {
        let (_, fresh) = client.wire();
        if fresh {
            for again in &sent {
                let packet = if again.released {
                    ack(0x62, again.id)
                } else {
                    publish(&topic, &again.number.to_be_bytes(), qos, again.id, true)
                };
                client.send(&packet);
            }
        }
        while sent.len() < WINDOW && !load.over.load(Ordering::SeqCst) {
            let id = u16::try_from(next % 60_000).unwrap() + 1;
            client.send(&publish(&topic, &next.to_be_bytes(), qos, id, false));
            sent.push_back(Sent { id, number: next, released: false });
            next += 1;
        }
        if sent.is_empty() {
            load.refused.fetch_add(client.refused, Ordering::SeqCst);
            return next;
        }
        let Some((first, body)) = client.packet(Duration::from_secs(5)) else { continue };
        let place = sent.iter().position(|sent| sent.id == id_of(&body));
        match (first >> 4, place) {
            (4 | 7, Some(place)) => {
                sent.remove(place);
                load.acknowledged[index].fetch_add(1, Ordering::SeqCst);
            }
            (5, Some(place)) => {
                sent[place].released = true;
                client.send(&ack(0x62, id_of(&body)));
            }
            _ => {}
        }
    }
}

/// What a subscriber has received of one topic, in order.
type Received = HashMap<String, Vec<u64>>;

/// Receives until it has the last number of every topic. One that is `lazy` is away when it is told to.
fn subscriber(
    load: &Load,
    mut client: Client,
    lazy: bool,
    wanted: &[AtomicU64; 4],
) -> (Received, usize) {
    let mut received = Received::new();
    let until = Instant::now() + 3 * PATIENCE;
    loop {
        assert!(Instant::now() < until, "messages are missing");
        if lazy && load.send_away.load(Ordering::SeqCst) {
            client.hang_up();
            load.is_away.store(true, Ordering::SeqCst);
            wait_for("the subscriber is away", || !load.send_away.load(Ordering::SeqCst));
            load.is_away.store(false, Ordering::SeqCst);
        }
        if let Some((topic, payload)) = client.message(Duration::from_millis(500)) {
            let number = u64::from_be_bytes(payload.try_into().unwrap());
            received.entry(topic).or_default().push(number);
        }
        let has = |index: usize| {
            let wanted = wanted[index].load(Ordering::SeqCst);
            let of = received.get(&format!("load/{index}"));
            wanted > 0 && of.is_some_and(|of| of.contains(&(wanted - 1)))
        };
        if load.over.load(Ordering::SeqCst) && (0..4).all(has) {
            load.refused.fetch_add(client.refused, Ordering::SeqCst);
            return (received, client.told_to_go);
        }
    }
}

/// Connects and hangs up, again and again.
fn storm(load: &Load, addresses: [SocketAddr; 2]) {
    while !load.over.load(Ordering::SeqCst) {
        for address in addresses {
            match TcpStream::connect(address) {
                Ok(_) => drop(load.storm.fetch_add(1, Ordering::SeqCst)),
                Err(error) => {
                    let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
                    load.refused.fetch_add(usize::from(refused), Ordering::SeqCst);
                }
            }
        }
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether every publisher had another hundred acknowledgements since `before`.
fn goes_on(load: &Load, before: &[u64; 4]) -> bool {
    (0..4).all(|index| load.acknowledged[index].load(Ordering::SeqCst) >= before[index] + 100)
}

#[test]
fn ten_hand_overs_under_load_refuse_nobody_and_lose_nothing() {
    let place = Place::new("handover");
    let config = place.configure(
        r#""tcp": { "url": "tcp://127.0.0.1:0" }, "ws": { "url": "ws://127.0.0.1:0/mqtt" }"#,
        "",
    );
    let mut program = Program::start(&config);
    let (tcp, ws) = (program.address("tcp"), program.address("ws"));
    let (load, wanted) = (Arc::new(Load::default()), Arc::new([const { AtomicU64::new(0) }; 4]));
    let subscribers: Vec<_> = [(tcp, false), (ws, true), (tcp, false), (tcp, false)]
        .into_iter()
        .enumerate()
        .map(|(index, (address, is_ws))| {
            let mut client = Client::new(address, is_ws, &format!("subscriber-{index}"));
            client.send(&subscribe("load/#", 2));
            assert_eq!(client.packet(PATIENCE).unwrap().0, 0x90);
            let (load, wanted) = (load.clone(), wanted.clone());
            thread::spawn(move || subscriber(&load, client, index == LAZY, &wanted))
        })
        .collect();
    let publishers: Vec<_> = [(tcp, false), (tcp, false), (ws, true), (ws, true)]
        .into_iter()
        .enumerate()
        .map(|(index, (address, is_ws))| {
            let client = Client::new(address, is_ws, &format!("publisher-{index}"));
            let (load, wanted) = (load.clone(), wanted.clone());
            thread::spawn(move || {
                let all = publisher(&load, index, client);
                wanted[index].store(all, Ordering::SeqCst);
            })
        })
        .collect();
    let storming = {
        let load = load.clone();
        thread::spawn(move || storm(&load, [tcp, ws]))
    };

    for number in 0..HAND_OVERS {
        load.send_away.store(true, Ordering::SeqCst);
        wait_for("one subscriber is to be away", || load.is_away.load(Ordering::SeqCst));
        // Messages wait for it from now on.
        let before = std::array::from_fn(|index| load.acknowledged[index].load(Ordering::SeqCst));
        wait_for(&format!("hand-over {number}: the load stands still"), || goes_on(&load, &before));
        let mut next = Program::start(&config);
        assert_eq!((next.address("tcp"), next.address("ws")), (tcp, ws), "hand-over {number}");
        let old = std::mem::replace(&mut program, next);
        let (code, err) = old.end();
        assert_eq!((code, err.as_str()), (Some(0), ""), "hand-over {number}");
        load.send_away.store(false, Ordering::SeqCst);
        wait_for("the subscriber is back", || !load.is_away.load(Ordering::SeqCst));
    }
    let before = std::array::from_fn(|index| load.acknowledged[index].load(Ordering::SeqCst));
    wait_for("the load stands still after all", || goes_on(&load, &before));

    load.over.store(true, Ordering::SeqCst);
    publishers.into_iter().for_each(|thread| thread.join().unwrap());
    storming.join().unwrap();
    let all: Vec<u64> = wanted.iter().map(|wanted| wanted.load(Ordering::SeqCst)).collect();
    for (name, subscriber) in subscribers.into_iter().enumerate() {
        let (received, told_to_go) = subscriber.join().unwrap();
        assert!(told_to_go > 0 || name == LAZY, "subscriber {name} was told the reason");
        for (index, all) in all.iter().enumerate() {
            check(&received[&format!("load/{index}")], *all, index % 2 == 1);
        }
    }
    assert_eq!(load.refused.load(Ordering::SeqCst), 0, "of {}", load.storm.load(Ordering::SeqCst));
    println!("{all:?} messages, {} connects of the storm", load.storm.load(Ordering::SeqCst));
}

/// Every number up to `all` came, in order; of QoS 2 once.
fn check(received: &[u64], all: u64, exactly_once: bool) {
    let mut next = 0;
    for number in received {
        assert!(*number <= next, "{number} came before {next}");
        assert!(!exactly_once || *number == next, "{number} came twice");
        next = next.max(number + 1);
    }
    assert_eq!(next, all);
}
