//! Certificates that are replaced while Clients are connected.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::authority::{Authority, Issued};
use crate::house::{House, directory, write};
use crate::peer::{DEADLINE, connect_packet};

const TEXT: &str = r#""listeners": {"tls": {"url": "mqtts://127.0.0.1:0", "tls": {"certificate": "server.pem",
    "key": "server.key"}}}"#;

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn put(house: &std::path::Path, issued: &Issued) {
    write(house, "server.pem", &issued.certificate);
    write(house, "server.key", &issued.key);
}

/// A Client of MQTT over TLS, and the certificate that it was shown.
fn connect(authority: &Authority, address: &str, id: &str) -> (Secure, Vec<u8>) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), socket);
    stream.write_all(&connect_packet(id)).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    let shown = stream.conn.peer_certificates().unwrap()[0].to_vec();
    (stream, shown)
}

fn ping(client: &mut Secure) {
    client.write_all(&[0xC0, 0]).unwrap();
    let mut answer = [0; 2];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0xD0, 0]);
}

#[test]
fn a_new_certificate_is_shown_to_new_clients_and_the_others_stay() {
    let authority = Authority::new("Test");
    let issued: Vec<Issued> = (0..3).map(|_| authority.server(&["127.0.0.1"])).collect();
    let directory = directory();
    put(&directory, &issued[0]);
    let house = House::start_in(directory, TEXT);
    let address = house.address("tls");
    let (mut first, shown) = connect(&authority, &address, "first");
    assert_eq!(shown, issued[0].der);

    put(&house.directory, &issued[1]);
    let lines = house.reload(TEXT).unwrap();
    let path = |name: &str| house.directory.join(name).display().to_string();
    let expected = [("certificate", "server.pem"), ("key", "server.key")].map(|(key, file)| {
        let file = path(file);
        format!("~ listeners.tls.tls.{key} {file}: contents changed (new connections)")
    });
    assert_eq!(lines, expected);
    let (mut second, shown) = connect(&authority, &address, "second");
    assert_eq!(shown, issued[1].der);
    assert_eq!(house.reload(TEXT).unwrap(), [""; 0]);

    // A key that does not belong to the certificate: the pair in use stays.
    write(&house.directory, "server.pem", &issued[2].certificate);
    let errors = house.reload(TEXT).unwrap_err();
    assert!(errors.to_string().contains("server."), "{errors}");
    let (mut third, shown) = connect(&authority, &address, "third");
    assert_eq!(shown, issued[1].der);

    // Together with a limit of the transport, and in other files.
    write(&house.directory, "other.pem", &issued[2].certificate);
    write(&house.directory, "other.key", &issued[2].key);
    let other =
        format!("{}, \"limits\": {{\"tlsSessionsMax\": 0}}", TEXT.replace("server.", "other."));
    let lines = house.reload(&other).unwrap();
    let expected = [
        "~ listeners.tls.tls.certificate server.pem -> other.pem (new connections)",
        "~ listeners.tls.tls.key server.key -> other.key (new connections)",
        "~ limits.tlsSessionsMax 4096 -> 0 (new connections)",
    ];
    assert_eq!(lines, expected);
    let (mut fourth, shown) = connect(&authority, &address, "fourth");
    assert_eq!(shown, issued[2].der);
    for client in [&mut first, &mut second, &mut third, &mut fourth] {
        ping(client);
    }
    assert_eq!(house.connections(), 4);
}
