//! The hand-over when either process ends, stalls or refuses in the middle. The other process is played by the test.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use hrotti::{Broker, ListenerConfig};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::client::{Client, Wire, connect, id_of, publish, subscribe};
use super::process::{PATIENCE, Place, Program};

const HELLO: u8 = 1;
const SOCKET: u8 = 2;
const SOCKETS_END: u8 = 3;
const READY: u8 = 4;
const STATE: u8 = 5;
const TAKEN: u8 = 6;
const REFUSED: u8 = 7;

const TCP: &str = r#""tcp": { "url": "tcp://127.0.0.1:0" }"#;
const HASTY: &str =
    r#""handOverReadyTimeoutSecs": 2, "handOverStallTimeoutSecs": 2, "stopTimeoutSecs": 1"#;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The next message of the protocol: kind, body and socket.
fn receive(stream: &UnixStream) -> (u8, Vec<u8>, Option<OwnedFd>) {
    let mut head = [0; 5];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut head)];
    let read = recvmsg(stream.as_fd(), &mut slices, &mut attached, RecvFlags::empty());
    let socket = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    assert_eq!(read.unwrap().bytes, 5, "the program says something");
    let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize];
    { stream }.read_exact(&mut body).unwrap();
    (head[0], body, socket)
}

/// A message that must not lose its way, in the Session of a Client that is away.
fn load(address: SocketAddr) {
    let mut away = Client::new(address, false, "away");
    away.send(&subscribe("a/#", 2));
    assert_eq!(away.packet(PATIENCE).unwrap().0, 0x90);
    away.hang_up();
    let mut publisher = Client::new(address, false, "publisher");
    // Larger than the buffers of a Unix socket, so that the state takes several reads.
    for number in 1..=20 {
        publisher.send(&publish(
            "a/b",
            &vec![u8::try_from(number).unwrap(); 100_000],
            1,
            number,
            false,
        ));
        let (first, body) = publisher.packet(PATIENCE).unwrap();
        assert_eq!((first, id_of(&body)), (0x40, number), "acknowledged");
    }
}

/// All that was acknowledged is there, once and in order.
fn nothing_is_lost(address: SocketAddr) {
    let mut away = Client::new(address, false, "away");
    let mut number = 0;
    while number < 20 {
        let Some((topic, payload)) = away.message(PATIENCE) else { continue };
        number += 1;
        assert_eq!((topic.as_str(), payload.len(), payload[0]), ("a/b", 100_000, number));
    }
    // The acknowledgements have arrived before the answer does.
    away.send(&[0xC0, 0]);
    while away.packet(PATIENCE).unwrap().0 != 0xD0 {}
}

/// The steps after which the new process is gone.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Until {
    Connected,
    Hello,
    Sockets,
    Ready,
    State,
    PartOfTheState,
    WholeState,
}

const ALL: [Until; 7] = [
    Until::Connected,
    Until::Hello,
    Until::Sockets,
    Until::Ready,
    Until::State,
    Until::PartOfTheState,
    Until::WholeState,
];

/// Plays the new process up to a step. Returns what has to live as long as it does.
fn play_new(place: &Place, until: Until) -> (UnixStream, Vec<OwnedFd>) {
    let stream = UnixStream::connect(place.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut to, mut sockets) = (&stream, Vec::new());
    if until >= Until::Hello {
        to.write_all(&message(HELLO, &[1])).unwrap();
    }
    if until >= Until::Sockets {
        let (kind, body, socket) = receive(&stream);
        assert_eq!((kind, body.as_slice()), (SOCKET, &b"tcp"[..]));
        sockets.extend(socket);
        let (kind, body, _) = receive(&stream);
        assert_eq!((kind, body, sockets.len()), (SOCKETS_END, vec![0, 0, 0, 1], 1));
    }
    if until >= Until::Ready {
        to.write_all(&message(READY, &[])).unwrap();
    }
    if until >= Until::State {
        assert_eq!(receive(&stream).0, STATE);
    }
    if until >= Until::PartOfTheState {
        let mut part = [0; 300_000];
        to.read_exact(&mut part).unwrap();
        assert!(part.starts_with(b"hrottist"));
    }
    if until >= Until::WholeState {
        while to.read(&mut [0; 65_536]).unwrap() == 65_536 {}
        // The last record has come: 10 is its kind, and 24 bytes follow.
        let left = |stream: &UnixStream| stream.set_read_timeout(Some(Duration::from_millis(100)));
        left(&stream).unwrap();
        while to.read(&mut [0; 65_536]).is_ok_and(|read| read > 0) {}
    }
    (stream, sockets)
}

