//! A [`Transport`] over a Unix socket.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};
use hrotti::transport::{ByteStream, Incoming, Transport};

/// A listening Unix socket, whose file is removed with it.
pub(crate) struct UnixTransport {
    listener: Async<UnixListener>,
    path: PathBuf,
    accepted: u64,
}

impl UnixTransport {
    /// Listens on `path`, which must not exist.
    pub(crate) fn bind(path: &Path) -> io::Result<UnixTransport> {
        let listener = Async::<UnixListener>::bind(path)?;
        Ok(UnixTransport { listener, path: path.to_owned(), accepted: 0 })
    }
}

impl Transport for UnixTransport {
    async fn accept(&mut self) -> io::Result<Incoming> {
        // Nothing is awaited after the accept, so dropping the future loses no peer.
        let (stream, _) = self.listener.accept().await?;
        self.accepted += 1;
        let peer = format!("{}#{}", self.path.display(), self.accepted);
        Ok(Incoming::ready(peer, ByteStream::new(UnixSocket(stream))))
    }

    fn local_endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }
}

impl Drop for UnixTransport {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A connected Unix socket. `Async` alone does not suffice: its `poll_close` only flushes, and the peer would
/// never learn that this direction has ended.
pub(crate) struct UnixSocket(pub(crate) Async<UnixStream>);

impl AsyncRead for UnixSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(Shutdown::Write))
    }
}
