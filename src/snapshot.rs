//! The state of a broker as bytes: Sessions, their messages and retained messages, for another broker that takes them
//! over.
//!
//! The format begins with [`MAGIC`] and a version. Records follow, each with a [`Tag`], the length of its body in eight
//! bytes, and the body; numbers are big-endian. A message that several Sessions have is written once: messages are
//! numbered from 0 in the order of their records, and later records name the number. Moments are milliseconds of the
//! clock on the wall, because another process counts from another beginning.
//!
//! | record | body |
//! |---|---|
//! | message | flags, Message Expiry Interval and its end, Topic Name, properties, payload |
//! | retained | number of the message |
//! | Session | Client Identifier, user and mount point, expiry, Will with its moment, Packet Identifiers received |
//! | subscription | of the Session before it: Topic Filter, options, Subscription Identifier |
//! | replay | of the Session before it: Topic Filter, Topic Name after which it goes on |
//! | shared | Topic Filter of a shared subscription, numbered from 1 |
//! | backlog | number of a Session, numbers of its messages in flight |
//! | inflight | of the Session of the backlog before it: number in flight, delivery or none |
//! | queued | of the same Session: delivery |
//! | end | how many Sessions, messages and retained messages there were |
//!
//! A delivery is the number of a message, flags, Subscription Identifiers and the number of a shared subscription.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::session::handed::SessionHead;
use crate::time::Timestamp;

pub(crate) mod read;
#[cfg(test)]
mod tests;
pub(crate) mod write;

/// The first bytes.
pub(crate) const MAGIC: &[u8; 8] = b"hrottist";

/// The version of the format that this program writes, and the only one that it reads.
pub(crate) const VERSION: u16 = 1;

/// The bytes before the first record.
pub(crate) const PREFIX_BYTES: usize = MAGIC.len() + 2;

/// The bytes of a record before its body.
pub(crate) const HEAD_BYTES: usize = 9;

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    Message = 1,
    Retained = 2,
    Session = 3,
    Subscription = 4,
    Replay = 5,
    Shared = 6,
    Backlog = 7,
    Inflight = 8,
    Queued = 9,
    End = 10,
}

impl Tag {
    const ALL: [Tag; 10] = [
        Tag::Message,
        Tag::Retained,
        Tag::Session,
        Tag::Subscription,
        Tag::Replay,
        Tag::Shared,
        Tag::Backlog,
        Tag::Inflight,
        Tag::Queued,
        Tag::End,
    ];
}

/// Two clocks at one moment: that of a broker, and that on the wall in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    pub(crate) now: Timestamp,
    pub(crate) wall: u64,
}

impl Clocks {
    /// A moment of the broker as one of the wall.
    fn wall_of(self, at: Timestamp) -> u64 {
        shift(at.0, self.now.0, self.wall)
    }

    /// A moment of the wall as one of the broker. One that has passed before the broker began is its beginning.
    fn moment_of(self, at: u64) -> Timestamp {
        Timestamp(shift(at, self.wall, self.now.0))
    }
}

/// As far from `to` as `at` is from `from`; never stays never.
fn shift(at: u64, from: u64, to: u64) -> u64 {
    if at == u64::MAX {
        return at;
    }
    if at >= from { to.saturating_add(at - from) } else { to.saturating_sub(from - at) }
}

/// Whose a Session is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HeldBy {
    pub(crate) user: HeldByUser,
    pub(crate) mount: Option<Arc<str>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum HeldByUser {
    /// No access rules were in force.
    #[default]
    Unchecked,
    Anonymous,
    Named(Arc<str>),
}

/// A Session without its messages, and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct SessionRecord {
    pub(crate) head: SessionHead,
    pub(crate) held_by: HeldBy,
}

/// What a state holds.
///
/// ```
/// use hrotti::StateSummary;
///
/// assert_eq!(StateSummary::default().to_string(), "0 Sessions, 0 messages, 0 retained messages");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateSummary {
    /// Sessions.
    pub sessions: u64,
    /// Messages, each counted once, retained ones included.
    pub messages: u64,
    /// Retained messages.
    pub retained: u64,
}

impl fmt::Display for StateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StateSummary { sessions, messages, retained } = self;
        write!(f, "{sessions} Sessions, {messages} messages, {retained} retained messages")
    }
}

/// Why the state of a broker cannot be written or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateError {
    /// The writer or the reader failed. An end of the bytes before the end of the state is
    /// [`io::ErrorKind::UnexpectedEof`].
    Io(io::Error),
    /// The bytes are no state of a broker.
    NotAState,
    /// The state has a version that this crate does not read.
    Version(u16),
    /// A record is not valid.
    Malformed {
        /// The place of the record: bytes before it.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The broker has a Session with this Client Identifier already.
    SessionExists(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the bytes end before the state does")
            }
            StateError::Io(error) => error.fmt(f),
            StateError::NotAState => f.write_str("the bytes are no state of a broker"),
            StateError::Version(version) => {
                write!(f, "the state has version {version}, and this program reads {VERSION}")
            }
            StateError::Malformed { at, what } => write!(f, "the state at byte {at}: {what}"),
            StateError::SessionExists(id) => {
                write!(f, "there is a Session with the Client Identifier {id:?} already")
            }
        }
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StateError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> StateError {
        StateError::Io(error)
    }
}
