//! What waits in a Session, and what the next message would meet there, for explanations and statistics.

use super::Session;
use super::attached::fits;
use super::outgoing::Outgoing;
use super::queue::Delivery;
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

/// The state of a Session's queue and Network Connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) attached: bool,
    /// The transport takes no bytes now.
    pub(crate) blocked: bool,
    /// Messages that wait, and how many may.
    pub(crate) waiting: usize,
    pub(crate) depth: usize,
    /// Bytes that wait, and how many may.
    pub(crate) bytes: usize,
    pub(crate) bytes_max: usize,
    /// As many messages are not acknowledged as the Client allows.
    pub(crate) quota_used: bool,
    pub(crate) inflight: usize,
    pub(crate) maximum_packet_size: Option<u32>,
}

/// How long a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filling {
    pub(crate) waiting: usize,
    /// The number of waiting messages at which the next one is dropped.
    pub(crate) depth: usize,
}

impl Session {
    /// Messages in the queue, and their bytes.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let (_, bytes, _) = self.queue.bounds();
        (self.queue.len(), bytes)
    }

    /// The packets of [`Session::tail_bytes`].
    pub(crate) fn tail_packets(&self) -> usize {
        self.tail().map_or(0, Outgoing::packets)
    }

    /// How long the queue is.
    pub(crate) fn filling(&self) -> Filling {
        let (depth, ..) = self.queue.bounds();
        Filling { waiting: self.waiting_len(), depth }
    }

    pub(crate) fn standing(&self) -> Standing {
        let attached = self.attached.as_ref();
        let (depth, bytes, bytes_max) = self.queue.bounds();
        Standing {
            attached: attached.is_some(),
            blocked: self.is_blocked(),
            waiting: self.waiting_len(),
            depth,
            bytes,
            bytes_max,
            quota_used: attached
                .is_some_and(|attached| !self.inflight.has_quota(attached.terms.quota)),
            inflight: self.inflight_len(),
            maximum_packet_size: attached.and_then(|attached| attached.terms.maximum_packet_size),
        }
    }

    /// Whether a message of QoS 0 would pass the full queue.
    pub(crate) fn lets_plain_pass(&self) -> bool {
        self.queue.lets_pass(crate::packet::QoS::AtMostOnce) && self.only_waits_for_quota()
    }

    /// The bytes of a PUBLISH, if it is larger than the connected Client takes.
    pub(crate) fn too_large(&self, delivery: &Delivery, now: Timestamp) -> Option<usize> {
        let attached = self.attached.as_ref()?;
        let head = attached.head(delivery, now, None, false)?;
        (!fits(&attached.terms, &head)).then(|| head.packet_len())
    }

    /// Whether the Topic Name is outside the mount point of the connected Client's listener.
    pub(crate) fn is_unmounted(&self, topic: &str) -> bool {
        let attached = self.attached.as_ref();
        attached.is_some_and(|attached| attached.name_for_client(topic.as_bytes()).is_none())
    }

    /// The subscriptions, in no order.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = (&TopicFilter, &Subscription)> {
        self.subscriptions.iter()
    }
}
