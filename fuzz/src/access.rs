//! Files with access rules, by the public library.

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_lite::future::block_on;
use hrotti::access::{
    AclFile, Action, Answer, Bans, Coverage, Credentials, DynamicSecurity, FileErrors, Identity,
    JwtAlgorithm, JwtKeys, JwtPolicy, JwtSettings, PasswordFile, PasswordHash, Policy, Request,
    Rule,
};
use ring::hmac;
use serde_json::Value;

use super::topics::matches;
use crate::topic::{check_filter, check_name};

const FILE: &str = "the file";

/// Each error names the file and is one line.
fn check_errors(errors: &FileErrors) {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert!(!lines.is_empty());
    for line in &lines {
        assert!(line.starts_with(FILE), "which file? {line}");
        assert!(!line.contains(char::is_control), "more than one line: {line:?}");
    }
    assert!(errors.to_string().starts_with(&lines.join("\n")));
}

/// What parsing ends in, of which the errors are checked.
fn accepted<T>(parsed: Result<T, FileErrors>) -> Option<T> {
    parsed.map_err(|errors| check_errors(&errors)).ok()
}

pub(super) fn password_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    for (_, hash) in lines().filter_map(|line| line.split_once(':')) {
        if let Ok(parsed) = PasswordHash::parse(hash) {
            assert_eq!(PasswordHash::parse(&parsed.encoded()), Ok(parsed.clone()));
            assert!(!format!("{parsed:?}").contains(hash), "a hash is shown");
        }
    }
    match PasswordFile::parse(text, FILE) {
        Ok(file) => assert!((1..=lines().count()).contains(&file.len())),
        Err(errors) => {
            check_errors(&errors);
            let shown = errors.to_string();
            for (_, hash) in lines().filter_map(|line| line.split_once(':')) {
                let secret = hash.starts_with('$') && hash.len() > 20;
                assert!(!secret || !shown.contains(hash), "a hash is shown: {shown}");
            }
        }
    }
}

pub(super) fn dynamic_security(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(policy) = accepted(DynamicSecurity::parse(text, FILE)) {
        let root: Value = serde_json::from_str(text).expect("what is accepted is JSON");
        assert!(root.is_object());
        let nobody = Identity::new(Rule::named("another policy"));
        let request =
            Request { identity: &nobody, client_id: "c", action: Action::Publish, topic: "a" };
        // Whatever it answers, it answers about an identity that it did not make.
        let _ = policy.authorize(&request);
    }
}

pub(super) fn bans(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(bans) = accepted(Bans::parse(text, FILE, 100)) else { return };
    assert!(bans.list().len() <= 100);
    let written = bans.to_json();
    let again = Bans::parse(&written, FILE, 100).expect("it reads back");
    // A ban may end meanwhile.
    assert!(again.list().len() <= bans.list().len().max(1) || bans.list().is_empty());
}

const SECRET: &[u8; 32] = b"the secret of the fuzz target...";

static TOKENS: LazyLock<Arc<JwtPolicy>> = LazyLock::new(|| {
    let keys = JwtKeys::from_key_file(SECRET, FILE).expect("a key");
    let mut settings = JwtSettings::new(vec![JwtAlgorithm::Hs256]);
    settings.acl_claim = Some("acl".to_owned());
    Arc::new(JwtPolicy::new(keys, settings).expect("settings"))
});

/// Header, claims, each in a line; also taken as a Password and as files of keys.
pub(super) fn jwt(data: &[u8]) {
    assert!(identity(data).is_none(), "nobody signed it");
    accepted(JwtKeys::from_key_file(data, FILE));
    let Ok(text) = std::str::from_utf8(data) else { return };
    accepted(JwtKeys::from_jwks_file(text, FILE));
    let (header, claims) = text.split_once('\n').unwrap_or((text, "{}"));
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    let reversed: String = signature.chars().rev().collect();
    assert!(identity(format!("{signed}.{reversed}").as_bytes()).is_none(), "another signature");
    let Some(identity) = identity(format!("{signed}.{signature}").as_bytes()) else { return };
    let header: Value = serde_json::from_str(header).expect("a header in JSON");
    assert_eq!(header["alg"], "HS256");
    let claims: Value = serde_json::from_str(claims).expect("claims in JSON");
    assert_eq!(claims["sub"].as_str(), identity.user_name());
    assert!(identity.user_name().is_some_and(|name| !name.is_empty()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!(claims["exp"].as_f64().is_some_and(|end| end > now - 60.0), "it has ended");
    assert!(identity.expires_at().is_some() || claims["exp"].as_f64() > Some(1e11));
    for action in [Action::Publish, Action::Subscribe, Action::Receive] {
        let request = Request { identity: &identity, client_id: "c", action, topic: "a/b" };
        assert!(!TOKENS.authorize(&request).is_allowed() || claims.get("acl").is_some());
    }
}

fn identity(password: &[u8]) -> Option<Identity> {
    let shown = Credentials::new("c", "the target".into()).with_password("", password);
    match block_on(TOKENS.clone().authenticate(shown)) {
        Answer::Accept { identity, .. } => Some(identity),
        _ => None,
    }
}

/// Client Identifier, user name and topic in the first line, and the file.
pub(super) fn acl_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (question, text) = text.split_once('\n').unwrap_or(("", text));
    let file = match AclFile::parse(text, FILE) {
        Ok(file) => file,
        Err(errors) => return check_errors(&errors),
    };
    let written = file.to_string();
    let again = AclFile::parse(&written, FILE).expect("it reads back");
    assert_eq!(again.to_string(), written);

    let mut parts = question.split('\t');
    let client_id = parts.next().unwrap_or_default();
    let user_name = parts.next().filter(|name| !name.is_empty());
    let topic = parts.next().unwrap_or("a");
    let asked = Asked { file: &file, rules: naive_rules(&written), client_id, user_name };
    if check_name(topic).is_ok() {
        asked.check_name(topic);
    }
    if check_filter(topic).is_ok() && !topic.starts_with("$share/") {
        asked.check_filter(topic);
    }
}

/// A rule as it was written: its section, whether it is a pattern, access and filter.
type NaiveRule<'a> = (Option<&'a str>, bool, &'a str, &'a str);

