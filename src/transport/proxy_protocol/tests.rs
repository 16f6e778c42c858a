//! Headers made by hand, and the transport that reads them.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::task::Poll;

use futures_io::AsyncWrite;
use futures_lite::future::{block_on, poll_once};
use proptest::prelude::*;

use super::*;
use crate::transport::PeerIdentity;
use crate::transport::memory::MemoryTransport;

const MAX: usize = 4_096;

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

/// 192.0.2.7 port 50000 to 192.0.2.1 port 1883.
const V4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0xC3, 0x50, 0x07, 0x5B];

fn v6() -> Vec<u8> {
    let mut rest = [0x20, 0x01, 0x0D, 0xB8].to_vec();
    rest.extend([0; 11]);
    rest.push(7);
    rest.extend([0; 15]);
    rest.push(1);
    rest.extend([0xC3, 0x50, 0x07, 0x5B]);
    rest
}

fn unix(path: &[u8]) -> Vec<u8> {
    let mut rest = path.to_vec();
    rest.resize(216, 0);
    rest
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut tlv = vec![kind];
    tlv.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    tlv.extend(value);
    tlv
}

#[track_caller]
fn whole(bytes: &[u8]) -> Header {
    match parse(bytes, MAX) {
        Parsed::Whole(header) => header,
        other => unreachable!("{other:?}"),
    }
}

#[track_caller]
fn source(bytes: &[u8]) -> Source {
    let header = whole(bytes);
    assert_eq!(header.len, bytes.len());
    header.source
}

fn address(text: &str) -> Source {
    Source::Address(text.parse().unwrap())
}

#[test]
fn a_line_has_the_address_of_the_peer() {
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\n", address("192.0.2.7:50000")),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", address("0.0.0.0:0")),
        ("PROXY TCP6 2001:db8::7 ::1 65535 1\r\n", address("[2001:db8::7]:65535")),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 1\r\n", address("[::ffff:192.0.2.7]:1")),
        ("PROXY UNKNOWN\r\n", Source::Connection),
        ("PROXY UNKNOWN ffff::f ffff::f 65535 65535\r\n", Source::Connection),
        ("PROXY UNKNOWN \u{7f} any text\r\n", Source::Connection),
    ] {
        assert_eq!(source(line.as_bytes()), expected, "{line}");
    }
    let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                   ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(longest.len(), 107);
    assert_eq!(source(longest.as_bytes()), Source::Connection);
}

#[test]
fn a_line_that_is_malformed_is_refused() {
    for line in [
        "PROXY \r\n      ",
        "PROXY TCP4\r\n   ",
        "PROXY TCP4 192.0.2.7 192.0.2.1 50000\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883 1\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883 \r\n",
        "PROXY TCP4  192.0.2.7 192.0.2.1 50000 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\n",
        "PROXY TCP4 192.0.2.07 192.0.2.1 50000 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 050000 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 +5000 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 65536 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 -1 1883\r\n",
        "PROXY TCP4 2001:db8::7 ::1 1 1\r\n",
        "PROXY TCP6 192.0.2.7 192.0.2.1 1 1\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        "PROXY TCP5 192.0.2.7 192.0.2.1 1 1\r\n",
        "PROXY tcp4 192.0.2.7 192.0.2.1 1 1\r\n",
        "PROXY UNKNOWNS\r\n",
        "proxy TCP4 192.0.2.7 192.0.2.1 1 1\r\n",
        "\x10\x0C\0\x04MQTT\x04\x02\0\0\0",
        "GET / HTTP/1.1\r\n",
    ] {
        assert!(matches!(parse(line.as_bytes(), MAX), Parsed::Invalid(_)), "{line:?}");
    }
}

#[test]
fn a_line_without_an_end_is_refused_at_107_bytes_pitfall_1() {
    let mut line = b"PROXY UNKNOWN ".to_vec();
    line.resize(106, b'x');
    assert_eq!(parse(&line, MAX), Parsed::Partial(1));
    line.push(b'\r');
    assert!(matches!(parse(&line, MAX), Parsed::Invalid(_)));
    line.push(b'\n');
    assert!(matches!(parse(&line, MAX), Parsed::Invalid(_)), "108 bytes");
}

