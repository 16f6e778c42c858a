//! Listening sockets that change hands, from the process that has bound them to one that takes them over.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::fd::OwnedFd;
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// A socket that listens: bound by this process, inherited, or received from another process. While any process has it,
/// the operating system keeps its address, and keeps peers that connect until they are accepted.
///
/// ```
/// use std::net::TcpListener;
/// use hrotti::ListeningSocket;
/// use hrotti::transport::{Transport, tcp::TcpTransport};
///
/// let socket = ListeningSocket::Tcp(TcpListener::bind("127.0.0.1:0")?);
/// let address = socket.address().ok_or(std::io::ErrorKind::Other)?;
/// let transport = TcpTransport::adopt(vec![socket])?;
/// assert_eq!(transport.local_endpoint(), format!("tcp://{address}"));
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ListeningSocket {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(UnixListener),
}

impl ListeningSocket {
    /// The address and port of a TCP socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            ListeningSocket::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            ListeningSocket::Unix(_) => None,
        }
    }

    /// A further handle of the same socket.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn try_clone(&self) -> io::Result<ListeningSocket> {
        Ok(match self {
            ListeningSocket::Tcp(listener) => ListeningSocket::Tcp(listener.try_clone()?),
            #[cfg(unix)]
            ListeningSocket::Unix(listener) => ListeningSocket::Unix(listener.try_clone()?),
        })
    }

    /// The path of a Unix socket.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            ListeningSocket::Tcp(_) => None,
            #[cfg(unix)]
            ListeningSocket::Unix(listener) => {
                listener.local_addr().ok()?.as_pathname().map(Into::into)
            }
        }
    }
}

/// Recognizes a descriptor that was inherited or received.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if it is no stream socket that listens on TCP or on a Unix socket.
#[cfg(unix)]
impl TryFrom<OwnedFd> for ListeningSocket {
    type Error = io::Error;

    fn try_from(descriptor: OwnedFd) -> io::Result<ListeningSocket> {
        let no = |what: &str| io::Error::new(ErrorKind::InvalidInput, what.to_owned());
        let socket = socket2::SockRef::from(&descriptor);
        let address = socket.local_addr().map_err(|_| no("the descriptor is no socket"))?;
        if socket.r#type()? != socket2::Type::STREAM || !is_listening(&socket)? {
            return Err(no("the socket does not listen"));
        }
        if address.as_socket().is_some() {
            return Ok(ListeningSocket::Tcp(descriptor.into()));
        }
        if address.is_unix() {
            return Ok(ListeningSocket::Unix(descriptor.into()));
        }
        Err(no("the socket is neither a TCP socket nor a Unix socket"))
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn is_listening(socket: &socket2::SockRef<'_>) -> io::Result<bool> {
    socket.is_listener()
}

/// Not every system tells.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_os = "freebsd"))))]
fn is_listening(_socket: &socket2::SockRef<'_>) -> io::Result<bool> {
    Ok(true)
}

#[cfg(unix)]
impl From<ListeningSocket> for OwnedFd {
    fn from(socket: ListeningSocket) -> OwnedFd {
        match socket {
            ListeningSocket::Tcp(listener) => listener.into(),
            ListeningSocket::Unix(listener) => listener.into(),
        }
    }
}

/// The listening sockets of a transport, for a process that takes them over. It keeps none of them open.
#[derive(Clone, Default)]
pub struct ListeningSockets(Vec<Held>);

#[derive(Clone)]
enum Held {
    Tcp(Weak<TcpListener>),
    #[cfg(unix)]
    Unix(Weak<UnixListener>, KeptFile),
}

/// Whether the file of a Unix socket stays when its transport is dropped, because another process has the socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptFile(Arc<AtomicBool>);

impl KeptFile {
    pub(crate) fn keep(&self, keep: bool) {
        self.0.store(keep, Ordering::Release);
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl ListeningSockets {
    pub(crate) fn of_tcp<'a>(listeners: impl Iterator<Item = &'a Arc<TcpListener>>) -> Self {
        ListeningSockets(listeners.map(|listener| Held::Tcp(Arc::downgrade(listener))).collect())
    }

    #[cfg(unix)]
    pub(crate) fn of_unix(listener: &Arc<UnixListener>, file: &KeptFile) -> Self {
        ListeningSockets(vec![Held::Unix(Arc::downgrade(listener), file.clone())])
    }

    /// Duplicates the descriptors. Without the sockets of a transport that is gone.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn duplicate(&self) -> io::Result<Vec<ListeningSocket>> {
        let mut sockets = Vec::new();
        for held in &self.0 {
            match held {
                Held::Tcp(listener) => {
                    if let Some(listener) = listener.upgrade() {
                        sockets.push(ListeningSocket::Tcp(listener.try_clone()?));
                    }
                }
                #[cfg(unix)]
                Held::Unix(listener, _) => {
                    if let Some(listener) = listener.upgrade() {
                        sockets.push(ListeningSocket::Unix(listener.try_clone()?));
                    }
                }
            }
        }
        Ok(sockets)
    }

    /// Whether the file of a Unix socket stays when its transport is dropped.
    pub(crate) fn keeps_file(&self) -> bool {
        self.0.iter().any(|held| match held {
            Held::Tcp(_) => false,
            #[cfg(unix)]
            Held::Unix(_, file) => file.is_kept(),
        })
    }

    /// Has the files of Unix sockets stay when their transports are dropped, or not: the file of a socket that a service
    /// manager has bound is the manager's. Default: the transport removes its file.
    pub fn keep_files(&self, keep: bool) {
        for held in &self.0 {
            match held {
                Held::Tcp(_) => {}
                #[cfg(unix)]
                Held::Unix(_, file) => file.keep(keep),
            }
        }
    }

    /// Whether there is a Unix socket whose file stays.
    #[must_use]
    pub fn keeps_files(&self) -> bool {
        self.0.iter().any(|held| match held {
            Held::Tcp(_) => false,
            #[cfg(unix)]
            Held::Unix(_, file) => file.is_kept(),
        })
    }
}

impl fmt::Debug for ListeningSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListeningSockets").field(&self.0.len()).finish()
    }
}

/// The error of a transport that is given sockets of another kind, or none.
pub(crate) fn unfit(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, what.to_owned())
}
