//! The byte stream of a Network Connection, written by its owner or, for a moment, by a publisher's task.
//!
//! Every stream can be written inline: what brings no [`TryWrite`] of its own is put behind a lock, and
//! whoever writes does so with the owner's waker. So `max_queue_depth` means the same on every transport: a
//! full queue is a Client that does not read, never a task that had no turn yet.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::broker::mailbox::Mailbox;
use crate::transport::{ByteStream, Duplex, TryWrite};

type Io = Pin<Box<dyn Duplex>>;

/// The stream as its owner has it.
pub(super) enum Stream {
    /// It has a way of its own to be written from other tasks.
    Own(Io),
    Shared(Arc<SharedIo>),
}

/// A stream behind a lock, which is held for one call and never while anything else is locked.
pub(super) struct SharedIo {
    io: Mutex<Io>,
    owner: Waker,
}

impl Stream {
    /// The stream and its inline writer.
    pub(super) fn new(stream: ByteStream, mailbox: &Arc<Mailbox>) -> (Stream, Arc<dyn TryWrite>) {
        match stream.inline {
            Some(inline) => (Stream::Own(stream.io), inline),
            None => {
                let owner = Waker::from(mailbox.clone());
                let shared = Arc::new(SharedIo { io: Mutex::new(stream.io), owner });
                (Stream::Shared(shared.clone()), shared)
            }
        }
    }

    /// Lets the owner poll it.
    pub(super) fn with<R>(&mut self, poll: impl FnOnce(Pin<&mut dyn Duplex>) -> R) -> R {
        match self {
            Stream::Own(io) => poll(io.as_mut()),
            Stream::Shared(shared) => shared.with(poll),
        }
    }
}

impl SharedIo {
    fn with<R>(&self, poll: impl FnOnce(Pin<&mut dyn Duplex>) -> R) -> R {
        let mut io = self.io.lock().unwrap_or_else(PoisonError::into_inner);
        poll(io.as_mut())
    }
}

impl TryWrite for SharedIo {
    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.owner);
        self.with(|mut io| {
            let Poll::Ready(written) = io.as_mut().poll_write_vectored(&mut cx, bufs) else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            // Not finished means that the owner is woken when it can go on; an error is met again there.
            let _flushed_or_registered = io.poll_flush(&mut cx);
            written
        })
    }
}
