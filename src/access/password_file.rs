//! Password files as mosquitto writes them, as a policy.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use super::file_error::Problems;
use super::password_check::{self, Decoys, Proof, ProofOf};
use super::password_hash::{HashError, PasswordHash};
use super::{
    Answer, Authenticating, Credentials, Decision, FileErrors, HashingPool, Identity, Policy,
    Present, Refusal, Request, Rule, Secret, Validity,
};

#[cfg(test)]
mod tests;

/// The users of a password file in mosquitto's format, as a policy: it lets in a Client whose User Name and Password
/// are in the file, and refuses other User Names and Passwords with 0x86 (3.x: 4). It gives no answer to a CONNECT
/// without a User Name (an empty one is none) or with an Authentication Method, and none about topics.
///
/// Each line is `NAME:HASH`; empty lines and lines that begin with `#` are left out. `hrotti passwd` and
/// mosquitto_passwd write such files.
///
/// Passwords are checked on a [`HashingPool`]. If too many wait there, the CONNECT is refused with 0x89 (3.x: 3). A
/// User Name that is not in the file costs as much time as one that is: the Password is compared with the hash of some
/// user, always the same one for the same name.
///
/// ```
/// use hrotti::access::PasswordFile;
///
/// let text = "# users\nann:$7$101$VKOLKl0m4B4ch5OP$rAF18QVJQWMuAni/uXW06AGJV9AdlOd7XPC9cRmbWu6pTocFWk/ZroFcf00zxb\
///             utQcc8U68D9nIDZuqg6VYnGw==\n";
/// assert_eq!(PasswordFile::parse(text, "passwords")?.len(), 1);
///
/// let errors = PasswordFile::parse("ann:open sesame", "passwords").unwrap_err();
/// assert_eq!(
///     errors.to_string(),
///     "passwords:1: the password of \"ann\" is in plain text; run: hrotti passwd -U passwords",
/// );
/// # Ok::<(), hrotti::access::FileErrors>(())
/// ```
pub struct PasswordFile {
    source: Arc<str>,
    users: Vec<User>,
    /// Name → index in `users`.
    index: HashMap<Box<str>, usize>,
    decoys: Decoys,
    pool: HashingPool,
}

struct User {
    hash: Arc<PasswordHash>,
    rule: Rule,
}

impl PasswordFile {
    /// Reads the text of a file; `source` is its name in errors and rules. Passwords will be checked on a pool of its
    /// own with the default bounds.
    ///
    /// # Errors
    /// Every line that is no comment and no `NAME:HASH`, or whose name was there before, with its remedy; and a file
    /// without users.
    pub fn parse(text: &str, source: &str) -> Result<PasswordFile, FileErrors> {
        let mut problems = Problems::new(source);
        let mut users: Vec<User> = Vec::new();
        let (mut lines, mut faulty) = (HashMap::new(), false);
        for (number, line) in (1_u32..).zip(text.split('\n')) {
            match parse_line(line, source) {
                Ok(None) => {}
                Ok(Some((name, hash))) => match lines.entry(Box::from(name)) {
                    Entry::Occupied(first) => {
                        let (first, _): &(u32, usize) = first.get();
                        let remedy = "delete one of the two lines";
                        problems.add(number, format!("{name:?} is in line {first}, too; {remedy}"));
                    }
                    Entry::Vacant(place) => {
                        place.insert((number, users.len()));
                        let rule =
                            Rule::line(problems.source().clone(), number, &format!("user {name}"));
                        users.push(User { hash: Arc::new(hash), rule });
                    }
                },
                Err(problem) => {
                    faulty = true;
                    problems.add(number, problem);
                }
            }
        }
        if users.is_empty() && !faulty {
            problems.add(0, format!("it has no user; run: hrotti passwd {source} NAME"));
        }
        let decoys = Decoys::new(users.first().map(|user| &*user.hash));
        let file = PasswordFile {
            source: problems.source().clone(),
            users,
            index: lines.into_iter().map(|(name, (_, index))| (name, index)).collect(),
            decoys,
            pool: HashingPool::default(),
        };
        problems.or(file)
    }

    /// Checks passwords on this pool.
    #[must_use]
    pub fn with_hashing(mut self, pool: HashingPool) -> PasswordFile {
        self.pool = pool;
        self
    }

