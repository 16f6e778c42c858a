//! Where bytes come in and go out: listeners, and one task for each Network Connection.

pub(crate) mod bound;
mod closing;
mod driver;
pub(crate) mod listener;
mod newcomers;
mod pause;
mod peer_stream;
mod rates;
mod read_buffer;
#[cfg(feature = "tls")]
mod tls_files;
mod turn_buffers;
