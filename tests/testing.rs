//! The test kit itself: time, order, faults, and that a seed is a run.
#![allow(clippy::unwrap_used, clippy::panic)] // tests fail by panicking

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::access::{
    Answer, Authenticating, Credentials, Decision, Identity, Policy, Request, Rule,
};
use hrotti::testing::{
    Action, ClientStream, Connector, Dice, Direction, Event, Fault, Faults, Operation, World,
    WorldHandle,
};
use hrotti::{Broker, DisconnectCause, Happening, Limits, Message, ReasonCode};

const CONNECT: &[u8] = b"\x10\x0f\0\x04MQTT\x04\x02\0\x0a\0\x03dev";
const CONNACK: &[u8] = b"\x20\x02\0\0";
const PINGREQ: &[u8] = b"\xc0\0";
const PINGRESP: &[u8] = b"\xd0\0";
const SECOND: Duration = Duration::from_secs(1);

fn world() -> (World, Broker, Connector) {
    let world = World::new(1);
    let broker = world.broker(Limits::default());
    let connector = world.listen(&broker, "l").unwrap();
    (world, broker, connector)
}

async fn ask(stream: &mut ClientStream, request: &[u8], answer: &[u8]) -> std::io::Result<()> {
    stream.write_all(request).await?;
    let mut read = vec![0; answer.len()];
    stream.read_exact(&mut read).await?;
    assert_eq!(read, answer);
    Ok(())
}

#[test]
fn time_is_turned_and_stands_still_while_a_task_is_ready() {
    let (world, broker, connector) = world();
    let mut client = connector.connect().unwrap();
    world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
    assert_eq!(world.now(), Duration::ZERO);
    world.advance(14 * SECOND);
    assert_eq!((world.now(), broker.counters().connections), (14 * SECOND, 1));
    world.advance(2 * SECOND); // one and a half times the Keep Alive of 10 s
    assert_eq!(broker.counters().connections, 0);
    assert_eq!(world.block_on(client.read(&mut [0; 9])).unwrap(), 0);
}

/// A policy that takes long to let anybody in.
struct Slow(WorldHandle);

impl Policy for Slow {
    fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
        Box::pin(async move {
            self.0.sleep(2 * SECOND).await;
            Answer::accept(Identity::new(Rule::named("a test")))
        })
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::Allow(Rule::named("a test"))
    }
}

#[test]
fn a_place_before_connect_is_that_of_the_peer_silent_longest() {
    let world = World::new(1);
    let broker = world.broker(Limits { handshakes_max: 4, ..Limits::default() });
    let connector = world.listen(&broker, "l").unwrap();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(connector.connect().unwrap());
        world.advance(SECOND / 100);
    }
    let mut healthy = connector.connect().unwrap();
    world.block_on(ask(&mut healthy, CONNECT, CONNACK)).unwrap();
    assert_eq!(world.now(), SECOND / 2, "none leaves before it was silent for half a second");
    let counters = broker.counters();
    assert_eq!((counters.handshakes_displaced, counters.handshakes_waited), (1, 1));
    assert_eq!(world.block_on(silent[0].read(&mut [0; 9])).unwrap(), 0, "the first has left");
    world.block_on(ask(&mut silent[3], &CONNECT.to_vec().with(b'3'), CONNACK)).unwrap();
    assert_eq!(broker.counters().connections, 2);
}

#[test]
fn the_number_of_places_before_connect_changes_while_peers_have_them() {
    let world = World::new(1);
    let places = |handshakes_max| Limits { handshakes_max, ..Limits::default() };
    let broker = world.broker(places(1));
    let connector = world.listen(&broker, "l").unwrap();
    let mut first = connector.connect().unwrap();
    world.advance(SECOND / 100);
    broker.set_limits(places(3));
    let mut others = [connector.connect().unwrap(), connector.connect().unwrap()];
    world.advance(SECOND);
    assert_eq!((broker.counters().handshakes_displaced, broker.listeners()[0].connections), (0, 3));

    broker.set_limits(places(1));
    world.advance(SECOND);
    assert_eq!(broker.listeners()[0].connections, 3, "nobody needs their places");
    let mut events = broker.events();
    let mut healthy = connector.connect().unwrap();
    world.block_on(ask(&mut healthy, CONNECT, CONNACK)).unwrap();
    assert_eq!(broker.counters().handshakes_displaced, 3);
    for silent in [&mut first].into_iter().chain(&mut others) {
        assert_eq!(world.block_on(silent.read(&mut [0; 9])).unwrap(), 0);
    }
    for _ in 0..3 {
        let event = world.block_on(events.next()).unwrap().unwrap();
        let Happening::Refused { client, code, why } = &event.what else {
            panic!("{event:?}");
        };
        assert_eq!((&*client.client_id, *code), ("", ReasonCode::SERVER_BUSY));
        assert!(why.starts_with("handshakes_max: "), "{why}");
    }
}

