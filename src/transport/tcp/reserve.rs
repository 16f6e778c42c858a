//! A reserved file descriptor for the time when the process has no other left. Without it, a peer would wait in the
//! operating system's backlog without an answer; with it, the peer is accepted and closed at once.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use log::warn;
use socket2::{Domain, Socket, Type};

/// The log says at most once in this time that peers are closed.
const WARNED_EVERY: Duration = Duration::from_secs(10);

/// The reserved descriptor.
#[derive(Default)]
pub(super) struct Reserve {
    /// A socket that is never used.
    spare: Option<Socket>,
    /// Peers closed since the listener was bound.
    closed: u64,
    warned: Option<Instant>,
}

/// Whether the process, or the whole system, has no descriptor left.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

impl Reserve {
    /// Reserves a descriptor, if one is left.
    pub(super) fn fill(&mut self) {
        if self.spare.is_none() {
            self.spare = Socket::new(Domain::IPV4, Type::DGRAM, None).ok();
        }
    }

    /// Accepts the next peer: its socket, or the reason why it was closed.
    ///
    /// # Errors
    /// The errors of `accept`. The system looks for a descriptor before it looks for a peer; if it reports that no
    /// descriptor is left although no peer waits, this returns `WouldBlock`.
    pub(super) fn accept(
        &mut self,
        listener: &TcpListener,
    ) -> io::Result<(io::Result<TcpStream>, SocketAddr)> {
        match listener.accept() {
            Ok((socket, peer)) => Ok((Ok(socket), peer)),
            Err(error) if is_exhausted(&error) => match self.close_one(listener) {
                Ok(peer) => Ok((Err(error), peer)),
                Err(none) if none.kind() == io::ErrorKind::WouldBlock => Err(none),
                Err(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Accepts the next peer with the reserved descriptor, and closes it.
    fn close_one(&mut self, listener: &TcpListener) -> io::Result<SocketAddr> {
        self.spare = None;
        let accepted = listener.accept().map(|(_, peer)| peer);
        self.fill();
        if accepted.is_ok() {
            self.closed += 1;
            self.warn();
        }
        accepted
    }

    fn warn(&mut self) {
        let now = Instant::now();
        if self.warned.is_none_or(|at| now.saturating_duration_since(at) >= WARNED_EVERY) {
            self.warned = Some(now);
            warn!(
                "no file descriptor is left: new peers are closed at once, {} so far; raise the limit of open files",
                self.closed
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_peer_is_closed_by_the_reserve_and_the_reserve_is_there_again() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let mut reserve = Reserve::default();
        reserve.fill();
        for closed in 1..=3 {
            let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("dial");
            let accepted = reserve.close_one(&listener).expect("a peer waits");
            assert_eq!(accepted, peer.local_addr().expect("its address"));
            assert_eq!(peer.read(&mut [0]).expect("the end"), 0);
            assert_eq!(reserve.closed, closed);
            assert!(reserve.spare.is_some());
        }
        let error = reserve.close_one(&listener).expect_err("no peer waits");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(reserve.closed, 3);
    }

    #[test]
    fn only_a_lack_of_descriptors_is_one() {
        assert!(!is_exhausted(&io::ErrorKind::WouldBlock.into()));
        #[cfg(target_os = "linux")]
        for (code, exhausted) in [(24, true), (23, true), (103, false), (12, false)] {
            assert_eq!(is_exhausted(&io::Error::from_raw_os_error(code)), exhausted, "{code}");
        }
    }
}
