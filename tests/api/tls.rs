//! TLS listeners: attacks on the handshake, replaced certificates, and load.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use hrotti::transport::tls::TlsMaterial;
use hrotti::transport::{PeerIdentity, Transport};
use hrotti::{Broker, Counters, Limits, ListenerConfig, ListenerError, Message, QoS};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::authority::{Authority, Issued, Valid};
use crate::peer::{DEADLINE, Peer, block_on, connect_packet, in_time, listen, subscribe_packet};

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("Test"));
static SERVER: LazyLock<Issued> = LazyLock::new(|| AUTHORITY.server(&["127.0.0.1"]));

fn material(issued: &Issued) -> TlsMaterial {
    TlsMaterial::new(issued.certificate.clone(), issued.key.clone())
}

/// Adds a TLS listener, and says where it is.
fn secure(broker: &Broker, name: &str) -> String {
    let config = ListenerConfig::new("mqtts://127.0.0.1:0").unwrap();
    let bound = block_on(config.bind_with_tls(&broker.limits(), &material(&SERVER))).unwrap();
    let endpoint = block_on(broker.add_transport(name, bound)).unwrap();
    endpoint.strip_prefix("mqtts://").unwrap().to_owned()
}

fn limited(limits: Limits) -> (Broker, String) {
    let broker = Broker::builder().limits(limits).build();
    let address = secure(&broker, "secure");
    (broker, address)
}

/// Waits until the counters say so.
fn until(broker: &Broker, holds: impl Fn(&Counters) -> bool) {
    in_time(async {
        while !holds(&broker.counters()) {
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
    });
}

/// A Client of MQTT 3.1.1 over TLS.
struct Secure(StreamOwned<ClientConnection, TcpStream>);

impl Secure {
    fn dial(address: &str) -> Secure {
        static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
            let mut roots = RootCertStore::empty();
            roots.add(AUTHORITY.certificate.der().clone()).unwrap();
            let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
            let builder = builder.with_safe_default_protocol_versions().unwrap();
            Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
        });
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let tls = ClientConnection::new(CONFIG.clone(), name).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Secure(StreamOwned::new(tls, socket))
    }

    fn connect(address: &str, id: &str) -> Secure {
        let mut client = Secure::dial(address);
        client.send(&connect_packet(id));
        assert_eq!(client.bytes(4), [0x20, 2, 0, 0], "CONNACK");
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        assert_eq!(self.bytes(2), [0xD0, 0], "PINGRESP");
    }

    /// The next packet, without its fixed header.
    fn body(&mut self) -> Vec<u8> {
        self.bytes(1);
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = self.bytes(1)[0];
            len |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                return self.bytes(len);
            }
        }
    }
}

/// Pitfall 20: a peer that says nothing, or half of it.
#[test]
fn half_open_handshakes_time_out_and_are_counted_pitfall_20() {
    let timeout = Duration::from_millis(300);
    let limits = Limits { handshake_timeout: timeout, handshakes_max: 50, ..Limits::default() };
    let (broker, address) = limited(limits);
    let mut silent: Vec<_> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for (index, peer) in silent.iter_mut().enumerate() {
        // A ClientHello of which the rest never comes.
        peer.write_all(&b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03"[..index % 12]).unwrap();
    }
    // Those that have a place lose it to the others, if they are not late before.
    until(&broker, |counters| counters.handshakes_timed_out + counters.handshakes_displaced >= 100);
    for mut peer in silent {
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)), "it was closed");
    }
    Secure::connect(&address, "after").ping();
    assert_eq!(broker.counters().handshakes_failed, 0);
}

