//! What a listener's URL may be, and what is said about one that may not.

use super::*;

fn error(url: &str) -> String {
    ListenerConfig::new(url).expect_err(url).to_string()
}

fn config(url: &str) -> ListenerConfig {
    ListenerConfig::new(url).expect("a good URL")
}

#[test]
fn ports_and_paths_have_defaults() {
    let cases = [
        ("tcp://0.0.0.0:1883", "0.0.0.0", 1883, "/"),
        ("tcp://0.0.0.0", "0.0.0.0", 1883, "/"),
        ("tcp://0.0.0.0/", "0.0.0.0", 1883, "/"),
        ("tcp://[::1]:0", "::1", 0, "/"),
        ("tcp://localhost:80", "localhost", 80, "/"),
        ("ws://0.0.0.0:2000/mqtt", "0.0.0.0", 2000, "/mqtt"),
        ("ws://0.0.0.0:2000", "0.0.0.0", 2000, "/"),
        ("ws://[::]", "::", 80, "/"),
        ("ws://localhost:80/a/b", "localhost", 80, "/a/b"),
        ("WS://LOCALHOST:8080/A", "localhost", 8080, "/A"),
        ("TCP://LOCALHOST:8080", "localhost", 8080, "/"),
        ("mqtt://h", "h", 1883, "/"),
        ("mqtt://[::1]:7", "::1", 7, "/"),
        ("mqtts://h", "h", 8883, "/"),
        ("TLS://h", "h", 8883, "/"),
        ("mqtts://[::1]:1883/", "::1", 1883, "/"),
        ("wss://h", "h", 443, "/"),
        ("wss://h:443/mqtt", "h", 443, "/mqtt"),
        ("wss://h:80/mqtt", "h", 80, "/mqtt"),
    ];
    for (url, host, port, path) in cases {
        let config = config(url);
        assert_eq!((config.host(), config.port(), config.path()), (host, port, path), "{url}");
        assert_eq!(config.is_websocket(), url.to_lowercase().starts_with("ws"), "{url}");
    }
}

#[test]
fn no_host_and_a_star_are_every_interface() {
    let cases = [
        ("tcp://", 1883, "/", "tcp://*"),
        ("mqtts://", 8883, "/", "mqtts://*"),
        ("wss://", 443, "/", "wss://*/"),
        ("tcp://:1884", 1884, "/", "tcp://*:1884"),
        ("tcp://*:1884", 1884, "/", "tcp://*:1884"),
        ("mqtt://:1884", 1884, "/", "mqtt://*:1884"),
        ("ws://", 80, "/", "ws://*/"),
        ("ws://:0/mqtt", 0, "/mqtt", "ws://*:0/mqtt"),
        ("ws:///mqtt", 80, "/mqtt", "ws://*/mqtt"),
        ("ws://*/mqtt", 80, "/mqtt", "ws://*/mqtt"),
        (" Tcp://:1884\n", 1884, "/", "tcp://*:1884"),
    ];
    for (url, port, path, written) in cases {
        let config = config(url);
        assert_eq!((config.host(), config.port(), config.path()), ("*", port, path), "{url}");
        assert_eq!(config.url.as_str(), written);
    }
}

