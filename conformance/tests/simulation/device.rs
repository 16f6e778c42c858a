//! The clients: one device for each Client Identifier, with the client's half of its Session, and its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use hrotti::testing::{ClientStream, Direction, Link, WorldHandle};
use hrotti_conformance::codec::{
    Kind, Packet, Publish, Received, Subscribe, Value, Version, decode, find, packet, unsubscribe,
};

use crate::model::{Model, Subscription};

/// All clients of a run, and what the model knows of them.
pub(crate) struct Party {
    pub(crate) model: Model,
    pub(crate) devices: Vec<Device>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) clock: WorldHandle,
    /// `max_inflight` of the broker.
    pub(crate) max_inflight: usize,
}

pub(crate) type Shared = Arc<Mutex<Party>>;

pub(crate) struct Device {
    pub(crate) id: String,
    pub(crate) version: Version,
    /// Of a device that subscribes to nothing but this shared subscription.
    pub(crate) shares: Option<(&'static str, &'static str)>,
    /// It has subscribed at QoS 0: what it is given may get lost.
    pub(crate) lossy: bool,
    /// A device of 3.1 starts clean always or never: CONNACK tells it nothing.
    pub(crate) always_clean: bool,
    /// The connection that it uses; others are left behind.
    pub(crate) current: Option<usize>,
    /// Keeps acknowledgements back.
    pub(crate) withholds: bool,
    pub(crate) kept_back: Vec<Vec<u8>>,
    accepted_before: bool,
    /// The connection whose CONNACK came last.
    accepted: Option<usize>,
    /// Counts Sessions, as CONNACK tells.
    pub(crate) incarnation: u64,
    pub(crate) subscriptions: Vec<Subscription>,
    /// QoS 2 messages that came and were not released.
    receiving: BTreeSet<u16>,
    pub(crate) outgoing: Vec<Outgoing>,
    next_id: u16,
}

/// A message on its way to the broker.
pub(crate) struct Outgoing {
    pub(crate) id: u16,
    message: usize,
    publish: Publish,
    received: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Connected,
    Over,
}

pub(crate) struct Connection {
    pub(crate) device: usize,
    pub(crate) link: Link,
    pub(crate) phase: Phase,
    pub(crate) out: Vec<u8>,
    pub(crate) inward: Vec<u8>,
    waker: Option<Waker>,
    pub(crate) reads: bool,
    /// Half-closes when everything is written.
    pub(crate) closes: bool,
    /// Is dropped when everything is written, or at once.
    pub(crate) drops: Option<bool>,
    /// Why it may end.
    pub(crate) excuse: Option<&'static str>,
    pub(crate) clean: bool,
    pub(crate) listener: usize,
    pub(crate) keep_alive: u16,
    pub(crate) last_sent: Duration,
    pub(crate) begun: Duration,
    pub(crate) was_accepted: bool,
    pub(crate) pings: u64,
    pub(crate) requests: BTreeMap<u16, Request>,
    pub(crate) receive_maximum: usize,
    pub(crate) packet_max: usize,
    pub(crate) will: Option<usize>,
    /// The Will has a delay, in which it may be silenced.
    pub(crate) will_waits: bool,
    /// DISCONNECT was sent.
    pub(crate) parted: bool,
    /// DISCONNECT was said, which silences the Will.
    pub(crate) said_goodbye: bool,
    /// Towards the broker, from CONNACK.
    pub(crate) send_maximum: usize,
    aliases: BTreeMap<u16, String>,
    unacknowledged: BTreeSet<u16>,
    pub(crate) told: Option<u8>,
}

#[derive(Debug)]
pub(crate) enum Request {
    Subscribe(Vec<usize>),
    Unsubscribe(Vec<usize>),
}

impl Device {
    pub(crate) fn new(number: usize, version: Version) -> Device {
        Device {
            id: format!("d{number}"),
            version,
            shares: None,
            lossy: false,
            always_clean: false,
            current: None,
            withholds: false,
            kept_back: Vec::new(),
            accepted_before: false,
            accepted: None,
            incarnation: 0,
            subscriptions: Vec::new(),
            receiving: BTreeSet::new(),
            outgoing: Vec::new(),
            next_id: 0,
        }
    }

