//! The address of a listener: a URL that was checked, and the origins of pages that may connect.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use url::{Host, ParseError, Url};

mod error;
mod hosts;
mod socket_file;
mod tls;

pub use error::ListenerConfigError;
pub(crate) use hosts::{same_address, unusable};
pub use socket_file::SocketFile;
pub use tls::TlsConfig;

use crate::listener_rules::ListenerRules;
use crate::transport::tcp::{EVERY_INTERFACE, address, unbracketed};

/// The schemes that are served at a host. `mqtt` is another name of `tcp`, and `tls` of `mqtts`.
const HOST_SCHEMES: [&str; 6] = ["tcp", "mqtt", "mqtts", "tls", "ws", "wss"];

/// The scheme that is served at a file.
const FILE_SCHEME: &str = "unix";

/// The URL of a listener and its options.
///
/// | URL | default port | serves |
/// |---|---|---|
/// | `tcp://HOST[:PORT]`, `mqtt://HOST[:PORT]` | 1883 | MQTT over TCP |
/// | `mqtts://HOST[:PORT]`, `tls://HOST[:PORT]` | 8883 | MQTT over TLS; needs [`ListenerConfig::tls`] |
/// | `ws://HOST[:PORT][/PATH]` | 80 | MQTT over WebSocket |
/// | `wss://HOST[:PORT][/PATH]` | 443 | MQTT over WebSocket over TLS; needs [`ListenerConfig::tls`] |
/// | `unix:///PATH`, `unix:PATH` | | MQTT over a Unix socket, on Unix; see [`ListenerConfig::socket`] |
///
/// Port 0 lets the operating system choose. A WebSocket listener serves exactly one path, `/` if the URL has none.
/// The path of a Unix socket is percent-decoded; without `//` it is relative to the working directory.
///
/// The host is one of:
///
/// - an address, such as `127.0.0.1` or `[::1]`. `0.0.0.0` is every IPv4 interface and `[::]` is every IPv6
///   interface; the two may share a port.
/// - `*`, or nothing (`tcp://:1883`): every interface of both families, at the same port. On a machine with only
///   one family, every interface of that family.
/// - a name: every address that the name has on this machine, at the same port. International names are
///   looked up in their ASCII form (`tcp://müller.example` as `xn--mller-kva.example`).
///
/// A link-local address (`fe80::…`) needs the name or number of its interface: `tcp://[fe80::1%25eth0]` or
/// `tcp://[fe80::1%eth0]`.
///
/// ```
/// use hrotti::ListenerConfig;
///
/// let config = ListenerConfig::new("ws://127.0.0.1:2000/mqtt")?;
/// assert_eq!((config.host(), config.port(), config.path()), ("127.0.0.1", 2000, "/mqtt"));
/// # Ok::<(), hrotti::ListenerConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// The URL to listen on. [`ListenerConfig::new`] replaces an empty host by `*`, because not every [`Url`] can
    /// have an empty host, and a host name by its ASCII form.
    pub url: Url,
    /// The origins of pages that may connect over WebSocket, each written as browsers send it in `Origin`
    /// (`https://example.org`). Empty, the default, allows pages of any origin. Always empty for other listeners.
    pub origins: Vec<String>,
    /// What the listener asks of its peers. The default asks nothing.
    pub rules: ListenerRules,
    /// The certificate of a TLS listener, and what it demands of its Clients. Always `None` for other listeners. A TLS
    /// listener without it can be bound by [`ListenerConfig::bind_with_tls`] only.
    pub tls: Option<TlsConfig>,
    /// Who may connect to a Unix socket. Always the default for other listeners.
    pub socket: SocketFile,
    /// The host with its zone, `fe80::1%eth0`, which no [`Url`] can hold. Valid while `url` has that host.
    scoped: Option<String>,
}

