//! The brokers that the tool starts by itself: on free ports of the loopback interface, in the
//! [`Setting`] that a load needs, with a configuration that is printed with the result. A new one is
//! a [`Kind`], its configuration and its places.

mod choice;
mod config;
mod files;

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

pub(crate) use self::choice::{Choice, choose, observed_hrotti};
use self::config::Places;
use self::files::TempDirectory;
use crate::access;
use crate::admin::Scraper;
use crate::codec::Version;
use crate::link::Dial;
use crate::load::{Needs, Setting};
use crate::null;
use crate::target::{Target, Transport};

/// How long a broker may take until it answers a CONNECT, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the metrics of an observed broker are scraped during a run.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// Which broker it is; decides its configuration and how its ports are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Hrotti,
    Mosquitto,
    Rumqttd,
    Aedes,
    /// This program itself, see `null.rs`.
    Null,
}

impl Kind {
    /// In the order of the tables.
    pub(crate) const ALL: [Self; 5] =
        [Self::Hrotti, Self::Mosquitto, Self::Rumqttd, Self::Aedes, Self::Null];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hrotti => "hrotti",
            Self::Mosquitto => "mosquitto",
            Self::Rumqttd => "rumqttd",
            Self::Aedes => "aedes",
            Self::Null => "null",
        }
    }

    /// The listeners it has, and what each serves; none where the tool does not set it up so.
    fn listeners(self, setting: Setting) -> &'static [(Transport, &'static [Version])] {
        use Transport::{Tcp, Tls, Ws, Wss};
        use Version::{V5, V311};
        match (self, setting) {
            (Self::Hrotti | Self::Mosquitto, Setting::Open) => {
                &[(Tcp, &[V311, V5]), (Ws, &[V311, V5])]
            }
            (Self::Hrotti | Self::Mosquitto, Setting::Tls) => {
                &[(Tls, &[V311, V5]), (Wss, &[V311, V5])]
            }
            (Self::Hrotti | Self::Mosquitto, Setting::Passwords | Setting::Rules) => {
                &[(Tcp, &[V311, V5])]
            }
            (Self::Hrotti | Self::Mosquitto, Setting::Guarded) => {
                &[(Tcp, &[V311, V5]), (Tls, &[V311, V5])]
            }
            // A port for each version, and no MQTT 5 over WebSocket.
            (Self::Rumqttd, Setting::Open) => &[(Tcp, &[V311]), (Ws, &[V311]), (Tcp, &[V5])],
            (Self::Aedes, Setting::Open) => &[(Tcp, &[V311]), (Ws, &[V311])],
            (Self::Null, Setting::Open) => &[(Tcp, &[V311, V5])],
            _ => &[],
        }
    }

    /// Whether it chooses its ports and prints where it listens.
    fn says_where(self) -> bool {
        match self {
            Self::Hrotti | Self::Aedes | Self::Null => true,
            Self::Mosquitto | Self::Rumqttd => false,
        }
    }

    /// What the configuration file is called: some tell its format by the end of the name.
    fn file(self) -> &'static str {
        match self {
            Self::Hrotti => "hrotti.json",
            Self::Mosquitto => "mosquitto.conf",
            Self::Rumqttd => "rumqttd.toml",
            Self::Aedes => "aedes.json",
            Self::Null => "null.conf",
        }
    }
}

/// A broker that can be started.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) kind: Kind,
    /// As reports call it: that of its kind, and what is special about it.
    pub(crate) name: String,
    /// The program; for aedes the directory that it is installed in.
    place: PathBuf,
    variant: Variant,
}

/// What is special about a hrotti.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Instead of the default.
    workers: Option<u32>,
    /// It has an admin listener, which is scraped during runs, and publishes below `$SYS`.
    pub(crate) observed: bool,
}

impl Broker {
    fn new(kind: Kind, place: PathBuf) -> Self {
        Self { kind, name: kind.name().to_owned(), place, variant: Variant::default() }
    }

    /// Whether it is observed during runs.
    pub(crate) fn is_observed(&self) -> bool {
        self.variant.observed
    }

