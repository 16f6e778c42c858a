//! MQTT over TCP (MQTT-4.2-1).

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::runtime::{self, Registered};
use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};
use socket2::{Domain, Protocol, Socket, Type};

use super::{ByteStream, Incoming, Transport, TryWrite};
use reserve::Reserve;

mod reserve;

/// How many peers the operating system holds ready between two calls of `accept`. The system may cap it
/// (Linux: `net.core.somaxconn`, 4 096 by default).
const BACKLOG: i32 = 4_096;

/// A TCP socket that listens.
///
/// Accepted sockets send at once (`TCP_NODELAY`) and offer [`TryWrite`]. Where the process has no file
/// descriptor left, peers are closed at once instead of waiting unheard: a descriptor is held back for that,
/// and their handshake fails.
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
/// assert_eq!(incoming.peer, client.local_addr()?.to_string());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct TcpTransport {
    listener: Listening,
    local: SocketAddr,
    reserve: Reserve,
}

impl TcpTransport {
    /// Listens on `host`, which is an IPv4 address, an IPv6 address with or without brackets, or a name,
    /// and `port`, where 0 lets the system choose a free one.
    ///
    /// A name that stands for several addresses is bound to the first of them that allows it.
    ///
    /// # Errors
    /// The name is unknown, or no address of it can be bound: in use, not of this machine, or not
    /// permitted. The error of the last address tried is returned.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing bound.
    pub async fn bind(host: &str, port: u16) -> io::Result<TcpTransport> {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let mut failure = None;
        for address in async_std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).await? {
            match listen(address) {
                Ok(listener) => {
                    let local = listener.get_ref().local_addr()?;
                    let (listener, reserve) = (Listening::Reactor(listener), Reserve::default());
                    return Ok(TcpTransport { listener, local, reserve });
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| {
            io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address")
        }))
    }

    /// The address really bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next peer; one that is gone again before it is accepted is passed over.
    pub(super) async fn accept_stream(&mut self) -> io::Result<(Accepted, SocketAddr)> {
        loop {
            self.reserve.fill();
            match self.listener.accept(&mut self.reserve).await {
                Ok((socket, peer)) => {
                    if let Ok(socket) = &socket {
                        // Fails only where the peer is gone already, which its first read will tell.
                        let _ = socket.set_nodelay(true);
                    }
                    return Ok((Accepted(socket), peer));
                }
                Err(error) if concerns_one_peer(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Transport for TcpTransport {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let (accepted, peer) = self.accept_stream().await?;
        Ok(Incoming::with_handshake(peer.to_string(), async move {
            let stream = accepted.into_stream()?;
            let inline: Arc<dyn TryWrite> = stream.socket.clone();
            Ok(ByteStream::new(stream).with_try_write(inline))
        }))
    }

    fn local_endpoint(&self) -> String {
        format!("tcp://{}", self.local)
    }
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpTransport").field(&self.local).finish()
    }
}

/// Binds one address. The standard library's own `bind` has a backlog of 128, which a storm of
/// reconnecting Clients overruns.
fn listen(address: SocketAddr) -> io::Result<Async<TcpListener>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows the option would let two programs share the port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Async::new(socket.into())
}

/// Whether a failed `accept` tells of the peer it would have returned, so that the next may succeed.
/// Linux hands network errors of the new connection to the caller of `accept`.
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

/// A socket that listens, watched by whom it was accepted from last.
enum Listening {
    Reactor(Async<TcpListener>),
    Loop(Registered<TcpListener>),
    /// Between the two.
    Nobody,
}

impl Listening {
    async fn accept(
        &mut self,
        reserve: &mut Reserve,
    ) -> io::Result<(io::Result<std::net::TcpStream>, SocketAddr)> {
        self.move_to_loop()?;
        match self {
            Listening::Reactor(listener) => {
                listener.read_with(|listener| reserve.accept(listener)).await
            }
            Listening::Loop(listener) => loop {
                match reserve.accept(listener.get_ref()) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        poll_fn(|cx| listener.poll_readable(cx)).await;
                    }
                    done => return done,
                }
            },
            Listening::Nobody => Err(ErrorKind::NotConnected.into()),
        }
    }

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

/// A socket that is accepted and watched by nobody yet: that is for the thread that runs its task. Or why the
/// peer was closed.
pub(super) struct Accepted(io::Result<std::net::TcpStream>);

impl Accepted {
    /// The stream, watched by the event loop that this thread is, or else by async-std's reactor.
    ///
    /// # Errors
    /// The process had no descriptor left for the peer, or has none to watch it.
    pub(super) fn into_stream(self) -> io::Result<TcpStream> {
        let socket = match Registered::new(self.0?) {
            Ok(registered) => Connected::Loop(registered?),
            Err(socket) => Connected::Reactor(Async::new(socket)?),
        };
        Ok(TcpStream { socket: Arc::new(socket), drained: false })
    }
}

/// A connected socket, shared between its owner and those who write inline.
enum Connected {
    Reactor(Async<std::net::TcpStream>),
    Loop(Registered<std::net::TcpStream>),
}

impl Connected {
    fn get_ref(&self) -> &std::net::TcpStream {
        match self {
            Connected::Reactor(socket) => socket.get_ref(),
            Connected::Loop(socket) => socket.get_ref(),
        }
    }