impl ListenerConfig {
    /// Parses a URL. The scheme is kept as written, `mqtt` included.
    ///
    /// ```
    /// use hrotti::ListenerConfig;
    ///
    /// let everywhere = ListenerConfig::new("mqtt://:1883")?;
    /// assert_eq!((everywhere.host(), everywhere.port()), ("*", 1883));
    /// # Ok::<(), hrotti::ListenerConfigError>(())
    /// ```
    ///
    /// # Errors
    /// The text is no URL that a listener can serve: it is no URL, has a scheme that is not served, lacks `//`, or has
    /// user information, a query, a fragment, a path without WebSocket, or a host with `unix`. The error names the
    /// remedy.
    pub fn new(url: &str) -> Result<ListenerConfig, ListenerConfigError> {
        let parsed = rewritten(url).and_then(|(text, zone)| Ok((Url::parse(&text)?, zone)));
        let (parsed, zone) = parsed.map_err(|error| ListenerConfigError::NotAUrl {
            value: url.to_owned(),
            reason: error.to_string(),
        })?;
        let scoped = zone.map(|zone| format!("{}%{zone}", host_of(&parsed)));
        let secret = parsed.password().is_some() || url.contains(char::is_control);
        let value = if secret { shown(&parsed) } else { url.to_owned() };
        let config = ListenerConfig {
            url: parsed,
            origins: Vec::new(),
            rules: ListenerRules::default(),
            tls: None,
            socket: SocketFile::default(),
            scoped,
        };
        config.check_url(&value)?;
        Ok(config)
    }

    /// Restricts a WebSocket listener to pages of these origins; requests from pages of other origins are answered
    /// 403. Requests without `Origin` do not come from a page in a browser and are accepted. An empty list allows
    /// pages of any origin.
    ///
    /// # Errors
    /// An origin is not written as browsers send it, or the listener is not a WebSocket listener.
    pub fn with_origins(
        mut self,
        origins: impl IntoIterator<Item = String>,
    ) -> Result<ListenerConfig, ListenerConfigError> {
        self.origins = origins.into_iter().collect();
        self.check_url(&self.to_string())?;
        self.check_origins()?;
        Ok(self)
    }

    /// Replaces the rules for peers.
    #[must_use]
    pub fn with_rules(mut self, rules: ListenerRules) -> ListenerConfig {
        self.rules = rules;
        self
    }

    /// Gives a TLS listener its certificate.
    ///
    /// # Errors
    /// The listener is not a TLS listener, or the settings contradict each other.
    pub fn with_tls(mut self, tls: TlsConfig) -> Result<ListenerConfig, ListenerConfigError> {
        self.tls = Some(tls);
        self.check_url(&self.to_string())?;
        self.check_tls()?;
        Ok(self)
    }

