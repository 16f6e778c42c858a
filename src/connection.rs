//! The protocol state of one Network Connection, from the first byte to the last packet.
//!
//! Pure. Each whole packet goes into [`Connection::handle`], which appends answers that need no broker to `out` and
//! returns the [`Action`] that the broker has to carry out.
//!
//! **Contract: after every `handle`, carry out the action and write `out`, before the next read.**

use std::sync::Arc;

use crate::error::Fault;
use crate::limits::Limits;
use crate::packet::decode::{self, BRIDGE_BIT, ConnectError};
use crate::packet::encode::{self, AckKind, ConnAck};
use crate::packet::frame::{
    Frame, PACKET_BYTES_MAX, REMAINING_LENGTH_MAX, judge_first_bytes, next_frame,
};
use crate::packet::{
    Ack, Auth, Connect, Disconnect, FromClient, PacketId, ProtocolVersion, Publish, QoS,
    ReasonCode, Subscribe, Unsubscribe,
};
use crate::session::{Departure, Terms};
use crate::time::Timestamp;

/// The action of the broker that a packet requests.
#[derive(Debug)]
pub(crate) enum Action<'p> {
    /// No action.
    None,
    /// CONNECT: claim the Session, then [`Connection::accept`] or [`Connection::refuse`].
    Open(Box<Connect<'p>>),
    /// PUBLISH: route it, then [`Connection::acknowledge`].
    Publish(Publish<'p>, Topic<'p>),
    /// PUBACK, PUBREC or PUBCOMP for the Session.
    Acknowledged(AckKind, Ack),
    /// PUBREL: release the identifier, then [`Connection::complete`].
    Release(PacketId),
    /// AUTH (section 4.12): with `again` a re-authentication begins.
    Authenticate {
        again: bool,
        data: &'p [u8],
    },
    Subscribe(Subscribe<'p>),
    Unsubscribe(Unsubscribe<'p>),
    /// DISCONNECT: the Client closes.
    Leave {
        departure: Departure,
        session_expiry_secs: Option<u32>,
    },
}

/// The Topic Name of a PUBLISH, after a Topic Alias was resolved.
#[derive(Debug, Clone)]
pub(crate) enum Topic<'p> {
    Packet(&'p str),
    Alias(Arc<str>),
}

impl Topic<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Topic::Packet(name) => name,
            Topic::Alias(name) => name,
        }
    }
}

/// The broker's answer to an accepted CONNECT.
#[derive(Debug)]
pub(crate) struct Accepted<'a> {
    pub(crate) session_present: bool,
    /// The Client Identifier that the Server assigned, if the Client sent none.
    pub(crate) assigned_client_id: Option<&'a str>,
    /// The Session Expiry Interval, if it differs from the requested one.
    pub(crate) session_expiry_secs: Option<u32>,
}

/// As long as any Client Identifier that the Server assigns.
const LONGEST_ASSIGNED_ID: &str = "auto-0000000000000000";

/// The state of the Network Connection (sections 3.1, 3.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Only CONNECT is allowed (MQTT-3.1.0-1).
    AwaitConnect,
    /// CONNECT is being decided.
    Deciding,
    /// The Server has sent AUTH, and the Client is to answer by AUTH (MQTT-4.12.0-3).
    Exchanging,
    Connected,
    /// The last packet was written.
    Closed,
}

/// The protocol state of one Network Connection.
#[derive(Debug)]
pub(crate) struct Connection {
    limits: Arc<Limits>,
    state: State,
    /// Known from CONNECT on, also from one that is refused.
    version: Option<ProtocolVersion>,
    /// Seconds; 0 is off.
    keep_alive_secs: u16,
    keep_alive_overridden: bool,
    bridge: bool,
    maximum_packet_size: Option<u32>,
    /// The highest QoS of the listener.
    qos_max: QoS,
    problem_information: bool,
    /// What most Network Connections do not have.
    rare: Option<Box<Rare>>,
}

/// The part of the state that is in a box, because most Network Connections are idle and have none.
#[derive(Debug, Default)]
struct Rare {
    /// Incoming Topic Aliases, the first at index 0 (MQTT-3.3.2-7: of this Network Connection alone).
    aliases: Vec<Option<Arc<str>>>,
    method: Option<Method>,
}

