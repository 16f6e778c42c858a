//! Bytes over TLS: large ones, in portions, to a peer that does not read, and to the end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::zip;

use super::*;
use crate::transport::ByteStream;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index.wrapping_mul(31) ^ (index >> 8)).to_le_bytes()[0]).collect()
}

#[test]
fn large_messages_arrive_whole_in_both_directions_at_once() {
    for versions in [TLS12, TLS13] {
        let (client, server) =
            Listener::new(&plain()).dial(&Arc::new(config(&SERVERS, None, versions))).expect();
        let sent = pattern(3_000_001);
        let (mut client_read, mut client_write) = futures_lite::io::split(client);
        let (mut server_read, mut server_write) = futures_lite::io::split(server);
        block_on(async {
            let up = async {
                client_write.write_all(&sent).await.expect("sent");
                client_write.close().await.expect("ended");
            };
            let down = async {
                server_write.write_all(&sent).await.expect("sent");
                server_write.close().await.expect("ended");
            };
            let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
            let read = zip(
                server_read.read_to_end(&mut at_server),
                client_read.read_to_end(&mut at_client),
            );
            let ((), (read_up, read_down)) = zip(
                async {
                    zip(up, down).await;
                },
                read,
            )
            .await;
            read_up.expect("received");
            read_down.expect("received, to the close_notify");
            assert!(at_server == sent && at_client == sent);
        });
    }
}

#[test]
fn a_read_may_be_smaller_than_a_record() {
    let (mut client, mut server) = Listener::new(&plain()).dial(&without()).expect();
    let sent = pattern(50_000);
    block_on(async {
        let mut received = Vec::new();
        let read = async {
            let mut size = 1;
            while received.len() < sent.len() {
                let mut part = vec![0; size];
                let n = server.read(&mut part).await.expect("bytes");
                received.extend_from_slice(&part[..n]);
                size = size % 977 + 13;
            }
        };
        let write = async {
            client.write_all(&sent).await.expect("sent");
            client.flush().await.expect("sent");
        };
        zip(read, write).await;
        assert!(received == sent);
    });
}

/// Puts a task's slices into the stream as far as it takes them.
fn write_now(server: &mut ByteStream, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let mut cx = Context::from_waker(Waker::noop());
    let written = Pin::new(&mut *server).poll_write_vectored(&mut cx, bufs);
    let _ = Pin::new(&mut *server).poll_flush(&mut cx);
    written
}

/// What a publisher's task does, whose message has many parts.
#[test]
fn slices_leave_in_order_and_a_peer_that_does_not_read_is_waited_for() {
    let (mut client, mut server) = Listener::new(&plain()).dial(&without()).expect();
    let sent = pattern(1 << 20);
    let mut at = 0;
    let mut received = Vec::new();
    let mut waited = 0;
    while received.len() < sent.len() {
        let parts: Vec<_> = sent[at..].chunks(5_000).take(70).map(IoSlice::new).collect();
        match write_now(&mut server, &parts) {
            Poll::Ready(written) => at += written.expect("taken"),
            Poll::Pending => {
                waited += 1;
                let mut part = vec![0; 30_000];
                let n = block_on(client.read(&mut part)).expect("bytes");
                received.extend_from_slice(&part[..n]);
            }
        }
        if at == sent.len() {
            let mut rest = vec![0; sent.len() - received.len()];
            block_on(async {
                let flush = async { server.flush().await.expect("sent") };
                let read = async { client.read_exact(&mut rest).await.expect("received") };
                zip(flush, read).await;
            });
            received.extend_from_slice(&rest);
        }
    }
    assert!(received == sent);
    assert!(waited > 5, "the stream took everything without a reader");
}

#[test]
fn closing_sends_close_notify_behind_all_bytes_and_reading_goes_on() {
    for versions in [TLS12, TLS13] {
        let (mut client, mut server) =
            Listener::new(&plain()).dial(&Arc::new(config(&SERVERS, None, versions))).expect();
        block_on(async {
            server.write_all(b"last").await.expect("sent");
            server.close().await.expect("ended");
            assert!(server.write(b"more").await.is_err(), "nothing follows the end");
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.expect("an end without close_notify is an error");
            assert_eq!(read, b"last");
            client.write_all(b"still").await.expect("sent");
            client.close().await.expect("ended");
            let mut read = Vec::new();
            server.read_to_end(&mut read).await.expect("received");
            assert_eq!(read, b"still");
        });
    }
}

#[test]
fn an_end_without_close_notify_is_an_end() {
    let (client, mut server) = Listener::new(&plain()).dial(&without()).expect();
    let (mut below, _) = client.into_inner();
    block_on(async {
        below.close().await.expect("ended");
        assert_eq!(server.read(&mut [0; 9]).await.expect("the end"), 0);
        assert_eq!(server.read(&mut [0; 9]).await.expect("the end, again"), 0);
    });
}

#[test]
fn a_record_that_was_changed_ends_the_connection_and_what_came_before_is_read() {
    let (mut client, mut server) = Listener::new(&plain()).dial(&without()).expect();
    block_on(async {
        client.write_all(b"good").await.expect("sent");
        client.flush().await.expect("sent");
        let (mut below, _) = client.into_inner();
        below
            .write_all(b"\x17\x03\x03\0\x20this is no record of that session")
            .await
            .expect("sent");
        let mut read = [0; 9];
        assert_eq!(server.read(&mut read).await.expect("what came before"), 4);
        let error = server.read(&mut read).await.expect_err("a bad record");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(server.read(&mut read).await.is_err(), "still");
        assert!(server.write(b"x").await.is_err(), "nothing is written behind the alert");
        let mut alert = Vec::new();
        below.read_to_end(&mut alert).await.expect("an alert and the end");
        assert!(!alert.is_empty());
    });
}

/// Nobody waits for a peer that sends a byte at a time.
#[test]
fn a_handshake_may_come_byte_by_byte() {
    let mut listener = Listener::new(&plain());
    let (peer, incoming) = listener.accept();
    let name = rustls::pki_types::ServerName::try_from("server.test").expect("a name");
    let connect = futures_rustls::TlsConnector::from(without()).connect(name, Dripping(peer));
    let (client, server) = block_on(zip(connect, incoming.handshake));
    let (mut client, mut server) = (client.expect("shaken"), server.expect("shaken"));
    block_on(async {
        client.write_all(b"byte by byte").await.expect("sent");
        let mut read = [0; 12];
        server.read_exact(&mut read).await.expect("received");
        assert_eq!(&read, b"byte by byte");
    });
}

/// A stream that takes and gives one byte at a time.
struct Dripping<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Dripping<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let end = buf.len().min(1);
        Pin::new(&mut self.0).poll_read(cx, &mut buf[..end])
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Dripping<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
