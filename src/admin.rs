//! The admin listener: metrics, a JSON API and a page over HTTP, for the people and programs that operate a broker.
//!
//! ```
//! use futures_lite::future::block_on;
//! use hrotti::admin::Admin;
//! use hrotti::{AdminConfig, Broker};
//!
//! block_on(async {
//!     let broker = Broker::new(100);
//!     let admin = Admin::serve(broker.clone(), AdminConfig::new("http://127.0.0.1:0")?).await?;
//!     println!("curl {}/metrics", admin.endpoint());
//!     admin.stop().await;
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | path | what it answers |
//! |---|---|
//! | `/` | a page that shows the rest |
//! | `/metrics` | metrics in the formats of OpenMetrics and Prometheus |
//! | `/livez`, `/readyz` | whether the broker runs, and whether it accepts Clients |
//! | `/api/v1/openapi.json` | the description of the JSON API (OpenAPI 3.1) |
//! | `/api/v1/…` | the JSON API: Clients, subscriptions, retained messages, listeners, limits, bans, events |
//!
//! # Who may use it
//!
//! A listener with a token answers requests that show it (`Authorization: Bearer TOKEN`), and everybody only about
//! `/livez`, `/readyz`, `/status` and the page, which holds no data. Without a token it must be on a loopback address or a
//! Unix socket. On a loopback address it then refuses requests that pages of other origins send, by `Host`, `Origin` and
//! `Sec-Fetch-Site`, and bodies that are not declared as JSON.
//!
//! # What it costs
//!
//! Its tasks run on a thread of their own (where there are event loops: Linux), never on the loops that carry MQTT. It
//! counts nothing: figures are read from the books of the broker when a request asks for them, one Session after the
//! other. [`Limits::admin_connections_max`], [`Limits::admin_streams_max`], [`Limits::admin_request_bytes_max`] and
//! [`Limits::admin_timeout`] bound what its peers can make it hold.
//!
//! [`Limits::admin_connections_max`]: crate::Limits::admin_connections_max
//! [`Limits::admin_streams_max`]: crate::Limits::admin_streams_max
//! [`Limits::admin_request_bytes_max`]: crate::Limits::admin_request_bytes_max
//! [`Limits::admin_timeout`]: crate::Limits::admin_timeout

use std::fmt;
use std::io;
use std::sync::Arc;

use async_channel::{Receiver, Sender};

use crate::access::Secret;
use crate::admin_config::{AdminConfig, AdminConfigError, as_http};
use crate::broker::Broker;
use crate::limits::Limits;
use crate::transport::Transport;
use crate::transport::tcp::TcpTransport;

mod answer;
mod clients;
mod desk;
mod explain;
mod guard;
mod happening;
mod history;
mod input;
mod looks;
mod message;
mod messages;
mod metrics;
mod openapi;
mod operator;
mod page;
mod pages;
mod parameter;
mod process;
mod program;
mod route;
mod serve;
mod status;
mod stream;
mod table;
mod wire;

pub use operator::{ConfiguredListener, Operation, Operator, OperatorError};

use desk::Desk;
use guard::Guard;

/// An admin listener that serves. Dropping it stops it, as [`Admin::stop`] does, without waiting.
///
/// It holds a handle of its broker: the broker goes on until the admin listener is dropped, too, or until
/// [`Broker::stop`]. It answers while the broker stops, and afterwards.
pub struct Admin {
    endpoints: Vec<String>,
    /// Closed to stop.
    stop: Sender<()>,
    /// Closed when all tasks have ended.
    gone: Receiver<()>,
}

/// Builds an [`Admin`] with an operator, or with a token that is in memory.
pub struct AdminBuilder {
    broker: Broker,
    operator: Option<Arc<dyn Operator>>,
    token: Option<Secret>,
}

