//! What a broker has moved: packets and bytes in both directions, connections, ends.
//!
//! Counting is split over shards, one for each thread while there are no more threads than shards, so that two event
//! loops do not write to one cache line. Each turn or batch counts in plain integers and adds its sums once.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::packet::PacketType;
use crate::packet::kind::PacketCounts;

/// More shards than a machine is likely to have busy workers.
const SHARDS: usize = 16;

/// What a broker has moved since it was made. [`Broker::traffic`](crate::Broker::traffic) returns it.
///
/// Bytes are those of MQTT: inside of TLS and of WebSocket frames. A packet counts as received when it is whole and
/// is carried out, and as sent when the transport has taken its last byte, by whichever task wrote it. An in-process
/// [`Client`](crate::Client) exchanges no packets and is not in these numbers; the [`Ledger`](crate::Ledger) has its
/// messages. What a limit refused is in the [`Counters`](crate::Counters).
///
/// ```
/// use futures_lite::future::block_on;
/// use futures_lite::{AsyncReadExt, AsyncWriteExt};
/// use hrotti::transport::memory::MemoryTransport;
/// use hrotti::{Broker, PacketType};
///
/// block_on(async {
///     let broker = Broker::new(100);
///     let (transport, connector) = MemoryTransport::new("inside", 1024);
///     broker.add_transport("inside", transport).await?;
///     let mut stream = connector.connect()?;
///     stream.write_all(b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03dev").await?;
///     stream.read_exact(&mut [0; 4]).await?;
///
///     let traffic = broker.traffic();
///     assert_eq!(traffic.packets_received(PacketType::Connect), 1);
///     assert_eq!((traffic.bytes_received, traffic.connects_accepted), (17, 1));
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    received: PacketCounts,
    sent: PacketCounts,
    /// Bytes that were read from Clients, with those of packets that are not whole or not valid.
    pub bytes_received: u64,
    /// Bytes that transports have taken.
    pub bytes_sent: u64,
    /// Bytes of the payloads of PUBLISH packets that were received, with those of packets that were refused.
    pub payload_bytes_received: u64,
    /// Bytes of the payloads of PUBLISH packets that were sent.
    pub payload_bytes_sent: u64,
    /// Peers that listeners have accepted, whether a CONNECT followed or not.
    pub sockets_accepted: u64,
    /// Peers that are there now: those before CONNECT, the connected ones, and those whose connection is being closed.
    pub sockets: u64,
    /// CONNECTs that were accepted.
    pub connects_accepted: u64,
    /// Accepted connections that the Client ended by DISCONNECT.
    pub disconnects_by_client: u64,
    /// Accepted connections that ended without DISCONNECT: the Client or the network closed or broke the transport.
    pub disconnects_lost: u64,
    /// Accepted connections that the Server ended: a limit, an error of the Client, the access rules, a stop.
    pub disconnects_by_server: u64,
    /// Accepted connections that ended because another CONNECT had the same Client Identifier, or because their Session
    /// was ended.
    pub disconnects_taken_over: u64,
    /// The most Network Connections with an accepted CONNECT that there were at a time.
    pub connections_most: usize,
    /// The most Sessions that there were at a time, whether their Clients were connected or not.
    pub sessions_most: usize,
    /// Sessions that ended because their Session Expiry Interval had passed.
    pub sessions_expired: u64,
}

impl Traffic {
    /// Packets of this type that Clients have sent. Types that only a Server may send are never received.
    #[must_use]
    pub fn packets_received(&self, packet: PacketType) -> u64 {
        self.received.of(packet)
    }

    /// Packets of this type that were sent to Clients.
    #[must_use]
    pub fn packets_sent(&self, packet: PacketType) -> u64 {
        self.sent.of(packet)
    }

    /// Packets of any type that Clients have sent.
    #[must_use]
    pub fn packets_received_total(&self) -> u64 {
        self.received.total()
    }

