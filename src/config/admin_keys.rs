//! The keys under `admin`.

use std::path::PathBuf;

use super::json::Json;
use super::values::{path, text};
use crate::admin_config::{AdminConfig, AdminConfigError};
use crate::listener_config::TlsConfig;

/// A key under `admin`: its row of the table, how it is read, and its value for people if it is set.
pub(super) struct AdminKey {
    pub(super) path: &'static str,
    /// What it is, unit, range, default, and the effect at the limit.
    pub(super) columns: [&'static str; 5],
    pub(super) read: fn(&mut AdminDraft, &Json) -> Result<(), String>,
    pub(super) show: fn(&AdminConfig) -> Option<String>,
}

/// The admin listener as far as it was read.
#[derive(Default)]
pub(super) struct AdminDraft {
    url: Option<AdminConfig>,
    token_file: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

const FILE: &str = "path, relative to the directory of the configuration file";

pub(super) const ADMIN_KEYS: &[AdminKey] = &[
    AdminKey {
        path: "admin.url",
        columns: [
            "the address of the admin listener: metrics, a JSON API and a page over HTTP; the default port is 9884",
            "URL",
            "`http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`",
            "none: there is no admin listener",
            "another host than a loopback address needs `admin.tokenFile`",
        ],
        read: |draft, value| {
            let url = text(value, "\"http://127.0.0.1:9884\"")?;
            draft.url = Some(AdminConfig::new(&url).map_err(|error| error.to_string())?);
            Ok(())
        },
        // It stands on a line of its own.
        show: |_| None,
    },
    AdminKey {
        path: "admin.tokenFile",
        columns: [
            "the file whose first line is the token that requests to the admin listener show",
            "file",
            FILE,
            "none: on a loopback address every user of the machine may use the admin listener",
            "a token of less than 16 bytes, or a file that others can read or write, is refused",
        ],
        read: |draft, value| path(value, "admin.token").map(|path| draft.token_file = Some(path)),
        show: |admin| Some(admin.token_file()?.display().to_string().escape_debug().to_string()),
    },
    AdminKey {
        path: "admin.tls.certificate",
        columns: ["the certificate of an `https` admin listener, PEM", "file", FILE, "none", ""],
        read: |draft, value| path(value, "server.pem").map(|path| draft.certificate = Some(path)),
        show: |admin| {
            Some(admin.tls()?.certificate.display().to_string().escape_debug().to_string())
        },
    },
    AdminKey {
        path: "admin.tls.key",
        columns: ["the private key of that certificate, PEM", "file", FILE, "none", ""],
        read: |draft, value| path(value, "server.key").map(|path| draft.key = Some(path)),
        show: |admin| Some(admin.tls()?.key.display().to_string().escape_debug().to_string()),
    },
];

impl AdminDraft {
    /// The settings, or the key that is wrong and its problem.
    pub(super) fn complete(&mut self) -> Result<AdminConfig, (&'static str, String)> {
        let missing = |example: &str| format!("is missing; add it, for example {example}");
        let Some(mut admin) = self.url.take() else {
            return Err(("admin.url", missing("\"url\": \"http://127.0.0.1:9884\"")));
        };
        if let Some(file) = self.token_file.take() {
            admin = admin.with_token_file(file);
        }
        admin = match (self.certificate.take(), self.key.take()) {
            (None, None) => admin,
            (Some(certificate), Some(key)) => {
                let tls = TlsConfig::new(certificate, key);
                admin.with_tls(tls).map_err(|error| ("admin.tls", error.to_string()))?
            }
            (None, _) => {
                return Err(("admin.tls.certificate", missing("\"certificate\": \"server.pem\"")));
            }
            (_, None) => return Err(("admin.tls.key", missing("\"key\": \"server.key\""))),
        };
        match admin.validate() {
            Ok(()) => Ok(admin),
            Err(error @ AdminConfigError::Token(_)) => Err(("admin.tokenFile", error.to_string())),
            Err(error @ AdminConfigError::Tls(_)) => Err(("admin.tls", error.to_string())),
            Err(error) => Err(("admin.url", error.to_string())),
        }
    }
}

/// Who may use the admin listener, for `-check`.
pub(super) fn door(admin: &AdminConfig) -> &'static str {
    match admin.token_file() {
        Some(_) => "requests need the token",
        None => "open to every user of this machine",
    }
}
