//! Tokens and key files, right and wrong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_lite::future::block_on;
use proptest::prelude::*;
use ring::hmac;
use serde_json::{Value, json};

use super::*;
use crate::access::testing::validity;
use crate::access::{Action, Chain};
use crate::transport::PeerInfo;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const RSA: &str = include_str!("tests/rsa.pub.pem");
/// Made by OpenSSL: algorithm, key file, token. Their `exp` is in 2033.
const TOKENS: &str = include_str!("tests/tokens.txt");
const KEY_FILES: &[(&str, &str)] = &[
    ("rsa", RSA),
    ("es256", include_str!("tests/es256.pub.pem")),
    ("es384", include_str!("tests/es384.pub.pem")),
    ("eddsa", include_str!("tests/eddsa.pub.pem")),
];

use JwtAlgorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Rs256};

fn at(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token by HS256 with this header and these claims.
fn token_with(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let sign = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(sign))
}

fn token(claims: &Value) -> String {
    token_with(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

fn policy_with(
    keys: JwtKeys,
    algorithms: &[JwtAlgorithm],
    change: impl FnOnce(&mut JwtSettings),
) -> JwtPolicy {
    let mut settings = JwtSettings::new(algorithms.to_vec());
    settings.acl_claim = Some("acl".to_owned());
    change(&mut settings);
    JwtPolicy::new(keys, settings).expect("keys that fit")
}

fn secret_policy(change: impl FnOnce(&mut JwtSettings)) -> JwtPolicy {
    let keys = JwtKeys::from_key_file(SECRET, "secret.key").expect("a long secret");
    policy_with(keys, &[Hs256], change)
}

fn shown(password: &[u8]) -> Credentials {
    Credentials::new("c1", PeerInfo::from("a test")).with_password("any", password)
}

/// The user name of the identity, or why the token is refused; "no answer" without either.
fn answer(policy: &JwtPolicy, password: &str, now: u64) -> Result<String, String> {
    match policy.answer(&shown(password.as_bytes()), at(now)) {
        Answer::Accept { identity, .. } => Ok(identity.user_name().unwrap_or_default().to_owned()),
        Answer::Refuse(refusal) => Err(refusal.rule().text().to_owned()),
        _ => Err("no answer".to_owned()),
    }
}

fn accepted(policy: &JwtPolicy, claims: &Value) -> Identity {
    match policy.answer(&shown(token(claims).as_bytes()), at(0)) {
        Answer::Accept { identity, .. } => identity,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn tokens_that_openssl_made_are_accepted_by_the_algorithm_that_they_name() {
    for line in TOKENS.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let &[name, file, token] = fields.as_slice() else { unreachable!("{line}") };
        let (_, pem) = KEY_FILES.iter().find(|(known, _)| *known == file).expect("a key file");
        let algorithm = name.parse().expect("a name");
        let keys = || JwtKeys::from_key_file(pem.as_bytes(), file).expect("a key");
        let policy = policy_with(keys(), &[algorithm], |_| {});
        assert_eq!(answer(&policy, token, 1_999_999_999), Ok("ann".to_owned()), "{name}");
        assert_eq!(policy.keys.source, file);

        // One letter of the claims or of the signature differs.
        for place in [token.len() / 2, token.len() - 10] {
            let mut letters = token.as_bytes().to_vec();
            letters[place] = if letters[place] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(letters).expect("ASCII");
            assert!(answer(&policy, &forged, 0).is_err(), "{name} {place}");
        }

        // The same key, but another algorithm in the settings.
        let others = [Rs256, Ps256, Es256, Es384, EdDsa];
        for other in others.into_iter().filter(|other| *other != algorithm) {
            let Ok(policy) = JwtPolicy::new(keys(), JwtSettings::new(vec![other])) else {
                continue;
            };
            let why = Err("its algorithm is not among those that are configured".to_owned());
            assert_eq!(answer(&policy, token, 0), why, "{name} {other}");
        }
    }
    assert_eq!(TOKENS.lines().count(), 9);
}

#[test]
fn both_pem_forms_of_an_rsa_key_are_the_same_key() {
    let pkcs1 =
        JwtKeys::from_key_file(include_bytes!("tests/rsa.pkcs1.pem"), "rsa").expect("a key");
    let spki = JwtKeys::from_key_file(RSA.as_bytes(), "rsa").expect("a key");
    let print = spki.find(Rs256, None).expect("the key").print;
    assert!(pkcs1.holds(&print));
}

/// RFC 7515 appendices A.1 and A.3; RFC 8037 appendix A.4.
#[test]
fn the_examples_of_the_standards_are_verified() {
    let set = json!({"keys": [
        {"kty": "oct", "kid": "a1", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
        {"kty": "EC", "crv": "P-256", "kid": "a3",
         "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "a4", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    ]});
    let keys = JwtKeys::from_jwks_file(&set.to_string(), "jwks").expect("a set");
    let ed25519 = keys.find(EdDsa, Some("a4")).expect("the key");
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let sign =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let sign = URL_SAFE_NO_PAD.decode(sign).expect("base64url");
    assert!(ed25519.verifies(EdDsa, message, &sign) && !ed25519.verifies(Es256, message, &sign));

    let policy = policy_with(keys, &[Hs256, Es256], |settings| {
        settings.user_name_claim = "iss".to_owned();
        settings.leeway = Duration::ZERO;
    });
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (header, sign) in [
        ("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let token = format!("{header}.{claims}.{sign}");
        assert_eq!(answer(&policy, &token, 1_300_819_379), Ok("joe".to_owned()), "{header}");
        assert_eq!(answer(&policy, &token, 1_300_819_380), Err("it has expired".to_owned()));
    }
}

/// RFC 8725 section 2.1: a public key is public, so a secret with its bytes is known to everybody.
#[test]
fn a_public_key_is_never_a_secret() {
    let confused =
        token_with(&json!({"alg": "HS256"}), &json!({"sub": "ann", "exp": 9}), RSA.as_bytes());
    let keys = || JwtKeys::from_key_file(RSA.as_bytes(), "rsa.pem").expect("a key");
    let policy = policy_with(keys(), &[Rs256], |_| {});
    assert!(answer(&policy, &confused, 0).is_err());
    for algorithm in [Hs256, Hs384, Hs512] {
        let error = JwtPolicy::new(keys(), JwtSettings::new(vec![Rs256, algorithm])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("rsa.pem: none of its keys verifies {algorithm}")),
            "{text}"
        );
    }
    // In a set that has both, each key verifies by its own kind alone.
    let set = json!({"keys": [
        {"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    ]});
    let keys = JwtKeys::from_jwks_file(&set.to_string(), "jwks").expect("a set");
    let point =
        URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").expect("a point");
    let confused = token_with(&json!({"alg": "HS256"}), &json!({"sub": "ann", "exp": 9}), &point);
    let policy = policy_with(keys, &[Hs256, EdDsa], |_| {});
    assert_eq!(answer(&policy, &confused, 0), Err("its signature is wrong".to_owned()));
    assert_eq!(answer(&policy, &token(&json!({"sub": "ann", "exp": 9})), 0), Ok("ann".to_owned()));
}

#[test]
fn tokens_without_a_signature_are_refused() {
    let policy = secret_policy(|_| {});
    for name in ["none", "None", "NONE", "", "hs256", "HS257"] {
        let message =
            format!("{}.{}", part(&json!({"alg": name})), part(&json!({"sub": "ann", "exp": 9})));
        for sign in ["", "AAAA"] {
            let why = answer(&policy, &format!("{message}.{sign}"), 0);
            assert_eq!(
                why,
                Err("its algorithm is not among those that are configured".to_owned()),
                "{name}"
            );
        }
    }
    let stripped = token(&json!({"sub": "ann", "exp": 9}));
    let (message, _) = stripped.rsplit_once('.').expect("three parts");
    assert_eq!(
        answer(&policy, &format!("{message}."), 0),
        Err("its signature is wrong".to_owned())
    );
}

#[test]
fn the_times_of_a_token_are_held_to_with_the_leeway() {
    let policy = secret_policy(|_| {});
    for (claims, now, result) in [
        (json!({"sub": "ann", "exp": 1_000}), 1_029, Ok("ann")),
        (json!({"sub": "ann", "exp": 1_000}), 1_030, Err("it has expired")),
        (json!({"sub": "ann", "exp": 1_000.75}), 1_030, Ok("ann")),
        (json!({"sub": "ann", "exp": 1_000, "nbf": 500}), 470, Ok("ann")),
        (json!({"sub": "ann", "exp": 1_000, "nbf": 500}), 469, Err("it is not valid yet")),
        (json!({"sub": "ann"}), 0, Err("it has no claim exp")),
        (json!({"sub": "ann", "exp": "1000"}), 0, Err("its claim exp is no time")),
        (json!({"sub": "ann", "exp": -1}), 0, Err("its claim exp is no time")),
        (json!({"sub": "ann", "exp": 1e300}), 0, Err("its claim exp is no time")),
        (json!({"sub": "ann", "exp": u64::MAX}), 0, Err("its claim exp is no time")),
        (json!({"sub": "ann", "exp": null}), 0, Err("its claim exp is no time")),
        (json!({"sub": "ann", "exp": 9, "nbf": "x"}), 0, Err("its claim nbf is no time")),
    ] {
        let result = result.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(answer(&policy, &token(&claims), now), result, "{claims}");
    }
    let end = accepted(&policy, &json!({"sub": "ann", "exp": 1_000})).expires_at();
    assert_eq!(end, Some(at(1_030)));
    let endless = secret_policy(|settings| settings.end_required = false);
    assert_eq!(accepted(&endless, &json!({"sub": "ann"})).expires_at(), None);
}

#[test]
fn issuer_audience_and_user_name_are_as_the_settings_demand() {
    let policy = secret_policy(|settings| {
        settings.issuer = Some("id".to_owned());
        settings.audience = Some("mqtt".to_owned());
        settings.user_name_claim = "user".to_owned();
    });
    for (claims, result) in [
        (json!({"iss": "id", "aud": "mqtt", "user": "ann"}), Ok("ann")),
        (json!({"iss": "id", "aud": ["web", "mqtt"], "user": "ann"}), Ok("ann")),
        (json!({"iss": "id", "aud": ["web"], "user": "ann"}), Err("it is for another audience")),
        (json!({"iss": "id", "user": "ann"}), Err("it is for another audience")),
        (json!({"iss": "ID", "aud": "mqtt", "user": "ann"}), Err("it is from another issuer")),
        (json!({"iss": ["id"], "aud": "mqtt", "user": "ann"}), Err("it is from another issuer")),
        (json!({"aud": "mqtt", "user": "ann"}), Err("it is from another issuer")),
        (json!({"iss": "id", "aud": "mqtt", "sub": "ann"}), Err("it has no user name")),
        (json!({"iss": "id", "aud": "mqtt", "user": ""}), Err("it has no user name")),
        (json!({"iss": "id", "aud": "mqtt", "user": 7}), Err("it has no user name")),
        (json!({"iss": "id", "aud": "mqtt", "user": "a\0b"}), Err("its user name is invalid")),
    ] {
        let mut claims = claims;
        claims["exp"] = json!(1_000);
        let result = result.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(answer(&policy, &token(&claims), 0), result, "{claims}");
    }
}

#[test]
fn the_kid_of_a_token_chooses_the_key() {
    let other = b"another secret of thirty-two bytes and more";
    let set = json!({"keys": [
        {"kty": "oct", "kid": "one", "k": URL_SAFE_NO_PAD.encode(SECRET), "use": "sig", "alg": "HS256"},
        {"kty": "oct", "kid": "two", "k": URL_SAFE_NO_PAD.encode(other)},
        {"kty": "oct", "kid": "enc", "k": URL_SAFE_NO_PAD.encode(other), "use": "enc"},
        {"kty": "EC", "crv": "secp256k1", "kid": "unknown curve"},
        {"kty": "new", "kid": "unknown type"},
        {"kty": "RSA", "alg": "RSA-OAEP", "kid": "unknown algorithm"},
    ]});
    let policy = policy_with(
        JwtKeys::from_jwks_file(&set.to_string(), "jwks").expect("a set"),
        &[Hs256],
        |_| {},
    );
    let claims = json!({"sub": "ann", "exp": 9});
    let sent = |kid: Value, secret: &[u8]| {
        let header = if kid.is_null() {
            json!({"alg": "HS256"})
        } else {
            json!({"alg": "HS256", "kid": kid})
        };
        answer(&policy, &token_with(&header, &claims, secret), 0)
    };
    let unknown = Err("no key, or more than one, fits its algorithm and kid".to_owned());
    assert_eq!(sent(json!("one"), SECRET), Ok("ann".to_owned()));
    assert_eq!(sent(json!("two"), other), Ok("ann".to_owned()));
    assert_eq!(sent(json!("two"), SECRET), Err("its signature is wrong".to_owned()));
    for kid in [json!("three"), json!("enc"), json!(""), Value::Null] {
        assert_eq!(sent(kid.clone(), other), unknown, "{kid}");
    }
    assert_eq!(sent(json!(1), SECRET), Err("its key identifier is no text".to_owned()));
}

#[test]
fn what_a_token_declares_critical_refuses_it() {
    let policy = secret_policy(|_| {});
    let header = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
    let token = token_with(&header, &json!({"sub": "ann", "exp": 9}), SECRET);
    assert_eq!(answer(&policy, &token, 0), Err("its header has critical parameters".to_owned()));
}

#[test]
fn another_password_is_no_token_so_that_the_next_policy_is_asked() {
    let policy = secret_policy(|settings| settings.token_bytes_max = 1_000);
    let none = Err("no answer".to_owned());
    for password in [
        "",
        "secret",
        "a.b.c",
        "e.b.c",
        "ex.b.c",
        "example.or.two",
        "eyJ",
        "eyJ.e30",
        "W10.e30.AA",
        "eyJhIjoxfQ.e30.AA.AA",
        "eyJhIjoxfQ.e30.A A",
        "eyJhIjoxfQ=.e30.AA",
    ] {
        assert_eq!(answer(&policy, password, 0), none, "{password}");
    }
    assert!(matches!(policy.answer(&shown(&[0xff, b'.', b'.']), at(0)), Answer::NoAnswer));
    let without = Credentials::new("c1", PeerInfo::from("a test"));
    assert!(matches!(policy.answer(&without, at(0)), Answer::NoAnswer));
    let long = token(&json!({"sub": "ann", "exp": 9, "pad": "x".repeat(1_000)}));
    assert_eq!(answer(&policy, &long, 0), Err("it is too long".to_owned()));
    let mut other_method = shown(token(&json!({"sub": "ann", "exp": 9})).as_bytes());
    other_method.authentication_method = Some("SCRAM-SHA-256".into());
    assert!(matches!(policy.answer(&other_method, at(0)), Answer::NoAnswer));
}

#[test]
fn the_access_list_of_a_token_decides_and_without_one_the_next_policy_does() {
    let policy = secret_policy(|_| {});
    let acl = json!({"pub": ["${username}/#"], "sub": ["in/${clientid}"]});
    let listed = accepted(&policy, &json!({"sub": "ann", "exp": 9, "acl": acl}));
    let plain = accepted(&policy, &json!({"sub": "ann", "exp": 9}));
    let ask = |identity: &Identity, action, topic| {
        policy.authorize(&Request { identity, client_id: "c1", action, topic })
    };
    assert!(ask(&listed, Action::Publish, "ann/lamp").is_allowed());
    assert!(ask(&listed, Action::Subscribe, "in/c1").is_allowed());
    assert!(matches!(ask(&listed, Action::Publish, "bob/lamp"), Decision::Deny(_)));
    assert!(matches!(ask(&listed, Action::Receive, "in/c2"), Decision::Deny(_)));
    assert_eq!(ask(&plain, Action::Publish, "ann/lamp"), Decision::NoAnswer);
    let wrong = token(&json!({"sub": "ann", "exp": 9, "acl": ["#"]}));
    assert_eq!(answer(&policy, &wrong, 0), Err("the access list is no JSON object".to_owned()));
    // Without a claim in the settings, a token carries no rules.
    let unread = secret_policy(|settings| settings.acl_claim = None);
    let identity = accepted(&unread, &json!({"sub": "ann", "exp": 9, "acl": {"all": ["#"]}}));
    assert_eq!(ask(&identity, Action::Publish, "x"), Decision::NoAnswer);
}

#[test]
fn an_identity_ends_with_its_key_its_algorithm_and_its_issuer() {
    let policy = secret_policy(|_| {});
    let identity = accepted(&policy, &json!({"sub": "ann", "exp": 9, "iss": "id"}));
    assert_eq!(validity(&policy, &identity), Validity::Current);
    let of_issuer =
        |issuer: &str| secret_policy(|settings| settings.issuer = Some(issuer.to_owned()));
    assert_eq!(validity(&of_issuer("id"), &identity), Validity::Current);
    assert_eq!(validity(&of_issuer("other"), &identity), Validity::Gone);
    let for_audience = secret_policy(|settings| settings.audience = Some("mqtt".to_owned()));
    assert_eq!(validity(&for_audience, &identity), Validity::Gone);
    let by_algorithm = secret_policy(|settings| settings.algorithms = vec![Hs384]);
    assert_eq!(validity(&by_algorithm, &identity), Validity::Gone);
    let other = JwtKeys::from_key_file(&[9; 64], "new.key").expect("a secret");
    let by_key = policy_with(other, &[Hs256], |_| {});
    assert_eq!(validity(&by_key, &identity), Validity::Gone);
    let of_another = Identity::new(Rule::named("a password file"));
    assert_eq!(validity(&policy, &of_another), Validity::Foreign);
}

#[test]
fn a_secret_file_may_end_in_a_line_break_unless_its_bytes_are_random() {
    let print = |bytes: &[u8]| {
        let keys = JwtKeys::from_key_file(bytes, "k").expect("a secret");
        keys.find(Hs256, None).expect("the key").print
    };
    let text = [SECRET, b"\n"].concat();
    assert_eq!(print(&text), print(SECRET));
    assert_eq!(print(&[SECRET, b"\r\n"].concat()), print(SECRET));
    assert_ne!(print(&[SECRET, b"\n\n"].concat()), print(SECRET));
    let random = [&[0xf0; 32][..], b"\n"].concat();
    assert_ne!(print(&random), print(&[0xf0; 32]));
}

#[test]
fn wrong_key_files_are_refused_with_file_and_remedy_pitfall_10() {
    let body = "MCowBQYDK2VwAyEA";
    for (text, problem) in [
        ("", "the secret has 0 bytes, at least 32 are needed"),
        ("0123456789abcdef0123456789abcde\n", "the secret has 31 bytes"),
        ("-----BEGIN PUBLIC KEY", "the line -----BEGIN …----- is incomplete"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "the line -----END …----- is missing"),
        (
            "-----BEGIN PUBLIC KEY-----\n-----END X-----",
            "the lines -----BEGIN …----- and -----END …----- differ",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\n?\n-----END PUBLIC KEY-----",
            "what stands between BEGIN and END is no base64",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
            "it holds a certificate; write its key with",
        ),
        (
            "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----",
            "it holds a private key, which does not belong here",
        ),
        ("-----BEGIN X-----\n-----END X-----", "it holds no public key"),
        (
            &format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----"),
            "no public key of RSA, P-256",
        ),
        (&RSA.repeat(2), "it holds more than one key; put several keys into a JWKS file"),
    ] {
        let error = JwtKeys::from_key_file(text.as_bytes(), "k.pem").unwrap_err().to_string();
        assert!(error.starts_with(&format!("k.pem: {problem}")), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn wrong_jwks_files_are_refused_with_file_and_key_pitfall_10() {
    for (text, problem) in [
        ("", "jwks:1: it is no JSON"),
        ("{\n\"keys\": [}", "jwks:2: it is no JSON"),
        ("[]", "jwks: the list \"keys\""),
        (r#"{"keys": []}"#, "jwks: it holds no key"),
        (r#"{"keys": [{"kty": "new"}]}"#, "jwks: it holds no key"),
        (r#"{"keys": [1]}"#, "jwks: key 1: it is no JSON object"),
        (
            r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#,
            "jwks: key 1: \"k\" has fewer than 32 bytes",
        ),
        (
            r#"{"keys": [{"kty": "new"}, {"kty": "RSA", "n": "AQAB"}]}"#,
            "jwks: key 2: \"e\" is missing",
        ),
        (
            r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#,
            "jwks: key 1: its numbers have a size",
        ),
        (
            r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AAAA"}]}"#,
            "jwks: key 1: \"x\" and \"y\" differ",
        ),
        (
            r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "?"}]}"#,
            "jwks: key 1: \"x\" is no base64url",
        ),
        (r#"{"keys": [{"kty": 7}]}"#, "jwks: key 1: \"kty\" is no text"),
    ] {
        let error = JwtKeys::from_jwks_file(text, "jwks").unwrap_err().to_string();
        assert!(error.starts_with(problem), "{error}");
    }
}

#[test]
fn algorithms_that_no_key_verifies_are_refused_at_the_start() {
    let keys = JwtKeys::from_key_file(&[7; 32], "secret.key").expect("a secret");
    let error = JwtPolicy::new(keys, JwtSettings::new(Vec::new())).unwrap_err().to_string();
    assert!(error.starts_with("secret.key: no algorithm is named"), "{error}");
    let keys = JwtKeys::from_key_file(&[7; 32], "secret.key").expect("a secret");
    let error = JwtPolicy::new(keys, JwtSettings::new(vec![Hs256, Hs512])).unwrap_err().to_string();
    assert!(error.contains("verifies HS512: it takes a secret of at least 64 bytes"), "{error}");
}

#[test]
fn neither_debug_nor_a_refusal_shows_a_key_or_a_token_pitfall_19() {
    let policy = secret_policy(|_| {});
    let token = token(&json!({"sub": "ann", "exp": 9, "nbf": 5_000}));
    let Answer::Refuse(refusal) = policy.answer(&shown(token.as_bytes()), at(0)) else {
        unreachable!("the token is not valid yet")
    };
    let text = format!("{policy:?} {refusal:?} {:?}", shown(token.as_bytes()));
    for secret in [std::str::from_utf8(SECRET).expect("ASCII"), &token, &token[..20]] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// Its verification takes longer than a turn of a connection may.
#[test]
fn a_slow_signature_is_verified_in_the_pool_and_others_are_not() {
    let set = json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}]});
    let with = |text: &str, name: &str, algorithms: &[JwtAlgorithm]| {
        let keys = match name {
            "jwks" => JwtKeys::from_jwks_file(text, name),
            _ => JwtKeys::from_key_file(text.as_bytes(), name),
        };
        policy_with(keys.expect("keys"), algorithms, |_| {})
    };
    let es384 = TOKENS.lines().find(|line| line.starts_with("ES384")).expect("a token");
    let es384 = es384.rsplit(' ').next().expect("a token");
    let (_, pem) = KEY_FILES[2];
    for (policy, token, jobs) in [
        (with(pem, "es384", &[Es384]), es384, 1),
        (with(&set.to_string(), "jwks", &[Hs256]), es384, 0),
        (
            with(&set.to_string(), "jwks", &[Hs256]),
            &token(&json!({"sub": "ann", "exp": 4_000_000_000_u64})),
            0,
        ),
    ] {
        let pool = HashingPool::new(1, 1);
        let policy = Arc::new(policy.with_pool(pool.clone()));
        let answer = block_on(policy.authenticate(shown(token.as_bytes())));
        let accepted = matches!(answer, Answer::Accept { .. });
        assert_eq!((accepted, pool.counters().done), (jobs == 1 || token != es384, jobs));
    }
}

#[test]
fn in_a_chain_passwords_and_tokens_stand_side_by_side() {
    struct Everybody;
    impl Policy for Everybody {
        fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
            Box::pin(ready(Answer::accept(Identity::new(Rule::named("everybody")))))
        }
        fn authorize(&self, _: &Request<'_>) -> Decision {
            Decision::Allow(Rule::named("everybody"))
        }
    }
    let tokens = secret_policy(|settings| settings.end_required = false);
    let chain = Arc::new(Chain::new(vec![Arc::new(tokens), Arc::new(Everybody)]));
    let ask = |password: &str| block_on(chain.clone().authenticate(shown(password.as_bytes())));
    assert!(matches!(ask("secret"), Answer::Accept { .. }));
    assert!(matches!(ask(&token(&json!({"sub": "ann"}))), Answer::Accept { .. }));
    assert!(matches!(ask("eyJhIjoxfQ.e30.AA"), Answer::Refuse(_)));
}

proptest! {
    #[test]
    fn arbitrary_passwords_are_never_accepted(password in prop::collection::vec(any::<u8>(), 0..300)) {
        let policy = secret_policy(|_| {});
        let accepted = matches!(policy.answer(&shown(&password), at(0)), Answer::Accept { .. });
        prop_assert!(!accepted);
    }

    /// Well formed, with the right signature: every combination of JSON is decided.
    #[test]
    fn arbitrary_claims_are_decided(header in "\\PC{0,40}", claims in "\\PC{0,80}", acl in "\\PC{0,10}") {
        let policy = secret_policy(|_| {});
        for claims in [claims.clone(), json!({"sub": &claims, "exp": 9, "acl": {"all": [acl]}}).to_string()] {
            for header in [r#"{"alg":"HS256"}"#.to_owned(), format!("{{{header}")] {
                let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&claims));
                let sign = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
                let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(sign));
                let _ = policy.answer(&shown(token.as_bytes()), at(0));
            }
        }
    }

    #[test]
    fn reading_key_files_is_total(bytes in prop::collection::vec(any::<u8>(), 0..100), text in "\\PC{0,100}") {
        let _ = JwtKeys::from_key_file(&bytes, "k");
        let _ = JwtKeys::from_jwks_file(&text, "k");
        let _ = JwtKeys::from_jwks_file(&json!({"keys": [{"kty": "RSA", "n": text, "e": "AQAB"}]}).to_string(), "k");
    }
}
