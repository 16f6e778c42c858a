use std::net::TcpListener;
use std::thread;

use super::*;
use crate::target::Transport;
use crate::tls;

/// A broker that answers with what it is given, write by write, and then hangs up; returns what
/// it was sent.
fn broker(transport: Transport, answers: Vec<Vec<u8>>) -> (Target, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        for answer in answers {
            // A client that gives up early is what some tests are about.
            let _ = stream.write_all(&answer);
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut sent = Vec::new();
        let _ = stream.read_to_end(&mut sent);
        sent
    });
    (Target::at(transport, address), served)
}

const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// All payloads until the broker hangs up.
fn payloads(mut link: Link) -> Vec<Vec<u8>> {
    link.stream.set_nonblocking(false).unwrap();
    let (mut buffer, mut payloads) = (ReadBuffer::new(), Vec::new());
    loop {
        let received = link.receive(&mut buffer, |packet| {
            if let Packet::Publish { payload, .. } = packet {
                payloads.push(payload.to_vec());
            }
        });
        if received.is_err() {
            return payloads;
        }
    }
}

#[test]
fn what_follows_the_answers_is_not_lost() {
    let packets = b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\x30\x04\x00\x01tx\x30\x04\x00\x01ty";
    for cut in 0..packets.len() {
        let (one, two) = packets.split_at(cut);
        let (target, _) = broker(Transport::Tcp, vec![one.to_vec(), two.to_vec()]);
        let link = Link::open(&target, "c", Some("t")).unwrap();
        assert_eq!(payloads(link), [b"x", b"y"], "cut at {cut}");
        // The same in one frame, and cut into two fragments.
        let head = |first, part: &[u8]| vec![first, u8::try_from(part.len()).unwrap()];
        let frames = [head(0x02, one), one.to_vec(), head(0x80, two), two.to_vec()].concat();
        let (target, _) = broker(Transport::Ws, vec![[GRANTED.as_bytes(), &frames].concat()]);
        let link = Link::open(&target, "c", Some("t")).unwrap();
        assert_eq!(payloads(link), [b"x", b"y"], "cut at {cut}");
    }
}

/// The same broker behind TLS: each write is a record of its own.
fn secure_broker(
    transport: Transport,
    answers: Vec<Vec<u8>>,
) -> (Target, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let connection = rustls::ServerConnection::new(tls::tests::server()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        for answer in answers {
            stream.write_all(&answer).unwrap();
        }
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut sent = Vec::new();
        // The client leaves without a word of TLS.
        let _ = stream.read_to_end(&mut sent);
        sent
    });
    (Target::at(transport, address), served)
}

#[test]
fn what_follows_the_answers_in_a_record_is_not_lost() {
    let packets = b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\x30\x04\x00\x01tx\x30\x04\x00\x01ty";
    for cut in [1, 4, 6, 9, 12, 15, packets.len() - 1] {
        let (one, two) = packets.split_at(cut);
        for version in [tls::Version::V12, tls::Version::V13] {
            let (target, _) = secure_broker(Transport::Tls, vec![one.to_vec(), two.to_vec()]);
            let target = Target { tls: version, ..target };
            let link = Link::open(&target, "c", Some("t")).unwrap();
            assert!(!link.tls().unwrap().agreed().is_empty());
            assert_eq!(payloads(link), [b"x", b"y"], "cut at {cut}");
        }
        let head = |first, part: &[u8]| vec![first, u8::try_from(part.len()).unwrap()];
        let granted = [GRANTED.as_bytes(), &head(0x02, one), one].concat();
        let (first, rest) = granted.split_at(cut * 7);
        let last = [&head(0x80, two)[..], two].concat();
        let answers = vec![first.to_vec(), rest.to_vec(), last];
        let (target, _) = secure_broker(Transport::Wss, answers);
        let link = Link::open(&target, "c", Some("t")).unwrap();
        assert_eq!(payloads(link), [b"x", b"y"], "cut at {cut}");
    }
}

#[test]
fn a_link_that_is_dialled_over_tls_sends_after_its_handshake() {
    let (target, served) = secure_broker(Transport::Tls, vec![b"\x20\x02\x00\x00".to_vec()]);
    let client = tls::Client::forgetful(target.tls).unwrap();
    let stream = TcpStream::connect(target.address).unwrap();
    let mut link = Link::over_tls(stream, &client, "client.invalid").unwrap();
    let sent = [&codec::connect("c", 60)[..], &[0; 100_000]].concat();
    link.send(&sent).unwrap();
    assert!(!link.is_flushed());
    link.stream.set_nonblocking(false).unwrap();
    let (mut buffer, mut is_there) = (ReadBuffer::new(), false);
    let gone = loop {
        let seen = |packet: Packet<'_>| is_there |= packet == Packet::ConnAck(0);
        if let Err(error) = link.receive(&mut buffer, seen) {
            break error;
        }
    };
    assert_eq!((is_there, gone.kind()), (true, ErrorKind::UnexpectedEof), "{gone}");
    assert!(link.is_flushed());
    drop(link);
    assert!(served.join().unwrap() == sent);
}

