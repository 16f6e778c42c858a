//! A broker on its listeners, from the first bind to the last signal.

use std::io::{self, ErrorKind, Write as _};
use std::process;
use std::thread;

use async_global_executor::GlobalExecutorConfig;
use async_std::task::block_on;
use hrotti::config::Config;
use hrotti::transport::tls::TlsErrors;
use hrotti::{Broker, BuildError, ListenerConfig, ListenerError, Transport};
use log::LevelFilter;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::descriptors::{self, Descriptors};
use super::handover::{self, Control, Given};
use super::loaded::Loaded;
use super::logging;
use super::stdout::Guard;

/// Runs until a signal ends it. The errors are those of the start, one line each; then nothing is running. `level` is
/// the log level of the command line.
pub(crate) fn until_stopped(
    config: &Config,
    loaded: &Loaded,
    level: Option<LevelFilter>,
) -> Result<(), Vec<String>> {
    let one = |what: &str, error: &io::Error| vec![format!("{what}: {error}")];
    let descriptors = descriptors::prepare(config).map_err(|error| vec![error])?;
    // Before anything else: a signal that comes while the listeners are bound is not lost.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| one("signals cannot be received", &error))?;
    let printer = logging::start(&config.logging, level)
        .map_err(|error| one("the log cannot be started", &error))?;
    let guard = Guard::new(printer.lost_line())
        .map_err(|error| one("the standard output cannot be replaced by a pipe", &error))?;
    // Before the first use of the executor, which would choose its number of threads by itself. With event loops it
    // runs only the clock and the stop.
    let threads = if cfg!(target_os = "linux") { 1 } else { config.workers.get() };
    async_global_executor::init_with_config(
        GlobalExecutorConfig::default().with_min_threads(threads).with_max_threads(threads),
    );
    let served = block_on(start(config, loaded, &descriptors)).and_then(|(broker, control)| {
        let given = Given::default();
        if let Some(control) = control {
            let handle = signals.handle();
            handover::give(control, &broker, &given, move || handle.close())
                .map_err(|error| one("handOver: no thread can be started", &error))?;
        }
        wait(&broker, &mut signals, &given)
            .map_err(|error| one("the broker cannot be stopped in good order", &error))
    });
    log::logger().flush();
    log::set_max_level(LevelFilter::Off);
    drop(guard);
    served
}

/// Binds every listener, or takes its sockets from a process that runs, and only then lets the broker accept.
async fn start(
    config: &Config,
    loaded: &Loaded,
    descriptors: &Descriptors,
) -> Result<(Broker, Option<Control>), Vec<String>> {
    let one = |error: String| vec![error];
    let path = config.hand_over.as_deref();
    let control = path.map(Control::bind).transpose().map_err(one)?;
    let taking = path.map(|path| handover::begin(path, &config.limits)).transpose().map_err(one)?;
    let mut taking = taking.flatten();
    let mut bound = Vec::new();
    let mut errors = Vec::new();
    for ((name, listener), material) in config.listeners.iter().zip(&loaded.tls) {
        let sockets = taking.as_mut().map(|taking| taking.sockets_for(name, listener));
        let sockets = sockets.unwrap_or_default();
        let (limits, adopts) = (&config.limits, !sockets.is_empty());
        let transport = match material {
            Some(material) if adopts => listener.adopt_with_tls(sockets, limits, material).await,
            Some(material) => listener.bind_with_tls(limits, material).await,
            None if adopts => listener.adopt(sockets, limits).await,
            None => listener.bind(limits).await,
        };
        match transport {
            Ok(transport) => bound.push((name, transport, listener.rules.clone())),
            Err(error) => errors.extend(unbound(name, listener, &error)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    for warning in &loaded.warnings {
        log::warn!(target: "hrotti", "{warning}");
    }
    let threads = if cfg!(target_os = "linux") { config.workers.get() } else { 0 };
    let denied_publish = config.access.denied_publish.unwrap_or_default();
    let builder = Broker::builder().limits(config.limits.clone()).event_loops(threads);
    let builder = builder.denied_publish(denied_publish);
    let broker = match loaded.access.policy() {
        Some(policy) => builder.policy(policy).try_build(),
        None => builder.try_build(),
    };
    let broker = broker.map_err(|error| vec![no_workers(threads, &error)])?;
    if let Some(taking) = taking {
        taking.take_state(&broker).await.map_err(one)?;
    }
    // Too late to give up: the Sessions are here.
    if let Some(Err(problem)) = control.as_ref().map(Control::publish) {
        log::error!(target: "hrotti", "no hand-over will be possible: {problem}");
    }
    for (name, transport, rules) in bound {
        let endpoints = transport.local_endpoints();
        let added = broker.add_transport_with(name, transport, rules).await;
        added.map_err(|error| vec![refused(name, &error)])?;
        // A closed standard output is no error.
        let mut out = io::stdout().lock();
        let _ =
            writeln!(out, "listening: {name} {}", endpoints.join(" ")).and_then(|()| out.flush());
    }
    descriptors.report(&config.limits);
    Ok((broker, control))
}

fn no_workers(workers: usize, error: &BuildError) -> String {
    format!(
        "workers: {workers} threads cannot be started: {error}; lower workers, or raise the system's limit of threads \
         or file descriptors (ulimit -u, ulimit -n)"
    )
}

/// What is said of a listener that cannot be bound, one line for each problem.
fn unbound(name: &str, listener: &ListenerConfig, error: &io::Error) -> Vec<String> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsErrors>());
    match inner {
        // They have their remedies.
        Some(errors) => errors.iter().map(|error| format!("listener {name}: {error}")).collect(),
        None => vec![format!(
            "listener {name}: {listener} cannot be bound: {error}; {}",
            remedy(error, listener)
        )],
    }
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

fn refused(name: &str, error: &ListenerError) -> String {
    match error {
        ListenerError::Bind { url, source } => format!("listener {name}: {url}: {source}"),
        error => format!("listener {name}: {error:?}"),
    }
}

/// Waits for a signal, and for the broker to stop. A second signal ends the process at once. SIGHUP stops nothing:
/// it asks a server to read its configuration again, and a rotation of logs sends it.
fn wait(broker: &Broker, signals: &mut Signals, given: &Given) -> io::Result<()> {
    let handle = signals.handle();
    let mut stop = None;
    for signal in signals.forever() {
        if signal == SIGHUP {
            log::warn!(target: "hrotti", "SIGHUP has no effect: the configuration is read only at the start");
            continue;
        }
        if stop.is_some() {
            process::exit(128 + signal);
        }
        log::info!(target: "hrotti", "stopping; a second signal ends the program at once");
        let (broker, done) = (broker.clone(), Done(handle.clone()));
        let stopping = thread::Builder::new().name("stop".to_owned()).spawn(move || {
            block_on(broker.stop());
            drop(done);
        })?;
        stop = Some(stopping);
    }
    match stop.map(thread::JoinHandle::join) {
        Some(Ok(())) => Ok(()),
        None if given.is_done() => Ok(()),
        Some(Err(_)) | None => Err(io::Error::other("the thread that stops the broker panicked")),
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
        let mut listener = ListenerConfig::new("mqtts://127.0.0.1:0").expect("a good URL");
        listener.tls = Some(hrotti::TlsConfig::new("no-such.pem", "no-such.key"));
        let error = block_on(listener.bind(&hrotti::Limits::default())).expect_err("no such files");
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