#[test]
fn a_flood_of_garbage_is_refused_and_counted() {
    let (broker, address) = limited(Limits::default());
    let mut healthy = Secure::connect(&address, "healthy");
    let mut garbage = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..200_u64 {
        let mut peer = TcpStream::connect(&address).unwrap();
        let bytes: Vec<u8> = (0..400)
            .flat_map(|_| {
                garbage ^= garbage << 13;
                garbage ^= garbage >> 7;
                garbage ^= garbage << 17;
                garbage.to_le_bytes()
            })
            .collect();
        // Whatever looks like a record at first, too.
        let head: &[u8] = match round % 4 {
            0 => b"",
            1 => b"\x16",
            2 => b"\x16\x03\x01",
            _ => b"\x16\x03\x01\x00\x80\x01\x00\x00\x7c\x03\x03",
        };
        let _ = peer.write_all(head).and_then(|()| peer.write_all(&bytes));
        let _ = peer.shutdown(std::net::Shutdown::Write);
    }
    until(&broker, |counters| counters.handshakes_failed == 200);
    healthy.ping();
    Secure::connect(&address, "after").ping();
}

#[test]
fn plain_mqtt_at_a_tls_port_is_refused_at_its_first_byte() {
    let (broker, address) = limited(Limits::default());
    let mut peer = Peer::dial(&address);
    peer.send(&connect_packet("plain")[..1]);
    peer.expect_closed();
    until(&broker, |counters| counters.handshakes_failed == 1);
}

#[test]
fn tls_at_a_plain_port_is_refused() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "plain");
    let mut client = Secure::dial(endpoint.strip_prefix("tcp://").unwrap());
    let error =
        client.0.write_all(&connect_packet("secure")).and_then(|()| client.0.read_exact(&mut [0]));
    error.unwrap_err();
    until(&broker, |counters| counters.protocol_errors == 1);
}

