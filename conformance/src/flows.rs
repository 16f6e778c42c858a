//! Multi-party flows: parties of every version that publish to and subscribe with each other, drawn from a
//! seed, and a small model that says who must get what.
//!
//! The model knows nothing but the standard, and matches topics by its own naive rule. Where the standard
//! leaves a choice, every choice passes.

use std::collections::BTreeMap;

use crate::codec::Version;

mod play;
mod show;

pub(crate) use play::play;

/// What a flow is mostly about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Focus {
    /// Everybody is connected.
    Live,
    /// Messages are retained before, between and behind.
    Retained,
    /// Some parties leave and come back, as another version perhaps.
    Away,
    /// Some parties share subscriptions.
    Shared,
}

/// One story: who there is, and what they say.
#[derive(Clone)]
pub(crate) struct Flow {
    /// Retained before anybody subscribes.
    pub(crate) before: Vec<Message>,
    pub(crate) parties: Vec<Party>,
    pub(crate) live: Vec<Message>,
    /// Subscribes at the end.
    pub(crate) late: Party,
}

/// A client.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) version: Version,
    pub(crate) alias_maximum: u16,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Leaves before the live messages and comes back behind them, as this version.
    pub(crate) comes_back_as: Option<Version>,
}

#[derive(Clone)]
pub(crate) struct Subscription {
    pub(crate) share: Option<&'static str>,
    pub(crate) filter: &'static str,
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) handling: u8,
    pub(crate) id: Option<u32>,
}

#[derive(Clone)]
pub(crate) struct Message {
    /// Which party says it.
    pub(crate) from: usize,
    pub(crate) topic: &'static str,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Only from 5.0, as the two below.
    pub(crate) expiry: Option<u32>,
    pub(crate) user: bool,
    pub(crate) alias: Option<u16>,
}

/// A sequence that a seed determines: SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
    }

    fn pick<T: Clone>(&mut self, table: &[T]) -> T {
        table[self.below(table.len())].clone()
    }

    /// True once in `n`.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

const TOPICS: [&str; 5] = ["f/a", "f/b", "f/a/x", "f/b/x", "f//x"];
const FILTERS: [&str; 9] = ["f/#", "f/+", "f/a", "f/b/#", "f/+/x", "+/a", "f/a/#", "f/+/+", "f//x"];
const SHARES: [(&str, &str); 3] = [("g", "f/#"), ("g", "f/+"), ("h", "f/#")];
const EXPIRIES: [Option<u32>; 3] = [None, Some(100), Some(100_000)];
const ALIASES: [Option<u16>; 4] = [None, None, Some(1), Some(2)];
const ALIAS_MAXIMA: [u16; 4] = [0, 1, 2, 10];
const IDS: [Option<u32>; 4] = [None, Some(1), Some(128), Some(268_435_455)];
const HANDLINGS: [u8; 4] = [0, 0, 1, 2];

impl Flow {
    /// The flow of this seed.
    pub(crate) fn draw(seed: u64, focus: Focus, versions: &[Version]) -> Flow {
        let mut dice = Dice::new(seed);
        let mut parties: Vec<Party> =
            (0..3 + dice.below(4)).map(|_| Party::draw(&mut dice, focus, versions)).collect();
        // Party 0 is always there to say something.
        parties[0].comes_back_as = None;
        let speakers: Vec<usize> =
            (0..parties.len()).filter(|&i| parties[i].comes_back_as.is_none()).collect();
        let before = if focus == Focus::Retained { 1 + dice.below(5) } else { dice.below(2) };
        let before = (0..before).map(|i| {
            let payload = format!("before {i}");
            Message { retain: true, alias: None, ..Message::draw(&mut dice, payload, &[0], focus) }
        });
        let before: Vec<Message> = before.collect();
        let mut live: Vec<Message> = (0..4 + dice.below(12))
            .map(|i| Message::draw(&mut dice, format!("live {i}"), &speakers, focus))
            .collect();
        if focus == Focus::Retained && dice.one_in(2) {
            // At most one: an empty payload has no name of its own.
            let clearing = dice.below(live.len());
            live[clearing].payload.clear();
            live[clearing].retain = true;
        }
        let late = Party { comes_back_as: None, ..Party::draw(&mut dice, Focus::Live, versions) };
        Flow { before, parties, live, late }
    }

