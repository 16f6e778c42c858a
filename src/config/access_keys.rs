//! The keys under `access`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::json::Json;
use super::values::{boolean, choice, path, text, texts, whole_number};
use crate::access::{AccessConfig, DeniedPublish, FlappingConfig, HttpConfig, JwtConfig};

/// A key under `access`: its row of the table, how it is read, and its value for people if it is set.
pub(super) struct AccessKey {
    pub(super) path: &'static str,
    /// What it is, unit, range, default, and the effect at the limit.
    pub(super) columns: [&'static str; 5],
    pub(super) read: fn(&mut AccessConfig, &Json) -> Result<(), String>,
    pub(super) show: fn(&AccessConfig) -> Option<String>,
}

/// The algorithms by which a token may be signed (RFC 7518, RFC 8037).
const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];
const FILE: &str = "path, relative to the directory of the configuration file";
const REFUSED: &str = "Clients that it does not let in are refused (0x86 or 0x87; 3.x: 4 or 5)";

pub(super) const ACCESS_KEYS: &[AccessKey] = &[
    AccessKey {
        path: "access.anonymous",
        columns: [
            "whether Clients without a user name are let in",
            "truth value",
            "`true` or `false`",
            "`true`; with any other access setting `false`",
            "other Clients without a user name are refused with 0x87 (3.x: 5)",
        ],
        read: |access, value| boolean(value).map(|on| access.anonymous = Some(on)),
        show: |access| access.anonymous.map(|on| on.to_string()),
    },
    AccessKey {
        path: "access.passwordFile",
        columns: [
            "users and passwords, as `hrotti passwd` and mosquitto_passwd write them",
            "file",
            FILE,
            "none",
            REFUSED,
        ],
        read: |access, value| file(value, "passwords", &mut access.password_file),
        show: |access| shown(access.password_file.as_deref()),
    },
    AccessKey {
        path: "access.aclFile",
        columns: [
            "what users may publish and receive, in mosquitto's format",
            "file",
            FILE,
            "none: every Client may publish and subscribe to every topic",
            "what no line allows is denied",
        ],
        read: |access, value| file(value, "acl", &mut access.acl_file),
        show: |access| shown(access.acl_file.as_deref()),
    },
    AccessKey {
        path: "access.dynamicSecurityFile",
        columns: [
            "users, groups and roles: the JSON of mosquitto's dynamic security plugin, read only",
            "file",
            FILE,
            "none",
            REFUSED,
        ],
        read: |access, value| {
            file(value, "dynamic-security.json", &mut access.dynamic_security_file)
        },
        show: |access| shown(access.dynamic_security_file.as_deref()),
    },
    AccessKey {
        path: "access.scramFile",
        columns: [
            "users for SCRAM-SHA-256 and SCRAM-SHA-512 (MQTT 5)",
            "file",
            FILE,
            "none",
            REFUSED,
        ],
        read: |access, value| file(value, "scram", &mut access.scram_file),
        show: |access| shown(access.scram_file.as_deref()),
    },
    AccessKey {
        path: "access.bansFile",
        columns: [
            "banned Clients, users and addresses",
            "file",
            FILE,
            "none",
            "banned Clients are refused with 0x8A (3.x: 5)",
        ],
        read: |access, value| file(value, "bans.json", &mut access.bans_file),
        show: |access| shown(access.bans_file.as_deref()),
    },
    AccessKey {
        path: "access.deniedPublish",
        columns: [
            "what happens to a PUBLISH of an MQTT 3.x Client that is denied",
            "choice",
            "`drop` (acknowledged and thrown away) or `disconnect`",
            "`drop`",
            "MQTT 5 Clients get 0x87 in both cases",
        ],
        read: |access, value| {
            let choices =
                [("drop", DeniedPublish::Drop), ("disconnect", DeniedPublish::Disconnect)];
            choice(value, &choices).map(|chosen| access.denied_publish = Some(chosen))
        },
        show: |access| {
            access.denied_publish.map(|denied| match denied {
                DeniedPublish::Drop => "drop".to_owned(),
                DeniedPublish::Disconnect => "disconnect".to_owned(),
            })
        },
    },
    AccessKey {
        path: "access.jwt.keyFile",
        columns: [
            "the key that verifies tokens: PEM, or a secret for HS256 to HS512; Clients send the token as password",
            "file",
            FILE,
            "none: `keyFile` or `jwksFile` is needed",
            REFUSED,
        ],
        read: |access, value| file(value, "token.pem", &mut jwt(access).key_file),
        show: |access| shown(access.jwt.as_ref()?.key_file.as_deref()),
    },
    AccessKey {
        path: "access.jwt.jwksFile",
        columns: ["a set of keys (RFC 7517) instead of `keyFile`", "file", FILE, "none", REFUSED],
        read: |access, value| file(value, "jwks.json", &mut jwt(access).jwks_file),
        show: |access| shown(access.jwt.as_ref()?.jwks_file.as_deref()),
    },
    AccessKey {
        path: "access.jwt.algorithms",
        columns: [
            "the algorithms that tokens may use",
            "names",
            "one or more of `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`",
            "none: it is needed",
            "a token with another algorithm is refused",
        ],
        read: |access, value| algorithms(value).map(|names| jwt(access).algorithms = names),
        show: |access| Some(access.jwt.as_ref()?.algorithms.join(", ")),
    },
    AccessKey {
        path: "access.jwt.issuer",
        columns: [
            "the value that the claim `iss` must have",
            "text",
            "any",
            "every issuer",
            "a token of another issuer is refused",
        ],
        read: |access, value| {
            text(value, "\"https://login.example.org\"").map(|text| jwt(access).issuer = Some(text))
        },
        show: |access| access.jwt.as_ref()?.issuer.clone(),
    },
    AccessKey {
        path: "access.jwt.audience",
        columns: [
            "the value that the claim `aud` must have",
            "text",
            "any",
            "every audience",
            "a token for another audience is refused",
        ],
        read: |access, value| text(value, "\"mqtt\"").map(|text| jwt(access).audience = Some(text)),
        show: |access| access.jwt.as_ref()?.audience.clone(),
    },
    AccessKey {
        path: "access.jwt.userNameClaim",
        columns: [
            "the claim that holds the user name",
            "claim",
            "any",
            "`sub`",
            "a token without it is refused",
        ],
        read: |access, value| {
            text(value, "\"sub\"").map(|text| jwt(access).user_name_claim = Some(text))
        },
        show: |access| access.jwt.as_ref()?.user_name_claim.clone(),
    },
    AccessKey {
        path: "access.jwt.aclClaim",
        columns: [
            "the claim that holds the Client's rules",
            "claim",
            "any",
            "none: tokens carry no rules",
            "what no rule allows is denied",
        ],
        read: |access, value| text(value, "\"acl\"").map(|text| jwt(access).acl_claim = Some(text)),
        show: |access| access.jwt.as_ref()?.acl_claim.clone(),
    },
    AccessKey {
        path: "access.http.userUrl",
        columns: [
            "asked by POST with username, password and clientid; 200 lets the Client in",
            "URL",
            "`http://HOST[:PORT]/PATH`",
            "none: it is needed",
            "any other answer, and none, is a no",
        ],
        read: |access, value| url(value).map(|url| http(access).user_url = url),
        show: |access| Some(access.http.as_ref()?.user_url.clone()),
    },
    AccessKey {
        path: "access.http.aclUrl",
        columns: [
            "asked by POST with username, clientid, topic and acc (1 receive, 2 publish, 4 subscribe); 200 allows",
            "URL",
            "`http://HOST[:PORT]/PATH`",
            "none: it is not asked",
            "any other answer, and none, is a no",
        ],
        read: |access, value| url(value).map(|url| http(access).acl_url = Some(url)),
        show: |access| access.http.as_ref()?.acl_url.clone(),
    },
    AccessKey {
        path: "access.http.superuserUrl",
        columns: [
            "asked by POST with username; 200 allows everything",
            "URL",
            "`http://HOST[:PORT]/PATH`",
            "none: nobody may do everything",
            "any other answer, and none, is a no",
        ],
        read: |access, value| url(value).map(|url| http(access).superuser_url = Some(url)),
        show: |access| access.http.as_ref()?.superuser_url.clone(),
    },
    AccessKey {
        path: "access.http.cacheSecs",
        columns: [
            "how long an answer is kept; each answer 10 % more or less",
            "seconds",
            "1 to 86400",
            "300",
            "the server is asked again",
        ],
        read: |access, value| seconds(value, 1, 86_400).map(|time| http(access).cache = time),
        show: |access| Some(format!("{} seconds", access.http.as_ref()?.cache.as_secs())),
    },
    AccessKey {
        path: "access.http.timeoutSecs",
        columns: [
            "how long an answer is waited for",
            "seconds",
            "1 to 60",
            "5",
            "the Client is refused with 0x88 (3.x: 3)",
        ],
        read: |access, value| seconds(value, 1, 60).map(|time| http(access).timeout = time),
        show: |access| Some(format!("{} seconds", access.http.as_ref()?.timeout.as_secs())),
    },
    AccessKey {
        path: "access.flapping.disconnects",
        columns: [
            "disconnects of a Client within the window that ban it",
            "disconnects",
            "2 to 1000000",
            "15; off without any key of `access.flapping`",
            "the Client is banned",
        ],
        read: |access, value| {
            let number = whole_number(value, "disconnects", 2, 1_000_000)?;
            flapping(access).disconnects = u32::try_from(number).unwrap_or(u32::MAX);
            Ok(())
        },
        show: |access| Some(format!("{} disconnects", access.flapping.as_ref()?.disconnects)),
    },
    AccessKey {
        path: "access.flapping.windowSecs",
        columns: ["the window", "seconds", "1 to 86400", "60", ""],
        read: |access, value| seconds(value, 1, 86_400).map(|time| flapping(access).window = time),
        show: |access| Some(format!("{} seconds", access.flapping.as_ref()?.window.as_secs())),
    },
    AccessKey {
        path: "access.flapping.banSecs",
        columns: [
            "how long the Client is banned",
            "seconds",
            "1 to 2592000",
            "300",
            "it may connect again",
        ],
        read: |access, value| seconds(value, 1, 2_592_000).map(|time| flapping(access).ban = time),
        show: |access| Some(format!("{} seconds", access.flapping.as_ref()?.ban.as_secs())),
    },
];

