//! Why a broker is not built, and why a listener is not added or stopped.

use std::fmt;
use std::io;

use crate::listener_config::ListenerConfigError;

/// Why [`BrokerBuilder::try_build`](crate::BrokerBuilder::try_build) failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The event loops cannot be started.
    EventLoops {
        /// The number of event loops that [`BrokerBuilder::event_loops`](crate::BrokerBuilder::event_loops) set.
        threads: usize,
        /// The error of the operating system: it refuses a thread or a file descriptor, or it is not Linux.
        source: io::Error,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BuildError::EventLoops { threads, source } = self;
        write!(f, "{threads} event loops cannot be started: {source}")
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let BuildError::EventLoops { source, .. } = self;
        Some(source)
    }
}

/// Why a listener cannot be added or stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenerError {
    /// The broker already has a listener of this name.
    NameInUse(String),
    /// The broker has no listener of this name.
    Unknown(String),
    /// The configuration is not valid.
    Config(ListenerConfigError),
    /// The address cannot be bound.
    Bind {
        /// The URL of the listener.
        url: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The listener of this name has no TLS.
    NoTls(String),
    /// The certificate, the key or the like cannot be used. The text has one line for each problem.
    Tls(String),
    /// The broker hands its state over.
    HandingOver,
    /// The broker has been stopped.
    Stopped,
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerError::NameInUse(name) => {
                write!(f, "there is a listener named {name:?} already")
            }
            ListenerError::Unknown(name) => write!(f, "there is no listener named {name:?}"),
            ListenerError::Config(error) => error.fmt(f),
            ListenerError::Bind { url, source } => write!(f, "cannot listen on {url}: {source}"),
            ListenerError::NoTls(name) => write!(f, "the listener named {name:?} has no TLS"),
            ListenerError::Tls(problems) => f.write_str(problems),
            ListenerError::HandingOver => f.write_str("the broker hands its state over"),
            ListenerError::Stopped => f.write_str("the broker has been stopped"),
        }
    }
}

impl std::error::Error for ListenerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ListenerError::Config(error) => Some(error),
            ListenerError::Bind { source, .. } => Some(source),
            _ => None,
        }
    }
}
