//! The one place where access is decided: for CONNECT, PUBLISH, Will and SUBSCRIBE, and for every delivery, whether
//! its message is live, queued, retained, shared or resumed.
//!
//! Without a policy, everything that the protocol allows is allowed, and credentials are not read. The Topic Names
//! that are reserved for the Server are checked here with or without a policy.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::Fault;
use crate::packet::Connect;
use crate::transport::PeerInfo;

/// A decision about a CONNECT that may take time.
pub(crate) type ConnectDecision = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// The access rules of a broker.
pub(crate) trait Policy: Send + Sync {
    /// Decides about a CONNECT. The future owns its data; it must not block the event loop.
    fn connect(&self, peer: &PeerInfo, connect: &Connect<'_>) -> ConnectDecision;

    /// Whether a Client may publish to a Topic Name.
    fn may_publish(&self, client_id: &str, topic: &str) -> bool;

    /// Whether a Client may subscribe with a Topic Filter.
    fn may_subscribe(&self, client_id: &str, filter: &str) -> bool;

    /// Whether a message with this Topic Name may be sent to a Client at this moment.
    fn may_receive(&self, client_id: &str, topic: &[u8]) -> bool;
}

/// Why a message may not be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The Topic Name belongs to the Server: `$SYS` and everything below, and what would look like a
    /// shared subscription.
    Reserved,
    /// The policy does not allow it.
    ByPolicy,
}

/// Answers the questions about access, by the policy if there is one.
#[derive(Default)]
pub(crate) struct AccessControl {
    policy: Option<Arc<dyn Policy>>,
}

impl AccessControl {
    /// Rules for a broker.
    #[cfg(test)]
    pub(crate) fn with(policy: Arc<dyn Policy>) -> AccessControl {
        AccessControl { policy: Some(policy) }
    }

    /// The decision about a CONNECT; `None` accepts it at once.
    pub(crate) fn connect(
        &self,
        peer: &PeerInfo,
        connect: &Connect<'_>,
    ) -> Option<ConnectDecision> {
        self.policy.as_ref().map(|policy| policy.connect(peer, connect))
    }

    /// Whether a message may be published. `in_process` is the program that runs the broker.
    pub(crate) fn publish(
        &self,
        client_id: &str,
        in_process: bool,
        topic: &str,
    ) -> Result<(), Denied> {
        if in_process {
            return Ok(());
        }
        if is_for_the_server(topic) {
            return Err(Denied::Reserved);
        }
        match &self.policy {
            Some(policy) if !policy.may_publish(client_id, topic) => Err(Denied::ByPolicy),
            _ => Ok(()),
        }
    }

    pub(crate) fn may_subscribe(&self, client_id: &str, filter: &str) -> bool {
        self.policy.as_ref().is_none_or(|policy| policy.may_subscribe(client_id, filter))
    }

    pub(crate) fn may_receive(&self, client_id: &str, topic: &[u8]) -> bool {
        self.policy.as_ref().is_none_or(|policy| policy.may_receive(client_id, topic))
    }
}

impl fmt::Debug for AccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessControl").field("policy", &self.policy.is_some()).finish()
    }
}

fn is_for_the_server(topic: &str) -> bool {
    topic.starts_with('$')
        && ["$SYS", "$share"].iter().any(|root| {
            topic.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_do_not_write_where_the_server_does_pitfall_7() {
        let access = AccessControl::default();
        for topic in ["$SYS", "$SYS/", "$SYS/broker/uptime", "$share", "$share/g/t"] {
            assert_eq!(access.publish("c", false, topic), Err(Denied::Reserved), "{topic}");
            assert_eq!(access.publish("c", true, topic), Ok(()), "{topic}");
        }
        for topic in ["$SYSTEM", "$sys/a", "a/$SYS", "$shared/a", "$other"] {
            assert_eq!(access.publish("c", false, topic), Ok(()), "{topic}");
        }
    }

    #[test]
    fn reading_what_the_server_writes_is_allowed() {
        let access = AccessControl::default();
        assert!(access.may_subscribe("c", "$SYS/#"));
        assert!(access.may_receive("c", b"$SYS/a"));
    }
}
