//! The publisher's side of the three QoS: what it has sent, and what must come back for it.

use std::io;

use super::ids::IdSet;
use crate::codec::{PUBREL, Packet, Stamp, Template, put_ack};

/// Packet Identifiers that there are.
const IDS: usize = 65_535;

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    publisher: u32,
    /// One for each topic; messages go round them.
    templates: Vec<Template>,
    qos: u8,
    sent: u64,
    last_id: u16,
    /// Without PUBACK or PUBREC.
    unacknowledged: IdSet,
    /// Without PUBCOMP.
    uncompleted: IdSet,
    /// How many may be without PUBACK or PUBCOMP.
    receive_maximum: usize,
    pub(super) oddities: Oddities,
}

/// What a broker should not do with a publisher.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oddities {
    /// PUBACK or PUBREC with a Reason Code that says no.
    pub(super) refused: u64,
    /// Acknowledgements of what is not outstanding, and anything that is no acknowledgement.
    pub(super) unasked: u64,
}

impl Outbox {
    /// `receive_maximum` is what the broker has announced.
    pub(super) fn new(
        publisher: usize,
        templates: Vec<Template>,
        qos: u8,
        receive_maximum: u16,
    ) -> io::Result<Self> {
        Ok(Self {
            publisher: u32::try_from(publisher).map_err(io::Error::other)?,
            templates,
            qos,
            sent: 0,
            last_id: 0,
            unacknowledged: IdSet::default(),
            uncompleted: IdSet::default(),
            receive_maximum: usize::from(receive_maximum).min(IDS),
            oddities: Oddities::default(),
        })
    }

    /// Messages so far.
    #[inline]
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes of one packet.
    pub(super) fn packet_len(&self) -> usize {
        self.templates.first().map_or(1, Template::len)
    }

    /// PUBLISH packets that the broker has not finished with.
    #[inline]
    pub(super) fn unfinished(&self) -> usize {
        self.unacknowledged.len() + self.uncompleted.len()
    }

    /// How many messages may go before the broker must acknowledge.
    #[inline]
    pub(super) fn quota(&self) -> u64 {
        match self.qos {
            0 => u64::MAX,
            _ => self.receive_maximum.saturating_sub(self.unfinished()) as u64,
        }
    }

    /// Adds the next message to a batch. The caller has asked for the [`Outbox::quota`].
    #[inline]
    pub(super) fn append(&mut self, time_ns: u64, batch: &mut Vec<u8>) -> io::Result<()> {
        let (at, stamp, id) = self.next(time_ns)?;
        self.templates[at].append(batch, stamp, id);
        Ok(())
    }

    /// The next message alone.
    #[inline]
    pub(super) fn single(&mut self, time_ns: u64) -> io::Result<&[u8]> {
        let (at, stamp, id) = self.next(time_ns)?;
        Ok(self.templates[at].stamped(stamp, id))
    }

    #[inline]
    fn next(&mut self, time_ns: u64) -> io::Result<(usize, Stamp, u16)> {
        let sequence = u32::try_from(self.sent).map_err(io::Error::other)?;
        let at =
            if self.templates.len() == 1 { 0 } else { sequence as usize % self.templates.len() };
        let stamp = Stamp { publisher: self.publisher, sequence, time_ns };
        let id = if self.qos == 0 { 0 } else { self.next_id() };
        self.sent += 1;
        Ok((at, stamp, id))
    }

