//! Every case over the Unix socket of `examples/custom_transport.rs`, through the byte bridge.
#![cfg(unix)]

use std::io;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_io::Async;
use futures_lite::future::block_on;
use hrotti::Broker;
use hrotti_conformance::bridge::Duplex;
use hrotti_conformance::{Endpoint, Fixture};

#[path = "../../examples/custom_transport/unix.rs"]
mod unix;

struct Unix;

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Fixture for Unix {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hrotti-case-{}-{n}.sock", process::id()));
        let transport = unix::UnixTransport::bind(&path)?;
        block_on(broker.add_transport("case", transport)).map_err(io::Error::other)?;
        Endpoint::bridged(Arc::new(move || {
            let path = path.clone();
            Box::pin(async move {
                let stream = unix::UnixSocket(Async::<UnixStream>::connect(&path).await?);
                Ok(Box::new(stream) as Box<dyn Duplex>)
            })
        }))
    }
}

hrotti_conformance::tests!(Unix);
