//! Hashes of other programs, wrong hashes, and what is written and read again.

use proptest::prelude::*;

use super::*;

/// Hash, password. The first two were written by mosquitto_passwd 2.0.11, the next two by Python's hashlib; the others
/// are test vectors of Argon2's reference implementation.
const KNOWN: &[(&str, &str)] = &[
    (
        "$7$101$VKOLKl0m4B4ch5OP$rAF18QVJQWMuAni/uXW06AGJV9AdlOd7XPC9cRmbWu6pTocFWk/ZroFcf00zxbutQcc8U68D9nIDZuqg6VYnGw==",
        "open sesame",
    ),
    (
        "$6$ZbcKOixqqq2qePvX$MC1xu/PjpmqIFVmEQ3I24vIeR1mfOPCPfSF7HT8RLHasxOGPlN7yej1dLy+axCUVS8724mG4/CEGK7Q9toKxVg==",
        "pässwörd",
    ),
    (
        "$7$1000$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==$j5aX3DstWRgO5cjjfvKvsf7Z/KK812T4wGDMih+DCHQg8P7++fmj4sZcMp1smkEafZL0QZ29tE5ezahL/nyffw==",
        "secret",
    ),
    (
        "$6$c2FsdHNhbHRzYWx0$3aiBbchfIZo+1WYrkPzJjQxZ79F/NmwLQ+wF073kTd+6ANhaic8G/jWF/X4sqSFUKpLNdm1FZjBck6HQ8knM3A==",
        "secret",
    ),
    (
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "password",
    ),
    (
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "password",
    ),
    (
        "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
        "password",
    ),
];

#[test]
fn the_hashes_of_other_programs_are_verified() {
    for (text, password) in KNOWN {
        let hash = PasswordHash::parse(text).expect("a good hash");
        assert!(hash.verify(password.as_bytes()), "{text}");
        for wrong in ["", "Password", "\0secret", "open sesame ", &password[1..]] {
            assert!(!hash.verify(wrong.as_bytes()), "{text} {wrong}");
        }
        assert_eq!(hash.encoded(), *text);
    }
}

#[test]
fn the_longest_salt_of_mosquitto_is_read_in_all_three_forms() {
    let (salt, hash) = (BASE64.encode([7; 64]), BASE64.encode([9; 64]));
    for start in ["$6$", "$7$1000$", "$argon2id$v=19$m=47104,t=1,p=1$"] {
        let parsed = PasswordHash::parse(&format!("{start}{salt}${hash}")).expect("a good hash");
        assert_eq!((parsed.salt.len(), parsed.hash.len()), (64, 64), "{start}");
    }
}

#[test]
fn what_is_no_hash_is_named_with_its_value_and_bound() {
    let h = BASE64.encode([9; 64]);
    for (text, problem) in [
        ("", "it is no hash"),
        ("secret", "it is no hash"),
        ("$5$c2FsdA==$aGFzaA==", "it is no hash"),
        ("$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA", "it is no hash"),
        ("$6$", "it does not end with $SALT$HASH"),
        ("$6$c2FsdA==", "it does not end with $SALT$HASH"),
        (&format!("$6$c2FsdA==${h}$"), "it does not end with $SALT$HASH"),
        (&format!("$6$${h}"), "its salt is missing"),
        ("$6$c2FsdA==$", "its hash is missing"),
        (&format!("$6$c2Fs*A==${h}"), "its salt is no base64"),
        ("$6$c2FsdA==$aGFzaA==", "its hash has 4 bytes instead of 64"),
        (&format!("$6${}${h}", "A".repeat(1400)), "its salt is longer than 1024 bytes"),
        (&format!("$7$0$c2FsdA==${h}"), "its number of iterations 0 is not from 1 to 10000000"),
        (
            &format!("$7$10000001$c2FsdA==${h}"),
            "its number of iterations 10000001 is not from 1 to 10000000",
        ),
        (&format!("$7$-1$c2FsdA==${h}"), "its number of iterations is not from 1 to 10000000"),
        ("$7$my secret", "its number of iterations is not from 1 to 10000000"),
        ("$7$101", "it does not end with $SALT$HASH"),
        (
            "$argon2id$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA",
            "it does not begin with $argon2id$v=19$m=KIB,t=PASSES,p=LANES$",
        ),
        (
            "$argon2id$v=19$m=262145,t=1,p=1$c2FsdHNhbHQ$aGFzaA",
            "its number of memory m 262145 is not from 1 to 262144",
        ),
        (
            "$argon2id$v=19$m=1024,t=1001,p=1$c2FsdHNhbHQ$aGFzaA",
            "its number of passes t 1001 is not from 1 to 1000",
        ),
        (
            "$argon2id$v=19$m=1024,t=1,p=17$c2FsdHNhbHQ$aGFzaA",
            "its number of lanes p 17 is not from 1 to 16",
        ),
        (
            "$argon2id$v=19$m=31,t=1,p=4$c2FsdHNhbHQ$aGFzaA",
            "its memory m=31 is less than 8 for each lane",
        ),
        (
            "$argon2id$v=19$m=262144,t=17,p=1$c2FsdHNhbHQ$aGFzaA",
            "its cost m=262144,t=17 is more than 4 GiB in all passes",
        ),
        (
            "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA",
            "its salt is shorter than the 8 bytes that Argon2 needs",
        ),
        (
            "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFz",
            "its hash is shorter than the 4 bytes that Argon2 gives",
        ),
    ] {
        let error = PasswordHash::parse(text).expect_err("no hash");
        assert_eq!(error.to_string(), problem, "{text}");
        assert_eq!(error.is_plain_text(), problem == "it is no hash", "{text}");
    }
}