    /// Checks the whole value again, because its public fields may have been changed. A TLS listener needs its
    /// certificate by now.
    ///
    /// ```
    /// use hrotti::ListenerConfig;
    ///
    /// let error = ListenerConfig::new("mqtts://0.0.0.0")?.validate().unwrap_err().to_string();
    /// assert!(error.contains("needs a certificate"));
    /// # Ok::<(), hrotti::ListenerConfigError>(())
    /// ```
    ///
    /// # Errors
    /// As [`ListenerConfig::new`], [`ListenerConfig::with_origins`] and [`ListenerConfig::with_tls`]; a TLS listener
    /// without a certificate; a [`ListenerConfig::socket`] that is not valid, or not of a Unix socket.
    pub fn validate(&self) -> Result<(), ListenerConfigError> {
        self.validate_without_tls()?;
        match self.tls {
            None if self.is_tls() => {
                Err(ListenerConfigError::TlsMissing { value: self.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// As [`ListenerConfig::validate`], for a listener whose certificate comes from elsewhere.
    pub(crate) fn validate_without_tls(&self) -> Result<(), ListenerConfigError> {
        self.check_url(&self.to_string())?;
        self.check_origins()?;
        self.check_tls()?;
        self.check_rules()?;
        self.check_socket()
    }

    /// Refuses rules that would have no effect, or that would let nobody in.
    fn check_rules(&self) -> Result<(), ListenerConfigError> {
        let rules = &self.rules;
        let networks = rules.networks_allowed.is_some() || !rules.networks_denied.is_empty();
        let (rule, needs) = if !rules.forwarded_for.is_empty() && !self.is_websocket() {
            ("forwardedFor", "a ws:// or wss:// listener")
        } else if rules.proxy_protocol.is_some() && self.is_unix() {
            ("proxyProtocol", "a listener whose peers have network addresses")
        } else if networks && self.is_unix() {
            ("networksAllowed or networksDenied", "a listener whose peers have network addresses")
        } else {
            return Ok(());
        };
        Err(ListenerConfigError::Rule { value: self.to_string(), rule, needs })
    }

    /// Checks the URL; `value` is the URL as errors name it.
    fn check_url(&self, value: &str) -> Result<(), ListenerConfigError> {
        let (url, value) = (&self.url, value.to_owned());
        if self.is_unix() {
            return self.check_path(value);
        }
        if !HOST_SCHEMES.contains(&url.scheme()) {
            return Err(ListenerConfigError::Scheme { value });
        }
        if !url.has_authority() {
            return Err(ListenerConfigError::NoHost { value });
        }
        let part = if !self.is_websocket() && !matches!(url.path(), "" | "/") {
            Some("a path")
        } else {
            None
        };
        let part = match (link_local(host_of(url)), self.zone()) {
            (true, None) => return Err(ListenerConfigError::NoInterface { value }),
            (false, Some(_)) => Some("an interface"),
            _ => self.unused_part().or(part),
        };
        match part {
            Some(part) => Err(ListenerConfigError::Part { value, part, remedy: self.plain() }),
            None => Ok(()),
        }
    }

    /// Checks the URL of a Unix socket.
    fn check_path(&self, value: String) -> Result<(), ListenerConfigError> {
        let host = self.url.host_str().is_some_and(|host| !host.is_empty());
        let part = self.unused_part().or(host.then_some("a host"));
        let remedy = self.plain();
        let has_path = |url: &Url| socket_file::path_of(url).is_some();
        match part {
            _ if !Url::parse(&remedy).is_ok_and(|url| has_path(&url)) => {
                Err(ListenerConfigError::NoPath { value })
            }
            Some(part) => Err(ListenerConfigError::Part { value, part, remedy }),
            None => Ok(()),
        }
    }

    /// A part of the URL that no listener uses.
    fn unused_part(&self) -> Option<&'static str> {
        let url = &self.url;
        if !url.username().is_empty() || url.password().is_some() {
            Some("user information")
        } else if url.query().is_some() {
            Some("a query")
        } else if url.fragment().is_some() {
            Some("a fragment")
        } else {
            None
        }
    }

    fn check_origins(&self) -> Result<(), ListenerConfigError> {
        if !self.is_websocket() && !self.origins.is_empty() {
            return Err(ListenerConfigError::OriginsOnTcp { value: self.to_string() });
        }
        self.origins.iter().try_for_each(|origin| check_origin(origin))
    }

    fn check_tls(&self) -> Result<(), ListenerConfigError> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let value = self.to_string();
        if !self.is_tls() {
            let scheme = if self.is_websocket() { "wss" } else { "mqtts" };
            return Err(ListenerConfigError::TlsOnPlain { value, scheme });
        }
        match tls.contradiction() {
            Some(problem) => Err(ListenerConfigError::Tls { value, problem }),
            None => Ok(()),
        }
    }

    fn check_socket(&self) -> Result<(), ListenerConfigError> {
        let value = self.to_string();
        if !self.is_unix() && !self.socket.is_default() {
            return Err(ListenerConfigError::SocketOnTcp { value });
        }
        match self.socket.fault() {
            Some(problem) => Err(ListenerConfigError::Socket { value, problem }),
            None => Ok(()),
        }
    }

    /// Whether this is a WebSocket listener.
    pub fn is_websocket(&self) -> bool {
        matches!(self.url.scheme(), "ws" | "wss")
    }

    /// Whether this is a TLS listener, with or without WebSocket.
    pub fn is_tls(&self) -> bool {
        matches!(self.url.scheme(), "mqtts" | "tls" | "wss")
    }

    /// Whether the host is a loopback address or the name `localhost`, so that only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        match host.split('%').next().unwrap_or(host).parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Whether this is a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.url.scheme() == FILE_SCHEME
    }

    /// The file of a Unix socket; `None` for other listeners.
    ///
    /// ```
    /// use hrotti::ListenerConfig;
    ///
    /// let listener = ListenerConfig::new("unix:///run/my%20broker.sock")?;
    /// assert_eq!(listener.socket_path(), Some("/run/my broker.sock".into()));
    /// # Ok::<(), hrotti::ListenerConfigError>(())
    /// ```
    pub fn socket_path(&self) -> Option<PathBuf> {
        if self.is_unix() { socket_file::path_of(&self.url) } else { None }
    }

    /// The host to bind: an address without brackets, followed by `%` and the interface if it is link-local; a
    /// name; or `*` for every interface of both families. Empty for a Unix socket.
    pub fn host(&self) -> &str {
        if self.is_unix() {
            return "";
        }
        match (self.scoped(), host_of(&self.url)) {
            (Some(scoped), _) => scoped,
            (None, "") => EVERY_INTERFACE,
            (None, host) => host,
        }
    }

    fn scoped(&self) -> Option<&str> {
        let (address, _) = self.scoped.as_deref()?.split_once('%')?;
        self.scoped.as_deref().filter(|_| address == host_of(&self.url))
    }

    /// The interface that the host's address belongs to.
    fn zone(&self) -> Option<&str> {
        self.scoped()?.split_once('%').map(|(_, zone)| zone)
    }

    /// The host as written in a URL.
    fn written_host(&self) -> String {
        match self.scoped().and_then(|scoped| scoped.split_once('%')) {
            Some((address, zone)) => format!("[{address}%25{zone}]"),
            None => self.url.host_str().unwrap_or_default().to_owned(),
        }
    }

    /// The URL with nothing but what a listener uses.
    fn plain(&self) -> String {
        if self.is_unix() {
            let path = self.url.path();
            return match (self.url.has_authority(), self.url.host_str()) {
                (true, Some(host)) if !host.is_empty() => format!("{FILE_SCHEME}:///{host}{path}"),
                (true, _) => format!("{FILE_SCHEME}://{path}"),
                (false, _) => format!("{FILE_SCHEME}:{path}"),
            };
        }
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = if self.is_websocket() { self.url.path() } else { "" };
        let host = match link_local(host_of(&self.url)) {
            true => self.written_host(),
            false => self.url.host_str().unwrap_or_default().to_owned(),
        };
        format!("{}://{host}{port}{path}", self.url.scheme())
    }

    /// The port to bind: that of the URL, or 1883 for tcp, 8883 for mqtts, 80 for ws and 443 for wss. 0 lets the
    /// operating system choose. Always 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        let default = match self.url.scheme() {
            FILE_SCHEME => return 0,
            "ws" => 80,
            "wss" => 443,
            "mqtts" | "tls" => 8883,
            _ => 1883,
        };
        self.url.port().unwrap_or(default)
    }

