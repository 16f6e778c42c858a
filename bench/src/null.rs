//! The null broker: the cheapest relay that still frames PUBLISH, as the floor under the others.
//!
//! It answers CONNECT, SUBSCRIBE, UNSUBSCRIBE and PINGREQ of 3.1.1 and 5, hands on at QoS 0 what
//! comes, as it comes, and knows nothing else: no sessions, no QoS, no WebSocket, no checks, no
//! bounds. One thread. What one read brings goes out in one write per subscriber, without a copy
//! where it has one topic only.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};

use crate::codec::{Frame, frame, properties, put_packet};
use crate::link::{Link, ReadBuffer};
use crate::load::{Needs, Setting};
use crate::poll::{Poll, Ready};
use crate::target::Transport;

/// The poll's name of the listener; connections count from 0.
const LISTENER: usize = usize::MAX - 1;

#[derive(Default)]
struct Null {
    links: HashMap<usize, Link>,
    /// What the read at hand has for whom, while it has several topics.
    pending: HashMap<usize, Vec<u8>>,
    /// Whose entry there is not empty.
    waiting: Vec<usize>,
    /// Who speaks MQTT 5.
    modern: HashSet<usize>,
    /// Who has subscribed to a filter; those with a wildcard apart, since all of them are tried.
    exact: HashMap<Vec<u8>, Vec<usize>>,
    wild: HashMap<Vec<u8>, Vec<usize>>,
    /// Who gets a topic; forgotten with every change of the subscriptions.
    routes: HashMap<Vec<u8>, Vec<usize>>,
    next: usize,
}

/// Whether a load can run against the null broker.
pub(crate) fn can(needs: Needs) -> bool {
    let is_open = needs.transport == Transport::Tcp && needs.setting == Setting::Open;
    is_open && needs.qos == 0 && !needs.retained
}

/// Listens on a free port of the loopback interface, prints where, and relays until it is ended.
///
/// # Errors
///
/// When it cannot listen, or the kernel gives no more descriptors.
pub(crate) fn serve() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening: null tcp://{}", listener.local_addr()?);
    relay_on(&listener)
}

fn relay_on(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(listener, LISTENER)?;
    let (mut null, mut buffer, mut ready) = (Null::default(), ReadBuffer::new(), Vec::new());
    loop {
        poll.wait(&mut ready)?;
        for &event in &ready {
            if event.token == LISTENER {
                null.accept(listener, &poll)?;
            } else if null.handle(event, &mut buffer).is_err() {
                null.forget(event.token);
            }
        }
    }
}

impl Null {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let link = Link::accepted(stream)?;
                    poll.add(&link, self.next)?;
                    self.links.insert(self.next, link);
                    self.next += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn handle(&mut self, event: Ready, buffer: &mut ReadBuffer) -> io::Result<()> {
        // Taken out, so that it may write to itself like to any other.
        let Some(mut link) = self.links.remove(&event.token) else { return Ok(()) };
        if event.writable {
            link.flush()?;
        }
        let mut answer = Vec::new();
        let mut own = Vec::new();
        if event.readable {
            link.receive_bytes(buffer, |bytes| {
                self.take(event.token, bytes, &mut answer, &mut own)
            })?;
        }
        answer.append(&mut own);
        if !answer.is_empty() {
            link.send(&answer)?;
        }
        self.links.insert(event.token, link);
        Ok(())
    }

    /// Relays the whole packets in `bytes`; returns how many bytes those were.
    fn take(
        &mut self,
        from: usize,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        own: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let mut used = 0;
        let (mut run_begin, mut run_topic): (usize, &[u8]) = (0, &[]);
        while let Some(Frame { head, body, len }) = frame(&bytes[used..])? {
            let topic = if head >> 4 == 3 { string(body)? } else { &[] };
            if topic != run_topic {
                self.relay(from, run_topic, &bytes[run_begin..used], false, own);
                (run_begin, run_topic) = (used, topic);
            }
            if head >> 4 != 3 {
                self.answer(from, head, body, answer)?;
            }
            used += len;
        }
        self.relay(from, run_topic, &bytes[run_begin..used], self.waiting.is_empty(), own);
        for token in std::mem::take(&mut self.waiting) {
            let Some(pending) = self.pending.get_mut(&token) else { continue };
            if let Some(link) = self.links.get_mut(&token) {
                // A broken connection is found and forgotten when the poll reports it.
                let _ = link.send(pending);
            }
            pending.clear();
        }
        Ok(used)
    }

