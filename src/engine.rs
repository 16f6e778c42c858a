//! The engine: the state of one broker, and the effects of packets, time and the host program on it. It writes to
//! sockets only by the write protocol of [`outbox`].

pub(crate) mod access;
pub(crate) mod announce;
mod authentication;
pub(crate) mod batch;
pub(crate) mod comings;
mod connect;
pub(crate) mod dispatch;
mod drops;
mod due;
pub(crate) mod errand;
mod explain;
mod export;
mod fetching;
mod holder;
mod import;
pub(crate) mod inspect;
mod log_lines;
pub(crate) mod origin;
pub(crate) mod outbox;
mod policy_change;
pub(crate) mod registry;
mod route;
pub(crate) mod send_context;
pub(crate) mod session_cell;
mod session_end;
pub(crate) mod share;
pub(crate) mod standstill;
pub(crate) mod state;
mod subscribe;
mod sys;
pub(crate) mod timers;
mod watch;

#[cfg(test)]
mod tests;
