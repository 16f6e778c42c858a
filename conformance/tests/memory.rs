//! Every case over the in-memory transport, through the byte bridge.

use std::io;
use std::sync::Arc;

use futures_lite::future::block_on;
use hrotti::Broker;
use hrotti::transport::memory::MemoryTransport;
use hrotti_conformance::bridge::Duplex;
use hrotti_conformance::{Endpoint, Fixture};

struct Memory;

impl Fixture for Memory {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        let capacity = MemoryTransport::DEFAULT_CAPACITY;
        let (transport, connector) = MemoryTransport::new("case", capacity);
        block_on(broker.add_transport("case", transport))
            .map_err(|e| io::Error::other(format!("{e:?}")))?;
        Endpoint::bridged(Arc::new(move || {
            let stream = connector.connect().map(|s| Box::new(s) as Box<dyn Duplex>);
            Box::pin(std::future::ready(stream))
        }))
    }
}

hrotti_conformance::tests!(Memory);
