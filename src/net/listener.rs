//! Listeners: accept peers, run each peer's handshake and connection in a task, and stop.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use ahash::RandomState;
use async_channel::{Receiver, Sender};
use futures_lite::future;
use hashbrown::HashMap;
use log::{info, warn};

use super::driver::{Admission, Driver};
use super::newcomers::{Cleared, Newcomers, PATIENCE_MILLIS, Place};
use super::pause::Pause;
use super::rates::AddressRates;
use crate::counters::{count_many, count_one};
use crate::engine::comings::Comer;
use crate::engine::outbox::transport_panicked;
use crate::engine::state::Engine;
use crate::engine::timers::{Mailbox, Order};
use crate::listener_rules::ListenerRules;
use crate::network::Network;
use crate::packet::{ProtocolVersion, ReasonCode};
use crate::runtime::noting_computations;
use crate::sync::lock;
use crate::time::Timestamp;
use crate::transport::tcp::is_exhausted;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsHandle;
use crate::transport::{AcceptedBy, ByteStream, Handshake, Incoming};
use crate::transport::{ListeningSockets, PeerInfo, Transport};

/// The first pause after the transport could not accept.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);

/// The longest pause after the transport could not accept, several times in a row.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Why a peer is refused before its CONNECT.
const NETWORK: &str = "the listener lets in no peer of this network";
const RATE: &str = "address_connects_per_sec_max: the address connects too often";
const LATE: &str = "handshake_timeout: the handshake was not finished in time";

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
    /// Those of the present transport.
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
    /// Closed when all accept loops and connections are gone.
    gone: Receiver<()>,
    /// The present accept loop.
    accepting: Mutex<AcceptLoop>,
    connections: Mutex<HashMap<u64, Arc<Mailbox>, RandomState>>,
    numbers: AtomicU64,
    addresses: Arc<Addresses>,
    /// Bounds the peers that are before CONNECT.
    newcomers: Arc<Newcomers>,
}

/// How an accept loop is ended.
struct AcceptLoop {
    /// Every accept loop and every connection has a clone; `None` after the stop.
    alive: Option<Sender<()>>,
    /// Closed to end it.
    stop: Sender<()>,
    /// Closed when its transport is gone.
    gone: Receiver<()>,
}

impl Listeners {
    /// Adds a transport under a name that is not in use and begins to accept. Gives the name back if it is in use.
    pub(crate) fn add<T: Transport>(
        &self,
        engine: &Arc<Engine>,
        name: &str,
        transport: T,
        rules: ListenerRules,
    ) -> Result<Arc<Listener>, String> {
        let limits = engine.limits();
        let (stop, stopped) = async_channel::bounded(1);
        let (alive, gone) = async_channel::bounded(1);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let (accept_loop, ends) = AcceptLoop::new(alive.clone());
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
            gone,
            accepting: Mutex::new(accept_loop),
            connections: Mutex::new(HashMap::with_hasher(engine.hasher.clone())),
            numbers: AtomicU64::new(0),
            addresses: self.addresses.clone(),
            newcomers: Newcomers::new(limits.handshakes_max),
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
        let added = listener.clone();
        let accepting = Accepting { engine: Arc::downgrade(engine), listener, alive };
        engine.host.spawn(accepting.run(transport, ends));
        Ok(added)
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
        let sockets = transport.sockets();
        #[cfg(feature = "tls")]
        let tls = transport.tls();
        let (alive, ends) = {
            // A stop closes the loop that it finds here, so none begins behind it.
            let mut present = lock(&listener.accepting);
            let Some(alive) = present.alive.clone() else { return false };
            let (next, ends) = AcceptLoop::new(alive.clone());
            std::mem::replace(&mut *present, next).stop.close();
            (alive, ends)
        };
        *lock(&listener.sockets) = sockets;
        #[cfg(feature = "tls")]
        {
            *lock(&listener.tls) = tls;
        }
        let accepting = Accepting { engine: Arc::downgrade(engine), listener, alive };
        engine.host.spawn(accepting.run(transport, ends));
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
            listener.newcomers.set_max(limits.handshakes_max);
        }
        let mut addresses = lock(&self.addresses);
        // With the same limit, the addresses keep what they have used of it.
        let rate = addresses.as_ref().map_or(0, |rates| rates.rate());
        if rate != u64::from(limits.address_connects_per_sec_max) {
            *addresses = AddressRates::new(&limits, &engine.hasher).map(Arc::new);
        }
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
        let named = |listener: &Arc<Listener>| (listener.name.to_string(), listener.sockets());
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

