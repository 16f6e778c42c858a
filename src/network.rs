//! Networks: blocks of IP addresses, as rules for listeners, proxies and bans name them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A block of IP addresses that share their first bits (CIDR, RFC 4632): `10.0.0.0/8`, `2001:db8::/32`, or one
/// address.
///
/// IPv4 addresses that an IPv6 socket shows in their mapped form (`::ffff:10.0.0.1`) are IPv4 addresses, in networks
/// and in what is compared with them. So `::/0` is all of IPv6 and nothing of IPv4.
///
/// ```
/// use hrotti::Network;
///
/// let network: Network = "10.1.0.0/16".parse()?;
/// assert!(network.contains("10.1.2.3".parse()?));
/// assert!(network.contains("::ffff:10.1.2.3".parse()?));
/// assert!(!network.contains("10.2.0.1".parse()?));
/// assert_eq!("::1".parse::<Network>()?.to_string(), "::1");
///
/// let error = "10.1.2.3/16".parse::<Network>().unwrap_err();
/// assert!(error.to_string().ends_with("write \"10.1.0.0/16\""), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// Not in the mapped form, and without bits behind the prefix.
    address: IpAddr,
    bits: u8,
}

/// The leading bits of an IPv4 address in its mapped form.
const MAPPED_BITS: u8 = 96;

impl Network {
    /// The network of the first `bits` bits of an address. Further bits of the address are dropped, and more bits than
    /// the address has are all of them. An address in the mapped form is taken as an IPv4 address and counts its 96
    /// leading bits, unless `bits` is below 96.
    ///
    /// ```
    /// use hrotti::Network;
    ///
    /// assert_eq!(Network::new("10.1.2.3".parse()?, 8).to_string(), "10.0.0.0/8");
    /// assert_eq!(Network::new("::ffff:10.1.2.3".parse()?, 104).to_string(), "10.0.0.0/8");
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn new(address: IpAddr, bits: u8) -> Network {
        let (address, bits) = match address {
            IpAddr::V6(mapped) if bits >= MAPPED_BITS => match mapped.to_ipv4_mapped() {
                Some(address) => (IpAddr::V4(address), bits - MAPPED_BITS),
                None => (address, bits),
            },
            _ => (address, bits),
        };
        let bits = bits.min(width(address));
        Network { address: masked(address, bits), bits }
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of first bits that all addresses share: 0 to 32 for IPv4, 0 to 128 for IPv6.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether an address belongs to the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }

    /// Whether an address belongs to one of these networks.
    pub(crate) fn any_contains(networks: &[Network], address: IpAddr) -> bool {
        networks.iter().any(|network| network.contains(address))
    }
}

/// The network of one address.
impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        Network::new(address, u8::MAX)
    }
}

/// Reads `ADDRESS/BITS` or one address.
impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let error = |kind| NetworkError { text: text.to_owned(), kind };
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits)),
        };
        let parsed: IpAddr = address.parse().map_err(|_| error(Kind::Address))?;
        let max = width(parsed);
        let bits = match bits {
            None => max,
            // `u8` also reads "+8".
            Some(bits) if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(error(Kind::Bits { max }));
            }
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= max)
                .ok_or_else(|| error(Kind::Bits { max }))?,
        };
        if masked(parsed, bits) != parsed {
            return Err(error(Kind::Behind { network: Network::new(parsed, bits) }));
        }
        Ok(Network::new(parsed, bits))
    }
}

/// The form that is read back: one address has no number of bits.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if self.bits < width(self.address) { write!(f, "/{}", self.bits) } else { Ok(()) }
    }
}

/// The bits of an address.
fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with zeros behind the first `bits` bits.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let behind = u32::from(width(address).saturating_sub(bits));
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// Why a text is no [`Network`]. The error names the text and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkError {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Address,
    Bits { max: u8 },
    Behind { network: Network },
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match &self.kind {
            Kind::Address => write!(
                f,
                "{text:?} is no network; write an address, or an address and the number of its first bits, for \
                 example \"10.0.0.0/8\" or \"2001:db8::/32\""
            ),
            Kind::Bits { max } => {
                write!(f, "{text:?} needs a number from 0 to {max} behind the slash")
            }
            Kind::Behind { network } => {
                let network = network.to_string();
                write!(
                    f,
                    "{text:?} has an address with bits behind the first ones that count; write {network:?}"
                )
            }
        }
    }
}

impl std::error::Error for NetworkError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    fn contains(text: &str, address: &str) -> bool {
        network(text).contains(address.parse().expect("an address"))
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_first_bits() {
        assert!(contains("10.0.0.0/8", "10.255.255.255"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("192.168.1.128/25", "192.168.1.128"));
        assert!(!contains("192.168.1.128/25", "192.168.1.127"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::"));
        assert!(contains("127.0.0.1", "127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
    }

    #[test]
    fn everything_of_one_family_is_nothing_of_the_other() {
        assert!(contains("0.0.0.0/0", "255.1.2.3") && contains("::/0", "ff02::1"));
        assert!(!contains("0.0.0.0/0", "::1") && !contains("::/0", "127.0.0.1"));
    }

    #[test]
    fn an_address_in_the_mapped_form_is_an_ipv4_address() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(!contains("::/0", "::ffff:10.1.2.3"));
        assert_eq!(network("::ffff:10.0.0.0/104"), network("10.0.0.0/8"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert!(!contains("::/90", "10.0.0.1"));
    }

    #[test]
    fn errors_name_the_text_and_the_remedy() {
        for (text, remedy) in [
            ("", "for example"),
            ("localhost", "for example"),
            ("10.0.0", "for example"),
            ("10.0.0.0/", "from 0 to 32"),
            ("10.0.0.0/33", "from 0 to 32"),
            ("10.0.0.0/+8", "from 0 to 32"),
            ("10.0.0.0/255.0.0.0", "from 0 to 32"),
            ("::/129", "from 0 to 128"),
            ("::/999", "from 0 to 128"),
            ("10.0.0.1/8", "write \"10.0.0.0/8\""),
            ("2001:db8::1/32", "write \"2001:db8::/32\""),
            ("fe80::1%eth0", "for example"),
            ("10.0.0.0/8\n", "from 0 to 32"),
        ] {
            let error = text.parse::<Network>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("{text:?}")), "{error}");
            assert!(error.contains(remedy) && !error.contains('\n'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_network_reads_back(bytes: [u8; 16], v4: bool, bits in 0..=128_u8) {
            let address = if v4 {
                IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
            } else {
                IpAddr::from(bytes)
            };
            let made = Network::new(address, bits);
            prop_assert_eq!(made.to_string().parse::<Network>(), Ok(made));
            prop_assert!(made.contains(made.address()));
            prop_assert!(address.to_canonical().is_ipv4() != made.address().is_ipv4()
                || made.contains(address));
        }

        /// Bit by bit, by a naive model.
        #[test]
        fn exactly_the_first_bits_decide(one: [u8; 4], flip in 0..32_u32, bits in 0..=32_u8) {
            let network = Network::new(IpAddr::from(one), bits);
            let other = u32::from_be_bytes(one) ^ (1 << (31 - flip));
            let within = network.contains(IpAddr::from(other.to_be_bytes()));
            prop_assert_eq!(within, flip >= u32::from(bits));
        }

        #[test]
        fn any_text_is_judged(text in "\\PC{0,40}") {
            let _ = text.parse::<Network>();
        }
    }
}
