//! The types of packets (section 2.1.2), and how many of each type there were.

use std::fmt;

macro_rules! packet_types {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal,)*) => {
        /// The type of a packet (section 2.1.2). `Display` writes the name that the standard uses: `PUBLISH`.
        ///
        /// ```
        /// use hrotti::PacketType;
        ///
        /// assert_eq!(PacketType::ALL.len(), 15);
        /// assert_eq!(PacketType::Publish.to_string(), "PUBLISH");
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum PacketType { $($(#[$doc])* $variant = $number,)* }

        impl PacketType {
            /// Every type, in the order of the numbers.
            pub const ALL: &'static [PacketType] = &[$(PacketType::$variant,)*];
        }

        impl fmt::Display for PacketType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(PacketType::$variant => $name,)* })
            }
        }
    };
}

packet_types! {
    /// A Client asks for a connection.
    Connect = 1 "CONNECT",
    /// The Server's answer to CONNECT.
    ConnAck = 2 "CONNACK",
    /// An Application Message.
    Publish = 3 "PUBLISH",
    /// The answer to a PUBLISH of QoS 1.
    PubAck = 4 "PUBACK",
    /// The answer to a PUBLISH of QoS 2.
    PubRec = 5 "PUBREC",
    /// The answer to PUBREC.
    PubRel = 6 "PUBREL",
    /// The answer to PUBREL.
    PubComp = 7 "PUBCOMP",
    /// A Client asks for subscriptions.
    Subscribe = 8 "SUBSCRIBE",
    /// The answer to SUBSCRIBE.
    SubAck = 9 "SUBACK",
    /// A Client gives up subscriptions.
    Unsubscribe = 10 "UNSUBSCRIBE",
    /// The answer to UNSUBSCRIBE.
    UnsubAck = 11 "UNSUBACK",
    /// A Client shows that it is there.
    PingReq = 12 "PINGREQ",
    /// The answer to PINGREQ.
    PingResp = 13 "PINGRESP",
    /// The announced end of a connection; in 3.1 and 3.1.1 from Clients only.
    Disconnect = 14 "DISCONNECT",
    /// A step of an enhanced authentication; MQTT 5 only.
    Auth = 15 "AUTH",
}

/// Numbers of packets by their type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PacketCounts([u64; 16]);

impl PacketCounts {
    /// Adds packets of the type in the high half of `header`, the first byte of the fixed header.
    #[inline]
    pub(crate) fn add(&mut self, header: u8, packets: u64) {
        self.0[usize::from(header >> 4)] += packets;
    }

    pub(crate) fn of(&self, packet: PacketType) -> u64 {
        self.0[packet as usize]
    }

    /// Packets of all types.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The types of which there are packets, and how many there are.
    pub(crate) fn present(&self) -> impl Iterator<Item = (PacketType, u64)> {
        let each = PacketType::ALL.iter().map(|&packet| (packet, self.of(packet)));
        each.filter(|(_, packets)| *packets > 0)
    }
}

/// The whole packets at the beginning of bytes that this Server wrote: the first byte and the length of each.
pub(crate) fn packets_in(bytes: &[u8]) -> impl Iterator<Item = (u8, usize)> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&header, behind) = rest.split_first()?;
        let (mut remaining, mut len) = (0, 1);
        for (&byte, shift) in behind.iter().zip([0, 7, 14, 21]) {
            remaining |= usize::from(byte & 0x7F) << shift;
            len += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let len = len + remaining;
        rest = rest.get(len..)?;
        Some((header, len))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_standard() {
        for (index, packet) in PacketType::ALL.iter().enumerate() {
            assert_eq!(*packet as usize, index + 1, "{packet}");
        }
    }

    #[test]
    fn packets_are_counted_by_their_type() {
        let mut counts = PacketCounts::default();
        counts.add(0x3D, 2);
        counts.add(0x30, 1);
        counts.add(0xF0, 4);
        assert_eq!((counts.of(PacketType::Publish), counts.total()), (3, 7));
        let present: Vec<_> = counts.present().collect();
        assert_eq!(present, [(PacketType::Publish, 3), (PacketType::Auth, 4)]);
    }

    #[test]
    fn packets_of_any_length_are_told_apart() {
        let mut bytes = vec![0x40, 2, 0, 1, 0xD0, 0];
        let long = 300;
        bytes.extend([0x90, 0x80 | (long & 0x7F) as u8, (long >> 7) as u8]);
        bytes.extend(vec![0xFF; long]);
        bytes.extend([0xE0, 0]);
        let found: Vec<_> = packets_in(&bytes).collect();
        assert_eq!(found, [(0x40, 4), (0xD0, 2), (0x90, 303), (0xE0, 2)]);
        assert_eq!(packets_in(&bytes[..bytes.len() - 1]).count(), 3, "the last one is not whole");
        assert_eq!(packets_in(&[]).count() + packets_in(&[0x40]).count(), 0);
    }
}
