//! What was said and what came, and what the standard makes of both. Moments are ticks: every action and every
//! packet that comes is one.

use std::collections::{BTreeMap, BTreeSet};

use hrotti_conformance::codec::Received;

use crate::device::Device;

pub(crate) const TOPICS: [&str; 7] = ["t/a", "t/b", "t/a/x", "u", "r/1", "s/1", "s/2/x"];
pub(crate) const FILTERS: [&str; 8] = ["t/#", "t/+", "t/a", "+/a", "#", "s/#", "u", "r/1"];
pub(crate) const SHARES: [(&str, &str); 3] = [("g", "s/#"), ("h", "s/+"), ("g", "t/#")];
/// One device says all that is retained here, at QoS 2.
pub(crate) const OWNED: usize = 4;

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) tick: u64,
    pub(crate) messages: Vec<Message>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) faults: Vec<String>,
    /// Wills of connections that have ended without DISCONNECT.
    pub(crate) due_wills: Vec<usize>,
    /// Topics where an empty retained message has cleared what was retained.
    pub(crate) cleared: BTreeSet<usize>,
}

/// An Application Message; its payload begins with its number.
pub(crate) struct Message {
    pub(crate) publisher: usize,
    pub(crate) topic: usize,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) expires: bool,
    pub(crate) is_will: bool,
    /// When its first byte could be sent.
    pub(crate) said: u64,
    /// When the broker had acknowledged it.
    pub(crate) acknowledged: Option<u64>,
    /// Its publisher's Session ended before that, or it was refused: nobody knows.
    pub(crate) abandoned: bool,
    /// How often it was sent.
    pub(crate) sends: u32,
    /// A Will that may not be published.
    pub(crate) forbidden: bool,
}

pub(crate) struct Subscription {
    /// As SUBSCRIBE says it.
    pub(crate) text: String,
    pub(crate) filter: &'static str,
    pub(crate) shared: bool,
    pub(crate) qos: u8,
    pub(crate) options: u8,
    pub(crate) no_local: bool,
    pub(crate) sure_from: Option<u64>,
    pub(crate) sure_until: Option<u64>,
    pub(crate) gone_at: Option<u64>,
}

pub(crate) struct Delivery {
    pub(crate) device: usize,
    pub(crate) incarnation: u64,
    pub(crate) message: usize,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
}

impl Message {
    pub(crate) fn new(publisher: usize, topic: usize, qos: u8, said: u64) -> Message {
        Message {
            publisher,
            topic,
            qos,
            retain: false,
            expires: false,
            is_will: false,
            said,
            acknowledged: None,
            abandoned: false,
            sends: 1,
            forbidden: false,
        }
    }
}

impl Subscription {
    /// Surely there from before the message was said until it was acknowledged.
    fn covers(&self, message: &Message) -> bool {
        let Some(acknowledged) = message.acknowledged else { return false };
        self.sure_from.is_some_and(|from| from < message.said)
            && self.sure_until.is_none_or(|until| until > acknowledged)
            && matches(self.filter, TOPICS[message.topic])
    }

    /// Perhaps there at some time from when the message was said.
    fn touches(&self, message: &Message) -> bool {
        self.gone_at.is_none_or(|gone| gone > message.said)
            && matches(self.filter, TOPICS[message.topic])
    }
}

impl Model {
    pub(crate) fn fault(&mut self, text: String) {
        self.faults.push(text);
    }

    /// Everybody is quiet: what was due is published.
    pub(crate) fn wills_are_said(&mut self) {
        self.tick += 1;
        for will in std::mem::take(&mut self.due_wills) {
            self.messages[will].acknowledged = Some(self.tick);
        }
    }

