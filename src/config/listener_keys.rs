//! The keys of a listener, its URL and origins apart.

use std::path::PathBuf;

use super::json::Json;
use super::values::{boolean, choice, path, text, texts, whole_number};
use crate::limits::Holds;
use crate::listener_config::{ListenerConfig, SocketFile, TlsConfig};
use crate::listener_rules::ListenerRules;
use crate::network::Network;
use crate::packet::{ProtocolVersion, QoS};
use crate::transport::tls::{CertificateName, ClientCertificate, TlsVersion};

/// The settings of one listener, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct ListenerDraft {
    pub(super) rules: ListenerRules,
    pub(super) socket: SocketFile,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    tls: TlsOptions,
}

#[derive(Debug, Default)]
struct TlsOptions {
    client_ca: Option<PathBuf>,
    client_certificate: Option<ClientCertificate>,
    user_name: Option<CertificateName>,
    crl: Vec<PathBuf>,
    minimum_version: TlsVersion,
}

impl ListenerDraft {
    /// The files of TLS, if there is a section of it; else the keys that are missing, each with an example.
    pub(super) fn tls(&self, is_there: bool) -> Result<Option<TlsConfig>, Vec<Missing>> {
        if !is_there {
            return Ok(None);
        }
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            let mut missing = Vec::new();
            if self.certificate.is_none() {
                missing.push(("tls.certificate", "server.pem"));
            }
            if self.key.is_none() {
                missing.push(("tls.key", "server.key"));
            }
            return Err(missing);
        };
        let mut config = TlsConfig::new(certificate, key);
        config.client_ca.clone_from(&self.tls.client_ca);
        config.client_certificate = self.tls.client_certificate;
        config.user_name = self.tls.user_name;
        config.crl.clone_from(&self.tls.crl);
        config.minimum_version = self.tls.minimum_version;
        Ok(Some(config))
    }
}

/// A key that is missing, and an example of its value.
pub(super) type Missing = (&'static str, &'static str);

