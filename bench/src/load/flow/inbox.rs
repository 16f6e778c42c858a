//! The subscriber's side of the three QoS: what came, checked, and acknowledged.

use std::time::Instant;

use hdrhistogram::Histogram;

use super::as_ns;
use super::ids::IdSet;
use super::plan::Hears;
use crate::codec::{PUBACK, PUBCOMP, PUBREC, Packet, Stamp, put_ack};
use crate::sequence::{Checker, Tally};

/// Where latency is recorded, and the clock that it is taken from.
pub(super) type Recorder<'a> = Option<(&'a mut Histogram<u64>, &'a Instant)>;

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    hears: Hears,
    /// In the order of [`Hears::stream`].
    pub(super) streams: Vec<Stream>,
    /// Topics that each publisher goes round.
    topics: u32,
    /// At QoS 2: acknowledged with PUBREC, and PUBREL has not come.
    unreleased: IdSet,
    /// Different messages so far.
    pub(super) delivered: u64,
    pub(super) oddities: Oddities,
}

/// One topic of one publisher.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) publisher: usize,
    topic: u64,
    topics: u64,
    checker: Checker,
    /// What [`Stream::take_progress`] has reported.
    reported: u64,
}

/// What a broker should not do with a subscriber.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oddities {
    /// Packets that nobody here sent or asked for.
    pub(super) foreign: u64,
    /// PUBLISH at QoS 2 that came again before its PUBREL; the exchange swallows it.
    pub(super) redelivered: u64,
}

impl Inbox {
    pub(super) fn new(hears: Hears, topics: usize) -> Self {
        let stream = |(publisher, topic)| Stream {
            publisher,
            topic: topic as u64,
            topics: topics as u64,
            checker: Checker::default(),
            reported: topic as u64,
        };
        Self {
            streams: hears.streams().map(stream).collect(),
            hears,
            topics: u32::try_from(topics).unwrap_or(u32::MAX),
            unreleased: IdSet::default(),
            delivered: 0,
            oddities: Oddities::default(),
        }
    }

    /// Messages at QoS 2 whose PUBREL has not come.
    pub(super) fn unreleased(&self) -> usize {
        self.unreleased.len()
    }

    pub(super) fn tallies(&self) -> impl Iterator<Item = Tally> {
        self.streams.iter().map(|stream| stream.checker.tally())
    }

    /// Takes what the broker says, and puts the answer into `answers`.
    #[inline]
    pub(super) fn take(
        &mut self,
        packet: &Packet<'_>,
        answers: &mut Vec<u8>,
        record: &mut Recorder<'_>,
    ) {
        match *packet {
            Packet::Publish { packet_id: None, payload, .. } => self.deliver(payload, record),
            Packet::Publish { qos: 1, packet_id: Some(id), payload } => {
                put_ack(answers, PUBACK, id);
                self.deliver(payload, record);
            }
            Packet::Publish { packet_id: Some(id), payload, .. } => {
                put_ack(answers, PUBREC, id);
                if self.unreleased.insert(id) {
                    self.deliver(payload, record);
                } else {
                    self.oddities.redelivered += 1;
                }
            }
            Packet::PubRel(id) => {
                // One that is unknown wants its PUBCOMP as well: the first may be lost.
                put_ack(answers, PUBCOMP, id);
                self.oddities.foreign += u64::from(!self.unreleased.remove(id));
            }
            _ => self.oddities.foreign += 1,
        }
    }

    #[inline]
    fn deliver(&mut self, payload: &[u8], record: &mut Recorder<'_>) {
        let Some((stream, place, stamp)) = self.find(payload) else {
            self.oddities.foreign += 1;
            return;
        };
        let checker = &mut self.streams[stream].checker;
        let before = checker.tally().delivered;
        checker.observe(place);
        self.delivered += checker.tally().delivered - before;
        if let Some((latency, clock)) = record {
            latency.saturating_record(as_ns(clock.elapsed()).saturating_sub(stamp.time_ns));
        }
    }

    /// The stream of a message, and its place there.
    #[inline]
    fn find(&self, payload: &[u8]) -> Option<(usize, u32, Stamp)> {
        let stamp = Stamp::read(payload)?;
        let (place, topic) = match self.topics {
            1 => (stamp.sequence, 0),
            topics => (stamp.sequence / topics, stamp.sequence % topics),
        };
        let stream = self.hears.stream(stamp.publisher as usize, topic as usize)?;
        Some((stream, place, stamp))
    }
}

impl Stream {
    /// The publisher's next number that has not come here and is not known to be missing.
    #[inline]
    pub(super) fn accounted(&self) -> u64 {
        self.checker.accounted() * self.topics + self.topic
    }

