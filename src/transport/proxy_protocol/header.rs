//! The header of the PROXY protocol, versions 1 and 2, out of bytes. Pure and total.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What every header of version 1 begins with.
const PREFIX: &[u8; 6] = b"PROXY ";

/// The longest header of version 1, its line end included.
const LINE_MAX: usize = 107;

/// The shortest header of either version: `PROXY UNKNOWN` and its line end.
const SHORTEST: usize = 15;

/// The fixed part of version 2: signature, version and command, family and protocol, and the length of the rest.
const FIXED: usize = 16;

/// A TLV with what the proxy knows of a TLS connection that it ended, and in it the Common Name of the certificate.
const TLV_SSL: u8 = 0x20;
const TLV_SSL_COMMON_NAME: u8 = 0x22;

/// In that TLV: the Client has shown a certificate, on this connection or earlier in its TLS session.
const CERTIFICATE_SHOWN: u8 = 0x02 | 0x04;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of a header, which has at least so many more bytes.
    Partial(usize),
    /// A whole header.
    Whole(Header),
    /// No header that is served, and why.
    Invalid(&'static str),
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The bytes of the header.
    pub(crate) len: usize,
    pub(crate) source: Source,
    /// The Common Name of the certificate that the proxy has verified.
    pub(crate) common_name: Option<String>,
}

/// The origin of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The proxy itself, or a peer that it knows no address of: that of the connection is the only one.
    Connection,
    /// The peer's address.
    Address(SocketAddr),
    /// A Unix socket; its path, if it has one.
    Unix(String),
}

/// Reads a header from the first bytes of a connection. A header of version 2 has `bytes_max` bytes at most.
pub(crate) fn parse(bytes: &[u8], bytes_max: usize) -> Parsed {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    if begins(PREFIX) {
        parse_line(bytes)
    } else if begins(SIGNATURE) {
        parse_binary(bytes, bytes_max)
    } else {
        Parsed::Invalid("the connection does not begin with a header of the PROXY protocol")
    }
}

// ---- Version 1 -----------------------------------------------------------------------------------

fn parse_line(bytes: &[u8]) -> Parsed {
    let within = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_MAX {
            Parsed::Partial(left_of_line(bytes).min(LINE_MAX - bytes.len()))
        } else {
            Parsed::Invalid("a header of version 1 has more than 107 bytes")
        };
    };
    let line = within.get(PREFIX.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    match line.map(source_of_line) {
        Some(Ok(source)) => Parsed::Whole(Header { len: end + 1, source, common_name: None }),
        Some(Err(error)) => Parsed::Invalid(error),
        None => Parsed::Invalid("a header of version 1 does not end with CR LF"),
    }
}

/// How many more bytes a line has at least: a space and a byte for each field, and its end.
fn left_of_line(bytes: &[u8]) -> usize {
    const SPACES: usize = 5;
    if bytes.len() < SHORTEST {
        return SHORTEST - bytes.len();
    }
    if bytes.ends_with(b"\r") {
        return 1;
    }
    let known = bytes.starts_with(b"PROXY TCP");
    let spaces = bytes.iter().filter(|byte| **byte == b' ').count();
    2 + if known { SPACES.saturating_sub(spaces) * 2 } else { 0 }
}

/// The line without its prefix and its end.
fn source_of_line(line: &[u8]) -> Result<Source, &'static str> {
    const MALFORMED: &str = "a header of version 1 is malformed";
    let (family, rest) = match line.iter().position(|byte| *byte == b' ') {
        Some(space) => (&line[..space], Some(&line[space + 1..])),
        None => (line, None),
    };
    let v4 = match (family, rest) {
        // Whatever follows is to be ignored.
        (b"UNKNOWN", _) => return Ok(Source::Connection),
        (b"TCP4", Some(_)) => true,
        (b"TCP6", Some(_)) => false,
        _ => return Err(MALFORMED),
    };
    let rest = str::from_utf8(rest.unwrap_or_default()).map_err(|_| MALFORMED)?;
    let mut fields = rest.split(' ');
    let mut field = || fields.next().ok_or(MALFORMED);
    let (source, destination) = (address(field()?, v4), address(field()?, v4));
    let ports = (port(field()?), port(field()?));
    if fields.next().is_some() {
        return Err(MALFORMED);
    }
    match (source, destination, ports) {
        (Some(source), Some(_), (Some(port), Some(_))) => {
            Ok(Source::Address(SocketAddr::new(source, port)))
        }
        _ => Err(MALFORMED),
    }
}

