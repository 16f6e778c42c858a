//! A reload that fails: what was in force stays, whatever is wrong.

use std::net::TcpListener;

use hrotti::Happening;
use hrotti::config::Config;
use hrotti::server::{Server, ServerErrors};

use crate::authority::Authority;
use crate::house::{House, config, directory, free_port, write};
use crate::peer::{DEADLINE, Peer, in_time};

const OLD: &str = r#""listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}, "tls": {"url": "mqtts://127.0.0.1:0",
    "tls": {"certificate": "server.pem", "key": "server.key"}}},
    "access": {"anonymous": true, "aclFile": "acl"}, "limits": {"maxInflight": 7}"#;

fn house() -> House {
    let directory = directory();
    let issued = Authority::new("Test").server(&["127.0.0.1"]);
    write(&directory, "server.pem", &issued.certificate);
    write(&directory, "server.key", &issued.key);
    write(&directory, "acl", "topic readwrite #\n");
    House::start_in(directory, OLD)
}

/// What must be as it was.
fn observed(house: &House) -> String {
    let listeners = house.server.listeners();
    let policies: Vec<String> =
        house.server.loaded().to_string().lines().map(str::to_owned).collect();
    let limits = house.server.broker().limits();
    format!("{:?} {listeners:?} {policies:?} {limits:?}", house.server.config())
}

/// What is wrong: a change of the text, files that are written, and parts of the error.
type Case<'a> = (&'a str, String, &'a [(&'a str, &'a str)], &'a [&'a str]);

fn cases(taken: u16) -> Vec<Case<'static>> {
    let change = |from: &str, to: &str| {
        assert!(OLD.contains(from));
        OLD.replace(from, to)
    };
    let second = |url: &str| {
        change("\"tls\": {\"url\"", &format!("\"b\": {{\"url\": {url:?}}}, \"tls\": {{\"url\""))
    };
    vec![
        (
            "an ACL line",
            OLD.to_owned(),
            &[("acl", "topic readwrite #\nnonsense\n")],
            &["acl", "2", "nonsense"],
        ),
        ("an empty ACL", OLD.to_owned(), &[("acl", "")], &["access.aclFile", "it is empty"]),
        (
            "no such ACL",
            change("\"acl\"", "\"none\""),
            &[],
            &["access.aclFile", "none", "cannot be read"],
        ),
        (
            "no such users",
            change("\"aclFile\"", "\"passwordFile\": \"users\", \"aclFile\""),
            &[],
            &["access.passwordFile", "users", "cannot be read"],
        ),
        (
            "a key of others",
            OLD.to_owned(),
            &[("server.key", "no key")],
            &["listeners.tls.tls", "server.key"],
        ),
        (
            "no certificate",
            change("server.pem", "none.pem"),
            &[],
            &["listeners.tls.tls", "none.pem", "cannot be read"],
        ),
        (
            "an address in use",
            second(&format!("tcp://127.0.0.1:{taken}")),
            &[],
            &["listener b", "cannot be bound", "stop the program that listens on port"],
        ),
        (
            "two errors of two files",
            change("server.pem", "none.pem"),
            &[("acl", "nonsense\n")],
            &["none.pem", "nonsense"],
        ),
        (
            "a path that is no socket's",
            second("unix:///no/such/directory/socket"),
            &[],
            &["listener b", "make the directory"],
        ),
    ]
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    for (what, new, files, parts) in cases(holder.local_addr().unwrap().port()) {
        let house = house();
        let mut client = house.connect("tcp", "c");
        let before = observed(&house);
        let mut events = house.server.broker().events();
        for (name, text) in files {
            house.write(name, text);
        }
        let errors =
            house.reload(&new.replace("\"maxInflight\": 7", "\"maxInflight\": 8")).unwrap_err();
        for part in parts {
            assert!(errors.to_string().contains(part), "{what}: {part}: {errors}");
        }
        assert_eq!(observed(&house), before, "{what}");
        assert_eq!(house.connections(), 1, "{what}");
        client.ping();
        client.subscribe("a", 0);
        house.connect("tcp", "d").ping();
        let event = in_time(events.next()).unwrap().unwrap();
        let told: Vec<&str> = errors.lines().collect();
        assert!(
            matches!(&event.what, Happening::ReloadFailed { errors } if *errors == told),
            "{what}: {event:?}"
        );
        drop(client); // a stop would wait for its end
        in_time(house.server.stop());
    }
}

/// The new listener overlaps with one that leaves, which gives up its address, and with one of another program.
#[test]
fn a_listener_that_made_way_accepts_again_if_the_new_one_cannot_be_bound() {
    let port = free_port();
    let Ok(_other) = TcpListener::bind(("127.0.0.2", port)) else { return };
    let text = |host: &str, name: &str| {
        format!(r#""listeners": {{"{name}": {{"url": "tcp://{host}:{port}"}}}}"#)
    };
    let house = House::start(&text("127.0.0.1", "a"));
    let mut client = house.connect("a", "c");
    for name in ["a", "b"] {
        let errors = house.reload(&text("0.0.0.0", name)).unwrap_err();
        assert!(errors.to_string().contains("cannot be bound"), "{errors}");
        client.ping();
        house.connect("a", "d").ping();
        assert_eq!(*house.server.config(), config(&text("127.0.0.1", "a")));
    }
}

#[test]
fn a_source_that_fails_is_an_error_of_the_reload_and_of_the_plan() {
    let house = House::start(r#""listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}}"#);
    let mut client = house.connect("tcp", "c");
    house.server.set_source(|| Config::from_json("{}", "new.json").map_err(ServerErrors::from));
    let errors = in_time(house.server.reload_from_source()).unwrap_err();
    assert!(errors.to_string().starts_with("new.json: listeners: is missing"), "{errors}");
    assert_eq!(in_time(house.server.plan_from_source()).unwrap_err(), errors);
    client.ping();
    // Without a source the configuration in force is taken again.
    let other = House::start(r#""listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}}"#);
    assert_eq!(in_time(other.server.reload_from_source()), Ok(Vec::new()));
}

#[test]
fn a_server_that_is_stopped_reloads_nothing_and_frees_its_addresses() {
    let port = free_port();
    let text = format!(r#""listeners": {{"tcp": {{"url": "tcp://127.0.0.1:{port}"}}}}"#);
    let house = House::start(&text);
    in_time(house.server.stop());
    let errors = house.reload(&text).unwrap_err();
    assert!(errors.to_string().contains("stopped"), "{errors}");
    let again = in_time(Server::start(config(&text), &house.directory)).unwrap();
    Peer::connect(&format!("tcp://127.0.0.1:{port}"), "c").ping();
    in_time(again.stop());
}

/// Listeners and settings belong to the next process by then.
#[test]
fn nothing_changes_while_the_state_is_handed_over() {
    let house = house();
    let before = observed(&house);
    let more = OLD.replace("\"maxInflight\": 7", "\"maxInflight\": 8");
    let standing = in_time(house.server.broker().begin_hand_over(DEADLINE)).unwrap();
    for outcome in [
        house.reload(&more).map(drop),
        in_time(house.server.reload_from_source()).map(drop),
        in_time(house.server.start_listener("tcp")),
        in_time(house.server.stop_listener("tcp")),
    ] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("hands its listeners and its state over"), "{error}");
    }
    assert_eq!(observed(&house), before);
    drop(standing);
    assert_eq!(house.reload(&more).unwrap(), ["~ limits.maxInflight 7 -> 8 (new connections)"]);
    house.connect("tcp", "c");
}
