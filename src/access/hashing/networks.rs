//! What addresses have in common.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The networks of an address, from wide to narrow: 16, 24 and 32 bits of IPv4; 32, 48 and 64 bits of IPv6. A provider has
/// the first, a customer with IPv6 the second, and a peer with one IPv6 address usually has all 2⁶⁴ of the third.
pub(super) fn path(address: IpAddr) -> [IpAddr; 3] {
    let bits = match address.to_canonical() {
        IpAddr::V4(_) => [16, 24, 32],
        IpAddr::V6(_) => [32, 48, 64],
    };
    bits.map(|bits| first_bits(address, bits))
}

/// What one owner has: an IPv4 address, or 48 bits of an IPv6 address.
pub(super) fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(_) => first_bits(address, 48),
    }
}

fn first_bits(address: IpAddr, bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}