    /// Notes what came, and holds against the model what can be judged at once.
    pub(crate) fn delivered(
        &mut self,
        number: usize,
        incarnation: u64,
        device: &Device,
        came: &Received,
    ) {
        if came.payload.is_empty() {
            return; // it has no name
        }
        let text = came.text();
        let name = text.split('.').next().unwrap_or_default();
        let index: usize = match name.parse() {
            Ok(index) if index < self.messages.len() => index,
            _ => return self.fault(format!("{came:?} was never said")),
        };
        let message = &self.messages[index];
        let mut wrong = Vec::new();
        if TOPICS[message.topic] != came.topic {
            wrong.push("another topic");
        }
        if came.qos > message.qos {
            wrong.push("a higher QoS");
        }
        if came.retain && !message.retain {
            wrong.push("RETAIN though it was not retained");
        }
        if message.forbidden {
            wrong.push("a Will behind DISCONNECT");
        }
        let touching: Vec<&Subscription> =
            device.subscriptions.iter().filter(|s| s.touches(message)).collect();
        match touching.iter().map(|s| s.qos).max() {
            None => wrong.push("no subscription"),
            Some(most) if came.qos > most => wrong.push("a higher QoS than was granted"),
            Some(_) => {}
        }
        // A Will is its Client's own message, too (MQTT-3.8.3-3).
        let own = message.publisher == number;
        if own && !came.retain && touching.iter().all(|s| s.no_local) {
            wrong.push("No Local");
        }
        let sure = device.subscriptions.iter().filter(|s| !s.shared && s.covers(message));
        let sure = sure.filter(|s| !(own && s.no_local)).map(|s| s.qos).max();
        let plain = !came.retain && touching.iter().all(|s| !s.shared);
        if plain && sure.is_some_and(|least| came.qos < least.min(message.qos)) {
            wrong.push("a lower QoS than was granted");
        }
        let wrong = wrong.join(", ");
        if !wrong.is_empty() {
            self.fault(format!("{} got {came:?}: {wrong}", device.id));
        }
        let (qos, retain, dup) = (came.qos, came.retain, came.dup);
        let delivery = Delivery { device: number, incarnation, message: index, qos, retain, dup };
        self.deliveries.push(delivery);
    }

    /// The acknowledged messages that a Session had to get and did not.
    pub(crate) fn missing(&self, number: usize, device: &Device) -> Vec<usize> {
        let got: BTreeSet<usize> = self
            .deliveries
            .iter()
            .filter(|d| d.device == number && d.incarnation == device.incarnation)
            .map(|d| d.message)
            .collect();
        let wanted = |message: &Message| {
            let own = message.publisher == number;
            message.qos > 0
                && device
                    .subscriptions
                    .iter()
                    .any(|s| !s.shared && s.qos > 0 && !(own && s.no_local) && s.covers(message))
        };
        let lost = |(index, message): (usize, &Message)| {
            (wanted(message) && !got.contains(&index)).then_some(index)
        };
        self.messages.iter().enumerate().filter_map(lost).collect()
    }

    /// The acknowledged messages that one of these members of a shared subscription had to get and none did.
    pub(crate) fn missing_in(&self, members: &[(usize, &Device)]) -> Vec<usize> {
        let got: BTreeSet<usize> = self
            .deliveries
            .iter()
            .filter(|d| members.iter().any(|(number, _)| d.device == *number))
            .map(|d| d.message)
            .collect();
        let wanted = |message: &Message| {
            message.qos > 0
                && members.iter().any(|(_, device)| {
                    device.subscriptions.iter().any(|s| s.qos > 0 && s.covers(message))
                })
        };
        let all = self.messages.iter().enumerate();
        all.filter(|(index, message)| wanted(message) && !got.contains(index))
            .map(|(index, _)| index)
            .collect()
    }

    /// QoS 2: once in each Session; one more for each retained copy that was asked for.
    pub(crate) fn check_once(&mut self, devices: &[Device]) {
        let mut counts: BTreeMap<(usize, u64, usize), (u64, u64)> = BTreeMap::new();
        for delivery in self.deliveries.iter().filter(|d| d.qos == 2) {
            let key = (delivery.device, delivery.incarnation, delivery.message);
            let (live, replayed) = counts.entry(key).or_default();
            *if delivery.retain { replayed } else { live } += 1;
        }
        for ((device, incarnation, message), (live, _)) in counts {
            if live > 1 {
                let id = &devices[device].id;
                self.fault(format!("{id} got message {message} {live} times ({incarnation})"));
            }
        }
        let mut groups: BTreeMap<_, u64> = BTreeMap::new();
        // With DUP it may be what a device has got in a Session that it does not trust any more.
        for delivery in self.deliveries.iter().filter(|d| d.qos == 2 && !d.retain && !d.dup) {
            if let Some(share) = devices[delivery.device].shares {
                *groups.entry((share, delivery.message)).or_default() += 1;
            }
        }
        for ((share, message), times) in groups {
            if times > 1 {
                self.fault(format!("members of {share:?} got message {message} {times} times"));
            }
        }
    }