#[test]
fn a_link_local_address_has_an_interface() {
    for (url, host, written) in [
        ("tcp://[fe80::1%25eth0]:1883", "fe80::1%eth0", "tcp://[fe80::1%25eth0]:1883"),
        ("tcp://[fe80::1%eth0]:1883", "fe80::1%eth0", "tcp://[fe80::1%25eth0]:1883"),
        ("mqtt://[FE80:0::1%3]", "fe80::1%3", "mqtt://[fe80::1%253]"),
        ("tcp://[fe80::1%25]", "fe80::1%25", "tcp://[fe80::1%2525]"),
        ("ws://[fe80::1%2525]/a", "fe80::1%25", "ws://[fe80::1%2525]/a"),
        ("ws://[fe80::1%eth0.100]:1/a", "fe80::1%eth0.100", "ws://[fe80::1%25eth0.100]:1/a"),
        ("tcp://[febf::1%a:0]:1", "febf::1%a:0", "tcp://[febf::1%25a:0]:1"),
    ] {
        let config = config(url);
        assert_eq!((config.host(), config.to_string().as_str()), (host, written), "{url}");
        assert_eq!(ListenerConfig::new(written), Ok(config));
    }
    let mut changed = config("tcp://[fe80::1%eth0]:1");
    assert_ne!(changed, config("tcp://[fe80::1%eth1]:1"));
    assert!(!changed.clashes_with(&config("tcp://[fe80::1%eth1]:1")));
    assert!(changed.clashes_with(&config("tcp://[fe80::1%25eth0]:1")));
    // The interface belongs to the address.
    changed.url = Url::parse("tcp://h:1").expect("a URL");
    assert_eq!((changed.validate(), changed.host()), (Ok(()), "h"));
    changed.url = Url::parse("tcp://[fe80::2]:1").expect("a URL");
    assert!(matches!(changed.validate(), Err(ListenerConfigError::NoInterface { .. })));
}

#[test]
fn hosts_are_read_alike_under_every_scheme() {
    for scheme in HOST_SCHEMES {
        for (host, expected) in [
            ("müller.example", "xn--mller-kva.example"),
            ("MÜLLER.example", "xn--mller-kva.example"),
            ("m%C3%BCller.example", "xn--mller-kva.example"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("my_broker", "my_broker"),
            ("127.1", "127.0.0.1"),
            ("[0:0::1]", "::1"),
        ] {
            let url = format!("{scheme}://{host}:7");
            assert_eq!((config(&url).host(), config(&url).port()), (expected, 7), "{url}");
        }
        for host in ["a b", "[::1", "::1", "1.2.3.4.5", "xn--a"] {
            let url = format!("{scheme}://{host}:7");
            assert!(error(&url).starts_with(&format!("{url:?} is no URL (")), "{}", error(&url));
        }
    }
}

#[test]
fn errors_name_value_and_remedy() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["\"\" is no URL", "write tcp://HOST:PORT"]),
        ("0.0.0.0:1883", &["\"0.0.0.0:1883\" is no URL", "tcp://0.0.0.0:1883"]),
        ("tcp://0.0.0.0:99999", &["99999", "invalid port", "write tcp://HOST:PORT"]),
        ("localhost:1883", &["unsupported scheme \"localhost\"", "write tcp://localhost:1883"]),
        ("ssl://h:1883", &["\"ssl://h:1883\"", "\"ssl\"", "use mqtts://"]),
        ("https://h/mqtt", &["\"https\"", "use wss://"]),
        ("mqtt://h/a", &["\"mqtt://h/a\" has a path", "write \"mqtt://h\""]),
        ("mqtts://h/a", &["\"mqtts://h/a\" has a path", "write \"mqtts://h\""]),
        ("wss://h/mqtt?a", &["has a query", "write \"wss://h/mqtt\""]),
        ("http://h/", &["\"http\"", "use ws://"]),
        ("udp://h:1", &["\"udp\"", "use tcp://, mqtts://, ws://, wss:// or unix://"]),
        ("tcp:", &["\"tcp:\" has no host", "write //", "tcp://*:1883"]),
        ("tcp:1883", &["has no host"]),
        ("tcp:/x", &["has no host"]),
        ("ws:", &["is no URL", "empty host"]),
        ("tcp:///x", &["\"tcp:///x\" has a path", "write \"tcp://*\""]),
        ("tcp://me@:1", &["\"tcp://me@:1\" has user information", "write \"tcp://*:1\""]),
        ("tcp://h:1/mqtt", &["has a path", "write \"tcp://h:1\""]),
        ("tcp://h:1?a=b", &["has a query", "write \"tcp://h:1\""]),
        ("tcp://h:1#a", &["has a fragment", "write \"tcp://h:1\""]),
        ("ws://h/mqtt?a=b", &["has a query", "write \"ws://h/mqtt\""]),
        ("ws://h/mqtt#a", &["has a fragment", "write \"ws://h/mqtt\""]),
        ("tcp://[fe80::1]:0", &["\"tcp://[fe80::1]:0\"", "needs its interface", "[fe80::1%eth0]"]),
        ("ws://[fe80::1%]/", &["\"ws://[fe80::1%]/\" is no URL"]),
        ("tcp://[fe80::1%a b]", &["is no URL"]),
        ("tcp://[::1%lo]:7", &["\"tcp://[::1%lo]:7\" has an interface", "write \"tcp://[::1]:7\""]),
        ("tcp://[fe80::1%lo]:7/a", &["has a path", "write \"tcp://[fe80::1%25lo]:7\""]),
        ("ws://me@h/", &["has user information", "write \"ws://h/\""]),
        ("tcp://me:secret@h:1", &["has user information", "write \"tcp://h:1\""]),
    ];
    for (url, wanted) in cases {
        let text = error(url);
        for part in *wanted {
            assert!(text.contains(part), "{url}: {part:?} is not in {text:?}");
        }
    }
}

