//! The new process: takes sockets and state of the old one.

use std::io::{self, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::io::AssertAsync;
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
    /// With the names of their listeners.
    sockets: Vec<(String, ListeningSocket)>,
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
            (Kind::Socket, Some(socket)) if sockets.len() < SOCKETS_MAX => {
                let name = String::from_utf8_lossy(&received.body).into_owned();
                sockets.push((name, ListeningSocket::try_from(socket)?));
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
    /// The sockets of a listener: those of the listener of this name, or any others that listen at its address.
    pub(crate) fn sockets_for(
        &mut self,
        name: &str,
        config: &ListenerConfig,
    ) -> Vec<ListeningSocket> {
        let own = self.take(|(of, socket)| of == name && config.fits(socket));
        // Port 0 stands for any port: only the name tells the listeners apart.
        if !own.is_empty() || (!config.is_unix() && config.port() == 0) {
            return own;
        }
        self.take(|(_, socket)| config.fits(socket))
    }

    fn take(&mut self, fits: impl Fn(&(String, ListeningSocket)) -> bool) -> Vec<ListeningSocket> {
        self.sockets.extract_if(.., |socket| fits(socket)).map(|(_, socket)| socket).collect()
    }

    /// Takes the state into a broker that does not accept yet, with everything that it needs to. From then on the old
    /// process does not go on.
    ///
    /// # Errors
    /// The old process goes on; this one has to end.
    pub(crate) async fn take_state(self, broker: &Broker) -> Result<(), String> {
        let Err(problem) = self.exchange(broker).await else { return Ok(()) };
        let Taking { line, path, .. } = self;
        // A process that goes on is heard until then.
        let goes_on = is_heard(&path);
        drop(line);
        if goes_on {
            return Err(format!(
                "handOver: {}: the running process goes on, and this one ends: {problem}",
                path.display()
            ));
        }
        log::warn!(target: "hrotti", "the process before this one ended before it had handed over all: {problem}");
        Ok(())
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
