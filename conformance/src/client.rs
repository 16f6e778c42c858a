//! The raw client: every packet visible, every deadline kept.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::capabilities::Capabilities;
use crate::codec::{
    Connect, Kind, Packet, Property, Publish, Received, Subscribe, Value, Version, Will, check,
    decode, find, hex, one_of, packet, prop, pubrel, sent, unsubscribe,
};
use crate::failure::{Failure, Step};
use crate::target::{Server, prefixed};
use crate::wire::Wire;

mod endings;
pub(crate) mod limits;

const TRANSCRIPT: usize = 16;

/// A client about to connect.
#[derive(Debug, Clone)]
#[must_use]
pub struct Dialling<'a> {
    server: &'a Server,
    connect: Connect,
}

impl<'a> Dialling<'a> {
    pub(crate) fn new(server: &'a Server, version: Version, id: &str) -> Dialling<'a> {
        let id = if id.is_empty() { String::new() } else { format!("{}{id}", server.prefix()) };
        let mut connect = Connect::new(version, &id);
        if !server.can().zero_keep_alive {
            connect.keep_alive = 60;
        }
        Dialling { server, connect }
    }

    /// Clean Start, or Clean Session in 3.x. True until told otherwise.
    pub fn clean_start(mut self, clean: bool) -> Self {
        self.connect.clean = clean;
        self
    }

    /// A Session that outlives the connection: Clean Start 0, in 5.0 with an expiry of an hour.
    pub fn persistent(mut self) -> Self {
        self.connect.clean = false;
        if self.connect.version == Version::V5 {
            self.connect.props.push(prop::session_expiry(3600));
        }
        self
    }

    /// Keep Alive in seconds.
    pub fn keep_alive(mut self, secs: u16) -> Self {
        self.connect.keep_alive = secs;
        self
    }

    /// The Will; its topic gets the case's prefix.
    pub fn will(mut self, mut will: Will) -> Self {
        will.topic = prefixed(self.server.prefix(), &will.topic);
        self.connect.will = Some(will);
        self
    }

    /// The Will with its topic as it is.
    pub fn will_unprefixed(mut self, will: Will) -> Self {
        self.connect.will = Some(will);
        self
    }

    /// User name and password.
    pub fn credentials(mut self, user: Option<&str>, password: Option<&str>) -> Self {
        self.connect.user = user.map(Into::into);
        self.connect.password = password.map(Into::into);
        self
    }

    /// Adds a CONNECT property.
    pub fn prop(mut self, p: Property) -> Self {
        self.connect.props.push(p);
        self
    }

    /// The CONNECT packet, for cases that spoil it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.connect.encode()
    }

    /// Opens the stream and sends nothing.
    ///
    /// # Errors
    /// A stream that does not open. A skip where the target lacks what CONNECT asks for.
    #[track_caller]
    pub fn open(&self) -> Step<Client> {
        limits::connect(&self.server.can(), &self.connect)?;
        let wire = self.server.dial_as(self.connect.version)?;
        let limit = match find(&self.connect.props, 0x27) {
            Some(Value::Four(n)) => *n as usize,
            _ => usize::MAX,
        };
        Ok(Client {
            wire,
            limit,
            version: self.connect.version,
            prefix: self.server.prefix().to_owned(),
            can: self.server.can(),
            deadline: self.server.deadline(),
            buffer: Vec::new(),
            inbox: VecDeque::new(),
            transcript: VecDeque::new(),
            next_id: 0,
            connack: Connack::default(),
        })
    }

    /// Sends CONNECT and waits for nothing.
    ///
    /// # Errors
    /// A stream that does not open or take the packet.
    #[track_caller]
    pub fn send(&self) -> Step<Client> {
        let mut client = self.open()?;
        client.send(&self.bytes())?;
        Ok(client)
    }

    /// Connects, and expects the first packet to be a CONNACK with code 0 (MQTT-3.2.0-1).
    ///
    /// # Errors
    /// Any other answer.
    #[track_caller]
    pub fn connect(&self) -> Step<Client> {
        let mut client = self.send()?;
        client.expect_connack(&[0])?;
        Ok(client)
    }

