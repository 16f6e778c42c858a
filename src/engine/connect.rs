//! Gives an accepted CONNECT its Session.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use super::access::{Asker, Denied, Rules, Subject};
use super::holder::{Holder, Succession};
use super::origin::Origin;
use super::registry::Claim;
use super::session_cell::{CellState, Link, Owner, SessionCell};
use super::session_end::taken_over;
use super::standstill::AtWork;
use super::state::Engine;
use crate::access::{Identity, Refusal, Rule};
use crate::connection::{Accepted, Connection};
use crate::counters::count_one;
use crate::error::Fault;
use crate::limits::Limits;
use crate::listener_rules::MountPoint;
use crate::message::Message;
use crate::packet::{Connect, ConnectWill, ReasonCode};
use crate::session::will::Will;
use crate::time::Timestamp;
use crate::topic;
use crate::transport::PeerInfo;

const OF_ANOTHER: Rule = Rule::named(
    "the Session of this Client Identifier is another user's, or another mount point's",
);

/// The Session of an accepted CONNECT.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) cell: Arc<SessionCell>,
    pub(crate) epoch: u64,
    pub(crate) session_present: bool,
}

/// A CONNECT that was accepted.
pub(crate) struct Admitted<'a> {
    pub(crate) client_id: &'a str,
    /// The Server has assigned the Client Identifier.
    pub(crate) assigned: bool,
    /// `None` without a policy.
    pub(crate) identity: Option<Identity>,
    /// In seconds, after the Server has set its own; 0 is off.
    pub(crate) keep_alive_secs: u16,
    /// The rules that accepted it.
    pub(crate) rules: &'a Rules,
    /// The limits that its Network Connection began with.
    pub(crate) limits: &'a Limits,
}

/// The first bytes for a new Network Connection.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    /// Bytes of an AUTH that was counted before.
    pub(crate) rest: &'a mut Vec<u8>,
    /// Whole packets, CONNACK first.
    pub(crate) packets: &'a mut Vec<u8>,
}

/// The Session of a Client Identifier, and whether it existed before.
struct Claimed {
    cell: Arc<SessionCell>,
    present: bool,
}

impl Engine {
    /// Carries out an accepted CONNECT: claims the Session, settles the old Will, orders the previous Network
    /// Connection to close (MQTT-3.1.4-2, -3), and makes CONNACK the first packet for the new Network Connection,
    /// whichever task writes to it (MQTT-3.2.0-1).
    pub(crate) fn open(
        self: &Arc<Self>,
        connect: &Connect<'_>,
        admitted: &Admitted<'_>,
        peer: &PeerInfo,
        link: &Link,
        now: Timestamp,
        mut connack: impl FnMut(&Accepted<'_>, Opening<'_>),
    ) -> Result<Opened, Fault> {
        let _at_work = self.let_in()?;
        let Admitted { client_id, assigned, limits, .. } = *admitted;
        let mut subject = admitted.identity.clone().map(|identity| {
            Subject::new(identity).with_peer(peer).admitted_by(admitted.rules.number)
        });
        let mount = peer.mount_point();
        let will = connect.will.as_ref();
        let will = will.map(|will| self.take_will(client_id, &mut subject, will, mount, limits));
        let will = will.transpose()?;
        let expiry_secs = connect.session_expiry_secs.min(limits.session_expiry_secs_max);
        let terms = Connection::terms(connect, limits);
        let holder = Holder::new(admitted.identity.as_ref(), mount);
        let (holder, wall) = (holder.as_deref(), self.host.wall());
        loop {
            let fresh = connect.clean_start && !assigned;
            let Claimed { cell, present } = self.claim(admitted, holder, peer, fresh)?;
            if present && assigned {
                // MQTT-3.2.2-16: another Client has taken it since it was assigned.
                let detail = "the assigned Client Identifier was taken meanwhile";
                return Err(Fault::Refused(ReasonCode::SERVER_BUSY, detail));
            }
            // If another CONNECT took the Session after its Will was settled, claim again.
            let settled = if present { self.settle_will(&cell) } else { Some(0) };
            let mut state = cell.lock_between_writes();
            let unchanged = settled == Some(state.session.epoch());
            let over = present && state.session.expiry_secs() == 0;
            // Also if the Session, which was nobody's, has become another user's meanwhile.
            let lost = cell.succession(holder) != Succession::Resume;
            if state.session.has_ended() || !unchanged || over || lost {
                continue;
            }
            let torn = state.is_amid_packet();
            let (epoch, _unsent) = state.session.attach(terms, expiry_secs, will.clone());
            if let Some(mount) = mount {
                state.session.mount(mount.text());
            }
            let (mut rest, mut first) = (Vec::new(), Vec::new());
            let accepted = Accepted {
                session_present: present,
                assigned_client_id: assigned.then_some(client_id),
                session_expiry_secs: (expiry_secs != connect.session_expiry_secs)
                    .then_some(expiry_secs),
            };
            connack(&accepted, Opening { rest: &mut rest, packets: &mut first });
            state.session.append_rest(epoch, &mut rest);
            state.session.append_protocol(epoch, &mut first);
            let origin = Origin::new(connect, admitted.keep_alive_secs, peer, wall);
            give_to(&mut state, link.clone(), torn, origin, wall);
            state.subject = subject.take();
            cell.set_barred(false);
            cell.set_holder(holder);
            cell.set_connected(&state, true);
            self.watch_expiry(&cell, &mut state, now);
            if self.access.generation() != admitted.rules.generation {
                self.recheck(&cell, &state); // the rules have changed since they accepted it
            }
            drop(state);
            return Ok(Opened { cell, epoch, session_present: present });
        }
    }

