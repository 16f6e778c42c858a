//! A peer on the network that speaks just enough of MQTT 3.1.1 over TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hrotti::{Broker, ListenerConfig};

pub(crate) const DEADLINE: Duration = Duration::from_secs(8);

/// A free port of loopback.
pub(crate) const ANY: &str = "tcp://127.0.0.1:0";

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures_lite::future::block_on(future)
}

/// Fails the test where `future` does not end in time.
pub(crate) fn in_time<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        async_io::Timer::after(DEADLINE).await;
        panic!("not within {DEADLINE:?}");
    };
    block_on(futures_lite::future::or(future, late))
}

/// Adds a TCP listener on a free port and says where it is.
pub(crate) fn listen(broker: &Broker, name: &str) -> String {
    block_on(broker.add_listener(name, ListenerConfig::new(ANY).unwrap())).unwrap()
}

pub(crate) fn connect_packet(id: &str) -> Vec<u8> {
    let mut packet = b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00".to_vec();
    packet[1] += id.len() as u8;
    packet.push(id.len() as u8);
    packet.extend(id.bytes());
    packet
}

pub(crate) fn subscribe_packet(filter: &str, qos: u8) -> Vec<u8> {
    let mut packet = vec![0x82, filter.len() as u8 + 5, 0, 1, 0, filter.len() as u8];
    packet.extend(filter.bytes());
    packet.push(qos);
    packet
}

pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    /// Opens a TCP stream to an endpoint as `add_listener` returns it.
    pub(crate) fn dial(endpoint: &str) -> Peer {
        let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Peer(stream)
    }

    /// Connects with a Clean Session.
    pub(crate) fn connect(endpoint: &str, id: &str) -> Peer {
        let mut peer = Peer::dial(endpoint);
        peer.send(&connect_packet(id));
        assert_eq!(peer.packet(), [0x20, 2, 0, 0], "CONNACK");
        peer
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        self.send(&subscribe_packet(filter, qos));
        assert_eq!(self.packet(), [0x90, 3, 0, 1, qos], "SUBACK");
    }

    /// Sends a PUBLISH with a one-byte length; `id` 0 means QoS 0.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: u8, id: u8) {
        let mut body = vec![0, topic.len() as u8];
        body.extend(topic.bytes());
        if qos > 0 {
            body.extend([0, id]);
        }
        body.extend(payload.bytes());
        assert!(body.len() < 128);
        self.send(&[0x30 | qos << 1, body.len() as u8]);
        self.send(&body);
    }

    /// The next packet, shorter than 130 bytes.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        self.0.read_exact(&mut packet).unwrap();
        assert!(packet[1] < 128);
        let mut body = vec![0; packet[1].into()];
        self.0.read_exact(&mut body).unwrap();
        packet.extend(body);
        packet
    }

    /// PINGREQ, PINGRESP: the connection lives.
    pub(crate) fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        assert_eq!(self.packet(), [0xD0, 0], "PINGRESP");
    }

    /// Reads until the server closes.
    pub(crate) fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "the server closes"),
        }
    }
}
