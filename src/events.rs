//! What happens to a broker, as values: the events that [`Broker::events`](crate::Broker::events) streams.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use async_broadcast::RecvError;

use crate::access::Rule;
use crate::error::Fault;
use crate::ledger::DropReason;
use crate::packet::{ProtocolVersion, QoS};
use crate::reason_code::ReasonCode;
use crate::session::Departure;

/// Something that happened to a broker. Texts that come from Clients are as they came: escape them where they are shown.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The clock on the wall when it happened.
    pub at: SystemTime,
    /// What happened.
    pub what: Happening,
}

/// What an [`Event`] tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// A CONNECT was accepted.
    Connected {
        /// The Client.
        client: ClientOrigin,
        /// Clean Start (3.x: Clean Session) of the CONNECT.
        clean_start: bool,
        /// Session Present of the CONNACK.
        session_present: bool,
        /// Keep Alive in seconds; 0 is off.
        keep_alive_secs: u16,
    },
    /// The Server ended a connection before its CONNECT was accepted: the CONNECT was refused, or the peer before it. A
    /// peer that goes by itself before is not told of.
    Refused {
        /// The peer. Before a CONNECT its Client Identifier is empty; its user name is the one that it claimed.
        client: ClientOrigin,
        /// The Reason Code in the terms of MQTT 5.
        code: ReasonCode,
        /// Why, for people: the limit, the rule or the fault. It may quote the peer.
        why: String,
    },
    /// A Network Connection with an accepted CONNECT ended.
    Disconnected {
        /// The Client.
        client: ClientOrigin,
        /// Why it ended.
        cause: DisconnectCause,
    },
    /// A subscription was made or replaced.
    Subscribed {
        /// The Client Identifier.
        client_id: Arc<str>,
        /// The Topic Filter, with `$share/NAME/` if it is shared.
        filter: String,
        /// The QoS that was granted.
        qos: QoS,
    },
    /// A subscription was removed by UNSUBSCRIBE.
    Unsubscribed {
        /// The Client Identifier.
        client_id: Arc<str>,
        /// The Topic Filter.
        filter: String,
    },
    /// The access rules denied an action of a Client that is connected.
    Denied {
        /// The Client Identifier.
        client_id: Arc<str>,
        /// `publish`, `subscribe`, `unsubscribe` or `receive`.
        action: &'static str,
        /// The Topic Name or Topic Filter.
        topic: String,
        /// The rule that decided.
        rule: Rule,
    },
    /// The queue of a Session has been at or above [`Limits::slow_consumer_percent`](crate::Limits) of its depth for
    /// [`Limits::slow_consumer_secs`](crate::Limits). Messages will be dropped when it is full.
    Slow {
        /// The Client Identifier.
        client_id: Arc<str>,
        /// Messages that wait.
        waiting: usize,
        /// The number of messages at which the next one is dropped.
        depth: usize,
    },
    /// The queue of a Session that was slow is shorter than half of that share, or the Session has ended.
    NoLongerSlow {
        /// The Client Identifier.
        client_id: Arc<str>,
    },
    /// Messages for one Session were dropped for one reason since the last event of this kind: one a second at most, and
    /// one when the Session ends. The sums are those of [`Ledger::dropped`](crate::Ledger::dropped) since the first
    /// receiver.
    Dropped {
        /// The Client Identifier; empty of messages whose Session had ended before they came.
        client_id: Arc<str>,
        /// The reason.
        reason: DropReason,
        /// The number of messages.
        messages: u64,
    },
    /// A listener was added.
    ListenerAdded {
        /// Its name.
        name: String,
        /// Its bound endpoints.
        endpoints: Vec<String>,
    },
    /// A listener was stopped, and its Clients were disconnected.
    ListenerStopped {
        /// Its name.
        name: String,
    },
    /// A new configuration is in force.
    Reloaded {
        /// What changed, one line each.
        changes: Vec<String>,
    },
    /// A new configuration was refused, and the old one stays in force.
    ReloadFailed {
        /// What is wrong, one line each.
        errors: Vec<String>,
    },
}

/// A Client and the way by which it came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientOrigin {
    /// The Client Identifier.
    pub client_id: Arc<str>,
    /// The user name that the access rules know it by; `None` without a policy or for an anonymous Client.
    pub user_name: Option<Arc<str>>,
    /// The address of the Client, that behind a trusted proxy if there is one; `None` if the transport has none.
    pub address: Option<SocketAddr>,
    /// The name of the listener.
    pub listener: Arc<str>,
    /// The protocol version of its CONNECT; `None` before a CONNECT.
    pub version: Option<ProtocolVersion>,
}

