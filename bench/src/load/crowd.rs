//! Many connections on one readiness loop: they are dialled without waiting, so that many
//! handshakes are under way at once, and what comes is handed to the load by token.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use crate::codec::{self, Packet, User, Version};
use crate::link::{Link, ReadBuffer};
use crate::poll::{Poll, Ready};
use crate::target::{Target, Transport};
use crate::tls::{Client, Tls};

/// Without progress for this long, a load gives up what it waits for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How many handshakes are under way at once.
pub(super) const AT_ONCE: usize = 64;

/// What came on a connection.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    Packet(Packet<'a>),
    /// The connection is gone, and its token free.
    Closed(&'a io::Error),
}

/// See the module.
pub(super) struct Crowd {
    target: Target,
    /// What connections have in common that are dialled over TLS.
    client: Option<Client>,
    poll: Poll,
    buffer: ReadBuffer,
    /// By token.
    links: Vec<Option<Link>>,
    /// Connections that broke while they were written to; reported with the next turn.
    broken: Vec<(usize, io::Error)>,
    ready: Vec<Ready>,
    armed: Option<Instant>,
}

impl Crowd {
    pub(super) fn new(target: &Target) -> io::Result<Self> {
        let client = (target.transport == Transport::Tls).then(|| Client::forgetful(target.tls));
        Ok(Self {
            target: *target,
            client: client.transpose()?,
            poll: Poll::new()?,
            buffer: ReadBuffer::new(),
            links: Vec::new(),
            broken: Vec::new(),
            ready: Vec::new(),
            armed: None,
        })
    }

    /// Dials over TLS with this client, and sessions of their own for each token.
    pub(super) fn with_client(self, client: Client) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Begins to connect, and sends `first` as soon as it is. Over tcp and TLS only.
    ///
    /// # Errors
    ///
    /// When the kernel has no descriptor or no port left.
    pub(super) fn dial(&mut self, token: usize, first: &[u8]) -> io::Result<()> {
        if self.target.transport.is_ws() {
            return Err(io::Error::other("this scenario does not run over WebSocket"));
        }
        let stream = dial(self.target.address)?;
        let link = match &self.client {
            Some(client) => Link::over_tls(stream, client, &format!("client-{token}.invalid")),
            None => Link::accepted(stream),
        };
        self.join(token, link?)?;
        self.send(token, first);
        Ok(())
    }

    /// Connects and waits for CONNACK; for the few that are there all the time.
    pub(super) fn open(&mut self, token: usize, client_id: &str) -> io::Result<()> {
        self.join(token, Link::open(&self.target, client_id, None)?)
    }

    /// The same with a subscription at QoS 0.
    pub(super) fn open_subscribed(
        &mut self,
        token: usize,
        client_id: &str,
        filter: &str,
    ) -> io::Result<()> {
        self.join(token, Link::open(&self.target, client_id, Some(filter))?)
    }

    fn join(&mut self, token: usize, link: Link) -> io::Result<()> {
        if token >= self.links.len() {
            self.links.resize_with(token + 1, || None);
        }
        self.poll.add(&link, token)?;
        self.links[token] = Some(link);
        Ok(())
    }

    /// Sends, as far as the kernel takes it; the rest follows. A connection that is gone swallows
    /// it: that it is gone is, or was, reported.
    pub(super) fn send(&mut self, token: usize, bytes: &[u8]) {
        let Some(place) = self.links.get_mut(token) else { return };
        if let Some(Err(error)) = place.as_mut().map(|link| link.send(bytes)) {
            *place = None;
            self.broken.push((token, error));
        }
    }

    /// Whether the kernel has all that was sent on this connection.
    pub(super) fn is_flushed(&self, token: usize) -> bool {
        self.links.get(token).is_some_and(|link| link.as_ref().is_some_and(Link::is_flushed))
    }

    /// Connections that resumed a session of TLS.
    pub(super) fn resumed(&self) -> usize {
        let resumed = |link: &&Link| link.tls().is_some_and(Tls::is_resumed);
        self.links.iter().flatten().filter(resumed).count()
    }

    /// What a connection over TLS agreed on.
    pub(super) fn agreed(&self) -> Option<String> {
        Some(self.links.iter().flatten().next()?.tls()?.agreed())
    }

    /// Closes without a word.
    pub(super) fn drop_link(&mut self, token: usize) {
        if let Some(place) = self.links.get_mut(token) {
            *place = None;
        }
    }

