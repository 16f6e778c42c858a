//! The public view of a Session.

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::engine::session_cell::{CellState, SessionCell};
use crate::events::DisconnectCause;
use crate::ledger::Ledger;
use crate::packet::ProtocolVersion;
use crate::time::Timestamp;

/// A Session as [`Broker::sessions`](crate::Broker::sessions) and [`Broker::find_sessions`](crate::Broker::find_sessions)
/// return it. Texts are as Clients sent them; `Display` writes one line and escapes them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The Client Identifier.
    pub client_id: String,
    /// The user name that the access rules know the Client by; `None` without a policy and of an anonymous Client.
    pub user_name: Option<String>,
    /// Whether the Client is connected.
    pub connected: bool,
    /// Whether the client is inside this process.
    pub in_process: bool,
    /// The address of the Client, that behind a trusted proxy if there is one; while it is away, the last one. `None` if
    /// the transport has none, and of a client in process.
    pub address: Option<SocketAddr>,
    /// The name of the listener through which the Client came last. `None` of a client in process.
    pub listener: Option<String>,
    /// The protocol version of the present Network Connection; while the Client is away, of the last one. An in-process
    /// client has MQTT 5.
    pub version: Option<ProtocolVersion>,
    /// When the Client connected last.
    pub connected_at: Option<SystemTime>,
    /// When the last Network Connection ended; `None` while the Client is connected.
    pub disconnected_at: Option<SystemTime>,
    /// Why the last Network Connection ended; `None` if there was none before the present one.
    pub last_disconnect: Option<DisconnectCause>,
    /// Clean Start (3.x: Clean Session) of the last CONNECT.
    pub clean_start: Option<bool>,
    /// Keep Alive of the last CONNECT in seconds, 0 to 65 535, or that of the Server if it has set its own; 0 is off.
    pub keep_alive_secs: Option<u16>,
    /// Session Expiry Interval in seconds. With 0 the Session ends with its Network Connection, with `u32::MAX` it
    /// never expires (section 3.1.2.11.2).
    pub expiry_secs: u32,
    /// Subscriptions, at most [`Limits::session_subscriptions_max`](crate::Limits::session_subscriptions_max).
    pub subscriptions: usize,
    /// Messages that the transport has not completely accepted yet, at most [`SessionInfo::depth`].
    pub waiting: usize,
    /// Bytes of those of them that are not encoded yet, at most
    /// [`Limits::queue_bytes_max`](crate::Limits::queue_bytes_max).
    pub waiting_bytes: usize,
    /// The number of waiting messages at which the next one is thrown away:
    /// [`Limits::max_queue_depth`](crate::Limits::max_queue_depth) when the Session was made.
    pub depth: usize,
    /// QoS 1 and 2 messages that were sent and are not completely acknowledged, at most
    /// [`Limits::max_inflight`](crate::Limits::max_inflight).
    pub inflight: usize,
    /// QoS 2 messages that the Client published and has not released by PUBREL, at most
    /// [`Limits::receive_maximum`](crate::Limits::receive_maximum); for a Client of MQTT 3.x at most 65 535.
    pub receiving: usize,
    /// Whether the queue has been long for some time.
    pub slow: bool,
    /// The seconds after which the next message is thrown away if the queue grows on as it does; `None` if it does not
    /// grow.
    pub secs_until_loss: Option<u64>,
    /// Application Messages that the Client has published since the Session began. A message of QoS 2 that is sent again
    /// counts once. With [`Ledger::delivered`], two looks give the rates to and from the Client.
    pub publishes_received: u64,
    /// The messages that were offered to this Session, and their outcomes.
    pub ledger: Ledger,
}

/// Who a Session's Client is, how it came and left, and how it fares.
#[derive(Debug, Default)]
pub(super) struct Background {
    pub(super) user_name: Option<String>,
    pub(super) address: Option<SocketAddr>,
    listener: Option<String>,
    version: Option<ProtocolVersion>,
    connected_at: Option<SystemTime>,
    disconnected_at: Option<SystemTime>,
    last_disconnect: Option<DisconnectCause>,
    clean_start: Option<bool>,
    keep_alive_secs: Option<u16>,
    pub(super) slow: bool,
    secs_until_loss: Option<u64>,
}

/// Reads that under the lock of the Session: the only place that does.
pub(super) fn background(state: &CellState, now: Timestamp) -> Background {
    let (subject, mark) = (state.subject.as_ref(), state.mark());
    let slow = mark.is_some_and(|mark| mark.slow);
    let depth = state.session.standing().depth;
    let secs_until_loss =
        mark.and_then(|mark| mark.secs_until_loss(state.session.waiting_len(), depth, now));
    let user_name = subject.and_then(|subject| subject.identity().user_name()).map(str::to_owned);
    let Some(origin) = state.origin() else {
        return Background { user_name, slow, secs_until_loss, ..Default::default() };
    };
    let (left_at, last_disconnect) = origin.last_left().unzip();
    Background {
        user_name,
        address: origin.address(),
        listener: Some(origin.listener()).filter(|name| !name.is_empty()).map(str::to_owned),
        version: Some(origin.version),
        connected_at: Some(origin.connected_at()),
        disconnected_at: left_at.filter(|_| !state.session.is_attached()),
        last_disconnect,
        clean_start: Some(origin.clean_start),
        keep_alive_secs: Some(origin.keep_alive_secs),
        slow,
        secs_until_loss,
    }
}

impl SessionInfo {
    /// `None` of a Session that has ended.
    pub(super) fn of(cell: &SessionCell, now: Timestamp) -> Option<SessionInfo> {
        SessionInfo::read(cell, &cell.lock(), now)
    }

    /// As [`SessionInfo::of`], of a Session that the caller has locked.
    pub(super) fn read(
        cell: &SessionCell,
        state: &CellState,
        now: Timestamp,
    ) -> Option<SessionInfo> {
        let session = &state.session;
        if session.has_ended() {
            return None;
        }
        let (background, standing) = (background(state, now), session.standing());
        Some(SessionInfo {
            client_id: cell.client_id.to_string(),
            user_name: background.user_name,
            connected: session.is_attached(),
            in_process: cell.is_in_process(),
            address: background.address,
            listener: background.listener,
            version: background.version.or_else(|| session.version()),
            connected_at: background.connected_at,
            disconnected_at: background.disconnected_at,
            last_disconnect: background.last_disconnect,
            clean_start: background.clean_start,
            keep_alive_secs: background.keep_alive_secs,
            expiry_secs: session.expiry_secs(),
            subscriptions: session.subscription_count(),
            waiting: standing.waiting,
            waiting_bytes: standing.bytes,
            depth: standing.depth,
            inflight: standing.inflight,
            receiving: session.received_len(),
            slow: background.slow,
            secs_until_loss: background.secs_until_loss,
            publishes_received: cell.published(),
            ledger: session.ledger(),
        })
    }
}

/// One line: `"c1" of user "ann" at 192.0.2.1:4711, connected, 3 of 100 messages wait`.
impl fmt::Display for SessionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.client_id)?;
        if let Some(user_name) = &self.user_name {
            write!(f, " of user {user_name:?}")?;
        }
        if let Some(address) = self.address {
            write!(f, " at {address}")?;
        }
        let connected = if self.connected { "connected" } else { "away" };
        write!(f, ", {connected}, {} of {} messages wait", self.waiting, self.depth)
    }
}
