//! Everything that a configuration names, read before anything is bound: certificates, keys, users and rules.

use std::fmt;
use std::path::Path;

use super::ServerErrors;
use crate::access::{AccessPart, Ban, ListenerAccess, LoadedAccess};
use crate::admin_config::AdminConfig;
use crate::config::Config;
use crate::listener_config::{ListenerConfig, TlsConfig};
use crate::net::bound::Material;
use crate::transport::tls::ClientCertificate;

/// Everything that a [`Config`] names, read and checked: certificates, keys, users and rules. `Display` writes what was
/// read from which key, and the warnings, one line each.
///
/// ```
/// use hrotti::config::Config;
/// use hrotti::server::Loaded;
///
/// let text = r#"{ "listeners": { "tcp": { "url": "tcp://127.0.0.1" } }, "access": { "aclFile": "no-such" } }"#;
/// let errors = Loaded::read(&Config::from_json(text, "c.json")?, "".as_ref()).unwrap_err();
/// assert!(errors.to_string().starts_with("access.aclFile: no-such: it cannot be read: "));
/// # Ok::<(), hrotti::config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone)]
pub struct Loaded {
    pub(super) access: LoadedAccess,
    /// The bans that their file had.
    pub(super) bans: Vec<Ban>,
    /// For each listener of the configuration, in its order.
    pub(super) tls: Vec<Option<Material>>,
    /// The admin listener, whose files were checked.
    admin: Option<AdminConfig>,
    /// What an operator should change, one line each with the remedy.
    warnings: Vec<String>,
    /// Some listener takes user names from Clients' certificates.
    pub(super) certificate_names: bool,
}

/// The key of the policy that lets in Clients by their certificates.
const CERTIFICATE_NAMES: &str = "listeners.NAME.tls.userName";

impl Loaded {
    /// Reads all files. Relative paths are under `base`. Blocks.
    ///
    /// # Errors
    /// Every error of every file, one line each, with file, line and remedy.
    pub fn read(config: &Config, base: &Path) -> Result<Loaded, ServerErrors> {
        let (mut warnings, mut errors, mut tls) = (Vec::new(), Vec::new(), Vec::new());
        for (name, listener) in &config.listeners {
            let files = listener.tls.clone().map(|tls| tls.relative_to(base));
            match files.as_ref().map(|files| material(name, files, &mut warnings)).transpose() {
                Ok(material) => tls.push(material),
                Err(problems) => errors.extend(problems),
            }
        }
        let admin = config.admin.clone().map(|admin| admin.relative_to(base));
        errors.extend(admin.as_ref().map(wrong_with_admin).unwrap_or_default());
        let names = |listener: &ListenerConfig| listener.tls.as_ref()?.user_name;
        let listeners = config.listeners.iter().map(|(name, listener)| {
            let mut access = ListenerAccess::new(name);
            access.anonymous = listener.rules.anonymous;
            access.certificate_names = names(listener).is_some();
            access
        });
        let listeners: Vec<ListenerAccess> = listeners.collect();
        let access = match config.access.load_for(base, &config.limits, &listeners) {
            Ok(access) => access,
            Err(problems) => {
                errors.extend(problems);
                LoadedAccess::default()
            }
        };
        if !errors.is_empty() {
            return Err(ServerErrors(errors));
        }
        warnings.extend(access.warnings().iter().cloned());
        warnings.extend(open_listeners(config));
        warnings.extend(admin.as_ref().and_then(plain_token));
        let certificate_names = listeners.iter().any(|listener| listener.certificate_names);
        let bans = access.bans().map(|bans| bans.list()).unwrap_or_default();
        Ok(Loaded { access, bans, tls, admin, warnings, certificate_names })
    }

    /// The access rules.
    #[must_use]
    pub fn access(&self) -> &LoadedAccess {
        &self.access
    }

    /// The policies that are asked at CONNECT, without one that can have no answer.
    pub fn authenticators(&self) -> impl Iterator<Item = &AccessPart> {
        let all = self.access.authenticators().iter();
        all.filter(|part| self.certificate_names || part.key != CERTIFICATE_NAMES)
    }

    /// The settings of the admin listener, if there is one, with the paths of its files.
    #[must_use]
    pub fn admin(&self) -> Option<&AdminConfig> {
        self.admin.as_ref()
    }

