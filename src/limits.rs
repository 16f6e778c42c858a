//! Every bound of a broker: its name, unit, range, default, and its effect when it is reached.
//!
//! The list [`LIMITS`] feeds the configuration's parser, the table in the README, the output of `-check` and
//! [`Limits::in_range`].

use std::fmt;
use std::time::Duration;

/// The bounds of a [`Broker`](crate::Broker): everything that a Client can make grow has one.
///
/// The documentation of each field gives its unit, its default, its range ([`Limits::in_range`] moves values into
/// it), and the effect at the limit. In the configuration file each has the same name in camelCase, under
/// `limits`; durations there are whole seconds, with the suffix `Secs`.
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
    /// Messages that may wait for one Client. Default 100, range 1 to 1 000 000 000. A newer message
    /// that finds the queue full is thrown away and counted. Exception: while the queue only waits for
    /// acknowledgements, messages of QoS 0 pass it, one at a time.
    pub max_queue_depth: usize,
    /// Bytes of messages that may wait for one Client. Default 268 435 456 (256 MiB), range 1 to
    /// 1 099 511 627 776 (1 TiB). A newer message that would exceed it is thrown away and counted; an empty queue
    /// accepts one message of any size.
    pub queue_bytes_max: usize,
    /// Size of a packet after CONNECT was accepted, in bytes, fixed header included. Default
    /// 268 435 460, the largest that the standard allows, range 128 to 268 435 460. A larger packet
    /// closes the connection (MQTT 5: 0x95).
    pub packet_bytes_max: u32,
    /// Size of a packet before CONNECT is accepted, in bytes. Default 393 216 (384 KiB), enough for
    /// every legal CONNECT of 3.1.1, range 128 to 268 435 460. A larger packet closes the connection.
    pub connect_packet_bytes_max: u32,
    /// Bytes held in total for peers whose CONNECT was not yet accepted. Default 67 108 864 (64 MiB),
    /// range 128 to 1 099 511 627 776 (1 TiB). The connection that would exceed it is closed.
    pub unauthenticated_bytes_max: usize,
    /// Levels of a Topic Name or Topic Filter. Default 200, range 1 to 65 536. A PUBLISH with more levels is
    /// refused with 0x90 (3.x: the connection is closed), a SUBSCRIBE with 0x8F (3.x: 0x80).
    pub topic_levels_max: usize,
    /// Bytes of a Topic Name or Topic Filter. Default 65 535, the most that the standard allows,
    /// range 1 to 65 535. The effect at the limit is that of `topic_levels_max`.
    pub topic_bytes_max: usize,
    /// Topic Filters of one SUBSCRIBE or UNSUBSCRIBE. Default 100 000, range 1 to 1 000 000 000. A packet
    /// with more Topic Filters closes the connection (MQTT 5: 0x97), and none of them takes effect.
    pub packet_filters_max: usize,
    /// Subscriptions of one Session. Default 100 000, range 1 to 1 000 000 000. A further subscription is refused
    /// with 0x97 (3.x: 0x80).
    pub session_subscriptions_max: usize,
    /// Bytes of the Topic Filters of one Session. Default 67 108 864 (64 MiB), range 1 to
    /// 1 099 511 627 776 (1 TiB). A subscription that would exceed it is refused with 0x97 (3.x: 0x80).
    pub session_subscription_bytes_max: usize,
    /// Subscriptions in total. Default 10 000 000, range 1 to 1 000 000 000. A further subscription is refused
    /// with 0x97 (3.x: 0x80).
    pub subscriptions_max: usize,
    /// Bytes of all Topic Filters in total. Default 1 073 741 824 (1 GiB), range 1 to 1 099 511 627 776
    /// (1 TiB). A subscription that would exceed it is refused with 0x97 (3.x: 0x80).
    pub subscription_bytes_max: usize,
    /// Sessions, whether their Clients are connected or not. Default 1 000 000, range 1 to 1 000 000 000. A
    /// CONNECT that needs a further Session is refused with 0x97 (3.x: 0x03).
    pub sessions_max: usize,
    /// Network Connections with an accepted CONNECT. Default 1 000 000, range 1 to 1 000 000 000. A further
    /// CONNECT is refused with 0x97 (3.x: 0x03), unless it takes over a connected Session (MQTT-3.1.4-3).
    pub connections_max: usize,
    /// Peers per listener that are in the transport's handshake or have not sent CONNECT. Default
    /// 4 096, range 1 to 1 000 000 000. At the limit a further peer takes the place of the peer that has let the broker
    /// wait longest, at least half a second; that one is dropped. While no peer has, further peers wait in the operating
    /// system's backlog. A peer that waits for the broker, for the decision on its CONNECT for instance, keeps its place.
    pub handshakes_max: usize,
    /// Time for the transport's handshake. Default 10 s, range above 0 (which becomes 1 s) to
    /// 86 400 s. At the limit the peer is dropped.
    pub handshake_timeout: Duration,
    /// Time from the end of the handshake to a whole CONNECT. Default 10 s, range above 0 (which
    /// becomes 1 s) to 86 400 s. At the limit the connection is closed.
    pub connect_timeout: Duration,
    /// Time for the decision whether a CONNECT is accepted, if the decision takes time. Default 10 s, range above 0
    /// (which becomes 1 s) to 86 400 s. At the limit the CONNECT is refused with 0x88 (3.x: 0x03).
    pub connect_decision_timeout: Duration,
    /// Steps of one enhanced authentication: AUTH packets that the Server sends before it decides (section 4.12). Default
    /// 16, range 1 to 1 000. At the limit the CONNECT is refused with 0x87, or the connection is closed with it.
    pub authentication_steps_max: u16,
    /// Time for the rest of a packet to arrive. Default 60 s, range above 0 (which becomes 1 s) to 86 400 s;
    /// begins again whenever another 64 KiB of the packet have arrived. At the limit the connection is closed.
    pub packet_timeout: Duration,
    /// Time in which the peer takes no byte of a write and sends none. Default 60 s, range above 0 (which becomes
    /// 1 s) to 86 400 s. At the limit the connection is closed.
    pub write_stall_timeout: Duration,
    /// Bytes of answers (acknowledgements, PINGRESP, SUBACK and the like) that are unsent because the Client does
    /// not read them. Default 262 144 (256 KiB), range 128 to 1 099 511 627 776 (1 TiB). At the limit the broker
    /// reads nothing more from the Client until it takes them. Application Messages do not count.
    pub answer_bytes_max: usize,
    /// Time that a stop gives connections to send waiting bytes. Default 5 s, range 0 to 86 400 s. At the limit the
    /// connections are closed.
    pub stop_timeout: Duration,
    /// Time that the process that takes over has between the steps of a hand-over that need its work: to bind what is new,
    /// and to take what it has read. Default 60 s, range 1 to 86 400 s. At the limit the running process goes on. The
    /// program's; see [`Broker::begin_hand_over`](crate::Broker::begin_hand_over).
    pub hand_over_ready_timeout: Duration,
    /// Time in which no byte moves between the two processes of a hand-over. Default 10 s, range 1 to 86 400 s. At the
    /// limit the running process goes on. The program's.
    pub hand_over_stall_timeout: Duration,
    /// QoS 1 and 2 messages that were sent to a Client and are not completely acknowledged. Default 1 024, range 1
    /// to 65 535. Further messages wait in the queue. MQTT 5 Clients may lower it by Receive Maximum.
    pub max_inflight: u16,
    /// QoS 1 and 2 messages from an MQTT 5 Client that are not completely acknowledged: the Receive Maximum in CONNACK.
    /// Default 1 024, range 1 to 65 535. At the limit the connection is closed with 0x93. 3.1 and 3.1.1
    /// have no Receive Maximum: their Clients may have all 65 535 Packet Identifiers in use.
    pub receive_maximum: u16,
    /// Topic Aliases that a Client may send: the Topic Alias Maximum in CONNACK. Default
    /// 10, range 0 to 65 535; 0 allows none. A higher alias closes the connection with 0x94.
    pub topic_alias_maximum: u16,
    /// Topic Aliases that the Server sends to a Client that allows them. Default 10, range 0 to
    /// 65 535; 0 sends none. Further Topic Names are sent in full.
    pub outgoing_topic_alias_maximum: u16,
    /// Retained messages. Default 1 000 000, range 0 to 1 000 000 000. A further message is routed, not
    /// stored, and counted.
    pub retained_messages_max: usize,
    /// Bytes of retained messages, Topic Names included. Default 1 073 741 824 (1 GiB), range 0 to
    /// 1 099 511 627 776 (1 TiB). The effect at the limit is that of `retained_messages_max`.
    pub retained_bytes_max: usize,
    /// The longest Session Expiry Interval, in seconds. Default 4 294 967 295: never; range 0 to
    /// 4 294 967 295. A longer interval is lowered to it, and CONNACK tells MQTT 5 Clients the lower one.
    pub session_expiry_secs_max: u32,
    /// The longest Keep Alive for MQTT 5 Clients, in seconds. Default 0: no limit; range 0 to 65 535.
    /// A longer Keep Alive, or 0, is replaced by Server Keep Alive.
    pub keep_alive_secs_max: u16,
    /// Time without a byte from a peer, in seconds, after which the operating system sends a TCP keep-alive probe.
    /// Default 120, range 0 to 32 767; 0 sends none. This limit and the next three apply to TCP and WebSocket
    /// listeners.
    pub tcp_keep_alive_secs: u16,
    /// Time between two TCP keep-alive probes that are not answered, in seconds. Default 15, range 1 to 32 767. At
    /// the limit the next probe is sent.
    pub tcp_keep_alive_interval_secs: u16,
    /// TCP keep-alive probes in a row that may stay unanswered. Default 4, range 1 to 127. At the limit the
    /// connection is closed. Linux uses `tcp_user_timeout` instead, unless that is 0.
    pub tcp_keep_alive_probes: u16,
    /// Time in which the peer's operating system acknowledges no sent byte, or accepts no unsent byte because its
    /// Client does not read (`TCP_USER_TIMEOUT`). Default 180 s, range 0 to 86 400 s; 0 leaves it to the operating
    /// system (Linux: about 15 minutes). At the limit the connection is closed, even if `write_stall_timeout` is
    /// longer. Linux and Android only.
    pub tcp_user_timeout: Duration,
    /// Size of the HTTP request that begins a WebSocket, in bytes, up to its empty line. Default 16 384
    /// (16 KiB), range 512 to 1 048 576. A larger one is refused with the status 431.
    pub ws_request_bytes_max: usize,
    /// Header lines of such a request. Default 124, range 16 to 124. One with more is refused with the
    /// status 431.
    pub ws_request_headers_max: u16,
    /// Threads that check passwords. Default 1, range 1 to 64. Further checks wait. Each may need the memory of
    /// one check: 46 MiB for mosquitto's Argon2id hashes, until 5 seconds after its last check. A `HashingPool` with
    /// these limits has this bound and the next.
    pub hashing_threads: usize,
    /// CONNECTs that wait for the check of their passwords. Default 256, range 1 to 1 000 000. A further one, or that
    /// of the address with the most of them, is refused with 0x89 (3.x: 0x03).
    pub hashes_waiting_max: usize,
    /// Size of a header of the PROXY protocol, version 2, in bytes. Default 4 096, range 232, which every address fits
    /// in, to 65 551. A peer with a larger one is closed. A header of version 1 has at most 107 bytes.
    pub proxy_header_bytes_max: usize,
    /// PUBLISH packets that a Client may send in a second. Default 0: no limit; range 0 to 1 000 000 000. At the limit
    /// nothing more is read from the Client until a part of the second has passed; nothing is dropped. A Client that was
    /// silent may send those of one second at once.
    pub client_messages_per_sec_max: u32,
    /// Bytes that a Client may send in a second, after CONNECT was accepted. Default 0: no limit; range 0 to
    /// 1 099 511 627 776 (1 TiB). The effect at the limit is that of `client_messages_per_sec_max`.
    pub client_bytes_per_sec_max: usize,
    /// Network Connections from one address in a second, over all listeners. Default 0: no limit; range 0 to
    /// 1 000 000 000. IPv6 addresses with the same first 64 bits are one address. A further peer is closed before its
    /// handshake, which costs least; behind a proxy it is closed once its address is known. Peers without a network
    /// address are not limited. The addresses of one second are counted up to 65 536; peers of further addresses are
    /// accepted.
    pub address_connects_per_sec_max: u32,
    /// Bans that are kept ([`Bans`](crate::access::Bans)). Default 100 000, range 0 to 1 000 000 000. A further ban is
    /// refused, and a file with more is refused as a whole.
    pub bans_max: usize,
    /// TLS sessions that a listener keeps for resumption. Default 4 096, range 0 to 1 000 000; 0 keeps none. At the
    /// limit the oldest is forgotten, and its Client shakes hands in full.
    pub tls_sessions_max: usize,
    /// The share of `max_queue_depth` at which the queue of a Session is long, in per cent, rounded up to whole messages.
    /// Default 50, range 1 to 100. A queue that is long for `slow_consumer_secs` raises an alarm: a line in the log, an
    /// event, and a count. The alarm is over as soon as the queue is shorter than half of this share.
    pub slow_consumer_percent: u16,
    /// For how long the queue of a Session has to be long before the alarm, in seconds. Default 10, range 0 to 86 400; 0
    /// raises no alarm. Long queues are looked at once a second.
    pub slow_consumer_secs: u32,
    /// Connections of an admin listener. Default 64, range 1 to 65 536. A further peer is closed.
    pub admin_connections_max: usize,
    /// Event streams of an admin listener that are open at once. Default 16, range 0 to 65 536; 0 allows none. A further
    /// one is refused with the status 503.
    pub admin_streams_max: usize,
    /// Size of the body of a request to an admin listener, in bytes. Default 1 048 576 (1 MiB), range 1 024 to
    /// 268 435 456 (256 MiB). A larger one is refused with the status 413. The head of a request has at most 16 KiB; a
    /// larger one is refused with the status 431.
    pub admin_request_bytes_max: usize,
    /// Time for each step of a request to an admin listener: the TLS handshake, the head, the body, the answer, and a
    /// write that the peer does not take; also the time that a connection may be idle. Default 10 s, range above 0 (which
    /// becomes 1 s) to 3 600 s. At the limit the request is refused with the status 408 or 503, or the connection is
    /// closed.
    pub admin_timeout: Duration,
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
            packet_filters_max: 100_000,
            session_subscriptions_max: 100_000,
            session_subscription_bytes_max: 64 * 1024 * 1024,
            subscriptions_max: 10_000_000,
            subscription_bytes_max: 1024 * 1024 * 1024,
            sessions_max: 1_000_000,
            connections_max: 1_000_000,
            handshakes_max: 4_096,
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            connect_decision_timeout: Duration::from_secs(10),
            authentication_steps_max: 16,
            packet_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(60),
            answer_bytes_max: 256 * 1024,
            stop_timeout: Duration::from_secs(5),
            hand_over_ready_timeout: Duration::from_secs(60),
            hand_over_stall_timeout: Duration::from_secs(10),
            max_inflight: 1_024,
            receive_maximum: 1_024,
            topic_alias_maximum: 10,
            outgoing_topic_alias_maximum: 10,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1024 * 1024 * 1024,
            session_expiry_secs_max: u32::MAX,
            keep_alive_secs_max: 0,
            tcp_keep_alive_secs: 120,
            tcp_keep_alive_interval_secs: 15,
            tcp_keep_alive_probes: 4,
            tcp_user_timeout: Duration::from_secs(180),
            ws_request_bytes_max: 16 * 1024,
            ws_request_headers_max: 124,
            hashing_threads: 1,
            hashes_waiting_max: 256,
            proxy_header_bytes_max: 4_096,
            client_messages_per_sec_max: 0,
            client_bytes_per_sec_max: 0,
            address_connects_per_sec_max: 0,
            bans_max: 100_000,
            tls_sessions_max: 4_096,
            slow_consumer_percent: 50,
            slow_consumer_secs: 10,
            admin_connections_max: 64,
            admin_streams_max: 16,
            admin_request_bytes_max: 1024 * 1024,
            admin_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Moves every value into its range. A number outside becomes the nearest allowed number, and a duration of
    /// zero becomes the smallest allowed duration; other durations below one second stay as they are.
    ///
    /// ```
    /// use hrotti::Limits;
    ///
    /// let limits = Limits { max_queue_depth: 0, max_inflight: 0, ..Limits::default() }.in_range();
    /// assert_eq!((limits.max_queue_depth, limits.max_inflight), (1, 1));
    /// ```
    #[must_use]
    pub fn in_range(mut self) -> Limits {
        for key in LIMITS {
            (key.clamp)(&mut self);
        }
        self
    }
}

