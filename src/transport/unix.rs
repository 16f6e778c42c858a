//! MQTT over Unix sockets.

use std::fmt;
use std::fs;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_io::Async;
use socket2::{Domain, SockAddr, Socket, Type};

use super::listening::{KeptFile, ListeningSocket, ListeningSockets, unfit};
use super::socket::{Connected, SocketStream};
use super::{Incoming, PeerIdentity, PeerInfo, Transport};
use crate::runtime::{self, Registered};

/// The permissions of a socket's file unless others are chosen: owner and group may connect.
const MODE: u32 = 0o660;

/// Peers that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listening Unix socket. Its file is removed when it is dropped.
///
/// Peers have [`PeerIdentity::UnixProcess`] where the system tells who they are (Linux), and no address.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use hrotti::transport::{PeerIdentity, Transport, unix::UnixTransport};
/// # futures_lite::future::block_on(async {
/// let path = std::env::temp_dir().join(format!("hrotti-doc-{}.sock", std::process::id()));
/// let mut transport = UnixTransport::bind(&path)?;
///
/// let client = UnixStream::connect(&path)?;
/// let incoming = transport.accept().await?;
/// # #[cfg(target_os = "linux")]
/// assert!(matches!(incoming.peer.identity(), Some(PeerIdentity::UnixProcess { .. })));
///
/// drop(transport);
/// assert!(!path.exists());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct UnixTransport {
    listener: Listening,
    path: PathBuf,
    /// Device and inode of the file, to know it again.
    file: (u64, u64),
    /// The file stays when the transport is dropped.
    kept: KeptFile,
    accepted: u64,
    /// The last accept found no peer: the next one waits for readiness first.
    drained: bool,
}

/// A listening socket, watched by the event loop or the reactor of the task that accepted from it last.
enum Listening {
    Reactor(Async<Arc<UnixListener>>),
    Loop(Registered<Arc<UnixListener>>),
    /// Between the two.
    Nobody,
}

impl Listening {
    fn get_ref(&self) -> Option<&Arc<UnixListener>> {
        match self {
            Listening::Reactor(listener) => Some(listener.get_ref()),
            Listening::Loop(listener) => Some(listener.get_ref()),
            Listening::Nobody => None,
        }
    }
}

impl UnixTransport {
    /// Listens on `path`; owner and group of the process may connect.
    ///
    /// # Errors
    /// As [`UnixTransport::bind_as`].
    pub fn bind(path: &Path) -> io::Result<UnixTransport> {
        UnixTransport::bind_as(path, None, (None, None))
    }

    /// Listens on `path`. The file gets the permissions `mode` (default `0o660`) and the owner and group, names of
    /// this machine or numbers, before any peer can connect.
    ///
    /// The socket file of a process that has ended is replaced. A file of another kind is never removed.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`] if a process listens there; [`ErrorKind::AlreadyExists`] if there is a file that is no
    /// socket; [`ErrorKind::InvalidInput`] if the path is too long (108 bytes on Linux), or owner or group are unknown;
    /// errors of the file system.
    pub fn bind_as(
        path: &Path,
        mode: Option<u32>,
        (owner, group): (Option<&str>, Option<&str>),
    ) -> io::Result<UnixTransport> {
        let owner = owner.map(|name| look_up(name, "owner", "/etc/passwd")).transpose()?;
        let group = group.map(|name| look_up(name, "group", "/etc/group")).transpose()?;
        let address = SockAddr::unix(path).map_err(|_| {
            let what = format!("the path is longer than a socket may have: {}", path.display());
            io::Error::new(ErrorKind::InvalidInput, what)
        })?;
        remove_stale(path, &address)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&address)?;
        let file = fs::symlink_metadata(path)?;
        let mut bound = UnixTransport {
            listener: Listening::Nobody,
            path: path.to_owned(),
            file: (file.dev(), file.ino()),
            kept: KeptFile::default(),
            accepted: 0,
            drained: false,
        };
        // Nobody can connect before `listen`.
        fs::set_permissions(path, fs::Permissions::from_mode(mode.unwrap_or(MODE)))?;
        if owner.is_some() || group.is_some() {
            std::os::unix::fs::chown(path, owner, group)?;
        }
        socket.listen(BACKLOG)?;
        bound.listener = Listening::Reactor(Async::new(Arc::new(UnixListener::from(socket)))?);
        Ok(bound)
    }

    /// Takes a socket that listens already, such as that of a process that hands its listeners over. From now on its file
    /// belongs to this transport, which removes it when it is dropped; permissions and owner stay.
    ///
    /// ```
    /// use std::os::unix::net::UnixListener;
    /// use hrotti::ListeningSocket;
    /// use hrotti::transport::unix::UnixTransport;
    ///
    /// let path = std::env::temp_dir().join(format!("hrotti-adopted-{}.sock", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// # futures_lite::future::block_on(async {
    /// let transport = UnixTransport::adopt(ListeningSocket::Unix(listener))?;
    /// drop(transport);
    /// assert!(!path.exists());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is no Unix socket with a path; errors of the file system.
    pub fn adopt(socket: ListeningSocket) -> io::Result<UnixTransport> {
        let path = socket.path().ok_or_else(|| unfit("the socket has no path"))?;
        UnixTransport::adopt_at(socket, path)
    }

    /// As [`UnixTransport::adopt`], for a socket that may have [taken the place](UnixTransport::take_place) of another one
    /// at `path`.
    pub(crate) fn adopt_for(socket: ListeningSocket, path: PathBuf) -> io::Result<UnixTransport> {
        if listens_at(&socket, &path) {
            return UnixTransport::adopt_at(socket, path);
        }
        UnixTransport::adopt(socket)
    }

    fn adopt_at(socket: ListeningSocket, path: PathBuf) -> io::Result<UnixTransport> {
        let ListeningSocket::Unix(listener) = socket else {
            return Err(unfit("a TCP socket is no Unix socket"));
        };
        let file = fs::symlink_metadata(&path)?;
        Ok(UnixTransport {
            listener: Listening::Reactor(Async::new(Arc::new(listener))?),
            path,
            file: (file.dev(), file.ino()),
            kept: KeptFile::default(),
            accepted: 0,
            drained: false,
        })
    }

    /// As [`UnixTransport::bind_as`], beside a socket that listens on `path`: peers find this one there after
    /// [`UnixTransport::take_place`].
    pub(crate) fn bind_beside(
        path: &Path,
        mode: Option<u32>,
        owners: (Option<&str>, Option<&str>),
    ) -> io::Result<UnixTransport> {
        UnixTransport::bind_as(&beside(path), mode, owners)
    }

    /// Moves its file to the path that it was bound beside. The socket that listened there keeps the peers that it has
    /// not accepted yet.
    pub(crate) fn take_place(&mut self, path: &Path) -> io::Result<()> {
        if self.path == beside(path) {
            fs::rename(&self.path, path)?;
            path.clone_into(&mut self.path);
        }
        Ok(())
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        loop {
            if self.drained {
                match &self.listener {
                    Listening::Reactor(listener) => ready!(listener.poll_readable(cx))?,
                    Listening::Loop(listener) => ready!(listener.poll_readable(cx)),
                    Listening::Nobody => {}
                }
            }
            let Some(listener) = self.listener.get_ref() else {
                return Poll::Ready(Err(ErrorKind::NotConnected.into()));
            };
            match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.drained = true,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                done => {
                    self.drained = false;
                    return Poll::Ready(done.map(|(socket, _)| socket));
                }
            }
        }
    }

    /// The event loop that this thread is watches the socket from now on.
    fn move_to_loop(&mut self) -> io::Result<()> {
        if let Listening::Reactor(_) = self.listener
            && runtime::is_event_loop()
            && let Listening::Reactor(listener) =
                std::mem::replace(&mut self.listener, Listening::Nobody)
        {
            self.listener = match Registered::new(listener.into_inner()?) {
                Ok(registered) => Listening::Loop(registered?),
                Err(listener) => Listening::Reactor(Async::new(listener)?),
            };
        }
        Ok(())
    }
}

