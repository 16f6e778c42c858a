//! An MQTT server in a program of your own: one listener, until SIGINT or SIGTERM.
//!
//! `cargo run --example embed [URL]`, where the URL is `tcp://0.0.0.0:1883` unless another one is given.
//! With port 0 the operating system chooses a port.

use hrotti::{Broker, ListenerConfig};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "tcp://0.0.0.0:1883".to_owned());
    let mut signals = Signals::new([SIGINT, SIGTERM])?;

    let broker = Broker::new(100);
    let listening = broker.add_listener("test", ListenerConfig::new(&url)?);
    println!("INFO: listening on {}", futures_lite::future::block_on(listening)?);

    let _signal = signals.forever().next();
    futures_lite::future::block_on(broker.stop());
    Ok(())
}
