//! One request and its response, over a socket that blocks, on a thread of the policy's own.
//!
//! It is written here because what it needs of HTTP is little: `ureq`, which would do, hands every byte that it sends
//! to the logger at the level of traces, and these bytes are passwords.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use url::Url;

/// The status line and the headers of a response are at most so long.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// Why there is no answer. It goes to logs, so it holds nothing of request or response.
pub(super) type Why = &'static str;

const LATE: Why = "it did not answer in time";
const NO_HTTP: Why = "its answer is no HTTP";

/// A response: its status, and its body if that was wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Sends a POST and reads the response until `deadline`. The body is read if the status is 200 and `body_bytes_max` is
/// given. Redirections are not followed.
///
/// The resolver of the operating system has its own deadline: a host name whose servers hang occupies the thread for
/// longer.
pub(super) fn post(
    url: &Url,
    content_type: &str,
    content: &[u8],
    deadline: Instant,
    body_bytes_max: Option<usize>,
) -> Result<Response, Why> {
    let mut stream = connect(url, deadline)?;
    let head = head(url, content_type, content.len());
    for bytes in [head.as_bytes(), content] {
        let limit = stream.set_write_timeout(Some(left(deadline)?));
        limit.and_then(|()| stream.write_all(bytes)).map_err(|_| "it did not take the request")?;
    }
    let mut reader = Reader { stream, deadline, read: Vec::new() };
    let (status, framing, head) = loop {
        match parse_head(&reader.read)? {
            Some(found) => break found,
            None if reader.read.len() > HEAD_BYTES_MAX => return Err("its headers are too long"),
            None if reader.more()? == 0 => return Err(NO_HTTP),
            None => {}
        }
    };
    let Some(most) = body_bytes_max.filter(|_| status == 200) else {
        return Ok(Response { status, body: Vec::new() });
    };
    reader.read.drain(..head);
    Ok(Response { status, body: reader.body(framing, most)? })
}

/// What is left of the time.
fn left(deadline: Instant) -> Result<Duration, Why> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(LATE) } else { Ok(left) }
}

fn connect(url: &Url, deadline: Instant) -> Result<TcpStream, Why> {
    let addresses = url.socket_addrs(|| None).map_err(|_| "its host name has no address")?;
    let mut why = "its host name has no address";
    for address in addresses {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(_) => why = "it accepts no connection",
        }
    }
    Err(why)
}

fn head(url: &Url, content_type: &str, length: usize) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = url.path();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!(
        "POST {path}{query} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: hrotti\r\nAccept: */*\r\n\
         Connection: close\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// Status, framing and length of the head; `None` if it has not arrived whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(u16, Framing, usize)>, Why> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(NO_HTTP),
    };
    let mut framing = Framing::Close;
    for header in &*response.headers {
        let length = header.name.eq_ignore_ascii_case("content-length");
        let coding = header.name.eq_ignore_ascii_case("transfer-encoding");
        if !length && !coding {
            continue;
        }
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        let found = if coding && value.eq_ignore_ascii_case("chunked") {
            Framing::Chunked
        } else if length && value.bytes().all(|byte| byte.is_ascii_digit()) {
            Framing::Length(value.parse().map_err(|_| NO_HTTP)?)
        } else {
            return Err(NO_HTTP);
        };
        if framing != Framing::Close && framing != found {
            return Err(NO_HTTP);
        }
        framing = found;
    }
    Ok(Some((response.code.ok_or(NO_HTTP)?, framing, length)))
}

struct Reader {
    stream: TcpStream,
    deadline: Instant,
    /// What has been read and not used.
    read: Vec<u8>,
}

impl Reader {
    /// Reads what has arrived, and returns the number of bytes; 0 at the end.
    fn more(&mut self) -> Result<usize, Why> {
        let mut buffer = [0; 4_096];
        let limit = self.stream.set_read_timeout(Some(left(self.deadline)?));
        let read = limit.and_then(|()| self.stream.read(&mut buffer));
        let length = read.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => LATE,
            _ => "the connection to it broke",
        })?;
        self.read.extend_from_slice(&buffer[..length]);
        Ok(length)
    }

    fn body(mut self, framing: Framing, most: usize) -> Result<Vec<u8>, Why> {
        match framing {
            Framing::Length(length) if length > most => Err("its answer is too long"),
            Framing::Length(length) => self.take(length),
            Framing::Chunked => self.chunks(most),
            Framing::Close => {
                while self.more()? > 0 {
                    if self.read.len() > most {
                        return Err("its answer is too long");
                    }
                }
                Ok(self.read)
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Why> {
        while self.read.len() < length {
            if self.more()? == 0 {
                return Err("its answer ends early");
            }
        }
        Ok(self.read.drain(..length).collect())
    }

    fn chunks(&mut self, most: usize) -> Result<Vec<u8>, Why> {
        let mut body = Vec::new();
        loop {
            let (line, length) = match httparse::parse_chunk_size(&self.read) {
                Ok(httparse::Status::Complete((line, length))) => (line, length),
                Ok(httparse::Status::Partial) if self.read.len() <= HEAD_BYTES_MAX => {
                    if self.more()? == 0 {
                        return Err("its answer ends early");
                    }
                    continue;
                }
                _ => return Err(NO_HTTP),
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > most - body.len() {
                return Err("its answer is too long");
            }
            self.read.drain(..line);
            if length == 0 {
                return Ok(body); // trailers are not read
            }
            body.extend(self.take(length)?);
            if self.take(2)? != b"\r\n" {
                return Err(NO_HTTP);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_a_body_is_said_in_one_way_or_not_at_all() {
        let of = |headers: &str| {
            let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
            parse_head(text.as_bytes()).map(|found| found.map(|(_, framing, _)| framing))
        };
        assert_eq!(of(""), Ok(Some(Framing::Close)));
        assert_eq!(of("content-length: 7\r\n"), Ok(Some(Framing::Length(7))));
        assert_eq!(of("Content-Length: 7\r\nContent-Length: 7\r\n"), Ok(Some(Framing::Length(7))));
        assert_eq!(of("Transfer-Encoding: Chunked\r\n"), Ok(Some(Framing::Chunked)));
        for headers in [
            "Content-Length: 7\r\nContent-Length: 8\r\n",
            "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: -7\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Transfer-Encoding: gzip\r\n",
            "no header\r\n",
        ] {
            assert_eq!(of(headers), Err(NO_HTTP), "{headers}");
        }
        assert_eq!(parse_head(b"HTTP/1.1 200"), Ok(None));
        assert_eq!(parse_head(b"SSH-2.0-x\r\n"), Err(NO_HTTP));
    }

    #[test]
    fn a_request_names_host_path_and_query() {
        let url = Url::parse("http://[::1]:8080/auth?key=7").expect("a URL");
        let head = head(&url, "text/plain", 3);
        assert!(head.starts_with("POST /auth?key=7 HTTP/1.1\r\nHost: [::1]:8080\r\n"), "{head}");
        assert!(head.ends_with("\r\nContent-Length: 3\r\n\r\n"), "{head}");
    }

    proptest! {
        #[test]
        fn reading_a_head_is_total(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "\\PC{0,60}") {
            let _ = parse_head(&bytes);
            let _ = parse_head(format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\n").as_bytes());
        }
    }
}
