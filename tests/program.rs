//! The program as its users meet it: what it reads, prints and exits with.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

#[cfg(unix)]
#[path = "program/access.rs"]
mod access;
#[path = "program/admin.rs"]
mod admin;
#[cfg(unix)]
#[path = "program/ctl.rs"]
mod ctl;
#[path = "program/descriptors.rs"]
mod descriptors;
#[path = "program/explain.rs"]
mod explain;
#[path = "program/log.rs"]
mod log;
#[cfg(unix)]
#[path = "program/reload.rs"]
mod reload;
#[cfg(target_os = "linux")]
#[path = "program/stopped.rs"]
mod stopped;
#[cfg(target_os = "linux")]
#[path = "program/systemd.rs"]
mod systemd;

/// Longer than any run takes; a run that hangs is ended, and its test fails.
const HANGS: Duration = Duration::from_secs(60);

/// What a run printed, and how it ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A program that runs.
struct Running {
    pid: u32,
    out: BufReader<ChildStdout>,
    err: JoinHandle<String>,
    end: JoinHandle<Option<i32>>,
    leash: Leash,
}

/// Ends a program that its test leaves running, because it failed.
struct Leash {
    pid: u32,
    ended: Arc<AtomicBool>,
}

impl Drop for Leash {
    fn drop(&mut self) {
        if !self.ended.load(Ordering::SeqCst) {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {}", self.pid)]).status();
        }
    }
}

impl Running {
    fn start(args: &[&str], url: Option<&str>) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hrotti"));
        command.args(args).env_remove("HROTTI_URL").env_remove("NOTIFY_SOCKET");
        if let Some(url) = url {
            command.env("HROTTI_URL", url);
        }
        Running::launch(command)
    }

    fn launch(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let pid = child.id();
        let out = BufReader::new(child.stdout.take().expect("its standard output"));
        let mut stderr = child.stderr.take().expect("its standard error");
        let err = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("UTF-8");
            text
        });
        let ended = Arc::new(AtomicBool::new(false));
        let end = watch(child, ended.clone());
        Running { pid, out, err, end, leash: Leash { pid, ended } }
    }

    /// The address that the next such line of the standard output says a listener has. Log records of a
    /// listener that accepts already may stand before it.
    fn listening(&mut self) -> (String, String) {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let read = self.out.read_line(&mut line).expect("UTF-8");
            assert!(read > 0, "the standard output ended: {seen}");
            if let Some((name, endpoint)) =
                line.trim_end().strip_prefix("listening: ").and_then(|rest| rest.split_once(' '))
            {
                return (name.to_owned(), endpoint.to_owned());
            }
            seen.push_str(&line);
        }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid);
        let status = Command::new("sh").args(["-c", &kill]).status().expect("sh");
        assert!(status.success(), "{kill}");
    }

    fn end(self) -> Ended {
        let Running { mut out, err, end, leash: _leash, .. } = self;
        let mut text = String::new();
        out.read_to_string(&mut text).expect("UTF-8");
        Ended {
            code: end.join().expect("the program's end"),
            out: text,
            err: err.join().expect("its standard error"),
        }
    }

    /// As [`Running::end`], with a standard output without a reader.
    fn end_unread(self) -> Ended {
        let Running { out, err, end, leash: _leash, .. } = self;
        drop(out);
        let code = end.join().expect("the program's end");
        Ended { code, out: String::new(), err: err.join().expect("its standard error") }
    }
}

/// Waits for the child; ends it where it hangs.
fn watch(mut child: Child, ended: Arc<AtomicBool>) -> JoinHandle<Option<i32>> {
    let pid = child.id();
    let (alive, end): (Sender<()>, _) = mpsc::channel();
    thread::spawn(move || {
        if end.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout) {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
        }
    });
    thread::spawn(move || {
        let status = child.wait().expect("the program can be waited for");
        ended.store(true, Ordering::SeqCst);
        drop(alive);
        status.code()
    })
}

fn run(args: &[&str], url: Option<&str>) -> Ended {
    Running::start(args, url).end()
}

/// A file of this test alone.
fn file(name: &str, text: impl AsRef<[u8]>) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("a file for the test");
    path.into_os_string().into_string().expect("a path in UTF-8")
}

/// A directory of this test alone.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a directory for the test");
    path
}

