//! The program's configuration: JSON text or one URL in, valid types out.
//!
//! Nothing here reads a file or the environment, so that a host program can use the same format from
//! wherever it keeps it. [`Config::check_hosts`] alone asks the machine, for what the text cannot tell.
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

use crate::limits::Limits;
use crate::listener_config::ListenerConfig;
use crate::listener_config::unusable;

mod errors;
mod json;
mod keys;
mod read;

pub use errors::{ConfigError, ConfigErrors};
pub use keys::table;

/// The name of the listener where none was given one: the original's.
pub const DEFAULT_LISTENER: &str = "envconfig";

/// Everything that the program can be told, checked as a whole.
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
    /// The listeners by name, in the order of the file; no name and no address twice, at least one.
    pub listeners: Vec<(String, ListenerConfig)>,
    /// Every bound, `maxQueueDepth` among them.
    pub limits: Limits,
    /// Threads that run connections, 1 to 256. Default 1, which costs least at low load. Where all are
    /// busy, work waits. It is for whoever starts the executor: a [`Broker`](crate::Broker) has none.
    pub workers: NonZeroUsize,
    /// Where log records go.
    pub logging: Logging,
}

impl Config {
    /// Reads a configuration file's text. `source` is its name, for errors. What is not said has its
    /// default; `listeners` has none, and must hold at least one.
    ///
    /// # Errors
    /// Every error of the text, each with key, value and remedy: not JSON, a key that is unknown or stands
    /// twice, a value of the wrong type or out of its range, a URL that cannot be served, an address twice.
    pub fn from_json(text: &str, source: &str) -> Result<Config, ConfigErrors> {
        read::config(text, source)
    }

    /// One listener named [`DEFAULT_LISTENER`] on `url`, and the default of everything else. `source` is
    /// where the URL comes from, for errors.
    ///
    /// # Errors
    /// Where no listener can serve the URL.
    pub fn from_url(url: &str, source: &str) -> Result<Config, ConfigErrors> {
        match ListenerConfig::new(url) {
            Ok(listener) => Ok(Config::with_listener(listener)),
            Err(error) => Err(ConfigErrors::one(source, "", error.to_string())),
        }
    }

    /// Finds what only the machine can tell of the listeners before they are bound: host names without an
    /// address, addresses of other machines, and listeners whose host names stand for the same address.
    /// `source` is as in [`Config::from_json`] or [`Config::from_url`]. No port is bound, so a port that
    /// another program uses, or that needs a permission, is found by the start alone: a configuration can be
    /// checked while a server is running with it.
    ///
    /// It blocks while host names are looked up.
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
            [(name, _)] if name == DEFAULT_LISTENER => String::new(),
            all => read::url_key(&all[index].0),
        };
        let errors: Vec<ConfigError> = unusable(&self.listeners)
            .into_iter()
            .flat_map(|(index, problem)| ConfigErrors::one(source, &key(index), problem).0)
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    fn with_listener(listener: ListenerConfig) -> Config {
        Config {
            listeners: vec![(DEFAULT_LISTENER.to_owned(), listener)],
            limits: Limits::default(),
            workers: NonZeroUsize::MIN,
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

/// What would run: a line per listener, then a line per setting with its value.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, listener) in &self.listeners {
            write!(f, "listener {name}: {}", listener.url)?;
            if !listener.origins.is_empty() {
                write!(f, " for pages of {}", listener.origins.join(", "))?;
            }
            writeln!(f)?;
        }
        keys::settings(self).try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Where log records go, by what they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logging {
    /// Records at level info. Default `stdout`.
    pub info: Stream,
    /// What connections say to each other, packet by packet: target `hrotti::protocol`, level debug.
    /// Default `discard`.
    pub protocol: Stream,
    /// Records at the levels error and warn. Default `stdout`.
    pub error: Stream,
    /// Other records at the levels debug and trace. Default `discard`.
    pub debug: Stream,
}

impl Default for Logging {
    fn default() -> Logging {
        Logging {
            info: Stream::Stdout,
            protocol: Stream::Discard,
            error: Stream::Stdout,
            debug: Stream::Discard,
        }
    }
}

/// Where one kind of log record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
    /// Nowhere.
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