    /// What an operator should change, although everything can be used: one line each, with the remedy.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// What keeps an admin listener from being started, its address apart.
#[cfg(feature = "admin")]
fn wrong_with_admin(admin: &AdminConfig) -> Vec<String> {
    match crate::admin::Admin::check(admin) {
        Ok(()) => Vec::new(),
        Err(error) => error.to_string().lines().map(|line| format!("admin: {line}")).collect(),
    }
}

#[cfg(not(feature = "admin"))]
fn wrong_with_admin(_: &AdminConfig) -> Vec<String> {
    let remedy = "build it with the feature, or remove the key";
    vec![format!("admin: this program was built without the feature admin; {remedy}")]
}

/// The material of one listener.
#[cfg(feature = "tls")]
fn material(
    name: &str,
    files: &TlsConfig,
    warnings: &mut Vec<String>,
) -> Result<Material, Vec<String>> {
    let key = format!("listeners.{name}.tls");
    let mut errors = Vec::new();
    match exposure(&files.key) {
        Exposure::None => {}
        Exposure::Readable => warnings.push(format!(
            "{key}.key: {}: all users of this machine can read the private key; run: chmod 600 {0}",
            files.key.display()
        )),
        Exposure::Writable => errors.push(format!(
            "{key}.key: {}: all users of this machine can write to the private key; run: chmod 600 {0}",
            files.key.display()
        )),
    }
    let lines =
        |text: String| text.lines().map(|line| format!("{key}: {line}")).collect::<Vec<_>>();
    match files.load() {
        Ok(material) if errors.is_empty() => {
            let said = material.check().unwrap_or_default();
            warnings.extend(said.into_iter().map(|line| format!("{key}: {line}")));
            Ok(material)
        }
        Ok(_) => Err(errors),
        Err(problems) => {
            errors.extend(lines(problems.to_string()));
            Err(errors)
        }
    }
}

#[cfg(not(feature = "tls"))]
fn material(name: &str, _: &TlsConfig, _: &mut [String]) -> Result<Material, Vec<String>> {
    Err(vec![format!(
        "listeners.{name}.tls: this program was built without the feature tls; build it with the feature, or remove \
         the key"
    )])
}

/// What was read from which key, and the warnings: the end of the output of `-check`.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.access.policy().is_some() {
            for part in self.authenticators() {
                writeln!(f, "who may connect: {}: {}", part.key, part.what)?;
            }
            for part in self.access.authorizers() {
                writeln!(f, "what Clients may do: {}: {}", part.key, part.what)?;
            }
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

#[cfg(feature = "tls")]
enum Exposure {
    None,
    Readable,
    Writable,
}

/// Whether all users of the machine can read or change a file.
#[cfg(all(unix, feature = "tls"))]
fn exposure(path: &Path) -> Exposure {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(path).map(|metadata| metadata.mode()) {
        Ok(mode) if mode & 0o002 != 0 => Exposure::Writable,
        Ok(mode) if mode & 0o004 != 0 => Exposure::Readable,
        _ => Exposure::None,
    }
}

/// Modes are an idea of Unix.
#[cfg(all(not(unix), feature = "tls"))]
fn exposure(_: &Path) -> Exposure {
    Exposure::None
}

/// A line for an admin listener whose token everybody on the way can read.
fn plain_token(admin: &AdminConfig) -> Option<String> {
    let plain = !admin.is_local() && admin.tls().is_none();
    plain.then(|| format!("admin: {admin} sends the token unencrypted; write https:// and admin.tls, or listen on 127.0.0.1"))
}

/// A line for each listener that is reachable from other machines and lets in everybody.
fn open_listeners(config: &Config) -> impl Iterator<Item = String> + '_ {
    config.listeners.iter().filter(|(_, listener)| is_open(config, listener)).map(|(name, listener)| {
        let remedy = match config.access.is_set() {
            false => "set access.passwordFile (hrotti passwd -c FILE USER)".to_owned(),
            true => format!("set listeners.{name}.anonymous to false"),
        };
        format!(
            "listener {name}: {listener} lets in every Client without a password; to close it {remedy}, or listen on \
             127.0.0.1"
        )
    })
}

fn is_open(config: &Config, listener: &ListenerConfig) -> bool {
    let certificate = listener.tls.as_ref().map(TlsConfig::client_certificate);
    let local_peers = listener
        .rules
        .networks_allowed
        .as_deref()
        .is_some_and(|networks| networks.iter().all(|network| network.address().is_loopback()));
    !listener.is_unix()
        && !listener.is_loopback()
        && !local_peers
        && certificate != Some(ClientCertificate::Required)
        && config.access.lets_in_anonymous(listener.rules.anonymous)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Vec<String> {
        let config = Config::from_json(text, "c.json").expect("a good configuration");
        open_listeners(&config).collect()
    }

    fn listener(url: &str, more: &str) -> String {
        format!(r#"{{"listeners": {{"a": {{"url": "{url}"{more}}}}}}}"#)
    }

    #[test]
    fn a_listener_that_serves_everybody_is_named_with_the_remedy() {
        let lines = open(&listener("tcp://0.0.0.0:1883", ""));
        let expected = "listener a: tcp://0.0.0.0:1883 lets in every Client without a password; to close it set \
                        access.passwordFile (hrotti passwd -c FILE USER), or listen on 127.0.0.1";
        assert_eq!(lines, [expected]);
        for url in [
            "tcp://:1883",
            "ws://*:80/mqtt",
            "tcp://[::]:1883",
            "tcp://192.0.2.1:1883",
            "tcp://broker:1883",
        ] {
            assert_eq!(open(&listener(url, "")).len(), 1, "{url}");
        }
    }

    #[test]
    fn a_listener_that_is_closed_is_not_named() {
        let tls = r#", "tls": {"certificate": "c", "key": "k", "clientCa": "ca"}"#;
        for (url, more) in [
            ("tcp://127.0.0.1:1883", ""),
            ("tcp://127.8.8.8:1883", ""),
            ("tcp://[::1]:1883", ""),
            ("tcp://localhost:1883", ""),
            ("unix:///run/hrotti.sock", ""),
            ("mqtts://0.0.0.0", tls),
            ("tcp://0.0.0.0:1883", r#", "anonymous": false"#),
            ("tcp://0.0.0.0:1883", r#", "networksAllowed": ["127.0.0.0/8", "::1"]"#),
        ] {
            assert_eq!(open(&listener(url, more)), [""; 0], "{url} {more}");
        }
    }

    #[test]
    fn with_access_settings_the_listener_itself_is_to_be_closed() {
        let text =
            r#"{"listeners": {"a": {"url": "tcp://0.0.0.0:1883"}}, "access": {"anonymous": true}}"#;
        assert!(open(text)[0].contains("set listeners.a.anonymous to false"), "{:?}", open(text));
        let closed = r#"{"listeners": {"a": {"url": "tcp://0.0.0.0:1883"}}, "access": {"passwordFile": "p"}}"#;
        assert_eq!(open(closed), [""; 0]);
    }
}