/// A file with these permissions.
fn write_file(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("a file for the test");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    }
    #[cfg(not(unix))]
    let _ = mode;
}

/// As [`file`], for its owner alone.
fn private_file(name: &str, text: &str) -> String {
    let path = file(name, text);
    write_file(Path::new(&path), text, 0o600);
    path
}

/// Nothing ran: exit code 1, nothing on the standard output, and one line with every part.
fn assert_refused(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.out, "", "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    for part in parts {
        assert!(ended.err.contains(part), "{part:?} is not in {ended:?}");
    }
}

/// Each of the files, by name and text, is refused with these parts of one line, by a check and by the start.
fn assert_all_refused(cases: &[(&str, String, &[&str])]) {
    for (name, text, parts) in cases {
        let path = file(&format!("{name}.json"), text);
        let prefix = format!("{path}: ");
        for args in [&["-conf", &path][..], &["-check", "-conf", &path]] {
            let ended = run(args, None);
            assert_refused(&ended, parts);
            assert!(ended.err.starts_with(&prefix), "{ended:?}");
        }
    }
}

/// An address of the name `localhost`, with port 9.
fn localhost() -> String {
    let mut addresses = ("localhost", 9).to_socket_addrs().expect("every machine has it");
    addresses.next().expect("an address").to_string()
}

