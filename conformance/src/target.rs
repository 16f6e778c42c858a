//! What a case runs against: a broker that can be dialled, and what it can do.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_lite::future::block_on;
use hrotti::{Broker, Limits};
use url::Url;

use crate::bridge::{self, Dial};
use crate::client::Dialling;
use crate::codec::{ALL, Version};
use crate::failure::{Failure, Step, skip};
use crate::rumqtt::RumqttcOptions;
use crate::versions::Versions;
use crate::wire::{DEADLINE, TcpWire, Wire, WsWire};

pub use crate::capabilities::Capabilities;

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

    /// Reads a URL as [`Endpoint::parse`] does, and picks the first address of its host that takes a
    /// connection within this time.
    ///
    /// # Errors
    /// Those of [`Endpoint::parse`], and a host of which no address takes a connection.
    pub fn reach(url: &str, within: Duration) -> io::Result<Endpoint> {
        let endpoint = Endpoint::parse(url)?;
        let default = if matches!(endpoint, Endpoint::Tcp(_)) { 1883 } else { 80 };
        let url = Url::parse(url).map_err(io::Error::other)?;
        let mut last = io::Error::other("no address");
        for address in url.socket_addrs(|| Some(default))? {
            match TcpStream::connect_timeout(&address, within) {
                Ok(_) if matches!(endpoint, Endpoint::Tcp(_)) => return Ok(Endpoint::Tcp(address)),
                Ok(_) => return Ok(endpoint),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// A transport that only its author can dial, reached through a byte bridge on loopback.
    ///
    /// # Errors
    /// Those of binding a loopback port.
    pub fn bridged(dial: Dial) -> io::Result<Endpoint> {
        bridge::open(dial).map(Endpoint::Tcp)
    }
}

/// A running broker of any make.
pub trait Target {
    /// How to dial it.
    fn endpoint(&self) -> Endpoint;

    /// How to dial it with this version, for brokers that have a port for each.
    fn endpoint_for(&self, _version: Version) -> Endpoint {
        self.endpoint()
    }

    /// What it can do.
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    /// How long each answer is waited for.
    fn deadline(&self) -> Duration {
        DEADLINE
    }

    /// The broker itself, where it runs in this process.
    fn house(&self) -> Option<House> {
        None
    }
}

/// A broker of this process with a transport under test: what the cases about the host program's side need.
#[derive(Debug, Clone)]
pub struct House {
    broker: Broker,
    bind: fn(&Broker) -> io::Result<Endpoint>,
}

struct InHouse {
    endpoint: Endpoint,
    house: House,
}

impl Target for InHouse {
    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    fn house(&self) -> Option<House> {
        Some(self.house.clone())
    }
}

impl House {
    /// The house of this transport.
    pub fn new<F: Fixture>(broker: &Broker) -> House {
        House { broker: broker.clone(), bind: F::bind }
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Another listener in this broker, by this name.
    ///
    /// # Errors
    /// Whatever keeps it from listening.
    #[track_caller]
    pub(crate) fn listen(&self, name: &str, url: &str) -> Step<Endpoint> {
        let bound = listen(&self.broker, name, url);
        bound.map_err(|e| Failure::new("a listener", e.to_string()))
    }

    /// A fresh listener of the transport in this broker, by the name that the fixture gives it.
    ///
    /// # Errors
    /// Whatever keeps the transport from listening.
    #[track_caller]
    pub fn bind(&self) -> Step<Server> {
        let bound = (self.bind)(&self.broker);
        let endpoint = bound.map_err(|e| Failure::new("a listener", e.to_string()))?;
        Ok(Server::new(&InHouse { endpoint, house: self.clone() }))
    }
}

/// A transport under test: how it is bound in a broker of this process.
pub trait Fixture {
    /// Adds a fresh listener of this transport to `broker` and says how to dial it.
    ///
    /// # Errors
    /// Whatever keeps the transport from listening.
    fn bind(broker: &Broker) -> io::Result<Endpoint>;

    /// The broker of a case: with a queue depth of 100, and a Maximum Packet Size of 16 MiB, so that there is
    /// one.
    fn broker() -> Broker {
        let limits =
            Limits { max_queue_depth: 100, packet_bytes_max: 16 << 20, ..Limits::default() };
        Broker::builder().limits(limits).build()
    }
}

/// The transport `tcp://`.
#[derive(Debug)]
pub struct Tcp;

/// The transport `ws://`.
#[derive(Debug)]
pub struct Ws;

fn listen(broker: &Broker, name: &str, url: &str) -> io::Result<Endpoint> {
    let config =
        hrotti::ListenerConfig::new(url).map_err(|e| io::Error::other(format!("{e:?}")))?;
    let bound = block_on(broker.add_listener(name, config))
        .map_err(|e| io::Error::other(format!("{e:?}")))?;
    Endpoint::parse(&bound)
}

impl Fixture for Tcp {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        listen(broker, "case", "tcp://127.0.0.1:0")
    }
}

impl Fixture for Ws {
    fn bind(broker: &Broker) -> io::Result<Endpoint> {
        listen(broker, "case", "ws://127.0.0.1:0")
    }
}

/// What a case has used of its server so far.
#[derive(Debug, Default)]
struct Seen {
    anything: AtomicBool,
    versions: AtomicU8,
    left_out: AtomicU8,
}

/// The server as a case sees it: no address, no port, no scheme, and names of the case's own.
#[derive(Debug, Clone)]
pub struct Server {
    /// One for each version, oldest first.
    endpoints: [Endpoint; 3],
    capabilities: Capabilities,
    deadline: Duration,
    house: Option<House>,
    prefix: String,
    seen: Arc<Seen>,
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
            endpoints: ALL.map(|version| target.endpoint_for(version)),
            capabilities: target.capabilities(),
            deadline: target.deadline(),
            house: target.house(),
            prefix: format!("c{run:x}x{n:x}"),
            seen: Arc::default(),
        }
    }

    /// The same server, tested with this version alone.
    pub(crate) fn only(mut self, version: Version) -> Server {
        self.capabilities.versions = Versions::NONE.with(version);
        self
    }

    /// What the server can do.
    #[must_use]
    pub fn can(&self) -> Capabilities {
        self.capabilities
    }

    /// How long each answer is waited for.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The broker itself, for what no client can see or bring about.
    ///
    /// # Errors
    /// A skip, where the broker is in another process.
    #[track_caller]
    pub fn house(&self) -> Step<&House> {
        self.seen.anything.store(true, Ordering::Relaxed);
        self.house.as_ref().ok_or_else(|| skip("needs a broker in this process"))
    }

    /// Another way into the same broker, with the names of this one.
    #[must_use]
    pub fn by(&self, endpoint: &Endpoint) -> Server {
        let endpoints = [endpoint.clone(), endpoint.clone(), endpoint.clone()];
        Server { endpoints, ..self.clone() }
    }

    /// Those of `versions` that the server is to be tested with, in the same order. Cases loop over these,
    /// never over a list of their own: so `--versions` leaves out parts of them.
    pub fn spoken(&self, versions: impl IntoIterator<Item = Version>) -> Vec<Version> {
        versions.into_iter().filter(|&version| self.speaks(version)).collect()
    }

    /// Those pairs of which both versions are to be tested.
    pub fn spoken_pairs(
        &self,
        pairs: impl IntoIterator<Item = (Version, Version)>,
    ) -> Vec<(Version, Version)> {
        let both = |pair: &(Version, Version)| self.speaks(pair.0) && self.speaks(pair.1);
        pairs.into_iter().filter(both).collect()
    }

    fn speaks(&self, version: Version) -> bool {
        let speaks = self.capabilities.versions.contains(version);
        if !speaks {
            self.seen.left_out.fetch_or(Versions::NONE.with(version).bits(), Ordering::Relaxed);
        }
        speaks
    }

    /// The versions that streams were opened for so far, and those that were left out.
    pub(crate) fn versions(&self) -> (Versions, Versions) {
        let read = |bits: &AtomicU8| Versions::from_bits(bits.load(Ordering::Relaxed));
        (read(&self.seen.versions), read(&self.seen.left_out))
    }

    /// Whether any stream was asked for: without one, nothing was tested.
    pub(crate) fn was_dialled(&self) -> bool {
        self.seen.anything.load(Ordering::Relaxed)
    }

    /// Where this version is served; notes that it was used.
    pub(crate) fn endpoint(&self, version: Version) -> &Endpoint {
        self.seen.anything.store(true, Ordering::Relaxed);
        self.seen.versions.fetch_or(Versions::NONE.with(version).bits(), Ordering::Relaxed);
        &self.endpoints[usize::from(version.level()) - 3]
    }

    /// A stream for a client of this version.
    #[track_caller]
    pub(crate) fn dial_as(&self, version: Version) -> Step<Box<dyn Wire>> {
        if !self.speaks(version) {
            return Err(skip(format!("needs MQTT {version}, which is left out")));
        }
        let stream = open(self.endpoint(version), self.deadline);
        stream.map_err(|e| Failure::new("a stream", e.to_string()))
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
        open(self.endpoint(self.newest()), self.deadline)
    }

    fn newest(&self) -> Version {
        self.capabilities.versions.iter().next_back().unwrap_or(Version::V5)
    }

    /// A client whose version is not what the case is about: this one, or the newest that is to be tested.
    pub fn helper(&self, version: Version, id: &str) -> Dialling<'_> {
        let spoken = self.capabilities.versions.contains(version);
        self.client(if spoken { version } else { self.newest() }, id)
    }

    /// A stream whose set-up has not even begun: for TCP there is none, a WebSocket still has to be asked
    /// for.
    ///
    /// # Errors
    /// Those of dialling.
    pub fn knock(&self) -> io::Result<TcpStream> {
        match self.endpoint(self.newest()) {
            Endpoint::Tcp(address) => TcpStream::connect(address),
            Endpoint::Ws(url) => {
                let host = url.host_str().unwrap_or("127.0.0.1");
                TcpStream::connect((host, url.port_or_known_default().unwrap_or(80)))
            }
        }
    }

    /// Whether a stream can be ended in one direction and read in the other: a WebSocket cannot.
    pub(crate) fn can_be_half_closed(&self) -> bool {
        self.endpoints.iter().all(|endpoint| matches!(endpoint, Endpoint::Tcp(_)))
    }

    /// The URL of a server that is reached over WebSockets.
    #[must_use]
    pub fn ws_url(&self) -> Option<&Url> {
        // Frames are the same in every version.
        self.capabilities.versions.iter().for_each(|version| {
            self.endpoint(version);
        });
        match self.endpoint(self.newest()) {
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
        RumqttcOptions::new(self, version, id)
    }
}

fn open(endpoint: &Endpoint, within: Duration) -> io::Result<Box<dyn Wire>> {
    Ok(match endpoint {
        Endpoint::Tcp(address) => {
            Box::new(TcpWire::new(TcpStream::connect_timeout(address, within)?)?)
        }
        Endpoint::Ws(url) => Box::new(WsWire::dial(url)?),
    })
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
