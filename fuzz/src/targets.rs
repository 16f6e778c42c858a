//! The targets: each takes any bytes, and panics where what came of them breaks a rule.

#[path = "access.rs"]
mod access;
#[path = "codec.rs"]
mod codec;
#[path = "connects.rs"]
mod connects;
#[path = "frames.rs"]
mod frames;
#[path = "input.rs"]
pub(crate) mod input;
#[path = "retain.rs"]
mod retain;
#[path = "server.rs"]
pub(crate) mod server;
#[path = "sessions.rs"]
mod sessions;
#[path = "settings.rs"]
mod settings;
#[path = "shares.rs"]
mod shares;
#[path = "states.rs"]
mod states;
#[path = "topics.rs"]
mod topics;
#[path = "trees.rs"]
mod trees;

use crate::packet::ProtocolVersion;
use crate::transport::proxy_protocol::target as proxy;
use crate::transport::tls::target as tls;
use crate::transport::ws::target as ws;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its binary and of its directory in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("acl_file", acl_file),
    ("bans", bans),
    ("config", config),
    ("connect", connect),
    ("decode_v3_1", decode_v3_1),
    ("decode_v3_1_1", decode_v3_1_1),
    ("decode_v5", decode_v5),
    ("dynamic_security", dynamic_security),
    ("first_bytes", first_bytes),
    ("forwarded", forwarded),
    ("frame", frame),
    ("jwt", jwt),
    ("listener_url", listener_url),
    ("password_file", password_file),
    ("proxy_header", proxy_header),
    ("retained", retained),
    ("session", session),
    ("share", share),
    ("state", state),
    ("tls_file", tls_file),
    ("topic", topic),
    ("tree", tree),
    ("ws_frame", ws_frame),
    ("ws_upgrade", ws_upgrade),
];

/// Client Identifier, user name and topic, separated by tabs, and on the next lines an access control list.
///
/// # Panics
/// An error does not name the file, what is accepted does not read back, or a decision is not that of a naive
/// reading.
pub fn acl_file(data: &[u8]) {
    access::acl_file(data);
}

/// A file of bans.
///
/// # Panics
/// An error does not name the file, or what is accepted does not read back.
pub fn bans(data: &[u8]) {
    access::bans(data);
}

/// The text of a configuration file.
///
/// # Panics
/// An error does not name the file, or what is accepted does not read back from what `-check` shows.
pub fn config(data: &[u8]) {
    settings::config(data);
}

/// The body of a CONNECT behind the first byte of its fixed header.
///
/// # Panics
/// What was read does not read back, or cannot begin a Network Connection.
pub fn connect(data: &[u8]) {
    connects::connect(data);
}

/// The first byte of a fixed header and the body of a packet of MQTT 3.1.
///
/// # Panics
/// What was read breaks a rule of its type, or does not read back.
pub fn decode_v3_1(data: &[u8]) {
    codec::decode_as(ProtocolVersion::V3_1, data);
}

/// As [`decode_v3_1`], of MQTT 3.1.1.
///
/// # Panics
/// As [`decode_v3_1`].
pub fn decode_v3_1_1(data: &[u8]) {
    codec::decode_as(ProtocolVersion::V3_1_1, data);
}

/// As [`decode_v3_1`], of MQTT 5.0.
///
/// # Panics
/// As [`decode_v3_1`].
pub fn decode_v5(data: &[u8]) {
    codec::decode_as(ProtocolVersion::V5, data);
}

/// A file of mosquitto's dynamic security.
///
/// # Panics
/// An error does not name the file, or what is accepted is no JSON object.
pub fn dynamic_security(data: &[u8]) {
    access::dynamic_security(data);
}

/// The first bytes of a Network Connection.
///
/// # Panics
/// More bytes take a refusal back, or what is admitted cannot be a CONNECT.
pub fn first_bytes(data: &[u8]) {
    connects::first_bytes(data);
}

/// Lines of `X-Forwarded-For`, and of `Forwarded` behind a `:`.
///
/// # Panics
/// A Client chooses its address, or a trusted proxy behind the last one changes it.
pub fn forwarded(data: &[u8]) {
    proxy::forwarded(data);
}

/// Four sizes of pieces, a choice of the largest packet, and a stream of packets.
///
/// # Panics
/// Other packets come out of the pieces than out of the whole.
pub fn frame(data: &[u8]) {
    frames::frame(data);
}

/// Header and claims of a JSON Web Token, a line each; also a Password, and files of keys.
///
/// # Panics
/// A token is accepted that is not signed, has ended, or names nobody.
pub fn jwt(data: &[u8]) {
    access::jwt(data);
}

/// The URL of a listener, and on further lines its origins.
///
/// # Panics
/// What is accepted cannot be served, or what an error says to write instead is refused.
pub fn listener_url(data: &[u8]) {
    settings::listener_url(data);
}

/// A password file.
///
/// # Panics
/// An error does not name the file, or shows a hash.
pub fn password_file(data: &[u8]) {
    access::password_file(data);
}

/// The first bytes of a connection from a proxy.
///
/// # Panics
/// A reader that takes no byte too many finds another header than one that has all bytes.
pub fn proxy_header(data: &[u8]) {
    proxy::header(data);
}

/// Changes of the retained messages, and searches.
///
/// # Panics
/// They do not agree with a list.
pub fn retained(data: &[u8]) {
    retain::retained(data);
}

/// A Network Connection and its Session: packets, whatever a broker does meanwhile, and time.
///
/// # Panics
/// The books do not balance, a bound is exceeded, or what was written is no packet of a Server.
pub fn session(data: &[u8]) {
    sessions::session(data);
}

/// Members of a shared subscription come, go, and are picked.
///
/// # Panics
/// They do not agree with a list.
pub fn share(data: &[u8]) {
    shares::share(data);
}

/// The state of a broker that is handed over.
///
/// # Panics
/// What was read is not written, read and written again as it was, or the books of a Session do not balance.
pub fn state(data: &[u8]) {
    states::state(data);
}

/// A file of a TLS listener, or a certificate as a Client shows it.
///
/// # Panics
/// An error has more than one line, or a user name is none of the names in a certificate.
pub fn tls_file(data: &[u8]) {
    tls::tls_file(data);
}

/// A Topic Filter and, on the next line, a Topic Name.
///
/// # Panics
/// They are judged otherwise than by the letter of the standard.
pub fn topic(data: &[u8]) {
    topics::topic(data);
}

/// Changes of the subscription tree, and searches.
///
/// # Panics
/// They do not agree with a list.
pub fn tree(data: &[u8]) {
    trees::tree(data);
}

/// Four sizes of pieces, and what a WebSocket Client sends after the upgrade.
///
/// # Panics
/// Another payload comes out than a plain reader of RFC 6455 finds.
pub fn ws_frame(data: &[u8]) {
    ws::frame(data);
}

/// A choice of rules, four sizes of pieces, and what a WebSocket Client sends from the first byte on.
///
/// # Panics
/// It is not answered, or with something else than a response of HTTP, or a valid request is refused.
pub fn ws_upgrade(data: &[u8]) {
    ws::upgrade(data);
}
