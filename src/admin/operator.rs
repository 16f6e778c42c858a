//! What an admin listener asks of the program around the broker.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::access::Bans;
use crate::config::Setting;

/// The answer to a question that may take time.
pub type Operation<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What runs a broker: it knows the configuration, reads it again, starts and stops the listeners in it, and has the list
/// of bans. The program `hrotti` implements it; an embedder may, and gives it to
/// [`AdminBuilder::operator`](super::AdminBuilder::operator). Without an operator, requests that need one are answered
/// with the status 409.
///
/// A method that reads files does so on a thread of its own: its future is polled on the thread that serves all
/// connections of the admin listener.
///
/// ```
/// use std::sync::Arc;
///
/// use hrotti::access::Bans;
/// use hrotti::admin::{Operation, Operator, OperatorError};
/// use hrotti::config::Setting;
///
/// /// Has a list of bans, and a configuration that never changes.
/// #[derive(Debug)]
/// struct Fixed(Arc<Bans>);
///
/// impl Operator for Fixed {
///     fn settings(&self) -> Vec<Setting> {
///         vec![Setting::new("limits.sessionsMax", "1000000 sessions", true)]
///     }
///
///     fn reload(&self, _dry_run: bool) -> Operation<'_, Result<Vec<String>, OperatorError>> {
///         Box::pin(async { Ok(Vec::new()) })
///     }
///
///     fn bans(&self) -> Option<Arc<Bans>> {
///         Some(self.0.clone())
///     }
/// }
/// # let _: Arc<dyn Operator> = Arc::new(Fixed(Arc::new(Bans::new(10))));
/// ```
pub trait Operator: Send + Sync + 'static {
    /// The configuration in force, in the order of the documentation. The default implementation has none.
    fn settings(&self) -> Vec<Setting> {
        Vec::new()
    }

    /// The listeners of the configuration, whether they are started or stopped. The default implementation has none,
    /// and the admin listener shows those of the broker.
    fn listeners(&self) -> Vec<ConfiguredListener> {
        Vec::new()
    }

    /// Reads the configuration again and puts it in force; with `dry_run` it says only what would change. Returns the
    /// changes, one line each. The default implementation fails with [`OperatorError::Unsupported`].
    ///
    /// # Errors
    /// [`OperatorError::Invalid`]: the new configuration cannot be used, and the old one stays in force.
    fn reload(&self, dry_run: bool) -> Operation<'_, Result<Vec<String>, OperatorError>> {
        let _ = dry_run;
        Box::pin(async { Err(OperatorError::Unsupported("reads no configuration".to_owned())) })
    }

    /// Starts a listener of the configuration that was stopped. The default implementation fails with
    /// [`OperatorError::Unsupported`].
    ///
    /// # Errors
    /// [`OperatorError::Unknown`]: the configuration has no such listener; [`OperatorError::Refused`]: it is started
    /// already, or its address cannot be bound.
    fn start_listener<'a>(&'a self, name: &'a str) -> Operation<'a, Result<(), OperatorError>> {
        let _ = name;
        Box::pin(async { Err(OperatorError::Unsupported("starts no listener".to_owned())) })
    }

    /// Stops a listener and disconnects its Clients. The default implementation fails with
    /// [`OperatorError::Unsupported`].
    ///
    /// # Errors
    /// [`OperatorError::Unknown`]: the configuration has no such listener; [`OperatorError::Refused`]: it is stopped
    /// already.
    fn stop_listener<'a>(&'a self, name: &'a str) -> Operation<'a, Result<(), OperatorError>> {
        let _ = name;
        Box::pin(async { Err(OperatorError::Unsupported("stops no listener".to_owned())) })
    }

    /// The list of bans in force. The default implementation has none.
    fn bans(&self) -> Option<Arc<Bans>> {
        None
    }

    /// Keeps the list of bans, after the admin listener has changed it: writes it to its file. The default
    /// implementation keeps it in memory only.
    ///
    /// # Errors
    /// [`OperatorError::Refused`]: the list cannot be written. The change stays in force until the program ends.
    fn keep_bans(&self) -> Operation<'_, Result<(), OperatorError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A listener of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfiguredListener {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
}

impl ConfiguredListener {
    /// A listener with its URL.
    pub fn new(name: &str, url: &str) -> ConfiguredListener {
        ConfiguredListener { name: name.to_owned(), url: url.to_owned() }
    }
}

/// Why an [`Operator`] did not do what it was asked for. The texts name the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperatorError {
    /// It cannot do that at all. Answered with the status 409.
    Unsupported(String),
    /// It knows nothing of that name. Answered with the status 404.
    Unknown(String),
    /// The present state does not allow it. Answered with the status 409.
    Refused(String),
    /// The new configuration has errors, one line each. Answered with the status 422.
    Invalid(Vec<String>),
}
