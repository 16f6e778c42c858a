//! How far each limit is used.

use std::fmt;

use super::pages::Turns;
use crate::broker::Broker;
use crate::counters::Counters;
use crate::engine::inspect::Cells;
use crate::engine::state::LEDGER_READS_MAX;
use crate::ledger::{DropReason, Ledger};
use crate::limits::LIMITS;
use crate::session::Session;

/// The steps that a look at a Session costs.
const LOOK_STEPS: usize = 4;

/// A limit, how much of it is used now, and how often it refused something. `Display` writes one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitUse {
    /// Its key in the configuration file, such as `limits.connectionsMax`.
    pub name: &'static str,
    /// The limit, in its unit.
    pub value: u64,
    /// What its number counts.
    pub unit: &'static str,
    /// What it bounds.
    pub meaning: &'static str,
    /// How much is used now. For a limit of each Session, that of the Session which uses most; for one of each listener,
    /// that of the listener which uses most. `None` for one that is no amount, such as a time.
    pub used: Option<u64>,
    /// How often it refused something since the broker was made; several limits may have one count in common
    /// ([`Counters`]). `None` if that is not counted.
    pub refused: Option<u64>,
}

impl LimitUse {
    /// The part of the limit that is used, 0 to 1; more for a moment, if a limit allows it. `None` if that is not known,
    /// or the limit is 0.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share need not be exact")]
    pub fn share(&self) -> Option<f64> {
        self.used.filter(|_| self.value > 0).map(|used| used as f64 / self.value as f64)
    }
}

impl fmt::Display for LimitUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LimitUse { name, value, unit, .. } = self;
        match self.used {
            Some(used) => write!(f, "{name}: {used} of {value} {unit}")?,
            None => write!(f, "{name}: {value} {unit}")?,
        }
        self.refused
            .filter(|&refused| refused > 0)
            .map_or(Ok(()), |refused| write!(f, ", refused {refused} times"))
    }
}

/// What is used now and not counted elsewhere: the most of any Session or listener.
#[derive(Debug, Default)]
struct Most {
    waiting: usize,
    waiting_bytes: usize,
    subscriptions: usize,
    subscription_bytes: usize,
    inflight: usize,
    receiving: usize,
    handshakes: usize,
    /// The books of all Sessions, of ended ones too.
    ledger: Ledger,
}

/// What [`LimitUse::used`] and [`LimitUse::refused`] are made of.
struct Figures {
    most: Most,
    counters: Counters,
    /// Bytes of all Topic Filters.
    subscription_bytes: usize,
}

impl Figures {
    fn used(&self, name: &str) -> Option<usize> {
        let Figures { most, counters, .. } = self;
        Some(match name {
            "maxQueueDepth" => most.waiting,
            "limits.queueBytesMax" => most.waiting_bytes,
            "limits.unauthenticatedBytesMax" => counters.unauthenticated_bytes,
            "limits.sessionSubscriptionsMax" => most.subscriptions,
            "limits.sessionSubscriptionBytesMax" => most.subscription_bytes,
            "limits.subscriptionsMax" => counters.subscriptions,
            "limits.subscriptionBytesMax" => self.subscription_bytes,
            "limits.sessionsMax" => counters.sessions,
            "limits.connectionsMax" => counters.connections,
            "limits.handshakesMax" => most.handshakes,
            "limits.maxInflight" => most.inflight,
            "limits.receiveMaximum" => most.receiving,
            "limits.retainedMessagesMax" => counters.retained_messages,
            "limits.retainedBytesMax" => counters.retained_bytes,
            _ => return None,
        })
    }

