//! The program's configuration: JSON text or one URL in, valid types out.
//!
//! This module reads neither files nor the environment, so that a host program can keep a configuration in this
//! format anywhere. Only [`Config::check_hosts`] queries the machine: it looks host names up.
//!
//! ```
//! use hrotti::config::Config;
//!
//! let text = r#"{ "maxQueueDepth": 100, "listeners": { "tcp": { "url": "tcp://0.0.0.0:1883" } } }"#;
//! let config = Config::from_json(text, "config.json")?;
//! assert_eq!(config.limits.max_queue_depth, 100);
//! assert_eq!(config.listeners[0].0, "tcp");
//!
//! let errors = Config::from_json(r#"{ "listners": {} }"#, "config.json").unwrap_err();
//! assert!(errors.to_string().contains("did you mean \"listeners\"?"));
//! # Ok::<(), hrotti::config::ConfigErrors>(())
//! ```

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::access::AccessConfig;
use crate::admin_config::AdminConfig;
use crate::limits::Limits;
use crate::listener_config::ListenerConfig;
use crate::listener_config::unusable;

mod access_keys;
mod admin_keys;
mod changes;
mod errors;
mod json;
mod keys;
mod listener_keys;
mod read;
mod setting;
mod values;

pub use changes::{Change, difference};
pub use errors::{ConfigError, ConfigErrors};
pub use keys::table;
pub use setting::Setting;

pub use crate::limits::Holds;

/// The name of the listener that [`Config::from_url`] and [`Config::default`] make: `envconfig`.
pub const DEFAULT_LISTENER: &str = "envconfig";

const DEFAULT_SYS_INTERVAL: Duration = Duration::from_secs(10);

/// The program's whole configuration, checked.
///
/// ```
/// use hrotti::config::Config;
///
/// let config = Config::from_url("ws://0.0.0.0:1883/mqtt", "HROTTI_URL")?;
/// let broker = hrotti::Broker::builder().limits(config.limits).build();
/// for (name, listener) in config.listeners {
///     println!("{name} serves {}", listener.path()); // broker.add_listener(&name, listener).await?
/// }
/// # drop(broker);
/// # Ok::<(), hrotti::config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The listeners with their names, in the order of the file: at least one; names and addresses are unique.
    pub listeners: Vec<(String, ListenerConfig)>,
    /// Who may connect, and what Clients may do.
    pub access: AccessConfig,
    /// The admin listener. Default: none.
    pub admin: Option<AdminConfig>,
    /// Every bound, `maxQueueDepth` among them.
    pub limits: Limits,
    /// Threads that run connections, 1 to 256. Default 1, which costs least at low load. While all are busy,
    /// connections wait. The program passes it to [`BrokerBuilder::event_loops`](crate::BrokerBuilder::event_loops).
    pub workers: NonZeroUsize,
    /// The time between two publications of the topics below `$SYS/broker/`, 0 to a day; 0 is off. Default 10 s. The
    /// program passes it to [`BrokerBuilder::sys_interval`](crate::BrokerBuilder::sys_interval).
    pub sys_interval: Duration,
    /// The path of the Unix socket where the program hands its sockets and its state over to a process that is started
    /// with the same configuration; absolute. Default: none, and nothing is handed over.
    pub hand_over: Option<PathBuf>,
    /// Where log records go.
    pub logging: Logging,
}

impl Config {
    /// Reads the text of a configuration file. `source` is the file's name, for errors. Missing keys have their
    /// defaults, except `listeners`, which must hold at least one listener.
    ///
    /// # Errors
    /// Every error of the text, each with key, value and remedy: text that is not JSON, a key that is unknown or
    /// given twice, a value of the wrong type or out of its range, a URL that no listener can serve, an address
    /// that two listeners claim.
    pub fn from_json(text: &str, source: &str) -> Result<Config, ConfigErrors> {
        read::config(text, source)
    }

    /// A configuration with one listener named [`DEFAULT_LISTENER`] on `url`, and defaults for everything else.
    /// `source` names the origin of the URL, for errors.
    ///
    /// # Errors
    /// The URL cannot be served by a listener.
    pub fn from_url(url: &str, source: &str) -> Result<Config, ConfigErrors> {
        let listener = ListenerConfig::new(url);
        match listener.and_then(|listener| listener.validate().map(|()| listener)) {
            Ok(listener) => Ok(Config::with_listener(listener)),
            Err(error) => Err(ConfigErrors::one(source, "", error.to_string())),
        }
    }