impl Transport for UnixTransport {
    async fn accept(&mut self) -> io::Result<Incoming> {
        self.move_to_loop()?;
        let socket = poll_fn(|cx| self.poll_accept(cx)).await?;
        self.accepted += 1;
        let peer = PeerInfo::from(format!("{}#{}", self.path.display(), self.accepted));
        let peer = match process(&socket) {
            Some(process) => peer.with_identity(process),
            None => peer,
        };
        Ok(Incoming::with_handshake(peer, async move {
            let connected = match Registered::new(socket) {
                Ok(registered) => Connected::Loop(registered?),
                Err(socket) => Connected::Reactor(Async::new(socket)?),
            };
            Ok(SocketStream::new(connected).into_byte_stream())
        }))
    }

    fn local_endpoint(&self) -> String {
        let separator = if self.path.is_absolute() { "//" } else { "" };
        format!("unix:{separator}{}", percent_encoded(&self.path))
    }

    fn sockets(&self) -> ListeningSockets {
        self.listener.get_ref().map_or_else(ListeningSockets::default, |listener| {
            ListeningSockets::of_unix(listener, &self.kept)
        })
    }
}

impl Drop for UnixTransport {
    /// Removes the file, unless another one has taken its place, or another process has the socket, which may have further
    /// handles.
    fn drop(&mut self) {
        if let Listening::Loop(listener) = &self.listener {
            listener.unwatch();
        }
        if self.kept.is_kept() {
            return;
        }
        let is_own = |file: fs::Metadata| (file.dev(), file.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(is_own) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl fmt::Debug for UnixTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnixTransport").field(&self.path).finish()
    }
}

/// Whether peers find a socket at `path`.
pub(crate) fn listens_at(socket: &ListeningSocket, path: &Path) -> bool {
    socket.path().is_some_and(|bound| bound == path || bound == beside(path))
}

/// The path at which a socket is made that is to replace another one. The operating system names the socket by it, also
/// after it has taken that place.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Removes the socket file of a process that has ended.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        let what = format!("there is a file that is no socket: {}", path.display());
        return Err(io::Error::new(ErrorKind::AlreadyExists, what));
    }
    // Without waiting: a full backlog shows a live process, too.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}

/// The number of a user or a group. `list` is the file with their names.
fn look_up(name: &str, kind: &str, list: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = fs::read_to_string(list)?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let number = fields.nth(1)?;
        if is_it { number.parse().ok() } else { None }
    });
    found.ok_or_else(|| {
        let what = format!("the {kind} {name:?} is not in {list}; write its number");
        io::Error::new(ErrorKind::InvalidInput, what)
    })
}

/// The process at the other end, when it connected.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn process(socket: &UnixStream) -> Option<PeerIdentity> {
    let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
    Some(PeerIdentity::UnixProcess {
        uid: peer.uid.as_raw(),
        gid: peer.gid.as_raw(),
        pid: Some(peer.pid.as_raw_pid()),
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn process(_socket: &UnixStream) -> Option<PeerIdentity> {
    None
}

/// A path as it stands in a URL.
fn percent_encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;

    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~+@:,=".contains(&byte);
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
