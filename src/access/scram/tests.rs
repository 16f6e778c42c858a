//! Exchanges and SCRAM files, right and wrong, and the vectors of the standard.

use std::io::Cursor;

use futures_lite::future::block_on;
use proptest::prelude::*;
use rsasl::prelude::{Mechname, SASLClient, SASLConfig};

use super::*;
use crate::access::testing::validity;
use crate::transport::PeerInfo;

use ScramMechanism::{Sha256, Sha512};

/// RFC 7677 section 3.
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn line(user: &str, password: &str, mechanism: ScramMechanism) -> String {
    let salt = STANDARD.decode(SALT).expect("base64");
    users::line(user, password.as_bytes(), mechanism, 4_096, &salt).expect("a line")
}

fn policy(file: &str) -> Arc<ScramPolicy> {
    Arc::new(ScramPolicy::new(ScramUsers::parse(file, "scram").expect("a SCRAM file")))
}

fn pencil() -> Arc<ScramPolicy> {
    policy(&line("user", "pencil", Sha256))
}

/// The Authentication Data of AUTH, and the rest of the exchange.
type Step = Result<(String, Box<dyn Exchange>), Refusal>;

fn begin(policy: &ScramPolicy, message: &str) -> Step {
    match policy.begin(Sha256, message.as_bytes(), SERVER_NONCE) {
        Answer::Continue { data, next } => Ok((String::from_utf8(data).expect("UTF-8"), next)),
        Answer::Refuse(refusal) => Err(refusal),
        other => unreachable!("{other:?}"),
    }
}

fn finish(next: Box<dyn Exchange>, message: &str) -> Result<(Identity, String), Refusal> {
    match block_on(next.proceed(Secret::new(message.as_bytes()))) {
        Answer::Accept { identity, data } => {
            Ok((identity, String::from_utf8(data).expect("UTF-8")))
        }
        Answer::Refuse(refusal) => Err(refusal),
        other => unreachable!("{other:?}"),
    }
}

fn why<T>(result: Result<T, Refusal>) -> String {
    result
        .err()
        .map(|refusal| format!("{} {}", refusal.reason().value(), refusal.rule().text()))
        .unwrap_or_default()
}

fn shown(method: Option<&str>, data: &[u8]) -> Credentials {
    let mut shown = Credentials::new("c1", PeerInfo::from("a test"));
    shown.authentication_method = method.map(Into::into);
    shown.authentication_data = Secret::new(data);
    shown
}

#[test]
fn the_exchange_of_rfc_7677_comes_out_letter_by_letter() {
    let (server_first, next) = begin(&pencil(), CLIENT_FIRST).expect("a challenge");
    assert_eq!(server_first, SERVER_FIRST);
    let (identity, server_final) = finish(next, CLIENT_FINAL).expect("the right proof");
    assert_eq!(server_final, SERVER_FINAL);
    assert_eq!(identity.user_name(), Some("user"));
    assert_eq!(identity.rule().to_string(), "scram:1: SCRAM-SHA-256");
}

/// A client that shares no code with the server. Whether it got through, on its word and on the server's.
fn play(
    policy: &Arc<ScramPolicy>,
    mechanism: ScramMechanism,
    user: &str,
    password: &str,
) -> (bool, Option<Identity>) {
    let config = SASLConfig::with_credentials(None, user.to_owned(), password.to_owned());
    let client = SASLClient::new(config.expect("a configuration"));
    let name = Mechname::parse(mechanism.name().as_bytes()).expect("a mechanism");
    let mut session = client.start_suggested(&[name]).expect("the client knows it");
    let mut sent = Cursor::new(Vec::new());
    session.step(None, &mut sent).expect("the first message");
    let shown = shown(Some(mechanism.name()), sent.get_ref());
    let Answer::Continue { data, next } = block_on(policy.clone().authenticate(shown)) else {
        unreachable!("the client's first message is well formed")
    };
    let mut sent = Cursor::new(Vec::new());
    session.step(Some(&data), &mut sent).expect("the second message");
    match block_on(next.proceed(Secret::new(sent.get_ref()))) {
        Answer::Accept { identity, data } => {
            let done = session.step(Some(&data), &mut Cursor::new(Vec::new()));
            (done.is_ok_and(|state| state.is_finished()), Some(identity))
        }
        _ => (false, None),
    }
}

