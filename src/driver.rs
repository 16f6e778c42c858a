//! The only place where a Connection meets a byte stream: one task for each Network Connection.
//!
//! A turn does, in this order: orders of others, what is to be written, the time, and only then new bytes.
//! Finished work goes before new work, so that nobody can make a connection grow by talking to it. Nothing
//! here waits for another connection.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use log::{debug, log_enabled, trace};

use crate::broker::fanout::{Arriving, Heard, RouteCache};
use crate::broker::mailbox::{Mailbox, Order};
use crate::broker::shared::{Shared, count_one};
use crate::broker::slot::{Link, Slot, SlotState};
use crate::connection::{Action, Connection, Topic};
use crate::error::Fault;
use crate::packet::encode::AckKind;
use crate::packet::frame::{Frame, next_frame};
use crate::packet::{Ack, Connect, PacketId, Publish, QoS, ReasonCode};
use crate::session::Departure;
use crate::session::inflight::{Acknowledged, Arrival};
use crate::session::outgoing::Outgoing;
use crate::time::Timestamp;
use crate::transport::{ByteStream, TryWrite};

mod closing;
mod incoming;
mod scratch;
mod stream;

use closing::Closing;
use incoming::{Incoming, Read};
use scratch::Scratch;
use stream::Stream;

/// The target of the protocol's log lines.
pub(crate) const PROTOCOL_LOG: &str = "hrotti::protocol";

/// Rounds of write and read before other tasks have their turn.
const ROUNDS_PER_TURN: usize = 4;

/// Above so many bytes that the peer does not take, nothing more is read from it.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Given back when the Network Connection ends, in whatever way.
pub(crate) trait Guard: Send {
    /// CONNECT was accepted: what counts peers before that is given back now.
    fn connected(&mut self);
}

/// One Network Connection's task.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    /// Before the stream, so that it is dropped first and the stream closes the socket.
    inline: Arc<dyn TryWrite>,
    stream: Stream,
    peer: String,
    mailbox: Arc<Mailbox>,
    guard: Box<dyn Guard>,
    connection: Connection,
    session: Option<Held>,
    incoming: Incoming,
    /// Protocol packets that are to be written.
    out: Vec<u8>,
    routes: RouteCache,
    phase: Phase,
    connect_by: Timestamp,
    last_packet_at: Timestamp,
    /// Since when the peer has taken nothing of what is to be written.
    stalled_since: Option<Timestamp>,
    /// A subscriber's queue is half full: others have a turn before the rest of the batch.
    yields: bool,
}

/// The Session that this Network Connection has, as long as nobody took it over.
struct Held {
    slot: Arc<Slot>,
    epoch: u64,
}

/// Where a task stands.
enum Phase {
    Open,
    /// The broker stops: what waits is written, nothing is read.
    Draining,
    Closing(Box<Closing>),
}

/// Why a turn ends.
enum Turn {
    /// Nothing to do until somebody wakes the task.
    Sleep,
    /// There is more to do, and others come first.
    Yield,
    /// The Network Connection is over.
    Done,
}

/// Why a Network Connection ends, as the task sees it.
#[derive(Clone, Copy)]
enum End {
    /// A packet, or its absence, was wrong; or the Server wants it.
    Fault(Fault),
    /// The Client said DISCONNECT.
    Left(Departure),
    /// The stream is broken or at its end.
    Broken,
}

