//! Sessions: searching them, and looking into one.

use std::fmt::{self, Write};

use super::pages::{Page, PageRequest, Sorted, Turns};
use super::ranked::Ranked;
use super::subscriptions::SubscriptionInfo;
use crate::broker::Broker;
use crate::broker::session_info::{SessionInfo, background};
use crate::engine::inspect::Cells;
use crate::engine::session_cell::SessionCell;
use crate::message::Message;
use crate::packet::{PacketId, QoS};
use crate::session::listing::Listed;
use crate::time::Timestamp;

/// The steps that a look at a locked Session costs.
const LOCK_STEPS: usize = 4;

/// The steps that the details of a Session cost.
const DETAIL_STEPS: usize = 8;

/// The steps that taking the next Session in order costs.
const TAKE_STEPS: usize = 4;

/// Which Sessions [`Broker::find_sessions`] returns, and in which order. The default is all, by Client Identifier, on the
/// first page.
///
/// ```
/// use hrotti::{SessionOrder, SessionQuery};
///
/// let mut query = SessionQuery::default();
/// query.search = Some("meter".to_owned());
/// query.connected = Some(true);
/// query.order = SessionOrder::Waiting;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionQuery {
    /// A text that the Client Identifier, the user name or the address contains, in the same case. `None` or empty: any.
    pub search: Option<String>,
    /// Whether the Client is connected. `None`: both.
    pub connected: Option<bool>,
    /// [`SessionInfo::slow`]. `None`: both.
    pub slow: Option<bool>,
    /// Only Sessions whose Client Identifiers come after this one, in the order of their bytes. Pages by number move when
    /// Sessions come and go; in the order of [`SessionOrder::ClientId`], the first page after the last Client Identifier
    /// of the page before misses none that was there all the time, and has none twice.
    pub after: Option<String>,
    /// The order of the Sessions.
    pub order: SessionOrder,
    /// The page.
    pub page: PageRequest,
}

/// The order in which Sessions are listed. Equal ones follow each other by Client Identifier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionOrder {
    /// By the bytes of the Client Identifier, the least first.
    #[default]
    ClientId,
    /// By waiting messages, most first.
    Waiting,
    /// By messages that were thrown away, most first.
    Dropped,
    /// By messages that were delivered, most first.
    Delivered,
}

/// A Session with what only a look at this one shows. [`Broker::session`] returns it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionDetail {
    /// What lists show of it.
    pub info: SessionInfo,
    /// The Will that is published when the Network Connection is lost, or whose delay runs.
    pub will: Option<Message>,
    /// The Client's Maximum Packet Size in bytes; `None` if it has set none or is not connected.
    pub maximum_packet_size: Option<u32>,
    /// The prefix of the Client's topics that its listener sets; `None` without one, and while the Client is away.
    pub mount_point: Option<String>,
    /// The transport takes no bytes at the moment: the Client does not read.
    pub blocked: bool,
    /// As many messages are unacknowledged as the Client allows: those of QoS 1 and 2 wait.
    pub quota_used: bool,
}

/// A message that a Session holds. [`Broker::session_queue`] lists them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueuedMessage {
    /// The message as it was published; `None` after PUBREC, when the Session keeps no more than the Packet Identifier.
    pub message: Option<Message>,
    /// The QoS at which it is sent; QoS 2 after PUBREC.
    pub qos: QoS,
    /// The RETAIN flag with which it is sent.
    pub retain: bool,
    /// Whether the transport has not completely accepted it. `false`: it is in flight, until the Client acknowledges it.
    pub waiting: bool,
    /// Its Packet Identifier, once it has one.
    pub packet_id: Option<u16>,
    /// What is left of its Message Expiry Interval in seconds, rounded up; `None` if it never expires.
    pub expires_in_secs: Option<u32>,
}

/// One line, with the Topic Name escaped.
impl fmt::Display for QueuedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.waiting { "waiting" } else { "in flight" };
        match &self.message {
            Some(message) => {
                let bytes = message.payload().len();
                write!(f, "{:?}: {bytes} bytes at QoS {}, {state}", message.topic(), self.qos as u8)
            }
            None => write!(f, "received by the Client and not released, {state}"),
        }
    }
}

