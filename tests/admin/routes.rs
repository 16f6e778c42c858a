//! Every route: it answers as it is documented.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use futures_lite::future::block_on;
use hrotti::access::{Ban, BanTarget, Bans};
use hrotti::admin::{ConfiguredListener, Operation, Operator, OperatorError};
use hrotti::config::Setting;
use hrotti::{Broker, Client, Limits, Message, QoS, SubscriptionOptions, TopicFilter};
use serde_json::{Value, json};

use super::http::{Follower, Reply, Served};
use super::schema::problems;

/// What the program would be.
#[derive(Default)]
struct Program {
    broken: Mutex<bool>,
    bans: Option<Arc<Bans>>,
    stopped: Mutex<bool>,
}

impl Operator for Program {
    fn settings(&self) -> Vec<Setting> {
        vec![Setting::new("limits.sessionsMax", "1000000 sessions", true)]
    }

    fn listeners(&self) -> Vec<ConfiguredListener> {
        let one = |name| ConfiguredListener::new(name, "tcp://127.0.0.1:0");
        vec![one("mqtt"), one("other")]
    }

    fn reload(&self, dry_run: bool) -> Operation<'_, Result<Vec<String>, OperatorError>> {
        let broken = *self.broken.lock().expect("unpoisoned");
        Box::pin(async move {
            match broken {
                true => Err(OperatorError::Invalid(vec!["one".to_owned(), "two".to_owned()])),
                false => Ok(vec![format!("dry: {dry_run}")]),
            }
        })
    }

    fn start_listener<'a>(&'a self, name: &'a str) -> Operation<'a, Result<(), OperatorError>> {
        Box::pin(async move { Err(OperatorError::Refused(format!("{name} runs; stop it first"))) })
    }

    fn stop_listener<'a>(&'a self, name: &'a str) -> Operation<'a, Result<(), OperatorError>> {
        *self.stopped.lock().expect("unpoisoned") = true;
        Box::pin(async move {
            match name {
                "mqtt" => Ok(()),
                _ => Err(OperatorError::Unknown(format!("there is no listener {name:?}"))),
            }
        })
    }

    fn bans(&self) -> Option<Arc<Bans>> {
        self.bans.clone()
    }
}

fn description(served: &Served) -> Value {
    let reply = served.get("/api/v1/openapi.json");
    assert_eq!(reply.status, 200);
    reply.json()
}

/// Holds an answer to what is documented of its route.
fn conforms(document: &Value, method: &str, path: &str, reply: &Reply) {
    let operation = &document["paths"][path][method];
    assert!(operation.is_object(), "{method} {path} is not documented");
    let response = &operation["responses"][reply.status.to_string()];
    assert!(response.is_object(), "{method} {path}: {} is not documented", reply.status);
    let Some(content) = response["content"].as_object() else {
        return assert!(reply.body.is_empty(), "{method} {path}: {reply:?}");
    };
    let media = reply.header("content-type").expect("a type").to_owned();
    let plain = |media: &str| media.split(';').next().unwrap_or_default().to_owned();
    let known = content.iter().find(|(known, _)| plain(known) == plain(&media));
    let (_, content) = known.unwrap_or_else(|| unreachable!("{method} {path}: {media}"));
    if media == "application/json" {
        let found = problems(document, &content["schema"], &reply.json());
        assert!(found.is_empty(), "{method} {path}: {found:?}\n{}", reply.text());
    }
}

/// A Client in process with a name that is hostile in URLs, JSON and pages, and a subscription.
fn hostile(broker: &Broker) -> Client {
    let client = broker.client(HOSTILE).expect("a free name");
    let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    for filter in ["a/b", "$share/g/a/#"] {
        block_on(client.subscribe(&TopicFilter::new(filter).expect("a filter"), options))
            .expect("room");
    }
    client
}

