//! TLS as a Client sees it, and as a transport uses it.

use std::sync::{Arc, LazyLock};

use futures_lite::future::block_on;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use rustls::ClientConfig;

use super::*;
use crate::Limits;
use crate::transport::{CertificateNames, Transport};
use authority::{Authority, Issued, Valid};
use client::{Listener, TLS12, TLS13, config};

mod authority;
mod client;
mod material;
mod streams;

/// The authority of servers, that of Clients, and one that nobody trusts. Made once, because keys take time.
static SERVERS: LazyLock<Authority> = LazyLock::new(|| Authority::new("Servers"));
static CLIENTS: LazyLock<Authority> = LazyLock::new(|| Authority::new("Clients"));
static STRANGERS: LazyLock<Authority> = LazyLock::new(|| Authority::new("Strangers"));
static SERVER: LazyLock<Issued> = LazyLock::new(|| SERVERS.server(&["server.test"]));

fn plain() -> TlsMaterial {
    TlsMaterial::new(SERVER.certificate.clone(), SERVER.key.clone())
}

fn mutual() -> TlsMaterial {
    plain().with_client_ca("ca.pem", CLIENTS.pem())
}

fn without() -> Arc<ClientConfig> {
    Arc::new(config(&SERVERS, None, rustls::ALL_VERSIONS))
}

fn with(issued: &Issued) -> Arc<ClientConfig> {
    Arc::new(config(&SERVERS, Some(issued), rustls::ALL_VERSIONS))
}

/// The names of a Client whose certificate this listener accepts.
fn names(material: &TlsMaterial, issued: &Issued) -> CertificateNames {
    Listener::new(material).dial(&with(issued)).names().expect("a certificate")
}

fn refusal(material: &TlsMaterial, issued: Option<&Issued>) -> String {
    let config = issued.map_or_else(without, with);
    Listener::new(material).dial(&config).refusal()
}

#[test]
fn both_versions_are_served_and_the_older_one_only_if_it_may_be() {
    for versions in [TLS12, TLS13] {
        let (mut client, mut server) =
            Listener::new(&plain()).dial(&Arc::new(config(&SERVERS, None, versions))).expect();
        block_on(async {
            client.write_all(b"there").await.expect("sent");
            client.flush().await.expect("sent");
            let mut read = [0; 5];
            server.read_exact(&mut read).await.expect("received");
            assert_eq!(&read, b"there");
            server.write_all(b"back").await.expect("sent");
            server.flush().await.expect("sent");
            client.read_exact(&mut read[..4]).await.expect("received");
            assert_eq!(&read[..4], b"back");
        });
    }
    let newer = plain().with_minimum_version(TlsVersion::V1_3);
    let old = Arc::new(config(&SERVERS, None, TLS12));
    let refusal = Listener::new(&newer).dial(&old).refusal();
    assert!(refusal.contains("no version or cipher suite"), "{refusal}");
    Listener::new(&newer).dial(&without()).expect();
}

#[test]
fn a_client_may_offer_an_application_protocol_of_mqtt_or_none() {
    let offering = |protocols: &[&str]| {
        let mut config = config(&SERVERS, None, rustls::ALL_VERSIONS);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Listener::new(&plain()).dial(&Arc::new(config))
    };
    for (offered, chosen) in [
        (&[][..], None),
        (&["mqtt"], Some("mqtt")),
        (&["h2", "x-amzn-mqtt-ca"], Some("x-amzn-mqtt-ca")),
    ] {
        let (client, _server) = offering(offered).expect();
        let found = client.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(found, chosen.map(|name| name.as_bytes().to_vec()));
    }
    let refusal = offering(&["h2", "http/1.1"]).refusal();
    assert!(refusal.contains("ALPN"), "{refusal}");
}

#[test]
fn a_required_certificate_is_required_and_an_optional_one_is_not() {
    let device = CLIENTS.client("device");
    let refused = refusal(&mutual(), None);
    assert!(refused.contains("shows no certificate"), "{refused}");
    assert_eq!(names(&mutual(), &device).common_name.as_deref(), Some("device"));
    let optional = mutual().with_client_certificate(ClientCertificate::Optional);
    assert_eq!(names(&optional, &device).common_name.as_deref(), Some("device"));
    assert_eq!(Listener::new(&optional).dial(&without()).names(), None);
    assert_eq!(Listener::new(&plain()).dial(&with(&device)).names(), None, "it is not asked for");
}

