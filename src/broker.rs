//! The broker: the handle that people hold.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use log::warn;

use crate::counters::Counters;
use crate::engine::access::AccessControl;
use crate::engine::state::Engine;
use crate::engine::timers::{Order, TICK_MILLIS};
use crate::host::Host;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::listener_config::{ListenerConfig, ListenerConfigError};
use crate::net::listener::{ListenerInfo, Listeners};
use crate::runtime::EventLoops;
use crate::transport::Transport;

mod client;
mod lifecycle;
mod session_info;

pub use client::{Client, ClientError, Published};
pub use session_info::SessionInfo;

use lifecycle::Lifecycle;

/// An MQTT server: Sessions, subscriptions and retained messages, and the listeners by which Clients come.
///
/// A cheap handle: clones are the same broker. Dropping the last one stops it as [`Broker::stop`] does,
/// without waiting. Several brokers live in one process and share nothing. It installs no logger, never
/// exits the process, and runs its tasks on async-std's global executor, which starts on first use; its
/// methods may be called from any executor.
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

/// Gone with the last [`Broker`], which stops it.
struct StopOnDrop {
    engine: Arc<Engine>,
    listeners: Arc<Listeners>,
    lifecycle: Arc<Lifecycle>,
}

/// Makes a [`Broker`] with other limits than the default ones.
///
/// ```
/// use hrotti::{Broker, Limits};
///
/// let limits = Limits { connections_max: 50, ..Limits::default() };
/// let broker = Broker::builder().limits(limits).max_queue_depth(1_000).build();
/// assert_eq!(broker.limits().connections_max, 50);
/// assert_eq!(broker.limits().max_queue_depth, 1_000);
/// ```
#[derive(Debug, Clone, Default)]
pub struct BrokerBuilder {
    limits: Limits,
    event_loops: usize,
}

impl BrokerBuilder {
    /// Sets all limits, also those that were set before.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> BrokerBuilder {
        self.limits = limits;
        self
    }

    /// Sets [`Limits::max_queue_depth`]: messages that may wait for one Client, 1 to 1 000 000 000 (0 is
    /// raised to 1). Default 100. A newer one that finds the queue full is thrown away and counted.
    #[must_use]
    pub fn max_queue_depth(mut self, messages: usize) -> BrokerBuilder {
        self.limits.max_queue_depth = messages;
        self
    }

    /// Runs the tasks of listeners and of Network Connections on so many threads of the broker's own, each an
    /// event loop, instead of async-std's global executor. Default 0: on the global executor.
    ///
    /// TCP and WebSocket cost less so, most of all at low load. Other transports work on either. Where the
    /// platform has no such loops (anything but Linux) or gives no thread, the global executor is used,
    /// and the log says so.
    #[must_use]
    pub fn event_loops(mut self, threads: usize) -> BrokerBuilder {
        self.event_loops = threads;
        self
    }

    /// Makes the broker, with every limit moved into its range by [`Limits::in_range`]: what a limit of
    /// its kind can never be (a queue of 0 messages) becomes the nearest that it can.
    /// [`Broker::limits`] tells what came of it. Without the event loops that were asked for, it uses the
    /// global executor; [`BrokerBuilder::try_build`] returns an error instead.
    #[must_use]
    pub fn build(self) -> Broker {
        let event_loops = self.start_event_loops().unwrap_or_else(|error| {
            warn!("{error}; the global executor is used");
            None
        });
        self.build_on(event_loops)
    }

    /// As [`BrokerBuilder::build`], or an error where the event loops that were asked for cannot be started.
    ///
    /// # Errors
    /// [`BuildError::EventLoops`]; no thread and no descriptor is left behind.
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
        Broker::on(Host::stock(event_loops), self.limits, AccessControl::default())
    }
}

/// Why [`BrokerBuilder::try_build`] makes no broker.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The event loops cannot be started.
    EventLoops {
        /// How many were asked for.
        threads: usize,
        /// What the operating system says: it gives no thread or no descriptor, or it has no such loops.
        source: io::Error,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BuildError::EventLoops { threads, source } = self;
        write!(f, "{threads} event loops cannot be started: {source}")
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let BuildError::EventLoops { source, .. } = self;
        Some(source)
    }
}

/// Why a listener cannot be added or stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenerError {
    /// There is a listener of this name.
    NameInUse(String),
    /// There is no listener of this name.
    Unknown(String),
    /// The configuration is not valid.
    Config(ListenerConfigError),
    /// The address cannot be bound.
    Bind {
        /// Where it should have listened.
        url: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The broker has been stopped.
    Stopped,
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerError::NameInUse(name) => {
                write!(f, "there is a listener named {name:?} already")
            }
            ListenerError::Unknown(name) => write!(f, "there is no listener named {name:?}"),
            ListenerError::Config(error) => error.fmt(f),
            ListenerError::Bind { url, source } => write!(f, "cannot listen on {url}: {source}"),
            ListenerError::Stopped => f.write_str("the broker has been stopped"),
        }
    }
}