    /// Ready when a read may find something again, after one that found no more.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Connected::Reactor(socket) => socket.poll_readable(cx),
            Connected::Loop(socket) => socket.poll_readable(cx).map(Ok),
        }
    }

    /// Ready when a write may be tried again, after one that would have blocked.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Connected::Reactor(socket) => socket.poll_writable(cx),
            Connected::Loop(socket) => socket.poll_writable(cx).map(Ok),
        }
    }
}

impl TryWrite for Connected {
    fn try_write(&self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        uninterrupted(|| write_slices(self.get_ref(), bufs))
    }
}

/// The owner's side of an accepted socket.
pub(super) struct TcpStream {
    socket: Arc<Connected>,
    /// The last read took less than there was room for, so the socket is empty: the next read waits for
    /// readiness first instead of being told that it would block. Readiness is level-triggered, so bytes
    /// and an end of stream that came in between are seen.
    drained: bool,
}

impl TcpStream {
    fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        mut read: impl FnMut(&std::net::TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket = &self.socket;
        loop {
            if self.drained {
                ready!(socket.poll_readable(cx))?;
                self.drained = false;
            }
            match uninterrupted(|| read(socket.get_ref())) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.drained = true,
                Ok(n) => {
                    self.drained = 0 < n && n < room;
                    return Poll::Ready(Ok(n));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&std::net::TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket = &self.socket;
        loop {
            match uninterrupted(|| write(socket.get_ref())) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(socket.poll_writable(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }
}

/// One slice, the usual case, takes the cheaper system call.
fn write_slices(mut socket: &std::net::TcpStream, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    match bufs {
        [one] => socket.write(one),
        _ => socket.write_vectored(bufs),
    }
}

/// Repeats what a signal interrupted.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, buf.len(), |mut socket| socket.read(buf))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_read_with(cx, room, |mut socket| socket.read_vectored(bufs))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |mut socket| socket.write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |socket| write_slices(socket, bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // nothing is kept back here
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.socket.get_ref().shutdown(Shutdown::Write) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()), // the peer was faster
            done => done,
        })
    }
}

impl Drop for TcpStream {
    /// Whoever writes inline may hold the socket longer; the peer is told now that it is over.
    fn drop(&mut self) {
        if Arc::strong_count(&self.socket) > 1 {
            let _ = self.socket.get_ref().shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::AsyncReadExt;
    use futures_lite::future::block_on;

    use super::*;

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
