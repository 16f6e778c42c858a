//! The address of a listener: a URL that was checked, and the origins of pages that may connect.

use std::fmt;
use std::net::IpAddr;

use url::{Host, ParseError, Url};

mod hosts;

pub(crate) use hosts::{same_address, unusable};

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
        let parsed = rewritten(url).and_then(|text| Url::parse(&text));
        let parsed = parsed.map_err(|error| ListenerConfigError::NotAUrl {
            value: url.to_owned(),
            reason: error.to_string(),
        })?;
        let secret = parsed.password().is_some() || url.contains(char::is_control);
        let value = if secret { shown(&parsed) } else { url.to_owned() };
        let config = ListenerConfig { url: parsed, origins: Vec::new() };
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

    /// Checks the whole value again, because its public fields may have been changed.
    ///
    /// # Errors
    /// As [`ListenerConfig::new`] and [`ListenerConfig::with_origins`].
    pub fn validate(&self) -> Result<(), ListenerConfigError> {
        self.check(&shown(&self.url))
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
        if let Some(part) = part {
            return Err(ListenerConfigError::Part { value, part, remedy: plain(url) });
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

    /// The host to bind: an address without brackets, a name, or `*` for every interface of both families.
    pub fn host(&self) -> &str {
        match unbracketed(self.url.host_str().unwrap_or_default()) {
            "" => EVERY_INTERFACE,
            host => host,
        }
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

/// Whether two sockets cannot listen at these addresses at one port. The families do not meet: an IPv6 socket
/// takes IPv6 alone.
fn exclude_each_other(one: IpAddr, two: IpAddr) -> bool {
    let same_family = one.is_ipv4() == two.is_ipv4();
    one == two || same_family && (one.is_unspecified() || two.is_unspecified())
}

/// The URL in a form that `Url` parses for every served scheme: `*` for an empty host, and a host name in its ASCII
/// form. `Url` itself converts host names of `ws` only.
fn rewritten(text: &str) -> Result<String, ParseError> {
    let text = text.trim_matches(|letter| letter <= ' ');
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(text.to_owned()) };
    if !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Ok(text.to_owned());
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let (user, place) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let colon = place.rfind(':').filter(|&colon| !place[colon..].contains(']'));
    let (host, port) = place.split_at(colon.unwrap_or(place.len()));
    let host = match host {
        "" => EVERY_INTERFACE.to_owned(),
        host => Host::parse(host)?.to_string(),
    };
    Ok(format!("{scheme}://{user}{host}{port}{path}"))
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

/// The URL reduced to the parts that a listener uses.
fn plain(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if url.scheme() == "ws" { url.path() } else { "" };
    format!("{}://{}{port}{path}", url.scheme(), url.host_str().unwrap_or_default())
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
