//! Tasks, timers and the clock of a world, in one thread: the seed determines which ready task runs next, and time
//! stands still while any task is ready.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::dice::Dice;
use super::trace::{Action, Trace};
use crate::host::{CustomHost, Task};
use crate::sync::lock;
use crate::time::Timestamp;

/// The task that `block_on` polls itself.
pub(super) const MAIN: u64 = 0;

/// Turns of tasks without any progress of time before that is a fault.
const TURNS_AT_ONCE_MAX: u64 = 2_000_000;

/// The executor and the clock.
pub(super) struct Executor {
    state: Mutex<State>,
}

/// What the lock of an [`Executor`] guards. No waker is called and no future dropped under it.
pub(super) struct State {
    pub(super) now: Duration,
    pub(super) dice: Dice,
    pub(super) trace: Trace,
    tasks: HashMap<u64, Slot>,
    ready: Vec<u64>,
    next_task: u64,
    timers: BTreeMap<TimerKey, Waker>,
    next_timer: u64,
    turns_at_once: u64,
    panics: Vec<String>,
    running: bool,
    closed: bool,
    next_link: u64,
    host_seed: u64,
}

/// When a timer ends, and its number.
pub(super) type TimerKey = (Duration, u64);

struct Slot {
    /// `None` while it is polled, and of the main task.
    future: Option<Task>,
    waker: Waker,
    /// Stands in `ready`.
    queued: bool,
    /// A panic ends this task alone.
    contained: bool,
}

/// Wakes one task.
struct TaskWaker {
    executor: Arc<Executor>,
    id: u64,
}

/// What one turn came to.
pub(super) enum Turn {
    /// A task ran.
    Ran,
    /// The main task is to be polled.
    Main,
    /// No task is ready.
    Idle,
}

impl Executor {
    pub(super) fn new(seed: u64) -> Arc<Executor> {
        let mut dice = Dice::new(seed);
        let host_seed = dice.roll();
        Arc::new(Executor {
            state: Mutex::new(State {
                now: Duration::ZERO,
                dice,
                trace: Trace::default(),
                tasks: HashMap::new(),
                ready: Vec::new(),
                next_task: MAIN + 1,
                timers: BTreeMap::new(),
                next_timer: 0,
                turns_at_once: 0,
                panics: Vec::new(),
                running: false,
                closed: false,
                next_link: 0,
                host_seed,
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.lock().now
    }

    /// Adds a task. `contained`: a panic ends it alone, and is noted.
    pub(super) fn add(self: &Arc<Self>, future: Task, contained: bool) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            drop(future);
            return;
        }
        let id = state.next_task;
        state.next_task += 1;
        let waker = self.waker(id);
        state.tasks.insert(id, Slot { future: Some(future), waker, queued: true, contained });
        state.ready.push(id);
    }

    fn waker(self: &Arc<Self>, id: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { executor: self.clone(), id }))
    }

    /// Begins to run tasks, and makes the main task ready.
    ///
    /// # Panics
    /// If it runs already: a task of a world cannot run the world.
    pub(super) fn enter(self: &Arc<Self>) -> Running<'_> {
        let waker = self.waker(MAIN);
        let mut state = self.lock();
        let nested = std::mem::replace(&mut state.running, true);
        if !nested {
            state.tasks.insert(
                MAIN,
                Slot { future: None, waker: waker.clone(), queued: false, contained: false },
            );
        }
        drop(state);
        assert!(!nested, "a task of a world cannot run the world");
        Running { executor: self, waker }
    }

    fn enqueue(&self, id: u64) {
        let mut state = self.lock();
        let Some(slot) = state.tasks.get_mut(&id) else { return };
        if !std::mem::replace(&mut slot.queued, true) {
            state.ready.push(id);
        }
    }

    /// One task has a turn.
    ///
    /// # Panics
    /// If a task panics that is not contained, or if tasks keep each other busy while time stands still.
    pub(super) fn turn(&self) -> Turn {
        let (id, future, waker) = {
            let mut state = self.lock();
            let Some(id) = state.draw_ready() else { return Turn::Idle };
            let Some(slot) = state.tasks.get_mut(&id) else { return Turn::Ran };
            slot.queued = false;
            let Some(future) = slot.future.take() else { return Turn::Main };
            (id, future, slot.waker.clone())
        };
        self.poll(id, future, &waker);
        Turn::Ran
    }

    fn poll(&self, id: u64, mut future: Task, waker: &Waker) {
        let mut cx = Context::from_waker(waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        if matches!(polled, Ok(Poll::Pending)) {
            if let Some(slot) = self.lock().tasks.get_mut(&id) {
                slot.future = Some(future);
            }
            return;
        }
        let removed = self.lock().tasks.remove(&id);
        let contained = removed.is_some_and(|slot| slot.contained);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        for payload in [polled.err(), dropped.err()].into_iter().flatten() {
            if !contained {
                std::panic::resume_unwind(payload);
            }
            let mut state = self.lock();
            let text = text_of(&*payload);
            state.note(0, Action::TaskPanicked(text.clone()));
            state.panics.push(text);
        }
    }

    /// Turns the clock to the next timer, not beyond `limit`, and ends the timers that are due. `false` if the
    /// clock is at the limit.
    pub(super) fn advance(&self, limit: Duration) -> bool {
        let due = {
            let mut state = self.lock();
            let next = state.timers.first_key_value().map(|(&(at, _), _)| at);
            let to = next.unwrap_or(limit).min(limit);
            if to <= state.now && next.is_none_or(|at| at > state.now) {
                return false;
            }
            state.turn_clock(to);
            state.take_due()
        };
        due.into_iter().for_each(Waker::wake);
        true
    }

    /// Moves the clock at once: all timers that became due meanwhile fire at the same moment.
    pub(super) fn jump(&self, by: Duration) {
        let due = {
            let mut state = self.lock();
            let to = state.now.saturating_add(by);
            state.turn_clock(to);
            state.note(0, Action::Jumped(by));
            state.take_due()
        };
        due.into_iter().for_each(Waker::wake);
    }

    pub(super) fn add_timer(&self, at: Duration, waker: Waker) -> TimerKey {
        self.lock().add_timer(at, waker)
    }

    pub(super) fn cancel_timer(&self, key: TimerKey) {
        self.lock().remove_timer(key);
    }

    pub(super) fn tasks(&self) -> usize {
        let state = self.lock();
        state.tasks.len() - usize::from(state.tasks.contains_key(&MAIN))
    }

    pub(super) fn panics(&self) -> Vec<String> {
        self.lock().panics.clone()
    }

    /// Drops all tasks and takes no more.
    pub(super) fn close(&self) {
        let (tasks, timers) = {
            let mut state = self.lock();
            state.closed = true;
            state.ready.clear();
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.timers))
        };
        for (_, slot) in tasks {
            // A transport that is to panic in its drop may be among them.
            let _panic = catch_unwind(AssertUnwindSafe(|| drop(slot)));
        }
        drop(timers);
    }
}

