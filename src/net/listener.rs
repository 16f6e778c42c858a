//! Listeners: accept peers, run each peer's handshake and connection in a task, and stop.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use ahash::RandomState;
use async_channel::{Receiver, Sender};
use async_lock::{Semaphore, SemaphoreGuardArc};
use atomic_waker::AtomicWaker;
use futures_lite::future;
use hashbrown::HashMap;
use log::{info, warn};

use super::driver::{Admission, Driver};
use super::rates::AddressRates;
use crate::counters::count_one;
use crate::engine::comings::Comer;
use crate::engine::outbox::transport_panicked;
use crate::engine::state::Engine;
use crate::engine::timers::{Mailbox, Order};
use crate::limits::Limits;
use crate::listener_rules::ListenerRules;
use crate::network::Network;
use crate::packet::{ProtocolVersion, ReasonCode};
use crate::sync::lock;
use crate::transport::tcp::is_exhausted;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsHandle;
use crate::transport::{AcceptedBy, Incoming, ListeningSockets, PeerInfo, Transport};

/// The first pause after the transport could not accept.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);

/// The longest pause after the transport could not accept, several times in a row.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Why a peer is refused before its CONNECT.
const NETWORK: &str = "the listener lets in no peer of this network";
const RATE: &str = "address_connects_per_sec_max: the address connects too often";
const LATE: &str = "handshake_timeout: the handshake was not finished in time";

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
    /// The URL that it was configured by: [`Transport::url`].
    pub url: Option<String>,
    /// What it asks of its peers.
    pub rules: ListenerRules,
    /// When it was added.
    pub since: SystemTime,
    /// Whether the file of its Unix socket stays when it stops: [`ListeningSockets::keep_files`].
    pub keeps_files: bool,
    /// When the first certificate of the chain that it shows to Clients expires; `None` without TLS.
    pub certificate_expires_at: Option<SystemTime>,
    /// Network Connections of this listener at this moment, including those before CONNECT.
    pub connections: usize,
    /// Network Connections with an accepted CONNECT, for each version of MQTT, the oldest first.
    pub versions: [(ProtocolVersion, usize); 3],
    /// Peers that its rules let in since it was added, including those whose handshake or CONNECT failed.
    pub accepted: u64,
    /// Peers that its rules did not let in since it was added, and CONNECTs that its rules refused.
    pub refused: u64,
}

/// The listeners of one broker, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    all: Mutex<Vec<Arc<Listener>>>,
    /// How often each address connects, over all listeners.
    addresses: Arc<Addresses>,
    numbers: AtomicU32,
}

/// How often each address connects; `None` without a limit, and before the first listener.
type Addresses = Mutex<Option<Arc<AddressRates>>>;

/// One listener and its Network Connections.
pub(crate) struct Listener {
    name: Box<str>,
    /// Its name and rules, as peers know them that come now.
    by: Mutex<Arc<AcceptedBy>>,
    endpoints: Vec<String>,
    sockets: Mutex<ListeningSockets>,
    url: Option<String>,
    since: SystemTime,
    /// The material of a TLS listener.
    #[cfg(feature = "tls")]
    tls: Mutex<Option<TlsHandle>>,
    /// Closed to end it: no peer is accepted, and handshakes end.
    stop: Sender<()>,
    stopped: Receiver<()>,
    /// Keeps the accept loop from accepting while the broker hands its state over.
    pause: Pause,
    /// Every accept loop and every connection has a clone; `None` after the stop.
    alive: Mutex<Option<Sender<()>>>,
    /// Closed when all of those are gone.
    gone: Receiver<()>,
    /// The present accept loop.
    accepting: Mutex<AcceptLoop>,
    connections: Mutex<HashMap<u64, Arc<Mailbox>, RandomState>>,
    numbers: AtomicU64,
    addresses: Arc<Addresses>,
    /// Bounds the peers that are before CONNECT.
    handshakes: Mutex<Arc<Semaphore>>,
}

