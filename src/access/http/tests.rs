//! A policy and a server for each test.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use futures_lite::future::block_on;

use super::*;
use crate::transport::PeerInfo;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A server for a test: for each request, `answer` writes to its socket. It ends with the process.
struct TestServer {
    url: String,
    /// Path and content of each request.
    requests: Receiver<(String, String)>,
}

impl TestServer {
    fn new(answer: impl Fn(&str, &str, &mut TcpStream) + Send + Sync + 'static) -> TestServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sent, requests) = mpsc::channel();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (sent, answer) = (sent.clone(), answer.clone());
                thread::spawn(move || {
                    let Some((path, content)) = request(&mut stream) else { return };
                    let _ = sent.send((path.clone(), content.clone()));
                    answer(&path, &content, &mut stream);
                });
            }
        });
        TestServer { url, requests }
    }

    /// A server whose answer depends on the content.
    fn with(answer: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> TestServer {
        TestServer::new(move |path, content, stream| {
            let _ = stream.write_all(answer(path, content).as_bytes());
        })
    }

    fn url(&self, path: &str) -> Option<String> {
        Some(format!("{}{path}", self.url))
    }

    fn next(&self) -> (String, String) {
        self.requests.recv_timeout(LONG).expect("a request")
    }
}

/// Path and content of a request.
fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, content)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
            if content.len() >= length.parse().ok()? {
                let path = head.split(' ').nth(1)?.to_owned();
                return Some((path, content.to_owned()));
            }
        }
        let mut buffer = [0; 1_024];
        let length = stream.read(&mut buffer).ok()?;
        if length == 0 {
            return None;
        }
        read.extend_from_slice(&buffer[..length]);
    }
}

fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
}