    /// Connects, and expects a refusal by one of these codes, then the end of the connection
    /// (MQTT-3.2.2-5 in 3.1.1, MQTT-3.2.2-7 in 5.0).
    ///
    /// # Errors
    /// Any other answer.
    #[track_caller]
    pub fn expect_refused(&self, codes: &[u8]) -> Step {
        let mut client = self.send()?;
        client.expect_connack(codes)?;
        client.expect_closed()
    }
}

/// What CONNACK said.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Connack {
    pub session_present: bool,
    pub code: u8,
    pub props: Vec<Property>,
}

/// One Network Connection.
#[allow(missing_docs)]
pub struct Client {
    wire: Box<dyn Wire>,
    /// Maximum Packet Size, in bytes: no packet that comes may exceed it (MQTT-3.1.2-24).
    limit: usize,
    version: Version,
    prefix: String,
    can: Capabilities,
    deadline: Duration,
    buffer: Vec<u8>,
    inbox: VecDeque<Received>,
    transcript: VecDeque<String>,
    next_id: u16,
    pub connack: Connack,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("version", &self.version).finish_non_exhaustive()
    }
}

/// What came next.
enum Next {
    Packet(Packet),
    End,
    /// Nothing in time.
    Nothing,
}

/// A packet as a failure shows it.
fn seen(packet: Option<&Packet>) -> String {
    packet.map_or_else(|| "the end of the stream".into(), ToString::to_string)
}

impl Client {
    #[track_caller]
    fn fail(&self, expected: impl Into<String>, came: impl Into<String>) -> Failure {
        Failure::new(expected, came).with_transcript(self.transcript.iter().cloned().collect())
    }

    fn note(&mut self, line: String) {
        if self.transcript.len() == TRANSCRIPT {
            self.transcript.pop_front();
        }
        self.transcript.push_back(line);
    }

    /// The version that CONNECT named.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The largest packet that the server takes, in bytes, as far as it is known.
    pub(crate) fn maximum_packet_size(&self) -> u32 {
        self.can.maximum_packet_size
    }

    /// A topic with the case's prefix, as it stands on the wire.
    #[must_use]
    pub fn full(&self, topic: &str) -> String {
        prefixed(&self.prefix, topic)
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    /// A stream that does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) -> Step {
        self.note(format!("→ {}  [{}]", sent(bytes, self.version), hex(bytes)));
        self.wire.send(bytes).map_err(|e| self.fail("the stream takes the packet", e.to_string()))
    }

    /// Breaks the connection off without DISCONNECT.
    pub fn cut(mut self) {
        self.wire.cut();
    }

    /// Ends the stream in this direction, without DISCONNECT.
    ///
    /// # Errors
    /// A stream that is broken.
    #[track_caller]
    pub fn finish(&mut self) -> Step {
        self.note("→ the end of the stream".into());
        self.wire.finish().map_err(|e| self.fail("the stream can be ended", e.to_string()))
    }

    /// The next packet from the wire, `None` at the end of the stream.
    #[track_caller]
    fn next_packet(&mut self, wanted: &str) -> Step<Option<Packet>> {
        match self.next_within(wanted, self.deadline)? {
            Next::Packet(packet) => Ok(Some(packet)),
            Next::End => Ok(None),
            Next::Nothing => Err(self.fail(wanted, format!("nothing within {:?}", self.deadline))),
        }
    }

