//! Who is answered: the token, and requests that pages of other origins send.

use super::http::Served;
use hrotti::Limits;

const TOKEN: &str = "a-token-of-many-bytes";

#[test]
fn with_a_token_only_requests_that_show_it_are_answered() {
    let served = Served::with(Limits::default(), Some(TOKEN), None);
    let good = format!("Authorization: Bearer {TOKEN}");
    for path in ["/metrics", "/api/v1/status", "/api/v1/openapi.json", "/api/v1/nothing"] {
        for wrong in [
            &[][..],
            &["Authorization: Bearer wrong-token-of-many-bytes"],
            &["Authorization: Basic YTpi"],
        ] {
            let reply = served.send("GET", path, wrong, "");
            assert!(reply.error(401).contains("Authorization: Bearer TOKEN"), "{reply:?}");
            assert_eq!(reply.header("www-authenticate"), Some("bearer"));
            assert_eq!(reply.header("connection"), Some("close"), "no place for strangers");
            assert!(!reply.text().contains(TOKEN));
        }
        let expected = if path.ends_with("nothing") { 404 } else { 200 };
        assert_eq!(served.send("GET", path, &[&good], "").status, expected, "{path}");
    }
    for path in ["/", "/livez", "/readyz", "/status"] {
        assert_eq!(served.get(path).status, 200, "{path}");
    }
    assert_eq!(served.broker.counters().admin_requests_unauthorized, 12);
    // The token is no ambient authority, so other names of the host, as behind a proxy, are no danger.
    assert_eq!(served.send("GET", "/metrics", &[&good, "Host: broker.example"], "").status, 200);
}

/// The name of a page has the address of this machine: the browser sends the name in `Host`.
#[test]
fn without_a_token_a_foreign_name_of_the_host_is_refused_dns_rebinding() {
    let served = Served::new();
    for path in ["/", "/metrics", "/livez", "/api/v1/status", "/nothing"] {
        let reply = served.send("GET", path, &["Host: evil.example"], "");
        assert!(reply.error(403).contains("admin.tokenFile"), "{path}: {reply:?}");
    }
    let own = format!("Host: localhost:{}", served.authority().rsplit(':').next().expect("a port"));
    assert_eq!(served.send("GET", "/api/v1/status", &[&own], "").status, 200);
    assert_eq!(served.broker.counters().admin_requests_foreign, 5);
}

/// A page of another origin may send a form or a simple request to this machine.
#[test]
fn without_a_token_requests_of_foreign_pages_change_nothing_csrf() {
    let served = Served::new();
    let body = r#"{"topic": "a", "payload": "x", "retain": true}"#;
    let json = "Content-Type: application/json";
    for foreign in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let reply = served.send("POST", "/api/v1/publish", &[foreign, json], body);
        assert!(reply.error(403).contains("another origin"), "{reply:?}");
        assert_eq!(served.send("POST", "/api/v1/reload", &[foreign], "").status, 403);
        assert_eq!(served.send("DELETE", "/api/v1/clients/a", &[foreign], "").status, 403);
        assert_eq!(
            served.send("GET", "/api/v1/live", &[foreign], "").status,
            403,
            "no place for its streams"
        );
    }
    // What browsers send without asking the server first.
    for simple in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        let reply =
            served.send("POST", "/api/v1/publish", &[&format!("Content-Type: {simple}")], body);
        assert!(reply.error(415).contains("application/json"), "{reply:?}");
        let reply =
            served.send("POST", "/api/v1/reload", &[&format!("Content-Type: {simple}")], "x=1");
        assert_eq!(reply.status, 415, "{reply:?}");
    }
    assert_eq!(served.send("POST", "/api/v1/publish", &[], body).status, 415);
    assert_eq!(served.broker.counters().retained_messages, 0);
    let own = format!("Origin: {}", served.admin.endpoint());
    let reply =
        served.send("POST", "/api/v1/publish", &[&own, "Sec-Fetch-Site: same-origin", json], body);
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(served.broker.counters().retained_messages, 1);
}

#[test]
fn every_answer_has_the_headers_that_keep_pages_apart() {
    let served = Served::new();
    for (path, status) in
        [("/", 200), ("/metrics", 200), ("/api/v1/status", 200), ("/nothing", 404)]
    {
        let reply = served.get(path);
        assert_eq!(reply.status, status, "{path}");
        for (name, part) in [
            ("content-security-policy", "frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "deny"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-"),
        ] {
            let value = reply.header(name).unwrap_or_default();
            assert!(value.contains(part), "{path}: {name}: {value}");
        }
        assert_eq!(reply.header("access-control-allow-origin"), None, "no other page may read");
    }
}

#[test]
fn the_page_runs_only_its_own_scripts_and_is_sent_once() {
    let served = Served::new();
    let page = served.get("/");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").expect("a policy");
    for part in ["default-src 'self'", "script-src 'sha256-", "style-src 'sha256-"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(page.text().contains("<title>") && !page.text().contains("src=\"http"));
    let raw = String::from_utf8(
        served.raw(
            format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", served.authority())
                .as_bytes(),
        ),
    );
    let raw = raw.expect("UTF-8");
    let tag = raw.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag").to_owned();
    let again = served.send("GET", "/", &[&format!("If-None-Match: {tag}")], "");
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(served.send("GET", "/", &["If-None-Match: \"other\""], "").status, 200);
}