#[test]
fn a_password_is_not_repeated() {
    assert!(!error("tcp://me:secret@h:1").contains("secret"));
}

#[test]
fn origins_are_as_browsers_send_them() {
    let with = |url: &str, origin: &str| config(url).with_origins([origin.to_owned()]);
    for origin in ["https://example.org", "http://localhost:8080", "null"] {
        assert!(with("ws://h", origin).is_ok(), "{origin}");
    }
    for (origin, remedy) in [
        ("https://example.org/", "write \"https://example.org\""),
        ("https://example.org:443", "write \"https://example.org\""),
        ("HTTPS://Example.org/page", "write \"https://example.org\""),
        ("example.org", "no origin"),
        ("*", "no origin"),
        ("", "no origin"),
    ] {
        let text = with("ws://h", origin).expect_err(origin).to_string();
        assert!(text.contains(remedy), "{text}");
    }
    let text = with("tcp://h", "https://example.org").expect_err("tcp").to_string();
    assert!(text.contains("remove them"), "{text}");
}

#[test]
fn a_changed_url_is_checked_again() {
    let mut changed = config("tcp://h:1");
    changed.url = Url::parse("ftp://h").expect("a URL");
    assert!(matches!(changed.validate(), Err(ListenerConfigError::Scheme { .. })));
    changed.url = Url::parse("tcp:///").expect("a URL");
    assert_eq!((changed.validate(), changed.host()), (Ok(()), "*"));
}

#[test]
fn clashes_are_seen_before_binding() {
    let clash = |one: &str, two: &str| {
        let forth = config(one).clashes_with(&config(two));
        assert_eq!(forth, config(two).clashes_with(&config(one)), "{one} {two}");
        forth
    };
    assert!(clash("tcp://0.0.0.0:1883", "tcp://0.0.0.0"));
    assert!(clash("tcp://0.0.0.0:80", "ws://0.0.0.0/mqtt"));
    assert!(clash("tcp://0.0.0.0:1883", "tcp://127.0.0.1:1883"));
    assert!(clash("tcp://LocalHost:1", "ws://localhost:1"));
    assert!(clash("ws://[::]:1/a", "ws://[::0]:1/b"));
    assert!(!clash("tcp://127.0.0.1:1", "tcp://127.0.0.2:1"));
    assert!(!clash("tcp://127.0.0.1:1", "tcp://127.0.0.1:2"));
    assert!(!clash("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"));
    assert!(!clash("tcp://[::]:1", "tcp://0.0.0.0:1"), "a socket of IPv6 takes IPv6 alone");
    assert!(clash("tcp://[::ffff:127.0.0.1]:1", "tcp://127.0.0.1:1"));
    assert!(clash("tcp://müller.example:1", "ws://MÜLLER.example:1"));
    for every in ["tcp://*:1", "tcp://:1", "ws://*:1/mqtt", "mqtt://*:1"] {
        for other in ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::1]:1", "tcp://h:1", "ws://:1"] {
            assert!(clash(every, other), "{every} {other}");
        }
        assert!(!clash(every, "tcp://*:2"));
    }
}

