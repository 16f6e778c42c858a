//! Files good and bad, through the configuration that names them.

use std::fs;
use std::path::{Path, PathBuf};

use futures_lite::future::block_on;

use super::*;
use crate::access::Action;
use crate::transport::PeerInfo;

/// A directory of one test, which is removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("hrotti-load-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory");
        Directory(path)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a temporary file");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        }
        #[cfg(not(unix))]
        let _ = mode;
        name.into()
    }

    fn load(&self, change: impl FnOnce(&mut AccessConfig)) -> Result<LoadedAccess, Vec<String>> {
        let mut config = AccessConfig::default();
        change(&mut config);
        config.load_for(&self.0, &Limits::default(), &[ListenerAccess::new("l")])
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn credentials(user: Option<&str>) -> Credentials {
    let shown = Credentials::new("c", PeerInfo::from("a test"));
    match user {
        Some(user) => shown.with_password(user, b"secret"),
        None => shown,
    }
}

fn connects(loaded: &LoadedAccess, user: Option<&str>) -> bool {
    let policy = loaded.policy().expect("a policy");
    matches!(block_on(policy.authenticate(credentials(user))), Answer::Accept { .. })
}

fn may(loaded: &LoadedAccess, user: Option<&str>, action: Action, topic: &str) -> Decision {
    let mut identity = Identity::new(Rule::named("a test"));
    if let Some(user) = user {
        identity = identity.with_user_name(user);
    }
    let policy = loaded.policy().expect("a policy");
    policy.authorize(&Request { identity: &identity, client_id: "c", action, topic })
}

#[test]
fn without_settings_there_is_no_policy() {
    let loaded = Directory::new("nothing").load(|_| ()).expect("nothing to read");
    assert!(loaded.policy().is_none() && loaded.authorizers().is_empty());
}

#[test]
fn an_access_list_alone_lets_in_nobody_pitfall_10() {
    let directory = Directory::new("acl-alone");
    let acl = directory.file("acl", "user ann\ntopic read home/#\n", 0o600);
    let loaded = directory.load(|config| config.acl_file = Some(acl)).expect("a good file");
    for user in [None, Some("ann"), Some("bob")] {
        assert!(!connects(&loaded, user), "{user:?}");
    }
    let decision = may(&loaded, Some("ann"), Action::Receive, "home/lamp");
    let rule = decision.rule().expect("a rule").to_string();
    assert_eq!(rule, format!("{}:2: topic read home/#", directory.0.join("acl").display()));
    assert!(!may(&loaded, Some("ann"), Action::Publish, "home/lamp").is_allowed());
}

#[test]
fn anonymous_clients_that_may_take_any_name_deserve_a_warning() {
    let directory = Directory::new("any-name");
    let acl = directory.file("acl", "topic read news/#\nuser ann\ntopic read home/#\n", 0o600);
    let loaded = directory.load(|config| {
        config.acl_file = Some(acl);
        config.anonymous = Some(true);
    });
    let loaded = loaded.expect("a good file");
    assert!(connects(&loaded, None) && connects(&loaded, Some("ann")));
    assert_eq!(loaded.warnings().len(), 1, "{:?}", loaded.warnings());
    assert!(loaded.warnings()[0].starts_with("access.anonymous: true"));
}

/// At a listener for anonymous Clients, nobody types in a name that another listener takes from a certificate.
#[test]
fn a_user_name_that_nothing_checks_is_not_believed_beside_certificates_pitfall_10() {
    let load = |anonymous: Option<bool>, listeners: &[ListenerAccess]| {
        let denied_publish = Some(crate::access::DeniedPublish::Drop);
        let config = AccessConfig { anonymous, denied_publish, ..AccessConfig::default() };
        config.load_for(Path::new(""), &Limits::default(), listeners).expect("nothing to read")
    };
    let listener = |anonymous: Option<bool>, certificate_names: bool| ListenerAccess {
        anonymous,
        certificate_names,
        ..ListenerAccess::new("l")
    };
    let open = |anonymous: Option<bool>| {
        let rules = crate::listener_rules::ListenerRules { anonymous, ..Default::default() };
        PeerInfo::from("a test").at_listener("l", rules)
    };
    for (anonymous, listeners, at, nameless, named) in [
        (Some(true), vec![listener(None, false)], None, true, true),
        (Some(true), vec![listener(None, false), listener(Some(false), true)], None, true, false),
        (None, vec![listener(Some(true), false)], Some(true), true, false),
        (Some(false), vec![listener(Some(true), false)], Some(true), true, false),
        (Some(true), vec![listener(Some(false), false)], Some(false), false, false),
        (Some(true), vec![], None, true, false),
    ] {
        let loaded = load(anonymous, &listeners);
        let connects = |user: Option<&str>| {
            let mut shown = credentials(user);
            shown.peer = open(at);
            let policy = loaded.policy().expect("a policy");
            matches!(block_on(policy.authenticate(shown)), Answer::Accept { .. })
        };
        assert_eq!((connects(None), connects(Some("ann"))), (nameless, named), "{listeners:?}");
    }
}

#[test]
fn anonymous_clients_beside_users_and_without_a_list_deserve_a_warning() {
    let directory = Directory::new("anonymous-beside-users");
    let acl = directory.file("acl", "topic read news/#\n", 0o600);
    let load = |certificate_names: bool, anonymous: Option<bool>, acl: Option<&PathBuf>| {
        let config = AccessConfig {
            anonymous: Some(false),
            acl_file: acl.cloned(),
            ..AccessConfig::default()
        };
        let tls = ListenerAccess { certificate_names, ..ListenerAccess::new("tls") };
        let inside = ListenerAccess { anonymous, ..ListenerAccess::new("inside") };
        let loaded = config.load_for(&directory.0, &Limits::default(), &[tls, inside]);
        loaded.expect("good settings").warnings().to_vec()
    };
    let warnings = load(true, Some(true), None);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("listener inside: anonymous Clients may"), "{warnings:?}");
    assert!(warnings[0].ends_with("set listeners.inside.anonymous to false"), "{warnings:?}");
    assert!(load(true, None, None).is_empty() && load(false, Some(true), None).is_empty());
    assert!(load(true, Some(true), Some(&acl)).is_empty());
}

