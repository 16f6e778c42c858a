//! The file of a Unix socket.

use std::path::PathBuf;

use url::Url;

/// Who may connect to a Unix socket: the permissions and the owner of its file.
///
/// ```
/// use hrotti::ListenerConfig;
///
/// let mut listener = ListenerConfig::new("unix:///run/hrotti.sock")?;
/// listener.socket.mode = Some(0o600);
/// listener.socket.group = Some("mqtt".to_owned());
/// assert!(listener.validate().is_ok());
/// # Ok::<(), hrotti::ListenerConfigError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketFile {
    /// The permissions, 0 to 0o777. Default 0o660: owner and group may connect. A Client needs the permission to
    /// write.
    pub mode: Option<u32>,
    /// The owner: a name of this machine's user list, or a number. Default: the user of the process. Only a
    /// privileged process may choose another one.
    pub owner: Option<String>,
    /// The group: a name of this machine's group list, or a number. Default: the group of the process.
    pub group: Option<String>,
}

impl SocketFile {
    /// The largest mode.
    pub(crate) const MODE_MAX: u32 = 0o777;

    /// Whether anything was chosen.
    pub(super) fn is_default(&self) -> bool {
        *self == SocketFile::default()
    }

    /// What cannot be, with the remedy.
    pub(super) fn fault(&self) -> Option<String> {
        let mode = self.mode.filter(|mode| *mode > SocketFile::MODE_MAX);
        if let Some(mode) = mode {
            return Some(format!("mode {mode:#o} is more than 0o777; write for example 0o660"));
        }
        for (key, name) in [("owner", &self.owner), ("group", &self.group)] {
            let is_name = |name: &String| {
                !name.is_empty()
                    && !name.contains(|letter: char| letter == ':' || letter.is_control())
            };
            if let Some(name) = name.as_ref().filter(|name| !is_name(name)) {
                return Some(format!("{key} {name:?} is no name; write a name or a number"));
            }
        }
        None
    }
}

/// The path of a `unix` URL; `None` if it has none that a file can have.
pub(super) fn path_of(url: &Url) -> Option<PathBuf> {
    let bytes = percent_decoded(url.path())?;
    let path = String::from_utf8(bytes).ok()?;
    let is_file = !path.is_empty() && !path.ends_with('/') && !path.contains('\0');
    is_file.then(|| path.into())
}

/// `None` for a `%` that no two hexadecimal digits follow.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| plain)?);
        rest = &rest[2..];
    }
    Some(bytes)
}
