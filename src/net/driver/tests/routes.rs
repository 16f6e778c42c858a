//! Every way on which a message reaches a Client, under rules that change at any moment, against a model: live, retained,
//! queued, sent again, shared, Wills, Sessions that are resumed, and clients in process (pitfall 9).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::access::bench_of;
use super::*;
use crate::access::{Action, Identity};
use crate::broker::Client;
use crate::message::Message;
use crate::packet::testing::{binary, packet, property, section, string};
use crate::packet::{ProtocolVersion, QoS, SubscriptionOptions};
use crate::session::testing::{PUBLISH, PUBREL, Packet, packets};
use crate::topic::{TopicFilter, TopicName};

const CLIENTS: [&str; 3] = ["c0", "c1", "c2"];
const GUEST: &str = "guest";
const TOPICS: [&str; 3] = ["a", "b", "b/c"];
const FILTERS: [&str; 4] = ["a", "b", "b/#", "+/c"];
/// Only the shared subscription matches it, at QoS 0.
const SHARED: &str = "s";
const QUOTA: usize = 2;

/// How a Client acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Wholly,
    /// PUBREC, but not PUBCOMP.
    Half,
    Never,
}

#[derive(Debug, Clone)]
enum Op {
    Connect { client: usize, clean: bool, lasts: bool, will: Option<usize> },
    Drop(usize),
    Disconnect(usize),
    Subscribe { client: usize, filter: usize, qos: u8 },
    Unsubscribe { client: usize, filter: usize },
    Share(usize),
    Publish { client: usize, topic: usize, qos: u8, retain: bool },
    PublishShared(usize),
    Host { topic: usize, qos: u8, retain: bool },
    Acknowledge(usize, Mode),
    Take,
    Toggle { who: &'static str, action: Action, topic: &'static str },
    Ban(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let client = || 0..CLIENTS.len();
    let (topic, filter, qos) = (|| 0..TOPICS.len(), || 0..FILTERS.len(), || 0..3_u8);
    prop_oneof![
        4 => (client(), any::<bool>(), any::<bool>(), proptest::option::of(topic()))
            .prop_map(|(client, clean, lasts, will)| Op::Connect { client, clean, lasts, will }),
        2 => client().prop_map(Op::Drop),
        1 => client().prop_map(Op::Disconnect),
        4 => (client(), filter(), qos())
            .prop_map(|(client, filter, qos)| Op::Subscribe { client, filter, qos }),
        1 => (client(), filter()).prop_map(|(client, filter)| Op::Unsubscribe { client, filter }),
        2 => client().prop_map(Op::Share),
        6 => (client(), topic(), qos(), any::<bool>())
            .prop_map(|(client, topic, qos, retain)| Op::Publish { client, topic, qos, retain }),
        3 => client().prop_map(Op::PublishShared),
        4 => (topic(), qos(), any::<bool>())
            .prop_map(|(topic, qos, retain)| Op::Host { topic, qos, retain }),
        3 => (client(), prop_oneof![Just(Mode::Wholly), Just(Mode::Half), Just(Mode::Never)])
            .prop_map(|(client, mode)| Op::Acknowledge(client, mode)),
        2 => Just(Op::Take),
        6 => toggle(Action::Receive, &TOPICS),
        6 => toggle(Action::Publish, &TOPICS),
        2 => toggle(Action::Subscribe, &FILTERS),
        1 => toggle(Action::Unsubscribe, &FILTERS),
        1 => client().prop_map(Op::Ban),
    ]
}

/// A rule about a topic, or about the shared subscription, comes or goes.
fn toggle(action: Action, topics: &'static [&'static str]) -> impl Strategy<Value = Op> {
    let everybody = [CLIENTS[0], CLIENTS[1], CLIENTS[2], GUEST];
    (0..everybody.len(), 0..=topics.len()).prop_map(move |(who, topic)| {
        let topic = topics.get(topic).copied().unwrap_or(SHARED);
        Op::Toggle { who: everybody[who], action, topic }
    })
}

// ---- The rules -----------------------------------------------------------------------------------

#[derive(Debug, Default)]
struct Rules {
    denied: BTreeSet<(String, String, String)>,
    banned: BTreeSet<String>,
}

impl Rules {
    fn may(&self, who: &str, action: Action, topic: &str) -> bool {
        !self.denied.contains(&(who.to_owned(), action.to_string(), topic.to_owned()))
    }
}

