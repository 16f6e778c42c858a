//! Reads the JSON of dynamic security, and lists all its errors.

use std::collections::HashMap;
use std::sync::Arc;

use super::json::{Json, Object};
use super::pattern::Pattern;
use super::{Acl, AclType, Client, Decoys, Defaults, DynamicSecurity, Group, Role};
use crate::access::file_error::{Problems, nearest};
use crate::access::password_hash::PasswordHash;
use crate::access::{FileError, FileErrors, HashingPool, Rule};

const FILE_KEYS: &[&str] =
    &["defaultACLAccess", "anonymousGroup", "clients", "groups", "roles", "changeIndex"];
const DEFAULT_KEYS: &[&str] =
    &["publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"];
const CLIENT_KEYS: &[&str] = &[
    "username",
    "clientid",
    "textname",
    "textdescription",
    "disabled",
    "password",
    "encoded_password",
    "salt",
    "iterations",
    "roles",
    "groups",
];
const GROUP_KEYS: &[&str] = &["groupname", "textname", "textdescription", "roles", "clients"];
const ROLE_KEYS: &[&str] =
    &["rolename", "textname", "textdescription", "allowwildcardsubs", "acls"];
const ACL_KEYS: &[&str] = &["acltype", "topic", "priority", "allow"];

/// Priorities are moved into the range that mosquitto allows.
const PRIORITY_MAX: i64 = 100_000;
/// The priority of a role or a group that has none.
const PRIORITY_NONE: i32 = -1;

/// Name → index.
type Index = HashMap<Box<str>, usize>;

pub(super) fn read(text: &str, source: &str) -> Result<DynamicSecurity, FileErrors> {
    let json: Json = serde_json::from_str(text).map_err(|error| {
        let line = u32::try_from(error.line()).unwrap_or(u32::MAX);
        let problem = format!("it is no JSON: {error}; copy the file from mosquitto again");
        FileErrors::one(FileError::new(source, line, problem))
    })?;
    let mut problems = Problems::new(source);
    let mut has_patterns = [false; 2];
    let mut file = DynamicSecurity {
        source: problems.source().clone(),
        clients: Vec::new(),
        index: Index::new(),
        with_password: Vec::new(),
        groups: Vec::new(),
        anonymous_group: None,
        roles: Vec::new(),
        defaults: defaults(None, &mut problems),
        has_patterns,
        decoys: Decoys::new(None),
        pool: HashingPool::default(),
    };
    if let Some(root) = Object::open(&json, String::new(), FILE_KEYS, &mut problems) {
        let given = root.object("defaultACLAccess", DEFAULT_KEYS, &mut problems);
        file.defaults = defaults(given.as_ref(), &mut problems);
        let (roles, role_names) = roles(&root, &mut has_patterns, &mut problems);
        (file.roles, file.has_patterns) = (roles, has_patterns);
        let mut members = Members::default();
        (file.groups, members.groups) = groups(&root, &role_names, &mut members, &mut problems);
        file.read_clients(&root, &role_names, members, &mut problems);
        let first = file.with_password.first().and_then(|&index| file.clients.get(index));
        file.decoys = Decoys::new(first.and_then(|client| client.hash.as_deref()));
    }
    problems.or(file)
}

/// Which client is in which group, as both say it.
#[derive(Default)]
struct Members {
    /// Group name → index.
    groups: Index,
    /// Path, client, priority, group name and index.
    found: Vec<(String, Box<str>, Membership)>,
}

#[derive(Clone)]
struct Membership {
    priority: i32,
    name: Box<str>,
    index: usize,
}

