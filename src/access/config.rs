//! The access settings of a configuration: paths and values, as `access` in the program's configuration has them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Who may connect and what Clients may do, as paths and values. Nothing of it is a secret; the files that it names
/// are. [`Config::from_json`](crate::config::Config::from_json) reads it.
///
/// ```
/// use hrotti::config::Config;
///
/// let text = r#"{ "listeners": { "tcp": { "url": "tcp://127.0.0.1:1883" } },
///                 "access": { "passwordFile": "passwords", "aclFile": "acl" } }"#;
/// let access = Config::from_json(text, "config.json")?.access;
/// assert_eq!(access.password_file.as_deref(), Some(std::path::Path::new("passwords")));
/// assert!(!access.lets_in_anonymous(None));
/// # Ok::<(), hrotti::config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessConfig {
    /// Whether Clients without a user name are let in. Without a value they are let in exactly if there is no other
    /// access setting.
    pub anonymous: Option<bool>,
    /// Users and their passwords, in mosquitto's format.
    pub password_file: Option<PathBuf>,
    /// What users may publish and receive, in mosquitto's format.
    pub acl_file: Option<PathBuf>,
    /// Users, groups and roles: the JSON of mosquitto's dynamic security plugin. It is only read.
    pub dynamic_security_file: Option<PathBuf>,
    /// JSON Web Tokens as passwords.
    pub jwt: Option<JwtConfig>,
    /// A server that is asked over HTTP.
    pub http: Option<HttpConfig>,
    /// Users for SCRAM-SHA-256 and SCRAM-SHA-512.
    pub scram_file: Option<PathBuf>,
    /// What happens to a PUBLISH of an MQTT 3.x Client that is denied. Default [`DeniedPublish::Drop`].
    pub denied_publish: Option<DeniedPublish>,
    /// Clients, users and addresses that are banned.
    pub bans_file: Option<PathBuf>,
    /// Bans for Clients that connect and disconnect again and again. Default: off.
    pub flapping: Option<FlappingConfig>,
}

/// What a PUBLISH of MQTT 3.x that the policy denies leads to. MQTT 5 Clients get 0x87 in PUBACK or PUBREC; their
/// QoS 0 messages are dropped. The default is `Drop`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeniedPublish {
    /// The message is acknowledged and dropped.
    #[default]
    Drop,
    /// The Network Connection is closed.
    Disconnect,
}

/// JSON Web Tokens as passwords.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwtConfig {
    /// The key that verifies tokens: PEM, or the bytes of a secret for HS256, HS384 and HS512.
    pub key_file: Option<PathBuf>,
    /// A set of keys (RFC 7517), instead of `key_file`.
    pub jwks_file: Option<PathBuf>,
    /// The algorithms that tokens may use, by their names in RFC 7518; at least one.
    pub algorithms: Vec<String>,
    /// The value that the claim `iss` must have. Default: any.
    pub issuer: Option<String>,
    /// The value that the claim `aud` must have. Default: any.
    pub audience: Option<String>,
    /// The claim that holds the user name. Default: `sub`.
    pub user_name_claim: Option<String>,
    /// The claim that holds the Client's access control list. Default: none, so tokens carry no rules.
    pub acl_claim: Option<String>,
}

/// A server that is asked over HTTP. `Debug` leaves out what of its URLs may be secret: user, password and query.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Asked whether a user may connect.
    pub user_url: String,
    /// Asked what a user may do. Default: it is not asked.
    pub acl_url: Option<String>,
    /// Asked whether a user may do everything. Default: nobody may.
    pub superuser_url: Option<String>,
    /// How long an answer is kept, in whole seconds, 1 to 86 400. Default 300.
    pub cache: Duration,
    /// How long an answer is waited for, in whole seconds, 1 to 60. Default 5. Without an answer the Client is
    /// refused.
    pub timeout: Duration,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            user_url: String::new(),
            acl_url: None,
            superuser_url: None,
            cache: Duration::from_secs(300),
            timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("user_url", &shown_url(&self.user_url))
            .field("acl_url", &self.acl_url.as_deref().map(shown_url))
            .field("superuser_url", &self.superuser_url.as_deref().map(shown_url))
            .field("cache", &self.cache)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A URL without what may be secret, also if it is none: user and password, query and fragment.
pub(crate) fn shown_url(url: &str) -> String {
    let open = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = open.split_once("://").map_or(("", open), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    match scheme {
        "" => format!("{host}{path}"),
        scheme => format!("{scheme}://{host}{path}"),
    }
}

/// Bans for Clients that connect and disconnect again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlappingConfig {
    /// Disconnects of one Client within the window that ban it, 2 to 1 000 000.
    pub disconnects: u32,
    /// The window, in whole seconds, 1 to 86 400. Default 60.
    pub window: Duration,
    /// How long the Client is banned, in whole seconds, 1 to 2 592 000. Default 300.
    pub ban: Duration,
}

impl Default for FlappingConfig {
    fn default() -> FlappingConfig {
        FlappingConfig {
            disconnects: 15,
            window: Duration::from_secs(60),
            ban: Duration::from_secs(300),
        }
    }
}

impl AccessConfig {
    /// Whether a setting says who may connect or what Clients may do.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self != AccessConfig::default()
    }

    /// Whether Clients without a user name are let in, at a listener that has this setting of its own.
    #[must_use]
    pub fn lets_in_anonymous(&self, listener: Option<bool>) -> bool {
        listener.or(self.anonymous).unwrap_or(!self.is_set())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_clients_are_let_in_until_any_access_setting_is_there() {
        let nothing = AccessConfig::default();
        assert!(!nothing.is_set() && nothing.lets_in_anonymous(None));
        let some = |change: fn(&mut AccessConfig)| {
            let mut config = AccessConfig::default();
            change(&mut config);
            config
        };
        for config in [
            some(|c| c.password_file = Some("p".into())),
            some(|c| c.acl_file = Some("a".into())),
            some(|c| c.dynamic_security_file = Some("d".into())),
            some(|c| c.scram_file = Some("s".into())),
            some(|c| c.bans_file = Some("b".into())),
            some(|c| c.jwt = Some(JwtConfig::default())),
            some(|c| c.http = Some(HttpConfig::default())),
            some(|c| c.flapping = Some(FlappingConfig::default())),
            some(|c| c.denied_publish = Some(DeniedPublish::Drop)),
            some(|c| c.anonymous = Some(false)),
        ] {
            assert!(config.is_set() && !config.lets_in_anonymous(None), "{config:?}");
            let said = AccessConfig { anonymous: Some(true), ..config };
            assert!(said.lets_in_anonymous(None), "{said:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret_of_a_url_pitfall_19() {
        let config = HttpConfig {
            user_url: "http://ann:secret@h:1/user?key=secret".to_owned(),
            acl_url: Some("http://h/acl#secret".to_owned()),
            superuser_url: Some("ann:secret@h".to_owned()),
            ..HttpConfig::default()
        };
        let text = format!("{:?}", AccessConfig { http: Some(config), ..Default::default() });
        for part in ["http://h:1/user", "http://h/acl"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_listener_may_differ_from_the_others() {
        for anonymous in [None, Some(false), Some(true)] {
            let config = AccessConfig { anonymous, ..AccessConfig::default() };
            assert!(config.lets_in_anonymous(Some(true)) && !config.lets_in_anonymous(Some(false)));
        }
    }
}