    /// The version of who said it.
    pub(crate) fn speaker(&self, message: &Message) -> Version {
        // What is retained before is said by a client of the late party's version.
        let before = self.before.iter().any(|m| m.payload == message.payload);
        if before { self.late.version } else { self.parties[message.from].version }
    }

    /// The retained messages when all is said, by topic.
    pub(crate) fn retained(&self) -> BTreeMap<&'static str, &Message> {
        let mut kept = BTreeMap::new();
        for message in self.before.iter().chain(&self.live).filter(|m| m.retain) {
            if message.payload.is_empty() {
                kept.remove(message.topic);
            } else {
                kept.insert(message.topic, message);
            }
        }
        kept
    }
}

impl Party {
    fn draw(dice: &mut Dice, focus: Focus, versions: &[Version]) -> Party {
        // The newest version has the most to get wrong.
        let newest = versions.iter().copied().max().filter(|_| dice.one_in(2));
        let version = newest.unwrap_or_else(|| dice.pick(versions));
        let shares = focus == Focus::Shared && version == Version::V5 && !dice.one_in(4);
        let subscriptions = if shares {
            let (share, filter) = dice.pick(&SHARES);
            let plain = Subscription::draw(dice, version, filter);
            // No Local in a shared subscription is a fault (MQTT-3.8.3-4).
            vec![Subscription { share: Some(share), no_local: false, ..plain }]
        } else {
            let mut filters = FILTERS.to_vec();
            (0..1 + dice.below(3))
                .map(|_| {
                    let filter = filters.swap_remove(dice.below(filters.len()));
                    Subscription::draw(dice, version, filter)
                })
                .collect()
        };
        // MQTT 3.1 has no Session Present, but its Sessions can be resumed like others.
        let leaves = focus == Focus::Away && !dice.one_in(3);
        Party {
            version,
            alias_maximum: dice.pick(&ALIAS_MAXIMA),
            subscriptions,
            comes_back_as: leaves.then(|| dice.pick(versions)),
        }
    }
}

impl Subscription {
    fn draw(dice: &mut Dice, version: Version, filter: &'static str) -> Subscription {
        let v5 = version == Version::V5;
        Subscription {
            share: None,
            filter,
            qos: dice.pick(&[0, 1, 2]),
            no_local: v5 && dice.one_in(2),
            retain_as_published: v5 && dice.one_in(2),
            handling: if v5 { dice.pick(&HANDLINGS) } else { 0 },
            id: if v5 { dice.pick(&IDS) } else { None },
        }
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        matches(self.filter, topic)
    }
}

impl Message {
    fn draw(dice: &mut Dice, payload: String, speakers: &[usize], focus: Focus) -> Message {
        Message {
            from: dice.pick(speakers),
            topic: dice.pick(&TOPICS),
            payload,
            qos: dice.pick(&[0, 1, 2]),
            retain: dice.one_in(if focus == Focus::Retained { 2 } else { 5 }),
            expiry: dice.pick(&EXPIRIES),
            user: dice.one_in(2),
            alias: dice.pick(&ALIASES),
        }
    }
}

/// Section 4.7, level by level.
fn matches(filter: &str, topic: &str) -> bool {
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

/// One PUBLISH as the model expects it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) qos: u8,
    /// `None`: either.
    pub(crate) retain: Option<bool>,
    pub(crate) ids: Vec<u32>,
    /// It may also not come: QoS 0 for who is away.
    pub(crate) optional: bool,
}

impl Copy {
    /// The copy of a message for one subscription.
    fn of(message: &Message, subscription: &Subscription, replayed: bool) -> Copy {
        Copy {
            qos: message.qos.min(subscription.qos),
            retain: Some(replayed || message.retain && subscription.retain_as_published),
            ids: subscription.id.into_iter().collect(),
            optional: false,
        }
    }
}