impl DynamicSecurity {
    fn read_clients(
        &mut self,
        root: &Object<'_>,
        roles: &Index,
        members: Members,
        problems: &mut Problems,
    ) {
        if let Some(name) = root.text("anonymousGroup", problems).filter(|name| !name.is_empty()) {
            self.anonymous_group = members.groups.get(name).copied();
            if self.anonymous_group.is_none() {
                problems.add(0, unknown("anonymousGroup", "group", name));
            }
        }
        let mut memberships = Vec::new();
        for (json, path) in root.list("clients", problems) {
            let Some(object) = Object::open(json, path, CLIENT_KEYS, problems) else { continue };
            let Some(name) = object.required_text("username", problems) else { continue };
            if self.index.insert(name.into(), self.clients.len()).is_some() {
                problems.add(0, twice(&object.place("username"), name));
                continue;
            }
            let hash = password(&object, problems);
            let mut own = Vec::new();
            for (place, group, priority) in references(&object, "groups", "groupname", problems) {
                match members.groups.get(group) {
                    Some(&index) => own.push(Membership { priority, name: group.into(), index }),
                    None => problems.add(0, unknown(&place, "group", group)),
                }
            }
            memberships.push(own);
            if hash.is_some() {
                self.with_password.push(self.clients.len());
            }
            self.clients.push(Client {
                rule: Rule::line(self.source.clone(), 0, &format!("client {name}")),
                hash: hash.map(Arc::new),
                client_id: object.text("clientid", problems).map(Box::from),
                disabled: object.flag("disabled", problems).unwrap_or(false),
                roles: role_list(&object, roles, problems),
                groups: Vec::new(),
            });
        }
        for (path, client, membership) in members.found {
            match self.index.get(&client).and_then(|&index| memberships.get_mut(index)) {
                Some(own) => own.push(membership),
                None => problems.add(0, unknown(&path, "client", &client)),
            }
        }
        for (client, mut own) in self.clients.iter_mut().zip(memberships) {
            own.sort_by(|one, two| {
                two.priority.cmp(&one.priority).then_with(|| one.name.cmp(&two.name))
            });
            client.groups = own.into_iter().map(|membership| membership.index).collect();
        }
    }
}

fn defaults(given: Option<&Object<'_>>, problems: &mut Problems) -> Defaults {
    let source = problems.source().clone();
    let mut default = |key: &str| {
        let written = given.and_then(|given| given.flag(key, problems));
        let text = match written {
            Some(allow) => format!("defaultACLAccess: {key} {allow}"),
            None => format!("no role matches, and defaultACLAccess does not name {key}"),
        };
        (written.unwrap_or(false), Rule::line(source.clone(), 0, &text))
    };
    Defaults {
        send: default("publishClientSend"),
        receive: default("publishClientReceive"),
        subscribe: default("subscribe"),
        unsubscribe: default("unsubscribe"),
    }
}

fn roles(
    root: &Object<'_>,
    has_patterns: &mut [bool; 2],
    problems: &mut Problems,
) -> (Vec<Role>, Index) {
    let (mut roles, mut index) = (Vec::new(), Index::new());
    for (json, path) in root.list("roles", problems) {
        let Some(object) = Object::open(json, path, ROLE_KEYS, problems) else { continue };
        let Some(name) = object.required_text("rolename", problems) else { continue };
        if index.insert(name.into(), roles.len()).is_some() {
            problems.add(0, twice(&object.place("rolename"), name));
        }
        let wildcards = object.flag("allowwildcardsubs", problems).unwrap_or(true);
        let text = format!("role {name}: allowwildcardsubs false");
        let no_wildcards = (!wildcards).then(|| Rule::line(problems.source().clone(), 0, &text));
        let mut acls: [Vec<Acl>; 6] = Default::default();
        for (json, path) in object.list("acls", problems) {
            let Some((kind, acl)) = acl(json, path.clone(), name, problems) else { continue };
            let literal = matches!(kind, AclType::SubscribeLiteral | AclType::UnsubscribeLiteral);
            has_patterns[0] |= !literal && acl.pattern.holds("%c");
            has_patterns[1] |= !literal && acl.pattern.holds("%u");
            acls[kind as usize].push(acl);
        }
        for acls in &mut acls {
            acls.sort_by_key(|acl| std::cmp::Reverse(acl.priority));
        }
        roles.push(Role { no_wildcards, acls });
    }
    (roles, index)
}

fn acl(json: &Json, path: String, role: &str, problems: &mut Problems) -> Option<(AclType, Acl)> {
    let object = Object::open(json, path, ACL_KEYS, problems)?;
    let kind = object.required_text("acltype", problems);
    let topic = object.required_text("topic", problems);
    let allow = object.required_flag("allow", problems);
    let priority = priority(&object, 0, problems);
    let known = kind.and_then(|kind| {
        let known = AclType::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
        if known.is_none() {
            let names = AclType::ALL.map(|(name, _)| name);
            let remedy = match nearest(kind, &names) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("use one of {}", names.join(", ")),
            };
            let place = object.place("acltype");
            problems.add(0, format!("{place}: {:?} is no type; {remedy}", short(kind)));
        }
        known
    });
    let pattern = topic.and_then(|topic| {
        Pattern::new(topic)
            .map_err(|error| {
                let place = object.place("topic");
                let topic = short(topic);
                problems.add(0, format!("{place}: {topic:?} is no Topic Filter: {error}"));
            })
            .ok()
    });
    let (&(kind_name, kind), pattern, allow) = (known?, pattern?, allow?);
    let effect = if allow { "allow" } else { "deny" };
    let topic = pattern.as_str();
    let text = format!("role {role}: {kind_name} {topic} (priority {priority}): {effect}");
    let rule = Rule::line(problems.source().clone(), 0, &text);
    Some((kind, Acl { pattern, priority, allow, rule }))
}

