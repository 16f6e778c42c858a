//! A WebSocket after its upgrade, as a stream of bytes.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use futures_io::{AsyncRead, AsyncWrite};

use super::frame::{Decoder, Ending, Header, push_close, push_pong};

/// The payload of one outgoing frame at most, so that what a slow peer leaves unsent of it is bounded.
pub(super) const FRAME_MAX: usize = 128 * 1024;

/// Reads in a row that may bring no payload before other tasks get their turn.
const EMPTY_READS_MAX: usize = 16;

/// What is thrown away of a misbehaving peer's bytes, so that closing the socket does not reset the
/// connection and take the Close frame with it.
const DISCARD_MAX: usize = 64 * 1024;

/// MQTT bytes over a WebSocket on `io`. To be polled by one task at a time.
///
/// A write becomes one binary frame, sent at once (MQTT-6.0.0-1). Owns no read buffer, and a write
/// buffer only while the peer takes less than was sent.
#[derive(Debug)]
pub(super) struct WsStream<S> {
    io: S,
    decoder: Decoder,
    /// Bytes that came with the upgrade request, and how many of them were read.
    early: Vec<u8>,
    early_read: usize,
    /// Frames accepted and not sent: the tail of a binary frame, or control frames.
    out: Vec<u8>,
    out_sent: usize,
    /// A Close frame is in `out` or sent: nothing may follow it.
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WsStream<S> {
    /// A stream that reads `early` first.
    pub(super) fn new(io: S, early: Vec<u8>) -> WsStream<S> {
        WsStream {
            io,
            decoder: Decoder::new(),
            early,
            early_read: 0,
            out: Vec::new(),
            out_sent: 0,
            closing: false,
        }
    }

    /// Bytes of the peer, as they came.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let early = &self.early[self.early_read..];
        if early.is_empty() {
            self.early = Vec::new();
            self.early_read = 0;
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = early.len().min(buf.len());
        buf[..n].copy_from_slice(&early[..n]);
        self.early_read += n;
        Poll::Ready(Ok(n))
    }

    /// Sends what is left of earlier frames, and the answer to a Ping.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.out.is_empty() {
                match self.decoder.take_ping() {
                    Some(payload) if !self.closing => push_pong(&mut self.out, &payload),
                    _ => return Poll::Ready(Ok(())),
                }
            }
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.out_sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.out_sent += n;
            if self.out_sent == self.out.len() {
                self.out = Vec::new();
                self.out_sent = 0;
            }
        }
    }

    /// Puts a Close frame behind what is to be sent, once.
    fn push_close(&mut self, code: Option<u16>) {
        if !self.closing {
            self.closing = true;
            push_close(&mut self.out, code);
        }
    }

    /// The end of reading, after a Close frame or a broken rule. Never waits: the peer may be one that
    /// takes nothing.
    fn finish_reading(&mut self, cx: &mut Context<'_>, ending: Ending) -> io::Result<usize> {
        match ending {
            Ending::Closed(code) => {
                self.push_close(code); // the answer carries the same code
                let _ = self.poll_out(cx); // what is left goes with flush or close
                Ok(0)
            }
            Ending::Violation(code, what) => {
                self.push_close(Some(code.into()));
                if let Poll::Ready(Ok(())) = self.poll_out(cx) {
                    let _ = Pin::new(&mut self.io).poll_close(cx);
                }
                self.discard(cx);
                Err(io::Error::new(ErrorKind::InvalidData, what))
            }
        }
    }

    fn discard(&mut self, cx: &mut Context<'_>) {
        let mut scrap = [0; 4096];
        for _ in 0..DISCARD_MAX / scrap.len() {
            match Pin::new(&mut self.io).poll_read(cx, &mut scrap) {
                Poll::Ready(Ok(1..)) => {}
                _ => return,
            }
        }
    }

    /// Sends one frame with the first `total` bytes of `bufs`; keeps what the peer does not take.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        total: usize,
    ) -> Poll<io::Result<usize>> {
        let header = Header::binary(total);
        let mut frame = Vec::with_capacity(bufs.len() + 1);
        frame.push(IoSlice::new(header.as_slice()));
        let mut room = total;
        for buf in bufs {
            let n = buf.len().min(room);
            frame.push(IoSlice::new(&buf[..n]));
            room -= n;
        }
        let mut sent = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &frame))?;
        if sent == 0 {
            return Poll::Ready(Err(ErrorKind::WriteZero.into()));
        }
        for part in frame {
            let skipped = sent.min(part.len());
            sent -= skipped;
            self.out.extend_from_slice(&part[skipped..]);
        }
        Poll::Ready(Ok(total))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        for _ in 0..EMPTY_READS_MAX {
            if let Some(ending) = this.decoder.ending() {
                return Poll::Ready(this.finish_reading(cx, ending));
            }
            // Not waited for: if the peer takes no bytes, this task is woken later to continue.
            if let Poll::Ready(Err(error)) = this.poll_out(cx) {
                return Poll::Ready(Err(error));
            }
            let n = ready!(this.poll_raw(cx, buf))?;
            if n == 0 {
                return Poll::Ready(Ok(0));
            }
            let n = this.decoder.decode(&mut buf[..n]);
            if n > 0 {
                return Poll::Ready(Ok(n));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.closing {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let total = bufs.iter().map(|buf| buf.len()).sum::<usize>().min(FRAME_MAX);
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_out(cx))?;
        this.poll_frame(cx, bufs, total)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.push_close(Some(CloseCode::Normal.into()));
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_close(cx)
    }
}
