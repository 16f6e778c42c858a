//! The file of a Unix socket: who may connect, and when it is replaced or removed.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use futures_lite::future::{block_on, poll_once};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A path of its own for each test; the file is removed with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hrotti-unit-{}-{n}.sock", std::process::id());
        Place(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn bytes_go_both_ways_and_the_end_of_one_does_not_end_the_other() {
    let place = Place::new();
    let mut transport = UnixTransport::bind(&place.0).expect("a free path");
    assert_eq!(transport.local_endpoint(), format!("unix://{}", place.0.display()));
    let mut peer = UnixStream::connect(&place.0).expect("listening");
    let incoming = block_on(transport.accept()).expect("a peer");
    assert_eq!(incoming.peer.to_string(), format!("{}#1", place.0.display()));
    let mut stream = block_on(incoming.handshake).expect("a stream");
    assert!(stream.inline.is_some(), "publishers write it");
    peer.write_all(b"there").expect("sent");
    peer.shutdown(std::net::Shutdown::Write).expect("ended");
    block_on(async {
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("received");
        assert_eq!(read, b"there");
        stream.write_all(b"back").await.expect("sent");
        stream.close().await.expect("ended");
    });
    let mut read = String::new();
    peer.read_to_string(&mut read).expect("received");
    assert_eq!(read, "back");
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_at_the_other_end_is_known() {
    let place = Place::new();
    let mut transport = UnixTransport::bind(&place.0).expect("a free path");
    let _peer = UnixStream::connect(&place.0).expect("listening");
    let incoming = block_on(transport.accept()).expect("a peer");
    let Some(PeerIdentity::UnixProcess { uid, gid, pid }) = incoming.peer.identity() else {
        panic!("{incoming:?}");
    };
    let own = fs::metadata("/proc/self").expect("Linux");
    assert_eq!((*uid, *gid), (own.uid(), own.gid()));
    assert_eq!(pid.map(i64::from), Some(i64::from(std::process::id())));
    assert_eq!(incoming.peer.address(), None);
}

#[test]
fn the_file_of_a_dead_process_is_replaced_and_that_of_a_live_one_is_not() {
    let place = Place::new();
    drop(UnixListener::bind(&place.0).expect("a free path"));
    assert!(place.0.exists(), "the standard library leaves the file");
    let mut transport = UnixTransport::bind(&place.0).expect("nobody listens there");
    let error = UnixTransport::bind(&place.0).expect_err("it is alive");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    // The probe is a peer that has gone; the next one is not lost behind it.
    let _peer = UnixStream::connect(&place.0).expect("still listening");
    for _ in 0..2 {
        assert!(block_on(poll_once(transport.accept())).expect("a peer").is_ok());
    }
}

#[test]
fn a_file_that_is_no_socket_is_never_removed_pitfall_10() {
    let place = Place::new();
    fs::write(&place.0, "precious").expect("written");
    let error = UnixTransport::bind(&place.0).expect_err("it is a file");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(fs::read_to_string(&place.0).expect("it is there"), "precious");
    let link = Place::new();
    std::os::unix::fs::symlink(&place.0, &link.0).expect("a link");
    UnixTransport::bind(&link.0).expect_err("it is a link");
    assert_eq!(fs::read_to_string(&link.0).expect("it is there"), "precious");
}

#[test]
fn the_file_is_removed_with_the_listener_unless_it_is_anothers() {
    let place = Place::new();
    drop(UnixTransport::bind(&place.0).expect("a free path"));
    assert!(!place.0.exists());
    let first = UnixTransport::bind(&place.0).expect("a free path");
    let moved = Place::new();
    fs::rename(&place.0, &moved.0).expect("moved");
    let _second = UnixTransport::bind(&place.0).expect("a free path");
    drop(first);
    assert!(place.0.exists(), "it is the second one's");
}

#[test]
fn the_file_has_the_mode_and_owner_that_were_chosen() {
    let place = Place::new();
    let bind = |mode, owner| UnixTransport::bind_as(&place.0, mode, owner);
    let bound = bind(None, (None, None)).expect("a free path");
    assert_eq!(mode(&place.0), 0o660);
    drop(bound);
    let own = fs::metadata(std::env::temp_dir()).map(|_| rustix::process::getuid().as_raw());
    let own = own.expect("a directory").to_string();
    for wanted in [0o600, 0o666, 0o777, 0] {
        let bound = bind(Some(wanted), (Some(&own), None)).expect("a free path");
        assert_eq!(mode(&place.0), wanted);
        drop(bound);
    }
    for owner in [(Some("no-such-user"), None), (None, Some("no-such-group"))] {
        let error = bind(None, owner).expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("write its number"), "{error}");
    }
    assert!(!place.0.exists(), "nothing is left of a failure");
}

#[test]
fn names_of_users_are_looked_up() {
    let list = Place::new();
    fs::write(&list.0, "root:x:0:0::/:/bin/sh\nmqtt:x:123:4::/:\nbad:x:y:\n").expect("written");
    let path = list.0.to_str().expect("UTF-8");
    assert_eq!(look_up("mqtt", "owner", path).ok(), Some(123));
    assert_eq!(look_up("77", "owner", path).ok(), Some(77));
    for unknown in ["mqt", "bad", "x", ""] {
        assert!(look_up(unknown, "owner", path).is_err(), "{unknown}");
    }
}

#[test]
fn a_path_that_is_too_long_is_named() {
    let path = std::env::temp_dir().join("a".repeat(120));
    let error = UnixTransport::bind(&path).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("longer than a socket may have"), "{error}");
}

#[test]
fn the_endpoint_is_a_url_that_names_the_same_file() {
    for (path, url) in [
        ("/run/a b", "unix:///run/a%20b"),
        ("relative.sock", "unix:relative.sock"),
        ("/run/%ü?#", "unix:///run/%25%C3%BC%3F%23"),
    ] {
        let transport = UnixTransport {
            listener: Listening::Nobody,
            path: path.into(),
            file: (0, 0),
            kept: KeptFile::default(),
            accepted: 0,
            drained: false,
        };
        assert_eq!(transport.local_endpoint(), url);
        let config = crate::ListenerConfig::new(url).expect("a URL");
        assert_eq!(config.socket_path(), Some(path.into()));
    }
}
