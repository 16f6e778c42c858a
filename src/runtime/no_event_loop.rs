//! Where there are no event loops: everything runs on the global executor.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use super::computing::Computers;

/// There are none.
pub(crate) struct EventLoops(Infallible);

impl EventLoops {
    /// # Errors
    /// Always.
    pub(crate) fn start(_count: usize) -> io::Result<EventLoops> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn spawn(&self, _future: impl Future<Output = ()> + Send + 'static) {
        match self.0 {}
    }

    pub(crate) fn spawn_on_each<F: Future<Output = ()> + Send + 'static>(
        &self,
        _future: impl FnMut() -> F,
    ) {
        match self.0 {}
    }
}

/// Whether this thread is an event loop.
pub(crate) fn is_event_loop() -> bool {
    false
}

/// There are none.
pub(super) fn computers() -> Option<Computers> {
    None
}

/// A socket that no loop watches.
pub(crate) struct Registered<S>(Infallible, PhantomData<S>);

impl<S> Registered<S> {
    pub(crate) fn new(socket: S) -> Result<io::Result<Registered<S>>, S> {
        Err(socket)
    }

    pub(crate) fn get_ref(&self) -> &S {
        match self.0 {}
    }

    pub(crate) fn unwatch(&self) {
        match self.0 {}
    }

    pub(crate) fn poll_readable(&self, _cx: &mut Context<'_>) -> Poll<()> {
        match self.0 {}
    }

    pub(crate) fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<()> {
        match self.0 {}
    }
}
