//! A broker that runs by a configuration: it is started from one, and another one is put in force without losing a
//! connection.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_lock::Semaphore;

use crate::broker::Broker;
use crate::config::{Change, Config};
use crate::events::Happening;
use crate::listener_config::ListenerConfig;
use crate::net::bound::{BoundListener, Material, Place};
use crate::net::listener::{Listener, Listeners};
use crate::runtime;
use crate::sync::lock;
use crate::transport::{ListeningSocket, Transport as _};

mod binding;
mod loaded;
#[cfg(feature = "admin")]
mod operator;
mod plan;
mod reload;

pub use loaded::Loaded;

use plan::Plan;
use reload::Reload;

/// Sockets that listen already, for the listeners of a configuration by their names: those of a service manager, or of a
/// process that hands its listeners over.
///
/// ```
/// use std::net::TcpListener;
///
/// use hrotti::ListeningSocket;
/// use hrotti::server::Adopted;
///
/// let mut adopted = Adopted::default();
/// adopted.add("tcp", ListeningSocket::Tcp(TcpListener::bind("127.0.0.1:0")?));
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct Adopted {
    listeners: BTreeMap<String, AdoptedListener>,
    keep_files: bool,
}

#[derive(Debug)]
struct AdoptedListener {
    sockets: Vec<ListeningSocket>,
    keep_files: bool,
}

impl Adopted {
    /// None yet, of an owner who removes the files of Unix sockets itself, such as systemd. Without this, a listener removes
    /// its file when it stops.
    #[must_use]
    pub fn keeping_files() -> Adopted {
        Adopted { keep_files: true, ..Adopted::default() }
    }

    /// Adds a socket for the listener of this name, which may have several. A listener without one is bound.
    pub fn add(&mut self, listener: &str, socket: ListeningSocket) {
        let keep_files = self.keep_files;
        let none_yet = || AdoptedListener { sockets: Vec::new(), keep_files };
        self.listeners.entry(listener.to_owned()).or_insert_with(none_yet).sockets.push(socket);
    }

    /// Adds the sockets of another owner, for listeners that have none here.
    pub fn fill(&mut self, others: Adopted) {
        for (name, listener) in others.listeners {
            self.listeners.entry(name).or_insert(listener);
        }
    }
}

/// A server whose addresses are bound, and which does not accept yet: its broker can be prepared, such as by
/// [`Broker::import_state`]. Dropped, it frees the addresses.
///
/// ```
/// use std::path::Path;
///
/// use futures_lite::future::block_on;
/// use hrotti::config::Config;
/// use hrotti::server::{Adopted, Loaded, Server};
///
/// let text = r#"{ "listeners": { "tcp": { "url": "tcp://127.0.0.1:0" } } }"#;
/// let config = Config::from_json(text, "config.json")?;
/// let loaded = Loaded::read(&config, Path::new(""))?;
/// let bound = block_on(Server::bind(config, loaded, Path::new(""), Adopted::default()))?;
/// assert!(bound.broker().listeners().is_empty());
/// let server = bound.accept()?;
/// assert_eq!(server.broker().listeners().len(), 1);
/// # block_on(server.stop());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "it does not accept yet"]
pub struct BoundServer {
    broker: Broker,
    state: State,
    base: PathBuf,
    bound: Vec<BoundListener>,
}