#[test]
fn the_old_process_goes_on_when_the_new_one_ends_at_any_step() {
    let place = Place::new("new-ends");
    let mut program = Program::start(&place.configure(TCP, ""));
    let address = program.address("tcp");
    for until in ALL {
        load(address);
        drop(play_new(&place, until));
        program.says("this process goes on");
        nothing_is_lost(address);
        assert!(program.is_running(), "{until:?}");
    }
}

#[test]
fn the_old_process_goes_on_when_the_new_one_stalls_at_any_step() {
    let place = Place::new("new-stalls");
    let mut program = Program::start(&place.configure(TCP, HASTY));
    let address = program.address("tcp");
    for until in ALL {
        load(address);
        let held = play_new(&place, until);
        program.says("this process goes on");
        nothing_is_lost(address);
        // Whatever it says now comes too late.
        let late = { &held.0 }.write_all(&message(TAKEN, &[]));
        assert!(late.is_err(), "{until:?}");
        assert!(program.is_running(), "{until:?}");
    }
    // Another process can take over all the same.
    load(address);
    let mut next = Program::start(&place.0.join("config.json"));
    assert_eq!(next.address("tcp"), address);
    assert_eq!(program.end().0, Some(0));
    nothing_is_lost(address);
}

#[test]
fn a_process_that_cannot_start_changes_nothing() {
    let place = Place::new("new-fails");
    let config = place.configure(TCP, "");
    let mut program = Program::start(&config);
    let address = program.address("tcp");
    let mut client = Wire::open(address, false).unwrap();
    client.send(&connect("stays")).unwrap();
    assert_eq!(client.packet().unwrap().0, 0x20);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!(
        r#"{TCP}, "other": {{ "url": "tcp://127.0.0.1:{}" }}"#,
        taken.local_addr().unwrap().port()
    );
    let (code, err) = Program::start(&place.configure(&other, "")).end();
    assert_eq!(code, Some(1));
    assert!(err.contains("listener other") && err.lines().count() == 1, "{err}");
    client.send(&[0xC0, 0]).unwrap();
    assert_eq!(client.packet().unwrap().0, 0xD0, "its connection was never touched");
    assert!(program.is_running());
    assert!(place.socket().exists());
}

