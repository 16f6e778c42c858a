//! The retained messages as a Session sees them while it holds its own lock.

use std::sync::Mutex;

use super::lock;
use crate::message::Message;
use crate::retained::{Retained, Step};
use crate::session::replay::{Found, RetainedSource};
use crate::time::Timestamp;

/// Locks the retained messages for each look. Lock order: a slot may be held, nothing is locked inside.
pub(crate) struct RetainedLock<'a>(pub(crate) &'a Mutex<Retained<Message>>);

impl RetainedLock<'_> {
    /// Whether nothing is retained at this moment.
    pub(crate) fn is_empty(&self) -> bool {
        lock(self.0).len() == 0
    }
}

impl RetainedSource for RetainedLock<'_> {
    fn next_match(
        &mut self,
        filter: &str,
        after: Option<&str>,
        now: Timestamp,
        steps: &mut usize,
    ) -> Found {
        match lock(self.0).next_match(filter, after, now, steps) {
            Step::Found(_, message) => Found::Message(message.clone()),
            Step::Paused(after) => Found::Paused(after.into()),
            Step::End => Found::End,
        }
    }
}
