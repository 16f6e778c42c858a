//! What must hold after every action, when everybody is quiet, and when the broker has stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::testing::{Connector, Direction};
use hrotti::{DropReason, Limits, ProtocolVersion};
use hrotti_conformance::codec::{Connect, Packet, Subscribe, Version, decode};

use crate::device::{Connection, Device, Party, Phase};
use crate::model::SHARES;
use crate::story::{STALL_MAX, Story};

/// How long everybody may take to become quiet, in seconds.
const QUIET_WITHIN: u64 = 900;

/// What is wrong.
pub(crate) type Wrong = String;

impl Story {
    pub(crate) fn check(&mut self) -> Result<(), Wrong> {
        let faults = std::mem::take(&mut self.party.lock().unwrap().model.faults);
        if !faults.is_empty() {
            return Err(faults[..faults.len().min(5)].join("\n"));
        }
        let ordered = |text: &String| text == "a panic that was ordered";
        if let Some(text) = self.world.panics().iter().find(|text| !ordered(text)) {
            return Err(format!("a task of the broker panicked: {text}"));
        }
        self.check_books()
    }

    fn check_books(&self) -> Result<(), Wrong> {
        let ledger = self.broker.ledger();
        let (sessions, counters) = (self.broker.sessions(), self.broker.counters());
        let limits = self.broker.limits();
        if !ledger.balances() {
            return Err(format!("the books do not balance: {ledger}"));
        }
        let (mut waiting, mut inflight, mut subscriptions) = (0, 0, 0);
        for session in &sessions {
            waiting += session.ledger.waiting;
            inflight += session.ledger.inflight;
            subscriptions += session.subscriptions;
            let same = session.ledger.waiting == session.waiting as u64
                && session.ledger.inflight == session.inflight as u64;
            // One message of QoS 0 may pass a full queue that waits for acknowledgements.
            let bounded = session.waiting <= limits.max_queue_depth + 1
                && session.inflight <= usize::from(limits.max_inflight)
                && (session.receiving <= usize::from(limits.receive_maximum)
                    || session.version != Some(ProtocolVersion::V5))
                && session.subscriptions <= limits.session_subscriptions_max;
            if !same || !bounded || !session.ledger.balances() {
                return Err(format!("a Session beyond its bounds or books: {session:?}"));
            }
        }
        if (waiting, inflight) != (ledger.waiting, ledger.inflight) {
            return Err(format!("Sessions have {waiting} and {inflight}, the books say {ledger}"));
        }
        let bounded = counters.retained_messages <= limits.retained_messages_max
            && counters.retained_bytes <= limits.retained_bytes_max
            && counters.sessions >= sessions.len()
            && counters.subscriptions >= subscriptions
            && counters.unauthenticated_bytes <= limits.unauthenticated_bytes_max;
        if bounded { Ok(()) } else { Err(format!("counters beyond their bounds: {counters:?}")) }
    }

    /// Waits until nothing is on its way, with everybody reading; then everything has been answered.
    pub(crate) fn settle(&mut self) -> Result<(), Wrong> {
        self.say(|| "everybody reads".to_owned());
        {
            let mut party = self.party.lock().unwrap();
            for device in 0..party.devices.len() {
                party.release(device);
            }
            for connection in &mut party.connections {
                connection.reads = true;
                connection.wake();
            }
        }
        // No stall lasts longer.
        self.advance(STALL_MAX + Duration::from_secs(1));
        for _ in 0..QUIET_WITHIN {
            if self.unanswered().is_none() {
                self.party.lock().unwrap().model.wills_are_said();
                return self.check();
            }
            self.advance(Duration::from_secs(1));
            self.check()?;
        }
        Err(self.unanswered().unwrap_or_default())
    }

    /// A connection on which something is to be answered or delivered.
    fn unanswered(&self) -> Option<Wrong> {
        let party = self.party.lock().unwrap();
        let sessions = self.broker.sessions();
        for (number, device) in party.devices.iter().enumerate() {
            let Some(current) = device.current else { continue };
            let connection = &party.connections[current];
            let session = sessions.iter().find(|s| s.client_id == device.id && s.connected);
            let waits = session.is_some_and(|s| s.waiting + s.inflight > 0);
            let held = session.is_none() || waits;
            if connection.is_busy() || !device.outgoing.is_empty() || held {
                return Some(format!(
                    "d{number} on connection {current} is not answered: {:?} pings {} requests {:?} \
                     out {} outgoing {} session {session:?} excuse {:?}",
                    connection.phase,
                    connection.pings,
                    connection.requests,
                    connection.out.len(),
                    device.outgoing.len(),
                    connection.excuse
                ));
            }
        }
        None
    }

    /// Everybody comes back and gets what is due.
    pub(crate) fn finale(&mut self) -> Result<(), Wrong> {
        self.settle()?;
        let healthy = self.world.listen(&self.broker, "healthy").unwrap();
        self.say(|| "everybody comes back".to_owned());
        let devices = self.party.lock().unwrap().devices.len();
        for device in 0..devices {
            let mut party = self.party.lock().unwrap();
            party.model.tick += 1;
            if party.devices[device].current.is_none() {
                drop(party);
                self.connect(device, Some(&healthy));
            }
        }
        self.settle()?;
        self.check_losses()?;
        let mut party = self.party.lock().unwrap();
        let Party { model, devices, .. } = &mut *party;
        model.check_once(devices);
        model.check_order(devices);
        model.check_newest_last(devices);
        drop(party);
        self.check_retained(&healthy);
        self.check()
    }

