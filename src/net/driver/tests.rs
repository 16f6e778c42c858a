//! Turns of one Network Connection with a clock that is set by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::future::poll_fn;
use std::sync::{Mutex, Weak};
use std::task::Waker;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::{block_on, poll_once};

use super::*;
use crate::access::{Answer, Authenticating, Credentials, Refusal};
use crate::engine::access::AccessControl;
use crate::engine::access::testing::{RULE, Rig, identity};
use crate::engine::session_cell::SessionCell;
use crate::host::Host;
use crate::host::by_hand::ByHand;
use crate::limits::Limits;
use crate::sync::lock;
use crate::transport::Transport;
use crate::transport::memory::{MemoryStream, MemoryTransport};

mod access;
mod events;
mod origin;
mod routes;
mod traffic;

struct Nobody;

impl Admission for Nobody {
    fn peers_turn(&mut self, _: Timestamp, _: &Arc<Mailbox>) {}
    fn brokers_turn(&mut self) {}
    fn connected(&mut self) {}
}

/// One broker, and one Network Connection after the other.
struct Bench {
    hand: Arc<ByHand>,
    engine: Arc<Engine>,
}

/// A Client's end and the task that serves it.
struct Served {
    client: MemoryStream,
    driver: Driver,
}

impl Bench {
    fn new(limits: Limits, access: AccessControl) -> Bench {
        let hand = Arc::new(ByHand::default());
        let engine = Arc::new(Engine::new(limits, Host::Custom(hand.clone()), access));
        Bench { hand, engine }
    }

    fn pass(&self, secs: u64) {
        self.hand.pass(secs);
    }

    fn dial(&self, capacity: usize) -> Served {
        let (mut transport, connector) = MemoryTransport::new("m", capacity);
        let client = connector.connect().unwrap();
        let incoming = block_on(transport.accept()).unwrap();
        let stream = block_on(incoming.handshake).unwrap();
        let mailbox = Arc::new(Mailbox::new());
        let driver =
            Driver::new(self.engine.clone(), stream, incoming.peer, mailbox, Box::new(Nobody));
        Served { client, driver }
    }

    /// A Client of MQTT 5 with a Keep Alive of one second.
    fn connect(&self, id: &str) -> Served {
        let mut served = self.dial(64 * 1024);
        assert_eq!(served.exchange(&connect(id))[..1], [0x20], "CONNACK");
        served
    }
}

impl Bench {
    /// As [`Bench::connect`], without a Keep Alive.
    fn connect_patiently(&self, id: &str) -> Served {
        let mut served = self.dial(64 * 1024);
        assert_eq!(served.exchange(&patient(id))[..1], [0x20], "CONNACK");
        served
    }
}

impl Served {
    /// One turn. Whether the Network Connection is over.
    fn turn(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.driver).poll(&mut cx).is_ready()
    }

    fn send(&mut self, bytes: &[u8]) {
        let sent =
            block_on(poll_once(poll_fn(|cx| Pin::new(&mut self.client).poll_write(cx, bytes))));
        assert_eq!(sent.unwrap().unwrap(), bytes.len());
    }

    /// All that the Client has got by now.
    fn got(&mut self) -> Vec<u8> {
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        while let Some(Ok(read @ 1..)) =
            block_on(poll_once(poll_fn(|cx| Pin::new(&mut self.client).poll_read(cx, &mut buffer))))
        {
            got.extend(&buffer[..read]);
        }
        got
    }

    /// Sends `bytes` and returns what some turns bring.
    fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        (0..4).for_each(|_| {
            self.turn();
        });
        self.got()
    }
}

fn connect(id: &str) -> Vec<u8> {
    let mut bytes = b"\x10\x00\x00\x04MQTT\x05\x02\x00\x01\x00\x00\x00".to_vec();
    bytes[14] = u8::try_from(id.len()).unwrap();
    bytes.extend(id.bytes());
    bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
    bytes
}

/// As [`connect`], without a Keep Alive.
fn patient(id: &str) -> Vec<u8> {
    let mut bytes = connect(id);
    bytes[11] = 0;
    bytes
}

const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];

/// PUBLISH to `t` with `payload`, QoS 0.
fn publish(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x30, u8::try_from(payload.len()).unwrap() + 4, 0, 1, b't', 0];
    bytes.extend(payload);
    bytes
}

fn subscribe() -> Vec<u8> {
    b"\x82\x07\x00\x01\x00\x00\x01t\x00".to_vec()
}

fn default_bench() -> Bench {
    Bench::new(Limits::default(), AccessControl::default())
}

