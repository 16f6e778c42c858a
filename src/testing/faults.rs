//! The behaviour of a link towards the bytes that it carries, and the faults that a test can order.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use super::dice::Dice;

/// One of the two directions of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

impl Direction {
    /// Both.
    pub const BOTH: [Direction; 2] = [Direction::ToBroker, Direction::ToClient];

    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn other(self) -> Direction {
        match self {
            Direction::ToBroker => Direction::ToClient,
            Direction::ToClient => Direction::ToBroker,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::ToBroker => "to broker",
            Direction::ToClient => "to client",
        })
    }
}

/// An operation of the broker's end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The handshake of the transport, before the first byte.
    Handshake,
    /// `poll_read`
    Read,
    /// `poll_write`, `poll_write_vectored` and [`TryWrite`](crate::transport::TryWrite)
    Write,
    /// `poll_flush`
    Flush,
    /// `poll_close`
    Close,
    /// The drop of the stream. It can panic, but not fail.
    Drop,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 6] = [
        Operation::Handshake,
        Operation::Read,
        Operation::Write,
        Operation::Flush,
        Operation::Close,
        Operation::Drop,
    ];
}

/// A fault that happens once on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The connection ends after `bytes` bytes in one direction: these bytes arrive, later bytes do not, and both ends
    /// get [`ErrorKind::ConnectionReset`].
    CutBehind {
        /// The direction in which bytes are counted.
        direction: Direction,
        /// Bytes since the beginning of the connection.
        bytes: u64,
    },
    /// The connection ends this long after the order: bytes under way are lost, and both ends get
    /// [`ErrorKind::ConnectionReset`].
    CutAfter(Duration),
    /// After `bytes` bytes in one direction nothing arrives there for a while: the reader waits, and once the link is
    /// full the writer waits, too.
    StallBehind {
        /// The direction that stalls.
        direction: Direction,
        /// Bytes since the beginning of the connection.
        bytes: u64,
        /// The duration; [`Duration::MAX`] lasts until [`Link::resume`](super::Link::resume).
        lasting: Duration,
    },
    /// An operation of the broker's end of the link panics.
    Panic {
        /// The operation.
        operation: Operation,
        /// The number of its calls that succeed before.
        calls: u64,
    },
    /// An operation of the broker's end of the link fails.
    Error {
        /// The operation.
        operation: Operation,
        /// The number of its calls that succeed before.
        calls: u64,
        /// The kind of the error.
        kind: ErrorKind,
    },
}

/// The behaviour of a link towards the bytes that it carries. The default link is fast and has no faults.
///
/// ```
/// use std::time::Duration;
/// use hrotti::testing::{Direction, Fault, Faults};
///
/// let slow = Faults { delay: Duration::from_millis(300), read_max: 1, ..Faults::default() };
/// let cut = Fault::CutBehind { direction: Direction::ToBroker, bytes: 20 };
/// let faults = Faults { once: vec![cut], ..slow };
/// assert_eq!(faults.capacity, 65_536);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The time for which bytes are under way. Default 0.
    pub delay: Duration,
    /// The longest additional delay; each write draws its own. Bytes stay in order. Default 0.
    pub jitter: Duration,
    /// Bytes that each direction holds, under way and arrived, 1 to any number (0 is raised to 1): at the limit
    /// a write waits for the reader. Default 65 536.
    pub capacity: usize,
    /// The most bytes that one read returns; each read draws its own number from 1. By default there is no such limit,
    /// and a read returns all bytes that have arrived.
    pub read_max: usize,
    /// The most bytes that one write takes; each write draws its own number from 1. By default there is no such limit,
    /// and a write takes all bytes that the link has room for.
    pub write_max: usize,
    /// One in this many reads, writes and flushes returns pending at first and is woken for another try. Default 0:
    /// none.
    pub hesitation: u64,
    /// Whether any task can write to the broker's end ([`TryWrite`](crate::transport::TryWrite)), as with a socket.
    /// Default true.
    pub inline: bool,
    /// Faults that happen once. Default none.
    pub once: Vec<Fault>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            capacity: 65_536,
            read_max: usize::MAX,
            write_max: usize::MAX,
            hesitation: 0,
            inline: true,
            once: Vec::new(),
        }
    }
}

impl Faults {
    /// Draws a link that delays (up to 250 ms), splits and hesitates, and loses nothing; each of these properties has
    /// its default in at least half of all draws. `once` is empty.
    #[must_use]
    pub fn draw(dice: &mut Dice) -> Faults {
        let mut faults = Faults { inline: dice.one_in(2), ..Faults::default() };
        if dice.one_in(2) {
            faults.delay = dice.up_to(Duration::from_millis(50));
            faults.jitter = dice.up_to(Duration::from_millis(200));
        }
        if dice.one_in(3) {
            faults.capacity = *dice.pick(&[64, 300, 5_000]);
        }
        if dice.one_in(2) {
            faults.read_max = *dice.pick(&[1, 3, 17, 200]);
        }
        if dice.one_in(2) {
            faults.write_max = *dice.pick(&[1, 3, 17, 200]);
        }
        if dice.one_in(3) {
            faults.hesitation = dice.between(2..=6);
        }
        faults
    }
}

impl Fault {
    /// Draws a fault that ends the connection, or stalls it for up to 10 s: after at most `bytes_max` bytes, or within
    /// `within`.
    #[must_use]
    pub fn draw(dice: &mut Dice, bytes_max: u64, within: Duration) -> Fault {
        let direction = *dice.pick(&Direction::BOTH);
        let operation = *dice.pick(&Operation::ALL);
        let bytes = dice.between(0..=bytes_max);
        match dice.below(6) {
            0 | 1 => Fault::CutBehind { direction, bytes },
            2 => Fault::CutAfter(dice.up_to(within)),
            3 => Fault::StallBehind {
                direction,
                bytes,
                lasting: dice.up_to(Duration::from_secs(10)),
            },
            4 => Fault::Panic { operation, calls: dice.between(0..=20) },
            _ => Fault::Error {
                operation,
                calls: dice.between(0..=20),
                kind: *dice.pick(&[
                    ErrorKind::ConnectionReset,
                    ErrorKind::BrokenPipe,
                    ErrorKind::TimedOut,
                    ErrorKind::Other,
                ]),
            },
        }
    }
}
