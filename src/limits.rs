//! Every bound of a broker: its name, unit, default, and what happens when it is reached.

use std::time::Duration;

/// The bounds of a [`Broker`](crate::Broker). Nothing that a Client can make grow is without one.
///
/// Each field says its unit, its default, and what happens at the limit. The configuration file knows
/// each by the same name in camelCase, under `limits`; durations there are whole seconds, with the suffix
/// `Secs`.
///
/// ```
/// use hrotti::{Broker, Limits};
///
/// let limits = Limits { sessions_max: 10, ..Limits::default() };
/// let broker = Broker::builder().limits(limits).build();
/// assert_eq!(broker.limits().sessions_max, 10);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Messages that may wait for one Client. Default 100; 0 is raised to 1. A newer message that finds
    /// the queue full is thrown away and counted.
    pub max_queue_depth: usize,
    /// Bytes of messages that may wait for one Client. Default 268 435 456 (256 MiB). A newer message that would exceed it
    /// is thrown away and counted; one message is always admitted, whatever its size.
    pub queue_bytes_max: usize,
    /// Size of a packet after CONNECT was accepted, in bytes, fixed header included. Default 268 435 460,
    /// the largest that the standard allows. A larger one closes the connection (MQTT 5: 0x95).
    pub packet_bytes_max: u32,
    /// Size of a packet before CONNECT is accepted, in bytes. Default 393 216 (384 KiB), enough for every
    /// legal CONNECT of 3.1.1. A larger one closes the connection.
    pub connect_packet_bytes_max: u32,
    /// Bytes held in total for peers whose CONNECT was not yet accepted. Default 67 108 864 (64 MiB). The
    /// connection that would exceed it is closed.
    pub unauthenticated_bytes_max: usize,
    /// Levels of a Topic Name or Topic Filter. Default 200. A PUBLISH with more is refused with 0x90, a
    /// SUBSCRIBE with 0x8F; 3.1 and 3.1.1 connections are closed, respectively told 0x80.
    pub topic_levels_max: usize,
    /// Bytes of a Topic Name or Topic Filter. Default 65 535, the largest that the standard allows. At the
    /// limit as `topic_levels_max`.
    pub topic_bytes_max: usize,
    /// Subscriptions of one Session. Default 100 000. One more is refused with 0x97 (3.x: 0x80).
    pub session_subscriptions_max: usize,
    /// Subscriptions in total. Default 10 000 000. One more is refused with 0x97 (3.x: 0x80).
    pub subscriptions_max: usize,
    /// Sessions, connected or away. Default 1 000 000. A CONNECT that needs one more is refused with 0x97
    /// (3.x: 0x03).
    pub sessions_max: usize,
    /// Network Connections with an accepted CONNECT. Default 1 000 000. One more CONNECT is refused with
    /// 0x97 (3.x: 0x03).
    pub connections_max: usize,
    /// Peers per listener that are in the transport's handshake or have not sent CONNECT. Default 4 096.
    /// Further peers wait in the operating system's backlog.
    pub handshakes_max: usize,
    /// Time for the transport's handshake. Default 10 s. At the limit the peer is dropped.
    pub handshake_timeout: Duration,
    /// Time from the end of the handshake to a whole CONNECT. Default 10 s. At the limit the connection is
    /// closed.
    pub connect_timeout: Duration,
    /// Time for an unfinished packet. Default 60 s; begins anew whenever another 64 KiB of it have
    /// arrived. At the limit the connection is closed.
    pub packet_timeout: Duration,
    /// Time without progress of a write that the peer does not take. Default 60 s. At the limit the
    /// connection is closed.
    pub write_stall_timeout: Duration,
    /// Time that a stop gives to connections for what is still to be sent. Default 5 s. At the limit they
    /// are closed.
    pub stop_timeout: Duration,
    /// QoS 1 and 2 messages sent to a Client and not completely acknowledged, 1 to 65 535. Default 1 024.
    /// Further messages wait in the queue. MQTT 5 Clients may lower it by Receive Maximum.
    pub max_inflight: u16,
    /// QoS 1 and 2 messages from a Client that are not completed, 1 to 65 535: the Receive Maximum in
    /// CONNACK. Default 1 024. At the limit the connection is closed (MQTT 5: 0x93).
    pub receive_maximum: u16,
    /// Topic Aliases that a Client may use towards the Server: Topic Alias Maximum in CONNACK. Default 10;
    /// 0 allows none. A higher alias closes the connection with 0x94.
    pub topic_alias_maximum: u16,
    /// Topic Aliases that the Server uses towards a Client that allows them. Default 10; 0 uses none.
    /// Beyond it Topic Names are sent in full.
    pub outgoing_topic_alias_maximum: u16,
    /// Retained messages. Default 1 000 000. A further one is routed, not stored, and counted.
    pub retained_messages_max: usize,
    /// Bytes of retained messages, Topic Names included. Default 1 073 741 824 (1 GiB). At the limit as
    /// `retained_messages_max`.
    pub retained_bytes_max: usize,
    /// The longest Session Expiry Interval, in seconds. Default 4 294 967 295: never. A longer one is
    /// lowered to it, and MQTT 5 Clients are told so in CONNACK.
    pub session_expiry_secs_max: u32,
    /// The longest Keep Alive for MQTT 5 Clients, in seconds. Default 0: no limit. A longer one, or none,
    /// is lowered to it by Server Keep Alive.
    pub keep_alive_secs_max: u16,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_queue_depth: 100,
            queue_bytes_max: 256 * 1024 * 1024,
            packet_bytes_max: 268_435_460,
            connect_packet_bytes_max: 384 * 1024,
            unauthenticated_bytes_max: 64 * 1024 * 1024,
            topic_levels_max: 200,
            topic_bytes_max: 65_535,
            session_subscriptions_max: 100_000,
            subscriptions_max: 10_000_000,
            sessions_max: 1_000_000,
            connections_max: 1_000_000,
            handshakes_max: 4_096,
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            packet_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(5),
            max_inflight: 1_024,
            receive_maximum: 1_024,
            topic_alias_maximum: 10,
            outgoing_topic_alias_maximum: 10,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1024 * 1024 * 1024,
            session_expiry_secs_max: u32::MAX,
            keep_alive_secs_max: 0,
        }
    }
}
