//! Why a listener cannot be configured, with the remedy.

use std::fmt;

/// Why a [`ListenerConfig`](crate::ListenerConfig) cannot be used. The text names the value and the remedy.
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
    /// The scheme is not served.
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
    /// A listener without WebSocket was given origins.
    OriginsOnTcp {
        /// The URL.
        value: String,
    },
    /// A rule that a listener of this kind cannot keep.
    Rule {
        /// The URL.
        value: String,
        /// The rule.
        rule: &'static str,
        /// The listeners that can keep it.
        needs: &'static str,
    },
    /// The address is link-local, and the URL does not name its interface.
    NoInterface {
        /// The URL.
        value: String,
    },
    /// The URL of a Unix socket has no path that a file can have.
    NoPath {
        /// The URL.
        value: String,
    },
    /// A TLS listener has no certificate.
    TlsMissing {
        /// The URL.
        value: String,
    },
    /// A listener without TLS was given a certificate.
    TlsOnPlain {
        /// The URL.
        value: String,
        /// The scheme of the same listener with TLS.
        scheme: &'static str,
    },
    /// The settings of TLS contradict each other.
    Tls {
        /// The URL.
        value: String,
        /// The contradiction and its remedy.
        problem: &'static str,
    },
    /// The mode, owner or group of a Unix socket cannot be.
    Socket {
        /// The URL.
        value: String,
        /// The problem and its remedy.
        problem: String,
    },
    /// A listener that is no Unix socket was given a mode, an owner or a group.
    SocketOnTcp {
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
            ListenerConfigError::NoPath { value } => write!(
                f,
                "{value:?} has no path of a file; write for example unix:///run/hrotti.sock, with % followed by two \
                 hexadecimal digits for letters that no URL has"
            ),
            ListenerConfigError::TlsMissing { value } => write!(
                f,
                "{value:?} needs a certificate; add \"tls\": {{\"certificate\": \"server.pem\", \"key\": \
                 \"server.key\"}}, or write {:?} for a listener without TLS",
                plain(value)
            ),
            ListenerConfigError::TlsOnPlain { value, scheme } => write!(
                f,
                "{value:?} has TLS settings, which a listener without TLS does not use; write {scheme}://, or remove \
                 tls"
            ),
            ListenerConfigError::Tls { value, problem } => write!(f, "{value:?}: {problem}"),
            ListenerConfigError::Socket { value, problem } => write!(f, "{value:?}: {problem}"),
            ListenerConfigError::SocketOnTcp { value } => write!(
                f,
                "{value:?} has a mode, an owner or a group, which only the file of a unix:// listener has; remove them"
            ),
            ListenerConfigError::Rule { value, rule, needs } => {
                write!(f, "{value:?} has {rule}, which needs {needs}; remove it")
            }
            ListenerConfigError::OriginsOnTcp { value } => write!(
                f,
                "{value:?} has origins, which only browsers send; remove them or make it a ws:// listener"
            ),
        }
    }
}

/// The same URL without TLS.
fn plain(value: &str) -> String {
    let (scheme, rest) = value.split_once(':').unwrap_or((value, ""));
    let plain = if scheme.eq_ignore_ascii_case("wss") { "ws" } else { "mqtt" };
    format!("{plain}:{rest}")
}

/// What to write instead of a URL whose scheme is not served.
fn instead(value: &str, scheme: &str) -> String {
    match scheme {
        "http" => "use ws:// for MQTT over WebSocket".to_owned(),
        "https" => "use wss:// for MQTT over WebSocket over TLS".to_owned(),
        "ssl" => "use mqtts:// for MQTT over TLS".to_owned(),
        _ if !value.contains("://") => format!("write tcp://{value}"),
        _ => "use tcp://, mqtts://, ws://, wss:// or unix://".to_owned(),
    }
}

impl std::error::Error for ListenerConfigError {}
