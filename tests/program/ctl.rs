//! `hrotti ctl` against the program: what each command prints, says in JSON and exits with.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::admin::endpoint;
use super::{Ended, Running, file};

/// A program with two listeners, bans and an admin listener, and its Clients.
struct Server {
    program: Running,
    mqtt: String,
    url: String,
}

impl Server {
    fn start(name: &str) -> Server {
        file(&format!("{name}-bans.json"), r#"{"bans": []}"#);
        let bans = format!("{name}-bans.json");
        let text = format!(
            r#"{{"listeners": {{"tcp": {{"url": "tcp://127.0.0.1:0"}}, "ws": {{"url": "ws://127.0.0.1:0/mqtt"}}}},
                "access": {{"anonymous": true, "bansFile": "{bans}"}}, "sysIntervalSecs": 0,
                "admin": {{"url": "http://127.0.0.1:0"}}}}"#
        );
        let path = file(&format!("{name}.json"), &text);
        let mut program = Running::start(&["-conf", &path], None);
        let (_, mqtt) = program.listening();
        let url = endpoint(&mut program);
        let mqtt = mqtt.strip_prefix("tcp://").expect("TCP").to_owned();
        Server { program, mqtt, url }
    }

    fn ctl(&self, args: &[&str]) -> Ended {
        ctl(&[&["--url", &self.url], args].concat())
    }

    /// What a command prints that succeeds.
    fn prints(&self, args: &[&str]) -> String {
        let ended = self.ctl(args);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{args:?}: {ended:?}");
        ended.out
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.prints(&[args, &["--json"]].concat());
        serde_json::from_str(&text).expect("JSON")
    }

    /// The error of a command that does not succeed. It names the server.
    fn fails(&self, args: &[&str]) -> String {
        let ended = self.ctl(args);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{args:?}: {ended:?}");
        assert!(ended.err.starts_with(&self.url), "{args:?}: {ended:?}");
        ended.err
    }

    /// A Client of MQTT 3.1.1 with a subscription at QoS 0.
    fn subscriber(&self, id: &str, filter: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.mqtt).expect("it listens");
        let text = |text: &str| {
            let length = u16::try_from(text.len()).expect("short").to_be_bytes();
            [&length, text.as_bytes()].concat()
        };
        let packet = |kind: u8, body: &[u8]| {
            [&[kind, u8::try_from(body.len()).expect("short")], body].concat()
        };
        let connect = [&[0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0], &text(id)[..]].concat();
        let subscribe = [&[0, 1], &text(filter)[..], &[0]].concat();
        stream.write_all(&packet(0x10, &connect)).expect("it reads");
        stream.write_all(&packet(0x82, &subscribe)).expect("it reads");
        let mut answers = [0; 9];
        stream.read_exact(&mut answers).expect("CONNACK and SUBACK");
        assert_eq!(answers, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 0], "{id:?}");
        stream
    }

    fn stop(self) {
        self.program.signal("TERM");
        assert_eq!(self.program.end().code, Some(0));
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hrotti"));
    command.arg("ctl").args(args).env_remove("HROTTI_ADMIN").env_remove("HROTTI_ADMIN_TOKEN_FILE");
    command
}

fn ctl(args: &[&str]) -> Ended {
    Running::launch(command(args)).end()
}

/// The cells of the row that begins with this name.
fn row<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let cells = |line: &'a str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
    };
    let row = text.lines().map(cells).find(|cells| cells.first() == Some(&name));
    row.unwrap_or_else(|| unreachable!("{name} is not in: {text}"))
}

/// Client Identifiers that a URL, a terminal or a path could misread.
const HOSTILE: [&str; 7] =
    ["a/b?c%d", "..", "sensor one", "x+y&z=1#f", "%2e%2F", "esc\u{1b}[31mé", "\"quoted\"\\"];

#[test]
fn what_it_shows_is_what_the_server_has() {
    let server = Server::start("ctl-shows");
    let _clients = HOSTILE.map(|id| server.subscriber(id, "a/+"));
    assert_eq!(
        server.prints(&["publish", "a/b", "hello", "--retain"]),
        "published to 7 Sessions\n"
    );
    assert_eq!(server.prints(&["publish", "c"]), "published; no subscription matched\n");

    let status = server.prints(&["status"]);
    assert_eq!(row(&status, "connections"), ["connections", "7"]);
    assert_eq!(row(&status, "subscriptions"), ["subscriptions", "7"]);
    assert_eq!(row(&status, "listeners"), ["listeners", "2"]);
    assert_eq!(row(&status, "retained"), ["retained", "1 messages, 8 bytes"]);
    assert!(!status.starts_with('\n') && !status.contains(" - "), "{status}");
    assert_eq!(server.json(&["status"])["ledger"]["offered"], 8);

    let ledger = server.prints(&["ledger"]);
    assert!(ledger.starts_with("offered 8 = "), "{ledger}");
    assert_eq!(row(&ledger, "filtered: no subscription"), ["filtered: no subscription", "1"]);
    assert_eq!(server.json(&["ledger"])["filtered"]["total"], 1);

    let clients = server.prints(&["clients", "--connected"]);
    let shown = row(&clients, "sensor one");
    assert_eq!((shown[1], shown[2], shown[4], shown[5]), ("-", "yes", "tcp", "3.1.1"));
    assert_eq!(server.json(&["clients", "--search", "sensor o"])["count"], 1);
    assert_eq!(server.json(&["clients", "--slow"])["count"], 0);
    assert!(server.prints(&["clients", "--limit", "2", "--page", "2"]).contains("2 of 7; page 2"));

    let subscriptions = server.prints(&["subscriptions", "--topic", "a/b"]);
    assert_eq!(row(&subscriptions, ".."), ["..", "a/+", "-", "0"]);
    assert_eq!(server.json(&["subscriptions", "--topic", "b"])["count"], 0);

    let second = server.json(&["subscriptions", "--limit", "4", "--page", "2"]);
    assert_eq!(second["data"].as_array().map(Vec::len), Some(3));
    assert_eq!(server.json(&["retained", "--limit", "1", "--page", "2"])["page"], 2);
    assert_eq!(server.json(&["bans", "--limit", "3"])["limit"], 3);
    assert_eq!(row(&server.prints(&["retained"]), "a/b"), ["a/b", "0", "5", "hello", "-"]);
    assert_eq!(server.json(&["retained", "+/c"])["count"], 0);
    assert_eq!(
        row(&server.prints(&["limits"]), "limits.sessionsMax")[2..],
        ["7", "1000000", "sessions", "0"]
    );
    let why = server.prints(&["why", "sensor one", "b"]);
    assert!(why.starts_with("a message to \"b\" would not reach the Session of \"sensor"), "{why}");
    server.stop();
}

