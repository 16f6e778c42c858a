//! Publishing outside a Network Connection's turns, in as many turns as it takes: Wills, messages of in-process
//! clients, and messages that an ended member of a shared subscription held.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use super::access::Denied;
use super::batch::{Batch, Flush, Heard, Publishing, Routed};
use super::route::{RouteCache, RouteSearch};
use super::session_cell::SessionCell;
use super::standstill::AtWork;
use super::state::Engine;
use crate::budget::Budget;
use crate::ledger::{DropReason, Outcome};
use crate::message::Message;
use crate::session::outgoing::Outgoing;
use crate::session::queue::Delivery;
use crate::time::Timestamp;

/// A Will that was taken from its Session, and why it may not be published, if it may not.
#[derive(Debug)]
pub(crate) struct JudgedWill {
    pub(crate) message: Message,
    pub(crate) denied: Option<Denied>,
}

/// Messages that are published outside a Network Connection's turns.
#[derive(Debug)]
pub(crate) struct Errand {
    publisher: Arc<str>,
    batch: Batch,
    routes: RouteCache,
    publishing: Option<Publishing>,
    /// How many subscribers matched the published message.
    heard: Heard,
    handed_on: vec::IntoIter<Delivery>,
    handing_on: Option<(Delivery, Box<RouteSearch>)>,
    /// The broker does not stand still before it is done.
    _at_work: AtWork,
}

impl Errand {
    /// An errand for the client with this Client Identifier.
    pub(crate) fn new(engine: &Engine, publisher: Arc<str>) -> Errand {
        let mut batch = Batch::default();
        batch.begin(engine);
        Errand {
            publisher,
            batch,
            routes: RouteCache::default(),
            publishing: None,
            heard: Heard::Unmatched,
            handed_on: Vec::new().into_iter(),
            handing_on: None,
            _at_work: engine.standstill.begin_work(),
        }
    }

    /// An errand that finishes the batch of a closed Network Connection.
    pub(crate) fn finish(engine: &Engine, publisher: Arc<str>, batch: Batch) -> Errand {
        Errand { batch, ..Errand::new(engine, publisher) }
    }

    /// Publishes a message of the client of `cell`, if it may.
    pub(crate) fn publish(
        mut self,
        engine: &Engine,
        (cell, epoch): (&SessionCell, u64),
        message: Message,
        now: Timestamp,
    ) -> Errand {
        match cell.may_publish(&engine.access, epoch, message.topic()) {
            Ok(_) => self.publishing = Some(Publishing::new(engine, message.accepted_at(now), 0)),
            Err(denied) => self.heard = self.batch.count_denied(denied),
        }
        self
    }

    /// Publishes a message of the Server itself, which may publish to any Topic Name.
    pub(crate) fn publish_as_server(
        mut self,
        engine: &Engine,
        message: Message,
        now: Timestamp,
    ) -> Errand {
        self.publishing = Some(Publishing::new(engine, message.accepted_at(now), 0));
        self
    }

    /// Publishes a Will, if it may be published.
    pub(crate) fn publish_will(
        mut self,
        engine: &Engine,
        will: JudgedWill,
        now: Timestamp,
    ) -> Errand {
        match will.denied {
            None => {
                let message = will.message.accepted_at(now);
                self.publishing = Some(Publishing::new(engine, message, 0));
            }
            Some(denied) => self.heard = self.batch.count_denied(denied),
        }
        self
    }

    /// Continues a message that a closed Network Connection had parked.
    pub(crate) fn go_on_with(mut self, publishing: Publishing) -> Errand {
        self.publishing = Some(publishing);
        self
    }

    /// Gives the messages of an ended member of a shared subscription to another member (MQTT-4.8.2-5).
    pub(crate) fn hand_on(mut self, deliveries: Vec<Delivery>) -> Errand {
        self.handed_on = deliveries.into_iter();
        self
    }

    /// Continues as far as the budget allows. Returns whether everything is done.
    pub(crate) fn advance(&mut self, engine: &Engine, budget: &mut Budget) -> bool {
        let now = engine.now();
        if let Some(publishing) = self.publishing.take() {
            let Errand { batch, routes, publisher, .. } = self;
            match publishing.advance(batch, engine, publisher, routes, now, budget) {
                Routed::Heard(heard) => self.heard = heard,
                Routed::Later(rest) | Routed::Unasked(rest, _) => {
                    self.publishing = Some(rest);
                    return false;
                }
            }
        }
        if !self.batch.push_pending(engine, now, budget) {
            return false;
        }
        while let Some((delivery, mut search)) = self.next_to_hand_on(engine) {
            if !search.advance(engine, delivery.message.topic(), budget) {
                self.handing_on = Some((delivery, search));
                return false;
            }
            self.give(engine, &delivery, *search, now, budget);
            if budget.is_spent() {
                return false;
            }
        }
        self.batch.flush(engine, None, &mut Outgoing::default(), now, budget) != Flush::Unfinished
    }

    fn next_to_hand_on(&mut self, engine: &Engine) -> Option<(Delivery, Box<RouteSearch>)> {
        self.handing_on.take().or_else(|| {
            let delivery = self.handed_on.next()?;
            Some((delivery, Box::new(RouteSearch::new(engine))))
        })
    }

    fn give(
        &mut self,
        engine: &Engine,
        delivery: &Delivery,
        search: RouteSearch,
        now: Timestamp,
        budget: &mut Budget,
    ) {
        let route = search.finish("", budget);
        let share = route.shares.iter().find(|share| {
            delivery.shared.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, &share.identity))
        });
        match share {
            Some(share) => self.batch.offer_share(engine, share, &delivery.message, now, budget),
            None => self.batch.count(Outcome::Dropped(DropReason::SessionEnded)),
        }
    }

    /// How many subscribers matched the message, once everything is done.
    pub(crate) fn heard(&self) -> Heard {
        self.heard
    }

    /// The offers that a Session accepted, once everything is done.
    pub(crate) fn accepted(&self) -> u64 {
        self.batch.accepted()
    }

    fn is_done(&self) -> bool {
        self.publishing.is_none()
            && self.handing_on.is_none()
            && self.handed_on.len() == 0
            && self.batch.is_empty()
    }

    /// Runs the errand for one turn, and the rest in a task of its own.
    pub(crate) fn run(mut self, engine: &Arc<Engine>) {
        if !self.is_done() && !self.advance(engine, &mut Budget::of_a_turn()) {
            engine.host.spawn(Running { engine: engine.clone(), errand: self });
        }
    }
}

/// An errand in a task of its own.
struct Running {
    engine: Arc<Engine>,
    errand: Errand,
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Running { engine, errand } = &mut *self;
        if errand.advance(engine, &mut Budget::of_a_turn()) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