#[test]
fn a_client_of_another_library_gets_in_with_either_mechanism_and_only_with_the_password() {
    let file = [
        line("user", "pencil", Sha256),
        line("user", "pencil", Sha512),
        line("ü=ser,2", "päss wörd", Sha512),
    ];
    let policy = policy(&file.join("\n"));
    for (mechanism, user, password, lets_in) in [
        (Sha256, "user", "pencil", true),
        (Sha512, "user", "pencil", true),
        (Sha512, "user", "Pencil", false),
        (Sha256, "user", "pencil ", false),
        (Sha256, "nobody", "pencil", false),
    ] {
        let (client, server) = play(&policy, mechanism, user, password);
        assert_eq!((client, server.is_some()), (lets_in, lets_in), "{mechanism} {user} {password}");
        assert!(server.is_none_or(|identity| identity.user_name() == Some(user)));
    }
}

#[test]
fn user_names_are_decoded_and_prepared() {
    let policy = policy(&line("a,b=c", "pencil", Sha256));
    for (name, known) in [("a=2Cb=3Dc", true), ("a=2Cb=3Dc\u{ad}", true), ("a=2C", false)] {
        let salt = begin(&policy, &format!("n,,n={name},r=x")).expect("a challenge").0;
        assert_eq!(salt.contains(SALT), known, "{name}");
    }
    for name in ["a=2cb=3dc", "a=", "a=2", "=", "", "\u{ad}", "\u{7}", "\u{d55}\u{627}"] {
        assert!(begin(&policy, &format!("n,,n={name},r=x")).is_err(), "{name:?}");
    }
}

#[test]
fn an_unknown_user_looks_like_a_known_one_pitfall_19() {
    let other = line("ann", "secret", Sha256).replace("$4096:", "$10000:");
    let file = format!("{}\n{other}", line("user", "pencil", Sha256));
    let (policy, restarted) = (policy(&file), policy(&file));
    let ask = |policy: &ScramPolicy, user: &str| {
        let first = begin(policy, &format!("n,,n={user},r=x")).expect("a challenge").0;
        let (_, salt) = first.split_once(",s=").expect("a salt");
        salt.to_owned()
    };
    let salts: Vec<String> = (0..32).map(|user| ask(&policy, &format!("nobody{user}"))).collect();
    let mut different = salts.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 32);
    for (user, salt) in salts.iter().enumerate() {
        assert_eq!(
            salt.len() - salt.find(',').expect("iterations"),
            if salt.ends_with("i=4096") { 7 } else { 8 }
        );
        assert_eq!(salt.find(','), Some(SALT.len()), "the salts are as long as those of the file");
        assert_eq!(*salt, ask(&policy, &format!("nobody{user}")), "the salt of a name stays");
        assert_eq!(*salt, ask(&restarted, &format!("nobody{user}")), "after a restart, too");
    }
    for count in [",i=4096", ",i=10000"] {
        assert!(salts.iter().any(|salt| salt.ends_with(count)), "{count}");
    }
    // The last answer is the same, too.
    let (_, unknown) = begin(&policy, "n,,n=nobody,r=x").expect("a challenge");
    let (_, known) = begin(&policy, "n,,n=user,r=x").expect("a challenge");
    let proof = STANDARD.encode([0; 32]);
    let last = format!("c=biws,r=x{SERVER_NONCE},p={proof}");
    let unknown = why(finish(unknown, &last));
    assert_eq!(unknown, "134 the user is unknown or the proof is wrong");
    assert_eq!(unknown, why(finish(known, &last)));
}

