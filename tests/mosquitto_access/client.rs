//! A Client of MQTT 3.1.1 that writes and reads packets, and nothing more.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any answer takes.
const HANGS: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    stream: TcpStream,
}

/// A packet: the first byte of its fixed header, and its body.
type Packet = (u8, Vec<u8>);

impl Client {
    /// Connects; `None` if the CONNECT is refused.
    pub(crate) fn connect(
        address: SocketAddr,
        client_id: &str,
        user_name: Option<&str>,
        password: Option<&str>,
    ) -> io::Result<Option<Client>> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANGS))?;
        let mut client = Client { stream };
        let flags = 2 | u8::from(user_name.is_some()) << 7 | u8::from(password.is_some()) << 6;
        let mut body = text("MQTT");
        body.extend([4, flags, 0, 0]);
        for field in [Some(client_id), user_name, password].into_iter().flatten() {
            body.extend(text(field));
        }
        client.send(0x10, &body)?;
        match client.receive() {
            Ok((0x20, body)) => Ok((body.get(1) == Some(&0)).then_some(client)),
            Ok(other) => Err(io::Error::other(format!("{other:?} for CONNACK"))),
            // A refusal without CONNACK.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Subscribes with QoS 0; whether it was granted.
    pub(crate) fn subscribe(&mut self, filter: &str) -> io::Result<bool> {
        let mut body = vec![0, 1];
        body.extend(text(filter));
        body.push(0);
        self.send(0x82, &body)?;
        Ok(self.until(0x90)?.last() == Some(&0))
    }

    /// Publishes with QoS 1 and waits for the PUBACK, which comes after the message was passed on.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str) -> io::Result<()> {
        let mut body = text(topic);
        body.extend([0, 1]);
        body.extend(payload.as_bytes());
        self.send(0x32, &body)?;
        self.until(0x40).map(|_| ())
    }

    /// The payloads that have arrived, as PINGREQ comes back behind them.
    pub(crate) fn arrived(&mut self) -> io::Result<Vec<String>> {
        self.send(0xC0, &[])?;
        let mut payloads = Vec::new();
        loop {
            match self.receive()? {
                (0xD0, _) => return Ok(payloads),
                (0x30, body) => {
                    let topic = body
                        .iter()
                        .take(2)
                        .fold(0, |length, byte| length << 8 | usize::from(*byte));
                    let payload = body.get(2 + topic..).unwrap_or_default();
                    payloads.push(String::from_utf8_lossy(payload).into_owned());
                }
                _ => {}
            }
        }
    }

    /// Waits for a packet of this type; messages before it are not kept.
    fn until(&mut self, first: u8) -> io::Result<Vec<u8>> {
        loop {
            let (kind, body) = self.receive()?;
            if kind == first {
                return Ok(body);
            }
        }
    }

    fn send(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        let mut packet = vec![first];
        let mut rest = body.len();
        loop {
            let more = u8::from(rest > 127) << 7;
            packet.push(u8::try_from(rest % 128).expect("7 bits") | more);
            rest /= 128;
            if rest == 0 {
                break;
            }
        }
        packet.extend(body);
        self.stream.write_all(&packet)
    }

    fn receive(&mut self) -> io::Result<Packet> {
        let first = self.byte()?;
        let mut length = 0;
        for place in 0..4 {
            let byte = self.byte()?;
            length |= usize::from(byte & 127) << (7 * place);
            if byte < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((first, body))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

impl Drop for Client {
    /// DISCONNECT, and the end of the stream: the server is done with the Client, whose identifier may be another
    /// user's next.
    fn drop(&mut self) {
        let _ = self.send(0xE0, &[]);
        while matches!(self.stream.read(&mut [0; 256]), Ok(1..)) {}
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
