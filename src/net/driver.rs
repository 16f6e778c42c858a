//! The turns of one Network Connection's task: order, write, read, and when nothing came, the time.
//!
//! A deadline strikes only after a read in the same turn has found nothing: what arrived while this process, or
//! this machine, was stopped counts as heard. Finished work goes before new work, so that no peer can make a
//! connection grow by talking to it. Nothing here waits for another connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::closing::Closing;
use super::peer_stream::PeerStream;
use super::rates::{ClientRates, Reading};
use super::read_buffer::{Read, ReadBuffer};
use super::turn_buffers::TurnBuffers;
use crate::budget::Budget;
use crate::counters::count_one;
use crate::engine::dispatch::{Dispatch, End, Turn};
use crate::engine::outbox::{Writer, Written, write_batch};
use crate::engine::session_cell::Link;
use crate::engine::state::Engine;
use crate::engine::timers::{Mailbox, Order};
use crate::error::Fault;
use crate::events::DisconnectCause;
use crate::limits::Limits;
use crate::packet::ReasonCode;
use crate::packet::frame::Frame;
use crate::packet::kind::PacketCounts;
use crate::time::Timestamp;
use crate::traffic::Moved;
use crate::transport::{ByteStream, PeerInfo};

/// Rounds of write and read before other tasks have their turn.
const ROUNDS_PER_TURN: usize = 4;

/// A publisher that has sent nothing for so long forgets its routes, in milliseconds.
const ROUTES_IDLE_MILLIS: u64 = 60_000;

/// The fixed header's first byte of PINGREQ (section 3.12.1).
const PINGREQ: u8 = 0xC0;

/// The packet type of PUBLISH (section 2.1.2).
const PUBLISH: u8 = 3;

/// The end of a Network Connection whose task was dropped in the middle: it panicked, or its executor has ended.
const TASK_ENDED: DisconnectCause =
    DisconnectCause::ByServer(ReasonCode::UNSPECIFIED_ERROR, "the task of the connection ended");

/// The steps that taking one packet costs beside its bytes.
const PACKET_STEPS: usize = 1;

/// A peer's entry in the books of its listener. Its drop, at the end of the Network Connection, removes the entry.
pub(crate) trait Admission: Send {
    /// Before CONNECT is accepted, the broker waits for the peer, whose mailbox this is, since `now` or before.
    fn peers_turn(&mut self, now: Timestamp, mailbox: &Arc<Mailbox>);
    /// Before CONNECT is accepted, the peer waits for the broker.
    fn brokers_turn(&mut self);
    /// CONNECT was accepted: the peer no longer counts towards `handshakes_max`.
    fn connected(&mut self);
}

/// One Network Connection's task.
pub(crate) struct Driver {
    /// Before the stream, so that the inline writer is dropped first and the stream closes the socket.
    dispatch: Dispatch,
    stream: PeerStream,
    admission: Box<dyn Admission>,
    incoming: ReadBuffer,
    phase: Phase,
    /// The deadline of CONNECT; never once it is accepted.
    connect_by: Timestamp,
    /// When the last bytes came.
    last_heard_at: Timestamp,
    /// Since when the peer has taken no byte of a write.
    stalled_since: Option<Timestamp>,
    /// Reading is paused, because the peer does not take the answers to its packets.
    paused: bool,
    /// What the Client may send in a second; `None` without a limit.
    rates: Option<Box<ClientRates>>,
    /// This task yields before it continues.
    yields: bool,
    /// The peer has ended the stream while its CONNECT is decided.
    half_closed: bool,
}

/// The phase of a Network Connection.
enum Phase {
    Open,
    /// The broker stops: waiting bytes are written, nothing is read.
    Draining,
    Closing(Box<Closing>),
}

/// Why a turn ends.
enum TurnEnd {
    /// Nothing to do until the task is woken.
    Sleep,
    /// There is more to do; other tasks run first.
    Yield,
    /// The Network Connection is over.
    Done,
}

