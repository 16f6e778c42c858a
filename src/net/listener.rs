//! Listeners: accept peers, run each peer's handshake and connection in a task, and stop.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ahash::RandomState;
use async_channel::{Receiver, Sender};
use futures_lite::future;
use hashbrown::HashMap;
use log::{debug, info, warn};

use super::driver::{Admission, Driver};
use super::newcomers::{Cleared, Newcomers, Place};
use super::rates::AddressRates;
use crate::counters::{count_many, count_one};
use crate::engine::outbox::transport_panicked;
use crate::engine::state::Engine;
use crate::engine::timers::{Mailbox, Order};
use crate::listener_rules::ListenerRules;
use crate::network::Network;
use crate::runtime::noting_computations;
use crate::sync::lock;
use crate::time::Timestamp;
use crate::transport::tcp::is_exhausted;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsHandle;
use crate::transport::{AcceptedBy, ByteStream, Handshake, Incoming, PeerInfo, Transport};

/// The first pause after the transport could not accept.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);

/// The longest pause after the transport could not accept, several times in a row.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Peers that are accepted before other tasks of the same thread have their turn.
const ACCEPTED_PER_TURN: u64 = 4;

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
    /// The material of a TLS listener.
    #[cfg(feature = "tls")]
    tls: Option<TlsHandle>,
    /// Closed to stop accepting.
    stop: Sender<()>,
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
            #[cfg(feature = "tls")]
            tls: transport.tls(),
            stop,
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
            newcomers: Newcomers::new(engine.limits.handshakes_max),
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

    pub(crate) fn has(&self, name: &str) -> bool {
        lock(&self.all).iter().any(|listener| *listener.by.name == *name)
    }

    /// The handle of a listener's TLS material: `None` for an unknown listener, `Some(None)` for one without TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self, name: &str) -> Option<Option<TlsHandle>> {
        let all = lock(&self.all);
        all.iter().find(|listener| *listener.by.name == *name).map(|listener| listener.tls.clone())
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

/// The accept loop.
struct Accepting {
    engine: Weak<Engine>,
    listener: Arc<Listener>,
    stopped: Receiver<()>,
    alive: Sender<()>,
    newcomers: Arc<Newcomers>,
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
        while let Some(next) = self.unless_stopped(contained(transport.accept())).await {
            let Some(engine) = self.engine.upgrade() else { break };
            match next {
                Ok(incoming) => {
                    back_off = BACK_OFF_MIN;
                    if self.serve(engine, incoming).await.is_none() {
                        break;
                    }
                    accepted += 1;
                    if accepted.is_multiple_of(ACCEPTED_PER_TURN) {
                        future::yield_now().await;
                    }
                }
                Err(error) => {
                    warn!(
                        "listener {:?} cannot accept: {error}; next try in {back_off:?}",
                        self.listener.by.name
                    );
                    self.unless_stopped(engine.host.sleep(back_off)).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
        info!("listener {:?} has stopped", self.listener.by.name);
    }

    async fn unless_stopped<R>(&self, work: impl Future<Output = R>) -> Option<R> {
        let stopped = async {
            while self.stopped.recv().await.is_ok() {}
            None
        };
        future::or(stopped, async { Some(work.await) }).await
    }

    /// Gives a peer its task. `None` if the listener was stopped before there was a place for it.
    async fn serve(&self, engine: Arc<Engine>, incoming: Incoming) -> Option<()> {
        let proxied = self.listener.may_be_a_proxy(&incoming.peer);
        // Before the handshake, which costs more than all else.
        if !proxied && !self.listener.lets_in(&engine, &incoming.peer) {
            return Some(());
        }
        let place = match self.newcomers.take() {
            Some(place) => place,
            None => self.unless_stopped(self.make_room(&engine)).await?,
        };
        let mailbox = Arc::new(Mailbox::of_listener(self.listener.by.number));
        let number = self.listener.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.listener.connections).insert(number, mailbox.clone());
        let entered = Entered {
            number,
            listener: self.listener.clone(),
            place: Some(place),
            _alive: self.alive.clone(),
        };
        if self.stopped.is_closed() {
            mailbox.order(Order::ListenerStopped);
        }
        let shaking = ShakingHands::new(engine.clone(), incoming, mailbox, entered);
        engine.host.spawn(Peer::ShakingHands(Box::new(shaking)));
        Some(())
    }

    /// Waits for a place among the peers before CONNECT: that of one that has let the broker wait for long.
    async fn make_room(&self, engine: &Engine) -> Place {
        let mut waits = false;
        loop {
            let now = engine.now();
            match self.newcomers.clear(now) {
                Cleared::Some(left) => {
                    count_many(&engine.counts.handshakes_displaced, left);
                    return self.newcomers.wait().await;
                }
                Cleared::NotBefore(then) => {
                    if !std::mem::replace(&mut waits, true) {
                        count_one(&engine.counts.handshakes_waited);
                    }
                    let pause = Duration::from_millis(then.0.saturating_sub(now.0));
                    let place = engine.host.timeout(pause, self.newcomers.wait()).await;
                    if let Some(place) = place {
                        return place;
                    }
                }
            }
        }
    }
}

/// One peer: handshake, then the connection. One task for both, and while it is connected no larger than
/// the connection: what the handshake needed is given back.
#[allow(clippy::large_enum_variant, reason = "the large one is the one that lasts")]
enum Peer {
    ShakingHands(Box<ShakingHands>),
    Connected(Driver),
    Gone,
}

impl Future for Peer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Peer::ShakingHands(shaking) = &mut *self {
            let ended = ready!(shaking.poll(cx));
            let Peer::ShakingHands(shaken) = std::mem::replace(&mut *self, Peer::Gone) else {
                return Poll::Ready(());
            };
            match ended.and_then(|stream| shaken.connected(stream)) {
                Some(driver) => *self = Peer::Connected(driver),
                None => return Poll::Ready(()),
            }
        }
        match &mut *self {
            Peer::Connected(driver) => Pin::new(driver).poll(cx),
            Peer::ShakingHands(_) | Peer::Gone => Poll::Ready(()),
        }
    }
}

