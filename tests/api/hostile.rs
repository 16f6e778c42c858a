//! What hostile peers try, by the number of its class of bugs in other brokers.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use hrotti::transport::memory::MemoryTransport;
use hrotti::transport::{ByteStream, Incoming, Transport, TryWrite};
use hrotti::{Broker, Limits, Message, QoS, SubscriptionOptions, TopicFilter};

use crate::peer::{Peer, block_on, connect_packet, in_time, listen};
use crate::raw::{Connect, limited, packet, publish, publish_with, subscribe, text, until};

/// The work for a large packet is proportional to its size, however small the pieces are in which it
/// comes.
#[test]
fn pitfall_1_a_large_packet_in_tiny_pieces_costs_what_its_bytes_cost() {
    let broker = Broker::new(100);
    let (transport, connector) = MemoryTransport::new("m", 1024);
    block_on(broker.add_transport("m", transport)).unwrap();
    let mut sub = broker.client("sub").unwrap();
    let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
    in_time(sub.subscribe(&TopicFilter::new("t").unwrap(), options)).unwrap();
    let payload = vec![7; 40 * 1024 * 1024];
    in_time(async {
        let mut stream = connector.connect().unwrap();
        stream.write_all(&connect_packet("a")).await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(&publish(4, "t", &payload, 0, 0)).await.unwrap();
        assert_eq!(sub.recv().await.unwrap().payload().len(), payload.len());
    });
}

#[test]
fn pitfall_20_a_packet_in_drops_has_one_deadline() {
    let limits = Limits { packet_timeout: Duration::from_millis(400), ..Limits::default() };
    let (broker, endpoint) = limited(limits);
    let mut other = Peer::connect(&endpoint, "other");
    let mut peer = Connect::new(4, "slow").accepted(&endpoint);
    let bytes = publish(4, "t", &[b'x'; 100], 0, 0);
    // A drop every 50 ms: each comes long before the deadline, the packet does not.
    let closed = bytes.iter().take(80).any(|byte| {
        let _ = std::io::Write::write_all(&mut peer.0, &[*byte]);
        peer.is_closed_within(Duration::from_millis(50))
    });
    assert!(closed, "a drop at a time kept the packet open");
    assert_eq!(broker.counters().packets_timed_out, 1);
    other.ping();
}

/// A search that looks at many retained messages pauses, and resumes although nothing else happens.
#[test]
fn pitfall_6_a_long_search_in_retained_messages_goes_on_by_itself() {
    let broker = Broker::new(100);
    let client = broker.client("host").unwrap();
    for i in 0..10_000 {
        let message = Message::new(&format!("t/{i}/x"), "x").unwrap().with_retain(true);
        block_on(client.publish(message)).unwrap();
    }
    let last = Message::new("u/1/y", "found").unwrap().with_retain(true);
    block_on(client.publish(last)).unwrap();
    let mut peer = Peer::connect(&listen(&broker, "l"), "a");
    peer.subscribe("+/+/y", 0);
    assert_eq!(peer.packet(), b"\x31\x0C\x00\x05u/1/yfound");
}

/// One SUBSCRIBE with very many filters, all with retained messages to be looked for.
#[test]
fn pitfall_6_very_many_filters_in_one_packet() {
    let (broker, endpoint) = limited(Limits::default());
    let mut body = vec![0, 1];
    let count = 60_000;
    for i in 0..count {
        body.extend(text(&format!("{i:05}")));
        body.push(0);
    }
    let mut peer = Connect::new(4, "a").accepted(&endpoint);
    peer.send(&packet(0x82, &body));
    let mut suback = vec![0; 4 + 2 + count];
    std::io::Read::read_exact(&mut peer.0, &mut suback).unwrap();
    assert!(suback[6..].iter().all(|&code| code == 0));
    peer.ping();
    assert_eq!(broker.counters().subscriptions, count);
}

