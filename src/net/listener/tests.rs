//! Listeners whose transports and limits are replaced while they run.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::engine::access::AccessControl;
use crate::host::Host;
use crate::host::by_hand::ByHand;
use crate::limits::Limits;
use crate::transport::memory::MemoryTransport;

fn engine(limits: Limits) -> Arc<Engine> {
    let host = Host::Custom(Arc::new(ByHand::default()));
    Arc::new(Engine::new(limits, host, AccessControl::default()))
}

fn memory() -> MemoryTransport {
    MemoryTransport::new("inside", 1_024).0
}

/// A transport whose listener is stopped while it is put in the place of another one.
struct StoppedMeanwhile(MemoryTransport, &'static Listeners);

impl Transport for StoppedMeanwhile {
    async fn accept(&mut self) -> io::Result<Incoming> {
        self.0.accept().await
    }

    fn local_endpoint(&self) -> String {
        self.0.local_endpoint()
    }

    fn sockets(&self) -> ListeningSockets {
        self.1.take("a").unwrap().stop_accepting();
        ListeningSockets::default()
    }
}

#[test]
fn no_transport_is_put_behind_the_stop_of_its_listener() {
    let engine = engine(Limits::default());
    let listeners: &Listeners = Box::leak(Box::default());
    let listener = listeners.add(&engine, "a", memory(), ListenerRules::default()).unwrap();
    assert!(listeners.exchange(&engine, "a", memory()));
    assert!(!listeners.exchange(&engine, "a", StoppedMeanwhile(memory(), listeners)));
    assert!(lock(&listener.accepting).stop.is_closed(), "the last loop ends, too");
}

/// Reloads come often, and most change no limit.
#[test]
fn a_rate_that_stays_keeps_what_addresses_have_used_of_it() {
    let limits =
        |address_connects_per_sec_max| Limits { address_connects_per_sec_max, ..Limits::default() };
    let engine = engine(limits(1));
    let listeners = Listeners::default();
    let listener = listeners.add(&engine, "a", memory(), ListenerRules::default()).unwrap();
    let peer = PeerInfo::from(std::net::SocketAddr::from(([192, 0, 2, 1], 1)));
    let set = |limits| {
        engine.set_limits(limits);
        listeners.set_limits(&engine);
    };
    assert!(listener.lets_in(&engine, &peer));
    set(Limits { sessions_max: 9, ..limits(1) });
    assert!(!listener.lets_in(&engine, &peer), "nothing is given anew");
    set(limits(2));
    assert!(listener.lets_in(&engine, &peer));
    set(limits(0));
    assert!((0..9).all(|_| listener.lets_in(&engine, &peer)), "there is no limit");
}
