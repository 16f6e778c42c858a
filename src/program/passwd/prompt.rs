//! Asks for a password twice without showing it, or reads it from a pipe.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use hrotti::access::Secret;

use super::Failure;

/// A longer line is no password (section 1.5.6: at most 65 535 bytes).
const BYTES_MAX: u64 = 65_537;

/// The password: typed twice at a terminal, or one line of a pipe.
pub(super) fn password() -> Result<Secret, Failure> {
    if !io::stdin().is_terminal() {
        return from_pipe();
    }
    let first = ask("Password: ")?;
    if first.bytes().is_empty() {
        return Ok(first); // The caller says what is wrong with it.
    }
    let second = ask("The same again: ")?;
    if !first.equals(second.bytes()) {
        return Err("the two passwords are not the same; try again".to_owned().into());
    }
    Ok(first)
}

fn from_pipe() -> Result<Secret, Failure> {
    let mut line = zeroed_line();
    let read = io::stdin().lock().take(BYTES_MAX).read_until(b'\n', &mut line);
    read.map_err(|error| format!("the password cannot be read: {error}"))?;
    let end = line.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    let password = Secret::new(&line[..end]);
    line.fill(0);
    Ok(password)
}

/// Room for a whole line: a vector that grows leaves copies of the password behind.
fn zeroed_line() -> Vec<u8> {
    Vec::with_capacity(usize::try_from(BYTES_MAX).unwrap_or(0))
}

#[cfg(unix)]
fn ask(prompt: &str) -> Result<Secret, Failure> {
    let hidden = terminal::Hidden::new()
        .map_err(|error| format!("the terminal cannot hide a password: {error}; use a pipe"))?;
    let _ = write!(io::stderr(), "{prompt}");
    let typed = typed(io::stdin().lock().bytes());
    drop(hidden);
    let _ = writeln!(io::stderr());
    match typed.map_err(|error| format!("the password cannot be read: {error}"))? {
        Some(password) => Ok(password),
        None => Err(Failure::Interrupted),
    }
}

#[cfg(not(unix))]
fn ask(_: &str) -> Result<Secret, Failure> {
    Err("a password can be asked for on Unix only; send it through a pipe".to_owned().into())
}

/// What is typed up to the end of the line; `None` if it is interrupted. The terminal edits nothing and sends no
/// signal meanwhile, so that an interrupt leaves it as it was.
#[cfg_attr(not(unix), allow(dead_code))]
fn typed(keys: impl Iterator<Item = io::Result<u8>>) -> io::Result<Option<Secret>> {
    const INTERRUPT: u8 = 0x03;
    const END: u8 = 0x04;
    const BACKSPACE: u8 = 0x08;
    const DELETE: u8 = 0x7f;
    const CLEAR: u8 = 0x15;
    let mut line = zeroed_line();
    let mut interrupted = false;
    for key in keys {
        match key? {
            b'\r' | b'\n' | END => break,
            INTERRUPT => {
                interrupted = true;
                break;
            }
            CLEAR => line.clear(),
            BACKSPACE | DELETE => {
                // A whole character: its later bytes begin with the bits 10.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            key if line.len() < line.capacity() => line.push(key),
            _ => {}
        }
    }
    let password = Secret::new(&line);
    line.fill(0);
    Ok((!interrupted).then_some(password))
}

#[cfg(unix)]
mod terminal {
    use std::io;

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    /// Shows nothing of what is typed, until it is dropped.
    pub(super) struct Hidden(Termios);

    impl Hidden {
        pub(super) fn new() -> io::Result<Hidden> {
            let before = tcgetattr(io::stdin())?;
            let mut hidden = before.clone();
            hidden.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
            tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
            Ok(Hidden(before))
        }
    }

    impl Drop for Hidden {
        fn drop(&mut self) {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(keys: &[u8]) -> Option<Vec<u8>> {
        let typed = typed(keys.iter().map(|key| Ok(*key))).expect("no error of the terminal");
        typed.map(|password| password.bytes().to_vec())
    }

    #[test]
    fn keys_that_edit_the_line_are_no_part_of_the_password() {
        for (keys, password) in [
            (&b"secret\nrest"[..], &b"secret"[..]),
            (b"secret\r", b"secret"),
            (b"secret", b"secret"),
            (b"\n", b""),
            (b"\x7f\x08sex\x7fcret\n", b"secret"),
            ("sö\x7f\x08é\n".as_bytes(), "é".as_bytes()),
            (b"wrong\x15secret\x04", b"secret"),
            (b" a b \n", b" a b "),
        ] {
            assert_eq!(type_in(keys).as_deref(), Some(password), "{keys:?}");
        }
    }

    #[test]
    fn an_interrupt_gives_no_password() {
        assert_eq!(type_in(b"secr\x03et\n"), None);
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let typed = type_in(&vec![b'x'; 1_000_000]).expect("a password");
        assert!((65_536..100_000).contains(&typed.len()), "{}", typed.len());
    }
}