impl From<Fault> for End {
    fn from(fault: Fault) -> End {
        End::Fault(fault)
    }
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        stream: ByteStream,
        peer: String,
        mailbox: Arc<Mailbox>,
        guard: Box<dyn Guard>,
    ) -> Driver {
        let now = shared.clock.now();
        let (stream, inline) = Stream::new(stream, &mailbox);
        Driver {
            connection: Connection::new(shared.limits.clone()),
            connect_by: now.plus(shared.limits.connect_timeout),
            stream,
            inline,
            peer,
            mailbox,
            guard,
            session: None,
            incoming: Incoming::default(),
            out: Vec::new(),
            routes: RouteCache::default(),
            phase: Phase::Open,
            last_packet_at: now,
            stalled_since: None,
            yields: false,
            shared,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Turn {
        for _ in 0..ROUNDS_PER_TURN {
            let now = self.shared.clock.now();
            if let Phase::Closing(closing) = &mut self.phase {
                return match closing.poll(cx, &mut self.stream, &mut scratch.read, now) {
                    Poll::Ready(()) => Turn::Done,
                    Poll::Pending => self.sleep(now),
                };
            }
            match self.round(cx, scratch, now) {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) if !self.yields => return self.sleep(now),
                Ok(Poll::Pending) => {}
                Err(end) => self.end(end, now),
            }
            if std::mem::take(&mut self.yields) {
                return Turn::Yield;
            }
        }
        Turn::Yield
    }

    /// Write, look at the time, read. Ready: there was something to do.
    fn round(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        now: Timestamp,
    ) -> Result<Poll<()>, End> {
        self.obey()?;
        self.write(cx, scratch, now)?;
        self.check_time(now)?;
        if matches!(self.phase, Phase::Draining) {
            return self.drained().map_or(Ok(Poll::Pending), Err);
        }
        if self.unsent_bytes() > UNSENT_BYTES_MAX {
            return Ok(Poll::Pending);
        }
        let unauthenticated = !self.connection.is_connected();
        match self.incoming.read(cx, &mut self.stream, &mut scratch.read, unauthenticated) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(_)) => Err(End::Broken),
            Poll::Ready(Ok(Read::End)) => Err(End::Broken),
            Poll::Ready(Ok(Read::Packet(packet))) => {
                self.take(&packet, Some(&packet), scratch, now)?;
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Ok(Read::Bytes(len))) => {
                let bytes = std::mem::take(&mut scratch.read);
                let taken = self.take(bytes.get(..len).unwrap_or_default(), None, scratch, now);
                scratch.read = bytes;
                taken.map(Poll::Ready)
            }
        }
    }

    /// Nothing is to be done now: sets when the task is to be woken at the latest.
    fn sleep(&mut self, now: Timestamp) -> Turn {
        let at = match &self.phase {
            Phase::Closing(closing) => closing.deadline(),
            Phase::Open | Phase::Draining => self.deadline(),
        };
        // A deadline that has passed was looked at with an older `now`: once more, soon.
        let at = at.max(Timestamp(now.0 + 1));
        self.shared.wheel.schedule_connection(at, now, &self.mailbox);
        Turn::Sleep
    }

    // ---- Orders and time -------------------------------------------------------------------------

    fn obey(&mut self) -> Result<(), End> {
        match self.mailbox.ordered() {
            None => Ok(()),
            Some(Order::ShuttingDown) if self.session.is_some() => {
                self.phase = Phase::Draining;
                Ok(())
            }
            Some(Order::TakenOverMidPacket | Order::Abort) => Err(End::Broken),
            Some(order) => Err(End::Fault(order.fault())),
        }
    }

    /// While the broker stops: the end, when nothing more can be written.
    fn drained(&self) -> Option<End> {
        let more = self.state().is_some_and(|state| state.session.has_more());
        (!more).then(|| End::Fault(Order::ShuttingDown.fault()))
    }

    fn deadline(&self) -> Timestamp {
        let limits = &self.shared.limits;
        let connect =
            if self.connection.is_connected() { Timestamp::NEVER } else { self.connect_by };
        let stall = self.stalled_since.map(|since| since.plus(limits.write_stall_timeout));
        connect
            .min(self.keep_alive_deadline())
            .min(self.incoming.deadline())
            .min(stall.unwrap_or(Timestamp::NEVER))
    }

    /// A Client from whom nothing is read cannot be blamed for silence; a write that stalls has a bound of
    /// its own.
    fn keep_alive_deadline(&self) -> Timestamp {
        if self.stalled_since.is_some() {
            return Timestamp::NEVER;
        }
        self.connection.keep_alive_deadline(self.last_packet_at)
    }

    fn check_time(&self, now: Timestamp) -> Result<(), End> {
        if now < self.deadline() {
            return Ok(());
        }
        let counts = &self.shared.counts;
        if !self.connection.is_connected() && self.connect_by <= now {
            count_one(&counts.connects_timed_out);
            return Err(End::Broken);
        }
        if self.incoming.deadline() <= now {
            count_one(&counts.packets_timed_out);
            let fault = Fault::Server(
                ReasonCode::UNSPECIFIED_ERROR,
                "packet_timeout: a packet was not finished",
            );
            return Err(End::Fault(fault));
        }
        if self.keep_alive_deadline() <= now {
            count_one(&counts.keep_alives_timed_out);
            let text = "MQTT-3.1.2-22: no packet within one and a half times the Keep Alive";
            return Err(End::Fault(Fault::Server(ReasonCode::KEEP_ALIVE_TIMEOUT, text)));
        }
        count_one(&counts.writes_stalled);
        Err(End::Broken)
    }

    // ---- Writing ---------------------------------------------------------------------------------

    /// The Session and its state, unless another Network Connection has it now.
    fn state(&self) -> Option<std::sync::MutexGuard<'_, SlotState>> {
        let held = self.session.as_ref()?;
        let state = held.slot.lock();
        (state.session.epoch() == held.epoch && state.session.is_attached()).then_some(state)
    }

    fn unsent_bytes(&self) -> usize {
        // Only a stream that takes nothing can leave much behind.
        if self.stalled_since.is_none() {
            return 0;
        }
        self.state().map_or(0, |state| state.session.tail_bytes())
    }

    /// Writes what waits until the stream takes no more.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        now: Timestamp,
    ) -> Result<(), End> {
        let Some(Held { slot, epoch }) = &self.session else { return Ok(()) };
        loop {
            let began = {
                let mut state = slot.lock();
                if state.session.epoch() != *epoch {
                    return Ok(()); // taken over: the order is on its way
                }
                state.session.set_blocked(false);
                let mut retained = self.shared.retained_lock();
                state.session.begin_batch(now, &mut scratch.out, &mut self.out, &mut retained)
            };
            // Somebody else is writing, and goes on with what is left.
            let Some(epoch) = began else { return Ok(()) };
            if scratch.out.is_empty() {
                // A search in the retained messages that paused goes on after others had their turn.
                self.yields |= slot.lock().session.end_batch(epoch, &mut scratch.out, 0);
                break;
            }
            // Others wait until a write is over: it is over for a transport that panics, too.
            let out = &scratch.out;
            let stream = &mut self.stream;
            let written = catch_unwind(AssertUnwindSafe(|| {
                out.with_slices(|slices| stream.with(|io| io.poll_write_vectored(cx, slices)))
            }));
            let panicked = |_| Poll::Ready(Err(io::Error::other("the transport panicked")));
            let written = written.unwrap_or_else(panicked);
            let mut state = slot.lock();
            match written {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.stalled_since = None;
                    if !state.session.end_batch(epoch, &mut scratch.out, written) {
                        break;
                    }
                }
                Poll::Ready(_) => {
                    state.session.end_batch(epoch, &mut scratch.out, 0);
                    return Err(End::Broken);
                }
                Poll::Pending => {
                    state.session.end_batch(epoch, &mut scratch.out, 0);
                    state.session.set_blocked(true);
                    self.stalled_since.get_or_insert(now);
                    return Ok(());
                }
            }
        }
        match self.stream.with(|io| io.poll_flush(cx)) {
            Poll::Ready(Err(_)) => Err(End::Broken),
            Poll::Ready(Ok(())) => {
                self.stalled_since = None;
                Ok(())
            }
            Poll::Pending => {
                self.stalled_since.get_or_insert(now);
                Ok(())
            }
        }
    }

    // ---- Reading ---------------------------------------------------------------------------------

    /// Takes every whole packet out of `bytes`; the rest is kept for later. `frozen` is `bytes` where that
    /// is one packet with a buffer of its own.
    fn take(
        &mut self,
        bytes: &[u8],
        frozen: Option<&Bytes>,
        scratch: &mut Scratch,
        now: Timestamp,
    ) -> Result<(), End> {
        scratch.batch.begin(&self.shared);
        let mut rest = bytes;
        let outcome = loop {
            let frame = match next_frame(rest, self.connection.packet_bytes_max()) {
                Ok(frame) => frame,
                Err(fault) => break Err(End::Fault(fault)),
            };
            let Frame::Whole { header, body, taken } = frame else {
                break self.keep(rest, &frame, now);
            };
            self.last_packet_at = now;
            self.incoming.finished();
            if let Err(end) = self.packet(header, body, frozen, scratch, now) {
                break Err(end);
            }
            rest = rest.get(taken..).unwrap_or_default();
            if scratch.batch.is_pressed()
                && scratch.batch.flush(&self.shared, &mut scratch.out, now)
            {
                self.yields = true;
                self.incoming.keep_whole(rest);
                break Ok(());
            }
        };
        scratch.batch.flush(&self.shared, &mut scratch.out, now);
        outcome
    }

    /// Keeps the beginning of a packet, within the bound on what peers without CONNECT may hold.
    fn keep(&mut self, rest: &[u8], frame: &Frame<'_>, now: Timestamp) -> Result<(), End> {
        let Frame::Partial { total } = *frame else { return Ok(()) };
        let limits = &self.shared.limits;
        self.incoming.keep(rest, total, now, limits.packet_timeout);
        if self.connection.is_connected() {
            return Ok(());
        }
        let counts = &self.shared.counts;
        if !self.incoming.account(&counts.unauthenticated_bytes, limits.unauthenticated_bytes_max) {
            count_one(&counts.unauthenticated_bytes_refused);
            return Err(End::Broken);
        }
        Ok(())
    }

    fn packet(
        &mut self,
        header: u8,
        body: &[u8],
        frozen: Option<&Bytes>,
        scratch: &mut Scratch,
        now: Timestamp,
    ) -> Result<(), End> {
        trace!(target: PROTOCOL_LOG, "{}: packet type {} with {} bytes", self.peer, header >> 4, body.len());
        // Taken apart where it is: each move of a whole one stalls on the store before it.
        match self.connection.handle(header, body, &mut self.out) {
            Err(fault) => Err(fault.into()),
            Ok(Action::None) => Ok(()),
            Ok(Action::Publish(publish, topic)) => {
                self.publish(&publish, &topic, frozen, scratch, now)
            }
            Ok(Action::Acknowledged(kind, ack)) => self.acknowledged(kind, ack),
            Ok(Action::Release(id)) => {
                let known =
                    self.state().is_some_and(|mut state| state.session.received().release(id));
                self.connection.complete(id, known, &mut self.out);
                Ok(())
            }
            Ok(Action::Open(connect)) => self.open(&connect, now),
            Ok(Action::Subscribe(subscribe)) => {
                scratch.batch.settle(&self.shared, now);
                let Some(Held { slot, epoch }) = &self.session else { return Ok(()) };
                let version = self.connection.version();
                let (reasons, replays) = self.shared.subscribe(slot, version, &subscribe)?;
                debug!(target: PROTOCOL_LOG, "{:?} subscribes: {reasons:?}", slot.client_id);
                self.connection.subscribed(subscribe.packet_id, &reasons, &mut self.out)?;
                // SUBACK goes before retained messages, whoever writes them.
                let mut state = slot.lock();
                state.session.append_protocol(*epoch, &mut self.out);
                replays.into_iter().for_each(|replay| state.session.replay(replay));
                Ok(())
            }
            Ok(Action::Unsubscribe(unsubscribe)) => {
                scratch.batch.settle(&self.shared, now);
                let Some(Held { slot, .. }) = &self.session else { return Ok(()) };
                let reasons = self.shared.unsubscribe(slot, &unsubscribe)?;
                self.connection.unsubscribed(unsubscribe.packet_id, &reasons, &mut self.out)?;
                Ok(())
            }
            Ok(Action::Leave { departure, session_expiry_secs }) => {
                self.leave(departure, session_expiry_secs)
            }
        }
    }

    fn open(&mut self, connect: &Connect<'_>, now: Timestamp) -> Result<(), End> {
        let counts = &self.shared.counts;
        let full =
            counts.connections.fetch_add(1, Ordering::AcqRel) >= self.shared.limits.connections_max;
        // MQTT-3.1.4-3: one more only until the one that it takes the place of is gone.
        if full && !self.shared.registry.is_connected(connect.client_id) {
            counts.connections.fetch_sub(1, Ordering::AcqRel);
            count_one(&counts.connections_refused);
            return Err(
                Fault::Refused(ReasonCode::QUOTA_EXCEEDED, "connections_max is reached").into()
            );
        }
        let link = Link { mailbox: self.mailbox.clone(), inline: Some(self.inline.clone()) };
        let connection = &mut self.connection;
        let opened =
            self.shared.open(connect, &link, now, |accepted, out| connection.accept(accepted, out));
        let opened = opened.inspect_err(|_| {
            counts.connections.fetch_sub(1, Ordering::AcqRel);
        })?;
        debug!(
            target: PROTOCOL_LOG,
            "{} is {:?}, MQTT {}, Session {}",
            self.peer,
            opened.slot.client_id,
            connect.version,
            if opened.session_present { "resumed" } else { "new" }
        );
        self.session = Some(Held { slot: opened.slot, epoch: opened.epoch });
        self.incoming.release(&self.shared.counts.unauthenticated_bytes);
        self.guard.connected();
        if self.connection.is_connected() { Ok(()) } else { Err(End::Broken) }
    }

    fn publish(
        &mut self,
        publish: &Publish<'_>,
        topic: &Topic<'_>,
        frozen: Option<&Bytes>,
        scratch: &mut Scratch,
        now: Timestamp,
    ) -> Result<(), End> {
        let Some(held) = &self.session else { return Ok(()) };
        self.shared.check_topic_name(topic.as_str())?;
        if publish.qos == QoS::ExactlyOnce && !self.is_new(publish.packet_id)? {
            // MQTT-4.3.3-10: acknowledged again, not routed again.
            self.connection.acknowledge(publish, ReasonCode::SUCCESS, &mut self.out);
            return Ok(());
        }
        let arriving = Arriving {
            topic: topic.as_str(),
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
            frozen,
        };
        let client_id = &held.slot.client_id;
        let heard = scratch.batch.route(&self.shared, client_id, &mut self.routes, arriving, now);
        let reason = match heard {
            Heard::Reserved => ReasonCode::NOT_AUTHORIZED,
            Heard::ByNobody => ReasonCode::NO_MATCHING_SUBSCRIBERS,
            Heard::BySomebody => ReasonCode::SUCCESS,
        };
        if reason.is_error() && self.connection.is_v5() && publish.qos == QoS::ExactlyOnce {
            // MQTT-4.3.3-9: with an error in PUBREC the identifier is free again.
            if let (Some(id), Some(mut state)) = (publish.packet_id, self.state()) {
                state.session.received().release(id);
            }
        }
        self.connection.acknowledge(publish, reason, &mut self.out);
        Ok(())
    }

    /// Whether a PUBLISH of QoS 2 is a new message.
    fn is_new(&self, id: Option<PacketId>) -> Result<bool, End> {
        let (Some(id), Some(mut state)) = (id, self.state()) else { return Ok(false) };
        match state.session.received().arrive(id, self.shared.limits.receive_maximum) {
            Arrival::New => Ok(true),
            Arrival::Duplicate => Ok(false),
            Arrival::Exceeded => {
                count_one(&self.shared.counts.receive_maximum_exceeded);
                let text = "MQTT-3.3.4-7: more than Receive Maximum messages are open";
                Err(Fault::Refused(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, text).into())
            }
        }
    }

    fn acknowledged(&mut self, kind: AckKind, Ack { packet_id, reason }: Ack) -> Result<(), End> {
        let Some(mut state) = self.state() else { return Ok(()) };
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
                self.connection.release(packet_id, true, &mut self.out);
                Ok(())
            }
            (AckKind::PubRec, Acknowledged::Unknown) if !reason.is_error() => {
                self.connection.release(packet_id, false, &mut self.out);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn leave(&mut self, departure: Departure, session_expiry_secs: Option<u32>) -> Result<(), End> {
        if let Some(secs) = session_expiry_secs {
            let secs = secs.min(self.shared.limits.session_expiry_secs_max);
            let allowed = self.state().is_none_or(|mut state| state.session.set_expiry_secs(secs));
            if !allowed {
                let text = "section 3.14.2.2.2: a Session Expiry Interval of 0 cannot be changed";
                return Err(Fault::Protocol(text).into());
            }
        }
        Err(End::Left(departure))
    }

    // ---- The end ---------------------------------------------------------------------------------

    /// Leaves the Session and begins to close the stream.
    fn end(&mut self, end: End, now: Timestamp) {
        let departure = match end {
            End::Left(departure) => departure,
            End::Fault(_) | End::Broken => Departure::Lost,
        };
        let mut last = self.leave_session(departure, now).unwrap_or_default();
        match end {
            End::Fault(fault) => {
                self.log_fault(fault);
                self.count_fault(fault);
                last.buffer().append(&mut self.out);
                self.connection.refuse(fault, last.buffer());
                self.phase = Phase::Closing(Box::new(Closing::new(last, now)));
            }
            End::Left(_) => {
                last.buffer().append(&mut self.out);
                self.phase = Phase::Closing(Box::new(Closing::after_disconnect(last, now)));
            }
            End::Broken => self.phase = Phase::Closing(Box::new(Closing::broken())),
        }
    }

    fn leave_session(&mut self, departure: Departure, now: Timestamp) -> Option<Outgoing> {
        self.incoming.release(&self.shared.counts.unauthenticated_bytes);
        let held = self.session.take()?;
        self.shared.counts.connections.fetch_sub(1, Ordering::AcqRel);
        self.routes = RouteCache::default();
        self.shared.close(&held.slot, held.epoch, departure, now)
    }

    fn log_fault(&self, fault: Fault) {
        if log_enabled!(target: PROTOCOL_LOG, log::Level::Debug) {
            debug!(target: PROTOCOL_LOG, "{} is disconnected: {fault}", self.peer);
        }
    }

    fn count_fault(&self, fault: Fault) {
        let counts = &self.shared.counts;
        match fault {
            Fault::Malformed(_) => count_one(&counts.malformed_packets),
            Fault::Protocol(_) => count_one(&counts.protocol_errors),
            Fault::Refused(ReasonCode::PACKET_TOO_LARGE, _) => count_one(&counts.packets_too_large),
            Fault::Refused(..) | Fault::Server(..) => {}
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.mailbox.register(cx.waker());
        let mut scratch = Scratch::borrow();
        let turn = this.turn(cx, &mut scratch);
        scratch.give_back();
        match turn {
            Turn::Done => Poll::Ready(()),
            Turn::Sleep => Poll::Pending,
            Turn::Yield => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Drop for Driver {
    /// A task that is dropped in the middle leaves its Session as if the network had failed.
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        self.leave_session(Departure::Lost, now);
    }
}
