//! Tokens, SCRAM and the HTTP server, over TCP.

use std::io::{Cursor, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hrotti::Broker;
use hrotti::access::{
    HttpAnswers, HttpPolicy, HttpSettings, JwtAlgorithm, JwtKeys, JwtPolicy, JwtSettings, Policy,
    ScramMechanism, ScramPolicy, ScramUsers,
};
use ring::hmac;
use rsasl::prelude::{Mechname, SASLClient, SASLConfig, Session};

use crate::peer::{Peer, listen};
use crate::raw::{Connect, packet, publish, subscribe, text, varint};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const METHOD: u8 = 0x15;
const DATA: u8 = 0x16;

fn broker(policy: impl Policy) -> (Broker, String) {
    let broker = Broker::builder().policy(Arc::new(policy)).build();
    let endpoint = listen(&broker, "l");
    (broker, endpoint)
}

/// CONNECT of MQTT 3.1.1 with an empty User Name and this Password, or of MQTT 5.
fn connect(version: u8, id: &str, user: &str, password: &str) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([version, 0xC2, 0, 0]);
    body.extend((version == 5).then_some(0));
    for field in [id, user, password] {
        body.extend(text(field));
    }
    packet(0x10, &body)
}

fn token(claims: &str) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
    let sign = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    format!("{message}.{}", encode(sign.as_ref()))
}

fn jwt() -> JwtPolicy {
    let keys = JwtKeys::from_key_file(SECRET, "secret.key").unwrap();
    let mut settings = JwtSettings::new(vec![JwtAlgorithm::Hs256]);
    settings.acl_claim = Some("acl".to_owned());
    settings.leeway = Duration::ZERO;
    JwtPolicy::new(keys, settings).unwrap()
}

#[test]
fn a_token_lets_its_user_in_with_the_access_list_of_the_token() {
    let (_broker, endpoint) = broker(jwt());
    let claims = r#"{"sub": "ann", "exp": 4000000000, "acl": {"all": ["${username}/#"]}}"#;
    let mut ann = Peer::dial(&endpoint);
    ann.send(&connect(4, "c1", "", &token(claims)));
    assert_eq!(ann.packet(), [0x20, 2, 0, 0]);
    ann.send(&subscribe(4, "bob/#", 0));
    assert_eq!(ann.packet(), [0x90, 3, 0, 1, 0x80]);
    ann.send(&subscribe(4, "ann/#", 0));
    assert_eq!(ann.packet(), [0x90, 3, 0, 1, 0]);
    ann.send(&publish(4, "bob/x", b"denied", 0, 0));
    ann.send(&publish(4, "ann/x", b"allowed", 0, 0));
    assert!(ann.packet().ends_with(b"allowed"));

    let forged = token(claims).replace("eyJzdWIi", "eyJzdWIg");
    for password in [forged.as_str(), "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.", "secret"] {
        let mut peer = Peer::dial(&endpoint);
        peer.send(&connect(4, "c2", "", password));
        assert!(matches!(peer.packet()[..], [0x20, 2, 0, 4 | 5]), "{password}");
    }
}

