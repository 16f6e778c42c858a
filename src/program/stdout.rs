//! A standard output that nobody reads any more (`hrotti | head`) must not end the program, although femme
//! panics where it cannot write: what is written goes through a pipe of our own, whose reader never ends
//! before its writers do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::thread::{Builder, JoinHandle};

/// Stands between the standard output and whoever reads it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    original: File,
    pump: Option<JoinHandle<()>>,
}

impl Guard {
    /// Puts the pipe in place of the standard output.
    ///
    /// # Errors
    /// Where the system has no descriptor or thread left; the standard output is as it was.
    pub(crate) fn new() -> io::Result<Guard> {
        let original = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (reader, writer) = io::pipe()?;
        let output = original.try_clone()?;
        let pump = Builder::new().name("stdout".to_owned()).spawn(move || pump(reader, output))?;
        io::stdout().flush()?;
        // The only writer left is the standard output: `writer` is dropped here.
        rustix::stdio::dup2_stdout(&writer)?;
        Ok(Guard { original, pump: Some(pump) })
    }
}

impl Drop for Guard {
    /// Puts the standard output back, and waits until all that was written is passed on.
    fn drop(&mut self) {
        let _ = io::stdout().flush();
        let restored = rustix::stdio::dup2_stdout(&self.original);
        if restored.is_ok()
            && let Some(pump) = self.pump.take()
        {
            let _ = pump.join();
        }
    }
}

/// Passes everything on; once that fails, reads on for nobody.
fn pump(mut reader: impl Read, output: impl Write) {
    let mut output = Some(output);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                let failed = output
                    .as_mut()
                    .is_some_and(|output| output.write_all(&buffer[..read]).is_err());
                if failed {
                    output = None;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closes {
        after: usize,
        written: Vec<u8>,
    }

    impl Write for &mut Closes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.written.len() >= self.after {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_passed_on_and_read_to_its_end_when_nobody_listens() {
        let text = vec![7; 100_000];
        let mut open = Closes { after: usize::MAX, written: Vec::new() };
        pump(text.as_slice(), &mut open);
        assert_eq!(open.written, text);

        let mut closed = Closes { after: 20_000, written: Vec::new() };
        let mut rest = text.as_slice();
        pump(&mut rest, &mut closed);
        assert!(rest.is_empty());
        assert_eq!(closed.written.len(), 2 * 16 * 1024);
    }
}
