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
use crate::codec::{Packet, Version, prop};
use crate::failure::{Step, skip};
use crate::target::Server;

/// A sound CONNECT that the server must refuse, and the codes with which it may say so. That it does is what
/// cases of `connect` ask for; where it does not, those that build on it have nothing to test.
fn not_welcome(server: &Server, version: Version) -> Step<(Dialling<'_>, &'static [u8])> {
    let (dialling, codes): (_, &[u8]) = match version {
        Version::V31 => (server.v31(""), &[0x02]),
        Version::V311 => (server.v311("").clean_start(false), &[0x02]),
        Version::V5 => (server.v5("a").prop(prop::auth_method("X-NO-SUCH-METHOD")), &[0x87, 0x8C]),
    };
    match dialling.send()?.control("CONNACK") {
        Ok(Packet::Connack { code: 0, .. }) => {
            Err(skip(format!("needs a CONNECT of {version} that the server refuses")))
        }
        // Whatever else comes, the case will judge it.
        _ => Ok((dialling, codes)),
    }
}

/// Lets protocol time pass: keep alive, expiry, Will Delay. Nothing else is ever slept for.
fn protocol_time(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