impl BoundServer {
    /// The broker, which has no listeners yet.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Accepts from now on.
    ///
    /// # Errors
    /// The broker has been stopped, or hands its state over.
    pub fn accept(self) -> Result<Server, ServerErrors> {
        let BoundServer { broker, mut state, base, bound } = self;
        let config = state.config.clone();
        for ((name, listener), transport) in config.listeners.iter().zip(bound) {
            let added = broker.accept_on(name, transport, listener.rules.clone());
            let added =
                added.map_err(|error| ServerErrors(vec![binding::refused(name, &error)]))?;
            state.note_started(&added);
        }
        let shared = Shared {
            broker,
            base,
            source: Mutex::new(None),
            turn: Semaphore::new(1),
            state: Mutex::new(state),
        };
        Ok(Server { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for BoundServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundServer").field("listeners", &self.bound.len()).finish_non_exhaustive()
    }
}

/// A [`Broker`] that runs by a [`Config`]: its listeners, limits, access rules, certificates.
///
/// Another configuration is put in force by [`Server::reload`], while Clients stay connected. Everything that can fail
/// comes first: all files are read and checked, and new addresses are bound. Then all is replaced at once, or nothing.
///
/// A `Server` is a cheap handle. It stops by [`Server::stop`], or when the last handle is dropped. The program may add
/// listeners of its own to the [`Server::broker`], under names that the configuration does not use.
///
/// ```
/// use futures_lite::future::block_on;
/// use hrotti::config::Config;
/// use hrotti::server::Server;
///
/// let config = |more: &str| {
///     let text = format!(r#"{{ "listeners": {{ "tcp": {{ "url": "tcp://127.0.0.1:0" }} }} {more} }}"#);
///     Config::from_json(&text, "config.json")
/// };
/// let (old, new) = (config("")?, config(r#", "limits": { "maxInflight": 64 }"#)?);
/// block_on(async {
///     let server = Server::start(old, "".as_ref()).await?;
///     let changes = server.reload(new).await?;
///     assert_eq!(changes[0].to_string(), "~ limits.maxInflight 1024 -> 64 (new connections)");
///     assert_eq!(server.broker().limits().max_inflight, 64);
///     server.stop().await;
///     Ok::<(), hrotti::server::ServerErrors>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What all handles share.
struct Shared {
    broker: Broker,
    /// Relative paths of the configuration are under it.
    base: PathBuf,
    /// Where the configuration comes from.
    source: Mutex<Option<Arc<Source>>>,
    /// One change at a time: a reload, a listener that is started or stopped.
    turn: Semaphore,
    state: Mutex<State>,
}

/// Reads the configuration again.
type Source = dyn Fn() -> Result<Config, ServerErrors> + Send + Sync;

/// What is in force.
struct State {
    config: Arc<Config>,
    loaded: Arc<Loaded>,
    /// All listeners of the broker, those that the program has added itself among them.
    all: Arc<Listeners>,
    /// The listeners that were started for the configuration, by their names, with their numbers.
    started: BTreeMap<String, u32>,
}

impl State {
    fn new(config: Config, loaded: Loaded, all: Arc<Listeners>) -> State {
        let (config, loaded, started) = (Arc::new(config), Arc::new(loaded), BTreeMap::new());
        State { config, loaded, all, started }
    }

    /// A listener of the configuration in force, and its certificate.
    fn listener(&self, name: &str) -> Option<(&ListenerConfig, Option<&Material>)> {
        let all = &self.config.listeners;
        let at = all.iter().position(|(known, _)| known == name)?;
        Some((&all[at].1, self.loaded.tls.get(at).and_then(Option::as_ref)))
    }

    /// A listener that was started for the configuration, unless it was stopped.
    fn running(&self, name: &str) -> Option<Arc<Listener>> {
        let number = *self.started.get(name)?;
        self.all.find(name).filter(|listener| listener.number() == number)
    }

    fn is_stopped(&self, name: &str) -> bool {
        self.running(name).is_none()
    }

    fn note_started(&mut self, listener: &Listener) {
        self.started.insert(listener.name().to_owned(), listener.number());
    }
}

/// Why a server does not start, or a configuration is not put in force: one line each, with file or key, value and
/// remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerErrors(Vec<String>);

impl ServerErrors {
    /// Errors from elsewhere, such as those of a file that cannot be read: one for each line of the text.
    #[must_use]
    pub fn new(text: &str) -> ServerErrors {
        ServerErrors(text.lines().map(str::to_owned).collect())
    }

    /// The errors, at least one.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// One line for each error.
impl fmt::Display for ServerErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ServerErrors {}

impl From<crate::config::ConfigErrors> for ServerErrors {
    fn from(errors: crate::config::ConfigErrors) -> ServerErrors {
        ServerErrors(errors.iter().map(ToString::to_string).collect())
    }
}

/// A listener of the configuration in force.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServedListener {
    /// Its name.
    pub name: String,
    /// Its URL in the configuration.
    pub url: String,
    /// The endpoints that are bound; none while it is stopped.
    pub endpoints: Vec<String>,
    /// Whether it accepts. One that was stopped can be started again.
    pub running: bool,
    /// Its Network Connections at this moment.
    pub connections: usize,
}

impl Server {
    /// Reads all files of a configuration, binds all its listeners, and only then accepts. Relative paths are under
    /// `base`, the directory of the configuration file. Blocks while files are read.
    ///
    /// # Errors
    /// Everything that keeps the server from running: files, addresses, threads. Nothing is running then.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing bound.
    pub async fn start(config: Config, base: &Path) -> Result<Server, ServerErrors> {
        let loaded = Loaded::read(&config, base)?;
        Server::start_with(config, loaded, base, Adopted::default()).await
    }

    /// As [`Server::start`], with files that were read from `base` for this configuration, and with sockets that listen
    /// already.
    ///
    /// # Errors
    /// As [`Server::start`].
    ///
    /// # Cancel safety
    /// As [`Server::start`].
    pub async fn start_with(
        config: Config,
        loaded: Loaded,
        base: &Path,
        adopted: Adopted,
    ) -> Result<Server, ServerErrors> {
        Server::bind(config, loaded, base, adopted).await?.accept()
    }

    /// As [`Server::start_with`], without accepting.
    ///
    /// # Errors
    /// As [`Server::start`].
    ///
    /// # Cancel safety
    /// As [`Server::start`].
    pub async fn bind(
        config: Config,
        loaded: Loaded,
        base: &Path,
        mut adopted: Adopted,
    ) -> Result<BoundServer, ServerErrors> {
        let (mut bound, mut errors) = (Vec::new(), Vec::new());
        for ((name, listener), material) in config.listeners.iter().zip(&loaded.tls) {
            let given = adopted.listeners.remove(name);
            let keep_files = given.as_ref().is_some_and(|given| given.keep_files);
            let place = given.map_or(Place::New, |given| Place::Sockets(given.sockets));
            match binding::bind(name, listener, place, &config.limits, material.as_ref()).await {
                Ok(one) => {
                    one.sockets().keep_files(keep_files);
                    bound.push(one);
                }
                Err(error) => errors.extend(error.lines),
            }
        }
        if !errors.is_empty() {
            return Err(ServerErrors(errors));
        }
        for warning in loaded.warnings() {
            log::warn!(target: "hrotti", "{warning}");
        }
        let broker = build(&config, &loaded)?;
        let state = State::new(config, loaded, broker.listening().clone());
        Ok(BoundServer { broker, state, base: base.to_owned(), bound })
    }

    /// Says how the configuration is read again, for [`Server::reload_from_source`]. Without a source, the configuration
    /// in force is taken again, and only the files that it names are read anew.
    pub fn set_source(
        &self,
        source: impl Fn() -> Result<Config, ServerErrors> + Send + Sync + 'static,
    ) {
        *lock(&self.shared.source) = Some(Arc::new(source));
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.shared.state().config.clone()
    }

    /// What was read from the files of the configuration in force.
    #[must_use]
    pub fn loaded(&self) -> Arc<Loaded> {
        self.shared.state().loaded.clone()
    }

    /// The listeners of the configuration in force, in its order, those that are stopped among them.
    #[must_use]
    pub fn listeners(&self) -> Vec<ServedListener> {
        let infos = self.broker().listeners();
        let state = self.shared.state();
        let served = state.config.listeners.iter().map(|(name, listener)| {
            let info = infos.iter().find(|info| info.name == *name && !state.is_stopped(name));
            ServedListener {
                name: name.clone(),
                url: listener.to_string(),
                endpoints: info.map(|info| info.endpoints.clone()).unwrap_or_default(),
                running: info.is_some(),
                connections: info.map_or(0, |info| info.connections),
            }
        });
        served.collect()
    }

    /// What another configuration would change. All its files are read and checked; nothing is bound, and nothing is
    /// done.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub async fn plan(&self, config: Config) -> Result<Vec<Change>, ServerErrors> {
        let (config, loaded) = self.read(move || Ok(config)).await?;
        let plan = Plan::new(&self.shared.state(), &config, &loaded);
        Ok(plan.changes)
    }

    /// As [`Server::plan`], for the configuration as its source has it now.
    ///
    /// # Errors
    /// As [`Server::plan`], and those of the source.
    pub async fn plan_from_source(&self) -> Result<Vec<Change>, ServerErrors> {
        let (config, loaded) = self.read(self.again()).await?;
        let plan = Plan::new(&self.shared.state(), &config, &loaded);
        Ok(plan.changes)
    }

    /// Puts another configuration in force, and returns what has changed.
    ///
    /// - A listener whose URL is the same keeps its connections. Its rules, certificate and origins are replaced in place;
    ///   a Client stays connected unless the new rules do not serve its network or its version of MQTT, or give its topics
    ///   another mount point (MQTT 5: 0x98).
    /// - A listener whose URL is another one is bound anew, at the same sockets if the address is the same, and its Clients
    ///   are disconnected (MQTT 5: 0x98), as are those of a listener that is gone.
    /// - Access rules hold at once, as [`Broker::set_policy`] says. They are replaced if a setting or the contents of a
    ///   file has changed; otherwise nothing is asked again. Bans that were added while the broker ran stay.
    /// - Limits hold as [`Broker::set_limits`] says; those of transports hold for new connections.
    /// - The number of workers and the streams of the log change with the next start.
    ///
    /// A listener that [`Server::stop_listener`] has stopped stays stopped. If a listener leaves an address that overlaps
    /// with a new one, it stops accepting for a moment; if the new one cannot be bound, it accepts again.
    ///
    /// A further call waits for the first. What has changed, or why nothing has, is logged on one line and announced as
    /// [`Happening::Reloaded`] or [`Happening::ReloadFailed`].
    ///
    /// # Errors
    /// A file is not valid, an address cannot be bound, the program has added a listener of its own under the name of a new
    /// one, the server was stopped, or it hands its state over. What was in force stays in force.
    ///
    /// # Cancel safety
    /// The first poll begins the reload. Dropping the future ends the waiting, not the reload.
    pub async fn reload(&self, config: Config) -> Result<Vec<Change>, ServerErrors> {
        self.carry_out(move || Ok(config)).await
    }

    /// As [`Server::reload`], with the configuration as its source has it now: see [`Server::set_source`].
    ///
    /// # Errors
    /// As [`Server::reload`], and those of the source.
    ///
    /// # Cancel safety
    /// As [`Server::reload`].
    pub async fn reload_from_source(&self) -> Result<Vec<Change>, ServerErrors> {
        self.carry_out(self.again()).await
    }

    /// Starts a listener that was stopped.
    ///
    /// # Errors
    /// There is no such listener in the configuration, it runs already, the program has added one of this name itself, its
    /// address cannot be bound, or the server hands its state over.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the listener stopped, or started.
    pub async fn start_listener(&self, name: &str) -> Result<(), ServerErrors> {
        let _turn = self.shared.turn.acquire().await;
        self.shared.may_change()?;
        let (config, loaded) = {
            let state = self.shared.state();
            (state.config.clone(), state.loaded.clone())
        };
        let at = config.listeners.iter().position(|(known, _)| known == name);
        let at = at.ok_or_else(|| unknown(name))?;
        if !self.shared.state().is_stopped(name) {
            return Err(ServerErrors::new(&format!("listener {name}: it runs already")));
        }
        let (listener, limits) = (&config.listeners[at].1, &config.limits);
        let material = loaded.tls.get(at).and_then(Option::as_ref);
        let bound = binding::bind(name, listener, Place::New, limits, material).await;
        let transport = bound.map_err(|error| ServerErrors(error.lines))?;
        let added = self.broker().accept_on(name, transport, listener.rules.clone());
        let added = added.map_err(|error| ServerErrors(vec![binding::refused(name, &error)]))?;
        self.shared.state().note_started(&added);
        Ok(())
    }

    /// Stops a listener as [`Broker::stop_listener`] does. It stays in the configuration, and [`Server::start_listener`]
    /// starts it again.
    ///
    /// # Errors
    /// There is no such listener in the configuration, it is stopped already, or the server hands its state over.
    ///
    /// # Cancel safety
    /// Dropping the future ends the waiting for its Clients, not the stop.
    pub async fn stop_listener(&self, name: &str) -> Result<(), ServerErrors> {
        let gone = {
            let _turn = self.shared.turn.acquire().await;
            self.shared.may_change()?;
            let state = self.shared.state();
            state.listener(name).ok_or_else(|| unknown(name))?;
            let running = state.running(name);
            let gone = running.and_then(|_| self.broker().begin_to_stop_listener(name).ok());
            gone.ok_or_else(|| {
                ServerErrors::new(&format!("listener {name}: it is stopped already"))
            })?
        };
        gone.await;
        Ok(())
    }

    /// Stops the broker as [`Broker::stop`] does.
    ///
    /// # Cancel safety
    /// As [`Broker::stop`].
    pub async fn stop(&self) {
        self.broker().stop().await;
    }

    /// How the configuration is read again.
    fn again(&self) -> impl FnOnce() -> Result<Config, ServerErrors> + Send + 'static {
        let source = lock(&self.shared.source).clone();
        let present = self.config();
        move || match source {
            Some(source) => source(),
            None => Ok((*present).clone()),
        }
    }

