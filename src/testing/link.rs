//! One connection between a client and a broker, in memory: two directions whose bytes take time, and the faults on
//! the way.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::executor::{Executor, State, TimerKey};
use super::faults::{Direction, Fault, Faults, Operation};
use super::trace::Action;
use crate::sync::lock;

/// A handle of a connection, by which a test orders faults while client and broker use the connection. Clones refer to
/// the same connection.
#[derive(Clone)]
pub struct Link {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    /// Itself, for what is to happen later.
    this: Weak<Shared>,
    executor: Arc<Executor>,
    number: u64,
    inner: Mutex<Inner>,
}

struct Inner {
    faults: Faults,
    lanes: [Lane; 2],
    calls: [u64; Operation::ALL.len()],
    /// Both ends know of no more than an error.
    cut: bool,
}

/// One direction.
#[derive(Default)]
struct Lane {
    under_way: VecDeque<(Duration, Vec<u8>)>,
    arrived: VecDeque<u8>,
    /// Bytes in both.
    held: usize,
    /// Bytes written since the beginning.
    written: u64,
    /// When the last of them arrive.
    last_arrival: Duration,
    /// When the reader finds the end.
    ended: Option<Duration>,
    /// The reader is gone.
    abandoned: bool,
    stalled: bool,
    /// The connection was cut behind these bytes: an error follows them.
    torn: bool,
    reader: Option<Waker>,
    reader_timer: Option<TimerKey>,
    writer: Option<Waker>,
}

/// What an operation is to do before it does anything else.
enum Gate {
    Open,
    Hesitate,
    Fail(ErrorKind),
    Panic,
}

impl Link {
    pub(super) fn new(executor: &Arc<Executor>, mut faults: Faults) -> Link {
        let number = executor.lock().next_link();
        let once = std::mem::take(&mut faults.once);
        faults.capacity = faults.capacity.max(1);
        let shared = Arc::new_cyclic(|this| Shared {
            this: this.clone(),
            executor: executor.clone(),
            number,
            inner: Mutex::new(Inner {
                faults,
                lanes: [Lane::default(), Lane::default()],
                calls: [0; Operation::ALL.len()],
                cut: false,
            }),
        });
        let link = Link { shared };
        once.into_iter().for_each(|fault| link.order(fault));
        link
    }

    /// The number of the connection, from 1 in the order of dialling: [`Event::link`](super::Event::link).
    #[must_use]
    pub fn number(&self) -> u64 {
        self.shared.number
    }

    /// Orders a further fault. Calls and bytes count from the beginning of the connection; a fault whose count has
    /// already passed happens at the next opportunity.
    pub fn order(&self, fault: Fault) {
        if let Fault::CutAfter(after) = fault {
            let mut state = self.shared.executor.lock();
            let at = state.now.saturating_add(after);
            state.add_timer(at, Waker::from(Arc::new(CutLater(self.shared.this.clone()))));
            return;
        }
        lock(&self.shared.inner).faults.once.push(fault);
    }

    /// Ends the connection now: bytes under way are lost, and both ends get [`ErrorKind::ConnectionReset`].
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Whether the connection was cut, by [`Link::cut`] or by a fault.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        let inner = lock(&self.shared.inner);
        inner.cut || inner.lanes.iter().any(|lane| lane.torn)
    }

    /// Lets nothing arrive in this direction until [`Link::resume`]. A stall in both directions is like a peer that
    /// has vanished.
    pub fn stall(&self, direction: Direction) {
        let mut inner = lock(&self.shared.inner);
        inner.lanes[direction.index()].stalled = true;
        self.shared.executor.lock().note(self.shared.number, Action::Stalled(direction));
    }

    /// Ends a stall of this direction: bytes under way arrive.
    pub fn resume(&self, direction: Direction) {
        self.shared.resume(direction);
    }

    /// Bytes that were written in this direction since the beginning.
    #[must_use]
    pub fn written(&self, direction: Direction) -> u64 {
        lock(&self.shared.inner).lanes[direction.index()].written
    }

    /// Bytes that were written in this direction and not read yet.
    #[must_use]
    pub fn held(&self, direction: Direction) -> usize {
        lock(&self.shared.inner).lanes[direction.index()].held
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("number", &self.shared.number).finish_non_exhaustive()
    }
}

/// Cuts a link when it is woken.
struct CutLater(Weak<Shared>);

impl Wake for CutLater {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.cut();
        }
    }
}

/// Ends the stall of a direction when it is woken.
struct ResumeLater(Weak<Shared>, Direction);

impl Wake for ResumeLater {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.resume(self.1);
        }
    }
}

impl Shared {
    pub(super) fn is_inline(&self) -> bool {
        lock(&self.inner).faults.inline
    }

    fn cut(&self) {
        let wakers = {
            let mut inner = lock(&self.inner);
            if std::mem::replace(&mut inner.cut, true) {
                return;
            }
            self.executor.lock().note(self.number, Action::Cut);
            inner.lanes.iter_mut().for_each(Lane::discard);
            inner.wakers()
        };
        wake_all(wakers);
    }

