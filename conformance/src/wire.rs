//! One stream of bytes to the broker, with deadlines: what the raw client stands on.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};
use url::Url;

/// A stream of bytes with a deadline for each read.
pub trait Wire: Send {
    /// Sends all of `bytes`, in one write or one frame.
    ///
    /// # Errors
    /// The stream's own.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// What came next; empty at the end of the stream, however it ended.
    ///
    /// # Errors
    /// `TimedOut` when nothing came until the deadline, and whatever is no end of stream.
    fn receive(&mut self, within: Duration) -> io::Result<Vec<u8>>;

    /// Ends the stream in this direction; what the server still sends can be read.
    ///
    /// # Errors
    /// The stream's own.
    fn finish(&mut self) -> io::Result<()>;

    /// Breaks the stream off without a word of MQTT.
    fn cut(&mut self);
}

/// The largest time that anything is waited for.
pub const DEADLINE: Duration = Duration::from_secs(8);

fn is_end(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn set_deadline(socket: &TcpStream, within: Duration) -> io::Result<()> {
    socket.set_read_timeout(Some(within.max(Duration::from_millis(1))))
}

/// A plain TCP stream.
#[derive(Debug)]
pub struct TcpWire(TcpStream);

impl TcpWire {
    /// Wraps a connected socket.
    ///
    /// # Errors
    /// The socket's own, from setting its options.
    pub fn new(socket: TcpStream) -> io::Result<TcpWire> {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(DEADLINE))?;
        Ok(TcpWire(socket))
    }
}

impl Wire for TcpWire {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn receive(&mut self, within: Duration) -> io::Result<Vec<u8>> {
        set_deadline(&self.0, within)?;
        let mut buffer = vec![0; 64 * 1024];
        match self.0.read(&mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                Ok(buffer)
            }
            Err(e) if is_end(e.kind()) => Ok(Vec::new()),
            Err(e) if is_timeout(e.kind()) => Err(ErrorKind::TimedOut.into()),
            Err(e) => Err(e),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn cut(&mut self) {
        // A socket that is gone already is as cut as it can be.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// MQTT in the binary frames of a WebSocket.
#[derive(Debug)]
pub struct WsWire(WebSocket<TcpStream>);

impl WsWire {
    /// Connects and upgrades, offering the subprotocol `mqtt` (MQTT-6.0.0-3).
    ///
    /// # Errors
    /// The socket's; a refused upgrade; an answer without the subprotocol (MQTT-6.0.0-4).
    pub fn dial(url: &Url) -> io::Result<WsWire> {
        WsWire::offering(url, "mqtt")
    }

    /// Connects and upgrades, offering these subprotocols, `mqtt` among them.
    ///
    /// # Errors
    /// As for [`dial`](WsWire::dial).
    pub fn offering(url: &Url, subprotocols: &'static str) -> io::Result<WsWire> {
        let host = url.host_str().unwrap_or("127.0.0.1");
        let socket = TcpStream::connect((host, url.port_or_known_default().unwrap_or(80)))?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(DEADLINE))?;
        set_deadline(&socket, DEADLINE)?;
        let mut request = url.as_str().into_client_request().map_err(io::Error::other)?;
        let offered = HeaderValue::from_static(subprotocols);
        request.headers_mut().insert("Sec-WebSocket-Protocol", offered);
        let (stream, answer) = tungstenite::client::client(request, socket)
            .map_err(|e| io::Error::other(e.to_string()))?;
        let chosen = answer.headers().get("Sec-WebSocket-Protocol").map(HeaderValue::as_bytes);
        if chosen != Some(b"mqtt") {
            return Err(io::Error::other("MQTT-6.0.0-4: no subprotocol `mqtt` in the answer"));
        }
        Ok(WsWire(stream))
    }

    /// Sends a text frame, which no client may (MQTT-6.0.0-1).
    ///
    /// # Errors
    /// The stream's own.
    pub fn send_text(&mut self, text: &str) -> io::Result<()> {
        self.0.send(Message::text(text)).map_err(into_io)
    }
}

impl Wire for WsWire {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.send(Message::binary(bytes.to_vec())).map_err(into_io)
    }

    fn receive(&mut self, within: Duration) -> io::Result<Vec<u8>> {
        let until = Instant::now() + within;
        loop {
            set_deadline(self.0.get_ref(), until.saturating_duration_since(Instant::now()))?;
            match self.0.read().map_err(into_io) {
                Ok(Message::Binary(bytes)) if bytes.is_empty() => {}
                Ok(Message::Binary(bytes)) => return Ok(bytes.to_vec()),
                Ok(Message::Close(_)) => {}
                Ok(Message::Text(_)) => {
                    return Err(io::Error::other("MQTT-6.0.0-1: a text frame"));
                }
                Ok(_) => {}
                Err(e) if is_end(e.kind()) => return Ok(Vec::new()),
                Err(e) if is_timeout(e.kind()) => return Err(ErrorKind::TimedOut.into()),
                Err(e) => return Err(e),
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.close(None).map_err(into_io)
    }

    fn cut(&mut self) {
        let _ = self.0.get_ref().shutdown(Shutdown::Both);
    }
}

fn into_io(error: tungstenite::Error) -> io::Error {
    use tungstenite::Error::{AlreadyClosed, ConnectionClosed, Io, Protocol};
    use tungstenite::error::ProtocolError::{ResetWithoutClosingHandshake, SendAfterClosing};
    match error {
        Io(e) => e,
        ConnectionClosed
        | AlreadyClosed
        | Protocol(ResetWithoutClosingHandshake | SendAfterClosing) => {
            ErrorKind::ConnectionAborted.into()
        }
        other => io::Error::other(other.to_string()),
    }
}
