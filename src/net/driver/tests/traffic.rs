//! What is counted of packets before there is a Session.

use super::access::{auth, connect_by_method, step_by_step};
use super::*;
use crate::packet::PacketType;

/// The Client takes no byte while it is asked again and again, so that the rest of an AUTH goes out with CONNACK.
#[test]
fn an_auth_before_connack_counts_once_however_it_is_written() {
    for capacity in 60..80 {
        let bench = step_by_step();
        let mut served = bench.dial(capacity);
        let turns = |served: &mut Served| {
            (0..4).for_each(|_| {
                served.turn();
            });
        };
        served.send(&connect_by_method("a", b""));
        turns(&mut served);
        for _ in 0..7 {
            served.send(&auth(0x18, b"go on"));
            turns(&mut served);
        }
        served.send(&auth(0x18, b"stop"));
        turns(&mut served);
        let mut got = Vec::new();
        for _ in 0..20 {
            got.extend(served.got());
            turns(&mut served);
        }
        let traffic = bench.engine.traffic();
        assert_eq!(traffic.packets_sent(PacketType::Auth), 8, "{capacity}");
        assert_eq!(traffic.packets_sent(PacketType::ConnAck), 1, "{capacity}");
        assert_eq!(traffic.packets_sent_total(), 9, "{capacity}");
        assert_eq!(traffic.bytes_sent, got.len() as u64);
        assert_eq!(traffic.packets_received(PacketType::Auth), 8);
        assert!(got.len() > capacity, "it was written in pieces");
    }
}
