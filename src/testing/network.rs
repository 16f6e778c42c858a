//! Dialling a broker of a world: the connector, the client's end of a link, and the transport behind it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use futures_io::{AsyncRead, AsyncWrite};

use super::executor::Executor;
use super::faults::{Direction, Faults, Operation};
use super::link::{Link, Shared};
use super::trace::Action;
use crate::sync::lock;
use crate::transport::{ByteStream, Incoming, Transport, TryWrite};

/// How many connections may wait to be accepted.
const BACKLOG: usize = 4_096;

/// Dials one listener of a broker; [`World::listen`](super::World::listen) returns it. Clones dial the same listener.
#[derive(Clone)]
pub struct Connector {
    door: Arc<Door>,
}

/// Where a connector and its transport meet.
struct Door {
    executor: Arc<Executor>,
    name: String,
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    links: VecDeque<Link>,
    acceptor: Option<Waker>,
    dialled: Option<Link>,
    faults: Faults,
    accept_faults: VecDeque<Option<ErrorKind>>,
    closed: bool,
}

impl Connector {
    pub(super) fn new(executor: &Arc<Executor>, name: &str) -> (Connector, impl Transport + use<>) {
        let door = Arc::new(Door {
            executor: executor.clone(),
            name: name.to_owned(),
            state: Mutex::default(),
        });
        (Connector { door: door.clone() }, Acceptor { door })
    }

    /// Sets the faults of every later connection. Open connections stay as they are.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.door.state).faults = faults;
    }

    /// Opens a connection with the faults that were set, at first none. It can be written at once; the broker reads
    /// the bytes once it has accepted the connection.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionRefused`] if the listener or its broker was stopped, or 4 096 connections wait to be
    /// accepted.
    pub fn connect(&self) -> io::Result<ClientStream> {
        let faults = lock(&self.door.state).faults.clone();
        self.connect_with(faults)
    }

    /// Opens a connection with faults of its own.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn connect_with(&self, faults: Faults) -> io::Result<ClientStream> {
        let mut state = lock(&self.door.state);
        if state.closed || state.links.len() >= BACKLOG {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let link = Link::new(&self.door.executor, faults);
        self.door.executor.lock().note(link.number(), Action::Dialled);
        state.links.push_back(link.clone());
        state.dialled = Some(link.clone());
        let acceptor = state.acceptor.take();
        drop(state);
        acceptor.into_iter().for_each(Waker::wake);
        Ok(ClientStream { link })
    }

    /// The connection that was opened last, to order faults where the client keeps its stream to itself.
    #[must_use]
    pub fn last_link(&self) -> Option<Link> {
        lock(&self.door.state).dialled.clone()
    }

    /// Makes the next accept of the listener fail: with an error of this kind, or, with `None`, by a panic. The broker
    /// waits for 50 ms, longer if the failure repeats, and accepts again; no connection is lost.
    pub fn fail_accept(&self, error: Option<ErrorKind>) {
        let mut state = lock(&self.door.state);
        state.accept_faults.push_back(error);
        let acceptor = state.acceptor.take();
        drop(state);
        acceptor.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("name", &self.door.name).finish_non_exhaustive()
    }
}

/// The accepting end.
struct Acceptor {
    door: Arc<Door>,
}

impl Acceptor {
    fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<Link>> {
        let mut state = lock(&self.door.state);
        if let Some(fault) = state.accept_faults.pop_front() {
            drop(state);
            match fault {
                Some(kind) => return Poll::Ready(Err(kind.into())),
                None => std::panic::resume_unwind(Box::new("a panic that was ordered")),
            }
        }
        match state.links.pop_front() {
            Some(link) => Poll::Ready(Ok(link)),
            None => {
                state.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Transport for Acceptor {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let link = std::future::poll_fn(|cx| self.poll_accept(cx)).await?;
        let number = link.number();
        self.door.executor.lock().note(number, Action::Accepted);
        let server = ServerStream { link };
        let peer = format!("{}#{number}", self.door.name);
        Ok(Incoming::with_handshake(peer, async move {
            if let Poll::Ready(shaken) = server.link.shared.pass(Operation::Handshake, None) {
                shaken?;
            }
            let inline = server.link.shared.is_inline();
            let writer: Arc<dyn TryWrite> = server.link.shared.clone();
            let stream = ByteStream::new(server);
            Ok(if inline { stream.with_try_write(writer) } else { stream })
        }))
    }

    fn local_endpoint(&self) -> String {
        format!("testing://{}", self.door.name)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let mut state = lock(&self.door.state);
        state.closed = true;
        let turned_away = std::mem::take(&mut state.links);
        drop(state);
        for link in turned_away {
            link.shared.end(Direction::ToClient);
            link.shared.abandon(Direction::ToBroker);
        }
    }
}

/// The client's end of a connection. It reads and writes by the `futures-io` traits; one task at a time polls it.
///
/// After `poll_close` the broker reads the written bytes and then the end of the stream, while this end can still read.
/// Dropping it does the same, and makes the broker's writes fail with [`ErrorKind::BrokenPipe`].
#[derive(Debug)]
pub struct ClientStream {
    link: Link,
}

impl ClientStream {
    /// The link of this connection, to order faults while the connection is used.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link.clone()
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.link.shared.poll_read(Direction::ToClient, cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.link.shared.write(Direction::ToBroker, Some(cx), bufs);
        written.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.shared.end(Direction::ToBroker);
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.link.shared.end(Direction::ToBroker);
        self.link.shared.abandon(Direction::ToClient);
    }
}

/// The broker's end of a connection.
struct ServerStream {
    link: Link,
}

impl AsyncRead for ServerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.link.shared.pass(Operation::Read, Some(cx)))?;
        self.link.shared.poll_read(Direction::ToBroker, cx, buf)
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.link.shared.pass(Operation::Write, Some(cx)))?;
        let written = self.link.shared.write(Direction::ToClient, Some(cx), bufs);
        written.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.shared.pass(Operation::Flush, Some(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.link.shared.pass(Operation::Close, Some(cx)))?;
        self.link.shared.end(Direction::ToClient);
        Poll::Ready(Ok(()))
    }
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        self.link.shared.end(Direction::ToClient);
        self.link.shared.abandon(Direction::ToBroker);
        if !std::thread::panicking() {
            let _an_error_is_none_of_a_drop = self.link.shared.pass(Operation::Drop, None);
        }
    }
}

/// The broker's end as any task may write it.
impl TryWrite for Shared {
    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.pass(Operation::Write, None) {
            Poll::Ready(passed) => passed?,
            Poll::Pending => return Err(ErrorKind::WouldBlock.into()),
        }
        let written = self.write(Direction::ToClient, None, bufs);
        written.unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))
    }
}