    /// Answers anything but PUBLISH. What no load at QoS 0 sends, such as HTTP, is an error.
    fn answer(
        &mut self,
        from: usize,
        head: u8,
        body: &[u8],
        answer: &mut Vec<u8>,
    ) -> io::Result<()> {
        match (head >> 4, body) {
            (1, &[0, 4, b'M', b'Q', b'T', b'T', level, ..]) => {
                if level == 5 {
                    self.modern.insert(from);
                    answer.extend([0x20, 3, 0, 0, 0]);
                } else {
                    answer.extend([0x20, 2, 0, 0]);
                }
            }
            (8 | 10, &[high, low, ref rest @ ..]) => {
                let is_modern = self.modern.contains(&from);
                let mut filters = if is_modern { properties(rest)?.1 } else { rest };
                let mut codes = Vec::new();
                while !filters.is_empty() {
                    let filter = string(filters)?;
                    // A filter in SUBSCRIBE is followed by its options.
                    let options = usize::from(head >> 4 == 8);
                    filters = filters.get(2 + filter.len() + options..).unwrap_or_default();
                    let subscribers = self.subscribers(filter);
                    subscribers.retain(|&subscriber| subscriber != from);
                    if head >> 4 == 8 {
                        subscribers.push(from);
                    }
                    codes.push(0);
                }
                if head >> 4 == 10 && !is_modern {
                    codes.clear();
                }
                put_answer(answer, head, is_modern, [high, low], &codes);
            }
            (12, _) => answer.extend([0xd0, 0]),
            _ => return Err(ErrorKind::ConnectionAborted.into()),
        }
        Ok(())
    }

    /// Those of a filter, about to change.
    fn subscribers(&mut self, filter: &[u8]) -> &mut Vec<usize> {
        self.routes.clear();
        let is_wild = filter.iter().any(|byte| matches!(byte, b'+' | b'#'));
        let map = if is_wild { &mut self.wild } else { &mut self.exact };
        map.entry(filter.to_vec()).or_default()
    }

    /// Sends these packets of one topic to all who want it, at once or with the others of this
    /// read.
    fn relay(
        &mut self,
        from: usize,
        topic: &[u8],
        packets: &[u8],
        at_once: bool,
        own: &mut Vec<u8>,
    ) {
        if topic.is_empty() || packets.is_empty() {
            return;
        }
        if !self.routes.contains_key(topic) {
            let wild = self.wild.iter().filter(|(filter, _)| fits(filter, topic));
            let wanting = self.exact.get(topic).into_iter().chain(wild.map(|(_, tokens)| tokens));
            self.routes.insert(topic.to_vec(), wanting.flatten().copied().collect());
        }
        for &token in self.routes.get(topic).into_iter().flatten() {
            if token == from {
                own.extend_from_slice(packets);
            } else if !at_once {
                let pending = self.pending.entry(token).or_default();
                if pending.is_empty() {
                    self.waiting.push(token);
                }
                pending.extend_from_slice(packets);
            } else if let Some(link) = self.links.get_mut(&token) {
                // A broken connection is found and forgotten when the poll reports it.
                let _ = link.send(packets);
            }
        }
    }

    fn forget(&mut self, token: usize) {
        self.links.remove(&token);
        self.modern.remove(&token);
        for map in [&mut self.exact, &mut self.wild] {
            map.retain(|_, tokens| {
                tokens.retain(|&subscriber| subscriber != token);
                !tokens.is_empty()
            });
        }
        self.pending.remove(&token);
        self.routes.clear();
    }
}

/// SUBACK or UNSUBACK.
fn put_answer(out: &mut Vec<u8>, asked: u8, is_modern: bool, packet_id: [u8; 2], codes: &[u8]) {
    let properties: &[u8] = if is_modern { &[0] } else { &[] };
    put_packet(out, (asked & 0xf0) + 0x10, &[&packet_id, properties, codes].concat());
}