/// A salt that changed when the file was edited would be one of no user, because those of users stay.
#[test]
fn the_salt_of_an_unknown_user_survives_edits_of_the_file_pitfall_19() {
    let first = line("first", "pencil", Sha256);
    let challenge = |policy: &ScramPolicy, user: usize| {
        let message = format!("n,,n=nobody{user},r=x");
        begin(policy, &message).expect("a challenge").0
    };
    let of = |lines: &[&str]| policy(&lines.join("\n"));
    let (other, changed) = (line("ann", "pencil", Sha256), line("ann", "other", Sha256));
    let costly = line("zoe", "pencil", Sha256).replace("$4096:", "$10000:");
    let before = of(&[&first, &other]);
    for after in [
        of(&[&first]),
        of(&[&first, &changed]),
        of(&["# comment", &first, &other, &line("bob", "x", Sha256)]),
    ] {
        for user in 0..32 {
            assert_eq!(challenge(&before, user), challenge(&after, user));
        }
    }
    // A user with other iterations is the model of its share of the unknown names, and the others stay.
    let after = of(&[&first, &other, &costly]);
    let moved =
        (0..300).filter(|user| challenge(&before, *user) != challenge(&after, *user)).count();
    assert!((50..=150).contains(&moved), "{moved} of 300");
}

#[test]
fn first_messages_that_are_not_as_the_standard_demands_are_refused() {
    let malformed = "134 the client-first-message is malformed";
    for (message, problem) in [
        ("", malformed),
        ("n", malformed),
        ("n,", malformed),
        ("n,,", malformed),
        ("n,,n=user", malformed),
        ("n,,r=x,n=user", malformed),
        ("n,,n=user,r=", malformed),
        ("n,,n=user,r=\u{e9}", malformed),
        ("n,,n=user,r=a b", malformed),
        ("n,,n=user,r=x,", malformed),
        ("n,,n=user,r=x,abc", malformed),
        ("n,,m=new,n=user,r=x", malformed),
        ("x,,n=user,r=x", malformed),
        ("n,user,n=user,r=x", malformed),
        ("n,,n=user\0,r=x", "134 a message of the exchange is malformed"),
        ("p=tls-exporter,,n=user,r=x", "134 channel binding is not supported"),
        ("n,a=admin,n=user,r=x", "134 one user may not act for another"),
        (
            &format!("n,,n=user,r={}", "x".repeat(5_000)),
            "134 a message of the exchange is too long",
        ),
    ] {
        assert_eq!(why(begin(&pencil(), message)), problem, "{message:?}");
    }
    for message in ["y,,n=user,r=x", "n,a=user,n=user,r=x", "n,,n=user,r=x,e=extension"] {
        assert_eq!(why(begin(&pencil(), message)), "", "{message}");
    }
}

#[test]
fn last_messages_that_are_not_as_the_standard_demands_are_refused() {
    let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let nonce = format!("r=rOprNGfwEbeRWgbNEkqO{SERVER_NONCE}");
    let malformed = "134 the client-final-message is malformed";
    let wrong = "134 the user is unknown or the proof is wrong";
    for (message, problem) in [
        (String::new(), malformed),
        (format!("{nonce},{proof}"), malformed),
        (format!("c=biws,{proof}"), malformed),
        (format!("c=biws,{nonce}"), malformed),
        (format!("c=biws,{nonce},p="), malformed),
        (format!("c=biws,{nonce},p=AAAA"), malformed),
        (format!("c=biws,{nonce},p=?"), malformed),
        (format!("c=biws,{nonce},x,{proof}"), malformed),
        (format!("c=biws,{nonce},{proof},e=x"), malformed),
        (
            format!("c=eSws,{nonce},{proof}"),
            "134 the channel binding is not that of the first message",
        ),
        (format!("c=biws,{nonce}x,{proof}"), "134 the nonce is not that of this exchange"),
        (
            "c=biws,r=rOprNGfwEbeRWgbNEkqO,p=AAAA".to_owned(),
            "134 the nonce is not that of this exchange",
        ),
        (format!("c=biws,{nonce},e=x,{proof}"), wrong),
        (format!("c=biws,{nonce},p={}", STANDARD.encode([0; 32])), wrong),
    ] {
        let (_, next) = begin(&pencil(), CLIENT_FIRST).expect("a challenge");
        assert_eq!(why(finish(next, &message)), problem, "{message}");
    }
}