#[test]
fn a_binary_header_has_the_address_of_the_peer() {
    assert_eq!(source(&binary(0x21, 0x11, &V4)), address("192.0.2.7:50000"));
    assert_eq!(source(&binary(0x21, 0x21, &v6())), address("[2001:db8::7]:50000"));
    assert_eq!(source(&binary(0x21, 0x31, &unix(b"/run/s"))), Source::Unix("/run/s".into()));
    assert_eq!(source(&binary(0x21, 0x00, b"ignored")), Source::Connection, "UNSPEC");
    for family in [0x00, 0x11, 0x21, 0x31, 0xFF] {
        assert_eq!(source(&binary(0x20, family, b"ignored")), Source::Connection, "LOCAL");
    }
}

#[test]
fn a_binary_header_that_is_malformed_is_refused() {
    let cut = |rest: &[u8]| rest[..rest.len() - 1].to_vec();
    for (command, family, rest) in [
        (0x11, 0x11, V4.to_vec()),
        (0x31, 0x11, V4.to_vec()),
        (0x22, 0x11, V4.to_vec()),
        (0x21, 0x12, V4.to_vec()),
        (0x21, 0x10, V4.to_vec()),
        (0x21, 0x41, V4.to_vec()),
        (0x21, 0x01, V4.to_vec()),
        (0x21, 0x11, cut(&V4)),
        (0x21, 0x21, cut(&v6())),
        (0x21, 0x31, cut(&unix(b"/run/s"))),
        (0x21, 0x11, [&V4[..], &[4]].concat()),
        (0x21, 0x11, [&V4[..], &[4, 0, 2, 0]].concat()),
    ] {
        let header = binary(command, family, &rest);
        assert!(matches!(parse(&header, MAX), Parsed::Invalid(_)), "{header:x?}");
    }
}

#[test]
fn a_length_is_judged_before_its_bytes_are_there_pitfall_1() {
    let header = binary(0x21, 0x11, &[0; 5_000]);
    assert!(matches!(parse(&header[..16], MAX), Parsed::Invalid(_)));
    assert_eq!(parse(&header[..16], 5_016), Parsed::Partial(5_000));
}

#[test]
fn the_name_in_a_certificate_is_kept_if_the_proxy_verified_it() {
    let named = |shown: u8, verified: u8, kind: u8| {
        let inner = [tlv(0x21, b"TLSv1.3"), tlv(kind, b"ann")].concat();
        let ssl = [&[shown, 0, 0, 0, verified][..], &inner].concat();
        let rest = [&V4[..], &tlv(4, b"no matter"), &tlv(0x20, &ssl)].concat();
        whole(&binary(0x21, 0x11, &rest)).common_name
    };
    assert_eq!(named(0x03, 0, 0x22).as_deref(), Some("ann"));
    assert_eq!(named(0x05, 0, 0x22).as_deref(), Some("ann"));
    assert_eq!(named(0x01, 0, 0x22), None, "no certificate was shown");
    assert_eq!(named(0x03, 1, 0x22), None, "it was not verified");
    assert_eq!(named(0x03, 0, 0x23), None, "another name");
}

