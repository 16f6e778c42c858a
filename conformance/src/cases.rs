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

use crate::client::Dialling;
use crate::codec::{Version, prop};
use crate::target::Server;

/// A sound CONNECT that the server must refuse, and the codes with which it may say so.
fn not_welcome(server: &Server, version: Version) -> (Dialling<'_>, &'static [u8]) {
    match version {
        Version::V31 => (server.v31(""), &[0x02]),
        Version::V311 => (server.v311("").clean_start(false), &[0x02]),
        Version::V5 => (server.v5("a").prop(prop::auth_method("X-NO-SUCH-METHOD")), &[0x87, 0x8C]),
    }
}

/// Lets protocol time pass: keep alive, expiry, Will Delay. Nothing else is ever slept for.
fn protocol_time(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