    /// Reads a configuration and its files, on a thread that may block.
    async fn read(
        &self,
        source: impl FnOnce() -> Result<Config, ServerErrors> + Send + 'static,
    ) -> Result<(Config, Loaded), ServerErrors> {
        let base = self.shared.base.clone();
        let work = move || {
            let config = source()?;
            let loaded = Loaded::read(&config, &base)?;
            Ok((config, loaded))
        };
        let read = runtime::on_a_thread("configuration", work).await;
        read.map_err(|error| {
            ServerErrors(vec![format!("the configuration cannot be read on a thread: {error}")])
        })?
    }

    async fn carry_out(
        &self,
        source: impl FnOnce() -> Result<Config, ServerErrors> + Send + 'static,
    ) -> Result<Vec<Change>, ServerErrors> {
        let (done, outcome) = async_channel::bounded(1);
        let server = self.clone();
        // A task of its own, which ends whether anybody waits for it or not.
        self.broker().engine().host.spawn_aside(async move {
            let _turn = server.shared.turn.acquire().await;
            // It fails only if nobody waits.
            let _ = done.try_send(server.carry_out_now(source).await);
        });
        let outcome = outcome.recv().await;
        outcome.unwrap_or_else(|_| Err(ServerErrors::new("the task of the reload has panicked")))
    }

