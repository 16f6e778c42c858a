//! An MQTT server with TLS in a program of your own, until SIGINT or SIGTERM.
//!
//! `cargo run --example tls [URL [DIRECTORY]]`, where the URL is `mqtts://127.0.0.1:8883` unless another one is given.
//! With `wss://` it serves MQTT over WebSocket.
//!
//! Without a directory the program makes a certificate for this run, in memory. With one it reads `server.pem` and
//! `server.key` there, and asks Clients for a certificate of the authorities in `ca.pem` if there is such a file;
//! certificates that `crl.pem` lists are refused. The Common Name is then the user name.

use std::path::Path;

use hrotti::transport::tls::{CertificateName, ClientCertificate, TlsMaterial};
use hrotti::{Broker, Limits, ListenerConfig, TlsConfig};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "mqtts://127.0.0.1:8883".to_owned());
    let material = match args.next() {
        None => made_here()?,
        Some(directory) => from_files(directory.as_ref())?,
    };
    let mut signals = Signals::new([SIGINT, SIGTERM])?;

    let broker = Broker::new(100);
    let listener = ListenerConfig::new(&url)?;
    futures_lite::future::block_on(async {
        let bound = listener.bind_with_tls(&Limits::default(), &material).await?;
        println!("INFO: listening on {}", broker.add_transport("secure", bound).await?);
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;

    let _signal = signals.forever().next();
    futures_lite::future::block_on(broker.stop());
    Ok(())
}

/// A certificate for this machine that nobody trusts yet.
fn made_here() -> Result<TlsMaterial, rcgen::Error> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(TlsMaterial::new(made.cert.pem(), made.signing_key.serialize_pem()))
}

fn from_files(directory: &Path) -> Result<TlsMaterial, Box<dyn std::error::Error>> {
    let mut tls = TlsConfig::new("server.pem", "server.key");
    if directory.join("ca.pem").exists() {
        tls.client_ca = Some("ca.pem".into());
        tls.client_certificate = Some(ClientCertificate::Optional);
        tls.user_name = Some(CertificateName::CommonName);
    }
    if directory.join("crl.pem").exists() {
        tls.crl.push("crl.pem".into());
    }
    Ok(tls.relative_to(directory).load()?)
}
