//! A broker with an admin listener, and an HTTP client of a few lines.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use hrotti::access::Secret;
use hrotti::admin::{Admin, Operator};
use hrotti::{AdminConfig, Broker, Limits, ListenerConfig};
use serde_json::Value;

/// Nothing takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with one listener of MQTT and an admin listener.
pub(crate) struct Served {
    pub(crate) broker: Broker,
    pub(crate) admin: Admin,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// With small letters.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Served {
    pub(crate) fn new() -> Served {
        Served::with(Limits::default(), None, None)
    }

    pub(crate) fn limited(limits: Limits) -> Served {
        Served::with(limits, None, None)
    }

    pub(crate) fn with(
        limits: Limits,
        token: Option<&str>,
        operator: Option<Arc<dyn Operator>>,
    ) -> Served {
        let broker = Broker::builder().limits(limits).build();
        let listener = ListenerConfig::new("tcp://127.0.0.1:0").expect("a good URL");
        block_on(broker.add_listener("mqtt", listener)).expect("a free port");
        let mut builder = Admin::builder(broker.clone());
        if let Some(token) = token {
            builder = builder.token(Secret::new(token.as_bytes()));
        }
        if let Some(operator) = operator {
            builder = builder.operator(operator);
        }
        let config = AdminConfig::new("http://127.0.0.1:0").expect("a good URL");
        let admin = block_on(builder.serve(config)).expect("a free port");
        Served { broker, admin }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn authority(&self) -> &str {
        self.admin.endpoint().strip_prefix("http://").expect("HTTP")
    }

    pub(crate) fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.authority()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream
    }

    /// Sends bytes and reads until the server closes.
    pub(crate) fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.dial();
        // The server may have refused it before it was sent whole.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|line| line.starts_with("Host:")) {
            request += &format!("Host: {}\r\n", self.authority());
        }
        for line in headers {
            request += &format!("{line}\r\n");
        }
        if !body.is_empty() {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        reply(&self.raw(format!("{request}\r\n{body}").as_bytes()))
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, &["Content-Type: application/json"], body)
    }

    /// Opens a stream of events; the head is read.
    pub(crate) fn follow(&self, path: &str) -> Follower {
        let mut stream = self.dial();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.authority());
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut follower = Follower { stream, read: String::new() };
        let head = follower.until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_ascii_lowercase().contains("text/event-stream"), "{head}");
        follower
    }
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| unreachable!("{error}: {self:?}"))
    }

    /// The text of the error, after a look at the status.
    pub(crate) fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        self.json()["error"].as_str().expect("a text").to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

/// Reads a response whose end is that of the connection.
pub(crate) fn reply(answer: &[u8]) -> Reply {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| unreachable!("no head: {:?}", String::from_utf8_lossy(answer)));
    let head = String::from_utf8(answer[..end].to_vec()).expect("ASCII");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer[end + 4..].to_vec();
    Reply { status: status.expect("a status"), head: head.to_ascii_lowercase(), body }
}

/// A stream of events that is read as it comes.
pub(crate) struct Follower {
    pub(crate) stream: TcpStream,
    read: String,
}

impl Follower {
    /// What comes until `mark`, with it.
    pub(crate) fn until(&mut self, mark: &str) -> String {
        let mut room = [0; 4096];
        loop {
            if let Some(at) = self.read.find(mark) {
                let rest = self.read.split_off(at + mark.len());
                return std::mem::replace(&mut self.read, rest);
            }
            let count = self.stream.read(&mut room).expect("the server goes on");
            assert!(count > 0, "the stream has ended: {:?}", self.read);
            self.read += std::str::from_utf8(&room[..count]).expect("ASCII in these tests");
        }
    }

    /// The data of the next event of this name.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        self.until(&format!("event: {name}\ndata: "));
        let data = self.until("\n\n");
        serde_json::from_str(&data).expect("JSON")
    }
}