fn policy(rules: &Arc<Mutex<Rules>>) -> Arc<Rig> {
    let (connecting, asked, current) = (rules.clone(), rules.clone(), rules.clone());
    Arc::new(Rig {
        authorize: Box::new(move |request| {
            assert_eq!(request.identity.user_name(), Some(request.client_id));
            lock(&asked).may(request.client_id, request.action, request.topic)
        }),
        is_current: Box::new(move |identity| {
            !lock(&current).banned.contains(identity.user_name().unwrap_or_default())
        }),
        authenticate: Box::new(move |shown| {
            let banned = lock(&connecting).banned.contains(&*shown.client_id);
            Box::pin(std::future::ready(match banned {
                true => Answer::Refuse(Refusal::not_authorized(RULE)),
                false => Answer::accept(Identity::new(RULE).with_user_name(&shown.client_id)),
            }))
        }),
        ..Rig::default()
    })
}

// ---- The model -----------------------------------------------------------------------------------

#[derive(Debug, Clone)]
struct Told {
    number: u32,
    topic: &'static str,
    qos: u8,
    /// It comes from a replay of retained messages.
    replayed: bool,
}

/// A message that was sent and is not completely acknowledged; `None` after PUBREC.
type Open = Option<Told>;

#[derive(Debug)]
struct Model {
    subscriptions: BTreeMap<&'static str, u8>,
    shared: bool,
    queue: VecDeque<Told>,
    inflight: Vec<Open>,
    /// Filter, QoS, and the Topic Name after which it goes on.
    replays: Vec<(&'static str, u8, &'static str)>,
    lasts: bool,
    connected: bool,
    will: Option<Told>,
}

fn matches(filter: &str, topic: &str) -> bool {
    TopicFilter::new(filter).unwrap().matches(&TopicName::new(topic).unwrap())
}

impl Model {
    fn new() -> Model {
        Model {
            subscriptions: BTreeMap::new(),
            shared: false,
            queue: VecDeque::new(),
            inflight: Vec::new(),
            replays: Vec::new(),
            lasts: false,
            connected: false,
            will: None,
        }
    }

    fn offer(&mut self, told: &Told) {
        let matching = self.subscriptions.iter().filter(|(filter, _)| matches(filter, told.topic));
        let Some(qos) = matching.map(|(_, qos)| *qos).max() else { return };
        let told = Told { qos: qos.min(told.qos), ..told.clone() };
        if self.connected || told.qos > 0 {
            self.queue.push_back(told);
        }
    }

    /// What is sent now: number and RETAIN.
    fn fill(
        &mut self,
        who: &str,
        rules: &Rules,
        retained: &BTreeMap<&'static str, Told>,
    ) -> Vec<(u32, bool)> {
        let mut sent = Vec::new();
        let may = |topic: &str| rules.may(who, Action::Receive, topic);
        loop {
            let quota_left = self.inflight.len() < QUOTA;
            let at = self.queue.iter().position(|told| quota_left || told.qos == 0);
            if let Some(told) = at.and_then(|at| self.queue.remove(at)) {
                if may(told.topic) {
                    sent.push((told.number, false));
                    self.inflight.extend((told.qos > 0).then_some(Some(told)));
                }
                continue;
            }
            if !self.queue.is_empty() || !quota_left || self.replays.is_empty() {
                return sent;
            }
            let (filter, qos, after) = &mut self.replays[0];
            let next =
                retained.iter().find(|(topic, _)| **topic > *after && matches(filter, topic));
            let Some((topic, told)) = next else {
                self.replays.remove(0);
                continue;
            };
            *after = topic;
            let qos = told.qos.min(*qos);
            if may(topic) {
                sent.push((told.number, true));
                let told = Told { qos, replayed: true, ..told.clone() };
                self.inflight.extend((qos > 0).then_some(Some(told)));
            }
        }
    }

    /// The Session is resumed: what is sent again.
    fn send_again(&mut self, who: &str, rules: &Rules) -> Vec<(u32, bool)> {
        let mut sent = Vec::new();
        self.inflight.retain_mut(|open| {
            let Some(told) = open else { return true };
            if rules.may(who, Action::Receive, told.topic) {
                sent.push((told.number, told.replayed));
                return true;
            }
            let exactly_once = told.qos == 2;
            *open = None; // only PUBREL of QoS 2
            exactly_once
        });
        sent
    }

    fn acknowledge(&mut self, mode: Mode) {
        self.inflight.retain_mut(|open| match (mode, &open) {
            (Mode::Wholly, _) => false,
            (Mode::Half, Some(told)) if told.qos == 1 => false,
            (Mode::Half, _) => {
                *open = None;
                true
            }
            (Mode::Never, _) => true,
        });
    }
}

// ---- The test ------------------------------------------------------------------------------------

