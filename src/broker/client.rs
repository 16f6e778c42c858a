//! The in-process client: the host program publishes and subscribes without a Network Connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use futures_lite::future;

use crate::access::Identity;
use crate::budget::{Budget, TURN_STEPS};
use crate::engine::access::Subject;
use crate::engine::batch::Heard;
use crate::engine::errand::Errand;
use crate::engine::registry::Claim;
use crate::engine::session_cell::{Link, Owner, SessionCell};
use crate::engine::state::Engine;
use crate::engine::timers::Mailbox;
use crate::events::DisconnectCause;
use crate::ledger::Ledger;
use crate::message::Message;
use crate::packet::{ProtocolVersion, ReasonCode, SubscriptionOptions};
use crate::session::Terms;
use crate::subscription::Subscription;
use crate::topic::TopicFilter;

/// Why a call of an in-process [`Client`] failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// A client in process or a connected Client on the network has this Client Identifier.
    InUse(String),
    /// The Client Identifier is empty, longer than 65 535 bytes or holds U+0000.
    InvalidId(String),
    /// A limit or an access rule of the broker refused the call; the Reason Code says which. 0x98: the access rules have
    /// changed and do not let the client go on. 0xA0: its identity has ended.
    Refused(ReasonCode),
    /// The broker hands its state over ([`Broker::begin_hand_over`](crate::Broker::begin_hand_over)) and changes nothing
    /// meanwhile.
    HandingOver,
    /// The broker has been stopped.
    Stopped,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::InUse(id) => {
                write!(f, "the Client Identifier {id:?} is in use; choose another one")
            }
            ClientError::InvalidId(id) => {
                write!(f, "{id:?} is no Client Identifier: 1 to 65535 bytes without U+0000")
            }
            ClientError::Refused(reason) => write!(f, "refused: {reason}"),
            ClientError::HandingOver => f.write_str("the broker hands its state over"),
            ClientError::Stopped => f.write_str("the broker has been stopped"),
        }
    }
}

impl std::error::Error for ClientError {}

/// How many subscribers got a message, as [`Client::publish`] returns it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Sessions and shared subscriptions that matched the Topic Name.
    pub matched: u64,
    /// Those of them in which the message waits or was already delivered. The rest dropped the message and count
    /// it in their ledgers.
    pub accepted: u64,
}

/// A client inside this process. It has no socket and exchanges no packets; its Session, queue and ledger are like
/// those of a Client on the network. A client of [`Broker::client`](crate::Broker::client) may do everything, whatever
/// the access rules are; one of [`Broker::client_as`](crate::Broker::client_as) may do what its identity may.
///
/// Its Client Identifier shares one name space with those of the network. Its Session ends when the `Client` is
/// dropped. It is a [`Stream`] of the messages that its subscriptions match; a message counts as delivered, at any
/// QoS, when it is taken from the stream. While the stream is not read, up to `max_queue_depth` messages wait, and
/// newer ones are thrown away and counted.
///
/// ```
/// use futures_lite::future::block_on;
/// use hrotti::{Broker, Message, QoS, SubscriptionOptions, TopicFilter};
///
/// block_on(async {
///     let broker = Broker::new(100);
///     let mut client = broker.client("host-program")?;
///     let filter = TopicFilter::new("sensors/#")?;
///     client.subscribe(&filter, SubscriptionOptions::with_qos(QoS::AtLeastOnce)).await?;
///
///     client.publish(Message::new("sensors/kitchen", "21.5")?).await?;
///     let message = client.recv().await.ok_or("the broker stopped")?;
///     assert_eq!(message.payload(), b"21.5");
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client {
    engine: Arc<Engine>,
    cell: Arc<SessionCell>,
    mailbox: Arc<Mailbox>,
    epoch: u64,
    /// When the identity ends that the client acts as.
    ends_at: Option<SystemTime>,
    /// Steps of work that were done for this client since its task last yielded.
    spent: AtomicUsize,
}

/// A message that an in-process client is publishing. If the future of the call is dropped, a task of the broker
/// finishes the publishing.
pub(super) struct Underway<'a> {
    engine: &'a Arc<Engine>,
    errand: Option<Errand>,
}

