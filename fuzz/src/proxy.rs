//! What proxies say of their peers: the header of the PROXY protocol, and the headers of HTTP.

use super::header::{Parsed, parse};
use crate::network::Network;
use crate::transport::ws::forwarded::origin;

const BYTES_MAX: usize = 1_024;

pub(crate) fn header(data: &[u8]) {
    let whole = parse(data, BYTES_MAX);
    let mut taken = 0;
    let piecewise = loop {
        match parse(&data[..taken], BYTES_MAX) {
            Parsed::Partial(missing) if missing <= data.len() - taken => {
                assert!(missing > 0, "it never ends");
                taken += missing;
            }
            parsed => break parsed,
        }
        assert!(taken <= BYTES_MAX, "more than a header may have");
    };
    match (&whole, &piecewise) {
        (Parsed::Whole(header), Parsed::Whole(_)) => {
            assert_eq!(whole, piecewise);
            assert_eq!(header.len, taken, "no byte behind the header is taken");
        }
        (Parsed::Whole(_), _) | (_, Parsed::Whole(_)) => assert_eq!(whole, piecewise),
        // What is wrong with the bytes that are there may be found later, piece by piece.
        _ => {}
    }
}

fn networks() -> [Network; 1] {
    [Network::new([10, 0, 0, 0].into(), 8)]
}

pub(crate) fn forwarded(data: &[u8]) {
    let lines = || data.split(|byte| *byte == b'\n');
    let standard = || lines().filter_map(|line| line.strip_prefix(b":"));
    let usual = || lines().filter(|line| !line.starts_with(b":"));
    let trusted = networks();
    let found = origin(standard(), usual(), &trusted);
    // One more proxy on the way.
    let (one, other) = (&b"for=10.1.1.1"[..], &b"10.1.1.1"[..]);
    let again = origin(standard().chain([one]), usual().chain([other]), &trusted);
    if let Ok(address) = found
        && standard().next().is_some_and(|line| !line.is_empty())
        && !Network::any_contains(&trusted, address.ip())
    {
        assert!(again.is_err() || again == Ok(address), "{again:?}");
    }
    // What a Client sends stands before what the proxy appends.
    let appended = origin(std::iter::empty(), usual().chain([&b"192.0.2.1"[..]]), &trusted);
    assert_eq!(appended.map(|address| address.ip()), Ok([192, 0, 2, 1].into()));
    let appended = origin(standard().chain([&b"for=192.0.2.1"[..]]), std::iter::empty(), &trusted);
    assert!(appended.is_err() || appended.map(|at| at.ip()) == Ok([192, 0, 2, 1].into()));
}
