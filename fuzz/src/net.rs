//! One Network Connection as its Client sees it.

use std::collections::{BTreeMap, BTreeSet};

use super::{DENIED, number};
use crate::connection::Connection;
use crate::packet::PacketId;
use crate::session::outgoing::Outgoing;
use crate::session::{Session, Terms};
use crate::targets::server::{self, CONNACK, DISCONNECT, PUBLISH, Packet};

/// A Network Connection.
pub(super) struct Net {
    pub(super) connection: Connection,
    /// Bytes of the Client that are no whole packet yet.
    pub(super) received: Vec<u8>,
    /// Answers that are in no batch yet.
    pub(super) answers: Vec<u8>,
    pub(super) closed: bool,
    /// By which the Session knows it.
    pub(super) epoch: Option<u64>,
    terms: Option<Terms>,
    /// Everything that was encoded for it, and how much of that the transport took.
    stream: Vec<u8>,
    pub(super) taken: usize,
    packets: usize,
    /// PUBLISH of QoS 1 and 2 that use up the send quota.
    pub(super) open: BTreeSet<u16>,
    aliases: BTreeMap<u16, String>,
}

impl Net {
    pub(super) fn new(connection: Connection) -> Net {
        Net {
            connection,
            received: Vec::new(),
            answers: Vec::new(),
            closed: false,
            epoch: None,
            terms: None,
            stream: Vec::new(),
            taken: 0,
            packets: 0,
            open: BTreeSet::new(),
            aliases: BTreeMap::new(),
        }
    }

    pub(super) fn attach(&mut self, epoch: u64, terms: Terms) {
        self.epoch = Some(epoch);
        self.terms = Some(terms);
    }

    /// Whether it has the Session.
    pub(super) fn is_attached(&self, session: &Session) -> bool {
        session.is_attached() && self.epoch == Some(session.epoch()) && !self.closed
    }

    /// A message is completely acknowledged.
    pub(super) fn completed(&mut self, id: PacketId) {
        self.open.remove(&number(id));
    }

    /// The bytes of a batch: what was not taken of the ones before, and whole packets.
    pub(super) fn wrote(&mut self, batch: &[u8]) {
        let rest = self.stream.split_off(self.taken);
        assert!(batch.starts_with(&rest), "what was not taken goes first, unaltered");
        self.stream.extend_from_slice(batch);
        let fresh = &batch[rest.len()..];
        for packet in server::packets(self.connection.version(), fresh) {
            self.sent(&packet);
        }
    }

    /// What the Server may send at this moment.
    fn sent(&mut self, packet: &Packet) {
        self.packets += 1;
        let first = self.packets == 1;
        assert_eq!(packet.kind == CONNACK, first, "MQTT-3.2.0-1, -2: {packet:?}");
        let Some(terms) = self.terms else {
            return assert_ne!(packet.reason, 0, "MQTT-3.1.4-5: nothing but a refusal");
        };
        let max = terms.maximum_packet_size.unwrap_or(u32::MAX) as usize;
        assert!(packet.size <= max, "MQTT-3.1.2-24: {packet:?}");
        assert!(packet.kind != DISCONNECT || self.closed, "nothing follows a DISCONNECT");
        if packet.kind == PUBLISH {
            self.published(packet, terms);
        }
    }

    fn published(&mut self, packet: &Packet, terms: Terms) {
        let mut topic = packet.topic.clone();
        if let Some(alias) = packet.alias {
            let range = 1..=terms.topic_alias_maximum;
            assert!(range.contains(&alias), "MQTT-3.1.2-26, -27: {packet:?}");
            if topic.is_empty() {
                topic = self.aliases.get(&alias).expect("section 3.3.2.3.4").clone();
            }
            self.aliases.insert(alias, topic.clone());
        }
        assert!(topic != DENIED, "it may not be received");
        let Some(id) = packet.id else { return };
        assert!(self.open.insert(id), "MQTT-2.2.1-4: {packet:?}");
        assert!(self.open.len() <= usize::from(terms.quota), "MQTT-4.9.0-2: {packet:?}");
    }
}

/// All bytes of a batch.
pub(super) fn flatten(out: &Outgoing) -> Vec<u8> {
    let bytes = out
        .with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>());
    assert_eq!(bytes.len(), out.len());
    bytes
}