impl State {
    pub(super) fn note(&mut self, link: u64, action: Action) {
        let now = self.now;
        self.trace.add(now, link, action);
    }

    pub(super) fn next_link(&mut self) -> u64 {
        self.next_link += 1;
        self.next_link
    }

    pub(super) fn add_timer(&mut self, at: Duration, waker: Waker) -> TimerKey {
        let key = (at, self.next_timer);
        self.next_timer += 1;
        if !self.closed {
            self.timers.insert(key, waker);
        }
        key
    }

    pub(super) fn remove_timer(&mut self, key: TimerKey) {
        // Dropping the waker of a task locks nothing.
        self.timers.remove(&key);
    }

    fn draw_ready(&mut self) -> Option<u64> {
        if self.ready.is_empty() {
            return None;
        }
        self.turns_at_once += 1;
        let turns = self.turns_at_once;
        assert!(turns <= TURNS_AT_ONCE_MAX, "tasks keep each other busy while time stands still");
        let place = self.dice.below(self.ready.len());
        let id = self.ready.swap_remove(place);
        self.trace.note(id);
        Some(id)
    }

    fn turn_clock(&mut self, to: Duration) {
        if to > self.now {
            self.now = to;
            self.turns_at_once = 0;
        }
    }

    fn take_due(&mut self) -> Vec<Waker> {
        let later = self.timers.split_off(&(self.now, u64::MAX));
        std::mem::replace(&mut self.timers, later).into_values().collect()
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Executor").field("now", &state.now).finish_non_exhaustive()
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.executor.enqueue(self.id);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.executor.enqueue(self.id);
    }
}

/// Tasks may run as long as this lives.
pub(super) struct Running<'a> {
    executor: &'a Executor,
    pub(super) waker: Waker,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.executor.lock();
        state.running = false;
        state.ready.retain(|&id| id != MAIN);
        let main = state.tasks.remove(&MAIN);
        drop(state);
        drop(main);
    }
}

impl CustomHost for Arc<Executor> {
    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(Executor::elapsed(self).as_millis()).unwrap_or(u64::MAX))
    }

    fn spawn(&self, task: Task) {
        self.add(task, true);
    }

    fn sleep(&self, duration: Duration) -> Task {
        Box::pin(Sleep::new(self, duration))
    }

    fn seed(&self) -> u64 {
        self.lock().host_seed
    }
}

/// A future that ends when the clock of its world has reached the end of the duration.
#[derive(Debug)]
pub struct Sleep {
    executor: Arc<Executor>,
    at: Duration,
    timer: Option<TimerKey>,
}

impl Sleep {
    pub(super) fn new(executor: &Arc<Executor>, duration: Duration) -> Sleep {
        let at = executor.elapsed().saturating_add(duration);
        Sleep { executor: executor.clone(), at, timer: None }
    }

    fn cancel(&mut self) {
        if let Some(key) = self.timer.take() {
            self.executor.cancel_timer(key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.cancel();
        if self.executor.elapsed() >= self.at {
            return Poll::Ready(());
        }
        self.timer = Some(self.executor.add_timer(self.at, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What a panic says.
fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "?".to_owned())
}