/// MQTT-3.1.2-22. The process was stopped for ten seconds, and the Client was not: its PINGREQ is there.
#[test]
fn keep_alive_strikes_only_after_a_read_that_found_nothing() {
    let bench = default_bench();
    let mut served = bench.connect("a");
    for _ in 0..3 {
        bench.pass(10);
        assert_eq!(served.exchange(&PINGREQ), PINGRESP);
    }
    bench.pass(10);
    served.turn();
    let last = served.got();
    assert_eq!((last[0], last[2]), (0xE0, 0x8D), "DISCONNECT: {last:x?}");
}

#[test]
fn the_time_for_connect_strikes_only_after_a_read_that_found_nothing() {
    let bench = default_bench();
    let mut served = bench.dial(4096);
    bench.pass(3_600);
    assert_eq!(served.exchange(&connect("a"))[0], 0x20, "CONNACK");
    let mut silent = bench.dial(4096);
    bench.pass(3_600);
    assert!((0..2).any(|_| silent.turn()));
    assert_eq!(bench.engine.counters().connects_timed_out, 1);
}

#[test]
fn the_time_for_a_packet_strikes_only_after_a_read_that_found_nothing() {
    let bench = default_bench();
    let mut served = bench.connect("a");
    let bytes = publish(b"x");
    served.exchange(&bytes[..3]);
    bench.pass(3_600);
    assert!(served.exchange(&bytes[3..]).is_empty());
    assert_eq!(served.exchange(&PINGREQ), PINGRESP);
    assert_eq!(bench.engine.counters().packets_timed_out, 0);
}

#[test]
fn a_stalled_write_strikes_only_after_another_one_was_tried() {
    let bench = default_bench();
    let mut served = bench.dial(1024);
    served.exchange(&connect("a"));
    served.exchange(&subscribe());
    let mut publisher = bench.connect("b");
    for _ in 0..20 {
        publisher.exchange(&publish(&[b'x'; 100]));
    }
    served.turn();
    bench.pass(3_600);
    // The peer has taken what there was before the task has its turn, and has said something.
    let taken = served.got();
    assert!(!taken.is_empty() && !served.exchange(&PINGREQ).is_empty());
    assert_eq!(bench.engine.counters().writes_stalled, 0);
    (0..4).for_each(|_| {
        served.turn();
        served.got();
    });
    // Now it takes nothing and says nothing.
    for _ in 0..20 {
        bench.pass(1);
        served.send(&PINGREQ);
        publisher.exchange(&publish(&[b'x'; 100]));
        served.turn();
    }
    bench.pass(61);
    (0..2).for_each(|_| {
        served.turn();
    });
    assert_eq!(bench.engine.counters().connections, 1, "the publisher alone");
}

/// A peer that still sends is alive, also where what it sent was not read yet.
#[test]
fn a_stalled_write_strikes_only_after_a_read_that_found_nothing() {
    let bench = default_bench();
    let mut served = bench.dial(256);
    served.exchange(&patient("a"));
    served.exchange(&subscribe());
    let mut publisher = bench.connect("b");
    for _ in 0..5 {
        publisher.exchange(&publish(&[b'x'; 100]));
    }
    served.turn();
    for _ in 0..3 {
        served.send(&PINGREQ);
        bench.pass(3_600);
        assert!(!served.turn());
        assert_eq!(bench.engine.counters().writes_stalled, 0);
    }
    bench.pass(3_600);
    served.turn();
    assert_eq!(bench.engine.counters().writes_stalled, 1);
}

/// What was not taken before the clock jumped is taken now.
#[test]
fn a_write_that_is_taken_late_has_not_stalled() {
    let bench = default_bench();
    let mut served = bench.dial(256);
    served.exchange(&patient("a"));
    served.exchange(&subscribe());
    let mut publisher = bench.connect("b");
    for _ in 0..5 {
        publisher.exchange(&publish(&[b'x'; 100]));
    }
    served.turn();
    bench.pass(3_600);
    let mut got = served.got().len();
    for _ in 0..4 {
        assert!(!served.turn());
        got += served.got().len();
    }
    assert_eq!(got, 5 * publish(&[b'x'; 100]).len());
    assert_eq!(bench.engine.counters().writes_stalled, 0);
}

/// The answer to a CONNECT, once it is there.
type Decided = Arc<Mutex<Option<Result<(), Refusal>>>>;

/// A bench whose CONNECTs wait for an answer, and where to make it.
fn slow_bench() -> (Bench, Decided) {
    let decided = Decided::default();
    let answer = decided.clone();
    let authenticate = move |shown: Credentials| -> Authenticating {
        assert_eq!((shown.peer.to_string().as_str(), &*shown.client_id), ("m#1", "a"));
        let answer = answer.clone();
        Box::pin(poll_fn(move |_| match &*lock(&answer) {
            Some(Ok(())) => Poll::Ready(Answer::accept(identity("ann"))),
            Some(Err(refusal)) => Poll::Ready(Answer::Refuse(refusal.clone())),
            None => Poll::Pending,
        }))
    };
    let policy = Rig { authenticate: Box::new(authenticate), ..Rig::default() };
    (Bench::new(Limits::default(), AccessControl::with(Arc::new(policy))), decided)
}

