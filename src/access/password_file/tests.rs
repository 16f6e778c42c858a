//! Password files: who is let in, what unknown users cost, and wrong files.

use std::sync::mpsc;

use futures_lite::future::block_on;
use proptest::prelude::*;

use super::*;
use crate::access::testing::validity;
use crate::access::{Action, HashMethod};
use crate::reason_code::ReasonCode;
use crate::transport::PeerInfo;

const ANN: &str = "$7$101$VKOLKl0m4B4ch5OP$rAF18QVJQWMuAni/uXW06AGJV9AdlOd7XPC9cRmbWu6pTocFWk/ZroFcf00zxbutQcc8U68D9nIDZuqg6VYnGw==";
const BOB: &str = "$6$ZbcKOixqqq2qePvX$MC1xu/PjpmqIFVmEQ3I24vIeR1mfOPCPfSF7HT8RLHasxOGPlN7yej1dLy+axCUVS8724mG4/CEGK7Q9toKxVg==";

fn file(text: &str) -> Arc<PasswordFile> {
    Arc::new(PasswordFile::parse(text, "passwords").expect("a good file"))
}

fn two_users() -> Arc<PasswordFile> {
    file(&format!("# comment: with colon\n\nann:{ANN}\r\n b o b : {BOB} \n"))
}

fn nobody() -> Credentials {
    Credentials::new("client", PeerInfo::from("test"))
}

fn ask(policy: &Arc<PasswordFile>, shown: Credentials) -> Answer {
    block_on(policy.clone().authenticate(shown))
}

fn refusal(answer: &Answer) -> (ReasonCode, String) {
    let Answer::Refuse(refusal) = answer else { unreachable!("{answer:?}") };
    (refusal.reason(), refusal.rule().to_string())
}

#[test]
fn a_user_of_the_file_is_let_in_by_its_line() {
    let policy = two_users();
    assert_eq!(policy.len(), 2);
    for (name, password, rule) in [
        ("ann", "open sesame", "passwords:3: user ann"),
        ("b o b", "pässwörd", "passwords:4: user b o b"),
    ] {
        let answer = ask(&policy, nobody().with_password(name, password.as_bytes()));
        let Answer::Accept { identity, data } = answer else { unreachable!("{answer:?}") };
        assert_eq!(identity.user_name(), Some(name));
        assert_eq!((identity.rule().to_string().as_str(), data.len()), (rule, 0));
        assert_eq!(validity(&*policy, &identity), Validity::Current);
    }
}

#[test]
fn all_else_with_a_user_name_is_refused() {
    let policy = two_users();
    let bad = ReasonCode::BAD_USER_NAME_OR_PASSWORD;
    for (name, password, rule) in [
        ("ann", "pässwörd", "passwords:3: user ann"),
        ("ann", "", "passwords:3: user ann"),
        ("ann ", "open sesame", "passwords: no user of this name"),
        ("# comment", "with colon", "passwords: no user of this name"),
        ("carol", "open sesame", "passwords: no user of this name"),
    ] {
        let answer = ask(&policy, nobody().with_password(name, password.as_bytes()));
        assert_eq!(refusal(&answer), (bad, rule.to_owned()), "{name} {password}");
    }
}

/// Pitfall 19.
#[test]
fn a_user_name_without_a_password_is_refused_and_an_empty_password_is_checked_pitfall_19() {
    let empty = PasswordHash::new(b"", HashMethod::Sha512).expect("a hash").encoded();
    let policy = file(&format!("ann:{ANN}\neve:{empty}"));
    for name in ["ann", "eve", "carol"] {
        let mut shown = nobody();
        shown.user_name = Some(name.into());
        let rule = "passwords: a User Name needs a Password".to_owned();
        let answer = ask(&policy, shown);
        assert_eq!(refusal(&answer), (ReasonCode::BAD_USER_NAME_OR_PASSWORD, rule));
    }
    assert!(matches!(ask(&policy, nobody().with_password("ann", b"")), Answer::Refuse(_)));
    assert!(matches!(ask(&policy, nobody().with_password("eve", b"")), Answer::Accept { .. }));
}

