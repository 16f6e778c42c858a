//! The same dynamic security file in the hands of mosquitto and of this policy: the same answers.

#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use hrotti::access::{Action, DynamicSecurity, Identity, Policy as _, Request, Rule};

/// Longer than any answer takes.
const LONG: Duration = Duration::from_secs(30);

/// The password of every client in the file is `secret`; the hash was written by mosquitto_ctrl 2.0.11.
const SECRET: &str = r#""password": "atnnwVEgmjksbGITxURL/Ell0doQ64dRaMsL0KyxzIKRS2260+zLuDg/gvfZeBexd4GK5X+Z5TDcQm6HQE/3vw==", "salt": "DF2TGhqCjlvFTWNw", "iterations": 101"#;

/// Users, each with other roles and groups.
const USERS: &[(&str, &str)] = &[
    ("none", ""),
    ("one", r#""roles": [{"rolename": "wide"}]"#),
    ("tie", r#""roles": [{"rolename": "wide"}, {"rolename": "narrow"}]"#),
    ("rank", r#""roles": [{"rolename": "wide"}, {"rolename": "narrow", "priority": 3}]"#),
    ("zero", r#""roles": [{"rolename": "narrow", "priority": -2}, {"rolename": "wide"}]"#),
    ("member", r#""groups": [{"groupname": "first"}]"#),
    ("both", r#""groups": [{"groupname": "first"}, {"groupname": "second", "priority": 7}]"#),
    (
        "own",
        r#""roles": [{"rolename": "narrow"}], "groups": [{"groupname": "second", "priority": 7}]"#,
    ),
];

/// An entry of a role: type, topic, priority, effect.
type Entry = (&'static str, &'static str, i32, bool);

/// Roles and their entries.
const ROLES: &[(&str, &[Entry])] = &[
    (
        "wide",
        &[
            ("publishClientSend", "a/#", 0, true),
            ("publishClientSend", "a/secret/#", 5, false),
            ("publishClientSend", "+/b", -1, false),
            ("publishClientReceive", "a/#", 0, true),
            ("publishClientReceive", "a/+/c", 1, false),
            ("subscribePattern", "a/+", 0, true),
            ("subscribePattern", "a/b", 3, false),
            ("subscribePattern", "x/#", 0, true),
            ("subscribeLiteral", "#", -9, true),
            ("subscribeLiteral", "a/b", -9, true),
            ("unsubscribePattern", "a/#", 0, false),
            ("unsubscribeLiteral", "a/+", 0, true),
        ],
    ),
    (
        "narrow",
        &[
            ("publishClientSend", "a/secret/1", 0, true),
            ("publishClientSend", "a/b", 0, false),
            ("publishClientReceive", "a/b/c", 0, true),
            ("publishClientReceive", "a/b", 0, false),
            ("subscribeLiteral", "#", 0, true),
            ("subscribeLiteral", "a/+", 0, false),
            ("subscribePattern", "#", 0, false),
            ("unsubscribePattern", "+/b", 0, false),
        ],
    ),
];

const GROUPS: &[(&str, &str)] = &[("first", "wide"), ("second", "narrow")];

const NAMES: &[&str] =
    &["a", "a/b", "a/b/c", "a/secret", "a/secret/1", "x", "x/y", "b", "$odd/b", "/b"];
/// None begins with `$`: in mosquitto 2.0 `#` covers such filters, in 2.1 and here it does not.
const FILTERS: &[&str] = &["#", "+", "a/#", "a/+", "a/b", "+/b", "a/+/c", "x/#", "x", "x/+/#", "y"];

fn file(defaults: bool) -> String {
    let clients = USERS.iter().map(|(name, rest)| {
        let comma = if rest.is_empty() { "" } else { "," };
        format!(r#"{{"username": "{name}", {SECRET}{comma} {rest}}}"#)
    });
    // mosquitto 2.0 reads the members of a group from the group, as 2.1 does.
    let groups = GROUPS.iter().map(|(name, role)| {
        let members = USERS.iter().filter_map(|(user, rest)| {
            let at = rest.find(&format!(r#""groupname": "{name}""#))?;
            let entry = rest[at..].split('}').next().unwrap_or_default();
            let priority = if entry.contains('7') { r#", "priority": 7"# } else { "" };
            Some(format!(r#"{{"username": "{user}"{priority}}}"#))
        });
        let members: Vec<_> = members.collect();
        let members = members.join(",");
        format!(
            r#"{{"groupname": "{name}", "roles": [{{"rolename": "{role}"}}], "clients": [{members}]}}"#
        )
    });
    let roles = ROLES.iter().map(|(name, acls)| {
        let acls = acls.iter().map(|(kind, topic, priority, allow)| {
            format!(
                r#"{{"acltype": "{kind}", "topic": "{topic}", "priority": {priority}, "allow": {allow}}}"#
            )
        });
        let acls: Vec<_> = acls.collect();
        format!(r#"{{"rolename": "{name}", "acls": [{}]}}"#, acls.join(","))
    });
    let admin = format!(
        r#"{{"username": "admin", {SECRET}, "roles": [{{"rolename": "admin", "priority": 1}}]}}"#
    );
    let admin_role = r##"{"rolename": "admin", "acls": [
        {"acltype": "publishClientSend", "topic": "#", "allow": true},
        {"acltype": "publishClientSend", "topic": "$odd/#", "allow": true}]}"##;
    let clients: Vec<_> = clients.chain([admin]).collect();
    let roles: Vec<_> = roles.chain([admin_role.to_owned()]).collect();
    let groups: Vec<_> = groups.collect();
    format!(
        r#"{{"clients": [{}], "groups": [{}], "roles": [{}], "defaultACLAccess": {{
            "publishClientSend": {defaults}, "publishClientReceive": {defaults},
            "subscribe": {defaults}, "unsubscribe": {defaults}}}}}"#,
        clients.join(","),
        groups.join(","),
        roles.join(",")
    )
}

/// A connection of MQTT 5 that waits for each answer.
struct Peer(TcpStream);

impl Peer {
    fn connect(port: u16, user: &str) -> Peer {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("mosquitto listens");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        let mut body = Vec::from(*b"\0\x04MQTT\x05\xc2\0\0\0");
        for text in [user, user, "secret"] {
            body.extend(text_of(text));
        }
        let mut peer = Peer(stream);
        assert_eq!(peer.ask(0x10, &body, 0x20)[1], 0, "CONNACK for {user}");
        peer
    }

    fn send(&mut self, first: u8, body: &[u8]) {
        let length = u8::try_from(body.len()).expect("a short packet");
        assert!(length < 128);
        self.0.write_all(&[&[first, length], body].concat()).expect("mosquitto reads");
    }

    fn next(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("an answer");
        assert!(head[1] < 128, "a short packet");
        let mut body = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut body).expect("the rest of the answer");
        (head[0], body)
    }

    /// Sends a packet and waits for one of this type.
    fn ask(&mut self, first: u8, body: &[u8], answer: u8) -> Vec<u8> {
        self.send(first, body);
        let (kind, body) = self.next();
        assert_eq!(kind, answer, "{body:?}");
        body
    }

    /// The Reason Code of PUBACK.
    fn publish(&mut self, topic: &str) -> u8 {
        let body = [&text_of(topic)[..], b"\0\x01\0"].concat();
        self.ask(0x32, &body, 0x40).get(2).copied().unwrap_or(0)
    }

    fn subscribe(&mut self, filter: &str) -> u8 {
        let body = [&b"\0\x01\0"[..], &text_of(filter), b"\0"].concat();
        *self.ask(0x82, &body, 0x90).last().expect("a Reason Code")
    }

    fn unsubscribe(&mut self, filter: &str) -> u8 {
        let body = [&b"\0\x01\0"[..], &text_of(filter)].concat();
        *self.ask(0xa2, &body, 0xb0).last().expect("a Reason Code")
    }
}

fn text_of(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// What mosquitto allows.
fn theirs(port: u16) -> BTreeMap<String, bool> {
    let mut answers = BTreeMap::new();
    let mut admin = Peer::connect(port, "admin");
    for (user, _) in USERS {
        let mut peer = Peer::connect(port, user);
        for name in NAMES {
            answers.insert(format!("{user} publish {name}"), peer.publish(name) < 0x80);
        }
        for filter in FILTERS {
            answers.insert(format!("{user} unsubscribe {filter}"), peer.unsubscribe(filter) < 0x80);
            answers.insert(format!("{user} subscribe {filter}"), peer.subscribe(filter) < 0x80);
        }
        drop(peer);
        // Who may subscribe to everything that is published sees what it may receive, up to the answer to PINGREQ.
        let mut peer = Peer::connect(port, user);
        let everything = ["#", "$odd/#"].map(|filter| peer.subscribe(filter) < 0x80);
        for name in NAMES {
            if !everything[usize::from(name.starts_with('$'))] {
                continue;
            }
            assert!(admin.publish(name) < 0x80, "the admin may");
            peer.send(0xc0, b"");
            let mut received = false;
            loop {
                let (kind, _) = peer.next();
                match kind & 0xf0 {
                    0x30 => received = true,
                    0xd0 => break,
                    _ => unreachable!("packet {kind:#x}"),
                }
            }
            answers.insert(format!("{user} receive {name}"), received);
        }
    }
    answers
}

/// What the policy allows.
fn ours(text: &str, questions: impl Iterator<Item = String>) -> BTreeMap<String, bool> {
    let policy = DynamicSecurity::parse(text, "d.json").expect("a good file");
    let answers = questions.map(|question| {
        let words: Vec<_> = question.split(' ').collect();
        let identity = Identity::new(Rule::named("a test")).with_user_name(words[0]);
        let action = match words[1] {
            "publish" => Action::Publish,
            "subscribe" => Action::Subscribe,
            "unsubscribe" => Action::Unsubscribe,
            _ => Action::Receive,
        };
        let request = Request { identity: &identity, client_id: words[0], action, topic: words[2] };
        let allowed = policy.authorize(&request).is_allowed();
        (question, allowed)
    });
    answers.collect()
}

/// A mosquitto and its directory, which end with the test.
struct Mosquitto {
    child: Child,
    port: u16,
    directory: PathBuf,
    /// Held open: it would end when it cannot write.
    _log: BufReader<ChildStderr>,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn plugin() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut plugins =
        directories.map(|directory| directory.path().join("mosquitto_dynamic_security.so"));
    plugins.find(|plugin| plugin.exists())
}

/// Starts it with a file. Another process may take the port first, so it is tried again.
fn start(plugin: &Path, text: &str, name: &str) -> Mosquitto {
    let directory = format!("hrotti-dynamic-security-{}-{name}", std::process::id());
    let directory = std::env::temp_dir().join(directory);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).expect("a temporary directory");
    let (json, config) = (directory.join("d.json"), directory.join("mosquitto.conf"));
    fs::write(&json, text).expect("the file");
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.expect("a free port").port();
        let (plugin, json) = (plugin.display(), json.display());
        let lines = format!(
            "listener {port} 127.0.0.1\nlog_dest stderr\nuser root\nallow_anonymous false\n\
             plugin {plugin}\nplugin_opt_config_file {json}\n"
        );
        fs::write(&config, lines).expect("its configuration");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("mosquitto starts");
        let mut log = BufReader::new(child.stderr.take().expect("its log"));
        let mut line = String::new();
        while log.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.contains(" running") {
                return Mosquitto { child, port, directory, _log: log };
            }
            line.clear();
        }
        let _ = child.wait();
    }
    unreachable!("mosquitto does not start with this file")
}

#[test]
fn mosquitto_gives_the_same_answers() {
    let there = Command::new("mosquitto").arg("-h").stdout(Stdio::null()).status().is_ok();
    let Some(plugin) = plugin().filter(|_| there) else {
        eprintln!("!! NOT RUN: mosquitto with its dynamic security plugin is not installed");
        return;
    };
    for (defaults, name) in [(false, "closed"), (true, "open")] {
        let text = file(defaults);
        let mosquitto = start(&plugin, &text, name);
        let theirs = theirs(mosquitto.port);
        let ours = ours(&text, theirs.keys().cloned());
        let differ: Vec<_> =
            theirs.iter().filter(|(question, yes)| ours[*question] != **yes).collect();
        assert!(differ.is_empty(), "mosquitto says, by default {defaults}: {differ:#?}");
        assert!(theirs.len() > 250, "{} questions", theirs.len());
        let yes = theirs.values().filter(|yes| **yes).count();
        assert!(yes > 40 && theirs.len() - yes > 40, "{yes} of {}", theirs.len());
    }
}
