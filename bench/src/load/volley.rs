//! Publishers in a closed loop whose every message goes to exactly one of some subscribers, for
//! loads in which something else happens at the same time or which use very many topics.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Outcome;
use super::crowd::{Crowd, Seen};
use crate::codec::{self, Packet, STAMP_LEN, Stamp};
use crate::sequence::Tally;

/// How often stalls are looked for.
const CHECK: Duration = Duration::from_millis(250);
/// Without progress for this long, what a publisher has outstanding is given up.
pub(super) const STALL: Duration = Duration::from_secs(2);

/// How many publish how much to whom.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The tokens of the publishers.
    pub(super) publishers: Range<usize>,
    /// The tokens of all who may receive.
    pub(super) subscribers: Range<usize>,
    pub(super) payload: usize,
    /// Messages that a publisher may have outstanding.
    pub(super) window: u32,
    pub(super) stall: Duration,
}

/// Appends the topic of a publisher's message with this sequence number.
pub(super) type Topics<'a> = &'a dyn Fn(usize, u32, &mut String);

#[derive(Debug)]
struct Publisher {
    sent: u32,
    tally: Tally,
    /// Given up: of the messages below this number those that have not come.
    given_up_below: u32,
    given_up: u64,
    /// A bit for each message that came.
    came: Vec<u64>,
    /// The last of its messages at each subscriber, plus one.
    last: Vec<u32>,
    progressed: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Volley {
    plan: Plan,
    publishers: Vec<Publisher>,
    producing: bool,
    foreign: u64,
    broken: Option<io::Error>,
    next_check: Instant,
    topic: String,
    batch: Vec<u8>,
}

impl Volley {
    /// For connections that are, or will be, in the crowd.
    pub(super) fn new(plan: Plan) -> Self {
        let now = Instant::now();
        let publisher = |_| Publisher {
            sent: 0,
            tally: Tally::default(),
            given_up_below: 0,
            given_up: 0,
            came: Vec::new(),
            last: vec![0; plan.subscribers.len()],
            progressed: now,
        };
        Self {
            publishers: plan.publishers.clone().map(publisher).collect(),
            plan,
            producing: true,
            foreign: 0,
            broken: None,
            next_check: now + CHECK,
            topic: String::new(),
            batch: Vec::new(),
        }
    }

    /// Different messages that have come so far.
    pub(super) fn delivered(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.tally.delivered).sum()
    }

    fn nothing_outstanding(&self) -> bool {
        self.publishers.iter().all(|publisher| publisher.outstanding() == 0)
    }

    /// Sends and receives until `until`; what comes for others goes to nobody.
    pub(super) fn drive(
        &mut self,
        crowd: &mut Crowd,
        until: Instant,
        topics: Topics<'_>,
    ) -> io::Result<()> {
        while Instant::now() < until && (self.producing || !self.nothing_outstanding()) {
            let wake = self.fire(crowd, topics)?.min(until);
            crowd.turn(wake, |token, seen| {
                self.take(token, &seen);
            })?;
        }
        Ok(())
    }

    /// Stops sending and takes what is still under way; what a stall keeps is given up.
    pub(super) fn drain(&mut self, crowd: &mut Crowd) -> io::Result<()> {
        self.producing = false;
        // Progress may be slow, but nothing takes this long.
        self.drive(crowd, Instant::now() + Duration::from_secs(60), &|_, _, _| ())?;
        self.producing = true;
        Ok(())
    }