/// Why an admin listener cannot be started. The text names the value and the remedy.
#[derive(Debug)]
#[non_exhaustive]
pub enum AdminError {
    /// The settings cannot be used.
    Config(AdminConfigError),
    /// The token cannot be read or used.
    Token(String),
    /// The certificate or the key cannot be read or used, one line for each problem.
    Tls(String),
    /// The address cannot be bound.
    Bind {
        /// The URL.
        url: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::Config(error) => error.fmt(f),
            AdminError::Token(text) | AdminError::Tls(text) => f.write_str(text),
            AdminError::Bind { url, source } => {
                write!(f, "cannot listen on {url}: {source}; choose another host or port")
            }
        }
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AdminError::Config(error) => Some(error),
            AdminError::Bind { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl AdminBuilder {
    /// Sets what runs the broker: it knows the configuration, and changes it. Default: none, and requests for it are
    /// answered with the status 409.
    #[must_use]
    pub fn operator(mut self, operator: Arc<dyn Operator>) -> AdminBuilder {
        self.operator = Some(operator);
        self
    }

    /// Sets the token that requests have to show, instead of [`AdminConfig::with_token_file`]: 16 bytes of visible ASCII
    /// or more.
    #[must_use]
    pub fn token(mut self, token: Secret) -> AdminBuilder {
        self.token = Some(token);
        self
    }

    /// Binds the address and serves.
    ///
    /// # Errors
    /// [`AdminError`]. Nothing stays bound.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing bound.
    pub async fn serve(self, config: AdminConfig) -> Result<Admin, AdminError> {
        let guard = self.guard(&config)?;
        let bound = bind(&config, &self.broker.limits()).await?;
        let (stop, stopped) = async_channel::bounded(1);
        let (alive, gone) = async_channel::bounded::<()>(1);
        let AdminBuilder { broker, operator, .. } = self;
        let openapi = openapi::document(table::ROUTES).to_string().into();
        let desk = Arc::new(Desk::new(broker, guard, operator, openapi, (stopped, alive)));
        let endpoints = bound.endpoints();
        desk.spawn(serve::watch(desk.clone()));
        bound.serve(&desk);
        Ok(Admin { endpoints, stop, gone })
    }

    /// Who may ask.
    fn guard(&self, config: &AdminConfig) -> Result<Guard, AdminError> {
        if let Some(token) = &self.token {
            let text = std::str::from_utf8(token.bytes()).unwrap_or_default();
            guard::usable(text).map_err(AdminError::Token)?;
            return Ok(Guard::Token(token.clone()));
        }
        guard_of(config)
    }
}

/// Who may ask by the settings alone.
fn guard_of(config: &AdminConfig) -> Result<Guard, AdminError> {
    config.validate().map_err(AdminError::Config)?;
    match config.token_file() {
        Some(path) => guard::read_token(path).map(Guard::Token).map_err(AdminError::Token),
        None if config.address().is_unix() => Ok(Guard::Socket),
        None => Ok(Guard::Loopback),
    }
}

impl fmt::Debug for AdminBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminBuilder")
            .field("operator", &self.operator.is_some())
            .field("token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Serves a broker without an operator.
    ///
    /// # Errors
    /// As [`AdminBuilder::serve`].
    ///
    /// # Cancel safety
    /// As [`AdminBuilder::serve`].
    pub async fn serve(broker: Broker, config: AdminConfig) -> Result<Admin, AdminError> {
        Admin::builder(broker).serve(config).await
    }

    /// Checks the settings and reads the files that they name, without binding anything.
    ///
    /// # Errors
    /// [`AdminError`], as [`AdminBuilder::serve`] would fail.
    pub fn check(config: &AdminConfig) -> Result<(), AdminError> {
        guard_of(config)?;
        check_tls(config)
    }

    /// A builder for an admin listener of this broker.
    #[must_use]
    pub fn builder(broker: Broker) -> AdminBuilder {
        AdminBuilder { broker, operator: None, token: None }
    }

    /// The URL at which it answers, such as `http://127.0.0.1:9884`, with the port that the operating system chose.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoints.first().map_or("", String::as_str)
    }

    /// All URLs at which it answers, that of [`Admin::endpoint`] first.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Stops accepting, gives answers that are under way one second, and ends event streams.
    ///
    /// # Cancel safety
    /// The first poll begins the stop. Dropping the future ends the waiting, not the stop.
    pub async fn stop(&self) {
        self.stop.close();
        while self.gone.recv().await.is_ok() {}
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.close();
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// A bound address.
enum Bound {
    Tcp(TcpTransport),
    #[cfg(feature = "tls")]
    Tls(crate::transport::tls::TlsTransport<TcpTransport>),
    #[cfg(unix)]
    Unix(crate::transport::unix::UnixTransport),
}

impl Bound {
    fn endpoints(&self) -> Vec<String> {
        let endpoints = match self {
            Bound::Tcp(transport) => transport.local_endpoints(),
            #[cfg(feature = "tls")]
            Bound::Tls(transport) => transport.local_endpoints(),
            #[cfg(unix)]
            Bound::Unix(transport) => transport.local_endpoints(),
        };
        endpoints.iter().map(|endpoint| as_http(endpoint)).collect()
    }

    fn serve(self, desk: &Arc<Desk>) {
        match self {
            Bound::Tcp(transport) => desk.spawn(serve::accept(desk.clone(), transport)),
            #[cfg(feature = "tls")]
            Bound::Tls(transport) => desk.spawn(serve::accept(desk.clone(), transport)),
            #[cfg(unix)]
            Bound::Unix(transport) => desk.spawn(serve::accept(desk.clone(), transport)),
        }
    }
}

async fn bind(config: &AdminConfig, limits: &Limits) -> Result<Bound, AdminError> {
    let address = config.address();
    let failed = |source| AdminError::Bind { url: config.to_string(), source };
    if address.is_unix() {
        return bind_file(config).map_err(failed);
    }
    let tcp = TcpTransport::bind(address.host(), address.port()).await.map_err(failed)?;
    let tcp = tcp.with_limits(limits);
    match address.is_tls() {
        false => Ok(Bound::Tcp(tcp)),
        true => with_tls(config, tcp, limits),
    }
}

#[cfg(feature = "tls")]
fn check_tls(config: &AdminConfig) -> Result<(), AdminError> {
    let Some(files) = config.tls() else { return Ok(()) };
    let material = files.load().map_err(|errors| AdminError::Tls(errors.to_string()))?;
    material.check().map(drop).map_err(|errors| AdminError::Tls(errors.to_string()))
}

#[cfg(not(feature = "tls"))]
fn check_tls(_: &AdminConfig) -> Result<(), AdminError> {
    Ok(())
}

#[cfg(feature = "tls")]
fn with_tls(config: &AdminConfig, tcp: TcpTransport, limits: &Limits) -> Result<Bound, AdminError> {
    let files =
        config.tls().ok_or_else(|| AdminError::Tls(format!("{config} needs a certificate")))?;
    let material = files.load().map_err(|errors| AdminError::Tls(errors.to_string()))?;
    // HTTP has the same name in ALPN as the upgrade to a WebSocket.
    crate::transport::tls::TlsTransport::for_websocket(tcp, &material, limits)
        .map(Bound::Tls)
        .map_err(|errors| AdminError::Tls(errors.to_string()))
}

#[cfg(not(feature = "tls"))]
fn with_tls(config: &AdminConfig, _: TcpTransport, _: &Limits) -> Result<Bound, AdminError> {
    Err(AdminError::Tls(format!(
        "{config}: this program was built without TLS (the feature `tls`)"
    )))
}

#[cfg(unix)]
fn bind_file(config: &AdminConfig) -> io::Result<Bound> {
    let path = config.address().socket_path().ok_or(io::ErrorKind::InvalidInput)?;
    crate::transport::unix::UnixTransport::bind(&path).map(Bound::Unix)
}

#[cfg(not(unix))]
fn bind_file(_: &AdminConfig) -> io::Result<Bound> {
    let text = "there are no Unix sockets on this system";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}
