//! Clients that come, go or are refused: the one place where that is announced and written to the log.

use std::fmt;
use std::sync::Arc;

use log::{Level, info, log, log_enabled};

use super::announce::Announcer;
use super::log_lines::{LineLimit, Shown};
use crate::events::{ClientOrigin, DisconnectCause, Happening};
use crate::packet::{ProtocolVersion, ReasonCode};
use crate::time::Timestamp;
use crate::transport::PeerInfo;

/// The target of the log lines about Clients that come, go or are refused.
const CONNECTIONS_LOG: &str = "hrotti::connections";

/// Lines about Clients that connect and disconnect in one second.
const COMINGS_MAX: u32 = 100;

/// Lines about Clients and peers that are refused in one second. They have their own limit, so that a flood of them
/// does not hide Clients that connect.
const REFUSALS_MAX: u32 = 10;

/// Tells of Clients that come, go or are refused, by events and by the log.
#[derive(Debug)]
pub(crate) struct Comings {
    announcer: Arc<Announcer>,
    comings: LineLimit<COMINGS_MAX>,
    refusals: LineLimit<REFUSALS_MAX>,
}

impl Comings {
    pub(super) fn new(announcer: &Arc<Announcer>) -> Comings {
        let announcer = announcer.clone();
        Comings { announcer, comings: LineLimit::default(), refusals: LineLimit::default() }
    }

    /// A CONNECT was accepted.
    pub(crate) fn connected(&self, comer: Comer<'_>, terms: Agreed) {
        let Agreed { clean_start, session_present, keep_alive_secs } = terms;
        self.announcer.announce(|| {
            let client = comer.origin();
            Happening::Connected { client, clean_start, session_present, keep_alive_secs }
        });
        if log_enabled!(target: CONNECTIONS_LOG, Level::Info) && self.comings.admits() {
            info!(target: CONNECTIONS_LOG, "{}", Connected(comer, terms));
        }
    }

    /// A Network Connection with an accepted CONNECT has ended.
    pub(crate) fn disconnected(&self, comer: Comer<'_>, cause: DisconnectCause) {
        self.announcer.announce(|| Happening::Disconnected { client: comer.origin(), cause });
        if log_enabled!(target: CONNECTIONS_LOG, Level::Info) && self.comings.admits() {
            info!(target: CONNECTIONS_LOG, "{} disconnected: {cause}", Named(comer));
        }
    }

    /// A CONNECT, or a peer before its CONNECT, was refused.
    pub(crate) fn refused(&self, comer: Comer<'_>, code: ReasonCode, why: &str) {
        self.announce_refusal(comer, code, why);
        // What the broker could not serve is a matter of its operator, the rest of the peer.
        let level = match code {
            ReasonCode::QUOTA_EXCEEDED
            | ReasonCode::SERVER_UNAVAILABLE
            | ReasonCode::SERVER_BUSY => Level::Warn,
            _ => Level::Info,
        };
        if log_enabled!(target: CONNECTIONS_LOG, level) && self.refusals.admits() {
            log!(target: CONNECTIONS_LOG, level, "{}", Refused(comer, code, why));
        }
    }

    /// The same, of a refusal that stands in the log already.
    pub(crate) fn announce_refusal(&self, comer: Comer<'_>, code: ReasonCode, why: &str) {
        self.announcer.announce(|| Happening::Refused {
            client: comer.origin(),
            code,
            why: why.to_owned(),
        });
    }

    /// Writes how many lines were held back, once a second. Called with every tick.
    pub(super) fn tick(&self, now: Timestamp) {
        tell_held_back(self.comings.tick(now), self.refusals.tick(now));
    }

    /// Writes how many lines were held back, because the broker has stopped.
    pub(crate) fn finish(&self) {
        tell_held_back(self.comings.take(), self.refusals.take());
    }
}

fn tell_held_back(comings: Option<u64>, refusals: Option<u64>) {
    if let Some(lines) = comings {
        info!(
            target: CONNECTIONS_LOG,
            "{lines} more clients connected or disconnected in the last second"
        );
    }
    if let Some(lines) = refusals {
        info!(target: CONNECTIONS_LOG, "{lines} more were refused in the last second");
    }
}

/// A Client, or a peer whose CONNECT is not accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comer<'a> {
    /// Empty before a CONNECT.
    pub(crate) client_id: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) peer: &'a PeerInfo,
    /// `None` before a CONNECT.
    pub(crate) version: Option<ProtocolVersion>,
}

