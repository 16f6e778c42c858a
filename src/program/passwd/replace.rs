//! Writes a file as a whole: a reader finds the old text or the new one, whatever happens meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces a file. A new one belongs to its user alone. One that is there keeps its owner and its group, so that a
/// broker of another user still reads it, and the rights of owner and group to read and write.
pub(super) fn replace(file: &Path, text: &str) -> Result<(), String> {
    // A symbolic link stays one.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new(".")).to_owned();
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let new = directory.join(name);
    let done = replace_by(&target, &new, &directory, text);
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done.map_err(|error| {
        let remedy = "check its directory and its permissions";
        format!("{}: it cannot be written: {error}; {remedy}", file.display())
    })
}

fn replace_by(target: &Path, new: &Path, directory: &Path, text: &str) -> io::Result<()> {
    let before = fs::metadata(target).ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return Err(io::Error::other("it is no regular file"));
    }
    // One that a run before left behind.
    let _ = fs::remove_file(new);
    let mut file = create(new)?;
    file.write_all(text.as_bytes())?;
    if let Some(before) = &before {
        take_over(&file, before)?;
    }
    file.sync_all()?;
    fs::rename(new, target)?;
    // The new name lasts when the directory is written; some file systems refuse this, and it can wait.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

#[cfg(unix)]
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Gives a new file the owner, the group and the rights of an old one; none to all users.
#[cfg(unix)]
fn take_over(new: &File, before: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    let own = new.metadata()?;
    if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
        fchown(new, Some(before.uid()), Some(before.gid()))?;
    }
    new.set_permissions(fs::Permissions::from_mode(before.mode() & 0o660 | 0o600))
}

#[cfg(not(unix))]
fn take_over(_: &File, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}
