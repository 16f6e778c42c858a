//! The rooms that read bytes as a crate of their own: the root of the library that `fuzz/` tests. It stands here
//! because their files name one another as `crate::packet` and so on.

#![allow(dead_code, unreachable_pub, reason = "what the shell alone uses")]
#![allow(clippy::enum_variant_names, reason = "what is public in hrotti is private here")]

mod admin_config;
mod budget;
pub mod config;
mod connection;
mod error;
mod ledger;
mod limits;
mod listener_config;
mod listener_rules;
mod message;
mod network;
mod packet;
mod reason_code;
mod retained;
mod session;
mod snapshot;
mod spelling;
mod subscription;
mod sync;
mod time;
mod topic;

/// The settings, without what is made of them.
mod access {
    mod config;

    pub(crate) use config::shown_url;
    pub use config::{AccessConfig, DeniedPublish, FlappingConfig, HttpConfig, JwtConfig};
}

/// Without the rest, which has locks, tasks and a clock.
mod engine {
    pub(crate) mod share;
}

/// Without sockets.
mod transport {
    /// What `listener_config` asks of `transport/tcp/addresses.rs`; no name has an address here.
    pub(crate) mod tcp {
        use std::io;
        use std::net::{IpAddr, SocketAddr};

        pub(crate) const EVERY_INTERFACE: &str = "*";

        pub(crate) fn unbracketed(host: &str) -> &str {
            host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
        }

        pub(crate) fn address(host: &str) -> Option<IpAddr> {
            host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
        }

        pub(crate) fn look_up(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(Vec::new())
        }

        pub(crate) fn lacks(_: SocketAddr) -> Option<io::Error> {
            None
        }
    }

    /// Without handshakes.
    pub(crate) mod tls {
        mod names;
        mod options;
        mod pem;

        pub use options::{CertificateName, ClientCertificate, TlsVersion};

        #[path = "../../../fuzz/src/certificates.rs"]
        pub(crate) mod target;
    }

    /// As in `transport.rs`.
    #[derive(Debug, Default)]
    pub struct CertificateNames {
        pub(crate) common_name: Option<String>,
        pub(crate) subject: String,
        pub(crate) dns: Vec<String>,
        pub(crate) uris: Vec<String>,
        pub(crate) emails: Vec<String>,
        pub(crate) user_name: Option<String>,
    }

    pub(crate) mod proxy_protocol {
        mod header;

        #[path = "../../../fuzz/src/proxy.rs"]
        pub(crate) mod target;
    }

    pub(crate) mod ws {
        pub(crate) mod forwarded;
        mod frame;
        mod stream;
        mod upgrade;

        #[path = "../../../fuzz/src/ws.rs"]
        pub(crate) mod target;
    }
}

/// A runtime without a clock: nothing takes long here.
mod runtime {
    use std::time::Duration;

    pub(crate) async fn timeout<T>(_: Duration, work: impl Future<Output = T>) -> Option<T> {
        Some(work.await)
    }
}

pub use admin_config::AdminConfig;
pub use limits::Limits;
pub use listener_config::ListenerConfig;

#[path = "../fuzz/src/targets.rs"]
pub mod targets;
