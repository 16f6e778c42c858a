//! The new process: takes sockets and state of the old one.

use std::io::{self, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::io::AssertAsync;
use hrotti::config::Config;
use hrotti::server::Adopted;
use hrotti::{Broker, Limits, ListenerConfig, ListeningSocket, StateError};

use super::giving::is_heard;
use super::wire::{Kind, Line, VERSION, refused, told};

/// Sockets that one process has at most.
const SOCKETS_MAX: usize = 65_536;

/// The pause before another look at a process that has just ended.
const AGAIN: Duration = Duration::from_millis(20);

/// Bytes of the state that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

const STALL: &str = "limits.handOverStallTimeoutSecs";

/// A hand-over that has begun. Dropped, it lets the old process go on.
pub(crate) struct Taking {
    line: Line,
    path: PathBuf,
    sockets: Vec<Given>,
}

/// A socket of the old process.
struct Given {
    /// The listener.
    name: String,
    socket: ListeningSocket,
    /// Its file stays when the listener stops.
    keeps_file: bool,
}

/// A state that was taken.
pub(crate) struct Taken {
    line: Line,
    limit: Duration,
}

/// Asks the process that is heard at `path` for its sockets. `None`: there is none.
///
/// # Errors
/// The process is another user's, or refuses, or does not answer.
pub(crate) fn begin(path: &Path, limits: &Limits) -> Result<Option<Taking>, String> {
    let until = Instant::now() + limits.hand_over_ready_timeout;
    loop {
        let asked = ask(path, limits.hand_over_stall_timeout);
        match asked {
            Ok(taking) => return Ok(Some(taking)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            // It has ended meanwhile, perhaps because a third process has taken over.
            Err(error) if has_ended(&error) && Instant::now() < until => {
                thread::park_timeout(AGAIN);
            }
            Err(error) => {
                return Err(format!(
                    "handOver: {}: the running process: {}",
                    path.display(),
                    told(&error, STALL)
                ));
            }
        }
    }
}

fn has_ended(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

fn ask(path: &Path, stall: Duration) -> io::Result<Taking> {
    let line = Line::new(UnixStream::connect(path)?);
    line.within(stall)?;
    if !line.is_of_same_user()? {
        let what = "it belongs to another user";
        return Err(io::Error::new(ErrorKind::PermissionDenied, what));
    }
    line.send(Kind::Hello, &[VERSION])?;
    let mut sockets = Vec::new();
    loop {
        let received = line.receive()?;
        match (received.kind, received.socket) {
            (Kind::Socket | Kind::KeptSocket, Some(socket)) if sockets.len() < SOCKETS_MAX => {
                let name = String::from_utf8_lossy(&received.body).into_owned();
                let keeps_file = received.kind == Kind::KeptSocket;
                sockets.push(Given {
                    name,
                    socket: ListeningSocket::try_from(socket)?,
                    keeps_file,
                });
            }
            (Kind::SocketsEnd, None)
                if received.body == u32::try_from(sockets.len()).unwrap_or(0).to_be_bytes() =>
            {
                return Ok(Taking { line, path: path.to_owned(), sockets });
            }
            (Kind::Refused, _) => return Err(refused(&received.body)),
            _ => return Err(io::Error::new(ErrorKind::InvalidData, "it sent no sockets")),
        }
    }
}

impl Taking {
    /// Gives every listener of the configuration its sockets. One that has some already, of systemd, keeps those.
    pub(crate) fn give_sockets(&mut self, config: &Config, adopted: &mut Adopted) {
        let (mut kept, mut own) = (Adopted::keeping_files(), Adopted::default());
        for (name, listener) in &config.listeners {
            for Given { socket, keeps_file, .. } in self.sockets_for(name, listener) {
                if keeps_file { &mut kept } else { &mut own }.add(name, socket);
            }
        }
        adopted.fill(kept);
        adopted.fill(own);
    }

    /// The sockets of a listener: those of the listener of this name, or any others that listen at its address.
    fn sockets_for(&mut self, name: &str, config: &ListenerConfig) -> Vec<Given> {
        let own = self.take(|given| given.name == name && config.fits(&given.socket));
        // Port 0 stands for any port: only the name tells the listeners apart.
        if !own.is_empty() || (!config.is_unix() && config.port() == 0) {
            return own;
        }
        self.take(|given| config.fits(&given.socket))
    }

    fn take(&mut self, fits: impl Fn(&Given) -> bool) -> Vec<Given> {
        self.sockets.extract_if(.., |given| fits(given)).collect()
    }

    /// Takes the state into a broker that does not accept yet, with everything that it needs to. From then on the old
    /// process does not go on.
    ///
    /// # Errors
    /// The old process goes on; this one has to end.
    pub(crate) async fn take_state(self, broker: &Broker) -> Result<Taken, String> {
        let exchanged = self.exchange(broker).await;
        let limit = broker.limits().hand_over_ready_timeout;
        let Taking { line, path, .. } = self;
        let Err(problem) = exchanged else { return Ok(Taken { line, limit }) };
        // A process that goes on is heard until then.
        if is_heard(&path) {
            drop(line);
            return Err(format!(
                "handOver: {}: the running process goes on, and this one ends: {problem}",
                path.display()
            ));
        }
        log::warn!(target: "hrotti", "the process before this one ended before it had handed over all: {problem}");
        Ok(Taken { line, limit })
    }

    async fn exchange(&self, broker: &Broker) -> Result<(), String> {
        let limits = broker.limits();
        let stall = limits.hand_over_stall_timeout;
        let failed = |error: io::Error| told(&error, STALL);
        self.line.send(Kind::Ready, &[]).map_err(failed)?;
        // It disconnects its Clients meanwhile, and lets what they have begun come to an end.
        let drained = limits.stop_timeout * 2 + stall + Duration::from_secs(1);
        self.line.within(drained).and_then(|line| line.expect(Kind::State)).map_err(failed)?;
        let line = self.line.within(stall).map_err(failed)?;
        let reader = BufReader::with_capacity(CHUNK_BYTES, line.stream());
        let summary = broker.import_state(AssertAsync::new(reader)).await;
        let summary = summary.map_err(|error| match error {
            StateError::Io(error) => failed(error),
            error => error.to_string(),
        })?;
        line.send(Kind::Taken, &[]).map_err(failed)?;
        log::info!(target: "hrotti", "taken over: {summary}");
        Ok(())
    }
}

impl Taken {
    /// Waits until the old process has freed the addresses that it did not hand over, or has ended; at most
    /// [`Limits::hand_over_ready_timeout`].
    pub(crate) fn until_addresses_are_free(&self) {
        // It says nothing more: this is the end of the connection, or the deadline.
        let _end = self.line.within(self.limit).and_then(Line::receive);
    }
}