/// MQTT-3.2.2-16: nobody can wait for others at the identifier that they will be given.
#[test]
fn pitfall_11_an_assigned_client_identifier_is_nobody_elses() {
    let (_broker, endpoint) = limited(Limits::default());
    let assigned = || {
        let (peer, connack) = Connect::new(5, "").send(&endpoint);
        let at = connack.windows(5).position(|bytes| bytes == b"auto-").unwrap();
        (peer, String::from_utf8(connack[at..at + 21].to_vec()).unwrap())
    };
    let (_peer, id) = assigned();
    let number = u64::from_str_radix(&id[5..], 16).unwrap();
    let mut waiting: Vec<Peer> = (1..=3)
        .map(|next| {
            let id = format!("auto-{:016x}", number.wrapping_add(next));
            Connect::new(5, &id).accepted(&endpoint)
        })
        .collect();
    let (_victim, id) = assigned();
    let got = u64::from_str_radix(&id[5..], 16).unwrap();
    assert!(got.wrapping_sub(number) > 3, "an identifier that is in use was assigned");
    waiting.iter_mut().for_each(Peer::ping);
}

/// A Remaining Length of five bytes, or of more than it needs, before CONNECT and after it.
#[test]
fn pitfall_2_remaining_length_too_long_or_not_minimal() {
    let (broker, endpoint) = limited(Limits::default());
    for bytes in [&b"\x10\x80\x80\x80\x80\x01"[..], b"\x10\x8C\x00\x00\x04MQTT\x04\x02\x00\x00\x00"]
    {
        let mut peer = Peer::dial(&endpoint);
        peer.send(bytes);
        peer.expect_silent_close();
    }
    for bytes in [&b"\xC0\x80\x00"[..], b"\x30\x80\x80\x80\x80\x01"] {
        let mut five = Connect::new(5, "five").accepted(&endpoint);
        five.send(bytes);
        five.expect_disconnect(0x81);
        let mut four = Connect::new(4, "four").accepted(&endpoint);
        four.send(bytes);
        four.expect_silent_close();
    }
    assert_eq!(broker.counters().malformed_packets, 6);
}

/// Every first byte there is, with nothing behind it: before CONNECT and in three versions.
#[test]
fn pitfall_3_every_packet_type_empty() {
    let (_broker, endpoint) = limited(Limits::default());
    let mut other = Peer::connect(&endpoint, "other");
    for header in 0..=255u8 {
        let mut first = Peer::dial(&endpoint);
        first.send(&[header, 0]);
        first.expect_silent_close();
        for version in [3, 4, 5] {
            let mut peer = Connect::new(version, "a").accepted(&endpoint);
            peer.send(&[header, 0]);
            match header {
                // 3.1 does not use the flags.
                0xC1..=0xCF if version == 3 => assert_eq!(peer.packet(), [0xD0, 0]),
                0xC0 => assert_eq!(peer.packet(), [0xD0, 0]),
                0xE0 => assert!(peer.until_closed().is_empty()),
                _ if version == 5 => {
                    let last = peer.until_closed();
                    assert!(
                        matches!(last[..], [0xE0, _, 0x81 | 0x82, ..]),
                        "{header:x}: {last:x?}"
                    );
                }
                _ => peer.expect_silent_close(),
            }
        }
    }
    other.ping();
}

/// What cannot become a CONNECT is not waited for: neither the rest of it nor the CONNECT timeout.
#[test]
fn pitfall_20_other_protocols_are_closed_at_their_first_bytes() {
    let (broker, endpoint) = limited(Limits::default());
    let others: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 1883\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C",
        b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03",
        b"\x50",
        b"\x30\x7F",
        b"\x10\x7F\0\x04HTTP",
    ];
    for bytes in others {
        let mut peer = Peer::dial(&endpoint);
        peer.send(bytes);
        peer.expect_silent_close();
    }
    until("each is counted", || broker.counters().protocol_errors == 7);
    // A CONNECT in pieces of one byte is not one of them.
    let mut slow = Peer::dial(&endpoint);
    Connect::new(3, "slow").bytes().iter().for_each(|byte| slow.send(&[*byte]));
    assert_eq!(slow.packet(), [0x20, 2, 0, 0]);
}

