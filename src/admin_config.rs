//! The settings of an admin listener: where it listens, and the file that says who may use it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::listener_config::{ListenerConfig, TlsConfig};

/// The port of a URL without one.
const DEFAULT_PORT: u16 = 9884;

/// The URL of an admin listener and the file of its token.
///
/// | URL | serves |
/// |---|---|
/// | `http://HOST[:PORT]` | HTTP; the default port is 9884, port 0 lets the operating system choose |
/// | `https://HOST[:PORT]` | HTTP over TLS; needs [`AdminConfig::with_tls`] |
/// | `unix:///PATH` | HTTP over a Unix socket, on Unix |
///
/// Hosts are those of [`ListenerConfig`]. A listener that other machines can reach needs a token; one on a loopback
/// address or on a Unix socket may do without.
///
/// ```
/// use hrotti::AdminConfig;
///
/// let local = AdminConfig::new("http://127.0.0.1:9884")?;
/// assert!(local.validate().is_ok());
/// let reachable = AdminConfig::new("http://0.0.0.0:9884")?;
/// assert!(reachable.validate().unwrap_err().to_string().contains("token"));
/// assert!(reachable.with_token_file("admin.token").validate().is_ok());
/// # Ok::<(), hrotti::AdminConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// The address as the listeners of MQTT have theirs.
    address: ListenerConfig,
    token_file: Option<PathBuf>,
}

/// Why an [`AdminConfig`] cannot be used. The text names the value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminConfigError {
    /// The URL cannot be served.
    Url(String),
    /// TLS has no certificate, or another URL than `https` has one.
    Tls(String),
    /// Other machines can reach the listener, and it has no token.
    Token(String),
}

impl fmt::Display for AdminConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (AdminConfigError::Url(text)
        | AdminConfigError::Tls(text)
        | AdminConfigError::Token(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for AdminConfigError {}

impl AdminConfig {
    /// Parses a URL.
    ///
    /// # Errors
    /// The text is no URL that an admin listener can serve: another scheme, a path, a query, user information, or a
    /// host that no listener can have.
    pub fn new(url: &str) -> Result<AdminConfig, AdminConfigError> {
        let example = "write http://HOST:PORT, for example http://127.0.0.1:9884";
        let refused = |why: &str| AdminConfigError::Url(format!("{url:?} {why}; {example}"));
        let url = url.trim();
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        let address = match scheme.to_ascii_lowercase().as_str() {
            "http" => with_port("tcp", rest),
            "https" => with_port("mqtts", rest),
            "unix" => url.to_owned(),
            _ => return Err(refused("has no scheme that an admin listener serves")),
        };
        let authority = rest.trim_start_matches('/');
        if scheme.eq_ignore_ascii_case("unix") {
        } else if !rest.starts_with("//") || authority.is_empty() {
            return Err(refused("has no host"));
        } else if authority.contains('@') {
            // What stands there may be a password.
            let why = "the URL has user information, which is not used; take it out, and write the token into a file";
            return Err(AdminConfigError::Url(why.to_owned()));
        } else if authority.trim_end_matches('/').contains(['/', '?', '#']) {
            return Err(refused("has a path, a query or a fragment, which is not used"));
        }
        let address = ListenerConfig::new(&address)
            .map_err(|_| refused("has no host and port that can be bound"))?;
        Ok(AdminConfig { address, token_file: None })
    }

    /// Sets the file whose first line is the token that requests have to show: 16 bytes or more.
    #[must_use]
    pub fn with_token_file(mut self, path: impl Into<PathBuf>) -> AdminConfig {
        self.token_file = Some(path.into());
        self
    }

    /// Sets certificate and key of an `https` listener.
    ///
    /// # Errors
    /// [`AdminConfigError::Tls`]: the URL is not `https`, or the settings contradict each other.
    pub fn with_tls(mut self, tls: TlsConfig) -> Result<AdminConfig, AdminConfigError> {
        if !self.address.is_tls() {
            let text =
                format!("\"{self}\" has no TLS; write https://, or take the certificate out");
            return Err(AdminConfigError::Tls(text));
        }
        let address = self.address.with_tls(tls);
        self.address = address.map_err(|error| AdminConfigError::Tls(error.to_string()))?;
        Ok(self)
    }

    /// The same with its relative paths under `base`, for example the directory of the configuration file. The path of
    /// a Unix socket stays as it is.
    #[must_use]
    pub fn relative_to(mut self, base: &Path) -> AdminConfig {
        self.token_file = self.token_file.map(|path| base.join(path));
        self.address.tls = self.address.tls.map(|tls| tls.relative_to(base));
        self
    }

    /// The file of the token.
    #[must_use]
    pub fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    /// Certificate and key.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsConfig> {
        self.address.tls.as_ref()
    }

    /// Whether only this machine can reach the listener: a loopback address or a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.address.is_unix() || self.address.is_loopback()
    }

    /// Checks what depends on several settings.
    ///
    /// # Errors
    /// [`AdminConfigError::Token`]: other machines can reach the listener and there is no token file;
    /// [`AdminConfigError::Tls`]: `https` without a certificate.
    pub fn validate(&self) -> Result<(), AdminConfigError> {
        if self.address.is_tls() && self.address.tls.is_none() {
            let text = format!(
                "\"{self}\" needs a certificate; add \"tls\": {{\"certificate\": \"server.pem\", \"key\": \"server.key\"}}"
            );
            return Err(AdminConfigError::Tls(text));
        }
        if self.token_file.is_none() && !self.is_local() {
            let text = format!(
                "\"{self}\" can be reached from other machines and has no token; add \"tokenFile\": \"admin.token\" (make \
                 one: openssl rand -hex 32 > admin.token; chmod 600 admin.token), or listen on 127.0.0.1"
            );
            return Err(AdminConfigError::Token(text));
        }
        Ok(())
    }

    /// The address as the listeners of MQTT have theirs.
    pub(crate) fn address(&self) -> &ListenerConfig {
        &self.address
    }
}

