//! What an embedder's code does wrong ends one Network Connection, and nothing beside it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use hrotti::Broker;
use hrotti::transport::memory::MemoryTransport;
use hrotti::transport::{ByteStream, Incoming, Transport};

use crate::peer::{Peer, block_on, in_time, listen};

/// A stream that panics where it is told to.
struct Panics {
    on_read: bool,
}

impl AsyncRead for Panics {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!self.on_read, "a stream that cannot read");
        Poll::Ready(Ok(0))
    }
}

impl AsyncWrite for Panics {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(self.on_read, "a stream that cannot be dropped");
    }
}

/// Hands out streams that panic.
struct PanickingTransport(MemoryTransport, u64);

impl Transport for PanickingTransport {
    async fn accept(&mut self) -> io::Result<Incoming> {
        let peer = self.0.accept().await?.peer;
        self.1 += 1;
        let on_read = self.1.is_multiple_of(2);
        Ok(Incoming::ready(peer, ByteStream::new(Panics { on_read })))
    }

    fn local_endpoint(&self) -> String {
        "panics".to_owned()
    }
}

/// On the global executor, and on one event loop.
#[test]
fn a_stream_that_panics_ends_its_own_connection_alone_pitfall_13() {
    for event_loops in [0, if cfg!(target_os = "linux") { 1 } else { 0 }] {
        let broker = Broker::builder().event_loops(event_loops).try_build().expect("event loops");
        let (transport, connector) = MemoryTransport::new("panics", 64);
        block_on(broker.add_transport("panics", PanickingTransport(transport, 0))).expect("new");
        let mut peer = Peer::connect(&listen(&broker, "tcp"), "healthy");
        for _ in 0..20 {
            drop(connector.connect().expect("accepted"));
            peer.ping();
        }
        in_time(broker.stop_within(Duration::from_secs(1)));
        assert!(broker.listeners().is_empty());
    }
}