    fn check_losses(&mut self) -> Result<(), Wrong> {
        let party = self.party.lock().unwrap();
        let sessions = self.broker.sessions();
        for (number, device) in party.devices.iter().enumerate() {
            let missing = party.model.missing(number, device);
            let Some(session) = sessions.iter().find(|s| s.client_id == device.id) else {
                continue; // a broken connection has ended it meanwhile
            };
            let books = &session.ledger;
            let kept = books.waiting + books.inflight; // of a device that was cut off meanwhile
            let dropped = books.dropped_total() - books.dropped(DropReason::Away);
            let counted = kept + dropped + books.expired;
            if missing.len() as u64 > counted {
                return Err(format!("d{number} did not get {missing:?}: {books}"));
            }
        }
        let books = self.broker.ledger();
        let counted = books.dropped_total() - books.dropped(DropReason::Away) + books.expired;
        for share in SHARES {
            let members: Vec<(usize, &Device)> = party
                .devices
                .iter()
                .enumerate()
                .filter(|(_, device)| device.shares == Some(share))
                .collect();
            if members.iter().any(|(_, device)| device.lossy) {
                continue;
            }
            let missing = party.model.missing_in(&members);
            if missing.len() as u64 > counted {
                return Err(format!("nobody of {share:?} got {missing:?}: {books}"));
            }
        }
        self.figures.messages = party.model.messages.len() as u64;
        self.figures.deliveries = party.model.deliveries.len() as u64;
        self.figures.dropped = books.dropped_total();
        Ok(())
    }

    /// A new client asks for all that is retained.
    fn check_retained(&mut self, connector: &Connector) {
        let mut given = BTreeMap::new();
        let asked = async {
            let mut stream = connector.connect()?;
            stream.write_all(&Connect::new(Version::V311, "asks").encode()).await?;
            stream.write_all(&Subscribe::to("#", 0).encode(Version::V311, 1)).await?;
            let mut bytes = Vec::new();
            let mut buffer = [0; 4_096];
            while let Ok(read) = stream.read(&mut buffer).await {
                bytes.extend_from_slice(&buffer[..read]);
                while let Ok(Some((packet, len))) = decode(&bytes, Version::V311) {
                    bytes.drain(..len);
                    if let Packet::Publish(publish) = packet
                        && publish.retain
                    {
                        given.insert(publish.topic, publish.payload);
                    }
                }
            }
            std::io::Result::Ok(())
        };
        let _open = self.world.timeout(Duration::from_secs(3), asked);
        let full = self.broker.counters().retained_refused > 0;
        self.party.lock().unwrap().model.check_retained(&given, full);
    }

    /// The broker stops, in one of some ways.
    pub(crate) fn end(&mut self) -> Result<(), Wrong> {
        {
            let mut party = self.party.lock().unwrap();
            for connection in &mut party.connections {
                connection.excuse.get_or_insert("broker stopped");
            }
        }
        let devices = self.party.lock().unwrap().devices.len();
        for device in 0..devices {
            let number = self.party.lock().unwrap().connected(device);
            if let Some(number) = number {
                self.publish(device, number);
                if self.dice.one_in(3) {
                    let party = self.party.lock().unwrap();
                    party.connections[number].link.stall(Direction::ToClient);
                }
            }
        }
        self.say(|| "the broker stops".to_owned());
        let within = self.dice.up_to(Duration::from_secs(4));
        let broker = self.broker.clone();
        let stopped = match self.dice.below(3) {
            0 => self.world.timeout(Duration::from_secs(10), broker.stop()),
            1 => self.world.timeout(Duration::from_secs(10), broker.stop_within(within)),
            _ => {
                let (one, other) = (broker.stop(), broker.stop_within(within));
                let both = futures_lite::future::zip(one, other);
                self.world.timeout(Duration::from_secs(10), both).map(|_| ())
            }
        };
        if stopped.is_none() {
            return Err("the broker does not stop".to_owned());
        }
        let party = self.party.lock().unwrap();
        for connection in &party.connections {
            Direction::BOTH.iter().for_each(|&direction| connection.link.resume(direction));
        }
        drop(party);
        self.world.advance(Duration::from_secs(30));
        self.check()?;
        let (ledger, counters) = (self.broker.ledger(), self.broker.counters());
        let empty = ledger.waiting + ledger.inflight == 0
            && (counters.sessions, counters.subscriptions, counters.connections) == (0, 0, 0)
            && counters.unauthenticated_bytes == 0;
        if !empty {
            return Err(format!("a stopped broker holds {counters:?}: {ledger}"));
        }
        let refused = |connector: &Connector| connector.connect().is_err();
        if !self.listeners.iter().flatten().all(refused) {
            return Err("a stopped broker can be dialled".to_owned());
        }
        drop(broker);
        self.broker = self.world.broker(Limits::default()); // drops the last handle
        self.world.advance(Duration::from_secs(1));
        let over = |c: &Connection| c.phase == Phase::Over;
        let left = self.party.lock().unwrap().connections.iter().filter(|c| !over(c)).count();
        if left > 0 || self.world.tasks() > 1 {
            let tasks = self.world.tasks() - 1;
            return Err(format!("{left} connections and {tasks} tasks outlive the broker"));
        }
        self.figures.virtual_secs = self.world.now().as_secs();
        Ok(())
    }
}