#[test]
fn other_methods_are_left_to_other_policies() {
    let ask = |method, data: &[u8]| block_on(pencil().authenticate(shown(method, data)));
    for method in
        [None, Some(""), Some("SCRAM-SHA-1"), Some("scram-sha-256"), Some("SCRAM-SHA-256-PLUS")]
    {
        assert!(matches!(ask(method, CLIENT_FIRST.as_bytes()), Answer::NoAnswer), "{method:?}");
    }
    let Answer::Refuse(refusal) = ask(Some("SCRAM-SHA-512"), CLIENT_FIRST.as_bytes()) else {
        unreachable!("no user has this mechanism")
    };
    assert_eq!(refusal.reason(), ReasonCode::BAD_AUTHENTICATION_METHOD);
    let identity = Identity::new(Rule::named("a test"));
    let request = Request {
        identity: &identity,
        client_id: "c",
        action: crate::access::Action::Publish,
        topic: "t",
    };
    assert_eq!(pencil().authorize(&request), Decision::NoAnswer);
}

#[test]
fn each_exchange_has_a_nonce_of_its_own() {
    let ask = || match block_on(
        pencil().authenticate(shown(Some("SCRAM-SHA-256"), CLIENT_FIRST.as_bytes())),
    ) {
        Answer::Continue { data, .. } => data,
        other => unreachable!("{other:?}"),
    };
    let (one, two) = (ask(), ask());
    assert_eq!(one.len(), two.len());
    assert_ne!(one, two);
}

#[test]
fn an_identity_ends_when_its_user_or_password_leaves_the_file() {
    let policy =
        policy(&[line("user", "pencil", Sha256), line("user", "pencil", Sha512)].join("\n"));
    let (_, identity) = play(&policy, Sha512, "user", "pencil");
    let identity = identity.expect("the right password");
    assert_eq!(validity(&*policy, &identity), Validity::Current);
    assert_eq!(validity(&*pencil(), &identity), Validity::Gone, "the mechanism is gone");
    let changed = ScramUsers::parse(&line("user", "crayon", Sha512), "scram").expect("a file");
    assert_eq!(validity(&ScramPolicy::new(changed), &identity), Validity::Gone);
    let other = Identity::new(Rule::named("a password file"));
    assert_eq!(validity(&*pencil(), &other), Validity::Foreign);
}

#[test]
fn a_line_is_what_postgresql_keeps() {
    // The password "pencil" with the salt of RFC 7677.
    let stored =
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert_eq!(line("user", "pencil", Sha256), format!("user:SCRAM-SHA-256$4096:{SALT}${stored}"));
    let file = format!("# users\n\nuser:SCRAM-SHA-256$4096:{SALT}${stored}\r\n");
    assert!(begin(&policy(&file), CLIENT_FIRST).is_ok());
}

#[test]
fn lines_that_cannot_be_made_are_errors() {
    let make = |user: &str, password: &[u8], iterations| {
        ScramUsers::line(user, password, Sha256, iterations).map(|_| ())
    };
    assert_eq!(make("ann", b"secret", 4_096), Ok(()));
    for user in ["", "a:b", "#a", "a\u{7}", "\u{ad}"] {
        assert_eq!(make(user, b"secret", 4_096), Err(ScramError::UserName), "{user:?}");
    }
    for password in [&b""[..], b"\xff", b"a\x07"] {
        assert_eq!(make("ann", password, 4_096), Err(ScramError::Password));
    }
    for iterations in [0, 4_095, u32::MAX] {
        assert_eq!(make("ann", b"secret", iterations), Err(ScramError::Iterations));
    }
}