    /// Lets a CONNECT in, unless the Sessions are handed over.
    fn let_in(&self) -> Result<AtWork, Fault> {
        let at_work = self.standstill.begin_work();
        if self.standstill.is_closing() {
            let detail = "the broker hands its Sessions over";
            return Err(Fault::Refused(ReasonCode::SERVER_UNAVAILABLE, detail));
        }
        Ok(at_work)
    }

    /// Settles the Will of a Session before a new Network Connection gets the Session: publishes or discards it.
    /// Returns the epoch for which that was done; `None` if the Session ends, because it lasts no longer than the
    /// Network Connection that is replaced (MQTT-3.1.2-6 in 3.1.1, section 3.1.2.11.2).
    fn settle_will(self: &Arc<Self>, cell: &Arc<SessionCell>) -> Option<u64> {
        let (will, epoch) = {
            let mut state = cell.lock();
            if state.session.has_ended() {
                return None;
            }
            if state.session.expiry_secs() == 0 {
                drop(state);
                self.end_session(cell, |session| session.expiry_secs() == 0);
                return None;
            }
            let will = state.session.take_will_for_resumption();
            (self.judge_will(cell, &mut state, will), state.session.epoch())
        };
        self.publish_leftovers(cell, will, Vec::new());
        Some(epoch)
    }

    /// Finds or makes the Session of a Client Identifier, and ends a Session that the new one replaces.
    fn claim(
        self: &Arc<Self>,
        admitted: &Admitted<'_>,
        holder: Option<&Holder>,
        peer: &PeerInfo,
        fresh: bool,
    ) -> Result<Claimed, Fault> {
        let client_id = admitted.client_id;
        match self.registry.claim(client_id, fresh, Owner::Network, holder, &self.limits()) {
            Claim::New { cell, replaced } => {
                if let Some(old) = replaced {
                    self.end_session(&old, |_| true);
                }
                Ok(Claimed { cell, present: false })
            }
            Claim::Existing(cell) if cell.lock().session.has_ended() => {
                // The task that ends it will remove it; this removes it earlier.
                self.registry.remove(&cell);
                self.claim(admitted, holder, peer, fresh)
            }
            Claim::Existing(cell) => Ok(Claimed { cell, present: true }),
            Claim::InProcess => {
                let detail = "the Client Identifier is in use inside the server's process";
                Err(Fault::Refused(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, detail))
            }
            Claim::OfAnother => {
                let reason = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
                let user = admitted.identity.as_ref().and_then(Identity::user_name);
                self.access.refused(client_id, user, peer, &Refusal::new(reason, OF_ANOTHER));
                let detail = "the Client Identifier is in use by another user";
                Err(Fault::Refused(reason, detail))
            }
            Claim::Full => {
                count_one(&self.counts.sessions_refused);
                Err(Fault::Refused(ReasonCode::QUOTA_EXCEEDED, "sessions_max is reached"))
            }
        }
    }

    fn take_will(
        &self,
        client_id: &str,
        subject: &mut Option<Box<Subject>>,
        will: &ConnectWill<'_>,
        mount: Option<&MountPoint>,
        limits: &Limits,
    ) -> Result<Will, Fault> {
        let topic = mounted_name(mount, will.topic);
        self.check_topic_name(&topic, limits)?;
        let asker = Asker { client_id, trusted: false };
        if self.access.publish(asker, subject, &topic) == Err(Denied::ByPolicy) {
            let detail = "the Will may not be published";
            return Err(Fault::Refused(ReasonCode::NOT_AUTHORIZED, detail));
        }
        let message = Message::from_packet(&topic, &will.properties, will.payload, None)
            .with_qos(will.qos)
            .with_retain(will.retain);
        Ok(Will { message, delay_secs: will.delay_secs })
    }

    /// The limits on Topic Names.
    pub(crate) fn check_topic_name(&self, name: &str, limits: &Limits) -> Result<(), Fault> {
        if self.topic_is_within_limits(name, limits) {
            return Ok(());
        }
        Err(Fault::Refused(
            ReasonCode::TOPIC_NAME_INVALID,
            "topic_levels_max or topic_bytes_max is exceeded",
        ))
    }

    /// The limits on Topic Names and Topic Filters.
    pub(crate) fn topic_is_within_limits(&self, text: &str, limits: &Limits) -> bool {
        // A text of so many bytes cannot have more levels.
        let few_levels =
            text.len() < limits.topic_levels_max || topic::levels(text) <= limits.topic_levels_max;
        let within = few_levels && text.len() <= limits.topic_bytes_max;
        if !within {
            count_one(&self.counts.topics_refused);
        }
        within
    }
}

/// Gives the Session to a new Network Connection, and orders the one that had it to close. Called with the lock held: a
/// Network Connection that finds another epoch finds the order, too.
fn give_to(state: &mut CellState, link: Link, torn: bool, origin: Origin, wall: SystemTime) {
    if let Some(before) = state.link.replace(link) {
        let order = taken_over(torn);
        before.mailbox.order(order);
        state.depart(order.fault().into(), wall);
    }
    state.arrive(origin);
}

/// The whole Topic Name of one that a Client of this listener has sent.
#[inline]
pub(crate) fn mounted_name<'n>(mount: Option<&MountPoint>, name: &'n str) -> Cow<'n, str> {
    match mount {
        None => Cow::Borrowed(name),
        Some(mount) => Cow::Owned(mount.name(name)),
    }
}
