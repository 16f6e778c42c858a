//! A custom transport: MQTT over TCP in frames, each behind its length, after a greeting.
//!
//! `tests/conformance.rs` runs every case of the suite over it; that takes a [`bind`] and a [`dial`](dial()).
//!
//! [`bind`]: FramedTransport::bind

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::transport::{ByteStream, Incoming, Transport};

mod frames;

pub use frames::FramedStream;

/// The greeting that both sides send before their first frame.
const GREETING: &[u8; 8] = b"FRAMES 1";

/// Listens for peers that send frames.
#[derive(Debug)]
pub struct FramedTransport {
    listener: Async<TcpListener>,
    address: SocketAddr,
}

impl FramedTransport {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// Those of binding.
    pub fn bind() -> io::Result<FramedTransport> {
        let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.get_ref().local_addr()?;
        Ok(FramedTransport { listener, address })
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Transport for FramedTransport {
    async fn accept(&mut self) -> io::Result<Incoming> {
        // Nothing is awaited after the accept, so dropping the future loses no peer.
        let (socket, peer) = self.listener.accept().await?;
        // The greeting waits for the peer, so it belongs in the handshake.
        Ok(Incoming::with_handshake(peer, async move { Ok(ByteStream::new(greet(socket).await?)) }))
    }

    fn local_endpoint(&self) -> String {
        format!("framed://{}", self.address)
    }
}

/// Dials a [`FramedTransport`].
///
/// # Errors
/// The errors of TCP, and a wrong greeting of the server.
pub async fn dial(address: SocketAddr) -> io::Result<FramedStream> {
    greet(Async::<TcpStream>::connect(address).await?).await
}

async fn greet(mut socket: Async<TcpStream>) -> io::Result<FramedStream> {
    socket.get_ref().set_nodelay(true)?;
    socket.write_all(GREETING).await?;
    let mut theirs = [0; GREETING.len()];
    socket.read_exact(&mut theirs).await?;
    if theirs == *GREETING {
        Ok(FramedStream::new(socket))
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "this is no peer that speaks in frames"))
    }
}
