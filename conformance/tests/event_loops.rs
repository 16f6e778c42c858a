//! Every case over tcp and ws on event loops, as the program runs them.

use std::io;

use hrotti::Broker;
use hrotti_conformance::{Endpoint, Fixture, Tcp, Ws};

fn broker() -> Broker {
    Broker::builder().max_queue_depth(100).event_loops(2).build()
}

/// tcp on event loops.
struct TcpOnLoops;

impl Fixture for TcpOnLoops {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        Tcp::bind(broker)
    }

    fn broker() -> Broker {
        broker()
    }
}

/// ws on event loops.
struct WsOnLoops;

impl Fixture for WsOnLoops {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        Ws::bind(broker)
    }

    fn broker() -> Broker {
        broker()
    }
}

mod tcp {
    hrotti_conformance::tests!(super::TcpOnLoops);
}

mod ws {
    hrotti_conformance::tests!(super::WsOnLoops);
}
