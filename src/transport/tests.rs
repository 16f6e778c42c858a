//! What every transport has to do, checked once for each that ships.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;

use futures_lite::future::block_on;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::memory::{MemoryConnector, MemoryStream, MemoryTransport};
use super::tcp::TcpTransport;
use super::*;

/// The other end of a connection, blocking.
pub(super) trait Peer: Send {
    /// Sends all of `bytes` at once.
    fn send(&mut self, bytes: &[u8]);
    /// Receives as many bytes as `buf` has room for.
    fn receive(&mut self, buf: &mut [u8]);
    /// Receives until the end of the stream.
    fn receive_all(&mut self) -> Vec<u8>;
    /// Sends nothing more.
    fn end(&mut self);
}

/// How the checks bind and dial a transport.
pub(super) trait Fixture: Clone + Send + Sync + 'static {
    type Transport: Transport;
    /// Streams offer [`TryWrite`].
    const INLINE: bool;
    /// A peer can send after it received the end of the stream.
    const HALF_CLOSE: bool;
    fn bind() -> (Self::Transport, Self);
    fn dial(&self) -> io::Result<Box<dyn Peer>>;
    /// Connects and says nothing.
    fn knock(&self) -> Box<dyn Send>;
}

/// Both ends of a new connection.
fn connect<F: Fixture>(transport: &mut F::Transport, fixture: &F) -> (ByteStream, Box<dyn Peer>) {
    let fixture = fixture.clone();
    let dialling = thread::spawn(move || fixture.dial().expect("the listener is there"));
    let incoming = block_on(transport.accept()).expect("a peer dials");
    let stream = block_on(incoming.handshake).expect("the peer behaves");
    (stream, dialling.join().expect("dialled"))
}

pub(super) fn pair<F: Fixture>() -> (ByteStream, Box<dyn Peer>) {
    let (mut transport, fixture) = F::bind();
    connect::<F>(&mut transport, &fixture)
}

pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) >> 3).to_le_bytes()[0]).collect()
}

pub(super) fn read_exactly(stream: &mut ByteStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    block_on(stream.read_exact(&mut bytes)).expect("the bytes come");
    bytes
}

/// Bytes arrive whole and in order, wherever they are cut (MQTT-4.2-1).
pub(super) fn split_at_every_border<F: Fixture>() {
    let (mut stream, mut peer) = pair::<F>();
    let bytes = pattern(40);
    for cut in 0..=bytes.len() {
        peer.send(&bytes[..cut]);
        if cut % 2 == 0 && cut > 0 {
            // The rest follows a read that found less than it had room for.
            let mut room = [0; 64];
            let n = block_on(stream.read(&mut room)).expect("the first part");
            assert!(0 < n && n <= cut);
            assert_eq!(room[..n], bytes[..n]);
            peer.send(&bytes[cut..]);
            assert_eq!(read_exactly(&mut stream, bytes.len() - n), bytes[n..]);
        } else {
            peer.send(&bytes[cut..]);
            assert_eq!(read_exactly(&mut stream, bytes.len()), bytes);
        }
    }
    for byte in &bytes {
        peer.send(&[*byte]);
    }
    for byte in bytes {
        assert_eq!(read_exactly(&mut stream, 1), [byte]);
    }
}

pub(super) fn a_mebibyte_in_both_directions<F: Fixture>() {
    let (mut stream, mut peer) = pair::<F>();
    let bytes = pattern(1 << 20);
    let expected = bytes.clone();
    let other_end = thread::spawn(move || {
        peer.send(&bytes);
        let mut back = vec![0; bytes.len()];
        peer.receive(&mut back);
        assert!(back == bytes, "other bytes came back");
    });
    let received = read_exactly(&mut stream, expected.len());
    assert!(received == expected, "other bytes came");
    block_on(async {
        stream.write_all(&received).await?;
        stream.flush().await
    })
    .expect("the peer reads");
    other_end.join().expect("the peer got all");
}

pub(super) fn vectored_writes_keep_their_order<F: Fixture>() {
    let (mut stream, mut peer) = pair::<F>();
    let bytes = pattern(3_000);
    let slices = [IoSlice::new(&bytes[..1]), IoSlice::new(&[]), IoSlice::new(&bytes[1..])];
    let n = block_on(stream.write_vectored(&slices)).expect("the peer is there");
    assert_eq!(n, bytes.len(), "an idle connection takes this much at once");
    block_on(stream.flush()).expect("the peer is there");
    let mut received = vec![0; bytes.len()];
    peer.receive(&mut received);
    assert_eq!(received, bytes);
}

pub(super) fn close_sends_what_was_written_and_then_the_end<F: Fixture>() {
    let (mut stream, mut peer) = pair::<F>();
    let bytes = pattern(300_000);
    let expected = bytes.clone();
    let other_end = thread::spawn(move || {
        assert!(peer.receive_all() == expected, "not what was written");
        if F::HALF_CLOSE {
            peer.send(b"still here");
        }
        peer.end();
    });
    block_on(async {
        stream.write_all(&bytes).await?;
        stream.close().await
    })
    .expect("the peer reads");
    let mut rest = Vec::new();
    block_on(stream.read_to_end(&mut rest)).expect("the peer ends");
    assert_eq!(rest, if F::HALF_CLOSE { &b"still here"[..] } else { b"" });
    other_end.join().expect("the peer got all and the end");
    assert!(block_on(stream.write(b"x")).is_err(), "closed");
}