    /// Checks the listeners' hosts on this machine before they are bound: finds host names without an address,
    /// addresses that this machine does not have, and listeners whose hosts resolve to the same address. `source`
    /// is that of [`Config::from_json`] or [`Config::from_url`].
    ///
    /// It binds no port, so a configuration can be checked while a server runs with it. Ports that another program
    /// uses, or that need a permission, are therefore found only when the listeners are bound.
    ///
    /// Blocks while host names are looked up.
    ///
    /// ```
    /// use hrotti::config::Config;
    ///
    /// let text = r#"{ "listeners": { "a": { "url": "tcp://localhost:1883" }, "b": { "url": "mqtt://127.0.0.1" } } }"#;
    /// let config = Config::from_json(text, "config.json")?;
    /// let errors = config.check_hosts("config.json").unwrap_err().to_string();
    /// assert!(errors.starts_with("config.json: listeners.b.url: "));
    /// assert!(errors.contains("the same address, 127.0.0.1:1883, as listener \"a\""));
    /// # Ok::<(), hrotti::config::ConfigErrors>(())
    /// ```
    ///
    /// # Errors
    /// Every listener that cannot be bound, with its key, its URL and the remedy.
    pub fn check_hosts(&self, source: &str) -> Result<(), ConfigErrors> {
        let key = |index: usize| match self.listeners.as_slice() {
            all if index == all.len() => "admin.url".to_owned(),
            [(name, _)] if name == DEFAULT_LISTENER => String::new(),
            all => read::url_key(&all[index].0),
        };
        let mut all = self.listeners.clone();
        all.extend(self.admin.iter().map(|admin| ("admin".to_owned(), admin.address().clone())));
        let errors: Vec<ConfigError> = unusable(&all)
            .into_iter()
            .flat_map(|(index, problem)| ConfigErrors::one(source, &key(index), problem).0)
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    fn with_listener(listener: ListenerConfig) -> Config {
        Config {
            listeners: vec![(DEFAULT_LISTENER.to_owned(), listener)],
            access: AccessConfig::default(),
            admin: None,
            limits: Limits::default(),
            workers: NonZeroUsize::MIN,
            sys_interval: DEFAULT_SYS_INTERVAL,
            hand_over: None,
            logging: Logging::default(),
        }
    }
}

impl Default for Config {
    /// One listener named [`DEFAULT_LISTENER`] on `tcp://0.0.0.0:1883`.
    fn default() -> Config {
        let listener = ListenerConfig::new("tcp://0.0.0.0:1883");
        Config::with_listener(listener.expect("the default URL is good; a test reads it"))
    }
}

/// One line per listener, then one line per setting with its value: the output of `-check`.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, listener) in &self.listeners {
            write!(f, "listener {name}: {listener}")?;
            if !listener.origins.is_empty() {
                write!(f, " for pages of {}", listener.origins.join(", "))?;
            }
            if let Some(tls) = &listener.tls {
                write!(f, " ({tls})")?;
            }
            writeln!(f)?;
        }
        if let Some(admin) = &self.admin {
            write!(f, "admin: {admin}")?;
            writeln!(f, " ({})", admin_keys::door(admin))?;
        }
        keys::listener_settings(self).try_for_each(|line| writeln!(f, "{line}"))?;
        keys::settings(self).try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The format of log records, and the stream for each kind of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logging {
    /// How a record is written. Default `text`.
    pub format: LogFormat,
    /// Records at level info. Default `stdout`.
    pub info: Stream,
    /// The packets and ends of connections: target `hrotti::protocol`, levels debug and trace. Default `discard`.
    pub protocol: Stream,
    /// Records at the levels error and warn. Default `stdout`.
    pub error: Stream,
    /// Other records at the levels debug and trace. Default `discard`.
    pub debug: Stream,
}

impl Default for Logging {
    fn default() -> Logging {
        Logging {
            format: LogFormat::Text,
            info: Stream::Stdout,
            protocol: Stream::Discard,
            error: Stream::Stdout,
            debug: Stream::Discard,
        }
    }
}

/// How log records are written, each as one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, target and message.
    Text,
    /// For programs: a JSON object with `level` (trace 10, debug 20, info 30, warn 40, error 50), `time` (milliseconds
    /// since 1970) and `msg`.
    Json,
}

impl LogFormat {
    const ALL: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }

    fn named(name: &str) -> Option<LogFormat> {
        LogFormat::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// The destination of one kind of log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
    /// Records are discarded.
    Discard,
}

impl Stream {
    const ALL: [Stream; 3] = [Stream::Stdout, Stream::Stderr, Stream::Discard];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Discard => "discard",
        }
    }

    fn named(name: &str) -> Option<Stream> {
        Stream::ALL.into_iter().find(|stream| stream.name() == name)
    }
}

#[cfg(test)]
mod tests;