#[test]
fn an_answer_that_says_no_is_an_error() {
    for (answers, kind) in [
        (&b"\x20\x02\x00\x05"[..], ErrorKind::Other),
        (b"\x90\x03\x00\x01\x00", ErrorKind::Other),
        (b"\x20\x02\x00\x00\x90\x03\x00\x01\x80", ErrorKind::Other),
        (b"\x20\x02\x00\x00\x90\x03\x00\x01\x01", ErrorKind::Unsupported),
        (b"\x20\x02\x00", ErrorKind::UnexpectedEof),
        (b"\x20\xff\xff\xff\xff\xff", ErrorKind::InvalidData),
    ] {
        let (target, _) = broker(Transport::Tcp, vec![answers.to_vec()]);
        let error = Dial::new(&target, "c").subscribe("t", 2).open().unwrap_err();
        assert_eq!(error.kind(), kind, "{answers:02x?}: {error}");
    }
}

#[test]
fn what_is_no_websocket_is_an_error() {
    for answer in ["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 101", "", "\x20\x02\x00\x00"] {
        let (target, _) = broker(Transport::Ws, vec![answer.as_bytes().to_vec()]);
        assert!(Link::open(&target, "c", None).is_err(), "{answer:?}");
    }
}

#[test]
fn a_broker_of_mqtt_5_announces_its_limits_and_says_why_it_leaves() {
    let answers = b"\x20\x06\x00\x00\x03\x21\x00\x14\xe0\x02\x8b\x00".to_vec();
    let (target, served) = broker(Transport::Tcp, vec![answers]);
    let mut link = Dial::new(&target, "c").version(Version::V5).open().unwrap();
    assert_eq!(link.announced().receive_maximum, 20);
    link.stream.set_nonblocking(false).unwrap();
    let error = link.receive(&mut ReadBuffer::new(), |_| ()).unwrap_err();
    assert!(error.to_string().contains("reason 139"), "{error}");
    drop(link);
    assert_eq!(served.join().unwrap(), codec::connect_as(Version::V5, "c", codec::KEEP_ALIVE_SECS));
}

#[test]
fn a_large_packet_comes_whole_however_it_is_cut() {
    let large: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    let mut packets = b"\x20\x02\x00\x00".to_vec();
    for _ in 0..3 {
        codec::put_packet(&mut packets, 0x30, &[b"\x00\x01t", &large[..]].concat());
        packets.extend(b"\x30\x04\x00\x01ty");
    }
    let cuts: Vec<_> = packets.chunks(40_001).map(<[u8]>::to_vec).collect();
    let (target, _) = broker(Transport::Tcp, cuts);
    let link = Link::open(&target, "c", None).unwrap();
    let y = b"y".to_vec();
    let wanted = [&large, &y, &large, &y, &large, &y].map(Clone::clone);
    assert!(payloads(link) == wanted, "something is missing or out of place");
}

#[test]
fn what_the_kernel_does_not_take_is_sent_later_and_a_ping_is_answered() {
    let frames = b"\x82\x04\x20\x02\x00\x00\x89\x02hi".to_vec();
    let (target, served) = broker(Transport::Ws, vec![[GRANTED.as_bytes(), &frames].concat()]);
    let mut link = Link::open(&target, "c", None).unwrap();
    let (mut sent, chunk) = (0, vec![b'z'; 1_000_000]);
    while link.is_flushed() || sent < 5 {
        link.send(&chunk).unwrap();
        sent += 1;
    }
    link.stream.set_nonblocking(false).unwrap();
    // The ping, and then the end of what the broker says.
    while link.receive(&mut ReadBuffer::new(), |_| ()).is_ok() {}
    link.flush().unwrap();
    assert!(link.is_flushed());
    drop(link);
    let got = served.join().unwrap();
    let mut wanted = ws::request(target.address).into_bytes();
    ws::put_binary(&mut wanted, &codec::connect("c", codec::KEEP_ALIVE_SECS));
    let mut frame = Vec::new();
    ws::put_binary(&mut frame, &chunk);
    for _ in 0..sent {
        wanted.extend(&frame);
    }
    assert!(got.starts_with(&wanted), "{} bytes instead of {}", got.len(), wanted.len());
    let pong = &got[wanted.len()..];
    assert_eq!((pong.len(), &pong[..2]), (8, &[0x8a, 0x82][..]));
}