pub(super) fn the_end_follows_the_last_bytes<F: Fixture>() {
    let (mut stream, mut peer) = pair::<F>();
    peer.send(b"last");
    peer.end();
    let mut received = Vec::new();
    block_on(stream.read_to_end(&mut received)).expect("an end, not an error");
    assert_eq!(received, b"last");
    assert_eq!(block_on(stream.read(&mut [0; 8])).expect("it stays the end"), 0);
}

pub(super) fn a_vanished_peer_is_noticed<F: Fixture>() {
    let (mut stream, peer) = pair::<F>();
    block_on(stream.write_all(b"unread")).expect("the peer is there");
    block_on(stream.flush()).expect("the peer is there");
    drop(peer);
    // Either the end or an error, but not a wait.
    let _ = block_on(stream.read_to_end(&mut Vec::new()));
    let block = vec![0; 65_536];
    while block_on(stream.write(&block)).is_ok() {}
}

pub(super) fn a_dropped_stream_ends_the_connection<F: Fixture>() {
    let (stream, mut peer) = pair::<F>();
    let inline = stream.inline.clone(); // held by others, as a Session may
    drop(stream);
    assert_eq!(peer.receive_all(), b"");
    if let Some(inline) = inline {
        assert!(inline.try_write(&[IoSlice::new(b"x")]).is_err());
    }
}

pub(super) fn a_hung_handshake_holds_up_nobody<F: Fixture>() {
    let (mut transport, fixture) = F::bind();
    let silent = fixture.knock();
    let hung = block_on(transport.accept()).expect("the silent peer");
    let (mut stream, mut peer) = connect::<F>(&mut transport, &fixture);
    peer.send(b"through");
    assert_eq!(read_exactly(&mut stream, 7), b"through");
    drop((hung, silent));
}

pub(super) fn a_dropped_accept_loses_no_peer<F: Fixture>() {
    let (mut transport, fixture) = F::bind();
    let given_up = block_on(futures_lite::future::poll_once(transport.accept()));
    assert!(given_up.is_none(), "nobody dials yet");
    let (mut stream, mut peer) = connect::<F>(&mut transport, &fixture);
    peer.send(b"hello");
    assert_eq!(read_exactly(&mut stream, 5), b"hello");
}

pub(super) fn dropping_the_listener_ends_listening<F: Fixture>() {
    let (mut transport, fixture) = F::bind();
    let (mut stream, mut peer) = connect::<F>(&mut transport, &fixture);
    drop(transport);
    assert!(fixture.dial().is_err());
    peer.send(b"alive"); // what was accepted lives on
    assert_eq!(read_exactly(&mut stream, 5), b"alive");
}

pub(super) fn try_write_never_waits<F: Fixture>() {
    let (mut stream, mut peer) = pair::<F>();
    assert_eq!(stream.inline.is_some(), F::INLINE);
    let Some(inline) = stream.inline.clone() else {
        return;
    };
    let block = pattern(65_536);
    let mut written = Vec::new();
    let error = loop {
        match inline.try_write(&[IoSlice::new(&block[..100]), IoSlice::new(&block[100..])]) {
            Ok(n) => written.extend_from_slice(&block[..n]),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let (sent, received) = mpsc::channel();
    let expected = written.len() + block.len();
    let other_end = thread::spawn(move || {
        let mut bytes = vec![0; expected];
        peer.receive(&mut bytes);
        sent.send(bytes).expect("the test waits");
    });
    // The owner waits for room, which inline writers may not, and continues after them.
    block_on(stream.write_all(&block)).expect("the peer reads now");
    written.extend_from_slice(&block);
    assert!(received.recv().expect("the peer") == written, "out of order");
    other_end.join().expect("the peer");
}

/// One test for each check.
macro_rules! checks {
    ($fixture:ty: $($check:ident)*) => {
        $(#[test]
        fn $check() {
            crate::transport::tests::$check::<$fixture>();
        })*
    };
    ($fixture:ty) => {
        crate::transport::tests::checks!($fixture:
            split_at_every_border
            a_mebibyte_in_both_directions
            vectored_writes_keep_their_order
            close_sends_what_was_written_and_then_the_end
            the_end_follows_the_last_bytes
            a_vanished_peer_is_noticed
            a_dropped_stream_ends_the_connection
            a_hung_handshake_holds_up_nobody
            a_dropped_accept_loses_no_peer
            dropping_the_listener_ends_listening
            try_write_never_waits
        );
    };
}
pub(super) use checks;

impl Peer for TcpStream {
    fn send(&mut self, bytes: &[u8]) {
        io::Write::write_all(self, bytes).expect("the server reads");
    }

    fn receive(&mut self, buf: &mut [u8]) {
        io::Read::read_exact(self, buf).expect("the server writes");
    }

    fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(self, &mut bytes).expect("the server ends");
        bytes
    }

    fn end(&mut self) {
        self.shutdown(Shutdown::Write).expect("connected");
    }
}

impl Peer for MemoryStream {
    fn send(&mut self, bytes: &[u8]) {
        block_on(self.write_all(bytes)).expect("the server reads");
    }

    fn receive(&mut self, buf: &mut [u8]) {
        block_on(self.read_exact(buf)).expect("the server writes");
    }

    fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        block_on(self.read_to_end(&mut bytes)).expect("the server ends");
        bytes
    }

    fn end(&mut self) {
        block_on(self.close()).expect("a close");
    }
}

