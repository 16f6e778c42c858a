//! The broker's answers to a Session that sends, under the Session's lock: retained messages, and whether its Client
//! may receive a message.

use std::sync::Mutex;

use super::access::AccessControl;
use crate::budget::Budget;
use crate::message::Message;
use crate::retained::{Retained, Step};
use crate::session::replay::{Found, SendContext};
use crate::sync::lock;
use crate::time::Timestamp;

/// The context of one turn, for one Session. Lock order: a Session may be held, nothing is locked inside.
pub(crate) struct Sending<'a> {
    pub(crate) retained: &'a Mutex<Retained<Message>>,
    pub(crate) access: &'a AccessControl,
    pub(crate) client_id: &'a str,
    pub(crate) budget: &'a mut Budget,
}

impl SendContext for Sending<'_> {
    fn next_retained(&mut self, filter: &str, after: Option<&str>, now: Timestamp) -> Found {
        if self.budget.is_spent() {
            return Found::Paused(after.unwrap_or_default().into());
        }
        match lock(self.retained).next_match(filter, after, now, self.budget.left()) {
            Step::Found(_, message) => Found::Message(message.clone()),
            Step::Paused(after) => Found::Paused(after.into()),
            Step::End => Found::End,
        }
    }

    fn may_receive(&mut self, topic: &[u8]) -> bool {
        self.access.may_receive(self.client_id, topic)
    }
}
