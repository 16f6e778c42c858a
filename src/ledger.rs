//! The books: every message that is offered to a Session ends in exactly one [`Outcome`].
//!
//! The unit is one (message × Session) after overlapping subscriptions were merged, one (message × shared
//! subscription), one retained message replayed to a new subscription, and one for a message that no
//! subscription matches. At any moment
//!
//! > offered = delivered + waiting + inflight + expired + dropped + filtered + handed over

use std::fmt;
use std::ops::AddAssign;

/// The final result of one message for one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// QoS 0: accepted by the transport. QoS 1: PUBACK received. QoS 2: PUBCOMP received.
    Delivered,
    /// Its Message Expiry Interval passed before delivery began (MQTT-3.3.2-5).
    Expired,
    /// Thrown away although a subscription matched.
    Dropped(DropReason),
    /// Not to be delivered: no subscription matched, or a rule excludes the subscriber.
    Filtered(FilterReason),
    /// Another broker has it, with its Session.
    HandedOver,
}

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every reason, in the order of the ledger.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $label,)* })
            }
        }
    };
}

reasons! {
    /// Why a message that a subscription matched was thrown away.
    DropReason {
        /// `max_queue_depth` messages already waited for the Client.
        QueueFull = "queue full",
        /// `queue_bytes_max` bytes already waited for the Client.
        QueueBytes = "queue bytes",
        /// A message of QoS 0 for a Session whose Client is not connected.
        Away = "away",
        /// The Session ended before the message was delivered.
        SessionEnded = "session ended",
        /// The PUBLISH is larger than the Client's Maximum Packet Size (MQTT-3.1.2-25).
        TooLarge = "too large",
        /// The Client answered with a Reason Code of 0x80 or greater.
        RefusedByClient = "refused by client",
    }
}

reasons! {
    /// Why a message was not to be delivered.
    FilterReason {
        /// No subscription matched.
        NoSubscription = "no subscription",
        /// The subscriber published the message itself and asked for No Local (MQTT-3.8.3-3).
        NoLocal = "no local",
        /// A Client published to a Topic Name that only the Server may use.
        ReservedTopic = "reserved topic",
        /// The access rules do not allow the publisher to send it or the subscriber to receive it.
        NotAuthorized = "not authorized",
        /// The Topic Name is outside of the mount point of the listener through which the Client is connected.
        Unmounted = "unmounted",
    }
}

const DROP_REASONS: usize = DropReason::ALL.len();
const FILTER_REASONS: usize = FilterReason::ALL.len();

/// Dropped messages by reason.
pub(crate) type Drops = [u64; DROP_REASONS];

/// Counts of messages that were offered to Sessions, and of their outcomes.
///
/// [`Broker::ledger`](crate::Broker::ledger) returns the ledger of the broker,
/// [`SessionInfo::ledger`](crate::SessionInfo) that of one Session. The unit is one message for one Session
/// (overlapping subscriptions count once), for one shared subscription, or for one replay of a retained message;
/// a message that no subscription matches counts once, too. The counts begin with the broker or the Session;
/// `waiting` and `inflight` are the numbers of this moment.
///
/// ```
/// use hrotti::{Broker, FilterReason, Message};
/// # futures_lite::future::block_on(async {
/// let broker = Broker::new(100);
/// broker.client("host-program")?.publish(Message::new("nobody/listens", "x")?).await?;
/// let ledger = broker.ledger();
/// assert_eq!((ledger.offered, ledger.filtered(FilterReason::NoSubscription)), (1, 1));
/// assert!(ledger.balances());
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// Messages that were offered, in total.
    pub offered: u64,
    /// Messages that were delivered. QoS 0: the transport accepted it. QoS 1: PUBACK was received. QoS 2:
    /// PUBCOMP was received. In-process client: it was taken from the stream.
    pub delivered: u64,
    /// Messages that the transport has not completely accepted yet.
    pub waiting: u64,
    /// Messages of QoS 1 and 2 that the transport has accepted and the Client has not completely acknowledged.
    pub inflight: u64,
    /// Messages whose Message Expiry Interval passed before delivery began (MQTT-3.3.2-5).
    pub expired: u64,
    /// Messages that another broker has, because their Sessions were handed over
    /// ([`HandOver::finish`](crate::HandOver::finish)). There they are offered anew.
    pub handed_over: u64,
    dropped: Drops,
    filtered: [u64; FILTER_REASONS],
}

impl Ledger {
    /// Messages that were thrown away for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Messages that were not to be delivered for this reason.
    #[must_use]
    pub fn filtered(&self, reason: FilterReason) -> u64 {
        self.filtered[reason as usize]
    }

    /// Messages that were thrown away, for all reasons together.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Messages that were not to be delivered, for all reasons together.
    #[must_use]
    pub fn filtered_total(&self) -> u64 {
        self.filtered.iter().sum()
    }

    /// Whether every offered message has exactly one place: offered = delivered + waiting + inflight + expired +
    /// dropped + filtered + handed over.
    #[must_use]
    pub fn balances(&self) -> bool {
        let ended = self.delivered + self.expired + self.dropped_total() + self.filtered_total();
        self.offered == ended + self.handed_over + self.waiting + self.inflight
    }