    /// MQTT-4.6.0-6: what one publisher says in one topic at one QoS comes in this order.
    pub(crate) fn check_order(&mut self, devices: &[Device]) {
        let mut last: BTreeMap<_, usize> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut wrong = Vec::new();
        for delivery in &self.deliveries {
            let message = &self.messages[delivery.message];
            let session = (delivery.device, delivery.incarnation);
            let first = seen.insert((session, delivery.message));
            let again = message.qos == 1 && message.sends > 1;
            let excused = again || message.is_will || devices[delivery.device].shares.is_some();
            if !first || excused || delivery.retain {
                continue;
            }
            let lane = (session, message.publisher, message.topic, message.qos, delivery.qos);
            let before = last.insert(lane, delivery.message).unwrap_or(0);
            if before > delivery.message {
                let id = &devices[delivery.device].id;
                wrong.push(format!("{id} got message {} behind {before}", delivery.message));
            }
        }
        self.faults.extend(wrong);
    }

    /// A retained message, and what is published over it, comes newest last.
    pub(crate) fn check_newest_last(&mut self, devices: &[Device]) {
        let mut last: BTreeMap<_, usize> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut wrong = Vec::new();
        for delivery in &self.deliveries {
            let message = &self.messages[delivery.message];
            if message.topic != OWNED || message.is_will {
                continue;
            }
            let session = (delivery.device, delivery.incarnation);
            let first = seen.insert((session, delivery.message));
            if !first && delivery.dup {
                continue;
            }
            let before = last.insert((session, delivery.qos), delivery.message).unwrap_or(0);
            if before > delivery.message {
                let id = &devices[delivery.device].id;
                wrong.push(format!("{id} got retained {} behind {before}", delivery.message));
            }
        }
        self.faults.extend(wrong);
    }

    /// What a new subscriber was given as retained, against what was acknowledged. `full`: a limit has kept messages
    /// from being retained.
    pub(crate) fn check_retained(&mut self, given: &BTreeMap<String, Vec<u8>>, full: bool) {
        let mut wrong = Vec::new();
        for (number, topic) in TOPICS.iter().enumerate() {
            let all = || {
                let messages = self.messages.iter().enumerate();
                messages.filter(move |(_, m)| m.retain && m.topic == number)
            };
            let newest = all()
                .filter(|(_, m)| !m.expires && !m.is_will)
                .filter_map(|(i, m)| Some((m.acknowledged?, i)));
            let Some(payload) = given.get(*topic) else {
                let uncertain = self.cleared.contains(&number)
                    || full
                    || all().any(|(_, m)| m.expires || m.is_will);
                if !uncertain && newest.clone().next().is_some() {
                    wrong.push(format!("nothing is retained in {topic}"));
                }
                continue;
            };
            let text = String::from_utf8_lossy(payload);
            let index: usize =
                text.split('.').next().and_then(|name| name.parse().ok()).unwrap_or(usize::MAX);
            let Some((_, kept)) = all().find(|(i, _)| *i == index) else {
                wrong.push(format!("{text:.20} is retained in {topic}"));
                continue;
            };
            // Something that was said after this one was acknowledged, and acknowledged itself, is newer.
            let until = kept.acknowledged.filter(|_| !kept.is_will).unwrap_or(u64::MAX);
            let newer =
                all().find(|(_, m)| m.said > until && m.acknowledged.is_some() && m.qos > 0);
            if let (Some((newer, _)), false) = (newer, full) {
                wrong.push(format!("{index} is retained in {topic}, not {newer}"));
            }
        }
        self.faults.extend(wrong);
    }
}

/// Section 4.7, level by level.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}