/// A peer in the handshake of its transport. It has no timer of its own: most handshakes finish at once.
struct ShakingHands {
    engine: Arc<Engine>,
    handshake: Handshake,
    peer: PeerInfo,
    mailbox: Arc<Mailbox>,
    entered: Entered,
    /// Set when it did not finish at once.
    deadline: Option<Timestamp>,
}

impl ShakingHands {
    fn new(
        engine: Arc<Engine>,
        incoming: Incoming,
        mailbox: Arc<Mailbox>,
        entered: Entered,
    ) -> ShakingHands {
        let Incoming { mut peer, handshake } = incoming;
        peer.set_listener(&entered.listener.by);
        ShakingHands { engine, handshake, peer, mailbox, entered, deadline: None }
    }

    /// Ready with the peer's stream, or with `None` if it is to be dropped.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<ByteStream>> {
        self.mailbox.register(cx.waker());
        if self.mailbox.ordered().is_some() {
            return Poll::Ready(None);
        }
        let handshake = self.handshake.as_mut();
        let (polled, computes) = noting_computations(|| poll_contained(handshake, cx));
        match polled {
            Poll::Ready(Ok(stream)) => Poll::Ready(Some(stream)),
            Poll::Ready(Err(error)) => {
                let counts = &self.engine.counts;
                let exhausted = is_exhausted(&error);
                count_one(if exhausted {
                    &counts.descriptors_exhausted
                } else {
                    &counts.handshakes_failed
                });
                debug!("{}: the handshake failed: {}", self.peer, escaped(&error));
                Poll::Ready(None)
            }
            Poll::Pending => self.look_at_time(computes),
        }
    }

    fn look_at_time(&mut self, computes: bool) -> Poll<Option<ByteStream>> {
        let now = self.engine.now();
        let timeout = self.engine.limits.handshake_timeout;
        let deadline = *self.deadline.get_or_insert_with(|| now.plus(timeout));
        if deadline <= now {
            count_one(&self.engine.counts.handshakes_timed_out);
            return Poll::Ready(None);
        }
        if let Some(place) = &mut self.entered.place {
            if computes {
                place.brokers_turn();
            } else {
                place.peers_turn(now, &self.mailbox);
            }
        }
        self.engine.wheel.schedule_connection(deadline, now, &self.mailbox);
        Poll::Pending
    }

    /// The driver of the peer's stream, unless the listener does not let the peer in.
    fn connected(self, mut stream: ByteStream) -> Option<Driver> {
        let ShakingHands { engine, mut peer, mailbox, mut entered, .. } = self;
        let listener = &entered.listener;
        let (proxied, accepted_from) = (listener.may_be_a_proxy(&peer), peer.address());
        if let Some(learned) = stream.peer.take() {
            peer = *learned;
            peer.set_listener(&listener.by);
        }
        let unseen = proxied || peer.address() != accepted_from;
        if unseen && !listener.lets_in(&engine, &peer) {
            return None;
        }
        if let Some(place) = &mut entered.place {
            place.brokers_turn();
        }
        Some(Driver::new(engine, stream, peer, mailbox, Box::new(entered)))
    }
}

/// Polls a future of a transport, whose panic is an error of this peer, or of this attempt to accept one.
fn poll_contained<T>(
    work: Pin<&mut (impl Future<Output = io::Result<T>> + ?Sized)>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    catch_unwind(AssertUnwindSafe(|| work.poll(cx)))
        .unwrap_or_else(|_| Poll::Ready(Err(transport_panicked())))
}

/// [`poll_contained`] as a future.
async fn contained<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| poll_contained(work.as_mut(), cx)).await
}

/// An error may quote what the peer sent.
fn escaped(error: &io::Error) -> String {
    error.to_string().escape_debug().collect()
}

/// A connection's entry in the books of its listener; its drop removes the entry.
struct Entered {
    number: u64,
    listener: Arc<Listener>,
    /// Until CONNECT is accepted.
    place: Option<Place>,
    _alive: Sender<()>,
}

impl Admission for Entered {
    fn peers_turn(&mut self, now: Timestamp, mailbox: &Arc<Mailbox>) {
        if let Some(place) = &mut self.place {
            place.peers_turn(now, mailbox);
        }
    }

    fn brokers_turn(&mut self) {
        if let Some(place) = &mut self.place {
            place.brokers_turn();
        }
    }

    fn connected(&mut self) {
        self.place = None;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.listener.connections).remove(&self.number);
    }
}
