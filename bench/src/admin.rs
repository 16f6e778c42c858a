//! The tool's side of an admin listener: one connection that asks for `/metrics`, and a thread that
//! does so at an interval, as a Prometheus server would.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than this is no page of metrics.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A connection that stays open from one scrape to the next.
#[derive(Debug)]
pub(crate) struct Admin {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Admin {
    /// # Errors
    ///
    /// When nothing listens there.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
        Ok(Self { stream: BufReader::new(stream), request })
    }

    /// Asks once; the text of all metrics.
    ///
    /// # Errors
    ///
    /// When the answer is not status 200 with a length, or does not come within ten seconds.
    pub(crate) fn metrics(&mut self) -> io::Result<String> {
        self.stream.get_mut().write_all(self.request.as_bytes())?;
        let status = self.line()?;
        if status.split_whitespace().nth(1) != Some("200") {
            return Err(io::Error::other(format!("/metrics answers {status:?}")));
        }
        let mut length = None;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            length = length.or_else(|| content_length(&line));
        }
        let length = length.filter(|&length| length <= BODY_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("/metrics names no length"))?;
        let mut body = String::new();
        self.stream.by_ref().take(length).read_to_string(&mut body)?;
        if body.len() as u64 == length { Ok(body) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// A line of the head, without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.by_ref().take(8192).read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

fn content_length(line: &str) -> Option<u64> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
}

/// The value of a metric without labels.
pub(crate) fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Scrapes on a thread of its own until it is finished or dropped.
#[derive(Debug)]
pub(crate) struct Scraper {
    /// Its end ends the thread.
    stop: Sender<()>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Scraper {
    /// Scrapes at once, and then at this interval.
    pub(crate) fn start(address: SocketAddr, interval: Duration) -> Self {
        let (stop, stopped) = channel::<()>();
        let thread = thread::spawn(move || {
            let mut admin = Admin::open(address)?;
            let (mut due, mut scrapes) = (Instant::now(), 0);
            loop {
                admin.metrics()?;
                scrapes += 1;
                due += interval;
                let pause = due.saturating_duration_since(Instant::now());
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return Ok(scrapes);
                }
            }
        });
        Self { stop, thread }
    }

    /// Ends it; how often it has scraped, which is at least once.
    ///
    /// # Errors
    ///
    /// When a scrape failed.
    pub(crate) fn finish(self) -> io::Result<u64> {
        drop(self.stop);
        let seen = self.thread.join();
        let seen = seen.unwrap_or_else(|_| Err(io::Error::other("the scraper broke down")));
        seen.map_err(|error| io::Error::new(error.kind(), format!("a scrape failed: {error}")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// Answers requests on one connection, each with the next of these; then it closes.
    pub(crate) fn serve(answers: Vec<String>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            for answer in answers {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                assert_eq!(line, "GET /metrics HTTP/1.1\r\n");
                while !line.trim_end().is_empty() {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                }
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    pub(crate) fn page(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn a_connection_is_asked_again() {
        let mut admin = Admin::open(serve(vec![page("a 1\n"), page("a 22\n")])).unwrap();
        assert_eq!(admin.metrics().unwrap(), "a 1\n");
        assert_eq!(admin.metrics().unwrap(), "a 22\n");
        assert!(admin.metrics().is_err(), "the connection is closed");
    }

    #[test]
    fn what_is_no_page_of_metrics_is_an_error() {
        let error = |answer: &str| {
            let mut admin = Admin::open(serve(vec![answer.to_owned()])).unwrap();
            admin.metrics().unwrap_err().to_string()
        };
        let refused = error("HTTP/1.1 401 Unauthorized\r\n\r\n");
        assert_eq!(refused, "/metrics answers \"HTTP/1.1 401 Unauthorized\"");
        assert_eq!(error("HTTP/1.1 200 OK\r\n\r\nx"), "/metrics names no length");
        assert!(!error("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort").is_empty());
    }

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP a x\na_b 7\na{c=\"d\"} 8\na 9\n";
        assert_eq!(
            (value(text, "a"), value(text, "a_b"), value(text, "b")),
            (Some(9.0), Some(7.0), None)
        );
    }

    #[test]
    fn a_scraper_counts_and_tells_of_a_failure() {
        let scraper = Scraper::start(serve(vec![page("x")]), Duration::from_secs(3600));
        assert_eq!(scraper.finish().unwrap(), 1, "once, however soon it is finished");
        let scraper = Scraper::start(serve(vec![page("x")]), Duration::ZERO);
        while !scraper.thread.is_finished() {
            thread::yield_now();
        }
        let error = scraper.finish().unwrap_err().to_string();
        assert!(error.starts_with("a scrape failed: "), "{error}");
    }
}
