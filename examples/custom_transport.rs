//! A custom transport: MQTT over a Unix socket.
//!
//! Starts a broker on it, connects a Client through the socket, prints the broker's answers, and stops:
//!
//! ```text
//! cargo run --example custom_transport
//! ```

#[cfg(unix)]
#[path = "custom_transport/unix.rs"]
mod unix;

/// The bytes of an MQTT 3.1.1 Client that connects, subscribes to `greeting`, and publishes there.
#[cfg(unix)]
fn client(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Write};
    use std::time::Duration;

    const CONNECT: &[u8] = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04unix";
    const SUBSCRIBE: &[u8] = b"\x82\x0d\x00\x01\x00\x08greeting\x00";
    const PUBLISH: &[u8] = b"\x30\x0f\x00\x08greetinghello";
    const DISCONNECT: &[u8] = b"\xe0\x00";

    let mut socket = std::os::unix::net::UnixStream::connect(path)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.write_all(CONNECT)?;
    socket.write_all(SUBSCRIBE)?;
    socket.write_all(PUBLISH)?;
    let mut answer = vec![0; b"\x20\x02\0\0".len() + b"\x90\x03\0\x01\0".len() + PUBLISH.len()];
    socket.read_exact(&mut answer)?;
    socket.write_all(DISCONNECT)?;
    Ok(answer)
}

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use futures_lite::future::block_on;

    let path = std::env::temp_dir().join(format!("hrotti-example-{}.sock", std::process::id()));
    let broker = hrotti::Broker::new(100);
    let endpoint = block_on(broker.add_transport("unix", unix::UnixTransport::bind(&path)?))?;
    println!("listening on {endpoint}");

    let answer = client(&path)?;
    println!("CONNACK, SUBACK and the message: {}", answer.escape_ascii());
    block_on(broker.stop());
    if answer != *b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\x30\x0f\x00\x08greetinghello" {
        return Err("these are not the expected bytes".into());
    }
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("this example needs Unix sockets");
}