    fn resume(&self, direction: Direction) {
        let reader = {
            let mut inner = lock(&self.inner);
            let lane = &mut inner.lanes[direction.index()];
            if !std::mem::replace(&mut lane.stalled, false) {
                return;
            }
            self.executor.lock().note(self.number, Action::Resumed(direction));
            lane.reader.take()
        };
        wake_all(reader);
    }

    /// Asks what an operation of the broker's end is to do.
    ///
    /// # Panics
    /// As it was ordered.
    pub(super) fn pass(
        &self,
        operation: Operation,
        cx: Option<&Context<'_>>,
    ) -> Poll<io::Result<()>> {
        let gate = {
            let mut inner = lock(&self.inner);
            let mut state = self.executor.lock();
            let gate = inner.gate(operation, &mut state);
            match gate {
                Gate::Panic => state.note(self.number, Action::Panicked(operation)),
                Gate::Fail(_) => state.note(self.number, Action::Failed(operation)),
                Gate::Open | Gate::Hesitate => {}
            }
            gate
        };
        match gate {
            Gate::Open => Poll::Ready(Ok(())),
            Gate::Hesitate => {
                if let Some(cx) = cx {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Gate::Fail(kind) => Poll::Ready(Err(kind.into())),
            // Without the panic hook: an ordered panic is no news on standard error.
            Gate::Panic => std::panic::resume_unwind(Box::new("a panic that was ordered")),
        }
    }

    pub(super) fn poll_read(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (read, writer) = {
            let mut inner = lock(&self.inner);
            let mut state = self.executor.lock();
            let Inner { faults, lanes, cut, .. } = &mut *inner;
            let lane = &mut lanes[direction.index()];
            if let Some(stale) = lane.reader_timer.take() {
                state.remove_timer(stale);
            }
            lane.arrive(state.now);
            let read = lane.read(buf, faults.read_max, *cut, &mut state);
            match read {
                None => {
                    lane.reader = Some(cx.waker().clone());
                    let later = lane.next_arrival().filter(|_| !lane.stalled);
                    lane.reader_timer = later.map(|at| state.add_timer(at, cx.waker().clone()));
                    return Poll::Pending;
                }
                Some(Ok(len)) if len > 0 => state.note(self.number, Action::Read(direction, len)),
                Some(_) => {}
            }
            (read.unwrap_or(Ok(0)), lane.writer.take())
        };
        wake_all(writer);
        Poll::Ready(read)
    }

    /// Takes the bytes that it has room for. `None` without room; then `cx` is woken when there is room.
    pub(super) fn write(
        &self,
        direction: Direction,
        cx: Option<&Context<'_>>,
        bufs: &[IoSlice<'_>],
    ) -> Option<io::Result<usize>> {
        let (written, wakers) = {
            let mut inner = lock(&self.inner);
            let mut state = self.executor.lock();
            let Inner { faults, lanes, cut, .. } = &mut *inner;
            let lane = &mut lanes[direction.index()];
            if *cut || lane.torn {
                return Some(Err(ErrorKind::ConnectionReset.into()));
            }
            if lane.abandoned || lane.ended.is_some() {
                return Some(Err(ErrorKind::BrokenPipe.into()));
            }
            let offered: usize = bufs.iter().map(|buf| buf.len()).sum();
            if offered == 0 {
                return Some(Ok(0));
            }
            let room = faults.capacity.saturating_sub(lane.held);
            if room == 0 {
                if let Some(cx) = cx {
                    lane.writer = Some(cx.waker().clone());
                }
                return None;
            }
            let most = draw_up_to(faults.write_max, offered.min(room), &mut state);
            let arrives = state.now + faults.delay + state.dice.up_to(faults.jitter);
            let written = lane.take_in(bufs, most, arrives);
            state.note(self.number, Action::Wrote(direction, written.clone()));
            inner.planned_at_a_byte(direction, self, &mut state);
            let len = written.len();
            let mut wakers = Vec::new();
            let lane = &mut inner.lanes[direction.index()];
            wakers.extend(lane.reader.take());
            if lane.torn {
                let back = &mut inner.lanes[direction.other().index()];
                back.torn = true;
                back.discard();
                wakers.extend(inner.wakers());
            }
            (Ok(len), wakers)
        };
        wake_all(wakers);
        Some(written)
    }

    /// Nothing more is written in this direction.
    pub(super) fn end(&self, direction: Direction) {
        let reader = {
            let mut inner = lock(&self.inner);
            let mut state = self.executor.lock();
            let Inner { faults, lanes, cut, .. } = &mut *inner;
            let lane = &mut lanes[direction.index()];
            if lane.ended.is_some() || lane.torn || *cut {
                return;
            }
            let arrives = state.now + faults.delay;
            lane.ended = Some(arrives.max(lane.last_arrival));
            state.note(self.number, Action::Ended(direction));
            lane.reader.take()
        };
        wake_all(reader);
    }

    /// Nothing more is read in this direction.
    pub(super) fn abandon(&self, direction: Direction) {
        let writer = {
            let mut inner = lock(&self.inner);
            let lane = &mut inner.lanes[direction.index()];
            lane.abandoned = true;
            lane.discard();
            if let Some(timer) = lane.reader_timer.take() {
                self.executor.lock().remove_timer(timer);
            }
            lane.writer.take()
        };
        wake_all(writer);
    }
}

impl Inner {
    fn gate(&mut self, operation: Operation, state: &mut State) -> Gate {
        let call = self.calls[operation as usize];
        self.calls[operation as usize] += 1;
        let ordered = self.faults.once.iter().position(|fault| match fault {
            Fault::Panic { operation: which, calls }
            | Fault::Error { operation: which, calls, .. } => *which == operation && *calls <= call,
            _ => false,
        });
        match ordered.map(|place| self.faults.once.remove(place)) {
            Some(Fault::Error { kind, .. }) => Gate::Fail(kind),
            Some(_) => Gate::Panic,
            None => {
                let hesitates =
                    matches!(operation, Operation::Read | Operation::Write | Operation::Flush)
                        && state.dice.one_in(self.faults.hesitation);
                if hesitates { Gate::Hesitate } else { Gate::Open }
            }
        }
    }

    /// Does what was ordered for a number of bytes that has been written now.
    fn planned_at_a_byte(&mut self, which: Direction, shared: &Shared, state: &mut State) {
        let lane = &mut self.lanes[which.index()];
        let due = |fault: &mut Fault| match fault {
            Fault::CutBehind { direction, bytes } | Fault::StallBehind { direction, bytes, .. } => {
                *direction == which && *bytes <= lane.written
            }
            _ => false,
        };
        for fault in self.faults.once.extract_if(.., due).collect::<Vec<_>>() {
            match fault {
                Fault::CutBehind { bytes, .. } => {
                    lane.forget_behind(bytes);
                    lane.torn = true;
                    state.note(shared.number, Action::Cut);
                }
                Fault::StallBehind { lasting, .. } => {
                    lane.stalled = true;
                    state.note(shared.number, Action::Stalled(which));
                    let waker = Waker::from(Arc::new(ResumeLater(shared.this.clone(), which)));
                    state.add_timer(state.now.saturating_add(lasting), waker);
                }
                _ => {}
            }
        }
    }

    fn wakers(&mut self) -> Vec<Waker> {
        let lanes = self.lanes.iter_mut();
        lanes.flat_map(|lane| [lane.reader.take(), lane.writer.take()]).flatten().collect()
    }
}

impl Lane {
    fn discard(&mut self) {
        self.under_way.clear();
        self.arrived.clear();
        self.held = 0;
    }

    fn arrive(&mut self, now: Duration) {
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, bytes)) = self.under_way.pop_front() else { return };
            self.arrived.extend(bytes);
        }
    }

