//! A server on its listeners, from the first bind to the last signal.

use std::io::{self, Write as _};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use async_global_executor::GlobalExecutorConfig;
use async_std::task::block_on;
use hrotti::AdminConfig;
use hrotti::admin::Admin;
use hrotti::config::Config;
use hrotti::server::{Loaded, Server, ServerErrors};
use log::LevelFilter;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::descriptors::{self, Descriptors};
use super::logging;
use super::stdout::Guard;

/// What to run.
pub(crate) struct Order {
    pub(crate) config: Config,
    pub(crate) loaded: Loaded,
    /// Reads the configuration again, from where it came.
    pub(crate) source: Box<dyn Fn() -> Result<Config, ServerErrors> + Send + Sync>,
    /// The log level of the command line.
    pub(crate) level: Option<LevelFilter>,
}

/// Runs until a signal ends it. The errors are those of the start, one line each; then nothing is running. Relative paths
/// are under `base`.
pub(crate) fn until_stopped(order: Order, base: &Path) -> Result<(), Vec<String>> {
    let one = |what: &str, error: &io::Error| vec![format!("{what}: {error}")];
    let config = &order.config;
    let descriptors = descriptors::prepare(config).map_err(|error| vec![error])?;
    // Before anything else: a signal that comes while the listeners are bound is not lost.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| one("signals cannot be received", &error))?;
    let printer = logging::start(&config.logging, order.level)
        .map_err(|error| one("the log cannot be started", &error))?;
    let guard = Guard::new(printer.lost_line())
        .map_err(|error| one("the standard output cannot be replaced by a pipe", &error))?;
    // Before the first use of the executor, which would choose its number of threads by itself. With event loops it
    // runs only the clock and the stop.
    let threads = if cfg!(target_os = "linux") { 1 } else { config.workers.get() };
    async_global_executor::init_with_config(
        GlobalExecutorConfig::default().with_min_threads(threads).with_max_threads(threads),
    );
    let served = block_on(start(order, base, &descriptors)).and_then(|(server, _admin)| {
        wait(&server, &mut signals)
            .map_err(|error| one("the broker cannot be stopped in good order", &error))
    });
    log::logger().flush();
    log::set_max_level(LevelFilter::Off);
    drop(guard);
    served
}

/// Binds every listener, and only then accepts.
async fn start(
    order: Order,
    base: &Path,
    descriptors: &Descriptors,
) -> Result<(Server, Option<Admin>), Vec<String>> {
    let Order { config, loaded, source, .. } = order;
    let limits = config.limits.clone();
    let started = Server::start_with(config, loaded, base).await;
    let server = started.map_err(|errors| errors.lines().map(str::to_owned).collect::<Vec<_>>())?;
    server.set_source(source);
    for listener in server.listeners() {
        // A closed standard output is no error.
        let mut out = io::stdout().lock();
        let endpoints = listener.endpoints.join(" ");
        let _ =
            writeln!(out, "listening: {} {endpoints}", listener.name).and_then(|()| out.flush());
    }
    let admin = match server.loaded().admin() {
        Some(config) => Some(administer(&server, config).await?),
        None => None,
    };
    descriptors.report(&limits);
    Ok((server, admin))
}

/// Starts the admin listener, which may do what the server can.
async fn administer(server: &Server, config: &AdminConfig) -> Result<Admin, Vec<String>> {
    let admin = Admin::builder(server.broker().clone()).operator(Arc::new(server.clone()));
    let admin =
        admin.serve(config.clone()).await.map_err(|error| vec![format!("admin: {error}")])?;
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "admin: {}", admin.endpoints().join(" ")).and_then(|()| out.flush());
    Ok(admin)
}

/// Waits for a signal, and for the broker to stop. A second signal ends the process at once. SIGHUP stops nothing:
/// the configuration is read again.
fn wait(server: &Server, signals: &mut Signals) -> io::Result<()> {
    let handle = signals.handle();
    let reloads = reloads(server)?;
    let mut stop = None;
    for signal in signals.forever() {
        if signal == SIGHUP {
            // If one waits already, it reads what is there now.
            let _queued = reloads.try_send(());
            continue;
        }
        if stop.is_some() {
            process::exit(128 + signal);
        }
        log::info!(target: "hrotti", "stopping; a second signal ends the program at once");
        let (server, done) = (server.clone(), Done(handle.clone()));
        let stopping = thread::Builder::new().name("stop".to_owned()).spawn(move || {
            block_on(server.stop());
            drop(done);
        })?;
        stop = Some(stopping);
    }
    match stop.map(thread::JoinHandle::join) {
        Some(Ok(())) => Ok(()),
        Some(Err(_)) | None => Err(io::Error::other("the thread that stops the broker panicked")),
    }
}

/// A thread that reads the configuration again for each message. While it does, one more may wait.
fn reloads(server: &Server) -> io::Result<SyncSender<()>> {
    let (sender, orders) = mpsc::sync_channel(1);
    let server = server.clone();
    thread::Builder::new().name("reload".to_owned()).spawn(move || {
        for () in orders {
            // The outcome is logged.
            let _ = block_on(server.reload_from_source());
        }
    })?;
    Ok(sender)
}

/// Ends the wait for signals when it is dropped, so that a stop that fails ends the program too.
struct Done(Handle);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.close();
    }
}