    /// The Session may be another one: nothing in it is certain any more.
    fn distrust(&mut self, model: &mut Model) {
        self.incarnation += 1;
        self.receiving.clear();
        for subscription in &mut self.subscriptions {
            subscription.sure_from = None;
        }
        for waiting in &mut self.outgoing {
            model.messages[waiting.message].abandoned = true;
            waiting.received = true;
        }
        // Of QoS 2 the identifiers are released, lest a new message be taken for an old one.
        self.outgoing.retain(|waiting| waiting.publish.qos == 2);
    }

    fn free_id(&mut self, requests: &BTreeMap<u16, Request>) -> u16 {
        loop {
            self.next_id = self.next_id % 1_000 + 1;
            let id = self.next_id;
            if !requests.contains_key(&id) && self.outgoing.iter().all(|o| o.id != id) {
                return id;
            }
        }
    }
}

impl Connection {
    pub(crate) fn new(device: usize, listener: usize, link: Link, begun: Duration) -> Connection {
        Connection {
            device,
            link,
            phase: Phase::Connecting,
            out: Vec::new(),
            inward: Vec::new(),
            waker: None,
            reads: true,
            closes: false,
            drops: None,
            excuse: None,
            clean: true,
            listener,
            keep_alive: 0,
            last_sent: begun,
            begun,
            was_accepted: false,
            pings: 0,
            requests: BTreeMap::new(),
            receive_maximum: 65_535,
            packet_max: usize::MAX,
            will: None,
            will_waits: false,
            parted: false,
            said_goodbye: false,
            send_maximum: 20,
            aliases: BTreeMap::new(),
            unacknowledged: BTreeSet::new(),
            told: None,
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8], now: Duration) {
        self.out.extend_from_slice(bytes);
        self.last_sent = now;
        self.wake();
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether something is still to happen here by itself.
    pub(crate) fn is_busy(&self) -> bool {
        self.phase == Phase::Connecting
            || !self.out.is_empty()
            || self.pings > 0
            || !self.requests.is_empty()
            || Direction::BOTH.iter().any(|&direction| self.link.held(direction) > 0)
    }
}

/// Runs one connection to its end.
pub(crate) async fn run(party: Shared, number: usize, mut stream: ClientStream) {
    std::future::poll_fn(|cx| {
        let mut party = party.lock().unwrap();
        let driven = party.drive(number, &mut stream, cx);
        if driven.is_ready() {
            party.over(number);
        }
        driven
    })
    .await;
}

impl Party {
    fn drive(
        &mut self,
        number: usize,
        stream: &mut ClientStream,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.connections[number].waker = Some(cx.waker().clone());
        let mut bytes = [0; 2_048];
        loop {
            if self.flush(number, stream, cx).is_err() {
                return Poll::Ready(());
            }
            let connection = &mut self.connections[number];
            match connection.drops {
                Some(true) => return Poll::Ready(()),
                Some(false) if connection.out.is_empty() => return Poll::Ready(()),
                _ => {}
            }
            if connection.out.is_empty() && std::mem::take(&mut connection.closes) {
                let _closed = Pin::new(&mut *stream).poll_close(cx);
            }
            if !connection.reads {
                return Poll::Pending;
            }
            match Pin::new(&mut *stream).poll_read(cx, &mut bytes) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(read)) => {
                    connection.inward.extend_from_slice(&bytes[..read]);
                    self.packets(number);
                }
            }
        }
    }

    fn flush(
        &mut self,
        number: usize,
        stream: &mut ClientStream,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorKind> {
        let connection = &mut self.connections[number];
        while !connection.out.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &connection.out) {
                Poll::Pending => break,
                Poll::Ready(Ok(written)) => drop(connection.out.drain(..written)),
                // What came before may still be read.
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::BrokenPipe => {
                    connection.out.clear();
                }
                Poll::Ready(Err(error)) => return Err(error.kind()),
            }
        }
        Ok(())
    }

    /// The connection has ended.
    fn over(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        connection.phase = Phase::Over;
        let idle = self.clock.now().saturating_sub(connection.last_sent);
        let keep_alive = Duration::from_secs(connection.keep_alive.into());
        let timed_out = connection.keep_alive > 0 && idle >= keep_alive;
        let excused = connection.excuse.is_some() || connection.link.is_cut() || timed_out;
        let refused = connection.told.filter(|_| !excused);
        if !excused {
            self.model.fault(format!(
                "connection {number} of {} was closed without a reason, told {refused:x?}",
                self.devices[connection.device].id
            ));
        }
        let speaks = connection.was_accepted && !connection.parted && !connection.will_waits;
        self.model.due_wills.extend(connection.will.filter(|_| speaks));
        // The broker ended it in good order behind DISCONNECT: it has read it.
        let silent = connection.said_goodbye
            && !connection.link.is_cut()
            && connection.excuse == Some("left");
        if let Some(will) = connection.will.filter(|_| silent) {
            self.model.messages[will].forbidden = true;
        }
        let device = &mut self.devices[self.connections[number].device];
        if device.current == Some(number) {
            device.current = None;
            device.kept_back.clear();
        }
    }

    fn packets(&mut self, number: usize) {
        loop {
            let connection = &self.connections[number];
            let version = self.devices[connection.device].version;
            let decoded = decode(&connection.inward, version);
            match decoded {
                Ok(None) => return,
                Err(error) => {
                    self.model.fault(format!("connection {number}: malformed: {error}"));
                    self.connections[number].inward.clear();
                    self.connections[number].drops = Some(true);
                    return;
                }
                Ok(Some((packet, len))) => {
                    self.connections[number].inward.drain(..len);
                    let max = self.connections[number].packet_max;
                    if len > max {
                        self.model.fault(format!("{len} bytes for Maximum Packet Size {max}"));
                    }
                    self.packet(number, packet);
                }
            }
        }
    }

    fn packet(&mut self, number: usize, packet: Packet) {
        let device = self.connections[number].device;
        self.model.tick += 1;
        if let Packet::Disconnect { code, .. } = packet {
            self.connections[number].told = Some(code);
        }
        if self.devices[device].current != Some(number) {
            return; // left behind: nothing there counts
        }
        match packet {
            Packet::Connack { session_present, code, props } => {
                let maximum = match find(&props, 0x21) {
                    Some(Value::Two(maximum)) => usize::from(*maximum),
                    _ => 20,
                };
                self.connections[number].send_maximum = maximum.min(20);
                self.connack(number, session_present, code);
            }
            Packet::Publish(publish) => self.publish_came(number, publish),
            Packet::Ack { kind, id, code, .. } => self.ack(number, kind, id, code),
            Packet::Suback { id, codes, .. } => self.suback(number, id, &codes),
            Packet::Unsuback { id, .. } => self.unsuback(number, id),
            Packet::Pingresp => match self.connections[number].pings.checked_sub(1) {
                Some(pings) => self.connections[number].pings = pings,
                None => self.model.fault("PINGRESP without PINGREQ".to_owned()),
            },
            Packet::Disconnect { .. } => {}
            Packet::Auth { .. } => self.model.fault("AUTH that nobody asked for".to_owned()),
        }
    }

    fn connack(&mut self, number: usize, session_present: bool, code: u8) {
        let connection = &mut self.connections[number];
        let its = connection.device;
        let device = &mut self.devices[its];
        if connection.phase != Phase::Connecting {
            self.model.fault("a second CONNACK".to_owned());
            return;
        }
        if code != 0 {
            self.model.fault(format!("{} was refused: {code:#x}", device.id));
            return;
        }
        connection.phase = Phase::Connected;
        connection.was_accepted = true;
        let present = match device.version {
            Version::V31 => !connection.clean && device.accepted_before,
            _ => session_present,
        };
        if present && connection.clean {
            self.model.fault(format!("{} started clean and has a Session", device.id));
        }
        device.accepted_before = true;
        // A CONNECT whose answer did not come may have begun another Session than the one that is known here.
        let before = device.accepted.replace(number);
        let mut later = self.connections.iter().skip(before.map_or(0, |before| before + 1));
        let uncertain = later.any(|c| c.device == its && !c.was_accepted)
            || before.is_some_and(|before| self.connections[before].excuse == Some("races"));
        let connection = &mut self.connections[number];
        if present && uncertain {
            device.distrust(&mut self.model);
        }
        if !present {
            device.incarnation += 1;
            device.subscriptions.clear();
            device.receiving.clear();
            for lost in device.outgoing.drain(..) {
                self.model.messages[lost.message].abandoned = true;
            }
            return;
        }
        let now = self.clock.now();
        for again in &device.outgoing {
            if again.received {
                connection.send(&packet(0x62, &again.id.to_be_bytes()), now);
            } else {
                self.model.messages[again.message].sends += 1;
                connection.send(&again.publish.clone().dup().encode(device.version), now);
            }
        }
    }

    fn ack(&mut self, number: usize, kind: Kind, id: u16, code: u8) {
        let now = self.clock.now();
        let connection = &mut self.connections[number];
        let device = &mut self.devices[connection.device];
        if kind == Kind::Pubrel {
            device.receiving.remove(&id);
            connection.unacknowledged.remove(&id);
            let bytes = packet(0x70, &id.to_be_bytes());
            self.acknowledge(number, bytes);
            return;
        }
        let Some(place) = device.outgoing.iter().position(|o| o.id == id) else {
            self.model.fault(format!("{kind:?} {id} for no message"));
            return;
        };
        let message = &mut self.model.messages[device.outgoing[place].message];
        match kind {
            Kind::Puback | Kind::Pubcomp => drop(device.outgoing.remove(place)),
            _ if code >= 0x80 => drop(device.outgoing.remove(place)),
            _ => {
                device.outgoing[place].received = true;
                connection.send(&packet(0x62, &id.to_be_bytes()), now);
            }
        }
        if code < 0x80 && !message.abandoned {
            message.acknowledged.get_or_insert(self.model.tick);
        } else {
            message.abandoned = true;
        }
    }

    /// Sends an acknowledgement, or keeps it back.
    fn acknowledge(&mut self, number: usize, bytes: Vec<u8>) {
        let now = self.clock.now();
        let connection = &mut self.connections[number];
        let device = &mut self.devices[connection.device];
        if device.withholds {
            device.kept_back.push(bytes);
        } else {
            connection.send(&bytes, now);
        }
    }

    pub(crate) fn release(&mut self, device: usize) {
        let now = self.clock.now();
        let device = &mut self.devices[device];
        device.withholds = false;
        let kept = std::mem::take(&mut device.kept_back);
        if let Some(number) = device.current {
            kept.iter().for_each(|bytes| self.connections[number].send(bytes, now));
        }
    }

    fn publish_came(&mut self, number: usize, mut publish: Received) {
        let connection = &mut self.connections[number];
        if let Some(Value::Two(alias)) = find(&publish.props, 0x23) {
            if publish.topic.is_empty() {
                publish.topic = connection.aliases.get(alias).cloned().unwrap_or_default();
            } else {
                connection.aliases.insert(*alias, publish.topic.clone());
            }
        }
        let (number_of, device) = (connection.device, &mut self.devices[connection.device]);
        if publish.qos > 0 {
            let new = connection.unacknowledged.insert(publish.id);
            if !new && !publish.dup {
                self.model.fault(format!("Packet Identifier {} is in use", publish.id));
            }
            let most = connection.receive_maximum.min(self.max_inflight);
            if connection.unacknowledged.len() > most {
                let len = connection.unacknowledged.len();
                self.model.fault(format!("{len} unacknowledged for Receive Maximum {most}"));
            }
        }
        let duplicate = publish.qos == 2 && !device.receiving.insert(publish.id);
        if duplicate && !publish.dup {
            self.model.fault(format!("QoS 2 id {} twice without DUP", publish.id));
        }
        let (qos, id) = (publish.qos, publish.id);
        if !duplicate {
            let incarnation = device.incarnation;
            self.model.delivered(number_of, incarnation, &self.devices[number_of], &publish);
        }
        match qos {
            1 => {
                self.connections[number].unacknowledged.remove(&id);
                self.acknowledge(number, packet(0x40, &id.to_be_bytes()));
            }
            2 => self.acknowledge(number, packet(0x50, &id.to_be_bytes())),
            _ => {}
        }
    }

    fn suback(&mut self, number: usize, id: u16, codes: &[u8]) {
        let tick = self.model.tick;
        let device = self.connections[number].device;
        match self.connections[number].requests.remove(&id) {
            Some(Request::Subscribe(places)) if places.len() == codes.len() => {
                for (place, &code) in places.iter().zip(codes) {
                    let subscription = &mut self.devices[device].subscriptions[*place];
                    if code == subscription.qos {
                        subscription.sure_from = Some(tick);
                    } else {
                        self.model.fault(format!("SUBACK {code:#x} for QoS {}", subscription.qos));
                    }
                }
            }
            other => self.model.fault(format!("SUBACK {id} for {other:?}")),
        }
    }

    fn unsuback(&mut self, number: usize, id: u16) {
        let tick = self.model.tick;
        let device = self.connections[number].device;
        match self.connections[number].requests.remove(&id) {
            Some(Request::Unsubscribe(places)) => {
                for place in places {
                    self.devices[device].subscriptions[place].gone_at = Some(tick);
                }
            }
            other => self.model.fault(format!("UNSUBACK {id} for {other:?}")),
        }
    }

    // ---- What devices are told to do ---------------------------------------------------------------

    /// The connection of a device that can say something.
    pub(crate) fn connected(&self, device: usize) -> Option<usize> {
        let number = self.devices[device].current?;
        let connection = &self.connections[number];
        (connection.phase == Phase::Connected && connection.excuse != Some("left"))
            .then_some(number)
    }

    pub(crate) fn ping(&mut self, number: usize) {
        let now = self.clock.now();
        self.connections[number].pings += 1;
        self.connections[number].send(&[0xC0, 0], now);
    }

    /// Publishes message `message` of the model.
    pub(crate) fn publish(&mut self, number: usize, message: usize, mut publish: Publish) {
        let now = self.clock.now();
        let connection = &mut self.connections[number];
        let device = &mut self.devices[connection.device];
        if publish.qos > 0 {
            publish.id = device.free_id(&connection.requests);
            let id = publish.id;
            let waiting = Outgoing { id, message, publish: publish.clone(), received: false };
            device.outgoing.push(waiting);
        }
        connection.send(&publish.encode(device.version), now);
    }

    pub(crate) fn subscribe(
        &mut self,
        number: usize,
        new: Vec<Subscription>,
        mut packet: Subscribe,
    ) {
        let (now, tick) = (self.clock.now(), self.model.tick);
        let connection = &mut self.connections[number];
        let device = &mut self.devices[connection.device];
        let id = device.free_id(&connection.requests);
        let mut places = Vec::new();
        for subscription in new {
            // It replaces the one with the same filter.
            for old in device.subscriptions.iter_mut().filter(|s| s.text == subscription.text) {
                old.sure_until.get_or_insert(tick);
            }
            device.lossy |= subscription.qos == 0;
            let options = subscription.options;
            packet = packet.and(&subscription.text, options);
            places.push(device.subscriptions.len());
            device.subscriptions.push(subscription);
        }
        connection.requests.insert(id, Request::Subscribe(places));
        connection.send(&packet.encode(device.version, id), now);
    }

    pub(crate) fn unsubscribe(&mut self, number: usize, filter: &str) {
        let (now, tick) = (self.clock.now(), self.model.tick);
        let connection = &mut self.connections[number];
        let device = &mut self.devices[connection.device];
        let id = device.free_id(&connection.requests);
        let mut places = Vec::new();
        for (place, subscription) in device.subscriptions.iter_mut().enumerate() {
            if subscription.text == filter && subscription.gone_at.is_none() {
                subscription.sure_until.get_or_insert(tick);
                places.push(place);
            }
        }
        connection.requests.insert(id, Request::Unsubscribe(places));
        connection.send(&unsubscribe(device.version, id, &[filter]), now);
    }
}
