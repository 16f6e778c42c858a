//! Files and ports that a broker needs while it runs, and programs that are looked for.

use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Kind;
use super::config::{Places, Ports};
use crate::access;
use crate::certificate::certificate;
use crate::load::Setting;

/// A directory that goes with the value, and all that is in it. It is new.
#[derive(Debug)]
pub(super) struct TempDirectory {
    path: PathBuf,
    is_private: bool,
}

impl TempDirectory {
    /// A private one nobody else can read.
    pub(super) fn new(is_private: bool) -> io::Result<Self> {
        let mode = if is_private { 0o700 } else { 0o755 };
        for number in 0..10_000 {
            let directory = format!("hrotti-bench-{}-{number}", std::process::id());
            let path = env::temp_dir().join(directory);
            match DirBuilder::new().mode(mode).create(&path) {
                Ok(()) => return Ok(Self { path, is_private }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("no free name for a temporary directory"))
    }

    /// One for the files of a broker. Started by root, mosquitto reads them as another user. They
    /// hold no secret, but hrotti warns of such files that others can read.
    pub(super) fn of(kind: Kind) -> io::Result<Self> {
        Self::new(kind != Kind::Mosquitto)
    }

    /// Writes a file that others can read as they can read the directory.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let mode = if self.is_private { 0o600 } else { 0o644 };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Writes what a broker reads in this setting, and says where it is.
pub(super) fn written(
    directory: &TempDirectory,
    kind: Kind,
    setting: Setting,
) -> io::Result<Places> {
    let write = |is_needed: bool, name: &str, text: &dyn Fn() -> String| {
        if !is_needed {
            return Ok(String::new());
        }
        let path = directory.write(name, &text())?;
        path.into_os_string().into_string().map_err(|_| io::Error::other("a path is not UTF-8"))
    };
    let shown = certificate()?;
    let has_tls = matches!(setting, Setting::Tls | Setting::Guarded);
    // mosquitto 2.0 does not know the costly hash.
    let with_costly = setting == Setting::Guarded && kind == Kind::Hrotti;
    Ok(Places {
        ports: Ports::any(),
        certificate: write(has_tls, "certificate.pem", &|| shown.certificate.clone())?,
        key: write(has_tls, "key.pem", &|| shown.key.clone())?,
        passwords: write(setting.has_users(), "passwords", &|| access::password_file(with_costly))?,
        rules: write(setting == Setting::Rules, "rules", &access::rule_file)?,
        bans: write(setting == Setting::Guarded, "bans.json", &access::ban_file)?,
    })
}

/// Different ports that were free a moment ago. Somebody may take one before the broker does; then
/// the broker ends at once and says so.
pub(super) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// The first of the files that is there.
pub(super) fn first_there(places: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    places.into_iter().find(|place| place.exists())
}

/// Where a program of this name may be in the path.
pub(super) fn in_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|directory| directory.join(name)).collect()
}

/// Where `bench/peers/install.sh` puts the peers: `peers` in the directory of the builds.
pub(super) fn peers_directory() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    program.parent().and_then(Path::parent).map(|target| target.join("peers"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_temporary_file_goes_with_its_directory_and_is_private() {
        let directory = TempDirectory::new(true).unwrap();
        let path = directory.write("x.toml", "text").unwrap();
        assert_eq!(path.extension().unwrap(), "toml");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        for (path, mode) in [(path.as_path(), 0o600), (path.parent().unwrap(), 0o700)] {
            let permissions = fs::metadata(path).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode, "{}", path.display());
        }
        assert!(directory.write("x.toml", "other").is_err());
        drop(directory);
        // The directory's name may be another test's by now, this file's may not.
        assert!(!path.exists());
    }

    #[test]
    fn free_ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c && a > 0);
    }

    #[test]
    fn programs_are_found_where_they_are() {
        let there = env::current_exe().unwrap();
        assert_eq!(first_there(["/nonexistent/x".into(), there.clone()]), Some(there));
        assert_eq!(first_there(in_path("no-such-program-anywhere")), None);
        assert!(first_there(in_path("cargo")).is_some_and(|path| path.is_absolute()));
    }
}
