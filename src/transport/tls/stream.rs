//! A TLS connection as a stream of bytes.
//!
//! Records are decrypted and encrypted in buffers of the thread. A connection owns bytes only while a record is
//! incomplete, while its reader has no room for a whole record, or while the peer takes less than was sent. So an
//! idle connection holds its keys and nothing else.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::errors;
use crate::runtime;

/// What one write encrypts at most, so that the bytes are bounded that a slow peer leaves unsent. A whole frame of a
/// WebSocket fits in.
const WRITE_MAX: usize = 132 * 1024;

/// What one read decrypts at most, beside a record that is incomplete.
const READ_MAX: usize = 64 * 1024;

/// The smallest read, whatever room its reader has: a record is up to 16 KiB.
const READ_MIN: usize = 4 * 1024;

/// Room for the header and the tag of a record, and the payload that needs a record of its own.
const RECORD_OVERHEAD: usize = 64;
const RECORD_PAYLOAD: usize = 16 * 1024;

/// The header of a record, and the longest that may follow it in any version (RFC 5246, section 6.2.3).
const RECORD_HEADER: usize = 5;
const RECORD_MAX: usize = RECORD_PAYLOAD + 2048;

/// Reads in a row that may bring no payload before other tasks get their turn.
const EMPTY_READS_MAX: usize = 16;

thread_local! {
    /// What was read; it never becomes shorter.
    static CIPHER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// What is to be written, before and after it is encrypted.
    static SEALED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static PLAIN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// MQTT bytes over TLS on `io`. One task at a time polls it.
pub(super) struct TlsStream<S> {
    io: S,
    tls: UnbufferedServerConnection,
    /// Bytes of the peer that are no whole record yet.
    incoming: Vec<u8>,
    /// Decrypted bytes for which the reader had no room, and how many of them were read since.
    plain: Vec<u8>,
    plain_read: usize,
    /// Encrypted bytes that were not sent, and how many of them were sent since.
    out: Vec<u8>,
    out_sent: usize,
    /// Why the connection failed: nothing more is read, and nothing is written but the alert.
    failed: Option<Box<rustls::Error>>,
    /// The peer sends nothing more.
    ended: bool,
    /// `close_notify` is in `out` or sent: nothing may follow it.
    closing: bool,
}

/// What is done when all that came is processed.
enum Then<'a> {
    Nothing,
    Encrypt(&'a [u8]),
    Close,
}

/// What became of the bytes that came.
#[derive(Default)]
struct Processed {
    /// Bytes at the front that are no longer needed.
    used: usize,
    /// The peer has sent `close_notify`.
    ended: bool,
    /// What was to be done was done.
    done: bool,
    failed: Option<rustls::Error>,
}

/// Processes `cipher`. Bytes for the peer are appended to `out`, decrypted bytes go to `sink`.
fn process(
    tls: &mut UnbufferedServerConnection,
    cipher: &mut [u8],
    out: &mut Vec<u8>,
    then: &Then<'_>,
    mut sink: impl FnMut(&[u8]),
) -> Processed {
    let mut processed = Processed::default();
    loop {
        let rest = cipher.get_mut(processed.used..).unwrap_or_default();
        let UnbufferedStatus { mut discard, state, .. } = tls.process_tls_records(rest);
        let mut last = false;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            sink(record.payload);
                        }
                        Err(error) => processed.failed = Some(error),
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let encoded = append(out, 0, |room| match data.encode(room) {
                    Ok(len) => Ok(len),
                    Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                    Err(EncodeError::AlreadyEncoded) => Err(None),
                });
                last = !encoded;
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => processed.ended = true,
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let seal = |result: Result<usize, EncryptError>| match result {
                    Ok(len) => Ok(len),
                    Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
                    Err(EncryptError::EncryptExhausted) => Err(None),
                };
                processed.done = match then {
                    Then::Nothing => true,
                    Then::Encrypt(plain) => {
                        let records = plain.len() / RECORD_PAYLOAD + 1;
                        let room = plain.len() + records * RECORD_OVERHEAD;
                        append(out, room, |room| seal(traffic.encrypt(plain, room)))
                    }
                    Then::Close => {
                        append(out, RECORD_OVERHEAD, |room| seal(traffic.queue_close_notify(room)))
                    }
                };
                last = true;
            }
            Ok(_) => last = true, // it waits for more of the handshake, or both have closed
            Err(error) => processed.failed = Some(error),
        }
        processed.used += discard;
        if processed.failed.is_some() {
            let rest = cipher.get_mut(processed.used..).unwrap_or_default();
            append_alert(tls, rest, out);
            return processed;
        }
        if last {
            return processed;
        }
    }
}

