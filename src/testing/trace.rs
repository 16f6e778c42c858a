//! The events of a world, in order.

use std::fmt;
use std::time::Duration;

use super::faults::{Direction, Operation};

/// An event on one link.
///
/// `Display` writes one line: time, link, action.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The time of the world's clock.
    pub at: Duration,
    /// The link's number, from 1 in the order of dialling; 0 for an event that concerns no link.
    pub link: u64,
    /// The event.
    pub action: Action,
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A client opened the connection.
    Dialled,
    /// The broker accepted it.
    Accepted,
    /// One end wrote these bytes.
    Wrote(Direction, Vec<u8>),
    /// The other end read this many bytes.
    Read(Direction, usize),
    /// The writing end closed this direction.
    Ended(Direction),
    /// The connection was cut.
    Cut,
    /// A stall of this direction began.
    Stalled(Direction),
    /// A stall of this direction ended.
    Resumed(Direction),
    /// The broker's transport panicked in this operation.
    Panicked(Operation),
    /// The broker's transport failed in this operation.
    Failed(Operation),
    /// The clock jumped forwards.
    Jumped(Duration),
    /// A task of a broker panicked.
    TaskPanicked(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>11.6}", self.at.as_secs_f64())?;
        if self.link > 0 {
            write!(f, " link {}", self.link)?;
        }
        match &self.action {
            Action::Dialled => f.write_str(" dialled"),
            Action::Accepted => f.write_str(" accepted"),
            Action::Wrote(direction, bytes) => {
                write!(f, " {direction} wrote {}:", bytes.len())?;
                bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
            Action::Read(direction, len) => write!(f, " {direction} read {len}"),
            Action::Ended(direction) => write!(f, " {direction} ended"),
            Action::Cut => f.write_str(" cut"),
            Action::Stalled(direction) => write!(f, " {direction} stalled"),
            Action::Resumed(direction) => write!(f, " {direction} resumed"),
            Action::Panicked(operation) => write!(f, " panic in {operation:?}"),
            Action::Failed(operation) => write!(f, " error in {operation:?}"),
            Action::Jumped(by) => write!(f, " the clock jumped by {by:?}"),
            Action::TaskPanicked(text) => write!(f, " a task panicked: {text}"),
        }
    }
}

/// The fingerprint of everything that happened, and the events if they are recorded.
#[derive(Debug, Default)]
pub(super) struct Trace {
    fingerprint: u64,
    events: Vec<Event>,
    recording: bool,
}

impl Trace {
    pub(super) fn record(&mut self, on: bool) {
        self.recording = on;
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(super) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Mixes a number into the fingerprint: which task ran.
    pub(super) fn note(&mut self, number: u64) {
        let mixed = (self.fingerprint.rotate_left(23) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.fingerprint = mixed ^ mixed >> 32;
    }

    pub(super) fn add(&mut self, at: Duration, link: u64, action: Action) {
        self.note(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
        self.note(link);
        self.note_action(&action);
        if self.recording {
            self.events.push(Event { at, link, action });
        }
    }

    fn note_action(&mut self, action: &Action) {
        match action {
            Action::Dialled => self.note(1),
            Action::Accepted => self.note(2),
            Action::Wrote(direction, bytes) => {
                self.note(3 + direction.index() as u64);
                bytes.chunks(8).for_each(|chunk| {
                    let number =
                        chunk.iter().fold(chunk.len() as u64, |n, &b| n << 8 | u64::from(b));
                    self.note(number);
                });
            }
            Action::Read(direction, len) => {
                self.note(5 + direction.index() as u64);
                self.note(*len as u64);
            }
            Action::Ended(direction) => self.note(7 + direction.index() as u64),
            Action::Cut => self.note(9),
            Action::Stalled(direction) => self.note(10 + direction.index() as u64),
            Action::Resumed(direction) => self.note(12 + direction.index() as u64),
            Action::Panicked(operation) => self.note(20 + *operation as u64),
            Action::Failed(operation) => self.note(40 + *operation as u64),
            Action::Jumped(_) => self.note(14),
            Action::TaskPanicked(_) => self.note(15),
        }
    }
}
