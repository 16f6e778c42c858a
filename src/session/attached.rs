//! What a Session knows of its present Network Connection: the Client's terms for receiving, the bytes that the
//! transport has not taken yet, and the size of a batch.

use std::sync::Arc;

use super::outgoing::Outgoing;
use super::queue::Delivery;
use crate::message::Message;
use crate::packet::encode::PublishHead;
use crate::packet::frame::PACKET_BYTES_MAX;
use crate::packet::{PacketId, ProtocolVersion, QoS};
use crate::time::Timestamp;

/// A batch is closed when it holds this many bytes, so that no lock is held and no peer preferred for long.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// As [`BATCH_BYTES`], with the payloads that are shared and not copied.
const BATCH_BYTES_SHARED: usize = 1024 * 1024;

/// From this size a payload is shared with the write instead of copied into the batch: below, a copy is
/// cheaper than one more slice.
pub(super) const SHARED_PAYLOAD_BYTES: usize = 4 * 1024;

/// The Client's terms for receiving, from its CONNECT.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) version: ProtocolVersion,
    /// The smaller of the Client's Receive Maximum and `max_inflight`.
    pub(crate) quota: u16,
    pub(crate) maximum_packet_size: Option<u32>,
    pub(crate) topic_alias_maximum: u16,
}

/// The part of the present Network Connection that its Session needs.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) terms: Terms,
    /// The prefix that the Client's listener puts before its topics, and that is taken off on delivery.
    pub(super) mount: Option<Arc<str>>,
    /// Topic Names that have an outgoing alias, from 1 on.
    pub(super) aliases: Vec<Box<[u8]>>,
    /// Bytes that the transport has not taken yet, and protocol packets that came in meanwhile.
    pub(super) tail: Option<Box<Outgoing>>,
    /// While a task writes a batch: the number of messages of QoS 0 in it.
    pub(super) writing: Option<usize>,
    /// The transport takes no bytes at the moment; the owner waits for it.
    pub(super) blocked: bool,
    /// A write failed, and how many of its bytes went is not known: nothing may follow them.
    pub(super) broken: bool,
}

/// An outgoing Topic Alias and whether the Client knows it already.
#[derive(Debug, Clone, Copy)]
struct OutgoingAlias {
    number: u16,
    known: bool,
}

impl Attached {
    /// The Topic Name of a message as this Client knows it; `None` if the Client's listener is mounted elsewhere.
    #[inline]
    pub(super) fn name_for_client<'m>(&self, topic: &'m [u8]) -> Option<&'m [u8]> {
        match &self.mount {
            None => Some(topic),
            Some(prefix) => topic.strip_prefix(prefix.as_bytes()).filter(|name| !name.is_empty()),
        }
    }

    /// A PUBLISH as this Client gets it, without an alias; `None` if the Client's listener is mounted elsewhere.
    #[inline]
    pub(super) fn head<'m>(
        &self,
        delivery: &'m Delivery,
        now: Timestamp,
        packet_id: Option<PacketId>,
        dup: bool,
    ) -> Option<PublishHead<'m>> {
        let topic = self.name_for_client(delivery.message.topic_bytes())?;
        Some(publish_head(&self.terms, delivery, topic, now, packet_id, dup))
    }

    /// Uses an alias for the Topic Name if there is one, and keeps a new one. Returns whether the packet fits the
    /// Client's Maximum Packet Size, with the alias or with the Topic Name in full.
    pub(super) fn make_fit(&mut self, head: &mut PublishHead<'_>) -> bool {
        let in_full = *head;
        let Some(alias) = self.alias_for(in_full.topic) else { return fits(&self.terms, head) };
        head.topic_alias = Some(alias.number);
        if alias.known {
            head.topic = b"";
        }
        if !fits(&self.terms, head) {
            *head = in_full;
            return fits(&self.terms, head);
        }
        if !alias.known {
            self.aliases.push(in_full.topic.into());
        }
        true
    }

    /// The alias for a Topic Name, within what the Client allows (MQTT-3.1.2-26, -27). The first Topic
    /// Names get one and keep it.
    fn alias_for(&self, topic: &[u8]) -> Option<OutgoingAlias> {
        if self.terms.topic_alias_maximum == 0 {
            return None;
        }
        let known = self.aliases.iter().position(|name| &**name == topic);
        let index = known.unwrap_or(self.aliases.len());
        let number = u16::try_from(index + 1).ok()?;
        (number <= self.terms.topic_alias_maximum)
            .then_some(OutgoingAlias { number, known: known.is_some() })
    }
}

pub(super) fn has_room(out: &Outgoing) -> bool {
    out.len() < BATCH_BYTES_SHARED && !out.is_full_of_shares() && out.copied_len() < BATCH_BYTES
}

pub(super) fn fits(terms: &Terms, head: &PublishHead<'_>) -> bool {
    let max = terms.maximum_packet_size.map_or(PACKET_BYTES_MAX, |max| max as usize);
    head.packet_len() <= max.min(PACKET_BYTES_MAX)
}

pub(super) fn append_payload(out: &mut Outgoing, message: &Message) {
    let payload = message.payload();
    if payload.len() < SHARED_PAYLOAD_BYTES {
        out.buffer().extend_from_slice(payload);
    } else {
        out.share(message.payload_bytes());
    }
}

/// A placeholder for a Packet Identifier that is not chosen yet, so that a size counts its two bytes.
const ANY_PACKET_ID: PacketId = PacketId(std::num::NonZeroU16::MIN);

/// A PUBLISH with the Topic Name as the Client knows it, without an alias.
#[inline]
pub(super) fn publish_head<'a>(
    terms: &Terms,
    delivery: &'a Delivery,
    topic: &'a [u8],
    now: Timestamp,
    packet_id: Option<PacketId>,
    dup: bool,
) -> PublishHead<'a> {
    let message = &delivery.message;
    PublishHead {
        version: terms.version,
        dup,
        qos: delivery.qos,
        retain: delivery.retain,
        topic,
        packet_id: (delivery.qos != QoS::AtMostOnce).then(|| packet_id.unwrap_or(ANY_PACKET_ID)),
        topic_alias: None,
        expiry_secs: message.expiry_left_secs(now),
        subscription_ids: delivery.ids.as_deref().unwrap_or_default(),
        forwarded: message.property_bytes(),
        payload_len: message.payload().len(),
    }
}
