//! Every case over WebSockets over TLS, on event loops as the program runs them, through the byte bridge.

use std::io;

use hrotti::Broker;
use hrotti_conformance::{Endpoint, Fixture};

mod certificates;

struct Wss;

impl Fixture for Wss {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        certificates::bind(broker, "wss://127.0.0.1:0")
    }

    fn broker() -> Broker {
        Broker::builder().max_queue_depth(100).event_loops(2).build()
    }
}

hrotti_conformance::tests!(Wss);
