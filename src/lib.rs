//! An MQTT server for versions 3.1, 3.1.1 and 5.0, to embed or to run as a program.
//!
//! A [`Broker`] holds Sessions, subscriptions and retained messages. Clients connect through *listeners*: a
//! listener is a name and a [`Transport`], which is TCP, TLS, WebSocket, a Unix socket, memory, or your own. The host program can
//! publish and subscribe through a [`Client`], without a Network Connection.
//!
//! ```
//! use futures_lite::future::block_on; // or any other executor
//! use hrotti::{Broker, ListenerConfig};
//!
//! let broker = Broker::new(100); // messages that may wait for one Client
//! let listener = ListenerConfig::new("tcp://127.0.0.1:0")?; // port 0: the system chooses a free port
//! println!("listening on {}", block_on(broker.add_listener("test", listener))?);
//! block_on(broker.stop());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where things are
//!
//! | to | see |
//! |---|---|
//! | run a server | [`Broker`], [`ListenerConfig`] |
//! | bound what Clients can make grow | [`Limits`], [`Broker::builder`], [`Counters`] |
//! | publish and subscribe in process | [`Client`], [`Message`], [`TopicFilter`], [`SubscriptionOptions`] |
//! | see the outcome of every message | [`Ledger`], [`Broker::sessions`] |
//! | see what was moved | [`Traffic`] |
//! | say who may connect and what Clients may do | [`access`] |
//! | follow what happens | [`Broker::events`] |
//! | search and steer a running broker | [`Broker::find_sessions`], [`Broker::find_subscriptions`], [`Broker::find_retained`], [`Broker::limits_in_use`], [`Broker::disconnect`], [`Broker::publish`] |
//! | ask why a message did not arrive | [`Broker::explain_delivery`] |
//! | serve metrics, a JSON API and a page over HTTP | `admin` (feature of the same name) |
//! | go on in another process | [`Broker::begin_hand_over`], [`Broker::import_state`], [`Broker::listening_sockets`] |
//! | carry MQTT over another transport | [`transport`] |
//! | read the program's configuration format | [`config`] |
//! | run a broker by a configuration, and change it while it runs | [`Server`] |
//! | test a client or an embedding program | `testing` (feature of the same name) |
//!
//! # Guarantees
//!
//! - At most `max_queue_depth` messages wait for a Client. At the limit exactly the newest message is thrown away,
//!   and counted. No publisher waits for a subscriber.
//! - Every message that is offered to a Session has exactly one place in the [`Ledger`], whose books balance at any
//!   time.
//! - The work that one packet causes is split into turns of about a millisecond, so that other Clients are answered
//!   in between.
//! - A panic in a task or a transport ends one connection, not the thread that runs it.
//! - The library never ends the process, installs no logger and holds no global state: several brokers in one
//!   process share nothing. Log records go to the `log` facade, with text from Clients escaped. Tasks run on
//!   async-std's global executor, which starts on first use; the methods may be called from any executor.
//!
//! # Limitations
//!
//! Sessions and retained messages are held in memory only and end with the broker, unless another broker takes them over
//! ([`Broker::begin_hand_over`]). Without a policy
//! ([`BrokerBuilder::policy`]) every Client may do everything that the protocol allows. Files of users and rules are
//! read when [`access::AccessConfig::load`] or [`Server::reload`] is called, and not again by themselves. TLS has no pre-shared keys and reads
//! no encrypted private keys.
//!
//! # Versions
//!
//! Every listener serves MQTT 3.1, 3.1.1 (OASIS, 2014) and 5.0 (OASIS, 2019), as each Client's CONNECT chooses;
//! Clients of different versions exchange messages. Identifiers such as `MQTT-3.3.1-4` and section numbers refer to
//! the 5.0 standard unless another one is named. The crate needs Rust 1.88.
//!
//! # Features
//!
//! - `program` (default): the dependencies of the program `hrotti`. Embedders turn it off with
//!   `default-features = false`; the library is complete without it.
//! - `tls` (on with `program`): listeners on `mqtts://` and `wss://`, by rustls and ring.
//! - `access-files` (on with `program`): policies from password files and dynamic security files.
//! - `jwt`, `http-access`, `scram` (on with `program`): policies for JSON Web Tokens, checks over HTTP, and SCRAM.
//! - `admin` (on with `program`): the module `admin`, a listener for metrics, a JSON API and a page, by hyper.
//! - `testing` (off by default): the module `testing`, a broker in a simulated world, for tests of clients and of
//!   programs that embed the broker. It adds no dependency.

pub mod access;
#[cfg(feature = "admin")]
pub mod admin;
mod admin_config;
mod broker;
mod budget;
mod calendar;
pub mod config;
mod connection;
mod counters;
mod engine;
mod error;
mod events;
mod explanation;
mod host;
mod ledger;
mod limits;
mod listener_config;
mod listener_rules;
mod message;
mod net;
mod network;
mod packet;
mod reason_code;
mod retained;
mod runtime;
pub mod server;
mod session;
mod snapshot;
mod spelling;
mod subscription;
mod sync;
mod sys_topics;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod topic;
mod traffic;
pub mod transport;

pub use admin_config::{AdminConfig, AdminConfigError};
pub use broker::{
    Broker, BrokerBuilder, BuildError, Client, ClientError, HandOver, HandOverError, LimitUse,
    ListenerError, Page, PageError, PageRequest, Published, QueuedMessage, RetainedInfo,
    RetainedQuery, SessionDetail, SessionInfo, SessionOrder, SessionQuery, SubscriptionInfo,
    SubscriptionQuery,
};
pub use counters::Counters;
pub use events::{ClientOrigin, DisconnectCause, Event, Events, Happening, Lagged};
pub use explanation::{Cause, Explanation, Finding, KeepsAway};
pub use ledger::{DropReason, FilterReason, Ledger};
pub use limits::Limits;
pub use listener_config::{ListenerConfig, ListenerConfigError, SocketFile, TlsConfig};
pub use listener_rules::{ListenerRules, MountPoint, MountPointError, ProtocolVersions};
pub use message::{Message, PropertyError};
pub use net::bound::BoundListener;
pub use net::listener::ListenerInfo;
pub use network::{Network, NetworkError};
pub use packet::{
    PacketType, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionOptions,
};
pub use server::Server;
pub use snapshot::{StateError, StateSummary};
pub use topic::near::Difference;
pub use topic::{ShareName, TopicError, TopicFilter, TopicName};
pub use traffic::Traffic;
pub use transport::{ListeningSocket, Transport};

/// The programs in the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
