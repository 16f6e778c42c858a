//! What a Session keeps of its present and its last Network Connection.

use std::time::{Duration, SystemTime};

use super::*;
use crate::host::WALL_START;

/// A CONNECT of MQTT 5 without Clean Start, with a Keep Alive of one second and a Session of a minute.
fn resuming(id: &str) -> Vec<u8> {
    let mut bytes =
        b"\x10\x00\x00\x04MQTT\x05\x00\x00\x01\x05\x11\x00\x00\x00\x3c\x00\x00".to_vec();
    bytes[19] = u8::try_from(id.len()).unwrap();
    bytes.extend(id.bytes());
    bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
    bytes
}

fn at(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + WALL_START + Duration::from_secs(secs)
}

#[test]
fn a_session_knows_where_its_client_came_from_and_why_it_last_left() {
    let bench = Bench::new(Limits::default(), AccessControl::default());
    let times = || {
        let cell = bench.engine.registry.find("lamp").unwrap();
        let state = cell.lock();
        let origin = state.origin().unwrap();
        let told = (origin.keep_alive_secs, origin.version, origin.clean_start);
        assert_eq!(told, (1, crate::packet::ProtocolVersion::V5, false));
        assert_eq!((origin.address(), origin.listener()), (None, ""), "of a stream in memory");
        (origin.connected_at(), origin.last_left())
    };
    let mut first = bench.dial(4096);
    first.exchange(&resuming("lamp"));
    assert_eq!(times(), (at(0), None));
    bench.pass(5);
    first.turn();
    let silent = End::Fault(Fault::Server(
        ReasonCode::KEEP_ALIVE_TIMEOUT,
        "MQTT-3.1.2-22: no packet within one and a half times the Keep Alive",
    ));
    assert_eq!(times(), (at(0), Some((at(5), silent.cause()))));
    bench.pass(5);
    let mut second = bench.dial(4096);
    second.exchange(&resuming("lamp"));
    assert_eq!(times(), (at(10), Some((at(5), silent.cause()))), "of the one before");
    bench.pass(1);
    let mut third = bench.dial(4096);
    third.exchange(&resuming("lamp"));
    let taken_over = DisconnectCause::from(Order::TakenOver.fault());
    assert_eq!(times(), (at(11), Some((at(11), taken_over))));
    second.turn();
    assert_eq!(times(), (at(11), Some((at(11), taken_over))), "the old task changes nothing");
    third.exchange(&[0xE0, 1, 4]);
    let left = DisconnectCause::ByClient(ReasonCode::DISCONNECT_WITH_WILL);
    assert_eq!(times(), (at(11), Some((at(11), left))));
}
