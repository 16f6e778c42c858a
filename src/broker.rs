//! The public handle of a broker, its builder and its errors.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use log::warn;

use crate::access::{DeniedPublish, Identity, Policy};
use crate::counters::Counters;
use crate::engine::access::AccessControl;
use crate::engine::state::Engine;
use crate::engine::timers::{Order, TICK_MILLIS};
use crate::events::{Events, Happening};
use crate::host::Host;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::listener_config::ListenerConfig;
use crate::listener_rules::ListenerRules;
use crate::net::listener::{Listener, ListenerInfo, Listeners};
use crate::runtime::EventLoops;
use crate::traffic::Traffic;
use crate::transport::{ListeningSocket, Transport};

mod client;
mod errors;
mod explain;
mod hand_over;
mod inspect;
mod lifecycle;
mod session_info;

pub use client::{Client, ClientError, Published};
pub use errors::{BuildError, ListenerError};
pub use hand_over::{HandOver, HandOverError};
pub use inspect::{
    LimitUse, Page, PageError, PageRequest, QueuedMessage, RetainedInfo, RetainedQuery,
    SessionDetail, SessionOrder, SessionQuery, SubscriptionInfo, SubscriptionQuery,
};
pub use session_info::SessionInfo;

use lifecycle::Lifecycle;

/// An MQTT server: Sessions, subscriptions, retained messages, and the listeners on which Clients connect.
///
/// A `Broker` is a cheap handle: clones refer to the same broker. Dropping the last handle stops the broker as
/// [`Broker::stop`] does, without waiting. Several brokers may live in one process; they share nothing. The broker
/// installs no logger, never exits the process, and runs its tasks on async-std's global executor, which starts on
/// first use; its methods may be called from any executor.
///
/// ```
/// use futures_lite::future::block_on;
/// use hrotti::{Broker, ListenerConfig};
///
/// block_on(async {
///     let broker = Broker::new(100);
///     let endpoint = broker.add_listener("test", ListenerConfig::new("tcp://127.0.0.1:0")?).await?;
///     assert_eq!(broker.listeners()[0].endpoint, endpoint);
///     broker.stop_listener("test").await?;
///     broker.stop().await;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Broker {
    last: Arc<StopOnDrop>,
}

/// Dropped with the last [`Broker`] handle; the drop stops the broker.
struct StopOnDrop {
    engine: Arc<Engine>,
    listeners: Arc<Listeners>,
    lifecycle: Arc<Lifecycle>,
}

/// Builds a [`Broker`] with limits and threads of your choice.
///
/// ```
/// use hrotti::{Broker, Limits};
///
/// let limits = Limits { connections_max: 50, ..Limits::default() };
/// let broker = Broker::builder().limits(limits).max_queue_depth(1_000).build();
/// assert_eq!(broker.limits().connections_max, 50);
/// assert_eq!(broker.limits().max_queue_depth, 1_000);
/// ```
#[derive(Clone, Default)]
pub struct BrokerBuilder {
    limits: Limits,
    event_loops: usize,
    policy: Option<Arc<dyn Policy>>,
    denied_publish: DeniedPublish,
    sys_interval: Duration,
}

impl fmt::Debug for BrokerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerBuilder")
            .field("limits", &self.limits)
            .field("event_loops", &self.event_loops)
            .field("policy", &self.policy.is_some())
            .field("denied_publish", &self.denied_publish)
            .field("sys_interval", &self.sys_interval)
            .finish()
    }
}

