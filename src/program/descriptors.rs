//! File descriptors: raises the limit as far as the system allows, and checks whether it suffices for the
//! configuration. The check comes before anything is bound, because the runtime panics without a descriptor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use hrotti::Limits;
use hrotti::config::Config;
use log::{info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The standard streams, and the files that a look-up of a host name opens for a moment.
const ALWAYS: usize = 3;
const FOR_A_MOMENT: usize = 4;

/// Signals (2), the standard output (3), the standard error (1), the runtime's poller (3).
const PROGRAM: usize = 9;

/// A socket, its reserve, and the handle by which a reload takes it over, for an IPv4 and an IPv6 address.
const PER_LISTENER: usize = 6;

/// The socket of the hand-over, and a process that is heard there.
const HAND_OVER: usize = 2;

/// A poller and its alarm.
const PER_WORKER: usize = 2;

/// The limit of file descriptors, and how many of them are no connections.
#[derive(Debug, PartialEq)]
pub(crate) struct Descriptors {
    /// Descriptors that the system allows; `None` is any number.
    limit: Option<u64>,
    /// Descriptors that are not for connections.
    needed: usize,
}

/// Raises the soft limit to the hard one, and checks that the start can open as many descriptors as it needs.
///
/// # Errors
/// There are too few: the numbers, and the remedy.
pub(crate) fn prepare(config: &Config) -> Result<Descriptors, String> {
    let limit = raise();
    let listeners = config.listeners.len();
    let workers = config.workers.get();
    // One connection, at least.
    // An admin listener has a loop of its own.
    let admin = if config.admin.is_some() {
        PER_LISTENER + PER_WORKER + config.limits.admin_connections_max
    } else {
        0
    };
    let hand_over = if config.hand_over.is_some() { HAND_OVER } else { 0 };
    let needed = PROGRAM + FOR_A_MOMENT + admin + hand_over;
    let needed = needed + PER_LISTENER * listeners + PER_WORKER * workers + 1;
    match obtainable(needed) {
        Ok(()) => Ok(Descriptors { limit, needed: ALWAYS + needed - 1 }),
        Err((had, error)) => Err(format!(
            "not enough file descriptors: {listeners} listener(s) and workers = {workers} need {needed}, and the \
             system gives {had} ({error}); raise the limit (ulimit -n {}, or LimitNOFILE= of a systemd unit), or \
             lower workers",
            ALWAYS + needed
        )),
    }
}

/// The soft limit after it was raised as far as the system lets it.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum
        || setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err()
    {
        return current;
    }
    maximum
}

/// Opens `count` descriptors and closes them again. The error has how many could be opened, and why no more.
fn obtainable(count: usize) -> Result<(), (usize, io::Error)> {
    let mut opened: Vec<OwnedFd> = Vec::with_capacity(count);
    while opened.len() < count {
        match io::stderr().as_fd().try_clone_to_owned() {
            Ok(descriptor) => opened.push(descriptor),
            Err(error) => return Err((opened.len(), error)),
        }
    }
    Ok(())
}

impl Descriptors {
    /// Connections that fit beside everything else; `None` is any number.
    fn connections(&self) -> Option<u64> {
        Some(self.limit?.saturating_sub(u64::try_from(self.needed).unwrap_or(u64::MAX)))
    }

    /// Logs how many connections fit if `limits.connectionsMax` is larger: as a warning if that limit was configured.
    pub(crate) fn report(&self, limits: &Limits) {
        let Some((fit, limit)) = self.connections().zip(self.limit) else { return };
        let wanted = u64::try_from(limits.connections_max).unwrap_or(u64::MAX);
        if fit >= wanted {
            return;
        }
        if limits.connections_max == Limits::default().connections_max {
            info!(target: "hrotti", "about {fit} connections fit into the limit of {limit} file descriptors");
        } else {
            warn!(
                target: "hrotti",
                "limits.connectionsMax is {wanted}, but only about {fit} connections fit into the limit of {limit} \
                 file descriptors; raise it (ulimit -n, or LimitNOFILE= of a systemd unit), or lower connectionsMax"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = raise();
        assert_eq!(limit, getrlimit(Resource::Nofile).current);
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum);
    }

    #[test]
    fn connections_are_what_the_rest_leaves() {
        let descriptors = |limit| Descriptors { limit, needed: 20 };
        assert_eq!(descriptors(None).connections(), None);
        assert_eq!(descriptors(Some(1_024)).connections(), Some(1_004));
        assert_eq!(descriptors(Some(7)).connections(), Some(0));
    }

    #[test]
    fn what_cannot_be_had_is_told_with_the_number_that_can() {
        assert!(obtainable(8).is_ok());
        let prepared = prepare(&Config::default()).expect("a default start");
        assert_eq!(prepared.needed, 3 + 9 + 4 + 6 + 2);
    }
}