    /// Packets of any type that were sent to Clients.
    #[must_use]
    pub fn packets_sent_total(&self) -> u64 {
        self.sent.total()
    }
}

/// Each number, and the packets by type.
impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct ByType<'a>(&'a PacketCounts);
        impl fmt::Debug for ByType<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let each = self.0.present();
                f.debug_map().entries(each.map(|(packet, n)| (packet.to_string(), n))).finish()
            }
        }
        f.debug_struct("Traffic")
            .field("packets_received", &ByType(&self.received))
            .field("packets_sent", &ByType(&self.sent))
            .field("bytes_received", &self.bytes_received)
            .field("bytes_sent", &self.bytes_sent)
            .field("payload_bytes_received", &self.payload_bytes_received)
            .field("payload_bytes_sent", &self.payload_bytes_sent)
            .field("sockets_accepted", &self.sockets_accepted)
            .field("sockets", &self.sockets)
            .field("connects_accepted", &self.connects_accepted)
            .field("disconnects_by_client", &self.disconnects_by_client)
            .field("disconnects_lost", &self.disconnects_lost)
            .field("disconnects_by_server", &self.disconnects_by_server)
            .field("disconnects_taken_over", &self.disconnects_taken_over)
            .field("connections_most", &self.connections_most)
            .field("sessions_most", &self.sessions_most)
            .field("sessions_expired", &self.sessions_expired)
            .finish()
    }
}

/// How a Network Connection with an accepted CONNECT ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndedBy {
    Client,
    Loss,
    Server,
    Takeover,
}

/// One direction of one turn or batch, in plain integers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moved {
    pub(crate) packets: PacketCounts,
    pub(crate) payload_bytes: u64,
    pub(crate) bytes: u64,
}

/// One direction of one shard.
#[derive(Debug, Default)]
struct Direction {
    packets: [AtomicU64; 16],
    payload_bytes: AtomicU64,
    bytes: AtomicU64,
}

/// Two cache lines at least: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    received: Direction,
    sent: Direction,
}

/// The traffic as tasks count it.
#[derive(Debug, Default)]
pub(crate) struct TrafficCounts {
    shards: [Shard; SHARDS],
    sockets_accepted: AtomicU64,
    sockets_gone: AtomicU64,
    connects_accepted: AtomicU64,
    /// By [`EndedBy`].
    ended: [AtomicU64; 4],
    connections_most: AtomicUsize,
    sessions_expired: AtomicU64,
}

impl TrafficCounts {
    /// Adds what a turn has read. Called once for a read.
    pub(crate) fn received(&self, moved: &Moved) {
        self.shard().received.add(moved);
    }

    /// Adds what a transport has taken. Called once for a write.
    pub(crate) fn sent(&self, moved: &Moved) {
        self.shard().sent.add(moved);
    }