/// A policy that stands before others passes on every call: one that it forgets is answered by a default.
#[test]
fn every_policy_before_another_passes_on_every_method() {
    let seam = include_str!("../../access.rs");
    let (_, methods) = seam.split_once("pub trait Policy").expect("the trait");
    let (methods, _) = methods.split_once("\n}\n").expect("its end");
    let methods: Vec<&str> = methods
        .lines()
        .filter_map(|line| line.strip_prefix("    fn ")?.split('(').next())
        .collect();
    assert!(methods.len() >= 4 && methods.contains(&"disconnected"), "{methods:?}");
    for (name, source) in [
        ("Guard", include_str!("../bans/guard.rs")),
        ("Chain", include_str!("../chain.rs")),
        ("Composed", include_str!("../load.rs")),
    ] {
        let (_, own) = source.split_once(&format!("impl Policy for {name} {{")).expect("a policy");
        let (own, _) = own.split_once("\n}\n").expect("its end");
        for method in &methods {
            assert!(own.contains(&format!("    fn {method}(")), "{name} keeps {method} to itself");
        }
    }
}

/// Says to every question what no default says.
#[derive(Default)]
struct Probe {
    told: std::sync::atomic::AtomicUsize,
}

impl Policy for Probe {
    fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
        let identity = Identity::new(Rule::named("a probe"));
        Box::pin(std::future::ready(Answer::accept(identity)))
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::Allow(Rule::named("a probe").for_one_question())
    }

    fn prepare(&self, _: &Request<'_>) -> Option<Preparing> {
        Some(Box::pin(std::future::ready(())))
    }

    fn validity(&self, _: &Present<'_>) -> Validity {
        Validity::Gone
    }

    fn disconnected(&self, _: &Present<'_>) {
        self.told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn every_policy_before_another_passes_on_its_answers() {
    let probe = Arc::new(Probe::default());
    let one = || Chain::new(vec![probe.clone()]);
    let bans = Arc::new(Bans::new(1));
    let composed = Composed { authenticators: Arc::new(one()), authorizers: one() };
    let identity = Identity::new(Rule::named("a test"));
    let client = Present { identity: &identity, client_id: "c", peer: None };
    let (action, topic) = (Action::Publish, "t");
    let request = Request { identity: &identity, client_id: "c", action, topic };
    let policies: [Arc<dyn Policy>; 3] =
        [Arc::new(one()), bans.guard(probe.clone()), bans.guard(Arc::new(composed))];
    for (index, policy) in policies.into_iter().enumerate() {
        let answer = block_on(policy.clone().authenticate(credentials(None)));
        assert!(matches!(answer, Answer::Accept { .. }), "{index}");
        let decision = policy.authorize(&request);
        assert!(decision.is_allowed(), "{index}");
        assert!(decision.rule().is_some_and(|rule| !rule.is_remembered()), "{index}");
        assert!(policy.prepare(&request).is_some(), "{index}");
        assert_eq!(policy.validity(&client), Validity::Gone, "{index}");
        policy.disconnected(&client);
        assert_eq!(probe.told.load(std::sync::atomic::Ordering::Relaxed), index + 1);
    }
}

#[test]
fn without_a_list_everybody_who_was_let_in_may_do_everything() {
    let loaded = Directory::new("no-list").load(|config| config.anonymous = Some(true));
    let loaded = loaded.expect("nothing to read");
    assert!(connects(&loaded, None));
    assert!(may(&loaded, None, Action::Publish, "any/topic").is_allowed());
    assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
}

/// Every way in which a file is no good: none of them may let anybody in.
#[test]
fn no_bad_file_is_used_in_part_pitfall_10() {
    let directory = Directory::new("bad");
    for (text, mode, parts) in [
        ("", 0o600, &["access.aclFile: ", "acl: it is empty"][..]),
        (
            "topic read home/#\n",
            0o602,
            &["access.aclFile: ", "acl: all users of this machine can write", "chmod o-w"],
        ),
        ("topic read home/#\ntopics read x\n", 0o600, &["acl:2: ", "did you mean \"topic\"?"]),
        ("# nothing\n", 0o600, &["acl: "]),
    ] {
        let acl = directory.file("acl", text, mode);
        let errors = directory.load(|config| config.acl_file = Some(acl)).expect_err("a bad file");
        assert_eq!(errors.len(), 1, "{errors:?}");
        for part in parts {
            assert!(errors[0].contains(part), "{part:?} is not in {errors:?}");
        }
    }
    let missing = directory.load(|config| config.acl_file = Some("missing".into()));
    let errors = missing.expect_err("no file");
    assert!(
        errors[0].starts_with("access.aclFile: ") && errors[0].ends_with("check the path"),
        "{errors:?}"
    );
}

#[test]
fn all_errors_of_all_files_are_reported_at_once() {
    let directory = Directory::new("all");
    let acl = directory.file("acl", "topics a\nuser\n", 0o600);
    let scram = directory.file("scram", "ann", 0o600);
    let errors = directory.load(|config| {
        config.acl_file = Some(acl);
        config.scram_file = Some(scram);
        config.jwt =
            Some(crate::access::JwtConfig { key_file: Some("none".into()), ..Default::default() });
    });
    let errors = errors.expect_err("bad files");
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(errors.iter().all(|error| error.lines().count() == 1), "{errors:#?}");
}

#[test]
fn a_path_is_relative_to_the_configuration_unless_it_is_absolute() {
    let directory = Directory::new("paths");
    directory.file("acl", "topic read a\n", 0o600);
    let absolute = directory.0.join("acl");
    for path in [PathBuf::from("acl"), absolute] {
        assert!(directory.load(|config| config.acl_file = Some(path)).is_ok());
    }
    let config = AccessConfig { acl_file: Some("acl".into()), ..AccessConfig::default() };
    assert!(config.load(Path::new("elsewhere"), &Limits::default()).is_err());
}

#[test]
fn the_name_in_a_certificate_lets_in_whatever_connect_says() {
    let loaded = Directory::new("certificate").load(|config| config.anonymous = Some(false));
    let loaded = loaded.expect("nothing to read");
    let named = |user_name: Option<&str>| {
        let user_name = user_name.map(str::to_owned);
        let names = crate::transport::CertificateNames { user_name, ..Default::default() };
        let peer = PeerInfo::from("a test").with_identity(names);
        Credentials::new("c", peer).with_password("mallory", b"secret")
    };
    let answer = block_on(loaded.policy().expect("a policy").authenticate(named(Some("ann"))));
    let Answer::Accept { identity, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(identity.user_name(), Some("ann"));
    let answer = block_on(loaded.policy().expect("a policy").authenticate(named(None)));
    assert!(matches!(answer, Answer::NoAnswer), "{answer:?}");
}

/// A query often holds the key by which the server knows the broker.
#[cfg(feature = "http-access")]
#[test]
fn the_query_of_a_url_is_shown_nowhere_pitfall_19() {
    let loaded = Directory::new("urls").load(|config| {
        config.http = Some(crate::access::HttpConfig {
            user_url: "http://127.0.0.1:1/user?key=secret".to_owned(),
            acl_url: Some("http://127.0.0.1:1/acl?key=secret".to_owned()),
            ..Default::default()
        });
    });
    let text = format!("{:?}", loaded.expect("valid settings"));
    assert!(text.contains("127.0.0.1:1/user") && text.contains("127.0.0.1:1/acl"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