    /// The path that a WebSocket listener serves: that of the URL, or `/`. Always `/` for other listeners.
    pub fn path(&self) -> &str {
        match self.url.path() {
            path if self.is_websocket() && !path.is_empty() => path,
            _ => "/",
        }
    }

    /// Whether binding both can be seen to fail without a name being looked up: at one port, one host twice,
    /// or an interface and every interface.
    pub(crate) fn clashes_with(&self, other: &ListenerConfig) -> bool {
        if self.is_unix() || other.is_unix() {
            return self.is_unix() && self.socket_path() == other.socket_path();
        }
        if self.port() != other.port() || self.port() == 0 {
            return false;
        }
        let hosts = (self.host(), other.host());
        match (address(hosts.0), address(hosts.1)) {
            (Some(one), Some(two)) => exclude_each_other(one, two),
            _ => {
                hosts.0 == EVERY_INTERFACE
                    || hosts.1 == EVERY_INTERFACE
                    || hosts.0.eq_ignore_ascii_case(hosts.1)
            }
        }
    }
}

/// The URL, with the interface of a link-local address: [`ListenerConfig::new`] reads it back. A password is left
/// out.
impl fmt::Display for ListenerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = shown(&self.url);
        match self.zone() {
            Some(_) => {
                let bracketed = self.url.host_str().unwrap_or_default();
                f.write_str(&url.replacen(bracketed, &self.written_host(), 1))
            }
            None => f.write_str(&url),
        }
    }
}

