//! The effects of packets: what each packet of one Network Connection does to its Session and to the broker. Work
//! that a turn does not finish is parked, and no further packet is taken before it is finished.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::task::Context;

use bytes::Bytes;
use log::{debug, log_enabled, trace};

use self::asked::Asked;
use self::authenticate::Authentication;
use super::access::Denied;
use super::batch::{Arriving, Batch, Flush, Heard, Publishing, Routed, Unasked};
use super::comings::Agreed;
use super::connect::{Admitted, mounted_name};
use super::errand::Errand;
use super::fetching::Fetching;
use super::route::RouteCache;
use super::session_cell::{CellState, Link, SessionCell};
use super::state::Engine;
use super::subscribe::{Halt, Subscribing, Unsubscribing};
use super::timers::Order;
use crate::access::{Identity, Preparing};
use crate::budget::Budget;
use crate::connection::{Action, Connection, Topic};
use crate::counters::count_one;
use crate::error::Fault;
use crate::events::DisconnectCause;
use crate::packet::encode::AckKind;
use crate::packet::{Ack, Connect, PacketId, Publish, QoS, ReasonCode};
use crate::session::inflight::{Acknowledged, Arrival};
use crate::session::outgoing::Outgoing;
use crate::time::Timestamp;
use crate::traffic::EndedBy;
use crate::transport::PeerInfo;

mod asked;
mod authenticate;
mod listener;

use listener::leave_listener;

/// The target of the protocol's log lines.
pub(crate) const PROTOCOL_LOG: &str = "hrotti::protocol";

/// Steps for the flush at the end of a turn whose own steps are spent, so that an ordinary batch need not wait for
/// another turn.
const FLUSH_STEPS: usize = 2_000;