/// A Client on the network: its connection, and what it has received and not acknowledged.
struct Peer {
    served: Option<Served>,
    mode: Mode,
    open: Vec<Packet>,
}

struct Sim {
    bench: Bench,
    rules: Arc<Mutex<Rules>>,
    peers: Vec<Peer>,
    models: Vec<Option<Model>>,
    retained: BTreeMap<&'static str, Told>,
    host: Client,
    guest: Client,
    guest_queue: Vec<Told>,
    numbers: u32,
    ids: u16,
    /// What the model expects in this step.
    expected: Vec<Vec<(u32, bool)>>,
    shared: Option<(u32, Vec<usize>)>,
}

impl Sim {
    fn new() -> Sim {
        let rules = Arc::new(Mutex::new(Rules::default()));
        let bench = bench_of(policy(&rules));
        let host = Client::open(&bench.engine, "host", None).unwrap();
        let identity = Identity::new(RULE).with_user_name(GUEST);
        let guest = Client::open(&bench.engine, GUEST, Some(identity)).unwrap();
        for filter in ["a", "b/#"] {
            let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
            block_on(guest.subscribe(&TopicFilter::new(filter).unwrap(), options)).unwrap();
        }
        let peer = || Peer { served: None, mode: Mode::Wholly, open: Vec::new() };
        Sim {
            bench,
            rules,
            peers: CLIENTS.iter().map(|_| peer()).collect(),
            models: CLIENTS.iter().map(|_| None).collect(),
            retained: BTreeMap::new(),
            host,
            guest,
            guest_queue: Vec::new(),
            numbers: 0,
            ids: 0,
            expected: vec![Vec::new(); CLIENTS.len()],
            shared: None,
        }
    }

    fn may(&self, who: usize, action: Action, topic: &str) -> bool {
        lock(&self.rules).may(CLIENTS[who], action, topic)
    }

    fn next(&mut self, topic: &'static str, qos: u8) -> Told {
        self.numbers += 1;
        Told { number: self.numbers, topic, qos, replayed: false }
    }

    fn next_id(&mut self) -> [u8; 2] {
        self.ids += 1;
        self.ids.to_be_bytes()
    }

    fn is_connected(&self, who: usize) -> bool {
        self.models[who].as_ref().is_some_and(|model| model.connected)
    }

    fn send(&mut self, who: usize, bytes: &[u8]) {
        self.peers[who].served.as_mut().unwrap().send(bytes);
    }

    /// Turns of all connections, and all that the Clients get and acknowledge in them.
    fn run(&mut self) -> Vec<Vec<(u32, bool)>> {
        let mut got = vec![Vec::new(); CLIENTS.len()];
        for _ in 0..12 {
            self.bench.hand.run();
            for (who, peer) in self.peers.iter_mut().enumerate() {
                let Some(served) = &mut peer.served else { continue };
                let over = served.turn();
                for packet in packets(ProtocolVersion::V5, &served.got()) {
                    if packet.kind == PUBLISH {
                        let number = std::str::from_utf8(&packet.payload).unwrap().parse().unwrap();
                        got[who].push((number, packet.retain));
                    }
                    if matches!(packet.kind, PUBLISH | PUBREL) && packet.id.is_some() {
                        peer.open.push(packet);
                    }
                }
                if over {
                    peer.served = None;
                } else {
                    peer.acknowledge();
                }
            }
        }
        got
    }

    // ---- What the model does -----------------------------------------------------------------------

    fn publish(&mut self, told: &Told, retain: bool) {
        if retain {
            self.retained.insert(told.topic, told.clone());
        }
        self.models.iter_mut().flatten().for_each(|model| model.offer(told));
        if ["a", "b/#"].iter().any(|filter| matches(filter, told.topic)) {
            self.guest_queue.push(told.clone());
        }
    }

    fn lose(&mut self, who: usize, published: bool) {
        let Some(model) = &mut self.models[who] else { return };
        if !std::mem::take(&mut model.connected) {
            return;
        }
        model.queue.retain(|told| told.qos > 0);
        let will = model.will.take();
        if !model.lasts {
            self.models[who] = None;
        }
        if let Some(will) = will
            && published
            && self.may(who, Action::Publish, will.topic)
            && !self.is_banned(who)
        {
            self.publish(&will, false);
        }
    }

    fn settle(&mut self) {
        let rules = self.rules.clone();
        let rules = lock(&rules);
        for (who, model) in self.models.iter_mut().enumerate() {
            let Some(model) = model.as_mut().filter(|model| model.connected) else { continue };
            loop {
                model.acknowledge(self.peers[who].mode);
                let sent = model.fill(CLIENTS[who], &rules, &self.retained);
                let more = !sent.is_empty();
                self.expected[who].extend(sent);
                if !more {
                    break;
                }
            }
        }
    }