    /// When the reader has to look again.
    fn next_arrival(&self) -> Option<Duration> {
        self.under_way.front().map(|(at, _)| *at).or(self.ended)
    }

    fn read(
        &mut self,
        buf: &mut [u8],
        read_max: usize,
        cut: bool,
        state: &mut State,
    ) -> Option<io::Result<usize>> {
        if cut {
            return Some(Err(ErrorKind::ConnectionReset.into()));
        }
        if buf.is_empty() {
            return Some(Ok(0));
        }
        if self.stalled {
            return None;
        }
        if !self.arrived.is_empty() {
            let most = draw_up_to(read_max, buf.len().min(self.arrived.len()), state);
            for (place, byte) in buf.iter_mut().zip(self.arrived.drain(..most)) {
                *place = byte;
            }
            self.held -= most;
            return Some(Ok(most));
        }
        if !self.under_way.is_empty() {
            return None;
        }
        if self.torn {
            return Some(Err(ErrorKind::ConnectionReset.into()));
        }
        self.ended.filter(|at| *at <= state.now).map(|_| Ok(0))
    }

    /// Takes up to `most` bytes and returns them.
    fn take_in(&mut self, bufs: &[IoSlice<'_>], most: usize, arrives: Duration) -> Vec<u8> {
        let mut taken = Vec::with_capacity(most);
        for buf in bufs {
            let len = buf.len().min(most - taken.len());
            taken.extend_from_slice(&buf[..len]);
        }
        self.last_arrival = arrives.max(self.last_arrival);
        self.under_way.push_back((self.last_arrival, taken.clone()));
        self.held += taken.len();
        self.written += taken.len() as u64;
        taken
    }

    /// Loses what was written behind so many bytes.
    fn forget_behind(&mut self, bytes: u64) {
        let mut lost = usize::try_from(self.written - bytes).unwrap_or(usize::MAX).min(self.held);
        self.held -= lost;
        while let Some((_, last)) = self.under_way.back_mut() {
            let here = lost.min(last.len());
            last.truncate(last.len() - here);
            lost -= here;
            if !last.is_empty() {
                return;
            }
            self.under_way.pop_back();
        }
        self.arrived.truncate(self.arrived.len() - lost);
    }
}

/// All of `most`, or a number from 1 to `limit` where that is less.
fn draw_up_to(limit: usize, most: usize, state: &mut State) -> usize {
    if limit == usize::MAX {
        return most;
    }
    most.min(1 + state.dice.below(limit))
}

/// Wakes, with no lock held.
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