impl Driver {
    pub(crate) fn new(
        engine: Arc<Engine>,
        stream: ByteStream,
        peer: PeerInfo,
        mailbox: Arc<Mailbox>,
        admission: Box<dyn Admission>,
    ) -> Driver {
        let now = engine.now();
        let (stream, inline) = PeerStream::new(stream, &mailbox);
        let dispatch = Dispatch::new(engine, peer, Link { mailbox, inline: Some(inline) });
        let limits = dispatch.connection.limits();
        Driver {
            connect_by: now.plus(limits.connect_timeout),
            rates: ClientRates::new(limits, now),
            dispatch,
            stream,
            admission,
            incoming: ReadBuffer::default(),
            phase: Phase::Open,
            last_heard_at: now,
            stalled_since: None,
            paused: false,
            yields: false,
            half_closed: false,
        }
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.dispatch.engine
    }

    /// The limits that this Network Connection began with.
    fn limits(&self) -> &Limits {
        self.dispatch.connection.limits()
    }

    fn turn(&mut self, cx: &mut Context<'_>, buffers: &mut TurnBuffers) -> TurnEnd {
        let mut budget = Budget::of_a_turn();
        for _ in 0..ROUNDS_PER_TURN {
            let now = self.engine().now();
            if let Phase::Closing(closing) = &mut self.phase {
                if self.dispatch.link.mailbox.ordered() == Some(Order::Displaced) {
                    return TurnEnd::Done;
                }
                let traffic = &self.dispatch.engine.traffic;
                return match closing.poll(cx, &mut self.stream, &mut buffers.read, traffic, now) {
                    Poll::Ready(()) => TurnEnd::Done,
                    Poll::Pending => self.sleep(now),
                };
            }
            match self.round(cx, buffers, &mut budget, now) {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) if !self.yields => return self.sleep(now),
                Ok(Poll::Pending) => {}
                Err(end) => self.end(end, now),
            }
            if std::mem::take(&mut self.yields) || budget.is_spent() {
                return TurnEnd::Yield;
            }
        }
        TurnEnd::Yield
    }

    /// Continues parked work, writes, reads, and compares deadlines with the time if the read found nothing. Ready:
    /// the round did work.
    fn round(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut TurnBuffers,
        budget: &mut Budget,
        now: Timestamp,
    ) -> Result<Poll<()>, End> {
        self.obey()?;
        self.dispatch.check_identity(now)?;
        self.dispatch.authenticate(cx, now)?;
        self.welcome();
        self.dispatch.fetch(cx, now);
        if self.dispatch.is_parked() {
            let TurnBuffers { batch, out, .. } = &mut *buffers;
            self.dispatch.resume(&mut Turn { batch, out, budget, now, payload_bytes: 0 })?;
        }
        self.write(cx, buffers, budget, now)?;
        // Parked work continues in the next turn, unless it waits for the access policy.
        let parked = self.dispatch.is_parked();
        self.yields |= parked && !self.waits_for_the_policy();
        if matches!(self.phase, Phase::Draining) {
            self.check_stall(now)?;
            return self.drained().map_or(Ok(Poll::Pending), Err);
        }
        if parked {
            self.check_stall(now)?;
            return self.watch_peer(cx, buffers, now);
        }
        if self.waits_for_answers_to_be_taken(now) {
            self.check_stall(now)?;
            self.yields |= budget.is_spent();
            return Ok(Poll::Pending);
        }
        if budget.is_spent() {
            self.yields = true;
            return Ok(Poll::Pending);
        }
        if self.waits_for_its_rate(now) {
            self.check_stall(now)?;
            return Ok(Poll::Pending);
        }
        let read = self.read(cx, buffers);
        match read {
            Poll::Pending => {
                self.check_time(now)?;
                Ok(Poll::Pending)
            }
            Poll::Ready(Err(error)) => Err(End::Io("the stream cannot be read", error.kind())),
            Poll::Ready(Ok(Read::End)) => Err(End::Ended("the peer ended the stream")),
            Poll::Ready(Ok(Read::Packet(packet))) => {
                self.last_heard_at = now;
                self.take(&packet, Some(&packet), buffers, budget, now)?;
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Ok(Read::Bytes(len))) => {
                self.last_heard_at = now;
                let bytes = std::mem::take(&mut buffers.read);
                let read = bytes.get(..len).unwrap_or_default();
                let taken = self.take(read, None, buffers, budget, now);
                buffers.read = bytes;
                taken.map(Poll::Ready)
            }
        }
    }

    /// Whether a CONNECT waits for its decision, or another packet for answers that the policy fetches for it.
    fn waits_for_the_policy(&self) -> bool {
        self.dispatch.is_undecided() || self.dispatch.is_fetching()
    }

    /// Sets the time at which the task is woken at the latest.
    fn sleep(&mut self, now: Timestamp) -> TurnEnd {
        if self.connect_by != Timestamp::NEVER {
            if self.waits_for_the_policy() {
                self.admission.brokers_turn();
            } else {
                self.admission.peers_turn(now, &self.dispatch.link.mailbox);
            }
        }
        let at = match &self.phase {
            Phase::Closing(closing) => closing.deadline(),
            Phase::Open | Phase::Draining => self.deadline(),
        };
        // A deadline that has passed was looked at with an older `now`: once more, soon.
        let at = at.max(Timestamp(now.0 + 1));
        self.engine().wheel.schedule_connection(at, now, &self.dispatch.link.mailbox);
        TurnEnd::Sleep
    }

    // ---- Orders and time -------------------------------------------------------------------------

    fn obey(&mut self) -> Result<(), End> {
        if let Some(end) = self.dispatch.ordered_end() {
            return Err(end);
        }
        match self.dispatch.link.mailbox.ordered() {
            None => Ok(()),
            Some(Order::ListenerRules | Order::Displaced) => self.dispatch.obey_rules_of_listener(),
            Some(_) => {
                self.phase = Phase::Draining;
                Ok(())
            }
        }
    }

    /// While the broker stops: the end, when nothing more can be written.
    fn drained(&self) -> Option<End> {
        let more = self.dispatch.is_parked()
            || self.dispatch.state().is_some_and(|state| state.session.has_more());
        (!more).then(|| End::Fault(Order::ShuttingDown.fault()))
    }

    fn deadline(&self) -> Timestamp {
        let stall = self.stall_deadline().min(self.dispatch.authentication_deadline());
        let stall = stall.min(self.dispatch.fetching_deadline());
        if self.waits_for_the_policy() || self.paused {
            return stall; // while reading is paused, only the write may time out
        }
        if let Some(until) = self.slowed_until() {
            return stall.min(until);
        }
        stall
            .min(self.connect_by)
            .min(self.keep_alive_deadline())
            .min(self.idle_deadline())
            .min(self.incoming.deadline())
    }

    /// Any byte counts as a sign of life: a packet that takes long to arrive has its own deadline.
    fn keep_alive_deadline(&self) -> Timestamp {
        self.dispatch.connection.keep_alive_deadline(self.last_heard_at)
    }

    /// When routes are forgotten.
    fn idle_deadline(&self) -> Timestamp {
        if self.dispatch.has_routes() {
            Timestamp(self.last_heard_at.0 + ROUTES_IDLE_MILLIS)
        } else {
            Timestamp::NEVER
        }
    }

    /// When a write has stalled for too long. A peer that still sends is alive, and the bytes that wait for it are
    /// bounded by other limits.
    fn stall_deadline(&self) -> Timestamp {
        match self.stalled_since {
            None => Timestamp::NEVER,
            Some(since) => since.max(self.last_heard_at).plus(self.limits().write_stall_timeout),
        }
    }

    /// Called after a read that found nothing.
    fn check_time(&mut self, now: Timestamp) -> Result<(), End> {
        if now < self.deadline() {
            return Ok(());
        }
        if self.waits_for_the_policy() {
            return self.check_stall(now);
        }
        if self.idle_deadline() <= now {
            self.dispatch.forget_routes();
        }
        let counts = &self.engine().counts;
        if self.connect_by <= now {
            count_one(&counts.connects_timed_out);
            let detail = "connect_timeout: no CONNECT arrived in time";
            return Err(End::Cut(ReasonCode::UNSPECIFIED_ERROR, detail));
        }
        if self.incoming.deadline() <= now {
            count_one(&counts.packets_timed_out);
            let text = "packet_timeout: the rest of a packet did not arrive in time";
            return Err(End::Fault(Fault::Server(ReasonCode::UNSPECIFIED_ERROR, text)));
        }
        if self.keep_alive_deadline() <= now {
            count_one(&counts.keep_alives_timed_out);
            let text = "MQTT-3.1.2-22: no packet within one and a half times the Keep Alive";
            return Err(End::Fault(Fault::Server(ReasonCode::KEEP_ALIVE_TIMEOUT, text)));
        }
        self.check_stall(now)
    }

    /// Called after a write was tried, and after a read that found nothing, or without a read while reading is paused.
    fn check_stall(&self, now: Timestamp) -> Result<(), End> {
        if now < self.stall_deadline() {
            return Ok(());
        }
        count_one(&self.engine().counts.writes_stalled);
        let detail = "write_stall_timeout: the peer does not read";
        Err(End::Cut(ReasonCode::UNSPECIFIED_ERROR, detail))
    }

    /// Whether reading pauses because the peer does not take its answers. Application Messages that wait for it are
    /// bounded by its queue, and do not pause reading.
    fn waits_for_answers_to_be_taken(&mut self, now: Timestamp) -> bool {
        let unsent = match self.stalled_since {
            None => 0, // many unsent bytes exist only while the stream takes none
            Some(_) => {
                let tail = self.dispatch.state().map(|state| state.session.tail_answer_bytes());
                tail.unwrap_or_default() + self.dispatch.answers.len()
            }
        };
        let waits = unsent > self.limits().answer_bytes_max;
        if waits && !self.paused {
            count_one(&self.engine().counts.reads_paused);
        }
        if self.paused && !waits {
            self.reading_goes_on(now);
        }
        self.paused = waits;
        waits
    }

    /// Whether reading pauses because the Client has sent as much as it may in this time. Before CONNECT other limits
    /// hold.
    fn waits_for_its_rate(&mut self, now: Timestamp) -> bool {
        let Some(rates) = &mut self.rates else { return false };
        if !self.dispatch.connection.is_connected() {
            return false;
        }
        match rates.look(now) {
            Reading::Goes => false,
            Reading::Waits => true,
            Reading::Stops => {
                count_one(&self.engine().counts.readers_slowed);
                true
            }
            Reading::GoesOn => {
                self.reading_goes_on(now);
                false
            }
        }
    }

    /// Until when nothing is read, because the Client has sent as much as it may.
    fn slowed_until(&self) -> Option<Timestamp> {
        let open = matches!(self.phase, Phase::Open);
        self.rates.as_ref().filter(|_| open)?.until()
    }

    /// Nothing was read for a while: the silence was not the Client's.
    fn reading_goes_on(&mut self, now: Timestamp) {
        self.last_heard_at = now;
        let timeout = self.limits().packet_timeout;
        self.incoming.restart_deadline(now, timeout);
    }

    // ---- Writing ---------------------------------------------------------------------------------

    /// Writes waiting bytes until the stream takes no more, or the turn is over.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut TurnBuffers,
        budget: &mut Budget,
        now: Timestamp,
    ) -> Result<(), End> {
        let Some(held) = self.dispatch.session() else { return self.write_auth(cx, now) };
        let (cell, writer) = (held.cell.clone(), Writer::Owner(held.epoch));
        let engine = self.engine().clone();
        loop {
            let mut sending = engine.sending(&cell, budget);
            let (out, answers) = (&mut buffers.out, &mut self.dispatch.answers);
            let stream = &mut self.stream;
            match write_batch(&cell, writer, now, out, answers, &mut sending, |out| {
                out.with_slices(|slices| stream.with(|io| io.poll_write_vectored(cx, slices)))
            }) {
                Written::Nothing => break,
                // A search in the retained messages continues after other tasks had a turn.
                Written::Paused => {
                    self.yields = true;
                    break;
                }
                Written::Some { more } => {
                    self.stalled_since = None;
                    if !more {
                        break;
                    }
                    if budget.is_spent() {
                        self.yields = true;
                        break;
                    }
                }
                Written::Blocked => {
                    self.stalled_since.get_or_insert(now);
                    return Ok(());
                }
                Written::Broken(error) => return Err(cannot_write(&error)),
            }
        }
        self.flush_stream(cx, now)
    }

    /// Writes AUTH packets before there is a Session.
    fn write_auth(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Result<(), End> {
        if self.dispatch.answers.is_empty() && self.stalled_since.is_none() {
            return Ok(());
        }
        while !self.dispatch.answers.is_empty() {
            let slices = [io::IoSlice::new(&self.dispatch.answers)];
            match self.stream.with(|io| io.poll_write_vectored(cx, &slices)) {
                Poll::Ready(Ok(0)) => return Err(cannot_write(&io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.count_bytes(0, written);
                    self.dispatch.answers.drain(..written);
                    self.stalled_since = None;
                }
                Poll::Ready(Err(error)) => return Err(cannot_write(&error)),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return Ok(());
                }
            }
        }
        self.flush_stream(cx, now)
    }

    fn flush_stream(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Result<(), End> {
        match self.stream.with(|io| io.poll_flush(cx)) {
            Poll::Ready(Err(error)) => Err(cannot_write(&error)),
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

    /// Reads what has arrived, as far as the Client's rate allows.
    fn read(&mut self, cx: &mut Context<'_>, buffers: &mut TurnBuffers) -> Poll<io::Result<Read>> {
        let unauthenticated = !self.dispatch.connection.is_connected();
        let mut rates = self.rates.as_mut().filter(|_| !unauthenticated);
        let room = rates.as_ref().map_or(usize::MAX, |rates| rates.room());
        let (stream, buffer) = (&mut self.stream, &mut buffers.read);
        let read = self.incoming.read(cx, stream, buffer, unauthenticated, room);
        if let Some(rates) = &mut rates {
            rates.read(self.incoming.arrived());
        }
        read
    }

    /// Whether the peer is still there while its CONNECT is decided: one that has gone must not keep its place among
    /// those that wait for a decision. What it sent behind CONNECT before it ended the stream is still taken.
    fn watch_peer(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut TurnBuffers,
        now: Timestamp,
    ) -> Result<Poll<()>, End> {
        if !self.dispatch.is_deciding() || self.half_closed {
            return Ok(Poll::Pending);
        }
        match self.incoming.read_ahead(cx, &mut self.stream, &mut buffers.read) {
            None | Some(Poll::Pending) => Ok(Poll::Pending),
            Some(Poll::Ready(Err(error))) => {
                Err(End::Io("the stream cannot be read", error.kind()))
            }
            Some(Poll::Ready(Ok(0))) if self.incoming.is_empty() => {
                Err(End::Ended("the peer ended the stream before its CONNECT was decided"))
            }
            Some(Poll::Ready(Ok(0))) => {
                self.half_closed = true;
                Ok(Poll::Pending)
            }
            Some(Poll::Ready(Ok(read))) => {
                self.last_heard_at = now;
                self.count_bytes(read, 0);
                self.account()?;
                Ok(Poll::Ready(()))
            }
        }
    }

    /// Takes whole packets out of `bytes`, as many as the turn allows, and keeps the rest for later. `frozen` is
    /// `bytes` if that is one packet with its own buffer.
    fn take(
        &mut self,
        bytes: &[u8],
        frozen: Option<&Bytes>,
        buffers: &mut TurnBuffers,
        budget: &mut Budget,
        now: Timestamp,
    ) -> Result<(), End> {
        let TurnBuffers { batch, out, .. } = &mut *buffers;
        batch.begin(&self.dispatch.engine);
        let mut turn = Turn { batch, out, budget, now, payload_bytes: 0 };
        let (mut rest, mut packets) = (bytes, PacketCounts::default());
        let outcome = loop {
            let frame = match self.dispatch.connection.next_frame(rest) {
                Ok(frame) => frame,
                Err(fault) => break Err(End::Fault(fault)),
            };
            let Frame::Whole { header, body, taken } = frame else {
                break self.keep(rest, &frame, now);
            };
            if header >> 4 == PUBLISH && !self.may_take_message() {
                // The round that follows finds that it has to wait.
                self.incoming.keep_whole(rest);
                break self.account();
            }
            if header == PINGREQ && !turn.batch.is_empty() {
                // PINGRESP follows the messages of the Client's own that it published before.
                self.incoming.keep_whole(rest);
                break Ok(());
            }
            self.incoming.finished();
            packets.add(header, 1);
            turn.budget.spend(PACKET_STEPS);
            turn.budget.spend_bytes(body.len());
            if let Err(end) = self.dispatch.packet(header, body, frozen, &mut turn) {
                break Err(end);
            }
            rest = rest.get(taken..).unwrap_or_default();
            if self.dispatch.is_pressed(&turn) {
                self.yields |= self.dispatch.flush(&mut turn);
            }
            if self.yields || self.dispatch.is_parked() || turn.budget.is_spent() {
                break self.keep_whole(rest);
            }
        };
        let (bytes, payload_bytes) = (self.incoming.arrived() as u64, turn.payload_bytes);
        self.dispatch.flush(&mut turn);
        self.dispatch.engine.traffic.received(&Moved { packets, payload_bytes, bytes });
        self.welcome();
        outcome
    }

    /// Counts bytes that are read or written beside the ordinary ways.
    fn count_bytes(&self, read: usize, written: usize) {
        let bytes = |bytes| Moved { bytes: bytes as u64, ..Moved::default() };
        self.engine().traffic.received(&bytes(read));
        self.engine().traffic.sent(&bytes(written));
    }

    /// Whether the Client may send one more message in this time. One that may not waits, and nothing behind it is
    /// taken.
    fn may_take_message(&mut self) -> bool {
        self.rates.as_mut().is_none_or(|rates| rates.takes_message())
    }

    /// CONNECT was accepted: the peer no longer counts towards the limits on peers without CONNECT.
    fn welcome(&mut self) {
        if self.connect_by != Timestamp::NEVER && self.dispatch.connection.is_connected() {
            self.connect_by = Timestamp::NEVER;
            self.incoming.release(&self.dispatch.engine.counts.unauthenticated_bytes);
            self.admission.connected();
        }
    }

    /// Keeps the beginning of a packet.
    fn keep(&mut self, rest: &[u8], frame: &Frame<'_>, now: Timestamp) -> Result<(), End> {
        let Frame::Partial { total } = *frame else { return Ok(()) };
        let timeout = self.limits().packet_timeout;
        self.incoming.keep(rest, total, now, timeout);
        self.account()
    }

    /// Keeps packets that are to be taken in a later turn.
    fn keep_whole(&mut self, rest: &[u8]) -> Result<(), End> {
        self.yields |= !self.waits_for_the_policy() || !self.dispatch.is_parked();
        self.incoming.keep_whole(rest);
        self.account()
    }

    /// Counts the kept bytes of a peer without CONNECT towards `unauthenticated_bytes_max`.
    fn account(&mut self) -> Result<(), End> {
        if self.dispatch.connection.is_connected() {
            return Ok(());
        }
        let engine = &self.dispatch.engine;
        let (counts, max) =
            (&engine.counts, self.dispatch.connection.limits().unauthenticated_bytes_max);
        if !self.incoming.account(&counts.unauthenticated_bytes, max) {
            count_one(&counts.unauthenticated_bytes_refused);
            return Err(End::Cut(
                ReasonCode::QUOTA_EXCEEDED,
                "unauthenticated_bytes_max is reached",
            ));
        }
        Ok(())
    }

    // ---- The end ---------------------------------------------------------------------------------

    /// Leaves the Session and begins to close the stream.
    fn end(&mut self, end: End, now: Timestamp) {
        self.incoming.release(&self.dispatch.engine.counts.unauthenticated_bytes);
        let last = self.dispatch.end(end, now);
        self.phase = Phase::Closing(Box::new(match end {
            End::Fault(_) => Closing::new(last, now),
            End::Left(_) => Closing::after_disconnect(last, now),
            End::Ended(_) | End::Cut(..) | End::Io(..) => Closing::broken(),
        }));
    }
}

fn cannot_write(error: &io::Error) -> End {
    End::Io("the stream cannot be written", error.kind())
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.dispatch.link.mailbox.register(cx.waker());
        let mut buffers = TurnBuffers::borrow();
        let end = this.turn(cx, &mut buffers);
        buffers.give_back();
        match end {
            TurnEnd::Done => Poll::Ready(()),
            TurnEnd::Sleep => Poll::Pending,
            TurnEnd::Yield => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Drop for Driver {
    /// A task that is dropped in the middle leaves its Session as if the network had failed.
    fn drop(&mut self) {
        let now = self.engine().now();
        self.incoming.release(&self.dispatch.engine.counts.unauthenticated_bytes);
        self.dispatch.leave_session(TASK_ENDED, now);
    }
}

#[cfg(test)]
mod tests;
