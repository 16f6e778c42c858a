//! Reads the records of a state one by one. Any bytes are a value or an error; nothing is allocated for what is merely
//! announced.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{
    Clocks, HEAD_BYTES, HeldBy, HeldByUser, MAGIC, PREFIX_BYTES, SessionRecord, StateError,
    StateSummary, Tag, VERSION,
};
use crate::message::Message;
use crate::packet::properties::is_forwarded_alone;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::session::handed::{Backlog, SessionHead};
use crate::session::inflight::InflightState;
use crate::session::queue::Delivery;
use crate::subscription::{ShareGroup, Subscription};
use crate::topic::TopicFilter;

/// The longest Client Identifier, user name or mount point.
const TEXT_BYTES_MAX: usize = 65_535;

/// The largest Subscription Identifier (section 3.8.2.1.2).
const SUBSCRIPTION_ID_MAX: u32 = 268_435_455;

/// What some records together say.
#[derive(Debug)]
pub(crate) enum Item {
    Retained(Message),
    Session(Box<SessionRecord>),
    /// A shared subscription. [`Decoder::identify`] says by which identity its messages refer to it.
    Shared(TopicFilter),
    /// The messages of the Session with this number.
    Backlog(usize, Box<Backlog>),
    /// There is no more.
    End(StateSummary),
}

/// What was wrong, without the place.
type Wrong = &'static str;

/// Records that belong to one value, as far as they were read.
enum Open {
    Nothing,
    Session(Box<SessionRecord>),
    Backlog(usize, Box<Backlog>),
}

/// Puts the records of a state together.
pub(crate) struct Decoder {
    clocks: Clocks,
    /// Bytes before the next record.
    at: u64,
    messages: Vec<Message>,
    shares: Vec<Arc<ShareGroup>>,
    open: Open,
    sessions: usize,
    /// The Session of the last backlog.
    last_backlog: Option<usize>,
    summary: StateSummary,
}

/// The kind of the record that begins with `head`, and the length of its body.
///
/// # Errors
/// The kind is not known.
pub(crate) fn head(head: &[u8; HEAD_BYTES]) -> Result<(Tag, u64), Wrong> {
    let [tag, length @ ..] = head;
    let tag = Tag::ALL.into_iter().find(|known| *known as u8 == *tag);
    Ok((tag.ok_or("an unknown kind of record")?, u64::from_be_bytes(*length)))
}

