//! What a new configuration changes: the difference for people, and a step for each listener. Nothing is done.

use super::State;
use super::loaded::Loaded;
use crate::config::{Change, Config, Holds, difference};
use crate::limits::Limits;
use crate::listener_config::ListenerConfig;
use crate::net::bound::Material;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// For each listener of the new configuration, in its order.
    pub(super) steps: Vec<Step>,
    /// The listeners that are gone, or that another one replaces.
    pub(super) leaving: Vec<String>,
    /// The access rules are to be replaced.
    pub(super) access: bool,
}

/// What is to be done with one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is stopped, and stays so.
    Rest,
    /// Nothing, or its rules and its certificate are replaced.
    InPlace { rules: bool, tls: bool },
    /// It gets another transport at the same address; its connections stay.
    Exchange { rules: bool },
    /// It is bound, at the address of one that leaves or at a new one.
    Bind,
}

impl Plan {
    /// The difference between what is in force and a configuration whose files were read.
    pub(super) fn new(present: &State, config: &Config, loaded: &Loaded) -> Plan {
        let old = &*present.config;
        let steps: Vec<Step> = (config.listeners.iter().zip(&loaded.tls))
            .map(|((name, listener), material)| {
                let Some((before, tls)) = present.listener(name) else { return Step::Bind };
                let limits = (&old.limits, &config.limits);
                match present.is_stopped(name) {
                    true => Step::Rest,
                    false => step((before, tls), (listener, material.as_ref()), limits),
                }
            })
            .collect();
        let names = || config.listeners.iter().map(|(name, _)| name).zip(&steps);
        let stays = |name: &String| names().any(|(new, step)| new == name && *step != Step::Bind);
        let old_names = old.listeners.iter().map(|(name, _)| name);
        let leaving = old_names.filter(|name| !stays(name)).cloned().collect();
        let contents = contents(present, config, loaded);
        let access = old.access != config.access
            || contents.iter().any(is_about_access)
            || asks_otherwise(present, config, loaded);
        let mut changes = difference(&old.settings(), &config.settings());
        changes.extend(hidden(old, config, &changes));
        changes.extend(contents);
        Plan { changes, steps, leaving, access }
    }
}

/// A change of a part of a URL that no setting shows.
fn hidden(old: &Config, new: &Config, shown: &[Change]) -> Option<Change> {
    let key = "access.http";
    let is_shown = |change: &Change| matches!(change, Change::Setting { key: one, .. } if one.starts_with(key));
    let changed = old.access.http != new.access.http && !shown.iter().any(is_shown);
    changed.then(|| Change::Setting {
        key: key.to_owned(),
        before: Some("a query".to_owned()),
        after: Some("another query".to_owned()),
        holds: Holds::AtOnce,
    })
}

fn is_about_access(change: &Change) -> bool {
    matches!(change, Change::Contents { key, .. } if key.starts_with("access."))
}

/// What happens to a listener that was there before.
fn step(
    (old, old_tls): (&ListenerConfig, Option<&Material>),
    (new, new_tls): (&ListenerConfig, Option<&Material>),
    limits: (&Limits, &Limits),
) -> Step {
    if old.to_string() != new.to_string() {
        return Step::Bind;
    }
    let (before, after) = (&old.rules, &new.rules);
    let transport = old.origins != new.origins
        || before.proxy_protocol != after.proxy_protocol
        || before.forwarded_for != after.forwarded_for
        || old.socket != new.socket
        || (!new.is_unix() && of_transports(limits.0) != of_transports(limits.1));
    let rules = before != after;
    match transport {
        true => Step::Exchange { rules },
        false => Step::InPlace { rules, tls: !is_same(old_tls, new_tls) },
    }
}

/// The limits that a transport is made with.
fn of_transports(limits: &Limits) -> impl PartialEq + use<> {
    let tcp = (
        limits.tcp_keep_alive_secs,
        limits.tcp_keep_alive_interval_secs,
        limits.tcp_keep_alive_probes,
        limits.tcp_user_timeout,
    );
    let ws = (limits.ws_request_bytes_max, limits.ws_request_headers_max);
    (tcp, ws, limits.proxy_header_bytes_max, limits.tls_sessions_max)
}

#[cfg(feature = "tls")]
fn is_same(old: Option<&Material>, new: Option<&Material>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.is_same(new),
        (old, new) => old.is_none() && new.is_none(),
    }
}

#[cfg(not(feature = "tls"))]
fn is_same(_: Option<&Material>, _: Option<&Material>) -> bool {
    true
}

/// Whether the access rules depend on something else that has changed: which listeners let in anonymous Clients or take
/// names from certificates, and limits.
fn asks_otherwise(present: &State, config: &Config, loaded: &Loaded) -> bool {
    let anonymous = config.listeners.iter().any(|(name, listener)| {
        let before = present.listener(name);
        before.is_some_and(|(old, _)| old.rules.anonymous != listener.rules.anonymous)
    });
    let of_access =
        |limits: &Limits| (limits.hashing_threads, limits.hashes_waiting_max, limits.bans_max);
    config.access.is_set()
        && (anonymous
            || present.loaded.certificate_names != loaded.certificate_names
            || of_access(&present.config.limits) != of_access(&config.limits))
}

/// The files that have the same names as before and other contents.
fn contents(present: &State, config: &Config, loaded: &Loaded) -> Vec<Change> {
    let before = present.loaded.access.files();
    let changed = loaded.access.files().iter().filter(|file| {
        let same_name =
            |old: &&crate::access::FileMark| old.key == file.key && old.file == file.file;
        before.iter().find(same_name).is_some_and(|old| old != *file)
    });
    let of_access = changed.map(|file| Change::Contents {
        key: file.key.clone(),
        file: file.file.clone(),
        holds: Holds::AtOnce,
    });
    of_access.chain(tls_contents(present, config, loaded)).collect()
}

#[cfg(feature = "tls")]
fn tls_contents(present: &State, config: &Config, loaded: &Loaded) -> Vec<Change> {
    let mut changes = Vec::new();
    for ((name, listener), material) in config.listeners.iter().zip(&loaded.tls) {
        let Some((old, Some(before))) = present.listener(name) else { continue };
        let (Some(material), Some(old), Some(new)) = (material, &old.tls, &listener.tls) else {
            continue;
        };
        let was_named = |key: &str| match key {
            "certificate" => old.certificate == new.certificate,
            "key" => old.key == new.key,
            "clientCa" => old.client_ca == new.client_ca,
            _ => old.crl == new.crl,
        };
        let changed = before.changed_texts(material).into_iter().filter(|(key, _)| was_named(key));
        changes.extend(changed.map(|(key, file)| Change::Contents {
            key: crate::config::Setting::key_of_listener(name, &format!("tls.{key}")),
            file,
            holds: Holds::NewConnections,
        }));
    }
    changes
}

#[cfg(not(feature = "tls"))]
fn tls_contents(_: &State, _: &Config, _: &Loaded) -> Vec<Change> {
    Vec::new()
}