    fn refused(&self, name: &str) -> Option<u64> {
        let Figures { most: Most { ledger, .. }, counters, .. } = self;
        Some(match name {
            "maxQueueDepth" => ledger.dropped(DropReason::QueueFull),
            "limits.queueBytesMax" => ledger.dropped(DropReason::QueueBytes),
            "limits.packetBytesMax" | "limits.connectPacketBytesMax" => counters.packets_too_large,
            "limits.unauthenticatedBytesMax" => counters.unauthenticated_bytes_refused,
            "limits.topicLevelsMax" | "limits.topicBytesMax" => counters.topics_refused,
            "limits.packetFiltersMax" => counters.packet_filters_refused,
            "limits.sessionSubscriptionsMax"
            | "limits.sessionSubscriptionBytesMax"
            | "limits.subscriptionsMax"
            | "limits.subscriptionBytesMax" => counters.subscriptions_refused,
            "limits.sessionsMax" => counters.sessions_refused,
            "limits.connectionsMax" => counters.connections_refused,
            "limits.handshakesMax" => counters.handshakes_waited,
            "limits.handshakeTimeoutSecs" => counters.handshakes_timed_out,
            "limits.connectTimeoutSecs" => counters.connects_timed_out,
            "limits.connectDecisionTimeoutSecs" => counters.connects_undecided,
            "limits.authenticationStepsMax" => counters.authentication_steps_exceeded,
            "limits.packetTimeoutSecs" => counters.packets_timed_out,
            "limits.writeStallTimeoutSecs" => counters.writes_stalled,
            "limits.answerBytesMax" => counters.reads_paused,
            "limits.receiveMaximum" => counters.receive_maximum_exceeded,
            "limits.retainedMessagesMax" | "limits.retainedBytesMax" => counters.retained_refused,
            "limits.clientMessagesPerSecMax" | "limits.clientBytesPerSecMax" => {
                counters.readers_slowed
            }
            "limits.addressConnectsPerSecMax" => counters.address_connects_refused,
            "limits.adminConnectionsMax" => counters.admin_connections_refused,
            "limits.adminStreamsMax" => counters.admin_streams_refused,
            "limits.adminRequestBytesMax" => counters.admin_requests_too_large,
            "limits.adminTimeoutSecs" => counters.admin_requests_timed_out,
            _ => return None,
        })
    }
}

impl Broker {
    /// Every limit with its value, how much of it is used, and how often it refused something, in the order of
    /// [`Limits`](crate::Limits). For the longest queue and the like, each Session is locked for a moment: the time is in
    /// proportion to the Sessions, and the call yields after each millisecond of work.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, Limits};
    ///
    /// let limits = Limits { sessions_max: 4, ..Limits::default() };
    /// let broker = Broker::builder().limits(limits).build();
    /// let client = broker.client("lamp")?;
    /// let limits = block_on(broker.limits_in_use());
    /// let sessions = limits.iter().find(|limit| limit.name == "limits.sessionsMax").expect("a limit");
    /// assert_eq!((sessions.value, sessions.used, sessions.share()), (4, Some(1), Some(0.25)));
    /// # drop(client);
    /// # Ok::<(), hrotti::ClientError>(())
    /// ```
    ///
    /// # Cancel safety
    /// The call changes nothing; its future may be dropped.
    pub async fn limits_in_use(&self) -> Vec<LimitUse> {
        let engine = self.engine();
        let most = self.most_used().await;
        let figures = Figures {
            most,
            counters: engine.counters(),
            subscription_bytes: engine.subscription_bytes(),
        };
        let in_force = engine.limits();
        let limits = LIMITS.iter().map(|key| LimitUse {
            name: key.path,
            value: (key.get)(&in_force),
            unit: key.unit,
            meaning: key.meaning,
            used: figures.used(key.path).map(|used| u64::try_from(used).unwrap_or(u64::MAX)),
            refused: figures.refused(key.path),
        });
        limits.collect()
    }

    /// Reads every Session, and does so again if one has ended meanwhile: its books could be counted twice, or not at
    /// all.
    async fn most_used(&self) -> Most {
        let (engine, mut turns) = (self.engine(), Turns::begin());
        for _ in 1..LEDGER_READS_MAX {
            let (_, ended) = engine.ended_books();
            let most = self.read_most_used(&mut turns).await;
            if engine.ended_books().1 == ended {
                return most;
            }
        }
        self.read_most_used(&mut turns).await
    }

    async fn read_most_used(&self, turns: &mut Turns) -> Most {
        let engine = self.engine();
        let handshakes = self.listening().most_handshakes();
        let (ledger, _) = engine.ended_books();
        let mut most = Most { handshakes, ledger, ..Most::default() };
        let mut cells = Cells::default();
        while let Some(shard) = cells.next(engine, &mut turns.budget) {
            for cell in shard {
                most.look_at(&cell.lock().session);
                turns.spend(LOOK_STEPS).await;
            }
        }
        most
    }
}

impl Most {
    fn look_at(&mut self, session: &Session) {
        if session.has_ended() {
            return;
        }
        self.ledger += session.ledger();
        let standing = session.standing();
        let subscription_bytes = session.subscription_bytes();
        for (most, value) in [
            (&mut self.waiting, standing.waiting),
            (&mut self.waiting_bytes, standing.bytes),
            (&mut self.subscriptions, session.subscription_count()),
            (&mut self.subscription_bytes, subscription_bytes),
            (&mut self.inflight, standing.inflight),
            (&mut self.receiving, session.received_len()),
        ] {
            *most = (*most).max(value);
        }
    }
}
