//! What a broker has moved, beside what its Clients have sent and received: they count for themselves.

use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::testing::{ClientStream, Connector, Direction, Fault, Faults, World};
use hrotti::{Broker, Limits, Message, PacketType, Traffic};

use crate::peer::{connect_packet, subscribe_packet};

const SECOND: Duration = Duration::from_secs(1);

/// The bytes of one direction, and the packets in them.
#[derive(Default)]
struct Seen {
    bytes: u64,
    packets: [u64; 16],
    payload_bytes: u64,
}

impl Seen {
    /// Adds whole packets of MQTT 3.1.1 with lengths of one byte.
    fn packets(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while let [header, len, rest @ ..] = bytes {
            let (body, rest) = rest.split_at((*len).into());
            self.packets[usize::from(header >> 4)] += 1;
            if header >> 4 == 3 {
                let packet_id = if header & 6 == 0 { 0 } else { 2 };
                self.payload_bytes += (body.len() - 2 - usize::from(body[1]) - packet_id) as u64;
            }
            bytes = rest;
        }
    }
}

/// A Client that counts what it sends and receives, and acknowledges every message.
struct Counting {
    stream: ClientStream,
    sent: Seen,
    received: Vec<u8>,
}

impl Counting {
    fn dial(connector: &Connector, faults: Faults) -> Counting {
        let stream = connector.connect_with(faults).unwrap();
        Counting { stream, sent: Seen::default(), received: Vec::new() }
    }

    async fn connect(connector: &Connector, faults: Faults, id: &str) -> Counting {
        let mut client = Counting::dial(connector, faults);
        client.send(&connect_packet(id)).await;
        assert_eq!(client.packet().await, [0x20, 2, 0, 0]);
        client
    }

    async fn send(&mut self, packets: &[u8]) {
        self.sent.packets(packets);
        self.stream.write_all(packets).await.unwrap();
    }

    async fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        self.stream.read_exact(&mut packet).await.unwrap();
        let len = packet[1];
        packet.resize(2 + usize::from(len), 0);
        self.stream.read_exact(&mut packet[2..]).await.unwrap();
        self.received.extend(&packet);
        packet
    }

    /// Receives so many messages, and ends their exchanges.
    async fn receive(&mut self, messages: usize) {
        let (mut came, mut open) = (0, 0);
        while came < messages || open > 0 {
            let packet = self.packet().await;
            let id = |at: usize| [packet[at], packet[at + 1]];
            match packet[0] {
                header if header >> 4 == 3 => {
                    came += 1;
                    let [high, low] = id(4 + usize::from(packet[3]));
                    match header & 6 {
                        0 => {}
                        2 => self.send(&[0x40, 2, high, low]).await,
                        _ => {
                            open += 1;
                            self.send(&[0x50, 2, high, low]).await;
                        }
                    }
                }
                0x62 => {
                    open -= 1;
                    let [high, low] = id(2);
                    self.send(&[0x70, 2, high, low]).await;
                }
                other => panic!("{other:x}"),
            }
        }
    }
}

fn publish(topic: &str, payload: &str, qos: u8, id: u8) -> Vec<u8> {
    let mut body = vec![0, topic.len() as u8];
    body.extend(topic.bytes());
    if qos > 0 {
        body.extend([0, id]);
    }
    body.extend(payload.bytes());
    [&[0x30 | qos << 1, body.len() as u8], &*body].concat()
}

fn world(seed: u64) -> (World, Broker, Connector) {
    let world = World::new(seed);
    let broker = world.broker(Limits::default());
    let connector = world.listen(&broker, "l").unwrap();
    (world, broker, connector)
}

/// Compares the broker's numbers with those of all its Clients.
fn agree(traffic: &Traffic, clients: &[&Counting]) {
    let (mut sent, mut received) = (Seen::default(), Seen::default());
    for client in clients {
        sent.bytes += client.sent.bytes;
        sent.payload_bytes += client.sent.payload_bytes;
        sent.packets.iter_mut().zip(client.sent.packets).for_each(|(sum, n)| *sum += n);
        received.packets(&client.received);
    }
    assert_eq!((traffic.bytes_received, traffic.bytes_sent), (sent.bytes, received.bytes));
    for &packet in PacketType::ALL {
        let numbers = (traffic.packets_received(packet), traffic.packets_sent(packet));
        let index = packet as usize;
        assert_eq!(numbers, (sent.packets[index], received.packets[index]), "{packet}");
    }
    let payloads = (traffic.payload_bytes_received, traffic.payload_bytes_sent);
    assert_eq!(payloads, (sent.payload_bytes, received.payload_bytes));
}