    /// Tells the drops that are not among `told`, by reason, and adds them there.
    pub(crate) fn tell_drops(&self, told: &mut Drops, mut tell: impl FnMut(DropReason, u64)) {
        for (&reason, told) in DropReason::ALL.iter().zip(told) {
            let new = self.dropped(reason).saturating_sub(*told);
            if new > 0 {
                *told += new;
                tell(reason, new);
            }
        }
    }

    /// One more message was offered.
    pub(crate) fn offer(&mut self) {
        self.offered += 1;
    }

    /// A message that was offered here goes to another member of its shared subscription: it is offered
    /// there anew, and was never offered here.
    pub(crate) fn withdraw(&mut self) {
        self.offered -= 1;
    }

    /// Counts the outcome of a message that was offered.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        self.end_many(outcome, 1);
    }

    /// As [`Ledger::end`], `count` times.
    pub(crate) fn end_many(&mut self, outcome: Outcome, count: u64) {
        *match outcome {
            Outcome::Delivered => &mut self.delivered,
            Outcome::Expired => &mut self.expired,
            Outcome::Dropped(reason) => &mut self.dropped[reason as usize],
            Outcome::Filtered(reason) => &mut self.filtered[reason as usize],
            Outcome::HandedOver => &mut self.handed_over,
        } += count;
    }
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, other: Ledger) {
        self.offered += other.offered;
        self.delivered += other.delivered;
        self.waiting += other.waiting;
        self.inflight += other.inflight;
        self.expired += other.expired;
        self.handed_over += other.handed_over;
        for (mine, theirs) in self.dropped.iter_mut().zip(other.dropped) {
            *mine += theirs;
        }
        for (mine, theirs) in self.filtered.iter_mut().zip(other.filtered) {
            *mine += theirs;
        }
    }
}

/// Each count of dropped and filtered messages with its reason.
impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("offered", &self.offered)
            .field("delivered", &self.delivered)
            .field("waiting", &self.waiting)
            .field("inflight", &self.inflight)
            .field("expired", &self.expired)
            .field("handed_over", &self.handed_over)
            .field("dropped", &Named(DropReason::ALL, &self.dropped))
            .field("filtered", &Named(FilterReason::ALL, &self.filtered))
            .finish()
    }
}

/// Counts with their names.
struct Named<'a, R>(&'a [R], &'a [u64]);

impl<R: fmt::Debug> fmt::Debug for Named<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().zip(self.1)).finish()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "offered {} = delivered {} + waiting {} + inflight {} + expired {}",
            self.offered, self.delivered, self.waiting, self.inflight, self.expired
        )?;
        if self.handed_over > 0 {
            write!(f, " + handed over {}", self.handed_over)?;
        }
        for &reason in DropReason::ALL {
            write!(f, " + dropped ({reason}) {}", self.dropped(reason))?;
        }
        for &reason in FilterReason::ALL {
            write!(f, " + filtered ({reason}) {}", self.filtered(reason))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_balances_one_offer() {
        let mut ledger = Ledger::default();
        let outcomes = [Outcome::Delivered, Outcome::Expired, Outcome::HandedOver]
            .into_iter()
            .chain(DropReason::ALL.iter().map(|&reason| Outcome::Dropped(reason)))
            .chain(FilterReason::ALL.iter().map(|&reason| Outcome::Filtered(reason)));
        for outcome in outcomes {
            ledger.offer();
            assert!(!ledger.balances(), "an offer without an outcome must show");
            ledger.end(outcome);
            assert!(ledger.balances());
        }
        assert_eq!(ledger.dropped_total(), DropReason::ALL.len() as u64);
        assert_eq!(ledger.filtered_total(), FilterReason::ALL.len() as u64);
    }

    #[test]
    fn the_sum_of_two_books_balances() {
        let mut one =
            Ledger { offered: 3, delivered: 1, waiting: 1, inflight: 1, ..Ledger::default() };
        let mut two = Ledger::default();
        two.offer();
        two.end(Outcome::Dropped(DropReason::QueueFull));
        one += two;
        assert!(one.balances());
        assert_eq!(one.dropped(DropReason::QueueFull), 1);
    }

    #[test]
    fn debug_names_every_count() {
        let mut ledger = Ledger::default();
        ledger.offer();
        ledger.end(Outcome::Dropped(DropReason::TooLarge));
        ledger.offer();
        ledger.end_many(Outcome::Filtered(FilterReason::NoLocal), 3);
        let shown = format!("{ledger:?}");
        assert!(shown.starts_with("Ledger { offered: 2, delivered: 0, waiting: 0, "), "{shown}");
        assert!(
            shown.contains("dropped: {QueueFull: 0, ") && shown.contains("TooLarge: 1"),
            "{shown}"
        );
        assert!(shown.contains("NoLocal: 3"), "{shown}");
        for name in DropReason::ALL.iter().map(|reason| format!("{reason:?}: ")) {
            assert!(shown.contains(&name), "{name} {shown}");
        }
        for name in FilterReason::ALL.iter().map(|reason| format!("{reason:?}: ")) {
            assert!(shown.contains(&name), "{name} {shown}");
        }
    }
}