impl std::error::Error for ListenerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ListenerError::Config(error) => Some(error),
            ListenerError::Bind { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Broker {
    /// A broker with no listeners, and default limits but for `max_queue_depth`: the number of messages
    /// that may wait for a Client before newer ones for it are thrown away, 1 to 1 000 000 000 (0 is
    /// raised to 1). Waiting is what the transport has not wholly accepted; what is thrown away is counted
    /// as [`DropReason::QueueFull`](crate::DropReason::QueueFull).
    #[must_use]
    pub fn new(max_queue_depth: usize) -> Broker {
        Broker::builder().max_queue_depth(max_queue_depth).build()
    }

    /// A broker with other limits; all have their defaults at first.
    #[must_use]
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    pub(crate) fn on(host: Host, limits: Limits, access: AccessControl) -> Broker {
        let engine = Arc::new(Engine::new(limits.in_range(), host, access));
        engine.host.spawn_aside(turn_wheel(Arc::downgrade(&engine)));
        let listeners = Arc::new(Listeners::default());
        let lifecycle = Arc::new(Lifecycle::new());
        Broker { last: Arc::new(StopOnDrop { engine, listeners, lifecycle }) }
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.last.engine
    }

    fn listening(&self) -> &Listeners {
        &self.last.listeners
    }

    /// The limits in force, each in its range.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.engine().limits
    }

    /// Listens where `config` says, for `tcp://`, `mqtt://` or `ws://`, and returns the address really bound:
    /// port 0 lets the operating system choose one. Where a host has several addresses, it is the first,
    /// one of IPv4 if there is one. May be called at any time.
    ///
    /// # Errors
    /// [`ListenerError`]: the name is in use, the configuration is not valid, the address cannot be bound,
    /// or the broker was stopped. Nothing is left behind then.
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
        let bound = config.bind(self.limits()).await;
        let transport =
            bound.map_err(|source| ListenerError::Bind { url: config.url.to_string(), source })?;
        self.add_transport(name, transport).await
    }

    /// Accepts Clients from a transport, which is bound already. May be called at any time. Returns
    /// [`Transport::local_endpoint`].
    ///
    /// # Errors
    /// [`ListenerError::NameInUse`], or [`ListenerError::Stopped`]; the transport is dropped then.
    ///
    /// # Cancel safety
    /// Nothing is awaited: the listener is there once the future was polled.
    pub async fn add_transport<T: Transport>(
        &self,
        name: &str,
        transport: T,
    ) -> Result<String, ListenerError> {
        if self.engine().is_stopping() {
            return Err(ListenerError::Stopped);
        }
        let added = self.listening().add(self.engine(), name, transport);
        let endpoint = added.map_err(ListenerError::NameInUse)?;
        // A stop that began meanwhile may have missed it.
        if self.engine().is_stopping() {
            if let Some(late) = self.listening().take(name) {
                late.stop_accepting();
                late.order(Order::ShuttingDown);
            }
            return Err(ListenerError::Stopped);
        }
        Ok(endpoint)
    }

    /// Stops a listener: its address is free again, and all Clients that came by it are disconnected
    /// (MQTT 5: 0x98), with their Wills and Sessions treated by the rules of the standard. Returns when
    /// that is done, at the latest after [`Limits::stop_timeout`].
    ///
    /// # Errors
    /// [`ListenerError::Unknown`] if there is no listener of this name.
    ///
    /// # Cancel safety
    /// The listener is stopped once the future was polled; only the waiting can be cancelled.
    pub async fn stop_listener(&self, name: &str) -> Result<(), ListenerError> {
        let listener = self.listening().take(name);
        let listener = listener.ok_or_else(|| ListenerError::Unknown(name.to_owned()))?;
        listener.stop_accepting();
        listener.order(Order::ListenerStopped);
        let timeout = self.limits().stop_timeout;
        if self.engine().host.timeout(timeout, listener.gone()).await.is_none() {
            listener.order(Order::Abort);
            listener.gone().await;
        }
        Ok(())
    }

    /// The listeners, in the order in which they were added. One that is stopping is not among them.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        self.listening().infos()
    }

    /// A client inside this process, 1 to 65 535 bytes of `id` (MQTT-3.1.3-4). While it lives, a CONNECT
    /// with its Client Identifier is refused with 0x85 (3.x: 0x02); a Session of that name that is away
    /// ends.
    ///
    /// # Errors
    /// [`ClientError`]: the Client Identifier is in use or none, [`Limits::sessions_max`] is reached, or
    /// the broker was stopped.
    pub fn client(&self, id: &str) -> Result<Client, ClientError> {
        Client::open(self.engine(), id)
    }

    /// All Sessions, connected or away, by Client Identifier.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let cells = self.engine().registry.snapshot();
        let mut infos: Vec<_> = cells.iter().filter_map(|cell| SessionInfo::of(cell)).collect();
        infos.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        infos
    }

    /// What was offered to all Sessions since the broker was made, and what became of it. Each Session is
    /// read under its lock, one after the other: while messages flow, the sum is of about this moment.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.engine().ledger()
    }

    /// What is held now, and what limits have refused since the broker was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.engine().counters()
    }

    /// Stops the broker in good order, within [`Limits::stop_timeout`]; see [`Broker::stop_within`].
    ///
    /// # Cancel safety
    /// As [`Broker::stop_within`].
    pub async fn stop(&self) {
        self.stop_within(self.limits().stop_timeout).await;
    }

    /// Stops the broker: nothing is accepted or read any more, all Wills are published, delayed ones too,
    /// what waits is sent, MQTT 5 Clients are told (0x8B), and everything is closed. What has not been
    /// sent at the deadline is dropped. A stopped broker cannot be started again.
    ///
    /// There is one stop: every caller, also of [`Broker::stop`], waits for it, and the earliest deadline of all
    /// counts. A broker that is stopped already is told so at once.
    ///
    /// # Cancel safety
    /// Once polled, the broker stops by the deadline, whether the future is finished or not.
    pub async fn stop_within(&self, deadline: Duration) {
        let StopOnDrop { engine, listeners, lifecycle } = &*self.last;
        lifecycle.stop(engine, listeners, deadline);
        lifecycle.stopped().await;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.lifecycle.stop(&self.engine, &self.listeners, self.engine.limits.stop_timeout);
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