/// The certificate that the server shows now.
fn shown(address: &str) -> Vec<u8> {
    let mut client = Secure::connect(address, "looks");
    client.ping();
    client.0.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn the_certificate_of_a_listener_is_replaced_while_it_runs() {
    let (broker, address) = limited(Limits::default());
    listen(&broker, "plain");
    let mut old = Secure::connect(&address, "old");
    assert_eq!(shown(&address), SERVER.der);
    let renewed = AUTHORITY.server(&["127.0.0.1"]);
    for (name, material, expected) in [
        ("other", material(&renewed), "no listener named"),
        ("plain", material(&renewed), "has no TLS"),
        ("secure", TlsMaterial::new("", renewed.key.clone()), "certificate: it is empty"),
        (
            "secure",
            TlsMaterial::new(SERVER.certificate.clone(), renewed.key.clone()),
            "does not belong",
        ),
    ] {
        let error = broker.replace_tls(name, &material).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(matches!(error, ListenerError::Tls(_)), name == "secure");
        assert_eq!(shown(&address), SERVER.der, "the old one stays");
    }
    assert_eq!(broker.replace_tls("secure", &material(&renewed)).unwrap(), Vec::<String>::new());
    assert_eq!(shown(&address), renewed.der);
    old.ping();
    let expired = AUTHORITY.server_valid(&["127.0.0.1"], Valid::Before);
    let warnings = broker.replace_tls("secure", &material(&expired)).unwrap();
    assert!(warnings[0].contains("has expired"), "{warnings:?}");
}

#[test]
fn a_message_of_megabytes_goes_through_tls_and_back() {
    let (_broker, address) = limited(Limits::default());
    let mut client = Secure::connect(&address, "large");
    client.send(&subscribe_packet("t", 0));
    client.bytes(5);
    let payload: Vec<u8> = (0..5_000_000_u32).map(|n| (n ^ n >> 9) as u8).collect();
    let body = [&b"\0\x01t"[..], &payload].concat();
    let packet = crate::raw::packet(0x30, &body);
    client.send(&packet);
    assert!(client.body() == body, "it came back as it was");
    client.ping();
}

/// Publishers write to subscribers from their own tasks, on both event loops and from this thread.
#[test]
fn messages_of_many_publishers_reach_tls_subscribers_whole_and_in_order() {
    const EACH: usize = 3_000;
    let builder = Broker::builder().max_queue_depth(100_000);
    let broker = builder.event_loops(if cfg!(target_os = "linux") { 2 } else { 0 }).build();
    let address = secure(&broker, "secure");
    let mut subscribers: Vec<_> = (0..3)
        .map(|n| {
            let mut subscriber = Secure::connect(&address, &format!("sub{n}"));
            subscriber.send(&subscribe_packet("load/#", 0));
            subscriber.bytes(5);
            subscriber
        })
        .collect();
    let publishers: Vec<_> = (0..4)
        .map(|n| {
            let (address, broker) = (address.clone(), broker.clone());
            thread::spawn(move || publish_in_order(n, &address, &broker, EACH))
        })
        .collect();
    let readers: Vec<_> = subscribers
        .drain(..)
        .map(|subscriber| thread::spawn(move || read_in_order(subscriber, 4 * EACH)))
        .collect();
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    for reader in readers {
        reader.join().unwrap();
    }
}

fn publish_in_order(n: usize, address: &str, broker: &Broker, count: usize) {
    let topic = format!("load/{n}");
    let payload = |number: usize| format!("{number} {}", "x".repeat(number % 300));
    if n == 0 {
        let client = broker.client("inside").unwrap();
        for number in 0..count {
            let message = Message::new(&topic, payload(number)).unwrap().with_qos(QoS::AtMostOnce);
            block_on(client.publish(message)).unwrap();
        }
        return;
    }
    let mut client = Secure::connect(address, &format!("pub{n}"));
    for number in 0..count {
        let body = [&crate::raw::text(&topic)[..], payload(number).as_bytes()].concat();
        client.send(&crate::raw::packet(0x30, &body));
    }
    client.ping();
}

fn read_in_order(mut subscriber: Secure, count: usize) {
    let mut next = [0_usize; 4];
    for _ in 0..count {
        let body = subscriber.body();
        let publisher = usize::from(body[2 + 5] - b'0');
        let text = std::str::from_utf8(&body[8..]).unwrap();
        let (number, filler) = text.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        assert_eq!((number, filler.len()), (next[publisher], number % 300), "of {publisher}");
        next[publisher] += 1;
    }
}

#[test]
fn stopping_tells_a_tls_client_and_ends_its_stream_in_order() {
    let (broker, address) = limited(Limits::default());
    let mut client = Secure::connect(&address, "client");
    in_time(broker.stop());
    let mut rest = Vec::new();
    client.0.read_to_end(&mut rest).expect("close_notify came before the end");
    assert_eq!(rest, b"", "3.1.1 has no DISCONNECT of servers");
}

#[test]
fn the_names_of_a_certificate_are_those_of_its_peer() {
    let device = AUTHORITY.client("device");
    let material = material(&SERVER).with_client_ca("ca.pem", AUTHORITY.pem());
    let config = ListenerConfig::new("mqtts://127.0.0.1:0").unwrap();
    let mut bound = block_on(config.bind_with_tls(&Limits::default(), &material)).unwrap();
    let endpoint = bound.local_endpoint();
    let address = endpoint.strip_prefix("mqtts://").unwrap().to_owned();
    let client = thread::spawn(move || {
        use rustls::pki_types::pem::PemObject;

        let mut roots = RootCertStore::empty();
        roots.add(AUTHORITY.certificate.der().clone()).unwrap();
        let chain = vec![device.der.clone().into()];
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(device.key.as_bytes()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key);
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut tls = ClientConnection::new(Arc::new(config.unwrap()), name).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        tls.complete_io(&mut socket).unwrap();
        socket
    });
    let incoming = in_time(bound.accept()).unwrap();
    let address = incoming.peer.address();
    let stream = in_time(incoming.handshake).unwrap();
    let peer = stream.peer().unwrap();
    assert_eq!(peer.address(), address);
    match peer.identity() {
        Some(PeerIdentity::Certificate(names)) => {
            assert_eq!(names.common_name.as_deref(), Some("device"));
        }
        other => panic!("{other:?}"),
    }
    drop(client.join().unwrap());
}