/// `Url` passes over line breaks: what is served would not be what was written.
#[test]
fn a_url_with_a_line_break_is_no_url() {
    for url in ["tc\rp://0x05535", "tcp://local\nhost", "ws://a/\tb", "tcp://a\\b@c", "ws://a\\b"] {
        let error = ListenerConfig::new(url).unwrap_err();
        assert!(matches!(error, ListenerConfigError::NotAUrl { .. }), "{url:?}: {error}");
    }
    assert!(ListenerConfig::new(" tcp://127.0.0.1:0\n").is_ok(), "around it they do not matter");
}

#[test]
fn the_path_of_a_unix_socket_is_that_of_a_file() {
    for (url, path, written) in [
        ("unix:///run/hrotti.sock", "/run/hrotti.sock", "unix:///run/hrotti.sock"),
        ("unix:/run/hrotti.sock", "/run/hrotti.sock", "unix:/run/hrotti.sock"),
        ("unix:hrotti.sock", "hrotti.sock", "unix:hrotti.sock"),
        ("UNIX:///run/a/../b", "/run/b", "unix:///run/b"),
        ("unix:///run/my broker", "/run/my broker", "unix:///run/my%20broker"),
        ("unix:///run/%C3%BC%3f", "/run/ü?", "unix:///run/%C3%BC%3f"),
    ] {
        let config = config(url);
        assert_eq!(config.socket_path(), Some(path.into()), "{url}");
        assert_eq!((config.host(), config.port(), config.path()), ("", 0, "/"), "{url}");
        assert!(config.is_unix() && !config.is_tls() && !config.is_websocket());
        assert_eq!(config.to_string(), written);
        assert_eq!(ListenerConfig::new(written), Ok(config));
    }
    for (url, wanted) in [
        (
            "unix://run/h.sock",
            "has a host, which such a listener does not use; write \"unix:///run/h.sock\"",
        ),
        (
            "unix:///run/h?a",
            "has a query, which such a listener does not use; write \"unix:///run/h\"",
        ),
        ("unix:h#a", "has a fragment, which such a listener does not use; write \"unix:h\""),
        ("unix://", "has no path of a file; write for example unix:///run/hrotti.sock"),
        ("unix:", "has no path of a file"),
        ("unix:///", "has no path of a file"),
        ("unix:///run/", "has no path of a file"),
        ("unix:///run/%00", "has no path of a file"),
        ("unix:///run/%zz", "has no path of a file"),
        ("unix:///run/%ff", "has no path of a file"),
        ("unix://run", "has a host, which such a listener does not use; write \"unix:///run\""),
    ] {
        assert!(error(url).contains(wanted), "{}", error(url));
    }
    let one = config("unix:///run/a");
    assert!(one.clashes_with(&config("unix:/run/a")) && !one.clashes_with(&config("tcp://*")));
    assert!(!one.clashes_with(&config("unix:///run/b")) && one.socket_path().is_some());
    assert_eq!(config("tcp://h").socket_path(), None);
}