#[test]
fn packets_behind_a_connect_that_is_being_decided_are_kept() {
    let (bench, decided) = slow_bench();
    let mut served = bench.dial(4096);
    let together = [connect("a"), subscribe(), PINGREQ.to_vec()].concat();
    assert!(served.exchange(&together).is_empty(), "nothing before the decision");
    served.send(&PINGREQ);
    bench.pass(9);
    assert!(!served.turn() && served.got().is_empty());
    *lock(&decided) = Some(Ok(()));
    (0..6).for_each(|_| {
        served.turn();
    });
    let got = served.got();
    let kinds: Vec<u8> = std::iter::successors(Some(0), |at| {
        Some(at + usize::from(got[at + 1]) + 2).filter(|next| *next < got.len())
    })
    .map(|at| got[at])
    .collect();
    assert_eq!(kinds, [0x20, 0x90, 0xD0, 0xD0], "CONNACK, SUBACK, two PINGRESP");
    assert_eq!(bench.engine.counters().unauthenticated_bytes, 0);
}

/// Counts the drops of a future that decides.
struct Pinned(Arc<Mutex<u32>>);

impl Drop for Pinned {
    fn drop(&mut self) {
        *lock(&self.0) += 1;
    }
}

#[test]
fn a_peer_that_goes_while_its_connect_is_decided_leaves_the_queue_pitfall_15() {
    let dropped = Arc::new(Mutex::new(0));
    let count = dropped.clone();
    let authenticate = move |_: Credentials| -> Authenticating {
        let pinned = Pinned(count.clone());
        Box::pin(async move {
            let _pinned = pinned;
            std::future::pending().await
        })
    };
    let policy = Rig { authenticate: Box::new(authenticate), ..Rig::default() };
    let bench = Bench::new(Limits::default(), AccessControl::with(Arc::new(policy)));
    for (behind, over) in [(0, true), (1, false)] {
        let mut served = bench.dial(4096);
        served.send(&[connect("a"), PINGREQ.repeat(behind)].concat());
        assert!(!served.turn());
        let Served { client, mut driver } = served;
        drop(client);
        let mut cx = Context::from_waker(Waker::noop());
        let ended = (0..3).any(|_| Pin::new(&mut driver).poll(&mut cx).is_ready());
        assert_eq!(ended, over, "{behind} packets behind CONNECT");
        drop(driver);
    }
    assert_eq!(*lock(&dropped), 2);
    assert_eq!(bench.engine.counters().unauthenticated_bytes, 0);
}

#[test]
fn what_a_peer_sends_while_its_connect_is_decided_is_bounded_pitfall_15() {
    let (bench, decided) = slow_bench();
    let mut served = bench.dial(64 * 1024);
    served.exchange(&connect("a"));
    served.exchange(&PINGREQ.repeat(10_000));
    assert_eq!(bench.engine.counters().unauthenticated_bytes, 4_096);
    *lock(&decided) = Some(Ok(()));
    let mut got = Vec::new();
    for _ in 0..40 {
        served.turn();
        got.extend(served.got());
    }
    assert_eq!(got.iter().filter(|byte| **byte == PINGRESP[0]).count(), 10_000);
}

#[test]
fn a_connect_that_is_not_decided_in_time_is_refused_by_0x88() {
    let (bench, _undecided) = slow_bench();
    let mut served = bench.dial(4096);
    served.exchange(&connect("a"));
    bench.pass(11);
    served.turn();
    let connack = served.got();
    assert_eq!((connack[0], connack[3]), (0x20, 0x88));
    let counters = bench.engine.counters();
    assert_eq!((counters.connects_undecided, counters.sessions), (1, 0));
}

#[test]
fn a_connect_that_is_denied_gets_the_reason_and_no_session() {
    let (bench, decided) = slow_bench();
    *lock(&decided) = Some(Err(Refusal::not_authorized(RULE)));
    let mut served = bench.dial(4096);
    let connack = served.exchange(&[connect("a"), PINGREQ.to_vec()].concat());
    assert_eq!((connack[0], connack[3]), (0x20, 0x87));
    assert_eq!(connack.len(), usize::from(connack[1]) + 2, "nothing behind it");
    let counters = bench.engine.counters();
    assert_eq!((counters.connects_not_authorized, counters.sessions), (1, 0));
}

