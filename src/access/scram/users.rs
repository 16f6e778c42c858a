//! Users whose passwords are known as SCRAM keeps them.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use super::{ScramError, ScramMechanism};
use crate::access::FileErrors;
use crate::access::file_error::Problems;
use crate::access::steady_choice::steady_choice;

/// The least number of iterations (RFC 7677 section 4), and a number that no client survives.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4_096..=100_000_000;
const SALT_BYTES_MAX: usize = 1_024;
/// What PostgreSQL uses.
const SALT_BYTES: usize = 16;

/// The users of a SCRAM file. `Debug` shows their number.
///
/// One user a line: a name, a colon, and what PostgreSQL keeps for a user, `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`
/// (or `SCRAM-SHA-512$…`) with base64. The name has no colon. A user may have one line for each mechanism. Empty lines
/// and lines that begin with `#` count for nothing.
///
/// An unknown user is answered with a salt, always the same one, that is computed from the first user's keys: leave the
/// first line as it is and add users below it, so that those salts stay as users' own salts do.
///
/// ```
/// use hrotti::access::{ScramMechanism, ScramUsers};
///
/// let line = ScramUsers::line("ann", b"secret", ScramMechanism::Sha256, 4_096)?;
/// assert!(line.starts_with("ann:SCRAM-SHA-256$4096:"));
/// assert!(ScramUsers::parse(&line, "scram").is_ok());
///
/// let error = ScramUsers::parse("ann:secret", "scram").unwrap_err();
/// assert!(error.to_string().starts_with("scram:1: "));
/// # Ok::<(), hrotti::access::ScramError>(())
/// ```
pub struct ScramUsers {
    pub(super) source: Arc<str>,
    /// One list for each mechanism, sorted by name.
    sha256: Vec<Arc<Credential>>,
    sha512: Vec<Arc<Credential>>,
    /// Makes the credentials of users that are unknown. It comes from the secrets of the first user of the file alone, so
    /// that an unknown user has the same salt after a restart and after an edit, as a known one has.
    unknown: hmac::Key,
    /// Iterations and length of the salt of each user, in the order of the file, for each mechanism.
    shapes: [Vec<(NonZeroU32, usize)>; 2],
}

/// What the server knows of a user's password: enough to verify a proof, not enough to make one.
pub(super) struct Credential {
    pub(super) mechanism: ScramMechanism,
    pub(super) name: String,
    pub(super) line: u32,
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Zeroizing<Vec<u8>>,
    pub(super) server_key: Zeroizing<Vec<u8>>,
}

