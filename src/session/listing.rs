//! The messages and the Will that a Session holds, for those who look at a running broker.

use super::Session;
use super::queue::Delivery;
use crate::message::Message;
use crate::packet::PacketId;

/// A message that a Session holds.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// The message as it is sent; `None` after PUBREC, when the Session has forgotten it.
    pub(crate) delivery: Option<Delivery>,
    /// `None` of a message that was never encoded, and of QoS 0.
    pub(crate) packet_id: Option<PacketId>,
    /// The transport has not completely accepted it.
    pub(crate) waiting: bool,
}

impl Session {
    /// At most `limit` of the messages behind the first `skip`, and how many there are: first those that were encoded, in
    /// the order of their sending, then those in the queue, in the order of their arrival. Without messages of QoS 0
    /// that are encoded, which are bytes by then.
    pub(crate) fn list_messages(&self, skip: usize, limit: usize) -> (Vec<Listed>, usize) {
        let (encoded, queued) = (self.inflight.len(), self.queue.len());
        let sent = self.inflight.list(skip).map(|(id, waiting, delivery)| Listed {
            delivery: delivery.cloned(),
            packet_id: Some(id),
            waiting,
        });
        let waiting = self.queue.list(skip.saturating_sub(encoded)).map(|delivery| Listed {
            delivery: Some(delivery.clone()),
            packet_id: None,
            waiting: true,
        });
        (sent.chain(waiting).take(limit).collect(), encoded + queued)
    }

    /// The Will that is to be published when the Network Connection is lost, or whose delay runs.
    pub(crate) fn will(&self) -> Option<&Message> {
        self.will.message()
    }

    /// The prefix of the topics of the present Network Connection.
    pub(crate) fn mount_point(&self) -> Option<&str> {
        self.attached.as_ref()?.mount.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Queue;
    use super::*;
    use crate::packet::QoS;

    fn delivery(number: usize, qos: QoS) -> Delivery {
        let message = Message::new(&format!("t/{number}"), "").unwrap();
        Delivery { message, qos, retain: false, ids: None, shared: None }
    }

    /// Every mixture of two lists, from every place on.
    #[test]
    fn a_queue_is_listed_from_any_message_on() {
        for pattern in 0..1_u32 << 9 {
            let mut queue = Queue::new(100, usize::MAX);
            for number in 0..9 {
                let qos =
                    if pattern >> number & 1 == 0 { QoS::AtMostOnce } else { QoS::ExactlyOnce };
                queue.push(delivery(number, qos), 0).unwrap();
            }
            for skip in 0..=10 {
                let listed: Vec<_> =
                    queue.list(skip).map(|delivery| delivery.message.topic().to_owned()).collect();
                let expected: Vec<_> = (skip..9).map(|number| format!("t/{number}")).collect();
                assert_eq!(listed, expected, "{pattern:b} {skip}");
            }
        }
    }
}
