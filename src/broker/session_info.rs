//! What a broker tells of its Sessions.

use crate::engine::session_cell::SessionCell;
use crate::ledger::Ledger;
use crate::packet::ProtocolVersion;

/// What a Session holds, as [`Broker::sessions`] tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its Client Identifier.
    pub client_id: String,
    /// Whether its Client is connected.
    pub connected: bool,
    /// Whether the client is inside this process.
    pub in_process: bool,
    /// The version of the present Network Connection; `None` while its Client is away. A client in process
    /// has what MQTT 5 has.
    pub version: Option<ProtocolVersion>,
    /// Session Expiry Interval in seconds, 0 ends with the Network Connection, `u32::MAX` never expires
    /// (section 3.1.2.11.2).
    pub expiry_secs: u32,
    /// Subscriptions, at most [`Limits::session_subscriptions_max`].
    pub subscriptions: usize,
    /// Messages offered and not yet accepted by the transport, at most [`Limits::max_queue_depth`].
    pub waiting: usize,
    /// QoS 1 and 2 messages sent and not completely acknowledged, at most [`Limits::max_inflight`].
    pub inflight: usize,
    /// QoS 2 messages of the Client that it has not released, at most [`Limits::receive_maximum`]; 65 535 of a
    /// Client of MQTT 3.x.
    pub receiving: usize,
    /// What was offered to it and what became of that.
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
            in_process: cell.in_process,
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