#[test]
fn every_wrong_configuration_is_refused_with_file_key_value_and_remedy() {
    let tcp = |url: &str| format!(r#"{{"listeners": {{"a": {{"url": "{url}"}}}}}}"#);
    let cases: &[(&str, String, &[&str])] = &[
        ("empty", String::new(), &["is empty", "begin with"]),
        ("not-json", "listen: 1883".to_owned(), &["line 1", "not JSON"]),
        ("comma", "{\"listeners\": {},}".to_owned(), &["line 1, column 18", "remove the comma"]),
        ("no-listeners", "{}".to_owned(), &["listeners: is missing", "tcp://0.0.0.0:1883"]),
        ("empty-listeners", r#"{"listeners": {}}"#.to_owned(), &["listeners: is empty"]),
        (
            "unknown-key",
            r#"{"maxQueDepth": 7, "listeners": {"a": {"url": "tcp://127.0.0.1:0"}}}"#.to_owned(),
            &["maxQueDepth: ", "is 7", "did you mean \"maxQueueDepth\"?"],
        ),
        (
            "wrong-type",
            r#"{"maxQueueDepth": "many", "listeners": {"a": {"url": "tcp://127.0.0.1:0"}}}"#
                .to_owned(),
            &["maxQueueDepth: ", "not a string (\"many\")", "write a whole number of messages"],
        ),
        (
            "depth-0",
            r#"{"maxQueueDepth": 0, "listeners": {"a": {"url": "tcp://127.0.0.1:0"}}}"#.to_owned(),
            &["maxQueueDepth: ", "0 is out of range", "from 1 to"],
        ),
        (
            "bad-url",
            tcp("127.0.0.1:1883"),
            &["listeners.a.url: ", "\"127.0.0.1:1883\"", "write tcp://"],
        ),
        (
            "scheme",
            tcp("wss://127.0.0.1:0"),
            &["listeners.a.url: ", "\"wss://127.0.0.1:0/\"", "needs a certificate"],
        ),
        (
            "comment",
            "{\"listeners\": {} // none\n}".to_owned(),
            &["line 1, column 18", "remove the comment"],
        ),
        (
            "no-whole-number",
            r#"{"maxQueueDepth": 1.5, "listeners": {"a": {"url": "tcp://127.0.0.1:0"}}}"#
                .to_owned(),
            &["maxQueueDepth: ", "1.5 is no whole number", "from 1 to"],
        ),
    ];
    assert_all_refused(cases);
}

/// What a check finds is what the start finds, in the same words.
#[test]
fn every_address_that_cannot_be_bound_is_refused_by_a_check_and_by_the_start() {
    let tcp = |url: &str| format!(r#"{{"listeners": {{"a": {{"url": "{url}"}}}}}}"#);
    let cases: &[(&str, String, &[&str])] = &[
        (
            "every-interface-twice",
            r#"{"listeners": {"a": {"url": "tcp://:9"}, "b": {"url": "ws://127.0.0.1:9"}}}"#.to_owned(),
            &["listeners.b.url: ", "ws://127.0.0.1:9", "listener \"a\"", "tcp://*:9"],
        ),
        (
            "name-and-address",
            format!(
                r#"{{"listeners": {{"a": {{"url": "tcp://localhost:9"}}, "b": {{"url": "ws://{}"}}}}}}"#,
                localhost()
            ),
            &["listeners.b.url: ", &localhost(), "listener \"a\"", "port of its own"],
        ),
        (
            "unknown-name",
            tcp("tcp://no.such.host.invalid:0"),
            &["listeners.a.url: ", "tcp://no.such.host.invalid:0", "check the host"],
        ),
        (
            "no-interface",
            tcp("tcp://[fe80::1]:0"),
            &["listeners.a.url: ", "tcp://[fe80::1]:0", "needs its interface", "%eth0"],
        ),
        (
            "unknown-interface",
            tcp("tcp://[fe80::1%none]:0"),
            &["listeners.a.url: ", "[fe80::1%25none]", "this machine has no interface \"none\""],
        ),
        (
            "elsewhere",
            tcp("tcp://203.0.113.1:0"),
            &["listeners.a.url: ", "tcp://203.0.113.1:0", "no interface of this machine"],
        ),
        (
            "same-address",
            r#"{"listeners": {"a": {"url": "tcp://127.0.0.1:9"}, "b": {"url": "ws://127.0.0.1:9"}}}"#
                .to_owned(),
            &["listeners.b.url: ", "ws://127.0.0.1:9", "listener \"a\"", "port of its own"],
        ),
    ];
    assert_all_refused(cases);
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    assert_refused(
        &run(&["-conf", "no/such/file.json"], None),
        &["no/such/file.json: ", "check the path"],
    );
    let directory = env!("CARGO_TARGET_TMPDIR");
    assert_refused(&run(&["-conf", directory], None), &[directory, "cannot be read"]);
    let latin = file("latin.json", b"{\"listeners\": \"\xe9\"}");
    assert_refused(
        &run(&["-conf", &latin], None),
        &[&latin, "byte 15 is no UTF-8", "save the file"],
    );
}

#[test]
fn every_error_of_a_file_is_reported_at_once() {
    let path = file(
        "many.json",
        r#"{"maxQueueDepth": 0, "listeners": {"a": {"url": "x"}, "b": {}}, "workers": 0, "x": 1}"#,
    );
    let ended = run(&["-conf", &path], None);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 5, "{ended:?}");
    assert!(ended.err.lines().all(|line| line.starts_with(&path)), "{ended:?}");
}

#[test]
fn a_wrong_variable_is_refused() {
    for (url, part) in [
        ("tcp:", "has no host"),
        ("1883", "is no URL"),
        ("mqtts://127.0.0.1", "needs a certificate"),
        ("tcp://203.0.113.1:0", "no interface"),
        ("tcp://127.0.0.1:0/mqtt", "has a path"),
    ] {
        assert_refused(&run(&[], Some(url)), &["HROTTI_URL: ", url, part]);
        assert_refused(&run(&["-check"], Some(url)), &["HROTTI_URL: ", url, part]);
    }
}

#[test]
fn an_unknown_flag_is_answered_with_the_usage() {
    for args in
        [&["-x"][..], &["--config", "a"], &["config.json"], &["-conf"], &["--log-level", "loud"]]
    {
        let ended = run(args, None);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
        assert!(
            ended.err.contains("USAGE") && ended.err.contains(args[0].trim_matches('-')),
            "{ended:?}"
        );
    }
}

#[test]
fn help_and_version_go_to_the_standard_output() {
    for (args, part) in [
        (["-h"], "HROTTI_URL"),
        (["--help"], "--conf"),
        (["-V"], env!("CARGO_PKG_VERSION")),
        (["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let ended = run(&args, None);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.out.contains(part), "{ended:?}");
        assert_eq!(Running::start(&args, None).end_unread().code, Some(0));
    }
}

#[test]
fn check_prints_what_would_run() {
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config.json");
    let original = original.to_str().expect("a path in UTF-8");
    let equals = format!("-conf={original}");
    for args in
        [&["-check", "-conf", original][..], &["--check", &equals], &["-check", "--conf", original]]
    {
        let ended = run(args, None);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        let lines: Vec<_> = ended.out.lines().collect();
        assert_eq!(lines[0], "listener tcp: tcp://0.0.0.0:1883");
        assert_eq!(lines[1], "listener websockets: ws://0.0.0.0:2000/mqtt");
        assert_eq!(lines[2], "maxQueueDepth = 100 messages (default)");
        assert!(lines.contains(&"limits.connectTimeoutSecs = 10 seconds (default)"), "{ended:?}");
    }
}

#[test]
fn check_without_a_file_shows_the_variable_or_the_default() {
    for (url, expected) in [
        (None, "listener envconfig: tcp://0.0.0.0:1883"),
        (Some(""), "listener envconfig: tcp://0.0.0.0:1883"),
        (Some("ws://127.0.0.1:9001"), "listener envconfig: ws://127.0.0.1:9001/"),
        (Some("tcp://:1884"), "listener envconfig: tcp://*:1884"),
        (Some("mqtt://*"), "listener envconfig: mqtt://*"),
    ] {
        let ended = run(&["-check"], url);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.out.lines().next(), Some(expected), "{ended:?}");
    }
}

#[test]
fn the_file_wins_over_the_variable_with_a_warning() {
    let path = file("wins.json", r#"{"listeners": {"mine": {"url": "tcp://127.0.0.1:0"}}}"#);
    let ended = run(&["-check", "-conf", &path], Some("tcp://127.0.0.1:1"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("listener mine: tcp://127.0.0.1:0\n"), "{ended:?}");
    assert!(ended.err.starts_with("warning: HROTTI_URL is ignored"), "{ended:?}");
    assert_eq!(run(&["-check", "-conf", &path], Some("")).err, "");
}

#[test]
fn a_port_in_use_is_refused_and_nothing_is_started() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = held.local_addr().expect("its address").port();
    let path = file(
        "in-use.json",
        format!(
            r#"{{"listeners": {{"free": {{"url": "tcp://127.0.0.1:0"}},
                "taken": {{"url": "ws://127.0.0.1:{port}/mqtt"}}}}}}"#
        ),
    );
    let url = format!("ws://127.0.0.1:{port}/mqtt");
    assert_refused(&run(&["-conf", &path], None), &["listener taken: ", &url, "another port"]);
    let url = format!("tcp://127.0.0.1:{port}");
    assert_refused(&run(&[], Some(&url)), &["listener envconfig: ", &url, "another port"]);
}

