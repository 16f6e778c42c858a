//! MQTT over TCP (MQTT-4.2-1).

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::task::{Context, Poll, ready};

use crate::runtime::{self, Registered};
use async_io::Async;

use super::socket::{Connected, SocketStream};
use super::{Incoming, Transport};
use crate::limits::Limits;
use options::Options;
use reserve::Reserve;

mod addresses;
mod options;
mod reserve;

pub(crate) use addresses::{EVERY_INTERFACE, address, lacks, look_up, unbracketed};
pub(crate) use reserve::is_exhausted;

/// Listening TCP sockets, at one port of one or more addresses.
///
/// Accepted sockets have `TCP_NODELAY` and TCP keep-alive ([`TcpTransport::with_limits`]), and offer
/// [`TryWrite`](super::TryWrite).
/// When the process has no file descriptor left, new peers are closed at once instead of waiting in the backlog: a
/// reserved descriptor accepts them, and their handshake fails.
///
/// ```
/// use hrotti::transport::{Transport, tcp::TcpTransport};
/// # futures_lite::future::block_on(async {
/// let mut transport = TcpTransport::bind("127.0.0.1", 0).await?;
/// let endpoint = transport.local_endpoint();
/// let address = endpoint.strip_prefix("tcp://").expect("the scheme");
///
/// let client = std::net::TcpStream::connect(address)?;
/// let incoming = transport.accept().await?;
/// assert_eq!(incoming.peer.address(), Some(client.local_addr()?));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct TcpTransport {
    /// At least one.
    sockets: Vec<Bound>,
    /// The socket to accept from next, so that a storm at one address does not shut out the other addresses.
    turn: usize,
    options: Options,
    /// Accepts and closes peers when no descriptor is left.
    reserve: Reserve,
}

/// One of a transport's sockets.
struct Bound {
    listener: Listening,
    local: SocketAddr,
    /// The last accept found no peer: the next one waits for readiness first.
    drained: bool,
}

impl TcpTransport {
    /// Listens on `host` and `port`. Port 0 lets the system choose a free port.
    ///
    /// The host is an IPv4 address; an IPv6 address with or without brackets, which takes no IPv4 connections; a
    /// name; or `*` or nothing for every interface of both families. A name is bound at every address that it has on
    /// this machine, at the same port. Addresses that the machine does not have, such as those of another machine or
    /// all of IPv6, are left out as long as one address remains.
    ///
    /// # Errors
    /// The name is unknown, one of its addresses is in use or not permitted, or the machine has none of them.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing bound.
    pub async fn bind(host: &str, port: u16) -> io::Result<TcpTransport> {
        let addresses = addresses::look_up_async(host, port).await?;
        TcpTransport::over(addresses::listen(&addresses)?)
    }

    /// Accepts from sockets that listen already.
    pub(crate) fn over(listeners: Vec<TcpListener>) -> io::Result<TcpTransport> {
        let bound = listeners.into_iter().map(|listener| {
            let local = listener.local_addr()?;
            Ok(Bound { listener: Listening::Reactor(Async::new(listener)?), local, drained: false })
        });
        let sockets = bound.collect::<io::Result<_>>()?;
        let transport = TcpTransport {
            sockets,
            turn: 0,
            options: Options::of(&Limits::default()),
            reserve: Reserve::default(),
        };
        transport.set_options();
        Ok(transport)
    }

    /// Further handles of the sockets.
    pub(crate) fn handles(&self) -> io::Result<Vec<TcpListener>> {
        let handle = |socket: &Bound| match &socket.listener {
            Listening::Reactor(listener) => listener.get_ref().try_clone(),
            Listening::Loop(listener) => listener.get_ref().try_clone(),
            Listening::Nobody => Err(ErrorKind::NotConnected.into()),
        };
        self.sockets.iter().map(handle).collect()
    }