impl QueuedMessage {
    fn of(listed: Listed, now: Timestamp) -> QueuedMessage {
        let Listed { delivery, packet_id, waiting } = listed;
        let qos = delivery.as_ref().map_or(QoS::ExactlyOnce, |delivery| delivery.qos);
        let retain = delivery.as_ref().is_some_and(|delivery| delivery.retain);
        let message = delivery.map(|delivery| delivery.message);
        let expires_in_secs = message.as_ref().and_then(|message| message.expiry_left_secs(now));
        let packet_id = packet_id.map(PacketId::get);
        QueuedMessage { message, qos, retain, waiting, packet_id, expires_in_secs }
    }
}

impl SessionQuery {
    fn text(&self) -> Option<&str> {
        self.search.as_deref().filter(|text| !text.is_empty())
    }

    /// The rank of a Session that the query is about; `None` of others. Locks the Session only if what it asks for is
    /// behind the lock. `line` is a buffer.
    fn rank(&self, cell: &SessionCell, now: Timestamp, line: &mut String) -> Option<(u64, bool)> {
        let after = self.after.as_deref().is_none_or(|after| *cell.client_id > *after);
        let connected = self.connected.is_none_or(|wanted| cell.is_connected() == wanted);
        if !after || !connected || cell.has_ended() {
            return None;
        }
        let text = self.text().filter(|text| !cell.client_id.contains(*text));
        if text.is_none() && self.slow.is_none() && self.order == SessionOrder::ClientId {
            return Some((0, false));
        }
        let state = cell.lock();
        let rank = match self.order {
            SessionOrder::ClientId => 0,
            SessionOrder::Waiting => u64::MAX - state.session.waiting_len() as u64,
            SessionOrder::Dropped => u64::MAX - state.session.ledger().dropped_total(),
            SessionOrder::Delivered => u64::MAX - state.session.ledger().delivered,
        };
        if text.is_none() && self.slow.is_none() {
            return Some((rank, true));
        }
        let background = background(&state, now);
        drop(state);
        let is_found = |text: &str| {
            line.clear();
            if let Some(address) = background.address {
                // Writing to a text never fails.
                let _written = write!(line, "{address}");
            }
            let of_user = background.user_name.as_ref().is_some_and(|name| name.contains(text));
            of_user || line.contains(text)
        };
        let found = text.is_none_or(is_found);
        let slow = self.slow.is_none_or(|wanted| background.slow == wanted);
        (found && slow).then_some((rank, true))
    }
}

impl Broker {
    /// Searches the Sessions. Each is looked at for a moment, and only those of the page are read whole: the time is in
    /// proportion to the Sessions of the broker, and no lock is held for longer than one look takes. The call yields
    /// after each millisecond of work.
    ///
    /// Sessions come and go meanwhile: those that are there all the time are counted and listed once. One that ends
    /// before it is read leaves a page one shorter.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, PageRequest, SessionQuery};
    ///
    /// # block_on(async {
    /// let broker = Broker::new(100);
    /// let clients: Result<Vec<_>, _> =
    ///     ["meter-1", "meter-2", "lamp"].into_iter().map(|id| broker.client(id)).collect();
    /// let mut query = SessionQuery::default();
    /// query.search = Some("meter".to_owned());
    /// query.page = PageRequest::new(1, 1)?;
    /// let page = broker.find_sessions(&query).await;
    /// assert_eq!((page.count, page.items.len()), (2, 1));
    /// assert_eq!(page.items[0].client_id, "meter-1");
    /// # drop(clients);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    /// The call changes nothing; its future may be dropped.
    pub async fn find_sessions(&self, query: &SessionQuery) -> Page<SessionInfo> {
        let (engine, mut turns) = (self.engine(), Turns::begin());
        let (mut cells, mut sorted, mut line) = (Cells::default(), Sorted::new(), String::new());
        while let Some(shard) = cells.next(engine, &mut turns.budget) {
            for cell in shard {
                if let Some((rank, locked)) = query.rank(&cell, engine.now(), &mut line) {
                    sorted.add(Ranked { rank, cell });
                    turns.budget.spend(if locked { LOCK_STEPS } else { 1 });
                }
                turns.spend(1).await;
            }
        }
        let count = sorted.len();
        for _ in 0..query.page.skipped().min(count) {
            drop(sorted.take_next());
            turns.spend(TAKE_STEPS).await;
        }
        let mut items = Vec::new();
        while items.len() < query.page.limit() {
            let Some(Ranked { cell, .. }) = sorted.take_next() else { break };
            items.extend(SessionInfo::of(&cell, engine.now()));
            turns.spend(DETAIL_STEPS).await;
        }
        query.page.of(items, count)
    }

