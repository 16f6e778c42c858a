//! Messages that are not completely acknowledged: Packet Identifiers and the send quota, for QoS 1 and 2 to the Client
//! and for QoS 2 from it. Each direction has its own identifiers.

use std::collections::VecDeque;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::outgoing::Taken;
use super::queue::Delivery;
use crate::packet::{PacketId, QoS, ReasonCode};

/// Identifiers repeat after this many.
const IDENTIFIERS: u16 = 65_535;

/// A message that the Client has not completely acknowledged.
#[derive(Debug)]
struct Sent {
    id: PacketId,
    /// Counts all identifiers that were ever looked at, so that equal ones are [`IDENTIFIERS`] apart.
    serial: u64,
    /// The message, until PUBREC shows that the Client has it; then only PUBREL is sent again
    /// (MQTT-4.3.3-6).
    delivery: Option<Delivery>,
}

/// The effect of an acknowledgement from the Client.
#[derive(Debug)]
pub(crate) enum Acknowledged {
    /// The message is completed (PUBACK, PUBCOMP) or refused (a Reason Code of 0x80 or greater).
    Completed { refused: bool },
    /// PUBREC: the answer is PUBREL.
    Received,
    /// No such Packet Identifier is in use.
    Unknown,
    /// The acknowledgement of another QoS, or in the wrong order.
    Unexpected,
}

/// A packet that is sent again after the Session was resumed (MQTT-4.4.0-1).
#[derive(Debug)]
pub(crate) enum Resend<'a> {
    Publish {
        id: PacketId,
        dup: bool,
        /// Its number, if it still waits for a transport to take it wholly.
        waiting: Option<u64>,
        delivery: &'a Delivery,
    },
    PubRel(PacketId),
}

/// Messages sent at QoS 1 and 2 in the order of their sending.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    entries: VecDeque<Sent>,
    /// The first so many were sent on the present Network Connection; they use up the send quota.
    sent: usize,
    /// The serial of the last identifier, and the identifier.
    issued: u64,
    last_id: u16,
    /// Below this serial a transport took a byte of every message: sending it again is a
    /// retransmission, and DUP says so (MQTT-3.3.1-1).
    begun: u64,
    /// Below this serial a transport took all of every message: it does not wait any more.
    accepted: u64,
}

/// The messages in flight as a value.
#[derive(Debug, Clone, Default)]
pub(crate) struct InflightState {
    /// Identifiers that were ever looked at: the serial of the last one.
    pub(crate) issued: u64,
    /// Below this serial the Client may have a byte of every message.
    pub(crate) begun: u64,
    /// Below this serial a transport took all of every message.
    pub(crate) accepted: u64,
    /// In the order of their sending: the serial, which determines the Packet Identifier, and the message until PUBREC.
    pub(crate) sent: Vec<(u64, Option<Delivery>)>,
}

impl InflightState {
    /// Whether no identifier was ever used.
    pub(crate) fn is_unused(&self) -> bool {
        self.issued == 0
    }

    /// What keeps it from being the state of a Session, if anything does.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let serials = || self.sent.iter().map(|(serial, _)| *serial);
        if serials().zip(serials().skip(1)).any(|(one, next)| one >= next) {
            return Some("messages in flight are not in the order of their sending");
        }
        if self.sent.last().is_some_and(|(last, _)| *last > self.issued)
            || self.sent.first().is_some_and(|(first, _)| *first == 0)
            || self.issued == u64::MAX
        {
            return Some("a message in flight has a number that was not given out");
        }
        if self.accepted > self.begun || self.begun > self.issued + 1 {
            return Some("more messages were sent than numbers given out");
        }
        let released = |(serial, delivery): &(u64, Option<Delivery>)| {
            delivery.as_ref().map_or(*serial >= self.accepted, |d| d.qos == QoS::AtMostOnce)
        };
        if self.sent.iter().any(released) {
            return Some(
                "a message in flight has the wrong QoS, or was released before it was sent",
            );
        }
        let mut ids: Vec<u16> = serials().map(identifier).collect();
        ids.sort_unstable();
        let twice = ids.windows(2).any(|pair| pair.first() == pair.last());
        twice.then_some("two messages in flight have one Packet Identifier")
    }
}

/// The Packet Identifier with this serial: they are given out in turn.
fn identifier(serial: u64) -> u16 {
    let turn = serial.saturating_sub(1) % u64::from(IDENTIFIERS);
    u16::try_from(turn).unwrap_or_default() + 1
}

impl Inflight {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The messages behind the first `skip`, in the order of their sending: the Packet Identifier, whether the message
    /// still waits for a transport to take it wholly, and the message, unless PUBREC has shown that the Client has it.
    pub(crate) fn list(
        &self,
        skip: usize,
    ) -> impl Iterator<Item = (PacketId, bool, Option<&Delivery>)> {
        let entries = self.entries.range(skip.min(self.entries.len())..);
        entries.map(|entry| (entry.id, entry.serial >= self.accepted, entry.delivery.as_ref()))
    }