/// From when a new value of a setting holds, if it is changed while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Holds {
    /// From now on, also for Clients that are connected.
    AtOnce,
    /// For Network Connections that begin afterwards; others keep the value that they began with.
    NewConnections,
    /// For Sessions that begin afterwards; others keep the value that they began with.
    NewSessions,
    /// Its listener is bound anew, and the Clients of the listener are disconnected.
    NewListener,
    /// From the next start of the program.
    NextStart,
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Holds::AtOnce => "at once",
            Holds::NewConnections => "new connections",
            Holds::NewSessions => "new Sessions",
            Holds::NewListener => "the listener is bound anew",
            Holds::NextStart => "at the next start",
        })
    }
}

/// One bound, as the configuration file has it.
pub(crate) struct LimitKey {
    /// Where it stands in the configuration file.
    pub(crate) path: &'static str,
    /// What its number counts.
    pub(crate) unit: &'static str,
    pub(crate) minimum: u64,
    pub(crate) maximum: u64,
    /// What it bounds.
    pub(crate) meaning: &'static str,
    /// What happens when it is reached.
    pub(crate) at_limit: &'static str,
    /// From when a new value holds.
    pub(crate) holds: Holds,
    pub(crate) get: fn(&Limits) -> u64,
    pub(crate) set: fn(&mut Limits, u64),
    clamp: fn(&mut Limits),
}