#[test]
fn a_new_hash_verifies_its_password_alone_and_has_its_own_salt() {
    let cheap = HashMethod::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };
    for method in [HashMethod::Sha512, HashMethod::Pbkdf2 { iterations: 2 }, cheap] {
        let one = PasswordHash::new(b"\x00any \xff bytes", method).expect("a hash");
        let two = PasswordHash::new(b"\x00any \xff bytes", method).expect("a hash");
        assert_ne!(one.encoded(), two.encoded());
        let read = PasswordHash::parse(&one.encoded()).expect("what was written");
        assert_eq!((read.method(), &read), (method, &one));
        assert!(read.verify(b"\x00any \xff bytes"));
        assert!(!read.verify(b"\x00any \xff byte") && !read.verify(b""));
    }
}

#[test]
fn a_method_out_of_range_is_moved_into_it() {
    let method = HashMethod::Argon2id { memory_kib: u32::MAX, passes: u32::MAX, lanes: 0 };
    let moved = HashMethod::Argon2id { memory_kib: 262_144, passes: 16, lanes: 1 };
    assert_eq!(method.in_range(), moved);
    let hash = PasswordHash::new(b"p", HashMethod::Pbkdf2 { iterations: 0 }).expect("a hash");
    assert_eq!(hash.method(), HashMethod::Pbkdf2 { iterations: 1 });
    assert_eq!(HashMethod::default().in_range(), HashMethod::default());
    assert_eq!(HashMethod::ARGON2ID.in_range(), HashMethod::ARGON2ID);
}

/// Pitfall 19.
#[test]
fn debug_shows_neither_salt_nor_hash_pitfall_19() {
    for (text, _) in KNOWN {
        let shown = format!("{:?}", PasswordHash::parse(text).expect("a good hash"));
        let hash = text.rsplit('$').next().expect("a hash");
        assert!(shown.contains("method") && !shown.contains(hash), "{shown}");
    }
}

fn any_method() -> impl Strategy<Value = HashMethod> {
    prop_oneof![
        Just(HashMethod::Sha512),
        any::<u32>().prop_map(|iterations| HashMethod::Pbkdf2 { iterations }),
        any::<(u32, u32, u32)>().prop_map(|(memory_kib, passes, lanes)| HashMethod::Argon2id {
            memory_kib,
            passes,
            lanes
        }),
    ]
}

proptest! {
    #[test]
    fn the_parser_is_total(text in ".*", pieces in "[$=,0-9A-Za-z+/mtpv]{0,80}") {
        let _ = PasswordHash::parse(&text);
        for start in ["$6$", "$7$", "$argon2id$", "$argon2id$v=19$m=", "$7$101$"] {
            let _ = PasswordHash::parse(&format!("{start}{pieces}"));
            let _ = PasswordHash::parse(&format!("{start}{text}"));
        }
    }

    #[test]
    fn what_is_written_is_read_again(
        method in any_method(),
        salt in prop::collection::vec(any::<u8>(), 8..=1024),
        tag in prop::collection::vec(any::<u8>(), 64),
    ) {
        let method = method.in_range();
        let hash = PasswordHash { method, salt: salt.into(), hash: tag.into() };
        prop_assert_eq!(PasswordHash::parse(&hash.encoded()), Ok(hash));
    }
}

#[test]
fn a_hashing_thread_uses_its_memory_again_and_leaves_nothing_in_it() {
    let cheap = |memory_kib| HashMethod::Argon2id { memory_kib, passes: 1, lanes: 1 };
    let hash = PasswordHash::new(b"secret", cheap(64)).unwrap();
    assert!(!kept_memory::is_kept(), "this thread is none of the pool");
    kept_memory::begin();
    assert!(hash.verify(b"secret"));
    let blocks = kept_memory::take::<Vec<argon2::Block>>().unwrap();
    let is_wiped = |blocks: &[argon2::Block]| {
        blocks.iter().all(|block| block.as_ref().iter().all(|&word| word == 0))
    };
    assert!(is_wiped(&blocks) && blocks.len() == 64);
    let place = blocks.as_ptr();
    kept_memory::keep(blocks);
    // A smaller one, another password and the same again.
    assert!(PasswordHash::new(b"other", cheap(32)).unwrap().verify(b"other"));
    assert!(hash.verify(b"secret") && !hash.verify(b"guess"));
    let blocks = kept_memory::take::<Vec<argon2::Block>>().unwrap();
    assert!(blocks.as_ptr() == place && is_wiped(&blocks));
    kept_memory::keep(blocks);
    // A larger one has its own memory.
    assert!(PasswordHash::new(b"other", cheap(128)).unwrap().verify(b"other"));
    assert_eq!(kept_memory::take::<Vec<argon2::Block>>().unwrap().len(), 128);
}

#[test]
fn no_more_memory_is_kept_than_mosquittos_hashes_need() {
    kept_memory::begin();
    let large = HashMethod::Argon2id { memory_kib: 66_000, passes: 1, lanes: 1 };
    PasswordHash::new(b"secret", large).unwrap();
    assert!(!kept_memory::is_kept());
}
