//! Sockets that systemd has bound for the program: each belongs to the listener that its name (`FileDescriptorName=` of
//! the socket unit) says.

use std::env;

use hrotti::ListeningSocket;
use hrotti::config::Config;
use hrotti::server::Adopted;
use listenfd::ListenFd;

/// The variable with the names of the sockets, colons between them.
const NAMES: &str = "LISTEN_FDNAMES";

/// Takes the sockets, once in the life of the process.
///
/// # Errors
/// One line each: a socket whose name is that of no listener, or one that does not listen for streams.
pub(crate) fn take(config: &Config) -> Result<Adopted, Vec<String>> {
    let names = env::var(NAMES).unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let listeners: Vec<&str> = config.listeners.iter().map(|(name, _)| name.as_str()).collect();
    let (mut adopted, mut errors) = (Adopted::keeping_files(), Vec::new());
    for index in 0..sockets.len() {
        let given = names.split(':').nth(index).unwrap_or_default();
        match listener_of(given, &listeners)
            .and_then(|name| Ok((name, socket(&mut sockets, index, given)?)))
        {
            Ok((name, socket)) => adopted.add(name, socket),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(adopted) } else { Err(errors) }
}

/// The listener for a socket of this name. A single listener takes sockets of any name: that of a socket unit which says
/// none is the name of the unit.
fn listener_of<'l>(given: &str, listeners: &[&'l str]) -> Result<&'l str, String> {
    if let [only] = listeners {
        return Ok(only);
    }
    listeners.iter().find(|name| **name == given).copied().ok_or_else(|| {
        format!(
            "a socket of systemd is named {given:?}, and no listener is; set FileDescriptorName= of its unit to one of {}",
            listeners.join(", ")
        )
    })
}

fn socket(sockets: &mut ListenFd, index: usize, name: &str) -> Result<ListeningSocket, String> {
    if let Ok(Some(tcp)) = sockets.take_tcp_listener(index) {
        return Ok(ListeningSocket::Tcp(tcp));
    }
    if let Ok(Some(unix)) = sockets.take_unix_listener(index) {
        return Ok(ListeningSocket::Unix(unix));
    }
    Err(format!(
        "the socket {name:?} of systemd does not listen for streams; its unit needs ListenStream= and no Accept=yes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_belongs_to_the_listener_of_its_name_or_to_the_only_one() {
        assert_eq!(listener_of("ws", &["tcp", "ws"]), Ok("ws"));
        assert_eq!(listener_of("hrotti.socket", &["tcp"]), Ok("tcp"));
        let error = listener_of("hrotti.socket", &["tcp", "ws"]).expect_err("two listeners");
        for part in ["\"hrotti.socket\"", "FileDescriptorName=", "tcp, ws"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