    /// Tells apart the listeners that the broker has had.
    pub(crate) fn number(&self) -> u32 {
        self.by().number
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The sockets of its present transport.
    pub(crate) fn sockets(&self) -> ListeningSockets {
        lock(&self.sockets).clone()
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
        let mut accepting = lock(&self.accepting);
        accepting.alive = None;
        accepting.stop.close();
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

impl AcceptLoop {
    fn new(alive: Sender<()>) -> (AcceptLoop, Ends) {
        let (stop, stopped) = async_channel::bounded(1);
        let (here, gone) = async_channel::bounded(1);
        (AcceptLoop { alive: Some(alive), stop, gone }, Ends { stopped, _here: here })
    }
}

/// The other ends of the channels of an [`AcceptLoop`].
struct Ends {
    stopped: Receiver<()>,
    _here: Sender<()>,
}

/// The accept loop.
struct Accepting {
    engine: Weak<Engine>,
    listener: Arc<Listener>,
    alive: Sender<()>,
}

impl Accepting {
    async fn run<T: Transport>(self, mut transport: T, ends: Ends) {
        info!(
            "listener {:?} accepts on {}",
            self.listener.name,
            transport.local_endpoints().join(" ")
        );
        let last = self.accept(&mut transport, &ends).await;
        // Before the word that the address is free.
        drop(transport);
        drop(ends);
        if let Some((engine, shaking)) = last {
            // It came before the end of the accept loop, so another one that goes on at this address cannot take it.
            let room = self.make_room(&engine);
            if let Some(place) = unless_closed(&self.listener.stopped, room).await {
                shaking.begin(place);
            }
        }
        if self.listener.stopped.is_closed() {
            info!("listener {:?} has stopped", self.listener.name);
        }
    }

    /// The next peer. While the listener pauses, no call of the transport is under way.
    async fn next<T: Transport>(&self, transport: &mut T) -> io::Result<Incoming> {
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

    /// Accepts peers until the loop is ended. Returns a peer that had no place yet.
    async fn accept<T: Transport>(
        &self,
        transport: &mut T,
        ends: &Ends,
    ) -> Option<(Arc<Engine>, ShakingHands)> {
        let mut back_off = BACK_OFF_MIN;
        let mut accepted = 0_u64;
        while let Some(next) = unless_closed(&ends.stopped, contained(self.next(transport))).await {
            let engine = self.engine.upgrade()?;
            match next {
                Ok(incoming) => {
                    back_off = BACK_OFF_MIN;
                    if let Some(shaking) = self.enter(&engine, incoming) {
                        let place = match self.listener.newcomers.take() {
                            Some(place) => Some(place),
                            None => unless_closed(&ends.stopped, self.make_room(&engine)).await,
                        };
                        let Some(place) = place else { return Some((engine, shaking)) };
                        shaking.begin(place);
                    }
                    accepted += 1;
                    if accepted.is_multiple_of(ACCEPTED_PER_TURN) {
                        future::yield_now().await;
                    }
                }
                Err(error) => {
                    warn!(
                        "listener {:?} cannot accept: {error}; next try in {back_off:?}",
                        self.listener.name
                    );
                    unless_closed(&ends.stopped, engine.host.sleep(back_off)).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
        None
    }

    /// Enters a peer in the books of the listener, unless the listener does not let it in.
    fn enter(&self, engine: &Arc<Engine>, incoming: Incoming) -> Option<ShakingHands> {
        let unseen = self.listener.may_be_a_proxy(&incoming.peer);
        // Before the handshake, which costs more than all else.
        if !unseen && !self.listener.lets_in(engine, &incoming.peer) {
            return None;
        }
        let mailbox = Arc::new(Mailbox::of_listener(self.listener.by().number));
        let number = self.listener.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.listener.connections).insert(number, mailbox.clone());
        engine.traffic.socket_accepted();
        let entered = Entered {
            engine: self.engine.clone(),
            number,
            listener: self.listener.clone(),
            place: None,
            _alive: self.alive.clone(),
        };
        if self.listener.stopped.is_closed() {
            mailbox.order(Order::ListenerStopped);
        } else if self.listener.pause.is_set() {
            mailbox.order(Order::ShuttingDown);
        }
        Some(ShakingHands::new(engine.clone(), incoming, unseen, mailbox, entered))
    }

    /// Waits for a place among the peers before CONNECT: that of one that has let the broker wait for long.
    async fn make_room(&self, engine: &Engine) -> Place {
        let newcomers = &self.listener.newcomers;
        let mut waits = false;
        loop {
            let now = engine.now();
            let next_look = match newcomers.clear(now) {
                Cleared::Some(left) => {
                    count_many(&engine.counts.handshakes_displaced, left);
                    Timestamp(now.0 + PATIENCE_MILLIS)
                }
                Cleared::NotBefore(then) => {
                    if !std::mem::replace(&mut waits, true) {
                        count_one(&engine.counts.handshakes_waited);
                    }
                    then
                }
            };
            let pause = Duration::from_millis(next_look.0.saturating_sub(now.0));
            if let Some(place) = engine.host.timeout(pause, newcomers.wait()).await {
                return place;
            }
        }
    }
}

/// What `work` returns; `None` if the channel is closed before.
async fn unless_closed<R>(stopped: &Receiver<()>, work: impl Future<Output = R>) -> Option<R> {
    let stopped = async {
        while stopped.recv().await.is_ok() {}
        None
    };
    future::or(stopped, async { Some(work.await) }).await
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
    /// Whether its listener has still to look at its address.
    unseen: bool,
    mailbox: Arc<Mailbox>,
    entered: Entered,
    /// Set when it did not finish at once.
    deadline: Option<Timestamp>,
}

impl ShakingHands {
    fn new(
        engine: Arc<Engine>,
        incoming: Incoming,
        unseen: bool,
        mailbox: Arc<Mailbox>,
        entered: Entered,
    ) -> ShakingHands {
        let Incoming { mut peer, handshake } = incoming;
        peer.set_listener(&entered.listener.by());
        ShakingHands { engine, handshake, peer, unseen, mailbox, entered, deadline: None }
    }

    /// Gives the peer its task.
    fn begin(mut self, place: Place) {
        self.entered.place = Some(place);
        let engine = self.engine.clone();
        engine.host.spawn(Peer::ShakingHands(Box::new(self)));
    }

    /// Ready with the peer's stream, or with `None` if it is to be dropped.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<ByteStream>> {
        self.mailbox.register(cx.waker());
        match self.mailbox.ordered() {
            // Its driver looks at the rules.
            None | Some(Order::ListenerRules) => {}
            Some(Order::Displaced) => {
                let fault = Order::Displaced.fault();
                self.refused(fault.reason(), fault.detail());
                return Poll::Ready(None);
            }
            Some(_) => return Poll::Ready(None),
        }
        let handshake = self.handshake.as_mut();
        let (polled, computes) = noting_computations(|| poll_contained(handshake, cx));
        match polled {
            Poll::Ready(Ok(stream)) => Poll::Ready(Some(stream)),
            Poll::Ready(Err(error)) => {
                self.failed(&error);
                Poll::Ready(None)
            }
            Poll::Pending => self.look_at_time(computes),
        }
    }

    fn failed(&self, error: &io::Error) {
        let engine = &self.engine;
        let why = format!("the handshake failed: {error}");
        if is_exhausted(error) {
            // The transport writes that to the log, and less often.
            count_one(&engine.counts.descriptors_exhausted);
            let comer = Comer::unknown(&self.peer);
            engine.comings.announce_refusal(comer, ReasonCode::SERVER_UNAVAILABLE, &why);
        } else {
            count_one(&engine.counts.handshakes_failed);
            self.refused(ReasonCode::UNSPECIFIED_ERROR, &why);
        }
    }

    fn refused(&self, code: ReasonCode, why: &str) {
        self.entered.listener.refused(&self.engine, &self.peer, code, why);
    }

    fn look_at_time(&mut self, computes: bool) -> Poll<Option<ByteStream>> {
        let now = self.engine.now();
        let deadline = match self.deadline {
            Some(deadline) => deadline,
            None => *self.deadline.insert(now.plus(self.engine.limits().handshake_timeout)),
        };
        if deadline <= now {
            count_one(&self.engine.counts.handshakes_timed_out);
            self.refused(ReasonCode::UNSPECIFIED_ERROR, LATE);
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
        let ShakingHands { engine, mut peer, mut unseen, mailbox, mut entered, .. } = self;
        if let Some(learned) = stream.peer.take() {
            unseen |= learned.address() != peer.address();
            peer = *learned;
            peer.set_listener(&entered.listener.by());
        }
        if unseen && !entered.listener.lets_in(&engine, &peer) {
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

/// A connection's entry in the books of its listener; its drop removes the entry.
struct Entered {
    engine: Weak<Engine>,
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
        if let Some(engine) = self.engine.upgrade() {
            engine.traffic.socket_gone();
        }
    }
}

#[cfg(test)]
mod tests;
