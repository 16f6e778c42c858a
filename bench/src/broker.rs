//! The brokers that the tool starts by itself: each on a free port of the loopback interface,
//! with a configuration that is printed with the result.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::link::Link;
use crate::target::{Target, Transport};

/// How long a broker may take until it answers a CONNECT, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which broker it is; decides its configuration and how its port is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Hrotti,
    Mosquitto,
    /// This program itself, see `null.rs`.
    Null,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hrotti => "hrotti",
            Self::Mosquitto => "mosquitto",
            Self::Null => "null",
        }
    }

    /// The configuration file. The port is ignored by a broker that chooses its own.
    pub(crate) fn configuration(self, port: &str) -> String {
        match self {
            Self::Hrotti => {
                let tcp = serde_json::json!({ "url": "tcp://127.0.0.1:0" });
                let all = serde_json::json!({
                    "maxQueueDepth": 100_000,
                    "listeners": { "tcp": tcp },
                });
                all.to_string()
            }
            Self::Mosquitto => format!(
                "listener {port} 127.0.0.1\n\
                 allow_anonymous true\n\
                 persistence false\n\
                 log_dest none\n\
                 log_type none\n\
                 connection_messages false\n\
                 set_tcp_nodelay true\n\
                 max_queued_messages 0\n\
                 max_inflight_messages 0\n"
            ),
            Self::Null => String::new(),
        }
    }
}

/// A broker that can be started.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) kind: Kind,
    pub(crate) binary: PathBuf,
}

impl Broker {
    /// What the program says of its version, in one line.
    pub(crate) fn version(&self) -> String {
        let flag = match self.kind {
            Kind::Hrotti | Kind::Null => "--version",
            Kind::Mosquitto => "-h",
        };
        let output = Command::new(&self.binary).arg(flag).stdin(Stdio::null()).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        text.lines().next().map_or_else(|| "unknown version".to_owned(), str::to_owned)
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, ends at once, or does not answer within ten seconds.
    pub(crate) fn start(&self) -> io::Result<Running> {
        let name = self.kind.name();
        let port = match self.kind {
            Kind::Hrotti | Kind::Null => 0,
            Kind::Mosquitto => free_port()?,
        };
        let config = TempFile::new(name, &self.kind.configuration(&port.to_string()))?;
        let mut command = Command::new(&self.binary);
        match self.kind {
            Kind::Hrotti => command.arg("-conf").arg(&config.0).stdout(Stdio::piped()),
            Kind::Mosquitto => command.arg("-c").arg(&config.0).stdout(Stdio::null()),
            Kind::Null => command.arg("null").stdout(Stdio::piped()),
        };
        let child = command.env_remove("HROTTI_URL").stdin(Stdio::null()).spawn();
        let mut child = child.map_err(|error| {
            let remedy = format!("give --{name} PATH, or leave it out with --only");
            let binary = self.binary.display();
            let text = format!("{name} cannot be started from {binary}: {error}; {remedy}");
            io::Error::new(error.kind(), text)
        })?;
        let lines = child.stdout.take().map(listening_lines);
        let target = Target {
            transport: Transport::Tcp,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            pid: Some(child.id()),
        };
        let mut running = Running { child, target, _config: config };
        if let Some(lines) = lines {
            running.target = Target::new(&first_url(&lines, name)?, running.target.pid)?;
        }
        running.wait_for_answer(name)?;
        Ok(running)
    }
}

/// A broker that this process started; ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    target: Target,
    _config: TempFile,
}

impl Running {
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the process is gone.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Tries to connect until it is accepted.
    fn wait_for_answer(&mut self, name: &str) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{name} ended at once: {status}")));
            }
            match Link::open(&self.target, "bench-probe", None) {
                Ok(link) => {
                    link.close();
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => {
                    let text = format!("{name} does not answer: {error}");
                    return Err(io::Error::new(error.kind(), text));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
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

/// Reads on a thread of its own, to the end: a full pipe would stop the broker.
fn listening_lines(stdout: std::process::ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(url) = listening_url(&line) {
                // After the first nobody listens any more.
                let _ = sender.send(url.to_owned());
            }
        }
    });
    receiver
}

fn first_url(lines: &Receiver<String>, name: &str) -> io::Result<String> {
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
    rest.split_whitespace().find(|word| word.starts_with("tcp://"))
}

/// A port that was free a moment ago. Somebody may take it before the broker does; then the broker
/// ends at once and says so.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A file that goes with the value. Its directory is new and this process's own.
#[derive(Debug)]
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> io::Result<Self> {
        for number in 0..10_000 {
            let directory = format!("hrotti-bench-{}-{number}", std::process::id());
            let directory = env::temp_dir().join(directory);
            match fs::create_dir(&directory) {
                Ok(()) => {
                    let file = Self(directory.join(format!("{name}.conf")));
                    fs::write(&file.0, text)?;
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("no free name for a temporary directory"))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

/// hrotti from the same build as this program, or the one in the path.
pub(crate) fn default_hrotti() -> PathBuf {
    let sibling = env::current_exe().ok().map(|path| path.with_file_name("hrotti"));
    sibling.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("hrotti"))
}

/// mosquitto from the path, or where Debian puts it (which is in no user's path).
pub(crate) fn default_mosquitto() -> PathBuf {
    let debian = Path::new("/usr/sbin/mosquitto");
    if debian.exists() { debian.to_owned() } else { PathBuf::from("mosquitto") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hrotti_s_configuration_is_json_with_a_free_port() {
        let text = Kind::Hrotti.configuration("7");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["maxQueueDepth"], 100_000);
        assert_eq!(json["listeners"]["tcp"]["url"], "tcp://127.0.0.1:0");
    }

    #[test]
    fn mosquitto_s_configuration_is_fair_and_private() {
        let text = Kind::Mosquitto.configuration("4711");
        let lines: Vec<_> = text.lines().collect();
        for line in [
            "listener 4711 127.0.0.1",
            "persistence false",
            "log_dest none",
            "set_tcp_nodelay true",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "allow_anonymous true",
        ] {
            assert!(lines.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_listening_line_is_understood() {
        let url = Some("tcp://127.0.0.1:41234");
        assert_eq!(listening_url("listening: tcp tcp://127.0.0.1:41234"), url);
        assert_eq!(listening_url("listening: ws ws://127.0.0.1:41234/"), None);
        assert_eq!(listening_url("ready"), None);
    }

    #[test]
    fn a_temporary_file_goes_with_its_value() {
        let file = TempFile::new("x", "text").unwrap();
        let path = file.0.clone();
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        drop(file);
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn a_broker_that_is_not_there_is_named() {
        let broker = Broker { kind: Kind::Mosquitto, binary: "/nonexistent/mosquitto".into() };
        let error = broker.start().unwrap_err().to_string();
        assert!(error.contains("/nonexistent/mosquitto"), "{error}");
    }
}
