//! The address of a Client behind a reverse proxy, out of `Forwarded` (RFC 7239) and `X-Forwarded-For`. Pure and total.
//!
//! Each proxy appends the address that it saw, so only the end of a list is written by proxies that are trusted: the
//! right-most address that is not that of a trusted proxy is the Client's. What stands left of it was sent by the Client
//! and is not looked at. A proxy that writes one of the two headers passes the other one through, so a request with both
//! is refused unless they agree.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::network::Network;

/// Why no address was found.
pub(crate) type Unclear = &'static str;

/// The address of the Client, by the lines of both headers, each in the order of the request.
///
/// # Errors
/// There is no such header, its end is malformed or names no address, or the headers name different addresses.
pub(crate) fn origin<'a>(
    forwarded: impl Iterator<Item = &'a [u8]>,
    x_forwarded_for: impl Iterator<Item = &'a [u8]>,
    trusted: &[Network],
) -> Result<SocketAddr, Unclear> {
    let standard = of_forwarded(forwarded, trusted)?;
    let usual = of_x_forwarded_for(x_forwarded_for, trusted)?;
    match (standard, usual) {
        (Some(one), Some(other)) if one.ip().to_canonical() != other.ip().to_canonical() => {
            Err("Forwarded and X-Forwarded-For name different addresses.\n")
        }
        (Some(address), _) | (None, Some(address)) => Ok(address),
        (None, None) => Err("The proxy names no address of the Client.\n"),
    }
}

/// The right-most address that is not trusted, or else the left-most; `None` of an empty list.
fn rightmost<'a>(
    nodes: &[Option<&'a [u8]>],
    trusted: &[Network],
    read: impl Fn(&'a [u8]) -> Option<SocketAddr>,
) -> Result<Option<SocketAddr>, Unclear> {
    let mut last = None;
    for node in nodes.iter().rev() {
        let address = node.and_then(&read).ok_or("The proxy names the Client by no address.\n")?;
        last = Some(address);
        if !Network::any_contains(trusted, address.ip()) {
            break;
        }
    }
    Ok(last)
}

fn of_x_forwarded_for<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    trusted: &[Network],
) -> Result<Option<SocketAddr>, Unclear> {
    let nodes: Vec<_> = lines
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(trimmed)
        .filter(|node| !node.is_empty())
        .map(Some)
        .collect();
    rightmost(&nodes, trusted, node)
}

fn of_forwarded<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    trusted: &[Network],
) -> Result<Option<SocketAddr>, Unclear> {
    let mut nodes = Vec::new();
    for line in lines {
        elements(line, &mut nodes).ok_or("Forwarded is malformed.\n")?;
    }
    rightmost(&nodes, trusted, node)
}

/// Appends the value of `for` of each element of a line of `Forwarded`. The whole line has to be well-formed: a quote
/// that a Client left open would otherwise swallow what the proxy appended.
fn elements<'a>(line: &'a [u8], nodes: &mut Vec<Option<&'a [u8]>>) -> Option<()> {
    let mut rest = line;
    loop {
        let (mut node, mut pairs) = (None, 0);
        loop {
            rest = rest.trim_ascii_start();
            let name = rest.iter().take_while(|byte| is_token(**byte)).count();
            if name > 0 {
                let (name, behind) = rest.split_at(name);
                let value = behind.strip_prefix(b"=")?;
                let (value, behind) = value_of(value)?;
                if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
                    return None;
                }
                pairs += 1;
                rest = behind.trim_ascii_start();
            }
            match rest.strip_prefix(b";") {
                Some(more) => rest = more,
                None => break,
            }
        }
        if pairs > 0 {
            nodes.push(node);
        }
        match rest.split_first() {
            None => return Some(()),
            Some((b',', more)) => rest = more,
            Some(_) => return None,
        }
    }
}