#[test]
fn a_connection_ends_with_its_token() {
    let (_broker, endpoint) = broker(jwt());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut peer = Peer::dial(&endpoint);
    peer.send(&connect(5, "c1", "", &token(&format!(r#"{{"sub": "ann", "exp": {}}}"#, now + 2))));
    let connack = peer.packet();
    assert_eq!((connack[0], connack[3]), (0x20, 0), "accepted");
    let disconnect = peer.packet();
    assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0xA0), "Maximum connect time");
    let mut late = Peer::dial(&endpoint);
    late.send(&connect(5, "c1", "", &token(&format!(r#"{{"sub": "ann", "exp": {now}}}"#))));
    assert_eq!(late.packet()[3], 0x86);
}

/// The client of another library, over packets made by hand.
struct Scram {
    session: Session,
    mechanism: &'static str,
}

impl Scram {
    fn new(mechanism: &'static str, user: &str, password: &str) -> Scram {
        let config = SASLConfig::with_credentials(None, user.to_owned(), password.to_owned());
        let name = Mechname::parse(mechanism.as_bytes()).unwrap();
        let session = SASLClient::new(config.unwrap()).start_suggested(&[name]).unwrap();
        Scram { session, mechanism }
    }

    fn step(&mut self, data: Option<&[u8]>) -> Vec<u8> {
        let mut sent = Cursor::new(Vec::new());
        self.session.step(data, &mut sent).unwrap();
        sent.into_inner()
    }

    /// Authentication Method and Authentication Data.
    fn properties(&self, data: &[u8]) -> Vec<u8> {
        let mut properties = vec![METHOD];
        properties.extend(text(self.mechanism));
        properties.push(DATA);
        properties.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        properties.extend(data);
        properties
    }

    fn auth(&self, reason: u8, data: &[u8]) -> Vec<u8> {
        let properties = self.properties(data);
        let mut body = vec![reason];
        body.extend(varint(properties.len()));
        body.extend(properties);
        packet(0xF0, &body)
    }
}

/// The Authentication Data of a packet, which stands behind the Authentication Method.
fn data_of<'a>(packet: &'a [u8], method: &str) -> &'a [u8] {
    let before = [&text(method)[..], &[DATA]].concat();
    let at = packet.windows(before.len()).position(|window| window == before).unwrap();
    let data = &packet[at + before.len()..];
    let length = usize::from(u16::from_be_bytes([data[0], data[1]]));
    &data[2..2 + length]
}

#[test]
fn scram_lets_in_who_knows_the_password_and_again_while_connected() {
    let line = |user, password: &str, mechanism| {
        ScramUsers::line(user, password.as_bytes(), mechanism, 4_096).unwrap()
    };
    let file = [
        line("ann", "pencil", ScramMechanism::Sha256),
        line("ann", "pencil", ScramMechanism::Sha512),
    ];
    let users = ScramUsers::parse(&file.join("\n"), "scram").unwrap();
    let (_broker, endpoint) = broker(ScramPolicy::new(users));
    for (mechanism, user, password, code) in [
        ("SCRAM-SHA-256", "ann", "pencil", 0),
        ("SCRAM-SHA-512", "ann", "pencil", 0),
        ("SCRAM-SHA-256", "ann", "crayon", 0x86),
        ("SCRAM-SHA-512", "bob", "pencil", 0x86),
    ] {
        let mut client = Scram::new(mechanism, user, password);
        let first = client.step(None);
        let properties = client.properties(&first);
        let mut peer = Peer::dial(&endpoint);
        peer.send(&Connect::new(5, "c1").props(&properties).bytes());
        let auth = peer.packet();
        assert_eq!((auth[0], auth[2]), (0xF0, 0x18), "Continue authentication");
        let last = client.step(Some(data_of(&auth, mechanism)));
        peer.send(&client.auth(0x18, &last));
        let connack = peer.packet();
        assert_eq!((connack[0], connack[3]), (0x20, code), "{mechanism} {user} {password}");
        if code > 0 {
            continue;
        }
        client
            .session
            .step(Some(data_of(&connack, mechanism)), &mut Cursor::new(Vec::new()))
            .unwrap();

        // Section 4.12.1.
        let mut client = Scram::new(mechanism, user, password);
        let first = client.step(None);
        peer.send(&client.auth(0x19, &first));
        let auth = peer.packet();
        let last = client.step(Some(data_of(&auth, mechanism)));
        peer.send(&client.auth(0x18, &last));
        let auth = peer.packet();
        assert_eq!((auth[0], auth[2]), (0xF0, 0), "Success");
        client.session.step(Some(data_of(&auth, mechanism)), &mut Cursor::new(Vec::new())).unwrap();
        peer.ping();
    }
    let mut peer = Peer::dial(&endpoint);
    let properties = [&[METHOD][..], &text("SCRAM-SHA-1")].concat();
    peer.send(&Connect::new(5, "c1").props(&properties).bytes());
    let connack = peer.packet();
    assert!(connack[0] == 0x20 && matches!(connack[3], 0x87 | 0x8C), "{connack:?}");
}

/// An HTTP server that answers each request, by its content, with this.
fn http_server(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            let mut buffer = [0; 1_024];
            while !request.contains("clientid=") {
                let length = stream.read(&mut buffer).unwrap();
                request.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
            write!(stream, "HTTP/1.1 {}", answer(&request)).unwrap();
        }
    });
    url
}

#[test]
fn an_http_server_lets_a_user_in_with_the_access_list_of_its_answer() {
    let url = http_server(|request| {
        let yes = request.contains("username=ann&password=secret&");
        let body = format!(r#"{{"Ok": {yes}, "acl": {{"all": ["ann/#"]}}}}"#);
        format!("200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let mut settings = HttpSettings::default();
    settings.user_url = Some(url);
    settings.answers = HttpAnswers::Json;
    let (_broker, endpoint) = broker(HttpPolicy::new(settings).unwrap());
    let mut ann = Peer::dial(&endpoint);
    ann.send(&connect(4, "c1", "ann", "secret"));
    assert_eq!(ann.packet(), [0x20, 2, 0, 0]);
    ann.send(&subscribe(4, "bob/#", 0));
    assert_eq!(ann.packet(), [0x90, 3, 0, 1, 0x80]);
    let mut bob = Peer::dial(&endpoint);
    bob.send(&connect(4, "c2", "bob", "secret"));
    assert_eq!(bob.packet(), [0x20, 2, 0, 4]);
}

/// The broker does not remember for longer what the policy answers for a while.
#[test]
fn an_answer_about_a_topic_counts_from_its_arrival_to_its_end() {
    let allows = Arc::new(AtomicBool::new(true));
    let now = allows.clone();
    let url = http_server(move |request| {
        let allowed = request.contains("topic=yes&acc=2") && now.load(Ordering::Relaxed);
        let yes = !request.contains("topic=") || allowed;
        format!("{}\r\nContent-Length: 0\r\n\r\n", if yes { "200 OK" } else { "403 Forbidden" })
    });
    let mut settings = HttpSettings::default();
    settings.user_url = Some(url.clone());
    settings.acl_url = Some(url);
    settings.cache = Duration::from_secs(1);
    let policy = HttpPolicy::new(settings).unwrap();
    let (_broker, endpoint) = broker(policy.clone());
    let mut ann = Peer::dial(&endpoint);
    ann.send(&connect(5, "c1", "ann", "secret"));
    assert_eq!(ann.packet()[3], 0);
    let mut publish_to = |topic| {
        ann.send(&publish(5, topic, b"", 1, 1));
        let puback = ann.packet();
        assert_eq!(puback[0], 0x40);
        puback.get(4).copied().unwrap_or_default()
    };
    let begun = SystemTime::now();
    // The first PUBLISH waits for the server, and is not denied because nothing is known yet.
    assert_eq!(publish_to("yes"), 0x10);
    assert_eq!(publish_to("no"), 0x87);
    assert_eq!(policy.counters().requests, 3);
    // A route that the publisher has used before is no way around.
    allows.store(false, Ordering::Relaxed);
    while publish_to("yes") != 0x87 {
        assert!(begun.elapsed().unwrap() < Duration::from_secs(60), "the old answer never ends");
    }
}