#[test]
fn any_client_identifier_reaches_the_server_as_it_is() {
    let server = Server::start("ctl-hostile");
    let _clients = HOSTILE.map(|id| server.subscriber(id, "a/+"));
    for id in HOSTILE {
        assert_eq!(server.json(&["clients", id])["clientId"], id);
        let text = server.prints(&["clients", id]);
        assert_eq!(row(&text, "connected"), ["connected", "yes"]);
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let bans = server.json(&["bans", "--client", id, "--reason", "test"]);
        assert_eq!((&bans["count"], &bans["data"][0]["clientId"]), (&1.into(), &id.into()));
        assert_eq!(server.json(&["bans", "--client", id, "--end"])["count"], 0);
        assert_eq!(server.fails(&["disconnect", id]).matches("404").count(), 1, "the ban did it");
    }
    let _again = server.subscriber("a/b?c%d", "a/+");
    assert_eq!(server.prints(&["disconnect", "a/b?c%d"]), "disconnected \"a/b?c%d\"\n");
    assert!(!server.prints(&["clients"]).contains('\u{1b}'));
    server.stop();
}

#[test]
fn it_steers_the_server() {
    let server = Server::start("ctl-steers");
    assert_eq!(server.prints(&["ready"]), "ready\n");
    let listeners = server.prints(&["listeners", "--stop", "ws"]);
    assert_eq!(row(&listeners, "ws")[2], "stopped");
    assert!(server.fails(&["ready"]).contains("\"ws\" is stopped"));
    assert_eq!(row(&server.prints(&["listeners", "--start", "ws"]), "ws")[2], "running");
    assert!(server.fails(&["listeners", "--start", "nope"]).contains("\"nope\""));
    server.prints(&["publish", "a", "x", "--retain", "--qos", "1"]);
    assert_eq!(server.prints(&["retained", "a/#", "--clear"]), "cleared 1 retained messages\n");
    assert_eq!(server.prints(&["reload", "--dry-run"]), "nothing changed\n");
    assert_eq!(server.prints(&["reload"]), "nothing changed\n");
    let bans = server.prints(&["bans", "--address", "192.0.2.0/24", "--seconds", "60"]);
    assert!(bans.contains("192.0.2.0/24") && bans.contains("the admin listener"), "{bans}");
    assert!(server.fails(&["bans", "--address", "nonsense"]).contains("192.0.2.1"));
    server.stop();
}

#[test]
fn errors_name_the_remedy_and_have_their_exit_codes() {
    for args in [
        &["bans", "--end"][..],
        &["bans", "--client", "a", "--user", "b"],
        &["bans", "--client", ""],
        &["disconnect", ""],
        &["clients", ""],
        &["publish", "a", "b", "--qos", "3"],
        &["listeners", "--start", "a", "--stop", "a"],
        &["nonsense"],
    ] {
        let ended = ctl(args);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{args:?}: {ended:?}");
    }
    // Nothing listens on the port of a listener that has gone. Options may stand behind the command.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
    let url = format!("http://{}", free.expect("its address"));
    let ended = ctl(&["status", "--url", &url]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains(&url) && ended.err.contains("--url"), "{ended:?}");
    for url in
        ["https://127.0.0.1:1", "unix:///run/x", "127.0.0.1:9884", "http://127.0.0.1:1?x", ""]
    {
        let ended = ctl(&["--url", url, "ready"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.starts_with(&format!("--url: {url:?} cannot be asked")), "{ended:?}");
    }
    let ended = ctl(&["status", "--token-file", "/nonexistent"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.starts_with("/nonexistent: cannot be read"), "{ended:?}");
}

#[test]
fn a_stream_ends_with_its_reader_although_nothing_happens() {
    let server = Server::start("ctl-streams");
    server.prints(&["publish", "a/b", "he\u{1b}llo", "--retain"]);
    let mut tail = command(&["--url", &server.url, "tail", "a/#"]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut first = String::new();
    let mut out = BufReader::new(tail.stdout.take().expect("its standard output"));
    out.read_line(&mut first).expect("UTF-8");
    assert!(first.ends_with(" a/b (QoS 0 retained) he\\u{1b}llo\n"), "{first}");
    // No further message comes: the end of the reader alone ends it.
    drop(out);
    assert_eq!(tail.wait().expect("its end").code(), Some(0));
    let refused = server.fails(&["tail", "$share/group/a/#"]);
    assert!(refused.contains("400") && refused.contains("write \"a/#\""), "{refused}");
    server.stop();
}