mod tcp {
    use std::net::SocketAddr;

    use super::*;

    impl Fixture for SocketAddr {
        type Transport = TcpTransport;
        const INLINE: bool = true;
        const HALF_CLOSE: bool = true;

        fn bind() -> (TcpTransport, SocketAddr) {
            let transport = block_on(TcpTransport::bind("127.0.0.1", 0)).expect("a free port");
            let address = transport.local_addr();
            (transport, address)
        }

        fn dial(&self) -> io::Result<Box<dyn Peer>> {
            Ok(Box::new(TcpStream::connect(self)?))
        }

        fn knock(&self) -> Box<dyn Send> {
            Box::new(TcpStream::connect(self).expect("the listener is there"))
        }
    }

    checks!(SocketAddr);

    #[test]
    fn the_address_is_free_again() {
        let (mut transport, fixture) = SocketAddr::bind();
        let (stream, peer) = connect::<SocketAddr>(&mut transport, &fixture);
        drop(stream); // the server closes first, which leaves the port in TIME_WAIT
        drop((transport, peer));
        let again = block_on(TcpTransport::bind("127.0.0.1", fixture.port())).expect("free");
        assert_eq!(again.local_endpoint(), format!("tcp://{fixture}"));
    }

    #[test]
    fn hosts_are_addresses_or_names() {
        let mut hosts = vec!["127.0.0.1", "0.0.0.0"];
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            hosts.extend(["::1", "[::1]", "::"]); // this machine has IPv6
        }
        for host in hosts {
            let transport = block_on(TcpTransport::bind(host, 0)).expect("a free port");
            assert!(transport.local_addr().port() > 0);
            assert_eq!(transport.local_addr().ip().to_string(), host.trim_matches(['[', ']']));
        }
        let named = block_on(TcpTransport::bind("localhost", 0)).expect("a free port");
        assert!(named.local_addrs().iter().all(|address| address.ip().is_loopback()));
        let every = block_on(TcpTransport::bind("*", 0)).expect("a free port");
        assert!(every.local_addrs().iter().all(|address| address.ip().is_unspecified()));
        assert_eq!(every.local_endpoints()[0], every.local_endpoint());
        assert!(block_on(TcpTransport::bind("no.such.host.invalid", 0)).is_err());
    }
}

mod memory {
    use super::*;

    impl Fixture for MemoryConnector {
        type Transport = MemoryTransport;
        const INLINE: bool = true;
        const HALF_CLOSE: bool = true;

        fn bind() -> (MemoryTransport, MemoryConnector) {
            MemoryTransport::new("test", MemoryTransport::DEFAULT_CAPACITY)
        }

        fn dial(&self) -> io::Result<Box<dyn Peer>> {
            Ok(Box::new(self.connect()?))
        }

        fn knock(&self) -> Box<dyn Send> {
            Box::new(self.connect().expect("the listener is there"))
        }
    }

    checks!(MemoryConnector);

    #[test]
    fn a_direction_holds_its_capacity_and_no_more() {
        let (mut transport, connector) = MemoryTransport::new("small", 3);
        let mut client = connector.connect().expect("room");
        assert_eq!(block_on(client.write(b"abcd")).expect("room"), 3);
        assert!(block_on(futures_lite::future::poll_once(client.write(b"d"))).is_none());
        let incoming = block_on(transport.accept()).expect("dialled");
        let mut server = block_on(incoming.handshake).expect("ready");
        assert_eq!(read_exactly(&mut server, 1), b"a");
        assert_eq!(block_on(client.write(b"de")).expect("room for one"), 1);
        assert_eq!(read_exactly(&mut server, 3), b"bcd");
    }

    #[test]
    fn dialling_is_refused_beyond_the_backlog() {
        let (transport, connector) = MemoryTransport::new("busy", 1);
        let waiting: Vec<_> = (0..4_096).map(|_| connector.connect().expect("room")).collect();
        let error = connector.connect().expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        drop(transport); // turns away who waits
        for mut client in waiting {
            assert_eq!(client.receive_all(), b"");
            let error = block_on(client.write(b"x")).expect_err("nobody reads");
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn a_waiting_writer_learns_that_the_reader_is_gone() {
        let (mut transport, connector) = MemoryTransport::new("gone", 1);
        let mut client = connector.connect().expect("room");
        let server = block_on(block_on(transport.accept()).expect("dialled").handshake);
        let writer = thread::spawn(move || block_on(client.write_all(b"two")));
        drop(server);
        let error = writer.join().expect("no panic").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
