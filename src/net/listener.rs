//! Listeners: accept peers, run each peer's handshake and connection in a task, and stop.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ahash::RandomState;
use async_channel::{Receiver, Sender};
use async_lock::{Semaphore, SemaphoreGuardArc};
use atomic_waker::AtomicWaker;
use futures_lite::future;
use hashbrown::HashMap;
use log::{debug, info, warn};

use super::driver::{Admission, Driver};
use super::rates::AddressRates;
use crate::counters::count_one;
use crate::engine::outbox::transport_panicked;
use crate::engine::state::Engine;
use crate::engine::timers::{Mailbox, Order};
use crate::listener_rules::ListenerRules;
use crate::network::Network;
use crate::sync::lock;
use crate::transport::tcp::is_exhausted;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsHandle;
use crate::transport::{AcceptedBy, Incoming, ListeningSockets, PeerInfo, Transport};

/// The first pause after the transport could not accept.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);

/// The longest pause after the transport could not accept, several times in a row.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Peers that are accepted before other tasks of the same thread have their turn.
const ACCEPTED_PER_TURN: u64 = 16;

/// A listener of a [`Broker`](crate::Broker).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerInfo {
    /// The name of the listener.
    pub name: String,
    /// The bound endpoint: [`Transport::local_endpoint`].
    pub endpoint: String,
    /// All bound endpoints, `endpoint` first: a host name is bound at every address that it has.
    pub endpoints: Vec<String>,
    /// Network Connections of this listener at this moment, including those before CONNECT.
    pub connections: usize,
}

/// The listeners of one broker, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    all: Mutex<Vec<Arc<Listener>>>,
    /// How often each address connects, over all listeners; made with the first of them.
    addresses: OnceLock<Option<Arc<AddressRates>>>,
    numbers: AtomicU32,
}

/// One listener and its Network Connections.
pub(crate) struct Listener {
    /// Its name and rules, as its peers know them.
    by: Arc<AcceptedBy>,
    endpoint: String,
    endpoints: Vec<String>,
    sockets: ListeningSockets,
    /// The material of a TLS listener.
    #[cfg(feature = "tls")]
    tls: Option<TlsHandle>,
    /// Closed to stop accepting.
    stop: Sender<()>,
    pause: Pause,
    /// Closed when the accept loop and all connections are gone.
    gone: Receiver<()>,
    connections: Mutex<HashMap<u64, Arc<Mailbox>, RandomState>>,
    numbers: AtomicU64,
    addresses: Option<Arc<AddressRates>>,
}

impl Listeners {
    /// Adds a transport under a name that is not in use and begins to accept. Gives the name back if it is
    /// in use.
    pub(crate) fn add<T: Transport>(
        &self,
        engine: &Arc<Engine>,
        name: &str,
        transport: T,
        rules: ListenerRules,
    ) -> Result<String, String> {
        let endpoint = transport.local_endpoint();
        let (stop, stopped) = async_channel::bounded(1);
        let addresses = self
            .addresses
            .get_or_init(|| AddressRates::new(&engine.limits, &engine.hasher).map(Arc::new));
        let (alive, gone) = async_channel::bounded(1);
        let listener = Arc::new(Listener {
            by: Arc::new(AcceptedBy {
                name: name.into(),
                rules,
                number: self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
                connections: AtomicUsize::new(0),
            }),
            endpoint: endpoint.clone(),
            endpoints: transport.local_endpoints(),
            sockets: transport.sockets(),
            #[cfg(feature = "tls")]
            tls: transport.tls(),
            stop,
            pause: Pause::default(),
            gone,
            connections: Mutex::new(HashMap::with_hasher(engine.hasher.clone())),
            numbers: AtomicU64::new(0),
            addresses: addresses.clone(),
        });
        {
            let mut all = lock(&self.all);
            if all.iter().any(|listener| *listener.by.name == *name) {
                return Err(name.to_owned());
            }
            all.push(listener.clone());
        }
        let accepting = Accepting {
            engine: Arc::downgrade(engine),
            listener,
            stopped,
            alive,
            handshakes: Arc::new(Semaphore::new(engine.limits.handshakes_max.max(1))),
        };
        engine.host.spawn(accepting.run(transport));
        Ok(endpoint)
    }

    /// Takes a listener out.
    pub(crate) fn take(&self, name: &str) -> Option<Arc<Listener>> {
        let mut all = lock(&self.all);
        let index = all.iter().position(|listener| *listener.by.name == *name)?;
        Some(all.remove(index))
    }

    pub(crate) fn take_all(&self) -> Vec<Arc<Listener>> {
        std::mem::take(&mut *lock(&self.all))
    }

    /// All that are not stopping.
    pub(crate) fn present(&self) -> Vec<Arc<Listener>> {
        lock(&self.all).clone()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        lock(&self.all).iter().any(|listener| *listener.by.name == *name)
    }

