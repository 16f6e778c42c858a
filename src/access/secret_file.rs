//! Reads a file with access rules, and refuses a file that others can change.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::FileError;

/// The largest file, in bytes: 16 MiB, room for some hundred thousand users.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a file for access control holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileContent {
    /// Passwords' hashes, keys or tokens: a file that all users of the machine can read deserves a warning.
    Secrets,
    /// Rules and names, which all users of the machine may read.
    Rules,
}

/// The text of a file for access control. `Debug` shows nothing of it, and the memory is overwritten when the value is
/// dropped.
///
/// ```
/// use std::path::Path;
///
/// use hrotti::access::{AccessFile, FileContent};
///
/// let error = AccessFile::read(Path::new("no/passwords"), FileContent::Secrets).unwrap_err();
/// assert!(error.to_string().starts_with("no/passwords: it cannot be read: "));
/// ```
pub struct AccessFile {
    text: Zeroizing<String>,
    source: Arc<str>,
    warning: Option<FileError>,
}

impl AccessFile {
    /// Reads a regular file of 1 byte to 16 MiB of UTF-8. A byte order mark at its beginning is left out. This blocks
    /// the thread as long as the file system does.
    ///
    /// # Errors
    /// The file cannot be read, is no regular file, is empty or too large, is no UTF-8, or can be written by all users
    /// of the machine (on Unix). The error is one line with the remedy, and holds nothing of the text.
    pub fn read(path: &Path, content: FileContent) -> Result<AccessFile, FileError> {
        let source: Arc<str> = path.display().to_string().into();
        let error = |line, problem: String| FileError::new(source.clone(), line, problem);
        let (text, metadata) = read(path).map_err(|problem| error(0, problem))?;
        if text.is_empty() {
            let remedy = "fill it, or take its setting out of the configuration";
            return Err(error(0, format!("it is empty; {remedy}")));
        }
        if writable_by_all(&metadata) {
            let remedy = format!("run: chmod o-w {source}");
            return Err(error(0, format!("all users of this machine can write to it; {remedy}")));
        }
        let text = match std::str::from_utf8(&text) {
            Ok(text) => Zeroizing::new(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()),
            Err(invalid) => {
                let before = &text[..invalid.valid_up_to()];
                let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
                let line = u32::try_from(line).unwrap_or(u32::MAX);
                return Err(error(line, "it is no UTF-8; save the file as UTF-8".to_owned()));
            }
        };
        let exposed = content == FileContent::Secrets && readable_by_all(&metadata);
        let warning = exposed.then(|| {
            let remedy = format!("run: chmod 600 {source}");
            error(0, format!("all users of this machine can read its secrets; {remedy}"))
        });
        Ok(AccessFile { text, source, warning })
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The path as errors and rules name it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What an operator should change, although the file can be used; one line with the remedy.
    #[must_use]
    pub fn warning(&self) -> Option<&FileError> {
        self.warning.as_ref()
    }
}

impl fmt::Debug for AccessFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessFile")
            .field("source", &self.source)
            .field("warning", &self.warning)
            .finish_non_exhaustive()
    }
}

/// The bytes of a regular file within the limit, and its modes.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), String> {
    // Opening a named pipe would wait for a writer, so the kind is looked at first.
    let kind = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !kind.is_file() {
        return Err("it is no regular file; name a file".to_owned());
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    // The modes of the file that was opened: the path may name another one by now.
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    let mut bytes = Zeroizing::new(Vec::new());
    if metadata.len() <= BYTES_MAX {
        let capacity = usize::try_from(metadata.len()).unwrap_or(0);
        // A vector that grows leaves copies of the secrets behind.
        bytes.reserve_exact(capacity.saturating_add(1));
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    }
    if metadata.len() > BYTES_MAX || bytes.len() as u64 > BYTES_MAX {
        return Err("it is larger than 16 MiB; check that the path names the right file".to_owned());
    }
    Ok((bytes, metadata))
}

fn unreadable(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "let the user that runs hrotti read it",
        _ => "check the path",
    };
    format!("it cannot be read: {error}; {remedy}")
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata)
}

