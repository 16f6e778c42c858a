//! Where the Client of a Session came from, and why it last left: the present Network Connection of the Session, or the
//! last one. Small, because every Session of the network has one.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::events::DisconnectCause;
use crate::packet::{Connect, ProtocolVersion};
use crate::transport::{AcceptedBy, PeerInfo};

/// The present or the last Network Connection of a Session.
#[derive(Debug)]
pub(crate) struct Origin {
    listener: Option<Arc<AcceptedBy>>,
    address: Address,
    connected_at: WallMillis,
    /// `None` until the first Network Connection of the Session has ended.
    left: Option<Box<Left>>,
    /// In seconds, after the Server has set its own; 0 is off.
    pub(crate) keep_alive_secs: u16,
    pub(crate) version: ProtocolVersion,
    /// Clean Start (3.x: Clean Session) of the CONNECT.
    pub(crate) clean_start: bool,
}

/// The end of the last Network Connection that has ended.
#[derive(Debug)]
struct Left {
    at: WallMillis,
    cause: DisconnectCause,
}

/// Half as large as a [`SocketAddr`].
#[derive(Debug)]
enum Address {
    None,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

/// The clock on the wall in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct WallMillis(u64);

impl From<SystemTime> for WallMillis {
    fn from(at: SystemTime) -> WallMillis {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        WallMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<WallMillis> for SystemTime {
    fn from(WallMillis(millis): WallMillis) -> SystemTime {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis));
        at.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl Origin {
    /// Of a CONNECT that was accepted.
    pub(crate) fn new(
        connect: &Connect<'_>,
        keep_alive_secs: u16,
        peer: &PeerInfo,
        wall: SystemTime,
    ) -> Origin {
        Origin {
            listener: peer.accepted_by().cloned(),
            address: match peer.address() {
                None => Address::None,
                Some(SocketAddr::V4(address)) => Address::V4(address),
                Some(SocketAddr::V6(address)) => Address::V6(Box::new(address)),
            },
            connected_at: wall.into(),
            left: None,
            keep_alive_secs,
            version: connect.version,
            clean_start: connect.clean_start,
        }
    }

    /// Keeps the end of the Network Connection before this one.
    pub(super) fn after(self, before: Option<Origin>) -> Origin {
        Origin { left: before.and_then(|before| before.left), ..self }
    }

    pub(super) fn leave(&mut self, cause: DisconnectCause, wall: SystemTime) {
        self.left = Some(Box::new(Left { at: wall.into(), cause }));
    }

    /// The address of the Client; `None` if its transport has none.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.address {
            Address::None => None,
            Address::V4(address) => Some((*address).into()),
            Address::V6(address) => Some((**address).into()),
        }
    }

    /// The name of the listener.
    pub(crate) fn listener(&self) -> &str {
        self.listener.as_deref().map_or("", |listener| &listener.name)
    }

    /// When the CONNECT was accepted, to the millisecond.
    pub(crate) fn connected_at(&self) -> SystemTime {
        self.connected_at.into()
    }

    /// When the last Network Connection that has ended did so, to the millisecond, and why. While the Client is
    /// connected, that is the one before; `None` if there was none.
    pub(crate) fn last_left(&self) -> Option<(SystemTime, DisconnectCause)> {
        self.left.as_deref().map(|left| (left.at.into(), left.cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Session holds it in place, and a Client that has never left has nothing more.
    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Option<Origin>>(), 48);
        assert_eq!(size_of::<Left>(), 32);
    }

    #[test]
    fn times_are_kept_to_the_millisecond() {
        for at in [0, 1_999, 1_893_456_000_123] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
            assert_eq!(SystemTime::from(WallMillis::from(at)), at);
        }
        assert!(SystemTime::from(WallMillis(u64::MAX)) >= SystemTime::UNIX_EPOCH);
    }
}