    /// The same program with another number of workers.
    fn with_workers(&self, workers: u32) -> Self {
        let name = format!("{}-w{workers}", self.kind.name());
        Self { name, variant: Variant { workers: Some(workers), ..self.variant }, ..self.clone() }
    }

    /// The same program, observed: see [`Variant::observed`].
    fn observed(&self) -> Self {
        let name = format!("{}-observed", self.kind.name());
        Self { name, variant: Variant { observed: true, ..self.variant }, ..self.clone() }
    }

    /// The program, without arguments that say what it shall do.
    fn command(&self) -> Command {
        if self.kind != Kind::Aedes {
            return Command::new(&self.place);
        }
        let mut command = Command::new("node");
        command.arg(self.place.join("server.mjs"));
        command
    }

    /// What the program says of its version, in one line.
    pub(crate) fn version(&self) -> String {
        let flag = match self.kind {
            Kind::Mosquitto => "-h",
            _ => "--version",
        };
        let output = self.command().arg(flag).stdin(Stdio::null()).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        version_in(&text.unwrap_or_default())
    }

    /// The configurations as they are published: with words for what is chosen anew. Where there is
    /// one beside the open one, each has a line above it.
    pub(crate) fn configuration(&self, settings: &BTreeSet<Setting>) -> String {
        let mut out = String::new();
        let places = Places::placeholders();
        for &setting in settings.iter().filter(|one| !self.kind.listeners(**one).is_empty()) {
            let text = config::text(self.kind, setting, self.variant, &places);
            let is_plain = setting == Setting::Open && settings.len() == 1;
            if !is_plain && !text.is_empty() {
                let gap = if out.is_empty() { "" } else { "\n" };
                out.push_str(&format!("{gap}{}:\n\n", setting.title()));
            }
            out.push_str(&text);
        }
        out
    }

    /// Whether it can take part in a load.
    ///
    /// # Errors
    ///
    /// When it cannot: why.
    pub(crate) fn can(&self, needs: Needs) -> Result<(), String> {
        if self.kind == Kind::Null && !null::can(needs) {
            return Err("it relays at QoS 0 over tcp and nothing else".to_owned());
        }
        let listeners = self.kind.listeners(needs.setting);
        if listeners.is_empty() {
            return Err(format!("this tool does not set it up {}", needs.setting.title()));
        }
        let serves = |(transport, versions): &(Transport, &[Version])| {
            *transport == needs.transport && versions.contains(&needs.version)
        };
        if listeners.iter().any(serves) {
            return Ok(());
        }
        let transport = needs.transport.name();
        Err(match needs.version {
            Version::V311 => format!("it has no {transport} listener"),
            Version::V5 => format!("it has no {transport} listener for MQTT 5"),
        })
    }

    /// Starts it in this setting and waits until it answers at all its listeners.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, ends at once, or does not answer within ten seconds.
    pub(crate) fn start(&self, setting: Setting) -> io::Result<Running> {
        let ports = Ports(files::free_ports()?);
        let directory = TempDirectory::of(self.kind)?;
        let mut places = files::written(&directory, self.kind, setting)?;
        if !self.kind.says_where() {
            places.ports = ports.in_words();
        }
        let text = config::text(self.kind, setting, self.variant, &places);
        let file = directory.write(self.kind.file(), &text)?;
        let mut command = self.command();
        match self.kind {
            Kind::Hrotti => command.arg("-conf").arg(&file),
            Kind::Mosquitto => command.arg("-c").arg(&file),
            Kind::Rumqttd => command.arg("--quiet").arg("-c").arg(&file),
            Kind::Aedes => command.arg(&file),
            Kind::Null => command.arg("null"),
        };
        let says_where = self.kind.says_where();
        command.stdout(if says_where { Stdio::piped() } else { Stdio::null() });
        let child = command.env_remove("HROTTI_URL").stdin(Stdio::null()).spawn();
        let child = child.map_err(|error| {
            let text = format!("{} cannot be started: {error}", self.name);
            io::Error::new(error.kind(), text)
        })?;
        // From here on it ends with this value, whatever comes.
        let (listeners, lines) = (Vec::new(), Arc::default());
        let mut running =
            Running { child, setting, listeners, admin: None, lines, _files: directory };
        running.find_targets(self, ports)?;
        running.wait_for_answer(&self.name)?;
        Ok(running)
    }
}