    pub(crate) fn socket_accepted(&self) {
        self.sockets_accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn socket_gone(&self) {
        self.sockets_gone.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an accepted CONNECT, with which there are so many connections.
    pub(crate) fn connected(&self, connections: usize) {
        self.connects_accepted.fetch_add(1, Ordering::Relaxed);
        self.connections_most.fetch_max(connections, Ordering::Relaxed);
    }

    pub(crate) fn disconnected(&self, by: EndedBy) {
        self.ended[by as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn session_expired(&self) {
        self.sessions_expired.fetch_add(1, Ordering::Relaxed);
    }

    /// The sums of this moment. There were `sessions_most` Sessions at a time.
    pub(crate) fn read(&self, sessions_most: usize) -> Traffic {
        let mut traffic = Traffic::default();
        for Shard { received, sent } in &self.shards {
            received.add_to(
                &mut traffic.received,
                &mut traffic.payload_bytes_received,
                &mut traffic.bytes_received,
            );
            sent.add_to(
                &mut traffic.sent,
                &mut traffic.payload_bytes_sent,
                &mut traffic.bytes_sent,
            );
        }
        let ended = |by: EndedBy| self.ended[by as usize].load(Ordering::Relaxed);
        // Those that are gone first: none of them is missing among those that were accepted.
        let gone = self.sockets_gone.load(Ordering::Acquire);
        let accepted = self.sockets_accepted.load(Ordering::Acquire);
        Traffic {
            sockets_accepted: accepted,
            sockets: accepted.saturating_sub(gone),
            connects_accepted: self.connects_accepted.load(Ordering::Relaxed),
            disconnects_by_client: ended(EndedBy::Client),
            disconnects_lost: ended(EndedBy::Loss),
            disconnects_by_server: ended(EndedBy::Server),
            disconnects_taken_over: ended(EndedBy::Takeover),
            connections_most: self.connections_most.load(Ordering::Relaxed),
            sessions_most,
            sessions_expired: self.sessions_expired.load(Ordering::Relaxed),
            ..traffic
        }
    }

    fn shard(&self) -> &Shard {
        &self.shards[own_number() % SHARDS]
    }
}

impl Direction {
    fn add(&self, moved: &Moved) {
        for (packet, packets) in moved.packets.present() {
            self.packets[packet as usize].fetch_add(packets, Ordering::Relaxed);
        }
        for (sum, more) in [(&self.payload_bytes, moved.payload_bytes), (&self.bytes, moved.bytes)]
        {
            if more > 0 {
                sum.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    fn add_to(&self, packets: &mut PacketCounts, payload_bytes: &mut u64, bytes: &mut u64) {
        for &packet in PacketType::ALL {
            let count = self.packets[packet as usize].load(Ordering::Relaxed);
            packets.add((packet as u8) << 4, count);
        }
        *payload_bytes += self.payload_bytes.load(Ordering::Relaxed);
        *bytes += self.bytes.load(Ordering::Relaxed);
    }
}

/// The number of the calling thread, by which it has a shard of each broker. It says nothing about brokers.
fn own_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|number| *number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_together_lose_nothing_and_count_nothing_twice() {
        let counts = TrafficCounts::default();
        let turn = || {
            let mut moved = Moved { payload_bytes: 7, bytes: 11, ..Moved::default() };
            moved.packets.add(0x32, 3);
            moved.packets.add(0xC0, 1);
            for _ in 0..1_000 {
                counts.received(&moved);
                counts.sent(&moved);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(turn);
            }
        });
        let traffic = counts.read(9);
        assert_eq!(traffic.packets_received(PacketType::Publish), 60_000);
        assert_eq!(traffic.packets_sent(PacketType::PingReq), 20_000);
        assert_eq!(
            (traffic.packets_received_total(), traffic.packets_sent_total()),
            (80_000, 80_000)
        );
        assert_eq!((traffic.payload_bytes_received, traffic.bytes_sent), (140_000, 220_000));
    }

    #[test]
    fn a_thread_has_one_shard_and_no_two_shards_share_a_cache_line() {
        let own = own_number();
        assert_eq!(own_number(), own);
        let other = std::thread::spawn(own_number).join().unwrap();
        assert_ne!(own, other);
        assert!(size_of::<Shard>() >= 128 && align_of::<Shard>() == 128);
    }

    #[test]
    fn those_who_are_there_are_those_who_came_and_have_not_gone() {
        let counts = TrafficCounts::default();
        (0..3).for_each(|_| counts.socket_accepted());
        counts.socket_gone();
        counts.connected(2);
        counts.connected(1);
        counts.disconnected(EndedBy::Loss);
        let traffic = counts.read(9);
        assert_eq!((traffic.sockets_accepted, traffic.sockets), (3, 2));
        assert_eq!((traffic.connects_accepted, traffic.connections_most), (2, 2));
        assert_eq!((traffic.disconnects_lost, traffic.disconnects_by_client), (1, 0));
    }
}