/// A server may be running with the configuration that is checked.
#[test]
fn a_port_in_use_is_no_matter_of_a_check() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("tcp://{}", held.local_addr().expect("its address"));
    let ended = run(&["-check"], Some(&url));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
}

#[test]
fn an_address_of_another_machine_is_refused() {
    // TEST-NET-3, RFC 5737.
    let ended = run(&[], Some("tcp://203.0.113.1:0"));
    assert_refused(&ended, &["HROTTI_URL: ", "tcp://203.0.113.1:0", "no interface", "0.0.0.0"]);
}

/// CONNECT of 3.1.1 with an empty client id, and the CONNACK that accepts it.
const CONNECT: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";
const CONNACK: &[u8] = b"\x20\x02\x00\x00";

/// A Client that was accepted.
fn connect(endpoint: &str) -> TcpStream {
    let address = endpoint.strip_prefix("tcp://").expect(endpoint);
    let mut client = TcpStream::connect(address).expect("a listener");
    client.set_read_timeout(Some(HANGS)).expect("a deadline");
    client.write_all(CONNECT).expect("the program reads");
    let mut answer = [0; 4];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, CONNACK);
    client
}

#[test]
fn port_0_prints_the_port_and_a_signal_stops_in_good_order() {
    for signal in ["TERM", "INT"] {
        let mut program = Running::start(&[], Some("tcp://127.0.0.1:0"));
        let (name, endpoint) = program.listening();
        assert_eq!(name, "envconfig");
        assert!(
            endpoint.starts_with("tcp://127.0.0.1:") && !endpoint.ends_with(":0"),
            "{endpoint}"
        );
        let mut client = connect(&endpoint);
        program.signal(signal);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("the connection is closed, not reset");
        let ended = program.end();
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    }
}