/// A broker that this process started; ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    setting: Setting,
    listeners: Vec<(Target, &'static [Version])>,
    /// Its admin listener, if it is observed.
    admin: Option<SocketAddr>,
    /// Lines that it has printed, where those are read.
    lines: Arc<AtomicU64>,
    _files: TempDirectory,
}

impl Running {
    /// Where it listens for what a load needs.
    ///
    /// # Errors
    ///
    /// When it does not; see [`Broker::can`].
    pub(crate) fn target(&self, needs: Needs) -> io::Result<&Target> {
        let mut listeners = self.listeners.iter();
        let found = listeners.find(|(target, versions)| {
            target.transport == needs.transport && versions.contains(&needs.version)
        });
        found.map(|(target, _)| target).ok_or_else(|| {
            let text = format!("it has no {} listener for this", needs.transport.name());
            io::Error::new(io::ErrorKind::Unsupported, text)
        })
    }

    /// Its admin listener, if it is observed.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Begins to scrape its metrics once a second, if it is observed.
    pub(crate) fn observe(&self) -> Option<Scraper> {
        self.admin.map(|address| Scraper::start(address, SCRAPE_INTERVAL))
    }

    /// Lines that it has printed on standard output; 0 where nobody reads it.
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// A target for each listener, as the broker says or as it was told.
    fn find_targets(&mut self, broker: &Broker, ports: Ports) -> io::Result<()> {
        let pid = Some(self.child.id());
        let listeners = broker.kind.listeners(self.setting);
        let mut targets = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            let lines = listening_lines(stdout, Arc::clone(&self.lines));
            while targets.len() < listeners.len() || (broker.is_observed() && self.admin.is_none())
            {
                let url = next_url(&lines, &broker.name)?;
                match url.strip_prefix(ADMIN_SCHEME) {
                    Some(place) => self.admin = Some(place.parse().map_err(io::Error::other)?),
                    None => targets.push(Target::new(&url, pid)?),
                }
            }
            // Not every broker says it in the same order each time.
            let place =
                |target: &Target| listeners.iter().position(|one| one.0 == target.transport);
            targets.sort_by_key(place);
        } else {
            for &(transport, versions) in listeners {
                let address = (Ipv4Addr::LOCALHOST, ports.of(transport, versions)).into();
                targets.push(Target { pid, ..Target::at(transport, address) });
            }
        }
        let versions = listeners.iter().map(|(_, versions)| *versions);
        self.listeners = targets.into_iter().zip(versions).collect();
        Ok(())
    }

    /// Tries to connect until every listener answers.
    fn wait_for_answer(&mut self, name: &str) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{name} ended at once: {status}")));
            }
            match self.probe() {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let text = format!("{name} does not answer: {error}");
                    return Err(io::Error::new(error.kind(), text));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn probe(&self) -> io::Result<()> {
        for (target, versions) in &self.listeners {
            let user = self.setting.has_users().then(|| access::user(0));
            match versions.contains(&Version::V311) {
                true => Dial::new(target, "bench-probe").user(user.as_ref()).open()?.close(),
                false => drop(TcpStream::connect(target.address)?),
            }
        }
        Ok(())
    }

    /// Whether the process is gone.
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    /// Asks it to end (SIGTERM), by its pid; insists after ten seconds.
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.has_ended() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line that is not blank.
fn version_in(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map_or_else(|| "unknown version".to_owned(), str::to_owned)
}

/// Reads on a thread of its own, to the end: a full pipe would stop the broker.
fn listening_lines(stdout: ChildStdout, count: Arc<AtomicU64>) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            count.fetch_add(1, Ordering::Relaxed);
            if let Some(url) = listening_url(&line) {
                // After the last listener nobody is interested any more.
                let _ = sender.send(url.to_owned());
            }
        }
    });
    receiver
}

fn next_url(lines: &Receiver<String>, name: &str) -> io::Result<String> {
    lines.recv_timeout(PATIENCE).map_err(|why| {
        io::Error::other(match why {
            RecvTimeoutError::Timeout => format!("{name} did not say where it listens"),
            RecvTimeoutError::Disconnected => format!("{name} ended before it listened"),
        })
    })
}

