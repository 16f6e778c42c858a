//! What a case runs against: a broker that can be dialled, and what it can do.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_lite::future::block_on;
use hrotti::Broker;
use url::Url;

use crate::bridge::{self, Dial};
use crate::client::Dialling;
use crate::codec::Version;
use crate::rumqtt::RumqttcOptions;
use crate::wire::{TcpWire, Wire, WsWire};

/// How a broker is reached.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// MQTT directly over TCP; also the near end of the byte bridge.
    Tcp(SocketAddr),
    /// MQTT over WebSockets.
    Ws(Url),
}

impl Endpoint {
    /// Reads `tcp://host:port` or `ws://host:port/path`.
    ///
    /// # Errors
    /// Another scheme, or a host that does not resolve.
    pub fn parse(url: &str) -> io::Result<Endpoint> {
        let url = Url::parse(url).map_err(io::Error::other)?;
        match url.scheme() {
            "tcp" => {
                let found = url.socket_addrs(|| Some(1883))?;
                let first = found.first().copied();
                first.map(Endpoint::Tcp).ok_or_else(|| io::Error::other("no address"))
            }
            "ws" => Ok(Endpoint::Ws(url)),
            other => Err(io::Error::other(format!("no endpoint has the scheme {other}"))),
        }
    }

    /// A transport that only its author can dial, reached through a byte bridge on loopback.
    ///
    /// # Errors
    /// Those of binding a loopback port.
    pub fn bridged(dial: Dial) -> io::Result<Endpoint> {
        bridge::open(dial).map(Endpoint::Tcp)
    }
}

/// What a broker offers where the standard lets it choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Says DISCONNECT with a reason before it closes a version 5 connection for a fault.
    pub server_disconnect: bool,
    /// Sends topic aliases of its own when the client allows them.
    pub outgoing_aliases: bool,
    /// Gives nothing to a shared subscription's member that is away while another is connected.
    pub away_members_passed_over: bool,
}

impl Capabilities {
    /// Everything: what the suite demands of hrotti.
    #[must_use]
    pub fn all() -> Capabilities {
        Capabilities {
            server_disconnect: true,
            outgoing_aliases: true,
            away_members_passed_over: true,
        }
    }

    /// Nothing that the standard leaves to the server.
    #[must_use]
    pub fn least() -> Capabilities {
        Capabilities {
            server_disconnect: false,
            outgoing_aliases: false,
            away_members_passed_over: false,
        }
    }
}

/// A running broker of any make.
pub trait Target {
    /// How to dial it.
    fn endpoint(&self) -> Endpoint;

    /// What it can do.
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }
}

/// A transport under test: how it is bound in a broker of this process.
pub trait Fixture {
    /// Adds a fresh listener of this transport to `broker` and says how to dial it.
    ///
    /// # Errors
    /// Whatever keeps the transport from listening.
    fn bind(broker: &Broker) -> io::Result<Endpoint>;
}

/// The transport `tcp://`.
#[derive(Debug)]
pub struct Tcp;

/// The transport `ws://`.
#[derive(Debug)]
pub struct Ws;

fn listen(broker: &Broker, url: &str) -> io::Result<Endpoint> {
    let config =
        hrotti::ListenerConfig::new(url).map_err(|e| io::Error::other(format!("{e:?}")))?;
    let bound = block_on(broker.add_listener("case", config))
        .map_err(|e| io::Error::other(format!("{e:?}")))?;
    Endpoint::parse(&bound)
}

impl Fixture for Tcp {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        listen(broker, "tcp://127.0.0.1:0")
    }
}

impl Fixture for Ws {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        listen(broker, "ws://127.0.0.1:0")
    }
}

/// The server as a case sees it: no address, no port, no scheme, and names of the case's own.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    capabilities: Capabilities,
    prefix: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// Looks at a target with a fresh prefix for topics and Client Identifiers, so that cases share one
    /// broker undisturbed.
    pub fn new(target: &dyn Target) -> Server {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = now.subsec_nanos() & 0xF_FFFF;
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Server {
            endpoint: target.endpoint(),
            capabilities: target.capabilities(),
            prefix: format!("c{run:x}x{n:x}"),
        }
    }

    /// What the server can do.
    #[must_use]
    pub fn can(&self) -> Capabilities {
        self.capabilities
    }

    /// What this case's topics and Client Identifiers begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A bare stream: for bytes that no client would send.
    ///
    /// # Errors
    /// Those of dialling.
    pub fn dial(&self) -> io::Result<Box<dyn Wire>> {
        Ok(match &self.endpoint {
            Endpoint::Tcp(address) => Box::new(TcpWire::new(TcpStream::connect(address)?)?),
            Endpoint::Ws(url) => Box::new(WsWire::dial(url)?),
        })
    }

    /// The URL of a server that is reached over WebSockets.
    #[must_use]
    pub fn ws_url(&self) -> Option<&Url> {
        match &self.endpoint {
            Endpoint::Ws(url) => Some(url),
            Endpoint::Tcp(_) => None,
        }
    }

    /// A client of this version. Clean Start and no keep alive until told otherwise.
    pub fn client(&self, version: Version, id: &str) -> Dialling<'_> {
        Dialling::new(self, version, id)
    }

    /// A client of MQTT 5.0.
    pub fn v5(&self, id: &str) -> Dialling<'_> {
        self.client(Version::V5, id)
    }

    /// A client of MQTT 3.1.1.
    pub fn v311(&self, id: &str) -> Dialling<'_> {
        self.client(Version::V311, id)
    }

    /// A client of MQTT 3.1.
    pub fn v31(&self, id: &str) -> Dialling<'_> {
        self.client(Version::V31, id)
    }

    /// rumqttc, with this version (3.1.1 or 5.0).
    pub fn rumqttc(&self, version: Version, id: &str) -> RumqttcOptions {
        RumqttcOptions::new(&self.endpoint, &self.prefix, version, id)
    }
}

/// Puts a case's prefix into a Topic Name or Topic Filter, behind `$share/NAME/` or a leading `$` level.
#[must_use]
pub fn prefixed(prefix: &str, topic: &str) -> String {
    let mut levels = topic.splitn(3, '/');
    if topic.starts_with("$share/") {
        let name = levels.nth(1).unwrap_or_default();
        return format!("$share/{name}/{}", prefixed(prefix, levels.next().unwrap_or_default()));
    }
    match topic.split_once('/') {
        Some((first, rest)) if first.starts_with('$') => format!("{first}/{prefix}/{rest}"),
        _ => format!("{prefix}/{topic}"),
    }
}
