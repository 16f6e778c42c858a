//! The rules by themselves.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_default_lets_everybody_in() {
    let rules = ListenerRules::default();
    for address in ["127.0.0.1", "::1", "255.255.255.255"] {
        assert!(rules.lets_in(Some(address.parse().unwrap())));
    }
    assert!(rules.lets_in(None), "a peer without a network address");
    assert!(ProtocolVersions::EACH.iter().all(|&version| rules.versions.contains(version)));
}

#[test]
fn an_empty_list_of_allowed_networks_lets_nobody_in_pitfall_10() {
    let rules = ListenerRules { networks_allowed: Some(Vec::new()), ..ListenerRules::default() };
    assert!(!rules.lets_in(Some("127.0.0.1".parse().unwrap())) && !rules.lets_in(None));
}

#[test]
fn a_denied_network_wins_over_an_allowed_one() {
    let rules = ListenerRules {
        networks_allowed: Some(vec!["10.0.0.0/8".parse().unwrap()]),
        networks_denied: vec!["10.1.0.0/16".parse().unwrap()],
        ..ListenerRules::default()
    };
    for (address, let_in) in [
        ("10.0.0.1", true),
        ("10.1.0.1", false),
        ("11.0.0.1", false),
        ("::ffff:10.0.0.1", true),
        ("::ffff:10.1.0.1", false),
    ] {
        assert_eq!(rules.lets_in(Some(address.parse().unwrap())), let_in, "{address}");
    }
    assert!(!rules.lets_in(None), "no address is in no allowed network");
}

#[test]
fn a_set_of_versions_is_what_was_put_in() {
    for bits in 0..8_u8 {
        let chosen = ProtocolVersions::EACH
            .into_iter()
            .filter(|version| bits & ProtocolVersions::bit(*version) != 0);
        let set: ProtocolVersions = chosen.clone().collect();
        assert!(set.iter().eq(chosen));
    }
    assert_eq!(ProtocolVersions::ALL.to_string(), "3.1, 3.1.1 and 5.0");
    assert_eq!(ProtocolVersions::NONE.to_string(), "no version");
}

#[test]
fn a_mount_point_ends_with_a_slash() {
    for (text, prefix) in
        [("a", "a/"), ("a/", "a/"), ("a/b", "a/b/"), ("/", "/"), ("ü x", "ü x/"), ("a//", "a//")]
    {
        assert_eq!(text.parse::<MountPoint>().unwrap().as_str(), prefix);
    }
}

#[test]
fn what_is_no_mount_point_is_refused_with_a_remedy() {
    let long = "a".repeat(65_535);
    for text in ["", "+", "a/+", "a/#", "a+b", "nul\0", "$SYS", "$share/a", "$", &long] {
        let error = text.parse::<MountPoint>().unwrap_err().to_string();
        assert!(error.contains("for example \"sites/north/\""), "{error}");
        assert!(!error.contains(['\0', '\n']) && error.len() < 400, "{error}");
    }
    assert!("a".repeat(65_533).parse::<MountPoint>().is_ok(), "one byte finds room");
    assert!("a".repeat(65_534).parse::<MountPoint>().is_err());
}