#[test]
fn a_bad_certificate_is_refused_even_where_none_is_required_pitfall_10() {
    let stranger = STRANGERS.client("device");
    let expired = CLIENTS.client_valid("device", Valid::Before);
    let server = CLIENTS.client_with("device", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let optional = mutual().with_client_certificate(ClientCertificate::Optional);
    for material in [mutual(), optional] {
        for (issued, what) in [
            (&stranger, "clientCa does not have"),
            (&expired, "has expired"),
            (&server, "is not for Clients"),
        ] {
            let refused = refusal(&material, Some(issued));
            assert!(refused.contains(what), "{refused}");
        }
    }
}

#[test]
fn a_revoked_certificate_is_refused_and_so_are_all_when_the_list_has_expired() {
    let (good, bad) = (CLIENTS.client("good"), CLIENTS.client("bad"));
    let list = CLIENTS.revokes(&[&bad], Valid::Now);
    let checked = mutual().with_crl("crl.pem", list);
    assert_eq!(names(&checked, &good).common_name.as_deref(), Some("good"));
    let refused = refusal(&checked, Some(&bad));
    assert!(refused.contains("has been revoked"), "{refused}");
    let expired = mutual().with_crl("crl.pem", CLIENTS.revokes(&[], Valid::Before));
    let refused = refusal(&expired, Some(&good));
    assert!(refused.contains("crl has expired; renew it"), "{refused}");
    let of_others = mutual().with_crl("crl.pem", STRANGERS.revokes(&[], Valid::Now));
    let refused = refusal(&of_others, Some(&good));
    assert!(refused.contains("without a list in crl"), "{refused}");
    let several = mutual()
        .with_crl("a.pem", STRANGERS.revokes(&[], Valid::Now))
        .with_crl("b.pem", CLIENTS.revokes(&[&bad], Valid::Now));
    assert_eq!(names(&several, &good).common_name.as_deref(), Some("good"));
}

#[test]
fn the_names_of_a_certificate_become_those_of_the_peer() {
    use rcgen::DnType;

    let issued = CLIENTS.client_with("device, 7", |params| {
        params.distinguished_name.push(DnType::OrganizationName, "ACME+\"x\"");
        params.subject_alt_names = vec![
            authority::dns("a.example"),
            authority::dns("b.example"),
            authority::uri("urn:device:7"),
            authority::email("seven@example.org"),
        ];
    });
    let found = names(&mutual(), &issued);
    assert_eq!(found.common_name.as_deref(), Some("device, 7"));
    assert_eq!(found.subject, "O=ACME\\+\\\"x\\\",CN=device\\, 7");
    assert_eq!(found.dns, ["a.example", "b.example"]);
    assert_eq!(
        (found.uris, found.emails),
        (vec!["urn:device:7".into()], vec!["seven@example.org".into()])
    );
    assert_eq!(found.user_name, None);
    for (name, user_name) in [
        (CertificateName::CommonName, "device, 7"),
        (CertificateName::Subject, "O=ACME\\+\\\"x\\\",CN=device\\, 7"),
        (CertificateName::Dns, "a.example"),
        (CertificateName::Uri, "urn:device:7"),
        (CertificateName::Email, "seven@example.org"),
    ] {
        let found = names(&mutual().with_user_name(name), &issued);
        assert_eq!(found.user_name.as_deref(), Some(user_name), "{name:?}");
    }
}

#[test]
fn a_certificate_without_the_name_that_is_the_user_name_is_refused_pitfall_10() {
    let nameless = CLIENTS.client("");
    for name in CertificateName::ALL {
        let refused = refusal(&mutual().with_user_name(name), Some(&nameless));
        assert!(refused.contains("which is the user name"), "{name:?}: {refused}");
    }
    for name in ["two\nlines", "nul\0", "\u{7f}"] {
        let refused = refusal(&mutual(), Some(&CLIENTS.client(name)));
        assert!(refused.contains("control character"), "{refused}");
    }
}

/// Whatever comes instead of a certificate or of text.
#[test]
fn readers_are_total_pitfall_13() {
    use proptest::prelude::*;

    let issued = CLIENTS.client("device");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    runner
        .run(&(bytes, edits), |(bytes, edits)| {
            let mut changed = issued.der.clone();
            let mut text = issued.certificate.clone().into_bytes();
            text.extend_from_slice(&issued.key.clone().into_bytes());
            for (at, byte) in edits {
                let index = at.index(changed.len());
                changed[index] = byte;
                let index = at.index(text.len());
                text[index] = byte;
            }
            for der in [&bytes, &changed] {
                let _ = names::read(der, Some(CertificateName::CommonName));
                let _ = names::validity(der);
                let _ = names::next_update(der);
            }
            for pem in [&bytes, &text] {
                let errors = TlsMaterial::new(pem.clone(), pem.clone())
                    .with_client_ca("ca", pem.clone())
                    .with_crl("crl", pem.clone())
                    .check()
                    .expect_err("there is no list in it");
                for error in errors.iter() {
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
            Ok(())
        })
        .expect("total");
}

#[test]
fn what_speaks_no_tls_is_named() {
    let mut listener = Listener::new(&plain());
    for (sent, named) in [
        (&b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0"[..], "plain MQTT"),
        (b"GET / HTTP/1.1\r\n\r\n", "plain text, most likely HTTP"),
        (b"\x80\x2e\x01\x03\x01", "SSL 2"),
        (b"\0\0\0", "no TLS ClientHello"),
        (b"\x16\x03\x01\0\x02\x01\0", ""),
        (b"\x16\x16\x16\x16\x16\x16\x16\x16", ""),
        (b"\x16\x03\x01\xff\xff\x16\x16\x16", ""),
    ] {
        let (mut peer, incoming) = listener.accept();
        block_on(peer.write_all(sent)).expect("sent");
        block_on(peer.close()).expect("ended");
        let error = block_on(incoming.handshake).expect_err("no TLS").to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn material_is_replaced_for_new_handshakes_and_stays_if_the_new_one_is_bad_pitfall_10() {
    let (one, two) = (CLIENTS.client("one"), STRANGERS.client("two"));
    let mut listener = Listener::new(&mutual());
    let handle = listener.transport.handle();
    let (mut client, mut server) = listener.dial(&with(&one)).expect();
    let others = plain().with_client_ca("ca.pem", STRANGERS.pem());
    for bad in [
        TlsMaterial::new(SERVER.certificate.clone(), ""),
        plain().with_client_ca("ca.pem", ""),
        mutual().with_crl("crl.pem", "-----BEGIN X509 CRL-----\n"),
        TlsMaterial::new(SERVER.certificate.clone(), one.key.clone()),
    ] {
        handle.replace(&bad).expect_err("it is bad");
        listener.dial(&with(&one)).expect();
    }
    assert_eq!(handle.replace(&others), Ok(Vec::new()));
    assert!(listener.dial(&with(&one)).refusal().contains("clientCa does not have"));
    listener.dial(&with(&two)).expect();
    block_on(async {
        client.write_all(b"still").await.expect("sent");
        client.flush().await.expect("sent");
        let mut read = [0; 5];
        server.read_exact(&mut read).await.expect("the old connection stays");
    });
}

/// A resumed session shows no certificate again: what has been revoked since must not come in by it.
#[test]
fn a_session_is_resumed_and_a_replaced_list_ends_that() {
    for versions in [TLS12, TLS13] {
        let device = CLIENTS.client("device");
        let config = Arc::new(config(&SERVERS, Some(&device), versions));
        let mut listener = Listener::new(&mutual());
        let shake = |listener: &mut Listener| {
            let (mut client, mut server) = listener.dial(&config).expect();
            // The ticket comes behind the handshake.
            block_on(async {
                server.write_all(b"x").await.expect("sent");
                server.flush().await.expect("sent");
                client.read_exact(&mut [0]).await.expect("received");
            });
            assert!(server.peer.expect("a peer").identity().is_some(), "resumed or not");
            client.get_ref().1.handshake_kind()
        };
        assert_eq!(shake(&mut listener), Some(rustls::HandshakeKind::Full));
        assert_eq!(shake(&mut listener), Some(rustls::HandshakeKind::Resumed));
        let revoked = mutual().with_crl("crl.pem", CLIENTS.revokes(&[&device], Valid::Now));
        listener.transport.handle().replace(&revoked).expect("good");
        let refused = listener.dial(&config).refusal();
        assert!(refused.contains("has been revoked"), "{refused}");
    }
    let none = Limits { tls_sessions_max: 0, ..Limits::default() };
    let mut listener = Listener::with_limits(&plain(), &none);
    let config = without();
    for _ in 0..2 {
        let (mut client, mut server) = listener.dial(&config).expect();
        block_on(async {
            server.write_all(b"x").await.expect("sent");
            server.flush().await.expect("sent");
            client.read_exact(&mut [0]).await.expect("received");
        });
        assert_eq!(client.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn the_endpoint_names_tls() {
    let listener = Listener::new(&plain());
    assert_eq!(listener.transport.local_endpoint(), "tls+memory://tls");
    let tcp = block_on(crate::transport::tcp::TcpTransport::bind("127.0.0.1", 0)).expect("free");
    let tls = TlsTransport::new(tcp, &plain(), &Limits::default()).expect("good");
    assert!(tls.local_endpoint().starts_with("mqtts://127.0.0.1:"));
    let ws = crate::transport::ws::WsOver::new(tls, Some("/mqtt"), &[], &Limits::default());
    let endpoint = ws.expect("a path").local_endpoint();
    assert!(endpoint.starts_with("wss://127.0.0.1:") && endpoint.ends_with("/mqtt"), "{endpoint}");
}
