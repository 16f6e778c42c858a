//! The broker under test: where it listens and which process it is.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::process::{CpuSample, Memory};
use crate::tls;

/// What carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    /// WebSocket, at the path `/`.
    Ws,
    /// TLS over tcp.
    Tls,
    /// WebSocket over TLS, at the path `/`.
    Wss,
}

impl Transport {
    pub(crate) const ALL: [Self; 4] = [Self::Tcp, Self::Ws, Self::Tls, Self::Wss];

    /// The scheme of its URLs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Tls => "mqtts",
            Self::Wss => "wss",
        }
    }

    /// The transport with this scheme.
    pub(crate) fn named(scheme: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|transport| transport.name() == scheme)
    }

    /// What reports say behind a load: nothing of tcp.
    pub(crate) fn over(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Ws => " over WebSocket",
            Self::Tls => " over TLS",
            Self::Wss => " over WebSocket and TLS",
        }
    }

    pub(crate) fn is_ws(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    /// Without it CPU and memory are not measured.
    pub(crate) pid: Option<u32>,
    /// What clients offer where the transport has TLS.
    pub(crate) tls: tls::Version,
}

impl Target {
    /// # Errors
    ///
    /// When the URL is not `SCHEME://HOST[:PORT]` with the scheme of a [`Transport`], or the host is
    /// unknown.
    pub(crate) fn new(url: &str, pid: Option<u32>) -> io::Result<Self> {
        let wrong = |why: &str| io::Error::other(format!("broker URL {url:?}: {why}"));
        let parts = url.split_once("://");
        let known = parts.and_then(|(scheme, place)| Some((Transport::named(scheme)?, place)));
        let Some((transport, place)) = known else {
            return Err(wrong("only tcp://, ws://, mqtts:// and wss:// are supported"));
        };
        let port = match transport {
            Transport::Tcp => 1883,
            Transport::Ws => 80,
            Transport::Tls => 8883,
            Transport::Wss => 443,
        };
        let place = place.trim_end_matches('/');
        let has_port = place.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
        let with_port = if has_port && !place.ends_with(']') {
            place.to_owned()
        } else {
            format!("{place}:{port}")
        };
        let mut addresses = with_port.to_socket_addrs().map_err(|why| wrong(&why.to_string()))?;
        let address = addresses.next().ok_or_else(|| wrong("the host has no address"))?;
        Ok(Self { pid, ..Self::at(transport, address) })
    }

    /// There, not measured, with the default version of TLS.
    pub(crate) fn at(transport: Transport, address: SocketAddr) -> Self {
        Self { transport, address, pid: None, tls: tls::Version::default() }
    }

    /// That this is a target for a load over `wanted`: one over tcp goes
    /// over whatever the URL says.
    ///
    /// # Errors
    ///
    /// When it is not; the message says which URL the load needs.
    pub(crate) fn check(&self, wanted: Transport) -> io::Result<()> {
        if wanted == Transport::Tcp || wanted == self.transport {
            return Ok(());
        }
        Err(io::Error::other(format!("this load needs a {}:// URL of the broker", wanted.name())))
    }

    /// CPU so far; `None` without a pid.
    pub(crate) fn cpu(&self) -> io::Result<Option<CpuSample>> {
        self.pid.map(CpuSample::take).transpose()
    }

    /// Memory now; `None` without a pid.
    pub(crate) fn memory(&self) -> io::Result<Option<Memory>> {
        self.pid.map(Memory::take).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_and_without_a_port() {
        let address = |url| Target::new(url, None).unwrap().address.to_string();
        assert_eq!(address("tcp://127.0.0.1:99"), "127.0.0.1:99");
        assert_eq!(address("tcp://127.0.0.1/"), "127.0.0.1:1883");
        assert_eq!(address("tcp://[::1]"), "[::1]:1883");
        assert_eq!(address("tcp://[::1]:7"), "[::1]:7");
        assert_eq!(address("mqtts://127.0.0.1"), "127.0.0.1:8883");
        assert_eq!(address("wss://127.0.0.1/"), "127.0.0.1:443");
        assert!(Target::new("http://127.0.0.1", None).is_err());
    }
}