    /// The handle of a listener's TLS material: `None` for an unknown listener, `Some(None)` for one without TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self, name: &str) -> Option<Option<TlsHandle>> {
        let all = lock(&self.all);
        all.iter().find(|listener| *listener.by.name == *name).map(|listener| listener.tls.clone())
    }

    /// The names of the listeners and their sockets.
    pub(crate) fn sockets(&self) -> Vec<(String, ListeningSockets)> {
        let named =
            |listener: &Arc<Listener>| (listener.by.name.to_string(), listener.sockets.clone());
        lock(&self.all).iter().map(named).collect()
    }

    pub(crate) fn infos(&self) -> Vec<ListenerInfo> {
        lock(&self.all).iter().map(|listener| listener.info()).collect()
    }
}

impl Listener {
    fn info(&self) -> ListenerInfo {
        ListenerInfo {
            name: self.by.name.to_string(),
            endpoint: self.endpoint.clone(),
            endpoints: self.endpoints.clone(),
            connections: lock(&self.connections).len(),
        }
    }

    /// Whether a peer may be a proxy, so that its own address says nothing of the Client.
    fn may_be_a_proxy(&self, peer: &PeerInfo) -> bool {
        let rules = &self.by.rules;
        let address = peer.address();
        rules.proxy_protocol.is_some()
            || address.is_some_and(|at| Network::any_contains(&rules.forwarded_for, at.ip()))
    }

    /// Whether a peer is let in. One that is not is counted.
    fn lets_in(&self, engine: &Engine, peer: &PeerInfo) -> bool {
        let address = peer.address().map(|address| address.ip());
        if !self.by.rules.lets_in(address) {
            count_one(&engine.counts.networks_refused);
            debug!("listener {:?} lets in no peer of the network of {peer}", self.by.name);
            return false;
        }
        let (Some(address), Some(rates)) = (address, &self.addresses) else { return true };
        let admits = rates.admits(address, engine.now());
        if !admits {
            count_one(&engine.counts.address_connects_refused);
            debug!("listener {:?}: {peer} connects too often", self.by.name);
        }
        admits
    }

    /// Stops accepting peers.
    pub(crate) fn stop_accepting(&self) {
        self.stop.close();
    }

    /// Accepts no peer until it goes on. Peers wait in the operating system meanwhile; those that were accepted have to
    /// be [ordered](Listener::order) to close.
    pub(crate) fn pause(&self) {
        self.pause.set(true);
    }

    pub(crate) fn go_on(&self) {
        self.pause.set(false);
    }

    /// Has the file of a Unix socket stay when the listener is gone, because another process has the socket.
    pub(crate) fn leave_files(&self) {
        self.sockets.keep_files(true);
    }

    /// Tells every connection to close.
    pub(crate) fn order(&self, order: Order) {
        for mailbox in lock(&self.connections).values() {
            mailbox.order(order);
        }
    }

    /// Waits until the address is free and all connections are gone.
    pub(crate) async fn gone(&self) {
        // Nothing is ever sent: the channel ends when its last sender is dropped.
        while self.gone.recv().await.is_ok() {}
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.by.name).finish_non_exhaustive()
    }
}

/// Keeps the accept loop from accepting.
#[derive(Default)]
struct Pause {
    set: AtomicBool,
    /// The accept loop.
    waker: AtomicWaker,
}

impl Pause {
    fn set(&self, set: bool) {
        self.set.store(set, Ordering::Release);
        self.waker.wake();
    }

    fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    async fn until(&self, set: bool) {
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.is_set() == set { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// The accept loop.
struct Accepting {
    engine: Weak<Engine>,
    listener: Arc<Listener>,
    stopped: Receiver<()>,
    alive: Sender<()>,
    handshakes: Arc<Semaphore>,
}

impl Accepting {
    async fn run<T: Transport>(self, mut transport: T) {
        let mut back_off = BACK_OFF_MIN;
        let mut accepted = 0_u64;
        info!(
            "listener {:?} accepts on {}",
            self.listener.by.name,
            self.listener.endpoints.join(" ")
        );
        while let Some(permit) = self.unless_stopped(self.permit()).await {
            match self.unless_stopped(contained(self.accept(&mut transport))).await {
                None => break,
                Some(Ok(incoming)) => {
                    back_off = BACK_OFF_MIN;
                    self.serve(incoming, permit);
                    accepted += 1;
                    if accepted.is_multiple_of(ACCEPTED_PER_TURN) {
                        future::yield_now().await;
                    }
                }
                Some(Err(error)) => {
                    warn!(
                        "listener {:?} cannot accept: {error}; next try in {back_off:?}",
                        self.listener.by.name
                    );
                    let Some(engine) = self.engine.upgrade() else { break };
                    self.unless_stopped(engine.host.sleep(back_off)).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
        info!("listener {:?} has stopped", self.listener.by.name);
    }

    /// The next peer. While the listener pauses, no call of the transport is under way.
    async fn accept<T: Transport>(&self, transport: &mut T) -> io::Result<Incoming> {
        loop {
            self.listener.pause.until(false).await;
            let paused = async {
                self.listener.pause.until(true).await;
                None
            };
            let accepted = future::or(paused, async { Some(transport.accept().await) }).await;
            if let Some(accepted) = accepted {
                return accepted;
            }
        }
    }

    async fn unless_stopped<R>(&self, work: impl Future<Output = R>) -> Option<R> {
        let stopped = async {
            while self.stopped.recv().await.is_ok() {}
            None
        };
        future::or(stopped, async { Some(work.await) }).await
    }

    /// Bounds the peers that are before CONNECT.
    async fn permit(&self) -> SemaphoreGuardArc {
        if let Some(permit) = self.handshakes.try_acquire_arc() {
            return permit;
        }
        if let Some(engine) = self.engine.upgrade() {
            count_one(&engine.counts.handshakes_waited);
        }
        self.handshakes.acquire_arc().await
    }

    /// Gives a peer its task.
    fn serve(&self, incoming: Incoming, permit: SemaphoreGuardArc) {
        let Some(engine) = self.engine.upgrade() else { return };
        let proxied = self.listener.may_be_a_proxy(&incoming.peer);
        // Before the handshake, which costs more than all else.
        if !proxied && !self.listener.lets_in(&engine, &incoming.peer) {
            return;
        }
        let mailbox = Arc::new(Mailbox::of_listener(self.listener.by.number));
        let number = self.listener.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.listener.connections).insert(number, mailbox.clone());
        let guard = Entered {
            number,
            listener: self.listener.clone(),
            permit: Some(permit),
            _alive: self.alive.clone(),
        };
        if self.stopped.is_closed() {
            mailbox.order(Order::ListenerStopped);
        } else if self.listener.pause.is_set() {
            mailbox.order(Order::ShuttingDown);
        }
        let handshake = shake_hands(engine.clone(), incoming, mailbox, guard);
        engine.host.spawn(Peer::ShakingHands(Box::pin(handshake)));
    }
}

/// One peer: handshake, then the connection. One task for both, and while it is connected no larger than
/// the connection: what the handshake needed is given back.
#[allow(clippy::large_enum_variant, reason = "the large one is the one that lasts")]
enum Peer {
    ShakingHands(Pin<Box<dyn Future<Output = Option<Driver>> + Send>>),
    Connected(Driver),
}

impl Future for Peer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Peer::ShakingHands(handshake) = &mut *self {
            match ready!(handshake.as_mut().poll(cx)) {
                Some(driver) => *self = Peer::Connected(driver),
                None => return Poll::Ready(()),
            }
        }
        match &mut *self {
            Peer::Connected(driver) => Pin::new(driver).poll(cx),
            Peer::ShakingHands(_) => Poll::Pending,
        }
    }
}

/// Finishes a peer's handshake and makes the driver of its stream; `None` if the handshake failed.
async fn shake_hands(
    engine: Arc<Engine>,
    incoming: Incoming,
    mailbox: Arc<Mailbox>,
    guard: Entered,
) -> Option<Driver> {
    let Incoming { mut peer, handshake } = incoming;
    peer.set_listener(&guard.listener.by);
    let proxied = guard.listener.may_be_a_proxy(&peer);
    let accepted_from = peer.address();
    let mut handshake = Box::pin(contained(handshake));
    // Most handshakes finish at once and need no timer.
    let shaken = match future::poll_once(&mut handshake).await {
        Some(done) => Some(done),
        None => {
            let limit = engine.limits.handshake_timeout;
            let ordered = async {
                mailbox.until_ordered().await;
                None
            };
            future::or(ordered, engine.host.timeout(limit, handshake)).await
        }
    };
    let stream = match shaken {
        Some(Ok(mut stream)) => {
            if let Some(learned) = stream.peer.take() {
                peer = *learned;
                peer.set_listener(&guard.listener.by);
            }
            stream
        }
        Some(Err(error)) => {
            let counts = &engine.counts;
            let exhausted = is_exhausted(&error);
            count_one(if exhausted {
                &counts.descriptors_exhausted
            } else {
                &counts.handshakes_failed
            });
            debug!("{peer}: the handshake failed: {}", escaped(&error));
            return None;
        }
        None => {
            if mailbox.ordered().is_none() {
                count_one(&engine.counts.handshakes_timed_out);
            }
            return None;
        }
    };
    let unseen = proxied || peer.address() != accepted_from;
    if unseen && !guard.listener.lets_in(&engine, &peer) {
        return None;
    }
    Some(Driver::new(engine, stream, peer, mailbox, Box::new(guard)))
}

/// A future of a transport, whose panic is an error of this peer, or of this attempt to accept one.
async fn contained<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(Err(transport_panicked())))
    })
    .await
}

/// An error may quote what the peer sent.
fn escaped(error: &io::Error) -> String {
    error.to_string().escape_debug().collect()
}

/// A connection's entry in the books of its listener; its drop removes the entry.
struct Entered {
    number: u64,
    listener: Arc<Listener>,
    permit: Option<SemaphoreGuardArc>,
    _alive: Sender<()>,
}

impl Admission for Entered {
    fn connected(&mut self) {
        self.permit = None;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.listener.connections).remove(&self.number);
    }
}