impl Decoder {
    /// Begins with the bytes before the first record.
    ///
    /// # Errors
    /// They are not those of a state, or of another version.
    pub(crate) fn new(prefix: &[u8; PREFIX_BYTES], clocks: Clocks) -> Result<Decoder, StateError> {
        let (magic, version) = prefix.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(StateError::NotAState);
        }
        let version = version.iter().fold(0, |all, byte| all << 8 | u16::from(*byte));
        if version != VERSION {
            return Err(StateError::Version(version));
        }
        Ok(Decoder {
            clocks,
            at: PREFIX_BYTES as u64,
            messages: Vec::new(),
            shares: Vec::new(),
            open: Open::Nothing,
            sessions: 0,
            last_backlog: None,
            summary: StateSummary::default(),
        })
    }

    /// What is wrong, with the place of the record that is read next.
    pub(crate) fn malformed(&self, what: &'static str) -> StateError {
        StateError::Malformed { at: self.at, what }
    }

    /// Takes a record, and returns the values that are complete by now: one whose records have ended, and one of this
    /// record alone.
    ///
    /// # Errors
    /// The record is not valid; the state cannot be read any further.
    pub(crate) fn record(
        &mut self,
        tag: Tag,
        body: &[u8],
    ) -> Result<[Option<Item>; 2], StateError> {
        let part = matches!(
            tag,
            Tag::Message | Tag::Subscription | Tag::Replay | Tag::Inflight | Tag::Queued
        );
        let ended = if part { None } else { self.close()? };
        let mut reader = Reader(body);
        let item = self.read(tag, &mut reader).and_then(|item| {
            if reader.0.is_empty() { Ok(item) } else { Err("a record is longer than its values") }
        });
        let item = item.map_err(|what| self.malformed(what))?;
        self.at = self.at.saturating_add((HEAD_BYTES + body.len()) as u64);
        Ok([ended, item])
    }

    /// Sets the identity of the shared subscription that was read last.
    pub(crate) fn identify(&mut self, identity: Arc<ShareGroup>) {
        if let Some(last) = self.shares.last_mut() {
            *last = identity;
        }
    }

    /// Gives out the value whose records have ended.
    fn close(&mut self) -> Result<Option<Item>, StateError> {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => Ok(None),
            Open::Session(record) => Ok(Some(Item::Session(record))),
            Open::Backlog(session, backlog) => match backlog.inflight.fault() {
                Some(what) => Err(self.malformed(what)),
                None => Ok(Some(Item::Backlog(session, backlog))),
            },
        }
    }

    fn read(&mut self, tag: Tag, reader: &mut Reader<'_>) -> Result<Option<Item>, Wrong> {
        match tag {
            Tag::Message => self.message(reader)?,
            Tag::Retained => {
                let message = self.message_of(reader)?;
                if message.payload().is_empty() {
                    return Err("a retained message without a payload");
                }
                self.summary.retained += 1;
                return Ok(Some(Item::Retained(message)));
            }
            Tag::Session => {
                if self.last_backlog.is_some() || !self.shares.is_empty() {
                    return Err("a Session after the messages of Sessions");
                }
                self.open = Open::Session(Box::new(self.session(reader)?));
                self.sessions += 1;
                self.summary.sessions += 1;
            }
            Tag::Subscription => {
                let (filter, subscription) = subscription(reader)?;
                self.session_record()?.head.subscriptions.push((filter, subscription));
            }
            Tag::Replay => {
                let filter = reader.filter()?;
                let after = reader.option(|reader| Ok(reader.text()?.into()))?;
                self.session_record()?.head.replays.push((filter, after));
            }
            Tag::Shared => {
                let filter = reader.filter()?;
                if !filter.is_shared() {
                    return Err("no Topic Filter of a shared subscription");
                }
                self.shares.push(Arc::default());
                return Ok(Some(Item::Shared(filter)));
            }
            Tag::Backlog => self.backlog(reader)?,
            Tag::Inflight => {
                let serial = reader.u64()?;
                let released = reader.0.is_empty();
                let delivery = if released { None } else { Some(self.delivery(reader)?) };
                self.open_backlog()?.inflight.sent.push((serial, delivery));
            }
            Tag::Queued => {
                let delivery = self.delivery(reader)?;
                self.open_backlog()?.queue.push(delivery);
            }
            Tag::End => return self.end(reader).map(Some),
        }
        Ok(None)
    }

    fn session_record(&mut self) -> Result<&mut SessionRecord, Wrong> {
        match &mut self.open {
            Open::Session(record) => Ok(record),
            _ => Err("a record of a Session without one"),
        }
    }

    fn open_backlog(&mut self) -> Result<&mut Backlog, Wrong> {
        match &mut self.open {
            Open::Backlog(_, backlog) => Ok(backlog),
            _ => Err("a message of a Session without one"),
        }
    }

    fn message(&mut self, reader: &mut Reader<'_>) -> Result<(), Wrong> {
        let (qos, retain) = reader.flags()?;
        let clocks = self.clocks;
        let expiry =
            reader.option(|reader| Ok((reader.u32()?, clocks.moment_of(reader.u64()?))))?;
        let (topic, properties) = (reader.text()?, reader.bytes()?);
        if !is_forwarded_alone(properties) {
            return Err("the properties of a message are not valid");
        }
        let payload = std::mem::take(&mut reader.0);
        let message = Message::restored(topic, properties, payload, expiry);
        let message = message.map_err(|_| "a text is no Topic Name")?;
        self.messages.push(message.with_qos(qos).with_retain(retain));
        self.summary.messages += 1;
        Ok(())
    }

    fn message_of(&self, reader: &mut Reader<'_>) -> Result<Message, Wrong> {
        let number = reader.u32()? as usize;
        self.messages.get(number).cloned().ok_or("a message that was not read")
    }

    fn session(&self, reader: &mut Reader<'_>) -> Result<SessionRecord, Wrong> {
        let client_id: Arc<str> = reader.short_text()?.into();
        if client_id.is_empty() || client_id.contains('\0') {
            return Err("no Client Identifier");
        }
        let user = match reader.u8()? {
            0 => HeldByUser::Unchecked,
            1 => HeldByUser::Anonymous,
            2 => HeldByUser::Named(reader.short_text()?.into()),
            _ => return Err("an unknown kind of user"),
        };
        let mount = reader.option(|reader| Ok(reader.short_text()?.into()))?;
        let (expiry_secs, ends_at) = (reader.u32()?, self.clocks.moment_of(reader.u64()?));
        let will = reader.option(|reader| {
            Ok((self.message_of(reader)?, self.clocks.moment_of(reader.u64()?)))
        })?;
        let mut received: Vec<u16> = Vec::new();
        while !reader.0.is_empty() {
            let id = reader.u16()?;
            if id <= received.last().copied().unwrap_or_default() {
                return Err("Packet Identifiers are not in ascending order");
            }
            received.push(id);
        }
        let (subscriptions, replays) = (Vec::new(), Vec::new());
        let head =
            SessionHead { client_id, expiry_secs, ends_at, will, received, subscriptions, replays };
        Ok(SessionRecord { head, held_by: HeldBy { user, mount } })
    }

    fn backlog(&mut self, reader: &mut Reader<'_>) -> Result<(), Wrong> {
        let session = reader.u32()? as usize;
        let (issued, begun, accepted) = (reader.u64()?, reader.u64()?, reader.u64()?);
        if session >= self.sessions || self.last_backlog.is_some_and(|last| session <= last) {
            return Err("messages of a Session that was not read, or out of order");
        }
        self.last_backlog = Some(session);
        let inflight = InflightState { issued, begun, accepted, sent: Vec::new() };
        self.open = Open::Backlog(session, Box::new(Backlog { inflight, queue: Vec::new() }));
        Ok(())
    }

    fn delivery(&self, reader: &mut Reader<'_>) -> Result<Delivery, Wrong> {
        let message = self.message_of(reader)?;
        let (qos, retain) = reader.flags()?;
        let shared = match reader.u32()? as usize {
            0 => None,
            number => {
                let known = self.shares.get(number - 1);
                Some(known.ok_or("a shared subscription that was not read")?.clone())
            }
        };
        let mut ids = Vec::new();
        while !reader.0.is_empty() {
            ids.push(reader.u32()?);
        }
        if ids.iter().any(|id| !(1..=SUBSCRIPTION_ID_MAX).contains(id)) {
            return Err("no Subscription Identifier");
        }
        let ids = (!ids.is_empty()).then(|| ids.into());
        Ok(Delivery { message, qos, retain, ids, shared })
    }

    fn end(&mut self, reader: &mut Reader<'_>) -> Result<Item, Wrong> {
        let said = StateSummary {
            sessions: reader.u64()?,
            messages: reader.u64()?,
            retained: reader.u64()?,
        };
        if said != self.summary {
            return Err("the end names other numbers of records than there were");
        }
        Ok(Item::End(said))
    }
}

