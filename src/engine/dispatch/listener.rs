//! The rules of the listener, where a CONNECT meets them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Dispatch, End};
use crate::counters::count_one;
use crate::engine::timers::Order;
use crate::error::Fault;
use crate::packet::{Connect, ProtocolVersion, ReasonCode};
use crate::transport::{AcceptedBy, PeerIdentity, PeerInfo};

impl Dispatch {
    /// Checks what a CONNECT asks for before any policy is asked.
    pub(super) fn check_rules_of_listener(&self, connect: &Connect<'_>) -> Result<(), End> {
        let Some(rules) = self.peer.listener_rules() else { return Ok(()) };
        // An empty User Name names nobody, unless a Password comes with it, which may be a token.
        let is_nobody =
            |name: &str| name.is_empty() && connect.password.is_none_or(<[u8]>::is_empty);
        let anonymous = connect.user_name.is_none_or(is_nobody)
            && connect.authentication_method.is_none()
            && !has_user_name(&self.peer);
        let will_qos = connect.will.as_ref().map(|will| will.qos);
        let (reason, detail) = if !rules.versions.contains(connect.version) {
            let detail = "MQTT-3.1.2-2: this listener does not serve this version of MQTT";
            (ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, detail)
        } else if rules.anonymous == Some(false) && anonymous {
            (ReasonCode::NOT_AUTHORIZED, "this listener lets in no Client without a User Name")
        } else if will_qos.is_some_and(|qos| qos > rules.qos_max) {
            // No return code of 3.x says it; this one at least says that it is no matter of the Client's rights.
            let reason = match connect.version.is_v5() {
                true => ReasonCode::QOS_NOT_SUPPORTED,
                false => ReasonCode::SERVER_UNAVAILABLE,
            };
            (reason, "MQTT-3.2.2-12: the QoS of the Will exceeds Maximum QoS")
        } else {
            return Ok(());
        };
        count_one(&self.engine.counts.listener_rules_refused);
        if let Some(listener) = self.peer.accepted_by() {
            count_one(&listener.counts.refused);
        }
        Err(Fault::Refused(reason, detail).into())
    }

    /// Looks whether the present rules of the listener let the Client stay, if the rules have changed. What was agreed
    /// with a Client that is connected, such as Maximum QoS, stays.
    ///
    /// # Errors
    /// Its network or its version of MQTT is not served any more, or its topics have another mount point.
    pub(crate) fn obey_rules_of_listener(&mut self) -> Result<(), End> {
        let mailbox = &self.link.mailbox;
        let order = match mailbox.ordered() {
            Some(order @ Order::ListenerRules) => order,
            // Too late to lose its place. The order may have replaced the one to look at the rules.
            Some(order @ Order::Displaced) if self.session.is_some() => order,
            _ => return Ok(()),
        };
        // Before the look: rules that change meanwhile give the order again.
        mailbox.carried_out(order);
        let Some(before) = self.peer.accepted_by() else { return Ok(()) };
        let Some(listener) = before.latest().cloned() else { return Ok(()) };
        let (old, new) = (&before.rules, &listener.rules);
        let address = self.peer.address().map(|address| address.ip());
        let asked = self.session.is_some() || self.authentication.is_some();
        let unserved = asked && !new.versions.contains(self.connection.version());
        let moved = self.session.is_some() && new.mount_point != old.mount_point;
        if unserved || moved || !new.lets_in(address) {
            count_one(&self.engine.counts.listener_rules_refused);
            return Err(End::Fault(Order::ListenerRules.fault()));
        }
        if !asked {
            self.connection.set_qos_max(new.qos_max);
        }
        self.peer.set_listener(&listener);
        Ok(())
    }

    /// Counts a CONNECT that is accepted for its listener.
    ///
    /// # Errors
    /// The listener has as many Network Connections as it may. A takeover exceeds that only until the previous Network
    /// Connection has closed, if that is one of this listener, too.
    pub(super) fn enter_listener(&self, client_id: &str) -> Result<Option<Arc<AcceptedBy>>, Fault> {
        let Some(listener) = self.peer.accepted_by() else { return Ok(None) };
        let before = listener.counts.connections.fetch_add(1, Ordering::AcqRel);
        listener.of_version(self.connection.version()).fetch_add(1, Ordering::AcqRel);
        let full = listener.rules.connections_max.is_some_and(|max| before >= max);
        if full && !self.engine.registry.is_connected_through(client_id, listener.number) {
            leave_listener(Some(listener), self.connection.version());
            count_one(&self.engine.counts.listener_connections_refused);
            count_one(&listener.counts.refused);
            let detail = "the listener has as many connections as it may";
            return Err(Fault::Refused(ReasonCode::QUOTA_EXCEEDED, detail));
        }
        Ok(Some(listener.clone()))
    }
}

/// Counts a Network Connection of a listener that has ended.
pub(super) fn leave_listener(listener: Option<&AcceptedBy>, version: ProtocolVersion) {
    if let Some(listener) = listener {
        listener.of_version(version).fetch_sub(1, Ordering::AcqRel);
        listener.counts.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the transport gives the Client a user name.
fn has_user_name(peer: &PeerInfo) -> bool {
    match peer.identity() {
        Some(PeerIdentity::Name(_)) => true,
        Some(PeerIdentity::Certificate(names)) => names.user_name.is_some(),
        Some(PeerIdentity::UnixProcess { .. }) | None => false,
    }
}