/// Both directions use identifier 1 at QoS 2, step by step in turn; nothing is mixed up or left over.
#[test]
fn pitfall_5_both_directions_have_their_own_identifiers() {
    let (broker, endpoint) = limited(Limits::default());
    let publisher = broker.client("pub").unwrap();
    for version in [4, 5] {
        let mut peer = Connect::new(version, "a").accepted(&endpoint);
        peer.send(&subscribe(version, "down", 2));
        peer.packet();
        let message = Message::new("down", "x").unwrap().with_qos(QoS::ExactlyOnce);
        in_time(publisher.publish(message)).unwrap();
        assert_eq!(peer.packet()[6..10], *b"wn\x00\x01", "identifier 1");
        peer.send(&publish(version, "up", b"y", 2, 1));
        assert_eq!(peer.packet()[..4], [0x50, if version == 5 { 3 } else { 2 }, 0, 1]);
        peer.send(&[0x50, 2, 0, 1]);
        assert_eq!(peer.packet(), [0x62, 2, 0, 1], "PUBREL for ours");
        peer.send(&[0x62, 2, 0, 1]);
        assert_eq!(peer.packet(), [0x70, 2, 0, 1], "PUBCOMP for theirs");
        let held = broker.sessions().into_iter().find(|session| session.client_id == "a").unwrap();
        assert_eq!((held.inflight, held.receiving), (1, 0));
        peer.send(&[0x70, 2, 0, 1]);
        peer.ping();
        let held = broker.sessions().into_iter().find(|session| session.client_id == "a").unwrap();
        assert_eq!((held.inflight, held.receiving), (0, 0));
    }
    assert!(broker.ledger().balances());
}

/// Acknowledgements of what was never sent, and of what waits behind a full pipe.
#[test]
fn pitfall_12_acknowledgements_of_what_was_not_sent() {
    let broker = Broker::new(1_000);
    let (transport, connector) = MemoryTransport::new("m", 64);
    block_on(broker.add_transport("m", transport)).unwrap();
    let publisher = broker.client("pub").unwrap();
    let mut stream = connector.connect().unwrap();
    in_time(async {
        stream.write_all(&connect_packet("liar")).await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(&subscribe(4, "t", 1)).await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
    });
    for _ in 0..50 {
        let message = Message::new("t", "payload").unwrap().with_qos(QoS::AtLeastOnce);
        in_time(publisher.publish(message)).unwrap();
    }
    in_time(async {
        for id in (1..=300u16).rev() {
            let [high, low] = id.to_be_bytes();
            stream.write_all(&[0x40, 2, high, low]).await.unwrap();
        }
    });
    for _ in 0..200 {
        let ledger = broker.ledger();
        assert!(ledger.balances(), "{ledger:?}");
        assert!(ledger.waiting <= 50 && ledger.inflight <= 50);
        std::thread::yield_now();
    }
    drop(stream);
    until("it is gone", || broker.counters().sessions == 1);
    assert!(broker.ledger().balances());
}

/// The largest and smallest of every number a Client may say.
#[test]
fn pitfall_12_numbers_at_their_ends() {
    let (broker, endpoint) = limited(Limits::default());
    let mut other = Peer::connect(&endpoint, "other");
    other.subscribe("will", 0);
    let most = [
        &[0x11, 0xFF, 0xFF, 0xFF, 0xFF][..], // Session Expiry Interval
        &[0x21, 0xFF, 0xFF],                 // Receive Maximum
        &[0x27, 0xFF, 0xFF, 0xFF, 0xFF],     // Maximum Packet Size
        &[0x22, 0xFF, 0xFF],                 // Topic Alias Maximum
    ]
    .concat();
    let mut peer = Connect { keep_alive: u16::MAX, ..Connect::new(5, "most").props(&most) }
        .accepted(&endpoint);
    peer.send(&subscribe(5, "t", 1));
    peer.packet();
    for expiry in [[0xFF; 4], [0; 4], [0, 0, 0, 1]] {
        let props = [&[2][..], &expiry].concat();
        peer.send(&publish_with(5, "t", b"x", 0, 0, &props));
    }
    peer.ping_through();
    peer.vanish();
    // The smallest: nothing fits, and the server may not send it; it says nothing, and lives.
    let mut tiny = Peer::dial(&endpoint);
    let least =
        [&[0x21, 0, 1][..], &[0x27, 0, 0, 0, 1], &[0x22, 0, 0], &[0x11, 0, 0, 0, 0]].concat();
    tiny.send(&Connect::new(5, "least").props(&least).bytes());
    assert!(tiny.until_closed().is_empty(), "MQTT-3.1.2-24: even CONNACK is too large");
    other.ping();
    assert!(broker.ledger().balances());
}