/// Over streams that take a few bytes at a time, written by the owner's task and by publishers.
#[test]
fn the_broker_and_its_clients_count_the_same() {
    for seed in 0..12 {
        let (world, broker, connector) = world(seed);
        let faults = Faults {
            inline: seed % 2 == 0,
            read_max: 1 + seed as usize * 3,
            write_max: 1 + seed as usize * 7,
            hesitation: 3,
            capacity: 40,
            ..Faults::default()
        };
        let (one, two) = world.block_on(async {
            let mut one = Counting::connect(&connector, faults.clone(), "one").await;
            let mut two = Counting::connect(&connector, faults, "two").await;
            one.send(&subscribe_packet("t/#", 2)).await;
            assert_eq!(one.packet().await, [0x90, 3, 0, 1, 2]);
            for number in 1..20 {
                let qos = number % 3;
                two.send(&publish("t/x", &"x".repeat(number.into()), qos, number)).await;
                one.receive(1).await;
                two.send(&[0xC0, 0]).await;
                if qos == 2 {
                    assert_eq!(two.packet().await, [0x50, 2, 0, number]);
                    two.send(&[0x62, 2, 0, number]).await;
                }
                for _ in 0..=u8::from(qos > 0) {
                    two.packet().await;
                }
            }
            (one, two)
        });
        world.advance(SECOND);
        agree(&broker.traffic(), &[&one, &two]);
        let traffic = broker.traffic();
        assert_eq!((traffic.sockets_accepted, traffic.sockets), (2, 2));
        assert_eq!((traffic.connections_most, traffic.sessions_most), (2, 2));
    }
}

/// A message that the Client has not acknowledged is sent again to its next connection, and counts again.
#[test]
fn what_is_sent_again_counts_again() {
    let (world, broker, connector) = world(1);
    let mut resumed = connect_packet("one");
    resumed[9] = 0; // Clean Session
    let publisher = broker.client("inside").unwrap();
    let message =
        |payload: &str| Message::new("t", payload).unwrap().with_qos(hrotti::QoS::ExactlyOnce);
    let mut clients = Vec::new();
    world.block_on(async {
        let mut first = Counting::dial(&connector, Faults::default());
        first.send(&resumed).await;
        first.packet().await;
        first.send(&subscribe_packet("t", 2)).await;
        first.packet().await;
        for payload in ["received", "released", "unseen"] {
            publisher.publish(message(payload)).await.unwrap();
            first.packet().await;
        }
        first.send(&[0x50, 2, 0, 2]).await; // PUBREC
        assert_eq!(first.packet().await, [0x62, 2, 0, 2]);
        first.send(&[0xE0, 0]).await;
        clients.push(first);
        let mut second = Counting::dial(&connector, Faults::default());
        second.send(&resumed).await;
        assert_eq!(second.packet().await, [0x20, 2, 1, 0]);
        for _ in 0..3 {
            second.packet().await;
        }
        clients.push(second);
    });
    world.advance(2 * SECOND);
    agree(&broker.traffic(), &clients.iter().collect::<Vec<_>>());
    let traffic = broker.traffic();
    assert_eq!(traffic.packets_sent(PacketType::PubRel), 2);
    assert_eq!(traffic.packets_sent(PacketType::Publish), 5);
    assert_eq!((traffic.sockets, traffic.disconnects_by_client), (1, 1));
}

/// Messages of the host program are in the ledger; only what goes to a network is traffic.
#[test]
fn clients_in_process_move_nothing() {
    let (world, broker, _connector) = world(1);
    let publisher = broker.client("inside").unwrap();
    world.block_on(publisher.publish(Message::new("t", "x").unwrap())).unwrap();
    let traffic = broker.traffic();
    assert_eq!(traffic.sessions_most, 1);
    assert_eq!(broker.ledger().offered, 1);
    assert_eq!(traffic.packets_received_total() + traffic.packets_sent_total(), 0);
    assert_eq!(traffic.bytes_received + traffic.bytes_sent + traffic.connects_accepted, 0);
}