/// How an accept loop is ended.
struct AcceptLoop {
    /// Closed to end it.
    stop: Sender<()>,
    /// Closed when its transport is gone.
    gone: Receiver<()>,
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
        let limits = engine.limits();
        let endpoint = transport.local_endpoint();
        let (stop, stopped) = async_channel::bounded(1);
        let (alive, gone) = async_channel::bounded(1);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let (accept_loop, ends) = AcceptLoop::new();
        let listener = Arc::new(Listener {
            name: name.into(),
            by: Mutex::new(Arc::new(AcceptedBy::new(name, rules, number))),
            endpoints: transport.local_endpoints(),
            sockets: Mutex::new(transport.sockets()),
            url: transport.url(),
            since: engine.host.wall(),
            #[cfg(feature = "tls")]
            tls: Mutex::new(transport.tls()),
            stop,
            stopped,
            pause: Pause::default(),
            alive: Mutex::new(Some(alive.clone())),
            gone,
            accepting: Mutex::new(accept_loop),
            connections: Mutex::new(HashMap::with_hasher(engine.hasher.clone())),
            numbers: AtomicU64::new(0),
            addresses: self.addresses.clone(),
            handshakes: Mutex::new(semaphore(&limits)),
        });
        {
            let mut all = lock(&self.all);
            if all.iter().any(|listener| *listener.name == *name) {
                return Err(name.to_owned());
            }
            if all.is_empty() {
                *lock(&self.addresses) = AddressRates::new(&limits, &engine.hasher).map(Arc::new);
            }
            all.push(listener.clone());
        }
        let accepting = Accepting { engine: Arc::downgrade(engine), listener, alive, ends };
        engine.host.spawn(accepting.run(transport));
        Ok(endpoint)
    }

    /// Accepts on another transport from now on. The connections stay. `false` if there is no such listener, or it is
    /// stopping.
    pub(crate) fn exchange<T: Transport>(
        &self,
        engine: &Arc<Engine>,
        name: &str,
        transport: T,
    ) -> bool {
        let Some(listener) = self.find(name) else { return false };
        let Some(alive) = lock(&listener.alive).clone() else { return false };
        let (accept_loop, ends) = AcceptLoop::new();
        #[cfg(feature = "tls")]
        {
            *lock(&listener.tls) = transport.tls();
        }
        *lock(&listener.sockets) = transport.sockets();
        std::mem::replace(&mut *lock(&listener.accepting), accept_loop).stop.close();
        let accepting = Accepting { engine: Arc::downgrade(engine), listener, alive, ends };
        engine.host.spawn(accepting.run(transport));
        true
    }

    /// Replaces the rules of a listener: for peers that come from now on, and its Clients look whether they may stay.
    pub(crate) fn set_rules(&self, name: &str, rules: ListenerRules) {
        let Some(listener) = self.find(name) else { return };
        {
            let mut by = lock(&listener.by);
            let next = by.replace(rules);
            *by = next;
        }
        listener.order(Order::ListenerRules);
    }

    /// Puts the limits of the engine in force.
    pub(crate) fn set_limits(&self, engine: &Engine) {
        let limits = engine.limits();
        let all = lock(&self.all);
        for listener in all.iter() {
            // Peers in a handshake keep their permits of the semaphore before.
            *lock(&listener.handshakes) = semaphore(&limits);
        }
        *lock(&self.addresses) = AddressRates::new(&limits, &engine.hasher).map(Arc::new);
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Listener>> {
        lock(&self.all).iter().find(|listener| *listener.name == *name).cloned()
    }

    /// Takes a listener out.
    pub(crate) fn take(&self, name: &str) -> Option<Arc<Listener>> {
        let mut all = lock(&self.all);
        let index = all.iter().position(|listener| *listener.name == *name)?;
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
        lock(&self.all).iter().any(|listener| *listener.name == *name)
    }

    /// The handle of a listener's TLS material: `None` for an unknown listener, `Some(None)` for one without TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self, name: &str) -> Option<Option<TlsHandle>> {
        let all = lock(&self.all);
        all.iter()
            .find(|listener| *listener.name == *name)
            .map(|listener| lock(&listener.tls).clone())
    }

    /// The most peers of one listener that have not sent CONNECT.
    pub(crate) fn most_handshakes(&self) -> usize {
        let all = lock(&self.all);
        let before_connect = all.iter().map(|listener| {
            let connected = listener.by().counts.connections.load(Ordering::Acquire);
            lock(&listener.connections).len().saturating_sub(connected)
        });
        before_connect.max().unwrap_or_default()
    }

    /// The names of the listeners and their sockets.
    pub(crate) fn sockets(&self) -> Vec<(String, ListeningSockets)> {
        let named =
            |listener: &Arc<Listener>| (listener.name.to_string(), lock(&listener.sockets).clone());
        lock(&self.all).iter().map(named).collect()
    }

    pub(crate) fn infos(&self) -> Vec<ListenerInfo> {
        lock(&self.all).iter().map(|listener| listener.info()).collect()
    }
}