/// What belongs to the Server cannot be written by a Client on any way there is: live, with an alias,
/// retained, as a Will.
#[test]
fn pitfall_9_no_second_path_to_what_belongs_to_the_server() {
    let (broker, endpoint) = limited(Limits::default());
    let mut watch = Peer::connect(&endpoint, "watch");
    watch.subscribe("$SYS/#", 0);
    watch.subscribe("marker", 0);
    for version in [3, 4, 5] {
        let mut connect = Connect::new(version, "a");
        connect.will = Some(("$SYS/will", "x"));
        let mut peer = connect.accepted(&endpoint);
        for topic in ["$SYS", "$SYS/x", "$share/g/t"] {
            for qos in 0..=2 {
                peer.send(&publish(version, topic, b"x", qos, 1));
                if qos > 0 {
                    let ack = peer.packet();
                    assert_eq!(ack.get(4).is_some_and(|code| *code == 0x87), version == 5);
                }
                if qos == 2 && version < 5 {
                    peer.send(&[0x62, 2, 0, 1]);
                    peer.packet();
                }
                let mut retained = publish(version, topic, b"x", 0, 0);
                retained[0] |= 1;
                peer.send(&retained);
            }
        }
        if version == 5 {
            peer.send(&publish_with(5, "$SYS/y", b"x", 0, 0, &[0x23, 0, 1]));
            peer.send(&publish_with(5, "", b"x", 0, 0, &[0x23, 0, 1]));
        }
        peer.ping_through();
        peer.vanish(); // the Will
        until("it is gone", || broker.counters().connections == 1);
    }
    assert_eq!(broker.counters().retained_messages, 0);
    Peer::connect(&endpoint, "b").publish("marker", "m", 0, 0);
    assert_eq!(watch.packet(), b"\x30\x09\x00\x06markerm");
    let mut late = Peer::connect(&endpoint, "late");
    late.subscribe("$SYS/#", 0);
    late.ping();
}

/// A stream whose way to be written from other tasks panics.
struct Panicking(MemoryTransport);

struct Panics;

impl TryWrite for Panics {
    fn try_write(&self, _bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        panic!("a transport's own bug");
    }
}

impl Transport for Panicking {
    async fn accept(&mut self) -> std::io::Result<Incoming> {
        let Incoming { peer, handshake } = self.0.accept().await?;
        let stream = handshake.await?;
        Ok(Incoming::ready(peer, stream.with_try_write(Arc::new(Panics))))
    }

    fn local_endpoint(&self) -> String {
        self.0.local_endpoint()
    }
}

