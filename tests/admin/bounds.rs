//! What peers can make the listener hold, and what it answers at each limit.

use std::io::{Read, Write};
use std::time::Duration;

use futures_lite::future::block_on;
use hrotti::{Limits, Message};

use super::http::{Served, reply};

#[test]
fn a_head_that_is_too_large_is_refused() {
    let served = Served::new();
    let long = "x".repeat(20_000);
    let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n");
    assert_eq!(reply(&served.raw(request.as_bytes())).status, 431);
    let lines = "X: y\r\n".repeat(100);
    let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    assert_eq!(reply(&served.raw(request.as_bytes())).status, 431);
    let request = format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let status = reply(&served.raw(request.as_bytes())).status;
    assert!(matches!(status, 414 | 431), "{status}");
    assert_eq!(served.get("/livez").status, 200);
    assert_eq!(served.broker.counters().admin_requests_too_large, 3);
}

#[test]
fn a_body_that_is_too_large_is_refused_whether_its_length_is_said_or_not() {
    let served = Served::limited(Limits { admin_request_bytes_max: 1_024, ..Limits::default() });
    let body = format!(r#"{{"topic": "a", "payload": "{}"}}"#, "x".repeat(2_000));
    let error = served.post("/api/v1/publish", &body).error(413);
    assert!(error.contains("limits.adminRequestBytesMax") && error.contains("1024"), "{error}");
    let head = "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1_024));
    let answer = served.raw(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes());
    assert_eq!(reply(&answer).status, 413);
    assert_eq!(served.broker.counters().admin_requests_too_large, 2);
}

/// Pitfall 20.
#[test]
fn a_request_that_comes_slowly_ends_pitfall_20() {
    let limits = Limits { admin_timeout: Duration::from_millis(50), ..Limits::default() };
    let served = Served::limited(limits);
    for part in [
        "",
        "GET /livez HTTP/1.1\r\nHost: local",
        "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let mut stream = served.dial();
        stream.write_all(part.as_bytes()).expect("the server reads");
        let mut answer = Vec::new();
        // The end comes from the server: this side has not closed.
        stream.read_to_end(&mut answer).expect("an end in good order");
        if part.starts_with("POST") {
            assert!(reply(&answer).error(408).contains("limits.adminTimeoutSecs"));
        }
    }
    // One that has sent nothing is idle, and its end is no refusal.
    assert_eq!(served.broker.counters().admin_requests_timed_out, 2);
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let served = Served::limited(Limits { admin_connections_max: 2, ..Limits::default() });
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = served.dial();
            stream
                .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .expect("the server reads");
            let mut room = [0; 12];
            stream.read_exact(&mut room).expect("an answer");
            assert_eq!(&room, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let mut third = served.dial();
    let mut answer = Vec::new();
    let _ = third.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    assert_eq!(served.broker.counters().admin_connections_refused, 1);
    drop(held);
    // Soon there is room again.
    while served
        .raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .is_empty()
    {}
}

#[test]
fn event_streams_beyond_the_limit_are_refused_with_the_remedy() {
    let served = Served::limited(Limits { admin_streams_max: 2, ..Limits::default() });
    let held = [served.follow("/api/v1/events"), served.follow("/api/v1/live")];
    for path in ["/api/v1/events", "/api/v1/live", "/api/v1/tail?filter=%23"] {
        let error = served.get(path).error(503);
        assert!(error.contains("limits.adminStreamsMax") && error.contains('2'), "{path}: {error}");
    }
    assert_eq!(served.broker.counters().admin_streams_refused, 3);
    let limits = served.get("/api/v1/limits").json();
    let streams = limits.as_array().expect("a list").iter();
    let streams = streams.filter(|limit| limit["name"] == "limits.adminStreamsMax");
    assert_eq!(streams.map(|limit| limit["refused"].as_u64()).collect::<Vec<_>>(), [Some(3)]);
    drop(held);
    while served.send("HEAD", "/api/v1/events", &[], "").status == 503 {}
}

/// A reader of a stream that stops reading is cut, and its messages are dropped and counted. Publishers do not wait.
#[test]
fn a_reader_that_does_not_read_holds_up_nobody_and_is_cut_pitfall_14() {
    let limits = Limits { admin_timeout: Duration::from_millis(100), ..Limits::default() };
    let served = Served::limited(limits);
    let stuck = served.follow("/api/v1/tail?filter=%23");
    let mut events = served.follow("/api/v1/tail?filter=last");
    let publisher = served.broker.client("publisher").expect("a free name");
    let large = vec![b'x'; 48 * 1024];
    let sessions = || served.broker.sessions().len();
    let mut published: u64 = 0;
    while sessions() == 3 {
        let message = Message::new("a", &large).expect("a Topic Name");
        block_on(publisher.publish(message)).expect("it runs");
        published += 1;
    }
    assert!(published > 1);
    block_on(publisher.publish(Message::new("last", "x").expect("a Topic Name"))).expect("it runs");
    assert_eq!(events.event("message")["topic"], "last");
    assert!(served.broker.ledger().balances());
    drop(stuck);
}

/// Two lengths, or a length and chunks, are how a request is hidden from a proxy.
#[test]
fn requests_whose_length_has_two_meanings_are_refused_smuggling() {
    let served = Served::new();
    let ask = |lines: &str, rest: &str| {
        let request = format!(
            "POST /api/v1/explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}\r\n{rest}"
        );
        String::from_utf8_lossy(&served.raw(request.as_bytes())).into_owned()
    };
    let hidden = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for (lines, rest) in [
        ("Content-Length: 2\r\nContent-Length: 50\r\n", format!("{{}}{hidden}")),
        ("Content-Length: 2, 50\r\n", format!("{{}}{hidden}")),
        ("Content-Length: +2\r\n", format!("{{}}{hidden}")),
        ("Transfer-Encoding: chunked, identity\r\n", format!("0\r\n\r\n{hidden}")),
        ("Transfer-Encoding: xchunked\r\n", format!("0\r\n\r\n{hidden}")),
    ] {
        let answer = ask(lines, &rest);
        assert!(answer.starts_with("HTTP/1.1 400"), "{lines}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lines}: {answer}");
    }
    for request in [
        "GET /livez HTTP/1.1\nHost : localhost\r\n\r\n",
        "GET /livez HTTP/2.7\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let answer = String::from_utf8_lossy(&served.raw(request.as_bytes())).into_owned();
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.1 5"),
            "{answer}"
        );
    }
}

#[test]
fn a_stop_ends_streams_and_idle_connections_and_frees_the_address() {
    let served = Served::new();
    let mut idle = served.dial();
    let mut stream = served.follow("/api/v1/events").stream;
    let authority = served.authority().to_owned();
    block_on(served.admin.stop());
    block_on(served.admin.stop());
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let _ = idle.read_to_end(&mut rest);
    assert!(std::net::TcpListener::bind(authority).is_ok(), "the address is free");
}

/// The admin listener outlives the stop of its broker, and says so.
#[test]
fn while_and_after_the_broker_stops_it_is_alive_and_not_ready() {
    let served = Served::new();
    assert_eq!(served.get("/readyz").status, 200);
    block_on(served.broker.stop());
    assert_eq!(served.get("/livez").status, 200);
    let reply = served.get("/readyz");
    assert_eq!((reply.status, reply.text().contains("stopping")), (503, true), "{reply:?}");
    assert_eq!(served.get("/api/v1/status").json()["state"], "stopping");
    let answer = served.post("/api/v1/publish", r#"{"topic": "a", "payload": ""}"#);
    assert!(answer.error(503).contains("stopping"));
    assert_eq!(served.get("/api/v1/tail?filter=%23").status, 503);
}

/// A transport that keeps its thread until the sender is dropped.
#[cfg(target_os = "linux")]
struct Stuck(std::sync::mpsc::Receiver<()>);

#[cfg(target_os = "linux")]
impl hrotti::Transport for Stuck {
    async fn accept(&mut self) -> std::io::Result<hrotti::transport::Incoming> {
        let _ = self.0.recv();
        std::future::pending().await
    }

    fn local_endpoint(&self) -> String {
        "stuck".to_owned()
    }
}

/// The listener has a loop of its own, so it can tell that another one is stuck.
#[cfg(target_os = "linux")]
#[test]
fn an_event_loop_that_is_stuck_is_noticed_and_does_not_hold_up_the_answer() {
    let limits = Limits { admin_timeout: Duration::from_millis(200), ..Limits::default() };
    let broker = hrotti::Broker::builder().limits(limits).event_loops(2).build();
    let config = hrotti::AdminConfig::new("http://127.0.0.1:0").expect("a good URL");
    let admin = block_on(hrotti::admin::Admin::serve(broker.clone(), config)).expect("a free port");
    let served = Served { broker, admin };
    assert_eq!(served.get("/livez").status, 200);
    let (release, released) = std::sync::mpsc::channel();
    block_on(served.broker.add_transport("stuck", Stuck(released))).expect("a free name");
    let reply = loop {
        let reply = served.get("/livez");
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((reply.status, reply.text()), (503, "not live: an event loop runs no tasks\n"));
    assert_eq!(served.get("/metrics").status, 200, "the rest is answered");
    drop(release);
    while served.get("/livez").status != 200 {}
}