/// A key of a listener: its row of the table, how it is read, and its value for people if it is set.
pub(super) struct ListenerKey {
    pub(super) path: &'static str,
    /// What it is, unit, range, default, and the effect at the limit.
    pub(super) columns: [&'static str; 5],
    /// From when a new value holds.
    pub(super) holds: Holds,
    pub(super) read: fn(&mut ListenerDraft, &Json) -> Result<(), String>,
    pub(super) show: fn(&ListenerConfig) -> Option<String>,
}

const FILE: &str = "path, relative to the directory of the configuration file";
const NETWORKS: &str = "addresses and networks, such as `10.0.0.0/8` or `::1`";

pub(super) const LISTENER_KEYS: &[ListenerKey] = &[
    ListenerKey {
        path: "listeners.NAME.tls.certificate",
        columns: [
            "the server's certificate, followed by those of intermediate authorities",
            "PEM file",
            FILE,
            "none: a `mqtts` or `wss` listener needs it",
            "",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| path(value, "server.pem").map(|path| draft.certificate = Some(path)),
        show: |listener| Some(shown(&listener.tls.as_ref()?.certificate)),
    },
    ListenerKey {
        path: "listeners.NAME.tls.key",
        columns: [
            "the private key of the certificate, not encrypted",
            "PEM file",
            FILE,
            "none: a `mqtts` or `wss` listener needs it",
            "",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| path(value, "server.key").map(|path| draft.key = Some(path)),
        show: |listener| Some(shown(&listener.tls.as_ref()?.key)),
    },
    ListenerKey {
        path: "listeners.NAME.tls.clientCa",
        columns: [
            "the authorities that issue Clients' certificates",
            "PEM file",
            FILE,
            "none: no certificate is asked for",
            "a Client with a certificate of another authority is refused in the handshake",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| {
            path(value, "clients-ca.pem").map(|path| draft.tls.client_ca = Some(path))
        },
        show: |listener| listener.tls.as_ref()?.client_ca.as_ref().map(shown),
    },
    ListenerKey {
        path: "listeners.NAME.tls.clientCertificate",
        columns: [
            "whether Clients show a certificate",
            "choice",
            "`none`, `optional` or `required`",
            "`required` with `clientCa`, else `none`",
            "a Client without a good certificate is refused in the handshake",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| {
            let choices = ClientCertificate::ALL.map(|one| (one.name(), one));
            choice(value, &choices).map(|chosen| draft.tls.client_certificate = Some(chosen))
        },
        show: |listener| Some(listener.tls.as_ref()?.client_certificate?.name().to_owned()),
    },
    ListenerKey {
        path: "listeners.NAME.tls.userName",
        columns: [
            "the name in a Client's certificate that is its user name, whatever CONNECT says",
            "choice",
            "`commonName`, `subject`, `dns`, `uri` or `email`",
            "none: the user name is that of CONNECT",
            "a Client whose certificate lacks the name is refused",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| {
            let choices = CertificateName::ALL.map(|one| (one.name(), one));
            choice(value, &choices).map(|chosen| draft.tls.user_name = Some(chosen))
        },
        show: |listener| Some(listener.tls.as_ref()?.user_name?.name().to_owned()),
    },
    ListenerKey {
        path: "listeners.NAME.tls.crl",
        columns: [
            "revocation lists of the authorities in `clientCa`",
            "PEM files",
            "a path, or several in brackets",
            "none: revocation is not checked",
            "a Client whose certificate is revoked, or on no list in force, is refused",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| {
            let files = match value {
                Json::Array(_) => texts(value, "files", "[\"crl.pem\"]")?,
                _ => vec![text(value, "\"crl.pem\"")?],
            };
            draft.tls.crl = files.into_iter().map(PathBuf::from).collect();
            Ok(())
        },
        show: |listener| {
            let files = &listener.tls.as_ref()?.crl;
            (!files.is_empty()).then(|| files.iter().map(shown).collect::<Vec<_>>().join(", "))
        },
    },
    ListenerKey {
        path: "listeners.NAME.tls.minimumVersion",
        columns: [
            "the oldest version of TLS",
            "choice",
            "`1.2` or `1.3`, in quotes",
            "`1.2`",
            "a Client of an older version is refused in the handshake",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| {
            if let Json::Number(_) = value {
                return Err(format!(
                    "must be a string, not a number ({value}); write it in quotes"
                ));
            }
            let choices = TlsVersion::ALL.map(|one| (one.name(), one));
            choice(value, &choices).map(|chosen| draft.tls.minimum_version = chosen)
        },
        show: |listener| {
            let version = listener.tls.as_ref()?.minimum_version;
            (version != TlsVersion::default()).then(|| version.name().to_owned())
        },
    },
    ListenerKey {
        path: "listeners.NAME.anonymous",
        columns: [
            "whether this listener lets in Clients without a user name",
            "truth value",
            "`true` or `false`",
            "that of `access.anonymous`",
            "other Clients without a user name are refused with 0x87 (3.x: 5)",
        ],
        holds: Holds::AtOnce,
        read: |draft, value| boolean(value).map(|on| draft.rules.anonymous = Some(on)),
        show: |listener| listener.rules.anonymous.map(|on| on.to_string()),
    },
    ListenerKey {
        path: "listeners.NAME.versions",
        columns: [
            "the versions of MQTT that are served",
            "versions",
            "one or more of `3.1`, `3.1.1`, `5.0`",
            "all",
            "a CONNECT of another version is refused with 0x84 (3.x: 1)",
        ],
        holds: Holds::AtOnce,
        read: |draft, value| {
            let mut chosen = Vec::new();
            for name in texts(value, "versions", "[\"3.1.1\", \"5.0\"]")? {
                chosen.push(match name.as_str() {
                    "3.1" => ProtocolVersion::V3_1,
                    "3.1.1" => ProtocolVersion::V3_1_1,
                    "5.0" | "5" => ProtocolVersion::V5,
                    _ => return Err(format!("holds the unknown version {name:?}; write some of \"3.1\", \"3.1.1\", \"5.0\"")),
                });
            }
            draft.rules.versions = chosen.into_iter().collect();
            Ok(())
        },
        show: |listener| {
            changed(&listener.rules, |rules| rules.versions).map(|versions| versions.to_string())
        },
    },
    ListenerKey {
        path: "listeners.NAME.connectionsMax",
        columns: [
            "Network Connections of this listener with an accepted CONNECT",
            "connections",
            "1 to 1000000000",
            "that of `limits.connectionsMax`",
            "a further CONNECT is refused with 0x97 (3.x: 3)",
        ],
        holds: Holds::AtOnce,
        read: |draft, value| {
            let number = whole_number(value, "connections", 1, 1_000_000_000)?;
            draft.rules.connections_max = usize::try_from(number).ok();
            Ok(())
        },
        show: |listener| listener.rules.connections_max.map(|max| format!("{max} connections")),
    },
    ListenerKey {
        path: "listeners.NAME.qosMax",
        columns: [
            "the highest QoS",
            "QoS",
            "0 to 2",
            "2",
            "a PUBLISH with a higher one closes the connection (MQTT 5: 0x9B); a subscription is granted this QoS at most",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| {
            draft.rules.qos_max = match whole_number(value, "QoS", 0, 2)? {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            Ok(())
        },
        show: |listener| {
            changed(&listener.rules, |rules| rules.qos_max).map(|qos| (qos as u8).to_string())
        },
    },
    ListenerKey {
        path: "listeners.NAME.networksAllowed",
        columns: [
            "the networks whose peers are let in",
            "networks",
            NETWORKS,
            "all",
            "other peers are closed at once",
        ],
        holds: Holds::AtOnce,
        read: |draft, value| {
            networks(value).map(|networks| draft.rules.networks_allowed = Some(networks))
        },
        show: |listener| listener.rules.networks_allowed.as_deref().map(listed),
    },
    ListenerKey {
        path: "listeners.NAME.networksDenied",
        columns: [
            "the networks whose peers are not let in, also if they are among the allowed ones",
            "networks",
            NETWORKS,
            "none",
            "their peers are closed at once",
        ],
        holds: Holds::AtOnce,
        read: |draft, value| networks(value).map(|networks| draft.rules.networks_denied = networks),
        show: |listener| {
            Some(&listener.rules.networks_denied)
                .filter(|all| !all.is_empty())
                .map(|all| listed(all))
        },
    },
    ListenerKey {
        path: "listeners.NAME.mountPoint",
        columns: [
            "the prefix of all topics of this listener's Clients: put before their topics, and taken off on delivery",
            "topic",
            "a Topic Name that does not begin with `$`",
            "none",
            "topics above it are out of reach",
        ],
        holds: Holds::AtOnce,
        read: |draft, value| {
            let written = text(value, "\"sites/north/\"")?;
            draft.rules.mount_point = Some(written.parse().map_err(|error| format!("{error}"))?);
            Ok(())
        },
        show: |listener| {
            listener.rules.mount_point.as_ref().map(|at| at.as_str().escape_debug().to_string())
        },
    },
    ListenerKey {
        path: "listeners.NAME.proxyProtocol",
        columns: [
            "the networks of the proxies whose connections begin with a header of the PROXY protocol (version 1 or 2)",
            "networks",
            NETWORKS,
            "none: no header is expected",
            "peers of other networks, and peers without a valid header, are closed",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| {
            networks(value).map(|networks| draft.rules.proxy_protocol = Some(networks))
        },
        show: |listener| listener.rules.proxy_protocol.as_deref().map(listed),
    },
    ListenerKey {
        path: "listeners.NAME.forwardedFor",
        columns: [
            "the networks of the proxies whose `Forwarded` or `X-Forwarded-For` a WebSocket listener believes",
            "networks",
            NETWORKS,
            "none",
            "the headers of other peers are ignored",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| networks(value).map(|networks| draft.rules.forwarded_for = networks),
        show: |listener| {
            Some(&listener.rules.forwarded_for).filter(|all| !all.is_empty()).map(|all| listed(all))
        },
    },
    ListenerKey {
        path: "listeners.NAME.mode",
        columns: [
            "the permissions of a Unix socket; a Client needs the permission to write",
            "octal digits",
            "`\"000\"` to `\"777\"`, in quotes",
            "`\"660\"`",
            "",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| mode(value).map(|mode| draft.socket.mode = Some(mode)),
        show: |listener| listener.socket.mode.map(|mode| format!("{mode:03o}")),
    },
    ListenerKey {
        path: "listeners.NAME.owner",
        columns: [
            "the owner of a Unix socket",
            "user",
            "a name or a number, in quotes",
            "the user of the process",
            "",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| text(value, "\"mqtt\"").map(|name| draft.socket.owner = Some(name)),
        show: |listener| listener.socket.owner.clone(),
    },
    ListenerKey {
        path: "listeners.NAME.group",
        columns: [
            "the group of a Unix socket",
            "group",
            "a name or a number, in quotes",
            "the group of the process",
            "",
        ],
        holds: Holds::NewConnections,
        read: |draft, value| text(value, "\"mqtt\"").map(|name| draft.socket.group = Some(name)),
        show: |listener| listener.socket.group.clone(),
    },
];

/// A setting that is not the default.
fn changed<T: PartialEq>(rules: &ListenerRules, get: fn(&ListenerRules) -> T) -> Option<T> {
    let value = get(rules);
    (value != get(&ListenerRules::default())).then_some(value)
}

fn shown(path: impl AsRef<std::path::Path>) -> String {
    path.as_ref().display().to_string().escape_debug().to_string()
}

fn listed(networks: &[Network]) -> String {
    networks.iter().map(Network::to_string).collect::<Vec<_>>().join(", ")
}

fn networks(value: &Json) -> Result<Vec<Network>, String> {
    let networks = texts(value, "networks", "[\"10.0.0.0/8\", \"::1\"]")?;
    networks.iter().map(|text| text.parse().map_err(|error| format!("{error}"))).collect()
}

fn mode(value: &Json) -> Result<u32, String> {
    let example = "\"660\"";
    if let Json::Number(_) = value {
        return Err(format!(
            "must be a string, not a number ({value}), because JSON has no octal numbers; write for example {example}"
        ));
    }
    let written = text(value, example)?;
    let digits = written.strip_prefix("0o").unwrap_or(&written);
    let octal = (1..=4).contains(&digits.len())
        && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o777);
    mode.ok_or_else(|| {
        format!(
            "{value} is no mode; write octal digits from \"000\" to \"777\", for example {example}"
        )
    })
}