/// A rotation of logs and a manager of services send SIGHUP to a server; a closed terminal does, too.
#[test]
fn a_hang_up_ends_nothing() {
    let mut program = Running::start(&[], Some("tcp://127.0.0.1:0"));
    let (_, endpoint) = program.listening();
    let mut client = connect(&endpoint);
    for _ in 0..2 {
        program.signal("HUP");
        let mut line = String::new();
        while !line.contains("reloaded: no change") {
            line.clear();
            assert_ne!(program.out.read_line(&mut line).expect("a line"), 0, "the program ended");
        }
    }
    client.write_all(b"\xc0\x00").expect("PINGREQ");
    let mut answer = [0; 2];
    client.read_exact(&mut answer).expect("PINGRESP");
    assert_eq!(&answer, b"\xd0\x00");
    program.signal("TERM");
    let ended = program.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
}

/// A stop has work for longer than the test lives: a subscriber that does not read what it is to be sent.
#[test]
fn a_second_signal_ends_the_program_at_once() {
    let path = file(
        "second.json",
        r#"{"listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}}, "limits": {"stopTimeoutSecs": 86400,
            "writeStallTimeoutSecs": 86400}}"#,
    );
    let mut program = Running::start(&["-conf", &path], None);
    let (_, endpoint) = program.listening();
    let mut subscriber = connect(&endpoint);
    subscriber.write_all(b"\x82\x06\x00\x01\x00\x01t\x00").expect("SUBSCRIBE");
    let mut answer = [0; 5];
    subscriber.read_exact(&mut answer).expect("SUBACK");
    assert_eq!(&answer, b"\x90\x03\x00\x01\x00");
    // 64 MiB, more than any socket holds; Remaining Length is 5 more.
    let mut publisher = connect(&endpoint);
    publisher.write_all(b"\x32\x85\x80\x80\x20\x00\x01t\x00\x01").expect("PUBLISH");
    publisher.write_all(&vec![0; 64 << 20]).expect("its payload");
    let mut answer = [0; 4];
    publisher.read_exact(&mut answer).expect("PUBACK");
    assert_eq!(&answer, b"\x40\x02\x00\x01");

    program.signal("TERM");
    let mut line = String::new();
    while !line.contains("stopping") {
        line.clear();
        assert_ne!(program.out.read_line(&mut line).expect("a line"), 0, "the program ended");
    }
    program.signal("INT");
    let ended = program.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(130), ""), "{ended:?}");
}

#[test]
fn every_listener_has_a_line_with_its_address() {
    let path = file(
        "two.json",
        r#"{"listeners": {"z": {"url": "tcp://127.0.0.1:0"}, "a": {"url": "ws://127.0.0.1:0/mqtt"}},
            "workers": 2, "logging": {"info": "stderr", "error": "stderr"}}"#,
    );
    let mut program = Running::start(&["-conf", &path], None);
    let (first, tcp) = program.listening();
    let (second, ws) = program.listening();
    assert_eq!((first.as_str(), second.as_str()), ("z", "a"));
    assert!(ws.starts_with("ws://127.0.0.1:") && ws.ends_with("/mqtt"), "{ws}");
    drop(connect(&tcp));
    program.signal("TERM");
    let ended = program.end();
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.err.contains("INFO  hrotti stopping"), "{ended:?}");
}

#[test]
fn a_listener_of_every_interface_says_all_of_its_addresses() {
    let mut program = Running::start(&[], Some("mqtt://:0"));
    let (_, endpoints) = program.listening();
    let endpoints: Vec<_> = endpoints.split(' ').collect();
    let port = |endpoint: &str| endpoint.rsplit(':').next().unwrap_or_default().to_owned();
    for endpoint in &endpoints {
        assert_eq!(port(endpoint), port(endpoints[0]));
        drop(connect(endpoint));
    }
    let loopback = TcpStream::connect(format!("127.0.0.1:{}", port(endpoints[0])));
    assert_eq!(endpoints[0].starts_with("tcp://0.0.0.0:"), loopback.is_ok());
    if TcpListener::bind("[::1]:0").is_ok() {
        assert!(endpoints.iter().any(|endpoint| endpoint.starts_with("tcp://[::]:")));
    }
    drop(loopback);
    program.signal("TERM");
    assert_eq!(program.end().code, Some(0));
}