#[test]
fn it_knows_nothing_of_anonymous_clients_other_methods_and_topics() {
    let policy = two_users();
    assert!(matches!(ask(&policy, nobody()), Answer::NoAnswer));
    let empty = nobody().with_password("", b"open sesame");
    assert!(matches!(ask(&policy, empty), Answer::NoAnswer), "an empty User Name is none");
    let mut shown = nobody().with_password("ann", b"open sesame");
    shown.authentication_method = Some("SCRAM-SHA-256".into());
    assert!(matches!(ask(&policy, shown), Answer::NoAnswer));
    let identity = Identity::new(Rule::named("a test")).with_user_name("ann");
    let request =
        Request { identity: &identity, client_id: "c", action: Action::Publish, topic: "t" };
    assert_eq!(policy.authorize(&request), Decision::NoAnswer);
}

#[test]
fn an_identity_is_current_as_long_as_its_line_is_the_same() {
    let Answer::Accept { identity, .. } =
        ask(&two_users(), nobody().with_password("ann", b"open sesame"))
    else {
        unreachable!("ann is let in")
    };
    let moved = file(&format!("carol:{BOB}\nann:{ANN}"));
    let changed = file(&format!("ann:{BOB}"));
    let removed = file(&format!("carol:{ANN}"));
    assert_eq!(validity(&*moved, &identity), Validity::Current);
    assert_eq!(validity(&*changed, &identity), Validity::Gone);
    assert_eq!(validity(&*removed, &identity), Validity::Gone);
    let dynamic = crate::access::DynamicSecurity::parse("{}", "d.json").expect("a good file");
    assert_eq!(validity(&dynamic, &identity), Validity::Foreign, "this policy did not let it in");
    let other = Identity::new(Rule::named("a certificate")).with_user_name("ann");
    assert_eq!(validity(&*removed, &other), Validity::Foreign, "another policy let it in");
}

/// What a name costs would tell known names from others if it changed with each edit.
#[test]
fn what_an_unknown_user_costs_survives_edits_of_the_file_pitfall_19() {
    let model = |policy: &PasswordFile, name: u32| {
        let decoy = policy.decoy(&format!("unknown {name}")).expect("a user");
        decoy.rule.text().to_owned()
    };
    let before = file(&format!("ann:{ANN}\nbob:{BOB}\n"));
    let changed = file(&format!("# comment\nann:{ANN}\nbob:{ANN}\n"));
    let added = file(&format!("ann:{ANN}\nbob:{BOB}\ncarol:{BOB}\n"));
    let mut moved = 0;
    for name in 0..300 {
        let (old, new) = (model(&before, name), model(&added, name));
        assert_eq!(old, model(&changed, name));
        assert!(new == old || new == "user carol", "{old} {new}");
        moved += u32::from(new != old);
    }
    assert!((50..=150).contains(&moved), "{moved} of 300");
}

/// Pitfall 19. What a name costs is the hash that is computed for it.
#[test]
fn an_unknown_user_costs_as_much_as_a_known_one_pitfall_19() {
    let policy = two_users();
    let mut chosen = [0; 2];
    for number in 0..1_000 {
        let name = format!("unknown {number}");
        let decoy = policy.decoy(&name).expect("a user");
        let again = policy.decoy(&name).expect("a user");
        assert_eq!(decoy.rule, again.rule, "asking again reveals nothing");
        let index = policy.users.iter().position(|user| user.rule == decoy.rule);
        chosen[index.expect("a user of the file")] += 1;
    }
    assert!(chosen.iter().all(|count| (400..=600).contains(count)), "{chosen:?}");
    // The password of the user whose hash is computed opens nothing.
    for password in ["open sesame", "pässwörd"] {
        let answer = ask(&policy, nobody().with_password("unknown", password.as_bytes()));
        assert!(matches!(answer, Answer::Refuse(_)));
    }
}

