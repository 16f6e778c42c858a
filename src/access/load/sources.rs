//! The policies that a build may lack, each from its settings.

#[allow(unused_imports, reason = "not with all features")]
use std::sync::Arc;

use super::Loading;
#[allow(unused_imports, reason = "not with all features")]
use super::shown;
use crate::access::AccessConfig;
#[allow(unused_imports, reason = "not with all features")]
use crate::access::FileContent;

#[cfg(feature = "access-files")]
mod files {
    use super::super::Turn;
    use super::*;
    use crate::access::{DynamicSecurity, PasswordFile};

    impl Loading<'_> {
        pub(in super::super) fn passwords(&mut self, config: &AccessConfig) {
            let Some(path) = &config.password_file else { return };
            self.checks_names = true;
            let key = "access.passwordFile";
            let file = self.file(key, path, FileContent::Secrets, PasswordFile::parse);
            let Some(file) = file else { return };
            let users = file.len();
            let what = format!(
                "{}: {users} user{}",
                shown(self.base, path),
                if users == 1 { "" } else { "s" }
            );
            let policy = Arc::new(file.with_hashing(self.hashing.clone()));
            self.authenticates(key, what, policy);
        }

        pub(in super::super) fn dynamic_security(&mut self, config: &AccessConfig) {
            let Some(path) = &config.dynamic_security_file else { return };
            self.checks_names = true;
            let key = "access.dynamicSecurityFile";
            let file = self.file(key, path, FileContent::Secrets, DynamicSecurity::parse);
            let Some(file) = file else { return };
            let what = shown(self.base, path);
            let policy = Arc::new(file.with_hashing(self.hashing.clone()));
            self.authenticates(key, what.clone(), policy.clone());
            self.authorizes(Turn::DynamicSecurity, key, what, policy);
        }
    }
}

#[cfg(not(feature = "access-files"))]
impl Loading<'_> {
    pub(super) fn passwords(&mut self, config: &AccessConfig) {
        if config.password_file.is_some() {
            self.lacks("access.passwordFile", "access-files");
        }
    }

    pub(super) fn dynamic_security(&mut self, config: &AccessConfig) {
        if config.dynamic_security_file.is_some() {
            self.lacks("access.dynamicSecurityFile", "access-files");
        }
    }
}

#[cfg(feature = "jwt")]
mod tokens {
    use super::super::Turn;
    use super::*;
    use crate::access::{FileErrors, JwtAlgorithm, JwtConfig, JwtKeys, JwtPolicy, JwtSettings};

    impl Loading<'_> {
        pub(in super::super) fn jwt(&mut self, config: &AccessConfig) {
            let Some(jwt) = &config.jwt else { return };
            self.checks_names = true;
            let settings = match settings(jwt) {
                Ok(settings) => settings,
                Err(problem) => {
                    return self.errors.push(format!("access.jwt.algorithms: {problem}"));
                }
            };
            let make = |keys: Result<JwtKeys, FileErrors>| JwtPolicy::new(keys?, settings);
            let (key, path) = match (&jwt.key_file, &jwt.jwks_file) {
                (Some(path), None) => ("access.jwt.keyFile", path),
                (None, Some(path)) => ("access.jwt.jwksFile", path),
                _ => {
                    return self
                        .errors
                        .push("access.jwt: needs either keyFile or jwksFile; add one".to_owned());
                }
            };
            let by_key = jwt.key_file.is_some();
            // The public keys of others are no secret, but a key for HS256 is.
            let policy = self.file(key, path, FileContent::Secrets, |text, source| {
                make(match by_key {
                    true => JwtKeys::from_key_file(text.as_bytes(), source),
                    false => JwtKeys::from_jwks_file(text, source),
                })
            });
            let Some(policy) = policy else { return };
            let what =
                format!("{}: tokens with {}", shown(self.base, path), jwt.algorithms.join(", "));
            let policy = Arc::new(policy);
            self.authenticates(key, what.clone(), policy.clone());
            if jwt.acl_claim.is_some() {
                self.authorizes(Turn::Jwt, "access.jwt.aclClaim", what, policy);
            }
        }
    }

    fn settings(jwt: &JwtConfig) -> Result<JwtSettings, String> {
        let names = jwt.algorithms.iter();
        let algorithms = names
            .map(|name| name.parse::<JwtAlgorithm>().map_err(|error| format!("{name:?}: {error}")));
        let mut settings = JwtSettings::new(algorithms.collect::<Result<_, _>>()?);
        settings.issuer.clone_from(&jwt.issuer);
        settings.audience.clone_from(&jwt.audience);
        if let Some(claim) = &jwt.user_name_claim {
            settings.user_name_claim.clone_from(claim);
        }
        settings.acl_claim.clone_from(&jwt.acl_claim);
        Ok(settings)
    }
}

#[cfg(not(feature = "jwt"))]
impl Loading<'_> {
    pub(super) fn jwt(&mut self, config: &AccessConfig) {
        if config.jwt.is_some() {
            self.lacks("access.jwt", "jwt");
        }
    }
}

#[cfg(feature = "scram")]
impl Loading<'_> {
    pub(super) fn scram(&mut self, config: &AccessConfig) {
        let Some(path) = &config.scram_file else { return };
        self.checks_names = true;
        let key = "access.scramFile";
        let users = self.file(key, path, FileContent::Secrets, crate::access::ScramUsers::parse);
        let Some(users) = users else { return };
        let what = shown(self.base, path);
        self.authenticates(key, what, Arc::new(crate::access::ScramPolicy::new(users)));
    }
}

#[cfg(not(feature = "scram"))]
impl Loading<'_> {
    pub(super) fn scram(&mut self, config: &AccessConfig) {
        if config.scram_file.is_some() {
            self.lacks("access.scramFile", "scram");
        }
    }
}

#[cfg(feature = "http-access")]
mod hooks {
    use super::super::Turn;
    use super::*;
    use crate::access::{HttpPolicy, HttpSettings};

    impl Loading<'_> {
        pub(in super::super) fn http(&mut self, config: &AccessConfig) {
            let Some(http) = &config.http else { return };
            self.checks_names = true;
            let settings = HttpSettings {
                user_url: Some(http.user_url.clone()),
                acl_url: http.acl_url.clone(),
                superuser_url: http.superuser_url.clone(),
                cache: http.cache,
                timeout: http.timeout,
                ..HttpSettings::default()
            };
            let policy = match HttpPolicy::new(settings) {
                Ok(policy) => Arc::new(policy),
                Err(problem) => return self.errors.push(problem),
            };
            self.authenticates("access.http.userUrl", http.user_url.clone(), policy.clone());
            if let Some(url) = &http.acl_url {
                self.authorizes(Turn::Http, "access.http.aclUrl", url.clone(), policy);
            }
        }
    }
}

#[cfg(not(feature = "http-access"))]
impl Loading<'_> {
    pub(super) fn http(&mut self, config: &AccessConfig) {
        if config.http.is_some() {
            self.lacks("access.http", "http-access");
        }
    }
}