    /// Waits for what comes next, at most until `until`, and hands it out.
    pub(super) fn turn(
        &mut self,
        until: Instant,
        mut each: impl FnMut(usize, Seen<'_>),
    ) -> io::Result<()> {
        if !self.broken.is_empty() {
            for (token, error) in mem::take(&mut self.broken) {
                each(token, Seen::Closed(&error));
            }
            return Ok(());
        }
        self.arm(until)?;
        self.poll.wait(&mut self.ready)?;
        for &event in &self.ready {
            let Some(place) = self.links.get_mut(event.token) else { continue };
            let Some(link) = place.as_mut() else { continue };
            let packet = |packet: Packet<'_>| each(event.token, Seen::Packet(packet));
            if let Err(error) = serve(link, event, &mut self.buffer, packet) {
                *place = None;
                each(event.token, Seen::Closed(&error));
            }
        }
        Ok(())
    }

    /// Sets the timer, unless it will ring early enough anyway.
    fn arm(&mut self, until: Instant) -> io::Result<()> {
        let now = Instant::now();
        if self.armed.is_none_or(|armed| armed <= now || until < armed) {
            self.poll.wake_after(until.saturating_duration_since(now))?;
            self.armed = Some(until);
        }
        Ok(())
    }

    /// Says DISCONNECT everywhere and waits until the broker has closed all; returns how many it
    /// did not close. Those are closed from this side.
    pub(super) fn leave(&mut self, patience: Duration) -> io::Result<usize> {
        for token in 0..self.links.len() {
            self.send(token, &codec::DISCONNECT);
        }
        self.broken.clear();
        let mut left = self.links.iter().flatten().count();
        let mut deadline = Instant::now() + patience;
        while left > 0 && Instant::now() < deadline {
            let before = left;
            self.turn(deadline, |_, seen| left -= usize::from(matches!(seen, Seen::Closed(_))))?;
            if left < before {
                deadline = Instant::now() + patience;
            }
        }
        self.links.clear();
        Ok(left)
    }
}

/// Moves what can be moved. A closed connection is read to its end, since no further edge will
/// tell of it.
fn serve(
    link: &mut Link,
    event: Ready,
    buffer: &mut ReadBuffer,
    mut each: impl FnMut(Packet<'_>),
) -> io::Result<()> {
    if event.writable && !event.closed {
        link.flush()?;
    }
    if !event.readable {
        return Ok(());
    }
    loop {
        link.receive(buffer, &mut each)?;
        if !event.closed {
            return Ok(());
        }
    }
}

/// A socket that is connecting.
pub(crate) fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    match net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

/// Whom [`gather`] brings in.
pub(super) struct Newcomers<'a> {
    /// Their tokens begin here.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) client_id: &'a dyn Fn(usize) -> String,
    /// Who each says it is.
    pub(super) user: Option<&'a dyn Fn(usize) -> User>,
    /// What each subscribes to before it counts as there.
    pub(super) filter: Option<&'a dyn Fn(usize) -> String>,
    pub(super) at_once: usize,
    pub(super) patience: Duration,
}

/// How far [`gather`] came.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) there: usize,
    failed: usize,
    first_failure: Option<String>,
}

impl Gathered {
    fn fail(&mut self, why: &impl ToString) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| why.to_string());
    }

    /// What the report should say, if not all came.
    pub(super) fn note(&self) -> Option<String> {
        let why = self.first_failure.as_ref()?;
        Some(format!("{} connections failed, the first: {why}", self.failed))
    }
}

/// How far a newcomer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Away,
    UnderWay,
    There,
}

/// Connects all newcomers, some at once, and subscribes them.
///
/// # Errors
///
/// When not one could be connected, or something else on the loop breaks.
pub(super) fn gather(crowd: &mut Crowd, who: &Newcomers<'_>) -> io::Result<Gathered> {
    let mut seen = Gathered::default();
    let mut states = vec![State::Away; who.count];
    let (mut busy, mut next) = (0, 0);
    let mut deadline = Instant::now() + who.patience;
    while busy > 0 || next < who.count {
        while busy < who.at_once.max(1) && next < who.count {
            let user = who.user.map(|user| user(next));
            let id = (who.client_id)(next);
            let (version, keep_alive) = (Version::V311, codec::KEEP_ALIVE_SECS);
            let hello = codec::connect_by(version, &id, keep_alive, user.as_ref());
            if let Err(error) = crowd.dial(who.first + next, &hello) {
                // The others would fare no better.
                seen.failed += who.count - next - 1;
                seen.fail(&error);
                next = who.count;
                break;
            }
            states[next] = State::UnderWay;
            (busy, next) = (busy + 1, next + 1);
        }
        let (mut ends, mut subscribing) = (Vec::new(), Vec::new());
        crowd.turn(deadline, |token, event| {
            let Some(place) = token.checked_sub(who.first) else { return };
            match event {
                Seen::Packet(_) if states.get(place) != Some(&State::UnderWay) => {}
                Seen::Packet(Packet::ConnAck(0)) if who.filter.is_some() => subscribing.push(place),
                Seen::Packet(Packet::ConnAck(0) | Packet::SubAck(1, 0)) => ends.push((place, None)),
                Seen::Packet(packet) => ends.push((place, Some(format!("got {packet:?}")))),
                Seen::Closed(error) => ends.push((place, Some(error.to_string()))),
            }
        })?;
        if !ends.is_empty() || !subscribing.is_empty() {
            deadline = Instant::now() + who.patience;
        } else if Instant::now() >= deadline {
            let late = (0..who.count).filter(|&place| states[place] == State::UnderWay);
            ends.extend(late.map(|place| (place, Some("no answer".to_owned()))));
        }
        for (place, failure) in ends {
            let Some(state) = states.get_mut(place) else { continue };
            busy -= usize::from(*state == State::UnderWay);
            seen.there -= usize::from(*state == State::There);
            if let Some(why) = failure {
                *state = State::Away;
                crowd.drop_link(who.first + place);
                seen.fail(&why);
            } else {
                *state = State::There;
                seen.there += 1;
            }
        }
        for place in subscribing {
            let filter = who.filter.map(|filter| filter(place)).unwrap_or_default();
            crowd.send(who.first + place, &codec::subscribe(1, &filter, 0));
        }
    }
    match (&seen.first_failure, seen.there) {
        (Some(why), 0) => Err(io::Error::other(format!("no connection: {why}"))),
        _ => Ok(seen),
    }
}
