//! Files and ports that a broker needs while it runs, and programs that are looked for.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// A file that goes with the value. Its directory is new and this process's own.
#[derive(Debug)]
pub(super) struct TempFile(pub(super) PathBuf);

impl TempFile {
    pub(super) fn new(name: &str, text: &str) -> io::Result<Self> {
        for number in 0..10_000 {
            let directory = format!("hrotti-bench-{}-{number}", std::process::id());
            let directory = env::temp_dir().join(directory);
            match fs::create_dir(&directory) {
                Ok(()) => {
                    let file = Self(directory.join(name));
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
    use super::*;

    #[test]
    fn a_temporary_file_goes_with_its_value() {
        let file = TempFile::new("x.toml", "text").unwrap();
        let path = file.0.clone();
        assert_eq!(path.extension().unwrap(), "toml");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        drop(file);
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
