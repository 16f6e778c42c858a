//! A byte bridge on loopback: lets clients that know only TCP reach any transport.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::block_on;
use futures_lite::io::{AsyncReadExt, AsyncWriteExt, split};

/// Both halves of a transport's stream, as its author dials it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A dialled stream to be.
pub type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

/// How a transport of one's own is dialled.
pub type Dial = Arc<dyn Fn() -> Dialled + Send + Sync>;

/// Opens a loopback port whose every connection is carried over a stream from `dial`.
///
/// # Errors
/// Those of binding a free loopback port.
pub fn open(dial: Dial) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let dial = Arc::clone(&dial);
            thread::spawn(move || {
                // The client sees a failed dial as a connection that closes at once.
                if let Ok(stream) = block_on(dial()) {
                    let _ = carry(&socket, stream);
                }
                let _ = socket.shutdown(Shutdown::Both);
            });
        }
    });
    Ok(address)
}

fn carry(socket: &TcpStream, stream: Box<dyn Duplex>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut from_broker, mut to_broker) = split(stream);
    let mut from_client = socket.try_clone()?;
    let mut to_client = socket.try_clone()?;
    let upwards = thread::spawn(move || -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match io::Read::read(&mut from_client, &mut buffer) {
                Ok(n @ 1..) => block_on(async {
                    to_broker.write_all(&buffer[..n]).await?;
                    to_broker.flush().await
                })?,
                // A reset is passed on as an end: the broker must not take the peer for silent.
                Ok(0) | Err(_) => return block_on(to_broker.close()),
            }
        }
    });
    let mut buffer = [0; 16 * 1024];
    while let Ok(n) = block_on(from_broker.read(&mut buffer)) {
        if n == 0 || io::Write::write_all(&mut to_client, &buffer[..n]).is_err() {
            break;
        }
    }
    to_client.shutdown(Shutdown::Write)?;
    let _ = upwards.join();
    Ok(())
}
