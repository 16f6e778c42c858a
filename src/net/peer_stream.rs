//! The byte stream of a Network Connection, written by its owner or, for a moment, by a publisher's task.
//!
//! Every stream can be written inline: a stream without its own [`TryWrite`] is put behind a lock, and publishers
//! write it with the owner's waker. So `max_queue_depth` means the same on every transport: a full queue shows that
//! the Client does not read, not that its task had no turn yet.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::engine::outbox::transport_panicked;
use crate::engine::timers::Mailbox;
use crate::sync::lock;
use crate::transport::{ByteStream, Duplex, TryWrite};

type Io = Pin<Box<dyn Duplex>>;

/// The stream as its owner has it.
pub(super) enum PeerStream {
    /// The stream has its own [`TryWrite`].
    Own(Io),
    Locked(Arc<LockedStream>),
}

/// A stream behind a lock, which is held for one call and never while anything else is locked.
pub(super) struct LockedStream {
    io: Mutex<Io>,
    owner: Waker,
}

impl PeerStream {
    /// The stream and its inline writer.
    pub(super) fn new(
        stream: ByteStream,
        mailbox: &Arc<Mailbox>,
    ) -> (PeerStream, Arc<dyn TryWrite>) {
        match stream.inline {
            Some(inline) => (PeerStream::Own(stream.io), inline),
            None => {
                let owner = Waker::from(mailbox.clone());
                let shared = Arc::new(LockedStream { io: Mutex::new(stream.io), owner });
                (PeerStream::Locked(shared.clone()), shared)
            }
        }
    }

    /// Lets the owner poll it. A stream that panics is broken.
    pub(super) fn with<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut dyn Duplex>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let polled = catch_unwind(AssertUnwindSafe(|| match self {
            PeerStream::Own(io) => poll(io.as_mut()),
            PeerStream::Locked(stream) => stream.with(poll),
        }));
        polled.unwrap_or_else(|_| Poll::Ready(Err(transport_panicked())))
    }
}

impl LockedStream {
    fn with<R>(&self, poll: impl FnOnce(Pin<&mut dyn Duplex>) -> R) -> R {
        poll(lock(&self.io).as_mut())
    }
}

impl TryWrite for LockedStream {
    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.owner);
        self.with(|mut io| {
            let Poll::Ready(written) = io.as_mut().poll_write_vectored(&mut cx, bufs) else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            // If the flush is pending, the owner is woken to continue it; it will also get any error again.
            let _flushed_or_registered = io.poll_flush(&mut cx);
            written
        })
    }
}
