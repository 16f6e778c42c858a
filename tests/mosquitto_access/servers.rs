//! Who answers: mosquitto, the policies alone, a broker that has them.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use hrotti::access::{
    AclFile, AllowAll, Anonymous, Answer as Asked, Chain, Credentials, Identity, PasswordFile,
    Policy, Request,
};
use hrotti::{Broker, ListenerConfig, TopicFilter, TopicName};

use crate::client::Client;
use crate::rows::{Action, Answer, Case, Row};

/// Has all rights in every file.
const OBSERVER: (&str, &str) = ("observer", "observe");
const OBSERVER_RULES: &str = "\nuser observer\ntopic #\ntopic $x/#\n";

/// As versions before 2.0 wrote it; the password is `before`.
const OLD_USER: &str = "old:$6$AQIDBAUGBwgJCgsM$8C5Ksw65ZPUZhxxcZ5CRm6+mz+H+OJ/bTFpFz2nrcNddtpY4IlmDtnDvLz5d\
                        DCUhtzg/5luRH/h5ssL3Y/u5dQ==\n";

/// Longer than a start takes.
const HANGS: Duration = Duration::from_secs(60);

pub(crate) trait Server {
    fn answer(&mut self, row: &Row) -> Answer;
}

/// A server at an address, and a Client with all rights.
struct Served {
    address: SocketAddr,
    observer: Option<Client>,
    messages: usize,
}

impl Served {
    fn new(address: SocketAddr, case: &Case) -> Served {
        if !case.is_served() {
            return Served { address, observer: None, messages: 0 };
        }
        let (name, password) = OBSERVER;
        let observer = Client::connect(address, "the observer", Some(name), Some(password));
        let observer = observer.expect("a connection").map(|mut observer| {
            for filter in ["#", "$x/#"] {
                assert!(
                    observer.subscribe(filter).expect("a SUBACK"),
                    "the observer has all rights"
                );
            }
            observer
        });
        Served { address, observer, messages: 0 }
    }

    /// Publishes a message as the observer; whether the Client receives it.
    fn receives(&mut self, client: &mut Client, topic: &str) -> bool {
        self.messages += 1;
        let payload = self.messages.to_string();
        let observer = self.observer.as_mut().expect("an observer");
        observer.publish(topic, &payload).expect("a PUBACK");
        observer.arrived().expect("the observer's messages");
        client.arrived().expect("the Client's messages").contains(&payload)
    }

    fn answer(&mut self, row: &Row) -> Answer {
        let answer = self.try_answer(row);
        answer.map_err(|error| format!("{row:?}: {error}")).expect("an answer")
    }

    fn try_answer(&mut self, row: &Row) -> io::Result<Answer> {
        let Row { client_id, user_name, password, action } = row;
        let client =
            Client::connect(self.address, client_id, user_name.as_deref(), password.as_deref())?;
        let Some(mut client) = client else { return Ok(Answer::Refused) };
        Ok(match action {
            Action::Load | Action::Connect => Answer::Yes,
            Action::Publish(topic) => {
                self.messages += 1;
                let payload = self.messages.to_string();
                client.publish(topic, &payload)?;
                let observer = self.observer.as_mut().expect("an observer");
                Answer::of(observer.arrived()?.contains(&payload))
            }
            Action::Receive(topic) => {
                client.subscribe(topic)?;
                Answer::of(self.receives(&mut client, topic))
            }
            Action::Subscribe(filter, topics) => {
                let granted = client.subscribe(filter)?;
                let received = topics.iter().filter(|topic| self.receives(&mut client, topic));
                Answer::Subscribed { granted, received: received.cloned().collect() }
            }
        })
    }
}

/// The text of a case's files; the observer is in both.
fn files(case: &Case) -> (Option<String>, Option<String>) {
    let acl = case
        .acl
        .as_ref()
        .map(|acl| if case.is_served() { format!("{acl}{OBSERVER_RULES}") } else { acl.clone() });
    let passwords = case.passwords.map(|users| hashed(users.iter().chain([&OBSERVER])));
    (acl, passwords)
}

/// Lines of a password file, as mosquitto_passwd makes them.
fn hashed<'a>(users: impl Iterator<Item = &'a (&'a str, &'a str)>) -> String {
    let directory = Directory::new();
    let path = directory.0.join("made");
    fs::write(&path, "").expect("a file");
    for (name, password) in users {
        let mut command = tool("mosquitto_passwd");
        let done = command.arg("-b").arg(&path).args([name, password]).output();
        assert!(done.expect("mosquitto_passwd").status.success(), "{name}");
    }
    fs::read_to_string(&path).expect("a password file") + OLD_USER
}

/// A directory for one server's files.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hrotti-mosquitto-access-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program of mosquitto, which Debian puts where not every user looks.
fn tool(name: &str) -> Command {
    let path = env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    let found =
        directories.map(|directory| Path::new(directory).join(name)).find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| PathBuf::from(name)))
}

/// The version, if both programs are installed.
pub(crate) fn mosquitto_version() -> Option<String> {
    tool("mosquitto_passwd").output().ok()?;
    let help = tool("mosquitto").arg("-h").output().ok()?;
    String::from_utf8_lossy(&help.stdout).lines().next().map(str::to_owned)
}