/// Modes are an idea of Unix.
#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0
}

fn writable_by_all(metadata: &Metadata) -> bool {
    mode(metadata) & 0o002 != 0
}

fn readable_by_all(metadata: &Metadata) -> bool {
    mode(metadata) & 0o004 != 0
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::process;

    use super::*;

    /// A file that is removed at the end of the test.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str, bytes: &[u8], mode: u32) -> Temporary {
            let name = format!("hrotti-secret-file-{}-{name}", process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, bytes).expect("a temporary file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
            Temporary(path)
        }

        fn problem(&self) -> String {
            let error = AccessFile::read(&self.0, FileContent::Secrets).expect_err("an error");
            let text = error.to_string();
            assert_eq!(text.lines().count(), 1, "{text}");
            let place = self.0.display().to_string();
            text.strip_prefix(&place).expect("it names the file").to_owned()
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_private_file_is_read_without_a_warning() {
        let file = Temporary::new("private", b"\xef\xbb\xbfann:secret\n", 0o600);
        let read = AccessFile::read(&file.0, FileContent::Secrets).expect("a good file");
        assert_eq!(read.text(), "ann:secret\n", "without the byte order mark");
        assert_eq!(read.warning(), None);
        assert_eq!(read.source(), file.0.display().to_string());
        assert!(!format!("{read:?}").contains("ann:"), "{read:?}");
    }

    /// Pitfall 19.
    #[test]
    fn secrets_that_all_can_read_deserve_a_warning_pitfall_19() {
        let file = Temporary::new("exposed", b"text", 0o644);
        let read = AccessFile::read(&file.0, FileContent::Secrets).expect("it can be used");
        let warning = read.warning().expect("a warning").to_string();
        assert!(warning.ends_with(&format!("run: chmod 600 {}", file.0.display())), "{warning}");
        let read = AccessFile::read(&file.0, FileContent::Rules).expect("rules may be read");
        assert_eq!(read.warning(), None);
    }

    /// Pitfalls 10 and 19.
    #[test]
    fn a_file_that_all_can_write_is_refused_pitfall_10() {
        let file = Temporary::new("writable", b"text", 0o666);
        for content in [FileContent::Secrets, FileContent::Rules] {
            assert!(AccessFile::read(&file.0, content).is_err());
        }
        let remedy = format!("run: chmod o-w {}", file.0.display());
        assert!(file.problem().ends_with(&remedy), "{}", file.problem());
    }

    /// Pitfall 10.
    #[test]
    fn a_file_without_a_use_is_an_error_with_the_remedy_pitfall_10() {
        let empty = Temporary::new("empty", b"", 0o600);
        assert!(empty.problem().starts_with(": it is empty; fill it"), "{}", empty.problem());
        let binary = Temporary::new("binary", b"one\ntwo \xff\n", 0o600);
        assert_eq!(binary.problem(), ":2: it is no UTF-8; save the file as UTF-8");
        let large = Temporary::new("large", b"", 0o600);
        let file = File::options().write(true).open(&large.0).expect("the file");
        file.set_len(BYTES_MAX + 1).expect("a large file without blocks");
        assert!(large.problem().starts_with(": it is larger than 16 MiB"), "{}", large.problem());
        file.set_len(BYTES_MAX).expect("a file at the limit");
        assert!(AccessFile::read(&large.0, FileContent::Rules).is_ok());
    }

    #[test]
    fn what_is_no_file_is_an_error_with_the_remedy() {
        let error = |path: &str| {
            let read = AccessFile::read(Path::new(path), FileContent::Rules);
            read.expect_err("no file").to_string()
        };
        assert_eq!(error("/"), "/: it is no regular file; name a file");
        assert_eq!(error("/dev/zero"), "/dev/zero: it is no regular file; name a file");
        let missing = error("/no/such\nfile");
        assert!(missing.starts_with("/no/such\\nfile: it cannot be read: "), "{missing}");
        assert!(missing.ends_with("; check the path"), "{missing}");
    }
}
