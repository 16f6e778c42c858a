//! Why messages do or do not reach a Session.

use std::fmt;

use crate::access::Rule;
use crate::ledger::{DropReason, FilterReason, Ledger};
use crate::packet::QoS;
use crate::topic::near::Difference;
use crate::topic::{TopicError, TopicFilter};

/// Why a message with a Topic Name would or would not reach a Session at this moment, and what became of the messages
/// that were offered to the Session before. [`Broker::explain_delivery`](crate::Broker::explain_delivery) makes it.
///
/// It is made from the present state and from the counts of the Session's [`Ledger`]: the broker records nothing for
/// each message, so that explanations cost nothing until one is asked for. `Display` writes one line for the answer and
/// one for each finding, with text from Clients escaped.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The Client Identifier of the Session.
    pub client_id: String,
    /// The Topic Name.
    pub topic: String,
    /// What was found, in the order in which a message meets it.
    pub findings: Vec<Finding>,
    /// The outcomes of the messages that were offered to the Session until now; `None` without a Session.
    pub past: Option<Ledger>,
}

impl Explanation {
    /// Whether a message would reach the Session: no finding keeps all messages away.
    #[must_use]
    pub fn would_arrive(&self) -> bool {
        self.findings.iter().all(|finding| finding.keeps_away != KeepsAway::All)
    }

    /// The first finding that keeps all messages away; else the first that keeps some away.
    #[must_use]
    pub fn obstacle(&self) -> Option<&Finding> {
        let that = |keeps| self.findings.iter().find(move |finding| finding.keeps_away == keeps);
        that(KeepsAway::All).or_else(|| that(KeepsAway::Some))
    }
}

/// One finding of an [`Explanation`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// What it is.
    pub cause: Cause,
    /// Which messages with the Topic Name it keeps from the Session.
    pub keeps_away: KeepsAway,
}

/// Which messages a [`Finding`] keeps from a Session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepsAway {
    /// None.
    None,
    /// Some: the text of the cause says which.
    Some,
    /// All.
    All,
}