/// What a subscriber may get of a live message: one copy for all its subscriptions (MQTT-3.3.5-1 in 3.1.1,
/// MQTT-3.3.4-2 in 5.0), or one for each; the standards allow both. MQTT 3.1 does not say which of overlapping
/// subscriptions lends its QoS to the one copy.
pub(crate) fn live_copies(message: &Message, party: &Party, number: usize) -> Vec<Vec<Copy>> {
    let matching: Vec<&Subscription> = party
        .subscriptions
        .iter()
        .filter(|s| s.matches(message.topic) && !(s.no_local && message.from == number))
        .collect();
    let away = party.comes_back_as.is_some();
    let mut each: Vec<Copy> = matching.iter().map(|s| Copy::of(message, s, false)).collect();
    // Subscription Identifiers are for clients of 5.0.
    let version = party.comes_back_as.unwrap_or(party.version);
    if version < Version::V5 {
        each.iter_mut().for_each(|copy| copy.ids.clear());
    }
    let mut merged = each.clone().into_iter().reduce(|mut all, one| {
        all.qos = all.qos.max(one.qos);
        // Which subscription's Retain As Published counts is left open.
        all.retain = if all.retain == one.retain { all.retain } else { None };
        all.ids.extend(one.ids);
        all
    });
    for copy in each.iter_mut().chain(&mut merged) {
        copy.optional = away && copy.qos == 0;
        copy.ids.sort_unstable();
    }
    let mut allowed = vec![merged.into_iter().collect()];
    if version == Version::V31 || party.version == Version::V31 {
        allowed.extend(each.iter().cloned().map(|copy| vec![copy]));
    }
    allowed.push(each);
    allowed
}

/// What a new subscriber gets of what is retained: one copy for each subscription (MQTT-3.3.1-9). That a shared
/// one gets none is said without a number (5.0, section 4.8.2): a case of its own asks for it, here both pass.
pub(crate) fn replayed_copies(message: &Message, party: &Party) -> Vec<Copy> {
    let matching = party.subscriptions.iter().filter(|s| s.handling < 2);
    let copy =
        |s: &Subscription| Copy { optional: s.share.is_some(), ..Copy::of(message, s, true) };
    matching.filter(|s| s.matches(message.topic)).map(copy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_matching_is_that_of_section_4_7() {
        for (filter, topic, expected) in [
            ("f/#", "f", true),
            ("f/#", "f/a/x", true),
            ("f/+", "f/a", true),
            ("f/+", "f/a/x", false),
            ("f/+/x", "f//x", true),
            ("+/a", "f/a", true),
            ("f/a", "f/a/x", false),
            ("f/a/x", "f/a", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn where_the_standards_leave_a_choice_every_choice_is_allowed() {
        let subscription = |filter, qos| Subscription {
            share: None,
            filter,
            qos,
            no_local: false,
            retain_as_published: false,
            handling: 0,
            id: None,
        };
        let mut party = Party {
            version: Version::V311,
            alias_maximum: 0,
            subscriptions: vec![subscription("f/#", 0), subscription("f/a", 2)],
            comes_back_as: None,
        };
        let message = Message {
            from: 1,
            topic: "f/a",
            payload: "x".into(),
            qos: 1,
            retain: false,
            expiry: None,
            user: false,
            alias: None,
        };
        let levels = |party: &Party| -> Vec<Vec<u8>> {
            let allowed = live_copies(&message, party, 0);
            allowed.iter().map(|copies| copies.iter().map(|copy| copy.qos).collect()).collect()
        };
        assert_eq!(levels(&party), [vec![1], vec![0, 1]]);
        party.version = Version::V31;
        assert_eq!(levels(&party), [vec![1], vec![0], vec![1], vec![0, 1]]);
        party.subscriptions[0].share = Some("g");
        let optional: Vec<bool> =
            replayed_copies(&message, &party).iter().map(|copy| copy.optional).collect();
        assert_eq!(optional, [true, false]);
    }

    #[test]
    fn a_seed_is_a_flow() {
        let versions = crate::codec::ALL;
        for focus in [Focus::Live, Focus::Retained, Focus::Away, Focus::Shared] {
            let one = Flow::draw(7, focus, &versions).to_string();
            assert_eq!(one, Flow::draw(7, focus, &versions).to_string());
            assert_ne!(one, Flow::draw(8, focus, &versions).to_string());
        }
    }
}
