//! A stream of bytes that is sent in frames.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};

/// The most that one frame carries, in bytes: its length takes two.
const FRAME_MAX: usize = 65_535;

/// A stream of bytes over frames. Readers do not see the borders of frames.
#[derive(Debug)]
pub struct FramedStream {
    socket: Async<TcpStream>,
    /// The length of the next frame, as far as it has come.
    head: Vec<u8>,
    /// What is left of the frame that is being read.
    left: usize,
    /// A frame that was taken and is not written yet, and how much of it is.
    unsent: Vec<u8>,
    sent: usize,
}

impl FramedStream {
    pub(crate) fn new(socket: Async<TcpStream>) -> FramedStream {
        FramedStream { socket, head: Vec::new(), left: 0, unsent: Vec::new(), sent: 0 }
    }

    /// Reads lengths until a frame with something in it begins: false at the end of the stream.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.left == 0 {
            let mut byte = [0];
            if ready!(Pin::new(&mut self.socket).poll_read(cx, &mut byte))? == 0 {
                let whole = self.head.is_empty();
                return Poll::Ready(if whole { Ok(false) } else { Err(cut_short()) });
            }
            self.head.push(byte[0]);
            if let [high, low] = self.head[..] {
                self.left = usize::from(u16::from_be_bytes([high, low]));
                self.head.clear();
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Writes the frame that was taken.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let rest = &self.unsent[self.sent..];
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.unsent.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended inside a frame")
}

impl AsyncRead for FramedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() || !ready!(self.poll_frame(cx))? {
            return Poll::Ready(Ok(0));
        }
        let wanted = buf.len().min(self.left);
        let n = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf[..wanted]))?;
        if n == 0 {
            return Poll::Ready(Err(cut_short()));
        }
        self.left -= n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for FramedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // One frame at a time, so that the writer waits while the socket takes no bytes.
        ready!(self.poll_unsent(cx))?;
        let taken = &buf[..buf.len().min(FRAME_MAX)];
        if let Ok(length @ 1..) = u16::try_from(taken.len()) {
            self.unsent.extend(length.to_be_bytes());
            self.unsent.extend_from_slice(taken);
        }
        // What is written already need not wait for a flush; an error is met again by the next call.
        let _later_if_pending = self.poll_unsent(cx)?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Close implies flush; and `Async` only flushes, so the end has to be told to the socket.
        ready!(self.poll_unsent(cx))?;
        Poll::Ready(self.socket.get_ref().shutdown(Shutdown::Write))
    }
}
