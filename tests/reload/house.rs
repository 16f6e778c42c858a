//! A server of a test's own, with a directory for its files.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use hrotti::config::Config;
use hrotti::server::{Server, ServerErrors};

use crate::peer::{Peer, in_time};

pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) directory: PathBuf,
}

/// A configuration with this text between its braces.
pub(crate) fn config(text: &str) -> Config {
    Config::from_json(&format!("{{ {text} }}"), "test").unwrap()
}

/// A directory of its own.
pub(crate) fn directory() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("reload-{}-{number}", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

pub(crate) fn write(directory: &std::path::Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl House {
    pub(crate) fn start(text: &str) -> House {
        House::start_in(directory(), text)
    }

    pub(crate) fn start_in(directory: PathBuf, text: &str) -> House {
        let server = in_time(Server::start(config(text), &directory)).unwrap();
        House { server, directory }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        write(&self.directory, name, text);
    }

    /// Reloads, and says what has changed.
    pub(crate) fn reload(&self, text: &str) -> Result<Vec<String>, ServerErrors> {
        let changes = in_time(self.server.reload(config(text)))?;
        Ok(changes.iter().map(ToString::to_string).collect())
    }

    pub(crate) fn plan(&self, text: &str) -> Vec<String> {
        let changes = in_time(self.server.plan(config(text))).unwrap();
        changes.iter().map(ToString::to_string).collect()
    }

    /// The first endpoint of a listener that runs.
    pub(crate) fn endpoint(&self, name: &str) -> String {
        let listeners = self.server.listeners();
        let found = listeners.iter().find(|listener| listener.name == name).unwrap();
        found.endpoints[0].clone()
    }

    pub(crate) fn address(&self, name: &str) -> String {
        let endpoint = self.endpoint(name);
        let (_, rest) = endpoint.split_once("://").unwrap();
        rest.split('/').next().unwrap().to_owned()
    }

    pub(crate) fn connect(&self, listener: &str, id: &str) -> Peer {
        Peer::connect(&format!("tcp://{}", self.address(listener)), id)
    }

    /// Connections of all listeners.
    pub(crate) fn connections(&self) -> usize {
        self.server.listeners().iter().map(|listener| listener.connections).sum()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
