//! The public API, end to end: everything here a host program could do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests fail by panicking

#[path = "api/access.rs"]
mod access;
#[path = "api/addresses.rs"]
mod addresses;
#[cfg(feature = "tls")]
#[path = "../src/transport/tls/tests/authority.rs"]
mod authority;
#[path = "api/back_pressure.rs"]
mod back_pressure;
#[path = "api/books.rs"]
mod books;
#[path = "api/brokers.rs"]
mod brokers;
#[path = "api/client.rs"]
mod client;
#[path = "api/events.rs"]
mod events;
#[path = "api/explain.rs"]
mod explain;
#[path = "api/hand_over.rs"]
mod hand_over;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/inspect.rs"]
mod inspect;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/listeners.rs"]
mod listeners;
#[path = "api/panics.rs"]
mod panics;
#[path = "api/peer.rs"]
mod peer;
#[path = "api/races.rs"]
mod races;
#[path = "api/raw.rs"]
mod raw;
#[path = "api/rules.rs"]
mod rules;
#[path = "api/statements.rs"]
mod statements;
#[path = "api/sys.rs"]
mod sys;
#[cfg(feature = "tls")]
#[path = "api/tls.rs"]
mod tls;
#[cfg(all(feature = "jwt", feature = "scram", feature = "http-access"))]
#[path = "api/tokens.rs"]
mod tokens;
#[path = "api/traffic.rs"]
mod traffic;
