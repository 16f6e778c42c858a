//! The rules of a listener: which peers it lets in, and what their Clients may use.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::network::Network;
use crate::packet::{ProtocolVersion, QoS};
use crate::topic::{TopicError, TopicFilter, check_name};

/// What a listener asks of its peers. The default asks nothing and changes nothing.
///
/// ```
/// use hrotti::{ListenerConfig, ListenerRules, ProtocolVersion, QoS};
///
/// let mut rules = ListenerRules::default();
/// rules.versions = [ProtocolVersion::V5].into_iter().collect();
/// rules.qos_max = QoS::AtLeastOnce;
/// rules.networks_allowed = Some(vec!["10.0.0.0/8".parse()?, "::1".parse()?]);
/// rules.mount_point = Some("sites/north".parse()?);
/// let config = ListenerConfig::new("tcp://127.0.0.1:0")?.with_rules(rules);
/// assert_eq!(config.rules.mount_point.as_ref().map(|at| at.as_str()), Some("sites/north/"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerRules {
    /// Whether Clients without a User Name may connect. `Some(false)` refuses them with 0x87 (3.x: return code 5)
    /// before any policy is asked, unless the transport gives them a user name, by a certificate for example, or they
    /// name an Authentication Method. `Some(true)` lets policies accept them on this listener; they ask
    /// [`PeerInfo::listener_allows_anonymous`](crate::transport::PeerInfo::listener_allows_anonymous). `None`, the
    /// default, leaves it to the policy.
    pub anonymous: Option<bool>,
    /// The versions of MQTT that are served; a CONNECT of another version is refused with 0x84 (3.x: return code 1).
    /// Default: all. The empty set serves nobody.
    pub versions: ProtocolVersions,
    /// Network Connections with an accepted CONNECT at most; a further CONNECT is refused with 0x97 (3.x: return code
    /// 3), unless it takes over a Session that is connected through this listener. `None`, the default, leaves it to
    /// [`Limits::connections_max`](crate::Limits::connections_max), which holds in any case.
    pub connections_max: Option<usize>,
    /// The highest QoS. MQTT 5 Clients learn it from CONNACK (section 3.2.2.3.4), and a PUBLISH or a Will with a
    /// higher one ends the connection with 0x9B (MQTT-3.2.2-11, MQTT-3.2.2-12); in 3.x such a PUBLISH closes the
    /// connection, and such a Will is refused with return code 3. A subscription is granted this QoS at most. Default:
    /// QoS 2.
    pub qos_max: QoS,
    /// The networks whose peers are let in; `None`, the default, is all. Peers of other networks, and peers that have
    /// no network address, are closed before their first byte of MQTT and counted in
    /// [`Counters::networks_refused`](crate::Counters::networks_refused). The empty list lets nobody in.
    pub networks_allowed: Option<Vec<Network>>,
    /// The networks whose peers are closed, also if they are among the allowed ones. Default: none.
    pub networks_denied: Vec<Network>,
    /// The prefix of all topics of this listener's Clients. It is put before their Topic Names and Topic Filters,
    /// those that begin with `$` included, and taken off on delivery; behind `$share/NAME/` it is put before the Topic
    /// Filter. So such a Client sees its own subtree as the whole, and nothing else. Access rules and limits of topics
    /// see the whole name. A Session belongs to the mount point behind which it was made: a CONNECT of another listener
    /// with its Client Identifier is refused with 0x85. Default: none.
    pub mount_point: Option<MountPoint>,
    /// The networks of the proxies whose connections begin with a header of the PROXY protocol (version 1 or 2), which
    /// has the address of the peer. `None`, the default: no header is expected. With `Some`, a peer of another network
    /// and a peer without a valid header are closed; the empty list lets nobody in.
    pub proxy_protocol: Option<Vec<Network>>,
    /// The networks of the proxies whose `Forwarded` or `X-Forwarded-For` has the address of the peer, on a WebSocket
    /// listener. The headers of other peers are ignored. Default: none.
    pub forwarded_for: Vec<Network>,
}

impl Default for ListenerRules {
    fn default() -> ListenerRules {
        ListenerRules {
            anonymous: None,
            versions: ProtocolVersions::ALL,
            connections_max: None,
            qos_max: QoS::ExactlyOnce,
            networks_allowed: None,
            networks_denied: Vec::new(),
            mount_point: None,
            proxy_protocol: None,
            forwarded_for: Vec::new(),
        }
    }
}

impl ListenerRules {
    /// Whether a peer with this address is let in; `None` is a peer without a network address, which belongs to no
    /// network.
    ///
    /// ```
    /// use hrotti::ListenerRules;
    ///
    /// let mut rules = ListenerRules::default();
    /// rules.networks_allowed = Some(vec!["10.0.0.0/8".parse()?]);
    /// rules.networks_denied = vec!["10.66.0.0/16".parse()?];
    /// assert!(rules.lets_in(Some("10.1.2.3".parse()?)));
    /// assert!(!rules.lets_in(Some("10.66.2.3".parse()?)) && !rules.lets_in(None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lets_in(&self, address: Option<IpAddr>) -> bool {
        let within = |networks: &[Network]| {
            address.is_some_and(|address| Network::any_contains(networks, address))
        };
        !within(&self.networks_denied) && self.networks_allowed.as_deref().is_none_or(within)
    }
}

