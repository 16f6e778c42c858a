//! Runs the cases against a broker of this process, and keeps what they send.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hrotti::Broker;
use hrotti_conformance::runner::{self, Job};
use hrotti_conformance::{Endpoint, Fixture, Target, Tcp, Ws, cases};

/// No case is waited for any longer: what it has sent by then is kept.
const CASE_TIME: Duration = Duration::from_secs(20);
const WORKERS: usize = 8;

/// What came on one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    pub(crate) ws: bool,
    pub(crate) bytes: Vec<u8>,
}

/// What one case sent.
pub(crate) struct Recorded {
    pub(crate) case: String,
    pub(crate) streams: Vec<Stream>,
}

type Streams = Arc<Mutex<Vec<Arc<Mutex<Stream>>>>>;

/// A broker behind a listener that keeps what comes.
struct Recorder {
    _broker: Broker,
    endpoint: Endpoint,
    streams: Streams,
}

impl Target for Recorder {
    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }
}

impl Recorder {
    fn new(ws: bool) -> io::Result<Recorder> {
        let broker = if ws { Ws::broker() } else { Tcp::broker() };
        let to = match if ws { Ws::bind(&broker)? } else { Tcp::bind(&broker)? } {
            Endpoint::Tcp(address) => address,
            Endpoint::Ws(url) => (Ipv4Addr::LOCALHOST, url.port().unwrap_or(80)).into(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let scheme = if ws { "ws" } else { "tcp" };
        let endpoint = Endpoint::parse(&format!("{scheme}://{address}"))?;
        let streams = Streams::default();
        let kept = streams.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let stream = Arc::new(Mutex::new(Stream { ws, bytes: Vec::new() }));
                lock(&kept).push(stream.clone());
                let Ok(server) = TcpStream::connect(to) else { continue };
                let (Ok(reads), Ok(writes)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                thread::spawn(move || {
                    carry(reads, writes, |bytes| lock(&stream).bytes.extend_from_slice(bytes));
                });
                thread::spawn(move || carry(server, client, |_| {}));
            }
        });
        Ok(Recorder { _broker: broker, endpoint, streams })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries bytes until one side ends.
fn carry(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut buf = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buf) {
        keep(&buf[..n]);
        if to.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    // The other side may have ended it before.
    let _ = to.shutdown(Shutdown::Write);
}

/// Every case over tcp, and those of a few chapters over WebSockets.
pub(crate) fn record() -> Vec<Recorded> {
    let over_ws = ["ws", "stream", "connect"];
    let tcp = cases().into_iter().map(|case| (case, false));
    let ws = cases().into_iter().filter(|case| over_ws.contains(&case.chapter));
    let mut recorders = Vec::new();
    let mut jobs = Vec::new();
    for (case, ws) in tcp.chain(ws.map(|case| (case, true))) {
        match Recorder::new(ws) {
            Ok(recorder) => {
                let recorder = Arc::new(recorder);
                jobs.push(Job { case, target: recorder.clone() });
                recorders.push(recorder);
            }
            Err(error) => eprintln!("{}::{}: {error}", case.chapter, case.name),
        }
    }
    runner::run(&jobs, WORKERS, CASE_TIME, |_| {});
    let recorded = jobs.iter().zip(recorders).map(|(job, recorder)| Recorded {
        case: format!("{}-{}", job.case.chapter, job.case.name),
        streams: lock(&recorder.streams).iter().map(|stream| lock(stream).clone()).collect(),
    });
    recorded.collect()
}