/// The enhanced authentication that the Client asked for in CONNECT.
#[derive(Debug)]
struct Method {
    name: Box<str>,
    /// Authentication Data for CONNACK.
    data: Vec<u8>,
}

impl Connection {
    /// The limits that hold for this Network Connection from its beginning to its end.
    pub(crate) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    pub(crate) fn new(limits: Arc<Limits>) -> Connection {
        Connection {
            limits,
            state: State::AwaitConnect,
            version: None,
            keep_alive_secs: 0,
            keep_alive_overridden: false,
            bridge: false,
            maximum_packet_size: None,
            qos_max: QoS::ExactlyOnce,
            problem_information: true,
            rare: None,
        }
    }

    /// Sets the highest QoS of a PUBLISH, which CONNACK tells the Client (section 3.2.2.3.4).
    pub(crate) fn set_qos_max(&mut self, qos: QoS) {
        self.qos_max = qos;
    }

    /// The next packet of `buffer`, which holds all that was read and not taken.
    ///
    /// # Errors
    /// As [`next_frame`]. Before CONNECT also bytes that cannot begin a CONNECT; the error names the protocol that
    /// they look like (MQTT-3.1.0-1).
    #[inline]
    pub(crate) fn next_frame<'b>(&self, buffer: &'b [u8]) -> Result<Frame<'b>, Fault> {
        if self.state == State::AwaitConnect {
            judge_first_bytes(buffer)?;
        }
        next_frame(buffer, self.packet_bytes_max())
    }

    /// The largest packet that is read now, in bytes.
    pub(crate) fn packet_bytes_max(&self) -> u32 {
        match self.state {
            State::AwaitConnect | State::Deciding | State::Exchanging => {
                self.limits.connect_packet_bytes_max
            }
            State::Connected | State::Closed => self.limits.packet_bytes_max,
        }
    }

    /// Whether CONNECT was accepted.
    pub(crate) fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// QoS 1 and 2 messages of the Client that may be open (MQTT-3.3.4-7). 3.1 and 3.1.1 have no Receive Maximum:
    /// there it is the number of Packet Identifiers.
    pub(crate) fn receive_maximum(&self) -> u16 {
        if self.is_v5() { self.limits.receive_maximum } else { u16::MAX }
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.version() == ProtocolVersion::V5
    }

    /// Whether the Client is a bridge of 3.1 or 3.1.1: its subscriptions have the options of
    /// `SubscriptionOptions::of_bridge`.
    pub(crate) fn is_bridge(&self) -> bool {
        self.bridge
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        self.version.unwrap_or(ProtocolVersion::V3_1_1)
    }

    /// When the Network Connection is to be closed if no packet arrives after `last_packet_at`: one and a
    /// half times the Keep Alive (MQTT-3.1.2-22, in 3.1.1 MQTT-3.1.2-24).
    pub(crate) fn keep_alive_deadline(&self, last_packet_at: Timestamp) -> Timestamp {
        match self.keep_alive_secs {
            0 => Timestamp::NEVER,
            secs => Timestamp(last_packet_at.0 + u64::from(secs) * 1_500),
        }
    }

    /// Takes one whole packet.
    #[inline]
    pub(crate) fn handle<'p>(
        &mut self,
        header: u8,
        body: &'p [u8],
        out: &mut Vec<u8>,
    ) -> Result<Action<'p>, Fault> {
        match self.state {
            State::AwaitConnect => self.handle_first(header, body, out),
            State::Connected => self.handle_connected(header, body, out),
            State::Exchanging => self.handle_exchange(header, body),
            State::Deciding | State::Closed => Ok(Action::None),
        }
    }

    fn handle_first<'p>(
        &mut self,
        header: u8,
        body: &'p [u8],
        out: &mut Vec<u8>,
    ) -> Result<Action<'p>, Fault> {
        let connect = match decode::decode_connect(header, body) {
            Ok(connect) => connect,
            Err(ConnectError::UnsupportedLevel(level)) => return Err(self.refuse_level(level, out)),
            Err(ConnectError::Bad { version, fault }) => {
                self.version = version;
                return Err(fault);
            }
        };
        self.version = Some(connect.version);
        self.bridge = connect.bridge;
        self.state = State::Deciding;
        self.problem_information = connect.request_problem_information;
        self.maximum_packet_size = connect.maximum_packet_size.map(std::num::NonZeroU32::get);
        self.keep_alive_secs = connect.keep_alive;
        if connect.version.is_v5() {
            self.override_keep_alive();
        }
        check_client_id(&connect)?;
        if let Some(name) = connect.authentication_method {
            let method = Method { name: name.into(), data: Vec::new() };
            self.rare.get_or_insert_default().method = Some(method);
        }
        if connect.authentication_method.is_none() {
            self.check_connack_fits(&connect)?; // else when its Authentication Data is known
        }
        Ok(Action::Open(Box::new(connect)))
    }

    /// Server Keep Alive (section 3.2.2.3.14): only in MQTT 5 can the Server set another value.
    fn override_keep_alive(&mut self) {
        let max = self.limits.keep_alive_secs_max;
        if max != 0 && (self.keep_alive_secs == 0 || self.keep_alive_secs > max) {
            self.keep_alive_secs = max;
            self.keep_alive_overridden = true;
        }
    }

    /// Refuses a protocol level that is not supported: in the form of MQTT 5 above 5, else in that of 3.1.1
    /// (MQTT-3.1.2-2 of both standards). Bit 7 is no part of the number: a bridge sets it.
    fn refuse_level(&mut self, level: u8, out: &mut Vec<u8>) -> Fault {
        let later = level > 5 && level & !BRIDGE_BIT >= 5;
        let version = if later { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
        self.version = Some(version);
        self.state = State::Deciding;
        let detail = "MQTT-3.1.2-2: this protocol level is not supported";
        let fault = Fault::Refused(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, detail);
        self.refuse(fault, out);
        fault
    }

    #[inline]
    fn handle_connected<'p>(
        &mut self,
        header: u8,
        body: &'p [u8],
        out: &mut Vec<u8>,
    ) -> Result<Action<'p>, Fault> {
        Ok(match decode::decode(self.version(), header, body) {
            Err(fault) => return Err(fault),
            Ok(FromClient::Publish(publish)) if publish.qos > self.qos_max => {
                let detail = "MQTT-3.2.2-11: the QoS exceeds Maximum QoS";
                return Err(Fault::Refused(ReasonCode::QOS_NOT_SUPPORTED, detail));
            }
            Ok(FromClient::Publish(publish)) => {
                let topic = self.resolve_topic(&publish)?;
                Action::Publish(publish, topic)
            }
            Ok(FromClient::PubAck(ack)) => Action::Acknowledged(AckKind::PubAck, ack),
            Ok(FromClient::PubRec(ack)) => Action::Acknowledged(AckKind::PubRec, ack),
            Ok(FromClient::PubComp(ack)) => Action::Acknowledged(AckKind::PubComp, ack),
            Ok(FromClient::PubRel(ack)) => Action::Release(ack.packet_id),
            Ok(FromClient::Subscribe(subscribe)) => Action::Subscribe(subscribe),
            Ok(FromClient::Unsubscribe(unsubscribe)) => Action::Unsubscribe(unsubscribe),
            Ok(FromClient::PingReq) => {
                encode::pingresp(out); // MQTT-3.12.4-1
                Action::None
            }
            Ok(FromClient::Disconnect(disconnect)) => leave(disconnect),
            Ok(FromClient::Auth(auth)) => self.auth(&auth)?,
        })
    }

    /// A packet between CONNECT and CONNACK.
    fn handle_exchange<'p>(&mut self, header: u8, body: &'p [u8]) -> Result<Action<'p>, Fault> {
        match decode::decode(self.version(), header, body)? {
            FromClient::Auth(auth) if auth.reason == ReasonCode::REAUTHENTICATE => {
                Err(Fault::Protocol("MQTT-4.12.1-1: a re-authentication before CONNACK"))
            }
            FromClient::Auth(auth) => {
                let action = self.auth(&auth)?;
                self.state = State::Deciding;
                Ok(action)
            }
            FromClient::Disconnect(disconnect) => Ok(leave(disconnect)),
            _ => {
                let detail =
                    "MQTT-3.1.2-30: a packet other than AUTH and DISCONNECT before CONNACK";
                Err(Fault::Protocol(detail))
            }
        }
    }

    fn method(&self) -> Option<&Method> {
        self.rare.as_ref().and_then(|rare| rare.method.as_ref())
    }

    fn auth<'p>(&self, auth: &Auth<'p>) -> Result<Action<'p>, Fault> {
        let Some(method) = self.method() else {
            let detail = "MQTT-4.12.0-7: AUTH without an Authentication Method in CONNECT";
            return Err(Fault::Protocol(detail));
        };
        if auth.authentication_method != Some(&*method.name) {
            let detail = "MQTT-4.12.0-5: AUTH with another Authentication Method than CONNECT";
            return Err(Fault::Protocol(detail));
        }
        let again = auth.reason == ReasonCode::REAUTHENTICATE;
        Ok(Action::Authenticate { again, data: auth.authentication_data.unwrap_or_default() })
    }

    /// Asks the Client for the next step of its authentication (MQTT-4.12.0-2).
    ///
    /// # Errors
    /// AUTH would exceed the Client's Maximum Packet Size.
    pub(crate) fn ask(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.write_auth(ReasonCode::CONTINUE_AUTHENTICATION, data, out)?;
        if self.state == State::Deciding {
            self.state = State::Exchanging;
        }
        Ok(())
    }

    /// Tells the Client that its re-authentication has succeeded (section 4.12.1).
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub(crate) fn accept_again(&self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.write_auth(ReasonCode::SUCCESS, data, out)
    }

    fn write_auth(&self, reason: ReasonCode, data: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(method) = self.method() else { return Ok(()) }; // MQTT-4.12.0-6
        self.within_maximum(out, |out| encode::auth(out, reason, &method.name, data))
    }

    /// Keeps Authentication Data for CONNACK.
    ///
    /// # Errors
    /// CONNACK would exceed the Client's Maximum Packet Size. The Client must not get a Session then.
    pub(crate) fn grant(&mut self, connect: &Connect<'_>, data: Vec<u8>) -> Result<(), Fault> {
        let method = self.rare.as_mut().and_then(|rare| rare.method.as_mut());
        let Some(method) = method else { return Ok(()) };
        method.data = data;
        self.check_connack_fits(connect)
    }

    /// Resolves or learns a Topic Alias (section 3.3.2.3.4).
    fn resolve_topic<'p>(&mut self, publish: &Publish<'p>) -> Result<Topic<'p>, Fault> {
        let Some(alias) = publish.topic_alias else { return Ok(Topic::Packet(publish.topic)) };
        if alias.get() > self.limits.topic_alias_maximum {
            let detail = "MQTT-3.3.2-9: the Topic Alias exceeds Topic Alias Maximum";
            return Err(Fault::Refused(ReasonCode::TOPIC_ALIAS_INVALID, detail));
        }
        let index = usize::from(alias.get()) - 1;
        let aliases = &mut self.rare.get_or_insert_default().aliases;
        if aliases.len() <= index {
            aliases.resize(index + 1, None);
        }
        let known = &mut aliases[index];
        if publish.topic.is_empty() {
            let detail = "section 3.3.2.3.4: no Topic Name was set for this Topic Alias";
            return known.clone().map(Topic::Alias).ok_or(Fault::Protocol(detail));
        }
        if known.as_deref() != Some(publish.topic) {
            *known = Some(publish.topic.into());
        }
        Ok(Topic::Packet(publish.topic))
    }

    /// CONNECT was accepted: CONNACK (MQTT-3.1.4-5), and packets may follow.
    pub(crate) fn accept(&mut self, accepted: &Accepted<'_>, out: &mut Vec<u8>) {
        let ack = self.connack(accepted);
        let written = encode::connack(out, self.version(), &ack, self.maximum_packet_size);
        self.state = if written { State::Connected } else { State::Closed };
        if let Some(method) = self.rare.as_mut().and_then(|rare| rare.method.as_mut()) {
            method.data = Vec::new();
        }
    }

    fn connack<'a>(&'a self, accepted: &Accepted<'a>) -> ConnAck<'a> {
        let limits = &self.limits;
        ConnAck {
            session_present: accepted.session_present,
            reason: ReasonCode::SUCCESS,
            session_expiry_secs: accepted.session_expiry_secs,
            receive_maximum: Some(limits.receive_maximum).filter(|&max| max != u16::MAX),
            maximum_qos: Some(self.qos_max).filter(|&max| max != QoS::ExactlyOnce),
            maximum_packet_size: Some(limits.packet_bytes_max)
                .filter(|&max| (max as usize) < PACKET_BYTES_MAX)
                .map(|max| max.min(REMAINING_LENGTH_MAX)),
            assigned_client_id: accepted.assigned_client_id,
            topic_alias_maximum: limits.topic_alias_maximum,
            server_keep_alive: self.keep_alive_overridden.then_some(self.keep_alive_secs),
            authentication: self.method().map(|method| (&*method.name, &*method.data)),
            ..ConnAck::default()
        }
    }

    /// Checks that the Client's Maximum Packet Size admits its CONNACK. Otherwise it must not get a Session, nor take
    /// one over from another Network Connection.
    fn check_connack_fits(&self, connect: &Connect<'_>) -> Result<(), Fault> {
        let expiry_secs_max = self.limits.session_expiry_secs_max;
        let largest = Accepted {
            session_present: false,
            assigned_client_id: connect.client_id.is_empty().then_some(LONGEST_ASSIGNED_ID),
            session_expiry_secs: (connect.session_expiry_secs > expiry_secs_max)
                .then_some(expiry_secs_max),
        };
        let (ack, max) = (self.connack(&largest), self.maximum_packet_size);
        if max.is_none() || encode::connack(&mut Vec::new(), self.version(), &ack, max) {
            return Ok(());
        }
        let detail = "MQTT-3.1.2-24: CONNACK would exceed the Client's Maximum Packet Size";
        Err(Fault::Refused(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, detail))
    }

    /// Appends the last packet that the state and the version allow: CONNACK with an error, DISCONNECT, or none.
    pub(crate) fn refuse(&mut self, fault: Fault, out: &mut Vec<u8>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let Some(version) = self.version else { return };
        let max = self.maximum_packet_size;
        let text = Some(fault.detail());
        match state {
            State::Closed => {}
            State::Connected if version.is_v5() => {
                encode::disconnect(out, fault.reason(), text, max);
            }
            // 3.1 and 3.1.1 know no DISCONNECT by the Server.
            State::Connected => {}
            State::AwaitConnect | State::Deciding | State::Exchanging => {
                // A CONNECT that does not conform gets no CONNACK in 3.1.1 (MQTT-3.1.4-1).
                let refused = matches!(fault, Fault::Refused(..) | Fault::Server(..));
                if version.is_v5()
                    || refused && encode::connack_return_code(fault.reason()).is_some()
                {
                    let ack = ConnAck {
                        reason: fault.reason(),
                        reason_string: text,
                        ..ConnAck::default()
                    };
                    encode::connack(out, version, &ack, max);
                }
            }
        }
    }

    /// Answers a PUBLISH by its QoS (MQTT-3.3.4-1); in 3.x with no reason.
    /// An error goes with `text`.
    pub(crate) fn acknowledge(
        &self,
        qos: QoS,
        packet_id: Option<PacketId>,
        reason: ReasonCode,
        text: &str,
        out: &mut Vec<u8>,
    ) {
        let Some(packet_id) = packet_id else { return };
        let kind = match qos {
            QoS::ExactlyOnce => AckKind::PubRec,
            QoS::AtMostOnce | QoS::AtLeastOnce => AckKind::PubAck,
        };
        if reason.is_error() && self.is_v5() && self.problem_information {
            encode::ack_with_text(out, kind, packet_id, reason, text, self.maximum_packet_size);
        } else {
            encode::ack(out, self.version(), kind, packet_id, reason);
        }
    }

    /// Answers PUBREC by PUBREL (MQTT-4.3.3-4), with 0x92 for an unknown identifier.
    pub(crate) fn release(&self, id: PacketId, known: bool, out: &mut Vec<u8>) {
        encode::ack(out, self.version(), AckKind::PubRel, id, known_reason(known));
    }

    /// Answers PUBREL by PUBCOMP (MQTT-4.3.3-11), with 0x92 for an unknown identifier.
    pub(crate) fn complete(&self, id: PacketId, known: bool, out: &mut Vec<u8>) {
        encode::ack(out, self.version(), AckKind::PubComp, id, known_reason(known));
    }

    /// Answers SUBSCRIBE: one code for each Topic Filter, in their order (MQTT-3.9.3-1).
    ///
    /// # Errors
    /// 3.1 has no code for a failure: the Network Connection is closed instead. Also as
    /// [`Connection::within_maximum`].
    pub(crate) fn subscribed(
        &self,
        id: PacketId,
        reasons: &[ReasonCode],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let refused = reasons.iter().find(|reason| reason.is_error());
        if let (Some(&reason), ProtocolVersion::V3_1) = (refused, self.version()) {
            return Err(Fault::Refused(
                reason,
                "MQTT 3.1 section 3.9: SUBACK cannot report a failure",
            ));
        }
        self.within_maximum(out, |out| encode::suback(out, self.version(), id, reasons))
    }

    /// Answers UNSUBSCRIBE (MQTT-3.11.3-1).
    ///
    /// # Errors
    /// As [`Connection::within_maximum`].
    pub(crate) fn unsubscribed(
        &self,
        id: PacketId,
        reasons: &[ReasonCode],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.within_maximum(out, |out| encode::unsuback(out, self.version(), id, reasons))
    }

    /// Appends an answer whose size depends on the Client's request.
    ///
    /// # Errors
    /// The answer would exceed the Client's Maximum Packet Size and cannot be sent (MQTT-3.1.2-24); the Client
    /// would wait for it forever.
    fn within_maximum(
        &self,
        out: &mut Vec<u8>,
        append: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Fault> {
        let before = out.len();
        append(out);
        if self.maximum_packet_size.is_some_and(|max| out.len() - before > max as usize) {
            out.truncate(before);
            let detail = "MQTT-3.1.2-24: the answer would exceed the Client's Maximum Packet Size";
            return Err(Fault::Refused(ReasonCode::PACKET_TOO_LARGE, detail));
        }
        Ok(())
    }

    /// The Client's terms for receiving.
    pub(crate) fn terms(connect: &Connect<'_>, limits: &Limits) -> Terms {
        let receive_maximum = connect.receive_maximum.get();
        Terms {
            version: connect.version,
            quota: receive_maximum.min(limits.max_inflight).max(1),
            maximum_packet_size: connect.maximum_packet_size.map(std::num::NonZeroU32::get),
            topic_alias_maximum: connect
                .topic_alias_maximum
                .min(limits.outgoing_topic_alias_maximum),
        }
    }
}