impl ScramUsers {
    /// Reads a SCRAM file. `source` is its name.
    ///
    /// # Errors
    /// Every line that is wrong, or that the file has no user.
    pub fn parse(text: &str, source: &str) -> Result<ScramUsers, FileErrors> {
        let mut problems = Problems::new(source);
        let mut users = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Credential::parse(line, number) {
                Ok(credential) => users.push(Arc::new(credential)),
                Err(problem) => problems.add(number, problem),
            }
        }
        let unknown = unknown_key(users.first());
        let shapes = ScramMechanism::ALL.map(|mechanism| {
            let users = users.iter().filter(|user| user.mechanism == mechanism);
            users.map(|user| (user.iterations, user.salt.len())).collect()
        });
        users.sort_by(|one, two| (&one.name, one.line).cmp(&(&two.name, two.line)));
        let (sha256, sha512): (Vec<_>, Vec<_>) =
            users.into_iter().partition(|user| user.mechanism == ScramMechanism::Sha256);
        for pair in sha256.windows(2).chain(sha512.windows(2)) {
            if let [first, again] = pair
                && first.name == again.name
            {
                let (name, line) = (&again.name, first.line);
                problems.add(
                    again.line,
                    format!("user {name:?} stands in line {line} already; remove one"),
                );
            }
        }
        let source = problems.source().clone();
        let users = ScramUsers { source, sha256, sha512, unknown, shapes };
        let empty = users.sha256.is_empty() && users.sha512.is_empty();
        match problems.or(users) {
            Ok(users) if empty => {
                let problem = "it holds no user, so nobody could connect; make a line with: hrotti passwd -H scram-sha-256";
                let mut problems = Problems::new(&users.source);
                problems.add(0, problem);
                problems.or(users)
            }
            result => result,
        }
    }

    /// Makes the line for a user, without a line break, and with a random salt. More iterations make the file worth
    /// less to a thief and take more of each Client's time, not of the server's: 4 096 to 100 000 000.
    ///
    /// # Errors
    /// The name or the password is empty or has characters that SASLprep (RFC 4013) forbids, or the number of
    /// iterations is out of range.
    pub fn line(
        user: &str,
        password: &[u8],
        mechanism: ScramMechanism,
        iterations: u32,
    ) -> Result<String, ScramError> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| ScramError::NoRandomness)?;
        line(user, password, mechanism, iterations, &salt)
    }

    pub(super) fn has(&self, mechanism: ScramMechanism) -> bool {
        !self.of(mechanism).is_empty()
    }

    fn of(&self, mechanism: ScramMechanism) -> &[Arc<Credential>] {
        match mechanism {
            ScramMechanism::Sha256 => &self.sha256,
            ScramMechanism::Sha512 => &self.sha512,
        }
    }

    /// The credential of a user; of an unknown one, a made up credential that no password fits and that looks like
    /// one of the file. Both take the same work.
    pub(super) fn find(&self, mechanism: ScramMechanism, user: &str) -> Arc<Credential> {
        let made_up = Arc::new(self.made_up(mechanism, user));
        self.known(mechanism, user).cloned().unwrap_or(made_up)
    }

    pub(super) fn known(&self, mechanism: ScramMechanism, user: &str) -> Option<&Arc<Credential>> {
        let users = self.of(mechanism);
        let found = users.binary_search_by(|known| known.name.as_str().cmp(user));
        found.ok().and_then(|index| users.get(index))
    }

    fn made_up(&self, mechanism: ScramMechanism, user: &str) -> Credential {
        let bytes = |what: &str, length: usize| {
            let blocks = (0..=length / 64).flat_map(|block: usize| {
                let text = format!("{what} {block} {mechanism} {user}");
                hmac::sign(&self.unknown, text.as_bytes()).as_ref().to_vec()
            });
            blocks.take(length).collect::<Vec<u8>>()
        };
        // Iterations and length of the salt are those of a user in the file, always the same one for a name.
        let [sha256, sha512] = &self.shapes;
        let shapes = match mechanism {
            ScramMechanism::Sha256 => sha256,
            ScramMechanism::Sha512 => sha512,
        };
        let choice = bytes("choice", 8).iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let like = steady_choice(choice, shapes.len()).and_then(|index| shapes.get(index));
        let least = NonZeroU32::MIN.saturating_add(ITERATIONS.start() - 1);
        let (iterations, salt) = like.copied().unwrap_or((least, SALT_BYTES));
        let length = mechanism.key_len();
        Credential {
            mechanism,
            name: user.to_owned(),
            line: 0,
            iterations,
            salt: bytes("salt", salt),
            stored_key: Zeroizing::new(bytes("stored", length)),
            server_key: Zeroizing::new(bytes("server", length)),
        }
    }
}

impl fmt::Debug for ScramUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users = self.sha256.len() + self.sha512.len();
        f.debug_struct("ScramUsers").field("source", &self.source).field("users", &users).finish()
    }
}

fn unknown_key(first: Option<&Arc<Credential>>) -> hmac::Key {
    let mut context = digest::Context::new(&digest::SHA512);
    if let Some(user) = first {
        context.update(&user.server_key);
        context.update(&user.stored_key);
    }
    hmac::Key::new(hmac::HMAC_SHA512, context.finish().as_ref())
}

