//! What a link does to the bytes that it carries, and what it can be ordered to do.

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

/// An operation of the broker's end of a link, as its transport and its stream have them.
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

/// What is to happen once on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The connection ends when so many bytes were written in this direction: they arrive, no others do, and both
    /// ends meet [`ErrorKind::ConnectionReset`].
    CutBehind {
        /// In which direction bytes are counted.
        direction: Direction,
        /// From the beginning of the connection.
        bytes: u64,
    },
    /// The connection ends so long after this was ordered: what is under way is lost, and both ends meet
    /// [`ErrorKind::ConnectionReset`].
    CutAfter(Duration),
    /// When so many bytes were written in this direction, nothing arrives there for a while: the reader waits, and
    /// once the link is full the writer, too.
    StallBehind {
        /// In which direction.
        direction: Direction,
        /// From the beginning of the connection.
        bytes: u64,
        /// How long; [`Duration::MAX`] until [`Link::resume`](super::Link::resume).
        lasting: Duration,
    },
    /// The broker's end of the link panics.
    Panic {
        /// In which operation.
        operation: Operation,
        /// After so many calls of it that went well.
        calls: u64,
    },
    /// The broker's end of the link fails.
    Error {
        /// In which operation.
        operation: Operation,
        /// After so many calls of it that went well.
        calls: u64,
        /// How.
        kind: ErrorKind,
    },
}

/// What a link does to the bytes that it carries. The default is a fast and honest link.
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
    /// How long bytes are under way. Default 0.
    pub delay: Duration,
    /// How much longer than that at the most: each write draws its own. The order of bytes stays. Default 0.
    pub jitter: Duration,
    /// How many bytes each direction holds, under way and arrived, 1 to any number (0 is raised to 1): at the limit
    /// a write waits for the reader. Default 65 536.
    pub capacity: usize,
    /// How many bytes one read returns at the most: each draws its own number from 1. Default any number, and then
    /// a read returns all that have arrived.
    pub read_max: usize,
    /// How many bytes one write takes at the most: each draws its own number from 1. Default any number, and then a
    /// write takes all that it has room for.
    pub write_max: usize,
    /// One in so many reads, writes and flushes finds nothing to do at first and is woken for another try. Default
    /// 0: none.
    pub hesitation: u64,
    /// Whether the broker's end can be written from any task ([`TryWrite`](crate::transport::TryWrite)), as a
    /// socket can. Default true.
    pub inline: bool,
    /// What is to happen once. Default nothing.
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
    /// A link that delays (up to 250 ms), splits and hesitates as the dice say, and loses nothing: half of all are
    /// fast and honest in each of these respects. Nothing is ordered to happen once.
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
    /// Something that ends the connection sooner or later, or stalls it for up to 10 s: at a byte below
    /// `bytes_max`, or within `within`.
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
