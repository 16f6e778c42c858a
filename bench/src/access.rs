//! Users, their passwords and what they may do, as the files that mosquitto and hrotti read.

use std::fmt::Write as _;

use serde_json::json;

use crate::codec::User;

/// Users in the files.
pub(crate) const USERS: usize = 1000;
/// Rules of each user.
pub(crate) const RULES_EACH: usize = 10;
/// Users whose passwords are hashed at great cost, for those who guess.
pub(crate) const COSTLY_USERS: usize = 10;

/// Client Identifiers that are banned.
pub(crate) const BANNED: usize = 100;

/// How the passwords are hashed, in words.
pub(crate) const HASHED: &str = "$7$: PBKDF2-HMAC-SHA512, 101 rounds";

/// Everybody's; its hash is `mosquitto_passwd`'s. That all share it, with its salt, spares the tool
/// the hashing and a broker nothing.
const PASSWORD: &str = "bench-password";
const HASH: &str = "$7$101$R2s5mTZsCQfVDEHf\
    $Wjlm73/c5SUfi26AGHd/xxhlTEGz7fXn7iCvOaP9/9WTzo+MYh4scBG186L/ndyQTn4ljEaZ8628hbdPDCmygA==";

/// A hash of what nobody knows, with mosquitto's parameters: 46 MiB, one pass.
const COSTLY: &str = "$argon2id$v=19$m=47104,t=1,p=1\
    $YSBzYWx0IG9mIHNpeHR5LWZvdXIgYnl0ZXMgZm9yIGFyZ29uMmlkLCBhcyBtb3NxdWl0dG8gMi4xIGhhcyBpdA==\
    $bm8gcGFzc3dvcmQgaGFzIHRoaXMgdGFnLCB3aGljaCBpcyBzaXh0eS1mb3VyIGJ5dGVzIG9mIHRleHQgb25seQ==";

/// The user that the pair with this number has.
pub(crate) fn user(index: usize) -> User {
    User { name: name(index % USERS), password: PASSWORD.to_owned() }
}

fn name(index: usize) -> String {
    format!("user-{index:04}")
}

/// Somebody whose password has a costly hash and is guessed wrong.
pub(crate) fn guess(index: usize) -> User {
    let name = format!("costly-{:04}", index % COSTLY_USERS);
    User { name, password: format!("guess-{index}") }
}

/// Somebody whom no file knows.
pub(crate) fn stranger(index: usize) -> User {
    User { name: format!("stranger-{index:06}"), password: format!("guess-{index}") }
}

/// A Client Identifier that is banned where the broker knows bans.
pub(crate) fn banned(index: usize) -> String {
    format!("banned-{:04}", index % BANNED)
}

/// The file of bans, as hrotti reads it.
pub(crate) fn ban_file() -> String {
    let ban = |index| json!({ "client": banned(index), "by": "bench", "reason": "an attack" });
    let all = json!({ "bans": (0..BANNED).map(ban).collect::<Vec<_>>() });
    format!("{all:#}\n")
}

/// The password file; with the costly hashes where the broker reads them.
pub(crate) fn password_file(with_costly: bool) -> String {
    let mut text = String::new();
    for index in 0..USERS {
        let _ = writeln!(text, "{}:{HASH}", name(index));
    }
    let costly = if with_costly { COSTLY_USERS } else { 0 };
    for index in 0..costly {
        let _ = writeln!(text, "{}:{COSTLY}", guess(index).name);
    }
    text
}

/// The ACL file. Each user has rules for a place of its own, and the last is for the topic that it
/// uses here.
pub(crate) fn rule_file() -> String {
    let mut text = String::new();
    for index in 0..USERS {
        let _ = writeln!(text, "user {}", name(index));
        for room in 0..(RULES_EACH - 4) {
            let _ = writeln!(text, "topic readwrite site/{index:04}/room-{room}/#");
        }
        let _ = write!(
            text,
            "topic read site/{index:04}/+/state\n\
             topic write site/{index:04}/+/set\n\
             topic deny site/{index:04}/room-0/lock\n\
             topic readwrite bench/{index:04}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_users_and_rules_as_it_says() {
        let rules = rule_file();
        let count = |start: &str| rules.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!((count("user "), count("topic ")), (USERS, USERS * RULES_EACH));
        assert_eq!(rules.lines().count(), USERS * (RULES_EACH + 1));
        let passwords = password_file(false);
        assert!(passwords.lines().all(|line| line.starts_with("user-") && line.contains(":$7$")));
        let more = password_file(true);
        assert_eq!(more.lines().count(), USERS + COSTLY_USERS);
        let costly = format!("costly-0009:{COSTLY}\n");
        assert!(more.ends_with(&costly) && COSTLY.matches('$').count() == 5, "{costly}");
    }

    #[test]
    fn every_banned_client_stands_in_the_file() {
        let bans: serde_json::Value = serde_json::from_str(&ban_file()).unwrap();
        assert_eq!(bans["bans"].as_array().map(Vec::len), Some(BANNED));
        assert_eq!(bans["bans"][7]["client"], banned(BANNED + 7));
    }

    #[test]
    fn every_user_that_a_load_has_stands_in_both_files() {
        let (passwords, rules) = (password_file(true), rule_file());
        for index in [0, 49, USERS - 1, USERS + 7] {
            let name = user(index).name;
            assert!(passwords.contains(&format!("{name}:")), "{name}");
            assert!(rules.contains(&format!("user {name}\n")), "{name}");
        }
        assert!(passwords.contains(&format!("{}:$argon2id$", guess(12).name)));
        assert!(!passwords.contains("stranger"));
    }
}
