//! The requests of `hrotti ctl`, and its errors: each names the URL and the remedy.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};
use url::{Url, form_urlencoded};

/// A server answers within this time, or the command fails. Event streams are exempt.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The admin listener of a server.
pub(super) struct Server {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Server {
    /// # Errors
    /// The URL is none that this can ask: the text names it and the remedy.
    pub(super) fn new(url: &str, token: Option<String>) -> Result<Server, String> {
        let read = Url::parse(url).ok().filter(|read| read.scheme() == "http" && read.has_host());
        if read.is_none_or(|read| read.query().is_some() || read.fragment().is_some()) {
            return Err(format!(
                "--url: {url:?} cannot be asked; write http://HOST:PORT. A listener with https:// or unix:// is asked \
                 with curl, or by a tunnel that ends at its machine"
            ));
        }
        let agent = Agent::config_builder().http_status_as_error(false).max_redirects(0);
        let agent = agent.timeout_connect(Some(TIMEOUT)).timeout_recv_response(Some(TIMEOUT));
        Ok(Server {
            agent: agent.build().into(),
            base: url.trim_end_matches('/').to_owned(),
            token: token.map(|token| format!("Bearer {token}")),
        })
    }

    /// What is under the API, with a query.
    pub(super) fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, String> {
        self.json(self.call_get(&format!("{}/api/v1/{path}{}", self.base, queried(query)))?)
    }

    /// What is under the API at a path whose parts may hold any text.
    pub(super) fn get_at(&self, parts: &[&str]) -> Result<Value, String> {
        self.json(self.call_get(&self.at(parts))?)
    }

    /// The text of a page outside the API.
    pub(super) fn text(&self, path: &str) -> Result<String, String> {
        read(self.accepted(self.call_get(&format!("{}{path}", self.base))?)?)
    }

    pub(super) fn post(&self, parts: &[&str], body: &Value) -> Result<Value, String> {
        let mut request =
            self.agent.post(self.at(parts)).header("Content-Type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        self.json(request.send(body.to_string()).map_err(|error| self.unreachable(&error))?)
    }

    pub(super) fn delete(&self, parts: &[&str], query: &[(&str, String)]) -> Result<Value, String> {
        let mut request = self.agent.delete(self.at(parts) + &queried(query));
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        self.json(request.call().map_err(|error| self.unreachable(&error))?)
    }

    /// Prints each event of a stream as it comes, until the stream ends, which is an error.
    pub(super) fn follow(
        &self,
        path: &str,
        query: &[(&str, String)],
        line: impl Fn(&str, &Value) -> String,
    ) -> Result<String, String> {
        let url = format!("{}/api/v1/{path}{}", self.base, queried(query));
        let response = self.accepted(self.call_get(&url)?)?;
        let ended = |why: &str| format!("{}: the stream has ended{why}", self.base);
        end_with_the_reader();
        let mut kind = String::new();
        for read in BufReader::new(response.into_body().into_reader()).lines() {
            let read = read.map_err(|error| ended(&format!(": {error}")))?;
            if let Some(name) = read.strip_prefix("event: ") {
                name.clone_into(&mut kind);
            } else if let Some(data) = read.strip_prefix("data: ") {
                let data = serde_json::from_str(data).unwrap_or(Value::Null);
                let mut out = io::stdout().lock();
                // Nobody reads any more: that is how `| head` ends it.
                if writeln!(out, "{}", line(&kind, &data)).and_then(|()| out.flush()).is_err() {
                    return Ok(String::new());
                }
            }
        }
        Err(ended(""))
    }

    /// The URL of a path, each part of it escaped.
    fn at(&self, parts: &[&str]) -> String {
        let escaped = |part: &&str| match part.split_once('?') {
            // A path of our own with its query.
            Some((path, query)) if parts.len() == 1 => format!("{path}?{query}"),
            _ => form_urlencoded::byte_serialize(part.as_bytes())
                .collect::<String>()
                .replace('+', "%20"),
        };
        let path: Vec<String> = parts.iter().map(escaped).collect();
        format!("{}/api/v1/{}", self.base, path.join("/"))
    }

    fn call_get(&self, url: &str) -> Result<Response<Body>, String> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        request.call().map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &ureq::Error) -> String {
        format!(
            "{}: {error}; is the server running, with this admin listener? See --url, and \"admin\" in its configuration",
            self.base
        )
    }

    /// The response, if it is no error.
    fn accepted(&self, response: Response<Body>) -> Result<Response<Body>, String> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = read(response).unwrap_or_default();
        let said = serde_json::from_str::<Value>(&text).ok();
        let lines = |value: &Value| {
            let lines = value["errors"].as_array()?.iter().filter_map(Value::as_str);
            Some(lines.collect::<Vec<_>>().join("\n"))
        };
        let why = said
            .as_ref()
            .and_then(|said| said["error"].as_str().map(str::to_owned).or_else(|| lines(said)));
        let remedy = if status.as_u16() == 401 { "; give the token by --token-file" } else { "" };
        Err(format!("{}: {status}: {}{remedy}", self.base, why.as_deref().unwrap_or(text.trim())))
    }

    fn json(&self, response: Response<Body>) -> Result<Value, String> {
        let text = read(self.accepted(response)?)?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .map_err(|error| format!("{}: this is no admin listener of hrotti: {error}", self.base))
    }
}

/// Ends the program when the reader of its standard output goes (`| head`), although no event comes that could not be
/// written.
#[cfg(unix)]
fn end_with_the_reader() {
    use rustix::event::{PollFd, PollFlags, poll};
    // Without the thread, the next event ends the program.
    let _ = std::thread::Builder::new().name("reader".to_owned()).spawn(|| {
        let out = io::stdout();
        let mut watched = [PollFd::new(&out, PollFlags::empty())];
        let gone = PollFlags::ERR | PollFlags::HUP;
        if poll(&mut watched, None).is_ok() && watched[0].revents().intersects(gone) {
            std::process::exit(0);
        }
    });
}

#[cfg(not(unix))]
fn end_with_the_reader() {}

fn queried(query: &[(&str, String)]) -> String {
    if query.is_empty() {
        return String::new();
    }
    let mut text = form_urlencoded::Serializer::new(String::from("?"));
    for (key, value) in query {
        text.append_pair(key, value);
    }
    text.finish().replacen("?&", "?", 1)
}

fn read(response: Response<Body>) -> Result<String, String> {
    response
        .into_body()
        .read_to_string()
        .map_err(|error| format!("the answer cannot be read: {error}"))
}