/// Feeds a stream to the parser as a reader does that never takes a byte too many.
fn feed(stream: &[u8]) -> (Parsed, usize) {
    let mut taken = 0;
    loop {
        match parse(&stream[..taken], MAX) {
            Parsed::Partial(missing) if taken + missing <= stream.len() => {
                assert!(missing > 0);
                taken += missing;
            }
            parsed => return (parsed, taken),
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes: Vec<u8>) {
        let _ = parse(&bytes, MAX);
    }

    #[test]
    fn any_rest_of_a_header_is_judged(
        v2: bool,
        command in 0x1F..0x23_u8,
        family: u8,
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = if v2 { binary(command, family, &rest) } else { [b"PROXY TCP4 ", &rest[..]].concat() };
        if let Parsed::Whole(header) = parse(&bytes, MAX) {
            prop_assert!(header.len <= bytes.len());
        }
    }

    /// Exactly the header is read, however few bytes it needs further, and what follows it does not matter.
    #[test]
    fn no_byte_behind_the_header_is_asked_for(
        source: (u8, u8, u8, u8),
        port: u16,
        v2: bool,
        behind in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let (a, b, c, d) = source;
        let header = if v2 {
            let [high, low] = port.to_be_bytes();
            binary(0x21, 0x11, &[a, b, c, d, 0, 0, 0, 0, high, low, 0, 0])
        } else {
            format!("PROXY TCP4 {a}.{b}.{c}.{d} 0.0.0.0 {port} 0\r\n").into_bytes()
        };
        let expected = Source::Address(SocketAddr::from(([a, b, c, d], port)));
        let (parsed, taken) = feed(&[header.clone(), behind].concat());
        prop_assert_eq!(taken, header.len());
        prop_assert_eq!(parsed, Parsed::Whole(Header { len: taken, source: expected, common_name: None }));
    }

    #[test]
    fn a_header_that_is_cut_is_never_whole(len in 0..28_usize) {
        let header = binary(0x21, 0x11, &V4);
        prop_assert!(matches!(parse(&header[..len], MAX), Parsed::Partial(_)));
        let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\n";
        prop_assert!(matches!(parse(&line[..len], MAX), Parsed::Partial(_)));
    }
}

use std::net::SocketAddr;

/// A transport that says that its peers have this address.
struct From<T>(T, &'static str);

impl<T: Transport> Transport for From<T> {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let incoming = self.0.accept().await?;
        let address: SocketAddr = self.1.parse().unwrap();
        Ok(Incoming { peer: address.into(), handshake: incoming.handshake })
    }

    fn local_endpoint(&self) -> String {
        self.0.local_endpoint()
    }
}

/// What the handshake makes of a peer that sends these bytes.
fn shake_hands(from: &'static str, sent: &[u8]) -> io::Result<ByteStream> {
    let (transport, connector) = MemoryTransport::new("m", 64 * 1024);
    let mut client = connector.connect().unwrap();
    let write = poll_fn(|cx| Pin::new(&mut client).poll_write(cx, sent));
    assert_eq!(block_on(write).unwrap(), sent.len());
    drop(client);
    let trusted = vec!["10.0.0.0/8".parse().unwrap()];
    let mut transport = ProxyProtocol::new(From(transport, from), trusted);
    block_on(block_on(transport.accept()).unwrap().handshake)
}

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\n";

#[test]
fn a_proxy_in_a_trusted_network_says_where_its_peer_is() {
    let sent = [LINE, b"MQTT"].concat();
    let mut stream = shake_hands("10.1.2.3:4", &sent).unwrap();
    assert_eq!(stream.peer().unwrap().to_string(), "192.0.2.7:50000");
    assert!(stream.inline.is_some(), "publishers still write to the stream");
    let mut rest = [0; 8];
    let read = block_on(poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut rest)));
    assert_eq!(&rest[..read.unwrap()], b"MQTT");
}

#[test]
fn a_peer_outside_of_the_trusted_networks_is_refused_whatever_it_says() {
    for sent in [LINE, b"", b"\x10"] {
        let error = shake_hands("192.0.2.9:4", sent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_trusted_peer_without_a_header_is_refused() {
    for sent in [&b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0"[..], b"PROXY", b"", &LINE[..20]] {
        assert!(shake_hands("10.1.2.3:4", sent).is_err());
    }
}

#[test]
fn the_proxys_own_connections_keep_its_address() {
    assert!(shake_hands("10.1.2.3:4", &binary(0x20, 0, b"")).unwrap().peer().is_none());
    assert!(shake_hands("10.1.2.3:4", b"PROXY UNKNOWN\r\n").unwrap().peer().is_none());
}

#[test]
fn a_unix_socket_and_a_certificate_behind_a_proxy_are_told() {
    let ssl = [&[3, 0, 0, 0, 0][..], &tlv(0x22, b"ann")].concat();
    let rest = [unix(b"/run/\x1b"), tlv(0x20, &ssl)].concat();
    let stream = shake_hands("10.1.2.3:4", &binary(0x21, 0x31, &rest)).unwrap();
    let peer = stream.peer().unwrap();
    assert_eq!((peer.to_string().as_str(), peer.address()), ("unix:/run/\\u{1b}", None));
    let Some(PeerIdentity::Certificate(names)) = peer.identity() else { unreachable!("{peer:?}") };
    assert_eq!((names.common_name.as_deref(), &names.user_name), (Some("ann"), &None));
}

#[test]
fn half_a_header_waits_for_the_rest() {
    let (transport, connector) = MemoryTransport::new("m", 64 * 1024);
    let mut client = connector.connect().unwrap();
    let trusted = vec!["10.0.0.0/8".parse().unwrap()];
    let mut transport = ProxyProtocol::new(From(transport, "10.0.0.1:1"), trusted);
    let mut handshake = block_on(transport.accept()).unwrap().handshake;
    for piece in LINE.chunks(7) {
        assert!(block_on(poll_once(&mut handshake)).is_none());
        let sent = block_on(poll_fn(|cx| Pin::new(&mut client).poll_write(cx, piece)));
        assert_eq!(sent.unwrap(), piece.len());
    }
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(handshake.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
}