/// How the URL of an admin listener begins.
const ADMIN_SCHEME: &str = "http://";

/// The URL in `listening: NAME tcp://HOST:PORT` or `admin: http://HOST:PORT`.
fn listening_url(line: &str) -> Option<&str> {
    if let Some(url) = line.strip_prefix("admin: ") {
        return url.starts_with(ADMIN_SCHEME).then(|| url.trim());
    }
    let (_, rest) = line.split_once("listening:")?;
    rest.split_whitespace().find(|word| {
        word.split_once("://").is_some_and(|(scheme, _)| Transport::named(scheme).is_some())
    })
}

/// A free port for each listener that a broker may have.
#[derive(Debug, Clone, Copy)]
struct Ports([u16; 5]);

impl Ports {
    fn of(self, transport: Transport, versions: &[Version]) -> u16 {
        let [tcp, ws, v5, tls, wss] = self.0;
        match transport {
            Transport::Tcp if versions == [Version::V5] => v5,
            Transport::Tcp => tcp,
            Transport::Ws => ws,
            Transport::Tls => tls,
            Transport::Wss => wss,
        }
    }

    fn in_words(self) -> config::Ports {
        let [tcp, ws, v5, tls, wss] = self.0.map(|port| port.to_string());
        config::Ports { tcp, ws, v5, tls, wss }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_line_is_understood() {
        let tcp = Some("tcp://127.0.0.1:41234");
        assert_eq!(listening_url("listening: tcp tcp://127.0.0.1:41234"), tcp);
        let ws = Some("ws://127.0.0.1:41234/");
        assert_eq!(listening_url("12:00 info listening: ws ws://127.0.0.1:41234/"), ws);
        let tls = Some("mqtts://127.0.0.1:41234");
        assert_eq!(listening_url("listening: tls mqtts://127.0.0.1:41234"), tls);
        assert_eq!(listening_url("listening: x udp://127.0.0.1:41234"), None);
        assert_eq!(listening_url("ready"), None);
        let admin = Some("http://127.0.0.1:41234");
        assert_eq!(listening_url("admin: http://127.0.0.1:41234"), admin);
        assert_eq!(listening_url("admin: unix:///a"), None);
    }

    #[test]
    fn versions_are_the_first_line() {
        let mosquitto = "mosquitto version 2.0.11\n\nmosquitto is an MQTT broker.\n";
        assert_eq!(version_in(mosquitto), "mosquitto version 2.0.11");
        assert_eq!(version_in("\n  rumqttd 0.20.0 \n"), "rumqttd 0.20.0");
        assert_eq!(version_in(""), "unknown version");
    }

    #[test]
    fn a_program_that_says_no_version_has_none() {
        let broker = Broker::new(Kind::Mosquitto, "/nonexistent/mosquitto".into());
        assert_eq!(broker.version(), "unknown version");
        let error = broker.start(Setting::Open).unwrap_err().to_string();
        assert!(error.starts_with("mosquitto cannot be started: "), "{error}");
        assert!(!error.contains("/nonexistent"), "results name no path of a machine: {error}");
    }

    #[test]
    fn a_program_that_is_no_broker_is_not_waited_for() {
        let program = files::first_there(files::in_path("true")).unwrap();
        for (kind, expected) in [
            (Kind::Hrotti, "hrotti ended before it listened"),
            (Kind::Mosquitto, "mosquitto ended at once: exit status: 0"),
        ] {
            let error = Broker::new(kind, program.clone()).start(Setting::Open).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    fn running(kind: Kind, setting: Setting) -> Running {
        let program = files::first_there(files::in_path("sleep")).unwrap();
        let child = Command::new(program).arg("60").stdout(Stdio::null()).spawn().unwrap();
        let files = TempDirectory::new(true).unwrap();
        let (listeners, lines) = (Vec::new(), Arc::default());
        let mut running = Running { child, setting, listeners, admin: None, lines, _files: files };
        let broker = Broker::new(kind, PathBuf::new());
        running.find_targets(&broker, Ports([47, 48, 49, 50, 51])).unwrap();
        running
    }

    #[test]
    fn a_load_finds_the_listener_that_it_needs() {
        use Transport::{Tcp, Tls, Ws, Wss};
        use Version::{V5, V311};
        let port = |kind, transport, version| {
            let needs = Needs { version, ..Needs::over(transport) };
            Broker::new(kind, PathBuf::new()).can(needs)?;
            let running = running(kind, needs.setting);
            running.target(needs).map(|target| target.address.port()).map_err(|why| why.to_string())
        };
        assert_eq!(port(Kind::Mosquitto, Tcp, V5), Ok(47));
        assert_eq!(port(Kind::Mosquitto, Ws, V5), Ok(48));
        assert_eq!(port(Kind::Mosquitto, Tls, V5), Ok(50));
        assert_eq!(port(Kind::Mosquitto, Wss, V311), Ok(51));
        assert_eq!(port(Kind::Rumqttd, Tcp, V311), Ok(47));
        assert_eq!(port(Kind::Rumqttd, Tcp, V5), Ok(49));
        let none = Err("it has no ws listener for MQTT 5".to_owned());
        assert_eq!(port(Kind::Rumqttd, Ws, V5), none);
        let none = Err("it has no tcp listener for MQTT 5".to_owned());
        assert_eq!(port(Kind::Aedes, Tcp, V5), none);
        let none = Err("this tool does not set it up with TLS".to_owned());
        assert_eq!(port(Kind::Aedes, Tls, V311), none);
    }

    #[test]
    fn the_null_broker_relays_and_nothing_else() {
        let null = Broker::new(Kind::Null, PathBuf::new());
        let tcp = Needs { version: Version::V5, ..Needs::over(Transport::Tcp) };
        assert_eq!(null.can(tcp), Ok(()));
        assert!(null.can(Needs::over(Transport::Ws)).is_err());
        assert!(null.can(Needs { qos: 1, ..tcp }).is_err());
    }

    #[test]
    fn a_setting_has_its_listeners_and_no_other() {
        let guarded = Needs { setting: Setting::Guarded, ..Needs::over(Transport::Tls) };
        let running = running(Kind::Mosquitto, Setting::Guarded);
        assert_eq!(running.target(guarded).unwrap().address.port(), 50);
        assert!(running.target(Needs { transport: Transport::Wss, ..guarded }).is_err());
        let passwords = Needs { setting: Setting::Passwords, ..Needs::over(Transport::Ws) };
        let broker = Broker::new(Kind::Hrotti, PathBuf::new());
        assert_eq!(broker.can(passwords), Err("it has no ws listener".to_owned()));
    }

    #[test]
    fn every_configuration_that_was_used_is_published() {
        let text = |kind, settings: &[Setting]| {
            let settings = settings.iter().copied().collect();
            Broker::new(kind, PathBuf::new()).configuration(&settings)
        };
        let open = text(Kind::Mosquitto, &[Setting::Open]);
        assert!(open.starts_with("allow_anonymous true\n"), "{open}");
        let both = text(Kind::Mosquitto, &[Setting::Tls, Setting::Open]);
        assert!(both.starts_with("open:\n\nallow_anonymous true\n"), "{both}");
        assert!(both.contains("\n\nwith TLS:\n\nallow_anonymous true\n"), "{both}");
        assert_eq!(text(Kind::Null, &[Setting::Tls, Setting::Open]), "");
    }

    #[test]
    fn a_variant_says_what_is_special() {
        let broker = Broker::new(Kind::Hrotti, "hrotti".into());
        let open = BTreeSet::from([Setting::Open]);
        assert!(!broker.configuration(&open).contains("workers"));
        let two = broker.with_workers(2);
        assert_eq!((two.name.as_str(), two.kind), ("hrotti-w2", Kind::Hrotti));
        assert!(two.configuration(&open).contains("\"workers\": 2"));
        let observed = broker.observed();
        assert_eq!((observed.name.as_str(), observed.is_observed()), ("hrotti-observed", true));
        assert!(observed.configuration(&open).contains("\"admin\""));
        assert!(!broker.is_observed() && !broker.configuration(&open).contains("\"admin\""));
    }
}
