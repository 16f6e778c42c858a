//! Runs every case of the suite over the transport of this crate: binds it, dials it, and invokes one macro.

use std::io;
use std::sync::Arc;

use conformance_of_my_transport::{FramedTransport, dial};
use futures_lite::future::block_on;
use hrotti::Broker;
use hrotti_conformance::bridge::Duplex;
use hrotti_conformance::{Endpoint, Fixture};

struct MyTransport;

impl Fixture for MyTransport {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        let transport = FramedTransport::bind()?;
        let address = transport.address();
        block_on(broker.add_transport("mine", transport)).map_err(io::Error::other)?;
        // Clients know only TCP, so they reach the transport through a byte bridge.
        Endpoint::bridged(Arc::new(move || {
            Box::pin(async move { Ok(Box::new(dial(address).await?) as Box<dyn Duplex>) })
        }))
    }
}

hrotti_conformance::tests!(MyTransport);
