//! A broker on its listeners, from the first bind to the last signal.

use std::io::{self, ErrorKind, Write as _};
use std::process;
use std::thread;

use async_global_executor::GlobalExecutorConfig;
use async_std::task::block_on;
use hrotti::config::Config;
use hrotti::transport::tcp::TcpTransport;
use hrotti::transport::ws::WsTransport;
use hrotti::{Broker, Limits, ListenerConfig, ListenerError, Transport};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::logging::Printer;
use super::stdout::Guard;

/// A transport that listens and does not accept yet.
enum Bound {
    Tcp(TcpTransport),
    Ws(WsTransport),
}

/// Runs until a signal ends it. The errors are what kept it from starting, one line each; nothing was
/// started then.
pub(crate) fn until_stopped(config: &Config, printer: Printer) -> Result<(), Vec<String>> {
    let one = |what: &str, error: &io::Error| vec![format!("{what}: {error}")];
    // Before anything else: a signal that comes while the listeners are bound is not lost.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| one("signals cannot be received", &error))?;
    let guard = match printer {
        Printer::Femme => {
            Some(Guard::new().map_err(|error| one("the standard output cannot be kept", &error))?)
        }
        Printer::Router => None,
    };
    // Before the first use of the executor, which would choose by itself. With event loops it has only to
    // accept and to keep the time.
    let threads = if cfg!(target_os = "linux") { 1 } else { config.workers.get() };
    async_global_executor::init_with_config(
        GlobalExecutorConfig::default().with_min_threads(threads).with_max_threads(threads),
    );
    let broker = block_on(start(config))?;
    wait(&broker, &mut signals)
        .map_err(|error| one("the broker cannot be stopped in good order", &error))?;
    log::logger().flush();
    log::set_max_level(log::LevelFilter::Off);
    drop(guard);
    Ok(())
}

/// Binds every listener, and only then lets the broker accept.
async fn start(config: &Config) -> Result<Broker, Vec<String>> {
    let mut bound = Vec::new();
    let mut errors = Vec::new();
    for (name, listener) in &config.listeners {
        match bind(listener, &config.limits).await {
            Ok(transport) => bound.push((name, transport)),
            Err(error) => errors.push(format!(
                "listener {name}: {} cannot be bound: {error}; {}",
                listener.url,
                remedy(&error, listener)
            )),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let broker =
        Broker::builder().limits(config.limits.clone()).event_loops(config.workers.get()).build();
    for (name, transport) in bound {
        let (endpoints, added) = match transport {
            Bound::Tcp(transport) => {
                (transport.local_endpoints(), broker.add_transport(name, transport).await)
            }
            Bound::Ws(transport) => {
                (transport.local_endpoints(), broker.add_transport(name, transport).await)
            }
        };
        added.map_err(|error| vec![refused(name, &error)])?;
        // That nobody reads it is no error.
        let mut out = io::stdout().lock();
        let _ =
            writeln!(out, "listening: {name} {}", endpoints.join(" ")).and_then(|()| out.flush());
    }
    Ok(broker)
}

async fn bind(listener: &ListenerConfig, limits: &Limits) -> io::Result<Bound> {
    let (host, port) = (listener.host(), listener.port());
    if listener.is_websocket() {
        let (path, origins) = (Some(listener.path()), listener.origins.clone());
        Ok(Bound::Ws(WsTransport::bind(host, port, path, origins).await?.with_limits(limits)))
    } else {
        Ok(Bound::Tcp(TcpTransport::bind(host, port).await?.with_limits(limits)))
    }
}

/// What to do about a listener that cannot be bound.
fn remedy(error: &io::Error, listener: &ListenerConfig) -> String {
    let port = listener.port();
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("stop the program that listens on port {port}, or choose another port")
        }
        ErrorKind::PermissionDenied => {
            format!("choose a port above 1023, or let the program bind port {port}")
        }
        ErrorKind::AddrNotAvailable => format!(
            "no interface of this machine has the address {}; * is every one of them",
            listener.host()
        ),
        _ => format!("check the host {:?}", listener.host()),
    }
}

fn refused(name: &str, error: &ListenerError) -> String {
    match error {
        ListenerError::Bind { url, source } => format!("listener {name}: {url}: {source}"),
        error => format!("listener {name}: {error:?}"),
    }
}

/// Waits for a signal, and for the broker to stop. A second signal ends the process at once. SIGHUP stops nothing:
/// it asks a server to read its configuration again, and a rotation of logs sends it.
fn wait(broker: &Broker, signals: &mut Signals) -> io::Result<()> {
    let handle = signals.handle();
    let mut stop = None;
    for signal in signals.forever() {
        if signal == SIGHUP {
            log::warn!(target: "hrotti", "SIGHUP has no effect: the configuration is read at the start alone");
            continue;
        }
        if stop.is_some() {
            process::exit(128 + signal);
        }
        log::info!(target: "hrotti", "stopping; another signal ends the program at once");
        let (broker, done) = (broker.clone(), Done(handle.clone()));
        let stopping = thread::Builder::new().name("stop".to_owned()).spawn(move || {
            block_on(broker.stop());
            drop(done);
        })?;
        stop = Some(stopping);
    }
    match stop.map(thread::JoinHandle::join) {
        Some(Ok(())) => Ok(()),
        Some(Err(_)) | None => Err(io::Error::other("the stop ended too early")),
    }
}

/// Ends the wait for signals when it is dropped, so that a stop that fails ends the program too.
struct Done(Handle);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
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
}
