//! A stream of the house as hyper reads and writes it, and the clock of its deadlines.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead as _, AsyncWrite as _};
use hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};

use crate::runtime;
use crate::transport::ByteStream;

/// Bytes of one read.
const READ_BYTES: usize = 8 * 1024;

/// A stream whose writes fail when the peer takes no byte for some time.
pub(super) struct Io {
    stream: ByteStream,
    stall_timeout: Duration,
    /// Set when bytes are read: a connection without a request that has begun is idle.
    begun: Arc<AtomicBool>,
    /// Runs while a write is not taken.
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Io {
    pub(super) fn new(stream: ByteStream, stall_timeout: Duration, begun: Arc<AtomicBool>) -> Io {
        Io { stream, stall_timeout, begun, stalled: None }
    }

    /// Passes on what a write returned, or fails if the peer has taken nothing for too long.
    fn or_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.stall_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(runtime::sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_BYTES];
        let room = buf.remaining().min(READ_BYTES);
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut bytes[..room]))?;
        if read > 0 {
            self.begun.store(true, Ordering::Relaxed);
        }
        buf.put_slice(&bytes[..read]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.or_stalled(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.or_stalled(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_close(cx);
        self.or_stalled(cx, closed)
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("stalled", &self.stalled.is_some()).finish_non_exhaustive()
    }
}

/// The timers of the runtime for hyper.
#[derive(Debug, Clone, Copy)]
pub(super) struct HouseTimer;

impl Timer for HouseTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(HouseSleep(Mutex::new(Box::pin(runtime::sleep(duration)))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// A timer. The lock is never taken: it only says that the timer may be shared, as hyper demands.
struct HouseSleep(Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Future for HouseSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        timer.as_mut().poll(cx)
    }
}

impl Sleep for HouseSleep {}
