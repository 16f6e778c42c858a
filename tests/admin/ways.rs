//! The other ways to the listener: TLS and Unix sockets; and settings that keep it from starting.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_lite::future::block_on;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::TlsConnector;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::ServerName;
use futures_rustls::rustls::{ClientConfig, RootCertStore};
use hrotti::admin::{Admin, AdminError};
use hrotti::{AdminConfig, AdminConfigError, Broker, TlsConfig};

use super::http::reply;

/// A directory that is removed at the end of the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("hrotti-admin-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory");
        Directory(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a temporary file");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        }
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serve(config: AdminConfig) -> Result<Admin, AdminError> {
    block_on(Admin::serve(Broker::new(10), config))
}

#[cfg(unix)]
#[test]
fn it_answers_over_a_unix_socket_without_a_token() {
    use std::io::{Read, Write};
    let directory = Directory::new("unix");
    let path = directory.0.join("admin.sock");
    let config = AdminConfig::new(&format!("unix://{}", path.display())).expect("a good URL");
    let admin = serve(config).expect("a free path");
    assert_eq!(admin.endpoint(), format!("unix://{}", path.display()));
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
    let request = b"GET /api/v1/status HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("the server reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert_eq!(reply(&answer).json()["state"], "running");
    block_on(admin.stop());
    assert!(!path.exists(), "the file is gone");
}

#[test]
fn it_answers_over_tls() {
    let directory = Directory::new("tls");
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = directory.write("server.pem", &cert.pem());
    let key = directory.write("server.key", &signing_key.serialize_pem());
    let token = directory.write("token", "0123456789abcdef0123\n");
    let config = AdminConfig::new("https://127.0.0.1:0").expect("a good URL");
    let config = config.with_tls(TlsConfig::new(certificate, key)).expect("https");
    let config = config.with_token_file(token);
    Admin::check(&config).expect("good files");
    let admin = serve(config).expect("a free port");
    let authority = admin.endpoint().strip_prefix("https://").expect("HTTPS");

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a certificate");
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let answer = block_on(async {
        let stream = async_std::net::TcpStream::connect(authority).await?;
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                       Authorization: Bearer 0123456789abcdef0123\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    });
    let reply = reply(&answer.expect("an answer"));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.text().contains("hrotti_sessions 0"));
}

#[test]
fn settings_that_cannot_be_used_are_errors_with_the_remedy() {
    let open = AdminConfig::new("http://0.0.0.0:0").expect("a good URL");
    let error = serve(open.clone()).expect_err("other machines reach it");
    assert!(matches!(&error, AdminError::Config(AdminConfigError::Token(_))), "{error}");
    let missing = open.with_token_file("no/such/token");
    let error = serve(missing).expect_err("no file").to_string();
    assert!(error.starts_with("no/such/token: it cannot be read: "), "{error}");
    let directory = Directory::new("short");
    let short = AdminConfig::new("http://127.0.0.1:0").expect("a good URL");
    let short = short.with_token_file(directory.write("token", "short\n"));
    let error = Admin::check(&short).expect_err("a short token").to_string();
    assert!(error.contains("16 is the least") && error.contains("openssl rand"), "{error}");
    let first =
        serve(AdminConfig::new("http://127.0.0.1:0").expect("a good URL")).expect("a free port");
    let error =
        serve(AdminConfig::new(first.endpoint()).expect("its own URL")).expect_err("in use");
    assert!(
        error.to_string().starts_with(&format!("cannot listen on {}: ", first.endpoint())),
        "{error}"
    );
    let relative = AdminConfig::new("http://h").expect("a good URL").with_token_file("t");
    let relative = relative.relative_to(Path::new("/etc/hrotti"));
    assert_eq!(relative.token_file(), Some(Path::new("/etc/hrotti/t")));
}

/// The admin listener holds a handle of its broker: dropped, it lets go of it.
#[test]
fn a_listener_that_is_dropped_stops_and_lets_its_broker_go() {
    let broker = Broker::new(10);
    let client = broker.client("c").expect("a free name");
    let config = AdminConfig::new("http://127.0.0.1:0").expect("a good URL");
    let admin = block_on(Admin::serve(broker.clone(), config)).expect("a free port");
    let authority = admin.endpoint().strip_prefix("http://").expect("HTTP").to_owned();
    let idle = TcpStream::connect(&authority).expect("it listens");
    drop((broker, admin));
    // The drop of the last handle stops the broker, which ends the stream of its clients.
    let mut client = client;
    assert!(block_on(client.recv()).is_none());
    drop(idle);
}
