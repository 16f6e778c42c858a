//! One publisher and one subscriber on the memory transport: all that a message costs but the system calls.

use futures_lite::future::block_on;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::transport::memory::{MemoryConnector, MemoryStream, MemoryTransport};
use hrotti::{Broker, Limits};

use super::Operation;
use super::packets::{TOPIC, ack, connect, publish, subscribe};
use crate::packet::QoS;

/// Messages under way.
pub(super) const BATCH: usize = 256;
const PAYLOAD: usize = 64;
const QUEUE_DEPTH: usize = 100_000;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        pair("qos0", QoS::AtMostOnce),
        pair("qos1", QoS::AtLeastOnce),
        pair("qos2", QoS::ExactlyOnce),
        subscribing(),
        connecting(),
    ]
}

/// A broker that is reached inside this process.
pub(super) struct Memory {
    broker: Broker,
    connector: MemoryConnector,
}

impl Memory {
    pub(super) fn new() -> Memory {
        let limits = Limits { max_queue_depth: QUEUE_DEPTH, ..Limits::default() };
        let broker = Broker::builder().limits(limits).build();
        let (transport, connector) =
            MemoryTransport::new("benches", 4 * MemoryTransport::DEFAULT_CAPACITY);
        block_on(broker.add_transport("benches", transport)).expect("the only listener");
        Memory { broker, connector }
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// A Client whose CONNECT was accepted.
    pub(super) fn connect(&self, client_id: &str) -> Peer {
        let stream = self.connector.connect().expect("a listener");
        let mut peer = Peer { stream, read: Vec::new() };
        peer.write(&connect(client_id));
        assert_eq!(peer.read(4), [0x20, 2, 0, 0], "CONNACK");
        peer
    }
}

/// The Client's end of a connection.
pub(super) struct Peer {
    pub(super) stream: MemoryStream,
    read: Vec<u8>,
}

impl Peer {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        block_on(self.stream.write_all(bytes)).expect("the broker reads");
    }

    /// Waits for so many bytes.
    pub(super) fn read(&mut self, len: usize) -> &[u8] {
        self.read.resize(len, 0);
        block_on(self.stream.read_exact(&mut self.read)).expect("the broker writes");
        &self.read
    }

    pub(super) fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.write(&subscribe(&[filter.to_owned()], qos));
        assert_eq!(self.read(5), [0x90, 3, 0, 1, qos as u8], "SUBACK");
    }

    /// Reads an acknowledgement for each message; how many of them are of this kind.
    fn read_acks(&mut self, header: u8) -> usize {
        self.read(4 * BATCH).chunks_exact(4).filter(|ack| ack[0] == header).count()
    }
}

fn acks(header: u8, ids: &[u16]) -> Vec<u8> {
    ids.iter().flat_map(|&id| ack(header, id)).collect()
}

/// Sends a batch, receives it, and exchanges what the QoS asks for on both sides.
fn pair(name: &str, qos: QoS) -> Operation {
    Operation::new("pair", name, BATCH as u64, BATCH, move || {
        let memory = Memory::new();
        let (mut publisher, mut subscriber) = (memory.connect("p"), memory.connect("s"));
        subscriber.subscribe("plant/#", qos);
        let own: Vec<u16> = (1..).take(BATCH).collect();
        let packets: Vec<Vec<u8>> =
            own.iter().map(|&id| publish(qos, TOPIC, id, &[], PAYLOAD)).collect();
        let size = packets[0].len();
        let batch = packets.concat();
        let id_at = 4 + TOPIC.len();
        move || {
            let _alive = &memory;
            publisher.write(&batch);
            let received = subscriber.read(batch.len()).chunks_exact(size);
            if qos == QoS::AtMostOnce {
                return received.filter(|packet| packet[0] == 0x30).count();
            }
            let ids: Vec<u16> =
                received.map(|p| u16::from_be_bytes([p[id_at], p[id_at + 1]])).collect();
            if qos == QoS::AtLeastOnce {
                subscriber.write(&acks(0x40, &ids));
                return publisher.read_acks(0x40);
            }
            subscriber.write(&acks(0x50, &ids));
            let released = subscriber.read_acks(0x62);
            subscriber.write(&acks(0x70, &ids));
            let answered = publisher.read_acks(0x50);
            publisher.write(&acks(0x62, &own));
            released.min(answered).min(publisher.read_acks(0x70))
        }
    })
}

/// SUBSCRIBE of a new filter, one packet each, and UNSUBSCRIBE of all in one packet.
fn subscribing() -> Operation {
    Operation::new("pair", "subscribe-and-unsubscribe", BATCH as u64, BATCH, || {
        let memory = Memory::new();
        let mut peer = memory.connect("s");
        let filters: Vec<String> = (0..BATCH).map(|n| format!("plant/line-{n}/+/speed")).collect();
        let batch: Vec<u8> = filters
            .iter()
            .flat_map(|filter| subscribe(std::slice::from_ref(filter), QoS::AtLeastOnce))
            .collect();
        let texts: Vec<u8> =
            filters.iter().flat_map(|filter| super::packets::string(filter)).collect();
        let none = super::packets::packet(0xA2, &[&[0, 1], &texts]);
        move || {
            let _alive = &memory;
            peer.write(&batch);
            let granted = peer.read(5 * BATCH).chunks_exact(5).filter(|ack| ack[4] == 1).count();
            peer.write(&none);
            peer.read(4);
            granted
        }
    })
}

/// CONNECT, CONNACK and DISCONNECT.
fn connecting() -> Operation {
    Operation::new("pair", "connect-and-disconnect", 1, 0, || {
        let memory = Memory::new();
        move || {
            let mut peer = memory.connect("c");
            peer.write(&[0xE0, 0]);
            let mut rest = Vec::new();
            block_on(peer.stream.read_to_end(&mut rest)).map_or(1, |read| read)
        }
    })
}