#[test]
fn a_peer_whose_connect_is_decided_keeps_its_place() {
    let world = World::new(1);
    let limits = Limits { handshakes_max: 2, ..Limits::default() };
    let builder = Broker::builder().limits(limits).policy(Arc::new(Slow(world.handle())));
    let broker = world.build(builder);
    let connector = world.listen(&broker, "l").unwrap();
    let mut clients: Vec<_> = (0..5).map(|_| connector.connect().unwrap()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let connect = CONNECT.to_vec().with(b'0' + u8::try_from(number).unwrap());
        world.block_on(client.write_all(&connect)).unwrap();
    }
    for client in &mut clients {
        world.block_on(ask(client, b"", CONNACK)).unwrap();
    }
    assert_eq!(world.now(), 6 * SECOND, "two at a time");
    let counters = broker.counters();
    assert_eq!((counters.handshakes_displaced, counters.connections), (0, 5));
}

#[test]
fn a_peer_that_reads_no_refusal_leaves_its_place() {
    let world = World::new(1);
    let broker = world.broker(Limits { handshakes_max: 1, ..Limits::default() });
    let connector = world.listen(&broker, "l").unwrap();
    let mut refused = connector.connect().unwrap();
    // Of a version that does not exist: it is answered, and its end of the stream is awaited.
    let answer = b"\x20\x38\0\x84";
    world
        .block_on(ask(&mut refused, b"\x10\x0f\0\x04MQTT\x07\x02\0\x0a\0\x03dev", answer))
        .unwrap();
    let mut healthy = connector.connect().unwrap();
    world.block_on(ask(&mut healthy, CONNECT, CONNACK)).unwrap();
    assert_eq!((world.now(), broker.counters().handshakes_displaced), (SECOND / 2, 1));
}

/// Another Client Identifier of the same length.
trait With {
    fn with(self, last: u8) -> Self;
}

impl With for Vec<u8> {
    fn with(mut self, last: u8) -> Vec<u8> {
        *self.last_mut().unwrap() = last;
        self
    }
}

/// A policy that lets everybody in until a time.
struct Until(SystemTime);

impl Policy for Until {
    fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
        let identity = Identity::new(Rule::named("a test")).with_end(self.0);
        Box::pin(async { Answer::accept(identity) })
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::Allow(Rule::named("a test"))
    }
}

#[test]
fn an_identity_ends_by_the_wall_clock_of_the_world() {
    let world = World::new(1);
    let end = world.wall_clock() + 9 * SECOND;
    let broker = world.build(Broker::builder().policy(Arc::new(Until(end))));
    let connector = world.listen(&broker, "l").unwrap();
    let mut client = connector.connect().unwrap();
    world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
    world.advance(8 * SECOND);
    world.block_on(ask(&mut client, PINGREQ, PINGRESP)).unwrap();
    world.advance(SECOND + Duration::from_millis(250));
    assert_eq!(world.block_on(client.read(&mut [0; 9])).unwrap(), 0);
    assert_eq!(broker.counters().identities_expired, 1);
}

#[test]
fn what_arrived_before_the_clock_jumped_counts_as_heard() {
    let (world, broker, connector) = world();
    let mut client = connector.connect().unwrap();
    world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
    world.advance(10 * SECOND);
    let ping = async {
        client.write_all(PINGREQ).await.unwrap();
        world.jump(600 * SECOND);
        client.read_exact(&mut [0; 2]).await
    };
    world.block_on(ping).unwrap();
    assert_eq!(broker.counters().connections, 1);
    world.jump(600 * SECOND); // and nothing came in this time
    world.advance(SECOND);
    assert_eq!(broker.counters().keep_alives_timed_out, 1);
}

/// An error of the transport is the cause of the end.
#[test]
fn a_cut_connection_is_told_with_the_error_of_its_transport() {
    let (world, broker, connector) = world();
    let mut events = broker.events();
    let once = vec![Fault::CutAfter(7 * SECOND)];
    let mut client = connector.connect_with(Faults { once, ..Faults::default() }).unwrap();
    world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
    world.advance(8 * SECOND);
    let cause = world.block_on(async {
        loop {
            let event = events.next().await.unwrap().unwrap();
            if let Happening::Disconnected { cause, .. } = event.what {
                return (cause, event.at);
            }
        }
    });
    let reset = Some(ErrorKind::ConnectionReset);
    let lost = DisconnectCause::Lost("the stream cannot be read", reset);
    assert_eq!(cause, (lost, world.wall_clock() - SECOND));
}

