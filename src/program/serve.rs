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
use hrotti::server::{Adopted, Loaded, Server, ServerErrors};
use log::LevelFilter;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::activation;
use super::descriptors::{self, Descriptors};
use super::handover::{self, Control, Given, Taken};
use super::logging;
use super::stdout::Guard;
use super::systemd;

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
    let adopted = activation::take(config)?;
    let served = block_on(start(order, base, &descriptors, adopted));
    let served = served.and_then(|Serving { server, admin, control, took_over }| {
        let _reporter = systemd::report(server.broker(), took_over)
            .map_err(|error| one("the thread that reports to systemd cannot be started", &error))?;
        let given = Given::default();
        if let Some(control) = control {
            let (admin, handle) = (admin.clone(), signals.handle());
            let free = move || admin.iter().for_each(|admin| block_on(admin.stop()));
            handover::give(control, server.broker(), &given, free, move || handle.close())
                .map_err(|error| one("handOver: no thread can be started", &error))?;
        }
        wait(&server, &mut signals, &given)
            .map_err(|error| one("the broker cannot be stopped in good order", &error))
    });
    log::logger().flush();
    log::set_max_level(LevelFilter::Off);
    drop(guard);
    served
}

/// What runs after the start.
struct Serving {
    server: Server,
    admin: Option<Arc<Admin>>,
    /// Where the next process is heard.
    control: Option<Control>,
    /// Sessions and sockets of a process before this one are here.
    took_over: bool,
}

/// Binds every listener, or takes its sockets from systemd or from a process that runs, and only then accepts.
async fn start(
    order: Order,
    base: &Path,
    descriptors: &Descriptors,
    mut adopted: Adopted,
) -> Result<Serving, Vec<String>> {
    let Order { config, loaded, source, .. } = order;
    let limits = config.limits.clone();
    let lines = |errors: ServerErrors| errors.lines().map(str::to_owned).collect::<Vec<_>>();
    let one = |error: String| vec![error];
    let path = config.hand_over.as_deref();
    let control = path.map(Control::bind).transpose().map_err(one)?;
    let taking = path.map(|path| handover::begin(path, &limits)).transpose().map_err(one)?;
    let mut taking = taking.flatten();
    if let Some(taking) = &mut taking {
        taking.give_sockets(&config, &mut adopted);
    }
    let bound = Server::bind(config, loaded, base, adopted).await.map_err(lines)?;
    let taken = match taking {
        Some(taking) => Some(taking.take_state(bound.broker()).await.map_err(one)?),
        None => None,
    };
    let server = bound.accept().map_err(lines)?;
    server.set_source(source);
    // Too late to give up: the Sessions are here.
    if let Some(Err(problem)) = control.as_ref().map(Control::publish) {
        log::error!(target: "hrotti", "no hand-over will be possible: {problem}");
    }
    for listener in server.listeners() {
        // A closed standard output is no error.
        let mut out = io::stdout().lock();
        let endpoints = listener.endpoints.join(" ");
        let _ =
            writeln!(out, "listening: {} {endpoints}", listener.name).and_then(|()| out.flush());
    }
    let admin = administer(&server, taken.as_ref()).await?;
    descriptors.report(&limits);
    Ok(Serving { server, admin, control, took_over: taken.is_some() })
}

/// Starts the admin listener, if the configuration has one. After a hand-over the one before has to free the address
/// first, and a failure is logged: the Sessions are here, and the process that had them ends.
async fn administer(
    server: &Server,
    taken: Option<&Taken>,
) -> Result<Option<Arc<Admin>>, Vec<String>> {
    let loaded = server.loaded();
    let Some(config) = loaded.admin() else { return Ok(None) };
    if let Some(taken) = taken {
        taken.until_addresses_are_free();
    }
    match serve_admin(server, config).await {
        Err(problems) if taken.is_some() => {
            log::error!(target: "hrotti", "no admin listener runs: {}", problems.join("; "));
            Ok(None)
        }
        done => done.map(|admin| Some(Arc::new(admin))),
    }
}

/// Starts the admin listener, which may do what the server can.
async fn serve_admin(server: &Server, config: &AdminConfig) -> Result<Admin, Vec<String>> {
    let admin = Admin::builder(server.broker().clone()).operator(Arc::new(server.clone()));
    let admin =
        admin.serve(config.clone()).await.map_err(|error| vec![format!("admin: {error}")])?;
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "admin: {}", admin.endpoints().join(" ")).and_then(|()| out.flush());
    Ok(admin)
}

/// Waits for a signal, and for the broker to stop. A second signal ends the process at once. SIGHUP stops nothing:
/// the configuration is read again.
fn wait(server: &Server, signals: &mut Signals, given: &Given) -> io::Result<()> {
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
        systemd::stopping();
        let (server, done) = (server.clone(), Done(handle.clone()));
        let stopping = thread::Builder::new().name("stop".to_owned()).spawn(move || {
            block_on(server.stop());
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

/// A thread that reads the configuration again for each message. While it does, one more may wait.
fn reloads(server: &Server) -> io::Result<SyncSender<()>> {
    let (sender, orders) = mpsc::sync_channel(1);
    let server = server.clone();
    thread::Builder::new().name("reload".to_owned()).spawn(move || {
        for () in orders {
            systemd::reloading();
            // The outcome is logged.
            let status = match block_on(server.reload_from_source()) {
                Ok(_) => "serving with the new configuration",
                Err(_) => {
                    "serving with the old configuration: the new one was refused, see the log"
                }
            };
            systemd::reloaded(status);
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
