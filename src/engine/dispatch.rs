//! From a packet to its effect: what each packet of one Network Connection does to its Session and to the
//! broker. What one turn does not finish is parked, and nothing further is taken before it is done.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use log::{debug, log_enabled, trace};

use super::access::{ConnectDecision, Denied};
use super::batch::{Arriving, Batch, Flush, Heard, Published, Publishing};
use super::errand::Errand;
use super::route::RouteCache;
use super::session_cell::{CellState, Link, SessionCell};
use super::state::Engine;
use super::subscribe::{Subscribing, Unsubscribing};
use crate::budget::Budget;
use crate::connection::{Action, Connection, Topic};
use crate::counters::count_one;
use crate::error::Fault;
use crate::packet::decode::decode_connect;
use crate::packet::encode::AckKind;
use crate::packet::{Ack, Connect, PacketId, Publish, QoS, ReasonCode};
use crate::session::Departure;
use crate::session::inflight::{Acknowledged, Arrival};
use crate::session::outgoing::Outgoing;
use crate::time::Timestamp;
use crate::transport::PeerInfo;

/// The target of the protocol's log lines.
pub(crate) const PROTOCOL_LOG: &str = "hrotti::protocol";

/// Steps for what a turn has gathered, when its own are spent: the ordinary batch need not wait for another turn.
const FLUSH_STEPS: usize = 2_000;

/// Why a Network Connection ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// A packet, or its absence, was wrong; or the Server wants it.
    Fault(Fault),
    /// The Client said DISCONNECT.
    Left(Departure),
    /// The stream is at its end, or nothing may be said any more; the reason for the log.
    Broken(&'static str),
    /// The stream is broken: what could not be done with it, and why.
    Io(&'static str, io::ErrorKind),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> End {
        End::Fault(fault)
    }
}

/// What a turn of a Network Connection's task works with.
pub(crate) struct Turn<'a> {
    pub(crate) batch: &'a mut Batch,
    pub(crate) out: &'a mut Outgoing,
    pub(crate) budget: &'a mut Budget,
    pub(crate) now: Timestamp,
}

/// The Session that a Network Connection has, as long as no other one took it over.
pub(crate) struct Held {
    pub(crate) cell: Arc<SessionCell>,
    pub(crate) epoch: u64,
}

/// What goes on in a later turn.
#[allow(clippy::large_enum_variant, reason = "it is in a box, and there for a moment")]
enum Parked {
    /// A batch, and the packet that waits for it or for itself.
    Batch(Batch, Option<Work>),
    /// A CONNECT that is being decided. It stays as it came, and is read again when it is decided.
    Connect { header: u8, body: Bytes, decision: ConnectDecision, by: Timestamp },
}

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
    /// Protocol packets that are to be written.
    pub(crate) answers: Vec<u8>,
    routes: RouteCache,
    parked: Option<Box<Parked>>,
}

impl Dispatch {
    pub(crate) fn new(engine: Arc<Engine>, peer: PeerInfo, link: Link) -> Dispatch {
        Dispatch {
            connection: Connection::new(engine.limits.clone()),
            peer,
            link,
            session: None,
            answers: Vec::new(),
            routes: RouteCache::default(),
            parked: None,
            engine,
        }
    }

    pub(crate) fn session(&self) -> Option<&Held> {
        self.session.as_ref()
    }