#[test]
fn bytes_take_their_time_and_keep_their_order() {
    let (world, _broker, connector) = world();
    let faults = Faults {
        delay: SECOND / 2,
        jitter: SECOND / 5,
        read_max: 2,
        write_max: 3,
        hesitation: 2,
        capacity: 5,
        ..Faults::default()
    };
    for inline in [true, false] {
        let mut client = connector.connect_with(Faults { inline, ..faults.clone() }).unwrap();
        let begun = world.now();
        world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
        // 17 bytes by at most 5 at once, and the way back.
        assert!(world.now() - begun >= 2 * SECOND, "{:?}", world.now() - begun);
        world.block_on(ask(&mut client, PINGREQ, PINGRESP)).unwrap();
    }
}

#[test]
fn a_connection_is_cut_at_a_byte_or_at_a_time() {
    let (world, broker, connector) = world();
    let once = vec![Fault::CutBehind { direction: Direction::ToClient, bytes: 3 }];
    let mut client = connector.connect_with(Faults { once, ..Faults::default() }).unwrap();
    let connack = world.block_on(async {
        client.write_all(CONNECT).await.unwrap();
        let mut read = Vec::new();
        (client.read_to_end(&mut read).await.unwrap_err().kind(), read)
    });
    assert_eq!(connack, (ErrorKind::ConnectionReset, CONNACK[..3].to_vec()));
    assert!(client.link().is_cut());

    let once = vec![Fault::CutAfter(7 * SECOND)];
    let mut client = connector.connect_with(Faults { once, ..Faults::default() }).unwrap();
    world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
    let begun = world.now();
    let error = world.block_on(client.read(&mut [0])).unwrap_err();
    assert_eq!((error.kind(), world.now() - begun), (ErrorKind::ConnectionReset, 7 * SECOND));
    let error = world.block_on(client.write(b"x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    world.run_until_idle();
    assert_eq!(broker.counters().connections, 0);
}

#[test]
fn a_stalled_direction_brings_nothing_until_it_goes_on() {
    let (world, _broker, connector) = world();
    let mut client = connector.connect().unwrap();
    let link = client.link();
    world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
    link.stall(Direction::ToClient);
    world.block_on(client.write_all(PINGREQ)).unwrap();
    assert!(world.timeout(SECOND, client.read(&mut [0; 2])).is_none());
    assert_eq!((link.held(Direction::ToClient), link.held(Direction::ToBroker)), (2, 0));
    link.resume(Direction::ToClient);
    world.block_on(client.read_exact(&mut [0; 2])).unwrap();
    assert_eq!(link.written(Direction::ToClient), 6);

    link.order(Fault::StallBehind {
        direction: Direction::ToBroker,
        bytes: 0,
        lasting: 3 * SECOND,
    });
    let begun = world.now();
    world.block_on(ask(&mut client, PINGREQ, PINGRESP)).unwrap();
    assert_eq!(world.now() - begun, 3 * SECOND);
}

#[test]
fn a_transport_that_panics_or_fails_ends_one_connection_alone() {
    for operation in Operation::ALL {
        for panics in [true, false] {
            let (world, broker, connector) = world();
            let mut other = connector.connect().unwrap();
            let bystander = [&CONNECT[..13], b"\x03own"].concat();
            world.block_on(ask(&mut other, &bystander, CONNACK)).unwrap();
            let fault = match panics {
                true => Fault::Panic { operation, calls: 0 },
                false => Fault::Error { operation, calls: 0, kind: ErrorKind::TimedOut },
            };
            let faults = Faults { once: vec![fault], ..Faults::default() };
            let mut client = connector.connect_with(faults).unwrap();
            world.block_on(async {
                let _broken = ask(&mut client, CONNECT, CONNACK).await;
                let _broken = client.write_all(b"\xe0\0").await;
            });
            world.block_on(ask(&mut other, PINGREQ, PINGRESP)).unwrap();
            world.advance(2 * SECOND);
            assert_eq!(broker.counters().connections, 1, "{operation:?} {panics}");
            assert_eq!(broker.listeners()[0].connections, 1, "{operation:?} {panics}");
            let outside = usize::from(panics && operation == Operation::Drop);
            assert_eq!(world.panics().len(), outside, "{operation:?}");
            world.block_on(broker.stop());
            assert_eq!(other.link().held(Direction::ToBroker), 0);
        }
    }
}

#[test]
fn a_stream_that_panicked_under_a_publisher_is_written_no_more() {
    for inline in [true, false] {
        // What is inline is not flushed by a publisher.
        let operations = [Operation::Write, Operation::Flush];
        for operation in operations.into_iter().take(if inline { 1 } else { 2 }) {
            let (world, broker, connector) = world();
            let faults = Faults { inline, write_max: 1, ..Faults::default() };
            let mut client = connector.connect_with(faults).unwrap();
            world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
            let (subscribe, suback) = (b"\x82\x06\0\x01\0\x01t\0", b"\x90\x03\0\x01\0");
            world.block_on(ask(&mut client, subscribe, suback)).unwrap();
            client.link().order(Fault::Panic { operation, calls: 0 });
            let publisher = broker.client("own").unwrap();
            let message = Message::new("t", "text").unwrap();
            world.block_on(publisher.publish(message)).unwrap();
            let mut came = Vec::new();
            let end = world.block_on(client.read_to_end(&mut came));
            let whole = b"\x30\x07\0\x01ttext";
            let broken = whole.starts_with(&came) && came.len() < whole.len();
            assert!(broken, "{inline} {operation:?}: {came:x?} {end:?}");
            world.advance(SECOND);
            assert_eq!(broker.counters().connections, 0, "{inline} {operation:?}");
        }
    }
}

#[test]
fn a_listener_that_cannot_accept_tries_again() {
    let (world, _broker, connector) = world();
    for fault in [None, Some(ErrorKind::Other), None] {
        connector.fail_accept(fault);
    }
    let mut client = connector.connect().unwrap();
    world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
    assert_eq!(world.now(), Duration::from_millis(50 + 100 + 200));
}

#[test]
fn a_stopped_broker_leaves_no_task_and_refuses_to_be_dialled() {
    let (world, broker, connector) = world();
    let mut client = connector.connect().unwrap();
    world.block_on(ask(&mut client, CONNECT, CONNACK)).unwrap();
    let waiting = connector.connect().unwrap();
    drop(broker);
    world.advance(10 * SECOND);
    assert_eq!(world.tasks(), 0);
    assert_eq!(connector.connect().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for mut stream in [client, waiting] {
        assert_eq!(world.block_on(stream.read(&mut [0])).unwrap(), 0);
    }
}

#[test]
fn tasks_of_the_embedder_run_here_and_their_panics_come_out() {
    let world = World::new(3);
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..20 {
        let (order, handle) = (order.clone(), world.handle());
        let inner = world.spawn(async move {
            handle.sleep(SECOND).await;
            handle.spawn(async move { order.lock().unwrap().push(number) }).await;
        });
        assert!(inner.take().is_none());
    }
    world.advance(SECOND);
    let order = order.lock().unwrap().clone();
    assert!(order.len() == 20 && !order.is_sorted(), "the seed chooses: {order:?}");
    drop(world.spawn(async { panic!("a fault of the test") }));
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run_until_idle()));
    assert!(run.is_err());
    assert_eq!(world.tasks(), 0);
}

#[test]
#[should_panic(expected = "cannot run the world")]
fn a_task_cannot_run_its_world() {
    let world = World::new(3);
    world.block_on(async { world.advance(SECOND) });
}

#[test]
#[should_panic(expected = "busy")]
fn busy_tasks_are_found() {
    let world = World::new(3);
    world.block_on(async {
        loop {
            futures_lite::future::yield_now().await;
        }
    });
}

/// Everything that a run of some clients did.
fn run(seed: u64) -> (u64, Vec<Event>) {
    let world = World::new(seed);
    world.record(true);
    let broker = world.broker(Limits::default());
    let connector = world.listen(&broker, "l").unwrap();
    let mut dice = Dice::new(seed);
    for _ in 0..5 {
        let mut client = connector.connect_with(Faults::draw(&mut dice)).unwrap();
        drop(world.spawn(async move {
            // MQTT 5 without a Client Identifier: the broker assigns one.
            client.write_all(b"\x10\x0d\0\x04MQTT\x05\x02\0\x0a\0\0\0").await.unwrap();
            let mut answer = [0; 300];
            for _ in 0..3 {
                let _more = client.read(&mut answer).await.unwrap();
            }
        }));
    }
    world.advance(40 * SECOND);
    (world.fingerprint(), world.trace())
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..10 {
        let (one, other) = (run(seed), run(seed));
        assert_eq!(one, other);
        assert!(one.1.iter().any(|event| matches!(event.action, Action::Wrote(..))));
        assert!(one.1.iter().all(|event| event.to_string().contains(" link ")));
        assert_ne!(one.0, run(seed + 100).0);
    }
}