#[test]
fn each_end_has_one_cause() {
    let (world, broker, connector) = world(1);
    let connect = |id: &str| world.block_on(Counting::connect(&connector, Faults::default(), id));
    let ends = || {
        let t = broker.traffic();
        let ends = [
            t.disconnects_by_client,
            t.disconnects_lost,
            t.disconnects_by_server,
            t.disconnects_taken_over,
        ];
        let now = broker.counters().connections as u64;
        assert_eq!(t.connects_accepted, ends.iter().sum::<u64>() + now);
        ends
    };
    world.block_on(connect("a").send(&[0xE0, 0]));
    world.advance(2 * SECOND);
    assert_eq!(ends(), [1, 0, 0, 0]);
    drop(connect("a"));
    world.advance(2 * SECOND);
    assert_eq!(ends(), [1, 1, 0, 0]);
    connect("a").stream.link().order(Fault::CutBehind { direction: Direction::ToBroker, bytes: 0 });
    world.advance(2 * SECOND);
    assert_eq!(ends(), [1, 2, 0, 0]);
    let mut wrong = connect("a");
    world.block_on(wrong.send(&[0xE0, 0x00]));
    let mut wrong = connect("a");
    world.block_on(wrong.send(&[0x10, 0])); // a second CONNECT
    world.advance(2 * SECOND);
    assert_eq!(ends(), [2, 2, 1, 0]);
    let (_before, _after) = (connect("a"), connect("a"));
    world.advance(2 * SECOND);
    assert_eq!(ends(), [2, 2, 1, 1]);
    // A peer without CONNECT is a socket and no connection.
    let silent = connector.connect().unwrap();
    world.run_until_idle();
    let traffic = broker.traffic();
    assert_eq!((traffic.sockets, traffic.connects_accepted), (2, 7));
    drop(silent);
    world.block_on(broker.stop());
    assert_eq!(ends(), [2, 2, 2, 1]);
    assert_eq!(broker.traffic().sockets, 0);
}

#[test]
fn sessions_that_expire_are_counted() {
    let (world, broker, connector) = world(1);
    let mut connect = b"\x10\x14\0\x04MQTT\x05\x02\0\0\x05\x11\0\0\0\x0a\0\x02v5".to_vec();
    let mut client = Counting::dial(&connector, Faults::default());
    world.block_on(async {
        client.stream.write_all(&connect).await.unwrap();
        client.stream.read_exact(&mut [0; 2]).await.unwrap();
    });
    drop(client);
    world.advance(9 * SECOND);
    assert_eq!((broker.traffic().sessions_expired, broker.counters().sessions), (0, 1));
    world.advance(2 * SECOND);
    assert_eq!((broker.traffic().sessions_expired, broker.counters().sessions), (1, 0));
    // One that ends with its connection does not expire.
    connect[17] = 0;
    let mut client = Counting::dial(&connector, Faults::default());
    world.block_on(client.stream.write_all(&connect)).unwrap();
    world.advance(SECOND);
    drop(client);
    world.advance(20 * SECOND);
    assert_eq!((broker.traffic().sessions_expired, broker.counters().sessions), (1, 0));
}

/// The last packets of a connection are counted, too, and input that is discarded.
#[test]
fn the_last_packets_are_counted() {
    let (world, broker, connector) = world(1);
    let connect = b"\x10\x0f\0\x04MQTT\x05\x02\0\0\0\0\x02v5";
    let mut client = Counting::dial(&connector, Faults::default());
    let (mut read, wrong) = (Vec::new(), [0x10, 0, 1, 2, 3]);
    world.block_on(async {
        client.stream.write_all(connect).await.unwrap();
        client.stream.write_all(&wrong).await.unwrap();
        client.stream.read_to_end(&mut read).await.unwrap();
        client.stream.write_all(b"more").await.unwrap();
    });
    world.advance(2 * SECOND);
    let traffic = broker.traffic();
    assert_eq!(traffic.bytes_sent, read.len() as u64);
    assert_eq!(traffic.packets_sent(PacketType::ConnAck), 1);
    assert_eq!(traffic.packets_sent(PacketType::Disconnect), 1);
    let written = connect.len() + wrong.len() + 4;
    assert_eq!(traffic.bytes_received, written as u64);
}
