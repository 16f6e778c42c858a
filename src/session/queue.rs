//! The bounded queue of messages that wait for one Client: the `max_queue_depth` rule and nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ledger::DropReason;
use crate::message::Message;
use crate::packet::QoS;
use crate::subscription::ShareGroup;
use crate::time::Timestamp;

/// One message for one Session.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) message: Message,
    /// The QoS at which it is sent.
    pub(crate) qos: QoS,
    /// The RETAIN flag with which it is sent.
    pub(crate) retain: bool,
    /// The Subscription Identifiers that go with it.
    pub(crate) ids: Option<Arc<[u32]>>,
    /// The shared subscription of the message, so that another member can get it.
    pub(crate) shared: Option<Arc<ShareGroup>>,
}

/// A delivery that the queue did not take.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) delivery: Delivery,
    pub(crate) reason: DropReason,
}

/// Messages in the order of their arrival. Messages of QoS 0 and of QoS 1 and 2 are in two lists with one numbering, so
/// that QoS 0 can pass while the send quota is exhausted, and only then.
#[derive(Debug)]
pub(crate) struct Queue {
    plain: VecDeque<(u64, Delivery)>,
    assured: VecDeque<(u64, Delivery)>,
    arrivals: u64,
    bytes: usize,
    /// No waiting message expires before this moment.
    next_expiry: Timestamp,
    depth: usize,
    bytes_max: usize,
}

