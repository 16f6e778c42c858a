//! Another configuration while Clients are connected: what changes, what they see of it, and what stays where it fails.
#![cfg(all(
    unix,
    feature = "tls",
    feature = "access-files",
    feature = "admin",
    feature = "http-access"
))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests fail by panicking

#[path = "../src/transport/tls/tests/authority.rs"]
mod authority;
#[path = "reload/embedder.rs"]
mod embedder;
#[path = "reload/fresh.rs"]
mod fresh;
#[path = "reload/house.rs"]
mod house;
#[path = "reload/listeners.rs"]
mod listeners;
#[path = "reload/load.rs"]
mod load;
#[path = "reload/operator.rs"]
mod operator;
#[allow(dead_code, reason = "these tests use a part of it")]
#[path = "api/peer.rs"]
mod peer;
#[path = "reload/refused.rs"]
mod refused;
#[path = "reload/rows.rs"]
mod rows;
#[path = "reload/tls.rs"]
mod tls;