#[test]
fn a_connect_that_finds_the_pool_full_is_refused_as_busy() {
    let pool = HashingPool::new(1, 1);
    let (begun, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let running = pool.submit(None, move || {
        let _ = begun.send(());
        let _ = released.recv();
    });
    has_begun.recv().expect("the job begins");
    let waiting = pool.submit(None, || ());
    let parsed = PasswordFile::parse(&format!("ann:{ANN}"), "passwords").expect("a good file");
    let policy = Arc::new(parsed.with_hashing(pool.clone()));
    let answer = ask(&policy, nobody().with_password("ann", b"open sesame"));
    let busy = (ReasonCode::SERVER_BUSY, "limits.hashesWaitingMax".to_owned());
    assert_eq!(refusal(&answer), busy);
    assert_eq!(pool.counters().refused, 1);
    drop(release);
    assert_eq!((block_on(running), block_on(waiting)), (Ok(()), Ok(())));
    let answer = ask(&policy, nobody().with_password("ann", b"open sesame"));
    assert!(matches!(answer, Answer::Accept { .. }));
}

/// Pitfall 10.
#[test]
fn every_error_of_a_file_is_one_line_with_its_remedy_pitfall_10() {
    let text = format!(
        "just words\n:{ANN}\nann:{ANN}\nann:{BOB}\nbob:\ncarol:secret\ndave:$7$0$c2FsdA==$aGFzaA==\n \
         # not in the first column\n{}:{ANN}",
        "x".repeat(65_536)
    );
    let errors = PasswordFile::parse(&text, "passwords").expect_err("errors").to_string();
    let expected = [
        "passwords:1: it is no NAME:HASH and no comment; begin comments with #",
        "passwords:2: the name before the colon is missing; delete the line or name a user",
        "passwords:4: \"ann\" is in line 3, too; delete one of the two lines",
        "passwords:5: \"bob\" has no password; run: hrotti passwd passwords bob",
        "passwords:6: the password of \"carol\" is in plain text; run: hrotti passwd -U passwords",
        "passwords:7: the hash of \"dave\" cannot be read: its number of iterations 0 is not from 1 to 10000000; \
         run: hrotti passwd passwords dave",
        "passwords:8: it is no NAME:HASH and no comment; begin comments with #",
        "passwords:9: the name has more than 65535 bytes; no Client can send it: delete the line",
    ];
    assert_eq!(errors.lines().collect::<Vec<_>>(), expected);
}

/// Pitfall 10.
#[test]
fn a_file_without_users_is_an_error_pitfall_10() {
    for text in ["", "\n\n", "# ann\r\n"] {
        let errors = PasswordFile::parse(text, "passwords").expect_err("no users").to_string();
        assert_eq!(errors, "passwords: it has no user; run: hrotti passwd passwords NAME");
    }
}

proptest! {
    #[test]
    fn the_parser_is_total(
        text in ".*",
        lines in prop::collection::vec("[#:$ a-c0-9\r\n]{0,20}|(ann|bob):[$]6[$]c2FsdA==[$].*", 0..8),
    ) {
        for text in [text, lines.join("\n")] {
            if let Err(errors) = PasswordFile::parse(&text, "passwords") {
                for line in errors.to_string().lines() {
                    prop_assert!(line.starts_with("passwords:"), "{}", line);
                }
            }
        }
    }

    #[test]
    fn every_user_that_is_written_is_read(
        names in prop::collection::hash_set("[^:#\\s\0][^:\\s\0]{0,8}", 1..10),
    ) {
        let lines: Vec<_> = names.iter().map(|name| format!("{name}:{BOB}")).collect();
        let file = PasswordFile::parse(&lines.join("\n"), "passwords").expect("a good file");
        prop_assert_eq!(file.len(), names.len());
        prop_assert!(names.iter().all(|name| file.user(name).is_some()));
    }
}