/// A field of [`Limits`] as a number of its unit.
trait Field: Copy {
    fn number(self) -> u64;
    fn from_number(number: u64) -> Self;
    fn into_range(self, minimum: u64, maximum: u64) -> Self {
        Self::from_number(self.number().clamp(minimum, maximum))
    }
}

impl Field for usize {
    fn number(self) -> u64 {
        u64::try_from(self).unwrap_or(u64::MAX)
    }
    fn from_number(number: u64) -> usize {
        usize::try_from(number).unwrap_or(usize::MAX)
    }
}

impl Field for u32 {
    fn number(self) -> u64 {
        u64::from(self)
    }
    fn from_number(number: u64) -> u32 {
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}

impl Field for u16 {
    fn number(self) -> u64 {
        u64::from(self)
    }
    fn from_number(number: u64) -> u16 {
        u16::try_from(number).unwrap_or(u16::MAX)
    }
}

impl Field for Duration {
    fn number(self) -> u64 {
        self.as_secs()
    }
    fn from_number(number: u64) -> Duration {
        Duration::from_secs(number)
    }
    fn into_range(self, minimum: u64, maximum: u64) -> Duration {
        // A library user may want less than a second; only zero is no time at all.
        let least = Duration::from_secs(if self.is_zero() { minimum } else { 0 });
        self.clamp(least, Duration::from_secs(maximum))
    }
}

macro_rules! limit {
    ($path:literal, $field:ident, $unit:literal, $minimum:literal..=$maximum:expr, $holds:ident, $meaning:literal, $at_limit:literal) => {
        LimitKey {
            path: $path,
            unit: $unit,
            minimum: $minimum,
            maximum: $maximum,
            meaning: $meaning,
            at_limit: $at_limit,
            holds: Holds::$holds,
            get: |limits| Field::number(limits.$field),
            set: |limits, number| limits.$field = Field::from_number(number),
            clamp: |limits| limits.$field = Field::into_range(limits.$field, $minimum, $maximum),
        }
    };
}

/// More than any machine holds, and exact in JSON.
const COUNT: u64 = 1_000_000_000;
/// 1 TiB.
const BYTES: u64 = 1 << 40;
/// A day, in seconds.
const DAY: u64 = 86_400;

/// Every bound, in the order of the fields of [`Limits`].
#[rustfmt::skip] // one bound reads best as one block of three lines
pub(crate) const LIMITS: &[LimitKey] = &[
    limit!("maxQueueDepth", max_queue_depth, "messages", 1..=COUNT, NewSessions,
        "messages that may wait for one Client",
        "a newer message that finds the queue full is thrown away and counted"),
    limit!("limits.queueBytesMax", queue_bytes_max, "bytes", 1..=BYTES, NewSessions,
        "bytes of messages that may wait for one Client",
        "a newer message that would exceed it is thrown away and counted; an empty queue accepts one message of any size"),
    limit!("limits.packetBytesMax", packet_bytes_max, "bytes", 128..=268_435_460, NewConnections,
        "size of a packet after CONNECT was accepted",
        "the connection is closed (MQTT 5: 0x95)"),
    limit!("limits.connectPacketBytesMax", connect_packet_bytes_max, "bytes", 128..=268_435_460, NewConnections,
        "size of a packet before CONNECT is accepted",
        "the connection is closed"),
    limit!("limits.unauthenticatedBytesMax", unauthenticated_bytes_max, "bytes", 128..=BYTES, NewConnections,
        "bytes held in total for peers whose CONNECT was not yet accepted",
        "the connection that would exceed it is closed"),
    limit!("limits.topicLevelsMax", topic_levels_max, "levels", 1..=65_536, NewConnections,
        "levels of a Topic Name or Topic Filter",
        "PUBLISH is refused with 0x90, SUBSCRIBE with 0x8F (3.x: the connection is closed, or 0x80)"),
    limit!("limits.topicBytesMax", topic_bytes_max, "bytes", 1..=65_535, NewConnections,
        "length of a Topic Name or Topic Filter",
        "the same as for `limits.topicLevelsMax`"),
    limit!("limits.packetFiltersMax", packet_filters_max, "filters", 1..=COUNT, AtOnce,
        "Topic Filters of one SUBSCRIBE or UNSUBSCRIBE",
        "the connection is closed (MQTT 5: 0x97), and none of the filters takes effect"),
    limit!("limits.sessionSubscriptionsMax", session_subscriptions_max, "subscriptions", 1..=COUNT, AtOnce,
        "subscriptions of one Session",
        "a further subscription is refused with 0x97 (3.x: 0x80)"),
    limit!("limits.sessionSubscriptionBytesMax", session_subscription_bytes_max, "bytes", 1..=BYTES, AtOnce,
        "bytes of the Topic Filters of one Session",
        "a subscription that would exceed it is refused with 0x97 (3.x: 0x80)"),
    limit!("limits.subscriptionsMax", subscriptions_max, "subscriptions", 1..=COUNT, AtOnce,
        "subscriptions in total",
        "a further subscription is refused with 0x97 (3.x: 0x80)"),
    limit!("limits.subscriptionBytesMax", subscription_bytes_max, "bytes", 1..=BYTES, AtOnce,
        "bytes of all Topic Filters in total",
        "a subscription that would exceed it is refused with 0x97 (3.x: 0x80)"),
    limit!("limits.sessionsMax", sessions_max, "sessions", 1..=COUNT, AtOnce,
        "Sessions, whether their Clients are connected or not",
        "a CONNECT that needs a further Session is refused with 0x97 (3.x: 0x03)"),
    limit!("limits.connectionsMax", connections_max, "connections", 1..=COUNT, AtOnce,
        "Network Connections with an accepted CONNECT",
        "a further CONNECT is refused with 0x97 (3.x: 0x03), unless it takes over a connected Session"),
    limit!("limits.handshakesMax", handshakes_max, "peers", 1..=COUNT, AtOnce,
        "peers per listener that have not sent CONNECT",
        "the peer that has let the broker wait longest, at least half a second, is dropped for the next one"),
    limit!("limits.handshakeTimeoutSecs", handshake_timeout, "seconds", 1..=DAY, NewConnections,
        "time for the transport's handshake",
        "the peer is dropped"),
    limit!("limits.connectTimeoutSecs", connect_timeout, "seconds", 1..=DAY, NewConnections,
        "time from the end of the handshake to a whole CONNECT",
        "the connection is closed"),
    limit!("limits.connectDecisionTimeoutSecs", connect_decision_timeout, "seconds", 1..=DAY, NewConnections,
        "time for the decision whether a CONNECT is accepted, if the decision takes time",
        "the CONNECT is refused with 0x88 (3.x: 0x03)"),
    limit!("limits.authenticationStepsMax", authentication_steps_max, "steps", 1..=1_000, NewConnections,
        "AUTH packets that the Server sends in one enhanced authentication",
        "the CONNECT is refused with 0x87, or the connection is closed with it"),
    limit!("limits.packetTimeoutSecs", packet_timeout, "seconds", 1..=DAY, NewConnections,
        "time for the rest of a packet to arrive; begins again with every 64 KiB of it",
        "the connection is closed"),
    limit!("limits.writeStallTimeoutSecs", write_stall_timeout, "seconds", 1..=DAY, NewConnections,
        "time in which the peer takes no byte of a write and sends none",
        "the connection is closed"),
    limit!("limits.answerBytesMax", answer_bytes_max, "bytes", 128..=BYTES, NewConnections,
        "bytes of answers (acknowledgements, PINGRESP, SUBACK and the like) that are unsent because the Client does not read them",
        "nothing more is read from the Client until it takes them"),
    limit!("limits.stopTimeoutSecs", stop_timeout, "seconds", 0..=DAY, AtOnce,
        "time that a stop gives connections to send waiting bytes",
        "the connections are closed"),
    limit!("limits.handOverReadyTimeoutSecs", hand_over_ready_timeout, "seconds", 1..=DAY, NextStart,
        "time that the process that takes over has to bind what is new, and to take what it has read",
        "the running process goes on"),
    limit!("limits.handOverStallTimeoutSecs", hand_over_stall_timeout, "seconds", 1..=DAY, NextStart,
        "time in which no byte moves between the two processes of a hand-over",
        "the running process goes on"),
    limit!("limits.maxInflight", max_inflight, "messages", 1..=65_535, NewConnections,
        "QoS 1 and 2 messages that were sent to a Client and are not completely acknowledged",
        "further messages wait in the queue"),
    limit!("limits.receiveMaximum", receive_maximum, "messages", 1..=65_535, NewConnections,
        "QoS 1 and 2 messages from an MQTT 5 Client that are not completely acknowledged; 3.x Clients may have 65535",
        "the connection is closed with 0x93"),
    limit!("limits.topicAliasMaximum", topic_alias_maximum, "aliases", 0..=65_535, NewConnections,
        "Topic Aliases that a Client may send",
        "a higher alias closes the connection with 0x94"),
    limit!("limits.outgoingTopicAliasMaximum", outgoing_topic_alias_maximum, "aliases", 0..=65_535, NewConnections,
        "Topic Aliases that the Server sends to a Client that allows them",
        "further Topic Names are sent in full"),
    limit!("limits.retainedMessagesMax", retained_messages_max, "messages", 0..=COUNT, AtOnce,
        "retained messages",
        "a further message is routed, not stored, and counted"),
    limit!("limits.retainedBytesMax", retained_bytes_max, "bytes", 0..=BYTES, AtOnce,
        "bytes of retained messages, Topic Names included",
        "the same as for `limits.retainedMessagesMax`"),
    limit!("limits.sessionExpirySecsMax", session_expiry_secs_max, "seconds", 0..=4_294_967_295, NewConnections,
        "the longest Session Expiry Interval; 4294967295 is never",
        "a longer interval is lowered to it, and CONNACK tells MQTT 5 Clients the lower one"),
    limit!("limits.keepAliveSecsMax", keep_alive_secs_max, "seconds", 0..=65_535, NewConnections,
        "the longest Keep Alive for MQTT 5 Clients; 0 is no limit",
        "a longer Keep Alive, or 0, is replaced by Server Keep Alive"),
    limit!("limits.tcpKeepAliveSecs", tcp_keep_alive_secs, "seconds", 0..=32_767, NewConnections,
        "time without a byte from a peer after which the operating system sends a TCP keep-alive probe; 0 sends none",
        "the first probe is sent"),
    limit!("limits.tcpKeepAliveIntervalSecs", tcp_keep_alive_interval_secs, "seconds", 1..=32_767, NewConnections,
        "time between two TCP keep-alive probes that are not answered",
        "the next probe is sent"),
    limit!("limits.tcpKeepAliveProbes", tcp_keep_alive_probes, "probes", 1..=127, NewConnections,
        "TCP keep-alive probes in a row that may stay unanswered; Linux uses `limits.tcpUserTimeoutSecs` instead, unless that is 0",
        "the connection is closed"),
    limit!("limits.tcpUserTimeoutSecs", tcp_user_timeout, "seconds", 0..=DAY, NewConnections,
        "time in which the peer's operating system acknowledges or accepts no byte (Linux); 0 leaves it to the system",
        "the connection is closed"),
    limit!("limits.wsRequestBytesMax", ws_request_bytes_max, "bytes", 512..=1_048_576, NewConnections,
        "size of the HTTP request that begins a WebSocket",
        "it is refused with the status 431"),
    limit!("limits.wsRequestHeadersMax", ws_request_headers_max, "headers", 16..=124, NewConnections,
        "header lines of such a request",
        "it is refused with the status 431"),
    limit!("limits.hashingThreads", hashing_threads, "threads", 1..=64, AtOnce,
        "threads that check passwords",
        "further checks wait"),
    limit!("limits.hashesWaitingMax", hashes_waiting_max, "CONNECTs", 1..=1_000_000, AtOnce,
        "CONNECTs that wait for the check of their passwords",
        "one of the address with the most of them is refused with 0x89 (3.x: 0x03)"),
    limit!("limits.proxyHeaderBytesMax", proxy_header_bytes_max, "bytes", 232..=65_551, NewConnections,
        "size of a header of the PROXY protocol, version 2",
        "the connection is closed"),
    limit!("limits.clientMessagesPerSecMax", client_messages_per_sec_max, "messages", 0..=COUNT, NewConnections,
        "PUBLISH packets that a Client may send in a second; 0 is no limit",
        "nothing more is read from the Client for a part of a second"),
    limit!("limits.clientBytesPerSecMax", client_bytes_per_sec_max, "bytes", 0..=BYTES, NewConnections,
        "bytes that a Client may send in a second; 0 is no limit",
        "the same as for `limits.clientMessagesPerSecMax`"),
    limit!("limits.addressConnectsPerSecMax", address_connects_per_sec_max, "connections", 0..=COUNT, AtOnce,
        "connections from one address (of IPv6, one /64) in a second; 0 is no limit",
        "the connection is closed"),
    limit!("limits.bansMax", bans_max, "bans", 0..=COUNT, AtOnce,
        "bans that are kept",
        "a further ban is refused"),
    limit!("limits.tlsSessionsMax", tls_sessions_max, "sessions", 0..=1_000_000, NewConnections,
        "TLS sessions that a listener keeps for resumption; 0 keeps none",
        "the oldest is forgotten, and its Client shakes hands in full"),
    limit!("limits.slowConsumerPercent", slow_consumer_percent, "per cent", 1..=100, AtOnce,
        "share of `maxQueueDepth` at which the queue of a Session is long",
        "an alarm after `limits.slowConsumerSecs`, until the queue is shorter than half of it"),
    limit!("limits.slowConsumerSecs", slow_consumer_secs, "seconds", 0..=86_400, AtOnce,
        "time for which the queue of a Session may be long; 0 raises no alarm",
        "an alarm: a line in the log, an event and a count"),
    limit!("limits.adminConnectionsMax", admin_connections_max, "connections", 1..=65_536, NextStart,
        "connections of an admin listener",
        "the connection is closed"),
    limit!("limits.adminStreamsMax", admin_streams_max, "streams", 0..=65_536, NextStart,
        "event streams of an admin listener that are open at once",
        "refused with status 503"),
    limit!("limits.adminRequestBytesMax", admin_request_bytes_max, "bytes", 1_024..=268_435_456, AtOnce,
        "size of the body of a request to an admin listener",
        "refused with status 413"),
    limit!("limits.adminTimeoutSecs", admin_timeout, "seconds", 1..=3_600, AtOnce,
        "time for each step of a request to an admin listener, and for an idle connection",
        "refused with status 408 or 503, or the connection is closed"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Each key reads and writes one field of its own, and no field is without a key.
    #[test]
    fn every_field_has_exactly_one_key() {
        let mut limits = Limits::default();
        for (index, key) in LIMITS.iter().enumerate() {
            (key.set)(&mut limits, 1_000 + index as u64);
        }
        for (index, key) in LIMITS.iter().enumerate() {
            assert_eq!((key.get)(&limits), 1_000 + index as u64, "{}", key.path);
        }
        let shown = format!("{:?}", Limits::default());
        assert_eq!(shown.matches(": ").count(), LIMITS.len(), "{shown}");
    }

    #[test]
    fn keys_are_the_fields_in_camel_case() {
        let shown = format!("{:?}", Limits::default());
        let fields = shown.trim_start_matches("Limits { ").split(", ");
        for (key, field) in LIMITS.iter().zip(fields) {
            let field = field.split(':').next().unwrap_or_default();
            let name = key.path.trim_start_matches("limits.");
            let mut snake = String::new();
            for letter in name.chars() {
                if letter.is_uppercase() {
                    snake.push('_');
                }
                snake.extend(letter.to_lowercase());
            }
            let seconds = field.ends_with("_timeout");
            let expected = if seconds { format!("{field}_secs") } else { field.to_owned() };
            assert_eq!(snake, expected);
        }
    }

    #[test]
    fn every_default_is_in_range() {
        assert_eq!(Limits::default().in_range(), Limits::default());
        for key in LIMITS {
            let default = (key.get)(&Limits::default());
            assert!((key.minimum..=key.maximum).contains(&default), "{}", key.path);
        }
    }

    #[test]
    fn values_out_of_range_move_to_the_nearest_that_is_allowed() {
        for key in LIMITS {
            let mut limits = Limits::default();
            (key.set)(&mut limits, 0);
            assert_eq!((key.get)(&limits.in_range()), key.minimum, "{}", key.path);
            let mut limits = Limits::default();
            (key.set)(&mut limits, u64::MAX);
            assert_eq!((key.get)(&limits.in_range()), key.maximum, "{}", key.path);
        }
    }

    #[test]
    fn a_library_user_may_have_less_than_a_second() {
        let short = Limits { connect_timeout: Duration::from_millis(20), ..Limits::default() };
        assert_eq!(short.clone().in_range(), short);
    }
}