    /// Sends what the windows allow; returns when to do so again at the latest.
    ///
    /// # Errors
    ///
    /// When the broker has closed one of its connections.
    pub(super) fn fire(&mut self, crowd: &mut Crowd, topics: Topics<'_>) -> io::Result<Instant> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let now = Instant::now();
        if now >= self.next_check {
            self.next_check = now + CHECK;
            for publisher in &mut self.publishers {
                publisher.give_up_stalled(now, self.plan.stall);
            }
        }
        for (index, publisher) in self.publishers.iter_mut().enumerate() {
            let token = self.plan.publishers.start + index;
            let outstanding = publisher.outstanding();
            let room = u64::from(self.plan.window).saturating_sub(outstanding);
            if !self.producing || room == 0 || !crowd.is_flushed(token) {
                continue;
            }
            if outstanding == 0 {
                publisher.progressed = now;
            }
            for _ in 0..room {
                self.topic.clear();
                topics(index, publisher.sent, &mut self.topic);
                let stamp = Stamp {
                    publisher: u32::try_from(index).map_err(io::Error::other)?,
                    sequence: publisher.sent,
                    time_ns: 0,
                };
                let len = self.plan.payload.max(STAMP_LEN);
                codec::put_publish(&mut self.batch, false, &self.topic, len, stamp);
                publisher.sent += 1;
            }
            crowd.send(token, &self.batch);
            self.batch.clear();
        }
        Ok(self.next_check)
    }

    /// Takes what came on a connection; says whether it is one of this load's.
    pub(super) fn take(&mut self, token: usize, seen: &Seen<'_>) -> bool {
        let subscriber = self.plan.subscribers.contains(&token);
        if !subscriber && !self.plan.publishers.contains(&token) {
            return false;
        }
        match seen {
            Seen::Packet(Packet::Publish { payload, .. }) => {
                if !subscriber || !self.receive(token - self.plan.subscribers.start, payload) {
                    self.foreign += 1;
                }
            }
            Seen::Packet(_) => self.foreign += 1,
            Seen::Closed(error) => {
                self.broken = Some(io::Error::new(error.kind(), error.to_string()));
            }
        }
        true
    }

    fn receive(&mut self, subscriber: usize, payload: &[u8]) -> bool {
        let Some(stamp) = Stamp::read(payload) else { return false };
        let index = usize::try_from(stamp.publisher).unwrap_or(usize::MAX);
        match self.publishers.get_mut(index) {
            Some(publisher) if stamp.sequence < publisher.sent => {
                publisher.observe(subscriber, stamp.sequence);
                true
            }
            _ => false,
        }
    }

    /// Adds what was seen.
    pub(super) fn report(&self, outcome: &mut Outcome) {
        for publisher in &self.publishers {
            outcome.sent += u64::from(publisher.sent);
            let lost = u64::from(publisher.sent) - publisher.tally.delivered;
            outcome.add(Tally { lost, ..publisher.tally });
            outcome.stalled += publisher.given_up;
        }
        if outcome.stalled > 0 {
            outcome.notes.push(format!("{} messages given up after a stall", outcome.stalled));
        }
        if self.foreign > 0 {
            outcome.notes.push(format!("{} packets that nobody here sent", self.foreign));
        }
    }
}

impl Publisher {
    fn outstanding(&self) -> u64 {
        u64::from(self.sent) - self.tally.delivered - self.given_up
    }

    #[inline]
    fn observe(&mut self, subscriber: usize, sequence: u32) {
        let (word, bit) = (sequence as usize / 64, 1 << (sequence % 64));
        if word >= self.came.len() {
            self.came.resize(word + 1, 0);
        }
        if self.came[word] & bit != 0 {
            self.tally.duplicated += 1;
            return;
        }
        self.came[word] |= bit;
        self.tally.delivered += 1;
        if sequence < self.given_up_below {
            self.given_up -= 1;
        }
        if let Some(last) = self.last.get_mut(subscriber) {
            self.tally.reordered += u64::from(sequence < *last);
            *last = (*last).max(sequence + 1);
        }
        // The clock is read only once for many messages: every 64th does.
        if sequence.is_multiple_of(64) || self.outstanding() == 0 {
            self.progressed = Instant::now();
        }
    }

    fn give_up_stalled(&mut self, now: Instant, stall: Duration) {
        let quiet = now.saturating_duration_since(self.progressed);
        if self.outstanding() > 0 && quiet >= stall {
            self.given_up += self.outstanding();
            self.given_up_below = self.sent;
        }
    }
}