/// A fault inside one connection is that connection's: not its publishers', not that of the tick.
#[test]
fn pitfall_13_and_16_a_transport_that_panics_harms_nobody_else() {
    let broker = Broker::new(10);
    let (transport, connector) = MemoryTransport::new("m", 64 * 1024);
    block_on(broker.add_transport("m", Panicking(transport))).unwrap();
    let endpoint = listen(&broker, "l");
    let mut stream = connector.connect().unwrap();
    in_time(async {
        stream.write_all(&connect_packet("broken")).await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(&subscribe(4, "#", 0)).await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
    });
    let mut watch = Peer::connect(&endpoint, "watch");
    watch.subscribe("w", 0);
    // A Will with a delay of a second is sent by the tick.
    let delay =
        Connect::new(5, "delayed").persistent().will_delayed("w", "x", 1).accepted(&endpoint);
    delay.vanish();
    let publisher = broker.client("pub").unwrap();
    for _ in 0..100 {
        in_time(publisher.publish(Message::new("t", "x").unwrap())).unwrap();
    }
    // How much of a packet was written is not known: its own connection ends, and nothing follows.
    let mut rest = Vec::new();
    in_time(stream.read_to_end(&mut rest)).unwrap();
    assert_eq!(rest, b"");
    assert_eq!(watch.packet(), b"\x30\x04\x00\x01wx");
    // The tick goes on: what is due after that is done.
    let mut five = Connect::new(5, "later").props(&[0x11, 0, 0, 0, 1]).accepted(&endpoint);
    five.send(&[0xE0, 0]);
    five.until_closed();
    until("a Session ends in its time", || {
        broker.sessions().iter().all(|session| session.client_id != "later")
    });
    assert!(broker.ledger().balances());
}

/// A stream that says CONNECT and SUBSCRIBE, and panics when a PUBLISH is written to it.
struct Faulty(Vec<u8>);

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let said = std::mem::take(&mut self.0);
        buf[..said.len()].copy_from_slice(&said);
        if said.is_empty() { Poll::Pending } else { Poll::Ready(Ok(said.len())) }
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        assert_ne!(buf.first(), Some(&0x30), "a transport's own bug");
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// One peer, and no more.
struct OneFaulty(Option<Vec<u8>>);

impl Transport for OneFaulty {
    async fn accept(&mut self) -> std::io::Result<Incoming> {
        match self.0.take() {
            Some(said) => Ok(Incoming::ready("faulty", ByteStream::new(Faulty(said)))),
            None => std::future::pending().await,
        }
    }

    fn local_endpoint(&self) -> String {
        "faulty".to_owned()
    }
}

#[test]
fn pitfall_13_a_stream_that_panics_ends_alone() {
    let broker = Broker::new(1);
    let said = [connect_packet("faulty"), subscribe(4, "t", 0)].concat();
    block_on(broker.add_transport("f", OneFaulty(Some(said)))).unwrap();
    until("it subscribes", || broker.counters().subscriptions == 1);
    let publisher = broker.client("pub").unwrap();
    for _ in 0..10 {
        in_time(publisher.publish(Message::new("t", "x").unwrap())).unwrap();
    }
    until("it is gone", || broker.counters().sessions == 1 && broker.counters().connections == 0);
    assert!(broker.ledger().balances());
}

/// Neither the publisher nor other subscribers wait for a subscriber that does not read.
#[test]
fn pitfall_14_a_reader_that_stopped_blocks_nobody() {
    let (broker, endpoint) = limited(Limits::default());
    let mut slow = Connect::new(4, "slow").accepted(&endpoint);
    slow.send(&subscribe(4, "t", 0));
    slow.packet();
    let mut prompt = Connect::new(4, "prompt").accepted(&endpoint);
    prompt.send(&subscribe(4, "t", 0));
    prompt.packet();
    let mut publisher = Connect::new(4, "pub").accepted(&endpoint);
    let payload = vec![b'x'; 32 * 1024];
    let bytes = publish(4, "t", &payload, 0, 0);
    let mut came = vec![0; bytes.len()];
    for _ in 0..600 {
        publisher.send(&bytes);
        std::io::Read::read_exact(&mut prompt.0, &mut came).unwrap();
    }
    publisher.ping();
    prompt.ping();
    let ledger = broker.ledger();
    assert!(ledger.balances() && ledger.dropped(hrotti::DropReason::QueueFull) > 0, "{ledger:?}");
    drop(slow);
}

