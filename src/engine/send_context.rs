//! The broker's answers to a Session that sends, under the Session's lock: retained messages, and whether its Client
//! may receive a message.

use std::sync::Mutex;

use super::access::{AccessControl, Asker, Subject};
use super::session_cell::CellState;
use crate::access::Action;
use crate::budget::Budget;
use crate::message::Message;
use crate::retained::{Retained, Step};
use crate::session::Session;
use crate::session::replay::{Found, SendContext};
use crate::sync::lock;
use crate::time::Timestamp;
use crate::traffic::TrafficCounts;

/// The steps that a question costs whose answer is not that to the question before.
const ASK_STEPS: usize = 8;

/// A retained message, and when it was published.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) message: Message,
    pub(crate) since: Timestamp,
}

/// The context of one turn, for one Session. Lock order: a Session may be held, nothing is locked inside.
pub(crate) struct Sending<'a> {
    pub(crate) retained: &'a Mutex<Retained<Kept>>,
    pub(crate) access: &'a AccessControl,
    pub(crate) traffic: &'a TrafficCounts,
    pub(crate) asker: Asker<'a>,
    pub(crate) budget: &'a mut Budget,
}

/// The context and the identity of the Session, which is locked.
pub(crate) struct Asking<'s, 'a> {
    sending: &'s mut Sending<'a>,
    subject: &'s mut Option<Box<Subject>>,
}

impl CellState {
    /// The Session, and the context in which it sends.
    pub(crate) fn sending<'s, 'a>(
        &'s mut self,
        sending: &'s mut Sending<'a>,
    ) -> (&'s mut Session, Asking<'s, 'a>) {
        (&mut self.session, Asking { sending, subject: &mut self.subject })
    }
}

impl SendContext for Asking<'_, '_> {
    fn next_retained(&mut self, filter: &str, after: Option<&str>, now: Timestamp) -> Found {
        let Sending { retained, budget, .. } = &mut *self.sending;
        if budget.is_spent() {
            return Found::Paused(after.unwrap_or_default().into());
        }
        match lock(retained).next_match(filter, after, now, budget.left()) {
            Step::Found(_, kept) => Found::Message(kept.message.clone()),
            Step::Paused(after) => Found::Paused(after.into()),
            Step::End => Found::End,
        }
    }

    fn may_receive(&mut self, topic: &[u8]) -> bool {
        let Sending { access, asker, budget, .. } = &mut *self.sending;
        if access.allows_as_before(*asker, self.subject.as_deref(), topic) {
            return true;
        }
        budget.spend(ASK_STEPS);
        access.allows(*asker, self.subject, Action::Receive, topic)
    }

    fn is_over(&self) -> bool {
        self.sending.budget.is_spent()
    }
}