impl<'a> Comer<'a> {
    /// A peer that has sent no CONNECT.
    pub(crate) fn unknown(peer: &'a PeerInfo) -> Comer<'a> {
        Comer { client_id: "", user: None, peer, version: None }
    }

    fn origin(&self) -> ClientOrigin {
        ClientOrigin {
            client_id: self.client_id.into(),
            user_name: self.user.map(Arc::from),
            address: self.peer.address(),
            listener: match self.peer.accepted_by() {
                Some(listener) => listener.name.clone(),
                None => "".into(),
            },
            version: self.version,
        }
    }
}

/// What an accepted CONNECT asked for and got.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agreed {
    pub(crate) clean_start: bool,
    pub(crate) session_present: bool,
    /// 0 is off.
    pub(crate) keep_alive_secs: u16,
}

/// `client "lamp" from 192.0.2.7:40122 on tcp`
struct Named<'a>(Comer<'a>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comer { client_id, peer, .. } = self.0;
        write!(f, "client {} from {peer}", Shown(client_id))?;
        on_listener(f, peer)
    }
}

fn on_listener(f: &mut fmt::Formatter<'_>, peer: &PeerInfo) -> fmt::Result {
    if peer.listener().is_empty() { Ok(()) } else { write!(f, " on {}", peer.listener()) }
}

/// `client "lamp" connected from 192.0.2.7:40122 on tcp (MQTT 5.0, clean start, keep alive 60 s, user "ann")`
struct Connected<'a>(Comer<'a>, Agreed);

impl fmt::Display for Connected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Connected(Comer { client_id, user, peer, version }, terms) = *self;
        write!(f, "client {} connected from {peer}", Shown(client_id))?;
        on_listener(f, peer)?;
        f.write_str(" (")?;
        if let Some(version) = version {
            write!(f, "MQTT {version}, ")?;
        }
        f.write_str(match (terms.clean_start, terms.session_present) {
            (true, _) => "clean start",
            (false, true) => "session resumed",
            (false, false) => "new session",
        })?;
        match terms.keep_alive_secs {
            0 => f.write_str(", no keep alive")?,
            secs => write!(f, ", keep alive {secs} s")?,
        }
        if let Some(user) = user {
            write!(f, ", user {}", Shown(user))?;
        }
        f.write_str(")")
    }
}

/// `client "lamp" from 192.0.2.7:40122 on tcp refused: sessions_max is reached (0x97 Quota exceeded)`
struct Refused<'a>(Comer<'a>, ReasonCode, &'a str);

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused(comer, code, why) = *self;
        match comer.client_id {
            "" => {
                write!(f, "peer {}", comer.peer)?;
                on_listener(f, comer.peer)?;
            }
            _ => Named(comer).fmt(f)?,
        }
        write!(f, " refused: {} ({code})", why.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener_rules::ListenerRules;

    fn peer() -> PeerInfo {
        let address: std::net::SocketAddr = ([192, 0, 2, 7], 40_122).into();
        PeerInfo::from(address).at_listener("tcp", ListenerRules::default())
    }

    #[test]
    fn lines_name_client_address_listener_version_user_and_reason() {
        let (peer, version) = (peer(), Some(ProtocolVersion::V5));
        let lamp = Comer { client_id: "lamp", user: Some("ann"), peer: &peer, version };
        let terms = Agreed { clean_start: true, session_present: false, keep_alive_secs: 60 };
        assert_eq!(
            Connected(lamp, terms).to_string(),
            r#"client "lamp" connected from 192.0.2.7:40122 on tcp (MQTT 5.0, clean start, keep alive 60 s, user "ann")"#
        );
        let away = Agreed { clean_start: false, session_present: true, keep_alive_secs: 0 };
        let shown = Connected(Comer { user: None, ..lamp }, away).to_string();
        assert!(shown.ends_with("(MQTT 5.0, session resumed, no keep alive)"), "{shown}");
        assert_eq!(Named(lamp).to_string(), r#"client "lamp" from 192.0.2.7:40122 on tcp"#);
        let code = ReasonCode::QUOTA_EXCEEDED;
        assert_eq!(
            Refused(lamp, code, "sessions_max is reached").to_string(),
            r#"client "lamp" from 192.0.2.7:40122 on tcp refused: sessions_max is reached (0x97 Quota exceeded)"#
        );
        assert_eq!(
            Refused(Comer::unknown(&peer), code, "a\nb").to_string(),
            r"peer 192.0.2.7:40122 on tcp refused: a\nb (0x97 Quota exceeded)"
        );
    }
}