#[test]
fn a_standard_output_that_nobody_reads_ends_nothing() {
    let path = file(
        "unread.json",
        r#"{"listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}}, "logging": {"error": "stderr"}}"#,
    );
    // To one stream, and to both.
    for (args, url) in [(&["-v"][..], Some("tcp://127.0.0.1:0")), (&["-v", "-conf", &path], None)] {
        let mut program = Running::start(args, url);
        let (_, endpoint) = program.listening();
        let Running { pid, out, err, end, leash: _leash } = program;
        drop(out);
        // Each of these is worth records at the level debug.
        for _ in 0..10 {
            drop(connect(&endpoint));
        }
        let kill = format!("kill -TERM {pid}");
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh").success());
        assert_eq!(end.join().expect("the program's end"), Some(0));
        let err = err.join().expect("its standard error");
        assert!(!err.contains("panicked"), "{err}");
    }
}

#[test]
fn a_check_that_nobody_reads_ends_well() {
    let ended = Running::start(&["-check"], None).end_unread();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
}

/// `UPDATE_README=1 cargo test --test program` writes the table anew.
#[test]
fn the_table_in_the_readme_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).expect("README.md");
    let (begin, end) = ("<!-- configuration:begin -->\n", "<!-- configuration:end -->");
    let (before, rest) = readme.split_once(begin).expect("the mark before the table");
    let (table, after) = rest.split_once(end).expect("the mark behind the table");
    if std::env::var_os("UPDATE_README").is_some() {
        let text = format!("{before}{begin}{}{end}{after}", hrotti::config::table());
        fs::write(&path, text).expect("README.md can be written");
        return;
    }
    assert_eq!(table, hrotti::config::table(), "run: UPDATE_README=1 cargo test --test program");
}

/// What a reader copies from the README is what `examples/config.json` says, and runs.
#[test]
fn the_configuration_in_the_readme_is_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md");
    let (_, rest) = readme.split_once("```json\n").expect("a block of JSON");
    let (text, _) = rest.split_once("```").expect("its end");
    let example = fs::read_to_string(root.join("examples/config.json")).expect("the example");
    let read = |text: &str| hrotti::config::Config::from_json(text, "README.md").expect("valid");
    assert_eq!(read(text), read(&example));
    assert_eq!(read(text).listeners.len(), 2);
}

/// `examples/config-every-key.json` is a configuration to take keys from.
#[test]
fn the_example_of_every_key_names_each_key_of_the_table_once() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config-every-key.json");
    let text = fs::read_to_string(path).expect("the example");
    hrotti::config::Config::from_json(&text, "config-every-key.json").expect("valid");
    let example = serde_json::from_str(&text).expect("JSON");
    let mut keys = Vec::new();
    keys_of(String::new(), &example, &mut keys);
    // It stands instead of `keyFile`. Each listener has a URL.
    keys.push(("access.jwt.jwksFile".to_owned(), &serde_json::Value::Null));
    keys.sort_by(|(a, _), (b, _)| a.cmp(b));
    keys.dedup_by(|(a, _), (b, _)| a == b && a == "listeners.NAME.url");

    let table = hrotti::config::table();
    let cells = |row: &str| {
        row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned()).collect()
    };
    let rows: Vec<Vec<String>> =
        table.lines().filter(|row| row.starts_with("| `")).map(cells).collect();
    let mut known: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    known.sort_unstable();
    assert_eq!(keys.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), known);
    for row in &rows {
        let number = row[4].split(';').next().and_then(|default| default.parse::<u64>().ok());
        let shown = keys.iter().find(|(key, _)| *key == row[0]).map(|(_, value)| *value);
        assert!(number.is_none_or(|number| shown == Some(&number.into())), "{row:?}: {shown:?}");
    }
}

/// The keys of a configuration as the table names them, with their values.
fn keys_of<'a>(
    path: String,
    value: &'a serde_json::Value,
    keys: &mut Vec<(String, &'a serde_json::Value)>,
) {
    let Some(members) = value.as_object() else { return keys.push((path, value)) };
    for (name, value) in members {
        let name = if path == "listeners" { "NAME" } else { name };
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        keys_of(path, value, keys);
    }
}
