//! The broker under test: where it listens and which process it is.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::process::{CpuSample, Memory};

/// What carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    /// WebSocket, at the path `/`.
    Ws,
}

impl Transport {
    /// The scheme of its URLs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    /// Without it CPU and memory are not measured.
    pub(crate) pid: Option<u32>,
}

impl Target {
    /// # Errors
    ///
    /// When the URL is not `tcp://HOST[:PORT]` or `ws://HOST[:PORT]`, or the host is unknown.
    pub(crate) fn new(url: &str, pid: Option<u32>) -> io::Result<Self> {
        let wrong = |why: &str| io::Error::other(format!("broker URL {url:?}: {why}"));
        let (transport, place, port) = match url.split_once("://") {
            Some(("tcp", place)) => (Transport::Tcp, place, 1883),
            Some(("ws", place)) => (Transport::Ws, place, 80),
            _ => return Err(wrong("only tcp:// and ws:// are supported")),
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
        Ok(Self { transport, address, pid })
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
        assert!(Target::new("http://127.0.0.1", None).is_err());
    }
}
