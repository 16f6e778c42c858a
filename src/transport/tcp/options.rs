//! Options of accepted sockets that detect a vanished peer: TCP keep-alive and the user timeout.

use std::time::Duration;

use log::warn;
use socket2::{SockRef, TcpKeepalive};

use crate::limits::Limits;

/// Whether accepted sockets inherit the options of the listening socket.
pub(super) const ARE_INHERITED: bool = cfg!(target_os = "linux");

/// When the system probes a silent peer, and when it closes the connection.
pub(super) struct Options {
    /// `None`: no probes.
    keep_alive: Option<TcpKeepalive>,
    /// 0: the system's default.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    user_timeout: Duration,
}

impl Options {
    pub(super) fn of(limits: &Limits) -> Options {
        let seconds = |number: u16| Duration::from_secs(number.into());
        let keep_alive = (limits.tcp_keep_alive_secs > 0).then(|| {
            let idle = TcpKeepalive::new().with_time(seconds(limits.tcp_keep_alive_secs));
            #[cfg(any(unix, windows))]
            #[cfg(not(any(target_os = "openbsd", target_os = "haiku", target_os = "solaris")))]
            let idle = idle
                .with_interval(seconds(limits.tcp_keep_alive_interval_secs))
                .with_retries(limits.tcp_keep_alive_probes.into());
            idle
        });
        Options {
            keep_alive,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            user_timeout: limits.tcp_user_timeout,
        }
    }

    /// Sets the options. A connection works without them, so a failure is only logged.
    pub(super) fn set<'s, S>(&self, socket: &'s S)
    where
        SockRef<'s>: From<&'s S>,
    {
        let socket = SockRef::from(socket);
        let kept = match &self.keep_alive {
            Some(keep_alive) => socket.set_tcp_keepalive(keep_alive),
            None => socket.set_keepalive(false),
        };
        if let Err(error) = kept {
            warn!("TCP keep-alive cannot be set: {error}");
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Err(error) = socket.set_tcp_user_timeout(Some(self.user_timeout)) {
            warn!("the TCP user timeout cannot be set: {error}");
        }
    }
}