#[test]
fn mode_owner_and_group_belong_to_unix_sockets() {
    let with = |url: &str, socket: SocketFile| {
        let mut config = config(url);
        config.socket = socket;
        config.validate().map_err(|error| error.to_string())
    };
    let name = |name: &str| Some(name.to_owned());
    let unix = "unix:///run/a";
    let good = SocketFile { mode: Some(0o777), owner: name("mqtt"), group: name("0") };
    assert_eq!(with(unix, good.clone()), Ok(()));
    for (url, socket, part) in [
        (unix, SocketFile { mode: Some(0o1777), ..good.clone() }, "mode 0o1777 is more than 0o777"),
        (unix, SocketFile { owner: name(""), ..good.clone() }, "owner \"\" is no name"),
        (unix, SocketFile { group: name("a:b"), ..good.clone() }, "group \"a:b\" is no name"),
        ("tcp://h", good, "remove them"),
    ] {
        let error = with(url, socket).expect_err(part);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn tls_listeners_need_a_certificate_and_others_have_none_pitfall_10() {
    for (url, instead) in
        [("mqtts://h:1", "mqtt://h:1"), ("tls://h", "mqtt://h"), ("wss://h/a", "ws://h/a")]
    {
        let missing = config(url).validate().expect_err("no certificate").to_string();
        for part in [url, "needs a certificate", "\"certificate\": \"server.pem\"", instead] {
            assert!(missing.contains(part), "{missing}");
        }
        let complete = config(url).with_tls(TlsConfig::new("a.pem", "a.key")).expect("complete");
        assert_eq!(complete.validate(), Ok(()));
    }
    for (url, instead) in
        [("tcp://h", "write mqtts://"), ("ws://h", "write wss://"), ("unix:a", "write mqtts://")]
    {
        let error =
            config(url).with_tls(TlsConfig::new("a.pem", "a.key")).expect_err("plain").to_string();
        assert!(error.contains("has TLS settings") && error.contains(instead), "{error}");
    }
}

#[test]
fn settings_of_tls_do_not_contradict_each_other() {
    use crate::transport::tls::{CertificateName, ClientCertificate};

    let plain = || TlsConfig::new("a.pem", "a.key");
    let with_ca = || TlsConfig { client_ca: Some("ca.pem".into()), ..plain() };
    assert_eq!(plain().client_certificate(), ClientCertificate::None);
    assert_eq!(with_ca().client_certificate(), ClientCertificate::Required);
    let optional = Some(ClientCertificate::Optional);
    assert_eq!(with_ca().contradiction(), None);
    assert_eq!(TlsConfig { client_certificate: optional, ..with_ca() }.contradiction(), None);
    let name = Some(CertificateName::CommonName);
    assert_eq!(
        TlsConfig { user_name: name, crl: vec!["crl.pem".into()], ..with_ca() }.contradiction(),
        None
    );
    for (tls, part) in [
        (TlsConfig { client_certificate: optional, ..plain() }, "add the file"),
        (TlsConfig { client_certificate: Some(ClientCertificate::None), ..with_ca() }, "no effect"),
        (TlsConfig { user_name: name, ..plain() }, "userName"),
        (TlsConfig { crl: vec!["crl.pem".into()], ..plain() }, "crl needs"),
    ] {
        let error = config("mqtts://h").with_tls(tls).expect_err(part).to_string();
        assert!(error.starts_with("\"mqtts://h\": ") && error.contains(part), "{error}");
    }
}

#[test]
fn relative_paths_of_tls_are_under_the_base() {
    let tls = TlsConfig {
        crl: vec!["a.crl".into(), "/b.crl".into()],
        ..TlsConfig::new("a.pem", "/a.key")
    };
    let tls = tls.relative_to("/etc".as_ref());
    assert_eq!(tls.certificate.as_os_str(), "/etc/a.pem");
    assert_eq!(tls.key.as_os_str(), "/a.key");
    assert_eq!(tls.crl, [PathBuf::from("/etc/a.crl"), PathBuf::from("/b.crl")]);
}

#[test]
fn a_rule_that_a_listener_cannot_keep_is_refused() {
    let proxies = || vec!["10.0.0.0/8".parse().unwrap()];
    let refused = |url: &str, change: &dyn Fn(&mut ListenerRules)| {
        let mut config = ListenerConfig::new(url).unwrap();
        change(&mut config.rules);
        let validated = config.validate_without_tls();
        validated.err().map(|error| error.to_string())
    };
    let forwarded = |rules: &mut ListenerRules| rules.forwarded_for = proxies();
    let proxied = |rules: &mut ListenerRules| rules.proxy_protocol = Some(proxies());
    let denied = |rules: &mut ListenerRules| rules.networks_denied = proxies();
    assert!(refused("tcp://127.0.0.1", &forwarded).unwrap().contains("forwardedFor"));
    assert!(refused("mqtts://127.0.0.1", &forwarded).unwrap().contains("remove it"));
    assert!(refused("unix:///run/s", &proxied).unwrap().contains("proxyProtocol"));
    assert!(refused("unix:///run/s", &denied).unwrap().contains("networksDenied"));
    assert_eq!(refused("ws://127.0.0.1", &forwarded), None);
    assert_eq!(refused("wss://127.0.0.1", &proxied), None);
    assert_eq!(refused("tcp://127.0.0.1", &denied), None);
}