    /// Looks at the Session of a Client Identifier; `None` if there is none. Locks this Session alone, for a moment.
    ///
    /// ```
    /// use hrotti::Broker;
    ///
    /// let broker = Broker::new(100);
    /// let client = broker.client("lamp")?;
    /// let detail = broker.session("lamp").expect("it lives");
    /// assert!(detail.info.connected && detail.info.in_process && detail.will.is_none());
    /// assert!(broker.session("Lamp").is_none());
    /// # drop(client);
    /// # Ok::<(), hrotti::ClientError>(())
    /// ```
    #[must_use]
    pub fn session(&self, client_id: &str) -> Option<SessionDetail> {
        let cell = self.engine().registry.find(client_id)?;
        let state = cell.lock();
        let (session, standing) = (&state.session, state.session.standing());
        Some(SessionDetail {
            info: SessionInfo::read(&cell, &state, self.engine().now())?,
            will: session.will().cloned(),
            maximum_packet_size: standing.maximum_packet_size,
            mount_point: session.mount_point().map(str::to_owned),
            blocked: standing.blocked,
            quota_used: standing.quota_used,
        })
    }

    /// The subscriptions of a Session, in the order of their Topic Filters; `None` if there is no such Session. The call
    /// takes time in proportion to the subscriptions, at most
    /// [`Limits::session_subscriptions_max`](crate::Limits::session_subscriptions_max), under the lock of this Session,
    /// and blocks no other.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, PageRequest, QoS, SubscriptionOptions, TopicFilter};
    ///
    /// # block_on(async {
    /// let broker = Broker::new(100);
    /// let client = broker.client("lamp")?;
    /// for filter in ["hall/#", "all"] {
    ///     let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    ///     client.subscribe(&TopicFilter::new(filter)?, options).await?;
    /// }
    /// let page = broker.session_subscriptions("lamp", PageRequest::default()).expect("it lives");
    /// let filters: Vec<_> = page.items.iter().map(|one| one.filter.as_str()).collect();
    /// assert_eq!(filters, ["all", "hall/#"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn session_subscriptions(
        &self,
        client_id: &str,
        page: PageRequest,
    ) -> Option<Page<SubscriptionInfo>> {
        let cell = self.engine().registry.find(client_id)?;
        let mut all = {
            let state = cell.lock();
            if state.session.has_ended() {
                return None;
            }
            let all = state.session.subscriptions();
            all.map(|(filter, subscription)| (filter.clone(), *subscription)).collect::<Vec<_>>()
        };
        let count = all.len();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let items = all.into_iter().skip(page.skipped()).take(page.limit());
        let items = items.map(|one| SubscriptionInfo::of(&cell, one)).collect();
        Some(page.of(items, count))
    }

    /// The messages that a Session holds: first those that were encoded for the Client and are not acknowledged, in the
    /// order of their sending, then those that wait, in the order of their arrival. `None` if there is no such Session.
    /// Messages of QoS 0 that are encoded and not accepted by the transport are not listed. The call takes time in
    /// proportion to the page, under the lock of this Session; messages are shared, not copied.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, Message, PageRequest, QoS, SubscriptionOptions, TopicFilter};
    ///
    /// # block_on(async {
    /// let broker = Broker::new(100);
    /// let client = broker.client("lamp")?;
    /// let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    /// client.subscribe(&TopicFilter::new("hall/lamp")?, options).await?;
    /// broker.publish(Message::new("hall/lamp", "on")?.with_expiry_secs(60)).await?;
    ///
    /// let page = broker.session_queue("lamp", PageRequest::default()).expect("it lives");
    /// let waiting = page.items.first().expect("it waits");
    /// assert!(waiting.waiting && waiting.expires_in_secs.is_some());
    /// assert_eq!(waiting.message.as_ref().map(Message::topic), Some("hall/lamp"));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn session_queue(&self, client_id: &str, page: PageRequest) -> Option<Page<QueuedMessage>> {
        let cell = self.engine().registry.find(client_id)?;
        let (listed, count) = {
            let state = cell.lock();
            if state.session.has_ended() {
                return None;
            }
            state.session.list_messages(page.skipped(), page.limit())
        };
        let now = self.engine().now();
        let items = listed.into_iter().map(|listed| QueuedMessage::of(listed, now)).collect();
        Some(page.of(items, count))
    }
}
