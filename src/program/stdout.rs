//! Keeps a standard output that is not read, or whose reader has gone (`hrotti | head`), from holding up or ending the
//! program, although femme waits for a full standard output and panics on a closed one. Output goes through a pipe of
//! our own; a thread that never waits for anything else reads it and passes the lines to [`Lines`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::lines::{LOG_QUEUE_BYTES_MAX, Lines};

/// Stands between the standard output and its reader, until it is dropped.
pub(crate) struct Guard {
    original: Arc<File>,
    lines: Arc<Lines>,
    cutter: Option<JoinHandle<()>>,
}

impl Guard {
    /// Replaces the standard output by the pipe. `lost_line` makes the line that tells how many lines were lost.
    ///
    /// # Errors
    /// The system has no descriptor or thread left; the standard output is as it was.
    pub(crate) fn new(lost_line: fn(u64) -> String) -> io::Result<Guard> {
        let original = Arc::new(File::from(io::stdout().as_fd().try_clone_to_owned()?));
        let (reader, writer) = io::pipe()?;
        let lines = Lines::start("stdout", original.clone(), lost_line)?;
        let queue = lines.clone();
        let cutter = Builder::new().name("stdout-lines".to_owned());
        let cutter = cutter.spawn(move || cut(reader, |line| queue.push(line)))?;
        io::stdout().flush()?;
        // The only writer left is the standard output: `writer` is dropped here.
        rustix::stdio::dup2_stdout(&writer)?;
        Ok(Guard { original, lines, cutter: Some(cutter) })
    }
}

impl Drop for Guard {
    /// Restores the standard output, and gives its reader a moment to take the waiting lines.
    fn drop(&mut self) {
        let _ = io::stdout().flush();
        let restored = rustix::stdio::dup2_stdout(&*self.original);
        if restored.is_ok()
            && let Some(cutter) = self.cutter.take()
        {
            // Its pipe has ended, and it waits for nothing else.
            let _ = cutter.join();
        }
        self.lines.flush();
    }
}

/// Reads to the end and cuts the bytes into lines. Of a line that is too long for the queue it keeps only as many
/// bytes as show that.
fn cut(mut reader: impl Read, mut push: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    let mut begun: Vec<u8> = Vec::new();
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for piece in buffer[..read].split_inclusive(|&byte| byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if ends && begun.is_empty() {
                push(piece);
                continue;
            }
            if begun.len() <= LOG_QUEUE_BYTES_MAX {
                begun.extend_from_slice(piece);
            }
            if ends {
                push(&begun);
                begun = Vec::new();
            }
        }
    }
    if !begun.is_empty() {
        push(&begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes at once.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let some = self.1.min(buffer.len());
            Read::take(&mut self.0, some as u64).read(buffer)
        }
    }

    #[test]
    fn lines_are_cut_wherever_the_pieces_end() {
        let text = b"one\n\ntwo and three\nno end";
        for size in 1..=text.len() {
            let mut lines: Vec<Vec<u8>> = Vec::new();
            cut(Pieces(text, size), |line| lines.push(line.to_vec()));
            assert_eq!(lines, [&b"one\n"[..], b"\n", b"two and three\n", b"no end"], "{size}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept_whole() {
        let mut text = vec![b'x'; 10 * LOG_QUEUE_BYTES_MAX];
        text.extend_from_slice(b"\nnext\n");
        let mut lengths = Vec::new();
        cut(text.as_slice(), |line| lengths.push(line.len()));
        assert_eq!(lengths.len(), 2);
        assert!((LOG_QUEUE_BYTES_MAX + 1..=LOG_QUEUE_BYTES_MAX + 64 * 1024).contains(&lengths[0]));
        assert_eq!(lengths[1], 5);
    }
}