/// What must be there together: the key that is wrong, and the problem.
pub(super) fn incomplete(access: &AccessConfig) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if let Some(jwt) = &access.jwt {
        match (&jwt.key_file, &jwt.jwks_file) {
            (None, None) => found.push((
                "access.jwt",
                "has no key; add keyFile, for example \"keyFile\": \"token.pem\", or jwksFile"
                    .to_owned(),
            )),
            (Some(_), Some(jwks)) => found.push((
                "access.jwt.jwksFile",
                format!(
                    "{:?} stands beside keyFile; remove one of the two",
                    jwks.display().to_string()
                ),
            )),
            _ => {}
        }
        if jwt.algorithms.is_empty() {
            let problem = "is missing; name the algorithms of your tokens, for example [\"RS256\"]";
            found.push(("access.jwt.algorithms", problem.to_owned()));
        }
    }
    if access.http.as_ref().is_some_and(|http| http.user_url.is_empty()) {
        let problem = "is missing; add it, for example \"userUrl\": \"http://127.0.0.1:8080/user\"";
        found.push(("access.http.userUrl", problem.to_owned()));
    }
    found
}

fn jwt(access: &mut AccessConfig) -> &mut JwtConfig {
    access.jwt.get_or_insert_default()
}

fn http(access: &mut AccessConfig) -> &mut HttpConfig {
    access.http.get_or_insert_default()
}

