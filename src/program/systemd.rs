//! systemd as the parent: readiness, the status line, and the watchdog. Without systemd (`NOTIFY_SOCKET` is not set)
//! nothing is sent and no thread runs.

use std::env;
use std::io;
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_std::future::timeout;
use async_std::task::block_on;
use hrotti::Broker;
use log::warn;
use sd_notify::NotifyState;

/// The time between two status lines where no watchdog asks for a shorter one.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The thread that reports a broker to systemd, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reporter(Option<(Sender<()>, JoinHandle<()>)>);

/// Says that the program serves, and reports from then on that its event loops answer. `took_over`: a process before this
/// one ends with success, and this one is the service's main process from now on.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn report(broker: &Broker, took_over: bool) -> io::Result<Reporter> {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(Reporter(None));
    }
    if took_over {
        tell(&[NotifyState::MainPid(process::id())]);
    }
    tell(&[NotifyState::Ready, NotifyState::Status(&status(broker))]);
    let watchdog = sd_notify::watchdog_enabled();
    // systemd recommends half of its time.
    let period = watchdog.map_or(STATUS_EVERY, |time| time / 2);
    let (stop, stopped) = mpsc::channel();
    let broker = broker.clone();
    let thread = thread::Builder::new().name("systemd".to_owned()).spawn(move || {
        let mut last = String::new();
        while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
            if watchdog.is_some() {
                feed(&broker, period);
            }
            let status = status(&broker);
            if status != last {
                tell(&[NotifyState::Status(&status)]);
                last = status;
            }
        }
    })?;
    Ok(Reporter(Some((stop, thread))))
}

/// Feeds the watchdog if every event loop answers. systemd ends and starts the program again if that stays out.
fn feed(broker: &Broker, limit: Duration) {
    if block_on(timeout(limit, broker.heartbeat())).is_ok() {
        tell(&[NotifyState::Watchdog]);
    } else {
        warn!(target: "hrotti", "an event loop has not answered for {limit:?}; the watchdog is not fed");
    }
}

/// Says that the configuration is read again; [`reloaded`] says that this is over.
pub(crate) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Says that the program serves again, with a new or the old configuration.
pub(crate) fn reloaded(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the program stops.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping: sending waiting messages")]);
}

/// One line for `systemctl status`.
fn status(broker: &Broker) -> String {
    let counters = broker.counters();
    format!(
        "serving {} connections on {} listeners; {} Sessions",
        counters.connections,
        broker.listeners().len(),
        counters.sessions
    )
}

fn tell(states: &[NotifyState<'_>]) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    if let Err(error) = sd_notify::notify(states) {
        warn!(target: "hrotti", "systemd cannot be told: {error}");
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}