/// A token or a quoted text, without its quotes, and what follows it. A text with `\` in it names no address, and is
/// kept as it stands.
fn value_of(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(quoted) = bytes.strip_prefix(b"\"") else {
        // Addresses of IPv6 and ports have to be quoted; many proxies do not.
        let len = bytes.iter().take_while(|byte| is_token(**byte) || b":[]".contains(byte)).count();
        return (len > 0).then(|| bytes.split_at(len));
    };
    let mut escaped = false;
    for (at, byte) in quoted.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&quoted[..at], &quoted[at + 1..])),
            _ => {}
        }
    }
    None
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:50000`, `2001:db8::1`, `[2001:db8::1]:50000`. Port 0 is
/// none.
fn node(bytes: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(bytes).ok()?;
    let bare = text.parse::<IpAddr>().ok();
    let bracketed = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    bare.or_else(bracketed)
        .map(|address| SocketAddr::new(address, 0))
        .or_else(|| text.parse::<SocketAddr>().ok().filter(|_| !text.contains('%')))
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// Whether a token may have this byte (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// The proxies are 10.0.0.0/8.
    fn from(forwarded: &[&str], x_forwarded_for: &[&str]) -> Result<String, Unclear> {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let lines = |lines: &[&str]| -> Vec<Vec<u8>> {
            lines.iter().map(|line| line.as_bytes().to_vec()).collect()
        };
        let (one, other) = (lines(forwarded), lines(x_forwarded_for));
        origin(one.iter().map(Vec::as_slice), other.iter().map(Vec::as_slice), &trusted)
            .map(|address| address.to_string())
    }

    #[test]
    fn the_right_most_address_that_is_not_a_proxys_is_the_clients() {
        for (lines, expected) in [
            (&["192.0.2.1"][..], "192.0.2.1:0"),
            (&["192.0.2.1, 10.1.1.1"], "192.0.2.1:0"),
            (&["198.51.100.9, 192.0.2.1 ,10.1.1.1,10.2.2.2"], "192.0.2.1:0"),
            (&["198.51.100.9", "192.0.2.1", "10.1.1.1"], "192.0.2.1:0"),
            (&["garbage \" ; 1.2.3, 192.0.2.1"], "192.0.2.1:0"),
            (&["unknown, 192.0.2.1:50000"], "192.0.2.1:50000"),
            (&["2001:db8::1"], "[2001:db8::1]:0"),
            (&["[2001:db8::1]"], "[2001:db8::1]:0"),
            (&["[2001:db8::1]:443, fd00::1"], "[2001:db8::1]:443"),
            (&["::ffff:10.1.1.1, 192.0.2.1, ::ffff:10.1.1.1"], "192.0.2.1:0"),
            (&["10.1.1.1, 10.2.2.2"], "10.1.1.1:0"),
            (&[", 192.0.2.1 ,,"], "192.0.2.1:0"),
        ] {
            assert_eq!(from(&[], lines).as_deref(), Ok(expected), "{lines:?}");
        }
    }

    #[test]
    fn an_end_that_is_no_address_is_refused() {
        for lines in [
            &[][..],
            &[""],
            &[" , "],
            &["192.0.2.1, unknown"],
            &["192.0.2.1, _hidden"],
            &["192.0.2.1, 192.0.2"],
            &["192.0.2.1, 192.0.2.1:port"],
            &["192.0.2.1", "192.0.2.1:99999"],
            &["unknown, 10.1.1.1"],
            &["fe80::1%eth0"],
            &["[fe80::1%1]:80"],
            &["192.0.2.1 192.0.2.2"],
        ] {
            assert!(from(&[], lines).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_as_well() {
        for (lines, expected) in [
            (&["for=192.0.2.1"][..], "192.0.2.1:0"),
            (&["For=\"[2001:db8::1]:4711\";proto=https;by=10.1.1.1"], "[2001:db8::1]:4711"),
            (&["proto=http ; FOR=192.0.2.1:50"], "192.0.2.1:50"),
            (&["for=198.51.100.9, for=192.0.2.1;host=\"a,b;c\\\"\", for=10.1.1.1"], "192.0.2.1:0"),
            (&["for=unknown", "for=192.0.2.1,for=10.1.1.1"], "192.0.2.1:0"),
            (&["by=10.1.1.1, for=192.0.2.1"], "192.0.2.1:0"),
        ] {
            assert_eq!(from(lines, &[]).as_deref(), Ok(expected), "{lines:?}");
        }
    }

    #[test]
    fn a_quote_that_the_client_left_open_does_not_swallow_the_proxys_words() {
        for line in [
            "for=\"192.0.2.66, for=192.0.2.1",
            "for=192.0.2.66;x=\", for=\"[2001:db8::1]\"",
            "for=192.0.2.66;x=\"\\, for=192.0.2.1",
            "for=192.0.2.66;for=192.0.2.67",
            "for=192.0.2.1;proto",
            "for=192.0.2.1 for=192.0.2.2",
            "for=",
            "for =192.0.2.1",
            "proto=http",
            "for=unknown",
            "for=_hidden",
            "for=\"192.0.2.\\1\"",
        ] {
            assert!(from(&[line], &[]).is_err(), "{line}");
        }
    }

    #[test]
    fn headers_that_disagree_are_refused_because_a_client_may_have_sent_one() {
        assert!(from(&["for=192.0.2.66"], &["192.0.2.1"]).is_err());
        assert!(from(&["for=\""], &["192.0.2.1"]).is_err());
        assert!(from(&["for=192.0.2.1"], &["192.0.2.1"]).is_ok());
    }

    proptest! {
        #[test]
        fn any_headers_are_judged(one: Vec<Vec<u8>>, other: Vec<Vec<u8>>) {
            let _ = origin(one.iter().map(Vec::as_slice), other.iter().map(Vec::as_slice), &[]);
        }

        /// Whatever a Client sends in front, in the same header.
        #[test]
        fn a_client_chooses_no_address(sent in "[0-9a-f.:,;=\" for\\[\\]]{0,40}") {
            let found = from(&[], &[&sent, "192.0.2.1, 10.1.1.1"]);
            prop_assert_eq!(found.as_deref(), Ok("192.0.2.1:0"));
            let found = from(&[&format!("{sent}, for=192.0.2.1, for=10.1.1.1")], &[]);
            prop_assert!(found.is_err() || found.as_deref() == Ok("192.0.2.1:0"), "{:?}", found);
        }
    }
}