/// Whether a record is whole, or announces a length that no record has.
fn begins_with_a_record(bytes: &[u8]) -> bool {
    let Some(&[_, _, _, high, low]) = bytes.first_chunk() else { return false };
    let payload = usize::from(u16::from_be_bytes([high, low]));
    payload > RECORD_MAX || bytes.len() >= RECORD_HEADER + payload
}

/// The alert that tells the peer why the connection fails.
fn append_alert(tls: &mut UnbufferedServerConnection, rest: &mut [u8], out: &mut Vec<u8>) {
    let status = tls.process_tls_records(rest);
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state {
        append(out, 0, |room| match data.encode(room) {
            Ok(len) => Ok(len),
            Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
            Err(EncodeError::AlreadyEncoded) => Err(None),
        });
    }
}

/// Appends what `write` writes into the room that it gets, and gives it more room if it asks for it.
fn append(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> bool {
    let start = out.len();
    let mut room = room;
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return true;
            }
            Err(Some(needed)) => room = needed,
            Err(None) => break,
        }
    }
    out.truncate(start);
    false
}

impl<S> TlsStream<S> {
    /// A connection before its handshake.
    pub(super) fn new(io: S, config: Arc<ServerConfig>) -> io::Result<TlsStream<S>> {
        Ok(TlsStream {
            io,
            tls: UnbufferedServerConnection::new(config).map_err(io::Error::other)?,
            incoming: Vec::new(),
            plain: Vec::new(),
            plain_read: 0,
            out: Vec::new(),
            out_sent: 0,
            failed: None,
            ended: false,
            closing: false,
        })
    }

    /// The state of the connection, for what the handshake has found.
    pub(super) fn tls(&self) -> &UnbufferedServerConnection {
        &self.tls
    }

    /// The stream below.
    pub(super) fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// The same connection on another stream, and the stream that it was on.
    fn on<T>(self, io: T) -> (TlsStream<T>, S) {
        let TlsStream { io: before, tls, incoming, plain, plain_read, out, out_sent, .. } = self;
        let TlsStream { failed, ended, closing, .. } = self;
        let moved = TlsStream {
            io,
            tls,
            incoming,
            plain,
            plain_read,
            out,
            out_sent,
            failed,
            ended,
            closing,
        };
        (moved, before)
    }