    /// What [`Stream::accounted`] was when this was last asked, if it has grown.
    #[inline]
    pub(super) fn take_progress(&mut self) -> Option<u64> {
        let now = self.accounted();
        (now > self.reported).then(|| std::mem::replace(&mut self.reported, now))
    }

    /// How many of the publisher's first `sent` messages belong to this stream.
    pub(super) fn numbers_below(&self, sent: u64) -> u64 {
        (sent + self.topics - 1).saturating_sub(self.topic) / self.topics
    }

    /// Gives up what has not come of the publisher's first `sent` messages, and says how many
    /// those are.
    pub(super) fn give_up(&mut self, sent: u64) -> u64 {
        let end = self.numbers_below(sent);
        let missing = end.saturating_sub(self.checker.accounted());
        self.checker.give_up_before(end);
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Template, Version, each_packet};

    fn publish(inbox: &mut Inbox, qos: u8, id: u16, publisher: u32, sequence: u32) -> Vec<u8> {
        let template = Template::new(Version::V5, qos, "t", 16);
        let (mut bytes, mut answers) = (Vec::new(), Vec::new());
        template.append(&mut bytes, Stamp { publisher, sequence, time_ns: 0 }, id);
        let take = |packet: Packet<'_>| inbox.take(&packet, &mut answers, &mut None);
        each_packet(Version::V5, &bytes, take).unwrap();
        answers
    }

    fn inbox(topics: usize, of: std::ops::Range<usize>) -> Inbox {
        Inbox::new(Hears { publishers: 3..5, topics: of }, topics)
    }

    #[test]
    fn each_qos_is_acknowledged_in_its_way() {
        let mut inbox = inbox(1, 0..1);
        assert!(publish(&mut inbox, 0, 0, 3, 0).is_empty());
        assert_eq!(publish(&mut inbox, 1, 258, 3, 1), [0x40, 2, 1, 2]);
        assert_eq!(publish(&mut inbox, 2, 7, 4, 0), [0x50, 2, 0, 7]);
        assert_eq!((inbox.delivered, inbox.unreleased()), (3, 1));
        let mut answers = Vec::new();
        inbox.take(&Packet::PubRel(7), &mut answers, &mut None);
        assert_eq!((answers, inbox.unreleased()), (vec![0x70, 2, 0, 7], 0));
        assert_eq!(inbox.oddities, Oddities::default());
    }

    #[test]
    fn qos_1_again_is_a_duplicate_and_qos_2_again_is_swallowed() {
        let mut inbox = inbox(1, 0..1);
        for _ in 0..2 {
            assert_eq!(publish(&mut inbox, 1, 5, 3, 0), [0x40, 2, 0, 5]);
            assert_eq!(publish(&mut inbox, 2, 6, 3, 1), [0x50, 2, 0, 6]);
        }
        let duplicated: u64 = inbox.tallies().map(|tally| tally.duplicated).sum();
        assert_eq!((inbox.delivered, duplicated, inbox.oddities.redelivered), (2, 1, 1));
        // With PUBREL between them it is another message, and must not be the same.
        let mut answers = Vec::new();
        inbox.take(&Packet::PubRel(6), &mut answers, &mut None);
        inbox.take(&Packet::PubRel(6), &mut answers, &mut None);
        assert_eq!(answers, [0x70, 2, 0, 6, 0x70, 2, 0, 6]);
        assert_eq!(inbox.oddities.foreign, 1);
        publish(&mut inbox, 2, 6, 3, 1);
        assert_eq!(inbox.tallies().map(|tally| tally.duplicated).sum::<u64>(), 2);
    }

    #[test]
    fn what_it_does_not_hear_is_foreign() {
        let mut inbox = inbox(2, 1..2);
        publish(&mut inbox, 0, 0, 2, 1); // another publisher
        publish(&mut inbox, 0, 0, 3, 2); // another topic
        inbox.take(&Packet::Other(13), &mut Vec::new(), &mut None);
        assert_eq!((inbox.delivered, inbox.oddities.foreign), (0, 3));
    }

    #[test]
    fn streams_count_in_the_numbers_of_their_publisher() {
        let mut inbox = inbox(3, 2..3);
        assert_eq!(inbox.streams[0].accounted(), 2);
        publish(&mut inbox, 0, 0, 3, 2);
        publish(&mut inbox, 0, 0, 3, 5);
        let stream = &mut inbox.streams[0];
        assert_eq!((stream.accounted(), stream.take_progress()), (8, Some(2)));
        assert_eq!(stream.take_progress(), None);
        // Of twelve messages this topic has those numbered 2, 5, 8 and 11.
        assert_eq!((stream.give_up(12), stream.accounted()), (2, 14));
        assert_eq!((stream.give_up(12), stream.give_up(14)), (0, 0));
        assert_eq!(stream.give_up(15), 1);
    }
}
