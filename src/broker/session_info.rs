//! The public view of a Session.

use crate::engine::session_cell::SessionCell;
use crate::ledger::Ledger;
use crate::packet::ProtocolVersion;

/// A Session as [`Broker::sessions`](crate::Broker::sessions) returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The Client Identifier.
    pub client_id: String,
    /// Whether the Client is connected.
    pub connected: bool,
    /// Whether the client is inside this process.
    pub in_process: bool,
    /// The protocol version of the present Network Connection; `None` while the Client is not connected. An
    /// in-process client has MQTT 5.
    pub version: Option<ProtocolVersion>,
    /// Session Expiry Interval in seconds. With 0 the Session ends with its Network Connection, with `u32::MAX` it
    /// never expires (section 3.1.2.11.2).
    pub expiry_secs: u32,
    /// Subscriptions, at most [`Limits::session_subscriptions_max`](crate::Limits::session_subscriptions_max).
    pub subscriptions: usize,
    /// Messages that the transport has not completely accepted yet, at most
    /// [`Limits::max_queue_depth`](crate::Limits::max_queue_depth).
    pub waiting: usize,
    /// QoS 1 and 2 messages that were sent and are not completely acknowledged, at most
    /// [`Limits::max_inflight`](crate::Limits::max_inflight).
    pub inflight: usize,
    /// QoS 2 messages that the Client published and has not released by PUBREL, at most
    /// [`Limits::receive_maximum`](crate::Limits::receive_maximum); for a Client of MQTT 3.x at most 65 535.
    pub receiving: usize,
    /// The messages that were offered to this Session, and their outcomes.
    pub ledger: Ledger,
}

impl SessionInfo {
    /// `None` of a Session that has ended.
    pub(super) fn of(cell: &SessionCell) -> Option<SessionInfo> {
        let state = cell.lock();
        let session = &state.session;
        (!session.has_ended()).then(|| SessionInfo {
            client_id: cell.client_id.to_string(),
            connected: session.is_attached(),
            in_process: cell.is_in_process(),
            version: session.version(),
            expiry_secs: session.expiry_secs(),
            subscriptions: session.subscription_count(),
            waiting: session.waiting_len(),
            inflight: session.inflight_len(),
            receiving: session.received_len(),
            ledger: session.ledger(),
        })
    }
}
