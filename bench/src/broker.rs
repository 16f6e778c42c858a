//! The brokers that the tool starts by itself: each with a tcp and, where it can, a WebSocket
//! listener on free ports of the loopback interface, with a configuration that is printed with the
//! result. A new one is a [`Kind`], its configuration and its places.

mod choice;
mod config;
mod files;

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

pub(crate) use self::choice::{Choice, choose};
use self::config::Ports;
use self::files::TempFile;
use crate::codec::Version;
use crate::link::Link;
use crate::load::Needs;
use crate::null;
use crate::target::{Target, Transport};

/// How long a broker may take until it answers a CONNECT, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(10);

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

    /// The listeners it has, and what each serves.
    fn listeners(self) -> &'static [(Transport, &'static [Version])] {
        use Transport::{Tcp, Ws};
        use Version::{V5, V311};
        match self {
            Self::Hrotti | Self::Mosquitto => &[(Tcp, &[V311, V5]), (Ws, &[V311, V5])],
            // A port for each version, and no MQTT 5 over WebSocket.
            Self::Rumqttd => &[(Tcp, &[V311]), (Ws, &[V311]), (Tcp, &[V5])],
            Self::Aedes => &[(Tcp, &[V311]), (Ws, &[V311])],
            Self::Null => &[(Tcp, &[V311, V5])],
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
    workers: Option<u32>,
}

impl Broker {
    fn new(kind: Kind, place: PathBuf) -> Self {
        Self { kind, name: kind.name().to_owned(), place, workers: None }
    }

    /// The same program with another number of workers.
    fn with_workers(&self, workers: u32) -> Self {
        let name = format!("{}-w{workers}", self.kind.name());
        Self { name, workers: Some(workers), ..self.clone() }
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

    /// The configuration as it is published: with words for the ports that are chosen anew.
    pub(crate) fn configuration(&self) -> String {
        config::text(self.kind, self.workers, &Ports::placeholders())
    }

    /// Starts it and waits until it answers at all its listeners.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, ends at once, or does not answer within ten seconds.
    pub(crate) fn start(&self) -> io::Result<Running> {
        let [tcp, ws, v5] = files::free_ports()?;
        let ports = match self.kind.says_where() {
            true => Ports::any(),
            false => Ports::named(&tcp.to_string(), &ws.to_string(), &v5.to_string()),
        };
        let text = config::text(self.kind, self.workers, &ports);
        let file = TempFile::new(self.kind.file(), &text)?;
        let mut command = self.command();
        match self.kind {
            Kind::Hrotti => command.arg("-conf").arg(&file.0),
            Kind::Mosquitto => command.arg("-c").arg(&file.0),
            Kind::Rumqttd => command.arg("--quiet").arg("-c").arg(&file.0),
            Kind::Aedes => command.arg(&file.0),
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
        let mut running = Running { child, kind: self.kind, listeners: Vec::new(), _config: file };
        running.find_targets(self, [tcp, ws, v5])?;
        running.wait_for_answer(&self.name)?;
        Ok(running)
    }
}

/// A broker that this process started; ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    kind: Kind,
    listeners: Vec<(Target, &'static [Version])>,
    _config: TempFile,
}

impl Running {
    /// Where it listens for what a load needs.
    ///
    /// # Errors
    ///
    /// When it cannot do that: why.
    pub(crate) fn target(&self, needs: Needs) -> Result<&Target, String> {
        if self.kind == Kind::Null && !null::can(needs) {
            return Err("it relays at QoS 0 over tcp and nothing else".to_owned());
        }
        let mut listeners = self.listeners.iter();
        let found = listeners.find(|(target, versions)| {
            target.transport == needs.transport && versions.contains(&needs.version)
        });
        found.map(|(target, _)| target).ok_or_else(|| {
            let transport = needs.transport.name();
            match needs.version {
                Version::V311 => format!("it has no {transport} listener"),
                Version::V5 => format!("it has no {transport} listener for MQTT 5"),
            }
        })
    }

    /// A target for each listener, as the broker says or as it was told.
    fn find_targets(&mut self, broker: &Broker, [tcp, ws, v5]: [u16; 3]) -> io::Result<()> {
        let pid = Some(self.child.id());
        let listeners = broker.kind.listeners();
        let mut targets = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            let lines = listening_lines(stdout);
            for _ in listeners {
                targets.push(Target::new(&next_url(&lines, &broker.name)?, pid)?);
            }
            // Not every broker says it in the same order each time.
            targets.sort_by_key(|target| target.transport == Transport::Ws);
        } else {
            for &(transport, versions) in listeners {
                let port = match transport {
                    Transport::Ws => ws,
                    Transport::Tcp if versions == [Version::V5] => v5,
                    Transport::Tcp => tcp,
                };
                let address = (Ipv4Addr::LOCALHOST, port).into();
                targets.push(Target { transport, address, pid });
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
            match versions.contains(&Version::V311) {
                true => Link::open(target, "bench-probe", None)?.close(),
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
fn listening_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
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

/// The URL in `listening: NAME tcp://HOST:PORT`.
fn listening_url(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("listening:")?;
    rest.split_whitespace().find(|word| word.starts_with("tcp://") || word.starts_with("ws://"))
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
        assert_eq!(listening_url("ready"), None);
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
        let error = broker.start().unwrap_err().to_string();
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
            let error = Broker::new(kind, program.clone()).start().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    fn running(kind: Kind) -> Running {
        let program = files::first_there(files::in_path("sleep")).unwrap();
        let child = Command::new(program).arg("60").stdout(Stdio::null()).spawn().unwrap();
        let config = TempFile::new("none", "").unwrap();
        let mut running = Running { child, kind, listeners: Vec::new(), _config: config };
        let broker = Broker::new(kind, PathBuf::new());
        running.find_targets(&broker, [47, 48, 49]).unwrap();
        running
    }

    #[test]
    fn a_load_finds_the_listener_that_it_needs() {
        let needs = |transport, version| Needs { transport, version, qos: 0, retained: false };
        let port = |kind, transport, version| {
            let running = running(kind);
            running.target(needs(transport, version)).map(|target| target.address.port())
        };
        use Transport::{Tcp, Ws};
        use Version::{V5, V311};
        assert_eq!(port(Kind::Mosquitto, Tcp, V5), Ok(47));
        assert_eq!(port(Kind::Mosquitto, Ws, V5), Ok(48));
        assert_eq!(port(Kind::Rumqttd, Tcp, V311), Ok(47));
        assert_eq!(port(Kind::Rumqttd, Tcp, V5), Ok(49));
        let none = Err("it has no ws listener for MQTT 5".to_owned());
        assert_eq!(port(Kind::Rumqttd, Ws, V5), none);
        let none = Err("it has no tcp listener for MQTT 5".to_owned());
        assert_eq!(port(Kind::Aedes, Tcp, V5), none);
        let null = running(Kind::Null);
        assert!(null.target(needs(Tcp, V5)).is_ok());
        assert!(null.target(needs(Ws, V311)).is_err());
        assert!(null.target(Needs { qos: 1, ..needs(Tcp, V311) }).is_err());
    }

    #[test]
    fn a_variant_says_what_is_special() {
        let broker = Broker::new(Kind::Hrotti, "hrotti".into());
        assert!(!broker.configuration().contains("workers"));
        let two = broker.with_workers(2);
        assert_eq!((two.name.as_str(), two.kind), ("hrotti-w2", Kind::Hrotti));
        assert!(two.configuration().contains("\"workers\": 2"));
    }
}
