//! An MQTT server for versions 3.1, 3.1.1 and 5.0, to embed or to run as a program.

mod broker;
pub mod config;
mod connection;
mod driver;
mod error;
mod ledger;
mod limits;
mod listener_config;
mod message;
mod packet;
mod retained;
mod runtime;
mod session;
mod subscription;
mod time;
mod topic;
pub mod transport;

pub use broker::{
    Broker, BrokerBuilder, Client, ClientError, ListenerError, ListenerInfo, Published, SessionInfo,
};
pub use ledger::{Counters, DropReason, FilterReason, Ledger};
pub use limits::Limits;
pub use listener_config::{ListenerConfig, ListenerConfigError};
pub use message::{Message, PropertyError};
pub use packet::{ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscriptionOptions};
pub use topic::{ShareName, TopicError, TopicFilter, TopicName};
pub use transport::Transport;
