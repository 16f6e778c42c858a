//! The readiness loop: epoll, edge-triggered, and one timer.
//!
//! Each descriptor is registered once, for reading and writing; there is no further `epoll_ctl`.
//! The timer is a timerfd, since the timeout of `epoll_wait` counts in milliseconds and an open
//! loop must not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

const TIMER: u64 = u64::MAX;
const EVENTS_MAX: usize = 1024;

/// One descriptor that may be read or written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other side closed it, or it broke: reading on will say so.
    pub(crate) closed: bool,
}

/// See the module.
pub(crate) struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), edge)?;
        Ok(Self { epoll, timer, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Reports `source` as `token` whenever it becomes readable or writable, until it is closed.
    pub(crate) fn add(&self, source: impl AsFd, token: usize) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, source, EventData::new_u64(token as u64), flags)?;
        Ok(())
    }

    /// Lets the next [`Poll::wait`] return after `delay` at the latest. Arming again (not reading)
    /// takes the last expiry back.
    pub(crate) fn wake_after(&self, delay: Duration) -> io::Result<()> {
        // All zero would disarm the timer.
        let delay = delay.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec::try_from(delay).map_err(io::Error::other)?,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Waits until something is ready or the timer has expired.
    pub(crate) fn wait(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.events.clear();
        ready.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let closed = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        for event in &self.events {
            let (flags, token) = (event.flags, event.data.u64());
            if token == TIMER {
                continue;
            }
            ready.push(Ready {
                token: usize::try_from(token).unwrap_or(usize::MAX),
                readable: flags.intersects(EventFlags::IN | closed),
                writable: flags.intersects(EventFlags::OUT | closed),
                closed: flags.intersects(closed),
            });
        }
        Ok(())
    }
}
