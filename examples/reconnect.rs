//! Tests the reconnect logic of a client in a simulated world: its connection is cut, stalled, and refused, and minutes
//! pass at once.
//!
//! `cargo run --example reconnect --features testing`

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::Limits;
use hrotti::testing::{Connector, Direction, Fault, Faults, World, WorldHandle};

const PING_EVERY: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(10);
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(8);

/// The client under test, which reconnects after every failure. A real client dials TCP; for this test it only has to
/// take its streams and its time from outside.
struct Client {
    /// The address to dial.
    broker: Arc<Mutex<Connector>>,
    clock: WorldHandle,
    /// The events of the client, with their times.
    diary: Arc<Mutex<Vec<(u64, String)>>>,
}

impl Client {
    async fn run(self) {
        let mut back_off = BACK_OFF;
        loop {
            let Err(error) = self.session(&mut back_off).await else { continue };
            self.note(format!("{:?}", error.kind()));
            self.clock.sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    /// One connection, to its end.
    async fn session(&self, back_off: &mut Duration) -> io::Result<()> {
        let dialled = self.broker.lock().map_or(Err(ErrorKind::Other.into()), |c| c.connect());
        let mut stream = dialled?;
        stream.write_all(b"\x10\x11\0\x04MQTT\x04\x02\0\x3c\0\x05meter").await?;
        self.in_time(stream.read_exact(&mut [0; 4])).await?;
        self.note("connected".to_owned());
        *back_off = BACK_OFF;
        loop {
            let mut byte = [0];
            let unasked = async { stream.read(&mut byte).await.map(Some) };
            let time = async {
                self.clock.sleep(PING_EVERY).await;
                Ok(None)
            };
            if or(unasked, time).await?.is_some() {
                return Err(ErrorKind::UnexpectedEof.into()); // nothing is expected here but the end
            }
            stream.write_all(b"\xc0\0").await?;
            self.in_time(stream.read_exact(&mut [0; 2])).await?;
        }
    }

    /// An answer that does not come in time is an error.
    async fn in_time<T>(&self, answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let late = async {
            self.clock.sleep(PATIENCE).await;
            Err(ErrorKind::TimedOut.into())
        };
        or(answer, late).await
    }

    fn note(&self, text: String) {
        if let Ok(mut diary) = self.diary.lock() {
            diary.push((self.clock.now().as_secs(), text));
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let world = World::new(17);
    let broker = world.broker(Limits::default());
    let first = world.listen(&broker, "first")?;
    let (address, diary) = (Arc::new(Mutex::new(first.clone())), Arc::default());
    let client =
        Client { broker: address.clone(), clock: world.handle(), diary: Arc::clone(&diary) };
    drop(world.spawn(client.run()));
    let expect = |events: &[(u64, &str)]| {
        let diary = diary.lock().map(|mut diary| std::mem::take(&mut *diary)).unwrap_or_default();
        println!("{diary:?}");
        let expected: Vec<_> = events.iter().map(|&(at, text)| (at, text.to_owned())).collect();
        assert_eq!(diary, expected);
    };

    world.run_until_idle();
    expect(&[(0, "connected")]);

    // A connection that breaks is opened again after a second.
    world.advance(Duration::from_secs(100));
    first.last_link().ok_or("dialled")?.cut();
    world.advance(Duration::from_secs(10));
    expect(&[(100, "ConnectionReset"), (101, "connected")]);

    // A stalled connection is detected by the missing PINGRESP.
    let link = first.last_link().ok_or("dialled")?;
    Direction::BOTH.iter().for_each(|&direction| link.stall(direction));
    world.advance(Duration::from_secs(30));
    expect(&[(131, "TimedOut"), (132, "connected")]);

    // While CONNACK is cut in half each time, the pauses grow.
    let half = Fault::CutBehind { direction: Direction::ToClient, bytes: 2 };
    first.set_faults(Faults { once: vec![half], ..Faults::default() });
    first.last_link().ok_or("dialled")?.cut();
    world.advance(Duration::from_secs(4));
    let reset = |at| (at, "ConnectionReset");
    expect(&[reset(140), reset(141), reset(143)]);

    // The broker stops, and another one takes its place after a minute.
    world.block_on(broker.stop());
    world.advance(Duration::from_secs(60));
    expect(&[147, 155, 163, 171, 179, 187, 195, 203].map(|at| (at, "ConnectionRefused")));
    let broker = world.broker(Limits::default());
    *address.lock().map_err(|_| "a panic")? = world.listen(&broker, "second")?;
    world.advance(Duration::from_secs(10));
    expect(&[(211, "connected")]);
    assert_eq!(broker.counters().connections, 1);
    println!("{} s have passed", world.now().as_secs());
    Ok(())
}