/// The host of a URL, an IPv6 address without its brackets.
fn host_of(url: &Url) -> &str {
    unbracketed(url.host_str().unwrap_or_default())
}

/// Whether a host is an IPv6 address that means nothing without an interface: every link has the same ones.
fn link_local(host: &str) -> bool {
    matches!(address(host), Some(IpAddr::V6(address)) if address.is_unicast_link_local())
}

/// Whether two sockets cannot listen at these addresses at one port. The families do not meet: an IPv6 socket
/// takes IPv6 alone.
fn exclude_each_other(one: IpAddr, two: IpAddr) -> bool {
    let same_family = one.is_ipv4() == two.is_ipv4();
    one == two || same_family && (one.is_unspecified() || two.is_unspecified())
}

/// The URL in a form that `Url` parses for every served scheme: `*` for an empty host, and a host name in its ASCII
/// form. `Url` itself converts host names of `ws` and `wss` only.
/// The zone of an address, which `Url` does not accept, is returned apart.
fn rewritten(text: &str) -> Result<(String, Option<String>), ParseError> {
    let text = text.trim_matches(|letter| letter <= ' ');
    // `Url` passes over these, and would read another host than is read here.
    if text.contains(['\t', '\n', '\r']) {
        return Err(ParseError::InvalidDomainCharacter);
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Ok((text.to_owned(), None)) };
    if !HOST_SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Ok((text.to_owned(), None));
    }
    // `Url` takes it for `/` in some schemes and for a part of the host in others.
    if rest.contains('\\') {
        return Err(ParseError::InvalidDomainCharacter);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, place) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let colon = place.rfind(':').filter(|&colon| !place[colon..].contains(']'));
    let (host, port) = place.split_at(colon.unwrap_or(place.len()));
    let (host, zone) = match zoned(host) {
        Some((address, zone)) => (Host::<String>::Ipv6(address).to_string(), Some(zone?)),
        None if host.is_empty() => (EVERY_INTERFACE.to_owned(), None),
        None => (Host::parse(host)?.to_string(), None),
    };
    Ok((format!("{scheme}://{user}{host}{port}{path}"), zone))
}

/// The address and the zone of a host in brackets that has a zone: behind `%25` as in RFC 6874, or behind `%` as
/// most programs write it.
fn zoned(host: &str) -> Option<(Ipv6Addr, Result<String, ParseError>)> {
    let (address, zone) = host.strip_prefix('[')?.strip_suffix(']')?.split_once('%')?;
    let zone = zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone);
    let named = !zone.is_empty() && zone.bytes().all(is_of_a_zone);
    let zone = named.then(|| zone.to_owned()).ok_or(ParseError::InvalidIpv6Address);
    Some((address.parse().ok()?, zone))
}

/// Whether names of interfaces may have this byte.
fn is_of_a_zone(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._~-:".contains(&byte)
}

/// An origin as RFC 6454 has it, or `null`.
fn check_origin(origin: &str) -> Result<(), ListenerConfigError> {
    if origin == "null" {
        return Ok(());
    }
    let remedy = Url::parse(origin)
        .ok()
        .filter(Url::has_host)
        .map(|url| url.origin().ascii_serialization())
        .filter(|origin| origin != "null");
    if remedy.as_deref() == Some(origin) {
        return Ok(());
    }
    Err(ListenerConfigError::Origin { value: origin.to_owned(), remedy })
}

/// A URL for errors and logs, without its password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // Fails only for a URL that cannot have a password.
        let _ = url.set_password(Some("..."));
    }
    url.to_string()
}

#[cfg(test)]
mod tests;