impl BrokerBuilder {
    /// Replaces all limits, including [`BrokerBuilder::max_queue_depth`] if it was set before.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> BrokerBuilder {
        self.limits = limits;
        self
    }

    /// Sets [`Limits::max_queue_depth`]: messages that may wait for one Client, 1 to 1 000 000 000 (0 is
    /// raised to 1). Default 100. A new message that finds the queue full is thrown away and counted.
    #[must_use]
    pub fn max_queue_depth(mut self, messages: usize) -> BrokerBuilder {
        self.limits.max_queue_depth = messages;
        self
    }

    /// Runs the tasks of listeners and Network Connections on `threads` event loops, each a thread that belongs to
    /// the broker, instead of on async-std's global executor. Default 0: the global executor.
    ///
    /// TCP and WebSocket connections cost less on event loops, above all at low load. Other transports work on
    /// both. Event loops exist on Linux. On other platforms, or if the operating system refuses a thread,
    /// [`BrokerBuilder::build`] logs a warning and uses the global executor, and [`BrokerBuilder::try_build`]
    /// returns an error.
    #[must_use]
    pub fn event_loops(mut self, threads: usize) -> BrokerBuilder {
        self.event_loops = threads;
        self
    }

    /// Sets the access rules: who may connect, and what a Client may publish, subscribe to and receive. Default: none,
    /// and everything that the protocol allows is allowed. [`Broker::set_policy`] replaces them.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use hrotti::Broker;
    /// use hrotti::access::Chain;
    ///
    /// // A chain without policies answers nothing, and no answer is a no.
    /// let closed = Broker::builder().policy(Arc::new(Chain::new(Vec::new()))).build();
    /// # drop(closed);
    /// ```
    #[must_use]
    pub fn policy(mut self, policy: Arc<dyn Policy>) -> BrokerBuilder {
        self.policy = Some(policy);
        self
    }

    /// Sets what a PUBLISH of MQTT 3.x that the policy denies leads to. Default: [`DeniedPublish::Drop`].
    #[must_use]
    pub fn denied_publish(mut self, effect: DeniedPublish) -> BrokerBuilder {
        self.denied_publish = effect;
        self
    }

    /// Publishes what the broker holds and has moved as retained messages below `$SYS/broker/`, by the names and in the
    /// formats of mosquitto, each when it has changed: at once, and then at multiples of `interval` of the clock on the
    /// wall. Default 0, off: nothing is published there. Otherwise 1 second to 1 day; other values are moved into that
    /// range. [`Broker::set_sys_interval`] changes it while the broker runs.
    ///
    /// Clients need a subscription such as `$SYS/#`, which `#` does not include, and access rules that let them receive
    /// the topics. The messages are of QoS 2 and are in the [`Ledger`] like any other; one without a subscriber counts
    /// as [`FilterReason::NoSubscription`](crate::FilterReason::NoSubscription). They do not count for
    /// [`Limits::retained_messages_max`] and [`Limits::retained_bytes_max`], because their number is fixed.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, SubscriptionOptions, TopicFilter};
    ///
    /// block_on(async {
    ///     let broker = Broker::builder().sys_interval(Duration::from_secs(10)).build();
    ///     let mut client = broker.client("host-program")?;
    ///     client.subscribe(&TopicFilter::new("$SYS/broker/uptime")?, SubscriptionOptions::default()).await?;
    ///     let uptime = client.recv().await.ok_or("the broker has stopped")?;
    ///     assert!(String::from_utf8_lossy(uptime.payload()).ends_with(" seconds"));
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sys_interval(mut self, interval: Duration) -> BrokerBuilder {
        self.sys_interval = interval;
        self
    }

    /// Makes the broker. [`Limits::in_range`] moves every limit into its range: a queue of 0 messages becomes a
    /// queue of 1. [`Broker::limits`] returns the limits in force. If the event loops cannot be started, the
    /// broker uses the global executor; [`BrokerBuilder::try_build`] returns an error instead.
    #[must_use]
    pub fn build(self) -> Broker {
        let event_loops = self.start_event_loops().unwrap_or_else(|error| {
            warn!("{error}; the global executor is used");
            None
        });
        self.build_on(event_loops)
    }

    /// As [`BrokerBuilder::build`], but fails if the event loops cannot be started.
    ///
    /// # Errors
    /// [`BuildError::EventLoops`]. Event loops that were started have ended by then, and their file descriptors
    /// are closed.
    ///
    /// ```
    /// use hrotti::Broker;
    ///
    /// let threads = if cfg!(target_os = "linux") { 2 } else { 0 };
    /// let broker = Broker::builder().event_loops(threads).try_build()?;
    /// # drop(broker);
    /// # Ok::<(), hrotti::BuildError>(())
    /// ```
    pub fn try_build(self) -> Result<Broker, BuildError> {
        let event_loops = self.start_event_loops()?;
        Ok(self.build_on(event_loops))
    }

    fn start_event_loops(&self) -> Result<Option<EventLoops>, BuildError> {
        let threads = self.event_loops;
        let started = (threads > 0).then(|| EventLoops::start(threads));
        started.transpose().map_err(|source| BuildError::EventLoops { threads, source })
    }

    fn build_on(self, event_loops: Option<EventLoops>) -> Broker {
        self.build_in(Host::stock(event_loops))
    }

    pub(crate) fn build_in(self, host: Host) -> Broker {
        let access = AccessControl::new(self.policy, self.denied_publish);
        let broker = Broker::on(host, self.limits, access);
        broker.set_sys_interval(self.sys_interval);
        broker
    }
}