fn address(text: &str, v4: bool) -> Option<IpAddr> {
    if v4 {
        text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    } else {
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    }
}

/// Decimal, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| plain)
}

// ---- Version 2 -----------------------------------------------------------------------------------

fn parse_binary(bytes: &[u8], bytes_max: usize) -> Parsed {
    let &[command, family, high, low] = match bytes.get(SIGNATURE.len()..FIXED) {
        Some(fixed) => fixed.first_chunk::<4>().unwrap_or(&[0; 4]),
        // Not more than the shortest header of version 1, in case the first bytes are not there yet.
        None => {
            return Parsed::Partial(
                if bytes.len() < SHORTEST { SHORTEST } else { FIXED } - bytes.len(),
            );
        }
    };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) {
        return Parsed::Invalid("a header of version 2 has an unknown version or command");
    }
    if len > bytes_max {
        return Parsed::Invalid("proxy_header_bytes_max: a header of version 2 is too long");
    }
    let Some(rest) = bytes.get(FIXED..len) else { return Parsed::Partial(len - bytes.len()) };
    // LOCAL: the proxy itself speaks, and the rest is to be ignored.
    let local = command == 0x20;
    let parts = if local { Ok((Source::Connection, &[][..])) } else { source_of(family, rest) };
    let named = parts.and_then(|(source, tlvs)| Ok((source, common_name(tlvs)?)));
    match named {
        Ok((source, common_name)) => Parsed::Whole(Header { len, source, common_name }),
        Err(error) => Parsed::Invalid(error),
    }
}

/// The source address in the addresses of a family, and the TLVs behind them.
fn source_of(family: u8, rest: &[u8]) -> Result<(Source, &[u8]), &'static str> {
    const SHORT: &str = "a header of version 2 is too short for its addresses";
    match family {
        0x00 => Ok((Source::Connection, &[])),
        0x11 => {
            let (addresses, tlvs) = rest.split_first_chunk::<12>().ok_or(SHORT)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            Ok((Source::Address(SocketAddr::new([a, b, c, d].into(), port)), tlvs))
        }
        0x21 => {
            let (addresses, tlvs) = rest.split_first_chunk::<36>().ok_or(SHORT)?;
            let source = addresses.first_chunk::<16>().copied().unwrap_or_default();
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            Ok((Source::Address(SocketAddr::new(source.into(), port)), tlvs))
        }
        0x31 => {
            let (addresses, tlvs) = rest.split_first_chunk::<216>().ok_or(SHORT)?;
            let path = addresses[..108].split(|byte| *byte == 0).next().unwrap_or_default();
            Ok((Source::Unix(String::from_utf8_lossy(path).into_owned()), tlvs))
        }
        _ => Err("a header of version 2 is of no stream of TCP or of a Unix socket"),
    }
}

/// Walks over TLVs: a type, a length of two bytes, and a value.
fn tlvs(mut bytes: &[u8], mut found: impl FnMut(u8, &[u8])) -> Result<(), &'static str> {
    const MALFORMED: &str = "a header of version 2 has a malformed TLV";
    while !bytes.is_empty() {
        let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>().ok_or(MALFORMED)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(len).ok_or(MALFORMED)?;
        found(kind, value);
        bytes = rest;
    }
    Ok(())
}

/// The Common Name of a certificate, if the proxy says that it has verified it.
fn common_name(bytes: &[u8]) -> Result<Option<String>, &'static str> {
    let mut inner = None;
    tlvs(bytes, |kind, value| {
        if kind == TLV_SSL
            && let Some((&[shown, verified @ ..], names)) = value.split_first_chunk::<5>()
            && shown & CERTIFICATE_SHOWN != 0
            && verified == [0; 4]
        {
            inner = Some(names.to_vec());
        }
    })?;
    let mut name = None;
    tlvs(inner.as_deref().unwrap_or_default(), |kind, value| {
        if kind == TLV_SSL_COMMON_NAME {
            name = str::from_utf8(value).ok().map(str::to_owned);
        }
    })?;
    Ok(name)
}
