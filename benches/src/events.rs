//! What events cost: the same work without a receiver and with one that takes every event.

use futures_lite::AsyncReadExt;
use futures_lite::future::block_on;

use super::Operation;
use super::packets::packet;
use super::pairs::Memory;
use crate::packet::QoS;

/// Connected, Subscribed, Unsubscribed, Disconnected.
const EVENTS: usize = 4;
const FILTER: &str = "plant/#";

pub(super) fn operations() -> Vec<Operation> {
    vec![visiting("visit/unheard", false), visiting("visit/heard", true)]
}

/// A Client that connects, subscribes, unsubscribes and leaves.
fn visiting(name: &str, is_heard: bool) -> Operation {
    let expected = if is_heard { EVENTS } else { 0 };
    Operation::new("events", name, 1, expected, move || {
        let memory = Memory::new();
        let mut events = is_heard.then(|| memory.broker().events());
        let none = packet(0xA2, &[&[0, 1], &super::packets::string(FILTER)]);
        move || {
            let mut peer = memory.connect("c");
            peer.subscribe(FILTER, QoS::AtMostOnce);
            peer.write(&none);
            assert_eq!(peer.read(4), [0xB0, 2, 0, 1], "UNSUBACK");
            peer.write(&[0xE0, 0]);
            let mut rest = Vec::new();
            let closed = block_on(peer.stream.read_to_end(&mut rest));
            assert_eq!(closed.ok(), Some(0), "the end of the connection");
            let Some(events) = &mut events else { return 0 };
            (0..EVENTS).filter(|_| matches!(block_on(events.next()), Some(Ok(_)))).count()
        }
    })
}