/// A peer that talks and never listens is not read any more: what it makes us keep is bounded.
#[test]
fn pitfall_15_answers_to_a_peer_that_does_not_read_are_bounded() {
    let broker = Broker::new(100);
    let (transport, connector) = MemoryTransport::new("m", 4_096);
    block_on(broker.add_transport("m", transport)).unwrap();
    let endpoint = listen(&broker, "l");
    let mut stream = connector.connect().unwrap();
    in_time(stream.write_all(&connect_packet("talker"))).unwrap();
    let pings = [0xC0, 0].repeat(2_048);
    // Each write ends when the server has read most of it; at some moment it does not any more.
    let stopped = in_time(async {
        for _ in 0..1_000 {
            let write = async { stream.write_all(&pings).await.is_ok() };
            let late = async {
                async_io::Timer::after(Duration::from_millis(500)).await;
                false
            };
            if !futures_lite::future::or(write, late).await {
                return true;
            }
        }
        false
    });
    assert!(stopped, "4 MB of answers were kept for a peer that reads nothing");
    Peer::connect(&endpoint, "other").ping();
}

/// What Clients name themselves comes escaped into the log, and at the default level a Client makes a line when it
/// connects and one when it leaves, and no message makes one.
#[test]
fn pitfall_18_log_lines_cannot_be_forged() {
    static LINES: Mutex<Vec<(log::Level, String, String)>> = Mutex::new(Vec::new());
    struct Collect;
    impl log::Log for Collect {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.target().starts_with("hrotti")
        }
        fn log(&self, record: &log::Record<'_>) {
            let line = record.args().to_string();
            if line.contains("forger") || line.contains("FORGED") {
                let target = record.target().to_owned();
                LINES.lock().unwrap().push((record.level(), target, line));
            }
        }
        fn flush(&self) {}
    }
    log::set_logger(&Collect).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let (_broker, endpoint) = limited(Limits::default());
    let mut peer = Connect::new(5, "forger\nFORGED line\r\x1b[2J").accepted(&endpoint);
    peer.send(&subscribe(5, "forger\nFORGED", 0));
    peer.packet();
    for _ in 0..20 {
        peer.send(&publish(5, "forger\nFORGED", b"forger\nFORGED", 0, 0));
        peer.packet();
    }
    peer.send(&publish(5, "forger\nFORGED/#", b"", 0, 0)); // a fault
    peer.until_closed();
    log::set_max_level(log::LevelFilter::Off);
    let lines = LINES.lock().unwrap();
    let mut told = Vec::new();
    for (level, target, line) in lines.iter() {
        assert!(!line.contains(['\n', '\r', '\x1b']), "{line:?}");
        if *level < log::Level::Debug {
            told.push((target.as_str(), line.contains(" disconnected: ")));
        }
    }
    assert_eq!(told, [("hrotti::connections", false), ("hrotti::connections", true)]);
}

/// Topics of 65 535 bytes that are all levels: refused by their number, and harmless where allowed.
#[test]
fn pitfall_6_topics_of_nothing_but_levels() {
    let deep = "/".repeat(65_535);
    let (broker, endpoint) = limited(Limits::default());
    let mut peer = Connect::new(5, "a").accepted(&endpoint);
    peer.send(&subscribe(5, &deep, 0));
    assert_eq!(peer.packet().last(), Some(&0x8F));
    peer.send(&publish(5, &deep, b"", 0, 0));
    peer.expect_disconnect(0x90);
    assert_eq!(broker.counters().topics_refused, 2);
    let (_broker, endpoint) = limited(Limits { topic_levels_max: 65_536, ..Limits::default() });
    let mut peer = Connect::new(4, "a").accepted(&endpoint);
    let wild = "+/".repeat(32_000) + "#";
    for filter in [&deep, &wild] {
        peer.send(&subscribe(4, filter, 0));
        assert_eq!(peer.packet().last(), Some(&0));
    }
    peer.send(&publish(4, &"/".repeat(65_534), b"", 0, 0));
    peer.send(&[0xC0, 0]);
    let mut header = [0; 4];
    std::io::Read::read_exact(&mut peer.0, &mut header).unwrap();
    assert_eq!(header[0], 0x30, "the wildcards match");
    peer.send(&[0xE0, 0]);
    peer.until_closed();
    Peer::connect(&endpoint, "other").ping();
}