fn groups(
    root: &Object<'_>,
    roles: &Index,
    members: &mut Members,
    problems: &mut Problems,
) -> (Vec<Group>, Index) {
    let (mut groups, mut index) = (Vec::new(), Index::new());
    for (json, path) in root.list("groups", problems) {
        let Some(object) = Object::open(json, path, GROUP_KEYS, problems) else { continue };
        let Some(name) = object.required_text("groupname", problems) else { continue };
        if index.insert(name.into(), groups.len()).is_some() {
            problems.add(0, twice(&object.place("groupname"), name));
        }
        for (place, client, priority) in references(&object, "clients", "username", problems) {
            let membership = Membership { priority, name: name.into(), index: groups.len() };
            members.found.push((place, client.into(), membership));
        }
        groups.push(Group { roles: role_list(&object, roles, problems) });
    }
    (groups, index)
}

/// The roles that a client or a group lists, in the order in which they are asked.
fn role_list(object: &Object<'_>, roles: &Index, problems: &mut Problems) -> Vec<usize> {
    let mut list = Vec::new();
    for (place, name, priority) in references(object, "roles", "rolename", problems) {
        match roles.get(name) {
            Some(&index) => list.push((std::cmp::Reverse(priority), name, index)),
            None => problems.add(0, unknown(&place, "role", name)),
        }
    }
    list.sort_unstable();
    list.into_iter().map(|(_, _, index)| index).collect()
}

/// A list of names with priorities: path, name, priority.
fn references<'a>(
    object: &Object<'a>,
    list: &str,
    key: &str,
    problems: &mut Problems,
) -> Vec<(String, &'a str, i32)> {
    let mut found = Vec::new();
    for (json, path) in object.list(list, problems) {
        let Some(entry) = Object::open(json, path, &[key, "priority"], problems) else { continue };
        let Some(name) = entry.required_text(key, problems) else { continue };
        found.push((entry.place(key), name, priority(&entry, PRIORITY_NONE, problems)));
    }
    found
}

fn priority(object: &Object<'_>, default: i32, problems: &mut Problems) -> i32 {
    let written = object.number("priority", problems);
    let number = written.map(|number| number.clamp(-PRIORITY_MAX, PRIORITY_MAX));
    number.and_then(|number| i32::try_from(number).ok()).unwrap_or(default)
}

/// The password of a client, in the form of mosquitto 2.1 or of 2.0.
fn password(object: &Object<'_>, problems: &mut Problems) -> Option<PasswordHash> {
    let encoded = object.text("encoded_password", problems).filter(|text| !text.is_empty());
    let hash = object.text("password", problems).filter(|text| !text.is_empty());
    let salt = object.text("salt", problems);
    let iterations = object.number("iterations", problems);
    let (key, text) = match (encoded, hash, salt, iterations) {
        (Some(encoded), _, _, _) => ("encoded_password", encoded.to_owned()),
        (None, Some(hash), Some(salt), Some(iterations)) => {
            ("password", format!("$7${iterations}${salt}${hash}"))
        }
        (None, Some(_), _, _) => {
            let place = object.place("password");
            problems.add(0, format!("{place} needs salt and iterations beside it"));
            return None;
        }
        (None, None, _, _) => return None,
    };
    PasswordHash::parse(&text)
        .map_err(|error| {
            let remedy = "set the password again with mosquitto_ctrl dynsec setClientPassword";
            problems.add(0, format!("{}: {error}; {remedy}", object.place(key)));
        })
        .ok()
}

fn twice(path: &str, name: &str) -> String {
    format!("{path}: {:?} is there twice; delete one of the two", short(name))
}

fn unknown(path: &str, kind: &str, name: &str) -> String {
    format!("{path}: there is no {kind} {:?} in the file; add or delete it", short(name))
}

/// A text of a length that an error can hold.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