    // ---- Steps -------------------------------------------------------------------------------------

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Connect { client, clean, lasts, will } => self.connect(client, clean, lasts, will),
            Op::Drop(who) => {
                self.peers[who].served = None;
                self.lose(who, true);
            }
            Op::Disconnect(who) if self.is_connected(who) => {
                self.send(who, b"\xE0\x00");
                self.lose(who, false);
            }
            Op::Subscribe { client, filter, qos } => self.subscribe(client, FILTERS[filter], qos),
            Op::Unsubscribe { client, filter } if self.is_connected(client) => {
                let (id, filter) = (self.next_id(), FILTERS[filter]);
                self.send(client, &packet(0xA2, &[id.to_vec(), vec![0], string(filter)]));
                if let Some(model) = &mut self.models[client]
                    && lock(&self.rules).may(CLIENTS[client], Action::Unsubscribe, filter)
                {
                    model.subscriptions.remove(filter);
                    model.replays.retain(|(replayed, ..)| *replayed != filter);
                }
            }
            Op::Share(who) if self.is_connected(who) => {
                let (id, filter) = (self.next_id(), string("$share/g/s"));
                self.send(who, &packet(0x82, &[id.to_vec(), vec![0], filter, vec![0]]));
                let may = self.may(who, Action::Subscribe, SHARED);
                self.models[who].as_mut().unwrap().shared |= may;
            }
            Op::Publish { client, topic, qos, retain } if self.is_connected(client) => {
                let told = self.next(TOPICS[topic], qos);
                self.send_publish(client, &told, retain);
                if self.may(client, Action::Publish, told.topic) {
                    self.publish(&told, retain);
                }
            }
            Op::PublishShared(who) if self.is_connected(who) => self.publish_shared(who),
            Op::Host { topic, qos, retain } => {
                let told = self.next(TOPICS[topic], qos);
                let message = Message::new(told.topic, told.number.to_string()).unwrap();
                let message = message.with_qos(QoS::from_bits(qos).unwrap()).with_retain(retain);
                block_on(self.host.publish(message)).unwrap();
                self.publish(&told, retain);
            }
            Op::Acknowledge(who, mode) => self.peers[who].mode = mode,
            Op::Take => self.take(),
            Op::Toggle { who, action, topic } => self.toggle(who, action, topic),
            Op::Ban(who) => self.ban(who),
            _ => {}
        }
        self.settle();
        self.compare();
    }

    fn toggle(&mut self, who: &str, action: Action, topic: &str) {
        let rule = (who.to_owned(), action.to_string(), topic.to_owned());
        let mut rules = lock(&self.rules);
        if !rules.denied.remove(&rule) {
            rules.denied.insert(rule);
        }
        drop(rules);
        self.bench.engine.policy_changed();
    }

    fn is_banned(&self, who: usize) -> bool {
        lock(&self.rules).banned.contains(CLIENTS[who])
    }

    fn ban(&mut self, who: usize) {
        let mut rules = lock(&self.rules);
        let lifted = rules.banned.remove(CLIENTS[who]);
        if !lifted {
            rules.banned.insert(CLIENTS[who].to_owned());
        }
        drop(rules);
        self.bench.engine.policy_changed();
        if !lifted {
            self.lose(who, true);
        }
    }

    fn connect(&mut self, who: usize, clean: bool, lasts: bool, will: Option<usize>) {
        self.peers[who].served = None;
        self.peers[who].open.clear();
        self.lose(who, true);
        let will = will.map(|topic| self.next(TOPICS[topic], 1));
        let flags = u8::from(clean) << 1 | if will.is_some() { 0b1100 } else { 0 };
        let quota = u16::try_from(QUOTA).unwrap().to_be_bytes();
        let expiry = if lasts { u32::MAX } else { 0 }.to_be_bytes();
        let properties = section(&[property(0x21, &quota), property(0x11, &expiry)]);
        let mut parts =
            vec![string("MQTT"), vec![5, flags, 0, 0], properties, string(CLIENTS[who])];
        if let Some(will) = &will {
            parts.extend([vec![0], string(will.topic), binary(will.number.to_string().as_bytes())]);
        }
        self.settle(); // the Will of the connection before
        let mut served = self.bench.dial(64 * 1024);
        served.send(&packet(0x10, &parts));
        self.peers[who].served = Some(served);
        let refused = lock(&self.rules).banned.contains(CLIENTS[who])
            || will.as_ref().is_some_and(|will| !self.may(who, Action::Publish, will.topic));
        if refused {
            return;
        }
        let resumed = self.models[who].take().filter(|_| !clean);
        let mut model = resumed.unwrap_or_else(Model::new);
        (model.connected, model.lasts, model.will) = (true, lasts, will);
        self.expected[who].extend(model.send_again(CLIENTS[who], &lock(&self.rules)));
        self.models[who] = Some(model);
    }

    fn subscribe(&mut self, who: usize, filter: &'static str, qos: u8) {
        if !self.is_connected(who) {
            return;
        }
        let id = self.next_id();
        self.send(who, &packet(0x82, &[id.to_vec(), vec![0], string(filter), vec![qos]]));
        if !self.may(who, Action::Subscribe, filter) {
            return;
        }
        let kept = !self.retained.is_empty();
        let Some(model) = &mut self.models[who] else { return };
        model.subscriptions.insert(filter, qos);
        if kept {
            model.replays.retain(|(replayed, ..)| *replayed != filter);
            model.replays.push((filter, qos, ""));
        }
    }

    fn send_publish(&mut self, who: usize, told: &Told, retain: bool) {
        let header = 0x30 | told.qos << 1 | u8::from(retain);
        let id = if told.qos > 0 { self.next_id().to_vec() } else { Vec::new() };
        let payload = told.number.to_string().into_bytes();
        self.send(who, &packet(header, &[string(told.topic), id.clone(), vec![0], payload]));
        if told.qos == 2 {
            self.send(who, &packet(0x62, &[id]));
        }
    }

    fn publish_shared(&mut self, who: usize) {
        let told = self.next(SHARED, 0);
        self.send_publish(who, &told, false);
        let receives = |member: &usize| {
            self.may(*member, Action::Receive, SHARED)
                && self.models[*member].as_ref().is_some_and(|it| it.connected && it.shared)
        };
        let allowed = self.may(who, Action::Publish, SHARED);
        let members = (0..CLIENTS.len()).filter(|member| allowed && receives(member)).collect();
        self.shared = Some((told.number, members));
    }

    /// The guest takes what waits for it.
    fn take(&mut self) {
        let rules = self.rules.clone();
        let expected: Vec<u32> = std::mem::take(&mut self.guest_queue)
            .iter()
            .filter(|told| lock(&rules).may(GUEST, Action::Receive, told.topic))
            .map(|told| told.number)
            .collect();
        let mut got: Vec<u32> = Vec::new();
        while let Some(Some(message)) = block_on(poll_once(self.guest.recv())) {
            got.push(std::str::from_utf8(message.payload()).unwrap().parse().unwrap());
        }
        assert_eq!(got, expected, "in process");
    }

    fn compare(&mut self) {
        let mut got = self.run();
        if let Some((number, members)) = self.shared.take() {
            let mut receivers = Vec::new();
            for (who, got) in got.iter_mut().enumerate() {
                let before = got.len();
                got.retain(|(received, _)| *received != number);
                receivers.extend(vec![who; before - got.len()]);
            }
            match receivers[..] {
                [] => assert!(members.is_empty(), "{number} was for one of {members:?}"),
                [one] => assert!(members.contains(&one), "{one} is not among {members:?}"),
                _ => panic!("{number} went to {receivers:?}"),
            }
        }
        let expected = std::mem::replace(&mut self.expected, vec![Vec::new(); CLIENTS.len()]);
        assert_eq!(got, expected, "received, and expected");
    }
}

impl Peer {
    /// Acknowledges what the mode says.
    fn acknowledge(&mut self) {
        let (mode, Some(served)) = (self.mode, &mut self.served) else { return };
        self.open.retain(|open| {
            let id = open.id.unwrap().to_be_bytes();
            let header = match (open.kind, open.qos, mode) {
                (_, _, Mode::Never) | (PUBREL, _, Mode::Half) => return true,
                (PUBLISH, 1, _) => 0x40,
                (PUBLISH, ..) => 0x50,
                _ => 0x70,
            };
            served.send(&packet(header, &[id.to_vec()]));
            false
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_way_leads_around_the_rules_and_none_is_closed_by_them_pitfall_9(
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let mut sim = Sim::new();
        for client in 0..CLIENTS.len() {
            sim.step(&Op::Connect { client, clean: false, lasts: true, will: None });
            sim.step(&Op::Share(client));
            sim.step(&Op::Subscribe { client, filter: client, qos: 2 });
        }
        ops.iter().for_each(|op| sim.step(op));
        (0..CLIENTS.len()).for_each(|who| sim.step(&Op::Acknowledge(who, Mode::Wholly)));
        sim.step(&Op::Take);
        prop_assert!(sim.bench.engine.ledger().balances());
    }
}