/// A set of versions of MQTT.
///
/// ```
/// use hrotti::{ProtocolVersion, ProtocolVersions};
///
/// let new: ProtocolVersions = [ProtocolVersion::V3_1_1, ProtocolVersion::V5].into_iter().collect();
/// assert!(new.contains(ProtocolVersion::V5) && !new.contains(ProtocolVersion::V3_1));
/// assert_eq!(new.to_string(), "3.1.1 and 5.0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProtocolVersions(u8);

impl ProtocolVersions {
    /// 3.1, 3.1.1 and 5.0.
    pub const ALL: ProtocolVersions = ProtocolVersions(0b111);

    /// No version.
    pub const NONE: ProtocolVersions = ProtocolVersions(0);

    const EACH: [ProtocolVersion; 3] =
        [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5];

    const fn bit(version: ProtocolVersion) -> u8 {
        match version {
            ProtocolVersion::V3_1 => 1,
            ProtocolVersion::V3_1_1 => 2,
            ProtocolVersion::V5 => 4,
        }
    }

    /// Whether a version is in the set.
    #[must_use]
    pub fn contains(self, version: ProtocolVersion) -> bool {
        self.0 & Self::bit(version) != 0
    }

    /// The versions in the set, the oldest first.
    pub fn iter(self) -> impl Iterator<Item = ProtocolVersion> {
        Self::EACH.into_iter().filter(move |version| self.contains(*version))
    }
}

impl FromIterator<ProtocolVersion> for ProtocolVersions {
    fn from_iter<I: IntoIterator<Item = ProtocolVersion>>(versions: I) -> ProtocolVersions {
        ProtocolVersions(versions.into_iter().fold(0, |bits, version| bits | Self::bit(version)))
    }
}

/// A list in words: `3.1, 3.1.1 and 5.0`.
impl fmt::Display for ProtocolVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.iter().count();
        if count == 0 {
            return f.write_str("no version");
        }
        for (index, version) in self.iter().enumerate() {
            let before = match index {
                0 => "",
                _ if index + 1 == count => " and ",
                _ => ", ",
            };
            write!(f, "{before}{version}")?;
        }
        Ok(())
    }
}

/// The prefix of the topics of a listener's Clients: a Topic Name that ends with `/` and does not begin with `$`. A
/// clone is cheap.
///
/// ```
/// use hrotti::MountPoint;
///
/// assert_eq!("sites/north".parse::<MountPoint>()?.as_str(), "sites/north/");
/// assert!("sites/+".parse::<MountPoint>().is_err() && "$SYS".parse::<MountPoint>().is_err());
/// # Ok::<(), hrotti::MountPointError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MountPoint(Arc<str>);

impl MountPoint {
    /// The prefix, which ends with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The prefix, shared.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.0
    }

    /// The whole Topic Name of a Client's one.
    pub(crate) fn name(&self, name: &str) -> String {
        [self.as_str(), name].concat()
    }

    /// The whole Topic Filter of a Client's one. Of a shared subscription the Share Name stays in front.
    ///
    /// # Errors
    /// The whole is too long.
    pub(crate) fn filter(&self, filter: &TopicFilter) -> Result<TopicFilter, TopicError> {
        let (share, rest) =
            filter.as_str().split_at(filter.as_str().len() - filter.filter_str().len());
        TopicFilter::new(&[share, self.as_str(), rest].concat())
    }
}

/// Adds the `/` at the end if it is missing.
impl FromStr for MountPoint {
    type Err = MountPointError;

    fn from_str(text: &str) -> Result<MountPoint, MountPointError> {
        let error = |reason| MountPointError { text: text.to_owned(), reason };
        if text.starts_with('$') {
            return Err(error(Reason::Dollar));
        }
        check_name(text).map_err(|reason| error(Reason::NoTopicName(reason)))?;
        let slash = if text.ends_with('/') { "" } else { "/" };
        let prefix = format!("{text}{slash}");
        // At least one more byte has to find room behind it.
        check_name(&format!("{prefix}t")).map_err(|reason| error(Reason::NoTopicName(reason)))?;
        Ok(MountPoint(prefix.into()))
    }
}

impl fmt::Debug for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MountPoint").field(&self.as_str()).finish()
    }
}

/// Unescaped, as Topic Names are; use `Debug` in logs.
impl fmt::Display for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no [`MountPoint`]. The error names the text and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPointError {
    text: String,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    NoTopicName(TopicError),
    Dollar,
}

impl fmt::Display for MountPointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.text.chars().take(SHOWN_MAX).collect();
        match self.reason {
            Reason::NoTopicName(reason) => write!(
                f,
                "{shown:?} is no mount point, because {reason}; write the beginning of a Topic Name, for example \
                 \"sites/north/\""
            ),
            Reason::Dollar => write!(
                f,
                "{shown:?} is no mount point: topics that begin with '$' belong to the server; write another \
                 beginning, for example \"sites/north/\""
            ),
        }
    }
}

/// The characters of a text that an error shows.
const SHOWN_MAX: usize = 80;

impl std::error::Error for MountPointError {}

#[cfg(test)]
mod tests;
