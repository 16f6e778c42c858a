//! The address of a listener: a URL that was checked, and the origins of pages that may connect.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use url::{Host, ParseError, Url};

mod hosts;

pub(crate) use hosts::{same_address, unusable};

use crate::listener_rules::ListenerRules;
use crate::transport::tcp::{EVERY_INTERFACE, address, unbracketed};

/// The schemes that are served. `mqtt` is another name of `tcp`.
const SCHEMES: [&str; 3] = ["tcp", "mqtt", "ws"];

/// The URL of a listener and its options.
///
/// The URL is `tcp://HOST[:PORT]` (default port 1883) or `ws://HOST[:PORT][/PATH]` (default port 80); `mqtt://` is
/// an alias of `tcp://`. Port 0 lets the operating system choose. A WebSocket listener serves exactly one path, `/`
/// if the URL has none.
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
    /// (`https://example.org`). Empty, the default, allows pages of any origin. Always empty for a tcp listener.
    pub origins: Vec<String>,
    /// What the listener asks of its peers. The default asks nothing.
    pub rules: ListenerRules,
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
    /// The text is no URL that a listener can serve: it is no URL, has a scheme other than `tcp`, `mqtt` and `ws`,
    /// lacks `//`, or has user information, a query, a fragment, or a path with tcp. The error names the remedy.
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
            scoped,
        };
        config.check(&value)?;
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
        self.validate()?;
        Ok(self)
    }

    /// Replaces the rules for peers.
    #[must_use]
    pub fn with_rules(mut self, rules: ListenerRules) -> ListenerConfig {
        self.rules = rules;
        self
    }

    /// Checks the whole value again, because its public fields may have been changed.
    ///
    /// # Errors
    /// As [`ListenerConfig::new`] and [`ListenerConfig::with_origins`].
    pub fn validate(&self) -> Result<(), ListenerConfigError> {
        self.check(&self.to_string())
    }

    /// As [`ListenerConfig::validate`]; `value` is the URL as errors name it.
    fn check(&self, value: &str) -> Result<(), ListenerConfigError> {
        let (url, value) = (&self.url, value.to_owned());
        if !SCHEMES.contains(&url.scheme()) {
            return Err(ListenerConfigError::Scheme { value });
        }
        if !url.has_authority() {
            return Err(ListenerConfigError::NoHost { value });
        }
        let tcp = !self.is_websocket();
        let part = if !url.username().is_empty() || url.password().is_some() {
            Some("user information")
        } else if url.query().is_some() {
            Some("a query")
        } else if url.fragment().is_some() {
            Some("a fragment")
        } else if tcp && !matches!(url.path(), "" | "/") {
            Some("a path")
        } else {
            None
        };
        let part = match (link_local(host_of(url)), self.zone()) {
            (true, None) => return Err(ListenerConfigError::NoInterface { value }),
            (false, Some(_)) => Some("an interface"),
            _ => part,
        };
        if let Some(part) = part {
            return Err(ListenerConfigError::Part { value, part, remedy: self.plain() });
        }
        if tcp && !self.origins.is_empty() {
            return Err(ListenerConfigError::OriginsOnTcp { value });
        }
        self.origins.iter().try_for_each(|origin| check_origin(origin))
    }

    /// Whether this is a WebSocket listener.
    pub fn is_websocket(&self) -> bool {
        self.url.scheme() == "ws"
    }

    /// The host to bind: an address without brackets, followed by `%` and the interface if it is link-local; a
    /// name; or `*` for every interface of both families.
    pub fn host(&self) -> &str {
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
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = if self.is_websocket() { self.url.path() } else { "" };
        let host = match link_local(host_of(&self.url)) {
            true => self.written_host(),
            false => self.url.host_str().unwrap_or_default().to_owned(),
        };
        format!("{}://{host}{port}{path}", self.url.scheme())
    }

    /// The port to bind: that of the URL, or 1883 for tcp and 80 for ws. 0 lets the operating system choose.
    pub fn port(&self) -> u16 {
        self.url.port().unwrap_or(if self.is_websocket() { 80 } else { 1883 })
    }

    /// The path that a WebSocket listener serves: that of the URL, or `/`.
    pub fn path(&self) -> &str {
        match self.url.path() {
            "" => "/",
            path => path,
        }
    }

    /// Whether binding both can be seen to fail without a name being looked up: at one port, one host twice,
    /// or an interface and every interface.
    pub(crate) fn clashes_with(&self, other: &ListenerConfig) -> bool {
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
/// form. `Url` itself converts host names of `ws` only.
/// The zone of an address, which `Url` does not accept, is returned apart.
fn rewritten(text: &str) -> Result<(String, Option<String>), ParseError> {
    let text = text.trim_matches(|letter| letter <= ' ');
    // `Url` passes over these, and would read another host than is read here.
    if text.contains(['\t', '\n', '\r']) {
        return Err(ParseError::InvalidDomainCharacter);
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Ok((text.to_owned(), None)) };
    if !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Ok((text.to_owned(), None));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
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

/// Why a [`ListenerConfig`] cannot be used. The text names the value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerConfigError {
    /// The text is no URL.
    NotAUrl {
        /// The text.
        value: String,
        /// The error of the URL parser.
        reason: String,
    },
    /// The scheme is none of `tcp`, `mqtt` and `ws`.
    Scheme {
        /// The URL.
        value: String,
    },
    /// The URL has no host: `//` is missing.
    NoHost {
        /// The URL.
        value: String,
    },
    /// The URL has a part that a listener of its scheme does not use.
    Part {
        /// The URL, without its password.
        value: String,
        /// The part that is not used.
        part: &'static str,
        /// The URL without this part.
        remedy: String,
    },
    /// An origin is not written as browsers send it.
    Origin {
        /// The text.
        value: String,
        /// The origin as browsers send it, if the text has one.
        remedy: Option<String>,
    },
    /// A tcp listener was given origins.
    OriginsOnTcp {
        /// The URL.
        value: String,
    },
    /// The address is link-local, and the URL does not name its interface.
    NoInterface {
        /// The URL.
        value: String,
    },
}

impl fmt::Display for ListenerConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerConfigError::NotAUrl { value, reason } => write!(
                f,
                "{value:?} is no URL ({reason}); write tcp://HOST:PORT or ws://HOST:PORT/PATH, for example \
                 tcp://0.0.0.0:1883"
            ),
            ListenerConfigError::Scheme { value } => {
                let scheme = value.split(':').next().unwrap_or_default();
                write!(
                    f,
                    "{value:?} has the unsupported scheme {scheme:?}; {}",
                    instead(value, scheme)
                )
            }
            ListenerConfigError::NoHost { value } => write!(
                f,
                "{value:?} has no host; write // and the address to listen on, for example \
                 tcp://*:1883 for every interface"
            ),
            ListenerConfigError::Part { value, part, remedy } => {
                write!(
                    f,
                    "{value:?} has {part}, which such a listener does not use; write {remedy:?}"
                )
            }
            ListenerConfigError::Origin { value, remedy: Some(remedy) } => {
                write!(f, "{value:?} is not how a browser sends this origin; write {remedy:?}")
            }
            ListenerConfigError::Origin { value, remedy: None } => write!(
                f,
                "{value:?} is no origin; write scheme and host, for example \"https://example.org\""
            ),
            ListenerConfigError::NoInterface { value } => write!(
                f,
                "{value:?} has a link-local address, which needs its interface; write it behind the address, \
                 for example tcp://[fe80::1%eth0]:1883"
            ),
            ListenerConfigError::OriginsOnTcp { value } => write!(
                f,
                "{value:?} has origins, which only browsers send; remove them or make it a ws:// listener"
            ),
        }
    }
}

/// What to write instead of a URL whose scheme is not served.
fn instead(value: &str, scheme: &str) -> String {
    match scheme {
        "http" => "use ws:// for MQTT over WebSocket".to_owned(),
        "wss" | "https" | "mqtts" | "ssl" | "tls" => {
            "TLS is not served; use tcp:// or ws:// behind a proxy that ends TLS".to_owned()
        }
        _ if !value.contains("://") => format!("write tcp://{value}"),
        _ => "use tcp:// or ws://".to_owned(),
    }
}

impl std::error::Error for ListenerConfigError {}

#[cfg(test)]
mod tests;
