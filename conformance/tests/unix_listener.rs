//! Every case over a `unix://` listener, through the byte bridge.
#![cfg(unix)]

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use async_io::Async;
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::block_on;
use hrotti::{Broker, ListenerConfig};
use hrotti_conformance::bridge::Duplex;
use hrotti_conformance::{Endpoint, Fixture};

struct Unix;

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Fixture for Unix {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hrotti-listener-{}-{n}.sock", process::id()));
        let url = format!("unix://{}", path.display());
        let config = ListenerConfig::new(&url).map_err(io::Error::other)?;
        block_on(broker.add_listener("case", config)).map_err(io::Error::other)?;
        Endpoint::bridged(Arc::new(move || {
            let path = path.clone();
            Box::pin(async move {
                let stream = Async::<UnixStream>::connect(&path).await?;
                Ok(Box::new(HalfClosing(stream)) as Box<dyn Duplex>)
            })
        }))
    }

    fn broker() -> Broker {
        Broker::builder().max_queue_depth(100).event_loops(2).build()
    }
}

/// `Async` does not end its direction when it is closed.
struct HalfClosing(Async<UnixStream>);

impl AsyncRead for HalfClosing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for HalfClosing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(Shutdown::Write))
    }
}

hrotti_conformance::tests!(Unix);
