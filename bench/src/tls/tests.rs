use std::collections::VecDeque;
use std::io::{Read as _, Write as _};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};

use super::*;
use crate::certificate::certificate;

/// A server that shows the certificate of this process and gives tickets.
pub(crate) fn server() -> Arc<ServerConfig> {
    let shown = certificate().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.ticketer = ring::Ticketer::new().unwrap();
    Arc::new(config)
}

/// The same, but it gives no tickets and remembers nobody.
pub(crate) fn forgetful_server() -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&server());
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

/// A client and a server, with what is under way between them.
struct Wire {
    client: Tls,
    server: ServerConnection,
    to_server: Vec<u8>,
    to_client: VecDeque<u8>,
}

impl Wire {
    fn new(client: &Client, server: &Arc<ServerConfig>) -> Self {
        Self {
            client: Tls::new(client, "client-1.invalid").unwrap(),
            server: ServerConnection::new(Arc::clone(server)).unwrap(),
            to_server: Vec::new(),
            to_client: VecDeque::new(),
        }
    }

    /// Lets the server read and write; what it read.
    fn serve(&mut self) -> Vec<u8> {
        let (mut from, mut got) = (&self.to_server[..], Vec::new());
        while !from.is_empty() {
            self.server.read_tls(&mut from).unwrap();
            self.server.process_new_packets().unwrap();
            // That nothing more is there now is no error here.
            let _ = self.server.reader().read_to_end(&mut got);
        }
        self.to_server.clear();
        let mut sent = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut sent).unwrap();
        }
        self.to_client.extend(sent);
        got
    }

    /// Lets the client read at most so many bytes; what it read.
    fn read(&mut self, most: usize) -> Vec<u8> {
        let take = most.min(self.to_client.len());
        let mut records = vec![0; self.client.unfinished()];
        self.client.put_back(&mut records);
        records.extend(self.to_client.drain(..take));
        let mut plain = vec![0; records.len()];
        let len = self.client.receive(&mut records, &mut plain, &mut self.to_server).unwrap();
        plain.truncate(len);
        plain
    }

    /// Until nothing is under way; what the server and the client read.
    fn settle(&mut self, most: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while !self.to_server.is_empty() || !self.to_client.is_empty() || self.server.wants_write()
        {
            to_server.extend(self.serve());
            to_client.extend(self.read(most));
        }
        (to_server, to_client)
    }
}

#[test]
fn what_is_sent_before_the_handshake_follows_it_however_the_bytes_are_cut() {
    let server = server();
    for version in [Version::V12, Version::V13] {
        let client = Client::forgetful(version).unwrap();
        for most in [1, 7, 100, 1000, 100_000] {
            let mut wire = Wire::new(&client, &server);
            wire.client.send(b"hello ", &mut wire.to_server).unwrap();
            wire.client.send(b"there", &mut wire.to_server).unwrap();
            assert!(!wire.client.is_flushed());
            let (got, _) = wire.settle(most);
            assert_eq!(got, b"hello there", "{version:?} cut at {most}");
            assert!(wire.client.is_flushed() && !wire.client.is_resumed());
            wire.server.writer().write_all(&[7; 5000]).unwrap();
            let (_, answer) = wire.settle(most);
            assert!(answer == [7; 5000], "{version:?} cut at {most}: {} bytes", answer.len());
        }
    }
}

#[test]
fn long_payload_is_cut_into_records_and_comes_whole() {
    let mut wire = Wire::new(&Client::forgetful(Version::V13).unwrap(), &server());
    let payload: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for _ in 0..2 {
        wire.client.send(&payload, &mut wire.to_server).unwrap();
        assert!(wire.settle(100_000).0 == payload);
    }
    wire.client.send(&payload, &mut wire.to_server).unwrap();
    assert!(wire.to_server.len() > payload.len());
}

#[test]
fn a_session_is_resumed_by_a_client_that_remembers_it() {
    let server = server();
    for version in [Version::V12, Version::V13] {
        let remembering = Client::remembering(version, 3).unwrap();
        let forgetful = Client::forgetful(version).unwrap();
        for (client, wanted) in [(&remembering, [false, true]), (&forgetful, [false, false])] {
            let resumed = wanted.map(|_| {
                let mut wire = Wire::new(client, &server);
                wire.client.send(b"x", &mut wire.to_server).unwrap();
                wire.settle(100_000);
                wire.client.is_resumed()
            });
            assert_eq!(resumed, wanted, "{version:?}");
        }
    }
}

#[test]
fn both_sides_agree_on_what_the_client_offers() {
    for (version, wanted) in [(Version::V12, "TLSv1_2, TLS_"), (Version::V13, "TLSv1_3, TLS13_")] {
        let mut wire = Wire::new(&Client::forgetful(version).unwrap(), &server());
        assert_eq!(wire.client.agreed(), "");
        wire.client.send(b"x", &mut wire.to_server).unwrap();
        wire.settle(100_000);
        let agreed = wire.client.agreed();
        assert!(agreed.starts_with(wanted) && agreed.ends_with(", X25519"), "{agreed}");
    }
}

#[test]
fn what_is_no_tls_is_an_error() {
    let client = Client::forgetful(Version::V13).unwrap();
    let mut tls = Tls::new(&client, "client-1.invalid").unwrap();
    let (mut answers, mut plain) = (Vec::new(), [0; 100]);
    tls.send(b"x", &mut answers).unwrap();
    let mut records = *b"\x20\x02\x00\x00 and more that is no record at all";
    let error = tls.receive(&mut records, &mut plain, &mut answers).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().starts_with("TLS: "), "{error}");
    assert!(Tls::new(&client, "no name").is_err());
}