impl Broker {
    /// Makes a broker without listeners, with default limits except `max_queue_depth`: the number of messages
    /// that may wait for a Client before newer messages for it are thrown away, 1 to 1 000 000 000 (0 is
    /// raised to 1). A message waits until the transport has accepted all of it. Messages that are thrown away
    /// count as [`DropReason::QueueFull`](crate::DropReason::QueueFull).
    #[must_use]
    pub fn new(max_queue_depth: usize) -> Broker {
        Broker::builder().max_queue_depth(max_queue_depth).build()
    }

    /// A builder with default limits and no event loops.
    #[must_use]
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    fn on(host: Host, limits: Limits, access: AccessControl) -> Broker {
        let engine = Arc::new(Engine::new(limits.in_range(), host, access));
        engine.host.spawn_aside(turn_wheel(Arc::downgrade(&engine)));
        let listeners = Arc::new(Listeners::default());
        let lifecycle = Arc::new(Lifecycle::new());
        Broker { last: Arc::new(StopOnDrop { engine, listeners, lifecycle }) }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.last.engine
    }

    pub(crate) fn listening(&self) -> &Arc<Listeners> {
        &self.last.listeners
    }

    /// The limits in force, each in its range.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        self.engine().limits()
    }

    /// Puts other limits in force, each moved into its range. Totals, such as [`Limits::sessions_max`], hold at once:
    /// what exceeds a lower one stays, and nothing is added. A Network Connection keeps the limits that it began with,
    /// and a Session its [`Limits::max_queue_depth`] and [`Limits::queue_bytes_max`]. The table of the README says for
    /// each limit from when it holds.
    ///
    /// Three kinds are read by others than the broker. The limits of transports (`tcp_…`, `ws_…`,
    /// [`Limits::proxy_header_bytes_max`], [`Limits::tls_sessions_max`]) hold for transports that are bound with them, and
    /// those of access ([`Limits::hashing_threads`], [`Limits::hashes_waiting_max`], [`Limits::bans_max`]) for policies that
    /// are made with them. [`Server::reload`](crate::Server::reload) makes them anew.
    ///
    /// ```
    /// use hrotti::{Broker, Limits};
    ///
    /// let broker = Broker::new(100);
    /// broker.set_limits(Limits { sessions_max: 0, max_inflight: 20, ..Limits::default() });
    /// assert_eq!((broker.limits().sessions_max, broker.limits().max_inflight), (1, 20));
    /// ```
    pub fn set_limits(&self, limits: Limits) {
        let engine = self.engine();
        engine.set_limits(limits.in_range());
        self.listening().set_limits(engine);
    }

    /// Adds a listener on the URL of a [`ListenerConfig`] and returns the endpoint that was bound, with the
    /// port that the operating system chose if the URL has port 0. If the host has several addresses, all are
    /// bound and the first is returned, an IPv4 address if there is one. May be called at any time.
    ///
    /// # Errors
    /// [`ListenerError`]: the name is in use, the configuration is not valid, the address cannot be bound,
    /// or the broker was stopped. Nothing stays bound.
    ///
    /// # Cancel safety
    /// Dropping the future before it is finished leaves no listener.
    pub async fn add_listener(
        &self,
        name: &str,
        config: ListenerConfig,
    ) -> Result<String, ListenerError> {
        if self.listening().has(name) {
            return Err(ListenerError::NameInUse(name.to_owned()));
        }
        config.validate().map_err(ListenerError::Config)?;
        let bound = config.bind(&self.limits()).await;
        let transport =
            bound.map_err(|source| ListenerError::Bind { url: config.to_string(), source })?;
        self.add_transport_with(name, transport, config.rules).await
    }

    /// Adds a listener on a transport that is already bound, and returns its [`Transport::local_endpoint`]. May
    /// be called at any time.
    ///
    /// # Errors
    /// [`ListenerError::NameInUse`] or [`ListenerError::Stopped`]; the transport is dropped.
    ///
    /// # Cancel safety
    /// The first poll adds the listener and finishes the future.
    pub async fn add_transport<T: Transport>(
        &self,
        name: &str,
        transport: T,
    ) -> Result<String, ListenerError> {
        self.add_transport_with(name, transport, ListenerRules::default()).await
    }

    /// As [`Broker::add_transport`], with rules for the peers. [`ListenerRules::proxy_protocol`] and
    /// [`ListenerRules::forwarded_for`] have no effect here: wrap the transport in
    /// [`ProxyProtocol`](crate::transport::proxy_protocol::ProxyProtocol), or bind it by a [`ListenerConfig`].
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::transport::memory::MemoryTransport;
    /// use hrotti::{Broker, ListenerRules, QoS};
    ///
    /// let broker = Broker::new(100);
    /// let mut rules = ListenerRules::default();
    /// rules.qos_max = QoS::AtLeastOnce;
    /// let (transport, connector) = MemoryTransport::new("inside", 1024);
    /// block_on(broker.add_transport_with("inside", transport, rules))?;
    /// # drop(connector);
    /// # Ok::<(), hrotti::ListenerError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Broker::add_transport`].
    ///
    /// # Cancel safety
    /// As [`Broker::add_transport`].
    pub async fn add_transport_with<T: Transport>(
        &self,
        name: &str,
        transport: T,
        rules: ListenerRules,
    ) -> Result<String, ListenerError> {
        let endpoint = transport.local_endpoint();
        self.accept_on(name, transport, rules)?;
        Ok(endpoint)
    }

    /// [`Broker::add_transport_with`], which waits for nothing.
    pub(crate) fn accept_on<T: Transport>(
        &self,
        name: &str,
        transport: T,
        rules: ListenerRules,
    ) -> Result<Arc<Listener>, ListenerError> {
        match self.engine() {
            engine if engine.is_stopping() => return Err(ListenerError::Stopped),
            engine if engine.standstill.is_closing() => return Err(ListenerError::HandingOver),
            _ => {}
        }
        let endpoints = transport.local_endpoints();
        let added = self.listening().add(self.engine(), name, transport, rules);
        let listener = added.map_err(ListenerError::NameInUse)?;
        // A stop that began meanwhile may have missed it.
        if self.engine().is_stopping() {
            if let Some(late) = self.listening().take(name) {
                late.stop_accepting();
                late.order(Order::ShuttingDown);
            }
            return Err(ListenerError::Stopped);
        }
        let engine = self.engine();
        engine.announcer.announce(|| Happening::ListenerAdded { name: name.to_owned(), endpoints });
        Ok(listener)
    }

    /// Stops a listener: frees its address and disconnects all Clients that connected through it (MQTT 5: 0x98).
    /// Their Wills and Sessions follow the rules of the standard. Returns when all of them are disconnected, at
    /// the latest after [`Limits::stop_timeout`].
    ///
    /// # Errors
    /// [`ListenerError::Unknown`] if the broker has no listener of this name.
    ///
    /// # Cancel safety
    /// The first poll begins the stop. Dropping the future ends the waiting, not the stop.
    pub async fn stop_listener(&self, name: &str) -> Result<(), ListenerError> {
        self.begin_to_stop_listener(name)?.await;
        Ok(())
    }

    /// The part of [`Broker::stop_listener`] that waits for nothing, and a future that waits for the rest.
    pub(crate) fn begin_to_stop_listener(
        &self,
        name: &str,
    ) -> Result<impl Future<Output = ()> + Send + use<>, ListenerError> {
        let listener = self.listening().take(name);
        let listener = listener.ok_or_else(|| ListenerError::Unknown(name.to_owned()))?;
        listener.stop_accepting();
        listener.order(Order::ListenerStopped);
        let (engine, name) = (self.engine().clone(), name.to_owned());
        let (gone, wait) = async_channel::bounded::<()>(1);
        // A task of its own, so that the stop comes to its end whether anybody waits for it or not.
        self.engine().host.spawn_aside(async move {
            let timeout = engine.limits().stop_timeout;
            if engine.host.timeout(timeout, listener.gone()).await.is_none() {
                listener.order(Order::Abort);
                listener.gone().await;
            }
            let stopped = || Happening::ListenerStopped { name };
            engine.announcer.announce(stopped);
            drop(gone);
        });
        // Nothing is ever sent: the channel ends with the task.
        Ok(async move { while wait.recv().await.is_ok() {} })
    }

    /// Replaces certificate, key, authorities and revocation lists of a TLS listener together, and what it demands of
    /// its Clients. Handshakes that begin afterwards use them; connections stay. Returns warnings, such as an expired
    /// certificate, which are logged, too.
    ///
    /// ```
    /// use hrotti::transport::memory::MemoryTransport;
    /// use hrotti::transport::tls::TlsMaterial;
    /// use hrotti::{Broker, ListenerError};
    ///
    /// let broker = Broker::new(100);
    /// let (transport, _connector) = MemoryTransport::new("inside", 1024);
    /// futures_lite::future::block_on(broker.add_transport("inside", transport))?;
    /// let replaced = broker.replace_tls("inside", &TlsMaterial::new("", ""));
    /// assert!(matches!(replaced, Err(ListenerError::NoTls(_))));
    /// # Ok::<(), ListenerError>(())
    /// ```
    ///
    /// # Errors
    /// [`ListenerError::Unknown`], [`ListenerError::NoTls`], or [`ListenerError::Tls`] if anything is wrong with the
    /// new material: then the old material stays in use.
    #[cfg(feature = "tls")]
    pub fn replace_tls(
        &self,
        listener: &str,
        material: &crate::transport::tls::TlsMaterial,
    ) -> Result<Vec<String>, ListenerError> {
        let found = self.listening().tls(listener);
        let handle = found.ok_or_else(|| ListenerError::Unknown(listener.to_owned()))?;
        let handle = handle.ok_or_else(|| ListenerError::NoTls(listener.to_owned()))?;
        handle.replace(material).map_err(|errors| ListenerError::Tls(errors.to_string()))
    }

    /// The listeners in the order in which they were added, without those that are stopping.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        self.listening().infos()
    }

    /// The listeners with duplicates of their sockets, for another process that takes them over. A listener on a
    /// transport without sockets has none. The addresses stay bound until this broker and every duplicate are gone.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, Limits, ListenerConfig};
    ///
    /// let (old, new) = (Broker::new(100), Broker::new(100));
    /// let config = ListenerConfig::new("tcp://127.0.0.1:0")?;
    /// let endpoint = block_on(old.add_listener("tcp", config.clone()))?;
    /// for (name, sockets) in old.listening_sockets()? {
    ///     let bound = block_on(config.adopt(sockets, &Limits::default()))?;
    ///     assert_eq!(block_on(new.add_transport(&name, bound))?, endpoint);
    /// }
    /// block_on(old.stop());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn listening_sockets(&self) -> io::Result<Vec<(String, Vec<ListeningSocket>)>> {
        let all = self.listening().sockets().into_iter();
        all.map(|(name, sockets)| Ok((name, sockets.duplicate()?))).collect()
    }

    /// Makes a client inside this process with the Client Identifier `id`, 1 to 65 535 bytes (MQTT-3.1.3-4). While
    /// the client lives, a CONNECT with its Client Identifier is refused with 0x85 (3.x: 0x02). A Session with this
    /// Client Identifier whose Client is not connected ends.
    ///
    /// # Errors
    /// [`ClientError`]: the Client Identifier is in use or not valid, [`Limits::sessions_max`] is reached, or
    /// the broker was stopped.
    pub fn client(&self, id: &str) -> Result<Client, ClientError> {
        Client::open(self.engine(), id, None)
    }

    /// As [`Broker::client`], for a client that acts as an identity of the access rules: the policy decides what it may
    /// publish, subscribe to and receive. Topic Names that are reserved for the Server are closed to it. It is not
    /// authenticated: the caller vouches for the identity. When [`Identity::with_end`] has passed, its calls fail and
    /// its stream ends.
    ///
    /// # Errors
    /// As [`Broker::client`].
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use futures_lite::future::block_on;
    /// use hrotti::access::{Chain, Identity, Rule};
    /// use hrotti::{Broker, ClientError, Message, ReasonCode};
    ///
    /// block_on(async {
    ///     let broker = Broker::builder().policy(Arc::new(Chain::new(Vec::new()))).build();
    ///     let identity = Identity::new(Rule::named("a plug-in")).with_user_name("clock");
    ///     let client = broker.client_as("clock", identity)?;
    ///     let denied = client.publish(Message::new("time", "now")?).await;
    ///     assert_eq!(denied, Err(ClientError::Refused(ReasonCode::NOT_AUTHORIZED)));
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn client_as(&self, id: &str, identity: Identity) -> Result<Client, ClientError> {
        Client::open(self.engine(), id, Some(identity))
    }

    /// Replaces the access rules, or removes them. Every decision that was remembered is void when the call returns.
    /// Soon after, each Client that is connected is asked for by [`Policy::validity`], and its connection is closed
    /// with 0x98 if the new policy refuses it or does not vouch for it, or if it connected while there was no policy.
    /// Subscriptions stay; what they deliver follows the new rules.
    ///
    /// A Session without a connection is asked for, too. If its Client would not be let in, the Session and its queue
    /// stay until it expires, and its Will is not published. It gets no message of a shared subscription, so that none
    /// waits there for a Client that cannot come, until the Client has been let in again.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use hrotti::Broker;
    /// use hrotti::access::Chain;
    ///
    /// let broker = Broker::new(100);
    /// broker.set_policy(Some(Arc::new(Chain::new(Vec::new()))));
    /// broker.set_policy(None);
    /// ```
    pub fn set_policy(&self, policy: Option<Arc<dyn Policy>>) {
        self.engine().set_policy(policy);
    }

    /// Sets what a PUBLISH of MQTT 3.x that the policy denies leads to, from now on.
    pub fn set_denied_publish(&self, effect: DeniedPublish) {
        self.engine().access.set_denied_publish(effect);
    }

    /// Says that the policy decides otherwise than before: a file was read anew, a user was banned. The effect is that
    /// of [`Broker::set_policy`] with the same policy.
    pub fn policy_changed(&self) {
        self.engine().policy_changed();
    }

    /// All Sessions, whether their Clients are connected or not, ordered by Client Identifier.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let (cells, now) = (self.engine().registry.snapshot(), self.engine().now());
        let mut infos: Vec<_> =
            cells.iter().filter_map(|cell| SessionInfo::of(cell, now)).collect();
        infos.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        infos
    }

    /// The outcomes of all messages since the broker was made, over all Sessions. Sessions are read one after the
    /// other, each under its lock: while messages flow, the sum is approximately that of this moment.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.engine().ledger()
    }

    /// What the broker holds now, and how often each limit refused something since the broker was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.engine().counters()
    }

    /// Publishes the topics below `$SYS/broker/` every `interval` from now on, as [`BrokerBuilder::sys_interval`] says. 0
    /// switches them off and removes them from the retained messages; nothing is sent to their subscribers then. The
    /// present interval has no effect.
    pub fn set_sys_interval(&self, interval: Duration) {
        self.engine().set_sys_interval(interval);
    }

    /// What the broker has moved since it was made: packets, bytes, connections and their ends.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.engine().traffic()
    }

    /// A stream of what happens from now on: Clients that come, go or are refused, subscriptions, denials, slow Sessions,
    /// dropped messages, listeners. Any number of receivers may exist. A receiver holds up to 1 024 events; one that lags
    /// loses the oldest and is told how many. Without a receiver no event is made.
    ///
    /// The first receiver notes what each Session has dropped by then, which takes about a tenth of a microsecond a
    /// Session. While there is a receiver, dropped messages are summed up once a second.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, Happening, ListenerConfig};
    ///
    /// block_on(async {
    ///     let broker = Broker::new(100);
    ///     let mut events = broker.events();
    ///     broker.add_listener("test", ListenerConfig::new("tcp://127.0.0.1:0")?).await?;
    ///     let event = events.next().await.ok_or("the broker has stopped")??;
    ///     assert!(matches!(&event.what, Happening::ListenerAdded { name, .. } if name == "test"));
    ///     broker.stop().await;
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        self.engine().receive_events()
    }

    /// Returns when every event loop of the broker has run a task that was given to it now, so it does not return while a
    /// loop is stuck: a watchdog calls it with a timeout. Without event loops the task runs on the global executor.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::Broker;
    ///
    /// let broker = Broker::builder().event_loops(if cfg!(target_os = "linux") { 2 } else { 0 }).try_build()?;
    /// block_on(broker.heartbeat());
    /// # Ok::<(), hrotti::BuildError>(())
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future ends the waiting. The tasks do nothing else.
    pub async fn heartbeat(&self) {
        let (alive, all_ran) = async_channel::bounded::<()>(1);
        self.engine().host.spawn_on_each(|| {
            let alive = alive.clone();
            async move { drop(alive) }
        });
        drop(alive);
        // Nothing is ever sent: the channel ends with its last sender.
        while all_ran.recv().await.is_ok() {}
    }

    /// Stops the broker within [`Limits::stop_timeout`]; see [`Broker::stop_within`].
    ///
    /// # Cancel safety
    /// As [`Broker::stop_within`].
    pub async fn stop(&self) {
        self.stop_within(self.limits().stop_timeout).await;
    }

    /// Stops the broker: it accepts and reads nothing more, publishes all Wills including delayed ones, sends
    /// waiting messages, sends DISCONNECT with 0x8B to MQTT 5 Clients, and closes all connections. Messages that
    /// are unsent at the deadline are dropped. A stopped broker cannot be started again.
    ///
    /// A broker stops once: all callers, those of [`Broker::stop`] included, wait for the same stop, and the
    /// earliest of their deadlines counts. If the broker has already stopped, the call returns at once.
    ///
    /// # Cancel safety
    /// The first poll begins the stop. Dropping the future ends the waiting, not the stop.
    pub async fn stop_within(&self, deadline: Duration) {
        let StopOnDrop { engine, listeners, lifecycle } = &*self.last;
        lifecycle.stop(engine, listeners, deadline);
        lifecycle.stopped().await;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let timeout = self.engine.limits().stop_timeout;
        self.lifecycle.stop(&self.engine, &self.listeners, timeout);
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("listeners", &self.listeners()).finish_non_exhaustive()
    }
}

/// Lets time pass for one broker, until it is gone.
async fn turn_wheel(engine: Weak<Engine>) {
    let tick = Duration::from_millis(TICK_MILLIS);
    while let Some(sleep) = engine.upgrade().map(|engine| engine.host.tick(tick)) {
        sleep.await;
        if let Some(engine) = engine.upgrade() {
            engine.tick().await;
        }
    }
}