    /// The next Packet Identifier that is free: clients go round all of them, and so does this.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.uncompleted.contains(self.last_id) && self.unacknowledged.insert(self.last_id)
            {
                return self.last_id;
            }
        }
    }

    /// Takes what the broker says, and puts the answer into `answers`.
    #[inline]
    pub(super) fn take(&mut self, packet: &Packet<'_>, answers: &mut Vec<u8>) {
        match *packet {
            Packet::PubAck(id, reason) if self.qos == 1 && self.unacknowledged.remove(id) => {
                self.oddities.refused += u64::from(reason >= 0x80);
            }
            Packet::PubRec(id, reason) if self.qos == 2 && self.unacknowledged.remove(id) => {
                if reason >= 0x80 {
                    self.oddities.refused += 1;
                } else {
                    self.uncompleted.insert(id);
                    put_ack(answers, PUBREL, id);
                }
            }
            Packet::PubComp(id) if self.uncompleted.remove(id) => {}
            _ => self.oddities.unasked += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Version, each_packet};

    fn outbox(qos: u8, receive_maximum: u16) -> Outbox {
        let template = Template::new(Version::V311, qos, "t", 16);
        Outbox::new(0, vec![template], qos, receive_maximum).unwrap()
    }

    /// Sends one message and returns its Packet Identifier.
    fn send(outbox: &mut Outbox) -> Option<u16> {
        let mut batch = Vec::new();
        outbox.append(0, &mut batch).unwrap();
        let mut found = None;
        each_packet(Version::V311, &batch, |packet| {
            if let Packet::Publish { packet_id, .. } = packet {
                found = packet_id;
            }
        })
        .unwrap();
        found
    }

    fn take(outbox: &mut Outbox, packet: &Packet<'_>) -> Vec<u8> {
        let mut answers = Vec::new();
        outbox.take(packet, &mut answers);
        answers
    }

    #[test]
    fn qos_0_has_no_bound_and_expects_nothing() {
        let mut outbox = outbox(0, 1);
        assert_eq!((send(&mut outbox), send(&mut outbox)), (None, None));
        assert_eq!((outbox.quota(), outbox.unfinished()), (u64::MAX, 0));
        take(&mut outbox, &Packet::PubAck(1, 0));
        assert_eq!(outbox.oddities, Oddities { refused: 0, unasked: 1 });
    }

    #[test]
    fn qos_1_waits_for_puback() {
        let mut outbox = outbox(1, 2);
        assert_eq!((send(&mut outbox), send(&mut outbox)), (Some(1), Some(2)));
        assert_eq!(outbox.quota(), 0);
        assert!(take(&mut outbox, &Packet::PubAck(2, 0)).is_empty());
        assert_eq!((outbox.quota(), outbox.unfinished()), (1, 1));
        // Twice, never sent, and of another QoS.
        for stray in [Packet::PubAck(2, 0), Packet::PubAck(9, 0), Packet::PubRec(1, 0)] {
            assert!(take(&mut outbox, &stray).is_empty());
        }
        assert_eq!(outbox.unfinished(), 1);
        take(&mut outbox, &Packet::PubAck(1, 0x97));
        assert_eq!(outbox.oddities, Oddities { refused: 1, unasked: 3 });
        assert_eq!(outbox.unfinished(), 0);
    }

    #[test]
    fn qos_2_goes_through_its_four_packets() {
        let mut outbox = outbox(2, 3);
        for wanted in 1..=3 {
            assert_eq!(send(&mut outbox), Some(wanted));
        }
        assert_eq!(take(&mut outbox, &Packet::PubRec(2, 0)), [0x62, 2, 0, 2]);
        assert_eq!(outbox.quota(), 0, "PUBREC frees nothing");
        assert!(take(&mut outbox, &Packet::PubRec(2, 0)).is_empty());
        take(&mut outbox, &Packet::PubComp(2));
        assert_eq!(outbox.quota(), 1);
        assert!(take(&mut outbox, &Packet::PubRec(3, 0x80)).is_empty());
        assert_eq!(outbox.quota(), 2, "what is refused is finished");
        take(&mut outbox, &Packet::PubComp(1));
        assert_eq!(outbox.oddities, Oddities { refused: 1, unasked: 2 });
    }

    #[test]
    fn an_identifier_in_use_is_passed_over_and_zero_is_none() {
        let mut outbox = outbox(2, u16::MAX);
        for _ in 0..u16::MAX {
            send(&mut outbox);
        }
        assert_eq!(outbox.quota(), 0);
        take(&mut outbox, &Packet::PubRec(1, 0));
        for id in [2, 4] {
            take(&mut outbox, &Packet::PubRec(id, 0));
            take(&mut outbox, &Packet::PubComp(id));
        }
        assert_eq!(outbox.quota(), 2);
        assert_eq!((send(&mut outbox), send(&mut outbox)), (Some(2), Some(4)));
        assert_eq!(outbox.quota(), 0);
    }

    #[test]
    fn messages_go_round_the_topics() {
        let template = |topic| Template::new(Version::V311, 0, topic, 16);
        let mut outbox = Outbox::new(0, vec![template("a"), template("b")], 0, 1).unwrap();
        let topics: Vec<u8> = (0..4).map(|_| outbox.single(0).unwrap()[4]).collect();
        assert_eq!((topics, outbox.sent()), (b"abab".to_vec(), 4));
    }
}