fn known_reason(known: bool) -> ReasonCode {
    if known { ReasonCode::SUCCESS } else { ReasonCode::PACKET_IDENTIFIER_NOT_FOUND }
}

/// DISCONNECT (section 3.14): 0x00, or any in 3.x, discards the Will (MQTT-3.14.4-3).
fn leave<'p>(disconnect: Disconnect) -> Action<'p> {
    let normal = disconnect.reason == ReasonCode::SUCCESS;
    Action::Leave {
        departure: if normal { Departure::Normal } else { Departure::Lost },
        session_expiry_secs: disconnect.session_expiry_secs,
    }
}

/// An empty Client Identifier: never in 3.1, in 3.1.1 only with Clean Session 1 (MQTT-3.1.3-8).
fn check_client_id(connect: &Connect<'_>) -> Result<(), Fault> {
    if !connect.client_id.is_empty() {
        return Ok(());
    }
    let detail = match connect.version {
        ProtocolVersion::V3_1 => "MQTT 3.1 section 3.1: the Client Identifier is empty",
        ProtocolVersion::V3_1_1 if !connect.clean_start => {
            "MQTT-3.1.3-8: the Client Identifier is empty and Clean Session is 0"
        }
        _ => return Ok(()),
    };
    Err(Fault::Refused(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, detail))
}

#[cfg(test)]
mod tests;