/// The line for a user with this salt.
pub(super) fn line(
    user: &str,
    password: &[u8],
    mechanism: ScramMechanism,
    iterations: u32,
    salt: &[u8],
) -> Result<String, ScramError> {
    let name = prepared(user).ok_or(ScramError::UserName)?;
    // What the file cannot say, or would say differently.
    if name.contains(':') || name.starts_with('#') || name.chars().any(char::is_control) {
        return Err(ScramError::UserName);
    }
    let password = std::str::from_utf8(password).ok().and_then(prepared).map(Zeroizing::new);
    let password = password.ok_or(ScramError::Password)?;
    let count = NonZeroU32::new(iterations).filter(|count| ITERATIONS.contains(&count.get()));
    let count = count.ok_or(ScramError::Iterations)?;
    let mut salted = Zeroizing::new(vec![0; mechanism.key_len()]);
    pbkdf2::derive(mechanism.pbkdf2(), count, salt, password.as_bytes(), &mut salted);
    let salted = hmac::Key::new(mechanism.hmac(), &salted);
    let client_key = hmac::sign(&salted, b"Client Key");
    let stored_key = digest::digest(mechanism.hmac().digest_algorithm(), client_key.as_ref());
    let server_key = hmac::sign(&salted, b"Server Key");
    let (stored_key, server_key) = (STANDARD.encode(stored_key), STANDARD.encode(server_key));
    let salt = STANDARD.encode(salt);
    Ok(format!("{name}:{mechanism}${iterations}:{salt}${stored_key}:{server_key}"))
}

/// What SASLprep makes of a text that it allows.
fn prepared(text: &str) -> Option<String> {
    let prepared = stringprep::saslprep(text).ok()?.into_owned();
    (!prepared.is_empty()).then_some(prepared)
}

impl Credential {
    /// Reads `user:MECHANISM$ITERATIONS:SALT$STOREDKEY:SERVERKEY`.
    fn parse(text: &str, line: u32) -> Result<Credential, String> {
        const FORM: &str = "write USER:SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY, as hrotti passwd -H scram-sha-256 does";
        let (name, rest) =
            text.split_once(':').ok_or_else(|| format!("there is no colon; {FORM}"))?;
        let name = prepared(name).ok_or_else(|| {
            "the user name is empty or has characters that SASLprep forbids; change it".to_owned()
        })?;
        let [mechanism, iterations, salt, stored_key, server_key] = fields(rest.trim_end())
            .ok_or_else(|| format!("user {name:?} has no credential for SCRAM; {FORM}"))?;
        let mechanism = ScramMechanism::named(mechanism).ok_or_else(|| {
            let names = ScramMechanism::ALL.map(ScramMechanism::name);
            match names.iter().find(|name| name.eq_ignore_ascii_case(mechanism)) {
                Some(near) => format!("user {name:?} has another mechanism; did you mean {near}?"),
                None => format!("user {name:?} has another mechanism; use {}", names.join(" or ")),
            }
        })?;
        let count =
            iterations.parse().ok().filter(|count: &NonZeroU32| ITERATIONS.contains(&count.get()));
        let iterations = count.ok_or_else(|| {
            let (least, most) = (ITERATIONS.start(), ITERATIONS.end());
            format!("user {name:?} has a number of iterations that is not {least} to {most}; make the line anew")
        })?;
        let bytes = |what: &str, text: &str| {
            let bytes = STANDARD.decode(text);
            bytes.map_err(|_| format!("{what} of user {name:?} is no base64; make the line anew"))
        };
        let salt = bytes("the salt", salt)?;
        if salt.is_empty() || salt.len() > SALT_BYTES_MAX {
            return Err(format!(
                "the salt of user {name:?} does not have 1 to 1024 bytes; make the line anew"
            ));
        }
        let key = |what: &str, text: &str| {
            let key = Zeroizing::new(bytes(what, text)?);
            let length = mechanism.key_len();
            if key.len() == length {
                return Ok(key);
            }
            Err(format!("{what} of user {name:?} does not have {length} bytes; make the line anew"))
        };
        let (stored_key, server_key) =
            (key("the StoredKey", stored_key)?, key("the ServerKey", server_key)?);
        Ok(Credential { mechanism, line, iterations, salt, stored_key, server_key, name })
    }
}

/// Takes `MECHANISM$ITERATIONS:SALT$STOREDKEY:SERVERKEY` apart.
fn fields(text: &str) -> Option<[&str; 5]> {
    let (mechanism, rest) = text.split_once('$')?;
    let (first, second) = rest.split_once('$')?;
    let (iterations, salt) = first.split_once(':')?;
    let (stored_key, server_key) = second.split_once(':')?;
    Some([mechanism, iterations, salt, stored_key, server_key])
}