impl Queue {
    pub(crate) fn new(depth: usize, bytes_max: usize) -> Queue {
        Queue {
            plain: VecDeque::new(),
            assured: VecDeque::new(),
            arrivals: 0,
            bytes: 0,
            next_expiry: Timestamp::NEVER,
            depth,
            bytes_max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.plain.len() + self.assured.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.assured.is_empty()
    }

    /// How many messages may wait, the bytes that wait, and how many may.
    pub(crate) fn bounds(&self) -> (usize, usize, usize) {
        (self.depth, self.bytes, self.bytes_max)
    }

    /// Whether a message could be taken out now.
    pub(crate) fn is_ready(&self, quota_left: bool) -> bool {
        !self.plain.is_empty() || (quota_left && !self.assured.is_empty())
    }

    /// The earliest moment at which a waiting message may expire.
    pub(crate) fn next_expiry(&self) -> Timestamp {
        self.next_expiry
    }

    /// Whether half of the depth is taken: then a publisher flushes.
    pub(crate) fn is_half_full(&self, unsent: usize) -> bool {
        (self.len() + unsent) * 2 >= self.depth
    }

    /// Whether one more message could wait, its size apart.
    pub(crate) fn has_room(&self, unsent: usize) -> bool {
        self.len() + unsent < self.depth
    }

    /// Takes a message, unless `depth` messages already wait, including `unsent` messages that are encoded and not
    /// accepted by the transport: then exactly the newest message, this one, is refused.
    pub(crate) fn push(&mut self, delivery: Delivery, unsent: usize) -> Result<(), Refused> {
        if !self.has_room(unsent) {
            return Err(Refused { delivery, reason: DropReason::QueueFull });
        }
        let bytes = delivery.message.size_bytes();
        if self.bytes.saturating_add(bytes) > self.bytes_max && !self.is_empty() {
            return Err(Refused { delivery, reason: DropReason::QueueBytes });
        }
        self.add(delivery);
        Ok(())
    }

    /// Whether a message could pass all waiting messages while the send quota is exhausted, if it were admitted.
    pub(crate) fn lets_pass(&self, qos: QoS) -> bool {
        qos == QoS::AtMostOnce && self.plain.is_empty()
    }

    /// Takes one message that passes all waiting messages, beyond the bounds.
    pub(crate) fn push_passing(&mut self, refused: Refused) -> Result<(), Refused> {
        if !self.lets_pass(refused.delivery.qos) {
            return Err(refused);
        }
        self.add(refused.delivery);
        Ok(())
    }

    fn add(&mut self, delivery: Delivery) {
        self.bytes = self.bytes.saturating_add(delivery.message.size_bytes());
        self.next_expiry = self.next_expiry.min(delivery.message.expires_at());
        let line =
            if delivery.qos == QoS::AtMostOnce { &mut self.plain } else { &mut self.assured };
        line.push_back((self.arrivals, delivery));
        self.arrivals += 1;
    }

    /// The oldest message; with an exhausted send quota the oldest of QoS 0.
    pub(crate) fn pop(&mut self, quota_left: bool) -> Option<Delivery> {
        let assured_first = match (self.plain.front(), self.assured.front()) {
            (Some((plain, _)), Some((assured, _))) => quota_left && assured < plain,
            (None, Some(_)) => quota_left,
            (_, None) => false,
        };
        let line = if assured_first { &mut self.assured } else { &mut self.plain };
        let (_, delivery) = line.pop_front()?;
        self.bytes -= delivery.message.size_bytes();
        if self.is_empty() {
            self.release_memory();
        }
        Some(delivery)
    }

    /// The messages behind the oldest `skip`, in the order of their arrival. Finds the first without visiting those
    /// before it.
    pub(crate) fn list(&self, skip: usize) -> impl Iterator<Item = &Delivery> {
        let plain_before = self.plain_among_first(skip);
        let assured_before = (skip - plain_before).min(self.assured.len());
        let mut plain = self.plain.range(plain_before..).peekable();
        let mut assured = self.assured.range(assured_before..).peekable();
        std::iter::from_fn(move || {
            let plain_first = match (plain.peek(), assured.peek()) {
                (Some((one, _)), Some((other, _))) => one < other,
                (one, _) => one.is_some(),
            };
            let next = if plain_first { plain.next() } else { assured.next() };
            next.map(|(_, delivery)| delivery)
        })
    }

    /// How many of the oldest `count` messages have QoS 0.
    fn plain_among_first(&self, count: usize) -> usize {
        let (mut least, mut most) = (0, self.plain.len().min(count));
        while least < most {
            let middle = usize::midpoint(least, most);
            let Some((arrival, _)) = self.plain.get(middle) else { break };
            let before = middle + self.assured.partition_point(|(other, _)| other < arrival);
            if before < count {
                least = middle + 1;
            } else {
                most = middle;
            }
        }
        least
    }

    /// Adds messages beyond the bounds.
    pub(crate) fn import(&mut self, deliveries: Vec<Delivery>) {
        deliveries.into_iter().for_each(|delivery| self.add(delivery));
    }

    /// Removes expired messages and returns their number (MQTT-3.3.2-5).
    pub(crate) fn expire(&mut self, now: Timestamp) -> u64 {
        if self.next_expiry > now {
            return 0;
        }
        let mut removed = 0;
        let mut bytes = 0;
        let mut next_expiry = Timestamp::NEVER;
        for line in [&mut self.plain, &mut self.assured] {
            line.retain(|(_, delivery)| {
                let expired = delivery.message.is_expired(now);
                if expired {
                    removed += 1;
                } else {
                    bytes += delivery.message.size_bytes();
                    next_expiry = next_expiry.min(delivery.message.expires_at());
                }
                !expired
            });
        }
        self.bytes = bytes;
        self.next_expiry = next_expiry;
        removed
    }

    /// Takes out everything of QoS 0.
    pub(crate) fn drain_plain(&mut self) -> u64 {
        let count = self.plain.len() as u64;
        self.bytes -= self.plain.iter().map(|(_, d)| d.message.size_bytes()).sum::<usize>();
        self.plain = VecDeque::new();
        if self.is_empty() {
            self.release_memory();
        }
        count
    }

    /// Takes out everything, oldest first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Delivery> + use<'_> {
        std::iter::from_fn(|| self.pop(true))
    }

    /// Frees the memory of an empty queue, because most Sessions are idle.
    fn release_memory(&mut self) {
        const KEPT: usize = 64;
        for line in [&mut self.plain, &mut self.assured] {
            if line.capacity() > KEPT {
                line.shrink_to(KEPT);
            }
        }
        self.next_expiry = Timestamp::NEVER;
    }
}

#[cfg(test)]
mod tests;