    /// The state as a value. Without a Network Connection nothing is being sent.
    pub(crate) fn export(&self) -> InflightState {
        let (issued, begun, accepted) = (self.issued, self.begun, self.accepted);
        let sent = self.entries.iter().map(|entry| (entry.serial, entry.delivery.clone()));
        InflightState { issued, begun, accepted, sent: sent.collect() }
    }

    /// Takes a state that has no [fault](InflightState::fault), before anything was sent.
    pub(crate) fn import(&mut self, state: InflightState) {
        let InflightState { issued, begun, accepted, sent } = state;
        let entries = sent.into_iter().filter_map(|(serial, delivery)| {
            Some(Sent { id: PacketId::new(identifier(serial))?, serial, delivery })
        });
        let last_id = if issued == 0 { 0 } else { identifier(issued) };
        *self = Inflight { entries: entries.collect(), sent: 0, issued, last_id, begun, accepted };
    }

    /// Whether another PUBLISH may be sent (MQTT-4.9.0-2).
    pub(crate) fn has_quota(&self, quota: u16) -> bool {
        self.sent < usize::from(quota)
    }

    /// Whether something of an earlier Network Connection is still to be sent again.
    pub(crate) fn needs_resend(&self) -> bool {
        self.sent < self.entries.len()
    }

    /// The last so many messages wait for a transport to take them wholly.
    pub(crate) fn waiting_len(&self) -> usize {
        if self.entries.back().is_none_or(|newest| newest.serial < self.accepted) {
            return 0;
        }
        self.entries.len() - self.entries.partition_point(|entry| entry.serial < self.accepted)
    }

    /// Takes a message that is sent for the first time under the last identifier from
    /// [`Inflight::next_id`], and returns its number. Only while [`Inflight::has_quota`] and not
    /// [`Inflight::needs_resend`].
    pub(crate) fn begin(&mut self, id: PacketId, delivery: Delivery) -> u64 {
        let serial = self.issued;
        self.entries.push_back(Sent { id, serial, delivery: Some(delivery) });
        self.sent += 1;
        serial
    }

    /// Records how much the transport took.
    pub(crate) fn taken(&mut self, taken: Taken) {
        let after = |serial: Option<u64>| serial.map_or(0, |serial| serial + 1);
        self.accepted = self.accepted.max(after(taken.accepted));
        self.begun = self.begun.max(after(taken.begun)).max(self.accepted);
    }

    /// Gives up a message that cannot be sent again. Whether it was there.
    pub(crate) fn abandon(&mut self, id: PacketId) -> bool {
        let index = self.find(id);
        index.is_some_and(|index| {
            matches!(self.complete(index, true), Acknowledged::Completed { .. })
        })
    }