/// Whether a topic fits a filter; `$` means nothing special here.
fn fits(filter: &[u8], topic: &[u8]) -> bool {
    let mut levels = topic.split(|&byte| byte == b'/');
    for wanted in filter.split(|&byte| byte == b'/') {
        match (wanted, levels.next()) {
            (b"#", _) => return true,
            (_, None) => return false,
            (wanted, Some(level)) if wanted != b"+" && wanted != level => return false,
            _ => {}
        }
    }
    levels.next().is_none()
}

/// The string with a length before it at the start of `bytes`.
fn string(bytes: &[u8]) -> io::Result<&[u8]> {
    let text = bytes
        .split_first_chunk::<2>()
        .and_then(|(len, rest)| rest.get(..usize::from(u16::from_be_bytes(*len))));
    text.ok_or_else(|| ErrorKind::InvalidData.into())
}

/// A null broker on a thread of this process.
#[cfg(test)]
pub(crate) fn in_process() -> crate::target::Target {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || relay_on(&listener));
    let pid = Some(std::process::id());
    crate::target::Target { pid, ..crate::target::Target::at(Transport::Tcp, address) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, Version};

    #[test]
    fn filters_fit_their_topics() {
        for (filter, topic, wanted) in [
            ("bench/+", "bench/0001", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("b/+", "a/1", false),
            ("mesh/+/03", "mesh/07/03", true),
            ("mesh/+/03", "mesh/07/04", false),
            ("mesh/07/#", "mesh/07/04", true),
            ("mesh/07/#", "mesh/07", true),
            ("mesh/+", "mesh/07/04", false),
            ("mesh/07/04/+", "mesh/07/04", false),
            ("#", "a/b", true),
        ] {
            assert_eq!(fits(filter.as_bytes(), topic.as_bytes()), wanted, "{filter} {topic}");
        }
    }

    #[test]
    fn a_client_of_mqtt_5_is_answered_in_its_own_words() {
        let mut null = Null::default();
        let mut bytes = codec::connect_as(Version::V5, "c", 0);
        bytes.extend(codec::subscribe_as(Version::V5, 9, "t", 1));
        bytes.extend(b"\xa2\x06\x00\x0a\x00\x00\x01t");
        let (mut answer, mut own) = (Vec::new(), Vec::new());
        null.take(0, &bytes, &mut answer, &mut own).unwrap();
        assert_eq!(answer, b"\x20\x03\x00\x00\x00\x90\x04\x00\x09\x00\x00\xb0\x04\x00\x0a\x00\x00");
        assert!(null.exact.values().all(Vec::is_empty));
    }

    #[test]
    fn what_it_cannot_serve_is_refused() {
        let request = crate::ws::request("127.0.0.1:80".parse().unwrap());
        let (mut answer, mut own) = (Vec::new(), Vec::new());
        let taken = Null::default().take(0, request.as_bytes(), &mut answer, &mut own);
        assert!(taken.is_err());
        let needs = Needs { version: Version::V5, ..Needs::over(Transport::Tcp) };
        assert!(can(needs));
        assert!(!can(Needs { transport: Transport::Ws, ..needs }));
        assert!(!can(Needs { setting: Setting::Rules, ..needs }));
        assert!(!can(Needs { qos: 1, ..needs }));
        assert!(!can(Needs { retained: true, ..needs }));
    }

    #[test]
    fn a_client_is_answered_and_hears_itself() {
        let mut null = Null::default();
        let mut bytes = codec::connect("c", 0);
        bytes.extend(codec::subscribe(9, "t", 0));
        let publish = b"\x30\x04\x00\x01tx";
        bytes.extend(publish);
        bytes.extend(b"\x30\x04\x00\x01ux\x30\x04");
        let (mut answer, mut own) = (Vec::new(), Vec::new());
        let used = null.take(0, &bytes, &mut answer, &mut own).unwrap();
        assert_eq!(used, bytes.len() - 2);
        assert_eq!(answer, b"\x20\x02\x00\x00\x90\x03\x00\x09\x00");
        assert_eq!(own, publish);
        let unsubscribe = codec::unsubscribe(10, "t");
        let used = null.take(0, &unsubscribe, &mut answer, &mut own).unwrap();
        assert_eq!((used, &answer[9..]), (unsubscribe.len(), &b"\xb0\x02\x00\x0a"[..]));
        null.take(0, publish, &mut answer, &mut own).unwrap();
        assert_eq!(own, publish);
        null.forget(0);
        assert!(null.exact.is_empty());
    }
}