impl Listener {
    fn info(&self) -> ListenerInfo {
        let by = self.by();
        ListenerInfo {
            name: self.name.to_string(),
            endpoint: self.endpoints.first().cloned().unwrap_or_default(),
            endpoints: self.endpoints.clone(),
            url: self.url.clone(),
            rules: by.rules.clone(),
            since: self.since,
            keeps_files: lock(&self.sockets).keeps_files(),
            certificate_expires_at: self.certificate_expires_at(),
            connections: lock(&self.connections).len(),
            versions: [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5]
                .map(|version| (version, by.of_version(version).load(Ordering::Acquire))),
            accepted: self.numbers.load(Ordering::Relaxed),
            refused: by.counts.refused.load(Ordering::Relaxed),
        }
    }

    #[cfg(feature = "tls")]
    fn certificate_expires_at(&self) -> Option<SystemTime> {
        lock(&self.tls).as_ref()?.certificate_expires_at()
    }

    #[cfg(not(feature = "tls"))]
    fn certificate_expires_at(&self) -> Option<SystemTime> {
        None
    }

    /// Its name and rules, as peers know them that come now.
    fn by(&self) -> Arc<AcceptedBy> {
        lock(&self.by).clone()
    }

    /// Whether a peer may be a proxy, so that its own address says nothing of the Client.
    fn may_be_a_proxy(&self, peer: &PeerInfo) -> bool {
        let by = self.by();
        let (rules, address) = (&by.rules, peer.address());
        rules.proxy_protocol.is_some()
            || address.is_some_and(|at| Network::any_contains(&rules.forwarded_for, at.ip()))
    }

    /// Whether a peer is let in. One that is not is counted.
    fn lets_in(&self, engine: &Engine, peer: &PeerInfo) -> bool {
        let address = peer.address().map(|address| address.ip());
        if !self.by().rules.lets_in(address) {
            count_one(&engine.counts.networks_refused);
            count_one(&self.by().counts.refused);
            self.refused(engine, peer, ReasonCode::NOT_AUTHORIZED, NETWORK);
            return false;
        }
        let Some(address) = address else { return true };
        let Some(rates) = lock(&self.addresses).clone() else { return true };
        let admits = rates.admits(address, engine.now());
        if !admits {
            count_one(&engine.counts.address_connects_refused);
            count_one(&self.by().counts.refused);
            self.refused(engine, peer, ReasonCode::CONNECTION_RATE_EXCEEDED, RATE);
        }
        admits
    }

    /// Tells that a peer is refused before its CONNECT.
    fn refused(&self, engine: &Engine, peer: &PeerInfo, code: ReasonCode, why: &str) {
        let mut peer = peer.clone();
        peer.set_listener(&self.by());
        engine.comings.refused(Comer::unknown(&peer), code, why);
    }

    /// Stops accepting peers.
    pub(crate) fn stop_accepting(&self) {
        self.stop.close();
        lock(&self.alive).take();
        lock(&self.accepting).stop.close();
    }

    /// Ends the accept loop without ending the listener, and returns when the address is free.
    pub(crate) async fn free_address(&self) {
        let gone = {
            let accepting = lock(&self.accepting);
            accepting.stop.close();
            accepting.gone.clone()
        };
        while gone.recv().await.is_ok() {}
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
        lock(&self.sockets).keep_files(true);
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
        f.debug_struct("Listener").field("name", &self.name).finish_non_exhaustive()
    }
}

fn semaphore(limits: &Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits.handshakes_max.max(1)))
}

impl AcceptLoop {
    fn new() -> (AcceptLoop, Ends) {
        let (stop, stopped) = async_channel::bounded(1);
        let (here, gone) = async_channel::bounded(1);
        (AcceptLoop { stop, gone }, Ends { stopped, _here: here })
    }
}

