//! The end of a Network Connection: writes the last bytes, half-closes the stream, and discards the peer's last input.
//!
//! Unread input would make TCP reset the connection, and the peer could lose the CONNACK or DISCONNECT with the
//! reason. So after the half-close the input is read and discarded, within bounds.

use std::task::{Context, Poll, ready};

use super::peer_stream::PeerStream;
use crate::session::outgoing::{Outgoing, Sent};
use crate::time::Timestamp;
use crate::traffic::{Moved, TrafficCounts};

/// The most input that is discarded, in bytes.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// The longest time that closing takes, in milliseconds.
const CLOSE_MILLIS_MAX: u64 = 1_000;

/// The next step of the closing.
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
    /// The peer's input is discarded before the stream is dropped.
    discards: bool,
    deadline: Timestamp,
}

impl Closing {
    /// Writes `last`, then closes.
    pub(super) fn new(last: Outgoing, now: Timestamp) -> Closing {
        Closing {
            last,
            step: Step::Write,
            discards: true,
            deadline: Timestamp(now.0 + CLOSE_MILLIS_MAX),
        }
    }

    /// The Client sent DISCONNECT, after which it sends nothing (MQTT-3.14.4-1). If no byte is to be written either,
    /// none can be lost, and the stream is dropped without waiting for the peer's end.
    pub(super) fn after_disconnect(last: Outgoing, now: Timestamp) -> Closing {
        let discards = !last.is_empty();
        Closing { discards, ..Closing::new(last, now) }
    }

    /// The stream is broken: it is dropped at once.
    pub(super) fn broken() -> Closing {
        Closing {
            last: Outgoing::default(),
            step: Step::Done,
            discards: false,
            deadline: Timestamp(0),
        }
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Continues. Ready when the stream can be dropped. The deadline strikes only after the stream was tried and
    /// neither took nor had any byte.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut PeerStream,
        buffer: &mut [u8],
        traffic: &TrafficCounts,
        now: Timestamp,
    ) -> Poll<()> {
        match self.go_on(cx, stream, buffer, traffic) {
            Poll::Pending if now < self.deadline => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    fn go_on(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut PeerStream,
        buffer: &mut [u8],
        traffic: &TrafficCounts,
    ) -> Poll<()> {
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
                            let (Sent { packets, payload_bytes }, bytes) =
                                (self.last.sent_by(written), written as u64);
                            traffic.sent(&Moved { packets, payload_bytes, bytes });
                            let _counted_before = self.last.advance(written);
                            false
                        }
                    }
                }
                Step::Close => {
                    let closed = ready!(stream.with(|io| io.poll_close(cx)));
                    self.step = Step::Discard { left: DISCARD_BYTES_MAX };
                    closed.is_err() || !self.discards
                }
                Step::Discard { left } => {
                    match ready!(stream.with(|io| io.poll_read(cx, buffer))) {
                        Ok(0) | Err(_) => true,
                        Ok(read) => {
                            traffic.received(&Moved { bytes: read as u64, ..Moved::default() });
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    use futures_io::{AsyncRead, AsyncWrite};

    use super::*;
    use crate::engine::timers::Mailbox;
    use crate::transport::ByteStream;

    /// A peer that takes everything and keeps its side open. Counts the bytes.
    #[derive(Default)]
    struct Silent(Arc<AtomicUsize>);

    impl AsyncRead for Silent {
        fn poll_read(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            _buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Silent {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.fetch_add(buf.len(), Ordering::Relaxed);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn poll(closing: Closing, now: u64) -> Poll<()> {
        poll_with(closing, now, Silent::default())
    }

    fn poll_with(mut closing: Closing, now: u64, peer: Silent) -> Poll<()> {
        let (mut stream, _inline) =
            PeerStream::new(ByteStream::new(peer), &Arc::new(Mailbox::new()));
        let mut cx = Context::from_waker(Waker::noop());
        let traffic = TrafficCounts::default();
        closing.poll(&mut cx, &mut stream, &mut [0; 8], &traffic, Timestamp(now))
    }

    fn farewell() -> Outgoing {
        let mut last = Outgoing::default();
        last.buffer().extend_from_slice(b"\xe0\x00");
        last
    }

    #[test]
    fn without_disconnect_input_is_discarded_to_its_end_or_for_a_second() {
        assert!(poll(Closing::new(farewell(), Timestamp(0)), 0).is_pending());
        assert!(poll(Closing::new(Outgoing::default(), Timestamp(0)), 999).is_pending());
        assert!(poll(Closing::new(farewell(), Timestamp(0)), 1_000).is_ready());
    }

    /// MQTT-3.14.4-1: nothing comes after DISCONNECT.
    #[test]
    fn after_disconnect_the_stream_is_dropped_unless_bytes_are_unsent() {
        assert!(poll(Closing::after_disconnect(Outgoing::default(), Timestamp(0)), 0).is_ready());
        assert!(poll(Closing::after_disconnect(farewell(), Timestamp(0)), 0).is_pending());
    }
    /// The process was stopped in between, and the peer takes now what it did not take before.
    #[test]
    fn the_last_packet_is_written_however_late_it_is() {
        let taken = Arc::new(AtomicUsize::new(0));
        let closing = Closing::new(farewell(), Timestamp(0));
        assert!(poll_with(closing, 3_600_000, Silent(taken.clone())).is_ready());
        assert_eq!(taken.load(Ordering::Relaxed), 2);
    }
}