/// Why a Network Connection ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// The Server closes it: a packet broke a rule, a deadline has passed, or an order came.
    Fault(Fault),
    /// The Client sent DISCONNECT with this Reason Code.
    Left(ReasonCode),
    /// The peer has ended the stream, at this moment of the connection.
    Ended(&'static str),
    /// The Server cuts the stream for this reason, because no further packet may be sent or would be read.
    Cut(ReasonCode, &'static str),
    /// The stream is broken: the operation that failed, and the error.
    Io(&'static str, io::ErrorKind),
}

impl End {
    /// What is told of the end of a Network Connection with an accepted CONNECT.
    pub(crate) fn cause(&self) -> DisconnectCause {
        match *self {
            End::Fault(fault) => fault.into(),
            End::Left(code) => DisconnectCause::ByClient(code),
            End::Ended(when) => DisconnectCause::Lost(when, None),
            End::Cut(code, why) => DisconnectCause::ByServer(code, why),
            End::Io(what, error) => DisconnectCause::Lost(what, Some(error)),
        }
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> End {
        End::Fault(fault)
    }
}

/// The buffers, the budget and the time of one turn.
pub(crate) struct Turn<'a> {
    pub(crate) batch: &'a mut Batch,
    pub(crate) out: &'a mut Outgoing,
    pub(crate) budget: &'a mut Budget,
    pub(crate) now: Timestamp,
    /// Bytes of the payloads of PUBLISH packets that were taken.
    pub(crate) payload_bytes: u64,
}

/// The Session of a Network Connection, unless another Network Connection has taken it over.
pub(crate) struct Held {
    pub(crate) cell: Arc<SessionCell>,
    pub(crate) epoch: u64,
    /// The Client's identity when it connected; `None` without a policy.
    identity: Option<Identity>,
}

/// Work that continues in a later turn: an unfinished batch, and the packet that is not carried out yet, if any.
struct Parked(Batch, Option<Work>);

/// A packet that is not carried out yet.
enum Work {
    Publish(Publishing, QoS, Option<PacketId>),
    Subscribe(Subscribing, Bytes),
    Unsubscribe(Unsubscribing, Bytes),
}

/// One Network Connection as the broker sees it.
pub(crate) struct Dispatch {
    pub(crate) engine: Arc<Engine>,
    pub(crate) connection: Connection,
    pub(crate) peer: PeerInfo,
    pub(crate) link: Link,
    session: Option<Held>,
    /// Whose CONNECT is not accepted.
    asked: Option<Box<Asked>>,
    /// Answers to the Client that are not written yet.
    pub(crate) answers: Vec<u8>,
    /// Messages of the Client that its Session does not count yet.
    published: u32,
    routes: RouteCache,
    parked: Option<Box<Parked>>,
    authentication: Option<Box<Authentication>>,
    /// What the parked packet waits for.
    fetching: Option<Box<Fetching>>,
}

/// By whom a Network Connection ended, for the counts.
fn ended_by(cause: &DisconnectCause) -> EndedBy {
    match cause {
        DisconnectCause::ByClient(_) => EndedBy::Client,
        DisconnectCause::Lost(..) => EndedBy::Loss,
        DisconnectCause::ByServer(..) => EndedBy::Server,
    }
}

impl Dispatch {
    pub(crate) fn new(engine: Arc<Engine>, peer: PeerInfo, link: Link) -> Dispatch {
        let mut connection = Connection::new(engine.limits());
        if let Some(rules) = peer.listener_rules() {
            connection.set_qos_max(rules.qos_max);
        }
        Dispatch {
            connection,
            peer,
            link,
            session: None,
            asked: None,
            answers: Vec::new(),
            published: 0,
            routes: RouteCache::default(),
            parked: None,
            authentication: None,
            fetching: None,
            engine,
        }
    }

    pub(crate) fn session(&self) -> Option<&Held> {
        self.session.as_ref()
    }

    /// The locked state of the Session, unless another Network Connection has taken it over.
    pub(crate) fn state(&self) -> Option<MutexGuard<'_, CellState>> {
        let held = self.session.as_ref()?;
        let state = held.cell.lock();
        (state.session.epoch() == held.epoch && state.session.is_attached()).then_some(state)
    }

    /// Whether parked work has to be finished before further packets are taken.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.is_some() || self.is_deciding()
    }

    /// Whether the parked packet waits for answers that the access policy fetches, and there is nothing else to do.
    pub(crate) fn is_fetching(&self) -> bool {
        self.fetching.is_some() && self.parked.as_ref().is_none_or(|parked| parked.0.is_empty())
    }

    /// Looks whether the answers are there that the parked packet waits for.
    pub(crate) fn fetch(&mut self, cx: &mut Context<'_>, now: Timestamp) {
        if self.fetching.as_mut().is_some_and(|fetching| fetching.is_over(cx, now)) {
            self.fetching = None;
        }
    }

    /// When the wait for answers ends.
    pub(crate) fn fetching_deadline(&self) -> Timestamp {
        self.fetching.as_ref().map_or(Timestamp::NEVER, |fetching| fetching.by)
    }

    /// Has the packet that is parked next wait for answers.
    fn wait_for(&mut self, waits: Vec<Preparing>, now: Timestamp) {
        if !waits.is_empty() {
            let by = now.plus(self.connection.limits().connect_decision_timeout);
            self.fetching = Some(Box::new(Fetching::new(waits, by)));
        }
    }

    /// Forgets routes, so that an idle publisher does not keep ended Sessions in memory.
    pub(crate) fn forget_routes(&mut self) {
        self.routes = RouteCache::default();
    }

    pub(crate) fn has_routes(&self) -> bool {
        !self.routes.is_empty()
    }

    // ---- Packets ---------------------------------------------------------------------------------

    /// Carries out one packet. `frozen` is its buffer, if the packet has its own.
    pub(crate) fn packet(
        &mut self,
        header: u8,
        body: &[u8],
        frozen: Option<&Bytes>,
        turn: &mut Turn<'_>,
    ) -> Result<(), End> {
        trace!(target: PROTOCOL_LOG, "{}: packet type {} with {} bytes", self.peer, header >> 4, body.len());
        // The action is matched in place: each move of the whole value stalls on the store before it.
        match self.connection.handle(header, body, &mut self.answers) {
            Err(fault) => Err(fault.into()),
            Ok(Action::None) => Ok(()),
            Ok(Action::Publish(publish, topic)) => self.publish(&publish, &topic, frozen, turn),
            Ok(Action::Acknowledged(kind, ack)) => self.acknowledged(kind, ack, turn),
            Ok(Action::Release(id)) => {
                let known =
                    self.state().is_some_and(|mut state| state.session.received().release(id));
                self.connection.complete(id, known, &mut self.answers);
                Ok(())
            }
            Ok(Action::Authenticate { again, data }) => self.auth(again, data, turn.now),
            Ok(Action::Open(connect)) => {
                let checked = self.check_rules_of_listener(&connect);
                let opened = checked.and_then(|()| self.connect(header, body, &connect, turn.now));
                if opened.is_err() && self.session.is_none() {
                    self.note_asked(connect.client_id, None);
                }
                opened
            }
            Ok(Action::Subscribe(subscribe)) => {
                let (version, bridge) = (self.connection.version(), self.connection.is_bridge());
                let work = Subscribing::new(&subscribe, version, bridge);
                let mut work = work.under(self.peer.listener_rules());
                if !self.subscribe(&mut work, body, turn)? {
                    self.park(Some(Work::Subscribe(work, owned(body, frozen))), turn);
                }
                Ok(())
            }
            Ok(Action::Unsubscribe(unsubscribe)) => {
                let work = Unsubscribing::new(&unsubscribe);
                let mut work = work.under(self.peer.listener_rules());
                if !self.unsubscribe(&mut work, body, turn)? {
                    self.park(Some(Work::Unsubscribe(work, owned(body, frozen))), turn);
                }
                Ok(())
            }
            Ok(Action::Leave { reason, session_expiry_secs }) => {
                self.disconnect(reason, session_expiry_secs)
            }
        }
    }

    /// Parks the batch, and a packet that is not carried out, for the next turn.
    fn park(&mut self, work: Option<Work>, turn: &mut Turn<'_>) {
        let batch = std::mem::take(turn.batch);
        turn.batch.begin(&self.engine);
        self.parked = Some(Box::new(Parked(batch, work)));
    }

    /// Continues parked work.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>) -> Result<(), End> {
        let Some(Parked(batch, work)) = self.parked.take().map(|parked| *parked) else {
            return Ok(());
        };
        *turn.batch = batch;
        if self.fetching.is_some() {
            // The messages before the packet do not wait with it. What is not flushed now is in the next turn.
            let own = self.session.as_ref().map(|held| &held.cell);
            let _rest = turn.batch.flush(&self.engine, own, turn.out, turn.now, turn.budget);
            self.park(work, turn);
            return Ok(());
        }
        let left = self.resume_work(work, turn);
        if let Ok(left @ Some(_)) = left {
            self.park(left, turn);
            return Ok(());
        }
        // Also if the packet was refused: the messages before it were accepted.
        self.flush(turn);
        left.map(|_none| ())
    }

    /// Continues a packet, and returns it if it is not carried out yet.
    fn resume_work(
        &mut self,
        work: Option<Work>,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Work>, End> {
        Ok(match work {
            None => None,
            Some(Work::Publish(publishing, qos, id)) => {
                self.go_on(publishing, qos, id, turn)?;
                None
            }
            Some(Work::Subscribe(mut work, body)) => {
                let done = self.subscribe(&mut work, &body, turn)?;
                (!done).then_some(Work::Subscribe(work, body))
            }
            Some(Work::Unsubscribe(mut work, body)) => {
                let done = self.unsubscribe(&mut work, &body, turn)?;
                (!done).then_some(Work::Unsubscribe(work, body))
            }
        })
    }

    /// Whether the batch has to be flushed before further packets are taken.
    pub(crate) fn is_pressed(&self, turn: &Turn<'_>) -> bool {
        turn.batch.is_pressed() || turn.batch.is_begun()
    }

    /// Flushes the batch of this turn, or parks it. Returns whether the queue of a subscriber that is not slow is
    /// still half full: then the task yields.
    pub(crate) fn flush(&mut self, turn: &mut Turn<'_>) -> bool {
        self.count_published();
        if self.parked.is_some() {
            return false;
        }
        let mut more = Budget::of(FLUSH_STEPS);
        let budget = if turn.budget.is_spent() { &mut more } else { &mut *turn.budget };
        // Messages for its own Session go out by its own write, after the answers.
        let own = self.session.as_ref().map(|held| &held.cell);
        match turn.batch.flush(&self.engine, own, turn.out, turn.now, budget) {
            Flush::Done { waits } => waits,
            Flush::Unfinished => {
                self.park(None, turn);
                false
            }
        }
    }

    /// Has the Session count the messages of a batch, so that no single one costs anything that other threads see.
    fn count_published(&mut self) {
        if self.published > 0
            && let Some(held) = &self.session
        {
            held.cell.count_published(u64::from(std::mem::take(&mut self.published)));
        }
    }

    // ---- CONNECT ---------------------------------------------------------------------------------

    /// Carries out a CONNECT that was accepted.
    fn open(
        &mut self,
        connect: &Connect<'_>,
        admitted: &Admitted<'_>,
        now: Timestamp,
    ) -> Result<(), End> {
        let engine = &self.engine;
        let counts = &engine.counts;
        let before = counts.connections.fetch_add(1, Ordering::AcqRel);
        let full = before >= engine.limits().connections_max;
        // MQTT-3.1.4-3: a takeover exceeds the limit only until the previous Network Connection has closed.
        if full && !engine.registry.is_connected(admitted.client_id) {
            counts.connections.fetch_sub(1, Ordering::AcqRel);
            count_one(&counts.connections_refused);
            return Err(
                Fault::Refused(ReasonCode::QUOTA_EXCEEDED, "connections_max is reached").into()
            );
        }
        let listener = self.enter_listener(admitted.client_id).inspect_err(|_| {
            counts.connections.fetch_sub(1, Ordering::AcqRel);
        })?;
        let (connection, answers) = (&mut self.connection, &mut self.answers);
        let opened = engine
            .open(connect, admitted, &self.peer, &self.link, now, |accepted, opening| {
                opening.rest.append(answers); // of an AUTH, if the Client was quick
                connection.accept(accepted, opening.packets);
            })
            .inspect_err(|_| {
                counts.connections.fetch_sub(1, Ordering::AcqRel);
                leave_listener(listener.as_deref(), connect.version);
            })?;
        engine.traffic.connected(before + 1);
        let identity = admitted.identity.clone();
        self.asked = None;
        let held = Held { cell: opened.cell, epoch: opened.epoch, identity };
        let agreed = Agreed {
            clean_start: connect.clean_start,
            session_present: opened.session_present,
            keep_alive_secs: admitted.keep_alive_secs,
        };
        self.engine.comings.connected(self.comer_with(&held), agreed);
        self.session = Some(held);
        if self.connection.is_connected() {
            Ok(())
        } else {
            let detail = "MQTT-3.1.2-24: CONNACK exceeds the Client's Maximum Packet Size";
            Err(End::Cut(ReasonCode::PACKET_TOO_LARGE, detail))
        }
    }

    // ---- PUBLISH and its acknowledgements --------------------------------------------------------

    fn publish(
        &mut self,
        publish: &Publish<'_>,
        topic: &Topic<'_>,
        frozen: Option<&Bytes>,
        turn: &mut Turn<'_>,
    ) -> Result<(), End> {
        turn.payload_bytes += publish.payload.len() as u64;
        let Some(held) = &self.session else { return Ok(()) };
        let name = mounted_name(self.peer.mount_point(), topic.as_str());
        self.engine.check_topic_name(&name, self.connection.limits())?;
        let (qos, id) = (publish.qos, publish.packet_id);
        if qos == QoS::ExactlyOnce && !self.is_new(id)? {
            // MQTT-4.3.3-10: acknowledged again, not routed again.
            self.connection.acknowledge(qos, id, ReasonCode::SUCCESS, "", &mut self.answers);
            return Ok(());
        }
        self.published += 1;
        let arriving = Arriving {
            topic: &name,
            payload: publish.payload,
            qos,
            retain: publish.retain,
            properties: publish.properties,
            frozen,
        };
        let Turn { batch, budget, now, .. } = turn;
        let (publisher, routes) = ((&*held.cell, held.epoch), &mut self.routes);
        match batch.publish(&self.engine, publisher, routes, arriving, *now, budget) {
            Routed::Heard(heard) => self.answer_publish(qos, id, heard)?,
            Routed::Later(rest) => self.park(Some(Work::Publish(rest, qos, id)), turn),
            Routed::Unasked(rest, Unasked(preparing)) => {
                self.wait_for(vec![preparing], turn.now);
                self.park(Some(Work::Publish(rest, qos, id)), turn);
            }
        }
        Ok(())
    }

    /// Continues a PUBLISH that was parked.
    fn go_on(
        &mut self,
        publishing: Publishing,
        qos: QoS,
        id: Option<PacketId>,
        turn: &mut Turn<'_>,
    ) -> Result<(), End> {
        let Some(held) = &self.session else { return Ok(()) };
        let publisher = &held.cell.client_id;
        let Turn { batch, budget, now, .. } = turn;
        let routes = &mut self.routes;
        let asked = publishing.ask(batch, &self.engine, (&held.cell, held.epoch), routes);
        let publishing = match asked {
            Ok(publishing) => publishing,
            Err(heard) => return self.answer_publish(qos, id, heard),
        };
        match publishing.advance(batch, &self.engine, publisher, routes, *now, budget) {
            Routed::Heard(heard) => self.answer_publish(qos, id, heard)?,
            Routed::Later(rest) | Routed::Unasked(rest, _) => {
                self.park(Some(Work::Publish(rest, qos, id)), turn);
            }
        }
        Ok(())
    }

    /// Answers a PUBLISH.
    ///
    /// # Errors
    /// The policy denies it, the Client speaks 3.x, and `denied_publish` says that the Network Connection is closed.
    fn answer_publish(&mut self, qos: QoS, id: Option<PacketId>, heard: Heard) -> Result<(), End> {
        if heard == Heard::Denied(Denied::TakenOver) {
            return Err(self.taken_over());
        }
        let strict = self.engine.access.denied_publish_closes();
        if heard == Heard::Denied(Denied::ByPolicy) && strict && !self.connection.is_v5() {
            let detail = "the access rules deny a PUBLISH";
            return Err(Fault::Refused(ReasonCode::NOT_AUTHORIZED, detail).into());
        }
        let (reason, text) = match heard {
            Heard::Denied(Denied::Reserved) => {
                (ReasonCode::NOT_AUTHORIZED, "this Topic Name is reserved for the Server")
            }
            Heard::Denied(Denied::ByPolicy | Denied::TakenOver) => {
                (ReasonCode::NOT_AUTHORIZED, "publishing to this Topic Name is not allowed")
            }
            Heard::Unmatched => (ReasonCode::NO_MATCHING_SUBSCRIBERS, ""),
            Heard::By(_) => (ReasonCode::SUCCESS, ""),
        };
        if reason.is_error() && self.connection.is_v5() && qos == QoS::ExactlyOnce {
            // MQTT-4.3.3-9: with an error in PUBREC the identifier is free again.
            if let (Some(id), Some(mut state)) = (id, self.state()) {
                state.session.received().release(id);
            }
        }
        self.connection.acknowledge(qos, id, reason, text, &mut self.answers);
        Ok(())
    }

    /// Whether a PUBLISH of QoS 2 is a new message.
    fn is_new(&self, id: Option<PacketId>) -> Result<bool, End> {
        let (Some(id), Some(mut state)) = (id, self.state()) else { return Ok(false) };
        match state.session.received().arrive(id, self.connection.receive_maximum()) {
            Arrival::New => Ok(true),
            Arrival::Duplicate => Ok(false),
            Arrival::Exceeded => {
                count_one(&self.engine.counts.receive_maximum_exceeded);
                let text = "MQTT-3.3.4-7: more than Receive Maximum messages are open";
                Err(Fault::Refused(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, text).into())
            }
        }
    }

    fn acknowledged(
        &mut self,
        kind: AckKind,
        Ack { packet_id, reason }: Ack,
        turn: &mut Turn<'_>,
    ) -> Result<(), End> {
        let Some(mut state) = self.state() else { return Ok(()) };
        // An identifier that is not the oldest is searched for.
        turn.budget.spend(state.session.inflight_len() / 64);
        let done = match kind {
            AckKind::PubAck => state.session.puback(packet_id, reason),
            AckKind::PubRec => state.session.pubrec(packet_id, reason),
            AckKind::PubComp | AckKind::PubRel => state.session.pubcomp(packet_id),
        };
        drop(state);
        match (kind, done) {
            (_, Acknowledged::Unexpected) => {
                Err(Fault::Protocol("section 4.3: an acknowledgement of another QoS or stage")
                    .into())
            }
            (AckKind::PubRec, Acknowledged::Received) => {
                self.connection.release(packet_id, true, &mut self.answers);
                Ok(())
            }
            (AckKind::PubRec, Acknowledged::Unknown) if !reason.is_error() => {
                self.connection.release(packet_id, false, &mut self.answers);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    // ---- Subscriptions ---------------------------------------------------------------------------

    /// Continues a SUBSCRIBE. Returns whether it is carried out.
    fn subscribe(
        &mut self,
        work: &mut Subscribing,
        body: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<bool, End> {
        if !turn.batch.push_pending(&self.engine, turn.now, turn.budget) {
            return Ok(false);
        }
        let Some(Held { cell, epoch, .. }) = &self.session else { return Ok(true) };
        if !work.acknowledged {
            let advanced = work.advance(&self.engine, cell, *epoch, body, turn.budget);
            if !advanced.map_err(|halt| self.halted(halt))? {
                self.wait_for(work.take_waits(), turn.now);
                return Ok(false);
            }
            debug!(target: PROTOCOL_LOG, "{:?} subscribes: {:?}", cell.client_id, work.reasons);
            self.connection.subscribed(work.packet_id, &work.reasons, &mut self.answers)?;
            // SUBACK goes before retained messages, whichever task writes them.
            cell.lock().session.append_protocol(*epoch, &mut self.answers);
            work.acknowledge();
        }
        Ok(work.begin_replays(cell, turn.budget))
    }

    /// Continues an UNSUBSCRIBE. Returns whether it is carried out.
    fn unsubscribe(
        &mut self,
        work: &mut Unsubscribing,
        body: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<bool, End> {
        if !turn.batch.push_pending(&self.engine, turn.now, turn.budget) {
            return Ok(false);
        }
        let Some(Held { cell, epoch, .. }) = &self.session else { return Ok(true) };
        let advanced = work.advance(&self.engine, cell, *epoch, body, turn.budget);
        if !advanced.map_err(|halt| self.halted(halt))? {
            return Ok(false);
        }
        self.connection.unsubscribed(work.packet_id, &work.reasons, &mut self.answers)?;
        Ok(true)
    }

    // ---- The end ---------------------------------------------------------------------------------

    /// The end that an order demands; `None` if the order is no end yet.
    pub(crate) fn ordered_end(&self) -> Option<End> {
        match self.link.mailbox.ordered()? {
            Order::ListenerRules => None,
            Order::ShuttingDown | Order::Displaced if self.session.is_some() => None,
            order @ (Order::Displaced | Order::TakenOverMidPacket | Order::Abort) => {
                Some(End::Cut(order.fault().reason(), order.fault().detail()))
            }
            order => Some(End::Fault(self.link.mailbox.fault(order))),
        }
    }

    /// The end of a Network Connection whose Session belongs to another one. The order has been given already, under
    /// the lock under which the Session was taken.
    fn taken_over(&self) -> End {
        self.ordered_end()
            .unwrap_or(End::Cut(ReasonCode::SESSION_TAKEN_OVER, "the Session has ended"))
    }

    fn halted(&self, halt: Halt) -> End {
        match halt {
            Halt::Fault(fault) => fault.into(),
            Halt::TakenOver => self.taken_over(),
        }
    }

    fn disconnect(
        &mut self,
        reason: ReasonCode,
        session_expiry_secs: Option<u32>,
    ) -> Result<(), End> {
        if let Some(secs) = session_expiry_secs {
            let secs = secs.min(self.connection.limits().session_expiry_secs_max);
            let allowed = self.state().is_none_or(|mut state| state.session.set_expiry_secs(secs));
            if !allowed {
                let text = "section 3.14.2.2.2: a Session Expiry Interval of 0 cannot be changed";
                return Err(Fault::Protocol(text).into());
            }
        }
        Err(End::Left(reason))
    }

    /// Leaves the Session. Returns the last bytes for the peer, including answers and a reason if this end allows
    /// them.
    pub(crate) fn end(&mut self, end: End, now: Timestamp) -> Outgoing {
        self.tell_refusal(end);
        let mut last = self.leave_session(end.cause(), now).unwrap_or_default();
        match end {
            End::Fault(fault) => {
                self.log_end(&fault);
                self.count_fault(fault);
                self.append_answers(&mut last);
                let mut refusal = Vec::new();
                self.connection.refuse(fault, &mut refusal);
                last.append_packets(&mut refusal);
            }
            End::Left(_) => self.append_answers(&mut last),
            End::Ended(_) | End::Cut(..) | End::Io(..) => self.log_end(&end.cause()),
        }
        last
    }

    fn append_answers(&mut self, last: &mut Outgoing) {
        if self.connection.is_connected() {
            last.append_packets(&mut self.answers);
        } else {
            last.buffer().append(&mut self.answers); // of an AUTH that was counted before
        }
    }

    /// Leaves the Session, if it has one, and counts by whom the connection ends. Parked work continues in an errand.
    pub(crate) fn leave_session(
        &mut self,
        cause: DisconnectCause,
        now: Timestamp,
    ) -> Option<Outgoing> {
        self.fetching = None;
        let parked = self.parked.take();
        let held = self.session.take()?;
        self.forget_routes();
        if let Some(Parked(batch, work)) = parked.map(|parked| *parked) {
            let errand = Errand::finish(&self.engine, held.cell.client_id.clone(), batch);
            match work {
                Some(Work::Publish(publishing, ..)) => {
                    errand.go_on_with(publishing).run(&self.engine);
                }
                _ => errand.run(&self.engine),
            }
        }
        self.engine.counts.connections.fetch_sub(1, Ordering::AcqRel);
        let listener = self.peer.accepted_by().map(|listener| &**listener);
        leave_listener(listener, self.connection.version());
        let by = ended_by(&cause);
        let left = self.engine.leave_session(&held.cell, held.epoch, cause, now);
        self.engine.traffic.disconnected(left.as_ref().map_or(EndedBy::Takeover, |_| by));
        if let Some(identity) = &held.identity {
            self.engine.access.disconnected(&held.cell.client_id, identity, &self.peer);
        }
        self.engine.comings.disconnected(self.comer_with(&held), cause);
        left
    }

    fn log_end(&self, reason: &dyn std::fmt::Display) {
        if log_enabled!(target: PROTOCOL_LOG, log::Level::Debug) {
            debug!(target: PROTOCOL_LOG, "{} is disconnected: {reason}", self.peer);
        }
    }

    fn count_fault(&self, fault: Fault) {
        let counts = &self.engine.counts;
        match fault {
            Fault::Malformed(_) => count_one(&counts.malformed_packets),
            Fault::Protocol(_) => count_one(&counts.protocol_errors),
            Fault::Refused(ReasonCode::PACKET_TOO_LARGE, _) => count_one(&counts.packets_too_large),
            Fault::Refused(..) | Fault::Server(..) => {}
        }
    }
}

/// The body of a packet that continues in a later turn.
fn owned(body: &[u8], frozen: Option<&Bytes>) -> Bytes {
    match frozen {
        // The end of the packet's own buffer.
        Some(packet) if packet.len() >= body.len() => packet.slice(packet.len() - body.len()..),
        _ => Bytes::copy_from_slice(body),
    }
}