    /// Carries out `work` on the connection without its stream, on a thread for computations where there are any.
    pub(super) async fn compute<R: Send + 'static>(
        self,
        work: impl FnOnce(&mut TlsStream<()>) -> R + Send + 'static,
    ) -> (TlsStream<S>, R) {
        let (mut apart, io) = self.on(());
        let (apart, result) = runtime::compute(move || {
            let result = work(&mut apart);
            (apart, result)
        })
        .await;
        (apart.on(io).0, result)
    }

    fn decrypt(&mut self, cipher: &mut [u8], buf: &mut [u8]) -> usize {
        let mut filled = 0;
        let plain = &mut self.plain;
        let processed = process(&mut self.tls, cipher, &mut self.out, &Then::Nothing, |payload| {
            let fits = payload.len().min(buf.len() - filled);
            buf[filled..filled + fits].copy_from_slice(&payload[..fits]);
            filled += fits;
            plain.extend_from_slice(&payload[fits..]);
        });
        let rest = cipher.get(processed.used..).unwrap_or_default();
        if rest.is_empty() {
            self.incoming = Vec::new();
        } else {
            self.incoming.clear();
            self.incoming.extend_from_slice(rest);
        }
        self.ended |= processed.ended;
        self.failed = processed.failed.map(Box::new);
        filled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Carries out the handshake. An error leaves the alert for the peer in `out`.
    pub(super) async fn shake_hands(self) -> (TlsStream<S>, io::Result<()>) {
        let mut stream = self;
        loop {
            match poll_fn(|cx| stream.poll_flight(cx)).await {
                Ok(false) => return (stream, Ok(())),
                Err(error) => return (stream, Err(error)),
                Ok(true) => {
                    // What came is processed in one step: the expensive part of the handshake.
                    let step = |apart: &mut TlsStream<()>| {
                        let mut cipher = std::mem::take(&mut apart.incoming);
                        apart.decrypt(&mut cipher, &mut []);
                    };
                    (stream, ()) = stream.compute(step).await;
                }
            }
        }
    }

    /// Sends what is to be sent, and reads on in the handshake. Ready with `true` when a whole record came, with
    /// `false` when the handshake has ended.
    fn poll_flight(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            ready!(self.poll_out(cx))?;
            if let Some(failed) = &self.failed {
                return Poll::Ready(Err(errors::of_handshake(failed)));
            }
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(false));
            }
            if self.ended {
                return Poll::Ready(Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the peer ended the stream in the TLS handshake",
                )));
            }
            let n = ready!(self.poll_incoming(cx))?;
            if n > 0 && begins_with_a_record(&self.incoming) {
                return Poll::Ready(Ok(true));
            }
        }
    }

    /// Reads once and keeps what came, for the handshake.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut cipher = CIPHER.take();
        if cipher.len() < READ_MIN {
            cipher.resize(READ_MIN, 0);
        }
        let read = Pin::new(&mut self.io).poll_read(cx, &mut cipher[..READ_MIN]);
        let done = read.map(|read| {
            let came = cipher.get(..read?).unwrap_or_default();
            self.check_first(came)?;
            self.incoming.extend_from_slice(came);
            // Without close_notify, as many Clients end: MQTT itself says where its packets end.
            self.ended |= came.is_empty();
            Ok(came.len())
        });
        CIPHER.set(cipher);
        done
    }

    /// Whether the bytes that came begin no TLS.
    fn check_first(&self, bytes: &[u8]) -> io::Result<()> {
        let begins = self.incoming.is_empty() && self.tls.protocol_version().is_none();
        match bytes.first() {
            Some(&first) if begins => errors::judge_first_byte(first),
            _ => Ok(()),
        }
    }

    /// Reads once and processes what came. Ready with the number of decrypted bytes in `buf`; what has no room there
    /// goes to `plain`.
    fn poll_records(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut cipher = CIPHER.take();
        let held = self.incoming.len();
        let end = held + buf.len().clamp(READ_MIN, READ_MAX);
        if cipher.len() < end {
            cipher.resize(end, 0);
        }
        let read = Pin::new(&mut self.io).poll_read(cx, &mut cipher[held..end]);
        let done = match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(0)) => {
                // Without close_notify, as many Clients end: MQTT itself says where its packets end.
                self.ended = true;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Ok(n)) => {
                cipher[..held].copy_from_slice(&self.incoming);
                Poll::Ready(Ok(self.decrypt(&mut cipher[..held + n], buf)))
            }
        };
        CIPHER.set(cipher);
        done
    }

    /// Sends what is left of earlier writes.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out_sent < self.out.len() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.out_sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.out_sent += n;
        }
        if !self.out.is_empty() {
            self.out = Vec::new();
            self.out_sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Decrypted bytes that wait.
    fn take_plain(&mut self, buf: &mut [u8]) -> usize {
        let rest = &self.plain[self.plain_read..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.plain_read += n;
        if self.plain_read == self.plain.len() {
            self.plain = Vec::new();
            self.plain_read = 0;
        }
        n
    }

    /// The error of reading, after the alert was tried. Never waits: the peer may be one that takes nothing.
    fn finish_reading(&mut self, cx: &mut Context<'_>, failed: &rustls::Error) -> io::Error {
        if let Poll::Ready(Ok(())) = self.poll_out(cx) {
            let _ = Pin::new(&mut self.io).poll_close(cx);
        }
        errors::of_record(failed)
    }

    /// Encrypts the first `total` bytes of `bufs` and sends them; keeps what the peer does not take. `out` is empty.
    fn poll_encrypted(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        total: usize,
    ) -> Poll<io::Result<usize>> {
        let mut gathered = PLAIN.take();
        let plain = match bufs.first() {
            Some(first) if first.len() >= total => &first[..total],
            _ => {
                gather(bufs, total, &mut gathered);
                &gathered[..]
            }
        };
        let mut sealed = SEALED.take();
        sealed.clear();
        let late = &mut self.plain;
        let processed =
            process(&mut self.tls, &mut self.incoming, &mut sealed, &Then::Encrypt(plain), |p| {
                late.extend_from_slice(p);
            });
        self.incoming.drain(..processed.used.min(self.incoming.len()));
        self.ended |= processed.ended;
        let written = if processed.done {
            match Pin::new(&mut self.io).poll_write(cx, &sealed) {
                Poll::Pending => Ok(0),
                Poll::Ready(Ok(0)) => Err(ErrorKind::WriteZero.into()),
                Poll::Ready(written) => written,
            }
        } else {
            self.failed = processed.failed.map(Box::new);
            Err(ErrorKind::BrokenPipe.into())
        };
        let result = written.map(|sent| {
            self.out.extend_from_slice(&sealed[sent..]);
            total
        });
        SEALED.set(sealed);
        PLAIN.set(gathered);
        Poll::Ready(result)
    }
}

/// Puts the first `total` bytes of `bufs` into one buffer.
fn gather(bufs: &[IoSlice<'_>], total: usize, into: &mut Vec<u8>) {
    into.clear();
    into.reserve(total);
    for buf in bufs {
        let room = total - into.len();
        into.extend_from_slice(&buf[..buf.len().min(room)]);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
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
            if !this.plain.is_empty() {
                return Poll::Ready(Ok(this.take_plain(buf)));
            }
            if let Some(failed) = this.failed.take() {
                let error = this.finish_reading(cx, &failed);
                this.failed = Some(failed);
                return Poll::Ready(Err(error));
            }
            if this.ended {
                return Poll::Ready(Ok(0));
            }
            // Not waited for: if the peer takes no bytes, this task is woken later to continue.
            if let Poll::Ready(Err(error)) = this.poll_out(cx) {
                return Poll::Ready(Err(error));
            }
            let n = ready!(this.poll_records(cx, buf))?;
            if n > 0 {
                return Poll::Ready(Ok(n));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
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
        if this.closing || this.failed.is_some() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let total = bufs.iter().map(|buf| buf.len()).sum::<usize>().min(WRITE_MAX);
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_out(cx))?;
        this.poll_encrypted(cx, bufs, total)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closing {
            this.closing = true;
            if this.failed.is_none() {
                let late = &mut this.plain;
                let processed =
                    process(&mut this.tls, &mut this.incoming, &mut this.out, &Then::Close, |p| {
                        late.extend_from_slice(p);
                    });
                this.incoming.drain(..processed.used.min(this.incoming.len()));
                this.ended |= processed.ended;
            }
        }
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_close(cx)
    }
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("ended", &self.ended)
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}