    /// Sets when the operating system closes connections whose peer has vanished:
    /// [`Limits::tcp_keep_alive_secs`], [`Limits::tcp_keep_alive_interval_secs`],
    /// [`Limits::tcp_keep_alive_probes`] and [`Limits::tcp_user_timeout`]. Without this call their defaults apply.
    /// The settings apply to peers that are accepted afterwards. Settings that the system does not support are
    /// skipped.
    ///
    /// ```
    /// use hrotti::Limits;
    /// use hrotti::transport::tcp::TcpTransport;
    /// # futures_lite::future::block_on(async {
    /// let limits = Limits { tcp_keep_alive_secs: 30, ..Limits::default() };
    /// let transport = TcpTransport::bind("127.0.0.1", 0).await?.with_limits(&limits);
    /// # drop(transport);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn with_limits(mut self, limits: &Limits) -> TcpTransport {
        self.options = Options::of(limits);
        self.set_options();
        self
    }

    /// On Linux accepted sockets inherit the options of the listening socket, which saves system calls for each of
    /// them.
    fn set_options(&self) {
        if options::ARE_INHERITED {
            for socket in &self.sockets {
                match &socket.listener {
                    Listening::Reactor(listener) => self.options.set(listener.get_ref()),
                    Listening::Loop(listener) => self.options.set(listener.get_ref()),
                    Listening::Nobody => {}
                }
            }
        }
    }

    /// The first bound address: an IPv4 address if there is one.
    pub fn local_addr(&self) -> SocketAddr {
        let none = || SocketAddr::from(([0; 4], 0));
        self.sockets.first().map_or_else(none, |socket| socket.local)
    }

    /// All bound addresses, at least one.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|socket| socket.local).collect()
    }

    /// Waits for the next peer. Peers that disconnect before they are accepted are skipped.
    pub(super) async fn accept_stream(&mut self) -> io::Result<(Accepted, SocketAddr)> {
        for socket in &mut self.sockets {
            socket.listener.move_to_loop()?;
        }
        loop {
            self.reserve.fill();
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok((socket, peer)) => {
                    if let Ok(socket) = &socket {
                        // Fails only if the peer has disconnected, which its first read will report.
                        let _ = socket.set_nodelay(true);
                        if !options::ARE_INHERITED {
                            self.options.set(socket);
                        }
                    }
                    return Ok((Accepted(socket), peer));
                }
                Err(error) if concerns_one_peer(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(io::Result<std::net::TcpStream>, SocketAddr)>> {
        let count = self.sockets.len();
        for index in (0..count).map(|step| (self.turn + step) % count) {
            let socket = &mut self.sockets[index];
            if let Poll::Ready(done) = socket.poll_accept(cx, &mut self.reserve) {
                self.turn = (index + 1) % count;
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    }
}

impl Transport for TcpTransport {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let (accepted, peer) = self.accept_stream().await?;
        Ok(Incoming::with_handshake(
            peer,
            async move { Ok(accepted.into_stream()?.into_byte_stream()) },
        ))
    }

    fn local_endpoint(&self) -> String {
        format!("tcp://{}", self.local_addr())
    }

    fn local_endpoints(&self) -> Vec<String> {
        self.local_addrs().iter().map(|local| format!("tcp://{local}")).collect()
    }
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpTransport").field(&self.local_addrs()).finish()
    }
}

/// Whether an error of `accept` concerns the peer that it would have returned, so that the next call may succeed.
/// On Linux `accept` returns network errors of the new connection.
fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::TimedOut
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
    )
}

/// A listening socket, watched by the event loop or the reactor of the task that accepted from it last.
enum Listening {
    Reactor(Async<TcpListener>),
    Loop(Registered<TcpListener>),
    /// Between the two.
    Nobody,
}

impl Drop for Bound {
    /// The socket may have further handles.
    fn drop(&mut self) {
        if let Listening::Loop(listener) = &self.listener {
            listener.unwatch();
        }
    }
}

