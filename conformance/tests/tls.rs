//! Every case over TLS, through the byte bridge.

use std::io;

use hrotti::Broker;
use hrotti_conformance::{Endpoint, Fixture};

mod certificates;

struct Tls;

impl Fixture for Tls {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        certificates::bind(broker, "mqtts://127.0.0.1:0")
    }
}

hrotti_conformance::tests!(Tls);
