//! The pure rooms as a crate of their own, with nothing else of hrotti: the root of the library that
//! `benches/` measures. It stands here because their files name one another as `crate::packet` and so on.

#![allow(dead_code, unreachable_pub, reason = "what the shell alone uses")]
#![allow(clippy::enum_variant_names, reason = "what is public in hrotti is private here")]

mod budget;
mod connection;
mod error;
mod ledger;
mod limits;
mod message;
mod packet;
mod reason_code;
mod retained;
mod session;
mod snapshot;
mod spelling;
mod subscription;
mod time;
mod topic;

#[path = "../benches/src/operations.rs"]
pub mod operations;