/// Why a Network Connection with an accepted CONNECT ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectCause {
    /// The Client sent DISCONNECT with this Reason Code (3.x: 0x00).
    ByClient(ReasonCode),
    /// The stream ended or broke without DISCONNECT: what failed, and the error of the transport if there was one.
    Lost(&'static str, Option<io::ErrorKind>),
    /// The Server ended it, for this reason. A Client of MQTT 5 is sent the Reason Code, if the stream still takes it.
    ByServer(ReasonCode, &'static str),
}

impl DisconnectCause {
    /// The Reason Code in the terms of MQTT 5: the Client's, or the Server's; `None` if the Network Connection was lost.
    #[must_use]
    pub fn code(&self) -> Option<ReasonCode> {
        match self {
            DisconnectCause::ByClient(code) | DisconnectCause::ByServer(code, _) => Some(*code),
            DisconnectCause::Lost(..) => None,
        }
    }

    /// What the end means for the Will: DISCONNECT with 0x00 discards it (MQTT-3.14.4-3).
    pub(crate) fn departure(&self) -> Departure {
        match self {
            DisconnectCause::ByClient(ReasonCode::SUCCESS) => Departure::Normal,
            DisconnectCause::ByClient(_)
            | DisconnectCause::Lost(..)
            | DisconnectCause::ByServer(..) => Departure::Lost,
        }
    }
}

impl From<Fault> for DisconnectCause {
    fn from(fault: Fault) -> DisconnectCause {
        DisconnectCause::ByServer(fault.reason(), fault.detail())
    }
}

impl fmt::Display for DisconnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DisconnectCause::ByClient(code) => write!(f, "DISCONNECT by the Client ({code})"),
            DisconnectCause::Lost(what, None) => write!(f, "connection lost: {what}"),
            DisconnectCause::Lost(what, Some(error)) => {
                write!(f, "connection lost: {what}: {error}")
            }
            DisconnectCause::ByServer(code, why) => write!(f, "{why} ({code})"),
        }
    }
}

/// A receiver of events, made by [`Broker::events`](crate::Broker::events).
///
/// It holds the newest events up to its capacity: a receiver that lags loses the oldest and is told how many.
#[derive(Debug)]
pub struct Events {
    receiver: async_broadcast::Receiver<Arc<Event>>,
    _counted: Hearing,
}

/// A receiver's place in the count of receivers; its drop counts down.
#[derive(Debug)]
pub(crate) struct Hearing(Arc<AtomicUsize>);

impl Hearing {
    pub(crate) fn new(receivers: &Arc<AtomicUsize>) -> Hearing {
        receivers.fetch_add(1, Ordering::Relaxed);
        Hearing(receivers.clone())
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number of events that a receiver lost because it lagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lagged(pub u64);

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events were lost: the receiver lagged", self.0)
    }
}

impl std::error::Error for Lagged {}

impl Events {
    pub(crate) fn of(receiver: async_broadcast::Receiver<Arc<Event>>, counted: Hearing) -> Events {
        Events { receiver, _counted: counted }
    }

    /// Waits for the next event. `None` after the broker has stopped.
    ///
    /// # Errors
    /// [`Lagged`], once: so many events were lost. The next call returns the oldest event that is held.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, Lagged>> {
        match self.receiver.recv_direct().await {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Overflowed(lost)) => Some(Err(Lagged(lost))),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MQTT-3.14.4-3: only DISCONNECT with 0x00 discards the Will.
    #[test]
    fn each_cause_has_its_code_its_text_and_its_effect_on_the_will() {
        let code = ReasonCode::KEEP_ALIVE_TIMEOUT;
        let reset = Some(io::ErrorKind::ConnectionReset);
        for (cause, told, departure, text) in [
            (
                DisconnectCause::ByClient(ReasonCode::SUCCESS),
                Some(ReasonCode::SUCCESS),
                Departure::Normal,
                "DISCONNECT by the Client (0x00 Success)",
            ),
            (
                DisconnectCause::ByClient(ReasonCode::DISCONNECT_WITH_WILL),
                Some(ReasonCode::DISCONNECT_WITH_WILL),
                Departure::Lost,
                "DISCONNECT by the Client (0x04 Disconnect with Will Message)",
            ),
            (
                DisconnectCause::Lost("the end", None),
                None,
                Departure::Lost,
                "connection lost: the end",
            ),
            (
                DisconnectCause::Lost("the stream cannot be read", reset),
                None,
                Departure::Lost,
                "connection lost: the stream cannot be read: connection reset",
            ),
            (
                Fault::Server(code, "too late").into(),
                Some(code),
                Departure::Lost,
                "too late (0x8D Keep Alive timeout)",
            ),
            (
                Fault::Protocol("two CONNECTs").into(),
                Some(ReasonCode::PROTOCOL_ERROR),
                Departure::Lost,
                "two CONNECTs (0x82 Protocol Error)",
            ),
        ] {
            assert_eq!((cause.code(), cause.departure()), (told, departure), "{cause}");
            assert_eq!(cause.to_string(), text);
        }
    }
}