/// The other ends of the channels of an [`AcceptLoop`].
struct Ends {
    stopped: Receiver<()>,
    _here: Sender<()>,
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
    alive: Sender<()>,
    ends: Ends,
}

impl Accepting {
    async fn run<T: Transport>(self, mut transport: T) {
        let mut back_off = BACK_OFF_MIN;
        let mut accepted = 0_u64;
        info!(
            "listener {:?} accepts on {}",
            self.listener.name,
            transport.local_endpoints().join(" ")
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
                        self.listener.name
                    );
                    let Some(engine) = self.engine.upgrade() else { break };
                    self.unless_stopped(engine.host.sleep(back_off)).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
        // Before the word that the address is free.
        drop(transport);
        if self.listener.stopped.is_closed() {
            info!("listener {:?} has stopped", self.listener.name);
        }
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
            while self.ends.stopped.recv().await.is_ok() {}
            None
        };
        future::or(stopped, async { Some(work.await) }).await
    }

    /// Bounds the peers that are before CONNECT.
    async fn permit(&self) -> SemaphoreGuardArc {
        let handshakes = lock(&self.listener.handshakes).clone();
        if let Some(permit) = handshakes.try_acquire_arc() {
            return permit;
        }
        if let Some(engine) = self.engine.upgrade() {
            count_one(&engine.counts.handshakes_waited);
        }
        handshakes.acquire_arc().await
    }

    /// Gives a peer its task.
    fn serve(&self, incoming: Incoming, permit: SemaphoreGuardArc) {
        let Some(engine) = self.engine.upgrade() else { return };
        let proxied = self.listener.may_be_a_proxy(&incoming.peer);
        // Before the handshake, which costs more than all else.
        if !proxied && !self.listener.lets_in(&engine, &incoming.peer) {
            return;
        }
        let mailbox = Arc::new(Mailbox::of_listener(self.listener.by().number));
        let number = self.listener.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.listener.connections).insert(number, mailbox.clone());
        engine.traffic.socket_accepted();
        let guard = Entered {
            engine: self.engine.clone(),
            number,
            listener: self.listener.clone(),
            permit: Some(permit),
            _alive: self.alive.clone(),
        };
        let stopped = self.listener.stopped.clone();
        if stopped.is_closed() {
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
    peer.set_listener(&guard.listener.by());
    let proxied = guard.listener.may_be_a_proxy(&peer);
    let accepted_from = peer.address();
    let mut handshake = Box::pin(contained(handshake));
    // Most handshakes finish at once and need no timer.
    let shaken = match future::poll_once(&mut handshake).await {
        Some(done) => Some(done),
        None => {
            let limit = engine.limits().handshake_timeout;
            let ordered = async {
                mailbox.until_ordered_to_end().await;
                None
            };
            future::or(ordered, engine.host.timeout(limit, handshake)).await
        }
    };
    let stream = match shaken {
        Some(Ok(mut stream)) => {
            if let Some(learned) = stream.peer.take() {
                peer = *learned;
                peer.set_listener(&guard.listener.by());
            }
            stream
        }
        Some(Err(error)) => {
            let (comings, comer) = (&engine.comings, Comer::unknown(&peer));
            let why = format!("the handshake failed: {error}");
            if is_exhausted(&error) {
                // The transport writes that to the log, and less often.
                count_one(&engine.counts.descriptors_exhausted);
                comings.announce_refusal(comer, ReasonCode::SERVER_UNAVAILABLE, &why);
            } else {
                count_one(&engine.counts.handshakes_failed);
                comings.refused(comer, ReasonCode::UNSPECIFIED_ERROR, &why);
            }
            return None;
        }
        None => {
            if !mailbox.is_ordered_to_end() {
                count_one(&engine.counts.handshakes_timed_out);
                guard.listener.refused(&engine, &peer, ReasonCode::UNSPECIFIED_ERROR, LATE);
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

/// A connection's entry in the books of its listener; its drop removes the entry.
struct Entered {
    engine: Weak<Engine>,
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
        if let Some(engine) = self.engine.upgrade() {
            engine.traffic.socket_gone();
        }
    }
}