/// What a [`Finding`] is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// There is no Session with this Client Identifier.
    NoSession {
        /// A Client Identifier that differs by little and has a Session.
        nearest: Option<String>,
    },
    /// The text is no Topic Name.
    NoTopicName(TopicError),
    /// No subscription of the Session matches.
    NoSubscription {
        /// The subscription that almost matches, and the difference.
        nearest: Option<(TopicFilter, Difference)>,
    },
    /// This subscription matches.
    Subscription {
        /// Its Topic Filter.
        filter: TopicFilter,
        /// The highest QoS that was granted to it.
        qos: QoS,
    },
    /// Every subscription that matches has No Local: messages of the Client itself are kept away (MQTT-3.8.3-3).
    NoLocal,
    /// Only one member of a shared subscription gets each message, and this Session is not next (section 4.8.2).
    AnotherMember {
        /// The Topic Filter of the shared subscription.
        filter: TopicFilter,
        /// The Client Identifier of the member that would get the next message, if one can take it.
        next: Option<String>,
    },
    /// The access rules let the Client receive messages with this Topic Name.
    Authorized {
        /// The rule that decided.
        rule: Rule,
    },
    /// The access rules do not let the Client receive messages with this Topic Name.
    NotAuthorized {
        /// The rule that decided; `None` if no rule allows it.
        rule: Option<Rule>,
    },
    /// The Topic Name is outside the mount point of the Client's listener
    /// ([`ListenerRules::mount_point`](crate::ListenerRules::mount_point)).
    Unmounted,
    /// The Client is not connected: messages of QoS 0 are dropped, others wait for it.
    Away {
        /// The QoS of such a message; without a message, the highest that was granted.
        qos: QoS,
    },
    /// The queue is full (`max_queue_depth`).
    QueueFull {
        /// Messages that wait.
        waiting: usize,
        /// The limit.
        depth: usize,
    },
    /// The message would exceed the bytes that may wait (`queue_bytes_max`).
    QueueBytes {
        /// Bytes that wait.
        waiting: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A PUBLISH is larger than the Client's Maximum Packet Size (MQTT-3.1.2-25).
    TooLarge {
        /// The bytes of the PUBLISH; without a message, those of one without a payload.
        packet_bytes: usize,
        /// The limit that the Client set.
        maximum_packet_size: u32,
    },
    /// The Message Expiry Interval of the message is over at once (MQTT-3.3.2-5).
    Expired,
    /// The Client takes no bytes at the moment; messages wait for it.
    NotReading,
    /// The Client has not acknowledged as many messages as it allows: further ones of QoS 1 and 2 wait.
    QuotaUsed {
        /// Messages that are not acknowledged.
        inflight: usize,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NoSession { nearest: None } => f.write_str("there is no such Session"),
            Cause::NoSession { nearest: Some(nearest) } => {
                write!(f, "there is no such Session; there is one of {nearest:?}")
            }
            Cause::NoTopicName(error) => write!(f, "this is no Topic Name: {error}"),
            Cause::NoSubscription { nearest: None } => f.write_str("no subscription matches"),
            Cause::NoSubscription { nearest: Some((filter, difference)) } => {
                write!(f, "no subscription matches; the nearest is {:?}: {difference}", filter.as_str())
            }
            Cause::Subscription { filter, qos } => {
                write!(f, "the subscription {:?} matches, at most at QoS {}", filter.as_str(), *qos as u8)
            }
            Cause::NoLocal => f.write_str("with No Local, messages of the Client itself are not sent to it"),
            Cause::AnotherMember { filter, next: Some(next) } => {
                write!(f, "of the shared subscription {:?}, {next:?} gets the next message", filter.as_str())
            }
            Cause::AnotherMember { filter, next: None } => {
                write!(f, "of the shared subscription {:?}, no member can take a message now", filter.as_str())
            }
            Cause::Authorized { rule } => write!(f, "it may receive them: {rule}"),
            Cause::NotAuthorized { rule: Some(rule) } => write!(f, "it may not receive them: {rule}"),
            Cause::NotAuthorized { rule: None } => f.write_str("it may not receive them: no rule allows it"),
            Cause::Unmounted => f.write_str("the topic is outside the mount point of the Client's listener"),
            Cause::Away { qos: QoS::AtMostOnce } => {
                f.write_str("the Client is not connected, so messages of QoS 0 are dropped")
            }
            Cause::Away { .. } => f.write_str(
                "the Client is not connected: messages of QoS 1 and 2 wait for it, those of QoS 0 are dropped",
            ),
            Cause::QueueFull { waiting, depth } => {
                write!(f, "its queue is full: {waiting} messages wait, and {depth} may (maxQueueDepth)")
            }
            Cause::QueueBytes { waiting, bytes_max } => write!(
                f,
                "its queue is full: {waiting} bytes wait, and {bytes_max} may (limits.queueBytesMax)"
            ),
            Cause::TooLarge { packet_bytes, maximum_packet_size } => write!(
                f,
                "the Client takes packets of at most {maximum_packet_size} bytes (Maximum Packet Size), and this one has \
                 {packet_bytes} bytes"
            ),
            Cause::Expired => f.write_str("its Message Expiry Interval is over at once"),
            Cause::NotReading => f.write_str("the Client takes no bytes at the moment, so messages wait"),
            Cause::QuotaUsed { inflight } => write!(
                f,
                "{inflight} messages are not acknowledged, as many as the Client allows: those of QoS 1 and 2 wait"
            ),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let would = match self.obstacle().map(|finding| finding.keeps_away) {
            Some(KeepsAway::All) => "would not reach",
            Some(_) => "would reach, with exceptions,",
            None => "would reach",
        };
        write!(f, "a message to {:?} {would} the Session of {:?}", self.topic, self.client_id)?;
        for finding in &self.findings {
            let mark = match finding.keeps_away {
                KeepsAway::All => "no: ",
                KeepsAway::Some => "some: ",
                KeepsAway::None => "",
            };
            write!(f, "\n- {mark}{}", finding.cause)?;
        }
        let Some(past) = &self.past else { return Ok(()) };
        write!(f, "\n- until now: {} messages delivered", past.delivered)?;
        let waiting = past.waiting + past.inflight;
        if waiting > 0 {
            write!(f, ", {waiting} not delivered yet")?;
        }
        if past.expired > 0 {
            write!(f, ", {} expired", past.expired)?;
        }
        for reason in DropReason::ALL.iter().filter(|reason| past.dropped(**reason) > 0) {
            write!(f, ", {} dropped ({reason})", past.dropped(*reason))?;
        }
        for reason in FilterReason::ALL.iter().filter(|reason| past.filtered(**reason) > 0) {
            write!(f, ", {} filtered ({reason})", past.filtered(*reason))?;
        }
        Ok(())
    }
}