impl<'a> Underway<'a> {
    pub(super) fn new(engine: &'a Arc<Engine>, errand: Errand) -> Underway<'a> {
        Underway { engine, errand: Some(errand) }
    }

    /// Continues within the budget. Returns how many subscribers got the message once it is routed.
    pub(super) fn advance(&mut self, budget: &mut Budget) -> Option<Published> {
        let errand = self.errand.as_mut()?;
        if !errand.advance(self.engine, budget) {
            return None;
        }
        let matched = match errand.heard() {
            Heard::By(matched) => matched,
            Heard::Unmatched | Heard::Denied(_) => 0,
        };
        let accepted = errand.accepted();
        self.errand = None;
        Some(Published { matched, accepted })
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if let Some(errand) = self.errand.take() {
            errand.run(self.engine);
        }
    }
}

impl Client {
    /// `identity`: `None` is the program that runs the broker.
    pub(crate) fn open(
        engine: &Arc<Engine>,
        id: &str,
        identity: Option<Identity>,
    ) -> Result<Client, ClientError> {
        let _at_work = engine.standstill.begin_work();
        if engine.is_stopping() {
            return Err(ClientError::Stopped);
        }
        if engine.standstill.is_closing() {
            return Err(ClientError::HandingOver);
        }
        if id.is_empty() || id.len() > 65_535 || id.contains('\0') {
            return Err(ClientError::InvalidId(id.to_owned()));
        }
        let owner = if identity.is_some() { Owner::Guest } else { Owner::Host };
        let (cell, replaced) = match engine.registry.claim(id, true, owner, None, &engine.limits())
        {
            Claim::New { cell, replaced } => (cell, replaced),
            Claim::InProcess | Claim::Existing(_) | Claim::OfAnother => {
                return Err(ClientError::InUse(id.to_owned()));
            }
            Claim::Full => return Err(ClientError::Refused(ReasonCode::QUOTA_EXCEEDED)),
        };
        if let Some(away) = replaced {
            engine.end_session(&away, |_| true);
        }
        let terms = Terms {
            version: ProtocolVersion::V5,
            quota: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
        };
        let mailbox = Arc::new(Mailbox::new());
        let ends_at = identity.as_ref().and_then(Identity::expires_at);
        let epoch = {
            let mut state = cell.lock();
            let (epoch, _nothing_before) = state.session.attach(terms, 0, None);
            state.link = Some(Link { mailbox: mailbox.clone(), inline: None });
            state.subject = identity.map(Subject::new);
            cell.set_connected(&state, true);
            epoch
        };
        let (engine, spent) = (engine.clone(), AtomicUsize::new(0));
        Ok(Client { engine, cell, mailbox, epoch, ends_at, spent })
    }

    /// The Client Identifier.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.cell.client_id
    }