const HOSTILE: &str = "a/../b?c=d&e#f%00\"<script>\u{202e}é\r\n";

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn every_route_is_reached_and_answers_as_documented() {
    let bans = Arc::new(Bans::new(10));
    let operator = Program { bans: Some(bans), ..Program::default() };
    let served = Served::with(Limits::default(), None, Some(Arc::new(operator)));
    let client = hostile(&served.broker);
    let retained =
        Message::new("a/b", b"\xff").expect("a topic").with_retain(true).with_expiry_secs(60);
    block_on(client.publish(retained)).expect("it runs");
    let document = description(&served);
    assert_eq!(document["openapi"], "3.1.0");
    let id = encoded(HOSTILE);
    let bodies = [
        ("/api/v1/publish", r#"{"topic": "a/b", "payload": "x"}"#),
        ("/api/v1/banned", r#"{"clientId": "c", "seconds": 60}"#),
        ("/api/v1/explain", r#"{"kind": "delivery", "topic": "a/b", "clientId": "c"}"#),
    ];
    let mut routes = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        let asked = path
            .replace("{clientId}", &id)
            .replace("{name}", "mqtt")
            .replace("{kind}", "clientId")
            .replace("{who}", "c");
        for (method, operation) in item.as_object().expect("methods") {
            routes += 1;
            let streams = operation["responses"]["200"]["content"]["text/event-stream"].is_object();
            let needed = operation["parameters"]
                .as_array()
                .expect("a list")
                .iter()
                .any(|one| one["in"] == "query" && one["required"] == true);
            let url = if needed { format!("{asked}?filter=%23") } else { asked.clone() };
            if streams {
                drop(served.follow(&url));
                continue;
            }
            let body = bodies.iter().find(|(known, _)| known == path).map_or("", |(_, body)| body);
            let reply = match method.as_str() {
                "get" => served.get(&url),
                "delete" => served.delete(&url),
                _ => served.post(&url, body),
            };
            conforms(&document, method, path, &reply);
            let unready = path.as_str() == "/readyz" || path.as_str() == "/status";
            let expected = match (method.as_str(), path.as_str()) {
                ("get", _) if unready => 503, // the listener "other" is not started
                ("post", "/api/v1/listeners/{name}/start") => 409,
                ("post", "/api/v1/banned") => 201,
                ("delete", "/api/v1/banned/{kind}/{who}" | "/api/v1/clients/{clientId}") => 204,
                _ => 200,
            };
            assert_eq!(reply.status, expected, "{method} {path}: {reply:?}");
            assert_eq!(served.send("PATCH", &url, &[], "").status, 405, "{path}");
        }
    }
    assert!(routes >= 30, "{routes}");
}

#[test]
fn clients_are_listed_searched_sorted_and_disconnected() {
    let served = Served::new();
    let client = hostile(&served.broker);
    let others: Vec<_> =
        ["one", "two", "three"].map(|name| served.broker.client(name).expect("a free name")).into();
    block_on(others[0].publish(Message::new("a/b", "x").expect("a topic"))).expect("it runs");
    let all = served.get("/api/v1/clients").json();
    assert_eq!((&all["count"], &all["page"], &all["limit"]), (&json!(4), &json!(1), &json!(50)));
    let ids = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().expect("a list");
        data.iter().map(|one| one["clientId"].as_str().expect("a text").to_owned()).collect()
    };
    assert_eq!(ids(&all), [HOSTILE, "one", "three", "two"], "by bytes");
    let page = served.get("/api/v1/clients?page=2&limit=3").json();
    assert_eq!((ids(&page), &page["count"]), (vec!["two".to_owned()], &json!(4)));
    assert_eq!(
        ids(&served.get("/api/v1/clients?search=t&sort=clientId").json()).len(),
        3,
        "script, too"
    );
    assert_eq!(ids(&served.get("/api/v1/clients?sort=waiting").json())[0], HOSTILE);
    assert_eq!(served.get("/api/v1/clients?connected=false").json()["count"], 0);
    assert_eq!(served.get("/api/v1/clients?slow=true").json()["count"], 0);

    let url = format!("/api/v1/clients/{}", encoded(HOSTILE));
    let one = served.get(&url).json();
    // The shared subscription and the other one.
    assert_eq!(
        (&one["clientId"], &one["waiting"], &one["rates"]),
        (&json!(HOSTILE), &json!(2), &Value::Null)
    );
    assert_eq!(one["ledger"]["waiting"], 2);
    let subscriptions = served.get(&format!("{url}/subscriptions")).json();
    assert_eq!(subscriptions["data"][0]["share"], "g");
    assert_eq!(subscriptions["data"][0]["filter"], "a/#");
    assert_eq!(subscriptions["data"][1]["qos"], 1);
    let queue = served.get(&format!("{url}/queue")).json();
    assert_eq!((&queue["count"], &queue["data"][0]["topic"]), (&json!(2), &json!("a/b")));
    assert_eq!(queue["data"][0]["state"], "waiting");
    let all = served.get("/api/v1/subscriptions?filter=a/%23").json();
    assert_eq!(all["count"], 2, "a/b and a/#: {all}");
    assert_eq!(served.get("/api/v1/subscriptions?topic=a/c").json()["count"], 1);
    assert!(served.get("/api/v1/subscriptions?topic=a/%23").error(400).contains("no Topic Name"));
    for path in ["", "/subscriptions", "/queue"] {
        let error = served.get(&format!("/api/v1/clients/nobody{path}")).error(404);
        assert!(error.contains("\"nobody\""), "{error}");
    }
    assert_eq!(served.delete("/api/v1/clients/nobody").status, 404);
    assert_eq!(served.delete(&url).status, 204);
    assert!(
        block_on(client.publish(Message::new("x", "").expect("a topic"))).is_err(),
        "it is out"
    );
}

#[test]
fn messages_are_published_retained_listed_and_cleared() {
    let served = Served::new();
    let mut client = hostile(&served.broker);
    let body = json!({
        "topic": "a/b", "payloadBase64": "aGk=", "qos": 1, "retain": true, "expirySecs": 60, "contentType": "text/plain",
        "responseTopic": "r", "correlationDataBase64": "/w==", "userProperties": [["k", "v"], ["k", "w"]],
    });
    let reply = served.post("/api/v1/publish", &body.to_string());
    assert_eq!((reply.status, &reply.json()["matched"]), (200, &json!(2)));
    let message = block_on(client.recv()).expect("it runs");
    assert_eq!(
        (message.payload(), message.qos(), message.response_topic()),
        (&b"hi"[..], QoS::AtLeastOnce, Some("r"))
    );
    assert_eq!(
        (message.content_type(), message.correlation_data()),
        (Some("text/plain"), Some(&[0xff][..]))
    );
    assert_eq!(message.user_properties().collect::<Vec<_>>(), [("k", "v"), ("k", "w")]);
    let reply = served.post("/api/v1/publish", r#"{"topic": "nobody"}"#);
    assert_eq!((reply.status, &reply.json()["matched"]), (202, &json!(0)));

    let retained = served.get("/api/v1/mqtt/retainer/messages").json();
    assert_eq!((&retained["count"], &retained["data"][0]["payload"]), (&json!(1), &json!("hi")));
    assert!(retained["data"][0]["expiresInSecs"].as_u64().is_some_and(|secs| secs <= 60));
    assert_eq!(served.get("/api/v1/mqtt/retainer/messages?filter=+/c").json()["count"], 0);
    assert!(
        served.delete("/api/v1/mqtt/retainer/messages").error(400).contains("filter is missing")
    );
    let cleared = served.delete("/api/v1/mqtt/retainer/messages?filter=a/%23").json();
    assert_eq!(cleared["cleared"], 1);
    assert_eq!(served.broker.counters().retained_messages, 0);

    for (body, part) in [
        ("", "the body"),
        ("{", "the body"),
        ("[]", "the body"),
        (r#"{"payload": "x"}"#, "topic"),
        (r#"{"topic": "a", "colour": 1}"#, "colour"),
        (r#"{"topic": "a/#"}"#, "no Topic Name"),
        (r#"{"topic": ""}"#, "no Topic Name"),
        (r#"{"topic": "a", "qos": 3}"#, "write 0, 1 or 2"),
        (r#"{"topic": "a", "qos": -1}"#, "the body"),
        (r#"{"topic": "a", "payload": "x", "payloadBase64": ""}"#, "take one of them out"),
        (r#"{"topic": "a", "payloadBase64": "*"}"#, "payloadBase64"),
        (r#"{"topic": "a", "contentType": "a\u0000"}"#, "contentType"),
        (r##"{"topic": "a", "responseTopic": "#"}"##, "responseTopic"),
        (r#"{"topic": "a", "userProperties": [["k"]]}"#, "the body"),
        (r#"{"topic": "a", "userProperties": [["k", "\u0000"]]}"#, "userProperties"),
    ] {
        let error = served.post("/api/v1/publish", body).error(400);
        assert!(error.contains(part), "{body}: {error}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(served.post("/api/v1/publish", &deep).status, 400, "no recursion without a bound");
}

#[test]
fn a_ban_of_two_parts_is_ended_by_both() {
    let operator = Program { bans: Some(Arc::new(Bans::new(9))), ..Program::default() };
    let served = Served::with(Limits::default(), None, Some(Arc::new(operator)));
    for (body, query) in [
        (r#"{"clientId": "c", "userName": "a b"}"#, "userName=a%20b"),
        (r#"{"clientId": "c", "address": "192.0.2.0/24"}"#, "address=192.0.2.0%2F24"),
    ] {
        assert_eq!(served.post("/api/v1/banned", body).status, 201, "{body}");
        assert_eq!(served.delete("/api/v1/banned/clientId/c").status, 404, "another ban");
        let url = format!("/api/v1/banned/clientId/c?{query}");
        assert_eq!(served.delete(&url).status, 204, "{url}");
        assert_eq!(served.get("/api/v1/banned").json()["count"], 0, "{url}");
    }
}

#[test]
fn bans_are_made_listed_and_ended_or_the_missing_list_is_named() {
    let error = Served::new().get("/api/v1/banned").error(409);
    assert!(error.contains("access.bansFile"), "{error}");
    let bans = Arc::new(Bans::new(2));
    let operator = Program { bans: Some(bans.clone()), ..Program::default() };
    let served = Served::with(Limits::default(), None, Some(Arc::new(operator)));
    let made = served
        .post("/api/v1/banned", r#"{"address": "192.0.2.0/24", "reason": "scans", "seconds": 60}"#);
    assert_eq!((made.status, &made.json()["address"]), (201, &json!("192.0.2.0/24")));
    assert_eq!(
        served.post("/api/v1/banned", r#"{"userName": "ann"}"#).json()["until"],
        Value::Null
    );
    assert_eq!(bans.list().len(), 2);
    assert_eq!(served.get("/api/v1/banned?limit=1").json()["count"], 2);
    let full = served.post("/api/v1/banned", r#"{"clientId": "c"}"#).error(409);
    assert!(full.contains("limits.bansMax"), "{full}");
    assert_eq!(served.delete("/api/v1/banned/address/192.0.2.0%2F24").status, 204);
    assert_eq!(served.delete("/api/v1/banned/userName/nobody").status, 404);
    for (url, body) in [
        ("/api/v1/banned", "{}"),
        ("/api/v1/banned", r#"{"address": "x"}"#),
        ("/api/v1/banned", r#"{"clientId": "c", "seconds": 0}"#),
        ("/api/v1/banned", r#"{"clientId": ""}"#),
        ("/api/v1/banned", r#"{"clientId": "c", "userName": "u", "address": "192.0.2.1"}"#),
    ] {
        assert_eq!(served.post(url, body).status, 400, "{body}");
    }
    for url in ["colour/x", "userName/x?address=192.0.2.1", "address/x"] {
        assert_eq!(served.delete(&format!("/api/v1/banned/{url}")).status, 400, "{url}");
    }
    let known = Ban::new(BanTarget::User("ann".to_owned()));
    assert_eq!(bans.list().iter().map(|ban| &ban.target).collect::<Vec<_>>(), [&known.target]);
}

#[test]
fn the_program_is_asked_for_its_configuration() {
    let without = Served::new();
    for reply in [
        without.get("/api/v1/config"),
        without.post("/api/v1/reload", ""),
        without.post("/api/v1/listeners/mqtt/stop", ""),
    ] {
        assert!(reply.error(409).contains("change it there"), "{reply:?}");
    }
    let program = Arc::new(Program::default());
    let served = Served::with(Limits::default(), None, Some(program.clone()));
    assert_eq!(served.get("/api/v1/config").json()["settings"][0]["key"], "limits.sessionsMax");
    assert_eq!(served.post("/api/v1/reload", "").json()["changes"][0], "dry: false");
    assert_eq!(served.post("/api/v1/reload?dryRun=true", "").json()["changes"][0], "dry: true");
    *program.broken.lock().expect("unpoisoned") = true;
    let reply = served.post("/api/v1/reload", "");
    assert_eq!((reply.status, &reply.json()["errors"]), (422, &json!(["one", "two"])));
    let listeners = served.get("/api/v1/listeners").json();
    assert_eq!(
        (&listeners[0]["state"], &listeners[1]["state"]),
        (&json!("running"), &json!("stopped"))
    );
    assert!(served.get("/readyz").text().contains("\"other\" is stopped"));
    assert_eq!(served.post("/api/v1/listeners/mqtt/stop", "").json()["name"], "mqtt");
    assert!(*program.stopped.lock().expect("unpoisoned"));
    assert_eq!(served.post("/api/v1/listeners/nobody/stop", "").status, 404);
    assert_eq!(served.post("/api/v1/listeners/mqtt/start", "").status, 409);
}

#[test]
fn questions_are_explained() {
    let served = Served::new();
    let client = hostile(&served.broker);
    let ask = |body: Value| served.post("/api/v1/explain", &body.to_string());
    let yes = ask(json!({ "kind": "delivery", "topic": "a/b", "clientId": HOSTILE })).json();
    assert_eq!(
        (&yes["wouldArrive"], yes["findings"].as_array().map(Vec::is_empty)),
        (&json!(true), Some(false))
    );
    let no = ask(json!({ "kind": "delivery", "topic": "b", "clientId": HOSTILE })).json();
    assert_eq!(no["wouldArrive"], false);
    assert!(no["findings"][0].as_str().is_some_and(|text| text.starts_with("no: ")), "{no}");
    let may =
        ask(json!({ "kind": "access", "clientId": HOSTILE, "action": "publish", "topic": "a" }));
    assert_eq!(may.status, 200, "{may:?}");
    let nobody =
        ask(json!({ "kind": "access", "clientId": "x", "action": "receive", "topic": "a" }));
    assert_eq!(nobody.status, 404);
    assert_eq!(ask(json!({ "kind": "weather" })).status, 400);
    drop(client);
}

#[test]
fn metrics_are_the_books_in_both_formats() {
    let served = Served::new();
    let client = hostile(&served.broker);
    block_on(client.publish(Message::new("a/b", "x").expect("a topic"))).expect("it runs");
    block_on(client.publish(Message::new("nobody", "x").expect("a topic"))).expect("it runs");
    let mut stream = TcpStream::connect(&served.broker.listeners()[0].endpoint["tcp://".len()..])
        .expect("it listens");
    stream.write_all(b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03dev").expect("the server reads");
    stream.read_exact(&mut [0; 4]).expect("CONNACK");
    let plain = served.get("/metrics");
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let open =
        served.send("GET", "/metrics", &["Accept: application/openmetrics-text;version=1.0.0"], "");
    assert!(
        open.header("content-type")
            .is_some_and(|media| media.starts_with("application/openmetrics-text"))
    );
    assert!(open.text().ends_with("# EOF\n"), "{}", open.text());
    let text = plain.text();
    let value = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        let value = line
            .and_then(|line| line.rsplit(' ').next())
            .and_then(|value| value.parse::<f64>().ok());
        value.unwrap_or_else(|| unreachable!("{name}: {text}"))
    };
    assert_eq!(value("hrotti_messages_offered_total"), 3.0);
    assert_eq!(value("hrotti_messages_waiting"), 2.0);
    assert_eq!(value("hrotti_messages_filtered_total{reason=\"no subscription\"}"), 1.0);
    assert_eq!(value("hrotti_messages_dropped_total{reason=\"queue full\"}"), 0.0);
    assert_eq!(value("hrotti_sessions"), 2.0);
    assert_eq!(value("hrotti_connections{listener=\"mqtt\",version=\"3.1.1\"}"), 1.0);
    assert_eq!(value("hrotti_packets_received_total{type=\"CONNECT\"}"), 1.0);
    assert_eq!(value("hrotti_bytes_received_total"), 17.0);
    assert_eq!(value("hrotti_limit_reached_total{limit=\"connects_refused\"}"), 0.0);
    assert!(
        text.contains("offered = delivered + waiting + inflight + expired + dropped + filtered")
    );
    // Only the library and the operator choose labels.
    assert!(!text.contains("<script") && !text.contains("dev\""), "{text}");
    #[cfg(target_os = "linux")]
    assert!(value("process_resident_memory_bytes") > 0.0);
}

#[test]
fn the_figures_are_those_of_the_broker() {
    let served = Served::new();
    let client = hostile(&served.broker);
    block_on(client.publish(Message::new("a/b", "x").expect("a topic"))).expect("it runs");
    let status = served.get("/api/v1/status").json();
    assert_eq!(
        (&status["sessions"], &status["subscriptions"], &status["listeners"]),
        (&json!(1), &json!(2), &json!(1))
    );
    assert_eq!(status["ledger"]["waiting"], 2);
    assert_eq!(status["ledger"]["dropped"]["byReason"]["queue full"], 0);
    assert_eq!(served.get("/api/v1/history").json()["stepSecs"], 10);
    let limits = served.get("/api/v1/limits").json();
    let limits = limits.as_array().expect("a list");
    let used = |name: &str| &limits.iter().find(|limit| limit["name"] == name).expect(name)["used"];
    assert_eq!(used("limits.sessionsMax"), 1);
    assert!(limits.iter().any(|limit| limit["name"] == "limits.adminConnectionsMax"));
}

#[test]
fn streams_tell_what_happens_as_it_happens() {
    let served = Served::new();
    let mut live = served.follow("/api/v1/live");
    let document = description(&served);
    for _ in 0..2 {
        let status = live.event("status");
        let found = problems(&document, &document["components"]["schemas"]["Status"], &status);
        assert!(found.is_empty(), "{found:?}");
        assert!(live.event("slow").is_array());
    }
    let mut events = served.follow("/api/v1/events");
    events.until(":\n\n");
    let mut tail: Follower = served.follow("/api/v1/tail?filter=+/b");
    tail.until(":\n\n");
    let listener = hrotti::ListenerConfig::new("tcp://127.0.0.1:0").expect("a good URL");
    block_on(served.broker.add_listener("late", listener)).expect("a free port");
    let event = events.event("listenerAdded");
    assert_eq!((&event["kind"], &event["name"]), (&json!("listenerAdded"), &json!("late")));
    assert_eq!(
        served.post("/api/v1/publish", r#"{"topic": "a/b", "payload": "\n\nevent: x\n"}"#).status,
        200
    );
    let message = tail.event("message");
    assert_eq!((&message["topic"], &message["payload"]), (&json!("a/b"), &json!("\n\nevent: x\n")));
    assert_eq!(message["publisher"], Value::Null);
    for (path, part) in [
        ("/api/v1/tail", "filter is missing"),
        ("/api/v1/tail?filter=", "no Topic Filter"),
        ("/api/v1/tail?filter=a%23", "no Topic Filter"),
        ("/api/v1/tail?filter=$share/g/a", "from the Clients that share it; write \"a\""),
        ("/api/v1/tail?filter=%24share/x", "no Topic Filter"),
    ] {
        assert!(served.get(path).error(400).contains(part), "{path}");
    }
}

/// Nothing that Clients say breaks out of JSON, and what is no URL is no crash.
#[test]
fn hostile_texts_and_urls_are_answered() {
    let served = Served::new();
    let client = hostile(&served.broker);
    let reply = served.get("/api/v1/clients");
    assert!(!reply.text().contains('\r') && !reply.text().contains('\n'), "{}", reply.text());
    for path in [
        "/api/v1/clients/%",
        "/api/v1/clients/%ff",
        "/api/v1/clients/%00",
        "/api/v1/clients/",
        "//",
        "/../etc/passwd",
        "/api/v1/clients/..%2f..%2fetc",
        "/api/v1/status?",
        "/api/v1/status?x",
        "/api/v1/status?%",
        "/api/v1/clients?page=-1",
        "/api/v1/clients?page=1e9",
        "/api/v1/clients?limit=1001",
        "/api/v1/clients?page=1000000000&limit=1000",
        "/api/v1/clients?search=%00",
        "/API/V1/STATUS",
        "/api/v1/mqtt/retainer/messages?filter=%23/%23",
        "/api/v1/mqtt/retainer/messages?filter=%24share/a/b",
    ] {
        let status = served.get(path).status;
        assert!((200..500).contains(&status), "{path}: {status}");
    }
    for method in ["TRACE", "CONNECT", "OPTIONS", "PUT", "get", "X"] {
        let status = served.send(method, "/api/v1/status", &[], "").status;
        assert!((400..500).contains(&status), "{method}: {status}");
    }
    let head = served.send("HEAD", "/api/v1/status", &[], "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    drop(client);
}