impl Bound {
    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        reserve: &mut Reserve,
    ) -> Poll<io::Result<(io::Result<std::net::TcpStream>, SocketAddr)>> {
        loop {
            if self.drained {
                match &self.listener {
                    Listening::Reactor(listener) => ready!(listener.poll_readable(cx))?,
                    Listening::Loop(listener) => ready!(listener.poll_readable(cx)),
                    Listening::Nobody => {}
                }
            }
            let socket = match &self.listener {
                Listening::Reactor(listener) => listener.get_ref(),
                Listening::Loop(listener) => listener.get_ref(),
                Listening::Nobody => return Poll::Ready(Err(ErrorKind::NotConnected.into())),
            };
            let accepted = reserve.accept(socket);
            let none = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
            self.drained = accepted.as_ref().is_err_and(none);
            if !self.drained {
                return Poll::Ready(accepted);
            }
        }
    }
}

impl Listening {
    /// The event loop that this thread is watches the socket from now on.
    fn move_to_loop(&mut self) -> io::Result<()> {
        if let Listening::Reactor(_) = self
            && runtime::is_event_loop()
            && let Listening::Reactor(listener) = std::mem::replace(self, Listening::Nobody)
        {
            *self = match Registered::new(listener.into_inner()?) {
                Ok(registered) => Listening::Loop(registered?),
                Err(listener) => Listening::Reactor(Async::new(listener)?),
            };
        }
        Ok(())
    }
}

/// A socket that was accepted and is not watched yet, because the thread that runs its task will watch it; or the
/// reason why the peer was closed.
pub(super) struct Accepted(io::Result<std::net::TcpStream>);

impl Accepted {
    /// The stream, watched by the event loop that this thread is, or else by async-std's reactor.
    ///
    /// # Errors
    /// The process had no descriptor left for the peer, or has none to watch it.
    pub(super) fn into_stream(self) -> io::Result<SocketStream<std::net::TcpStream>> {
        let socket = match Registered::new(self.0?) {
            Ok(registered) => Connected::Loop(registered?),
            Err(socket) => Connected::Reactor(Async::new(socket)?),
        };
        Ok(SocketStream::new(socket))
    }