fn json(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

fn policy(change: impl FnOnce(&mut HttpSettings)) -> Arc<HttpPolicy> {
    let mut settings = HttpSettings { timeout: LONG, ..HttpSettings::default() };
    change(&mut settings);
    Arc::new(HttpPolicy::new(settings).expect("valid settings"))
}

fn shown(user: &str, password: &[u8]) -> Credentials {
    Credentials::new("c1", PeerInfo::from("a test")).with_password(user, password)
}

fn connect(policy: &Arc<HttpPolicy>, user: &str, password: &[u8]) -> Result<Identity, Refusal> {
    match block_on(policy.clone().authenticate(shown(user, password))) {
        Answer::Accept { identity, .. } => Ok(identity),
        Answer::Refuse(refusal) => Err(refusal),
        other => unreachable!("{other:?}"),
    }
}

fn ask(policy: &HttpPolicy, identity: &Identity, action: Action, topic: &str) -> Decision {
    policy.authorize(&Request { identity, client_id: "c1", action, topic })
}

/// Waits until the server has answered, then asks.
fn ask_prepared(policy: &HttpPolicy, identity: &Identity, action: Action, topic: &str) -> bool {
    if let Some(prepared) = policy.prepare(&Request { identity, client_id: "c1", action, topic }) {
        block_on(prepared);
    }
    ask(policy, identity, action, topic).is_allowed()
}

fn ann() -> Identity {
    Identity::new(Rule::named("a test")).with_user_name("ann")
}

#[test]
fn users_and_superusers_are_asked_for_at_connect() {
    let server = TestServer::with(|path, content| match (path, content) {
        ("/user?key=7", "username=ann&password=sec%26ret&clientid=c1") => status(200),
        ("/user?key=7", "username=root&password=x&clientid=c1") => status(200),
        ("/super", "username=root") => status(200),
        _ => status(401),
    });
    let policy = policy(|settings| {
        settings.user_url = server.url("/user?key=7");
        settings.superuser_url = server.url("/super");
    });
    let ann = connect(&policy, "ann", b"sec&ret").expect("the right password");
    assert_eq!(ann.user_name(), Some("ann"));
    assert_eq!(
        ann.rule().to_string(),
        format!("{}/user: it says yes", server.url),
        "without the query"
    );
    assert_eq!(ask(&policy, &ann, Action::Publish, "a"), Decision::NoAnswer);
    let root = connect(&policy, "root", b"x").expect("the right password");
    assert!(ask(&policy, &root, Action::Subscribe, "#").is_allowed());
    let refusal = connect(&policy, "ann", b"wrong").unwrap_err();
    assert_eq!(refusal.reason(), ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    let requests: Vec<String> = (0..5).map(|_| server.next().0).collect();
    assert_eq!(requests, ["/user?key=7", "/super", "/user?key=7", "/super", "/user?key=7"]);
    assert_eq!(policy.counters(), HttpCounters { requests: 5, failed: 0, refused: 0 });
}

#[test]
fn an_answer_to_a_password_is_not_kept() {
    let server = TestServer::with(|_, _| status(200));
    let policy = policy(|settings| settings.user_url = server.url("/"));
    for _ in 0..3 {
        connect(&policy, "ann", b"secret").expect("a yes");
        server.next();
    }
}

#[test]
fn whatever_is_no_clear_yes_refuses_pitfall_10() {
    for (what, answer) in [
        ("a server error", status(500)),
        (
            "a redirection",
            "HTTP/1.1 302 Found\r\nLocation: /yes\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ),
        ("no content", status(204)),
        ("no HTTP", "200 OK\r\n\r\n".to_owned()),
        ("nothing", String::new()),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le".to_owned()),
        ("an endless head", format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(1_000_000))),
        ("many headers", format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: x\r\n".repeat(1_000))),
        ("a strange status", status(299)),
    ] {
        let server = TestServer::with(
            move |path, _| if path == "/yes" { status(200) } else { answer.clone() },
        );
        let policy = policy(|settings| settings.user_url = server.url("/"));
        let refusal = connect(&policy, "ann", b"secret").expect_err(what);
        assert_eq!(refusal.reason(), ReasonCode::SERVER_UNAVAILABLE, "{what}");
        assert_eq!(policy.counters().failed, 1, "{what}");
        server.next();
        assert!(server.requests.try_recv().is_err(), "{what}: a second request");
    }
}

#[test]
fn a_server_that_accepts_no_connection_refuses() {
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let url = format!("http://{}/", gone.expect("a free port"));
    let policy = policy(|settings| settings.user_url = Some(url));
    assert!(connect(&policy, "ann", b"secret").is_err());
}

#[test]
fn a_hung_server_and_a_dripping_one_refuse_at_the_deadline_pitfall_20() {
    let hung = TestServer::new(|_, _, stream| {
        let _ = stream.read(&mut [0]); // until the policy gives up
    });
    let dripping = TestServer::new(|_, _, stream| {
        let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nA: ");
        while stream.write_all(b"x").is_ok() {
            let _ = stream.read(&mut [0]); // a moment
        }
    });
    for server in [&hung, &dripping] {
        let policy = policy(|settings| {
            settings.user_url = server.url("/");
            settings.acl_url = server.url("/");
            settings.timeout = Duration::from_millis(200);
        });
        assert!(connect(&policy, "ann", b"secret").is_err());
        assert!(!ask_prepared(&policy, &ann(), Action::Publish, "a"));
        assert_eq!(policy.counters().failed, 2);
    }
}

#[test]
fn a_hung_server_holds_up_no_thread_but_the_policys() {
    let server = TestServer::new(|_, _, stream| {
        let _ = stream.read(&mut [0]);
    });
    let policy = policy(|settings| {
        settings.user_url = server.url("/");
        settings.acl_url = server.url("/");
        settings.requests_max = 1;
        settings.waiting_max = 1;
    });
    // Each of these would wait for a minute if it waited.
    let pending = policy.clone().authenticate(shown("ann", b"secret"));
    server.next();
    for topic in ["a", "b", "c"] {
        assert!(!ask(&policy, &ann(), Action::Publish, topic).is_allowed());
    }
    // Nothing more may wait: the answer is no at once.
    let refused = connect(&policy, "bob", b"secret").expect_err("a busy policy");
    assert_eq!(refused.reason(), ReasonCode::SERVER_BUSY);
    assert!(policy.counters().refused >= 1);
    drop(pending);
}

#[test]
fn an_answer_that_is_awaited_outlives_the_policy_in_its_place() {
    let server = TestServer::with(|_, _| status(200));
    let policy = policy(|settings| settings.user_url = server.url("/"));
    let answer = block_on(policy.authenticate(shown("ann", b"secret")));
    assert!(matches!(answer, Answer::Accept { .. }), "{answer:?}");
}

#[test]
fn json_answers_carry_yes_no_and_the_access_list() {
    let server = TestServer::with(|_, content| {
        assert!(content.starts_with('{'), "{content}");
        match content {
            text if text.contains("\"ann\"") => {
                json(r#"{"Ok": true, "acl": {"pub": ["${username}/#"], "sub": ["in"]}}"#)
            }
            text if text.contains("\"bob\"") => {
                let body = r#"{"Ok": true}"#;
                let (one, two) = body.split_at(5);
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                    two.len()
                )
            }
            text if text.contains("\"closed\"") => r#"HTTP/1.0 200 OK

{"Ok": true, "acl": null}"#
                .replace('\n', "\r\n"),
            text if text.contains("\"half\"") => json(r#"{"Ok": true, "acl": ["a"]}"#),
            text if text.contains("\"long\"") => {
                json(&format!(r#"{{"Ok": true, "pad": "{}"}}"#, "x".repeat(1_000)))
            }
            text if text.contains("\"early\"") => {
                format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", r#"{"Ok": true}"#)
            }
            text if text.contains("\"chunks\"") => format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{}",
                r#"{"Ok": true}"#
            ),
            _ => json(r#"{"Ok": false, "Error": "unknown"}"#),
        }
    });
    let policy = policy(|settings| {
        settings.user_url = server.url("/");
        settings.acl_url = server.url("/acl");
        settings.form = HttpForm::Json;
        settings.answers = HttpAnswers::Json;
        settings.answer_bytes_max = 500;
    });
    let ann = connect(&policy, "ann", b"x").expect("a yes");
    assert!(ask(&policy, &ann, Action::Publish, "ann/lamp").is_allowed());
    assert!(ask(&policy, &ann, Action::Receive, "in").is_allowed());
    assert!(!ask(&policy, &ann, Action::Publish, "bob/lamp").is_allowed());
    let request = Request { identity: &ann, client_id: "c1", action: Action::Publish, topic: "x" };
    assert!(policy.prepare(&request).is_none(), "a list decides without the server");
    for user in ["bob", "closed"] {
        assert!(connect(&policy, user, b"x").is_ok(), "{user}");
    }
    for user in ["half", "long", "early", "chunks", "carl"] {
        assert!(connect(&policy, user, b"x").is_err(), "{user}");
    }
    assert!(connect(&policy, "ann", b"\xff").is_err(), "JSON cannot say this password");
}

#[test]
fn topics_are_asked_for_once_while_the_answer_is_good() {
    let server = TestServer::with(|_, content| match content {
        "username=ann&clientid=c1&topic=out%2Fa&acc=2"
        | "username=ann&clientid=c1&topic=in%2F%23&acc=4"
        | "username=ann&clientid=c1&topic=in%2Fa&acc=1" => status(200),
        _ => status(403),
    });
    let policy = policy(|settings| settings.acl_url = server.url("/acl"));
    let ann = ann();
    for _ in 0..3 {
        for (action, topic, allowed) in [
            (Action::Publish, "out/a", true),
            (Action::Publish, "out/b", false),
            (Action::Subscribe, "in/#", true),
            (Action::Receive, "in/a", true),
            (Action::Receive, "out/a", false),
            (Action::Unsubscribe, "in/#", true),
        ] {
            assert_eq!(ask_prepared(&policy, &ann, action, topic), allowed, "{action} {topic}");
        }
    }
    assert_eq!(policy.counters(), HttpCounters { requests: 5, failed: 0, refused: 0 });
    let request =
        Request { identity: &ann, client_id: "c", action: Action::Publish, topic: "out/a" };
    let decision = policy.authorize(&request);
    assert!(decision.rule().is_some_and(|rule| !rule.is_remembered()), "{decision:?}");
    // Another user, and another Client of the same user, are other questions.
    let bob = Identity::new(Rule::named("a test")).with_user_name("bob");
    assert!(!ask_prepared(&policy, &bob, Action::Publish, "out/a"));
    let other =
        Request { identity: &ann, client_id: "c2", action: Action::Publish, topic: "out/a" };
    assert!(!policy.authorize(&other).is_allowed());
}

#[test]
fn a_subscription_to_one_topic_asks_for_its_messages_too() {
    let server = TestServer::with(|_, _| status(200));
    let policy = policy(|settings| settings.acl_url = server.url("/acl"));
    assert!(ask_prepared(&policy, &ann(), Action::Subscribe, "a"));
    assert!(ask(&policy, &ann(), Action::Receive, "a").is_allowed());
    assert!(ask_prepared(&policy, &ann(), Action::Subscribe, "b/+"));
    assert!(!ask(&policy, &ann(), Action::Receive, "b/+").is_allowed());
}

#[test]
fn a_topic_without_an_answer_is_denied_and_asked_for_in_the_background() {
    let server = TestServer::with(|_, _| status(200));
    let policy = policy(|settings| settings.acl_url = server.url("/acl"));
    let decision = ask(&policy, &ann(), Action::Publish, "a");
    assert_eq!(decision.rule().map(Rule::text), Some("it has not been asked yet"));
    assert_eq!(server.next().1, "username=ann&clientid=c1&topic=a&acc=2");
    let begun = Instant::now();
    while !ask(&policy, &ann(), Action::Publish, "a").is_allowed() {
        assert!(begun.elapsed() < LONG, "the answer is never used");
        thread::yield_now();
    }
    assert_eq!(policy.counters().requests, 1, "asked once, however often it was denied meanwhile");
}

/// Makes ann's answer about publishing to `a` due, as time would.
fn make_due(policy: &HttpPolicy) {
    let (user, client_id) = ("ann".to_owned(), "c1".to_owned());
    let asked = Asked { user, client_id, topic: "a".to_owned(), acc: 2, address: None };
    lock(&policy.shared.cache).refresh_later(&asked.key(), Instant::now());
}

#[test]
fn a_yes_that_ends_soon_is_good_while_it_is_asked_for_again() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let server = TestServer::with(move |_, _| match count.fetch_add(1, Ordering::SeqCst) {
        0 => status(200),
        _ => {
            let _ = lock(&held).recv();
            status(403)
        }
    });
    let policy = policy(|settings| settings.acl_url = server.url("/acl"));
    assert!(ask_prepared(&policy, &ann(), Action::Publish, "a"));
    assert_eq!(server.next().1, "username=ann&clientid=c1&topic=a&acc=2");
    assert!(ask(&policy, &ann(), Action::Publish, "a").is_allowed());
    make_due(&policy);
    for _ in 0..3 {
        assert!(ask(&policy, &ann(), Action::Publish, "a").is_allowed());
    }
    server.next();
    assert!(ask(&policy, &ann(), Action::Publish, "a").is_allowed(), "no answer yet");
    drop(release);
    let begun = Instant::now();
    while ask(&policy, &ann(), Action::Publish, "a").is_allowed() {
        assert!(begun.elapsed() < LONG, "the no is never used");
        thread::yield_now();
    }
    assert_eq!(policy.counters().requests, 2, "asked for once");
}

#[test]
fn a_failure_takes_no_yes_away_that_is_still_good_and_gives_none_pitfall_10() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let server = TestServer::with(move |_, _| {
        status(if count.fetch_add(1, Ordering::SeqCst) == 0 { 200 } else { 500 })
    });
    let policy = policy(|settings| settings.acl_url = server.url("/acl"));
    assert!(ask_prepared(&policy, &ann(), Action::Publish, "a"));
    make_due(&policy);
    assert!(ask(&policy, &ann(), Action::Publish, "a").is_allowed());
    let begun = Instant::now();
    while policy.counters().failed == 0 {
        assert!(begun.elapsed() < LONG, "it is never asked again");
        thread::yield_now();
    }
    assert!(ask(&policy, &ann(), Action::Publish, "a").is_allowed());
    assert!(!ask_prepared(&policy, &ann(), Action::Publish, "b"));
}

#[test]
fn an_identity_is_current_as_long_as_the_same_server_is_asked() {
    use crate::access::testing::validity;
    let (server, other) =
        (TestServer::with(|_, _| status(200)), TestServer::with(|_, _| status(200)));
    let policy_of = |server: &TestServer| policy(|settings| settings.user_url = server.url("/"));
    let ann = connect(&policy_of(&server), "ann", b"secret").expect("a yes");
    assert_eq!(validity(&*policy_of(&server), &ann), Validity::Current);
    assert_eq!(validity(&*policy_of(&other), &ann), Validity::Gone);
    let other = Identity::new(Rule::named("a certificate"));
    assert_eq!(validity(&*policy_of(&server), &other), Validity::Foreign);
}

#[test]
fn answers_end_at_different_times_within_a_tenth() {
    let policy = policy(|settings| settings.acl_url = Some("http://127.0.0.1/".to_owned()));
    let kept: Vec<_> = (0_u16..200).map(|key| policy.shared.kept(&key.to_be_bytes())).collect();
    let (least, most) = (kept.iter().min(), kept.iter().max());
    assert!(least >= Some(&Duration::from_secs(270)) && most <= Some(&Duration::from_secs(330)));
    assert!(least != most);
}

#[test]
fn without_a_user_name_or_with_a_method_the_next_policy_decides() {
    let server = TestServer::with(|_, _| status(200));
    let policy = policy(|settings| settings.user_url = server.url("/"));
    let mut anonymous = shown("ann", b"x");
    anonymous.user_name = None;
    let mut method = shown("ann", b"x");
    method.authentication_method = Some("SCRAM-SHA-256".into());
    for shown in [anonymous, shown("", b"x"), method] {
        let answer = block_on(policy.clone().authenticate(shown));
        assert!(matches!(answer, Answer::NoAnswer), "{answer:?}");
    }
}

/// Servers behind the server, LDAP among them, take an empty password for an anonymous bind that succeeds.
#[test]
fn an_empty_password_is_refused_without_a_question_pitfall_19() {
    let server = TestServer::with(|_, _| status(200));
    let policy = policy(|settings| settings.user_url = server.url("/"));
    let mut missing = shown("ann", b"");
    missing.password = None;
    for shown in [shown("ann", b""), missing] {
        let answer = block_on(policy.clone().authenticate(shown));
        assert!(matches!(answer, Answer::Refuse(_)), "{answer:?}");
    }
    assert_eq!(policy.counters().requests, 0);
}

#[test]
fn parts_of_a_question_are_kept_apart() {
    let asked = |user: &str, client: &str, topic: &str, acc| Asked {
        user: user.to_owned(),
        client_id: client.to_owned(),
        topic: topic.to_owned(),
        acc,
        address: None,
    };
    let key = asked("ann", "c1", "t", 1).key();
    for other in [
        asked("annc", "1", "t", 1),
        asked("ann", "c1t", "", 1),
        asked("", "annc1", "t", 1),
        asked("ann", "c1", "t", 2),
    ] {
        assert_ne!(other.key(), key);
    }
}

#[test]
fn wrong_settings_are_refused_in_one_line_with_key_and_remedy() {
    let with = |user: Option<&str>, acl: Option<&str>| {
        let (user_url, acl_url) = (user.map(str::to_owned), acl.map(str::to_owned));
        let settings = HttpSettings { user_url, acl_url, ..HttpSettings::default() };
        HttpPolicy::new(settings).map(|_| ()).unwrap_err()
    };
    assert!(with(None, None).starts_with("access.http: there is neither"));
    assert!(
        with(Some("https://h/"), None).starts_with("access.http.userUrl: https is not supported")
    );
    assert!(with(None, Some("nonsense")).starts_with("access.http.aclUrl: relative URL"));
}

#[test]
fn debug_of_the_settings_shows_no_query_pitfall_19() {
    let settings = HttpSettings {
        user_url: Some("http://127.0.0.1/user?key=secret".to_owned()),
        acl_url: Some("http://ann:secret@127.0.0.1/acl#secret".to_owned()),
        superuser_url: Some("http://127.0.0.1?secret".to_owned()),
        ..HttpSettings::default()
    };
    let text = format!("{settings:?}");
    assert!(text.contains("http://127.0.0.1/user") && !text.contains("secret"), "{text}");
}

#[test]
fn debug_shows_neither_query_nor_password_pitfall_19() {
    let policy =
        policy(|settings| settings.user_url = Some("http://127.0.0.1/user?key=secret".to_owned()));
    let text = format!("{policy:?}");
    assert!(text.contains("http://127.0.0.1/user") && !text.contains("secret"), "{text}");
}