/// A publisher that says nothing any more keeps no Session's memory.
#[test]
fn an_idle_publisher_forgets_its_routes_pitfall_15() {
    let bench = default_bench();
    let mut subscriber = bench.connect("subscriber");
    subscriber.exchange(&subscribe());
    let mut publisher = bench.dial(4096);
    publisher.exchange(&patient("publisher"));
    publisher.exchange(&publish(b"x"));
    let cell: Weak<SessionCell> = {
        let held = subscriber.driver.dispatch.session().unwrap();
        Arc::downgrade(&held.cell)
    };
    drop(subscriber);
    assert!(cell.upgrade().is_some(), "the route leads there");
    bench.pass(61);
    publisher.turn();
    assert!(cell.upgrade().is_none());
}

// ---- Rates -----------------------------------------------------------------------------------------

/// Messages that were routed, whether somebody heard them or not.
fn offered(bench: &Bench) -> u64 {
    bench.engine.ledger().offered
}

#[test]
fn messages_beyond_the_rate_wait_and_none_is_lost() {
    let limits = Limits { client_messages_per_sec_max: 4, ..Limits::default() };
    let bench = Bench::new(limits, AccessControl::default());
    let mut served = bench.connect_patiently("a");
    let ten: Vec<u8> = (0..10_u8).flat_map(|number| publish(&[number])).collect();
    served.send(&[&ten[..], &PINGREQ].concat());
    for expected in [4, 8, 10] {
        (0..6).for_each(|_| {
            served.turn();
        });
        assert_eq!(offered(&bench), expected);
        assert_eq!(served.got().is_empty(), expected < 10, "PINGREQ stands behind them");
        bench.pass(1);
    }
    let counts = bench.engine.counters();
    assert_eq!((counts.readers_slowed, counts.keep_alives_timed_out), (2, 0));
}

#[test]
fn bytes_beyond_the_rate_stay_with_the_peer() {
    let limits = Limits { client_bytes_per_sec_max: 100, ..Limits::default() };
    let bench = Bench::new(limits, AccessControl::default());
    let mut served = bench.connect_patiently("a");
    // 24 bytes each.
    served.send(&(0..20).flat_map(|_| publish(&[7; 18])).collect::<Vec<u8>>());
    let mut all = Vec::new();
    for _ in 0..6 {
        (0..8).for_each(|_| {
            served.turn();
        });
        all.push(offered(&bench));
        bench.pass(1);
    }
    assert_eq!(all, [4, 8, 12, 16, 20, 20]);
}

/// A Keep Alive of one second, messages for twenty: the silence is the broker's own.
#[test]
fn keep_alive_and_packet_timeout_do_not_strike_while_the_broker_does_not_read() {
    let limits = Limits {
        client_messages_per_sec_max: 1,
        packet_timeout: std::time::Duration::from_secs(1),
        ..Limits::default()
    };
    let bench = Bench::new(limits, AccessControl::default());
    let mut served = bench.connect("a");
    let mut packets: Vec<u8> = (0..20_u8).flat_map(|number| publish(&[number])).collect();
    // The last one is not whole.
    packets.truncate(packets.len() - 1);
    served.send(&packets);
    for _ in 0..40 {
        if offered(&bench) < 19 {
            assert!(!served.turn());
            (0..3).for_each(|_| assert!(!served.turn()));
            bench.pass(1);
        }
    }
    assert_eq!(offered(&bench), 19);
    served.send(&[19]);
    bench.pass(1);
    (0..4).for_each(|_| {
        served.turn();
    });
    assert_eq!(offered(&bench), 20);
    assert!(served.got().is_empty());
    // From when it reads again, the Client's silence counts.
    for _ in 0..2 {
        assert!(served.got().is_empty());
        bench.pass(2);
        (0..4).for_each(|_| {
            served.turn();
        });
    }
    assert_eq!(served.got()[2], 0x8D, "DISCONNECT");
}

#[test]
fn a_slowed_connection_is_woken_when_it_may_go_on() {
    let limits = Limits { client_messages_per_sec_max: 1, ..Limits::default() };
    let bench = Bench::new(limits, AccessControl::default());
    let mut served = bench.connect_patiently("a");
    served.send(&[publish(b"1"), publish(b"2"), publish(b"3")].concat());
    (0..4).for_each(|_| {
        served.turn();
    });
    assert_eq!(offered(&bench), 1);
    let at = served.driver.dispatch.link.mailbox.deadline();
    assert_eq!(at.0, bench.engine.now().0 + 1_000);
}

#[test]
fn a_client_that_was_accepted_in_time_keeps_its_place_and_looks_at_the_rules() {
    let bench = default_bench();
    let mut client = bench.connect("c");
    let mailbox = client.driver.dispatch.link.mailbox.clone();
    mailbox.order(Order::ListenerRules);
    mailbox.order(Order::Displaced);
    assert_eq!(client.exchange(b"\xc0\0"), b"\xd0\0");
    assert_eq!(mailbox.ordered(), None, "the next order is not hidden");

    let mut silent = bench.dial(1_024);
    silent.driver.dispatch.link.mailbox.order(Order::Displaced);
    assert!(silent.turn(), "it ends");
}