fn flapping(access: &mut AccessConfig) -> &mut FlappingConfig {
    access.flapping.get_or_insert_default()
}

fn file(value: &Json, example: &str, into: &mut Option<PathBuf>) -> Result<(), String> {
    path(value, example).map(|path| *into = Some(path))
}

fn shown(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string().escape_debug().to_string())
}

fn seconds(value: &Json, minimum: u64, maximum: u64) -> Result<Duration, String> {
    whole_number(value, "seconds", minimum, maximum).map(Duration::from_secs)
}

fn algorithms(value: &Json) -> Result<Vec<String>, String> {
    let names = texts(value, "algorithms", "[\"RS256\"]")?;
    for name in &names {
        if name.eq_ignore_ascii_case("none") {
            return Err(format!(
                "holds {name:?}, which lets everybody in; name the algorithms of your tokens"
            ));
        }
        if !ALGORITHMS.contains(&name.as_str()) {
            return Err(format!(
                "holds the unknown algorithm {name:?}; write some of {}",
                ALGORITHMS.join(", ")
            ));
        }
    }
    Ok(names)
}

/// A URL as a check over HTTP has it. One that holds user information is not shown.
fn url(value: &Json) -> Result<String, String> {
    let example = "\"http://127.0.0.1:8080/user\"";
    let written = text(value, example)?;
    let url = Url::parse(&written)
        .map_err(|error| format!("{value} is no URL ({error}); write {example}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "has user information in front of the host, which is not sent; remove it".to_owned()
        );
    }
    match url.scheme() {
        "http" if url.has_host() && url.fragment().is_none() => Ok(written),
        "http" => Err(format!("{value} has no host or has a fragment; write {example}")),
        "https" => Err(format!(
            "{value} is asked over TLS, which checks over HTTP do not have; write http:// and ask a server on this machine"
        )),
        scheme => Err(format!("{value} has the unsupported scheme {scheme:?}; write {example}")),
    }
}