    #[track_caller]
    fn next_within(&mut self, wanted: &str, within: Duration) -> Step<Next> {
        let until = Instant::now() + within;
        loop {
            match decode(&self.buffer, self.version) {
                Ok(Some((packet, n))) => {
                    self.note(format!("← {packet}  [{}]", hex(&self.buffer[..n])));
                    self.buffer.drain(..n);
                    if n > self.limit {
                        let came = format!("a packet of {n} bytes: {packet}");
                        return Err(self.fail(format!("at most {} bytes", self.limit), came));
                    }
                    if let Err(fault) = check(&packet, self.version) {
                        return Err(self.fail(wanted, fault));
                    }
                    return Ok(Next::Packet(packet));
                }
                Ok(None) => {}
                Err(fault) => {
                    let came = format!("malformed: {fault} [{}]", hex(&self.buffer));
                    return Err(self.fail(wanted, came));
                }
            }
            match self.wire.receive(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) if bytes.is_empty() => {
                    self.note("← the end of the stream".into());
                    return Ok(Next::End);
                }
                Ok(bytes) => self.buffer.extend(bytes),
                Err(e) if e.kind() == ErrorKind::TimedOut => return Ok(Next::Nothing),
                Err(e) => return Err(self.fail(wanted, e.to_string())),
            }
        }
    }

    /// Strips the case's prefix from a topic; `None` for another case's message.
    #[track_caller]
    fn own(&mut self, mut message: Received) -> Step<Option<Received>> {
        if message.topic.is_empty() {
            return Ok(Some(message)); // an alias stands for it
        }
        let with_slash = format!("{}/", self.prefix);
        if message.topic.contains(&with_slash) {
            message.topic = message.topic.replacen(&with_slash, "", 1);
            return Ok(Some(message));
        }
        if message.qos == 1 {
            // Unacknowledged, it would use up what the server sends at once.
            self.ack(Kind::Puback, message.id)?;
        }
        Ok(None)
    }

    /// The next packet of any kind but PUBLISH, which is kept for later.
    ///
    /// # Errors
    /// None in time, or the end of the stream.
    #[track_caller]
    pub fn control(&mut self, wanted: &str) -> Step<Packet> {
        loop {
            match self.next_packet(wanted)? {
                Some(Packet::Publish(message)) => {
                    if let Some(message) = self.own(message)? {
                        self.inbox.push_back(message);
                    }
                }
                Some(packet) => return Ok(packet),
                None => return Err(self.fail(wanted, "the end of the stream")),
            }
        }
    }

    /// Expects CONNACK with one of these codes.
    ///
    /// # Errors
    /// Another packet or code; Session Present with a refusal (MQTT-3.2.2-4 in 3.1.1, -6 in 5.0).
    #[track_caller]
    pub fn expect_connack(&mut self, codes: &[u8]) -> Step {
        let wanted = format!("CONNACK {}", one_of(codes));
        match self.next_packet(&wanted)? {
            Some(Packet::Connack { session_present, code, props })
                if codes.contains(&code) && !(code != 0 && session_present) =>
            {
                self.can = limits::narrowed(self.can, &props);
                self.connack = Connack { session_present, code, props };
                Ok(())
            }
            other => Err(self.fail(wanted, seen(other.as_ref()))),
        }
    }

    /// Expects a CONNECT to be refused: by CONNACK with one of these codes and the end of the connection,
    /// or by its end alone; the standard leaves the choice.
    ///
    /// # Errors
    /// Any other answer.
    #[track_caller]
    pub fn expect_refusal(&mut self, codes: &[u8]) -> Step {
        let wanted = match codes {
            [] => "the end of the stream".into(),
            _ => format!("CONNACK {} or the end of the stream", one_of(codes)),
        };
        match self.next_packet(&wanted)? {
            None => Ok(()),
            Some(Packet::Connack { code, session_present: false, .. }) if codes.contains(&code) => {
                self.expect_closed()
            }
            other => Err(self.fail(wanted, seen(other.as_ref()))),
        }
    }

    /// A Packet Identifier that this client has not used yet.
    pub fn fresh_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Subscribes to one filter; expects the QoS to be granted as asked (MQTT-3.8.4-1).
    ///
    /// # Errors
    /// Any other answer.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Step {
        self.subscribe_with(Subscribe::to(filter, qos))
    }

    /// Subscribes with options and properties; expects each filter to be granted as asked, as far as the
    /// server goes.
    ///
    /// # Errors
    /// Any other answer.
    #[track_caller]
    pub fn subscribe_with(&mut self, subscribe: Subscribe) -> Step {
        let asked: Vec<u8> = subscribe.filters.iter().map(|f| f.1 & 3).collect();
        let most = self.can.maximum_qos;
        let codes = self.suback(subscribe)?;
        let granted = |(&code, &asked): (&u8, &u8)| code == asked || code == asked.min(most);
        if codes.len() == asked.len() && codes.iter().zip(&asked).all(granted) {
            return Ok(());
        }
        Err(self.fail(format!("SUBACK {asked:02x?}"), format!("SUBACK {codes:02x?}")))
    }

    /// Subscribes and returns the codes of SUBACK.
    ///
    /// # Errors
    /// No SUBACK with the same Packet Identifier (MQTT-3.8.4-2).
    #[track_caller]
    pub fn suback(&mut self, mut subscribe: Subscribe) -> Step<Vec<u8>> {
        limits::subscribe(&self.can, &subscribe)?;
        for (filter, _) in &mut subscribe.filters {
            *filter = self.full(filter);
        }
        let id = self.fresh_id();
        self.send(&subscribe.encode(self.version, id))?;
        match self.control("SUBACK")? {
            Packet::Suback { id: came, codes, .. } if came == id => Ok(codes),
            other => Err(self.fail(format!("SUBACK with id {id}"), other.to_string())),
        }
    }

    /// Expects a Topic Filter just sent to be refused: by SUBACK with a failure, or as a fault.
    ///
    /// # Errors
    /// A granted subscription, or another code than the standard has for it.
    #[track_caller]
    pub fn expect_filter_refused(&mut self) -> Step {
        let wanted = "SUBACK with a failure, DISCONNECT, or the end of the stream";
        match self.next_packet(wanted)? {
            Some(Packet::Suback { codes, .. }) if codes.iter().all(|&c| c >= 0x80) => Ok(()),
            Some(Packet::Disconnect { code: 0x81 | 0x82 | 0x8F, .. }) => self.expect_end(),
            None if self.version < Version::V5 || !self.can.server_disconnect => Ok(()),
            other => Err(self.fail(wanted, seen(other.as_ref()))),
        }
    }

    /// Subscribes to filters that do not get the case's prefix, as `#` at the very beginning.
    ///
    /// # Errors
    /// No SUBACK that grants them.
    #[track_caller]
    pub fn subscribe_everywhere(&mut self, filters: &[&str], qos: u8) -> Step {
        let mut subscribe = Subscribe::default();
        for filter in filters {
            subscribe = subscribe.and(filter, qos);
        }
        limits::subscribe(&self.can, &subscribe)?;
        let id = self.fresh_id();
        self.send(&subscribe.encode(self.version, id))?;
        match self.control("SUBACK")? {
            Packet::Suback { codes, .. } if codes == vec![qos; filters.len()] => Ok(()),
            other => Err(self.fail(format!("SUBACK with id {id}"), other.to_string())),
        }
    }

    /// Unsubscribes and returns the codes of UNSUBACK (none in 3.x).
    ///
    /// # Errors
    /// No UNSUBACK with the same Packet Identifier (MQTT-3.10.4-4 in 3.1.1, -5 in 5.0).
    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) -> Step<Vec<u8>> {
        self.unsubscribe_all(&[filter])
    }

    /// Unsubscribes from several filters at once and returns the codes of UNSUBACK (none in 3.x).
    ///
    /// # Errors
    /// No UNSUBACK with the same Packet Identifier.
    #[track_caller]
    pub fn unsubscribe_all(&mut self, filters: &[&str]) -> Step<Vec<u8>> {
        let id = self.fresh_id();
        let full: Vec<String> = filters.iter().map(|f| self.full(f)).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        self.send(&unsubscribe(self.version, id, &full))?;
        match self.control("UNSUBACK")? {
            Packet::Unsuback { id: came, codes, .. } if came == id => Ok(codes),
            other => Err(self.fail(format!("UNSUBACK with id {id}"), other.to_string())),
        }
    }

    /// Sends a PUBLISH and waits for nothing; returns its Packet Identifier.
    ///
    /// # Errors
    /// A stream that does not take it.
    #[track_caller]
    pub fn send_publish(&mut self, mut publish: Publish) -> Step<u16> {
        if publish.qos > 0 && publish.id == 0 {
            publish.id = self.fresh_id();
        }
        if !publish.topic.is_empty() {
            publish.topic = self.full(&publish.topic);
        }
        let bytes = publish.encode(self.version);
        limits::publish(&self.can, &publish, bytes.len())?;
        self.send(&bytes)?;
        Ok(publish.id)
    }

    /// Publishes and completes the acknowledgement; returns the Reason Code of PUBACK or PUBREC.
    ///
    /// # Errors
    /// Another packet than the QoS asks for.
    #[track_caller]
    pub fn publish(&mut self, publish: Publish) -> Step<u8> {
        let qos = publish.qos;
        let id = self.send_publish(publish)?;
        match qos {
            0 => Ok(0),
            1 => self.expect_ack(Kind::Puback, id),
            _ => {
                let code = self.expect_ack(Kind::Pubrec, id)?;
                if code < 0x80 {
                    self.send(&pubrel(id))?;
                    self.expect_ack(Kind::Pubcomp, id)?;
                }
                Ok(code)
            }
        }
    }

    /// Expects this acknowledgement for `id`; returns its Reason Code.
    ///
    /// # Errors
    /// Another packet.
    #[track_caller]
    pub fn expect_ack(&mut self, kind: Kind, id: u16) -> Step<u8> {
        let wanted = format!("{} with id {id}", format!("{kind:?}").to_uppercase());
        match self.control(&wanted)? {
            Packet::Ack { kind: k, id: i, code, .. } if k == kind && i == id => Ok(code),
            other => Err(self.fail(wanted, other.to_string())),
        }
    }

    /// Sends an acknowledgement with Reason Code 0.
    ///
    /// # Errors
    /// A stream that does not take it.
    #[track_caller]
    pub fn ack(&mut self, kind: Kind, id: u16) -> Step {
        let first = (kind as u8) << 4 | if kind == Kind::Pubrel { 2 } else { 0 };
        self.send(&packet(first, &id.to_be_bytes()))
    }

    /// The next PUBLISH, not acknowledged.
    ///
    /// # Errors
    /// Another packet, or none in time.
    #[track_caller]
    pub fn receive(&mut self) -> Step<Received> {
        if let Some(message) = self.inbox.pop_front() {
            return Ok(message);
        }
        loop {
            match self.next_packet("PUBLISH")? {
                Some(Packet::Publish(message)) => {
                    if let Some(message) = self.own(message)? {
                        return Ok(message);
                    }
                }
                other => return Err(self.fail("PUBLISH", seen(other.as_ref()))),
            }
        }
    }

    /// The next PUBLISH, acknowledged as its QoS asks.
    ///
    /// # Errors
    /// Another packet, or none in time.
    #[track_caller]
    pub fn message(&mut self) -> Step<Received> {
        let message = self.receive()?;
        self.complete(&message)?;
        Ok(message)
    }

    /// Acknowledges a PUBLISH to its end.
    ///
    /// # Errors
    /// No PUBREL at QoS 2.
    #[track_caller]
    pub fn complete(&mut self, message: &Received) -> Step {
        match message.qos {
            0 => Ok(()),
            1 => self.ack(Kind::Puback, message.id),
            _ => {
                self.ack(Kind::Pubrec, message.id)?;
                self.expect_ack(Kind::Pubrel, message.id)?;
                self.ack(Kind::Pubcomp, message.id)
            }
        }
    }

    /// Expects the next PUBLISH to have this topic and payload, and acknowledges it.
    ///
    /// # Errors
    /// Another one, or none in time.
    #[track_caller]
    pub fn expect_publish(&mut self, topic: &str, payload: &str) -> Step<Received> {
        let message = self.message()?;
        if message.topic == topic && message.text() == payload {
            return Ok(message);
        }
        Err(self.fail(format!("PUBLISH {topic:?} {payload:?}"), format!("{message:?}")))
    }

    /// Shows that nothing came: the next PUBLISH must be a marker, sent along the same path.
    ///
    /// # Errors
    /// A message before the marker.
    #[track_caller]
    pub fn expect_nothing_before(&mut self, from: &mut Client, topic: &str, qos: u8) -> Step {
        from.publish(Publish::new(topic, "marker").qos(qos))?;
        self.expect_publish(topic, "marker").map(drop)
    }

    /// PINGREQ and PINGRESP: what was sent before has been handled (MQTT-3.12.4-1).
    ///
    /// # Errors
    /// Another packet than PINGRESP, PUBLISH aside.
    #[track_caller]
    pub fn ping(&mut self) -> Step {
        self.send(&packet(0xC0, &[]))?;
        self.expect_pingresp()
    }

    /// Expects PINGRESP.
    ///
    /// # Errors
    /// Another packet than PINGRESP, PUBLISH aside.
    #[track_caller]
    pub fn expect_pingresp(&mut self) -> Step {
        match self.control("PINGRESP")? {
            Packet::Pingresp => Ok(()),
            other => Err(self.fail("PINGRESP", other.to_string())),
        }
    }

    /// Shows that no PUBLISH waits on this connection now.
    ///
    /// # Errors
    /// A message that came before PINGRESP.
    #[track_caller]
    pub fn expect_quiet(&mut self) -> Step {
        self.ping()?;
        match self.inbox.pop_front() {
            None => Ok(()),
            Some(message) => Err(self.fail("no PUBLISH", format!("{message:?}"))),
        }
    }
}
