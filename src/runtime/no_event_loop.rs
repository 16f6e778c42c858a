//! Where there are no event loops: everything runs on the global executor.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::task::{Context, Poll};

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
}

/// A socket that no loop watches.
pub(crate) struct Registered(Infallible);

impl Registered {
    pub(crate) fn new(socket: TcpStream) -> Result<io::Result<Registered>, TcpStream> {
        Err(socket)
    }

    pub(crate) fn get_ref(&self) -> &TcpStream {
        match self.0 {}
    }

    pub(crate) fn poll_readable(&self, _cx: &mut Context<'_>) -> Poll<()> {
        match self.0 {}
    }

    pub(crate) fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<()> {
        match self.0 {}
    }
}
