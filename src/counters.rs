//! The counters of a broker in one table: what the broker holds now, and how often each limit refused something.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Generates [`Counters`], the public snapshot, and [`Counts`], the atomics, from one table.
macro_rules! counters {
    (
        $(#[$meta:meta])*
        measured { $($(#[$measured_doc:meta])* $measured:ident,)* }
        held { $($(#[$held_doc:meta])* $held:ident,)* }
        counted { $($(#[$counted_doc:meta])* $counted:ident,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$measured_doc])* pub $measured: usize,)*
            $($(#[$held_doc])* pub $held: usize,)*
            $($(#[$counted_doc])* pub $counted: u64,)*
        }

        impl Counters {
            /// How often each limit refused something: the name of the field, and its number.
            pub(crate) fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($counted), self.$counted),)*].into_iter()
            }
        }

        /// The counters as tasks change them.
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $held: AtomicUsize,)*
            $(pub(crate) $counted: AtomicU64,)*
        }

        impl Counts {
            /// The counters of this moment, except those that are measured elsewhere.
            pub(crate) fn read(&self) -> Counters {
                Counters {
                    $($held: self.$held.load(Ordering::Relaxed),)*
                    $($counted: self.$counted.load(Ordering::Relaxed),)*
                    ..Counters::default()
                }
            }
        }
    };
}

counters! {
    /// What a broker holds now, and how often each of its [`Limits`](crate::Limits) refused something since the
    /// broker was made. [`Broker::counters`](crate::Broker::counters) returns it.
    ///
    /// ```
    /// use hrotti::{Broker, Limits, Message};
    /// # futures_lite::future::block_on(async {
    /// let limits = Limits { retained_messages_max: 1, ..Limits::default() };
    /// let broker = Broker::builder().limits(limits).build();
    /// let client = broker.client("host-program")?;
    /// for topic in ["one", "two"] {
    ///     client.publish(Message::new(topic, "kept")?.with_retain(true)).await?;
    /// }
    /// let counters = broker.counters();
    /// assert_eq!((counters.retained_messages, counters.retained_refused), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    measured {
        /// Sessions, whether their Clients are connected or not.
        sessions,
        /// Subscriptions.
        subscriptions,
        /// Those of the subscriptions that are shared (section 4.8.2).
        shared_subscriptions,
        /// Retained messages, without the Server's own below `$SYS/broker/`.
        retained_messages,
        /// Bytes of retained messages, Topic Names included.
        retained_bytes,
    }
    held {
        /// Network Connections with an accepted CONNECT.
        connections,
        /// Bytes held for peers whose CONNECT was not accepted yet.
        unauthenticated_bytes,
        /// Sessions whose queue is long, after `slow_consumer_secs`.
        slow_sessions,
    }
    counted {
        /// CONNECTs refused by `connections_max`.
        connections_refused,
        /// CONNECTs refused by `sessions_max`.
        sessions_refused,
        /// Topic Filters refused by `session_subscriptions_max`, `session_subscription_bytes_max`,
        /// `subscriptions_max` or `subscription_bytes_max`.
        subscriptions_refused,
        /// Messages that `retained_messages_max` or `retained_bytes_max` kept from being retained.
        retained_refused,
        /// Topic Names and Topic Filters refused by `topic_levels_max` or `topic_bytes_max`.
        topics_refused,
        /// Connections closed by `packet_bytes_max` or `connect_packet_bytes_max`.
        packets_too_large,
        /// Peers whose transport handshake failed.
        handshakes_failed,
        /// Peers closed because the process had no file descriptor left.
        descriptors_exhausted,
        /// Peers dropped by `handshake_timeout`.
        handshakes_timed_out,
        /// Peers dropped before CONNECT because `handshakes_max` was reached and another peer came.
        handshakes_displaced,
        /// Times that a listener waited because of `handshakes_max`, as no peer could be dropped for the next one.
        handshakes_waited,
        /// Connections closed by `connect_timeout`.
        connects_timed_out,
        /// Connections closed by `packet_timeout`.
        packets_timed_out,
        /// Connections closed by `write_stall_timeout`.
        writes_stalled,
        /// Connections closed because one and a half times their Keep Alive passed without a packet.
        keep_alives_timed_out,
        /// Connections closed by `unauthenticated_bytes_max`.
        unauthenticated_bytes_refused,
        /// Connections closed by `receive_maximum`.
        receive_maximum_exceeded,
        /// Connections closed because of a Malformed Packet.
        malformed_packets,
        /// Connections closed because of a Protocol Error.
        protocol_errors,
        /// Connections closed by `packet_filters_max`.
        packet_filters_refused,
        /// CONNECTs refused because `connect_decision_timeout` passed before the decision.
        connects_undecided,
        /// Times that reading stopped because `answer_bytes_max` bytes of answers were unsent.
        reads_paused,
        /// Peers closed because their network is not among those of their listener.
        networks_refused,
        /// Peers closed by `address_connects_per_sec_max`.
        address_connects_refused,
        /// CONNECTs refused by the number of connections of their listener.
        listener_connections_refused,
        /// CONNECTs refused by the other rules of their listener: version, anonymous Client, or QoS of the Will.
        listener_rules_refused,
        /// Times that reading stopped because of `client_messages_per_sec_max` or `client_bytes_per_sec_max`.
        readers_slowed,
        /// CONNECTs and re-authentications that the policy refused by 0x86: a wrong User Name or Password.
        connects_bad_credentials,
        /// CONNECTs and re-authentications that the policy refused by 0x87 or 0x8C, or that no policy answered.
        connects_not_authorized,
        /// CONNECTs and re-authentications that the policy refused by 0x8A.
        connects_banned,
        /// CONNECTs and re-authentications that the policy refused by 0x9F.
        connects_rate_exceeded,
        /// CONNECTs and re-authentications that the policy refused by another Reason Code.
        connects_refused,
        /// Enhanced authentications ended by `authentication_steps_max`.
        authentication_steps_exceeded,
        /// Application Messages that the policy kept from being published, Wills included.
        publishes_denied,
        /// Topic Filters of SUBSCRIBE and UNSUBSCRIBE that the policy denied.
        subscribes_denied,
        /// Messages that the policy kept from being delivered, or from a member of a shared subscription.
        receives_denied,
        /// Connections closed because the identity of the Client has ended.
        identities_expired,
        /// Connections closed because the policy changed and would not let the Client in any more.
        policy_disconnects,
        /// Alarms by `slow_consumer_percent` and `slow_consumer_secs`: Sessions whose queue became long and stayed so.
        slow_alarms,
        /// Connections to an admin listener closed by `admin_connections_max`.
        admin_connections_refused,
        /// Event streams of an admin listener refused by `admin_streams_max`.
        admin_streams_refused,
        /// Requests to an admin listener refused by `admin_request_bytes_max`, or by the size of their head.
        admin_requests_too_large,
        /// Requests to an admin listener that `admin_timeout` ended. The end of an idle connection does not count.
        admin_requests_timed_out,
        /// Requests to an admin listener refused because they show no token, or another one.
        admin_requests_unauthorized,
        /// Requests to an admin listener without a token refused because they come from a page of another origin.
        admin_requests_foreign,
    }
}

/// Counts one.
pub(crate) fn count_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Counts several.
pub(crate) fn count_many(counter: &AtomicU64, many: usize) {
    counter.fetch_add(many as u64, Ordering::Relaxed);
}
