//! The end of a Network Connection: the last bytes, the end of the stream, and what the peer still sends.
//!
//! Unread input would make TCP reset the connection, and the peer could lose the CONNACK or DISCONNECT that
//! says why. So after the half-close the input is read and thrown away, within bounds.

use std::task::{Context, Poll, ready};

use super::stream::Stream;
use crate::session::outgoing::Outgoing;
use crate::time::Timestamp;

/// What is thrown away at the most, in bytes.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// What closing may take, in milliseconds.
const CLOSE_MILLIS_MAX: u64 = 1_000;

/// How far the closing is.
#[derive(Debug)]
enum Step {
    Write,
    Close,
    Discard { left: usize },
    Done,
}

/// A stream that is being closed.
#[derive(Debug)]
pub(super) struct Closing {
    last: Outgoing,
    step: Step,
    deadline: Timestamp,
}

impl Closing {
    /// Writes `last`, then closes.
    pub(super) fn new(last: Outgoing, now: Timestamp) -> Closing {
        Closing { last, step: Step::Write, deadline: Timestamp(now.0 + CLOSE_MILLIS_MAX) }
    }

    /// The stream is beyond closing.
    pub(super) fn broken() -> Closing {
        Closing { last: Outgoing::default(), step: Step::Done, deadline: Timestamp(0) }
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Goes on. Ready when the stream can be dropped.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        buffer: &mut [u8],
        now: Timestamp,
    ) -> Poll<()> {
        if now >= self.deadline {
            return Poll::Ready(());
        }
        loop {
            let done = match &mut self.step {
                Step::Write if self.last.is_empty() => {
                    self.step = Step::Close;
                    continue;
                }
                Step::Write => {
                    let written = self
                        .last
                        .with_slices(|slices| stream.with(|io| io.poll_write_vectored(cx, slices)));
                    match ready!(written) {
                        Ok(0) | Err(_) => true,
                        Ok(written) => {
                            let _counted_before = self.last.advance(written);
                            false
                        }
                    }
                }
                Step::Close => {
                    let closed = ready!(stream.with(|io| io.poll_close(cx)));
                    self.step = Step::Discard { left: DISCARD_BYTES_MAX };
                    closed.is_err()
                }
                Step::Discard { left } => {
                    match ready!(stream.with(|io| io.poll_read(cx, buffer))) {
                        Ok(0) | Err(_) => true,
                        Ok(read) => {
                            *left = left.saturating_sub(read);
                            *left == 0
                        }
                    }
                }
                Step::Done => true,
            };
            if done {
                self.step = Step::Done;
                return Poll::Ready(());
            }
        }
    }
}