    /// The number of users, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a file without users is an error")]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    fn user(&self, name: &str) -> Option<&User> {
        self.index.get(name).and_then(|&index| self.users.get(index))
    }

    /// A user for each name, known or not.
    fn decoy(&self, name: &str) -> Option<&User> {
        self.users.get(self.decoys.choose(name, self.users.len())?)
    }

    /// Decides on a thread of the pool.
    fn check(&self, name: &str, password: &Secret) -> Answer {
        // Both are looked up for every name, and one hash is computed.
        let (decoy, user) = (self.decoy(name), self.user(name));
        let right = user.or(decoy).is_some_and(|user| user.hash.verify(password.bytes()));
        match user {
            Some(user) if right => {
                let proof =
                    Proof { of: ProofOf::PasswordFile, name: name.into(), hash: user.hash.clone() };
                let identity = Identity::new(user.rule.clone()).with_user_name(name);
                Answer::accept(identity.with_grant(Arc::new(proof)))
            }
            Some(user) => Answer::Refuse(Refusal::bad_credentials(user.rule.clone())),
            None => Answer::Refuse(Refusal::bad_credentials(self.rule("no user of this name"))),
        }
    }

    fn rule(&self, text: &str) -> Rule {
        Rule::line(self.source.clone(), 0, text)
    }
}

impl Policy for PasswordFile {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        Box::pin(async move {
            // mosquitto takes an empty User Name for none.
            let name = shown.user_name.filter(|name| !name.is_empty());
            let Some(name) = name.filter(|_| shown.authentication_method.is_none()) else {
                return Answer::NoAnswer;
            };
            let Some(password) = shown.password else {
                let rule = self.rule("a User Name needs a Password");
                return Answer::Refuse(Refusal::bad_credentials(rule));
            };
            let from = shown.peer.address().map(|address| address.ip());
            let pool = self.pool.clone();
            password_check::check(pool, from, name, move |name| self.check(name, &password)).await
        })
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::NoAnswer
    }

    /// Whether the user is in this file with the hash with which it was let in. Other policies' identities are left to
    /// them.
    fn validity(&self, client: &Present<'_>) -> Validity {
        let proof = Proof::given(client.identity, ProofOf::PasswordFile);
        let Some(proof) = proof else { return Validity::Foreign };
        let user = self.user(&proof.name);
        Validity::current_if(user.is_some_and(|user| user.hash == proof.hash))
    }
}

impl fmt::Debug for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordFile")
            .field("source", &self.source)
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// Name and hash of a line; `None` without a user.
fn parse_line<'a>(line: &'a str, source: &str) -> Result<Option<(&'a str, PasswordHash)>, String> {
    let blank = |letter: char| letter.is_ascii_whitespace();
    if line.starts_with('#') || line.trim_matches(blank).is_empty() {
        return Ok(None);
    }
    let Some((name, hash)) = line.split_once(':') else {
        return Err("it is no NAME:HASH and no comment; begin comments with #".to_owned());
    };
    let (name, hash) = (name.trim_matches(blank), hash.trim_matches(blank));
    if name.is_empty() {
        return Err("the name before the colon is missing; delete the line or name a user".into());
    }
    if name.len() > NAME_BYTES_MAX {
        let remedy = "no Client can send it: delete the line";
        return Err(format!("the name has more than {NAME_BYTES_MAX} bytes; {remedy}"));
    }
    let again = format!("hrotti passwd {source} {name}");
    if hash.is_empty() {
        return Err(format!("{name:?} has no password; run: {again}"));
    }
    match PasswordHash::parse(hash) {
        Ok(hash) => Ok(Some((name, hash))),
        Err(error) => Err(undecodable(name, &error, source, &again)),
    }
}

fn undecodable(name: &str, error: &HashError, source: &str, again: &str) -> String {
    if error.is_plain_text() {
        let remedy = format!("run: hrotti passwd -U {source}");
        return format!("the password of {name:?} is in plain text; {remedy}");
    }
    format!("the hash of {name:?} cannot be read: {error}; run: {again}")
}

/// What the two-byte length of a User Name can say (section 1.5.4).
const NAME_BYTES_MAX: usize = 65_535;