fn subscription(reader: &mut Reader<'_>) -> Result<(TopicFilter, Subscription), Wrong> {
    let filter = reader.filter()?;
    let bits = reader.u8()?;
    let mut options =
        SubscriptionOptions::with_qos(QoS::from_bits(bits & 3).ok_or("an unknown QoS")?);
    options.no_local = bits & 4 != 0;
    options.retain_as_published = bits & 8 != 0;
    options.retain_handling = match bits >> 4 {
        0 => RetainHandling::SendAlways,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err("an unknown Retain Handling"),
    };
    if options.no_local && filter.is_shared() {
        return Err("No Local on a shared subscription");
    }
    let id = reader.u32()?;
    if id > SUBSCRIPTION_ID_MAX {
        return Err("no Subscription Identifier");
    }
    Ok((filter, Subscription { options, id: NonZeroU32::new(id) }))
}

/// The rest of a record.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or("a record is shorter than its values")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        self.take(N)?.try_into().map_err(|_| "a record is shorter than its values")
    }

    fn u8(&mut self) -> Result<u8, Wrong> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Wrong> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Wrong> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Wrong> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Wrong> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    fn text(&mut self) -> Result<&'a str, Wrong> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is no UTF-8")
    }

    fn short_text(&mut self) -> Result<&'a str, Wrong> {
        let text = self.text()?;
        if text.len() > TEXT_BYTES_MAX { Err("a text is too long") } else { Ok(text) }
    }

    fn filter(&mut self) -> Result<TopicFilter, Wrong> {
        TopicFilter::new(self.text()?).map_err(|_| "a text is no Topic Filter")
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err("a flag is neither 0 nor 1"),
        }
    }

    /// QoS and RETAIN.
    fn flags(&mut self) -> Result<(QoS, bool), Wrong> {
        let bits = self.u8()?;
        if bits > 7 {
            return Err("unknown flags");
        }
        Ok((QoS::from_bits(bits & 3).ok_or("an unknown QoS")?, bits & 4 != 0))
    }
}