/// The real one.
pub(crate) struct Mosquitto {
    served: Option<Served>,
    _process: Process,
    _directory: Directory,
}

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Mosquitto {
    pub(crate) fn start(case: &Case) -> Mosquitto {
        let directory = Directory::new();
        let (acl, passwords) = files(case);
        let mut settings = format!(
            "allow_anonymous {}\nlog_dest stderr\nuser root\nset_tcp_nodelay true\n",
            case.anonymous
        );
        for (setting, text) in [("acl_file", acl), ("password_file", passwords)] {
            if let Some(text) = text {
                settings += &format!("{setting} {}\n", directory.write(setting, &text).display());
            }
        }
        // Another program may take the port meanwhile.
        let started = (0..10).find_map(|_| {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.expect("a free port");
            let listener = format!("listener {} 127.0.0.1\n{settings}", address.port());
            let (process, log) = run(&directory.write("config", &listener));
            let served = log.contains(" running").then(|| Served::new(address, case));
            (!log.contains("Address already in use")).then_some((served, process))
        });
        let (served, process) = started.expect("a free port");
        Mosquitto { served, _process: process, _directory: directory }
    }
}

/// Starts mosquitto, and waits until it runs or has ended.
fn run(config: &Path) -> (Process, String) {
    let mut command = tool("mosquitto");
    command.arg("-c").arg(config).stderr(Stdio::piped()).stdout(Stdio::null()).stdin(Stdio::null());
    let mut process = Process(command.spawn().expect("mosquitto"));
    let out = process.0.stderr.take().expect("its output");
    let (lines, log) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    let mut text = String::new();
    while let Ok(line) = log.recv_timeout(HANGS) {
        text += &line;
        text += "\n";
        if line.contains(" running") {
            break;
        }
    }
    (process, text)
}

impl Server for Mosquitto {
    fn answer(&mut self, row: &Row) -> Answer {
        if row.action == Action::Load {
            return Answer::of(self.served.is_some());
        }
        self.served.as_mut().expect("files that mosquitto accepts").answer(row)
    }
}

/// The policy that these settings of mosquitto make; `None` if the files are refused.
fn policy(case: &Case) -> Option<Arc<dyn Policy>> {
    let (acl, passwords) = files(case);
    let mut chain: Vec<Arc<dyn Policy>> = Vec::new();
    if let Some(text) = &acl {
        chain.push(Arc::new(AclFile::parse(text, "acl").ok()?));
    }
    if let Some(text) = &passwords {
        chain.push(Arc::new(PasswordFile::parse(text, "passwords").ok()?));
    }
    match (case.anonymous, passwords) {
        (false, _) => {}
        (true, Some(_)) => chain.push(Arc::new(Anonymous::new())),
        (true, None) => chain.push(Arc::new(Anonymous::with_any_name())),
    }
    if acl.is_none() {
        chain.push(Arc::new(AllowAll));
    }
    Some(Arc::new(Chain::new(chain)))
}

/// The policies, without a broker.
pub(crate) struct Policies(Option<Arc<dyn Policy>>);

impl Policies {
    pub(crate) fn start(case: &Case) -> Policies {
        Policies(policy(case))
    }

    fn identity(policy: &Arc<dyn Policy>, row: &Row) -> Option<Identity> {
        let mut shown = Credentials::new(&row.client_id, "a test".into());
        shown.user_name = row.user_name.as_deref().map(Into::into);
        shown.password =
            row.password.as_ref().map(|text| hrotti::access::Secret::new(text.as_bytes()));
        match block_on(policy.clone().authenticate(shown)) {
            Asked::Accept { identity, .. } => Some(identity),
            _ => None,
        }
    }
}

impl Server for Policies {
    fn answer(&mut self, row: &Row) -> Answer {
        use hrotti::access::Action as Does;

        if row.action == Action::Load {
            return Answer::of(self.0.is_some());
        }
        let policy = self.0.as_ref().expect("files that are accepted");
        let Some(identity) = Policies::identity(policy, row) else { return Answer::Refused };
        let may = |action, topic: &str| {
            policy
                .authorize(&Request {
                    identity: &identity,
                    client_id: &row.client_id,
                    action,
                    topic,
                })
                .is_allowed()
        };
        match &row.action {
            Action::Load | Action::Connect => Answer::Yes,
            Action::Publish(topic) => Answer::of(may(Does::Publish, topic)),
            Action::Receive(topic) => {
                Answer::of(may(Does::Subscribe, topic) && may(Does::Receive, topic))
            }
            Action::Subscribe(filter, topics) => {
                let granted = may(Does::Subscribe, filter);
                let asked = TopicFilter::new(filter).expect("a Topic Filter");
                let matches =
                    |topic: &str| asked.matches(&TopicName::new(topic).expect("a Topic Name"));
                let received = topics
                    .iter()
                    .filter(|topic| granted && matches(topic) && may(Does::Receive, topic));
                Answer::Subscribed { granted, received: received.cloned().collect() }
            }
        }
    }
}

/// A broker with the policies, over TCP.
pub(crate) struct Hrotti {
    served: Option<(Served, Broker)>,
}

impl Hrotti {
    pub(crate) fn start(case: &Case) -> Hrotti {
        let served = policy(case).map(|policy| {
            let broker = Broker::builder().policy(policy).build();
            let listener = ListenerConfig::new("tcp://127.0.0.1:0").expect("a URL");
            let bound = block_on(broker.add_listener("test", listener)).expect("a listener");
            let url = bound.to_string();
            let address = url.strip_prefix("tcp://").and_then(|address| address.parse().ok());
            (Served::new(address.expect("an address"), case), broker)
        });
        Hrotti { served }
    }
}

impl Server for Hrotti {
    fn answer(&mut self, row: &Row) -> Answer {
        if row.action == Action::Load {
            return Answer::of(self.served.is_some());
        }
        self.served.as_mut().expect("files that are accepted").0.answer(row)
    }
}

impl Drop for Hrotti {
    fn drop(&mut self) {
        if let Some((served, broker)) = self.served.take() {
            // The broker waits for Clients to close.
            drop(served);
            block_on(broker.stop());
        }
    }
}
