//! A bounded queue of log lines, with a thread that writes them to a stream. Traffic never waits for the reader of a
//! log: a line that finds the queue full is lost and counted, and the count is written when the stream is read again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// Bytes of lines that may wait for one stream. At the limit, lines are lost and counted until half of the queue is
/// free.
pub(crate) const LOG_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Time that the end of the program gives each stream to write its waiting lines. Lines that are unwritten then are
/// lost.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of lines that are taken out at once.
const WRITTEN_AT_ONCE: usize = 64 * 1024;

/// The queue of one stream.
pub(crate) struct Lines {
    state: Mutex<State>,
    /// Signalled where the writer or the end of the program may wait for a change.
    changed: Condvar,
    /// Makes the line that tells how many lines were lost.
    lost_line: fn(u64) -> String,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Lost lines that were not reported yet.
    lost: u64,
    full: bool,
    writing: bool,
}

impl Lines {
    fn new(lost_line: fn(u64) -> String) -> Lines {
        Lines { state: Mutex::default(), changed: Condvar::new(), lost_line }
    }

    /// A queue with a thread of this name that writes to `output`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(
        name: &str,
        output: Arc<File>,
        lost_line: fn(u64) -> String,
    ) -> io::Result<Arc<Lines>> {
        let lines = Arc::new(Lines::new(lost_line));
        let queue = lines.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || queue.write_to(&output))?;
        Ok(lines)
    }

    /// Adds a line, which has its newline. Never waits for the stream.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes <= LOG_QUEUE_BYTES_MAX / 2 {
            state.full = false;
        }
        if state.full || line.len() > LOG_QUEUE_BYTES_MAX - state.bytes {
            state.full = true;
            state.lost += 1;
        } else {
            state.tell_losses(self.lost_line);
            state.add(line);
        }
        self.changed.notify_all();
    }

    /// Waits until all lines are written, for at most [`LOG_FLUSH_TIMEOUT`].
    pub(crate) fn flush(&self) {
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty() || state.lost > 0;
        drop(self.changed.wait_timeout_while(self.lock(), LOG_FLUSH_TIMEOUT, busy));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes for as long as the process lives. Once that fails, takes lines out and writes no more.
    fn write_to(&self, output: &File) {
        let mut closed = false;
        let mut batch = Vec::new();
        loop {
            self.take(&mut batch);
            closed = closed || write_all(output, &batch).is_err();
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits for lines, and takes some out.
    fn take(&self, batch: &mut Vec<u8>) {
        batch.clear();
        let idle = |state: &mut State| state.waiting.is_empty() && state.lost == 0;
        let state = self.changed.wait_while(self.lock(), idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            state.tell_losses(self.lost_line);
        }
        while let Some(line) = state.waiting.pop_front() {
            state.bytes -= line.len();
            batch.extend_from_slice(&line);
            if batch.len() >= WRITTEN_AT_ONCE {
                break;
            }
        }
        state.writing = true;
    }
}

impl State {
    fn add(&mut self, line: &[u8]) {
        self.bytes += line.len();
        self.waiting.push_back(line.into());
    }

    /// Where the lines that were lost would have been.
    fn tell_losses(&mut self, lost_line: fn(u64) -> String) {
        if self.lost > 0 {
            let line = lost_line(std::mem::take(&mut self.lost));
            self.add(line.as_bytes());
        }
    }
}

/// Writes everything, also to a stream that another program has made non-blocking.
fn write_all(mut output: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&output, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn lost_line(count: u64) -> String {
        format!("{count} lines were lost\n")
    }

    fn taken(lines: &Lines) -> String {
        let mut batch = Vec::new();
        lines.take(&mut batch);
        String::from_utf8(batch).expect("UTF-8")
    }

    #[test]
    fn a_line_that_finds_the_queue_full_is_lost_and_counted() {
        let lines = Lines::new(lost_line);
        let line = [b'x'; 1024];
        for _ in 0..LOG_QUEUE_BYTES_MAX / line.len() + 7 {
            lines.push(&line);
        }
        assert_eq!(lines.lock().bytes, LOG_QUEUE_BYTES_MAX);
        assert_eq!(lines.lock().lost, 7);
        // Until half of the queue is free, all that comes is lost.
        assert_eq!(taken(&lines).len(), WRITTEN_AT_ONCE);
        lines.push(b"still lost\n");
        assert_eq!(lines.lock().lost, 8);
        while lines.lock().bytes > LOG_QUEUE_BYTES_MAX / 2 {
            taken(&lines);
        }
        lines.push(b"again\n");
        let mut rest = String::new();
        while lines.lock().bytes > 0 {
            rest.push_str(&taken(&lines));
        }
        assert!(rest.ends_with("x8 lines were lost\nagain\n"), "{rest}");
        assert_eq!(lines.lock().lost, 0);
    }

    #[test]
    fn losses_are_told_although_no_further_line_comes() {
        let lines = Lines::new(lost_line);
        lines.push(b"before\n");
        lines.push(&vec![b'x'; LOG_QUEUE_BYTES_MAX + 1]);
        assert_eq!(taken(&lines), "before\n");
        assert_eq!(taken(&lines), "1 lines were lost\n");
    }

    #[test]
    fn a_stream_that_nobody_reads_holds_up_neither_lines_nor_the_end() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let output = Arc::new(File::from(std::os::fd::OwnedFd::from(writer)));
        let lines = Lines::start("test", output, lost_line).expect("a thread");
        for _ in 0..3 * LOG_QUEUE_BYTES_MAX / 64 {
            lines.push(&[b"x".repeat(63).as_slice(), b"\n"].concat());
        }
        lines.flush();
        assert!(lines.lock().bytes > 0, "the flush has given up");
        let mut text = String::new();
        let mut some = vec![0; 64 * 1024];
        while !text.contains(" lines were lost\n") {
            let read = reader.read(&mut some).expect("lines");
            text.push_str(std::str::from_utf8(&some[..read]).expect("ASCII"));
        }
        assert!(text.lines().all(|line| line.len() == 63 || line.ends_with("lost")));
        lines.flush();
        assert_eq!(lines.lock().bytes, 0);
    }

    #[test]
    fn a_closed_stream_keeps_nothing() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let output = Arc::new(File::from(std::os::fd::OwnedFd::from(writer)));
        let lines = Lines::start("test", output, lost_line).expect("a thread");
        lines.push(b"x\n");
        lines.flush();
        lines.push(b"x\n");
        lines.flush();
        let state = lines.lock();
        assert_eq!((state.bytes, state.lost), (0, 0));
    }
}