    /// Its keep-alive: idle time, interval, probes and user timeout, in seconds.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn keep_alive(&self) -> io::Result<Option<(u64, u64, u32, u64)>> {
        let accepted = self.0.as_ref().map_err(io::Error::kind)?;
        let socket = socket2::SockRef::from(accepted);
        let kept = (
            socket.tcp_keepalive_time()?.as_secs(),
            socket.tcp_keepalive_interval()?.as_secs(),
            socket.tcp_keepalive_retries()?,
            socket.tcp_user_timeout()?.unwrap_or_default().as_secs(),
        );
        Ok(socket.keepalive()?.then_some(kept))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_lite::AsyncReadExt;
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    /// A peer with Keep Alive 0 that vanishes says nothing any more: it is for the system to ask.
    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_sockets_ask_whether_their_peer_is_still_there() {
        let shorter = Limits {
            tcp_keep_alive_secs: 7,
            tcp_keep_alive_interval_secs: 2,
            tcp_keep_alive_probes: 3,
            tcp_user_timeout: std::time::Duration::from_secs(11),
            ..Limits::default()
        };
        let off = Limits { tcp_keep_alive_secs: 0, ..shorter.clone() };
        let mut transport = block_on(TcpTransport::bind("127.0.0.1", 0)).expect("a free port");
        let mut accepted = |limits: Option<&Limits>| {
            if let Some(limits) = limits {
                transport.options = Options::of(limits);
                transport.set_options();
            }
            let peer = std::net::TcpStream::connect(transport.local_addr()).expect("listening");
            let (accepted, _) = block_on(transport.accept_stream()).expect("dialled");
            drop(peer);
            accepted.keep_alive().expect("its options")
        };
        assert_eq!(accepted(None), Some((120, 15, 4, 180)), "the defaults");
        assert_eq!(accepted(Some(&shorter)), Some((7, 2, 3, 11)));
        assert_eq!(accepted(Some(&off)), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_limits_of_a_transport_are_those_of_all_its_sockets() {
        let limits = Limits { tcp_keep_alive_secs: 9, ..Limits::default() };
        let mut transport =
            block_on(TcpTransport::bind("*", 0)).expect("a free port").with_limits(&limits);
        for address in transport.local_addrs() {
            let peer = std::net::TcpStream::connect(address).expect("listening");
            let (accepted, from) = block_on(transport.accept_stream()).expect("dialled");
            assert_eq!(from, peer.local_addr().expect("connected"));
            let kept = accepted.keep_alive().expect("its options");
            assert_eq!(kept, Some((9, 15, 4, 180)), "{address}");
        }
    }

    /// A storm at one address must not keep the peers of another waiting.
    #[test]
    fn addresses_are_accepted_from_in_turn() {
        let mut transport = block_on(TcpTransport::bind("127.0.0.1", 0)).expect("a free port");
        transport
            .sockets
            .extend(block_on(TcpTransport::bind("127.0.0.1", 0)).expect("a free port").sockets);
        let dial = |index: usize| std::net::TcpStream::connect(transport.sockets[index].local);
        let peers = [0, 0, 0, 1].map(|index| dial(index).expect("listening"));
        let second = peers[3].local_addr().expect("connected");
        let order = [(); 4].map(|()| block_on(transport.accept_stream()).expect("dialled").1);
        assert_eq!(order[1], second, "{order:?}");
    }

    /// What spares a system call for each read that found less than it had room for.
    #[test]
    fn a_short_read_makes_the_next_one_wait() {
        let mut transport = block_on(TcpTransport::bind("127.0.0.1", 0)).expect("a free port");
        let mut peer = std::net::TcpStream::connect(transport.local_addr()).expect("listening");
        let (accepted, _) = block_on(transport.accept_stream()).expect("dialled");
        let mut stream = accepted.into_stream().expect("a socket");
        let mut room = [0; 8];
        for (sent, drained) in [(3, true), (8, false), (1, true)] {
            peer.write_all(&[0; 8][..sent]).expect("the server reads");
            assert_eq!(block_on(stream.read(&mut room)).expect("bytes"), sent);
            assert_eq!(stream.drained, drained);
        }
        drop(peer);
        assert_eq!(block_on(stream.read(&mut room)).expect("the end is not missed"), 0);
        assert!(!stream.drained, "the end is there at once from now on");
    }

    /// A deadline strikes only after a read that found nothing, whoever watches the socket.
    #[test]
    fn bytes_that_are_there_are_read_before_readiness_is_reported() {
        let mut transport = block_on(TcpTransport::bind("127.0.0.1", 0)).expect("a free port");
        let mut peer = std::net::TcpStream::connect(transport.local_addr()).expect("listening");
        peer.set_nodelay(true).expect("an option");
        let (accepted, _) = block_on(transport.accept_stream()).expect("dialled");
        let mut stream = accepted.into_stream().expect("a socket");
        let mut room = [0; 8];
        for _ in 0..100 {
            assert!(block_on(poll_once(stream.read(&mut room))).is_none());
            peer.write_all(&[0; 3]).expect("the server reads");
            let read = block_on(poll_once(stream.read(&mut room))).expect("it is there");
            assert_eq!(read.expect("bytes"), 3);
        }
    }

    #[test]
    fn only_a_peers_own_errors_are_passed_over() {
        assert!(concerns_one_peer(&ErrorKind::ConnectionAborted.into()));
        assert!(concerns_one_peer(&ErrorKind::ConnectionReset.into()));
        assert!(!concerns_one_peer(&ErrorKind::InvalidInput.into()));
        #[cfg(target_os = "linux")]
        for (code, passed_over) in [(103, true), (113, true), (24, false), (23, false)] {
            // ECONNABORTED, EHOSTUNREACH; EMFILE, ENFILE: the broker has to back off
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(concerns_one_peer(&error), passed_over, "{error}");
        }
    }
}
