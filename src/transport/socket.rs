//! A connected socket as a stream of bytes: TCP and Unix sockets alike.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};

use super::{ByteStream, TryWrite};
use crate::runtime::Registered;

/// The system calls of a socket that does not block.
pub(super) trait Socket: Send + Sync + Sized + 'static {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;
    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
    fn write(&self, buf: &[u8]) -> io::Result<usize>;
    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

macro_rules! socket {
    ($type:ty) => {
        impl Socket for $type {
            fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
                (&mut &*self).read(buf)
            }

            fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&mut &*self).read_vectored(bufs)
            }

            fn write(&self, buf: &[u8]) -> io::Result<usize> {
                (&mut &*self).write(buf)
            }

            fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                (&mut &*self).write_vectored(bufs)
            }

            fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                <$type>::shutdown(self, how)
            }
        }
    };
}

socket!(TcpStream);
#[cfg(unix)]
socket!(std::os::unix::net::UnixStream);

/// A connected socket, shared between its owner and tasks that write inline.
pub(super) enum Connected<S> {
    Reactor(Async<S>),
    Loop(Registered<S>),
}

impl<S> Connected<S> {
    fn get_ref(&self) -> &S {
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

impl<S: Socket> TryWrite for Connected<S> {
    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        uninterrupted(|| write_slices(self.get_ref(), bufs))
    }
}

/// The owner's side of an accepted socket.
pub(super) struct SocketStream<S: Socket> {
    socket: Arc<Connected<S>>,
    /// The last read took less than there was room for, so the socket is empty: the next read waits for
    /// readiness first instead of being told that it would block. Readiness is level-triggered, so bytes
    /// and an end of stream that came in between are seen.
    pub(super) drained: bool,
    /// A read has waited for readiness. Another one before it came looks by itself: after the process was stopped,
    /// a deadline may strike before readiness is reported.
    asked: bool,
}

impl<S: Socket> SocketStream<S> {
    pub(super) fn new(socket: Connected<S>) -> SocketStream<S> {
        SocketStream { socket: Arc::new(socket), drained: false, asked: false }
    }

    /// The byte stream with its inline writer.
    pub(super) fn into_byte_stream(self) -> ByteStream {
        let inline: Arc<dyn TryWrite> = self.socket.clone();
        ByteStream::new(self).with_try_write(inline)
    }

    fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        mut read: impl FnMut(&S) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket = &self.socket;
        loop {
            if self.drained {
                match socket.poll_readable(cx) {
                    Poll::Ready(readable) => readable?,
                    Poll::Pending if self.asked => {}
                    Poll::Pending => {
                        self.asked = true;
                        return Poll::Pending;
                    }
                }
                self.drained = false;
                self.asked = false;
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
        mut write: impl FnMut(&S) -> io::Result<usize>,
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
fn write_slices<S: Socket>(socket: &S, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
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

impl<S: Socket> AsyncRead for SocketStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, buf.len(), |socket| socket.read(buf))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_read_with(cx, room, |socket| socket.read_vectored(bufs))
    }
}

impl<S: Socket> AsyncWrite for SocketStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |socket| socket.write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
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

impl<S: Socket> Drop for SocketStream<S> {
    /// Shuts the socket down, because an inline writer may hold it longer than its owner.
    fn drop(&mut self) {
        if Arc::strong_count(&self.socket) > 1 {
            let _ = self.socket.get_ref().shutdown(Shutdown::Both);
        }
    }
}
