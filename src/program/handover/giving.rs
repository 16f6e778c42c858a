//! The old process: gives its sockets and its state away.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_std::task::block_on;
use futures_lite::io::AssertAsync;
use hrotti::{Broker, HandOver, Limits, StateError};
use socket2::{Domain, SockAddr, Socket, Type};

use super::wire::{Kind, Line, VERSION, told};

/// Only the user of the process connects.
const MODE: u32 = 0o600;

/// Processes that may wait to be heard.
const BACKLOG: i32 = 16;

/// The pause after a process could not be heard.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The limits that deadlines belong to.
const READY: &str = "limits.handOverReadyTimeoutSecs";
const STALL: &str = "limits.handOverStallTimeoutSecs";

/// The socket where the next process is heard. Its file is removed with it, unless it is another process's by then.
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Where the file is until [`Control::publish`].
    hidden: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl Control {
    /// Listens beside `path`, where nobody looks yet.
    ///
    /// # Errors
    /// The remedy, with the key.
    pub(crate) fn bind(path: &Path) -> Result<Control, String> {
        let told = |error: io::Error| {
            let path = path.display();
            format!(
                "handOver: {path}: cannot be bound: {error}; choose a path of at most 90 bytes in a directory in which \
                 the user of the program can write"
            )
        };
        match fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => {
                let what = "there is a file that is no socket";
                return Err(told(io::Error::new(ErrorKind::AlreadyExists, what)));
            }
            _ => {}
        }
        let mut hidden = path.as_os_str().to_owned();
        hidden.push(format!(".{}", process::id()));
        Control::bind_at(path, hidden.into()).map_err(told)
    }

    fn bind_at(path: &Path, hidden: PathBuf) -> io::Result<Control> {
        match fs::remove_file(&hidden) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(&hidden)?)?;
        let file = fs::symlink_metadata(&hidden)?;
        let file = (file.dev(), file.ino());
        let listener = UnixListener::from(socket);
        let control = Control { listener, path: path.to_owned(), hidden, file };
        // Nobody can connect before `listen`.
        fs::set_permissions(&control.hidden, fs::Permissions::from_mode(MODE))?;
        socket2::SockRef::from(&control.listener).listen(BACKLOG)?;
        Ok(control)
    }

    /// Puts the socket in the place where the next process looks.
    pub(crate) fn publish(&self) -> Result<(), String> {
        fs::rename(&self.hidden, &self.path).map_err(|error| {
            format!("handOver: {}: cannot be put in its place: {error}", self.path.display())
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        for path in [&self.hidden, &self.path] {
            let is_own = |file: fs::Metadata| (file.dev(), file.ino()) == self.file;
            if fs::symlink_metadata(path).is_ok_and(is_own) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Whether the state was given away, and with it the reason to run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given(Arc<AtomicBool>);

impl Given {
    pub(crate) fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Hears processes that want to take over, one after the other, in a thread of its own. When one has, `free` is called,
/// which frees the addresses that are not handed over, the broker is stopped, and `done` is called.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn give(
    control: Control,
    broker: &Broker,
    given: &Given,
    free: impl Fn() + Send + 'static,
    done: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let (broker, given) = (broker.clone(), given.clone());
    thread::Builder::new().name("hand-over".to_owned()).spawn(move || {
        for stream in control.listener.incoming() {
            let Ok(stream) = stream else {
                thread::park_timeout(BACK_OFF); // no descriptor is left
                continue;
            };
            let attempt = Attempt { line: Line::new(stream), broker: &broker };
            match attempt.run(&free) {
                Ok(()) => {
                    drop(control);
                    given.0.store(true, Ordering::Release);
                    return done();
                }
                Err(problem) => {
                    log::warn!(target: "hrotti", "the hand-over failed, and this process goes on: {problem}");
                }
            }
        }
    })?;
    Ok(())
}

/// One process that wants to take over.
struct Attempt<'a> {
    line: Line,
    broker: &'a Broker,
}

impl Attempt<'_> {
    /// Returns when the other process has everything and this one nothing more.
    ///
    /// # Errors
    /// Why this process goes on.
    fn run(self, free: impl Fn()) -> Result<(), String> {
        let limits = &*self.broker.limits();
        self.offer(limits)?;
        log::info!(target: "hrotti", "handing over to another process");
        let begun = block_on(self.broker.begin_hand_over(limits.stop_timeout));
        let hand_over = begun.map_err(|error| self.refuse(error.to_string()))?;
        self.export(&hand_over, limits)?;
        free();
        // The end of the connection tells the other process.
        drop(self.line);
        block_on(hand_over.finish());
        log::info!(target: "hrotti", "handed over to another process");
        Ok(())
    }

    /// Tells the other process why it cannot take over.
    fn refuse(&self, reason: String) -> String {
        let _told = self.line.send(Kind::Refused, reason.as_bytes());
        reason
    }

    /// Gives the sockets, and waits until the other process is ready.
    fn offer(&self, limits: &Limits) -> Result<(), String> {
        let stalled = |error: io::Error| format!("the new process: {}", told(&error, STALL));
        let line = self.line.within(limits.hand_over_stall_timeout).map_err(stalled)?;
        if !line.is_of_same_user().map_err(stalled)? {
            return Err(self.refuse("the new process belongs to another user".to_owned()));
        }
        let hello = line.expect(Kind::Hello).map_err(stalled)?;
        if hello.body != [VERSION] {
            let what = format!("version {VERSION} of the hand-over was expected");
            return Err(self.refuse(what));
        }
        let mut count = 0_u32;
        let all = self.broker.listening_sockets();
        let all = all.map_err(|error| self.refuse(format!("no descriptor is left: {error}")))?;
        let infos = self.broker.listeners();
        for (name, sockets) in all {
            let keeps_files = infos.iter().any(|info| info.name == name && info.keeps_files);
            let kind = if keeps_files { Kind::KeptSocket } else { Kind::Socket };
            for socket in sockets {
                let socket = OwnedFd::from(socket);
                let sent = line.send_with(kind, name.as_bytes(), Some(socket.as_fd()));
                sent.map_err(stalled)?;
                count += 1;
            }
        }
        line.send(Kind::SocketsEnd, &count.to_be_bytes()).map_err(stalled)?;
        let slow = |error: io::Error| format!("the new process: {}", told(&error, READY));
        let line = line.within(limits.hand_over_ready_timeout).map_err(slow)?;
        line.expect(Kind::Ready).map(|_| ()).map_err(slow)
    }

    /// Gives the state, and waits until the other process has it.
    ///
    /// # Errors
    /// It does not, and never will.
    fn export(&self, hand_over: &HandOver, limits: &Limits) -> Result<(), String> {
        let stalled = |error: &io::Error| format!("the new process: {}", told(error, STALL));
        let line = self.line.within(limits.hand_over_stall_timeout).map_err(|e| stalled(&e))?;
        line.send(Kind::State, &[]).map_err(|error| stalled(&error))?;
        let written = block_on(hand_over.export_state(AssertAsync::new(line.stream())));
        let summary = written.map_err(|error| match error {
            StateError::Io(error) => stalled(&error),
            error => error.to_string(),
        })?;
        log::info!(target: "hrotti", "handing over: {summary}");
        let taken =
            line.within(limits.hand_over_ready_timeout).and_then(|line| line.expect(Kind::Taken));
        let Err(error) = taken else { return Ok(()) };
        // From here on the other process cannot say it any more; what it has said before counts.
        let _closed = line.stream().shutdown(Shutdown::Read);
        match line.receive() {
            Ok(received) if received.kind == Kind::Taken => Ok(()),
            _ => Err(format!("the new process: {}", told(&error, READY))),
        }
    }
}

/// Whether a process is heard at `path`.
pub(super) fn is_heard(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}