    /// The messages that were offered to this client, and their outcomes.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.cell.lock().session.ledger()
    }

    /// Publishes a message and returns when it is routed, that is, when it waits in the queue of every matching
    /// Session. It never waits for a subscriber.
    ///
    /// # Errors
    /// [`ClientError::Stopped`] after the broker was stopped; [`ClientError::Refused`] for a Topic Name
    /// beyond `topic_levels_max` or `topic_bytes_max`, and by 0x87 if the access rules deny it.
    ///
    /// # Cancel safety
    /// The first poll begins the routing. If the future is dropped, the broker finishes it.
    pub async fn publish(&self, message: Message) -> Result<Published, ClientError> {
        self.check()?;
        self.engine
            .check_topic_name(message.topic(), &self.engine.limits())
            .map_err(|fault| ClientError::Refused(fault.reason()))?;
        let now = self.engine.now();
        let errand = Errand::new(&self.engine, self.cell.client_id.clone());
        self.check()?; // again: from the errand on, the broker does not stand still before it is done
        let errand = errand.publish(&self.engine, (&self.cell, self.epoch), message, now);
        if let Heard::Denied(_) = errand.heard() {
            errand.run(&self.engine);
            return Err(ClientError::Refused(ReasonCode::NOT_AUTHORIZED));
        }
        self.cell.count_published(1);
        let mut underway = Underway::new(&self.engine, errand);
        let published = loop {
            let mut budget = Budget::of_a_turn();
            let done = underway.advance(&mut budget);
            if self.takes_a_break(budget.spent()) {
                future::yield_now().await;
            }
            if let Some(published) = done {
                break published;
            }
        };
        Ok(published)
    }

    /// Whether the client may go on.
    fn check(&self) -> Result<(), ClientError> {
        if self.engine.is_stopping() {
            return Err(ClientError::Stopped);
        }
        if self.engine.standstill.is_still() {
            return Err(ClientError::HandingOver);
        }
        match self.end() {
            Some(reason) => Err(ClientError::Refused(reason)),
            None => Ok(()),
        }
    }

    /// Why the access rules let the client do nothing more: they have changed, or its identity has ended.
    fn end(&self) -> Option<ReasonCode> {
        if self.mailbox.ordered().is_some() {
            return Some(ReasonCode::ADMINISTRATIVE_ACTION);
        }
        let has_ended = self.ends_at.is_some_and(|at| at <= self.engine.host.wall());
        has_ended.then_some(ReasonCode::MAXIMUM_CONNECT_TIME)
    }

    /// Wakes the task when the identity ends.
    fn wake_at_end(&self) {
        let Some(at) = self.ends_at else { return };
        let left = at.duration_since(self.engine.host.wall()).unwrap_or_default();
        let (now, left) = (self.engine.now(), left.max(Duration::from_millis(1)));
        self.engine.wheel.schedule_connection(now.plus(left), now, &self.mailbox);
    }

    /// Whether the calling task should yield: it has published a turn's worth of work since it last yielded.
    fn takes_a_break(&self, steps: usize) -> bool {
        let before = self.spent.fetch_add(steps, Ordering::Relaxed);
        let over = before + steps >= TURN_STEPS;
        if over {
            self.spent.store(0, Ordering::Relaxed);
        }
        over
    }

    /// Adds a subscription, or replaces the one with this Topic Filter. Matching retained messages follow in the
    /// stream.
    ///
    /// # Errors
    /// [`ClientError::Stopped`] after the broker was stopped; [`ClientError::Refused`] beyond the limits on
    /// subscriptions and topics, for No Local on a shared subscription (MQTT-3.8.3-4), and by 0x87 if the access rules
    /// deny it.
    ///
    /// # Cancel safety
    /// The first poll subscribes and finishes the future.
    pub async fn subscribe(
        &self,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) -> Result<(), ClientError> {
        self.check()?;
        if filter.is_shared() && options.no_local {
            return Err(ClientError::Refused(ReasonCode::PROTOCOL_ERROR));
        }
        let subscription = Subscription { options, id: None };
        let subscribed =
            self.engine.subscribe(&self.cell, self.epoch, filter.clone(), subscription);
        let (reason, replay) = subscribed.map_err(|_ended| ClientError::Stopped)?;
        if let Some(replay) = replay {
            self.cell.lock().session.replay(replay);
        }
        self.mailbox.wake();
        if reason.is_error() { Err(ClientError::Refused(reason)) } else { Ok(()) }
    }

    /// Removes a subscription. Returns whether it existed. Messages that it matched before stay in the stream.
    ///
    /// # Errors
    /// [`ClientError::Stopped`] after the broker was stopped; [`ClientError::Refused`] by 0x87 if the access rules deny
    /// it.
    ///
    /// # Cancel safety
    /// The first poll unsubscribes and finishes the future.
    pub async fn unsubscribe(&self, filter: &TopicFilter) -> Result<bool, ClientError> {
        self.check()?;
        let unsubscribed = self.engine.unsubscribe(&self.cell, self.epoch, filter);
        match unsubscribed.map_err(|_ended| ClientError::Stopped)? {
            reason if reason.is_error() => Err(ClientError::Refused(reason)),
            reason => Ok(reason == ReasonCode::SUCCESS),
        }
    }

    /// Waits for the next message of the stream. Returns `None` when the broker was stopped and no message waits, and
    /// when the access rules do not let the client go on: they have changed, or its identity has ended.
    ///
    /// # Cancel safety
    /// Dropping the future loses no message.
    pub async fn recv(&mut self) -> Option<Message> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.mailbox.register(cx.waker());
        if self.end().is_some() {
            return Poll::Ready(None);
        }
        let now = self.engine.now();
        let (message, ended, more) = {
            let mut state = self.cell.lock();
            let mut budget = Budget::of_a_turn();
            let mut sending = self.engine.sending(&self.cell, &mut budget);
            let (session, mut asking) = state.sending(&mut sending);
            let message = session.take_message(now, &mut asking);
            (message, state.session.has_ended(), state.session.has_more())
        };
        match message {
            Some(message) => Poll::Ready(Some(message)),
            None if ended || self.engine.is_stopping() => Poll::Ready(None),
            None => {
                self.wake_at_end();
                if more {
                    // The search in the retained messages paused: the task yields before it continues.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

impl Stream for Client {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().poll_message(cx)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let now = self.engine.now();
        let cause = DisconnectCause::ByClient(ReasonCode::SUCCESS);
        self.engine.leave_session(&self.cell, self.epoch, cause, now);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id()).finish_non_exhaustive()
    }
}
