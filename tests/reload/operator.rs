//! A server behind an admin listener.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use hrotti::AdminConfig;
use hrotti::admin::Admin;
use hrotti::config::Config;
use hrotti::server::ServerErrors;
use serde_json::{Value, json};

use crate::house::{House, directory, write};
use crate::peer::{DEADLINE, in_time};

/// Status and body of an answer.
fn ask(address: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn an_admin_listener_reloads_starts_stops_and_bans() {
    let directory = directory();
    let file = directory.join("config.json");
    let text = |depth: u32| {
        format!(
            r#"{{"maxQueueDepth": {depth}, "listeners": {{"tcp": {{"url": "tcp://127.0.0.1:0"}}}},
                "access": {{"anonymous": true, "bansFile": "bans"}}}}"#
        )
    };
    std::fs::write(&file, text(100)).unwrap();
    write(&directory, "bans", "{\"bans\": []}");
    let source = file.clone();
    let read = move || {
        let text = std::fs::read_to_string(&source).unwrap();
        Config::from_json(&text, "config.json").map_err(ServerErrors::from)
    };
    let config = read().unwrap();
    let server = in_time(hrotti::Server::start(config, &directory)).unwrap();
    server.set_source(read);
    let house = House { server, directory };
    let operator = Arc::new(house.server.clone());
    let admin = Admin::builder(house.server.broker().clone()).operator(operator);
    let admin = in_time(admin.serve(AdminConfig::new("http://127.0.0.1:0").unwrap())).unwrap();
    let address = admin.endpoint().strip_prefix("http://").unwrap().to_owned();
    let ask = |method: &str, path: &str, body: &Value| ask(&address, method, path, body);
    let none = Value::Null;

    let depth = || {
        let (status, answer) = ask("GET", "/api/v1/config", &none);
        assert_eq!(status, 200);
        let all = answer["settings"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["key"] == "maxQueueDepth").unwrap()
    };
    assert_eq!(depth(), json!({"key": "maxQueueDepth", "value": "100", "default": true}));
    let mut client = house.connect("tcp", "c");
    std::fs::write(&file, text(7)).unwrap();
    let changes = json!({"changes": ["~ maxQueueDepth 100 -> 7 (new Sessions)"]});
    assert_eq!(ask("POST", "/api/v1/reload?dryRun=true", &none), (200, changes.clone()));
    assert_eq!(depth()["value"], "100");
    assert_eq!(ask("POST", "/api/v1/reload", &none), (200, changes));
    assert_eq!(depth(), json!({"key": "maxQueueDepth", "value": "7", "default": false}));
    std::fs::write(&file, "{}").unwrap();
    let (status, answer) = ask("POST", "/api/v1/reload", &none);
    assert_eq!(status, 422);
    assert!(answer.to_string().contains("config.json: listeners: is missing"), "{answer}");
    assert_eq!(depth()["value"], "7");
    client.ping();

    assert_eq!(ask("POST", "/api/v1/listeners/tcp/stop", &none).0, 200);
    client.expect_closed();
    let state = || ask("GET", "/api/v1/listeners", &none).1[0]["state"].clone();
    assert_eq!(state(), "stopped");
    assert_eq!(ask("POST", "/api/v1/listeners/tcp/stop", &none).0, 409);
    assert_eq!(ask("POST", "/api/v1/listeners/other/start", &none).0, 404);
    assert_eq!(ask("POST", "/api/v1/listeners/tcp/start", &none).0, 200);
    assert_eq!(state(), "running");
    house.connect("tcp", "c").ping();

    // A ban is written to its file, and a reload keeps it.
    assert_eq!(ask("POST", "/api/v1/banned", &json!({"clientId": "evil"})).0, 201);
    let kept = std::fs::read_to_string(house.directory.join("bans")).unwrap();
    assert!(kept.contains("evil"), "{kept}");
    std::fs::write(&file, text(8)).unwrap();
    assert_eq!(ask("POST", "/api/v1/reload", &none).0, 200);
    let (_, banned) = ask("GET", "/api/v1/banned", &none);
    assert_eq!(banned["count"], 1, "{banned}");
    in_time(admin.stop());
}