    /// The Session and its state, unless another Network Connection has it now.
    pub(crate) fn state(&self) -> Option<MutexGuard<'_, CellState>> {
        let held = self.session.as_ref()?;
        let state = held.cell.lock();
        (state.session.epoch() == held.epoch && state.session.is_attached()).then_some(state)
    }

    /// Whether something is to be finished before further packets are taken.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// When a CONNECT that is being decided is to be decided.
    pub(crate) fn decision_deadline(&self) -> Option<Timestamp> {
        match self.parked.as_deref() {
            Some(Parked::Connect { by, .. }) => Some(*by),
            _ => None,
        }
    }

    /// Forgets routes: a publisher that idles keeps no ended Session's memory.
    pub(crate) fn forget_routes(&mut self) {
        self.routes = RouteCache::default();
    }

    pub(crate) fn has_routes(&self) -> bool {
        !self.routes.is_empty()
    }

    // ---- Packets ---------------------------------------------------------------------------------

    /// Carries out one packet. `frozen` is its body's buffer where it has one of its own.
    pub(crate) fn packet(
        &mut self,
        header: u8,
        body: &[u8],
        frozen: Option<&Bytes>,
        turn: &mut Turn<'_>,
    ) -> Result<(), End> {
        trace!(target: PROTOCOL_LOG, "{}: packet type {} with {} bytes", self.peer, header >> 4, body.len());
        // Taken apart where it is: each move of a whole one stalls on the store before it.
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
            Ok(Action::Open(connect)) => self.connect(header, body, &connect, turn.now),
            Ok(Action::Subscribe(subscribe)) => {
                let (version, bridge) = (self.connection.version(), self.connection.is_bridge());
                let mut work = Subscribing::new(&subscribe, version, bridge);
                if !self.subscribe(&mut work, body, turn)? {
                    self.park(Some(Work::Subscribe(work, owned(body, frozen))), turn);
                }
                Ok(())
            }
            Ok(Action::Unsubscribe(unsubscribe)) => {
                let mut work = Unsubscribing::new(&unsubscribe);
                if !self.unsubscribe(&mut work, body, turn)? {
                    self.park(Some(Work::Unsubscribe(work, owned(body, frozen))), turn);
                }
                Ok(())
            }
            Ok(Action::Leave { departure, session_expiry_secs }) => {
                self.disconnect(departure, session_expiry_secs)
            }
        }
    }

    /// Keeps the batch, and a packet that is not carried out, for the next turn.
    fn park(&mut self, work: Option<Work>, turn: &mut Turn<'_>) {
        let batch = std::mem::take(turn.batch);
        turn.batch.begin(&self.engine);
        self.parked = Some(Box::new(Parked::Batch(batch, work)));
    }

    /// Goes on with what was parked.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>) -> Result<(), End> {
        let (batch, work) = match self.parked.take().map(|parked| *parked) {
            None => return Ok(()),
            Some(connect @ Parked::Connect { .. }) => {
                self.parked = Some(Box::new(connect));
                return Ok(());
            }
            Some(Parked::Batch(batch, work)) => (batch, work),
        };
        *turn.batch = batch;
        let left = self.resume_work(work, turn);
        if let Ok(left @ Some(_)) = left {
            self.park(left, turn);
            return Ok(());
        }
        // Also where the packet was refused: the messages before it were accepted.
        self.flush(turn);
        left.map(|_none| ())
    }

    /// Goes on with a packet, and returns it if it is not carried out yet.
    fn resume_work(
        &mut self,
        work: Option<Work>,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Work>, End> {
        Ok(match work {
            None => None,
            Some(Work::Publish(publishing, qos, id)) => {
                self.go_on(publishing, qos, id, turn);
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

    /// Whether the messages of this turn are to be flushed before further packets are taken.
    pub(crate) fn is_pressed(&self, turn: &Turn<'_>) -> bool {
        turn.batch.is_pressed() || turn.batch.is_begun()
    }

    /// Flushes what the packets of this turn have brought, or parks it. Returns whether the queue of a subscriber
    /// that is not slow is half full all the same: then others have their turn first.
    pub(crate) fn flush(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.parked.is_some() {
            return false;
        }
        let mut more = Budget::of(FLUSH_STEPS);
        let budget = if turn.budget.is_spent() { &mut more } else { &mut *turn.budget };
        // Its own messages go out with the answers before them.
        let own = self.session.as_ref().map(|held| &held.cell);
        match turn.batch.flush(&self.engine, own, turn.out, turn.now, budget) {
            Flush::Done { waits } => waits,
            Flush::Unfinished => {
                self.park(None, turn);
                false
            }
        }
    }

    // ---- CONNECT ---------------------------------------------------------------------------------

    fn connect(
        &mut self,
        header: u8,
        body: &[u8],
        connect: &Connect<'_>,
        now: Timestamp,
    ) -> Result<(), End> {
        let Some(decision) = self.engine.access.connect(&self.peer, connect) else {
            return self.open(connect, now);
        };
        let by = now.plus(self.engine.limits.connect_decision_timeout);
        let body = Bytes::copy_from_slice(body);
        self.parked = Some(Box::new(Parked::Connect { header, body, decision, by }));
        Ok(())
    }

    /// Goes on with a CONNECT that is being decided. Ready when none is.
    pub(crate) fn poll_decision(
        &mut self,
        cx: &mut Context<'_>,
        now: Timestamp,
    ) -> Poll<Result<(), End>> {
        let Some(Parked::Connect { header, body, decision, by }) = self.parked.as_deref_mut()
        else {
            return Poll::Ready(Ok(()));
        };
        let decided = match decision.as_mut().poll(cx) {
            Poll::Ready(decided) => decided,
            Poll::Pending if now < *by => return Poll::Pending,
            Poll::Pending => {
                count_one(&self.engine.counts.connects_undecided);
                let detail = "connect_decision_timeout: the CONNECT could not be decided";
                Err(Fault::Refused(ReasonCode::SERVER_UNAVAILABLE, detail))
            }
        };
        let (header, body) = (*header, std::mem::take(body));
        self.parked = None;
        if decided.is_err_and(|fault| fault.reason() != ReasonCode::SERVER_UNAVAILABLE) {
            count_one(&self.engine.counts.accesses_denied);
        }
        let opened =
            decided.map_err(End::Fault).and_then(|()| match decode_connect(header, &body) {
                Ok(connect) => self.open(&connect, now),
                Err(_) => Err(End::Broken("a CONNECT that was read once cannot be read again")),
            });
        Poll::Ready(opened)
    }

    fn open(&mut self, connect: &Connect<'_>, now: Timestamp) -> Result<(), End> {
        let engine = &self.engine;
        let counts = &engine.counts;
        let full =
            counts.connections.fetch_add(1, Ordering::AcqRel) >= engine.limits.connections_max;
        // MQTT-3.1.4-3: one more only until the one that it takes the place of is gone.
        if full && !engine.registry.is_connected(connect.client_id) {
            counts.connections.fetch_sub(1, Ordering::AcqRel);
            count_one(&counts.connections_refused);
            return Err(
                Fault::Refused(ReasonCode::QUOTA_EXCEEDED, "connections_max is reached").into()
            );
        }
        let connection = &mut self.connection;
        let opened = engine
            .open(connect, &self.link, now, |accepted, out| connection.accept(accepted, out))
            .inspect_err(|_| {
                counts.connections.fetch_sub(1, Ordering::AcqRel);
            })?;
        debug!(
            target: PROTOCOL_LOG,
            "{} is {:?}, MQTT {}, Session {}",
            self.peer,
            opened.cell.client_id,
            connect.version,
            if opened.session_present { "resumed" } else { "new" }
        );
        self.session = Some(Held { cell: opened.cell, epoch: opened.epoch });
        if self.connection.is_connected() {
            Ok(())
        } else {
            Err(End::Broken("CONNACK exceeds the Client's Maximum Packet Size"))
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
        let Some(held) = &self.session else { return Ok(()) };
        self.engine.check_topic_name(topic.as_str())?;
        let (qos, id) = (publish.qos, publish.packet_id);
        if qos == QoS::ExactlyOnce && !self.is_new(id)? {
            // MQTT-4.3.3-10: acknowledged again, not routed again.
            self.connection.acknowledge(qos, id, ReasonCode::SUCCESS, "", &mut self.answers);
            return Ok(());
        }
        let arriving = Arriving {
            topic: topic.as_str(),
            payload: publish.payload,
            qos,
            retain: publish.retain,
            properties: publish.properties,
            frozen,
        };
        let Turn { batch, budget, now, .. } = turn;
        let publisher = &held.cell.client_id;
        let routes = &mut self.routes;
        match batch.publish(&self.engine, publisher, routes, arriving, *now, budget) {
            Published::Heard(heard) => self.answer_publish(qos, id, heard),
            Published::Later(rest) => self.park(Some(Work::Publish(rest, qos, id)), turn),
        }
        Ok(())
    }

    /// Goes on with a PUBLISH that was parked.
    fn go_on(
        &mut self,
        publishing: Publishing,
        qos: QoS,
        id: Option<PacketId>,
        turn: &mut Turn<'_>,
    ) {
        let Some(held) = &self.session else { return };
        let publisher = &held.cell.client_id;
        let Turn { batch, budget, now, .. } = turn;
        let routes = &mut self.routes;
        match publishing.advance(batch, &self.engine, publisher, routes, *now, budget) {
            Published::Heard(heard) => self.answer_publish(qos, id, heard),
            Published::Later(rest) => self.park(Some(Work::Publish(rest, qos, id)), turn),
        }
    }

    fn answer_publish(&mut self, qos: QoS, id: Option<PacketId>, heard: Heard) {
        let (reason, text) = match heard {
            Heard::Denied(Denied::Reserved) => {
                (ReasonCode::NOT_AUTHORIZED, "this Topic Name is reserved for the Server")
            }
            Heard::Denied(Denied::ByPolicy) => {
                (ReasonCode::NOT_AUTHORIZED, "publishing to this Topic Name is not allowed")
            }
            Heard::ByNobody => (ReasonCode::NO_MATCHING_SUBSCRIBERS, ""),
            Heard::By(_) => (ReasonCode::SUCCESS, ""),
        };
        if reason.is_error() && self.connection.is_v5() && qos == QoS::ExactlyOnce {
            // MQTT-4.3.3-9: with an error in PUBREC the identifier is free again.
            if let (Some(id), Some(mut state)) = (id, self.state()) {
                state.session.received().release(id);
            }
        }
        self.connection.acknowledge(qos, id, reason, text, &mut self.answers);
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

    /// Goes on with a SUBSCRIBE. Whether it is carried out.
    fn subscribe(
        &mut self,
        work: &mut Subscribing,
        body: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<bool, End> {
        if !turn.batch.push_pending(&self.engine, turn.now, turn.budget) {
            return Ok(false);
        }
        let Some(Held { cell, epoch }) = &self.session else { return Ok(true) };
        if !work.acknowledged {
            if !work.advance(&self.engine, cell, body, turn.budget)? {
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

    /// Goes on with an UNSUBSCRIBE. Whether it is carried out.
    fn unsubscribe(
        &mut self,
        work: &mut Unsubscribing,
        body: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<bool, End> {
        if !turn.batch.push_pending(&self.engine, turn.now, turn.budget) {
            return Ok(false);
        }
        let Some(Held { cell, .. }) = &self.session else { return Ok(true) };
        if !work.advance(&self.engine, cell, body, turn.budget)? {
            return Ok(false);
        }
        self.connection.unsubscribed(work.packet_id, &work.reasons, &mut self.answers)?;
        Ok(true)
    }

    // ---- The end ---------------------------------------------------------------------------------

    fn disconnect(
        &mut self,
        departure: Departure,
        session_expiry_secs: Option<u32>,
    ) -> Result<(), End> {
        if let Some(secs) = session_expiry_secs {
            let secs = secs.min(self.engine.limits.session_expiry_secs_max);
            let allowed = self.state().is_none_or(|mut state| state.session.set_expiry_secs(secs));
            if !allowed {
                let text = "section 3.14.2.2.2: a Session Expiry Interval of 0 cannot be changed";
                return Err(Fault::Protocol(text).into());
            }
        }
        Err(End::Left(departure))
    }

    /// Leaves the Session. Returns the last bytes for the peer, answers and a reason included where the end
    /// allows any.
    pub(crate) fn end(&mut self, end: End, now: Timestamp) -> Outgoing {
        let departure = match end {
            End::Left(departure) => departure,
            End::Fault(_) | End::Broken(_) | End::Io(..) => Departure::Lost,
        };
        let mut last = self.leave_session(departure, now).unwrap_or_default();
        match end {
            End::Fault(fault) => {
                self.log_end(&fault);
                self.count_fault(fault);
                last.buffer().append(&mut self.answers);
                self.connection.refuse(fault, last.buffer());
            }
            End::Left(_) => last.buffer().append(&mut self.answers),
            End::Broken(reason) => self.log_end(&reason),
            End::Io(what, error) => self.log_end(&format_args!("{what}: {error}")),
        }
        last
    }

    /// Leaves the Session, if it has one: what was parked goes on without it.
    pub(crate) fn leave_session(
        &mut self,
        departure: Departure,
        now: Timestamp,
    ) -> Option<Outgoing> {
        let parked = self.parked.take();
        let held = self.session.take()?;
        self.forget_routes();
        if let Some(Parked::Batch(batch, work)) = parked.map(|parked| *parked) {
            let errand = Errand::finish(&self.engine, held.cell.client_id.clone(), batch);
            match work {
                Some(Work::Publish(publishing, ..)) => {
                    errand.go_on_with(publishing).run(&self.engine);
                }
                _ => errand.run(&self.engine),
            }
        }
        self.engine.counts.connections.fetch_sub(1, Ordering::AcqRel);
        self.engine.leave_session(&held.cell, held.epoch, departure, now)
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

/// The body of a packet that goes on in a later turn.
fn owned(body: &[u8], frozen: Option<&Bytes>) -> Bytes {
    match frozen {
        // The end of the packet's own buffer.
        Some(packet) if packet.len() >= body.len() => packet.slice(packet.len() - body.len()..),
        _ => Bytes::copy_from_slice(body),
    }
}
