//! One run: a broker, its clients, what a seed has them do, and what must hold all the time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::AsyncWriteExt;
use hrotti::testing::{Connector, Dice, Fault, Faults, World};
use hrotti::{Broker, Limits, Message as InProcess, QoS};
use hrotti_conformance::codec::{ALL, Connect, Publish, Subscribe, Version, Will, prop};

use crate::checks::Wrong;
use crate::device::{Connection, Device, Party, Shared, run};
use crate::model::{FILTERS, Message, Model, OWNED, SHARES, Subscription, TOPICS};

/// The longest stall that is drawn.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(10);

/// How long a CONNECT may be on its way.
const UNANSWERED_WITHIN: Duration = Duration::from_secs(15);

/// What runs came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) seeds: u64,
    pub(crate) actions: u64,
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    pub(crate) connections: u64,
    pub(crate) cuts: u64,
    pub(crate) stalls: u64,
    pub(crate) panics: u64,
    pub(crate) errors: u64,
    pub(crate) jumps: u64,
    pub(crate) stops: u64,
    pub(crate) dropped: u64,
    pub(crate) virtual_secs: u64,
}

impl Figures {
    pub(crate) fn add(&mut self, other: Figures) {
        self.seeds += other.seeds;
        self.actions += other.actions;
        self.messages += other.messages;
        self.deliveries += other.deliveries;
        self.connections += other.connections;
        self.cuts += other.cuts;
        self.stalls += other.stalls;
        self.panics += other.panics;
        self.errors += other.errors;
        self.jumps += other.jumps;
        self.stops += other.stops;
        self.dropped += other.dropped;
        self.virtual_secs += other.virtual_secs;
    }
}

pub(crate) struct Story {
    pub(crate) world: World,
    pub(crate) broker: Broker,
    pub(crate) listeners: Vec<Option<Connector>>,
    pub(crate) party: Shared,
    pub(crate) dice: Dice,
    pub(crate) figures: Figures,
    told: bool,
}

fn limits(dice: &mut Dice) -> Limits {
    Limits {
        max_queue_depth: *dice.pick(&[1, 3, 100, 100, 1_000, 1_000]),
        max_inflight: *dice.pick(&[1, 2, 16, 1_024]),
        receive_maximum: *dice.pick(&[1, 3, 1_024]),
        retained_messages_max: *dice.pick(&[2, 1_000, 1_000]),
        answer_bytes_max: *dice.pick(&[128, 262_144]),
        outgoing_topic_alias_maximum: *dice.pick(&[0, 1, 10]),
        ..Limits::default()
    }
}

impl Story {
    pub(crate) fn new(seed: u64, told: bool) -> Story {
        let mut dice = Dice::new(seed ^ 0x5EED_0000_0000);
        let world = World::new(seed);
        world.record(told);
        let limits = limits(&mut dice);
        if told {
            println!("{limits:#?}");
        }
        let max_inflight = usize::from(limits.max_inflight);
        let broker = world.broker(limits);
        let mut devices: Vec<Device> =
            (0..3 + dice.below(4)).map(|n| Device::new(n, *dice.pick(&ALL))).collect();
        for device in &mut devices {
            device.shares = dice.one_in(4).then(|| *dice.pick(&SHARES));
            device.always_clean = device.version == Version::V31 && dice.one_in(2);
        }
        let clock = world.handle();
        let (model, connections) = (Model::default(), Vec::new());
        let party = Party { model, devices, connections, clock, max_inflight };
        let mut story = Story {
            world,
            broker,
            listeners: Vec::new(),
            party: Arc::new(Mutex::new(party)),
            dice,
            figures: Figures { seeds: 1, ..Figures::default() },
            told,
        };
        story.listen();
        if story.dice.one_in(2) {
            story.listen();
        }
        story
    }