#[test]
fn a_listener_that_is_new_is_bound_and_one_that_is_gone_is_closed() {
    let place = Place::new("listeners");
    let unix = place.0.join("mqtt.sock");
    let both = format!(r#"{TCP}, "unix": {{ "url": "unix://{}" }}"#, unix.display());
    let mut program = Program::start(&place.configure(&both, ""));
    let address = program.address("tcp");
    program.says("listening: unix ");
    let more = format!(r#"{both}, "ws": {{ "url": "ws://127.0.0.1:0/mqtt" }}"#);
    let mut next = Program::start(&place.configure(&more, ""));
    assert_eq!(next.address("tcp"), address);
    next.says("listening: unix ");
    let ws = next.address("ws");
    assert_eq!(program.end().0, Some(0));
    assert!(UnixStream::connect(&unix).is_ok(), "its file is still there");
    let mut last =
        Program::start(&place.configure(r#""ws": { "url": "ws://127.0.0.1:0/mqtt" }"#, ""));
    assert_eq!(last.address("ws"), ws);
    assert_eq!(next.end().0, Some(0));
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
    let mut client = Client::new(ws, true, "x");
    assert!(client.wire().1, "the new listener accepts");
}

/// Plays the old process: gives `socket`, waits for ready, and says what `then` does.
fn play_old(
    place: &Place,
    socket: TcpListener,
    then: impl FnOnce(&UnixStream, UnixListener) + Send + 'static,
) -> thread::JoinHandle<()> {
    let control = UnixListener::bind(place.socket()).unwrap();
    thread::spawn(move || {
        let (stream, _) = control.accept().unwrap();
        assert_eq!(receive(&stream).0, HELLO);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket.as_fd()];
        assert!(attached.push(SendAncillaryMessage::ScmRights(&sockets)));
        let bytes = message(SOCKET, b"tcp");
        sendmsg(&stream, &[IoSlice::new(&bytes)], &mut attached, SendFlags::empty()).unwrap();
        { &stream }.write_all(&message(SOCKETS_END, &[0, 0, 0, 1])).unwrap();
        assert_eq!(receive(&stream).0, READY);
        drop(socket);
        then(&stream, control);
    })
}

/// The state of a broker with a Session that holds a message.
fn state() -> Vec<u8> {
    let broker = Broker::new(100);
    block_on(async {
        let config = ListenerConfig::new("tcp://127.0.0.1:0").unwrap();
        let endpoint = broker.add_listener("tcp", config).await.unwrap();
        let address = endpoint.strip_prefix("tcp://").unwrap().parse().unwrap();
        load(address);
        let hand_over = broker.begin_hand_over(Duration::from_secs(5)).await.unwrap();
        let mut state = Vec::new();
        hand_over.export_state(&mut state).await.unwrap();
        hand_over.finish().await;
        assert!(broker.ledger().balances());
        assert_eq!(broker.ledger().handed_over, 20);
        state
    })
}

#[test]
fn the_new_process_goes_on_with_what_it_has_when_the_old_one_ends() {
    let state = state();
    for sent in [0, state.len() / 2, state.len()] {
        let place = Place::new(&format!("old-ends-{sent}"));
        let config = place.configure(TCP, "");
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let part = state[..sent].to_vec();
        let old = play_old(&place, socket, move |mut stream, control| {
            drop(control); // as when a process ends
            stream.write_all(&message(STATE, &[])).unwrap();
            stream.write_all(&part).unwrap();
            stream.shutdown(Shutdown::Both).unwrap();
        });
        let mut program = Program::start(&config);
        assert_eq!(program.address("tcp"), address, "on the socket of the old one");
        old.join().unwrap();
        if sent == state.len() {
            nothing_is_lost(address);
        } else {
            let mut client = Client::new(address, false, "somebody");
            client.send(&[0xC0, 0]);
            assert_eq!(client.packet(PATIENCE).unwrap().0, 0xD0);
        }
        assert!(place.socket().exists(), "it can hand over itself");
    }
}

#[test]
fn the_new_process_ends_when_the_old_one_goes_on() {
    let state = state();
    for (name, said, why) in [
        ("refuses", message(REFUSED, b"busy"), "it says: busy"),
        ("breaks-off", message(STATE, &[]), "closed the connection"),
        ("nonsense", [message(STATE, &[]), b"nonsense, no state".to_vec()].concat(), "no state"),
        ("gives-up", [message(STATE, &[]), state].concat(), "closed the connection"),
    ] {
        let place = Place::new(name);
        let config = place.configure(TCP, "");
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let (listening, given) = (socket.try_clone().unwrap(), name == "gives-up");
        let old = play_old(&place, socket, move |mut stream, control| {
            if given {
                // It has decided to go on before the new process has read the last byte.
                let (head, tail) = said.split_at(said.len() - 1);
                stream.write_all(head).unwrap();
                stream.shutdown(Shutdown::Read).unwrap();
                stream.write_all(tail).unwrap();
            } else {
                stream.write_all(&said).unwrap();
                stream.shutdown(Shutdown::Both).unwrap();
            }
            // It is still heard.
            drop(control.accept().unwrap());
        });
        let (code, err) = Program::start(&config).end();
        old.join().unwrap();
        assert_eq!(code, Some(1), "{name}: {err}");
        assert!(err.contains("the running process goes on") && err.contains(why), "{name}: {err}");
        assert!(place.socket().exists(), "the socket of the old one stays");
        drop(listening);
    }
}

#[test]
fn a_process_that_took_over_may_be_killed_and_started_again() {
    let place = Place::new("killed");
    let config = place.configure(TCP, "");
    let mut program = Program::start(&config);
    let address = program.address("tcp");
    let mut next = Program::start(&config);
    assert_eq!(next.address("tcp"), address);
    assert_eq!(program.end().0, Some(0));
    next.kill();
    // Its socket's file is still there, and nobody is heard.
    let mut after =
        Program::start(&place.configure(&format!(r#""tcp": {{ "url": "tcp://{address}" }}"#), ""));
    assert_eq!(after.address("tcp"), address);
}
