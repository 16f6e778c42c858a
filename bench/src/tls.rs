//! TLS as a client sees it, on rustls: what comes is decrypted, what goes is encrypted, and nothing
//! here knows sockets.
//!
//! The client verifies no certificate: the broker's work is measured, and both share a machine. It
//! sends no Server Name Indication, like a client that was given an address.

use std::io::{self, ErrorKind};
use std::sync::{Arc, LazyLock};
use std::{fmt, mem};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientConnectionData, ClientSessionMemoryCache, Resumption, UnbufferedClientConnection,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus, WriteTraffic};
use rustls::{ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};

/// rustls' store divides its size by the tickets that it keeps for each name.
const TICKETS_EACH: usize = 8;
/// Bytes of payload that fit into a record, and bytes that a record adds at most.
const RECORD_BYTES: usize = 16 * 1024;
const RECORD_OVERHEAD: usize = 64;
/// Nothing that is not whole yet may be longer, neither a record nor a message of the handshake.
const UNFINISHED_MAX: usize = 64 * 1024;

/// The version of TLS that a client offers, and no other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Version {
    V12,
    #[default]
    V13,
}

impl Version {
    /// What reports say behind a load: nothing of the default.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::V12 => " 1.2",
            Self::V13 => "",
        }
    }
}

/// What many connections have in common.
#[derive(Debug, Clone)]
pub(crate) struct Client(Arc<ClientConfig>);

impl Client {
    /// One whose every handshake is full.
    ///
    /// # Errors
    ///
    /// When rustls cannot do what is asked of it here, on no machine.
    pub(crate) fn forgetful(version: Version) -> io::Result<Self> {
        static CLIENTS: LazyLock<[Result<Client, Error>; 2]> = LazyLock::new(|| {
            [Version::V12, Version::V13].map(|one| Client::new(one, Resumption::disabled()))
        });
        let [v12, v13] = &*CLIENTS;
        let client = if version == Version::V12 { v12 } else { v13 };
        client.clone().map_err(|error| wrong(&error))
    }

    /// One that resumes the last session of each name, for so many names.
    ///
    /// # Errors
    ///
    /// As above.
    pub(crate) fn remembering(version: Version, names: usize) -> io::Result<Self> {
        let store = ClientSessionMemoryCache::new(names.saturating_mul(TICKETS_EACH));
        Self::new(version, Resumption::store(Arc::new(store))).map_err(|error| wrong(&error))
    }

    fn new(version: Version, resumption: Resumption) -> Result<Self, Error> {
        let version = match version {
            Version::V12 => &rustls::version::TLS12,
            Version::V13 => &rustls::version::TLS13,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[version])?.dangerous();
        let mut config =
            builder.with_custom_certificate_verifier(Arc::new(Trusting)).with_no_client_auth();
        config.resumption = resumption;
        config.enable_sni = false;
        Ok(Self(Arc::new(config)))
    }
}

/// Every certificate and every signature is fine.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// One connection.
pub(crate) struct Tls {
    connection: UnbufferedClientConnection,
    /// Payload that waits for the end of the handshake.
    waiting: Vec<u8>,
    /// Records that came and are not whole.
    tail: Vec<u8>,
    is_ready: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("is_ready", &self.is_ready).finish_non_exhaustive()
    }
}

impl Tls {
    /// `name` is what the sessions are kept by; the broker does not get to see it.
    ///
    /// # Errors
    ///
    /// When `name` is no host name.
    pub(crate) fn new(client: &Client, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = UnbufferedClientConnection::new(Arc::clone(&client.0), name);
        let connection = connection.map_err(|error| wrong(&error))?;
        Ok(Self { connection, waiting: Vec::new(), tail: Vec::new(), is_ready: false })
    }