    pub(crate) fn play(&mut self) -> Result<(), Wrong> {
        for _ in 0..30 + self.dice.below(60) {
            self.figures.actions += 1;
            self.act();
            let pause = match self.dice.below(4) {
                0 => Duration::ZERO,
                1 => self.dice.up_to(Duration::from_millis(20)),
                2 => self.dice.up_to(Duration::from_millis(500)),
                _ => self.dice.up_to(Duration::from_secs(3)),
            };
            self.advance(pause);
            self.check()?;
            if self.dice.one_in(15) {
                self.settle()?;
            }
        }
        self.finale()?;
        self.end()
    }

    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        if self.told {
            for event in self.world.trace() {
                println!("{event}");
            }
            println!("{:>11.6} -- {}", self.world.now().as_secs_f64(), text());
        }
    }

    pub(crate) fn advance(&mut self, mut left: Duration) {
        loop {
            self.keep_alive();
            let step = left.min(Duration::from_secs(1));
            self.world.advance(step);
            left -= step;
            if left.is_zero() {
                return;
            }
        }
    }

    /// Devices ping before their Keep Alive is over.
    fn keep_alive(&mut self) {
        let mut party = self.party.lock().unwrap();
        let now = party.clock.now();
        for device in 0..party.devices.len() {
            let Some(number) = party.connected(device) else { continue };
            let connection = &party.connections[number];
            let half = Duration::from_secs(connection.keep_alive.into()) / 2;
            if connection.keep_alive > 0 && now.saturating_sub(connection.last_sent) >= half {
                party.ping(number);
            }
        }
    }

    // ---- Actions -----------------------------------------------------------------------------------

    fn listen(&mut self) {
        let name = format!("l{}", self.listeners.len());
        let connector = self.world.listen(&self.broker, &name).unwrap();
        self.listeners.push(Some(connector));
    }

    fn act(&mut self) {
        let device = {
            let mut party = self.party.lock().unwrap();
            party.model.tick += 1;
            self.dice.below(party.devices.len())
        };
        let number = self.party.lock().unwrap().connected(device);
        let Some(number) = number else {
            if self.dice.one_in(3) {
                self.outside(device);
            } else {
                self.connect(device, None);
            }
            return;
        };
        match self.dice.below(20) {
            0..=8 => {
                for _ in 0..1 + self.dice.below(4) {
                    self.publish(device, number);
                }
            }
            9..=11 => self.subscribe(device, number),
            12 => self.unsubscribe(device, number),
            13 => self.leave(number),
            14 => self.connect(device, None),
            15 | 16 => self.disturb(device, number),
            17 => self.party.lock().unwrap().ping(number),
            _ => self.outside(device),
        }
    }

    /// What does not come from a connected device.
    fn outside(&mut self, device: usize) {
        match self.dice.below(9) {
            0 => {
                let by = self.dice.up_to(Duration::from_secs(30));
                self.say(|| format!("the clock jumps by {by:?}"));
                self.figures.jumps += 1;
                let mut party = self.party.lock().unwrap();
                for connection in &mut party.connections {
                    if connection.keep_alive > 0 || connection.is_busy() || !connection.reads {
                        connection.excuse.get_or_insert("jump");
                        connection.said_goodbye = false;
                    }
                }
                drop(party);
                self.world.jump(by);
            }
            1 if self.dice.one_in(3) => self.stop_listener(),
            2 => {
                let listener = self.dice.below(self.listeners.len());
                let error = self.dice.one_in(2).then_some(std::io::ErrorKind::Other);
                self.say(|| format!("listener {listener} fails to accept: {error:?}"));
                if let Some(connector) = &self.listeners[listener] {
                    connector.fail_accept(error);
                    self.figures.panics += u64::from(error.is_none());
                    self.figures.errors += u64::from(error.is_some());
                }
            }
            3 | 4 => self.publish_in_process(),
            5 => {
                let secs = *self.dice.pick(&[5, 70]);
                self.say(|| format!("{secs} s pass"));
                self.advance(Duration::from_secs(secs));
            }
            6 => {
                // A peer that says half of its CONNECT, or something else, and vanishes.
                let Some(connector) = self.listeners.iter().flatten().next() else { return };
                let faults = Faults::draw(&mut self.dice);
                let Ok(mut stream) = connector.connect_with(faults) else { return };
                let texts: [&[u8]; 2] = [b"\x10\x20\0\x04MQTT\x05", b"GET / HTTP/1.1"];
                let bytes = *self.dice.pick(&texts);
                drop(self.world.spawn(async move {
                    let _broken = stream.write_all(bytes).await;
                }));
            }
            _ => self.connect(device, None),
        }
    }

    fn stop_listener(&mut self) {
        let open: Vec<usize> =
            (0..self.listeners.len()).filter(|&l| self.listeners[l].is_some()).collect();
        if open.len() < 2 {
            return self.listen();
        }
        let listener = *self.dice.pick(&open);
        self.say(|| format!("listener {listener} stops"));
        self.figures.stops += 1;
        self.listeners[listener] = None;
        let mut party = self.party.lock().unwrap();
        for connection in party.connections.iter_mut().filter(|c| c.listener == listener) {
            connection.excuse.get_or_insert("listener stopped");
            connection.said_goodbye = false; // this may come before DISCONNECT
        }
        drop(party);
        let broker = self.broker.clone();
        drop(self.world.spawn(async move {
            broker.stop_listener(&format!("l{listener}")).await.unwrap();
        }));
    }

    fn faults(&mut self) -> Faults {
        let mut faults = Faults::draw(&mut self.dice);
        if self.dice.one_in(4) {
            faults.once.push(self.draw_fault(2_000));
        }
        faults
    }

    fn draw_fault(&mut self, bytes: u64) -> Fault {
        let fault = Fault::draw(&mut self.dice, bytes, STALL_MAX);
        *match fault {
            Fault::CutBehind { .. } | Fault::CutAfter(_) => &mut self.figures.cuts,
            Fault::StallBehind { .. } => &mut self.figures.stalls,
            Fault::Panic { .. } => &mut self.figures.panics,
            _ => &mut self.figures.errors,
        } += 1;
        fault
    }

    /// Connects a device; a connection that it has is taken over. `healed`: as it needs to get all that waits.
    pub(crate) fn connect(&mut self, device: usize, healed: Option<&Connector>) {
        let faults = if healed.is_some() { Faults::default() } else { self.faults() };
        let ordered = !faults.once.is_empty();
        let listener = self.dice.below(self.listeners.len());
        let Some(connector) = healed.or(self.listeners[listener].as_ref()) else { return };
        let Ok(stream) = connector.connect_with(faults) else { return };
        self.figures.connections += 1;
        let mut party = self.party.lock().unwrap();
        let party = &mut *party;
        let (number, now) = (party.connections.len(), party.clock.now());
        let mut connection = Connection::new(device, listener, stream.link(), now);
        connection.excuse = ordered.then_some("fault ordered");
        // A CONNECT that was not answered may still arrive, behind this one.
        let recent = party.connections.iter().rev().filter(|c| c.device == device);
        if recent.take(4).any(|c| !c.was_accepted && now < c.begun + UNANSWERED_WITHIN) {
            connection.excuse = Some("races");
        }
        for old in party.connections.iter_mut().filter(|c| c.device == device) {
            old.said_goodbye = false; // this CONNECT may be there before DISCONNECT
        }
        if let Some(old) = party.devices[device].current.replace(number) {
            party.connections[old].excuse.get_or_insert("taken over");
            party.connections[old].reads = true;
            party.connections[old].wake();
        }
        let its = &mut party.devices[device];
        its.withholds = false;
        its.kept_back.clear();
        let (dice, model) = (&mut self.dice, &mut party.model);
        let mut connect = draw_connect(dice, its, &mut connection, healed.is_some());
        if healed.is_none() && dice.one_in(2) {
            connection.will = Some(model.messages.len());
            let (will, message) = draw_will(dice, its.version, device, model);
            connection.will_waits = !will.props.is_empty();
            connect.will = Some(will);
            model.messages.push(message);
        }
        connection.clean = connect.clean;
        connection.keep_alive = connect.keep_alive;
        connection.send(&connect.encode(), now);
        party.connections.push(connection);
        let link = stream.link().number();
        let task = run(self.party.clone(), number, stream);
        drop(self.world.spawn(task));
        self.say(|| format!("d{device} connects: connection {number}, link {link}, {connect:?}"));
    }

    fn message(&mut self, publisher: usize) -> (usize, Publish) {
        let mut party = self.party.lock().unwrap();
        let (dice, model) = (&mut self.dice, &mut party.model);
        model.tick += 1;
        let mut topic = dice.below(TOPICS.len());
        let mut qos = u8::try_from(dice.below(3)).unwrap();
        let mut retain = dice.one_in(5);
        if topic == OWNED && publisher != 0 {
            topic = 0;
        } else if topic == OWNED {
            (qos, retain) = (2, true);
        }
        let index = model.messages.len();
        let mut payload = format!("{index}.");
        let size = *dice.pick(&[0, 0, 0, 30, 30, 200, 1_500, 6_000]);
        payload.extend(std::iter::repeat_n('x', size));
        let expires = dice.one_in(8);
        let said = Message::new(publisher, topic, qos, model.tick);
        model.messages.push(Message { retain, expires, ..said });
        let mut publish = Publish::new(TOPICS[topic], payload).qos(qos);
        publish.retain = retain;
        if expires {
            publish = publish.prop(prop::message_expiry(*dice.pick(&[1, 20])));
        }
        (index, publish)
    }

    pub(crate) fn publish(&mut self, device: usize, number: usize) {
        {
            let mut party = self.party.lock().unwrap();
            let party = &mut *party;
            if party.devices[device].outgoing.len() >= party.connections[number].send_maximum {
                return;
            }
            if self.dice.one_in(30) {
                let topic = self.dice.below(OWNED);
                party.model.cleared.insert(topic);
                let clear = Publish::new(TOPICS[topic], "").retain();
                let bytes = clear.encode(party.devices[device].version);
                let now = party.clock.now();
                party.connections[number].send(&bytes, now);
                return;
            }
        }
        let (index, publish) = self.message(device);
        self.say(|| format!("d{device} publishes {index} to {} at {}", publish.topic, publish.qos));
        let mut party = self.party.lock().unwrap();
        party.model.messages[index].expires &= party.devices[device].version == Version::V5;
        party.publish(number, index, publish);
    }

    fn publish_in_process(&mut self) {
        let Ok(client) = self.broker.client("inside") else { return };
        let (index, publish) = self.message(usize::MAX);
        self.say(|| format!("the host publishes {index} to {}", publish.topic));
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(publish.qos)];
        let message = InProcess::new(&publish.topic, publish.payload.clone()).unwrap();
        let message = message.with_qos(qos).with_retain(publish.retain);
        let party = self.party.clone();
        party.lock().unwrap().model.messages[index].expires = false;
        drop(self.world.spawn(async move {
            client.publish(message).await.unwrap();
            let mut party = party.lock().unwrap();
            party.model.tick += 1;
            party.model.messages[index].acknowledged = Some(party.model.tick);
        }));
    }

    fn subscribe(&mut self, device: usize, number: usize) {
        let mut party = self.party.lock().unwrap();
        let (version, shares) = (party.devices[device].version, party.devices[device].shares);
        let v5 = version == Version::V5;
        let mut new: Vec<Subscription> = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let filter = *self.dice.pick(&FILTERS);
            let (text, filter) = match shares {
                Some((share, filter)) => (format!("$share/{share}/{filter}"), filter),
                None => (filter.to_owned(), filter),
            };
            if new.iter().any(|s| s.text == text) {
                continue;
            }
            let qos = u8::try_from(self.dice.below(3)).unwrap();
            let no_local = v5 && shares.is_none() && self.dice.one_in(4);
            let handling = if v5 { *self.dice.pick(&[0, 0, 1, 2]) } else { 0 };
            new.push(Subscription {
                text,
                filter,
                shared: shares.is_some(),
                qos,
                options: qos | u8::from(no_local) << 2 | handling << 4,
                no_local,
                sure_from: None,
                sure_until: None,
                gone_at: None,
            });
        }
        let mut packet = Subscribe::default();
        if v5 && self.dice.one_in(2) {
            packet = packet.prop(prop::subscription_id(7));
        }
        let filters: Vec<String> =
            new.iter().map(|s| format!("{} {:#x}", s.text, s.options)).collect();
        party.subscribe(number, new, packet);
        drop(party);
        self.say(|| format!("d{device} subscribes to {filters:?}"));
    }

    fn unsubscribe(&mut self, device: usize, number: usize) {
        let mut party = self.party.lock().unwrap();
        let known: Vec<String> =
            party.devices[device].subscriptions.iter().map(|s| s.text.clone()).collect();
        let filter = if known.is_empty() {
            "nobody/has/it".to_owned()
        } else {
            self.dice.pick(&known).clone()
        };
        party.unsubscribe(number, &filter);
        drop(party);
        self.say(|| format!("d{device} unsubscribes from {filter}"));
    }

    /// A device ends its connection in one of many ways.
    fn leave(&mut self, number: usize) {
        let mut party = self.party.lock().unwrap();
        let party = &mut *party;
        let now = party.clock.now();
        let connection = &mut party.connections[number];
        let device = &mut party.devices[connection.device];
        let way = self.dice.below(6);
        match way {
            0 | 1 => {
                connection.send(&[0xE0, 0], now);
                connection.parted = true;
                connection.said_goodbye = connection.excuse.is_none();
                connection.closes = self.dice.one_in(2);
            }
            2 if device.version == Version::V5 => connection.send(&[0xE0, 1, 4], now),
            2 => connection.closes = true,
            3 => {
                let half = Publish::new("t/a", "half of it").encode(device.version);
                connection.send(&half[..half.len() / 2], now);
                connection.drops = Some(false);
            }
            4 => connection.link.cut(),
            _ => connection.drops = Some(true),
        }
        connection.excuse.get_or_insert("left");
        connection.reads = true;
        connection.wake();
        device.current = None;
        device.kept_back.clear();

        self.say(|| format!("connection {number} leaves, way {way}"));
    }

    fn disturb(&mut self, device: usize, number: usize) {
        let fault = self.draw_fault(6_000);
        let mut party = self.party.lock().unwrap();
        let way = self.dice.below(4);
        match way {
            0 => party.devices[device].withholds = true,
            1 => party.release(device),
            2 => {
                let connection = &mut party.connections[number];
                connection.reads = !connection.reads;
                connection.excuse.get_or_insert("slow");
                connection.wake();
            }
            _ => {
                let connection = &mut party.connections[number];
                connection.excuse.get_or_insert("fault ordered");
                connection.link.order(fault.clone());
            }
        }
        drop(party);
        self.say(|| format!("d{device}, connection {number}: disturbed, way {way}, {fault:?}"));
    }
}