fn naive_rules(written: &str) -> Vec<NaiveRule<'_>> {
    let (mut section, mut rules) = (None, Vec::new());
    for line in written.lines() {
        let (keyword, rest) = line.split_once(' ').expect("two words");
        match (keyword, rest.split_once(' ')) {
            ("user", _) => section = Some(rest),
            ("topic", Some((access, filter))) => rules.push((section, false, access, filter)),
            ("pattern", Some((access, filter))) => rules.push((section, true, access, filter)),
            other => panic!("{other:?}"),
        }
    }
    rules
}

struct Asked<'a> {
    file: &'a AclFile,
    rules: Vec<NaiveRule<'a>>,
    client_id: &'a str,
    user_name: Option<&'a str>,
}

impl Asked<'_> {
    fn decides(&self, action: Action, topic: &str) -> bool {
        let identity = Identity::new(Rule::named("a Client"));
        let identity = match self.user_name {
            Some(name) => identity.with_user_name(name),
            None => identity,
        };
        let request = Request { identity: &identity, client_id: self.client_id, action, topic };
        self.file.authorize(&request).is_allowed()
    }

    /// The filter with the names in it; `None` if it holds for no topic.
    fn put_in(&self, filter: &str) -> Option<String> {
        let mut levels = Vec::new();
        for level in filter.split('/') {
            levels.push(match level {
                "%c" => self.client_id,
                "%u" => self.user_name?,
                level => level,
            });
        }
        let names = levels.join("/");
        (!(filter.starts_with('%') && names.starts_with('$'))).then_some(names)
    }

    fn allows(&self, access: &str, topic: &str) -> bool {
        let wild = |name: &str| name.contains(['+', '#']);
        let wild = wild(self.client_id) || self.user_name.is_some_and(wild);
        for patterns in [false, true] {
            for deny in [true, false] {
                let found = self.rules.iter().any(|(section, pattern, word, filter)| {
                    let holds = match pattern {
                        true => patterns && !wild,
                        false => !patterns && *section == self.user_name,
                    };
                    let fits = match deny {
                        true => *word == "deny",
                        false => *word == access || *word == "readwrite",
                    };
                    let filter = match pattern {
                        true => self.put_in(filter),
                        false => Some((*filter).to_owned()),
                    };
                    holds && fits && filter.is_some_and(|filter| matches(&filter, topic))
                });
                if found {
                    return !deny;
                }
            }
        }
        false
    }

    fn check_name(&self, topic: &str) {
        assert_eq!(self.decides(Action::Publish, topic), self.allows("write", topic), "{topic:?}");
        assert_eq!(self.decides(Action::Receive, topic), self.allows("read", topic), "{topic:?}");
        assert!(self.decides(Action::Unsubscribe, topic));
    }

    fn check_filter(&self, filter: &str) {
        let (coverage, _) = self.file.coverage(self.user_name, self.client_id, filter);
        assert_eq!(self.decides(Action::Subscribe, filter), coverage != Coverage::None);
        for topic in topics(filter).chain(self.rules.iter().flat_map(|rule| topics(rule.3))) {
            if check_name(&topic).is_ok() && matches(filter, &topic) {
                match coverage {
                    Coverage::Whole => assert!(self.allows("read", &topic), "{filter:?} {topic:?}"),
                    Coverage::Part => {}
                    Coverage::None => assert!(!self.allows("read", &topic), "{filter:?} {topic:?}"),
                }
            }
        }
    }
}

/// Some topics that a filter matches.
fn topics(filter: &str) -> impl Iterator<Item = String> {
    [("a", ""), ("", "/b"), ("$a", "/a/$b")].into_iter().map(move |(one, rest)| {
        let text = if filter == "#" { "+/#" } else { filter };
        let (above, rest) = text.strip_suffix("/#").map_or((text, ""), |above| (above, rest));
        let levels: Vec<&str> =
            above.split('/').map(|level| if level == "+" { one } else { level }).collect();
        levels.join("/") + rest
    })
}