    async fn carry_out_now(
        &self,
        source: impl FnOnce() -> Result<Config, ServerErrors> + Send + 'static,
    ) -> Result<Vec<Change>, ServerErrors> {
        let done = self.try_to_carry_out(source).await;
        let engine = self.broker().engine();
        match &done {
            Ok(changes) => {
                let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
                let said = if lines.is_empty() { "no change".to_owned() } else { lines.join("; ") };
                log::info!(target: "hrotti", "reloaded: {said}");
                engine.announcer.announce(|| Happening::Reloaded { changes: lines });
            }
            Err(errors) => {
                let said = errors.0.join("; ");
                log::error!(target: "hrotti", "not reloaded, what was in force stays: {said}");
                let errors = errors.0.clone();
                engine.announcer.announce(|| Happening::ReloadFailed { errors });
            }
        }
        done
    }

    async fn try_to_carry_out(
        &self,
        source: impl FnOnce() -> Result<Config, ServerErrors> + Send + 'static,
    ) -> Result<Vec<Change>, ServerErrors> {
        let (config, mut loaded) = self.read(source).await?;
        self.shared.may_change()?;
        let present = self.loaded();
        let plan = Plan::new(&self.shared.state(), &config, &loaded);
        if !plan.access {
            // The same policy: what it knows of Clients stays.
            loaded.access = present.access.clone();
        }
        let new_warning = |warning: &&String| !present.warnings().contains(warning);
        let warnings: Vec<String> = loaded.warnings().iter().filter(new_warning).cloned().collect();
        Reload::carry_out(&self.shared, &config, &loaded, &plan).await?;
        for warning in warnings {
            log::warn!(target: "hrotti", "{warning}");
        }
        Ok(plan.changes)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether listeners and settings may change now.
    fn may_change(&self) -> Result<(), ServerErrors> {
        let engine = self.broker.engine();
        if engine.is_stopping() {
            return Err(ServerErrors::new("the server has been stopped"));
        }
        if engine.standstill.is_closing() {
            return Err(ServerErrors::new(
                "the server hands its listeners and its state over to another process; ask that one",
            ));
        }
        Ok(())
    }

    /// Stops a listener without waiting for its Clients.
    fn begin_to_stop(&self, name: &str) {
        // It fails only if the listener has been stopped meanwhile.
        let _ = self.broker.begin_to_stop_listener(name);
    }
}

fn unknown(name: &str) -> ServerErrors {
    ServerErrors::new(&format!("listener {name}: there is none of this name in the configuration"))
}

/// The broker of a configuration, without listeners.
fn build(config: &Config, loaded: &Loaded) -> Result<Broker, ServerErrors> {
    let threads = if cfg!(target_os = "linux") { config.workers.get() } else { 0 };
    let builder = Broker::builder().limits(config.limits.clone()).event_loops(threads);
    let builder = builder.denied_publish(config.access.denied_publish.unwrap_or_default());
    let builder = builder.sys_interval(config.sys_interval);
    let broker = match loaded.access.policy() {
        Some(policy) => builder.policy(policy).try_build(),
        None => builder.try_build(),
    };
    broker.map_err(|error| ServerErrors(vec![binding::no_workers(threads, &error)]))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listeners", &self.listeners()).finish_non_exhaustive()
    }
}