/// CONNECT, but for the Will. `healed`: as it needs to get all that waits.
fn draw_connect(
    dice: &mut Dice,
    device: &Device,
    connection: &mut Connection,
    healed: bool,
) -> Connect {
    let mut connect = Connect::new(device.version, &device.id);
    connect.clean = !healed && dice.one_in(5);
    if device.version == Version::V31 {
        connect.clean = device.always_clean;
    }
    if !healed && dice.one_in(4) {
        connect.keep_alive = *dice.pick(&[10, 30]);
    }
    if device.version == Version::V5 {
        let expiry = *dice.pick(&[0, 5, 60, u32::MAX, u32::MAX]);
        connect.props.push(prop::session_expiry(expiry));
        connect.props.push(prop::topic_alias_maximum(*dice.pick(&[0, 2])));
        if !healed && dice.one_in(3) {
            let maximum = *dice.pick(&[1, 3]);
            connection.receive_maximum = maximum.into();
            connect.props.push(prop::receive_maximum(maximum));
        }
        if !healed && dice.one_in(6) {
            let maximum = *dice.pick(&[100, 1_000]);
            connection.packet_max = usize::try_from(maximum).unwrap();
            connect.props.push(prop::maximum_packet_size(maximum));
        }
    }
    connect
}

fn draw_will(dice: &mut Dice, version: Version, device: usize, model: &Model) -> (Will, Message) {
    let (qos, topic) = (dice.below(3), dice.below(TOPICS.len()));
    let qos = u8::try_from(qos).unwrap();
    let mut will = Will::new(TOPICS[topic], &format!("{}.will", model.messages.len())).qos(qos);
    if version == Version::V5 && dice.one_in(2) {
        will = will.prop(prop::will_delay(*dice.pick(&[1, 20])));
    }
    let said = Message::new(device, topic, qos, model.tick);
    (will, Message { is_will: true, ..said })
}