    /// Whether all payload has been encrypted.
    #[inline]
    pub(crate) fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the handshake is done and resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// What both sides agreed on, as far as they have.
    pub(crate) fn agreed(&self) -> String {
        let version = self.connection.protocol_version().map(|version| format!("{version:?}"));
        let suite = self.connection.negotiated_cipher_suite();
        let suite = suite.map(|suite| format!("{:?}", suite.suite()));
        let group = self.connection.negotiated_key_exchange_group();
        let group = group.map(|group| format!("{:?}", group.name()));
        [version, suite, group].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Encrypts `payload` to the end of `records`; before the end of the handshake it waits, and
    /// what the handshake has to say goes there.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    #[inline]
    pub(crate) fn send(&mut self, payload: &[u8], records: &mut Vec<u8>) -> io::Result<()> {
        if !self.is_ready {
            self.waiting.extend_from_slice(payload);
            return self.advance(&mut [], &mut [], records).map(|_| ());
        }
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        match state.map_err(|error| wrong(&error))? {
            ConnectionState::WriteTraffic(mut traffic) => encrypt(&mut traffic, payload, records),
            // An answer to what came: it goes first.
            _ => {
                self.waiting.extend_from_slice(payload);
                self.advance(&mut [], &mut [], records).map(|_| ())
            }
        }
    }

    /// Puts the unfinished records of the last time to the start of `records`, and says how many
    /// bytes they are. What comes next follows them, and all of it goes to [`Tls::receive`].
    #[inline]
    pub(crate) fn put_back(&self, records: &mut [u8]) -> usize {
        let len = self.tail.len();
        records[..len].copy_from_slice(&self.tail);
        len
    }

    /// How many bytes [`Tls::put_back`] puts back.
    pub(crate) fn unfinished(&self) -> usize {
        self.tail.len()
    }

    /// Decrypts the whole records to the start of `plain`, which must be as long as `records`, and
    /// says how many bytes it is. What has to be answered goes to the end of `answers`.
    ///
    /// # Errors
    ///
    /// When these are no records, or the broker refuses the handshake.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        records: &mut [u8],
        plain: &mut [u8],
        answers: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let (used, filled) = self.advance(records, plain, answers)?;
        let rest = &records[used..];
        if rest.len() > UNFINISHED_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "TLS: a record has no end"));
        }
        self.tail.clear();
        self.tail.extend_from_slice(rest);
        Ok(filled)
    }

    /// Goes on until rustls wants more: bytes used of `records`, and bytes put into `plain`.
    fn advance(
        &mut self,
        records: &mut [u8],
        plain: &mut [u8],
        answers: &mut Vec<u8>,
    ) -> io::Result<(usize, usize)> {
        let (mut used, mut filled) = (0, 0);
        loop {
            let UnbufferedStatus { mut discard, state, .. } =
                self.connection.process_tls_records(&mut records[used..]);
            let mut is_done = false;
            match state.map_err(|error| wrong(&error))? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|error| wrong(&error))?;
                        let end = filled + record.payload.len();
                        let room = plain.get_mut(filled..end);
                        let room = room.ok_or_else(|| io::Error::other("TLS: no room"))?;
                        room.copy_from_slice(record.payload);
                        (filled, discard) = (end, discard + record.discard);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = answers.len();
                    answers.resize(start + RECORD_BYTES + RECORD_OVERHEAD, 0);
                    let len = data.encode(&mut answers[start..]).map_err(io::Error::other)?;
                    answers.truncate(start + len);
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(mut traffic) => {
                    self.is_ready = true;
                    let waiting = mem::take(&mut self.waiting);
                    if !waiting.is_empty() {
                        encrypt(&mut traffic, &waiting, answers)?;
                    }
                    is_done = true;
                }
                // That the broker is about to close is seen when it does.
                ConnectionState::PeerClosed => {}
                _ => is_done = true,
            }
            used += discard;
            if is_done {
                return Ok((used, filled));
            }
        }
    }
}

#[inline]
fn encrypt(
    traffic: &mut WriteTraffic<'_, ClientConnectionData>,
    payload: &[u8],
    records: &mut Vec<u8>,
) -> io::Result<()> {
    let start = records.len();
    let most = payload.len() + (payload.len() / RECORD_BYTES + 1) * RECORD_OVERHEAD;
    records.resize(start + most, 0);
    let len = traffic.encrypt(payload, &mut records[start..]).map_err(io::Error::other)?;
    records.truncate(start + len);
    Ok(())
}

fn wrong(error: &Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("TLS: {error}"))
}

#[cfg(test)]
pub(crate) mod tests;