#[test]
fn wrong_files_are_refused_with_line_and_remedy_pitfall_10() {
    let good = line("user", "pencil", Sha256);
    let (before, _) = good.rsplit_once(':').expect("keys");
    for (text, problem) in [
        (String::new(), "scram: it holds no user, so nobody could connect"),
        ("# nobody\n".to_owned(), "scram: it holds no user, so nobody could connect"),
        ("\nann".to_owned(), "scram:2: there is no colon; write USER:SCRAM-SHA-256$"),
        (format!(":{good}"), "scram:1: the user name is empty"),
        ("ann:secret".to_owned(), "scram:1: user \"ann\" has no credential for SCRAM"),
        (before.to_owned(), "scram:1: user \"user\" has no credential for SCRAM"),
        (good.replace("$4096:", ":4096$"), "scram:1: user \"user\" has no credential for SCRAM"),
        (
            good.replace("SCRAM-SHA-256", "scram-sha-256"),
            "scram:1: user \"user\" has another mechanism; did you mean SCRAM-SHA-256?",
        ),
        (
            good.replace("SCRAM-SHA-256", "MD5"),
            "scram:1: user \"user\" has another mechanism; use SCRAM-SHA-256 or SCRAM-SHA-512",
        ),
        (
            good.replace("SCRAM-SHA-256", "SCRAM-SHA-512"),
            "scram:1: the StoredKey of user \"user\" does not have 64 bytes",
        ),
        (good.replace("$4096:", "$4095:"), "scram:1: user \"user\" has a number of iterations"),
        (good.replace("$4096:", "$-1:"), "scram:1: user \"user\" has a number of iterations"),
        (good.replace(SALT, "?"), "scram:1: the salt of user \"user\" is no base64"),
        (
            good.replace(SALT, ""),
            "scram:1: the salt of user \"user\" does not have 1 to 1024 bytes",
        ),
        (
            format!("{before}:AAAA"),
            "scram:1: the ServerKey of user \"user\" does not have 32 bytes",
        ),
        (format!("{good}\nx\n{good}"), "scram:2: there is no colon"),
        (
            format!("{good}\n\n{good}"),
            "scram:3: user \"user\" stands in line 1 already; remove one",
        ),
    ] {
        let errors = ScramUsers::parse(&text, "scram").unwrap_err().to_string();
        assert!(errors.starts_with(problem), "{errors}");
        // No key of a line that is wrong is shown (pitfall 19).
        assert!(!errors.contains("WG5d8oPm3O"), "{errors}");
    }
    let both = format!("{good}\n\n{good}\nx");
    assert_eq!(ScramUsers::parse(&both, "scram").unwrap_err().iter().count(), 2);
}

#[test]
fn debug_shows_no_key_pitfall_19() {
    assert_eq!(
        format!("{:?}", pencil()),
        "ScramPolicy { users: ScramUsers { source: \"scram\", users: 1 } }"
    );
}

proptest! {
    #[test]
    fn reading_a_file_is_total(text in "(\\PC|[a:$,=\n]|SCRAM-SHA-256\\$4096:){0,20}") {
        let _ = ScramUsers::parse(&text, "scram");
    }

    #[test]
    fn arbitrary_messages_let_nobody_in(first in prop::collection::vec(any::<u8>(), 0..60), last in prop::collection::vec(any::<u8>(), 0..60)) {
        let policy = pencil();
        let begun = policy.begin(Sha256, &first, SERVER_NONCE);
        let accepted = matches!(begun, Answer::Accept { .. });
        prop_assert!(!accepted);
        let Answer::Continue { next, .. } = policy.begin(Sha256, CLIENT_FIRST.as_bytes(), SERVER_NONCE) else {
            unreachable!("a challenge")
        };
        let refused = matches!(block_on(next.proceed(Secret::new(&last))), Answer::Refuse(_));
        prop_assert!(refused);
    }

    #[test]
    fn messages_that_are_nearly_right_let_nobody_in(name in "(\\PC|=2C|=3D|[,=nra]){0,12}", end in "(,|[cprn]=|=|[a-zA-Z0-9]){0,12}") {
        let policy = pencil();
        let first = format!("n,,n={name}");
        if let Ok((_, next)) = begin(&policy, &format!("{first},r=x")) {
            let message = format!("c=biws,r=x{SERVER_NONCE}{end}");
            prop_assert!(finish(next, &message).is_err());
        }
    }

    /// Any line that is made can be read, and knows its password.
    #[test]
    fn a_line_that_is_made_lets_its_user_in(user in "[a-zA-Z,= éß]{1,8}", password in "\\PC{1,8}") {
        let Ok(line) = users::line(&user, password.as_bytes(), Sha256, 4_096, b"salt") else { return Ok(()) };
        let users = ScramUsers::parse(&line, "scram").expect("a line");
        let name = stringprep::saslprep(&user).expect("it was allowed").into_owned();
        prop_assert!(users.known(Sha256, &name).is_some());
    }
}
