//! Binds listeners, and says what to do where that fails.

use std::io::{self, ErrorKind};

use crate::broker::{BuildError, ListenerError};
use crate::limits::Limits;
use crate::listener_config::ListenerConfig;
use crate::net::bound::{BoundListener, Material, Place};
#[cfg(feature = "tls")]
use crate::transport::tls::TlsErrors;

/// Binds a listener without accepting.
///
/// # Errors
/// One line for each problem, and whether the address is in use.
pub(super) async fn bind(
    name: &str,
    listener: &ListenerConfig,
    place: Place,
    limits: &Limits,
    material: Option<&Material>,
) -> Result<BoundListener, Unbound> {
    let bound = listener.bind_at(place, limits, material).await;
    bound.map_err(|error| Unbound {
        lines: unbound(name, listener, &error),
        in_use: error.kind() == ErrorKind::AddrInUse,
    })
}

/// Why a listener is not bound.
#[derive(Debug)]
pub(super) struct Unbound {
    pub(super) lines: Vec<String>,
    /// Somebody listens at its address.
    pub(super) in_use: bool,
}

/// What is said of a listener that cannot be bound, one line for each problem.
fn unbound(name: &str, listener: &ListenerConfig, error: &io::Error) -> Vec<String> {
    #[cfg(feature = "tls")]
    if let Some(errors) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsErrors>()) {
        // They have their remedies.
        return errors.iter().map(|error| format!("listener {name}: {error}")).collect();
    }
    let remedy = remedy(error, listener);
    vec![format!("listener {name}: {listener} cannot be bound: {error}; {remedy}")]
}

/// The remedy for a listener that cannot be bound.
fn remedy(error: &io::Error, listener: &ListenerConfig) -> String {
    if listener.is_unix() {
        return remedy_of_a_file(error);
    }
    let port = listener.port();
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("stop the program that listens on port {port}, or choose another port")
        }
        ErrorKind::PermissionDenied => {
            format!("choose a port above 1023, or let the program bind port {port}")
        }
        ErrorKind::AddrNotAvailable => format!(
            "no interface of this machine has the address {}; write * for every interface",
            listener.host()
        ),
        _ => format!("check the host {:?}", listener.host()),
    }
}

/// The remedy for a Unix socket that cannot be bound.
fn remedy_of_a_file(error: &io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => "stop the program that listens there, or choose another path",
        ErrorKind::AlreadyExists => "choose another path, or move the file away",
        ErrorKind::PermissionDenied => {
            "let the user of the program write in the directory and choose owner and group, or choose another path"
        }
        ErrorKind::NotFound => "make the directory, or choose another path",
        ErrorKind::InvalidInput => {
            "choose a path of at most 107 bytes, and an owner and a group of this machine"
        }
        _ => "choose another path",
    };
    remedy.to_owned()
}

/// What is said of a listener that the broker does not take.
pub(super) fn refused(name: &str, error: &ListenerError) -> String {
    format!("listener {name}: {error}")
}

pub(super) fn no_workers(workers: usize, error: &BuildError) -> String {
    format!(
        "workers: {workers} threads cannot be started: {error}; lower workers, or raise the system's limit of threads \
         or file descriptors (ulimit -u, ulimit -n)"
    )
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn remedies_fit_the_error() {
        let listener = ListenerConfig::new("tcp://192.0.2.1:80").expect("a good URL");
        for (kind, part) in [
            (ErrorKind::AddrInUse, "listens on port 80"),
            (ErrorKind::PermissionDenied, "above 1023"),
            (ErrorKind::AddrNotAvailable, "192.0.2.1"),
            (ErrorKind::Other, "check the host"),
        ] {
            let text = remedy(&io::Error::from(kind), &listener);
            assert!(text.contains(part), "{kind:?}: {text}");
        }
    }

    #[test]
    fn remedies_of_unix_sockets_and_of_tls_fit_the_error() {
        let listener = ListenerConfig::new("unix:///run/hrotti.sock").expect("a good URL");
        for (kind, part) in [
            (ErrorKind::AddrInUse, "stop the program"),
            (ErrorKind::AlreadyExists, "move the file away"),
            (ErrorKind::PermissionDenied, "write in the directory"),
            (ErrorKind::NotFound, "make the directory"),
            (ErrorKind::InvalidInput, "at most 107 bytes"),
            (ErrorKind::Other, "another path"),
        ] {
            let lines = unbound("u", &listener, &io::Error::from(kind));
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].starts_with("listener u: unix:///run/hrotti.sock cannot be bound: "));
            assert!(lines[0].contains(part) && !lines[0].contains("port"), "{kind:?}: {lines:?}");
        }
        if !cfg!(feature = "tls") {
            return;
        }
        let mut listener = ListenerConfig::new("mqtts://127.0.0.1:0").expect("a good URL");
        listener.tls = Some(crate::TlsConfig::new("no-such.pem", "no-such.key"));
        let error = block_on(listener.bind(&Limits::default())).expect_err("no such files");
        let lines = unbound("t", &listener, &error);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].starts_with("listener t: no-such.key: cannot be read: "), "{lines:?}");
    }

    #[test]
    fn workers_that_cannot_be_had_are_named_with_the_reason_and_a_remedy() {
        let error = BuildError::EventLoops { threads: 200, source: ErrorKind::WouldBlock.into() };
        let text = no_workers(200, &error);
        for part in
            ["workers: 200", &ErrorKind::WouldBlock.to_string(), "lower workers", "ulimit -u"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