    /// Gives up the content of a message of QoS 2 and goes on as after PUBREC: the Client may have it, and then it must
    /// free the identifier, or it would take a later message for this one (MQTT-4.3.3-10).
    pub(crate) fn release(&mut self, id: PacketId) {
        let index = self.find(id);
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.delivery = None;
        }
    }

    /// A Packet Identifier that is not in use (MQTT-2.2.1-4).
    pub(crate) fn next_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let Some(id) = PacketId::new(self.last_id) else { continue };
            self.issued += 1;
            let oldest = self.entries.front().map_or(self.issued, |entry| entry.serial);
            if self.issued - oldest < u64::from(IDENTIFIERS) || self.find(id).is_none() {
                return id;
            }
        }
    }

    /// The next packet to send again, in the original order (MQTT-4.6.0-1), within the quota.
    pub(crate) fn next_resend(&mut self, quota: u16) -> Option<Resend<'_>> {
        if !self.has_quota(quota) {
            return None;
        }
        let entry = self.entries.get(self.sent)?;
        self.sent += 1;
        let dup = entry.serial < self.begun;
        let waiting = (entry.serial >= self.accepted).then_some(entry.serial);
        Some(match &entry.delivery {
            Some(delivery) => Resend::Publish { id: entry.id, dup, waiting, delivery },
            None => Resend::PubRel(entry.id),
        })
    }

    /// Prepares all messages to be sent again on the next Network Connection. `certain`: no batch is being written
    /// whose bytes may still be reported as [taken](Inflight::taken).
    pub(crate) fn restart(&mut self, certain: bool) {
        let last = self.sent.checked_sub(1).and_then(|index| self.entries.get(index));
        if let (Some(last), false) = (last, certain) {
            self.begun = self.begun.max(last.serial + 1);
        }
        self.sent = 0;
    }

    /// PUBACK (MQTT-4.3.2-3).
    pub(crate) fn puback(&mut self, id: PacketId, reason: ReasonCode) -> Acknowledged {
        let Some(index) = self.find(id) else { return Acknowledged::Unknown };
        match self.stage(index) {
            Some(QoS::AtLeastOnce) => {
                self.arrived(index);
                self.complete(index, reason.is_error())
            }
            _ => Acknowledged::Unexpected,
        }
    }

    /// An acknowledgement shows that the transport took this message and all before it, even if the task that
    /// wrote them has not ended its batch yet.
    fn arrived(&mut self, index: usize) {
        let serial = self.entries.get(index).map(|entry| entry.serial);
        self.taken(Taken { accepted: serial, ..Taken::default() });
    }

    /// PUBREC (MQTT-4.3.3-4). With an error the message is over and never sent again (MQTT-4.4.0-2).
    pub(crate) fn pubrec(&mut self, id: PacketId, reason: ReasonCode) -> Acknowledged {
        let Some(index) = self.find(id) else { return Acknowledged::Unknown };
        if self.stage(index) == Some(QoS::ExactlyOnce) {
            self.arrived(index);
        }
        match self.stage(index) {
            Some(QoS::ExactlyOnce) if reason.is_error() => self.complete(index, true),
            Some(QoS::ExactlyOnce) => {
                if let Some(entry) = self.entries.get_mut(index) {
                    entry.delivery = None;
                }
                Acknowledged::Received
            }
            // A repeated PUBREC of a message that was already released is answered by PUBREL again.
            None => Acknowledged::Received,
            Some(_) => Acknowledged::Unexpected,
        }
    }

    /// PUBCOMP (MQTT-4.3.3-5).
    pub(crate) fn pubcomp(&mut self, id: PacketId) -> Acknowledged {
        let Some(index) = self.find(id) else { return Acknowledged::Unknown };
        match self.stage(index) {
            None => self.complete(index, false),
            Some(_) => Acknowledged::Unexpected,
        }
    }

    /// The QoS of the message that awaits its first acknowledgement; `None` once it was released.
    fn stage(&self, index: usize) -> Option<QoS> {
        self.entries.get(index)?.delivery.as_ref().map(|delivery| delivery.qos)
    }

    fn complete(&mut self, index: usize, refused: bool) -> Acknowledged {
        self.entries.remove(index);
        if index < self.sent {
            self.sent -= 1;
        }
        if self.entries.is_empty() {
            self.entries.shrink_to(64);
        }
        Acknowledged::Completed { refused }
    }

    /// Acknowledgements mostly come in order, so that the distance from the oldest is the place, or a
    /// little more than the place where some are missing before it.
    fn find(&self, id: PacketId) -> Option<usize> {
        let (value, oldest) = (id.get(), self.entries.front()?.id.get());
        let guess = usize::from(match value.checked_sub(oldest) {
            Some(distance) => distance,
            None => IDENTIFIERS - oldest + value,
        });
        if self.entries.get(guess).is_some_and(|entry| entry.id == id) {
            return Some(guess);
        }
        self.entries.iter().position(|entry| entry.id == id)
    }

    /// Takes out all messages, oldest first; those that were released are only counted. With each goes
    /// whether the Client may have any byte of it.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (bool, Option<Delivery>)> + use<'_> {
        self.sent = 0;
        let begun = self.begun;
        self.entries.drain(..).map(move |entry| (entry.serial < begun, entry.delivery))
    }
}

/// The meaning of a PUBLISH of QoS 2 that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A new message.
    New,
    /// Sent again; it was routed before (MQTT-4.3.3-10).
    Duplicate,
    /// More than Receive Maximum are not completed (MQTT-3.3.4-7).
    Exceeded,
}

/// The Packet Identifiers of QoS 2 messages that were received and not yet released. Hundreds may be open at a time,
/// so a look-up does not walk through all of them.
#[derive(Debug, Default)]
pub(crate) struct Received {
    ids: HashTable<u16>,
}

/// Consecutive identifiers, which most Clients use, have places of their own. A Client that chooses its identifiers
/// otherwise makes its own look-ups longer, by at most [`IDENTIFIERS`] divided by the size of the table.
fn place(id: &u16) -> u64 {
    u64::from(*id).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Received {
    /// A PUBLISH of QoS 2 came in; at most `receive_maximum` may be open.
    pub(crate) fn arrive(&mut self, id: PacketId, receive_maximum: u16) -> Arrival {
        let full = self.ids.len() >= usize::from(receive_maximum);
        let id = id.get();
        match self.ids.entry(place(&id), |&open| open == id, place) {
            Entry::Occupied(_) => Arrival::Duplicate,
            Entry::Vacant(_) if full => Arrival::Exceeded,
            Entry::Vacant(free) => {
                free.insert(id);
                Arrival::New
            }
        }
    }

    /// PUBREL came in: the identifier is free again (MQTT-4.3.3-12). Whether it was in use.
    pub(crate) fn release(&mut self, id: PacketId) -> bool {
        let id = id.get();
        let Ok(entry) = self.ids.find_entry(place(&id), |&open| open == id) else { return false };
        entry.remove();
        if self.ids.is_empty() {
            self.ids.shrink_to(64, place);
        }
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The identifiers in ascending order.
    pub(crate) fn export(&self) -> Vec<u16> {
        let mut ids: Vec<u16> = self.ids.iter().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Notes identifiers that another broker has received.
    pub(crate) fn import(&mut self, ids: &[u16]) {
        for &id in ids {
            if let Some(id) = PacketId::new(id) {
                let _new = self.arrive(id, u16::MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests;