/// The URL.
impl fmt::Display for AdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&as_http(&self.address.to_string()))
    }
}

/// An endpoint of a transport, such as `tcp://127.0.0.1:9884`, as the URL that HTTP has for it.
pub(crate) fn as_http(endpoint: &str) -> String {
    match endpoint.split_once("://") {
        Some(("tcp", rest)) => format!("http://{rest}"),
        Some(("mqtts", rest)) => format!("https://{rest}"),
        _ => endpoint.to_owned(),
    }
}

/// The URL with a scheme of the listeners and always a port.
fn with_port(scheme: &str, rest: &str) -> String {
    let rest = rest.trim_end_matches('/');
    let host_ends = rest.rfind(']').map_or(0, |at| at + 1);
    let has_port = rest[host_ends..].trim_start_matches('/').contains(':');
    let port = if has_port { String::new() } else { format!(":{DEFAULT_PORT}") };
    format!("{scheme}:{rest}{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_as_they_were_written() {
        for (url, shown, local) in [
            ("http://127.0.0.1:9884", "http://127.0.0.1:9884", true),
            ("http://127.0.0.1", "http://127.0.0.1:9884", true),
            ("http://localhost:0/", "http://localhost:0", true),
            ("http://[::1]", "http://[::1]:9884", true),
            ("HTTP://[::1]:80", "http://[::1]:80", true),
            ("http://0.0.0.0:1", "http://0.0.0.0:1", false),
            ("http://*:1", "http://*:1", false),
            ("https://broker.example:443", "https://broker.example:443", false),
            ("unix:///run/hrotti-admin.sock", "unix:///run/hrotti-admin.sock", true),
        ] {
            let config = AdminConfig::new(url).expect(url);
            assert_eq!((config.to_string().as_str(), config.is_local()), (shown, local), "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_served_is_an_error_with_the_remedy() {
        for url in [
            "",
            "127.0.0.1:9884",
            "tcp://127.0.0.1:1883",
            "http://",
            "http:127.0.0.1",
            "http://h:1/admin",
            "http://h:1?x=1",
            "http://h:1#x",
            "http://h:66000",
            "unix://",
        ] {
            let error = AdminConfig::new(url).expect_err(url).to_string();
            assert!(
                error.contains(&format!("{url:?}")) && error.contains("write http://"),
                "{error}"
            );
        }
        let error = AdminConfig::new("http://ann:secret@h:1").expect_err("a password").to_string();
        assert!(!error.contains("secret") && error.contains("take it out"), "{error}");
    }

    /// Pitfall 21.
    #[test]
    fn a_listener_that_others_reach_needs_a_token_pitfall_21() {
        for url in [
            "http://0.0.0.0",
            "http://[::]",
            "http://*",
            "http://192.0.2.1",
            "http://broker.example",
        ] {
            let config = AdminConfig::new(url).expect(url);
            let error = config.validate().expect_err("no token").to_string();
            for part in [url, "tokenFile", "or listen on 127.0.0.1"] {
                assert!(error.contains(part), "{part}: {error}");
            }
            assert_eq!(config.with_token_file("t").validate(), Ok(()));
        }
        for url in ["http://127.8.8.8", "http://localhost", "http://[::1]", "unix:///a.sock"] {
            assert_eq!(AdminConfig::new(url).expect(url).validate(), Ok(()));
        }
    }

    #[test]
    fn tls_and_its_certificate_belong_together() {
        let tls = || TlsConfig::new("server.pem", "server.key");
        let secure = AdminConfig::new("https://127.0.0.1").expect("a good URL");
        let error = secure.validate().expect_err("no certificate").to_string();
        assert!(error.contains("needs a certificate"), "{error}");
        let secure = secure.with_tls(tls()).expect("https").relative_to(Path::new("/etc/hrotti"));
        assert_eq!(secure.validate(), Ok(()));
        assert_eq!(
            secure.tls().map(|tls| tls.key.as_path()),
            Some(Path::new("/etc/hrotti/server.key"))
        );
        let plain = AdminConfig::new("http://127.0.0.1").expect("a good URL");
        let error = plain.with_tls(tls()).expect_err("no TLS").to_string();
        assert!(error.contains("write https://"), "{error}");
    }
}
