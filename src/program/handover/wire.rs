//! Messages between the two processes of a hand-over, each with a kind, a length and a body, and perhaps a socket.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The version of the protocol.
pub(super) const VERSION: u8 = 1;

/// The longest body: a name, a number or a reason.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Kind and length.
const HEAD_BYTES: usize = 5;

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Hello = 1,
    Socket = 2,
    SocketsEnd = 3,
    Ready = 4,
    State = 5,
    Taken = 6,
    Refused = 7,
    /// A socket whose file stays when its listener stops.
    KeptSocket = 8,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Hello,
        Kind::Socket,
        Kind::SocketsEnd,
        Kind::Ready,
        Kind::State,
        Kind::Taken,
        Kind::Refused,
        Kind::KeptSocket,
    ];
}

/// A message that was received.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
    pub(super) socket: Option<OwnedFd>,
}

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Line(UnixStream);

impl Line {
    pub(super) fn new(stream: UnixStream) -> Line {
        Line(stream)
    }

    /// Bounds the time in which nothing moves.
    pub(super) fn within(&self, limit: Duration) -> io::Result<&Line> {
        let limit = Some(limit.max(Duration::from_millis(1)));
        self.0.set_read_timeout(limit)?;
        self.0.set_write_timeout(limit)?;
        Ok(self)
    }

    /// The bytes behind a message.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.0
    }

    /// Whether the process at the other end belongs to the same user, or to root.
    pub(super) fn is_of_same_user(&self) -> io::Result<bool> {
        let other = rustix::net::sockopt::socket_peercred(&self.0)?.uid;
        Ok(other.is_root() || other == rustix::process::geteuid())
    }

    pub(super) fn send(&self, kind: Kind, body: &[u8]) -> io::Result<()> {
        self.send_with(kind, body, None)
    }

    pub(super) fn send_with(
        &self,
        kind: Kind,
        body: &[u8],
        socket: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let too_long = || io::Error::from(ErrorKind::InvalidInput);
        let len = u32::try_from(body.len()).map_err(|_| too_long())?;
        let mut bytes = vec![kind as u8];
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(body);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        let sockets = socket.as_slice();
        if !sockets.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(too_long());
        }
        let sent = sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut attached, SendFlags::NOSIGNAL)?;
        (&self.0).write_all(bytes.get(sent..).unwrap_or_default())
    }

    pub(super) fn receive(&self) -> io::Result<Received> {
        let mut head = [0; HEAD_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut attached = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut head)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(self.0.as_fd(), &mut slices, &mut attached, flags)?.bytes;
        let socket = attached.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        if received == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        (&self.0).read_exact(head.get_mut(received..).unwrap_or_default())?;
        let [kind, length @ ..] = head;
        let wrong = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
        let known = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
        let kind = known.ok_or_else(|| wrong("an unknown message"))?;
        let len = u32::from_be_bytes(length) as usize;
        if len > BODY_BYTES_MAX {
            return Err(wrong("a message is too long"));
        }
        let mut body = vec![0; len];
        (&self.0).read_exact(&mut body)?;
        Ok(Received { kind, body, socket })
    }

    /// Receives a message of one kind.
    ///
    /// # Errors
    /// Any other one; the reason where the other process refuses to go on.
    pub(super) fn expect(&self, kind: Kind) -> io::Result<Received> {
        let received = self.receive()?;
        match received.kind {
            met if met == kind => Ok(received),
            Kind::Refused => Err(refused(&received.body)),
            met => {
                let what = format!("{met:?} came where {kind:?} was expected");
                Err(io::Error::new(ErrorKind::InvalidData, what))
            }
        }
    }
}

/// The reason of the other process, which goes on.
pub(super) fn refused(reason: &[u8]) -> io::Error {
    let reason = String::from_utf8_lossy(reason);
    io::Error::new(ErrorKind::ConnectionAborted, format!("it says: {reason}"))
}

/// What is said of an error: a deadline that passed has the name of its limit.
pub(super) fn told(error: &io::Error, limit: &str) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("nothing came in time; raise {limit} if the machine is slow")
        }
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
            "it has ended, or has closed the connection".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Line, Line) {
        let (one, other) = UnixStream::pair().expect("a pair");
        (Line::new(one), Line::new(other))
    }

    #[test]
    fn a_socket_comes_with_its_message_and_with_no_other() {
        let (old, new) = pair();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        old.send(Kind::Hello, b"first").expect("there is room");
        old.send_with(Kind::Socket, b"tcp", Some(listener.as_fd())).expect("there is room");
        old.send(Kind::SocketsEnd, &[]).expect("there is room");
        assert!(new.receive().expect("sent").socket.is_none());
        let received = new.expect(Kind::Socket).expect("sent");
        assert_eq!(received.body, b"tcp");
        let socket = std::net::TcpListener::from(received.socket.expect("it came along"));
        assert_eq!(socket.local_addr().ok(), listener.local_addr().ok());
        assert!(new.receive().expect("sent").socket.is_none());
        assert!(old.is_of_same_user().expect("Linux tells"));
    }

    #[test]
    fn what_is_no_message_is_an_error_pitfall_1() {
        for (bytes, kind) in [
            (&[9, 0, 0, 0, 0][..], ErrorKind::InvalidData),
            (&[1, 255, 255, 255, 255], ErrorKind::InvalidData),
            (&[1, 0, 0], ErrorKind::UnexpectedEof),
            (&[1, 0, 0, 0, 9, 1], ErrorKind::UnexpectedEof),
            (&[], ErrorKind::UnexpectedEof),
        ] {
            let (old, new) = pair();
            old.stream().try_clone().and_then(|mut to| to.write_all(bytes)).expect("room");
            drop(old);
            assert_eq!(new.receive().expect_err("no message").kind(), kind, "{bytes:?}");
        }
        let (old, new) = pair();
        old.send(Kind::Refused, b"busy").expect("there is room");
        let error = new.expect(Kind::State).expect_err("refused");
        assert!(told(&error, "").contains("it says: busy"), "{error}");
        old.send(Kind::Ready, &[]).expect("there is room");
        assert_eq!(new.expect(Kind::State).expect_err("Ready").kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn silence_has_an_end_that_names_its_limit() {
        let (_old, new) = pair();
        let error = new.within(Duration::from_millis(1)).and_then(Line::receive);
        let told = told(&error.expect_err("nothing was sent"), "limits.some");
        assert!(told.contains("raise limits.some"), "{told}");
    }

    /// The moment at which the old process decides to go on.
    #[test]
    fn a_message_is_read_or_fails_once_the_reader_has_closed_its_end() {
        use std::net::Shutdown;

        let (old, new) = pair();
        new.send(Kind::Taken, &[]).expect("there is room");
        old.stream().shutdown(Shutdown::Read).expect("connected");
        assert_eq!(old.receive().expect("it was accepted before").kind, Kind::Taken);
        assert_eq!(old.receive().expect_err("the end").kind(), ErrorKind::UnexpectedEof);
        let error = new.send(Kind::Taken, &[]).expect_err("nobody reads it");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
