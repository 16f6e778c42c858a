//! The cases, one file per chapter.

pub(crate) mod alias;
pub(crate) mod answers;
pub(crate) mod connect;
pub(crate) mod flow;
pub(crate) mod flows;
pub(crate) mod malformed;
pub(crate) mod promises;
pub(crate) mod publish;
pub(crate) mod refused;
pub(crate) mod retained;
pub(crate) mod rumqttc;
pub(crate) mod session;
pub(crate) mod shared;
pub(crate) mod stream;
pub(crate) mod strings;
pub(crate) mod subscribe;
pub(crate) mod will;
pub(crate) mod ws;

use std::time::Duration;

/// Lets protocol time pass: keep alive, expiry, Will Delay. Nothing else is ever slept for.
fn protocol_time(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
