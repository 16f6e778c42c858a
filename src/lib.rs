//! An MQTT server for versions 3.1, 3.1.1 and 5.0, to embed or to run as a program.
//!
//! A [`Broker`] holds Sessions, subscriptions and retained messages. Clients reach it by *listeners*, each
//! of which is a name and a [`Transport`]: TCP, WebSocket, memory, or one of your own. The host program may
//! publish and subscribe itself, by a [`Client`] without any Network Connection.
//!
//! ```
//! use futures_lite::future::block_on; // or any other executor
//! use hrotti::{Broker, ListenerConfig};
//!
//! let broker = Broker::new(100); // messages that may wait for one Client
//! let listener = ListenerConfig::new("tcp://127.0.0.1:0")?; // port 0: the system chooses one
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
//! | know what became of messages | [`Ledger`], [`Broker::sessions`] |
//! | carry MQTT over something else | [`transport`] |
//! | read the program's configuration format | [`config`] |
//! | test a client against a broker that obeys | `testing`, with the feature of this name |
//!
//! # What it promises
//!
//! - At most `max_queue_depth` messages wait for a Client; exactly the newest is thrown away, and counted.
//!   No publisher waits for a subscriber.
//! - All that is offered ends in exactly one place of the [`Ledger`], whose books balance at any time.
//! - It never ends the process, installs no logger (records go to the `log` facade, what Clients sent is
//!   escaped), and holds nothing global: several brokers in one process share nothing. Tasks run on
//!   async-std's global executor, which starts on first use; the methods may be called from any executor.
//!
//! # What it does not do yet
//!
//! Sessions and retained messages are in memory alone and end with the broker. There is no authentication,
//! no authorization and no TLS: credentials are accepted unread.
//!
//! # Versions
//!
//! MQTT 3.1, 3.1.1 (OASIS, 2014) and 5.0 (OASIS, 2019) on every listener, as each Client's CONNECT chooses;
//! Clients of different versions exchange messages. Identifiers as `MQTT-3.3.1-4` name statements of the
//! 5.0 standard, sections are its sections, where nothing else is said. The crate needs Rust 1.88.
//!
//! # Features
//!
//! - `program` (default): what the program `hrotti` needs beyond the library. An embedder leaves it out
//!   with `default-features = false`; nothing of the library is missing then.
//! - `testing` (not by default): `hrotti::testing`, a broker in a simulated world, for tests of clients and of what is
//!   built on the broker. Needs nothing beyond the library.

mod broker;
mod budget;
pub mod config;
mod connection;
mod counters;
mod engine;
mod error;
mod host;
mod ledger;
mod limits;
mod listener_config;
mod message;
mod net;
mod packet;
mod reason_code;
mod retained;
mod runtime;
mod session;
mod subscription;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod topic;
pub mod transport;

pub use broker::{
    Broker, BrokerBuilder, BuildError, Client, ClientError, ListenerError, Published, SessionInfo,
};
pub use counters::Counters;
pub use ledger::{DropReason, FilterReason, Ledger};
pub use limits::Limits;
pub use listener_config::{ListenerConfig, ListenerConfigError};
pub use message::{Message, PropertyError};
pub use net::bound::BoundListener;
pub use net::listener::ListenerInfo;
pub use packet::{ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionOptions};
pub use topic::{ShareName, TopicError, TopicFilter, TopicName};
pub use transport::Transport;

/// The programs in the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
