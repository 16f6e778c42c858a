//! The program as a process, for tests of the hand-over.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of its own, which goes with the value.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("hrotti-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("handover.sock")
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, listeners: &str, limits: &str) -> PathBuf {
        self.configure_with(listeners, limits, "")
    }

    /// Writes the configuration, with more keys.
    pub(crate) fn configure_with(&self, listeners: &str, limits: &str, more: &str) -> PathBuf {
        let path = self.0.join("config.json");
        let socket = self.socket();
        let text = format!(
            r#"{{ "maxQueueDepth": 1000000, "handOver": {socket:?}, "limits": {{ {limits} }}, "listeners": {{ {listeners} }} {more} }}"#
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program; killed with the value if it runs.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

impl Program {
    pub(crate) fn start(config: &Path) -> Program {
        Program::start_with(config, &[])
    }

    /// With variables of the environment.
    pub(crate) fn start_with(config: &Path, variables: &[(&str, PathBuf)]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hrotti"))
            .arg("-conf")
            .arg(config)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let out = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Program { child, lines, seen: Vec::new() }
    }

    /// The first line that begins with `start`, without it.
    pub(crate) fn line(&mut self, start: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| {
                panic!("no line {start:?} in {:#?}; {:?}", self.seen, self.child.try_wait())
            });
            let rest = line.strip_prefix(start).map(str::to_owned);
            self.seen.push(line);
            if let Some(rest) = rest {
                return rest;
            }
        }
    }

    /// Reads on until a line contains `text`.
    pub(crate) fn says(&mut self, text: &str) {
        while !self.line("").contains(text) {}
    }

    /// The address of a listener, which is the next one to be named.
    pub(crate) fn address(&mut self, name: &str) -> SocketAddr {
        let endpoint = self.line(&format!("listening: {name} "));
        let address = endpoint.split("//").nth(1).unwrap().split('/').next().unwrap();
        address.parse().unwrap()
    }

    /// Has it read its configuration again.
    pub(crate) fn reload(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        self.says("reloaded: ");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The exit code and the standard error, once it has ended.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < until, "it does not end: {:#?}", self.seen);
            thread::park_timeout(Duration::from_millis(5));
        }
        let code = self.child.wait().unwrap().code();
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (code, err)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
